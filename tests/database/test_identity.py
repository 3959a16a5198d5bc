"""Bars that are not those of the security under whose ticker they come, or not all of them, change nothing."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from luigi_tasks import YfinanceClient, bars
from luigi_tasks.database.client import Window
from luigi_tasks.database.engine import engine_for
from luigi_tasks.database.ledger import Ledger, Marker, Step
from luigi_tasks.database.schema import metadata, securities
from luigi_tasks.database.standing import Standing
from luigi_tasks.errors import (
    HistoryShrank,
    IdenticalSeries,
    OutdatedDownload,
    RestatedSince,
    SecuritiesMasterError,
    SecurityNotFound,
    WrongAnswer,
)
from luigi_tasks.schedule import Span
from tests.conftest import make_bars

FACTS = {
    "name": "A Inc",
    "quote_type": "EQUITY",
    "exchange": "NMS",
    "currency": "USD",
    "time_zone": "America/New_York",
    "first_trade_date": "1980-12-12",
}
NOTHING = dict.fromkeys(FACTS)
LAST = dt.date(2024, 3, 15)
EXECUTORS: dict[str, Callable[[int], Executor]] = {
    "threads": ThreadPoolExecutor,
    "processes": partial(ProcessPoolExecutor, mp_context=get_context("fork")),
}


def window(start: dt.date, end: dt.date, left_out: pd.DataFrame | None = None) -> Window:
    """That a frame is all that there is of these days, but for what is left out as if it had broken a rule."""
    refused = None if left_out is None else left_out.assign(broken="[]")
    return Window(Span(start, end, whole=True), LAST, refused)


EVER = window(dt.date(2020, 1, 1), dt.date(2024, 3, 31))


def said(frame: pd.DataFrame, **facts: Any) -> pd.DataFrame:
    """The frame, with what the source says of its security."""
    frame = frame.copy()
    frame.attrs = {bars.FACTS: FACTS | facts}
    return frame


def marker(ticker: str = "AAA", **detail: Any) -> Marker:
    return Marker(Step(f"Insert_{ticker}", "InsertOhlcv", "run-2", ticker, LAST), 1, detail)


@pytest.fixture
def client(emptied_url: str) -> YfinanceClient:
    """Of a database with two securities that nothing is known of."""
    made = YfinanceClient(emptied_url)
    for ticker in ("AAA", "BBB"):
        made.insert_security(ticker, [])
    return made


def everything(url: str) -> dict[str, list[Any]]:
    with engine_for(url).begin() as connection:
        return {table.name: sorted(map(repr, connection.execute(sa.select(table)))) for table in metadata.sorted_tables}


def sessions(url: str, ticker: str = "AAA") -> list[dt.date]:
    query = "SELECT date FROM ohlcv JOIN securities USING (security_id) WHERE ticker = :ticker ORDER BY date"
    with engine_for(url).begin() as connection:
        return list(connection.scalars(sa.text(query), {"ticker": ticker}))


def known(client: YfinanceClient, ticker: str = "AAA") -> dict[str, Any]:
    found = client.security(ticker)
    assert found is not None
    return found


@contextmanager
def refused(url: str, error: type[SecuritiesMasterError], words: str) -> Iterator[None]:
    """The block raises the error, and leaves every row of every table as it was."""
    before = everything(url)
    with pytest.raises(error, match=words):
        yield
    assert everything(url) == before


# -- what the source says of a security


def test_of_a_new_security_nothing_is_known(client: YfinanceClient) -> None:
    assert client.security("AAA") == {**NOTHING, "last_session": None}
    assert client.security("NEVER") is None


def test_the_first_bars_tell_what_the_security_is(client: YfinanceClient) -> None:
    client.insert_ohlcv("AAA", said(make_bars(), last_trade_date="2024-03-15", colour="red"))

    assert client.security("AAA") == {**FACTS, "first_trade_date": dt.date(1980, 12, 12), "last_session": LAST}
    assert client.security("BBB") == {**NOTHING, "last_session": None}


def test_bars_without_a_word_about_the_security_are_stored(client: YfinanceClient) -> None:
    client.insert_ohlcv("AAA", make_bars())

    assert client.security("AAA") == {**NOTHING, "last_session": LAST}


@pytest.mark.parametrize("silence", [None, ""])
def test_what_is_not_said_stays_as_it_was(client: YfinanceClient, silence: str | None) -> None:
    client.insert_ohlcv("AAA", said(make_bars()))
    before = known(client)

    client.insert_ohlcv("AAA", said(make_bars(), **dict.fromkeys(FACTS, silence)))
    client.insert_ohlcv("AAA", make_bars())

    assert known(client) == before


def test_what_was_not_said_at_first_is_added(client: YfinanceClient) -> None:
    client.insert_ohlcv("AAA", said(make_bars(), currency=None, time_zone=None))
    client.insert_ohlcv("AAA", said(make_bars()))

    assert (known(client)["currency"], known(client)["time_zone"]) == ("USD", "America/New_York")


@pytest.mark.parametrize(
    ("fact", "value"),
    [("name", "B Inc"), ("quote_type", "ETF"), ("exchange", "NYQ"), ("first_trade_date", "1990-01-02")],
)
def test_what_may_change_in_the_life_of_a_security_is_replaced(client: YfinanceClient, fact: str, value: str) -> None:
    client.insert_ohlcv("AAA", said(make_bars()))

    client.insert_ohlcv("AAA", said(make_bars(), **{fact: value}))

    assert str(known(client)[fact]) == value


def test_characters_that_postgresql_cannot_hold_are_no_reason_to_refuse_bars(client: YfinanceClient) -> None:
    client.insert_ohlcv("AAA", said(make_bars(), name="A\0Inc \ud800"))

    assert known(client)["name"] == "A\ufffdInc ?"


# -- the answer is that of another security


@pytest.mark.parametrize(
    ("fact", "value", "words"),
    [
        ("currency", "EUR", "AAA: the answer's currency is EUR, that of the stored bars is USD"),
        ("currency", "usd", "AAA: the answer's currency is usd"),
        ("time_zone", "Europe/Berlin", "AAA: the answer's time zone is Europe/Berlin, .* is America/New_York"),
    ],
)
@pytest.mark.parametrize("silent", ["currency", "time_zone", "neither"])
def test_bars_in_another_currency_or_zone_are_refused(
    client: YfinanceClient, emptied_url: str, fact: str, value: str, words: str, silent: str
) -> None:
    client.insert_ohlcv("AAA", said(make_bars(last="2024-03-14")))
    Standing(emptied_url).absent("AAA", LAST, lambda: True)
    changed = {silent: None} | {"name": "B Inc", "exchange": "GER", fact: value}

    with refused(emptied_url, WrongAnswer, words):
        client.insert_ohlcv("AAA", said(make_bars(days=40), **changed), window=EVER, marker=marker())


def test_what_was_refused_once_is_refused_again_and_the_right_answer_is_stored(
    client: YfinanceClient, emptied_url: str
) -> None:
    client.insert_ohlcv("AAA", said(make_bars(days=5)))
    for _ in range(2):
        with refused(emptied_url, WrongAnswer, "currency"):
            client.insert_ohlcv("AAA", said(make_bars(days=6), currency="EUR"), marker=marker())

    assert client.insert_ohlcv("AAA", said(make_bars(days=6)), marker=marker())["success"] is True
    assert len(sessions(emptied_url)) == 6
    assert Ledger(emptied_url).done(["Insert_AAA"]) == {"Insert_AAA"}


def test_securities_may_differ_from_each_other(client: YfinanceClient) -> None:
    client.insert_ohlcv("AAA", said(make_bars(seed=1)))
    client.insert_ohlcv("BBB", said(make_bars(seed=2), currency="EUR", time_zone="Europe/Berlin"))

    assert known(client, "BBB")["currency"] == "EUR"
    assert known(client, "AAA")["currency"] == "USD"


# -- the bars are those of another ticker


def varied(name: str, row: int) -> pd.DataFrame:
    """`make_bars()` with another value in one column of one row."""
    frame = make_bars()
    step = {"volume": 1, "date": pd.Timedelta(days=1 if row == 29 else -1), "high": 0.01, "low": -0.01}
    if name in step:
        frame.loc[row, name] += step[name]
    elif name in ("open", "close"):
        frame.loc[row, name] = frame.loc[row, "low"]
    else:
        frame.loc[row, name] = 0.5
    return frame


DAYS = [day.date() for day in make_bars()["date"]]
SAME = {
    "as it is": make_bars(),
    "without a word": make_bars().set_axis(range(30)),
    "its latest 20": make_bars().tail(20),
    "another adjusted close": make_bars().assign(adj_close=np.nan),
    "another dividend": varied("dividends", 29),
    "another split": varied("stock_splits", 29),
    "another bar before the latest 20": varied("close", 9),
    "newest first": make_bars().iloc[::-1],
    "columns in another order": make_bars().iloc[:, ::-1],
    "a column more": make_bars().assign(more=range(30)),
    "volumes as floats": make_bars().astype({"volume": "float64"}),
    "dates in nanoseconds": make_bars().assign(date=make_bars()["date"].astype("datetime64[ns]")),
    "dates as days": make_bars().assign(date=DAYS),
    "dates as text": make_bars().assign(date=[str(day) for day in DAYS]),
}


def test_dates_written_in_two_ways_are_dates(client: YfinanceClient, emptied_url: str) -> None:
    dates = [day if day.day % 2 else day.date() for day in make_bars()["date"]]

    client.insert_ohlcv("AAA", make_bars().assign(date=dates))

    assert sessions(emptied_url) == DAYS


def test_a_series_is_known_by_the_digest_that_earlier_versions_gave_it(
    client: YfinanceClient, emptied_url: str
) -> None:
    numbers = pd.Series(range(20))
    frame = make_bars(days=20, last="2024-01-26").assign(
        **{name: price + numbers / 7 for name, price in {"open": 10, "high": 12, "low": 9, "close": 11}.items()},
        volume=10**12 + numbers,
    )

    client.insert_ohlcv("AAA", frame)

    with engine_for(emptied_url).connect() as connection:
        digest = connection.scalar(sa.text("SELECT series_digest FROM securities WHERE ticker = 'AAA'"))
    assert digest == "3c4027bb3de3cf3395287d8dcffa90babbe45db4df617403fec8b3244d88d138"


@pytest.mark.parametrize("name", SAME)
def test_bars_of_another_ticker_are_refused(client: YfinanceClient, emptied_url: str, name: str) -> None:
    client.insert_ohlcv("AAA", said(make_bars()))
    Standing(emptied_url).absent("BBB", LAST, lambda: True)

    with refused(emptied_url, IdenticalSeries, "BBB: its last 20 bars are those of AAA, to the last digit"):
        client.insert_ohlcv("BBB", said(SAME[name], currency="EUR"), window=EVER, marker=marker("BBB"))


def test_a_security_that_has_bars_keeps_them_when_it_gets_those_of_another(
    client: YfinanceClient, emptied_url: str
) -> None:
    client.insert_ohlcv("AAA", said(make_bars(seed=1)))
    client.insert_ohlcv("BBB", said(make_bars(days=29, last="2024-03-14", seed=2)))

    with refused(emptied_url, IdenticalSeries, "BBB: .* those of AAA"):
        client.insert_ohlcv("BBB", said(make_bars(seed=1)), marker=marker("BBB"))

    client.insert_ohlcv("BBB", said(make_bars(seed=2)), marker=marker("BBB"))
    assert known(client, "BBB")["last_session"] == LAST


@pytest.mark.parametrize("row", [10, 29], ids=["the oldest of the latest 20", "the latest"])
@pytest.mark.parametrize("name", ["date", "open", "high", "low", "close", "volume"])
def test_one_value_more_or_less_makes_it_another_series(client: YfinanceClient, name: str, row: int) -> None:
    client.insert_ohlcv("AAA", make_bars())

    assert client.insert_ohlcv("BBB", varied(name, row))["rows_affected"] == 30


def test_two_series_that_differ_in_the_last_digit_only_are_two(client: YfinanceClient) -> None:
    other = make_bars()
    other.loc[29, "high"] = np.nextafter(other.loc[29, "high"], np.inf)
    client.insert_ohlcv("AAA", make_bars())

    assert client.insert_ohlcv("BBB", other)["rows_affected"] == 30


def few_prices(prices: int) -> pd.DataFrame:
    """Bars whose close has so many different values."""
    frame = make_bars()
    close = 50.0 + np.arange(30) % prices
    return frame.assign(open=close, high=close, low=close, close=close)


@pytest.mark.parametrize(
    "frame",
    [make_bars(days=19), few_prices(9), few_prices(1), make_bars().iloc[:0]],
    ids=["19 bars", "9 prices", "1 price", "none"],
)
def test_bars_too_few_or_too_flat_to_tell_may_be_the_same(
    client: YfinanceClient, emptied_url: str, frame: pd.DataFrame
) -> None:
    client.insert_ohlcv("AAA", frame)
    client.insert_ohlcv("BBB", frame)

    assert sessions(emptied_url, "BBB") == sessions(emptied_url, "AAA")


@pytest.mark.parametrize("frame", [make_bars(days=20), few_prices(10)], ids=["20 bars", "10 prices"])
def test_bars_just_enough_to_tell_may_not(client: YfinanceClient, emptied_url: str, frame: pd.DataFrame) -> None:
    client.insert_ohlcv("AAA", frame)

    with refused(emptied_url, IdenticalSeries, "BBB"):
        client.insert_ohlcv("BBB", frame)


def test_a_security_may_get_its_own_bars_again(client: YfinanceClient) -> None:
    client.insert_ohlcv("AAA", make_bars())

    assert client.insert_ohlcv("AAA", make_bars())["rows_affected"] == 0


@pytest.mark.parametrize(
    "more",
    [make_bars().tail(5), make_bars(last="2010-03-15", seed=9), make_bars().iloc[:0]],
    ids=["the last ones", "old ones", "none"],
)
def test_other_bars_of_a_security_do_not_leave_its_latest_to_another(
    client: YfinanceClient, emptied_url: str, more: pd.DataFrame
) -> None:
    client.insert_ohlcv("AAA", make_bars())
    client.insert_ohlcv("AAA", more)

    with refused(emptied_url, IdenticalSeries, "BBB: .* those of AAA"):
        client.insert_ohlcv("BBB", make_bars(), window=EVER)


def test_a_security_that_is_deleted_leaves_its_bars_to_another(client: YfinanceClient, emptied_url: str) -> None:
    client.insert_ohlcv("AAA", make_bars())
    client.delete_security("AAA")

    client.insert_ohlcv("BBB", make_bars())

    client.insert_security("AAA", [])
    with refused(emptied_url, IdenticalSeries, "AAA: .* those of BBB"):
        client.insert_ohlcv("AAA", make_bars())


# -- two at once


def waiting(url: str) -> int:
    """How many wait for a lock."""
    where = "datname = current_database() AND wait_event_type = 'Lock'"
    with engine_for(url).begin() as connection:
        return int(connection.scalar(sa.text(f"SELECT count(*) FROM pg_stat_activity WHERE {where}")) or 0)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("what the test waits for does not happen")


def try_to_insert(url: str, ticker: str, frame: pd.DataFrame) -> str:
    """What came of it: the ticker, or the name of the error."""
    try:
        YfinanceClient(url).insert_ohlcv(ticker, frame, marker=marker(ticker))
    except SecuritiesMasterError as error:
        return type(error).__name__
    return ticker


@pytest.mark.parametrize("workers", EXECUTORS)
def test_of_many_who_bring_the_same_bars_at_once_one_gets_them(
    client: YfinanceClient, emptied_url: str, workers: str
) -> None:
    tickers = ["AAA", "BBB", "CCC"]
    client.insert_security("CCC", [])
    with EXECUTORS[workers](len(tickers)) as executor:
        with engine_for(emptied_url).begin() as connection:
            connection.execute(sa.select(securities).with_for_update())
            asked = [executor.submit(try_to_insert, emptied_url, ticker, make_bars()) for ticker in tickers]
            until(lambda: waiting(emptied_url) == len(tickers))
        winners = [outcome for one in asked if (outcome := one.result()) in tickers]

    assert len(winners) == 1
    (winner,) = winners
    assert [ticker for ticker in tickers if sessions(emptied_url, ticker)] == [winner]
    assert [ticker for ticker in tickers if known(client, ticker)["last_session"]] == [winner]
    assert Ledger(emptied_url).done([f"Insert_{ticker}" for ticker in tickers]) == {f"Insert_{winner}"}


@contextmanager
def held_before_its_commit(url: str, ticker: str) -> Iterator[None]:
    """Who writes the ticker's marker, the last statement of a transaction, waits for the end of the block."""
    row = "INSERT INTO task_markers (task_id, task_family, run_id, rows) VALUES (:id, 'F', 'run-1', 0)"
    with engine_for(url).connect() as connection:
        connection.execute(sa.text(row), {"id": f"Insert_{ticker}"})
        yield
        connection.rollback()


