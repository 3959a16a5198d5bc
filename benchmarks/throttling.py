"""How long a run takes with a provider that throttles: the budget's own rules, against servers with a limit, on a
simulated clock.

    python -m benchmarks.throttling

A server is a token bucket; once it is empty, everything is refused for the penalty. The floor is what nobody can do
better who does not know the limit: all requests at the lower of both rates, and, where the server's is the lower one,
one penalty, since there is no other way to find that out.
"""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from luigi_tasks.budget import KINDS, Kind, Pace, Permit
from luigi_tasks.pacing import Line, Pacing, State

_BEGINNING = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_PROCESSES = 8
_LATENCY = 0.15
"""Seconds, there and back; drawn from half of it to one and a half."""


@dataclass
class Server:
    """Answers `a_second` requests, and `burst` at once; refuses everything for `penalty` seconds when it has none left.
    One `bad` question is always refused."""

    a_second: float
    burst: int
    penalty: float
    bad: str = ""
    shut_until: float = 0.0
    tokens: float = -1.0
    at: float = 0.0
    asked: int = 0
    refused: int = 0

    def admits(self, now: float, subject: str) -> bool:
        self.asked += 1
        if self.tokens < 0:
            self.tokens = self.burst
        admitted = subject != self.bad and now >= self.shut_until
        if admitted:
            self.tokens, self.at = min(self.burst, self.tokens + (now - self.at) * self.a_second), now
            admitted = self.tokens >= 1
            if admitted:
                self.tokens -= 1
            else:
                self.shut_until = now + self.penalty
        self.refused += not admitted
        return admitted


@dataclass
class Outcome:
    """What a simulated run came to; durations in seconds."""

    took: float
    stored: int
    failed: list[str]
    refused: int
    asked: int
    pauses: list[float]
    share: float


class Clock:
    """Events in the order of their times."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, tuple[str, str, Permit | None, float]]] = []
        self._number = itertools.count()

    def at(self, time: float, what: str, subject: str, permit: Permit | None = None, waited: float = 0.0) -> None:
        heapq.heappush(self._waiting, (time, next(self._number), (what, subject, permit, waited)))

    def __iter__(self) -> Iterator[tuple[float, str, str, Permit | None, float]]:
        while self._waiting:
            time, _, event = heapq.heappop(self._waiting)
            yield time, *event


def run(
    pace: Pace, server: Server, requests: int, seed: int, processes: int = _PROCESSES, kind: Kind = "prices"
) -> Outcome:
    """So many requests of a kind, of one subject each, by some processes at a time. The limit is one of the kind."""
    lots = random.Random(seed)  # noqa: S311  # the same lots each time
    pacing, clock = Pacing(pace, lots), Clock()
    state = State(_BEGINNING, {kind: Line(_BEGINNING) for kind in KINDS}, _BEGINNING)
    subjects = [server.bad or "T0", *(f"T{number}" for number in range(1, requests))]
    waiting, stored, failed, pauses, now = iter(subjects), 0, list[str](), list[float](), 0.0

    def present(time: float) -> State:
        state.now = _BEGINNING + dt.timedelta(seconds=time)
        return state

    def next_one(time: float) -> None:
        subject = next(waiting, None)
        if subject is not None:
            clock.at(time, "ask", subject)

    for _ in range(processes):
        next_one(0.0)
    for now, what, subject, permit, waited in clock:
        if what == "ask":
            wait, permit = pacing.enter(present(now), kind, subject)
            clock.at(now + wait, "ask" if permit is None else "place" if wait > 0 else "send", subject, permit, wait)
        elif permit is None:
            raise AssertionError(what)
        elif what == "place":
            kept = pacing.keeps_place(present(now), permit, waited)
            clock.at(now, "send" if kept else "ask", subject, permit)
        elif what == "send":
            clock.at(now + _LATENCY / 2 * lots.uniform(0.5, 1.5), "arrive", subject, permit)
        elif what == "arrive":
            admitted = permit.kind != kind or server.admits(now, "a well-known one" if permit.reference else subject)
            clock.at(now + _LATENCY / 2, "answered" if admitted else "throttled", subject, permit)
        else:
            before = state.paused_at
            reaction = pacing.leave(present(now), permit, "answered" if what == "answered" else "throttled")
            if state.paused_at != before:
                pauses.append(state.pause_seconds)
            if reaction == "alone":
                failed.append(subject)
            elif what == "answered" and not permit.reference:
                stored += 1
            else:
                clock.at(now, "ask", subject)
                continue
            next_one(now)
    return Outcome(now, stored, failed, server.refused, server.asked, pauses, state.share)


def floor(pace: Pace, server: Server, requests: int) -> float:
    ours = pace.all_per_minute / 60
    rate, burst = min(ours, server.a_second), min(pace.burst, server.burst)
    return (requests - burst) / rate + (server.penalty if server.a_second < ours else 0.0)


def default_pace() -> Pace:
    return Pace({"prices": 60, "quotes": 60, "company": 20, "access": 12}, all_per_minute=60)


def main() -> None:
    print("| limit a second | penalty | requests | floor | slowest of 10 | times the floor | refused | longest pause |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for a_second, penalty, requests in itertools.product((0.3, 1.0, 3.0), (20.0, 60.0, 300.0), (53, 1003)):
        pace = default_pace()
        least = floor(pace, Server(a_second, 10, penalty), requests)
        runs = [run(pace, Server(a_second, 10, penalty), requests, seed) for seed in range(10)]
        slowest = max(each.took for each in runs)
        print(
            f"| {a_second:g} | {penalty:.0f} s | {requests:,} | {least:,.0f} s | {slowest:,.0f} s | "
            f"{slowest / least:.2f} | {max(each.refused for each in runs)} | "
            f"{max((pause for each in runs for pause in each.pauses), default=0):.0f} s |"
        )


if __name__ == "__main__":
    main()
