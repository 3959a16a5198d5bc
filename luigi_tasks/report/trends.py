"""What a run came to, next to the runs before it and to all that is stored: the report's charts are made of this."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from luigi_tasks.database.coverage import REPAIRED, Coverage
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.database.universe_runs import fills_in_the_past, is_of_universe

_RUNS = 30
_SPARKLINE_MONTHS = 36
_MOST_BAD_TICKERS = 12
_MOST_REPAIRED_TICKERS = 12
_MOST_POINTS = 500
_AROUND = dt.timedelta(days=21)

_SAME = ("tickers", "groupings", "ticker_limit")
"""Parameters by which two runs are over the same tickers."""


def summary(document: Mapping[str, Any]) -> dict[str, Any]:
    """What later reports tell of this run."""
    return {
        "tickers": document["tickers"],
        "failed": [item["ticker"] for item in document["by_ticker"] if item["state"] == "failed"],
        "bars": document["stored"]["bars"],
        "rows": sum(step["rows"] for step in document["steps"] if step["succeeded"]),
        "requests": document["requests"],
        "seconds": document["seconds"],
    }


def history(ledger: Ledger, run_id: str) -> list[dict[str, Any]]:
    """The runs before this one, newest first: run_id, task, as_of, started_at, outcome, and their summary; whether each
    was `whole` (has tried all its tickers), and whether it filled in the past."""
    rows = [row for row in ledger.runs_before(run_id, _RUNS + 1) if row["run_id"] != run_id]
    whole = ledger.whole([row["run_id"] for row in rows])
    return [
        {
            "run_id": row["run_id"],
            "task": row["task_family"],
            "as_of": row["parameters"].get("date", ""),
            "started_at": f"{row['started_at']:%Y-%m-%d %H:%M}",
            "outcome": row["outcome"] or "killed",
            "same": _same(row["parameters"]),
            "whole": row["run_id"] in whole,
            "in_the_past": fills_in_the_past(row["parameters"].get("date"), row["started_at"].date()),
            "summary": row["summary"] or {},
        }
        for row in rows
    ]


def changes(database_url: str, document: Mapping[str, Any], before: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is other than after the last run over the same tickers that has tried them all; without `since` where there
    was none.

    `new` are the tickers that failed in this run, and neither in that one nor in the last such run of the universe;
    `known` are the others that failed. Both are left out where there was neither of the two.
    """
    listings = Coverage(database_url).listing_changes(dt.date.fromisoformat(document["as_of"]))
    found: dict[str, Any] = {
        "listings": [f"{each.ticker} {'joined' if each.joined else 'left'} {each.grouping}" for each in listings],
        "revised": document["revised"],
        "routine": document.get("routine", {}),
    }
    of_task = [run for run in before if run["task"] == document["task"]]
    alike = [run for run in of_task if run["same"] == _same(document["parameters"])]
    in_the_past = fills_in_the_past(document["as_of"], dt.date.fromisoformat(document["started_at"][:10]))
    last = _compared_with(alike, in_the_past)
    universe = _compared_with([run for run in of_task if is_of_universe(run["same"])], in_the_past)
    states = {item["ticker"]: item["state"] for item in document["by_ticker"]}
    now = {ticker for ticker, state in states.items() if state == "failed"}
    if document["task"] == "RunAll" and (last is not None or universe is not None):
        known = {ticker for run in (last, universe) if run for ticker in run["summary"]["failed"]}
        found |= {"new": sorted(now - known), "known": sorted(now & known)}
    if last is None:
        return found
    # Of runs that have stored something, the last one: those after it have not counted.
    counted = next((run["summary"]["bars"] for run in alike if run["summary"].get("bars") is not None), None)
    bars, failed = document["stored"]["bars"], set(last["summary"]["failed"])
    return found | {
        "since": last["run_id"],
        "since_date": last["as_of"],
        "newly_failed": sorted(now - failed),
        "still_failed": sorted(now & failed),
        "recovered": sorted(ticker for ticker in failed if states.get(ticker) == "done"),
        "bars": 0 if bars is None or counted is None else bars - counted,
    }


def _compared_with(runs: Sequence[Mapping[str, Any]], in_the_past: bool) -> Mapping[str, Any] | None:
    """The first of the runs that has got to its end, and is known by its summary; where there is one, such a one as
    fills in the past as this one does, or does not."""
    known = [run for run in runs if run["whole"] and "failed" in run["summary"]]
    return next((run for run in known if run["in_the_past"] == in_the_past), known[0] if known else None)


def _same(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: parameters.get(name) for name in _SAME}


def coverage(database_url: str, tickers: Sequence[str]) -> dict[str, Any]:
    """{months: ["2024-01", ...], tickers, bars, missing}, the latter two as one list a ticker, one number a month.

    Tickers with most missing sessions come first.
    """
    found = Coverage(database_url).months(tickers)
    months = _all_months([each.month for each in found])
    place = {month: number for number, month in enumerate(months)}
    bars: dict[str, list[int]] = {}
    missing: dict[str, list[int]] = {}
    for each in found:
        for rows, count in ((bars, each.bars), (missing, each.missing)):
            rows.setdefault(each.ticker, [0] * len(months))[place[each.month]] = count
    ordered = sorted(bars, key=lambda ticker: (-sum(missing[ticker]), ticker))
    return {
        "months": [f"{month:%Y-%m}" for month in months],
        "tickers": ordered,
        "bars": [bars[ticker] for ticker in ordered],
        "missing": [missing[ticker] for ticker in ordered],
    }


