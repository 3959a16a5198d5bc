"""Great Expectations' Data Docs of real runs: what is there at the end of one, and what the command makes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd

from tests.conftest import make_bars
from tests.quality.test_data_docs import Page, of_ticker
from tests.workspace import BIN, REPOSITORY, Workspace

AS_OF = "2024-03-15"
ARGUMENTS = ("--years-back", "1")


def latest(workspace: Workspace) -> Path:
    return (workspace.store / "reports/latest").resolve()


def report(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return document


def found(workspace: Workspace, ticker: str, as_of: str = AS_OF) -> dict[str, int]:
    """{rule: rows that broke it}, as the run's verdict has it."""
    folder = workspace.store / f"store/test/verdicts/as_of={as_of}/years_back=1"
    findings: dict[str, int] = json.loads((folder / f"{ticker}.json").read_text())["findings"]
    return findings


def with_a_bad_bar(frame: pd.DataFrame) -> pd.DataFrame:
    frame.loc[7, "high"] = frame.loc[7, "low"] * 0.9
    return frame


def test_a_run_ends_with_data_docs_that_say_what_it_found_and_a_rerun_makes_none(workspace: Workspace) -> None:
    workspace.with_data_docs()
    condemned = make_bars(days=40, seed=3).assign(low=1000.0)
    frames = {"AAA": with_a_bad_bar(make_bars(days=40)), "BBB": make_bars(days=40, seed=2), "CCC": condemned}
    workspace.use_files(frames)

    run = workspace.run("--date", AS_OF, *ARGUMENTS)

    assert run.code == 30, run
    docs = latest(workspace) / "data_docs"
    assert f"data docs {docs}/index.html" in run.out
    assert report(latest(workspace))["data_docs"] == "data_docs/index.html"
    assert Page(latest(workspace) / "report.html").links["Great Expectations Data Docs"] == "data_docs/index.html"
    index = Page(docs / "index.html")
    assert [ticker for ticker in index.links if ticker in frames] == ["CCC", "AAA", "BBB"], "the gravest first"
    for ticker in frames:
        findings = found(workspace, ticker)
        assert bool(findings) == (ticker != "BBB")
        assert all(f"{rule}: {rows} bar" in index.text for rule, rows in findings.items())
        assert all(f"{rule}: " in of_ticker(docs, ticker).text for rule in findings)

    workspace.use_files({"AAA": frames["AAA"], "BBB": frames["BBB"]})
    assert workspace.run("--date", AS_OF, *ARGUMENTS).code == 0
    again = workspace.run("--date", AS_OF, *ARGUMENTS)

    assert "Nothing to do" in again.out
    assert not (latest(workspace) / "data_docs").exists()
    assert report(latest(workspace))["data_docs"] == ""

    made = workspace.command("data-docs", "--tickers", " aaa")

    assert made.returncode == 0, made.stderr
    assert made.stdout == f"1 tickers: {latest(workspace)}/data_docs/index.html\n"
    assert "AAA" in Page(latest(workspace) / "data_docs/index.html").links
    assert Page(latest(workspace) / "report.html").links["Great Expectations Data Docs"] == "data_docs/index.html"
    assert "data docs" in workspace.command("report").stdout

    missing = workspace.command("data-docs", "--tickers", "AAA,DDD", "--run", docs.parent.name)

    assert missing.returncode == 1
    assert "Data Docs of DDD: no verdict of run" in missing.stderr
    assert "BBB" in Page(docs / "index.html").links, "what was there stays"


def test_pages_of_a_later_day_see_the_stored_bars_around_it_as_the_run_did(workspace: Workspace) -> None:
    workspace.with_data_docs()
    whole = make_bars(days=120)
    prices = ["open", "high", "low", "close", "volume"]
    # Five sessions of one bar, of which the second day's answer has only the last.
    whole.loc[104:110, prices] = whole.loc[104, prices].to_numpy()
    workspace.use_files({"AAA": whole[:-1]})
    yesterday = str(whole["date"].iloc[-2])[:10]
    assert workspace.run("--date", yesterday, *ARGUMENTS).code == 0
    workspace.use_files({"AAA": whole})

    run = workspace.run("--date", AS_OF, *ARGUMENTS)

    assert run.code == 0, run
    raw = workspace.store / f"store/test/raw_bars/as_of={AS_OF}/years_back=1/AAA.parquet"
    assert len(pd.read_parquet(raw)) < 20, "it asked for the last sessions alone"
    rule, rows = next(iter(found(workspace, "AAA").items()))
    assert f"{rule}: {rows} bar" in Page(latest(workspace) / "data_docs/index.html").text
    made = workspace.command("data-docs", "--all")
    assert "not as the run judged" not in made.stdout, "the command finds the same, too"
    assert "1 tickers" in made.stdout

    workspace.query("DELETE FROM ohlcv WHERE date < '2024-03-04' RETURNING 1")

    assert "not as the run judged them, since stored bars or suite have changed: AAA" in (
        workspace.command("data-docs").stdout
    )


def test_data_docs_that_cannot_be_made_cost_one_line(workspace: Workspace) -> None:
    workspace.with_data_docs()
    workspace.use_files({"AAA": make_bars()})
    assert workspace.run("--date", AS_OF, *ARGUMENTS).code == 0
    folder = latest(workspace)
    raw = workspace.store / f"store/test/raw_bars/as_of={AS_OF}/years_back=1/AAA.parquet"
    raw.write_bytes(b"no parquet")
    program = (
        "import great_expectations, json, pathlib, sys; from luigi_tasks.tasks import data_docs\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "data_docs.at_end(json.loads((folder / 'report.json').read_text()), folder)"
    )

    ended = subprocess.run(
        [str(BIN / "python"), "-W", "ignore", "-c", program, str(folder)],
        cwd=REPOSITORY,
        env=workspace.env(),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    assert ended.stderr.count("\n") == 1, ended.stderr
    assert "no Data Docs: StoreUnwritable: " in ended.stderr
    assert "cannot be read" in ended.stderr
