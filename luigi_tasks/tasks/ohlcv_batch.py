"""OhlcvBatch: the bars of some tickers of a run, from the source to the table."""

from __future__ import annotations

from luigi_tasks.tasks.insert_ohlcv import InsertOhlcv
from luigi_tasks.tasks.register_security import RegisterSecurity
from luigi_tasks.tasks.ticker_batch import TickerBatch


class OhlcvBatch(TickerBatch):
    """RegisterSecurity, DownloadOhlcv, ValidateOhlcv and InsertOhlcv of some tickers."""

    resources = {"yfinance_api": 1}
    kind = "ohlcv"
    storing = (RegisterSecurity, InsertOhlcv)
