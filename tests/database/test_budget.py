"""One request budget for threads and processes that share a database: rates, pauses, patience, credentials.

Times are the database's: `permit.entered` says when a request could be sent. Long waits are not waited for; the tables'
clocks are moved instead.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from queue import Queue
from statistics import median
from typing import Any

import pytest
import sqlalchemy as sa

from luigi_tasks.budget import KINDS, Access, Forecast, Kind, Outcome, Pace, Permit
from luigi_tasks.database.budget import PostgresBudget
from luigi_tasks.database.engine import engine_for, normalised_url
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.database.schema import request_rates, request_state
from luigi_tasks.errors import DownTooLong, NetworkFailure, PatienceExhausted, ThrottledTooLong
from luigi_tasks.pacing import GROWTH, RECOVERY, STREAK

FORK = get_context("fork")
EXECUTORS: dict[str, Callable[[int], Executor]] = {
    "threads": ThreadPoolExecutor,
    "processes": partial(ProcessPoolExecutor, mp_context=FORK),
}
QUESTIONS: tuple[Kind, ...] = ("prices", "quotes", "company")
"""The kinds whose answer ends a pause; a cookie or a crumb proves nothing."""
OLD = Access("old", ({"name": "A1", "value": "x", "domain": ".yahoo.com", "expires": 1790000000.5},))
NEW = Access("new", ({"name": "A3", "value": 'y"', "secure": True, "expires": None}, {"name": "B", "value": ""}))


class Tables:
    """The budget's tables, through connections of the test's own."""

    def __init__(self, url: str) -> None:
        self.engine = sa.create_engine(normalised_url(url))

    def run(self, statement: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement))

    def one(self, expression: str) -> Any:
        with self.engine.begin() as connection:
            return connection.scalar(sa.text(f"SELECT {expression}"))

    def state(self) -> Any:
        with self.engine.begin() as connection:
            return connection.execute(sa.select(request_state)).one()

    def shares(self) -> list[float]:
        """The different shares that the kinds have."""
        with self.engine.begin() as connection:
            return list(connection.scalars(sa.select(request_state.c.share)))

    def everything(self) -> tuple[Any, ...]:
        # But for how often there was a 429, which is counted in any case.
        columns = [column for column in request_rates.c if column.name != "throttled"]
        with self.engine.begin() as connection:
            rates = connection.execute(sa.select(*columns).order_by("kind")).all()
            return connection.execute(sa.select(request_state)).one(), *rates

    def set_clock_back(self, hours: int) -> None:
        """As if the server's clock had been: all that is kept lies so much later."""
        for table in (request_rates, request_state):
            later = ", ".join(
                f"{column.name} = {column.name} + make_interval(hours => {hours})"
                for column in table.c
                if isinstance(column.type, sa.DateTime)
            )
            self.run(f"UPDATE {table.name} SET {later}")

    def end_pause(self) -> None:
        """As if the pause had been chosen to be over now."""
        self.run("""
            UPDATE request_rates SET next_at = next_at - (SELECT paused_until - now() FROM request_state);
            UPDATE request_state SET all_next_at = all_next_at - (paused_until - now()), paused_until = now()
        """)

    def begin_trouble_earlier(self, seconds: float) -> None:
        self.run(f"UPDATE request_state SET trouble_since = trouble_since - interval '{seconds} s'")

    @contextmanager
    def held(self) -> Iterator[None]:
        """With the row that everybody has to lock first."""
        with self.engine.begin() as connection:
            connection.execute(sa.select(request_state).with_for_update())
            yield

    def waiting(self) -> int:
        """How many wait for a lock."""
        locked = "datname = current_database() AND wait_event_type = 'Lock'"
        return int(self.one(f"count(*) FROM pg_stat_activity WHERE {locked}"))


@pytest.fixture
def url(emptied_url: str) -> str:
    """URL of a database whose budget nobody has used."""
    with engine_for(emptied_url).begin() as connection:
        connection.execute(sa.insert(request_state))
        connection.execute(sa.insert(request_rates), [{"kind": kind} for kind in KINDS])
    return emptied_url


@pytest.fixture
def tables(url: str) -> Iterator[Tables]:
    made = Tables(url)
    yield made
    made.engine.dispose()


def pace(prices: float = 0, company: float = 0, **others: Any) -> Pace:
    """Pauses that nobody waits for in a test, and so little patience that a test fails where it would hang."""
    chosen = {"first_pause": 20.0, "longest_pause": 600.0, "patience": 10.0, "outage_patience": 10.0, **others}
    return Pace({"prices": prices, "quotes": 0, "company": company, "access": 0}, **chosen)


@pytest.fixture
def budget(url: str) -> PostgresBudget:
    """Without rates."""
    return PostgresBudget(url, pace())


