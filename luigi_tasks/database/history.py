"""One security's bars within a transaction: what is there, what an answer changes, and every version that it replaces.

The functions here neither begin nor end a transaction; `client` does, with the security's row locked.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from luigi_tasks import bars
from luigi_tasks.database.schema import actions_without_bar, ohlcv, quarantined_bars, repairs
from luigi_tasks.errors import HistoryShrank
from luigi_tasks.history import ROUNDED, ROUNDING, Changes, reasons

TO_ACCEPT = "If the answer is right all the same, ./run.sh accept TICKER takes it."
"""What helps where an answer is held back."""

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
    """The stored bars of these days, in the shape of `luigi_tasks.bars`, with the actions of days without a bar."""
    query = (
        sa.select(*(ohlcv.c[name] for name in bars.COLUMNS))
        .where(ohlcv.c.security_id == security_id, ohlcv.c.date.between(start, end))
        .order_by(ohlcv.c.date)
    )
    found = bars.conform(pd.DataFrame(connection.execute(query).all(), columns=list(bars.COLUMNS)))
    alone = _actions_alone(connection, security_id, start, end)
    if alone:
        found.attrs[bars.ACTIONS] = [{**action, "date": str(action["date"])} for action in alone]
    return found


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


def not_sent(
    connection: sa.Connection, security_id: int, start: dt.date, end: dt.date, sent: Collection[dt.date]
) -> list[dt.date]:
    """Stored sessions of these days that are not among those that were `sent`."""
    query = sa.select(ohlcv.c.date).where(ohlcv.c.security_id == security_id, ohlcv.c.date.between(start, end))
    return sorted(set(connection.scalars(query)) - set(sent))


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
    raise HistoryShrank(ticker, reason, f"Nothing was changed; run again. {TO_ACCEPT}")


def changes(connection: sa.Connection, security_id: int, acted: pd.DataFrame) -> Changes | None:
    """The stored bars that `incoming` has other values for, by date, and why; None where there are none.

    `acted` are all actions of the answer, as `luigi_tasks.bars.every_action` gives them.
    """
    differing = sa.text(
        f"SELECT ohlcv.provisional, ohlcv.date, {_OLD}, {_NEW} FROM {_BOTH} WHERE {_differs('incoming')} "
        "ORDER BY ohlcv.date"
    )
    rows = [tuple(row) for row in connection.execute(differing, {"security_id": security_id})]
    if not rows:
        return None
    names, width = list(bars.COLUMNS), len(_VALUES)
    old = bars.conform(pd.DataFrame([row[1 : width + 2] for row in rows], columns=names))
    new = bars.conform(pd.DataFrame([(row[1], *row[width + 2 :]) for row in rows], columns=names))
    provisional = np.array([row[0] for row in rows])
    changed = changed_actions(connection, security_id, acted)
    why = reasons(old, new, changed, provisional, acted[acted["stock_splits"] > 0])
    why.index = pd.Index([row[1] for row in rows])
    return Changes(old, new, provisional, why)


def common(connection: sa.Connection, security_id: int) -> int:
    """How many of the stored bars `incoming` has, too."""
    return int(connection.scalar(sa.text(f"SELECT count(*) FROM {_BOTH}"), {"security_id": security_id}) or 0)


def stored_actions(connection: sa.Connection, security_id: int, start: dt.date, end: dt.date) -> pd.DataFrame:
    """The stored actions of these days, with a bar or without: see `luigi_tasks.bars.every_action`."""
    names = ["date", *bars.AMOUNTS, "dividend_currency"]
    acted = sa.or_(*(ohlcv.c[name] > 0 for name in bars.AMOUNTS))
    query = sa.select(*(ohlcv.c[name] for name in names)).where(
        ohlcv.c.security_id == security_id, ohlcv.c.date.between(start, end), acted
    )
    rows = [dict(row) for row in connection.execute(query).mappings()]
    found = pd.DataFrame(rows + _actions_alone(connection, security_id, start, end), columns=names)
    kinds = dict.fromkeys(bars.AMOUNTS, "float64") | {"date": "datetime64[s]", "dividend_currency": "str"}
    return found.astype(kinds).sort_values("date", ignore_index=True)


def _actions_alone(connection: sa.Connection, security_id: int, start: dt.date, end: dt.date) -> list[dict[str, Any]]:
    """The stored actions of days without a bar, as they are now."""
    table = actions_without_bar
    names = ("date", *bars.AMOUNTS, "dividend_currency")
    query = sa.select(*(table.c[name] for name in names)).where(
        table.c.security_id == security_id, table.c.date.between(start, end), table.c.until.is_(None)
    )
    return [dict(row) for row in connection.execute(query).mappings()]


def last_action(connection: sa.Connection, security_id: int, acted: pd.DataFrame) -> dt.date | None:
    """The last day on which a dividend, gain or split is another than the stored one, if there are stored bars before
    it: those are measured by something else from now on."""
    changed = changed_actions(connection, security_id, acted)
    if changed.empty:
        return None
    last: dt.date = changed["date"].max().date()
    earlier = sa.select(sa.exists().where(ohlcv.c.security_id == security_id, ohlcv.c.date < last))
    return last if connection.scalar(earlier) else None


def changed_actions(connection: sa.Connection, security_id: int, acted: pd.DataFrame) -> pd.DataFrame:
    """The days of `incoming`, and of the answer's actions without a bar, on which an action is another than the stored
    one: for `luigi_tasks.history.reasons`."""
    ends = connection.execute(sa.text("SELECT min(date), max(date) FROM incoming")).one()
    days = [day for day in (*ends, *acted["date"].dt.date) if day is not None]
    if not days:
        return pd.DataFrame()
    old = stored_actions(connection, security_id, min(days), max(days)).set_index("date")
    new = acted.set_index("date")
    both = old.index.union(new.index)
    amounts = list(bars.AMOUNTS)
    was, now = (table.reindex(both)[amounts].fillna(0.0) for table in (old, new))
    sent = connection.scalars(sa.text("SELECT date FROM incoming WHERE date = ANY(:days)"), {"days": list(both.date)})
    # Of a day that was not sent at all, nothing is known.
    known = both.isin(new.index) | both.isin(pd.to_datetime(list(sent)))
    differing = known & np.any(
        [np.abs(now[name] - was[name]) > (ROUNDING * now[name] if name in ROUNDED else 0) for name in amounts], axis=0
    )
    found = now.join(was.add_prefix("old_"))[differing]
    return found.rename_axis("date").reset_index()


def keep_versions(connection: sa.Connection, security_id: int, why: pd.Series[str], as_of: dt.date) -> None:
    """Copy the stored bars of these dates to `ohlcv_revisions`, before they are changed as of that date."""
    statement = sa.text(
        f"INSERT INTO ohlcv_revisions (security_id, as_of, until, why, provisional, settled_as_of, {_NAMES}) "
        "SELECT ohlcv.security_id, ohlcv.as_of, greatest(ohlcv.as_of, :as_of), reason.why, ohlcv.provisional, "
        f"ohlcv.settled_as_of, ohlcv.date, {_OLD} "
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
    sets = ", ".join(f"{name} = excluded.{name}" for name in (*_VALUES, "provisional"))
    conflict = (
        f"UPDATE SET {sets}, settled_as_of = NULL, as_of = greatest(ohlcv.as_of, excluded.as_of) "
        f"WHERE {_differs('excluded')}"
        if replace
        else "NOTHING"
    )
    statement = sa.text(
        f"INSERT INTO ohlcv (security_id, as_of, {_NAMES}, provisional) "
        f"SELECT :security_id, :as_of, {_NAMES}, provisional FROM incoming "
        f"ON CONFLICT (security_id, date) DO {conflict}"
    )
    return connection.execute(statement, {"security_id": security_id, "as_of": as_of}).rowcount


def settle(connection: sa.Connection, security_id: int, as_of: dt.date) -> None:
    """Stored bars that were provisional and that `incoming`, as of a later date, agrees with are final; but for those
    of which neither knows all prices: the source has yet to mend them."""
    statement = sa.text(
        "UPDATE ohlcv SET provisional = false, settled_as_of = :as_of FROM incoming "
        "WHERE ohlcv.security_id = :security_id AND ohlcv.provisional AND ohlcv.date = incoming.date "
        "AND ohlcv.as_of < :as_of AND num_nulls(ohlcv.open, ohlcv.high, ohlcv.low) = 0 "
        f"AND NOT ({_differs('incoming')})"
    )
    connection.execute(statement, {"security_id": security_id, "as_of": as_of})


def provisional_closes(connection: sa.Connection, security_id: int, days: Collection[dt.date]) -> dict[dt.date, float]:
    """{day: close} of the provisional bars that are stored of these days."""
    if not days:
        return {}
    query = sa.select(ohlcv.c.date, ohlcv.c.close).where(
        ohlcv.c.security_id == security_id, ohlcv.c.provisional, ohlcv.c.date.in_(list(days))
    )
    return {row.date: row.close for row in connection.execute(query)}


def keep_known_adjustment(connection: sa.Connection, security_id: int) -> None:
    """Where `incoming` does not know an adjusted close that is stored beside the same close, take the stored one.

    For answers with the stored actions only: with others, what is stored is adjusted by something else.
    """
    statement = sa.text(
        "UPDATE incoming SET adj_close = ohlcv.adj_close FROM ohlcv WHERE ohlcv.security_id = :security_id "
        "AND ohlcv.date = incoming.date AND ohlcv.close = incoming.close AND incoming.adj_close IS NULL"
    )
    connection.execute(statement, {"security_id": security_id})


def quarantine(
    connection: sa.Connection,
    security_id: int,
    start: dt.date,
    end: dt.date,
    rows: pd.DataFrame,
    as_of: dt.date,
    waiting: dt.date | None = None,
) -> None:
    """Make these the bars in quarantine of the days asked for; what is no longer among them has been mended.

    That of the day `waiting` is provisional.
    """
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
            | {name: None if pd.isna(row.get(name)) else float(row[name]) for name in bars.NUMBERS}
            | {"dividend_currency": None if pd.isna(row.get("dividend_currency")) else row["dividend_currency"]}
            | {"broken": json.loads(row["broken"]), "provisional": row["date"].date() == waiting}
            for place, (_, row) in zip(number, known.iterrows(), strict=True)
        ],
    )


def keep_actions(
    connection: sa.Connection, security_id: int, start: dt.date, end: dt.date, acted: pd.DataFrame, as_of: dt.date
) -> list[dict[str, Any]]:
    """Make `acted` the actions of these days; kept apart are those of days that no bar is stored of. These, as rows.

    What was said before and is no longer so is kept, with the day until which it was.
    """
    stored = sa.select(ohlcv.c.date).where(
        ohlcv.c.security_id == security_id, ohlcv.c.date.in_(list(acted["date"].dt.date))
    )
    with_bar = set(connection.scalars(stored)) if len(acted) else set()
    wanted = {
        row["date"].date(): {name: float(row[name]) for name in bars.AMOUNTS}
        | {"dividend_currency": None if pd.isna(row["dividend_currency"]) else row["dividend_currency"]}
        for row in acted.to_dict("records")
        if row["date"].date() not in with_bar and start <= row["date"].date() <= end
    }
    there = {row.pop("date"): row for row in _actions_alone(connection, security_id, start, end)}
    _keep_versions_of(
        connection,
        actions_without_bar,
        security_id,
        [{"date": day} for day in there if not _alike(there[day], wanted.get(day))],
        [{"date": day, **row} for day, row in wanted.items() if not _alike(row, there.get(day))],
        as_of,
    )
    return [{"date": day, **row} for day, row in sorted(wanted.items())]


def keep_repairs(
    connection: sa.Connection,
    security_id: int,
    start: dt.date,
    end: dt.date,
    proposed: Collection[dict[str, Any]],
    as_of: dt.date,
    only: Collection[str] | None = None,
) -> None:
    """Make these the repairs of these days, of the rules `only` if given: {date, column, rule, old, new, evidence}."""
    table, values = repairs, ("rule", "old", "new", "evidence")
    query = sa.select(table).where(
        table.c.security_id == security_id, table.c.date.between(start, end), table.c.until.is_(None)
    )
    if only is not None:
        query = query.where(table.c.rule.in_(list(only)))
    there = {(row["date"], row["column"]): dict(row) for row in connection.execute(query).mappings()}
    wanted = {
        (dt.date.fromisoformat(row["date"]), row["column"]): {name: row[name] for name in values}
        for row in proposed
        if only is None or row["rule"] in only
    }
    if not there and not wanted:
        return
    said = ("rule", "old", "new")
    _keep_versions_of(
        connection,
        table,
        security_id,
        [
            {"date": day, "column": name}
            for (day, name), row in there.items()
            if not _alike(row, wanted.get((day, name)), said)
        ],
        [
            {"date": day, "column": name, **row}
            for (day, name), row in wanted.items()
            if not _alike(row, there.get((day, name)), said)
        ],
        as_of,
    )


def _keep_versions_of(
    connection: sa.Connection,
    table: sa.Table,
    security_id: int,
    ended: list[dict[str, Any]],
    begun: list[dict[str, Any]],
    as_of: dt.date,
) -> None:
    """End the rows with these keys as of that date, and add the others; what was of that very date never was."""
    if ended:
        key = sa.tuple_(*(table.c[name] for name in ended[0])).in_([tuple(row.values()) for row in ended])
        of_it = (table.c.security_id == security_id) & table.c.until.is_(None) & key
        connection.execute(sa.delete(table).where(of_it, table.c.as_of >= as_of))
        connection.execute(sa.update(table).where(of_it).values(until=as_of))
    if begun:
        connection.execute(sa.insert(table), [{"security_id": security_id, "as_of": as_of, **row} for row in begun])


def _alike(one: dict[str, Any], other: dict[str, Any] | None, names: Collection[str] | None = None) -> bool:
    """Whether two rows say the same, but for how the source rounds."""
    if other is None:
        return False
    for name in names or one:
        old, new = one[name], other[name]
        if isinstance(old, float) and isinstance(new, float):
            if abs(old - new) > ROUNDING * abs(new):
                return False
        elif old != new:
            return False
    return True
