"""InsertOhlcv: the valid bars in the database."""

from __future__ import annotations

import luigi

from luigi_tasks.tasks.base import MarkedTask, client
from luigi_tasks.tasks.register_security import RegisterSecurity
from luigi_tasks.tasks.validate_ohlcv import ValidateOhlcv


class InsertOhlcv(MarkedTask):
    """Stores the bars and the marker that says so in one transaction."""

    def requires(self) -> list[luigi.Task]:
        return [self.clone(RegisterSecurity), self.clone(ValidateOhlcv)]

    def run(self) -> None:
        bars = self.clone(ValidateOhlcv).output()[0].read()
        marker = self.marker(rows=len(bars))
        self.with_retries(lambda: client().insert_ohlcv(self.ticker, bars, marker=marker))
        self.say(f"{len(bars):,} bars stored")
