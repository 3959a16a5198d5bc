"""What readers get: adjusted, as traded, as of a date; the same from the views as from Python; never silently fewer."""

from __future__ import annotations

import datetime as dt
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from luigi_tasks import ContradictoryData, YfinanceClient, actions, bars, metadata, prices, universe
from luigi_tasks.database.bulk import fetch
from luigi_tasks.database.client import Window
from luigi_tasks.database.engine import engine_for
from luigi_tasks.database.ledger import Marker, Step
from luigi_tasks.database.memberships import Memberships
from luigi_tasks.database.reading import snapshot
from luigi_tasks.errors import (
    AdjustmentUnknown,
    ConfigurationError,
    DatabaseRefused,
    DatabaseUnavailable,
    SecurityNotFound,
)
from luigi_tasks.reading import Adjusted, Request
from luigi_tasks.schedule import Span
from tests.conftest import make_bars
from tests.workspace import Workspace

MONDAY, TUESDAY, WEDNESDAY, THURSDAY = (dt.date(2024, 6, day) for day in (3, 4, 5, 6))
DAYS = (MONDAY, TUESDAY, WEDNESDAY, THURSDAY)


def frame(days: int, closes: list[float], adjusted: list[float], **columns: Any) -> pd.DataFrame:
    """The first `days` of the four, with highs 1 % above the closes and lows 1 % below."""
    values = {"close": closes, "adj_close": adjusted, "volume": 1_000_000, "dividends": 0.0, "stock_splits": 0.0}
    made = pd.DataFrame({"date": pd.to_datetime(list(DAYS[:days])), **values, **columns})
    return bars.conform(made.assign(open=made["close"], high=made["close"] * 1.01, low=made["close"] * 0.99))


def store(database_url: str, ticker: str, as_of: dt.date, bars_of_it: pd.DataFrame, **window: Any) -> None:
    """What a run as of that date stores."""
    client = YfinanceClient(database_url)
    client.insert_security(ticker, ["demo"], as_of=as_of)
    asked = Window(Span(MONDAY, as_of, whole=True), as_of, **window)
    client.insert_ohlcv(ticker, bars_of_it, window=asked)


def execute(database_url: str, statement: str, ticker: str = "ACME", **values: Any) -> None:
    """One statement of SQL, with :id for the ticker's."""
    with engine_for(database_url).begin() as connection:
        number = connection.scalar(sa.text("SELECT security_id FROM securities WHERE ticker = :t"), {"t": ticker})
        connection.execute(sa.text(statement), {"id": number, **values})


def without_bar(database_url: str, date: dt.date, as_of: dt.date, until: dt.date | None = None, **amounts: Any) -> None:
    """An action of ACME on a day without a bar."""
    names, given = ", ".join(amounts), ", ".join(f":{name}" for name in amounts)
    execute(
        database_url,
        f"INSERT INTO actions_without_bar (security_id, date, as_of, until, {names}) "
        f"VALUES (:id, :date, :as_of, :until, {given})",
        **{"date": date, "as_of": as_of, "until": until, **amounts},
    )


def repair(
    database_url: str,
    date: dt.date,
    as_of: dt.date = THURSDAY,
    until: dt.date | None = None,
    ticker: str = "ACME",
    **new: float,
) -> None:
    """Repaired values of a bar, by column."""
    for column, value in new.items():
        execute(
            database_url,
            "INSERT INTO repairs VALUES (:id, :date, :column, :as_of, :until, 'a_rule', NULL, :new, 'as seen')",
            ticker,
            date=date,
            column=column,
            as_of=as_of,
            until=until,
            new=value,
        )


def viewed(database_url: str, view: str, columns: list[str]) -> pd.DataFrame:
    """What a view has, in the shape and order of `prices`."""
    with engine_for(database_url).connect() as connection:
        query = sa.text(f'SELECT {", ".join(columns)} FROM {view} ORDER BY ticker COLLATE "C", date')
        found = pd.DataFrame(connection.execute(query).all(), columns=columns)
    kinds = dict.fromkeys(columns, "float64") | {"ticker": "str", "date": "datetime64[s]", "provisional": "bool"}
    return found.astype({name: kinds[name] for name in columns})


@pytest.fixture
def split(emptied_url: str) -> str:
    """ACME paid 8.00 a share on Tuesday and was split 4:1 on Wednesday; runs were on Tuesday and Thursday."""
    store(emptied_url, "ACME", TUESDAY, frame(2, [400, 396], [392, 396], dividends=[0, 8.0]))
    actions: dict[str, Any] = {"stock_splits": [0, 0, 4.0, 0], "dividends": [0, 2.0, 0, 0]}
    store(emptied_url, "ACME", THURSDAY, frame(4, [100, 99, 100, 101], [98, 99, 100, 101], **actions))
    return emptied_url


def test_prices_are_adjusted_for_splits_and_dividends_for_splits_or_not_at_all(split: str) -> None:
    ways: tuple[Adjusted, ...] = (True, "splits", False)
    closes = {
        adjusted: prices("ACME", adjusted=adjusted, wide="close", database_url=split)["ACME"].tolist()
        for adjusted in ways
    }

    assert closes == {True: [98, 99, 100, 101], "splits": [100, 99, 100, 101], False: [400, 396, 100, 101]}
    traded = prices("ACME", adjusted=False, database_url=split)
    assert traded["volume"].tolist() == [250_000, 250_000, 1_000_000, 1_000_000]
    assert traded["dividends"].tolist() == [0, 8.0, 0, 0]
    assert traded["high"].tolist() == pytest.approx([404, 399.96, 101, 102.01])
    numpys: Any = np.True_
    adjusted = prices("ACME", adjusted=numpys, database_url=split)
    assert adjusted["low"].tolist() == pytest.approx([97.02, 98.01, 99, 99.99])
    assert adjusted["volume"].tolist() == [1_000_000] * 4


