"""Whatever Yahoo answers or a file holds, a ticker ends stored or with a verdict, and no bar is stored that cannot be.

The seeds decide the answers; with FUZZ_SEEDS=1000 there are as many. A seed that fails fails alone:
`./run.sh test tests/end_to_end/test_fuzzed_sources.py -k 'chart and 17'`.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from luigi_tasks.database.engine import create_database
from tests.conftest import make_bars
from tests.fuzzing import as_bytes, damaged, numbers, spoiled, spoiled_rows
from tests.steps import Steps
from tests.workspace import Workspace
from tests.yahoo.answers import CRUMB, Answer
from tests.yahoo.server import LoopbackYahoo

SEEDS = range(int(os.environ.get("FUZZ_SEEDS", "40")))
DAY, FIRST_DAY = "2024-03-15", "2023-03-15"

IMPOSSIBLE = """
    SELECT ticker, ohlcv.* FROM ohlcv JOIN securities USING (security_id) WHERE NOT coalesce(
        low > 0 AND low <= least(open, close) AND high >= greatest(open, close) AND high < 'Infinity'
        AND coalesce(adj_close > 0 AND adj_close < 'Infinity', true) AND volume >= 0
        AND dividends >= 0 AND dividends < 'Infinity' AND stock_splits >= 0 AND stock_splits < 'Infinity'
        AND date BETWEEN :first AND :last, false)
"""


def bars(steps: Steps, ticker: str) -> list[Any]:
    return steps.workspace.query(
        "SELECT open, high, low, close FROM ohlcv JOIN securities USING (security_id) WHERE ticker = :ticker",
        ticker=ticker,
    )


def new_workspace(folders: pytest.TempPathFactory, postgres_url: str, name: str) -> Workspace:
    create_database(postgres_url, f"{name}_{os.getpid()}")
    return Workspace(folders.mktemp(name), postgres_url.replace("/postgres?", f"/{name}_{os.getpid()}?"))


@pytest.fixture(scope="module")
def of_files(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[Steps]:
    workspace = new_workspace(tmp_path_factory, postgres_url, "fuzzed_files")
    workspace.use_files({"AAA": make_bars(days=12)})
    with Steps(workspace, DAY) as steps:
        yield steps


@pytest.fixture(scope="module")
def of_yahoo(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[tuple[Steps, LoopbackYahoo]]:
    workspace = new_workspace(tmp_path_factory, postgres_url, "fuzzed_yahoo")
    workspace.set("Yahoo", prices_per_minute="0", company_per_minute="0", first_pause="0.05", longest_pause="0.1")
    workspace.set("Yahoo", request_timeout="5")
    workspace.set("DownloadOhlcv", attempts="1")
    workspace.set("DownloadMetadata", attempts="1")
    with LoopbackYahoo(workspace.folder / "yahoo") as yahoo:
        workspace.environment = yahoo.environment()
        with Steps(workspace, DAY) as steps:
            yield steps, yahoo


def served(yahoo: LoopbackYahoo, ticker: str, endpoint: str) -> dict[str, Any]:
    """The good answer."""
    yahoo.add(ticker, make_bars(days=12), info={"sector": "Energy", "marketCap": 10**9, "beta": 1.25})
    query = {
        "chart": {"period1": "0", "period2": str(2**33), "interval": "1d", "events": "div,splits"},
        "summary": {"crumb": CRUMB, "modules": "quoteType,assetProfile"},
    }[endpoint]
    path = {"chart": "/v8/finance/chart", "summary": "/v10/finance/quoteSummary"}[endpoint]
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    answer = yahoo.respond("query2.finance.yahoo.com", f"{path}/{ticker}?{asked}", "A3=loopback")
    assert isinstance(answer, Answer)
    document: dict[str, Any] = json.loads(answer.body)
    return document


def unforeseen(failures: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those that say that nobody thought of it, or that PostgreSQL had to refuse what should not have come to it."""
    return [failure for failure in failures if failure[1].startswith(("unexpected:", "database_"))]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_chart_is_stored_or_refused_with_a_reason(of_yahoo: tuple[Steps, LoopbackYahoo], seed: int) -> None:
    steps, yahoo = of_yahoo
    draw, ticker = random.Random(seed), f"C{seed}"
    document = served(yahoo, ticker, "chart")
    for _ in range(draw.choice((1, 1, 2, 5))):
        document = spoiled(document, draw)
    body = as_bytes(document, draw)
    yahoo.fault(ticker, Answer(200, body, "application/json"), endpoint="chart")

    failures = steps.do(ticker)

    assert unforeseen(failures) == []
    assert [step for step, _ in failures if step == "DownloadMetadata"] == []
    assert bool(bars(steps, ticker)) != any(step != "DownloadMetadata" for step, _ in failures)
    assert steps.workspace.query(IMPOSSIBLE, first=FIRST_DAY, last=DAY) == []
    known = numbers(document)
    assert [bar for bar in bars(steps, ticker) if not known.issuperset(bar)] == []


@pytest.mark.parametrize("seed", SEEDS)
def test_company_data_is_stored_or_refused_with_a_reason(of_yahoo: tuple[Steps, LoopbackYahoo], seed: int) -> None:
    steps, yahoo = of_yahoo
    draw, ticker = random.Random(1000 + seed), f"S{seed}"
    document = served(yahoo, ticker, "summary")
    for _ in range(draw.choice((1, 1, 2, 5))):
        document = spoiled(document, draw)
    body = as_bytes(document, draw)
    yahoo.fault(ticker, replace(Answer(200, body), content_type="application/json"), endpoint="summary")

    failures = steps.do(ticker)

    assert unforeseen(failures) == []
    assert {step for step, _ in failures} <= {"DownloadMetadata", "InsertMetadata"}
    stored = steps.workspace.query(
        "SELECT count(*) FROM security_metadata JOIN securities USING (security_id) WHERE ticker = :ticker",
        ticker=ticker,
    )
    receipts = steps.workspace.query(
        "SELECT rows FROM task_markers WHERE task_family = 'InsertMetadata' AND ticker = :ticker", ticker=ticker
    )
    # An answer that knows nothing of the company leaves no row, and is no failure.
    assert receipts == ([] if failures else stored)
    assert stored in ([0], [1])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_file_is_stored_or_refused_with_a_reason(of_files: Steps, seed: int) -> None:
    draw, ticker, text = random.Random(2000 + seed), f"F{seed}", io.StringIO()
    rows = make_bars(days=12).astype(str)
    table = spoiled_rows([list(rows.columns), *rows.to_numpy().tolist()], draw)
    csv.writer(text, delimiter=draw.choice(",,,;\t")).writerows(table)
    body = damaged(text.getvalue().encode("utf-8", "surrogatepass"), draw)
    (of_files.workspace.folder / "prices" / f"{ticker}.csv").write_bytes(body)

    failures = of_files.do(ticker)

    assert unforeseen(failures) == []
    assert bool(bars(of_files, ticker)) != bool(failures)
    assert of_files.workspace.query(IMPOSSIBLE, first=FIRST_DAY, last=DAY) == []
