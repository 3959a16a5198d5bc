"""Which runs are going on at one database, from whatever machine, luigid and folder they were started.

Each holds two advisory locks there, on a connection of its own, for as long as its process lives: one stands for what
it is about, one for itself. Nothing is left behind that would have to be cleaned up. Where the server breaks that
connection off, the run takes both again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from luigi_tasks.database.engine import as_ours, engine_for, new_engine
from luigi_tasks.errors import AnotherRun, SecuritiesMasterError

logger = logging.getLogger(__name__)

# The first of an advisory lock's two numbers: any will do that is ours. The second one stands for the run's parameters,
# or for its name.
_RUNS = 0x5EC0_0002
_NAMES = 0x5EC0_0003

# Of other users' sessions PostgreSQL shows the name, but not everybody the address.
_OTHERS = """
    SELECT objid::bigint AS number,
        replace(application_name, 'luigi_tasks', 'process') || coalesce(' on ' || host(client_addr), '') AS who
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND classid = CAST(:locks AS bigint) AND objsubid = 2 AND granted
        AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND pid <> pg_backend_pid()
    ORDER BY backend_start
"""


class _Presence:
    """What this process holds. A connection that nothing refers to is closed."""

    connection: sa.Connection | None = None
    driver: Any = None
    """psycopg2's own connection, which knows its socket."""
    # An engine of its own: it may connect again in the midst of a fork, and a child inherits locks as they are.
    engine: sa.Engine | None = None
    what = 0
    name = 0


def _let_go() -> None:
    # A child that outlives its parent for a moment must not seem to be the run, nor say goodbye in the parent's name.
    # Once the server has broken it off, there is no socket, and its number may be another file's.
    if _Presence.driver is not None and not _Presence.driver.closed:
        socket: int = _Presence.driver.fileno()
        if socket >= 0:
            os.close(socket)
    _Presence.driver = _Presence.engine = None


os.register_at_fork(after_in_child=_let_go)


def enter(database_url: str, task_family: str, parameters: Mapping[str, Any], run_id: str) -> list[str]:
    """Be seen until this process ends; returns who else is running, in words, with other parameters.

    Raises:
        AnotherRun: with the same parameters somebody is.
        DatabaseUnavailable, DatabaseRefused.
    """
    what = json.dumps([task_family, parameters], sort_keys=True, default=str)
    _Presence.engine = new_engine(database_url)
    _Presence.what, _Presence.name = _number(what), _number(run_id)
    got, found = _take()
    if not got:
        same = [other.who for other in found if other.number == _Presence.what % 2**32]
        raise AnotherRun(
            "the same run", f"is going on at this database ({', '.join(same)})", "Run again when it has ended."
        )
    return [other.who for other in found]


def keep() -> None:
    """Be seen again if the server has broken the connection off; to be called now and then by whoever has entered."""
    if _Presence.engine is None:
        return
    try:
        _held().execute(sa.text("SELECT 1"))
    except SQLAlchemyError:
        try:
            got, _ = _take()
        except SecuritiesMasterError as error:
            logger.debug("this run is not seen for the moment: %s", error)
            return
        if not got:
            logger.warning("the same run was started besides, while the database was away; what is stored is the same")


def is_alone() -> bool:
    """Whether nobody else is running, as far as this process, which has entered, can tell."""
    try:
        return _held().execute(sa.text(_OTHERS), {"locks": _RUNS}).first() is None
    except SQLAlchemyError:
        return False


def _held() -> sa.Connection:
    assert _Presence.connection is not None, "enter comes first"
    return _Presence.connection


def is_going_on(database_url: str, run_id: str) -> bool:
    """Whether the process of this run lives.

    Raises:
        DatabaseUnavailable, DatabaseRefused.
    """
    engine = engine_for(database_url)
    try:
        with engine.connect() as connection:
            found = connection.execute(sa.text(_OTHERS), {"locks": _NAMES})
            return any(other.number == _number(run_id) % 2**32 for other in found)
    except DBAPIError as error:
        raise as_ours(engine, "the runs that are going on", error) from error


def _take() -> tuple[bool, list[Any]]:
    """Whether the lock for what the run is about was to be had, and who else holds one of the kind."""
    engine = _Presence.engine
    assert engine is not None
    try:
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()
        got = bool(connection.scalar(sa.select(sa.func.pg_try_advisory_lock(_RUNS, _Presence.what))))
        connection.scalar(sa.select(sa.func.pg_try_advisory_lock(_NAMES, _Presence.name)))
        found = list(connection.execute(sa.text(_OTHERS), {"locks": _RUNS}))
    except DBAPIError as error:
        raise as_ours(engine, "the runs that are going on", error) from error
    _Presence.connection = connection
    _Presence.driver = connection.connection.dbapi_connection
    return got, found


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big", signed=True)
