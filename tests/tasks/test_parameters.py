"""Parameters mean the same from Python as on the command line, and a ticker is spelled in one way."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from luigi_tasks import DownloadMetadata, InsertOhlcv, RegisterSecurity, RunAll
from luigi_tasks.errors import ConfigurationError

DAY = dt.date(2024, 3, 15)


def run_all(**given: Any) -> RunAll:
    return RunAll(date=DAY, **given)


@pytest.mark.parametrize("given", ["NVDA,AMD", " NVDA , AMD ,", "nvda,Amd,NVDA", ["NVDA", "AMD"], (" nvda", "AMD ")])
def test_tickers_are_the_same_however_they_are_given(given: Any) -> None:
    made = run_all(tickers=given)

    assert made.tickers == ("NVDA", "AMD")
    assert made.task_id == run_all(tickers=("NVDA", "AMD")).task_id
    assert RunAll.from_str_params(made.to_str_params()) == made


def test_groupings_are_names_and_not_letters_and_keep_their_case() -> None:
    assert run_all(groupings="sp500, Dax").groupings == ("sp500", "Dax")
    assert RegisterSecurity(ticker="AAA", groupings="sp500").groupings == ("sp500",)  # type: ignore[arg-type]
    assert InsertOhlcv(ticker="AAA", groupings="sp500").groupings == ("sp500",)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", ["", ",", " ", [""], ["AAA", " "], [None], [7]])
def test_what_names_nothing_does_not_mean_all(given: Any) -> None:
    for name in ("tickers", "groupings"):
        with pytest.raises(ConfigurationError, match=r"names nothing|is no name"):
            run_all(**{name: given})


def test_none_at_all_is_still_to_be_had() -> None:
    assert run_all(tickers=[]).tickers == run_all(tickers="()").tickers == run_all().tickers == ()


@pytest.mark.parametrize("family", [InsertOhlcv, DownloadMetadata, RegisterSecurity])
def test_a_task_of_a_ticker_is_one_task_however_it_is_spelled(family: Any) -> None:
    one, other = family(ticker=" aapl\t", date=DAY), family(ticker="AAPL", date=DAY)

    assert (one.ticker, one.task_id) == ("AAPL", other.task_id)
    assert one is other or one == other
    assert family(ticker="brk.b", date=DAY).ticker == "BRK.B", "it is asked about, and not changed"


def test_a_ticker_that_is_no_text_is_said_in_a_line() -> None:
    with pytest.raises(ConfigurationError, match=r"ticker 700: is no text\. Put it in quotes"):
        InsertOhlcv(ticker=700)  # type: ignore[arg-type]
