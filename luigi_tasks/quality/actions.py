"""Splits and dividends against the prices beside them: an answer that contradicts itself says where it is wrong.

A split on record divides all prices before it, so that no step is left where it stands. A dividend multiplies every
adjusted close before it by 1 - dividend / previous close, so that adjusted close over close steps at ex-dates, by that
much, and never elsewhere. Of 15,435 dividends of the S&P 500 from 2016 to 2026 two do not (both AMCR's, 2017); of 131
splits none shows in the prices. What deviates is a fault of Yahoo's, and yfinance's `repair=True` mends such faults
likewise ("missing split adjustment", "dividend 100x errors", "missing dividend adjustment", "phantom dividends").

Whether there is a step can be seen from bar to bar. What a dividend should be, only beside all others: amounts are
judged in whole histories alone, which every new action brings about (`luigi_tasks.history`). `Chain` is the history as
the rules see it, `judged` what they say of it, with all that `luigi_tasks.quality.repairs` needs to mend it.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

Numbers = np.ndarray[Any, np.dtype[np.float64]]
Rows = np.ndarray[Any, np.dtype[Any]]

ROUNDING = 4e-6
"""Of adjusted close over close: Yahoo's adjusted closes are single precision. The most seen in 1.2 million steps where
there should be none is 1.2e-6."""
NOISE_SHARE, NOISE_TIMES, NOISE_MOST = 0.9, 4.0, 5e-4
"""A source that rounds more coarsely shows it: so many times the step that this share of the bars does not exceed."""
AMOUNT_SLACK = 0.02
"""Of a dividend: dividends are rounded, too, the smallest most. The most seen is 0.5 %, except for two of AMCR's."""
BAD_SLACK = 0.15
"""Of a dividend: the steps to and from a bad bar are apart by it within this."""

SPLIT_LEAST = np.log(1.1)
SPLIT_SCALES = 6.0
"""A split by less than this, or by less than so many usual daily moves, cannot be told from a move."""
SPLIT_SLACK, SPLIT_SLACK_MOST = 0.35, np.log(1.35)
"""Of the split's logarithm: how far the step may be from it."""
SPLIT_LEVEL_BARS = 5
AGAIN_SPLIT_DAYS = 14
AGAIN_DIVIDEND_DAYS = 7
"""The same once more within so many days is one that is listed twice."""

SHARE_MOST = 0.3
"""A dividend of more than this share of the price is told unless the price fell by half of it."""
SHARE_REFUTED = 0.1
SHARE_FALL, REFUTED_FALL = 0.5, 0.35
REFUTED_SCALES, REFUTED_LEAST = 8.0, 0.03
"""A price refutes a dividend if it falls by less than a third of it, though it is so many usual moves."""

OTHERS_AROUND, OTHERS_LEAST = 4, 3
"""So many other dividends around one say what it should be, if there are at least so many."""
OTHERS_SLACK = np.log10(1.25)
"""The others are alike within this."""
OTHERS_TYPICAL = np.log(2.0)
"""Where it is known that one of two is right, they may differ more."""
EXACT = 0.005
"""A dividend is another one, times a power of ten, within this."""
CADENCE = 0.6
"""A dividend in the place of a regular one is this share of the usual time away from both neighbours. Special ones,
which may be 100 times a regular one in truth (PGR, GEN), come beside the regular ones."""
SCALE_BARS = 30
_NORMAL = 1.4826

SIGNS = {
    "split_not_applied": "no step by the split's ratio",
    "split_applied_twice": "no step by the split's inverse ratio",
    "split_again": f"> {AGAIN_SPLIT_DAYS} days apart, or another ratio",
    "dividend_power": "not 10, 100, 1000, ... times what the others or the adjusted close say, or inverse",
    "dividend_unsplit": "not that of before a later split",
    "dividend_again": f"> {AGAIN_DIVIDEND_DAYS} days apart, or another amount",
    "dividend_share": f"<= {SHARE_MOST:.0%} of the price, or the price falls by as much",
    "dividend_without_step": "adjusted close steps by the dividend",
    "dividend_step": f"= 1, within {AMOUNT_SLACK:.0%}",
    "step_without_dividend": "= 1",
    "foreign_dividend": "in the currency of the prices",
    "adjusted_above_close": "<= 1",
    "adjusted_missing": "known, as for other bars",
}
"""The columns of `signs`, and the threshold of each in words."""


