"""The suite in config/, run by the real Great Expectations: which bars it keeps, which it does not."""

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
ROW = 11

BREAKS: list[tuple[dict[str, Any], str]] = [
    ({"open": np.nan}, "open, high, low and close are known"),
    ({"close": np.nan}, "open, high, low and close are known"),
    ({"low": 0.0}, "prices are above 0"),
    ({"low": -3.0}, "prices are above 0"),
    ({"high": np.inf}, "prices are finite"),
    ({"high": 1.0}, "high is the highest price"),
    ({"close": 10_000.0}, "high is the highest price"),
    ({"low": 5_000.0}, "low is the lowest price"),
    ({"open": 0.5}, "low is the lowest price"),
    ({"volume": -1}, "volume is not negative"),
    ({"dividends": -0.1}, "dividends are not negative, and finite"),
    ({"dividends": np.inf}, "dividends are not negative, and finite"),
    ({"stock_splits": -2.0}, "stock splits are not negative, and finite"),
]


def examine(frame: pd.DataFrame, suite: Path = SUITE, most_bad_share: float = 0.05) -> Any:
    return judge(frame, "AAA", suite, most_bad_share)


def test_good_bars_all_pass() -> None:
    verdict = examine(make_bars(days=300))

    assert verdict.success
    assert len(verdict.valid) == 300


def test_an_adjusted_close_that_is_not_known_is_no_fault() -> None:
    assert examine(make_bars().assign(adj_close=np.nan)).success


@pytest.mark.parametrize(("change", "rule"), BREAKS)
def test_a_bar_that_breaks_a_rule_is_quarantined_alone(change: dict[str, Any], rule: str) -> None:
    frame = make_bars(days=40)
    for column, value in change.items():
        frame[column] = frame[column].astype("float64").mask(frame.index == ROW, value)

    verdict = examine(frame)

    assert not verdict.success
    assert not verdict.condemned
    assert verdict.quarantined["date"].tolist() == [frame.loc[ROW, "date"]]
    assert rule in verdict.quarantined["rules"].iloc[0].split("; ")
    assert verdict.findings[rule] == 1
    expected = frame.drop(index=ROW).reset_index(drop=True)
    pd.testing.assert_frame_equal(verdict.valid, expected, check_exact=True)


@pytest.mark.parametrize("value", [0.0, -150.7, np.inf])
def test_an_adjusted_close_that_cannot_be_costs_the_adjusted_close_alone(value: float) -> None:
    frame = make_bars(days=40)
    frame["adj_close"] = frame["adj_close"].mask(frame.index < 30, value)

    verdict = examine(frame)

    assert not verdict.success
    assert verdict.quarantined.empty
    assert not verdict.condemned
    assert verdict.valid["adj_close"].isna().tolist() == [True] * 30 + [False] * 10
    pd.testing.assert_frame_equal(verdict.valid.drop(columns="adj_close"), frame.drop(columns="adj_close"))
    assert len(verdict.flagged) == 30
    assert {flag["rule"] for flag in verdict.flagged} == {"adjusted close, where known, is above 0 and finite"}


def test_a_volume_that_is_not_known_costs_the_volume_alone() -> None:
    frame = make_bars(days=40)
    frame["volume"] = frame["volume"].astype("float64").mask(frame.index == 7)

    verdict = examine(frame)

    assert not verdict.success
    assert verdict.quarantined.empty
    assert verdict.findings == {"volume is known": 1}
    pd.testing.assert_frame_equal(verdict.valid, frame)


def test_good_years_are_kept_however_many_bad_ones_there_are() -> None:
    frame = make_bars(days=300)
    frame["open"] = frame["open"].mask(frame.index < 200, 0.0)

    verdict = judge(frame, "AAA", SUITE, 0.95)

    assert not verdict.condemned
    assert len(verdict.valid) == 100
    assert len(verdict.quarantined) == 200


def test_a_row_has_the_same_verdict_in_a_tail_and_in_the_whole_history() -> None:
    whole = make_bars(days=300)
    whole["open"] = whole["open"].mask(whole.index >= 293, 0.0)
    tail, before = whole.iloc[283:].reset_index(drop=True), whole.iloc[:283]

    of_whole, of_tail = judge(whole, "AAA", SUITE, 0.05), judge(tail, "AAA", SUITE, 0.05, before)

    assert not of_whole.condemned
    assert not of_tail.condemned
    pd.testing.assert_frame_equal(of_whole.quarantined, of_tail.quarantined)
    assert len(of_tail.quarantined) == 7


def test_a_price_of_a_million_millions_is_finite() -> None:
    frame = make_bars(days=40)
    for name in (*bars.PRICES, "adj_close"):
        frame[name] = frame[name] * 1e12

    assert examine(frame).success


# -- the newest session, while its source settles it


def newest(**values: float) -> pd.DataFrame:
    frame = make_bars(days=40).astype({"volume": "float64"})
    day = str(frame["date"].iloc[-1].date())
    for name, value in values.items():
        frame.loc[39, name] = value
    frame.attrs = {bars.FACTS: {"provisional": day}}
    return frame


def test_a_newest_bar_that_breaks_no_rule_waits_for_nothing() -> None:
    verdict = examine(newest())

    assert verdict.success
    assert verdict.waiting == []


