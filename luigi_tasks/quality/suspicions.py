"""What looks wrong only beside other bars: a price in another unit, a missed split, a stale feed, a spike, no volume.

Great Expectations looks at one row, or at one number for the whole column; these faults show only against the bars
before and after. So they are measured here, vectorised, and laid down in columns, one a fault, NaN where nothing is
suspected; the suite expects them to be null, says how severe each is, and leaves out those that are not wanted.

No rule looks further than `LOOK_BACK` bars, so that the last bars of a long history and the same bars with some of
that history as context are judged alike. For the same reason bars that cannot be stored whatever their neighbours
say (see `_continuous`) are no neighbours: the stored context does not have them. Where no source is named, numbers
are our own judgement, set so that companies of the S&P 500 from 2016 to 2026 are hardly ever hit and faults put into
their bars nearly always are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from luigi_tasks.bars import COLUMNS, PRICES
from luigi_tasks.quality import actions as corporate_actions
from luigi_tasks.quality import units

Numbers = np.ndarray[Any, np.dtype[np.float64]]
Rows = np.ndarray[Any, np.dtype[Any]]

LOOK_BACK = 60
"""Stored bars before the frame that are context enough: half of the widest window."""

SPLIT_RATIOS = np.array([2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 3 / 2, 5 / 4])
SPLIT_SLACK = 0.03
"""How far, in log price, the open may be from where the split alone would have put it."""
SPLIT_SCALES = 8.0
"""A split is this many usual daily moves at least: what a security does now and then by itself is none."""
SPLIT_LEVEL_BARS = 5
SPLIT_SEEN_BARS = 3
"""The level must have been, and must stay, for so many bars; at the ends of the frame the lesser number will do."""
SPLIT_LEVEL_SHARE = 0.25
"""The levels on both sides may differ from the prices at the gap by this share of the gap."""
SPLIT_UNREST = 2.5
"""News moves a price by a fifth in a day, too, but with a wider range and more turnover than this many times usual."""
PAID_SLACK = 0.35
"""A gap that a dividend explains is the dividend, within this share of it."""
SPLIT_SHOWN, SPLIT_SHOWN_MOST = 0.5, np.log(1.4)
"""Of a recorded split's logarithm: a gap this near to the split is the split's, and hides no other one."""

STALE_SESSIONS = 3
STALE_SESSIONS_UNTRADED = 5
STALE_MOVING_SHARE = 0.1
"""Prices that move on fewer days than this are pegged (a money market fund), not stale."""

SPIKE_SCALES = 10.0
SPIKE_LEAST = np.log(1.2)
SPIKE_LEFT_SHARE = 0.25
"""Of a spike's height, this much may be left when it has come back."""

RANGE_MOST = np.log(4.0)
"""A high this many times open and close, or a low so small a part, has slipped a digit; what trades so wide in earnest
closes elsewhere, too."""

VOLUME_SHARE = 0.8
"""A security of which fewer bars than this have a volume is not one that usually has: an index, a currency."""

SCALE_BARS = 30
"""The usual move, range, turnover is the median over so many bars on each side."""
_NORMAL = 1.4826
"""The standard deviation of a normal distribution in medians of its absolute value."""

SIGNS = {
    "unit_factor": "not 10, 100, 1000, ... or inverse",
    "unit_unclear": "not 10, 100, 1000, ... or inverse",
    "missed_split": f"not within {SPLIT_SLACK:.0%} of a simple split ratio",
    "stale_sessions": f"< {STALE_SESSIONS}, without volume < {STALE_SESSIONS_UNTRADED}",
    "spike": f"<= {np.exp(SPIKE_LEAST):.1f} or inverse, or <= {SPIKE_SCALES:.0f} usual moves",
    "untraded_move": "= 1",
    "odd_range": f"<= {np.exp(RANGE_MOST):.0f} times open and close, or inverse",
    **corporate_actions.SIGNS,
}
"""The columns of `signs`, and the threshold of each in words."""


