"""Whether Yahoo, and yfinance with it, still do what this project stands on: a question of each kind, part by part.

Yahoo changes its answers, and yfinance its ways, overnight. What is looked at here is named in the words of Yahoo's own
answers, so that whoever reads it can see what has moved.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from luigi_tasks.errors import (
    NetworkFailure,
    NoSuchTicker,
    PatienceExhausted,
    ProviderDown,
    SecuritiesMasterError,
    SourceUnreachable,
    Throttled,
)
from luigi_tasks.market.yahoo.source import YahooSource

TICKER = "AAPL"
"""It has been listed since 1980, trades daily, and has paid a dividend each quarter since 2012."""
UNKNOWN = "ZZZZZZ99"
QUOTED = ("AAPL", "MSFT", "SPY")

_META = (
    *("symbol", "currency", "exchangeName", "instrumentType", "exchangeTimezoneName", "firstTradeDate"),
    *("regularMarketTime", "regularMarketPrice", "currentTradingPeriod", "dataGranularity"),
)
_COMPANY = ("longName", "quoteType", "exchange", "currency", "country", "sector", "industry", "marketCap")
_QUOTE = (
    *("symbol", "currency", "exchangeTimezoneName", "regularMarketTime", "regularMarketPreviousClose"),
    *("marketCap", "sharesOutstanding"),
)
_AWAY = (SourceUnreachable, Throttled, ProviderDown, NetworkFailure, PatienceExhausted)
_PLAINEST = "chart, bars and actions"
_FUND_LACKS = ("sharesOutstanding", "marketCap")
_RECENT = dt.timedelta(days=400)
_FEWEST_SESSIONS = 250


@dataclass(frozen=True)
class Part:
    """A part of the contract: what was seen of it, or else what is wrong with it."""

    name: str
    seen: str = ""
    problem: str = ""
    away: bool = False
    """Nothing can be told: there was no answer, or none but that too much was asked."""


def look(source: YahooSource, today: dt.date | None = None) -> Iterator[Part]:
    """The parts, one after another, with about six requests. Raises nothing of Yahoo's."""
    day = today or dt.datetime.now(dt.UTC).date()
    parts: dict[str, Callable[[], Part]] = {
        "crumb": lambda: _crumb(source),
        _PLAINEST: lambda: _bars(source, day),
        "chart, error words": lambda: _unknown(source, day),
        "quoteSummary": lambda: _company(source),
        "quote": lambda: _quotes(source),
    }
    if source.plain:
        del parts["quote"]
    answered = False
    for name, asked in parts.items():
        try:
            yield asked()
            answered |= name == _PLAINEST
        except SecuritiesMasterError as error:
            # While it answers the plainest question, what it refuses has moved.
            away = isinstance(error, _AWAY) and not answered
            yield Part(name, problem=str(error), away=away)
            if away:
                return


def _crumb(source: YahooSource) -> Part:
    # Any HTTP answer means that Yahoo is there.
    source.check()
    if source.plain:
        return Part("crumb", "Yahoo answers; yfinance gets its own")
    source.require_access()
    return Part("crumb", "Yahoo gives one")


def _bars(source: YahooSource, day: dt.date) -> Part:
    name = _PLAINEST
    frame = source.bars(TICKER, day - _RECENT, day)
    lacking = [key for key in _META if key not in source.last_meta()]
    if lacking:
        return Part(name, problem=f"meta has no {', '.join(lacking)} any more")
    if frame is None or len(frame) < _FEWEST_SESSIONS:
        return Part(name, problem=f"{0 if frame is None else len(frame)} bars of {TICKER} in 400 days")
    lacks = [column for column in ("open", "high", "low", "close", "adj_close", "volume") if frame[column].isna().all()]
    if lacks:
        return Part(name, problem=f"no {', '.join(lacks)} in any bar of {TICKER}")
    dividends = int((frame["dividends"] > 0).sum())
    if not dividends:
        return Part(name, problem=f"no dividend of {TICKER} in 400 days; events are told otherwise now?")
    return Part(
        name, f"{len(frame)} bars and {dividends} dividends of {TICKER}, up to {frame['date'].iloc[-1]:%Y-%m-%d}"
    )


def _unknown(source: YahooSource, day: dt.date) -> Part:
    name = "chart, error words"
    try:
        source.bars(UNKNOWN, day - _RECENT, day)
    except NoSuchTicker as error:
        return Part(name, error.reason)
    return Part(name, problem=f"Yahoo does not say that it has no {UNKNOWN}")


def _company(source: YahooSource) -> Part:
    answer = source.metadata(TICKER)
    lacking = [key for key in _COMPANY if answer.get(key) is None]
    if lacking:
        return Part("quoteSummary", problem=f"{TICKER} has no {', '.join(lacking)} any more")
    return Part("quoteSummary", f"{len(answer)} fields of {TICKER}: {answer['sector']}, {answer['industry']}")


def _quotes(source: YahooSource) -> Part:
    found = source.quotes(QUOTED)
    missing = [ticker for ticker in QUOTED if ticker not in found]
    if missing:
        return Part(
            "quote", problem=f"of {', '.join(QUOTED)}, asked for at once, {', '.join(missing)} did not come back"
        )
    lacking = {
        f"{ticker} {key}"
        for ticker, answer in found.items()
        for key in _QUOTE
        if answer.get(key) is None and (answer.get("quoteType") == "EQUITY" or key not in _FUND_LACKS)
    }
    if lacking:
        return Part("quote", problem=f"lacks {', '.join(sorted(lacking))}")
    return Part("quote", f"{', '.join(QUOTED)} at once")
