"""A Yahoo that contradicts itself, on two days, over real runs: each kind of fault is stored right, or told.

All tickers are of one store and one run a day, since a run takes seconds whatever it does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

from luigi_tasks import bars, prices
from luigi_tasks.database.engine import create_database, engine_for
from tests.conftest import make_bars, with_dividend
from tests.workspace import Workspace
from tests.yahoo.answers import Answer, error
from tests.yahoo.server import LoopbackYahoo

THURSDAY, FRIDAY = "2024-03-14", "2024-03-15"
SPLIT_DAY, PAID = "2024-01-16", ("2023-09-12", "2023-12-12", "2024-02-13")
PRICES = [*bars.PRICES, "adj_close"]
SHELL = {"quoteType": {"quoteType": "NONE", "symbol": "SHELL", "exchange": "NYQ"}}


def history(seed: int, price: float = 50.0) -> pd.DataFrame:
    frame = make_bars(days=200, last=FRIDAY, seed=seed, start_price=price)
    return frame.assign(adj_close=frame["close"])


def paying(frame: pd.DataFrame, amount: float = 0.5, days: tuple[str, ...] = PAID) -> pd.DataFrame:
    for day in days:
        frame = with_dividend(frame, day, amount)
    return frame


def until(frame: pd.DataFrame, day: str) -> pd.DataFrame:
    return frame[frame["date"] <= day].reset_index(drop=True)


def changed(frame: pd.DataFrame, day: str, **values: Any) -> pd.DataFrame:
    frame = frame.copy()
    for name, value in values.items():
        frame[name] = frame[name].astype("float64").mask(frame["date"] == day, value)
    return frame


def splitting(frame: pd.DataFrame, day: str, ratio: float) -> pd.DataFrame:
    """Prices show no step, as Yahoo has it."""
    return changed(frame, day, stock_splits=ratio)


def not_divided(frame: pd.DataFrame, day: str, ratio: float) -> pd.DataFrame:
    frame, before = frame.copy(), frame["date"] < day
    for name in PRICES:
        frame[name] = frame[name].where(~before, frame[name] * ratio)
    frame["volume"] = frame["volume"].where(~before, (frame["volume"] / ratio).round())
    return frame


def in_another_unit(frame: pd.DataFrame, *days: str) -> pd.DataFrame:
    wrong = frame["date"].isin(pd.to_datetime(list(days)))
    return frame.assign(**{name: frame[name].mask(wrong, frame[name] * 1000) for name in PRICES})


SPLIT = splitting(history(1, 100.0), SPLIT_DAY, 4.0)
LATE = splitting(history(2, 100.0), THURSDAY, 4.0)
POUNDS = paying(history(3, 900.0), 19.5)
NEGATIVE = history(4)
FLAT = paying(history(5)).assign(adj_close=lambda table: table["close"])
REVERSE = splitting(history(6), "2024-02-07", 0.04)
FUND = paying(history(7), 1.7, ("2023-12-20",)).assign(volume=0)
OLD = history(8)
CENTS = history(9)
REVISED = changed(history(10), THURSDAY, volume=100_000.0)
OTHER = history(11, 200.0)
DIVIDENDS = paying(history(12))
TAIL = history(13)
TORN = history(14)


@dataclass(frozen=True)
class World:
    """What Yahoo serves of a ticker on Thursday and on Friday, and what goes with it."""

    thursday: pd.DataFrame
    friday: pd.DataFrame
    events: tuple[tuple[str, str, float], ...] = ()
    currency: str = "USD"
    type: str = "EQUITY"


def same(frame: pd.DataFrame, **more: Any) -> World:
    return World(until(frame, THURSDAY), frame, **more)


WORLDS = {
    "SPLITS": same(not_divided(SPLIT, SPLIT_DAY, 4.0)),
    "LATER": World(until(not_divided(LATE, THURSDAY, 4.0), THURSDAY), LATE),
    "USD.L": same(POUNDS.assign(dividends=0.0), currency="GBp"),
    "NEG": same(NEGATIVE.assign(adj_close=NEGATIVE["adj_close"].where(NEGATIVE["date"] > "2024-01-02", -150.7))),
    "FLAT": same(FLAT),
    "NOADJ": World(until(paying(history(15)), THURSDAY), paying(history(15)).drop(columns="adj_close")),
    "LOST": same(
        REVERSE[REVERSE["date"] != "2024-02-07"].reset_index(drop=True), events=(("2024-02-07", "stock_splits", 0.04),)
    ),
    "FUNDX": same(FUND.assign(dividends=0.0), events=(("2023-12-20", "capital_gains", 1.7),), type="MUTUALFUND"),
    "ZERO": same(OLD.assign(open=OLD["open"].where(OLD["date"] > "2023-12-01", 0.0))),
    "CENTS": same(in_another_unit(CENTS, "2024-02-20", "2024-02-21")),
    "REVISED": World(until(REVISED, THURSDAY), changed(REVISED, THURSDAY, volume=110_000.0)),
    "REUSED": World(until(OTHER, THURSDAY), history(16, 20.0)),
    "VANISH": World(until(DIVIDENDS, THURSDAY), paying(history(12), days=PAID[:1])),
    "TAIL": World(until(TAIL, "2024-03-06"), TAIL.assign(open=TAIL["open"].where(TAIL["date"] <= "2024-03-06", 0.0))),
    "TORN": World(until(changed(TORN, THURSDAY, open=1000.0), THURSDAY), TORN),
    "SHELL": same(history(17)),
    "GONE": same(history(18)),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[Workspace]:
    """After the runs of Thursday and Friday; `store.folder` has each day's report."""
    create_database(postgres_url, "contradictions")
    url = postgres_url.replace("/postgres?", "/contradictions?")
    folder = tmp_path_factory.mktemp("contradictions")
    with Workspace(folder, url) as workspace, LoopbackYahoo(folder / "yahoo") as yahoo:
        workspace.set("Yahoo", prices_per_minute="0", company_per_minute="0")
        workspace.set("Company", refresh_days_without_quotes="1")
        # Each asks for its whole history on Friday.
        workspace.set("History", whole_days="1")
        workspace.environment = yahoo.environment()
        no_quote = error("quoteSummary", 404, "Not Found", "Quote not found for symbol: GONE")
        yahoo.fault("GONE", no_quote, endpoint="summary")
        for day in (THURSDAY, FRIDAY):
            for ticker, world in WORLDS.items():
                serve(yahoo, ticker, world, day)
            if day == FRIDAY:
                document = {"quoteSummary": {"result": [SHELL], "error": None}}
                shell = Answer(200, json.dumps(document).encode(), "application/json")
                yahoo.fault("SHELL", shell, endpoint="summary")
            done = workspace.run("--tickers", ",".join(WORLDS), "--date", day, "--years-back", "1")
            assert done.code == (0 if day == THURSDAY else 30), done
            (folder / f"{day}.txt").write_text(done.out)
            report = (workspace.store / "reports/latest/report.json").read_text()
            (folder / f"{day}.json").write_text(report)
        yield workspace
    engine_for(url).dispose()


