"""How to tell that a history has been restated since it was stored, and why.

A source restates the whole past at a split (prices), at a dividend (adjusted close), and now and then for reasons of
its own. All of this reaches back from some day to the first bar. So the last few stored sessions are asked for again:
if the oldest of them is as it was, and no action was added, changed or taken away, nothing before it was restated for
a reason that lies within the sessions asked for. What was announced later than these sessions shows only in the whole
history, which is therefore asked for every few days, by each ticker on days of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from luigi_tasks import bars
from luigi_tasks.schedule import Span

ROUNDED = ("adj_close", "dividends", "capital_gains")
"""What Yahoo works out anew for every answer, in single precision: up to 3e-7 of it changes from day to day."""
ROUNDING = 1e-6
"""Relative difference of rounded values that is none. A dividend of 1 cent on a share of 10,000 moves more."""
EXPLAINED = 1e-3
"""A split explains a price to 1 in 1,000: sources round. What differs by less from what is stored is a correction of
it; what differs by more is another price."""

_VALUES = (*bars.PRICES, "adj_close", *bars.AMOUNTS)
_MOVED = {"dividends": 7, "capital_gains": 7, "stock_splits": 14}
"""Days by which an action may move, or be listed twice, and still be the same one."""

Rows = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Changes:
    """Stored bars that the answer has other values for, row by row: `old` and `new` in the shape of
    `luigi_tasks.bars`, `provisional`: whether the stored one was, and `why` each is changed, see `reasons`."""

    old: pd.DataFrame
    new: pd.DataFrame
    provisional: Rows
    why: pd.Series[str]

    @property
    def replaced(self) -> Rows:
        """Which bars have other prices that nothing explains: by more than sources correct."""
        with np.errstate(over="ignore"):
            moved = np.abs(_prices(self.new) / _prices(self.old) - 1) > EXPLAINED
        other: Rows = np.asarray(moved.any(axis=1) & (self.why == "restatement").to_numpy())
        return other


def download(
    ask: Callable[[Span], pd.DataFrame | None],
    stored: Callable[[Span], pd.DataFrame],
    first: Span,
    whole: Span,
) -> pd.DataFrame | None:
    """The bars with which the history is up to date: those of `first`, or, if they show that what comes before was
    restated, those of `whole`. None where the source has none.

    `ask` is the source, `stored` what is stored of some days, with the actions of days without a bar in its `attrs`.
    The days of the answer and, in words, why it is whole are in the frame's `attrs`: see `luigi_tasks.bars.ASKED`.
    """
    span, answer, why = first, ask(first), ""
    if not span.whole:
        why = restated(stored(span), answer) or _lacks(answer)
    if why:
        span, answer = whole, ask(whole)
    if answer is not None:
        answer.attrs[bars.ASKED] = span.as_json() | {"because": why}
    return answer


def restated(stored: pd.DataFrame, answer: pd.DataFrame | None) -> str:
    """Why bars before the answer's first may be other ones by now, in words; empty where they are not.

    Both are of the shape in `luigi_tasks.bars`, with the actions of days without a bar; `stored` are the stored bars of
    the days that were asked for. Days before the oldest of them are new to the store, and change nothing in it.
    """
    if stored.empty:
        return ""
    if answer is None or answer.empty:
        return "no bars were sent of sessions that are stored"
    since = stored["date"].min()
    old, new = stored.set_index("date"), answer.drop_duplicates("date").set_index("date")
    common = old.index.intersection(new.index)
    if common.empty:
        return "none of the sessions that are stored was sent"
    before, now = (_actions_since(frame, since) for frame in (stored, answer))
    days = before.index.union(now.index)
    before, now = (table.reindex(days) for table in (before, now))
    for name in (*bars.AMOUNTS, "dividend_currency"):
        differing = days[~_same(before, now, name)]
        if len(differing):
            return f"{name.replace('_', ' ')} changed on {min(differing):%Y-%m-%d}"
    oldest = common.min()
    if not all(_same(old.loc[[oldest]], new.loc[[oldest]], name).all() for name in _VALUES):
        return f"the bar of {oldest:%Y-%m-%d} has other values"
    return ""


def vanished(stored: pd.DataFrame, answer: pd.DataFrame) -> list[dict[str, Any]]:
    """Stored actions that the answer has not any more: [{date, kind, amount}], by date.

    Both as `luigi_tasks.bars.every_action` gives them, of the same days. An action that has moved by some days, or that
    was listed twice and is listed once now, is there.
    """
    gone = []
    for name, days in _MOVED.items():
        old, new = (table.loc[table[name] > 0, ["date", name]] for table in (stored, answer))
        for day, amount in old[~old["date"].isin(new["date"])].itertuples(index=False):
            near = new[(new["date"] - day).abs() <= pd.Timedelta(days=days)]
            same = np.isclose(near[name], amount, rtol=EXPLAINED) | ~near["date"].isin(old["date"])
            if not same.any():
                gone.append({"date": str(day.date()), "kind": name, "amount": float(amount)})
    return sorted(gone, key=lambda action: str(action["date"]))


def reasons(
    old: pd.DataFrame,
    new: pd.DataFrame,
    actions: pd.DataFrame,
    provisional: Rows | None = None,
    splits: pd.DataFrame | None = None,
) -> pd.Series[str]:
    """Why each changed bar was changed: "split", "dividend", "settled" or "restatement".

    `old` and `new` are the bars that changed, row by row of the same session. `actions` has a row for each day on which
    an action changed or appeared: date, and dividends, stock_splits, capital_gains and the same with old_. A split is
    the reason where it explains the prices, a dividend or a capital gain where only the adjusted close moved before it.
    `splits` (date, stock_splits) are all that the answer has: one that was on record before its prices were divided is
    the reason, too, once they are. What was `provisional` was settled.
    """
    days = old["date"].to_numpy()
    prices_before, prices_now = _prices(old), _prices(new)
    factor, split, dividend = np.ones(len(old)), np.zeros(len(old), bool), np.zeros(len(old), bool)
    for action in actions.itertuples(index=False):
        day, before = np.datetime64(action.date), days < np.datetime64(action.date)
        if action.stock_splits != action.old_stock_splits:
            factor[before] *= (action.stock_splits or 1.0) / (action.old_stock_splits or 1.0)
            split |= days <= day
        for name in ("dividends", "capital_gains"):
            now, then = getattr(action, name), getattr(action, f"old_{name}")
            if abs(now - then) > ROUNDING * now:
                dividend |= days <= day
    same_prices = np.isclose(prices_before, prices_now, rtol=0, atol=0, equal_nan=True).all(axis=1)
    volume_before, volume_now = (table["volume"].to_numpy("float64", na_value=np.nan) for table in (old, new))
    same_volume = np.isclose(volume_before, volume_now, rtol=0, atol=0, equal_nan=True)
    why = np.full(len(old), "restatement", dtype=object)
    why[dividend & same_prices & same_volume] = "dividend"
    why[split & _explains(factor, prices_before, prices_now)] = "split"
    # Where both happened, a row after the split has only its adjusted close moved.
    same_split = old["stock_splits"].to_numpy() == new["stock_splits"].to_numpy()
    why[split & dividend & same_prices & same_volume & same_split & (factor == 1)] = "dividend"
    # The row of an action that was taken away or corrected, and is as it was but for that.
    same_adjusted = np.isclose(old["adj_close"], new["adj_close"], rtol=ROUNDING, atol=0, equal_nan=True)
    as_it_was = (why == "restatement") & same_prices & same_volume & same_adjusted
    why[as_it_was & ~same_split] = "split"
    paid = [np.isclose(old[name], new[name], rtol=ROUNDING, atol=0) for name in ("dividends", "capital_gains")]
    why[as_it_was & same_split & ~np.all(paid, axis=0)] = "dividend"
    if splits is not None:
        why[(why == "restatement") & _late(splits, days, prices_before, prices_now)] = "split"
    if provisional is not None:
        why[(why == "restatement") & provisional] = "settled"
    return pd.Series(why, index=old.index)


def _late(splits: pd.DataFrame, days: Any, before: Any, now: Any) -> Rows:
    """Rows whose prices are divided at last by a split that was on record already, or are not any more twice."""
    found = np.zeros(len(days), bool)
    for day, ratio in splits[["date", "stock_splits"]].itertuples(index=False):
        earlier = days < np.datetime64(day)
        if ratio > 0 and ratio != 1:
            # Those after it must be as they were, or it is another factor on everything.
            apart = earlier.any() and not (~earlier & ~np.isclose(before[:, 3], now[:, 3], rtol=EXPLAINED)).any()
            for factor in (ratio, 1 / ratio) if apart else ():
                found |= earlier & _explains(np.full(len(days), factor), before, now)
    return found


def _explains(factor: Any, before: Any, now: Any) -> Rows:
    """Rows whose prices were divided by that factor; one that is not known on a side says nothing."""
    with np.errstate(over="ignore", invalid="ignore"):
        off = np.abs(now * np.asarray(factor)[:, None] / before - 1)
    rows: Rows = (np.isnan(off) | (off < EXPLAINED)).all(axis=1)
    return rows


def _actions_since(frame: pd.DataFrame, since: pd.Timestamp) -> pd.DataFrame:
    actions = bars.every_action(frame)
    return actions[actions["date"] >= since].set_index("date")


def _lacks(answer: pd.DataFrame | None) -> str:
    """In words, that the answer has no column at all that it should have: another one may have it."""
    lacking = [] if answer is None else answer.attrs.get(bars.FACTS, {}).get("lacks") or []
    return f"the answer had no {', '.join(lacking)}" if lacking else ""


def _prices(frame: pd.DataFrame) -> Any:
    return frame[list(bars.PRICES)].to_numpy(float)


def _same(old: pd.DataFrame, new: pd.DataFrame, column: str) -> Rows:
    if column == "dividend_currency":
        same_text: Rows = (old[column].fillna("") == new[column].fillna("")).to_numpy()
        return same_text
    before, after = (table[column].to_numpy(float) for table in (old, new))
    if column in bars.AMOUNTS:
        before, after = np.nan_to_num(before), np.nan_to_num(after)
    same: Rows = np.isclose(before, after, rtol=ROUNDING if column in ROUNDED else 0, atol=0, equal_nan=True)
    return same
