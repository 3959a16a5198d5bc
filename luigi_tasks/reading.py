"""Reading what is stored, as pandas frames: `from luigi_tasks import prices, metadata, universe`.

All three read the database that a run fills: that of DATABASE_URL, or the embedded one (`./run.sh up` starts it).
What an adjusted price is, and what "as of" means, is explained in docs/reading.md.
"""

from __future__ import annotations

import datetime as dt
import tempfile
from collections.abc import Iterable
from typing import IO, Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import sqlalchemy as sa

from luigi_tasks import settings
from luigi_tasks.database import embedded
from luigi_tasks.database.engine import engine_for, transaction
from luigi_tasks.errors import ConfigurationError, SecurityNotFound

Adjusted: TypeAlias = bool | Literal["splits"]
Day: TypeAlias = str | dt.date | pd.Timestamp | None

PRICES = ("open", "high", "low", "close")
FIELDS = (*PRICES, "volume", "dividends", "stock_splits")

_MEMORY = 64 * 2**20
_SHOWN = 20

# As in the view prices_adjusted.
_ADJUSTED = ", ".join(f"bar.{name} * (bar.adj_close / bar.close) AS {name}" for name in PRICES)
_TYPES = {"ticker": pa.dictionary(pa.int32(), pa.string()), "date": pa.date32()} | dict.fromkeys(FIELDS, pa.float64())


def prices(
    tickers: str | Iterable[str] | None = None,
    start: Day = None,
    end: Day = None,
    *,
    adjusted: Adjusted = True,
    as_of: Day = None,
    wide: str | None = None,
    database_url: str | None = None,
) -> pd.DataFrame:
    """Daily bars of these tickers (None: all) from `start` to `end`, both included (None: no bound).

    `adjusted`: True: for splits and dividends, the four prices times adj_close / close. "splits": for splits alone, as
    Yahoo serves them and as they are stored. False: neither, as they were traded; prices and dividends are multiplied,
    volumes divided by the splits that came after the day. Volumes and dividends of the first two are per today's share.

    `as_of`: the bars as the table had them after the run of that date; None: as they are now.

    Returns, sorted by ticker and date, the columns ticker (category), date (datetime64[s], the session's calendar day
    where the security is traded), open, high, low, close (float64, in the security's currency), volume (float64,
    shares), dividends (float64, per share, on the ex-date), stock_splits (float64, new shares per old one, 0: none).
    With `wide`, one of the fields: a frame of dates × tickers, NaN where there is no bar, with a column for every
    ticker that was asked for.

    Raises:
        SecurityNotFound: a ticker that was asked for is not registered.
        ConfigurationError: an argument means nothing; or the source says no adjusted closes, and these are asked for.
        DatabaseUnavailable, DatabaseRefused: as they say.
    """
    if wide is not None and wide not in FIELDS:
        raise ConfigurationError(f"prices(wide={wide!r})", "is no field", f"It is one of {', '.join(FIELDS)}.")
    if adjusted not in (True, False, "splits"):
        raise ConfigurationError(f"prices(adjusted={adjusted!r})", "is not known", "It is True, False or 'splits'.")
    reader = _Reader(database_url, as_of)
    with transaction(reader.engine, "prices") as connection:
        # Bars and splits of one moment: a run may be storing meanwhile.
        connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        asked = _known(connection, tickers)
        frame = reader.bars(connection, asked, _day(start, "start"), _day(end, "end"), adjusted)
        if adjusted is False:
            _undo_splits(frame, reader.splits(connection, asked))
    if adjusted is True and len(frame) and frame["close"].isna().all():
        raise ConfigurationError(
            "prices(adjusted=True)",
            "the source of these bars says no adjusted closes, so what dividends did to them is not known",
            "Ask with adjusted='splits'.",
        )
    if wide is None:
        return frame
    table = frame.pivot(index="date", columns="ticker", values=wide)
    table.columns = pd.Index(table.columns.astype(str), name="ticker")
    return table if asked is None else table.reindex(columns=pd.Index(asked, name="ticker"))


