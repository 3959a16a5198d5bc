"""OhlcvPipeline: the bars of a ticker, from the source to the table, in one process."""

from __future__ import annotations

import logging

from luigi_tasks.errors import OutdatedDownload
from luigi_tasks.tasks.download_ohlcv import DownloadOhlcv
from luigi_tasks.tasks.in_one_process import InOneProcess
from luigi_tasks.tasks.insert_ohlcv import InsertOhlcv
from luigi_tasks.tasks.register_security import RegisterSecurity

logger = logging.getLogger(__name__)


class OhlcvPipeline(InOneProcess):
    """RegisterSecurity, DownloadOhlcv, ValidateOhlcv and InsertOhlcv of a ticker."""

    resources = {"yfinance_api": 1}
    kind = "ohlcv"
    storing = (RegisterSecurity, InsertOhlcv)
    group_priority = 7

    def prepare(self) -> None:
        """Where its quote says that there is no new bar, note that the stored ones are those as of this date."""
        insert = self.clone(InsertOhlcv)
        # In this order: where there is no quote, nobody is asked anything.
        if self.clone(DownloadOhlcv).nothing_new() and not insert.complete():
            try:
                insert.confirm()
            except OutdatedDownload as error:
                # Somebody stored or accepted other bars in between.
                logger.info("%s; asking for them", error)
