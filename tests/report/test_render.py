"""The page and the summary, from a document."""

from __future__ import annotations

from typing import Any

import pytest
from markupsafe import escape

from luigi_tasks.report import findings, render
from tests.report.documents import STEP, document, told


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "1 of 2 tickers are not done; 1 are."),
        ({"tickers": {"done": 2, "all": 2}}, "All 2 tickers are stored as of 2024-01-01."),
        ({"tickers": {"done": 1, "all": 1}}, "The ticker is stored as of 2024-01-01."),
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


def many() -> list[dict[str, Any]]:
    """Findings of two kinds, of fifty tickers each, and one of all tickers of an exchange."""
    tickers = [f"T{number:02}" for number in range(50)]
    return [
        *(findings.finding(ticker, "restated", f"3 bars of {ticker}") for ticker in tickers),
        *(findings.finding(ticker, "split missing", f"1 bar of {ticker}") for ticker in tickers),
        findings.finding("NMS", "outage", "40 of 50 securities", tickers=40),
    ]


def test_the_summary_has_failures_before_findings_and_a_line_a_kind() -> None:
    lines = render.terminal(document(**told(many())), "/var/report.html").splitlines()

    start = lines.index("  findings: 101, the gravest first")
    assert lines[start + 1 : start + 6] == [
        "    wrong as served:",
        "      split missing (50 tickers): T00: 1 bar of T00; also T01, T02, T03, T04, T05, T06, …",
        "    doubtful, or lacking:",
        "      outage (40 tickers): NMS: 40 of 50 securities",
        "      restated (50 tickers): T00: 3 bars of T00; also T01, T02, T03, T04, T05, T06, …",
    ]
    for before in ("  failed, network (1): BBB", "    BBB: <script>x</script>", "  quarantined: 1 bar of 1 ticker"):
        assert lines.index(before) < start
    assert lines.index("  report    /var/report.html") == start + 6


def test_a_long_finding_is_cut_in_the_summary_and_whole_on_the_page() -> None:
    found = [findings.finding("AAA", "restated", "x" * 500)]

    assert max(map(len, render.terminal(document(**told(found)), "report.html").splitlines())) < 200
    assert "x" * 500 in render.page(document(**told(found)))


def test_the_page_has_a_row_a_kind_with_what_to_do_and_all_findings() -> None:
    page = render.page(document(**told(many())))

    for kind in ("split missing", "restated", "outage"):
        assert page.count(str(escape(findings.KINDS[kind].words))) == 1
    assert all(f"3 bars of T{number:02}" in page for number in range(50))
    assert page.index("1 bar of T49") < page.index("40 of 50 securities") < page.index("3 bars of T00")


def test_what_is_as_it_should_be_stands_under_what_changed() -> None:
    routine = {"refilled": 12, "provisional": 1500}

    page = render.page(document(changes={"listings": [], "revised": {"settled": 500}, "routine": routine}))

    told = " ".join(page.split())
    assert "500 (settled)" in told
    assert (
        "As it should be: 1,500 of the newest bars may still be settled by the source; 12 sessions that came after all."
        in told
    )


def test_a_report_from_before_findings_had_a_kind_can_be_drawn_again() -> None:
    old = document(findings=[{"ticker": "AAA", "finding": "ends early"}])
    for name in ("findings_by_kind", "repaired"):
        del old[name]

    assert "AAA: ends early" in render.terminal(old, "report.html")
    assert "ends early" in render.page(old)


def test_the_page_shows_hostile_text_as_text_and_loads_nothing() -> None:
    page = render.page(document())

    for hostile in ("<script>x", "<img", "<i>", "<b>"):
        assert hostile not in page
    assert "&lt;script&gt;" in page
    assert "high is the highest price" in page
    for loading in ("http://", "https://", "src=", "@import", "<link"):
        assert loading not in page
