"""Settings and secrets."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest

from luigi_tasks import settings
from luigi_tasks.errors import SecuritiesMasterError, TerminalError


@pytest.fixture(autouse=True)
def read_anew() -> Iterator[None]:
    settings.load.cache_clear()
    yield
    settings.load.cache_clear()


def test_a_password_does_not_show_in_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:s3cret@host/db")

    loaded = settings.load()

    assert loaded.database_url is not None
    assert loaded.database_url.text == "postgresql://me:s3cret@host/db"
    assert "s3cret" not in f"{loaded} {loaded!r} {loaded.database_url} {loaded.database_url!r}"


def test_an_empty_url_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", " ")

    assert settings.load().database_url is None


def every_error(base: type[SecuritiesMasterError] = SecuritiesMasterError) -> Iterator[type[SecuritiesMasterError]]:
    for error in base.__subclasses__():
        yield error
        yield from every_error(error)


def test_every_error_survives_the_way_between_processes_and_has_a_remedy_in_the_report() -> None:
    from luigi_tasks.report.collect import KINDS

    for kind in every_error():
        error = pickle.loads(pickle.dumps(kind("A thing", "a reason", "A remedy.")))
        assert type(error) is kind
        assert str(error) == "A thing: a reason. A remedy."
        # These never get into a report: the run has not begun, the reason is on record with another task, or it is for
        # who reads prices, which no run does.
        unreported = ("error", "service", "another_run", "step_failed", "adjustment_unknown")
        if kind is not TerminalError and kind.kind not in unreported:
            assert KINDS[kind.kind]
