"""One security's bars by two sources, held against each other: where they disagree, and in which way.

Another source is seldom wrong in single numbers. It counts in pence, lacks a split, has its days shifted; so a
disagreement is told as one of these `KINDS`, and only what fits none of them is a disagreement of values. Nothing here
says who is right.

| kind | what was seen |
|---|---|
| unit | prices, or volumes, differ by a power of ten |
| split | prices differ by a split's ratio on the days up to it, or the columns of splits differ |
| shifted day | at least 3 bars in a row are those of the session before, or after |
| dividend | prices differ by the adjustment for dividends, or adjusted closes or the columns of dividends differ |
| missing | a session between the first and the last common one that one side lacks |
| value | anything else |

All prices are compared as logarithms of theirs / ours, in which every one of these factors is a sum.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from luigi_tasks.bars import PRICES

Numbers = np.ndarray[Any, np.dtype[np.float64]]
Rows = np.ndarray[Any, np.dtype[Any]]
Way = Literal["splits", "dividends", "no"]

WAYS: tuple[Way, ...] = ("splits", "dividends", "no")
"""How prices can be adjusted: for splits, for splits and dividends, not at all. The first is how bars are stored."""
KINDS = ("unit", "split", "shifted day", "dividend", "missing", "value")
"""The gravest first: by how far who takes one side for the other is misled."""
FIELDS = (*PRICES, "adj_close", "volume")

_NONE, _UNIT, _SPLIT, _SHIFTED, _DIVIDEND, _MISSING, _VALUE = range(7)
_CLOSE, _ADJ_CLOSE, _VOLUME = (FIELDS.index(name) for name in ("close", "adj_close", "volume"))

SHIFTED_BARS = 3
"""Fewer bars in a row that are their neighbours' may be so by chance."""
LEVEL_BARS = 3
"""A factor is the level of a time if so many bars in a row have it; fewer are judged beside the level around them."""
UNTOLD_BARS = 5
"""A split or dividend that neither side has on record shows in so many bars, at least."""
LARGEST_UNTOLD_DIVIDEND = np.log(1 / 0.7)
RATIO_SLACK = 0.002
"""How far a ratio may be from that on record, which is rounded where it is odd."""
DIVIDEND_SLACK = 0.3
"""How far the step of the adjustment may be from the dividend, as a share of it: some are taxed, or in two parts."""
LARGEST_LATER_DIVIDENDS = 1.2
"""All dividends since the last common session, as the logarithm of what they take from the prices before."""
MOVED_DAYS = 7
"""A dividend or split of the same size so few days away is the same, on another day."""
ROUNDING_SHARE = 0.9
"""Prices are taken for rounded to so many decimals as this share of them is."""
LARGEST_ROUNDING = 0.2

_ADJUSTED = {
    "splits": "adjusted for splits only",
    "dividends": "adjusted for splits and dividends",
    "no": "as traded, adjusted for no split",
}
# Adjustments for dividends are many small steps, which are better told at one go; those for splits tell their split.
_AT_FIRST: dict[Way, tuple[tuple[Way, int], ...]] = {
    "splits": (("dividends", _DIVIDEND),),
    "dividends": (("splits", _DIVIDEND), ("no", _SPLIT)),
    "no": (("dividends", _SPLIT),),
}
_AT_LAST: dict[Way, Way] = {"splits": "no", "no": "splits"}

_LN10 = np.log(10.0)
_NOTHING = -50.5
"""Stands for the logarithm of 0, which could not be reckoned with; no power of ten."""
_UNTOLD_RATIOS = np.log(
    sorted(
        {p / q for q in range(1, 6) for p in range(2, 51) if 6 * q <= 5 * p <= 50 * q}
        | {n / 2 for n in range(20, 101)}
        | {float(n) for n in [*range(50, 101), *range(110, 1001, 10)]}
    )
)


@dataclass(frozen=True)
class Tolerance:
    """Relative differences that are none; `volume` None: volumes are not compared."""

    prices: float = 0.001
    volume: float | None = None


@dataclass(frozen=True)
class Disagreement:
    """Bars in a row that differ in one way; `factor` is theirs / ours where it is one for all of them.

    `field`, `ours` and `theirs` are of the day `example`: the furthest apart, in the way that is compared.
    """

    kind: str
    first: dt.date
    last: dt.date
    bars: int
    fields: tuple[str, ...]
    words: str
    factor: float | None = None
    example: dt.date | None = None
    field: str | None = None
    ours: float | None = None
    theirs: float | None = None


@dataclass(frozen=True)
class Comparison:
    """What came of one security: first and last common session, how many there are, and where they disagree.

    `unknown` counts the prices and adjusted closes of common sessions that one side alone does not say.
    """

    first: dt.date
    last: dt.date
    bars: int
    unknown: int
    disagreements: list[Disagreement]


