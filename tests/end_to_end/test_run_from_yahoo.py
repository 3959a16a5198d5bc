"""A whole run against Yahoo over real HTTP: unmodified yfinance in 20 forked workers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pandas as pd
import pytest

from tests.conftest import make_bars
from tests.workspace import Workspace, free_port
from tests.yahoo.server import LoopbackYahoo

ARGUMENTS = ("--date", "2024-03-15", "--years-back", "2")
TICKERS = ["AAA", "BRK-B", "^GSPC", "EURUSD=X", "0700.HK", "CON"]


@pytest.fixture
def yahoo(workspace: Workspace) -> Iterator[LoopbackYahoo]:
    with LoopbackYahoo(workspace.folder / "yahoo") as server:
        for number, ticker in enumerate(TICKERS):
            bars = make_bars(days=120, seed=number)
            bars["dividends"] = bars["dividends"].mask(bars.index == 30 + number, 0.1 * (number + 1))
            bars["stock_splits"] = bars["stock_splits"].mask(bars.index == 60 + number, 2.0)
            server.add(ticker, bars, info={"sector": "Sector <b>" + str(number), "longName": f"Company {number}"})
        workspace.environment = server.environment()
        yield server


def stored(workspace: Workspace, ticker: str) -> list[tuple[object, ...]]:
    return workspace.query(
        "SELECT date, open, high, low, close, adj_close, volume, dividends, stock_splits "
        "FROM ohlcv JOIN securities USING (security_id) WHERE ticker = :ticker ORDER BY date",
        ticker=ticker,
    )


def rows(bars: pd.DataFrame) -> list[tuple[object, ...]]:
    columns = bars.drop(columns=["capital_gains", "dividend_currency"])
    return list(columns.assign(date=bars["date"].dt.date).itertuples(index=False, name=None))


def test_what_is_stored_is_what_was_served_and_a_rerun_sends_nothing(
    workspace: Workspace, yahoo: LoopbackYahoo
) -> None:
    run = workspace.run("--tickers", ",".join(TICKERS), *ARGUMENTS)

    assert run.code == 0, run
    for number, ticker in enumerate(TICKERS):
        bars = make_bars(days=120, seed=number)
        bars["dividends"] = bars["dividends"].mask(bars.index == 30 + number, 0.1 * (number + 1))
        bars["stock_splits"] = bars["stock_splits"].mask(bars.index == 60 + number, 2.0)
        assert stored(workspace, ticker) == rows(bars), ticker
        assert yahoo.count("chart", ticker) == 1
    query = "SELECT sector FROM security_metadata JOIN securities USING (security_id) ORDER BY ticker"
    sectors = workspace.query(query)
    assert sectors == [f"Sector <b>{TICKERS.index(ticker)}" for ticker in sorted(TICKERS)]
    files = {path.name for path in (workspace.store / "store/yahoo/raw_bars").rglob("*.parquet")}
    assert files == {
        "AAA.parquet",
        "BRK-B.parquet",
        "%5EGSPC.parquet",
        "EURUSD%3DX.parquet",
        "0700.HK.parquet",
        "%43ON.parquet",
    }
    yahoo.forget_requests()

    again = workspace.run("--tickers", ",".join(TICKERS), *ARGUMENTS)

    assert again.code == 0, again
    assert "Nothing to do" in again.out
    assert yahoo.count() == 0


def test_a_passing_fault_is_tried_again_and_a_lasting_one_fails_its_ticker_alone(
    workspace: Workspace, yahoo: LoopbackYahoo
) -> None:
    yahoo.fault("AAA", 500, endpoint="chart", times=2)
    yahoo.fault("BRK-B", "reset", endpoint="summary", times=1)
    yahoo.fault("CON", "truncate", endpoint="chart")

    run = workspace.run("--tickers", ",".join([*TICKERS, "NOPE"]), *ARGUMENTS)

    assert run.code == 30, run
    assert workspace.query("SELECT ticker, task_family, kind FROM task_failures ORDER BY 1, 2") == [
        ("CON", "DownloadOhlcv", "provider_down"),
        ("NOPE", "DownloadOhlcv", "no_such_ticker"),
    ]
    assert yahoo.count("chart", "CON") == 5, "as many attempts as luigi.cfg gives DownloadOhlcv"
    assert yahoo.count("chart", "NOPE") <= 2, "what will not change is not tried again"
    with_bars = workspace.query("SELECT ticker FROM securities WHERE security_id IN (SELECT security_id FROM ohlcv)")
    assert set(with_bars) == set(TICKERS) - {"CON"}
    report = json.loads((workspace.store / "reports/latest/report.json").read_text())
    assert {group["kind"] for group in report["failures_by_kind"]} == {"provider_down", "no_such_ticker"}
    assert all(group["remedy"] for group in report["failures_by_kind"])


def test_a_yahoo_that_cannot_be_reached_is_said_in_one_line(workspace: Workspace) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    workspace.environment = {"HTTPS_PROXY": nobody, "https_proxy": nobody, "NO_PROXY": "127.0.0.1"}

    run = workspace.run("--tickers", ",".join(TICKERS), *ARGUMENTS)

    assert run.code == 30, run
    assert len(run.err.strip().splitlines()) == 1, run
    assert "Yahoo Finance: cannot be reached" in run.err
    assert workspace.query("SELECT task_family FROM task_failures") == ["CheckSource"]
    assert workspace.query("SELECT count(*) FROM ohlcv") == [0]
