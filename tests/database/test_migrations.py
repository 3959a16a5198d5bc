"""The tables are made once, by whoever comes first, and are what the code thinks they are."""

from __future__ import annotations

import importlib.resources
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from luigi_tasks.database.engine import engine_for, newest_revision
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.database.schema import metadata
from luigi_tasks.errors import DatabaseRefused


def migrate(database_url: str) -> None:
    Ledger(database_url).migrate()


def test_the_migrated_tables_are_those_of_the_schema(database_url: str) -> None:
    with engine_for(database_url).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_the_newest_schema_is_the_one_that_alembic_takes_for_it() -> None:
    folder = importlib.resources.files("luigi_tasks.database").joinpath("migrations")
    assert newest_revision() == ScriptDirectory(str(folder)).get_current_head()


def test_the_checks_in_the_database_are_those_of_the_schema(database_url: str) -> None:
    preparer = engine_for(database_url).dialect.identifier_preparer
    wanted = {
        preparer.format_constraint(constraint)
        for table in metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, sa.CheckConstraint)
    }
    with engine_for(database_url).connect() as connection:
        query = "SELECT conname FROM pg_constraint WHERE contype = 'c' AND connamespace = 'public'::regnamespace"
        present = set(connection.scalars(sa.text(query)))

    assert present == wanted


def test_migrating_twice_changes_nothing(database_url: str) -> None:
    migrate(database_url)

    assert Ledger(database_url).latest_run_id() is None


def test_eight_first_runs_at_once_make_the_tables_once(empty_database_url: str) -> None:
    with ProcessPoolExecutor(8, mp_context=get_context("spawn")) as processes:
        list(processes.map(migrate, [empty_database_url] * 8))

    with engine_for(empty_database_url).connect() as connection:
        assert connection.scalar(sa.text("SELECT count(*) FROM alembic_version")) == 1


def test_tables_of_a_later_version_are_left_alone(database_url: str) -> None:
    with engine_for(database_url).begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(DatabaseRefused, match="is of another version"):
        migrate(database_url)


def test_a_forked_child_has_a_connection_of_its_own(database_url: str) -> None:
    backend = sa.text("SELECT pg_backend_pid()")
    with engine_for(database_url).connect() as connection:
        parents = connection.scalar(backend)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with engine_for(database_url).connect() as connection:
            os.write(writer, str(connection.scalar(backend)).encode())
        os._exit(0)
    os.waitpid(child, 0)

    childs = int(os.read(reader, 20))

    with engine_for(database_url).connect() as connection:
        assert connection.scalar(backend) == parents, "the child must not have closed it"
    assert childs != parents
