"""A file's name tells its ticker: no two tickers share one."""

from __future__ import annotations

import string
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from luigi_tasks.targets.files import JsonTarget
from luigi_tasks.targets.paths import file_name
from luigi_tasks.tickers import problem_with

TEXT = st.one_of(
    st.text(st.characters(exclude_categories=()), min_size=1, max_size=16),
    st.text(alphabet="aA.%2eE/\\:-_ COMNUL1", min_size=1, max_size=10),
)
DEVICES = [
    *("CON", "PRN", "AUX", "NUL"),
    *(f"{port}{n}" for port in ("COM", "LPT") for n in "0123456789¹²³"),
    *("CONIN$", "CONOUT$", "CLOCK$"),
]
SAFE = set(string.ascii_uppercase + string.digits + "-_.%")


@given(TEXT)
@example("%41")
@example("A.%2E")
@example("\ud800")
def test_the_text_can_be_read_back_from_the_name(text: str) -> None:
    assert unquote_to_bytes(file_name(text)).decode("utf-8", "surrogatepass") == text


@given(TEXT)
def test_a_name_has_but_one_case_and_safe_characters(text: str) -> None:
    name = file_name(text)

    assert set(name) <= SAFE
    assert name == name.upper()
    assert name[0] != "."
    assert name[-1] != "."


@given(st.sampled_from(DEVICES), st.sampled_from(["", ".", ".TXT", ".A.B", "..", " ", ":"]), st.booleans())
def test_no_name_means_a_device_whatever_follows_it(device: str, more: str, lower: bool) -> None:
    text = device + more

    stem = f"{file_name(text.lower() if lower else text)}.parquet".partition(".")[0]

    assert stem.upper() not in DEVICES


@pytest.mark.parametrize("text", ["CONX", "XCON", "CO", "COM", "COM10", "LPT", "NULL", "AUXX"])
def test_what_only_looks_like_a_device_keeps_its_name(text: str) -> None:
    assert file_name(text) == text


@given(st.from_regex(r"[A-Z0-9^][A-Z0-9.\-=^&_]{0,31}", fullmatch=True))
def test_every_ticker_that_is_run_has_a_short_name(ticker: str) -> None:
    if problem_with(ticker) is None:
        assert 0 < len(file_name(ticker)) <= 100


@pytest.mark.parametrize("text", ["A" * 200, "=" * 66])
def test_the_longest_name_can_be_written(tmp_path: Path, text: str) -> None:
    target = JsonTarget(tmp_path / file_name(text))

    target.write("x")

    assert target.read() == "x"


@pytest.mark.parametrize("text", ["A" * 201, "=" * 67, "A" * 300])
def test_a_longer_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"ticker of {len(text)} characters"):
        file_name(text)
