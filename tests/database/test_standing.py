"""When a ticker counts as gone, how long it rests then, and when its company data is due again."""

from __future__ import annotations

import datetime as dt
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from luigi_tasks import YfinanceClient
from luigi_tasks.database.client import Window
from luigi_tasks.database.engine import engine_for
from luigi_tasks.database.standing import Retired, Standing, is_fresh
from luigi_tasks.errors import NetworkFailure
from luigi_tasks.schedule import Span, due
from tests.conftest import make_bars
from tests.database.statements import statements

FORK = get_context("fork")
PROCESSES = 4
DAY = dt.date(2024, 3, 15)
WEEK = dt.timedelta(days=7)


class Witnesses:
    """Well-known tickers that answer or do not, one word a question; a question more than words is an error."""

    def __init__(self, *answers: bool) -> None:
        self._answers = iter(answers)

    def __call__(self) -> bool:
        return next(self._answers)


NOT_ASKED = Witnesses()


def ever(answer: bool) -> Callable[[], bool]:
    return lambda: answer


def days(count: int, first: dt.date = DAY) -> list[dt.date]:
    return [first + dt.timedelta(days=number) for number in range(count)]


@pytest.fixture
def standing(emptied_url: str) -> Standing:
    return Standing(emptied_url)


@pytest.fixture
def client(emptied_url: str) -> YfinanceClient:
    return YfinanceClient(emptied_url)


def query(url: str, statement: str) -> list[Any]:
    with engine_for(url).begin() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement))]


def absences(url: str) -> list[Any]:
    return query(url, "SELECT ticker, day, confirmed FROM absences ORDER BY ticker, day")


# -- what counts


def test_an_absence_counts_if_the_witnesses_answer(standing: Standing, emptied_url: str) -> None:
    assert standing.absent("AAA", DAY, Witnesses(True)) is True

    assert absences(emptied_url) == [("AAA", DAY, True)]
    assert set(standing.retired(["AAA"], 1)) == {"AAA"}


def test_an_absence_does_not_count_if_the_witnesses_do_not_answer(standing: Standing, emptied_url: str) -> None:
    assert standing.absent("AAA", DAY, Witnesses(False)) is False

    assert absences(emptied_url) == [("AAA", DAY, False)]
    assert standing.retired(["AAA"], 1) == {}


def test_witnesses_that_answered_are_not_asked_again_that_day(standing: Standing) -> None:
    assert standing.absent("AAA", DAY, Witnesses(True)) is True
    assert standing.absent("BBB", DAY, NOT_ASKED) is True
    assert standing.absent("AAA", DAY, NOT_ASKED) is True


def test_witnesses_are_asked_again_the_next_day_and_for_a_day_before(standing: Standing, emptied_url: str) -> None:
    standing.absent("AAA", DAY, Witnesses(True))

    assert standing.absent("AAA", DAY + dt.timedelta(days=1), Witnesses(False)) is False
    assert standing.absent("AAA", DAY - dt.timedelta(days=1), Witnesses(False)) is False
    assert [confirmed for _, _, confirmed in absences(emptied_url)] == [False, True, False]


def test_witnesses_that_did_not_answer_are_asked_again(standing: Standing, emptied_url: str) -> None:
    witnesses = Witnesses(False, False, True)

    assert [standing.absent(ticker, DAY, witnesses) for ticker in ("AAA", "AAA", "BBB", "CCC")] == [
        False,
        False,
        True,
        True,
    ]
    assert absences(emptied_url) == [("AAA", DAY, False), ("BBB", DAY, True), ("CCC", DAY, True)]


def test_an_absence_may_be_confirmed_later_that_day(standing: Standing, emptied_url: str) -> None:
    standing.absent("AAA", DAY, Witnesses(False))

    assert standing.absent("AAA", DAY, Witnesses(True)) is True
    assert absences(emptied_url) == [("AAA", DAY, True)]


def test_a_ticker_that_is_absent_twice_a_day_is_absent_once(standing: Standing) -> None:
    for _ in range(2):
        standing.absent("AAA", DAY, ever(True))

    assert standing.retired(["AAA"], 1)["AAA"].days == 1
    assert standing.retired(["AAA"], 2) == {}


@pytest.mark.parametrize("error", [NetworkFailure("WWW", "no answer"), KeyboardInterrupt()], ids=lambda one: repr(one))
def test_an_error_while_witnesses_are_asked_is_told_and_nothing_is_stored(
    standing: Standing, emptied_url: str, error: BaseException
) -> None:
    def fail() -> bool:
        raise error

    standing.absent("BBB", DAY, Witnesses(False))
    before = absences(emptied_url)

    with pytest.raises(type(error)) as raised:
        standing.absent("AAA", DAY, fail)

    assert raised.value is error
    assert absences(emptied_url) == before
    assert standing.absent("AAA", DAY, Witnesses(True)) is True, "nor does it keep others from asking"


