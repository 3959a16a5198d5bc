"""One request budget for all processes and machines that share a database; `pacing.py` has its rules.

The clock is the database's. Should it be set back, so is every instant kept here: nobody waits for the old time to come
round again. A transaction that only counts requests need not survive a crash of the server, so it does
not wait for the disk.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from luigi_tasks.budget import FIRST_CLAIM, Access, Forecast, Kind, Outcome, Pace, Permit, Reaction
from luigi_tasks.database.engine import engine_for, transaction
from luigi_tasks.database.schema import provider_access, request_rates, request_state, runs
from luigi_tasks.errors import DownTooLong, PatienceExhausted, RefusedAltogether, ThrottledTooLong
from luigi_tasks.pacing import Line, Pacing, State

logger = logging.getLogger(__name__)

_ACCESS_LOCK = 0x5EC0_ACCE
_SUBJECT = "the request budget"
_REMEDY = "What is done is kept; run again later to go on."
_NAMES: dict[Kind, str] = {"prices": "bars", "quotes": "quotes", "company": "company data", "access": "a crumb"}

# Not the module's own generator: forked children must not draw alike.
_random = random.SystemRandom()


class PostgresBudget:
    """A `luigi_tasks.budget.Budget`; made in the process that uses it."""

    patient = True

    def __init__(self, database_url: str, pace: Pace, run_id: str = "") -> None:
        """Of a run's patience only the time since that run began counts."""
        self._engine = engine_for(database_url)
        self._pace = pace
        self._pacing = Pacing(pace)
        self._run_id = run_id

    def enter(self, kind: Kind, subject: str) -> Permit:
        """See Budget. Raises DatabaseUnavailable, too."""
        while True:
            wait, permit = self._ask(kind, subject)
            if wait > 0:
                time.sleep(wait)
            if permit is not None and (wait <= 0 or self._keeps_place(permit, wait)):
                return permit

    def leave(self, permit: Permit, outcome: Outcome, retry_after: float = 0.0) -> Reaction:
        """See Budget."""
        if outcome == "answered" and permit.quiet:
            return "none"
        with self._locked() as (_, state):
            return self._pacing.leave(state, permit, outcome, retry_after)

    def check_patience(self) -> None:
        """Raise PatienceExhausted if that is what the next request would meet; waits for nothing."""
        with self._locked() as (connection, state):
            self._check_patience(state, self._begun(connection, state))

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
        with self._locked() as (_, state):
            paused = 0.0
            if state.trouble is not None and state.paused_until is not None:
                paused = max((state.paused_until - state.now).total_seconds(), 0.0)
            first = {kind: requests.get(kind, 0) for kind in FIRST_CLAIM}
            closes = self._pacing.duration(state, first)
            company = self._pacing.duration(state, {"company": requests.get("company", 0)})
        return Forecast(closes, None if company is None else company + (closes or 0.0), paused)

    def _ask(self, kind: Kind, subject: str) -> tuple[float, Permit | None]:
        """Seconds to wait, then the permit, or None: to ask again."""
        with self._locked() as (connection, state):
            begun = self._begun(connection, state)
            if self._pacing.refused_altogether(state, kind, begun):
                raise RefusedAltogether(
                    "Yahoo Finance", f"refuses every request for {_NAMES[kind]}, and answers others", _REMEDY
                )
            left = self._check_patience(state, begun)
            wait, permit = self._pacing.enter(state, kind, subject)
            return min(wait, left + 0.01), permit

    def _check_patience(self, state: State, begun: dt.datetime | None) -> float:
        """Seconds of patience that are left. Raises PatienceExhausted when they are over."""
        if state.trouble is None or state.trouble_since is None or state.paused_at is None:
            return float("inf")
        throttled = state.trouble == "throttled"
        patience = self._pace.patience if throttled else self._pace.outage_patience
        if begun is not None and state.paused_at < begun:
            # Nothing has been asked since the run began: whatever was before, it may be over.
            return patience
        waited = (state.now - max(state.trouble_since, begun or state.trouble_since)).total_seconds()
        if waited < patience:
            return float(patience - waited)
        kind: type[PatienceExhausted] = ThrottledTooLong if throttled else DownTooLong
        what = "throttled every request" if throttled else "gave no usable answer"
        raise kind("Yahoo Finance", f"{what} for {waited:.0f} s", _REMEDY)

    def _begun(self, connection: sa.Connection, state: State) -> dt.datetime | None:
        """When this run began, where it matters: in most runs nothing is amiss, and nobody need be asked."""
        if state.trouble is None and not state.failed_alone:
            return None
        return connection.scalar(sa.select(runs.c.started_at).where(runs.c.run_id == self._run_id))

    def _keeps_place(self, permit: Permit, waited: float) -> bool:
        with self._locked() as (_, state):
            return self._pacing.keeps_place(state, permit, waited)

    @contextmanager
    def _locked(self) -> Iterator[tuple[sa.Connection, State]]:
        """The state, for this transaction alone, at the time at which it was got; what was changed of it is kept."""
        with transaction(self._engine, _SUBJECT) as connection:
            connection.execute(sa.text("SET LOCAL synchronous_commit = off"))
            connection.execute(sa.select(request_state.c.only_row).with_for_update())
            state = _read(connection)
            before = dataclasses.asdict(state)
            _set_back(state)
            yield connection, state
            _write(connection, before, dataclasses.asdict(state))


def _read(connection: sa.Connection) -> State:
    """The state, with the present as `now`: to be read after the lock, since until then time goes by."""
    row = connection.execute(sa.select(request_state, sa.func.clock_timestamp().label("now"))).mappings().one()
    lines = {
        each.pop("kind"): Line(**each) for each in map(dict, connection.execute(sa.select(request_rates)).mappings())
    }
    return State(lines=lines, **{name: value for name, value in row.items() if name != "only_row"})


def _set_back(state: State) -> None:
    """Where the clock was set back since the state was changed, set back all that it knows of."""
    asked = [line.asked_at for line in state.lines.values()]
    been = [instant for instant in (*asked, state.paused_at, state.recovered_at) if instant is not None]
    back = max(been, default=state.now) - state.now
    if back > dt.timedelta():
        logger.warning("the database server's clock was set back by %s at least", back)
        for part in (state, *state.lines.values()):
            for name, value in vars(part).items():
                if isinstance(value, dt.datetime) and name != "now":
                    setattr(part, name, value - back)
        state.refusals, state.failed_alone = {}, {}


def _write(connection: sa.Connection, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """What differs, of what is kept."""
    for kind, line in after["lines"].items():
        if line != before["lines"][kind]:
            connection.execute(sa.update(request_rates).where(request_rates.c.kind == kind).values(line))
    changed = {name: value for name, value in after.items() if value != before[name] and name not in ("now", "lines")}
    if changed:
        connection.execute(sa.update(request_state).values(changed))


def _access(connection: sa.Connection) -> Access | None:
    row = connection.execute(sa.select(provider_access)).one_or_none()
    return None if row is None else Access(row.crumb, tuple(row.cookies))
