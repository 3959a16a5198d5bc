"""Settings and secrets."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from luigi_tasks import settings
from luigi_tasks.errors import ConfigurationError, SecuritiesMasterError, TerminalError


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


@pytest.fixture
def url_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with a URL in it, which DATABASE_URL_FILE names."""
    path = tmp_path / "url"
    path.write_text("postgresql://me:s3cret@host/db\n")
    path.chmod(0o600)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("DATABASE_URL_FILE", str(path))
    return path


def test_the_url_may_stand_in_a_file_that_is_closed_to_others(url_file: Path) -> None:
    loaded = settings.load()

    assert loaded.database_url == settings.Secret("postgresql://me:s3cret@host/db")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610, 0o777])
def test_a_file_that_is_open_to_others_is_refused(url_file: Path, mode: int) -> None:
    url_file.chmod(mode)

    with pytest.raises(ConfigurationError, match=rf"url: is open to others \(mode {mode:o}\). Close it: chmod 600.$"):
        settings.load()


def test_a_file_of_another_user_is_refused(url_file: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(url_file, 12345, -1)

    with pytest.raises(ConfigurationError, match="url: belongs to another user"):
        settings.load()


@pytest.mark.parametrize(
    ("content", "words"), [(b"\n", "is empty"), (b"\xff\xfes3cret", "cannot be read"), (None, "No such")]
)
def test_a_file_without_a_url_is_named_but_not_shown(url_file: Path, content: bytes | None, words: str) -> None:
    if content is None:
        url_file.unlink()
    else:
        url_file.write_bytes(content)

    with pytest.raises(ConfigurationError, match=words) as raised:
        settings.load()

    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


def test_two_urls_are_one_too_many(url_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me@host/db")

    with pytest.raises(ConfigurationError, match="are both set"):
        settings.load()


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
