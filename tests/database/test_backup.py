"""A restored store is the old one, to the last digit; what is no whole backup changes nothing."""

from __future__ import annotations

import datetime as dt
import json
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from luigi_tasks import YfinanceClient
from luigi_tasks.database import backup, roles
from luigi_tasks.database.engine import create_database, engine_for, normalised_url
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.database.schema import metadata
from luigi_tasks.errors import DatabaseRefused, SecuritiesMasterError, StoreUnwritable
from tests.conftest import make_bars
from tests.workspace import Workspace

ARGUMENTS = ("--date", "2024-03-15", "--years-back", "1")
CRUMB = "cr4mb-of-nobody-else"


def contents(url: str) -> dict[str, list[str]]:
    """{table: its rows, as text}, without the one that is left out."""
    names = [name for name in metadata.tables if name != "provider_access"]
    with engine_for(url).begin() as connection:
        rows = {name: connection.scalars(sa.text(f"SELECT t::text FROM {name} AS t")).all() for name in names}
    return {name: sorted(found) for name, found in rows.items()}


def query(url: str, statement: str) -> list[Any]:
    with engine_for(url).begin() as connection:
        return list(connection.scalars(sa.text(statement)))


def run(url: str, statement: str) -> None:
    with engine_for(url).begin() as connection:
        connection.execute(sa.text(statement))


@pytest.fixture
def filled_url(database_url: str) -> str:
    """URL of a database with bars of two tickers, and text that a careless format would trip over."""
    client = YfinanceClient(database_url)
    for number, ticker in enumerate(("AAA", "^BB")):
        client.insert_security(ticker, ["all", 'a "quoted", \\N\tone\n'])
        client.insert_ohlcv(ticker, make_bars(seed=number))
    client.insert_metadata("AAA", {"longName": "Ünï \\. \\\\ \r\n\t€", "marketCap": 10**30}, as_of=dt.date(2024, 3, 15))
    run(database_url, f"INSERT INTO provider_access (crumb, cookies) VALUES ('{CRUMB}', '{{}}')")
    run(database_url, "UPDATE request_rates SET sent = 77 WHERE kind = 'prices'")
    return database_url


@pytest.fixture
def other_url(postgres_url: str, filled_url: str) -> str:
    """URL of another database, with empty tables."""
    name = f"{normalised_url(filled_url).database}_other"
    create_database(postgres_url, name)
    url = postgres_url.replace("/postgres?", f"/{name}?")
    Ledger(url).migrate()
    return url


def test_a_restored_database_is_the_old_one_and_goes_on(filled_url: str, other_url: str, tmp_path: Path) -> None:
    file = tmp_path / "backup.zip"

    manifest = backup.save(filled_url, file)
    assert backup.restore(other_url, file) == manifest

    assert contents(other_url) == contents(filled_url)
    assert sum(map(len, contents(other_url).values())) > 60
    client = YfinanceClient(other_url)
    client.insert_security("CCC", ["all"])
    assert client.insert_ohlcv("CCC", make_bars(seed=9))["rows_affected"] == 30


def test_an_empty_server_without_tables_is_filled_as_well(
    filled_url: str, empty_database_url: str, postgres_url: str, tmp_path: Path
) -> None:
    create_database(postgres_url, "bare")
    bare = postgres_url.replace("/postgres?", "/bare?")
    backup.save(filled_url, tmp_path / "backup.zip")

    backup.restore(bare, tmp_path / "backup.zip")

    assert contents(bare) == contents(filled_url)


def test_what_is_there_is_replaced_only_if_that_is_said(filled_url: str, other_url: str, tmp_path: Path) -> None:
    file = tmp_path / "backup.zip"
    backup.save(filled_url, file)
    client = YfinanceClient(other_url)
    client.insert_security("ZZZ", ["other"])
    client.insert_ohlcv("ZZZ", make_bars(seed=5))
    before = contents(other_url)

    with pytest.raises(DatabaseRefused, match=r"is not empty.* add --replace"):
        backup.restore(other_url, file)
    assert contents(other_url) == before

    backup.restore(other_url, file, replace=True)
    assert contents(other_url) == contents(filled_url)


