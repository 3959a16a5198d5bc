"""Yahoo Finance through yfinance, and the one place that knows how yfinance says that something went wrong.

Three things here go beyond yfinance's documented ways; `tests/market/test_yahoo.py` holds each against the
installed version:

* `Ticker._tz` is set, because the zone lookup costs a second chart request for every ticker. The zone only turns
  the asked-for days into instants; a day is asked for on either side and cut off again by the answer's own zone.
* `YfData.cache_get` is emptied after a failure: it keeps bad answers, so a second attempt would not be sent.
* Its caches get a folder that no other process has: shared and cold, they fail (`database is locked`).
"""

from __future__ import annotations

import atexit
import datetime as dt
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

import pandas as pd

from luigi_tasks import bars
from luigi_tasks.errors import (
    AnswerNotUnderstood,
    AuthorisationFailure,
    NetworkFailure,
    NoSuchTicker,
    ProviderDown,
    SecuritiesMasterError,
    SourceUnreachable,
    Throttled,
    TransientError,
)

PROBE_URL = "https://query1.finance.yahoo.com/v1/test/getcrumb"
PROBE_TIMEOUT = 5.0
"""Seconds. Short, so that a run without a network says so at once."""

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

# Yahoo's own words, from its JSON error descriptions.
_NO_DATA_IN_RANGE = "Data doesn't exist for startDate"
_UNKNOWN_TICKER = ("No data found, symbol may be delisted", "Quote not found", "No fundamentals data found")


class YahooSource:
    """A MarketDataSource; one per process, to be made after a fork, never carried across one."""

    def __init__(self, scratch: Path | None = None, timeout: float = 30.0) -> None:
        """`scratch` is where yfinance's caches may stand (a temporary folder if None); `timeout` is in seconds."""
        self._scratch = scratch
        self._timeout = timeout

    def check(self) -> None:
        """One request, one more if it fails. Any HTTP answer, even an error, means that Yahoo can be reached."""
        from curl_cffi import requests

        for attempt in (1, 2):
            try:
                requests.get(PROBE_URL, impersonate="chrome", timeout=PROBE_TIMEOUT)
                return
            except requests.exceptions.RequestException as error:
                if attempt == 2:
                    raise SourceUnreachable(
                        "Yahoo Finance",
                        f"cannot be reached ({_in_a_line(error)})",
                        "Check the network, the proxy and DNS; nothing was downloaded, run again later.",
                    ) from error

    def bars(self, ticker: str, start: dt.date, end: dt.date) -> pd.DataFrame | None:
        """See MarketDataSource. Prices are as Yahoo adjusts them: for splits, not for dividends.

        A session that is not over yet (by the trading hours in the answer itself) is left out.
        """
        yf = _yfinance(self._scratch, os.getpid())
        try:
            return self._bars(yf.Ticker(ticker), ticker, start, end)
        except TransientError:
            # Or the next attempt would get the same answer without asking.
            yf.data.YfData.cache_get.cache_clear()
            raise

    def _bars(self, stock: Any, ticker: str, start: dt.date, end: dt.date) -> pd.DataFrame | None:
        stock._tz = "UTC"
        day = dt.timedelta(days=1)
        try:
            frame = stock.history(
                start=start - day, end=end + 2 * day, auto_adjust=False, actions=True, timeout=self._timeout
            )
            meta = stock.history_metadata
        except Exception as error:
            if _gives_no_reason(error):
                # Yahoo answered, without rows: that is "none in the range" only if the answer is about this ticker.
                _require_answer_for(ticker, stock.history_metadata)
                return None
            if _says_no_bars(error):
                return None
            _raise_ours(ticker, error)
        _require_answer_for(ticker, meta)
        found = _bars_from(ticker, frame)
        unfinished = _unfinished_session(meta)
        keep = (found["date"].dt.date >= start) & (found["date"].dt.date <= end)
        if unfinished is not None:
            keep &= found["date"].dt.date != unfinished
        found = found[keep].reset_index(drop=True)
        return found if len(found) else None

    def metadata(self, ticker: str) -> dict[str, Any]:
        """See MarketDataSource. The fields are those of yfinance's `Ticker.info`."""
        yf = _yfinance(self._scratch, os.getpid())
        try:
            info = dict(yf.Ticker(ticker).info)
        except Exception as error:
            _raise_ours(ticker, error)
        if not info.get("quoteType"):
            raise AnswerNotUnderstood(ticker, "Yahoo's company data has no quoteType")
        # Through JSON and back: what is stored is what JSON can say, and NaN, which it cannot, becomes null.
        return dict(json.loads(json.dumps(info, default=str), parse_constant=lambda _: None))


