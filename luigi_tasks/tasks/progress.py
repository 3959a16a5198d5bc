"""How far a run is: on a terminal a line that is kept up to date, in a log a line now and then.

The processes that work off tickers write a byte for each to a pipe; a thread of Luigi's parent process reads it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from luigi_tasks.logs import CLEAR

logger = logging.getLogger(__name__)

_LIVE_SECONDS = 0.5
_BEGUN, _ENDED = "+", "-"
_WORDS = {"ohlcv": "bars", "metadata": "company data"}
_CODES = {("ohlcv", True): "o", ("ohlcv", False): "O", ("metadata", True): "m", ("metadata", False): "M"}
_MEANING = {code: meaning for meaning, code in _CODES.items()}


@dataclass
class Progress:
    """What is known of a run: tickers by kind (ohlcv, metadata), expected, done and failed; processes at work."""

    began: float
    per_minute: Mapping[str, float] = field(default_factory=dict)
    """Tickers of a kind that the source is asked for at most, on average; 0 or none: no limit."""
    expected: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    running: int = 0

    def hear(self, code: str) -> None:
        """Take in what a process has written."""
        if code in _MEANING:
            kind, well = _MEANING[code]
            (self.done if well else self.failed)[kind] += 1
        else:
            self.running += {_BEGUN: 1, _ENDED: -1}[code]

    def line(self, now: float) -> str:
        """In words; empty while nothing is expected. `now` and `began` are seconds of one clock."""
        if not self.expected:
            return ""
        parts = [f"{_WORDS[kind]} {self.done[kind]:,} of {count:,}" for kind, count in self.expected.items() if count]
        settled, minutes = self.done + self.failed, max(now - self.began, 0.001) / 60
        remaining = self.expected - settled
        parts.append(f"{self.running} running, {self.failed.total():,} failed, {remaining.total():,} remaining")
        if settled.total():
            parts.append(f"{settled.total() / minutes:,.0f} a minute")
        if remaining and all(settled[kind] for kind in remaining):
            # The kinds go on side by side, each at its own rate.
            parts.append(f"about {_duration(max(self._left(kind, minutes) for kind in remaining))} left")
        return "; ".join(parts)

    def _left(self, kind: str, minutes: float) -> float:
        """Minutes that the rest of a kind takes at the pace so far; but at no higher one than the source is asked at,
        for a run begins with a burst of requests, which says nothing of what comes after it."""
        settled = self.done[kind] + self.failed[kind]
        left, most = self.expected[kind] - settled, self.per_minute.get(kind, 0.0)
        return max(left / settled * minutes, left / most if most else 0.0)


class _Shown:
    """What this process shows, and those forked from it write for."""

    def __init__(self) -> None:
        self.pipe: tuple[int, int] | None = None
        self.batches: set[str] = set()
        self.progress = Progress(0.0)
        self.ended = threading.Event()
        self.thread: threading.Thread | None = None


_shown = _Shown()


def start(log_seconds: float, per_minute: Mapping[str, float], tell: Callable[[Callable[[], str]], object]) -> None:
    """To be called in Luigi's parent process before it forks; `log_seconds` are between two lines in a log.

    For `per_minute` see Progress. `tell` is called again and again, with what says the line.
    """
    _shown.pipe = os.pipe()
    _shown.progress = Progress(time.monotonic(), per_minute)
    live = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    show = _show_live if live else logger.info
    seconds = _LIVE_SECONDS if live else log_seconds
    _shown.thread = threading.Thread(
        target=_watch, args=(_shown.pipe[0], show, tell, seconds), daemon=True, name="progress"
    )
    _shown.thread.start()


def stop() -> None:
    """Show nothing any more; to be called before the report."""
    if _shown.thread is not None:
        _shown.ended.set()
        _shown.thread.join()
        _shown.thread = None
        if sys.stderr.isatty():
            os.write(sys.stderr.fileno(), CLEAR.encode())


def expect(batch: str, kind: str, tickers: int) -> None:
    """A batch of this name has so many tickers to do; once it is known, nothing changes."""
    if batch not in _shown.batches:
        _shown.batches.add(batch)
        _shown.progress.expected[kind] += tickers


def begun() -> None:
    """A batch has begun."""
    _write(_BEGUN)


def ended() -> None:
    """A batch has ended."""
    _write(_ENDED)


def settled(kind: str, *, done: bool) -> None:
    """A ticker is done, or has failed."""
    _write(_CODES[kind, done])


def _write(code: str) -> None:
    if _shown.pipe is not None:
        # Whoever was to be told has died, and this process is about to.
        with contextlib.suppress(BrokenPipeError):
            os.write(_shown.pipe[1], code.encode())


def _watch(
    reader: int, show: Callable[[str], object], tell: Callable[[Callable[[], str]], object], every: float
) -> None:
    shown, next_at = "", time.monotonic() + every
    while not _shown.ended.is_set():
        ready, _, _ = select.select([reader], [], [], 0.2)
        if ready:
            for code in os.read(reader, 65536).decode():
                _shown.progress.hear(code)
        now = time.monotonic()
        tell(lambda: _shown.progress.line(time.monotonic()))
        if now < next_at:
            continue
        next_at = now + every
        line = _shown.progress.line(now)
        if line and line != shown:
            show(line)
            shown = line


def _show_live(line: str) -> None:
    try:
        width = os.get_terminal_size(sys.stderr.fileno()).columns
    except OSError:
        width = 80
    # Not by sys.stderr: a fork in this moment would leave its lock locked in the child.
    os.write(sys.stderr.fileno(), f"{CLEAR}{line[: width - 1]}".encode())


def _duration(minutes: float) -> str:
    if minutes < 1:
        return f"{max(1, round(minutes * 60))} s"
    hours, rest = divmod(round(minutes), 60)
    return f"{hours} h {rest} min" if hours else f"{rest} min"
