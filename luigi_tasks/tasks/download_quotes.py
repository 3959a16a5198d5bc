"""DownloadQuotes: what Yahoo says of many tickers by one request: market value, shares, previous close."""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
from typing import Any

from luigi_tasks import settings
from luigi_tasks.errors import (
    ConfigurationError,
    DatabaseRefused,
    DatabaseUnavailable,
    PatienceExhausted,
    RefusedAltogether,
    SecuritiesMasterError,
    TransientError,
)
from luigi_tasks.run import lifecycle
from luigi_tasks.targets import paths
from luigi_tasks.targets.files import JsonTarget
from luigi_tasks.tasks.base import AskingTask, client, source
from luigi_tasks.tasks.parameters import OfFamily, Tickers

logger = logging.getLogger(__name__)

_NOT_YAHOOS = (ConfigurationError, DatabaseRefused, DatabaseUnavailable)


_AGAIN = dt.timedelta(minutes=5)
"""After which what failed for a passing reason is asked for again, if anybody still wants it."""
_STRANGERS = "quotes in another currency or time zone than the stored bars"


class QuotesTarget(JsonTarget):
    """What came of a question for quotes; it does not last where the reason was a passing one."""

    def exists(self) -> bool:
        if not super().exists():
            return False
        again = self.read().get("again_after")
        return again is None or dt.datetime.now(dt.UTC) < dt.datetime.fromisoformat(again)


class DownloadQuotes(AskingTask):
    """Asks for quotes of the tickers, each of which gets a file of its own, and stores the numbers that move daily.

    It is done whatever came of it: who finds no quote of a ticker asks for its company data instead, and does without
    the probe. What failed for a passing reason is asked for again by the groups of company data, which come later.
    """

    # Fewer than others: without quotes all goes on.
    attempts: int = OfFamily(default=4, description="tries at what is transient")
    resources = {"yfinance_api": 1}
    tickers: tuple[str, ...] = Tickers(description="tickers, separated by commas")
    priority: int = OfFamily(default=30, description="higher runs first")

    def output(self) -> QuotesTarget:
        digest = hashlib.sha256(",".join(self.tickers).encode()).hexdigest()[:16]
        return QuotesTarget(paths.quotes(settings.load().store, self.date, digest))

    def run(self) -> None:
        found, reason, again, market = dict[str, dict[str, Any]](), "", None, source()
        asked_at = dt.datetime.now(dt.UTC)
        try:
            found = self.with_retries(lambda: market.quotes(self.tickers))
        except _NOT_YAHOOS:
            raise
        except SecuritiesMasterError as error:
            if isinstance(error, PatienceExhausted) and not isinstance(error, RefusedAltogether):
                raise
            reason = error.reason
            again = (asked_at + _AGAIN).isoformat() if isinstance(error, TransientError) else None
            logger.warning("no quotes of %d tickers: %s", len(self.tickers), error)
        if found:
            strangers = self.with_retries(lambda: client().insert_numbers(found, as_of=self.date))
            found = {ticker: quote for ticker, quote in found.items() if ticker not in strangers}
            reason = _STRANGERS if strangers else reason
        for ticker, quote in found.items():
            of_ticker(self.date, ticker).write({"asked_at": asked_at.isoformat(), "quote": quote})
        lacking = [ticker for ticker in self.tickers if ticker not in found]
        document = {"tickers": list(self.tickers), "lacking": lacking, "reason": reason, "again_after": again}
        self.output().write(document)

    def receipt(self) -> tuple[int, dict[str, Any]]:
        document = self.output().read()
        lacking = document["lacking"]
        return len(self.tickers) - len(lacking), {"lacking_quotes": lacking, "reason": document["reason"]}


def of_ticker(date: dt.date, ticker: str) -> JsonTarget:
    """The quote of one ticker: {asked_at, quote}."""
    return JsonTarget(paths.quote(settings.load().store, date, ticker))


def wanted(date: dt.date) -> bool:
    """Whether a run as of that date asks for quotes, which only ever tell of today: of the day when the run began."""
    chosen = settings.load()
    return chosen.quotes and chosen.source == "yahoo" and not chosen.plain and date == lifecycle.moment().date()
