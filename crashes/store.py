"""A store that is run over and over: its processes, its tables, its files, and what must hold of them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from luigi_tasks.database import embedded
from tests.conftest import make_bars
from tests.workspace import Finished, Workspace
from tests.yahoo.server import LoopbackYahoo

TICKERS = [f"T{number:02}" for number in range(16)]
LAST, DAYS = "2024-03-15", 250
ARGUMENTS = ("--date", LAST, "--years-back", "2")
DISK_BYTES = 600 * 2**20

_CLOCK = struct.Struct("=q")
_ENDS_SECONDS = 180
_GONE_SECONDS = 15

# A marker without its data, or data without its marker. A security's bars and its marker are of one transaction.
_UNEQUAL = """
    SELECT 'InsertOhlcv', ticker FROM task_markers WHERE task_family = 'InsertOhlcv' AND ticker NOT IN
        (SELECT ticker FROM ohlcv JOIN securities USING (security_id))
    UNION ALL SELECT 'bars', ticker FROM securities WHERE security_id IN (SELECT security_id FROM ohlcv)
        AND ticker NOT IN (SELECT ticker FROM task_markers WHERE task_family = 'InsertOhlcv')
    UNION ALL SELECT 'InsertMetadata', ticker FROM task_markers WHERE task_family = 'InsertMetadata' AND ticker NOT IN
        (SELECT ticker FROM security_metadata JOIN securities USING (security_id))
    UNION ALL SELECT 'company data', ticker FROM securities
        WHERE security_id IN (SELECT security_id FROM security_metadata)
        AND ticker NOT IN (SELECT ticker FROM task_markers WHERE task_family = 'InsertMetadata')
    UNION ALL SELECT 'RegisterSecurity', ticker FROM task_markers
        WHERE task_family = 'RegisterSecurity' AND ticker NOT IN (SELECT ticker FROM securities)
"""
_CUT = f"""
    SELECT ticker, count(*) FROM ohlcv JOIN securities USING (security_id) GROUP BY ticker HAVING count(*) <> {DAYS}
"""
_LEFT_BEHIND = """
    SELECT pid, state, query FROM pg_stat_activity
    WHERE application_name LIKE 'luigi_tasks %' AND pid <> pg_backend_pid() AND state <> 'idle'
