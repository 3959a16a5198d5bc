"""Sessions that the source has no bar of: noticed, asked for again, known to be missing, or filled after all.

A missing session is asked for once more; after that it is known to be missing. Where many securities of one exchange
lack the same session, the provider has lost it: such an outage is asked for in every run of two weeks.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from luigi_tasks.database.engine import engine_for, transaction

OUTAGE_SECURITIES = 10
"""So many securities of one exchange, and a fifth of them, have to lack a session that it is the provider's outage."""

_OUTAGE_PART = 5
_OUTAGE_ASKED_DAYS = 14
# An older session that is found missing was not lost these days; asking would mean whole histories, every day.
_OUTAGE_RECENT_DAYS = 31

# All parts see the tables as they were before: PostgreSQL runs them on one snapshot.
_NOTE = sa.text(
    """
    WITH expected AS (
        SELECT date FROM unnest(CAST(:expected AS date[])) AS date WHERE date BETWEEN :start AND :end
    ), stored AS (
        SELECT date FROM ohlcv WHERE security_id = :security_id AND date BETWEEN :start AND :end
    ), missing AS (
        SELECT date FROM expected EXCEPT SELECT date FROM stored
        EXCEPT SELECT date FROM quarantined_bars WHERE security_id = :security_id AND date BETWEEN :start AND :end
    ), noted AS (
        SELECT date, noticed, asked_again FROM missing_sessions
        WHERE security_id = :security_id AND date BETWEEN :start AND :end
    ), gone AS (
        DELETE FROM missing_sessions
        WHERE security_id = :security_id AND date BETWEEN :start AND :end AND date NOT IN (SELECT date FROM missing)
    ), in_vain AS (
        UPDATE missing_sessions SET asked_again = :as_of
        WHERE security_id = :security_id AND date IN (SELECT date FROM missing)
            AND asked_again IS NULL AND noticed < :as_of
    ), added AS (
        INSERT INTO missing_sessions (security_id, date, noticed) SELECT :security_id, date, :as_of FROM missing
        ON CONFLICT (security_id, date) DO NOTHING
    )
    SELECT date, CASE WHEN noted.asked_again IS NOT NULL OR noted.noticed < :as_of THEN 'known' ELSE 'new' END AS what
    FROM missing LEFT JOIN noted USING (date)
    UNION ALL SELECT date, 'refilled' FROM noted JOIN stored USING (date)
    UNION ALL (SELECT date, 'off_calendar' FROM stored EXCEPT SELECT date, 'off_calendar' FROM expected)
    ORDER BY date
    """
).bindparams(
    *(sa.bindparam(name, type_=sa.Date) for name in ("start", "end", "as_of")),
    sa.bindparam("security_id", type_=sa.BigInteger),
)

_SPECIAL = sa.text(
    """
    SELECT o.date FROM ohlcv AS o LEFT JOIN LATERAL (
        SELECT * FROM ohlcv WHERE security_id = o.security_id AND date < o.date ORDER BY date DESC LIMIT 1
    ) AS before ON true
    WHERE o.security_id = :security_id AND o.date = ANY(:days) AND o.volume > 0
        AND (o.open, o.high, o.low, o.close) IS DISTINCT FROM (before.open, before.high, before.low, before.close)
    """
).bindparams(sa.bindparam("security_id", type_=sa.BigInteger), sa.bindparam("days", type_=sa.ARRAY(sa.Date)))

# Of the tickers, as far as they were noticed up to the as-of date.
_MINE = f"""
    mine AS (
        SELECT s.ticker, s.exchange, m.date, m.asked_again,
            m.noticed >= :as_of - {_OUTAGE_ASKED_DAYS} AND m.date >= m.noticed - {_OUTAGE_RECENT_DAYS} AS recent
        FROM missing_sessions AS m JOIN securities AS s USING (security_id)
        WHERE s.ticker = ANY(:tickers) AND m.noticed <= :as_of
    )
"""

# Those that may be expected to have a bar are those that have one, and those that are noted to lack it: a security
# that is delisted by then, or was not asked for yet, says nothing of the provider.
_OUTAGES = f"""
    lacking AS (
        SELECT s.exchange, m.date, count(*) AS missing, min(m.noticed) AS noticed
        FROM missing_sessions AS m JOIN securities AS s USING (security_id)
        WHERE m.noticed <= :as_of AND m.date IN (SELECT date FROM asked)
        GROUP BY s.exchange, m.date HAVING count(*) >= {OUTAGE_SECURITIES}
    ), outages AS (
        SELECT l.exchange, l.date, l.missing, l.missing + p.present AS securities, l.noticed
        FROM lacking AS l CROSS JOIN LATERAL (
            SELECT count(*) AS present FROM ohlcv AS o JOIN securities AS s USING (security_id)
            WHERE o.date = l.date AND s.exchange = l.exchange
        ) AS p
        WHERE l.missing * {_OUTAGE_PART} >= l.missing + p.present
    )
"""

