"""ValidateTickers: which of the listed tickers are run; the others with the reason."""

from __future__ import annotations

import dataclasses
from typing import Any

from luigi_tasks.errors import ConfigurationError
from luigi_tasks.market.universe import validate
from luigi_tasks.targets.files import JsonTarget
from luigi_tasks.tasks.get_tickers import GetTickers, UniverseTask


class ValidateTickers(UniverseTask):
    """Keeps the tickers that are well-formed and unique, and reports the rest."""

    def requires(self) -> GetTickers:
        task: GetTickers = self.clone(GetTickers)
        return task

    def output(self) -> JsonTarget:
        return self.snapshot("validated")

    def run(self) -> None:
        listed = self.requires().output().read()
        verdict = validate(listed["tickers"], self.ticker_limit, listed["renamed"])
        if not verdict.accepted:
            reasons = "; ".join(f"{item['ticker']!r} {item['reason']}" for item in verdict.rejected[:5])
            raise ConfigurationError("the list of tickers", f"has none that can be run: {reasons}")
        known = {"whole": [] if self.ticker_limit else listed["whole"], "renamed": listed["renamed"]}
        self.output().write({"as_of": str(self.date), **known, **dataclasses.asdict(verdict)})

    def receipt(self) -> tuple[int, dict[str, Any]]:
        document = self.output().read()
        return len(document["accepted"]), {"rejected": document["rejected"]}