def compare(
    ours: pd.DataFrame,
    theirs: pd.DataFrame,
    way: Way = "splits",
    tolerance: Tolerance | None = None,
    lacks: Collection[str] = (),
    start: dt.date | None = None,
    end: dt.date | None = None,
) -> Comparison | None:
    """Hold the bars of one security against each other, their prices adjusted in this way; None: no day in common.

    `ours` has the columns date, open, high, low, close, volume, dividends, stock_splits as adjusted for splits,
    adj_close (NaN: not known), and traded: what the prices are multiplied with to have them as traded. `theirs` has
    the columns of `luigi_tasks.bars`, of which those in `lacks` say nothing. One row a day, by date, in both.
    Adjusted prices are taken as of the last common session, since later dividends move them all. Disagreements are
    told from `start` to `end`; bars around them tell what is one.
    """
    pair = _Pair.of(ours, theirs, way, tolerance or Tolerance(), set(lacks))
    if pair is None:
        return None
    lowest = np.datetime64(start or pair.first, "D")
    highest = np.datetime64(end or pair.last, "D")
    told = (pair.day >= lowest) & (pair.day <= highest)
    if not told.any():
        return None
    found = [
        each
        for each in _disagreements(pair)
        if lowest <= np.datetime64(each.last, "D") and np.datetime64(each.first, "D") <= highest
    ]
    days = pair.day[told]
    found.sort(key=lambda each: (KINDS.index(each.kind), each.first, each.fields))
    return Comparison(_date(days[0]), _date(days[-1]), len(days), int(pair.unknown[told].sum()), found)


def ways_shown(ours: pd.DataFrame, theirs: pd.DataFrame, tolerance: Tolerance, lacks: Collection[str]) -> set[Way]:
    """In which ways the closes of theirs agree with ours best; empty where no way makes a difference, or none fits.

    Of files that have an adjusted close, the close is not adjusted for dividends.
    """
    agreeing: dict[Way, int] = {}
    days = 0
    for way in WAYS:
        if way == "dividends" and "adj_close" not in lacks:
            continue
        pair = _Pair.of(ours, theirs, way, tolerance, set(lacks))
        if pair is None:
            return set()
        agreeing[way] = int((np.abs(pair.log[:, _CLOSE]) <= pair.limit[:, _CLOSE]).sum())
        days = len(pair.day)
    most = max(agreeing.values())
    if 2 * most < days or most == min(agreeing.values()):
        return set()
    return {way for way, count in agreeing.items() if count == most}


def convention(shown: Iterable[set[Way]]) -> Way:
    """The way of all files, by what each shows; one that a single file shows against the others is that file's own."""
    votes = list(shown)
    counts = {way: sum(way in vote for vote in votes) for way in WAYS}
    best = max(WAYS, key=lambda way: counts[way])
    against = sum(best in vote and "splits" not in vote for vote in votes)
    return best if best == "splits" or against >= 2 else "splits"


@dataclass
class _Pair:
    """Both sides as arrays; rows of `log`, `limit` and what follows are the common days."""

    way: Way
    tolerance: Tolerance
    lacks: set[str]
    o_day: Rows
    t_day: Rows
    o: dict[str, Numbers]
    t: dict[str, Numbers]
    o_prices: Numbers
    """In the way that is compared; four columns."""
    t_prices: Numbers
    t_limit: Numbers
    day: Rows
    io: Rows
    it: Rows
    log: Numbers
    """log(theirs / ours); NaN where one is not known."""
    limit: Numbers
    unknown: Rows

    @property
    def first(self) -> dt.date:
        return _date(self.day[0])

    @property
    def last(self) -> dt.date:
        return _date(self.day[-1])

    @classmethod
    def of(
        cls, ours: pd.DataFrame, theirs: pd.DataFrame, way: Way, tolerance: Tolerance, lacks: set[str]
    ) -> _Pair | None:
        # A row without a close is how some write that there was no trade.
        theirs = theirs[theirs["close"].notna().to_numpy()]
        o_day, t_day = (frame["date"].to_numpy().astype("datetime64[D]") for frame in (ours, theirs))
        day, io, it = np.intersect1d(o_day, t_day, assume_unique=True, return_indices=True)
        if not len(day):
            return None
        o = {name: _column(ours, name) for name in (*FIELDS, "dividends", "stock_splits", "traded")}
        t = {name: _column(theirs, name) for name in (*FIELDS, "dividends", "stock_splits")}
        o_prices, t_prices = (np.column_stack([side[name] for name in PRICES]) for side in (o, t))
        adjusted = o_prices * _factor(o, way, io)[:, None]
        if way == "dividends" and t_day[-1] > day[-1]:
            adjusted *= _later_in_files(t["close"][it], adjusted[io, _CLOSE], np.log1p(tolerance.prices))
        step = _decimal_step(t_prices)
        t_limit = np.log1p(tolerance.prices) + _relative(step, t_prices)
        limit = np.where(_is_multiple(adjusted[io], step), np.log1p(tolerance.prices), t_limit[it])
        log = _log_ratio(t_prices[it], adjusted[io])
        unknown = np.isnan(log).sum(axis=1)
        if "adj_close" not in lacks:
            unknown = unknown + (np.isnan(o["adj_close"][io]) != np.isnan(t["adj_close"][it]))
        return cls(
            way, tolerance, lacks, o_day, t_day, o, t, adjusted, t_prices, t_limit, day, io, it, log, limit, unknown
        )

    def prices(self, way: Way) -> Numbers:
        """Ours on the common days, adjusted in another way."""
        stored = np.column_stack([self.o[name][self.io] for name in PRICES])
        out: Numbers = stored * _factor(self.o, way, self.io)[self.io, None]
        return out


