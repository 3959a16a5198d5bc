"""Runs of the configured universe, and the tickers that fail since the last of them that got to its end.

A run of three tickers by hand says nothing of the universe, whatever came of it. Neither does a run that gave up, or
was ended, before it had tried every ticker: what it did not get to has neither failed nor recovered.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from luigi_tasks.database.engine import engine_for, transaction
from luigi_tasks.database.ledger import WHOLE
from luigi_tasks.tickers import NOTHING

_PARAMETER = "coalesce(nullif(parameters ->> '{name}', ''), '{default}') = '{default}'"
_UNIVERSE = " AND ".join(
    [
        "task_family = 'RunAll'",
        _PARAMETER.format(name="tickers", default=NOTHING),
        _PARAMETER.format(name="groupings", default=NOTHING),
        _PARAMETER.format(name="ticker_limit", default="0"),
    ]
)
_AS_OF = "CAST(coalesce(parameters ->> 'date', '-infinity') AS date)"
# A run for an as-of date more than three days before it started has filled in the past.
_DAYS = dt.timedelta(days=3)
_CURRENT = f"({_AS_OF} >= CAST(started_at AT TIME ZONE 'UTC' AS date) - {_DAYS.days})"
_ENDED = "(outcome IS NOT NULL AND finished_at IS NOT NULL)"
# Of each ticker's bars, and of its company data, the last failure alone: a retry may fail in another way.
_FAILING = """
    SELECT ticker, kind FROM (
        SELECT DISTINCT ON (ticker, storing) * FROM (
            SELECT *, CASE WHEN task_family IN ('DownloadMetadata', 'InsertMetadata') THEN 'InsertMetadata'
                ELSE 'InsertOhlcv' END AS storing
            FROM task_failures
            WHERE ticker IS NOT NULL AND as_of >= :as_of
              AND run_id IN (SELECT run_id FROM runs WHERE started_at >= :since)
        ) AS failure ORDER BY ticker, storing, failure_id DESC
    ) AS last
    WHERE NOT EXISTS (
        SELECT FROM task_markers AS marker
        WHERE marker.ticker = last.ticker AND marker.task_family IN (last.task_family, last.storing)
          AND marker.as_of >= last.as_of AND marker.done_at > last.failed_at
    )
    ORDER BY ticker, kind
"""


@dataclass(frozen=True)
class Failing:
    """The tickers that fail, with the kinds of their last failures, and the run by which they are tried again."""

    run: Mapping[str, Any]
    """Its row: the last run of the universe, whatever came of it."""
    kinds: Mapping[str, list[str]]

    def of_kinds(self, wanted: Collection[str]) -> list[str]:
        """The tickers that fail in one of these ways; none named: in any."""
        return [ticker for ticker, kinds in self.kinds.items() if not wanted or set(wanted).intersection(kinds)]


@dataclass(frozen=True)
class News:
    """The last whole run of the universe, and what fails since: for the first time, and since before."""

    run: Mapping[str, Any]
    new: Mapping[str, list[str]]
    """{ticker: kinds} of those that failed in it, did not in the one before, and have not been done since."""
    known: list[str]


class UniverseRuns:
    """The runs of the configured universe in one database: RunAll without tickers, groupings or a limit."""

    def __init__(self, database_url: str) -> None:
        self._engine = engine_for(database_url)

    def latest(self, *, ended: bool = False) -> dict[str, Any] | None:
        """The row of the one that started last, whatever came of it; one that fills in the past only where there is
        no other."""
        return self._one(_UNIVERSE, *([_ENDED] if ended else []), order=f"{_CURRENT} DESC, started_at DESC")

    def last_complete(self) -> dict[str, Any] | None:
        """The row of the complete one that ended last, other than for a date in the past."""
        return self._one(_UNIVERSE, _CURRENT, "outcome = 'complete'", order="finished_at DESC")

    def last_whole(self, *, before: dt.datetime | None = None) -> dict[str, Any] | None:
        """The row of the one that ended last (of those that started `before`) after it had tried every ticker, other
        than for a date in the past."""
        return self._whole(_CURRENT, before)

    def failing(self) -> Failing | None:
        """What has failed in the last whole run, or in any run since, and has not been done since.

        Where no run was whole yet, since the first of the universe; where there is none of the universe, in the last
        RunAll and since. None: there was no RunAll yet.
        """
        run = self.latest()
        if run is None:
            run = since = self._one("task_family = 'RunAll'", order="started_at DESC")
        else:
            alike = _CURRENT if _is_current(run) else f"NOT {_CURRENT}"
            since = self._whole(alike, None) or self._one(_UNIVERSE, alike, order="started_at")
        if run is None or since is None:
            return None
        return Failing(run, self._failing_since(since))

    def news(self) -> News | None:
        """What is new in the last whole run, None before the first."""
        run = self.last_whole()
        if run is None:
            return None
        before = self.last_whole(before=run["started_at"])
        earlier = set() if before is None else failed_of(before)
        failing = self._failing_since(run)
        of_run = {ticker: kinds for ticker, kinds in failing.items() if ticker in failed_of(run)}
        new = {ticker: kinds for ticker, kinds in of_run.items() if ticker not in earlier}
        return News(run, new, sorted(earlier.intersection(of_run)))

    def _whole(self, alike: str, before: dt.datetime | None) -> dict[str, Any] | None:
        conditions = [_UNIVERSE, alike, WHOLE, _ENDED]
        if before is None:
            return self._one(*conditions, order="finished_at DESC")
        return self._one(*conditions, "started_at < :before", order="finished_at DESC", before=before)

    def _failing_since(self, run: Mapping[str, Any]) -> dict[str, list[str]]:
        as_of = run["parameters"].get("date") or "-infinity"
        found: dict[str, list[str]] = defaultdict(list)
        with transaction(self._engine, "task failures") as connection:
            for ticker, kind in connection.execute(sa.text(_FAILING), {"since": run["started_at"], "as_of": as_of}):
                found[ticker].append(kind)
        return dict(found)

    def _one(self, *conditions: str, order: str, **values: Any) -> dict[str, Any] | None:
        query = sa.text(f"SELECT * FROM runs WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT 1")
        with transaction(self._engine, "runs") as connection:
            row = connection.execute(query, values).mappings().one_or_none()
        return None if row is None else dict(row)


def failed_of(run: Mapping[str, Any]) -> set[str]:
    """The tickers that failed in a run, by its row."""
    return set((run["summary"] or {}).get("failed", ()))


def is_of_universe(parameters: Mapping[str, Any]) -> bool:
    """Whether a RunAll with these parameters is over the configured universe."""
    named = any(parameters.get(name) not in (None, "", NOTHING) for name in ("tickers", "groupings"))
    return not named and str(parameters.get("ticker_limit") or 0) == "0"


def fills_in_the_past(as_of: str | None, started: dt.date) -> bool:
    """Whether a run that started on that day (UTC) was for an as-of date long gone by."""
    return not as_of or dt.date.fromisoformat(as_of) < started - _DAYS


def _is_current(run: Mapping[str, Any]) -> bool:
    started: dt.datetime = run["started_at"]
    return not fills_in_the_past(run["parameters"].get("date"), started.astimezone(dt.UTC).date())