@dataclass(frozen=True)
class _Bars:
    """Usable bars by date, as arrays; log prices are continuous over recorded splits that prices do show."""

    row: Rows
    """Where the bar is among all that were given."""
    stored: Numbers
    """Open, high, low, close and volume, one column each."""
    open: Numbers
    high: Numbers
    low: Numbers
    close: Numbers
    volume: Numbers

    def only(self, chosen: Rows) -> _Bars:
        return _Bars(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})


def signs(
    frame: pd.DataFrame,
    context: pd.DataFrame | None = None,
    actions: pd.DataFrame | None = None,
    market_price: float | None = None,
    whole: bool = True,
) -> pd.DataFrame:
    """The columns `SIGNS`, float64, for the rows of a frame of the shape in `luigi_tasks.bars`; NaN: no suspicion.

    | column | value, where there is a suspicion |
    |---|---|
    | unit_factor | 10**k, by which the prices are too large |
    | unit_unclear | 10**k, by which the unit changes at this bar |
    | missed_split | new shares per old one that would explain the gap |
    | stale_sessions | sessions in a row with the same bar |
    | spike | close / the neighbour that is nearer to it |
    | untraded_move | high / low, or close / close before, whichever is further from 1 |
    | odd_range | high over the higher of open and close, or low over the lower |
    | split_not_applied, split_applied_twice | close before / open |
    | split_again | the split's ratio |
    | dividend_power | 10**k, by which the dividend is too large |
    | dividend_unsplit | ratio of the later split |
    | dividend_again | days between the two |
    | dividend_share, dividend_without_step | dividend / close before |
    | dividend_step | dividend that adjusted close steps by / dividend |
    | step_without_dividend | adjusted close / close of the bar before, over that of this one |
    | foreign_dividend | dividend in the currency of the prices, as adjusted close steps by it, or as it is |
    | adjusted_above_close | adjusted close / close |
    | adjusted_missing | close |

    `context` has bars of the same shape; those of days that the frame has are not looked at. `actions` are those of
    days without a bar, see `luigi_tasks.bars.actions_of`; `market_price` is the source's own, or None. Unless the frame
    is `whole`, a history from its first bar on, the amounts of dividends are not judged: those that are new bring a
    whole answer (`luigi_tasks.history`), and others are held against dividends further away than `LOOK_BACK`.
    """
    surroundings, place = _surroundings(frame, context)
    known = _continuous(surroundings)
    judged = _judged_units(known, place, market_price)
    if _split_by_ten(surroundings):
        # What looks like a unit may be a split by ten or a hundred that is left out of some bars.
        judged = _accuse_nobody(judged)
    # A bar in another unit would be a spike as well, and will not be stored.
    clean, unclear = np.isnan(judged.factor), ~np.isnan(judged.unclear)
    rest = known.only(clean)
    leap = spike(rest)
    found = [
        (known, "unit_factor", judged.factor),
        (known, "unit_unclear", judged.unclear),
        (rest, "missed_split", np.where(unclear[clean] | _paid(surroundings, rest), np.nan, missed_split(rest))),
        (rest, "stale_sessions", stale_sessions(rest)),
        (rest, "spike", leap),
        (rest, "untraded_move", untraded_move(rest)),
        (rest, "odd_range", odd_range(rest)),
    ]
    out = np.full((len(surroundings), len(SIGNS)), np.nan)
    columns = list(SIGNS)
    for bars, name, values in found:
        out[bars.row, columns.index(name)] = values
    clear = not (~np.isnan(judged.unclear)).any()
    first = columns.index(next(iter(corporate_actions.SIGNS)))
    for rows, values in _of_actions(surroundings, place, rest.row[np.isnan(leap)] if clear else [], actions, whole):
        out[rows, first:] = values
    _one_for_a_split(out, columns)
    own = np.full((len(frame), len(SIGNS)), np.nan)
    own[place[place >= 0]] = out[place >= 0]
    return pd.DataFrame(own, frame.index, columns)


def _judged_units(known: _Bars, place: Rows, market_price: float | None) -> units.Units:
    """The units of the usable bars. A market price is of the day of the last bar, if that is one of the frame's own."""
    prices = np.column_stack([known.open, known.high, known.low, known.close])
    own = place[known.row] >= 0
    last = float(known.stored[-1, 3]) if len(own) and own[-1] else None
    return units.judged(prices, known.volume, ~own, last, market_price)


