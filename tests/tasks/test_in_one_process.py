"""Whether a ticker's half is done: asked of the database, but not for what was just asked of it."""

from __future__ import annotations

import datetime as dt

import pytest

from luigi_tasks.errors import DatabaseUnavailable
from luigi_tasks.tasks.metadata_pipeline import MetadataPipeline


@pytest.fixture(autouse=True)
def no_database(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(self: object) -> bool:
        raise DatabaseUnavailable("the database", "was asked")

    monkeypatch.setattr("luigi_tasks.targets.marker.FreshMarkerTarget.exists", ask)


def test_whoever_names_it_has_the_database_asked() -> None:
    with pytest.raises(DatabaseUnavailable):
        MetadataPipeline(ticker="AAPL", date=dt.date(2024, 3, 15)).is_done()


def test_what_its_group_has_just_found_to_be_due_is_not_asked_for() -> None:
    assert not MetadataPipeline(ticker="AAPL", date=dt.date(2024, 3, 15), due=True).is_done()


def test_that_it_is_due_makes_no_other_task_of_it() -> None:
    one, other = (MetadataPipeline(ticker="AAPL", date=dt.date(2024, 3, 15), due=due) for due in (False, True))

    assert one.task_id == other.task_id
    assert "due" not in other.to_str_params(only_significant=True)
