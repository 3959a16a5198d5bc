"""How much is stored, over time: the numbers behind the report's charts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from luigi_tasks.database.engine import engine_for, transaction

_OF_THESE = "securities.ticker = ANY(:tickers)"

# Grouped by id first: a ticker is looked up once for each group, not for each of millions of bars.
_MONTHS = f"""
    WITH stored AS (
        SELECT security_id, date_trunc('month', date)::date AS month, count(*) AS bars
        FROM ohlcv WHERE security_id IN (SELECT security_id FROM securities WHERE {_OF_THESE}) GROUP BY 1, 2
    ), missing AS (
        SELECT security_id, date_trunc('month', date)::date AS month, count(*) AS missing
        FROM missing_sessions JOIN securities USING (security_id) WHERE {_OF_THESE} GROUP BY 1, 2
    )
    SELECT ticker, month, coalesce(bars, 0) AS bars, coalesce(missing, 0) AS missing
    FROM stored FULL JOIN missing USING (security_id, month) JOIN securities USING (security_id)
    ORDER BY ticker, month
"""

_CLOSES = f"""
    SELECT ticker, array_agg(coalesce(adj_close, close) ORDER BY date) AS closes
    FROM (
        SELECT security_id, max(date) AS date FROM ohlcv
        WHERE date >= :since AND security_id IN (SELECT security_id FROM securities WHERE {_OF_THESE})
        GROUP BY security_id, date_trunc('month', date)
    ) AS month_end JOIN ohlcv USING (security_id, date) JOIN securities USING (security_id)
    GROUP BY ticker
"""

# By two looks into the index for each: the table may have millions of bars.
_ENDS = f"""
    SELECT ticker, ends.first, ends.last
    FROM securities,
    LATERAL (SELECT min(date) AS first, max(date) AS last FROM ohlcv WHERE security_id = securities.security_id) AS ends
    WHERE {_OF_THESE} AND ends.first IS NOT NULL
"""

_QUARANTINED = f"""
    SELECT ticker, date, open, high, low, close, broken
    FROM quarantined_bars JOIN securities USING (security_id) WHERE {_OF_THESE} ORDER BY ticker, date, number
"""

_AROUND = """
    SELECT date, open, high, low, close FROM ohlcv JOIN securities USING (security_id)
    WHERE ticker = :ticker AND date BETWEEN :start AND :end ORDER BY date
"""

_LISTING_CHANGES = """
    SELECT "grouping", ticker, valid_from = :as_of AS joined
    FROM security_groupings AS changed JOIN securities USING (security_id)
    WHERE (valid_from = :as_of OR valid_to = :as_of)
      AND EXISTS (
        SELECT FROM security_groupings AS other
        WHERE other."grouping" = changed."grouping" AND other.valid_from < :as_of
      )
    ORDER BY 1, 2
"""


@dataclass(frozen=True)
class Month:
    """A ticker's month: its bars, and the sessions that there are no bars of; `month` is its first day."""

    ticker: str
    month: dt.date
    bars: int
    missing: int


@dataclass(frozen=True)
class Listing:
    """That a ticker joined a grouping, or left it."""

    grouping: str
    ticker: str
    joined: bool


class Coverage:
    """Of the securities of one database. Every method is one query, for as many tickers as there are."""

    def __init__(self, database_url: str) -> None:
        self._engine = engine_for(database_url)

    def months(self, tickers: Collection[str]) -> list[Month]:
        """All months of which there is a bar or a missing session, by ticker and month."""
        return [Month(*row) for row in self._rows(_MONTHS, tickers=list(tickers))]

    def month_ends(self, tickers: Collection[str], since: dt.date) -> dict[str, list[float]]:
        """{ticker: the last close of each month from that day on}, adjusted where the source says how."""
        return {row.ticker: row.closes for row in self._rows(_CLOSES, tickers=list(tickers), since=since)}

    def ends(self, tickers: Collection[str]) -> dict[str, tuple[dt.date, dt.date]]:
        """{ticker: days of its first and its last bar}, of those that have any."""
        return {row.ticker: (row.first, row.last) for row in self._rows(_ENDS, tickers=list(tickers))}

    def quarantined(self, tickers: Collection[str]) -> list[dict[str, Any]]:
        """The bars in quarantine: ticker, date, open, high, low, close, broken ([{rule, value, threshold}])."""
        return [dict(row._mapping) for row in self._rows(_QUARANTINED, tickers=list(tickers))]

    def bars_around(
        self, ticker: str, start: dt.date, end: dt.date
    ) -> list[tuple[dt.date, float, float, float, float]]:
        """(date, open, high, low, close) of the stored bars of these days."""
        return [tuple(row) for row in self._rows(_AROUND, ticker=ticker, start=start, end=end)]

    def listing_changes(self, as_of: dt.date) -> list[Listing]:
        """Who joined or left a grouping as of that date; of groupings that were listed before it."""
        return [Listing(*row) for row in self._rows(_LISTING_CHANGES, as_of=as_of)]

    def _rows(self, statement: str, **values: Any) -> list[Any]:
        query = sa.text(statement)
        if "tickers" in values:
            query = query.bindparams(sa.bindparam("tickers", type_=sa.ARRAY(sa.Text)))
        with transaction(self._engine, "what is stored") as connection:
            return list(connection.execute(query, values).all())
