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

DAY, MONDAY, LATER, LAST = "2024-03-15", "2024-03-18", "2024-03-22", "2024-03-29"
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
    FROM security_metadata AS known JOIN securities USING (security_id) WHERE ticker = :ticker ORDER BY as_of
"""
SHELL = {"quoteType": {"quoteType": "NONE", "symbol": "SHELL", "exchange": "NYQ"}}
LONE = {"quoteType": {"quoteType": "EQUITY", "symbol": "LONE", "exchange": "NMS", "longName": "A Inc"}}


def summary(modules: dict[str, Any]) -> Answer:
    document = {"quoteSummary": {"result": [modules], "error": None}}
    return Answer(200, json.dumps(document).encode(), "application/json")


LITTLE = {
    "NOTHING": error("quoteSummary", 404, "Not Found", "No fundamentals data found for symbol: NOTHING"),
    "NOQUOTE": error("quoteSummary", 404, "Not Found", "Quote not found for symbol: NOQUOTE"),
    "SHELL": summary(SHELL),
    "LONE": summary(LONE),
}
"""What Yahoo says of each in place of what it knew."""
NEVER = {"NONE1": LITTLE["NOTHING"], "NONE2": LITTLE["NOQUOTE"]}
FORGOTTEN = "FORGET"


@pytest.fixture
def yahoo(workspace: Workspace) -> Iterator[LoopbackYahoo]:
    workspace.set("Yahoo", prices_per_minute="0", company_per_minute="0")
    tickers = [*LITTLE, *NEVER, FORGOTTEN]
    workspace.universe.write_text(f"groupings:\n  all: {{tickers: [{', '.join(tickers)}]}}\n")
    with LoopbackYahoo(workspace.folder / "yahoo") as server:
        for seed, ticker in enumerate(tickers):
            server.add(ticker, make_bars(days=60, last=LAST, seed=seed), info=INFO, currency="GBp")
        workspace.environment = server.environment()
        yield server


def run(workspace: Workspace, day: str) -> dict[str, Any]:
    """Of a run that has to end well, the report's line on InsertMetadata."""
    done = workspace.run("--date", day, "--years-back", "1")
    assert done.code == 0, done
    report = json.loads((workspace.store / "reports/latest/report.json").read_text())
    (step,) = (each for each in report["steps"] if each["step"] == "InsertMetadata")
    return {**step, **report["stored"]}


def test_what_is_known_of_a_company_outlasts_answers_that_know_little(
    workspace: Workspace, yahoo: LoopbackYahoo
) -> None:
    for ticker in (*NEVER, FORGOTTEN):
        yahoo.fault(ticker, (NEVER | {FORGOTTEN: LITTLE["NOTHING"]})[ticker], endpoint="summary")
    first = run(workspace, DAY)
    assert (first["succeeded"], first["rows"]) == (7, 4)
    assert first["tickers_with_company_data"] == 4
    for ticker, answer in LITTLE.items():
        yahoo.fault(ticker, answer, endpoint="summary")
    yahoo.forget_requests()

    for day in (MONDAY, LATER):
        step = run(workspace, day)
        assert (step["failed"], step["rows"]) == (0, 0)
        assert step["tickers_with_company_data"] == 4

    for ticker in LITTLE:
        assert workspace.query(KNOWN, ticker=ticker) == [(DAY, "A Inc", "Energy", 5_000_000, "GBP")]
    for ticker in NEVER:
        assert workspace.query(KNOWN, ticker=ticker) == []
        # Once in the time after which company data counts as old, as of a ticker that has some.
        assert yahoo.count("summary", ticker) == 1
    yahoo.forget_faults()
    assert workspace.command("forget", FORGOTTEN, "--yes").returncode == 0

    run(workspace, LAST)

    for ticker in LITTLE:
        assert [row[0] for row in workspace.query(KNOWN, ticker=ticker)] == [DAY, LAST]
    assert [row[0] for row in workspace.query(KNOWN, ticker=FORGOTTEN)] == [LAST]
