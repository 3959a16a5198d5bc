"""Which runs are going on at one database, from whatever machine, luigid and folder they were started.

Each holds an advisory lock there, on a connection of its own, for as long as its process lives; nothing is left behind
that would have to be cleaned up. Where the server breaks that connection off, the run is no longer seen; nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from luigi_tasks.database.engine import as_ours, engine_for
from luigi_tasks.errors import AnotherRun

# The first of an advisory lock's two numbers: any will do that is ours. The second one stands for the run's parameters.
_RUNS = 0x5EC0_0002

# Of other users' sessions PostgreSQL shows the name, but not everybody the address.
_OTHERS = """
    SELECT objid::bigint AS parameters,
        replace(application_name, 'luigi_tasks', 'process') || coalesce(' on ' || host(client_addr), '') AS who
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND classid = CAST(:runs AS bigint) AND objsubid = 2 AND granted
        AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND pid <> pg_backend_pid()
    ORDER BY backend_start
"""

# A connection that nothing refers to is closed.
_held: list[sa.Connection] = []
_sockets: list[int] = []


def _let_go() -> None:
    # A child that outlives its parent for a moment must not seem to be the run, nor say goodbye in the parent's name.
    while _sockets:
        os.close(_sockets.pop())


os.register_at_fork(after_in_child=_let_go)


def enter(database_url: str, task_family: str, parameters: Mapping[str, Any]) -> list[str]:
    """Be seen until this process ends; returns who else is running, in words, with other parameters.

    Raises:
        AnotherRun: with the same parameters somebody is.
        DatabaseUnavailable, DatabaseRefused.
    """
    engine = engine_for(database_url)
    what = json.dumps([task_family, parameters], sort_keys=True, default=str)
    number = int.from_bytes(hashlib.sha256(what.encode()).digest()[:4], "big", signed=True)
    try:
        connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()
        got = connection.scalar(sa.select(sa.func.pg_try_advisory_lock(_RUNS, number)))
        others = connection.execute(sa.text(_OTHERS), {"runs": _RUNS}).all()
    except DBAPIError as error:
        raise as_ours(engine, "the runs that are going on", error) from error
    if not got:
        connection.close()
        same = [other.who for other in others if other.parameters == number % 2**32]
        raise AnotherRun(
            "the same run", f"is going on at this database ({', '.join(same)})", "Run again when it has ended."
        )
    _held.append(connection)
    _sockets.append(connection.connection.dbapi_connection.fileno())  # type: ignore[union-attr]
    return [other.who for other in others]
