"""The suite in config/ and the table in PostgreSQL agree: no bar that passes the one is refused by the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from luigi_tasks import YfinanceClient, bars
from luigi_tasks.errors import SecuritiesMasterError
from luigi_tasks.quality.suite import judge
from tests.conftest import make_bars
from tests.workspace import REPOSITORY

SUITE = REPOSITORY / "config/ohlcv_suite.json"
NUMBERS = [np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 5e-324, 0.5, 1.0, 1e9, 1e12, 1.1e12, 9e18, 9.3e18, 1e308]
CASES: list[tuple[str, Any]] = [
    *((name, value) for name in bars.NUMBERS for value in NUMBERS),
    ("date", pd.NaT),
    ("date", pd.Timestamp("1792-05-17")),
    ("date", pd.Timestamp("2999-12-31")),
]


def test_every_bar_that_passes_the_suite_can_be_stored(database_url: str) -> None:
    client = YfinanceClient(database_url)
    client.insert_security("AAA", [])
    frame = make_bars(days=len(CASES)).astype(dict.fromkeys(bars.NUMBERS, "float64"))
    case_of = {}
    for row, (name, value) in enumerate(CASES):
        frame.loc[row, name] = value
        case_of[str(frame.loc[row, "date"])] = f"{name} = {value}"

    valid = judge(frame, "AAA", SUITE, 1.0).valid

    refused = {}
    for row in range(len(valid)):
        try:
            client.insert_ohlcv("AAA", valid.iloc[[row]])
        except SecuritiesMasterError as error:
            refused[case_of[str(valid.loc[row, "date"])]] = str(error)[:120]
    assert refused == {}
    assert len(CASES) / 4 < len(valid) < len(CASES), "some of each, or this says nothing"


@pytest.mark.parametrize("column", bars.COLUMNS)
def test_a_value_that_is_not_known_is_only_let_pass_where_the_table_has_room_for_it(column: str) -> None:
    frame = make_bars(days=40)
    frame[column] = frame[column].mask(frame.index == 7) if column == "date" else frame[column].where(frame.index != 7)

    verdict = judge(frame, "AAA", SUITE, 0.05)

    room = column in ("adj_close", "dividend_currency", "volume")
    assert verdict.success is (room and column != "volume")
    assert len(verdict.quarantined) == (0 if room else 1)


def test_a_volume_that_is_no_whole_number_does_not_cost_the_other_bars(database_url: str) -> None:
    client = YfinanceClient(database_url)
    client.insert_security("AAA", [])
    frame = make_bars(days=40).astype({"volume": "float64"})
    frame["volume"] = frame["volume"].mask(frame.index == 7, 1.5)

    client.insert_ohlcv("AAA", judge(frame, "AAA", SUITE, 0.05).valid)

    assert client.insert_ohlcv("AAA", frame.drop(index=7))["rows_affected"] == 0, "the good ones are there"
