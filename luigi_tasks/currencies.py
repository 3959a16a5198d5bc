"""Currencies that prices are quoted in by the hundredth, and their major units.

London quotes in pence, Johannesburg in cents, Tel Aviv in agorot. Yahoo's dividends and market values of such
securities may be in the major unit all the same, so whoever reads an answer has to know the two apart.
"""

from __future__ import annotations

MINOR_UNITS: dict[str, tuple[str, float]] = {
    "GBp": ("GBP", 100.0),
    "GBX": ("GBP", 100.0),
    "ZAc": ("ZAR", 100.0),
    "ILA": ("ILS", 100.0),
    "USX": ("USD", 100.0),
}
"""{code of the minor unit, as Yahoo writes it: (ISO code of the major one, how many of it make one)}."""


def major(currency: str | None) -> str | None:
    """The currency itself, or what it is a part of: GBP for GBp."""
    return MINOR_UNITS[currency][0] if currency in MINOR_UNITS else currency
