"""`./run.sh status` and `./run.sh retry`: what happened, and only what failed again."""

from __future__ import annotations

import sqlalchemy as sa

from luigi_tasks.database.engine import engine_for
from tests.conftest import make_bars
from tests.workspace import Workspace

ARGUMENTS = ("--date", "2024-03-15", "--years-back", "1")
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


def fail_one(workspace: Workspace) -> None:
    """A run after which AAA is stored, BBB has failed for want of a file, CCC for bars that are wrong."""
    wrong = make_bars(days=40, seed=3).assign(low=1000.0)
    folder = workspace.use_files({"AAA": make_bars(days=40), "BBB": make_bars(days=40, seed=2), "CCC": wrong})
    (folder / "BBB.csv").rename(folder / "BBB.csv.away")
    assert workspace.run(*ARGUMENTS).code == 30
    (folder / "BBB.csv.away").rename(folder / "BBB.csv")


def test_retry_runs_what_failed_in_the_ways_named_and_nothing_else(workspace: Workspace) -> None:
    fail_one(workspace)
    kinds = dict(workspace.query("SELECT ticker, kind FROM task_failures"))

    none = workspace.command("retry", "--kind", "throttled")
    done = workspace.command("retry", "--kind", kinds["BBB"])
    left = workspace.command("retry")

    assert none.returncode == 0
    assert "Nothing to run again: no ticker of kind throttled" in none.stdout
    assert done.returncode == 0, done
    assert done.stdout.startswith("Again, as of 2024-03-15: BBB\n")
    assert workspace.query("SELECT DISTINCT ticker FROM task_markers WHERE ticker IS NOT NULL AND run_id = "
                           "(SELECT run_id FROM runs ORDER BY started_at OFFSET 1 LIMIT 1)") == ["BBB"]  # fmt: skip
    assert left.stdout.startswith("Again, as of 2024-03-15: CCC\n"), "what the retry of another kind has left"
    first = workspace.query("SELECT min(run_id) FROM runs")[0]
    assert f"no ticker of kind throttled that failed in {first} is still to be done" in (
        workspace.command("retry", "--run", first, "--kind", "throttled").stdout
    )
    # Nobody has left a grouping by having been left out.
    assert workspace.query("SELECT count(*) FROM security_groupings WHERE valid_to IS NOT NULL") == [0]


def test_a_kind_or_run_that_is_not_there_is_an_error(workspace: Workspace) -> None:
    for arguments, words in ((["--kind", "nosuch"], "'nosuch' is not one of"), (["--run", "x"], "run x: there is no")):
        done = workspace.command("retry", *arguments)
        assert done.returncode != 0
        assert words in done.stderr


def test_status_tells_the_last_runs_and_their_steps(workspace: Workspace) -> None:
    assert "last run: none yet" not in workspace.command("status").stdout
    fail_one(workspace)

    said = workspace.command("status").stdout

    assert "incomplete" in said
    assert [line.split() for line in said.splitlines() if "InsertOhlcv" in line] == [["InsertOhlcv", "1", "0", "40"]]
    assert max(map(len, said.splitlines()[2:])) <= 100
    row = next(line.split() for line in said.splitlines() if "2024-03-15" in line)
    assert row[-2:] == ["3", "2"]


def test_status_tells_a_run_that_is_going_on_from_one_that_was_killed(workspace: Workspace) -> None:
    workspace.use_files({"AAA": make_bars(days=40)})
    assert workspace.command("up").returncode == 0
    with engine_for(workspace.database_url).connect() as connection:
        connection.execute(sa.text("LOCK TABLE security_metadata IN ACCESS EXCLUSIVE MODE"))
        process = workspace.start(*ARGUMENTS)
        while workspace.query(WAITING) == [0] and process.poll() is None:
            pass
        during = workspace.command("status").stdout
        process.kill()
        process.communicate(timeout=60)

    assert "RunAll, running, started" in during
    assert "RunAll, killed, started" in workspace.command("status").stdout
