"""Any text that a source sends can be stored, and comes back as what `storable` made of it."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luigi_tasks import YfinanceClient
from luigi_tasks.database.engine import engine_for
from luigi_tasks.database.ledger import Ledger, Marker, Step
from luigi_tasks.database.text import storable
from luigi_tasks.errors import InvalidData, SecuritiesMasterError, SecurityNotFound
from luigi_tasks.targets.paths import file_name
from luigi_tasks.tickers import normalise, problem_with
from tests.conftest import make_bars

# Every code point there is, NUL and halves of surrogate pairs among them.
TEXT = st.text(st.characters(exclude_categories=()), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def numerals(value: Any) -> Any:
    """The value with numbers as PostgreSQL keeps them in jsonb: their decimal digits, without a type."""
    return json.loads(json.dumps(value), parse_float=Decimal, parse_int=Decimal)


ON_ONE_DATABASE = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(JSON)
def test_what_is_storable_is_utf8_json_without_nul(value: Any) -> None:
    made = storable(value)

    text = json.dumps(made, allow_nan=False, ensure_ascii=False)
    assert "\\u0000" not in text
    text.encode("utf-8")
    assert storable(made) == made


@pytest.mark.parametrize(
    "value", ["ü", "\U0001f600", "", "\ufffd", 0, -1.5, True, None, [], {}, {"a": [1, {"b": "ß"}]}]
)
def test_what_can_be_stored_is_left_as_it_is(value: Any) -> None:
    assert storable(value) == value
    assert type(storable(value)) is type(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308 * 10])
def test_what_json_has_no_number_for_is_none(value: float) -> None:
    assert storable([value, {"a": value}]) == [None, {"a": None}]


@ON_ONE_DATABASE
@given(st.dictionaries(TEXT, JSON, max_size=4))
def test_any_company_data_is_stored_whole(emptied_url: str, answer: dict[str, Any]) -> None:
    client = YfinanceClient(emptied_url)
    client.insert_security("AAA", [])

    answer = {**answer, "longName": "A"}
    client.insert_metadata("AAA", answer)

    with engine_for(emptied_url).begin() as connection:
        text = connection.scalar(sa.text("SELECT answer::text FROM security_metadata"))
    assert json.loads(str(text), parse_float=Decimal, parse_int=Decimal) == numerals(storable(answer))


@ON_ONE_DATABASE
@given(TEXT, st.dictionaries(TEXT, JSON, max_size=3))
def test_any_reason_and_any_detail_can_be_kept(emptied_url: str, reason: str, detail: dict[str, Any]) -> None:
    ledger, step = Ledger(emptied_url), Step("Some_task_1", "Some", "run-1", "AAA")

    ledger.fail(step, "unexpected", reason)
    ledger.mark(Marker(step, 1, detail))
    ledger.begin_run("run-1", "Some", detail)

    assert ledger.failures("run-1")[-1]["reason"] == storable(reason)
    assert ledger.markers(["Some_task_1"])["Some_task_1"]["detail"].keys() == storable(detail).keys()


HOSTILE = [
    "A\0",
    "\0",
    "\ud800",
    "A\nB",
    "",
    "ａａｐｌ",
    "ＡＡＰＬ",
    "'; DROP TABLE ohlcv; --",
    "%s",
    "%(ticker)s",
    ":id",
    "A" * 300,
]


@pytest.mark.parametrize("ticker", HOSTILE)
def test_what_is_no_ticker_is_not_registered(emptied_url: str, ticker: str) -> None:
    client = YfinanceClient(emptied_url)

    with pytest.raises(InvalidData):
        client.insert_security(ticker, ["a"])

    assert client.get_tickers() == []


@pytest.mark.parametrize("ticker", HOSTILE)
def test_what_is_no_ticker_is_not_found(emptied_url: str, ticker: str) -> None:
    client = YfinanceClient(emptied_url)

    for ask in (
        lambda: client.get_security_id(ticker),
        lambda: client.insert_ohlcv(ticker, make_bars(days=1)),
        lambda: client.insert_metadata(ticker, {}),
    ):
        with pytest.raises(SecurityNotFound):
            ask()


@pytest.mark.parametrize("grouping", ["a\0b", "\ud800", ""])
def test_a_grouping_that_cannot_be_stored_is_one_of_our_errors(emptied_url: str, grouping: str) -> None:
    client = YfinanceClient(emptied_url)

    with pytest.raises(SecuritiesMasterError):
        client.insert_security("AAA", [grouping])

    assert client.get_tickers() == [], "neither the security nor its grouping"


@pytest.mark.parametrize("grouping", ["'; DROP TABLE ohlcv; --", "%s %(x)s :y", "S&P 500", "ü" * 500, "\n"])
def test_any_other_grouping_is_just_text(emptied_url: str, grouping: str) -> None:
    client = YfinanceClient(emptied_url)

    client.insert_security("AAA", [grouping])

    assert client.get_tickers([grouping]) == ["AAA"]


@ON_ONE_DATABASE
@given(st.text(alphabet="AZ09.-=^&_a \n$'", min_size=1, max_size=34))
def test_every_well_formed_ticker_can_have_a_row_and_a_file(emptied_url: str, text: str) -> None:
    client = YfinanceClient(emptied_url)
    ticker = normalise(text)
    problem = problem_with(ticker)
    if problem is None:
        client.insert_security(text, [])
        assert file_name(ticker)
        assert client.get_security_id(text) == client.get_security_id(ticker) >= 1
        assert text == ticker or text not in client.get_tickers()
    elif "dot" not in problem:
        # Of dots the table's own check says nothing.
        with pytest.raises(InvalidData):
            client.insert_security(text, [])
