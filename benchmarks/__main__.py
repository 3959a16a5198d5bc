"""Measures what this project promises of its speed, next to what people do today.

    ./run.sh benchmark [NAME …] [--tickers 500] [--many 5000] [--baseline 50]

Without names, all of them (about half an hour on two cores). Every figure is a ratio, or stands next to what it is
compared with in the same run. With --write, docs/benchmarks.md and docs/benchmarks.svg are made of the latest figures
of each, which are kept in var/benchmarks.json.
"""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import sqlalchemy as sa

from benchmarks import obvious
from benchmarks.run import Bench, Measured
from benchmarks.yahoo import LAST, Server, names
from luigi_tasks import YfinanceClient, bars
from luigi_tasks.database.engine import engine_for
from tests.conftest import make_bars
from tests.workspace import BIN, REPOSITORY

YEARS = 10
LATENCY = 0.2
RATE = 5.0
MEBIBYTE = 2**20
_SHOWN_MILLISECONDS = 0.5
_KEPT = REPOSITORY / "var/benchmarks.json"

_HEAD = """\
# How fast it is

Measured on {today} by `./run.sh benchmark --write`, with {machine}.
Yahoo is a server on loopback that answers after {latency:.0f} ms, and takes its share of the cores.

The *sequential loop* asks yfinance for history and company data, one ticker after another, and stores them, with no
checks. The *obvious Luigi* is six tasks a ticker, all required up front, with its own libraries, Great Expectations
context and database engine in each; also with the libraries imported once, before Luigi forks. Both are in
`benchmarks/`, and run with as many downloads at a time as this project.

![time a ticker](benchmarks.svg)

| benchmark | what | measured | wanted | |
|---|---|---:|---:|---|"""


@dataclass(frozen=True)
class Figure:
    """One line of the result: what was measured, what was wanted of it, and whether it is so."""

    benchmark: str
    what: str
    value: float
    unit: str
    wanted: str = ""
    met: bool | None = None


def scheduling(bench: Bench, given: argparse.Namespace) -> list[Figure]:
    """Tickers of one bar each, from files: what is left is what a ticker costs by itself."""
    walls: dict[int, Measured] = {}
    for count in (1, given.tickers, given.many):
        with bench.workspace() as workspace:
            folder = workspace.folder / "prices"
            folder.mkdir()
            for number, ticker in enumerate(names(count)):
                with (folder / f"{ticker}.csv").open("w", newline="") as file:
                    writer = csv.writer(file)
                    writer.writerow(["date", "open", "high", "low", "close", "volume"])
                    writer.writerow([LAST, 10 + number, 11 + number, 9 + number, 10 + number, 1000])
            workspace.set("Market", source="files", name="benchmark", path=str(folder))
            walls[count] = bench.run_all(workspace, count, 1, None)
            if count == given.many:
                fill(workspace.database_url)
                before = transactions(workspace.database_url)
                again = bench.run_all(workspace, count, 1, None)
                queries = transactions(workspace.database_url) - before
                assert "Nothing to do" in again.output
    start = walls[1].wall
    few, many = ((walls[count].wall - start) / count for count in (given.tickers, given.many))
    ratio = many / few
    return [
        Figure("scheduling", f"a ticker, {given.tickers:,} of them", few * 1000, "ms"),
        Figure("scheduling", f"a ticker, {given.many:,} of them", many * 1000, "ms"),
        Figure("scheduling", f"{given.many:,} against {given.tickers:,}", ratio, "×", "≤ 1.2", ratio <= 1.2),
        Figure(
            "nothing to do",
            f"{given.many:,} finished tickers of {YEARS} years",
            again.wall,
            "s",
            "≤ 3",
            again.wall <= 3,
        ),
        # Every other one asks whether the connection lives; PostgreSQL's own vacuuming counts as well.
        Figure("nothing to do", "transactions in PostgreSQL", queries, "", "not one a task", queries < given.many / 10),
        Figure("memory", f"{given.many:,} tickers of one bar", walls[given.many].memory / MEBIBYTE, "MiB"),
        Figure("memory", f"luigid, {given.tickers:,} tickers", walls[given.tickers].service_memory / MEBIBYTE, "MiB"),
        Figure("memory", f"luigid, {given.many:,} tickers", walls[given.many].service_memory / MEBIBYTE, "MiB"),
    ]


