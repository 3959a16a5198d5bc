"""RegisterSecurity: the ticker and its groupings in the database."""

from __future__ import annotations

from luigi_tasks.tasks.base import MarkedTask, client
from luigi_tasks.tasks.parameters import CommaSeparated


class RegisterSecurity(MarkedTask):
    """Makes sure that the security is there, and in the groupings that list it."""

    groupings: tuple[str, ...] = CommaSeparated(default=(), description="sets that list the ticker")

    def run(self) -> None:
        marker = self.marker(rows=1)
        self.with_retries(lambda: client().insert_security(self.ticker, self.groupings, as_of=self.date, marker=marker))
