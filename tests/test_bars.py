"""The one shape in which bars travel: what conforms to it, and what Arrow gives back."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luigi_tasks import bars
from tests.conftest import make_bars

DTYPES = {
    "date": "datetime64[s]",
    **dict.fromkeys((*bars.PRICES, "adj_close"), "float64"),
    "volume": "int64",
    "dividends": "float64",
    "stock_splits": "float64",
    "capital_gains": "float64",
    "dividend_currency": "str",
}


def dtypes(frame: pd.DataFrame) -> dict[str, str]:
    return {str(name): str(dtype) for name, dtype in frame.dtypes.items()}


@pytest.mark.parametrize(
    "given_frame",
    [
        make_bars(),
        make_bars().iloc[:, ::-1],
        make_bars().assign(more="x"),
        make_bars().iloc[::-1],
        make_bars().set_axis([7] * 30),
        make_bars().astype(dict.fromkeys(bars.NUMBERS, "float64")),
        make_bars().assign(date=[f"{day:%Y-%m-%d}" for day in make_bars()["date"]]),
        make_bars().assign(date=[day.date() for day in make_bars()["date"]]),
        make_bars().assign(date=make_bars()["date"].astype("datetime64[ns]")),
        make_bars().assign(**{name: make_bars()[name].map(repr) for name in bars.NUMBERS}),
        make_bars().assign(volume=make_bars()["volume"].astype("uint64")),
        make_bars().assign(volume=make_bars()["volume"].astype("int32")),
    ],
    ids=[
        "as it is",
        "other order of columns",
        "a column more",
        "newest first",
        "rows with one label",
        "all floats",
        "dates as text",
        "dates as days",
        "dates in nanoseconds",
        "numbers as text",
        "volume without sign",
        "small volume",
    ],
)
def test_every_way_to_write_the_same_bars_conforms_to_the_same_frame(given_frame: pd.DataFrame) -> None:
    found = bars.conform(given_frame)

    pd.testing.assert_frame_equal(found, make_bars(), check_exact=True)
    assert dtypes(found) == DTYPES
    assert list(found.columns) == list(bars.COLUMNS)


def test_what_was_given_is_not_changed() -> None:
    frame = make_bars().iloc[::-1]
    before = frame.copy(deep=True)

    bars.conform(frame)

    pd.testing.assert_frame_equal(frame, before)


def test_no_row_is_dropped_and_no_value_judged() -> None:
    frame = make_bars(days=6)
    frame["low"] = [-1.0, 0.0, np.inf, -np.inf, np.nan, 1e300]
    frame["date"] = frame["date"].mask(frame.index == 1, frame["date"][0])

    found = bars.conform(frame)

    assert len(found) == 6
    assert found["low"].tolist()[:4] == [-1.0, 0.0, np.inf, -np.inf]
    assert np.isnan(found["low"][4])
    assert found["low"][5] == 1e300


def test_two_bars_of_one_day_stay_in_the_order_given() -> None:
    frame = make_bars(days=3).assign(date="2024-01-02", volume=[3, 1, 2])

    assert bars.conform(frame)["volume"].tolist() == [3, 1, 2]


@pytest.mark.parametrize("name", bars.COLUMNS[:-2])
def test_a_missing_column_is_named(name: str) -> None:
    with pytest.raises(KeyError, match=name):
        bars.conform(make_bars().drop(columns=name))


def test_capital_gains_and_currencies_of_dividends_need_not_be_given() -> None:
    found = bars.conform(make_bars(days=3).drop(columns=["capital_gains", "dividend_currency"]))

    assert found["capital_gains"].tolist() == [0.0] * 3
    assert found["dividend_currency"].isna().all()
    assert dtypes(found) == DTYPES


def test_actions_of_days_without_a_bar_are_a_table() -> None:
    frame = make_bars(days=3)
    split = {
        "date": "2024-03-09",
        "dividends": 0.0,
        "dividend_currency": None,
        "stock_splits": 0.25,
        "capital_gains": 0.0,
    }
    paid = split | {"date": "2024-03-02", "dividends": 0.7, "dividend_currency": "USD", "stock_splits": 0.0}
    frame.attrs[bars.ACTIONS] = [split, paid]

    found = bars.actions_of(frame)

    assert found["date"].astype("str").tolist() == ["2024-03-02", "2024-03-09"]
    assert found["stock_splits"].tolist() == [0.0, 0.25]
    assert found["dividend_currency"].fillna("").tolist() == ["USD", ""]
    assert bars.actions_of(make_bars(days=3)).empty


@pytest.mark.parametrize(
    ("name", "value"),
    [*((name, "x") for name in bars.COLUMNS[:-1]), ("close", "12,5"), ("volume", "2024-01-02"), ("date", "2024-13-01")],
)
def test_what_is_no_number_or_date_is_refused(name: str, value: str) -> None:
    frame = make_bars(days=2).astype({name: object})
    frame[name] = pd.Series([frame[name][0], value], dtype=object)

    with pytest.raises(ValueError, match=value):
        bars.conform(frame)


@pytest.mark.parametrize(
    ("volumes", "dtype"),
    [
        ([1.0, 2.0], "int64"),
        ([1.0, np.nan], "float64"),
        ([1.0, 1.5], "float64"),
        ([1.0, np.inf], "float64"),
        ([1.0, 2.0**63], "float64"),
        ([-5.0, 0.0], "int64"),
    ],
)
def test_volume_is_whole_where_every_one_is_and_is_never_cut(volumes: list[float], dtype: str) -> None:
    found = bars.conform(make_bars(days=2).assign(volume=volumes))["volume"]

    assert str(found.dtype) == dtype
    np.testing.assert_array_equal(found.to_numpy(dtype="float64"), volumes)


@given(st.lists(st.integers(min_value=-(2**63), max_value=2**63 - 1), min_size=1, max_size=4))
def test_a_whole_volume_keeps_every_digit(volumes: list[int]) -> None:
    frame = make_bars(days=len(volumes)).assign(volume=np.array(volumes, dtype="int64"))

    assert bars.from_arrow(bars.to_arrow(bars.conform(frame)))["volume"].tolist() == volumes


NUMBERS = st.floats(allow_nan=True, allow_infinity=True)


@given(
    st.lists(
        st.tuples(
            st.dates(min_value=dt.date(1792, 5, 17), max_value=dt.date(2999, 12, 31)),
            *[NUMBERS] * 5,
            st.integers(min_value=0, max_value=2**53),
            *[NUMBERS] * 3,
            st.none() | st.sampled_from(["USD", "GBp"]),
        ),
        max_size=5,
    )
)
def test_arrow_gives_back_the_frame_it_was_given(rows: list[tuple[Any, ...]]) -> None:
    frame = bars.conform(pd.DataFrame(rows, columns=list(bars.COLUMNS)))

    back = bars.from_arrow(bars.to_arrow(frame))

    pd.testing.assert_frame_equal(back, frame, check_exact=True)
    for name in (*bars.PRICES, "adj_close", *bars.AMOUNTS):
        signs = [np.signbit(column[name][column[name].notna()].to_numpy()).tolist() for column in (back, frame)]
        assert signs[0] == signs[1], "-0.0 is not 0.0 bit for bit"


def test_what_is_not_known_is_null_in_arrow() -> None:
    table = bars.to_arrow(make_bars(days=3).assign(adj_close=[1.0, np.nan, 2.0]))

    assert table.schema.equals(bars.ARROW_SCHEMA)
    assert table["adj_close"].to_pylist() == [1.0, None, 2.0]


@pytest.mark.parametrize("volume", [1.5, np.inf, 2.0**63])
def test_arrow_refuses_a_volume_that_is_no_whole_number(volume: float) -> None:
    with pytest.raises(pa.ArrowInvalid):
        bars.to_arrow(bars.conform(make_bars(days=1).assign(volume=volume)))