def _disagreements(pair: _Pair) -> list[Disagreement]:
    shift, matched, found = _shifted_days(pair)
    found += _missing(pair, shift, matched)
    kinds = np.zeros((len(pair.day), len(FIELDS)), dtype=np.int8)
    group = np.zeros(len(pair.day), dtype=np.int64)
    shifted = shift[pair.it] != 0
    logs = np.full(kinds.shape, np.nan)
    logs[:, :4] = pair.log
    words: dict[int, str] = {}
    bad = np.abs(pair.log) > pair.limit
    bad[shifted] = False
    level = np.zeros(len(pair.day))
    if bad.any():
        level = _judge_prices(pair, bad, shifted, kinds, group, words)
    _judge_adjusted_closes(pair, shifted, level, kinds, logs)
    _judge_volumes(pair, shifted, level, kinds, logs)
    found += _runs(pair, kinds, group, logs, words)
    return found + _events(pair, shifted, "dividends") + _events(pair, shifted, "stock_splits")


# -- days


def _shifted_days(pair: _Pair) -> tuple[Rows, Rows, list[Disagreement]]:
    """For each row of theirs -1 (it is ours of the session before), 1 or 0; the rows of ours so met; in words."""
    shift, matched = np.zeros(len(pair.t_day), dtype=np.int8), np.zeros(len(pair.o_day), dtype=bool)
    same = np.zeros(len(pair.t_day), dtype=bool)
    same[pair.it] = ~(np.abs(pair.log) > pair.limit).any(axis=1)
    if same.mean() > 1 - SHIFTED_BARS / len(same):
        return shift, matched, []
    found = []
    neighbours = {
        -1: np.searchsorted(pair.o_day, pair.t_day, "left") - 1,
        1: np.searchsorted(pair.o_day, pair.t_day, "right"),
    }
    for step, other in neighbours.items():
        there = (other >= 0) & (other < len(pair.o_day))
        fits = np.zeros(len(shift), dtype=bool)
        log = _log_ratio(pair.t_prices[there], pair.o_prices[other[there]])
        fits[there] = ~(np.abs(log) > pair.t_limit[there]).any(axis=1)
        run = np.cumsum(~fits)
        moved = fits & ~same & (shift == 0)
        chosen = moved & (np.bincount(run, weights=moved)[run] >= SHIFTED_BARS)
        # Between shifted bars, one that is like both its neighbour and itself.
        chosen |= fits & (shift == 0) & _between(chosen, run)
        shift[chosen] = step
        matched[other[chosen]] = True
        whose = "before" if step < 0 else "after"
        for number in np.unique(run[chosen]).tolist():
            rows = np.flatnonzero(chosen & (run == number))
            at = rows[0]
            found.append(
                Disagreement(
                    "shifted day",
                    _date(pair.t_day[at]),
                    _date(pair.t_day[rows[-1]]),
                    len(rows),
                    PRICES,
                    f"the files' bar of a day is the stored one of the session {whose}",
                    example=_date(pair.t_day[at]),
                    field="close",
                    ours=_ours_of(pair, pair.t_day[at]),
                    theirs=float(pair.t_prices[at, _CLOSE]),
                )
            )
    return shift, matched, found


def _between(chosen: Rows, run: Rows) -> Rows:
    """Which rows have chosen ones of their run before and after them."""
    places = np.arange(len(run))
    first, last = np.full(run[-1] + 1, len(run)), np.full(run[-1] + 1, -1)
    np.minimum.at(first, run[chosen], places[chosen])
    np.maximum.at(last, run[chosen], places[chosen])
    out: Rows = (places > first[run]) & (places < last[run])
    return out


def _ours_of(pair: _Pair, day: Any) -> float | None:
    at = int(np.searchsorted(pair.o_day, day))
    return float(pair.o_prices[at, _CLOSE]) if at < len(pair.o_day) and pair.o_day[at] == day else None


