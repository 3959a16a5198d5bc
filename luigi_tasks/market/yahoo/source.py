"""`YahooSource`: daily bars and company data, one request each."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

import pandas as pd
from curl_cffi.requests import exceptions as http

from luigi_tasks import bars, sessions
from luigi_tasks.budget import Access, Budget, Kind, LocalBudget
from luigi_tasks.errors import (
    AnswerNotUnderstood,
    AuthorisationFailure,
    NetworkFailure,
    SecuritiesMasterError,
    SourceUnreachable,
    TransientError,
)
from luigi_tasks.market.yahoo.answers import NoCompanyData, NoDataInRange, in_a_line
from luigi_tasks.market.yahoo.session import PacedSession
from luigi_tasks.market.yahoo.yfinance_ways import Yfinance

PROBE_TIMEOUT = 5.0
"""Seconds. Short, so that a run without a network says so at once."""

# A security that trades does so within so many days: an answer without rows for a longer range is no answer.
_LONGEST_SILENCE = dt.timedelta(days=30)

_FROM_YFINANCE = {
    "Open": "open",
    "High": "high",
    "Low": "low",
    "Close": "close",
    "Adj Close": "adj_close",
    "Volume": "volume",
    "Dividends": "dividends",
    "Stock Splits": "stock_splits",
}


class YahooSource:
    """A MarketDataSource. May be made anywhere; what is connected is made where it is used, anew after a fork."""

    def __init__(self, budget: Budget | None = None, timeout: float = 30.0) -> None:
        """`budget` is asked before every request (None: a LocalBudget); `timeout` is in seconds, for one request."""
        self._budget = budget or LocalBudget()
        self._timeout = timeout
        self._process = 0

    def check(self) -> None:
        """Get a crumb: one request, and one for a cookie where there is none. Any HTTP answer means: reachable.

        Raises:
            SourceUnreachable, PatienceExhausted.
        """
        self._connect("access")
        self._session.longest = min(PROBE_TIMEOUT, self._timeout)
        try:
            for attempt in (1, 2):
                try:
                    self._renew(refused=None)
                    return
                except NetworkFailure as error:
                    if attempt == 2:
                        raise SourceUnreachable(
                            "Yahoo Finance",
                            f"cannot be reached ({error.reason})",
                            "Check the network, the proxy and DNS; nothing was downloaded, run again later.",
                        ) from error
                except TransientError:
                    # It answers, if not with a crumb: prices need none, and who needs one asks again.
                    return
        finally:
            self._session.longest = self._timeout

    def bars(self, ticker: str, start: dt.date, end: dt.date, zone: str | None = None) -> pd.DataFrame | None:
        """See MarketDataSource. Prices are as Yahoo adjusts them: for splits, not for dividends.

        A session that is not over yet is left out: by the trading hours in the answer itself, by the exchange's
        calendar where it is known, and in any case one of a day that has not begun where the security is traded.
        """
        self._connect("prices", ticker)
        stock, day = self._yfinance.ticker(ticker, zone), dt.timedelta(days=1)
        try:
            # A day more on either side: without the zone, the days' first instants are not known.
            frame = stock.history(start=start - day, end=end + 2 * day, auto_adjust=False, actions=True, timeout=None)
            meta = stock.history_metadata
        except NoDataInRange:
            return None
        except Exception as error:
            if _gives_no_reason(error):
                with _reading_meta(ticker):
                    _require_silence(ticker, stock.history_metadata, start, end)
                return None
            self._raise_ours(ticker, error)
        with _reading_meta(ticker):
            unfinished = _unfinished_session(meta)
            facts = _facts(meta, unfinished)
        found = _bars_from(ticker, frame)
        day = found["date"].dt.date
        found = found[(day >= start) & (day <= end) & (day < _first_not_over(found, facts, unfinished))]
        found = found.reset_index(drop=True)
        found.attrs[bars.FACTS] = facts
        return found if len(found) else None

    def metadata(self, ticker: str) -> dict[str, Any]:
        """See MarketDataSource. The fields are those of yfinance's `Ticker.info`, without the quotes of the day."""
        self._connect("company", ticker)
        try:
            info = dict(self._yfinance.ticker(ticker).info)
        except NoCompanyData:
            return {"symbol": ticker}
        except Exception as error:
            self._raise_ours(ticker, error)
        if not info.get("quoteType"):
            raise AnswerNotUnderstood(ticker, "Yahoo's company data has no quoteType")
        # Through JSON and back: what is stored is what JSON can say, and NaN, which it cannot, becomes null.
        return dict(json.loads(json.dumps(info, default=str), parse_constant=lambda _: None))

    def _connect(self, kind: Kind, ticker: str = "") -> None:
        if self._process != os.getpid():
            self._session = PacedSession(self._budget, self._timeout)
            self._yfinance = Yfinance(self._session, self._crumb)
            self._access: Access | None = None
            self._refused: Access | None = None
            # Prices are to be had without a crumb, as long as Yahoo does not ask for one.
            self._wanted_for: set[Kind] = {"company"}
            self._process = os.getpid()
        self._kind, self._session.on_behalf = kind, ticker

    def _crumb(self) -> str | None:
        """The crumb for the next request, from all the processes' one session with Yahoo."""
        if self._access is None:
            present = self._budget.access()
            if present is not None and present != self._refused:
                self._yfinance.use(present)
                self._access = present
            elif self._kind in self._wanted_for:
                self._renew(refused=present)
        return self._access.crumb if self._access is not None else None

    def _renew(self, refused: Access | None) -> Access:
        old = self._budget.access()

        def fetch() -> Access:
            return self._yfinance.new_access(old, refused.crumb if refused else None)

        try:
            access = self._budget.renew_access(refused or old, fetch)
        except http.RequestException as error:
            raise NetworkFailure("Yahoo Finance", f"no answer from Yahoo ({in_a_line(error)})") from error
        self._yfinance.use(access)
        self._access, self._refused = access, None
        return access

    def _raise_ours(self, ticker: str, error: Exception) -> NoReturn:
        """Raise the error of ours; what is not one by now was raised by yfinance over an answer that looked good."""
        if isinstance(error, AuthorisationFailure):
            self._refused, self._access = self._access or self._refused, None
            self._wanted_for.add(self._kind)
        if isinstance(error, SecuritiesMasterError):
            raise error
        if isinstance(error, http.RequestException) and not isinstance(error, http.InvalidJSONError):
            raise NetworkFailure(ticker, f"no answer from Yahoo ({in_a_line(error)})") from error
        raise AnswerNotUnderstood(ticker, f"yfinance failed on the answer ({in_a_line(error)})") from error