def test_bars_that_another_ticker_is_about_to_commit_are_refused(client: YfinanceClient, emptied_url: str) -> None:
    with ThreadPoolExecutor(2) as threads:
        with held_before_its_commit(emptied_url, "AAA"):
            first = threads.submit(try_to_insert, emptied_url, "AAA", make_bars())
            until(lambda: waiting(emptied_url) == 1)
            second = threads.submit(try_to_insert, emptied_url, "BBB", make_bars())
            until(lambda: waiting(emptied_url) == 2)
        assert (first.result(), second.result()) == ("AAA", "IdenticalSeries")

    assert sessions(emptied_url, "BBB") == []
    assert Ledger(emptied_url).done(["Insert_AAA", "Insert_BBB"]) == {"Insert_AAA"}


def test_of_two_first_answers_at_once_the_second_is_compared_with_the_first(
    client: YfinanceClient, emptied_url: str
) -> None:
    frames = {currency: said(make_bars(), currency=currency) for currency in ("USD", "EUR")}
    with ThreadPoolExecutor(2) as threads:
        with engine_for(emptied_url).begin() as connection:
            connection.execute(sa.select(securities).with_for_update())
            asked = [threads.submit(try_to_insert, emptied_url, "AAA", frame) for frame in frames.values()]
            until(lambda: waiting(emptied_url) == 2)
        outcomes = dict(zip(frames, [one.result() for one in asked], strict=True))

    assert sorted(outcomes.values()) == ["AAA", "WrongAnswer"]
    assert outcomes[known(client)["currency"]] == "AAA"


