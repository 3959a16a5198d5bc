"""What the ledger tells of tickers, steps and runs after each order of events that a run may leave behind."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import pytest

from luigi_tasks import YfinanceClient, bars
from luigi_tasks.database.ledger import Ledger, Marker, Step
from luigi_tasks.errors import DatabaseRefused, DatabaseUnavailable, SecuritiesMasterError
from tests.conftest import make_bars
from tests.database.statements import statements
from tests.workspace import free_port

DAY = dt.date(2024, 1, 1)


@pytest.fixture
def ledger(emptied_url: str) -> Ledger:
    return Ledger(emptied_url)


def step(run: int, family: str = "DownloadOhlcv", ticker: str | None = "AAA", day: dt.date = DAY) -> Step:
    return Step(f"{family}_{ticker}_{day}", family, f"run-{run}", ticker, day)


def fail(ledger: Ledger, *steps: Step) -> None:
    for one in steps:
        ledger.fail(one, "network", "no answer")


def mark(ledger: Ledger, *steps: Step) -> None:
    for one in steps:
        ledger.mark(Marker(one, 1))


# -- failed last


def failed(ledger: Ledger) -> bool:
    found = ledger.failed_last(["AAA"])
    assert found <= {"AAA"}
    return bool(found)


def test_a_ticker_of_which_nothing_is_known_has_not_failed(ledger: Ledger) -> None:
    assert not failed(ledger)


def test_a_ticker_that_failed_has_failed(ledger: Ledger) -> None:
    fail(ledger, step(1))

    assert failed(ledger)


def test_a_ticker_that_got_somewhere_has_not_failed(ledger: Ledger) -> None:
    mark(ledger, step(1))

    assert not failed(ledger)


def test_what_else_the_run_did_with_the_ticker_does_not_undo_its_failure(ledger: Ledger) -> None:
    mark(ledger, step(1, "RegisterSecurity"))
    fail(ledger, step(1))
    mark(ledger, step(1, "InsertMetadata"))

    assert failed(ledger)


def test_a_later_run_that_got_somewhere_undoes_it(ledger: Ledger) -> None:
    fail(ledger, step(1))
    mark(ledger, step(2))

    assert not failed(ledger)


def test_a_marker_that_a_later_run_writes_again_undoes_it(ledger: Ledger) -> None:
    mark(ledger, step(1, "InsertOhlcv"))
    fail(ledger, step(2))
    assert failed(ledger)

    mark(ledger, step(3, "InsertOhlcv"))

    assert not failed(ledger)


def test_a_run_before_does_not_undo_it(ledger: Ledger) -> None:
    mark(ledger, step(1))
    fail(ledger, step(2))

    assert failed(ledger)


def test_a_later_run_that_did_not_get_to_the_ticker_does_not_undo_it(ledger: Ledger) -> None:
    fail(ledger, step(1))
    ledger.begin_run("run-2", "RunAll", {})
    mark(ledger, step(2, ticker="BBB"), step(2, "GetTickers", ticker=None))
    fail(ledger, step(2, "GetTickers", ticker=None))
    ledger.finish_run("run-2", "complete", {})

    assert failed(ledger)


@pytest.mark.parametrize("first", ["RegisterSecurity", "DownloadOhlcv"])
def test_a_later_run_that_failed_as_well_has_failed_however_far_it_got(ledger: Ledger, first: str) -> None:
    fail(ledger, step(1))
    mark(ledger, step(2, first))
    fail(ledger, step(2, "InsertOhlcv"))

    assert failed(ledger)


def test_the_last_run_decides_after_any_number_of_them(ledger: Ledger) -> None:
    seen = []
    for run in range(1, 7):
        (mark if run % 3 == 0 else fail)(ledger, step(run, day=DAY + dt.timedelta(days=run)))
        seen.append(failed(ledger))

    assert seen == [True, True, False, True, True, False]


def test_runs_for_an_earlier_day_count_by_when_they_ran(ledger: Ledger) -> None:
    fail(ledger, step(1, day=DAY))
    mark(ledger, step(2, day=DAY - dt.timedelta(days=100)))

    assert not failed(ledger)


def test_several_failures_are_undone_by_one_later_run(ledger: Ledger) -> None:
    fail(ledger, step(1), step(1), step(1, "InsertMetadata"), step(2))
    mark(ledger, step(3, "InsertMetadata"))

    assert not failed(ledger)


def test_each_ticker_is_judged_by_itself_and_only_those_asked_about(ledger: Ledger, emptied_url: str) -> None:
    fail(ledger, *(step(1, ticker=ticker) for ticker in ("AAA", "BBB", "CCC", "DDD", None)))
    mark(ledger, step(2, ticker="BBB"), step(2, ticker="EEE"))

    many = ["AAA", "BBB", "CCC", "EEE", *(f"T{number}" for number in range(5_000))]
    assert ledger.failed_last(many) == {"AAA", "CCC"}
    assert ledger.failed_last([]) == set()
    assert statements(emptied_url, lambda: ledger.failed_last(many)) == 1


# -- with bars


def test_with_bars_are_those_that_have_some(ledger: Ledger, emptied_url: str) -> None:
    client = YfinanceClient(emptied_url)
    for seed, ticker in enumerate(("AAA", "BBB", "CCC", "DDD")):
        client.insert_security(ticker, [])
        if ticker != "BBB":
            client.insert_ohlcv(ticker, make_bars(days=2, seed=seed))
    client.insert_metadata("BBB", {})
    mark(ledger, step(1, "InsertOhlcv", "BBB"))

    many = ["AAA", "BBB", "CCC", "NEVER", *(f"T{number}" for number in range(5_000))]
    assert ledger.with_bars(many) == {"AAA", "CCC"}
    assert ledger.with_bars([]) == set()
    assert statements(emptied_url, lambda: ledger.with_bars(many)) == 1
    client.delete_security("AAA")
    assert ledger.with_bars(many) == {"CCC"}


def test_exchanges_are_those_of_all_securities_each_once(ledger: Ledger, emptied_url: str) -> None:
    client = YfinanceClient(emptied_url)
    assert ledger.exchanges() == []

    for seed, exchange in enumerate(("NMS", "GER", "NMS", None)):
        frame = make_bars(days=2, seed=seed)
        frame.attrs = {bars.FACTS: {"exchange": exchange}}
        client.insert_security(f"T{seed}", [])
        client.insert_ohlcv(f"T{seed}", frame)

    assert sorted(ledger.exchanges()) == ["GER", "NMS"]


# -- markers


def test_a_marker_is_kept_whole(ledger: Ledger) -> None:
    detail = {"words": "a\0b", "numbers": [1, 2.5, None], "nested": {"yes": True}}
    ledger.mark(Marker(step(1), 2**40, detail), seconds=0.25)

    row = ledger.markers([step(1).task_id])[step(1).task_id]

    assert row.pop("done_at").utcoffset() == dt.timedelta(0)
    assert row == {
        "task_id": "DownloadOhlcv_AAA_2024-01-01",
        "task_family": "DownloadOhlcv",
        "ticker": "AAA",
        "as_of": DAY,
        "run_id": "run-1",
        "rows": 2**40,
        "detail": detail | {"words": "a\ufffdb"},
        "seconds": 0.25,
    }


def test_a_step_of_no_ticker_and_no_day_has_a_marker_too(ledger: Ledger) -> None:
    ledger.mark(Marker(Step("Universe", "GetTickers", "run-1"), 3))

    row = ledger.markers(["Universe"])["Universe"]
    assert (row["ticker"], row["as_of"], row["seconds"], row["detail"]) == (None, None, None, {})


def test_only_markers_that_are_asked_for_are_told_in_one_query(ledger: Ledger, emptied_url: str) -> None:
    steps = [step(1, family) for family in ("RegisterSecurity", "DownloadOhlcv", "InsertOhlcv")]
    mark(ledger, *steps)

    many = [steps[0].task_id, steps[2].task_id, *map(str, range(5_000))]
    assert set(ledger.markers(many)) == {steps[0].task_id, steps[2].task_id}
    assert ledger.markers([]) == {}
    assert statements(emptied_url, lambda: ledger.markers(many)) == 1
    assert statements(emptied_url, lambda: ledger.done(many)) == 1


def test_a_marker_written_again_is_of_the_time_it_was_written_again(ledger: Ledger) -> None:
    task_id = step(1).task_id
    ledger.mark(Marker(step(1), 5), seconds=1.0)
    first = ledger.markers([task_id])[task_id]

    ledger.mark(Marker(step(2), 5))

    again = ledger.markers([task_id])[task_id]
    assert again["done_at"] > first["done_at"]
    assert again["seconds"] is None, "how long it took this time is not known yet"


def test_a_time_is_added_to_its_own_marker_and_makes_none(ledger: Ledger) -> None:
    one, other = step(1), step(1, ticker="BBB")
    mark(ledger, one, other)
    before = ledger.markers([one.task_id, other.task_id])

    ledger.time(one.task_id, 1.5)
    ledger.time("NEVER", 2.5)

    before[one.task_id]["seconds"] = 1.5
    assert ledger.markers([one.task_id, other.task_id, "NEVER"]) == before


# -- failures and runs


def test_a_failure_is_kept_whole_and_in_order(ledger: Ledger) -> None:
    ledger.fail(step(1), "throttled", "first")
    ledger.fail(Step("Universe", "GetTickers", "run-1"), "source_unreachable", "second")
    ledger.fail(step(2), "network", "of another run")

    first, second = ledger.failures("run-1")

    assert first.pop("failed_at") < second["failed_at"]
    assert first.pop("failure_id") < second["failure_id"]
    assert first == {
        "run_id": "run-1",
        "task_id": "DownloadOhlcv_AAA_2024-01-01",
        "task_family": "DownloadOhlcv",
        "ticker": "AAA",
        "as_of": DAY,
        "kind": "throttled",
        "reason": "first",
    }
    assert (second["ticker"], second["as_of"], second["kind"]) == (None, None, "source_unreachable")
    assert ledger.failures("run-3") == []


def test_a_step_that_failed_is_not_done_and_one_that_was_done_stays_so(ledger: Ledger) -> None:
    fail(ledger, step(1))
    assert ledger.done([step(1).task_id]) == set()

    mark(ledger, step(1))
    fail(ledger, step(2))

    assert ledger.done([step(1).task_id]) == {step(1).task_id}


def test_the_latest_run_is_the_one_that_started_last(ledger: Ledger) -> None:
    assert ledger.latest_run_id() is None

    for run_id in ("run-2", "run-1"):
        ledger.begin_run(run_id, "RunAll", {})
    ledger.finish_run("run-2", "complete", {})

    assert ledger.latest_run_id() == "run-1"


@pytest.mark.parametrize("outcome", ["complete", "incomplete", "interrupted"])
def test_a_run_ends_as_it_is_told_and_no_other_does(ledger: Ledger, outcome: str) -> None:
    for run_id in ("run-1", "run-2"):
        ledger.begin_run(run_id, "RunAll", {"words": "a\0b", "date": str(DAY)})

    ledger.finish_run("run-1", outcome, {})
    ledger.finish_run("run-3", outcome, {})

    ended, running = ledger.run("run-1"), ledger.run("run-2")
    assert ended is not None
    assert running is not None
    assert ended["outcome"] == outcome
    assert ended["parameters"] == {"words": "a\ufffdb", "date": "2024-01-01"}
    assert (running["outcome"], running["finished_at"]) == (None, None)
    assert ledger.run("run-3") is None


# -- the database


def test_a_database_without_tables_answers(empty_database_url: str) -> None:
    ledger = Ledger(empty_database_url)

    ledger.answers()

    with pytest.raises(DatabaseRefused, match="task_markers"):
        ledger.done(["a"])


def test_migrating_again_changes_nothing(ledger: Ledger) -> None:
    mark(ledger, step(1))
    before = ledger.markers([step(1).task_id])

    ledger.migrate()

    assert ledger.markers([step(1).task_id]) == before


CALLS: dict[str, Callable[[Ledger], object]] = {
    "answers": Ledger.answers,
    "migrate": Ledger.migrate,
    "claim_for": lambda ledger: ledger.claim_for("yahoo"),
    "done": lambda ledger: ledger.done([]),
    "failed_last": lambda ledger: ledger.failed_last([]),
    "with_bars": lambda ledger: ledger.with_bars([]),
    "exchanges": Ledger.exchanges,
    "mark": lambda ledger: mark(ledger, step(1)),
    "time": lambda ledger: ledger.time("a", 1.0),
    "fail": lambda ledger: fail(ledger, step(1)),
    "begin_run": lambda ledger: ledger.begin_run("run-1", "RunAll", {}),
    "finish_run": lambda ledger: ledger.finish_run("run-1", "complete", {}),
    "whole": lambda ledger: ledger.whole([]),
    "of_family": lambda ledger: ledger.of_family("run-1", "InsertOhlcv"),
    "steps_of": lambda ledger: ledger.steps_of("run-1"),
    "still_failed": lambda ledger: ledger.still_failed("run-1"),
    "requests_since": lambda ledger: ledger.requests_since({}),
    "runs_before": lambda ledger: ledger.runs_before("run-1", 1),
    "run": lambda ledger: ledger.run("run-1"),
    "latest_run_id": Ledger.latest_run_id,
    "markers": lambda ledger: ledger.markers([]),
    "failures": lambda ledger: ledger.failures("run-1"),
}


def test_every_question_to_a_database_that_does_not_answer_says_so() -> None:
    assert set(CALLS) == {name for name, value in vars(Ledger).items() if callable(value) and name[0] != "_"}
    ledger = Ledger(f"postgresql://me:s3cret@127.0.0.1:{free_port()}/db")
    for name, call in CALLS.items():
        with pytest.raises(SecuritiesMasterError, match="does not answer") as raised:
            call(ledger)
        assert isinstance(raised.value, DatabaseUnavailable), name
        assert "s3cret" not in str(raised.value)
