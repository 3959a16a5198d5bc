"""How this project reaches PostgreSQL: one engine a process, errors of ours, and the migrations."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from luigi_tasks.errors import (
    ConfigurationError,
    DatabaseRefused,
    DatabaseUnavailable,
    InvalidData,
    SecuritiesMasterError,
)

OLDEST_SERVER = 13
_CONNECT_SECONDS = 5
_FRESH_SECONDS = 1.0
"""A connection used so lately is taken to be there; where it is not, the statement fails and is tried again."""
_MIGRATIONS = Path(__file__).parent / "migrations"
# Any number does, as long as it is ours: two first runs at once must not both create the tables.
_MIGRATION_LOCK = 0x5EC0_A57E

# SQLSTATE classes and codes after which the same statement may well succeed: connection, shutdown or start-up,
# deadlock or serialisation, too many connections, lock not available.
_TRANSIENT = ("08", "40", "57P", "53300", "55P03")
# Values that do not fit their column, and the constraints NOT NULL, UNIQUE and CHECK.
_BAD_VALUE = ("22", "23502", "23505", "23514")

_NOT_ALLOWED = "42501"
# A table or a function that is not there.
_NOT_MIGRATED = ("42P01", "42883")

# PostgreSQL's words for refusals that pass; a refused connection carries no SQLSTATE.
_PASSING = ("starting up", "shutting down", "recovery", "too many", "remaining connection slots")

# Options of libpq whose variable is not PG and the option's name in capitals.
_LIBPQ_VARIABLES = {"dbname": "PGDATABASE", "application_name": "PGAPPNAME", "connect_timeout": "PGCONNECT_TIMEOUT"}

# libpq's words, before any connection, for a server that TLS as asked for is not to be had with.
_UNPROVED = ("certificate", "does not support SSL")

_engines: weakref.WeakSet[sa.Engine] = weakref.WeakSet()


def _forget_connections() -> None:
    # Two processes on one connection mix their answers; `close=False` leaves the parent's connection alone.
    for engine in _engines:
        engine.dispose(close=False)


os.register_at_fork(after_in_child=_forget_connections)


def normalised_url(database_url: str) -> sa.URL:
    """The URL for SQLAlchemy with psycopg2, from any of the usual spellings (postgres://, postgresql://).

    Raises:
        ConfigurationError: not a PostgreSQL URL; the message does not show it, since it may hold a password.
    """
    remedy = "It looks like postgresql://user:password@host:5432/database."
    try:
        url = sa.make_url(database_url)
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError("DATABASE_URL", "is not a database URL", remedy) from error
    if url.drivername.partition("+")[0] not in ("postgres", "postgresql"):
        raise ConfigurationError("DATABASE_URL", f"is for {url.drivername!r}, not for PostgreSQL", remedy)
    if "@" in (url.host or ""):
        raise ConfigurationError("DATABASE_URL", "has an @ in its password", "Write it as %40.")
    return url.set(drivername="postgresql+psycopg2")


def libpq_environment(database_url: str) -> dict[str, str]:
    """The URL, all its options included, as the variables that libpq reads: other users cannot see them.

    Options that libpq has no variable for (keepalives and its kin) are named after the same rule, and ignored by it.
    """
    url = normalised_url(database_url)
    _, options = url.get_dialect()().create_connect_args(url)
    return {_LIBPQ_VARIABLES.get(name) or f"PG{name.upper().replace('_', '')}": str(options[name]) for name in options}


@lru_cache(maxsize=8)
def engine_for(database_url: str) -> sa.Engine:
    """The engine of this process for that database; a forked child gets connections of its own."""
    return new_engine(database_url)


def new_engine(database_url: str, statement_seconds: int | None = None) -> sa.Engine:
    """Another engine for that database, of which a statement may take so long; None: as the server has it."""
    timeout = "" if statement_seconds is None else f" -c statement_timeout={statement_seconds}s"
    url = normalised_url(database_url)
    engine = sa.create_engine(
        url,
        pool_size=1,
        max_overflow=4,
        hide_parameters=True,
        # These go before those of the URL.
        connect_args={
            "connect_timeout": url.query.get("connect_timeout", _CONNECT_SECONDS),
            "options": f"{url.query.get('options', '')} -c timezone=UTC -c client_encoding=UTF8{timeout}",
        },
    )
    sa.event.listen(engine, "do_connect", _say_who_connects)
    sa.event.listen(engine, "checkin", _note_return)
    sa.event.listen(engine, "checkout", partial(_require_alive, engine.dialect))
    _engines.add(engine)
    return engine


def _note_return(connection: object, record: ConnectionPoolEntry) -> None:
    record.info["returned"] = time.monotonic()


def _require_alive(dialect: sa.Dialect, connection: Any, record: ConnectionPoolEntry, _: object) -> None:
    """Have another connection made where this one has lain idle, and is broken. SQLAlchemy's pool_pre_ping asks each
    time, which is every other statement of a ticker's."""
    returned = record.info.get("returned")
    if returned is None or time.monotonic() - returned < _FRESH_SECONDS:
        return
    try:
        dialect.do_ping(connection)
    except Exception as error:
        raise sa.exc.DisconnectionError from error


def _say_who_connects(dialect: object, record: object, args: list[object], parameters: dict[str, object]) -> None:
    # In pg_stat_activity, so that a lock can be traced to its process; made here, after any fork.
    parameters["application_name"] = f"luigi_tasks {os.getpid()}"


def shown(database_url: str) -> str:
    """The URL as people may see it: without its password."""
    url = normalised_url(database_url)
    # Of the query only the socket's folder: a password may stand there, too.
    query = {"host": url.query["host"]} if "host" in url.query else {}
    return url.set(drivername="postgresql", query=query).render_as_string(hide_password=True)


@contextmanager
def transaction(engine: sa.Engine, subject: str) -> Iterator[sa.Connection]:
    """A connection in a transaction that commits at the end of the block, or rolls back on any error.

    Raises:
        DatabaseUnavailable, DatabaseRefused, InvalidData: in place of the driver's errors, about `subject`.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except DBAPIError as error:
        raise as_ours(engine, subject, error) from error


def copy(connection: sa.Connection, statement: str, file: IO[bytes]) -> int:
    """Run a COPY from or to a file; returns the number of rows. Raises DBAPIError, as every statement does."""
    cursor = connection.connection.cursor()
    try:
        cursor.copy_expert(statement, file)
        return int(cursor.rowcount)
    except Exception as error:
        # SQLAlchemy only translates what goes through it; the driver's own error carries the SQLSTATE.
        dialect = connection.dialect.dbapi
        if dialect is not None and isinstance(error, dialect.Error):
            raise DBAPIError.instance(statement, None, error, dialect.Error) from error
        raise
    finally:
        cursor.close()


def as_ours(engine: sa.Engine, subject: str, error: DBAPIError) -> SecuritiesMasterError:
    """The error of ours for one of the driver's."""
    code = getattr(error.orig, "pgcode", None)
    words = " ".join(str(error.orig).split())
    # A server that dies in mid-statement is now and then told as a mere DatabaseError.
    gone = error.connection_invalidated or isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError))
    if code is None and gone:
        where = shown(engine.url.render_as_string(hide_password=False))
        if "FATAL" not in words and any(unproved in words for unproved in _UNPROVED):
            return DatabaseRefused(
                subject,
                f"PostgreSQL at {where} does not prove who it is, as sslmode in DATABASE_URL wants it ({words})",
                "See sslrootcert there, and the server's certificate.",
            )
        if "FATAL" in words and not any(passing in words for passing in _PASSING):
            no_database = "database" in words and "does not exist" in words
            remedy = "./run.sh up makes the embedded one; make your own by CREATE DATABASE." if no_database else ""
            return DatabaseRefused(
                subject, f"PostgreSQL at {where} refused the connection ({words})", remedy or "See DATABASE_URL."
            )
        return DatabaseUnavailable(
            subject, f"PostgreSQL at {where} does not answer ({words})", "Start it (./run.sh up) or set DATABASE_URL."
        )
    if code is not None and code.startswith(_TRANSIENT):
        return DatabaseUnavailable(subject, f"PostgreSQL broke off ({code}: {words})", "Running again is enough.")
    if code is not None and code.startswith(_BAD_VALUE):
        return InvalidData(subject, f"PostgreSQL refused a value ({code}: {words})")
    if code in _NOT_MIGRATED:
        return DatabaseRefused(subject, f"PostgreSQL lacks our tables ({code}: {words})", "./run.sh up makes them.")
    return DatabaseRefused(subject, f"PostgreSQL refused ({code or type(error).__name__}: {words})")


