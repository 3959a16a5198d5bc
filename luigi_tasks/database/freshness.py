"""How far the stored bars reach."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass, field

import sqlalchemy as sa

from luigi_tasks import sessions
from luigi_tasks.database.engine import engine_for, transaction

_DAY = dt.timedelta(days=1)
# No exchange of a known calendar is closed for longer.
_LONGEST_PAUSE = dt.timedelta(days=30)

# Not those that have left every list, have another name now, or are denied by their provider. One look into the index
# for each: the table may have millions of bars.
_LAST_BARS = sa.text(
    """
    SELECT s.exchange, newest.date, coalesce(s.quote_type = ANY(:late), false) AS late, count(*) AS tickers
    FROM securities AS s
    LEFT JOIN LATERAL (
        SELECT o.date FROM ohlcv AS o WHERE o.security_id = s.security_id ORDER BY o.date DESC LIMIT 1
    ) AS newest ON true
    WHERE s.exchange IS NOT NULL AND s.successor IS NULL
        AND NOT EXISTS (SELECT FROM absences AS a WHERE a.ticker = s.ticker AND a.confirmed)
        AND coalesce(
            (SELECT bool_or(g.valid_to IS NULL) FROM security_groupings AS g WHERE g.security_id = s.security_id), true
        )
    GROUP BY s.exchange, newest.date, late
    """
).bindparams(sa.bindparam("late", type_=sa.ARRAY(sa.Text)))


@dataclass
class LastBars:
    """{day: how many tickers of an exchange have their last bar on it}, `datetime.date.min` for no bar at all."""

    traded: Counter[dt.date] = field(default_factory=Counter)
    funds: Counter[dt.date] = field(default_factory=Counter)
    """Those whose value of a session comes hours after its close: see `sessions.VALUED_LATE`."""

    @property
    def all(self) -> Counter[dt.date]:
        return self.traded + self.funds

    def there(self, exchange: str, expected: dt.date) -> int:
        """How many have a bar of the exchange's `expected` session or a later one; of funds, of the one before it."""
        return sum(
            count
            for ends, day in ((self.traded, expected), (self.funds, session_before(exchange, expected)))
            for last, count in ends.items()
            if last >= day
        )


def session_before(exchange: str, day: dt.date) -> dt.date:
    """The exchange's session before that day, which its calendar, where one is known, has one before."""
    calendar = sessions.calendar_of(exchange)
    earlier = sessions.sessions(calendar, day - _LONGEST_PAUSE, day - _DAY) if calendar is not None else []
    return max(earlier, default=day - _DAY)


def last_bars(database_url: str) -> dict[str, LastBars]:
    """{exchange: where its tickers end}, of those that may be expected to have new ones."""
    found: dict[str, LastBars] = {}
    with transaction(engine_for(database_url), "the last bars") as connection:
        rows = connection.execute(_LAST_BARS, {"late": list(sessions.VALUED_LATE)})
        for exchange, day, late, tickers in rows:
            of_exchange = found.setdefault(exchange, LastBars())
            (of_exchange.funds if late else of_exchange.traded)[day or dt.date.min] += tickers
    return found
