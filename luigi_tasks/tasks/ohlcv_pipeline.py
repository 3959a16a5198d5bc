"""OhlcvPipeline: the bars of a ticker, from the source to the table, in one process."""

from __future__ import annotations

from luigi_tasks.tasks.in_one_process import InOneProcess
from luigi_tasks.tasks.insert_ohlcv import InsertOhlcv
from luigi_tasks.tasks.register_security import RegisterSecurity


class OhlcvPipeline(InOneProcess):
    """RegisterSecurity, DownloadOhlcv, ValidateOhlcv and InsertOhlcv of a ticker."""

    resources = {"yfinance_api": 1}
    kind = "ohlcv"
    storing = (RegisterSecurity, InsertOhlcv)
