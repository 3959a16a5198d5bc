"""Killed at any moment: no orphan goes on, and the rerun ends in the same tables as an undisturbed run."""

from __future__ import annotations

import os
import pty
import random
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest
import sqlalchemy as sa

from crashes.faults import stop_postgres
from luigi_tasks.database import embedded
from luigi_tasks.database.engine import create_database, engine_for
from tests.conftest import make_bars
from tests.workspace import REPOSITORY, Workspace

ARGUMENTS = ("--date", "2024-03-15", "--years-back", "1")
TICKERS = [f"T{number:02}" for number in range(12)]
# What a run that has got a signal goes on as.
INTERRUPTED = "luigi_tasks.run.shutdown"
# The processes of ours that wait for a lock, by the name that they give themselves at the database.
WAITING = """
    SELECT split_part(application_name, ' ', 2) FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND application_name LIKE 'luigi_tasks %'
"""


def prepare(workspace: Workspace) -> None:
    workspace.use_files({ticker: make_bars(days=60, seed=number) for number, ticker in enumerate(TICKERS)})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> dict[str, list[Any]]:
    """The tables after a run that nothing happened to."""
    create_database(postgres_url, "undisturbed")
    folder = tmp_path_factory.mktemp("undisturbed")
    with Workspace(folder, postgres_url.replace("/postgres?", "/undisturbed?")) as workspace:
        prepare(workspace)
        run = workspace.run(*ARGUMENTS)
        assert run.code == 0, run
        return workspace.tables()


def group_members(group: int) -> list[psutil.Process]:
    members = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
        except (ProcessLookupError, psutil.Error):
            continue
    return members


def wait_until_gone(group: int) -> list[psutil.Process]:
    """Processes of the group that are still there after 10 s."""
    deadline = time.monotonic() + 10
    while (left := group_members(group)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def count_markers(workspace: Workspace) -> int:
    made = workspace.query("SELECT to_regclass('task_markers') IS NOT NULL")[0]
    return int(workspace.query("SELECT count(*) FROM task_markers")[0]) if made else 0


def kill_after_markers(workspace: Workspace, number: signal.Signals, markers: int) -> int:
    """Start a run, send its parent the signal once it has written so many markers; returns the process group."""
    before = count_markers(workspace)
    process = workspace.start(*ARGUMENTS)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if count_markers(workspace) >= before + markers:
            break
        time.sleep(0.02)
    assert process.poll() is None, "the run ended before it could be killed"
    process.send_signal(number)
    outputs = process.communicate(timeout=60)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number), outputs
    return process.pid


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_leaves_no_orphan_and_the_rerun_ends_in_the_same_tables(
    workspace: Workspace, undisturbed: dict[str, list[Any]], number: signal.Signals
) -> None:
    prepare(workspace)
    assert workspace.command("up").returncode == 0
    for markers in random.Random(int(number)).sample(range(1, 20), 1):
        group = kill_after_markers(workspace, number, markers)
        assert wait_until_gone(group) == []
    before = count_markers(workspace)

    run = workspace.run(*ARGUMENTS)

    assert run.code == 0, run
    assert workspace.tables() == undisturbed
    assert before < count_markers(workspace)
    assert workspace.query("SELECT count(*) FROM task_failures") == [0]
    assert list((workspace.store / "store").rglob(".parts/*")) == []


def test_a_run_whose_terminal_ends_writes_its_report(workspace: Workspace) -> None:
    prepare(workspace)
    assert workspace.command("up").returncode == 0
    screen, terminal = pty.openpty()
    # What a shell sets up: a session of its own, of which this terminal is the controlling one.
    command = ["setsid", "--ctty", *workspace.program(*ARGUMENTS)]
    with engine_for(workspace.database_url).connect() as connection:
        # So that it does not end by itself before.
        connection.execute(sa.text("LOCK TABLE ohlcv IN EXCLUSIVE MODE"))
        environment = workspace.env()
        run = psutil.Popen(command, cwd=REPOSITORY, env=environment, stdin=terminal, stdout=terminal, stderr=terminal)
        os.close(terminal)
        while count_markers(workspace) < 3:
            assert run.poll() is None

        os.close(screen)

        assert run.wait(60) == 128 + signal.SIGHUP
    assert wait_until_gone(run.pid) == []
    assert workspace.query("SELECT outcome FROM runs") == ["interrupted"]
    assert "Interrupted by SIGHUP" in workspace.command("report").stdout


def test_a_run_that_is_drained_ends_what_it_has_begun_and_the_rerun_does_the_rest(
    workspace: Workspace, undisturbed: dict[str, list[Any]]
) -> None:
    prepare(workspace)
    assert workspace.command("up").returncode == 0

    group = kill_after_markers(workspace, signal.SIGUSR1, 10)

    assert group_members(group) == []
    for download, insert in (("DownloadOhlcv", "InsertOhlcv"), ("DownloadMetadata", "InsertMetadata")):
        begun, ended = (
            workspace.query("SELECT ticker FROM task_markers WHERE task_family = :family ORDER BY 1", family=family)
            for family in (download, insert)
        )
        assert len(begun) < len(TICKERS)
        assert begun == ended
    assert workspace.query("SELECT count(*) FROM task_failures") == [0]
    assert workspace.query("SELECT outcome FROM runs") == ["interrupted"]
    assert "Interrupted by SIGUSR1" in workspace.command("report").stdout
    before = workspace.query("SELECT task_id, done_at FROM task_markers")
    assert workspace.run(*ARGUMENTS).code == 0
    assert workspace.tables() == undisturbed
    assert set(before) <= set(workspace.query("SELECT task_id, done_at FROM task_markers"))