def _missing(pair: _Pair, shift: Rows, matched: Rows) -> list[Disagreement]:
    """Sessions that one side lacks, by runs of its neighbours on the other side."""
    found = []
    for lacking, days, explained, other in (
        ("files", pair.o_day, matched, pair.t_day),
        ("store", pair.t_day, shift != 0, pair.o_day),
    ):
        inside = (days >= pair.day[0]) & (days <= pair.day[-1])
        rows = np.flatnonzero(inside & ~explained & ~np.isin(days, other, assume_unique=True))
        for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
            if len(run):
                words = f"the {lacking} {'lack' if lacking == 'files' else 'lacks'} {_counted(len(run), 'session')}"
                first, last = _date(days[run[0]]), _date(days[run[-1]])
                found.append(Disagreement("missing", first, last, len(run), (), words, example=first))
    return found


# -- prices


def _judge_prices(pair: _Pair, bad: Rows, shifted: Rows, kinds: Rows, group: Rows, words: dict[int, str]) -> Numbers:
    """Fill in the kinds of the price cells; returns each day's level, as far as splits and dividends make it."""
    taken = shifted.copy()
    for way, kind in _AT_FIRST[pair.way]:
        taken |= _judge_as_adjusted_otherwise(pair, bad & ~taken[:, None], way, kind, kinds, group, words)
    known = ~np.isnan(pair.log)
    middle = np.nanmedian(np.where(known, pair.log, np.nan), axis=1)
    limit = np.nanmax(np.where(known, pair.limit, np.nan), axis=1)
    coherent = ~(np.abs(pair.log - middle[:, None]) > pair.limit).any(axis=1)
    level, level_kind, whole = _judge_levels(pair, np.flatnonzero(coherent & ~taken), middle, limit, group, words)
    rest = bad & ~taken[:, None]
    apart = pair.log - level[:, None]
    moved = (level != 0)[:, None] & ~(np.abs(apart) > pair.limit)
    judged = np.select(
        [(whole != _NONE)[:, None], moved, _power_of_ten(apart, pair.limit) | _power_of_ten(pair.log, pair.limit)],
        [whole[:, None], level_kind[:, None], _UNIT],
        _VALUE,
    )
    # Beside a level that all others have, a price that does not differ from ours is the one that is apart.
    rest |= (level != 0)[:, None] & (np.abs(apart) > pair.limit) & ~taken[:, None] & (whole == _NONE)[:, None]
    kinds[:, :4] = np.where(rest, judged, kinds[:, :4])
    # A split of which too few bars stand before it to be told by them.
    unexplained = bad & rest & ((judged == _VALUE) | (judged == _UNIT))
    if unexplained.any() and pair.way in _AT_LAST:
        told = _judge_as_adjusted_otherwise(pair, unexplained, _AT_LAST[pair.way], _SPLIT, kinds, group, words)
        unexplained[told] = False
    by_split = (coherent & _near_split(pair, middle - level, limit))[:, None] & unexplained
    kinds[:, :4][by_split] = _SPLIT
    return level


def _near_split(pair: _Pair, apart: Numbers, limit: Numbers) -> Rows:
    """Which days differ by a split that is on record some days off, as where the sides date it differently."""
    near = np.zeros(len(pair.day), dtype=bool)
    for days, columns in ((pair.o_day, pair.o), (pair.t_day, pair.t)):
        ratios = columns["stock_splits"]
        for at in np.flatnonzero((ratios > 0) & (ratios != 1) & np.isfinite(ratios)):
            by_it = np.abs(np.abs(apart) - abs(np.log(ratios[at]))) <= limit + RATIO_SLACK
            near |= by_it & (np.abs(pair.day - days[at]) <= np.timedelta64(MOVED_DAYS, "D"))
    return near


def _judge_as_adjusted_otherwise(
    pair: _Pair, bad: Rows, way: Way, kind: int, kinds: Rows, group: Rows, words: dict[int, str]
) -> Rows:
    """Which of the bars that differ are ours adjusted in this way; their kinds filled in."""
    log = _log_ratio(pair.t_prices[pair.it], pair.prices(way))
    differs: Rows = np.asarray(bad.any(axis=1))
    fits: Rows = differs & ~(np.abs(log) > pair.t_limit[pair.it]).any(axis=1) & ~np.isnan(log).any(axis=1)
    if 2 * fits.sum() < differs.sum():
        # A split's ratio may happen to be what dividends of some years come to.
        return np.zeros(len(fits), dtype=bool)
    kinds[:, :4][fits[:, None] & bad] = kind
    number = -1 - WAYS.index(way)
    group[fits] = number
    words[number] = f"the files' prices are {_ADJUSTED[way]}; compared was {_ADJUSTED[pair.way]} (--adjusted {way})"
    return fits


