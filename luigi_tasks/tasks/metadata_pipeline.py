"""MetadataPipeline: the company data of a ticker, from the source to the table, in one process."""

from __future__ import annotations

from collections.abc import Sequence

from luigi_tasks import settings
from luigi_tasks.database.standing import Standing
from luigi_tasks.tasks.base import database_url
from luigi_tasks.tasks.download_quotes import wanted
from luigi_tasks.tasks.in_one_process import InOneProcess
from luigi_tasks.tasks.insert_metadata import InsertMetadata
from luigi_tasks.tasks.parameters import OfFamily
from luigi_tasks.tasks.ticker_pipeline import TickerPipeline


class MetadataPipeline(InOneProcess):
    """RegisterSecurity, DownloadMetadata and InsertMetadata of a ticker."""

    # Both: below the bars in priority, it gets a unit of the first only where no bars are left that could take it. The
    # second, so that these, which are slower by the rate that Yahoo bears, never hold all units of the first.
    resources = {"yfinance_api": 1, "yfinance_company": 1}
    priority: int = OfFamily(default=5, description="higher runs first; below the groups of bars, which come first")
    kind = "metadata"
    storing = (InsertMetadata,)
    group_priority = 3

    @classmethod
    def asking(cls, pipelines: Sequence[TickerPipeline]) -> int:
        """Those whose company data is due; the numbers of the others come by quote."""
        if not pipelines or not wanted(pipelines[0].date):
            return len(pipelines)
        tickers, days = [pipeline.ticker for pipeline in pipelines], settings.load().refresh_days
        return len(pipelines) - len(Standing(database_url()).fresh_metadata(tickers, pipelines[0].date, days))