def rewritten(file: Path, change: Callable[[dict[str, bytes]], object]) -> None:
    """The backup with its members changed, and every check sum right."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def with_manifest(**values: object) -> Callable[[Path], None]:
    def change(members: dict[str, bytes]) -> None:
        members["manifest.json"] = json.dumps(json.loads(members["manifest.json"]) | values).encode()

    return lambda file: rewritten(file, change)


def damaged(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 0xFF
    file.write_bytes(content)


def replaced(name: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    return lambda file: rewritten(file, lambda members: members.update({name: members[name].replace(old, new, 1)}))


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "not there": (Path.unlink, "cannot be read (No such file or directory)"),
    "empty": (lambda file: file.write_bytes(b""), "is not a whole backup"),
    "a text": (lambda file: file.write_text("-- PostgreSQL database dump"), "is not a whole backup"),
    "cut": (lambda file: file.write_bytes(file.read_bytes()[:-200]), "is not a whole backup"),
    "one bit": (damaged, "is not a whole backup"),
    "without a table": (
        lambda file: rewritten(file, lambda members: members.pop("ohlcv.tsv")),
        "is not a whole backup",
    ),
    "without a manifest": (
        lambda file: rewritten(file, lambda members: members.pop("manifest.json")),
        "is not a whole",
    ),
    "a manifest of another sort": (
        lambda file: rewritten(file, lambda members: members.update({"manifest.json": b"[]"})),
        "is not a whole backup",
    ),
    "a later schema": (with_manifest(revision="9999"), "is of schema 9999, which this version of the project does not"),
    "a later format": (with_manifest(format=2), "which this version of the project does not know"),
    "another schema": (with_manifest(revision="0001"), "its tables are not those of schema 0001"),
    "a row too few": (replaced("ohlcv.tsv", b"\n", b"\n\\.\n"), "has not all rows of ohlcv"),
    "a bar that cannot be": (replaced("ohlcv.tsv", b"\t0\t0\t", b"\t-1\t0\t"), "ohlcv_dividends_check"),
    "not a number": (replaced("ohlcv.tsv", b"\t0\t0\t", b"\tx\t0\t"), "invalid input syntax"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_whole_backup_changes_nothing(name: str, filled_url: str, other_url: str, tmp_path: Path) -> None:
    file = tmp_path / "backup.zip"
    backup.save(filled_url, file)
    spoil, words = BROKEN[name]
    spoil(file)
    YfinanceClient(other_url).insert_security("ZZZ", ["other"])
    before = contents(other_url)

    with pytest.raises(SecuritiesMasterError) as raised:
        backup.restore(other_url, file, replace=True)

    assert words in str(raised.value)
    assert "backup.zip" in str(raised.value)
    assert contents(other_url) == before
    assert Ledger(other_url).latest_run_id() is None, "the tables are of this version still"


def test_a_backup_is_of_one_moment_and_holds_up_nobody(filled_url: str, other_url: str, tmp_path: Path) -> None:
    file = tmp_path / "backup.zip"
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with engine_for(filled_url).connect() as connection:
        # The first table that is copied: the others come after what is written meanwhile.
        connection.execute(sa.text("LOCK TABLE absences IN ACCESS EXCLUSIVE MODE"))
        thread = threading.Thread(target=backup.save, args=(filled_url, file))
        thread.start()
        while query(filled_url, waiting) == [0]:
            assert thread.is_alive()
        before = contents_of_others(filled_url)
        Ledger(filled_url).begin_run("later", "RunAll", {})
    thread.join()

    backup.restore(other_url, file)

    assert contents_of_others(other_url) == before
    assert Ledger(filled_url).latest_run_id() == "later"


def contents_of_others(url: str) -> dict[str, list[str]]:
    with engine_for(url).begin() as connection:
        return {
            name: sorted(connection.scalars(sa.text(f"SELECT t::text FROM {name} AS t")))
            for name in ("runs", "securities", "ohlcv")
        }


def test_who_only_reads_can_back_up_and_takes_no_session_along(filled_url: str, tmp_path: Path) -> None:
    roles.grant(filled_url, "backup_writer", "backup_reader")
    run(filled_url, "ALTER ROLE backup_reader LOGIN")
    file = tmp_path / "backup.zip"

    backup.save(filled_url.replace("postgres:@", "backup_reader@"), file)

    with zipfile.ZipFile(file) as archive:
        everything = b"".join(archive.read(name) for name in archive.namelist())
    assert CRUMB.encode() not in everything
    assert b"AAA" in everything


def test_a_backup_that_cannot_be_written_leaves_the_one_before(filled_url: str, tmp_path: Path) -> None:
    file = tmp_path / "backup.zip"
    backup.save(filled_url, file)
    kept = file.read_bytes()
    run(filled_url, "ALTER TABLE runs RENAME TO no_more")
    run(filled_url, "CREATE VIEW runs AS SELECT 1 / 0 AS it")

    with pytest.raises(StoreUnwritable, match=r"nowhere/backup.zip: cannot be written"):
        backup.save(filled_url, tmp_path / "nowhere/backup.zip")

    assert file.read_bytes() == kept
    assert [path.name for path in tmp_path.iterdir()] == ["backup.zip"]


def test_a_run_on_a_restored_store_has_nothing_to_do_though_no_file_is_there(
    workspace: Workspace, postgres_url: str
) -> None:
    workspace.use_files({"AAA": make_bars(seed=1), "BBB": make_bars(seed=2)})
    assert workspace.run(*ARGUMENTS).code == 0
    file = workspace.folder / "backup.zip"
    made = workspace.command("backup", str(file))
    kept, name = contents(workspace.database_url), f"{normalised_url(workspace.database_url).database}_again"
    create_database(postgres_url, name)
    workspace.database_url = postgres_url.replace("/postgres?", f"/{name}?")
    workspace.set("Store", root=str(workspace.folder / "elsewhere"))

    restored = workspace.command("restore", str(file))
    assert made.returncode == restored.returncode == 0, made.stderr + restored.stderr
    assert contents(workspace.database_url) == kept
    again = workspace.run(*ARGUMENTS)

    assert "2 securities, 60 bars" in made.stdout
    assert restored.stdout.startswith(made.stdout)
    assert again.code == 0, again
    assert "Nothing to do" in again.out
    assert not list((workspace.folder / "elsewhere/store").rglob("*.parquet"))
    refused = workspace.command("restore", str(file))
    assert refused.returncode == 1
    assert "error: the database: is not empty" in refused.stderr
