"""What a report tells of earlier runs, and of all that is stored."""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from luigi_tasks import YfinanceClient, bars
from luigi_tasks.budget import Pace
from luigi_tasks.database.budget import PostgresBudget
from luigi_tasks.database.client import Window
from luigi_tasks.database.coverage import Coverage
from luigi_tasks.database.engine import engine_for
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.database.schema import ohlcv, quarantined_bars, repairs, securities
from luigi_tasks.report import render, trends
from luigi_tasks.schedule import Span
from tests.conftest import make_bars
from tests.report.documents import document, ticker

DAY = dt.date(2024, 3, 15)
PACE = Pace({"prices": 0, "company": 0, "access": 0}, 0, 1, 0.01, 0.02, 60, 60, 60)


@pytest.fixture
def client(database_url: str) -> YfinanceClient:
    made = YfinanceClient(database_url)
    for number, name in enumerate(("AAA", "BBB")):
        made.insert_security(name, ["all"], as_of=DAY)
        made.insert_ohlcv(name, make_bars(days=60, last=str(DAY), seed=number))
    return made


End = Callable[..., None]


@pytest.fixture
def ended(database_url: str) -> End:
    def end(run_id: str, states: dict[str, str], bars: int | None, tickers: str = "", date: str = str(DAY)) -> None:
        ledger = Ledger(database_url)
        ledger.begin_run(run_id, "RunAll", {"date": date, "tickers": tickers})
        ledger.finish_run(run_id, "incomplete", trends.summary(of(states, bars)))

    return end


def of(states: dict[str, str], bars: int | None, **changes: Any) -> dict[str, Any]:
    return document(
        by_ticker=[ticker(name, state=state) for name, state in states.items()],
        tickers={"done": 1, "failed": 1, "all": 2} | dict(Counter(states.values())),
        stored={"bars": bars},
        as_of=str(DAY),
        parameters={"date": str(DAY), "tickers": ""},
        **changes,
    )


def test_what_failed_is_told_apart_from_what_failed_before(database_url: str, ended: End) -> None:
    ended("run-1", {"AAA": "failed", "BBB": "failed", "CCC": "done", "DDD": "done"}, bars=100)
    Ledger(database_url).begin_run("run-2", "RunAll", {"date": str(DAY), "tickers": ""})
    now = of({"AAA": "done", "BBB": "failed", "CCC": "failed", "DDD": "done"}, bars=130)

    found = trends.changes(database_url, now, trends.history(Ledger(database_url), "run-2"))

    assert (found["recovered"], found["still_failed"], found["newly_failed"]) == (["AAA"], ["BBB"], ["CCC"])
    assert (found["since"], found["bars"]) == ("run-1", 30)


def test_bars_are_compared_with_the_last_run_that_has_counted_them(database_url: str, ended: End) -> None:
    ended("run-1", {"AAA": "done"}, bars=100)
    ended("run-2", {"AAA": "done"}, bars=None)
    Ledger(database_url).begin_run("run-3", "RunAll", {"date": str(DAY), "tickers": ""})
    before = trends.history(Ledger(database_url), "run-3")

    changes = [trends.changes(database_url, of({"AAA": "done"}, bars), before) for bars in (130, None)]

    assert [(each["since"], each["bars"]) for each in changes] == [("run-2", 30), ("run-2", 0)]


def test_a_run_over_other_tickers_is_not_compared_with(database_url: str, ended: End) -> None:
    ended("run-1", {"AAA": "failed"}, bars=100, tickers="AAA")
    Ledger(database_url).begin_run("run-2", "RunAll", {"date": str(DAY), "tickers": ""})

    found = trends.changes(database_url, of({"AAA": "done"}, 1), trends.history(Ledger(database_url), "run-2"))

    assert "since" not in found


def test_what_a_retry_fails_at_is_known_from_the_run_of_the_universe(database_url: str, ended: End) -> None:
    ended("run-1", {"AAA": "failed", "BBB": "failed", "CCC": "done"}, bars=100)
    ended("run-2", {"CCC": "done"}, bars=100, tickers="CCC")
    Ledger(database_url).begin_run("run-3", "RunAll", {"date": str(DAY), "tickers": "AAA,CCC"})
    now = of({"AAA": "failed", "CCC": "failed"}, bars=130) | {"parameters": {"tickers": "AAA,CCC"}}

    found = trends.changes(database_url, now, trends.history(Ledger(database_url), "run-3"))

    assert (found["new"], found["known"]) == (["CCC"], ["AAA"])
    assert "since" not in found


