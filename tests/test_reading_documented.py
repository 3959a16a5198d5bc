"""docs/reading.md: every example in it, over a store in which its story has happened."""

from __future__ import annotations

import datetime as dt
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from luigi_tasks import YfinanceClient, bars
from luigi_tasks.database.client import Window
from luigi_tasks.database.engine import engine_for
from luigi_tasks.schedule import Span
from tests.workspace import BIN, REPOSITORY, Workspace

PAGE = REPOSITORY / "docs" / "reading.md"
DAYS = [dt.date(2024, 3, day) for day in (11, 12, 13)]


def frame(closes: list[float], adjusted: list[float], volumes: list[int], **actions: list[float]) -> pd.DataFrame:
    prices = dict.fromkeys(("open", "high", "low", "close"), closes)
    none = dict.fromkeys(("dividends", "stock_splits"), [0.0] * len(closes))
    days = pd.to_datetime(DAYS[: len(closes)])
    return bars.conform(
        pd.DataFrame({"date": days, **prices, "adj_close": adjusted, "volume": volumes} | none | actions)
    )


@pytest.fixture
def store(workspace: Workspace) -> Workspace:
    client = YfinanceClient(workspace.database_url)
    client.migrate()
    client.insert_security("ACME", ["letters"], as_of=DAYS[1])
    client.insert_security("OTHER", ["letters"], as_of=DAYS[1])
    before = frame([400.0, 404.0], [396.0, 404.0], [1000, 1000], dividends=[0.0, 4.0])
    after = frame(
        [100.0, 101.0, 102.0],
        [99.0, 101.0, 102.0],
        [4000, 4000, 4000],
        dividends=[0.0, 1.0, 0.0],
        stock_splits=[0.0, 0.0, 4.0],
    )
    for day, served in ((DAYS[1], before), (DAYS[2], after)):
        client.insert_ohlcv("ACME", served, window=Window(Span(DAYS[0], day, whole=True), day))
    client.insert_ohlcv("OTHER", frame([10.0] * 3, [10.0] * 3, [5] * 3))
    client.insert_metadata("ACME", {"sector": "Toys", "marketCap": 1e6}, as_of=DAYS[1])
    return workspace


def test_every_example_gives_what_it_says(store: Workspace, tmp_path: Path) -> None:
    page = PAGE.read_text()
    folder = tmp_path / "exports" / "today"
    assert "./run.sh export exports/today" in page
    written = store.command("export", str(folder))
    assert written.stdout == f"6 bars of 2 tickers in {folder}\n", written

    examples = subprocess.run(
        [str(BIN / "python"), "-m", "doctest", str(PAGE)],
        cwd=tmp_path,
        env=store.env() | {"PYTHONPATH": str(REPOSITORY), "LUIGI_CONFIG_PATH": str(store.overlay)},
        capture_output=True,
        text=True,
    )

    assert examples.stdout + examples.stderr == ""
    assert page.count(">>>") >= 10


def test_every_query_can_be_run(store: Workspace) -> None:
    (block,) = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.S)
    queries = [query for query in block.split(";") if query.strip()]

    with engine_for(store.database_url).connect() as connection:
        rows = [len(connection.execute(sa.text(query)).all()) for query in queries]

    # The third one asks who is behind: nobody.
    assert rows == [3, 1, 0, 2]