def _paid(surroundings: pd.DataFrame, known: _Bars) -> Rows:
    """Where a dividend or a gain explains most of the gap to the bar before."""
    paid = _numbers(surroundings, ["dividends", "capital_gains"])[known.row].sum(axis=1)
    before = _shift(known.stored[:, 3], 1)
    with np.errstate(invalid="ignore"):
        fall = before - known.stored[:, 0]
        out: Rows = (paid > 0) & (np.abs(fall - paid) < PAID_SLACK * paid)
    return out


def _split_by_ten(surroundings: pd.DataFrame) -> bool:
    """Whether a split by a power of ten is on record."""
    splits = _numbers(surroundings, ["stock_splits"])[:, 0]
    recorded = splits[(splits > 0) & (splits < np.inf) & (splits != 1)]
    power = np.log10(recorded) if len(recorded) else recorded
    return bool(((np.round(power) != 0) & (np.abs(power - np.round(power)) < 0.01)).any())


def _accuse_nobody(judged: units.Units) -> units.Units:
    """Bars that are told of in blocks of more than a few are told of where the unit changes, and are stored."""
    wrong = ~np.isnan(judged.factor)
    if wrong.sum() <= units.LASTING_BARS:
        return judged
    factor = np.where(wrong, judged.factor, 1.0)
    change = np.concatenate([[1.0], factor[1:] / factor[:-1]])
    unclear = np.where(change != 1, change, judged.unclear)
    return units.Units(np.full(len(factor), np.nan), unclear)


def _of_actions(
    surroundings: pd.DataFrame, place: Rows, reliable: Rows | list[int], actions: pd.DataFrame | None, whole: bool
) -> Iterator[tuple[Rows, Numbers]]:
    """Rows of the frame's own, and what is to be said of their actions and adjusted closes, if anything.

    `reliable` are the rows whose prices can be relied on: none where it is not known which unit is right. In a whole
    history stored bars from elsewhere are no part of it; in a tail they stand before it, and its first bar is not
    judged: what lay between may be in quarantine.
    """
    chosen = np.zeros(len(place), dtype=bool)
    chosen[reliable] = True
    own = np.flatnonzero(place >= 0)
    history = surroundings
    if whole and len(own) < len(place):
        history, chosen = surroundings.iloc[own], chosen[own]
    judgement = corporate_actions.judged(history, chosen, actions, whole)
    if judgement is None:
        return
    values = corporate_actions.signs(judgement, len(history))
    if whole:
        yield own, values
    else:
        yield own[1:], values[own[1:]]


def _one_for_a_split(found: Numbers, columns: list[str]) -> None:
    """Leave out, in place, what a missed split says already: prices before it are not what adjusted closes are of."""
    missed, step, above = (
        found[:, columns.index(name)] for name in ("missed_split", "step_without_dividend", "adjusted_above_close")
    )
    rows = np.flatnonzero(~np.isnan(missed))
    if len(rows):
        same = rows[np.abs(np.log(np.abs(step[rows]) * missed[rows])) < SPLIT_SLACK]
        step[same] = np.nan
        above[: max(same, default=0)] = np.nan


def missed_split(known: _Bars) -> Numbers:
    """The price opens at a simple fraction or multiple of the last close, calmly, and stays, and no split is why.

    Calmly, because a split is no news: the day's range and turnover are not far above the usual, as they are when a
    price falls by a fifth on earnings. Two later bars must be there to say that it stays. The fault is one of Yahoo's
    (splits come days late, or never); yfinance's `repair=True` mends it ("missing split adjustment").
    """
    close = known.close
    nothing = np.full(len(close), np.nan)
    gap = known.open - _shift(close, 1)
    suspected = np.abs(gap) > np.log(SPLIT_RATIOS.min()) - SPLIT_SLACK
    if not suspected.any():
        return nothing
    ratios = np.log(np.concatenate([SPLIT_RATIOS, 1 / SPLIT_RATIOS]))
    ratio = ratios[np.abs(gap[:, None] + ratios).argmin(axis=1)]
    before = pd.Series(close).rolling(SPLIT_LEVEL_BARS, min_periods=SPLIT_SEEN_BARS).median().to_numpy()
    after = pd.Series(close[::-1]).rolling(SPLIT_LEVEL_BARS, min_periods=SPLIT_SEEN_BARS).median().to_numpy()[::-1]
    room = np.abs(gap) * SPLIT_LEVEL_SHARE
    simple = (np.abs(gap + ratio) < SPLIT_SLACK) & (np.abs(ratio) > SPLIT_SCALES * _scale(close))
    stays = (np.abs(_shift(before - close, 1)) < room) & (np.abs(after - known.open) < room)
    calm = _usual(known.high - known.low) & _usual(known.volume * np.exp(close))
    return np.where(suspected & simple & stays & calm, np.exp(ratio), np.nan)


