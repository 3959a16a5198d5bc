"""A whole run over files: what is stored, what a rerun does, what the report says."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest
from luigi.rpc import RemoteScheduler

from tests.conftest import make_bars
from tests.workspace import Workspace

TICKERS = ["AAA", "BBB", "CCC"]
ARGUMENTS = ("--date", "2024-03-15", "--years-back", "1")


@pytest.fixture
def frames(workspace: Workspace) -> dict[str, pd.DataFrame]:
    made = {ticker: make_bars(seed=number) for number, ticker in enumerate(TICKERS)}
    workspace.use_files(made)
    return made


def report(workspace: Workspace) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((workspace.store / "reports/latest/report.json").read_text())
    return document


def steps(workspace: Workspace) -> dict[str, dict[str, int]]:
    return {step["step"]: step for step in report(workspace)["steps"]}


def test_a_run_stores_every_bar_and_a_rerun_does_nothing(workspace: Workspace, frames: dict[str, pd.DataFrame]) -> None:
    first = workspace.run(*ARGUMENTS)

    assert first.code == 0, first
    assert "All 3 tickers are stored" in first.out
    assert not list(workspace.store.glob("reports/*/data_docs")), "with docs_seconds 0 there are none"
    for ticker, frame in frames.items():
        stored = workspace.query(
            "SELECT open, high, low, close, adj_close, volume FROM ohlcv JOIN securities USING (security_id) "
            "WHERE ticker = :ticker ORDER BY date",
            ticker=ticker,
        )
        columns = ["open", "high", "low", "close", "adj_close", "volume"]
        assert stored == list(frame[columns].itertuples(index=False, name=None))
    assert all(step["succeeded"] == 3 and step["failed"] == 0 for step in steps(workspace).values())
    assert steps(workspace)["InsertOhlcv"]["rows"] == workspace.query("SELECT count(*) FROM ohlcv")[0] == 90
    assert (
        workspace.query("SELECT ticker FROM securities JOIN security_groupings USING (security_id) ORDER BY 1")
        == TICKERS
    )
    markers = workspace.query("SELECT task_id, done_at FROM task_markers ORDER BY 1")

    second = workspace.run(*ARGUMENTS)

    assert second.code == 0, second
    assert "Nothing to do" in second.out
    assert workspace.query("SELECT task_id, done_at FROM task_markers ORDER BY 1") == markers
    assert all(step["skipped"] == 3 and step["processed"] == 0 for step in steps(workspace).values())


def test_one_bad_ticker_stops_no_other_and_the_report_says_why(
    workspace: Workspace, frames: dict[str, pd.DataFrame]
) -> None:
    workspace.universe.write_text("groupings:\n  all: {tickers: [AAA, GONE, BBB, '../../etc/passwd', bbb, CCC]}\n")

    run = workspace.run(*ARGUMENTS)

    assert run.code == 30, run
    assert workspace.query("SELECT count(DISTINCT security_id) FROM ohlcv") == [3]
    assert workspace.query("SELECT ticker, kind FROM task_failures") == [("GONE", "no_such_ticker")]
    document = report(workspace)
    assert document["outcome"] == "incomplete"
    assert document["tickers"] == {"all": 4, "done": 3, "failed": 1}
    assert steps(workspace)["DownloadOhlcv"]["failed"] == 1
    assert steps(workspace)["InsertOhlcv"]["blocked"] == 1
    assert [item["ticker"] for item in document["rejected"]] == ["../../etc/passwd", "bbb"]
    assert "GONE" in run.out
    assert "Traceback" not in run.err
    luigid: Any = RemoteScheduler(f"http://127.0.0.1:{workspace.port}")
    shown = luigid.task_list("FAILED", "")
    named = {task["name"]: task["params"].get("ticker") for task in shown.values()}
    assert named == {"DownloadOhlcv": "GONE", "OhlcvPipeline": "GONE"}, "luigid shows which step of which ticker"

    again = workspace.run(*ARGUMENTS)

    assert again.code == 30, "a failure must not leave the task disabled, and is tried again"
    assert steps(workspace)["DownloadOhlcv"] | {"seconds": 0} == {
        "step": "DownloadOhlcv",
        "processed": 1,
        "succeeded": 0,
        "failed": 1,
        "skipped": 3,
        "blocked": 0,
        "rows": 90,
        "seconds": 0,
    }


def test_a_ticker_that_has_come_back_is_stored_by_the_rerun(
    workspace: Workspace, frames: dict[str, pd.DataFrame]
) -> None:
    folder = workspace.use_files(frames)
    hidden = folder / "BBB.csv"
    content = hidden.read_text()
    hidden.unlink()
    assert workspace.run(*ARGUMENTS).code == 30
    hidden.write_text(content)

    run = workspace.run(*ARGUMENTS)

    assert run.code == 0, run
    assert workspace.query("SELECT count(*) FROM ohlcv") == [90]


def test_bad_bars_are_quarantined_with_their_rules_and_good_ones_stored(workspace: Workspace) -> None:
    frame = make_bars(days=40)
    frame.loc[7, "high"] = frame.loc[7, "low"] * 0.9
    workspace.use_files({"AAA": frame})

    run = workspace.run(*ARGUMENTS)

    assert run.code == 0, run
    bad, bad_day = frame.loc[7], str(frame.loc[7, "date"])[:10]
    assert workspace.query("SELECT count(*) FROM ohlcv") == [39]
    assert workspace.query("SELECT count(*) FROM ohlcv WHERE date = :day", day=bad_day) == [0]
    assert report(workspace)["quarantine"] == [
        {
            "ticker": "AAA",
            "rows": [
                {
                    "date": bad_day,
                    "rules": "high is the highest price; low is the lowest price",
                    "broken": [
                        {
                            "rule": "high is the highest price",
                            "value": {"high": bad["high"], "greatest_price": max(bad["open"], bad["close"])},
                            "threshold": "high >= greatest_price",
                        },
                        {
                            "rule": "low is the lowest price",
                            "value": {"least_price": bad["high"], "low": bad["low"]},
                            "threshold": "least_price >= low",
                        },
                    ],
                }
            ],
        }
    ]
    kept_row = workspace.query("SELECT date::text, high, broken FROM quarantined_bars")
    assert kept_row == [(bad_day, bad["high"], report(workspace)["quarantine"][0]["rows"][0]["broken"])]
    kept = pd.read_parquet(next((workspace.store / "store/test/quarantine").rglob("AAA.parquet")))
    assert kept["rules"].tolist() == ["high is the highest price; low is the lowest price"]


def test_a_ticker_of_which_hardly_a_bar_is_good_is_not_stored_at_all(workspace: Workspace) -> None:
    frame = make_bars(days=40)
    frame.loc[:38, "close"] = -1.0
    workspace.use_files({"AAA": frame, "BBB": make_bars(seed=9)})

    run = workspace.run(*ARGUMENTS)

    assert run.code == 30, run
    assert workspace.query("SELECT ticker FROM securities WHERE security_id IN (SELECT security_id FROM ohlcv)") == [
        "BBB"
    ]
    assert workspace.query("SELECT ticker, kind FROM task_failures") == [("AAA", "data_invalid")]


def test_a_ticker_added_to_the_universe_is_picked_up_on_the_same_day(
    workspace: Workspace, frames: dict[str, pd.DataFrame]
) -> None:
    workspace.universe.write_text("groupings:\n  all: {tickers: [AAA]}\n")
    assert workspace.run(*ARGUMENTS).code == 0
    workspace.universe.write_text("groupings:\n  all: {tickers: [AAA, CCC]}\n  more: {tickers: [AAA]}\n")

    run = workspace.run(*ARGUMENTS)

    assert run.code == 0, run
    assert workspace.query(
        'SELECT ticker, "grouping" FROM securities JOIN security_groupings USING (security_id) ORDER BY 1, 2'
    ) == [("AAA", "all"), ("AAA", "more"), ("CCC", "all")]


def test_a_step_can_be_asked_for_by_its_name(workspace: Workspace, frames: dict[str, pd.DataFrame]) -> None:
    run = workspace.run("--ticker", "BBB", *ARGUMENTS, task="InsertOhlcv")

    assert run.code == 0, run
    assert workspace.query("SELECT DISTINCT ticker FROM ohlcv JOIN securities USING (security_id)") == ["BBB"]
    assert report(workspace)["tickers"] == {"all": 1, "done": 1}
    assert set(steps(workspace)) == {"RegisterSecurity", "DownloadOhlcv", "ValidateOhlcv", "InsertOhlcv"}


def test_a_report_can_be_written_again_by_name(workspace: Workspace, frames: dict[str, pd.DataFrame]) -> None:
    assert workspace.run(*ARGUMENTS).code == 0
    folder = (workspace.store / "reports/latest").resolve()
    before = report(workspace)
    (folder / "report.html").unlink()

    run = workspace.run(task="GenerateReport", services=False)

    assert run.code == 0, run
    assert (folder / "report.html").is_file()
    assert report(workspace) | {"written_at": ""} == before | {"written_at": ""}
