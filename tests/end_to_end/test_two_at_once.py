"""The same run twice at a time, or two that overlap, from folders and luigids of their own, on one database."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import make_bars
from tests.workspace import Finished, Workspace
from tests.yahoo.server import LoopbackYahoo

TICKERS = [f"T{number:02}" for number in range(6)]
BARS = 60
ARGUMENTS = ("--date", "2024-03-15", "--years-back", "1")


@pytest.fixture
def yahoo(tmp_path: Path) -> Iterator[LoopbackYahoo]:
    with LoopbackYahoo(tmp_path / "yahoo") as server:
        for number, ticker in enumerate(TICKERS):
            server.add(ticker, make_bars(days=BARS, seed=number))
        yield server


@pytest.fixture
def elsewhere(tmp_path: Path, workspace: Workspace, yahoo: LoopbackYahoo) -> Iterator[Workspace]:
    """A second workspace, with settings, store and luigid of its own, on the database of the first."""
    (tmp_path / "elsewhere").mkdir()
    with Workspace(tmp_path / "elsewhere", workspace.database_url) as second:
        for each in (workspace, second):
            each.environment = yahoo.environment()
            each.set("Yahoo", prices_per_minute="0", company_per_minute="0")
            each.universe.write_text(f"groupings:\n  all: {{tickers: [{', '.join(TICKERS)}]}}\n")
            assert each.command("up", "--quiet").returncode == 0
        yield second


def ended(run: subprocess.Popen[str]) -> Finished:
    out, err = run.communicate(timeout=240)
    return Finished(run.returncode, out, err)


@pytest.fixture
def first(workspace: Workspace, elsewhere: Workspace, yahoo: LoopbackYahoo) -> Iterator[subprocess.Popen[str]]:
    """A run of the first workspace that waits for an answer of Yahoo's, and by then has asked for others."""
    yahoo.fault("T03", "hang", endpoint="chart", times=1)
    workspace.set("Market", request_timeout="15")
    run = workspace.start(*ARGUMENTS)
    while not yahoo.count("chart", "T03"):
        assert run.poll() is None, ended(run)
    yield run
    run.kill()
    run.communicate()


def test_the_same_run_from_elsewhere_is_refused_while_the_first_goes_on(
    workspace: Workspace, elsewhere: Workspace, yahoo: LoopbackYahoo, first: subprocess.Popen[str]
) -> None:
    second = elsewhere.run(*ARGUMENTS, services=False)
    assert first.poll() is None
    done = ended(first)

    assert second.code == 10, second
    assert second.err.strip().endswith(
        f"the same run: is going on at this database (process {first.pid}). Run again when it has ended."
    )
    assert done.code == 0, done
    assert workspace.query("SELECT count(*) FROM runs") == [1]
    assert yahoo.count("summary") == len(TICKERS)
    assert "Nothing to do" in elsewhere.run(*ARGUMENTS, services=False).out


def test_a_run_that_was_killed_keeps_nobody_from_the_same_run_elsewhere(
    workspace: Workspace, elsewhere: Workspace, first: subprocess.Popen[str]
) -> None:
    first.kill()

    second = elsewhere.run(*ARGUMENTS, services=False)

    assert second.code == 0, second
    assert workspace.query("SELECT count(*) FROM ohlcv") == [len(TICKERS) * BARS]


def test_runs_that_overlap_say_so_and_store_each_bar_once(
    workspace: Workspace, elsewhere: Workspace, first: subprocess.Popen[str]
) -> None:
    second = elsewhere.run(*ARGUMENTS, "--tickers", "T02,T03,T04", "--local-scheduler", services=False)
    done = ended(first)

    assert f"beside another run at this database (process {first.pid})" in second.err
    assert (done.code, second.code) == (0, 0), (done, second)
    assert workspace.query("SELECT count(*), count(DISTINCT (security_id, date)) FROM ohlcv") == [(6 * BARS, 6 * BARS)]
    assert workspace.query("SELECT count(*) FROM ohlcv_revisions") == [0]
    assert workspace.query("SELECT count(*) FROM task_failures") == [0]
