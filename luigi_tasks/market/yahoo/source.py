"""`YahooSource`: daily bars and company data, one request each."""

from __future__ import annotations

import datetime as dt
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NoReturn, TypeVar
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from curl_cffi.requests import exceptions as http

from luigi_tasks import bars
from luigi_tasks.budget import Access, Budget, Kind, LocalBudget
from luigi_tasks.errors import (
    AnswerNotUnderstood,
    AuthorisationFailure,
    CredentialsRefused,
    NetworkFailure,
    SecuritiesMasterError,
    SourceUnreachable,
    TransientError,
)
from luigi_tasks.market.source import MOST_QUOTES
from luigi_tasks.market.yahoo import closing
from luigi_tasks.market.yahoo.answers import NoCompanyData, NoDataInRange, in_a_line, named
from luigi_tasks.market.yahoo.chart import Chart
from luigi_tasks.market.yahoo.session import REFERENCES, PacedSession
from luigi_tasks.market.yahoo.yfinance_ways import Yfinance

PROBE_TIMEOUT = 5.0
"""Seconds. Short, so that a run without a network says so at once."""

# A security that trades does so within so many days: an answer without rows for a longer range is no answer.
_LONGEST_SILENCE = dt.timedelta(days=30)

Answered = TypeVar("Answered")

_FROM_YFINANCE = {
    "Open": "open",
    "High": "high",
    "Low": "low",
    "Close": "close",
    "Adj Close": "adj_close",
    "Volume": "volume",
}


