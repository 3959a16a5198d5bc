"""A marker in the database as a target."""

from __future__ import annotations

from luigi_tasks.database.ledger import Ledger, Marker, Step
from luigi_tasks.targets.marker import MarkerTarget


def test_a_marker_is_there_once_it_is_committed_and_only_under_its_own_id(database_url: str) -> None:
    target, other = (MarkerTarget(database_url, f"Some_task_{n}") for n in (1, 2))
    assert not target.exists()

    Ledger(database_url).mark(Marker(Step("Some_task_1", "Some", "run-1"), 0))

    assert target.exists()
    assert not other.exists()


def test_a_marker_shows_its_task_and_not_the_databases_url(database_url: str) -> None:
    assert repr(MarkerTarget("postgresql://me:s3cret@host/db", "Some_task_1")) == "MarkerTarget(Some_task_1)"