@lru_cache(maxsize=1)
def _yfinance(scratch: Path | None, process: int) -> Any:
    """yfinance, set up for this process alone; `process` makes a forked child set it up anew."""
    import yfinance as yf

    # Importing it turns warnings about its own code back on, a page of them for every ticker.
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"yfinance\.")
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    caches = tempfile.mkdtemp(prefix=f"yfinance-{process}-", dir=scratch)
    atexit.register(shutil.rmtree, caches, ignore_errors=True)
    yf.set_tz_cache_location(caches)
    # By default yfinance turns a 500, a time-out or cut JSON into an empty history, "possibly delisted".
    yf.config.debug.hide_exceptions = False
    return yf


def _bars_from(ticker: str, frame: pd.DataFrame) -> pd.DataFrame:
    missing = [name for name in _FROM_YFINANCE if name not in frame.columns]
    if missing:
        raise AnswerNotUnderstood(ticker, f"the history has no {', '.join(missing)}")
    renamed = frame.rename(columns=_FROM_YFINANCE)
    index = pd.DatetimeIndex(frame.index)
    renamed["date"] = index.tz_localize(None).normalize() if index.tz is not None else index.normalize()
    return bars.conform(renamed)


def _require_answer_for(ticker: str, meta: Mapping[str, Any]) -> None:
    answered = str(meta.get("symbol", ""))
    if answered.upper() != ticker.upper():
        raise AnswerNotUnderstood(ticker, f"Yahoo's answer is about {answered or 'no ticker'}")


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
    return at.tz_localize("UTC") if at.tzinfo is None else at


def _says_no_bars(error: Exception) -> bool:
    """True only where Yahoo itself said that the ticker has no bars in the range."""
    from yfinance.exceptions import YFPricesMissingError

    return isinstance(error, YFPricesMissingError) and str(error.yahoo_reason or "").startswith(_NO_DATA_IN_RANGE)


def _gives_no_reason(error: Exception) -> bool:
    """True where Yahoo's answer was JSON without rows and without an error; the answer's meta is then at hand."""
    from yfinance.exceptions import YFPricesMissingError

    return isinstance(error, YFPricesMissingError) and error.yahoo_reason is None


def _raise_ours(ticker: str, error: Exception) -> NoReturn:
    """Raise the error of ours that says what happened; the only place where yfinance's errors are interpreted."""
    from curl_cffi.requests import exceptions as http
    from yfinance.exceptions import YFPricesMissingError, YFRateLimitError, YFTickerMissingError

    if isinstance(error, SecuritiesMasterError):
        raise error
    if isinstance(error, YFRateLimitError):
        raise Throttled(ticker, "Yahoo answered 429, too many requests") from error
    if isinstance(error, http.HTTPError):
        raise _for_status(ticker, error) from error
    if isinstance(error, (http.JSONDecodeError, json.JSONDecodeError)):
        raise ProviderDown(ticker, "Yahoo's answer is not JSON (an error page, or cut off)") from error
    if isinstance(error, (http.RequestException, OSError)):
        raise NetworkFailure(ticker, f"no answer from Yahoo ({_in_a_line(error)})") from error
    if isinstance(error, YFPricesMissingError) and error.yahoo_reason is not None:
        reason = str(error.yahoo_reason)
        if reason.startswith(_UNKNOWN_TICKER):
            raise NoSuchTicker(ticker, f"Yahoo has no such ticker, or has it no more: {reason!r}") from error
        raise AnswerNotUnderstood(ticker, f"Yahoo gave a reason that is not known here: {reason!r}") from error
    if isinstance(error, YFTickerMissingError):
        raise AnswerNotUnderstood(ticker, f"yfinance says {_in_a_line(error)}") from error
    if "DOWN" in str(error):
        raise ProviderDown(ticker, "Yahoo says that it will be right back") from error
    raise AnswerNotUnderstood(ticker, f"yfinance failed on the answer ({_in_a_line(error)})") from error


def _for_status(ticker: str, error: Any) -> SecuritiesMasterError:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status == 429:
        return Throttled(ticker, "Yahoo answered 429, too many requests")
    if status in (401, 403):
        return AuthorisationFailure(ticker, f"Yahoo refused the cookie or crumb ({status})")
    if status == 404 and _description(response).startswith(_UNKNOWN_TICKER):
        return NoSuchTicker(ticker, f"Yahoo has no company data: {_description(response)!r}")
    if status is not None and status >= 500:
        return ProviderDown(ticker, f"Yahoo answered {status}")
    return AnswerNotUnderstood(ticker, f"Yahoo answered {status}")


def _description(response: Any) -> str:
    """The words of Yahoo's JSON error; empty if the body is anything else, such as a proxy's own 404 page."""
    try:
        body = json.loads(response.text)
        return str(next(iter(body.values()))["error"]["description"])
    except (ValueError, AttributeError, KeyError, TypeError, StopIteration):
        return ""


def _in_a_line(error: BaseException) -> str:
    # libcurl ends every message with advice to read its own documentation.
    text = " ".join(str(error).split()).partition(" See https://curl.se")[0]
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
