"""What a ticker may look like, and the one rule of how it is spelled, wherever somebody names one.

Tickers are hostile text until they have passed here.
"""

from __future__ import annotations

import re
from collections.abc import Container

from luigi_tasks.errors import ConfigurationError

NOTHING = "()"
"""How a list of names that is empty is written; no ticker and no grouping can be called so."""

LONGEST = 32
"""Characters. The longest symbols that Yahoo lists are option contracts, of 21."""

_DOTTED_LETTER = re.compile(r"([A-Z]+)\.([A-Z])\Z")
# Yahoo's suffixes of one letter: Frankfurt, London, Tokyo, TSX Venture.
_EXCHANGES = frozenset("FLTV")
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


def checked(text: str, subject: str = "ticker") -> str:
    """The ticker as Yahoo writes it. Raises ConfigurationError, with the subject in front, for what can be none."""
    ticker = normalise(text)
    if problem := problem_with(ticker):
        raise ConfigurationError(f"{subject} {ticker[:100]!r}", problem)
    return ticker


def separated(text: str) -> tuple[str, ...]:
    """The names in text such as "AAPL, MSFT": blanks around a name do not count, nor do names that are empty.

    Raises:
        ConfigurationError: there is none, which must not mean all.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ConfigurationError(repr(text[:100]), "names nothing", "Name at least one, or leave the option out.")
    return names


def hyphenated(ticker: str) -> str:
    """The ticker with a hyphen before its last letter where it has a dot: BRK-B for BRK.B; "" for any other ticker.

    Exchanges write a share class with a dot, Yahoo with a hyphen. Yahoo's dot is that of an exchange, as in VOD.L, so
    this is what somebody may have meant, and never what to take in its place.
    """
    found = _DOTTED_LETTER.match(ticker)
    return f"{found[1]}-{found[2]}" if found else ""


def did_you_mean(ticker: str, known: Container[str] | None = None) -> str:
    """The question whether somebody meant BRK-B by BRK.B, if that is among the tickers `known`; "" if there is none.

    None: nobody knows which there are. Then it is not asked where the letter is that of an exchange.
    """
    meant = hyphenated(ticker)
    likely = meant[-1:] not in _EXCHANGES if known is None else meant in known
    return f"Did you mean {meant}? Yahoo writes a share class with a hyphen." if meant and likely else ""
