"""A store that the first release wrote opens in this one, with nothing lost on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from luigi_tasks import YfinanceClient
from luigi_tasks.database import backup
from luigi_tasks.database.engine import (
    create_database,
    current_revision,
    engine_for,
    move_to,
    newest_revision,
    normalised_url,
    revisions,
)
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.database.schema import metadata
from tests.conftest import make_bars
from tests.workspace import Workspace

STORE = Path(__file__).with_name("first_release.sql")
TICKERS = ("AAA", "BBB")
# Every column of the first release that holds data, under the names that it has had since.
DATA = {
    "store_source": "SELECT name, since FROM store_source",
    "securities": "SELECT security_id, ticker, created_at FROM securities ORDER BY 1",
    "security_groupings": 'SELECT security_id, "grouping", created_at FROM security_groupings ORDER BY 1, 2',
    "ohlcv": """SELECT security_id, date, open, high, low, close, adj_close, volume, dividends, stock_splits
                FROM ohlcv ORDER BY 1, 2""",
    "security_metadata": """SELECT security_id, as_of, name, quote_type, exchange, currency, country, sector, industry,
                            market_cap, shares_outstanding, answer, created_at FROM security_metadata ORDER BY 1, 2""",
    "task_markers": """SELECT task_id, task_family, ticker, as_of, run_id, rows, detail, seconds, done_at
                       FROM task_markers ORDER BY 1""",
    "task_failures": "SELECT * FROM task_failures ORDER BY 1",
    "runs": "SELECT run_id, task_family, parameters, started_at, finished_at, outcome FROM runs ORDER BY 1",
}


def data(url: str) -> dict[str, list[Any]]:
    with engine_for(url).connect() as connection:
        return {name: [tuple(row) for row in connection.execute(sa.text(query))] for name, query in DATA.items()}


def load(url: str) -> None:
    # A connection of its own: the dump leaves settings behind.
    engine = sa.create_engine(normalised_url(url), poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(STORE.read_text())


@pytest.fixture
def first_url(empty_database_url: str) -> str:
    """URL of a database with a store of the first release."""
    load(empty_database_url)
    return empty_database_url


def test_the_kept_store_is_one_of_the_first_schema_with_data_in_it(first_url: str) -> None:
    with engine_for(first_url).connect() as connection:
        assert current_revision(connection) == revisions()[0] == "0001"
    rows = {name: len(found) for name, found in data(first_url).items()}
    assert rows == {
        "store_source": 1,
        "securities": 2,
        "security_groupings": 3,
        "ohlcv": 24,
        "security_metadata": 2,
        "task_markers": 15,
        "task_failures": 0,
        "runs": 1,
    }


def test_no_migration_loses_anything_forth_or_back(first_url: str) -> None:
    before = data(first_url)
    for revision in [*revisions()[1:], *reversed(revisions()[:-1])]:
        with engine_for(first_url).begin() as connection:
            move_to(connection, revision)
            assert current_revision(connection) == revision
            tables = set(sa.inspect(connection).get_table_names())
        assert data(first_url) == before, revision
        # What a backup of that schema would otherwise leave out.
        assert tables - {"alembic_version"} <= set(metadata.tables), revision


def test_a_run_goes_on_where_the_first_release_left_off(workspace: Workspace) -> None:
    load(workspace.database_url)
    before = data(workspace.database_url)
    assert workspace.command("up").returncode == 0
    after = data(workspace.database_url)
    grown = {ticker: make_bars(days=15, last="2024-03-20", seed=number) for number, ticker in enumerate(TICKERS)}
    for number, ticker in enumerate(TICKERS):
        # The days of then are as they were, three more have come. Taken from the store, since processors do not
        # agree on the last digit of what is computed.
        names = ["open", "high", "low", "close", "adj_close"]
        then = f"SELECT {', '.join(names)} FROM ohlcv JOIN securities USING (security_id) WHERE ticker = :ticker"
        grown[ticker].iloc[:12, 1:] = make_bars(days=12, last="2024-03-15", seed=number).iloc[:, 1:]
        grown[ticker].loc[:11, names] = workspace.query(f"{then} ORDER BY date", ticker=ticker)
    workspace.use_files(grown)
    workspace.universe.write_text("groupings:\n  all: {tickers: [AAA, BBB]}\n  some: {tickers: [AAA]}\n")

    run = workspace.run("--years-back", "10", "--full")

    assert after == before
    assert run.code == 0, run
    stored = data(workspace.database_url)
    assert set(before["ohlcv"]) < set(stored["ohlcv"])
    assert len(stored["ohlcv"]) == 30
    assert workspace.query("SELECT count(*) FROM ohlcv_revisions") == [0]
    assert stored["securities"] == before["securities"]
    assert workspace.query("SELECT count(*) FROM security_groupings WHERE valid_to IS NULL") == [3]
    assert "Nothing to do" in workspace.run("--years-back", "10", "--full").out


def test_a_backup_of_an_earlier_schema_is_restored_as_this_one(
    first_url: str, postgres_url: str, tmp_path: Path
) -> None:
    name = f"{normalised_url(first_url).database}_restored"
    create_database(postgres_url, name)
    restored = postgres_url.replace("/postgres?", f"/{name}?")
    Ledger(restored).migrate()
    YfinanceClient(restored).insert_security("ZZZ", [])

    manifest = backup.save(first_url, tmp_path / "first.zip")
    backup.restore(restored, tmp_path / "first.zip", replace=True)

    assert manifest.revision == "0001"
    assert data(restored) == data(first_url)
    with engine_for(restored).connect() as connection:
        assert current_revision(connection) == newest_revision()
