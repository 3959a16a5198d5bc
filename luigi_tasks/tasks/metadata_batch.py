"""MetadataBatch: the company data of some tickers of a run, from the source to the table."""

from __future__ import annotations

from luigi_tasks.tasks.insert_metadata import InsertMetadata
from luigi_tasks.tasks.ticker_batch import TickerBatch


class MetadataBatch(TickerBatch):
    """RegisterSecurity, DownloadMetadata and InsertMetadata of some tickers."""

    # A resource of its own: slower by the rate that Yahoo bears, it would keep the bars waiting.
    resources = {"yfinance_company": 1}
    kind = "metadata"
    storing = (InsertMetadata,)
