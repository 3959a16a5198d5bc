"""What PostgreSQL, or its absence, answers with, and which error of ours that becomes."""

from __future__ import annotations

import logging
import socket
import threading
import traceback
from collections.abc import Callable
from contextlib import closing

import psycopg2
import pytest
import sqlalchemy as sa

from luigi_tasks import YfinanceClient
from luigi_tasks.database import engine as db
from luigi_tasks.database.engine import engine_for, transaction
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.errors import (
    ConfigurationError,
    DatabaseRefused,
    DatabaseUnavailable,
    InvalidData,
    SecuritiesMasterError,
    TerminalError,
    TransientError,
)
from luigi_tasks.targets.marker import MarkerTarget
from tests.workspace import free_port

SECRET = "Tr0ub4dor"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("08006", DatabaseUnavailable),  # connection failure
        ("40001", DatabaseUnavailable),  # serialisation failure
        ("40P01", DatabaseUnavailable),  # deadlock
        ("53300", DatabaseUnavailable),  # too many connections
        ("55P03", DatabaseUnavailable),  # lock not available
        ("57P01", DatabaseUnavailable),  # shut down by its administrator
        ("57P03", DatabaseUnavailable),  # starting up
        ("22003", InvalidData),  # number out of range
        ("22P02", InvalidData),  # not a number
        ("23502", InvalidData),  # NULL
        ("23505", InvalidData),  # there already
        ("23514", InvalidData),  # a check
        ("42501", DatabaseRefused),  # no permission
        ("42P01", DatabaseRefused),  # no such table
        ("53100", DatabaseRefused),  # disk full
        ("25006", DatabaseRefused),  # read-only
        ("XX001", DatabaseRefused),  # a damaged page
    ],
)
def test_the_code_of_the_answer_decides_what_to_do(
    emptied_url: str, code: str, kind: type[SecuritiesMasterError]
) -> None:
    raising = sa.text(f"DO $$ BEGIN RAISE EXCEPTION 'so it is' USING ERRCODE = '{code}'; END $$")

    with (
        pytest.raises(SecuritiesMasterError) as raised,
        transaction(engine_for(emptied_url), "BRK-B") as connection,
    ):
        connection.execute(raising)

    assert type(raised.value) is kind
    assert str(raised.value).startswith("BRK-B: ")
    assert f"({code}: so it is" in str(raised.value)


def test_a_connection_that_broke_is_worth_trying_again_and_then_works(emptied_url: str) -> None:
    with (
        pytest.raises(DatabaseUnavailable),
        transaction(engine_for(emptied_url), "A") as connection,
    ):
        connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))

    assert YfinanceClient(emptied_url).get_tickers() == []


