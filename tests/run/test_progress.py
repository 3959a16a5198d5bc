"""How far a run is, in a line: what it says, on a terminal and in a log."""

from __future__ import annotations

import os
import pty
import subprocess
import time
from collections import Counter

import pytest

from luigi_tasks.logs import CLEAR
from luigi_tasks.run.progress import Display, Progress
from tests.conftest import make_bars
from tests.workspace import REPOSITORY, Workspace

ARGUMENTS = ("--date", "2024-03-15", "--years-back", "1")


def at(codes: str, seconds: float, **expected: int) -> str:
    return hear(Progress(began=100.0, expected=Counter(expected)), codes).line(100.0 + seconds)


def hear(progress: Progress, codes: str) -> Progress:
    """o, m: bars, company data of a ticker are done; O, M: they failed; +, -: a process has begun, ended."""
    for code in codes:
        if code in "+-":
            progress.work(progress.running + (1 if code == "+" else -1), 0.0)
        else:
            progress.settle("ohlcv" if code in "oO" else "metadata", 100.0, done=code.islower())
    return progress


@pytest.mark.parametrize(
    ("codes", "seconds", "expected", "line"),
    [
        ("", 0, {}, ""),
        ("", 0, {"ohlcv": 3}, "bars 0 of 3; 0 running, 0 failed, 3 remaining"),
        ("++", 9, {"ohlcv": 1200}, "bars 0 of 1,200; 2 running, 0 failed, 1,200 remaining"),
        ("+ooO", 60, {"ohlcv": 9}, "bars 2 of 9; 1 running, 1 failed, 6 remaining; 3 a minute; about 2 min left"),
        (
            "++oooom",
            60,
            {"ohlcv": 8, "metadata": 5},
            "bars 4 of 8; company data 1 of 5; 2 running, 0 failed, 8 remaining; 5 a minute; about 5 min left",
        ),
        (
            "+oooo",
            60,
            {"ohlcv": 8, "metadata": 5},
            "bars 4 of 8; company data 0 of 5; 1 running, 0 failed, 9 remaining; 4 a minute",
        ),
        (
            "+-oM",
            30,
            {"ohlcv": 1, "metadata": 1},
            "bars 1 of 1; company data 0 of 1; 0 running, 1 failed, 0 remaining; 4 a minute",
        ),
        ("+o", 3, {"ohlcv": 5}, "bars 1 of 5; 1 running, 0 failed, 4 remaining; 20 a minute; about 12 s left"),
        ("+o", 3600, {"ohlcv": 3}, "bars 1 of 3; 1 running, 0 failed, 2 remaining; 0 a minute; about 2 h left"),
    ],
)
def test_the_line_says_how_far_it_is(codes: str, seconds: float, expected: dict[str, int], line: str) -> None:
    assert at(codes, seconds, **expected) == line


@pytest.mark.parametrize(
    ("codes", "seconds", "left"),
    [
        # At 60 and 10 a minute, ten at once: company data comes after the bars, and takes its own time.
        ("o" * 40, 30, "about 9 min left"),
        ("o" * 40 + "m" * 20, 30, "about 7 min left"),
        # Slower than the rate allows: after a 429, or where the processes are what is slow.
        ("o" * 10, 60, "about 15 min left"),
        # What is left of each kind counts: bars alone, although company data was slower.
        ("o" * 40 + "m" * 80, 480, "about 8 min left"),
        ("o" * 74 + "m" * 80, 60, "about 6 s left"),
    ],
)
def test_the_time_left_is_that_of_both_kinds_at_no_more_than_their_rates(codes: str, seconds: float, left: str) -> None:
    every = Counter({"ohlcv": 80, "metadata": 80})
    progress = Progress(100.0, {"ohlcv": 60.0, "metadata": 10.0}, every, every.copy())
    hear(progress, codes)

    assert progress.line(100.0 + seconds).endswith(left)


def test_company_data_that_nobody_has_to_be_asked_for_takes_no_time() -> None:
    progress = Progress(100.0, {"ohlcv": 60.0, "metadata": 10.0}, Counter({"ohlcv": 80, "metadata": 80}))
    progress.asking = Counter({"ohlcv": 80, "metadata": 0})
    hear(progress, "o" * 20)

    assert progress.line(120.0).endswith("about 1 min left")


def test_it_is_told_once_when_all_closes_are_in() -> None:
    progress = Progress(100.0, expected=Counter({"ohlcv": 3, "metadata": 3}))
    hear(progress, "oo")
    assert progress.closes(200.0) == ""

    hear(progress, "Om")

    assert progress.closes(190.0) == (
        "all closes are in after 1 min 30 s: bars of 2 tickers, 1 failed; company data of 1 of 3 so far"
    )
    assert progress.closes(191.0) == ""


def test_that_all_closes_are_in_is_told_when_they_are(caplog: pytest.LogCaptureFixture) -> None:
    progress = hear(Progress(time.monotonic(), expected=Counter({"ohlcv": 1, "metadata": 1})), "o")

    with caplog.at_level("INFO"):
        Display(log_seconds=3600).show(progress)

    assert [message.partition(" after ")[0] for message in caplog.messages] == ["all closes are in"]


def test_where_company_data_is_done_too_the_end_says_it_all() -> None:
    progress = hear(Progress(100.0, expected=Counter({"ohlcv": 1, "metadata": 1})), "om")

    assert progress.closes(190.0) == ""


def prepare(workspace: Workspace) -> None:
    workspace.use_files({ticker: make_bars(seed=number) for number, ticker in enumerate(["AAA", "BBB", "CCC"])})
    workspace.set("Progress", log_seconds="0.05")


def test_a_log_gets_a_line_now_and_then(workspace: Workspace) -> None:
    prepare(workspace)

    run = workspace.run(*ARGUMENTS)

    assert run.code == 0, run
    assert CLEAR not in run.err
    (first, *_) = [line for line in run.err.splitlines() if "remaining" in line]
    assert first.startswith("info: bars 0 of 3")


def test_a_terminal_gets_one_line_that_is_taken_away_in_the_end(workspace: Workspace) -> None:
    prepare(workspace)
    assert workspace.command("up").returncode == 0
    ours, theirs = pty.openpty()
    program = workspace.program(*ARGUMENTS)
    environment = workspace.env() | {"TERM": "xterm"}

    with subprocess.Popen(program, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL, stderr=theirs) as run:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 4096)
            except OSError:
                # How Linux says that nobody has the terminal open any more.
                break
    os.close(ours)

    assert run.returncode == 0, shown
    pieces = shown.decode().split(CLEAR)
    assert any("remaining" in piece for piece in pieces)
    assert pieces[-1] == "", "what is left of the line"
