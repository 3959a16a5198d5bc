"""Market data from files: a vendor's dump, an archive, or the recorded prices of the demo.

Two arrangements: a folder with one file a ticker (AAPL.csv, aapl.us.txt, 0700.HK.parquet), or one long table with
a ticker column. The layout is told by the header alone, whatever the order of its columns:

| layout | columns |
|---|---|
| Yahoo | Date, Open, High, Low, Close, Adj Close, Volume [, Dividends, Stock Splits, Capital Gains, Ticker, Symbol] |
| Stooq | <TICKER>, <PER>, <DATE>, <TIME>, <OPEN>, <HIGH>, <LOW>, <CLOSE>, <VOL>, <OPENINT>; or Yahoo's first six |
| Kaggle | date, open, high, low, close, volume, Name; or date, symbol, open, close, low, high, volume |

A file does not say in what currency a dividend is: it is taken for that of the prices.

A long table is rewritten once as parquet sorted by ticker, since reading it whole for every ticker would cost the
square of its size.
"""

from __future__ import annotations

import csv
import datetime as dt
import hashlib
import importlib.util
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from luigi_tasks import bars
from luigi_tasks.errors import InvalidData, NoSuchTicker, SourceUnreachable
from luigi_tasks.tickers import did_you_mean, hyphenated, normalise

_ALIASES = {
    "date": ("date", "<date>", "timestamp"),
    "ticker": ("ticker", "symbol", "name", "<ticker>"),
    "open": ("open", "<open>"),
    "high": ("high", "<high>"),
    "low": ("low", "<low>"),
    "close": ("close", "<close>"),
    "adj_close": ("adj close", "adj_close", "adjclose", "adjusted close"),
    "volume": ("volume", "<vol>", "vol"),
    "dividends": ("dividends", "dividend"),
    "stock_splits": ("stock splits", "stock_splits", "splits"),
    "capital_gains": ("capital gains", "capital_gains", "capitalgains"),
}
_OPTIONAL = ("adj_close", "dividends", "stock_splits")
_REQUIRED = ("date", "open", "high", "low", "close", "volume")
_SUFFIXES = (".csv", ".txt", ".parquet")
LACKS = "lacks"
"""Key in a frame's `attrs` for the names of the columns that the file does not have: what stands there says nothing."""
# Stooq's suffixes of listings whose Yahoo symbol has none.
_HOME_SUFFIXES = (".US",)
_ROWS_A_GROUP = 20_000


