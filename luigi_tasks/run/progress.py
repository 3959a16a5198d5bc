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
from luigi_tasks.words import duration

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
    asking: Counter[str] = field(default_factory=Counter)
    """Of the expected ones, those that the source has to be asked for one by one."""
    done: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    running: int = 0
    idle_since: float | None = None
    """When the last process ended, if none is at work."""
    since: dict[str, float] = field(default_factory=dict)
    """When the first ticker of a kind was settled, the run's beginning for the first kind: company data comes last."""
    closes_told: bool = False

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

    def settle(self, kind: str, now: float, *, done: bool) -> None:
        """A ticker is done, or has failed."""
        self.since.setdefault(kind, now if self.since else self.began)
        (self.done if done else self.failed)[kind] += 1

    def closes(self, now: float) -> str:
        """Once, when the bars of all tickers are settled and company data is still to come: that, in words."""
        remaining = self.remaining()
        if self.closes_told or not self.expected["ohlcv"] or remaining["ohlcv"] or not remaining["metadata"]:
            return ""
        self.closes_told = True
        failed = f", {self.failed['ohlcv']:,} failed" if self.failed["ohlcv"] else ""
        return (
            f"all closes are in after {duration(now - self.began)}: bars of {self.done['ohlcv']:,} tickers"
            f"{failed}; company data of {self.done['metadata']:,} of {self.expected['metadata']:,} so far"
        )

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
        left = [self._left(kind, now) for kind in remaining]
        if left and None not in left:
            # One kind after the other: company data is waited for last.
            parts.append(f"about {_about(sum(minutes or 0.0 for minutes in left))} left")
        return "; ".join(parts)

    def _left(self, kind: str, now: float) -> float | None:
        """Minutes that the rest of a kind takes at the pace so far; but at no higher one than the source is asked at,
        for a run begins with a burst of requests, which says nothing of what comes after it. None: not known yet."""
        settled, most = self.done[kind] + self.failed[kind], self.per_minute.get(kind, 0.0)
        left = self.expected[kind] - settled
        by_rate = self.asking[kind] * left / self.expected[kind] / most if most else None
        if not settled:
            return by_rate
        by_pace = left / settled * max(now - self.since[kind], 0.001) / 60
        return max(by_pace, by_rate or 0.0)


class Display:
    """Shows it where people look: on the terminal, or in the log every `log_seconds`."""

    def __init__(self, log_seconds: float) -> None:
        self._live = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._every = _LIVE_SECONDS if self._live else log_seconds
        self._next, self._shown = time.monotonic() + self._every, ""

    def show(self, progress: Progress) -> None:
        """Show the line if it is time, and is another one. To be called now and then."""
        now = time.monotonic()
        if closes := progress.closes(now):
            self.clear()
            logger.info(closes)
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


def _about(minutes: float) -> str:
    return duration(60 * round(minutes) if minutes >= 1 else max(1.0, 60 * minutes))
