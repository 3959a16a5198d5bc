"""What a contradiction says the true values are, where it has exactly one solution; else nothing is proposed.

`luigi_tasks.quality.suspicions` names what is wrong. Here it is asked whether only one thing can be right: a split that
the prices show whole, a unit of which right bars stand on both sides, a dividend that is another one times a power of
ten, an adjusted close that confirmed dividends determine. Each proposal has its evidence in words. Two solutions are
none: a dividend for which adjusted close does not step may be no dividend, or a step may be missing; and where prices
contradict each other, dividends, which are judged by prices, are left alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from luigi_tasks.bars import PRICES
from luigi_tasks.quality import actions as corporate_actions
from luigi_tasks.quality.actions import Chain, Judged, Numbers, Rows
from luigi_tasks.quality.units import CALM_VOLUME

SPLIT = "prices are divided by splits on record"
SPLIT_TWICE = "prices are divided once by splits on record"
UNIT = "prices are in the unit of those around"
DIVIDEND = "dividends are not 10, 100, 1000 times too large or small"
UNSPLIT = "dividends are adjusted for later splits"
FOREIGN = "dividends are in the currency of the prices"
ADJUSTED = "adjusted close steps by the dividend"
MISSING = "adjusted close is known for all bars, or for none"
"""Rules, in the words of the suite's `meta.rule`."""

OF_SINGLE_BARS = (UNIT,)
"""Those that a part of a history is judged by, too."""

SPLIT_LEVEL = 0.2
SPLIT_BARS = 3
"""A split is mended if the step is this near to it, in shares of its logarithm, and so many bars are before it."""
SPLIT_CLEAR = np.log(1.2)
"""A split by less is not told from a move of the price that comes with it."""
SPLIT_BACK = 0.25
"""A step the other way is this near to the split, in shares of its logarithm."""
VOLUME_LEAST, VOLUME_BARS, VOLUME_NEAR, VOLUME_ERRORS = np.log(2.9), 30, 0.25, 3.5
"""Volume is mended with the prices for splits from 3:1 on, as it doubles of itself; and if turnover is the same on both
sides, in the median of so many bars, within this share of the split's logarithm, and so many standard errors from what
it would be if volume had been adjusted already."""
SCALED_SLACK = 0.02
"""Adjusted close is divided by the splits that prices are if adjusted close over close does not step, within this."""
UNIT_SLACK = np.log(2.0)
"""Adjusted close is in the unit of the prices if adjusted close over close is that of right bars, within this: it may
be years of dividends away, but no power of ten."""
PRICES_IN_DOUBT = ("unit_factor", "unit_unclear", "missed_split")
BY_FACTOR_MOST = 2
"""If more dividends than this are apart from their steps by powers of ten, it may be the prices that are."""
DIVIDENDS_LEAST = 3
"""So many dividends without a single step are a history that is not adjusted; fewer may be no dividends."""
FOREIGN_LEAST, FOREIGN_SPREAD = 2e-4, 1.5
"""A step that tells a dividend is this much at least, lest rounding tells it; and rates of exchange are this near."""