@dataclass(frozen=True)
class Chain:
    """Usable bars of a history by date, as arrays, with the actions that count at each."""

    row: Rows
    """Where the bar is among all."""
    day: Rows
    """Whole days, as numbers."""
    open: Numbers
    close: Numbers
    adjusted: Numbers
    """NaN where it is not known, or not above 0."""
    dividend: Numbers
    """In the currency of the prices, or in another one where `foreign`."""
    gains: Numbers
    foreign: Rows
    split: Numbers
    """New shares per old one; 1 where none."""
    plain: Rows
    """Whether the actions stand on this very bar, or nothing was between it and the bar before: the bar before has the
    close that they are a share of."""
    own: Rows
    """Whether the bar has the actions, all of them, on its own row."""

    @property
    def before(self) -> Numbers:
        """The close of the bar before."""
        out = np.full(len(self.close), np.nan)
        out[1:] = self.close[:-1]
        return out

    @property
    def step(self) -> Numbers:
        """By how much adjusted close over close, of the bar before, is less than that of this one; NaN: not known."""
        share = self.adjusted / self.close
        out = np.full(len(share), np.nan)
        out[1:] = share[:-1] / share[1:]
        return out

    def scale(self, place: int) -> float:
        """The usual daily move around a bar, in log price, as a standard deviation."""
        near = np.log(self.close[max(place - SCALE_BARS, 0) : place + SCALE_BARS])
        moves = np.abs(np.diff(near))
        return float(np.median(moves) * _NORMAL) if len(moves) else 0.0

    def fall(self, place: int) -> float:
        """By which share the price is lower than the day before, at the open or the close."""
        return float(1 - min(self.open[place], self.close[place]) / self.close[place - 1])


@dataclass(frozen=True)
class Judged:
    """What the rules say: `found` is {sign: {place in the chain: value}}; the rest is for repairs.

    `mended` has, by place, what a dividend is in truth where that is certain, and how it is known, in words; `steps`
    likewise the step that adjusted close over close should make there.
    """

    chain: Chain
    found: dict[str, dict[int, float]]
    mended: dict[int, tuple[float, str]] = field(default_factory=dict)
    steps: dict[int, tuple[float, str]] = field(default_factory=dict)
    by_factor: set[int] = field(default_factory=set)
    """Where dividend and step are apart by a power of ten, or a later split."""
    tolerance: float = ROUNDING

    def at(self, *signs: str) -> set[int]:
        return {place for sign in signs for place in self.found.get(sign, ())}


def signs(judgement: Judged, rows: int) -> Numbers:
    """The columns `SIGNS` for so many rows, NaN: no suspicion."""
    out = np.full((rows, len(SIGNS)), np.nan)
    for column, name in enumerate(SIGNS):
        for place, value in judgement.found.get(name, {}).items():
            out[judgement.chain.row[place], column] = value
    return out


def judged(
    frame: pd.DataFrame, usable: Rows, elsewhere: pd.DataFrame | None = None, whole: bool = True
) -> Judged | None:
    """The rules about splits, dividends and adjusted closes, over a history by date; None: nothing to tell.

    `usable` says which rows have prices that can be relied on; the others are passed over, and what stands on them
    counts at the next bar. `elsewhere` has the actions of days without a bar, see `luigi_tasks.bars.actions_of`.
    Unless it is the `whole` history, the amounts of dividends are not judged.
    """
    chain = chain_of(frame, usable, elsewhere)
    if len(chain.row) < 2:
        return None
    found: dict[str, dict[int, float]] = {}
    splits = _splits(chain, found)
    adjusted = np.isfinite(chain.adjusted)
    if adjusted.any():
        _missing(frame, chain, found)
    paid = np.flatnonzero((chain.dividend != 0) | (chain.gains != 0))
    step = chain.step
    tolerance = _tolerance(chain, step)
    with np.errstate(invalid="ignore"):
        off = np.abs(step - 1) > tolerance
        off[paid] = False
        # Above its close an adjusted close is not, except where the close itself is told to be divided once too often.
        above = chain.adjusted > chain.close * (1 + tolerance)
    above[: max(splits, default=0)] = False
    if above.any():
        share = chain.adjusted / chain.close
        found["adjusted_above_close"] = {int(place): float(share[place]) for place in np.flatnonzero(above)}
    judgement = Judged(chain, found, tolerance=tolerance)
    off[list(splits)] = False
    if len(paid) or off.any():
        _dividends(judgement, paid[paid > 0], step, off, set(splits), whole)
    return judgement if any(found.values()) or not adjusted.all() else None


