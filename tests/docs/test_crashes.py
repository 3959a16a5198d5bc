"""The page on crash testing tells of every fault that there is, in its own words."""

from __future__ import annotations

from crashes.faults import ALL
from tests.workspace import REPOSITORY


def test_every_fault_is_on_the_page_and_has_struck() -> None:
    rows = [line.strip("| ").split(" | ") for line in (REPOSITORY / "docs/crashes.md").read_text().splitlines()]
    told = {row[0].strip("`"): row[1:] for row in rows if row[0].startswith("`") and len(row) == 3}

    assert {name: words for name, (words, _) in told.items()} == {
        name: " ".join((fault.__doc__ or "").split()) for name, fault in ALL.items()
    }
    assert all(int(strikes) > 0 for _, strikes in told.values())