def propose(
    frame: pd.DataFrame,
    signs: pd.DataFrame,
    actions: pd.DataFrame | None = None,
    context: pd.DataFrame | None = None,
    whole: bool = True,
) -> list[dict[str, Any]]:
    """Repairs of a frame of the shape in `luigi_tasks.bars`, by date and column.

    `signs` are `suspicions.signs` of it, with the same `actions`, `context` and `whole`. Each repair is {date (ISO),
    column, rule, old (None: not known), new, evidence}, JSON values.
    """
    below = (frame["adj_close"] <= 0).any()
    if not (below or signs.notna().to_numpy().any()) or frame["date"].isna().any() or frame["date"].duplicated().any():
        return []
    order = np.argsort(frame["date"].to_numpy(), kind="stable")
    frame, signs = frame.iloc[order].reset_index(drop=True), signs.iloc[order].reset_index(drop=True)
    book = _Book(frame)
    if signs["unit_factor"].notna().any():
        _mend_units(book, signs["unit_factor"].to_numpy(), context)
    if not whole or signs["unit_unclear"].notna().any():
        return book.entries()
    usable = _usable(frame) & signs[["unit_factor", "spike"]].isna().all(axis=1).to_numpy()
    judgement = corporate_actions.judged(frame, usable, actions)
    if judgement is None:
        return book.entries()
    if judgement.at("split_not_applied", "split_applied_twice"):
        # What dividends and adjusted closes are worth is known once the prices are. A bar in another unit is mended to
        # what its neighbours say, which wait for the split themselves; and where another step is not explained, the
        # split may be left out of some bars only.
        if book or signs["missed_split"].notna().any():
            return []
        _mend_splits(book, judgement)
        return book.entries()
    # Prices that are in doubt say nothing of dividends. Nor do many dividends that are all out say which is wrong.
    if signs[list(PRICES_IN_DOUBT)].isna().all(axis=None) and len(judgement.by_factor) <= BY_FACTOR_MOST:
        _mend_foreign(book, judgement)
        _mend_dividends(book, judgement)
        _mend_adjusted(book, judgement)
    return book.entries()


