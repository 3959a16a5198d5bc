"""The budget's rules, on a clock of the test's own: what a limit, a bad question, refused credentials bring about."""

from __future__ import annotations

import datetime as dt
import random

import pytest

from benchmarks.throttling import Server, default_pace, floor, run
from luigi_tasks.budget import KINDS, Kind, Outcome, Pace, Permit, Reaction
from luigi_tasks.pacing import STREAK, Line, Pacing, State

BEGINNING = dt.datetime(2026, 11, 28, tzinfo=dt.UTC)
BURST = 5


class World:
    """A state, whose clock goes on when somebody waits."""

    def __init__(self, pace: Pace | None = None) -> None:
        self.pacing = Pacing(pace or default_pace(), random.Random(1))
        self.state = State(BEGINNING, {kind: Line(BEGINNING) for kind in KINDS}, BEGINNING)

    def wait(self, seconds: float) -> None:
        self.state.now += dt.timedelta(seconds=seconds)

    def enter(self, kind: Kind, subject: str = "AAA") -> Permit:
        while True:
            wait, permit = self.pacing.enter(self.state, kind, subject)
            self.wait(wait)
            if permit is not None and (wait <= 0 or self.pacing.keeps_place(self.state, permit, wait)):
                return permit

    def ask(self, outcome: Outcome, kind: Kind = "prices", subject: str = "AAA") -> Reaction:
        permit = self.enter(kind, subject)
        self.wait(0.1)
        return self.pacing.leave(self.state, permit, outcome)


# -- a limit


