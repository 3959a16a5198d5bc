"""TickerGroup: some tickers of a run, which RunAll's worker is told of at once.

Luigi's scheduler looks at every pending task for every task that it hands out: its cost grows with the square of their
number. A group wants a unit of the resource that its tickers want, and less urgently: luigid hands it out when no
ticker is left that could take the unit, so that few are pending at any time. Of bars and of company data there are
groups apart, since the provider bears another rate of the one than of the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import luigi

from luigi_tasks import settings
from luigi_tasks.run import lifecycle, preload
from luigi_tasks.targets import paths
from luigi_tasks.targets.files import JsonTarget
from luigi_tasks.tasks import download_quotes
from luigi_tasks.tasks.base import PipelineTask, budget
from luigi_tasks.tasks.due import pipelines, steps_to_do
from luigi_tasks.tasks.in_one_process import InOneProcess
from luigi_tasks.tasks.metadata_pipeline import MetadataPipeline
from luigi_tasks.tasks.ohlcv_pipeline import OhlcvPipeline
from luigi_tasks.tasks.parameters import Asked, Count, Full
from luigi_tasks.tasks.ticker_pipeline import TickerPipeline

PIPELINES: dict[str, type[InOneProcess]] = {each.kind: each for each in (OhlcvPipeline, MetadataPipeline)}


class TickerGroup(PipelineTask):
    """Has the tickers number `first` to `first + size - 1` of a validated list done."""

    kind: str = luigi.ChoiceParameter(
        choices=tuple(PIPELINES), description="what of them: their bars (ohlcv), or their company data (metadata)"
    )
    years_back: int = Count(default=10, description="years of bars before the as-of date")
    full: bool = Full()
    asked: bool = Asked()
    universe: str = luigi.Parameter(description="digest of the validated list, as in its file's name")
    first: int = luigi.IntParameter(description="number of the first ticker, from 0")
    size: int = luigi.IntParameter(description="how many tickers")

    @property  # type: ignore[misc]
    def priority(self) -> int:  # type: ignore[override]  # Luigi asks for it when it is scheduled
        """Below that of its pipelines, or all would be pending; but bars of any group come before company data."""
        return PIPELINES[self.kind].group_priority

    @property
    def resources(self) -> dict[str, int]:  # type: ignore[override]  # Luigi asks for it when it is scheduled
        return PIPELINES[self.kind].resources

    def is_done(self) -> bool:
        waiting = self.to_do()
        if not waiting:
            return True
        lifecycle.expect(self.task_id, self.kind, len(waiting), PIPELINES[self.kind].asking(waiting))
        preload.once()
        return False

    def run(self) -> Iterator[Any]:
        if settings.load().source == "yahoo":
            # Once Yahoo has outlasted the run's patience, no further ticker is worth a process.
            budget().check_patience()
        waiting = self.with_retries(self.to_do)
        if waiting and download_quotes.wanted(self.date):
            yield self.clone(download_quotes.DownloadQuotes, tickers=tuple(each.ticker for each in self.pipelines()))
        if waiting:
            yield [pipeline.clone(PIPELINES[self.kind], due=True) for pipeline in waiting]

    def to_do(self) -> list[TickerPipeline]:
        """Those of its tickers of which something of the kind is to be done."""
        storing = PIPELINES[self.kind].storing
        return [pipeline for pipeline, steps in steps_to_do(self.pipelines()).items() if steps.intersection(storing)]

    def pipelines(self) -> list[TickerPipeline]:
        """The pipelines of all its tickers."""
        target = JsonTarget(paths.universe(settings.load().store, "validated", self.date, self.universe))
        members = list(target.read()["accepted"].items())[self.first : self.first + self.size]
        return pipelines(self, dict(members))
