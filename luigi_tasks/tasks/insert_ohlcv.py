"""InsertOhlcv: the valid bars in the database."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import luigi

from luigi_tasks.errors import HistoryShrank, IdenticalSeries, OutdatedDownload, RestatedSince, WrongAnswer
from luigi_tasks.run import lifecycle
from luigi_tasks.schedule import Span
from luigi_tasks.targets.marker import HistoryMarkerTarget, MarkerTarget
from luigi_tasks.tasks.base import HistoryTask, MarkedTask, client, database_url, first_day
from luigi_tasks.tasks.download_ohlcv import DownloadOhlcv
from luigi_tasks.tasks.register_security import RegisterSecurity
from luigi_tasks.tasks.validate_ohlcv import ValidateOhlcv

logger = logging.getLogger(__name__)


class InsertOhlcv(HistoryTask, MarkedTask):
    """Stores the bars, what the source says of the security, and the marker that says so, in one transaction."""

    def requires(self) -> list[luigi.Task]:
        return [self.clone(RegisterSecurity), self.clone(ValidateOhlcv)]

    def output(self) -> MarkerTarget:
        if self.full:
            return super().output()
        start = first_day(self.date, self.years_back)
        return HistoryMarkerTarget(database_url(), self.task_id, self.ticker, start, self.date, lifecycle.moment())

    def run(self) -> Iterator[luigi.Task]:
        # Not at the top: both load pandas, which the parent does without until there is work.
        from luigi_tasks import bars
        from luigi_tasks.database.client import Window
        from luigi_tasks.quality import repairs

        valid, verdict = self.clone(ValidateOhlcv).output()
        frame, quarantine = valid.read(), self.bars_target("quarantine")
        said, span = verdict.read(), Span.from_json(frame.attrs[bars.ASKED])
        refused = quarantine.read() if said["quarantined"] else None
        # Those of rules that need the whole history to be judged stay, unless it is here.
        window = Window(span, self.date, refused, said["repairs"], None if span.whole else repairs.OF_SINGLE_BARS)
        found = {name: frame.attrs[bars.ASKED][name] for name in ("probe",) if name in frame.attrs[bars.ASKED]}
        marker = self.marker(len(frame), ends_early=bars.ends_early(frame, window.left_out, self.date), **found)
        try:
            self.with_retries(lambda: client().insert_ohlcv(self.ticker, frame, window=window, marker=marker))
        except OutdatedDownload as error:
            # Somebody stored other bars in between, as of another date perhaps.
            logger.info("%s; downloading anew", error)
            self._ask_again()
            yield self.clone(ValidateOhlcv)
        except (WrongAnswer, IdenticalSeries, HistoryShrank, RestatedSince):
            self._ask_again()
            raise

    def confirm(self) -> None:
        """Do without bars: those that are stored are those as of this date."""
        marker = self.marker(rows=0, probe="nothing new")
        self.with_retries(lambda: client().confirm_ohlcv(self.ticker, self.date, marker=marker))

    def _ask_again(self) -> None:
        """Take the files away, so that whoever comes next asks the source."""
        for target in (*self.clone(ValidateOhlcv).output(), self.clone(DownloadOhlcv).output()):
            target.remove()
