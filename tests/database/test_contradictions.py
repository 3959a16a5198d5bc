"""What an answer that contradicts itself, or the stored bars, brings about: settled bars, actions without a bar,
repairs, another security's bars, and actions that have vanished."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from luigi_tasks import YfinanceClient, bars, prices
from luigi_tasks.database.client import Window
from luigi_tasks.database.engine import engine_for
from luigi_tasks.database.ledger import Ledger, Marker, Step
from luigi_tasks.errors import HistoryShrank, WrongAnswer
from luigi_tasks.schedule import Span
from tests.conftest import make_bars, with_dividend, with_split

FIRST, LAST = dt.date(2024, 1, 1), dt.date(2024, 3, 15)
DAYS = make_bars(days=40)["date"].dt.date.tolist()


@pytest.fixture
def client(emptied_url: str) -> YfinanceClient:
    made = YfinanceClient(emptied_url)
    made.insert_security("AAA", [])
    return made


def query(url: str, statement: str, **values: Any) -> list[Any]:
    with engine_for(url).begin() as connection:
        rows = connection.execute(sa.text(statement), values).all()
    return [row[0] if len(row) == 1 else tuple(row) for row in rows]


def said(frame: pd.DataFrame, actions: list[dict[str, Any]] | None = None, **facts: Any) -> pd.DataFrame:
    """The frame with what came with it; its newest bar is provisional."""
    frame = frame.copy()
    newest = str(frame["date"].iloc[-1].date()) if len(frame) else None
    frame.attrs = {bars.FACTS: {"provisional": newest} | facts, bars.ACTIONS: actions or []}
    return frame


def action(day: str, dividends: float = 0.0, stock_splits: float = 0.0) -> dict[str, Any]:
    amounts = {"dividends": dividends, "stock_splits": stock_splits, "capital_gains": 0.0}
    return {"date": day, "dividend_currency": None, **amounts}


def store(client: YfinanceClient, frame: pd.DataFrame, as_of: dt.date, **window: Any) -> dict[str, Any]:
    """What a run as of that date stores of a whole history; the marker's detail."""
    marker = Marker(Step(f"Insert_{as_of}", "InsertOhlcv", "run", "AAA", as_of), len(frame))
    client.insert_ohlcv("AAA", frame, window=Window(Span(FIRST, as_of, whole=True), as_of, **window), marker=marker)
    ledger = Ledger(client._engine.url.render_as_string(hide_password=False))
    detail: dict[str, Any] = ledger.markers([marker.step.task_id])[marker.step.task_id]["detail"]
    return detail


