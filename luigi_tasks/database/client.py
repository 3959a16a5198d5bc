"""Securities, their bars and their company data in PostgreSQL; usable without Luigi."""

from __future__ import annotations

import datetime as dt
import io
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from luigi_tasks import bars
from luigi_tasks.database import engine as db
from luigi_tasks.database.ledger import Marker, write_marker
from luigi_tasks.database.schema import securities, security_groupings, security_metadata
from luigi_tasks.database.text import storable
from luigi_tasks.errors import InvalidData, SecurityNotFound

Result = dict[str, Any]
"""{"success": True, "rows_affected": rows inserted or changed, "message": what happened, in words}."""

# Our column: the source's field names, the first one that is there counts (Yahoo's, then those of plain files).
_TEXT_FIELDS = {
    "name": ("longName", "shortName", "name"),
    "quote_type": ("quoteType", "type"),
    "exchange": ("exchange",),
    "currency": ("currency",),
    "country": ("country",),
    "sector": ("sector",),
    "industry": ("industry",),
}
_NUMBER_FIELDS = {
    "market_cap": ("marketCap", "market_cap"),
    "shares_outstanding": ("sharesOutstanding", "shares_outstanding"),
}

# PostgreSQL's numeric has 131,072 digits before the point; nothing on earth is worth more than this many.
_MOST_DIGITS = 1000


class YfinanceClient:
    """Reads and writes one database, whose tables `migrate` makes.

    Every method is one transaction. A `marker` is written in the same transaction as the data that it vouches for.
    Methods raise DatabaseUnavailable (worth trying again) or DatabaseRefused; nothing is stored then.
    """

    def __init__(self, database_url: str) -> None:
        """`database_url` is a PostgreSQL URL; nothing is connected yet."""
        self._engine = db.engine_for(database_url)

    def migrate(self) -> None:
        """Create the tables, or bring them to this version; quick when there is nothing to do."""
        db.migrate(self._engine)

    def insert_security(self, ticker: str, groupings: Iterable[str], *, marker: Marker | None = None) -> Result:
        """Register the ticker, and add it to the groupings; both stay as they are if they are there."""
        names = sorted(set(groupings))
        for text in (ticker, *names):
            if storable(text) != text:
                raise InvalidData(ticker, f"{text!r} has a character that PostgreSQL cannot hold")
        with self._transaction(ticker) as connection:
            added = connection.execute(insert(securities).values(ticker=ticker).on_conflict_do_nothing()).rowcount
            if names:
                security_id = self._security_id(connection, ticker)
                rows = [{"security_id": security_id, "grouping": name} for name in names]
                statement = insert(security_groupings).values(rows).on_conflict_do_nothing()
                added += connection.execute(statement).rowcount
            self._mark(connection, marker)
        return _result(added, f"{ticker} is registered in {', '.join(names) or 'no grouping'}")

    def insert_ohlcv(self, ticker: str, df: pd.DataFrame, *, marker: Marker | None = None) -> Result:
        """Store daily bars, of the shape in `luigi_tasks.bars`; a bar that is there is replaced if it differs.

        Raises:
            SecurityNotFound: the ticker is not registered.
            InvalidData: the frame is not of that shape, has a date twice, or has a bar that no market can make.
        """
        content = _as_csv(ticker, df)
        columns = ", ".join(("security_id", *bars.COLUMNS))
        changes = ", ".join(f"{name} = excluded.{name}" for name in bars.COLUMNS[1:])
        old = ", ".join(f"ohlcv.{name}" for name in bars.COLUMNS[1:])
        new = ", ".join(f"excluded.{name}" for name in bars.COLUMNS[1:])
        upsert = (
            f"INSERT INTO ohlcv ({columns}) SELECT :security_id, {', '.join(bars.COLUMNS)} FROM incoming "
            f"ON CONFLICT (security_id, date) DO UPDATE SET {changes} WHERE ({old}) IS DISTINCT FROM ({new})"
        )
        with self._transaction(ticker) as connection:
            security_id = self._security_id(connection, ticker)
            # A temporary table, because COPY knows no ON CONFLICT.
            names = ", ".join(bars.COLUMNS)
            empty = f"CREATE TEMP TABLE incoming ON COMMIT DROP AS SELECT {names} FROM ohlcv WITH NO DATA"
            connection.execute(sa.text(empty))
            _copy_in(connection, f"COPY incoming ({names}) FROM STDIN (FORMAT csv)", content)
            affected = connection.execute(sa.text(upsert), {"security_id": security_id}).rowcount
            self._mark(connection, marker)
        return _result(affected, f"{ticker}: {len(df)} bars stored, {affected} of them new or changed")

    def insert_metadata(
        self,
        ticker: str,
        metadata: Mapping[str, Any],
        *,
        as_of: dt.date | None = None,
        marker: Marker | None = None,
    ) -> Result:
        """Store the company data of one as-of date (today in UTC if None), replacing what is there for that date.

        Raises:
            SecurityNotFound: the ticker is not registered.
        """
        day = as_of or dt.datetime.now(dt.UTC).date()
        answer = storable(dict(metadata))
        typed: dict[str, Any] = {name: _text(answer, fields) for name, fields in _TEXT_FIELDS.items()}
        typed |= {name: _number(answer, fields) for name, fields in _NUMBER_FIELDS.items()}
        with self._transaction(ticker) as connection:
            row = {"security_id": self._security_id(connection, ticker), "as_of": day, "answer": answer, **typed}
            statement = insert(security_metadata).values(row)
            changes = {name: statement.excluded[name] for name in ("answer", *typed)}
            statement = statement.on_conflict_do_update(index_elements=["security_id", "as_of"], set_=changes)
            affected = connection.execute(statement).rowcount
            self._mark(connection, marker)
        return _result(affected, f"{ticker}: company data as of {day} stored, {len(answer)} fields")

    def get_tickers(self, groupings: Iterable[str] | None = None) -> list[str]:
        """Registered tickers that are in any of the groupings (all tickers if None), in alphabetical order."""
        query = sa.select(securities.c.ticker).order_by(securities.c.ticker)
        if groupings is not None:
            members = sa.select(security_groupings.c.security_id).where(
                security_groupings.c.grouping.in_(list(groupings))
            )
            query = query.where(securities.c.security_id.in_(members))
        with self._transaction("the tickers") as connection:
            return list(connection.scalars(query))

    def get_security_id(self, ticker: str) -> int:
        """The ticker's id. Raises SecurityNotFound if it is not registered."""
        with self._transaction(ticker) as connection:
            return self._security_id(connection, ticker)

    def _transaction(self, subject: str) -> Any:
        return db.transaction(self._engine, subject)

    @staticmethod
    def _security_id(connection: sa.Connection, ticker: str) -> int:
        query = sa.select(securities.c.security_id).where(securities.c.ticker == ticker)
        security_id = connection.scalar(query) if storable(ticker) == ticker else None
        if security_id is None:
            raise SecurityNotFound(ticker, "is not registered", "RegisterSecurity or insert_security does that.")
        return int(security_id)

    @staticmethod
    def _mark(connection: sa.Connection, marker: Marker | None) -> None:
        if marker is not None:
            write_marker(connection, marker)


