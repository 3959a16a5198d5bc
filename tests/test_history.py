"""What shows that a history was restated, why bars changed, and which days are asked for."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from luigi_tasks import bars, history
from luigi_tasks.history import reasons, restated
from luigi_tasks.schedule import Span, Stored, due, to_ask

DAY = dt.date(2024, 6, 14)


def frame(closes: list[float], first: str = "2024-06-03", **columns: list[float]) -> pd.DataFrame:
    table = pd.DataFrame({"date": pd.bdate_range(first, periods=len(closes))})
    for name in (*bars.PRICES, "adj_close"):
        table[name] = closes
    return bars.conform(table.assign(**({"volume": 100, "dividends": 0.0, "stock_splits": 0.0} | columns)))


STORED = frame([10.0, 11.0, 12.0])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (frame([10.0, 11.0, 12.0, 13.0]), ""),
        (frame([10.0, 11.0, 12.5, 13.0]), ""),
        (frame([10.0, 11.0, 12.0], volume=[100, 100, 120]), ""),
        (None, "no bars were sent"),
        (frame([9.0], first="2024-06-10"), "none of the sessions"),
        (frame([10.5, 11.0, 12.0]), "the bar of 2024-06-03 has other values"),
        (frame([10.0, 11.0, 12.0], adj_close=[9.9, 11.0, 12.0]), "the bar of 2024-06-03"),
        (frame([11.0, 12.5], first="2024-06-04"), ""),
        (frame([10.0, 11.0, 12.0], dividends=[0.5, 0, 0]), "dividends changed on 2024-06-03"),
        (frame([10.0, 11.0, 12.0, 13.0], dividends=[0, 0, 0, 0.5]), "dividends changed on 2024-06-06"),
        (frame([10.0, 11.0, 12.0, 3.0], stock_splits=[0, 0, 0, 4]), "stock splits changed on 2024-06-06"),
    ],
)
def test_what_shows_that_earlier_bars_changed(answer: pd.DataFrame | None, words: str) -> None:
    why = restated(STORED, answer)

    assert why.startswith(words) if words else why == ""


def test_an_action_that_was_taken_back_shows() -> None:
    assert restated(frame([10.0, 11.0], dividends=[0, 0.5]), frame([10.0, 11.0])) == "dividends changed on 2024-06-04"


def test_a_close_that_is_not_known_twice_is_no_change() -> None:
    unknown = frame([10.0, 11.0], adj_close=[float("nan"), float("nan")])

    assert restated(unknown, unknown) == ""


def acted(day: str, dividend: float = 0.0, split: float = 0.0, gain: float = 0.0) -> pd.DataFrame:
    row = {"date": pd.Timestamp(day).date(), "dividends": dividend, "stock_splits": split, "capital_gains": gain}
    return pd.DataFrame([row | {f"old_{name}": 0.0 for name in bars.AMOUNTS}])


NO_ACTION = acted("2024-06-05").iloc[:0]


def test_each_changed_bar_has_its_own_reason() -> None:
    split = frame([2.5, 2.75, 3.0, 13.0])
    odd = frame([2.5, 3.75, 3.0, 13.5])
    old = frame([10.0, 11.0, 12.0, 13.0])

    assert list(reasons(old, split, acted("2024-06-06", split=4.0)))[:3] == ["split"] * 3
    assert list(reasons(old, odd, acted("2024-06-06", split=4.0))) == ["split", "restatement", "split", "restatement"]
    assert list(reasons(old, split, NO_ACTION)) == ["restatement"] * 4


def test_a_dividend_moves_the_adjusted_close_alone() -> None:
    old, new = frame([10.0, 11.0]), frame([10.0, 11.0], adj_close=[9.0, 9.9])
    fewer = frame([10.0, 11.0], adj_close=[9.0, 9.9], volume=[90, 100])

    assert list(reasons(old, new, acted("2024-06-05", dividend=1.0))) == ["dividend", "dividend"]
    assert list(reasons(old, fewer, acted("2024-06-05", dividend=1.0))) == ["restatement", "dividend"]
    assert list(reasons(old, new, acted("2024-06-03", dividend=1.0))) == ["dividend", "restatement"]


def test_a_capital_gain_moves_the_adjusted_close_as_a_dividend_does() -> None:
    old, new = frame([10.0, 11.0]), frame([10.0, 11.0], adj_close=[9.0, 9.9])

    assert list(reasons(old, new, acted("2024-06-05", gain=1.0))) == ["dividend", "dividend"]


@pytest.mark.parametrize("ratio", [4.0, 1.5, 0.04])
def test_a_split_on_record_whose_prices_are_divided_at_last_is_the_reason(ratio: float) -> None:
    recorded = acted("2024-06-05", split=ratio)[["date", "stock_splits"]]
    old = frame([10.0 * ratio, 11.0 * ratio, 12.0, 13.0])
    everything = frame([close / ratio for close in (10.0 * ratio, 11.0 * ratio, 12.0, 13.0)])

    assert list(reasons(old.iloc[:2], frame([10.0, 11.0]), NO_ACTION, splits=recorded)) == ["split"] * 2
    assert list(reasons(frame([10.0, 11.0]), old.iloc[:2], NO_ACTION, splits=recorded)) == ["split"] * 2
    assert list(reasons(old, everything, NO_ACTION, splits=recorded)) == ["restatement"] * 4


def test_the_record_of_an_action_that_has_moved_is_no_restatement() -> None:
    old, new = frame([10.0, 11.0], stock_splits=[4.0, 0.0]), frame([10.0, 11.0], stock_splits=[0.0, 4.0])
    paid, corrected = frame([10.0, 11.0], dividends=[0.5, 0.0]), frame([10.0, 11.0], dividends=[0.55, 0.0])

    assert list(reasons(old, new, NO_ACTION)) == ["split"] * 2
    assert list(reasons(paid.iloc[:1], corrected.iloc[:1], NO_ACTION)) == ["dividend"]


def test_what_was_provisional_was_settled() -> None:
    old, new = frame([10.0, 11.0]), frame([10.0, 11.0], volume=[90, 90])

    assert list(reasons(old, new, NO_ACTION, np.array([False, True]))) == ["restatement", "settled"]


PAID = {"2024-03-01": 0.5, "2024-06-03": 0.5, "2024-09-02": 0.6}


def every(dividends: dict[str, float], splits: dict[str, float] | None = None) -> pd.DataFrame:
    days = sorted({*dividends, *(splits or {})})
    rows = {
        "date": pd.to_datetime(days).astype("datetime64[s]"),
        "dividends": [dividends.get(day, 0.0) for day in days],
        "stock_splits": [(splits or {}).get(day, 0.0) for day in days],
        "capital_gains": 0.0,
    }
    return pd.DataFrame(rows)


def test_actions_that_are_not_told_any_more_have_vanished() -> None:
    fewer = {"2024-03-01": 0.5}

    gone = history.vanished(every(PAID, {"2024-05-01": 2.0}), every(fewer))

    assert [(action["date"], action["kind"], action["amount"]) for action in gone] == [
        ("2024-05-01", "stock_splits", 2.0),
        ("2024-06-03", "dividends", 0.5),
        ("2024-09-02", "dividends", 0.6),
    ]
    assert history.vanished(every(PAID), every(PAID)) == []
    assert history.vanished(every({}), every(PAID)) == []


@pytest.mark.parametrize("moved", ["2024-06-04", "2024-05-28", "2024-06-10"])
def test_an_action_that_has_moved_by_some_days_has_not_vanished(moved: str) -> None:
    then = PAID | {"2024-06-03": 0.55}
    now = {day: amount for day, amount in then.items() if day != "2024-06-03"} | {moved: 0.7}

    assert history.vanished(every(then), every(now)) == []
    del now[moved]
    assert len(history.vanished(every(then), every(now | {"2024-06-20": 0.7}))) == 1


def test_an_action_that_was_told_twice_and_is_told_once_has_not_vanished() -> None:
    twice = PAID | {"2024-06-05": 0.5}

    assert (
        history.vanished(every(twice, {"2024-05-01": 2.0, "2024-05-08": 2.0}), every(PAID, {"2024-05-01": 2.0})) == []
    )


def test_a_split_that_is_taken_back_is_a_split() -> None:
    back = acted("2024-06-05").assign(old_stock_splits=4.0)

    assert list(reasons(frame([2.5]), frame([10.0]), back)) == ["split"]


START = dt.date(2014, 6, 14)
KNOWN = Stored(DAY, START, DAY, overlap_from=dt.date(2024, 6, 3))


@pytest.mark.parametrize(
    ("stored", "start", "as_of", "span"),
    [
        (None, START, DAY, Span(START, DAY, whole=True)),
        (KNOWN, START, dt.date(2024, 6, 17), Span(dt.date(2024, 6, 3), dt.date(2024, 6, 17), whole=False)),
        (KNOWN, dt.date(2004, 1, 2), DAY, Span(dt.date(2004, 1, 2), DAY, whole=True)),
        (KNOWN, START, dt.date(2020, 1, 2), Span(START, DAY, whole=True)),
        (Stored(DAY, START, None, KNOWN.overlap_from), START, DAY, Span(START, DAY, whole=True)),
        (Stored(DAY, START, DAY, None), START, DAY, Span(START, DAY, whole=True)),
        (
            Stored(DAY, START, DAY, KNOWN.overlap_from, unfilled_from=dt.date(2024, 5, 6)),
            START,
            DAY,
            Span(dt.date(2024, 5, 6), DAY, whole=False),
        ),
    ],
)
def test_which_days_are_asked_for(stored: Stored | None, start: dt.date, as_of: dt.date, span: Span) -> None:
    assert to_ask("AAPL", stored, start, as_of, whole_days=10_000) == span
    assert Span.from_json(span.as_json()) == span


def test_all_is_asked_for_on_one_day_in_seven_by_each_ticker_on_its_own() -> None:
    days = [DAY + dt.timedelta(days=number) for number in range(28)]
    turns = {
        ticker: [day for day in days if due(ticker, day - dt.timedelta(days=1), day, 7)]
        for ticker in ("AAPL", "MSFT", "GE", "TSLA")
    }

    assert {len(found) for found in turns.values()} == {4}
    assert len({found[0] for found in turns.values()}) > 1
    for ticker, (first, *_) in turns.items():
        yesterday = Stored(first - dt.timedelta(days=1), START, first - dt.timedelta(days=1), KNOWN.overlap_from)
        assert to_ask(ticker, yesterday, START, first, whole_days=7).whole


def test_full_is_all_that_is_stored_and_all_that_is_wanted() -> None:
    assert to_ask("AAPL", KNOWN, dt.date(2020, 1, 2), dt.date(2024, 7, 1), 7, full=True) == Span(
        START, dt.date(2024, 7, 1), whole=True
    )