class YahooSource:
    """A MarketDataSource. May be made anywhere; what is connected is made where it is used, anew after a fork."""

    def __init__(
        self,
        budget: Budget | None = None,
        timeout: float = 30.0,
        references: Sequence[str] = REFERENCES,
        *,
        plain: bool = False,
    ) -> None:
        """`budget` is asked before every request (None: a LocalBudget); `timeout` is in seconds, for one request;
        `references` are tickers that Yahoo has beyond doubt; `plain`: yfinance asks in its own ways."""
        self._budget = budget or LocalBudget()
        self._timeout = timeout
        self._references = references
        self.plain = plain
        self._process = 0

    def check(self) -> None:
        """Get a crumb: one request, and one for a cookie where there is none. Any HTTP answer means: reachable.

        If yfinance asks in its own ways, one chart.

        Raises:
            SourceUnreachable, PatienceExhausted.
        """
        self._connect("access")
        self._session.longest = min(PROBE_TIMEOUT, self._timeout)
        try:
            for attempt in (1, 2):
                try:
                    if self.plain:
                        self._session.ask_for_reference()
                    else:
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

    def require_access(self) -> None:
        """See that there are a cookie and a crumb, which `check` does without. Raises like `bars`."""
        self._connect("access")
        if self._budget.access() is None:
            self._renew(refused=None)

    def bars(self, ticker: str, start: dt.date, end: dt.date, zone: str | None = None) -> pd.DataFrame | None:
        """See MarketDataSource. Prices are as Yahoo adjusts them: for splits, not for dividends.

        A session that is no close yet is left out (see `closing.unfinished`), and so is one of a day that has not
        begun where the security is traded. Corporate actions of such a day, and of days without a bar, are in
        `attrs[bars.ACTIONS]`. A column that the answer does not have is NaN, and is named in `attrs[bars.FACTS]`.
        """
        day = dt.timedelta(days=1)
        # A day more on either side: without the zone, the days' first instants are not known.
        span = {"start": start - day, "end": end + 2 * day}

        def ask() -> pd.DataFrame:
            stock = self._yfinance.ticker(ticker, zone)
            history: pd.DataFrame = stock.history(**span, auto_adjust=False, actions=True, timeout=None)
            return history

        try:
            frame = self._ask("prices", ticker, ask)
        except NoDataInRange:
            return None
        except Exception as error:
            if _gives_no_reason(error):
                with _reading(ticker):
                    _require_silence(ticker, self._chart(ticker).meta, start, end)
                return None
            self._raise_ours(ticker, error)
        chart = self._chart(ticker)
        found = _bars_from(ticker, frame)
        with _reading(ticker):
            waits = closing.unfinished(found, chart.meta, dt.datetime.now(dt.UTC))
            facts = _facts(chart, waits, start, end)
            actions = chart.actions(ticker, start, end)
            unknown = found["date"].isin(pd.to_datetime(chart.days_without_volume()))
        if unknown.any():
            found["volume"] = found["volume"].astype("float64").mask(unknown)
        of_bar = found["date"].dt.date
        found = found[(of_bar >= start) & (of_bar <= end) & (of_bar < waits.day)].reset_index(drop=True)
        if found.empty:
            return None
        if "adj_close" in chart.lacks:
            found["adj_close"] = float("nan")
        with _reading(ticker):
            facts["provisional"] = _iso(closing.provisional(found["date"].iloc[-1].date(), chart.meta))
        found = _with_actions(found, actions)
        found.attrs[bars.FACTS] = facts
        return found

    def metadata(self, ticker: str) -> dict[str, Any]:
        """See MarketDataSource. The fields are those of yfinance's `Ticker.info`, without the quotes of the day.

        Yahoo may send an empty shell, or one of its modules alone; `insert_metadata` tells what that is worth.
        """
        try:
            info = self._ask("company", ticker, lambda: dict(self._yfinance.ticker(ticker).info))
        except NoCompanyData:
            return {"symbol": ticker}
        except Exception as error:
            self._raise_ours(ticker, error)
        return _plain(info)

    def quotes(self, tickers: Sequence[str]) -> dict[str, dict[str, Any]]:
        """See MarketDataSource. The fields are those of Yahoo's v7 quote; one request for each fifty.

        None of any, if yfinance asks in its own ways: it has none for many at once.
        """
        found: dict[str, dict[str, Any]] = {}
        if self.plain:
            return found
        for first in range(0, len(tickers), MOST_QUOTES):
            some = list(tickers[first : first + MOST_QUOTES])
            subject = named(some)

            def ask(some: list[str] = some) -> list[dict[str, Any]]:
                return self._yfinance.quotes(some)

            try:
                answer = self._ask("quotes", subject, ask)
            except Exception as error:
                self._raise_ours(subject, error)
            wanted = {ticker.upper(): ticker for ticker in some}
            for quote in answer:
                ticker = wanted.get(str(quote.get("symbol")).upper())
                if ticker is not None:
                    found[ticker] = _plain(quote)
        return found

    def last_meta(self) -> Mapping[str, Any]:
        """What the last answer with bars says of the security, in Yahoo's own field names."""
        return self._session.chart.meta if self._session.chart is not None else {}

    def _ask(self, kind: Kind, subject: str, ask: Callable[[], Answered]) -> Answered:
        """What yfinance makes of the one request that answers the question; again where credentials are refused to
        everybody, which the next request waits for to be over."""
        while True:
            self._connect(kind, subject)
            try:
                with self._session.one_question() if not self.plain else nullcontext():
                    return ask()
            except CredentialsRefused:
                self._forget_access()

    def _connect(self, kind: Kind, ticker: str = "") -> None:
        if self._process != os.getpid():
            self._session = PacedSession(self._budget, self._timeout, self._references)
            self._yfinance = Yfinance(self._session, self._crumb, plain=self.plain)
            self._access: Access | None = None
            self._refused: Access | None = None
            # Prices are to be had without a crumb, as long as Yahoo does not ask for one.
            self._wanted_for: set[Kind] = {"company", "quotes"}
            self._process = os.getpid()
        self._kind, self._session.on_behalf, self._session.chart = kind, ticker, None

    def _chart(self, ticker: str) -> Chart:
        """What the session has kept of the answer that yfinance has just made bars of."""
        if self._session.chart is None:
            raise AnswerNotUnderstood(ticker, "yfinance has bars that no answer had")
        return self._session.chart

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

    def _forget_access(self) -> None:
        self._refused, self._access = self._access or self._refused, None
        self._wanted_for.add(self._kind)

    def _raise_ours(self, ticker: str, error: Exception) -> NoReturn:
        """Raise the error of ours; what is not one by now was raised by yfinance over an answer that looked good."""
        if isinstance(error, AuthorisationFailure):
            self._forget_access()
        if isinstance(error, SecuritiesMasterError):
            raise error
        if isinstance(error, http.RequestException) and not isinstance(error, http.InvalidJSONError):
            raise NetworkFailure(ticker, f"no answer from Yahoo ({in_a_line(error)})") from error
        raise AnswerNotUnderstood(ticker, f"yfinance failed on the answer ({in_a_line(error)})") from error