def ask(budget: PostgresBudget, outcome: Outcome, subject: str = "AAA", retry_after: float = 0.0) -> Permit:
    """One request, and what it came to."""
    permit = budget.enter("prices", subject)
    budget.leave(permit, outcome, retry_after)
    return permit


def take(url: str, chosen: Pace, kind: Kind, count: int) -> list[Permit]:
    """Requests one after another, all answered."""
    budget = PostgresBudget(url, chosen)
    permits = []
    for number in range(count):
        permits.append(budget.enter(kind, f"T{number}"))
        budget.leave(permits[-1], "answered")
    return permits


def times(permits: list[Permit]) -> list[dt.datetime]:
    return sorted(permit.entered for permit in permits)


def seconds(duration: dt.timedelta) -> float:
    return duration.total_seconds()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("what the test waits for does not happen")


@contextmanager
def before_each_statement(url: str, call: Callable[..., None]) -> Iterator[None]:
    sa.event.listen(engine_for(url), "before_cursor_execute", call)
    try:
        yield
    finally:
        sa.event.remove(engine_for(url), "before_cursor_execute", call)


def fetch_nothing() -> Access:
    raise AssertionError("fetched once more")


def excess(permits: list[Permit], burst: int, step: float) -> list[tuple[int, float]]:
    """(requests, seconds) of all windows with more requests than a burst and one a step; 1 ms is for rounding."""
    entered = times(permits)
    windows = [
        (last - first + 1, seconds(entered[last] - entered[first]))
        for first in range(len(entered))
        for last in range(first, len(entered))
    ]
    return [(count, length) for count, length in windows if count > burst + (length + 0.001) / step]


def too_early(entered: list[dt.datetime], begun: dt.datetime, step: float) -> list[float]:
    """Seconds after `begun` of those before their step: the first at once, the second one step later; 1 ms as above."""
    after = [seconds(time - begun) for time in entered]
    return [length for number, length in enumerate(after) if length < number * step - 0.001]


# -- the rate


def test_a_burst_goes_first_and_then_one_request_a_step(url: str) -> None:
    entered = times(take(url, pace(prices=60, burst=10), "prices", 11))

    assert seconds(entered[9] - entered[0]) < 1, "or the tenth had to wait"
    assert seconds(entered[10] - entered[0]) >= 1


@pytest.mark.parametrize("workers", EXECUTORS)
def test_all_together_never_exceed_the_rate(url: str, workers: str) -> None:
    step, burst = 0.15, 5
    with EXECUTORS[workers](4) as executor:
        asked = [executor.submit(take, url, pace(prices=60 / step, burst=burst), "prices", 6) for _ in range(4)]
        permits = [permit for one in asked for permit in one.result()]

    assert len(permits) == 24
    assert excess(permits, burst, step) == []
    gaps = [seconds(later - earlier) for earlier, later in pairwise(times(permits))]
    assert median(gaps) == pytest.approx(step, rel=0.5), "nor do they stay far below it"
    assert PostgresBudget(url, pace()).sent() == {"prices": 24, "quotes": 0, "company": 0, "access": 0}


def test_kinds_do_not_limit_each_other(url: str) -> None:
    budget = PostgresBudget(url, pace(prices=12, company=12, burst=1))

    prices, *others = (budget.enter(kind, "AAA") for kind in KINDS)

    assert all(other.entered - prices.entered < dt.timedelta(seconds=5) for other in others)
    assert budget.sent() == dict.fromkeys(KINDS, 1)


def test_a_rate_of_0_is_no_limit(url: str, tables: Tables) -> None:
    before = tables.one("next_at FROM request_rates WHERE kind = 'prices'")

    permits = take(url, pace(prices=0, burst=1), "prices", 20)

    assert all(permit.quiet for permit in permits)
    assert tables.one("next_at FROM request_rates WHERE kind = 'prices'") == before
    assert PostgresBudget(url, pace()).sent()["prices"] == 20


def test_a_smaller_share_spaces_requests_further(url: str, tables: Tables) -> None:
    tables.run("UPDATE request_state SET share = 0.25")
    budget = PostgresBudget(url, pace(prices=2400, burst=1))

    entered = times([budget.enter("prices", "AAA") for _ in range(5)])

    assert too_early(entered, entered[0], 0.1) == []


def test_the_time_is_that_of_the_turn_and_not_that_of_the_question(budget: PostgresBudget, tables: Tables) -> None:
    with ThreadPoolExecutor(1) as threads:
        with tables.held():
            asked = threads.submit(budget.enter, "prices", "AAA")
            until(lambda: tables.waiting() == 1)
            still_held = tables.one("clock_timestamp()")
        assert asked.result(timeout=30).entered > still_held


