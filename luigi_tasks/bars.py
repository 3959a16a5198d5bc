"""The one shape in which daily bars travel between the rooms of this project.

Columns, in this order, one row a session, oldest first:

| column | dtype | unit |
|---|---|---|
| date | datetime64[s], no zone | the session's calendar day where the security is traded |
| open, high, low, close | float64 | the security's currency, as the source states it (Yahoo: adjusted for splits) |
| adj_close | float64, NaN = not known | close adjusted for splits and dividends |
| volume | int64 (float64 where some are not known) | shares, contracts or units |
| dividends | float64 | per share, on the ex-date, in dividend_currency; 0 where none |
| stock_splits | float64 | new shares per old one, on the first day traded that way; 0 where none |
| capital_gains | float64 | a fund's distribution of gains, currency per share, on the ex-date; 0 where none |
| dividend_currency | str, NaN = that of the prices | of a dividend that the source states in another currency |

The last two may be left out of a frame that is given to `conform`: then there are none.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

FACTS = "security"
"""Key in a frame's `attrs`, and in its file, for what the source says of the security in the same answer: a dict with
name, quote_type, exchange, currency, time_zone (IANA), first_trade_date, last_trade_date (ISO); None: not said.

It may also have, None where it does not apply:

* market_price: the latest price by the answer's own word, which tells in what unit its bars should be;
* provisional (ISO day): the newest session of the answer, which the source may still settle;
* unfinished (ISO day): the session that the answer had a row of, or would have, and that is no close yet; left out;
* open_until (ISO instant with zone): when that session can be had;
* stale_answer (ISO instant with zone): the answer's own market time, where the session is over and the answer older;
* lacks: names of columns that the answer did not have at all."""

ASKED = "asked"
"""Key in a frame's `attrs`, and in its file, for the days that were asked for: see `luigi_tasks.history.Span`."""

ACTIONS = "actions"
"""Key in a frame's `attrs`, and in its file, for the corporate actions of days that the answer has no bar of: a list of
dicts with date (ISO) and dividends, dividend_currency, stock_splits, capital_gains, as in the columns; `actions_of`
makes a frame of them."""

ATTRS = (FACTS, ASKED, ACTIONS)

PRICES = ("open", "high", "low", "close")
AMOUNTS = ("dividends", "stock_splits", "capital_gains")
"""The corporate actions among the columns; 0 where there is none."""
COLUMNS = ("date", *PRICES, "adj_close", "volume", *AMOUNTS, "dividend_currency")
NUMBERS = COLUMNS[1:-1]
"""The columns that are numbers."""
_DTYPES = ("datetime64[s]", *["float64"] * 5, "int64", *["float64"] * 3, "str")

ARROW_SCHEMA = pa.schema(
    [
        ("date", pa.date32()),
        *((name, pa.float64()) for name in (*PRICES, "adj_close")),
        ("volume", pa.int64()),
        *((name, pa.float64()) for name in AMOUNTS),
        ("dividend_currency", pa.string()),
    ]
)


