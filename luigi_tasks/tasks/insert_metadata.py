"""InsertMetadata: the company's data in the database, kept by as-of date."""

from __future__ import annotations

import luigi

from luigi_tasks import settings
from luigi_tasks.targets.marker import FreshMarkerTarget
from luigi_tasks.tasks.base import MarkedTask, client, database_url
from luigi_tasks.tasks.download_metadata import DownloadMetadata
from luigi_tasks.tasks.register_security import RegisterSecurity


class InsertMetadata(MarkedTask):
    """Stores the company data and the marker that says so in one transaction."""

    def requires(self) -> list[luigi.Task]:
        return [self.clone(RegisterSecurity), self.clone(DownloadMetadata)]

    def output(self) -> FreshMarkerTarget:
        refresh_days = settings.load().refresh_days
        return FreshMarkerTarget(database_url(), self.task_id, self.ticker, self.date, refresh_days)

    def run(self) -> None:
        answer = self.clone(DownloadMetadata).output().read()
        marker = self.marker(rows=1)
        self.with_retries(lambda: client().insert_metadata(self.ticker, answer, as_of=self.date, marker=marker))
