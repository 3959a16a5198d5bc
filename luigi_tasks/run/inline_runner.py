"""Steps of a ticker run where we are, in the one process that Luigi has forked for the ticker.

A process for each step, and luigid's attention to it, cost more than the steps themselves. Each step is the Luigi task
that can be asked for by name: what it requires, its target, its events and its own retries count here, too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from typing import Any

import luigi
from luigi import Event
from luigi.task_status import DONE, FAILED, PENDING, RUNNING
from luigi.worker import TaskException

from luigi_tasks.errors import StepFailed
from luigi_tasks.run import lifecycle, messages

logger = logging.getLogger(__name__)

_known: set[str] = set()
"""Ids of the steps that this process, which Luigi forked for one ticker, has seen done."""
_run_here: set[str] = set()
"""Ids of the pipelines that were run in this process."""


def run(pipeline: luigi.Task) -> None:
    """Run what the pipeline requires, as far as it is not complete, and before it what that requires.

    Raises:
        StepFailed: a step has failed; why is on record.
    """
    _run_here.add(pipeline.task_id)
    for step in with_requirements(*luigi.task.flatten(pipeline.requires())):
        show(step, PENDING)
    done: set[str] = set()
    for step in luigi.task.flatten(pipeline.requires()):
        _finish(step, done)


def has_run(pipeline: luigi.Task) -> bool:
    """Whether the pipeline was run in this process."""
    return pipeline.task_id in _run_here


def complete(step: luigi.Task) -> bool:
    """Whether the step is complete; what this process has seen done is not asked for again."""
    return step.task_id in _known or step.complete()


def _finish(step: luigi.Task, done: set[str]) -> None:
    if step.task_id in done:
        return
    try:
        complete = step.complete()
    except Exception as error:
        raise _failed(step, error) from error
    if not complete:
        for required in luigi.task.flatten(step.requires()):
            _finish(required, done)
        _run(step, done)
    done.add(step.task_id)
    if lifecycle.is_child():
        _known.add(step.task_id)
    show(step, DONE)


def _run(step: luigi.Task, done: set[str]) -> None:
    show(step, RUNNING)
    step.trigger_event(Event.START, step)
    began = time.monotonic()
    try:
        # A step may find in mid-run that it needs another one (again), and begins anew when that is done.
        while required := _wanted(step.run()):
            # It may have taken away what was done before.
            done.clear()
            _known.clear()
            for each in required:
                _finish(each, done)
        if not step.complete():
            raise TaskException("it has run, and is not complete")
    except StepFailed:
        raise
    except Exception as error:
        raise _failed(step, error) from error
    step.trigger_event(Event.PROCESSING_TIME, step, time.monotonic() - began)
    step.trigger_event(Event.SUCCESS, step)


def _wanted(running: Generator[Any, Any, Any] | None) -> list[luigi.Task]:
    """The first of what a step yields that is not complete."""
    for required in running or ():
        tasks: list[luigi.Task] = luigi.task.flatten(required)
        if not all(task.complete() for task in tasks):
            return tasks
    return []


def _failed(step: luigi.Task, error: Exception) -> StepFailed:
    logger.error("%s failed: %s", step, error, exc_info=error)
    step.trigger_event(Event.FAILURE, step, error)
    show(step, FAILED, str(step.on_failure(error)))
    return StepFailed(getattr(step, "ticker", step.task_id), f"{step.task_family} failed")


def show(step: luigi.Task, status: str, words: str = "", *, alone: bool = False) -> None:
    """Have luigid's page show how the step is; `words` are HTML. What it requires stays as it is, if `alone`."""
    ticker = getattr(step, "ticker", "")
    messages.send(
        kind="step",
        task_id=step.task_id,
        status=status,
        family=step.task_family,
        module=step.task_module,
        params=step.to_str_params(only_significant=True, only_public=True),
        deps=None if alone else [each.task_id for each in luigi.task.flatten(step.requires())],
        ticker=ticker,
        link=lifecycle.page_link(ticker),
        words=words,
    )


def with_requirements(*tasks: luigi.Task) -> list[Any]:
    """The tasks and all that they require, each once, after what it requires itself."""
    found: dict[str, luigi.Task] = {}
    for task in tasks:
        found |= {each.task_id: each for each in with_requirements(*luigi.task.flatten(task.requires()))}
        found.setdefault(task.task_id, task)
    return list(found.values())