# -- fewer bars than there were


def test_an_answer_that_ends_before_the_stored_bars_is_refused(client: YfinanceClient, emptied_url: str) -> None:
    client.insert_ohlcv("AAA", said(make_bars()))
    Standing(emptied_url).absent("AAA", LAST, lambda: True)
    other = said(make_bars().iloc[:-1], name="B Inc")

    with refused(emptied_url, HistoryShrank, "AAA: the answer ends on 2024-03-14, bars up to 2024-03-15 are stored"):
        client.insert_ohlcv("AAA", other, window=EVER, marker=marker())


def test_an_empty_answer_is_refused_where_there_are_bars(client: YfinanceClient, emptied_url: str) -> None:
    client.insert_ohlcv("AAA", make_bars(days=1))

    with refused(emptied_url, HistoryShrank, "the answer ends on no day, bars up to 2024-03-15 are stored"):
        client.insert_ohlcv("AAA", make_bars().iloc[:0], window=EVER, marker=marker())


@pytest.mark.parametrize(
    ("stored", "most"), [(12, 5), (30, 5), (500, 5), (599, 5), (600, 6), (1000, 10)], ids=lambda number: str(number)
)
def test_few_missing_sessions_are_told_and_many_are_refused(
    client: YfinanceClient, emptied_url: str, stored: int, most: int
) -> None:
    old = make_bars(days=stored)
    client.insert_ohlcv("AAA", old)
    middle = range(3, 3 + most + 1)
    missing = [day.date() for day in old["date"].iloc[3 : 3 + most]]

    with refused(
        emptied_url, HistoryShrank, f"the answer lacks {most + 1} of {stored} .* sessions, {missing[0]} first"
    ):
        client.insert_ohlcv("AAA", old.drop(index=middle), window=EVER, marker=marker())
    result = client.insert_ohlcv("AAA", old.drop(index=middle[:-1]), window=EVER, marker=marker(x=1))

    days = ", ".join(map(str, missing))
    assert result["message"].endswith(f"; {most} stored ones are not in the answer any more: {days}")
    assert len(sessions(emptied_url)) == stored, "they stay"
    detail = Ledger(emptied_url).markers(["Insert_AAA"])["Insert_AAA"]["detail"]
    assert detail == {"x": 1, "missing": [str(day) for day in missing]}


