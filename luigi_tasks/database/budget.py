"""One request budget for all processes and machines that share a database.

Rate: GCRA (the generic cell rate algorithm, ITU-T I.371), one row a kind of endpoint. A kind's row holds the instant
from which on its burst is unused; whoever may not send yet reserves the next free instant and sleeps until then.

Throttling: the first 429 stops everybody for a pause that grows with decorrelated jitter (Brooker, "Exponential
Backoff And Jitter", 2015). When it is over one request goes ahead; an answer to it lets the others follow, without a
burst. Each throttling halves the rates, each answer gives back a hundredth (additive increase, multiplicative
decrease). A provider that answers several subjects in a row with nothing usable is paused in the same way.

The clock is the database's. Should it be set back, so is every instant kept here: nobody waits for the old time to come
round again. A transaction that only counts requests need not survive a crash of the server, so it does
not wait for the disk.
"""

from __future__ import annotations

import datetime as dt
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from luigi_tasks.budget import KINDS, Access, Forecast, Kind, Outcome, Pace, Permit
from luigi_tasks.database.engine import engine_for, transaction
from luigi_tasks.database.schema import provider_access, request_rates, request_state, runs
from luigi_tasks.errors import DownTooLong, ThrottledTooLong

logger = logging.getLogger(__name__)

DOWN_STREAK = 5
"""Different subjects in a row without a usable answer that make a provider count as down."""

_LEAST_SHARE = 0.05
_RECOVERY = 0.01
_ACCESS_LOCK = 0x5EC0_ACCE
_SUBJECT = "the request budget"

# Not the module's own generator: forked children must not draw alike.
_random = random.SystemRandom()


