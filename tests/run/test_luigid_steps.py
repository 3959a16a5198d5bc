"""luigid's page shows the steps that a process runs one after another, and luigid never hands them out."""

from __future__ import annotations

import datetime as dt
import os
import time
from typing import Any

import pytest
from luigi.rpc import RemoteScheduler
from luigi.task_status import DONE, FAILED, PENDING, RUNNING

from luigi_tasks import DownloadOhlcv, InsertOhlcv
from luigi_tasks.run import inline_runner, luigid_client, messages
from luigi_tasks.run.luigid_client import Steps
from tests.workspace import Workspace

RUN = "Worker(salt=1)"
DAY = dt.date(2024, 3, 15)
STEP = DownloadOhlcv(ticker="AAA", date=DAY)
STATUSES = (PENDING, RUNNING, DONE, FAILED)


class Luigid:
    """luigid, and what a run's parent shows there of what its processes say."""

    def __init__(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        url = f"http://127.0.0.1:{workspace.port}/"
        self.api: Any = RemoteScheduler(url)
        monkeypatch.setattr(luigid_client, "url", lambda: url)
        self.steps = Steps("run-1", os.getpid())
        monkeypatch.setattr(messages, "send", lambda **message: self.steps.hear(message))

    def shown(self) -> dict[str, str]:
        """{family: status}, once what was said is shown."""
        self.steps.show(now=True)
        return {task["name"]: status for status in STATUSES for task in self.api.task_list(status, "").values()}

    def handed_out(self) -> Any:
        return self.api.get_work(worker=RUN, current_tasks=[])["task_id"]


@pytest.fixture
def luigid(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Luigid:
    up = workspace.command("up", "--quiet")
    assert up.returncode == 0, up.stderr
    return Luigid(workspace, monkeypatch)


def test_steps_are_shown_as_they_are_and_handed_out_to_nobody(luigid: Luigid) -> None:
    for status in STATUSES:
        inline_runner.show(STEP, status, "is <b>none</b>")
        assert luigid.shown() == {"DownloadOhlcv": status}
        assert luigid.handed_out() is None
    assert luigid.api.fetch_error(STEP.task_id)["error"] == '"is <b>none</b>"'
    assert [worker["pid"] for worker in luigid.api.worker_list() if "pid" in worker] == [os.getpid()]


def test_of_what_changes_quickly_the_last_is_shown_with_its_words(luigid: Luigid) -> None:
    for status in (PENDING, RUNNING, DONE):
        inline_runner.show(STEP, status)
    messages.send(kind="words", task_id=STEP.task_id, words="30 rows")
    # Of another process that has begun with the same ticker.
    inline_runner.show(STEP, PENDING)

    assert luigid.shown() == {"DownloadOhlcv": DONE}
    assert luigid.api.get_task_status_message(STEP.task_id)["statusMessage"] == "30 rows"


def test_the_graph_of_a_step_is_what_it_requires(luigid: Luigid) -> None:
    insert = InsertOhlcv(ticker="AAA", date=DAY)
    for step in inline_runner.with_requirements(insert):
        inline_runner.show(step, PENDING)
    luigid.shown()

    graph = luigid.api.dep_graph(insert.task_id)

    deps = {task["name"]: {graph[each]["name"] for each in task["deps"]} for task in graph.values()}
    assert deps == {
        "InsertOhlcv": {"RegisterSecurity", "ValidateOhlcv"},
        "ValidateOhlcv": {"DownloadOhlcv"},
        "DownloadOhlcv": set(),
        "RegisterSecurity": set(),
    }


def test_a_luigid_that_does_not_answer_is_told_later(workspace: Workspace, luigid: Luigid) -> None:
    inline_runner.show(STEP, RUNNING)
    process = workspace.luigid()
    assert process is not None
    process.kill()
    process.wait()

    began = time.monotonic()
    luigid.steps.show(now=True)
    assert time.monotonic() - began < 60
    assert workspace.command("up", "--quiet").returncode == 0

    assert luigid.shown() == {"DownloadOhlcv": RUNNING}
