"""Whether an answer may follow on what is stored, or is held back: of another security, or a part of the history.

The functions raise within the transaction of `client`, with the security's row locked. Whoever knows better lets the
next answer pass: `YfinanceClient.accept`.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from luigi_tasks import bars
from luigi_tasks.database import history
from luigi_tasks.database.answer import Answer, Window, as_attrs
from luigi_tasks.database.schema import runs, task_failures, task_markers
from luigi_tasks.errors import HistoryShrank, OutdatedDownload, RestatedSince, WrongAnswer
from luigi_tasks.history import EXPLAINED, ROUNDING, Changes, restated, vanished

FACTS = ("name", "quote_type", "exchange", "currency", "time_zone", "first_trade_date")
"""What a source says of a security and is stored with it."""

_MOST_VANISHED = 1
_FEWEST_REPLACED = 5
_MOST_REPLACED_SHARE = 0.9
"""So many stored bars at least, and such a share of those that the answer has, too, are nearly all."""


@dataclass(frozen=True)
class HeldBack:
    """An answer that was not stored, since it is not what can follow on the stored bars; `years_back` of its run."""

    kind: str
    reason: str
    run_id: str
    as_of: dt.date | None
    years_back: int | None


def require_current(
    connection: sa.Connection, ticker: str, security_id: int, stored: Any, window: Window, answer: Answer
) -> None:
    """Raise OutdatedDownload or RestatedSince for a frame that cannot be joined to the stored bars."""
    span, older = window.span, stored.bars_as_of is not None and window.as_of < stored.bars_as_of
    if span.whole and not older:
        return
    if (
        stored.bars_as_of is None
        or (not span.whole and stored.history_from > span.start)
        or span.end < stored.bars_as_of
    ):
        raise OutdatedDownload(
            ticker, f"other bars were stored since those as of {window.as_of} were downloaded", "Run again."
        )
    known = history.read(connection, security_id, span.start, span.end)
    # What is in quarantine was sent.
    sent = ~known["date"].dt.date.isin(window.left_out)
    new, old = answer.df.copy(), known[sent]
    old.attrs, new.attrs = known.attrs, {bars.ACTIONS: as_attrs(answer.acted, answer.df)}
    if len(known) > len(old):
        refused = bars.every_action(known[~sent])
        old.attrs = {bars.ACTIONS: [*known.attrs.get(bars.ACTIONS, []), *as_attrs(refused, old)]}
    why = restated(old, new)
    if not why:
        return
    if older:
        raise RestatedSince(
            ticker,
            f"the source has restated its history since the bars as of {stored.bars_as_of} were stored: {why}",
            "Run the latest as-of date first; an earlier one never changes what is stored.",
        )
    raise OutdatedDownload(ticker, f"the stored bars have changed since the download: {why}", "Run again.")


def require_sessions(connection: sa.Connection, ticker: str, stored: Any, answer: Answer) -> list[dt.date]:
    """Stored sessions of the window that the answer has not; raises HistoryShrank where they are too many."""
    window, security_id = answer.window, stored.security_id
    if window is None:
        return []
    span, sent = window.span, {*answer.df["date"].dt.date, *window.left_out}
    if stored.accepted:
        return history.not_sent(connection, security_id, span.start, span.end, sent)
    return history.missing(connection, ticker, security_id, span.start, span.end, sent)


def require_actions(ticker: str, before: pd.DataFrame, acted: pd.DataFrame) -> dict[str, Any]:
    """Raise HistoryShrank where a split, or several dividends, are in the answer no more; a single one is told."""
    gone = vanished(before, acted)
    splits = [action for action in gone if action["kind"] == "stock_splits"]
    if splits or len(gone) > _MOST_VANISHED:
        what = splits or gone
        kind = "splits" if splits else "dividends and gains"
        known = (before["stock_splits"] > 0).sum() if splits else (before["stock_splits"] <= 0).sum()
        raise HistoryShrank(
            ticker,
            f"the answer lacks {len(what)} of {known} stored {kind}, {what[0]['date']} first",
            f"Nothing was changed; run again. {history.TO_ACCEPT}",
        )
    return {"vanished_actions": gone} if gone else {}


def require_same_bars(connection: sa.Connection, ticker: str, stored: Any, answer: Answer, found: Changes) -> None:
    """Raise WrongAnswer where nearly all stored bars have other prices and no action explains it: the ticker is another
    security's by now, or its prices have another unit."""
    replaced = found.replaced
    if replaced.sum() < _FEWEST_REPLACED:
        return
    common = history.common(connection, stored.security_id)
    if replaced.sum() < _MOST_REPLACED_SHARE * common:
        return
    old, new = found.old[replaced], found.new[replaced]
    factors = (new["close"] / old["close"]).to_numpy()
    by = f"all by the factor {np.median(factors):.6g}" if np.ptp(np.log(factors)) < EXPLAINED else "by no one factor"
    day, was, now = old["date"].iloc[-1].date(), old["close"].iloc[-1], new["close"].iloc[-1]
    reason = (
        f"{replaced.sum()} of {common} stored bars have other prices in the answer, {by}, and no split explains it: "
        f"the close of {day} is stored as {was:.6g}, and is {now:.6g} now"
    )
    named = [
        f"{name.replace('_', ' ')} {getattr(stored, name)}, now {answer.facts[name]}"
        for name in FACTS
        if answer.facts.get(name) and getattr(stored, name) and str(getattr(stored, name)) != str(answer.facts[name])
    ]
    raise WrongAnswer(ticker, "; ".join([reason, *named]), f"Nothing was changed. {history.TO_ACCEPT}")


def same_actions(before: pd.DataFrame, acted: pd.DataFrame) -> bool:
    names = ["date", *bars.AMOUNTS]
    return len(before) == len(acted) and bool(
        np.allclose(before[names].to_numpy("float64"), acted[names].to_numpy("float64"), rtol=ROUNDING, atol=0)
    )


def held_back(connection: sa.Connection, ticker: str) -> HeldBack | None:
    """See YfinanceClient.held_back."""
    failure = connection.execute(
        sa.select(task_failures)
        .where(task_failures.c.ticker == ticker)
        .where(task_failures.c.kind.in_((WrongAnswer.kind, HistoryShrank.kind)))
        .order_by(task_failures.c.failure_id.desc())
        .limit(1)
    ).one_or_none()
    if failure is None:
        return None
    stored_since = sa.select(sa.literal(1)).where(
        task_markers.c.ticker == ticker,
        task_markers.c.task_family == "InsertOhlcv",
        task_markers.c.done_at > failure.failed_at,
        sa.or_(task_markers.c.as_of >= failure.as_of, sa.true() if failure.as_of is None else sa.false()),
    )
    if connection.scalar(sa.select(stored_since.exists())):
        return None
    years = connection.scalar(sa.select(runs.c.parameters["years_back"].astext).where(runs.c.run_id == failure.run_id))
    years_back = int(years) if years is not None and years.isdecimal() else None
    return HeldBack(failure.kind, failure.reason.removeprefix(f"{ticker}: "), failure.run_id, failure.as_of, years_back)
