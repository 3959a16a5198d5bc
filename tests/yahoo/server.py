"""A Yahoo Finance on 127.0.0.1 for tests: real HTTP and real TLS in front of made-up securities.

A client process is pointed at it by environment variables and by nothing else: HTTPS_PROXY makes it ask for a tunnel
to *.yahoo.com, the tunnel ends here, and the certificate is good by a CA that lives as long as the server. Nothing is
passed on to the internet; a tunnel to any other host is refused with 403.

    with LoopbackYahoo(tmp_path) as yahoo:
        yahoo.add("AAA", bars)
        yahoo.fault("BBB", 503, endpoint="chart", times=2)
        subprocess.run(command, env={**os.environ, **yahoo.environment()})
        assert yahoo.count("chart", "AAA") == 1
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Self, get_args
from urllib.parse import parse_qsl, unquote, urlsplit
from zoneinfo import ZoneInfo

import pandas as pd
import trustme

Endpoint = Literal["chart", "tz", "summary", "quote", "timeseries", "cookie", "crumb", "connect", "other"]
Page = Literal["html", "down", "blank"]
FaultKind = int | Page | Literal["reset", "hang", "truncate"]

CRUMB = "loop/Back.1"
OPENS, CLOSES = dt.time(9, 30), dt.time(16, 0)
RANGES = ("1d", "5d", "1mo", "3mo", "6mo", "1y", "2y", "5y", "10y", "ytd", "max")

_PATHS: dict[str, Endpoint] = {
    "/v8/finance/chart/": "chart",
    "/v10/finance/quoteSummary/": "summary",
    "/ws/fundamentals-timeseries/v1/finance/timeseries/": "timeseries",
}
_PAGES: dict[str, bytes] = {
    "html": b"<!DOCTYPE html><html><head><title>Yahoo</title></head><body>One moment</body></html>",
    "down": b"<!DOCTYPE html><html><body><h1>Will be right back...</h1></body></html>",
    "blank": b"",
}


@dataclass(frozen=True)
class Request:
    """A request as it came in; `status` 0 means that no answer was sent, `ticker` is "" where none was named."""

    endpoint: Endpoint
    ticker: str
    status: int
    query: dict[str, str]


@dataclass
class _Fault:
    glob: str
    kind: FaultKind
    endpoint: Endpoint | None
    times: int | None
    used: Counter[tuple[str, str]] = field(default_factory=Counter)

    def takes(self, endpoint: Endpoint, ticker: str) -> bool:
        """Whether this request is to fail; counts it if so."""
        if not (endpoint == self.endpoint if self.endpoint else ticker) or not fnmatchcase(ticker, self.glob):
            return False
        self.used[endpoint, ticker] += 1
        return self.times is None or self.used[endpoint, ticker] <= self.times


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes
    content_type: str = "application/json;charset=utf-8"
    cookie: str = ""


def _json(value: object, status: int = 200) -> _Answer:
    return _Answer(status, json.dumps(value).encode())


def _error(root: str, status: int, code: str, description: str) -> _Answer:
    return _json({root: {"result": None, "error": {"code": code, "description": description}}}, status)


def _html(status: int, body: bytes) -> _Answer:
    return _Answer(status, body, "text/html")


def _cell(value: float) -> float | str | None:
    """A price as Yahoo writes it: a gap is null, infinity is a string."""
    return None if math.isnan(value) else value if math.isfinite(value) else repr(value).replace("inf", "Infinity")


@dataclass
class _Security:
    """What is served of one ticker. `stamps` are epoch seconds of the openings, in the order of the bars."""

    meta: dict[str, Any]
    zone: ZoneInfo
    stamps: list[int]
    columns: dict[str, list[float | str | None]]
    dividends: dict[int, float]
    splits: dict[int, float]
    info: Mapping[str, object]
    opens: dt.datetime
    closes: dt.datetime
    last_trade: int

    def chart(self, query: Mapping[str, str]) -> _Answer:
        """The bars whose stamp is in [period1, period2) or in `range`, which counts back from the last bar."""
        if (interval := query.get("interval", "1d")) != "1d":
            return _error("chart", 422, "Unprocessable Entity", f"Invalid input - interval={interval} is not supported")
        span, start, end = query.get("range", ""), 0, max(self.stamps) + 1
        if "period1" in query:
            start, end = int(query["period1"]), int(query["period2"])
            asked = f"startDate = {start}, endDate = {end}"
            if start >= end:
                text = f"Invalid input - start date cannot be after end date. {asked}"
                return _error("chart", 400, "Bad Request", text)
            if end <= min(self.stamps):
                return _error("chart", 400, "Bad Request", f"Data doesn't exist for {asked}")
        elif (begins := self._start_of(span)) is not None:
            start = begins
        else:
            return _error("chart", 400, "Bad Request", f"Invalid input - range={span}")
        rows = [row for row, stamp in enumerate(self.stamps) if start <= stamp < end]
        result: dict[str, Any] = {"meta": {**self.meta, **self._session(), "range": span}}
        if not rows:
            result["indicators"] = {"quote": [{}], "adjclose": [{}]}
            return _json({"chart": {"result": [result], "error": None}})
        shown = [self.stamps[row] for row in rows]
        columns = {name: [values[row] for row in rows] for name, values in self.columns.items()}
        result["timestamp"] = shown
        if events := self._events(shown, query.get("events", "")):
            result["events"] = events
        adjusted = columns.pop("adjclose")
        result["indicators"] = {"quote": [columns], "adjclose": [{"adjclose": adjusted}]}
        return _json({"chart": {"result": [result], "error": None}})

    def _start_of(self, span: str) -> int | None:
        """The first instant of a range; None if there is no such range."""
        last = pd.Timestamp(max(self.stamps), unit="s", tz=self.zone).normalize()
        if span == "max":
            return 0
        if span == "ytd":
            return int(last.replace(month=1, day=1).timestamp())
        if (match := re.fullmatch(r"([1-9]\d{0,2})(d|wk|mo|y)", span)) is None:
            return None
        number, unit = int(match[1]), match[2]
        if unit == "d":
            return sorted(self.stamps)[-number:][0]
        months = {"wk": 0, "mo": number, "y": 12 * number}[unit]
        return int((last - pd.DateOffset(months=months, days=7 * number if unit == "wk" else 0)).timestamp())

    def _events(self, stamps: list[int], asked: str) -> dict[str, Any]:
        events: dict[str, Any] = {}
        if "div" in asked and (paid := [s for s in stamps if s in self.dividends]):
            events["dividends"] = {str(s): {"amount": self.dividends[s], "date": s} for s in paid}
        if "split" in asked and (split := [s for s in stamps if s in self.splits]):
            events["splits"] = {str(s): _split(s, self.splits[s]) for s in split}
        return events

    def _session(self) -> dict[str, Any]:
        """The part of the meta that depends on whether the market is open."""
        early, late = self.opens - dt.timedelta(hours=5, minutes=30), self.closes + dt.timedelta(hours=4)
        bounds = {"pre": (early, self.opens), "regular": (self.opens, self.closes), "post": (self.closes, late)}
        periods = {
            name: {
                "timezone": start.tzname(),
                "gmtoffset": _offset(start),
                "start": int(start.timestamp()),
                "end": int(end.timestamp()),
            }
            for name, (start, end) in bounds.items()
        }
        zone = {"timezone": self.opens.tzname(), "gmtoffset": _offset(self.opens)}
        return {**zone, "regularMarketTime": self.last_trade, "currentTradingPeriod": periods}

    def modules(self) -> dict[str, dict[str, object]]:
        """The modules of quoteSummary; `info` wins over what is made up here."""
        symbol, zone = self.meta["symbol"], self.meta["exchangeTimezoneName"]
        modules: dict[str, dict[str, object]] = {
            "quoteType": {
                "symbol": symbol,
                "quoteType": self.meta["instrumentType"],
                "exchange": self.meta["exchangeName"],
                "shortName": self.meta["shortName"],
                "longName": self.meta["longName"],
                "timeZoneFullName": zone,
            },
            "summaryDetail": {"currency": self.meta["currency"]},
            "financialData": {"currentPrice": self.meta["regularMarketPrice"]},
        }
        known = {name: {**fields, **_common(self.info, fields)} for name, fields in modules.items()}
        return {**known, "assetProfile": {"maxAge": 86400, **self.info}}

    def quote(self) -> dict[str, object]:
        """The element of /v7/finance/quote."""
        modules = self.modules()
        fields: dict[str, object] = {
            "language": "en-US",
            "region": "US",
            "fullExchangeName": self.meta["fullExchangeName"],
            "exchangeTimezoneName": self.meta["exchangeTimezoneName"],
            "regularMarketPrice": self.meta["regularMarketPrice"],
            "regularMarketTime": self.last_trade,
        }
        return {**modules["quoteType"], **modules["summaryDetail"], **fields, **_common(self.info, fields)}


def _common(info: Mapping[str, object], fields: Mapping[str, object]) -> dict[str, object]:
    return {name: info[name] for name in fields if name in info}


def _offset(at: dt.datetime) -> int:
    """Seconds east of Greenwich."""
    return int((at.utcoffset() or dt.timedelta()).total_seconds())


def _split(stamp: int, ratio: float) -> dict[str, object]:
    """A split as Yahoo states it, whose numerator divided by its denominator is exactly `ratio`."""
    simple = Fraction(ratio).limit_denominator(1000)
    new, old = (simple.numerator, simple.denominator) if float(simple) == ratio else (ratio, 1)
    return {"date": stamp, "numerator": new, "denominator": old, "splitRatio": f"{new}:{old}"}


class LoopbackYahoo:
    """The server; it answers from a thread of this process while the `with` block lasts."""

    def __init__(self, folder: Path) -> None:
        """`folder` receives the CA's certificate and the caches that yfinance would otherwise keep in the home."""
        self._folder = folder.resolve()
        self._lock = threading.Lock()
        self._securities: dict[str, _Security] = {}
        self._faults: list[_Fault] = []
        self._requests: list[Request] = []
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self._folder / "ca.pem")
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # Chrome, whose hand curl_cffi imitates, would rather speak HTTP/2.
        tls.set_alpn_protocols(["http/1.1"])
        authority.issue_cert("*.yahoo.com", "*.finance.yahoo.com").configure_cert(tls)
        self._server = _Server(self, tls)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="LoopbackYahoo", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.stop()

    def environment(self) -> dict[str, str]:
        """The variables of a client process. They are read at import: set them before the process starts."""
        assert self._server is not None
        proxy, authority = f"http://127.0.0.1:{self._server.server_port}", str(self._folder / "ca.pem")
        return {
            **dict.fromkeys(("HTTPS_PROXY", "https_proxy"), proxy),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost,::1"),
            **dict.fromkeys(("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"), authority),
            # The cookie cache would hand this server's cookie to the developer's next run against the real Yahoo.
            "XDG_CACHE_HOME": str(self._folder / "cache"),
        }

    def add(
        self,
        ticker: str,
        bars: pd.DataFrame,
        *,
        info: Mapping[str, object] | None = None,
        currency: str = "USD",
        exchange: str = "NMS",
        exchange_name: str = "NasdaqGS",
        zone: str = "America/New_York",
        instrument_type: str = "EQUITY",
        symbol_in_answer: str | None = None,
    ) -> None:
        """Serve a ticker, in place of what was served of it before; its market is closed.

        `bars` needs at least one row and the columns date (the local day of the session), open, high, low, close,
        adj_close, volume, dividends (per share) and stock_splits (new shares per old one); rows are served in their
        order, even twice the same day. `info` are fields for yfinance's `Ticker.info`, on top of those made up here.
        """
        if bars.empty:
            raise ValueError(f"{ticker}: no bars; a ticker that is never added is unknown to Yahoo")
        where = ZoneInfo(zone)
        days = [pd.Timestamp(day).date() for day in bars["date"]]
        stamps = [int(dt.datetime.combine(day, OPENS, where).timestamp()) for day in days]
        numbers = {name: [float(value) for value in bars[name]] for name in bars.columns if name != "date"}
        columns = {name: [_cell(value) for value in numbers[name]] for name in ("open", "high", "low", "close")}
        columns["volume"] = [int(v) if v.is_integer() else _cell(v) for v in numbers["volume"]]
        columns["adjclose"] = [_cell(value) for value in numbers["adj_close"]]
        closes = dt.datetime.combine(max(days), CLOSES, where)
        meta = {
            "currency": currency,
            "symbol": symbol_in_answer or ticker,
            "exchangeName": exchange,
            "fullExchangeName": exchange_name,
            "instrumentType": instrument_type,
            "firstTradeDate": min(stamps),
            "hasPrePostMarketData": True,
            "exchangeTimezoneName": zone,
            "regularMarketPrice": columns["close"][stamps.index(max(stamps))],
            "longName": (info or {}).get("longName", f"{ticker} Incorporated"),
            "shortName": (info or {}).get("shortName", ticker),
            "priceHint": 2,
            "dataGranularity": "1d",
            "validRanges": RANGES,
        }
        self._securities[ticker.upper()] = _Security(
            meta,
            where,
            stamps,
            columns,
            {stamp: value for stamp, value in zip(stamps, numbers["dividends"], strict=True) if value > 0},
            {stamp: value for stamp, value in zip(stamps, numbers["stock_splits"], strict=True) if value > 0},
            info or {},
            opens=dt.datetime.combine(max(days), OPENS, where),
            closes=closes,
            last_trade=int(closes.timestamp()),
        )

    def market_open(self, ticker: str) -> dt.date:
        """Put the present moment inside the ticker's regular session; returns the session's local day.

        As on Yahoo, the bar of that day, if it is the last one, then bears the time of the last trade: now.
        """
        security = self._securities[ticker.upper()]
        now = dt.datetime.now(security.zone).replace(microsecond=0)
        opens, closes = (dt.datetime.combine(now.date(), time, security.zone) for time in (OPENS, CLOSES))
        # At any hour, for the tests run at any hour: from this very second if need be, and for an hour more.
        security.opens, security.closes = min(opens, now), max(closes, now + dt.timedelta(hours=1))
        security.last_trade = int(now.timestamp())
        if security.stamps[-1] == int(opens.timestamp()):
            security.stamps[-1] = security.last_trade
            for events in (security.dividends, security.splits):
                if int(opens.timestamp()) in events:
                    events[security.last_trade] = events.pop(int(opens.timestamp()))
        return now.date()

    def fault(
        self, ticker_glob: str, kind: FaultKind, endpoint: Endpoint | None = None, times: int | None = None
    ) -> None:
        """Let requests fail: always, or only the first `times` of each ticker and endpoint from now on.

        `kind` is an HTTP status; "reset" (TCP RST), "hang" (no answer until the server stops), "truncate" (half of the
        JSON, in full by Content-Length), or a page with status 200: "html", "down" ("Will be right back") or "blank".
        Without `endpoint` every one that names a ticker is meant; "crumb" and "cookie" name none: their glob is "*".
        The first fault that fits is the one that happens. Count with the clients' own second attempts: yfinance sends
        a request again at once after any status of 400 and more, and curl after a reset of a connection used before.
        """
        if not isinstance(kind, int) and kind not in (*_PAGES, "reset", "hang", "truncate"):
            raise ValueError(f"no such kind of fault: {kind!r}")
        if endpoint is not None and endpoint not in get_args(Endpoint):
            raise ValueError(f"no such endpoint: {endpoint!r}")
        self._faults.append(_Fault(ticker_glob, kind, endpoint, times))

    def forget_faults(self) -> None:
        """From now on nothing fails."""
        self._faults.clear()

    @property
    def requests(self) -> list[Request]:
        """All requests so far, in the order in which they were answered."""
        with self._lock:
            return list(self._requests)

    def count(self, endpoint: Endpoint | None = None, ticker: str | None = None) -> int:
        """How many requests there were, to this endpoint and for this ticker where given."""
        return sum(endpoint in (None, r.endpoint) and ticker in (None, r.ticker) for r in self.requests)

    def forget_requests(self) -> None:
        """Count from zero again; faults that are counted out stay so."""
        with self._lock:
            self._requests.clear()

    def record(self, request: Request) -> None:
        """For the handlers: note a request."""
        with self._lock:
            self._requests.append(request)

    def fault_of(self, endpoint: Endpoint, ticker: str) -> FaultKind | None:
        """For the handlers: how this request is to fail, if it is."""
        with self._lock:
            return next((fault.kind for fault in self._faults if fault.takes(endpoint, ticker)), None)

    def answer(
        self, endpoint: Endpoint, ticker: str, query: Mapping[str, str], cookies: str, kind: FaultKind | None
    ) -> _Answer:
        """For the handlers: what to send, faults that are an answer included."""
        if isinstance(kind, int):
            return _failure(kind)
        if kind in _PAGES:
            return _html(200, _PAGES[kind])
        answer = self._healthy(endpoint, ticker, query, known="A3=" in cookies)
        if kind == "truncate":
            return _Answer(answer.status, answer.body[: len(answer.body) // 2], answer.content_type, answer.cookie)
        return answer

    def _healthy(self, endpoint: Endpoint, ticker: str, query: Mapping[str, str], known: bool) -> _Answer:
        security = self._securities.get(ticker)
        if endpoint == "cookie":
            life = "Max-Age=31536000; Domain=.yahoo.com; Path=/; Secure; HttpOnly"
            return _Answer(404, b"<html><body>Not here</body></html>", "text/html", f"A3=d=loopback; {life}")
        if endpoint == "crumb":
            return _Answer(200, CRUMB.encode(), "text/plain;charset=utf-8") if known else _failure(401)
        if endpoint in ("chart", "tz"):
            return security.chart(query) if security else _error("chart", 404, "Not Found", "No data found, symbol may be delisted")
        if endpoint in ("summary", "quote") and not (known and query.get("crumb") == CRUMB):
            return _failure(401)
        if endpoint == "summary":
            if security is None:
                return _error("quoteSummary", 404, "Not Found", f"Quote not found for symbol: {ticker}")
            modules = security.modules()
            wanted = {name: modules[name] for name in query.get("modules", "").split(",") if name in modules}
            return _json({"quoteSummary": {"result": [wanted], "error": None}})
        if endpoint == "quote":
            found = [self._securities[name] for name in ticker.split(",") if name in self._securities]
            return _json({"quoteResponse": {"result": [each.quote() for each in found], "error": None}})
        if endpoint == "timeseries":
            name = query.get("type", "")
            series: dict[str, object] = {"meta": {"symbol": [ticker], "type": [name]}}
            if security and name in security.info:
                series[name] = [{"asOfDate": "2020-01-01", "reportedValue": {"raw": security.info[name]}}]
            return _json({"timeseries": {"result": [series], "error": None}})
        return _error("finance", 404, "Not Found", "no such path")


def _failure(status: int) -> _Answer:
    if status == 429:
        return _html(429, b"Edge: Too Many Requests")
    if status == 401:
        return _error("finance", 401, "Unauthorized", "Invalid Crumb")
    return _html(status, b"<html><head><title>Error</title></head><body>%d</body></html>" % status)
