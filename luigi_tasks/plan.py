"""What a run would do, told before it does it. Nothing is asked of the source, nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from luigi_tasks import settings
from luigi_tasks.budget import Forecast, Kind
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.market.universe import validate
from luigi_tasks.tasks.base import TickerTask, budget, database_url
from luigi_tasks.tasks.download_metadata import DownloadMetadata
from luigi_tasks.tasks.download_ohlcv import DownloadOhlcv
from luigi_tasks.tasks.due import already, pipelines, resting_tickers, told_by_marker, unfinished
from luigi_tasks.tasks.get_tickers import GetTickers
from luigi_tasks.tasks.insert_metadata import InsertMetadata
from luigi_tasks.tasks.insert_ohlcv import InsertOhlcv
from luigi_tasks.tasks.run_all import RunAll

STATES = {
    "new": "never stored",
    "due": "stored before, not as of this date",
    "failed": "failed when last tried; tried again",
    "fresh": "done as of this date; nothing to do",
    "retired": "Yahoo has them no more; not asked for today, unless by --tickers and --full",
}
_SHOWN = 5


@dataclass(frozen=True)
class Plan:
    """The tickers by state (see STATES), requests by kind, and how long these take."""

    as_of: str
    tickers: dict[str, list[str]]
    not_run: int
    requests: dict[Kind, int]
    forecast: Forecast

    def lines(self) -> Iterator[str]:
        """For the terminal."""
        every = sum(map(len, self.tickers.values()))
        yield f"{every} tickers as of {self.as_of}" + (f"; {self.not_run} more are listed wrongly" * bool(self.not_run))
        for state, words in STATES.items():
            named = self.tickers[state]
            shown = ", ".join(named[:_SHOWN]) + (", …" if len(named) > _SHOWN else "")
            yield f"  {state:<8}{len(named):>7,}  {words}" + (f": {shown}" if named else "")
        if settings.load().source != "yahoo":
            yield "requests: none, the source is files"
            return
        counts = ", ".join(f"{count:,} {kind}" for kind, count in self.requests.items())
        yield f"requests: {sum(self.requests.values()):,} ({counts})"
        yield f"time: {self._time()}"
        if self.forecast.paused:
            yield f"Yahoo wants to be left alone for another {_duration(self.forecast.paused)}, which comes before that"

    def _time(self) -> str:
        if not any(self.requests.values()):
            return "none, nothing is asked for"
        slowest, seconds = self.forecast.slowest, self.forecast.seconds
        if slowest is None:
            return "no rate is set in [Yahoo]"
        others = [f"{kind} {_duration(each)}" for kind, each in seconds.items() if kind not in (slowest, "access")]
        beside = f"; beside it {', '.join(others)}" if others else ""
        return f"{_duration(seconds[slowest])} at least, by the rate of {slowest} as it is now{beside}"


def plan(run: RunAll) -> Plan:
    """The plan for the run that would begin now. Raises ConfigurationError for a list that no run can use."""
    listed = run.clone(GetTickers)
    verdict = validate(listed.listed(), run.ticker_limit, listed.renamed())
    every = pipelines(run, verdict.accepted)
    names = list(verdict.accepted)
    resting, waiting = {} if run.asked else resting_tickers(names), unfinished(every)
    to_do = {pipeline.ticker for pipeline in waiting}
    ledger = Ledger(database_url())
    failed, stored = ledger.failed_last(to_do), ledger.with_bars(to_do)
    states: dict[str, list[str]] = {state: [] for state in STATES}
    for name in names:
        if name in resting:
            state = "retired"
        elif name not in to_do:
            state = "fresh"
        elif name in failed:
            state = "failed"
        else:
            state = "due" if name in stored else "new"
        states[state].append(name)
    markers = ledger.done(
        {
            pipeline.clone(step).task_id
            for pipeline in waiting
            for step in told_by_marker(waiting).intersection((InsertOhlcv, InsertMetadata))
        }
    )
    there = already(waiting)

    def wanted(stored_by: type[TickerTask], download: type[TickerTask]) -> int:
        return sum(
            pipeline.clone(stored_by).task_id not in markers and not pipeline.clone(download).complete()
            for pipeline in waiting
            if pipeline.ticker not in there.get(stored_by, ())
        )

    requests: dict[Kind, int] = {
        "prices": wanted(InsertOhlcv, DownloadOhlcv),
        "company": wanted(InsertMetadata, DownloadMetadata),
    }
    if settings.load().source != "yahoo":
        return Plan(str(run.date), states, len(verdict.rejected), {}, Forecast({}))
    known = budget().access() is not None
    requests["access"] = (1 if known else 2) if any(requests.values()) else 0
    return Plan(str(run.date), states, len(verdict.rejected), requests, budget().forecast(requests))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
