"""Handlers and formatter named in `config/logging.cfg`: few words on the terminal, everything in a file."""

from __future__ import annotations

import datetime as dt
import logging
from pathlib import Path

from luigi_tasks.errors import SecuritiesMasterError, StepFailed

FOLDER = Path("logs")

CLEAR = "\r\x1b[K"
"""Takes a terminal's last line away: there a run tells how far it is."""


class OneLine(logging.Formatter):
    """A failure that we can name takes one line; an unforeseen one keeps its traceback."""

    def format(self, record: logging.LogRecord) -> str:
        error = _error(record)
        if not isinstance(error, SecuritiesMasterError):
            return super().format(record)
        # Luigi's own message is about processes and workers; which task and why is in the error.
        return f"{record.levelname.lower()}: {error.kind}: {error}"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, the name is logging's
        record.levelname = record.levelname.lower()
        return super().formatMessage(record)


class RunLogFile(logging.FileHandler):
    """A log file a day under the store, opened with the first record."""

    def __init__(self) -> None:
        from luigi_tasks import settings

        folder = Path(settings.Store().root).absolute() / FOLDER
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            # Before there is a log, and before anything that could catch it.
            raise SystemExit(f"error: {folder}: cannot be written ({error.strerror}). Check permissions.") from None
        super().__init__(folder / f"run-{dt.datetime.now(dt.UTC):%Y-%m-%d}.log", encoding="utf-8", delay=True)


class Terminal(logging.StreamHandler):  # type: ignore[type-arg]
    """Standard error: all that we say, and of Luigi's talk what went wrong."""

    def emit(self, record: logging.LogRecord) -> None:
        if self.stream.isatty():
            # It is drawn anew.
            self.stream.write(CLEAR)
        super().emit(record)

    def filter(self, record: logging.LogRecord) -> bool:
        wanted = record.name.startswith("luigi_tasks") or record.levelno >= logging.WARNING
        # The step's own failure has been told by then.
        return bool(super().filter(record)) and wanted and not isinstance(_error(record), StepFailed)


def _error(record: logging.LogRecord) -> BaseException | None:
    return record.exc_info[1] if record.exc_info else None
