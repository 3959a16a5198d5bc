"""Parameters that several task families share."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

import luigi


class CommaSeparated(luigi.Parameter):
    """A tuple of texts, on the command line separated by commas: AAPL,MSFT."""

    def parse(self, x: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in x.split(",") if part.strip())

    def serialize(self, x: Iterable[str]) -> str:
        return ",".join(x)

    def normalize(self, x: Iterable[str]) -> tuple[str, ...]:
        return tuple(x)


def today() -> dt.date:
    """Today in UTC: the same everywhere, so that machines in several time zones mean one as-of date."""
    return dt.datetime.now(dt.UTC).date()


def latest_today() -> dt.date:
    """Today where the day begins first (UTC+14): a later as-of date is in the future everywhere."""
    return (dt.datetime.now(dt.UTC) + dt.timedelta(hours=14)).date()