_TO_ASK_AGAIN = f"""
    WITH {_MINE}, asked AS (
        SELECT DISTINCT date FROM mine WHERE recent AND asked_again IS NOT NULL
    ), {_OUTAGES}
    SELECT ticker, min(date) AS date FROM mine LEFT JOIN outages USING (exchange, date)
    WHERE asked_again IS NULL OR (recent AND outages.missing IS NOT NULL)
    GROUP BY ticker
"""

_FIND_OUTAGES = f"""
    WITH {_MINE}, asked AS (SELECT DISTINCT date FROM mine), {_OUTAGES}
    SELECT * FROM outages
    WHERE (exchange, date) IN (SELECT exchange, date FROM mine)
    ORDER BY date, exchange
"""

_LISTED = f"""
    WITH {_MINE}, asked AS (SELECT DISTINCT date FROM mine), {_OUTAGES}
    SELECT ticker, date, coalesce(asked_again <= :as_of, false) AS known
    FROM mine LEFT JOIN outages USING (exchange, date) WHERE outages.missing IS NULL
    ORDER BY ticker, date
"""


@dataclass(frozen=True)
class Gaps:
    """Of one security and one window, in order: what was found out about its sessions."""

    new: list[dt.date]
    """Missing; the next run asks for them once more."""
    known: list[dt.date]
    """Missing, and asked for again in vain."""
    refilled: list[dt.date]
    """Noted as missing before, and stored now."""
    off_calendar: list[dt.date]
    """Stored, though the calendar knows no session of that day."""


@dataclass(frozen=True)
class Outage:
    """A session that so many of an exchange's securities lack that the provider must have lost it."""

    exchange: str
    date: dt.date
    missing: int
    securities: int
    """That lack it or have it; of others it is not known."""
    noticed: dt.date
    """The first as-of date on which one of them lacked it."""

    def asked_for(self, as_of: dt.date) -> bool:
        """Whether a run as of that date asks for it still: see `MissingSessions.to_ask_again`."""
        recent = self.date >= self.noticed - dt.timedelta(days=_OUTAGE_RECENT_DAYS)
        return recent and self.noticed >= as_of - dt.timedelta(days=_OUTAGE_ASKED_DAYS)


def note(
    connection: sa.Connection,
    security_id: int,
    expected: Collection[dt.date],
    start: dt.date,
    end: dt.date,
    as_of: dt.date,
) -> Gaps:
    """Note which sessions of the window are missing, within the caller's transaction, after the bars are in.

    `expected` are the sessions that are over, by the calendar; the window may not begin before the first trade date or
    what the calendar knows. What is in quarantine is not missing. A second time with the same `as_of` changes nothing.
    """
    values = {
        "security_id": security_id,
        # As one literal: thousands of dates one by one cost more than all the rest.
        "expected": f"{{{','.join(map(str, expected))}}}",
        "start": start,
        "end": end,
        "as_of": as_of,
    }
    found: dict[str, list[dt.date]] = {name: [] for name in ("new", "known", "refilled", "off_calendar")}
    for date, what in connection.execute(_NOTE, values):
        found[what].append(date)
    return Gaps(**found)


def special(connection: sa.Connection, security_id: int, days: Collection[dt.date]) -> set[dt.date]:
    """Those of the days on which there was trade: their stored bars have volume, and are no copies of the ones before.

    A source that makes up a bar for a holiday copies the last one, or leaves the volume out.
    """
    rows = connection.scalars(_SPECIAL, {"security_id": security_id, "days": list(days)})
    return set(rows)


class MissingSessions:
    """Of the securities of one database. Every method is one query, for as many tickers as there are."""

    def __init__(self, database_url: str) -> None:
        self._engine = engine_for(database_url)

    def to_ask_again(self, tickers: Collection[str], as_of: dt.date) -> dict[str, dt.date]:
        """The earliest session that the next download should cover once more; tickers without one are left out.

        That are sessions not asked for again yet, and those of an outage noticed in the 14 days before `as_of`, if
        they were at most a month old by then.
        """
        return {row.ticker: row.date for row in self._rows(_TO_ASK_AGAIN, tickers, as_of)}

    def outages(self, tickers: Collection[str], as_of: dt.date) -> list[Outage]:
        """Those that any of the tickers is part of, oldest first; counted are all securities of the exchange."""
        return [Outage(**row._mapping) for row in self._rows(_FIND_OUTAGES, tickers, as_of)]

    def listed(self, tickers: Collection[str], as_of: dt.date) -> dict[str, list[tuple[dt.date, bool]]]:
        """Each ticker's missing sessions but for outages, in order, and whether they are known to be missing."""
        found: dict[str, list[tuple[dt.date, bool]]] = {}
        for row in self._rows(_LISTED, tickers, as_of):
            found.setdefault(row.ticker, []).append((row.date, row.known))
        return found

    def _rows(self, statement: str, tickers: Collection[str], as_of: dt.date) -> list[sa.Row[Any]]:
        query = sa.text(statement).bindparams(
            sa.bindparam("tickers", type_=sa.ARRAY(sa.Text)), sa.bindparam("as_of", type_=sa.Date)
        )
        with transaction(self._engine, "missing sessions") as connection:
            return list(connection.execute(query, {"tickers": list(tickers), "as_of": as_of}).all())
