"""Two sources of one security: what is planted between them is told as what it is, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from luigi_tasks import bars
from luigi_tasks.bars import PRICES
from luigi_tasks.comparison import Comparison, Tolerance, Way, compare, convention, ways_shown
from tests.conftest import make_bars, with_dividend, with_split

DAYS = 300
ADJUSTED = [*PRICES, "adj_close"]
BARE = ("adj_close", "dividends", "stock_splits")
"""What Stooq's and Kaggle's files lack."""


def stored(frame: pd.DataFrame) -> pd.DataFrame:
    """Bars as `compare` wants ours; `traded` by the splits among them."""
    later = frame["stock_splits"].where(frame["stock_splits"] > 0, 1.0)[::-1].cumprod()[::-1].shift(-1, fill_value=1.0)
    return frame.assign(traded=later)


def history(seed: int = 1, days: int = DAYS) -> pd.DataFrame:
    """Without splits and dividends; the adjusted close is the close."""
    made = make_bars(days=days, seed=seed)
    return made.assign(adj_close=made["close"])


def eventful(seed: int = 1) -> pd.DataFrame:
    """Two dividends and a 4:1 split between them."""
    made = with_dividend(history(seed), "2023-05-17", 0.8)
    made = with_dividend(made, "2023-12-13", 1.1)
    return with_split(made, "2023-09-14", 4.0)


def kinds(found: Comparison | None) -> dict[str, int]:
    assert found is not None
    counts: dict[str, int] = {}
    for each in found.disagreements:
        counts[each.kind] = counts.get(each.kind, 0) + each.bars
    return counts


def adjusted(frame: pd.DataFrame) -> pd.DataFrame:
    """Prices times the adjustment for dividends, as Stooq has them."""
    share = frame["adj_close"] / frame["close"]
    return frame.assign(**{name: frame[name] * share for name in PRICES})


def as_traded(frame: pd.DataFrame) -> pd.DataFrame:
    factor = stored(frame)["traded"]
    return frame.assign(
        **{name: frame[name] * factor for name in (*PRICES, "dividends")}, volume=(frame["volume"] / factor).round()
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [2, 4, None])
def test_the_same_bars_agree_also_rounded_and_within_the_tolerance(seed: int, decimals: int | None) -> None:
    ours = eventful(seed)
    noise = 1 + np.random.default_rng(seed).uniform(-0.0009, 0.0009, (DAYS, 5))
    theirs = ours.assign(**{name: ours[name] * noise[:, n] for n, name in enumerate(ADJUSTED)})
    if decimals is not None:
        theirs = ours.assign(**{name: ours[name].round(decimals) for name in ADJUSTED})
    found = compare(stored(ours), theirs)

    assert kinds(found) == {}
    assert found is not None
    assert (found.bars, found.unknown) == (DAYS, 0)


def test_pennies_written_with_two_decimals_agree_and_a_difference_beyond_rounding_does_not() -> None:
    ours = history()
    ours[ADJUSTED] = ours[ADJUSTED] / 400
    theirs = ours.assign(**{name: ours[name].round(2) for name in ADJUSTED})
    assert kinds(compare(stored(ours), theirs)) == {}

    theirs.loc[100, PRICES] += 0.01
    assert set(kinds(compare(stored(ours), theirs, lacks=BARE))) == {"value"}


@pytest.mark.parametrize("way", ["splits", "dividends", "no"])
def test_files_adjusted_in_any_way_agree_compared_in_that_way(way: Way) -> None:
    ours = eventful()
    theirs = {"splits": ours, "dividends": adjusted(ours), "no": as_traded(ours)}[way]

    assert ways_shown(stored(ours), theirs, Tolerance(), BARE) == {way}
    assert kinds(compare(stored(ours), theirs, way, Tolerance(volume=0.0), lacks=BARE)) == {}


@pytest.mark.parametrize("share", ["all", "half", "twenty", "one"])
@pytest.mark.parametrize("power", [-6, -2, -1, 1, 2, 3])
def test_a_power_of_ten_is_another_unit(power: int, share: str) -> None:
    ours = eventful()
    rows = {"all": slice(None), "half": slice(150, None), "twenty": slice(100, 119), "one": slice(77, 77)}[share]
    theirs = ours.copy()
    theirs.loc[rows, [*ADJUSTED, "dividends"]] *= 10.0**power
    found = compare(stored(ours), theirs)

    assert kinds(found) == {"unit": {"all": DAYS, "half": 150, "twenty": 20, "one": 1}[share]}
    assert found is not None
    assert [each.factor for each in found.disagreements] == [pytest.approx(10.0**power)]
    assert set(found.disagreements[0].fields) == set(ADJUSTED)


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("ratio", [2.0, 3.0, 4.0, 7.0, 1.5, 20.0, 0.1, 0.2, 1 / 8])
def test_a_split_that_one_side_lacks_is_a_split_recorded_or_not(ratio: float, recorded: bool) -> None:
    plain = history()
    split = with_split(plain, "2023-09-14", ratio)
    before = int((plain["date"] < "2023-09-14").sum())
    if not recorded:
        split["stock_splits"] = 0.0

    for ours, theirs in ((split, plain), (plain, split)):
        # Volumes go with a split, and tell a 10:1 from another unit.
        found = compare(stored(ours), theirs, lacks=BARE)
        assert kinds(found) == {"split": before}
        assert found is not None
        (only,) = found.disagreements
        assert only.last == plain["date"][before - 1].date()
        assert only.factor == pytest.approx(ratio if ours is split else 1 / ratio)
        told = recorded and ours is split
        assert ("on record in the store only" in only.words) == told, only.words


def test_several_splits_that_the_files_lack_are_told_one_by_one() -> None:
    plain = history()
    ours = with_split(with_split(plain, "2023-06-01", 4.0), "2023-11-01", 5.0)

    found = compare(stored(ours).assign(traded=1.0), plain, lacks=BARE)

    assert found is not None
    assert [(each.kind, round(each.factor or 0, 6)) for each in found.disagreements] == [("split", 20), ("split", 5)]


def test_a_split_applied_twice_and_one_on_another_day_are_splits() -> None:
    plain = history()
    ours = with_split(plain, "2023-09-14", 4.0)
    twice = with_split(plain, "2023-09-14", 16.0)
    late = with_split(plain, "2023-09-18", 4.0)

    assert kinds(compare(stored(ours), twice, lacks=BARE)) == {"split": int((plain["date"] < "2023-09-14").sum())}
    # Two sessions, and the days on which the two columns list it.
    assert kinds(compare(stored(ours), late, lacks=("adj_close", "dividends"))) == {"split": 2 + 1}


def test_a_split_after_the_files_end_is_the_reason_for_all_their_prices() -> None:
    plain = history()
    ours = with_split(plain, "2024-03-13", 4.0)
    found = compare(stored(ours), plain[plain["date"] < "2024-03-11"], lacks=BARE)

    assert set(kinds(found)) == {"split"}
    assert found is not None
    assert "2024-03-13 by 4, on record in the store only" in found.disagreements[0].words


def test_prices_adjusted_for_dividends_where_ours_are_not_are_told_so_and_the_other_way_round() -> None:
    ours = eventful()
    before = int((ours["date"] < "2023-12-13").sum())

    for way, theirs in (("splits", adjusted(ours)), ("dividends", ours)):
        found = compare(stored(ours), theirs, way, lacks=BARE)  # type: ignore[arg-type]
        assert kinds(found) == {"dividend": before}
        assert found is not None
        # All of it is one thing, with what to do about it; not one for each dividend.
        assert ["--adjusted" in each.words for each in found.disagreements] == [True]


def test_a_dividend_that_one_side_adjusts_for_and_the_other_does_not() -> None:
    ours = with_dividend(with_dividend(history(), "2023-05-17", 0.8), "2023-12-13", 1.1)
    less = with_dividend(history(), "2023-05-17", 0.8)

    # In the adjusted close; in prices that are adjusted, of which ours know; that ours do not know.
    before = int((ours["date"] < "2023-12-13").sum())
    assert kinds(compare(stored(ours), less, lacks=("dividends",))) == {"dividend": before}
    assert kinds(compare(stored(ours), adjusted(less), "dividends", lacks=BARE)) == {"dividend": before}
    assert kinds(compare(stored(less), adjusted(ours), "dividends", lacks=BARE)) == {"dividend": before}


@pytest.mark.parametrize("adjusted_prices", [False, True])
@pytest.mark.parametrize("cut", ["ours", "theirs"])
def test_dividends_after_the_last_common_session_are_no_disagreement(cut: str, adjusted_prices: bool) -> None:
    later = with_dividend(eventful(), "2024-03-06", 0.7)
    frames = {"ours": later, "theirs": adjusted(later) if adjusted_prices else later}
    frames[cut] = frames[cut][frames[cut]["date"] < "2024-02-20"]
    if cut == "ours":
        # A store that has not heard of it yet.
        frames["ours"] = eventful()[lambda frame: frame["date"] < "2024-02-20"]
    elif adjusted_prices:
        frames["theirs"] = adjusted(eventful())[lambda frame: frame["date"] < "2024-02-20"]

    way: Way = "dividends" if adjusted_prices else "splits"
    lacks = BARE if adjusted_prices else ()
    assert kinds(compare(stored(frames["ours"]), frames["theirs"], way, lacks=lacks)) == {}


def test_an_adjusted_close_that_is_none_to_the_end_agrees_with_itself() -> None:
    ours = make_bars(days=DAYS)

    assert kinds(compare(stored(ours), ours)) == {}
    assert kinds(compare(stored(ours), adjusted(ours), "dividends", lacks=BARE)) == {}


@pytest.mark.parametrize("factor", [0.0, 0.01, 0.5, 1.1, 100.0])
def test_columns_of_dividends_that_differ(factor: float) -> None:
    ours = eventful()
    theirs = ours.assign(dividends=ours["dividends"] * ([1] * 200 + [factor] * 100))

    found = compare(stored(ours), theirs)

    assert kinds(found) == {"dividend": 1}
    assert found is not None
    assert found.disagreements[0].fields == ("dividends",)


def test_a_dividend_on_the_next_day_is_one_disagreement() -> None:
    ours = eventful()
    found = compare(stored(ours), ours.assign(dividends=ours["dividends"].shift(1, fill_value=0)))

    assert kinds(found) == {"dividend": 2}
    assert found is not None
    assert "is of 2023-05-17 in the store, of 2023-05-18 in the files" in found.disagreements[0].words


def test_columns_that_the_files_do_not_have_say_nothing() -> None:
    ours = eventful()
    bare = ours.assign(dividends=0.0, stock_splits=0.0, adj_close=np.nan)

    assert kinds(compare(stored(ours), bare, lacks=BARE)) == {}
    assert kinds(compare(stored(ours), bare.assign(adj_close=ours["adj_close"]))) == {"dividend": 2, "split": 1}


def moved(frame: pd.DataFrame, rows: slice, by: int) -> pd.DataFrame:
    """The bars of these rows, each that of a neighbour."""
    out, names = frame.copy(), [*ADJUSTED, "volume"]
    out.loc[rows, names] = frame[names].shift(by).loc[rows]
    return bars.conform(out)


@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize("rows", [slice(50, 53), slice(50, 90), slice(1, DAYS - 2)])
def test_bars_of_the_day_before_or_after_are_shifted(rows: slice, by: int) -> None:
    ours = history()
    found = compare(stored(ours), moved(ours, rows, by), tolerance=Tolerance(volume=0.01))

    assert kinds(found) == {"shifted day": len(range(*rows.indices(DAYS))) + 1}
    assert found is not None
    assert f"session {'before' if by > 0 else 'after'}" in found.disagreements[0].words


@pytest.mark.parametrize("days", [-1, 1])
def test_dates_that_are_a_calendar_day_off_are_shifted_weekends_and_all(days: int) -> None:
    ours = history()
    found = compare(stored(ours), ours.assign(date=ours["date"] + pd.Timedelta(days=days)), lacks=BARE)

    counts = kinds(found)
    # What the first or last day lacks beside it is all that can be told as anything else.
    assert counts.pop("shifted day") == DAYS
    assert sum(counts.values()) <= 1, counts


def test_one_bar_like_its_neighbour_is_a_value() -> None:
    ours = history()
    assert kinds(compare(stored(ours), moved(ours, slice(50, 50), 1), lacks=BARE)) == {"value": 1}


def test_sessions_that_one_side_lacks_are_missing_within_the_common_days_alone() -> None:
    ours = history()
    theirs = ours.drop(index=[50, 51, 90]).iloc[20:]

    found = compare(stored(ours.drop(index=[200])), theirs)

    assert kinds(found) == {"missing": 4}
    assert found is not None
    assert [each.words for each in found.disagreements] == [
        "the files lack 2 sessions",
        "the files lack 1 session",
        "the store lacks 1 session",
    ]


@pytest.mark.parametrize("field", PRICES)
def test_a_single_price_is_a_value_and_is_shown(field: str) -> None:
    ours = eventful()
    theirs = ours.copy()
    theirs.loc[120, field] *= 1.013

    found = compare(stored(ours), theirs, lacks=BARE)

    assert kinds(found) == {"value": 1}
    assert found is not None
    (only,) = found.disagreements
    assert (only.fields, only.example) == ((field,), ours["date"][120].date())
    assert only.theirs == pytest.approx(1.013 * (only.ours or 0))


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_a_price_that_is_none_is_a_value(value: float) -> None:
    ours = history()
    theirs = ours.copy()
    theirs.loc[120, "open"] = value

    assert kinds(compare(stored(ours), theirs)) == {"value": 1}


def test_a_price_that_one_side_does_not_say_is_counted_and_no_disagreement() -> None:
    ours = history()
    theirs = ours.copy()
    theirs.loc[3, "open"] = np.nan

    found = compare(stored(ours), theirs, lacks=BARE)

    assert kinds(found) == {}
    assert found is not None
    assert found.unknown == 1


def test_another_security_is_values() -> None:
    counts = kinds(compare(stored(history(1)), history(2), lacks=BARE))

    assert counts["value"] > 0.9 * DAYS


def test_volumes_are_compared_if_asked_for() -> None:
    ours = history()
    theirs = ours.assign(volume=ours["volume"] * 1.3)

    assert kinds(compare(stored(ours), theirs)) == {}
    assert kinds(compare(stored(ours), theirs, tolerance=Tolerance(volume=0.1))) == {"value": DAYS}
    in_lots = ours.assign(volume=(ours["volume"] / 100).round())
    assert kinds(compare(stored(ours), in_lots, tolerance=Tolerance(volume=0.1))) == {"unit": DAYS}


def test_what_was_planted_together_is_told_apart() -> None:
    ours = with_split(history(), "2023-09-14", 4.0)
    theirs = history()
    theirs.loc[30, list(PRICES)] *= 100
    theirs.loc[40, "high"] *= 1.2
    theirs.loc[250:260, list(PRICES)] *= 100
    theirs = theirs.drop(index=[280])

    before = int((ours["date"] < "2023-09-14").sum())
    counts = kinds(compare(stored(ours).assign(traded=1.0), theirs, lacks=BARE))
    assert counts == {"split": before - 1, "unit": 12, "value": 1, "missing": 1}


def test_only_days_that_are_asked_for_are_told() -> None:
    ours = history()
    theirs = ours.copy()
    theirs.loc[[10, 200], "close"] *= 1.05

    day = ours["date"].dt.date
    found = compare(stored(ours), theirs, lacks=BARE, start=day[150], end=day[250])

    assert kinds(found) == {"value": 1}
    assert found is not None
    assert (found.first, found.last, found.bars) == (day[150], day[250], 101)
    assert compare(stored(ours.iloc[:100]), theirs.iloc[150:]) is None


@pytest.mark.parametrize(
    ("shown", "way"),
    [
        ([], "splits"),
        ([{"dividends"}], "splits"),
        ([{"dividends"}, {"dividends"}, {"splits", "no"}], "dividends"),
        ([{"splits"}, {"splits", "no"}, {"dividends"}, {"no"}], "splits"),
        ([{"no"}, {"no"}, {"no", "splits"}], "no"),
        ([{"splits", "dividends"}] * 5, "splits"),
    ],
)
def test_one_file_that_is_adjusted_otherwise_is_no_convention(shown: list[set[Way]], way: Way) -> None:
    assert convention(shown) == way


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("seed", range(20))
def test_random_hostile_numbers_end_in_kinds_not_in_errors(seed: int) -> None:
    random = np.random.default_rng(seed)
    ours, theirs = eventful(seed), eventful(seed)
    for name in (*ADJUSTED, "dividends", "stock_splits"):
        rows = random.choice(DAYS, 40, replace=False)
        theirs.loc[rows, name] = random.choice([0.0, -1.0, np.nan, np.inf, 1e300, 1e-300], 40)
    theirs["volume"] = random.choice([0.0, -5.0, np.nan, 1e18], DAYS)
    theirs = theirs.drop(index=random.choice(DAYS, 30, replace=False))
    way: Callable[[int], Any] = ("splits", "dividends", "no").__getitem__

    found = compare(stored(ours), theirs, way(seed % 3), Tolerance(0.001, 0.05))

    assert "value" in kinds(found)
