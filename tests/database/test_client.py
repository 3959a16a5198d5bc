"""YfinanceClient on a real PostgreSQL: what is stored is what was given, and what cannot be is refused."""

from __future__ import annotations

import datetime as dt
import math
import re
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luigi_tasks import YfinanceClient, bars
from luigi_tasks.database.engine import engine_for, shown
from luigi_tasks.database.ledger import Ledger, Marker, Step
from luigi_tasks.database.schema import PRICE_CHECKS
from luigi_tasks.errors import ConfigurationError, DatabaseRefused, DatabaseUnavailable, InvalidData, SecurityNotFound
from tests.conftest import make_bars
from tests.workspace import free_port


@pytest.fixture
def client(database_url: str) -> YfinanceClient:
    made = YfinanceClient(database_url)
    made.insert_security("AAA", ["one"])
    return made


def query(database_url: str, statement: str) -> list[Any]:
    with engine_for(database_url).begin() as connection:
        return [tuple(row) for row in connection.execute(sa.text(statement))]


def marker(rows: int = 1) -> Marker:
    return Marker(Step("Some_task_1", "Some", "run-1", "AAA", dt.date(2024, 1, 1)), rows)


def stored(database_url: str) -> list[Any]:
    return query(database_url, f"SELECT {', '.join(bars.COLUMNS)} FROM ohlcv ORDER BY date")


def test_a_security_is_registered_once_and_groupings_are_added(client: YfinanceClient, database_url: str) -> None:
    again = client.insert_security("AAA", ["two", "one"])
    nothing = client.insert_security("AAA", [])

    assert again["success"] is True
    assert again["rows_affected"] == 1
    assert nothing["rows_affected"] == 0
    assert query(
        database_url, 'SELECT ticker, "grouping" FROM securities JOIN security_groupings USING (security_id)'
    ) == [
        ("AAA", "one"),
        ("AAA", "two"),
    ]


def test_tickers_are_found_by_grouping(client: YfinanceClient) -> None:
    client.insert_security("BBB", ["one", "two"])
    client.insert_security("CCC", [])

    assert client.get_tickers(["one"]) == ["AAA", "BBB"]
    assert client.get_tickers(["two", "none"]) == ["BBB"]
    assert client.get_tickers() == ["AAA", "BBB", "CCC"]
    assert client.get_tickers([]) == []


def test_an_id_is_found_or_an_error_raised(client: YfinanceClient) -> None:
    assert client.get_security_id("AAA") >= 1
    with pytest.raises(SecurityNotFound, match="BBB: is not registered"):
        client.get_security_id("BBB")


def test_bars_come_back_value_for_value(client: YfinanceClient, database_url: str) -> None:
    frame = make_bars(days=50).assign(dividends=0.1 + 0.2, stock_splits=1 / 3, capital_gains=0.7)
    frame["dividend_currency"] = "USD"

    result = client.insert_ohlcv("AAA", frame)

    assert result["rows_affected"] == 50
    days = frame.assign(date=frame["date"].dt.date, dividend_currency="USD")
    assert stored(database_url) == list(days.itertuples(index=False, name=None))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.floats(min_value=5e-324, max_value=1e308, allow_nan=False, allow_infinity=False),
    st.integers(min_value=0, max_value=2**63 - 1),
)
def test_every_float_is_stored_to_its_last_digit(
    client: YfinanceClient, database_url: str, price: float, volume: int
) -> None:
    frame = make_bars(days=1).assign(open=price, high=price, low=price, close=price, adj_close=price)
    frame["volume"] = np.array([volume], dtype="int64")

    client.insert_ohlcv("AAA", frame)

    assert stored(database_url)[0][1:7] == (price, price, price, price, price, volume)


