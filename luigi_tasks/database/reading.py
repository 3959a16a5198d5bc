"""What is read in bulk: one snapshot of the database, of which every query tells the same."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import sqlalchemy as sa

from luigi_tasks.database.bulk import fetch
from luigi_tasks.database.engine import engine_for, transaction
from luigi_tasks.database.text import storable
from luigi_tasks.errors import ConfigurationError, SecurityNotFound
from luigi_tasks.tickers import did_you_mean, hyphenated

Arrays = dict[str, np.ndarray[Any, Any]]

METADATA = (
    *("name", "quote_type", "exchange", "currency", "country", "sector", "industry"),
    *("market_cap", "market_cap_currency", "market_cap_as_of", "shares_outstanding", "shares_as_of"),
)
REPAIRABLE = ("open", "high", "low", "close", "adj_close", "volume", "dividends")
"""The columns of a bar that a repair may be of; the number of one is its place here."""

UNKNOWN = -1
"""The volume of a bar whose volume is not known; a price or an amount is NaN."""

_KINDS = {"security_id": "int8", "date": "date", "volume": "int8", "column": "int8"}
# A column more costs more than the sign of one that is there.
_OWNER = "CASE WHEN {provisional} THEN -{security_id} ELSE {security_id} END"
# Every row of a COPY is as long as the next, so none has a NULL. An amount in another currency than the prices is
# nothing to be added to them.
_SELECTED = {
    "security_id": _OWNER.format(provisional="provisional", security_id="security_id"),
    **{name: f"coalesce({name}, 'NaN')" for name in ("open", "high", "low", "adj_close")},
    "volume": f"coalesce(volume, {UNKNOWN})",
    "dividends": "CASE WHEN dividend_currency IS NULL THEN dividends ELSE 'NaN' END",
}
_NOW = "ohlcv"
_AS_OF = "ohlcv_as_of(%(as_of)s)"

# A ticker's bars are those of the ticker that it has now, once that has some: they are the whole series, restated.
_LATER = """
    LEFT JOIN LATERAL (
        SELECT now.security_id, now.ticker FROM securities AS now JOIN {bars} AS o USING (security_id)
        WHERE now.ticker = s.successor LIMIT 1
    ) AS later ON true
"""
_FOUND = f"""
    SELECT s.ticker, coalesce(later.security_id, s.security_id) AS security_id FROM securities AS s {_LATER}
    WHERE {{wanted}} ORDER BY s.ticker COLLATE "C"
"""
_MEMBERSHIPS = f"""
    SELECT s.ticker, g."grouping", g.valid_from, g.valid_to, later.ticker AS successor
    FROM security_groupings AS g JOIN securities AS s USING (security_id) {_LATER}
    WHERE {{wanted}} ORDER BY s.ticker COLLATE "C", g."grouping" COLLATE "C", g.valid_from
"""
# Versions that were there after the run of the as-of date; of now, those that are.
_HELD = "as_of <= %(until)s AND (until IS NULL OR until > %(until)s)"
# A split whose day has no bar divides the prices before it all the same. UNION: one that both know of counts once.
_SPLITS = f"""
    SELECT security_id, date, stock_splits FROM {{bars}} AS o
    WHERE security_id = ANY(%(ids)s) AND stock_splits NOT IN (0, 1)
    UNION
    SELECT security_id, date, stock_splits FROM actions_without_bar
    WHERE security_id = ANY(%(ids)s) AND stock_splits NOT IN (0, 1) AND {_HELD}
"""
_REPAIRS = f"""
    SELECT security_id, date, CAST(array_position(%(repairable)s, "column") - 1 AS int8), new FROM repairs
    WHERE security_id = ANY(%(ids)s) AND "column" = ANY(%(columns)s) AND {_HELD} {{days}}
"""
_CONTRADICTED = f"""
    SELECT security_id, count(*) AS number FROM repairs
    WHERE security_id = ANY(%(ids)s) AND "column" = ANY(%(columns)s) AND {_HELD} {{days}}
    GROUP BY security_id
