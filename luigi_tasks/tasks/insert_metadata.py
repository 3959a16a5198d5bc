"""InsertMetadata: the company's data in the database, kept by as-of date."""

from __future__ import annotations

import luigi

from luigi_tasks.tasks.base import MarkedTask, client
from luigi_tasks.tasks.download_metadata import DownloadMetadata
from luigi_tasks.tasks.register_security import RegisterSecurity


class InsertMetadata(MarkedTask):
    """Stores the company data and the marker that says so in one transaction."""

    def requires(self) -> list[luigi.Task]:
        return [self.clone(RegisterSecurity), self.clone(DownloadMetadata)]

    def run(self) -> None:
        answer = self.clone(DownloadMetadata).output().read()
        marker = self.marker(rows=1)
        self.with_retries(lambda: client().insert_metadata(self.ticker, answer, as_of=self.date, marker=marker))