def _judge_levels(
    pair: _Pair, use: Rows, middle: Numbers, limit: Numbers, group: Rows, words: dict[int, str]
) -> tuple[Numbers, Rows, Rows]:
    """The times in which all prices differ by one factor, and what their ends tell.

    Returns, for each common day, the factor's logarithm as far as splits and dividends make it, the kind of that, and
    the kind of the bar as a whole: none where its prices have to be judged one by one. `use` are the days whose four
    prices differ by the same factor.
    """
    days = len(pair.day)
    level, level_kind, whole = np.zeros(days), np.zeros(days, dtype=np.int8), np.zeros(days, dtype=np.int8)
    for _ in range(2):
        segment = _segments(middle[use], limit[use])
        short = np.bincount(segment, minlength=1)[segment] < LEVEL_BARS
        use = use[~(short & (np.abs(middle[use]) > limit[use]))]
    segment = _segments(middle[use], limit[use])
    if not len(use):
        return level, level_kind, whole
    bounds = np.flatnonzero(np.diff(segment, prepend=-1))
    ends = np.append(bounds[1:], len(use))
    factors = [float(np.median(middle[use[a:b]])) for a, b in zip(bounds, ends, strict=True)]
    limits = [float(np.median(limit[use[a:b]])) for a, b in zip(bounds, ends, strict=True)]
    agreeing = [k for k, (factor, most) in enumerate(zip(factors, limits, strict=True)) if abs(factor) <= most]
    back_to = agreeing[0] if agreeing else len(factors)
    now, now_kind, now_group = 0.0, _NONE, 0
    of_segment: list[tuple[float, int, int, int]] = []
    for k in reversed(range(len(factors))):
        rows, most = use[bounds[k] : ends[k]], 2 * limits[k]
        kind = _NONE
        if abs(factors[k]) <= limits[k]:
            now, now_kind, now_group = 0.0, _NONE, 0
        elif now and abs(factors[k] - now) <= most:
            kind = now_kind
        else:
            after = use[ends[k]] if ends[k] < len(use) else None
            step = _Step(pair, rows, after, factors[k], factors[k] - now, most, from_start=k < back_to)
            kind, said = step.judged()
            words[k + 1] = said
            if kind in (_SPLIT, _DIVIDEND):
                now, now_kind, now_group = factors[k], kind, k + 1
            group[rows] = k + 1
        if kind == now_kind and kind != _NONE:
            group[rows] = now_group
        whole[rows] = kind
        of_segment.append((now, now_kind, now_group, k))
    of_segment.reverse()
    # A bar of no level stands at that of the bar after it; the last ones at that of the bar before.
    place = np.minimum(np.searchsorted(use, np.arange(days)), len(use) - 1)
    which = segment[place]
    level = np.array([each[0] for each in of_segment])[which]
    level_kind = np.array([each[1] for each in of_segment], dtype=np.int8)[which]
    loose = np.setdiff1d(np.arange(days), use)
    loose = loose[group[loose] == 0]
    group[loose] = np.array([each[2] for each in of_segment])[which[loose]]
    return level, level_kind, whole


class _Step:
    """The end of a time with a factor of its own, and what both sides know of the days between it and the next bar."""

    def __init__(
        self, pair: _Pair, rows: Rows, after: Any, factor: float, step: float, most: float, *, from_start: bool
    ) -> None:
        self._pair, self._rows, self._most, self._step, self._factor = pair, rows, most, step, factor
        self._from_start = from_start
        self._end = pair.day[rows[-1]]
        until = pair.day[after] if after is not None else max(pair.o_day[-1], pair.t_day[-1])
        self._known: dict[str, tuple[Rows, Numbers]] = {}
        for side, days, columns in (("store", pair.o_day, pair.o), ("files", pair.t_day, pair.t)):
            low, high = np.searchsorted(days, [self._end, until], "right")
            for name in ("dividends", "stock_splits"):
                self._known[f"{side} {name}"] = days[low:high], columns[name][low:high]

    def judged(self) -> tuple[int, str]:
        """The kind, and what is seen in words."""
        times = f"files = {_number(np.exp(self._factor))} × stored"
        end = _date(self._end)
        if split := self._recorded_split():
            return _SPLIT, f"{times} up to {end}: a split of {split}"
        if _power_of_ten(np.array([self._step]), np.array([self._most]))[0]:
            if self._volumes_say_split():
                ratio = _number(np.exp(abs(self._step)))
                return (
                    _SPLIT,
                    f"{times} up to {end}, volumes the other way: a split by {ratio} that nobody has on record",
                )
            return _UNIT, f"{times}: another unit"
        if dividend := self._recorded_dividend():
            return _DIVIDEND, f"{times} up to {end}: a dividend of {dividend}"
        if len(self._rows) >= UNTOLD_BARS:
            nearest = float(_UNTOLD_RATIOS[np.abs(_UNTOLD_RATIOS - abs(self._step)).argmin()])
            if abs(nearest - abs(self._step)) <= self._most:
                return _SPLIT, f"{times} up to {end}: as by a split by {_number(np.exp(nearest))} that is not on record"
            if self._from_start and abs(self._step) <= LARGEST_UNTOLD_DIVIDEND:
                return _DIVIDEND, f"{times} up to {end}: as by a dividend or spin-off that is not on record"
        return _VALUE, f"{times} up to {end}"

    def _recorded_split(self) -> str:
        told: dict[str, str] = {}
        for side in ("store", "files"):
            days, ratios = self._known[f"{side} stock_splits"]
            real = (ratios > 0) & (ratios != 1) & np.isfinite(ratios)
            if real.any():
                size = float(np.log(ratios[real]).sum())
                if abs(abs(size) - abs(self._step)) <= self._most + RATIO_SLACK:
                    day = _date(days[real][-1])
                    told[side] = f"{day} by {_number(np.exp(size))}"
        return _on_record(told)

    def _recorded_dividend(self) -> str:
        told: dict[str, str] = {}
        last = self._rows[-1]
        closes = {
            "store": self._pair.o["close"][self._pair.io[last]] * _event_factor(self._pair)[self._pair.io[last]],
            "files": self._pair.t_prices[self._pair.it[last], _CLOSE],
        }
        for side, close in closes.items():
            days, amounts = self._known[f"{side} dividends"]
            if side == "store":
                amounts = amounts * _event_factor(self._pair)[np.searchsorted(self._pair.o_day, days)]
            real = (amounts > 0) & (amounts < close)
            if real.any():
                size = float(-np.log1p(-amounts[real] / close).sum())
                if abs(size - abs(self._step)) <= max(self._most, DIVIDEND_SLACK * size):
                    told[side] = f"{_date(days[real][-1])}"
        return _on_record(told)

    def _volumes_say_split(self) -> bool:
        """Whether shares traded differ by the inverse of the factor, which they do not where a unit differs."""
        volumes = [side["volume"][at] for side, at in ((self._pair.o, self._pair.io), (self._pair.t, self._pair.it))]
        both = (volumes[0] > 0) & (volumes[1] > 0)
        inside = np.zeros(len(both), dtype=bool)
        inside[self._rows] = True
        if not (both & inside).any():
            return False
        log = np.log(volumes[1][both] / volumes[0][both])
        outside = log[~inside[both]]
        usual = float(np.median(outside)) if len(outside) else 0.0
        return abs(float(np.median(log[inside[both]])) - usual + self._step) < 0.2 * abs(self._step)


