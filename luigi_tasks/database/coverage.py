"""How much is stored, over time: the numbers behind the report's charts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from luigi_tasks.database.engine import engine_for, transaction

_OF_THESE = "securities.ticker = ANY(:tickers)"

REPAIRED = ("close", "adj_close", "open", "high", "low", "volume", "dividends")
"""Columns of a bar that a repair may be of; those that tell most of it first."""

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
    FROM quarantined_bars JOIN securities USING (security_id)
    WHERE {_OF_THESE} AND NOT provisional ORDER BY ticker, date, number
"""

_AROUND = """
    SELECT date, open, high, low, close FROM ohlcv JOIN securities USING (security_id)
    WHERE ticker = :ticker AND date BETWEEN :start AND :end ORDER BY date
"""

_EXCHANGES = f"""
    SELECT exchange, count(*) AS tickers FROM securities WHERE {_OF_THESE} AND exchange IS NOT NULL GROUP BY exchange
"""

_LACKING = f"""
    SELECT exchange, date, ticker, coalesce(asked_again <= :as_of, false) AS known
    FROM missing_sessions JOIN securities USING (security_id)
    WHERE {_OF_THESE} AND date = ANY(:days) AND noticed <= :as_of ORDER BY ticker, date
"""

_HAVING = f"""
    SELECT exchange, date, count(*) AS tickers FROM ohlcv JOIN securities USING (security_id)
    WHERE {_OF_THESE} AND date = ANY(:days) GROUP BY exchange, date
"""

# A session that was moved to another day leaves a hole beside it. Three days: over a weekend.
_TRADED = f"""
    SELECT ticker, date FROM ohlcv JOIN securities USING (security_id)
    WHERE {_OF_THESE} AND date = ANY(:days) AND volume > 0 AND NOT EXISTS (
        SELECT FROM missing_sessions AS missing
        WHERE missing.security_id = ohlcv.security_id AND missing.date BETWEEN ohlcv.date - 3 AND ohlcv.date + 3
    )
"""

# A download covers the last ten sessions, so that no older one is provisional.
_PROVISIONAL = f"""
    SELECT count(*) FROM securities, LATERAL (
        SELECT provisional FROM ohlcv WHERE security_id = securities.security_id ORDER BY date DESC LIMIT 10
    ) AS newest
    WHERE {_OF_THESE} AND provisional
"""

_REPAIRS = f"""
    SELECT ticker, rule, count(*) AS "values", count(DISTINCT date) AS bars, min(date) AS first, max(date) AS last,
        (array_agg(evidence ORDER BY date DESC, "column"))[1] AS evidence
    FROM repairs JOIN securities USING (security_id) WHERE {_OF_THESE} AND until IS NULL
    GROUP BY ticker, rule ORDER BY ticker, rule
"""

_REPAIRED_COLUMNS = f"""
    SELECT ticker, "column", count(*) AS "values", min(date) AS first, max(date) AS last
    FROM repairs JOIN securities USING (security_id) WHERE {_OF_THESE} AND until IS NULL
    GROUP BY ticker, "column" ORDER BY ticker, "column"
"""

