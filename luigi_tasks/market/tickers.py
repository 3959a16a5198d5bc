"""What a ticker may look like. Tickers are hostile text until they have passed here."""

from __future__ import annotations

import re

LONGEST = 32
"""Characters. The longest symbols that Yahoo lists are option contracts, of 21."""

_WELL_FORMED = re.compile(r"[A-Z0-9^][A-Z0-9.\-=^&_]*\Z")


def normalise(text: str) -> str:
    """The ticker as Yahoo writes it: no space around it, upper case.

    Only ASCII letters change case: "ß".upper() is "SS", which is some other company's ticker.
    """
    stripped = text.strip()
    return stripped.upper() if stripped.isascii() else stripped


def problem_with(ticker: str) -> str | None:
    """Why this is no ticker, in words for the report; None when it is well-formed.

    Well-formed is: 1 to 32 of A-Z 0-9 . - = ^ & _, beginning with a letter, a digit or ^, no two dots in a row and
    none at the end. It covers what Yahoo lists: BRK-B, ^GSPC, EURUSD=X, 0700.HK, M&M.NS, DX-Y.NYB.
    """
    if not ticker:
        return "is empty"
    if len(ticker) > LONGEST:
        return f"has {len(ticker)} characters, more than {LONGEST}"
    if not ticker.isascii():
        return "has characters outside ASCII"
    if not _WELL_FORMED.match(ticker):
        return "has characters that no ticker has"
    if ".." in ticker or ticker.endswith("."):
        return "has a dot with nothing after it"
    return None