@pytest.mark.parametrize("state", ["blocked", "killed"])
def test_a_run_that_did_not_get_to_its_end_is_not_compared_with(database_url: str, ended: End, state: str) -> None:
    ended("run-1", {"AAA": "failed", "BBB": "done"}, bars=100)
    if state == "killed":
        Ledger(database_url).begin_run("run-2", "RunAll", {"date": str(DAY), "tickers": ""})
    else:
        ended("run-2", {"AAA": "blocked", "BBB": "failed"}, bars=100)
    Ledger(database_url).begin_run("run-3", "RunAll", {"date": str(DAY), "tickers": ""})
    now = of({"AAA": "failed", "BBB": "failed"}, bars=100)

    found = trends.changes(database_url, now, trends.history(Ledger(database_url), "run-3"))

    assert (found["since"], found["newly_failed"], found["known"]) == ("run-1", ["BBB"], ["AAA"])


def test_a_run_that_filled_in_the_past_is_not_what_todays_is_compared_with(database_url: str, ended: End) -> None:
    today = str(dt.datetime.now(dt.UTC).date())
    ended("run-1", {"AAA": "failed"}, bars=100, date=today)
    ended("run-2", {"AAA": "done"}, bars=100)
    Ledger(database_url).begin_run("run-3", "RunAll", {"date": today, "tickers": ""})
    now = of({"AAA": "failed"}, bars=100) | {"as_of": today, "started_at": f"{today} 00:00:00"}

    found = trends.changes(database_url, now, trends.history(Ledger(database_url), "run-3"))

    assert (found["since"], found["known"]) == ("run-1", ["AAA"])


def test_only_runs_from_before_are_told_of_newest_first(database_url: str, ended: End) -> None:
    for run_id in ("run-1", "run-2", "run-3"):
        ended(run_id, {"AAA": "done"}, bars=1)
    Ledger(database_url).begin_run("run-4", "RunAll", {})

    assert [run["run_id"] for run in trends.history(Ledger(database_url), "run-3")] == ["run-2", "run-1"]
    assert trends.history(Ledger(database_url), "run-3")[0]["summary"]["tickers"] == {"done": 1, "failed": 1, "all": 2}


def test_a_run_that_was_killed_is_told_as_such(database_url: str) -> None:
    for run_id in ("run-1", "run-2"):
        Ledger(database_url).begin_run(run_id, "RunAll", {})

    (before,) = trends.history(Ledger(database_url), "run-2")

    assert (before["outcome"], before["summary"]) == ("killed", {})


def test_requests_are_those_since_the_run_began(database_url: str) -> None:
    budget, ledger = PostgresBudget(database_url, PACE), Ledger(database_url)
    budget.leave(budget.enter("prices", "AAA"), "answered")
    ledger.begin_run("run-1", "RunAll", {})
    budget.leave(budget.enter("prices", "BBB"), "answered")
    budget.leave(budget.enter("prices", "BBB"), "throttled")

    row = ledger.run("run-1")

    assert row is not None
    since = ledger.requests_since(row["requests_before"])
    assert since["prices"] == {"sent": 2, "throttled": 1}
    assert since["company"] == {"sent": 0, "throttled": 0}


def test_coverage_has_every_month_and_the_ticker_that_lacks_most_first(
    client: YfinanceClient, database_url: str
) -> None:
    whole = make_bars(days=60, last=str(DAY), seed=9)
    lacking = whole.drop(index=[20, 21]).reset_index(drop=True)
    lacking.attrs = {bars.FACTS: {"exchange": "NYQ", "first_trade_date": str(whole["date"][10].date())}}
    client.insert_security("CCC", ["all"])
    client.insert_ohlcv("CCC", lacking, window=Window(Span(dt.date(2023, 12, 1), DAY, whole=True), DAY))

    found = trends.coverage(database_url, ["AAA", "BBB", "CCC", "DDD"])

    assert found["months"] == ["2023-12", "2024-01", "2024-02", "2024-03"]
    assert found["tickers"] == ["CCC", "AAA", "BBB"]
    assert [sum(row) for row in found["missing"]] == [2, 0, 0]
    assert [sum(row) for row in found["bars"]] == [58, 60, 60]


