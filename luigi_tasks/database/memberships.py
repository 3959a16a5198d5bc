"""Which securities a grouping had on which day: intervals from an as-of date on, up to another, which is not in them.

A run says what is listed as of its date; who is not listed has left only where the run has seen the whole list.
`grouping_listings` has the latest as-of date of each grouping: an older one, run later, changes nothing, so that no
interval ends before it begins.

Whoever changes memberships locks the rows there first, in alphabetical order, then registers tickers, in alphabetical
order: twenty registrations and a closing at once wait for each other, and never in a circle.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa

from luigi_tasks.database.engine import engine_for, transaction
from luigi_tasks.database.ledger import Marker, write_marker
from luigi_tasks.database.schema import security_groupings

_CLAIM = """
    INSERT INTO grouping_listings ("grouping", as_of)
    SELECT name, :as_of FROM unnest(CAST(:names AS text[])) AS listed (name) ORDER BY name
    ON CONFLICT ("grouping") DO UPDATE SET as_of = excluded.as_of WHERE grouping_listings.as_of <= excluded.as_of
    RETURNING "grouping"
"""
_REGISTER = """
    INSERT INTO securities (ticker)
    SELECT ticker FROM unnest(CAST(:tickers AS text[])) AS listed (ticker)
    WHERE NOT EXISTS (SELECT FROM securities WHERE securities.ticker = listed.ticker) ORDER BY ticker
    ON CONFLICT DO NOTHING
"""
_LISTED = """
    SELECT security_id, "grouping"
    FROM unnest(CAST(:tickers AS text[]), CAST(:groupings AS text[])) AS listed (ticker, "grouping")
    JOIN securities USING (ticker)
"""
# What was opened or ended as of the same date was so by a list that holds no more: undone, not written on.
_REOPEN = f"""
    UPDATE security_groupings SET valid_to = NULL
    WHERE valid_to = :as_of AND (security_id, "grouping") IN ({_LISTED})
"""
_OPEN = f"""
    INSERT INTO security_groupings (security_id, "grouping", valid_from)
    SELECT security_id, "grouping", :as_of FROM ({_LISTED}) AS listed
    ON CONFLICT (security_id, "grouping") WHERE valid_to IS NULL DO NOTHING
"""
_LEFT = f"""
    "grouping" = ANY(CAST(:whole AS text[])) AND valid_to IS NULL AND (security_id, "grouping") NOT IN ({_LISTED})
"""
_UNDO = f"DELETE FROM security_groupings WHERE valid_from = :as_of AND {_LEFT}"
_END = f"UPDATE security_groupings SET valid_to = :as_of WHERE {_LEFT}"

_NEWER = 'SELECT "grouping" FROM grouping_listings WHERE as_of > :as_of AND "grouping" = ANY(CAST(:names AS text[]))'
_MEMBERS = """
    SELECT ticker, "grouping" FROM security_groupings JOIN securities USING (security_id)
    WHERE valid_to IS NULL AND "grouping" = ANY(CAST(:names AS text[]))
"""
_SUCCESSORS = """
    SELECT ticker, successor FROM securities
    WHERE successor IS NOT NULL OR ticker = ANY(CAST(:old AS text[])) ORDER BY ticker
"""
# The bars of both are one security's, so the old ticker must not claim them any more.
_LINK = "UPDATE securities SET successor = :new, series_digest = NULL WHERE ticker = :ticker"
_UNLINK = "UPDATE securities SET successor = NULL WHERE ticker = :ticker"


def enlist(
    connection: sa.Connection, listed: Mapping[str, Collection[str]], as_of: dt.date, whole: Collection[str] = ()
) -> int:
    """Register tickers and open their memberships, {ticker: groupings}; how many rows were changed.

    Of the groupings in `whole` the list is complete: who is not on it any more is a member until this as-of date.
    """
    claim = {"names": sorted(_names(listed, whole)), "as_of": as_of}
    current = set(connection.scalars(sa.text(_CLAIM), claim))
    count = connection.execute(sa.text(_REGISTER), {"tickers": list(listed)}).rowcount
    pairs = sorted(_pairs(listed, current))
    values = {
        "as_of": as_of,
        "tickers": [ticker for ticker, _ in pairs],
        "groupings": [name for _, name in pairs],
        "whole": sorted(current & set(whole)),
    }
    for statement in (_REOPEN, _OPEN, *((_UNDO, _END) if values["whole"] else ())):
        count += connection.execute(sa.text(statement), values).rowcount
    return count


def listed_on(day: dt.date | None) -> sa.ColumnElement[bool]:
    """The condition that a row of `security_groupings` is a membership on that day; None: that it is open."""
    held = security_groupings.c
    if day is None:
        return held.valid_to.is_(None)
    return sa.and_(held.valid_from <= day, sa.or_(held.valid_to.is_(None), held.valid_to > day))


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
            enlist(connection, listed, as_of, whole)
            # Locked in alphabetical order, so that of two runs at once one waits for the other.
            linked = _successors(connection, renamed, lock=True)
            for ticker, new in _to_link(linked, renamed).items():
                connection.execute(sa.text(_LINK if new else _UNLINK), {"ticker": ticker, "new": new})
            write_marker(connection, marker)

    def hold(
        self,
        listed: Mapping[str, Collection[str]],
        whole: Collection[str],
        renamed: Mapping[str, str],
        as_of: dt.date,
    ) -> bool:
        """Whether recording this would change no membership and no link; three queries."""
        names = _names(listed, whole)
        values = {"names": sorted(names), "as_of": as_of}
        with transaction(self._engine, "the universe") as connection:
            settled = set(connection.scalars(sa.text(_NEWER), values))
            rows = connection.execute(sa.text(_MEMBERS), values)
            present = {(row.ticker, row.grouping) for row in rows if row.grouping not in settled}
            linked = _successors(connection, renamed)
        wanted = _pairs(listed, names - settled)
        surplus = any(name in whole for _, name in present - wanted)
        return wanted <= present and not surplus and not _to_link(linked, renamed)


def _names(listed: Mapping[str, Collection[str]], whole: Collection[str]) -> set[str]:
    return set(whole).union(*listed.values())


def _pairs(listed: Mapping[str, Collection[str]], groupings: Collection[str]) -> set[tuple[str, str]]:
    return {(ticker, name) for ticker, names in listed.items() for name in names if name in groupings}


def _successors(connection: sa.Connection, renamed: Mapping[str, str], *, lock: bool = False) -> dict[str, Any]:
    """{ticker: successor} of what is registered and has one, or is to have one."""
    query = sa.text(_SUCCESSORS + ("FOR NO KEY UPDATE" if lock else ""))
    return {row.ticker: row.successor for row in connection.execute(query, {"old": list(renamed)})}


def _to_link(linked: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, str | None]:
    """The successors that have to be changed."""
    return {ticker: renamed.get(ticker) for ticker, known in linked.items() if known != renamed.get(ticker)}