def stale_sessions(known: _Bars) -> Numbers:
    """The same open, high, low, close and volume on 3 sessions in a row, or on 5 without volume: a feed that stands.

    The first of them is taken for true. Untraded bars count only where the price moves at all: a money market fund
    is at 1.00 for ever.
    """
    nothing = np.full(len(known.close), np.nan)
    same = np.zeros(len(nothing), dtype=bool)
    same[1:] = (known.stored[1:] == known.stored[:-1]).all(axis=1)
    if not (same[1:] & same[:-1]).any():
        return nothing
    run = np.cumsum(~same) - 1
    length = np.bincount(run)[run]
    traded = known.volume > 0
    moves = _mean(~same, LOOK_BACK) >= STALE_MOVING_SHARE
    long = np.where(traded, length >= STALE_SESSIONS, (length >= STALE_SESSIONS_UNTRADED) & moves)
    return np.where(same & long, length, np.nan)


def spike(known: _Bars) -> Numbers:
    """One or two closes far outside both neighbours, after which the price is back where it was.

    Far is a fifth and ten usual daily moves; the usual is a median, which the spike itself does not widen.
    """
    close = known.close
    found = np.full(len(close), np.nan)
    if not (np.abs(np.diff(close)) > SPIKE_LEAST).any():
        return found
    least = np.maximum(SPIKE_SCALES * _scale(close), SPIKE_LEAST)
    for bars in (1, 2):
        before, after, last = _shift(close, 1), _shift(close, -bars), _shift(close, 1 - bars)
        up = np.minimum(close, last) - np.maximum(before, after)
        down = np.minimum(before, after) - np.maximum(close, last)
        height = np.maximum(up, down)
        begins = (height > least) & (np.abs(after - before) < SPIKE_LEFT_SHARE * height)
        factor = np.where(begins, np.exp(np.where(up > down, height, -height)), np.nan)
        for later in range(bars):
            found = np.where(np.isnan(found), _shift(factor, later), found)
    return found


def untraded_move(known: _Bars) -> Numbers:
    """No volume although the price moved, on a security that usually has volume (indices and currencies have none)."""
    nothing = np.full(len(known.close), np.nan)
    traded = known.volume > 0
    if traded.all() or not traded.any():
        return nothing
    extent, move = known.high - known.low, known.close - _shift(known.close, 1)
    furthest = np.where(np.abs(move) > extent, move, extent)
    usually = _mean(traded, SCALE_BARS) >= VOLUME_SHARE
    return np.where(~traded & usually & (furthest != 0), np.exp(furthest), np.nan)


def odd_range(known: _Bars) -> Numbers:
    """High or low alone in another unit: the bar keeps its shape, and no neighbour is needed to see it."""
    above = known.high - np.maximum(known.open, known.close)
    below = np.minimum(known.open, known.close) - known.low
    if not len(above) or max(above.max(), below.max()) <= RANGE_MOST:
        return np.full(len(above), np.nan)
    return np.where(above > RANGE_MOST, np.exp(above), np.where(below > RANGE_MOST, np.exp(-below), np.nan))


