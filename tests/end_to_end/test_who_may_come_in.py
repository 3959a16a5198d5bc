"""luigid's API is code execution for whoever reaches it, and the embedded PostgreSQL asks for no password."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from luigi_tasks.database import embedded
from tests.conftest import make_bars
from tests.workspace import Workspace

LOOPBACK = {"127.0.0.1", "::1"}


@pytest.fixture
def embedding(workspace: Workspace) -> Iterator[Workspace]:
    """A workspace whose `up` starts a PostgreSQL of its own."""
    workspace.environment["DATABASE_URL"] = ""
    yield workspace
    workspace.command("down")


def listening(process: psutil.Process) -> set[str]:
    """Addresses that a process and those it started listen on, by the kernel's account."""
    family = [process, *process.children(recursive=True)]
    return {
        connection.laddr.ip
        for member in family
        for connection in member.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }


def postmaster(workspace: Workspace) -> psutil.Process:
    return psutil.Process(int((workspace.store / "postgres/postmaster.pid").read_text().splitlines()[0]))


def luigid(workspace: Workspace) -> psutil.Process:
    process = workspace.luigid()
    assert process is not None
    return process


def test_after_up_nothing_listens_where_another_machine_could_reach_it(embedding: Workspace) -> None:
    up = embedding.command("up")

    assert up.returncode == 0, up.stderr
    assert listening(luigid(embedding)) == {"127.0.0.1"}
    assert listening(postmaster(embedding)) == set(), "a Unix socket is all it needs"


def test_no_other_user_of_the_machine_can_open_the_embedded_servers_socket(embedding: Workspace) -> None:
    # Too long a path for a socket: it goes to a folder that all share.
    deep = embedding.folder / ("d" * 60) / ("e" * 60)
    embedding.set("Store", root=str(deep))

    assert embedding.command("up").returncode == 0

    url = embedded.running_url(deep / "postgres", "securities")
    assert url is not None
    socket = Path(url.partition("?host=")[2]) / ".s.PGSQL.5432"
    assert not socket.is_relative_to(deep), "the case that this is about"
    assert stat.S_IMODE(socket.stat().st_mode) == 0o700
    assert embedding.command("status").stdout.startswith("PostgreSQL: answers")


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "0", "", "203.0.113.7", "[2001:db8::7]", "[::ffff:203.0.113.7]"])
def test_luigid_is_not_started_where_others_reach_it_unless_that_is_said(workspace: Workspace, host: str) -> None:
    workspace.set("core", scheduler_host=host)

    up = workspace.command("up", "--quiet")

    assert up.returncode == 1
    assert f"error: scheduler_host {host!r} in luigi.cfg: lets other machines reach luigid" in up.stderr
    assert "allow_public = true in [Luigid]" in up.stderr
    assert len(up.stderr.splitlines()) == 1
    assert workspace.luigid() is None


@pytest.mark.parametrize(
    ("host", "words"),
    [("no-such-host.invalid", "cannot be resolved"), ("::1", "is an IPv6 address without brackets. Write [::1].")],
)
def test_a_host_that_cannot_be_one_is_named(workspace: Workspace, host: str, words: str) -> None:
    workspace.set("core", scheduler_host=host)

    up = workspace.command("up")

    assert up.returncode == 1
    assert f"scheduler_host {host!r} in luigi.cfg: {words}" in up.stderr


def test_luigid_that_is_allowed_to_be_public_is_and_says_so(workspace: Workspace) -> None:
    workspace.set("core", scheduler_host="0.0.0.0")
    workspace.set("Luigid", allow_public="true")

    up = workspace.command("up", "--quiet")

    assert up.returncode == 0, up.stderr
    assert up.stderr.strip() == (
        f"warning: luigid listens on 0.0.0.0, port {workspace.port}, without a password: "
        "whoever reaches it can run code as you"
    )
    assert listening(luigid(workspace)) == {"0.0.0.0"}


@pytest.mark.parametrize(("host", "addresses"), [("[::1]", {"::1"}), ("localhost", LOOPBACK)])
def test_a_run_works_over_every_way_of_writing_this_machine(
    workspace: Workspace, host: str, addresses: set[str]
) -> None:
    if not any(found.address == "::1" for found in psutil.net_if_addrs().get("lo", [])):
        pytest.skip("this machine has no IPv6")
    workspace.set("core", scheduler_host=host)
    workspace.use_files({"AAA": make_bars()})

    run = workspace.run("--date", "2024-03-15", "--years-back", "1")

    assert run.code == 0, run
    found = listening(luigid(workspace))
    assert found
    assert found <= addresses