def test_a_connection_that_broke_while_nobody_looked_is_not_even_noticed(
    emptied_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "_FRESH_SECONDS", 0.0)
    client = YfinanceClient(emptied_url)
    client.get_tickers()
    other = sa.create_engine(db.normalised_url(emptied_url), poolclass=sa.NullPool)
    killing = sa.text(
        "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    with other.connect() as connection:
        assert connection.scalar(killing) >= 1

    assert client.get_tickers() == []


def test_a_transaction_that_fails_leaves_nothing_behind(emptied_url: str) -> None:
    def half() -> None:
        with transaction(engine_for(emptied_url), "A") as connection:
            connection.execute(sa.text("INSERT INTO securities (ticker) VALUES ('AAA')"))
            connection.execute(sa.text("INSERT INTO securities (ticker) VALUES ('not one')"))

    with pytest.raises(InvalidData):
        half()

    assert YfinanceClient(emptied_url).get_tickers() == []


def test_any_error_of_the_block_rolls_back_and_is_raised_as_it_is(emptied_url: str) -> None:
    def broken() -> None:
        with transaction(engine_for(emptied_url), "A") as connection:
            connection.execute(sa.text("INSERT INTO securities (ticker) VALUES ('AAA')"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()

    assert YfinanceClient(emptied_url).get_tickers() == []


def test_tables_that_are_not_there_are_not_worth_waiting_for(empty_database_url: str) -> None:
    with pytest.raises(DatabaseRefused, match='relation "securities" does not exist'):
        YfinanceClient(empty_database_url).get_tickers()


def refused_url() -> str:
    return f"postgresql://me:{SECRET}@127.0.0.1:{free_port()}/db"


ABSENT: dict[str, Callable[[], str]] = {
    "nobody listens": refused_url,
    "no such host": lambda: f"postgresql://me:{SECRET}@no-such-host.invalid/db",
    "no such socket": lambda: f"postgresql://me:{SECRET}@/db?host=/nowhere",
    "password among the options": lambda: f"{refused_url().replace(f':{SECRET}', '')}?password={SECRET}",
    "password and user among the options": lambda: f"postgresql:///db?host=/nowhere&user=me&password={SECRET}",
    "an @ in the password": lambda: f"postgresql://me:x@{SECRET}@127.0.0.1:{free_port()}/db",
    "a # in the password": lambda: f"postgresql://me:x#{SECRET}@127.0.0.1:{free_port()}/db",
    "an escaped password": lambda: f"postgresql://me:%40%2F{SECRET}@127.0.0.1:{free_port()}/db",
}


@pytest.mark.parametrize("name", ABSENT)
def test_no_way_of_writing_the_url_shows_the_password(name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    with pytest.raises((DatabaseUnavailable, ConfigurationError)) as raised:
        YfinanceClient(ABSENT[name]()).get_tickers()

    assert SECRET not in str(raised.value)
    assert SECRET not in repr(raised.value)
    assert SECRET not in "".join(traceback.format_exception(raised.value))
    assert SECRET not in caplog.text


def test_a_server_that_hangs_up_is_worth_trying_again() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(DatabaseUnavailable, match="does not answer") as raised:
            YfinanceClient(f"postgresql://me:{SECRET}@127.0.0.1:{listener.getsockname()[1]}/db").get_tickers()
        thread.join()

    assert SECRET not in str(raised.value)
    assert isinstance(raised.value, TransientError)


def test_a_database_that_is_not_there_is_named(emptied_url: str) -> None:
    absent = emptied_url.replace("/used?", "/no_such_one?")

    with pytest.raises(DatabaseRefused, match='database "no_such_one" does not exist'):
        YfinanceClient(absent).get_tickers()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "db",
        f"{SECRET}",
        f"me:{SECRET}@host/db",
        f"postgresql://me:{SECRET}@host:port/db",
        f"sqlite:///{SECRET}.db",
        f"mysql+pymysql://me:{SECRET}@host/db",
        f"http://me:{SECRET}@host/db",
        f"postgresql//me:{SECRET}@host/db",
    ],
)
def test_what_is_no_url_of_postgresql_is_a_configuration_error(url: str) -> None:
    for use in (YfinanceClient, Ledger, db.shown):
        with pytest.raises(ConfigurationError, match="DATABASE_URL: is ") as raised:
            use(url)
        assert SECRET not in str(raised.value)
        assert isinstance(raised.value, TerminalError)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2", "postgresql+psycopg"])
def test_every_usual_spelling_of_the_scheme_is_understood(emptied_url: str, scheme: str) -> None:
    assert YfinanceClient(emptied_url.replace("postgresql", scheme, 1)).get_tickers() == []


def test_a_shown_url_says_where_but_not_the_password() -> None:
    assert db.shown(f"postgres://me:{SECRET}@host:1/db") == "postgresql://me:***@host:1/db"


def test_a_marker_in_a_database_that_is_away_is_neither_there_nor_not() -> None:
    with pytest.raises(DatabaseUnavailable):
        MarkerTarget(refused_url(), "Some_task_1").exists()


def test_a_connection_is_asked_whether_it_is_there_only_after_it_has_lain_idle(
    emptied_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, asked = db.new_engine(emptied_url), list[object]()
    monkeypatch.setattr(engine.dialect, "do_ping", asked.append)

    for idle, pings in ((60.0, 0), (0.0, 1)):
        monkeypatch.setattr(db, "_FRESH_SECONDS", idle)
        for _ in range(2):
            with engine.connect():
                pass
        assert len(asked) == 2 * pings, "the first time it is new" if idle else "each time"
    engine.dispose()


def test_a_server_that_dies_in_mid_statement_is_away_and_has_not_refused(emptied_url: str) -> None:
    """psycopg2 has no code for it, and now and then no better class of error either."""
    engine = engine_for(emptied_url)
    words = "server closed the connection unexpectedly"
    told = sa.exc.DBAPIError.instance(
        "SELECT 1", None, psycopg2.DatabaseError(words), psycopg2.Error, connection_invalidated=True
    )

    assert isinstance(told, sa.exc.DBAPIError)
    assert isinstance(db.as_ours(engine, "A", told), DatabaseUnavailable)