"""
# Quarantine has no history: it is that of now, so of a repair that has ended since it tells nothing.
_FROM_QUARANTINE = f"""
    SELECT {{selected}}
    FROM (
        SELECT security_id, date, bool_or(until IS NULL) AS holds FROM repairs
        WHERE security_id = ANY(%(ids)s) AND "column" = 'close' AND {_HELD} {{days}} GROUP BY security_id, date
    ) AS r
    LEFT JOIN (SELECT * FROM actions_without_bar WHERE {_HELD}) AS a USING (security_id, date)
    LEFT JOIN quarantined_bars AS q
        ON q.security_id = r.security_id AND q.date = r.date AND q.number = 0 AND r.holds
    WHERE NOT EXISTS (SELECT FROM {{bars}} AS o WHERE o.security_id = r.security_id AND o.date = r.date)
"""
_OF_QUARANTINE = {
    "security_id": _OWNER.format(provisional="q.provisional", security_id="r.security_id"),
    "date": "r.date",
    # What breaks a rule there may be no number that a price can be.
    **{
        name: f"CASE WHEN q.{name} > 0 AND q.{name} < 'Infinity' THEN q.{name} ELSE 'NaN' END"
        for name in ("open", "high", "low", "close", "adj_close")
    },
    "volume": f"CASE WHEN q.volume >= 0 AND q.volume < 1e18 THEN CAST(q.volume AS int8) ELSE {UNKNOWN} END",
    "dividends": "CASE WHEN a.dividend_currency IS NULL THEN coalesce(a.dividends, 0) ELSE 'NaN' END",
    "stock_splits": "coalesce(a.stock_splits, 0)",
    "capital_gains": "coalesce(a.capital_gains, 0)",
}
_ACTIONS = f"""
    SELECT wanted.ticker, e.date, kinds.kind, kinds.amount,
        CASE kinds.kind WHEN 'dividend' THEN coalesce(e.dividend_currency, s.currency)
            WHEN 'capital_gain' THEN s.currency END AS currency,
        e.has_bar
    FROM unnest(%(tickers)s::text[], %(ids)s::bigint[]) WITH ORDINALITY AS wanted (ticker, security_id, place)
    JOIN securities AS s USING (security_id)
    JOIN (
        SELECT security_id, date, dividends, dividend_currency, stock_splits, capital_gains, true AS has_bar
        FROM {{bars}} AS o WHERE dividends <> 0 OR stock_splits <> 0 OR capital_gains <> 0
        UNION ALL
        SELECT security_id, date, dividends, dividend_currency, stock_splits, capital_gains, false
        FROM actions_without_bar WHERE {_HELD}
    ) AS e USING (security_id)
    CROSS JOIN LATERAL (VALUES
        ('dividend', e.dividends), ('capital_gain', e.capital_gains), ('split', e.stock_splits)
    ) AS kinds (kind, amount)
    WHERE kinds.amount <> 0 {{days}} ORDER BY wanted.place, e.date, kinds.kind
"""
_DAILY = {
    "market_cap": "worth.market_cap",
    "market_cap_currency": "worth.market_cap_currency",
    "market_cap_as_of": "worth.as_of",
    "shares_outstanding": "shares.shares_outstanding",
    "shares_as_of": "shares.as_of",
}
_NEWEST = """
    LEFT JOIN LATERAL (
        SELECT * FROM {table} AS every
        WHERE every.security_id = wanted.security_id AND every.as_of <= :until {known}
        ORDER BY as_of DESC {ties} LIMIT 1
    ) AS {name} ON true
"""
# As in the view latest_metadata.
_METADATA = f"""
    SELECT wanted.ticker, m.as_of, {", ".join(_DAILY.get(name, f"m.{name}") for name in METADATA)}
    FROM unnest(CAST(:tickers AS text[]), CAST(:ids AS bigint[])) WITH ORDINALITY AS wanted (ticker, security_id, place)
    {_NEWEST.format(table="security_metadata", known="", ties="", name="m")}
    {_NEWEST.format(table="every_number", known="AND market_cap IS NOT NULL", ties=", by_quote DESC", name="worth")}
    {
    _NEWEST.format(
        table="every_number", known="AND shares_outstanding IS NOT NULL", ties=", by_quote DESC", name="shares"
    )
}
    ORDER BY wanted.place