def _on_record(told: dict[str, str]) -> str:
    if not told:
        return ""
    where = {"store": "in the store only", "files": "in the files only"}
    return f"{next(iter(told.values()))}, on record {'on both sides' if len(told) > 1 else where[next(iter(told))]}"


# -- adjusted closes and volumes


def _judge_adjusted_closes(pair: _Pair, shifted: Rows, level: Numbers, kinds: Rows, logs: Numbers) -> None:
    """By the share of the close that they are, so that what is wrong with the close is not told twice."""
    if "adj_close" in pair.lacks:
        return
    ours, theirs = pair.o["adj_close"][pair.io], pair.t["adj_close"][pair.it]
    log = _log_ratio(theirs, ours)
    known = ~np.isnan(log)
    if not known.any():
        return
    log -= _later_dividends(pair, known)
    limit = np.log1p(pair.tolerance.prices) + _relative(_decimal_step(theirs), theirs)
    close = pair.log[:, _CLOSE]
    bad = known & ~shifted & (np.abs(log) > limit)
    # Levels are those of prices as they are compared; adjusted closes always are for splits.
    explained = np.abs(log - (level if pair.way != "no" else 0.0)) <= limit
    with_close = (np.abs(log - close) <= limit + pair.limit[:, _CLOSE]) & (kinds[:, _CLOSE] != _NONE)
    unit = _power_of_ten(log, limit)
    run = np.cumsum(~bad)
    long = np.bincount(run, weights=bad)[run] >= LEVEL_BARS
    as_close = np.abs(_log_ratio(theirs, pair.t["close"][pair.it])) <= limit
    kind = np.select(
        [with_close, explained, unit, long | as_close],
        [kinds[:, _CLOSE], _NONE, _UNIT, _DIVIDEND],
        _VALUE,
    )
    kinds[:, _ADJ_CLOSE] = np.where(bad, kind, _NONE)
    logs[:, _ADJ_CLOSE] = log


def _later_dividends(pair: _Pair, known: Rows) -> float:
    """What dividends after the last common session do to all adjusted closes before: log(theirs / ours)."""
    if max(pair.o_day[-1], pair.t_day[-1]) == pair.day[-1]:
        return 0.0
    last = np.flatnonzero(known)[-5:]
    ours = np.log(pair.o["adj_close"][pair.io[last]] / pair.o["close"][pair.io[last]])
    out = -float(np.median(ours))
    # Files of one download may end before ours and know of dividends in between, if it was made later.
    close = pair.t["close"][pair.it[last]] / (pair.o["traded"][pair.io[last]] if pair.way == "no" else 1.0)
    theirs = np.median(_log_ratio(pair.t["adj_close"][pair.it[last]], close))
    return out + float(theirs) if -LARGEST_LATER_DIVIDENDS < theirs <= 0.005 else out


