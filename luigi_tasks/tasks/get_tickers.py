"""GetTickers: the tickers that the configuration lists, as a dated snapshot."""

from __future__ import annotations

from typing import Any

import luigi

from luigi_tasks import settings
from luigi_tasks.errors import ConfigurationError
from luigi_tasks.market.universe import UniverseFile
from luigi_tasks.targets import paths
from luigi_tasks.targets.files import JsonTarget
from luigi_tasks.tasks.base import PipelineTask
from luigi_tasks.tasks.parameters import CommaSeparated, OfFamily


class UniverseTask(PipelineTask):
    """A task about the tickers of a run."""

    tickers: tuple[str, ...] = CommaSeparated(default=(), description="AAPL,MSFT: these, instead of groupings")
    groupings: tuple[str, ...] = CommaSeparated(
        default=(), description="sp500,dax: these groupings of config/universe.yaml (default: those it calls default)"
    )
    ticker_limit: int = luigi.IntParameter(default=0, description="only the first so many tickers; 0: all")
    priority: int = OfFamily(default=100, description="higher runs first")

    def check_parameters(self) -> None:
        super().check_parameters()
        UniverseFile.read(settings.load().universe_file).require(self.groupings)
        if self.ticker_limit < 0:
            raise ConfigurationError(f"--ticker-limit {self.ticker_limit}", "is below 0")

    def digest(self) -> str:
        """Changes whenever this run's list of tickers may have changed."""
        universe = UniverseFile.read(settings.load().universe_file)
        return universe.digest(self.tickers, self.groupings, self.ticker_limit)

    def snapshot(self, stage: str) -> JsonTarget:
        return JsonTarget(paths.universe(settings.load().store, stage, self.date, self.digest()))


class GetTickers(UniverseTask):
    """Collects the listed tickers with their groupings."""

    def output(self) -> JsonTarget:
        return self.snapshot("listed")

    def run(self) -> None:
        self.output().write({"as_of": str(self.date), "tickers": self.listed()})

    def listed(self) -> dict[str, list[str]]:
        """{text as listed: groupings}. Tickers given by name are looked up in every grouping, to know theirs."""
        universe = UniverseFile.read(settings.load().universe_file)
        universe.require(self.groupings)
        names = self.groupings or (() if self.tickers else universe.default)
        found = universe.resolve(names)
        if self.tickers:
            known = universe.resolve(name for name in universe.groupings if name not in names)
            for ticker in self.tickers:
                found.setdefault(ticker, list(dict.fromkeys(known.get(ticker, []))))
        if not found:
            raise ConfigurationError("the list of tickers", "is empty", f"See {universe.path}.")
        return found

    def receipt(self) -> tuple[int, dict[str, Any]]:
        return len(self.output().read()["tickers"]), {}
