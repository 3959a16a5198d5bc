"""Figures for Prometheus, in the text format that node_exporter's textfile collector reads."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from luigi_tasks import settings
from luigi_tasks.database import embedded
from luigi_tasks.database.engine import engine_for, transaction
from luigi_tasks.database.freshness import last_bars
from luigi_tasks.database.universe_runs import UniverseRuns
from luigi_tasks.errors import SecuritiesMasterError, StoreUnwritable
from luigi_tasks.report.findings import GRAVITIES, KINDS
from luigi_tasks.report.late import expected_session
from luigi_tasks.report.render import kinds_of
from luigi_tasks.targets.files import JsonTarget

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

logger = logging.getLogger(__name__)

_PREFIX = "securities_master_"
_TABLES = ("securities", "ohlcv", "ohlcv_revisions", "quarantined_bars", "missing_sessions", "security_metadata")
_STATES = ("done", "failed", "blocked", "retired")
_OUTCOMES = ("complete", "incomplete", "interrupted", "unfinished")

# {name: (what it is, names of its labels, query of the labels and the value)}; a counter's name ends in _total.
_QUERIES = {
    "repaired_values": (
        "Values that the source contradicts itself about, and that a repair holds of",
        [],
        "SELECT count(*) FROM repairs WHERE until IS NULL",
    ),
    "repaired_tickers": (
        "Tickers with such values",
        [],
        "SELECT count(DISTINCT security_id) FROM repairs WHERE until IS NULL",
    ),
    # A download covers the last ten sessions, so that no older bar is provisional.
    "provisional_bars": (
        "Newest bars that the source may still settle",
        [],
        (
            "SELECT count(*) FROM securities, LATERAL (SELECT provisional FROM ohlcv "
            "WHERE security_id = securities.security_id ORDER BY date DESC LIMIT 10) AS newest WHERE provisional"
        ),
    ),
    "rows": (
        "Rows of a table",
        ["table"],
        " UNION ALL ".join(f"SELECT '{table}', count(*) FROM {table}" for table in _TABLES),
    ),
    "runs": (
        "Runs by outcome; unfinished ones are running, or were killed",
        ["outcome"],
        (
            "SELECT known, count(run_id) FROM unnest(CAST(:outcomes AS text[])) AS known "
            "LEFT JOIN runs ON coalesce(outcome, 'unfinished') = known GROUP BY known"
        ),
    ),
    "failures_total": (
        "Steps that failed, by kind",
        ["kind"],
        "SELECT kind, count(*) FROM task_failures GROUP BY kind",
    ),
    "last_run_failures": (
        "Steps that failed in the last run of the universe, by kind",
        ["kind"],
        (
            "SELECT kind, count(f.run_id) FROM (SELECT DISTINCT kind FROM task_failures) AS known "
            "LEFT JOIN (SELECT run_id, kind FROM task_failures WHERE run_id = :last_run) AS f USING (kind) "
            "GROUP BY kind"
        ),
    ),
    "last_run_started_timestamp_seconds": (
        "When the last run of the universe started",
        [],
        "SELECT extract(epoch FROM started_at) FROM runs WHERE run_id = :last_run",
    ),
    "last_run_duration_seconds": (
        "How long the last run of the universe took; not there while it is running, or if it was killed",
        [],
        (
            "SELECT extract(epoch FROM finished_at - started_at) FROM runs "
            "WHERE run_id = :last_run AND finished_at IS NOT NULL"
        ),
    ),
    "requests_total": (
        "Requests sent to the provider, by kind",
        ["kind"],
        "SELECT kind, sent FROM request_rates",
    ),
    "throttled_total": (
        "Answers of status 429, by kind",
        ["kind"],
        "SELECT kind, throttled FROM request_rates",
    ),
    "request_rate_share": (
        "Share of the rate in the settings that is used; each 429 lowers it, each answer gives back a little",
        ["kind"],
        "SELECT kind, share FROM request_rates, request_state",
    ),
    "paused": (
        "1 while nobody may ask the provider, since it answered 429 (throttled) or nothing usable (down)",
        ["trouble"],
        "SELECT t, (trouble IS NOT DISTINCT FROM t)::int FROM request_state, unnest(ARRAY['throttled', 'down']) AS t",
    ),
    "last_pause_timestamp_seconds": (
        "When everybody last paused; each change of it is a 429 or an outage",
        [],
        "SELECT extract(epoch FROM paused_at) FROM request_state WHERE paused_at IS NOT NULL",
    ),
    "last_pause_seconds": (
        "How long that pause was",
        [],
        "SELECT pause_seconds FROM request_state WHERE paused_at IS NOT NULL",
    ),
}


def collect(database_url: str, document: Mapping[str, Any] | None, now: dt.datetime) -> CollectorRegistry:
    """The figures at `now` (with a zone); `document` is the report that `last_report` finds.

    Raises:
        DatabaseUnavailable, DatabaseRefused
    """
    from prometheus_client import CollectorRegistry

    found = [*_counted(database_url), *_of_runs(database_url, document), *_freshness(database_url, now)]

    class Found:
        def collect(self) -> Iterable[Metric]:
            return found

    registry = CollectorRegistry()
    registry.register(Found())
    return registry


def text(found: CollectorRegistry) -> str:
    """The figures in Prometheus' text format."""
    from prometheus_client import generate_latest

    return generate_latest(found).decode()


