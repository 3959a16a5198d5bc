"""Runs against a Yahoo that knows little of a company, or loses what it knew."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import make_bars
from tests.workspace import Workspace
from tests.yahoo.answers import Answer, error
from tests.yahoo.server import LoopbackYahoo

DAY, LATER, LAST = "2024-03-15", "2024-03-22", "2024-03-29"
INFO = {
    "longName": "A Inc",
    "sector": "Energy",
    "industry": "Oil",
    "country": "France",
    "marketCap": 5_000_000,
    "sharesOutstanding": 1_000,
}
KNOWN = """
    SELECT as_of::text, known.name, sector, market_cap::bigint, market_cap_currency
    FROM security_metadata AS known JOIN securities USING (security_id) WHERE ticker = 'AAA' ORDER BY as_of
"""
SHELL = {"quoteType": {"quoteType": "NONE", "symbol": "AAA", "exchange": "NYQ"}}
LONE = {"quoteType": {"quoteType": "EQUITY", "symbol": "AAA", "exchange": "NMS", "longName": "A Inc"}}
NO_QUOTE = error("quoteSummary", 404, "Not Found", "Quote not found for symbol: AAA")
NOTHING = error("quoteSummary", 404, "Not Found", "No fundamentals data found for symbol: AAA")


def summary(modules: dict[str, Any]) -> Answer:
    document = {"quoteSummary": {"result": [modules], "error": None}}
    return Answer(200, json.dumps(document).encode(), "application/json")


@pytest.fixture
def yahoo(workspace: Workspace) -> Iterator[LoopbackYahoo]:
    workspace.set("Yahoo", prices_per_minute="0", company_per_minute="0")
    workspace.universe.write_text("groupings:\n  all: {tickers: [AAA]}\n")
    with LoopbackYahoo(workspace.folder / "yahoo") as server:
        server.add("AAA", make_bars(days=60, last=LAST), info=INFO, currency="GBp")
        workspace.environment = server.environment()
        yield server


def run(workspace: Workspace, day: str) -> dict[str, Any]:
    """The report of a run that has to end well."""
    done = workspace.run("--date", day, "--years-back", "1")
    assert done.code == 0, done
    document: dict[str, Any] = json.loads((workspace.store / "reports/latest/report.json").read_text())
    return document


def step(report: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in report["steps"] if each["step"] == name)


@pytest.mark.parametrize(
    "answer",
    [NOTHING, NO_QUOTE, summary(SHELL), summary(LONE)],
    ids=["nothing", "no quote", "shell", "lone module"],
)
def test_what_is_known_of_a_company_outlasts_an_answer_that_knows_little(
    workspace: Workspace, yahoo: LoopbackYahoo, answer: Answer
) -> None:
    run(workspace, DAY)
    yahoo.fault("AAA", answer, endpoint="summary")

    report = run(workspace, LATER)

    assert workspace.query(KNOWN) == [(DAY, "A Inc", "Energy", 5_000_000, "GBP")]
    inserted = step(report, "InsertMetadata")
    assert (inserted["succeeded"], inserted["failed"], inserted["rows"]) == (1, 0, 0)
    assert report["stored"]["tickers_with_company_data"] == 1
    yahoo.forget_faults()
    run(workspace, LAST)
    assert [row[0] for row in workspace.query(KNOWN)] == [DAY, LAST]


@pytest.mark.parametrize("answer", [NOTHING, NO_QUOTE], ids=["nothing", "no quote"])
def test_a_ticker_without_company_data_is_asked_once_in_a_while(
    workspace: Workspace, yahoo: LoopbackYahoo, answer: Answer
) -> None:
    yahoo.fault("AAA", answer, endpoint="summary")

    report = run(workspace, DAY)

    assert workspace.query(KNOWN) == []
    assert step(report, "InsertMetadata")["succeeded"] == 1
    asked = []
    for day in ("2024-03-18", "2024-03-19", "2024-03-20", "2024-03-21", LATER):
        yahoo.forget_requests()
        run(workspace, day)
        asked.append(yahoo.count("summary"))
    assert sum(asked) == 1


def test_company_data_is_asked_for_again_after_a_ticker_was_forgotten(
    workspace: Workspace, yahoo: LoopbackYahoo
) -> None:
    yahoo.fault("AAA", NOTHING, endpoint="summary", times=1)
    run(workspace, DAY)
    assert workspace.command("forget", "AAA", "--yes").returncode == 0

    run(workspace, DAY)

    assert [row[0] for row in workspace.query(KNOWN)] == [DAY]
