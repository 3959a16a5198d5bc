"""Bars that no rule forbids and that are rarely true: wrong currency units, splits nobody told, stale and torn prices.

Each sign is a column beside the bars: NaN where nothing is odd, else what was measured. The suite decides what becomes
of them. Nothing is ever mended here: what looks wrong may be what happened. The thresholds are our own judgement, tried
on ten years of the S&P 500.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from luigi_tasks.bars import PRICES

_AROUND = 21
"""Sessions, half of them before and half after, whose median is a bar's usual level."""
_UNIT = (80.0, 125.0)
"""Between these, a ratio of prices is a hundredfold: pence for pounds, cents for rands."""
_RATIOS = np.array([2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 30, 50, 1.5])
"""New shares per old one that companies choose."""
_RATIO_TOLERANCE = 0.03
_TOLD_NEARBY = 5
"""Sessions around a recorded split in which no other is looked for."""
_STALE = 3
_STALE_WITHOUT_VOLUME = 10
"""The so manyth identical bar in a row is stale; where nothing was traded, later."""
_SPIKE = 10.0
"""Times the usual daily move, and at least 30 %."""
_LEAST_SPIKE = np.log(1.3)
_COMES_BACK = 0.2
"""Share of a spike's move that may be left the day after."""


def signs(frame: pd.DataFrame) -> pd.DataFrame:
    """Of bars by date (at least open, high, low, close, volume, stock_splits): columns as below, float64.

    | column | what was measured where it is not NaN |
    |---|---|
    | currency_unit | ratio of the bar's prices to the usual level around it, about 100 or 1/100 |
    | unapplied_split | ratio of the open to the close before, near a split's, with the prices staying there |
    | stale | how many identical bars there are in a row, up to this one |
    | spike | relative move of the close, of which little is left the day after |
    | silent_move | relative move of the close without any volume, where there is volume otherwise |
    """
    with np.errstate(all="ignore"):
        prices = np.log(frame[list(PRICES)].where(frame[list(PRICES)] > 0).astype(float))
        return pd.DataFrame(
            {
                "currency_unit": _currency_unit(prices),
                "unapplied_split": _unapplied_split(prices, frame["stock_splits"]),
                "stale": _stale(frame),
                "spike": _spike(prices["close"]),
                "silent_move": _silent_move(prices["close"], frame["volume"]),
            },
            index=frame.index,
        ).astype("float64")


def _currency_unit(prices: pd.DataFrame) -> pd.Series[float]:
    level = prices.mean(axis=1)
    usual = level.rolling(_AROUND, center=True, min_periods=5).median()
    off = level - usual
    hundredfold = off.abs().between(*np.log(_UNIT))
    return np.exp(off).where(hundredfold)


def _unapplied_split(prices: pd.DataFrame, splits: pd.Series[float]) -> pd.Series[float]:
    before = prices["close"].shift()
    jump = prices["open"] - before
    # The median of this close and the next two, as far as they are there: has it stayed?
    stayed = prices["close"][::-1].rolling(3, min_periods=1).median()[::-1] - before
    known = np.log(np.concatenate([_RATIOS, 1 / _RATIOS]))
    distance = np.abs(jump.to_numpy()[:, None] - known)
    nearest = pd.Series(known[np.argmin(np.nan_to_num(distance, nan=np.inf), axis=1)], index=jump.index)
    told = (splits != 0).rolling(2 * _TOLD_NEARBY + 1, center=True, min_periods=1).max() > 0
    split = ((jump - nearest).abs() < _RATIO_TOLERANCE) & ((stayed - nearest).abs() < 3 * _RATIO_TOLERANCE) & ~told
    return np.exp(jump).where(split)


def _stale(frame: pd.DataFrame) -> pd.Series[float]:
    columns = [*PRICES, "volume"]
    same = (frame[columns] == frame[columns].shift()).all(axis=1)
    in_a_row = same.groupby((~same).cumsum()).cumsum() + 1
    least = np.where(frame["volume"] > 0, _STALE, _STALE_WITHOUT_VOLUME)
    # Indices and currencies have no volume at all; they stand still only if nobody looks.
    return in_a_row.astype(float).where(in_a_row >= least)


def _spike(close: pd.Series[float]) -> pd.Series[float]:
    move, back = close.diff(), -close.diff(-1)
    usual = 1.4826 * move.abs().median()
    large = move.abs() > max(_SPIKE * (usual if usual == usual else 0.0), _LEAST_SPIKE)
    reverts = (move + back).abs() < _COMES_BACK * move.abs()
    return np.expm1(move).where(large & reverts)


def _silent_move(close: pd.Series[float], volume: pd.Series[float]) -> pd.Series[float]:
    move = close.diff()
    usual = volume.shift().rolling(_AROUND, min_periods=5).median()
    return np.expm1(move).where((volume == 0) & (move != 0) & (usual > 0))
