"""Lists that are edited on the day, tickers renamed at noon, a source that is not there: what is recorded."""

from __future__ import annotations

import datetime as dt

import pandas as pd
import pytest

from luigi_tasks import YfinanceClient
from tests.conftest import make_bars
from tests.workspace import Finished, Workspace

FRIDAY, MONDAY = dt.date(2024, 3, 15), dt.date(2024, 3, 18)
LISTINGS = "SELECT ticker, valid_from, valid_to FROM security_listings ORDER BY 1, 2"


@pytest.fixture
def frames(workspace: Workspace) -> dict[str, pd.DataFrame]:
    made = {name: make_bars(last=str(MONDAY), seed=number) for number, name in enumerate(["AAA", "BBB", "CCC"])}
    workspace.use_files(made)
    return made


def listed(workspace: Workspace, *tickers: str, more: str = "") -> None:
    workspace.universe.write_text(f"groupings:\n  all: {{tickers: [{', '.join(tickers)}]}}\n{more}\n")


def run(workspace: Workspace, day: dt.date, *arguments: str) -> Finished:
    finished = workspace.run("--date", str(day), "--years-back", "1", *arguments)
    assert finished.code == 0, finished
    return finished


def test_a_list_that_is_edited_and_put_back_on_one_day_is_recorded_each_time(
    workspace: Workspace, frames: dict[str, pd.DataFrame]
) -> None:
    listed(workspace, "AAA", "BBB")
    run(workspace, FRIDAY)
    run(workspace, MONDAY)
    morning = workspace.query(LISTINGS)

    listed(workspace, "BBB")
    noon = run(workspace, MONDAY)

    assert "Nothing to do" in noon.out
    assert workspace.query(LISTINGS) == [("AAA", FRIDAY, MONDAY), ("BBB", FRIDAY, None)]

    listed(workspace, "AAA", "BBB")
    run(workspace, MONDAY)
    markers = workspace.query("SELECT task_id, done_at FROM task_markers ORDER BY 1")

    assert workspace.query(LISTINGS) == morning
    assert "Nothing to do" in run(workspace, MONDAY).out
    assert workspace.query("SELECT task_id, done_at FROM task_markers ORDER BY 1") == markers


def test_a_ticker_renamed_at_noon_has_its_own_bars_on_the_same_day(
    workspace: Workspace, frames: dict[str, pd.DataFrame]
) -> None:
    listed(workspace, "AAA", "BBB")
    run(workspace, MONDAY)
    frames["AAA"].to_csv(workspace.folder / "prices" / "NEW.csv", index=False)
    listed(workspace, "AAA", "BBB", more="renamed: {AAA: NEW}")

    run(workspace, MONDAY, "--tickers", "NEW")

    bars = "SELECT ticker, count(*) FROM ohlcv JOIN securities USING (security_id) GROUP BY 1 ORDER BY 1"
    assert workspace.query(bars) == [("AAA", 30), ("BBB", 30), ("NEW", 30)]
    client = YfinanceClient(workspace.database_url)
    assert client.get_tickers(["all"]) == ["AAA", "BBB", "NEW"], "a part of the list ends nothing"
    run(workspace, MONDAY)
    assert client.get_tickers(["all"]) == ["BBB", "NEW"]


def test_a_list_is_recorded_although_its_source_is_not_there(workspace: Workspace) -> None:
    workspace.set("Market", source="files", name="test", path=str(workspace.folder / "nowhere"))

    finished = workspace.run("--date", str(MONDAY))

    assert finished.code == 30, finished
    assert YfinanceClient(workspace.database_url).get_tickers(["all"], on=MONDAY) == ["AAA", "BBB", "CCC"]
