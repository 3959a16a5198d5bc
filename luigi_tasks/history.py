"""How to tell that a history has been restated since it was stored, and why.

A source restates the whole past at a split (prices), at a dividend (adjusted close), and now and then for reasons of
its own. All of this reaches back from some day to the first bar. So the last few stored sessions are asked for again:
if the oldest of them is as it was, and no action was added, changed or taken away, nothing before it was restated for
a reason that lies within the sessions asked for. What was announced later than these sessions shows only in the whole
history, which is therefore asked for every few days, by each ticker on days of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from luigi_tasks import bars
from luigi_tasks.schedule import Span

ACTIONS = ("dividends", "stock_splits")
ROUNDED = ("adj_close", "dividends")
"""What Yahoo works out anew for every answer, in single precision: up to 3e-7 of it changes from day to day."""
ROUNDING = 1e-6
"""Relative difference of rounded values that is none. A dividend of 1 cent on a share of 10,000 moves more."""
_VALUES = (*bars.PRICES, "adj_close", *ACTIONS)


def download(
    ask: Callable[[Span], pd.DataFrame | None],
    stored: Callable[[Span], pd.DataFrame],
    first: Span,
    whole: Span,
) -> pd.DataFrame | None:
    """The bars with which the history is up to date: those of `first`, or, if they show that what comes before was
    restated, those of `whole`. None where the source has none.

    `ask` is the source, `stored` what is stored of some days. The days of the answer and, in words, why it is whole
    are in the frame's `attrs`: see `luigi_tasks.bars.ASKED`.
    """
    span, answer, why = first, ask(first), ""
    if not span.whole:
        why = restated(stored(span), answer)
    if why:
        span, answer = whole, ask(whole)
    if answer is not None:
        answer.attrs[bars.ASKED] = span.as_json() | {"because": why}
    return answer


def restated(stored: pd.DataFrame, answer: pd.DataFrame | None) -> str:
    """Why bars before the answer's first may be other ones by now, in words; empty where they are not.

    Both are of the shape in `luigi_tasks.bars`; `stored` are the stored bars of the days that were asked for.
    """
    if answer is None or answer.empty:
        return "no bars were sent of sessions that are stored"
    old, new = stored.set_index("date"), answer.drop_duplicates("date").set_index("date")
    common = old.index.intersection(new.index)
    if common.empty:
        return "none of the sessions that are stored was sent"
    known, now = old.loc[common], new.loc[common]
    for name in ACTIONS:
        added = new.loc[~new.index.isin(old.index), name]
        days = [*common[~_same(known, now, name)], *added.index[added.to_numpy() != 0]]
        if days:
            return f"{name.replace('_', ' ')} changed on {min(days):%Y-%m-%d}"
    oldest = common.min()
    if not all(_same(known.loc[[oldest]], now.loc[[oldest]], name).all() for name in _VALUES):
        return f"the bar of {oldest:%Y-%m-%d} has other values"
    return ""


def _same(old: pd.DataFrame, new: pd.DataFrame, column: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
    before, after = (table[column].to_numpy(float) for table in (old, new))
    same: np.ndarray[Any, np.dtype[np.bool_]] = np.isclose(
        before, after, rtol=ROUNDING if column in ROUNDED else 0, atol=0, equal_nan=True
    )
    return same


def reasons(old: pd.DataFrame, new: pd.DataFrame, actions: pd.DataFrame) -> pd.Series[str]:
    """Why each changed bar was changed: "split", "dividend" or "restatement".

    `old` and `new` are the bars that changed, row by row of the same session. `actions` has a row for each session on
    which an action changed or appeared: date, and dividends, stock_splits, old_dividends, old_stock_splits. A split is
    the reason where it explains the prices (to 1 in 1,000: sources round), a dividend where only the adjusted close
    moved before it.
    """
    days = old["date"].to_numpy()
    prices_before, prices_now = old[list(bars.PRICES)].to_numpy(float), new[list(bars.PRICES)].to_numpy(float)
    factor, split, dividend = np.ones(len(old)), np.zeros(len(old), bool), np.zeros(len(old), bool)
    for action in actions.itertuples(index=False):
        day, before = np.datetime64(action.date), days < np.datetime64(action.date)
        if action.stock_splits != action.old_stock_splits:
            factor[before] *= (action.stock_splits or 1.0) / (action.old_stock_splits or 1.0)
            split |= days <= day
        if abs(action.dividends - action.old_dividends) > ROUNDING * action.dividends:
            dividend |= days <= day
    same_prices = (prices_before == prices_now).all(axis=1)
    same_volume = old["volume"].to_numpy() == new["volume"].to_numpy()
    with np.errstate(over="ignore"):
        explained = (np.abs(prices_now * factor[:, None] / prices_before - 1) < 1e-3).all(axis=1)
    why = np.full(len(old), "restatement", dtype=object)
    why[dividend & same_prices & same_volume] = "dividend"
    why[split & explained] = "split"
    # Where both happened, a row after the split has only its adjusted close moved.
    same_split = old["stock_splits"].to_numpy() == new["stock_splits"].to_numpy()
    why[split & dividend & same_prices & same_volume & same_split & (factor == 1)] = "dividend"
    return pd.Series(why, index=old.index)
