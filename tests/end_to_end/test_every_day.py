"""Runs of one day after another: only what is new is asked for, and the table is what a full download would give."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from luigi_tasks import bars
from tests.conftest import as_stored, make_bars, with_split
from tests.workspace import Workspace
from tests.yahoo.server import LoopbackYahoo

TICKERS = ["PLAIN", "SPLIT", "ODD", "HOLE"]
COLUMNS = ", ".join(bars.COLUMNS)
WEDNESDAY, THURSDAY, FRIDAY, MONDAY, TUESDAY = "2024-03-13", "2024-03-14", "2024-03-15", "2024-03-18", "2024-03-19"


def until(day: str, ticker: str = "PLAIN") -> pd.DataFrame:
    frame = make_bars(days=123, last="2024-03-20", seed=TICKERS.index(ticker) + 1)
    return frame[frame["date"] <= day].reset_index(drop=True)


@pytest.fixture
def yahoo(workspace: Workspace) -> Iterator[LoopbackYahoo]:
    workspace.set("Yahoo", prices_per_minute="0", company_per_minute="0")
    # Whole histories only where a test wants them.
    workspace.set("History", whole_days="100000")
    workspace.set("Company", refresh_days_without_quotes="100000")
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


def days_asked(yahoo: LoopbackYahoo, ticker: str) -> list[int]:
    """Of each chart request, how many days it was about."""
    asked = []
    for request in yahoo.requests:
        if request.endpoint == "chart" and request.ticker == ticker:
            first, last = (int(request.query[name]) for name in ("period1", "period2"))
            asked.append(round((last - first) / 86_400))
    return asked


def test_the_next_day_asks_for_what_is_new_and_replaces_what_was_restated(
    workspace: Workspace, yahoo: LoopbackYahoo
) -> None:
    hole = until(THURSDAY, "HOLE")
    yahoo.add("HOLE", hole[hole["date"] != "2024-02-01"].reset_index(drop=True))
    first = run(workspace, THURSDAY)
    assert "HOLE: 1 session without a bar, the next run asks for them again: 2024-02-01" in first
    yahoo.forget_requests()
    now = {ticker: until(FRIDAY, ticker) for ticker in TICKERS}
    now["SPLIT"] = with_split(now["SPLIT"], FRIDAY, 4.0)
    now["ODD"]["volume"] = now["ODD"]["volume"].mask(now["ODD"]["date"] == WEDNESDAY, 77)
    for ticker, frame in now.items():
        yahoo.add(ticker, frame)

    second = run(workspace, FRIDAY)

    for ticker, frame in now.items():
        assert stored(workspace, ticker) == as_stored(frame), ticker
        assert yahoo.count("chart", ticker) == (2 if ticker == "SPLIT" else 1), ticker
    assert max(days_asked(yahoo, "PLAIN")) < 25
    assert yahoo.count("summary") == 0
    assert "HOLE: 1 session that had been missing came: 2024-02-01" in second
    assert f"ODD: 1 bar from {WEDNESDAY} to {WEDNESDAY} was changed by the source, not by a split or dividend" in second
    assert second.count("changed by the source") == 1
    revised = "SELECT ticker, why, count(*) FROM ohlcv_revisions JOIN securities USING (security_id) GROUP BY 1, 2"
    assert sorted(workspace.query(revised)) == [("ODD", "restatement", 1), ("SPLIT", "split", len(now["SPLIT"]) - 1)]
    old = float(until(WEDNESDAY, "ODD")["volume"].iloc[-1])
    told = workspace.query("SELECT \"column\", old, new, why FROM ohlcv_changes WHERE ticker = 'ODD'")
    assert told == [("volume", old, 77.0, "restatement")]
    past = workspace.query(
        f"SELECT {COLUMNS} FROM ohlcv_as_of('{THURSDAY}') JOIN securities USING (security_id) "
        "WHERE ticker = 'SPLIT' ORDER BY date"
    )
    assert past == as_stored(until(THURSDAY, "SPLIT"))


def test_full_asks_for_everything_once(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    run(workspace, THURSDAY)
    late = until(THURSDAY)
    late["dividends"] = late["dividends"].mask(late["date"] == "2024-01-10", 0.25)
    yahoo.add("PLAIN", late)
    yahoo.forget_requests()

    run(workspace, THURSDAY, "--full")
    assert yahoo.count("chart") == len(TICKERS)
    assert stored(workspace, "PLAIN") == as_stored(late)

    yahoo.forget_requests()
    assert "Nothing to do" in run(workspace, THURSDAY, "--full")
    assert yahoo.count() == 0


def test_an_earlier_date_changes_nothing_and_adds_the_years_that_are_not_there(
    workspace: Workspace, yahoo: LoopbackYahoo
) -> None:
    frames = {ticker: make_bars(days=600, last=MONDAY, seed=number + 10) for number, ticker in enumerate(TICKERS)}
    for ticker, frame in frames.items():
        yahoo.add(ticker, frame)
    run(workspace, MONDAY, years=2)
    before = workspace.tables()
    yahoo.forget_requests()

    run(workspace, FRIDAY)
    assert yahoo.count() == 0
    assert workspace.tables() == before
    assert len(stored(workspace, "PLAIN")) < 600

    run(workspace, FRIDAY, years=5)
    for ticker, frame in frames.items():
        assert stored(workspace, ticker) == as_stored(frame)


def test_luigis_range_runs_all_dates(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    for ticker in TICKERS:
        yahoo.add(ticker, until(TUESDAY, ticker))
    workspace.universe.write_text(f"groupings:\n  all: {{tickers: [{', '.join(TICKERS)}]}}\n")
    dates = ("--of", "RunAll", "--start", FRIDAY, "--stop", "2024-03-20", "--days-back", "10000", "--reverse")

    one = f'{{"tickers": "{TICKERS[0].lower()}, "}}'
    of_one = workspace.run(*dates, "--of-params", one, task="RangeDaily")
    loaded = workspace.query("SELECT ticker FROM securities")
    first = workspace.run(*dates, task="RangeDaily")
    again = workspace.run(*dates, task="RangeDaily")

    assert (of_one.code, first.code, again.code) == (0, 0, 0), (of_one, first)
    assert loaded == [TICKERS[0]], "the parameter's text is a list of tickers, not of letters"
    for ticker in TICKERS:
        assert stored(workspace, ticker) == as_stored(until(TUESDAY, ticker))
    assert workspace.query("SELECT max(bars_as_of)::text FROM securities") == [TUESDAY]


def test_a_grouping_is_remembered_as_it_was_and_a_renamed_ticker_linked(workspace: Workspace) -> None:
    workspace.use_files({ticker: make_bars(seed=number) for number, ticker in enumerate(["A", "B", "C", "OLD", "NEW"])})

    def listed(*tickers: str, more: str = "") -> None:
        workspace.universe.write_text(f"groupings:\n  all: {{tickers: [{', '.join(tickers)}]}}\n{more}")

    listed("A", "B", "OLD")
    assert workspace.run("--date", THURSDAY, "--years-back", "1").code == 0
    listed("B", "C", "OLD", more="renamed: {OLD: NEW}\n")
    assert workspace.run("--date", FRIDAY, "--years-back", "1", "--ticker-limit", "1").code == 0
    query = "SELECT ticker, valid_from::text, valid_to::text FROM security_listings ORDER BY ticker"
    as_they_were = [(ticker, THURSDAY, None) for ticker in ("A", "B", "OLD")]
    assert workspace.query(query) == as_they_were, "a list that was cut short ends nothing"

    assert workspace.run("--date", FRIDAY, "--years-back", "1").code == 0

    assert workspace.query(query) == [
        ("A", THURSDAY, FRIDAY),
        ("B", THURSDAY, None),
        ("C", FRIDAY, None),
        ("NEW", FRIDAY, None),
        ("OLD", THURSDAY, FRIDAY),
    ]
    assert len(stored(workspace, "A")) == len(stored(workspace, "OLD")) == 29, "what has left is kept"
    assert workspace.query("SELECT successor FROM securities WHERE ticker = 'OLD'") == ["NEW"]
    document = json.loads((workspace.store / "reports/latest/report.json").read_text())
    assert [item["reason"] for item in document["rejected"]] == ["is called NEW now; that is run"]
    assert "Nothing to do" in workspace.run("--date", FRIDAY, "--years-back", "1").out