def metadata(
    tickers: str | Iterable[str] | None = None, *, as_of: Day = None, database_url: str | None = None
) -> pd.DataFrame:
    """The latest company data of each ticker (None: all), or the latest as of that date; none: no row.

    Columns: ticker, as_of (datetime64[s]), name, quote_type, exchange, currency, country, sector, industry (text),
    market_cap (float64, in currency), shares_outstanding (float64). Sorted by ticker. Raises like `prices`.
    """
    query = """
        SELECT DISTINCT ON (ticker) ticker, m.as_of, m.name, m.quote_type, m.exchange, m.currency, m.country, m.sector,
            m.industry, m.market_cap::double precision, m.shares_outstanding::double precision
        FROM security_metadata AS m JOIN securities USING (security_id)
        WHERE (:all OR ticker = ANY(:tickers)) AND (CAST(:as_of AS date) IS NULL OR m.as_of <= :as_of)
        ORDER BY ticker, m.as_of DESC
    """
    with transaction(engine_for(_url(database_url)), "company data") as connection:
        asked = _known(connection, tickers)
        values = {"all": asked is None, "tickers": asked or [], "as_of": _day(as_of, "as_of")}
        return _frame(connection.execute(sa.text(query).bindparams(_TICKERS), values), dates=["as_of"])


def universe(
    groupings: str | Iterable[str] | None = None, *, on: Day = None, database_url: str | None = None
) -> pd.DataFrame:
    """Which tickers the groupings (None: all) have, or had on that day: without survivorship bias.

    Columns: grouping, ticker (text), valid_from, valid_to (datetime64[s]; from the first day on, up to the second one,
    which is not in it; NaT: still). Without `on`, every membership there has been. Sorted by grouping and ticker.
    """
    query = """
        SELECT "grouping", ticker, valid_from, valid_to FROM security_listings
        WHERE (:all OR "grouping" = ANY(:names))
          AND (CAST(:day AS date) IS NULL OR (valid_from <= :day AND (valid_to IS NULL OR valid_to > :day)))
        ORDER BY 1, 2, 3
    """
    names = None if groupings is None else [groupings] if isinstance(groupings, str) else list(groupings)
    values = {"all": names is None, "names": names or [], "day": _day(on, "on")}
    with transaction(engine_for(_url(database_url)), "the universe") as connection:
        statement = sa.text(query).bindparams(sa.bindparam("names", type_=sa.ARRAY(sa.Text)))
        return _frame(connection.execute(statement, values), dates=["valid_from", "valid_to"])


def all_tickers(database_url: str | None = None) -> list[str]:
    """Those of which there are bars, in alphabetical order."""
    query = """
        SELECT ticker FROM securities
        WHERE EXISTS (SELECT FROM ohlcv WHERE ohlcv.security_id = securities.security_id) ORDER BY ticker
    """
    with transaction(engine_for(_url(database_url)), "the tickers") as connection:
        return list(connection.scalars(sa.text(query)))


_TICKERS: sa.BindParameter[Any] = sa.bindparam("tickers", type_=sa.ARRAY(sa.Text))


class _Reader:
    """Bars of one database, as they are or as of a date."""

    def __init__(self, database_url: str | None, as_of: Day) -> None:
        self.engine = engine_for(_url(database_url))
        day = _day(as_of, "as_of")
        self._table = "ohlcv" if day is None else f"ohlcv_as_of('{day}')"

    def bars(
        self,
        connection: sa.Connection,
        tickers: list[str] | None,
        start: dt.date | None,
        end: dt.date | None,
        adjusted: Adjusted,
    ) -> pd.DataFrame:
        """In the shape of `prices`, but for splits that are to be undone."""
        of_price = _ADJUSTED if adjusted is True else ", ".join(f"bar.{name}" for name in PRICES)
        bounds = [f"bar.date {sign} '{day}'" for sign, day in ((">=", start), ("<=", end)) if day is not None]
        query = (
            f"SELECT ticker, bar.date, {of_price}, bar.volume, bar.dividends, bar.stock_splits "
            f"FROM {self._table} AS bar JOIN securities USING (security_id) "
            f"WHERE {' AND '.join([_among(tickers), *bounds])} ORDER BY ticker, bar.date"
        )
        return _copied(connection, query, {name: _TYPES[name] for name in ("ticker", "date", *FIELDS)})

    def splits(self, connection: sa.Connection, tickers: list[str] | None) -> pd.DataFrame:
        """ticker, date, stock_splits of the splits there have been, whenever."""
        query = (
            f"SELECT ticker, bar.date, bar.stock_splits FROM {self._table} AS bar JOIN securities USING (security_id) "
            f"WHERE {_among(tickers)} AND bar.stock_splits > 0 ORDER BY ticker, bar.date"
        )
        return _copied(connection, query, {name: _TYPES[name] for name in ("ticker", "date", "stock_splits")})


