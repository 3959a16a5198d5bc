"""The interface between this project and whoever has the data."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import pandas as pd


MOST_QUOTES = 50
"""Tickers of one question for quotes: over 99 fail, from 65 on some have been refused (reports of 2025 and 2026)."""


class MarketDataSource(Protocol):
    """Something that has daily bars and company data by ticker."""

    def check(self) -> None:
        """Make sure that the source can be used at all.

        Raises:
            SourceUnreachable: it cannot; the message says why and what helps.
        """

    def bars(self, ticker: str, start: dt.date, end: dt.date, zone: str | None = None) -> pd.DataFrame | None:
        """Daily bars of the sessions from `start` to `end`, both included, in the shape of `luigi_tasks.bars`.

        None when the source knows the ticker and has no bars in that range. `zone` is that of the exchange (IANA name)
        where it is known already.

        Raises:
            TransientError: worth trying again.
            TerminalError: not worth it; NoSuchTicker when the source does not know the ticker.
        """

    def metadata(self, ticker: str) -> dict[str, Any]:
        """Company data: the source's own field names, JSON values. Raises like `bars`."""

    def quotes(self, tickers: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What the source tells of many tickers at once: its own field names, JSON values.

        Only of those that it has a quote of; empty where it has none of any. A quote is no bar. Raises like `bars`.
        """