def _surroundings(frame: pd.DataFrame, context: pd.DataFrame | None) -> tuple[pd.DataFrame, Rows]:
    """Frame and context by date, and for each of their rows its place in the frame, or -1."""
    dates, columns = pd.to_datetime(frame["date"]), list(COLUMNS[1:])
    frame, context = _complete(frame), None if context is None else _complete(context)
    bars, place = frame[columns].assign(date=dates), np.arange(len(frame))
    if context is not None and len(context):
        others = context[columns].assign(date=pd.to_datetime(context["date"]))
        others = others[~others["date"].isin(dates)]
        bars = pd.concat([others, bars], ignore_index=True)
        place = np.concatenate([np.full(len(others), -1), place])
    order = bars["date"].argsort(kind="stable").to_numpy()
    return bars.iloc[order], place[order]


def _complete(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with those columns that need not be given; they say nothing."""
    missing = [name for name in ("capital_gains", "dividend_currency") if name not in frame]
    return frame.assign(**dict.fromkeys(missing, np.nan)) if missing else frame


def _continuous(bars: pd.DataFrame) -> _Bars:
    """The usable bars, log prices as if no recorded split had happened: Yahoo's are so already, others as traded.

    Usable are those that could be stored as far as they alone can tell; others say nothing of a level.
    """
    stored = _numbers(bars, [*PRICES, "volume"])
    least, greatest = stored[:, :4].min(axis=1), stored[:, :4].max(axis=1)
    dates = bars["date"]
    usable = (dates.notna() & ~dates.duplicated(keep=False)).to_numpy() & (stored[:, 4] >= 0)
    usable &= (least > 0) & (greatest < np.inf) & (stored[:, 1] >= greatest) & (stored[:, 2] <= least)
    stored, splits = stored[usable], _numbers(bars, ["stock_splits"])[usable, 0]
    log = np.log(stored[:, :4])
    log = log + np.cumsum(_shown_splits(log, splits))[:, None]
    return _Bars(np.flatnonzero(usable), stored, log[:, 0], log[:, 1], log[:, 2], log[:, 3], stored[:, 4])


def _shown_splits(log: Numbers, splits: Numbers) -> Numbers:
    """Of each bar, what a recorded split that the log prices do show has taken from them; 0 where there is none.

    The gap shows it, and the levels before and after, lest a bad bar beside a split is taken for it. Prices that have
    been divided twice show it, too: the other way round.
    """
    out = np.zeros(len(log))
    for place in np.flatnonzero((splits > 0) & (splits < np.inf) & (splits != 1)).tolist():
        if not place:
            continue
        recorded = float(np.log(splits[place]))
        room = min(abs(recorded) * SPLIT_SHOWN, SPLIT_SHOWN_MOST)
        before = log[max(place - SPLIT_LEVEL_BARS, 0) : place, 3]
        after = log[place : place + SPLIT_LEVEL_BARS, 3]
        steps = np.array([log[place, 0] - before[-1], np.median(after) - np.median(before)])
        for taken in (recorded, -recorded):
            if (np.abs(steps + taken) < room).all():
                out[place] = taken
    return out


def _numbers(bars: pd.DataFrame, columns: list[str]) -> Numbers:
    out: Numbers = bars[columns].to_numpy("float64", na_value=np.nan)
    return out


def _shift(values: Numbers, bars: int) -> Numbers:
    """Each value `bars` places later (earlier, where negative); NaN where there is none."""
    out = np.full(len(values), np.nan)
    if abs(bars) < len(values):
        out[max(bars, 0) : len(values) + min(bars, 0)] = values[max(-bars, 0) : len(values) - max(bars, 0)]
    return out


def _median(values: Numbers, bars: int, least: int = 1) -> Numbers:
    out: Numbers = pd.Series(values).rolling(2 * bars + 1, center=True, min_periods=least).median().to_numpy()
    return out


def _mean(values: Rows, bars: int) -> Numbers:
    out: Numbers = (
        pd.Series(values, dtype="float64").rolling(2 * bars + 1, center=True, min_periods=1).mean().to_numpy()
    )
    return out


def _scale(close: Numbers) -> Numbers:
    """The usual daily move around each bar, in log price, as a standard deviation."""
    return _median(np.abs(close - _shift(close, 1)), SCALE_BARS) * _NORMAL


def _usual(values: Numbers) -> Rows:
    usual: Rows = values <= _median(values, SCALE_BARS) * SPLIT_UNREST
    return usual
