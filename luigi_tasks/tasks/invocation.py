"""One invocation of `luigi`: what has to be there before the first task, and what happens whatever ends it.

Luigi has no hook for either, so an invocation begins when its parent process first asks one of our tasks whether
it is complete, and ends with that process: however it ends, short of SIGKILL, the report is written. A signal
replaces the process by `luigi_tasks.tasks.interrupted`, since an exception raised by a signal handler gets lost
wherever Python cannot propagate one, as in the callbacks around every fork. SIGUSR1 drains: Luigi takes up no further
task, and our batches no further ticker.

The parent's death must also be its children's, or they go on writing as orphans while the rerun writes too. Each
child waits on a pipe that only the parent can write to; the kernel closes it with the parent, whatever killed it.
"""

from __future__ import annotations

import atexit
import datetime as dt
import gc
import http.client
import json
import logging
import multiprocessing
import os
import secrets
import select
import signal
import socket
import sys
import threading
import time
import urllib.request
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import quote

import luigi
import psutil
from luigi.cmdline_parser import CmdlineParser
from luigi.rpc import RPCError
from luigi.task_status import FAILED, RUNNING

from luigi_tasks import settings
from luigi_tasks.database import embedded, presence
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.errors import AnotherRun, SecuritiesMasterError, ServiceFailure
from luigi_tasks.report import alert, live, metrics
from luigi_tasks.tasks import progress

if TYPE_CHECKING:
    from luigi_tasks.tasks.base import PipelineTask, TickerTask

logger = logging.getLogger(__name__)

_IMPORTED = dt.datetime.now(dt.UTC)
RUN_ID = f"{_IMPORTED:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
"""This run's name. Made where the module is first imported, which is Luigi's parent process; children inherit it."""

ALREADY_RUNNING = 10
"""Exit code when another run is going on at the same luigid, or the same at this database; Luigi's documented one."""
CANNOT_BEGIN = 35
"""Exit code when a run cannot begin; Luigi's documented one for scheduling errors."""
REPORT_FAILED = 50
"""Exit code when the report could not be written; above all of Luigi's."""

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_GARBAGE_THRESHOLD = 100_000
_LUIGID_SECONDS = 3.0
_SILENT_SECONDS = 30.0
"""A worker of another machine that luigid has not heard of for so long is taken for dead; they ping every second."""
_PING_SECONDS = 3.0


class _Invocation:
    """What the parent process knows of itself; there is at most one."""

    def __init__(self) -> None:
        self.begun = False
        self.parent = 0
        self.child = False
        self.worker_id = ""
        self.alive: tuple[int, int] | None = None
        # Something to read from it, which nobody ever does, tells all children to drain.
        self.drain: tuple[int, int] | None = None
        self.page_shown = False


_this = _Invocation()