def test_only_new_and_changed_bars_count_as_affected(client: YfinanceClient, database_url: str) -> None:
    frame = make_bars(days=30)
    client.insert_ohlcv("AAA", frame.iloc[:20])
    frame["adj_close"] = frame["adj_close"].mask(frame.index == 3, 1.25)

    assert client.insert_ohlcv("AAA", frame)["rows_affected"] == 11
    assert client.insert_ohlcv("AAA", frame)["rows_affected"] == 0
    assert stored(database_url)[3][5] == 1.25


def test_an_adjusted_close_that_is_not_known_is_null(client: YfinanceClient, database_url: str) -> None:
    client.insert_ohlcv("AAA", make_bars(days=2).assign(adj_close=np.nan))

    assert [row[5] for row in stored(database_url)] == [None, None]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda frame: frame.drop(columns="high"), "lack a column"),
        (lambda frame: pd.concat([frame, frame.iloc[:1]]), "two bars for 2024-"),
        (lambda frame: frame.assign(low=-1.0), "prices_positive"),
        (lambda frame: frame.assign(volume=1.5), "wrong type"),
        (lambda frame: frame.assign(close="x"), "wrong type"),
        (lambda frame: frame.assign(close=np.nan), "null value"),
        (lambda frame: frame.assign(open=np.nan), "ohlcv_known_check"),
    ],
)
def test_bars_that_cannot_be_are_refused_and_neither_data_nor_marker_is_there(
    client: YfinanceClient, database_url: str, change: Any, words: str
) -> None:
    with pytest.raises(InvalidData, match=words):
        client.insert_ohlcv("AAA", change(make_bars(days=5)), marker=marker())

    assert stored(database_url) == []
    assert Ledger(database_url).done(["Some_task_1"]) == set()


def test_data_and_marker_come_together(client: YfinanceClient, database_url: str) -> None:
    client.insert_ohlcv("AAA", make_bars(days=5), marker=marker(5))

    assert query(database_url, "SELECT task_id, rows, run_id FROM task_markers") == [("Some_task_1", 5, "run-1")]


def test_bars_of_a_ticker_that_is_not_registered_are_refused(client: YfinanceClient) -> None:
    with pytest.raises(SecurityNotFound):
        client.insert_ohlcv("ZZZ", make_bars())


IMPOSSIBLE = {
    "prices_positive": {"low": "0"},
    "prices_finite": {"high": "'Infinity'"},
    "high_is_highest": {"high": "10", "close": "11"},
    "low_is_lowest": {"low": "10", "open": "9.5"},
    "adj_close": {"adj_close": "'NaN'"},
    "volume": {"volume": "-1"},
    "dividends": {"dividends": "-0.5"},
    "stock_splits": {"stock_splits": "'Infinity'"},
    "capital_gains": {"capital_gains": "-0.5"},
    "known": {"open": "NULL"},
}


@pytest.mark.parametrize("name", PRICE_CHECKS)
def test_the_table_itself_refuses_an_impossible_bar(client: YfinanceClient, database_url: str, name: str) -> None:
    good = {"open": "10", "high": "12", "low": "9", "close": "11", "adj_close": "11", "volume": "5"}
    good |= {"dividends": "0", "stock_splits": "0", "capital_gains": "0"}
    for values, refused in ((good | IMPOSSIBLE[name], True), (good, False)):
        names, numbers = ", ".join(values), ", ".join(values.values())
        row = f"SELECT security_id, '2024-01-02', '2024-01-02', {numbers} FROM securities"
        statement = f"INSERT INTO ohlcv (security_id, date, as_of, {names}) {row}"
        with engine_for(database_url).connect() as connection:
            if refused:
                with pytest.raises(sa.exc.IntegrityError, match=f"ohlcv_{name}_check"):
                    connection.execute(sa.text(statement))
            else:
                connection.execute(sa.text(statement))
            connection.rollback()


