"""The page and the summary, from a document."""

from __future__ import annotations

from typing import Any

import pytest

from luigi_tasks.report import render
from tests.report.documents import STEP, document


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "1 of 2 tickers are not done; 1 are."),
        ({"tickers": {"done": 2, "all": 2}}, "All 2 tickers are stored as of 2024-01-01."),
        ({"tickers": {"done": 2, "all": 2}, "steps": [STEP | {"processed": 0}]}, "Nothing to do: all 2 tickers"),
        ({"tickers": {"all": 0}}, "Nothing was run"),
        ({"outcome": "interrupted", "interrupted_by": "SIGTERM"}, "Interrupted by SIGTERM: 1 of 2 tickers are done."),
        ({"outcome": "running, or killed"}, "Running, or killed: 1 of 2"),
    ],
)
def test_the_headline_says_whether_it_worked(changes: dict[str, Any], words: str) -> None:
    assert words in render.headline(document(**changes))


def test_the_summary_has_the_counts_the_reasons_and_the_remedies() -> None:
    text = render.terminal(document(), "/var/report.html")

    for words in (
        "InsertOhlcv",
        "1,234",
        "BBB: <script>",
        "Check the network.",
        "'<i>' has characters",
        "/var/report.html",
    ):
        assert words in text
    assert "quarantined: 1 bar of 1 ticker" in text


def test_the_page_shows_hostile_text_as_text_and_loads_nothing() -> None:
    page = render.page(document())

    for hostile in ("<script>x", "<img", "<i>", "<b>"):
        assert hostile not in page
    assert "&lt;script&gt;" in page
    assert "high is the highest price" in page
    for loading in ("http://", "https://", "src=", "@import", "<link"):
        assert loading not in page
