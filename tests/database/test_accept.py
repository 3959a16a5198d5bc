"""Which answers wait to be accepted, and what an acceptance notes."""

from __future__ import annotations

import datetime as dt

import pytest
import sqlalchemy as sa

from luigi_tasks import YfinanceClient
from luigi_tasks.database.engine import engine_for
from luigi_tasks.database.ledger import Ledger, Marker, Step
from luigi_tasks.database.standing import Standing
from luigi_tasks.errors import ConfigurationError, SecurityNotFound

DAY = dt.date(2026, 11, 20)
NEXT = DAY + dt.timedelta(days=1)


@pytest.fixture
def client(emptied_url: str) -> YfinanceClient:
    made = YfinanceClient(emptied_url)
    for ticker in ("AAA", "BBB"):
        made.insert_security(ticker, [])
    return made


def step(family: str = "InsertOhlcv", day: dt.date = DAY, ticker: str = "AAA", run: str = "run-1") -> Step:
    return Step(f"{family}_{ticker}_{day}", family, run, ticker, day)


def accepted(url: str) -> list[str]:
    with engine_for(url).begin() as connection:
        return list(connection.scalars(sa.text("SELECT ticker FROM securities WHERE accepted ORDER BY 1")))


def test_the_last_answer_that_was_held_back_waits(client: YfinanceClient, emptied_url: str) -> None:
    ledger = Ledger(emptied_url)
    ledger.begin_run("run-2", "RunAll", {"date": str(NEXT), "years_back": "3"})
    ledger.fail(step(), "wrong_answer", "AAA: is another one")
    ledger.fail(step(day=NEXT, run="run-2"), "history_shrank", "AAA: lacks 9 bars")
    ledger.fail(step(day=NEXT, run="run-3"), "network", "AAA: no answer")

    held = client.held_back("AAA")

    assert held is not None
    assert (held.kind, held.reason, held.as_of, held.years_back) == ("history_shrank", "lacks 9 bars", NEXT, 3)
    assert client.held_back("BBB") is None


@pytest.mark.parametrize(("kind", "waits"), [("wrong_answer", True), ("history_shrank", True), ("network", False)])
def test_other_failures_do_not_wait(client: YfinanceClient, emptied_url: str, kind: str, waits: bool) -> None:
    Ledger(emptied_url).fail(step(), kind, "AAA: is another one")

    assert (client.held_back("AAA") is not None) is waits


@pytest.mark.parametrize(
    ("family", "day", "waits"),
    [
        ("InsertOhlcv", DAY, False),
        ("InsertOhlcv", NEXT, False),
        ("InsertOhlcv", DAY - dt.timedelta(days=1), True),
        ("InsertMetadata", NEXT, True),
    ],
)
def test_it_waits_until_bars_of_its_date_or_a_later_one_are_stored(
    client: YfinanceClient, emptied_url: str, family: str, day: dt.date, waits: bool
) -> None:
    ledger = Ledger(emptied_url)
    ledger.mark(Marker(step(day=NEXT, run="run-0"), 1))
    ledger.fail(step(), "wrong_answer", "AAA: is another one")
    ledger.mark(Marker(step(family, day, run="run-2"), 1))

    assert (client.held_back("AAA") is not None) is waits
    if waits:
        client.accept("AAA")
        assert accepted(emptied_url) == ["AAA"]
    else:
        with pytest.raises(ConfigurationError, match="no answer was held back"):
            client.accept("AAA")
        assert accepted(emptied_url) == []


def test_what_was_done_of_its_date_is_to_be_done_again(client: YfinanceClient, emptied_url: str) -> None:
    ledger, before = Ledger(emptied_url), DAY - dt.timedelta(days=1)
    kept = [step(day=before), step("InsertMetadata", before), step(ticker="BBB"), step("RegisterSecurity")]
    for one in (*kept, step("InsertMetadata"), step("InsertMetadata", NEXT)):
        ledger.mark(Marker(one, 1))
    ledger.fail(step(), "wrong_answer", "AAA: is another one")

    result = client.accept("AAA")

    assert result["message"] == "AAA: the next answer replaces what is stored, whatever it is"
    ids = [one.task_id for one in (*kept, step("InsertMetadata"), step("InsertMetadata", NEXT))]
    assert ledger.done(ids) == {one.task_id for one in kept}
    assert accepted(emptied_url) == ["AAA"]


def test_bars_that_are_to_be_replaced_are_not_there_for_any_date(client: YfinanceClient, emptied_url: str) -> None:
    with engine_for(emptied_url).begin() as connection:
        connection.execute(sa.text("UPDATE securities SET bars_as_of = :day, history_from = :day"), {"day": DAY})
    standing = Standing(emptied_url)
    assert standing.with_history(["AAA", "BBB"], DAY, DAY) == {"AAA", "BBB"}
    Ledger(emptied_url).mark(Marker(step(), 1))

    client.accept("AAA", force=True)

    assert standing.with_history(["AAA", "BBB"], DAY, DAY) == {"BBB"}
    assert Ledger(emptied_url).done([step().task_id]) == set()


def test_nobody_is_accepted(client: YfinanceClient, emptied_url: str) -> None:
    for force in (False, True):
        with pytest.raises(SecurityNotFound):
            client.accept("NOPE", force=force)
    with pytest.raises(SecurityNotFound):
        client.held_back("NOPE")