def test_a_split_after_the_days_asked_for_counts(split: str) -> None:
    assert prices("ACME", MONDAY, TUESDAY, adjusted=False, database_url=split)["close"].tolist() == [400, 396]


def test_as_of_knows_of_no_split_or_dividend_that_came_later(split: str) -> None:
    expected: dict[Adjusted, list[float]] = {True: [392, 396], "splits": [400, 396], False: [400, 396]}
    for adjusted, closes in expected.items():
        known = prices("ACME", as_of=TUESDAY, adjusted=adjusted, database_url=split)
        assert known["close"].tolist() == closes
    assert prices("ACME", as_of=MONDAY, database_url=split).empty


def test_the_split_of_a_bar_in_quarantine_counts(emptied_url: str) -> None:
    whole = frame(4, [100, 99, 100, 101], [100, 99, 100, 101], stock_splits=[0, 0, 4.0, 0])
    bad = whole.iloc[2:3].assign(high=1.0, broken="[]")
    store(emptied_url, "ACME", THURSDAY, whole.drop(index=2), quarantined=bad)
    execute(emptied_url, "DELETE FROM actions_without_bar")
    without_bar(emptied_url, WEDNESDAY, THURSDAY, stock_splits=4.0)

    assert prices("ACME", adjusted=False, database_url=emptied_url)["close"].tolist() == [400, 396, 101]
    at_once = prices("ACME", adjusted=False, as_of=THURSDAY, database_url=emptied_url)
    assert at_once["close"].tolist() == [400, 396, 101]


def test_prices_as_traded_are_right_on_both_sides_of_an_action_on_a_day_without_a_bar(emptied_url: str) -> None:
    served = frame(4, [88.28, 88.3, 0, 3.4], [88.28, 88.3, 0, 3.4], volume=400).drop(index=2)
    store(emptied_url, "ACME", THURSDAY, served)
    without_bar(emptied_url, WEDNESDAY, THURSDAY, stock_splits=0.04, dividends=0.5)

    traded = prices("ACME", adjusted=False, database_url=emptied_url)

    assert traded["close"].tolist() == pytest.approx([3.5312, 3.532, 3.4])
    assert traded["volume"].tolist() == [10_000, 10_000, 400]
    assert traded["stock_splits"].tolist() == [0, 0, 0], "it is on no other day than its own"
    listed = actions("ACME", database_url=emptied_url)
    assert listed["kind"].tolist() == ["dividend", "split"]
    assert listed["date"].tolist() == [pd.Timestamp(WEDNESDAY)] * 2
    assert not listed["has_bar"].any()
    assert actions("ACME", as_of=WEDNESDAY, database_url=emptied_url).empty


def test_what_was_traded_stays_what_it_was_when_the_bar_of_a_split_is_mended(emptied_url: str) -> None:
    friday, monday = dt.date(2024, 6, 7), dt.date(2024, 6, 10)
    before = pd.concat(
        [frame(4, [120.888] * 4, [120.888] * 4), frame(1, [121], [121]).assign(date=pd.Timestamp(monday))]
    )
    store(emptied_url, "ACME", monday, bars.conform(before))
    without_bar(emptied_url, friday, monday, until=dt.date(2024, 6, 11), stock_splits=10.0)
    read: dict[str, Any] = {"adjusted": False, "wide": "close", "database_url": emptied_url}
    then = prices("ACME", MONDAY, as_of=monday, **read)
    assert then["ACME"].tolist() == pytest.approx([1208.88] * 4 + [121])

    mended = frame(1, [121], [121], stock_splits=10.0).assign(date=pd.Timestamp(friday))
    store(emptied_url, "ACME", dt.date(2024, 6, 11), bars.conform(pd.concat([before, mended])))

    pd.testing.assert_frame_equal(prices("ACME", MONDAY, as_of=monday, **read), then, check_exact=True)
    assert prices("ACME", **read)["ACME"].tolist() == pytest.approx([1208.88] * 4 + [121] * 2), "and it counts once"


def test_what_both_a_bar_and_a_day_without_one_say_counts_once(split: str) -> None:
    without_bar(split, WEDNESDAY, THURSDAY, stock_splits=4.0)

    assert prices("ACME", adjusted=False, wide="close", database_url=split)["ACME"].tolist() == [400, 396, 100, 101]


