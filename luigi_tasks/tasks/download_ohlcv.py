"""DownloadOhlcv: a ticker's daily bars, as the source has them, in a parquet file."""

from __future__ import annotations

import datetime as dt
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from luigi_tasks import probe, settings
from luigi_tasks.database.standing import Standing
from luigi_tasks.errors import Delisted, NoBars, NoSuchTicker, SecuritiesMasterError
from luigi_tasks.schedule import Span, Stored, to_ask
from luigi_tasks.targets.files import ParquetTarget
from luigi_tasks.tasks.base import AskingTask, HistoryTask, client, database_url, first_day, pipeline, source
from luigi_tasks.tasks.download_quotes import of_ticker, wanted
from luigi_tasks.tasks.parameters import today

if TYPE_CHECKING:
    from pandas import DataFrame

logger = logging.getLogger(__name__)


class DownloadOhlcv(AskingTask, HistoryTask):
    """Downloads the bars with dividends and splits, from `years_back` years before the as-of date up to it.

    Of a ticker that is stored only the last sessions, unless they show that what comes before was restated.
    """

    resources = {"yfinance_api": 1}

    def output(self) -> ParquetTarget:
        return self.bars_target("raw_bars")

    def run(self) -> None:
        # Not at the top: it loads pandas, which the parent does without until there is work.
        from luigi_tasks.bars import ASKED
        from luigi_tasks.history import download

        chosen, start = settings.load(), first_day(self.date, self.years_back)
        known, stored = self._known(), self._history()
        days = partial(to_ask, self.ticker, stored, start, self.date, chosen.whole_days)
        zone, quote = known.get("time_zone"), self._quote()
        why = probe.restated(quote, stored, known.get("exchange")) if quote is not None and stored is not None else ""
        try:
            bars = download(
                lambda days: self._ask(days, zone), self._stored, days(full=self.full or bool(why)), days(full=True)
            )
        except NoSuchTicker as error:
            if chosen.source == "yahoo":
                self.with_retries(lambda: Standing(database_url()).absent(self.ticker, today(), self._witnesses_answer))
            raise _gone(error, known) from error
        if bars is None:
            raise NoBars(self.ticker, f"has no bars from {start} to {self.date}")
        if why:
            bars.attrs[ASKED] |= {"because": why, "probe": "previous close"}
        self.output().write(bars)

    def nothing_new(self) -> bool:
        """Whether the ticker's quote says that there is no bar up to the as-of date which is not stored."""
        quote = None if self.full else self._quote()
        if quote is None:
            return False
        stored, start = self._history(), first_day(self.date, self.years_back)
        if stored is None or to_ask(self.ticker, stored, start, self.date, settings.load().whole_days).whole:
            return False
        return probe.nothing_new(quote, stored, self._known().get("exchange"), self.date)

    def _known(self) -> dict[str, Any]:
        return self.with_retries(lambda: client().security(self.ticker)) or {}

    def _history(self) -> Stored | None:
        sessions = settings.load().overlap_sessions
        return self.with_retries(lambda: client().stored(self.ticker, self.date, sessions))

    def _quote(self) -> probe.Quote | None:
        """What its quote tells, None where there is none, or where it shall tell nothing."""
        target = of_ticker(self.date, self.ticker)
        return probe.read(target.read()) if settings.load().probe and wanted(self.date) and target.exists() else None

    def _ask(self, days: Span, zone: str | None) -> DataFrame | None:
        scraper = pipeline()
        return self.with_retries(lambda: scraper.scrape_date_range(self.ticker, days.start, days.end, zone))

    def _stored(self, days: Span) -> DataFrame:
        return self.with_retries(lambda: client().bars(self.ticker, days.start, days.end))

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
