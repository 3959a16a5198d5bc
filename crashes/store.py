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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import psutil
import pyarrow.parquet as pq

from crashes.days import FIRST, TICKERS, served
from luigi_tasks.database import backup, embedded
from luigi_tasks.database.schema import securities
from tests.workspace import Finished, Workspace, stored_columns
from tests.yahoo.server import LoopbackYahoo

Tables: TypeAlias = dict[str, list[Any]]
DISK_BYTES = 600 * 2**20

_CLOCK = struct.Struct("=q")
_ENDS_SECONDS = 180
_GONE_SECONDS = 15

_SECURITIES = ("ticker", *(column.name for column in stored_columns(securities)))
# What company data says of a security's row; all else there is of its bars.
_OF_COMPANY = ("company_as_of", "numbers_as_of")
# What is written in one transaction with the marker of a ticker's step, by the tables' names.
_OF_ONE_TRANSACTION = {
    "InsertOhlcv": ("securities", "ohlcv", "ohlcv_revisions", "quarantined_bars", "missing_sessions"),
    "InsertMetadata": ("securities", "security_metadata"),
}
# How many tickers' bars are stored, and whether there is a transaction that has written and not yet committed more.
_STORING = """
    SELECT (SELECT count(*) FROM task_markers WHERE task_family = 'InsertOhlcv' AND as_of = %s),
        EXISTS (SELECT FROM pg_locks WHERE mode = 'RowExclusiveLock'
            AND relation IN ('ohlcv'::regclass, 'ohlcv_revisions'::regclass))
"""
_LEFT_BEHIND = """
    SELECT pid, state, query FROM pg_stat_activity
    WHERE application_name LIKE 'luigi_tasks %' AND pid <> pg_backend_pid() AND state <> 'idle'
"""


class Violation(AssertionError):
    """Something that must hold does not."""


@dataclass(frozen=True)
class Day:
    """A day that runs are struck at: what an undisturbed run takes, finds and leaves behind."""

    date: str
    seconds: float
    before: Tables
    after: Tables


