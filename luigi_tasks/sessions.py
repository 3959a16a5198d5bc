"""Which days an exchange trades on, and when such a day is over, by the calendars of exchange_calendars.

Yahoo names exchanges by codes of its own; those that are in no doubt are translated here, all others are not known, and
nothing may be concluded for them. Days are calendar days where the exchange is; instants are compared in UTC.
"""

from __future__ import annotations

import datetime as dt
import importlib
import importlib.resources
import warnings
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from functools import cache
from zoneinfo import ZoneInfo

_CRYPTO, _CURRENCIES = "24/7", "24/5"

# The calendar's name, the codes that have it. Left out on purpose: ATH and TLV (with pandas 3, exchange_calendars 4.13
# cannot make Athens, and makes Tel Aviv without its holidays), futures, and indices that several exchanges share.
_CODES = {
    # New York's days are those of every American exchange, fund (NAS), over-the-counter market and index.
    "XNYS": "NMS NGM NCM NAS NYQ ASE PCX BTS PNK OQB OQX SNP DJI NIM WCB",
    "XTSE": "TOR VAN",
    "XMEX": "MEX",
    "BVMF": "SAO",
    "XBUE": "BUE",
    "XSGO": "SGO",
    "XETR": "GER",
    "XFRA": "FRA",
    "XSTU": "STU",
    "XDUS": "DUS",
    "XHAM": "HAM",
    "XLON": "LSE IOB",
    "XDUB": "ISE",
    "XPAR": "PAR",
    "XAMS": "AMS",
    "XBRU": "BRU",
    "XLIS": "LIS",
    "XMIL": "MIL",
    "XMAD": "MCE",
    "XSWX": "EBS",
    "XSTO": "STO",
    "XCSE": "CPH",
    "XHEL": "HEL",
    "XOSL": "OSL",
    "XICE": "ICE",
    "XTAL": "TAL",
    "XRIS": "RIS",
    "XLIT": "LIT",
    "XWBO": "VIE",
    "XWAR": "WSE",
    "XPRA": "PRA",
    "XBUD": "BUD",
    "XIST": "IST",
    "XJSE": "JNB",
    "XSAU": "SAU",
    "XBOM": "NSI BSE",
    "XTKS": "JPX OSA",
    "XHKG": "HKG",
    "XSHG": "SHH SHZ",
    "XTAI": "TAI TWO",
    "XKRX": "KSC KOE",
    "XSES": "SES",
    "XBKK": "SET",
    "XIDX": "JKT",
    "XKLS": "KLS",
    "XASX": "ASX",
    "XNZE": "NZE",
    _CRYPTO: "CCC",
    _CURRENCIES: "CCY",
}
_CALENDARS = {code: name for name, codes in _CODES.items() for code in codes.split()}

_FIRST = dt.date(1990, 1, 1)
# India's: an hour in the evening of Diwali (Muhurat), Saturdays on which they try their second site, and the Sundays of
# a budget. They are announced some weeks ahead.
_SPECIAL = ("NSI", "BSE")
VALUED_LATE = ("MUTUALFUND", "MONEYMARKET")
"""Types of securities, by Yahoo's word, that have a value a day and no trades; it comes hours after the close."""

DELAY = dt.timedelta(minutes=45)
"""After a session's end: by then answers for a delayed exchange have its close (15 to 30 minutes, and some more)."""

# Years of which the library has the holidays, where it does not say so itself.
_RECORDED = {"XIDX": (dt.date(2002, 1, 1), dt.date(2025, 12, 31))}
# Trading places that the library takes to close earlier than they do: Frankfurt's floor has not Xetra's hours.
_CLOSES = {"XFRA": dt.time(22)}

_DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class _Calendar:
    """What is known from `first` to `last`: the sessions, and the instant (UTC) at which each is over."""

    first: dt.date
    last: dt.date
    zone: ZoneInfo
    days: list[dt.date]
    ends: list[dt.datetime]


def calendar_of(exchange: str | None) -> str | None:
    """The name of the calendar for Yahoo's code of an exchange (`exchangeName`); None: not known."""
    return None if exchange is None else _CALENDARS.get(exchange)


def round_the_clock(calendar: str) -> bool:
    """Whether it is traded at all hours of its days, so that a session ends with its day and not with a close."""
    return calendar in (_CRYPTO, _CURRENCIES)


def has_special_sessions(exchange: str | None) -> bool:
    """Whether it is known to trade now and then on days on which its calendar is closed."""
    return exchange in _SPECIAL


def valued_late(quote_type: str | None) -> bool:
    """Whether its bar of a session comes hours after the close: see `VALUED_LATE`."""
    return quote_type in VALUED_LATE


