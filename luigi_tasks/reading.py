"""The stored data as pandas frames, for notebooks and programs: `from luigi_tasks import prices, metadata`, and so on.

Luigi need not run. What adjusted, raw and as-of mean is explained in docs/reading.md.
"""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import pandas as pd

from luigi_tasks import settings
from luigi_tasks.bars import AMOUNTS, PRICES
from luigi_tasks.database import embedded
from luigi_tasks.database.reading import METADATA, REPAIRABLE, UNKNOWN, Arrays, Snapshot, in_order, keys, snapshot
from luigi_tasks.errors import AdjustmentUnknown, ConfigurationError
from luigi_tasks.tickers import normalise

FIELDS = (*PRICES, "volume", *AMOUNTS)
COLUMNS = (*FIELDS, "provisional")
Field = Literal["open", "high", "low", "close", "volume", "dividends", "stock_splits", "capital_gains"]
Adjusted = Literal["splits"] | bool
Day = dt.date | str
"""A date, a datetime, a pandas Timestamp, or text such as "2024-06-28"."""

_NUMBERS = ("market_cap", "shares_outstanding")
# Tickers that a warning names.
_NAMED = 10
# Securities that are read at a time: half a million bars, if they have ten years.
_BATCH = 200


class ContradictoryData(UserWarning):
    """Some of the values that were read contradict what else the source says, and a repair of them is known."""


def prices(
    tickers: str | Iterable[str] | None = None,
    start: Day | None = None,
    end: Day | None = None,
    *,
    groupings: str | Iterable[str] | None = None,
    adjusted: Adjusted = True,
    as_of: Day | None = None,
    repaired: bool = False,
    final_only: bool = False,
    wide: Field | None = None,
    database_url: str | None = None,
) -> pd.DataFrame:
    """Daily bars of the tickers, or of the members of the groupings, or of all; from `start` to `end`, both included.

    | adjusted | open, high, low, close | volume | dividends, capital gains |
    |---|---|---|---|
    | True | for splits and dividends | for splits | for splits |
    | "splits" | for splits, as stored | for splits | for splits |
    | False | as traded on the day | as traded | as paid |

    Splits and dividends count if they are known as of `as_of`, in or after the days asked for; None: as of now. With
    it, the bars are those that the table had after the run of that date, and groupings have their members of that day.
    A ticker that was renamed has the bars of the ticker that it has now, under the name that it was asked for by; of
    all tickers, it is left out.

    Where the source contradicts itself, and only one value is consistent with all else that it says, `repaired` gives
    that value (table `repairs`), with bars that are in quarantine and can be mended so. Without it, values are as
    served, with the warning `ContradictoryData` where there is a repair of any of them.

    Returns one row a bar, by ticker and date: ticker (str), date (datetime64[s], the session's calendar day where the
    security is traded), open, high, low, close (float64, the security's currency), volume (int64; float64 where some
    of those read are not known), dividends (float64, a share, on the ex-date), stock_splits (float64, new shares per
    old one, 0 where none), capital_gains (float64, a fund's distribution of gains, as dividends), provisional (bool,
    the newest session, which the source may still settle; `final_only` leaves such bars out). With `wide`, one of the
    numeric names, that field alone: a row a date, a column a ticker, in alphabetical order, float64, NaN where there
    is no bar. A ticker without bars in these days has no row, or a column of NaN.

    NaN is what is not known: open, high, low or volume of a provisional or mended bar, and a dividend that is paid in
    another currency than the prices are in (`actions` has it).

    Raises:
        SecurityNotFound: some tickers are not registered; it names all of them.
        AdjustmentUnknown: `adjusted` is True, and the source does not say the adjusted close of some of the bars.
        ConfigurationError: a parameter that cannot be used.
        DatabaseUnavailable, DatabaseRefused: no database, or none with these tables.
    """
    if wide is not None and wide not in FIELDS:
        raise ConfigurationError(f"wide={wide!r}", "is no field of a bar", f"It is one of {', '.join(FIELDS)}.")
    request = Request(start, end, adjusted, as_of, tickers, groupings, repaired=repaired, final_only=final_only)
    fields = COLUMNS if wide is None else (wide,)
    with snapshot(database_url or _configured(), request.as_of) as stored:
        found = request.securities(stored)
        if not repaired and (doubted := request.contradicted(stored, found, fields)):
            words = f"{contradiction(doubted)}; repaired=True gives them mended, and ./run.sh report says why"
            warnings.warn(ContradictoryData(words), stacklevel=2)
        frames = list(request.frames(stored, found, fields))
    every = pd.concat(frames, ignore_index=True)
    if "volume" in every:
        every["volume"] = every["volume"].astype("float64" if every["volume"].hasnans else "int64")
    return every if wide is None else _pivoted(every, list(found), wide)


