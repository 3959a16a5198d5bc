"""Every path in the store, as pure functions; the one place that turns a ticker into a file name.

STORE/raw_bars/as_of=2026-11-23/years_back=10/AAPL.parquet        as downloaded: all, or the last sessions
STORE/raw_bars/as_of=2026-11-23/years_back=10/full/AAPL.parquet   the same for a run with --full
STORE/valid_bars/…/AAPL.parquet                                   what may be stored
STORE/verdicts/…/AAPL.json                                        what Great Expectations said
STORE/quarantine/…/AAPL.parquet                                   the bars that broke a rule, and which
STORE/company/as_of=2026-11-23/AAPL.json                          company data as downloaded
STORE/universe/as_of=2026-11-23/{listed,validated}-DIGEST.json    the tickers of a run
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
_INNER = _PLAIN | {"."}
_LONGEST_NAME = 200
# Names that Windows gives to devices, whatever their extension.
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(10))}


def file_name(ticker: str) -> str:
    """A file name for any text whatever: no two texts share one, on any file system, and none leaves its folder.

    A-Z, 0-9, - and _ stand for themselves, and so does a dot inside; any other byte of the UTF-8 text is %XX. Lower
    case is written so, too, since some file systems do not tell it from upper case.

    Raises:
        ValueError: the text is empty, or its name would be longer than file systems take.
    """
    last = len(ticker) - 1
    encoded = "".join(
        character if character in (_INNER if 0 < place < last else _PLAIN) else _escaped(character)
        for place, character in enumerate(ticker)
    )
    if ticker.partition(".")[0] in _DEVICES:
        encoded = _escaped(ticker[0]) + encoded[1:]
    if not 0 < len(encoded) <= _LONGEST_NAME:
        raise ValueError(f"no file can be named for a ticker of {len(ticker)} characters")
    return encoded


def _escaped(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def bars(store: Path, kind: str, as_of: dt.date, years_back: int, ticker: str, *, full: bool = False) -> Path:
    """`kind` is raw_bars, valid_bars or quarantine."""
    return store / kind / _question(as_of, years_back, full) / f"{file_name(ticker)}.parquet"


def verdict(store: Path, as_of: dt.date, years_back: int, ticker: str, *, full: bool = False) -> Path:
    return store / "verdicts" / _question(as_of, years_back, full) / f"{file_name(ticker)}.json"


def _question(as_of: dt.date, years_back: int, full: bool) -> Path:
    return Path(f"as_of={as_of}", f"years_back={years_back}", *["full"] * full)


def company(store: Path, as_of: dt.date, ticker: str) -> Path:
    return store / "company" / f"as_of={as_of}" / f"{file_name(ticker)}.json"


def quote(store: Path, as_of: dt.date, ticker: str) -> Path:
    return store / "quotes" / f"as_of={as_of}" / f"{file_name(ticker)}.json"


def quotes(store: Path, as_of: dt.date, digest: str) -> Path:
    """What came of the question for the quotes of some tickers; in lower case, as no ticker's file is."""
    return store / "quotes" / f"as_of={as_of}" / f"asked-{digest}.json"


def universe(store: Path, stage: str, as_of: dt.date, digest: str) -> Path:
    """`stage` is listed or validated."""
    return store / "universe" / f"as_of={as_of}" / f"{stage}-{digest}.json"


def of_ticker(store: Path, ticker: str, as_of: dt.date | None = None) -> Iterator[Path]:
    """All files of the ticker that are there, of that as-of date (None: whatever their date)."""
    name, folder = file_name(ticker), "" if as_of is None else f"as_of={as_of}"
    for kind in ("raw_bars", "valid_bars", "quarantine", "verdicts", "quotes", "company"):
        for suffix in ("parquet", "json"):
            yield from (store / kind / folder).rglob(f"{name}.{suffix}")
