"""Which bars are in another unit than the rest: pence for pounds, cents for dollars, thousands for ones.

Yahoo mixes units within one answer: a bar, a month, all of the older years. Between two neighbours such a change is a
step of all four prices by a power of ten, which markets do not make from 100 times up, and by ten times hardly ever.
So the steps are added up, which sorts the bars into classes that differ by powers of ten, however many are in each;
and only then is it asked which class is right. The number of bars says least, as half of them can be wrong. yfinance's
`repair=True` mends these faults, too ("100x errors"), by a median, which a block of wrong bars moves.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

Numbers = np.ndarray[Any, np.dtype[np.float64]]
Rows = np.ndarray[Any, np.dtype[Any]]

STEP = np.log(10.0)
SLACK = np.log(2.0)
"""A step by 100 or more: prices move on that day, too. From 50 to 200 times is 100."""
SLACK_MANY = np.log(1.6)
"""The same, of a source that goes to and fro."""
SLACK_TEN = np.log(1.3)
"""A step by ten is taken for a unit within this only: splits of 8:1 and 15:1 are none."""
LEAP = np.log(2.0)
"""A price that doubles or halves overnight, when a unit changes as well, hides by how much."""
LEAP_MANY = np.log(1.3)
"""The same, of a source that goes to and fro."""
SLACK_LASTING = np.log(1.2)
"""A step by ten with no way back, at an end of the frame."""
LASTING_BARS = 5
"""So many bars at an end may be out by ten with no way back. Of more, it is the price that has changed."""
CALM_VOLUME = 3.5
"""A price that falls by nine tenths in earnest is traded more than this many times as usual; a split of 10:1 has ten
times the shares. Another unit leaves the volume alone."""
CALM_BARS = 30
CLEAR_SHARE = 0.8
"""So large a share of the bars is right, unless the market price says otherwise."""
PART_BARS = 60
"""Of bars between two leaps of the price, which may be few, a share says something from so many on."""
TAIL_BARS = 30
"""A market price does not speak for a minority that is no more than these last bars: it is of the same feed."""
FEW_STORED = 3
"""Stored bars say which unit is right from so many on."""
FEW_STEPS = 3
"""Of so many steps by ten, one of which has no way back, it is not known which that is."""
MANY_STEPS = 50
"""More steps than this are a source that goes to and fro; each is a change of unit."""


@dataclass(frozen=True)
class Units:
    """Of each bar: 10**k if it is too large by that, NaN if it is right; and where a change cannot be laid at anybody's
    door, by how much the unit changes at this bar."""

    factor: Numbers
    unclear: Numbers


def judged(
    prices: Numbers, volume: Numbers, stored: Rows, last_close: float | None, market_price: float | None
) -> Units:
    """The units of bars by date; `prices` are the logarithms of open, high, low and close, one column each.

    `stored` says which bars have been stored before, and so are right. `last_close` is that of the last bar, not a
    logarithm; `market_price` is what the source says apart from its bars, or None.
    """
    nothing = np.full(len(prices), np.nan)
    if len(prices) < 2 or np.ptp(prices[:, 3]) < STEP - SLACK_TEN:
        return Units(nothing, nothing)
    step, between = _steps(prices)
    if not step.any():
        return Units(nothing, nothing)
    factor, unclear, many = nothing.copy(), nothing.copy(), bool((step != 0).sum() > MANY_STEPS)
    ends = [0, *np.flatnonzero(between).tolist(), len(prices)]
    for first, end in itertools.pairwise(ends):
        part = slice(first, end)
        is_last = end == len(prices)
        price = market_price if is_last else None
        one = _of_part(
            step[part], prices[part], volume[part], stored[part], (first == 0, is_last), last_close, price, many
        )
        factor[part] = one.factor
        unclear[part] = one.unclear
    return Units(factor, unclear)


def _of_part(
    step: Numbers,
    prices: Numbers,
    volume: Numbers,
    stored: Rows,
    ends: tuple[bool, bool],
    last_close: float | None,
    market_price: float | None,
    to_and_fro: bool,
) -> Units:
    """The units of bars without a leap between them that could be one of the price as well as one of the unit.

    `ends` says whether the frame begins and ends with them, `to_and_fro` whether it is of a source that goes so.
    """
    nothing = np.full(len(prices), np.nan)
    step = step.copy()
    step[0] = 0
    at = np.flatnonzero(step)
    if not len(at):
        return Units(nothing, nothing)
    lasting = [] if to_and_fro else _without_return(at, step[at])
    if lasting and lasting[-1] == at[-1] and -step[at[-1]] == _away(last_close, market_price):
        # The market price says that the last bars are out, by what they have stepped.
        lasting.pop()
    lasting = [place for place in lasting if not _faulty_end(prices, volume, place, at, ends)]
    if lasting and (np.abs(step[at]) == 1).sum() >= FEW_STEPS:
        # Any of them can be the one that stays.
        return Units(nothing, np.where(step != 0, 10.0**step, np.nan))
    step[lasting] = 0
    if not step.any():
        return Units(nothing, nothing)
    kind = np.cumsum(step)
    right = _right(kind, stored, last_close, market_price, len(kind) >= PART_BARS or all(ends))
    if right is None:
        return Units(nothing, np.where(step != 0, 10.0**step, np.nan))
    return Units(np.where(kind != right, 10.0 ** (kind - right), np.nan), nothing)


def _steps(prices: Numbers) -> tuple[Numbers, Rows]:
    """The power of ten by which all four prices differ from those of the bar before, 0 where they do not.

    And where they leap by something else, so that nothing is to be said of units across.
    """
    difference = np.diff(prices, axis=0) / STEP
    power = np.round(difference.mean(axis=1))
    off = np.abs(difference - power[:, None]).max(axis=1)
    slack = np.where(np.abs(power) == 1, SLACK_TEN, SLACK) / STEP
    least = LEAP / STEP
    if ((off < slack) & (power != 0)).sum() > MANY_STEPS:
        # One that is wrong by a class would turn all bars after it round.
        slack, least = np.minimum(slack, SLACK_MANY / STEP), LEAP_MANY / STEP
    out = np.zeros(len(prices))
    out[1:] = np.where(off < slack, power, 0.0)
    leap = np.zeros(len(prices), dtype=bool)
    same_way = np.abs(np.sign(difference).sum(axis=1)) == difference.shape[1]
    leap[1:] = (out[1:] == 0) & same_way & (np.abs(difference).min(axis=1) > least)
    return out, leap


def _without_return(at: Rows, power: Numbers) -> list[int]:
    """Where the price steps by ten and not back: bars between two opposite steps, nearest ones first, are a pair."""
    left = list(zip(at.tolist(), power.tolist(), strict=True))
    while True:
        pairs = [
            (later[0] - earlier[0], place)
            for place, (earlier, later) in enumerate(itertools.pairwise(left))
            if earlier[1] == -later[1]
        ]
        if not pairs:
            break
        place = min(pairs)[1]
        del left[place : place + 2]
    return [place for place, by in left if abs(by) == 1]


def _faulty_end(prices: Numbers, volume: Numbers, place: int, at: Rows, ends: tuple[bool, bool]) -> bool:
    """Whether the few bars from here to the nearer end of the frame are another unit, not another price.

    All four prices of the step are near to ten times, and the volume is what it was.
    """
    count = len(prices)
    if ends[1] and count - place <= LASTING_BARS and place == at[-1]:
        few, others = slice(place, count), slice(max(place - CALM_BARS, 0), place)
    elif ends[0] and place <= LASTING_BARS and place == at[0]:
        few, others = slice(0, place), slice(place, place + CALM_BARS)
    else:
        return False
    ratio = np.abs(prices[place] - prices[place - 1])
    usual = float(np.median(volume[others]))
    calm = (volume[few] <= usual * CALM_VOLUME) & (volume[few] * CALM_VOLUME >= usual)
    return bool((np.abs(ratio - STEP) < SLACK_LASTING).all() and usual > 0 and calm.all())


def _right(
    kind: Numbers, stored: Rows, last_close: float | None, market_price: float | None, many: bool
) -> float | None:
    """The class of the bars that are right: that of stored bars, of nearly all, of the market price; None: unknown.

    Nearly all says something where there are `many`.
    """
    if stored.sum() >= FEW_STORED:
        return _most(kind[stored])[0]
    most, share = _most(kind)
    clear = many and share >= CLEAR_SHARE
    said = _of_market(kind, last_close, market_price)
    if said is None or said == most:
        return most if clear or said is not None else None
    only_tail = bool((np.flatnonzero(kind == said) >= len(kind) - TAIL_BARS).all())
    return most if clear and only_tail else said


def _most(kind: Numbers) -> tuple[float, float]:
    values, counts = np.unique(kind, return_counts=True)
    most = int(counts.argmax())
    return float(values[most]), float(counts[most] / len(kind))


def _of_market(kind: Numbers, last_close: float | None, market_price: float | None) -> float | None:
    """The class that the market price is of; None where there is none, or it is of no bar's."""
    away = _away(last_close, market_price)
    said = None if away is None else float(kind[-1] + away)
    return said if said is not None and (kind == said).any() else None


def _away(last_close: float | None, market_price: float | None) -> float | None:
    """The power of ten by which the market price is larger than the last close; None where that is not known."""
    if not last_close or not market_price or not 0 < market_price < np.inf:
        return None
    away = float(np.log(market_price / last_close) / STEP)
    power = round(away)
    near = abs(away - power) < (SLACK_TEN if abs(power) == 1 else SLACK) / STEP
    return float(power) if near else None
