"""Which rows a verdict means, and how it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from luigi_tasks import bars
from luigi_tasks.errors import ConfigurationError
from luigi_tasks.pipeline import YfinancePipeline
from luigi_tasks.quality.suite import judge
from tests.conftest import make_bars
from tests.workspace import REPOSITORY

SUITE = REPOSITORY / "config/ohlcv_suite.json"


def with_bad_row(days: int, row: int) -> pd.DataFrame:
    frame = make_bars(days=days)
    frame["low"] = frame["low"].mask(frame.index == row, -1.0)
    return frame


@pytest.mark.parametrize(
    "labels",
    [range(100, 140), [0] * 40, list("ab") * 20, list(range(40))[::-1], pd.bdate_range("2020-01-01", periods=40)],
    ids=["a part of a longer frame", "one label", "two labels", "backwards", "dates"],
)
def test_labels_of_rows_do_not_matter(labels: Any) -> None:
    frame = with_bad_row(40, 11)

    verdict = judge(frame.set_axis(pd.Index(labels)), "AAA", SUITE, 0.05)

    assert verdict.condemned == ""
    assert verdict.quarantined["date"].tolist() == [frame["date"][11]]
    pd.testing.assert_frame_equal(verdict.valid, frame.drop(index=11).reset_index(drop=True), check_exact=True)


def test_a_bar_that_breaks_several_rules_names_each() -> None:
    frame = make_bars(days=40)
    broken = frame.index == 7
    frame["low"], frame["dividends"] = frame["low"].mask(broken, -1.0), frame["dividends"].mask(broken, -2.0)

    verdict = judge(frame, "AAA", SUITE, 0.05)

    (rules,) = verdict.quarantined["rules"]
    assert set(rules.split("; ")) == {"prices are above 0", "dividends are not negative, and finite"}
    assert set(verdict.findings.values()) == {1}


def test_valid_and_quarantined_are_all_the_bars_with_all_their_columns() -> None:
    frame = with_bad_row(40, 0).assign(low=lambda f: f["low"].mask(f.index == 39, np.nan))

    verdict = judge(frame, "AAA", SUITE, 0.05)

    assert list(verdict.valid.columns) == list(bars.COLUMNS)
    assert list(verdict.quarantined.columns) == [*bars.COLUMNS, "rules", "broken"]
    quarantined = verdict.quarantined.drop(columns=["rules", "broken"])
    again = pd.concat([verdict.valid, quarantined]).sort_values("date", ignore_index=True)
    pd.testing.assert_frame_equal(again, frame, check_exact=True)


@pytest.mark.parametrize(("bad", "condemned"), [(1, False), (8, False), (9, True)])
def test_just_the_allowed_share_of_bad_bars_is_allowed(bad: int, condemned: bool) -> None:
    frame = make_bars(days=40)
    frame["low"] = frame["low"].mask(frame.index < bad, -1.0)

    verdict = judge(frame, "AAA", SUITE, 8 / 40)

    assert bool(verdict.condemned) is condemned
    assert len(verdict.quarantined) == (40 if condemned else bad)


@pytest.mark.parametrize("rows", [2, 11, 40])
def test_a_few_bad_bars_condemn_nobody_however_few_there_are(rows: int) -> None:
    verdict = judge(with_bad_row(rows, 1), "AAA", SUITE, 0.0)

    assert (len(verdict.valid), len(verdict.quarantined), verdict.condemned) == (rows - 1, 1, "")


@pytest.mark.parametrize("rows", [1, 2, 5, 40])
def test_no_valid_bar_at_all_condemns_even_where_every_share_is_allowed(rows: int) -> None:
    verdict = judge(make_bars(days=rows).assign(low=-1.0), "AAA", SUITE, 1.0)

    assert verdict.condemned.startswith(f"none of {rows} bars valid: {rows} break 'prices are above 0' (20")
    assert len(verdict.quarantined) == rows


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_no_share_and_every_share_can_be_allowed(share: float) -> None:
    frame = make_bars(days=40).assign(low=lambda f: f["low"].mask(f.index < 6, -1.0))

    assert bool(judge(frame, "AAA", SUITE, share).condemned) is (share == 0)
    assert not judge(make_bars(days=40), "AAA", SUITE, share).condemned


def test_the_bars_that_are_judged_are_not_changed() -> None:
    frame = with_bad_row(40, 5)
    before = frame.copy(deep=True)

    judge(frame, "AAA", SUITE, 0.05)

    pd.testing.assert_frame_equal(frame, before)


@pytest.mark.parametrize("frame", [make_bars(), with_bad_row(40, 5), with_bad_row(40, 5).iloc[:0], with_bad_row(2, 0)])
def test_a_summary_is_json_and_counts_every_bar(frame: pd.DataFrame) -> None:
    verdict = judge(frame, "AAA", SUITE, 0.05)

    summary = json.loads(json.dumps(verdict.summary(), allow_nan=False))

    assert summary["valid"] + summary["quarantined"] == len(frame)
    assert summary["success"] is verdict.success
    assert summary["condemned"] == verdict.condemned
    assert [row["date"] for row in summary["rows"]] == [f"{day:%Y-%m-%d}" for day in verdict.quarantined["date"]]
    assert all(row["rules"] == "; ".join(entry["rule"] for entry in row["broken"]) for row in summary["rows"])
    assert [row["broken"] for row in summary["rows"]] == [json.loads(text) for text in verdict.quarantined["broken"]]


NOT_BARS = {
    **{f"without {name}": make_bars().drop(columns=name) for name in bars.COLUMNS[:-2]},
    "nothing at all": pd.DataFrame(),
    "words for prices": make_bars().assign(close="x"),
    "words for volumes": make_bars().assign(volume="x"),
}


@pytest.mark.parametrize("name", NOT_BARS)
def test_a_frame_that_is_no_bars_is_not_valid_and_the_suite_is_not_blamed(name: str) -> None:
    pipeline = YfinancePipeline(suite_file=SUITE)

    verdict = pipeline.examine_ohlcv(NOT_BARS[name], "AAA")

    assert verdict.condemned
    assert verdict.valid.empty
    assert pipeline.validate_ohlcv(NOT_BARS[name], "AAA") is False


def own_suite(folder: Path, *expectations: dict[str, Any]) -> Path:
    path = folder / "own.json"
    path.write_text(json.dumps({"name": "own", "expectations": expectations}))
    return path


def test_a_rule_of_ones_own_is_told_in_ones_own_words(tmp_path: Path) -> None:
    rule = {
        "type": "expect_column_values_to_be_in_set",
        "kwargs": {"column": "stock_splits", "value_set": [0.0]},
        "meta": {"rule": "no splits here"},
    }
    frame = make_bars(days=40).assign(stock_splits=lambda f: f["stock_splits"].mask(f.index == 3, 2.0))

    verdict = judge(frame, "AAA", own_suite(tmp_path, rule), 0.05)

    assert verdict.findings == {"no splits here": 1}
    assert verdict.quarantined["rules"].tolist() == ["no splits here"]


def test_a_rule_about_the_whole_table_condemns_it(tmp_path: Path) -> None:
    rule = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1000}}

    verdict = judge(make_bars(days=40), "AAA", own_suite(tmp_path, rule), 1.0)

    assert "expect_table_row_count_to_be_between" in verdict.condemned
    assert verdict.valid.empty
    assert len(verdict.quarantined) == 40


def test_a_rule_that_may_be_broken_by_some_condemns_nobody(tmp_path: Path) -> None:
    rule = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "low", "min_value": 0, "mostly": 0.9}}

    assert judge(with_bad_row(40, 5), "AAA", own_suite(tmp_path, rule), 0.0).success


@pytest.mark.parametrize(
    "broken",
    [
        {"type": "expect_pigs_to_fly", "kwargs": {}},
        {"type": "expect_column_values_to_be_between", "kwargs": {"colum": "low", "min_value": 0}},
        {"type": "expect_column_values_to_be_between", "kwargs": {"column": "low", "min_value": "much"}},
        {"kwargs": {}},
        {
            "type": "expect_column_values_to_not_be_null",
            "kwargs": {"column": "nothing"},
            "meta": {"rule": "it is there"},
        },
        "expect_column_values_to_not_be_null",
        None,
    ],
)
def test_one_bad_rule_among_good_ones_is_never_left_out(tmp_path: Path, broken: Any) -> None:
    good = {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "low"}}

    with pytest.raises(ConfigurationError, match=r"own\.json"):
        judge(make_bars(days=5), "AAA", own_suite(tmp_path, good, broken), 0.05)


@pytest.mark.parametrize(
    "content", [b"\xff\xfe", b"", b"null", b"{}", b'{"expectations": {}}', b'{"expectations": []}']
)
def test_a_file_that_is_no_suite_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "own.json").write_bytes(content)

    with pytest.raises(ConfigurationError, match=r"own\.json"):
        judge(make_bars(days=5), "AAA", tmp_path / "own.json", 0.05)
