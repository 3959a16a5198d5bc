"""InsertOhlcv: the valid bars in the database."""

from __future__ import annotations

import datetime as dt

import luigi

from luigi_tasks.errors import HistoryShrank, IdenticalSeries, WrongAnswer
from luigi_tasks.tasks.base import MarkedTask, client, first_day
from luigi_tasks.tasks.download_ohlcv import DownloadOhlcv
from luigi_tasks.tasks.register_security import RegisterSecurity
from luigi_tasks.tasks.validate_ohlcv import ValidateOhlcv


class InsertOhlcv(MarkedTask):
    """Stores the bars, what the source says of the security, and the marker that says so, in one transaction."""

    def requires(self) -> list[luigi.Task]:
        return [self.clone(RegisterSecurity), self.clone(ValidateOhlcv)]

    def run(self) -> None:
        # Not at the top: both load pandas, which the parent does without until there is work.
        from luigi_tasks import bars
        from luigi_tasks.database.client import Window

        valid, verdict = self.clone(ValidateOhlcv).output()
        frame, refused = valid.read(), verdict.read()["rows"]
        left_out = [dt.date.fromisoformat(row["date"]) for row in refused if row["date"] != "NaT"]
        window = Window(first_day(self.date, self.years_back), self.date, left_out)
        marker = self.marker(rows=len(frame), ends_early=bars.ends_early(frame, left_out, self.date))
        try:
            self.with_retries(lambda: client().insert_ohlcv(self.ticker, frame, window=window, marker=marker))
        except (WrongAnswer, IdenticalSeries, HistoryShrank):
            # So that a rerun asks the source again.
            for target in (*self.clone(ValidateOhlcv).output(), self.clone(DownloadOhlcv).output()):
                target.remove()
            raise
        self.say(f"{len(frame):,} bars stored")
