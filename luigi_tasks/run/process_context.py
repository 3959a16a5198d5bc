"""What happens around a task in the process that Luigi forks for it (`[worker] task_process_context`)."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any

from luigi_tasks.run import lifecycle, messages


class ProcessContext:
    """Luigi enters it in the child before the task runs, and leaves it after."""

    def __init__(self, task_process: Any) -> None:
        self._task_process = task_process

    def __enter__(self) -> ProcessContext:
        process = self._task_process
        if process.use_multiprocessing:
            lifecycle.in_child()
            messages.send(
                kind="begun", task_id=process.task.task_id, pid=os.getpid(), seconds=process.task.worker_timeout
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        messages.send(kind="ended", task_id=self._task_process.task.task_id)
