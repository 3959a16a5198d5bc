"""Sessions are days where a security is traded, whatever the machine, the database or the season take for the time."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from tests.conftest import make_bars
from tests.steps import Steps
from tests.workspace import Workspace
from tests.yahoo.server import LoopbackYahoo

# From one end of the day to the other; some change their clocks in March, in April, in October, or never.
ZONES = {
    "HONOLULU": "Pacific/Honolulu",
    "NEWYORK": "America/New_York",
    "LONDON": "Europe/London",
    "UTC-USD": "UTC",
    "KOLKATA": "Asia/Kolkata",
    "TOKYO": "Asia/Tokyo",
    "AUCKLAND": "Pacific/Auckland",
    "KIRITIMATI": "Pacific/Kiritimati",
}
# Two leap days' years, year ends, and every change of clocks; the as-of date is a leap day itself.
LAST, SESSIONS = "2024-02-29", 258


@pytest.mark.parametrize("machine", ["Pacific/Kiritimati"])
def test_the_tables_do_not_depend_on_the_time_zone_of_the_machine(workspace: Workspace, machine: str) -> None:
    expected = []
    with LoopbackYahoo(workspace.folder / "yahoo") as yahoo:
        for number, (ticker, zone) in enumerate(ZONES.items()):
            frame = make_bars(days=SESSIONS, last=LAST, seed=number)
            frame.loc[frame["date"] == "2023-12-29", "dividends"] = 0.25
            frame.loc[frame["date"] == "2024-02-28", "stock_splits"] = 2.0
            yahoo.add(ticker, frame, zone=zone, exchange=f"X{number}")
            expected += [(ticker, *row) for row in _rows(frame)]
        workspace.set("Yahoo", prices_per_minute="0", company_per_minute="0")
        workspace.environment = {**yahoo.environment(), "TZ": machine, "PGTZ": machine}

        with Steps(workspace, LAST) as steps:
            failures = [failure for ticker in ZONES for failure in steps.do(ticker)]

    assert failures == []
    stored = workspace.query(
        "SELECT ticker, date, open, high, low, close, volume, dividends, stock_splits "
        "FROM ohlcv JOIN securities USING (security_id)"
    )
    assert sorted(stored) == sorted(expected)


def _rows(frame: Any) -> Any:
    """Of the year up to the as-of date; 2023 has no 29 February."""
    wanted = frame[frame["date"].dt.date >= dt.date(2023, 2, 28)].drop(
        columns=["adj_close", "capital_gains", "dividend_currency"]
    )
    return wanted.assign(date=wanted["date"].dt.date).itertuples(index=False, name=None)