def test_nothing_is_missing_from_an_answer_with_all_that_is_stored(client: YfinanceClient, emptied_url: str) -> None:
    frame = make_bars(days=30)
    stored = frame.iloc[10:20]
    client.insert_ohlcv("AAA", stored.assign(volume=stored["volume"] + 1))

    result = client.insert_ohlcv("AAA", frame, window=EVER, marker=marker(x=1))

    assert result["message"] == "AAA: 30 bars stored, 30 of them new or changed; revised: 10 (restatement)"
    detail = Ledger(emptied_url).markers(["Insert_AAA"])["Insert_AAA"]["detail"]
    days = stored["date"].dt.date
    assert detail == {"x": 1, "revised": {"restatement": 10}, "restated": [str(days.min()), str(days.max())]}


def test_new_sessions_do_not_make_up_for_missing_ones(client: YfinanceClient, emptied_url: str) -> None:
    client.insert_ohlcv("AAA", make_bars(days=30, last="2024-03-08"))

    with refused(emptied_url, HistoryShrank, "lacks 30 of 30"):
        client.insert_ohlcv("AAA", make_bars(days=5), window=EVER, marker=marker())


def test_sessions_that_were_left_out_are_not_missing(client: YfinanceClient, emptied_url: str) -> None:
    frame = make_bars()
    left_out = frame.iloc[[1, *range(20, 30)]]
    client.insert_ohlcv("AAA", frame)
    answer = frame.drop(index=left_out.index)

    result = client.insert_ohlcv("AAA", answer, window=window(EVER.span.start, EVER.span.end, left_out))

    assert result["message"] == "AAA: 19 bars stored, 0 of them new or changed"
    with refused(emptied_url, HistoryShrank, "ends on 2024-03-14"):
        client.insert_ohlcv("AAA", answer, window=window(EVER.span.start, EVER.span.end, left_out.iloc[:-1]))