def chain_of(frame: pd.DataFrame, usable: Rows, elsewhere: pd.DataFrame | None) -> Chain:
    """The usable rows of a frame, by date, with all actions at the first of them on or after the day they are of."""
    row = np.flatnonzero(usable)
    opened, close, adjusted, dividend, split, gains = (
        frame[name].to_numpy("float64", na_value=np.nan)
        for name in ("open", "close", "adj_close", "dividends", "stock_splits", "capital_gains")
    )
    day = frame["date"].to_numpy().astype("datetime64[D]").astype("int64")
    adjusted = np.where(np.isfinite(adjusted) & (adjusted > 0), adjusted, np.nan)[row]
    dividend, gains = (np.where(np.isfinite(amount) & (amount > 0), amount, 0.0) for amount in (dividend, gains))
    split = np.where((split > 0) & (split < np.inf), split, 1.0)
    count = len(row)
    foreign = np.zeros(count, dtype=bool)
    plain, own = np.ones(count, dtype=bool), np.ones(count, dtype=bool)
    if count:
        # The first usable bar after others has nothing before it; what stands there has no step to show.
        plain[1:] = np.diff(row) == 1
    dividends, gained, splits = dividend[row], gains[row], split[row]
    events = np.flatnonzero(((dividend > 0) | (gains > 0) | (split != 1)) & ~usable)
    acted = dividends > 0
    if acted.any():
        currency = frame["dividend_currency"]
        if currency.notna().any():
            foreign = acted & currency.notna().to_numpy()[row]
    bar_of = day[row]
    others: list[tuple[int, float, float, float, bool, int | None]] = [
        (int(day[at]), dividend[at], gains[at], split[at], _abroad(frame["dividend_currency"].iloc[at]), int(at))
        for at in events
    ]
    if elsewhere is not None and len(elsewhere):
        for event in elsewhere.itertuples(index=False):
            of = int(pd.Timestamp(event.date).to_datetime64().astype("datetime64[D]").astype("int64"))
            paid, more, ratio = map(_amount, (event.dividends, event.capital_gains, event.stock_splits))
            others.append((of, paid, more, ratio or 1.0, _abroad(event.dividend_currency), None))
    for of, paid, more, ratio, abroad, at in others:
        place = int(np.searchsorted(bar_of, of))
        if place == count:
            continue
        # The close before, which it is a share of, is that of the bar before unless a bar between is passed over.
        next_to = place == 0 or (bool(plain[place]) if at is None else at == row[place - 1] + 1)
        plain[place] = next_to and not dividends[place]
        foreign[place] |= abroad and paid > 0
        dividends[place] += paid
        gained[place] += more
        splits[place] *= ratio
        own[place] = False
    return Chain(row, bar_of, opened[row], close[row], adjusted, dividends, gained, foreign, splits, plain, own)


def _amount(value: float) -> float:
    return float(value) if np.isfinite(value) and value > 0 else 0.0


def _abroad(currency: Any) -> bool:
    return bool(pd.notna(currency))


def _tolerance(chain: Chain, step: Numbers) -> float:
    """How far a step that should not be may be from 1: what this source's rounding makes of it."""
    with np.errstate(invalid="ignore"):
        off = np.abs(step[1:] - 1)
    off = off[np.isfinite(off)]
    if not len(off):
        return ROUNDING
    at = min(int(len(off) * NOISE_SHARE), len(off) - 1)
    return float(ROUNDING + min(NOISE_TIMES * np.partition(off, at)[at], NOISE_MOST))