def _undo_splits(frame: pd.DataFrame, splits: pd.DataFrame) -> None:
    """Make the frame's bars those that were traded: a split changes what came before its day."""
    factor = np.ones(len(frame))
    names = frame["ticker"].astype(str).to_numpy()
    days = frame["date"].to_numpy()
    for ticker, of_it in splits.groupby("ticker", observed=True):
        first, last = np.searchsorted(names, ticker), np.searchsorted(names, ticker, side="right")
        # Of the splits after each day, the product.
        products = np.append(np.cumprod(of_it["stock_splits"].to_numpy()[::-1])[::-1], 1.0)
        factor[first:last] = products[np.searchsorted(of_it["date"].to_numpy(), days[first:last], side="right")]
    for name in (*PRICES, "dividends"):
        frame[name] *= factor
    frame["volume"] /= factor


def _copied(connection: sa.Connection, query: str, types: dict[str, Any]) -> pd.DataFrame:
    """The query's rows by COPY and Arrow: no Python object for any of millions of values."""
    cursor: Any = connection.connection.cursor()
    with tempfile.SpooledTemporaryFile(max_size=_MEMORY) as buffer, cursor:
        cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT csv)", buffer)
        if not buffer.tell():
            return pa.schema(list(types.items())).empty_table().to_pandas().astype({"date": "datetime64[s]"})
        buffer.seek(0)
        table = _parsed(buffer, types)
    days = table.column("date").cast(pa.timestamp("s"))
    return table.set_column(table.column_names.index("date"), "date", days).to_pandas()


def _parsed(buffer: IO[bytes], types: dict[str, Any]) -> pa.Table:
    return pa.csv.read_csv(
        buffer,
        read_options=pa.csv.ReadOptions(column_names=list(types)),
        convert_options=pa.csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=False),
    )


def _frame(rows: sa.CursorResult[Any], dates: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows.all(), columns=list(rows.keys()))
    return frame.astype(dict.fromkeys(dates, "datetime64[s]"))


def _known(connection: sa.Connection, tickers: str | Iterable[str] | None) -> list[str] | None:
    """The tickers that are asked for, each once, None for all. Raises SecurityNotFound, naming those that are not."""
    if tickers is None:
        return None
    asked = list(dict.fromkeys([tickers] if isinstance(tickers, str) else tickers))
    query = sa.text("SELECT ticker FROM securities WHERE ticker = ANY(:tickers)").bindparams(_TICKERS)
    known = set(connection.scalars(query, {"tickers": asked}))
    unknown = [ticker for ticker in asked if ticker not in known]
    if unknown:
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        verb = "is" if len(unknown) == 1 else "are"
        remedy = "universe() lists those that are."
        raise SecurityNotFound(", ".join(map(str, unknown[:_SHOWN])) + more, f"{verb} not registered", remedy)
    return asked


def _among(tickers: list[str] | None) -> str:
    # Known ones, which have no character that means anything to SQL; as one array, since they may be thousands.
    return "true" if tickers is None else f"ticker = ANY('{{{','.join(tickers)}}}')"


def _day(day: Day, name: str) -> dt.date | None:
    if day is None:
        return None
    try:
        read: dt.date = pd.Timestamp(day).date()
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{name}={day!r}", "is not a day", "It looks like 2024-06-28.") from error
    return read


def _url(database_url: str | None) -> str:
    return database_url or embedded.url(settings.load())