def begin(task: PipelineTask) -> None:
    """Once in an invocation of the `luigi` command: check what it needs, and arrange for how it ends.

    Ends the process with CANNOT_BEGIN, after one line that says why, if the run cannot begin. Does nothing where
    tasks are used without that command (`luigi.build`, a notebook, a test).
    """
    if _this.begun or CmdlineParser.get_instance() is None:
        return
    _this.begun, _this.parent = True, os.getpid()
    # Of a large universe there are tens of thousands of objects, which stay: looking for garbage among them again and
    # again is a third of the time of a run that has nothing to do.
    gc.freeze()
    gc.set_threshold(_GARBAGE_THRESHOLD)
    try:
        alert.prepare()
        task.check_parameters()
        chosen = settings.load()
        _require_luigid()
        ledger = Ledger(embedded.url(chosen))
        ledger.migrate()
        ledger.claim_for(chosen.source_name)
        _settle_other_workers()
        booked = task.booked_parameters()
        others = presence.enter(embedded.url(chosen), task.task_family, booked)
        ledger.begin_run(RUN_ID, task.task_family, booked)
    except AnotherRun as error:
        logger.error("cannot begin: %s", error)
        raise SystemExit(ALREADY_RUNNING) from None
    except SecuritiesMasterError as error:
        logger.error("cannot begin: %s", error)
        alert.tell(alert.cannot_begin(error))
        raise SystemExit(CANNOT_BEGIN) from None
    except Exception as error:
        alert.tell(alert.cannot_begin(error))
        raise
    if others:
        what = "Of tickers that are of both runs, both may ask; what is stored is the same."
        logger.warning("beside another run at this database (%s). %s", ", ".join(others), what)
    # What the parent has imported is free in a forked child. Forking is not the default everywhere.
    multiprocessing.set_start_method("fork", force=True)
    _this.alive = os.pipe()
    _this.page_shown = _make_folder(chosen.reports / RUN_ID) and page_url(RUN_ID) is not None
    told = live.Live(chosen.reports / RUN_ID, embedded.url(chosen), ledger.run(RUN_ID) or {})
    progress.start(chosen.progress_seconds, chosen.tickers_per_minute, told.tell)
    _end_on_signals()
    _drain_on_sigusr1()
    atexit.register(_end)


def moment() -> dt.datetime:
    """The instant (UTC) by which a session counts as over: the run's beginning, the present where there is no run.

    One for the whole run, so that what it has done stays done where a market closes in the middle of it.
    """
    return _IMPORTED if _this.begun else dt.datetime.now(dt.UTC)


def is_child() -> bool:
    """Whether this is a process that Luigi forked for a task."""
    return _this.child


def in_child(worker_id: str) -> None:
    """To be called first in every process that Luigi forks for a task, with the name of the worker that forks."""
    _this.child, _this.worker_id = True, worker_id
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Ctrl-C and a terminal's end go to the whole group; the parent ends its children itself, in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if _this.alive is not None:
        reader, writer = _this.alive
        os.close(writer)
        die_with(reader)


def die_with(reader: int) -> None:
    """End this process once the other end of the pipe is closed: when whoever holds it has died, of whatever."""
    threading.Thread(target=_die_when_closed, args=(reader,), daemon=True, name="die-with-parent").start()


def _die_when_closed(reader: int) -> None:
    os.read(reader, 1)
    # As sudden as a SIGKILL: what was not committed is rolled back, what was not renamed is no target.
    os._exit(1)


def _drain_on_sigusr1() -> None:
    """Besides what Luigi does on SIGUSR1: its worker, which is there already, asks for no more tasks."""
    _this.drain = os.pipe()
    writer, luigis = _this.drain[1], signal.getsignal(signal.SIGUSR1)

    def handle(number: int, frame: FrameType | None) -> None:
        os.write(writer, b"d")
        if callable(luigis):
            luigis(number, frame)

    signal.signal(signal.SIGUSR1, handle)
    signal.siginterrupt(signal.SIGUSR1, False)


def draining() -> bool:
    """Whether the run was told by SIGUSR1 to end what it has begun, and to begin nothing more."""
    return _this.drain is not None and bool(select.select([_this.drain[0]], [], [], 0)[0])


def _end_on_signals() -> None:
    """Also while PostgreSQL is waited for: until a call of libpq returns, no handler is run, but other threads are."""
    for number in _ENDING:
        # `nohup` has it ignored, and means it.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _on_signal)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    # A child's signals are its own.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    threading.Thread(target=_hear, args=(reader,), daemon=True, name="signals").start()


def _hear(reader: int) -> None:
    while word := os.read(reader, 1):
        if word[0] in _ENDING:
            _on_signal(word[0], None)


