"""What is stored as files: parquet or CSV in a layout that DuckDB, polars, pandas and Spark read as they are.

    FOLDER/prices/00000.parquet, 00001.parquet, ...   the columns of `luigi_tasks.reading.prices`, by ticker and date
    FOLDER/metadata.parquet                           the columns of `luigi_tasks.reading.metadata`
    FOLDER/universe.parquet                           the columns of `luigi_tasks.reading.universe`
    FOLDER/export.json                                what was asked for, and how much there is

A ticker is in one file of prices, whole, and as of one moment; a run that goes on meanwhile may be seen with some
tickers and not yet with others. Files appear all at once, when all of them are written: an earlier export in
the same folder stays until then.
"""

from __future__ import annotations

import datetime as dt
import json
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from luigi_tasks import reading
from luigi_tasks.errors import ConfigurationError, StoreUnwritable
from luigi_tasks.reading import Adjusted, Day

Format: TypeAlias = Literal["parquet", "csv"]

_TICKERS = 200
"""In one file of prices, so that memory does not grow with the universe."""
_MANIFEST = "export.json"


def export(
    folder: Path,
    tickers: Iterable[str] | None = None,
    start: Day = None,
    end: Day = None,
    *,
    adjusted: Adjusted = True,
    as_of: Day = None,
    form: Format = "parquet",
    database_url: str | None = None,
) -> dict[str, Any]:
    """Write what `prices` would return, company data and memberships to the folder; returns the manifest.

    Raises:
        ConfigurationError: the folder holds something else than an export.
        StoreUnwritable: the folder cannot be written.
        SecurityNotFound and others: as `prices`.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / _MANIFEST).exists():
        raise ConfigurationError(str(folder), "holds something else than an export", "Name a new or empty folder.")
    names = reading.all_tickers(database_url) if tickers is None else list(tickers)
    part = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    manifest: dict[str, Any] = {
        "written_at": f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}",
        "adjusted": adjusted,
        "as_of": None if as_of is None else str(as_of),
        "tickers": len(names),
        "bars": 0,
    }
    try:
        (part / "prices").mkdir(parents=True)
        for number, first in enumerate(range(0, len(names), _TICKERS)):
            some = names[first : first + _TICKERS]
            bars = reading.prices(some, start, end, adjusted=adjusted, as_of=as_of, database_url=database_url)
            _write(bars, part / "prices" / f"{number:05}", form)
            manifest["bars"] += len(bars)
        _write(reading.metadata(names, as_of=as_of, database_url=database_url), part / "metadata", form)
        _write(reading.universe(database_url=database_url), part / "universe", form)
        (part / _MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        _put_in_place(part, folder)
    except OSError as error:
        raise StoreUnwritable(str(folder), f"cannot be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return manifest


def _write(frame: pd.DataFrame, path: Path, form: Format) -> None:
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata()
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(pa.date32()))
        elif pa.types.is_dictionary(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(pa.string()))
    if form == "csv":
        pa.csv.write_csv(table, path.with_suffix(".csv"))
    else:
        pa.parquet.write_table(table, path.with_suffix(".parquet"), compression="zstd")


def _put_in_place(part: Path, folder: Path) -> None:
    old = part.with_name(f"{part.name}-old")
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
