"""RecordUniverse: which tickers each grouping lists as of a date, kept for good."""

from __future__ import annotations

from typing import Any

import luigi

from luigi_tasks import settings
from luigi_tasks.database.ledger import Marker
from luigi_tasks.database.memberships import Memberships
from luigi_tasks.targets import paths
from luigi_tasks.targets.files import JsonTarget
from luigi_tasks.targets.marker import MarkerTarget
from luigi_tasks.tasks.base import PipelineTask, database_url
from luigi_tasks.tasks.parameters import OfFamily


class RecordUniverse(PipelineTask):
    """Opens the memberships of tickers that are listed, and ends those of tickers that a whole list has no more."""

    universe: str = luigi.Parameter(description="digest of the validated list, as in its file's name")
    priority: int = OfFamily(default=90, description="higher runs first")

    def output(self) -> MarkerTarget:
        return MarkerTarget(database_url(), self.task_id)

    def is_done(self) -> bool:
        # The marker alone does not tell: on the same as-of date, another list may have been recorded since.
        return super().is_done() and Memberships(database_url()).hold(**self._known())

    def run(self) -> None:
        known = self._known()
        marker = Marker(self.step(), len(known["listed"]))
        self.with_retries(lambda: Memberships(database_url()).record(**known, marker=marker))

    def _known(self) -> dict[str, Any]:
        target = JsonTarget(paths.universe(settings.load().store, "validated", self.date, self.universe))
        document = target.read()
        return {
            "listed": document["accepted"],
            "whole": document["whole"],
            "renamed": document["renamed"],
            "as_of": self.date,
        }
