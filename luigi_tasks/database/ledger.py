"""What was done, what failed, and in which run: the rows that make a rerun skip what is there."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from luigi_tasks.database.engine import engine_for, migrate, transaction
from luigi_tasks.database.schema import request_rates, runs, securities, store_source, task_failures, task_markers
from luigi_tasks.database.text import storable
from luigi_tasks.errors import ConfigurationError, DownTooLong, ThrottledTooLong

LONGEST_REASON = 2000
"""Characters of a failure's reason that are kept."""

WHOLE = f"""
    (outcome = 'complete' OR (
        outcome = 'incomplete'
        AND coalesce(CAST(summary #>> '{{tickers,all}}' AS integer), 0) > 0
        AND coalesce(CAST(summary #>> '{{tickers,blocked}}' AS integer), 0) = 0
        AND NOT EXISTS (
            SELECT FROM task_failures WHERE task_failures.run_id = runs.run_id
            AND (ticker IS NULL OR kind IN ('{ThrottledTooLong.kind}', '{DownTooLong.kind}'))
        )
    ))
"""
"""Condition of a row of `runs`: it has tried every one of its tickers. What it did not get to has neither failed nor
recovered."""


@dataclass(frozen=True)
class Step:
    """One task of one run, as the ledger names it."""

    task_id: str
    task_family: str
    run_id: str
    ticker: str | None = None
    as_of: dt.date | None = None


@dataclass(frozen=True)
class Marker:
    """That a step is done: `rows` bars or records were left behind, `detail` is for the report (JSON values)."""

    step: Step
    rows: int
    detail: Mapping[str, Any] = field(default_factory=dict)


def write_marker(connection: sa.Connection, marker: Marker, seconds: float | None = None) -> None:
    """Write the marker within the caller's transaction, so that data and marker are there together or not at all."""
    step = marker.step
    row = {
        "task_id": step.task_id,
        "task_family": step.task_family,
        "ticker": step.ticker,
        "as_of": step.as_of,
        "run_id": step.run_id,
        "rows": marker.rows,
        "detail": storable(marker.detail),
        "seconds": seconds,
    }
    statement = insert(task_markers).values(row)
    changes = {name: statement.excluded[name] for name in row if name != "task_id"} | {"done_at": sa.func.now()}
    connection.execute(statement.on_conflict_do_update(index_elements=["task_id"], set_=changes))


