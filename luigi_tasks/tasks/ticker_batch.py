"""TickerBatch: some tickers of a run. RunAll hands Luigi one batch after another, not all tickers at once.

Luigi's scheduler looks at every pending task for every task it hands out, so its cost grows with the square of
what is pending. A batch therefore yields its tickers only once it runs, and it ranks below all of their tasks while
it wants the same `yfinance_api` unit as a download: the next batch opens exactly when no download is waiting.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import luigi

from luigi_tasks import settings
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.database.standing import Retired, Standing
from luigi_tasks.targets import paths
from luigi_tasks.targets.files import JsonTarget
from luigi_tasks.tasks.base import PipelineTask, TickerTask, budget, database_url, first_day
from luigi_tasks.tasks.insert_metadata import InsertMetadata
from luigi_tasks.tasks.insert_ohlcv import InsertOhlcv
from luigi_tasks.tasks.parameters import Full, OfFamily, today
from luigi_tasks.tasks.register_security import RegisterSecurity
from luigi_tasks.tasks.ticker_pipeline import TickerPipeline

STORED = (RegisterSecurity, InsertOhlcv, InsertMetadata)
"""A ticker is done when these are; what else there is, they require."""


class TickerBatch(PipelineTask):
    """Runs the pipelines of tickers number `first` to `first + size - 1` of a validated list."""

    years_back: int = luigi.IntParameter(default=10, description="years of bars before the as-of date")
    full: bool = Full()
    universe: str = luigi.Parameter(description="digest of the validated list, as in its file's name")
    first: int = luigi.IntParameter(description="number of the first ticker, from 0")
    size: int = luigi.IntParameter(description="how many tickers")
    priority: int = OfFamily(default=-10, description="higher runs first")

    resources = {"yfinance_api": 1}

    def complete(self) -> bool:
        return not unfinished(self.pipelines())

    def run(self) -> Iterator[list[TickerPipeline]]:
        if settings.load().source == "yahoo":
            # Once Yahoo has outlasted the run's patience, no further ticker is worth a process.
            budget().check_patience()
        yield unfinished(self.pipelines())

    def pipelines(self) -> list[TickerPipeline]:
        """The pipelines of all its tickers."""
        target = JsonTarget(paths.universe(settings.load().store, "validated", self.date, self.universe))
        members = list(target.read()["accepted"].items())[self.first : self.first + self.size]
        return pipelines(self, dict(members))


def pipelines(task: PipelineTask, members: dict[str, list[str]]) -> list[TickerPipeline]:
    """The pipelines of {ticker: groupings}, for the task's as-of date and years."""
    return [task.clone(TickerPipeline, ticker=ticker, groupings=names) for ticker, names in members.items()]


def unfinished(pipelines: list[TickerPipeline]) -> list[TickerPipeline]:
    """Those that have a step to do; a few queries for all of them, which are of one as-of date."""
    if not pipelines:
        return []
    tickers = [pipeline.ticker for pipeline in pipelines]
    resting, there = resting_tickers(tickers), already(pipelines)
    wanted = {
        pipeline: {step.task_id for step in stored_steps(pipeline) if step.ticker not in there.get(type(step), ())}
        for pipeline in pipelines
        if pipeline.ticker not in resting
    }
    done = Ledger(database_url()).done(set().union(*wanted.values()))
    return [pipeline for pipeline, task_ids in wanted.items() if not task_ids <= done]


def resting_tickers(tickers: list[str]) -> dict[str, Retired]:
    """Those that are retired and not to be asked for again today."""
    if settings.load().source != "yahoo":
        return {}
    retired = Standing(database_url()).retired(tickers, settings.load().retire_after_days)
    return {ticker: entry for ticker, entry in retired.items() if today() < entry.next}


def already(pipelines: Sequence[TickerPipeline]) -> dict[type[TickerTask], set[str]]:
    """{step: tickers of which it need not be done}, whatever the markers say: fresh company data; bars that are stored
    as of a later date. The pipelines differ in nothing but their tickers."""
    if not pipelines:
        return {}
    first, tickers, standing = pipelines[0], [pipeline.ticker for pipeline in pipelines], Standing(database_url())
    fresh = standing.fresh_metadata(tickers, first.date, settings.load().refresh_days)
    if first.full:
        return {InsertMetadata: fresh}
    stored = standing.with_history(tickers, first_day(first.date, first.years_back), first.date)
    return {InsertMetadata: fresh, InsertOhlcv: stored}


def stored_steps(pipeline: TickerTask) -> list[TickerTask]:
    return [pipeline.clone(family) for family in STORED]