def metadata(
    tickers: str | Iterable[str] | None = None,
    *,
    groupings: str | Iterable[str] | None = None,
    as_of: Day | None = None,
    database_url: str | None = None,
) -> pd.DataFrame:
    """The newest company data, up to `as_of` if that is given, of the same tickers as `prices` takes.

    Returns one row a ticker, in alphabetical order: ticker, as_of (datetime64[s], of when the data is), name,
    quote_type, exchange, currency, country, sector, industry (str), market_cap (float64), market_cap_currency (str),
    market_cap_as_of (datetime64[s], of when it is), shares_outstanding (float64), shares_as_of (datetime64[s]). The
    market cap is in market_cap_currency, the major unit: GBP where prices are in GBp. Both are the newest that are
    known, by quote or with other company data. What is not known is NaN, or NaT; a ticker of
    which nothing is known has a row, too.

    Raises:
        SecurityNotFound, ConfigurationError, DatabaseUnavailable, DatabaseRefused: see `prices`.
    """
    request = Request(as_of=as_of, tickers=tickers, groupings=groupings)
    with snapshot(database_url or _configured(), request.as_of) as stored:
        return company_frame(stored, request.securities(stored))


def actions(
    tickers: str | Iterable[str] | None = None,
    start: Day | None = None,
    end: Day | None = None,
    *,
    groupings: str | Iterable[str] | None = None,
    as_of: Day | None = None,
    database_url: str | None = None,
) -> pd.DataFrame:
    """Corporate actions of these days, both included, as they were known as of `as_of`, of the same tickers as `prices`
    takes, whether there is a bar of the day or not.

    Returns one row an action, by ticker, date and kind: ticker (str), date (datetime64[s], the ex-date, or the first
    day traded after a split), kind (str: dividend, capital_gain, split), amount (float64; a share, adjusted for splits,
    as served; of a split, new shares per old one), currency (str, of the amount; NaN for a split, and where it is not
    known), has_bar (bool, whether a bar of that day is stored).

    Raises:
        SecurityNotFound, ConfigurationError, DatabaseUnavailable, DatabaseRefused: see `prices`.
    """
    request = Request(start, end, as_of=as_of, tickers=tickers, groupings=groupings)
    with snapshot(database_url or _configured(), request.as_of) as stored:
        return request.actions(stored, request.securities(stored))


def universe(
    on: Day | None = None, groupings: str | Iterable[str] | None = None, *, database_url: str | None = None
) -> pd.DataFrame:
    """Which tickers were listed in which groupings on that day, by the names that they had; None: by the last run.

    Returns one row a membership, by ticker and grouping: ticker, grouping (str), valid_from, valid_to (datetime64[s];
    the as-of dates of the first run that listed it, and of the first that did not any more; NaT: it is listed), and
    successor (str), the ticker under which its bars go on where it was renamed, else NaN.

    Raises:
        ConfigurationError: no run has listed some of the groupings; it names all of them.
        DatabaseUnavailable, DatabaseRefused: see `prices`.
    """
    with snapshot(database_url or _configured(), _day("on", on)) as stored:
        return universe_frame(stored.memberships(_names(groupings)))


