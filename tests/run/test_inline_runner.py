"""Steps run where we are: with what they require, and their failures on record."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import luigi
import pytest

from luigi_tasks.errors import NoSuchTicker, StepFailed
from luigi_tasks.run import inline_runner
from luigi_tasks.run.inline_runner import with_requirements
from luigi_tasks.tasks.base import TickerTask

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


class Whole(TickerTask):
    """Requires the steps of these families, separated by blanks."""

    folder: str = luigi.Parameter()
    steps: str = luigi.Parameter()

    def requires(self) -> list[luigi.Task]:
        return [self.clone(globals()[name]) for name in self.steps.split()]


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    Noted.diary.clear()
    return {"folder": str(tmp_path), "ticker": "AAA", "date": DAY}


def run(steps: str, given: dict[str, Any]) -> None:
    inline_runner.run(Whole(steps=steps, **given))


def test_what_a_step_requires_is_done_before_it_and_only_once(given: dict[str, Any]) -> None:
    run("Second First Second", given)
    run("Second", given)

    assert Noted.diary == ["First", "Second"]


def test_a_step_may_ask_in_mid_run_for_what_was_done_before(given: dict[str, Any]) -> None:
    run("Asks", given)

    assert Noted.diary == ["First", "Second", "Asks", "First", "Second", "Asks"]


def test_a_failure_ends_it_and_is_handled_as_luigi_does(given: dict[str, Any]) -> None:
    with pytest.raises(StepFailed, match="AAA: Fails failed"):
        run("Fails", given)

    assert Noted.diary == ["First", "Fails failed: AAA: is none"]


def test_a_step_that_leaves_nothing_behind_has_failed(given: dict[str, Any]) -> None:
    with pytest.raises(StepFailed):
        run("LeavesNothing", given)


def test_requirements_come_before_who_requires_them(given: dict[str, Any]) -> None:
    assert [step.task_family for step in with_requirements(Asks(**given))] == ["First", "Second", "Asks"]
