"""Which texts are tickers."""

from __future__ import annotations

import pytest

from luigi_tasks.market.tickers import normalise, problem_with

GOOD = ["AAPL", "BRK-B", "^GSPC", "EURUSD=X", "0700.HK", "M&M.NS", "DX-Y.NYB", "AAPL261218C00150000", "CON", "NA"]
BAD = [
    "../../etc/passwd",
    "'; drop table",
    "A" * 300,
    "ＡＡＰＬ",
    "ß",
    "",
    "A..B",
    "A.",
    "-A",
    "A B",
    "A\n",
    "A\0B",
    "a",
    "$A",
]


@pytest.mark.parametrize("ticker", GOOD)
def test_what_yahoo_lists_is_well_formed(ticker: str) -> None:
    assert problem_with(ticker) is None


@pytest.mark.parametrize("text", BAD)
def test_anything_else_has_a_problem_in_words(text: str) -> None:
    assert problem_with(text)


def test_case_and_space_do_not_matter_but_no_other_letter_becomes_a_ticker() -> None:
    assert normalise(" brk-b\t") == "BRK-B"
    assert normalise("ß") == "ß", "upper() would make it SS, which is another company"
