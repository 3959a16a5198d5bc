"""What a run that goes on tells of itself, for luigid to show."""

from __future__ import annotations

import datetime as dt
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from luigi_tasks.database.engine import engine_for
from luigi_tasks.database.ledger import Ledger, Marker, Step
from luigi_tasks.report import live
from tests.report.documents import document
from tests.workspace import free_port

DAY = dt.date(2024, 3, 15)


class Going:
    """A run that goes on, of which only the ledger knows what came of its tickers."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.ledger = url, Ledger(url)
        self.ledger.begin_run("run-1", "RunAll", {"date": str(DAY)})
        self.path = folder / live.NAME
        self.live = live.Live(folder, url, "run-1")

    def step(self, family: str, ticker: str, run_id: str = "run-1") -> Step:
        return Step(f"{family}_{ticker}", family, run_id, ticker, DAY)

    def tell(self, line: str = "") -> dict[str, Any]:
        self.live._next = 0.0
        self.live.tell(lambda: line)
        return self.told()

    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.path.read_text())
        return found


@pytest.fixture
def going(database_url: str, tmp_path: Path) -> Going:
    return Going(database_url, tmp_path)


def test_a_run_tells_of_itself_from_its_beginning(going: Going) -> None:
    # Not before it is a run, which its folder says.
    live.Live(going.path.parent / "not yet", going.url, "run-1").tell(lambda: "")
    assert os.listdir(going.path.parent) == []
    going.live.tell(lambda: "")

    told = going.told()

    assert (told["run_id"], told["task"], told["what"], told["as_of"]) == ("run-1", "RunAll", "the universe", str(DAY))
    assert (told["outcome"], told["steps"], told["tickers"], told["line"]) == (None, [], [], "")


def test_a_table_that_is_locked_keeps_no_run_from_beginning(
    database_url: str, tmp_path: Path, going: Going, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_LONGEST_QUERY", 3)
    going.ledger.mark(Marker(going.step("DownloadOhlcv", "AAA"), 1))
    with engine_for(database_url).connect() as connection:
        connection.execute(sa.text("LOCK TABLE task_markers IN ACCESS EXCLUSIVE MODE"))
        began = time.monotonic()
        going.live = live.Live(tmp_path, database_url, "run-1")
        # It has not waited for the lock until the query was given up.
        assert time.monotonic() - began < 3
        assert (going.tell("here")["line"], going.told()["tickers"]) == ("here", [])

    assert len(going.tell()["tickers"]) == 1


def test_it_tells_what_came_of_each_ticker_those_that_failed_first(going: Going) -> None:
    going.ledger.mark(Marker(going.step("DownloadOhlcv", "AAA"), 30), 0.5)
    going.ledger.mark(Marker(going.step("InsertOhlcv", "AAA"), 30), 1.5)
    going.ledger.fail(going.step("DownloadOhlcv", "BBB"), "network", "x" * 1000)
    going.ledger.mark(Marker(going.step("DownloadOhlcv", "CCC"), 20))
    going.ledger.mark(Marker(going.step("DownloadOhlcv", "DDD", "run-0"), 20))

    told = going.tell("bars 1 of 3")

    assert told["line"] == "bars 1 of 3"
    assert told["steps"] == [["DownloadOhlcv", 2, 1, 50], ["InsertOhlcv", 1, 0, 30]]
    assert [name for name, _ in told["tickers"]] == ["BBB", "CCC", "AAA"]
    states = dict(told["tickers"])
    assert states["AAA"]["InsertOhlcv"] == {"done": True, "rows": 30, "seconds": 1.5, "kind": "", "reason": ""}
    assert (states["BBB"]["DownloadOhlcv"]["kind"], len(states["BBB"]["DownloadOhlcv"]["reason"])) == ("network", 200)
    assert told["every"] == 3


def test_of_many_tickers_it_tells_of_those_that_failed_and_the_latest(
    going: Going, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_TICKERS", 2)
    going.ledger.fail(going.step("DownloadOhlcv", "BAD"), "network", "x")
    for name in ("AAA", "BBB", "CCC"):
        going.ledger.mark(Marker(going.step("DownloadOhlcv", name), 1))

    told = going.tell()

    assert ([name for name, _ in told["tickers"]], told["every"]) == (["BAD", "CCC"], 4)
    assert told["steps"] == [["DownloadOhlcv", 3, 1, 3]]


def test_it_asks_and_writes_every_few_seconds(going: Going) -> None:
    going.live.tell(lambda: "")
    before = going.path.stat().st_ino

    going.live.tell(lambda: "too early")

    assert going.path.stat().st_ino == before
    assert going.tell("now")["line"] == "now"
    assert going.path.stat().st_ino != before, "written beside it, and put into its place"
    assert os.listdir(going.path.parent) == [live.NAME]


def test_a_database_or_a_folder_out_of_reach_costs_the_page_alone(tmp_path: Path) -> None:
    url = f"postgresql://me:s3cret@127.0.0.1:{free_port()}/db"

    for folder in (tmp_path, tmp_path / "nowhere"):
        live.Live(folder, url, "run-1").tell(lambda: "bars 1 of 2")

    assert os.listdir(tmp_path) == []


def test_what_has_ended_is_told_in_a_line() -> None:
    told = live.ended(document())

    assert told["outcome"] == "incomplete"
    assert told["line"] == "1 of 2 tickers are not done; 1 are."
    assert "tickers" not in told


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, "the universe"),
        ({"tickers": "()", "groupings": "()", "ticker_limit": "0"}, "the universe"),
        ({"tickers": "()", "groupings": "()", "ticker_limit": "5"}, "the universe, the first 5"),
        ({"tickers": "()", "groupings": "sp500,dax", "ticker_limit": "0"}, "sp500, dax"),
        ({"tickers": "AAPL,MSFT"}, "AAPL, MSFT"),
        ({"tickers": ",".join(f"T{n}" for n in range(1010))}, "T0, T1, T2, T3, T4, T5, T6, T7 and 1,002 more"),
        ({"ticker": "AAPL"}, "AAPL"),
    ],
)
def test_a_run_is_of_these_tickers(parameters: dict[str, Any], words: str) -> None:
    assert live.what(parameters) == words
