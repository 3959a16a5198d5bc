"""Which sessions are expected to have a bar by now: quiet where nothing is wrong."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pandas as pd
import pytest

from luigi_tasks import YfinanceClient
from luigi_tasks.bars import FACTS
from luigi_tasks.database.client import Window
from luigi_tasks.database.gaps import OUTAGE_SECURITIES, MissingSessions
from luigi_tasks.database.ledger import Ledger, Marker, Step
from luigi_tasks.schedule import Span
from tests.conftest import make_bars

DAYS = [dt.date(2024, 3, number) for number in (11, 12, 13, 14, 15, 18)]
"""A Monday and the sessions after it; the last is a Monday, too."""


class Runs:
    """Daily runs of one database, one answer each."""

    def __init__(self, url: str) -> None:
        self.url, self.client, self.gaps = url, YfinanceClient(url), MissingSessions(url)

    def run(self, ticker: str, frame: pd.DataFrame, as_of: dt.date, **facts: Any) -> dict[str, Any]:
        """What the marker says of the sessions, after an answer of all bars since the Monday."""
        self.client.insert_security(ticker, [])
        frame.attrs[FACTS] = {"exchange": "NAS", **facts}
        step = Step(f"{ticker}-{as_of}", "InsertOhlcv", "run", ticker, as_of)
        window = Window(Span(DAYS[0], as_of, whole=True), as_of)
        self.client.insert_ohlcv(ticker, frame, window=window, marker=Marker(step, len(frame)))
        detail: dict[str, Any] = Ledger(self.url).markers([step.task_id])[step.task_id]["detail"]
        return {name: detail[name] for name in ("new", "known", "refilled", "off_calendar") if name in detail}


@pytest.fixture
def runs(emptied_url: str) -> Runs:
    return Runs(emptied_url)


def bars(*days: dt.date, seed: int = 1) -> pd.DataFrame:
    return make_bars(days=len(days), seed=seed).assign(date=pd.to_datetime(list(days)).astype("datetime64[s]"))


def test_a_funds_value_that_comes_the_next_day_is_neither_missing_nor_an_outage(runs: Runs) -> None:
    tickers = [f"FUND{number}" for number in range(OUTAGE_SECURITIES + 2)]
    for number in range(2, len(DAYS)):
        for seed, ticker in enumerate(tickers):
            told = runs.run(ticker, bars(*DAYS[:number], seed=seed), DAYS[number], quote_type="MUTUALFUND")
            assert told == {}
        assert runs.gaps.outages(tickers, DAYS[number]) == []
        assert runs.gaps.to_ask_again(tickers, DAYS[number]) == {}

    # On a Sunday it is the Friday's that is not expected.
    late = runs.run("LATE", bars(*DAYS[:4], seed=99), dt.date(2024, 3, 17), quote_type="MONEYMARKET")
    assert late == {}


def test_a_fund_that_lacks_another_session_does_lack_it(runs: Runs) -> None:
    told = runs.run("FUND", bars(*DAYS[:3]), DAYS[4], quote_type="MUTUALFUND")

    assert told == {"new": ["2024-03-14"]}
    assert runs.run("STOCK", bars(*DAYS[:3], seed=2), DAYS[4], quote_type="EQUITY") == {
        "new": ["2024-03-14", "2024-03-15"]
    }


def test_a_session_that_was_left_out_as_unfinished_is_not_missing(runs: Runs) -> None:
    until = "2024-03-15T20:45:00+00:00"

    told = runs.run("AAA", bars(*DAYS[:4]), DAYS[4], unfinished="2024-03-15", open_until=until)
    assert told == {}
    assert runs.run("BBB", bars(*DAYS[:3], seed=2), DAYS[4], unfinished="2024-03-15", open_until=until) == {
        "new": ["2024-03-14"]
    }
    assert runs.run("AAA", bars(*DAYS[:5]), DAYS[4]) == {}


@pytest.mark.parametrize(
    ("exchange", "change", "quiet"),
    [
        ("NSI", {}, True),
        ("BSE", {}, True),
        ("NSI", {"volume": 0}, False),
        ("NSI", "copy", False),
        ("LSE", {}, False),
    ],
)
def test_a_special_session_is_quiet_where_they_are_held(
    runs: Runs, exchange: str, change: dict[str, int] | str, quiet: bool
) -> None:
    # A Saturday.
    frame = bars(*DAYS[:5], dt.date(2024, 3, 16), DAYS[5])
    if change == "copy":
        for name in ("open", "high", "low", "close"):
            frame.loc[5, name] = frame.loc[4, name]
    elif isinstance(change, dict):
        frame.loc[5, list(change)] = list(change.values())

    told = runs.run("AAA", frame, DAYS[5], exchange=exchange)

    assert told == ({} if quiet else {"off_calendar": ["2024-03-16"]})
