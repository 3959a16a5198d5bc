"""DownloadMetadata: a company's data, as the source has it, in a JSON file."""

from __future__ import annotations

from typing import Any

from luigi_tasks import settings
from luigi_tasks.targets import paths
from luigi_tasks.targets.files import JsonTarget
from luigi_tasks.tasks.base import AskingTask, TickerTask, source


class DownloadMetadata(AskingTask, TickerTask):
    """Downloads name, exchange, currency, sector and whatever else the source tells of the company."""

    # The second, so that these, which are slower by the rate that Yahoo bears, never hold all units of the first.
    resources = {"yfinance_api": 1, "yfinance_company": 1}

    def output(self) -> JsonTarget:
        return JsonTarget(paths.company(settings.load().store, self.date, self.ticker))

    def run(self) -> None:
        market = source()
        answer = self.with_retries(lambda: market.metadata(self.ticker))
        self.output().write(answer)

    def receipt(self) -> tuple[int, dict[str, Any]]:
        return 1, {}
