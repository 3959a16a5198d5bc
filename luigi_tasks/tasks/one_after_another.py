"""Work on one item after another in a forked process, whose death costs only the item that it died of.

Whoever forks watches: by a pipe it hears which item is being worked on, and what came of it. When the process ends
without having said so, or takes too long over an item, that item has failed, and another process takes up the rest. A
new one comes after some items in any case: a process's memory grows with what it has done.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, Literal, TypeVar

from luigi_tasks.tasks import invocation

Item = TypeVar("Item")
Outcome = Literal["done", "failed", "died", "timed_out"]

_BEGUN, _DONE, _FAILED = b"b", b"d", b"f"
_STOPPED = 3
"""Exit code of a process that has stopped before the last item, of its own will."""


class OneAfterAnother(Generic[Item]):
    """For `items` in turn, calls `work` in another process, and here `tell` of what came of it.

    `work` returns whether the item is done; it must not raise. `limit` says how many seconds it may take. After each
    item `go_on`, given whether it is done, is asked there whether to try the next. A process takes `at_most` items.
    """

    def __init__(
        self,
        items: Iterable[Item],
        work: Callable[[Item], bool],
        tell: Callable[[Item, Outcome], None],
        limit: Callable[[Item], float],
        go_on: Callable[[bool], bool],
        at_most: int,
    ) -> None:
        self._rest = deque(items)
        self._work, self._tell, self._limit, self._go_on, self._at_most = work, tell, limit, go_on, at_most

    def run(self) -> list[Item]:
        """Returns the items that were not tried, since it was not worth it."""
        while self._rest:
            if self._in_one_process() == _STOPPED:
                break
        return list(self._rest)

    def _in_one_process(self) -> int:
        """Work off items in a process until it ends; returns its exit code."""
        left = max(len(self._rest) - self._at_most, 0)
        reader, writer = os.pipe()
        # Closed by the kernel when this process dies, whatever it dies of.
        alive = os.pipe()
        process = os.fork()
        if process == 0:
            os.close(reader)
            os.close(alive[1])
            invocation.die_with(alive[0])
            self._as_worker(writer)
        os.close(writer)
        os.close(alive[0])
        try:
            late = self._listen(reader, process)
        finally:
            os.close(reader)
            os.close(alive[1])
            _, status = os.waitpid(process, 0)
        code = os.waitstatus_to_exitcode(status)
        if code != _STOPPED and len(self._rest) > left:
            self._tell(self._rest.popleft(), "timed_out" if late else "died")
        return code

    def _as_worker(self, writer: int) -> None:
        """The forked process: it never returns to whoever has called."""
        code = 1
        try:
            for item in list(self._rest)[: self._at_most]:
                os.write(writer, _BEGUN)
                done = self._work(item)
                os.write(writer, _DONE if done else _FAILED)
                if not self._go_on(done):
                    code = _STOPPED
                    return
            code = 0
        finally:
            os._exit(code)

    def _listen(self, reader: int, process: int) -> bool:
        """Hear of items until the process ends; returns whether it was ended for taking too long."""
        deadline, late = float("inf"), False
        while True:
            wait = deadline - time.monotonic()
            ready, _, _ = select.select([reader], [], [], None if wait == float("inf") else max(wait, 0.0))
            if not ready:
                os.kill(process, signal.SIGKILL)
                deadline, late = float("inf"), True
                continue
            word = os.read(reader, 1)
            if not word:
                return late
            if word == _BEGUN:
                deadline = time.monotonic() + self._limit(self._rest[0])
            else:
                deadline = float("inf")
                self._tell(self._rest.popleft(), "done" if word == _DONE else "failed")