def test_sparklines_are_of_month_ends(client: YfinanceClient, database_url: str) -> None:
    found = trends.sparklines(database_url, ["AAA"], DAY)

    stored = client.bars("AAA", dt.date(2023, 12, 1), DAY).set_index("date")["adj_close"]
    assert found == {"AAA": list(stored.groupby(stored.index.to_period("M")).last())}


def test_bars_in_quarantine_come_with_the_stored_ones_around_them(client: YfinanceClient, database_url: str) -> None:
    frame = make_bars(days=60, last=str(DAY), seed=1)
    bad = frame.iloc[[40]].assign(rules="high is the highest price", broken='[{"rule": "high is the highest price"}]')
    rest = frame.drop(index=40).reset_index(drop=True)
    client.insert_security("CCC", ["all"])
    span = Span(frame["date"].min().date(), DAY, whole=True)
    rest["close"] *= 1.0001
    client.insert_ohlcv("CCC", rest, window=Window(span, DAY, bad))

    (found,) = trends.bad_bars(database_url, ["AAA", "BBB", "CCC"])

    day = str(frame["date"][40].date())
    assert found["ticker"] == "CCC"
    assert [(row["date"], row["rules"]) for row in found["bad"]] == [(day, "high is the highest price")]
    dates = [bar[0] for bar in found["bars"]]
    assert day not in dates
    assert dates == sorted(dates)
    assert min(dates) < day < max(dates)


def test_freshness_counts_the_tickers_by_their_last_session() -> None:
    last = {"AAA": dt.date(2024, 3, 15), "BBB": dt.date(2024, 3, 14), "CCC": dt.date(2024, 3, 15)}

    assert trends.freshness(last.values()) == [
        {"last": "2024-03-15", "tickers": 2},
        {"last": "2024-03-14", "tickers": 1},
    ]


def mend(url: str, ticker: str, rows: Any, column: str, new: Callable[[float], float], old: bool = True) -> None:
    """A repair of a column in these rows of a frame."""
    values = [
        {
            "date": row.date.date(),
            "column": column,
            "as_of": DAY,
            "rule": f"{column} is right",
            "old": getattr(row, column) if old else None,
            "new": new(getattr(row, column)),
            "evidence": f"by {row.date:%Y-%m-%d}",
        }
        for row in rows.itertuples()
    ]
    with engine_for(url).begin() as connection:
        security = connection.scalar(sa.select(securities.c.security_id).filter_by(ticker=ticker))
        connection.execute(sa.insert(repairs), [{"security_id": security, **row} for row in values])


def test_what_was_repaired_comes_with_the_series_around_it_as_served_and_repaired(
    client: YfinanceClient, database_url: str
) -> None:
    frame = make_bars(days=60, last=str(DAY), seed=0)
    mend(database_url, "AAA", frame.iloc[10:30], "close", lambda price: price / 4, old=False)
    mend(database_url, "AAA", frame.iloc[10:40], "adj_close", lambda price: price / 4)
    mend(database_url, "BBB", frame.iloc[:1], "volume", lambda volume: volume * 2)

    first, second = trends.repaired(database_url, ["AAA", "BBB", "ZZZ"])

    assert (first["ticker"], first["column"]) == ("AAA", "close")
    days = [str(day.date()) for day in frame["date"]]
    shown = days.index(first["dates"][0])
    assert first["dates"] == days[shown : days.index(first["dates"][-1]) + 1], "some weeks around it"
    assert first["served"] == pytest.approx([frame["close"][days.index(day)] for day in first["dates"]], rel=1e-5)
    mended = [round(new / old, 3) for old, new in zip(first["served"], first["repaired"], strict=True)]
    assert mended == [0.25 if 10 <= days.index(day) < 30 else 1 for day in first["dates"]]
    assert first["rules"] == [
        {"rule": "adj_close is right", "values": 30, "bars": 30, "first": days[10], "last": days[39]}
        | {"evidence": f"by {days[39]}"},
        {"rule": "close is right", "values": 20, "bars": 20, "first": days[10], "last": days[29]}
        | {"evidence": f"by {days[29]}"},
    ]
    assert (second["ticker"], second["column"]) == ("BBB", "volume")
    assert second["repaired"][0] == pytest.approx(2 * frame["volume"][0], rel=1e-5)
    assert json.dumps([first, second], allow_nan=False)


