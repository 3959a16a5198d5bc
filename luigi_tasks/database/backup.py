"""A whole store in one file, and back.

Not pg_dump: that of the embedded server knows no TLS, and those of machines are often older than the server that they
are to dump. A backup is a zip file of one COPY each table, and a manifest that says of which schema they are. It goes
into any PostgreSQL that this project runs on, and restoring somebody's file runs nothing of what is in it.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import sqlalchemy as sa

from luigi_tasks.database import engine as db
from luigi_tasks.database.schema import metadata, provider_access, request_rates, request_state
from luigi_tasks.errors import DatabaseRefused, StoreUnwritable

_FORMAT = 1
_MANIFEST = "manifest.json"
# A session with the provider is worth nothing to who restores, and something to who steals a backup.
_LEFT_OUT = {provider_access.name}
# Migrations put a row or more into these.
_NEVER_EMPTY = {request_state.name, request_rates.name}
_REMEDY = "Nothing was changed. Take another file."


@dataclass(frozen=True)
class Manifest:
    """What is in a backup."""

    revision: str
    made_at: str
    columns: dict[str, list[str]]
    rows: dict[str, int]
    format: int = _FORMAT

    def __str__(self) -> str:
        return (
            f"made at {self.made_at} of schema {self.revision}, "
            f"{self.rows['securities']:,} securities, {self.rows['ohlcv']:,} bars"
        )


def save(database_url: str, path: Path) -> Manifest:
    """Write all tables, as they are at one moment, into a file, which is there whole or not at all.

    Whoever may read the tables can do it, at any time, and of an earlier schema, too.

    Raises:
        DatabaseRefused: there are no tables, or they are of a later version of this project.
        StoreUnwritable: the file cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with db.transaction(db.engine_for(database_url), "the backup") as connection:
        connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        revision = db.current_revision(connection)
        if revision not in db.revisions():
            raise DatabaseRefused(
                "the backup", f"the schema is {revision or 'not there'}, this version knows {', '.join(db.revisions())}"
            )
        try:
            with part.open("xb") as file:
                manifest = _write(connection, revision, file)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            raise StoreUnwritable(
                str(path), f"cannot be written ({error.strerror or error})", "Check disk space and permissions."
            ) from error
        finally:
            part.unlink(missing_ok=True)
    return manifest


def restore(database_url: str, path: Path, *, replace: bool = False) -> Manifest:
    """Fill a database from a file, and bring it to this version's schema: all in one transaction, or nothing.

    For whoever owns the database. With `replace`, what is in it is deleted.

    Raises:
        StoreUnwritable: the file is not a whole backup.
        DatabaseRefused: there is something in the database, or it does not take what is in the file.
    """
    manifest = _examined(path)
    with (
        zipfile.ZipFile(path) as archive,
        db.transaction(db.engine_for(database_url), f"restoring {path}") as connection,
    ):
        db.lock_schema(connection)
        if not replace and _filled(connection):
            raise DatabaseRefused(
                "the database", "is not empty", "Name an empty one, or add --replace, which deletes what is in it."
            )
        # Before the tables change, so that no row is in the way, and after that, since migrations make rows.
        _empty(connection)
        db.move_to(connection, manifest.revision)
        _empty(connection)
        if manifest.columns != _to_keep(connection):
            raise StoreUnwritable(str(path), f"its tables are not those of schema {manifest.revision}", _REMEDY)
        for name, columns in manifest.columns.items():
            with archive.open(f"{name}.tsv") as member:
                rows = db.copy(connection, f"COPY {name} ({_listed(columns)}) FROM STDIN", member)
            if rows != manifest.rows[name]:
                raise StoreUnwritable(str(path), f"has not all rows of {name}", _REMEDY)
        _go_on_counting(connection)
        db.move_to(connection, db.newest_revision())
    return manifest


def _write(connection: sa.Connection, revision: str, file: IO[bytes]) -> Manifest:
    columns, rows = _to_keep(connection), {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, names in columns.items():
            with archive.open(f"{name}.tsv", "w", force_zip64=True) as member:
                rows[name] = db.copy(connection, f"COPY {name} ({_listed(names)}) TO STDOUT", member)
        made_at = f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M:%S} UTC"
        manifest = Manifest(revision, made_at, columns, rows)
        archive.writestr(_MANIFEST, json.dumps(asdict(manifest)))
    return manifest


def _examined(path: Path) -> Manifest:
    """The manifest of a file, every byte of which has been read. Raises StoreUnwritable."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            if damaged is not None:
                raise zipfile.BadZipFile(f"{damaged} is damaged")
            manifest = Manifest(**json.loads(archive.read(_MANIFEST)))
            wanted = {f"{name}.tsv" for name in manifest.columns} | {_MANIFEST}
            if set(archive.namelist()) != wanted or set(manifest.rows) != set(manifest.columns):
                raise zipfile.BadZipFile("its manifest tells of other tables")
    except OSError as error:
        raise StoreUnwritable(str(path), f"cannot be read ({error.strerror or error})", _REMEDY) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreUnwritable(str(path), f"is not a whole backup ({error})", _REMEDY) from error
    if manifest.format != _FORMAT or manifest.revision not in db.revisions():
        reason = f"is of schema {manifest.revision}, which this version of the project does not know"
        raise StoreUnwritable(str(path), reason, "Use the version that made it, or a later one.")
    return manifest


def _columns(connection: sa.Connection) -> dict[str, list[str]]:
    """{table of ours that is there: its columns}; a table comes after those that it refers to."""
    query = """
        SELECT relname, array_agg(attname::text ORDER BY attnum)
        FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
        WHERE relnamespace = to_regnamespace(current_schema()::text) AND relkind = 'r'
          AND attnum > 0 AND NOT attisdropped
        GROUP BY relname
    """
    present: dict[str, list[str]] = {row[0]: row[1] for row in connection.execute(sa.text(query))}
    return {table.name: present[table.name] for table in metadata.sorted_tables if table.name in present}


def _to_keep(connection: sa.Connection) -> dict[str, list[str]]:
    return {name: columns for name, columns in _columns(connection).items() if name not in _LEFT_OUT}


def _filled(connection: sa.Connection) -> bool:
    tables = set(_columns(connection)) - _NEVER_EMPTY
    return any(connection.scalar(sa.text(f"SELECT EXISTS (SELECT FROM {name})")) for name in tables)


def _empty(connection: sa.Connection) -> None:
    tables = _columns(connection)
    if tables:
        connection.exec_driver_sql(f"TRUNCATE {', '.join(tables)}")


def _go_on_counting(connection: sa.Connection) -> None:
    """Have the next number of each identity column be above all that are there."""
    query = """
        SELECT format('SELECT setval(%L, max(%I)) FROM %I', pg_get_serial_sequence(relname, attname), attname, relname)
        FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
        WHERE relnamespace = to_regnamespace(current_schema()::text) AND attidentity <> '' AND relname = ANY(:tables)
    """
    for statement in connection.scalars(sa.text(query), {"tables": list(_columns(connection))}).all():
        connection.exec_driver_sql(statement)


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in columns)
