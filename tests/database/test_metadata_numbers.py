"""Company data in typed columns: which field is taken, and which value is a number."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from luigi_tasks import YfinanceClient
from luigi_tasks.database.engine import engine_for


def stored(emptied_url: str, column: str, answer: dict[str, Any]) -> Any:
    client = YfinanceClient(emptied_url)
    client.insert_security("AAA", [])
    client.insert_metadata("AAA", {"country": "Chad", **answer})
    with engine_for(emptied_url).begin() as connection:
        return connection.scalar(sa.text(f"SELECT {column} FROM security_metadata"))


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0, 0),
        (3_000_000_000_000, 3_000_000_000_000),
        (2**63, 2**63),
        (10**400, 10**400),
        (3e12, 3_000_000_000_000),
        (0.1, Decimal("0.1")),
        (1e300, 10**300),
        ("3000000000", 3_000_000_000),
        ("0.5", Decimal("0.5")),
        ("-5", None),
        ("NaN", None),
        ("Infinity", None),
        ("1e400000", None),
        ("3 bn", None),
        ("", None),
        (float("1e400"), None),
        (-1e-9, None),
        (-0.0, 0),
        (None, None),
        (False, None),
        ([1], None),
        ({"raw": 1}, None),
    ],
)
def test_a_market_value_is_a_number_or_not_known(emptied_url: str, value: Any, number: Any) -> None:
    assert stored(emptied_url, "market_cap", {"marketCap": value}) == number


@pytest.mark.parametrize(
    ("column", "answer", "value"),
    [
        ("name", {"shortName": "short", "longName": "long", "name": "plain"}, "long"),
        ("name", {"shortName": "short", "longName": "", "name": "plain"}, "short"),
        ("name", {"longName": None, "name": "plain"}, "plain"),
        ("quote_type", {"quoteType": "ETF", "type": "stock"}, "ETF"),
        ("quote_type", {"type": "stock"}, "stock"),
        ("exchange", {"exchange": "NMS"}, "NMS"),
        ("currency", {"currency": "GBp"}, "GBp"),
        ("country", {"country": "Côte d'Ivoire"}, "Côte d'Ivoire"),
        ("sector", {"sector": "Food & Drink"}, "Food & Drink"),
        ("industry", {"industry": ["not", "text"]}, None),
        ("industry", {}, None),
        ("shares_outstanding", {"sharesOutstanding": 7, "shares_outstanding": 8}, 7),
        ("shares_outstanding", {"shares_outstanding": 8}, 8),
        ("market_cap", {"market_cap": 9}, 9),
    ],
)
def test_each_column_has_its_fields(emptied_url: str, column: str, answer: dict[str, Any], value: Any) -> None:
    assert stored(emptied_url, column, answer) == value


def test_without_a_date_the_data_is_of_today_in_utc(emptied_url: str) -> None:
    before = dt.datetime.now(dt.UTC).date()
    as_of = stored(emptied_url, "as_of", {"longName": "A"})

    assert before <= as_of <= dt.datetime.now(dt.UTC).date()


def test_the_same_day_again_replaces_every_column(emptied_url: str) -> None:
    client = YfinanceClient(emptied_url)
    client.insert_security("AAA", [])
    day = dt.date(2024, 1, 2)
    client.insert_metadata("AAA", {"longName": "A", "industry": "J", "sector": "S", "marketCap": 1}, as_of=day)

    answer = {"longName": "B", "country": "C", "industry": "I", "sector": "T"}
    result = client.insert_metadata("AAA", answer, as_of=day)

    with engine_for(emptied_url).begin() as connection:
        rows = connection.execute(sa.text("SELECT name, sector, market_cap, answer FROM security_metadata")).all()
    assert [tuple(row) for row in rows] == [("B", "T", None, answer)]
    assert result == {
        "success": True,
        "rows_affected": 1,
        "message": "AAA: company data as of 2024-01-02 stored, 4 fields",
    }