def test_places_reserved_before_a_pause_do_not_come_on_top_of_the_rate_after_it(url: str, tables: Tables) -> None:
    step = 0.3
    budget = PostgresBudget(url, pace(prices=60 / step, burst=1))
    first = budget.enter("prices", "AAA")
    with ThreadPoolExecutor(2) as threads:
        sleeping = [threads.submit(budget.enter, "prices", "BBB") for _ in range(2)]
        until(lambda: budget.sent()["prices"] == 3)
        budget.leave(first, "throttled")
        tables.end_pause()
        ask(budget, "answered")
        permits = [budget.enter("prices", "AAA") for _ in range(2)]
        permits += [one.result() for one in sleeping]

    assert excess(permits, 1, step) == []


def test_what_was_not_let_through_is_not_counted(url: str) -> None:
    budget = PostgresBudget(url, pace(prices=120, burst=1, first_pause=0.05))
    first = budget.enter("prices", "AAA")
    with ThreadPoolExecutor(1) as threads:
        sleeping = threads.submit(budget.enter, "prices", "BBB")
        until(lambda: budget.sent()["prices"] == 2)
        budget.leave(first, "throttled")
        sleeping.result(timeout=30)

    assert budget.sent()["prices"] == 2


# -- a pause


@pytest.mark.parametrize("workers", EXECUTORS)
def test_a_429_stops_everybody_and_then_one_goes_ahead(url: str, tables: Tables, workers: str) -> None:
    chosen = pace(first_pause=0.3)
    ask(PostgresBudget(url, chosen), "throttled")
    paused_until = tables.state().paused_until

    with EXECUTORS[workers](4) as executor:
        asked = [executor.submit(take, url, chosen, kind, 2) for kind in (*QUESTIONS, "prices")]
        permits = [permit for one in asked for permit in one.result()]

    assert min(times(permits)) >= paused_until
    state = tables.state()
    assert [permit.probe for permit in sorted(permits, key=lambda one: one.entered)] == [True] + [False] * 7
    assert times(permits)[1] >= state.recovered_at
    assert state.trouble is None


def test_a_place_that_was_reserved_before_the_pause_is_not_used_in_it(url: str, tables: Tables) -> None:
    budget = PostgresBudget(url, pace(prices=300, burst=1, first_pause=0.6))
    first = budget.enter("prices", "AAA")
    with ThreadPoolExecutor(1) as threads:
        sleeping = threads.submit(budget.enter, "prices", "BBB")
        until(lambda: budget.sent()["prices"] == 2)
        budget.leave(first, "throttled")
        entered = sleeping.result(timeout=30).entered

    state = tables.state()
    assert not state.paused_at < entered < state.paused_until


def test_while_the_probe_is_on_its_way_the_others_wait(budget: PostgresBudget, tables: Tables) -> None:
    ask(budget, "throttled")
    tables.end_pause()
    entered: Queue[Permit] = Queue()
    with ThreadPoolExecutor(4) as threads:
        with tables.held():
            asked = [threads.submit(lambda: entered.put(budget.enter("prices", "AAA"))) for _ in range(4)]
            until(lambda: tables.waiting() == 4)
        probe = entered.get(timeout=30)
        for _ in range(2):
            with tables.held():
                until(lambda: tables.waiting() == 3 or not entered.empty())
        assert entered.empty()
        budget.leave(probe, "answered")
        for one in asked:
            one.result(timeout=30)

    followers = [entered.get_nowait() for _ in range(3)]
    assert probe.probe
    assert not any(permit.probe for permit in followers)
    assert min(times(followers)) >= tables.state().recovered_at


@pytest.mark.parametrize("outcome", ["answered", "throttled", "down"])
@pytest.mark.parametrize("late", ["in the pause", "after the pause", "while the probe is out"])
def test_what_was_sent_before_the_pause_changes_nothing(
    budget: PostgresBudget, tables: Tables, late: str, outcome: Outcome
) -> None:
    sent_before = [budget.enter(kind, kind) for kind in KINDS]
    budget.leave(sent_before[0], "throttled")
    if late != "in the pause":
        tables.end_pause()
    if late == "while the probe is out":
        assert budget.enter("prices", "AAA").probe
    before = tables.everything()

    for permit in sent_before[1:]:
        budget.leave(permit, outcome, retry_after=300)

    assert tables.everything() == before
    assert tables.shares() == [0.5]


def test_an_answer_that_counts_as_news_does_not_end_a_later_pause(budget: PostgresBudget, tables: Tables) -> None:
    tables.run("UPDATE request_state SET share = 0.5")
    sent_before = budget.enter("prices", "AAA")
    assert not sent_before.quiet
    ask(budget, "throttled")
    before = tables.everything()

    budget.leave(sent_before, "answered")

    assert tables.everything() == before


