"""`./run.sh accept`: a history that was held back is asked for anew, and may replace what is stored."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pytest

from tests.conftest import make_bars
from tests.workspace import Workspace
from tests.yahoo.server import LoopbackYahoo

DAY = "2024-03-15"
INFO = {"sector": "Energy", "industry": "Oil", "country": "France", "marketCap": 5_000_000}


@pytest.fixture
def yahoo(workspace: Workspace) -> Iterator[LoopbackYahoo]:
    """AAA and BBB are stored up to the day before; since then AAA is another company's, in another currency."""
    workspace.set("Yahoo", prices_per_minute="0", company_per_minute="0")
    workspace.universe.write_text("groupings:\n  all: {tickers: [AAA, BBB]}\n")
    with LoopbackYahoo(workspace.folder / "yahoo") as server:
        workspace.environment = server.environment()
        for seed, ticker in enumerate(("AAA", "BBB")):
            server.add(ticker, make_bars(days=60, last="2024-03-14", seed=seed), info={"longName": ticker, **INFO})
        assert workspace.run("--date", "2024-03-14", "--years-back", "2").code == 0
        server.add("AAA", make_bars(days=40, last=DAY, seed=7), currency="EUR", info={"longName": "Other", **INFO})
        server.add("BBB", make_bars(days=61, last=DAY, seed=1), info={"longName": "BBB", **INFO})
        yield server


def held_back(workspace: Workspace, kind: str = "wrong_answer") -> None:
    run = workspace.run("--date", DAY, "--years-back", "2")
    assert run.code == 30, run
    assert workspace.query("SELECT ticker, kind FROM task_failures") == [("AAA", kind)]


def accepted(workspace: Workspace) -> list[str]:
    return workspace.query("SELECT ticker FROM securities WHERE accepted")


def runs(workspace: Workspace) -> int:
    [count] = workspace.query("SELECT count(*) FROM runs")
    return int(count)


OF_AAA = "JOIN securities USING (security_id) WHERE ticker = 'AAA'"


@pytest.mark.parametrize(
    ("currency", "days", "another", "kind"),
    [
        ("EUR", 55, True, "wrong_answer"),
        ("USD", 61, True, "wrong_answer"),
        ("USD", 40, True, "wrong_answer"),
        ("USD", 40, False, "history_shrank"),
    ],
    ids=["another currency", "other prices", "other prices and fewer", "a shorter history"],
)
def test_what_was_held_back_is_told_asked_for_again_and_stored(
    workspace: Workspace, yahoo: LoopbackYahoo, currency: str, days: int, another: bool, kind: str
) -> None:
    other = make_bars(days=61, last=DAY, seed=7 if another else 0, start_price=900.0 if another else 50.0).tail(days)
    yahoo.add("AAA", other, currency=currency, info={"longName": "Other", **INFO})
    held_back(workspace, kind)
    before, old = runs(workspace), workspace.query(f"SELECT date, close FROM ohlcv {OF_AAA} ORDER BY 1")
    assert len(old) == 60
    yahoo.forget_requests()

    done = workspace.command("accept", "aaa")

    assert done.returncode == 0, done
    assert done.stdout.startswith(f"AAA: held back as of {DAY} ({kind}): "), done
    assert f"AAA: the next answer replaces what is stored, whatever it is\nNow, as of {DAY}: AAA\n" in done.stdout
    assert runs(workspace) == before + 1
    [run] = workspace.query("SELECT parameters FROM runs ORDER BY started_at DESC LIMIT 1")
    assert {name: run[name].lower() for name in ("date", "years_back", "full", "tickers")} == {
        "date": DAY,
        "years_back": "2",
        "full": "true",
        "tickers": "aaa",
    }
    asked = [request for request in yahoo.requests if request.endpoint == "chart"]
    assert {request.ticker for request in asked} == {"AAA"}
    first = min(int(request.query["period1"]) for request in asked)
    assert dt.datetime.fromtimestamp(first, dt.UTC).year == 2022
    new = list(zip(other["date"].dt.date, other["close"], strict=True))
    assert workspace.query(f"SELECT date, close FROM ohlcv {OF_AAA} ORDER BY 1") == new
    # Nothing is lost of the old ones.
    kept = workspace.query(f"SELECT date, ohlcv_revisions.close FROM ohlcv_revisions {OF_AAA} ORDER BY 1")
    assert kept == old
    assert accepted(workspace) == [], "for one answer alone"
    # Company data, too, is that of another company; it was not due.
    assert yahoo.count("summary", "AAA") == 1
    names = workspace.query(f"SELECT answer ->> 'longName' FROM security_metadata {OF_AAA} ORDER BY as_of")
    assert names == ["AAA", "Other"]

    again = workspace.command("accept", "AAA")

    assert again.returncode == 1
    assert "AAA: no answer was held back since its bars were stored" in again.stderr


def test_it_can_be_noted_alone(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    held_back(workspace)
    before = runs(workspace)
    yahoo.forget_requests()

    done = workspace.command("accept", "AAA", "--no-run")

    assert done.returncode == 0, done
    assert "./run.sh --tickers AAA --full" in done.stdout
    assert accepted(workspace) == ["AAA"]
    assert (runs(workspace), yahoo.count()) == (before, 0)


def test_where_nothing_was_held_back_nothing_is_accepted_but_by_force(
    workspace: Workspace, yahoo: LoopbackYahoo
) -> None:
    held_back(workspace)

    refused = workspace.command("accept", "AAA", "BBB", "--no-run")

    assert refused.returncode == 1
    assert refused.stderr == (
        "error: BBB: no answer was held back since its bars were stored. There is nothing to accept; --force has the "
        "next answer replace them all the same.\n"
    )
    assert accepted(workspace) == [], "all or nothing"

    forced = workspace.command("accept", "BBB", "--force", "--no-run")

    assert forced.returncode == 0, forced
    assert forced.stdout.startswith("BBB: no answer was held back\n")
    assert accepted(workspace) == ["BBB"]


def test_what_was_asked_for_whole_on_that_very_date_is_asked_for_again(
    workspace: Workspace, yahoo: LoopbackYahoo
) -> None:
    today = str(dt.datetime.now(dt.UTC).date())
    arguments = ("--date", today, "--years-back", "10", "--tickers", "BBB", "--full")
    assert workspace.run(*arguments).code == 0
    assert "Nothing to do" in workspace.run(*arguments).out
    yahoo.forget_requests()

    done = workspace.command("accept", "BBB", "--force")

    assert done.returncode == 0, done
    assert (yahoo.count("chart", "BBB"), yahoo.count("summary", "BBB")) == (1, 1)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("NOPE", "error: NOPE: is not registered. RegisterSecurity or insert_security does that."),
        ("N OPE", "error: ticker 'N OPE': "),
    ],
)
def test_a_ticker_that_is_none_is_told_in_a_line(workspace: Workspace, name: str, words: str) -> None:
    done = workspace.command("accept", name, "--force")

    assert done.returncode == 1
    assert done.stderr.startswith(words)
    assert done.stderr.count("\n") == 1