def refused(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(broken="[]", rules="")


# -- the newest session is provisional until a later answer agrees


def test_the_newest_bar_is_provisional_until_an_answer_of_a_later_date_agrees(
    client: YfinanceClient, emptied_url: str
) -> None:
    frame = make_bars(days=40)
    flags = "SELECT date FROM ohlcv WHERE provisional ORDER BY date"
    store(client, said(frame.iloc[:39]), DAYS[38])
    assert query(emptied_url, flags) == [DAYS[38]]
    store(client, said(frame.iloc[:39]), DAYS[38])
    assert query(emptied_url, flags) == [DAYS[38]], "an answer of the same date is no later one"

    detail = store(client, said(frame), DAYS[39])

    assert query(emptied_url, flags) == [DAYS[39]]
    assert "revised" not in detail
    seen = "SELECT date FROM ohlcv_as_of(:day) WHERE provisional"
    assert query(emptied_url, seen, day=DAYS[38]) == [DAYS[38]], "on that day it was"
    assert query(emptied_url, seen, day=DAYS[39]) == [DAYS[39]]


def test_an_answer_without_a_later_session_settles_the_newest_bar_too(client: YfinanceClient, emptied_url: str) -> None:
    frame = make_bars(days=39)
    store(client, said(frame), DAYS[37])

    store(client, said(frame), DAYS[38] + dt.timedelta(days=3))

    assert query(emptied_url, "SELECT count(*) FROM ohlcv WHERE provisional") == [0]


@pytest.mark.parametrize("column", ["open", "high", "low", "close", "volume"])
def test_a_provisional_bar_that_changes_was_settled(client: YfinanceClient, emptied_url: str, column: str) -> None:
    frame = make_bars(days=40)
    early = frame.iloc[:39].copy()
    change = {"high": 1.02, "low": 0.98, "volume": 0.71, "close": 1.0001, "open": 1.0001}[column]
    early.loc[38, column] = (
        round(early.loc[38, column] * change) if column == "volume" else early.loc[38, column] * change
    )
    early = bars.conform(early)
    store(client, said(early), DAYS[38])

    detail = store(client, said(frame), DAYS[39])

    assert detail["revised"] == {"settled": 1}
    assert "restated" not in detail, "it is no finding"
    assert query(emptied_url, "SELECT why, provisional FROM ohlcv_revisions") == [("settled", True)]
    assert query(emptied_url, "SELECT date FROM ohlcv WHERE provisional") == [DAYS[39]]
    late = frame.copy()
    late.loc[38, "volume"] += 7
    assert store(client, said(late), DAYS[39] + dt.timedelta(days=1))["revised"] == {"restatement": 1}


def test_a_split_explains_a_provisional_bar_better(client: YfinanceClient, emptied_url: str) -> None:
    frame = make_bars(days=40)
    store(client, said(frame.iloc[:39]), DAYS[38])

    detail = store(client, said(with_split(frame, str(DAYS[39]), 4.0)), DAYS[39])

    assert detail["revised"] == {"split": 39}


def test_a_newest_bar_whose_close_alone_is_usable_is_stored_and_filled_up(
    client: YfinanceClient, emptied_url: str
) -> None:
    frame = make_bars(days=40)
    torn = frame.iloc[:39].astype({"volume": "float64"})
    torn.loc[38, ["open", "high", "volume"]] = np.nan
    store(client, said(torn), DAYS[38])
    assert query(emptied_url, "SELECT open, high, volume, close FROM ohlcv WHERE date = :day", day=DAYS[38]) == [
        (None, None, None, frame.loc[38, "close"])
    ]

    assert store(client, said(frame), DAYS[39])["revised"] == {"settled": 1}

    assert query(emptied_url, "SELECT open FROM ohlcv WHERE date = :day", day=DAYS[38]) == [frame.loc[38, "open"]]


def test_a_newest_bar_that_is_as_unusable_at_the_weekend_is_not_settled_by_that(
    client: YfinanceClient, emptied_url: str
) -> None:
    frame = make_bars(days=40)
    torn = frame.iloc[:39].copy()
    torn.loc[38, ["open", "low"]] = np.nan
    store(client, said(torn), DAYS[38])
    flags = "SELECT provisional, settled_as_of FROM ohlcv WHERE date = :day"

    for later in (1, 2):
        assert "revised" not in store(client, said(torn), DAYS[38] + dt.timedelta(days=later))
        assert query(emptied_url, flags, day=DAYS[38]) == [(True, None)]

    assert store(client, said(frame), DAYS[39] + dt.timedelta(days=2))["revised"] == {"settled": 1}
    assert query(emptied_url, "SELECT date FROM ohlcv WHERE provisional") == [DAYS[39]]


def test_a_bar_that_turned_out_to_break_a_rule_is_none(client: YfinanceClient, emptied_url: str) -> None:
    frame = make_bars(days=40)
    store(client, said(frame.iloc[:39]), DAYS[38])

    store(client, said(frame.drop(index=38)), DAYS[39], quarantined=refused(frame.iloc[[38]]))

    assert query(emptied_url, "SELECT date FROM ohlcv WHERE date = :day", day=DAYS[38]) == []
    assert query(emptied_url, "SELECT date, provisional FROM quarantined_bars") == [(DAYS[38], False)]
    assert query(emptied_url, "SELECT date FROM ohlcv_as_of(:day) WHERE date = :day", day=DAYS[38]) == [DAYS[38]]


def test_a_stored_bar_that_broke_no_rule_outlives_an_answer_that_does(client: YfinanceClient, emptied_url: str) -> None:
    frame = make_bars(days=40)
    store(client, said(frame.iloc[:39]), DAYS[38])
    hundredfold = frame.iloc[[38]].assign(**{name: frame[name] * 100 for name in bars.PRICES})

    store(client, said(frame.drop(index=38)), DAYS[39], quarantined=refused(hundredfold))

    assert query(emptied_url, "SELECT close FROM ohlcv WHERE date = :day", day=DAYS[38]) == [frame.loc[38, "close"]]


def test_a_newest_bar_that_waits_outside_is_no_quarantine(client: YfinanceClient, emptied_url: str) -> None:
    frame = make_bars(days=40)

    store(client, said(frame.iloc[:39], provisional=str(DAYS[39])), DAYS[39], quarantined=refused(frame.iloc[[39]]))

    assert query(emptied_url, "SELECT date, provisional FROM quarantined_bars") == [(DAYS[39], True)]


# -- a session that is no close yet


def test_a_session_that_is_left_out_is_asked_for_again_once_it_is_over(
    client: YfinanceClient, emptied_url: str
) -> None:
    frame, until = make_bars(days=40).iloc[:39], "2024-03-15T20:45:00+00:00"
    kept = "SELECT unfinished, open_until FROM securities"

    store(client, said(frame, unfinished=str(DAYS[39]), open_until=until), DAYS[39])
    assert query(emptied_url, kept) == [(DAYS[39], dt.datetime.fromisoformat(until))]
    store(client, said(make_bars(days=40)), DAYS[39])

    assert query(emptied_url, kept) == [(None, None)]


# -- actions of days without a bar


def test_a_split_of_a_day_without_a_bar_stands_on_its_own_day(client: YfinanceClient, emptied_url: str) -> None:
    whole = with_split(make_bars(days=40), str(DAYS[20]), 0.04)
    frame = whole.drop(index=20).reset_index(drop=True)

    detail = store(client, said(frame, [action(str(DAYS[20]), stock_splits=0.04)]), DAYS[39])

    assert detail["actions_without_bar"] == [{"date": str(DAYS[20]), "kind": "stock_splits", "amount": 0.04}]
    read = prices("AAA", adjusted=False, database_url=emptied_url).set_index("date")["close"]
    stored = frame.set_index("date")["close"]
    before = pd.Timestamp(DAYS[19])
    assert read[before] == pytest.approx(stored[before] * 0.04)
    assert read[pd.Timestamp(DAYS[21])] == stored[pd.Timestamp(DAYS[21])]
    assert (read.loc[pd.Timestamp(DAYS[21]) :] == stored.loc[pd.Timestamp(DAYS[21]) :]).all()


def test_raw_prices_of_the_past_do_not_change_when_the_bar_of_a_split_is_mended(
    client: YfinanceClient, emptied_url: str
) -> None:
    whole = with_split(make_bars(days=40), str(DAYS[30]), 10.0)
    broken = refused(whole.iloc[[30]].assign(low=-1.0))
    torn = whole.drop(index=30).reset_index(drop=True)
    store(client, said(torn.iloc[:35]), DAYS[35], quarantined=broken)

    def raw(as_of: dt.date | None) -> float:
        read = prices("AAA", adjusted=False, as_of=as_of, database_url=emptied_url)
        return float(read.loc[read["date"] == pd.Timestamp(DAYS[29]), "close"].iloc[0])

    traded = float(whole.loc[29, "close"]) * 10
    assert [raw(DAYS[35]), raw(None)] == pytest.approx([traded] * 2)

    store(client, said(whole), DAYS[39])

    assert [raw(DAYS[35]), raw(DAYS[39]), raw(None)] == pytest.approx([traded] * 3)
    held = "SELECT date, as_of, until FROM actions_without_bar"
    assert query(emptied_url, held) == [(DAYS[30], DAYS[35], DAYS[39])]


def test_an_action_without_a_bar_that_is_no_longer_told_held_until_then(
    client: YfinanceClient, emptied_url: str
) -> None:
    frame = make_bars(days=40).drop(index=20).reset_index(drop=True)
    paid = [action(str(DAYS[20]), dividends=0.7)]
    store(client, said(frame, paid), DAYS[38])
    store(client, said(frame, paid), DAYS[39])
    assert query(emptied_url, "SELECT as_of, until FROM actions_without_bar") == [(DAYS[38], None)]

    detail = store(client, said(frame), DAYS[39])

    assert query(emptied_url, "SELECT as_of, until FROM actions_without_bar") == [(DAYS[38], DAYS[39])]
    assert [each["kind"] for each in detail["vanished_actions"]] == ["dividends"]


# -- repairs


def repair(day: dt.date, new: float, rule: str = "x", old: float | None = 1.0) -> dict[str, Any]:
    return {"date": str(day), "column": "close", "rule": rule, "old": old, "new": new, "evidence": "e"}


def test_a_repair_holds_until_the_source_has_mended_it(client: YfinanceClient, emptied_url: str) -> None:
    frame = make_bars(days=40)
    rows = "SELECT date, new, as_of, until FROM repairs ORDER BY date, as_of"
    store(client, said(frame), DAYS[37], repairs=[repair(DAYS[3], 2.0), repair(DAYS[4], 3.0, old=None)])
    store(client, said(frame), DAYS[38], repairs=[repair(DAYS[3], 2.0), repair(DAYS[4], 3.0, old=None)])
    assert query(emptied_url, rows) == [(DAYS[3], 2.0, DAYS[37], None), (DAYS[4], 3.0, DAYS[37], None)]

    store(client, said(frame), DAYS[39], repairs=[repair(DAYS[4], 3.5, old=None)])

    assert query(emptied_url, rows) == [
        (DAYS[3], 2.0, DAYS[37], DAYS[39]),
        (DAYS[4], 3.0, DAYS[37], DAYS[39]),
        (DAYS[4], 3.5, DAYS[39], None),
    ]
    store(client, said(frame), DAYS[39], repairs=[])
    assert query(emptied_url, "SELECT count(*) FROM repairs WHERE until IS NULL") == [0]
    assert query(emptied_url, "SELECT count(*) FROM repairs WHERE as_of = :day", day=DAYS[39]) == [0]


def test_a_tail_leaves_repairs_alone_that_it_cannot_judge(client: YfinanceClient, emptied_url: str) -> None:
    frame = make_bars(days=40)
    store(
        client, said(frame.iloc[:39]), DAYS[38], repairs=[repair(DAYS[35], 2.0, "whole"), repair(DAYS[36], 2.0, "one")]
    )
    tail = Window(Span(DAYS[30], DAYS[39], whole=False), DAYS[39], repaired_rules=["one"])

    client.insert_ohlcv("AAA", said(frame.iloc[30:]), window=tail)

    assert query(emptied_url, "SELECT rule FROM repairs WHERE until IS NULL") == ["whole"]


# -- another security's bars, and actions that have vanished


def test_bars_that_are_nearly_all_other_ones_are_held_back_until_they_are_accepted(
    client: YfinanceClient, emptied_url: str
) -> None:
    store(client, said(make_bars(days=39), name="Small Fund", quote_type="ETF"), DAYS[38])
    other = said(make_bars(days=35, seed=7, start_price=200.0), name="Large Inc.", quote_type="EQUITY")
    before = query(emptied_url, "SELECT date, close FROM ohlcv ORDER BY date")

    with pytest.raises(WrongAnswer, match=r"28 of 29 stored bars have other prices"):
        store(client, other.iloc[6:].pipe(said), DAYS[39])
    with pytest.raises(WrongAnswer) as told:
        store(
            client,
            said(make_bars(days=40, seed=7, start_price=200.0), name="Large Inc.", quote_type="EQUITY"),
            DAYS[39],
        )

    words = str(told.value)
    for part in (
        "38 of 39 stored bars have other prices",
        "Small Fund, now Large Inc.",
        "ETF, now EQUITY",
        "./run.sh accept",
    ):
        assert part in words
    assert query(emptied_url, "SELECT date, close FROM ohlcv ORDER BY date") == before

    client.accept("AAA", force=True)
    detail = store(client, other, DAYS[39])

    assert query(emptied_url, "SELECT count(*) FROM ohlcv") == [35]
    assert query(emptied_url, "SELECT name FROM securities") == ["Large Inc."]
    assert detail["revised"]["accepted"] > 30
    assert {"accepted", "withdrawn"} == set(query(emptied_url, "SELECT DISTINCT why FROM ohlcv_revisions"))
    assert query(emptied_url, "SELECT count(*) FROM ohlcv_as_of(:day)", day=DAYS[38]) == [39]


@pytest.mark.parametrize("factor", [100.0, 0.5, 1.02, 0.997])
def test_bars_times_a_factor_that_no_split_explains_are_held_back(client: YfinanceClient, factor: float) -> None:
    frame = make_bars(days=40)
    store(client, said(frame.iloc[:39]), DAYS[38])
    scaled = frame.assign(**{name: frame[name] * factor for name in (*bars.PRICES, "adj_close")})

    with pytest.raises(WrongAnswer, match=f"all by the factor {factor:g}"):
        store(client, said(scaled), DAYS[39])


@pytest.mark.parametrize("ratio", [4.0, 1.5, 0.04])
def test_a_split_that_is_applied_days_late_is_no_other_security(client: YfinanceClient, ratio: float) -> None:
    told = with_split(make_bars(days=40), str(DAYS[37]), ratio)
    late = told.copy()
    for name in (*bars.PRICES, "adj_close"):
        late[name] = late[name].where(late["date"] >= str(DAYS[37]), late[name] * ratio)
    store(client, said(bars.conform(late.iloc[:39])), DAYS[38])

    detail = store(client, said(told.assign(volume=late["volume"])), DAYS[39])

    assert detail["revised"] == {"split": 37}


def test_the_prices_of_a_few_bars_may_change(client: YfinanceClient) -> None:
    frame = make_bars(days=40)
    store(client, said(frame), DAYS[38])
    changed = frame.copy()
    changed.loc[:30, "close"] = changed.loc[:30, ["low", "high"]].mean(axis=1)

    assert store(client, said(changed), DAYS[39])["revised"]["restatement"] > 25


def paying(frame: pd.DataFrame, days: list[dt.date]) -> pd.DataFrame:
    for day in days:
        frame = with_dividend(frame, str(day), 0.4)
    return frame


def test_several_dividends_that_vanish_hold_the_answer_back(client: YfinanceClient, emptied_url: str) -> None:
    frame = make_bars(days=40).assign(adj_close=lambda table: table["close"])
    paid = [DAYS[number] for number in (3, 11, 19, 27)]
    store(client, said(paying(frame, paid)), DAYS[38])
    before = query(emptied_url, "SELECT date, adj_close FROM ohlcv ORDER BY date")

    with pytest.raises(HistoryShrank, match=f"lacks 3 of 4 stored dividends and gains, {paid[1]} first"):
        store(client, said(paying(frame, paid[:1])), DAYS[39])

    assert query(emptied_url, "SELECT date, adj_close FROM ohlcv ORDER BY date") == before


def test_a_split_that_vanishes_holds_the_answer_back(client: YfinanceClient) -> None:
    frame = make_bars(days=40)
    store(client, said(with_split(frame, str(DAYS[9]), 3.0)), DAYS[38])

    with pytest.raises(HistoryShrank, match="lacks 1 of 1 stored splits"):
        store(client, said(frame), DAYS[39])


def test_one_dividend_that_vanishes_is_told(client: YfinanceClient) -> None:
    frame = make_bars(days=40).assign(adj_close=lambda table: table["close"])
    store(client, said(paying(frame, [DAYS[3], DAYS[19]])), DAYS[38])

    detail = store(client, said(paying(frame, [DAYS[3]])), DAYS[39])

    assert detail["vanished_actions"] == [{"date": str(DAYS[19]), "kind": "dividends", "amount": 0.4}]
    assert set(detail["revised"]) == {"dividend"}


# -- what is not known does not replace what is


def test_an_answer_without_adjusted_closes_leaves_those_that_are_known(
    client: YfinanceClient, emptied_url: str
) -> None:
    frame = paying(make_bars(days=40), [DAYS[9], DAYS[30]])
    store(client, said(frame.iloc[:39]), DAYS[38])

    detail = store(client, said(frame.assign(adj_close=np.nan), lacks=["adj_close"]), DAYS[39])

    assert detail["lacks"] == ["adj_close"]
    adjusted = query(emptied_url, "SELECT adj_close FROM ohlcv ORDER BY date")
    assert adjusted == [*frame["adj_close"].tolist()[:39], None]
    store(client, said(frame), DAYS[39])
    assert query(emptied_url, "SELECT count(*) FROM ohlcv WHERE adj_close IS NULL") == [0]


def test_with_another_dividend_stored_adjusted_closes_mean_something_else(
    client: YfinanceClient, emptied_url: str
) -> None:
    frame = paying(make_bars(days=40), [DAYS[9]])
    store(client, said(frame.iloc[:39]), DAYS[38])

    store(client, said(paying(frame, [DAYS[39]]).assign(adj_close=np.nan)), DAYS[39])

    assert query(emptied_url, "SELECT count(adj_close) FROM ohlcv") == [0]


# -- an earlier date adds years


def test_an_earlier_date_adds_years_across_dividends_and_splits(client: YfinanceClient, emptied_url: str) -> None:
    frame = with_split(paying(make_bars(days=60), [DAYS[9]]), "2024-01-15", 2.0)
    frame = with_dividend(frame, "2024-01-03", 0.3)
    later, start = frame[frame["date"] >= str(DAYS[0])], dt.date(2023, 12, 1)
    first = Window(Span(DAYS[0], DAYS[39], whole=True), DAYS[39])
    client.insert_ohlcv("AAA", said(later), window=first)

    client.insert_ohlcv("AAA", said(frame), window=Window(Span(start, DAYS[39], whole=True), DAYS[38]))

    assert query(emptied_url, "SELECT count(*) FROM ohlcv") == [60]
    assert query(emptied_url, "SELECT history_from FROM securities") == [start]
    pd.testing.assert_frame_equal(client.bars("AAA", start, DAYS[39]), frame)