def _splits(chain: Chain, found: dict[str, dict[int, float]]) -> dict[int, int]:
    """Splits that the prices show: {place: 1, not applied; -1, applied twice}; and those that are listed twice."""
    at = np.flatnonzero(chain.split != 1)
    at = at[at > 0]
    shown: dict[int, int] = {}
    for place in at.tolist():
        direction = shows_split(chain, place)
        if direction:
            shown[place] = direction
            name = "split_not_applied" if direction > 0 else "split_applied_twice"
            found.setdefault(name, {})[place] = float(chain.close[place - 1] / chain.open[place])
    for earlier, later in itertools.pairwise(at):
        same = abs(np.log(chain.split[later]) - np.log(chain.split[earlier])) < 1e-3
        if same and chain.day[later] - chain.day[earlier] <= AGAIN_SPLIT_DAYS:
            found.setdefault("split_again", {})[int(later)] = float(chain.split[later])
    return shown


def shows_split(chain: Chain, place: int) -> int:
    """1 if the price falls by the ratio of a split that is on record at this bar, -1 if it rises by it, else 0.

    Yahoo has divided the earlier prices, so that it should do neither. Open and close say so, and the prices of some
    days before and after, so that one bad bar is no step.
    """
    ratio = float(np.log(chain.split[place]))
    if abs(ratio) < max(SPLIT_LEAST, SPLIT_SCALES * chain.scale(place)):
        return 0
    slack = min(SPLIT_SLACK * abs(ratio), SPLIT_SLACK_MOST)
    before, after = chain.close[max(place - SPLIT_LEVEL_BARS, 0) : place], chain.close[place : place + SPLIT_LEVEL_BARS]
    last = chain.close[place - 1]
    steps = np.log([chain.open[place] / last, chain.close[place] / last, np.median(after) / np.median(before)])
    for direction in (1, -1):
        if (np.abs(steps + direction * ratio) < slack).all():
            return direction
    return 0


def _missing(frame: pd.DataFrame, chain: Chain, found: dict[str, dict[int, float]]) -> None:
    served = frame["adj_close"].to_numpy("float64", na_value=np.nan)[chain.row]
    missing = np.flatnonzero(np.isnan(served))
    if len(missing):
        found["adjusted_missing"] = {int(place): float(chain.close[place]) for place in missing}


def _dividends(judgement: Judged, paid: Rows, step: Numbers, off: Rows, splits: set[int], whole: bool) -> None:
    """The rules about dividends, each of which is accused of one thing, the most certain."""
    chain, found, tolerance = judgement.chain, judgement.found, judgement.tolerance
    before = chain.before
    share = (chain.dividend + chain.gains) / before
    implied = 1 - step
    # Where prices wait for a split, dividends and adjusted closes may have had theirs.
    waiting = _waiting(chain, found)
    with np.errstate(invalid="ignore"):
        slack = tolerance + AMOUNT_SLACK * share
        known = np.isfinite(step)
        agrees = np.abs(implied - share) <= slack
        if waiting is not None:
            as_split = np.abs(implied - share * waiting) <= tolerance + AMOUNT_SLACK * share * waiting
            share = np.where(as_split, share * waiting, share)
            agrees |= as_split
        none = np.abs(implied) <= tolerance
    bad = _bad_bars(step, share, off, known & ~agrees & ~chain.foreign, tolerance)
    beside = _beside(bad, len(step))
    stepped = off & ~beside
    stepped[list(bad)] = True
    if stepped.any():
        found["step_without_dividend"] = {int(place): float(step[place]) for place in np.flatnonzero(stepped)}
    native = paid[(chain.dividend[paid] > 0) & ~chain.foreign[paid]]
    amounts = chain.dividend[native]
    regular = _Regular(chain.day[native], amounts)
    unclear = ~chain.plain | beside
    unclear[list(bad)] = True
    _again(judgement, paid, none & known)
    for place in paid[chain.foreign[paid]].tolist():
        told = implied[place] * before[place] if known[place] and not none[place] and not unclear[place] else None
        found.setdefault("foreign_dividend", {})[place] = float(chain.dividend[place] if told is None else told)
    if not whole:
        absent = known & none & ~agrees & ~unclear & ~chain.foreign
        for place in set(paid[absent[paid]].tolist()) - judgement.at("dividend_again") - splits:
            found.setdefault("dividend_without_step", {})[place] = float(share[place])
        return
    # Most dividends are as they should be, and none of their company's is ten times another.
    suspected = (known & ~agrees & ~unclear)[paid] | (share[paid] > SHARE_REFUTED)
    suspected &= ~chain.foreign[paid]
    leaps = regular.leaps()
    again = judgement.at("dividend_again")
    candidates = {*paid[suspected].tolist(), *native[leaps].tolist()} - again - splits
    at = {int(place): number for number, place in enumerate(native)}
    for place in sorted(candidates):
        _dividend(
            judgement,
            place,
            None if not known[place] or unclear[place] else float(implied[place]),
            bool(agrees[place]),
            regular,
            at.get(place),
        )
    _not_split(judgement, native, splits)


