"""The target of a step that writes to PostgreSQL: the marker row that was committed together with its data."""

from __future__ import annotations

import datetime as dt

import luigi

from luigi_tasks.database.ledger import Ledger
from luigi_tasks.database.standing import Standing


class MarkerTarget(luigi.Target):
    """Exists where the ledger has a marker for the task id."""

    def __init__(self, database_url: str, task_id: str) -> None:
        self._database_url = database_url
        self.task_id = task_id

    def __repr__(self) -> str:
        return f"MarkerTarget({self.task_id})"

    def exists(self) -> bool:
        """Raises DatabaseUnavailable rather than say no."""
        return bool(Ledger(self._database_url).done([self.task_id]))


class HistoryMarkerTarget(MarkerTarget):
    """Exists where the bars from `start` on are stored as of that date or a later one, as far as they can be had.

    The marker alone does not tell: one that was written while a market was open says nothing of the close, which can be
    had `now` (with a zone).
    """

    def __init__(
        self, database_url: str, task_id: str, ticker: str, start: dt.date, as_of: dt.date, now: dt.datetime
    ) -> None:
        super().__init__(database_url, task_id)
        self._ticker, self._start, self._as_of, self._now = ticker, start, as_of, now

    def exists(self) -> bool:
        standing = Standing(self._database_url)
        return bool(standing.with_history([self._ticker], self._start, self._as_of, self._now))


class FreshMarkerTarget(MarkerTarget):
    """Exists also where the company data of an earlier as-of date is fresh enough, and with it the daily numbers."""

    def __init__(
        self, database_url: str, task_id: str, ticker: str, as_of: dt.date, refresh_days: int, *, with_numbers: bool
    ) -> None:
        super().__init__(database_url, task_id)
        self._ticker, self._as_of, self._refresh_days, self._with_numbers = ticker, as_of, refresh_days, with_numbers

    def exists(self) -> bool:
        if super().exists():
            return True
        standing = Standing(self._database_url)
        wanted = (self._as_of, self._refresh_days)
        return bool(standing.fresh_metadata([self._ticker], *wanted, with_numbers=self._with_numbers))