class Request:
    """What is asked for, checked; days as dates. See `prices`."""

    def __init__(
        self,
        start: Day | None = None,
        end: Day | None = None,
        adjusted: Adjusted = True,
        as_of: Day | None = None,
        tickers: str | Iterable[str] | None = None,
        groupings: str | Iterable[str] | None = None,
        *,
        repaired: bool = False,
        final_only: bool = False,
    ) -> None:
        if adjusted not in (True, False, "splits"):
            raise ConfigurationError(f"adjusted={adjusted!r}", "is none of True, 'splits' and False")
        if tickers is not None and groupings is not None:
            raise ConfigurationError("tickers and groupings", "are both given", "Give one of them.")
        self.start, self.end, self.as_of = _day("start", start), _day("end", end), _day("as_of", as_of)
        if self.start and self.end and self.start > self.end:
            raise ConfigurationError(f"start={self.start}", f"is after end={self.end}")
        # numpy's True is another object.
        self.adjusted: Adjusted = adjusted if adjusted == "splits" else bool(adjusted)
        named = _names(tickers)
        self.tickers = None if named is None else list(dict.fromkeys(map(normalise, named)))
        self.groupings = _names(groupings)
        self.repaired, self.final_only = bool(repaired), bool(final_only)

    def securities(self, stored: Snapshot) -> dict[str, int]:
        """{ticker: security_id} of what is asked for, in alphabetical order."""
        return stored.securities(self.tickers, self.groupings)

    def frames(
        self, stored: Snapshot, found: dict[str, int], fields: tuple[str, ...] = COLUMNS
    ) -> Iterator[pd.DataFrame]:
        """The bars with these fields, some tickers in each frame, one frame at least, in the order of `found`.

        A volume is int64, or pandas' Int64 where some are not known.

        Raises:
            AdjustmentUnknown: see `prices`.
        """
        columns = self._columns(fields)
        for first in range(0, len(found) or 1, _BATCH):
            names = list(found)[first : first + _BATCH]
            numbers = [found[name] for name in names]
            ids = np.array(numbers, dtype=np.int64)
            asked = (set(numbers), columns, self.start, self.end)
            rows = stored.bars(*asked)
            if self.repaired:
                rows = _mend(rows, stored.mended(*asked), stored.repairs(*asked))
            if self.final_only:
                final = ~rows["provisional"]
                rows = {name: column[final] for name, column in rows.items()}
            if self.adjusted is True:
                _adjust_for_dividends(rows, names, ids)
            elif self.adjusted is False:
                _undo_splits(rows, stored.splits(set(numbers)))
            yield _frame(rows, names, ids, fields)

    def contradicted(
        self, stored: Snapshot, found: dict[str, int], fields: tuple[str, ...] = COLUMNS
    ) -> dict[str, int]:
        """{ticker: how many of the values behind these fields have a repair}, of those that have any."""
        columns = set(REPAIRABLE).intersection(self._columns(fields))
        counts = stored.contradicted(set(found.values()), columns, self.start, self.end)
        return {name: counts[number] for name, number in found.items() if number in counts}

    def actions(self, stored: Snapshot, found: dict[str, int]) -> pd.DataFrame:
        """See `luigi_tasks.actions`."""
        kinds = {"ticker": "str", "date": "datetime64[s]", "kind": "str", "amount": "float64"}
        kinds |= {"currency": "str", "has_bar": "bool"}
        return pd.DataFrame(stored.actions(found, self.start, self.end), columns=list(kinds)).astype(kinds)

    def _columns(self, fields: tuple[str, ...]) -> tuple[str, ...]:
        """What has to be read for these fields."""
        needed = fields
        if self.adjusted is True and not set(fields).isdisjoint(PRICES):
            needed += ("close", "adj_close")
        if self.final_only:
            needed += ("provisional",)
        return tuple(dict.fromkeys(needed))


def contradiction(values: dict[str, int]) -> str:
    """In words, that there are repairs of so many values: {ticker: how many}."""
    named, others = ", ".join(list(values)[:_NAMED]), len(values) - _NAMED
    more = f" and {others:,} more tickers" if others > 0 else ""
    total = sum(values.values())
    what = f"{total:,} values of {named}{more} contradict" if total > 1 else f"a value of {named} contradicts"
    return f"{what} what else the source says"


def company_frame(stored: Snapshot, found: dict[str, int]) -> pd.DataFrame:
    """See `metadata`."""
    frame = pd.DataFrame(stored.metadata(found), columns=["ticker", "as_of", *METADATA])
    kinds = {name: "float64" if name in _NUMBERS else "str" for name in ("ticker", *METADATA)}
    days = "datetime64[s]"
    return frame.astype({**kinds, "as_of": days, "market_cap_as_of": days, "shares_as_of": days})


def universe_frame(rows: list[Any]) -> pd.DataFrame:
    """Memberships as `universe` gives them."""
    frame = pd.DataFrame(rows, columns=["ticker", "grouping", "valid_from", "valid_to", "successor"])
    return frame.astype({name: "datetime64[s]" if name.startswith("valid") else "str" for name in frame})


def _mend(rows: Arrays, mended: Arrays, repairs: Arrays) -> Arrays:
    """The bars with the mended ones of quarantine among them, and repaired values in place of the served."""
    if len(mended["date"]):
        rows = in_order({name: np.concatenate([rows[name], mended[name]]) for name in rows})
    if len(repairs["date"]) and len(rows["date"]):
        stored, sought = keys(rows), keys(repairs)
        place = np.minimum(np.searchsorted(stored, sought), len(stored) - 1)
        there = stored[place] == sought
        for number, name in enumerate(REPAIRABLE):
            if name in rows:
                of_it = there & (repairs["column"] == number)
                new = repairs["new"][of_it]
                rows[name][place[of_it]] = np.rint(new) if name == "volume" else new
    return rows


