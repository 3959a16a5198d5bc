"""Every bar has its security, whoever writes, deletes or moves which of the two, and whoever comes first."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from luigi_tasks.database.engine import engine_for

BARS = "INSERT INTO ohlcv SELECT {security}, day, 1, 1, 1, 1, NULL, 1, 0, 0, day FROM generate_series({days}) AS day"
DAYS = "date '2024-01-01', '2024-01-05', '1 day'"
WAITS = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"


def bars(security: str) -> sa.TextClause:
    return sa.text(BARS.format(security=security, days=DAYS))


@pytest.fixture
def engine(emptied_url: str) -> sa.Engine:
    made = engine_for(emptied_url)
    with made.begin() as connection:
        connection.execute(sa.text("INSERT INTO securities (ticker) VALUES ('AAA'), ('BBB')"))
    return made


def ids(engine: sa.Engine) -> dict[str, int]:
    with engine.connect() as connection:
        return {row[0]: row[1] for row in connection.execute(sa.text("SELECT ticker, security_id FROM securities"))}


def strays(engine: sa.Engine) -> int:
    query = "SELECT count(*) FROM ohlcv WHERE security_id NOT IN (SELECT security_id FROM securities)"
    with engine.connect() as connection:
        return int(connection.scalar(sa.text(query)) or 0)


def stored(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.scalar(sa.text("SELECT count(*) FROM ohlcv")) or 0)


def copied(connection: sa.Connection, security_id: int) -> None:
    rows = "".join(f"{security_id},2024-01-0{day},1,1,1,1,1,0,0,2024-01-0{day}\n" for day in range(1, 4))
    names = "security_id, date, open, high, low, close, volume, dividends, stock_splits, as_of"
    cursor: Any = connection.connection.cursor()
    cursor.copy_expert(f"COPY ohlcv ({names}) FROM STDIN (FORMAT csv)", io.StringIO(rows))


def test_bars_of_no_security_are_refused_by_name(engine: sa.Engine) -> None:
    with engine.connect() as connection, pytest.raises(sa.exc.IntegrityError, match=r"security_id = 99\b") as caught:
        connection.execute(bars("99"))
    assert caught.value.orig.pgcode == "23503", "as of a foreign key"  # type: ignore[union-attr]

    with engine.connect() as connection, pytest.raises(Exception, match="ohlcv_require_securities"):
        copied(connection, -1)

    assert stored(engine) == 0


def test_one_stray_among_many_refuses_them_all(engine: sa.Engine) -> None:
    many = "SELECT security_id FROM securities UNION ALL SELECT 99"
    with engine.connect() as connection, pytest.raises(sa.exc.IntegrityError, match=r"security_id = 99\b"):
        connection.execute(sa.text(BARS.format(security="s.security_id", days=DAYS) + f" CROSS JOIN ({many}) AS s"))

    assert stored(engine) == 0


def test_bars_of_several_securities_in_one_statement_are_stored(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(sa.text(BARS.format(security="security_id", days=DAYS) + " CROSS JOIN securities"))

    assert stored(engine) == 10


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ohlcv SET security_id = security_id + 1000",
        "UPDATE ohlcv SET security_id = (SELECT security_id FROM securities WHERE ticker = 'BBB')",
        "UPDATE securities SET security_id = DEFAULT",
    ],
)
def test_bars_stay_with_their_security(engine: sa.Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(bars("(SELECT security_id FROM securities WHERE ticker = 'AAA')"))

    with engine.connect() as connection, pytest.raises(sa.exc.IntegrityError, match="stays with its security"):
        connection.execute(sa.text(statement))


def test_an_id_that_is_set_to_itself_is_no_move(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(bars(str(ids(engine)["AAA"])))
        connection.execute(sa.text("UPDATE ohlcv SET security_id = security_id, volume = 2"))

    assert stored(engine) == 5


def test_all_bars_go_with_all_securities(engine: sa.Engine) -> None:
    with engine.begin() as connection:
        connection.execute(bars(str(ids(engine)["AAA"])))
        connection.execute(sa.text("TRUNCATE securities CASCADE"))

    assert stored(engine) == 0


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_deletion_that_might_not_see_all_bars_is_refused(engine: sa.Engine, level: str) -> None:
    with engine.connect().execution_options(isolation_level=level) as connection:
        with pytest.raises(sa.exc.NotSupportedError, match="READ COMMITTED"):
            connection.execute(sa.text("DELETE FROM securities"))
        connection.rollback()


@contextmanager
def in_turn(
    engine: sa.Engine, first: Callable[[sa.Connection], Any], second: Callable[[sa.Connection], Any]
) -> Iterator[tuple[sa.Connection, list[str]]]:
    """`first` in a transaction that the block ends, while `second` waits for it in another one; then what `second`
    came to: a word in the list, `stored` or the class of its error."""
    came_to: list[str] = []

    def other() -> None:
        try:
            with engine.begin() as connection:
                second(connection)
        except sa.exc.DBAPIError as error:
            came_to.append(type(error).__name__)
        else:
            came_to.append("done")

    thread = threading.Thread(target=other)
    with engine.connect() as connection, engine.connect() as watching:
        first(connection)
        thread.start()
        while thread.is_alive() and not watching.scalar(sa.text(WAITS)):
            watching.rollback()
        assert thread.is_alive(), "the second one did not wait for the first"
        yield connection, came_to
        thread.join(30)


def delete(connection: sa.Connection) -> None:
    connection.execute(sa.text("DELETE FROM securities WHERE ticker = 'AAA'"))


def test_a_deletion_waits_for_bars_that_are_not_committed_and_takes_them_along(engine: sa.Engine) -> None:
    security = str(ids(engine)["AAA"])
    with in_turn(engine, lambda connection: connection.execute(bars(security)), delete) as (storing, came_to):
        storing.commit()

    assert came_to == ["done"]
    assert (stored(engine), strays(engine), list(ids(engine))) == (0, 0, ["BBB"])


def test_bars_wait_for_a_deletion_and_are_refused_after_it(engine: sa.Engine) -> None:
    security = str(ids(engine)["AAA"])
    with in_turn(engine, delete, lambda connection: connection.execute(bars(security))) as (deleting, came_to):
        deleting.commit()

    assert came_to == ["IntegrityError"]
    assert stored(engine) == 0


def test_bars_wait_for_a_deletion_and_are_stored_if_it_is_taken_back(engine: sa.Engine) -> None:
    security = str(ids(engine)["AAA"])
    with in_turn(engine, delete, lambda connection: connection.execute(bars(security))) as (deleting, came_to):
        deleting.rollback()

    assert came_to == ["done"]
    assert (stored(engine), strays(engine)) == (5, 0)


def test_two_who_store_bars_of_one_security_do_not_wait_for_each_other(engine: sa.Engine) -> None:
    security = str(ids(engine)["AAA"])
    with engine.connect() as one, engine.connect() as other:
        one.execute(bars(security))
        other.execute(sa.text("SET LOCAL lock_timeout = '5s'"))
        other.execute(sa.text(BARS.format(security=security, days="date '2025-01-01', '2025-01-05', '1 day'")))
        other.commit()
        one.commit()

    assert stored(engine) == 10
