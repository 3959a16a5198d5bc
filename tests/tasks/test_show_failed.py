"""luigid's page shows a step that failed within a batch, and luigid never hands that step out."""

from __future__ import annotations

import datetime as dt
import os
from typing import Any

import pytest
from luigi.scheduler import Scheduler

from luigi_tasks.tasks import invocation
from luigi_tasks.tasks.download_ohlcv import DownloadOhlcv

RUN = "Worker(salt=1)"


class AskedAllTheTime(Scheduler):
    """Luigi's scheduler, whose worker asks for work whenever it has been told something."""

    def __init__(self) -> None:
        super().__init__()
        self.handed_out: list[Any] = []

    def add_task(self, **told: Any) -> None:
        super().add_task(**told)
        self.handed_out.append(self.get_work(worker=RUN, current_tasks=[])["task_id"])


def test_a_step_that_is_shown_as_failed_is_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = AskedAllTheTime()
    monkeypatch.setattr(invocation, "_scheduler", lambda: scheduler)
    monkeypatch.setattr(invocation._this, "worker_id", RUN)
    monkeypatch.setattr(invocation._this, "parent", os.getpid())
    step = DownloadOhlcv(ticker="GONE", date=dt.date(2024, 3, 15))

    invocation.show_failed(step, "is none")

    assert scheduler.handed_out == [None, None]
    assert list(scheduler.task_list("FAILED", "")) == [step.task_id]
    assert [worker["pid"] for worker in scheduler.worker_list() if "pid" in worker] == [os.getpid()]
