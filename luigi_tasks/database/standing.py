"""How a ticker stands with its provider: whether it is retired, and whether its company data is fresh.

A ticker is retired once the provider itself has said on several days that it has no such ticker, days on which
well-known tickers answered. It is then asked for again after 7, 14, 28, 56 and at most 90 days. Days are the days of
asking, in UTC, whatever the as-of date.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from luigi_tasks.database.engine import engine_for, transaction
from luigi_tasks.database.schema import absences, securities
from luigi_tasks.schedule import due

_FIRST_REST = 7
_FIRST_WEEK = 6
"""Days after company data was stored in which it is not asked for again, though it be the ticker's day."""
_LONGEST_REST = 90
_WITNESS_LOCK = 0x5EC0_D1ED


@dataclass(frozen=True)
class Retired:
    """A ticker that the provider has no more: on how many days it said so, last when, and when it is asked again."""

    ticker: str
    days: int
    last: dt.date
    next: dt.date


class Standing:
    """Of the tickers of one database."""

    def __init__(self, database_url: str) -> None:
        self._engine = engine_for(database_url)

    def absent(self, ticker: str, day: dt.date, witnesses_answer: Callable[[], bool]) -> bool:
        """Keep that the provider has said so on this day, and return whether that counts.

        It does if well-known tickers answer on that day; they are asked once a day, by one process at a time.
        """
        with transaction(self._engine, ticker) as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_WITNESS_LOCK)))
            confirmed = connection.scalar(sa.select(sa.func.bool_or(absences.c.confirmed)).where(absences.c.day == day))
            if not confirmed:
                confirmed = witnesses_answer()
            statement = insert(absences).values(ticker=ticker, day=day, confirmed=confirmed)
            either = absences.c.confirmed | statement.excluded.confirmed
            connection.execute(
                statement.on_conflict_do_update(index_elements=["ticker", "day"], set_={"confirmed": either})
            )
        return bool(confirmed)

    def retired(self, tickers: Collection[str], days: int) -> dict[str, Retired]:
        """Those that the provider has denied on `days` days or more; one query."""
        count, last = sa.func.count().label("days"), sa.func.max(absences.c.day).label("last")
        query = (
            sa.select(absences.c.ticker, count, last)
            .where(absences.c.confirmed, absences.c.ticker == sa.func.any(_texts("tickers")))
            .group_by(absences.c.ticker)
            .having(sa.func.count() >= days)
        )
        with transaction(self._engine, "retired tickers") as connection:
            rows = connection.execute(query, {"tickers": list(tickers)}).all()
        found = {}
        for row in rows:
            rest = min(_FIRST_REST * 2 ** min(row.days - days, 10), _LONGEST_REST)
            found[row.ticker] = Retired(row.ticker, row.days, row.last, row.last + dt.timedelta(days=rest))
        return found

    def with_history(
        self, tickers: Collection[str], start: dt.date, as_of: dt.date, now: dt.datetime | None = None
    ) -> set[str]:
        """Those whose bars from `start` on are stored as of that date or a later one; one query.

        As of that very date, none of those whose next answer is to replace them, whatever it is, and none that lack a
        session which was not over when they were asked for, and can be had `now` (with a zone; the present if None).
        """
        to_be_had = sa.and_(securities.c.open_until < (now or sa.func.now()), securities.c.unfinished <= as_of)
        more = sa.or_(securities.c.accepted, sa.func.coalesce(to_be_had, sa.false()))
        query = sa.select(securities.c.ticker).where(
            securities.c.ticker == sa.func.any(_texts("tickers")),
            securities.c.bars_as_of >= as_of,
            securities.c.history_from <= start,
            sa.not_(sa.and_(securities.c.bars_as_of == as_of, more)),
        )
        with transaction(self._engine, "stored history") as connection:
            return set(connection.scalars(query, {"tickers": list(tickers)}))

    def fresh_metadata(
        self, tickers: Collection[str], as_of: dt.date, refresh_days: int, *, with_numbers: bool = False
    ) -> set[str]:
        """Those whose company data need not be asked for as of that date, nor their daily numbers if wanted; one query.

        What counts is when it was last asked for, whether the provider had any or not.
        Every ticker has its own day in each `refresh_days`, so that not all are due on Monday. Data that is newer
        than the as-of date is fresh: the provider only ever tells of today.
        """
        names = ("ticker", "company_as_of", "numbers_as_of")
        query = sa.select(*(securities.c[name] for name in names)).where(
            securities.c.ticker == sa.func.any(_texts("tickers")), securities.c.company_as_of.is_not(None)
        )
        with transaction(self._engine, "company data") as connection:
            rows = connection.execute(query, {"tickers": list(tickers)}).all()
        return {
            ticker
            for ticker, stored, numbers in rows
            if is_fresh(ticker, stored, as_of, refresh_days)
            and (not with_numbers or (numbers is not None and numbers >= as_of))
        }


def is_fresh(ticker: str, stored: dt.date, as_of: dt.date, interval: int) -> bool:
    """Whether no refresh day of the ticker lies after `stored` and up to `as_of`; of a long interval, the week after
    `stored` has none."""
    rest = _FIRST_WEEK if interval >= 2 * _FIRST_WEEK else 0
    return not due(ticker, stored + dt.timedelta(days=rest), as_of, interval)


def _texts(name: str) -> Any:
    return sa.bindparam(name, type_=sa.ARRAY(sa.Text))