def test_the_newest_session_is_provisional_until_it_is_settled(emptied_url: str) -> None:
    whole = frame(4, [100, 99, 100, 101], [98, 99, 100, 101], stock_splits=[0, 2.0, 0, 0])
    for ticker in ("ACME", "OTHER"):
        store(emptied_url, ticker, THURSDAY, whole.assign(close=whole["close"] + (ticker == "OTHER") * 0.001))
    unsettled = "UPDATE ohlcv SET provisional = true, open = NULL, high = NULL, low = NULL, volume = NULL"
    execute(emptied_url, f"{unsettled} WHERE security_id = :id AND date = '2024-06-06'")

    for adjusted, first in ((True, 98.0), ("splits", 100.0), (False, 200.0)):
        read = prices("ACME", adjusted=adjusted, database_url=emptied_url)  # type: ignore[arg-type]
        assert read["close"].tolist()[::3] == [first, 101]
        assert read["provisional"].tolist() == [False, False, False, True]
        assert read.loc[3, ["open", "high", "low", "volume"]].isna().all()
        assert read["volume"].tolist()[1:3] == [1_000_000] * 2
        assert (str(read.dtypes["volume"]), str(read.dtypes["provisional"])) == ("float64", "bool")
    execute(emptied_url, f"{unsettled} WHERE security_id = :id AND date = '2024-06-03'")
    assert np.isnan(prices("ACME", adjusted=False, wide="volume", database_url=emptied_url)["ACME"].iloc[0])
    execute(
        emptied_url,
        "UPDATE ohlcv SET open = 1, high = close, low = 1, volume = 1 WHERE open IS NULL AND date < '2024-06-06'",
    )
    execute(emptied_url, "UPDATE ohlcv SET provisional = false WHERE date = '2024-06-03'")
    final = prices(final_only=True, database_url=emptied_url)
    assert final.groupby("ticker").size().to_dict() == {"ACME": 3, "OTHER": 4}
    assert str(final.dtypes["volume"]) == "int64"
    volumes = prices(wide="volume", database_url=emptied_url)
    assert volumes["OTHER"].tolist() == [1_000_000] * 4
    assert np.isnan(volumes["ACME"].iloc[-1])
    assert len(prices("ACME", wide="close", final_only=True, database_url=emptied_url)) == 3

    execute(emptied_url, "UPDATE ohlcv SET settled_as_of = '2024-06-07' WHERE security_id = :id", "OTHER")
    then = prices("OTHER", as_of=THURSDAY, database_url=emptied_url)
    assert then["provisional"].all(), "as of Thursday nobody had seen it again"
    assert not prices("OTHER", as_of="2024-06-07", database_url=emptied_url)["provisional"].any()
    assert not prices("OTHER", database_url=emptied_url)["provisional"].any()


def test_a_dividend_in_another_currency_is_no_number_among_those_of_the_prices(emptied_url: str) -> None:
    store(emptied_url, "ACME", THURSDAY, frame(4, [100, 99, 100, 101], [98, 99, 100, 101], dividends=[0, 1.5, 0, 2]))
    execute(emptied_url, "UPDATE securities SET currency = 'GBp'")
    execute(emptied_url, "UPDATE ohlcv SET dividend_currency = 'USD' WHERE date = '2024-06-04'")
    execute(emptied_url, "UPDATE ohlcv SET stock_splits = 2 WHERE date = '2024-06-06'")
    execute(emptied_url, "UPDATE ohlcv SET capital_gains = 0.25 WHERE date IN ('2024-06-03', '2024-06-06')")

    for adjusted, gains in ((True, 0.25), ("splits", 0.25), (False, 0.5)):
        read = prices("ACME", adjusted=adjusted, database_url=emptied_url)  # type: ignore[arg-type]
        assert read["dividends"].fillna(-1).tolist() == [0, -1, 0, 2]
        assert read["capital_gains"].tolist() == [gains, 0, 0, 0.25]
    assert prices("ACME", wide="capital_gains", database_url=emptied_url)["ACME"].tolist() == [0.25, 0, 0, 0.25]
    listed = actions("ACME", database_url=emptied_url)
    assert listed.drop(columns="date").to_dict("split")["data"] == [
        ["ACME", "capital_gain", 0.25, "GBp", True],
        ["ACME", "dividend", 1.5, "USD", True],
        ["ACME", "capital_gain", 0.25, "GBp", True],
        ["ACME", "dividend", 2.0, "GBp", True],
        ["ACME", "split", 2.0, pytest.approx(np.nan, nan_ok=True), True],
    ]
    kinds = ["str", "datetime64[s]", "str", "float64", "str", "bool"]
    assert list(map(str, listed.dtypes)) == kinds
    assert list(map(str, actions("ACME", end=dt.date(2024, 6, 2), database_url=emptied_url).dtypes)) == kinds
    with engine_for(emptied_url).connect() as connection:
        found = connection.execute(
            sa.text("SELECT ticker, kind, amount, has_bar FROM corporate_actions ORDER BY date, kind")
        )
        assert list(map(tuple, found)) == list(
            listed[["ticker", "kind", "amount", "has_bar"]].itertuples(index=False, name=None)
        )

    repair(emptied_url, TUESDAY, dividends=118.0)
    assert prices("ACME", repaired=True, database_url=emptied_url)["dividends"].tolist() == [0, 118, 0, 2]
    traded = prices("ACME", repaired=True, adjusted=False, database_url=emptied_url)
    assert traded["dividends"].tolist() == [0, 236, 0, 2]


