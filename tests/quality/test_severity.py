"""What a broken rule does, by its severity, and what is told of it: value and threshold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from luigi_tasks.errors import ConfigurationError
from luigi_tasks.quality.suite import judge
from tests.conftest import make_bars
from tests.workspace import REPOSITORY

SUITE = REPOSITORY / "config/ohlcv_suite.json"
ROW = 7
CHEAP = {"type": "expect_column_values_to_be_between", "kwargs": {"column": "low", "min_value": 0}}
SHORT = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1000}}


def with_value(column: str, value: float, days: int = 40) -> pd.DataFrame:
    frame = make_bars(days=days).astype({"volume": "float64"})
    frame[column] = frame[column].mask(frame.index == ROW, value)
    return frame


def suite(folder: Path, *expectations: dict[str, Any]) -> Path:
    path = folder / "own.json"
    path.write_text(json.dumps({"name": "own", "expectations": expectations}))
    return path


@pytest.mark.parametrize("severity", [{}, {"severity": "critical"}])
def test_a_critical_rule_quarantines_and_is_the_default(tmp_path: Path, severity: dict[str, str]) -> None:
    verdict = judge(with_value("low", -1.0), "AAA", suite(tmp_path, CHEAP | severity), 0.05)

    assert (len(verdict.valid), len(verdict.quarantined), verdict.flagged) == (39, 1, [])


@pytest.mark.parametrize("severity", ["warning", "info"])
def test_a_lesser_rule_flags_the_row_which_stays_valid(tmp_path: Path, severity: str) -> None:
    frame = with_value("low", -1.0)
    rule = CHEAP | {"severity": severity, "meta": {"rule": "low is cheap"}}

    verdict = judge(frame, "AAA", suite(tmp_path, rule), 0.0)

    day = f"{frame.loc[ROW, 'date']:%Y-%m-%d}"
    flag = {"date": day, "rule": "low is cheap", "value": -1.0, "threshold": ">= 0", "severity": severity}
    assert verdict.flagged == json.loads(json.dumps(verdict.summary(), allow_nan=False))["flagged"] == [flag]
    assert verdict.success
    assert verdict.findings == {"low is cheap": 1}
    pd.testing.assert_frame_equal(verdict.valid, frame)


def test_lesser_rules_condemn_nobody_however_many_rows_break_them(tmp_path: Path) -> None:
    verdict = judge(make_bars().assign(low=-1.0), "AAA", suite(tmp_path, CHEAP | {"severity": "warning"}), 0.0)

    assert len(verdict.flagged) == len(verdict.valid) == 30


def test_a_lesser_rule_about_the_table_is_told_and_condemns_nobody(tmp_path: Path) -> None:
    rule = SHORT | {"severity": "warning", "meta": {"rule": "has many bars"}}

    verdict = judge(make_bars(days=40), "AAA", suite(tmp_path, rule), 0.0)

    told = {"date": None, "rule": "has many bars", "value": 40, "threshold": ">= 1000", "severity": "warning"}
    assert (verdict.flagged, verdict.condemned, len(verdict.valid)) == ([told], "", 40)


def test_a_quarantined_row_tells_of_lesser_rules_too_and_is_not_flagged(tmp_path: Path) -> None:
    lesser = {
        "type": "expect_column_values_to_be_in_set",
        "kwargs": {"column": "low", "value_set": [0.0]},
        "severity": "info",
        "meta": {"rule": "low is 0"},
    }

    verdict = judge(with_value("low", -1.0), "AAA", suite(tmp_path, CHEAP | {"meta": {"rule": "cheap"}}, lesser), 0.05)

    assert verdict.quarantined["rules"].tolist() == ["cheap; low is 0"]
    assert len(verdict.flagged) == 39


def test_a_critical_rule_about_the_table_tells_value_and_threshold_for_every_row(tmp_path: Path) -> None:
    verdict = judge(make_bars(days=3), "AAA", suite(tmp_path, SHORT | {"meta": {"rule": "long"}}), 1.0)

    told = [{"rule": "long", "value": 3, "threshold": ">= 1000"}]
    assert [json.loads(text) for text in verdict.quarantined["broken"]] == [told] * 3


def test_a_severity_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"own\.json"):
        judge(make_bars(), "AAA", suite(tmp_path, CHEAP | {"severity": "deadly"}), 0.05)


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("low", -1.0, {"rule": "prices are above 0", "value": -1.0, "threshold": "> 0"}),
        ("high", np.inf, {"rule": "prices are finite", "value": "inf", "threshold": "<= 1.7e308"}),
        ("open", np.nan, {"rule": "open, high, low and close are known", "value": None, "threshold": "known"}),
        ("volume", 1.5, {"rule": "volume is a whole number", "value": 1.5, "threshold": "known"}),
        ("volume", -3.0, {"rule": "volume is not negative", "value": -3.0, "threshold": ">= 0 and <= 9e18"}),
    ],
)
def test_value_and_threshold_of_a_broken_rule(column: str, value: float, told: dict[str, Any]) -> None:
    verdict = judge(with_value(column, value), "AAA", SUITE, 0.05)

    (broken,) = (json.loads(text) for text in verdict.quarantined["broken"])
    assert told in broken


def test_a_rule_about_two_columns_tells_both_values() -> None:
    frame = with_value("high", 1.0)

    (broken,) = (json.loads(text) for text in judge(frame, "AAA", SUITE, 0.05).quarantined["broken"])

    greatest = float(frame.loc[ROW, ["open", "low", "close"]].max())
    assert broken[0] == {
        "rule": "high is the highest price",
        "value": {"high": 1.0, "greatest_price": greatest},
        "threshold": "high >= greatest_price",
    }


def test_two_bars_of_one_session_tell_the_day() -> None:
    frame = make_bars(days=60)
    frame["date"] = frame["date"].mask(frame.index == 5, frame.loc[4, "date"])

    texts = judge(frame, "AAA", SUITE, 0.05).quarantined["broken"]

    day = f"{frame.loc[4, 'date']:%Y-%m-%d}"
    assert [json.loads(text) for text in texts] == [
        [{"rule": "one bar a session", "value": day, "threshold": "unique"}]
    ] * 2
