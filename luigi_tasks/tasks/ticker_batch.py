"""TickerBatch: some tickers of a run, which one process takes one after another.

A process a ticker, or for each step of one, costs more than the step; and Luigi's scheduler looks at every pending
task for every task that it hands out, so that its cost grows with the square of their number. Of bars and of company
data there are batches apart, since the provider bears other rates of the one than of the other.
"""

from __future__ import annotations

import datetime as dt
import html
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import luigi
from luigi.task import task_id_str

from luigi_tasks import settings
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.database.standing import Retired, Standing
from luigi_tasks.errors import PatienceExhausted, StepFailed
from luigi_tasks.targets import paths
from luigi_tasks.targets.files import JsonTarget
from luigi_tasks.tasks import invocation, preload, progress
from luigi_tasks.tasks.base import PipelineTask, TickerTask, budget, database_url, first_day
from luigi_tasks.tasks.in_process import InProcess, with_requirements
from luigi_tasks.tasks.insert_metadata import InsertMetadata
from luigi_tasks.tasks.insert_ohlcv import InsertOhlcv
from luigi_tasks.tasks.one_after_another import OneAfterAnother, Outcome
from luigi_tasks.tasks.parameters import Asked, Count, Full, today
from luigi_tasks.tasks.register_security import RegisterSecurity
from luigi_tasks.tasks.ticker_pipeline import TickerPipeline

if TYPE_CHECKING:
    from luigi_tasks.tasks.run_all import RunAll

logger = logging.getLogger(__name__)

STORED: tuple[type[TickerTask], ...] = (RegisterSecurity, InsertOhlcv, InsertMetadata)
"""A ticker is done when these are; what else there is, they require."""

_OWN = ("ticker", "groupings")

_GRACE_SECONDS = 60
"""A step that is deaf to its time limit is killed, with its process, so much later."""
_SAY_SECONDS = 1.0

_WORDS = {
    "died": ("process_died", "its process was killed, perhaps for want of memory"),
    "timed_out": ("timed_out", "its process was killed, since it was deaf to its time_limit in luigi.cfg"),
}


class TickerBatch(PipelineTask):
    """Does some steps of tickers number `first` to `first + size - 1` of a validated list."""

    years_back: int = Count(default=10, description="years of bars before the as-of date")
    full: bool = Full()
    asked: bool = Asked()
    universe: str = luigi.Parameter(description="digest of the validated list, as in its file's name")
    first: int = luigi.IntParameter(description="number of the first ticker, from 0")
    size: int = luigi.IntParameter(description="how many tickers")

    names: str = luigi.Parameter(
        default="", significant=False, description="these tickers, so that the search on luigid's page finds them"
    )

    kind: ClassVar[str]
    """What the tickers are done for: ohlcv or metadata."""
    storing: ClassVar[tuple[type[TickerTask], ...]]
    """Of STORED, the steps that are this family's; with what they require."""

    @property
    def worker_timeout(self) -> int:  # type: ignore[override]  # Luigi allows it, see its documentation
        """None by Luigi: each step has its own, and each ticker is watched."""
        return 0

    def complete(self) -> bool:
        invocation.begin(self)
        waiting = self.to_do()
        if not waiting:
            return True
        progress.expect(self.task_id, self.kind, len(waiting))
        preload.once()
        return False

    def run(self) -> None:
        if settings.load().source == "yahoo":
            # Once Yahoo has outlasted the run's patience, no further ticker is worth a process.
            budget().check_patience()
        self.link_report()
        tickers = self.to_do()
        watch = _Watch(self, len(tickers))
        progress.begun()
        try:
            untried = OneAfterAnother(
                tickers, work, watch.tell, _time_limit, _worth_trying, settings.load().batch_size
            ).run()
        finally:
            progress.ended()
        watch.say()
        if watch.failed:
            raise StepFailed(
                f"{self.task_family} {self.first}", f"{len(watch.failed)} of {len(tickers)} tickers failed"
            )
        if untried:
            if settings.load().source == "yahoo":
                budget().check_patience()
            raise StepFailed(
                f"{self.task_family} {self.first}",
                f"{len(untried)} of {len(tickers)} tickers were not tried, since the run was told to end",
            )

    def to_do(self) -> list[list[TickerTask]]:
        """Of each ticker that has any, the steps of `storing` that are to be done."""
        return [
            [pipeline.clone(family) for family in self.storing if family in families]
            for pipeline, families in steps_to_do(self.pipelines()).items()
            if families.intersection(self.storing)
        ]

    def pipelines(self) -> list[TickerPipeline]:
        """The pipelines of all its tickers."""
        target = JsonTarget(paths.universe(settings.load().store, "validated", self.date, self.universe))
        members = list(target.read()["accepted"].items())[self.first : self.first + self.size]
        return pipelines(self, dict(members))


def work(steps: list[TickerTask]) -> bool:
    """Do these steps of a ticker; returns whether they are done. Why not is on record then."""
    try:
        here = InProcess()
        for step in steps:
            here.finish(step)
    except StepFailed:
        return False
    return True


