"""What a run would do, told before it does it. Nothing is asked of the source, nothing is written."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from luigi_tasks import settings
from luigi_tasks.budget import Forecast, Kind
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.database.standing import Standing
from luigi_tasks.market.source import MOST_QUOTES
from luigi_tasks.market.universe import validate
from luigi_tasks.tasks import download_quotes
from luigi_tasks.tasks.base import TickerTask, budget, database_url
from luigi_tasks.tasks.download_metadata import DownloadMetadata
from luigi_tasks.tasks.download_ohlcv import DownloadOhlcv
from luigi_tasks.tasks.due import already, pipelines, resting_tickers, told_by_marker, unfinished
from luigi_tasks.tasks.get_tickers import GetTickers
from luigi_tasks.tasks.insert_metadata import InsertMetadata
from luigi_tasks.tasks.insert_ohlcv import InsertOhlcv
from luigi_tasks.tasks.run_all import RunAll, grouped
from luigi_tasks.words import duration

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
        counts = ", ".join(f"{count:,} {kind}" for kind, count in self.requests.items() if count or kind != "quotes")
        yield f"requests: {sum(self.requests.values()):,} ({counts})"
        yield f"time: {self._time()}"
        if self.forecast.paused:
            yield f"Yahoo wants to be left alone for another {duration(self.forecast.paused)}, which comes before that"

    def _time(self) -> str:
        if not any(self.requests.values()):
            return "none, nothing is asked for"
        closes, company = self.forecast.closes, self.forecast.company
        if closes is None and company is None:
            return "no rate is set in [Yahoo]"
        parts = []
        if self.requests.get("prices") and closes is not None:
            parts.append(f"all closes in {duration(closes)} at least")
        if self.requests.get("company") and company is not None:
            parts.append(f"all company data in {duration(company)} at least")
        return ", ".join(parts or ["a moment"]) + ", by the rates as they are now"


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

    def wanting(stored_by: type[TickerTask], download: type[TickerTask]) -> list[str]:
        """The tickers of which the source has to be asked."""
        return [
            pipeline.ticker
            for pipeline in waiting
            if pipeline.ticker not in there.get(stored_by, ())
            and pipeline.clone(stored_by).task_id not in markers
            and not pipeline.clone(download).complete()
        ]

    chosen = settings.load()
    if chosen.source != "yahoo":
        return Plan(str(run.date), states, len(verdict.rejected), {}, Forecast(None, None))
    company, quotes = wanting(InsertMetadata, DownloadMetadata), 0
    if download_quotes.wanted(run.date):
        groups = [group for _, group in grouped(names) if to_do.intersection(group)]
        quotes = sum(math.ceil(len(group) / MOST_QUOTES) for group in groups)
        fresh = Standing(database_url()).fresh_metadata(company, run.date, chosen.refresh_days)
        company = [ticker for ticker in company if ticker not in fresh]
    charts = len(wanting(InsertOhlcv, DownloadOhlcv))
    requests: dict[Kind, int] = {"prices": charts, "quotes": quotes, "company": len(company)}
    known = budget().access() is not None
    requests["access"] = (1 if known else 2) if any(requests.values()) else 0
    if chosen.plain:
        # yfinance's own ways ask for a time zone, too, and for three parts of company data; for a cookie and a crumb in
        # every process.
        requests |= {"prices": 2 * charts, "quotes": len(company), "company": 2 * len(company)}
        requests["access"] = 2 * (charts + len(company))
    return Plan(str(run.date), states, len(verdict.rejected), requests, budget().forecast(requests))
