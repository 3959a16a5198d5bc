"""A marker in the database as a target."""

from __future__ import annotations

import datetime as dt

from luigi_tasks import YfinanceClient
from luigi_tasks.database.client import Window
from luigi_tasks.database.ledger import Ledger, Marker, Step
from luigi_tasks.schedule import Span
from luigi_tasks.targets.marker import HistoryMarkerTarget, MarkerTarget
from tests.conftest import make_bars


def test_a_marker_is_there_once_it_is_committed_and_only_under_its_own_id(database_url: str) -> None:
    target, other = (MarkerTarget(database_url, f"Some_task_{n}") for n in (1, 2))
    assert not target.exists()

    Ledger(database_url).mark(Marker(Step("Some_task_1", "Some", "run-1"), 0))

    assert target.exists()
    assert not other.exists()


def test_a_marker_of_mid_session_does_not_hide_the_close(database_url: str) -> None:
    day, ends = dt.date(2024, 3, 15), dt.datetime(2024, 3, 15, 20, tzinfo=dt.UTC)
    client, window = YfinanceClient(database_url), Window(Span(day, day, whole=True), day)
    frame = make_bars(days=1, last="2024-03-14")
    frame.attrs["security"] = {"unfinished": str(day), "open_until": ends.isoformat()}
    client.insert_security("AAA", [])
    client.insert_ohlcv("AAA", frame, window=window, marker=Marker(Step("Some_task_1", "Some", "run-1"), 1))

    def target(now: dt.datetime) -> HistoryMarkerTarget:
        return HistoryMarkerTarget(database_url, "Some_task_1", "AAA", day, day, now)

    assert target(ends).exists()
    assert not target(ends + dt.timedelta(seconds=1)).exists()


def test_a_marker_shows_its_task_and_not_the_databases_url(database_url: str) -> None:
    assert repr(MarkerTarget("postgresql://me:s3cret@host/db", "Some_task_1")) == "MarkerTarget(Some_task_1)"
