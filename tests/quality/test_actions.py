"""Splits, dividends and adjusted closes that contradict the prices: told where they do, in whatever size and place."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luigi_tasks import bars
from luigi_tasks.bars import PRICES
from luigi_tasks.quality import actions, repairs, suspicions
from luigi_tasks.quality.suite import judge
from tests.conftest import make_bars
from tests.workspace import REPOSITORY

SUITE = REPOSITORY / "config/ohlcv_suite.json"
DAYS, QUARTER = 600, 63
EX_DATES = list(range(40, DAYS - 20, QUARTER))
SPLIT_RATIOS = [2, 3, 4, 7, 10, 20, 50, 1.5, 1.25, 0.5, 1 / 3, 1 / 4, 1 / 10, 1 / 25]


def adjusted(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the adjusted closes that its dividends make, in single precision, as Yahoo's are."""
    step = 1 - (frame["dividends"] + frame["capital_gains"]) / frame["close"].shift()
    share = step.fillna(1.0)[::-1].cumprod().shift(fill_value=1.0)[::-1]
    return frame.assign(adj_close=(frame["close"] * share).astype("float32").astype("float64"))


def paying(amount: float = 0.4, seed: int = 1) -> pd.DataFrame:
    """Two years of bars at about 50 with a dividend a quarter."""
    frame = make_bars(days=DAYS, seed=seed)
    frame.loc[EX_DATES, "dividends"] = amount
    frame["volume"] = np.random.default_rng(seed).integers(800_000, 1_200_000, DAYS)
    return adjusted(frame)


def restep(frame: pd.DataFrame, row: int, step: float) -> pd.DataFrame:
    """Adjusted close steps by another share at a row."""
    share = frame["adj_close"] / frame["close"]
    factor = step / (share[row - 1] / share[row])
    return frame.assign(adj_close=frame["adj_close"].where(frame.index >= row, frame["adj_close"] * factor))


def unsplit(frame: pd.DataFrame, ratio: float, row: int, twice: bool = False) -> pd.DataFrame:
    """A split on record, by which the prices before it are divided not at all, or twice."""
    out, by = frame.astype({"volume": "float64"}), 1 / ratio if twice else ratio
    out.loc[: row - 1, [*PRICES, "adj_close"]] *= by
    out.loc[: row - 1, "volume"] = (out.loc[: row - 1, "volume"] / by).round()
    out.loc[row, "stock_splits"] = ratio
    return out


def found(frame: pd.DataFrame, elsewhere: pd.DataFrame | None = None) -> dict[str, list[int]]:
    signs = suspicions.signs(frame, None, elsewhere)
    return {name: np.flatnonzero(signs[name].notna()).tolist() for name in signs if signs[name].notna().any()}


@pytest.mark.parametrize("seed", range(5))
def test_dividends_and_splits_that_agree_with_the_prices_are_not_suspected(seed: int) -> None:
    frame = paying(seed=seed)
    frame.loc[300, "stock_splits"] = 3.0

    assert found(frame) == {}
    assert found(make_bars(seed=seed)) == {}


@pytest.mark.parametrize("row", [3, 300, DAYS - 4, DAYS - 1])
@pytest.mark.parametrize("ratio", SPLIT_RATIOS)
@pytest.mark.parametrize(("twice", "sign"), [(False, "split_not_applied"), (True, "split_applied_twice")])
def test_a_split_that_the_prices_show_is_told_with_the_step(row: int, ratio: float, twice: bool, sign: str) -> None:
    frame = unsplit(paying(), ratio, row, twice)

    signs = suspicions.signs(frame)

    assert found(frame) == {sign: [row]}
    assert signs.loc[row, sign] == pytest.approx(1 / ratio if twice else ratio, rel=0.05)


def test_one_bad_bar_before_a_split_does_not_make_it_shown() -> None:
    frame = paying()
    frame.loc[300, "stock_splits"] = 2.0
    frame.loc[299, [*PRICES, "adj_close"]] *= 2

    assert found(frame) == {"spike": [299]}


def test_levels_on_both_sides_say_that_a_step_is_a_split() -> None:
    frame = paying()
    frame.loc[300, "stock_splits"] = 2.0
    frame.loc[299, [*PRICES, "adj_close"]] *= 2

    assert actions.shows_split(actions.chain_of(frame, np.ones(DAYS, dtype=bool), None), 300) == 0
    assert actions.shows_split(actions.chain_of(unsplit(paying(), 2, 300), np.ones(DAYS, dtype=bool), None), 300) == 1


