"""DownloadQuotes: what Yahoo says of many tickers by one request: market value, shares, previous close."""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
from typing import Any

from luigi_tasks import settings
from luigi_tasks.errors import PatienceExhausted, RefusedAltogether, SecuritiesMasterError
from luigi_tasks.targets import paths
from luigi_tasks.targets.files import JsonTarget
from luigi_tasks.tasks.base import AskingTask, source
from luigi_tasks.tasks.parameters import OfFamily, Tickers, today

logger = logging.getLogger(__name__)


class DownloadQuotes(AskingTask):
    """Asks for quotes of the tickers, each of which gets a file of its own.

    It is done whatever came of it: who finds no quote of a ticker asks for its company data instead, and does without
    the probe.
    """

    # Fewer than others: without quotes all goes on.
    attempts: int = OfFamily(default=2, description="tries at what is transient")
    resources = {"yfinance_api": 1}
    tickers: tuple[str, ...] = Tickers(description="tickers, separated by commas")
    priority: int = OfFamily(default=30, description="higher runs first")

    def output(self) -> JsonTarget:
        digest = hashlib.sha256(",".join(self.tickers).encode()).hexdigest()[:16]
        return JsonTarget(paths.quotes(settings.load().store, self.date, digest))

    def run(self) -> None:
        found, reason, market = dict[str, dict[str, Any]](), "", source()
        asked_at = dt.datetime.now(dt.UTC).isoformat()
        try:
            found = self.with_retries(lambda: market.quotes(self.tickers))
        except SecuritiesMasterError as error:
            if isinstance(error, PatienceExhausted) and not isinstance(error, RefusedAltogether):
                raise
            reason = error.reason
            logger.warning("no quotes of %d tickers: %s", len(self.tickers), error)
        for ticker, quote in found.items():
            of_ticker(self.date, ticker).write({"asked_at": asked_at, "quote": quote})
        lacking = [ticker for ticker in self.tickers if ticker not in found]
        self.output().write({"tickers": list(self.tickers), "lacking": lacking, "reason": reason})

    def receipt(self) -> tuple[int, dict[str, Any]]:
        document = self.output().read()
        lacking = document["lacking"]
        return len(self.tickers) - len(lacking), {"lacking_quotes": lacking, "reason": document["reason"]}


def of_ticker(date: dt.date, ticker: str) -> JsonTarget:
    """The quote of one ticker: {asked_at, quote}."""
    return JsonTarget(paths.quote(settings.load().store, date, ticker))


def wanted(date: dt.date) -> bool:
    """Whether a run as of that date asks for quotes, which only ever tell of today."""
    chosen = settings.load()
    return chosen.quotes and chosen.source == "yahoo" and not chosen.plain and date == today()
