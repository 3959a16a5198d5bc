"""What goes beyond yfinance's official ways, held against the version that is installed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yfinance as yf

from luigi_tasks.budget import LocalBudget
from luigi_tasks.errors import ConfigurationError
from luigi_tasks.market.yahoo import answers, yfinance_ways
from luigi_tasks.market.yahoo.session import PacedSession
from tests.conftest import make_bars
from tests.market.asking import ask
from tests.market.test_yahoo import END, START
from tests.yahoo.server import LoopbackYahoo


def installed() -> yfinance_ways.Yfinance:
    return yfinance_ways.Yfinance(PacedSession(LocalBudget(), timeout=1), lambda: None)


def test_the_installed_version_has_what_is_replaced() -> None:
    installed().ticker("AAA")


@pytest.mark.parametrize("name", ["_fetch_additional_info", "_fetch_info"])
def test_a_version_that_works_otherwise_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delattr(yf.scrapers.quote.Quote, name)

    with pytest.raises(ConfigurationError, match=f"Quote: has no {name} any more"):
        installed().ticker("AAA")


def test_a_request_that_nobody_expects_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="v7/finance/quote"):
        answers.Question.of("https://query1.finance.yahoo.com/v7/finance/quote?symbols=AAA")


def test_no_cache_file_is_made(tmp_path: Path) -> None:
    """Shared and cold, yfinance's SQLite files fail: "database is locked"."""
    with LoopbackYahoo(tmp_path) as yahoo:
        yahoo.add("AAA", make_bars())
        folder = str(tmp_path / "cache")
        ask(yahoo, ("check", ()), ("bars", ("AAA", START, END)), ("metadata", ("AAA",)), XDG_CACHE_HOME=folder)

        assert Counter(request.endpoint for request in yahoo.requests)["chart"] == 1
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
