"""DownloadMetadata: a company's data, as the source has it, in a JSON file."""

from __future__ import annotations

from typing import Any

from luigi_tasks import settings
from luigi_tasks.database.standing import Standing
from luigi_tasks.targets import paths
from luigi_tasks.targets.files import JsonTarget
from luigi_tasks.tasks.base import AskingTask, TickerTask, database_url, source
from luigi_tasks.tasks.download_quotes import of_ticker, wanted


class DownloadMetadata(AskingTask, TickerTask):
    """Puts together what the source tells of the company: {quote, summary}, each None where it was not asked for.

    The numbers that move daily are those of the ticker's quote, if there is one. What seldom changes, sector and
    industry and the like, is asked for where it is due: more often where no quote tells the numbers.
    """

    resources = {"yfinance_api": 1, "yfinance_company": 1}

    def output(self) -> JsonTarget:
        return JsonTarget(paths.company(settings.load().store, self.date, self.ticker))

    def run(self) -> None:
        market, target = source(), of_ticker(self.date, self.ticker)
        quote = target.read()["quote"] if wanted(self.date) and target.exists() else None
        summary = None
        if self._is_due(known=quote is not None):
            summary = self.with_retries(lambda: market.metadata(self.ticker))
        self.output().write({"quote": quote, "summary": summary})

    def receipt(self) -> tuple[int, dict[str, Any]]:
        return 1, {}

    def _is_due(self, *, known: bool) -> bool:
        """Whether the summary is to be asked for; `known`: the daily numbers are."""
        chosen, standing = settings.load(), Standing(database_url())
        days = chosen.refresh_days if known else chosen.refresh_days_without_quotes
        return not self.with_retries(lambda: standing.fresh_metadata([self.ticker], self.date, days))
