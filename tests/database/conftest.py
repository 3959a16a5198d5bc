"""A database for tests that do not mind a used one: emptied before each, and not made anew."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from luigi_tasks.database.engine import create_database, engine_for
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.database.schema import metadata


@pytest.fixture(scope="session")
def used_database_url(postgres_url: str) -> Iterator[str]:
    create_database(postgres_url, "used")
    url = postgres_url.replace("/postgres?", "/used?")
    Ledger(url).migrate()
    yield url
    engine_for(url).dispose()


@pytest.fixture
def emptied_url(used_database_url: str) -> str:
    """URL of a database with empty tables."""
    with engine_for(used_database_url).begin() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(sa.delete(table))
    return used_database_url
