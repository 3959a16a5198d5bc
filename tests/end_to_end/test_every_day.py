"""Runs of one day after another: only what is new is asked for, and the table is what a full download would give."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from luigi_tasks import bars
from tests.conftest import make_bars
from tests.workspace import Workspace
from tests.yahoo.server import LoopbackYahoo

TICKERS = ["AAA", "BBB"]
COLUMNS = ", ".join(bars.COLUMNS)
THURSDAY, FRIDAY, MONDAY, TUESDAY = "2024-03-14", "2024-03-15", "2024-03-18", "2024-03-19"


def until(day: str, ticker: str = "AAA") -> pd.DataFrame:
    frame = make_bars(days=123, last="2024-03-20", seed=TICKERS.index(ticker) + 1)
    return frame[frame["date"] <= day].reset_index(drop=True)


def split(frame: pd.DataFrame, day: str, ratio: float) -> pd.DataFrame:
    """The history as it is told once a split is known."""
    before = frame["date"] < day
    for name in (*bars.PRICES, "adj_close"):
        frame[name] = frame[name].where(~before, frame[name] / ratio)
    frame["volume"] = frame["volume"].where(~before, (frame["volume"] * ratio).round())
    frame["stock_splits"] = frame["stock_splits"].mask(frame["date"] == day, ratio)
    return bars.conform(frame)


@pytest.fixture
def yahoo(workspace: Workspace) -> Iterator[LoopbackYahoo]:
    workspace.set("Yahoo", prices_per_minute="0", company_per_minute="0")
    # Whole histories only where a test wants them.
    workspace.set("History", whole_days="100000")
    workspace.set("Company", refresh_days="100000")
    with LoopbackYahoo(workspace.folder / "yahoo") as server:
        workspace.environment = server.environment()
        for ticker in TICKERS:
            server.add(ticker, until(THURSDAY, ticker))
        yield server


def run(workspace: Workspace, day: str, *more: str, years: int = 1) -> str:
    done = workspace.run("--tickers", ",".join(TICKERS), "--date", day, "--years-back", str(years), *more)
    assert done.code == 0, done
    return done.out


def stored(workspace: Workspace, ticker: str) -> list[Any]:
    return workspace.query(
        f"SELECT {COLUMNS} FROM ohlcv JOIN securities USING (security_id) WHERE ticker = :ticker ORDER BY date",
        ticker=ticker,
    )


def rows(frame: pd.DataFrame) -> list[Any]:
    return list(frame.assign(date=frame["date"].dt.date).itertuples(index=False, name=None))


def days_asked(yahoo: LoopbackYahoo, ticker: str) -> list[int]:
    """Of each chart request, how many days it was about."""
    asked = []
    for request in yahoo.requests:
        if request.endpoint == "chart" and request.ticker == ticker:
            first, last = (int(request.query[name]) for name in ("period1", "period2"))
            asked.append(round((last - first) / 86_400))
    return asked


def test_the_next_day_asks_for_the_last_sessions_alone(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    run(workspace, THURSDAY)
    yahoo.forget_requests()
    for ticker in TICKERS:
        yahoo.add(ticker, until(FRIDAY, ticker))

    run(workspace, FRIDAY)

    assert yahoo.count("chart") == yahoo.count() - yahoo.count("crumb") == 2, "one request a ticker"
    assert max(days_asked(yahoo, "AAA")) < 25
    for ticker in TICKERS:
        assert stored(workspace, ticker) == rows(until(FRIDAY, ticker))
    assert workspace.query("SELECT count(*) FROM ohlcv_revisions") == [0]


def test_a_split_replaces_the_history_of_its_ticker_alone(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    run(workspace, THURSDAY)
    yahoo.forget_requests()
    restated = split(until(FRIDAY), FRIDAY, 4.0)
    yahoo.add("AAA", restated)
    yahoo.add("BBB", until(FRIDAY, "BBB"))

    out = run(workspace, FRIDAY)

    assert (yahoo.count("chart", "AAA"), yahoo.count("chart", "BBB")) == (2, 1)
    assert stored(workspace, "AAA") == rows(restated)
    assert workspace.query("SELECT why, count(*) FROM ohlcv_revisions GROUP BY why") == [("split", len(restated) - 1)]
    assert "changed by the source" not in out
    past = workspace.query(
        f"SELECT {COLUMNS} FROM ohlcv_as_of('{THURSDAY}') JOIN securities USING (security_id) "
        "WHERE ticker = 'AAA' ORDER BY date"
    )
    assert past == rows(until(THURSDAY))


def test_a_bar_that_is_changed_for_no_reason_is_told(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    run(workspace, THURSDAY)
    revised = until(FRIDAY)
    revised["volume"] = revised["volume"].mask(revised["date"] == THURSDAY, 77)
    yahoo.add("AAA", revised)
    yahoo.add("BBB", until(FRIDAY, "BBB"))

    out = run(workspace, FRIDAY)

    assert stored(workspace, "AAA") == rows(revised)
    assert f"AAA: 1 bar from {THURSDAY} to {THURSDAY} was changed by the source, not by a split or dividend" in out
    told = workspace.query("SELECT \"column\", old, new, why FROM ohlcv_changes WHERE ticker = 'AAA'")
    old = float(until(THURSDAY)["volume"].iloc[-1])
    assert told == [("volume", old, 77.0, "restatement")]


def test_a_missing_session_is_asked_for_once_more_and_fills_itself(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    hole = until(THURSDAY)
    yahoo.add("AAA", hole[hole["date"] != "2024-02-01"].reset_index(drop=True))
    first = run(workspace, THURSDAY)
    yahoo.forget_requests()
    for ticker in TICKERS:
        yahoo.add(ticker, until(FRIDAY, ticker))

    second = run(workspace, FRIDAY)

    assert "AAA: 1 session without a bar, the next run asks for them again: 2024-02-01" in first
    assert "AAA: 1 session that had been missing came: 2024-02-01" in second
    assert yahoo.count("chart") == 2
    assert stored(workspace, "AAA") == rows(until(FRIDAY))


def test_full_asks_for_everything_once(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    run(workspace, THURSDAY)
    late = until(THURSDAY)
    late["dividends"] = late["dividends"].mask(late["date"] == "2024-01-10", 0.25)
    yahoo.add("AAA", late)
    yahoo.forget_requests()

    run(workspace, THURSDAY)
    assert yahoo.count() == 0

    run(workspace, THURSDAY, "--full")
    assert yahoo.count("chart", "AAA") == 1
    assert stored(workspace, "AAA") == rows(late)

    yahoo.forget_requests()
    assert "Nothing to do" in run(workspace, THURSDAY, "--full")
    assert yahoo.count() == 0


def test_an_earlier_date_changes_nothing_and_asks_for_nothing(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    for ticker in TICKERS:
        yahoo.add(ticker, until(MONDAY, ticker))
    run(workspace, MONDAY, years=2)
    before = workspace.tables()
    yahoo.forget_requests()

    run(workspace, FRIDAY)

    assert yahoo.count() == 0
    assert workspace.tables() == before


def test_an_earlier_date_adds_the_years_that_are_not_there(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    for ticker in TICKERS:
        yahoo.add(ticker, make_bars(days=600, last=MONDAY, seed=TICKERS.index(ticker) + 10))
    run(workspace, MONDAY)
    assert len(stored(workspace, "AAA")) < 300

    run(workspace, FRIDAY, years=5)

    for ticker in TICKERS:
        assert stored(workspace, ticker) == rows(make_bars(days=600, last=MONDAY, seed=TICKERS.index(ticker) + 10))


def test_luigis_range_runs_all_dates(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    for ticker in TICKERS:
        yahoo.add(ticker, until(TUESDAY, ticker))
    workspace.universe.write_text("groupings:\n  all: {tickers: [AAA, BBB]}\n")
    dates = ("--of", "RunAll", "--start", FRIDAY, "--stop", "2024-03-20", "--days-back", "10000", "--reverse")

    first = workspace.run(*dates, task="RangeDaily")
    again = workspace.run(*dates, task="RangeDaily")

    assert (first.code, again.code) == (0, 0), first
    for ticker in TICKERS:
        assert stored(workspace, ticker) == rows(until(TUESDAY, ticker))
    assert workspace.query("SELECT max(bars_as_of)::text FROM securities") == [TUESDAY]


def test_a_grouping_is_remembered_as_it_was(workspace: Workspace) -> None:
    frames = {ticker: make_bars(seed=number) for number, ticker in enumerate("ABC")}
    workspace.use_files(frames)

    def listed(*tickers: str) -> None:
        workspace.universe.write_text(f"groupings:\n  all: {{tickers: [{', '.join(tickers)}]}}\n")

    listed("A", "B")
    assert workspace.run("--date", THURSDAY, "--years-back", "1").code == 0
    listed("B", "C")
    assert workspace.run("--date", FRIDAY, "--years-back", "1", "--ticker-limit", "1").code == 0
    query = "SELECT ticker, valid_from::text, valid_to::text FROM security_listings ORDER BY ticker"
    assert workspace.query(query) == [("A", THURSDAY, None), ("B", THURSDAY, None)]

    assert workspace.run("--date", FRIDAY, "--years-back", "1").code == 0
    assert workspace.query(query) == [("A", THURSDAY, FRIDAY), ("B", THURSDAY, None), ("C", FRIDAY, None)]
    assert len(stored(workspace, "A")) > 10, "what has left is kept"
    assert "Nothing to do" in workspace.run("--date", FRIDAY, "--years-back", "1").out


def test_a_renamed_ticker_is_run_as_what_it_is_called_now(workspace: Workspace) -> None:
    workspace.use_files({"OLD": make_bars(), "NEW": make_bars(seed=2)})
    workspace.universe.write_text("groupings:\n  all: {tickers: [OLD]}\n")
    assert workspace.run("--date", THURSDAY, "--years-back", "1").code == 0
    workspace.universe.write_text("groupings:\n  all: {tickers: [OLD]}\nrenamed: {OLD: NEW}\n")

    done = workspace.run("--date", FRIDAY, "--years-back", "1")

    assert done.code == 0, done
    assert workspace.query("SELECT ticker, successor FROM securities ORDER BY 1") == [("NEW", None), ("OLD", "NEW")]
    document = json.loads((workspace.store / "reports/latest/report.json").read_text())
    assert [item["reason"] for item in document["rejected"]] == ["is called NEW now; that is run"]
    assert len(stored(workspace, "OLD")) > 10