def strike_in_a_task(
    workspace: Workspace, strike: Callable[[psutil.Process], object]
) -> tuple[subprocess.Popen[str], tuple[str, str]]:
    """A run that has ended, and its outputs; one of its processes was struck in the middle of InsertMetadata."""
    # Nobody gets past this lock, so whoever waits for it is in the middle of a task.
    with engine_for(workspace.database_url).connect() as connection:
        connection.execute(sa.text("LOCK TABLE security_metadata IN ACCESS EXCLUSIVE MODE"))
        process = workspace.start(*ARGUMENTS)
        waiting: list[int] = []
        while not waiting and process.poll() is None:
            waiting = [int(pid) for pid in workspace.query(WAITING)]
        strike(psutil.Process(waiting[0]))
    return process, process.communicate(timeout=120)


def test_a_task_whose_process_is_killed_fails_alone_and_is_done_by_the_rerun(workspace: Workspace) -> None:
    prepare(workspace)
    assert workspace.command("up").returncode == 0
    assert workspace.run(*ARGUMENTS, "--tickers", "T00").code == 0
    process, _ = strike_in_a_task(workspace, psutil.Process.kill)

    assert process.returncode == 30
    assert workspace.query("SELECT kind FROM task_failures") == ["process_died"]
    assert workspace.run(*ARGUMENTS).code == 0
    assert workspace.query("SELECT count(*) FROM ohlcv") == [len(TICKERS) * 60]


def test_a_process_that_is_stopped_costs_its_ticker_alone(workspace: Workspace) -> None:
    prepare(workspace)
    for family in ("RegisterSecurity", "DownloadMetadata", "InsertMetadata"):
        workspace.set(family, time_limit="8")
    assert workspace.command("up").returncode == 0
    process, outputs = strike_in_a_task(workspace, psutil.Process.suspend)

    assert process.returncode == 30, outputs
    [(kind, family, reason)] = workspace.query("SELECT kind, task_family, reason FROM task_failures")
    assert (kind, family) == ("timed_out", "InsertMetadata")
    assert reason == "stopped after 24 s, its time_limit in luigi.cfg"
    assert "timed_out" in outputs[1]
    assert wait_until_gone(process.pid) == []
    assert workspace.query("SELECT count(*) FROM ohlcv") == [len(TICKERS) * 60]


def test_a_database_that_is_restarted_in_mid_run_is_asked_again(workspace: Workspace) -> None:
    prepare(workspace)
    workspace.environment["DATABASE_URL"] = ""
    workspace.set("Retry", first_wait="1", longest_wait="60")
    assert workspace.command("up", "--quiet").returncode == 0
    folder = workspace.store / "postgres"
    workspace.database_url = embedded.running_url(folder, "securities") or ""
    try:
        process = workspace.start(*ARGUMENTS)
        while count_markers(workspace) < 10:
            assert process.poll() is None, process.communicate()
        engine_for(workspace.database_url).dispose()
        stop_postgres(folder, "fast")
        time.sleep(2)
        assert workspace.command("up", "--quiet").returncode == 0
        outputs = process.communicate(timeout=120)

        assert workspace.query("SELECT kind, reason FROM task_failures") == []
        assert process.returncode == 0, outputs
        assert workspace.query("SELECT count(*) FROM ohlcv") == [len(TICKERS) * 60]
    finally:
        workspace.command("down")


def is_ending(pid: int) -> bool:
    """Whether a run has ended, or goes on as what writes the report of one that got a signal."""
    try:
        return INTERRUPTED in psutil.Process(pid).cmdline()
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_waits_for_a_database_that_does_not_answer_can_be_ended(
    workspace: Workspace, number: signal.Signals
) -> None:
    prepare(workspace)
    assert workspace.run(*ARGUMENTS).code == 0
    with engine_for(workspace.database_url).connect() as connection:
        # Where the list of tickers is there already, the first process asks what is done before there is any other.
        connection.execute(sa.text("LOCK TABLE absences, task_markers IN ACCESS EXCLUSIVE MODE"))
        process = workspace.start(*ARGUMENTS)
        while str(process.pid) not in workspace.query(WAITING):
            assert process.poll() is None, process.communicate()
        process.send_signal(number)
        deadline = time.monotonic() + 30
        while not (ends := is_ending(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.02)
        connection.rollback()
    outputs = process.communicate(timeout=60)

    assert ends, "it waits for the database still"
    assert process.returncode == 128 + number, outputs
    assert workspace.query("SELECT count(*) FROM runs WHERE finished_at IS NULL") == [0], "it has a report"
