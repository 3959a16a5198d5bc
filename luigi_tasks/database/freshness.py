"""How far the stored bars reach."""

from __future__ import annotations

import datetime as dt
from collections import Counter

import sqlalchemy as sa

from luigi_tasks.database.engine import engine_for, transaction

# Not those that have left every list, have another name now, or are denied by their provider. One look into the index
# for each: the table may have millions of bars.
_LAST_BARS = sa.text(
    """
    SELECT s.exchange, newest.date, count(*) AS tickers
    FROM securities AS s
    LEFT JOIN LATERAL (
        SELECT o.date FROM ohlcv AS o WHERE o.security_id = s.security_id ORDER BY o.date DESC LIMIT 1
    ) AS newest ON true
    WHERE s.exchange IS NOT NULL AND s.successor IS NULL
        AND NOT EXISTS (SELECT FROM absences AS a WHERE a.ticker = s.ticker AND a.confirmed)
        AND coalesce(
            (SELECT bool_or(g.valid_to IS NULL) FROM security_groupings AS g WHERE g.security_id = s.security_id), true
        )
    GROUP BY s.exchange, newest.date
    """
)


def last_bars(database_url: str) -> dict[str, Counter[dt.date]]:
    """{exchange: {day: how many tickers have their last bar on it}}, of those that may be expected to have new ones.

    `datetime.date.min` stands for no bar at all.
    """
    found: dict[str, Counter[dt.date]] = {}
    with transaction(engine_for(database_url), "the last bars") as connection:
        for exchange, day, tickers in connection.execute(_LAST_BARS):
            found.setdefault(exchange, Counter())[day or dt.date.min] += tickers
    return found