def test_only_sessions_of_the_window_are_looked_for(client: YfinanceClient, emptied_url: str) -> None:
    frame = make_bars()
    client.insert_ohlcv("AAA", frame)
    first, last = (frame["date"].iloc[row].date() for row in (8, 20))
    part = frame.iloc[8:21]
    one_day = dt.timedelta(days=1)

    assert "not in the answer" not in client.insert_ohlcv("AAA", part, window=window(first, last))["message"]
    earlier = client.insert_ohlcv("AAA", part, window=window(first - one_day, last))
    assert earlier["message"].endswith(f"1 stored ones are not in the answer any more: {first - one_day}")
    with refused(emptied_url, HistoryShrank, f"ends on {last}, bars up to {last + one_day} are stored"):
        client.insert_ohlcv("AAA", part, window=window(first, last + one_day))


def test_without_a_window_nothing_is_missing(client: YfinanceClient, emptied_url: str) -> None:
    client.insert_ohlcv("AAA", make_bars())

    result = client.insert_ohlcv("AAA", make_bars().iloc[:1])

    assert result["message"] == "AAA: 1 bars stored, 0 of them new or changed"
    assert len(sessions(emptied_url)) == 30


def test_the_bars_of_others_are_not_missing(client: YfinanceClient) -> None:
    client.insert_ohlcv("AAA", make_bars(seed=1))

    assert client.insert_ohlcv("BBB", make_bars(days=3, seed=2), window=EVER)["rows_affected"] == 3


