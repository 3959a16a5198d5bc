"""Parameters that several task families share."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

import luigi
from luigi.cmdline_parser import CmdlineParser
from luigi.parameter import ParameterVisibility

from luigi_tasks import tickers
from luigi_tasks.errors import ConfigurationError


class CommaSeparated(luigi.Parameter[tuple[str, ...]]):
    """A tuple of texts, on the command line separated by commas: AAPL,MSFT."""

    def parse(self, x: str) -> tuple[str, ...]:
        return () if x == tickers.NOTHING else tickers.separated(x)

    def serialize(self, x: Iterable[str]) -> str:
        return ",".join(x) or tickers.NOTHING

    def normalize(self, x: str | Iterable[str]) -> tuple[str, ...]:
        """From Python, too, "AAPL,MSFT" is what it is on the command line, and not its letters."""
        if isinstance(x, str):
            return self.parse(x)
        given = tuple(x)
        for name in given:
            if not isinstance(name, str) or not name.strip():
                raise ConfigurationError(f"{name!r:.100} in a list of names", "is no name", "Write each as text.")
        return tuple(name.strip() for name in given)


class Tickers(CommaSeparated):
    """Tickers, as Yahoo writes them, each once."""

    def normalize(self, x: str | Iterable[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(tickers.normalise, super().normalize(x))))


class Ticker(luigi.Parameter[str]):
    """A ticker, as Yahoo writes it: a task of "aapl" is that of "AAPL"."""

    def normalize(self, x: str) -> str:
        if not isinstance(x, str):
            raise ConfigurationError(f"ticker {x!r:.100}", "is no text", "Put it in quotes.")
        return tickers.normalise(x)


class AsOf(luigi.DateParameter):
    """A day."""

    def parse(self, s: str) -> dt.date:
        try:
            day: dt.date = super().parse(s)
        except ValueError as error:
            raise ConfigurationError(f"date {s!r}", "is not a day", "It looks like 2026-11-20.") from error
        return day


class Count(luigi.IntParameter):
    """A whole number."""

    def parse(self, x: str) -> int:
        try:
            return int(super().parse(x))
        except ValueError as error:
            raise ConfigurationError(repr(x), "is not a whole number", "See ./run.sh --help.") from error


class OfFamily(luigi.IntParameter):
    """A number that belongs to the task family, from its section in luigi.cfg: neither part of what a task is, nor
    handed on to the tasks that it requires (see PipelineTask.clone), nor shown on luigid's page."""

    def __init__(self, default: int, description: str) -> None:
        super().__init__(
            default=default, description=description, significant=False, visibility=ParameterVisibility.HIDDEN
        )
        self._known: dict[tuple[str, CmdlineParser | None], int] = {}

    def has_task_value(self, task_name: str, param_name: str) -> bool:
        return True

    def task_value(self, task_name: str, param_name: str) -> int:
        """Looked up once in an invocation: the same for all tasks of a family, of which a run makes thousands."""
        invoked = task_name, CmdlineParser.get_instance()
        if invoked not in self._known:
            self._known[invoked] = int(super().task_value(task_name, param_name))
        return self._known[invoked]


class Full(luigi.BoolParameter):
    """Whether the whole history is asked for, whatever is stored."""

    def __init__(self) -> None:
        super().__init__(
            default=False,
            description="ask for the whole history, whatever is stored",
            parsing=luigi.BoolParameter.IMPLICIT_PARSING,
        )


class Asked(luigi.BoolParameter):
    """Whether somebody has named the ticker and wants its whole history: then it is asked for, though it is retired."""

    def __init__(self) -> None:
        super().__init__(
            default=False,
            significant=False,
            description="also if it is retired, since it is named by --tickers, with --full",
            visibility=ParameterVisibility.HIDDEN,
            parsing=luigi.BoolParameter.IMPLICIT_PARSING,
        )


def today() -> dt.date:
    """Today in UTC: the same everywhere, so that machines in several time zones mean one as-of date."""
    return dt.datetime.now(dt.UTC).date()


def latest_today() -> dt.date:
    """Today where the day begins first (UTC+14): a later as-of date is in the future everywhere."""
    return (dt.datetime.now(dt.UTC) + dt.timedelta(hours=14)).date()
