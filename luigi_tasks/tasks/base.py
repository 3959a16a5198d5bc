"""What all task families have in common: the as-of date, the ledger entry, the time limit, the retries."""

from __future__ import annotations

import datetime as dt
import html
import traceback
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import luigi

from luigi_tasks import retry, settings
from luigi_tasks.database import embedded
from luigi_tasks.database.budget import PostgresBudget
from luigi_tasks.database.ledger import Marker, Step
from luigi_tasks.errors import ConfigurationError, SecuritiesMasterError
from luigi_tasks.run import lifecycle
from luigi_tasks.targets import paths
from luigi_tasks.targets.files import BarsTarget, ParquetTarget
from luigi_tasks.targets.marker import MarkerTarget
from luigi_tasks.tasks.parameters import AsOf, CommaSeparated, Count, Full, OfFamily, Ticker, latest_today, today
from luigi_tasks.tickers import checked

if TYPE_CHECKING:
    from luigi_tasks.database.client import YfinanceClient
    from luigi_tasks.market.source import MarketDataSource
    from luigi_tasks.pipeline import YfinancePipeline

Result = TypeVar("Result")
MOST_YEARS = 150


class PipelineTask(luigi.Task):
    """A task of this project: it has an as-of date, and what came of it is kept in the ledger."""

    date: dt.date = AsOf(default=today(), description="as-of date: the last day wanted (default today)")
    time_limit: int = OfFamily(default=600, description="seconds before it is stopped")
    priority: int = OfFamily(default=0, description="higher runs first")
    attempts: int = OfFamily(default=6, description="tries at what is transient")

    is_run: ClassVar[bool] = False
    """Whether doing it is a run, with a row, a page and a report."""
    not_told: Exception | None = None
    """Why it last could not be told whether the task is complete; Luigi's event of that does not say it."""

    @property
    def worker_timeout(self) -> int:  # type: ignore[override]  # Luigi allows it, see its documentation
        return self.time_limit

    @classmethod
    def get_params(cls) -> list[tuple[str, luigi.Parameter[Any]]]:
        """Luigi's, which looks through the whole class each time that a task is made; a run makes many."""
        return _parameters(cls)

    def clone(self, cls: Any = None, **kwargs: Any) -> Any:
        """Luigi's clone, but what belongs to a family stays with it."""
        family = cls or type(self)
        known = {name: getattr(self, name) for name in _handed_on(type(self), family)}
        return family(**(known | kwargs))

    def complete(self) -> bool:
        """Asked again where the database is away for a moment: "I cannot tell" is neither yes nor no."""
        lifecycle.begin(self)
        try:
            return self.with_retries(self.is_done)
        except Exception as error:
            self.not_told = error
            raise

    def is_done(self) -> bool:
        """Whether the task is complete, as far as can be told now: what families that tell it otherwise override."""
        return bool(super().complete())

    def with_retries(self, function: Callable[[], Result]) -> Result:
        """What the function returns, tried `attempts` times while it fails for a transient reason."""
        waits = settings.load()
        return retry.call(
            function, attempts=self.attempts, first_wait=waits.first_wait, longest_wait=waits.longest_wait
        )

    def check_parameters(self) -> None:
        """Raise ConfigurationError for parameters that no run can use; called once, before anything else."""
        if self.date > latest_today():
            raise ConfigurationError(f"--date {self.date}", "is in the future", "Nobody has those bars yet.")

    def booked_parameters(self) -> dict[str, Any]:
        """What the ledger keeps of the task that a run was started with, to tell later what the run was about."""
        return dict(self.to_str_params(only_significant=True, only_public=True))

    def step(self) -> Step:
        """This task, as the ledger names it."""
        return Step(self.task_id, self.task_family, lifecycle.RUN_ID, getattr(self, "ticker", None), self.date)

    def receipt(self) -> tuple[int, dict[str, Any]]:
        """How many rows the finished task left behind, and what the report should know of it."""
        return luigi.task.flatten(self.output())[0].rows(), {}

    def on_failure(self, exception: BaseException) -> str:
        """What luigid's page shows as the error."""
        if isinstance(exception, SecuritiesMasterError):
            return html.escape(str(exception))
        return html.escape("".join(traceback.format_exception(exception)))


