"""Company data: which columns it has, and when an answer is too poor to follow on the stored one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import sqlalchemy as sa

from luigi_tasks import currencies
from luigi_tasks.database.schema import security_metadata

# Our column: the source's field names, the first one that is there counts (Yahoo's, then those of plain files).
_TEXT_FIELDS = {
    "name": ("longName", "shortName", "name"),
    "quote_type": ("quoteType", "type"),
    "exchange": ("exchange",),
    "currency": ("currency",),
    "country": ("country",),
    "sector": ("sector",),
    "industry": ("industry",),
}
_NUMBER_FIELDS = {
    "market_cap": ("marketCap", "market_cap"),
    "shares_outstanding": ("sharesOutstanding", "shares_outstanding"),
}

COLUMNS = (*_TEXT_FIELDS, *_NUMBER_FIELDS)
"""The columns by which one answer about a company is held against another."""

_NO_QUOTE_TYPE = "NONE"
# Of what the stored row knows: a company may lose market value and shares, two of nine, at once. A module of Yahoo's
# that comes alone lacks more, or nearly all that it has not is among the fields without a column (funds, indices).
_MOST_LACKING = 1 / 3
_MOST_FIELDS_LACKING = 1 / 2

# PostgreSQL's numeric has 131,072 digits before the point; nothing on earth is worth more than this many.
_MOST_DIGITS = 1000


def typed(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The typed columns of company data; None for what the answer does not know."""
    typed: dict[str, Any] = {name: _text(answer, fields) for name, fields in _TEXT_FIELDS.items()}
    typed |= {name: _number(answer, fields) for name, fields in _NUMBER_FIELDS.items()}
    if typed["quote_type"] == _NO_QUOTE_TYPE:
        typed["quote_type"] = None
    worth = typed["market_cap"] is not None
    return typed | {"market_cap_currency": currencies.major(typed["currency"]) if worth else None}


def numbers(quote: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of what moves daily; empty where the quote has none of it, as that of an index."""
    found = typed(quote)
    if found["market_cap"] is None and found["shares_outstanding"] is None:
        return {}
    return {name: found[name] for name in ("market_cap", "market_cap_currency", "shares_outstanding")}


def known(company: Mapping[str, Any]) -> set[str]:
    """Names of the columns that have a value; an earlier version stored the quote type of an empty shell."""
    return {name for name in COLUMNS if company.get(name) not in (None, _NO_QUOTE_TYPE)}


def newest(connection: sa.Connection, security_id: int, day: dt.date) -> Mapping[str, Any]:
    """The newest row up to that day that knows anything; empty if there is none."""
    columns = (security_metadata.c.as_of, security_metadata.c.answer, *(security_metadata.c[name] for name in COLUMNS))
    query = (
        sa.select(*columns)
        .where(security_metadata.c.security_id == security_id, security_metadata.c.as_of <= day)
        .order_by(security_metadata.c.as_of.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().one_or_none()
    return dict(row) if row is not None and known(dict(row)) else {}


def lacking(
    typed: Mapping[str, Any], answer: Mapping[str, Any], stored: Mapping[str, Any], day: dt.date
) -> list[str] | None:
    """The columns that the stored company data knows and the answer does not, if those are too many for it to follow
    on the stored one; None where it may."""
    here, there = known(typed), known(stored)
    lacks = sorted(there - here, key=COLUMNS.index)
    if not lacks:
        return None
    fields = {name for name, value in stored["answer"].items() if value is not None}
    gone = sum(answer.get(name) is None for name in fields)
    part = (
        len(lacks) >= _MOST_LACKING * len(there)
        or gone >= _MOST_FIELDS_LACKING * len(fields)
        or (stored["as_of"] == day and len(here) < len(there))
    )
    return lacks if part else None


def _text(answer: Mapping[str, Any], fields: tuple[str, ...]) -> str | None:
    value = next((answer[name] for name in fields if answer.get(name) not in (None, "")), None)
    return value if isinstance(value, str) else None


def _number(answer: Mapping[str, Any], fields: tuple[str, ...]) -> Decimal | None:
    """A number that cannot be one (negative, a word, not finite) is left to the jsonb column alone."""
    value = next((answer[name] for name in fields if answer.get(name) is not None), None)
    # Text: what CSV and XML files have.
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() and number >= 0 and number.adjusted() < _MOST_DIGITS else None
