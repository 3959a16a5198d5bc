"""From `config/universe.yaml` to the tickers of a run, and which of them are fit to be asked for."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import reprlib
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from luigi_tasks import tickers
from luigi_tasks.errors import ConfigurationError

_KINDS = ("tickers", "csv", "index")
_LARGEST_FILE = 50 * 10**6

_REPR = reprlib.Repr()
_REPR.maxlevel = 2


@dataclass(frozen=True)
class Grouping:
    """One named set of tickers, and the one place where its tickers stand."""

    name: str
    kind: str
    value: Any
    column: str = ""


@dataclass(frozen=True)
class UniverseFile:
    """The configuration file, read and checked; no ticker has been looked up yet."""

    path: Path
    groupings: dict[str, Grouping]
    default: tuple[str, ...]
    renamed: dict[str, str] = field(default_factory=dict)
    """{old ticker: what it is called now}."""

    @classmethod
    def read(cls, path: Path) -> UniverseFile:
        """Raises ConfigurationError, naming the file and the entry, for anything that cannot be used."""
        try:
            _require_small(path)
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(str(path), f"cannot be read ({error.strerror})") from error
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigurationError(str(path), f"is not YAML ({' '.join(str(error).split())})") from error
        entries = content.get("groupings") if isinstance(content, dict) else None
        if not isinstance(entries, dict) or not entries:
            raise ConfigurationError(str(path), "has no groupings", "See config/universe.yaml in the repository.")
        for name in entries:
            if not isinstance(name, str):
                raise ConfigurationError(
                    str(path), f"YAML reads a grouping's name as {_short(name)}", "Put it in quotes."
                )
        groupings = {name: _grouping(path, name, entry) for name, entry in entries.items()}
        listed = content.get("default")
        if not isinstance(listed, list | None):
            raise ConfigurationError(str(path), "default must be a list", "Like this: default: [sp500].")
        for name in listed or ():
            if not isinstance(name, str):
                raise ConfigurationError(
                    str(path), f"default: YAML reads a name as {_short(name)}", "Put it in quotes."
                )
        default = tuple(listed or groupings)
        universe = cls(path, groupings, default, _renamed(path, content.get("renamed")))
        universe.require(default)
        return universe

    def require(self, names: Iterable[str]) -> None:
        """Raises ConfigurationError for the first name that is not a grouping here."""
        for name in names:
            if name not in self.groupings:
                known = ", ".join(sorted(self.groupings))
                raise ConfigurationError(f"grouping {name!r}", f"is not in {self.path.name}", f"It has: {known}.")

    def csv_path(self, grouping: Grouping) -> Path:
        return self.path.parent / str(grouping.value)

    def resolve(self, names: Iterable[str]) -> dict[str, list[str]]:
        """{text as listed: groupings that list it}, in the order listed; a grouping that lists it twice, twice."""
        found: dict[str, list[str]] = {}
        for name in names:
            for text in self._members(self.groupings[name]):
                found.setdefault(text, []).append(name)
        return found

    def _members(self, grouping: Grouping) -> list[str]:
        if grouping.kind == "tickers":
            return [str(item) for item in grouping.value]
        if grouping.kind == "csv":
            return _csv_members(self.csv_path(grouping), grouping)
        return _index_members(grouping)

    def digest(self, *more: object) -> str:
        """12 hex digits that change whenever the file, a CSV it names, the index lists or `more` do."""
        content = hashlib.sha256(json.dumps([str(item) for item in more]).encode())
        files = [self.path, *(self.csv_path(g) for g in self.groupings.values() if g.kind == "csv")]
        for path in files:
            content.update(path.read_bytes() if path.is_file() else b"")
        if any(g.kind == "index" for g in self.groupings.values()):
            from importlib.metadata import version

            content.update(version("pytickersymbols").encode())
        return content.hexdigest()[:12]


def _require_small(path: Path) -> None:
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        # A device may have no end, and a pipe no beginning.
        raise ConfigurationError(str(path), "is not a file")
    if about.st_size > _LARGEST_FILE:
        reason = f"has more than {_LARGEST_FILE // 10**6} MB, which no list of tickers has"
        raise ConfigurationError(str(path), reason)


def _short(value: Any) -> str:
    """The value as people may see it: by aliases, a few lines of YAML stand for more than there is memory."""
    return _REPR.repr(value)[:100]


def _renamed(path: Path, entries: Any) -> dict[str, str]:
    """{old: new}, with chains followed to their end."""
    subject = f"{path.name}, renamed"
    if not isinstance(entries, dict | None):
        raise ConfigurationError(subject, "must name tickers", "Like this: renamed: {FB: META}.")
    names: dict[str, str] = {}
    for entry in (entries or {}).items():
        for text in entry:
            spelled = tickers.normalise(text) if isinstance(text, str) else None
            problem = "YAML reads it as something else" if spelled is None else tickers.problem_with(spelled)
            if problem:
                raise ConfigurationError(subject, f"{_short(text)}: {problem}", "Put tickers in quotes: 'ON'.")
        old, new = map(tickers.normalise, entry)
        if names.setdefault(old, new) != new:
            raise ConfigurationError(subject, f"{old} has two new names: {names[old]} and {new}", "Keep one.")
    for old in names:
        seen = [old]
        while seen[-1] in names:
            seen.append(names[seen[-1]])
            if seen[-1] in seen[:-1]:
                raise ConfigurationError(subject, f"goes round in a circle: {' → '.join(seen)}")
    return {old: _last(old, names) for old in names}


def _last(name: str, names: dict[str, str]) -> str:
    while name in names:
        name = names[name]
    return name


def _grouping(path: Path, name: str, entry: Any) -> Grouping:
    kinds = [kind for kind in _KINDS if isinstance(entry, dict) and kind in entry]
    if len(kinds) != 1:
        raise ConfigurationError(f"{path.name}, grouping {name!r}", f"must have exactly one of {', '.join(_KINDS)}")
    kind = kinds[0]
    value = entry[kind]
    if not name or name != name.strip() or "," in name or name.startswith("("):
        raise ConfigurationError(f"{path.name}, grouping {name!r}", "has a comma, a space around it, or no name at all")
    if not isinstance(value, list if kind == "tickers" else str):
        wanted = "a list" if kind == "tickers" else "text"
        raise ConfigurationError(f"{path.name}, grouping {name!r}", f"{kind} must be {wanted}")
    for item in value if kind == "tickers" else ():
        if not isinstance(item, str):
            raise ConfigurationError(
                f"{path.name}, grouping {name!r}",
                f"YAML reads a ticker as {_short(item)}",
                "Put it in quotes: 'ON', '0700'.",
            )
    return Grouping(name, kind, value, str(entry.get("column", "")))


def _csv_members(path: Path, grouping: Grouping) -> list[str]:
    subject = f"{path}, of grouping {grouping.name!r}"
    try:
        _require_small(path)
        with path.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(lines)
            names = {name.strip().lower(): name for name in rows.fieldnames or []}
            wanted = [grouping.column.lower()] if grouping.column else ["ticker", "symbol"]
            column = next((names[name] for name in wanted if name in names), None)
            if column is None:
                raise ConfigurationError(
                    subject, f"has no column {' or '.join(wanted)}", "Name the right one with `column:`."
                )
            return [row[column] or "" for row in rows]
    except OSError as error:
        raise ConfigurationError(subject, f"cannot be read ({error.strerror})") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise ConfigurationError(subject, f"is not a CSV file ({error})") from error


def _index_members(grouping: Grouping) -> list[str]:
    from pytickersymbols import PyTickerSymbols

    indices = PyTickerSymbols()
    known = indices.get_all_indices()
    if grouping.value not in known:
        raise ConfigurationError(
            f"index {grouping.value!r} of grouping {grouping.name!r}",
            "is not one that pytickersymbols knows",
            f"It knows: {', '.join(sorted(known))}.",
        )
    return [_yahoo_symbol(stock) for stock in indices.get_stocks_by_index(grouping.value)]


def _yahoo_symbol(stock: dict[str, Any]) -> str:
    """The listing that the index means, in Yahoo's spelling: pytickersymbols lists foreign listings as well.

    Its `symbol` is the home listing, in Yahoo's own spelling but for share classes: BRK.B, which Yahoo writes BRK-B.
    A dot and one letter is a share class only where the listing is in dollars; elsewhere it is an exchange (VOD.L).
    """
    symbol = str(stock.get("symbol") or "")
    currencies = {str(item.get("yahoo")): item.get("currency") for item in stock.get("symbols", [])}
    dashed = symbol.replace(".", "-")
    in_dollars = "USD" in (currencies.get(symbol), currencies.get(dashed))
    if in_dollars and re.fullmatch(r"[A-Z]+\.[A-Z]", symbol):
        return dashed
    # Where a list gives a listing two exchanges (AIR.PA.DE), the first is the home.
    return ".".join(symbol.split(".")[:2])


@dataclass(frozen=True)
class ValidatedTickers:
    """The tickers to run, with their groupings, and every listed text that is not run, with the reason."""

    accepted: dict[str, list[str]]
    rejected: list[dict[str, Any]]


def validate(
    listed: dict[str, list[str]], limit: int = 0, renamed: Mapping[str, str] = MappingProxyType({})
) -> ValidatedTickers:
    """Well-formed and unique tickers, in the order listed; the rest with reasons, nothing dropped silently.

    A ticker that only differs from an earlier one in case or surrounding space is the same ticker: its groupings
    are joined and the second spelling is reported. A `renamed` ticker {old: new} is run as what it is called now.
    `limit` > 0 keeps the first so many.
    """
    accepted: dict[str, list[str]] = {}
    rejected: list[dict[str, Any]] = []
    first_spelling: dict[str, str] = {}
    for text, groupings in listed.items():
        ticker = tickers.normalise(text)
        problem = tickers.problem_with(ticker)
        if problem:
            times = f" ({len(groupings)} times)" if len(groupings) > 1 else ""
            rejected.append({"ticker": text[:100], "groupings": sorted(set(groupings)), "reason": problem + times})
            continue
        if ticker in renamed:
            reason = f"is called {renamed[ticker]} now; that is run"
            rejected.append({"ticker": text, "groupings": sorted(set(groupings)), "reason": reason})
            ticker = renamed[ticker]
        elif ticker in first_spelling:
            reason = f"is {first_spelling[ticker]!r} again; listed once is enough"
            rejected.append({"ticker": text, "groupings": sorted(set(groupings)), "reason": reason})
        first_spelling.setdefault(ticker, text)
        for name in sorted({name for name in groupings if groupings.count(name) > 1}):
            reason = f"is listed {groupings.count(name)} times in {name}; once is enough"
            rejected.append({"ticker": text, "groupings": [name], "reason": reason})
        merged = accepted.setdefault(ticker, [])
        merged.extend(name for name in dict.fromkeys(groupings) if name not in merged)
    if limit > 0:
        accepted = dict(list(accepted.items())[:limit])
    return ValidatedTickers(accepted, rejected)
