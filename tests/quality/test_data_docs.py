"""Data Docs, made by the real Great Expectations: what the pages say, of what, and what becomes of hostile names."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

from luigi_tasks.errors import ConfigurationError
from luigi_tasks.quality import data_docs
from luigi_tasks.quality.suite import judge
from tests.conftest import make_bars
from tests.workspace import REPOSITORY

SUITE = REPOSITORY / "config/ohlcv_suite.json"
Bars = dict[str, tuple[pd.DataFrame, pd.DataFrame | None]]


class Page(HTMLParser):
    """A page's tags, links, and its text without scripts and styles."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.links: dict[str, str] = {}
        self.text, self._link = "", ""
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._link = dict(attrs).get("href") or "" if tag == "a" else ""

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] not in ("script", "style"):
            self.text += data
        if self._link:
            self.links[data.strip()] = self._link


def build(folder: Path, tickers: Bars, suite: Path = SUITE, most_seconds: float = 1e9) -> list[data_docs.Shown]:
    return data_docs.build(folder, "run-1", suite, list(tickers), tickers.__getitem__, most_seconds)


def of_ticker(folder: Path, ticker: str) -> Page:
    """The page that the index leads to."""
    return Page(folder / unquote(Page(folder / "index.html").links[ticker]))


def one_bad(column: str, value: float, days: int = 40) -> pd.DataFrame:
    frame = make_bars(days=days)
    frame[column] = frame[column].astype("float64").mask(frame.index == 11, value)
    return frame


def stale_at_the_start() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The last ten bars of a history and those before, in which the same bar stands on both sides."""
    whole = make_bars(days=100)
    prices = ["open", "high", "low", "close", "adj_close", "volume"]
    whole.loc[87:91, prices] = whole.loc[87, prices].to_numpy()
    return whole[90:].reset_index(drop=True), whole[:90]


def test_the_pages_find_what_the_verdict_found(tmp_path: Path) -> None:
    twice = make_bars(days=60)
    twice["date"] = twice["date"].mask(twice.index == 5, twice.loc[4, "date"])
    tail, before = stale_at_the_start()
    tickers: Bars = {
        "CLEAN": (make_bars(), None),
        "HIGH": (one_bad("high", 1.0), None),
        "NOPRICE": (one_bad("close", np.nan), None),
        "NOVOLUME": (one_bad("volume", np.nan), None),
        "INFINITE": (one_bad("dividends", np.inf), None),
        "PENCE": (one_bad("close", 5000.0), None),
        "TWICE": (twice, None),
        "TAIL": (tail, before),
        "CONDEMNED": (make_bars(days=60).assign(low=1000.0), None),
        "EMPTY": (make_bars()[:0], None),
    }

    shown = build(tmp_path / "docs", tickers)

    verdicts = {name: judge(bars, name, SUITE, 0.05, context) for name, (bars, context) in tickers.items()}
    assert {page.ticker: page.findings for page in shown} == {name: each.findings for name, each in verdicts.items()}
    assert verdicts["TAIL"].findings == {"bars are not the same day after day": 2}, "it takes the context to see it"
    index = Page(tmp_path / "docs/index.html")
    for name, verdict in verdicts.items():
        page = of_ticker(tmp_path / "docs", name)
        assert f"Data asset: {name}" in " ".join(page.text.split())
        assert ("Status: Failed" if verdict.findings else "Status: Succeeded") in " ".join(page.text.split())
        assert all(f"{rule}: {rows} bar" in index.text for rule, rows in verdict.findings.items())
    bad = of_ticker(tmp_path / "docs", "HIGH").text
    assert "high is the highest price: high >= greatest_price (critical)" in bad
    assert str(tickers["HIGH"][0].loc[11, "date"])[:10] in bad, "which session it is"


def test_the_suite_is_shown_in_the_words_of_its_file(tmp_path: Path) -> None:
    build(tmp_path / "docs", {"AAA": (make_bars(), None)})

    text = Page(tmp_path / "docs/expectations/ohlcv.html").text
    assert "adjusted close, where known, is above 0 and finite: > 0 and <= 1.7e308 (critical)" in text
    assert "price moves only with volume: = 1 (warning)" in text


def test_a_hostile_name_is_shown_and_does_nothing(tmp_path: Path) -> None:
    hostile = "</script><script>alert('1')</script>/../../../../../x\"${suite_title}&lt;"
    for number, ticker in enumerate([hostile, "PLAIN", "M&M.NS"]):
        build(tmp_path / f"docs{number}", {ticker: (make_bars(), None)})

    assert len(list(tmp_path.iterdir())) == 3, "no file is written elsewhere"
    for number, ticker in ((0, hostile), (2, "M&M.NS")):
        folder = tmp_path / f"docs{number}"
        assert Page(folder / "index.html").tags == Page(tmp_path / "docs1/index.html").tags
        page, plain = of_ticker(folder, ticker), of_ticker(tmp_path / "docs1", "PLAIN")
        assert page.tags == plain.tags
        assert page.text.count(ticker) == plain.text.count("PLAIN") > 1
        assert not [path for path in folder.rglob("*.html") if "<script>alert" in path.read_text(encoding="utf-8")]


def test_the_index_leads_to_every_page_without_the_network(tmp_path: Path) -> None:
    tickers: Bars = {name: (make_bars(), None) for name in ("^GSPC", "EURUSD=X", "AAA")}

    build(tmp_path / "docs", tickers)

    written = re.sub(r"<script.*?</script>", "", (tmp_path / "docs/index.html").read_text(), flags=re.DOTALL)
    links = [html.unescape(link) for link in re.findall(r'<a href="(validations[^"]+)"', written)]
    assert len(links) == 3
    assert all((tmp_path / "docs" / unquote(link)).is_file() for link in links)


def test_a_site_takes_the_place_of_the_one_before_and_leaves_nothing_else(tmp_path: Path) -> None:
    build(tmp_path / "docs", {"OLD": (make_bars(), None)})
    build(tmp_path / "docs", {"NEW": (make_bars(), None)})

    assert [path.name for path in tmp_path.iterdir()] == ["docs"]
    assert [path.stem for path in (tmp_path / "docs/validations").rglob("*.html")] == ["bars-NEW"]

    with pytest.raises(ConfigurationError, match="cannot be read"):
        build(tmp_path / "docs", {"NEWER": (make_bars(), None)}, suite=tmp_path / "gone.json")

    assert [path.name for path in tmp_path.iterdir()] == ["docs"]
    assert "NEW" in Page(tmp_path / "docs/index.html").links


def test_no_ticker_is_begun_when_the_time_is_up(tmp_path: Path) -> None:
    tickers: Bars = {name: (make_bars(), None) for name in ("AAA", "BBB", "CCC")}

    assert [page.ticker for page in build(tmp_path / "docs", tickers, most_seconds=0)] == ["AAA"]