def _judge_volumes(pair: _Pair, shifted: Rows, level: Numbers, kinds: Rows, logs: Numbers) -> None:
    if pair.tolerance.volume is None:
        return
    ours, theirs = pair.o["volume"][pair.io], pair.t["volume"][pair.it]
    if pair.way == "no":
        ours = np.rint(ours / pair.o["traded"][pair.io])
    log = _log_ratio(theirs, ours)
    log[(ours == 0) & (theirs == 0)] = 0.0
    log[(ours == 0) & (theirs != 0)] = -_NOTHING
    limit = np.full(len(log), np.log1p(pair.tolerance.volume))
    bad = ~shifted & (np.abs(log) > limit)
    if pair.way == "dividends":
        # Some divide volumes by all that they multiply prices with.
        bad &= np.abs(log + np.log(_factor(pair.o, "dividends", pair.io)[pair.io])) > limit
    split = (level != 0) & (np.abs(log + level) <= limit)
    # A power of ten is one only beside what volumes differ by anyhow.
    kind = np.select([split, _power_of_ten(log, np.minimum(limit, 0.5))], [_SPLIT, _UNIT], _VALUE)
    kinds[:, _VOLUME] = np.where(bad, kind, _NONE)
    logs[:, _VOLUME] = log


# -- what is told


def _runs(pair: _Pair, kinds: Rows, group: Rows, logs: Numbers, words: dict[int, str]) -> list[Disagreement]:
    """Days in a row that differ in one way, and for one reason."""
    found: list[Disagreement] = []
    for kind in np.unique(kinds[kinds > 0]).tolist():
        cells = kinds == kind
        rows = np.flatnonzero(cells.any(axis=1))
        runs = np.split(rows, np.flatnonzero((np.diff(rows) > 1) | (np.diff(group[rows]) != 0)) + 1)
        found += [_told(pair, kind, run, cells[run], logs[run], words.get(int(group[run[0]]), "")) for run in runs]
    return found


def _told(pair: _Pair, kind: int, run: Rows, cells: Rows, logs: Numbers, words: str) -> Disagreement:
    fields = tuple(FIELDS[column] for column in np.flatnonzero(cells.any(axis=0)).tolist())
    apart = np.where(cells & ~np.isnan(logs), logs, 0.0)
    row, column = np.unravel_index(np.abs(apart).argmax(), apart.shape)
    at = run[row]
    ours, theirs = _values(pair, at, int(column))
    values = apart[cells]
    one_factor = np.ptp(values) <= 4 * np.log1p(pair.tolerance.prices)
    factor = float(np.exp(np.median(values))) if one_factor else None
    if kind == _UNIT:
        ten = 10.0 ** round(float(np.median(values)) / _LN10)
        words = f"files = {_number(ten)} × stored: another unit"
    elif kind == _VALUE or not words or not set(fields) & set(PRICES):
        words = f"{FIELDS[column]} {_number(ours)} stored, {_number(theirs)} in the files"
        if kind == _DIVIDEND:
            words += ": otherwise adjusted for dividends"
    return Disagreement(
        KINDS[kind - 1],
        _date(pair.day[run[0]]),
        _date(pair.day[run[-1]]),
        len(run),
        fields,
        words,
        factor,
        _date(pair.day[at]),
        FIELDS[column],
        ours,
        theirs,
    )


def _values(pair: _Pair, at: Any, column: int) -> tuple[float, float]:
    io, it = pair.io[at], pair.it[at]
    if column < len(PRICES):
        return float(pair.o_prices[io, column]), float(pair.t_prices[it, column])
    name = FIELDS[column]
    ours = pair.o[name][io]
    if name == "volume" and pair.way == "no":
        ours = np.rint(ours / pair.o["traded"][io])
    return float(ours), float(pair.t[name][it])


def _events(pair: _Pair, shifted: Rows, column: str) -> list[Disagreement]:
    """Days whose dividends, or splits, are not the same on both sides; only of days that both have."""
    if column in pair.lacks:
        return []
    ours, theirs = pair.o[column][pair.io], pair.t[column][pair.it]
    if column == "dividends":
        ours = ours * _event_factor(pair)[pair.io]
    else:
        ours, theirs = (np.where(side == 1, 0.0, side) for side in (ours, theirs))
    rows = np.flatnonzero(((ours != 0) | (theirs != 0)) & ~(ours == theirs) & ~shifted)
    if not len(rows):
        return []
    step = _decimal_step(theirs[theirs > 0])
    limit = np.log1p(max(pair.tolerance.prices, 0.005)) + _relative(step, theirs[rows])
    log = _log_ratio(theirs[rows], ours[rows])
    # In another unit, as the prices of its day are.
    same = np.abs(log) <= limit
    if column == "dividends":
        same |= np.abs(log - pair.log[rows, _CLOSE]) <= limit + pair.limit[rows, _CLOSE]
    rows = rows[~same]
    what = "dividend" if column == "dividends" else "split"
    found, left = [], dict.fromkeys(rows.tolist())
    for row in rows.tolist():
        if row not in left:
            continue
        del left[row]
        words = f"{what} {_number(ours[row])} stored, {_number(theirs[row])} in the files"
        moved = next((other for other in left if _is_moved(pair, ours, theirs, row, other)), None)
        if moved is not None:
            del left[moved]
            here, there = (row, moved) if ours[row] else (moved, row)
            days = f"{_date(pair.day[here])} in the store, of {_date(pair.day[there])} in the files"
            words = f"{what} {_number(ours[here])} is of {days}"
        day = _date(pair.day[row])
        values = float(ours[row]), float(theirs[row])
        found.append(Disagreement(what, day, day, 1, (column,), words, None, day, column, *values))
    return found


