"""ValidateOhlcv: which of the downloaded bars may be stored."""

from __future__ import annotations

from typing import Any

from luigi_tasks import settings
from luigi_tasks.errors import InvalidData
from luigi_tasks.targets import paths
from luigi_tasks.targets.files import JsonTarget, ParquetTarget
from luigi_tasks.tasks.base import TickerTask, pipeline
from luigi_tasks.tasks.download_ohlcv import DownloadOhlcv


class ValidateOhlcv(TickerTask):
    """Runs the Great Expectations suite; bars that break a rule go to quarantine with the rules they broke."""

    def requires(self) -> DownloadOhlcv:
        task: DownloadOhlcv = self.clone(DownloadOhlcv)
        return task

    def output(self) -> list[ParquetTarget | JsonTarget]:
        return [self._bars("valid_bars"), self._verdict()]

    def run(self) -> None:
        downloaded = self.requires().output()
        verdict = pipeline().examine_ohlcv(downloaded.read(), self.ticker)
        if len(verdict.quarantined):
            self._bars("quarantine").write(verdict.quarantined)
        else:
            self._bars("quarantine").remove()
        self._verdict().write(verdict.summary())
        if verdict.condemned:
            # So that a rerun asks the source again; what it sent is in quarantine.
            downloaded.remove()
            raise InvalidData(self.ticker, verdict.condemned, f"Its bars are in {self._bars('quarantine').path}.")
        self._bars("valid_bars").write(verdict.valid)
        self.say(f"{len(verdict.valid):,} bars valid, {len(verdict.quarantined):,} quarantined")

    def receipt(self) -> tuple[int, dict[str, Any]]:
        return self._bars("valid_bars").rows(), self._verdict().read()

    def _bars(self, kind: str) -> ParquetTarget:
        return ParquetTarget(paths.bars(settings.load().store, kind, self.date, self.years_back, self.ticker))

    def _verdict(self) -> JsonTarget:
        return JsonTarget(paths.verdict(settings.load().store, self.date, self.years_back, self.ticker))