def same_zone(one: str, other: str) -> bool:
    """Whether two IANA names are of one time zone: Asia/Calcutta has been Asia/Kolkata since 2008."""
    return one == other or _canonical(one) == _canonical(other)


def known(calendar: str) -> tuple[dt.date, dt.date]:
    """The first and the last day of which the calendar tells: at most from 1990 to the end of next year."""
    found = _calendar(calendar)
    return found.first, found.last


def sessions(calendar: str, first: dt.date, last: dt.date) -> list[dt.date]:
    """The sessions from `first` to `last`, both included, in order; only those within `known(calendar)`."""
    days = _calendar(calendar).days
    return days[bisect_left(days, first) : bisect_right(days, last)]


def over(calendar: str, day: dt.date, now: dt.datetime) -> bool:
    """Whether the session of that day is over at `now` (with a zone), on half days from the early close on.

    A day that is no session, or that the calendar does not tell of, is over when it is past where the exchange is.
    """
    ends = end(calendar, day) or _midnight_after(day, _calendar(calendar).zone)
    return _in_utc(now) >= ends


def end(calendar: str, day: dt.date) -> dt.datetime | None:
    """The instant (UTC) at which the session of that day is over; None where the calendar knows no session of it."""
    found = _calendar(calendar)
    place = bisect_left(found.days, day)
    return found.ends[place] if place < len(found.days) and found.days[place] == day else None


def last_over(calendar: str, now: dt.datetime) -> dt.date | None:
    """The latest session that is over at `now` (with a zone); None where the calendar does not tell of that time."""
    found, instant = _calendar(calendar), _in_utc(now)
    place = bisect_right(found.ends, instant)
    # After its last day the calendar's last session would be the latest one for ever.
    if place == 0 or instant >= _midnight_after(found.last, found.zone):
        return None
    return found.days[place - 1]


@cache
def _calendar(name: str) -> _Calendar:
    # A day is known to be one some time ahead; the end of next year is as far as most exchanges announce.
    last = dt.date(dt.datetime.now(dt.UTC).year + 1, 12, 31)
    if name == _CRYPTO:
        return _round_the_clock("UTC", range(7), last)
    if name == _CURRENCIES:
        return _round_the_clock("Europe/London", range(5), last)
    return _from_library(name, last)


def _round_the_clock(zone_name: str, weekdays: range, last: dt.date) -> _Calendar:
    zone = ZoneInfo(zone_name)
    every = map(dt.date.fromordinal, range(_FIRST.toordinal(), last.toordinal() + 1))
    days = [day for day in every if day.weekday() in weekdays]
    return _Calendar(_FIRST, last, zone, days, [_midnight_after(day, zone) for day in days])


def _from_library(name: str, last: dt.date) -> _Calendar:
    # Here, not above: it costs 0.1 s, and pandas.
    module = importlib.import_module(f"exchange_calendars.exchange_calendar_{name.lower()}")
    kind = getattr(module, f"{name}ExchangeCalendar")
    first, recorded = _RECORDED.get(name, (_FIRST, last))
    # Outside of its bounds the library refuses to make a calendar at all.
    lowest, highest = kind.bound_min(), kind.bound_max()
    first = first if lowest is None else max(first, lowest.date())
    last = min(last, recorded) if highest is None else min(last, recorded, highest.date())
    with warnings.catch_warnings():
        # About what will change in pandas 4; yfinance turns such warnings on for everybody.
        warnings.simplefilter("ignore", DeprecationWarning)
        made = kind(start=first.isoformat(), end=last.isoformat())
    days = [day.date() for day in made.sessions.to_pydatetime()]
    ends = [end.astimezone(dt.UTC) for end in made.closes.dt.to_pydatetime()]
    if name in _CLOSES:
        ends = [dt.datetime.combine(day, _CLOSES[name], made.tz).astimezone(dt.UTC) for day in days]
    return _Calendar(first, last, made.tz, days, ends)


def _canonical(zone: str) -> str:
    return _links().get(zone, zone)


@cache
def _links() -> dict[str, str]:
    """{alias: name} by the time zone database itself, whose lines of links are "L name alias"."""
    text = importlib.resources.files("tzdata").joinpath("zoneinfo", "tzdata.zi").read_text(encoding="ascii")
    links = [line.split() for line in text.splitlines() if line.startswith("L ")]
    found = {alias: name for _, name, alias in links}
    # A link may be to a link.
    return {alias: found.get(name, name) for alias, name in found.items()}


def _in_utc(now: dt.datetime) -> dt.datetime:
    if now.utcoffset() is None:
        raise ValueError(f"{now} has no zone: whether a session is over cannot be told")
    return now.astimezone(dt.UTC)


def _midnight_after(day: dt.date, zone: ZoneInfo) -> dt.datetime:
    return dt.datetime.combine(day + _DAY, dt.time(), zone).astimezone(dt.UTC)
