"""What goes beyond yfinance's official ways, held against the version that is installed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yfinance as yf

from luigi_tasks.budget import LocalBudget
from luigi_tasks.errors import ConfigurationError, SecondRequest
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


@pytest.mark.parametrize("name", ["_get_crumb_basic", "get_raw_json"])
def test_a_version_that_lacks_what_is_called_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delattr(yf.data.YfData, name)

    with pytest.raises(ConfigurationError, match=f"YfData: has no {name} any more"):
        installed()


def ask_for_the_zone_first() -> None:
    """As yfinance did up to 1.6, whatever zone it was given."""
    history = yf.scrapers.history.PriceHistory.history

    def asking(self: Any, *arguments: Any, **options: Any) -> Any:
        url = f"https://query2.finance.yahoo.com/v8/finance/chart/{self.ticker}"
        self._data.get_raw_json(url, params={"range": "1d", "interval": "1d"})
        return history(self, *arguments, **options)

    yf.scrapers.history.PriceHistory.history = asking


def ask_for_a_crumb_of_its_own() -> None:
    get = yf.data.YfData.get

    def asking(self: Any, *arguments: Any, **options: Any) -> Any:
        self._get_crumb_basic(30)
        return get(self, *arguments, **options)

    yf.data.YfData.get = asking


MOVED = {
    ask_for_the_zone_first: "/v8/finance/chart/AAA), where one request tells all",
    ask_for_a_crumb_of_its_own: "yfinance asked for a crumb (fc.yahoo.com) by itself",
}


@pytest.mark.parametrize("moved", MOVED)
def test_a_version_that_sends_more_than_is_needed_is_refused_with_what_it_asked_for(
    tmp_path: Path, moved: Callable[[], None]
) -> None:
    with LoopbackYahoo(tmp_path) as yahoo:
        yahoo.add("AAA", make_bars())

        [told] = ask(yahoo, ("bars", ("AAA", START, END)), before=moved)

    assert isinstance(told, SecondRequest)
    assert MOVED[moved] in told.reason
    assert "[Yahoo] plain = true" in told.remedy


@pytest.mark.parametrize("moved", [None, *MOVED])
def test_plain_yfinance_may_ask_as_it_likes(tmp_path: Path, moved: Callable[[], None] | None) -> None:
    served = make_bars()
    with LoopbackYahoo(tmp_path) as yahoo:
        yahoo.add("AAA", served, info={"sector": "Energy", "marketCap": 5})

        bars, info = ask(yahoo, ("bars", ("AAA", START, END)), ("metadata", ("AAA",)), before=moved, plain=True)

        assert yahoo.count("chart") + yahoo.count("tz") >= 2
        assert yahoo.count("summary") == yahoo.count("quote") == yahoo.count("timeseries") == 1
    pd.testing.assert_frame_equal(bars, served, check_exact=True)
    assert (info["sector"], info["marketCap"]) == ("Energy", 5)
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == [], "and keeps no cache"


def test_a_request_that_nobody_expects_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="v1/finance/search"):
        answers.Question.of("https://query1.finance.yahoo.com/v1/finance/search?q=AAA")


def test_no_cache_file_is_made(tmp_path: Path) -> None:
    """Shared and cold, yfinance's SQLite files fail: "database is locked"."""
    with LoopbackYahoo(tmp_path) as yahoo:
        yahoo.add("AAA", make_bars())
        folder = str(tmp_path / "cache")
        calls = [("check", ()), ("bars", ("AAA", START, END)), ("metadata", ("AAA",))]
        ask(yahoo, *calls, environment={"XDG_CACHE_HOME": folder})

        assert Counter(request.endpoint for request in yahoo.requests)["chart"] == 1
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