class PostgresBudget:
    """A `luigi_tasks.budget.Budget`; made in the process that uses it."""

    patient = True

    def __init__(self, database_url: str, pace: Pace, run_id: str = "") -> None:
        """Of a run's patience only the time since that run began counts."""
        self._engine = engine_for(database_url)
        self._pace = pace
        self._run_id = run_id

    def enter(self, kind: Kind, subject: str) -> Permit:
        """See Budget. Raises DatabaseUnavailable, too."""
        while True:
            wait, permit = self._ask(kind, subject)
            if wait > 0:
                time.sleep(wait)
            if permit is not None and (wait <= 0 or self._keeps_place(permit, wait)):
                return permit

    def leave(self, permit: Permit, outcome: Outcome, retry_after: float = 0.0) -> None:
        """See Budget."""
        if outcome == "answered" and permit.quiet:
            return
        with self._locked() as (connection, state):
            if outcome == "throttled":
                of_kind = sa.update(request_rates).where(request_rates.c.kind == permit.kind)
                connection.execute(of_kind.values(throttled=request_rates.c.throttled + 1))
            if outcome == "answered":
                self._answered(connection, state, permit)
            elif state.paused_at is not None and permit.entered <= state.paused_at:
                # Sent before everybody stopped: the same incident, not another one.
                return
            elif outcome == "throttled":
                self._pause(connection, state, "throttled", retry_after)
                share = sa.func.greatest(_LEAST_SHARE, request_rates.c.share / 2)
                connection.execute(sa.update(request_rates).values(share=share))
            elif permit.probe and state.trouble is not None:
                self._pause(connection, state, state.trouble)
            elif state.trouble is None and permit.subject not in state.down_subjects:
                subjects = [*state.down_subjects, permit.subject]
                _set(connection, down_subjects=subjects)
                if len(subjects) >= DOWN_STREAK:
                    self._pause(connection, state, "down")

    def check_patience(self) -> None:
        """Raise PatienceExhausted if that is what the next request would meet; waits for nothing."""
        with self._locked() as (connection, state):
            if state.trouble is not None:
                self._time_left(connection, state)

    def access(self) -> Access | None:
        """See Budget."""
        with transaction(self._engine, _SUBJECT) as connection:
            return _access(connection)

    def renew_access(self, refused: Access | None, fetch: Callable[[], Access]) -> Access:
        """See Budget. The lock goes with its transaction, so it cannot outlive its process."""
        while True:
            with transaction(self._engine, "the provider's session") as connection:
                present = _access(connection)
                if present is not None and present != refused:
                    return present
                if connection.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(_ACCESS_LOCK))):
                    present = _access(connection)
                    if present is not None and present != refused:
                        return present
                    fetched = fetch()
                    row = {"crumb": fetched.crumb, "cookies": list(fetched.cookies)}
                    connection.execute(sa.delete(provider_access))
                    connection.execute(sa.insert(provider_access).values(row))
                    return fetched
            self.check_patience()
            time.sleep(_random.uniform(0.1, 0.4))

    def sent(self) -> dict[str, int]:
        """{kind: requests that were let through}, since the tables were made."""
        with transaction(self._engine, _SUBJECT) as connection:
            return {row.kind: row.sent for row in connection.execute(sa.select(request_rates))}

    def forecast(self, requests: Mapping[Kind, int]) -> Forecast:
        """How long so many requests take at least, at the rates as they are now, if others send none."""
        with transaction(self._engine, _SUBJECT) as connection:
            rates = {row.kind: row for row in connection.execute(sa.select(request_rates))}
            state = connection.execute(sa.select(request_state, sa.func.clock_timestamp().label("now"))).one()
        paused = max((state.paused_until - state.now).total_seconds(), 0.0) if state.trouble is not None else 0.0
        seconds: dict[Kind, float] = {}
        for kind, count in requests.items():
            rate = self._pace.per_minute[kind] * rates[kind].share
            if count and rate > 0:
                # Whoever asked a moment ago has used up its burst, and after a pause there is none.
                used = max((rates[kind].next_at - state.now).total_seconds(), 0.0)
                if state.trouble is not None:
                    used = (self._pace.burst - 1) * 60 / rate
                seconds[kind] = max(used + (count - self._pace.burst) * 60 / rate, 0.0)
        return Forecast(seconds, paused)

    def _ask(self, kind: Kind, subject: str) -> tuple[float, Permit | None]:
        """Seconds to wait, then the permit, or None: to ask again."""
        with self._locked() as (connection, state):
            if state.trouble is not None:
                left = self._time_left(connection, state)
                pause = (state.paused_until - state.now).total_seconds()
                if pause > 0:
                    return min(pause + _random.uniform(0, 0.3), left + 0.01), None
                if state.probing_until is not None and state.now < state.probing_until:
                    return _random.uniform(0.1, 0.4), None
                _set(connection, probing_until=state.now + dt.timedelta(seconds=self._pace.lease))
                self._count(connection, kind, state.now)
                return 0.0, Permit(kind, subject, state.now, probe=True)
            rate = connection.execute(sa.select(request_rates).where(request_rates.c.kind == kind)).one()
            ceiling = self._pace.per_minute[kind]
            permit = Permit(kind, subject, state.now, quiet=not state.down_subjects and rate.share >= 1)
            if ceiling <= 0:
                self._count(connection, kind, state.now)
                return 0.0, permit
            step = dt.timedelta(seconds=60 / (ceiling * rate.share))
            taken = max(rate.next_at, state.now)
            self._count(connection, kind, state.now, next_at=taken + step)
            wait = (taken - step * (self._pace.burst - 1) - state.now).total_seconds()
            if wait <= 0:
                return 0.0, permit
            later = state.now + dt.timedelta(seconds=wait)
            return wait, Permit(kind, subject, later, quiet=permit.quiet)

    def _answered(self, connection: sa.Connection, state: Any, permit: Permit) -> None:
        if state.trouble is not None and permit.entered < state.paused_until:
            # Answered to one that was on its way when everybody stopped.
            return
        over = {"trouble": None, "trouble_since": None, "probing_until": None, "recovered_at": state.now}
        _set(connection, down_subjects=[], **(over if state.trouble is not None else {}))
        share = sa.func.least(1, request_rates.c.share + _RECOVERY)
        connection.execute(sa.update(request_rates).values(share=share).where(request_rates.c.share < 1))
        if state.trouble is not None:
            self._use_up_bursts(connection, state.now)

    def _pause(self, connection: sa.Connection, state: Any, trouble: str, retry_after: float = 0.0) -> None:
        pace, recent = self._pace, state.trouble is not None
        if not recent and state.recovered_at is not None:
            # Later than that it is the rate that was too high, not the pause that was too short.
            recent = (state.now - state.recovered_at).total_seconds() < state.pause_seconds
        pause = _random.uniform(pace.first_pause, 3 * state.pause_seconds) if recent else pace.first_pause
        pause = min(max(pause, pace.first_pause), pace.longest_pause)
        until = state.now + dt.timedelta(seconds=max(pause, min(retry_after, pace.longest_pause)))
        _set(
            connection,
            trouble=trouble,
            trouble_since=state.trouble_since or state.now,
            paused_at=state.now,
            paused_until=until,
            pause_seconds=pause,
            probing_until=None,
        )

    def _use_up_bursts(self, connection: sa.Connection, now: dt.datetime) -> None:
        """Nobody makes up for a pause."""
        for kind in KINDS:
            if self._pace.per_minute[kind] > 0:
                used = (self._pace.burst - 1) * 60 / self._pace.per_minute[kind]
                later = sa.func.make_interval(0, 0, 0, 0, 0, 0, used / request_rates.c.share)
                change = sa.update(request_rates).where(request_rates.c.kind == kind)
                connection.execute(change.values(next_at=sa.literal(now, sa.DateTime(timezone=True)) + later))

    def _time_left(self, connection: sa.Connection, state: Any) -> float:
        """Seconds of patience. Raises PatienceExhausted when they are over."""
        begun = connection.scalar(sa.select(runs.c.started_at).where(runs.c.run_id == self._run_id))
        throttled = state.trouble == "throttled"
        patience = self._pace.patience if throttled else self._pace.outage_patience
        if begun is not None and state.paused_at < begun:
            # Nothing has been asked since the run began: whatever was before, it may be over.
            return patience
        waited = (state.now - max(state.trouble_since, begun or state.trouble_since)).total_seconds()
        if waited < patience:
            return float(patience - waited)
        remedy = "What is done is kept; run again later to go on."
        if throttled:
            raise ThrottledTooLong("Yahoo Finance", f"throttled every request for {waited:.0f} s", remedy)
        raise DownTooLong("Yahoo Finance", f"gave no usable answer for {waited:.0f} s", remedy)

    def _keeps_place(self, permit: Permit, waited: float) -> bool:
        """Whether nobody has paused since the place was reserved; after a pause places are handed out anew."""
        reserved = permit.entered - dt.timedelta(seconds=waited)
        with transaction(self._engine, _SUBJECT) as connection:
            state = connection.execute(sa.select(request_state)).one()
            if state.trouble is None and (state.paused_at is None or state.paused_at <= reserved):
                return True
            given_up = sa.update(request_rates).where(request_rates.c.kind == permit.kind)
            connection.execute(given_up.values(sent=request_rates.c.sent - 1))
            return False

    @staticmethod
    def _count(connection: sa.Connection, kind: Kind, now: dt.datetime, **changes: Any) -> None:
        change = sa.update(request_rates).where(request_rates.c.kind == kind)
        connection.execute(change.values(sent=request_rates.c.sent + 1, asked_at=now, **changes))

    @contextmanager
    def _locked(self) -> Iterator[tuple[sa.Connection, Any]]:
        """The state's row, for this transaction alone, and the time at which it was got."""
        with transaction(self._engine, _SUBJECT) as connection:
            connection.execute(sa.text("SET LOCAL synchronous_commit = off"))
            connection.execute(sa.select(request_state.c.only_row).with_for_update())
            yield connection, _state(connection)


def _state(connection: sa.Connection) -> Any:
    """The state, with the present as `now`: to be read after the lock, since until then time goes by."""
    now = sa.func.clock_timestamp().label("now")
    asked = sa.select(sa.func.max(request_rates.c.asked_at)).scalar_subquery().label("asked_at")
    state = connection.execute(sa.select(request_state, asked, now)).one()
    been = [instant for instant in (state.asked_at, state.paused_at, state.recovered_at) if instant is not None]
    back = max(been, default=state.now) - state.now
    if back <= dt.timedelta():
        return state
    logger.warning("the database server's clock was set back by %s at least", back)
    for table in (request_rates, request_state):
        instants = [column for column in table.c if isinstance(column.type, sa.DateTime)]
        connection.execute(sa.update(table).values({column: column - back for column in instants}))
    return connection.execute(sa.select(request_state, sa.literal(state.now).label("now"))).one()


def _set(connection: sa.Connection, **values: Any) -> None:
    connection.execute(sa.update(request_state).values(values))


def _access(connection: sa.Connection) -> Access | None:
    row = connection.execute(sa.select(provider_access)).one_or_none()
    return None if row is None else Access(row.crumb, tuple(row.cookies))