def test_bars_that_come_end_it_for_their_ticker_only(
    standing: Standing, client: YfinanceClient, emptied_url: str
) -> None:
    client.insert_security("AAA", [])
    for ticker in ("AAA", "BBB"):
        for day in days(3):
            standing.absent(ticker, day, ever(True))

    client.insert_ohlcv("AAA", make_bars(days=3))

    assert set(standing.retired(["AAA", "BBB"], 3)) == {"BBB"}
    standing.absent("AAA", DAY + WEEK, ever(True))
    assert standing.retired(["AAA"], 2) == {}, "the days before do not count again"


# -- several processes at once


def asked_from(url: str, log: Path, ticker: str, answer: bool) -> bool:
    """Asks in this process; the first witness is not done before all others wait, or one of them asks as well."""

    def witnesses_answer() -> bool:
        with log.open("a") as file:
            file.write("begin\n")
        if lines(log) == ["begin"]:
            until(lambda: waiting(url) == PROCESSES - 1 or len(lines(log)) > 1)
        with log.open("a") as file:
            file.write("end\n")
        return answer

    return Standing(url).absent(ticker, DAY, witnesses_answer)


def lines(log: Path) -> list[str]:
    return log.read_text().splitlines()


def waiting(url: str) -> int:
    """How many wait for a lock."""
    where = "datname = current_database() AND wait_event_type = 'Lock'"
    return int(query(url, f"SELECT count(*) FROM pg_stat_activity WHERE {where}")[0][0])


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("what the test waits for does not happen")


@pytest.mark.parametrize("tickers", [["AAA"] * PROCESSES, ["AAA", "BBB", "CCC", "DDD"]], ids=["one", "four"])
@pytest.mark.parametrize("answer", [True, False], ids=["answer", "do not answer"])
def test_one_process_at_a_time_asks_witnesses_and_once_a_day(
    emptied_url: str, tmp_path: Path, tickers: list[str], answer: bool
) -> None:
    log = tmp_path / "log"
    with ProcessPoolExecutor(PROCESSES, mp_context=FORK) as processes:
        asked = [processes.submit(asked_from, emptied_url, log, ticker, answer) for ticker in tickers]
        counted = [one.result() for one in asked]

    assert counted == [answer] * PROCESSES
    assert lines(log) == ["begin", "end"] * (1 if answer else PROCESSES)
    assert absences(emptied_url) == [(ticker, DAY, answer) for ticker in sorted(set(tickers))]


def ask_and_never_end(url: str, asking: Event) -> None:
    def witnesses_answer() -> bool:
        asking.set()
        signal.pause()
        return True

    Standing(url).absent("AAA", DAY, witnesses_answer)


def test_a_process_that_dies_while_it_asks_keeps_nobody_waiting(standing: Standing, emptied_url: str) -> None:
    asking = FORK.Event()
    process = FORK.Process(target=ask_and_never_end, args=(emptied_url, asking))
    process.start()
    assert asking.wait(timeout=30)
    assert process.pid is not None

    os.kill(process.pid, signal.SIGKILL)
    process.join()

    assert standing.absent("BBB", DAY, Witnesses(True)) is True
    assert absences(emptied_url) == [("BBB", DAY, True)]


# -- retired


def test_it_is_retired_after_so_many_days_and_asked_for_again_after_ever_longer_rests(standing: Standing) -> None:
    seen, rests = [], []
    for day in days(9):
        standing.absent("AAA", day, ever(True))
        found = standing.retired(["AAA"], 4)
        seen.append(len(found))
        for entry in found.values():
            assert (entry.ticker, entry.last) == ("AAA", day)
            rests.append((entry.days, (entry.next - day).days))

    assert seen == [0, 0, 0, 1, 1, 1, 1, 1, 1]
    assert rests == [(4, 7), (5, 14), (6, 28), (7, 56), (8, 90), (9, 90)]


def test_days_count_in_any_order_and_with_gaps_and_the_rest_begins_with_the_last(standing: Standing) -> None:
    for day in (DAY, DAY + 20 * WEEK, DAY + 3 * WEEK):
        standing.absent("AAA", day, ever(True))

    assert standing.retired(["AAA"], 3) == {"AAA": Retired("AAA", 3, DAY + 20 * WEEK, DAY + 21 * WEEK)}


