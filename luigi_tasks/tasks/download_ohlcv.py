"""DownloadOhlcv: a ticker's daily bars, as the source has them, in a parquet file."""

from __future__ import annotations

from luigi_tasks import settings
from luigi_tasks.errors import NoBars
from luigi_tasks.targets import paths
from luigi_tasks.targets.files import ParquetTarget
from luigi_tasks.tasks.base import TickerTask, first_day, pipeline


class DownloadOhlcv(TickerTask):
    """Downloads the bars with dividends and splits, from `years_back` years before the as-of date up to it."""

    resources = {"yfinance_api": 1}

    def output(self) -> ParquetTarget:
        return ParquetTarget(paths.bars(settings.load().store, "raw_bars", self.date, self.years_back, self.ticker))

    def run(self) -> None:
        start = first_day(self.date, self.years_back)
        scraper = pipeline()
        bars = self.with_retries(lambda: scraper.scrape_date_range(self.ticker, start, self.date))
        if bars is None:
            raise NoBars(self.ticker, f"has no bars from {start} to {self.date}")
        self.output().write(bars)
        self.say(f"{len(bars):,} bars")
