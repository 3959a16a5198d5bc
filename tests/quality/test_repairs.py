"""Repairs: the values as they were before the fault where one solution is left, and none where there are two."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luigi_tasks import bars
from luigi_tasks.bars import PRICES
from luigi_tasks.quality import repairs, suspicions
from tests.conftest import make_bars
from tests.quality.test_actions import DAYS, EX_DATES, SPLIT_RATIOS, adjusted, paying, restep, unsplit
from tests.workspace import REPOSITORY

VALUES = [*PRICES, "adj_close", "volume", "dividends"]


def proposed(frame: pd.DataFrame, **others: Any) -> list[dict[str, Any]]:
    return repairs.propose(frame, suspicions.signs(frame, **others))


def mended(frame: pd.DataFrame, entries: list[dict[str, Any]]) -> pd.DataFrame:
    out = frame.astype({"volume": "float64"})
    row_of = {day: row for row, day in enumerate(frame["date"].dt.strftime("%Y-%m-%d"))}
    for entry in entries:
        row = row_of[entry["date"]]
        assert np.array_equal(out.loc[row, entry["column"]], np.nan if entry["old"] is None else entry["old"], True)
        out.loc[row, entry["column"]] = entry["new"]
    return out


def assert_same(frame: pd.DataFrame, truth: pd.DataFrame, volume: float = 1e-12) -> None:
    for name in VALUES:
        room = volume if name == "volume" else 2e-6
        np.testing.assert_allclose(frame[name].to_numpy(float), truth[name].to_numpy(float), rtol=room, err_msg=name)


def test_what_is_as_it_should_be_is_not_repaired() -> None:
    assert proposed(paying()) == []
    assert proposed(make_bars()) == []


@given(
    ratio=st.sampled_from(SPLIT_RATIOS),
    row=st.integers(5, DAYS - 1),
    twice=st.booleans(),
    seed=st.integers(0, 9),
)
@settings(max_examples=30)
def test_prices_that_show_a_split_are_divided_by_it(ratio: float, row: int, twice: bool, seed: int) -> None:
    truth = paying(seed=seed)
    truth.loc[row, "dividends"] = 0.0
    truth = adjusted(truth)
    frame = unsplit(truth, ratio, row, twice)

    entries = proposed(frame)

    result = mended(frame, entries)
    assert_same(result.assign(volume=truth["volume"]), truth)
    # Volumes are mended only where they say themselves that they wait.
    changed = np.abs(result["volume"] / frame["volume"] - 1) > 0.01
    assert np.allclose(result["volume"][changed], truth["volume"][changed], rtol=1e-3, atol=50)


def test_volume_follows_a_split_unless_it_has_been_adjusted() -> None:
    waiting, done = unsplit(paying(), 4, 300), unsplit(paying(), 4, 300).assign(volume=paying()["volume"])

    assert {entry["column"] for entry in proposed(waiting)} == {*PRICES, "adj_close", "volume"}
    assert {entry["column"] for entry in proposed(done)} == {*PRICES, "adj_close"}


def test_adjusted_closes_and_dividends_are_left_or_mended_as_they_say() -> None:
    truth = paying()
    frame = unsplit(truth, 4, 300)
    right = frame.assign(adj_close=truth["adj_close"])
    old_shares = frame.copy()
    old_shares.loc[:299, "dividends"] *= 4

    assert {entry["column"] for entry in proposed(right)} == {*PRICES, "volume"}
    assert_same(mended(old_shares, proposed(old_shares)), truth, volume=1e-4)


@pytest.mark.parametrize("second", [301, 305])
def test_a_split_listed_twice_is_not_mended(second: int) -> None:
    frame = unsplit(paying(), 4, 300)
    frame.loc[second, "stock_splits"] = 4.0

    assert proposed(frame) == []


@given(
    power=st.sampled_from([-3, -2, -1, 1, 2, 3]),
    first=st.integers(2, DAYS - 60),
    count=st.integers(1, 50),
    scaled=st.booleans(),
)
@settings(max_examples=30)
def test_another_unit_is_mended_with_adjusted_closes_if_they_are_in_it(
    power: int, first: int, count: int, scaled: bool
) -> None:
    truth = paying()
    frame = truth.copy()
    frame.loc[first : first + count - 1, [*PRICES, *(["adj_close"] if scaled else [])]] *= 10.0**power

    assert_same(mended(frame, proposed(frame)), truth)


def test_a_unit_at_the_end_is_mended_by_what_is_stored() -> None:
    truth = paying()
    frame = truth.copy()
    frame.loc[DAYS - 11 :, [*PRICES, "adj_close"]] *= 100
    tail, context = frame[-11:], frame[-71:-11]

    signs = suspicions.signs(tail, context, whole=False)
    entries = repairs.propose(tail, signs, context=context, whole=False)

    assert len(entries) == 11 * 5
    assert_same(mended(tail.reset_index(drop=True), entries), truth[-11:].reset_index(drop=True))


@pytest.mark.parametrize("power", [-1, 1])
def test_a_last_bar_that_is_out_by_ten_may_have_moved_and_is_not_mended(power: int) -> None:
    frame = paying()
    frame.loc[DAYS - 1, [*PRICES, "adj_close"]] *= 10.0**power

    assert suspicions.signs(frame)["unit_factor"].notna().sum() == 1
    assert proposed(frame) == []


def test_units_of_which_nobody_knows_which_is_right_are_not_mended() -> None:
    frame = paying()
    frame.loc[: DAYS // 2, [*PRICES, "adj_close"]] *= 100

    assert proposed(frame) == []


@pytest.mark.parametrize("power", [-3, -2, -1, 1, 2, 3])
@pytest.mark.parametrize("number", [0, 4, len(EX_DATES) - 1])
def test_a_dividend_is_mended_by_its_step_and_the_others(power: int, number: int) -> None:
    truth = paying()
    frame = truth.copy()
    frame.loc[EX_DATES[number], "dividends"] *= 10.0**power

    assert_same(mended(frame, proposed(frame)), truth)
    assert len(proposed(frame)) == 1


def test_a_dividend_that_is_adjusted_for_is_mended_with_the_adjusted_closes() -> None:
    truth = paying(amount=0.2)
    frame = truth.copy()
    frame.loc[EX_DATES[4], "dividends"] *= 100
    frame = adjusted(frame)

    assert_same(mended(frame, proposed(frame)), truth)


@pytest.mark.parametrize("power", [-3, -2, -1])
def test_a_token_dividend_that_is_adjusted_for_may_be_true(power: int) -> None:
    frame = paying(amount=0.2)
    frame.loc[EX_DATES[4], "dividends"] *= 10.0**power

    assert proposed(adjusted(frame)) == []


def test_a_special_dividend_of_a_hundred_times_the_usual_that_the_price_paid_is_true() -> None:
    frame, row = paying(amount=0.01), EX_DATES[4]
    for name in PRICES:
        frame[name] = frame[name].where(frame.index < row, frame[name] - 1.0)
    frame.loc[row, "dividends"] = 1.0

    assert proposed(adjusted(frame)) == []


@pytest.mark.parametrize("ratio", [4, 2, 0.1])
@pytest.mark.parametrize("bars", [3, 5, 8, 20])
@pytest.mark.parametrize("before", [True, False])
def test_a_split_that_is_left_out_of_some_bars_only_is_not_mended(ratio: float, bars: int, before: bool) -> None:
    frame, row = paying(), 300
    frame.loc[row, "stock_splits"] = ratio
    wrong = (
        (frame.index < row) & (frame.index >= row - bars)
        if before
        else (frame.index >= row) & (frame.index < row + bars)
    )
    for name in (*PRICES, "adj_close"):
        frame[name] = frame[name].mask(wrong, frame[name] * (ratio if before else 1 / ratio))

    assert [entry for entry in proposed(frame) if entry["column"] == "close"] == []


@pytest.mark.parametrize("bars", [10, 100])
def test_a_split_by_a_hundred_that_is_left_out_of_some_bars_accuses_nobody(bars: int) -> None:
    frame, row = paying(), 300
    frame.loc[row, "stock_splits"] = 100.0
    wrong = (frame.index < row) & (frame.index >= row - bars)
    for name in (*PRICES, "adj_close"):
        frame[name] = frame[name].mask(wrong, frame[name] * 100)

    found = suspicions.signs(frame)

    assert found["unit_factor"].isna().all()
    assert found.notna().any(axis=None), "it is told all the same"
    assert proposed(frame) == []


@pytest.mark.parametrize(("ratio", "move"), [(1.1, -0.09), (1.25, -0.18), (1.5, -0.3), (2.0, -0.45), (0.5, 0.9)])
def test_a_true_move_on_the_day_of_a_split_is_not_mended(ratio: float, move: float) -> None:
    frame, row = paying(), 300
    frame.loc[row, "stock_splits"] = ratio
    for name in (*PRICES, "adj_close"):
        frame[name] = frame[name].where(frame.index < row, frame[name] * (1 + move))
    frame.loc[row, "volume"] *= 8

    assert proposed(frame) == []


@pytest.mark.parametrize("row", [100, 400])
def test_a_bar_in_another_unit_beside_a_split_that_was_not_applied_is_left_alone(row: int) -> None:
    frame = unsplit(paying(), 4, 300)
    for name in (*PRICES, "adj_close"):
        frame[name] = frame[name].mask(frame.index == row, frame[name] * 100)

    assert proposed(frame) == []


@pytest.mark.parametrize("times", [100.0, 0.01])
def test_adjusted_closes_that_step_by_a_hundred_times_the_dividend_are_mended(times: float) -> None:
    truth, row = paying(amount=0.2), EX_DATES[4]
    frame = restep(truth, row, 1 - 0.2 * times / float(truth.loc[row - 1, "close"]))

    assert {entry["column"] for entry in proposed(frame)} == {"adj_close"}
    assert_same(mended(frame, proposed(frame)), truth)


def test_ten_times_in_place_of_a_regular_dividend_is_told_and_not_mended() -> None:
    frame = paying(amount=0.05)
    frame.loc[EX_DATES[4], "dividends"] *= 10
    frame = adjusted(frame)

    assert suspicions.signs(frame)["dividend_power"].notna().sum() == 1
    assert proposed(frame) == []


@pytest.mark.parametrize("power", [-1, 1])
def test_prices_of_which_many_dividends_are_out_may_be_wrong_themselves(power: int) -> None:
    frame = paying()
    frame.loc[350:, [*PRICES, "adj_close"]] *= 10.0**power

    assert proposed(frame) == []


def test_adjusted_closes_are_chained_from_dividends_that_they_do_not_show() -> None:
    truth = paying()
    frame = truth.assign(adj_close=truth["close"])

    assert_same(mended(frame, proposed(frame)), truth)


@pytest.mark.parametrize("dividends", [1, 2])
def test_one_or_two_dividends_without_a_step_may_be_none(dividends: int) -> None:
    frame = make_bars(days=DAYS).assign(adj_close=lambda made: made["close"])
    frame.loc[EX_DATES[:dividends], "dividends"] = 0.4

    assert suspicions.signs(frame)["dividend_without_step"].notna().sum() == dividends
    assert proposed(frame) == []


@given(first=st.integers(0, DAYS - 2), count=st.integers(1, 500), below=st.booleans())
@settings(max_examples=30)
def test_missing_adjusted_closes_are_filled_from_the_next_known_ones(first: int, count: int, below: bool) -> None:
    truth = paying()
    frame = truth.copy()
    rows = range(first, min(first + count, DAYS - (first == 0)))
    frame.loc[list(rows), "adj_close"] = np.nan
    if below:
        frame.loc[rows[0], "adj_close"] = -1.0

    assert_same(mended(frame, proposed(frame)), truth)


def test_missing_adjusted_closes_between_known_ones_that_the_dividends_contradict_stay_missing() -> None:
    frame = restep(paying(), EX_DATES[4], 0.95)
    frame.loc[EX_DATES[4] - 5 : EX_DATES[4] + 5, "adj_close"] = np.nan

    assert proposed(frame) == []


def test_dividends_in_another_currency_are_what_adjusted_close_steps_by() -> None:
    truth = paying(amount=0.4)
    frame = truth.copy()
    frame["dividend_currency"] = frame["dividend_currency"].astype("object").mask(frame["dividends"] > 0, "USD")
    frame["dividends"] /= 0.79
    frame = bars.conform(frame)
    raw = adjusted(frame)

    result = mended(frame, proposed(frame))

    np.testing.assert_allclose(result["dividends"], truth["dividends"], rtol=1e-3)
    assert proposed(raw) == [], "the number was taken as it is"


def test_a_repair_is_json_by_date_with_the_words_of_the_suite_and_evidence() -> None:
    frame = paying()
    frame.loc[EX_DATES[4], "dividends"] = 40.0

    (entry,) = json.loads(json.dumps(proposed(frame)))

    assert entry.pop("evidence").startswith("40 for 0.4: adjusted close steps by 0.4")
    assert entry == {
        "date": f"{frame.loc[EX_DATES[4], 'date']:%Y-%m-%d}",
        "column": "dividends",
        "rule": "dividends are not 10, 100, 1000 times too large or small",
        "old": 40.0,
        "new": 0.4,
    }
    suite = (REPOSITORY / "config/ohlcv_suite.json").read_text(encoding="utf-8")
    rules = [value for name, value in vars(repairs).items() if name.isupper() and isinstance(value, str)]
    assert entry["rule"] in rules
    assert all(f'"rule": "{rule}"' in suite for rule in rules)


def test_a_special_dividend_that_lost_two_digits_looks_like_a_regular_one_and_is_not_mended() -> None:
    frame, row = paying(), EX_DATES[4] + 20
    frame.loc[row, "dividends"] = 20.0
    frame.loc[row:, list(PRICES)] *= 1 - 20 / frame.loc[row - 1, "close"]
    frame = adjusted(frame)
    frame.loc[row, "dividends"] = 0.2

    assert suspicions.signs(frame).loc[row, "dividend_step"] == pytest.approx(100, rel=1e-3)
    assert proposed(frame) == []


def test_many_dividends_that_are_out_by_the_same_may_be_in_another_unit_and_are_not_mended() -> None:
    frame = paying()
    frame.loc[EX_DATES[2:6], "dividends"] *= 100

    assert proposed(frame) == []


def test_a_bar_whose_adjusted_close_is_in_no_unit_is_not_mended() -> None:
    frame = paying()
    frame.loc[300, list(PRICES)] *= 100
    frame.loc[300, "adj_close"] *= 10

    assert suspicions.signs(frame)["unit_factor"].notna().sum() == 1
    assert proposed(frame) == []


def test_a_lone_dividend_is_believed_if_the_price_did_not_pay_what_adjusted_close_steps_by() -> None:
    truth = make_bars(days=DAYS)
    truth.loc[300, "dividends"] = 0.1
    truth = adjusted(truth)
    price = float(truth.loc[299, "close"])
    small = restep(truth, 300, 1 - 0.1 * 1e-2 / price)

    assert_same(mended(restep(truth, 300, 1 - 10 / price), proposed(restep(truth, 300, 1 - 10 / price))), truth)
    assert proposed(small) == [], "neither the price nor other dividends say which is right"