def migrate(engine: sa.Engine) -> None:
    """Bring the tables to this version's schema; quick when they are.

    Raises:
        DatabaseRefused: the server is too old, its tables are of a later version of this project, or of an earlier one
            and whoever is connected may not change them.
    """
    newest = newest_revision()
    with transaction(engine, "the database schema") as connection:
        server = int(str((connection.dialect.server_version_info or (0,))[0]))
        if server < OLDEST_SERVER:
            raise DatabaseRefused(
                "PostgreSQL", f"the server is version {server}", f"{OLDEST_SERVER} or later is needed."
            )
        current = current_revision(connection)
        if current == newest:
            return
        lock_schema(connection)
        user = connection.scalar(sa.text("SELECT current_user"))
        try:
            move_to(connection, newest)
        except DBAPIError as error:
            if getattr(error.orig, "pgcode", None) != _NOT_ALLOWED:
                raise
            raise DatabaseRefused(
                "the database schema",
                f"is {current or 'not there'}, {newest} is needed, and {user!r} may not change it",
                "Whoever owns the database has to run ./run.sh migrate.",
            ) from error


def revisions() -> list[str]:
    """The schemas that this version knows, oldest first.

    By the names of the files, since importing Alembic takes half a second.
    """
    return sorted(path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))


def newest_revision() -> str:
    """The schema of this version."""
    return revisions()[-1]


def lock_schema(connection: sa.Connection) -> None:
    """Keep others from changing the schema until the transaction ends."""
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})


def current_revision(connection: sa.Connection) -> str | None:
    """The schema of the tables, None if there are none."""
    if connection.scalar(sa.text("SELECT to_regclass('alembic_version')")) is None:
        return None
    revision = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    return None if revision is None else str(revision)


def move_to(connection: sa.Connection, revision: str) -> None:
    """Bring the tables to a schema, an earlier or a later one, within the caller's transaction.

    Raises:
        DatabaseRefused: they are of a version of this project that this one does not know.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    try:
        move = command.downgrade if (current_revision(connection) or "") > revision else command.upgrade
        move(config, revision)
    except CommandError as error:
        raise DatabaseRefused(
            "the database schema", f"is of another version ({error})", "Use the version of this project that made it."
        ) from error


def create_database(server_url: str, name: str) -> None:
    """Create the database `name` on a server if it is not there."""
    engine = sa.create_engine(normalised_url(server_url), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            known = connection.scalar(sa.text("SELECT 1 FROM pg_database WHERE datname = :name"), {"name": name})
            if not known:
                quoted = engine.dialect.identifier_preparer.quote_identifier(name)
                connection.execute(sa.text(f"CREATE DATABASE {quoted}"))
    except DBAPIError as error:
        raise as_ours(engine, f"database {name!r}", error) from error
