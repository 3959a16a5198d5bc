"""What nobody can run with: one clear line, a non-zero exit code, nothing half-written."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa

from luigi_tasks.database.engine import engine_for
from tests.conftest import make_bars
from tests.webhook import Webhook
from tests.workspace import REPOSITORY, Workspace, free_port

ARGUMENTS = ("--date", "2024-03-15", "--years-back", "1")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--groupings", "sp5000"), "grouping 'sp5000': is not in universe.yaml. It has: all."),
        (("--date", "2999-01-01"), "--date 2999-01-01: is in the future"),
        (("--years-back", "0"), "--years-back 0: is not a number from 1 to 150"),
        (("--ticker-limit", "-1"), "--ticker-limit -1: is below 0"),
        (("--tickers", "AAA,../x"), "--tickers '../X': has characters that no ticker has"),
        (("--tickers", "A", "--groupings", "all"), "--tickers and --groupings: cannot be given together"),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(workspace: Workspace, arguments: tuple[str, ...], words: str) -> None:
    run = workspace.run(*ARGUMENTS, *arguments, services=False)

    assert run.code == 35, run
    assert words in run.err
    assert "Traceback" not in run.err
    assert workspace.query("SELECT to_regclass('runs')") == [None]


@pytest.mark.parametrize(
    ("task", "arguments", "words"),
    [
        ("RunAll", ("--date", "yesterday"), "--date 'yesterday': is not a day. It looks like 2026-11-20."),
        ("RunAll", ("--workers", "many"), "--workers 'many': is not a whole number"),
        ("RunAll", ("--tickers", "AAA,", "BBB"), "Write it without the blank, or in quotes: --tickers AAA,BBB"),
        ("RunAll", ("--tikcers", "AAA"), "'--tikcers': is no option of RunAll. Did you mean --tickers?"),
        ("DownloadOhlcv", (), "DownloadOhlcv: has no ticker. Give it with --ticker"),
    ],
)
def test_what_luigi_would_refuse_is_one_line(
    workspace: Workspace, task: str, arguments: tuple[str, ...], words: str
) -> None:
    with Webhook() as webhook:
        workspace.environment["ALERT_WEBHOOK_URL"] = webhook.url
        run = workspace.run(*arguments, task=task, services=False)

    assert run.code == 35, run
    assert run.err.startswith("error: cannot begin: ")
    assert words in run.err
    assert (run.out, len(run.err.splitlines())) == ("", 1)
    assert len(webhook.texts) == 1, "cron's mail may go to nobody"


def test_a_plan_for_what_luigi_would_refuse_is_one_line(workspace: Workspace) -> None:
    plan = workspace.command("plan", "--tickers", "AAA,", "BBB")
    export = workspace.command("export", "--tickers", "AAA,", "BBB")

    assert (plan.returncode, export.returncode) == (1, 2)
    assert plan.stderr.startswith("error: 'BBB': is a word of its own, and not part of --tickers")
    assert "The shell takes words apart at blanks: write AAPL,MSFT" in export.stderr
    assert len(plan.stderr.splitlines()) == len(export.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("section", "name", "subject"),
    [
        ("Groups", "size", "[Groups]"),
        ("core", "scheduler_port", "[core] scheduler_port"),
        ("RunAll", "years_back", "[RunAll] years_back"),
    ],
)
def test_a_setting_that_is_not_of_its_kind_is_one_line(
    workspace: Workspace, section: str, name: str, subject: str
) -> None:
    workspace.set(section, **{name: "many"})

    run = workspace.run("--date", "2024-03-15", services=False)

    assert run.code == 35, run
    assert re.search(
        rf"{re.escape(subject)} in luigi\.cfg: (has a value that )?is not (of its kind|a whole number)", run.err
    )
    assert len(run.err.splitlines()) == 1


@pytest.mark.parametrize("empty", ["", ","])
def test_an_empty_list_does_not_mean_all(workspace: Workspace, empty: str) -> None:
    run = workspace.run(*ARGUMENTS, "--tickers", empty, services=False)

    assert run.code == 35, run
    assert "names nothing. Name at least one, or leave the option out." in run.err
    assert "Traceback" not in run.err


@pytest.mark.parametrize(
    ("universe", "words"),
    [
        ("groupings: {}\n", "has no groupings"),
        ("groupings: [\n", "is not YAML"),
        ("groupings:\n  a: {tickers: [A], csv: b.csv}\n", "must have exactly one of tickers, csv, index"),
    ],
)
def test_a_universe_file_that_cannot_be_used_is_named(workspace: Workspace, universe: str, words: str) -> None:
    workspace.universe.write_text(universe)

    run = workspace.run(*ARGUMENTS, services=False)

    assert run.code == 35, run
    assert words in run.err
    assert "universe.yaml" in run.err


@pytest.mark.parametrize(
    ("universe", "words"),
    [
        ("groupings:\n  a: {tickers: []}\n", "the list of tickers: is empty"),
        ("groupings:\n  a: {tickers: ['../x', 'ü']}\n", "has none that can be run"),
        ("groupings:\n  a: {csv: missing.csv}\n", "missing.csv, of grouping 'a': cannot be read"),
        (
            "groupings:\n  a: {index: S&P 5000}\n",
            "index 'S&P 5000' of grouping 'a': is not one that pytickersymbols knows",
        ),
    ],
)
def test_a_list_of_tickers_that_cannot_be_used_is_named(workspace: Workspace, universe: str, words: str) -> None:
    workspace.universe.write_text(universe)

    run = workspace.run(*ARGUMENTS, "--local-scheduler", services=False)

    assert run.code == 30, run
    assert words in run.err
    assert "Traceback" not in run.err
    assert "Nothing was run" in run.out
    assert workspace.query("SELECT kind FROM task_failures") == ["configuration"]


def test_a_database_that_is_down_is_named_without_its_password(workspace: Workspace) -> None:
    assert workspace.command("up").returncode == 0
    workspace.database_url = f"postgresql://somebody:s3cret@127.0.0.1:{free_port()}/nowhere"

    run = workspace.run(*ARGUMENTS, services=False)

    assert run.code == 35, run
    assert "does not answer" in run.err
    assert "s3cret" not in run.err + run.out
    assert "s3cret" not in "".join(path.read_text() for path in (workspace.store / "logs").iterdir())
    assert len(run.err.strip().splitlines()) == 1


def test_a_luigid_that_is_down_is_named_with_the_remedy(workspace: Workspace) -> None:
    run = workspace.run(*ARGUMENTS, services=False)

    assert run.code == 35, run
    assert f"luigid at 127.0.0.1:{workspace.port}: does not answer" in run.err
    assert "./run.sh up" in run.err


def test_a_port_taken_by_another_program_is_named(workspace: Workspace) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", workspace.port))
        other.listen()

        up = workspace.command("up")

    assert up.returncode == 1
    assert f"port {workspace.port} on 127.0.0.1: is taken by another program" in up.stderr


def test_a_store_that_is_no_folder_is_named(workspace: Workspace) -> None:
    (workspace.folder / "taken").write_text("a file")
    workspace.set("Store", root=str(workspace.folder / "taken"))

    up = workspace.command("up")

    assert up.returncode == 1
    assert "taken: cannot be written" in up.stderr
    assert "Traceback" not in up.stderr


def test_a_store_that_cannot_be_written_ends_the_run_in_one_line(workspace: Workspace) -> None:
    (workspace.folder / "taken").write_text("a file")
    workspace.set("Store", root=str(workspace.folder / "taken"))

    run = workspace.run(*ARGUMENTS, services=False)

    assert run.code != 0
    assert run.err.strip().endswith("taken/logs: cannot be written (Not a directory). Check permissions.")
    assert "Traceback" not in run.err


def test_the_same_command_twice_at_a_time_is_refused(workspace: Workspace) -> None:
    workspace.use_files({"AAA": make_bars(), "BBB": make_bars(seed=2)})
    assert workspace.run(*ARGUMENTS, "--tickers", "AAA").code == 0
    # Nobody gets past this lock, so that the first run is in the middle of a ticker.
    with engine_for(workspace.database_url).connect() as connection:
        connection.execute(sa.text("LOCK TABLE security_metadata IN ACCESS EXCLUSIVE MODE"))
        first = workspace.start(*ARGUMENTS)
        while not workspace.query("SELECT FROM task_markers WHERE task_family = 'DownloadMetadata' AND ticker = 'BBB'"):
            assert first.poll() is None, first.communicate()
        second = workspace.run(*ARGUMENTS, services=False)
        going_on = workspace.command("status").stdout
    out, err = first.communicate(timeout=120)

    assert second.code == 10, second
    assert "the same run: is going on at this database" in second.err
    assert "running for" in going_on
    assert first.returncode == 0, (out, err)
    assert "running for" not in workspace.command("status").stdout


def test_a_source_that_is_not_there_is_said_once_and_not_for_every_ticker(workspace: Workspace) -> None:
    workspace.set("Market", source="files", name="test", path=str(workspace.folder / "nowhere"))

    run = workspace.run(*ARGUMENTS)

    assert run.code == 30, run
    assert workspace.query("SELECT task_family, kind FROM task_failures") == [("CheckSource", "source_unreachable")]
    assert run.err.count("nowhere") == 1


def test_bars_of_two_sources_never_meet_in_one_database(workspace: Workspace) -> None:
    workspace.use_files({"AAA": make_bars()})
    assert workspace.run(*ARGUMENTS).code == 0
    workspace.set("Market", name="another")

    run = workspace.run(*ARGUMENTS)

    assert run.code == 35, run
    assert "this database holds bars from 'test'" in run.err


def test_a_full_disk_fails_the_ticker_and_leaves_nothing_half_written(workspace: Workspace, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("a small file system can only be mounted by root")
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine does not let root mount a file system")
    try:
        workspace.use_files({"AAA": make_bars(days=2000, last="2024-03-15")})
        (workspace.store / "store").mkdir(parents=True)
        (workspace.store / "store" / "test").symlink_to(small)

        run = workspace.run("--date", "2024-03-15", "--years-back", "10")

        assert run.code == 30, run
        kinds = workspace.query("SELECT DISTINCT kind FROM task_failures")
        assert kinds == ["store_unwritable"]
        assert "No space left on device" in run.err
        assert list(small.rglob("*.parquet")) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_python_that_is_too_old_is_named(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "env", "dirname", "cat", "cksum", "mkdir"):
        (tools / name).symlink_to(str(shutil.which(name)))
    old = tools / "python3"
    old.write_text('#!/usr/bin/env bash\n[ "$1" = --version ] && echo "Python 3.9.1" && exit\nexit 1\n')
    old.chmod(0o755)
    for name in ("run.sh", "setup.cfg", "pyproject.toml", "constraints.txt"):
        shutil.copy(REPOSITORY / name, tmp_path)

    run = subprocess.run([str(tmp_path / "run.sh"), "demo"], env={"PATH": str(tools)}, capture_output=True, text=True)

    assert run.returncode == 1
    assert run.stderr.strip() == (
        "error: Python 3.11 or later is needed; found Python 3.9.1. Name one with PYTHON=/path/to/python."
    )
    assert not (tmp_path / "var").exists()
