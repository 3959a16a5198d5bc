"""The page and the summary, from a document."""

from __future__ import annotations

from typing import Any

import pytest

from luigi_tasks.report import render

STEP = {
    "step": "InsertOhlcv",
    "processed": 2,
    "succeeded": 1,
    "failed": 1,
    "skipped": 0,
    "blocked": 0,
    "rows": 1234,
    "seconds": 2.5,
}


def document(**changes: Any) -> dict[str, Any]:
    failure = {
        "ticker": "BBB",
        "step": "InsertOhlcv",
        "kind": "network",
        "reason": "<script>x</script>",
        "failed_at": "now",
    }
    return {
        "run_id": "run-1",
        "task": "RunAll",
        "parameters": {"date": "2024-01-01", "tickers": "<b>"},
        "as_of": "2024-01-01",
        "started_at": "2024-01-01 00:00:00",
        "written_at": "2024-01-01 00:00:01",
        "database": "postgresql://me:***@host/db",
        "tickers": {"done": 1, "failed": 1, "all": 2},
        "steps": [STEP],
        "failures": [failure],
        "failures_by_kind": [{"kind": "network", "count": 1, "remedy": "Check the network.", "tickers": ["BBB"]}],
        "quarantine": [{"ticker": "AAA", "rows": [{"date": "2023-12-29", "rules": "high is the highest price"}]}],
        "stored": {
            "bars": 1234,
            "tickers_with_bars": 1,
            "tickers_with_company_data": 1,
            "first_session": "2023-01-03",
            "last_session": "2023-12-29",
        },
        "by_ticker": [
            {"ticker": "AAA", "state": "done", "bars": 1234, "quarantined": 1, "reason": "", "steps": {}},
            {"ticker": "BBB", "state": "failed", "bars": 0, "quarantined": 0, "reason": "<img alt=x>", "steps": {}},
        ],
        "rejected": [{"ticker": "<i>", "groupings": ["a"], "reason": "has characters that no ticker has"}],
        "findings": [{"ticker": "AAA", "finding": "ends on 2023-12-27, though it traded on 2023-12-29"}],
        "retired": [],
        "gave_up": "",
        "outcome": "incomplete",
        "interrupted_by": "",
        "where": {"luigid": "127.0.0.1:8082"},
        "data_docs": "",
    } | changes


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
    assert "quarantined: 1 bars of 1 tickers" in text


def test_the_page_shows_hostile_text_as_text_and_loads_nothing() -> None:
    page = render.page(document())

    for hostile in ("<script>x", "<img", "<i>", "<b>"):
        assert hostile not in page
    assert "&lt;script&gt;" in page
    assert "high is the highest price" in page
    for loading in ("http://", "https://", "src=", "@import", "<script", "<link"):
        assert loading not in page
