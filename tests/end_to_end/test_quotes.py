"""Quotes of many tickers at once: the numbers that move daily, and what they tell of bars."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from luigi_tasks.database.engine import engine_for
from luigi_tasks.run import lifecycle
from luigi_tasks.tasks.download_quotes import QuotesTarget, wanted
from tests.conftest import make_bars
from tests.workspace import Finished, Workspace
from tests.yahoo.answers import ok
from tests.yahoo.server import LoopbackYahoo

TICKERS = ["AAA", "BBB", "CCC"]
TODAY = dt.datetime.now(dt.UTC).date()
YESTERDAY = TODAY - dt.timedelta(days=1)
LAST = TODAY - dt.timedelta(days=10)
"""Of the bars: long settled, whatever the time of day."""
NUMBERS = """
    SELECT ticker, as_of, market_cap::bigint, market_cap_currency, shares_outstanding::bigint
    FROM company_numbers JOIN securities USING (security_id) ORDER BY 1, 2
"""


@pytest.fixture
def yahoo(workspace: Workspace) -> Iterator[LoopbackYahoo]:
    workspace.set("Yahoo", prices_per_minute="0", company_per_minute="0", first_pause="0.1", longest_pause="0.3")
    workspace.universe.write_text(f"groupings:\n  all: {{tickers: [{', '.join(TICKERS)}]}}\n")
    with LoopbackYahoo(workspace.folder / "yahoo") as server:
        for seed, ticker in enumerate(TICKERS):
            info = {"longName": f"{ticker} plc", "sector": "Energy", "marketCap": 1000 + seed, "sharesOutstanding": 10}
            server.add(ticker, bars(seed), info=info, currency="GBp")
        workspace.environment = server.environment()
        yield server


def bars(seed: int) -> pd.DataFrame:
    return make_bars(days=60, last=str(LAST), seed=seed)


def run(workspace: Workspace, day: dt.date, *more: str) -> Finished:
    done = workspace.run("--date", str(day), "--years-back", "1", *more)
    assert done.code == 0, done
    return done


def counts(yahoo: LoopbackYahoo) -> dict[str, int]:
    return {endpoint: yahoo.count(endpoint) for endpoint in ("quote", "chart", "summary")}


def report(workspace: Workspace) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((workspace.store / "reports/latest/report.json").read_text())
    return document


def test_the_numbers_come_daily_by_one_request_and_all_else_once_a_month(
    workspace: Workspace, yahoo: LoopbackYahoo
) -> None:
    run(workspace, YESTERDAY)
    assert counts(yahoo) == {"quote": 0, "chart": 3, "summary": 3}, "a quote only tells of today"
    yahoo.forget_requests()

    run(workspace, TODAY)

    assert counts(yahoo) == {"quote": 1, "chart": 3, "summary": 0}
    assert yahoo.count("quote", ",".join(TICKERS)) == 1
    assert workspace.query(NUMBERS) == [
        (ticker, TODAY, 1000 + number, "GBP", 10) for number, ticker in enumerate(TICKERS)
    ]
    assert workspace.query("SELECT count(*) FROM security_metadata WHERE as_of = :day", day=TODAY) == [0]
    for ticker in TICKERS:
        (file,) = workspace.store.rglob(f"company/as_of={TODAY}/{ticker}.json")
        assert json.loads(file.read_text())["summary"] is None
    steps = {step["step"]: (step["succeeded"], step["rows"]) for step in report(workspace)["steps"]}
    assert steps["InsertMetadata"] == (3, 3)
    newest = "SELECT DISTINCT as_of, market_cap_as_of, sector FROM latest_metadata"
    assert workspace.query(newest) == [(YESTERDAY, TODAY, "Energy")]
    yahoo.forget_requests()
    assert "Nothing to do" in run(workspace, TODAY).out
    assert yahoo.count() == 0


def test_a_first_run_has_both(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    run(workspace, TODAY)

    assert counts(yahoo) == {"quote": 1, "chart": 3, "summary": 3}
    assert len(workspace.query(NUMBERS)) == 3
    assert workspace.query("SELECT count(*) FROM security_metadata") == [3]


ONLY_THE_LAST = ok(
    "quoteResponse", [{"symbol": "CCC", "currency": "GBp", "marketCap": 7, "exchangeTimezoneName": "America/New_York"}]
)


@pytest.mark.parametrize(
    ("fault", "told", "numbers"),
    [(ONLY_THE_LAST, 2, ["CCC"]), (429, 3, [])],
    ids=["only the last came back", "429 for many"],
)
def test_where_quotes_break_company_data_is_asked_for_instead_and_the_report_says_so(
    workspace: Workspace, yahoo: LoopbackYahoo, fault: Any, told: int, numbers: list[str]
) -> None:
    run(workspace, YESTERDAY)
    yahoo.forget_requests()
    yahoo.fault("*", fault, endpoint="quote")
    workspace.set("Company", refresh_days_without_quotes="1")

    done = run(workspace, TODAY)

    assert counts(yahoo)["summary"] == told
    assert [row[0] for row in workspace.query(NUMBERS)] == numbers
    assert f"quotes: none of {told} of 3 tickers" in done.out
    assert workspace.query("SELECT count(*) FROM task_failures") == [0]


def test_credentials_that_are_refused_to_quotes_alone_cost_nothing_but_the_quotes(
    workspace: Workspace, yahoo: LoopbackYahoo
) -> None:
    names = [*TICKERS, *(f"T{number:02}" for number in range(3))]
    for seed, ticker in enumerate(names[3:], start=3):
        yahoo.add(ticker, bars(seed), info={"longName": ticker, "sector": "Energy"}, currency="GBp")
    workspace.universe.write_text(f"groupings:\n  all: {{tickers: [{', '.join(names)}]}}\n")
    workspace.set("Groups", size="1")
    yahoo.fault("*", 401, endpoint="quote")

    done = run(workspace, TODAY)

    assert workspace.query("SELECT count(DISTINCT security_id) FROM ohlcv") == [6]
    assert workspace.query("SELECT count(*) FROM security_metadata") == [6]
    assert "quotes: none of 6 of 6 tickers" in done.out
    assert counts(yahoo)["summary"] == 6
    assert workspace.query("SELECT trouble, share FROM request_state") == [(None, 1.0)]
    assert workspace.query("SELECT count(*) FROM task_failures") == [0]


def test_the_numbers_are_stored_though_company_data_cannot_be_had(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    workspace.set("DownloadMetadata", attempts="1")
    yahoo.fault("*", 500, endpoint="summary")

    done = workspace.run("--date", str(TODAY), "--years-back", "1")

    assert done.code != 0
    assert len(workspace.query(NUMBERS)) == 3
    assert workspace.query("SELECT count(*) FROM security_metadata") == [0]


def test_quotes_that_are_away_for_a_moment_are_asked_for_again(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    run(workspace, YESTERDAY)
    yahoo.forget_requests()
    yahoo.fault("*", "reset", endpoint="quote", times=3)

    done = run(workspace, TODAY)

    assert len(workspace.query(NUMBERS)) == 3
    assert "quotes: none" not in done.out
    assert counts(yahoo)["summary"] == 0


def test_what_failed_for_a_passing_reason_lasts_for_a_while_only(tmp_path: Path) -> None:
    target, now = QuotesTarget(tmp_path / "asked.json"), dt.datetime.now(dt.UTC)
    assert not target.exists()
    for again, there in ((None, True), (now + dt.timedelta(minutes=1), True), (now - dt.timedelta(minutes=1), False)):
        target.write({"again_after": again and again.isoformat()})
        assert target.exists() is there


def test_quotes_of_a_run_that_crosses_midnight_are_those_of_its_date(monkeypatch: pytest.MonkeyPatch) -> None:
    began = dt.datetime(2026, 3, 13, 23, 50, tzinfo=dt.UTC)
    monkeypatch.setattr(lifecycle, "moment", lambda: began)

    assert wanted(began.date())
    assert not wanted(TODAY)


def test_quotes_can_be_done_without(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    workspace.set("Yahoo", quotes="false")

    run(workspace, TODAY)

    assert counts(yahoo) == {"quote": 0, "chart": 3, "summary": 3}


# -- as a probe


def asked_for(yahoo: LoopbackYahoo, ticker: str) -> list[dt.date]:
    """The first days of the charts that were asked for."""
    return [
        dt.datetime.fromtimestamp(int(request.query["period1"]), dt.UTC).date()
        for request in yahoo.requests
        if (request.endpoint, request.ticker) == ("chart", ticker)
    ]


@pytest.mark.parametrize("probe", [True, False])
def test_another_previous_close_than_the_stored_one_asks_for_the_whole_history(
    workspace: Workspace, yahoo: LoopbackYahoo, probe: bool
) -> None:
    workspace.set("Yahoo", probe=str(probe))
    workspace.set("History", whole_days="100000")
    run(workspace, YESTERDAY)
    moved = bars(0)
    before = moved.index < len(moved) - 1
    for name in ("open", "high", "low", "close", "adj_close"):
        moved.loc[before, name] *= 0.5
        moved.loc[~before, name] = moved.loc[~before, name] * 0.5
    moved.loc[~before, "stock_splits"] = 2.0
    yahoo.add("AAA", moved, currency="GBp", info={"longName": "AAA plc"})
    yahoo.forget_requests()

    done = run(workspace, TODAY)

    year = dt.timedelta(days=300)
    first, *more = asked_for(yahoo, "AAA")
    assert (TODAY - first > year, len(more)) == ((True, 0) if probe else (False, 1)), "by one request"
    assert [TODAY - first > year for first in asked_for(yahoo, "BBB")] == [False]
    assert ("by their quotes 1 ticker asked for all its bars" in done.out) is probe
    assert workspace.query("SELECT count(*) FROM ohlcv_changes WHERE ticker = 'AAA'") > [50]


def test_a_ticker_that_has_not_traded_since_its_last_stored_bar_is_not_asked_for_bars(
    workspace: Workspace, yahoo: LoopbackYahoo
) -> None:
    workspace.set("History", whole_days="100000")
    run(workspace, YESTERDAY)
    with engine_for(workspace.database_url).begin() as connection:
        # As some days later: the newest bar is settled, and of the sessions since then nobody expects any more.
        # And the share is seldom traded.
        connection.execute(sa.text("UPDATE ohlcv SET provisional = false, volume = 1200"))
        connection.execute(sa.text("DELETE FROM missing_sessions"))
    yahoo.forget_requests()
    later = dt.datetime.combine(TODAY + dt.timedelta(days=2), dt.time(), dt.UTC)
    quote = {
        "exchangeTimezoneName": "America/New_York",
        "regularMarketTime": int(dt.datetime.combine(LAST, dt.time(20), dt.UTC).timestamp()),
        "regularMarketPreviousClose": float(bars(0)["close"].iloc[-2]),
    }
    folder = next(workspace.store.rglob("company")).parent / "quotes" / f"as_of={TODAY}"
    folder.mkdir(parents=True)
    (folder / "AAA.json").write_text(json.dumps({"asked_at": later.isoformat(), "quote": quote}))

    done = workspace.run("--ticker", "AAA", "--date", str(TODAY), "--years-back", "1", task="OhlcvPipeline")

    assert done.code == 0, done
    assert counts(yahoo)["chart"] == 0
    assert workspace.query("SELECT bars_as_of FROM securities WHERE ticker = 'AAA'") == [TODAY]
    assert "by their quotes 1 ticker needed no bars" in done.out
