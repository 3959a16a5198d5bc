"""RunAll: every ticker of the universe, as of one date."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Iterator

import luigi

from luigi_tasks import settings
from luigi_tasks.tasks import invocation
from luigi_tasks.tasks.base import TickerTask, check_years
from luigi_tasks.tasks.check_source import CheckSource
from luigi_tasks.tasks.download_metadata import DownloadMetadata
from luigi_tasks.tasks.download_ohlcv import DownloadOhlcv
from luigi_tasks.tasks.get_tickers import UniverseTask
from luigi_tasks.tasks.insert_metadata import InsertMetadata
from luigi_tasks.tasks.insert_ohlcv import InsertOhlcv
from luigi_tasks.tasks.metadata_batch import MetadataBatch
from luigi_tasks.tasks.ohlcv_batch import OhlcvBatch
from luigi_tasks.tasks.parameters import Count, Full, OfFamily
from luigi_tasks.tasks.record_universe import RecordUniverse
from luigi_tasks.tasks.ticker_batch import TickerBatch, pipelines, steps_to_do, unfinished
from luigi_tasks.tasks.ticker_pipeline import TickerPipeline
from luigi_tasks.tasks.validate_tickers import ValidateTickers

_MOST_BATCHES = 200
_NAMED = 60
"""So many of its tickers a batch is shown with."""


class RunAll(UniverseTask, luigi.WrapperTask):
    """Wraps the pipelines of all valid tickers; complete when every one of them is, and the list is recorded."""

    years_back: int = Count(default=10, description="years of bars before the as-of date")
    full: bool = Full()
    priority: int = OfFamily(default=-20, description="higher runs first")

    def check_parameters(self) -> None:
        super().check_parameters()
        check_years(self.years_back)

    @property
    def asked(self) -> bool:
        """Whether a ticker is asked for though it is retired: somebody has named it, and wants its whole history."""
        return self.full and bool(self.tickers)

    def requires(self) -> ValidateTickers:
        task: ValidateTickers = self.clone(ValidateTickers)
        return task

    def complete(self) -> bool:
        invocation.begin(self)
        return (
            self.requires().complete()
            and self._universe().complete()
            and not unfinished(pipelines(self, self.members()))
        )

    @classmethod
    def bulk_complete(cls, parameter_tuples: Iterable[dt.date]) -> list[dt.date]:
        """Those of the as-of dates that are done: how Luigi's range tools ask."""
        return [date for date in parameter_tuples if cls(date=date).complete()]

    def run(self) -> Iterator[luigi.Task | list[TickerBatch]]:
        # Before any ticker is tried: a member that fails, or cannot be asked for, is a member all the same.
        yield self._universe()
        waiting = steps_to_do(pipelines(self, self.members()))
        if any(_has_to_download(pipeline) for pipeline in waiting):
            yield CheckSource(date=self.date, run_id=invocation.RUN_ID)
        yield list(self._batches({pipeline.ticker: steps for pipeline, steps in waiting.items()}))

    def _universe(self) -> RecordUniverse:
        return RecordUniverse(date=self.date, universe=self.digest())

    def members(self) -> dict[str, list[str]]:
        """{ticker: groupings} of the validated list."""
        members: dict[str, list[str]] = self.requires().output().read()["accepted"]
        return members

    def _batches(self, waiting: dict[str, set[type[TickerTask]]]) -> Iterator[TickerBatch]:
        """Those that have something to do, given what each ticker has."""
        tickers, digest = list(self.members()), self.digest()
        # Not many batches, however many tickers: what each costs Luigi grows with their number.
        size = max(settings.load().batch_size, math.ceil(len(tickers) / _MOST_BATCHES))
        for family in (OhlcvBatch, MetadataBatch):
            for first in range(0, len(tickers), size):
                members = tickers[first : first + size]
                if any(waiting.get(ticker, set()).intersection(family.storing) for ticker in members):
                    names = ", ".join(members[:_NAMED])
                    of_it = {"first": first, "size": len(members), "names": names}
                    yield self.clone(family, universe=digest, asked=self.asked, **of_it)


def _has_to_download(pipeline: TickerPipeline) -> bool:
    wanted = ((InsertOhlcv, DownloadOhlcv), (InsertMetadata, DownloadMetadata))
    return any(
        not pipeline.clone(stored).complete() and not pipeline.clone(download).complete() for stored, download in wanted
    )