# Of a session that came several times, number 0 is what a repair is of.
_BESIDE = """
    WITH mended AS (
        SELECT security_id, date, "column", old, new FROM repairs JOIN securities USING (security_id)
        WHERE ticker = :ticker AND until IS NULL AND date BETWEEN :start AND :end
    ), bars AS (
        SELECT date, {column}::double precision AS value FROM ohlcv JOIN securities USING (security_id)
        WHERE ticker = :ticker AND date BETWEEN :start AND :end
        UNION ALL
        SELECT date, {column} FROM quarantined_bars AS bad
        WHERE (security_id, date) IN (SELECT security_id, date FROM mended) AND number = 0
            AND NOT EXISTS (SELECT FROM ohlcv WHERE security_id = bad.security_id AND date = bad.date)
    )
    SELECT date, coalesce(old, value) AS served, coalesce(new, value) AS repaired, new IS NOT NULL AS mended
    FROM bars LEFT JOIN (SELECT date, old, new FROM mended WHERE "column" = :column) AS of_column USING (date)
    ORDER BY date
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
        """The bars in quarantine, but for those that wait for the source to settle them: ticker, date, open, high, low,
        close, broken ([{rule, value, threshold}])."""
        return [dict(row._mapping) for row in self._rows(_QUARANTINED, tickers=list(tickers))]

    def bars_around(
        self, ticker: str, start: dt.date, end: dt.date
    ) -> list[tuple[dt.date, float, float, float, float]]:
        """(date, open, high, low, close) of the stored bars of these days."""
        return [tuple(row) for row in self._rows(_AROUND, ticker=ticker, start=start, end=end)]

    def exchanges(self, tickers: Collection[str]) -> dict[str, int]:
        """{exchange: how many of the tickers are listed there}."""
        return {row.exchange: row.tickers for row in self._rows(_EXCHANGES, tickers=list(tickers))}

    def lacking(
        self, tickers: Collection[str], days: Collection[dt.date], as_of: dt.date
    ) -> dict[tuple[str, dt.date], list[tuple[str, bool]]]:
        """{(exchange, day): [(ticker, whether it was asked for again in vain)]} of those that lack this session."""
        found: dict[tuple[str, dt.date], list[tuple[str, bool]]] = {}
        for row in self._rows(_LACKING, tickers=list(tickers), days=list(days), as_of=as_of):
            found.setdefault((row.exchange, row.date), []).append((row.ticker, row.known))
        return found

    def having(self, tickers: Collection[str], days: Collection[dt.date]) -> dict[tuple[str, dt.date], int]:
        """{(exchange, day): how many of the tickers have a bar of it}."""
        rows = self._rows(_HAVING, tickers=list(tickers), days=list(days))
        return {(row.exchange, row.date): row.tickers for row in rows}

    def traded(self, tickers: Collection[str], days: Collection[dt.date]) -> set[tuple[str, dt.date]]:
        """(ticker, day) of the bars of these days that have volume, and no missing session beside them."""
        return {(row.ticker, row.date) for row in self._rows(_TRADED, tickers=list(tickers), days=list(days))}

    def provisional(self, tickers: Collection[str]) -> int:
        """How many of their bars the source may still settle."""
        ((count,),) = self._rows(_PROVISIONAL, tickers=list(tickers))
        return int(count)

    def repairs(self, tickers: Collection[str]) -> dict[str, dict[str, dict[str, Any]]]:
        """{ticker: {rule: {values, bars, first, last, evidence}}} of the repairs that hold.

        `evidence` is that of the latest repaired bar; days are ISO dates.
        """
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for row in self._rows(_REPAIRS, tickers=list(tickers)):
            counts = {"values": row.values, "bars": row.bars, "first": str(row.first), "last": str(row.last)}
            found.setdefault(row.ticker, {})[row.rule] = counts | {"evidence": row.evidence}
        return found

    def repaired_columns(self, tickers: Collection[str]) -> dict[str, dict[str, tuple[int, dt.date, dt.date]]]:
        """{ticker: {column: (repaired values, day of the first, day of the last)}}."""
        found: dict[str, dict[str, tuple[int, dt.date, dt.date]]] = {}
        for row in self._rows(_REPAIRED_COLUMNS, tickers=list(tickers)):
            found.setdefault(row.ticker, {})[row.column] = (row._mapping["values"], row.first, row.last)
        return found

    def repaired_beside_served(
        self, ticker: str, column: str, start: dt.date, end: dt.date
    ) -> list[tuple[dt.date, float | None, float | None, bool]]:
        """(day, value as served, value repaired, whether it is) of a column of the bars, with those in quarantine that
        a repair makes whole."""
        if column not in REPAIRED:
            raise ValueError(f"{column!r} is no column that is repaired")
        rows = self._rows(_BESIDE.replace("{column}", column), ticker=ticker, column=column, start=start, end=end)
        return [tuple(row) for row in rows]

    def listing_changes(self, as_of: dt.date) -> list[Listing]:
        """Who joined or left a grouping as of that date; of groupings that were listed before it."""
        return [Listing(*row) for row in self._rows(_LISTING_CHANGES, as_of=as_of)]

    def _rows(self, statement: str, **values: Any) -> list[Any]:
        query = sa.text(statement)
        lists: dict[str, sa.ARRAY[Any]] = {"tickers": sa.ARRAY(sa.Text), "days": sa.ARRAY(sa.Date)}
        query = query.bindparams(*(sa.bindparam(name, type_=lists[name]) for name in lists if name in values))
        with transaction(self._engine, "what is stored") as connection:
            return list(connection.execute(query, values).all())
