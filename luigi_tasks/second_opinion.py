"""What is stored, held against the files of a vendor: which tickers disagree, where, and in which way.

What a disagreement is, stands in `luigi_tasks.comparison`; here is who is compared with whom, and what could not be.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from luigi_tasks import comparison
from luigi_tasks.comparison import KINDS, Comparison, Tolerance, Way
from luigi_tasks.database.reading import Snapshot, snapshot
from luigi_tasks.errors import InvalidData, NoSuchTicker, SourceUnreachable
from luigi_tasks.market.files import LACKS, FileSource
from luigi_tasks.reading import FIELDS, Day, Request
from luigi_tasks.tickers import hyphenated

SAMPLE = 40
"""So many tickers tell how the files' prices are adjusted."""
_BATCH = 100
_CONTEXT = dt.timedelta(days=45)
"""Days before those that are asked for, which tell whether a run of days begins there."""
# What others call them: BRK.B, VOD.UK and 7203.JP are Yahoo's BRK-B, VOD.L and 7203.T.
_SUFFIXES = {".UK": ".L", ".JP": ".T"}


@dataclass(frozen=True)
class Question:
    """Who is compared, over which days, and how; tickers and groupings None: all that both sides have.

    `adjusted` None: as the files turn out to be.
    """

    tickers: Sequence[str] | None = None
    groupings: Sequence[str] | None = None
    start: Day | None = None
    end: Day | None = None
    as_of: Day | None = None
    adjusted: Way | None = None
    tolerance: Tolerance = field(default_factory=Tolerance)


def ask(source: FileSource, database_url: str, question: Question) -> dict[str, Any]:
    """Hold what is stored against the files; some tickers at a time are in memory.

    Returns a dict that JSON can hold:

    | key | value |
    |---|---|
    | path, adjusted, adjusted_found_out, tolerance, volume_tolerance, start, end, as_of | what was compared, and how |
    | bars, first, last | common sessions of all tickers |
    | kinds | {kind: {tickers, bars}}, of those that occur |
    | compared | [{ticker, in_files, first, last, bars, unknown, kinds, disagreements}] |
    | only_stored, only_in_files, neither | tickers that were not compared, since one side has none of their bars |
    | meant | {ticker asked for that is not stored: how Yahoo writes it, BRK-B for BRK.B, where that is stored} |
    | no_common_session | {ticker: the days of both sides} |
    | not_read | {ticker: why its file could not be used} |
    | complete | whether all that tickers or groupings name was compared, and every file could be read |

    Raises:
        SourceUnreachable: the files as a whole cannot be used.
        ConfigurationError, DatabaseUnavailable, DatabaseRefused: see `luigi_tasks.reading.prices`.
    """
    asked = Request(question.start, question.end, "splits", question.as_of, question.tickers, question.groupings)
    source.check()
    with snapshot(database_url, asked.as_of) as stored:
        return _Opinion(source, stored, asked, question).document()


