"""RunAll: every ticker of the universe, as of one date."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Iterator, Sequence

import luigi

from luigi_tasks import settings
from luigi_tasks.market.universe import validate
from luigi_tasks.run import lifecycle
from luigi_tasks.tasks.base import TickerTask, check_years
from luigi_tasks.tasks.check_source import CheckSource
from luigi_tasks.tasks.download_metadata import DownloadMetadata
from luigi_tasks.tasks.download_ohlcv import DownloadOhlcv
from luigi_tasks.tasks.due import pipelines, steps_to_do, unfinished
from luigi_tasks.tasks.get_tickers import GetTickers, UniverseTask
from luigi_tasks.tasks.insert_metadata import InsertMetadata
from luigi_tasks.tasks.insert_ohlcv import InsertOhlcv
from luigi_tasks.tasks.parameters import Count, Full, OfFamily
from luigi_tasks.tasks.record_universe import RecordUniverse
from luigi_tasks.tasks.ticker_group import PIPELINES, TickerGroup
from luigi_tasks.tasks.ticker_pipeline import TickerPipeline
from luigi_tasks.tasks.validate_tickers import ValidateTickers

_MOST_GROUPS = 200


class RunAll(UniverseTask, luigi.WrapperTask):
    """Wraps the pipelines of all valid tickers; complete when every one of them is, and the list is recorded."""

    years_back: int = Count(default=10, description="years of bars before the as-of date")
    full: bool = Full()
    priority: int = OfFamily(default=-20, description="higher runs first")

    is_run = True

    def check_parameters(self) -> None:
        super().check_parameters()
        check_years(self.years_back)

    @property
    def asked(self) -> bool:
        """Whether a ticker is asked for though it is retired: somebody has named it, and wants its whole history."""
        return self.full and bool(self.tickers)

    def requires(self) -> list[luigi.Task]:
        """The pipelines of all valid tickers, as far as the list is known: what is done when this is."""
        return [self._validated(), *pipelines(self, self.listed())]

    def _requires(self) -> list[luigi.Task]:
        """What luigid is told of at first; tens of thousands of tickers, all pending at once, would keep it busy."""
        return [self._validated()]

    def is_done(self) -> bool:
        lifecycle.book(self)
        return (
            self._validated().complete()
            and self._universe().complete()
            and not unfinished(pipelines(self, self.members()))
        )

    @classmethod
    def bulk_complete(cls, parameter_tuples: Iterable[dt.date]) -> list[dt.date]:
        """Those of the as-of dates that are done: how Luigi's range tools ask."""
        return [date for date in parameter_tuples if cls(date=date).complete()]

    def run(self) -> Iterator[luigi.Task | list[TickerGroup]]:
        # Before any ticker is tried: a member that fails, or cannot be asked for, is a member all the same.
        yield self._universe()
        waiting = self.with_retries(lambda: steps_to_do(pipelines(self, self.members())))
        if any(_has_to_download(pipeline) for pipeline in waiting):
            yield CheckSource(date=self.date, run_id=lifecycle.RUN_ID)
        yield list(self._groups({pipeline.ticker: steps for pipeline, steps in waiting.items()}))

    def _validated(self) -> ValidateTickers:
        task: ValidateTickers = self.clone(ValidateTickers)
        return task

    def _universe(self) -> RecordUniverse:
        return RecordUniverse(date=self.date, universe=self.digest())

    def members(self) -> dict[str, list[str]]:
        """{ticker: groupings} of the validated list."""
        members: dict[str, list[str]] = self._validated().output().read()["accepted"]
        return members

    def listed(self) -> dict[str, list[str]]:
        """The same, also before the list has been validated."""
        if self._validated().output().exists():
            return self.members()
        found = self.clone(GetTickers)
        return validate(found.listed(), self.ticker_limit, found.renamed()).accepted

    def _groups(self, waiting: dict[str, set[type[TickerTask]]]) -> Iterator[TickerGroup]:
        """Those that have something to do, given what each ticker has."""
        digest = self.digest()
        for first, members in grouped(list(self.members())):
            for kind, pipeline in PIPELINES.items():
                if any(waiting.get(ticker, set()).intersection(pipeline.storing) for ticker in members):
                    of_it = {"kind": kind, "first": first, "size": len(members)}
                    yield self.clone(TickerGroup, universe=digest, asked=self.asked, **of_it)


def grouped(tickers: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    """The tickers in groups, each with the number of its first. Groups are pending, too: there are never many."""
    size = max(settings.load().group_size, math.ceil(len(tickers) / _MOST_GROUPS))
    for first in range(0, len(tickers), size):
        yield first, tickers[first : first + size]


def _has_to_download(pipeline: TickerPipeline) -> bool:
    wanted = ((InsertOhlcv, DownloadOhlcv), (InsertMetadata, DownloadMetadata))
    return any(
        not pipeline.clone(stored).complete() and not pipeline.clone(download).complete() for stored, download in wanted
    )