def _on_signal(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _this.parent:
        # A child that was forked a moment ago and still has its parent's handlers.
        os._exit(128 + number)
    # The shell and the kernel both send it when a terminal ends. What is blocked stays so over the exec; and a thread,
    # which this may be, cannot have it ignored.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    module = "luigi_tasks.tasks.interrupted"
    # The pipe is closed by the exec, which is what ends the children.
    os.execv(sys.executable, [sys.executable, "-m", module, RUN_ID, str(number), *sys.argv[1:]])


def _end() -> None:
    if os.getpid() == _this.parent:
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)
        progress.stop()
        drained = draining()
        outcome = write_report(RUN_ID, signal.SIGUSR1.name if drained else "")
        if drained and outcome != "complete":
            _exit(128 + signal.SIGUSR1)


def write_report(run_id: str, interrupted_by: str = "") -> str:
    """Write and tell the report of a run that ends now, and return its outcome.

    Ends the process with REPORT_FAILED if it cannot be written.
    """
    from luigi_tasks.tasks.generate_report import GenerateReport

    try:
        report = GenerateReport(run_id=run_id, ends_now=True, interrupted_by=interrupted_by)
        report.run()
        written, page = report.output()
        document = written.read()
    except Exception as error:
        # Whatever it is: nobody is left to see an exception, and a missing report must not look like success.
        known = isinstance(error, SecuritiesMasterError)
        logger.error("no report: %s", error, exc_info=None if known else error)
        alert.tell(alert.no_report(run_id, error))
        _exit(REPORT_FAILED)
    metrics.keep()
    alert.tell(alert.ended(document, page.path), failure=alert.is_news(document))
    return str(document["outcome"])


def page_link(ticker: str = "") -> str | None:
    """What luigid's page links to: this run's report, or a ticker in it. None where luigid does not show it."""
    if not _this.page_shown:
        return None
    return _page(RUN_ID) + (f"#ticker={quote(ticker, safe='')}" if ticker else "")


def page_url(run_id: str) -> str | None:
    """The URL of a run's report on luigid; None where it is not shown there.

    A luigid that `up` has not started shows none, and one that another store is of does not know the run's folder.
    """
    base = _luigid_url()
    if base is None:
        return None
    url = base.rstrip("/") + _page(run_id)
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_LUIGID_SECONDS):  # noqa: S310
            return url
    except (OSError, http.client.HTTPException, ValueError):
        return None


def _page(run_id: str) -> str:
    return f"/reports/{run_id}/report.html"


def _make_folder(folder: Path) -> bool:
    """By the run's folder luigid knows it, before the report is in it. A run is not to fail for want of a link."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        logger.warning("luigid's page will not link to the report: %s", error)
        return False
    return True


def _exit(code: int) -> NoReturn:
    """End with this code in place of Luigi's, which cannot be changed any more."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _require_luigid() -> None:
    env: Any = luigi.interface.core()
    if env.local_scheduler or env.scheduler_url:
        return
    try:
        # An IPv6 address stands in brackets there, for Luigi makes a URL of it.
        socket.create_connection((env.scheduler_host.strip("[]"), env.scheduler_port), _LUIGID_SECONDS).close()
    except OSError as error:
        raise ServiceFailure(
            f"luigid at {env.scheduler_host}:{env.scheduler_port}",
            f"does not answer ({error.strerror or error})",
            "Start it with ./run.sh up, or run with --local-scheduler.",
        ) from error


def _settle_other_workers() -> None:
    """Take workers off luigid whose process is dead, and refuse to run beside one that lives.

    luigid itself would wait a minute for a dead worker: until then its running tasks would not be handed out again,
    and the resources that its waiting tasks want would be kept for it. Beside a live one, this run would end as soon as
    that one holds the resources that it waits for.
    """
    for worker in _workers():
        number = int(worker.get("pid") or 0)
        if worker.get("state") == "disabled" or number == os.getpid():
            continue
        here = worker.get("host") == socket.gethostname()
        if here:
            alive = _lives_here(worker)
        elif number:
            alive = time.time() - worker["last_active"] < _SILENT_SECONDS
        else:
            # luigid was started again in the midst of its run, and has no more of it than its pings.
            alive = _pings(worker)
        if alive:
            who = f"process {number} on {worker.get('host')}" if number else f"worker {worker['name']}"
            raise AnotherRun(who, "is running on this luigid", "Run again when it has ended.")
        if here or not number:
            release(worker)