def write(path: Path, found: CollectorRegistry) -> None:
    """Write the figures to a file, which is replaced at once. Raises StoreUnwritable."""
    from prometheus_client import write_to_textfile

    try:
        write_to_textfile(str(path), found)
    except OSError as error:
        raise StoreUnwritable(str(path), f"cannot be written ({error.strerror})", "Check the folder.") from error


def last_report(database_url: str, reports: Path) -> dict[str, Any] | None:
    """The report of the last run of the universe that has ended, None if there is none in this folder of reports.

    Raises:
        DatabaseUnavailable, DatabaseRefused, StoreUnwritable
    """
    run = UniverseRuns(database_url).latest(ended=True)
    written = None if run is None else JsonTarget(reports / run["run_id"] / "report.json")
    document: dict[str, Any] | None = written.read() if written is not None and written.exists() else None
    return document


def keep() -> None:
    """After a run, write the file that settings name; one that cannot be written is a line in the log."""
    chosen = settings.load()
    if chosen.metrics_file is None:
        return
    try:
        url = embedded.url(chosen)
        write(chosen.metrics_file, collect(url, last_report(url, chosen.reports), dt.datetime.now(dt.UTC)))
    except SecuritiesMasterError as error:
        logger.warning("no metrics: %s", error)


def _counted(database_url: str) -> Iterable[Metric]:
    run = UniverseRuns(database_url).latest()
    parameters = {"last_run": run["run_id"] if run else "", "outcomes": list(_OUTCOMES)}
    for name, (words, labels, query) in _QUERIES.items():
        # Each for itself: nothing here is worth holding a snapshot of all tables for.
        with transaction(engine_for(database_url), "metrics") as connection:
            rows = connection.execute(sa.text(query), parameters).all()
        yield _metric(name, words, labels, [(row[:-1], row[-1]) for row in rows])


def _of_runs(database_url: str, document: Mapping[str, Any] | None) -> Iterable[Metric]:
    runs = UniverseRuns(database_url)
    complete, news = runs.last_complete(), runs.news()
    if complete is not None:
        words = "When the last run of the universe ended that was complete, other than for a date in the past"
        ended = complete["finished_at"].timestamp()
        yield _metric("last_complete_run_timestamp_seconds", words, [], [((), ended)])
    if news is not None:
        words = "When the last run of the universe ended that had tried every ticker, other than for a date in the past"
        yield _metric("last_whole_run_timestamp_seconds", words, [], [((), news.run["finished_at"].timestamp())])
        words = "Tickers that failed in that run and were not done since: for the first time, or also in the one before"
        failing = [(("new",), len(news.new)), (("known",), len(news.known))]
        yield _metric("failing_tickers", words, ["which"], failing)
    if document is not None:
        tickers = [((state,), document["tickers"].get(state, 0)) for state in _STATES]
        yield _metric(
            "last_run_tickers", "Tickers of the last run of the universe, by what came of them", ["state"], tickers
        )
        kinds = kinds_of(document)
        # Those that there are none of, too: a figure that goes away sets off no rule, and ends none.
        counts = dict.fromkeys(KINDS, 0) | {group["kind"]: group["count"] for group in kinds}
        words = "Findings of the last run of the universe, by kind"
        yield _metric("last_run_findings", words, ["kind"], [((kind,), count) for kind, count in counts.items()])
        by_gravity = [
            ((str(gravity),), sum(group["count"] for group in kinds if group["gravity"] == gravity))
            for gravity in GRAVITIES
        ]
        words = "Findings of the last run of the universe, by gravity: 1 is the gravest"
        yield _metric("last_run_findings_by_gravity", words, ["gravity"], by_gravity)


def _freshness(database_url: str, now: dt.datetime) -> Iterable[Metric]:
    ends = last_bars(database_url)
    newest = [((name,), _midnight(max(days.all))) for name, days in ends.items() if max(days.all) > dt.date.min]
    expected = {name: expected_session(name, now, dt.date.max) for name in ends}
    behind = [
        ((name,), ends[name].all.total() - ends[name].there(name, last))
        for name, last in expected.items()
        if last is not None
    ]
    yield _metric("newest_bar_timestamp_seconds", "Day of the newest bar, at 0:00 UTC", ["exchange"], newest)
    words = "Tickers that may be expected to have new bars"
    yield _metric("tickers", words, ["exchange"], [((name,), days.all.total()) for name, days in ends.items()])
    words = "Those of them without a bar of their exchange's last session, where a calendar of it is known"
    yield _metric("tickers_behind", words, ["exchange"], behind)


def _metric(name: str, words: str, labels: list[str], values: Iterable[tuple[Iterable[str], Any]]) -> Metric:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    metric = kind(_PREFIX + name, words, labels=labels)
    for of_label, value in values:
        metric.add_metric(list(of_label), float(value))
    return metric


def _midnight(day: dt.date) -> float:
    return dt.datetime.combine(day, dt.time(), dt.UTC).timestamp()
