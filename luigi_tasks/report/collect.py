"""The facts of one run, from the ledger; everything a report shows is in the one document made here."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from luigi_tasks.database.coverage import Coverage
from luigi_tasks.database.engine import engine_for, shown, transaction
from luigi_tasks.database.gaps import OUTAGE_SECURITIES, MissingSessions
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.database.schema import ohlcv, securities, security_metadata
from luigi_tasks.database.standing import Retired
from luigi_tasks.report import findings, trends
from luigi_tasks.report.findings import Finding, counted, finding, some
from luigi_tasks.sessions import calendar_of

KINDS = {
    "throttled": "Yahoo throttled for longer than the run's patience. Run again later; see [Yahoo] in luigi.cfg.",
    "refused_alone": "Yahoo refuses this ticker (429), and answers others. Run again later.",
    "yfinance_moved": "yfinance asks for more than it used to. Install the yfinance of constraints.txt, or see "
    "docs/how-to/yahoo-broke.md.",
    "provider_down": "Yahoo gave error pages, or cut or blank answers. Run again later.",
    "outage": "Yahoo, or the way to it, was down for longer than the run's patience. Run again later.",
    "network": "No answer came. Check network, proxy and DNS, then run again.",
    "authorisation": "Yahoo refused the session. Run again; if it stays, look for a newer yfinance.",
    "answer_not_understood": "The answer was not about the question. Run again; if it stays, report it.",
    "source_unreachable": "The source cannot be used at all. Nothing was tried; mend that and run again.",
    "no_such_ticker": "The source says it has no such ticker. Correct it or take it out of config/universe.yaml.",
    "delisted": "Yahoo says it has the ticker no more; its bars stay. Take it out, or put in what it is called now.",
    "wrong_answer": "Another security under this ticker? Nothing was changed, the reason shows both. See its listing "
    "at Yahoo; ./run.sh accept TICKER takes the new one.",
    "identical_series": "The bars are another ticker's. Run again; if both are one security, keep one of them.",
    "history_shrank": "The answer lacks sessions, dividends or splits that are stored, so nothing was changed. Run "
    "again; if it is right so, ./run.sh accept TICKER takes it.",
    "outdated_download": "The stored bars have changed since the download. Nothing was changed; run again.",
    "restated_since": "The source has restated its history since. Run the latest as-of date, then this one again.",
    "no_bars": "The ticker has no bars in these years. Ask for more years, or take it out.",
    "data_invalid": "Too many bars break the rules. See its quarantine file; nothing of it was stored.",
    "security_not_found": "The ticker is not registered. Run RegisterSecurity for it.",
    "database_unavailable": "PostgreSQL did not answer. Start it and run again.",
    "database_refused": "PostgreSQL said no. The reason names the constraint, permission or disk.",
    "store_unwritable": "A file could not be written or read. Check disk space and permissions.",
    "configuration": "A setting or parameter cannot be used. The reason says which.",
    "process_died": "The task's process was killed from outside. Run again; check the machine's memory.",
    "timed_out": "The task took longer than its time_limit. Run again, or raise it in luigi.cfg.",
    "unexpected": "An error nobody foresaw; the traceback is in the log. Please report it.",
}
"""What to do about each kind of failure."""


@dataclass(frozen=True)
class Expected:
    """A step that the run was to bring about.

    `receipt` is for a step without a marker: what its files hold, as (rows, detail), or None where they are not there.
    A process may be killed after its file is whole and before the ledger has heard of it.
    """

    step: str
    ticker: str
    task_id: str
    receipt: Callable[[], tuple[int, dict[str, Any]] | None]


@dataclass
class StepCount:
    """What came of one step over all tickers. `processed` is `succeeded` + `failed`, in this run."""

    step: str
    processed: int = 0
    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    blocked: int = 0
    rows: int = 0
    seconds: float = 0.0


@dataclass
class TickerState:
    """What came of one ticker: `done`, `failed`, `blocked` or `retired`, its bars and what was quarantined.

    `last` is the day of its last bar, `missing` how many sessions there are no bars of, `closes` the last close of each
    of the last months; where the run had nothing to do, bars, missing and closes are not looked up.
    """

    ticker: str
    state: str = "done"
    bars: int | None = None
    quarantined: int = 0
    reason: str = ""
    steps: dict[str, str] = field(default_factory=dict)
    last: str | None = None
    missing: int = 0
    closes: list[float] = field(default_factory=list)


def collect(
    database_url: str,
    run: dict[str, Any],
    steps: Sequence[str],
    expected: Sequence[Expected],
    as_of: dt.date,
    retired: Mapping[str, Retired] | None = None,
) -> dict[str, Any]:
    """The report's document, JSON values only.

    `steps` are the step names in order, `expected` every step of every ticker of the run; `run` is the run's row.
    A step succeeded if it was done in this run, was skipped if it was done before or its ticker is `retired`, failed
    if this run says so, and was blocked if an earlier step of its ticker, or the run's end, kept it from being tried.
    """
    retired = retired or {}
    ledger = Ledger(database_url)
    failures = ledger.failures(run["run_id"])
    markers = ledger.markers([item.task_id for item in expected])
    failed = {failure["task_id"]: failure for failure in failures}
    counts = {step: StepCount(step) for step in steps}
    states: dict[str, TickerState] = {}
    quarantine: list[dict[str, Any]] = []
    revised, routine = Counter[str](), Counter[str]()
    noted: dict[str, list[dict[str, Any]]] = defaultdict(list)
    fresh: dict[str, list[dict[str, Any]]] = defaultdict(list)
    tried = {failure["ticker"] for failure in failures}
    for item in expected:
        count, ticker = counts[item.step], states.setdefault(item.ticker, TickerState(item.ticker))
        marker, failure = markers.get(item.task_id), failed.get(item.task_id)
        if marker is None and failure is None and (found := item.receipt()) is not None:
            marker = {"run_id": "", "rows": found[0], "detail": found[1], "seconds": None}
        outcome = _outcome(run["run_id"], marker, failure)
        if outcome == "blocked" and item.ticker in retired and item.ticker not in tried:
            outcome, ticker.state, ticker.reason = "skipped", "retired", _why_retired(retired[item.ticker])
        ticker.steps[item.step] = outcome
        if outcome in ("succeeded", "failed"):
            count.processed += 1
        setattr(count, outcome, getattr(count, outcome) + 1)
        if marker is not None and outcome in ("succeeded", "skipped"):
            count.rows += marker["rows"]
            count.seconds += (marker["seconds"] or 0.0) if outcome == "succeeded" else 0.0
            if outcome == "succeeded":
                revised.update(marker["detail"].get("revised") or {})
                fresh[item.ticker].append(marker["detail"])
            noted[item.ticker].append(marker["detail"])
            if rows := _quarantined(marker["detail"]):
                ticker.quarantined = len(rows)
                quarantine.append({"ticker": item.ticker, "rows": rows})
        if outcome == "failed" and failure is not None:
            ticker.state, ticker.reason = "failed", ticker.reason or _reason(failure)
        elif outcome == "blocked" and ticker.state == "done":
            ticker.state = "blocked"
    # What was found out about an answer that is not stored says nothing of what is.
    refused = {name for name, state in states.items() if state.steps.get(_STORES) in ("failed", "blocked")}
    told = {name: findings.last_word(details) for name, details in noted.items() if name not in refused}
    _mark_special(database_url, told)
    for name, details in fresh.items():
        if name in told:
            detail = findings.last_word(details) | {"special": told[name].get("special")}
            routine.update(findings.routine(detail, as_of))
    every = list(states)
    looks = missing(database_url, every, as_of) + behind(database_url, every, as_of)
    looks += _of_tickers(database_url, every, told, as_of)
    # Of a run that is over, what was noted at its end: others have sent requests since.
    summary = run["summary"] or {}
    reader = Coverage(database_url)
    document = {
        "run_id": run["run_id"],
        "task": run["task_family"],
        "parameters": run["parameters"],
        "as_of": str(as_of),
        "started_at": f"{run['started_at']:%Y-%m-%d %H:%M:%S}",
        "seconds": summary.get("seconds") or (dt.datetime.now(dt.UTC) - run["started_at"]).total_seconds(),
        "database": shown(database_url),
        "tickers": dict(Counter(state.state for state in states.values())) | {"all": len(states)},
        "steps": [vars(count) for count in counts.values()],
        "failures": [_failure(failure) for failure in failures],
        "failures_by_kind": _by_kind(failures),
        "quarantine": quarantine,
        "findings": findings.ordered(looks),
        "findings_by_kind": findings.by_kind(looks),
        "retired": [{"ticker": s.ticker, "reason": s.reason} for s in states.values() if s.state == "retired"],
        "revised": dict(revised),
        "routine": dict(routine) | ({"provisional": newest} if (newest := reader.provisional(list(states))) else {}),
        "requests": summary.get("requests") or ledger.requests_since(run["requests_before"]),
    }
    bars = [each for each in markers.values() if (each["task_family"], each["run_id"]) == (_STORES, run["run_id"])]
    document |= _by_quote(ledger.of_family(run["run_id"], "DownloadQuotes"), bars, run["started_at"])
    worked = any(count.processed for count in counts.values())
    ends = reader.ends(list(states))
    for name, (_, last) in ends.items():
        states[name].last = str(last)
    document |= _over_time(database_url, states, as_of) if worked else _NOTHING_NEW
    document["freshness"] = trends.freshness(last for _, last in ends.values())
    document["stored"] = {
        "bars": sum(state.bars or 0 for state in states.values()) if worked else None,
        "tickers_with_bars": len(ends),
        "tickers_with_company_data": _with_company_data(database_url, list(states)),
        "first_session": _text(min((first for first, _ in ends.values()), default=None)),
        "last_session": _text(max((last for _, last in ends.values()), default=None)),
    }
    return document | {"by_ticker": [vars(state) for state in states.values()]}


def _by_quote(
    asked: Sequence[Mapping[str, Any]], bars: Sequence[Mapping[str, Any]], started_at: dt.datetime
) -> dict[str, Any]:
    """What quotes have told, and how long it took until the last close was in, by the run's markers of both.

    {quotes: {asked, lacking, reasons}, probe: {what it told: tickers}, closes_seconds: None where no bars were stored}
    """
    lacking = [ticker for each in asked for ticker in each["detail"].get("lacking_quotes", [])]
    reasons = sorted({each["detail"]["reason"] for each in asked if each["detail"].get("reason")})
    told = Counter(each["detail"]["probe"] for each in bars if "probe" in each["detail"])
    return {
        "quotes": {"asked": sum(each["rows"] for each in asked) + len(lacking), "lacking": lacking, "reasons": reasons},
        "probe": dict(told),
        "closes_seconds": (max(each["done_at"] for each in bars) - started_at).total_seconds() if bars else None,
    }


_STORES = "InsertOhlcv"

_NOTHING_NEW: dict[str, Any] = {"coverage": None, "bad_bars": [], "repaired": []}
"""Millions of bars are counted in seconds, which a run that has stored none does without."""


def _over_time(database_url: str, states: Mapping[str, TickerState], as_of: dt.date) -> dict[str, Any]:
    """What is stored of the tickers, month by month; their states are told of it, too."""
    tickers = list(states)
    coverage = trends.coverage(database_url, tickers)
    for state in states.values():
        state.bars = 0
    for ticker, bars, missing in zip(coverage["tickers"], coverage["bars"], coverage["missing"], strict=True):
        states[ticker].bars, states[ticker].missing = sum(bars), sum(missing)
    for ticker, closes in trends.sparklines(database_url, tickers, as_of).items():
        states[ticker].closes = closes
    return {
        "coverage": coverage,
        "bad_bars": trends.bad_bars(database_url, tickers),
        "repaired": trends.repaired(database_url, tickers),
    }


def _with_company_data(database_url: str, tickers: Sequence[str]) -> int:
    """Of how many of the tickers there is any."""
    query = (
        sa.select(sa.func.count())
        .where(securities.c.ticker == sa.func.any(sa.bindparam("tickers", type_=sa.ARRAY(sa.Text))))
        .where(sa.exists().where(security_metadata.c.security_id == securities.c.security_id))
    )
    with transaction(engine_for(database_url), "the report") as connection:
        return int(connection.scalar(query, {"tickers": list(tickers)}) or 0)


def missing(database_url: str, tickers: Sequence[str], as_of: dt.date) -> list[Finding]:
    """Sessions that there are no bars of, by the exchanges' calendars.

    What many securities of an exchange lack is one finding, in a run of so many of them that it can tell; in a smaller
    one each ticker has its own, which is of no others.
    """
    gaps, reader = MissingSessions(database_url), Coverage(database_url)
    listed = gaps.listed(tickers, as_of)
    exchanges = reader.exchanges(tickers)
    outages = gaps.outages(tickers, as_of)
    days = [outage.date for outage in outages]
    lacking = reader.lacking(tickers, days, as_of) if outages else {}
    having = reader.having(tickers, days) if outages else {}
    found = []
    for outage in outages:
        key = (outage.exchange, outage.date)
        if exchanges[outage.exchange] < OUTAGE_SECURITIES:
            for ticker, known in lacking[key]:
                listed[ticker] = sorted([*listed.get(ticker, []), (outage.date, known and not outage.asked_for(as_of))])
            continue
        asked = outage.asked_for(as_of)
        words = "for two weeks it is asked for in every run" if asked else "the source has it no more"
        count = len(lacking[key])
        found.append(
            finding(
                outage.exchange,
                "outage" if asked else "outage for good",
                f"{count} of {count + having.get(key, 0)} securities have no bar of {outage.date}: an outage of the "
                f"source; {words}",
                tickers=count,
            )
        )
    for ticker, sessions in listed.items():
        for known, kind, words in (
            (False, "session missing", "the next run asks for them again"),
            (True, "session missing for good", "the source has none"),
        ):
            if without := [day for day, asked in sessions if asked is known]:
                words = f"{counted(len(without), 'session')} without a bar, {words}: {some(without)}"
                found.append(finding(ticker, kind, words))
    for exchange, count in exchanges.items():
        if calendar_of(exchange) is None:
            words = f"no calendar is known, missing sessions of {counted(count, 'ticker')} do not show"
            found.append(finding(exchange, "no calendar", words, tickers=count))
    return found


def behind(database_url: str, tickers: Sequence[str], as_of: dt.date) -> list[Finding]:
    """Tickers of which the last bar is older than the last one of most others at their exchange, where no calendar is
    known that would tell.

    The exchange's last session is taken to be the day on which at least half of its tickers end.
    """
    # One look into the index for each: the table may have millions of bars.
    of_it = (ohlcv.c.security_id == securities.c.security_id) & (ohlcv.c.date <= as_of)
    newest = sa.select(ohlcv.c.date.label("last")).where(of_it).order_by(ohlcv.c.date.desc()).limit(1).lateral()
    last = (
        sa.select(securities.c.ticker, securities.c.exchange, newest.c.last)
        .join_from(securities, newest, sa.true())
        .where(securities.c.ticker == sa.func.any(sa.bindparam("tickers", type_=sa.ARRAY(sa.Text))))
        .where(securities.c.exchange.is_not(None))
    )
    with transaction(engine_for(database_url), "the report") as connection:
        rows = connection.execute(last, {"tickers": list(tickers)}).all()
    days: dict[str, list[dt.date]] = defaultdict(list)
    for row in rows:
        days[row.exchange].append(row.last)
    usual = {exchange: sorted(ends)[len(ends) // 2] for exchange, ends in days.items()}
    return [
        finding(row.ticker, "behind", f"ends on {row.last}; most others at {row.exchange} on {usual[row.exchange]}")
        for row in rows
        if row.last < usual[row.exchange] and calendar_of(row.exchange) is None
    ]


def _of_tickers(
    database_url: str, tickers: Sequence[str], told: Mapping[str, Mapping[str, Any]], as_of: dt.date
) -> list[Finding]:
    """What the steps have noted of the tickers, and the repairs that hold, by the table that has them all: a step only
    knows of those in what it was sent."""
    repairs = Coverage(database_url).repairs(tickers)
    return [
        each
        for ticker in dict.fromkeys((*told, *repairs))
        for each in findings.of_ticker(ticker, told.get(ticker, {}), as_of, repairs.get(ticker))
    ]


def _mark_special(database_url: str, told: Mapping[str, dict[str, Any]]) -> None:
    """Note as special the sessions off the calendar that were traded: Saturdays, Diwali's evening."""
    days = {
        name: list(map(dt.date.fromisoformat, detail["off_calendar"]))
        for name, detail in told.items()
        if detail.get("off_calendar")
    }
    if not days:
        return
    traded = Coverage(database_url).traded(list(days), {day for of_one in days.values() for day in of_one})
    for name, of_one in days.items():
        told[name]["special"] = [str(day) for day in of_one if (name, day) in traded]