@pytest.mark.parametrize("penalty", [20.0, 60.0, 300.0])
@pytest.mark.parametrize("a_second", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("requests", [53, 303])
def test_a_run_takes_at_most_twice_what_it_must(a_second: float, penalty: float, requests: int) -> None:
    pace = default_pace()
    least = floor(pace, Server(a_second, 10, penalty), requests)

    runs = [run(pace, Server(a_second, 10, penalty), requests, seed) for seed in range(3)]

    assert {each.stored for each in runs} == {requests}
    assert max(each.took for each in runs) <= 2 * least


def test_a_limit_as_high_as_our_rate_is_never_met() -> None:
    assert run(default_pace(), Server(1.0, 10, 300.0), 303, seed=1).refused == 0


@pytest.mark.parametrize("penalty", [20.0, 60.0, 300.0])
def test_pauses_do_not_grow_while_the_limit_stands_still(penalty: float) -> None:
    pauses = run(default_pace(), Server(0.3, 10, penalty), 803, seed=3).pauses

    enough = max(pauses)
    grown = pauses[: pauses.index(enough)]
    assert grown == sorted(grown), "it grows until one suffices"
    assert enough == pytest.approx(sum(grown), abs=3), "that is how long the first incident took"
    assert len(pauses) > len(grown) + 2
    assert set(pauses[len(grown) :]) == {enough}, "and how long each pause is that comes after it"


def test_the_rate_settles_just_below_the_limit() -> None:
    share = run(default_pace(), Server(0.3, 10, 20.0), 1003, seed=3).share

    assert 0.2 < share <= 0.3


# -- one question


@pytest.mark.parametrize("processes", [1, 2, 8])
@pytest.mark.parametrize("a_second", [3.0, 0.3])
def test_a_question_that_is_refused_for_ever_fails_by_itself(processes: int, a_second: float) -> None:
    came = run(default_pace(), Server(a_second, 10, 20.0, bad="BAD"), 53, seed=2, processes=processes)

    assert (came.failed, came.stored) == (["BAD"], 52)
    assert came.refused <= 8


def test_it_does_not_lower_the_rate_for_good() -> None:
    came = run(default_pace(), Server(3.0, 10, 20.0, bad="BAD"), 53, seed=2)

    assert came.share == 1
    assert len(came.pauses) == 1


def test_a_single_question_asks_for_a_reference_before_it_gives_up() -> None:
    world = World()
    reactions = []
    while "alone" not in reactions:
        permit = world.enter("prices", "BAD")
        reactions.append(world.pacing.leave(world.state, permit, "answered" if permit.reference else "throttled"))

    assert len(reactions) <= 7
    assert world.state.trouble is None


def test_where_the_reference_is_refused_too_it_is_the_limit() -> None:
    world = World()
    for _ in range(20):
        assert world.ask("throttled", subject="BAD") == "paused"

    assert world.state.failed_alone == {}


def test_a_kind_of_which_every_question_fails_is_refused_altogether() -> None:
    world = World()
    for number in range(STREAK):
        assert not world.pacing.refused_altogether(world.state, "company", None)
        while world.ask("throttled", "company", f"T{number}") != "alone":
            world.ask("answered", "prices", "another")

    assert world.pacing.refused_altogether(world.state, "company", None)
    assert world.pacing.refused_altogether(world.state, "company", BEGINNING)
    assert not world.pacing.refused_altogether(world.state, "company", world.state.now + dt.timedelta(1))
    assert not world.pacing.refused_altogether(world.state, "prices", None)
    world.ask("answered", "company", "one more")
    assert not world.pacing.refused_altogether(world.state, "company", None)


# -- all kinds together


def test_company_data_waits_for_as_long_as_bars_want_all_there_is() -> None:
    world = World()
    for number in range(20):
        world.pacing.enter(world.state, "prices", f"T{number}")
    reserved = world.state.all_next_at

    wait, permit = world.pacing.enter(world.state, "company", "AAA")

    assert (permit, world.state.all_next_at) == (None, reserved)
    assert wait == pytest.approx(16)


def test_bars_and_company_data_together_keep_to_one_rate() -> None:
    world, entered = World(), []
    for _ in range(20):
        entered += [world.enter("prices").entered, world.enter("company").entered]

    assert (entered[-1] - entered[0]).total_seconds() >= 40 - BURST - 1


def test_without_bars_company_data_has_a_rate_of_its_own() -> None:
    world = World()
    entered = [world.enter("company").entered for _ in range(BURST + 20)]

    assert (entered[-1] - entered[0]).total_seconds() == pytest.approx(60, abs=0.1)


def test_a_kind_without_a_limit_lies_outside_the_common_one() -> None:
    world = World(Pace({"prices": 0, "quotes": 0, "company": 20, "access": 12}, all_per_minute=60))
    for _ in range(100):
        world.enter("prices")

    assert world.state.now == BEGINNING
    assert world.enter("company").entered == BEGINNING


# -- credentials


def test_refused_credentials_of_several_questions_are_throttling() -> None:
    world = World()
    reactions = [world.ask("unauthorised", "company", f"T{number % 2}") for number in range(STREAK)]

    assert reactions == ["none"] * (STREAK - 1) + ["paused"]
    assert (world.state.trouble, world.state.share) == ("throttled", 0.5)


def test_those_of_one_question_are_a_matter_of_its_own() -> None:
    world = World()

    assert {world.ask("unauthorised", "company", "AAA") for _ in range(3 * STREAK)} == {"none"}


def test_an_answer_of_the_same_kind_begins_the_row_anew() -> None:
    world = World()
    for kind, reaction in (("access", "paused"), ("company", "none")):
        for number in range(STREAK - 1):
            world.ask("unauthorised", "company", f"T{number}")
        world.ask("answered", kind)  # type: ignore[arg-type]
        assert world.ask("unauthorised", "company", "another") == reaction
        world = World()


@pytest.mark.parametrize("kind", ["quotes", "company"])
def test_where_others_are_answered_a_kind_is_given_up_and_nobody_waits(kind: Kind) -> None:
    world = World()
    for number in range(4 * STREAK):
        if not world.pacing.refused_altogether(world.state, kind, BEGINNING):
            assert world.ask("unauthorised", kind, f"T{number // 2}") == "none", (
                "each is asked again with another crumb"
            )
        assert world.ask("answered", "prices", f"T{number}") == "none"

    assert world.pacing.refused_altogether(world.state, kind, BEGINNING)
    assert world.state.lines[kind].sent == STREAK
    assert world.state.share == 1
    world.wait(1)
    assert not world.pacing.refused_altogether(world.state, kind, world.state.now), "the next run asks again"
    world.ask("answered", kind)
    assert not world.pacing.refused_altogether(world.state, kind, BEGINNING)


def test_a_crumb_that_all_processes_find_out_of_date_at_once_gives_up_nothing() -> None:
    world = World()
    world.ask("unauthorised", "quotes", "T0")
    world.ask("answered", "prices")

    assert {world.ask("unauthorised", "quotes", f"T{number}") for number in range(1, 8)} == {"none"}
    assert not world.pacing.refused_altogether(world.state, "quotes", BEGINNING)


def test_what_a_kind_cost_that_was_asked_for_before_any_other_is_given_back() -> None:
    world = World()
    for number in range(2 * STREAK):
        world.ask("unauthorised", "quotes", f"T{number // 2}")
    assert world.state.share < 1

    world.ask("answered", "prices")

    assert world.state.share == 1
    assert world.pacing.refused_altogether(world.state, "quotes", BEGINNING)


def test_bars_that_want_credentials_are_not_given_up() -> None:
    world = World()
    reactions = []
    for number in range(2 * STREAK):
        reactions.append(world.ask("unauthorised", "prices", f"T{number % 2}"))
        if number == 0:
            world.ask("answered", "company")

    assert "paused" in reactions
    assert not world.pacing.refused_altogether(world.state, "prices", BEGINNING)


def test_where_nothing_else_is_asked_a_chart_tells_whether_it_is_the_credentials_alone() -> None:
    world = World()
    for number in range(STREAK):
        world.ask("unauthorised", "company", f"T{number % 2}")

    permit = world.enter("company", "T0")

    assert (permit.probe, permit.reference, permit.kind) == (True, True, "prices")
    world.pacing.leave(world.state, permit, "answered")
    assert world.ask("unauthorised", "company", "T0") == "none"
    assert world.pacing.refused_altogether(world.state, "company", BEGINNING)
    assert world.state.share == 1, "it was not the rate"


def test_where_the_chart_is_refused_too_it_is_throttling() -> None:
    world = World()
    for number in range(STREAK):
        world.ask("unauthorised", "company", f"T{number % 2}")
    before = world.state.pause_seconds

    world.pacing.leave(world.state, world.enter("company", "T0"), "unauthorised")

    assert world.state.trouble == "throttled"
    assert world.state.pause_seconds > before


# -- what an answer tells of others


@pytest.mark.parametrize("penalty", [60.0, 120.0, 300.0])
@pytest.mark.parametrize("a_second", [0.15, 0.25])
def test_a_limit_on_company_data_alone_fails_no_ticker(a_second: float, penalty: float) -> None:
    for seed in range(3):
        came = run(default_pace(), Server(a_second, 10, penalty), 100, seed, processes=2, kind="company")
        assert (came.stored, came.failed) == (100, [])


def test_company_data_of_one_ticker_fails_by_itself_where_that_of_others_is_answered() -> None:
    came = run(default_pace(), Server(1000, 1000, 20, bad="BAD"), 40, seed=1, processes=2, kind="company")

    assert (came.stored, came.failed) == (39, ["BAD"])


def test_cookies_and_crumbs_tell_nothing_of_what_is_refused() -> None:
    world = World()
    for _ in range(6):
        assert world.ask("throttled", "prices", "AAA") == "paused"
        world.ask("answered", "access", "crumb")


def test_a_crumb_does_not_end_throttling() -> None:
    world = World()
    world.ask("throttled")
    world.ask("answered", "access", "crumb")

    assert world.state.trouble == "throttled"
    assert world.enter("company").probe, "the next one goes ahead at once"


# -- what is to be expected


def test_how_long_many_requests_take() -> None:
    world = World()

    assert world.pacing.duration(world.state, {"prices": 500, "quotes": 10, "access": 2}) == 512 - BURST
    assert world.pacing.duration(world.state, {"company": 500}) == (500 - BURST) * 3
    assert world.pacing.duration(world.state, {"company": 0}) is None