def test_days_without_witnesses_neither_count_nor_prolong_the_rest(standing: Standing) -> None:
    answers = [True, False, True, False, False]
    for day, answer in zip(days(5), answers, strict=True):
        standing.absent("AAA", day, ever(answer))

    last = DAY + dt.timedelta(days=2)
    assert standing.retired(["AAA"], 3) == {}
    assert standing.retired(["AAA"], 2) == {"AAA": Retired("AAA", 2, last, last + WEEK)}


def test_only_tickers_that_are_asked_about_are_told_in_one_query(standing: Standing, emptied_url: str) -> None:
    for ticker in ("AAA", "BBB", "CCC"):
        standing.absent(ticker, DAY, ever(True))

    many = ["AAA", "CCC", "NEVER", *(f"T{number}" for number in range(5_000))]
    assert set(standing.retired(many, 1)) == {"AAA", "CCC"}
    assert standing.retired([], 1) == {}
    assert statements(emptied_url, lambda: standing.retired(many, 1)) == 1


# -- stored history


def test_a_history_is_stored_from_a_day_on_and_as_of_a_date(
    standing: Standing, client: YfinanceClient, emptied_url: str
) -> None:
    one_day = dt.timedelta(days=1)
    start = DAY - 20 * WEEK
    for ticker in ("AAA", "BBB", "CCC", "DDD"):
        client.insert_security(ticker, [])
    for seed, ticker in enumerate(("AAA", "BBB", "CCC")):
        window = None if ticker == "CCC" else Window(Span(start, DAY, whole=True), DAY)
        client.insert_ohlcv(ticker, make_bars(days=5, seed=seed), window=window)

    many = ["AAA", "CCC", "DDD", "NEVER", *(f"T{number}" for number in range(5_000))]
    assert standing.with_history(many, start, DAY) == {"AAA"}
    assert standing.with_history(many, start + one_day, DAY - one_day) == {"AAA"}
    assert standing.with_history(many, start - one_day, DAY) == set()
    assert standing.with_history(many, start, DAY + one_day) == set()
    assert standing.with_history([], start, DAY) == set()
    assert statements(emptied_url, lambda: standing.with_history(many, start, DAY)) == 1


def test_a_session_that_was_not_over_is_to_be_had_once_it_is(standing: Standing, client: YfinanceClient) -> None:
    start, ends = DAY - WEEK, dt.datetime(2024, 3, 15, 20, tzinfo=dt.UTC)
    client.insert_security("AAA", [])
    frame = make_bars(days=5, last="2024-03-14")
    frame.attrs["security"] = {"unfinished": str(DAY), "open_until": ends.isoformat()}
    client.insert_ohlcv("AAA", frame, window=Window(Span(start, DAY, whole=True), DAY))

    def done(as_of: dt.date, now: dt.datetime | None) -> bool:
        return standing.with_history(["AAA"], start, as_of, now) == {"AAA"}

    minute = dt.timedelta(minutes=1)
    assert done(DAY, ends)
    assert not done(DAY, ends + minute)
    assert not done(DAY, None), "it is long past"
    assert done(DAY - dt.timedelta(days=1), ends), "what an earlier date lacks is something else"

    client.insert_ohlcv("AAA", make_bars(days=6), window=Window(Span(start, DAY, whole=True), DAY))
    assert done(DAY, None)


# -- fresh company data


TICKERS = st.from_regex(r"[A-Z0-9^][A-Z0-9.=^&_-]{0,31}", fullmatch=True)
DATES = st.dates(dt.date(1970, 1, 1), dt.date(2100, 1, 1))
INTERVALS = st.integers(1, 40)
REST = 6
"""Days after company data was asked for that have no refresh day, of the longer intervals."""


def is_own(ticker: str, day: dt.date, interval: int) -> bool:
    """Whether it is a refresh day of the ticker."""
    return due(ticker, day - dt.timedelta(days=1), day, interval)


def due_days(ticker: str, after: dt.date, interval: int, count: int) -> list[dt.date]:
    """The days of the next `count` on which data is due, if it is asked for each time it is due."""
    found, stored = list[dt.date](), after
    for day in days(count, after + dt.timedelta(days=1)):
        if not is_fresh(ticker, stored, day, interval):
            found.append(day)
            stored = day
    return found


@settings(max_examples=50)
@given(TICKERS, DATES, INTERVALS)
def test_every_ticker_is_due_once_in_each_interval(ticker: str, start: dt.date, interval: int) -> None:
    found = due_days(ticker, start, interval, 3 * interval + 6)[:3]

    assert len(found) == 3
    assert (found[0] - start).days > 6 or interval < 12, "not within the first week"
    assert {(later - earlier).days for earlier, later in pairwise(found)} == {interval}


