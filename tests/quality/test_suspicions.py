"""Faults that show only beside other bars, put into good ones: found, told, and the same from whatever window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luigi_tasks.bars import PRICES
from luigi_tasks.quality import suspicions
from luigi_tasks.quality.suite import judge
from tests.conftest import make_bars
from tests.workspace import REPOSITORY

SUITE = REPOSITORY / "config/ohlcv_suite.json"
P = [*PRICES, "adj_close"]
"""What a fault of the prices is about."""
TAIL, LAST = 11, 5


def plain(days: int = 200, seed: int = 1) -> pd.DataFrame:
    return make_bars(days=days, seed=seed).astype({"volume": "float64"})


def times(frame: pd.DataFrame, factor: float, first: int, bars: int = 1) -> pd.DataFrame:
    out = frame.copy()
    out.loc[first : first + bars - 1, P] *= factor
    return out


def split(frame: pd.DataFrame, ratio: float, first: int) -> pd.DataFrame:
    out = frame.copy()
    out.loc[: first - 1, P] *= ratio
    out.loc[: first - 1, "volume"] //= ratio
    return out


def stale(frame: pd.DataFrame, first: int, bars: int, volume: float | None = None) -> pd.DataFrame:
    out = frame.copy()
    out.loc[first : first + bars - 1, [*P, "volume"]] = frame.loc[first, [*P, "volume"]].to_numpy("float64")
    if volume is not None:
        out.loc[first : first + bars - 1, "volume"] = volume
    return out


def untraded(frame: pd.DataFrame, first: int, bars: int = 1) -> pd.DataFrame:
    return frame.assign(volume=frame["volume"].mask(frame.index.isin(range(first, first + bars)), 0.0))


def found(frame: pd.DataFrame, context: pd.DataFrame | None = None) -> dict[str, list[int]]:
    signs = suspicions.signs(frame, context)
    return {name: np.flatnonzero(signs[name].notna()).tolist() for name in signs if signs[name].notna().any()}


@pytest.mark.parametrize("seed", range(10))
def test_good_bars_are_not_suspected(seed: int) -> None:
    assert found(plain(600, seed)) == {}


@pytest.mark.parametrize("factor", [100, 0.01, 115, 0.009, 1000, 1e-3, 1e4])
@pytest.mark.parametrize(("first", "bars"), [(0, 1), (0, 20), (90, 1), (90, 40), (180, 20), (199, 1)])
def test_prices_in_another_unit_are_found_wherever_they_are(factor: float, first: int, bars: int) -> None:
    frame = times(plain(), factor, first, bars)

    assert found(frame) == {"unit_factor": list(range(first, first + bars))}


@pytest.mark.parametrize("factor", [40, 1 / 40, 300])
def test_another_factor_is_not_another_unit(factor: float) -> None:
    assert "unit_factor" not in found(times(plain(), factor, 90))


def test_one_price_in_another_unit_is_not_the_unit_of_the_bar() -> None:
    frame = plain()
    frame.loc[90, "high"] *= 100

    assert "unit_factor" not in found(frame)


@pytest.mark.parametrize("ratio", [100.0, 0.01])
@pytest.mark.parametrize("first", [3, 100, 196])
def test_a_recorded_split_of_a_hundred_is_no_other_unit(ratio: float, first: int) -> None:
    frame = split(plain(), ratio, first)
    frame.loc[first, "stock_splits"] = ratio

    assert set(found(frame)) <= {"split_not_applied"}


@pytest.mark.parametrize("ratio", [*suspicions.SPLIT_RATIOS, *(1 / suspicions.SPLIT_RATIOS)])
@pytest.mark.parametrize("first", [100, 197])
def test_a_split_that_is_missing_is_found_with_its_ratio(ratio: float, first: int) -> None:
    frame = split(plain(), ratio, first)

    signs = suspicions.signs(frame)

    assert found(frame) == {"missed_split": [first]}
    assert signs.loc[first, "missed_split"] == pytest.approx(ratio)


def test_the_gap_of_a_split_on_record_is_not_of_a_missing_one() -> None:
    frame = split(plain(), 2, 100)
    frame.loc[100, "stock_splits"] = 2.0

    assert found(frame) == {"split_not_applied": [100]}


def test_a_missing_split_that_adjusted_closes_know_of_is_told_once() -> None:
    frame = split(plain(), 2, 100)

    assert found(frame.assign(adj_close=plain()["adj_close"])) == {"missed_split": [100]}


@pytest.mark.parametrize("day", [95, 99, 101, 105])
@pytest.mark.parametrize("ratio", [2.0, 3.0])
def test_a_split_on_record_hides_no_other_one_nearby(day: int, ratio: float) -> None:
    frame = split(plain(), 2, 100)
    frame.loc[day, "stock_splits"] = ratio

    assert found(frame) == {"missed_split": [100]}


@pytest.mark.parametrize(("column", "factor"), [("volume", 8.0), ("high", 1.15)])
def test_a_fall_amid_turmoil_is_not_a_missing_split(column: str, factor: float) -> None:
    frame = split(plain(), 1.25, 100)
    frame["volume"] = 1_000_000.0
    frame.loc[100, column] *= factor

    assert found(frame) == {}


def test_a_split_is_not_suspected_before_it_has_stayed() -> None:
    frame = split(plain(), 2, 197)

    assert found(frame[:199]) == {}
    assert found(frame) == {"missed_split": [197]}


@pytest.mark.parametrize(
    ("bars", "volume", "rows"), [(2, None, 0), (3, None, 2), (9, None, 8), (4, 0.0, 0), (5, 0.0, 4)]
)
def test_a_feed_that_stands_is_found_by_its_repeats(bars: int, volume: float | None, rows: int) -> None:
    frame = stale(plain(), 100, bars, volume)

    assert found(frame).get("stale_sessions", []) == list(range(101, 101 + rows))


def test_a_price_that_never_moves_is_not_stale() -> None:
    frame = plain().assign(open=1.0, high=1.0, low=1.0, close=1.0, adj_close=0.97, volume=0.0)

    assert found(frame) == {}


@pytest.mark.parametrize("factor", [1.3, 0.7, 5.0, 0.2])
@pytest.mark.parametrize("bars", [1, 2])
def test_a_spike_that_reverts_is_found(factor: float, bars: int) -> None:
    assert found(times(plain(), factor, 100, bars)) == {"spike": list(range(100, 100 + bars))}


@pytest.mark.parametrize(("factor", "bars"), [(1.05, 1), (1.3, 3), (1.3, 100)])
def test_a_move_that_is_small_or_stays_is_no_spike(factor: float, bars: int) -> None:
    assert "spike" not in found(times(plain(), factor, 100, bars))


@pytest.mark.parametrize("bars", [1, 3])
def test_a_price_that_moves_without_volume_is_found(bars: int) -> None:
    assert found(untraded(plain(), 100, bars)) == {"untraded_move": list(range(100, 100 + bars))}


@pytest.mark.parametrize(("name", "factor"), [("high", 10), ("high", 100), ("high", 4.6), ("low", 0.1), ("low", 0.01)])
def test_a_high_or_low_alone_in_another_unit_is_told(name: str, factor: float) -> None:
    frame = plain()
    frame.loc[100, name] *= factor

    assert found(frame) == {"odd_range": [100]}


def test_a_wide_day_is_no_slip() -> None:
    frame = plain()
    frame.loc[100, "high"] *= 2.5

    assert "odd_range" not in found(frame)


def test_a_security_without_volume_is_no_fault() -> None:
    assert found(plain().assign(volume=0.0)) == {}


def test_bars_that_cannot_be_stored_are_neither_suspected_nor_neighbours() -> None:
    frame = times(plain(), 1.5, 100)
    frame.loc[101, "low"] = -1.0
    frame.loc[103, "volume"] = np.nan

    assert found(frame) == {"spike": [100]}


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_few_bars_are_not_suspected(rows: int) -> None:
    signs = suspicions.signs(plain()[:rows])

    assert list(signs.columns) == list(suspicions.SIGNS)
    assert len(signs) == rows
    assert not signs.notna().any(axis=None)


FAULTS: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "split": (lambda frame: split(frame, 2, 100), "no split is missing"),
    "stale": (lambda frame: stale(frame, 99, 3), "bars are not the same day after day"),
    "spike": (lambda frame: times(frame, 1.5, 100), "price does not leap and come back"),
    "untraded": (lambda frame: untraded(frame, 100), "price moves only with volume"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_suspicions_are_flagged_with_value_and_threshold_and_stay_valid(name: str) -> None:
    inject, rule = FAULTS[name]
    frame = inject(plain())

    verdict = judge(frame, "AAA", SUITE, 0.05)

    assert len(verdict.valid) == 200
    assert {(flag["rule"], flag["severity"]) for flag in verdict.flagged} == {(rule, "warning")}
    assert f"{frame.loc[100, 'date']:%Y-%m-%d}" in [flag["date"] for flag in verdict.flagged]
    assert all(flag["value"] > 0 and flag["threshold"] in suspicions.SIGNS.values() for flag in verdict.flagged)


def test_prices_in_another_unit_are_quarantined() -> None:
    verdict = judge(times(plain(), 100, 100, 3), "AAA", SUITE, 0.05)

    assert verdict.quarantined["rules"].tolist() == ["prices are in the unit of those around"] * 3


def test_a_suspicion_whose_expectation_is_not_in_the_suite_is_not_told(tmp_path: Path) -> None:
    suite = tmp_path / "own.json"
    suite.write_text(
        '{"expectations": [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "close"}}]}'
    )

    assert judge(times(plain(), 100, 100), "AAA", suite, 0.05).findings == {}


def test_context_is_neither_judged_nor_counted_and_gives_way_to_the_frame() -> None:
    frame = plain()
    context, tail = times(frame, 1.5, 50).assign(low=-1.0), frame[-TAIL:]

    verdict = judge(tail, "AAA", SUITE, 0.0, context)

    assert verdict.success
    assert verdict.flagged == []
    pd.testing.assert_frame_equal(verdict.valid, tail.reset_index(drop=True))


@pytest.mark.parametrize("context", [None, plain()[:0]])
def test_no_context_and_an_empty_one_are_the_same(context: pd.DataFrame | None) -> None:
    assert found(times(plain(), 1.5, 50), context) == {"spike": [50]}


def test_context_after_the_frame_counts() -> None:
    frame = times(plain(), 1.5, 100)

    assert found(frame[:101]) == {}
    assert found(frame[:101], frame[101:]) == {"spike": [100]}


def test_a_frame_in_another_unit_altogether_is_seen_beside_its_context() -> None:
    frame = times(plain(), 0.01, 189, TAIL)

    assert found(frame[-TAIL:], frame[:-TAIL]) == {"unit_factor": list(range(TAIL))}
    assert found(frame[-TAIL:]) == {}


ROWS = st.integers(0, 199)
FAULT = st.one_of(
    st.tuples(st.just(times), st.sampled_from([100, 0.01, 1.4, 0.6]), ROWS, st.integers(1, 4)),
    st.tuples(st.just(split), st.sampled_from([2, 0.5, 1.5]), ROWS.map(lambda row: max(row, 1))),
    st.tuples(st.just(stale), ROWS, st.integers(2, 8)),
    st.tuples(st.just(stale), ROWS, st.integers(2, 8), st.just(0.0)),
    st.tuples(st.just(untraded), ROWS, st.integers(1, 4)),
    st.tuples(st.just(times), st.just(-1.0), ROWS, st.integers(1, 3)),
)
NEAR_THE_END = st.integers(180, 199).flatmap(
    lambda row: st.sampled_from([(split, 2, row), (stale, row, 3), (times, 1.5, row), (untraded, row)])
)


def last_rows(frame: pd.DataFrame, context: pd.DataFrame | None = None) -> dict[str, object]:
    """What the suite says of the last rows: {day: rules}, quarantined or flagged."""
    verdict = judge(frame, "AAA", SUITE, 1.0, context)
    days = {f"{day:%Y-%m-%d}" for day in frame["date"][-LAST:]}
    said = [(row["date"], row["rules"], "") for row in verdict.summary()["rows"]]
    said += [(flag["date"], flag["rule"], str(flag["value"])) for flag in verdict.flagged]
    return {"condemned": verdict.condemned, "said": sorted(entry for entry in said if entry[0] in days)}


@settings(max_examples=10)
@given(seed=st.integers(0, 50), faults=st.lists(FAULT, max_size=4), near=NEAR_THE_END)
def test_the_last_bars_are_judged_alike_whole_or_with_what_is_stored(
    seed: int, faults: list[tuple[Any, ...]], near: tuple[Any, ...]
) -> None:
    frame = plain(seed=seed)
    for fault, *arguments in [*faults, near]:
        frame = fault(frame, *arguments)
    # What is stored are the valid bars, and no more of them than the rules need.
    stored = judge(frame[:-TAIL], "AAA", SUITE, 1.0).valid

    whole = last_rows(frame)

    assert last_rows(frame[-TAIL:], stored) == whole
    assert last_rows(frame[-TAIL:], stored[-suspicions.LOOK_BACK :]) == whole