def sparklines(database_url: str, tickers: Sequence[str], as_of: dt.date) -> dict[str, list[float]]:
    """{ticker: the last close of each of the last 36 months}."""
    since = as_of - dt.timedelta(days=round(_SPARKLINE_MONTHS * 30.44))
    return Coverage(database_url).month_ends(tickers, since)


def freshness(last_sessions: Iterable[dt.date]) -> list[dict[str, Any]]:
    """How many tickers end on which session, newest first: [{last, tickers}]."""
    counts = Counter(last_sessions)
    return [{"last": str(last), "tickers": counts[last]} for last in sorted(counts, reverse=True)]


def bad_bars(database_url: str, tickers: Sequence[str]) -> list[dict[str, Any]]:
    """Of the tickers with bars in quarantine, twelve at most: the latest such bars, and the stored ones around them.

    [{ticker, bad: [{date, open, high, low, close, rules}], bars: [[date, open, high, low, close]]}]
    """
    reader = Coverage(database_url)
    by_ticker: dict[str, list[dict[str, Any]]] = {}
    for row in reader.quarantined(tickers):
        by_ticker.setdefault(row["ticker"], []).append(row)
    shown = []
    for ticker in sorted(by_ticker, key=lambda ticker: (-len(by_ticker[ticker]), ticker))[:_MOST_BAD_TICKERS]:
        last = max(row["date"] for row in by_ticker[ticker])
        start, end = last - 2 * _AROUND, last + _AROUND
        bad = [
            {name: row[name] for name in ("open", "high", "low", "close")}
            | {"date": str(row["date"]), "rules": "; ".join(broken["rule"] for broken in row["broken"])}
            for row in by_ticker[ticker]
            if row["date"] >= start
        ]
        bars = [[str(day), *prices] for day, *prices in reader.bars_around(ticker, start, end)]
        shown.append({"ticker": ticker, "bad": bad, "bars": bars})
    return shown


def repaired(database_url: str, tickers: Sequence[str]) -> list[dict[str, Any]]:
    """Of the tickers with repairs that hold, twelve at most, those with most first: what was repaired, and the series
    around it as served and repaired, of the column that tells most of it.

    [{ticker, rules: [{rule, values, bars, first, last, evidence}], column, dates, served, repaired}]
    """
    reader = Coverage(database_url)
    by_ticker = reader.repairs(tickers)
    most = {ticker: sum(repair["values"] for repair in rules.values()) for ticker, rules in by_ticker.items()}
    shown = sorted(by_ticker, key=lambda ticker: (-most[ticker], ticker))[:_MOST_REPAIRED_TICKERS]
    columns = reader.repaired_columns(shown)
    found = []
    for ticker in shown:
        column = next(name for name in REPAIRED if name in columns[ticker])
        _, first, last = columns[ticker][column]
        around = max(_AROUND, (last - first) / 10)
        rows = reader.repaired_beside_served(ticker, column, first - 2 * around, last + around)
        if column == "dividends":
            # One a quarter; the days between say nothing.
            rows = [row for row in rows if row[1] or row[2]]
        rows = _thinned(rows)
        found.append(
            {
                "ticker": ticker,
                "rules": [{"rule": rule, **repair} for rule, repair in by_ticker[ticker].items()],
                "column": column,
                "dates": [str(row[0]) for row in rows],
                "served": [_drawn(row[1]) for row in rows],
                "repaired": [_drawn(row[2]) for row in rows],
            }
        )
    return found


def _thinned(rows: Sequence[tuple[dt.date, float | None, float | None, bool]]) -> list[Any]:
    """As many as a chart shows: of each stretch the first bar, and one more, a repaired one where there is any."""
    if len(rows) <= _MOST_POINTS:
        return list(rows)
    step = math.ceil(2 * len(rows) / _MOST_POINTS)
    stretches = (rows[start : start + step] for start in range(0, len(rows), step))
    kept = ((stretch[0], *([_telling(stretch[1:])] if stretch[1:] else [])) for stretch in stretches)
    return [row for stretch in kept for row in stretch]


def _telling(rows: Sequence[tuple[dt.date, float | None, float | None, bool]]) -> Any:
    return next((row for row in rows if row[3]), rows[len(rows) // 2])


def _drawn(value: float | None) -> float | None:
    """To the six digits that a chart shows; None where there is no number."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def _all_months(found: Sequence[dt.date]) -> list[dt.date]:
    """Every month from the first to the last."""
    if not found:
        return []
    first, last = min(found), max(found)
    numbers = range(first.year * 12 + first.month - 1, last.year * 12 + last.month)
    return [dt.date(number // 12, number % 12 + 1, 1) for number in numbers]