def _quarantined(detail: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows that a validation has put into quarantine, without those that wait for the source to settle them."""
    waiting = {each.get("date") for each in detail.get("waiting") or []}
    return [row for row in detail.get("rows") or [] if not row.get("provisional") and row["date"] not in waiting]


def _why_retired(entry: Retired) -> str:
    return f"Yahoo said on {entry.days} days, last on {entry.last}, that it has it no more; asked again on {entry.next}"


def _outcome(run_id: str, marker: dict[str, Any] | None, failure: dict[str, Any] | None) -> str:
    if marker is not None and marker["run_id"] == run_id:
        return "succeeded"
    if failure is not None:
        return "failed"
    return "blocked" if marker is None else "skipped"


def _reason(failure: dict[str, Any]) -> str:
    """Without the ticker that most begin with: wherever one is shown, that stands beside it."""
    return str(failure["reason"]).removeprefix(f"{failure['ticker']}: ")


def _failure(failure: dict[str, Any]) -> dict[str, Any]:
    return {
        "ticker": failure["ticker"],
        "step": failure["task_family"],
        "kind": failure["kind"],
        "reason": _reason(failure),
        "failed_at": _text(failure["failed_at"]),
    }


def _by_kind(failures: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    tickers = defaultdict(list)
    for failure in failures:
        tickers[failure["kind"]].append(failure["ticker"] or failure["task_family"])
    return [
        {"kind": kind, "count": len(named), "remedy": KINDS.get(kind, ""), "tickers": sorted(set(named))}
        for kind, named in sorted(tickers.items(), key=lambda pair: -len(pair[1]))
    ]


def _text(moment: Any) -> str | None:
    return None if moment is None else str(moment)
