"""What luigi.cfg has luigid do, of which Luigi's own defaults would cost requests, or a run."""

from __future__ import annotations

from typing import Any

import pytest
from luigi.scheduler import Scheduler

RUN = "Worker(salt=1)"
HOUR = 3600


@pytest.fixture
def scheduler() -> Any:
    """As luigid has it, with the settings of this repository; for times, its tasks are changed by hand."""
    return Scheduler()


def handed_out(scheduler: Any) -> str | None:
    work: dict[str, str | None] = scheduler.get_work(worker=RUN, current_tasks=[])
    return work["task_id"]


def test_what_has_failed_is_not_handed_out_again_however_long_the_run_lasts(scheduler: Any) -> None:
    scheduler.add_task(worker=RUN, task_id="batch", status="PENDING")
    assert handed_out(scheduler) == "batch"
    scheduler.add_task(worker=RUN, task_id="batch", status="FAILED")
    task = scheduler._state.get_task("batch")
    task.retry = task.retry and task.retry - 24 * HOUR
    scheduler.prune()

    assert handed_out(scheduler) is None
    scheduler.add_task(worker="Worker(salt=2)", task_id="batch", status="PENDING")
    assert scheduler.get_work(worker="Worker(salt=2)", current_tasks=[])["task_id"] == "batch", "the rerun may"


def test_what_seems_to_have_been_done_in_the_future_is_done_again_all_the_same(scheduler: Any) -> None:
    scheduler.add_task(worker=RUN, task_id="batch", status="PENDING")
    assert handed_out(scheduler) == "batch"
    scheduler.add_task(worker=RUN, task_id="batch", status="DONE")
    scheduler._state.get_task("batch").updated += 1000 * HOUR

    scheduler.add_task(worker=RUN, task_id="batch", status="PENDING")

    assert handed_out(scheduler) == "batch"
