"""Securities, their bars and their company data in PostgreSQL; usable without Luigi."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
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
from luigi_tasks.database.schema import absences, ohlcv, securities, security_groupings, security_metadata, task_markers
from luigi_tasks.database.text import storable
from luigi_tasks.errors import HistoryShrank, IdenticalSeries, InvalidData, SecurityNotFound, WrongAnswer

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

_FACTS = ("name", "quote_type", "exchange", "currency", "time_zone", "first_trade_date")
_IDENTITY = ("currency", "time_zone")

# Two securities may share a few bars by chance, or a price that does not move; not so many that do.
_DIGEST_BARS = 20
_DIGEST_CLOSES = 10

_MOST_MISSING_SHARE = 0.01
_MOST_MISSING = 5


@dataclass(frozen=True)
class Window:
    """That a frame is all that the source has from `start` to `end`, but for `left_out` (quarantined sessions)."""

    start: dt.date
    end: dt.date
    left_out: Collection[dt.date] = ()


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

    def insert_ohlcv(
        self, ticker: str, df: pd.DataFrame, *, window: Window | None = None, marker: Marker | None = None
    ) -> Result:
        """Store daily bars, of the shape in `luigi_tasks.bars`; a bar that is there is replaced if it differs.

        What the source says of the security (the frame's `attrs`) is stored with them. With a `window`, sessions
        that are stored and not in the frame are looked into: few are told in the message, many are an error.

        Raises:
            SecurityNotFound: the ticker is not registered.
            InvalidData: the frame is not of that shape, has a date twice, or has a bar that no market can make.
            WrongAnswer: currency or zone are not those of the bars that are stored.
            IdenticalSeries: the latest bars are those of another ticker.
            HistoryShrank: the frame ends before the stored bars do, or lacks more than 5 and 1 % of them.
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
        facts, digest = df.attrs.get(bars.FACTS, {}), _digest(df)
        with self._transaction(ticker) as connection:
            security_id = self._security_id(connection, ticker)
            self._require_same_security(connection, ticker, security_id, facts, digest)
            # A temporary table, because COPY knows no ON CONFLICT.
            names = ", ".join(bars.COLUMNS)
            empty = f"CREATE TEMP TABLE incoming ON COMMIT DROP AS SELECT {names} FROM ohlcv WITH NO DATA"
            connection.execute(sa.text(empty))
            _copy_in(connection, f"COPY incoming ({names}) FROM STDIN (FORMAT csv)", content)
            missing = [] if window is None else _missing(connection, ticker, security_id, window)
            affected = connection.execute(sa.text(upsert), {"security_id": security_id}).rowcount
            change = {name: storable(facts[name]) for name in _FACTS if facts.get(name)} | {"series_digest": digest}
            connection.execute(sa.update(securities).where(securities.c.security_id == security_id).values(change))
            connection.execute(sa.delete(absences).where(absences.c.ticker == ticker))
            if missing and marker is not None:
                marker = replace(marker, detail={**marker.detail, "missing": [str(day) for day in missing]})
            self._mark(connection, marker)
        words = f"{ticker}: {len(df)} bars stored, {affected} of them new or changed"
        if missing:
            words += f"; {len(missing)} stored ones are not in the answer any more: {', '.join(map(str, missing))}"
        return _result(affected, words)

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

    def security(self, ticker: str) -> dict[str, Any] | None:
        """What is known of a security by the source's word (see `luigi_tasks.bars.FACTS`), and last_session, the day
        of its last stored bar; None if it is not registered."""
        last = sa.select(sa.func.max(ohlcv.c.date)).where(ohlcv.c.security_id == securities.c.security_id)
        columns = [securities.c[name] for name in _FACTS]
        query = sa.select(*columns, last.scalar_subquery().label("last_session")).where(securities.c.ticker == ticker)
        with self._transaction(ticker) as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else dict(row)

    def delete_security(self, ticker: str) -> int:
        """Delete the security, all that is stored of it and its markers; the number of its bars.

        Raises:
            SecurityNotFound: the ticker is not registered.
        """
        with self._transaction(ticker) as connection:
            security_id = self._security_id(connection, ticker)
            bars_of_it = connection.execute(sa.delete(ohlcv).where(ohlcv.c.security_id == security_id)).rowcount
            connection.execute(sa.delete(securities).where(securities.c.security_id == security_id))
            for table in (task_markers, absences):
                connection.execute(sa.delete(table).where(table.c.ticker == ticker))
        return int(bars_of_it)

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
    def _require_same_security(
        connection: sa.Connection, ticker: str, security_id: int, facts: Mapping[str, Any], digest: str | None
    ) -> None:
        """Raise WrongAnswer or IdenticalSeries for bars that are not this security's."""
        mine = sa.select(*(securities.c[name] for name in _IDENTITY)).where(securities.c.security_id == security_id)
        # Locked, so that of two answers at once the second is compared with the first.
        known = connection.execute(mine.with_for_update()).mappings().one()
        for name in _IDENTITY:
            said, stored = facts.get(name), known[name]
            if said and stored and said != stored:
                raise WrongAnswer(
                    ticker,
                    f"the answer's {name.replace('_', ' ')} is {said}, that of the stored bars is {stored}",
                    "If it has changed indeed, load it anew after ./run.sh forget TICKER.",
                )
        if digest is None:
            return
        others = sa.select(securities.c.ticker).where(
            securities.c.series_digest == digest, securities.c.security_id != security_id
        )
        other = connection.scalar(others)
        if other is not None:
            raise IdenticalSeries(
                ticker,
                f"its last {_DIGEST_BARS} bars are those of {other}, to the last digit",
                "If both are one security, keep only one in the universe; if not, run again.",
            )

    @staticmethod
    def _mark(connection: sa.Connection, marker: Marker | None) -> None:
        if marker is not None:
            write_marker(connection, marker)


def _digest(df: pd.DataFrame) -> str | None:
    """Of the latest bars; None where they are too few or too flat to tell one security from another."""
    latest = df.sort_values("date").tail(_DIGEST_BARS) if {"date", "close"} <= set(df.columns) else df.iloc[:0]
    if len(latest) < _DIGEST_BARS or latest["close"].nunique() < _DIGEST_CLOSES:
        return None
    columns = [name for name in bars.COLUMNS if name not in ("adj_close", "dividends", "stock_splits")]
    text = latest[columns].to_csv(index=False, header=False, float_format="%.17g", date_format="%Y-%m-%d")
    return hashlib.sha256(text.encode()).hexdigest()


def _missing(connection: sa.Connection, ticker: str, security_id: int, window: Window) -> list[dt.date]:
    """Stored sessions of the window that are not in `incoming`. Raises HistoryShrank where that is no detail."""
    stored = "SELECT date FROM ohlcv WHERE security_id = :security_id AND date BETWEEN :start AND :end"
    values = {"security_id": security_id, "start": window.start, "end": window.end}
    old = set(connection.scalars(sa.text(stored), values))
    new = set(connection.scalars(sa.text("SELECT date FROM incoming"))) | set(window.left_out)
    missing = sorted(old - new)
    if not missing:
        return []
    if max(old) > max(new, default=dt.date.min):
        reason = f"the answer ends on {max(new, default='no day')}, bars up to {max(old)} are stored"
    elif len(missing) > max(_MOST_MISSING, _MOST_MISSING_SHARE * len(old)):
        reason = f"the answer lacks {len(missing)} of {len(old)} stored sessions, {missing[0]} first"
    else:
        return missing
    raise HistoryShrank(ticker, reason, "Nothing was changed; run again.")


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