class _Watch:
    """What came of a batch's tickers, told to the ledger and to luigid's page."""

    def __init__(self, batch: TickerBatch, tickers: int) -> None:
        self.failed: list[str] = []
        self._batch, self._tickers, self._done, self._said = batch, tickers, 0, 0.0

    def tell(self, steps: list[TickerTask], outcome: Outcome) -> None:
        progress.settled(self._batch.kind, done=outcome == "done")
        if outcome == "done":
            self._done += 1
        else:
            self.failed.append(steps[0].ticker)
        if outcome in _WORDS:
            kind, reason = _WORDS[outcome]
            chain = with_requirements(*steps)
            step = next((each for each in chain if not each.complete()), chain[-1])
            logger.error("%s: %s: %s", kind, step.ticker, reason)
            Ledger(database_url()).fail(step.step(), kind, reason)
            invocation.show_failed(step, reason)
        if time.monotonic() >= self._said + _SAY_SECONDS:
            self.say()

    def say(self) -> None:
        self._said = time.monotonic()
        failed = f"; failed: {', '.join(self.failed)}" if self.failed else ""
        self._batch.say(html.escape(f"{self._done} of {self._tickers} tickers done{failed}"))


def _time_limit(steps: list[TickerTask]) -> float:
    limits: list[float] = [step.worker_timeout for step in with_requirements(*steps)]
    return sum(limits) + _GRACE_SECONDS


def _worth_trying(done: bool) -> bool:
    """Whether the next ticker is, after one that is `done` or has failed."""
    if invocation.draining():
        return False
    if done or settings.load().source != "yahoo":
        return True
    try:
        budget().check_patience()
    except PatienceExhausted:
        return False
    return True


def pipelines(task: RunAll | TickerBatch, members: dict[str, list[str]]) -> list[TickerPipeline]:
    """The pipelines of {ticker: groupings}, for the task's as-of date and years."""
    common = {"asked": task.asked}
    return [task.clone(TickerPipeline, ticker=ticker, groupings=names, **common) for ticker, names in members.items()]


def unfinished(pipelines: list[TickerPipeline]) -> list[TickerPipeline]:
    """Those that have a step to do."""
    return list(steps_to_do(pipelines))


def steps_to_do(pipelines: list[TickerPipeline]) -> dict[TickerPipeline, set[type[TickerTask]]]:
    """{pipeline: those of STORED that are to be done} of those that have any.

    A few queries for all of them, which are of one as-of date.
    """
    tickers = [pipeline.ticker for pipeline in pipelines]
    resting, there = resting_tickers(tickers), already(pipelines)
    ids = {family: task_ids(family, pipelines) for family in STORED if family in told_by_marker(pipelines)}
    done = Ledger(database_url()).done([task_id for of_family in ids.values() for task_id in of_family.values()])
    to_do = {
        pipeline: {
            family
            for family in STORED
            if pipeline.ticker not in there.get(family, ())
            and (family not in ids or ids[family][pipeline.ticker] not in done)
        }
        for pipeline in pipelines
        if pipeline.asked or pipeline.ticker not in resting
    }
    return {pipeline: families for pipeline, families in to_do.items() if families}


def task_ids(family: type[TickerTask], pipelines: Sequence[TickerPipeline]) -> dict[str, str]:
    """{ticker: id of that step}, of pipelines that differ in their tickers and groupings alone.

    Making the steps for it would take a tenth of a millisecond each, and there are tens of thousands.
    """
    if not pipelines:
        return {}
    same = pipelines[0].clone(family).to_str_params(only_significant=True, only_public=True)
    own = {name: parameter for name, parameter in family.get_params() if name in same and name in _OWN}
    return {
        pipeline.ticker: task_id_str(
            family.get_task_family(),
            same | {name: parameter.serialize(getattr(pipeline, name)) for name, parameter in own.items()},
        )
        for pipeline in pipelines
    }


def resting_tickers(tickers: list[str]) -> dict[str, Retired]:
    """Those that are retired and not to be asked for again today."""
    if settings.load().source != "yahoo":
        return {}
    retired = Standing(database_url()).retired(tickers, settings.load().retire_after_days)
    return {ticker: entry for ticker, entry in retired.items() if today() < entry.next}


def told_by_marker(pipelines: Sequence[TickerPipeline]) -> set[type[TickerTask]]:
    """The steps of STORED that their markers say are done. Of bars they do not: see `HistoryMarkerTarget`."""
    return {family for family in STORED if family is not InsertOhlcv or any(each.full for each in pipelines)}


def already(pipelines: Sequence[TickerPipeline], now: dt.datetime | None = None) -> dict[type[TickerTask], set[str]]:
    """{step: tickers of which it need not be done}, whatever the markers say: fresh company data; bars that are stored
    as of that date or a later one, as far as they could be had at `now` (that of the run if None). The pipelines differ
    in nothing but their tickers."""
    if not pipelines:
        return {}
    first, tickers, standing = pipelines[0], [pipeline.ticker for pipeline in pipelines], Standing(database_url())
    fresh = standing.fresh_metadata(tickers, first.date, settings.load().refresh_days)
    if first.full:
        return {InsertMetadata: fresh}
    start = first_day(first.date, first.years_back)
    stored = standing.with_history(tickers, start, first.date, now or invocation.moment())
    return {InsertMetadata: fresh, InsertOhlcv: stored}
