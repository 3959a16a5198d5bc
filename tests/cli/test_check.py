"""`./run.sh check`: each thing by itself, whatever else is broken."""

from __future__ import annotations

import datetime as dt

import sqlalchemy as sa

from luigi_tasks.database.engine import engine_for
from luigi_tasks.market.yahoo.canary import QUOTED
from tests.conftest import make_bars
from tests.workspace import Workspace, free_port
from tests.yahoo.server import LoopbackYahoo


def check(workspace: Workspace, *arguments: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Exit code, and {what: (level, words)}."""
    done = workspace.command("check", *arguments)
    lines = [line.partition(": ") for line in done.stdout.splitlines()]
    return done.returncode, {head.split(maxsplit=1)[1]: (head.split()[0], words) for head, _, words in lines}


def test_all_is_well_where_a_run_would_go(workspace: Workspace) -> None:
    workspace.use_files({"AAA": make_bars()})
    assert workspace.command("up").returncode == 0

    code, found = check(workspace)

    assert code == 0
    assert {level for level, _ in found.values()} == {"ok"}
    assert found["universe"][1] == "1 tickers in all"
    assert set(found) >= {"Python", "packages", "settings", "rules", "disk", "PostgreSQL", "luigid", "source"}


def test_what_is_broken_is_named_with_its_remedy_and_hides_nothing_else(workspace: Workspace) -> None:
    workspace.database_url = f"postgresql://me:s3cret@127.0.0.1:{free_port()}/db"
    workspace.universe.write_text("groupings: [")
    workspace.set("Quality", suite=str(workspace.folder / "nosuch.json"))

    code, found = check(workspace, "--offline")

    assert code == 1
    assert {name for name, (level, _) in found.items() if level == "problem"} == {
        "universe", "rules", "PostgreSQL", "luigid",
    }  # fmt: skip
    assert "./run.sh up" in found["luigid"][1]
    assert "s3cret" not in str(found)
    assert found["disk"][0] == "ok"


def test_tables_of_an_earlier_version_are_a_warning_and_of_a_later_one_a_problem(workspace: Workspace) -> None:
    assert workspace.command("up").returncode == 0
    levels = []
    for revision in ("0001", "9999"):
        with engine_for(workspace.database_url).begin() as connection:
            connection.execute(sa.text("UPDATE alembic_version SET version_num = :new"), {"new": revision})
        levels.append(check(workspace, "--offline")[1]["PostgreSQL"][0])

    assert levels == ["warning", "problem"]


def test_a_yahoo_that_cannot_be_reached_has_not_moved(workspace: Workspace) -> None:
    workspace.environment = {"HTTPS_PROXY": f"http://127.0.0.1:{free_port()}"}

    done = workspace.command("check", "--yahoo")

    assert done.returncode == 3
    versions, *parts = done.stdout.splitlines()
    assert versions.startswith("yfinance 1.")
    assert [part.partition(": ")[0] for part in parts] == ["away     crumb"]


def test_a_yahoo_that_has_moved_is_told_part_by_part(workspace: Workspace) -> None:
    with LoopbackYahoo(workspace.folder / "yahoo") as yahoo:
        for ticker in QUOTED:
            yahoo.add(ticker, make_bars(days=300, last=str(dt.datetime.now(dt.UTC).date())), info={"sector": "Energy"})
        workspace.environment = yahoo.environment()

        done = workspace.command("check", "--yahoo")

    assert done.returncode == 1
    levels = dict(line.split(": ")[0].split(maxsplit=1)[::-1] for line in done.stdout.splitlines()[1:])
    assert levels == {
        "crumb": "ok",
        "chart, bars and actions": "moved",
        "chart, error words": "ok",
        "quoteSummary": "moved",
        "quote": "moved",
    }
