"""Documents as no provider should send them: a good one, of which something is exchanged, taken away or done twice."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


_VERBATIM = "written as it stands: "
"""What comes after this in a string is written without its quotes, for numbers that `json` would not write."""


VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    -0.01,
    1e-320,
    1e300,
    2**31,
    2**63,
    -(2**63) - 1,
    10**400,
    _VERBATIM + "NaN",
    _VERBATIM + "Infinity",
    _VERBATIM + "-Infinity",
    _VERBATIM + "1e999",
    -2_208_988_800,
    253_402_300_800,
    1_710_460_800_000,
    "",
    "12.5",
    "NaN",
    "Infinity",
    "0x1F",
    "2024-03-15",
    "</script><script>alert(1)</script>",
    "'; DROP TABLE ohlcv; --",
    "../../../../etc/passwd",
    "\x00",
    "\ud800",
    "é" * 5000,
    "Mars/Olympus",
    "GBp",
    [],
    {},
    [None],
    [[1, 2], [3]],
    {"raw": 1.5, "fmt": "1.50"},
    {"": {"": None}},
    _nested(300),
)


def paths(document: Any, at: Path = ()) -> Iterator[Path]:
    """Where in a JSON document there is something."""
    yield at
    children = document.items() if isinstance(document, dict) else enumerate(document) if _is_list(document) else ()
    for key, child in children:
        yield from paths(child, (*at, key))


def spoiled(document: Any, draw: random.Random) -> Any:
    """A copy with one thing changed at a place drawn at random, near the top as often as in a long list."""
    document = copy.deepcopy(document)
    by_depth: dict[int, list[Path]] = {}
    for path in paths(document):
        by_depth.setdefault(len(path), []).append(path)
    path = draw.choice(by_depth[draw.choice(sorted(by_depth))])
    if not path:
        return draw.choice((document, [document], {"finance": document}, draw.choice(VALUES)))
    parent = document
    for key in path[:-1]:
        parent = parent[key]
    _spoil(parent, path[-1], draw)
    return document


def _spoil(parent: Any, key: Any, draw: random.Random) -> None:
    change = draw.choice(("value", "value", "gone", "twice", "inside"))
    child = parent[key]
    if change == "gone":
        del parent[key]
    elif change == "twice" and _is_list(parent):
        parent.insert(draw.randrange(len(parent) + 1), child)
    elif change == "inside" and _is_list(child) and child:
        _rearrange(child, draw)
    elif change == "inside" and isinstance(child, (int, float)) and abs(child) < 1e300:
        parent[key] = child * draw.choice((-1, 0, 0.01, 100, 1e9, 1e30))
    else:
        parent[key] = draw.choice(VALUES)


def _rearrange(items: list[Any], draw: random.Random) -> None:
    change = draw.choice(("reverse", "shuffle", "repeat", "cut", "all", "some"))
    if change == "reverse":
        items.reverse()
    elif change == "shuffle":
        draw.shuffle(items)
    elif change == "repeat":
        items.extend(items[: draw.randint(1, len(items))])
    elif change == "cut":
        del items[draw.randrange(len(items)) :]
    else:
        value = draw.choice(VALUES)
        items[:] = [value if change == "all" or draw.random() < 0.3 else item for item in items]


def spoiled_rows(rows: list[list[str]], draw: random.Random) -> list[list[str]]:
    """A copy of a table, its names first, with a few things changed."""
    rows = [list(row) for row in rows]
    for _ in range(draw.choice((1, 1, 2, 5))):
        change = draw.choice(("cell", "cell", "cell", "name", "column", "row", "order"))
        row, column = draw.randrange(len(rows)), draw.randrange(len(rows[0]))
        value = str(draw.choice(VALUES)).removeprefix(_VERBATIM)
        if change == "cell":
            rows[row][column : column + 1] = [value]
        elif change == "name":
            rows[0][column] = draw.choice((value, rows[0][draw.randrange(len(rows[0]))], rows[0][column].upper()))
        elif change == "column":
            for each in rows:
                each[column : column + 1] = draw.choice(([], [value], [value] * 2))
        elif change == "row":
            rows[row : row + 1] = draw.choice(([], [rows[row]] * 2, [rows[row][:column]], [rows[row] + [value]]))
        else:
            draw.shuffle(rows)
        if not rows or not rows[0]:
            break
    return rows


def as_bytes(document: Any, draw: random.Random) -> bytes:
    """The document as JSON, now and then damaged on its way."""
    body = _json(document).encode("utf-8", "surrogatepass")
    damage = draw.choice(("", "", "", "deep", "duplicate"))
    if damage == "deep" and draw.random() < 0.2:
        return b"[" * 100_000 + body + b"]" * 100_000
    if damage == "duplicate":
        # Of a key that is there twice, JSON's readers take the last.
        return b'{"chart": null, "quoteSummary": null, ' + body[1:]
    return damaged(body, draw)


def damaged(body: bytes, draw: random.Random) -> bytes:
    """The text as it was, or as bytes that have suffered on their way."""
    damage = draw.choice(("", "", "", "", "cut", "flip", "encoding", "around"))
    if damage == "cut":
        return body[: draw.randrange(len(body) + 1)]
    if damage == "flip" and body:
        place = draw.randrange(len(body))
        return body[:place] + bytes([draw.randrange(256)]) + body[place + 1 :]
    if damage == "encoding":
        return draw.choice((b"\xef\xbb\xbf" + body, body.decode("utf-8", "replace").encode("utf-16")))
    if damage == "around":
        return draw.choice((b"<html>" + body, body + body, b")]}',\n" + body, b" " * 2**20 + body, body + b"\x00"))
    return body


def _json(document: Any) -> str:
    return re.sub(f'"{_VERBATIM}([^"]*)"', r"\1", json.dumps(document))


def numbers(document: Any) -> set[float]:
    """All numbers in a JSON document, those that are written as text included."""
    found: set[float] = set()
    for path in paths(document):
        value = document
        for key in path:
            value = value[key]
        try:
            found.add(float(value))
        except (TypeError, ValueError, OverflowError):
            continue
    return found


def _is_list(value: Any) -> bool:
    return isinstance(value, list)
