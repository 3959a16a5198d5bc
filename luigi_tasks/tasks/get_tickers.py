"""GetTickers: the tickers that the configuration lists, as a dated snapshot."""

from __future__ import annotations

from functools import cache
from typing import Any

from luigi.cmdline_parser import CmdlineParser

from luigi_tasks import settings
from luigi_tasks.errors import ConfigurationError
from luigi_tasks.market.universe import UniverseFile, validate
from luigi_tasks.targets import paths
from luigi_tasks.targets.files import JsonTarget
from luigi_tasks.tasks.base import PipelineTask
from luigi_tasks.tasks.parameters import CommaSeparated, Count, OfFamily, Tickers
from luigi_tasks.tickers import checked

UNIVERSE = "universe"
"""Under this name a run's row has the digest of its list of tickers, beside its parameters."""


@cache
def _universe() -> UniverseFile:
    # Once for a run, as its digest: a list of thousands takes long to parse.
    return UniverseFile.read(settings.load().universe_file)


@cache
def _digest(tickers: tuple[str, ...], groupings: tuple[str, ...], ticker_limit: int) -> str:
    # Once for a run: its parent asks first, the children inherit the answer, whoever edits the file meanwhile.
    return _universe().digest(tickers, groupings, ticker_limit)


class UniverseTask(PipelineTask):
    """A task about the tickers of a run."""

    tickers: tuple[str, ...] = Tickers(default=(), description="AAPL,MSFT: these, instead of groupings")
    groupings: tuple[str, ...] = CommaSeparated(
        default=(), description="sp500,dax: these groupings of config/universe.yaml (default: those it calls default)"
    )
    ticker_limit: int = Count(default=0, description="only the first so many tickers; 0: all")
    priority: int = OfFamily(default=100, description="higher runs first")

    def check_parameters(self) -> None:
        super().check_parameters()
        _universe().require(self.groupings)
        given = getattr(CmdlineParser.get_instance(), "known_args", None)
        for name in ("tickers", "groupings"):
            # Luigi takes an empty value for none; from a script whose variable was empty, it must not mean "all".
            if "" in (getattr(given, name, None), getattr(given, f"{self.task_family}_{name}", None)):
                raise ConfigurationError(f"--{name} ''", "names nothing", "Name at least one, or leave the option out.")
        for ticker in self.tickers:
            checked(ticker, "--tickers")
        if self.tickers and self.groupings:
            raise ConfigurationError("--tickers and --groupings", "cannot be given together", "Name one of them.")
        if self.ticker_limit < 0:
            raise ConfigurationError(f"--ticker-limit {self.ticker_limit}", "is below 0")

    def booked_parameters(self) -> dict[str, Any]:
        return super().booked_parameters() | {UNIVERSE: self.digest()}

    def digest(self) -> str:
        """Changes whenever the list of tickers may have changed, but not within a run."""
        return _digest(self.tickers, self.groupings, self.ticker_limit)

    def snapshot(self, stage: str) -> JsonTarget:
        return JsonTarget(paths.universe(settings.load().store, stage, self.date, self.digest()))


class GetTickers(UniverseTask):
    """Collects the listed tickers with their groupings."""

    def output(self) -> JsonTarget:
        return self.snapshot("listed")

    def run(self) -> None:
        universe = _universe()
        self.output().write(
            {
                "as_of": str(self.date),
                "tickers": self.listed(),
                "whole": [] if self.tickers else list(self.groupings or universe.default),
                "renamed": universe.renamed,
            }
        )

    def listed(self) -> dict[str, list[str]]:
        """{text as listed: groupings}. Tickers given by name are looked up in every grouping, to know theirs."""
        universe = _universe()
        universe.require(self.groupings)
        names = self.groupings or (() if self.tickers else universe.default)
        found = universe.resolve(names)
        if self.tickers:
            known = validate(universe.resolve(universe.groupings), renamed=universe.renamed).accepted
            for ticker in self.tickers:
                found.setdefault(ticker, known.get(universe.renamed.get(ticker, ticker), []))
        if not found:
            raise ConfigurationError("the list of tickers", "is empty", f"See {universe.path}.")
        return found

    def renamed(self) -> dict[str, str]:
        """{old ticker: new} of the configuration."""
        return _universe().renamed

    def receipt(self) -> tuple[int, dict[str, Any]]:
        return len(self.output().read()["tickers"]), {}
