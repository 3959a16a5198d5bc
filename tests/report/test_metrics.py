"""The figures for Prometheus: what Prometheus' own parser makes of them, and where they are written."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from luigi_tasks.database.ledger import Ledger, Step
from luigi_tasks.errors import StoreUnwritable
from luigi_tasks.report import findings, metrics
from tests.conftest import make_bars
from tests.report.documents import told
from tests.report.test_late import FRIDAY, SATURDAY, Stored
from tests.workspace import Workspace

FLAGGED = [{"date": None, "rule": "odd", "severity": "warning"}]


def figures(text: str) -> dict[str, Any]:
    """{name without the prefix: {label's value: value}, or the value where it has no label}."""
    found: dict[str, Any] = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in ("gauge", "counter")
        for sample in family.samples:
            name = sample.name.removeprefix("securities_master_")
            if sample.labels:
                (label,) = sample.labels.values()
                found.setdefault(name, {})[label] = sample.value
            else:
                found[name] = sample.value
    return found


def collected(url: str, document: dict[str, Any] | None = None, now: dt.datetime = SATURDAY) -> dict[str, Any]:
    return figures(metrics.text(metrics.collect(url, document, now)))


def test_a_database_that_nothing_was_done_with_has_figures(database_url: str) -> None:
    found = collected(database_url)

    assert found["rows"]["ohlcv"] == 0
    assert found["runs"] == {"complete": 0, "incomplete": 0, "interrupted": 0, "unfinished": 0}
    assert found["requests_total"] == {"prices": 0, "quotes": 0, "company": 0, "access": 0}
    assert found["paused"] == {"throttled": 0, "down": 0}
    assert {"last_complete_run_timestamp_seconds", "last_whole_run_timestamp_seconds"}.isdisjoint(found)
    assert "last_pause_timestamp_seconds" not in found


def test_the_figures_are_those_of_the_tables(database_url: str) -> None:
    stored = Stored(database_url)
    stored.bars("2024-03-15", "AAA")
    stored.bars("2024-03-14", "BBB")
    stored.bars("2024-03-15", "CCC", exchange="JPX")
    stored.bars("2024-03-15", "DDD", exchange="ATH")
    stored.run(FRIDAY - dt.timedelta(days=1))
    stored.run(FRIDAY, "incomplete", None, "AAA")
    stored.run(FRIDAY + dt.timedelta(hours=2), "complete", None, tickers="AAA")
    ledger = Ledger(database_url)
    ledger.fail(Step("a", "DownloadOhlcv", "an earlier one", "AAA"), "network", "x")
    ledger.fail(Step("b", "DownloadOhlcv", "an earlier one", "AAA"), "throttled", "x")
    stored.execute("UPDATE request_rates SET sent = 7 WHERE kind = 'prices'")
    stored.execute(
        "UPDATE request_state SET trouble = 'throttled', trouble_since = :at, paused_at = :at, paused_until = :at, "
        "pause_seconds = 15, share = 0.5",
        at=FRIDAY,
    )

    found = collected(database_url, {"tickers": {"all": 3, "done": 2, "failed": 1}})

    assert found["rows"] | {"missing_sessions": 0} == {
        "securities": 4,
        "ohlcv": 20,
        "ohlcv_revisions": 0,
        "quarantined_bars": 0,
        "missing_sessions": 0,
        "security_metadata": 0,
    }
    assert found["runs"] == {"complete": 2, "incomplete": 1, "interrupted": 0, "unfinished": 0}
    assert found["failures_total"] == {"network": 2, "throttled": 1}
    assert found["last_run_failures"] == {"network": 1, "throttled": 0}
    assert found["last_run_tickers"] == {"done": 2, "failed": 1, "blocked": 0, "retired": 0}
    assert found["last_run_started_timestamp_seconds"] == FRIDAY.timestamp()
    assert found["last_run_duration_seconds"] == 3600
    assert found["last_complete_run_timestamp_seconds"] == (FRIDAY - dt.timedelta(hours=23)).timestamp()
    assert found["last_whole_run_timestamp_seconds"] == (FRIDAY + dt.timedelta(hours=1)).timestamp()
    assert found["failing_tickers"] == {"new": 1, "known": 0}
    assert found["requests_total"]["prices"] == 7
    assert found["request_rate_share"]["prices"] == 0.5
    assert found["paused"] == {"throttled": 1, "down": 0}
    assert (found["last_pause_timestamp_seconds"], found["last_pause_seconds"]) == (FRIDAY.timestamp(), 15)
    assert found["tickers"] == {"NMS": 2, "JPX": 1, "ATH": 1}
    assert found["tickers_behind"] == {"NMS": 1, "JPX": 0}, "of ATH no calendar is known"
    assert found["newest_bar_timestamp_seconds"]["NMS"] == dt.datetime(2024, 3, 15, tzinfo=dt.UTC).timestamp()


def test_findings_repairs_and_provisional_bars_have_figures(database_url: str) -> None:
    stored = Stored(database_url)
    for ticker in ("AAA", "BBB"):
        stored.bars("2024-03-15", ticker)
    stored.execute("UPDATE ohlcv SET provisional = true WHERE date = '2024-03-15'")
    stored.execute(
        'INSERT INTO repairs (security_id, date, "column", as_of, until, rule, new, evidence) '
        "SELECT security_id, '2024-03-14', c, '2024-03-14', u, 'x', 1, 'x' FROM securities, "
        "(VALUES ('close', NULL), ('open', NULL), ('low', CAST('2024-03-15' AS date))) AS v (c, u) WHERE ticker = 'AAA'"
    )
    found = [findings.finding(ticker, "restated", "x") for ticker in ("AAA", "BBB")]
    found += [findings.finding("AAA", "split missing", "x"), *findings.of_ticker("AAA", {"flagged": FLAGGED}, FRIDAY)]

    figures = collected(database_url, {"tickers": {"all": 2, "done": 2}} | told(found))

    assert (figures["repaired_values"], figures["repaired_tickers"], figures["provisional_bars"]) == (2, 1, 2)
    counts = figures["last_run_findings"]
    assert {kind: count for kind, count in counts.items() if count} == {
        "restated": 2,
        "split missing": 1,
        "against 'odd'": 1,
    }
    assert set(findings.KINDS) < set(counts), "those that there are none of, too"
    assert figures["last_run_findings_by_gravity"] == {"1": 1, "2": 3, "3": 0}


def test_a_file_is_replaced_at_once_and_nothing_else_is_left(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "securities.prom"
    path.write_text("old")
    before = path.stat().st_ino

    metrics.write(path, metrics.collect(database_url, None, SATURDAY))

    assert figures(path.read_text())["rows"]["ohlcv"] == 0
    assert path.stat().st_ino != before, "written beside it, and put into its place"
    assert os.listdir(tmp_path) == ["securities.prom"]
    with pytest.raises(StoreUnwritable, match="cannot be written"):
        metrics.write(tmp_path / "nowhere" / "securities.prom", metrics.collect(database_url, None, SATURDAY))


def test_a_run_writes_the_file_that_settings_name_and_the_command_says_the_same(workspace: Workspace) -> None:
    workspace.use_files({"AAA": make_bars()})
    workspace.set("Metrics", textfile=str(workspace.folder / "securities.prom"))
    arguments = ("--date", "2024-03-15", "--years-back", "1")
    assert workspace.run(*arguments).code == 0
    assert workspace.run(*arguments, "--tickers", "NONE").code == 30
    of_universe = figures((workspace.folder / "securities.prom").read_text())
    assert (of_universe["last_run_tickers"]["done"], of_universe["last_run_tickers"]["failed"]) == (1, 0)

    again = workspace.run(*arguments)

    assert again.code == 0, again
    assert "Nothing to do" in again.out
    written = figures((workspace.folder / "securities.prom").read_text())
    assert written["rows"]["ohlcv"] == 30
    assert (written["runs"]["complete"], written["runs"]["incomplete"]) == (2, 1), (
        "also at the end of a run that has nothing to do"
    )
    assert written["last_run_tickers"]["done"] == 1
    said = workspace.command("metrics")
    assert said.returncode == 0, said.stderr
    assert figures(said.stdout) == written
    assert workspace.command("metrics", "--output", str(workspace.folder / "other.prom")).returncode == 0
    assert figures((workspace.folder / "other.prom").read_text()) == written

    workspace.set("Metrics", textfile=str(workspace.folder / "nowhere" / "securities.prom"))
    in_vain = workspace.run(*arguments)

    assert in_vain.code == 0, in_vain
    assert in_vain.err.count("no metrics: ") == 1
