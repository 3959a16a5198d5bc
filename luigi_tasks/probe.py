"""What a quote tells of a security's bars: that there is no new one, or that the stored ones may be others by now.

A quote is asked for fifty securities at once, so it costs next to nothing; and it is no bar: what others have compared
differed from the day's bar in 16 of 17. So nothing of it is stored as one, and nothing is missed by it: where it does
not tell, or tells something that does not fit, the bars are asked for as without it.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from luigi_tasks import quiet, sessions
from luigi_tasks.schedule import Stored

ROUNDING = 1e-5
"""Relative difference of two closes that is none: a chart has single precision, a quote is rounded."""
_DIGITS = 4
"""After the point, of the closes in quotes: half of the last one is no difference either."""


@dataclass(frozen=True)
class Quote:
    """What counts of a quote: when it was asked for, the local day of the last trade, and the close before that day,
    in the currency of the prices."""

    asked_at: dt.datetime
    traded: dt.date
    previous_close: float | None


def read(document: Mapping[str, Any]) -> Quote | None:
    """Of {asked_at: ISO instant, quote: Yahoo's own fields}; None where it does not say when there was a trade."""
    answer = document["quote"]
    try:
        zone = ZoneInfo(answer["exchangeTimezoneName"])
        traded = dt.datetime.fromtimestamp(int(answer["regularMarketTime"]), dt.UTC).astimezone(zone).date()
    except (LookupError, ValueError, TypeError, OSError, OverflowError):
        return None
    close = answer.get("regularMarketPreviousClose")
    usable = isinstance(close, (int, float)) and not isinstance(close, bool) and math.isfinite(close) and close > 0
    return Quote(dt.datetime.fromisoformat(document["asked_at"]), traded, float(close) if usable else None)


def nothing_new(quote: Quote, stored: Stored, exchange: str | None, as_of: dt.date) -> bool:
    """Whether the security has no bar up to the as-of date that is not stored as it stays.

    That is so where its last trade was in the newest stored session, which is settled, and each later session up to
    the as-of date was over, by the exchange's calendar and the longest delay of its answers, when the quote was asked
    for. A quote may come out of a cache, hours old: if there was such a session, the security must be one that is so
    seldom traded that it may have passed without a trade.
    """
    calendar = sessions.calendar_of(exchange)
    if calendar is None or not stored.latest or stored.unfilled_from is not None or stored.accepted:
        return False
    if restated(quote, stored, exchange):
        return False
    newest = stored.latest[-1]
    if newest.provisional or quote.traded != newest.date or sessions.known(calendar)[1] < as_of:
        return False
    later = sessions.sessions(calendar, newest.date + dt.timedelta(days=1), as_of)
    if later and not quiet.may_be([bar.volume for bar in stored.latest], [bar.flat for bar in stored.latest]):
        return False
    return all(sessions.over(calendar, day, quote.asked_at - sessions.DELAY) for day in later)


def restated(quote: Quote, stored: Stored, exchange: str | None) -> str:
    """Why the stored bars may be others by now, in words: the close before the last trade's day is not the stored one.

    Empty where it is the same, or where it cannot be told which stored bar it would be.
    """
    calendar = sessions.calendar_of(exchange)
    before = [bar for bar in stored.latest if bar.date < quote.traded]
    if calendar is None or not before or quote.previous_close is None:
        return ""
    day = dt.timedelta(days=1)
    if sessions.sessions(calendar, before[-1].date + day, quote.traded - day):
        return ""
    was, now = before[-1].close, quote.previous_close
    if abs(now - was) <= max(ROUNDING * was, 0.5 * 10**-_DIGITS):
        return ""
    return f"the close of {before[-1].date} is {now:g} by the quote, and {was:g} is stored"