def _waiting(chain: Chain, found: dict[str, dict[int, float]]) -> Numbers | None:
    """Of each bar, by what the close before is too large, where prices show splits."""
    out = np.ones(len(chain.close))
    for name, direction in (("split_not_applied", 1), ("split_applied_twice", -1)):
        for place in found.get(name, ()):
            out[: place + 1] *= chain.split[place] ** direction
    return out if (out != 1).any() else None


def _bad_bars(step: Numbers, share: Numbers, off: Rows, wrong: Rows, tolerance: float) -> set[int]:
    """Single bars whose close or adjusted close is wrong: the steps to and from them undo each other.

    What lies beside them, a dividend, say, is not to blame.
    """
    with np.errstate(invalid="ignore"):
        odd = (off | wrong) & (np.abs(step - 1) > tolerance)
    both = np.flatnonzero(odd[:-1] & odd[1:])
    out: set[int] = set()
    for place in both.tolist():
        if place - 1 in out:
            continue
        together = step[place] * step[place + 1]
        expected = (1 - share[place]) * (1 - share[place + 1])
        # A share of a close that is bad itself is off by as much.
        room = 2 * tolerance + BAD_SLACK * (share[place] + share[place + 1])
        if abs(together - expected) <= room:
            out.add(place)
    return out


def _beside(bad: set[int], rows: int) -> Rows:
    out = np.zeros(rows, dtype=bool)
    for place in bad:
        out[place + 1] = True
    return out


def _again(judgement: Judged, paid: Rows, none: Rows) -> None:
    """The same dividend twice within a week: the one for which adjusted close does not step, or else the later."""
    chain = judgement.chain
    for earlier, later in itertools.pairwise(paid.tolist()):
        same = abs(chain.dividend[later] - chain.dividend[earlier]) <= 1e-6 * chain.dividend[earlier]
        if chain.dividend[earlier] > 0 and same and chain.day[later] - chain.day[earlier] <= AGAIN_DIVIDEND_DAYS:
            which = earlier if none[earlier] and not none[later] else later
            judgement.found.setdefault("dividend_again", {})[which] = float(chain.day[later] - chain.day[earlier])