def test_a_429_to_what_was_sent_before_a_pause_that_is_over_is_no_new_one(
    budget: PostgresBudget, tables: Tables
) -> None:
    sent_before = budget.enter("prices", "AAA")
    ask(budget, "throttled")
    tables.end_pause()
    ask(budget, "answered")

    budget.leave(sent_before, "throttled")

    assert tables.state().trouble is None
    ask(budget, "throttled", "BBB")
    assert tables.state().trouble == "throttled"


def followers(url: str, tables: Tables, probe_seconds: float) -> tuple[list[dt.datetime], float]:
    """When the first three after an answered probe went, and the step between them."""
    step = 0.05
    budget = PostgresBudget(url, pace(prices=60 / step, burst=10))
    ask(budget, "throttled")
    tables.end_pause()
    probe = budget.enter("prices", "AAA")
    tables.run(f"""
        UPDATE request_rates SET next_at = next_at - interval '{probe_seconds} s';
        UPDATE request_state SET paused_until = paused_until - interval '{probe_seconds} s'
    """)
    budget.leave(probe, "answered")
    return times([budget.enter("prices", "AAA") for _ in range(4)]), step / tables.shares()[0]


def test_after_an_answered_probe_the_others_follow_without_a_burst(url: str, tables: Tables) -> None:
    entered, step = followers(url, tables, probe_seconds=0)

    assert too_early(entered, tables.state().paused_until, step) == []


def test_after_a_slow_probe_the_others_follow_without_a_burst_too(url: str, tables: Tables) -> None:
    entered, step = followers(url, tables, probe_seconds=30)

    assert too_early(entered, tables.state().recovered_at, step) == []


def others_answer(tables: Tables) -> None:
    """As if other questions had been answered since: one that nothing else is answered beside asks for another."""
    tables.run("UPDATE request_state SET refusals = '{}'")


def test_the_pause_grows_while_probes_are_throttled(url: str, tables: Tables) -> None:
    budget = PostgresBudget(url, pace(first_pause=10, longest_pause=10_000))
    ask(budget, "throttled")
    pauses, since = [tables.state().pause_seconds], tables.state().trouble_since

    for number in range(8):
        tables.end_pause()
        assert ask(budget, "throttled", f"T{number}").probe
        state = tables.state()
        assert seconds(state.paused_until - state.paused_at) == pytest.approx(state.pause_seconds, abs=1e-5)
        assert state.trouble_since == since
        pauses.append(state.pause_seconds)

    assert pauses[0] == 10
    assert all(GROWTH[0] <= after / before <= GROWTH[1] for before, after in pairwise(pauses)), pauses
    assert len(set(pauses)) == len(pauses), "drawn by lot"


def test_no_pause_is_longer_than_the_longest(url: str, tables: Tables) -> None:
    budget = PostgresBudget(url, pace(first_pause=10, longest_pause=12))
    pauses = []

    for number in range(12):
        ask(budget, "throttled", f"T{number}")
        pauses.append(tables.state().pause_seconds)
        tables.end_pause()

    assert max(pauses) == 12, pauses


@pytest.mark.parametrize(("ago", "expected"), [(3500, 100), (3700, 20)])
def test_a_pause_is_as_long_as_the_last_one_had_to_be_within_the_hour(
    url: str, tables: Tables, ago: float, expected: float
) -> None:
    budget = PostgresBudget(url, pace(patience=1000))
    ask(budget, "throttled")
    tables.run("UPDATE request_state SET trouble_since = paused_until - interval '100 s'")
    tables.end_pause()
    ask(budget, "answered")
    assert tables.state().enough_seconds == pytest.approx(100, abs=25)
    tables.run(f"UPDATE request_state SET enough_seconds = 100, recovered_at = recovered_at - interval '{ago} s'")

    ask(budget, "throttled", "BBB")

    assert tables.state().pause_seconds == expected


@pytest.mark.parametrize(("retry_after", "pause"), [(5.0, 20.0), (120.0, 120.0), (1e6, 600.0), (-1.0, 20.0)])
def test_retry_after_is_honoured_up_to_the_longest_pause(
    budget: PostgresBudget, tables: Tables, retry_after: float, pause: float
) -> None:
    ask(budget, "throttled", retry_after=retry_after)

    state = tables.state()
    assert seconds(state.paused_until - state.paused_at) == pause
    assert state.pause_seconds == 20


def probe_and_stay(url: str, has_it: Event) -> None:
    assert PostgresBudget(url, pace()).enter("prices", "AAA").probe
    has_it.set()
    signal.pause()


def test_a_probe_whose_process_died_is_replaced_after_the_lease(
    budget: PostgresBudget, tables: Tables, url: str
) -> None:
    ask(budget, "throttled")
    tables.end_pause()
    has_it = FORK.Event()
    process = FORK.Process(target=probe_and_stay, args=(url, has_it))
    process.start()
    until(lambda: has_it.is_set() or not process.is_alive())
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert 50 < tables.one("extract(epoch FROM probing_until - clock_timestamp()) FROM request_state") <= 60

    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(budget.enter, "prices", "BBB")
        for _ in range(2):
            with tables.held():
                until(lambda: tables.waiting() == 1 or asked.done())
        assert not asked.done()
        tables.run("UPDATE request_state SET probing_until = now()")
        lease_over = tables.state().probing_until
        probe = asked.result(timeout=30)

    assert probe.probe
    assert probe.entered >= lease_over
    budget.leave(probe, "answered")
    assert tables.state().trouble is None