def _adjust_for_dividends(rows: Arrays, names: list[str], ids: np.ndarray[Any, Any]) -> None:
    """Scale the prices by the source's adjusted close, in place; take that away."""
    if "adj_close" not in rows:
        return
    adjusted = rows.pop("adj_close")
    unknown = set(rows["security_id"][np.isnan(adjusted)].tolist())
    if unknown:
        affected = [name for name, number in zip(names, ids.tolist(), strict=True) if number in unknown]
        raise AdjustmentUnknown(
            ", ".join(affected),
            "the source does not say by how much dividends move these prices (adj_close is NULL)",
            'Take them adjusted for splits only: adjusted="splits".',
        )
    factor = adjusted / rows["close"]
    for name in ("open", "high", "low"):
        if name in rows:
            rows[name] = rows[name] * factor
    # The source's own number, and within high and low: a product may miss it by the last digit.
    rows["close"] = adjusted
    for name, bound in (("high", np.maximum), ("low", np.minimum)):
        if name in rows:
            rows[name] = bound(rows[name], adjusted)


def _undo_splits(rows: Arrays, splits: Arrays) -> None:
    """Make the numbers what they were on their day, in place: a split divides the prices of all days before it."""
    owners, days = rows["security_id"], rows["date"]
    factor = np.ones(len(days))
    for owner, day, ratio in zip(splits["security_id"], splits["date"], splits["stock_splits"], strict=True):
        first, last = np.searchsorted(owners, owner, "left"), np.searchsorted(owners, owner, "right")
        factor[first : first + np.searchsorted(days[first:last], day, "left")] *= ratio
    for name in (*PRICES, "dividends", "capital_gains"):
        if name in rows:
            rows[name] = rows[name] * factor
    if "volume" in rows:
        served = rows["volume"]
        traded = np.rint(served / factor).astype(np.int64)
        # Volumes beyond what a float holds exactly stay as they are where there was no split.
        rows["volume"] = np.where((factor == 1) | (served == UNKNOWN), served, traded)


def _frame(rows: Arrays, names: list[str], ids: np.ndarray[Any, Any], fields: tuple[str, ...]) -> pd.DataFrame:
    """A row for each bar of each name, in the order of the names; two names may share a security's bars."""
    first, last = (np.searchsorted(rows["security_id"], ids, side) for side in ("left", "right"))
    counts = last - first
    before = np.cumsum(counts) - counts
    place = np.repeat(first - before, counts) + np.arange(counts.sum())
    ticker = pd.array(names, dtype="str").take(np.repeat(np.arange(len(names)), counts))
    # Where names and securities are in one order, each row is at its place.
    if len(place) != len(rows["date"]) or (place != np.arange(len(place))).any():
        rows = {name: rows[name][place] for name in ("date", *fields)}
    columns = {"ticker": ticker, "date": rows["date"].astype("datetime64[s]")}
    columns |= {name: rows[name] for name in fields}
    if "volume" in columns and (unknown := columns["volume"] == UNKNOWN).any():
        columns["volume"] = pd.arrays.IntegerArray(columns["volume"], unknown)
    return pd.DataFrame(columns)


def _pivoted(every: pd.DataFrame, tickers: list[str], field: str) -> pd.DataFrame:
    """A row a date, a column a ticker."""
    days, row = np.unique(every["date"].to_numpy(), return_inverse=True)
    table = np.full((len(days), len(tickers)), np.nan)
    columns = pd.Index(tickers, dtype="str", name="ticker")
    table[row, columns.get_indexer(every["ticker"])] = every[field].to_numpy()
    return pd.DataFrame(table, index=pd.DatetimeIndex(days, name="date"), columns=columns)


def _configured() -> str:
    """DATABASE_URL, or the embedded server's. Raises DatabaseUnavailable if neither is there."""
    return embedded.url(settings.load())


def _names(given: str | Iterable[str] | None) -> list[str] | None:
    return None if given is None else [given] if isinstance(given, str) else [str(name) for name in given]


def _day(parameter: str, value: Day | None) -> dt.date | None:
    if value is None:
        return None
    try:
        # A number would be nanoseconds since 1970.
        day = pd.NaT if isinstance(value, (int, float)) else pd.Timestamp(value)
    except (ValueError, TypeError):
        day = pd.NaT
    if pd.isna(day):
        raise ConfigurationError(f"{parameter}={value!r}", "is not a day", 'Write it as "2024-06-28".')
    found: dt.date = day.date()
    return found