def test_nan_is_no_price_for_the_table(client: YfinanceClient, database_url: str) -> None:
    statement = (
        "INSERT INTO ohlcv (security_id, date, as_of, open, high, low, close, volume) "
        "SELECT security_id, '2024-01-02', '2024-01-02', 'NaN', 'NaN', 'NaN', 'NaN', 1 FROM securities"
    )
    with engine_for(database_url).connect() as connection, pytest.raises(sa.exc.IntegrityError, match="finite"):
        connection.execute(sa.text(statement))


def test_company_data_is_typed_and_kept_whole_by_date(client: YfinanceClient, database_url: str) -> None:
    answer = {
        "longName": "A Inc",
        "sector": "Tech",
        "marketCap": 3e12,
        "sharesOutstanding": 15_000,
        "x": [1, {"y": None}],
    }

    client.insert_metadata("AAA", {"sector": "Old"}, as_of=dt.date(2024, 1, 1))
    client.insert_metadata("AAA", {"sector": "Older"}, as_of=dt.date(2024, 1, 2))
    client.insert_metadata("AAA", answer, as_of=dt.date(2024, 1, 2), marker=marker())

    rows = query(
        database_url,
        "SELECT as_of, name, sector, market_cap, shares_outstanding, answer FROM security_metadata ORDER BY 1",
    )
    assert rows == [
        (dt.date(2024, 1, 1), None, "Old", None, None, {"sector": "Old"}),
        (dt.date(2024, 1, 2), "A Inc", "Tech", Decimal("3000000000000"), Decimal(15000), answer),
    ]
    assert Ledger(database_url).done(["Some_task_1"]) == {"Some_task_1"}


@pytest.mark.parametrize(
    ("answer", "market_cap", "kept"),
    [
        ({"marketCap": math.inf}, None, {"marketCap": None}),
        ({"marketCap": math.nan}, None, {"marketCap": None}),
        ({"marketCap": -5}, None, {"marketCap": -5}),
        ({"marketCap": "much"}, None, {"marketCap": "much"}),
        ({"marketCap": True}, None, {"marketCap": True}),
        ({"marketCap": 10**40}, Decimal(10**40), {"marketCap": 10**40}),
        ({"longName": "a\0b\ud800c"}, None, {"longName": "a\ufffdb?c"}),
        ({"sector": 5, "a\0": {"b": ["\0"]}}, None, {"sector": 5, "a\ufffd": {"b": ["\ufffd"]}}),
    ],
)
def test_hostile_company_data_is_stored_or_left_untyped_but_never_fails(
    client: YfinanceClient, database_url: str, answer: dict[str, Any], market_cap: Any, kept: dict[str, Any]
) -> None:
    client.insert_metadata("AAA", {"country": "Chad", **answer})

    rows = query(database_url, "SELECT market_cap, answer FROM security_metadata")
    assert rows == [(market_cap, {"country": "Chad", **kept})]


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    client = YfinanceClient(f"postgresql://me:s3cret@127.0.0.1:{free_port()}/db")

    with pytest.raises(DatabaseUnavailable) as raised:
        client.get_tickers()

    assert "does not answer" in str(raised.value)
    assert "s3cret" not in str(raised.value)
    assert "s3cret" not in repr(raised.value.__cause__)


def test_a_password_is_never_shown_wherever_it_stands_in_the_url() -> None:
    for url in ("postgresql://me:s3cret@host/db", "postgres://me@host:5433/db?password=s3cret&sslmode=require"):
        assert "s3cret" not in shown(url)
        assert "me" in shown(url)


def test_a_connection_that_is_refused_is_not_a_server_that_is_down(empty_database_url: str) -> None:
    with pytest.raises(DatabaseRefused, match='database "no_such_database" does not exist'):
        YfinanceClient(re.sub(r"/test_\d+", "/no_such_database", empty_database_url)).get_tickers()


@pytest.mark.parametrize("url", ["nonsense:s3cret", "mysql://me:s3cret@host/db"])
def test_a_url_that_is_none_is_explained_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        YfinanceClient(url)

    assert "DATABASE_URL" in str(raised.value)
    assert "s3cret" not in str(raised.value)
