"""YahooSource through the installed yfinance, over real HTTP: what is asked, what comes back, what each failure is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from luigi_tasks.errors import (
    AnswerNotUnderstood,
    NetworkFailure,
    NoSuchTicker,
    ProviderDown,
    SecuritiesMasterError,
    SourceUnreachable,
    Throttled,
)
from tests.conftest import make_bars
from tests.market.asking import ask
from tests.yahoo.server import LoopbackYahoo

START, END = dt.date(2023, 3, 15), dt.date(2024, 3, 15)


@pytest.fixture
def yahoo(tmp_path: Path) -> Iterator[LoopbackYahoo]:
    with LoopbackYahoo(tmp_path) as server:
        yield server


def test_bars_equal_what_was_served_value_for_value(yahoo: LoopbackYahoo) -> None:
    served = make_bars(days=60)
    served["dividends"] = served["dividends"].mask(served.index == 20, 0.24)
    served["stock_splits"] = served["stock_splits"].mask(served.index == 40, 4.0)
    yahoo.add("AAA", served)

    [bars] = ask(yahoo, ("bars", ("AAA", START, END)))

    pd.testing.assert_frame_equal(bars, served, check_exact=True)
    assert yahoo.count("chart", "AAA") == 1
    assert yahoo.count("tz") == 0, "the zone is not worth a request"


def test_both_ends_of_the_range_are_included_and_nothing_beyond(yahoo: LoopbackYahoo) -> None:
    served = make_bars(days=60)
    for ticker, zone in (("WEST.X", "Pacific/Honolulu"), ("EAST.X", "Pacific/Auckland"), ("MID.X", "Europe/London")):
        yahoo.add(ticker, served, zone=zone)
    start, end = served["date"].iloc[10].date(), served["date"].iloc[20].date()

    answers = ask(yahoo, *(("bars", (ticker, start, end)) for ticker in ("WEST.X", "EAST.X", "MID.X")))

    for bars in answers:
        assert bars["date"].tolist() == served["date"].iloc[10:21].tolist()


def test_days_keep_their_date_across_a_change_of_the_clocks(yahoo: LoopbackYahoo) -> None:
    served = make_bars(days=300, last="2024-12-31")
    yahoo.add("AAA", served, zone="America/New_York")

    [bars] = ask(yahoo, ("bars", ("AAA", dt.date(2023, 1, 1), dt.date(2024, 12, 31))))

    assert bars["date"].tolist() == served["date"].tolist()


def test_a_session_that_is_not_over_is_left_out(yahoo: LoopbackYahoo) -> None:
    today = pd.Timestamp.now("America/New_York").date()
    served = make_bars(days=20, last=str(today))
    served.loc[served.index[-1], "date"] = pd.Timestamp(today)
    yahoo.add("OPEN", served)
    yahoo.add("SHUT", served.iloc[:-1].reset_index(drop=True))
    yahoo.market_open("OPEN")

    open_bars, shut_bars = ask(
        yahoo, *(("bars", (ticker, today - dt.timedelta(days=90), today)) for ticker in ("OPEN", "SHUT"))
    )

    assert open_bars["date"].max() < pd.Timestamp(today)
    assert len(open_bars) == len(served) - 1 == len(shut_bars)


def test_no_bars_in_the_range_is_none_and_not_a_failure(yahoo: LoopbackYahoo) -> None:
    yahoo.add("AAA", make_bars(days=20))
    before, after = (dt.date(2020, 1, 1), dt.date(2020, 2, 1)), (dt.date(2025, 1, 1), dt.date(2025, 2, 1))

    assert ask(yahoo, ("bars", ("AAA", *before)), ("bars", ("AAA", *after))) == [None, None]


def test_an_unknown_ticker_is_said_by_yahoo_itself(yahoo: LoopbackYahoo) -> None:
    answers = ask(yahoo, ("bars", ("NOPE", START, END)), ("metadata", ("NOPE",)))

    assert [type(answer) for answer in answers] == [NoSuchTicker, NoSuchTicker]


@pytest.mark.parametrize(
    ("kind", "of_bars", "of_metadata"),
    [
        (429, Throttled, Throttled),
        (500, ProviderDown, ProviderDown),
        (503, ProviderDown, ProviderDown),
        ("html", ProviderDown, ProviderDown),
        ("blank", ProviderDown, ProviderDown),
        ("truncate", ProviderDown, ProviderDown),
        ("reset", NetworkFailure, NetworkFailure),
        ("hang", NetworkFailure, NetworkFailure),
    ],
)
def test_a_failure_is_neither_an_empty_history_nor_a_missing_ticker(
    yahoo: LoopbackYahoo,
    kind: int | str,
    of_bars: type[SecuritiesMasterError],
    of_metadata: type[SecuritiesMasterError],
) -> None:
    yahoo.add("AAA", make_bars())
    yahoo.fault("AAA", kind)  # type: ignore[arg-type]

    answers = ask(yahoo, ("bars", ("AAA", START, END)), ("metadata", ("AAA",)))

    assert [type(answer) for answer in answers] == [of_bars, of_metadata]


@pytest.mark.parametrize("kind", [500, "html", "truncate", "reset"])
def test_a_second_attempt_is_sent_and_not_answered_from_a_cache(yahoo: LoopbackYahoo, kind: int | str) -> None:
    served = make_bars()
    yahoo.add("AAA", served)
    # yfinance sends a request that got an error status twice.
    yahoo.fault("AAA", kind, endpoint="chart", times=2 if kind == 500 else 1)  # type: ignore[arg-type]

    first, second = ask(yahoo, *[("bars", ("AAA", START, END))] * 2)

    assert isinstance(first, SecuritiesMasterError)
    pd.testing.assert_frame_equal(second, served, check_exact=True)


def test_an_answer_about_another_ticker_is_refused(yahoo: LoopbackYahoo) -> None:
    yahoo.add("AAA", make_bars(), symbol_in_answer="BBB")

    [full, empty] = ask(
        yahoo, ("bars", ("AAA", START, END)), ("bars", ("AAA", dt.date(2025, 1, 1), dt.date(2025, 2, 1)))
    )

    assert isinstance(full, AnswerNotUnderstood)
    assert isinstance(empty, AnswerNotUnderstood)
    assert "BBB" in str(full)


def test_an_answer_that_was_refused_is_asked_for_again(yahoo: LoopbackYahoo) -> None:
    yahoo.add("AAA", make_bars(), symbol_in_answer="BBB")

    ask(yahoo, *[("bars", ("AAA", START, END))] * 3)

    assert yahoo.count("chart", "AAA") == 3


def test_company_data_comes_with_its_fields(yahoo: LoopbackYahoo) -> None:
    yahoo.add("AAA", make_bars(), info={"sector": "Technology", "marketCap": 123456789, "longName": "A & A"})

    [info] = ask(yahoo, ("metadata", ("AAA",)))

    assert info["sector"] == "Technology"
    assert info["marketCap"] == 123456789
    assert info["quoteType"] == "EQUITY"


def test_yahoo_counts_as_reachable_as_long_as_it_answers_anything(yahoo: LoopbackYahoo) -> None:
    yahoo.fault("*", 503, endpoint="crumb")

    assert ask(yahoo, ("check", ())) == [None]


def test_a_yahoo_that_does_not_answer_is_unreachable(yahoo: LoopbackYahoo) -> None:
    yahoo.fault("*", "reset", endpoint="crumb")

    [answer] = ask(yahoo, ("check", ()))

    assert isinstance(answer, SourceUnreachable)
    assert "cannot be reached" in str(answer)