def limited(bench: Bench, given: argparse.Namespace) -> list[Figure]:
    """The rate is the pace: whatever else is done is done meanwhile."""
    with Server(bench.folder / "limited", given.tickers, YEARS, LATENCY) as server, bench.workspace() as workspace:
        each = str(60 * RATE / 2)
        workspace.set("Yahoo", prices_per_minute=each, company_per_minute=each)
        run = bench.run_all(workspace, given.tickers, YEARS, server)
    ratio = run.wall / (run.requests / RATE)
    return [
        Figure("at a rate limit", f"{run.requests:,} requests at {RATE:.0f} a second", run.wall, "s"),
        Figure("at a rate limit", "wall time against requests / rate", ratio, "×", "≤ 1.10", ratio <= 1.10),
    ]


def unlimited(bench: Bench, given: argparse.Namespace) -> list[Figure]:
    """Without a limit, against a sequential loop and the obvious Luigi design, by the ticker."""
    few = given.baseline
    with Server(bench.folder / "unlimited", given.tickers, YEARS, LATENCY) as server:
        url = bench.database().replace("postgresql:", "postgresql+psycopg2:")
        with engine_for(url).begin() as connection:
            for statement in filter(str.strip, obvious.TABLES.split(";")):
                connection.execute(sa.text(statement))
        tickers = ",".join(names(few))
        environment = {**server.environment, "PYTHONPATH": str(REPOSITORY)}
        loop = bench.measure([str(BIN / "python"), "-m", "benchmarks.loop", tickers, url], environment, server)
        plain, better = (
            obviously(bench, tickers, url, folder, {**environment, "OBVIOUS_IMPORTS": imports}, server)
            for folder, imports in ((bench.folder / "each", "each"), (bench.folder / "once", "once"))
        )
        with bench.workspace() as workspace:
            ours = bench.run_all(workspace, given.tickers, YEARS, server)
    wall, cpu = ours.wall / given.tickers, ours.cpu / given.tickers
    faster, as_luigi, as_better = ((each.wall / few) / wall for each in (loop, plain, better))
    share, of_better = (cpu / (each.cpu / few) for each in (plain, better))
    memory = ours.memory / MEBIBYTE
    return [
        Figure("without a limit", f"a ticker of this project, {given.tickers:,} of them", wall * 1000, "ms"),
        Figure("without a limit", f"a ticker of the sequential loop, {few} of them", loop.wall / few * 1000, "ms"),
        Figure("without a limit", f"a ticker of the obvious Luigi, {few} of them", plain.wall / few * 1000, "ms"),
        Figure("without a limit", "the same, imports before the forks", better.wall / few * 1000, "ms"),
        Figure("without a limit", "faster than the sequential loop", faster, "×", "≥ 4", faster >= 4),
        Figure("without a limit", "faster than the obvious Luigi", as_luigi, "×", "≥ 10", as_luigi >= 10),
        Figure("without a limit", "the same, imports before the forks", as_better, "×"),
        Figure("CPU", "a ticker of this project", cpu * 1000, "ms"),
        Figure("CPU", "a ticker of the sequential loop", loop.cpu / few * 1000, "ms"),
        Figure("CPU", "a ticker of the obvious Luigi", plain.cpu / few * 1000, "ms"),
        Figure("CPU", "the same, imports before the forks", better.cpu / few * 1000, "ms"),
        Figure("CPU", "of the obvious Luigi's", share, "×", "≤ 0.25", share <= 0.25),
        Figure("CPU", "the same, imports before the forks", of_better, "×"),
        Figure("requests", "a ticker of this project", ours.requests / given.tickers, ""),
        Figure("requests", "a ticker of the sequential loop", loop.requests / few, ""),
        Figure("requests", "a ticker of the obvious Luigi", plain.requests / few, ""),
        Figure("memory", f"{given.tickers:,} tickers of {YEARS} years", memory, "MiB", "≤ 1,536", memory <= 1536),
    ]