# -- bars that go on from another history than the stored one


def part(first: int, *, start: int | None = None, end: dt.date = LAST, as_of: dt.date = LAST) -> dict[str, Any]:
    """Arguments for the bars from row `first` on, of the days from that of row `start` on."""
    span = Span(DAYS[first if start is None else start], end, whole=False)
    return {"df": make_bars().iloc[first:], "window": Window(span, as_of), "marker": marker()}


@pytest.fixture
def begun(client: YfinanceClient) -> YfinanceClient:
    """With the history of AAA from row 10 up to the last row but one."""
    span = Span(DAYS[10], DAYS[28], whole=True)
    client.insert_ohlcv("AAA", said(make_bars().iloc[10:29]), window=Window(span, DAYS[28]))
    return client


def test_bars_that_go_on_from_the_stored_ones_are_stored(begun: YfinanceClient, emptied_url: str) -> None:
    assert begun.insert_ohlcv("AAA", **part(20))["rows_affected"] == 1
    assert sessions(emptied_url) == DAYS[10:]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (part(20, start=9), "other bars were stored"),
        (part(20, end=DAYS[27]), "other bars were stored"),
        (part(29, start=20), "none of the sessions that are stored was sent"),
        (part(20) | {"df": varied("close", 20).iloc[20:]}, f"the bar of {DAYS[20]} has other values"),
        (part(20) | {"df": varied("dividends", 25).iloc[20:]}, f"dividends changed on {DAYS[25]}"),
        (part(20) | {"df": make_bars().iloc[:0]}, "no bars were sent"),
    ],
    ids=["from before the first", "not up to the last", "without an overlap", "other prices", "a dividend", "none"],
)
def test_bars_that_do_not_go_on_from_the_stored_ones_are_refused(
    begun: YfinanceClient, emptied_url: str, arguments: dict[str, Any], words: str
) -> None:
    with refused(emptied_url, OutdatedDownload, words):
        begun.insert_ohlcv("AAA", **arguments)


