"""A place of its own for runs of the real `luigi` command: settings, store, luigid, database."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import pandas as pd
import psutil
import sqlalchemy as sa

from luigi_tasks.database.engine import engine_for
from luigi_tasks.database.schema import (
    missing_sessions,
    ohlcv,
    ohlcv_revisions,
    quarantined_bars,
    securities,
    security_groupings,
    security_metadata,
)
from tests.prefork import Forked

REPOSITORY = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
DATA = (
    securities,
    security_groupings,
    ohlcv,
    ohlcv_revisions,
    quarantined_bars,
    missing_sessions,
    security_metadata,
)


def _ports() -> Iterator[int]:
    """Ports that the kernel gives to no outgoing connection, other ones in each worker of pytest-xdist, each once."""
    try:
        low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    except FileNotFoundError:
        low, high = 32_768, 65_535
    # Not below 11,000: Chromium opens no page on some of those.
    outside = [port for port in range(11_000, 65_536) if not low <= port <= high] or list(range(11_000, 65_536))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    mine = outside[worker :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]
    # Another pytest on this machine shall not go through them in the same order.
    random.Random().shuffle(mine)
    return iter(mine)


_PORTS = _ports()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, nor is given by the kernel to somebody before it is bound."""
    for port in _PORTS:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("every port outside the kernel's own range is taken or was handed out before")


class Workspace:
    """Runs `luigi` and the commands of `run.sh` on a store in `folder` and on one database."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.database_url = database_url
        self.port = free_port()
        self.overlay = folder / "overlay.cfg"
        self.universe = folder / "universe.yaml"
        self.environment: dict[str, str] = {}
        # Whether each program is a new process, with the command line that it is given, which takes seconds longer.
        self.literal = False
        self.sections: dict[str, dict[str, str]] = {
            "core": {
                "scheduler_port": str(self.port),
                "rpc_retry_attempts": "3",
            },
            # A run that does not end by itself when nothing is left to do does not end in time.
            "worker": {"max_keep_alive_idle_duration": "1 hour"},
            "Store": {"root": str(folder / "var")},
            "Universe": {"file": str(self.universe)},
            # Pages that few tests look at; see `with_data_docs`.
            "Quality": {"docs_seconds": "0"},
            "Retry": {"first_wait": "0.05", "longest_wait": "0.2"},
        }
        self.universe.write_text("groupings:\n  all: {tickers: [AAA, BBB, CCC]}\n")

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not by `down`: luigid takes its time to end.
        if luigid := self.luigid():
            luigid.kill()
            luigid.wait()

    @property
    def store(self) -> Path:
        return self.folder / "var"

    def set(self, section: str, **values: str) -> None:
        """Lay settings over luigi.cfg."""
        self.sections.setdefault(section, {}).update(values)

    def with_data_docs(self) -> None:
        """Have runs make Data Docs, as they do by default."""
        self.set("Quality", docs_seconds="30")

    def use_files(self, frames: dict[str, pd.DataFrame]) -> Path:
        """Make {ticker: bars} the source, as one CSV file a ticker, and the universe."""
        folder = self.folder / "prices"
        folder.mkdir(exist_ok=True)
        for ticker, frame in frames.items():
            frame.to_csv(folder / f"{ticker}.csv", index=False)
        self.set("Market", source="files", name="test", path=str(folder))
        self.universe.write_text(f"groupings:\n  all: {{tickers: [{', '.join(frames)}]}}\n")
        return folder

    def env(self) -> dict[str, str]:
        lines = [
            f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in values.items()) for name, values in self.sections.items()
        ]
        self.overlay.write_text("\n".join(lines))
        inherited = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        return {
            **inherited,
            "LUIGI_CONFIG_PATH": str(self.overlay),
            "DATABASE_URL": self.database_url,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "GX_ANALYTICS_ENABLED": "false",
            **self.environment,
        }

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of `run.sh`, such as up or status."""
        return self.execute(str(BIN / "python"), "-m", "luigi_tasks.cli", *arguments)

    def execute(self, *program: str) -> subprocess.CompletedProcess[str]:
        """A program of `luigi` or Python, to its end."""
        with self._begin([*program]) as process:
            try:
                out, err = process.communicate(timeout=240)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(program, process.returncode, out, err)

    def python(self, script: str) -> subprocess.CompletedProcess[str]:
        """A program of one line."""
        program = [str(BIN / "python"), "-c", script]
        return subprocess.run(program, cwd=REPOSITORY, env=self.env(), capture_output=True, text=True, timeout=240)

    def program(self, *arguments: str, task: str = "RunAll") -> list[str]:
        """The literal command of the README, for another task, too."""
        return [str(BIN / "luigi"), "--module", "luigi_tasks", task, "--workers", "20", *arguments]

    def start(self, *arguments: str, task: str = "RunAll") -> subprocess.Popen[str]:
        """Start `luigi --module luigi_tasks TASK …` with 20 workers in a process group of its own."""
        return self._begin(self.program(*arguments, task=task))

    def _begin(self, program: list[str]) -> subprocess.Popen[str]:
        environment = self.env()
        kind = Forked if not self.literal and Forked.takes(environment) else subprocess.Popen
        return kind(
            program,
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def luigid(self) -> psutil.Process | None:
        """Its process, if it has been started."""
        try:
            return psutil.Process(int((self.store / "luigid" / "pid").read_text()))
        except (FileNotFoundError, psutil.NoSuchProcess):
            return None

    def run(self, *arguments: str, task: str = "RunAll", services: bool = True) -> Finished:
        """Run `luigi --module luigi_tasks TASK …` to its end, with luigid started before."""
        if services and self.luigid() is None:
            up = self.command("up", "--quiet")
            assert up.returncode == 0, up.stderr
        process = self.start(*arguments, task=task)
        try:
            out, err = process.communicate(timeout=240)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(f"the run did not end\n{out}\n{err}") from None
        return Finished(process.returncode, out, err)

    def query(self, statement: str, **parameters: Any) -> list[Any]:
        """Rows of a query; the one column's values where there is one column."""
        with engine_for(self.database_url).begin() as connection:
            rows = connection.execute(sa.text(statement), parameters).all()
        return [row[0] if len(row) == 1 else tuple(row) for row in rows]

    def tables(self) -> dict[str, list[Any]]:
        """{table of data: its rows}, the ticker first in each, without ids and times: what runs are to bring about."""
        found = {}
        with engine_for(self.database_url).begin() as connection:
            for table in DATA:
                columns = [securities.c.ticker, *stored_columns(table)]
                query = sa.select(*columns).order_by(*columns)
                if table is not securities:
                    query = query.join_from(table, securities, table.c.security_id == securities.c.security_id)
                found[table.name] = [tuple(row) for row in connection.execute(query)]
        return found


def stored_columns(table: sa.Table) -> list[sa.Column[Any]]:
    """Those that are data: neither names and numbers of the row, nor times."""
    names = ("ticker", "security_id", "revision_id")
    return [column for column in table.c if column.name not in names and not isinstance(column.type, sa.DateTime)]


class Finished:
    """How a run ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __repr__(self) -> str:
        return f"exit code {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"