@pytest.mark.parametrize(
    ("values", "lost"),
    [
        ({"open": 0.0}, ["open"]),
        ({"open": np.nan}, ["open"]),
        ({"high": np.nan, "low": -1.0}, ["high", "low"]),
        ({"open": 90.0}, ["open", "high"]),
        ({"open": 1.0}, ["open", "low"]),
        ({"high": 1.0, "low": 90.0}, ["high", "low"]),
        ({"volume": -1.0}, ["volume"]),
        ({"volume": 1.5}, ["volume"]),
    ],
    ids=str,
)
def test_a_newest_bar_with_a_usable_close_waits_and_is_stored_without_what_is_broken(
    values: dict[str, float], lost: list[str]
) -> None:
    frame = newest(**values)

    verdict = examine(frame)

    assert not verdict.success
    assert verdict.quarantined.empty
    assert len(verdict.valid) == 40
    bar = verdict.valid.iloc[-1]
    assert {name for name in bars.NUMBERS if pd.isna(bar[name])} == set(lost)
    assert bar["close"] == frame.loc[39, "close"]
    (waits,) = verdict.waiting
    assert (waits["date"], waits["stored"]) == ("2024-03-15", True)
    assert waits["rules"]
    assert verdict.summary()["rows"] == []


@pytest.mark.parametrize(
    "values",
    [
        {"close": np.nan},
        {"close": -1.0},
        {"close": np.inf},
        {"close": 90.0},
        {"close": 1.0},
        {"dividends": -1.0},
        {"open": 5_000.0, "high": 5_100.0, "low": 4_900.0, "close": 5_000.0},
    ],
    ids=str,
)
def test_a_newest_bar_without_a_usable_close_waits_outside(values: dict[str, float]) -> None:
    verdict = examine(newest(**values))

    assert len(verdict.valid) == 39
    assert verdict.quarantined["date"].astype("str").tolist() == ["2024-03-15"]
    (waits,) = verdict.waiting
    assert (waits["date"], waits["stored"]) == ("2024-03-15", False)
    assert verdict.summary()["rows"] == [], "it is told as waiting, not as quarantine"
    assert not verdict.condemned


def test_bars_before_the_newest_are_quarantined_as_ever() -> None:
    frame = newest(open=0.0)
    frame.loc[20, "open"] = 0.0

    verdict = examine(frame)

    assert verdict.quarantined["date"].tolist() == [frame.loc[20, "date"]]
    assert len(verdict.summary()["rows"]) == 1
    assert len(verdict.waiting) == 1


def test_two_bars_of_one_session_are_both_quarantined() -> None:
    frame = make_bars(days=60)
    frame["date"] = frame["date"].mask(frame.index == 5, frame.loc[4, "date"])

    verdict = examine(frame)

    assert verdict.quarantined.index.size == 2
    assert verdict.findings == {"one bar a session": 2}


def test_no_bars_at_all_are_condemned() -> None:
    verdict = examine(make_bars().iloc[:0])

    assert verdict.condemned == "has at least one bar"
    assert not verdict.success


def test_more_bad_bars_than_allowed_condemn_the_ticker() -> None:
    frame = make_bars(days=40)
    frame["close"] = frame["close"].mask(frame.index < 6, -1.0)

    strict, lenient = examine(frame), examine(frame, most_bad_share=0.2)

    assert strict.condemned.startswith("34 of 40 bars valid: 6 break 'prices are above 0; ")
    assert strict.condemned.endswith("(2024-01-22, 2024-01-23, 2024-01-24, 2024-01-25, 2024-01-26, …)")
    assert strict.valid.empty
    assert len(strict.quarantined) == 40
    assert not lenient.condemned
    assert len(lenient.valid) == 34


def test_a_suite_of_ones_own_is_run(tmp_path: Path) -> None:
    own = {
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": "volume", "min_value": 1_000_000},
    }
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"expectations": [own]}))
    frame = make_bars(days=40)

    verdict = examine(frame, path, most_bad_share=1.0)

    assert len(verdict.valid) == (frame["volume"] >= 1_000_000).sum()
    assert list(verdict.findings) == ["expect_column_values_to_be_between(column=volume, min_value=1000000.0)"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is not JSON"),
        ("[]", "has no expectations"),
        ('{"expectations": [{"type": "expect_pigs_to_fly", "kwargs": {}}]}', "cannot run it"),
        (
            '{"expectations": [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "nothing"}}]}',
            "expect_column_values_to_not_be_null",
        ),
    ],
)
def test_a_suite_that_cannot_be_run_is_explained(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(content)

    with pytest.raises(ConfigurationError) as raised:
        examine(make_bars(), path)

    assert "broken.json" in str(raised.value)
    assert words in str(raised.value)


def test_a_suite_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nothing.json: cannot be read"):
        examine(make_bars(), tmp_path / "nothing.json")


def test_the_pipeline_says_yes_or_no() -> None:
    pipeline = YfinancePipeline(suite_file=SUITE)
    bad = make_bars().assign(low=-1.0)

    assert pipeline.validate_ohlcv(make_bars(), "AAA") is True
    assert pipeline.validate_ohlcv(bad, "AAA") is False
    assert pipeline.validate_ticker("AAA") is True
    assert pipeline.validate_ticker("../x") is False