def _is_moved(pair: _Pair, ours: Numbers, theirs: Numbers, row: int, other: int) -> bool:
    near = abs(pair.day[other] - pair.day[row]) <= np.timedelta64(MOVED_DAYS, "D")
    if not near or (ours[row] != 0) == (ours[other] != 0) or (theirs[row] != 0) == (theirs[other] != 0):
        return False
    sizes = (ours[row] or ours[other], theirs[row] or theirs[other])
    return bool(np.isclose(*sizes, rtol=max(pair.tolerance.prices, 0.005)))


# -- numbers


def _column(frame: pd.DataFrame, name: str) -> Numbers:
    out: Numbers = frame[name].to_numpy("float64", na_value=np.nan)
    return out


def _factor(columns: dict[str, Numbers], way: Way, common: Rows) -> Numbers:
    """What stored prices are multiplied with to be adjusted in this way."""
    if way == "no":
        return columns["traded"]
    if way == "splits":
        return np.ones(len(columns["close"]))
    share = columns["adj_close"] / columns["close"]
    if common[-1] == len(share) - 1:
        return share
    last = share[common]
    last = last[~np.isnan(last)]
    out: Numbers = share / (last[-1] if len(last) else 1.0)
    return out


def _later_in_files(theirs: Numbers, ours: Numbers, limit: float) -> float:
    """By how much dividends after the last common session, of which the files alone know, lower all their prices."""
    log = _log_ratio(theirs[-5:], ours[-5:])
    log = log[~np.isnan(log)]
    known = len(log) >= LEVEL_BARS and np.ptp(log) <= 2 * limit and -LARGEST_UNTOLD_DIVIDEND < np.median(log) < 0
    return float(np.exp(np.median(log))) if known else 1.0


def _event_factor(pair: _Pair) -> Numbers:
    """What stored dividends are multiplied with to be a share of what is compared."""
    return pair.o["traded"] if pair.way == "no" else np.ones(len(pair.o_day))


def _log_ratio(theirs: Numbers, ours: Numbers) -> Numbers:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        out: Numbers = np.log(np.maximum(theirs, 0.0) / ours)
    out[np.isneginf(out)] = _NOTHING
    out[np.isposinf(out)] = -_NOTHING
    return out


def _power_of_ten(log: Numbers, limit: Numbers) -> Rows:
    power = np.rint(log / _LN10)
    out: Rows = (power != 0) & (np.abs(log - power * _LN10) <= limit)
    return out


def _segments(values: Numbers, limit: Numbers) -> Rows:
    """A number for each value, the same while they stay within what is no difference of each other."""
    if not len(values):
        return np.zeros(0, dtype=np.int64)
    breaks = np.abs(np.diff(values)) > limit[1:] + limit[:-1]
    # Where what agrees ends, too: small steps would lead away from it unseen.
    agrees = np.abs(values) <= limit
    breaks |= agrees[1:] != agrees[:-1]
    out: Rows = np.concatenate([[0], np.cumsum(breaks)])
    return out


def _decimal_step(values: Numbers) -> float:
    """The step in which prices are written: 0.01 where they have two decimals; 0 if there is none to be seen."""
    known = values[np.isfinite(values) & (values > 0)]
    if not len(known):
        return 0.0
    for decimals in range(7):
        if float(_is_multiple(known, 10.0**-decimals).mean()) >= ROUNDING_SHARE:
            return float(10.0**-decimals)
    return 0.0


def _is_multiple(values: Numbers, step: float) -> Rows:
    """As far as single precision tells, in which many are kept."""
    if step == 0:
        return np.ones(values.shape, dtype=bool)
    scaled = values / step
    out: Rows = np.abs(scaled - np.rint(scaled)) <= 1e-4 + 1e-7 * np.abs(scaled)
    return out


def _relative(step: float, values: Numbers) -> Numbers:
    """By which share rounding may have moved these."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(values > 0, np.minimum(step / 2 / values, LARGEST_ROUNDING), 0.0)


def _number(value: float) -> str:
    return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _date(day: Any) -> dt.date:
    out: dt.date = day.astype("datetime64[D]").item()
    return out
