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

Arrays = dict[str, np.ndarray[Any, Any]]

METADATA = (
    *("name", "quote_type", "exchange", "currency", "country", "sector", "industry"),
    *("market_cap", "market_cap_currency", "shares_outstanding"),
)

_KINDS = {"security_id": "int8", "date": "date", "volume": "int8"}
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
_SPLITS = """
    SELECT security_id, date, stock_splits FROM {bars} AS o
    WHERE security_id = ANY(%(ids)s) AND stock_splits NOT IN (0, 1)
"""
# The bar of a split's day may be in quarantine; the bars before it are divided all the same.
_QUARANTINED_SPLITS = """
    SELECT DISTINCT ON (security_id, date) security_id, date, stock_splits FROM quarantined_bars AS q
    WHERE security_id = ANY(%(ids)s) AND stock_splits > 0 AND stock_splits <> 1 AND stock_splits < 'Infinity'
        AND date <= %(until)s
        AND NOT EXISTS (SELECT FROM ohlcv AS o WHERE o.security_id = q.security_id AND o.date = q.date)
    ORDER BY security_id, date, number
"""
_METADATA = f"""
    SELECT wanted.ticker, m.as_of, {", ".join(f"m.{name}" for name in METADATA)}
    FROM unnest(CAST(:tickers AS text[]), CAST(:ids AS bigint[])) WITH ORDINALITY AS wanted (ticker, security_id, place)
    LEFT JOIN LATERAL (
        SELECT * FROM security_metadata AS every
        WHERE every.security_id = wanted.security_id AND every.as_of <= :until ORDER BY as_of DESC LIMIT 1
    ) AS m ON true
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
        return self._rows(_MEMBERSHIPS, " AND ".join(wanted), groupings=list(groupings or ()))

    def every_membership(self) -> list[Any]:
        """The same of all that there ever were, up to the as-of date."""
        return self._rows(_MEMBERSHIPS, "g.valid_from <= %(until)s")

    def bars(self, ids: Collection[int], columns: Sequence[str], start: dt.date | None, end: dt.date | None) -> Arrays:
        """security_id, date and these columns of the bars of these securities, by security and date; a NaN in
        adj_close is not known. Both days are included."""
        names = ("security_id", "date", *columns)
        selected = ", ".join("coalesce(adj_close, 'NaN')" if name == "adj_close" else name for name in names)
        query = f"SELECT {selected} FROM {self._bars} AS o WHERE security_id = ANY(%(ids)s)"
        query += " AND date >= %(start)s" * (start is not None) + " AND date <= %(end)s" * (end is not None)
        return self._arrays(query, names, ids, start=start, end=end)

    def splits(self, ids: Collection[int]) -> Arrays:
        """security_id, date and stock_splits of all splits that are known, by security and date."""
        names = ("security_id", "date", "stock_splits")
        query = f"{_SPLITS.format(bars=self._bars)} UNION ALL ({_QUARANTINED_SPLITS})"
        return self._arrays(query, names, ids)

    def metadata(self, wanted: dict[str, int]) -> list[Any]:
        """(ticker, as_of, *METADATA) for each of these, {ticker: security_id}; None where there is none."""
        values = {"tickers": list(wanted), "ids": list(wanted.values()), "until": self._until}
        return list(self._connection.execute(sa.text(_METADATA), values).all())

    @property
    def _until(self) -> dt.date:
        return self._as_of or dt.date.max

    def _arrays(self, query: str, names: Sequence[str], ids: Collection[int], **values: Any) -> Arrays:
        columns = {name: _KINDS.get(name, "float8") for name in names}
        values |= {"ids": list(ids), "as_of": self._as_of, "until": self._until}
        found = fetch(self._connection, query, columns, values)
        order = np.lexsort((found["date"], found["security_id"]))
        return {name: column[order] for name, column in found.items()}

    def _of_tickers(self, wanted: set[str]) -> dict[str, int]:
        found = self.registered(wanted)
        unknown = sorted(wanted - set(found))
        if unknown:
            verb = "is" if len(unknown) == 1 else "are"
            raise SecurityNotFound(", ".join(unknown), f"{verb} not registered", "A run that lists them does that.")
        return found

    def _found(self, wanted: str, tickers: Collection[str]) -> dict[str, int]:
        return {row.ticker: row.security_id for row in self._rows(_FOUND, wanted, tickers=list(tickers))}

    def _rows(self, statement: str, wanted: str, **values: Any) -> list[Any]:
        query = statement.format(bars=self._bars, wanted=wanted)
        values |= {"as_of": self._as_of, "until": self._until}
        return list(self._connection.exec_driver_sql(query, values).all())

    def _require_known(self, groupings: Collection[str]) -> None:
        query = 'SELECT "grouping" FROM grouping_listings UNION SELECT "grouping" FROM security_groupings'
        known = set(self._connection.scalars(sa.text(query)))
        unknown = sorted(set(groupings) - known)
        if unknown:
            listed = f"There are: {', '.join(sorted(known))}." if known else "No run has listed any yet."
            raise ConfigurationError(f"groupings {', '.join(unknown)}", "no run has listed a ticker in them", listed)


@contextmanager
def snapshot(database_url: str, as_of: dt.date | None = None) -> Iterator[Snapshot]:
    """A snapshot for the `with` block. Nothing is written, and no writer waits for it.

    Raises:
        DatabaseUnavailable, DatabaseRefused: see `luigi_tasks.database.engine`.
    """
    reader = engine_for(database_url).execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    with transaction(reader, "reading") as connection:
        yield Snapshot(connection, as_of)
