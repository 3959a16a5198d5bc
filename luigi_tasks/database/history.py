"""One security's bars within a transaction: what is there, what an answer changes, and every version that it replaces.

The functions here neither begin nor end a transaction; `client` does, with the security's row locked.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection

import pandas as pd
import sqlalchemy as sa

from luigi_tasks import bars
from luigi_tasks.database.schema import ohlcv, quarantined_bars
from luigi_tasks.errors import HistoryShrank
from luigi_tasks.history import ROUNDED, ROUNDING, reasons

_MOST_MISSING_SHARE = 0.01
_MOST_MISSING = 5

_VALUES = bars.COLUMNS[1:]
_NAMES = ", ".join(bars.COLUMNS)
_BOTH = "incoming JOIN ohlcv ON ohlcv.security_id = :security_id AND ohlcv.date = incoming.date"
_OLD = ", ".join(f"ohlcv.{name}" for name in _VALUES)
_NEW = ", ".join(f"incoming.{name}" for name in _VALUES)


def _differs(new: str) -> str:
    """SQL: whether a stored bar and the new one differ in more than how the source rounds."""
    exact = [name for name in _VALUES if name not in ROUNDED]
    old_bar, new_bar = (", ".join(f"{table}.{name}" for name in exact) for table in ("ohlcv", new))
    rounded = (
        f"coalesce(abs(ohlcv.{name} - {new}.{name}) > {ROUNDING} * abs({new}.{name}), "
        f"ohlcv.{name} IS DISTINCT FROM {new}.{name})"
        for name in ROUNDED
    )
    return " OR ".join([f"({old_bar}) IS DISTINCT FROM ({new_bar})", *rounded])


def read(connection: sa.Connection, security_id: int, start: dt.date, end: dt.date) -> pd.DataFrame:
    """The stored bars of these days, in the shape of `luigi_tasks.bars`."""
    query = (
        sa.select(*(ohlcv.c[name] for name in bars.COLUMNS))
        .where(ohlcv.c.security_id == security_id, ohlcv.c.date.between(start, end))
        .order_by(ohlcv.c.date)
    )
    return bars.conform(pd.DataFrame(connection.execute(query).all(), columns=list(bars.COLUMNS)))


def latest(connection: sa.Connection, security_id: int, count: int) -> pd.DataFrame:
    """The last `count` stored bars, oldest first."""
    columns = [ohlcv.c[name] for name in bars.COLUMNS]
    query = sa.select(*columns).where(ohlcv.c.security_id == security_id).order_by(ohlcv.c.date.desc()).limit(count)
    return bars.conform(pd.DataFrame(connection.execute(query).all(), columns=list(bars.COLUMNS)))


def first_session(connection: sa.Connection, security_id: int) -> dt.date | None:
    """The day of the first stored bar."""
    first: dt.date | None = connection.scalar(
        sa.select(sa.func.min(ohlcv.c.date)).where(ohlcv.c.security_id == security_id)
    )
    return first


def missing(
    connection: sa.Connection, ticker: str, security_id: int, start: dt.date, end: dt.date, sent: Collection[dt.date]
) -> list[dt.date]:
    """Stored sessions of the days asked for that are not among those that were `sent`.

    Raises:
        HistoryShrank: they are more than 5 and 1 % of those stored, or the answer ends before them.
    """
    query = sa.select(ohlcv.c.date).where(ohlcv.c.security_id == security_id, ohlcv.c.date.between(start, end))
    old, new = set(connection.scalars(query)), set(sent)
    lacking = sorted(old - new)
    if not lacking:
        return []
    if max(old) > max(new, default=dt.date.min):
        reason = f"the answer ends on {max(new, default='no day')}, bars up to {max(old)} are stored"
    elif len(lacking) > max(_MOST_MISSING, _MOST_MISSING_SHARE * len(old)):
        reason = f"the answer lacks {len(lacking)} of {len(old)} stored sessions, {lacking[0]} first"
    else:
        return lacking
    raise HistoryShrank(ticker, reason, "Nothing was changed; run again.")


def changes(connection: sa.Connection, security_id: int) -> pd.Series[str]:
    """Why each stored bar changes that `incoming` has other values for, by date."""
    differing = sa.text(
        f"SELECT ohlcv.date, {_OLD}, {_NEW} FROM {_BOTH} WHERE {_differs('incoming')} ORDER BY ohlcv.date"
    )
    rows = [tuple(row) for row in connection.execute(differing, {"security_id": security_id})]
    if not rows:
        return pd.Series(dtype=object)
    width = len(_VALUES)
    old = bars.conform(pd.DataFrame([row[: width + 1] for row in rows], columns=list(bars.COLUMNS)))
    new = bars.conform(pd.DataFrame([(row[0], *row[width + 1 :]) for row in rows], columns=list(bars.COLUMNS)))
    why = reasons(old, new, _actions(connection, security_id))
    why.index = pd.Index([row[0] for row in rows])
    return why


def last_action(connection: sa.Connection, security_id: int) -> dt.date | None:
    """The last day of `incoming` on which a dividend or split is another than the stored one, if there are stored
    bars before it: those are measured by something else from now on."""
    acted = _actions(connection, security_id)
    if acted.empty:
        return None
    last: dt.date = acted["date"].max()
    earlier = sa.select(sa.exists().where(ohlcv.c.security_id == security_id, ohlcv.c.date < last))
    return last if connection.scalar(earlier) else None


def _actions(connection: sa.Connection, security_id: int) -> pd.DataFrame:
    """Sessions of `incoming` with other dividends or splits than the stored ones: for `luigi_tasks.history.reasons`."""
    query = sa.text(
        "SELECT incoming.date, incoming.dividends, incoming.stock_splits, "
        "coalesce(ohlcv.dividends, 0) AS old_dividends, coalesce(ohlcv.stock_splits, 0) AS old_stock_splits "
        f"FROM {_BOTH.replace('JOIN', 'LEFT JOIN')} "
        f"WHERE abs(incoming.dividends - coalesce(ohlcv.dividends, 0)) > {ROUNDING} * incoming.dividends "
        "OR incoming.stock_splits <> coalesce(ohlcv.stock_splits, 0) ORDER BY incoming.date"
    )
    rows = [tuple(row) for row in connection.execute(query, {"security_id": security_id})]
    columns = ["date", "dividends", "stock_splits", "old_dividends", "old_stock_splits"]
    return pd.DataFrame(rows, columns=columns)


def keep_versions(connection: sa.Connection, security_id: int, why: pd.Series[str], as_of: dt.date) -> None:
    """Copy the stored bars of these dates to `ohlcv_revisions`, before they are changed as of that date."""
    statement = sa.text(
        f"INSERT INTO ohlcv_revisions (security_id, as_of, until, why, {_NAMES}) "
        f"SELECT ohlcv.security_id, ohlcv.as_of, greatest(ohlcv.as_of, :as_of), reason.why, ohlcv.date, {_OLD} "
        "FROM unnest(:dates, :whys) AS reason (date, why) "
        "JOIN ohlcv ON ohlcv.security_id = :security_id AND ohlcv.date = reason.date"
    ).bindparams(
        sa.bindparam("dates", list(why.index), sa.ARRAY(sa.Date)),
        sa.bindparam("whys", list(why), sa.ARRAY(sa.Text)),
        sa.bindparam("as_of", as_of, sa.Date),
        sa.bindparam("security_id", security_id),
    )
    connection.execute(statement)


def withdraw(connection: sa.Connection, security_id: int, days: Collection[dt.date], as_of: dt.date) -> int:
    """Take what is stored of these days out of the table, into the revisions: it is measured by what the others have
    left. The number of bars."""
    keep_versions(connection, security_id, pd.Series("withdrawn", index=pd.Index(sorted(days))), as_of)
    of_these = sa.delete(ohlcv).where(ohlcv.c.security_id == security_id, ohlcv.c.date.in_(list(days)))
    return connection.execute(of_these).rowcount


def store(connection: sa.Connection, security_id: int, as_of: dt.date, *, replace: bool) -> int:
    """Bring `incoming` into the table, and return how many bars are new or changed; without `replace`, only new."""
    sets = ", ".join(f"{name} = excluded.{name}" for name in _VALUES)
    conflict = (
        f"UPDATE SET {sets}, as_of = greatest(ohlcv.as_of, excluded.as_of) WHERE {_differs('excluded')}"
        if replace
        else "NOTHING"
    )
    statement = sa.text(
        f"INSERT INTO ohlcv (security_id, as_of, {_NAMES}) SELECT :security_id, :as_of, {_NAMES} FROM incoming "
        f"ON CONFLICT (security_id, date) DO {conflict}"
    )
    return connection.execute(statement, {"security_id": security_id, "as_of": as_of}).rowcount


def quarantine(
    connection: sa.Connection, security_id: int, start: dt.date, end: dt.date, rows: pd.DataFrame, as_of: dt.date
) -> None:
    """Make these the bars in quarantine of the days asked for; what is no longer among them has been mended."""
    table = quarantined_bars
    connection.execute(sa.delete(table).where(table.c.security_id == security_id, table.c.date.between(start, end)))
    known = rows[rows["date"].notna()]
    if known.empty:
        return
    number = known.groupby("date").cumcount()
    connection.execute(
        sa.insert(table),
        [
            {"security_id": security_id, "date": row["date"].date(), "number": int(place), "as_of": as_of}
            | {name: None if pd.isna(row[name]) else float(row[name]) for name in _VALUES}
            | {"broken": json.loads(row["broken"])}
            for place, (_, row) in zip(number, known.iterrows(), strict=True)
        ],
    )
