"""ValidateOhlcv: which of the downloaded bars may be stored."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from luigi_tasks import settings
from luigi_tasks.errors import InvalidData
from luigi_tasks.schedule import Span
from luigi_tasks.targets import paths
from luigi_tasks.targets.files import JsonTarget, ParquetTarget
from luigi_tasks.tasks.base import HistoryTask, client, pipeline
from luigi_tasks.tasks.download_ohlcv import DownloadOhlcv

if TYPE_CHECKING:
    from pandas import DataFrame

# The rules look back 60 sessions at most: luigi_tasks.quality.suspicions.LOOK_BACK.
_LOOK_BACK = dt.timedelta(days=100)


class ValidateOhlcv(HistoryTask):
    """Runs the Great Expectations suite; bars that break a rule go to quarantine with the rules they broke."""

    def requires(self) -> DownloadOhlcv:
        task: DownloadOhlcv = self.clone(DownloadOhlcv)
        return task

    def output(self) -> list[ParquetTarget | JsonTarget]:
        return [self.bars_target("valid_bars"), self._verdict()]

    def run(self) -> None:
        # Not at the top: it loads pandas, which the parent does without until there is work.
        from luigi_tasks.bars import ASKED

        downloaded, quarantine = self.requires().output(), self.bars_target("quarantine")
        frame = downloaded.read()
        verdict = pipeline().examine_ohlcv(frame, self.ticker, self.context(frame.attrs[ASKED]))
        if len(verdict.quarantined):
            quarantine.write(verdict.quarantined)
        else:
            quarantine.remove()
        self._verdict().write(verdict.summary())
        if verdict.condemned:
            # So that a rerun asks the source again; what it sent is in quarantine.
            downloaded.remove()
            raise InvalidData(self.ticker, verdict.condemned, f"Its bars are in {quarantine.path}.")
        self.bars_target("valid_bars").write(verdict.valid)
        self.say(f"{len(verdict.valid):,} bars valid, {len(verdict.quarantined):,} quarantined")

    def receipt(self) -> tuple[int, dict[str, Any]]:
        return self.bars_target("valid_bars").rows(), self._verdict().read()

    def context(self, asked: dict[str, Any]) -> DataFrame | None:
        """The stored bars before the days that were asked for (a Span as JSON), for the rules that look back."""
        span = Span.from_json(asked)
        if span.whole:
            return None
        before = span.start - dt.timedelta(days=1)
        return self.with_retries(lambda: client().bars(self.ticker, before - _LOOK_BACK, before))

    def _verdict(self) -> JsonTarget:
        store = settings.load().store
        return JsonTarget(paths.verdict(store, self.date, self.years_back, self.ticker, full=self.full))
