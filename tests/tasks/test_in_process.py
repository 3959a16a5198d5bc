"""Steps run where we are: with what they require, their time limits, and their failures on record."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import luigi
import pytest

from luigi_tasks.errors import NoSuchTicker, StepFailed
from luigi_tasks.tasks.base import TickerTask
from luigi_tasks.tasks.in_process import InProcess, with_requirements

DAY = dt.date(2024, 3, 15)


class Noted(TickerTask):
    """A step that leaves a file, and a line in the diary."""

    folder: str = luigi.Parameter()
    diary: ClassVar[list[str]] = []

    def output(self) -> luigi.LocalTarget:
        return luigi.LocalTarget(str(Path(self.folder) / self.task_family))

    def run(self) -> Any:
        self.diary.append(self.task_family)
        with self.output().open("w") as file:
            file.write("done")

    def on_failure(self, exception: BaseException) -> str:
        self.diary.append(f"{self.task_family} failed: {exception}")
        return super().on_failure(exception)


class First(Noted):
    pass


class Second(Noted):
    def requires(self) -> First:
        return self.clone(First)  # type: ignore[no-any-return]


class Asks(Second):
    """Finds, the first time, that what it stands on has to be made anew."""

    def run(self) -> Iterator[luigi.Task]:
        if self.diary.count("Asks") == 0:
            self.diary.append("Asks")
            for family in (First, Second):
                self.clone(family).output().remove()
            yield self.clone(Second)
        super().run()

    def requires(self) -> Second:  # type: ignore[override]
        return self.clone(Second)  # type: ignore[no-any-return]


class Fails(Second):
    def run(self) -> None:
        raise NoSuchTicker("AAA", "is none")


class LeavesNothing(Noted):
    def run(self) -> None:
        pass


class Slow(Noted):
    time_limit: int = luigi.IntParameter(default=1)

    def run(self) -> None:
        try:
            time.sleep(60)
        except Exception:
            super().run()


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    Noted.diary.clear()
    return {"folder": str(tmp_path), "ticker": "AAA", "date": DAY}


def test_what_a_step_requires_is_done_before_it_and_only_once(given: dict[str, Any]) -> None:
    here = InProcess()
    here.finish(Second(**given))
    here.finish(Second(**given))
    InProcess().finish(Second(**given))

    assert Noted.diary == ["First", "Second"]


def test_a_step_may_ask_in_mid_run_for_what_was_done_before(given: dict[str, Any]) -> None:
    InProcess().finish(Asks(**given))

    assert Noted.diary == ["First", "Second", "Asks", "First", "Second", "Asks"]


def test_a_failure_ends_it_and_is_handled_as_luigi_does(given: dict[str, Any]) -> None:
    with pytest.raises(StepFailed, match="AAA: Fails failed"):
        InProcess().finish(Fails(**given))

    assert Noted.diary == ["First", "Fails failed: AAA: is none"]


def test_a_step_that_leaves_nothing_behind_has_failed(given: dict[str, Any]) -> None:
    with pytest.raises(StepFailed):
        InProcess().finish(LeavesNothing(**given))


def test_a_step_is_stopped_at_its_time_limit_whatever_it_catches(given: dict[str, Any]) -> None:
    with pytest.raises(StepFailed):
        InProcess().finish(Slow(**given))

    assert Noted.diary == ["Slow failed: AAA: stopped after 1 s, its time_limit in luigi.cfg"]
    # The next step has its own.
    InProcess().finish(First(**given))


def test_requirements_come_before_who_requires_them(given: dict[str, Any]) -> None:
    assert [step.task_family for step in with_requirements(Asks(**given))] == ["First", "Second", "Asks"]
