"""What is read from a chart's document by ourselves: corporate actions, and what it does not know.

yfinance drops the currency of a dividend, moves what happens on a day without a bar to the session before, gives
capital gains for some types of securities only, takes the close for the adjusted close where there is none, and 0 for a
volume that is not known.
"""

from __future__ import annotations

import copy
import datetime as dt
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from luigi_tasks import bars
from luigi_tasks.currencies import MINOR_UNITS, major
from luigi_tasks.errors import AnswerNotUnderstood


@dataclass(frozen=True)
class Chart:
    """The parts of a chart's document that yfinance is not given, or that it changes."""

    meta: dict[str, Any]
    events: Mapping[str, Any]
    """{dividends, splits, capitalGains: {key: {date: epoch seconds, …}}}, as in the answer."""
    lacks: list[str]
    """Columns of bars that the answer does not have at all."""
    without_volume: Sequence[int] = ()
    """Epoch seconds of the bars whose volume is not known."""

    @classmethod
    def of(cls, document: Any) -> Chart:
        """Takes the events out of the document, which is a dict of one result with a meta."""
        result = document["chart"]["result"][0]
        events, lacks = result.pop("events", None) or {}, []
        if not _has_adjusted(result.get("indicators")):
            lacks.append("adj_close")
            if isinstance(result.get("indicators"), dict):
                result["indicators"].pop("adjclose", None)
        return cls(copy.deepcopy(result["meta"]), events, lacks, _without_volume(result))

    def days_without_volume(self) -> list[dt.date]:
        """The days of the bars whose volume is not known. Raises like `actions`."""
        zone = ZoneInfo(str(self.meta["exchangeTimezoneName"])) if self.without_volume else None
        return [_day_of({"date": stamp}, zone) for stamp in self.without_volume] if zone else []

    def actions(self, ticker: str, start: dt.date, end: dt.date) -> list[dict[str, Any]]:
        """The corporate actions of these days, in order, one entry a day: see `luigi_tasks.bars.ACTIONS`.

        Several of a kind on one day are one: dividends and gains add up, splits multiply. A number that is none is NaN
        or infinite, as in the answer.

        Raises:
            AnswerNotUnderstood: two dividends of one day have currencies that cannot be added.
            LookupError, ValueError, TypeError, AttributeError: the events are odd.
        """
        zone, priced_in = ZoneInfo(str(self.meta["exchangeTimezoneName"])), self.meta.get("currency")
        found: dict[dt.date, dict[str, Any]] = {}
        for kind, events in self.events.items():
            for event in _each(events):
                day = _day_of(event, zone)
                if not start <= day <= end:
                    continue
                of_day = found.setdefault(day, dict.fromkeys(bars.AMOUNTS, 0.0) | {"currencies": set()})
                if kind == "splits":
                    of_day["stock_splits"] = (of_day["stock_splits"] or 1.0) * _ratio(event)
                elif kind in ("dividends", "capitalGains"):
                    amount, currency = in_currency(_number(event["amount"]), event.get("currency"), priced_in)
                    of_day["dividends" if kind == "dividends" else "capital_gains"] += amount
                    of_day["currencies"] |= {currency} if kind == "dividends" else set()
        for day, of_day in found.items():
            currencies = of_day.pop("currencies") or {None}
            if len(currencies) > 1:
                named = ", ".join(sorted(str(each or priced_in) for each in currencies))
                raise AnswerNotUnderstood(ticker, f"it has dividends in {named} on {day}, which is one day")
            of_day |= {"date": str(day), "dividend_currency": currencies.pop()}
        told = [of_day for of_day in found.values() if any(of_day[name] for name in bars.AMOUNTS)]
        return sorted(told, key=lambda of_day: str(of_day["date"]))


def in_currency(amount: float, currency: Any, priced_in: Any) -> tuple[float, str | None]:
    """The amount in the currency of the prices, and None; or as it is, and its currency, where that is not sure."""
    if not currency or currency == priced_in:
        return amount, None
    if major(currency) != major(priced_in):
        return amount, str(currency)
    _, of_event = MINOR_UNITS.get(currency, ("", 1.0))
    _, of_price = MINOR_UNITS.get(priced_in, ("", 1.0))
    return (amount if of_event == of_price else amount * of_price / of_event), None


def _has_adjusted(indicators: Any) -> bool:
    try:
        values = indicators["adjclose"][0]["adjclose"]
        return isinstance(values, list) and any(value is not None for value in values)
    except (LookupError, TypeError):
        return False


def _without_volume(result: Any) -> list[int]:
    try:
        stamps, volumes = result["timestamp"], result["indicators"]["quote"][0]["volume"]
        # Of ten years it takes a tenth of a millisecond to see that all are known.
        return (
            [stamp for stamp, volume in zip(stamps, volumes, strict=True) if volume is None] if None in volumes else []
        )
    except (LookupError, TypeError, ValueError):
        return []


def _each(events: Any) -> Iterable[Mapping[str, Any]]:
    """Yahoo keys them by their instant."""
    each: Iterable[Mapping[str, Any]] = events.values() if isinstance(events, Mapping) else events or ()
    return each


def _day_of(event: Mapping[str, Any], zone: ZoneInfo) -> dt.date:
    """Its local day. Some winters of some zones have their midnight an hour or two early, see yfinance's
    `fix_Yahoo_dst_issue`, by which the bars' days are worked out."""
    local = dt.datetime.fromtimestamp(event["date"], zone)
    if local.minute == 0 and local.hour in (22, 23):
        return local.date() + dt.timedelta(days=1)
    return local.date()


def _ratio(event: Mapping[str, Any]) -> float:
    new, old = _number(event["numerator"]), _number(event["denominator"])
    if not old:
        return math.nan if not new else math.inf
    return new / old


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)
