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

import contextlib
import datetime as dt
import socket
import ssl
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler
from itertools import groupby
from pathlib import Path
from socketserver import ThreadingTCPServer
from typing import Any, Literal, Self, get_args
from urllib.parse import parse_qsl, unquote
from zoneinfo import ZoneInfo

import pandas as pd
import trustme

from tests.yahoo.answers import RANGES, Answer, Endpoint, Security, answer, cell, refusal, without_rows

Silence = Literal["reset", "hang"]
FaultKind = int | Silence | Literal["truncate", "partial", "no_rows", "html", "down", "blank"] | Answer

OPENS, CLOSES = dt.time(9, 30), dt.time(16)
_EVENTS = {"dividends": "dividends", "stock_splits": "splits", "capital_gains": "capitalGains"}
"""Column of bars: kind of event."""

_PATHS: dict[str, Endpoint] = {
    "/v8/finance/chart": "chart",
    "/v10/finance/quoteSummary": "summary",
    "/v7/finance": "quote",
    "/ws/fundamentals-timeseries/v1/finance/timeseries": "timeseries",
    "/v1/test": "crumb",
}
_PAGES = {"html": b"<html><body>One moment</body></html>", "down": b"<h1>Will be right back...</h1>", "blank": b""}


@dataclass(frozen=True)
class Request:
    """A request, and the status it was answered with: 0 for no answer. `ticker` is "" where it names none."""

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
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)

    def takes(self, endpoint: Endpoint, ticker: str) -> bool:
        """Whether this request is one of those that fail; to be asked once a request."""
        meant = endpoint == self.endpoint if self.endpoint else ticker != ""
        if not meant or not fnmatchcase(ticker, self.glob):
            return False
        self.seen[endpoint, ticker] += 1
        return self.times is None or self.seen[endpoint, ticker] <= self.times


@dataclass
class _Limit:
    """A token bucket for all clients together, as Yahoo counts by address."""

    a_second: float
    burst: int
    penalty: float
    tokens: float = field(init=False)
    at: float = field(default_factory=time.monotonic)
    shut_until: float = 0.0

    def __post_init__(self) -> None:
        self.tokens = self.burst

    def admits(self) -> bool:
        now = time.monotonic()
        if now < self.shut_until:
            return False
        self.tokens, self.at = min(self.burst, self.tokens + (now - self.at) * self.a_second), now
        if self.tokens < 1:
            self.shut_until = now + self.penalty
            return False
        self.tokens -= 1
        return True