@pytest.mark.parametrize(("days", "told"), [(1, True), (8, True), (40, False)])
def test_the_same_split_on_two_sessions_near_each_other_is_told(days: int, told: bool) -> None:
    frame = paying()
    frame.loc[[300, 300 + days], "stock_splits"] = 4.0

    assert found(frame) == ({"split_again": [300 + days]} if told else {})


@pytest.mark.parametrize("power", [-3, -2, -1, 1, 2, 3])
@pytest.mark.parametrize("number", [0, 1, 4, len(EX_DATES) - 1])
def test_a_dividend_that_is_a_power_of_ten_away_from_its_step_is_told(power: int, number: int) -> None:
    frame, row = paying(), EX_DATES[number]
    frame.loc[row, "dividends"] *= 10.0**power

    assert found(frame) == {"dividend_power": [row]}
    assert suspicions.signs(frame).loc[row, "dividend_power"] == pytest.approx(10.0**power)


@pytest.mark.parametrize("power", [-2, -1, 1, 2])
def test_a_dividend_that_is_adjusted_for_is_told_by_its_others(power: int) -> None:
    frame = paying(amount=0.2)
    frame.loc[EX_DATES[4], "dividends"] *= 10.0**power

    assert found(adjusted(frame)) == {"dividend_power": [EX_DATES[4]]}


@pytest.mark.parametrize(("regular", "amount"), [(0.4, 4.0), (0.4, 5.0), (0.4, 15.0), (0.1, 1.0), (0.02, 2.0)])
def test_a_special_dividend_beside_the_regular_ones_is_true(regular: float, amount: float) -> None:
    frame, row = paying(amount=regular), EX_DATES[4] + 20
    frame.loc[row, "dividends"] = amount
    fall = 1 - amount / frame.loc[row - 1, "close"]
    frame.loc[row:, list(PRICES)] *= fall

    assert found(adjusted(frame)) == {}


@pytest.mark.parametrize("share", [0.4, 0.9, 1.6])
def test_a_dividend_of_much_of_the_price_is_told_unless_the_price_falls(share: float) -> None:
    frame = make_bars(days=DAYS)
    frame.loc[300, "dividends"] = share * frame.loc[299, "close"]

    assert found(adjusted(frame)) == {"dividend_share": [300]}


@given(
    factor=st.sampled_from([0.3, 0.5, 0.8, 0.95, 1.05, 1.3, 2.0, 4.0]),
    number=st.integers(0, len(EX_DATES) - 1),
    seed=st.integers(0, 20),
)
@settings(max_examples=30)
def test_a_dividend_that_is_not_what_adjusted_close_steps_by_is_told(factor: float, number: int, seed: int) -> None:
    frame, row = paying(seed=seed), EX_DATES[number]
    frame.loc[row, "dividends"] *= factor

    assert found(frame) == {"dividend_step": [row]}
    assert suspicions.signs(frame).loc[row, "dividend_step"] == pytest.approx(1 / factor, rel=1e-3)
    assert repairs.propose(frame, suspicions.signs(frame)) == []


@given(row=st.integers(1, DAYS - 1).filter(lambda row: min(abs(row - day) for day in EX_DATES) > 8))
@settings(max_examples=20)
def test_a_dividend_without_a_step_and_a_step_without_a_dividend_are_told(row: int) -> None:
    lone = paying()
    lone.loc[row, "dividends"] = 0.3

    stepped = restep(paying(), row, 0.99)

    assert found(lone) == {"dividend_without_step": [row]}
    assert found(stepped) == {"step_without_dividend": [row]}
    assert all(repairs.propose(frame, suspicions.signs(frame)) == [] for frame in (lone, stepped)), "two solutions each"


@pytest.mark.parametrize("days", [1, 2, 5])
@pytest.mark.parametrize("earlier", [True, False])
def test_the_same_dividend_twice_within_a_week_is_told_once(days: int, earlier: bool) -> None:
    frame, row = paying(), EX_DATES[4] + (-days if earlier else days)
    frame.loc[row, "dividends"] = 0.4

    assert found(frame) == {"dividend_again": [row]}, "the one for which adjusted close does not step"
    assert found(adjusted(frame)) == {"dividend_again": [max(row, EX_DATES[4])]}