# -- a clock that is set back


def test_the_rate_holds_on_over_a_clock_that_is_set_back(url: str, tables: Tables) -> None:
    chosen, step = pace(prices=600, burst=2), 0.1
    before = take(url, chosen, "prices", 3)
    tables.set_clock_back(hours=1)

    after = take(url, chosen, "prices", 3)

    assert seconds(after[0].entered - before[-1].entered) < 30, "nobody waits for the hour to go by again"
    assert excess(after, burst=1, step=step) == []


def test_a_pause_lasts_as_long_as_it_was_to_though_the_clock_is_set_back(
    budget: PostgresBudget, tables: Tables
) -> None:
    ask(budget, "throttled")
    tables.set_clock_back(hours=1)

    budget.check_patience()

    assert 10 < tables.one("extract(epoch FROM paused_until - clock_timestamp()) FROM request_state") <= 20
    tables.end_pause()
    assert ask(budget, "answered", "BBB").probe


def test_a_probe_is_waited_for_no_longer_though_the_clock_is_set_back(budget: PostgresBudget, tables: Tables) -> None:
    ask(budget, "throttled")
    tables.end_pause()
    assert budget.enter("prices", "BBB").probe
    tables.set_clock_back(hours=1)

    budget.check_patience()

    assert 50 < tables.one("extract(epoch FROM probing_until - clock_timestamp()) FROM request_state") <= 60


# -- the share of the rate


def test_each_incident_halves_the_share_down_to_a_twentieth(budget: PostgresBudget, tables: Tables) -> None:
    shares = []
    for number in range(6):
        ask(budget, "throttled", f"T{number}")
        shares.append(tables.shares())
        tables.end_pause()
        ask(budget, "answered", f"T{number}")

    assert [share[0] for share in shares] == pytest.approx([0.5, 0.25, 0.125, 0.0625, 0.05, 0.05], rel=0.1)


def test_a_refused_probe_says_nothing_of_the_rate(budget: PostgresBudget, tables: Tables) -> None:
    for number in range(3):
        ask(budget, "throttled", f"T{number}")
        tables.end_pause()

    assert tables.shares() == [0.5]


def test_a_rate_that_has_held_for_a_while_is_lowered_by_less(budget: PostgresBudget, tables: Tables) -> None:
    tables.run("UPDATE request_state SET share = 0.5, answered = 100")

    ask(budget, "throttled")

    assert tables.shares() == pytest.approx([0.35])


def test_each_answer_gives_a_little_back_up_to_just_below_what_was_refused(
    budget: PostgresBudget, tables: Tables
) -> None:
    ask(budget, "throttled")
    tables.end_pause()
    shares = []
    for _ in range(3):
        ask(budget, "answered")
        shares += tables.shares()

    assert shares == pytest.approx([0.5 + number * RECOVERY for number in (1, 2, 3)])
    tables.run("UPDATE request_state SET share = 0.7495")
    ask(budget, "answered")
    assert tables.shares() == [0.75]
    ask(budget, "answered")
    assert tables.shares() == [0.75]
    tables.run("UPDATE request_state SET refused_at = refused_at - interval '1 hour'")
    ask(budget, "answered")
    assert tables.shares() == pytest.approx([0.75 + RECOVERY])


def test_the_share_is_never_above_1_and_then_answers_are_no_news(budget: PostgresBudget, tables: Tables) -> None:
    tables.run("UPDATE request_state SET share = 0.999")

    assert not ask(budget, "answered").quiet
    assert tables.shares() == [1]
    assert ask(budget, "answered").quiet
    assert tables.shares() == [1]


# -- a provider that is down


def test_different_subjects_in_a_row_without_an_answer_are_an_outage(budget: PostgresBudget, tables: Tables) -> None:
    for number in range(STREAK - 1):
        ask(budget, "down", f"T{number}")
    assert tables.state().trouble is None

    ask(budget, "down", "another")

    state = tables.state()
    assert (state.trouble, state.pause_seconds) == ("down", 20)
    assert seconds(state.paused_until - state.paused_at) == 20
    assert tables.shares() == [1], "it did not ask for less"


def test_one_subject_without_an_answer_is_no_outage(budget: PostgresBudget, tables: Tables) -> None:
    for _ in range(2 * STREAK):
        ask(budget, "down", "AAA")

    assert tables.state().trouble is None


