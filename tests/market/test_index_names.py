"""The members of every index that pytickersymbols knows, resolved without a network."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from pytickersymbols import PyTickerSymbols

from luigi_tasks.market.universe import UniverseFile, validate
from luigi_tasks.tickers import problem_with

INDICES = sorted(PyTickerSymbols().get_all_indices())
# Companies that pytickersymbols lists without a symbol: they are reported as empty.
WITHOUT_SYMBOL = {"CAC Mid 60": 23, "SDAX": 27}


def members(folder: Path, index: str) -> dict[str, list[str]]:
    path = folder / "universe.yaml"
    path.write_text(f"groupings: {{i: {{index: '{index}'}}}}")
    return UniverseFile.read(path).resolve(["i"])


@pytest.mark.parametrize("index", INDICES)
def test_every_member_is_well_formed_or_has_a_reason(tmp_path: Path, index: str) -> None:
    listed = members(tmp_path, index)
    verdict = validate(listed)

    assert sum(map(len, listed.values())) == len(list(PyTickerSymbols().get_stocks_by_index(index)))
    assert all(problem_with(ticker) is None for ticker in verdict.accepted)
    assert set(listed) <= set(verdict.accepted) | {item["ticker"] for item in verdict.rejected}
    assert all(item["reason"] for item in verdict.rejected)


@pytest.mark.parametrize("index", INDICES)
def test_no_more_members_than_are_known_to_lack_a_symbol_do(tmp_path: Path, index: str) -> None:
    assert len(members(tmp_path, index).get("", [])) <= WITHOUT_SYMBOL.get(index, 0)


def test_a_report_says_how_many_members_have_no_symbol() -> None:
    reasons = [item["reason"] for item in validate({"": ["sdax"] * 27}).rejected]

    assert any("27" in reason for reason in reasons), f"{reasons} for 27 companies is silence about 26"


@pytest.mark.parametrize(
    ("index", "ticker"),
    [
        ("S&P 500", "BRK-B"),
        ("S&P 500", "BF-B"),
        ("S&P 500", "ON"),
        ("FTSE 100", "VOD.L"),
        ("DAX", "SAP.DE"),
        ("NIKKEI 225", "7203.T"),
        ("AEX", "ASML.AS"),
        ("Switzerland 20", "NESN.SW"),
        ("OMX Stockholm 30", "VOLV-B.ST"),
    ],
)
def test_a_member_is_spelled_as_yahoo_spells_its_home_listing(tmp_path: Path, index: str, ticker: str) -> None:
    assert ticker in members(tmp_path, index)


def test_an_index_has_one_home_suffix_mostly(tmp_path: Path) -> None:
    for index, suffix in {"DAX": "DE", "FTSE 100": "L", "NIKKEI 225": "T", "AEX": "AS", "S&P 500": ""}.items():
        suffixes = Counter(ticker.partition(".")[2] for ticker in members(tmp_path, index))
        assert suffixes[suffix] >= 0.9 * suffixes.total(), (index, suffixes)