def obviously(
    bench: Bench, tickers: str, url: str, folder: Path, environment: dict[str, str], server: Server
) -> Measured:
    """The obvious Luigi over these tickers, with its files in the folder."""
    folder.mkdir()
    (folder / "luigi.cfg").write_text("[resources]\nyfinance_api = 8\n")
    program = [str(BIN / "luigi"), "--module", "benchmarks.obvious", "All", "--workers", "20", "--local-scheduler"]
    options = ["--tickers", tickers, "--root", str(folder), "--url", url]
    return bench.measure([*program, *options], environment, server, folder=folder)


def profile(bench: Bench, given: argparse.Namespace) -> list[Figure]:
    """Where a ticker's CPU time goes in the process that does its steps."""
    count = 2 * given.baseline
    with Server(bench.folder / "profile", count, YEARS, 0.0) as server, bench.workspace() as workspace:
        workspace.environment = server.environment
        up = workspace.command("up", "--quiet")
        assert up.returncode == 0, up.stderr
        program = [str(BIN / "python"), "-m", "benchmarks.profiled", str(count)]
        measured = bench.measure(program, {**workspace.env(), "PYTHONPATH": str(REPOSITORY)}, server)
    found: list[tuple[str, float]] = json.loads(measured.output.splitlines()[-1])
    return [Figure("CPU profile", what, each, "ms") for what, each in found if each >= _SHOWN_MILLISECONDS]


def insertion(bench: Bench, given: argparse.Namespace) -> list[Figure]:
    """Bars into the real table, by the client and by nothing but COPY, over one connection each."""
    url = bench.database()
    client = YfinanceClient(url)
    client.migrate()
    count = 40
    frames = [make_bars(days=2520, seed=number) for number in range(count)]
    for number in range(count):
        client.insert_security(f"T{number}", ["all"])
        client.insert_security(f"RAW{number}", ["all"])
    began = time.monotonic()
    for number, frame in enumerate(frames):
        client.insert_ohlcv(f"T{number}", frame)
    ours = count * 2520 / (time.monotonic() - began)
    contents = [
        copied(bench.folder, client.get_security_id(f"RAW{number}"), frame) for number, frame in enumerate(frames)
    ]
    statement = f"COPY ohlcv (security_id, as_of, {', '.join(bars.COLUMNS)}) FROM STDIN (FORMAT csv)"
    raw = engine_for(url).raw_connection()
    began = time.monotonic()
    for content in contents:
        cursor: Any = raw.cursor()
        with content.open() as file:
            cursor.copy_expert(statement, file)
        raw.commit()
    fastest = count * 2520 / (time.monotonic() - began)
    raw.close()
    share = ours / fastest
    return [
        Figure("insertion", "bars a second, insert_ohlcv", ours, "", "≥ 100,000", ours >= 100_000),
        Figure("insertion", "bars a second, COPY alone", fastest, ""),
        Figure("insertion", "of COPY alone", share, "×", "≥ 0.5", share >= 0.5),
    ]


def copied(folder: Path, security_id: int, frame: pd.DataFrame) -> Path:
    """A file for COPY."""
    path = folder / f"{security_id}.csv"
    frame.assign(security_id=security_id, as_of=LAST)[["security_id", "as_of", *bars.COLUMNS]].to_csv(
        path, index=False, header=False
    )
    return path