def test_two_subjects_in_turn_without_an_answer_are_no_outage(budget: PostgresBudget, tables: Tables) -> None:
    for _ in range(STREAK):
        for subject in ("AAA", "BBB"):
            assert tables.state().trouble is None
            ask(budget, "down", subject)

    assert tables.state().trouble is None


def test_an_answer_in_between_begins_the_row_anew(budget: PostgresBudget, tables: Tables) -> None:
    for outcome in ("answered", "down"):
        for number in range(STREAK - 1):
            ask(budget, "down", f"T{number}")
        assert tables.state().trouble is None
        ask(budget, outcome, "another")

    assert tables.state().trouble == "down"


def make_down(budget: PostgresBudget) -> None:
    for number in range(STREAK):
        ask(budget, "down", f"T{number}")


def test_an_outage_goes_on_until_a_probe_is_answered(budget: PostgresBudget, tables: Tables) -> None:
    make_down(budget)
    since = tables.state().trouble_since
    tables.end_pause()

    assert ask(budget, "down", "T0").probe

    state = tables.state()
    assert (state.trouble, state.trouble_since, tables.shares()) == ("down", since, [1])
    assert 20 < state.pause_seconds <= 60
    tables.end_pause()
    assert ask(budget, "answered").probe
    assert (tables.state().trouble, tables.state().down_subjects) == (None, [])
    assert not ask(budget, "down").probe
    assert tables.state().trouble is None


def test_an_outage_can_turn_into_throttling(budget: PostgresBudget, tables: Tables) -> None:
    make_down(budget)
    since = tables.state().trouble_since
    tables.end_pause()

    ask(budget, "throttled")

    assert (tables.state().trouble, tables.state().trouble_since) == ("throttled", since)
    assert tables.shares() == [0.5]


def test_a_probe_without_an_answer_prolongs_the_pause_and_leaves_the_share(
    budget: PostgresBudget, tables: Tables
) -> None:
    ask(budget, "throttled")
    tables.end_pause()

    assert ask(budget, "down").probe

    state = tables.state()
    assert state.trouble is not None
    assert seconds(state.paused_until - state.paused_at) > 20
    assert tables.shares() == [0.5]


# -- patience

TROUBLES = pytest.mark.parametrize(
    ("make", "error", "reason"),
    [
        (lambda budget: ask(budget, "throttled"), ThrottledTooLong, "throttled every request"),
        (make_down, DownTooLong, "gave no usable answer"),
    ],
    ids=["throttled", "down"],
)


def patient(url: str, error: type[PatienceExhausted], length: float, run_id: str = "") -> PostgresBudget:
    """With so much patience for that trouble, and none for the other."""
    names = ("patience", "outage_patience") if error is ThrottledTooLong else ("outage_patience", "patience")
    return PostgresBudget(url, pace(**dict(zip(names, (length, 0.0), strict=True))), run_id)


@TROUBLES
def test_patience_ends_with_what_happened_and_what_to_do(
    url: str, tables: Tables, make: Callable[[PostgresBudget], None], error: type[PatienceExhausted], reason: str
) -> None:
    budget = patient(url, error, 1000)
    budget.check_patience()
    make(budget)
    tables.begin_trouble_earlier(900)
    budget.check_patience()
    assert tables.one("paused_until > clock_timestamp() FROM request_state"), "it does not wait for the pause"
    tables.begin_trouble_earlier(100)

    for call in (budget.check_patience, lambda: budget.enter("company", "AAA")):
        with pytest.raises(error) as raised:
            call()
        assert re.fullmatch(
            rf"Yahoo Finance: {reason} for 10\d\d s\. What is done is kept; run again later to go on\.",
            str(raised.value),
        )
    assert tables.one("paused_until > clock_timestamp() FROM request_state")


@TROUBLES
def test_patience_begins_with_the_run(
    url: str, tables: Tables, make: Callable[[PostgresBudget], None], error: type[PatienceExhausted], reason: str
) -> None:
    make(patient(url, error, 1000))
    tables.begin_trouble_earlier(5000)
    Ledger(url).begin_run("this", "RunAll", {})
    Ledger(url).begin_run("other", "RunAll", {})
    tables.run("UPDATE runs SET started_at = now() - interval '4000 s' WHERE run_id = 'other'")

    patient(url, error, 1000, "this").check_patience()

    with pytest.raises(error, match=r"for 4\d\d\d s"):
        patient(url, error, 1000, "other").check_patience()
    with pytest.raises(error, match=r"for 5\d\d\d s"):
        patient(url, error, 1000, "never begun").check_patience()


def test_of_a_trouble_that_began_in_the_run_no_more_counts_than_it_lasted(url: str, tables: Tables) -> None:
    Ledger(url).begin_run("this", "RunAll", {})
    tables.run("UPDATE runs SET started_at = now() - interval '5000 s'")
    budget = patient(url, ThrottledTooLong, 1000, "this")

    ask(budget, "throttled")

    budget.check_patience()


