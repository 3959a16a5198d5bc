"""What the parent process of a run does beside Luigi's worker, in a thread: it hears the others, and tells of them."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence

from luigi_tasks.run import messages
from luigi_tasks.run.luigid_client import Steps
from luigi_tasks.run.messages import Message
from luigi_tasks.run.progress import Display, Progress

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.2
_GRACE_SECONDS = 10.0
"""A process that Luigi could not end by SIGTERM, since it is stopped, is killed so much after its time limit."""


# A fork while this thread is at work would leave the child whatever locks it holds, locked for ever: those of the
# terminal, of the resolver, of a module that is being imported.
_at_work = threading.RLock()
os.register_at_fork(before=_at_work.acquire, after_in_parent=_at_work.release, after_in_child=_at_work.release)


class Monitor:
    """To be made and started in the parent before it forks."""

    def __init__(
        self,
        progress: Progress,
        display: Display,
        steps: Steps,
        on_failure: Callable[[float], object],
        others: Sequence[Callable[[], object]],
    ) -> None:
        """`on_failure` is called, with the seconds of the message, when a task fails that is no step of a ticker;
        `others` every now and then."""
        self._progress, self._display, self._steps, self._others = progress, display, steps, others
        self._on_failure = on_failure
        self._until: dict[str, tuple[int, float]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True, name="monitor")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Show nothing any more, once all that was heard is told; to be called before the report."""
        self._ended.set()
        self._thread.join()
        for message in messages.receive(0):
            self._hear(message)
        self._steps.show(now=True)
        self._display.clear()

    def _watch(self) -> None:
        said = ""
        while not self._ended.is_set():
            try:
                for message in messages.receive(_LOOK_SECONDS):
                    self._hear(message)
                with _at_work:
                    self._progress.work(len(self._until), time.monotonic())
                    self._kill_late()
                    self._steps.show()
                    for other in self._others:
                        other()
                    self._display.show(self._progress)
            except Exception as error:
                # Whatever it is: the run goes on without being shown for a moment, and its processes must be heard.
                with _at_work:
                    if str(error) != said:
                        logger.exception("the run is not shown for a moment")
                said = str(error)

    def _hear(self, message: Message) -> None:
        match message["kind"]:
            case "begun":
                limit = message["seconds"] or float("inf")
                self._until[message["task_id"]] = message["pid"], time.monotonic() + limit + _GRACE_SECONDS
            case "ended":
                self._until.pop(message["task_id"], None)
            case "settled":
                self._progress.settle(message["of"], time.monotonic(), done=message["done"])
            case "failed":
                self._on_failure(message["idle_seconds"])
            case "step" | "words":
                self._steps.hear(message)

    def _kill_late(self) -> None:
        """Luigi ends a late process by SIGTERM, and waits for it: for ever, if it is stopped and does not get that."""
        for task_id, (number, until) in list(self._until.items()):
            if time.monotonic() > until:
                del self._until[task_id]
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
