"""One run: what has to be there before its first task, and what happens whatever ends it.

Luigi has no hook for either. So a `luigi` command begins when its parent process first asks one of our tasks whether
it is complete, and ends with that process. It is a run, with a row, a page and a report, once RunAll is taken up or a
step of a ticker begins: what only looks leaves nothing behind. However a run ends, short of SIGKILL, the report is
written. A signal replaces the process by `luigi_tasks.run.shutdown`, since an exception raised by a signal handler gets
lost wherever Python cannot propagate one, as in the callbacks around every fork.

The parent's death must also be its children's, or they go on writing as orphans while the rerun writes too. Each
child waits on a pipe that only the parent can write to; the kernel closes it with the parent, whatever killed it.
"""

from __future__ import annotations

import atexit
import datetime as dt
import gc
import logging
import multiprocessing
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar, NoReturn, Protocol

import luigi
from luigi.cmdline_parser import CmdlineParser
from luigi.task_register import Register

from luigi_tasks import settings
from luigi_tasks.database import embedded, presence
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.errors import AnotherRun, SecuritiesMasterError, ServiceFailure
from luigi_tasks.report import alert, live, metrics
from luigi_tasks.run import luigid_client, messages
from luigi_tasks.run.luigid_client import Steps
from luigi_tasks.run.monitor import Monitor
from luigi_tasks.run.progress import Display, Progress

logger = logging.getLogger(__name__)

_IMPORTED = dt.datetime.now(dt.UTC)
RUN_ID = f"{_IMPORTED:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
"""This run's name. Made where the module is first imported, which is Luigi's parent process; children inherit it."""

ALREADY_RUNNING = 10
"""Exit code when the same run is going on at this database; Luigi's documented one."""
CANNOT_BEGIN = 35
"""Exit code when a run cannot begin; Luigi's documented one for scheduling errors."""
REPORT_FAILED = 50
"""Exit code when the report could not be written; above all of Luigi's."""

Report = Callable[[str, str], tuple[dict[str, Any], Path]]
"""Writes the report of a run that ends now, given its id and the signal that ended it (or none); returns what it says,
and where its page is."""

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_GARBAGE_THRESHOLD = 100_000
_LUIGID_SECONDS = 3.0
_IDLE_SECONDS = 1.0
_HOLD_SECONDS = 5.0


class RunTask(Protocol):
    """What of a task is asked here."""

    is_run: ClassVar[bool]
    """Whether doing it is a run, with a row, a page and a report."""

    @property
    def task_family(self) -> str:
        """Its name."""

    def check_parameters(self) -> None:
        """Raises ConfigurationError."""

    def booked_parameters(self) -> dict[str, Any]:
        """What the run's row keeps of it."""


class _Run:
    """What the parent process knows of itself; there is at most one."""

    def __init__(self) -> None:
        self.begun = False
        self.booked = False
        self.parent = 0
        self.child = False
        self.about: tuple[str, Mapping[str, Any]] = ("", {})
        self.ours = False
        self.alive: tuple[int, int] | None = None
        self.drained = False
        self.stop_asking: Any = None
        self.page_shown = False
        self.monitor: Monitor | None = None
        self.progress = Progress(0.0)
        self.expected: set[str] = set()
        self.failed_idle: float | None = None
        self.held_at = 0.0
        self.report: Report | None = None


_this = _Run()


def report_with(report: Report) -> None:
    """Runs of this process end with this report."""
    _this.report = report


def is_luigi() -> bool:
    """Whether this process is the `luigi` command: neither another program that uses tasks, nor one of Luigi's that
    only look at them, such as luigi-deps-tree."""
    program = Path(sys.argv[0])
    return program.stem == "luigi" or program.parts[-2:] == ("luigi", "__main__.py")


def begin(task: RunTask) -> None:
    """Once in a `luigi` command: check what it needs, and arrange for how it ends.

    Ends the process with CANNOT_BEGIN, after one line that says why, if the run cannot begin. Does nothing where
    tasks are used without that command (`luigi.build`, a notebook, a test).
    """
    parser = CmdlineParser.get_instance()
    if _this.begun or parser is None or not is_luigi():
        return
    _this.begun, _this.parent = True, os.getpid()
    _this.ours = type(parser.get_task_obj()).__module__.startswith("luigi_tasks.")
    # Of a large universe there are tens of thousands of objects, which stay: looking for garbage among them again and
    # again is a third of the time of a run that has nothing to do.
    gc.freeze()
    gc.set_threshold(_GARBAGE_THRESHOLD)
    try:
        alert.prepare()
        task.check_parameters()
        chosen = settings.load()
        _require_luigid()
        url = embedded.url(chosen)
        ledger = Ledger(url)
        ledger.migrate()
        ledger.claim_for(chosen.source_name)
        _this.about = task.task_family, task.booked_parameters()
        others = presence.enter(url, *_this.about, RUN_ID)
        luigid_client.release_dead(Register.task_names())
    except AnotherRun as error:
        logger.error("cannot begin: %s", error)
        raise SystemExit(ALREADY_RUNNING) from None
    except SecuritiesMasterError as error:
        logger.error("cannot begin: %s", error)
        if task.is_run:
            alert.tell(alert.cannot_begin(error))
        raise SystemExit(CANNOT_BEGIN) from None
    except Exception as error:
        if task.is_run:
            alert.tell(alert.cannot_begin(error))
        raise
    if others:
        what = "Of tickers that are of both runs, both may ask; what is stored is the same."
        logger.warning("beside another run at this database (%s). %s", ", ".join(others), what)
    # What the parent has imported is free in a forked child. Forking is not the default everywhere.
    multiprocessing.set_start_method("fork", force=True)
    _this.alive = os.pipe()
    messages.open_pipe()
    _this.progress = Progress(time.monotonic(), chosen.tickers_per_minute)
    told = live.Live(chosen.reports / RUN_ID, url, RUN_ID)
    others_to_call = (lambda: told.tell(lambda: _this.progress.line(time.monotonic())), _end_idle, _hold)
    steps = Steps(RUN_ID, _this.parent)
    _this.monitor = Monitor(_this.progress, Display(chosen.progress_seconds), steps, _on_failure, others_to_call)
    _this.monitor.start()
    _end_on_signals()
    _drain_on_sigusr1()
    atexit.register(_end)


