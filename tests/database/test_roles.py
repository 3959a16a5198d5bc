"""A run needs no more than to write rows; who reads needs no more than to read."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from luigi_tasks.database import roles
from luigi_tasks.database.engine import engine_for, migrate, newest_revision, normalised_url, transaction
from luigi_tasks.errors import ConfigurationError, DatabaseRefused
from tests.conftest import make_bars
from tests.workspace import Workspace

_numbers = itertools.count(1)

RIGHTS = """
    SELECT relname::text AS name, relacl::text AS rights FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION ALL SELECT proname, proacl::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT nspname, nspacl::text FROM pg_namespace WHERE nspname = 'public'
    UNION ALL SELECT datname, datacl::text FROM pg_database WHERE datname = current_database()
    UNION ALL SELECT 'by default', array_agg(defaclacl::text ORDER BY defaclacl::text)::text FROM pg_default_acl
    ORDER BY 1
"""
TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') ORDER BY 1"


@dataclass(frozen=True)
class People:
    """URLs of one database for the role that owns it, and for users that the writer and the reader were granted to."""

    owner: str
    writer: str
    reader: str
    names: tuple[str, str]


def run(url: str, statement: str) -> list[sa.Row[tuple[object, ...]]]:
    with transaction(engine_for(url), "a test") as connection:
        result = connection.execute(sa.text(statement))
        return list(result) if result.returns_rows else []


@pytest.fixture
def people(empty_database_url: str) -> People:
    """Everybody logs in as somebody of their own; none is a superuser."""
    number = next(_numbers)
    owner, writer, reader = f"owner_{number}", f"writer_{number}", f"reader_{number}"
    database = normalised_url(empty_database_url).database
    run(empty_database_url, f"CREATE ROLE {owner} LOGIN CREATEROLE")
    run(empty_database_url, f'ALTER DATABASE "{database}" OWNER TO {owner}')
    urls = [empty_database_url.replace("postgres:@", f"{name}@") for name in (owner, f"w{number}", f"r{number}")]
    assert roles.grant(urls[0], writer, reader) == owner
    run(urls[0], f"CREATE ROLE w{number} LOGIN IN ROLE {writer}")
    run(urls[0], f"CREATE ROLE r{number} LOGIN IN ROLE {reader}")
    return People(urls[0], urls[1], urls[2], (writer, reader))


def test_a_whole_run_works_as_the_writer_who_owns_nothing(workspace: Workspace, people: People) -> None:
    workspace.database_url = people.writer
    bad = make_bars(seed=1)
    bad.loc[7, "high"] = bad.loc[7, "low"] * 0.9
    workspace.use_files({"AAA": bad, "BBB": make_bars(seed=2)})
    first = workspace.run("--date", "2024-03-14", "--years-back", "1")
    restated = make_bars(seed=2)
    restated.loc[:, "close"] *= 1.0001
    workspace.use_files({"AAA": bad, "BBB": restated})

    second = workspace.run("--date", "2024-03-15", "--years-back", "1", "--full")
    forget = workspace.command("forget", "AAA", "--yes")

    assert first.code == 0, first
    assert second.code == 0, second
    assert forget.returncode == 0, forget.stderr
    assert workspace.query("SELECT count(*) > 20 FROM ohlcv_revisions") == [True]
    workspace.database_url = people.reader
    assert "RunAll, complete, started" in workspace.command("status").stdout


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE ohlcv",
        "ALTER TABLE ohlcv ADD COLUMN mine text",
        "TRUNCATE ohlcv",
        "CREATE TABLE mine (it text)",
        "CREATE SCHEMA mine",
        "CREATE OR REPLACE VIEW security_listings AS SELECT 1",
        "UPDATE alembic_version SET version_num = '9999'",
        "CREATE TRIGGER mine BEFORE INSERT ON ohlcv FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "COPY ohlcv TO PROGRAM 'cat'",
    ],
)
def test_the_writer_cannot_change_what_tables_there_are(people: People, statement: str) -> None:
    with pytest.raises(DatabaseRefused, match="42501"):
        run(people.writer, statement)


def test_the_reader_sees_all_but_the_session_with_the_provider(people: People) -> None:
    names = [str(row[0]) for row in run(people.owner, TABLES)]
    refused = []
    for name in names:
        try:
            run(people.reader, f'SELECT * FROM "{name}"')
        except DatabaseRefused:
            refused.append(name)

    assert {"ohlcv", "ohlcv_changes", "security_listings", "runs"} <= set(names)
    assert refused == ["provider_access"]
    assert run(people.reader, "SELECT * FROM ohlcv_as_of('2024-01-01')") == []


def test_the_reader_writes_nothing(people: People) -> None:
    names = [str(row[0]) for row in run(people.owner, TABLES)]
    statements = [f'DELETE FROM "{name}"' for name in names]
    statements += [f'INSERT INTO "{name}" DEFAULT VALUES' for name in names]
    statements += ["CREATE TABLE mine (it text)", "CREATE TEMP TABLE mine (it text)", "TRUNCATE ohlcv"]

    for statement in statements:
        with pytest.raises(
            DatabaseRefused, match=r"42501|55000|0A000"
        ):  # a view of several tables is written by nobody
            run(people.reader, statement)


def test_what_later_migrations_add_is_granted_as_well(people: People) -> None:
    run(people.owner, "CREATE TABLE later (it text)")
    run(people.owner, "CREATE VIEW later_view AS SELECT * FROM later")
    run(people.owner, "CREATE FUNCTION later_function() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM later'")
    run(people.owner, "REVOKE EXECUTE ON FUNCTION later_function() FROM PUBLIC")

    run(people.writer, "INSERT INTO later VALUES ('a')")

    assert run(people.reader, "SELECT it, later_function() FROM later_view") == [("a", 1)]
    with pytest.raises(DatabaseRefused, match="42501"):
        run(people.reader, "DELETE FROM later")


def test_doing_it_again_changes_nothing_and_takes_away_what_is_too_much(people: People) -> None:
    writer, reader = people.names
    before = run(people.owner, RIGHTS)

    roles.grant(people.owner, writer, reader)
    assert run(people.owner, RIGHTS) == before

    run(people.owner, f"GRANT DELETE, TRUNCATE ON ohlcv TO {reader}, {writer}")
    run(people.owner, f"GRANT SELECT (crumb) ON provider_access TO {reader}")
    run(people.owner, f"GRANT CREATE ON SCHEMA public TO {writer}")
    roles.grant(people.owner, writer, reader)
    assert run(people.owner, RIGHTS) == before


def test_a_role_that_may_do_everything_is_none_to_write_with(people: People) -> None:
    owner = normalised_url(people.owner).username or ""

    for name in (owner, "postgres"):
        with pytest.raises(ConfigurationError, match=f"role '{name}': may do all that '{owner}' may"):
            roles.grant(people.owner, name, people.names[1])
    with pytest.raises(ConfigurationError, match="Name two"):
        roles.grant(people.owner, people.names[0], people.names[0])


def test_who_may_not_make_roles_is_told_so_and_nothing_is_changed(people: People) -> None:
    before = run(people.owner, RIGHTS)

    with pytest.raises(DatabaseRefused, match="permission denied to create role"):
        roles.grant(people.writer, "none_of_ours", "nor_this")

    assert run(people.owner, RIGHTS) == before


def test_a_schema_that_everybody_may_create_tables_in_is_named(people: People, empty_database_url: str) -> None:
    # As PostgreSQL 13 and 14 have it for an owner of the database who is no superuser.
    run(empty_database_url, "ALTER SCHEMA public OWNER TO postgres")
    run(empty_database_url, "GRANT CREATE ON SCHEMA public TO PUBLIC")

    with pytest.raises(DatabaseRefused, match="As a superuser: REVOKE CREATE ON SCHEMA"):
        roles.grant(people.owner, *people.names)


def test_a_writer_before_outdated_tables_is_told_who_has_to_do_what(workspace: Workspace, people: People) -> None:
    run(people.owner, "UPDATE alembic_version SET version_num = '0002'")
    workspace.database_url = people.writer
    workspace.use_files({"AAA": make_bars()})

    outdated = workspace.run("--date", "2024-03-15", "--local-scheduler", services=False)

    user = normalised_url(people.writer).username
    assert outdated.code == 35, outdated
    assert outdated.err.strip().endswith(
        f"cannot begin: the database schema: is 0002, {newest_revision()} is needed, and '{user}' may not change it. "
        "Whoever owns the database has to run ./run.sh migrate."
    )


def test_a_writer_before_a_database_without_tables_is_told_so(people: People) -> None:
    run(people.owner, f"CREATE SCHEMA empty; GRANT USAGE ON SCHEMA empty TO {people.names[0]}")

    with pytest.raises(DatabaseRefused, match=r"is not there, .* has to run ./run.sh migrate"):
        migrate(engine_for(f"{people.writer}&options=-csearch_path%3Dempty"))


def test_the_commands_say_what_they_did(workspace: Workspace) -> None:
    migrated = workspace.command("migrate")
    made = workspace.command("roles", "--writer", "told_writer", "--reader", "told_reader")

    assert migrated.stdout.endswith(f": the schema is {newest_revision()}\n"), migrated.stderr
    assert made.stdout.splitlines() == [
        "told_writer may write, told_reader may read what postgres owns; neither may log in.",
        "For each user, in ./run.sh psql: CREATE ROLE somebody LOGIN IN ROLE told_reader; then \\password somebody",
    ], made.stderr