@pytest.mark.parametrize("ratio", [2.0, 3.0, 0.1, 1.5])
def test_dividends_before_a_split_that_are_of_old_shares_are_told(ratio: float) -> None:
    frame = paying(amount=0.1)
    frame.loc[EX_DATES[5] + 10, "stock_splits"] = ratio
    before, single = frame.copy(), frame.copy()
    before.loc[EX_DATES[:6], "dividends"] *= ratio
    single.loc[EX_DATES[5], "dividends"] *= ratio

    assert found(before)["dividend_unsplit"] == EX_DATES[:6]
    assert found(single) == {"dividend_unsplit": [EX_DATES[5]]}
    # A tenth of the others is a tenth, whatever split comes later.
    assert found(adjusted(single)) == {"dividend_power" if ratio == 0.1 else "dividend_unsplit": [EX_DATES[5]]}
    assert set(found(adjusted(before))) == {"dividend_unsplit"}


def test_adjusted_close_above_close_or_missing_for_a_part_is_told() -> None:
    above, part, none = paying(), paying(), paying().assign(adj_close=np.nan)
    above.loc[300, "adj_close"] *= 1.2
    part.loc[100:120, "adj_close"] = np.nan

    assert found(above) == {"adjusted_above_close": [300], "step_without_dividend": [300]}
    assert found(part) == {"adjusted_missing": list(range(100, 121))}
    assert found(none) == {}


def test_a_dividend_in_another_currency_is_told_with_what_the_step_says() -> None:
    frame = paying(amount=0.4)
    frame["dividend_currency"] = frame["dividend_currency"].astype("object").mask(frame["dividends"] > 0, "USD")
    frame["dividends"] /= 0.79

    signs = suspicions.signs(bars.conform(frame))

    assert signs.loc[EX_DATES, "foreign_dividend"].to_numpy() == pytest.approx(0.4, rel=1e-3)
    assert signs.notna().sum().sum() == len(EX_DATES)


def test_capital_gains_count_as_dividends_do() -> None:
    frame = paying()
    frame.loc[EX_DATES[3], "capital_gains"] = 1.5

    assert found(adjusted(frame)) == {}
    assert found(frame) == {"dividend_step": [EX_DATES[3]]}


@pytest.mark.parametrize("beside", [-1, 0, 1])
@pytest.mark.parametrize("factor", [100.0, 0.1, 1.08, 0.0])
def test_a_bad_price_beside_an_ex_date_does_not_accuse_the_dividend(beside: int, factor: float) -> None:
    frame, row = paying(), EX_DATES[4]
    frame.loc[row + beside, list(PRICES)] *= factor

    told = found(frame)

    assert not [name for name in told if name.startswith("dividend")]
    assert set().union(*told.values()) <= {row + beside}


def test_actions_of_days_without_a_bar_count_at_the_next_one() -> None:
    frame = paying()
    lost = frame.drop(index=EX_DATES[4]).reset_index(drop=True)
    action = {"date": f"{frame.loc[EX_DATES[4], 'date']:%Y-%m-%d}", "dividends": 0.4, "dividend_currency": None}
    lost.attrs[bars.ACTIONS] = [action | {"stock_splits": 0.0, "capital_gains": 0.0}]

    assert found(lost) == {"step_without_dividend": [EX_DATES[4]]}
    assert found(lost, bars.actions_of(lost)) == {}
    assert judge(lost, "AAA", SUITE, 0.05).findings == {}


@pytest.mark.parametrize("decimals", [2, 3, 4])
def test_a_source_that_rounds_its_adjusted_closes_is_not_accused_of_it(decimals: int) -> None:
    frame = paying()

    assert found(frame.assign(adj_close=frame["adj_close"].round(decimals))) == {}


def test_a_tail_has_the_steps_of_its_history_told_but_not_what_dividends_should_be() -> None:
    frame = paying()
    row = EX_DATES[-1]
    stepped = restep(frame, row + 8, 0.99)
    dear = frame.copy()
    dear.loc[row, "dividends"] *= 100
    first = row - 3

    def tail(whole: pd.DataFrame) -> pd.DataFrame:
        signs = suspicions.signs(whole[first:], whole[first - suspicions.LOOK_BACK : first], whole=False)
        return signs.loc[:, signs.notna().any()].dropna(how="all")

    assert tail(stepped).index.tolist() == [row + 8]
    assert list(tail(stepped)) == ["step_without_dividend"]
    assert tail(dear).empty


@pytest.mark.parametrize("name", actions.SIGNS)
def test_each_sign_has_its_expectation_in_the_suite(name: str) -> None:
    assert f'"column": "{name}"' in SUITE.read_text(encoding="utf-8")