def book(task: RunTask | None = None) -> None:
    """Have this command be a run from now on, in whichever of its processes: of `task`, or of the first that was asked
    for. Does nothing where `begin` did nothing."""
    if not _this.begun or _this.booked:
        return
    if task is not None:
        _this.about = task.task_family, task.booked_parameters()
    Ledger(embedded.url(settings.load())).begin_run(RUN_ID, *_this.about)
    _this.booked = True
    if _make_folder(settings.load().reports / RUN_ID):
        _this.page_shown = luigid_client.page_url(RUN_ID) is not None


def moment() -> dt.datetime:
    """The instant (UTC) by which a session counts as over: the run's beginning, the present where there is no run.

    One for the whole run, so that what it has done stays done where a market closes in the middle of it.
    """
    return _IMPORTED if _this.begun else dt.datetime.now(dt.UTC)


def expect(task_id: str, kind: str, tickers: int, asking: int) -> None:
    """A task is there with so many tickers to do, of a kind of Progress, and so many that the source is asked for one
    by one; once it is known, nothing changes."""
    if task_id not in _this.expected:
        _this.expected.add(task_id)
        _this.progress.expected[kind] += tickers
        _this.progress.asking[kind] += asking


def is_child() -> bool:
    """Whether this is a process that Luigi forked for a task."""
    return _this.child


def in_child() -> None:
    """To be called first in every process that Luigi forks for a task."""
    _this.child = True
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Ctrl-C and a terminal's end go to the whole group; the parent ends its children itself, in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if _this.alive is not None:
        reader, writer = _this.alive
        os.close(writer)
        threading.Thread(target=_die_when_closed, args=(reader,), daemon=True, name="die-with-parent").start()


def _die_when_closed(reader: int) -> None:
    os.read(reader, 1)
    # As sudden as a SIGKILL: what was not committed is rolled back, what was not renamed is no target.
    os._exit(1)


def _drain_on_sigusr1() -> None:
    """Besides what Luigi does on SIGUSR1: its worker, which is there already, asks for no more tasks."""
    _this.stop_asking = signal.getsignal(signal.SIGUSR1)

    def handle(number: int, frame: FrameType | None) -> None:
        _this.drained = True
        if callable(_this.stop_asking):
            _this.stop_asking(number, frame)

    signal.signal(signal.SIGUSR1, handle)
    signal.siginterrupt(signal.SIGUSR1, False)


def _on_failure(idle_seconds: float) -> None:
    """A task has failed that is no step of a ticker; what comes after it will never be handed out. What else there is
    to do will be within so many seconds."""
    _this.failed_idle = max(idle_seconds, _this.failed_idle or 0.0)


def _end_idle() -> None:
    """Have Luigi's worker end where nothing can be handed out any more.

    It waits a while for that (`max_keep_alive_idle_duration`), since another run may hold a resource. But after a
    failure what comes next never can be, and where no other run is, nobody holds anything. Of tasks that are not ours
    we do not know it.
    """
    progress, enough = _this.progress, _this.failed_idle
    if progress.failed.total() and not progress.remaining():
        enough = _IDLE_SECONDS
    idle = enough is not None and progress.idle_for(time.monotonic()) >= enough
    if idle and _this.ours and callable(_this.stop_asking) and presence.is_alone():
        _this.stop_asking(signal.SIGUSR1, None)


def _hold() -> None:
    if time.monotonic() >= _this.held_at + _HOLD_SECONDS:
        _this.held_at = time.monotonic()
        presence.keep()


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
    module = "luigi_tasks.run.shutdown"
    # The pipe is closed by the exec, which is what ends the children.
    os.execv(sys.executable, [sys.executable, "-m", module, RUN_ID, str(number), *sys.argv[1:]])


def _end() -> None:
    if os.getpid() == _this.parent:
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)
        if _this.monitor is not None:
            _this.monitor.stop()
        outcome = end(RUN_ID, signal.SIGUSR1.name if _this.drained else "")
        if _this.drained and outcome not in ("", "complete"):
            _exit(128 + signal.SIGUSR1)


def end(run_id: str, interrupted_by: str = "") -> str:
    """Write and tell the report of a run that ends now; returns its outcome, or nothing where it was no run.

    Ends the process with REPORT_FAILED if it cannot be written.
    """
    try:
        if _this.report is None or Ledger(embedded.url(settings.load())).run(run_id) is None:
            return ""
        document, page = _this.report(run_id, interrupted_by)
    except Exception as error:
        # Whatever it is: nobody is left to see an exception, and a missing report must not look like success.
        known = isinstance(error, SecuritiesMasterError)
        logger.error("no report: %s", error, exc_info=None if known else error)
        alert.tell(alert.no_report(run_id, error))
        _exit(REPORT_FAILED)
    metrics.keep()
    alert.tell(alert.ended(document, page), failure=alert.is_news(document))
    return str(document["outcome"])


def page_link(ticker: str) -> str | None:
    """What luigid's page links to: a ticker in this run's report. None where luigid does not show that."""
    return luigid_client.page_path(RUN_ID, ticker) if _this.page_shown else None


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
