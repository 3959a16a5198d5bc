"""Tasks of somebody's own above ours: by the command and from Python, with luigid and without; and what only looks."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from luigi.rpc import RemoteScheduler

from luigi_tasks.database.engine import engine_for
from tests.conftest import make_bars
from tests.workspace import BIN, REPOSITORY, Finished, Workspace

ARGUMENTS = ("--date", "2024-03-15", "--years-back", "1")
# Two levels above ours: of all tickers, of one of them, and of a step.
OWN = """
import datetime as dt
from pathlib import Path

import luigi
from luigi_tasks import InsertOhlcv, RunAll, TickerPipeline

DAY = {"date": dt.date(2024, 3, 15), "years_back": 1}


class Middle(luigi.Task):
    folder = luigi.Parameter()

    def requires(self):
        return [RunAll(tickers="AAA,bbb", **DAY), TickerPipeline(ticker="CCC", **DAY), InsertOhlcv(ticker="DDD", **DAY)]

    def output(self):
        return luigi.LocalTarget(str(Path(self.folder) / type(self).__name__))

    def run(self):
        with self.output().open("w") as file:
            file.write("done")


class Top(Middle):
    def requires(self):
        return Middle(folder=self.folder)


if __name__ == "__main__":
    import sys

    folder, *local = sys.argv[1:]
    sys.exit(not luigi.build([Top(folder=folder)], workers=4, local_scheduler=bool(local)))
"""


@pytest.fixture
def own(workspace: Workspace) -> Workspace:
    """A workspace with four tickers, and a module own.py beside it."""
    workspace.use_files({ticker: make_bars(seed=number) for number, ticker in enumerate(["AAA", "BBB", "CCC", "DDD"])})
    (workspace.folder / "own.py").write_text(OWN)
    workspace.environment["PYTHONPATH"] = str(workspace.folder)
    up = workspace.command("up", "--quiet")
    assert up.returncode == 0, up.stderr
    return workspace


def execute(workspace: Workspace, *program: str) -> Finished:
    done = workspace.execute(*program)
    return Finished(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("local", [(), ("--local-scheduler",)], ids=["luigid", "local scheduler"])
@pytest.mark.parametrize("way", ["luigi", "luigi.build"])
def test_own_tasks_two_levels_above_ours_are_done(own: Workspace, way: str, local: tuple[str, ...]) -> None:
    folder = str(own.folder)
    by_command = [str(BIN / "luigi"), "--module", "own", "Top", "--folder", folder, "--workers", "4", *local]
    by_python = [str(BIN / "python"), str(own.folder / "own.py"), folder, *local]

    run = execute(own, *(by_command if way == "luigi" else by_python))

    assert run.code == 0, run
    assert (own.folder / "Top").read_text() == "done"
    assert own.query("SELECT ticker FROM securities ORDER BY 1") == ["AAA", "BBB", "CCC", "DDD"]
    assert own.query("SELECT count(*) FROM ohlcv") == [4 * 30]
    assert own.query("SELECT task_family FROM runs") == (["RunAll"] if way == "luigi" else [])
    assert "running on this luigid" not in run.err


def test_what_only_looks_is_no_run(own: Workspace) -> None:
    assert own.run("--ticker", "AAA", *ARGUMENTS, task="InsertOhlcv").code == 0
    reports = own.store / "reports"
    before = own.query("SELECT run_id FROM runs")
    latest = (reports / "latest").resolve()
    assert len(before) == 1
    pipeline = ["--module", "luigi_tasks", "TickerPipeline", "--ticker", "AAA", *ARGUMENTS]

    tree = execute(own, str(BIN / "luigi-deps-tree"), *pipeline)
    whole = execute(own, str(BIN / "luigi-deps-tree"), "--module", "luigi_tasks", "RunAll", *ARGUMENTS)
    done = own.run("--ticker", "AAA", *ARGUMENTS, task="InsertOhlcv")
    listed = own.run("--date", "2024-03-15", task="GetTickers")

    assert (tree.code, whole.code, done.code, listed.code) == (0, 0, 0, 0), (tree, whole, done, listed)
    assert [line.strip("─└| -").partition("-")[0].strip("[") for line in tree.out.split("\n") if line.strip()] == [
        "TickerPipeline", "RegisterSecurity", "InsertOhlcv", "RegisterSecurity", "ValidateOhlcv", "DownloadOhlcv",
        "InsertMetadata", "RegisterSecurity", "DownloadMetadata",
    ]  # fmt: skip
    assert whole.out.count("[TickerPipeline-") == 4
    assert own.query("SELECT run_id FROM runs") == before
    assert [path.name for path in reports.iterdir() if path.name != "latest"] == before
    assert (reports / "latest").resolve() == latest


def test_workers_of_other_projects_on_the_same_luigid_are_none_of_our_business(own: Workspace) -> None:
    luigid: Any = RemoteScheduler(f"http://127.0.0.1:{own.port}/")
    dead = subprocess.Popen(["true"])
    dead.wait()
    for name, process in (("theirs, alive", subprocess.Popen(["sleep", "240"])), ("theirs, dead", dead)):
        about = {"workers": 1, "host": socket.gethostname(), "pid": process.pid, "first_task": "TheirTask()"}
        luigid.add_worker(name, list(about.items()))
        luigid.add_task(worker=name, task_id=f"Their_{process.pid}", status="RUNNING", family="Their")

    run = own.run(*ARGUMENTS)

    assert run.code == 0, run
    states = {worker["name"]: worker["state"] for worker in luigid.worker_list()}
    assert (states["theirs, alive"], states["theirs, dead"]) == ("active", "active")


def test_a_single_task_beside_a_run_waits_for_the_resource_that_the_run_holds(own: Workspace) -> None:
    assert own.command("down").returncode == 0
    own.set("resources", yfinance_api="1")
    assert own.command("up", "--quiet").returncode == 0
    # Nobody gets past this lock, so that the run holds the one unit.
    with engine_for(own.database_url).connect() as connection:
        connection.execute(sa.text("LOCK TABLE missing_sessions IN ACCESS EXCLUSIVE MODE"))
        run = own.start(*ARGUMENTS)
        while not own.query("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            assert run.poll() is None, run.communicate()
        single = own.start("--ticker", "DDD", "--date", "2024-03-14", task="DownloadOhlcv")
        luigid: Any = RemoteScheduler(f"http://127.0.0.1:{own.port}/")
        while len([worker for worker in luigid.worker_list() if "salt" in worker["name"]]) < 2:
            assert single.poll() is None, single.communicate()
    endings = [process.communicate(timeout=240) for process in (run, single)]

    assert (run.returncode, single.returncode) == (0, 0), endings


def test_the_example_of_the_docs_runs(own: Workspace) -> None:
    text = (REPOSITORY / "docs/how-to/own-tasks.md").read_text()
    program = text.partition("```python\n")[2].partition("```")[0]
    assert "class " in program
    (own.folder / "weekly.py").write_text(program)
    command = next(line for line in text.splitlines() if line.startswith("luigi --module weekly"))

    run = execute(own, str(BIN / "luigi"), *command.split()[1:], "--folder", str(own.folder), "--tickers", "AAA,BBB")

    assert run.code == 0, run
    assert Path(own.folder / "weekly-returns-2024-03-15.csv").read_text().startswith("ticker,")