def test_repairs_take_the_place_of_what_is_served(emptied_url: str) -> None:
    nan = float("nan")
    served = frame(4, [2812.0, 2816.0, 705, 706], [nan, 704, 705, 706], stock_splits=[0, 0, 4.0, 0], volume=250)
    store(emptied_url, "ACME", THURSDAY, served)
    store(emptied_url, "OTHER", THURSDAY, frame(4, [1, 2, 3, 4], [1, 2, 3, 4]))
    for day, close in ((MONDAY, 703.0), (TUESDAY, 704.0)):
        mended_day = {"open": close, "high": close + 1, "low": close - 1, "close": close, "adj_close": close - 3}
        for column, value in (mended_day | {"volume": 1000}).items():
            repair(emptied_url, day, **{column: value})  # type: ignore[arg-type]
    repair(emptied_url, dt.date(2024, 6, 7), open=1.0)

    mended = prices(adjusted=False, repaired=True, database_url=emptied_url)

    assert mended["close"].tolist() == [2812, 2816, 705, 706, 1, 2, 3, 4], "as traded, since the split counts once"
    assert mended["volume"].tolist() == [250] * 4 + [1_000_000] * 4
    assert prices("ACME", adjusted="splits", repaired=True, wide="high", database_url=emptied_url)["ACME"].tolist() == [
        704, 705, pytest.approx(712.05), pytest.approx(713.06)
    ]  # fmt: skip
    assert prices("ACME", repaired=True, database_url=emptied_url)["close"].tolist() == [700, 701, 705, 706]
    with pytest.warns(ContradictoryData), pytest.raises(AdjustmentUnknown, match=r"^ACME: "):
        prices("ACME", database_url=emptied_url)
    assert prices("ACME", as_of=THURSDAY, repaired=True, wide="open", database_url=emptied_url)["ACME"].iloc[0] == 700
    execute(emptied_url, "UPDATE repairs SET until = '2024-06-07' WHERE \"column\" = 'adj_close'")
    then = prices("ACME", as_of=THURSDAY, repaired=True, wide="close", database_url=emptied_url)
    assert then["ACME"].tolist() == [700, 701, 705, 706], "as of Thursday they held"
    with pytest.raises(AdjustmentUnknown):
        prices("ACME", repaired=True, database_url=emptied_url)


def test_a_bar_in_quarantine_that_can_be_mended_is_there(emptied_url: str) -> None:
    whole = frame(4, [100, 99, 100, 101], [98, 99, 100, 101], dividends=[0, 2.0, 0, 0])
    bad = whole.iloc[[1, 2]].assign(close=[9900, -1], open=[9900, -1], volume=[7.0, -5], broken="[]")
    store(emptied_url, "ACME", THURSDAY, whole.drop(index=[1, 2]), quarantined=bad)
    execute(emptied_url, "DELETE FROM actions_without_bar")
    without_bar(emptied_url, TUESDAY, THURSDAY, dividends=2.0)
    repair(emptied_url, TUESDAY, open=99.0, close=99.0)
    repair(emptied_url, WEDNESDAY, open=100.0)
    read: dict[str, Any] = {"adjusted": "splits", "database_url": emptied_url}

    mended = prices(repaired=True, **read)

    assert mended["date"].dt.date.tolist() == [MONDAY, TUESDAY, THURSDAY], "a close that is not mended is none"
    assert mended.iloc[1, 2:].tolist() == [99, pytest.approx(99.99), pytest.approx(98.01), 99, 7, 2, 0, 0, False]
    assert prices(repaired=True, wide="dividends", **read)["ACME"].tolist() == [0, 2, 0]
    assert prices(repaired=True, start=WEDNESDAY, **read)["date"].dt.date.tolist() == [THURSDAY]
    assert prices(repaired=True, database_url=emptied_url)["close"].tolist() == [98, 99, 101]
    execute(emptied_url, "UPDATE repairs SET until = '2024-06-07'")
    execute(emptied_url, "UPDATE quarantined_bars SET high = 5, volume = 6")
    then = prices(repaired=True, as_of=THURSDAY, **read)
    assert then["close"].tolist() == [100, 99, 101]
    assert then.loc[1, ["high", "volume"]].isna().all(), "quarantine has no history"
    assert len(prices(repaired=True, **read)) == 2
    execute(emptied_url, "UPDATE ohlcv SET provisional = true WHERE date = '2024-06-06'")
    repair(emptied_url, THURSDAY, close=102.0)
    assert prices(repaired=True, final_only=True, **read)["date"].dt.date.tolist() == [MONDAY]


def test_who_reads_contradictory_data_without_repairs_is_told(split: str) -> None:
    store(split, "FINE", THURSDAY, frame(4, [7, 8, 9, 10], [7, 8, 9, 10]))
    repair(split, TUESDAY, as_of=THURSDAY, close=98.0, adj_close=97.0)
    read: dict[str, Any] = {"database_url": split}

    with pytest.warns(ContradictoryData) as told:
        prices(**read)
    assert len(told) == 1
    assert str(told[0].message) == (
        "2 values of ACME contradict what else the source says; repaired=True gives them mended, and ./run.sh report "
        "says why"
    )
    assert told[0].filename == __file__
    with pytest.warns(ContradictoryData, match="^a value of ACME contradicts"):
        prices(adjusted="splits", **read)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prices(repaired=True, **read)
        prices("FINE", **read)
        prices(start=WEDNESDAY, **read)
        prices(as_of=TUESDAY, **read)
        prices(wide="volume", **read)
        execute(split, "UPDATE repairs SET until = '2024-06-07'")
        prices(**read)
    with pytest.warns(ContradictoryData):
        prices(as_of=THURSDAY, **read)