def serve(yahoo: LoopbackYahoo, ticker: str, world: World, day: str) -> None:
    frame = world.thursday if day == THURSDAY else world.friday
    info = {"longName": f"{ticker} Inc", "sector": "Energy", "marketCap": 4_500_000}
    yahoo.add(ticker, frame, info=info, currency=world.currency, instrument_type=world.type)
    if ticker == "USD.L":
        for paid in PAID:
            yahoo.event(ticker, paid, "dividends", 0.25, currency="USD")
    for event in world.events:
        yahoo.event(ticker, *event)


def report(store: Workspace, day: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((store.folder / f"{day}.json").read_text())
    return document


def findings(store: Workspace, ticker: str, day: str = FRIDAY) -> str:
    told = [each for each in report(store, day)["findings"] if each["ticker"] == ticker]
    return "\n".join(f"{each['gravity']} {each['kind']}: {each['finding']}" for each in told)


def of(store: Workspace, ticker: str, columns: str, table: str = "ohlcv", where: str = "true") -> list[Any]:
    return store.query(
        f"SELECT {columns} FROM {table} AS t JOIN securities AS s USING (security_id) "
        f"WHERE s.ticker = :ticker AND {where} ORDER BY 1",
        ticker=ticker,
    )


def read(store: Workspace, ticker: str, **how: Any) -> pd.DataFrame:
    return prices(ticker, database_url=store.database_url, **how).set_index("date")


def test_a_split_that_prices_still_show_is_told_and_repaired(store: Workspace) -> None:
    assert "repaired=True gives" in findings(store, "SPLITS")
    assert findings(store, "SPLITS").startswith("1 ")
    mended = read(store, "SPLITS", adjusted="splits", repaired=True)
    np.testing.assert_allclose(mended["close"], SPLIT["close"], rtol=1e-9)
    traded = read(store, "SPLITS", adjusted=False, repaired=True).loc["2024-01-12", "close"]
    assert traded == pytest.approx(SPLIT.set_index("date").loc["2024-01-12", "close"] * 4)


def test_a_split_that_is_applied_a_day_late_is_a_split(store: Workspace) -> None:
    assert of(store, "LATER", "DISTINCT why", "ohlcv_revisions") == ["split"]
    assert of(store, "LATER", "count(*)", "repairs", "until IS NULL") == [0]
    assert of(store, "LATER", "count(*) > 0", "repairs") == [True]
    assert "LATER" not in {each["ticker"] for each in report(store, FRIDAY)["failures"]}


def test_a_dividend_in_another_currency_keeps_it(store: Workspace) -> None:
    stored = of(store, "USD.L", "dividends, dividend_currency", where="dividends > 0")
    assert stored == [(0.25, "USD")] * 3
    assert read(store, "USD.L")["dividends"].isna().sum() == 3
    repaired = read(store, "USD.L", repaired=True)["dividends"]
    assert repaired[repaired > 0].tolist() == pytest.approx([19.5] * 3, rel=1e-4)
    assert "currency" in findings(store, "USD.L")
    cap = of(store, "USD.L", "t.market_cap::bigint, market_cap_currency", "security_metadata")
    assert set(cap) == {(4_500_000, "GBP")}


def test_a_negative_adjusted_close_costs_the_adjusted_close_alone(store: Workspace) -> None:
    (counts,) = of(store, "NEG", "count(*), count(adj_close)")
    assert counts[0] == 200
    assert 0 < counts[1] < 200
    assert of(store, "NEG", "count(*)", "quarantined_bars") == [0]
    assert "adjusted close" in findings(store, "NEG")


def test_dividends_that_adjusted_closes_ignore_are_told_and_repaired(store: Workspace) -> None:
    mended = read(store, "FLAT", repaired=True)
    np.testing.assert_allclose(mended["close"], paying(history(5))["adj_close"], rtol=1e-6)
    assert findings(store, "FLAT").count("\n") <= 1
    assert "adjusted close" in findings(store, "FLAT")


def test_an_answer_without_adjusted_closes_leaves_the_known_ones(store: Workspace) -> None:
    assert of(store, "NOADJ", "count(*), count(adj_close)") == [(200, 199)]
    assert "adj_close" in findings(store, "NOADJ")


def test_a_split_of_a_day_without_a_bar_stands_on_its_own_day(store: Workspace) -> None:
    raw, stored = read(store, "LOST", adjusted=False)["close"], read(store, "LOST", adjusted="splits")["close"]
    assert raw["2024-02-06"] == pytest.approx(stored["2024-02-06"] * 0.04)
    assert raw["2024-02-08"] == stored["2024-02-08"]
    assert of(store, "LOST", "date::text, stock_splits", "actions_without_bar") == [("2024-02-07", 0.04)]


def test_capital_gains_are_a_column_and_explain_the_adjustment(store: Workspace) -> None:
    assert of(store, "FUNDX", "date::text, capital_gains", where="capital_gains > 0") == [("2023-12-20", 1.7)]
    assert "adjusted" not in findings(store, "FUNDX")
    assert "dividend" not in findings(store, "FUNDX")
    assert read(store, "FUNDX").loc["2023-12-20", "capital_gains"] == 1.7


def test_good_years_are_kept_beside_years_without_an_open(store: Workspace) -> None:
    (first, count), (quarantined,) = (
        of(store, "ZERO", "min(date)::text, count(*)")[0],
        of(store, "ZERO", "count(*)", "quarantined_bars"),
    )
    assert first == "2023-12-04"
    assert count + quarantined == 200


def test_bars_in_another_unit_are_quarantined_and_mended(store: Workspace) -> None:
    assert of(store, "CENTS", "date::text", "quarantined_bars") == ["2024-02-20", "2024-02-21"]
    mended = read(store, "CENTS", adjusted="splits", repaired=True)["close"]
    np.testing.assert_allclose(mended, CENTS["close"], rtol=1e-12)


def test_a_volume_that_is_settled_is_no_finding(store: Workspace) -> None:
    assert of(store, "REVISED", "why, volume", "ohlcv_revisions") == [("settled", 100_000)]
    assert findings(store, "REVISED") == ""


def test_another_securitys_bars_are_held_back_and_both_are_shown(store: Workspace) -> None:
    (failure,) = [each for each in report(store, FRIDAY)["failures"] if each["ticker"] == "REUSED"]
    assert failure["kind"] == "wrong_answer"
    assert "stored bars have other prices" in failure["reason"]
    assert "accept" in failure["reason"]
    assert of(store, "REUSED", "min(close) > 100") == [True]


def test_dividends_that_vanish_are_held_back(store: Workspace) -> None:
    (failure,) = [each for each in report(store, FRIDAY)["failures"] if each["ticker"] == "VANISH"]
    assert failure["kind"] == "history_shrank"
    assert "lacks 2 of 3 stored dividends" in failure["reason"]
    assert of(store, "VANISH", "count(*)", where="dividends > 0") == [3]


def test_bad_rows_of_a_tail_are_quarantined_alone(store: Workspace) -> None:
    assert len(of(store, "TAIL", "date", "quarantined_bars", "NOT t.provisional")) == 6
    assert of(store, "TAIL", "max(date)::text, count(open)") == [(FRIDAY, 193)], "the newest has a usable close"
    assert "waiting" in findings(store, "TAIL")


def test_a_newest_bar_whose_open_is_above_its_high_waits_and_is_filled_up(store: Workspace) -> None:
    assert "waiting" in findings(store, "TORN", THURSDAY)
    assert of(store, "TORN", "t.open IS NULL, t.close IS NULL, why", "ohlcv_revisions") == [(True, False, "settled")]
    assert of(store, "TORN", "open", where=f"date = '{THURSDAY}'") == [
        float(TORN.set_index("date").loc[THURSDAY, "open"])
    ]
    assert findings(store, "TORN") == ""


def test_company_data_outlasts_a_shell_and_need_not_be_there(store: Workspace) -> None:
    assert of(store, "SHELL", "as_of::text, t.name, t.sector", "security_metadata") == [
        (THURSDAY, "SHELL Inc", "Energy")
    ]
    assert of(store, "GONE", "count(*)", "security_metadata") == [0]
    assert "company" in findings(store, "SHELL")
    assert {each["ticker"] for each in report(store, FRIDAY)["failures"]} == {"REUSED", "VANISH"}


def test_the_newest_bars_are_provisional_and_final_only_leaves_them_out(store: Workspace) -> None:
    newest = store.query("SELECT DISTINCT date::text FROM ohlcv WHERE provisional")
    assert set(newest) <= {THURSDAY, FRIDAY}
    every, final = (read(store, "REVISED", final_only=only) for only in (False, True))
    assert len(every) == len(final) + 1
    assert every["provisional"].sum() == 1


def test_failures_come_before_findings_and_findings_by_gravity(store: Workspace) -> None:
    text, document = (store.folder / f"{FRIDAY}.txt").read_text(), report(store, FRIDAY)
    assert text.index("failed, ") < text.index("findings")
    gravities = [each["gravity"] for each in document["findings"]]
    assert gravities == sorted(gravities)
    assert sum(kind["count"] for kind in document["findings_by_kind"]) == len(document["findings"])
