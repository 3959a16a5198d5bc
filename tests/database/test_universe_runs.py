"""Which runs tell of the universe, what fails since the last of them, and what of that is new."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import sqlalchemy as sa

from luigi_tasks.database.engine import engine_for
from luigi_tasks.database.ledger import Ledger, Marker, Step
from luigi_tasks.database.universe_runs import UniverseRuns, is_of_universe

TODAY = dt.datetime.now(dt.UTC).date()
EVERY = {"tickers": "()", "groupings": "()", "ticker_limit": "0"}


class Days:
    """Runs, their failures and what they got done, one after another, with the ledger's own methods."""

    def __init__(self, url: str) -> None:
        self.url, self.ledger, self.runs = url, Ledger(url), UniverseRuns(url)

    def run(
        self,
        run_id: str,
        *failed: str,
        outcome: str | None = "",
        blocked: int = 0,
        as_of: dt.date = TODAY,
        **chosen: str,
    ) -> None:
        """A run of the universe, or of what is `chosen`, in which these tickers' downloads fail for want of network."""
        self.ledger.begin_run(run_id, "RunAll", {"date": str(as_of), "years_back": "1", **EVERY, **chosen})
        for ticker in failed:
            self.fail(run_id, ticker, as_of=as_of)
        if outcome is not None:
            tickers = {"all": 9, "blocked": blocked, "failed": len(failed)}
            ended = outcome or ("incomplete" if failed or blocked else "complete")
            self.ledger.finish_run(run_id, ended, {"tickers": tickers, "failed": list(failed)})

    def step(self, run_id: str, ticker: str | None, family: str, as_of: dt.date) -> Step:
        return Step(f"{family}_{ticker}_{as_of}", family, run_id, ticker, as_of)

    def fail(
        self,
        run_id: str,
        ticker: str | None,
        kind: str = "network",
        family: str = "DownloadOhlcv",
        as_of: dt.date = TODAY,
    ) -> None:
        self.ledger.fail(self.step(run_id, ticker, family, as_of), kind, "x")

    def done(self, run_id: str, ticker: str, family: str = "DownloadOhlcv", as_of: dt.date = TODAY) -> None:
        self.ledger.mark(Marker(self.step(run_id, ticker, family, as_of), 1))

    def failing(self, *kinds: str) -> list[str]:
        found = self.runs.failing()
        assert found is not None
        return found.of_kinds(kinds)

    def news(self) -> tuple[str, list[str], list[str]]:
        found = self.runs.news()
        assert found is not None
        return found.run["run_id"], list(found.new), found.known


@pytest.fixture
def days(emptied_url: str) -> Days:
    return Days(emptied_url)


