"""What holds for every text that is taken for a ticker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luigi_tasks.tickers import LONGEST, normalise, problem_with

ALLOWED = set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-=^&_")
NEAR = st.text(alphabet="AZ09.-=^&_ az/\\\n\0'$%ＡßıſÅ\N{KELVIN SIGN}", max_size=40)


@given(st.one_of(st.text(max_size=40), NEAR))
def test_a_ticker_is_short_ascii_upper_case_and_none_of_it_means_anything_to_a_shell(text: str) -> None:
    if problem_with(text) is None:
        assert set(text) <= ALLOWED
        assert 1 <= len(text) <= LONGEST
        assert text[0] not in ".-=&_"
        assert ".." not in text
        assert not text.endswith(".")
        assert normalise(text) == text


@given(st.one_of(st.text(max_size=40), NEAR))
def test_normalising_twice_is_normalising_once_and_adds_no_letter(text: str) -> None:
    once = normalise(text)

    assert normalise(once) == once
    assert len(once) <= len(text)
    assert problem_with(once) is not None or once.casefold() == text.strip().casefold()


@pytest.mark.parametrize("text", ["ß", "ſ", "ı", "ﬁ", "\N{KELVIN SIGN}", "ＡＡＰＬ", "Å", "АAPL"])
def test_no_letter_outside_ascii_becomes_one_inside(text: str) -> None:
    assert problem_with(normalise(text)) == "has characters outside ASCII"


def test_the_longest_ticker_is_one_and_a_character_more_is_none() -> None:
    assert problem_with("A" * LONGEST) is None
    assert problem_with("A" * (LONGEST + 1)) == f"has {LONGEST + 1} characters, more than {LONGEST}"


@pytest.mark.parametrize("text", ["A\n", "\nA", "A\r\n", "A\t"])
def test_space_around_a_ticker_is_only_taken_away_by_normalising(text: str) -> None:
    assert problem_with(text) == "has characters that no ticker has"
    assert normalise(text) == "A"