def conform(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with exactly `COLUMNS`, their dtypes, and rows by date; values are not judged, no row is dropped.

    Raises:
        KeyError: a column is missing.
        ValueError: a value is not a number or a date.
    """
    if _conforms(frame):
        return frame.copy()
    out = complete(frame).loc[:, list(COLUMNS)].copy()
    out["date"] = pd.to_datetime(out["date"]).astype("datetime64[s]")
    out["dividend_currency"] = out["dividend_currency"].astype("str")
    for name in NUMBERS:
        out[name] = pd.to_numeric(out[name])
        if name != "volume":
            out[name] = out[name].astype("float64")
    volume = out["volume"]
    if volume.dtype.kind in "iu" and volume.notna().all() and (volume <= 2**63 - 1).all():
        out["volume"] = volume.astype("int64")
    else:
        volume = volume.astype("float64")
        whole = volume.notna().all() and (volume == volume.round()).all() and (volume.abs() < 2**63).all()
        out["volume"] = volume.astype("int64") if whole else volume
    out = out.sort_values("date", kind="stable").reset_index(drop=True)
    out.attrs = dict(frame.attrs)
    return out


def complete(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with those columns that need not be given."""
    given = {"capital_gains": 0.0, "dividend_currency": _no_text(len(frame))}
    return frame.assign(**{name: value for name, value in given.items() if name not in frame})


def _conforms(frame: pd.DataFrame) -> bool:
    """Whether there is nothing to do, as with most frames: they are conformed wherever they come from."""
    return (
        tuple(frame.columns) == COLUMNS
        and tuple(map(str, frame.dtypes)) == _DTYPES
        and isinstance(frame.index, pd.RangeIndex)
        and frame.index.equals(pd.RangeIndex(len(frame)))
        and bool(frame["date"].is_monotonic_increasing)
    )


def actions_of(frame: pd.DataFrame) -> pd.DataFrame:
    """The corporate actions of days without a bar, by date: date, the columns of `AMOUNTS`, and dividend_currency."""
    names = ["date", *AMOUNTS, "dividend_currency"]
    out = pd.DataFrame(frame.attrs.get(ACTIONS) or [], columns=names)
    kinds = dict.fromkeys(AMOUNTS, "float64") | {"date": "datetime64[s]", "dividend_currency": "str"}
    return out.astype(kinds).sort_values("date", ignore_index=True)


def every_action(frame: pd.DataFrame) -> pd.DataFrame:
    """All corporate actions of the frame, on days with a bar or without: columns as `actions_of`, by date."""
    names = ["date", *AMOUNTS, "dividend_currency"]
    acted = (frame[list(AMOUNTS)] > 0).any(axis=1)
    on_bars, others = frame.loc[acted, names], actions_of(frame)
    both = pd.concat([on_bars, others]) if len(others) else on_bars
    return both.drop_duplicates("date").sort_values("date", ignore_index=True)


def ends_early(frame: pd.DataFrame, left_out: Iterable[dt.date], as_of: dt.date) -> str:
    """In words, that the source says itself that the security traded after the last bar it sent; else empty.

    `left_out` are days of bars that it sent and that are not in the frame; days after `as_of` do not count.
    """
    said = frame.attrs.get(FACTS, {}).get("last_trade_date")
    last = max([*left_out, *frame["date"].dt.date.tail(1)], default=None)
    if said is None or last is None or not last < dt.date.fromisoformat(said) <= as_of:
        return ""
    return f"ends on {last}, though it traded on {said}"


def to_arrow(bars: pd.DataFrame) -> pa.Table:
    """The bars as an Arrow table of `ARROW_SCHEMA`; NaN becomes null.

    Raises:
        pyarrow.ArrowInvalid: a volume is not a whole number.
    """
    return as_table(bars.loc[:, list(COLUMNS)], ARROW_SCHEMA)


def as_table(frame: pd.DataFrame, schema: pa.Schema | None = None) -> pa.Table:
    """The frame as an Arrow table, with its columns in their order; of that schema, or of one that fits.

    Raises:
        pyarrow.ArrowInvalid: a value does not fit the schema.
    """
    # One thread: starting others takes longer than some thousand rows. Nearly always no dividend has a currency of its
    # own, and to look for one takes Arrow longer than all numbers together.
    name = "dividend_currency"
    if name not in frame or frame[name].notna().any():
        return pa.Table.from_pandas(frame, schema=schema, preserve_index=False, safe=True, nthreads=1)
    place = frame.columns.get_loc(name)
    rest = None if schema is None else schema.remove(schema.get_field_index(name))
    table = pa.Table.from_pandas(
        frame.drop(columns=name), schema=rest, preserve_index=False, safe=True, nthreads=1
    ).replace_schema_metadata()
    return table.add_column(place, name, pa.nulls(len(frame), pa.string()))


def from_arrow(table: pa.Table) -> pd.DataFrame:
    """The frame that `to_arrow` was given."""
    days = table.column("date")
    if pa.types.is_date32(days.type):
        # As pandas is to have them; it would make milliseconds of them.
        table = table.set_column(table.column_names.index("date"), "date", days.cast(pa.timestamp("s")))
    texts = [name for name in ("dividend_currency",) if name in table.column_names]
    none = [name for name in texts if table.column(name).null_count == len(table)]
    frame = table.drop_columns(none).to_pandas()
    for name in none:
        frame.insert(min(COLUMNS.index(name), len(frame.columns)), name, _no_text(len(frame)))
    return conform(frame)


def _no_text(rows: int) -> Any:
    # A hundred times as fast as to turn floats into text.
    return pd.array([np.nan], dtype="str").take(np.zeros(rows, dtype=int))
