"""How far a run is, by ticker and step, as a small file in the run's folder, which luigid makes a page of.

luigid imports nothing of this package, so the run's parent process tells it in JSON. The file is replaced every few
seconds while the run goes on, and says how it ended once it has: `/reports/` lists runs by it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from luigi_tasks.database.engine import new_engine, transaction
from luigi_tasks.errors import SecuritiesMasterError
from luigi_tasks.report.render import headline
from luigi_tasks.tickers import NOTHING

logger = logging.getLogger(__name__)

NAME = "run.json"
_SECONDS = 3.0
_SHARE = 0.05
"""Of the time the database is asked for at most: a large run is told of more seldom."""
_LONGEST_QUERY = 5
_TICKERS = 500
_LONGEST = 200
_NAMED = 8

_RUN = "SELECT run_id, task_family, parameters, started_at FROM runs WHERE run_id = :run_id"
_STEPS = """
    SELECT ticker, task_family, true AS done, rows, seconds, '' AS kind, '' AS reason, done_at AS at
    FROM task_markers WHERE run_id = :run_id AND ticker IS NOT NULL
    UNION ALL
    SELECT ticker, task_family, false, 0, NULL, kind, left(reason, :longest), failed_at
    FROM task_failures WHERE run_id = :run_id AND ticker IS NOT NULL
"""
_COUNTS = f"""
    SELECT task_family, count(DISTINCT ticker) FILTER (WHERE done), count(DISTINCT ticker) FILTER (WHERE NOT done),
        sum(rows)::bigint
    FROM ({_STEPS}) AS step GROUP BY 1 ORDER BY min(at)
"""
# Those that failed first, then those that something was last done of.
_LATEST = f"""
    WITH step AS ({_STEPS}), shown AS (
        SELECT ticker, bool_or(NOT done) AS failed, max(at) AS last, count(*) OVER () AS every
        FROM step GROUP BY ticker ORDER BY failed DESC, last DESC, ticker LIMIT :tickers
    )
    SELECT ticker, task_family, done, rows, seconds, kind, reason, every FROM step JOIN shown USING (ticker)
    ORDER BY shown.failed DESC, last DESC, ticker, at
"""


class Live:
    """Tells of one run that goes on. A file or database that is out of reach costs the page, and nothing else."""

    def __init__(self, folder: Path, database_url: str, run_id: str) -> None:
        """`folder` is there once it is a run. To be made in the parent before it forks: what is connected then stays
        so, and no connection is begun in the midst of a fork. The engine is of its own, for a child inherits its locks
        as they are. No table is asked for yet, which others may have locked."""
        self._path, self._run_id = folder / NAME, run_id
        self._engine = new_engine(database_url, statement_seconds=_LONGEST_QUERY)
        self._told: dict[str, Any] = {}
        with contextlib.suppress(SecuritiesMasterError), transaction(self._engine, "the run's progress") as connection:
            connection.execute(sa.text("SELECT 1"))
        self._next = 0.0

    def tell(self, line: Callable[[], str]) -> None:
        """Write the file if it is time; `line` says in words how far the run is. To be called now and then."""
        began = time.monotonic()
        if began < self._next or not self._path.parent.is_dir():
            return
        self._ask()
        self._next = time.monotonic() + max(_SECONDS, (time.monotonic() - began) / _SHARE)
        if self._told:
            self._write(line())

    def _write(self, line: str) -> None:
        part = self._path.with_name(f".{NAME}.part")
        with contextlib.suppress(OSError):
            part.write_text(json.dumps(self._told | {"line": line, "told_at": _text(dt.datetime.now(dt.UTC))}))
            part.replace(self._path)

    def _ask(self) -> None:
        values = {"run_id": self._run_id, "longest": _LONGEST}
        try:
            with transaction(self._engine, "the run's progress") as connection:
                if not self._told and (run := connection.execute(sa.text(_RUN), values).mappings().one_or_none()):
                    self._told = {**_of_run(dict(run)), "outcome": None, "steps": [], "tickers": [], "every": 0}
                counts = connection.execute(sa.text(_COUNTS), values).all()
                rows = connection.execute(sa.text(_LATEST), values | {"tickers": _TICKERS}).all()
        except SecuritiesMasterError as error:
            logger.debug("no progress by ticker: %s", error)
            return
        tickers: dict[str, dict[str, Any]] = {}
        for row in rows:
            told = {"done": row.done, "rows": row.rows, "seconds": row.seconds, "kind": row.kind, "reason": row.reason}
            tickers.setdefault(row.ticker, {})[row.task_family] = told
        self._told |= {
            "steps": [list(count) for count in counts],
            "tickers": [[ticker, steps] for ticker, steps in tickers.items()],
            "every": rows[0].every if rows else 0,
        }


def ended(document: Mapping[str, Any]) -> dict[str, Any]:
    """What the file says of a run that has a report."""
    run = {"run_id": document["run_id"], "task_family": document["task"], "parameters": document["parameters"]}
    return {
        **_of_run(run | {"started_at": document["started_at"]}),
        "outcome": document["outcome"],
        "line": headline(dict(document)),
        "told_at": document["written_at"],
    }


def what(parameters: Mapping[str, Any]) -> str:
    """Of which tickers a run is, in words."""
    given = {name: str(parameters.get(name) or NOTHING) for name in ("ticker", "tickers", "groupings")}
    limit = str(parameters.get("ticker_limit") or "0")
    first = f", the first {limit}" if limit != "0" else ""
    if given["ticker"] != NOTHING:
        return given["ticker"]
    if given["tickers"] != NOTHING:
        names = given["tickers"].split(",")
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        return f"{', '.join(names[:_NAMED])}{more}{first}"
    return ("the universe" if given["groupings"] == NOTHING else given["groupings"].replace(",", ", ")) + first


def _of_run(run: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "run_id": run["run_id"],
        "task": run["task_family"],
        "what": what(run["parameters"]),
        "as_of": run["parameters"].get("date", ""),
        "started_at": _text(run["started_at"]),
    }


def _text(moment: dt.datetime | str) -> str:
    return moment if isinstance(moment, str) else f"{moment.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S}"
