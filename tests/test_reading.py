"""What is read is what was stored, adjusted as asked for, as of any day."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from luigi_tasks import YfinanceClient, bars, metadata, prices, universe
from luigi_tasks.database.client import Window
from luigi_tasks.database.engine import engine_for
from luigi_tasks.errors import ConfigurationError, SecurityNotFound
from luigi_tasks.reading import PRICES
from luigi_tasks.schedule import Span
from tests.conftest import make_bars

BEFORE, AFTER = dt.date(2024, 3, 14), dt.date(2024, 3, 15)
SPLIT, DIVIDEND = dt.date(2024, 3, 15), dt.date(2024, 3, 5)


def traded() -> pd.DataFrame:
    """What was paid on the exchange, day by day; on the last day one share has become four."""
    frame = make_bars(days=20, last=str(AFTER), seed=3, start_price=400.0)
    frame.loc[frame["date"] == pd.Timestamp(AFTER), [*PRICES]] /= 4
    frame["volume"] = 1000 * np.arange(1, 21)
    frame.loc[frame["date"] == pd.Timestamp(DIVIDEND), "dividends"] = 2.0
    frame.loc[frame["date"] == pd.Timestamp(SPLIT), "stock_splits"] = 4.0
    return frame


def as_served(last: dt.date) -> pd.DataFrame:
    """The same as the source serves it on that day: adjusted for the splits up to then."""
    frame = traded()
    frame = frame[frame["date"] <= pd.Timestamp(last)].reset_index(drop=True)
    if last >= SPLIT:
        earlier = frame["date"] < pd.Timestamp(SPLIT)
        frame.loc[earlier, [*PRICES, "dividends"]] /= 4
        frame.loc[earlier, "volume"] *= 4
    else:
        frame["stock_splits"] = 0.0
    frame["adj_close"] = frame["close"] * np.where(frame["date"] < pd.Timestamp(DIVIDEND), 0.99, 1.0)
    return bars.conform(frame)


@pytest.fixture
def url(database_url: str) -> Iterator[str]:
    client = YfinanceClient(database_url)
    for name in ("AAA", "BBB"):
        client.insert_security(name, ["letters"], as_of=BEFORE)
    client.insert_ohlcv("BBB", make_bars(days=20, last=str(AFTER), seed=8))
    for day in (BEFORE, AFTER):
        frame = as_served(day)
        client.insert_ohlcv("AAA", frame, window=Window(Span(frame["date"].min().date(), day, whole=True), day))
    yield database_url
    engine_for(database_url).dispose()


def of(frame: pd.DataFrame, name: str) -> list[float]:
    return list(frame[name])


def test_adjusted_for_splits_is_what_is_stored(url: str) -> None:
    found, served = prices("AAA", adjusted="splits", database_url=url), as_served(AFTER)

    for name in (*PRICES, "volume", "dividends", "stock_splits"):
        assert of(found, name) == of(served, name), name
    assert of(found, "date") == of(served, "date")


def test_adjusted_for_dividends_too_the_close_is_the_adjusted_close(url: str) -> None:
    found, served = prices("AAA", database_url=url), as_served(AFTER)

    assert of(found, "close") == pytest.approx(of(served, "adj_close"), rel=1e-15)
    factor = served["adj_close"] / served["close"]
    assert of(found, "high") == pytest.approx(list(served["high"] * factor), rel=1e-15)
    assert of(found, "volume") == of(served, "volume")


def test_raw_is_what_was_traded(url: str) -> None:
    found = prices("AAA", adjusted=False, database_url=url)

    for name in (*PRICES, "volume", "dividends", "stock_splits"):
        assert of(found, name) == of(traded(), name), name


def test_a_split_after_the_last_day_asked_for_is_undone_too(url: str) -> None:
    found = prices("AAA", "2024-03-11", "2024-03-13", adjusted=False, database_url=url)

    assert of(found, "close") == of(traded().iloc[-5:-2], "close")


def test_as_of_a_day_is_what_was_known_on_it(url: str) -> None:
    found, served = prices("AAA", adjusted="splits", as_of=BEFORE, database_url=url), as_served(BEFORE)

    assert of(found, "close") == of(served, "close")
    assert len(prices("AAA", as_of="2024-03-13", database_url=url)) == 0
    # The split was not known: nothing is to be undone.
    raw = prices("AAA", adjusted=False, as_of=BEFORE, database_url=url)
    assert of(raw, "close") == of(traded().iloc[:-1], "close")


def test_long_has_the_documented_columns_and_types_even_where_it_is_empty(url: str) -> None:
    columns = ["ticker", "date", "open", "high", "low", "close", "volume", "dividends", "stock_splits"]
    for frame in (prices(database_url=url), prices(start="2030-01-01", database_url=url)):
        assert list(frame.columns) == columns
        assert frame["ticker"].dtype == "category"
        assert frame["date"].dtype == "datetime64[s]"
        assert set(frame.dtypes.iloc[2:].map(str)) == {"float64"}
    assert prices(database_url=url)["ticker"].tolist() == ["AAA"] * 20 + ["BBB"] * 20


def test_wide_has_a_column_for_every_ticker_asked_for(url: str) -> None:
    YfinanceClient(url).insert_security("NONE", ["letters"])

    found = prices(["BBB", "NONE", "AAA"], wide="close", adjusted="splits", database_url=url)

    assert list(found.columns) == ["BBB", "NONE", "AAA"]
    assert found["NONE"].isna().all()
    assert list(found["AAA"]) == of(as_served(AFTER), "close")
    assert isinstance(found.index, pd.DatetimeIndex)


def test_a_ticker_that_is_not_there_is_an_error_that_names_it(url: str) -> None:
    for read in (prices, metadata):
        with pytest.raises(SecurityNotFound, match="NOSUCH, N'; DROP: are not registered"):
            read(["AAA", "NOSUCH", "N'; DROP"], database_url=url)


def test_where_no_adjusted_close_is_known_none_is_made_up(url: str) -> None:
    client = YfinanceClient(url)
    client.insert_security("RAW", [])
    client.insert_ohlcv("RAW", make_bars(days=30, seed=5).assign(adj_close=np.nan))

    with pytest.raises(ConfigurationError, match="says no adjusted closes"):
        prices("RAW", database_url=url)
    both = prices(["AAA", "RAW"], database_url=url)
    assert both.loc[both["ticker"] == "RAW", "close"].isna().all()
    assert both.loc[both["ticker"] == "AAA", "close"].notna().all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"wide": "colse"}, "is no field"),
        ({"adjusted": "dividends"}, "is not known"),
        ({"start": "yesterday"}, "is not a day"),
    ],
)
def test_an_argument_that_means_nothing_is_an_error(url: str, arguments: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        prices("AAA", database_url=url, **arguments)  # type: ignore[arg-type]


def test_company_data_is_the_latest_as_of_the_day(url: str) -> None:
    client = YfinanceClient(url)
    for day, sector in ((BEFORE, "Toys"), (AFTER, "Games")):
        client.insert_metadata("AAA", {"sector": sector, "marketCap": 12}, as_of=day)

    assert metadata(database_url=url)[["ticker", "sector", "market_cap"]].values.tolist() == [["AAA", "Games", 12.0]]
    assert metadata("AAA", as_of=BEFORE, database_url=url)["sector"].tolist() == ["Toys"]
    assert metadata("BBB", database_url=url).empty


def test_the_universe_can_be_asked_for_as_it_was(url: str) -> None:
    with engine_for(url).begin() as connection:
        ended = "UPDATE security_groupings SET valid_to = '2024-03-15' FROM securities AS s WHERE s.ticker = 'BBB' "
        connection.execute(sa.text(ended + "AND security_groupings.security_id = s.security_id"))

    assert universe("letters", on=BEFORE, database_url=url)["ticker"].tolist() == ["AAA", "BBB"]
    assert universe(["letters"], on=AFTER, database_url=url)["ticker"].tolist() == ["AAA"]
    every = universe(database_url=url)
    assert every["valid_to"].isna().tolist() == [True, False]
    assert universe("nosuch", database_url=url).empty


def test_the_view_and_the_function_give_the_same_numbers(url: str) -> None:
    with engine_for(url).connect() as connection:
        query = sa.text("SELECT * FROM prices_adjusted ORDER BY ticker, date")
        view = pd.DataFrame(connection.execute(query).all())

    found = prices(database_url=url)
    assert list(view.columns) == list(found.columns)
    for name in (*PRICES, "volume", "dividends", "stock_splits"):
        assert of(view, name) == of(found, name), name


def test_coverage_says_what_there_is_of_each_security(url: str) -> None:
    with engine_for(url).begin() as connection:
        connection.execute(
            sa.text("INSERT INTO missing_sessions (security_id, date, noticed) SELECT security_id, :day, :day "
                    "FROM securities WHERE ticker = 'AAA'"),
            {"day": AFTER},
        )  # fmt: skip
        query = "SELECT ticker, bars, missing_sessions, quarantined_bars, last_session, bars_as_of FROM coverage"
        rows = [tuple(row) for row in connection.execute(sa.text(f"{query} ORDER BY 1"))]

    assert rows == [("AAA", 20, 1, 0, AFTER, AFTER), ("BBB", 20, 0, 0, AFTER, None)]


def test_the_latest_company_data_is_one_row_a_security(url: str) -> None:
    client = YfinanceClient(url)
    for day, sector in ((AFTER, "Games"), (BEFORE, "Toys")):
        client.insert_metadata("AAA", {"sector": sector}, as_of=day)
    with engine_for(url).connect() as connection:
        rows = connection.execute(sa.text("SELECT ticker, as_of, sector FROM latest_metadata")).all()

    assert [tuple(row) for row in rows] == [("AAA", AFTER, "Games")]


def test_importing_the_package_loads_nothing_that_only_reading_needs() -> None:
    program = "import sys, luigi_tasks; print([name for name in ('pandas', 'pyarrow', 'numpy') if name in sys.modules])"

    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"
