"""When a request may be sent, when nobody may, and what an answer changes of that: the rules of the shared budget.

Pure: a State goes in with the present as `now`, and is changed. `database/budget.py` keeps it in PostgreSQL for all
processes; `benchmarks/throttling.py` plays it against servers with a limit, on a clock of its own.

Rate: GCRA (the generic cell rate algorithm, ITU-T I.371), for each kind of request, and for all together. Who may not
send yet reserves the next free instant; requests for company data reserve none, so that all others come first.

Throttling: the first 429 stops everybody for a pause, after which one request goes ahead. If that is refused, the
pause grows by about a quarter; if it is answered, the others follow without a burst, and how long it took is
remembered: the next pause is as long, not longer. What was refused tells the rate. It is halved, or lowered by less
where it had held for a while, and creeps back to just below what was refused; above that only after an hour.

A question that is refused again and again while others of its kind are answered in between is not a matter of the
rate. It fails by itself, and stops nobody. A provider that answers several subjects in a row with nothing usable, or
refuses the credentials of several while it answers nothing else, is paused like one that throttles. A kind whose
credentials alone it refuses is not asked for any more.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from luigi_tasks.budget import FIRST_CLAIM, Kind, Outcome, Pace, Permit, Reaction

STREAK = 5
"""Different subjects in a row without a usable answer that make a provider count as down; or refused by themselves, as
refusing that kind of request altogether. So many refusals of credentials, of two questions at least, are throttling, or
the same of their kind where others were answered."""
ALONE = 2
"""Refusals of one question, after others had been answered, that make it fail by itself."""
LEAST_SHARE = 0.05
HALVED, LOWERED = 0.5, 0.7
"""What is left of the rate after a refusal; the second where it had held for HELD answers."""
HELD = 30
RECOVERY = 0.002
"""Of the full rate, that each answer gives back."""
JUST_BELOW = 0.75
"""Of the rate that was refused: up to there it comes back within the hour."""
GROWTH = (1.15, 1.3)
"""Of one pause after another, drawn by lot."""
REMEMBERED = dt.timedelta(hours=1)

# Not the module's own generator: forked children must not draw alike.
_system_random = random.SystemRandom()


@dataclass
class Line:
    """How far the rate of a kind has been used."""

    next_at: dt.datetime
    """From when on its burst is unused."""
    asked_at: dt.datetime | None = None
    sent: int = 0
    throttled: int = 0


@dataclass
class State:
    """What all who share a budget know; instants with a zone, durations in seconds."""

    now: dt.datetime
    lines: dict[Kind, Line]
    all_next_at: dt.datetime
    """The same as a line's, of all kinds together."""
    share: float = 1.0
    """Of the rates in the settings, that is used."""
    trouble: str | None = None
    """throttled or down: nobody may send; None: requests may be sent."""
    trouble_since: dt.datetime | None = None
    paused_at: dt.datetime | None = None
    paused_until: dt.datetime | None = None
    pause_seconds: float = 0.0
    probing_until: dt.datetime | None = None
    recovered_at: dt.datetime | None = None
    answered: int = 0
    """Since then, while the share is below 1."""
    enough_seconds: float | None = None
    """How long the provider wanted to be left alone the last time."""
    refused_share: float | None = None
    refused_at: dt.datetime | None = None
    refused_by: str = ""
    """The question whose refusal lowered the share the last time."""
    refusals: dict[str, dict[str, Any]] = field(default_factory=dict)
    """{question: {alone, unanswered, until, since}}: how often it was refused after others had been answered, how often
    since then, the instant (ISO 8601) before which it is not asked again, and that of the first refusal."""
    failed_alone: dict[str, str] = field(default_factory=dict)
    """{question: instant} of those that failed by themselves, since the last answer of their kind."""
    down_subjects: list[str] = field(default_factory=list)
    """What was asked about in vain since the last answer."""
    unauthorised: dict[str, dict[str, Any]] = field(default_factory=dict)
    """{kind: {questions, at, others}} since its last answer: the questions whose credentials were refused, each time
    that they were, the instant of the last time, and whether other kinds were answered meanwhile."""

    @property
    def uneventful(self) -> bool:
        """Whether an answer would change nothing."""
        return (
            not (self.trouble or self.share < 1 or self.down_subjects or self.unauthorised or self.refusals)
            and not self.failed_alone
        )


def question(kind: Kind, subject: str) -> str:
    return f"{kind}:{subject}"


