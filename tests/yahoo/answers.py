"""What Yahoo Finance says, in its own JSON, while nothing is wrong; `server.py` is how it comes to be said."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

Endpoint = Literal["chart", "tz", "summary", "quote", "timeseries", "cookie", "crumb", "connect", "other"]

CRUMB = "loop/Back.1"
# Calendar days back from the last bar: Yahoo's own ranges begin within a few days of that.
RANGES = {"1d": 1, "5d": 7, "1mo": 31, "3mo": 92, "6mo": 184, "1y": 366, "2y": 731, "5y": 1827, "max": 100_000}


@dataclass(frozen=True)
class Answer:
    """An HTTP response; `cookie` is the value of Set-Cookie, if any, `promised` a Content-Length that is not true."""

    status: int
    body: bytes
    content_type: str = "text/html"
    cookie: str = ""
    promised: int = 0


@dataclass
class Security:
    """What is served of one ticker. The lists go row by row; `stamps` are epoch seconds, `columns` JSON values."""

    meta: dict[str, Any]
    info: Mapping[str, object]
    stamps: list[int]
    columns: dict[str, list[float | str | None]]
    events: dict[str, list[dict[str, Any]]]
    """dividends, splits and capitalGains, each with its date, in epoch seconds."""
    opens: dt.datetime
    closes: dt.datetime
    said: dict[str, Any] = field(default_factory=dict)
    """Fields of meta that are always so."""
    lasts: dt.timedelta | None = None
    """The session ends so long after the first answer from now on."""

    def chart(self, query: Mapping[str, str]) -> Answer:
        """The rows whose stamp is in [period1, period2), or in `range`."""
        span, interval = query.get("range", ""), query.get("interval", "1d")
        if interval != "1d" or ("period1" not in query and span not in RANGES):
            return error("chart", 422, "Unprocessable Entity", f"Not served here: interval={interval} range={span}")
        if self.lasts is not None:
            self.closes, self.lasts = dt.datetime.now(self.closes.tzinfo) + self.lasts, None
        end = max(self.stamps) + 1
        start = end - 86_400 * RANGES.get(span, 0)
        if "period1" in query:
            start, end = int(query["period1"]), int(query["period2"])
            asked = f"startDate = {start}, endDate = {end}"
            if start >= end:
                words = f"Invalid input - start date cannot be after end date. {asked}"
                return error("chart", 400, "Bad Request", words)
            if end <= min(self.stamps):
                return error("chart", 400, "Bad Request", f"Data doesn't exist for {asked}")
        rows = [row for row, stamp in enumerate(self.stamps) if start <= stamp < end]
        quote = {name: [values[row] for row in rows] for name, values in self.columns.items()}
        indicators: dict[str, Any] = {}
        if "adjclose" in quote:
            adjusted = {"adjclose": quote.pop("adjclose")}
            indicators["adjclose"] = [adjusted if rows else {}]
        indicators["quote"] = [quote if rows else {}]
        result: dict[str, Any] = {
            "meta": {**self.meta, **self._session(), "range": span, **self.said},
            "indicators": indicators,
        }
        if rows:
            result["timestamp"] = [self.stamps[row] for row in rows]
        if "events" in query:
            events = {
                kind: _keyed(each for each in listed if start <= each["date"] < end)
                for kind, listed in self.events.items()
            }
            if any(events.values()):
                result["events"] = {kind: each for kind, each in events.items() if each}
        return ok("chart", [result])

    def add_event(self, stamp: int, kind: str, number: float, currency: str | None = None) -> None:
        """`kind` is dividends, capitalGains, or splits, of which the number is the ratio."""
        if kind != "splits":
            event: dict[str, Any] = {"amount": cell(number), "date": stamp}
            self.events.setdefault(kind, []).append(event | ({"currency": currency} if currency else {}))
            return
        # Yahoo states a split as a fraction; this one is exactly the ratio that was given.
        simple = Fraction(number).limit_denominator(1000)
        new, old = simple.as_integer_ratio() if float(simple) == number else (number, 1)
        event = {"date": stamp, "numerator": new, "denominator": old, "splitRatio": f"{new}:{old}"}
        self.events.setdefault(kind, []).append(event)

    def _session(self) -> dict[str, Any]:
        """The part of meta that tells where the current session begins and ends."""
        early, late = self.opens - dt.timedelta(hours=5, minutes=30), self.closes + dt.timedelta(hours=4)
        periods = {"pre": (early, self.opens), "regular": (self.opens, self.closes), "post": (self.closes, late)}
        offset = self.opens.utcoffset() or dt.timedelta()
        zone = {"timezone": self.opens.tzname(), "gmtoffset": int(offset.total_seconds())}
        return {
            **zone,
            "regularMarketTime": int(min(self.closes, dt.datetime.now(dt.UTC)).timestamp()),
            "currentTradingPeriod": {
                name: {**zone, "start": int(start.timestamp()), "end": int(end.timestamp())}
                for name, (start, end) in periods.items()
            },
        }

    def fields(self) -> dict[str, object]:
        """What quoteSummary and quote both say of the security; `info` wins over meta."""
        fields = {
            "quoteType": self.meta["instrumentType"],
            "exchange": self.meta["exchangeName"],
            "currentPrice": self.meta["regularMarketPrice"],
            **{name: self.meta[name] for name in ("symbol", "shortName", "longName", "currency")},
            **{name: self.meta[name] for name in ("fullExchangeName", "exchangeTimezoneName")},
        }
        return {name: self.info.get(name, value) for name, value in fields.items()}

    def quote(self) -> dict[str, object]:
        """What a quote says: of the newest bar, and the close before it; market value and shares from `info`."""
        days = sorted(range(len(self.stamps)), key=lambda row: self.stamps[row])
        closes = [self.columns["close"][row] for row in days]
        numbers = ("marketCap", "sharesOutstanding")
        return {
            **self.fields(),
            **{name: self.info[name] for name in numbers if name in self.info},
            "regularMarketTime": self._session()["regularMarketTime"],
            "regularMarketPrice": closes[-1],
            "regularMarketPreviousClose": closes[-2] if len(closes) > 1 else None,
            "firstTradeDateMilliseconds": 1000 * min(self.stamps),
        }


def answer(
    securities: Mapping[str, Security], endpoint: Endpoint, ticker: str, query: Mapping[str, str], cookies: str
) -> Answer:
    """The answer of a Yahoo that lists these securities, by ticker, and demands cookie and crumb where Yahoo does."""
    security, admitted = securities.get(ticker), "A3=" in cookies
    if endpoint == "cookie":
        cookie = "A3=loopback; Max-Age=31536000; Domain=.yahoo.com; Path=/; Secure"
        return Answer(404, b"<html>Not found</html>", cookie=cookie)
    if endpoint == "crumb":
        return Answer(200, CRUMB.encode(), "text/plain") if admitted else refusal(401)
    if endpoint in ("chart", "tz"):
        gone = error("chart", 404, "Not Found", "No data found, symbol may be delisted")
        return security.chart(query) if security else gone
    if endpoint in ("summary", "quote") and not (admitted and query.get("crumb") == CRUMB):
        return refusal(401)
    if endpoint == "summary":
        if security is None:
            return error("quoteSummary", 404, "Not Found", f"Quote not found for symbol: {ticker}")
        modules = {"quoteType": security.fields(), "assetProfile": {"maxAge": 86_400, **security.info}}
        wanted = query.get("modules", "").split(",")
        return ok("quoteSummary", [{name: modules[name] for name in modules if name in wanted}])
    if endpoint == "quote":
        named = [securities[symbol] for symbol in ticker.split(",") if symbol in securities]
        return ok("quoteResponse", [each.quote() for each in named])
    if endpoint == "timeseries":
        name = query.get("type", "")
        series: dict[str, object] = {"meta": {"symbol": [ticker], "type": [name]}}
        if security and name in security.info:
            series[name] = [{"asOfDate": "2020-01-01", "reportedValue": {"raw": security.info[name]}}]
        return ok("timeseries", [series])
    return error("finance", 404, "Not Found", "No such path")


def ok(root: str, result: list[Any]) -> Answer:
    """Yahoo's JSON around a result."""
    return Answer(200, json.dumps({root: {"result": result, "error": None}}).encode(), "application/json")


def _keyed(events: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By their instants, as Yahoo sends them; of several at one instant, each after the other."""
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        key = int(event["date"])
        while str(key) in found:
            key += 1
        found[str(key)] = event
    return found


def without_rows(reply: Answer) -> Answer:
    """The chart's meta alone, as Yahoo answers for a range without sessions, and at times under load."""
    document = json.loads(reply.body)
    [result] = document["chart"]["result"]
    result.pop("timestamp", None)
    result["indicators"] = {"quote": [{}], "adjclose": [{}]}
    return ok("chart", [result])


def error(root: str, status: int, code: str, description: str) -> Answer:
    """Yahoo's JSON around a reason."""
    value = {root: {"result": None, "error": {"code": code, "description": description}}}
    return Answer(status, json.dumps(value).encode(), "application/json")


def refusal(status: int) -> Answer:
    """An answer with this status that is not about any security."""
    if status == 401:
        return error("finance", 401, "Unauthorized", "Invalid Crumb")
    return Answer(status, b"Edge: Too Many Requests" if status == 429 else b"<html>Error %d</html>" % status)


def cell(value: float) -> float | str | None:
    """A number of a chart as Yahoo writes it: NaN is null, infinity a string."""
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return None if math.isnan(value) else value