OTHERS: dict[str, dict[str, Any]] = {
    "of three tickers": {"tickers": "AAA,BBB,CCC"},
    "of a grouping": {"groupings": "dax"},
    "of the first five": {"ticker_limit": "5"},
    "that gave up": {"blocked": 1},
    "that was ended": {"outcome": "interrupted"},
    "that was killed": {"outcome": None},
    "of a day long ago": {"as_of": TODAY - dt.timedelta(days=4)},
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_run_neither_makes_the_universe_whole_nor_news_of_its_failures(days: Days, name: str) -> None:
    days.run("run-1", "AAA")
    days.run("run-2", "BBB", **OTHERS[name])

    assert days.news() == ("run-1", ["AAA"], [])


def test_parameters_say_whether_a_run_is_of_the_universe() -> None:
    assert is_of_universe({})
    assert is_of_universe(EVERY)
    assert not any(is_of_universe(EVERY | chosen) for chosen in list(OTHERS.values())[:3])


def test_a_run_whose_own_task_failed_or_that_lost_patience_is_not_whole(days: Days) -> None:
    for number, (ticker, kind) in enumerate([(None, "network"), ("AAA", "throttled"), ("AAA", "outage")]):
        days.run(f"run-{number}", "AAA", outcome=None)
        days.fail(f"run-{number}", ticker, kind)
        days.ledger.finish_run(f"run-{number}", "incomplete", {"tickers": {"all": 9, "failed": 1}, "failed": ["AAA"]})
    days.run("run-3", outcome="incomplete")

    assert days.ledger.whole([f"run-{number}" for number in range(4)]) == {"run-3"}


def test_what_failed_for_good_is_new_once(days: Days) -> None:
    assert days.runs.news() is None
    days.run("run-1", "GONE")
    assert days.news() == ("run-1", ["GONE"], [])
    days.run("run-2", "GONE", "AAA")
    assert days.news() == ("run-2", ["AAA"], ["GONE"])
    days.run("run-3", "GONE")
    assert days.news() == ("run-3", [], ["GONE"])
    days.run("run-4")
    days.run("run-5", "GONE")
    assert days.news() == ("run-5", ["GONE"], []), "it was well in between"


def test_what_has_been_done_since_is_no_news(days: Days) -> None:
    days.run("run-1", "AAA", "BBB")
    days.run("retry", tickers="AAA")
    days.done("retry", "AAA")

    assert days.news() == ("run-1", ["BBB"], [])


def test_retries_forget_nobody(days: Days) -> None:
    days.run("run-1", "AAA", "BBB", "CCC")
    days.fail("run-1", "DDD", "throttled")
    days.run("retry-1", "AAA", tickers="AAA,BBB")
    days.done("retry-1", "BBB")
    assert days.failing() == ["AAA", "CCC", "DDD"]

    days.run("retry-2", tickers="DDD")
    days.done("retry-2", "DDD")

    assert days.failing() == ["AAA", "CCC"]
    assert days.failing("throttled") == []


def test_by_kind_the_last_attempt_counts(days: Days) -> None:
    days.run("run-1", "AAA")
    days.run("retry", outcome=None, tickers="AAA")
    days.done("retry", "AAA")
    days.fail("retry", "AAA", "data_invalid", "ValidateOhlcv")
    days.fail("retry", "AAA", "provider_down", "DownloadMetadata")

    assert days.failing("network") == []
    assert days.failing("data_invalid") == days.failing("provider_down") == days.failing() == ["AAA"]


@pytest.mark.parametrize(
    ("failed", "stored", "done"),
    [
        ("DownloadOhlcv", "InsertOhlcv", True),
        ("ValidateOhlcv", "DownloadOhlcv", False),
        ("DownloadMetadata", "InsertMetadata", True),
        ("DownloadMetadata", "InsertOhlcv", False),
        ("DownloadOhlcv", "RegisterSecurity", False),
    ],
)
def test_a_step_is_done_once_it_or_what_comes_of_it_is(days: Days, failed: str, stored: str, done: bool) -> None:
    days.run("run-1", outcome=None)
    days.fail("run-1", "AAA", family=failed)
    days.ledger.finish_run("run-1", "incomplete", {"tickers": {"all": 1}, "failed": ["AAA"]})
    days.done("retry", "AAA", stored)

    assert days.failing() == ([] if done else ["AAA"])


def test_what_was_done_before_the_failure_or_for_an_earlier_day_does_not_count(days: Days) -> None:
    days.done("run-0", "AAA")
    days.run("run-1", "AAA", "BBB")
    days.done("run-2", "BBB", as_of=TODAY - dt.timedelta(days=1))

    assert days.failing() == ["AAA", "BBB"]


def test_a_whole_run_settles_what_failed_before_it_and_one_that_gave_up_does_not(days: Days) -> None:
    days.run("run-1", "AAA")
    days.run("run-2", "BBB", blocked=5)
    assert days.failing() == ["AAA", "BBB"]

    days.run("run-3", "CCC")

    assert days.failing() == ["CCC"]


def test_what_fails_is_tried_again_as_the_last_run_of_the_universe_was(days: Days) -> None:
    yesterday = TODAY - dt.timedelta(days=1)
    days.run("run-1", "AAA", as_of=yesterday)
    days.run("run-2", "BBB", blocked=5)
    days.run("by hand", "CCC", tickers="CCC", as_of=yesterday, years_back="3")
    days.run("long ago", "DDD", as_of=dt.date(2020, 1, 2))

    found = days.runs.failing()

    assert found is not None
    assert (found.run["run_id"], list(found.kinds)) == ("run-2", ["AAA", "BBB", "CCC"])


def test_before_the_first_run_of_the_universe_the_last_run_counts(days: Days) -> None:
    assert days.runs.failing() is None
    days.run("run-1", "AAA", groupings="dax")
    days.run("run-2", "BBB", groupings="dax")

    assert days.failing() == ["BBB"]


def test_before_the_first_whole_run_all_runs_of_the_universe_count(days: Days) -> None:
    days.run("by hand", "ZZZ", tickers="ZZZ")
    days.run("run-1", "AAA", blocked=5)
    days.run("run-2", "BBB", blocked=5)

    assert days.failing() == ["AAA", "BBB"]


def test_without_another_a_run_of_a_day_long_ago_is_the_last_one(days: Days) -> None:
    long_ago = dt.date(2020, 1, 2)
    days.run("run-1", "AAA", as_of=long_ago)
    found = days.runs.latest(), days.failing(), days.runs.news()
    days.run("run-2", "BBB")
    days.run("run-3", "CCC", as_of=long_ago)

    assert (found[0] or {})["run_id"] == "run-1"
    assert found[1:] == (["AAA"], None)
    assert (days.runs.latest() or {})["run_id"] == "run-2"
    assert days.failing() == ["BBB"]


def test_a_run_from_before_there_were_summaries_counts_if_it_was_complete(days: Days) -> None:
    days.run("run-1", outcome=None)
    days.run("run-2", outcome=None)
    with engine_for(days.url).begin() as connection:
        connection.execute(sa.text("UPDATE runs SET outcome = 'incomplete', finished_at = now()"))
        connection.execute(sa.text("UPDATE runs SET outcome = 'complete' WHERE run_id = 'run-1'"))

    assert days.news() == ("run-1", [], [])