class AskingTask(PipelineTask):
    """A task that asks the source, and may have to wait until the source wants to be asked."""

    @property
    def worker_timeout(self) -> int:  # type: ignore[override]  # as above
        chosen = settings.load()
        waiting = max(chosen.pace.patience, chosen.pace.outage_patience) if chosen.source == "yahoo" else 0
        return self.time_limit + round(waiting)


class TickerTask(PipelineTask):
    """One step of one ticker."""

    ticker: str = Ticker(description="as Yahoo writes it: AAPL, BRK-B, ^GSPC, 0700.HK")
    years_back: int = Count(default=10, description="years of bars before the as-of date")
    groupings: tuple[str, ...] = CommaSeparated(default=(), significant=False, description="sets that list the ticker")
    priority: int = OfFamily(default=10, description="higher runs first")

    is_run = True

    def check_parameters(self) -> None:
        super().check_parameters()
        check_years(self.years_back)
        checked(self.ticker, "--ticker")

    def marker(self, rows: int, **detail: Any) -> Marker:
        """The marker to write together with this step's data; `detail` is for the report."""
        return Marker(self.step(), rows, detail)


class HistoryTask(TickerTask):
    """A step of a ticker's bars."""

    full: bool = Full()

    def bars_target(self, kind: str) -> ParquetTarget:
        """The file of these bars: `kind` is raw_bars, valid_bars or quarantine."""
        path = paths.bars(settings.load().store, kind, self.date, self.years_back, self.ticker, full=self.full)
        return ParquetTarget(path) if kind == "quarantine" else BarsTarget(path, lifecycle.moment())


class MarkedTask(TickerTask):
    """A step that writes to PostgreSQL: its target is the marker in the same transaction."""

    def output(self) -> MarkerTarget:
        return MarkerTarget(database_url(), self.task_id)


@cache
def _parameters(family: type[PipelineTask]) -> list[tuple[str, luigi.Parameter[Any]]]:
    found: list[tuple[str, luigi.Parameter[Any]]] = super(PipelineTask, family).get_params()
    return found


@cache
def _handed_on(giver: type[PipelineTask], taker: type[PipelineTask]) -> frozenset[str]:
    """Names of the parameters that both families have, but for what belongs to a family."""
    given = {name for name, parameter in giver.get_params() if not isinstance(parameter, OfFamily)}
    return frozenset(given.intersection(taker.get_param_names(include_significant=True)))


def check_years(years_back: int) -> None:
    if not 1 <= years_back <= MOST_YEARS:
        raise ConfigurationError(f"--years-back {years_back}", f"is not a number from 1 to {MOST_YEARS}")


def database_url() -> str:
    return embedded.url(settings.load())


@cache
def source() -> MarketDataSource:
    """The configured source, one for a process, so that it keeps its connections; it makes new ones after a fork."""
    chosen = settings.load()
    if chosen.source == "files":
        from luigi_tasks.market.files import FileSource

        return FileSource(
            chosen.files_path,
            scratch=chosen.root / "cache",
            metadata_path=chosen.files_metadata_path,
            volume_unit=chosen.files_volume_unit,
        )
    from luigi_tasks.market.yahoo import YahooSource

    return YahooSource(budget(), chosen.request_timeout, chosen.witnesses, plain=chosen.plain)


def budget() -> PostgresBudget:
    """The request budget that all processes share."""
    return PostgresBudget(database_url(), settings.load().pace, lifecycle.RUN_ID)


def client() -> YfinanceClient:
    from luigi_tasks.database.client import YfinanceClient

    return YfinanceClient(database_url())


def pipeline() -> YfinancePipeline:
    from luigi_tasks.pipeline import YfinancePipeline

    chosen = settings.load()
    return YfinancePipeline(source(), chosen.suite_file, chosen.most_bad_share)


def first_day(as_of: dt.date, years_back: int) -> dt.date:
    """The same day `years_back` years earlier; 28 February where that year has no 29th."""
    year = as_of.year - years_back
    try:
        return as_of.replace(year=year)
    except ValueError:
        return as_of.replace(year=year, day=28)