def test_many_repairs_meet_their_bars(emptied_url: str) -> None:
    client = YfinanceClient(emptied_url)
    made = {ticker: make_bars(days=300, seed=number) for number, ticker in enumerate(("ZZ", "^A", "B.C", "A"))}
    for ticker, whole in made.items():
        client.insert_security(ticker, [])
        client.insert_ohlcv(ticker, whole)
    doubled = """
        INSERT INTO repairs SELECT security_id, date, c.name, '2024-03-15', NULL, 'unit', 0, c.value * 2.7, 'even'
        FROM ohlcv, LATERAL (VALUES ('open', open), ('high', high), ('low', low), ('close', close), ('volume', volume),
            ('adj_close', adj_close), ('dividends', 1)) AS c (name, value)
        WHERE CAST(date AS text) ~ '[02468]$'
    """
    execute(emptied_url, doubled)
    # Some of them are of bars that are not stored; others of what is not settled, or paid in another currency.
    execute(
        emptied_url,
        "INSERT INTO quarantined_bars "
        "(security_id, date, number, open, high, low, close, adj_close, volume, broken, as_of) "
        "SELECT security_id, date, 0, 1, 'NaN', -2, 3, 0.1 + 0.2, 2.5, '[]', as_of FROM ohlcv "
        "WHERE date > '2024-02-20'",
    )
    execute(emptied_url, "DELETE FROM ohlcv WHERE date BETWEEN '2024-02-21' AND '2024-03-01'")
    execute(emptied_url, "DELETE FROM repairs WHERE date > '2024-02-20' AND \"column\" <> 'close'")
    execute(emptied_url, "UPDATE ohlcv SET provisional = true, open = NULL, volume = NULL WHERE date > '2024-03-13'")
    execute(emptied_url, "UPDATE ohlcv SET dividend_currency = 'USD', dividends = 3 WHERE date < '2023-03-01'")
    execute(
        emptied_url,
        "INSERT INTO actions_without_bar SELECT security_id, '2024-02-22', as_of, NULL, 0.3, 2, 0.7, NULL FROM ohlcv "
        "WHERE date = '2024-03-15'",
    )
    columns = ["ticker", "date", "open", "high", "low", "close", "volume", "dividends", "stock_splits", "capital_gains"]

    read = prices(adjusted="splits", repaired=True, database_url=emptied_url)

    expected = viewed(emptied_url, "prices_repaired", [*columns, "provisional"])
    pd.testing.assert_frame_equal(read, expected, check_exact=True)
    everyone = pd.concat(whole.assign(ticker=ticker) for ticker, whole in made.items()).set_index(["ticker", "date"])
    ratio = read.set_index(["ticker", "date"])["close"] / everyone["close"]
    even = ratio.index.get_level_values("date").day % 2 == 0
    gone = (ratio.index.get_level_values("date") >= "2024-02-21") & (
        ratio.index.get_level_values("date") <= "2024-03-01"
    )
    assert ratio[even].tolist() == pytest.approx([2.7] * int(even.sum()))
    assert ratio[~even & ~gone].tolist() == [1] * int((~even & ~gone).sum())
    assert ratio[~even & gone].isna().all()
    assert read["dividends"].isna().sum() > 20
    assert read["high"].isna().sum() == 3 * 4


def test_each_security_has_its_own_splits(emptied_url: str) -> None:
    for ticker, ratio in (("B", 2.0), ("A", 0.1), ("C", 0.0)):
        ratios = [0.0, 3.0 if ratio else 0.0, 0.0, ratio]
        store(emptied_url, ticker, THURSDAY, frame(4, [ord(ticker)] * 4, [60.0] * 4, stock_splits=ratios))

    traded = prices(adjusted=False, wide="volume", database_url=emptied_url)

    assert traded["A"].tolist() == [3_333_333, 10_000_000, 10_000_000, 1_000_000]
    assert traded["B"].tolist() == [166_667, 500_000, 500_000, 1_000_000]
    assert traded["C"].tolist() == [1_000_000] * 4


def test_a_price_that_cannot_be_adjusted_is_refused_and_not_given_as_it_is(emptied_url: str) -> None:
    nan = float("nan")
    store(emptied_url, "KNOWN", THURSDAY, frame(4, [100, 99, 100, 101], [98, 99, 100, 101]))
    store(emptied_url, "UNSAID", THURSDAY, frame(4, [20, 21, 20, 22], [nan, 21, 20, 22]))

    with pytest.raises(AdjustmentUnknown, match=r'^UNSAID: .* adjusted="splits"'):
        prices(database_url=emptied_url)

    assert len(prices(start=TUESDAY, database_url=emptied_url)) == 6
    assert prices(wide="volume", database_url=emptied_url).shape == (4, 2)
    assert len(prices(adjusted="splits", database_url=emptied_url)) == 8
    with engine_for(emptied_url).connect() as connection:
        query = "SELECT open, high, low, close FROM prices_adjusted WHERE ticker = 'UNSAID' ORDER BY date LIMIT 1"
        assert tuple(connection.execute(sa.text(query)).one()) == (None,) * 4


def test_the_view_and_python_tell_the_same_to_the_last_digit(emptied_url: str) -> None:
    client = YfinanceClient(emptied_url)
    for number, ticker in enumerate(("^A", "B.C", "B-C", "ZZ", "A")):
        client.insert_security(ticker, [])
        made = make_bars(days=300, seed=number)
        made["adj_close"] = np.random.default_rng(number).uniform(5, 40, 300)
        # Where the close is the highest or lowest price, the last digit decides.
        made["high"], made["low"] = made[["open", "close"]].max(axis=1), made[["open", "close"]].min(axis=1)
        client.insert_ohlcv(ticker, made)
    for name, ticker in (("open", "A"), ("high", "B.C"), ("low", "ZZ"), ("volume", "B-C")):
        broken = f"UPDATE ohlcv SET provisional = true, {name} = NULL WHERE security_id = :id AND date > '2024-03-13'"
        execute(emptied_url, broken, ticker)
    columns = ["ticker", "date", "open", "high", "low", "close", "volume", "provisional"]

    read = prices(database_url=emptied_url)

    pd.testing.assert_frame_equal(read[columns], viewed(emptied_url, "prices_adjusted", columns), check_exact=True)
    assert len(read) == 1500
    assert read[["open", "high", "low", "volume"]].isna().sum().tolist() == [2] * 4
    known = read.dropna()
    top = np.maximum(known["open"], known["close"])
    assert ((known["high"] >= top) & (known["low"] <= known[["open", "close"]].min(axis=1))).all(), "a bar stays a bar"


