"""What the processes of a run tell its parent process: lines of JSON in a pipe, which the parent's monitor reads.

A line is written at once and whole, however many processes write: the kernel promises it up to PIPE_BUF bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
from collections.abc import Iterator
from typing import Any

Message = dict[str, Any]

_LONGEST = select.PIPE_BUF
_LONGEST_TEXT = 300


class _Pipe:
    """The one of this run; processes that are forked inherit it."""

    ends: tuple[int, int] | None = None
    rest = b""


def open_pipe() -> None:
    """To be called in the parent before it forks; before that, and where it never is, messages go nowhere."""
    _Pipe.ends = os.pipe()


def send(**message: Any) -> None:
    """Tell the parent; `message` has JSON values, and texts of it are cut where they are too long."""
    if _Pipe.ends is None:
        return
    short = {name: text[:_LONGEST_TEXT] if isinstance(text, str) else text for name, text in message.items()}
    line = json.dumps(short).encode() + b"\n"
    if len(line) > _LONGEST:
        line = json.dumps({name: value for name, value in short.items() if name != "params"}).encode() + b"\n"
    # Whoever was to be told has died, and this process is about to.
    with contextlib.suppress(BrokenPipeError):
        os.write(_Pipe.ends[1], line)


def receive(seconds: float) -> Iterator[Message]:
    """What has come; waits for it so long at most."""
    if _Pipe.ends is None or not select.select([_Pipe.ends[0]], [], [], seconds)[0]:
        return
    *lines, _Pipe.rest = (_Pipe.rest + os.read(_Pipe.ends[0], 2**20)).split(b"\n")
    for line in lines:
        yield json.loads(line)
