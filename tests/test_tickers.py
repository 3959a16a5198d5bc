"""Which texts are tickers."""

from __future__ import annotations

import pytest

from luigi_tasks.errors import ConfigurationError
from luigi_tasks.tickers import checked, did_you_mean, normalise, problem_with, separated

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


def test_what_can_be_no_ticker_is_refused_in_a_line_that_shows_no_more_than_a_hundred_characters_of_it() -> None:
    assert checked(" aapl ") == "AAPL"
    with pytest.raises(ConfigurationError, match=r"^--ticker '\.\./\.\./ETC': has characters that no ticker has$"):
        checked("../../etc", "--ticker")
    with pytest.raises(ConfigurationError) as raised:
        checked("x" * 5000)
    assert len(str(raised.value)) < 200


def test_names_are_separated_by_commas_and_none_is_no_answer() -> None:
    assert separated(" AAPL,  MSFT,, ") == ("AAPL", "MSFT")
    with pytest.raises(ConfigurationError, match="names nothing"):
        separated(" , ")


@pytest.mark.parametrize(
    ("ticker", "known", "asked"),
    [
        ("BRK.B", {"BRK-B"}, True),
        ("BRK.B", {"BRK"}, False),
        ("BRK.B", None, True),
        ("VOD.L", {"VOD-L"}, True),
        ("VOD.L", None, False),
        ("SAP.F", None, False),
        ("AC.PA", None, False),
        ("0700.HK", None, False),
        ("BRK-B", {"BRK-B"}, False),
        ("A.B.C", None, False),
        ("^X.B", None, False),
    ],
)
def test_it_is_asked_whether_a_dot_should_be_a_hyphen_where_that_is_likely(
    ticker: str, known: set[str] | None, asked: bool
) -> None:
    question = did_you_mean(ticker, known)

    assert bool(question) == asked
    assert not asked or question.startswith(f"Did you mean {ticker.replace('.', '-')}? ")