def _plain(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Through JSON and back: what is stored is what JSON can say, and NaN, which it cannot, becomes null."""
    return dict(json.loads(json.dumps(answer, default=str), parse_constant=lambda _: None))


def _bars_from(ticker: str, frame: pd.DataFrame) -> pd.DataFrame:
    missing = [name for name in _FROM_YFINANCE if name not in frame.columns]
    if missing:
        raise AnswerNotUnderstood(ticker, f"the history has no {', '.join(missing)}")
    renamed = frame.rename(columns=_FROM_YFINANCE)
    index = pd.DatetimeIndex(frame.index)
    renamed["date"] = index.tz_localize(None).normalize() if index.tz is not None else index.normalize()
    # yfinance was shown none: see `chart`.
    return bars.conform(renamed.assign(dividends=0.0, stock_splits=0.0))


def _with_actions(found: pd.DataFrame, actions: list[dict[str, Any]]) -> pd.DataFrame:
    """The bars, which have none yet, with the actions of their days, and with those of other days in `attrs`."""
    found = bars.conform(found)
    # Days as text, which takes a while for ten years of them, only where there is something to find.
    days = found["date"].to_numpy().astype("datetime64[D]") if actions else []
    rows = {str(day): row for row, day in enumerate(days)}
    there = [(rows[each["date"]], each) for each in actions if each["date"] in rows]
    for name in bars.AMOUNTS:
        # A number that is none stays, so that a rule is broken and somebody is told.
        if any(each[name] != 0 for _, each in there):
            amounts = np.zeros(len(found))
            amounts[[row for row, _ in there]] = [each[name] for _, each in there]
            found[name] = amounts
    for row, each in there:
        if each["dividend_currency"] is not None:
            found.loc[row, "dividend_currency"] = each["dividend_currency"]
    found.attrs[bars.ACTIONS] = [each for each in actions if each["date"] not in rows]
    return found


@contextmanager
def _reading(ticker: str) -> Iterator[None]:
    try:
        yield
    except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, OSError) as error:
        raise AnswerNotUnderstood(ticker, f"the answer's meta or events are odd ({in_a_line(error)})") from error


def _facts(chart: Chart, waits: closing.Unfinished, start: dt.date, end: dt.date) -> dict[str, Any]:
    """What the answer says of the security; see `luigi_tasks.bars.FACTS`."""
    meta = chart.meta
    texts = {name: meta.get(name) for name in ("longName", "shortName", "instrumentType", "exchangeName", "currency")}
    for name, text in texts.items():
        if text is not None and not isinstance(text, str):
            raise TypeError(f"{name} is {str(text)[:40]!r}")
    zone = str(meta["exchangeTimezoneName"])
    last = _day(meta.get("regularMarketTime"), zone)
    # A session of another day is no matter of this question.
    known = waits.until is not None and start <= waits.day <= end
    return {
        "name": texts["longName"] or texts["shortName"],
        "quote_type": texts["instrumentType"],
        "exchange": texts["exchangeName"],
        "currency": texts["currency"],
        "time_zone": zone,
        "first_trade_date": _iso(_day(meta.get("firstTradeDate"), zone)),
        # The session that is no close yet has no bar.
        "last_trade_date": None if last == waits.day else _iso(last),
        "market_price": _price(meta.get("regularMarketPrice")),
        "provisional": None,
        "unfinished": str(waits.day) if known else None,
        "open_until": waits.until.astimezone(dt.UTC).isoformat() if known and waits.until else None,
        "stale_answer": _time(meta) if known and waits.old else None,
        "lacks": chart.lacks,
    }


def _time(meta: Mapping[str, Any]) -> str | None:
    at = closing.instant(meta.get("regularMarketTime"))
    return None if at is None else at.isoformat()


def _price(value: Any) -> float | None:
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if plain and math.isfinite(value) and value > 0 else None


def _day(instant: Any, zone: str) -> dt.date | None:
    at = closing.instant(instant)
    return None if at is None else at.astimezone(ZoneInfo(zone)).date()


def _iso(day: dt.date | None) -> str | None:
    return None if day is None else str(day)


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
    traded = first <= end and last >= start
    if traded and (last <= end or end - start > _LONGEST_SILENCE):
        raise AnswerNotUnderstood(ticker, f"Yahoo sent no rows, and says that it traded from {first} to {last}")
