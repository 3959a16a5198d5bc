"""Bars in another unit: whichever power of ten, wherever they are, however many; and prices that moved are none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luigi_tasks.bars import PRICES
from luigi_tasks.quality import suspicions
from tests.conftest import make_bars

P = [*PRICES, "adj_close"]
DAYS = 400


def calm(seed: int = 1) -> pd.DataFrame:
    frame = make_bars(days=DAYS, seed=seed)
    return frame.assign(volume=np.random.default_rng(seed).integers(800_000, 1_200_000, DAYS))


def scaled(frame: pd.DataFrame, rows: list[int] | range, power: int) -> pd.DataFrame:
    out = frame.copy()
    out.loc[list(rows), P] *= 10.0**power
    return out


def said(frame: pd.DataFrame, market_price: float | None = None) -> dict[str, list[int]]:
    signs = suspicions.signs(frame, market_price=market_price)
    return {name: np.flatnonzero(signs[name].notna()).tolist() for name in signs if signs[name].notna().any()}


@given(
    power=st.sampled_from([-4, -3, -2, -1, 1, 2, 3, 4]),
    rows=st.sets(st.integers(1, DAYS - 2), min_size=1, max_size=30),
    seed=st.integers(0, 20),
)
@settings(max_examples=40)
def test_scattered_bars_in_another_unit_are_found_and_no_others(power: int, rows: set[int], seed: int) -> None:
    frame = scaled(calm(seed), sorted(rows), power)

    assert said(frame) == {"unit_factor": sorted(rows)}
    assert np.allclose(suspicions.signs(frame)["unit_factor"].dropna(), 10.0**power)


@pytest.mark.parametrize("power", [-3, -2, 2, 3])
@pytest.mark.parametrize("first", [0, 150, DAYS - 60])
def test_a_block_in_another_unit_is_found(power: int, first: int) -> None:
    assert said(scaled(calm(), range(first, first + 60), power)) == {"unit_factor": list(range(first, first + 60))}


@pytest.mark.parametrize("power", [-3, -2, -1, 1, 2, 3])
@pytest.mark.parametrize("bars", [1, 3, 5])
def test_the_last_and_the_first_few_bars_in_another_unit_are_found(power: int, bars: int) -> None:
    last, first = range(DAYS - bars, DAYS), range(bars)

    assert said(scaled(calm(), last, power)) == {"unit_factor": list(last)}
    assert said(scaled(calm(), first, power)) == {"unit_factor": list(first)}


@pytest.mark.parametrize(("power", "first"), [(2, 0), (-2, 0), (3, 0), (2, 120), (1, 120), (-1, 120)])
def test_half_of_the_bars_are_accused_only_where_the_market_price_says_which(power: int, first: int) -> None:
    wrong = list(range(first, first + DAYS // 2))
    frame = scaled(calm(), wrong, power)
    changes = [row for row in (first, first + DAYS // 2) if row]

    assert said(frame) == {"unit_unclear": changes}
    assert said(frame, float(calm()["close"].iloc[-1])) == {"unit_factor": wrong}


def test_a_majority_of_wrong_bars_does_not_accuse_the_right_ones() -> None:
    frame = scaled(calm(), range(340), 2)
    scattered = np.random.default_rng(3).choice(DAYS - 1, 350, replace=False)
    many = scaled(calm(), sorted(scattered.tolist()), -2)
    market = float(calm()["close"].iloc[-1])

    assert said(frame, market) == {"unit_factor": list(range(340))}
    assert said(many, market) == {"unit_factor": sorted(scattered.tolist())}


def test_a_market_price_of_the_same_feed_does_not_speak_for_the_last_bars() -> None:
    frame = scaled(calm(), range(DAYS - 8, DAYS), 2)

    assert said(frame, float(frame["close"].iloc[-1])) == {"unit_factor": list(range(DAYS - 8, DAYS))}


@pytest.mark.parametrize("power", [-3, -2, 2, 3])
def test_stored_bars_say_which_unit_is_right(power: int) -> None:
    frame = scaled(calm(), range(DAYS - 40, DAYS), power)

    signs = suspicions.signs(frame[-40:], frame[-100:-40], market_price=float(frame["close"].iloc[-1]), whole=False)

    assert signs["unit_factor"].notna().all()


@pytest.mark.parametrize("factor", [0.1, 10.0])
@pytest.mark.parametrize("last", [1, 3, 5, 6, 40, 200])
def test_a_price_that_falls_or_rises_by_ten_for_good_is_in_no_other_unit(factor: float, last: int) -> None:
    frame = calm().astype({"volume": "float64"})
    frame.loc[DAYS - last :, P] *= factor
    frame.loc[DAYS - last :, "volume"] *= 12

    assert not {"unit_factor", "unit_unclear"} & set(said(frame))


@pytest.mark.parametrize("ratio", [10.0, 0.1])
def test_a_split_by_ten_that_nobody_told_is_a_missing_split(ratio: float) -> None:
    frame = calm().astype({"volume": "float64"})
    frame.loc[:299, P] *= ratio
    frame.loc[:299, "volume"] /= ratio

    assert said(frame) == {"missed_split": [300]}


def test_a_crash_on_the_day_that_the_unit_changes_hides_by_how_much() -> None:
    frame = calm()
    frame.loc[200:, P] *= 0.3
    frame = scaled(frame, range(200, 203), 3)

    told = said(frame, float(frame["close"].iloc[-1]))

    assert set(told.get("unit_factor", [])) <= {200, 201, 202}


def test_where_one_of_several_steps_by_ten_stays_nobody_is_accused() -> None:
    frame = calm()
    frame.loc[200:, P] *= 0.1
    frame = scaled(frame, [198, 203], 1)

    told = said(frame)

    assert "unit_factor" not in told
    assert {198, 199, 200} <= set(told["unit_unclear"])
