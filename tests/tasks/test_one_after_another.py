"""Items worked off in another process: whatever it dies of costs one item, and nobody is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from luigi_tasks.tasks.one_after_another import OneAfterAnother, Outcome

FOREVER = 600


def die(number: signal.Signals) -> bool:
    os.kill(os.getpid(), number)
    return True


def hang() -> bool:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(FOREVER)
    return True


WORK: dict[str, Callable[[], bool]] = {
    "good": lambda: True,
    "bad": lambda: False,
    "killed": lambda: die(signal.SIGKILL),
    "ended": lambda: die(signal.SIGTERM),
    "left": lambda: os._exit(0),
    "raised": lambda: 1 // 0 == 0,
    "stuck": hang,
}


def outcomes(
    *items: str, limit: float = FOREVER, go_on: bool = True, at_most: int = 10
) -> tuple[list[tuple[str, Outcome]], list[str]]:
    told: list[tuple[str, Outcome]] = []
    untried = OneAfterAnother(
        items,
        work=lambda item: WORK[item](),
        tell=lambda item, outcome: told.append((item, outcome)),
        limit=lambda item: limit,
        go_on=lambda done: done or go_on,
        at_most=at_most,
    ).run()
    return told, untried


def test_nothing_to_do_is_nothing() -> None:
    assert outcomes() == ([], [])


def test_each_item_is_worked_on_once_in_order_and_so_many_in_one_process(tmp_path: Path) -> None:
    seen = tmp_path / "seen"

    def work(item: int) -> bool:
        with seen.open("a") as file:
            print(item, os.getpid(), file=file)
        return True

    OneAfterAnother(range(5), work, lambda item, outcome: None, lambda item: FOREVER, lambda done: True, 2).run()

    items, processes = zip(*map(str.split, seen.read_text().splitlines()), strict=True)
    assert items == ("0", "1", "2", "3", "4")
    one, two, three = processes[0], processes[2], processes[4]
    assert processes == (one, one, two, two, three)
    assert len({one, two, three, str(os.getpid())}) == 4


@pytest.mark.parametrize("at_most", [1, 2, 3, 10])
@pytest.mark.parametrize("end", ["killed", "ended", "left", "raised"])
def test_the_death_of_the_process_costs_the_item_it_was_at(end: str, at_most: int) -> None:
    told, untried = outcomes("good", end, "bad", end, "good", at_most=at_most)

    assert told == [("good", "done"), (end, "died"), ("bad", "failed"), (end, "died"), ("good", "done")]
    assert untried == []


def test_an_item_that_takes_too_long_is_ended_and_the_next_one_tried() -> None:
    told, _ = outcomes("good", "stuck", "good", limit=0.5)

    assert told == [("good", "done"), ("stuck", "timed_out"), ("good", "done")]


def test_after_a_failure_it_stops_if_nothing_more_is_worth_trying() -> None:
    told, untried = outcomes("good", "bad", "good", "good", go_on=False)

    assert told == [("good", "done"), ("bad", "failed")]
    assert untried == ["good", "good"]


def test_it_stops_after_one_that_is_done_if_it_is_told_to() -> None:
    told: list[Outcome] = []

    untried = OneAfterAnother(
        "abc",
        lambda item: True,
        lambda item, outcome: told.append(outcome),
        lambda item: FOREVER,
        lambda done: False,
        1,
    ).run()

    assert (told, untried) == (["done"], ["b", "c"])


def test_nobody_is_left_behind() -> None:
    before = set(psutil.Process().children())

    outcomes("good", "killed", "stuck", "good", limit=0.5)

    assert set(psutil.Process().children()) == before


def test_the_process_dies_with_whoever_watches_it() -> None:
    program = (
        "import time; from luigi_tasks.tasks.one_after_another import OneAfterAnother;"
        "OneAfterAnother([1], lambda item: print('begun', flush=True) or time.sleep(600), print,"
        " lambda item: 600, lambda done: True, 10).run()"
    )
    watcher = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert watcher.stdout is not None
    assert watcher.stdout.readline() == "begun\n"
    (worker,) = psutil.Process(watcher.pid).children()

    watcher.kill()
    watcher.wait()

    worker.wait(10)
