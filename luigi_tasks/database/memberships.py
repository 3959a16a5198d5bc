"""Which securities a grouping had on which day: intervals from an as-of date on, up to another, which is not in them.

An as-of date before the latest one as of which a grouping was listed changes nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping

import sqlalchemy as sa

from luigi_tasks.database.engine import engine_for, transaction
from luigi_tasks.database.ledger import Marker, write_marker

_OPEN = """
    INSERT INTO security_groupings (security_id, "grouping", valid_from)
    SELECT security_id, "grouping", :as_of
    FROM unnest(CAST(:tickers AS text[]), CAST(:groupings AS text[])) AS listed (ticker, "grouping")
    JOIN securities USING (ticker)
    WHERE NOT EXISTS (
        SELECT FROM grouping_listings AS seen WHERE seen."grouping" = listed."grouping" AND seen.as_of > :as_of
    )
    AND NOT EXISTS (
        SELECT FROM security_groupings AS held
        WHERE held.security_id = securities.security_id AND held."grouping" = listed."grouping"
        AND (held.valid_to IS NULL OR held.valid_to > :as_of)
    )
    ON CONFLICT DO NOTHING
"""
_LEFT = """
    security_groupings.valid_to IS NULL AND security_groupings."grouping" = ANY(CAST(:whole AS text[]))
    AND NOT EXISTS (
        SELECT FROM unnest(CAST(:tickers AS text[]), CAST(:groupings AS text[])) AS listed (ticker, "grouping")
        JOIN securities USING (ticker)
        WHERE securities.security_id = security_groupings.security_id
        AND listed."grouping" = security_groupings."grouping"
    )
"""


def enlist(
    connection: sa.Connection, listed: Mapping[str, Collection[str]], as_of: dt.date, whole: Collection[str] = ()
) -> int:
    """Open memberships of registered tickers, {ticker: groupings}; the number of those opened and ended.

    Of the groupings in `whole` the list is complete: who is not on it any more is a member until this as-of date.
    """
    pairs = [(ticker, name) for ticker, names in listed.items() for name in dict.fromkeys(names)]
    values = {
        "as_of": as_of,
        "tickers": [ticker for ticker, _ in pairs],
        "groupings": [name for _, name in pairs],
    }
    count = 0
    if whole:
        seen = sa.text(
            'INSERT INTO grouping_listings ("grouping", as_of) SELECT unnest(CAST(:whole AS text[])), :as_of '
            'ON CONFLICT ("grouping") DO UPDATE SET as_of = excluded.as_of '
            'WHERE grouping_listings.as_of <= excluded.as_of RETURNING "grouping"'
        )
        # In one order, so that two who record at once wait for each other instead of forever.
        latest = list(connection.scalars(seen, values | {"whole": sorted(set(whole))}))
        of_these = values | {"whole": latest}
        # Opened and ended as of one day: it was never a member.
        connection.execute(sa.text(f"DELETE FROM security_groupings WHERE {_LEFT} AND valid_from = :as_of"), of_these)
        ended = connection.execute(
            sa.text(f"UPDATE security_groupings SET valid_to = :as_of WHERE {_LEFT} AND valid_from < :as_of"), of_these
        )
        count += ended.rowcount
    return count + connection.execute(sa.text(_OPEN), values).rowcount


class Memberships:
    """Of one database."""

    def __init__(self, database_url: str) -> None:
        self._engine = engine_for(database_url)

    def record(
        self,
        listed: Mapping[str, Collection[str]],
        whole: Collection[str],
        renamed: Mapping[str, str],
        as_of: dt.date,
        marker: Marker,
    ) -> None:
        """Keep a run's list of tickers, {ticker: groupings}, of which `whole` groupings are complete, and what
        tickers are called now, {old: new}; in one transaction with the marker."""
        with transaction(self._engine, "the universe") as connection:
            connection.execute(
                sa.text(
                    "INSERT INTO securities (ticker) SELECT unnest(CAST(:tickers AS text[])) ON CONFLICT DO NOTHING"
                ),
                {"tickers": sorted(listed)},
            )
            enlist(connection, listed, as_of, whole)
            connection.execute(
                sa.text(
                    "UPDATE securities SET successor = now.successor FROM ("
                    "SELECT ticker, names.new AS successor FROM securities LEFT JOIN "
                    "unnest(CAST(:old AS text[]), CAST(:new AS text[])) AS names (ticker, new) USING (ticker)"
                    ") AS now WHERE now.ticker = securities.ticker "
                    "AND securities.successor IS DISTINCT FROM now.successor"
                ),
                {"old": list(renamed), "new": list(renamed.values())},
            )
            write_marker(connection, marker)
