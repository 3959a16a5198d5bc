"""An answer of bars, on its way into the database: the frame, its corporate actions, and what came with them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute

from luigi_tasks import bars
from luigi_tasks.errors import InvalidData
from luigi_tasks.schedule import Span


@dataclass(frozen=True)
class Window:
    """That a frame is all that the source has of the days of `span`, but for the bars in `quarantined`, as of a date.

    `quarantined` has the shape of `luigi_tasks.bars` and a column broken, JSON text: [{rule, value, threshold}].
    `repairs`: [{date (ISO), column, rule, old, new, evidence}]; those of other rules than `repaired_rules` (None: of
    all) stay as they are.
    """

    span: Span
    as_of: dt.date
    quarantined: pd.DataFrame | None = None
    repairs: Collection[dict[str, Any]] = ()
    repaired_rules: Collection[str] | None = None

    @property
    def left_out(self) -> set[dt.date]:
        """The days of the bars in quarantine."""
        return set() if self.quarantined is None else set(self.quarantined["date"].dropna().dt.date)


class Answer:
    """Bars that are to be stored, and what came with them."""

    def __init__(self, df: pd.DataFrame, table: pa.Table, attrs: Mapping[Any, Any], window: Window | None) -> None:
        """`table` is the frame as Arrow has it, `attrs` are the frame's."""
        self.df, self.table, self.window = df, table, window
        self.facts: Mapping[str, Any] = attrs.get(bars.FACTS) or {}
        self.provisional = _day(self.facts.get("provisional"))
        self.acted = _acted(df, attrs, window)

    @property
    def left_out_session(self) -> dict[str, Any]:
        """What the security's row keeps of a session that is no close yet."""
        return {
            "unfinished": _day(self.facts.get("unfinished")),
            "open_until": _instant(self.facts.get("open_until")),
        }

    def refused_closes(self, day: dt.date) -> list[float]:
        """The closes of that day's bars in quarantine."""
        refused = None if self.window is None else self.window.quarantined
        return [] if refused is None else refused.loc[refused["date"] == pd.Timestamp(day), "close"].tolist()

    def table_with(self, **constants: pa.Scalar) -> pa.Table:
        """The bars with whether each is provisional, and with columns that are the same in all."""
        provisional = pa.scalar(self.provisional, pa.date32())
        is_it = pa.compute.fill_null(pa.compute.equal(self.table["date"], provisional), False)
        table = self.table.append_column("provisional", is_it)
        for name, value in constants.items():
            table = table.append_column(name, pa.repeat(value, len(table)))
        return table

    def told(self, alone: list[dict[str, Any]]) -> dict[str, Any]:
        """What is worth telling of it, as JSON values; `alone` are its actions of days without a bar."""
        detail: dict[str, Any] = {}
        kinds = [(name, row) for row in alone for name in bars.AMOUNTS if row[name]]
        if kinds:
            detail["actions_without_bar"] = [
                {"date": str(row["date"]), "kind": name, "amount": row[name]} for name, row in kinds
            ]
        foreign = self.acted[self.acted["dividend_currency"].notna()]
        if len(foreign):
            detail["foreign_dividends"] = [
                {"date": str(day.date()), "amount": float(amount), "currency": currency}
                for day, amount, currency in foreign[["date", "dividends", "dividend_currency"]].itertuples(index=False)
            ]
        for name in ("unfinished", "open_until", "lacks", "stale_answer"):
            if self.facts.get(name):
                detail[name] = self.facts[name]
        return detail


def _acted(df: pd.DataFrame, attrs: Mapping[Any, Any], window: Window | None) -> pd.DataFrame:
    """All corporate actions of the answer, those of bars in quarantine, too: see `luigi_tasks.bars.every_action`."""
    told = df.iloc[:0].copy()
    told.attrs = {bars.ACTIONS: attrs.get(bars.ACTIONS) or []}
    parts = [bars.every_action(df), bars.every_action(told)]
    if window is not None and window.quarantined is not None and len(window.quarantined):
        refused = window.quarantined.reindex(columns=parts[0].columns)
        amounts = refused[list(bars.AMOUNTS)].to_numpy(float)
        sane = refused["date"].notna() & (np.isfinite(amounts) & (amounts >= 0)).all(axis=1)
        refused = refused[sane & (amounts > 0).any(axis=1)].astype(parts[0].dtypes.to_dict())
        parts.append(refused)
    found = [part for part in parts if len(part)]
    if not found:
        return parts[0]
    return pd.concat(found).drop_duplicates("date").sort_values("date", ignore_index=True)


def as_attrs(acted: pd.DataFrame, df: pd.DataFrame) -> list[dict[str, Any]]:
    """Those of the actions that are of days without a bar in the frame, as `luigi_tasks.bars.ACTIONS` has them."""
    alone = acted[~acted["date"].isin(df["date"])]
    records: list[dict[str, Any]] = alone.assign(date=alone["date"].dt.date.astype(str)).to_dict("records")
    return records


def conformed(ticker: str, df: pd.DataFrame) -> pd.DataFrame:
    try:
        return bars.conform(df)
    except KeyError as error:
        raise InvalidData(ticker, f"the bars lack a column ({error})") from error
    except (ValueError, TypeError) as error:
        raise InvalidData(ticker, f"the bars have a value of the wrong type ({error})") from error


def as_table(ticker: str, df: pd.DataFrame) -> pa.Table:
    try:
        table = bars.to_arrow(df)
    except (ValueError, TypeError, pa.ArrowInvalid) as error:
        raise InvalidData(ticker, f"the bars have a value of the wrong type ({error})") from error
    days = pd.Series(df["date"].to_numpy().astype("datetime64[D]"))
    if days.duplicated().any():
        raise InvalidData(ticker, f"there are two bars for {days[days.duplicated()].iloc[0].date()}")
    return table


def _day(text: str | None) -> dt.date | None:
    return None if text is None else dt.date.fromisoformat(text)


def _instant(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(text)