class Store:
    """One store with an embedded server of its own, filled from a Yahoo on loopback.

    Its disk and its clock are its own, too, where a disk may be mounted and a C compiler is there.
    """

    def __init__(self, folder: Path, yahoo: LoopbackYahoo) -> None:
        self.workspace = Workspace(folder, "")
        # What is struck is what users run.
        self.workspace.literal = True
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
        self._yahoo, self._folder, self.date = yahoo, folder, FIRST
        self.workspace.universe.write_text(f"groupings:\n  all: {{tickers: [{', '.join(TICKERS)}]}}\n")
        self.workspace.set("Yahoo", prices_per_minute="0", company_per_minute="0", first_pause="0.2", longest_pause="1")
        self.workspace.set("Groups", size="4")
        # A process that is stopped costs what the steps of its ticker may take together, and this patience.
        self.workspace.set("Yahoo", patience="10", outage_patience="10")
        for family in ("RegisterSecurity", "DownloadOhlcv", "ValidateOhlcv", "InsertOhlcv"):
            self.workspace.set(family, time_limit="5")
        for family in ("DownloadMetadata", "InsertMetadata"):
            self.workspace.set(family, time_limit="8")
        for family in ("GetTickers", "ValidateTickers", "RecordUniverse", "CheckSource", "RunAll", "TickerGroup"):
            self.workspace.set(family, time_limit="20")
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

    def keep(self, date: str) -> None:
        """Let this day begin, and keep what is stored by now for `put_back`."""
        self._begin(date)
        backup.save(self.workspace.database_url, self._backup())

    def put_back(self, date: str) -> None:
        """All is as it was when this day began; but no file is left, as where a store was restored."""
        self._begin(date)
        backup.restore(self.workspace.database_url, self._backup(), replace=True)
        subprocess.run(["rm", "-rf", str(self.var / "store"), str(self.var / "reports")], check=True)

    def start(self) -> subprocess.Popen[str]:
        return self.workspace.start("--date", self.date, "--years-back", "2")

    def wait_for_storing(self, run: subprocess.Popen[str], tickers: int) -> None:
        """Until a ticker's bars are being stored, and those of so many are; or until the run has ended."""
        with contextlib.closing(self._connect()) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            while run.poll() is None:
                cursor.execute(_STORING, (self.date,))
                stored, storing = cursor.fetchone()
                if storing and stored >= tickers:
                    return
                time.sleep(0.002)

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
        """Tickers whose bars of this day need not be asked for again: they are in a file, or in the table."""
        files = (path for path in self._targets() if {"raw_bars", f"as_of={self.date}"} <= set(path.parts))
        return {path.stem for path in files} | self._done("InsertOhlcv")

    def asked_again(self, tickers: set[str]) -> list[str]:
        """Those of these tickers whose bars were asked for since `forget_requests`."""
        return sorted(ticker for ticker in tickers if self._yahoo.count("chart", ticker))

    def forget_requests(self) -> None:
        self._yahoo.forget_requests()

    def tables(self) -> Tables:
        return self.workspace.tables()

    def markers(self) -> dict[str, str]:
        """{task id: the run that wrote it, and when}."""
        rows = self._query("SELECT task_id, run_id || ' ' || done_at FROM task_markers WHERE ticker IS NOT NULL")
        return dict(rows)

    def check(self, day: Day) -> None:
        """What must hold at any moment of this day. Raises Violation."""
        deadline = time.monotonic() + _GONE_SECONDS
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        if left:
            raise Violation(f"processes outlive their run: {[process.cmdline()[:4] for process in left]}")
        while (behind := self._query(_LEFT_BEHIND)) and time.monotonic() < deadline:
            time.sleep(0.05)
        if behind:
            raise Violation(f"sessions are left behind: {behind[:5]}")
        self._check_tickers(day)
        for path in self._targets():
            try:
                pq.read_table(path) if path.suffix == ".parquet" else json.loads(path.read_text())
            except (OSError, ValueError) as error:
                raise Violation(f"{path} is there, and is not whole: {error}") from error

    def _check_tickers(self, day: Day) -> None:
        """A ticker is as it was before the day where it has no marker of it, and else as after: nothing in between."""
        now = self.tables()
        if unregistered := self._done("RegisterSecurity") - {row[0] for row in now["securities"]}:
            raise Violation(f"have a marker, and are not registered: {sorted(unregistered)}")
        for family, names in _OF_ONE_TRANSACTION.items():
            done = self._done(family)
            for ticker in TICKERS:
                wanted = day.after if ticker in done else day.before
                differing = [
                    name for name in names if _rows(now, family, name, ticker) != _rows(wanted, family, name, ticker)
                ]
                if differing:
                    with_marker = "with" if ticker in done else "without"
                    raise Violation(f"{ticker} is {with_marker} the marker of {family}, unlike its {differing}")

    def _done(self, family: str) -> set[str]:
        """Tickers that have the marker of a step, as of this day."""
        of_day = "SELECT ticker FROM task_markers WHERE task_family = %s AND as_of = %s"
        return {ticker for (ticker,) in self._query(of_day, family, self.date)}

    def _begin(self, date: str) -> None:
        self.date = date
        for ticker, bars in served(date).items():
            self._yahoo.add(ticker, bars, info={"sector": f"S{ticker}"})

    def _backup(self) -> Path:
        return self._folder / f"before-{self.date}.zip"

    def _targets(self) -> Iterator[Path]:
        for folder, _, names in os.walk(self.var / "store"):
            if Path(folder).name != ".parts":
                yield from (Path(folder) / name for name in names if name.endswith((".parquet", ".json")))

    def _connect(self) -> Any:
        import psycopg2

        return psycopg2.connect(self.workspace.database_url)

    def _query(self, statement: str, *values: str) -> list[Any]:
        # A connection each: the server it was made to may be dead.
        with contextlib.closing(self._connect()) as connection, connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())


def _rows(tables: Tables, family: str, name: str, ticker: str) -> list[Any]:
    """What a table has of a ticker that this step writes. To be registered is no part of it."""
    of_it = [row for row in tables[name] if row[0] == ticker]
    if name != "securities":
        return of_it
    of_company = family == "InsertMetadata"
    kept = [at for at, column in enumerate(_SECURITIES) if at and (column in _OF_COMPANY) == of_company]
    return [row for row in (tuple(row[at] for at in kept) for row in of_it) if any(row)]
