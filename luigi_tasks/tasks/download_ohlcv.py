"""DownloadOhlcv: a ticker's daily bars, as the source has them, in a parquet file."""

from __future__ import annotations

import datetime as dt
import logging
from typing import Any

from luigi_tasks import settings
from luigi_tasks.database.standing import Standing
from luigi_tasks.errors import Delisted, NoBars, NoSuchTicker, SecuritiesMasterError
from luigi_tasks.targets import paths
from luigi_tasks.targets.files import ParquetTarget
from luigi_tasks.tasks.base import AskingTask, TickerTask, client, database_url, first_day, pipeline, source
from luigi_tasks.tasks.parameters import today

logger = logging.getLogger(__name__)


class DownloadOhlcv(AskingTask, TickerTask):
    """Downloads the bars with dividends and splits, from `years_back` years before the as-of date up to it."""

    resources = {"yfinance_api": 1}

    def output(self) -> ParquetTarget:
        return ParquetTarget(paths.bars(settings.load().store, "raw_bars", self.date, self.years_back, self.ticker))

    def run(self) -> None:
        start, scraper = first_day(self.date, self.years_back), pipeline()
        known = self.with_retries(lambda: client().security(self.ticker)) or {}
        zone = known.get("time_zone")
        try:
            bars = self.with_retries(lambda: scraper.scrape_date_range(self.ticker, start, self.date, zone))
        except NoSuchTicker as error:
            if settings.load().source == "yahoo":
                self.with_retries(lambda: Standing(database_url()).absent(self.ticker, today(), self._witnesses_answer))
            raise _gone(error, known) from error
        if bars is None:
            raise NoBars(self.ticker, f"has no bars from {start} to {self.date}")
        self.output().write(bars)
        self.say(f"{len(bars):,} bars")

    def _witnesses_answer(self) -> bool:
        """Whether Yahoo has recent bars of the well-known tickers: if not, its "no such ticker" proves nothing."""
        market, day = source(), today()
        for witness in settings.load().witnesses:
            if witness == self.ticker:
                continue
            try:
                bars = market.bars(witness, day - dt.timedelta(days=14), day)
            except SecuritiesMasterError as error:
                logger.info("the witness %s did not answer: %s", witness, error)
                return False
            if bars is None:
                return False
        return True


def _gone(error: NoSuchTicker, known: dict[str, Any]) -> SecuritiesMasterError:
    """The error to raise: a ticker that we have bars of was delisted or renamed, another may never have been there."""
    last = known.get("last_session")
    if last is None:
        return error
    return Delisted(error.subject, f"{error.reason}; its bars up to {last} are stored", "They stay.")