def test_nobody_waits_for_a_pause_that_is_longer_than_the_patience(url: str, tables: Tables) -> None:
    budget = PostgresBudget(url, pace(patience=0.2))
    ask(budget, "throttled")

    with pytest.raises(ThrottledTooLong):
        budget.enter("prices", "AAA")

    assert tables.one("paused_until > clock_timestamp() FROM request_state")


def test_an_answer_gives_all_patience_back(url: str, tables: Tables) -> None:
    budget = patient(url, ThrottledTooLong, 1000)
    ask(budget, "throttled")
    tables.begin_trouble_earlier(900)
    tables.end_pause()
    ask(budget, "answered")
    budget.check_patience()

    ask(budget, "throttled")

    tables.begin_trouble_earlier(900)
    budget.check_patience()


# -- credentials


def renew(url: str, refused: Access | None, fetch: Callable[[], Access]) -> tuple[int, Access]:
    return os.getpid(), PostgresBudget(url, pace()).renew_access(refused, fetch)


def fetch_new() -> Access:
    return NEW


def test_credentials_are_fetched_when_there_are_none_or_they_are_refused(budget: PostgresBudget) -> None:
    assert budget.access() is None
    assert budget.renew_access(None, lambda: OLD) == OLD
    assert budget.access() == OLD

    assert budget.renew_access(OLD, fetch_new) == NEW
    assert budget.access() == NEW


@pytest.mark.parametrize("refused", [None, OLD], ids=["nothing known", "others refused"])
def test_credentials_that_nobody_refused_are_not_fetched_again(budget: PostgresBudget, refused: Access | None) -> None:
    budget.renew_access(None, fetch_new)

    assert budget.renew_access(refused, fetch_nothing) == NEW


@pytest.mark.parametrize("refused", [None, OLD], ids=["the first", "others"])
def test_of_all_processes_one_fetches_and_the_others_get_the_same(
    budget: PostgresBudget, tables: Tables, url: str, refused: Access | None
) -> None:
    if refused is not None:
        budget.renew_access(None, lambda: refused)
    with ProcessPoolExecutor(3, mp_context=FORK) as executor:

        def fetch() -> Access:
            with tables.held():
                asked.extend(executor.submit(renew, url, refused, fetch_nothing) for _ in range(3))
                until(lambda: tables.waiting() == 3 or any(one.done() for one in asked))
            return NEW

        asked: list[Any] = []
        mine = budget.renew_access(refused, fetch)
        theirs = dict(one.result() for one in asked)

    assert mine == NEW
    assert list(theirs.values()) == [NEW] * 3, "in three processes"
    assert os.getpid() not in theirs


def test_credentials_that_came_between_looking_and_locking_are_taken(budget: PostgresBudget, url: str) -> None:
    def be_faster(connection: sa.Connection, cursor: Any, statement: str, *_: Any) -> None:
        if "pg_try_advisory" in statement and not faster:
            faster.append("somebody")
            PostgresBudget(url, pace()).renew_access(None, fetch_new)

    faster: list[str] = []
    with before_each_statement(url, be_faster):
        assert budget.renew_access(None, fetch_nothing) == NEW
    assert faster


def test_fetching_may_ask_the_budget(budget: PostgresBudget) -> None:
    def fetch() -> Access:
        budget.leave(budget.enter("access", "crumb"), "answered")
        return NEW

    assert budget.renew_access(None, fetch) == NEW
    assert budget.sent()["access"] == 1


def fetch_forever(url: str, fetching: Event) -> None:
    def fetch() -> Access:
        fetching.set()
        signal.pause()
        raise AssertionError

    PostgresBudget(url, pace()).renew_access(OLD, fetch)


def test_when_the_one_who_fetches_is_killed_another_goes_on(budget: PostgresBudget, tables: Tables, url: str) -> None:
    budget.renew_access(None, lambda: OLD)
    fetching = FORK.Event()
    process = FORK.Process(target=fetch_forever, args=(url, fetching))
    process.start()
    until(lambda: fetching.is_set() or not process.is_alive())
    with ThreadPoolExecutor(1) as threads:
        with tables.held():
            asked = threads.submit(budget.renew_access, OLD, fetch_new)
            until(lambda: tables.waiting() == 1 or asked.done())
            assert not asked.done()
        process.kill()
        process.join()
        assert asked.result(timeout=30) == NEW

    assert process.exitcode == -signal.SIGKILL
    assert budget.access() == NEW