def test_many_tickers_are_read_in_parts_without_losing_one(emptied_url: str) -> None:
    with engine_for(emptied_url).begin() as connection:
        connection.execute(
            sa.text("INSERT INTO securities (ticker) SELECT 'T' || i FROM generate_series(1, 501) AS i ORDER BY -i")
        )
        connection.execute(
            sa.text(
                "INSERT INTO ohlcv SELECT security_id, date '2024-06-03' + day, security_id, security_id, security_id, "
                "security_id, security_id, 1, 0, 0, '2024-06-06' FROM securities, generate_series(0, 3) AS day"
            )
        )
        ids = dict(map(tuple, connection.execute(sa.text("SELECT ticker, security_id FROM securities"))))

    long, wide = prices(database_url=emptied_url), prices(wide="open", database_url=emptied_url)

    assert long["ticker"].drop_duplicates().tolist() == sorted(ids) == wide.columns.tolist()
    assert long.groupby("ticker", sort=False)["open"].unique().map(list).to_dict() == {
        ticker: [number] for ticker, number in ids.items()
    }
    assert (wide == pd.Series(ids).astype(float)[wide.columns]).all(axis=None)


def test_all_that_is_read_is_of_one_moment_and_no_writer_waits(emptied_url: str) -> None:
    with engine_for(emptied_url).begin() as connection:
        connection.execute(
            sa.text("INSERT INTO securities (ticker) SELECT 'T' || i FROM generate_series(100, 350) AS i")
        )
        connection.execute(
            sa.text(
                "INSERT INTO ohlcv SELECT security_id, '2024-06-03', 1, 1, 1, 1, 1, 1, 0, 0, '2024-06-06' "
                "FROM securities"
            )
        )
    request = Request()

    with snapshot(emptied_url) as stored:
        frames = request.frames(stored, request.securities(stored))
        assert next(frames)["ticker"].iloc[0] == "T100"
        YfinanceClient(emptied_url).delete_security("T350")
        assert next(frames)["ticker"].iloc[-1] == "T350"

    assert prices(database_url=emptied_url)["ticker"].iloc[-1] == "T349"


def test_a_null_is_no_number(emptied_url: str) -> None:
    with engine_for(emptied_url).connect() as connection:
        for rows in ("(1::int8, 2::float8), (1, NULL)", "(NULL::int8, NULL::float8)"):
            with pytest.raises(ValueError, match=r"NULL|multiple"):
                fetch(connection, f"VALUES {rows}", {"a": "int8", "b": "float8"}, {})


def test_a_database_without_tables_says_what_makes_them(empty_database_url: str) -> None:
    with pytest.raises(DatabaseRefused, match=r"lacks our tables .* \./run\.sh up makes"):
        prices(database_url=empty_database_url)


def test_the_shapes_are_those_documented(split: str) -> None:
    YfinanceClient(split).insert_security("EMPTY", ["demo"], as_of=TUESDAY)

    long = prices(["ACME", "EMPTY", "ACME"], "2024-06-04", pd.Timestamp("2024-06-05"), database_url=split)
    wide = prices(["EMPTY", "ACME"], wide="volume", database_url=split)

    numbers = dict.fromkeys(["open", "high", "low", "close"], "float64")
    expected = {"ticker": "str", "date": "datetime64[s]", **numbers, "volume": "int64"}
    expected |= dict.fromkeys(["dividends", "stock_splits", "capital_gains"], "float64") | {"provisional": "bool"}
    assert {name: str(kind) for name, kind in long.dtypes.items()} == expected
    assert long["date"].dt.date.tolist() == [TUESDAY, WEDNESDAY]
    assert isinstance(wide.index, pd.DatetimeIndex)
    assert wide.columns.tolist() == ["ACME", "EMPTY"]
    assert set(map(str, wide.dtypes)) == {"float64"}
    assert wide["EMPTY"].isna().all()
    empty = prices("EMPTY", database_url=split)
    assert empty.dtypes.equals(long.dtypes)
    assert empty.empty
    assert prices([], wide="close", database_url=split).shape == (0, 0)


def test_unknown_tickers_are_all_named(split: str) -> None:
    for read in (prices, metadata):
        with pytest.raises(SecurityNotFound, match=r"^AAPL, NOPE, X\x00: are not registered"):
            read(["NOPE", "ACME", "aapl", "x\0"], database_url=split)
    with pytest.raises(SecurityNotFound, match=r"^GONE: is not registered"):
        prices("GONE", database_url=split)


def test_a_ticker_may_be_written_as_people_write_it(split: str) -> None:
    for read in (prices, metadata, actions):
        pd.testing.assert_frame_equal(read(" acme ", database_url=split), read("ACME", database_url=split))
        pd.testing.assert_frame_equal(read(["acme", "ACME"], database_url=split), read("ACME", database_url=split))
    client = YfinanceClient(split)
    assert client.get_security_id("acme ") == client.get_security_id("ACME")
    client.insert_security(" brk-b", [])
    assert "BRK-B" in client.get_tickers()


