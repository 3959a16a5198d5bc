"""Yahoo Finance, through yfinance.

`source` asks and gives bars and company data; `session` is what every request passes on its way; `answers` tells one
answer from another; `yfinance_ways` is all that goes beyond what yfinance offers officially.
"""

from luigi_tasks.market.yahoo.source import YahooSource

__all__ = ["YahooSource"]
