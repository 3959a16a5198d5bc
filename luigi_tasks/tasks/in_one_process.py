"""What the two pipelines of a ticker have in common: luigid hands out each of them as one task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import luigi
from luigi.parameter import ParameterVisibility
from luigi.task_status import DONE, PENDING

from luigi_tasks import settings
from luigi_tasks.errors import PatienceExhausted, StepFailed
from luigi_tasks.run import inline_runner, lifecycle, messages
from luigi_tasks.tasks.base import HistoryTask, TickerTask, budget
from luigi_tasks.tasks.ticker_pipeline import TickerPipeline


class InOneProcess(HistoryTask, luigi.WrapperTask):
    """Runs the steps that it requires in its own process, one after another, and is complete when they are."""

    kind: ClassVar[str]
    """What the ticker is done for: ohlcv or metadata."""
    storing: ClassVar[tuple[type[TickerTask], ...]]
    """The steps that are its own; with what they require."""
    group_priority: ClassVar[int]
    """That of the groups which have it done. Luigi hands a task's priority on to what it requires, so it is above 0,
    that of anybody's own tasks: or a group would be as urgent as its tickers."""

    @classmethod
    def asking(cls, pipelines: Sequence[TickerPipeline]) -> int:
        """How many of these the source has to be asked for one by one."""
        return len(pipelines)

    due: bool = luigi.BoolParameter(
        default=False,
        significant=False,
        visibility=ParameterVisibility.HIDDEN,
        description="whether its group has just found that it is to be done",
    )

    @property
    def worker_timeout(self) -> int:  # type: ignore[override]  # Luigi allows it, see its documentation
        """That of all its steps."""
        return sum(step.worker_timeout for step in inline_runner.with_requirements(*self.requires()))

    def requires(self) -> list[luigi.Task]:
        return [self.clone(family) for family in self.storing]

    def _requires(self) -> list[luigi.Task]:
        """What luigid has to see done before: nothing, since what is required is run here."""
        return []

    def is_done(self) -> bool:
        # Luigi asks for each of a group's tickers by itself, and the group has asked for all at once.
        if self.due and not inline_runner.has_run(self):
            return False
        return all(map(inline_runner.complete, self.requires()))

    def run(self) -> None:
        done = False
        try:
            self._check_patience()
            whole = self.clone(TickerPipeline)
            inline_runner.show(whole, PENDING)
            self.prepare()
            inline_runner.run(self)
            done = True
            if all(map(inline_runner.complete, whole.requires())):
                # Of the other half, too, which may have been done before this run.
                for step in (*whole.requires(), whole):
                    inline_runner.show(step, DONE, alone=step is not whole)
        except StepFailed:
            self._link_report()
            raise
        finally:
            messages.send(kind="settled", of=self.kind, done=done)

    def prepare(self) -> None:
        """What is to be done before its steps are looked at."""

    def _check_patience(self) -> None:
        """Raise StepFailed, which is on nobody's record, once Yahoo has outlasted the run's patience: the group that
        comes next says so."""
        if settings.load().source == "yahoo":
            try:
                budget().check_patience()
            except PatienceExhausted as error:
                raise StepFailed(self.ticker, f"was not tried: {error.reason}") from error

    def _link_report(self) -> None:
        link, reporter = lifecycle.page_link(self.ticker), getattr(self, "set_tracking_url", None)
        if link is not None and callable(reporter):
            reporter(link)
