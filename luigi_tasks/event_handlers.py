"""What came of each task goes into the ledger, from Luigi's events.

PROCESSING_TIME and FAILURE fire in the child that ran the task, the others in the parent. Luigi logs an exception
in a callback and goes on, so a database that is down cannot turn one failure into another.
"""

from __future__ import annotations

import html
import logging

import luigi
from luigi import Event
from luigi.task_status import FAILED

from luigi_tasks.database.ledger import Ledger, Marker
from luigi_tasks.errors import SecuritiesMasterError, StepFailed
from luigi_tasks.run import inline_runner, lifecycle, messages, preload
from luigi_tasks.targets.marker import MarkerTarget
from luigi_tasks.tasks.base import PipelineTask, TickerTask, database_url
from luigi_tasks.tasks.in_one_process import InOneProcess
from luigi_tasks.tasks.ticker_group import TickerGroup

logger = logging.getLogger(__name__)

# Luigi tells of a dead or late child again and again until it has worked off the results that came before.
_told: set[PipelineTask] = set()


@TickerTask.event_handler(Event.START)
def _begun(task: TickerTask) -> None:
    lifecycle.book()


@PipelineTask.event_handler(Event.PROCESSING_TIME)
def _done(task: PipelineTask, seconds: float) -> None:
    outputs = luigi.task.flatten(task.output())
    if not outputs or isinstance(task, luigi.WrapperTask):
        return
    ledger = Ledger(database_url())
    if isinstance(outputs[0], MarkerTarget):
        rows = ledger.time(task.task_id, seconds)
    else:
        rows, detail = task.receipt()
        ledger.mark(Marker(task.step(), rows, detail), seconds)
    # luigid's page shows it as HTML, so text from elsewhere has no place here.
    words = f"{rows:,} row{'s' * (rows != 1)} in {seconds:.2f} s"
    messages.send(kind="words", task_id=task.task_id, words=words)


@PipelineTask.event_handler(Event.FAILURE)
def _failed(task: PipelineTask, error: BaseException) -> None:
    _tell_of_failure(task)
    if isinstance(error, StepFailed):
        return
    if isinstance(error, SecuritiesMasterError):
        _record(task, error.kind, str(error))
    else:
        _record(task, "unexpected", f"{type(error).__name__}: {error}")


@PipelineTask.event_handler(Event.PROCESS_FAILURE)
def _process_died(task: PipelineTask, words: str) -> None:
    _ended_from_outside(task, "process_died", f"{words}. The process was killed, perhaps for want of memory")


@PipelineTask.event_handler(Event.TIMEOUT)
def _timed_out(task: PipelineTask, words: str) -> None:
    _ended_from_outside(task, "timed_out", f"stopped after {task.worker_timeout} s, its time_limit in luigi.cfg")


@PipelineTask.event_handler(Event.BROKEN_TASK)
def _broken(task: PipelineTask, error: BaseException) -> None:
    if isinstance(task, InOneProcess):
        messages.send(kind="settled", of=task.kind, done=False)
    _tell_of_failure(task)
    if isinstance(error, SecuritiesMasterError):
        _record(task, error.kind, str(error))
    else:
        _record(task, "unexpected", f"could not be scheduled, {type(error).__name__}: {error}")


@PipelineTask.event_handler(Event.DEPENDENCY_MISSING)
def _not_told(task: PipelineTask) -> None:
    # Luigi means by it that complete() has failed, or that a task is somebody else's, as none of these is.
    if task.not_told is not None:
        _broken(task, task.not_told)


@TickerTask.event_handler(Event.DEPENDENCY_DISCOVERED)
def _there_is_work(task: TickerTask, dependency: luigi.Task) -> None:
    preload.once()


def _ended_from_outside(task: PipelineTask, kind: str, reason: str) -> None:
    """In the parent, of a process that could not say itself what it has come to."""
    if task in _told:
        return
    _told.add(task)
    messages.send(kind="ended", task_id=task.task_id)
    _tell_of_failure(task)
    if isinstance(task, InOneProcess):
        messages.send(kind="settled", of=task.kind, done=False)
        chain = inline_runner.with_requirements(*task.requires())
        task = next((step for step in chain if not step.complete()), chain[-1])
        inline_runner.show(task, FAILED, html.escape(reason))
    logger.error("%s: %s: %s", kind, getattr(task, "ticker", task.task_family), reason)
    _record(task, kind, reason)


def _tell_of_failure(task: PipelineTask) -> None:
    if not isinstance(task, TickerTask):
        # Other groups may be about to be worked on; after any other such task nothing is.
        messages.send(kind="failed", idle_seconds=10.0 if isinstance(task, TickerGroup) else 1.0)


def _record(task: PipelineTask, kind: str, reason: str) -> None:
    # It may be the database that has failed, for a moment.
    task.with_retries(lambda: Ledger(database_url()).fail(task.step(), kind, reason))