def _pings(worker: dict[str, Any]) -> bool:
    """Whether luigid hears of the worker now: a living one pings every second."""
    deadline = time.monotonic() + _PING_SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.2)
        for each in _workers():
            if each["name"] == worker["name"] and each["last_active"] > worker["last_active"]:
                return True
    return False


def show_failed(task: TickerTask, words: str) -> None:
    """Have luigid's page show a step that was run within a batch, and failed; `words` are HTML."""
    scheduler = _scheduler() if _this.worker_id else None
    if scheduler is None:
        return
    # Not in the name of the worker itself: luigid hands out to a worker what it thinks running there and the worker
    # does not know of, so that the step would now and then be run again.
    worker = f"{_this.worker_id}, steps in batches"
    told = {
        "worker": worker,
        "task_id": task.task_id,
        "runnable": False,
        "params": task.to_str_params(),
        "family": task.task_family,
        "module": task.task_module,
        "priority": task.priority,
    }
    try:
        # Alive or dead with the run's parent process.
        scheduler.add_worker(worker, [("workers", 0), ("host", socket.gethostname()), ("pid", _this.parent)])
        # Luigi's metrics for Prometheus break off at a task that fails without ever having run.
        scheduler.add_task(**told, status=RUNNING)
        scheduler.add_task(**told, status=FAILED, expl=json.dumps(words), tracking_url=page_link(task.ticker))
    except RPCError as error:
        # It is on record; a page that cannot show it must not fail what comes next.
        logger.warning("luigid does not show that %s failed: %s", task, error)


def is_going_on() -> bool:
    """Whether luigid knows a worker that is alive: its process, where that is on this machine."""
    return any(
        _lives_here(worker)
        if worker.get("host") == socket.gethostname()
        else time.time() - worker["last_active"] < _SILENT_SECONDS
        for worker in _workers()
        if worker.get("state") != "disabled"
    )


def release_own() -> None:
    """Take this process's worker off luigid: it is ending, and the next run need not wait for that."""
    for worker in _workers():
        if worker.get("host") == socket.gethostname() and worker.get("pid") == os.getpid():
            release(worker)


def release(worker: dict[str, Any]) -> None:
    """Tell luigid on behalf of a worker that it does no more; it takes the end of a task only from who runs it."""
    scheduler = _scheduler()
    for task_id in worker.get("running") or {}:
        scheduler.add_task(worker=worker["name"], task_id=task_id, status=FAILED, expl="the run that had it was killed")
        logger.info("released %s, which a killed run left behind", task_id)
    scheduler.disable_worker(worker["name"])


def _workers() -> list[dict[str, Any]]:
    scheduler = _scheduler()
    return [] if scheduler is None else list(scheduler.worker_list())


def _luigid_url() -> str | None:
    """None with --local-scheduler."""
    env: Any = luigi.interface.core()
    if env.local_scheduler:
        return None
    return str(env.scheduler_url or f"http://{env.scheduler_host}:{env.scheduler_port}/")


def _scheduler() -> Any:
    """luigid, None with --local-scheduler. Its methods are made at run time, from the scheduler's."""
    url = _luigid_url()
    return None if url is None else luigi.rpc.RemoteScheduler(url)


def _lives_here(worker: dict[str, Any]) -> bool:
    """Whether its process lives on this machine, and is not a later one of the same number."""
    try:
        process = psutil.Process(int(worker.get("pid") or 0))
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        # Once the clock has been set, a process seems to have begun at another time; then only its pings tell.
        return process.create_time() <= worker["started"] + 1 or _pings(worker)
    except psutil.NoSuchProcess:
        return False