def _bars_from(ticker: str, frame: pd.DataFrame) -> pd.DataFrame:
    missing = [name for name in _FROM_YFINANCE if name not in frame.columns]
    if missing:
        raise AnswerNotUnderstood(ticker, f"the history has no {', '.join(missing)}")
    renamed = frame.rename(columns=_FROM_YFINANCE)
    index = pd.DatetimeIndex(frame.index)
    renamed["date"] = index.tz_localize(None).normalize() if index.tz is not None else index.normalize()
    return bars.conform(renamed)


def _first_not_over(found: pd.DataFrame, facts: Mapping[str, str | None], unfinished: dt.date | None) -> dt.date:
    """The first day whose session, if there is one, is not over."""
    now = dt.datetime.now(dt.UTC)
    tomorrow = now.astimezone(ZoneInfo(facts["time_zone"] or "UTC")).date() + dt.timedelta(days=1)
    calendar = sessions.calendar_of(facts["exchange"])
    # Sessions end one after another, so the last ones tell.
    latest = found["date"].dt.date.tail(3) if calendar is not None else []
    running = [day for day in latest if calendar is not None and not sessions.over(calendar, day, now)]
    first: dt.date = min(day for day in (tomorrow, unfinished, *running) if day is not None)
    return first


@contextmanager
def _reading_meta(ticker: str) -> Iterator[None]:
    try:
        yield
    except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise AnswerNotUnderstood(ticker, f"the answer's meta is odd ({in_a_line(error)})") from error


def _facts(meta: Mapping[str, Any], unfinished: dt.date | None) -> dict[str, str | None]:
    """What the answer says of the security; see `luigi_tasks.bars.FACTS`."""
    texts = {name: meta.get(name) for name in ("longName", "shortName", "instrumentType", "exchangeName", "currency")}
    for name, text in texts.items():
        if text is not None and not isinstance(text, str):
            raise TypeError(f"{name} is {str(text)[:40]!r}")
    zone = str(meta["exchangeTimezoneName"])
    last = _day(meta.get("regularMarketTime"), zone)
    return {
        "name": texts["longName"] or texts["shortName"],
        "quote_type": texts["instrumentType"],
        "exchange": texts["exchangeName"],
        "currency": texts["currency"],
        "time_zone": zone,
        "first_trade_date": _day(meta.get("firstTradeDate"), zone),
        # The session that is not over has no bar yet.
        "last_trade_date": None if last == str(unfinished) else last,
    }


def _day(instant: Any, zone: str) -> str | None:
    return None if instant is None else str(_instant(instant).tz_convert(zone).date())


def _unfinished_session(meta: Mapping[str, Any]) -> dt.date | None:
    """The day of the current session if it is not over: its bar still moves and is no close.

    Where the answer does not tell the trading hours, today is taken for unfinished.
    """
    period = (meta.get("currentTradingPeriod") or {}).get("regular") or {}
    start, end = period.get("start"), period.get("end")
    zone = str(meta.get("exchangeTimezoneName") or "UTC")
    if start is None or end is None:
        return dt.datetime.now(ZoneInfo(zone)).date()
    opens, closes = (_instant(value).tz_convert(zone) for value in (start, end))
    return opens.date() if pd.Timestamp.now("UTC") < closes else None


def _instant(value: Any) -> pd.Timestamp:
    """yfinance turns the epoch seconds of the answer into Timestamps, in some answers."""
    at = pd.Timestamp(value, unit="s") if isinstance(value, (int, float)) else pd.Timestamp(value)
    if at is pd.NaT:
        raise ValueError(f"{value!r} is no instant")
    return at.tz_localize("UTC") if at.tzinfo is None else at


def _gives_no_reason(error: Exception) -> bool:
    """True where Yahoo's answer was about the ticker, without rows and without an error; its meta is at hand."""
    from yfinance.exceptions import YFPricesMissingError

    return isinstance(error, YFPricesMissingError) and error.yahoo_reason is None


def _require_silence(ticker: str, meta: Mapping[str, Any], start: dt.date, end: dt.date) -> None:
    """Raise AnswerNotUnderstood for an answer without rows that says itself that the ticker traded in the range.

    Under load Yahoo sends incomplete data; "no bars" has to be its word, not its failure.
    """
    zone = str(meta.get("exchangeTimezoneName") or "UTC")
    first, last = (_day(meta.get(name), zone) for name in ("firstTradeDate", "regularMarketTime"))
    if first is None or last is None:
        return
    traded = dt.date.fromisoformat(first) <= end and dt.date.fromisoformat(last) >= start
    if traded and (dt.date.fromisoformat(last) <= end or end - start > _LONGEST_SILENCE):
        raise AnswerNotUnderstood(ticker, f"Yahoo sent no rows, and says that it traded from {first} to {last}")
