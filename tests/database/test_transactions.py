"""Data and marker are there together or not at all, and writers at once do not spoil each other's work."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from luigi_tasks import YfinanceClient, bars
from luigi_tasks.database.engine import engine_for
from luigi_tasks.database.ledger import Ledger, Marker, Step
from luigi_tasks.errors import ConfigurationError, InvalidData, SecuritiesMasterError
from tests.conftest import make_bars

TOO_MANY = Marker(Step("Some_task_1", "Some", "run-1", "AAA"), rows=2**63)


@pytest.fixture
def client(emptied_url: str) -> YfinanceClient:
    made = YfinanceClient(emptied_url)
    made.insert_security("AAA", [])
    return made


def counts(emptied_url: str) -> dict[str, Any]:
    tables = ("securities", "security_groupings", "ohlcv", "security_metadata", "task_markers")
    with engine_for(emptied_url).begin() as connection:
        return {table: connection.scalar(sa.text(f"SELECT count(*) FROM {table}")) for table in tables}


WRITES: dict[str, Callable[[YfinanceClient, Marker], Any]] = {
    "a security": lambda client, marker: client.insert_security("BBB", ["a"], marker=marker),
    "bars": lambda client, marker: client.insert_ohlcv("AAA", make_bars(), marker=marker),
    "company data": lambda client, marker: client.insert_metadata("AAA", {"longName": "A"}, marker=marker),
}


@pytest.mark.parametrize("name", WRITES)
def test_without_its_marker_no_data_stays(client: YfinanceClient, emptied_url: str, name: str) -> None:
    before = counts(emptied_url)

    with pytest.raises(InvalidData, match="out of range"):
        WRITES[name](client, TOO_MANY)

    assert counts(emptied_url) == before


@pytest.mark.parametrize("name", WRITES)
def test_with_its_marker_the_data_stays(client: YfinanceClient, emptied_url: str, name: str) -> None:
    before = counts(emptied_url)

    WRITES[name](client, Marker(TOO_MANY.step, rows=1))

    after = counts(emptied_url)
    assert after["task_markers"] == 1
    assert sum(after.values()) > sum(before.values()) + 1


@pytest.mark.parametrize(
    "frame",
    [
        pd.concat(
            [make_bars(days=3), make_bars(days=1).assign(date=make_bars()["date"].iloc[-1] + pd.Timedelta("9h"))]
        ),
        pd.concat([make_bars(days=3), make_bars(days=1)]),
        make_bars(days=3).assign(date="2024-01-02"),
        make_bars(days=2).assign(date=[pd.Timestamp("2024-01-02"), dt.date(2024, 1, 2)]),
    ],
    ids=["at two times", "twice", "as text", "in two ways"],
)
def test_two_bars_for_one_day_are_refused_however_the_day_is_written(
    client: YfinanceClient, emptied_url: str, frame: pd.DataFrame
) -> None:
    with pytest.raises(InvalidData, match=r"two bars for 2024-"):
        client.insert_ohlcv("AAA", frame)

    assert counts(emptied_url)["ohlcv"] == 0


def test_no_bars_are_stored_as_no_bars(client: YfinanceClient, emptied_url: str) -> None:
    assert client.insert_ohlcv("AAA", make_bars().iloc[:0])["rows_affected"] == 0
    assert counts(emptied_url)["ohlcv"] == 0


def test_the_result_says_in_words_what_was_stored(client: YfinanceClient) -> None:
    frame = make_bars(days=3)
    client.insert_ohlcv("AAA", frame.iloc[:1])

    assert client.insert_ohlcv("AAA", frame) == {
        "success": True,
        "rows_affected": 2,
        "message": "AAA: 3 bars stored, 2 of them new or changed",
    }


@pytest.mark.parametrize("name", bars.COLUMNS[1:])
def test_a_change_in_any_one_column_is_stored(client: YfinanceClient, emptied_url: str, name: str) -> None:
    frame = make_bars(days=3)
    client.insert_ohlcv("AAA", frame)
    value = 7 if name in ("volume", *bars.AMOUNTS) else frame.loc[1, "close"]
    if name in ("open", "close"):
        value = frame.loc[1, "low"]
    elif name in ("high", "low"):
        value = frame.loc[1, name] * (2 if name == "high" else 0.5)
    frame[name] = frame[name].mask(frame.index == 1, "USD" if name == "dividend_currency" else value)

    assert client.insert_ohlcv("AAA", frame)["rows_affected"] == 1
    assert client.insert_ohlcv("AAA", frame)["rows_affected"] == 0
    with engine_for(emptied_url).begin() as connection:
        found = connection.scalars(sa.text(f"SELECT {name} FROM ohlcv ORDER BY date")).all()
    assert found == frame[name].astype(object).where(frame[name].notna(), None).tolist()


def test_an_adjusted_close_may_become_known_and_unknown_again(client: YfinanceClient, emptied_url: str) -> None:
    known, unknown = make_bars(days=2), make_bars(days=2).assign(adj_close=float("nan"))

    affected = [
        client.insert_ohlcv("AAA", frame)["rows_affected"] for frame in (unknown, unknown, known, known, unknown)
    ]

    assert affected == [2, 0, 2, 0, 2]


def test_bars_belong_to_their_own_ticker(client: YfinanceClient, emptied_url: str) -> None:
    client.insert_security("BBB", [])
    for seed, ticker in ((1, "AAA"), (2, "BBB")):
        client.insert_ohlcv(ticker, make_bars(days=5, seed=seed))

    with engine_for(emptied_url).begin() as connection:
        query = "SELECT close FROM ohlcv JOIN securities USING (security_id) WHERE ticker = 'BBB' ORDER BY date"
        assert connection.scalars(sa.text(query)).all() == make_bars(days=5, seed=2)["close"].tolist()


def test_four_writers_of_the_same_bars_at_once_store_them_once(client: YfinanceClient, emptied_url: str) -> None:
    frame = make_bars(days=400)

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: client.insert_ohlcv("AAA", frame)["rows_affected"], range(4)))

    assert sorted(results) == [0, 0, 0, 400]
    assert counts(emptied_url)["ohlcv"] == 400


def test_four_who_register_the_same_security_at_once_register_it_once(emptied_url: str) -> None:
    client = YfinanceClient(emptied_url)

    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda n: client.insert_security("AAA", ["all", str(n)]), range(4)))

    assert sum(result["rows_affected"] for result in results) == 1 + 5
    assert client.get_tickers(["all"]) == ["AAA"]


def test_of_two_sources_that_claim_an_empty_database_at_once_one_gets_it(emptied_url: str) -> None:
    ledger = Ledger(emptied_url)

    def claim(source: str) -> str | None:
        try:
            ledger.claim_for(source)
        except ConfigurationError:
            return None
        return source

    with ThreadPoolExecutor(4) as threads:
        winners = {winner for winner in threads.map(claim, ["a", "b", "c", "d"]) if winner}

    assert len(winners) == 1
    ledger.claim_for(*winners)


def test_a_run_ends_in_a_known_way_only(emptied_url: str) -> None:
    ledger = Ledger(emptied_url)
    ledger.begin_run("run-1", "RunAll", {"a": 1})
    ledger.begin_run("run-1", "Other", {"a": 2})

    with pytest.raises(SecuritiesMasterError, match="runs_outcome_check"):
        ledger.finish_run("run-1", "well", {})

    run = ledger.run("run-1")
    assert run is not None
    assert (run["task_family"], run["parameters"], run["outcome"], run["finished_at"]) == (
        "RunAll",
        {"a": 1},
        None,
        None,
    )