class _Book:
    """The repairs of one frame, by row and column; a value that is mended twice is in doubt, and so is not."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame
        self._days = frame["date"].dt.strftime("%Y-%m-%d").tolist()
        self._entries: dict[tuple[int, str], dict[str, Any]] = {}

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, rows: Rows, column: str, values: Numbers, rule: str, evidence: Iterable[str]) -> None:
        served = self.frame[column].to_numpy("float64", na_value=np.nan)
        for row, value, why in zip(rows.tolist(), values.tolist(), evidence, strict=True):
            old = float(served[row]) if np.isfinite(served[row]) else None
            if not np.isfinite(value) or value == old:
                continue
            self._entries[row, column] = {
                "date": self._days[row],
                "column": column,
                "rule": rule,
                "old": old,
                "new": float(value),
                "evidence": why,
            }

    def entries(self) -> list[dict[str, Any]]:
        return [self._entries[key] for key in sorted(self._entries)]


def _usable(frame: pd.DataFrame) -> Rows:
    """As `suspicions` has it: bars that could be stored as far as they alone can tell."""
    stored = frame[[*PRICES, "volume"]].to_numpy("float64", na_value=np.nan)
    least, greatest = stored[:, :4].min(axis=1), stored[:, :4].max(axis=1)
    usable: Rows = (least > 0) & (greatest < np.inf) & (stored[:, 4] >= 0)
    usable &= (stored[:, 1] >= greatest) & (stored[:, 2] <= least)
    return usable


def _mend_units(book: _Book, factor: Numbers, context: pd.DataFrame | None) -> None:
    """Open, high, low and close by the power of ten, and adjusted close if it is too large by the same.

    Not where a price that is out by ten has no way back: it may have moved. By more it may have been split, which
    volumes tell, that are then other ones. Nor where adjusted close is neither right nor in the same unit.
    """
    frame = book.frame
    close, adjusted = (frame[name].to_numpy("float64", na_value=np.nan) for name in ("close", "adj_close"))
    good = _usable(frame) & np.isnan(factor)
    known = np.flatnonzero(good)
    before, after = _stored_beside(frame, context)
    wrong = np.flatnonzero(~np.isnan(factor))
    place = np.searchsorted(known, wrong)
    mended: list[int] = []
    scaled: list[bool] = []
    for row, at in zip(wrong.tolist(), place.tolist(), strict=True):
        left = (close[known[at - 1]], adjusted[known[at - 1]]) if at else before
        right = (close[known[at]], adjusted[known[at]]) if at < len(known) else after
        beside = [side for side in (left, right) if side is not None]
        if not beside or (len(beside) == 1 and not _unit_at_end(frame, context, good, wrong, factor[row])):
            continue
        shares = [side[1] / side[0] for side in beside]
        own = adjusted[row] / close[row]
        if np.isnan(own) or all(np.isnan(shares)):
            # Nothing to be scaled, or nothing that would say so.
            if np.isnan(own):
                mended.append(row)
                scaled.append(False)
            continue
        with_prices = any(abs(np.log(own / share)) < UNIT_SLACK for share in shares)
        alone = any(abs(np.log(own * factor[row] / share)) < UNIT_SLACK for share in shares)
        if with_prices != alone:
            mended.append(row)
            scaled.append(with_prices)
    rows, too = np.array(mended, dtype=int), np.array(scaled, dtype=bool)
    if not len(rows):
        return
    why = [f"all four prices are {_times(factor[row])} those of the bars beside" for row in rows]
    for name in PRICES:
        book.add(rows, name, _divided(frame[name].to_numpy("float64")[rows], factor[rows]), UNIT, why)
    why = [f"{reason}, and the adjusted close as well" for reason, chosen in zip(why, too, strict=True) if chosen]
    book.add(rows[too], "adj_close", _divided(adjusted[rows[too]], factor[rows[too]]), UNIT, why)


def _unit_at_end(frame: pd.DataFrame, context: pd.DataFrame | None, good: Rows, wrong: Rows, factor: float) -> bool:
    """Whether a unit that lasts to an end of the frame is one for sure: by 100 and more, with volumes as usual."""
    volume = frame["volume"].to_numpy("float64", na_value=np.nan)
    others = volume[good] if good.any() else np.empty(0) if context is None else context["volume"].to_numpy("float64")
    if abs(np.log10(factor)) < 1.5 or not len(others):
        return False
    there, usual = float(np.median(volume[wrong])), float(np.median(others))
    return usual > 0 and 1 / CALM_VOLUME < there / usual < CALM_VOLUME


def _stored_beside(
    frame: pd.DataFrame, context: pd.DataFrame | None
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """Close and adjusted close of the stored bars next before and next after the frame."""
    if context is None or not len(context) or not len(frame):
        return None, None
    dates = pd.to_datetime(context["date"])
    earlier, later = context[dates < frame["date"].iloc[0]], context[dates > frame["date"].iloc[-1]]
    found = [
        side.loc[side["date"] == end, ["close", "adj_close"]].to_numpy("float64", na_value=np.nan)[0]
        if len(side)
        else None
        for side, end in ((earlier, earlier["date"].max()), (later, later["date"].min()))
    ]
    left, right = (None if side is None else (float(side[0]), float(side[1])) for side in found)
    return left, right


def _divided(values: Numbers, factor: Numbers) -> Numbers:
    """By a power of ten, with the operation that rounds least."""
    return np.where(factor > 1, values / factor, values * np.round(1 / factor))


def _mend_splits(book: _Book, judgement: Judged) -> None:
    """Prices before a split, divided by it, and volumes times it; or the inverse, where they have been divided twice.

    Where the step is not clear, or the same split is on record twice, nothing at all is: the prices before hang
    on each of the splits.
    """
    chain, frame = judgement.chain, book.frame
    found = judgement.found
    places = sorted(judgement.at("split_not_applied", "split_applied_twice"))
    close = chain.close
    if judgement.at("split_again"):
        return
    factor, volumes = np.ones(len(frame)), np.ones(len(frame))
    adjusted = np.ones(len(frame))
    reasons: list[tuple[int, str]] = []
    for place in places:
        direction = 1 if place in found.get("split_not_applied", {}) else -1
        ratio = float(chain.split[place]) ** direction
        step = float(np.log(chain.open[place] / close[place - 1]))
        if place < SPLIT_BARS or abs(step + np.log(ratio)) > SPLIT_LEVEL * abs(np.log(ratio)):
            return
        if abs(np.log(ratio)) < SPLIT_CLEAR or not _calm(frame, chain, place) or _steps_back(chain, place, ratio):
            return
        share = _adjusted_step(judgement, place)
        if share is None:
            return
        first = int(chain.row[place])
        factor[:first] *= ratio
        # Adjusted close over close steps by the ratio where only the prices have been left as they were.
        if abs(np.log(share)) < SCALED_SLACK:
            adjusted[:first] *= ratio
        elif abs(np.log(share / ratio)) > SCALED_SLACK:
            return
        if not _volume_waits(frame, chain, place, ratio):
            volumes[:] = np.nan
        volumes[:first] *= ratio
        words = "the split was not applied" if direction > 0 else "the prices were divided twice"
        record = f"split {_words(float(chain.split[place]))}:1 on record, {words}"
        reasons.append((first, f"{record}: close {_words(close[place - 1])} before, open {_words(chain.open[place])}"))
    rows = np.flatnonzero((factor != 1) & _usable(frame))
    why = ["; ".join(words for first, words in reasons if row < first) for row in rows.tolist()]
    rule = SPLIT if places[-1] in found.get("split_not_applied", {}) else SPLIT_TWICE
    for name in PRICES:
        book.add(rows, name, frame[name].to_numpy("float64", na_value=np.nan)[rows] / factor[rows], rule, why)
    served = frame["adj_close"].to_numpy("float64", na_value=np.nan)
    book.add(rows, "adj_close", served[rows] / adjusted[rows], rule, why)
    volume = frame["volume"].to_numpy("float64", na_value=np.nan)
    book.add(rows, "volume", np.round(volume[rows] * volumes[rows]), rule, why)
    _mend_unsplit(book, judgement, factor, adjusted)


def _calm(frame: pd.DataFrame, chain: Chain, place: int) -> bool:
    """Whether turnover on the day of a split is as usual: a price that moves by itself is traded more."""
    volume = frame["volume"].to_numpy("float64", na_value=np.nan)[chain.row]
    turnover = volume * chain.close
    around = turnover[max(place - VOLUME_BARS, 0) : place + VOLUME_BARS]
    return bool(turnover[place] <= CALM_VOLUME * np.median(around))


def _steps_back(chain: Chain, place: int, ratio: float) -> bool:
    """Whether the price makes the opposite step somewhere else: then some bars only are divided otherwise."""
    gaps = np.log(chain.open[1:] / chain.close[:-1])
    gaps[chain.split[1:] != 1] = 0.0
    return bool((np.abs(gaps - np.log(ratio)) < SPLIT_BACK * abs(np.log(ratio))).any())


def _adjusted_step(judgement: Judged, place: int) -> float | None:
    """By what adjusted close over close changes at a split, apart from a dividend; 1 where it is not known."""
    chain = judgement.chain
    step = chain.step[place]
    if np.isnan(step):
        return 1.0 if np.isnan(chain.adjusted).all() else None
    if chain.dividend[place] or chain.gains[place]:
        return None
    # Of the bars before, adjusted close is too small by the ratio where only the prices were left.
    return float(1 / step)


def _volume_waits(frame: pd.DataFrame, chain: Chain, place: int, ratio: float) -> bool:
    """Whether volume, too, is as before the split: then turnover goes on as it was, else it is apart by the ratio."""
    volume = frame["volume"].to_numpy("float64", na_value=np.nan)[chain.row]
    with np.errstate(divide="ignore"):
        turnover = np.log(volume * chain.close)
    before, after = turnover[max(place - VOLUME_BARS, 0) : place], turnover[place : place + VOLUME_BARS]
    if not np.isfinite(before).all() or not np.isfinite(after).all():
        return False
    apart = float(np.median(before) - np.median(after))
    spread = max(float(np.std(np.concatenate([before - np.median(before), after - np.median(after)]))), 0.2)
    # Of a median, whose values are no strangers to each other.
    error = 1.25 * spread * np.sqrt(1 / len(before) + 1 / len(after))
    already = abs(apart - np.log(ratio))
    large = abs(np.log(ratio)) > VOLUME_LEAST
    return bool(large and abs(apart) < VOLUME_NEAR * abs(np.log(ratio)) and already > VOLUME_ERRORS * error)


def _mend_unsplit(book: _Book, judgement: Judged, factor: Numbers, adjusted: Numbers) -> None:
    """Dividends before a split that was not applied, if the steps of adjusted close say that they are of old shares."""
    chain = judgement.chain
    step, before = chain.step, chain.before
    for place in np.flatnonzero((chain.dividend > 0) & ~chain.foreign & chain.own & chain.plain).tolist():
        row = int(chain.row[place])
        # The close that a dividend is a share of is that of the bar before.
        by = factor[chain.row[place - 1]] if place else 1.0
        if by == 1 or chain.gains[place] or place in judgement.at("split_not_applied", "split_applied_twice"):
            continue
        amount = chain.dividend[place]
        implied = (1 - step[place]) * before[place]
        room = judgement.tolerance * before[place] + corporate_actions.AMOUNT_SLACK * amount
        if abs(implied - amount) <= room:
            why = f"adjusted close steps by {_words(implied)} of a close of {_words(before[place])}, as the prices were"
            book.add(np.array([row]), "dividends", np.array([amount / by]), UNSPLIT, [why])


def _mend_foreign(book: _Book, judgement: Judged) -> None:
    """A dividend in another currency: what adjusted close steps by, if the rates of exchange that says are alike."""
    chain = judgement.chain
    told = judgement.found.get("foreign_dividend", {})
    rates = {place: value / chain.dividend[place] for place, value in told.items() if value != chain.dividend[place]}
    if not rates or len(rates) < len(told):
        return
    usual = float(np.median(list(rates.values())))
    for place, rate in rates.items():
        amount, price = told[place], chain.close[place - 1]
        alike = rate > 0 and 1 / FOREIGN_SPREAD < rate / usual < FOREIGN_SPREAD and abs(rate - 1) > 0.02
        if not (alike and amount / price > FOREIGN_LEAST and chain.own[place] and not chain.gains[place]):
            continue
        why = (
            f"adjusted close steps by {amount / price:.4%} of {_words(price)}, the close before; the dividend is "
            f"{_words(chain.dividend[place])} in another currency"
        )
        row = np.array([chain.row[place]])
        book.add(row, "dividends", np.array([float(f"{amount:.5g}")]), FOREIGN, [why])


def _mend_dividends(book: _Book, judgement: Judged) -> None:
    chain = judgement.chain
    for place, (amount, why) in judgement.mended.items():
        if not chain.own[place] or not chain.plain[place]:
            continue
        unsplit = place in judgement.found.get("dividend_unsplit", {})
        evidence = f"{_words(chain.dividend[place])} for {_words(amount)}: {why}"
        rule = UNSPLIT if unsplit else DIVIDEND
        book.add(np.array([chain.row[place]]), "dividends", np.array([amount]), rule, [evidence])


def _mend_adjusted(book: _Book, judgement: Judged) -> None:
    """Adjusted closes: where wrong steps are known, where they are missing, or where there is no step at all."""
    chain, frame = judgement.chain, book.frame
    served = frame["adj_close"].to_numpy("float64", na_value=np.nan)
    doubtful = judgement.at(
        "dividend_again", "dividend_share", "dividend_step", "dividend_without_step", "step_without_dividend"
    ) | judgement.at("dividend_unsplit", "dividend_power", "foreign_dividend", "split_again")
    if judgement.steps:
        if doubtful - set(judgement.steps) - set(judgement.mended) or np.isnan(served).any() or (served <= 0).any():
            return
        factor: Numbers = np.ones(len(frame))
        reasons: list[tuple[int, str]] = []
        step = chain.step
        for place, (right, why) in judgement.steps.items():
            # The step by a foreign or a missing dividend is nobody's; these have one.
            factor[: chain.row[place]] *= float(right / step[place])
            reasons.append((int(chain.row[place]), f"{book.frame['date'].iloc[chain.row[place]]:%Y-%m-%d}: {why}"))
        rows = np.flatnonzero((factor != 1) & _usable(frame))
        evidence = ["; ".join(words for first, words in reasons if row < first) for row in rows.tolist()]
        book.add(rows, "adj_close", served[rows] * factor[rows], ADJUSTED, evidence)
        return
    if _unadjusted(judgement):
        shares = _chained(chain)
        amounts = int(((chain.dividend + chain.gains) > 0).sum())
        why = f"adjusted close is the close in spite of {amounts} dividends; chained from them"
        rows = np.flatnonzero(shares != 1)
        book.add(chain.row[rows], "adj_close", chain.close[rows] * shares[rows], ADJUSTED, [why] * len(rows))
        return
    if np.isnan(chain.adjusted).any() and np.isfinite(chain.adjusted).any() and not doubtful and not judgement.mended:
        _fill(book, judgement)


def _unadjusted(judgement: Judged) -> bool:
    """Whether adjusted close is close all along, though there are some dividends, none of which is in doubt."""
    chain = judgement.chain
    paid = set(np.flatnonzero((chain.dividend + chain.gains) > 0).tolist()) - {0}
    others = judgement.at(*(name for name in corporate_actions.SIGNS if name != "dividend_without_step"))
    return (
        len(paid) >= DIVIDENDS_LEAST
        and not others
        and judgement.at("dividend_without_step") == paid
        and bool(chain.plain[list(paid)].all())
        and bool((np.abs(chain.adjusted / chain.close - 1) <= judgement.tolerance).all())
    )


def _chained(chain: Chain) -> Numbers:
    """Adjusted close over close as the dividends make it, 1 for the last bar."""
    share = np.ones(len(chain.close))
    share[:-1] = 1 - (chain.dividend + chain.gains)[1:] / chain.close[:-1]
    out: Numbers = np.asarray(np.cumprod(share[::-1])[::-1], dtype="float64")
    return out


def _fill(book: _Book, judgement: Judged) -> None:
    """Adjusted closes that are missing, from the next known one back, or from the last known one on.

    What is known on both sides must be apart by the dividends between; if it is not, none is filled anywhere.
    """
    chain, count = judgement.chain, len(judgement.chain.close)
    known = np.isfinite(chain.adjusted)
    chained = _chained(chain)
    base = chain.adjusted / chain.close / chained
    at = np.flatnonzero(known)
    across = np.flatnonzero(np.diff(at) > 1)
    room = judgement.tolerance * 2 + corporate_actions.AMOUNT_SLACK * 0.02
    paid = (chain.dividend + chain.gains) > 0
    inside = ~known & paid
    inside[1:] |= ~known[:-1] & paid[1:]
    if (inside & ~(chain.plain & ~chain.foreign)).any():
        return
    if (np.abs(base[at[across]] / base[at[across + 1]] - 1) > room).any():
        return
    later = np.searchsorted(at, np.arange(count))
    anchor = at[np.minimum(later, len(at) - 1)]
    rows = np.flatnonzero(~known)
    values = chain.close[rows] * chained[rows] * base[anchor[rows]]
    days = book.frame["date"].dt.strftime("%Y-%m-%d").to_numpy()
    why = [f"chained by the dividends to the adjusted close of {days[chain.row[anchor[row]]]}" for row in rows]
    book.add(chain.row[rows], "adj_close", values, MISSING, why)


def _times(factor: float) -> str:
    return f"{factor:,.0f} times" if factor > 1 else f"a {1 / factor:,.0f}th of"


def _words(value: float) -> str:
    return f"{value:.6g}"
