"""File names for hostile text."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luigi_tasks.targets import paths

HOSTILE = [
    "../../etc/passwd",
    "CON",
    "con",
    "nul.txt",
    ".",
    "..",
    "a/b",
    "a\\b",
    "'; drop table",
    "A.",
    ".A",
    "ＡＡ",
    "%41",
]
DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{name}{n}" for name in ("COM", "LPT") for n in range(10))}
texts = st.one_of(
    st.text(min_size=1, max_size=20), st.sampled_from(HOSTILE), st.from_regex(r"[aA.%/]{1,6}", fullmatch=True)
)


def test_tickers_keep_a_name_that_people_can_read() -> None:
    assert paths.file_name("BRK-B") == "BRK-B"
    assert paths.file_name("0700.HK") == "0700.HK"
    assert paths.file_name("^GSPC") == "%5EGSPC"


@given(texts, texts)
def test_no_two_texts_share_a_file_on_any_file_system(one: str, other: str) -> None:
    if one != other:
        assert paths.file_name(one).casefold() != paths.file_name(other).casefold()


@given(texts)
def test_no_name_leaves_its_folder_or_means_a_device(text: str) -> None:
    name = paths.file_name(text)

    assert not set(name) & set('/\\:*?"<>|\0')
    assert name.strip(". ") == name
    assert name.partition(".")[0].upper() not in DEVICES
    assert paths.bars(Path("/store"), "raw_bars", dt.date(2024, 1, 1), 10, text).parent.parts[:3] == (
        "/",
        "store",
        "raw_bars",
    )


@pytest.mark.parametrize("text", ["", "A" * 300, "ü" * 100])
def test_a_text_that_no_file_can_be_named_for_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no file can be named"):
        paths.file_name(text)
