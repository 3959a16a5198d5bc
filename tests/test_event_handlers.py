"""What Luigi's events bring about beside the ledger: what the run's monitor hears of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import luigi
import pytest
from luigi.scheduler import Scheduler
from luigi.worker import Worker

from luigi_tasks import event_handlers
from luigi_tasks.errors import DatabaseRefused
from luigi_tasks.run import messages
from luigi_tasks.tasks.metadata_pipeline import MetadataPipeline
from luigi_tasks.tasks.record_universe import RecordUniverse

DAY = dt.date(2024, 3, 15)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """(family, kind) of what would be put on record."""
    found: list[tuple[str, str]] = []
    monkeypatch.setattr(event_handlers, "_record", lambda task, kind, reason: found.append((task.task_family, kind)))
    before = messages._Pipe.ends
    messages.open_pipe()
    yield found
    messages._Pipe.ends = before


class CannotTell(RecordUniverse):
    def is_done(self) -> bool:
        raise DatabaseRefused("task markers", "no")


class CannotSay(RecordUniverse):
    def is_done(self) -> bool:
        return False

    def requires(self) -> Any:
        raise DatabaseRefused("task markers", "no")


class CannotTellOfTicker(MetadataPipeline):
    def is_done(self) -> bool:
        raise DatabaseRefused("task markers", "no")


def schedule(task: luigi.Task) -> list[dict[str, Any]]:
    """What the monitor hears when Luigi is to run it."""
    assert not Worker(scheduler=Scheduler()).add(task)
    return list(messages.receive(5))


@pytest.mark.parametrize("family", [CannotTell, CannotSay])
def test_a_task_that_luigi_cannot_even_ask_about_ends_a_run_that_waits_for_it(
    family: type[RecordUniverse], recorded: list[tuple[str, str]]
) -> None:
    [heard] = schedule(family(universe="x", date=DAY))

    assert heard["kind"] == "failed"
    assert recorded == [(family.__name__, "database_refused")]


def test_of_a_ticker_it_is_a_failed_one(recorded: list[tuple[str, str]]) -> None:
    [heard] = schedule(CannotTellOfTicker(ticker="AAPL", date=DAY))

    assert heard == {"kind": "settled", "of": "metadata", "done": False}
    assert recorded == [("CannotTellOfTicker", "database_refused")]
