"""Bars that no rule forbids: found where they are put, nowhere else, and treated by their severity."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from luigi_tasks import bars
from luigi_tasks.quality.suite import for_suite, judge
from luigi_tasks.quality.suspicions import signs
from tests.conftest import make_bars
from tests.workspace import REPOSITORY

SUITE = REPOSITORY / "config/ohlcv_suite.json"
DAYS = 80
PRICES = [*bars.PRICES, "adj_close"]


def plain(seed: int = 1) -> pd.DataFrame:
    return make_bars(days=DAYS, seed=seed)


def scaled(rows: slice, factor: float) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[rows, PRICES] *= factor
        return frame

    return change


def repeated(rows: slice) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        columns = [*PRICES, "volume"]
        frame.loc[rows, columns] = frame.loc[rows.start, columns].to_numpy()
        return frame

    return change


def silent(frame: pd.DataFrame) -> pd.DataFrame:
    frame.loc[40, "volume"] = 0
    return frame


def told(frame: pd.DataFrame) -> pd.DataFrame:
    frame = scaled(slice(40, None), 0.25)(frame)
    frame.loc[40, "stock_splits"] = 4.0
    return frame


FOUND = {
    "one bar in pence": (scaled(slice(40, 40), 100), {"currency_unit": [40], "spike": [40]}),
    "the first three in pence": (scaled(slice(0, 2), 100), {"currency_unit": [0, 1, 2]}),
    "the last bar in pounds": (scaled(slice(79, 79), 0.01), {"currency_unit": [79]}),
    "a split that is not told": (scaled(slice(40, None), 0.25), {"unapplied_split": [40]}),
    "a reverse split that is not told": (scaled(slice(40, None), 10), {"unapplied_split": [40]}),
    "a split that is told": (told, {}),
    "a third off for good": (scaled(slice(40, None), 0.7), {}),
    "the same bar four times": (repeated(slice(40, 43)), {"stale": [42, 43]}),
    "the same bar twice": (repeated(slice(40, 41)), {}),
    "a leap and back": (scaled(slice(40, 40), 1.9), {"spike": [40]}),
    "a move without volume": (silent, {"silent_move": [40]}),
    "nothing": (lambda frame: frame, {}),
}


@pytest.mark.parametrize("name", FOUND)
def test_a_suspicious_bar_is_found_and_no_other(name: str) -> None:
    change, wanted = FOUND[name]

    found = signs(change(plain()))

    assert {
        column: list(found.index[found[column].notna()]) for column in found if found[column].notna().any()
    } == wanted


def test_what_was_measured_is_told() -> None:
    assert signs(scaled(slice(40, 40), 100)(plain()))["currency_unit"][40] == pytest.approx(100, rel=0.1)


def test_an_index_without_volume_is_not_silent() -> None:
    frame = plain().assign(volume=0)

    assert signs(frame).isna().all(axis=None)


def test_a_wrong_unit_is_quarantined_with_rule_value_and_threshold() -> None:
    verdict = judge(scaled(slice(40, 40), 100)(plain()), "AAA", SUITE, 0.05)

    assert verdict.quarantined["date"].tolist() == [plain()["date"][40]]
    (broken,) = json.loads(verdict.quarantined["broken"].iloc[0])
    assert broken["rule"] == "prices are in their usual currency unit"
    assert broken["value"] == pytest.approx(100, rel=0.1)
    assert broken["threshold"] == "not about 100 times the level around it, or 1/100"


def test_what_is_flagged_stays() -> None:
    frame = repeated(slice(40, 42))(plain())

    verdict = judge(frame, "AAA", SUITE, 0.05)

    assert verdict.success
    assert len(verdict.valid) == DAYS
    (flag,) = verdict.flagged
    assert (flag["date"], flag["value"], flag["severity"]) == (f"{frame['date'][42]:%Y-%m-%d}", 3.0, "warning")
    assert verdict.summary()["flagged"] == verdict.flagged


def with_severity(tmp_path: Path, severity: str) -> Path:
    suite = json.loads(SUITE.read_text())
    for expectation in suite["expectations"]:
        if expectation["kwargs"].get("column") == "stale":
            expectation["severity"] = severity
    path = tmp_path / "suite.json"
    path.write_text(json.dumps(suite))
    return path


def test_the_suite_decides_what_becomes_of_it(tmp_path: Path) -> None:
    frame = repeated(slice(40, 42))(plain())

    strict = judge(frame, "AAA", with_severity(tmp_path, "critical"), 0.05)

    assert strict.quarantined["date"].tolist() == [frame["date"][42]]
    assert strict.flagged == []


def test_a_rule_about_the_table_that_is_a_warning_condemns_nothing(tmp_path: Path) -> None:
    suite = json.loads(SUITE.read_text())
    suite["expectations"].append(
        {
            "type": "expect_table_row_count_to_be_between",
            "kwargs": {"min_value": 10_000},
            "severity": "warning",
            "meta": {"rule": "long"},
        }
    )
    path = tmp_path / "suite.json"
    path.write_text(json.dumps(suite))

    verdict = judge(plain(), "AAA", path, 0.05)

    assert not verdict.condemned
    assert verdict.findings == {"long": DAYS}


def test_bars_of_other_days_are_looked_at_and_not_judged() -> None:
    frame = scaled(slice(0, 0), 100)(scaled(slice(79, 79), 100)(plain()))
    context, tail = frame.iloc[:69], frame.iloc[69:].reset_index(drop=True)

    verdict = judge(tail, "AAA", SUITE, 0.05, context)

    assert verdict.quarantined["date"].tolist() == [frame["date"][79]]
    assert len(verdict.valid) == 10


@pytest.mark.parametrize("name", FOUND)
def test_a_few_days_tell_what_the_whole_history_tells(name: str) -> None:
    for shift in range(0, 38, 3):
        frame = FOUND[name][0](plain(seed=shift + 1)).iloc[: DAYS - shift]
        tail = frame.iloc[-11:].reset_index(drop=True)

        part = for_suite(tail, frame.iloc[:-11])

        of_all = signs(frame)
        for column in of_all:
            assert list(part[column].notna()[-5:]) == list(of_all[column].notna()[-5:]), (name, shift, column)
