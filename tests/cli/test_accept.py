"""`./run.sh accept`: a history that was held back is asked for anew, and may replace what is stored."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pandas as pd
import pytest

from tests.conftest import make_bars
from tests.workspace import Workspace
from tests.yahoo.server import LoopbackYahoo

DAY = "2024-03-15"
INFO = {"sector": "Energy", "industry": "Oil", "country": "France", "marketCap": 5_000_000}


def another(days: int) -> pd.DataFrame:
    """Bars of another security, for each number of days one of its own."""
    return make_bars(days=61, last=DAY, seed=days, start_price=900.0).tail(days)


HELD_BACK = {
    "EURO": ("wrong_answer", another(55), "EUR"),
    "OTHER": ("wrong_answer", another(61), "USD"),
    "FEWER": ("wrong_answer", another(40), "USD"),
    "SHORT": ("history_shrank", make_bars(days=61, last=DAY, seed=3).tail(40), "USD"),
}
"""{ticker: (kind, what Yahoo serves in place of its bars, their currency)}."""


@pytest.fixture
def yahoo(workspace: Workspace) -> Iterator[LoopbackYahoo]:
    """All are stored up to the day before; since then those held back are another's, or are cut off."""
    workspace.set("Yahoo", prices_per_minute="0", company_per_minute="0")
    tickers = [*HELD_BACK, "BBB"]
    workspace.universe.write_text(f"groupings:\n  all: {{tickers: [{', '.join(tickers)}]}}\n")
    with LoopbackYahoo(workspace.folder / "yahoo") as server:
        workspace.environment = server.environment()
        for seed, ticker in enumerate(tickers):
            server.add(ticker, make_bars(days=60, last="2024-03-14", seed=seed), info={"longName": ticker, **INFO})
        assert workspace.run("--date", "2024-03-14", "--years-back", "2").code == 0
        for ticker, (_, frame, currency) in HELD_BACK.items():
            server.add(ticker, frame, currency=currency, info={"longName": "Other", **INFO})
        server.add("BBB", make_bars(days=61, last=DAY, seed=4), info={"longName": "BBB", **INFO})
        run = workspace.run("--date", DAY, "--years-back", "2")
        assert run.code == 30, run
        assert workspace.query("SELECT ticker, kind FROM task_failures ORDER BY ticker") == sorted(
            (ticker, kind) for ticker, (kind, _, _) in HELD_BACK.items()
        )
        server.forget_requests()
        yield server


def accepted(workspace: Workspace) -> list[str]:
    return workspace.query("SELECT ticker FROM securities WHERE accepted ORDER BY ticker")


def runs(workspace: Workspace) -> int:
    [count] = workspace.query("SELECT count(*) FROM runs")
    return int(count)


def bars_of(workspace: Workspace, ticker: str, table: str = "ohlcv") -> list[tuple[dt.date, float]]:
    found = f"SELECT date, t.close FROM {table} AS t JOIN securities USING (security_id) WHERE ticker = :ticker"
    return workspace.query(f"{found} ORDER BY date", ticker=ticker)


def test_what_was_held_back_is_told_asked_for_again_and_stored(workspace: Workspace, yahoo: LoopbackYahoo) -> None:
    before, old = runs(workspace), {ticker: bars_of(workspace, ticker) for ticker in HELD_BACK}
    assert {len(of_ticker) for of_ticker in old.values()} == {60}

    done = workspace.command("accept", "euro", *list(HELD_BACK)[1:])

    assert done.returncode == 0, done
    for ticker, (kind, _, _) in HELD_BACK.items():
        assert f"{ticker}: held back as of {DAY} ({kind}): " in done.stdout, done
        assert f"{ticker}: the next answer replaces what is stored, whatever it is\n" in done.stdout
    assert f"\nNow, as of {DAY}: EURO, OTHER, FEWER, SHORT\n" in done.stdout
    assert runs(workspace) == before + 1
    [run] = workspace.query("SELECT parameters FROM runs ORDER BY started_at DESC LIMIT 1")
    assert {name: run[name] for name in ("date", "years_back", "full", "tickers")} == {
        "date": DAY,
        "years_back": "2",
        "full": "True",
        "tickers": "EURO,OTHER,FEWER,SHORT",
    }
    asked = [request for request in yahoo.requests if request.endpoint == "chart"]
    assert {request.ticker for request in asked} == set(HELD_BACK)
    first = min(int(request.query["period1"]) for request in asked)
    assert dt.datetime.fromtimestamp(first, dt.UTC).year == 2022
    for ticker, (_, frame, _) in HELD_BACK.items():
        assert bars_of(workspace, ticker) == list(zip(frame["date"].dt.date, frame["close"], strict=True))
        # Nothing is lost of the old ones.
        assert bars_of(workspace, ticker, "ohlcv_revisions") == old[ticker]
        # Company data, too, is that of another company; it was not due.
        assert yahoo.count("summary", ticker) == 1
    assert accepted(workspace) == [], "for one answer alone"
    names = "SELECT answer ->> 'longName' FROM security_metadata JOIN securities USING (security_id)"
    assert workspace.query(f"{names} WHERE ticker = 'EURO' ORDER BY as_of") == ["EURO", "Other"]

    again = workspace.command("accept", "OTHER")

    assert again.returncode == 1
    assert "OTHER: no answer was held back since its bars were stored" in again.stderr


def test_it_can_be_noted_alone_and_forced_where_nothing_was_held_back(
    workspace: Workspace, yahoo: LoopbackYahoo
) -> None:
    before = runs(workspace)

    refused = workspace.command("accept", "OTHER", "BBB", "--no-run")

    assert refused.returncode == 1
    assert refused.stderr == (
        "error: BBB: no answer was held back since its bars were stored. There is nothing to accept; --force has the "
        "next answer replace them all the same.\n"
    )
    assert accepted(workspace) == [], "all or nothing"

    noted = workspace.command("accept", "OTHER", "--no-run")

    assert noted.returncode == 0, noted
    assert "./run.sh --tickers OTHER --full" in noted.stdout
    assert accepted(workspace) == ["OTHER"]

    forced = workspace.command("accept", "BBB", "--force", "--no-run")

    assert forced.returncode == 0, forced
    assert forced.stdout.startswith("BBB: no answer was held back\n")
    assert accepted(workspace) == ["BBB", "OTHER"]
    assert (runs(workspace), yahoo.count()) == (before, 0)


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
