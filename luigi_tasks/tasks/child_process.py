"""What happens around a task in the process that Luigi forks for it (`[worker] task_process_context`)."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from luigi_tasks.tasks import invocation


class ChildProcess:
    """Luigi enters it in the child before the task runs, and leaves it after."""

    def __init__(self, task_process: Any) -> None:
        self._task_process = task_process

    def __enter__(self) -> ChildProcess:
        if self._task_process.use_multiprocessing:
            invocation.in_child(self._task_process.worker_id)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass
