"""Missing sessions: noticed, asked for again, known, refilled; and those that the provider lost for everybody."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luigi_tasks.database.engine import engine_for
from luigi_tasks.database.gaps import OUTAGE_SECURITIES, Gaps, MissingSessions, Outage, note
from luigi_tasks.database.schema import missing_sessions, ohlcv, quarantined_bars, securities
from luigi_tasks.errors import DatabaseUnavailable
from tests.workspace import free_port

PRICES = dict.fromkeys(("open", "high", "low", "close"), 10.0) | {"volume": 1}


def day(number: int) -> dt.date:
    """Of March 2024; 0 and less are days before."""
    return dt.date(2024, 2, 29) + dt.timedelta(days=number)


def days(*numbers: int) -> list[dt.date]:
    return [day(number) for number in numbers]


MONDAY_TO_FRIDAY = days(4, 5, 6, 7, 8)
MONDAY, NEXT_SUNDAY = day(4), day(10)


class Market:
    """Securities and their bars, put into the tables directly."""

    def __init__(self, database_url: str) -> None:
        self.gaps = MissingSessions(database_url)
        self.engine = engine_for(database_url)

    def add(self, ticker: str, stored: Iterable[dt.date] = (), exchange: str | None = "NMS") -> int:
        with self.engine.begin() as connection:
            row = sa.insert(securities).values(ticker=ticker, exchange=exchange).returning(securities.c.security_id)
            security_id = int(connection.execute(row).scalar_one())
        self.store(security_id, stored)
        return security_id

    def store(self, security_id: int, stored: Iterable[dt.date]) -> None:
        rows = [{"security_id": security_id, "date": date, "as_of": date} | PRICES for date in stored]
        if rows:
            with self.engine.begin() as connection:
                connection.execute(sa.insert(ohlcv), rows)

    def quarantine(self, security_id: int, *dates: dt.date) -> None:
        rows: list[dict[str, Any]] = [
            {"security_id": security_id, "date": date, "number": number, "broken": [], "as_of": date}
            for date in dates
            for number in (0, 1)
        ]
        with self.engine.begin() as connection:
            connection.execute(sa.insert(quarantined_bars), rows)

    def note(
        self,
        security_id: int,
        as_of: dt.date,
        expected: Collection[dt.date] = MONDAY_TO_FRIDAY,
        start: dt.date = MONDAY,
        end: dt.date = NEXT_SUNDAY,
    ) -> Gaps:
        with self.engine.begin() as connection:
            return note(connection, security_id, expected, start, end, as_of)

    def noted(self) -> list[Any]:
        query = sa.select(missing_sessions).order_by(missing_sessions.c.security_id, missing_sessions.c.date)
        with self.engine.begin() as connection:
            return [tuple(row) for row in connection.execute(query)]

    def lost(self, session: dt.date, lacking: int, having: int, as_of: dt.date, exchange: str = "NMS") -> list[str]:
        """Add securities of an exchange, of which `lacking` lack the session; their tickers."""
        tickers = []
        for number in range(lacking + having):
            ticker = f"{exchange}{number}"
            stored = [session - dt.timedelta(days=1), *([] if number < lacking else [session])]
            security_id = self.add(ticker, stored, exchange)
            self.note(security_id, as_of, [session], session, session)
            tickers.append(ticker)
        return tickers

    def ask_again(self, tickers: Iterable[str], session: dt.date, as_of: dt.date) -> None:
        """The next run, which does not get them either."""
        with self.engine.begin() as connection:
            for ticker in tickers:
                security_id = connection.scalar(sa.select(securities.c.security_id).filter_by(ticker=ticker))
                assert security_id is not None
                note(connection, security_id, [session], session, session, as_of)


@pytest.fixture
def market(emptied_url: str) -> Market:
    return Market(emptied_url)


def test_a_session_without_a_bar_is_noticed(market: Market) -> None:
    security = market.add("AAA", days(4, 5, 7))

    assert market.note(security, day(9)) == Gaps(new=days(6, 8), known=[], refilled=[], off_calendar=[])
    assert market.noted() == [(security, day(6), day(9), None), (security, day(8), day(9), None)]


def test_the_same_run_again_changes_nothing(market: Market) -> None:
    security = market.add("AAA", days(4, 5, 7))
    first = market.note(security, day(9))
    noted = market.noted()

    assert market.note(security, day(9)) == first
    assert market.noted() == noted

    later = market.note(security, day(10))
    noted = market.noted()
    assert market.note(security, day(10)) == later
    assert market.noted() == noted


def test_what_is_missing_in_a_later_run_too_is_known_from_then_on(market: Market) -> None:
    security = market.add("AAA", days(4, 5, 7))
    market.note(security, day(9))

    assert market.note(security, day(10)) == Gaps(new=[], known=days(6, 8), refilled=[], off_calendar=[])
    assert market.note(security, day(11)).known == days(6, 8)
    assert market.noted() == [(security, day(6), day(9), day(10)), (security, day(8), day(9), day(10))]


def test_a_run_for_an_earlier_date_changes_nothing_that_a_later_one_noticed(market: Market) -> None:
    security = market.add("AAA", days(4, 5, 7, 8))
    market.note(security, day(10))

    assert market.note(security, day(9)).new == days(6)
    assert market.noted() == [(security, day(6), day(10), None)]


def test_a_session_that_came_after_all_is_refilled(market: Market) -> None:
    security = market.add("AAA", days(4, 5))
    market.note(security, day(9))
    market.store(security, days(7))

    assert market.note(security, day(10)) == Gaps(new=[], known=days(6, 8), refilled=days(7), off_calendar=[])
    assert [row[1] for row in market.noted()] == days(6, 8)
    assert market.note(security, day(10)).refilled == []


def test_a_session_in_quarantine_is_not_missing(market: Market) -> None:
    security = market.add("AAA", days(4, 5, 7))
    market.note(security, day(8), days(4, 5, 6, 7))
    market.quarantine(security, day(6), day(8))

    assert market.note(security, day(9)) == Gaps(new=[], known=[], refilled=[], off_calendar=[])
    assert market.noted() == []


def test_a_bar_of_a_day_without_a_session_is_told(market: Market) -> None:
    security = market.add("AAA", days(3, 4, 5, 6, 7, 8, 9, 10, 11))

    assert market.note(security, day(11)) == Gaps(new=[], known=[], refilled=[], off_calendar=days(9, 10))


def test_what_the_calendar_takes_back_is_not_missing_any_more(market: Market) -> None:
    security = market.add("AAA", days(4, 5, 7, 8))
    market.note(security, day(9))

    assert market.note(security, day(10), days(4, 5, 7, 8)) == Gaps([], [], [], [])
    assert market.noted() == []


def test_nothing_outside_of_the_window_is_touched(market: Market) -> None:
    security, other = market.add("AAA", days(1)), market.add("BBB", days(1))
    market.note(security, day(8), days(1, 4, 8), day(1), day(8))
    market.note(other, day(8), days(5), day(5), day(5))

    found = market.note(security, day(9), days(1, 4, 5, 8), day(5), day(6))

    assert found == Gaps(new=days(5), known=[], refilled=[], off_calendar=[])
    assert market.noted() == [
        (security, day(4), day(8), None),
        (security, day(5), day(9), None),
        (security, day(8), day(8), None),
        (other, day(5), day(8), None),
    ]


def test_notes_are_gone_with_the_callers_transaction(market: Market) -> None:
    security = market.add("AAA")
    with market.engine.connect() as connection:
        assert note(connection, security, days(4), day(4), day(4), day(5)).new == days(4)
        connection.rollback()

    assert market.noted() == []


STATES = st.sampled_from(["missing", "stored", "quarantined", "closed", "closed but stored"])


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(STATES, STATES), min_size=1, max_size=8))
def test_any_two_runs_tell_of_every_session_what_became_of_it(market: Market, states: list[tuple[str, str]]) -> None:
    with market.engine.begin() as connection:
        connection.execute(sa.delete(securities))
    security = market.add("AAA")
    found = []
    for run in (0, 1):
        with market.engine.begin() as connection:
            connection.execute(sa.delete(ohlcv))
            connection.execute(sa.delete(quarantined_bars))
        now = {day(number): pair[run] for number, pair in enumerate(states)}
        market.store(security, [date for date, state in now.items() if "stored" in state])
        if "quarantined" in now.values():
            market.quarantine(security, *(date for date, state in now.items() if state == "quarantined"))
        expected = [date for date, state in now.items() if "closed" not in state]
        found.append((now, market.note(security, day(20 + run), expected, day(0), day(7))))

    (before, first), (after, second) = found
    was_missing = [date for date in before if before[date] == "missing"]
    is_missing = [date for date in after if after[date] == "missing"]
    assert first.new == was_missing
    assert first.known == first.refilled == []
    assert second.new == [date for date in is_missing if date not in was_missing]
    assert second.known == [date for date in is_missing if date in was_missing]
    assert second.refilled == [date for date in was_missing if "stored" in after[date]]
    for now, gaps in found:
        assert gaps.off_calendar == [date for date, state in now.items() if state == "closed but stored"]
    assert [row[1] for row in market.noted()] == is_missing


def test_a_missing_session_is_asked_for_once_more_and_not_again(market: Market) -> None:
    security = market.add("AAA", days(4, 7))
    market.add("BBB", days(4))
    market.note(security, day(9))

    assert market.gaps.to_ask_again(["AAA", "BBB", "ZZZ"], day(10)) == {"AAA": day(5)}
    market.note(security, day(10))
    assert market.gaps.to_ask_again(["AAA", "BBB"], day(11)) == {}


def test_only_the_tickers_own_sessions_count(market: Market) -> None:
    market.note(market.add("AAA", days(4, 6, 7, 8)), day(9))
    market.note(market.add("BBB", days(4, 5, 6, 7)), day(9))

    assert market.gaps.to_ask_again(["BBB"], day(10)) == {"BBB": day(8)}
    assert market.gaps.to_ask_again([], day(10)) == {}


def test_what_was_noticed_later_does_not_count_yet(market: Market) -> None:
    market.note(market.add("AAA", days(4, 6, 7, 8)), day(9))

    assert market.gaps.to_ask_again(["AAA"], day(8)) == {}
    assert market.gaps.listed(["AAA"], day(8)) == {}


def test_an_outage_is_asked_for_in_every_run_of_two_weeks(market: Market) -> None:
    tickers = market.lost(day(8), OUTAGE_SECURITIES, 3, as_of=day(9))
    lacking, having = tickers[:OUTAGE_SECURITIES], tickers[OUTAGE_SECURITIES:]
    market.ask_again(lacking, day(8), day(10))

    assert market.gaps.to_ask_again(tickers, day(11)) == dict.fromkeys(lacking, day(8))
    assert market.gaps.to_ask_again(lacking[:1], day(23)) == {lacking[0]: day(8)}
    assert market.gaps.to_ask_again(tickers, day(24)) == {}
    assert market.gaps.to_ask_again(having, day(11)) == {}


@pytest.mark.parametrize(
    ("lacking", "having", "outage"),
    [(10, 0, True), (10, 40, True), (10, 41, False), (9, 0, False), (12, 48, True), (12, 49, False)],
)
def test_an_outage_is_ten_securities_and_a_fifth_of_their_exchange(
    market: Market, lacking: int, having: int, outage: bool
) -> None:
    tickers = market.lost(day(8), lacking, having, as_of=day(9))
    market.ask_again(tickers[:lacking], day(8), day(10))

    asked = market.gaps.to_ask_again(tickers[:1], day(11))
    found = market.gaps.outages(tickers[:1], day(11))
    listed = market.gaps.listed(tickers, day(11))

    assert asked == ({tickers[0]: day(8)} if outage else {})
    assert found == ([Outage("NMS", day(8), lacking, lacking + having, noticed=day(9))] if outage else [])
    assert listed == ({} if outage else {ticker: [(day(8), True)] for ticker in tickers[:lacking]})


def test_securities_of_other_exchanges_and_without_a_bar_around_it_do_not_count(market: Market) -> None:
    tickers = market.lost(day(8), 10, 0, as_of=day(9))
    for number in range(60):
        market.add(f"L{number}", [day(8)], "LSE")
        market.add(f"U{number}", [day(8)], None)
        market.add(f"D{number}", [day(1)])
    market.lost(day(8), 9, 0, day(9), "PAR")

    assert market.gaps.outages(["PAR0", *tickers], day(9)) == [Outage("NMS", day(8), 10, 10, noticed=day(9))]
    assert market.gaps.listed(["PAR0", *tickers], day(9)) == {"PAR0": [(day(8), False)]}


def test_securities_whose_exchange_is_not_known_have_no_outage(market: Market) -> None:
    for number in range(12):
        market.note(market.add(f"U{number}", exchange=None), day(9), [day(8)], day(8), day(8))

    assert market.gaps.outages(["U0"], day(9)) == []
    assert market.gaps.listed(["U0"], day(9)) == {"U0": [(day(8), False)]}


def test_a_hole_of_long_ago_is_asked_for_once_though_many_have_it(market: Market) -> None:
    old = day(9) - dt.timedelta(days=32)
    tickers = market.lost(old, 12, 0, as_of=day(9))
    assert market.gaps.to_ask_again(tickers[:1], day(10)) == {tickers[0]: old}

    market.ask_again(tickers, old, day(10))

    assert market.gaps.to_ask_again(tickers, day(11)) == {}
    assert [found.date for found in market.gaps.outages(tickers, day(11))] == [old]


def test_outages_and_single_sessions_are_told_apart(market: Market) -> None:
    tickers = market.lost(day(8), 10, 5, as_of=day(9))
    single = market.add("AAA", days(4))
    market.note(single, day(9))
    market.note(single, day(10))
    market.note(single, day(11), days(11), day(11), day(11))

    assert market.gaps.outages([*tickers, "AAA"], day(11)) == [Outage("NMS", day(8), 11, 16, noticed=day(9))]
    # Not of the outage: the rest of AAA's own.
    assert market.gaps.listed([*tickers, "AAA"], day(11)) == {
        "AAA": [(day(5), True), (day(6), True), (day(7), True), (day(11), False)]
    }
    assert market.gaps.outages([tickers[-1]], day(11)) == []
    # As it was known then.
    assert market.gaps.listed(["AAA"], day(9)) == {"AAA": [(day(5), False), (day(6), False), (day(7), False)]}


def test_missing_sessions_go_with_their_security(market: Market) -> None:
    market.note(market.add("AAA"), day(9))
    with market.engine.begin() as connection:
        connection.execute(sa.delete(securities))

    assert market.noted() == []


def test_a_database_that_does_not_answer_is_named() -> None:
    gaps = MissingSessions(f"postgresql://me@127.0.0.1:{free_port()}/db")

    with pytest.raises(DatabaseUnavailable, match=r"missing sessions: PostgreSQL at .* does not answer"):
        gaps.to_ask_again(["AAA"], day(9))