def test_it_is_asked_whether_a_share_class_was_meant(split: str) -> None:
    client = YfinanceClient(split)
    client.insert_security("BRK-B", [])
    question = r"Did you mean BRK-B\? Yahoo writes a share class with a hyphen\.$"
    for read in (prices, metadata, actions):
        with pytest.raises(SecurityNotFound, match=rf"^BRK\.B, NOPE: are not registered\. {question}"):
            read(["brk.b", "NOPE"], database_url=split)
    with pytest.raises(SecurityNotFound, match=rf"^BRK\.B: is not registered\. {question}"):
        client.delete_security("BRK.B")
    with pytest.raises(SecurityNotFound, match=r"A run that lists them does that\.$"):
        prices("BF.B", database_url=split)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"start": "yesterday-ish"}, "start='yesterday-ish': is not a day"),
        ({"as_of": pd.NaT}, "as_of=NaT: is not a day"),
        ({"start": 2024}, "start=2024: is not a day"),
        ({"start": "2024-06-05", "end": "2024-06-04"}, "start=2024-06-05: is after end=2024-06-04"),
        ({"adjusted": "raw"}, "adjusted='raw': is none of True, 'splits' and False"),
        ({"wide": "vwap"}, "wide='vwap': is no field of a bar. It is one of open,"),
        ({"tickers": "ACME", "groupings": "demo"}, "tickers and groupings: are both given"),
        ({"groupings": ["demo", "dax"]}, "groupings dax: no run has listed a ticker in them. There are: demo."),
    ],
)
def test_a_parameter_that_cannot_be_used_is_named(split: str, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        prices(**arguments, database_url=split)

    assert str(raised.value).startswith(words)


def record(database_url: str, as_of: dt.date, *tickers: str, renamed: dict[str, str] | None = None) -> None:
    marker = Marker(Step("RecordUniverse_1", "RecordUniverse", "run-1", None, as_of), 1, {})
    Memberships(database_url).record({name: ["one"] for name in tickers}, ["one"], renamed or {}, as_of, marker)


def test_a_renamed_ticker_has_the_bars_of_its_new_name_once_there_are_some(emptied_url: str) -> None:
    record(emptied_url, TUESDAY, "OLD", "SOME")
    store(emptied_url, "OLD", TUESDAY, frame(2, [50, 51], [50, 51]))
    record(emptied_url, THURSDAY, "NEW", "SOME", renamed={"OLD": "NEW"})
    read: dict[str, Any] = {"adjusted": "splits", "wide": "close", "database_url": emptied_url}
    assert prices(**read).columns.tolist() == ["NEW", "OLD", "SOME"]
    assert prices("OLD", **read)["OLD"].tolist() == [50, 51]

    store(emptied_url, "NEW", THURSDAY, frame(4, [25, 25.5, 26, 27], [24, 25, 26, 27], stock_splits=[0, 0, 2.0, 0]))

    assert prices("OLD", **read)["OLD"].tolist() == [25, 25.5, 26, 27], "the whole series, under the name asked for"
    assert prices(["OLD", "NEW"], **read).shape == (4, 2)
    assert actions(["OLD", "NEW"], database_url=emptied_url)["ticker"].tolist() == ["NEW", "OLD"]
    assert actions(database_url=emptied_url)["ticker"].tolist() == ["NEW"]
    assert prices(["OLD", "NEW"], adjusted=False, database_url=emptied_url)["close"].tolist() == [50, 51, 26, 27] * 2
    assert prices(**read).columns.tolist() == ["NEW", "SOME"], "of all, none is there twice"
    assert prices(**read, as_of=TUESDAY)["OLD"].tolist() == [50, 51], "on Tuesday nobody knew"
    assert prices(**read, groupings="one").columns.tolist() == ["NEW", "SOME"]
    assert prices(**read, groupings="one", as_of=TUESDAY).columns.tolist() == ["OLD", "SOME"]
    with engine_for(emptied_url).connect() as connection:
        viewed = connection.scalars(sa.text("SELECT DISTINCT ticker FROM prices_adjusted ORDER BY ticker"))
        assert list(viewed) == ["NEW"]
        covered = connection.execute(sa.text("SELECT ticker, bars, successor FROM coverage ORDER BY ticker"))
        assert list(map(tuple, covered)) == [("NEW", 4, None), ("OLD", 2, "NEW"), ("SOME", 0, None)]


def test_the_universe_is_that_of_the_day_by_the_names_of_the_day(emptied_url: str) -> None:
    record(emptied_url, TUESDAY, "OLD", "SOME")
    record(emptied_url, THURSDAY, "NEW", "SOME", renamed={"OLD": "NEW"})

    now, then = universe(database_url=emptied_url), universe("2024-06-05", "one", database_url=emptied_url)

    assert now["ticker"].tolist() == ["NEW", "SOME"]
    assert now[["valid_to", "successor"]].isna().all(axis=None)
    assert then["ticker"].tolist() == ["OLD", "SOME"]
    assert then["valid_to"].iloc[0] == pd.Timestamp(THURSDAY)
    assert str(then.dtypes["valid_from"]) == "datetime64[s]"
    with pytest.raises(ConfigurationError, match="groupings two"):
        universe(groupings=["two"], database_url=emptied_url)


def test_company_data_is_the_newest_as_of_the_date_one_row_a_ticker(emptied_url: str) -> None:
    client = YfinanceClient(emptied_url)
    for ticker in ("AAA", "NONE"):
        client.insert_security(ticker, [])
    for day, sector in ((MONDAY, "Energy"), (WEDNESDAY, "Utilities")):
        client.insert_metadata("AAA", {"sector": sector, "marketCap": 3e9, "x": 1}, as_of=day)
    execute(emptied_url, "UPDATE security_metadata SET market_cap_currency = 'GBP'")

    now, then = metadata(database_url=emptied_url), metadata("AAA", as_of=TUESDAY, database_url=emptied_url)

    assert now["ticker"].tolist() == ["AAA", "NONE"]
    assert now["sector"].tolist()[0] == "Utilities"
    assert now.iloc[1, 1:].isna().all(), "a ticker of which nothing is known has a row"
    assert then["sector"].tolist() == ["Energy"]
    assert then["as_of"].tolist() == [pd.Timestamp(MONDAY)]
    assert str(now.dtypes["market_cap"]) == "float64"
    assert now["market_cap_currency"].iloc[0] == "GBP"
    assert now.columns.tolist().index("market_cap_currency") == now.columns.tolist().index("market_cap") + 1
    with engine_for(emptied_url).connect() as connection:
        rows = connection.execute(sa.text("SELECT ticker, sector, answer->>'x' FROM latest_metadata ORDER BY ticker"))
        assert list(map(tuple, rows)) == [("AAA", "Utilities", "1"), ("NONE", None, None)]


@pytest.mark.parametrize("quoted", [MONDAY, TUESDAY, WEDNESDAY], ids=["older", "of the same date", "newer"])
@pytest.mark.parametrize("quote", [{"marketCap": 5e9, "sharesOutstanding": 50}, {"marketCap": 5e9}, {}], ids=str)
@pytest.mark.parametrize("asked", [True, False], ids=["and a whole answer", "alone"])
def test_each_daily_number_is_the_newest_with_its_date_in_the_view_as_in_python(
    emptied_url: str, quoted: dt.date, quote: dict[str, float], asked: bool
) -> None:
    client = YfinanceClient(emptied_url)
    client.insert_security("AAA", [])
    if asked:
        company = {"sector": "Energy", "marketCap": 3e9, "sharesOutstanding": 30, "currency": "USD"}
        client.insert_metadata("AAA", company, as_of=TUESDAY)
    assert client.insert_numbers({"AAA": quote | {"currency": "GBp"}, "NONE": quote}, as_of=quoted) == set()

    (told,) = metadata(database_url=emptied_url).to_dict("records")
    with engine_for(emptied_url).connect() as connection:
        names = ", ".join(name for name in told)
        (viewed,) = connection.execute(sa.text(f"SELECT {names} FROM latest_metadata"))

    known = {name: value for name, value in told.items() if not pd.isna(value)}
    assert known == {
        name: pd.Timestamp(value) if isinstance(value, dt.date) else value
        for name, value in viewed._asdict().items()
        if value is not None
    }
    by_quote = quoted >= TUESDAY or not asked
    wanted: dict[str, Any] = {}
    if "marketCap" in quote and by_quote:
        wanted |= {"market_cap": 5e9, "market_cap_currency": "GBP", "market_cap_as_of": pd.Timestamp(quoted)}
    elif asked:
        wanted |= {"market_cap": 3e9, "market_cap_currency": "USD", "market_cap_as_of": pd.Timestamp(TUESDAY)}
    if "sharesOutstanding" in quote and by_quote:
        wanted |= {"shares_outstanding": 50, "shares_as_of": pd.Timestamp(quoted)}
    elif asked:
        wanted |= {"shares_outstanding": 30, "shares_as_of": pd.Timestamp(TUESDAY)}
    daily = ("market_cap", "market_cap_currency", "market_cap_as_of", "shares_outstanding", "shares_as_of")
    assert {name: known[name] for name in daily if name in known} == wanted


def test_a_quote_of_another_security_tells_no_numbers(emptied_url: str) -> None:
    client = YfinanceClient(emptied_url)
    for ticker in ("AAA", "BBB", "CCC", "DDD"):
        store(emptied_url, ticker, WEDNESDAY, frame(3, [100.0, 101.0, 102.0], [100.0, 101.0, 102.0]))
    facts = "UPDATE securities SET currency = 'USD', time_zone = 'America/New_York' WHERE security_id = :id"
    for ticker in ("AAA", "BBB", "CCC", "DDD"):
        execute(emptied_url, facts, ticker)
    theirs = {"currency": "USD", "exchangeTimezoneName": "America/New_York", "marketCap": 1}

    strangers = client.insert_numbers(
        # The last by another name of the same zone.
        {
            "AAA": theirs,
            "DDD": theirs | {"exchangeTimezoneName": "US/Eastern"},
            "BBB": theirs | {"currency": "JPY"},
            "CCC": theirs | {"exchangeTimezoneName": "Asia/Tokyo"},
        },
        as_of=WEDNESDAY,
    )

    assert strangers == {"BBB", "CCC"}
    assert metadata(database_url=emptied_url).dropna(subset="market_cap")["ticker"].tolist() == ["AAA", "DDD"]


def test_coverage_tells_what_there_is_and_what_is_missing(split: str) -> None:
    bad = frame(1, [100], [100]).assign(broken="[]")
    store(split, "GAPS", THURSDAY, frame(4, [30, 31, 32, 33], [30, 31, 32, 33]).drop(index=0), quarantined=bad)
    with engine_for(split).begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO missing_sessions (security_id, date, noticed) "
                "SELECT security_id, '2024-05-31', '2024-06-06' FROM securities WHERE ticker = 'GAPS'"
            )
        )
        rows = connection.execute(sa.text("SELECT * FROM coverage ORDER BY ticker"))
        assert list(map(tuple, rows)) == [
            ("ACME", MONDAY, THURSDAY, 4, 0, 0, THURSDAY, None),
            ("GAPS", TUESDAY, THURSDAY, 3, 1, 1, THURSDAY, None),
        ]


def test_without_a_database_it_says_what_to_start(workspace: Workspace) -> None:
    workspace.database_url = ""
    script = "from luigi_tasks import prices; prices()"

    told = workspace.python(script)

    assert told.returncode == 1
    assert DatabaseUnavailable.__name__ in told.stderr
    assert "Start it with ./run.sh up, or set DATABASE_URL" in told.stderr.splitlines()[-1]