def test_bars_that_go_on_from_nothing_are_refused(client: YfinanceClient, emptied_url: str) -> None:
    with refused(emptied_url, OutdatedDownload, "other bars were stored"):
        client.insert_ohlcv("AAA", **part(20))


def test_an_earlier_date_changes_nothing_of_what_is_stored(begun: YfinanceClient, emptied_url: str) -> None:
    before = everything(emptied_url)
    earlier = part(15, as_of=DAYS[27]) | {"df": varied("close", 20).iloc[15:28]}

    result = begun.insert_ohlcv("AAA", **earlier)

    assert result["message"] == f"AAA: nothing to do, the bars are stored as of {DAYS[28]}"
    assert Ledger(emptied_url).done(["Insert_AAA"]) == {"Insert_AAA"}
    assert everything(emptied_url) | {"task_markers": []} == before


def test_an_earlier_date_adds_what_was_before_and_nothing_else(begun: YfinanceClient) -> None:
    frame = varied("close", 20).iloc[:29]
    earlier = Window(Span(DAYS[0], DAYS[28], whole=True), DAYS[27])

    assert begun.insert_ohlcv("AAA", frame, window=earlier)["rows_affected"] == 10
    pd.testing.assert_frame_equal(begun.bars("AAA", DAYS[0], LAST), make_bars().iloc[:29])


@pytest.mark.parametrize("name", ["open", "close", "dividends", "stock_splits"])
def test_an_earlier_date_whose_bars_contradict_the_stored_ones_is_refused(
    begun: YfinanceClient, emptied_url: str, name: str
) -> None:
    earlier = Window(Span(DAYS[0], DAYS[28], whole=True), DAYS[27])

    with refused(emptied_url, RestatedSince, f"as of {DAYS[28]} were stored: .*{DAYS[10]}"):
        begun.insert_ohlcv("AAA", varied(name, 10).iloc[:29], window=earlier, marker=marker())


