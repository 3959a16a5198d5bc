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

    def receipt(self) -> tuple[int, dict[str, Any]]:
        verdict = self._verdict().read()
        return self.bars_target("valid_bars").rows(), verdict | {"repairs": _in_short(verdict["repairs"])}

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


def _in_short(repairs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """{rule: how many values of how many bars, from when to when, and the evidence for the first}: a split that was not
    applied is a repair of every value before it."""
    short: dict[str, dict[str, Any]] = {}
    for repair in repairs:
        known = short.setdefault(repair["rule"], {"values": 0, "days": set(), "evidence": repair["evidence"]})
        known["values"] += 1
        known["days"].add(repair["date"])
    return {
        rule: {
            "values": known["values"],
            "bars": len(known["days"]),
            "first": min(known["days"]),
            "last": max(known["days"]),
            "evidence": known["evidence"],
        }
        for rule, known in short.items()
    }
