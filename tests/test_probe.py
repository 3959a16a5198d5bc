"""What a quote tells of a security's bars, and what it does not."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import pytest

from luigi_tasks import probe
from luigi_tasks.probe import Quote
from luigi_tasks.schedule import LastBar, Stored

THURSDAY, FRIDAY, SATURDAY, SUNDAY = (dt.date(2024, 3, day) for day in (14, 15, 16, 17))
MONDAY = dt.date(2024, 3, 18)
BARS = tuple(
    LastBar(day, close, provisional=False, volume=1_200.0) for day, close in ((THURSDAY, 100.0), (FRIDAY, 101.0))
)
"""Of a share that is traded now and then."""
STORED = Stored(SATURDAY, dt.date(2014, 3, 15), FRIDAY, THURSDAY, None, BARS)
ON_SUNDAY = Quote(dt.datetime(2024, 3, 17, 22, tzinfo=dt.UTC), FRIDAY, 100.0)


def test_on_a_day_without_a_session_there_is_nothing_new() -> None:
    assert probe.nothing_new(ON_SUNDAY, STORED, "NMS", SUNDAY)


@pytest.mark.parametrize(
    ("hour", "minute", "nothing"), [(13, 0, False), (20, 0, False), (20, 44, False), (20, 46, True), (23, 0, True)]
)
def test_a_session_that_is_not_over_may_still_bring_a_bar(hour: int, minute: int, nothing: bool) -> None:
    quote = replace(ON_SUNDAY, asked_at=dt.datetime(2024, 3, 18, hour, minute, tzinfo=dt.UTC))

    assert probe.nothing_new(quote, STORED, "NMS", MONDAY) is nothing


@pytest.mark.parametrize(
    ("quote", "stored", "exchange"),
    [
        ({"traded": MONDAY}, {}, "NMS"),
        ({"traded": THURSDAY}, {}, "NMS"),
        ({}, {"latest": (BARS[0], replace(BARS[1], provisional=True))}, "NMS"),
        ({}, {"latest": ()}, "NMS"),
        ({}, {"unfilled_from": THURSDAY}, "NMS"),
        ({}, {"accepted": True}, "NMS"),
        ({"previous_close": 50.0}, {}, "NMS"),
        ({}, {}, "no such exchange"),
        ({}, {}, None),
    ],
    ids=[
        "traded since",
        "older than the bars",
        "the bar may be settled",
        "no bars",
        "one is missing",
        "to be replaced",
        "of another close before",
        "no calendar",
        "no exchange",
    ],
)
def test_where_it_does_not_fit_bars_are_asked_for(quote: Any, stored: Any, exchange: str | None) -> None:
    assert not probe.nothing_new(replace(ON_SUNDAY, **quote), replace(STORED, **stored), exchange, SUNDAY)


@pytest.mark.parametrize(("volume", "nothing"), [(1_200.0, True), (3e6, False), (0.0, True), (float("nan"), True)])
def test_a_share_that_is_traded_all_day_has_a_quote_that_is_too_old(volume: float, nothing: bool) -> None:
    quote = replace(ON_SUNDAY, asked_at=dt.datetime(2024, 3, 18, 23, tzinfo=dt.UTC))
    stored = replace(STORED, latest=tuple(replace(bar, volume=volume) for bar in BARS))

    assert probe.nothing_new(quote, stored, "NMS", MONDAY) is nothing
    assert probe.nothing_new(ON_SUNDAY, stored, "NMS", SUNDAY), "at the weekend nobody trades"


@pytest.mark.parametrize(
    ("traded", "previous", "words"),
    [
        (FRIDAY, 100.0, ""),
        (FRIDAY, 100.0004, ""),
        (FRIDAY, 50.0, "the close of 2024-03-14 is 50 by the quote, and 100 is stored"),
        (FRIDAY, 99.9, "the close of 2024-03-14 is 99.9 by the quote, and 100 is stored"),
        (MONDAY, 101.0, ""),
        (MONDAY, 100.0, "the close of 2024-03-15 is 100 by the quote, and 101 is stored"),
        # Of Tuesday it is Monday's, which is not stored.
        (dt.date(2024, 3, 19), 77.0, ""),
        (THURSDAY, 77.0, ""),
        (FRIDAY, None, ""),
    ],
)
def test_the_close_before_the_last_trade_is_the_stored_one(traded: dt.date, previous: float | None, words: str) -> None:
    quote = replace(ON_SUNDAY, traded=traded, previous_close=previous)

    assert probe.restated(quote, STORED, "NMS") == words
    assert probe.restated(quote, STORED, None) == ""


@pytest.mark.parametrize("price", [None, "12", True, float("nan"), 0, -1.0])
def test_a_previous_close_that_is_no_price_tells_nothing(price: Any) -> None:
    quote = {"exchangeTimezoneName": "Asia/Tokyo", "regularMarketTime": 1710482400, "regularMarketPreviousClose": price}

    found = probe.read({"asked_at": "2024-03-17T22:00:00+00:00", "quote": quote})

    assert found == Quote(ON_SUNDAY.asked_at, FRIDAY, None)


@pytest.mark.parametrize(
    "quote",
    [
        {},
        {"exchangeTimezoneName": "Asia/Tokyo"},
        {"exchangeTimezoneName": "No/Where", "regularMarketTime": 1710482400},
        {"exchangeTimezoneName": "Asia/Tokyo", "regularMarketTime": "soon"},
        {"exchangeTimezoneName": 7, "regularMarketTime": 1e300},
    ],
    ids=str,
)
def test_a_quote_that_does_not_say_when_it_traded_is_none(quote: Any) -> None:
    assert probe.read({"asked_at": "2024-03-17T22:00:00+00:00", "quote": quote}) is None