class FileSource:
    """A MarketDataSource over files; volumes are multiplied by `volume_unit` (vendors count in lots of 100, too)."""

    def __init__(
        self, path: Path | str, *, scratch: Path, metadata_path: Path | str = "", volume_unit: float = 1.0
    ) -> None:
        """`scratch` is a folder for the sorted copy of a long table."""
        self.path = resolve(path)
        self._metadata_path = resolve(metadata_path) if metadata_path else None
        self._scratch = scratch
        self._volume_unit = volume_unit

    def check(self) -> None:
        """See MarketDataSource. Rewrites a long table, if it changed, so that the downloads find it done."""
        if self.path.is_dir():
            if not _files_by_ticker(self.path, self.path.stat().st_mtime_ns):
                raise SourceUnreachable(str(self.path), f"holds no {', '.join(_SUFFIXES)} file")
        elif self.path.is_file():
            self._sorted_table()
        else:
            raise SourceUnreachable(
                f"market data at {str(self.path)!r}", "there is no such file or folder", "See [Market] path."
            )
        if self._metadata_path is not None and not self._metadata_path.is_file():
            raise SourceUnreachable(str(self._metadata_path), "is not a file", "See [Market] metadata_path.")

    def bars(self, ticker: str, start: dt.date, end: dt.date, zone: str | None = None) -> pd.DataFrame | None:
        """See MarketDataSource. A price column that the files do not have is NaN, an action column 0."""
        if self.path.is_dir():
            files = _files_by_ticker(self.path, self.path.stat().st_mtime_ns)
            file = files.get(ticker)
            if file is None:
                raise NoSuchTicker(ticker, f"there is no file for it in {self.path}", did_you_mean(ticker, files))
            table = _named(str(file), _read(file))
        else:
            rows = pq.read_table(self._sorted_table(), filters=[("ticker", "=", ticker)], use_threads=False)
            table = rows.to_pandas()
            if table.empty:
                known = self.tickers() if hyphenated(ticker) else ()
                reason = f"there are no rows for it in {self.path.name}"
                raise NoSuchTicker(ticker, reason, did_you_mean(ticker, known))
        found = self._bars_from(ticker, table)
        found.attrs[LACKS] = [name for name in _OPTIONAL if name not in table]
        day = found["date"].dt.date
        found = found[(day >= start) & (day <= end)].reset_index(drop=True)
        return found if len(found) else None

    def tickers(self) -> list[str]:
        """All that there are bars of, in alphabetical order."""
        if self.path.is_dir():
            return sorted(_files_by_ticker(self.path, self.path.stat().st_mtime_ns))
        named = pq.read_table(self._sorted_table(), columns=["ticker"], use_threads=False)
        return sorted(named["ticker"].unique().to_pylist())

    def metadata(self, ticker: str) -> dict[str, Any]:
        """See MarketDataSource. The row of the metadata file; just the symbol where there is no file, or no row."""
        known = _metadata_rows(self._metadata_path).get(ticker, {}) if self._metadata_path else {}
        return {"symbol": ticker, **known}

    def quotes(self, tickers: Sequence[str]) -> dict[str, dict[str, Any]]:
        """See MarketDataSource. Files have none."""
        return {}

    def _bars_from(self, ticker: str, table: pd.DataFrame) -> pd.DataFrame:
        frame = table.copy()
        for name in bars.AMOUNTS:
            if name not in frame:
                frame[name] = 0.0
            # An empty field says that there was none.
            frame[name] = frame[name].fillna(0.0)
        if "adj_close" not in frame:
            frame["adj_close"] = float("nan")
        try:
            frame["date"] = _days(frame["date"])
            # Whole shares: vendors that adjust volumes for splits leave fractions.
            frame["volume"] = (pd.to_numeric(frame["volume"]) * self._volume_unit).round()
            return bars.conform(frame)
        except (ValueError, TypeError) as error:
            raise InvalidData(
                ticker, f"{self.path.name} has a value that is no number or date ({error})", "Mend the file."
            ) from error

    def _sorted_table(self) -> Path:
        """Path of the long table as parquet sorted by ticker; made anew when the file's size or time changed."""
        about = self.path.stat()
        digest = hashlib.sha256(f"{self.path}|{about.st_size}|{about.st_mtime_ns}".encode()).hexdigest()[:16]
        copy = self._scratch / f"bars-{digest}.parquet"
        if not copy.exists():
            frame = _named(str(self.path), _read(self.path), wanted=(*_REQUIRED, "ticker"))
            frame = frame[frame["ticker"].notna()]
            frame["ticker"] = frame["ticker"].astype(str).map(_spelled)
            frame = frame.sort_values(["ticker", "date"], kind="stable")
            self._scratch.mkdir(parents=True, exist_ok=True)
            part = copy.with_suffix(f".{os.getpid()}.part")
            pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), part, row_group_size=_ROWS_A_GROUP)
            part.replace(copy)
        return copy


def resolve(path: Path | str) -> Path:
    """An absolute path; `package:NAME/FILE` means a file that an installed Python package carries."""
    text = str(path)
    if not text:
        raise SourceUnreachable("the source 'files'", "has no path", "Set [Market] path.")
    if text.startswith("package:"):
        package, _, inside = text.removeprefix("package:").partition("/")
        # Found, not imported: nothing of the package needs to run.
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise SourceUnreachable(text, f"the package {package} is not installed")
        return Path(spec.origin).parent / inside
    return Path(text).expanduser().absolute()