def _result(affected: int, message: str) -> Result:
    return {"success": True, "rows_affected": affected, "message": message}


def _as_csv(ticker: str, df: pd.DataFrame) -> bytes:
    """The bars as CSV; Arrow writes every float with the digits that give the same float back."""
    try:
        table = bars.to_arrow(bars.conform(df))
    except KeyError as error:
        raise InvalidData(ticker, f"the bars lack a column ({error})") from error
    except (ValueError, TypeError, pa.ArrowInvalid) as error:
        raise InvalidData(ticker, f"the bars have a value of the wrong type ({error})") from error
    days = table["date"].to_pandas()
    if days.duplicated().any():
        raise InvalidData(ticker, f"there are two bars for {days[days.duplicated()].iloc[0]}")
    sink = io.BytesIO()
    options = pa.csv.WriteOptions(include_header=False, quoting_style="none")
    pa.csv.write_csv(table, sink, options)
    return sink.getvalue()


def _copy_in(connection: sa.Connection, statement: str, content: bytes) -> None:
    cursor = connection.connection.cursor()
    try:
        cursor.copy_expert(statement, io.BytesIO(content))
    except Exception as error:
        # SQLAlchemy only translates what goes through it; the driver's own error carries the SQLSTATE.
        dialect = connection.dialect.dbapi
        if dialect is not None and isinstance(error, dialect.Error):
            raise DBAPIError.instance(statement, None, error, dialect.Error) from error
        raise
    finally:
        cursor.close()


def _text(answer: Mapping[str, Any], fields: tuple[str, ...]) -> str | None:
    value = next((answer[name] for name in fields if answer.get(name) not in (None, "")), None)
    return value if isinstance(value, str) else None


def _number(answer: Mapping[str, Any], fields: tuple[str, ...]) -> Decimal | None:
    """A number that cannot be one (negative, a word, not finite) is left to the jsonb column alone."""
    value = next((answer[name] for name in fields if answer.get(name) is not None), None)
    # Text: what CSV and XML files have.
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() and number >= 0 and number.adjusted() < _MOST_DIGITS else None
