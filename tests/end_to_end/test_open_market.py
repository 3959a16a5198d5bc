"""A run in mid-session, and one in the evening, as of the same date."""

from __future__ import annotations

import datetime as dt
import json
import time

import pandas as pd

from tests.conftest import make_bars
from tests.workspace import Workspace
from tests.yahoo.server import LoopbackYahoo


def test_the_evenings_run_fetches_the_close_that_the_days_could_not_have(workspace: Workspace) -> None:
    today = pd.Timestamp.now("America/New_York").date()
    frame = make_bars(days=30, last=str(today))
    frame.loc[frame.index[-1], "date"] = pd.Timestamp(today)
    workspace.universe.write_text("groupings:\n  all: {tickers: [AAA, BBB]}\n")
    arguments = ("--date", str(today), "--years-back", "1")
    with LoopbackYahoo(workspace.folder / "yahoo") as yahoo:
        workspace.environment = yahoo.environment()
        # Of no exchange whose calendar is known, so that this Yahoo alone says when a session is over.
        yahoo.add("AAA", frame, exchange="XXX")
        yahoo.add("BBB", frame.iloc[:-1].assign(close=frame["low"]), exchange="XXX")
        yahoo.market_open("AAA", lasts=dt.timedelta(seconds=8))

        # The session may end in the middle of it: a run goes on as it has begun.
        first = workspace.run(*arguments)
        assert first.code == 0, first
        assert last_bar(workspace) == frame["date"].iloc[-2].date()
        [ends] = workspace.query("SELECT open_until FROM securities WHERE ticker = 'AAA'")
        while dt.datetime.now(dt.UTC) <= ends:
            time.sleep(0.1)

        plan = workspace.command("plan", *arguments)
        assert "(1 prices, 1 quotes, 0 company, " in plan.stdout, plan
        assert "nothing to do: BBB\n" in plan.stdout, plan
        again = workspace.command("report")
        assert "All 2 tickers are stored" in again.stdout, again
        second = workspace.run(*arguments)
        assert second.code == 0, second
        assert last_bar(workspace) == today
        report = json.loads((workspace.store / "reports/latest/report.json").read_text())
        done = {step["step"]: (step["succeeded"], step["skipped"]) for step in report["steps"]}
        assert done["DownloadOhlcv"] == done["ValidateOhlcv"] == done["InsertOhlcv"] == (1, 1)

        third = workspace.run(*arguments)
        assert "Nothing to do" in third.out, third
        assert (yahoo.count("chart", "AAA"), yahoo.count("chart", "BBB")) == (2, 1)


def last_bar(workspace: Workspace) -> dt.date:
    [day] = workspace.query("SELECT max(date) FROM ohlcv JOIN securities USING (security_id) WHERE ticker = 'AAA'")
    assert isinstance(day, dt.date)
    return day
