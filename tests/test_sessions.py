"""What the exchange calendars say: against days on which it is on record what the exchanges did."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import Callable
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luigi_tasks import sessions
from tests.workspace import REPOSITORY

NEW_YORK, LONDON, TOKYO = ZoneInfo("America/New_York"), ZoneInfo("Europe/London"), ZoneInfo("Asia/Tokyo")
ROUND_THE_CLOCK = {"24/7": (365, 366), "24/5": (260, 261, 262)}
ALL = sorted({name for code in sessions._CALENDARS if (name := sessions.calendar_of(code))})

# One of each sort: early closes, Asia with a lunch break, Sunday to Thursday, all days, weekdays, recorded in part.
SORTS = st.sampled_from(["XNYS", "XLON", "XTKS", "XHKG", "XSAU", "XASX", "24/7", "24/5", "XSHG"])
DAYS = st.dates(dt.date(1990, 1, 1), dt.date(2027, 12, 31))
INSTANTS = st.datetimes(dt.datetime(2021, 2, 1), dt.datetime(2026, 12, 30), timezones=st.just(dt.UTC))  # noqa: DTZ001


def day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


def at(text: str, zone: ZoneInfo = NEW_YORK) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=zone)


def test_a_session_has_an_end_and_another_day_has_none() -> None:
    assert sessions.end("XNYS", day("2024-11-27")) == at("2024-11-27 16:00")
    assert sessions.end("XNYS", day("2024-11-29")) == at("2024-11-29 13:00"), "a half day"
    assert sessions.end("XNYS", day("2024-11-28")) is None
    assert sessions.end("XNYS", day("1900-01-02")) is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Asia/Calcutta", "Asia/Kolkata", True),
        ("Asia/Kolkata", "Asia/Calcutta", True),
        ("US/Eastern", "America/New_York", True),
        ("Asia/Saigon", "Asia/Ho_Chi_Minh", True),
        ("Nowhere/Else", "Nowhere/Else", True),
        ("Asia/Kolkata", "Asia/Karachi", False),
        ("Europe/London", "Europe/Dublin", False),
        ("Asia/Kolkata", "Nowhere/Else", False),
    ],
)
def test_an_alias_is_the_same_zone(one: str, other: str, same: bool) -> None:
    assert sessions.same_zone(one, other) is same


def between(calendar: str, first: str, last: str) -> list[str]:
    return [str(found) for found in sessions.sessions(calendar, day(first), day(last))]


@pytest.mark.parametrize(
    ("code", "calendar"),
    [
        ("NMS", "XNYS"),
        ("PNK", "XNYS"),
        ("SNP", "XNYS"),
        ("GER", "XETR"),
        ("FRA", "XFRA"),
        ("MCE", "XMAD"),
        ("EBS", "XSWX"),
        ("SHZ", "XSHG"),
        ("KOE", "XKRX"),
        ("NSI", "XBOM"),
        ("CCC", "24/7"),
        ("CCY", "24/5"),
    ],
)
def test_yahoos_codes_are_translated(code: str, calendar: str) -> None:
    assert sessions.calendar_of(code) == calendar


@pytest.mark.parametrize("code", [None, "", "nms", "XNYS", "ZZZ", "CME", "NYM", "TLV", "ATH"])
def test_a_code_in_doubt_is_not_known(code: str | None) -> None:
    assert sessions.calendar_of(code) is None


@pytest.mark.parametrize("name", ALL)
def test_every_calendar_can_be_made_and_knows_holidays_in_every_year_it_tells_of(name: str) -> None:
    first, last = sessions.known(name)
    found = sessions.sessions(name, first, last)

    assert found == sorted(set(found))
    assert first <= found[0]
    assert found[-1] <= last
    for year in range(first.year + 1, last.year + 1):
        here = len(sessions.sessions(name, dt.date(year, 1, 1), dt.date(year, 12, 31)))
        if name in ROUND_THE_CLOCK:
            assert here in ROUND_THE_CLOCK[name]
        else:
            # No exchange trades on all of the 260 to 262 weekdays, or closes for months.
            assert 225 < here < 260


@pytest.mark.parametrize("name", ["XNYS", "XLON", "XETR", "XHKG", "24/7", "24/5"])
def test_the_calendar_reaches_from_1990_into_the_next_year(name: str) -> None:
    next_year = dt.datetime.now(dt.UTC).year + 1

    assert sessions.sessions(name, day("1990-01-02"), day("1990-01-03"))[-1] == day("1990-01-03")
    assert 18 <= len(sessions.sessions(name, dt.date(next_year, 1, 1), dt.date(next_year, 1, 31))) <= 31


@pytest.mark.parametrize(
    ("calendar", "first", "last", "open_on"),
    [
        ("XNYS", "2001-09-10", "2001-09-18", ["2001-09-10", "2001-09-17", "2001-09-18"]),
        ("XNYS", "2012-10-26", "2012-10-31", ["2012-10-26", "2012-10-31"]),
        ("XNYS", "2025-01-08", "2025-01-10", ["2025-01-08", "2025-01-10"]),
        # New Year's Day on a Saturday: New York does not make up for it, London does.
        ("XNYS", "2021-12-30", "2022-01-04", ["2021-12-30", "2021-12-31", "2022-01-03", "2022-01-04"]),
        ("XLON", "2021-12-30", "2022-01-04", ["2021-12-30", "2021-12-31", "2022-01-04"]),
        ("XLON", "2022-09-16", "2022-09-20", ["2022-09-16", "2022-09-20"]),
        ("XETR", "2024-12-23", "2025-01-02", ["2024-12-23", "2024-12-27", "2024-12-30", "2025-01-02"]),
        ("XTKS", "2024-12-29", "2025-01-06", ["2024-12-30", "2025-01-06"]),
        ("XTKS", "2020-09-30", "2020-10-02", ["2020-09-30", "2020-10-02"]),
        ("XHKG", "2024-02-08", "2024-02-14", ["2024-02-08", "2024-02-09", "2024-02-14"]),
        ("XSHG", "2024-09-30", "2024-10-08", ["2024-09-30", "2024-10-08"]),
        ("24/7", "2023-12-30", "2024-01-01", ["2023-12-30", "2023-12-31", "2024-01-01"]),
        ("24/5", "2023-12-29", "2024-01-02", ["2023-12-29", "2024-01-01", "2024-01-02"]),
    ],
)
def test_sessions_are_those_on_record(calendar: str, first: str, last: str, open_on: list[str]) -> None:
    assert between(calendar, first, last) == open_on


def test_what_a_calendar_does_not_tell_of_is_left_out() -> None:
    assert between("XNYS", "1980-01-01", "1990-01-03") == ["1990-01-02", "1990-01-03"]
    assert sessions.known("XTKS")[0] == day("1997-01-01")
    assert between("XTKS", "1990-01-01", "1997-01-06") == ["1997-01-06"]
    assert sessions.known("XIDX") == (day("2002-01-01"), day("2025-12-31"))
    assert between("XIDX", "2026-01-01", "2026-12-31") == []
    assert between("XNYS", "2024-01-05", "2024-01-04") == []


CLOSES = [
    # Half days.
    ("XNYS", "2023-11-24", "2023-11-24T13:00", NEW_YORK),
    ("XLON", "2024-12-24", "2024-12-24T12:30", LONDON),
    ("XHKG", "2024-02-09", "2024-02-09T12:00", ZoneInfo("Asia/Hong_Kong")),
    # The Friday before and the Monday after the clocks change, in either direction.
    ("XNYS", "2024-03-08", "2024-03-08T16:00", NEW_YORK),
    ("XNYS", "2024-03-11", "2024-03-11T16:00", NEW_YORK),
    ("XNYS", "2024-11-01", "2024-11-01T16:00", NEW_YORK),
    ("XNYS", "2024-11-04", "2024-11-04T16:00", NEW_YORK),
    ("XLON", "2024-03-28", "2024-03-28T16:30", LONDON),
    ("XLON", "2024-04-02", "2024-04-02T16:30", LONDON),
    # Tokyo has traded half an hour longer since 5 November 2024.
    ("XTKS", "2024-11-01", "2024-11-01T15:00", TOKYO),
    ("XTKS", "2024-11-05", "2024-11-05T15:30", TOKYO),
    # Xetra, and Frankfurt's floor.
    ("XETR", "2024-05-02", "2024-05-02T17:30", ZoneInfo("Europe/Berlin")),
    ("XFRA", "2024-05-02", "2024-05-02T22:00", ZoneInfo("Europe/Berlin")),
    # Round the clock.
    ("24/7", "2024-03-10", "2024-03-11T00:00", ZoneInfo("UTC")),
    ("24/7", "2023-12-31", "2024-01-01T00:00", ZoneInfo("UTC")),
    ("24/5", "2024-03-28", "2024-03-29T00:00", LONDON),
    ("24/5", "2024-07-05", "2024-07-06T00:00", LONDON),
    # No session: a Sunday, Christmas, a day of mourning.
    ("XNYS", "2024-03-10", "2024-03-11T00:00", NEW_YORK),
    ("XNYS", "2023-12-25", "2023-12-26T00:00", NEW_YORK),
    ("XNYS", "2025-01-09", "2025-01-10T00:00", NEW_YORK),
    ("XTKS", "2025-01-01", "2025-01-02T00:00", TOKYO),
    # Before and after all that is known.
    ("XNYS", "1962-01-02", "1962-01-03T00:00", NEW_YORK),
    ("XIDX", "2026-06-02", "2026-06-03T00:00", ZoneInfo("Asia/Jakarta")),
]


@pytest.mark.parametrize(("calendar", "session", "close", "zone"), CLOSES)
def test_a_day_is_over_from_its_close_on(calendar: str, session: str, close: str, zone: ZoneInfo) -> None:
    moment = at(close, zone).astimezone(dt.UTC)

    assert not sessions.over(calendar, day(session), moment - dt.timedelta(seconds=1))
    assert sessions.over(calendar, day(session), moment)
    # The same instant, told in another zone.
    assert sessions.over(calendar, day(session), moment.astimezone(TOKYO))


@pytest.mark.parametrize(
    ("calendar", "now", "last"),
    [
        ("XNYS", at("2023-11-24T12:59"), "2023-11-22"),
        ("XNYS", at("2023-11-24T13:00"), "2023-11-24"),
        ("XNYS", at("2025-01-09T18:00"), "2025-01-08"),
        ("XNYS", at("2025-01-01T09:00"), "2024-12-31"),
        # A new day in Tokyo, the evening before in New York.
        ("XNYS", at("2024-05-02T04:00", TOKYO), "2024-04-30"),
        ("XNYS", at("2024-05-02T05:00", TOKYO), "2024-05-01"),
        ("XTKS", at("2024-05-01T03:00"), "2024-05-01"),
        ("24/7", at("2024-01-01T00:00", ZoneInfo("UTC")), "2023-12-31"),
        ("24/5", at("2024-07-06T00:30", ZoneInfo("Europe/Berlin")), "2024-07-04"),
        ("24/5", at("2024-07-07T12:00", LONDON), "2024-07-05"),
    ],
)
def test_the_last_session_that_is_over(calendar: str, now: dt.datetime, last: str) -> None:
    assert sessions.last_over(calendar, now) == day(last)


def test_where_the_calendar_ends_there_is_no_last_session() -> None:
    jakarta = ZoneInfo("Asia/Jakarta")

    assert sessions.last_over("XIDX", at("2025-12-31T23:59", jakarta)) == day("2025-12-30")
    assert sessions.last_over("XIDX", at("2026-01-01T00:00", jakarta)) is None
    assert sessions.last_over("XNYS", at("1989-06-01T12:00")) is None


@pytest.mark.parametrize(
    "ask", [lambda now: sessions.over("24/7", now.date(), now), lambda now: sessions.last_over("24/7", now)]
)
def test_a_time_without_a_zone_is_refused(ask: Callable[[dt.datetime], object]) -> None:
    with pytest.raises(ValueError, match="2024-05-01 12:00:00 has no zone"):
        ask(dt.datetime(2024, 5, 1, 12))  # noqa: DTZ001


@given(SORTS, DAYS, DAYS, DAYS)
def test_what_is_asked_for_in_two_parts_is_what_is_asked_for_at_once(
    name: str, one: dt.date, two: dt.date, three: dt.date
) -> None:
    first, middle, last = sorted((one, two, three))
    whole = sessions.sessions(name, first, last)
    parts = sessions.sessions(name, first, middle), sessions.sessions(name, middle + dt.timedelta(days=1), last)

    assert whole == parts[0] + parts[1]
    assert all(first <= found <= last for found in whole)


@given(SORTS, DAYS, INSTANTS, INSTANTS)
def test_what_is_over_stays_over_and_so_does_every_day_before(
    name: str, one: dt.date, now: dt.datetime, then: dt.datetime
) -> None:
    earlier, later = sorted((now, then))
    before = one - dt.timedelta(days=1)

    assert sessions.over(name, one, earlier) <= sessions.over(name, one, later)
    assert sessions.over(name, one, now) <= sessions.over(name, before, now)


@given(SORTS, INSTANTS)
def test_the_last_session_is_over_and_the_next_is_not(name: str, now: dt.datetime) -> None:
    last = sessions.last_over(name, now)

    assert last is not None
    assert sessions.over(name, last, now)
    following = sessions.sessions(name, last + dt.timedelta(days=1), sessions.known(name)[1])[0]
    assert not sessions.over(name, following, now)


def test_the_library_is_not_loaded_until_a_calendar_is_asked_for() -> None:
    program = (
        "import sys; from luigi_tasks import sessions; sessions.calendar_of('NMS'); sessions.known('24/7');"
        "print([name for name in ('exchange_calendars', 'pandas') if name in sys.modules])"
    )

    loaded = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)

    assert loaded.stdout.strip() == "[]"