class Pacing:
    """The rules, for one pace."""

    def __init__(self, pace: Pace, lots: random.Random = _system_random) -> None:
        self._pace, self._lots = pace, lots

    def enter(self, state: State, kind: Kind, subject: str) -> tuple[float, Permit | None]:
        """Seconds to wait, then the permit, or None: to ask again."""
        asked = question(kind, subject)
        if state.trouble is not None:
            return self._enter_in_trouble(state, kind, subject)
        refusal = state.refusals.get(asked)
        if refusal is not None:
            wait = (dt.datetime.fromisoformat(refusal["until"]) - state.now).total_seconds()
            if wait > 0:
                return wait, None
        reference = refusal is not None and self._wants_reference(state, kind, refusal)
        if reference:
            kind = "prices"
        permit = Permit(kind, subject, state.now, quiet=state.uneventful, reference=reference)
        steps = self._steps(kind, state.share)
        if steps is None:
            _count(state, kind)
            return 0.0, permit
        own, common = steps
        line, burst = state.lines[kind], self._pace.burst - 1
        free = [line.next_at - burst * own]
        if common is not None:
            free.append(state.all_next_at - burst * common)
        at = max(state.now, *free)
        wait = (at - state.now).total_seconds()
        if wait > 0 and kind not in FIRST_CLAIM:
            return wait, None
        line.next_at = max(line.next_at, at) + own
        if common is not None:
            state.all_next_at = max(state.all_next_at, at) + common
        _count(state, kind)
        return wait, replace(permit, entered=at)

    def keeps_place(self, state: State, permit: Permit, waited: float) -> bool:
        """Whether nobody has paused since the place was reserved; after a pause places are handed out anew."""
        reserved = permit.entered - dt.timedelta(seconds=waited)
        if state.trouble is None and (state.paused_at is None or state.paused_at <= reserved):
            return True
        state.lines[permit.kind].sent -= 1
        return False

    def leave(self, state: State, permit: Permit, outcome: Outcome, retry_after: float = 0.0) -> Reaction:
        """Take in what a request came to, and say what that means for it."""
        asked = question(permit.kind, permit.subject)
        if outcome == "throttled":
            state.lines[permit.kind].throttled += 1
        if outcome == "answered":
            self._answered(state, permit, asked)
            return "none"
        if state.paused_at is not None and permit.entered <= state.paused_at:
            # Sent before everybody stopped: the same incident, not another one.
            return _reaction(state)
        if outcome == "throttled":
            return "alone" if self._throttled(state, permit, asked, retry_after) else _reaction(state)
        if permit.probe and state.trouble is not None:
            self._pause(state, state.trouble)
        elif state.trouble is None and outcome == "down" and permit.subject not in state.down_subjects:
            state.down_subjects.append(permit.subject)
            if len(state.down_subjects) >= STREAK:
                self._pause(state, "down")
        elif state.trouble is None and outcome == "unauthorised":
            self._unauthorised(state, permit.kind, asked)
        return _reaction(state)

    def refused_altogether(self, state: State, kind: Kind, since: dt.datetime | None) -> bool:
        """Whether so many questions of the kind have failed by themselves, since then, or have had their credentials
        refused while others were answered, that no other is worth it."""
        failed = [at for each, at in state.failed_alone.items() if _of(each, kind)]
        denied = state.unauthorised.get(kind)
        if denied is not None and _is_denied(kind, denied):
            failed += [denied["at"]] * STREAK
        return sum(since is None or dt.datetime.fromisoformat(at) >= since for at in failed) >= STREAK

    def duration(self, state: State, requests: Mapping[Kind, int]) -> float | None:
        """Seconds that so many requests take at least if no others are sent; None: none of them has a limit."""
        took: list[float] = []
        common = sum(count for kind, count in requests.items() if self._pace.per_minute.get(kind, 0.0) > 0)
        for kind, count in requests.items():
            steps = self._steps(kind, state.share)
            if not count or steps is None:
                continue
            own, together = steps
            lines = [(state.lines[kind].next_at, own, count)]
            if together is not None:
                lines.append((state.all_next_at, together, common))
            for next_at, step, number in lines:
                # Whoever asked a moment ago has used up its burst, and after a pause there is none.
                ahead = (self._pace.burst - 1) * step if state.trouble else max(next_at - state.now, dt.timedelta())
                took.append(max((ahead + (number - self._pace.burst) * step).total_seconds(), 0.0))
        return max(took, default=None)

    def _enter_in_trouble(self, state: State, kind: Kind, subject: str) -> tuple[float, Permit | None]:
        pause = (_known(state.paused_until) - state.now).total_seconds()
        if pause > 0:
            return pause + self._lots.uniform(0, 0.3), None
        if state.probing_until is not None and state.now < state.probing_until:
            return self._lots.uniform(0.1, 0.4), None
        state.probing_until = state.now + dt.timedelta(seconds=self._pace.lease)
        refusal, denied = state.refusals.get(question(kind, subject)), state.unauthorised.get(kind)
        reference = refusal is not None and self._wants_reference(state, kind, refusal)
        # Whether it is the credentials of this kind alone, an answer to another one tells.
        reference |= kind != "prices" and denied is not None and _is_series(denied)
        _count(state, "prices" if reference else kind)
        return 0.0, Permit("prices" if reference else kind, subject, state.now, probe=True, reference=reference)

    def _steps(self, kind: Kind, share: float) -> tuple[dt.timedelta, dt.timedelta | None] | None:
        """Between two requests of the kind, and of all kinds together; a kind without a limit is not counted there."""
        rate, common = self._pace.per_minute.get(kind, 0.0), self._pace.all_per_minute
        if rate <= 0:
            return None
        return (
            dt.timedelta(seconds=60 / (rate * share)),
            dt.timedelta(seconds=60 / (common * share)) if common > 0 else None,
        )

    def _answered(self, state: State, permit: Permit, asked: str) -> None:
        if state.trouble is not None and permit.entered < _known(state.paused_until):
            # Answered to one that was on its way when everybody stopped.
            return
        if not permit.reference:
            state.refusals.pop(asked, None)
            state.failed_alone = {each: at for each, at in state.failed_alone.items() if not _of(each, permit.kind)}
            state.unauthorised.pop(permit.kind, None)
        if permit.kind != "access":
            # A cookie and a crumb are given to many who are refused all else.
            for kind, denied in state.unauthorised.items():
                denied["others"] |= kind != permit.kind
                if _is_denied(kind, denied):
                    self._was_not_the_rate(state, denied["questions"])
        for each, refusal in list(state.refusals.items()):
            if self._tells(state, permit, each, refusal):
                refusal["unanswered"] = 0
            if state.now - dt.datetime.fromisoformat(refusal["until"]) > REMEMBERED:
                del state.refusals[each]
        if state.trouble is not None:
            if permit.kind == "access":
                state.probing_until = None
                return
            if state.trouble == "throttled":
                state.enough_seconds = (_known(state.paused_until) - _known(state.trouble_since)).total_seconds()
            state.trouble = state.trouble_since = state.probing_until = None
            state.recovered_at, state.answered = state.now, 0
            self._use_up_bursts(state)
        state.down_subjects = []
        if state.share < 1:
            state.answered += 1
            most = 1.0
            if state.refused_share is not None and state.now - _known(state.refused_at) < REMEMBERED:
                most = state.refused_share * JUST_BELOW
            state.share = max(state.share, min(most, state.share + RECOVERY))

    def _throttled(self, state: State, permit: Permit, asked: str, retry_after: float) -> bool:
        """True where it failed by itself."""
        refusal = state.refusals.get(asked)
        if permit.reference:
            refusal = None
        elif refusal is None:
            now = state.now.isoformat()
            state.refusals[asked] = {"alone": 0, "unanswered": 1, "until": now, "since": now}
        else:
            refusal["alone"] += refusal["unanswered"] == 0
            refusal["unanswered"] += 1
        if refusal is None or refusal["alone"] == 0:
            if state.trouble != "throttled":
                self._lower(state, asked)
            self._pause(state, "throttled", retry_after)
            return False
        if state.trouble is not None:
            # As the one that goes ahead it found out nothing about the others.
            state.probing_until = None
        if refusal["alone"] < ALONE:
            pause = max(self._first_pause(state), min(retry_after, self._pace.longest_pause))
            refusal["until"] = (state.now + dt.timedelta(seconds=pause)).isoformat()
            return False
        del state.refusals[asked]
        state.failed_alone[asked] = state.now.isoformat()
        self._was_not_the_rate(state, [asked])
        return True

    def _unauthorised(self, state: State, kind: Kind, asked: str) -> None:
        denied = state.unauthorised.setdefault(kind, {"questions": [], "at": "", "others": False})
        denied["questions"].append(asked)
        denied["at"] = state.now.isoformat()
        if _is_denied(kind, denied):
            self._was_not_the_rate(state, denied["questions"])
        elif _is_series(denied) and (kind == "prices" or not denied["others"]):
            self._lower(state, asked)
            self._pause(state, "throttled")

    def _was_not_the_rate(self, state: State, questions: Sequence[str]) -> None:
        """What the refusal of one of these questions has cost is given back."""
        if state.refused_by in questions and state.refused_share is not None:
            state.share, state.refused_share, state.refused_at = state.refused_share, None, None

    def _tells(self, state: State, permit: Permit, asked: str, refusal: dict[str, Any]) -> bool:
        """Whether an answer to the permit's question tells that this one is not refused for the rate: one of its kind
        does. Company data has a limit of its own, so that one of another kind does only after the longest pause; that
        quotes are refused for good costs nothing but the quotes, so that any answer does."""
        if permit.kind == "access":
            return False
        return _of(asked, permit.kind) or _of(asked, "quotes") or self._lasts(state, refusal)

    def _wants_reference(self, state: State, kind: Kind, refusal: dict[str, Any]) -> bool:
        """Whether nothing else was answered since the question was refused twice, and a well-known ticker's answer
        would tell: then that is asked about first."""
        if refusal["unanswered"] < (2 if refusal["alone"] == 0 else 1):
            return False
        return kind != "company" or self._lasts(state, refusal)

    def _lasts(self, state: State, refusal: dict[str, Any]) -> bool:
        return (state.now - dt.datetime.fromisoformat(refusal["since"])).total_seconds() >= self._pace.longest_pause

    def _lower(self, state: State, asked: str) -> None:
        state.refused_share, state.refused_at, state.refused_by = state.share, state.now, asked
        left = LOWERED if state.answered >= HELD else HALVED
        state.share, state.answered = max(LEAST_SHARE, state.share * left), 0

    def _first_pause(self, state: State) -> float:
        first = self._pace.first_pause
        if state.enough_seconds is None or state.now - (state.recovered_at or state.now) > REMEMBERED:
            return first
        return min(max(first, state.enough_seconds), self._pace.longest_pause)

    def _pause(self, state: State, trouble: str, retry_after: float = 0.0) -> None:
        if state.trouble is None:
            pause = self._first_pause(state) if trouble == "throttled" else self._pace.first_pause
        else:
            pause = state.pause_seconds * self._lots.uniform(*GROWTH)
        pause = min(max(pause, self._pace.first_pause), self._pace.longest_pause)
        length = max(pause, min(retry_after, self._pace.longest_pause))
        state.trouble, state.trouble_since = trouble, state.trouble_since or state.now
        state.paused_at, state.paused_until = state.now, state.now + dt.timedelta(seconds=length)
        state.pause_seconds, state.probing_until = pause, None

    def _use_up_bursts(self, state: State) -> None:
        """Nobody makes up for a pause."""
        for kind, line in state.lines.items():
            steps = self._steps(kind, state.share)
            if steps is not None:
                own, common = steps
                line.next_at = state.now + (self._pace.burst - 1) * own
                if common is not None:
                    state.all_next_at = state.now + (self._pace.burst - 1) * common


def _is_series(denied: Mapping[str, Any]) -> bool:
    """Whether the credentials of several questions of a kind were refused."""
    return len(denied["questions"]) >= STREAK and len(set(denied["questions"])) > 1


def _is_denied(kind: str, denied: Mapping[str, Any]) -> bool:
    """Whether they are refused while other kinds are answered, with new credentials, too. Bars need none; where they
    are to have some, each process finds that out once."""
    again = len(denied["questions"]) - len(set(denied["questions"]))
    return kind != "prices" and bool(denied["others"]) and _is_series(denied) and again >= ALONE


def _count(state: State, kind: Kind) -> None:
    line = state.lines[kind]
    line.sent, line.asked_at = line.sent + 1, state.now


def _reaction(state: State) -> Reaction:
    return "none" if state.trouble is None else "paused"


def _of(asked: str, kind: Kind) -> bool:
    return asked.startswith(f"{kind}:")


def _known(instant: dt.datetime | None) -> dt.datetime:
    """The instant that a state in trouble has. Raises ValueError for a state that contradicts itself."""
    if instant is None:
        raise ValueError("a pause without its instants")
    return instant
