"""When a bar is a close: which session of an answer is not over yet, or only looks as if it were.

Yahoo's answers of some exchanges are 15 to 30 minutes old, and now and then one comes out of a cache, hours old. Both
say so: their market time lies before the session's end. That of a share which is seldom traded does, too.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from luigi_tasks import bars, quiet, sessions

TRUSTED = dt.timedelta(hours=24)
"""After a session's end: then its bar is taken whatever the market time says, for no bar may be lost. A security that
was halted or delisted keeps its last market time for ever."""
SETTLED = dt.timedelta(days=7)
"""An answer whose market time is so much later than a session settles that session no more."""

_ROUND_THE_CLOCK = dt.timedelta(hours=20)
_USUAL_LENGTH = dt.timedelta(hours=6, minutes=30)
# The last of the bars before the session tell how often it is traded.
_RECENT = 60


@dataclass(frozen=True)
class Unfinished:
    """The first session of an answer that is no close."""

    day: dt.date
    until: dt.datetime | None
    """When it can be had; None: nothing is known of it, its day has not begun where the security is traded."""
    old: bool = False
    """Whether the session is over, and the answer older than its end."""


@dataclass(frozen=True)
class _Period:
    """What the answer calls its current session."""

    day: dt.date
    ends: dt.datetime
    length: dt.timedelta


def unfinished(found: pd.DataFrame, meta: Mapping[str, Any], now: dt.datetime) -> Unfinished:
    """The first day whose session, if there is one, is no close at `now`; `found` are the answer's bars, by date.

    A session is over by the answer's own trading hours and by the exchange's calendar, where it is known, whichever is
    later; where the answer does not tell the hours, today's is not over. If the answer's market time is before the end,
    its bar is no close: for `sessions.DELAY` after the end in any case, then for `TRUSTED` unless it is so seldom
    traded that nothing may have happened since.
    """
    zone = ZoneInfo(str(meta["exchangeTimezoneName"]))
    calendar, period = sessions.calendar_of(meta.get("exchangeName")), _period(meta, zone)
    today = now.astimezone(zone).date()
    waits = [Unfinished(today + dt.timedelta(days=1), None)]
    if period is None:
        waits.append(Unfinished(today, _midnight_after(today, zone)))
    elif now < period.ends:
        waits.append(Unfinished(period.day, period.ends))
    # Sessions end one after another, so the last ones tell.
    for day in found["date"].dt.date.tail(3):
        if calendar is not None and not sessions.over(calendar, day, now):
            waits.append(Unfinished(day, sessions.end(calendar, day) or _midnight_after(day, zone)))
        until = _until(day, found, meta, calendar, period, now)
        if until is not None:
            waits.append(Unfinished(day, until, old=True))
    first = min(each.day for each in waits)
    of_first = [each for each in waits if each.day == first]
    return max(of_first, key=lambda each: (each.until is not None, each.until))


def provisional(last: dt.date, meta: Mapping[str, Any]) -> dt.date | None:
    """The session of the answer's last bar, if the source may still settle it.

    By the answer's own market time, not by the clock: what is loaded later as of an old date is as it was then.
    """
    at = instant(meta.get("regularMarketTime"))
    if at is None or at.astimezone(ZoneInfo(str(meta["exchangeTimezoneName"]))).date() < last + SETTLED:
        return last
    return None


def instant(value: Any) -> dt.datetime | None:
    """Of epoch seconds. Raises ValueError, TypeError, OverflowError for what are none."""
    return None if value is None else dt.datetime.fromtimestamp(float(value), dt.UTC)


def _until(
    day: dt.date,
    found: pd.DataFrame,
    meta: Mapping[str, Any],
    calendar: str | None,
    period: _Period | None,
    now: dt.datetime,
) -> dt.datetime | None:
    """When that day's close can be had, which the answer is too old for; None: it is not, as far as one can tell."""
    if calendar is not None and sessions.round_the_clock(calendar):
        return None
    length = _USUAL_LENGTH if period is None else period.length
    # Futures are traded at nearly all hours, and their session ends with the day by Yahoo's word.
    if length >= _ROUND_THE_CLOCK:
        return None
    if period is not None and period.day == day:
        ends: dt.datetime | None = period.ends
    else:
        ends = None if calendar is None else sessions.end(calendar, day)
    at = instant(meta.get("regularMarketTime"))
    if ends is None or at is None or at >= ends or not ends <= now < ends + TRUSTED:
        return None
    # It could be had by now: whoever runs again asks again.
    if now < ends + sessions.DELAY:
        return now
    before = found[found["date"] < pd.Timestamp(day)].tail(_RECENT)
    return None if _may_be_quiet(before, min((ends - at) / length, 1.0)) else now


def _may_be_quiet(before: pd.DataFrame, share: float) -> bool:
    """Whether a security with these bars may have no trade in this share of a session."""
    flat = before[list(bars.PRICES)].nunique(axis=1) <= 1
    return quiet.may_be(before["volume"].astype("float64").tolist(), flat.tolist(), share)


def _period(meta: Mapping[str, Any], zone: ZoneInfo) -> _Period | None:
    regular = (meta.get("currentTradingPeriod") or {}).get("regular") or {}
    opens, closes = (instant(regular.get(name)) for name in ("start", "end"))
    if opens is None or closes is None:
        return None
    return _Period(opens.astimezone(zone).date(), closes, closes - opens)


def _midnight_after(day: dt.date, zone: ZoneInfo) -> dt.datetime:
    return dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), zone).astimezone(dt.UTC)
