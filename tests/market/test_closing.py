"""When a bar is a close: by the answer's own trading hours, the exchange's calendar, and the answer's market time."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from luigi_tasks.market.yahoo import closing
from tests.conftest import make_bars

LONDON = ZoneInfo("Europe/London")
FRIDAY = dt.date(2024, 3, 15)
END = dt.datetime(2024, 3, 15, 16, 30, tzinfo=LONDON)
HOUR, MINUTE = dt.timedelta(hours=1), dt.timedelta(minutes=1)


def meta(
    traded: dt.datetime | None, ends: dt.datetime | None = END, length: float = 8.5, **more: Any
) -> dict[str, Any]:
    """Of an answer whose current session ends then, and whose market time is `traded`."""
    found: dict[str, Any] = {"exchangeTimezoneName": "Europe/London", "exchangeName": "LSE", **more}
    if traded is not None:
        found["regularMarketTime"] = int(traded.timestamp())
    if ends is not None:
        opens = ends - length * HOUR
        found["currentTradingPeriod"] = {"regular": {"start": opens.timestamp(), "end": ends.timestamp()}}
    return found


def bars(volume: int = 2_000_000, days: int = 30) -> pd.DataFrame:
    """Of a security that is traded about every `300 / volume` of a session."""
    return make_bars(days=days).assign(volume=volume)


def waits(said: dict[str, Any], now: dt.datetime, found: pd.DataFrame | None = None) -> tuple[str, dt.datetime | None]:
    left_out = closing.unfinished(bars() if found is None else found, said, now)
    return str(left_out.day), left_out.until


DONE = ("2024-03-16", None)
"""Nothing is left out but what has not begun."""


@pytest.mark.parametrize("hours", [0.5, 3, 8])
def test_a_session_that_runs_is_no_close_until_it_ends(hours: float) -> None:
    assert waits(meta(END - hours * HOUR), END - hours * HOUR + MINUTE) == ("2024-03-15", END)


def test_an_answer_of_the_sessions_end_or_later_is_a_close() -> None:
    for late in (0 * MINUTE, 5 * MINUTE):
        assert waits(meta(END + late), END + late + MINUTE) == DONE


@pytest.mark.parametrize("volume", [0, 1_000, 2_000_000])
@pytest.mark.parametrize("behind", [1, 15, 360])
def test_at_first_an_answer_that_is_behind_is_nobodys_close(volume: int, behind: int) -> None:
    answer = meta(END - behind * MINUTE)

    assert waits(answer, END + 10 * MINUTE, bars(volume)) == ("2024-03-15", END + 10 * MINUTE)
    assert waits(answer, END + 44 * MINUTE, bars(volume)) == ("2024-03-15", END + 44 * MINUTE)


@pytest.mark.parametrize("after", [46 * MINUTE, 5 * HOUR, 23.9 * HOUR])
@pytest.mark.parametrize("behind", [15, 360])
def test_later_an_answer_that_is_behind_is_old_where_there_is_much_trade(after: dt.timedelta, behind: int) -> None:
    now = END + after

    assert waits(meta(END - behind * MINUTE), now) == ("2024-03-15", now)


@pytest.mark.parametrize(
    ("volume", "behind", "close"),
    [
        # Trades a session, by 300 shares each: 10, then 100; 7 of them are missed by chance once in 1,000.
        (3_000, 340, True),
        (3_000, 400, False),
        (30_000, 30, True),
        (30_000, 40, False),
        (3_000, 5_000, False),
        (1_500, 5_000, True),
    ],
)
def test_later_it_is_the_close_of_a_share_that_is_seldom_traded(volume: int, behind: int, close: bool) -> None:
    found = waits(meta(END - behind * MINUTE), END + 2 * HOUR, bars(volume))

    assert (found == DONE) == close


@pytest.mark.parametrize("still", ["no volume", "one price", "no volumes at all"])
def test_later_it_is_the_close_of_a_share_that_often_has_no_trade(still: str) -> None:
    thin = bars(50_000)
    some = thin.index % 8 == 0
    if still == "one price":
        for name in ("open", "high", "low"):
            thin[name] = thin[name].mask(some, thin["close"])
    else:
        thin["volume"] = thin["volume"].mask(some | (still != "no volume"), 0)

    assert waits(meta(END - 6 * HOUR), END + HOUR, thin) == DONE
    if still == "no volume":
        busy = thin.assign(volume=thin["volume"] * 20)
        assert waits(meta(END - 6 * HOUR), END + HOUR, busy) != DONE, "a source that lacks volumes is no thin trade"


def test_a_bar_with_nothing_before_it_is_a_close_by_then() -> None:
    assert waits(meta(END - 6 * HOUR), END + HOUR, bars(days=1)) == DONE


@pytest.mark.parametrize("traded", [END - MINUTE, END - 400 * 24 * HOUR])
def test_a_day_later_it_is_the_close_whatever_the_market_time_is(traded: dt.datetime) -> None:
    assert waits(meta(traded), END + 24 * HOUR)[0] > "2024-03-15"


def test_a_session_is_over_by_the_calendar_too_where_the_answer_is_about_another_day() -> None:
    monday = meta(END - HOUR, ends=END + 72 * HOUR)

    assert waits(monday, END - MINUTE) == ("2024-03-15", END)
    assert waits(monday, END + MINUTE) == ("2024-03-15", END + MINUTE)
    assert waits(meta(END + MINUTE, ends=END + 72 * HOUR), END + 2 * MINUTE) == DONE


def test_an_answer_that_tells_neither_hours_nor_time_is_taken_as_it_is_once_its_day_is_over() -> None:
    found = {"exchangeTimezoneName": "Europe/London", "exchangeName": "XXX"}
    midnight = dt.datetime(2024, 3, 16, tzinfo=LONDON)

    assert waits(found, midnight - MINUTE) == ("2024-03-15", midnight)
    assert waits(found, midnight + MINUTE) == ("2024-03-16", midnight + 24 * HOUR)
    assert waits(meta(None), END + MINUTE) == DONE
    assert waits(meta(END - HOUR, ends=END + 72 * HOUR, exchangeName="XXX"), END + MINUTE) == DONE


@pytest.mark.parametrize(("exchange", "hours"), [("CCC", 23.98), ("CCY", 23.98), ("CMX", 23), ("CCC", 8.5)])
def test_what_is_traded_at_all_hours_has_no_close_to_wait_for(exchange: str, hours: float) -> None:
    answer = meta(END - 5 * HOUR, length=hours, exchangeName=exchange)

    day, _ = waits(answer, END + MINUTE)
    assert (day, exchange) in {("2024-03-15", "CCC"), ("2024-03-15", "CCY"), ("2024-03-16", "CMX")}
    assert waits(answer, END + 8 * HOUR)[0] > "2024-03-15"


@pytest.mark.parametrize(
    ("market_time", "expected"),
    [
        (dt.datetime(2024, 3, 15, 16, 35, tzinfo=LONDON), FRIDAY),
        (dt.datetime(2024, 3, 21, 23, 59, tzinfo=LONDON), FRIDAY),
        (dt.datetime(2024, 3, 22, 0, 0, tzinfo=LONDON), None),
        (None, FRIDAY),
    ],
)
def test_the_newest_bar_is_provisional_for_a_week_of_the_answers_own_time(
    market_time: dt.datetime | None, expected: dt.date | None
) -> None:
    assert closing.provisional(FRIDAY, meta(market_time)) == expected