class LoopbackYahoo:
    """The server: it answers from threads of this process while the `with` block lasts."""

    def __init__(self, folder: Path) -> None:
        """`folder` receives the CA's certificate, and the caches that yfinance would otherwise keep in the home."""
        self._folder = folder.resolve()
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._securities: dict[str, Security] = {}
        self._faults: list[_Fault] = []
        self._requests: list[Request] = []
        self._limit: _Limit | None = None
        authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.cert_pem.write_to_path(self._folder / "ca.pem")
        authority.issue_cert("*.yahoo.com", "*.finance.yahoo.com").configure_cert(tls)
        self._server = _Server(self, tls)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="LoopbackYahoo", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()

    def environment(self) -> dict[str, str]:
        """The variables of a client process. Clients read some of them at import: set them before it starts."""
        return {
            **dict.fromkeys(("HTTPS_PROXY", "https_proxy"), f"http://127.0.0.1:{self._server.server_address[1]}"),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost,::1"),
            **dict.fromkeys(("CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"), str(self._folder / "ca.pem")),
            # In the home's cache this server's cookie would await the developer's next run against the real Yahoo.
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
        """Serve a ticker, in place of what was served of it before. The current session is that of the last day.

        `bars` has at least one row, and the columns date (the session's local day), open, high, low, close, adj_close,
        volume, dividends (per share) and stock_splits (new shares per old one); NaN is served as null. It may have
        capital_gains and dividend_currency, and need not have adj_close: then the answer has none. Rows are served as
        they stand, be they unsorted or twice a day. `info` holds fields for yfinance's `Ticker.info`.
        """
        where, info = ZoneInfo(zone), info or {}
        days = [pd.Timestamp(day).date() for day in bars["date"]]
        stamps = [int(dt.datetime.combine(day, OPENS, where).timestamp()) for day in days]
        opens, closes = (dt.datetime.combine(max(days), time, where) for time in (OPENS, CLOSES))
        texts = ("date", "dividend_currency")
        numbers = {str(name): [float(value) for value in bars[name]] for name in bars.columns if name not in texts}
        columns = {name: [cell(value) for value in numbers[name]] for name in ("open", "high", "low", "close")}
        columns["volume"] = [int(value) if value.is_integer() else cell(value) for value in numbers["volume"]]
        if "adj_close" in numbers:
            columns["adjclose"] = [cell(value) for value in numbers["adj_close"]]
        meta = {
            "currency": currency,
            "symbol": symbol_in_answer or ticker,
            "exchangeName": exchange,
            "fullExchangeName": exchange_name,
            "instrumentType": instrument_type,
            "firstTradeDate": min(stamps),
            "exchangeTimezoneName": zone,
            "regularMarketPrice": columns["close"][days.index(max(days))],
            "longName": info.get("longName", f"{ticker} Incorporated"),
            "shortName": info.get("shortName", ticker),
            "priceHint": 2,
            "dataGranularity": "1d",
            "validRanges": list(RANGES),
        }
        security = Security(meta, info, stamps, columns, {}, opens, closes)
        currencies = bars["dividend_currency"] if "dividend_currency" in bars else [None] * len(bars)
        for stamp, currency, *amounts in zip(
            stamps, currencies, *(numbers.get(name, [0.0] * len(bars)) for name in _EVENTS), strict=True
        ):
            for kind, amount in zip(_EVENTS.values(), amounts, strict=True):
                if amount > 0:
                    security.add_event(stamp, kind, amount, currency if isinstance(currency, str) else None)
        self._securities[ticker.upper()] = security

    def event(
        self, ticker: str, day: str, name: str, number: float, currency: str | None = None, at: dt.time = OPENS
    ) -> None:
        """Serve one more event of a day, whether there is a bar of it or not; `name` is that of a column of bars."""
        security = self._securities[ticker.upper()]
        stamp = dt.datetime.combine(dt.date.fromisoformat(day), at, security.opens.tzinfo).timestamp()
        security.add_event(int(stamp), _EVENTS[name], number, currency)

    def say(self, ticker: str, **meta: object) -> None:
        """Let these fields of the chart's meta be so, whatever else they would be: regularMarketTime=…"""
        self._securities[ticker.upper()].said |= meta

    def session(self, ticker: str, opens: dt.datetime, closes: dt.datetime) -> None:
        """Let the current session be this one; its times have a zone."""
        security = self._securities[ticker.upper()]
        zone = security.opens.tzinfo
        security.opens, security.closes = opens.astimezone(zone), closes.astimezone(zone)

    def remove(self, ticker: str) -> None:
        """Have the ticker no more."""
        del self._securities[ticker.upper()]

    def chart_without_last(self, ticker: str) -> Answer:
        """The chart of all its bars but the last, for `fault`; its meta says that there was trade on the last day."""
        security = self._securities[ticker.upper()]
        return security.chart({"period1": "0", "period2": str(security.stamps[-1]), "interval": "1d", "events": "div"})

    def market_open(self, ticker: str, lasts: dt.timedelta | None = None) -> dt.date:
        """Put the present moment inside the ticker's regular session; returns its local day.

        The session ends in an hour at least, or so long after it is next asked for.
        A last bar of that day then bears the time of the last trade, which is now, as it does on Yahoo.
        """
        security = self._securities[ticker.upper()]
        now = dt.datetime.now(security.opens.tzinfo).replace(microsecond=0)
        opens, closes = (dt.datetime.combine(now.date(), time, now.tzinfo) for time in (OPENS, CLOSES))
        if security.stamps[-1] == int(opens.timestamp()):
            security.stamps[-1] = int(now.timestamp())
        # The hours are stretched where the tests run at night.
        security.opens, security.closes = min(opens, now), max(closes, now + dt.timedelta(hours=1))
        security.lasts = lasts
        return now.date()

    def fault(
        self, ticker_glob: str, kind: FaultKind, endpoint: Endpoint | None = None, times: int | None = None
    ) -> None:
        """Let requests fail: all of them, or the first `times` of each ticker and endpoint from now on.

        `kind` is an HTTP status; "reset" (TCP RST); "hang" (no answer until the server stops); "truncate" (half the
        body, of consistent length); "partial" (half the promised body, and the end of the connection); "no_rows" (a
        chart's meta alone); with status 200, "html" (a page), "down" ("Will be right back"), "blank"; or any Answer.
        No `endpoint` means every one that names a ticker; "crumb" and "cookie" name none: their glob is "*".
        Of several that fit, the first still in force happens. Mind the second attempts below the caller: yfinance
        repeats a request at once after any status from 400 up, curl after the reset of a connection used before.
        """
        named = (*get_args(Silence), "truncate", "partial", "no_rows", *_PAGES)
        if not isinstance(kind, int | Answer) and kind not in named:
            raise ValueError(f"no such fault: {kind!r}")
        if endpoint is not None and endpoint not in get_args(Endpoint):
            raise ValueError(f"no such endpoint: {endpoint!r}")
        with self._lock:
            self._faults.append(_Fault(ticker_glob, kind, endpoint, times))

    def limit(self, a_second: float, burst: int, penalty: float) -> None:
        """Answer 429 to whatever is more than so many requests, and for `penalty` seconds to everything after that."""
        self._limit = _Limit(a_second, burst, penalty)

    def forget_faults(self) -> None:
        """Let nothing fail any more."""
        with self._lock:
            self._faults.clear()

    @property
    def requests(self) -> list[Request]:
        """All requests so far, oldest first."""
        with self._lock:
            return list(self._requests)

    def count(self, endpoint: Endpoint | None = None, ticker: str | None = None) -> int:
        """How many requests there were: of this endpoint, for this ticker, where given."""
        return sum(endpoint in (None, each.endpoint) and ticker in (None, each.ticker) for each in self.requests)

    def longest_streak(self, status: int) -> int:
        """Most requests in a row that were answered so."""
        runs = (
            len(list(group)) for each, group in groupby(request.status for request in self.requests) if each == status
        )
        return max(runs, default=0)

    def forget_requests(self) -> None:
        """Empty `requests`; the `times` of faults go on counting."""
        with self._lock:
            self._requests.clear()

    def record(self, request: Request) -> None:
        """For the connections: note a request, before its answer is sent."""
        with self._lock:
            self._requests.append(request)

    def respond(self, host: str, target: str, cookies: str) -> Answer | Silence:
        """For the connections: note a request and say what becomes of it."""
        path, _, asked = target.partition("?")
        folder, _, name = unquote(path).rpartition("/")
        query = dict(parse_qsl(asked))
        endpoint: Endpoint = "cookie" if host == "fc.yahoo.com" else _PATHS.get(folder, "other")
        if endpoint == "chart" and query.get("range") == query.get("interval") == "1d" and "events" not in query:
            endpoint = "tz"
        named = query.get("symbols", "") if endpoint == "quote" else name
        ticker = "" if endpoint in ("cookie", "crumb", "other") else named.upper()
        with self._lock:
            kind = next((fault.kind for fault in self._faults if fault.takes(endpoint, ticker)), None)
            if self._limit is not None and not self._limit.admits():
                kind = 429
        if kind == "reset" or kind == "hang":
            self.record(Request(endpoint, ticker, 0, query))
            return kind
        if isinstance(kind, int):
            reply = refusal(kind)
        elif isinstance(kind, Answer):
            reply = kind
        elif kind in _PAGES:
            reply = Answer(200, _PAGES[kind])
        else:
            reply = answer(self._securities, endpoint, ticker, query, cookies)
        if kind == "truncate":
            reply = replace(reply, body=reply.body[: len(reply.body) // 2])
        elif kind == "partial":
            reply = replace(reply, promised=2 * len(reply.body))
        elif kind == "no_rows":
            reply = without_rows(reply)
        self.record(Request(endpoint, ticker, reply.status, query))
        return reply


class _Server(ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, yahoo: LoopbackYahoo, tls: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.yahoo, self.tls = yahoo, tls
        self.stopping = threading.Event()
        self.connections: set[socket.socket] = set()

    def stop(self) -> None:
        """Take no more connections and end those there are, the hanging ones too."""
        self.shutdown()
        self.server_close()
        self.stopping.set()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no event; anything else is a mistake in here and has to be seen."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Connection(BaseHTTPRequestHandler):
    """A connection: plain until CONNECT, TLS from then on."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            self.server.connections.discard(self.connection)
            # TLS took the socket over from the one that the server will close.
            self.connection.close()

    def do_CONNECT(self) -> None:
        host = self.path.rpartition(":")[0]
        if not host.endswith(".yahoo.com"):
            self.server.yahoo.record(Request("connect", "", 403, {"host": host}))
            self._send(Answer(403, b""))
            return
        self.send_response_only(200)
        self.end_headers()
        # Some clients ask for the tunnel in HTTP/1.0, which would end here.
        self.close_connection = False
        self.server.connections.discard(self.connection)
        tunnel = self.server.tls.wrap_socket(self.connection, server_side=True, do_handshake_on_connect=False)
        self.connection = tunnel
        self.server.connections.add(tunnel)
        tunnel.do_handshake()
        self.rfile, self.wfile = tunnel.makefile("rb"), tunnel.makefile("wb")

    def do_GET(self) -> None:
        host = self.headers.get("Host", "").partition(":")[0]
        reply = self.server.yahoo.respond(host, self.path, self.headers.get("Cookie", ""))
        if isinstance(reply, Answer):
            self._send(reply)
            return
        self.close_connection = True
        if reply == "hang":
            self.server.stopping.wait()
        else:
            # Closing then sends RST instead of FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def _send(self, reply: Answer) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(reply.promised or len(reply.body)))
        self.close_connection = self.close_connection or bool(reply.promised)
        if reply.cookie:
            self.send_header("Set-Cookie", reply.cookie)
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: what happened is in `LoopbackYahoo.requests`."""