def test_a_fetch_that_fails_leaves_what_was_there_and_lets_the_next_one_try(budget: PostgresBudget, url: str) -> None:
    budget.renew_access(None, lambda: OLD)
    error = NetworkFailure("Yahoo Finance", "no answer")

    def fetch() -> Access:
        raise error

    with pytest.raises(NetworkFailure) as raised:
        budget.renew_access(OLD, fetch)

    assert raised.value is error
    assert budget.access() == OLD
    with ProcessPoolExecutor(1, mp_context=FORK) as executor:
        assert executor.submit(renew, url, OLD, fetch_new).result(timeout=30)[1] == NEW


def test_who_waits_for_another_to_fetch_has_patience_too(budget: PostgresBudget, tables: Tables) -> None:
    def fetch() -> Access:
        ask(budget, "throttled")
        tables.begin_trouble_earlier(10_000)
        with ThreadPoolExecutor(1) as threads:
            raised.append(threads.submit(budget.renew_access, None, fetch_nothing).exception(timeout=30))
        return NEW

    raised: list[BaseException | None] = []
    assert budget.renew_access(None, fetch) == NEW
    assert [type(error) for error in raised] == [ThrottledTooLong]


# -- what is to be expected


@pytest.mark.parametrize(
    ("requests", "share", "closes", "company"),
    [
        ({"prices": 70}, 1.0, 60.0, None),
        ({"prices": 70}, 0.5, 120.0, None),
        ({"prices": 10}, 0.5, 0.0, None),
        ({"prices": 80, "company": 80}, 1.0, 70.0, 490.0),
        ({"prices": 130, "company": 20}, 1.0, 120.0, 180.0),
        ({"prices": 70, "company": 0}, 1.0, 60.0, None),
        ({"company": 20}, 1.0, None, 60.0),
        ({"access": 1000}, 0.5, None, None),
        ({}, 1.0, None, None),
    ],
    ids=str,
)
def test_a_forecast_says_when_closes_and_when_company_data_are_in(
    url: str, tables: Tables, requests: dict[Kind, int], share: float, closes: float | None, company: float | None
) -> None:
    tables.run(f"UPDATE request_state SET share = {share}")

    assert PostgresBudget(url, pace(prices=60, company=10, burst=10)).forecast(requests) == Forecast(closes, company)


def test_requests_that_are_more_than_all_together_may_be_take_longer(url: str) -> None:
    budget = PostgresBudget(url, replace(pace(prices=60, burst=10), all_per_minute=30))

    assert budget.forecast({"prices": 70}) == Forecast(120.0, None)


def test_a_forecast_does_not_reckon_with_a_burst_that_was_used_a_moment_ago(url: str) -> None:
    chosen = pace(company=10, burst=10)
    take(url, chosen, "company", 10)

    seconds = PostgresBudget(url, chosen).forecast({"company": 10}).company

    assert seconds is not None
    assert 55 < seconds <= 60, "one in six seconds from the first one on"


def test_a_forecast_in_a_pause_says_how_long_it_goes_on(url: str, tables: Tables) -> None:
    budget = PostgresBudget(url, pace(prices=60, burst=10, first_pause=600))
    ask(budget, "throttled")

    took, unlimited = budget.forecast({"prices": 70}), budget.forecast({"company": 1})

    # One in two seconds at half the rate, and none at once after a pause.
    assert (took.closes, took.company, unlimited.closes, unlimited.company) == (138, None, None, None)
    assert 500 < unlimited.paused < took.paused < 600
    tables.end_pause()
    assert budget.forecast({"prices": 70}) == Forecast(138, None), "with the probe still to be sent"


# -- transactions


RAISING: dict[str, Callable[[str], Any]] = {
    "enter": lambda url: patient(url, ThrottledTooLong, 0).enter("prices", "AAA"),
    "check_patience": lambda url: patient(url, ThrottledTooLong, 0).check_patience(),
    "renew_access": lambda url: PostgresBudget(url, pace()).renew_access(None, fetch_nothing),
}


def assert_unlocked(tables: Tables) -> None:
    with tables.engine.begin() as connection:
        for table in (request_state, request_rates):
            assert connection.execute(sa.select(table).with_for_update(nowait=True)).all()


@pytest.mark.parametrize("name", RAISING)
def test_a_call_that_raises_changes_nothing_and_leaves_nothing_locked(url: str, tables: Tables, name: str) -> None:
    ask(PostgresBudget(url, pace()), "throttled")
    before = tables.everything()

    with pytest.raises((ThrottledTooLong, AssertionError)):
        RAISING[name](url)

    assert_unlocked(tables)
    assert tables.everything() == before


def test_a_pause_that_is_broken_off_half_way_is_not_written(url: str, budget: PostgresBudget, tables: Tables) -> None:
    permit = budget.enter("prices", "AAA")
    before = tables.everything()

    def break_off(connection: sa.Connection, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE request_rates"):
            raise InterruptedError

    with before_each_statement(url, break_off), pytest.raises(InterruptedError):
        budget.leave(permit, "throttled")

    assert_unlocked(tables)
    assert tables.everything() == before
