"""Every block of docs/reading.md runs, and prints what is printed there; so does the README's on reading."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from luigi_tasks import YfinanceClient, bars, settings
from luigi_tasks.database.client import Window
from luigi_tasks.database.engine import engine_for
from luigi_tasks.schedule import Span
from tests.conftest import make_bars
from tests.workspace import REPOSITORY, Workspace

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FRIDAY = dt.date(2024, 3, 15)
MONDAY = dt.date(2024, 6, 3)


def acme(closes: list[float], adjusted: list[float], **columns: Any) -> pd.DataFrame:
    made = pd.DataFrame({"date": pd.bdate_range(MONDAY, periods=len(closes)), "close": closes, "adj_close": adjusted})
    made = made.assign(**{"dividends": 0.0, "stock_splits": 0.0} | columns)
    return bars.conform(made.assign(open=made["close"], high=made["close"], low=made["close"]))


@pytest.fixture
def filled(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A store with the page's tickers, the folder that is worked in, and the settings that lead to it."""
    client = YfinanceClient(workspace.database_url)
    client.migrate()

    def store(ticker: str, frame: pd.DataFrame, as_of: dt.date) -> None:
        client.insert_ohlcv(ticker, frame, window=Window(Span(frame["date"].min().date(), as_of, whole=True), as_of))

    for number, ticker in enumerate(("AAPL", "MSFT")):
        client.insert_security(ticker, ["sp500"], as_of=FRIDAY)
        client.insert_metadata(ticker, {"sector": "Technology", "marketCap": 3e12}, as_of=FRIDAY)
        store(ticker, make_bars(days=500, seed=number), FRIDAY)
    client.insert_security("ACME", [])
    with engine_for(workspace.database_url).begin() as connection:
        connection.execute(sa.text("UPDATE securities SET currency = 'USD'"))
    tuesday, thursday = MONDAY + dt.timedelta(days=1), MONDAY + dt.timedelta(days=3)
    store("ACME", acme([400, 392], [392, 392], volume=250_000, dividends=[0, 8.0]), tuesday)
    actions: dict[str, Any] = {"dividends": [0, 2.0, 0, 0], "stock_splits": [0, 0, 4.0, 0]}
    store("ACME", acme([100, 98, 98, 99], [98, 98, 98, 99], volume=1_000_000, **actions), thursday)
    monkeypatch.chdir(workspace.folder)
    monkeypatch.setenv("DATABASE_URL", workspace.database_url)
    settings.load.cache_clear()
    yield workspace
    settings.load.cache_clear()


def test_the_page_does_what_it_says(filled: Workspace) -> None:
    names: dict[str, Any] = {}
    printed = io.StringIO()
    for language, block in _BLOCK.findall((REPOSITORY / "docs/reading.md").read_text()):
        if language == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(block, names)
        elif language == "text":
            assert printed.getvalue() == block
        elif language == "sql":
            with engine_for(filled.database_url).begin() as connection:
                for statement in filter(str.strip, block.split(";")):
                    connection.execute(sa.text(statement)).all()
        elif language == "bash":
            for line in block.splitlines():
                program, *arguments = shlex.split(line)
                assert program == "./run.sh"
                # Commands run in the repository, whose var/ is not for tests.
                done = filled.command(*(re.sub("^var/", f"{filled.store}/", argument) for argument in arguments))
                assert done.returncode == 0, done.stderr
        else:
            raise AssertionError(f"a block of {language} is not run")
    assert len(names["bars"]) == 414
    assert names["mended"]["close"].tolist() == [98, 98, 98, 99]
    assert names["returns"].shape == (207, 2)
    assert names["held"].shape == (11, 2)
    assert names["company"]["sector"].tolist() == ["Technology"] * 2
    assert sorted(names["best"]["ticker"]) == ["AAPL", "MSFT"]
    assert names["monthly"]["month"].max() == dt.date(2024, 3, 1)
    assert sorted(path.name for path in filled.store.iterdir() if path.is_dir()) == ["export", "sp500", "two"]


def test_the_readme_reads(filled: Workspace) -> None:
    _, _, section = (REPOSITORY / "README.md").read_text().partition("## Reading the data\n")
    language, block = _BLOCK.findall(section)[0]
    names: dict[str, Any] = {}

    exec(block, names)

    assert language == "python"
    assert names["closes"].columns.tolist() == ["AAPL", "MSFT"]
    assert len(names["traded"]) == 500
