"""A password is where PostgreSQL asks for it, and nowhere else, whatever goes wrong."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from luigi_tasks.database.engine import engine_for, normalised_url
from tests.conftest import administer, make_bars
from tests.workspace import Finished, Workspace

PASSWORD = "Tr0ub4dor-correct-horse"
ARGUMENTS = ("--date", "2024-03-15", "--years-back", "1")
ROLE = "who_has_a_password"
WAITING = """
    SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE NOT granted AND relation = 'ohlcv'::regclass AND usename = :role
"""


@pytest.fixture(scope="session")
def asking_server(postgres_url: str) -> str:
    """The server's URL; it asks one of its roles for a password, and that one is the superuser of nothing."""
    hba = Path(str(administer(postgres_url, "SHOW hba_file")[0][0]))
    hba.write_text(f"local all {ROLE} scram-sha-256\n{hba.read_text()}")
    administer(postgres_url, "SELECT pg_reload_conf()")
    administer(postgres_url, f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
    return postgres_url


@pytest.fixture
def guarded(workspace: Workspace, asking_server: str) -> Workspace:
    """A workspace whose database asks for a password; `database_url` is the superuser's still."""
    database = normalised_url(workspace.database_url).database
    administer(asking_server, f"ALTER ROLE {ROLE} PASSWORD '{PASSWORD}'")
    administer(asking_server, f'ALTER DATABASE "{database}" OWNER TO {ROLE}')
    workspace.environment["DATABASE_URL"] = with_password(workspace, PASSWORD)
    # A run that cannot ask the database any more does not know whether it is alone, and waits so long.
    workspace.set("worker", max_keep_alive_idle_duration="15 seconds")
    workspace.use_files({f"T{number:02}": make_bars(seed=number) for number in range(3)})
    return workspace


def with_password(workspace: Workspace, password: str) -> str:
    return workspace.database_url.replace("postgres:@", f"{ROLE}:{password}@")


def api(workspace: Workspace) -> str:
    """What luigid tells of all tasks and workers, to whoever asks."""
    base = f"http://127.0.0.1:{workspace.port}"

    def ask(call: str, **data: str) -> str:
        query = urllib.request.quote(json.dumps(data))  # type: ignore[attr-defined]
        with urllib.request.urlopen(f"{base}/api/{call}?data={query}", timeout=10) as answer:
            text: str = answer.read().decode()
        return text

    said = [ask("worker_list"), ask("resource_list")]
    for status in ("FAILED", "RUNNING", "PENDING", "DONE", "DISABLED"):
        tasks = ask("task_list", status=status, upstream_status="")
        said += [tasks, *(ask("fetch_error", task_id=task) for task in json.loads(tasks)["response"])]
    return "\n".join(said)


def command_lines() -> str:
    return "\n".join(" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))


def files(workspace: Workspace) -> str:
    return "\n".join(
        f"{path}\n{path.read_bytes().decode(errors='replace')}" for path in workspace.store.rglob("*") if path.is_file()
    )


def rows(workspace: Workspace) -> str:
    """Every table, as text."""
    tables = workspace.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert "task_failures" in tables
    return "\n".join(str(workspace.query(f'SELECT t::text FROM "{table}" AS t')) for table in tables)


def run_that_waits(workspace: Workspace) -> tuple[Finished, str]:
    """A run whose password is changed while one of its tasks waits for a lock; and what could be seen by then."""
    with engine_for(workspace.database_url).connect() as connection:
        connection.execute(sa.text("LOCK TABLE ohlcv IN EXCLUSIVE MODE"))
        # Anybody on the machine can read command lines.
        workspace.literal = True
        process = workspace.start(*ARGUMENTS)
        workspace.literal = False
        while workspace.query(WAITING, role=ROLE) == [0]:
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        seen = command_lines() + api(workspace)
        administer(workspace.database_url, f"ALTER ROLE {ROLE} PASSWORD 'another'")
        kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = :role"
        administer(workspace.database_url, kill, role=ROLE)
    out, err = process.communicate(timeout=200)
    administer(workspace.database_url, f"ALTER ROLE {ROLE} PASSWORD '{PASSWORD}'")
    return Finished(process.returncode, out, err), seen


def test_a_password_shows_nowhere_whatever_fails(guarded: Workspace) -> None:
    said: dict[str, str] = {}

    def say(name: str, arguments: tuple[str, ...]) -> int:
        done = guarded.command(*arguments)
        said[name] = done.stdout + done.stderr
        return done.returncode

    assert say("up", ("up",)) == 0
    assert say("psql", ("psql", "-XAtc", "SELECT 1")) == 0
    guarded.environment["DATABASE_URL"] = with_password(guarded, f"wrong-{PASSWORD}")
    refused = guarded.run(*ARGUMENTS, services=False)
    said["wrong password"] = f"{refused}"
    assert refused.code == 35, refused
    assert "password authentication failed" in refused.err
    for command in ("up", "status", "plan", "psql"):
        say(f"{command}, wrong password", (command, *(["-wc", "SELECT 1"] if command == "psql" else [])))
    guarded.environment["DATABASE_URL"] = with_password(guarded, PASSWORD)

    gone, said["in mid-run"] = run_that_waits(guarded)
    said["gone in mid-run"] = f"{gone}"
    assert gone.code != 0
    assert "password authentication failed" in gone.err
    said["luigid, of failures"] = api(guarded)
    assert "InsertOhlcv" in said["luigid, of failures"]

    # A type that nothing here expects: what follows is a failure that nobody has a name for.
    administer(guarded.database_url, "ALTER TABLE securities ALTER history_from TYPE text")
    unforeseen = guarded.run(*ARGUMENTS, "--full")
    said["unforeseen"] = f"{unforeseen}"
    assert "Traceback" in unforeseen.err + files(guarded), unforeseen
    administer(guarded.database_url, "ALTER TABLE securities ALTER history_from TYPE date USING history_from::date")

    whole = guarded.run(*ARGUMENTS)
    said["whole"] = f"{whole}"
    assert whole.code == 0, whole
    for command in ("status", "report", "plan"):
        assert say(command, (command,)) == 0

    said |= {"luigid": api(guarded), "processes": command_lines(), "files": files(guarded), "tables": rows(guarded)}
    assert "report.html" in said["files"]
    assert [name for name, text in said.items() if PASSWORD in text] == []


@pytest.mark.parametrize("way", ["file", "PGPASSWORD", "pgpass"])
def test_a_password_may_come_from_where_libpq_takes_it_and_from_a_file(guarded: Workspace, way: str) -> None:
    without = with_password(guarded, PASSWORD).replace(f":{PASSWORD}@", "@")
    kept = guarded.folder / "kept"
    if way == "file":
        kept.write_text(with_password(guarded, PASSWORD))
        guarded.environment |= {"DATABASE_URL": "", "DATABASE_URL_FILE": str(kept)}
    elif way == "PGPASSWORD":
        guarded.environment |= {"DATABASE_URL": without, "PGPASSWORD": PASSWORD}
    else:
        kept.write_text(f"*:*:*:{ROLE}:{PASSWORD}\n")
        guarded.environment |= {"DATABASE_URL": without, "PGPASSFILE": str(kept)}
    kept.touch()
    kept.chmod(0o600)

    up = guarded.command("up")
    psql = guarded.command("psql", "-XAtwc", "SELECT current_user")

    assert up.returncode == 0, up.stderr
    assert psql.stdout == f"{ROLE}\n", psql.stderr
    assert PASSWORD not in up.stdout + files(guarded)