@dataclass(frozen=True)
class _Regular:
    """A security's dividends by date, to hold one against the others."""

    day: Rows
    amount: Numbers

    def leaps(self) -> Rows:
        """Which are nearly ten times, or a tenth of, both neighbours, or of the only one."""
        count = len(self.amount)
        out = np.zeros(count, dtype=bool)
        if count < 2:
            return out
        log = np.log10(self.amount)
        change = np.diff(log)
        if np.abs(change).max() < 0.85:
            return out
        out[1:-1] = (np.minimum(np.abs(change[:-1]), np.abs(change[1:])) > 0.85) & (change[:-1] * change[1:] < 0)
        out[0], out[-1] = abs(change[0]) > 0.85, abs(change[-1]) > 0.85
        return out

    def around(self, number: int) -> Numbers:
        """The others next to a dividend, before and after."""
        last = len(self.amount) - 1
        first = max(min(number - OTHERS_AROUND // 2, last - OTHERS_AROUND), 0)
        others = [place for place in range(first, min(first + OTHERS_AROUND, last) + 1) if place != number]
        out: Numbers = self.amount[others]
        return out

    def typical(self, number: int) -> float | None:
        """What a dividend in this place should be about; None where the others are few or differ, or it is beside."""
        others = self.around(number)
        if len(others) < OTHERS_LEAST or np.ptp(np.log(others)) > OTHERS_TYPICAL or not self.in_turn(number):
            return None
        return float(np.median(others))

    def power(self, number: int) -> int:
        """k if the dividend is another one times 10**k, in the place of a regular one; 0 where that is not certain.

        The four others around are alike; the dividend, without its power of ten, is one of its neighbours or between
        them; and it comes when one of them was to come. The first and the last may be ten times the others in earnest:
        nobody knows yet that it does not stay.
        """
        others = self.around(number)
        if len(others) < OTHERS_LEAST:
            return 0
        log = np.log10(others)
        if np.ptp(log) > OTHERS_SLACK:
            return 0
        own = np.log10(self.amount[number])
        power = round(float(own - np.median(log)))
        neighbours = np.concatenate([self.amount[max(number - 1, 0) : number], self.amount[number + 1 : number + 2]])
        amount = scaled(float(self.amount[number]), power)
        fits = neighbours.min() * (1 - EXACT) <= amount <= neighbours.max() * (1 + EXACT)
        if not power or not fits or not self.in_turn(number):
            return 0
        return power if self.inside(number) or abs(power) > 1 else 0

    def inside(self, number: int) -> bool:
        """Whether there are dividends before and after."""
        return 0 < number < len(self.amount) - 1

    def in_turn(self, number: int) -> bool:
        """Whether the dividend comes in the place of a regular one, and not beside them."""
        between = np.diff(self.day)
        usual = float(np.median(between)) if len(between) else 0.0
        near = between[max(number - 1, 0) : number + 1]
        return bool(len(near) and (near >= CADENCE * usual).all())


def scaled(amount: float, power: int) -> float:
    """amount / 10**power, by the operation that rounds least."""
    return amount / 10.0**power if power > 0 else amount * 10.0**-power


def _dividend(
    judgement: Judged, place: int, implied: float | None, agrees: bool, regular: _Regular, number: int | None
) -> None:
    """What is wrong with one dividend. `implied` is the share of the price that adjusted close steps by; None: not
    known. `number` is its place among the dividends in the currency of the prices."""
    chain, found = judgement.chain, judgement.found
    price, amount = float(chain.close[place - 1]), float(chain.dividend[place] + chain.gains[place])
    share = amount / price
    alone = chain.gains[place] == 0 and number is not None

    def tell(sign: str, value: float) -> None:
        found.setdefault(sign, {})[place] = value

    if implied is not None and not agrees:
        if abs(implied) <= judgement.tolerance:
            tell("dividend_without_step", share)
            return
        if alone and 0 < implied < 1 and _by_factor(judgement, place, implied * price, regular, number):
            return
        tell("dividend_step", implied / share)
        return
    refuted = refutes(chain, place, share)
    power = regular.power(number) if number is not None and alone else 0
    if power and (share <= SHARE_REFUTED or refuted):
        tell("dividend_power", 10.0**power)
        right = scaled(amount, power)
        # Where adjusted close agrees, the price alone can say that both are wrong: companies do pay special dividends
        # of a hundred times the usual, and token ones of a tenth.
        if refuted and (implied is not None or np.isnan(chain.adjusted).all()):
            judgement.mended[place] = (right, f"it is {_times(power)} the dividends before and after")
            if implied is not None:
                judgement.steps[place] = (1 - right / price, "adjusted close steps by the wrong dividend")
        return
    if (share > SHARE_MOST and chain.fall(place) < SHARE_FALL * share) or (share > SHARE_REFUTED and refuted):
        tell("dividend_share", share)


def refutes(chain: Chain, place: int, share: float) -> bool:
    """Whether the price cannot have paid such a share: it fell by far less, though the share is far above its moves."""
    large = max(REFUTED_SCALES * chain.scale(place), REFUTED_LEAST)
    return share > large and chain.fall(place) < REFUTED_FALL * min(share, 1.0)


def _by_factor(judgement: Judged, place: int, implied: float, regular: _Regular, number: int | None) -> bool:
    """Whether dividend and step are apart by a power of ten, or by a later split, exactly; then it is told.

    Which of the two is wrong is for the other dividends to say, or for the price: it cannot have paid the larger.
    """
    chain, found = judgement.chain, judgement.found
    price, amount = float(chain.close[place - 1]), float(chain.dividend[place])
    room = AMOUNT_SLACK + judgement.tolerance * price / implied
    factor = amount / implied
    ratio = _later_split(chain, place, factor, room)
    power = round(float(np.log10(factor)))
    exact = power != 0 and abs(factor / 10.0**power - 1) <= room
    if ratio is None and not exact:
        return False
    judgement.by_factor.add(place)
    typical = None if number is None else regular.typical(number)
    verdicts = set()
    if typical is not None:
        away, other = abs(np.log(amount / typical)), abs(np.log(implied / typical))
        if min(away, other) < NEAR * abs(np.log(factor)) and max(away, other) > (1 - NEAR) * abs(np.log(factor)):
            verdicts.add("amount" if other < away else "step")
        # A special dividend of ten times the usual one, which lost a digit, would look like a usual one.
        if verdicts == {"step"} and abs(power) < 2:
            verdicts.clear()
    larger = max(amount, implied) / price
    if refutes(chain, place, larger):
        verdicts.add("amount" if amount > implied else "step")
    if len(verdicts) != 1:
        # Neither, or both: then something is wrong, and it is not known what.
        if ratio is None:
            return False
        found.setdefault("dividend_unsplit", {})[place] = ratio
        return True
    if verdicts == {"step"}:
        found.setdefault("dividend_step", {})[place] = implied / amount
        why = f"adjusted close steps by {_words(implied)}, the dividend is {_words(amount)}"
        judgement.steps[place] = (1 - amount / price, why)
        return True
    if ratio is not None:
        found.setdefault("dividend_unsplit", {})[place] = ratio
        why = f"adjusted close steps by {_words(implied)}, as after the later split by {_words(ratio)}"
        judgement.mended[place] = (amount / ratio, why)
        return True
    found.setdefault("dividend_power", {})[place] = 10.0**power
    judgement.mended[place] = (scaled(amount, power), f"adjusted close steps by {_words(implied)}")
    return True


def _later_split(chain: Chain, place: int, factor: float, room: float) -> float | None:
    """The split, or the product of the splits, after a bar that is the factor; None where there is none."""
    ratio = 1.0
    for later in np.flatnonzero(chain.split != 1).tolist():
        if later > place:
            ratio *= float(chain.split[later])
            if abs(np.log(ratio)) > 2 * AMOUNT_SLACK and abs(factor / ratio - 1) <= room:
                return ratio
    return None


NEAR = 0.35
"""Of the factor between two numbers: the right one is this near to the others."""
UNSPLIT_LEAST = np.log(1.4)
UNSPLIT_SLACK = 0.03
UNSPLIT_DAYS = 200


def _not_split(judgement: Judged, native: Rows, splits: set[int]) -> None:
    """Dividends before a split that are its ratio times the first one after, adjusted closes and all.

    From the last one before the split backwards, as long as they are alike.
    """
    chain, told = judgement.chain, judgement.at("dividend_power", "dividend_unsplit", "dividend_again")
    if len(native) < 2:
        return
    for split in np.flatnonzero(chain.split != 1).tolist():
        ratio = float(chain.split[split])
        number = int(np.searchsorted(native, split))
        if split in splits or abs(np.log(ratio)) < UNSPLIT_LEAST or not 0 < number < len(native):
            continue
        earlier, later = native[number - 1], native[number]
        off = abs(np.log(chain.dividend[earlier] / chain.dividend[later] / ratio))
        if off > UNSPLIT_SLACK or chain.day[later] - chain.day[earlier] > UNSPLIT_DAYS:
            continue
        for place in native[:number][::-1].tolist():
            if place in told or abs(np.log(chain.dividend[place] / chain.dividend[earlier])) > UNSPLIT_LEAST / 2:
                break
            judgement.found.setdefault("dividend_unsplit", {})[place] = ratio


def _times(power: int) -> str:
    return f"{10**power:,} times" if power > 0 else f"a {10**-power:,}th of"


def _words(value: float) -> str:
    return f"{value:.6g}"
