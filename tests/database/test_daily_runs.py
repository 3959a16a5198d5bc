"""After any sequence of daily runs the table is what one download of everything on the last day gives, bar for bar."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from itertools import count

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luigi_tasks import bars, history
from luigi_tasks.database.client import Window, YfinanceClient
from luigi_tasks.database.engine import engine_for
from luigi_tasks.errors import HistoryShrank
from luigi_tasks.schedule import Span, to_ask

SESSIONS = pd.bdate_range("2024-01-01", periods=70)
OVERLAP = 10
_names = count()


@dataclass(frozen=True)
class Action:
    """A split (`ratio` new shares per old one) or a dividend, that the source tells of in some sessions only."""

    session: int
    told_from: int
    told_until: int = len(SESSIONS)
    ratio: float = 0.0
    dividend: float = 0.0


@dataclass(frozen=True)
class Yahoo:
    """What a source that restates its history serves after each session."""

    actions: tuple[Action, ...]
    seed: int = 1

    def serves(self, today: int, days: Span) -> pd.DataFrame | None:
        random = np.random.default_rng(self.seed)
        traded = np.round(50 * np.exp(np.cumsum(random.normal(0, 0.02, len(SESSIONS)))), 2)
        volume = random.integers(1_000, 9_000, len(SESSIONS)) * 840.0
        splits, dividends, factor, adjusted = (np.full(len(SESSIONS), value) for value in (0.0, 0.0, 1.0, 1.0))
        for action in self.actions:
            if not (action.told_from <= today < action.told_until and action.session <= today):
                continue
            before = np.arange(len(SESSIONS)) < action.session
            if action.ratio:
                splits[action.session] = (splits[action.session] or 1.0) * action.ratio
                factor[before] *= action.ratio
            else:
                dividends[action.session] += action.dividend
                adjusted[before] *= 1 - action.dividend / 50
        close = traded / factor
        frame = pd.DataFrame(
            {
                "date": SESSIONS,
                "open": close,
                "high": close * 1.01,
                "low": close * 0.99,
                "close": close,
                "adj_close": close * adjusted,
                "volume": np.round(volume * factor),
                "dividends": dividends,
                "stock_splits": splits,
            }
        )
        day = frame["date"].dt.date
        frame = bars.conform(frame[(day >= days.start) & (day <= days.end) & (frame.index <= today)])
        return frame if len(frame) else None


def day_of(session: int) -> dt.date:
    day: dt.date = SESSIONS[session].date()
    return day


def run(client: YfinanceClient, ticker: str, yahoo: Yahoo, session: int, *, full: bool = False) -> Span:
    """What the tasks of one ticker do on the evening of a session; the days that were asked for in the end."""
    start, as_of = day_of(0), day_of(session)
    stored = client.stored(ticker, as_of, OVERLAP)
    first, whole = (to_ask(ticker, stored, start, as_of, 10_000, full=every) for every in (full, True))
    frame = history.download(
        lambda days: yahoo.serves(session, days), lambda days: client.bars(ticker, days.start, days.end), first, whole
    )
    assert frame is not None
    span = Span.from_json(frame.attrs[bars.ASKED])
    try:
        client.insert_ohlcv(ticker, frame, window=Window(span, as_of))
    except HistoryShrank:
        # A split that was taken back, or several dividends: only where somebody says that it is right.
        client.accept(ticker, force=True)
        client.insert_ohlcv(ticker, frame, window=Window(span, as_of))
    return span


def everything(yahoo: Yahoo, session: int) -> pd.DataFrame:
    frame = yahoo.serves(session, Span(day_of(0), day_of(-1), whole=True))
    assert frame is not None
    return frame


def actions(most_late: int) -> st.SearchStrategy[Action]:
    def late(session: int, lateness: int, lasts: int, ratio: float, dividend: float) -> Action:
        told = session + lateness
        # Taken back while it is still among the sessions that are asked for again, or never.
        until = told + lasts if lasts and session + OVERLAP > told + lasts else len(SESSIONS)
        return Action(session, told, until, ratio, 0.0 if ratio else dividend)

    return st.builds(
        late,
        session=st.integers(2, len(SESSIONS) - 1),
        lateness=st.integers(0, most_late),
        lasts=st.integers(0, 5),
        ratio=st.sampled_from([0.0, 0.0, 2.0, 3.0, 4.0, 0.1, 1.5]),
        dividend=st.floats(0.01, 5).map(lambda amount: round(amount, 4)),
    )


run_days = st.sets(st.integers(0, len(SESSIONS) - 1), min_size=1, max_size=12).map(sorted)


@pytest.fixture
def client(emptied_url: str) -> YfinanceClient:
    return YfinanceClient(emptied_url)


def new_ticker(client: YfinanceClient) -> tuple[str, int]:
    """A name and a seed of its own: two securities with the same bars are an error."""
    number = next(_names)
    client.insert_security(f"T{number}", [])
    return f"T{number}", number


common = settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])


@common
@given(acted=st.lists(actions(most_late=OVERLAP), max_size=5), days=run_days)
def test_daily_runs_end_where_one_download_does(client: YfinanceClient, acted: list[Action], days: list[int]) -> None:
    ticker, seed = new_ticker(client)
    yahoo = Yahoo(tuple(acted), seed)

    for session in days:
        run(client, ticker, yahoo, session)

    pd.testing.assert_frame_equal(client.bars(ticker, day_of(0), day_of(-1)), everything(yahoo, days[-1]))


@common
@given(acted=st.lists(actions(most_late=40), max_size=5), days=run_days)
def test_a_full_run_mends_what_was_announced_very_late(
    client: YfinanceClient, acted: list[Action], days: list[int]
) -> None:
    ticker, seed = new_ticker(client)
    yahoo = Yahoo(tuple(acted), seed)

    for session in days:
        run(client, ticker, yahoo, session, full=session == days[-1])

    pd.testing.assert_frame_equal(client.bars(ticker, day_of(0), day_of(-1)), everything(yahoo, days[-1]))


@common
@given(acted=st.lists(actions(most_late=OVERLAP), max_size=5), days=run_days)
def test_the_table_as_of_any_earlier_run_can_be_asked_for(
    client: YfinanceClient, emptied_url: str, acted: list[Action], days: list[int]
) -> None:
    ticker, seed = new_ticker(client)
    yahoo = Yahoo(tuple(acted), seed)

    for session in days:
        run(client, ticker, yahoo, session)

    columns = ", ".join(bars.COLUMNS)
    query = sa.text(f"SELECT {columns} FROM ohlcv_as_of(:day) WHERE security_id = :security_id ORDER BY date")
    with engine_for(emptied_url).connect() as connection:
        for session in days:
            values = {"day": day_of(session), "security_id": client.get_security_id(ticker)}
            rows = connection.execute(query, values).all()
            seen = bars.conform(pd.DataFrame(rows, columns=list(bars.COLUMNS)))
            pd.testing.assert_frame_equal(seen, everything(yahoo, session))


def test_only_the_last_sessions_are_asked_for_on_a_quiet_day(client: YfinanceClient) -> None:
    ticker, seed = new_ticker(client)
    yahoo = Yahoo((), seed)

    spans = [run(client, ticker, yahoo, session) for session in (30, 31, 35)]

    assert [span.whole for span in spans] == [True, False, False]
    assert [span.start for span in spans] == [day_of(0), day_of(21), day_of(22)]


def test_a_split_replaces_the_whole_history_and_keeps_what_it_was(client: YfinanceClient, emptied_url: str) -> None:
    ticker, seed = new_ticker(client)
    yahoo = Yahoo((Action(31, 31, ratio=4.0),), seed)
    run(client, ticker, yahoo, 30)

    span = run(client, ticker, yahoo, 31)

    assert span.whole
    with engine_for(emptied_url).connect() as connection:
        kept = connection.execute(
            sa.text("SELECT why, count(*), min(as_of), max(until) FROM ohlcv_revisions GROUP BY why")
        ).all()
        told = connection.execute(
            sa.text(
                "SELECT DISTINCT round((old / new)::numeric, 6) FROM ohlcv_changes "
                "WHERE ticker = :ticker AND \"column\" = 'close'"
            ),
            {"ticker": ticker},
        ).all()
    assert [tuple(row) for row in kept] == [("split", 31, day_of(30), day_of(31))]
    assert [float(row[0]) for row in told] == [4.0]
