"""Whether Yahoo's contract still holds: of a Yahoo as it is, and of one that has moved in one part."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from luigi_tasks.market.yahoo import YahooSource
from luigi_tasks.market.yahoo.canary import QUOTED, Part, look
from tests.conftest import make_bars
from tests.market.asking import fresh_processes
from tests.yahoo.answers import Answer, error, ok
from tests.yahoo.server import LoopbackYahoo

TODAY = dt.datetime.now(dt.UTC).date()
INFO = {
    "longName": "Apple Inc.",
    "sector": "Technology",
    "industry": "Consumer Electronics",
    "country": "United States",
    "marketCap": 4_000_000,
    "sharesOutstanding": 15_000,
}


@pytest.fixture
def yahoo(tmp_path: Path) -> Iterator[LoopbackYahoo]:
    with LoopbackYahoo(tmp_path) as server:
        bars = make_bars(days=270, last=str(TODAY - dt.timedelta(days=3)))
        bars.loc[[200, 260], "dividends"] = 0.25
        for ticker in QUOTED:
            server.add(ticker, bars, info=INFO)
        yield server


def seen(yahoo: LoopbackYahoo, *, plain: bool = False) -> list[Part]:
    """What a new process says, since yfinance reads its surroundings once a process."""
    with ProcessPoolExecutor(max_workers=1, mp_context=fresh_processes()) as process:
        return process.submit(_look, yahoo.environment(), plain).result(timeout=120)


def _look(surroundings: Mapping[str, str], plain: bool) -> list[Part]:
    os.environ.update(surroundings)
    return list(look(YahooSource(timeout=2, plain=plain)))


def test_a_yahoo_as_it_is_has_no_part_that_moved(yahoo: LoopbackYahoo) -> None:
    parts = seen(yahoo)

    assert [part.problem for part in parts] == [""] * 5
    assert parts[1].seen.startswith("270 bars and 2 dividends of AAPL, up to ")
    assert parts[3].seen.endswith("of AAPL: Technology, Consumer Electronics")
    assert yahoo.count("chart") == 2
    assert yahoo.count("summary") == yahoo.count("quote") == 1


MOVED: dict[str, tuple[str, Any, str]] = {
    "chart, bars and actions": ("chart", Answer(200, b'{"chart": {"result": [{}], "error": null}}'), "no result"),
    "chart, error words": ("chart", error("chart", 404, "Not Found", "Never heard of it"), "not known here"),
    "quoteSummary": ("summary", ok("quoteSummary", [{"quoteType": {"symbol": "AAPL"}}]), "has no longName"),
    "quote": ("quote", ok("quoteResponse", [{"symbol": "SPY"}]), "AAPL, MSFT did not come back"),
}


@pytest.mark.parametrize("name", MOVED)
def test_a_part_that_moved_is_named_and_the_others_are_looked_at(yahoo: LoopbackYahoo, name: str) -> None:
    endpoint, answer, words = MOVED[name]
    glob = "ZZZZZZ99" if name == "chart, error words" else "AAPL*"
    yahoo.fault(glob, answer, endpoint=endpoint)  # type: ignore[arg-type]

    parts = {part.name: part.problem for part in seen(yahoo)}

    assert words in parts.pop(name)
    assert set(parts.values()) == {""}


@pytest.mark.parametrize("answer", [429, 503, "reset"], ids=str)
def test_a_yahoo_that_throttles_or_ails_has_not_moved(yahoo: LoopbackYahoo, answer: Any) -> None:
    for endpoint in ("chart", "summary", "quote"):
        yahoo.fault("*", answer, endpoint=endpoint)

    *before, last = seen(yahoo)

    assert [part.problem for part in before] == [""], "there is a crumb"
    assert last.away


def test_a_kind_of_question_that_it_refuses_while_it_answers_others_has_moved(yahoo: LoopbackYahoo) -> None:
    yahoo.fault("*", 429, endpoint="quote")

    last = seen(yahoo)[-1]

    assert ("429" in last.problem, last.away) == (True, False)


def test_a_crumb_that_is_none_is_named(yahoo: LoopbackYahoo) -> None:
    yahoo.fault("*", "html", endpoint="crumb")

    moved = [part.name for part in seen(yahoo) if part.problem]

    assert moved[0] == "crumb"
    assert "chart, bars and actions" not in moved


def test_a_quote_that_lacks_a_field_says_which(yahoo: LoopbackYahoo) -> None:
    lacking = {name: value for name, value in INFO.items() if name != "sharesOutstanding"}
    yahoo.add("MSFT", make_bars(last=str(TODAY)), info=lacking)

    assert seen(yahoo)[-1].problem == "lacks MSFT sharesOutstanding"


def test_in_yfinances_own_ways_it_looks_the_same(yahoo: LoopbackYahoo) -> None:
    assert [part.problem for part in seen(yahoo, plain=True)] == [""] * 4
