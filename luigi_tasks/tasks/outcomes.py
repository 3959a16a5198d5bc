"""What came of each task goes into the ledger, from Luigi's events.

PROCESSING_TIME and FAILURE fire in the child that ran the task, the others in the parent. Luigi logs an exception
in a callback and goes on, so a database that is down cannot turn one failure into another.
"""

from __future__ import annotations

import luigi
from luigi import Event

from luigi_tasks.database.ledger import Ledger, Marker
from luigi_tasks.errors import SecuritiesMasterError, StepFailed, TimedOut
from luigi_tasks.targets.marker import MarkerTarget
from luigi_tasks.tasks import preload
from luigi_tasks.tasks.base import PipelineTask, TickerTask, database_url

# Luigi tells of a dead or late child again and again until it has worked off the results that came before.
_told: set[PipelineTask] = set()


@PipelineTask.event_handler(Event.PROCESSING_TIME)
def _done(task: PipelineTask, seconds: float) -> None:
    outputs = luigi.task.flatten(task.output())
    if not outputs or isinstance(task, luigi.WrapperTask):
        return
    ledger = Ledger(database_url())
    if isinstance(outputs[0], MarkerTarget):
        ledger.time(task.task_id, seconds)
    else:
        rows, detail = task.receipt()
        ledger.mark(Marker(task.step(), rows, detail), seconds)


@PipelineTask.event_handler(Event.FAILURE)
def _failed(task: PipelineTask, error: BaseException) -> None:
    if isinstance(error, StepFailed):
        return
    if isinstance(error, (SecuritiesMasterError, TimedOut)):
        _record(task, error.kind, str(error))
    else:
        _record(task, "unexpected", f"{type(error).__name__}: {error}")


@PipelineTask.event_handler(Event.PROCESS_FAILURE)
def _process_died(task: PipelineTask, words: str) -> None:
    if task not in _told:
        _told.add(task)
        _record(task, "process_died", f"{words}. The process was killed, perhaps for want of memory")


@PipelineTask.event_handler(Event.TIMEOUT)
def _timed_out(task: PipelineTask, words: str) -> None:
    if task not in _told:
        _told.add(task)
        _record(task, "timed_out", f"stopped after {task.worker_timeout} s, its time_limit in luigi.cfg")


@PipelineTask.event_handler(Event.BROKEN_TASK)
def _broken(task: PipelineTask, error: BaseException) -> None:
    _record(task, "unexpected", f"could not be scheduled, {type(error).__name__}: {error}")


@TickerTask.event_handler(Event.DEPENDENCY_DISCOVERED)
def _there_is_work(task: TickerTask, dependency: luigi.Task) -> None:
    preload.once()


def _record(task: PipelineTask, kind: str, reason: str) -> None:
    Ledger(database_url()).fail(task.step(), kind, reason)
