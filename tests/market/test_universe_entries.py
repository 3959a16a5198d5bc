"""What a person may write into the universe file, and what it is taken for."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luigi_tasks.errors import ConfigurationError
from luigi_tasks.market.universe import UniverseFile, validate
from luigi_tasks.tickers import normalise, problem_with
from tests.workspace import REPOSITORY


def universe(folder: Path, text: str | bytes) -> UniverseFile:
    path = folder / "universe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return UniverseFile.read(path)


@pytest.mark.parametrize("written", ["ON", "NO", "TRUE", "NULL", "~", "0700", "1.10", "1_000", "12:30", "2024-01-01"])
def test_what_yaml_takes_for_another_value_has_to_be_quoted(tmp_path: Path, written: str) -> None:
    with pytest.raises(ConfigurationError, match=r"universe\.yaml, grouping 'a': .* in quotes"):
        universe(tmp_path, f"groupings: {{a: {{tickers: [A, {written}]}}}}")

    assert list(universe(tmp_path, f"groupings: {{a: {{tickers: ['{written}']}}}}").resolve(["a"])) == [written]


@pytest.mark.parametrize("written", ["Y", "1E5", "0700.HK", "NA", "^GSPC", "M&M.NS", "BRK-B"])
def test_what_yaml_takes_for_text_needs_no_quotes(tmp_path: Path, written: str) -> None:
    assert list(universe(tmp_path, f"groupings: {{a: {{tickers: [{written}]}}}}").resolve(["a"])) == [written]


@pytest.mark.parametrize("written", ["no", "010", "1.10", "null", "2024-01-01"])
def test_a_grouping_never_gets_another_name_than_the_one_written(tmp_path: Path, written: str) -> None:
    with pytest.raises(ConfigurationError, match="quotes"):
        universe(tmp_path, f"groupings: {{{written}: {{tickers: [A]}}}}")


@pytest.mark.parametrize("default", ["oslo", "5", "{oslo: 1}", "true"])
def test_a_default_that_is_no_list_is_explained(tmp_path: Path, default: str) -> None:
    with pytest.raises(ConfigurationError, match="default"):
        universe(tmp_path, f"groupings: {{oslo: {{tickers: [A]}}}}\ndefault: {default}")


@pytest.mark.parametrize("kind", ["csv", "index"])
@pytest.mark.parametrize("value", ["[a]", "{a: b}"])
def test_a_place_of_tickers_is_text(tmp_path: Path, kind: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"universe.yaml, grouping 'a': {kind} must be text"):
        universe(tmp_path, f"groupings: {{a: {{{kind}: {value}}}}}")


def test_without_a_default_every_grouping_is_run(tmp_path: Path) -> None:
    assert universe(tmp_path, "groupings: {b: {tickers: [A]}, a: {tickers: [B]}}").default == ("b", "a")


@pytest.mark.parametrize(
    "text",
    [
        b"\xff\xfe\x00",
        b"groupings: \x00",
        b"- a\n- b\n",
        b"text",
        b"groupings: []",
        b"groupings: {}",
        b"groupings: {a: text}",
        b"groupings: {a: }",
        b"groupings: {a: {tickers: }}",
        b"groupings: {a: {tickers: {A: B}}}",
        b"groupings: {a: {index: [DAX]}}",
        b"groupings: {a: {index: DAX, csv: a.csv}}",
        b"groupings: &a {a: *b}",
        b"!!python/object/apply:os.getcwd []",
    ],
)
def test_any_other_file_is_a_configuration_error_that_names_it(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(ConfigurationError, match=r"universe\.yaml"):
        universe(tmp_path, text).resolve(["a"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"", "has no column ticker or symbol"),
        (b"ticker\n\xff\xfe\n", "is not a CSV file"),
        (b'ticker\n"' + b"A" * 200_000 + b'"\n', "is not a CSV file"),
    ],
    ids=["missing", "empty", "not text", "endless field"],
)
def test_a_csv_that_cannot_be_read_is_named_with_its_grouping(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / "list.csv").write_bytes(content)

    with pytest.raises(ConfigurationError, match=words) as raised:
        universe(tmp_path, "groupings: {nordic: {csv: list.csv}}").resolve(["nordic"])

    assert "list.csv" in str(raised.value)
    assert "'nordic'" in str(raised.value)


def test_a_universe_file_nested_without_end_is_no_yaml(tmp_path: Path) -> None:
    path = tmp_path / "universe.yaml"
    path.write_text(f"groupings: {'[' * 20_000}{']' * 20_000}")

    with pytest.raises(ConfigurationError, match="is not YAML"):
        UniverseFile.read(path)


@pytest.mark.parametrize("device", ["/dev/zero", "pipe"])
def test_what_has_no_end_is_not_read(tmp_path: Path, device: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = tmp_path / "universe.yaml"
    path.write_text(f"groupings:\n  all: {{csv: {device}}}\n")

    with pytest.raises(ConfigurationError, match=f"{device}: is not a file"):
        UniverseFile.read(path).resolve(["all"])


def test_short_rows_and_empty_lines_of_a_csv_are_no_crash_and_no_silence(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("name, Ticker \nApple,AAPL\n\nonly a name\nMore,MSFT,surplus\n")

    verdict = validate(universe(tmp_path, "groupings: {a: {csv: list.csv}}").resolve(["a"]))

    assert list(verdict.accepted) == ["AAPL", "MSFT"]
    assert verdict.rejected == [{"ticker": "", "groupings": ["a"], "reason": "is empty"}]


@pytest.mark.parametrize("text", ["groupings: {i: {index: S&P 5000}}"])
def test_an_index_nobody_knows_is_answered_with_those_that_are_known(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"It knows: .*DAX.*S&P 500"):
        universe(tmp_path, text).resolve(["i"])


def test_a_ticker_in_two_groupings_is_run_once_and_in_both(tmp_path: Path) -> None:
    listed = universe(tmp_path, "groupings: {a: {tickers: [A, B]}, b: {tickers: [B, C]}}").resolve(["b", "a"])
    verdict = validate(listed)

    assert verdict.accepted == {"B": ["b", "a"], "C": ["b"], "A": ["a"]}
    assert verdict.rejected == []


LISTED = st.dictionaries(
    st.one_of(st.text(max_size=130), st.sampled_from(["AAPL", "aapl", " AAPL", "", "ß", "ＡＡＰＬ", "A..B"])),
    st.lists(st.sampled_from("abc"), min_size=1, max_size=4),
    max_size=8,
)


@given(LISTED)
def test_every_listed_text_is_run_or_has_a_reason_and_no_grouping_is_lost(listed: dict[str, list[str]]) -> None:
    verdict = validate(listed)

    reported = {(item["ticker"], name) for item in verdict.rejected for name in item["groupings"]}
    for text, groupings in listed.items():
        ticker = normalise(text)
        for name in groupings:
            assert name in verdict.accepted.get(ticker, []) or (text[:100], name) in reported
    for item in verdict.rejected:
        assert item["reason"]
        assert len(item["ticker"]) <= 100
    assert all(problem_with(ticker) is None for ticker in verdict.accepted)
    assert all(len(set(names)) == len(names) for names in verdict.accepted.values())


@given(LISTED, st.integers(min_value=1, max_value=5))
def test_a_limit_changes_nothing_but_how_many_are_run(listed: dict[str, list[str]], limit: int) -> None:
    every, some = validate(listed), validate(listed, limit)

    assert list(some.accepted.items()) == list(every.accepted.items())[:limit]
    assert some.rejected == every.rejected


def test_the_digest_is_of_what_is_in_the_files_and_not_of_where_or_when(tmp_path: Path) -> None:
    text = "groupings: {a: {csv: a.csv}, i: {index: DAX}}"
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
        (folder / "a.csv").write_text("ticker\nA\n")
    os.utime(here / "a.csv", (1, 1))

    one, other = universe(here, text), universe(there, text)

    assert one.digest("x", 1) == other.digest("x", 1)
    assert len({one.digest("x", 1), one.digest("x", 2), one.digest("x1"), one.digest("x"), one.digest()}) == 5
    (there / "a.csv").unlink()
    assert other.digest("x", 1) != one.digest("x", 1)


def test_the_universe_that_comes_with_the_project_can_be_used(tmp_path: Path) -> None:
    for name in ("universe.yaml", "demo_universe.yaml", "demo_tickers.csv"):
        shutil.copy(REPOSITORY / "config" / name, tmp_path / name)
    for name in ("universe.yaml", "demo_universe.yaml"):
        found = UniverseFile.read(tmp_path / name)
        verdict = validate(found.resolve(found.groupings))

        assert len(verdict.accepted) > 100
        assert verdict.rejected == []


def test_what_tickers_are_called_now_is_spelled_as_everywhere(tmp_path: Path) -> None:
    entries = "groupings: {a: {tickers: [A]}}\nrenamed: "
    assert universe(tmp_path, f"{entries}{{fb: ' meta'}}").renamed == {"FB": "META"}
    with pytest.raises(ConfigurationError, match="FB has two new names: META and X"):
        universe(tmp_path, f"{entries}{{FB: META, fb: X}}")
