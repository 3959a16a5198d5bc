"""What a run asks of luigid and shows there beside what Luigi itself does: steps, links, workers of killed runs."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

import luigi
import psutil
from luigi.rpc import RemoteScheduler, RPCError
from luigi.task_status import FAILED, PENDING, RUNNING

from luigi_tasks.run.messages import Message

logger = logging.getLogger(__name__)

Call = tuple[str, dict[str, Any]]
"""A method of Luigi's scheduler, and its arguments."""

_SECONDS = 3.0
_SHOW_SECONDS = 0.5
_PING_SECONDS = 15.0


def url() -> str | None:
    """None with --local-scheduler."""
    env: Any = luigi.interface.core()
    if env.local_scheduler:
        return None
    return str(env.scheduler_url or f"http://{env.scheduler_host}:{env.scheduler_port}/")


def scheduler() -> Any:
    """luigid, None with --local-scheduler. Its methods are made at run time, from the scheduler's."""
    found = url()
    return None if found is None else RemoteScheduler(found)


def page_path(run_id: str, ticker: str = "") -> str:
    """Where on luigid a run's report is, or a ticker in it."""
    return f"/reports/{run_id}/report.html" + (f"#ticker={quote(ticker, safe='')}" if ticker else "")


def page_url(run_id: str) -> str | None:
    """The URL of a run's report on luigid; None where it is not shown there.

    A luigid that `up` has not started shows none, and one that another store is of does not know the run's folder.
    """
    base = url()
    if base is None:
        return None
    page = base.rstrip("/") + page_path(run_id)
    try:
        with urllib.request.urlopen(urllib.request.Request(page, method="HEAD"), timeout=_SECONDS):  # noqa: S310
            return page
    except (OSError, http.client.HTTPException, ValueError):
        return None


def release_dead(families: Iterable[str]) -> None:
    """Take workers off luigid that ran tasks of these families on this machine, and whose process is dead.

    luigid itself would wait a minute for a dead worker: until then its running tasks would not be handed out again,
    and the resources that its waiting tasks want would be kept for it.
    """
    found, ours = scheduler(), set(families)
    for worker in [] if found is None else found.worker_list():
        first = str(worker.get("first_task_display_name") or "").partition("(")[0]
        known = first in ours or str(worker["name"]).endswith(Steps.SUFFIX)
        here = worker.get("state") != "disabled" and worker.get("host") == socket.gethostname()
        if known and here and not _lives(worker):
            release(found, worker)


def release_process(number: int) -> None:
    """Take the workers of this machine's process of this number off luigid: it is ending, and the next run need not
    wait for that."""
    found = scheduler()
    for worker in [] if found is None else found.worker_list():
        if worker.get("host") == socket.gethostname() and worker.get("pid") == number:
            release(found, worker)


def release(found: Any, worker: dict[str, Any]) -> None:
    """Tell luigid on behalf of a worker that it does no more; it takes the end of a task only from who runs it."""
    for task_id in worker.get("running") or {}:
        found.add_task(worker=worker["name"], task_id=task_id, status=FAILED, expl="the run that had it was killed")
        logger.info("released %s, which a killed run left behind", task_id)
    found.disable_worker(worker["name"])


def _lives(worker: dict[str, Any]) -> bool:
    """Whether its process lives, and is not a later one of the same number."""
    try:
        process = psutil.Process(int(worker.get("pid") or 0))
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        # Once the clock has been set, a process seems to have begun at another time.
        return process.create_time() <= worker["started"] + 1 or "luigi" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


class Steps:
    """Shows on luigid what the processes of a run say of their steps, which luigid has not handed out.

    To be used in the run's parent process. What changes within half a second is shown once, as it is then. The steps
    are those of a worker of their own: what it thinks running at a worker, luigid hands out to it again. What cannot be
    shown is no reason for a run to fail, and a luigid that does not answer is asked again a little later.
    """

    SUFFIX = ", steps"

    def __init__(self, run_id: str, process: int) -> None:
        """`process`: the number of the run's parent process."""
        self._base = url()
        self._worker = f"luigi_tasks {run_id}{self.SUFFIX}"
        about = [("workers", 0), ("host", socket.gethostname()), ("pid", process)]
        self._ready: list[Call] = [("add_worker", {"worker": self._worker, "info": about})]
        self._waiting: dict[str, Message] = {}
        self._words: dict[str, str] = {}
        self._at_once = True
        self._next, self._next_ping = time.monotonic() + _SHOW_SECONDS, time.monotonic() + _PING_SECONDS

    def hear(self, message: Message) -> None:
        """Take in a message about a step, or words about a task (kinds step and words)."""
        task_id = message["task_id"]
        if message["kind"] == "words":
            self._words[task_id] = message["words"]
        elif message["status"] != PENDING or task_id not in self._waiting:
            if message["deps"] is None:
                message["deps"] = self._waiting.get(task_id, message)["deps"]
            self._waiting[task_id] = message

    def show(self, *, now: bool = False) -> None:
        """Tell luigid what is new, if it is time. To be called now and then."""
        moment = time.monotonic()
        if self._base is None or (moment < self._next and not now):
            return
        self._next = moment + _SHOW_SECONDS
        calls = self._ready + [call for message in self._waiting.values() for call in self._calls(message)]
        calls += [
            ("set_task_status_message", {"task_id": task_id, "status_message": words})
            for task_id, words in self._words.items()
        ]
        if not calls and moment >= self._next_ping:
            calls = [("ping", {"worker": self._worker})]
        if calls and self._tell(calls):
            self._ready, self._next_ping = [], moment + _PING_SECONDS
            self._waiting.clear()
            self._words.clear()

    def _calls(self, message: Message) -> Iterator[Call]:
        told = {
            "worker": self._worker,
            "task_id": message["task_id"],
            "runnable": False,
            "params": message.get("params", {"ticker": message["ticker"]}),
            "family": message["family"],
            "module": message["module"],
            "deps": message["deps"],
        }
        if message["status"] == FAILED:
            # Luigi's metrics for Prometheus break off at a task that fails without ever having run.
            yield "add_task", told | {"status": RUNNING}
            told |= {"expl": json.dumps(message["words"])}
        yield "add_task", told | {"status": message["status"], "tracking_url": message["link"]}

    def _tell(self, calls: list[Call]) -> bool:
        """Whether luigid has taken the calls: all by one request, or where it is not one of `up`, by one each."""
        try:
            if not self._tell_at_once(calls):
                found = scheduler()
                for method, arguments in calls:
                    getattr(found, method)(**arguments)
        except (OSError, http.client.HTTPException, ValueError, RPCError) as error:
            logger.debug("luigid does not show steps: %s", error)
            return False
        return True

    def _tell_at_once(self, calls: list[Call]) -> bool:
        """Whether luigid takes many calls by one request, and has taken these."""
        if self._at_once:
            url = f"{str(self._base).rstrip('/')}/calls"
            request = urllib.request.Request(url, json.dumps(calls).encode(), method="POST")  # noqa: S310
            try:
                with urllib.request.urlopen(request, timeout=_SECONDS):  # noqa: S310
                    pass
            except urllib.error.HTTPError as error:
                if error.code not in (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.METHOD_NOT_ALLOWED):
                    raise
                self._at_once = False
        return self._at_once