@lru_cache(maxsize=4)
def _files_by_ticker(folder: Path, changed: int) -> dict[str, Path]:
    """The files of a folder, listed anew only once it has `changed`: it may hold thousands."""
    return {_ticker_of(file): file for file in sorted(folder.iterdir()) if file.suffix.lower() in _SUFFIXES}


def _ticker_of(file: Path) -> str:
    return _spelled(file.name[: -len(file.suffix)])


def _spelled(text: str) -> str:
    """The ticker as Yahoo writes it, from a vendor's file name or column."""
    ticker = normalise(text)
    for suffix in _HOME_SUFFIXES:
        ticker = ticker.removesuffix(suffix)
    return ticker


def _read(file: Path) -> pd.DataFrame:
    try:
        if file.suffix.lower() == ".parquet":
            table = pd.read_parquet(file)
            return table.reset_index() if table.index.name else table
        header = pd.read_csv(file, nrows=0)
        tickers = [name for name in header.columns if str(name).strip().lower() in _ALIASES["ticker"]]
        # "NA" and "NAN" are tickers, and so is 0700; a value that is missing is empty, or null in Yahoo's own exports.
        return pd.read_csv(file, keep_default_na=False, na_values=["", "null"], dtype=dict.fromkeys(tickers, str))
    except (OSError, ValueError, pa.ArrowInvalid) as error:
        raise SourceUnreachable(str(file), f"cannot be read ({' '.join(str(error).split())[:200]})") from error


def _named(subject: str, table: pd.DataFrame, wanted: tuple[str, ...] = _REQUIRED) -> pd.DataFrame:
    """The table with the names of this project, other columns left out."""
    columns = {str(name).strip().lower(): name for name in table.columns}
    chosen = {}
    for ours, theirs in _ALIASES.items():
        name = next((columns[alias] for alias in theirs if alias in columns), None)
        if name is not None:
            chosen[name] = ours
    missing = [name for name in wanted if name not in chosen.values()]
    if missing:
        raise SourceUnreachable(
            subject,
            f"has no column for {', '.join(missing)} (it has {', '.join(map(str, table.columns))[:200]})",
            "Known are Yahoo's, Stooq's and Kaggle's layouts.",
        )
    return table[list(chosen)].rename(columns=chosen)


def _days(column: pd.Series[Any]) -> pd.Series[Any]:
    """Session days from ISO dates, dates with a time and zone (the written day counts), or numbers like 20100820."""
    if pd.api.types.is_datetime64_any_dtype(column):
        naive = column.dt.tz_localize(None) if column.dt.tz is not None else column
        return naive.dt.normalize()
    text = column.astype(str).str.strip().str[:10]
    plain = bool(text.str.fullmatch(r"\d{8}").all())
    return pd.to_datetime(text, format="%Y%m%d" if plain else "%Y-%m-%d")


def _metadata_rows(path: Path) -> dict[str, dict[str, Any]]:
    """{ticker: fields} from a CSV with a ticker or symbol column, or XML with one element a ticker."""
    try:
        if path.suffix.lower() == ".xml":
            rows = [dict(element.attrib) for element in ElementTree.parse(path).getroot()]
        else:
            with path.open(newline="", encoding="utf-8-sig") as lines:
                rows = [dict(row) for row in csv.DictReader(lines)]
    except (OSError, ElementTree.ParseError, csv.Error, UnicodeDecodeError) as error:
        raise SourceUnreachable(str(path), f"cannot be read ({error})") from error
    found = {}
    for row in rows:
        fields = {str(name).strip(): value for name, value in row.items() if value not in (None, "")}
        ticker = next((fields[name] for name in fields if name.lower() in ("ticker", "symbol")), None)
        if ticker:
            found[normalise(str(ticker))] = fields
    return found
