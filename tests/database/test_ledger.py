"""Markers, failures and runs."""

from __future__ import annotations

import datetime as dt

import pytest

from luigi_tasks.database.ledger import LONGEST_REASON, Ledger, Marker, Step
from luigi_tasks.errors import ConfigurationError

DAY = dt.date(2024, 1, 1)


def step(task_id: str, run_id: str = "run-1", ticker: str | None = "AAA") -> Step:
    return Step(task_id, "Family", run_id, ticker, DAY)


@pytest.fixture
def ledger(database_url: str) -> Ledger:
    return Ledger(database_url)


def test_what_has_a_marker_is_done(ledger: Ledger) -> None:
    ledger.mark(Marker(step("a"), 5))
    ledger.mark(Marker(step("b"), 6))

    assert ledger.done(["a", "b", "c"]) == {"a", "b"}
    assert ledger.done([]) == set()
    assert len(ledger.done(["a", *(str(number) for number in range(20_000))])) == 1


def test_a_marker_written_again_is_the_newer_one(ledger: Ledger) -> None:
    ledger.mark(Marker(step("a"), 5, {"x": 1}))
    ledger.mark(Marker(step("a", "run-2"), 6))
    ledger.time("a", 1.5)

    row = ledger.markers(["a"])["a"]
    assert (row["run_id"], row["rows"], row["detail"], row["seconds"]) == ("run-2", 6, {}, 1.5)


def test_failures_are_kept_one_after_another_and_cut_to_a_length(ledger: Ledger) -> None:
    ledger.fail(step("a"), "network", "first \0")
    ledger.fail(step("a"), "network", "x" * 10_000)
    ledger.fail(step("a", "run-2"), "network", "of another run")

    reasons = [failure["reason"] for failure in ledger.failures("run-1")]
    assert reasons == ["first \ufffd", "x" * LONGEST_REASON]


def test_a_run_is_known_by_what_it_did(ledger: Ledger) -> None:
    ledger.begin_run("run-1", "RunAll", {"date": "2024-01-01"})
    ledger.mark(Marker(step("a"), 1))
    ledger.fail(step("b", ticker="BBB"), "network", "x")
    ledger.fail(step("c", ticker=None), "network", "x")
    ledger.finish_run("run-1", "incomplete", {})

    assert ledger.latest_run_id() == "run-1"
    run = ledger.run("run-1")
    assert run is not None
    assert (run["outcome"], run["parameters"]) == ("incomplete", {"date": "2024-01-01"})
    assert run["finished_at"] >= run["started_at"]
    assert ledger.run("run-2") is None


def test_a_database_belongs_to_one_source(ledger: Ledger) -> None:
    ledger.claim_for("yahoo")
    ledger.claim_for("yahoo")

    with pytest.raises(ConfigurationError, match="this database holds bars from 'yahoo'"):
        ledger.claim_for("demo")
