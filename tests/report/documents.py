"""Documents as `luigi_tasks.report.collect` makes them, for what is made of them."""

from __future__ import annotations

import datetime as dt
from typing import Any

from luigi_tasks.report import findings

STEP = {
    "step": "InsertOhlcv",
    "processed": 2,
    "succeeded": 1,
    "failed": 1,
    "skipped": 0,
    "blocked": 0,
    "rows": 1234,
    "seconds": 2.5,
}
NOTHING_NEW: dict[str, Any] = {"coverage": None, "freshness": [], "bad_bars": [], "repaired": [], "coverage_in": ""}


def ticker(name: str, **changes: Any) -> dict[str, Any]:
    """A ticker that is done."""
    plain = {"ticker": name, "state": "done", "bars": 1234, "quarantined": 0, "reason": "", "steps": {}}
    return plain | {"last": "2023-12-29", "missing": 0, "closes": [50.0, 51.5, 49.0]} | changes


def told(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Findings as a document has them."""
    return {"findings": findings.ordered(found), "findings_by_kind": findings.by_kind(found)}


def document(**changes: Any) -> dict[str, Any]:
    """Of a run in which one ticker was done and one failed."""
    failure = {
        "ticker": "BBB",
        "step": "InsertOhlcv",
        "kind": "network",
        "reason": "<script>x</script>",
        "failed_at": "now",
    }
    tickers = [ticker("AAA", quarantined=1), ticker("BBB", state="failed", bars=0, reason="<img alt=x>", closes=[])]
    return {
        "run_id": "run-1",
        "task": "RunAll",
        "parameters": {"date": "2024-01-01", "tickers": "<b>"},
        "as_of": "2024-01-01",
        "started_at": "2024-01-01 00:00:00",
        "written_at": "2024-01-01 00:00:01",
        "seconds": 61.0,
        "database": "postgresql://me:***@host/db",
        "tickers": {"done": 1, "failed": 1, "all": 2},
        "steps": [STEP],
        "failures": [failure],
        "failures_by_kind": [{"kind": "network", "count": 1, "remedy": "Check the network.", "tickers": ["BBB"]}],
        "quarantine": [{"ticker": "AAA", "rows": [{"date": "2023-12-29", "rules": "high is the highest price"}]}],
        "stored": {
            "bars": 1234,
            "tickers_with_bars": 1,
            "tickers_with_company_data": 1,
            "first_session": "2023-01-03",
            "last_session": "2023-12-29",
        },
        "revised": {},
        "requests": {"prices": {"sent": 2, "throttled": 1}},
        "by_ticker": tickers,
        "rejected": [{"ticker": "<i>", "groupings": ["a"], "reason": "has characters that no ticker has"}],
        **told([findings.finding("AAA", "ends early", "ends on 2023-12-27, though it traded on 2023-12-29")]),
        "retired": [],
        "gave_up": "",
        "outcome": "incomplete",
        "interrupted_by": "",
        "data_docs": "",
        "changes": {"listings": [], "revised": {}},
        "history": [],
        "where": {"luigid": "127.0.0.1:8082"},
        **NOTHING_NEW,
    } | changes


def of_text(text: str) -> dict[str, Any]:
    """In which every text that comes from outside is `text`."""
    step = STEP | {"step": text, "processed": 1, "succeeded": 0, "rows": 0}
    return document(
        run_id=text,
        task=text,
        parameters={text or "name": text},
        database=text,
        tickers={"failed": 1, "all": 1},
        steps=[step],
        failures=[{"ticker": text, "step": text, "kind": text, "reason": text, "failed_at": text}],
        failures_by_kind=[{"kind": text, "count": 1, "remedy": text, "tickers": [text]}],
        quarantine=[{"ticker": text, "rows": [{"date": text, "rules": text}]}],
        changes={"listings": [text], "revised": {}, "bars": 1, "since": text, "since_date": "2024-01-01"}
        | {name: [text] for name in ("newly_failed", "still_failed", "recovered")},
        by_ticker=[ticker(text, state="failed", reason=text)],
        rejected=[{"ticker": text, "groupings": [text], "reason": text}],
        findings=[{"ticker": text, "kind": text, "gravity": 1, "finding": text}],
        findings_by_kind=[{"kind": text, "gravity": 1, "count": 1, "tickers": 1, "words": text}],
        repaired=[repaired(text, text)],
        retired=[{"ticker": text, "reason": text}],
        outcome="interrupted",
        interrupted_by=text,
    )


def repaired(name: str, rule: str, points: int = 30) -> dict[str, Any]:
    """A ticker of which the first half was divided by 4."""
    dates = [str(dt.date(2023, 1, 2) + dt.timedelta(days=number)) for number in range(points)]
    rule_of_it = {"rule": rule, "values": 60, "bars": 15, "first": dates[0], "last": dates[points // 2]}
    return {
        "ticker": name,
        "rules": [rule_of_it | {"evidence": rule}],
        "column": "close",
        "dates": dates,
        "served": [400.0 if number < points // 2 else 100.0 + number for number in range(points)],
        "repaired": [100.0 + number for number in range(points)],
    }


def with_charts(count: int, months: int = 24) -> dict[str, Any]:
    """Of a run over so many tickers, with something in every chart; the first ticker lacks sessions."""
    names = [f"T{number:05}" for number in range(count)]
    labels = [f"{2014 + number // 12}-{number % 12 + 1:02}" for number in range(months)]
    bars = [[21] * months for _ in names]
    missing = [[3 if not place else 0] * months for place in range(count)]
    runs = [
        {
            "run_id": f"run-{number}",
            "task": "RunAll",
            "as_of": "2024-01-02",
            "started_at": f"2024-01-0{number} 23:30",
            "outcome": "complete",
            "summary": {
                "tickers": {"done": count, "all": count},
                "failed": [],
                "requests": {"prices": {"sent": 9, "throttled": 0}},
                "seconds": 60.0 * number,
            },
        }
        for number in (3, 2, 1)
    ]
    candles = [[f"2023-12-{day:02}", 10.0, 11.0, 9.5, 10.5] for day in range(1, 21)]
    bad = {
        "date": "2023-12-21",
        "open": 10.0,
        "high": 9.0,
        "low": 9.5,
        "close": 10.0,
        "rules": "high <b>is</b> highest",
    }
    return document(
        tickers={"done": count - 1, "failed": 1, "all": count},
        by_ticker=[
            ticker(name, bars=place * 7, closes=[50.0 + place, 51.0, 49.0] * 12, missing=3 if not place else 0)
            if place != 1
            else ticker(name, state="failed", bars=7, reason="no answer came")
            for place, name in enumerate(names)
        ],
        coverage={"months": labels, "tickers": names, "bars": bars, "missing": missing},
        freshness=[{"last": "2023-12-29", "tickers": count - 1}, {"last": "2023-12-28", "tickers": 1}],
        bad_bars=[{"ticker": "T00000", "bad": [bad], "bars": candles}],
        repaired=[repaired("T00002", "no <b>split</b> is in the prices")],
        history=runs,
    )
