"""Targets that are files. A file under its final name is whole: it is written in `.parts`, synced, and renamed."""

from __future__ import annotations

import datetime as dt
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import luigi
import psutil

from luigi_tasks.errors import StoreUnwritable

# Without its dots, which separate the parts of a part's name.
HOST = socket.gethostname().replace(".", "-")
"""This machine, in the names of files that are being written."""


class FileTarget(luigi.Target):
    """A file that is there whole or not at all, whatever is killed when."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path})"

    def exists(self) -> bool:
        return self.path.is_file()

    def remove(self) -> None:
        """Make it not be there."""
        self.path.unlink(missing_ok=True)

    def _write(self, write: Callable[[Path], object]) -> None:
        parts = self.path.parent / ".parts"
        part = parts / f"{self.path.name}.{HOST}.{os.getpid()}"
        try:
            parts.mkdir(parents=True, exist_ok=True)
            _sweep(parts)
            try:
                write(part)
                sync(part)
                part.replace(self.path)
                sync(self.path.parent)
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise StoreUnwritable(
                str(self.path), f"cannot be written ({error.strerror or error})", "Check disk space and permissions."
            ) from error


class ParquetTarget(FileTarget):
    """Bars in a parquet file; see `luigi_tasks.bars` for the shape. Extra columns are kept."""

    def write(self, frame: Any) -> None:
        """Write a DataFrame. Raises StoreUnwritable."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from luigi_tasks import bars

        table = bars.as_table(frame)
        types = {field.name: field.type for field in bars.ARROW_SCHEMA}
        if "volume" in frame and frame["volume"].dtype.kind == "f":
            # Where a volume is not known, or is no whole number, as downloaded.
            types["volume"] = pa.float64()
        metadata = {name: json.dumps(frame.attrs[name]) for name in bars.ATTRS if name in frame.attrs}
        fields = [field.with_type(types.get(field.name, field.type)) for field in table.schema]
        table = table.cast(pa.schema(fields, metadata=metadata))
        self._write(lambda part: pq.write_table(table, part, compression="zstd"))

    def read(self) -> Any:
        """The frame that was written, rows by date. Raises StoreUnwritable."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from luigi_tasks import bars

        try:
            # Not read_table: its dataset machinery and threads cost more than a file of this size.
            table = pq.ParquetFile(self.path).read(use_threads=False)
            frame = bars.from_arrow(table)
            extra = [name for name in table.column_names if name not in bars.COLUMNS]
            if extra:
                rows = table.to_pandas().sort_values("date", kind="stable").reset_index(drop=True)
                frame = frame.join(rows[extra])
            kept = table.schema.metadata or {}
            frame.attrs = {name: json.loads(kept[name.encode()]) for name in bars.ATTRS if name.encode() in kept}
            return frame
        except (OSError, pa.ArrowInvalid) as error:
            raise StoreUnwritable(str(self.path), f"cannot be read ({error})", "Delete it and run again.") from error

    def rows(self) -> int:
        """How many rows the file has, from its footer alone."""
        import pyarrow.parquet as pq

        return int(pq.read_metadata(self.path).num_rows)


class BarsTarget(ParquetTarget):
    """Downloaded bars, which count as there until a session can be had that was not over when they were asked for."""

    def __init__(self, path: Path, now: dt.datetime) -> None:
        """`now` has a zone."""
        super().__init__(path)
        self._now = now

    def exists(self) -> bool:
        return super().exists() and not self._has_more()

    def _has_more(self) -> bool:
        """From the file's footer alone. A file that cannot be read is there: whoever reads it says what is wrong."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from luigi_tasks import bars

        try:
            kept = (pq.read_schema(self.path).metadata or {}).get(bars.FACTS.encode())
        except (OSError, pa.ArrowInvalid):
            return False
        until = json.loads(kept).get("open_until") if kept else None
        return until is not None and dt.datetime.fromisoformat(until) < self._now


class JsonTarget(FileTarget):
    """One JSON document."""

    def write(self, document: Any) -> None:
        """Write JSON values. Raises StoreUnwritable."""
        # Not indented: that is done in Python, and takes a second of a report on thousands of tickers.
        text = json.dumps(document, allow_nan=False, ensure_ascii=True)
        self._write(lambda part: part.write_text(text, encoding="ascii"))

    def read(self) -> Any:
        """The document. Raises StoreUnwritable."""
        try:
            return json.loads(self.path.read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            raise StoreUnwritable(str(self.path), f"cannot be read ({error})", "Delete it and run again.") from error

    def rows(self) -> int:
        return 1


def _sweep(parts: Path) -> None:
    """Remove what processes of this machine left behind that were killed while they wrote."""
    for part in parts.iterdir():
        # Others leave files here, too: .DS_Store, .nfs0000…
        _, host, process = f"..{part.name}".rsplit(".", 2)
        if host == HOST and process.isdecimal() and not psutil.pid_exists(int(process)):
            part.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until the disk has what was written to the file, or the folder's list of names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
