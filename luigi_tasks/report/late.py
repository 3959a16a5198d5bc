"""Whether what should be stored by now is: nobody else notices a run of the universe that never started."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping
from typing import Any

from luigi_tasks import sessions
from luigi_tasks.database.freshness import last_bars
from luigi_tasks.database.universe_runs import News, UniverseRuns
from luigi_tasks.report.findings import counted

_SHOWN = 8


def reasons(database_url: str, hours: float, now: dt.datetime) -> list[str]:
    """Why it must be said to be late at `now` (with a zone), in words; empty if all is well.

    A run of the configured universe must have tried all its tickers and ended in the last `hours`, not one that filled
    in the past. No ticker may have failed in it for the first time, unless it has been done since; one that failed in
    the run of the universe before, too, is known. And at each exchange most tickers must have a bar of the last session
    that was over when that run started, or where there was none, when those hours began; a fund, of the one before
    that. Exchanges without a calendar are left out.

    Raises:
        DatabaseUnavailable, DatabaseRefused
    """
    began = now.astimezone(dt.UTC) - dt.timedelta(hours=hours)
    runs = UniverseRuns(database_url)
    news, run = runs.news(), None
    found = []
    if news is None or news.run["finished_at"] < began:
        found.append(f"no run of the whole universe has ended in the last {hours:g} hours; {_last_run(runs.latest())}")
    else:
        run = news.run
        found += _newly_failed(news)
    since = began if run is None else run["started_at"]
    latest = now.astimezone(dt.UTC).date() if run is None else dt.date.fromisoformat(run["parameters"]["date"])
    for exchange, ends in sorted(last_bars(database_url).items()):
        expected = expected_session(exchange, since, latest)
        if expected is None:
            continue
        there, every = ends.there(exchange, expected), ends.all.total()
        if 2 * there < every:
            found.append(
                f"{exchange}: {there} of {every} tickers have a bar of {expected}, the last session to be "
                f"expected; {_most(ends.all)}"
            )
    return found


def expected_session(exchange: str, since: dt.datetime, latest: dt.date) -> dt.date | None:
    """The exchange's last session, up to `latest`, whose close was to be had at `since`; None: no calendar tells."""
    calendar = sessions.calendar_of(exchange)
    last = None if calendar is None else sessions.last_over(calendar, since - sessions.DELAY)
    if calendar is None or last is None:
        return None
    days = sessions.sessions(calendar, sessions.known(calendar)[0], min(last, latest))
    return days[-1] if days else None


def _most(ends: Counter[dt.date]) -> str:
    day, tickers = ends.most_common(1)[0]
    return f"{tickers} have none at all" if day == dt.date.min else f"{tickers} end on {day}"


def _newly_failed(news: News) -> list[str]:
    if not news.new:
        return []
    shown = [f"{ticker} ({', '.join(kinds)})" for ticker, kinds in list(news.new.items())[:_SHOWN]]
    more = ", …" if len(news.new) > _SHOWN else ""
    known = f"; known from before: {counted(len(news.known), 'ticker')}" if news.known else ""
    failed = f"failed in the last run of the universe, {news.run['run_id']}, and not in the one before"
    return [f"{counted(len(news.new), 'ticker')} {failed}: {', '.join(shown)}{more}{known}"]


def _last_run(run: Mapping[str, Any] | None) -> str:
    if run is None:
        return "there has been none yet"
    outcome = run["outcome"] or "running, or killed"
    return f"the last one, {run['run_id']} as of {run['parameters'].get('date')}, is {outcome}"