def test_a_bar_in_quarantine_that_a_repair_makes_whole_is_drawn_too(client: YfinanceClient, database_url: str) -> None:
    frame = make_bars(days=60, last=str(DAY), seed=1)
    bad = frame.iloc[[40]].assign(rules="x", broken='[{"rule": "x"}]')
    bad["close"] *= 100
    client.insert_security("CCC", ["all"])
    window = Window(Span(frame["date"].min().date(), DAY, whole=True), DAY, bad)
    rest = frame.drop(index=40).reset_index(drop=True)
    rest["close"] *= 1.0001
    client.insert_ohlcv("CCC", rest, window=window)
    mend(database_url, "CCC", bad, "close", lambda price: price / 100)

    (found,) = trends.repaired(database_url, ["CCC"])

    place = found["dates"].index(str(frame["date"][40].date()))
    assert found["served"][place] == pytest.approx(100 * found["repaired"][place], rel=1e-5)
    assert len(found["dates"]) == len(set(found["dates"]))


def test_of_dividends_only_their_days_are_drawn(database_url: str) -> None:
    client = YfinanceClient(database_url)
    frame = make_bars(days=60, last=str(DAY))
    frame.loc[[10, 50], "dividends"] = [0.2, 20.0]
    client.insert_security("AAA", [])
    client.insert_ohlcv("AAA", frame)
    mend(database_url, "AAA", frame.iloc[[50]], "dividends", lambda amount: amount / 100)

    (found,) = trends.repaired(database_url, ["AAA"])

    assert (found["served"], found["repaired"]) == ([20.0], [0.2])


def test_a_chart_of_decades_has_500_points_and_leaves_no_repair_out(database_url: str) -> None:
    client = YfinanceClient(database_url)
    frame = make_bars(days=9000, last=str(DAY))
    for number in range(14):
        ticker = f"T{number:02}"
        client.insert_security(ticker, [])
        client.insert_ohlcv(ticker, frame.assign(close=frame["close"] * (1 + number * 1e-9)))
        mend(database_url, ticker, frame.iloc[[1000 + number, 5003, 8000]], "close", lambda price: price * 100)

    shown = trends.repaired(database_url, [f"T{number:02}" for number in range(14)])

    assert len(shown) == 12
    for number, item in enumerate(shown):
        assert 400 < len(item["dates"]) <= 500
        assert item["dates"] == sorted(set(item["dates"]))
        wide = [
            day for day, old, new in zip(item["dates"], item["served"], item["repaired"], strict=True) if new > 50 * old
        ]
        assert wide == [str(frame["date"][place].date()) for place in (1000 + number, 5003, 8000)]
    page = render.page(document(coverage=trends.coverage(database_url, ["T00"]), repaired=shown))
    bare = render.page(document(coverage=trends.coverage(database_url, ["T00"]), repaired=[]))
    assert len(page) - len(bare) < 400_000


def test_what_waits_for_the_source_is_not_drawn_as_in_quarantine(client: YfinanceClient, database_url: str) -> None:
    values = dict.fromkeys(("open", "high", "low", "close"), 1.0) | {"number": 0, "broken": [], "as_of": DAY}
    with engine_for(database_url).begin() as connection:
        for ticker, provisional in (("AAA", True), ("BBB", False)):
            security = connection.scalar(sa.select(securities.c.security_id).filter_by(ticker=ticker))
            row = values | {"security_id": security, "date": DAY, "provisional": provisional}
            connection.execute(sa.insert(quarantined_bars).values(row))

    assert [item["ticker"] for item in trends.bad_bars(database_url, ["AAA", "BBB"])] == ["BBB"]


def test_provisional_bars_are_counted(client: YfinanceClient, database_url: str) -> None:
    reader = Coverage(database_url)
    assert reader.provisional(["AAA", "BBB"]) == 0
    with engine_for(database_url).begin() as connection:
        connection.execute(sa.update(ohlcv).where(ohlcv.c.date == DAY).values(provisional=True))

    assert reader.provisional(["AAA", "BBB"]) == 2
    assert reader.provisional(["AAA"]) == 1


def test_a_column_that_no_repair_is_of_is_refused(database_url: str) -> None:
    with pytest.raises(ValueError, match="no column that is repaired"):
        Coverage(database_url).repaired_beside_served("AAA", "close; DROP TABLE ohlcv", DAY, DAY)