"""


class Snapshot:
    """What was committed when it was taken; with `as_of`, the bars as the table had them after the run of that date."""

    def __init__(self, connection: sa.Connection, as_of: dt.date | None) -> None:
        self._connection = connection
        self._as_of = as_of
        self._bars = _NOW if as_of is None else _AS_OF

    def securities(self, tickers: Collection[str] | None, groupings: Collection[str] | None) -> dict[str, int]:
        """{ticker: whose bars are its} in alphabetical order: of these tickers, of the members of these groupings on
        the as-of date, or of all but those whose bars go on under another ticker.

        Raises:
            SecurityNotFound: some tickers are not registered; it names all of them.
            ConfigurationError: some groupings were never listed; it names all of them.
        """
        if tickers is not None:
            return self._of_tickers(set(tickers))
        if groupings is not None:
            return self._of_tickers({row.ticker for row in self.memberships(groupings)})
        return self._found("later.security_id IS NULL", [])

    def registered(self, tickers: Collection[str]) -> dict[str, int]:
        """The same of those of these tickers that are registered."""
        return self._found("s.ticker = ANY(%(tickers)s)", [name for name in tickers if storable(name) == name])

    def memberships(self, groupings: Collection[str] | None) -> list[Any]:
        """(ticker, grouping, valid_from, valid_to, successor) of the as-of date, by ticker and grouping; successor is
        the ticker under which its bars go on.

        Raises:
            ConfigurationError: some groupings were never listed; it names all of them.
        """
        wanted = ["g.valid_to IS NULL"]
        if self._as_of is not None:
            wanted = ["g.valid_from <= %(as_of)s", "(g.valid_to IS NULL OR g.valid_to > %(as_of)s)"]
        if groupings is not None:
            self._require_known(groupings)
            wanted.append('g."grouping" = ANY(%(groupings)s)')
        return self._rows(_MEMBERSHIPS, wanted=" AND ".join(wanted), groupings=list(groupings or ()))

    def every_membership(self) -> list[Any]:
        """The same of all that there ever were, up to the as-of date."""
        return self._rows(_MEMBERSHIPS, wanted="g.valid_from <= %(until)s")

    def bars(self, ids: Collection[int], columns: Sequence[str], start: dt.date | None, end: dt.date | None) -> Arrays:
        """security_id, date and these columns of the bars of these securities, by security and date.

        What is not known is NaN, a volume `UNKNOWN`; a dividend in another currency than the prices is NaN. Both days
        are included.
        """
        names = _read(columns)
        selected = ", ".join(_SELECTED.get(name, name) for name in names)
        query = f"SELECT {selected} FROM {self._bars} AS o WHERE security_id = ANY(%(ids)s){_within(start, end)}"
        return self._arrays(query, names, ids=list(ids), start=start, end=end)

    def repairs(
        self, ids: Collection[int], columns: Collection[str], start: dt.date | None, end: dt.date | None
    ) -> Arrays:
        """security_id, date, column (its place in `REPAIRABLE`) and new: the values that hold in place of those that
        are served, of these columns, by security and date."""
        values: dict[str, Any] = {"ids": list(ids), "columns": list(columns), "start": start, "end": end}
        query = _REPAIRS.format(days=_within(start, end))
        return self._arrays(query, ("security_id", "date", "column", "new"), **values, repairable=list(REPAIRABLE))

    def mended(
        self, ids: Collection[int], columns: Sequence[str], start: dt.date | None, end: dt.date | None
    ) -> Arrays:
        """The same as `bars` of the days without a stored bar whose close a repair gives: what is in quarantine, not
        yet repaired."""
        names = _read(columns)
        selected = ", ".join(_OF_QUARANTINE[name] for name in names)
        query = _FROM_QUARANTINE.format(selected=selected, days=_within(start, end), bars=self._bars)
        return self._arrays(query, names, ids=list(ids), start=start, end=end)

    def contradicted(
        self, ids: Collection[int], columns: Collection[str], start: dt.date | None, end: dt.date | None
    ) -> dict[int, int]:
        """{security_id: how many values of these columns have a repair that holds}, of those that have any."""
        values: dict[str, Any] = {"ids": list(ids), "columns": list(columns), "start": start, "end": end}
        rows = self._rows(_CONTRADICTED, days=_within(start, end), **values)
        return {row.security_id: row.number for row in rows}

    def splits(self, ids: Collection[int]) -> Arrays:
        """security_id, date and stock_splits of all splits that are known, by security and date."""
        return self._arrays(_SPLITS.format(bars=self._bars), ("security_id", "date", "stock_splits"), ids=list(ids))

    def actions(self, wanted: dict[str, int], start: dt.date | None, end: dt.date | None) -> list[Any]:
        """(ticker, date, kind, amount, currency, has_bar) of the corporate actions of these, {ticker: security_id}."""
        values: dict[str, Any] = {"tickers": list(wanted), "ids": list(wanted.values()), "start": start, "end": end}
        return self._rows(_ACTIONS, days=_within(start, end), **values)

    def metadata(self, wanted: dict[str, int]) -> list[Any]:
        """(ticker, as_of, *METADATA) for each of these, {ticker: security_id}; None where there is none."""
        values = {"tickers": list(wanted), "ids": list(wanted.values()), "until": self._until}
        return list(self._connection.execute(sa.text(_METADATA), values).all())

    @property
    def _until(self) -> dt.date:
        return self._as_of or dt.date.max

    def _arrays(self, query: str, names: Sequence[str], **values: Any) -> Arrays:
        columns = {name: _KINDS.get(name, "float8") for name in names}
        found = fetch(self._connection, query, columns, values | {"as_of": self._as_of, "until": self._until})
        found["provisional"] = found["security_id"] < 0
        found["security_id"] = np.abs(found["security_id"])
        return in_order(found)

    def _of_tickers(self, wanted: set[str]) -> dict[str, int]:
        found = self.registered(wanted)
        unknown = sorted(wanted - set(found))
        if unknown:
            verb = "is" if len(unknown) == 1 else "are"
            known = self.registered(list(filter(None, map(hyphenated, unknown))))
            asked = " ".join(filter(None, (did_you_mean(name, known) for name in unknown)))
            remedy = asked or "A run that lists them does that."
            raise SecurityNotFound(", ".join(unknown), f"{verb} not registered", remedy)
        return found

    def _found(self, wanted: str, tickers: Collection[str]) -> dict[str, int]:
        return {row.ticker: row.security_id for row in self._rows(_FOUND, wanted=wanted, tickers=list(tickers))}

    def _rows(self, statement: str, *, wanted: str = "", days: str = "", **values: Any) -> list[Any]:
        query = statement.format(bars=self._bars, wanted=wanted, days=days)
        values |= {"as_of": self._as_of, "until": self._until}
        return list(self._connection.exec_driver_sql(query, values).all())

    def _require_known(self, groupings: Collection[str]) -> None:
        query = 'SELECT "grouping" FROM grouping_listings UNION SELECT "grouping" FROM security_groupings'
        known = set(self._connection.scalars(sa.text(query)))
        unknown = sorted(set(groupings) - known)
        if unknown:
            listed = f"There are: {', '.join(sorted(known))}." if known else "No run has listed any yet."
            raise ConfigurationError(f"groupings {', '.join(unknown)}", "no run has listed a ticker in them", listed)


def keys(arrays: Arrays) -> np.ndarray[Any, Any]:
    """A number for each security and day, in the order of both."""
    return (arrays["security_id"] << 32) + arrays["date"].astype(np.int64)


def in_order(arrays: Arrays) -> Arrays:
    """The rows by security and date."""
    key = keys(arrays)
    # As most tables are read, and it is quicker to see than to do.
    if (key[1:] >= key[:-1]).all():
        return arrays
    order = np.argsort(key, kind="stable")
    return {name: column[order] for name, column in arrays.items()}


def _read(columns: Sequence[str]) -> tuple[str, ...]:
    """What a query selects for these columns of bars; whether one is provisional is the sign of its security_id."""
    return ("security_id", "date", *(name for name in columns if name != "provisional"))


def _within(start: dt.date | None, end: dt.date | None) -> str:
    """SQL: that a row's day is one of those asked for."""
    return " AND date >= %(start)s" * (start is not None) + " AND date <= %(end)s" * (end is not None)


@contextmanager
def snapshot(database_url: str, as_of: dt.date | None = None) -> Iterator[Snapshot]:
    """A snapshot for the `with` block. Nothing is written, and no writer waits for it.

    Raises:
        DatabaseUnavailable, DatabaseRefused: see `luigi_tasks.database.engine`.
    """
    reader = engine_for(database_url).execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    with transaction(reader, "reading") as connection:
        yield Snapshot(connection, as_of)