def test_a_history_in_another_proportion_is_held_back_until_it_is_accepted(
    client: YfinanceClient, emptied_url: str
) -> None:
    client.insert_ohlcv("AAA", make_bars(days=60))
    scaled = make_bars(days=60)
    for name in bars.PRICES:
        scaled[name] = (scaled[name] / 1.281).round(6)
    scaled["high"], scaled["low"] = scaled["high"] + 0.001, scaled["low"] - 0.001

    with refused(emptied_url, WrongAnswer, "60 of 60 stored bars have other prices in the answer, all by the factor"):
        client.insert_ohlcv("AAA", scaled, window=EVER, marker=marker())
    client.accept("AAA", force=True)
    result = client.insert_ohlcv("AAA", scaled, window=EVER)

    assert result["message"] == "AAA: 60 bars stored, 60 of them new or changed; revised: 60 (accepted)"
    with refused(emptied_url, WrongAnswer, "60 of 60"):
        client.insert_ohlcv("AAA", make_bars(days=60), window=EVER, marker=marker())


# -- a security goes


def test_a_deleted_security_leaves_nothing_but_its_failures(client: YfinanceClient, emptied_url: str) -> None:
    ledger = Ledger(emptied_url)
    client.insert_security("BBB", ["all"])
    client.insert_ohlcv("BBB", said(make_bars(seed=2)), marker=marker("BBB"))
    Standing(emptied_url).absent("BBB", LAST, lambda: True)
    ledger.mark(Marker(Step("Universe", "GetTickers", "run-1"), 2))
    for ticker in ("AAA", "BBB"):
        ledger.fail(marker(ticker).step, "network", "x")
    before = everything(emptied_url)
    client.insert_security("AAA", ["all"])
    client.insert_ohlcv("AAA", make_bars().iloc[:-2].assign(close=lambda frame: frame["open"]))
    left_out = window(EVER.span.start, EVER.span.end, make_bars().tail(1))
    client.insert_ohlcv("AAA", said(make_bars().iloc[:-1]), window=left_out, marker=marker())
    client.insert_metadata("AAA", {"longName": "A Inc"})
    Standing(emptied_url).absent("AAA", LAST, lambda: True)

    full = everything(emptied_url)
    for name in ("ohlcv_revisions", "quarantined_bars", "missing_sessions"):
        assert len(full[name]) > len(before[name]), name

    assert client.delete_security("AAA") == 29

    assert client.security("AAA") is None
    after = everything(emptied_url)
    aaa = [row for row in before["securities"] if "'AAA'" in row]
    assert after == before | {"securities": [row for row in before["securities"] if row not in aaa]}


def test_a_security_without_bars_may_be_deleted_and_one_that_is_not_there_may_not(client: YfinanceClient) -> None:
    assert client.delete_security("AAA") == 0
    with pytest.raises(SecurityNotFound, match="AAA: is not registered"):
        client.delete_security("AAA")
    assert client.get_tickers() == ["BBB"]


def test_after_it_was_deleted_a_ticker_may_be_another_security(client: YfinanceClient) -> None:
    client.insert_ohlcv("AAA", said(make_bars()))
    client.delete_security("AAA")
    client.insert_security("AAA", [])

    client.insert_ohlcv("AAA", said(make_bars(days=3, last="2024-02-01"), currency="EUR"), window=EVER)

    assert (known(client)["currency"], known(client)["last_session"]) == ("EUR", dt.date(2024, 2, 1))


def test_bars_that_come_while_their_security_is_deleted_find_none(client: YfinanceClient, emptied_url: str) -> None:
    with ThreadPoolExecutor(1) as threads:
        with engine_for(emptied_url).begin() as connection:
            connection.execute(sa.delete(securities).where(securities.c.ticker == "AAA"))
            asked = threads.submit(try_to_insert, emptied_url, "AAA", make_bars())
            until(lambda: waiting(emptied_url) == 1)
        assert asked.result() == "SecurityNotFound"

    assert Ledger(emptied_url).done(["Insert_AAA"]) == set()
