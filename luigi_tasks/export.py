"""The stored data as files for DuckDB, polars and the like, in a folder that is there whole or not at all.

FOLDER/prices/year=2024/prices.parquet   the year's bars, by ticker and date
FOLDER/actions.parquet                   dividends, splits and capital gains of the same days
FOLDER/metadata.parquet                  the newest company data, one row a ticker
FOLDER/universe.parquet                  who was in which grouping, from when until when
FOLDER/export.json                       what was asked for, and what it is

Columns are those of `luigi_tasks.reading`. Parquet holds dates as dates, and the tickers of some row groups apart from
those of others, so that a reader skips what it was not asked for.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import glob
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from luigi_tasks.database.reading import snapshot
from luigi_tasks.errors import ConfigurationError, StoreUnwritable
from luigi_tasks.reading import Request, company_frame, universe_frame
from luigi_tasks.targets.files import HOST, sync

Format = Literal["parquet", "csv"]

_ABOUT = "export.json"


def export(folder: Path, request: Request, database_url: str, form: Format = "parquet") -> dict[str, Any]:
    """Write what is asked for, of one moment, into the folder; an export that is there is replaced once this is whole.

    Returns what is written to export.json: {written_at, as_of, start, end, adjusted, repaired, final_only, format,
    tickers, bars, first_session, last_session, contradicted, actions, memberships}; contradicted is {ticker: how many
    of its values have a repair}, whether that was asked for or not. Some tickers at a time are in memory.

    Raises:
        ConfigurationError: the folder holds something that is no export.
        StoreUnwritable: it cannot be written.
        SecurityNotFound, AdjustmentUnknown, DatabaseUnavailable, DatabaseRefused: see `luigi_tasks.reading.prices`.
    """
    folder = folder.absolute()
    if folder.exists() and not (folder / _ABOUT).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigurationError(str(folder), "holds something that is no export", "Name another folder.")
    with _written_whole(folder) as new, snapshot(database_url, request.as_of) as stored:
        found = request.securities(stored)
        about = {
            "written_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            **{name: str(day) if (day := getattr(request, name)) else None for name in ("as_of", "start", "end")},
            **{name: getattr(request, name) for name in ("adjusted", "repaired", "final_only")},
            "format": form,
            "tickers": len(found),
            **_write_prices(new / "prices", request.frames(stored, found), form),
            "contradicted": request.contradicted(stored, found),
        }
        with _Writer(new / f"actions.{form}") as happened:
            acted = request.actions(stored, found)
            happened.write(_as_arrow(acted))
        about["actions"] = len(acted)
        with _Writer(new / f"metadata.{form}") as company:
            company.write(_as_arrow(company_frame(stored, found)))
        listed = universe_frame(stored.every_membership())
        listed = listed[listed["ticker"].isin(list(found)) | listed["successor"].isin(list(found))]
        with _Writer(new / f"universe.{form}") as universe:
            universe.write(_as_arrow(listed))
        about["memberships"] = len(listed)
        (new / _ABOUT).write_text(json.dumps(about, indent=2) + "\n")
    return about


class _Writer:
    """A parquet or CSV file that is written table by table."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: Any = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._open is not None:
            self._open.close()

    def write(self, table: pa.Table) -> None:
        """Append the rows; the first table's columns are the file's."""
        if self._open is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.suffix == ".parquet":
                self._open = pq.ParquetWriter(self._path, table.schema, compression="zstd")
            else:
                self._open = pa.csv.CSVWriter(self._path, table.schema)
        self._open.write_table(table)


def _write_prices(folder: Path, frames: Iterator[pd.DataFrame], form: Format) -> dict[str, Any]:
    """Every frame's years into the files of these years, a row group a frame."""
    bars, first, last = 0, None, None
    with contextlib.ExitStack() as opened:
        files: dict[int, _Writer] = {}
        for frame in frames:
            table, years = _as_arrow(frame), frame["date"].dt.year.to_numpy()
            for year in np.unique(years).tolist():
                if year not in files:
                    files[year] = opened.enter_context(_Writer(folder / f"year={year}" / f"prices.{form}"))
                files[year].write(table.filter(pa.array(years == year)))
            if len(frame):
                bars += len(frame)
                days = (frame["date"].min().date(), frame["date"].max().date())
                first, last = min(first or days[0], days[0]), max(last or days[1], days[1])
    return {"bars": bars, "first_session": first and str(first), "last_session": last and str(last)}


def _as_arrow(frame: pd.DataFrame) -> pa.Table:
    """Days as dates, text as text, NaN as null."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    kinds = {pa.timestamp("s"): pa.date32(), pa.large_string(): pa.string()}
    schema = pa.schema([field.with_type(kinds.get(field.type, field.type)) for field in table.schema])
    return table.cast(schema)


@contextlib.contextmanager
def _written_whole(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes the place of `folder` after the block, or goes if that fails."""
    new, old = (folder.with_name(f".{folder.name}.{what}.{HOST}.{os.getpid()}") for what in ("new", "old"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        new.mkdir()
        try:
            yield new
            for path in new.rglob("*"):
                sync(path)
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
            sync(folder.parent)
        finally:
            for rest in (new, old):
                _clear(rest, folder)
    except OSError as error:
        raise StoreUnwritable(
            str(folder), f"cannot be written ({error.strerror or error})", "Check disk space and permissions."
        ) from error


def _sweep(folder: Path) -> None:
    """Clear away what exports of this machine left behind that were killed."""
    for what in ("new", "old"):
        for rest in folder.parent.glob(f".{glob.escape(folder.name)}.{what}.{HOST}.*"):
            process = rest.name.rpartition(".")[2]
            if process.isdecimal() and not psutil.pid_exists(int(process)):
                _clear(rest, folder)


def _clear(rest: Path, folder: Path) -> None:
    """Remove it; an export that was put aside, and that none has replaced, goes back to its place."""
    if ".old." in rest.name and rest.exists() and not folder.exists():
        rest.rename(folder)
    elif rest.exists():
        shutil.rmtree(rest)
