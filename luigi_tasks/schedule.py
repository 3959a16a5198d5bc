"""Which days of a ticker to ask for, and which day is its turn for what need not be done every day."""

from __future__ import annotations

import datetime as dt
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LastBar:
    """One of the newest stored bars; `provisional`: the source may still settle it; `volume` is NaN where it is not
    known; `flat`: open, high, low and close are the same."""

    date: dt.date
    close: float
    provisional: bool
    volume: float = float("nan")
    flat: bool = False


@dataclass(frozen=True)
class Stored:
    """What is stored of a security's history; days are calendar days where it is traded."""

    as_of: dt.date
    """The latest as-of date of which the bars are."""
    history_from: dt.date
    """The day from which on bars were asked for."""
    whole_as_of: dt.date | None
    """The latest as-of date on which all of them were."""
    overlap_from: dt.date | None
    """The first of the last few stored sessions; None: there are no bars."""
    unfilled_from: dt.date | None = None
    """The first session that was missing and should be asked for again."""
    latest: tuple[LastBar, ...] = ()
    """The last few stored bars, by date."""
    accepted: bool = False
    """The next answer is to replace them, whatever it is."""


@dataclass(frozen=True)
class Span:
    """Days to ask for, both included; `whole` where nothing is stored that they do not cover."""

    start: dt.date
    end: dt.date
    whole: bool

    def as_json(self) -> dict[str, Any]:
        return {"start": str(self.start), "end": str(self.end), "whole": self.whole}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Span:
        start, end = (dt.date.fromisoformat(values[name]) for name in ("start", "end"))
        return cls(start, end, bool(values["whole"]))


def to_ask(
    ticker: str, stored: Stored | None, start: dt.date, as_of: dt.date, whole_days: int, *, full: bool = False
) -> Span:
    """What to ask for to have the bars from `start` to `as_of`.

    Every `whole_days` days, or if `full`, it is all that is stored, and all that is wanted. An as-of date before the
    stored one asks up to the stored one, so that the answer can be compared with what is there.
    """
    if stored is None:
        return Span(start, as_of, whole=True)
    whole = Span(min(start, stored.history_from), max(as_of, stored.as_of), whole=True)
    if full or stored.overlap_from is None or as_of < stored.as_of or start < stored.history_from:
        return whole
    if stored.whole_as_of is None or due(ticker, stored.whole_as_of, as_of, whole_days):
        return whole
    first = min(day for day in (stored.overlap_from, stored.unfilled_from) if day is not None)
    return Span(max(first, stored.history_from), as_of, whole=False)


def due(ticker: str, last: dt.date, as_of: dt.date, interval: int) -> bool:
    """Whether a day of the ticker's own, one in each `interval` days, lies after `last` and up to `as_of`.

    Each ticker has its own days, so that not all are due on one.
    """
    phase = zlib.crc32(ticker.encode()) % interval
    return (last.toordinal() + phase) // interval < (as_of.toordinal() + phase) // interval
