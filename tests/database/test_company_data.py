"""Which answer about a company replaces the stored one: never an empty shell, nor a part of what was there."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

import pytest
import sqlalchemy as sa

from luigi_tasks import YfinanceClient, metadata
from luigi_tasks.database.engine import engine_for
from luigi_tasks.database.ledger import Ledger, Marker, Step
from luigi_tasks.database.standing import Standing
from luigi_tasks.errors import SecurityNotFound

DAY = dt.date(2026, 11, 20)
LATER = DAY + dt.timedelta(days=7)

# What quoteSummary's modules say, as yfinance lays them over each other.
MODULES: dict[str, dict[str, Any]] = {
    "quoteType": {
        "symbol": "AAA",
        "quoteType": "EQUITY",
        "exchange": "NMS",
        "longName": "A Inc",
        "shortName": "A",
        "underlyingSymbol": "AAA",
        "firstTradeDateEpochUtc": 345479400,
        "timeZoneFullName": "America/New_York",
        "timeZoneShortName": "EST",
        "uuid": "8b10e4ae",
        "messageBoardId": "finmb_1",
        "gmtOffSetMilliseconds": -18000000,
        "maxAge": 86400,
    },
    "summaryDetail": {
        "currency": "USD",
        "marketCap": 3_000_000_000,
        **{f"detail{n}": n for n in range(30)},
        "maxAge": 86400,
    },
    "assetProfile": {
        "country": "France",
        "sector": "Energy",
        "industry": "Oil",
        **{f"profile{n}": n for n in range(20)},
        "maxAge": 86400,
    },
    "defaultKeyStatistics": {"sharesOutstanding": 1_000_000, **{f"key{n}": n for n in range(40)}, "maxAge": 86400},
    "financialData": {
        "financialCurrency": "EUR",
        "currentPrice": 5.0,
        **{f"money{n}": n for n in range(25)},
        "maxAge": 86400,
    },
}
WHOLE = {name: value for module in MODULES.values() for name, value in module.items()}
# Funds, indices and currencies have neither sector nor shares.
FUND = MODULES["quoteType"] | {"quoteType": "ETF", "currency": "USD"} | {f"detail{n}": n for n in range(25)}
KNOWN = ["name", "quote_type", "exchange", "currency", "country", "sector", "industry", "market_cap"]
KNOWN += ["shares_outstanding"]


@pytest.fixture
def client(emptied_url: str) -> YfinanceClient:
    made = YfinanceClient(emptied_url)
    made.insert_security("AAA", [])
    return made


def marker(day: dt.date, number: int = 1) -> Marker:
    return Marker(Step(f"InsertMetadata_AAA_{day}_{number}", "InsertMetadata", "run-1", "AAA", day), rows=1)


def receipt(url: str, mark: Marker) -> tuple[int, dict[str, Any]]:
    """(rows, detail) of the marker that was written."""
    found = Ledger(url).markers([mark.step.task_id])[mark.step.task_id]
    return found["rows"], found["detail"]


def rows(url: str) -> list[Any]:
    query = "SELECT as_of, name, answer FROM security_metadata ORDER BY as_of"
    with engine_for(url).begin() as connection:
        return [tuple(row) for row in connection.execute(sa.text(query))]


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in WHOLE.items() if name not in names}


SHELLS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "the symbol alone": {"symbol": "AAA"},
    "no company data": {"symbol": "AAA", "quoteType": "NONE"},
    "a shell with its exchange": {"symbol": "AAA", "quoteType": "NONE", "exchange": "NYQ"},
    "a shell with names": {"symbol": "AAA", "quoteType": "MUTUALFUND", "exchange": "YHD", "longName": "AAA"},
    "nulls": dict.fromkeys(WHOLE),
    "empty texts": {"longName": "", "sector": "", "quoteType": "", "currency": ""},
    **MODULES,
    **{
        " and ".join(pair): {**MODULES[pair[0]], **MODULES[pair[1]]}
        for pair in itertools.combinations(MODULES, 2)
        if "assetProfile" not in pair or "quoteType" not in pair
    },
}


@pytest.mark.parametrize("answer", SHELLS.values(), ids=list(SHELLS))
def test_a_shell_or_a_lone_module_replaces_nothing(
    client: YfinanceClient, emptied_url: str, answer: dict[str, Any]
) -> None:
    client.insert_metadata("AAA", WHOLE, as_of=DAY)
    mark = marker(LATER)

    result = client.insert_metadata("AAA", answer, as_of=LATER, marker=mark)

    assert rows(emptied_url) == [(DAY, "A Inc", WHOLE)]
    count, detail = receipt(emptied_url, mark)
    assert count == 0
    assert detail["kept_company"]["as_of"] == str(DAY)
    lacks = detail["kept_company"]["lacks"]
    assert lacks == [name for name in KNOWN if name in lacks]
    assert len(lacks) >= 3
    assert result == {
        "success": True,
        "rows_affected": 0,
        "message": f"AAA: that of {DAY} stays, the answer lacks {', '.join(lacks)}",
    }


@pytest.mark.parametrize("name", MODULES)
def test_a_lone_module_does_not_replace_a_fund_s_data(client: YfinanceClient, emptied_url: str, name: str) -> None:
    client.insert_metadata("AAA", FUND, as_of=DAY)
    answer = {key: value for key, value in MODULES[name].items() if key in FUND}

    client.insert_metadata("AAA", answer, as_of=LATER)

    assert rows(emptied_url) == [(DAY, "A Inc", FUND)]


CHANGES: dict[str, dict[str, Any]] = {
    "the same": WHOLE,
    "market value and shares are gone": without("marketCap", "sharesOutstanding"),
    "another name and sector": WHOLE | {"longName": "B Inc", "sector": "Tech"},
    "a listing elsewhere": WHOLE | {"exchange": "NYQ", "currency": "EUR"},
    "no sector and industry": without("sector", "industry"),
    "half of the fields without a column": {
        name: value for name, value in WHOLE.items() if not name.startswith(("detail", "key", "money", "profile"))
    },
}


@pytest.mark.parametrize("answer", CHANGES.values(), ids=list(CHANGES))
def test_a_change_of_the_company_is_stored(client: YfinanceClient, emptied_url: str, answer: dict[str, Any]) -> None:
    client.insert_metadata("AAA", WHOLE, as_of=DAY)
    mark = marker(LATER)

    result = client.insert_metadata("AAA", answer, as_of=LATER, marker=mark)

    assert result["rows_affected"] == 1
    assert rows(emptied_url)[1:] == [(LATER, answer["longName"], answer)]
    assert receipt(emptied_url, mark) == (1, {})


def test_files_are_held_against_files(client: YfinanceClient, emptied_url: str) -> None:
    row = {"symbol": "AAA", "name": "A Inc", "type": "stock", "sector": "Energy", "market_cap": "5", "isin": "X1"}
    client.insert_metadata("AAA", row, as_of=DAY)

    client.insert_metadata("AAA", {"symbol": "AAA"}, as_of=LATER)
    client.insert_metadata("AAA", {"symbol": "AAA", "name": "A Inc", "sector": "Energy"}, as_of=LATER)
    assert rows(emptied_url) == [(DAY, "A Inc", row)]

    client.insert_metadata("AAA", row | {"market_cap": ""}, as_of=LATER)
    assert [day for day, _, _ in rows(emptied_url)] == [DAY, LATER]


def test_of_a_company_that_nothing_was_ever_known_of_there_is_no_row(client: YfinanceClient, emptied_url: str) -> None:
    mark = marker(DAY)

    result = client.insert_metadata("AAA", {"symbol": "AAA"}, as_of=DAY, marker=mark)

    assert result == {"success": True, "rows_affected": 0, "message": "AAA: no company data"}
    assert rows(emptied_url) == []
    assert receipt(emptied_url, mark) == (0, {})
    read = metadata(["AAA"], database_url=emptied_url)
    assert read.loc[:, ["name", "sector", "market_cap"]].isna().all(axis=None)

    client.insert_metadata("AAA", WHOLE, as_of=LATER)
    assert [day for day, _, _ in rows(emptied_url)] == [LATER]


@pytest.mark.parametrize("first", ["better", "poorer"])
def test_of_two_answers_of_one_date_the_better_one_stays(client: YfinanceClient, emptied_url: str, first: str) -> None:
    answers = {"better": WHOLE, "poorer": without("marketCap")}
    client.insert_metadata("AAA", answers.pop(first), as_of=DAY, marker=marker(DAY))
    [(_, second)] = answers.items()

    for _ in range(2):
        client.insert_metadata("AAA", second, as_of=DAY, marker=marker(DAY))

    assert rows(emptied_url) == [(DAY, "A Inc", WHOLE)]


def test_an_answer_given_twice_leaves_the_same_as_given_once(client: YfinanceClient, emptied_url: str) -> None:
    client.insert_metadata("AAA", WHOLE, as_of=DAY, marker=marker(DAY))
    once = rows(emptied_url), receipt(emptied_url, marker(DAY))

    assert client.insert_metadata("AAA", WHOLE, as_of=DAY, marker=marker(DAY))["rows_affected"] == 1

    assert (rows(emptied_url), receipt(emptied_url, marker(DAY))) == once


def test_an_earlier_date_is_held_against_what_was_stored_up_to_it(client: YfinanceClient, emptied_url: str) -> None:
    client.insert_metadata("AAA", without("sector", "industry", "country"), as_of=DAY)
    client.insert_metadata("AAA", WHOLE, as_of=LATER)
    between = DAY + dt.timedelta(days=1)

    client.insert_metadata("AAA", without("sector", "industry", "country", "marketCap"), as_of=between)

    assert [day for day, _, _ in rows(emptied_url)] == [DAY, between, LATER]


def test_a_shell_that_an_earlier_version_stored_protects_nothing(client: YfinanceClient, emptied_url: str) -> None:
    client.insert_metadata("AAA", MODULES["quoteType"], as_of=DAY)
    shell = "UPDATE security_metadata SET name = NULL, exchange = NULL, quote_type = 'NONE', answer = '{}'"
    with engine_for(emptied_url).begin() as connection:
        connection.execute(sa.text(shell))

    client.accept("AAA", force=True)

    client.insert_metadata("AAA", {"symbol": "AAA"}, as_of=DAY)
    assert Standing(emptied_url).fresh_metadata(["AAA"], DAY, 7) == {"AAA"}
    client.insert_metadata("AAA", {"sector": "Energy"}, as_of=LATER)

    assert [day for day, _, _ in rows(emptied_url)] == [DAY, LATER]


@pytest.mark.parametrize("answer", [{"symbol": "AAA"}, MODULES["assetProfile"], WHOLE])
@pytest.mark.parametrize("stored", [None, WHOLE])
def test_it_falls_due_like_others_whatever_came_of_it(
    client: YfinanceClient, emptied_url: str, answer: dict[str, Any], stored: dict[str, Any] | None
) -> None:
    standing = Standing(emptied_url)
    if stored is not None:
        client.insert_metadata("AAA", stored, as_of=DAY - dt.timedelta(days=100))
    assert standing.fresh_metadata(["AAA"], DAY, 7) == set()

    client.insert_metadata("AAA", answer, as_of=DAY, marker=marker(DAY))

    fresh = [bool(standing.fresh_metadata(["AAA"], DAY + dt.timedelta(days=n), 7)) for n in range(8)]
    assert fresh[0]
    assert not fresh[7]
    assert fresh == sorted(fresh, reverse=True)
    assert standing.fresh_metadata(["AAA"], DAY - dt.timedelta(days=50), 7) == {"AAA"}

    client.insert_metadata("AAA", answer, as_of=DAY - dt.timedelta(days=50))
    assert standing.fresh_metadata(["AAA"], DAY, 7) == {"AAA"}


def test_a_ticker_that_is_forgotten_is_asked_for_anew(client: YfinanceClient, emptied_url: str) -> None:
    client.insert_metadata("AAA", {"symbol": "AAA"}, as_of=DAY, marker=marker(DAY))

    client.delete_security("AAA")
    client.insert_security("AAA", [])

    assert Standing(emptied_url).fresh_metadata(["AAA"], DAY, 7) == set()
    assert Ledger(emptied_url).done([marker(DAY).step.task_id]) == set()


def test_once_another_history_was_accepted_its_company_replaces_the_old_one(
    client: YfinanceClient, emptied_url: str
) -> None:
    client.insert_metadata("AAA", WHOLE, as_of=DAY, marker=marker(DAY))

    client.accept("AAA", force=True)

    assert Standing(emptied_url).fresh_metadata(["AAA"], DAY, 100_000) == set()
    # A day without an answer must not bring the old company's data back to power.
    client.insert_metadata("AAA", {"symbol": "AAA"}, as_of=LATER, marker=marker(LATER))
    assert receipt(emptied_url, marker(LATER)) == (0, {"kept_company": {"as_of": str(DAY), "lacks": KNOWN}})
    client.insert_metadata("AAA", {"longName": "Other"}, as_of=LATER + dt.timedelta(days=1))
    assert [name for _, name, _ in rows(emptied_url)] == ["A Inc", "Other"]
    assert Standing(emptied_url).fresh_metadata(["AAA"], LATER, 100_000) == {"AAA"}


@pytest.mark.parametrize(
    ("currency", "worth", "of_it"),
    [("GBp", 5, "GBP"), ("ILA", 5, "ILS"), ("USD", 5, "USD"), (None, 5, None), ("GBp", None, None), ("GBp", "x", None)],
)
def test_a_market_value_is_in_the_major_unit(
    client: YfinanceClient, emptied_url: str, currency: str | None, worth: Any, of_it: str | None
) -> None:
    client.insert_metadata("AAA", {"longName": "A", "currency": currency, "marketCap": worth}, as_of=DAY)

    with engine_for(emptied_url).begin() as connection:
        row = connection.execute(sa.text("SELECT currency, market_cap_currency FROM security_metadata")).one()
    assert tuple(row) == (currency, of_it)


def test_company_data_of_nobody_is_refused(client: YfinanceClient) -> None:
    with pytest.raises(SecurityNotFound):
        client.insert_metadata("BBB", {"symbol": "BBB"})
