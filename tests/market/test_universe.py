"""From the configuration file to the tickers of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytickersymbols import PyTickerSymbols

from luigi_tasks.errors import ConfigurationError
from luigi_tasks.market.universe import UniverseFile, validate
from luigi_tasks.tickers import normalise, problem_with


def universe(tmp_path: Path, text: str) -> UniverseFile:
    path = tmp_path / "universe.yaml"
    path.write_text(text)
    return UniverseFile.read(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no groupings"),
        ("groupings: [", "is not YAML"),
        ("groupings: {a: {}}", "must have exactly one of tickers, csv, index"),
        ("groupings: {a: {tickers: [A], index: DAX}}", "must have exactly one of tickers, csv, index"),
        ("groupings: {a: {tickers: A}}", "tickers must be a list"),
        ("groupings: {a: {csv: [A]}}", "csv must be text"),
        ("groupings: {a: {tickers: [AAPL, ON]}}", "YAML reads a ticker as True. Put it in quotes"),
        ("groupings: {a: {tickers: [0700]}}", "YAML reads a ticker as 448. Put it in quotes"),
        ("groupings: {'a, b': {tickers: [A]}}", "has a comma, a space around it, or no name at all"),
        ("groupings: {a: {tickers: [A]}}\ndefault: [b]", "grouping 'b': is not in universe.yaml. It has: a."),
    ],
)
def test_a_file_that_cannot_be_used_is_explained(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        universe(tmp_path, text)

    assert words in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nothing.yaml: cannot be read \(No such file"):
        UniverseFile.read(tmp_path / "nothing.yaml")


def test_a_csv_is_read_by_its_ticker_or_symbol_column_or_the_named_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Name,Symbol\nApple,AAPL\nNothing,\n")
    (tmp_path / "b.csv").write_text("\ufeffISIN,Code\nX,NA\n", encoding="utf-8")
    found = universe(tmp_path, "groupings: {a: {csv: a.csv}, b: {csv: b.csv, column: code}}")

    assert found.resolve(["a", "b"]) == {"AAPL": ["a"], "": ["a"], "NA": ["b"]}


def test_a_csv_without_the_column_is_explained(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("Name\nApple\n")

    with pytest.raises(ConfigurationError, match="has no column ticker or symbol"):
        universe(tmp_path, "groupings: {a: {csv: a.csv}}").resolve(["a"])


@pytest.mark.parametrize("index", sorted(PyTickerSymbols().get_all_indices()))
def test_an_index_becomes_tickers_in_yahoos_spelling(tmp_path: Path, index: str) -> None:
    listed = universe(tmp_path, f"groupings: {{i: {{index: '{index}'}}}}").resolve(["i"])
    verdict = validate(listed)

    assert len(verdict.accepted) >= 0.9 * len(listed) > 0, verdict.rejected


def test_share_classes_are_spelled_as_yahoo_does(tmp_path: Path) -> None:
    listed = universe(tmp_path, "groupings: {i: {index: 'S&P 500'}}").resolve(["i"])

    assert {"BRK-B", "BF-B", "AAPL"} <= set(listed)
    assert not {"BRK.B", "BF.B"} & set(listed)


def test_a_listing_has_one_exchange(tmp_path: Path) -> None:
    listed = universe(tmp_path, "groupings: {i: {index: DAX}}").resolve(["i"])

    assert "AIR.PA" in listed
    assert all(ticker.count(".") <= 1 for ticker in listed)


def test_duplicates_are_joined_and_reported() -> None:
    verdict = validate({"AAPL": ["a", "a", "b"], " aapl": ["c"], "MSFT": ["a"]})

    assert verdict.accepted == {"AAPL": ["a", "b", "c"], "MSFT": ["a"]}
    assert verdict.rejected == [
        {"ticker": "AAPL", "groupings": ["a"], "reason": "is listed 2 times in a; once is enough"},
        {"ticker": " aapl", "groupings": ["c"], "reason": "is 'AAPL' again; listed once is enough"},
    ]


def test_the_limit_keeps_the_first_valid_ones() -> None:
    assert list(validate({"?": ["a"], "B": ["a"], "A": ["a"], "C": ["a"]}, limit=2).accepted) == ["B", "A"]


@given(st.dictionaries(st.text(max_size=40), st.lists(st.sampled_from("abc"), min_size=1, max_size=3), max_size=8))
def test_nothing_that_is_listed_is_dropped_silently(listed: dict[str, list[str]]) -> None:
    verdict = validate(listed)

    rejected = {item["ticker"] for item in verdict.rejected}
    for text in listed:
        assert normalise(text) in verdict.accepted or text[:100] in rejected
    assert all(problem_with(ticker) is None for ticker in verdict.accepted)


def test_the_digest_changes_with_the_file_its_csv_and_the_arguments_and_with_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("ticker\nA\n")
    text = "groupings: {a: {csv: a.csv}}"
    first = universe(tmp_path, text).digest("x")

    assert universe(tmp_path, text).digest("x") == first
    assert universe(tmp_path, text).digest("y") != first
    assert universe(tmp_path, text + "\n#").digest("x") != first
    (tmp_path / "a.csv").write_text("ticker\nB\n")
    assert universe(tmp_path, text).digest("x") != first


BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 15)]
)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ("groupings: {g: {tickers: [*a14]}}", "YAML reads a ticker as"),
        ("groupings: {g: {tickers: *a14}}", "YAML reads a ticker as"),
        ("groupings: {g: *a14}", "must have exactly one of"),
        ("groupings: *a14", "has no groupings"),
        ("groupings: {g: {tickers: [A]}}\ndefault: [*a14]", "YAML reads a name as"),
        ("groupings: {g: {tickers: [A]}}\nrenamed: {FB: *a14}", "YAML reads it as something else"),
    ],
)
def test_a_file_that_stands_for_more_than_there_is_memory_is_named_in_a_line(
    tmp_path: Path, entries: str, words: str
) -> None:
    path = tmp_path / "universe.yaml"
    path.write_text(f"{BOMB}\n{entries}\n")

    with pytest.raises(ConfigurationError, match=words) as raised:
        UniverseFile.read(path)

    assert len(str(raised.value)) < 500


def test_a_file_that_no_list_of_tickers_can_be_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "universe.yaml"
    path.write_text("groupings: {g: {csv: long.csv}}\n")
    for name in ("long.csv", "universe.yaml"):
        universe = UniverseFile.read(path)
        with (tmp_path / name).open("ab") as file:
            # Sparse: it takes no room.
            file.truncate(10**12)
        with pytest.raises(ConfigurationError, match=f"{name}.*more than 50 MB"):
            UniverseFile.read(path).resolve(universe.default)
