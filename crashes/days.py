"""The two days that runs are struck at: the first of a store, and the next, which restates what is stored."""

from __future__ import annotations

import pandas as pd

from tests.conftest import make_bars, with_dividend, with_split

TICKERS = [f"T{number:02}" for number in range(16)]
FIRST, SECOND = "2024-03-15", "2024-03-18"

_DAYS = 250
# Of what is older than the sessions that are asked for again; a whole history alone shows what became of them.
_LOST, _SPOILED = "2023-11-14", "2023-11-15"


def served(day: str) -> dict[str, pd.DataFrame]:
    """{ticker: its history as Yahoo tells it on that day}."""
    return {ticker: _history(number, day) for number, ticker in enumerate(TICKERS)}


def _history(number: int, day: str) -> pd.DataFrame:
    frame = make_bars(days=_DAYS, last=SECOND, seed=number)
    second, kind = day == SECOND, number % 8
    if not second:
        frame = frame[frame["date"] < SECOND]
    elif kind in (0, 1):
        frame = with_split(frame, SECOND, 4.0)
    elif kind == 2:
        frame = with_dividend(frame, SECOND, 0.5)
    elif kind == 3:
        frame["volume"] = frame["volume"].mask(frame["date"] == FIRST, 77)
    elif kind == 4:
        frame["high"] = frame["high"].mask(frame["date"] == SECOND, frame["low"] / 2)
    if second and kind == 1:
        # Measured by what the others have left: one is sent no more, the other is sent and cannot be.
        frame = frame[frame["date"] != _LOST]
        frame["high"] = frame["high"].mask(frame["date"] == _SPOILED, frame["low"] / 2)
    if kind == 6 or (kind == 5 and not second):
        # A session that the first day lacks; to some it comes on the second.
        frame = frame[frame["date"] != _LOST]
    return frame.reset_index(drop=True)
