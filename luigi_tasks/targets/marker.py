"""The target of a step that writes to PostgreSQL: the marker row that was committed together with its data."""

from __future__ import annotations

import luigi

from luigi_tasks.database.ledger import Ledger


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
