"""Whole runs against a Yahoo that throttles, goes down, changes its mind, or has a ticker no more."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from luigi_tasks import bars
from tests.conftest import as_stored, make_bars
from tests.workspace import Workspace
from tests.yahoo.server import FaultKind, LoopbackYahoo

TICKERS = [f"T{number:02}" for number in range(10)]
DAY, NEXT_DAY = "2024-03-15", "2024-03-18"
BARS = 60


def frame(ticker: str, days: int = BARS) -> pd.DataFrame:
    return make_bars(days=days, seed=TICKERS.index(ticker))


@pytest.fixture
def yahoo(workspace: Workspace) -> Iterator[LoopbackYahoo]:
    workspace.set("Yahoo", prices_per_minute="0", company_per_minute="0", first_pause="0.2", longest_pause="1")
    workspace.set("Retirement", after_days="1", witnesses="W1,W2")
    with LoopbackYahoo(workspace.folder / "yahoo") as server:
        for ticker in TICKERS:
            server.add(ticker, frame(ticker))
        for number, witness in enumerate(("W1", "W2")):
            server.add(witness, make_bars(days=BARS, last=f"{pd.Timestamp.now('UTC'):%Y-%m-%d}", seed=100 + number))
        workspace.environment = server.environment()
        yield server


def arguments(*tickers: str, day: str = DAY) -> list[str]:
    return ["--tickers", ",".join(tickers or TICKERS), "--date", day, "--years-back", "1"]


def report(workspace: Workspace) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((workspace.store / "reports/latest/report.json").read_text())
    return document


def failures(workspace: Workspace) -> list[Any]:
    return workspace.query("SELECT ticker, task_family, kind FROM task_failures ORDER BY failure_id")


def all_is_stored(workspace: Workspace) -> bool:
    served = [(ticker, *row) for ticker in TICKERS for row in as_stored(frame(ticker))]
    stored = workspace.tables()
    width = 1 + len(bars.COLUMNS)
    return [row[:width] for row in stored["ohlcv"]] == served and len(stored["security_metadata"]) == len(TICKERS)


def test_no_ticker_fails_because_yahoo_throttles(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    workspace.set("Yahoo", prices_per_minute="600", company_per_minute="600")
    yahoo.limit(a_second=1, burst=2, penalty=1.5)

    run = workspace.run(*arguments())

    assert run.code == 0, run
    assert all_is_stored(workspace)
    assert failures(workspace) == []
    answered = [request for request in yahoo.requests if request.status == 200]
    throttled = [request for request in yahoo.requests if request.status == 429]
    of_tickers = [request for request in answered if request.ticker in TICKERS]
    assert len(of_tickers) == 2 * len(TICKERS), "a chart and company data"
    # A well-known ticker may have been asked for, to tell a limit from a single question that is refused.
    others = Counter(request.ticker for request in answered if request.ticker not in TICKERS)
    assert others.pop("") == 1, "one crumb for all"
    assert others.keys() <= {"W1"}
    assert throttled, "or this test shows nothing"
    # Those on their way when the first 429 came, and then one probe at a time.
    assert yahoo.longest_streak(429) <= 8 + 4
    assert max(workspace.query("SELECT share FROM request_state")) < 1, "the rate has come down"


def test_patience_ends_a_run_with_a_clear_word_and_a_rerun_goes_on(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    workspace.set("Yahoo", patience="2")
    workspace.set("Groups", size="5")
    assert workspace.run(*arguments("T00")).code == 0
    yahoo.forget_requests()
    yahoo.fault("*", 429)

    run = workspace.run(*arguments())

    assert run.code == 30, run
    assert "Stopped early: 1 of 10 tickers are done. Yahoo Finance: throttled every request for" in run.out
    assert {kind for _, _, kind in failures(workspace)} == {"throttled"}
    assert workspace.query("SELECT count(*) FROM absences") == [0]
    assert workspace.query("SELECT count(*) FROM ohlcv") == [BARS]

    yahoo.forget_faults()
    assert workspace.run(*arguments()).code == 0
    assert all_is_stored(workspace)


@pytest.mark.parametrize("kind", [503])
def test_a_yahoo_that_dies_half_way_fails_nobody_wrongly_and_a_rerun_goes_on(
    workspace: Workspace, yahoo: LoopbackYahoo, kind: FaultKind
) -> None:
    workspace.set("Yahoo", outage_patience="2")
    workspace.set("Groups", size="5")
    assert workspace.command("up").returncode == 0
    process = workspace.start(*arguments())
    while yahoo.count("chart") < 3 and process.poll() is None:
        pass
    yahoo.fault("*", kind)
    out, err = process.communicate(timeout=120)

    assert process.returncode == 30, (out, err)
    assert {kind for _, _, kind in failures(workspace)} <= {"provider_down", "network", "outage"}
    assert "Stopped early" in out
    assert workspace.query("SELECT count(*) FROM absences") == [0]

    yahoo.forget_faults()
    assert workspace.run(*arguments()).code == 0
    assert all_is_stored(workspace)


def test_a_yahoo_that_is_dead_from_the_start_is_given_up(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    workspace.set("Yahoo", outage_patience="1")
    for endpoint in ("chart", "summary", "crumb"):
        yahoo.fault("*", 500, endpoint=endpoint)

    run = workspace.run(*arguments())

    assert run.code == 30, run
    assert {kind for _, _, kind in failures(workspace)} <= {"provider_down", "outage"}
    assert "Stopped early: 0 of 10 tickers are done. Yahoo Finance: gave no usable answer for" in run.out
    assert workspace.query("SELECT count(*) FROM absences") == [0]
    assert workspace.query("SELECT count(*) FROM ohlcv") == [0]


def test_fresh_company_data_is_not_asked_for_again(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    workspace.set("Company", refresh_days_without_quotes="100000")
    assert workspace.run(*arguments()).code == 0
    yahoo.forget_requests()
    plan = workspace.command("plan", *arguments(day=NEXT_DAY))

    run = workspace.run(*arguments(day=NEXT_DAY))

    assert run.code == 0, run
    assert "  due          10  stored before, not as of this date: T00" in plan.stdout
    assert "requests: 11 (10 prices, 0 company, 1 access)" in plan.stdout
    assert {endpoint: yahoo.count(endpoint) for endpoint in ("chart", "summary", "crumb", "cookie")} == {
        "chart": len(TICKERS),
        "summary": 0,
        "crumb": 1,
        "cookie": 0,
    }
    assert {step["step"]: step["skipped"] for step in report(workspace)["steps"]}["InsertMetadata"] == len(TICKERS)

    workspace.set("Company", refresh_days_without_quotes="1")
    yahoo.forget_requests()
    assert "requests: 11 (0 prices, 10 company, 1 access)" in workspace.command("plan", *arguments(day=NEXT_DAY)).stdout
    assert yahoo.count() == 0, "a plan asks nobody"
    assert workspace.run(*arguments(day=NEXT_DAY)).code == 0
    assert (yahoo.count("chart"), yahoo.count("summary")) == (0, len(TICKERS))


def test_a_ticker_that_yahoo_has_no_more_is_retired(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    assert workspace.run(*arguments("T00", "T02")).code == 0
    yahoo.remove("T02")

    run = workspace.run(*arguments("T00", "T02", "NEVER", day=NEXT_DAY))

    assert run.code == 30, run
    kinds = [failure for failure in failures(workspace) if failure[1] == "DownloadOhlcv"]
    assert sorted(kinds) == [("NEVER", "DownloadOhlcv", "no_such_ticker"), ("T02", "DownloadOhlcv", "delisted")]
    assert workspace.query("SELECT ticker, confirmed FROM absences ORDER BY 1") == [("NEVER", True), ("T02", True)]
    assert yahoo.count("chart", "W1") == yahoo.count("chart", "W2") == 1, "asked once, for both"
    plan = workspace.command("plan", *arguments("T00", "T02", "NEVER", day=NEXT_DAY))
    assert "  retired       2" in plan.stdout
    yahoo.forget_requests()

    again = workspace.run(*arguments("T00", "T02", "NEVER", day=NEXT_DAY))

    assert again.code == 0, again
    assert yahoo.count() == 0
    assert "retired, not asked for: 2" in again.out
    assert [entry["ticker"] for entry in report(workspace)["retired"]] == ["T02", "NEVER"]
    assert workspace.query("SELECT count(*) FROM ohlcv") == [2 * BARS], "what is stored stays"

    assert "to ask for them all the same: ./run.sh --tickers T02,NEVER --full" in again.out

    yahoo.add("T02", frame("T02"))
    workspace.universe.write_text("groupings:\n  all: {tickers: [T02, NEVER]}\n")
    of_all = workspace.command("plan", "--date", NEXT_DAY, "--years-back", "1", "--full")
    assert "  retired       2" in of_all.stdout, "nobody has named them"
    named = workspace.command("plan", *arguments("T02", "NEVER", day=NEXT_DAY), "--full")
    assert "  retired       0" in named.stdout
    asked = workspace.run(*arguments("T02", "NEVER", day=NEXT_DAY), "--full")
    assert asked.code == 30, asked
    assert (yahoo.count("chart", "T02"), yahoo.count("chart", "NEVER")) == (1, 1)
    assert [item["ticker"] for item in report(workspace)["failures"]] == ["NEVER"]
    assert report(workspace)["retired"] == []
    assert workspace.query("SELECT ticker FROM absences") == ["NEVER"], "the other has come back"

    workspace.query("UPDATE absences SET day = day - 7 RETURNING day")
    yahoo.add("NEVER", make_bars(days=BARS, seed=200))
    assert workspace.run(*arguments("T00", "NEVER", day=NEXT_DAY)).code == 0
    assert workspace.query("SELECT ticker FROM absences") == []


def test_a_day_on_which_well_known_tickers_fail_retires_nobody(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    yahoo.remove("W2")

    assert workspace.run(*arguments("NEVER")).code == 30

    assert workspace.query("SELECT ticker, confirmed FROM absences") == [("NEVER", False)]
    yahoo.forget_requests()
    assert workspace.run(*arguments("NEVER")).code == 30
    assert yahoo.count("chart", "NEVER") == 1


def test_an_answer_that_does_not_fit_what_is_stored_changes_nothing(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    assert workspace.run(*arguments("T00", "T01", "T02", "T03")).code == 0
    before = workspace.tables()
    changed = frame("T00")
    changed[["open", "high", "low", "close", "adj_close"]] *= 2
    yahoo.add("T00", changed, currency="EUR")
    yahoo.add("T01", frame("T01", days=BARS).iloc[: BARS - 1])
    yahoo.add("T02", frame("T03"))

    run = workspace.run(*arguments("T00", "T01", "T02", "T03", day=NEXT_DAY))

    assert run.code == 30, run
    assert sorted(failures(workspace)) == [
        ("T00", "InsertOhlcv", "wrong_answer"),
        ("T01", "InsertOhlcv", "history_shrank"),
        ("T02", "InsertOhlcv", "identical_series"),
    ]
    stored = workspace.tables()["ohlcv"]
    held_back = [row for row in stored if row[0] != "T03"]
    assert held_back == [row for row in before["ohlcv"] if row[0] != "T03"]
    for ticker in ("T00", "T01", "T02"):
        yahoo.add(ticker, frame(ticker))
    assert workspace.run(*arguments("T00", "T01", "T02", "T03", day=NEXT_DAY)).code == 0
    # But for the newest bars, which are provisional no more, since the next day's answer agrees.
    assert workspace.query("SELECT DISTINCT provisional, settled_as_of FROM ohlcv WHERE date = :day", day=DAY) == [
        (False, pd.Timestamp(NEXT_DAY).date())
    ]
    assert [row[:-2] for row in workspace.tables()["ohlcv"]] == [row[:-2] for row in before["ohlcv"]]


def test_a_history_that_ends_early_is_stored_and_told(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    yahoo.fault("T00", yahoo.chart_without_last("T00"), endpoint="chart")

    run = workspace.run(*arguments("T00", "T01"))

    assert run.code == 0, run
    assert "T00: 1 session without a bar, the next run asks for them again: 2024-03-15" in run.out
    assert workspace.query("SELECT count(*) FROM ohlcv") == [2 * BARS - 1]


def test_forget_lets_a_ticker_be_loaded_anew(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    assert workspace.run(*arguments("T00", "T01")).code == 0
    yahoo.forget_requests()

    forgotten = workspace.command("forget", "t00 ", "--yes")

    assert forgotten.returncode == 0, forgotten
    assert "T00: 60 bars and 4 files deleted" in forgotten.stdout
    assert workspace.query("SELECT ticker FROM securities") == ["T01"]
    assert workspace.run(*arguments("T00", "T01")).code == 0
    assert (yahoo.count("chart", "T00"), yahoo.count("chart", "T01")) == (1, 0)
