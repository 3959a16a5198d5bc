"""How far a run is: on a terminal a line that is kept up to date, in a log a line now and then."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from luigi_tasks.logs import CLEAR

logger = logging.getLogger(__name__)

_LIVE_SECONDS = 0.5
_WORDS = {"ohlcv": "bars", "metadata": "company data"}


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
    idle_since: float | None = None
    """When the last process ended, if none is at work."""

    def work(self, running: int, now: float) -> None:
        """So many processes are at work."""
        self.running = running
        self.idle_since = None if running else self.idle_since or now

    def idle_for(self, now: float) -> float:
        """Seconds since a process was at work."""
        return 0.0 if self.idle_since is None else now - self.idle_since

    def remaining(self) -> Counter[str]:
        """Tickers by kind that are neither done nor have failed."""
        return self.expected - (self.done + self.failed)

    def settle(self, kind: str, *, done: bool) -> None:
        """A ticker is done, or has failed."""
        (self.done if done else self.failed)[kind] += 1

    def line(self, now: float) -> str:
        """In words; empty while nothing is expected. `now` and `began` are seconds of one clock."""
        if not self.expected:
            return ""
        parts = [f"{_WORDS[kind]} {self.done[kind]:,} of {count:,}" for kind, count in self.expected.items() if count]
        settled, minutes = self.done + self.failed, max(now - self.began, 0.001) / 60
        remaining = self.remaining()
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


class Display:
    """Shows it where people look: on the terminal, or in the log every `log_seconds`."""

    def __init__(self, log_seconds: float) -> None:
        self._live = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._every = _LIVE_SECONDS if self._live else log_seconds
        self._next, self._shown = time.monotonic() + self._every, ""

    def show(self, progress: Progress) -> None:
        """Show the line if it is time, and is another one. To be called now and then."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._every
        line = progress.line(now)
        if line and line != self._shown:
            self._shown = line
            (_show_live if self._live else logger.info)(line)

    def clear(self) -> None:
        """Take the line off the terminal."""
        if self._live:
            os.write(sys.stderr.fileno(), CLEAR.encode())


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
