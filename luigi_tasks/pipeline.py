"""`YfinancePipeline`: from a ticker to bars and company data that may be stored; usable without Luigi."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pandas as pd

from luigi_tasks import tickers
from luigi_tasks.market.source import MarketDataSource
from luigi_tasks.quality.suite import Verdict, judge


class YfinancePipeline:
    """Downloads and judges, one ticker at a time; it stores nothing and never tries again by itself.

    A ticker may be written as people write it: aapl is AAPL.
    """

    def __init__(
        self,
        source: MarketDataSource | None = None,
        suite_file: Path | str = "config/ohlcv_suite.json",
        most_bad_share: float = 0.95,
    ) -> None:
        """`source` is Yahoo if None; `suite_file` a Great Expectations suite; `most_bad_share` a share from 0 to 1."""
        if source is None:
            from luigi_tasks.market.yahoo import YahooSource

            source = YahooSource()
        self.source = source
        self._suite_file = Path(suite_file).absolute()
        self._most_bad_share = most_bad_share

    def scrape_date_range(
        self, ticker: str, start: dt.date, end: dt.date, zone: str | None = None
    ) -> pd.DataFrame | None:
        """Daily bars from `start` to `end`, both included, in the shape of `luigi_tasks.bars`.

        Unadjusted for dividends, with the adjusted close beside; a session that is not over is left out. None when
        the source knows the ticker and says that it has no bars in the range. `zone` is that of the exchange (IANA
        name), if it is known; what the answer says of the security is in `attrs`, see `luigi_tasks.bars.FACTS`.

        Raises:
            ValueError: `start` is after `end`.
            TransientError: throttled, provider down, network; worth trying again.
            TerminalError: NoSuchTicker and others, where trying again would not help.
        """
        if start > end:
            raise ValueError(f"start {start} is after end {end}")
        return self.source.bars(tickers.normalise(ticker), start, end, zone)

    def scrape_metadata(self, ticker: str) -> dict[str, Any]:
        """Company data under the source's own field names, JSON values. Raises like `scrape_date_range`."""
        return self.source.metadata(tickers.normalise(ticker))

    def validate_ohlcv(self, df: pd.DataFrame, ticker: str) -> bool:
        """True where every bar meets every expectation of the suite. Raises ConfigurationError for a bad suite."""
        return self.examine_ohlcv(df, ticker).success

    def examine_ohlcv(self, df: pd.DataFrame, ticker: str, context: pd.DataFrame | None = None) -> Verdict:
        """The details behind `validate_ohlcv`: valid bars, quarantined ones with the rules they broke, and why.

        `context` are bars of other days, for the rules that look at what surrounds a bar; they are not judged.
        """
        return judge(df, ticker, self._suite_file, self._most_bad_share, context)

    def validate_ticker(self, ticker: str) -> bool:
        """True where the ticker is well-formed; nobody is asked whether it exists. See `tickers`."""
        return tickers.problem_with(tickers.normalise(ticker)) is None