def fill(url: str) -> None:
    """Put ten years of bars into the table, of every security that is registered."""
    statement = """
        INSERT INTO ohlcv SELECT security_id, day, 10, 10, 10, 10, 10, 1000, 0, 0, :last
        FROM securities CROSS JOIN generate_series(:first, :last, interval '1 day') AS day
        WHERE extract(isodow FROM day) < 6
        ON CONFLICT DO NOTHING
    """
    values = {"first": LAST.replace(year=LAST.year - YEARS), "last": LAST}
    with engine_for(url).connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(statement), values)
        # As autovacuum does in time.
        connection.execute(sa.text("VACUUM ANALYZE ohlcv"))


def transactions(url: str) -> int:
    """How many transactions the database has had."""
    query = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    with engine_for(url).connect() as connection:
        return int(connection.scalar(sa.text(query)) or 0)


ALL: dict[str, Callable[[Bench, argparse.Namespace], list[Figure]]] = {
    "insertion": insertion,
    "profile": profile,
    "unlimited": unlimited,
    "limited": limited,
    "scheduling": scheduling,
}


def as_markdown(figures: list[Figure]) -> str:
    """The result as a page."""
    memory = psutil.virtual_memory().total / 2**30
    machine = f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"
    lines = [_HEAD.format(today=f"{dt.datetime.now(dt.UTC):%Y-%m-%d}", machine=machine, latency=LATENCY * 1000)]
    for figure in figures:
        mark = {True: "met", False: "**not met**", None: ""}[figure.met]
        number = f"{figure.value:,.0f}" if figure.value >= 100 else f"{figure.value:.3g}"
        unit = f"{'' if figure.unit == '×' else ' '}{figure.unit}".rstrip()
        lines.append(f"| {figure.benchmark} | {figure.what} | {number}{unit} | {figure.wanted} | {mark} |")
    return "\n".join(lines) + "\n"


def plot(figures: list[Figure], path: Path) -> None:
    """Milliseconds a ticker, next to each other."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    groups = {
        "without a limit": "wall time a ticker, ms",
        "CPU": "CPU time a ticker, ms",
        "CPU profile": "CPU time a ticker by step, and by the package it is spent for, ms",
        "scheduling": "overhead a ticker, ms",
    }
    shown = {name: [each for each in figures if each.benchmark == name and each.unit == "ms"] for name in groups}
    shown = {name: each for name, each in shown.items() if each}
    if not shown:
        return
    bars_of = [len(each) for each in shown.values()]
    drawing, axes = plt.subplots(
        len(shown), 1, figsize=(8, len(shown) + 0.25 * sum(bars_of)), height_ratios=bars_of, squeeze=False
    )
    for axis, (name, each) in zip(axes[:, 0], shown.items(), strict=True):
        drawn = axis.barh([figure.what for figure in each], [figure.value for figure in each], color="#4c78a8")
        axis.bar_label(drawn, fmt="{:,.0f}", padding=3)
        axis.set_title(groups[name], loc="left", fontsize=10)
        axis.invert_yaxis()
        axis.spines[["top", "right"]].set_visible(False)
    drawing.tight_layout()
    drawing.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(prog="./run.sh benchmark", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(ALL)} (default: all)")
    parser.add_argument("--tickers", type=int, default=500)
    parser.add_argument("--many", type=int, default=5000)
    parser.add_argument("--baseline", type=int, default=50, help="tickers that the baselines are measured with")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md and docs/benchmarks.svg")
    given = parser.parse_args()
    kept = json.loads(_KEPT.read_text()) if _KEPT.exists() else {}
    for name in given.names or ALL:
        with Bench() as bench:
            found = ALL[name](bench, given)
        print(as_markdown(found).split("|---|\n")[-1], flush=True)
        kept[name] = [asdict(figure) for figure in found]
        _KEPT.parent.mkdir(exist_ok=True)
        _KEPT.write_text(json.dumps(kept, indent=1))
    if given.write:
        figures = [Figure(**figure) for name in ALL for figure in kept.get(name, ())]
        (REPOSITORY / "docs/benchmarks.md").write_text(as_markdown(figures))
        plot(figures, REPOSITORY / "docs/benchmarks.svg")


if __name__ == "__main__":
    main()
