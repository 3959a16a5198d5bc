"""Steps of a ticker run where we are, in place of a process of its own for each.

A process for each step, and luigid's attention to it, cost more than the steps themselves. Here each is the Luigi task
that can be asked for by name, run by the class that Luigi runs tasks with (`TaskProcess`), only not forked: its
target, its events, its retries and its time limit are the same.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, SimpleNamespace
from typing import Any

import luigi
from luigi.task_register import load_task
from luigi.task_status import FAILED
from luigi.worker import DequeQueue, TaskProcess

from luigi_tasks.errors import StepFailed, TimedOut
from luigi_tasks.tasks import invocation
from luigi_tasks.tasks.base import TickerTask

_AGAIN_SECONDS = 5.0
"""Where Python cannot propagate an exception it gets lost: so it is raised anew until the step has ended."""

_NOBODY = SimpleNamespace(**dict.fromkeys(TaskProcess.forward_reporter_attributes))
"""In place of Luigi's status reporter: its page shows the task that these steps are run in."""


class InProcess:
    """Runs steps in this process."""

    def __init__(self) -> None:
        self._done: set[str] = set()

    def finish(self, step: TickerTask) -> None:
        """Run the step, and before it what it requires, as far as they are not complete.

        Raises:
            StepFailed: a step has failed; why is on record.
        """
        if step.task_id in self._done:
            return
        if not step.complete():
            for required in luigi.task.flatten(step.requires()):
                self.finish(required)
            # A step may find in mid-run that it needs another one (again).
            while required := self._run(step):
                # It may have taken away what was done before.
                self._done.clear()
                for each in required:
                    self.finish(each)
        self._done.add(step.task_id)

    def _run(self, step: TickerTask) -> list[TickerTask]:
        results = DequeQueue()
        with _limited(step):
            process = TaskProcess(
                step, step.ticker, results, _NOBODY, check_unfulfilled_deps=False, check_complete_on_run=True
            )
            process.run()
        _, status, words, _, required = results.get()
        if status == FAILED:
            invocation.show_failed(step, str(words))
            raise StepFailed(step.ticker, f"{step.task_family} failed")
        return [load_task(module, name, parameters) for module, name, parameters in required or ()]


def with_requirements(*tasks: luigi.Task) -> list[Any]:
    """The tasks and all that they require, each once, after what it requires itself."""
    found: dict[str, luigi.Task] = {}
    for task in tasks:
        found |= {each.task_id: each for each in with_requirements(*luigi.task.flatten(task.requires()))}
        found.setdefault(task.task_id, task)
    return list(found.values())


@contextmanager
def _limited(step: TickerTask) -> Iterator[None]:
    """Raise TimedOut in the step once it has run for its `worker_timeout`."""
    seconds = step.worker_timeout

    def stop(number: int, frame: FrameType | None) -> None:
        raise TimedOut(step.ticker, seconds)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
