"""InsertMetadata: the company's data in the database, kept by as-of date."""

from __future__ import annotations

import datetime as dt
from typing import Any

import luigi

from luigi_tasks import settings
from luigi_tasks.targets.marker import FreshMarkerTarget
from luigi_tasks.tasks.base import MarkedTask, client, database_url
from luigi_tasks.tasks.download_metadata import DownloadMetadata
from luigi_tasks.tasks.download_quotes import wanted
from luigi_tasks.tasks.register_security import RegisterSecurity


class InsertMetadata(MarkedTask):
    """Stores the company data and the marker that says so in one transaction."""

    def requires(self) -> list[luigi.Task]:
        return [self.clone(RegisterSecurity), self.clone(DownloadMetadata)]

    def output(self) -> FreshMarkerTarget:
        return FreshMarkerTarget(database_url(), self.task_id, self.ticker, self.date, **freshness(self.date))

    def run(self) -> None:
        answer = self.clone(DownloadMetadata).output().read()
        marker = self.marker(rows=1)
        self.with_retries(
            lambda: client().insert_metadata(
                self.ticker, answer["summary"], quote=answer["quote"], as_of=self.date, marker=marker
            )
        )


def freshness(date: dt.date) -> dict[str, Any]:
    """When company data counts as fresh as of a date: the arguments of that name of `Standing.fresh_metadata`."""
    chosen, by_quote = settings.load(), wanted(date)
    days = chosen.refresh_days if by_quote else chosen.refresh_days_without_quotes
    return {"refresh_days": days, "with_numbers": by_quote}