class Ledger:
    """Markers, failures and runs of one database."""

    def __init__(self, database_url: str) -> None:
        self._engine = engine_for(database_url)

    def migrate(self) -> None:
        """Create the tables, or bring them to this version; quick when there is nothing to do."""
        migrate(self._engine)

    def claim_for(self, source: str) -> None:
        """Remember that the bars here come from `source`.

        Raises:
            ConfigurationError: they come from another one; the two would be mixed up.
        """
        with transaction(self._engine, "the source of this database") as connection:
            connection.execute(insert(store_source).values(name=source).on_conflict_do_nothing())
            present = connection.scalar(sa.select(store_source.c.name))
        if present != source:
            raise ConfigurationError(
                f"source {source!r}", f"this database holds bars from {present!r}", "Use another database for it."
            )

    def answers(self) -> None:
        """Do nothing but ask. Raises DatabaseUnavailable or DatabaseRefused."""
        with transaction(self._engine, "the database") as connection:
            connection.execute(sa.text("SELECT 1"))

    def done(self, task_ids: Collection[str]) -> set[str]:
        """Those of the task ids that have a marker; one query, however many."""
        query = sa.select(task_markers.c.task_id).where(
            task_markers.c.task_id == sa.func.any(sa.bindparam("ids", type_=sa.ARRAY(sa.Text)))
        )
        with transaction(self._engine, "task markers") as connection:
            return set(connection.scalars(query, {"ids": list(task_ids)}))

    def failed_last(self, tickers: Collection[str]) -> set[str]:
        """Those that failed in the last run that got anywhere with them; one query."""
        query = """
            SELECT ticker FROM (
                SELECT DISTINCT ON (ticker) ticker, run_id, failed_at FROM task_failures
                WHERE ticker = ANY(:tickers) ORDER BY ticker, failed_at DESC
            ) AS failure
            WHERE NOT EXISTS (
                SELECT FROM task_markers AS marker
                WHERE marker.ticker = failure.ticker
                  AND marker.run_id <> failure.run_id AND marker.done_at > failure.failed_at
            )
        """
        with transaction(self._engine, "task failures") as connection:
            return set(connection.scalars(sa.text(query), {"tickers": list(tickers)}))

    def with_bars(self, tickers: Collection[str]) -> set[str]:
        """Those of which there are bars; one query."""
        query = """
            SELECT ticker FROM securities WHERE ticker = ANY(:tickers)
            AND EXISTS (SELECT FROM ohlcv WHERE ohlcv.security_id = securities.security_id)
        """
        with transaction(self._engine, "stored bars") as connection:
            return set(connection.scalars(sa.text(query), {"tickers": list(tickers)}))

    def exchanges(self) -> list[str]:
        """The source's codes of the exchanges of all securities."""
        query = sa.select(securities.c.exchange).where(securities.c.exchange.is_not(None)).distinct()
        with transaction(self._engine, "exchanges") as connection:
            return list(connection.scalars(query))

    def mark(self, marker: Marker, seconds: float | None = None) -> None:
        """A marker of its own: a receipt for a step whose target is a file."""
        with transaction(self._engine, marker.step.task_id) as connection:
            write_marker(connection, marker, seconds)

    def time(self, task_id: str, seconds: float) -> int:
        """Add to a marker how long its step took; returns how many rows the step left behind, 0 without a marker."""
        change = sa.update(task_markers).where(task_markers.c.task_id == task_id).values(seconds=seconds)
        with transaction(self._engine, task_id) as connection:
            return connection.scalar(change.returning(task_markers.c.rows)) or 0

    def fail(self, step: Step, kind: str, reason: str) -> None:
        """Keep that a step failed; failures are never overwritten."""
        row = {
            "run_id": step.run_id,
            "task_id": step.task_id,
            "task_family": step.task_family,
            "ticker": step.ticker,
            "as_of": step.as_of,
            "kind": kind,
            "reason": storable(reason[:LONGEST_REASON]),
        }
        with transaction(self._engine, step.task_id) as connection:
            connection.execute(sa.insert(task_failures).values(row))

    def begin_run(self, run_id: str, task_family: str, parameters: Mapping[str, Any]) -> None:
        row = {"run_id": run_id, "task_family": task_family, "parameters": storable(parameters)}
        with transaction(self._engine, f"run {run_id}") as connection:
            row["requests_before"] = _requests(connection)
            connection.execute(insert(runs).values(row).on_conflict_do_nothing())

    def finish_run(self, run_id: str, outcome: str, summary: Mapping[str, Any]) -> None:
        """`outcome` is complete, incomplete or interrupted; `summary` what later reports tell of it, JSON values."""
        ended = {"outcome": outcome, "finished_at": sa.func.now(), "summary": storable(summary)}
        with transaction(self._engine, f"run {run_id}") as connection:
            connection.execute(sa.update(runs).where(runs.c.run_id == run_id).values(ended))

    def requests_since(self, before: Mapping[str, Any] | None) -> dict[str, dict[str, int]]:
        """{kind: {sent, throttled}} since a run began, by its `requests_before`; of all that share the database."""
        with transaction(self._engine, "the request budget") as connection:
            now = _requests(connection)
        known = before or now
        return {
            kind: {name: count - known.get(kind, {}).get(name, 0) for name, count in counts.items()}
            for kind, counts in now.items()
        }

    def runs_before(self, run_id: str, count: int) -> list[dict[str, Any]]:
        """The rows of the run and of the last ones that began before it, newest first."""
        started = sa.select(runs.c.started_at).where(runs.c.run_id == run_id).scalar_subquery()
        query = sa.select(runs).where(runs.c.started_at <= started).order_by(runs.c.started_at.desc()).limit(count)
        with transaction(self._engine, "runs") as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def whole(self, run_ids: Collection[str]) -> set[str]:
        """Those of the runs that have tried every one of their tickers: they did not give up, and were not ended."""
        query = sa.text(f"SELECT run_id FROM runs WHERE run_id = ANY(:run_ids) AND {WHOLE}")
        statement = query.bindparams(sa.bindparam("run_ids", type_=sa.ARRAY(sa.Text)))
        with transaction(self._engine, "runs") as connection:
            return set(connection.scalars(statement, {"run_ids": list(run_ids)}))

    def run(self, run_id: str) -> dict[str, Any] | None:
        """The run's row, None if there is no such run."""
        with transaction(self._engine, f"run {run_id}") as connection:
            row = connection.execute(sa.select(runs).where(runs.c.run_id == run_id)).mappings().one_or_none()
        return None if row is None else dict(row)

    def latest_run_id(self) -> str | None:
        """The run that started last, None before the first."""
        with transaction(self._engine, "runs") as connection:
            return connection.scalar(sa.select(runs.c.run_id).order_by(runs.c.started_at.desc()).limit(1))

    def steps_of(self, run_id: str) -> dict[str, tuple[int, int, int]]:
        """{step: (done, failed, rows)} of a run, so far."""
        query = """
            SELECT task_family, sum(done)::bigint, sum(failed)::bigint, sum(rows)::bigint FROM (
                SELECT task_family, count(*) AS done, 0 AS failed, sum(rows) AS rows, min(done_at) AS first
                FROM task_markers WHERE run_id = :run_id AND ticker IS NOT NULL GROUP BY 1
                UNION ALL
                SELECT task_family, 0, count(DISTINCT task_id), 0, min(failed_at)
                FROM task_failures WHERE run_id = :run_id GROUP BY 1
            ) AS counted GROUP BY 1 ORDER BY min(first)
        """
        with transaction(self._engine, f"run {run_id}") as connection:
            rows = connection.execute(sa.text(query), {"run_id": run_id}).all()
        return {family: (done, failed, count) for family, done, failed, count in rows}

    def still_failed(self, run_id: str, kinds: Collection[str] = ()) -> list[str]:
        """Tickers with a step that failed in the run, in one of these ways (none: in any), and is not done since."""
        query = """
            SELECT DISTINCT ticker FROM task_failures AS failure
            WHERE run_id = :run_id AND ticker IS NOT NULL AND (:all OR kind = ANY(:kinds))
              AND NOT EXISTS (SELECT FROM task_markers WHERE task_markers.task_id = failure.task_id)
            ORDER BY ticker
        """
        statement = sa.text(query).bindparams(sa.bindparam("kinds", type_=sa.ARRAY(sa.Text)))
        values = {"run_id": run_id, "all": not kinds, "kinds": list(kinds)}
        with transaction(self._engine, f"run {run_id}") as connection:
            return list(connection.scalars(statement, values))

    def markers(self, task_ids: Collection[str]) -> dict[str, dict[str, Any]]:
        """{task id: its marker's row}; one query."""
        names = [column.name for column in task_markers.c]
        query = sa.select(task_markers).where(
            task_markers.c.task_id == sa.func.any(sa.bindparam("ids", type_=sa.ARRAY(sa.Text)))
        )
        with transaction(self._engine, "task markers") as connection:
            rows = connection.execute(query, {"ids": list(task_ids)})
            return {row.task_id: dict(zip(names, row, strict=True)) for row in rows}

    def of_family(self, run_id: str, family: str) -> list[dict[str, Any]]:
        """The markers that a run has written of one family, oldest first: rows, detail, done_at."""
        columns = (task_markers.c.rows, task_markers.c.detail, task_markers.c.done_at)
        of_it = (task_markers.c.run_id == run_id, task_markers.c.task_family == family)
        query = sa.select(*columns).where(*of_it).order_by(task_markers.c.done_at)
        with transaction(self._engine, f"run {run_id}") as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def failures(self, run_id: str) -> list[dict[str, Any]]:
        """The run's failures, oldest first."""
        query = sa.select(task_failures).where(task_failures.c.run_id == run_id).order_by(task_failures.c.failure_id)
        with transaction(self._engine, f"run {run_id}") as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def _requests(connection: sa.Connection) -> dict[str, dict[str, int]]:
    """{kind: {sent, throttled}}, ever."""
    rows = connection.execute(sa.select(request_rates))
    return {row.kind: {"sent": row.sent, "throttled": row.throttled} for row in rows}