class _Opinion:
    def __init__(self, source: FileSource, stored: Snapshot, asked: Request, question: Question) -> None:
        self._source, self._stored, self._asked, self._question = source, stored, asked, question
        self._in_files = source.tickers()
        every = stored.registered({*self._in_files, *map(_as_yahoo, self._in_files)})
        self._file_of = {_as_yahoo(name): name for name in self._in_files if _as_yahoo(name) in every}
        self._file_of |= {name: name for name in self._in_files}
        self._every = {name: every[name] for name in sorted(every) if name in self._file_of}
        if asked.tickers is not None:
            self._stored_of = stored.registered(asked.tickers)
        elif asked.groupings is not None:
            self._stored_of = stored.securities(None, asked.groupings)
        else:
            self._stored_of = self._every | stored.securities(None, None)
        self._compared: list[dict[str, Any]] = []
        self._only_in_files: set[str] = set()
        self._no_common: dict[str, str] = {}
        self._not_read: dict[str, str] = {}

    def document(self) -> dict[str, Any]:
        asked, question = self._asked, self._question
        both = {name: number for name, number in sorted(self._stored_of.items()) if name in self._file_of}
        way = question.adjusted or self._way(list(both))
        for name, ours in self._bars(both, asked.start and asked.start - _CONTEXT):
            self._compare(name, ours, way)
        kinds = {}
        for kind in KINDS:
            counts = [each["kinds"][kind] for each in self._compared if kind in each["kinds"]]
            if counts:
                kinds[kind] = {"tickers": len(counts), "bars": sum(counts)}
        asked_for = set(asked.tickers or (asked.groupings and self._stored_of) or ())
        # A security that was compared under the name that it had is not one that the files lack.
        numbers = set() if asked_for else {both[each["ticker"]] for each in self._compared}
        lacking = [n for n, number in self._stored_of.items() if n not in self._file_of and number not in numbers]
        files = {self._file_of[name] for name in both}
        others = asked_for & set(self._file_of) if asked_for else set(self._in_files)
        only_in_files = sorted(self._only_in_files | {n for n in others if n not in both and n not in files})
        neither = sorted(asked_for - set(self._stored_of) - set(self._file_of))
        incomplete = self._not_read or (asked_for and (lacking or only_in_files or neither or self._no_common))
        return {
            "path": str(self._source.path),
            "adjusted": way,
            "adjusted_found_out": question.adjusted is None,
            "tolerance": question.tolerance.prices,
            "volume_tolerance": question.tolerance.volume,
            **{name: str(day) if (day := getattr(asked, name)) else None for name in ("start", "end", "as_of")},
            "bars": sum(each["bars"] for each in self._compared),
            "first": min((each["first"] for each in self._compared), default=None),
            "last": max((each["last"] for each in self._compared), default=None),
            "kinds": kinds,
            "compared": self._compared,
            "only_stored": sorted(lacking),
            "only_in_files": only_in_files,
            "neither": neither,
            "meant": self._meant(),
            "no_common_session": self._no_common,
            "not_read": self._not_read,
            "complete": not incomplete,
        }

    def _meant(self) -> dict[str, str]:
        meant = {name: hyphenated(name) for name in self._asked.tickers or () if name not in self._stored_of}
        stored = self._stored.registered(list(filter(None, meant.values())))
        return {name: other for name, other in meant.items() if other in stored}

    def _way(self, chosen: list[str]) -> Way:
        """How the files' prices are adjusted, by some of the tickers; by others, too, where few are asked for."""
        others = [name for name in self._every if name not in set(chosen)]
        sample = _spread(chosen, SAMPLE)
        sample += _spread(others, SAMPLE - len(sample))
        shown = []
        for name, ours in self._bars({name: {**self._every, **self._stored_of}[name] for name in sorted(sample)}, None):
            theirs = self._read(name)
            if isinstance(theirs, pd.DataFrame) and len(ours):
                shown.append(comparison.ways_shown(ours, theirs, self._question.tolerance, theirs.attrs[LACKS]))
        return comparison.convention(shown)

    def _bars(self, found: dict[str, int], start: dt.date | None) -> Iterator[tuple[str, pd.DataFrame]]:
        """The stored bars of each, adjusted for splits, with what `comparison.compare` wants beside them."""
        names = list(found)
        as_of = self._asked.as_of
        adjusted, traded = (Request(start, None, way, as_of) for way in ("splits", False))
        for first in range(0, len(names), _BATCH):
            some = {name: found[name] for name in names[first : first + _BATCH]}
            for frame, raw in zip(
                adjusted.frames(self._stored, some, (*FIELDS, "adj_close")),
                traded.frames(self._stored, some, ("close",)),
                strict=True,
            ):
                frame["traded"] = raw["close"] / frame["close"]
                places = frame.groupby("ticker", sort=False).indices
                for name in some:
                    at = places.get(name, [])
                    yield name, frame.iloc[at[0] : at[-1] + 1] if len(at) else frame.iloc[:0]

    def _read(self, ticker: str) -> pd.DataFrame | str | None:
        """The file's bars; why there are none; None: it has no rows."""
        try:
            found = self._source.bars(self._file_of[ticker], dt.date.min, dt.date.max)
        except (SourceUnreachable, InvalidData, NoSuchTicker) as error:
            return f"{error.subject}: {error.reason}"
        if found is None:
            return None
        repeated = found["date"].duplicated()
        if repeated.any():
            day = found.loc[repeated, "date"].iloc[0].date()
            return f"{self._file_of[ticker]}: has several rows of one day, such as {day}"
        return found

    def _compare(self, ticker: str, ours: pd.DataFrame, way: Way) -> None:
        theirs = self._read(ticker)
        if isinstance(theirs, str):
            self._not_read[ticker] = theirs
        elif theirs is None or theirs["close"].isna().all():
            self._not_read[ticker] = f"{self._file_of[ticker]}: has no bars"
        elif not len(ours) and self._asked.start is None:
            self._only_in_files.add(ticker)
        elif not len(ours):
            self._no_common[ticker] = f"stored none since {self._asked.start}, in the files {_days(theirs)}"
        elif way == "dividends" and ours["adj_close"].isna().all():
            self._no_common[ticker] = "the store does not say by how much dividends move its prices"
        else:
            asked = self._asked
            lacks = theirs.attrs[LACKS]
            found = comparison.compare(ours, theirs, way, self._question.tolerance, lacks, asked.start, asked.end)
            if found is None:
                self._no_common[ticker] = f"stored {_days(ours)}, in the files {_days(theirs)}"
            else:
                self._compared.append(self._told(ticker, found))

    def _told(self, ticker: str, found: Comparison) -> dict[str, Any]:
        kinds: dict[str, int] = {}
        for each in found.disagreements:
            kinds[each.kind] = kinds.get(each.kind, 0) + each.bars
        return {
            "ticker": ticker,
            "in_files": self._file_of[ticker],
            "first": str(found.first),
            "last": str(found.last),
            "bars": found.bars,
            "unknown": found.unknown,
            "kinds": kinds,
            "disagreements": [_plain(asdict(each)) for each in found.disagreements],
        }


def _as_yahoo(ticker: str) -> str:
    for theirs, ours in _SUFFIXES.items():
        if ticker.endswith(theirs):
            return ticker.removesuffix(theirs) + ours
    stem, dot, share_class = ticker.rpartition(".")
    return f"{stem}-{share_class}" if dot and share_class in ("A", "B", "C") else ticker


def _spread(names: list[str], most: int) -> list[str]:
    """At most so many of them, from all over the alphabet."""
    if most <= 0:
        return []
    step = max(1, -(-len(names) // most))
    return names[::step]


def _days(frame: pd.DataFrame) -> str:
    return f"{frame['date'].iloc[0].date()} to {frame['date'].iloc[-1].date()}"


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """As JSON has it: days as text, no NaN."""
    out: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dt.date):
            value = str(value)
        elif isinstance(value, tuple):
            value = list(value)
        elif isinstance(value, float) and value != value:
            value = None
        out[name] = value
    return out
