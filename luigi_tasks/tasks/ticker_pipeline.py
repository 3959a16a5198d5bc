"""TickerPipeline: all steps of one ticker."""

from __future__ import annotations

import logging

import luigi

from luigi_tasks.tasks.base import HistoryTask
from luigi_tasks.tasks.insert_metadata import InsertMetadata
from luigi_tasks.tasks.insert_ohlcv import InsertOhlcv
from luigi_tasks.tasks.parameters import Asked
from luigi_tasks.tasks.register_security import RegisterSecurity

logger = logging.getLogger(__name__)


class TickerPipeline(HistoryTask, luigi.WrapperTask):
    """Complete when the ticker is registered and its bars and company data are stored."""

    asked: bool = Asked()

    def requires(self) -> list[luigi.Task]:
        return [self.clone(RegisterSecurity), self.clone(InsertOhlcv), self.clone(InsertMetadata)]

    def run(self) -> None:
        logger.info("%s is done", self.ticker)