"""


class Violation(AssertionError):
    """Something that must hold does not."""


class Store:
    """One store with an embedded server of its own, filled from a Yahoo on loopback.

    Its disk and its clock are its own, too, where a disk may be mounted and a C compiler is there.
    """

    def __init__(self, folder: Path, yahoo: LoopbackYahoo) -> None:
        self.workspace = Workspace(folder, "")
        self.workspace.environment = {"DATABASE_URL": "", **yahoo.environment()}
        self._clock, library = folder / "clock", folder / "clock.so"
        self._clock.write_bytes(bytes(_CLOCK.size))
        compiler = [
            "cc",
            "-shared",
            "-fPIC",
            "-O2",
            "-o",
            str(library),
            str(Path(__file__).with_name("clock.c")),
            "-ldl",
        ]
        self.own_clock = shutil.which("cc") is not None and subprocess.run(compiler).returncode == 0
        if self.own_clock:
            self.workspace.environment |= {"LD_PRELOAD": str(library), "CRASHES_CLOCK": str(self._clock)}
        self.var = self.workspace.store
        self.var.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(self.var)]
        self.own_disk = subprocess.run(mount, capture_output=True).returncode == 0
        self._yahoo = yahoo
        for seed, name in enumerate(TICKERS):
            yahoo.add(name, make_bars(days=DAYS, seed=seed), info={"sector": f"S{name}"})
        self.workspace.universe.write_text(f"groupings:\n  all: {{tickers: [{', '.join(TICKERS)}]}}\n")
        self.workspace.set("Yahoo", prices_per_minute="0", company_per_minute="0", first_pause="0.2", longest_pause="1")
        self.workspace.set("Batches", size="4")
        self.up()

    @property
    def postgres(self) -> psutil.Process:
        """The server's first process."""
        return psutil.Process(int((self.var / "postgres" / "postmaster.pid").read_text().split()[0]))

    def set_clock(self, seconds: int) -> None:
        """By so many seconds wrong, for all processes at once."""
        with self._clock.open("r+b") as file:
            file.write(_CLOCK.pack(seconds))

    def keep_logs(self, folder: Path) -> Path:
        """Copy what the run, luigid and PostgreSQL have written of themselves; returns where to."""
        shutil.copytree(self.var / "logs", folder, dirs_exist_ok=True)
        for log in (self.var / "luigid" / "luigid.log", self.var / "postgres" / "log"):
            if log.is_file():
                shutil.copy(log, folder / f"{log.parent.name}.txt")
        return folder

    def close(self) -> None:
        self.workspace.command("down")
        self.workspace.__exit__(None, None, None)
        if self.own_disk:
            subprocess.run(["umount", "--lazy", str(self.var)], check=True)

    def up(self) -> None:
        """Start what is not running, as anybody would. Raises Violation if it cannot be."""
        done = self.workspace.command("up", "--quiet")
        if done.returncode:
            raise Violation(f"the services do not start again: {done.stderr}")
        url = embedded.running_url(self.var / "postgres", "securities")
        if url is None:
            raise Violation("the embedded server does not run")
        self.workspace.database_url = url

    def empty(self) -> None:
        """As it was before the first run."""
        tables = "securities, task_markers, task_failures, runs, grouping_listings, absences"
        with contextlib.closing(self._connect()) as connection, connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {tables} CASCADE")
            connection.commit()
        subprocess.run(["rm", "-rf", str(self.var / "store"), str(self.var / "reports")], check=True)

    def start(self) -> subprocess.Popen[str]:
        return self.workspace.start(*ARGUMENTS)

    def run(self) -> Finished:
        """A run that nothing happens to."""
        return self.end(self.start())

    def end(self, process: subprocess.Popen[str]) -> Finished:
        """How the run ended. Raises Violation if it does not end."""
        try:
            out, err = process.communicate(timeout=_ENDS_SECONDS)
        except subprocess.TimeoutExpired:
            for each in self.processes():
                each.kill()
            raise Violation(f"the run did not end within {_ENDS_SECONDS} s") from None
        return Finished(process.returncode, out, err)

    def processes(self) -> list[psutil.Process]:
        """Of the run: the parent and all that came of it, whoever is their parent now."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                mine = process.environ().get("LUIGI_CONFIG_PATH") == str(self.workspace.overlay)
                if mine and process.status() != psutil.STATUS_ZOMBIE and "RunAll" in process.cmdline():
                    found.append(process)
        return found

    def downloaded(self) -> set[str]:
        """Tickers whose bars need not be asked for again: they are in a file, or in the table."""
        files = (path for path in self._targets() if "raw_bars" in path.parts)
        stored = self._query("SELECT ticker FROM task_markers WHERE task_family = 'InsertOhlcv'")
        return {path.stem for path in files} | {ticker for (ticker,) in stored}

    def asked_again(self, tickers: set[str]) -> list[str]:
        """Those of these tickers whose bars were asked for since `forget_requests`."""
        return sorted(ticker for ticker in tickers if self._yahoo.count("chart", ticker))

    def forget_requests(self) -> None:
        self._yahoo.forget_requests()

    def tables(self) -> dict[str, list[Any]]:
        return self.workspace.tables()

    def markers(self) -> dict[str, str]:
        """{task id: the run that wrote it, and when}."""
        rows = self._query("SELECT task_id, run_id || ' ' || done_at FROM task_markers WHERE ticker IS NOT NULL")
        return dict(rows)

    def check(self) -> None:
        """What must hold at any moment. Raises Violation."""
        deadline = time.monotonic() + _GONE_SECONDS
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        if left:
            raise Violation(f"processes outlive their run: {[process.cmdline()[:4] for process in left]}")
        while (behind := self._query(_LEFT_BEHIND)) and time.monotonic() < deadline:
            time.sleep(0.05)
        for what, found in (
            ("sessions are left behind", behind),
            ("markers and data differ", self._query(_UNEQUAL)),
            ("histories are stored in parts", self._query(_CUT)),
        ):
            if found:
                raise Violation(f"{what}: {found[:5]}")
        for path in self._targets():
            try:
                pq.read_table(path) if path.suffix == ".parquet" else json.loads(path.read_text())
            except (OSError, ValueError) as error:
                raise Violation(f"{path} is there, and is not whole: {error}") from error

    def _targets(self) -> Iterator[Path]:
        for folder, _, names in os.walk(self.var / "store"):
            if Path(folder).name != ".parts":
                yield from (Path(folder) / name for name in names if name.endswith((".parquet", ".json")))

    def _connect(self) -> Any:
        import psycopg2

        return psycopg2.connect(self.workspace.database_url)

    def _query(self, statement: str) -> list[Any]:
        # A connection each: the server it was made to may be dead.
        with contextlib.closing(self._connect()) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())
