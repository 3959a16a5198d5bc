"""Who was a member on a day: what the last run up to that day listed, whatever is run, again, late or at once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luigi_tasks import YfinanceClient
from luigi_tasks.database.engine import engine_for
from luigi_tasks.database.ledger import Ledger, Marker, Step
from luigi_tasks.database.memberships import Memberships, enlist
from luigi_tasks.database.schema import metadata
from tests.conftest import make_bars

FIRST = dt.date(2024, 3, 1)
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


def day(number: int) -> dt.date:
    return FIRST + dt.timedelta(days=number)


def marker(**detail: Any) -> Marker:
    return Marker(Step("RecordUniverse_1", "RecordUniverse", "run-1", None, FIRST), 1, detail)


def record(database_url: str, number: int, *tickers: str, whole: bool = True, **renamed: str) -> None:
    """What a run as of day `number` does that lists these in the grouping "one"."""
    listed, wholes = {ticker: ["one"] for ticker in tickers}, ["one"] if whole else []
    Memberships(database_url).record(listed, wholes, renamed, day(number), marker())


def rows(database_url: str) -> list[Any]:
    with engine_for(database_url).begin() as connection:
        return [tuple(row) for row in connection.execute(sa.text("SELECT * FROM security_listings ORDER BY 1, 2, 3"))]


def members(database_url: str, number: int, grouping: str = "one") -> list[str]:
    return YfinanceClient(database_url).get_tickers([grouping], on=day(number))


def successors(database_url: str) -> dict[str, str]:
    query = sa.text("SELECT ticker, successor FROM securities WHERE successor IS NOT NULL")
    with engine_for(database_url).begin() as connection:
        return {row.ticker: row.successor for row in connection.execute(query)}


def test_a_ticker_that_leaves_is_kept_and_its_interval_is_closed(emptied_url: str) -> None:
    record(emptied_url, 1, "A", "B")

    record(emptied_url, 3, "B", "C")

    assert rows(emptied_url) == [
        ("A", "one", day(1), day(3)),
        ("B", "one", day(1), None),
        ("C", "one", day(3), None),
    ]
    assert [members(emptied_url, number) for number in range(5)] == [[], ["A", "B"], ["A", "B"], ["B", "C"], ["B", "C"]]
    client = YfinanceClient(emptied_url)
    assert client.get_tickers(["one"]) == ["B", "C"]
    assert client.get_tickers() == ["A", "B", "C"]
    assert client.get_tickers(on=day(2)) == ["A", "B"]
    assert client.get_tickers([], on=day(2)) == []


def test_a_ticker_that_comes_back_opens_a_new_interval(emptied_url: str) -> None:
    for number, tickers in ((1, ["A", "B"]), (2, ["B"]), (5, ["A", "B"])):
        record(emptied_url, number, *tickers)

    assert rows(emptied_url)[:2] == [("A", "one", day(1), day(2)), ("A", "one", day(5), None)]


def test_the_last_list_of_a_day_is_the_days_list(emptied_url: str) -> None:
    record(emptied_url, 1, "A", "B")
    before = rows(emptied_url)

    record(emptied_url, 2, "B", "C")
    record(emptied_url, 2, "A", "B")

    assert rows(emptied_url) == before, "what was opened and closed on one day never was"


def test_only_groupings_that_were_seen_as_a_whole_are_closed(emptied_url: str) -> None:
    names, store = ["one", "two"], Memberships(emptied_url)
    store.record({"A": names, "B": names}, names, {}, day(1), marker())

    store.record({"A": ["one"]}, ["one"], {}, day(2), marker())

    assert members(emptied_url, 2) == ["A"]
    assert members(emptied_url, 2, "two") == ["A", "B"]


def test_a_grouping_that_lists_nothing_any_more_is_emptied(emptied_url: str) -> None:
    record(emptied_url, 1, "A")

    record(emptied_url, 2)

    assert rows(emptied_url) == [("A", "one", day(1), day(2))]


@pytest.mark.parametrize("whole", [True, False])
def test_an_older_date_changes_nothing_of_a_grouping_and_all_of_another(emptied_url: str, whole: bool) -> None:
    record(emptied_url, 5, "A", whole=whole)
    before = rows(emptied_url)
    client = YfinanceClient(emptied_url)

    Memberships(emptied_url).record({"B": ["one"], "C": ["two"]}, ["one", "two"], {}, day(3), marker())
    client.insert_security("D", ["one"], as_of=day(4))

    assert [row for row in rows(emptied_url) if row[1] == "one"] == before
    assert [row for row in rows(emptied_url) if row[1] == "two"] == [("C", "two", day(3), None)]
    assert client.get_tickers() == ["A", "B", "C", "D"]


def test_a_date_counts_even_if_its_list_was_the_one_before(emptied_url: str) -> None:
    record(emptied_url, 1, "A")
    record(emptied_url, 5, "A")

    record(emptied_url, 3, "A", "B")

    assert members(emptied_url, 5) == ["A"]


def test_a_security_is_a_member_from_the_date_that_is_given(emptied_url: str) -> None:
    client = YfinanceClient(emptied_url)

    client.insert_security("A", ["one"], as_of=day(1))
    again = client.insert_security("A", ["one", "two"], as_of=day(2))

    assert again["rows_affected"] == 1
    assert rows(emptied_url) == [("A", "one", day(1), None), ("A", "two", day(2), None)]


@pytest.fixture
def emptied(emptied_url: str) -> Callable[[], str]:
    """Empties the database once more, for the next example."""

    def empty() -> str:
        with engine_for(emptied_url).begin() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(sa.delete(table))
        return emptied_url

    return empty


TICKERS = st.sets(st.sampled_from("ABCD"))
RUNS = st.lists(st.tuples(st.integers(min_value=0, max_value=7), TICKERS, st.booleans()), min_size=1, max_size=8)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(RUNS)
def test_members_on_a_day_are_those_of_the_last_run_up_to_it(
    emptied: Callable[[], str], runs: list[tuple[int, set[str], bool]]
) -> None:
    database_url, known = emptied(), dict[int, set[str]]()
    for number, tickers, whole in sorted(runs, key=lambda run: run[0]):
        so_far = known[max(known)] if known else set()
        record(database_url, number, *tickers, whole=whole)
        # A part of a list that names nobody says nothing, not even of the date.
        if whole or tickers:
            known[number] = tickers if whole else so_far | tickers

    for number in range(9):
        past = [entry for entry in known if entry <= number]
        assert members(database_url, number) == sorted(known[max(past)] if past else [])
    now = sorted(known[max(known)]) if known else []
    assert YfinanceClient(database_url).get_tickers(["one"]) == now


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(RUNS)
def test_a_run_as_of_an_older_date_changes_nothing(
    emptied: Callable[[], str], runs: list[tuple[int, set[str], bool]]
) -> None:
    database_url, newest = emptied(), -1
    for number, tickers, whole in runs:
        before = rows(database_url)
        record(database_url, number, *tickers, whole=whole)
        if number < newest:
            assert rows(database_url) == before
        if whole or tickers:
            newest = max(number, newest)


def test_the_marker_comes_with_the_memberships(emptied_url: str) -> None:
    record(emptied_url, 1, "A")
    before, store = rows(emptied_url), Memberships(emptied_url)
    with engine_for(emptied_url).begin() as connection:
        connection.execute(sa.text("DELETE FROM task_markers"))

    with pytest.raises(sa.exc.StatementError, match="not JSON serializable"):
        store.record({"B": ["one"]}, ["one"], {}, day(2), marker(x=object()))

    assert rows(emptied_url) == before
    assert Ledger(emptied_url).done(["RecordUniverse_1"]) == set()


def test_a_renamed_ticker_is_linked_while_it_is_called_renamed(emptied_url: str) -> None:
    YfinanceClient(emptied_url).insert_security("FB", ["one"], as_of=day(1))

    record(emptied_url, 2, "META", FB="META", GONE="NEW")
    assert successors(emptied_url) == {"FB": "META"}
    assert rows(emptied_url) == [("FB", "one", day(1), day(2)), ("META", "one", day(2), None)]
    record(emptied_url, 2, "META", FB="MVRS", GONE="NEW")
    assert successors(emptied_url) == {"FB": "MVRS"}
    record(emptied_url, 2, "META")
    assert successors(emptied_url) == {}


def test_bars_under_the_old_name_do_not_keep_the_new_one_from_its_own(emptied_url: str) -> None:
    client, frame = YfinanceClient(emptied_url), make_bars()
    client.insert_security("FB", ["one"], as_of=day(1))
    client.insert_ohlcv("FB", frame)

    record(emptied_url, 2, "META", FB="META")
    client.insert_ohlcv("META", frame)

    with engine_for(emptied_url).begin() as connection:
        counted = connection.execute(sa.text("SELECT count(*) FROM ohlcv GROUP BY security_id")).scalars().all()
    assert counted == [len(frame)] * 2


def test_what_is_recorded_holds_until_another_list_is_recorded(emptied_url: str) -> None:
    store = Memberships(emptied_url)
    morning = {"A": ["one"], "B": ["one"]}
    assert not store.hold(morning, ["one"], {}, day(1))
    record(emptied_url, 1, "A", "B")
    assert store.hold(morning, ["one"], {}, day(1))

    record(emptied_url, 1, "A")

    assert not store.hold(morning, ["one"], {}, day(1)), "B has left"
    assert not store.hold({}, ["one"], {}, day(1)), "A is more than this list"
    assert store.hold({"A": ["one"]}, [], {}, day(1))
    assert not store.hold({"A": ["one"]}, ["one"], {"A": "B"}, day(1)), "A is not linked"
    record(emptied_url, 2, "C")
    assert store.hold(morning, ["one"], {}, day(1)), "of an older date, nothing can be recorded any more"


# -- at the same time


def while_uncommitted(
    database_url: str,
    listed: Mapping[str, Collection[str]],
    as_of: dt.date,
    whole: Collection[str],
    second: Callable[[], object],
) -> None:
    """Run `second` while a transaction that has enlisted these is open; commit once `second` waits, or is done."""
    engine = engine_for(database_url)
    with ThreadPoolExecutor(1) as thread:
        with engine.begin() as connection:
            enlist(connection, listed, as_of, whole)
            future = thread.submit(second)
            with engine.connect() as onlooker:
                while not future.done() and not onlooker.scalar(sa.text(WAITING)):
                    onlooker.rollback()
        future.result()


def test_a_closing_waits_for_a_registration_and_sees_it(emptied_url: str) -> None:
    record(emptied_url, 1, "A")
    YfinanceClient(emptied_url).insert_security("B", [])

    while_uncommitted(emptied_url, {"B": ["one"]}, day(2), [], lambda: record(emptied_url, 2, "A"))

    assert rows(emptied_url) == [("A", "one", day(1), None)]


def test_a_registration_waits_for_a_closing_and_is_too_late_for_an_older_date(emptied_url: str) -> None:
    record(emptied_url, 1, "A", "B")
    client = YfinanceClient(emptied_url)

    def register() -> None:
        client.insert_security("B", ["one"], as_of=day(2))

    while_uncommitted(emptied_url, {"A": ["one"]}, day(3), ["one"], register)

    assert rows(emptied_url) == [("A", "one", day(1), None), ("B", "one", day(1), day(3))]


def register_or_record(database_url: str, number: int) -> None:
    client, store = YfinanceClient(database_url), Memberships(database_url)
    names = ["one", "two", "three"]
    for turn in range(5):
        if number % 4 == 0:
            ordered = sorted("ABCDE", reverse=bool(number % 8))
            listed = dict.fromkeys(ordered, names)
            store.record(listed, names, {"X": "A", "Y": "B"}, day(turn), marker())
        else:
            client.insert_security("A", names[:: -1 if number % 2 else 1], as_of=day(turn))


def test_twenty_processes_that_register_and_close_at_once_neither_deadlock_nor_collide(emptied_url: str) -> None:
    for ticker in "XY":
        YfinanceClient(emptied_url).insert_security(ticker, ["one"], as_of=day(0))

    with ProcessPoolExecutor(20, mp_context=get_context("fork")) as processes:
        for done in [processes.submit(register_or_record, emptied_url, number) for number in range(20)]:
            done.result()

    open_ones = [row[:3] for row in rows(emptied_url) if row[3] is None]
    assert [row[:2] for row in open_ones] == [(ticker, name) for ticker in "ABCDE" for name in ("one", "three", "two")]
    assert successors(emptied_url) == {"X": "A", "Y": "B"}
