"""MetadataPipeline: the company data of a ticker, from the source to the table, in one process."""

from __future__ import annotations

from luigi_tasks.tasks.in_one_process import InOneProcess
from luigi_tasks.tasks.insert_metadata import InsertMetadata


class MetadataPipeline(InOneProcess):
    """RegisterSecurity, DownloadMetadata and InsertMetadata of a ticker."""

    # A resource of its own: slower by the rate that Yahoo bears, it would keep the bars waiting.
    resources = {"yfinance_company": 1}
    kind = "metadata"
    storing = (InsertMetadata,)
