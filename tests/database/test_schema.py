"""The tables that the migrations make are, to the last detail, those that `schema` describes."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from luigi_tasks.database.engine import engine_for
from luigi_tasks.database.schema import PRICE_CHECKS, metadata

CATALOGUE = {
    "columns": """
        SELECT table_name, column_name, data_type, is_nullable, column_default, is_identity, identity_generation
        FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name)
        WHERE table_schema = :schema AND table_type = 'BASE TABLE'
    """,
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE connamespace = CAST(:schema AS regnamespace) AND contype <> 'n'
    """,
    "indexes": """
        SELECT tablename, indexname, regexp_replace(indexdef, ' ON [^ .]*[.]', ' ON ')
        FROM pg_indexes WHERE schemaname = :schema
    """,
    "comments": """
        SELECT relname, attname, obj_description(pg_class.oid, 'pg_class'), col_description(pg_class.oid, attnum)
        FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
        WHERE relnamespace = CAST(:schema AS regnamespace) AND relkind = 'r'
    """,
}


def catalogue(connection: sa.Connection, schema: str, query: str) -> set[tuple[Any, ...]]:
    connection.execute(sa.text(f"SET LOCAL search_path TO {schema}"))
    rows = connection.execute(sa.text(query), {"schema": schema})
    return {tuple(row) for row in rows if row[0] != "alembic_version"}


@pytest.mark.parametrize("part", CATALOGUE)
def test_migrations_and_schema_make_the_same_tables(emptied_url: str, part: str) -> None:
    with engine_for(emptied_url).connect() as connection:
        connection.execute(sa.text("CREATE SCHEMA described"))
        connection.execute(sa.text("SET LOCAL search_path TO described"))
        metadata.create_all(connection, checkfirst=False)

        migrated = catalogue(connection, "public", CATALOGUE[part])
        described = catalogue(connection, "described", CATALOGUE[part])
        connection.rollback()

    assert migrated == described
    assert len(migrated) > 10


def test_every_rule_for_prices_is_a_check_of_the_table(emptied_url: str) -> None:
    definitions = ", ".join(f"CONSTRAINT {name} CHECK ({rule})" for name, rule in PRICE_CHECKS.items())
    query = sa.text(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE conrelid = CAST(:table AS regclass) AND contype = 'c'"
    )
    with engine_for(emptied_url).connect() as connection:
        connection.execute(sa.text(f"CREATE TEMP TABLE ruled (LIKE ohlcv, {definitions})"))
        wanted = {f"ohlcv_{row[0]}_check": row[1] for row in connection.execute(query, {"table": "ruled"})}
        present = {row[0]: row[1] for row in connection.execute(query, {"table": "ohlcv"})}
        connection.rollback()

    assert present == wanted
    assert len(wanted) == len(PRICE_CHECKS)


def test_nothing_but_our_tables_is_made(emptied_url: str) -> None:
    with engine_for(emptied_url).connect() as connection:
        present = set(sa.inspect(connection).get_table_names())

    assert present == {*metadata.tables, "alembic_version"}


def test_bars_and_company_data_go_with_their_security(emptied_url: str) -> None:
    with engine_for(emptied_url).begin() as connection:
        for statement in (
            "INSERT INTO securities (ticker) VALUES ('AAA'), ('BBB')",
            (
                "INSERT INTO ohlcv SELECT security_id, '2024-01-02', 1, 1, 1, 1, NULL, 1, 0, 0, '2024-01-02' "
                "FROM securities"
            ),
            (
                'INSERT INTO security_groupings (security_id, "grouping", valid_from) '
                "SELECT security_id, 'a', '2024-01-02' FROM securities"
            ),
            (
                "INSERT INTO ohlcv_revisions (security_id, date, as_of, until, why, open, high, low, close, volume, "
                "dividends, stock_splits) SELECT security_id, '2024-01-02', '2024-01-02', '2024-01-03', 'split', "
                "1, 1, 1, 1, 1, 0, 0 FROM securities"
            ),
            (
                "INSERT INTO quarantined_bars (security_id, date, number, broken, as_of) "
                "SELECT security_id, '2024-01-02', 0, '[]', '2024-01-02' FROM securities"
            ),
            (
                "INSERT INTO missing_sessions (security_id, date, noticed) "
                "SELECT security_id, '2024-01-02', '2024-01-02' FROM securities"
            ),
            (
                "INSERT INTO security_metadata (security_id, as_of, answer) "
                "SELECT security_id, '2024-01-02', '{}' FROM securities"
            ),
            "DELETE FROM securities WHERE ticker = 'AAA'",
        ):
            connection.execute(sa.text(statement))
        left = [
            connection.scalar(sa.text(f"SELECT count(*) FROM {table}"))
            for table in (
                "securities",
                "ohlcv",
                "security_groupings",
                "security_metadata",
                "ohlcv_revisions",
                "quarantined_bars",
                "missing_sessions",
            )
        ]

    assert left == [1] * 7


OTHER_RULES = {
    "store_source_one_row_check": "INSERT INTO store_source (only_row, name) VALUES (false, 'second')",
    "store_source_pkey": "INSERT INTO store_source (name) VALUES ('first'), ('second')",
    "securities_ticker_check": "INSERT INTO securities (ticker) VALUES ('brk-b')",
    "securities_ticker_key": "INSERT INTO securities (ticker) VALUES ('A'), ('A')",
    "securities_history_check": "INSERT INTO securities (ticker, bars_as_of) VALUES ('A', '2024-01-02')",
    "security_groupings_grouping_check": (
        "INSERT INTO security_groupings (security_id, \"grouping\", valid_from) VALUES (1, '', '2024-01-02')"
    ),
    "security_groupings_security_id_fkey": (
        "INSERT INTO security_groupings (security_id, \"grouping\", valid_from) VALUES (-1, 'a', '2024-01-02')"
    ),
    "security_groupings_valid_check": (
        'INSERT INTO security_groupings (security_id, "grouping", valid_from, valid_to) '
        "VALUES (1, 'a', '2024-01-02', '2024-01-02')"
    ),
    "runs_outcome_check": "INSERT INTO runs (run_id, task_family, parameters, outcome) VALUES ('r', 'F', '{}', 'well')",
    **{
        f"security_metadata_{name}_check": f"INSERT INTO security_metadata (security_id, as_of, answer, {name}) "
        "VALUES (1, '2024-01-02', '{}', -1)"
        for name in ("market_cap", "shares_outstanding")
    },
}


@pytest.mark.parametrize("name", OTHER_RULES)
def test_every_other_rule_is_kept_by_the_table(emptied_url: str, name: str) -> None:
    with engine_for(emptied_url).connect() as connection, pytest.raises(sa.exc.IntegrityError, match=name):
        connection.execute(sa.text(OTHER_RULES[name]))