@settings(max_examples=50)
@given(TICKERS, DATES, INTERVALS, st.lists(st.integers(0, 60), max_size=10))
def test_a_due_day_without_a_run_is_made_up_for_by_the_next_run(
    ticker: str, start: dt.date, interval: int, gaps: list[int]
) -> None:
    own = [day for day in days(sum(gaps) + 1, start) if is_own(ticker, day, interval)]
    stored, day = start, start
    for gap in gaps:
        day += dt.timedelta(days=gap)
        rest = dt.timedelta(days=REST if interval >= 2 * REST else 0)
        missed = any(stored + rest < one <= day for one in own)
        assert is_fresh(ticker, stored, day, interval) is not missed
        stored = day if missed else stored


@settings(max_examples=50)
@given(TICKERS, DATES, INTERVALS, st.integers(0, 500))
def test_data_of_the_day_or_newer_is_fresh(ticker: str, as_of: dt.date, interval: int, newer: int) -> None:
    assert is_fresh(ticker, as_of + dt.timedelta(days=newer), as_of, interval) is True


@settings(max_examples=50)
@given(TICKERS, DATES, st.integers(1, 500))
def test_an_interval_of_1_is_every_day(ticker: str, as_of: dt.date, older: int) -> None:
    assert is_fresh(ticker, as_of - dt.timedelta(days=older), as_of, 1) is False


@pytest.mark.parametrize("interval", [5, 7, 30])
@pytest.mark.parametrize("tickers", [[f"T{n}" for n in range(1000)], [f"{n * 7919 % 9973:04}.HK" for n in range(1000)]])
def test_tickers_are_spread_evenly_over_the_days(tickers: list[str], interval: int) -> None:
    rest = REST if interval >= 2 * REST else 0
    found = Counter(day for ticker in tickers for day in due_days(ticker, DAY, interval, interval + rest)[:1])

    assert sum(found.values()) == 1000
    assert len(found) == interval
    fair = 1000 / interval
    assert fair / 3 < min(found.values()) <= max(found.values()) < 1.5 * fair, found


def test_a_ticker_has_the_same_days_in_every_process() -> None:
    assert due_days("AAPL", DAY, 7, 7) == [dt.date(2024, 3, 19)]
    assert due_days("BRK-B", DAY, 30, 30) == [dt.date(2024, 4, 9)]


@pytest.fixture
def stored(client: YfinanceClient) -> Callable[[str, dt.date], object]:
    """Stores company data of a ticker as of a day."""

    def store(ticker: str, as_of: dt.date) -> object:
        client.insert_security(ticker, [])
        return client.insert_metadata(ticker, {"longName": ticker}, as_of=as_of)

    return store


def test_a_ticker_without_company_data_is_not_fresh(standing: Standing, client: YfinanceClient) -> None:
    client.insert_security("AAA", [])

    assert standing.fresh_metadata(["AAA", "NEVER"], DAY, 100_000) == set()


def test_fresh_is_what_needs_not_be_asked_for_on_that_day(
    standing: Standing, stored: Callable[[str, dt.date], object]
) -> None:
    tickers = [f"T{number}" for number in range(20)]
    for ticker in tickers:
        stored(ticker, DAY)

    fresh = [standing.fresh_metadata(tickers, day, 7) for day in days(8)]

    assert fresh[0] == set(tickers)
    assert fresh[7] == set()
    assert all(later < earlier for earlier, later in pairwise(fresh)), "some are due on each day"
    for day, found in zip(days(8), fresh, strict=True):
        assert found == {ticker for ticker in tickers if not any(due_days(ticker, DAY, 7, (day - DAY).days))}


def test_the_newest_company_data_counts(standing: Standing, stored: Callable[[str, dt.date], object]) -> None:
    for as_of in (DAY - 2 * WEEK, DAY, DAY - WEEK):
        stored("AAA", as_of)

    fresh = partial(standing.fresh_metadata, ["AAA"], refresh_days=1)
    assert fresh(DAY) == {"AAA"}
    assert fresh(DAY - 100 * WEEK) == {"AAA"}, "newer than asked for"
    assert fresh(DAY + dt.timedelta(days=1)) == set()


def test_only_tickers_that_are_asked_about_are_fresh_in_one_query(
    standing: Standing, stored: Callable[[str, dt.date], object], emptied_url: str
) -> None:
    for ticker in ("AAA", "BBB", "CCC"):
        stored(ticker, DAY)

    many = ["AAA", "CCC", *(f"T{number}" for number in range(5_000))]
    assert standing.fresh_metadata(many, DAY, 7) == {"AAA", "CCC"}
    assert standing.fresh_metadata([], DAY, 7) == set()
    assert statements(emptied_url, lambda: standing.fresh_metadata(many, DAY, 7)) == 1
