"""YahooSource through the installed yfinance, over real HTTP: what is asked, what comes back, what each failure is."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
import trustme

from luigi_tasks.errors import (
    AnswerNotUnderstood,
    AuthorisationFailure,
    NetworkFailure,
    NoSuchTicker,
    ProviderDown,
    SecuritiesMasterError,
    SourceUnreachable,
    Throttled,
    WrongAnswer,
)
from luigi_tasks.market.yahoo.chart import Chart, in_currency
from tests.conftest import make_bars
from tests.market.asking import ask
from tests.yahoo.answers import Answer, error
from tests.yahoo.server import FaultKind, LoopbackYahoo

START, END = dt.date(2023, 3, 15), dt.date(2024, 3, 15)
WHAT: list[tuple[str, tuple[dt.date, ...]]] = [("bars", (START, END)), ("metadata", ())]


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


def test_a_volume_that_is_null_is_not_known(yahoo: LoopbackYahoo) -> None:
    served = make_bars(days=60)
    served["volume"] = served["volume"].astype("float64").mask(served.index.isin([7, 59]))
    yahoo.add("AAA", served)

    [found] = ask(yahoo, ("bars", ("AAA", START, END)))

    assert found.index[found["volume"].isna()].tolist() == [7, 59]


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
    facts = open_bars.attrs["security"]
    assert facts["unfinished"] == str(today)
    assert dt.datetime.fromisoformat(facts["open_until"]) > dt.datetime.now(dt.UTC)
    assert facts["provisional"] == str(open_bars["date"].iloc[-1].date()), "what was settled last, and may be once more"
    assert len(open_bars) == len(served) - 1 == len(shut_bars)


def test_no_bars_in_the_range_is_none_and_not_a_failure(yahoo: LoopbackYahoo) -> None:
    yahoo.add("AAA", make_bars(days=20))
    before, after = (dt.date(2020, 1, 1), dt.date(2020, 2, 1)), (dt.date(2025, 1, 1), dt.date(2025, 2, 1))

    assert ask(yahoo, ("bars", ("AAA", *before)), ("bars", ("AAA", *after))) == [None, None]


def test_an_unknown_ticker_is_said_by_yahoo_itself(yahoo: LoopbackYahoo) -> None:
    yahoo.add("BRK-B", make_bars(days=20))
    bars = [("bars", (ticker, START, END)) for ticker in ("BRK.B", "VOD.L")]
    answers = ask(yahoo, ("bars", ("NOPE", START, END)), ("metadata", ("NOPE",)), *bars)

    for answer in (answers[0], *answers[2:]):
        assert isinstance(answer, NoSuchTicker)
    assert "Did you mean BRK-B?" in str(answers[2])
    assert "Did you mean" not in str(answers[0]) + str(answers[3]), "London's suffix is a dot and a letter"
    # The chart alone tells whether there is a ticker: of many that it has, company data says "Quote not found".
    assert answers[1] == {"symbol": "NOPE"}


JSON = "application/json"
ODD_REASON = error("chart", 422, "Unprocessable Entity", "Nobody has ever heard of this")
EMPTY_RESULT = Answer(200, b'{"chart": {"result": [], "error": null}, "quoteSummary": {"result": []}}', JSON)
NO_ZONE = Answer(200, b'{"chart": {"result": [{"meta": {"symbol": "T"}, "indicators": {"quote": [{"x": 1}]}}]}}', JSON)

# What each fault is for a history, and for company data; None: the fault is not one there.
FAULTS: dict[str, tuple[FaultKind | Literal["weekly"], type[Exception], type[Exception] | None]] = {
    "429": (429, Throttled, Throttled),
    "500": (500, ProviderDown, ProviderDown),
    "502": (502, ProviderDown, ProviderDown),
    "503": (503, ProviderDown, ProviderDown),
    "504": (504, ProviderDown, ProviderDown),
    "an HTML page": ("html", ProviderDown, ProviderDown),
    "will be right back": ("down", ProviderDown, ProviderDown),
    "blank": ("blank", ProviderDown, ProviderDown),
    "cut JSON": ("truncate", ProviderDown, ProviderDown),
    "nested too deep": (Answer(200, b"[" * 100_000, JSON), ProviderDown, ProviderDown),
    "fewer bytes than promised": ("partial", NetworkFailure, NetworkFailure),
    "reset": ("reset", NetworkFailure, NetworkFailure),
    "time-out": ("hang", NetworkFailure, NetworkFailure),
    "crumb refused": (401, AuthorisationFailure, AuthorisationFailure),
    "forbidden": (403, AuthorisationFailure, AuthorisationFailure),
    "a page not found": (404, AnswerNotUnderstood, AnswerNotUnderstood),
    "another kind of JSON": (Answer(200, b"[]", JSON), ProviderDown, ProviderDown),
    "a number": (Answer(200, b"17", JSON), ProviderDown, ProviderDown),
    "no result": (EMPTY_RESULT, AnswerNotUnderstood, AnswerNotUnderstood),
    "no zone": (NO_ZONE, AnswerNotUnderstood, None),
    "an unknown reason": (ODD_REASON, AnswerNotUnderstood, AnswerNotUnderstood),
    "no rows though it traded": ("no_rows", AnswerNotUnderstood, None),
    "no such ticker": (error("chart", 404, "Not Found", "No data found, symbol may be delisted"), NoSuchTicker, None),
    "no such quote": (error("quoteSummary", 404, "Not Found", "Quote not found for symbol: T"), NoSuchTicker, None),
    "weekly bars": ("weekly", WrongAnswer, None),
}


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, Any, tuple[int, int]]]:
    """{fault: what asking for bars and for company data came to, then how often each was asked}."""
    with LoopbackYahoo(tmp_path_factory.mktemp("yahoo")) as server:
        tickers = {name: "T" if fault is NO_ZONE else f"T{i}" for i, (name, (fault, *_)) in enumerate(FAULTS.items())}
        for name, (fault, _, of_company) in FAULTS.items():
            server.add(tickers[name], make_bars())
            if fault == "weekly":
                server.say(tickers[name], dataGranularity="1wk")
                continue
            server.fault(tickers[name], fault, endpoint=None if of_company else "chart")
        of_bars = ask(server, *(("bars", (ticker, START, END)) for ticker in tickers.values()))
        of_companies = ask(server, *(("metadata", (ticker,)) for ticker in tickers.values()))
        counts = [(server.count("chart", ticker), server.count("summary", ticker)) for ticker in tickers.values()]
    return {name: (of_bars[i], of_companies[i], counts[i]) for i, name in enumerate(FAULTS)}


@pytest.mark.parametrize("name", FAULTS)
def test_each_failure_of_a_history_is_told_from_the_others(verdicts: dict[str, Any], name: str) -> None:
    of_bars, _, _ = verdicts[name]

    assert type(of_bars) is FAULTS[name][1], of_bars
    assert not isinstance(of_bars, NoSuchTicker) or name.startswith("no such")


@pytest.mark.parametrize("name", [name for name, (_, _, of_company) in FAULTS.items() if of_company])
def test_each_failure_of_company_data_is_told_from_the_others(verdicts: dict[str, Any], name: str) -> None:
    _, of_company, _ = verdicts[name]

    assert type(of_company) is FAULTS[name][2], of_company


# curl itself repeats a request whose connection was closed after it had been used before.
@pytest.mark.parametrize("name", [name for name in FAULTS if name not in ("reset", "fewer bytes than promised")])
def test_a_failed_request_is_not_repeated_behind_our_back(verdicts: dict[str, Any], name: str) -> None:
    assert verdicts[name][2] == (1, 1)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (
            {"HTTPS_PROXY": "http://no-such-host.invalid:3128", "https_proxy": "http://no-such-host.invalid:3128"},
            "host",
        ),
        ({"HTTPS_PROXY": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1"}, "connect"),
        ({"CURL_CA_BUNDLE": "{folder}/other.pem", "REQUESTS_CA_BUNDLE": "{folder}/other.pem"}, "certificate"),
    ],
    ids=["name resolution", "refused", "TLS"],
)
def test_no_way_to_yahoo_is_a_network_failure_that_says_which(
    yahoo: LoopbackYahoo, tmp_path: Path, environment: dict[str, str], words: str
) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    environment = {name: value.format(folder=tmp_path) for name, value in environment.items()}

    bars, info = ask(yahoo, ("bars", ("AAA", START, END)), ("metadata", ("AAA",)), environment=environment)

    for answer in (bars, info):
        assert isinstance(answer, NetworkFailure)
        assert words in str(answer).lower()


@pytest.mark.parametrize("what", WHAT, ids=["bars", "metadata"])
def test_an_answer_that_could_take_all_memory_is_broken_off(
    yahoo: LoopbackYahoo, what: tuple[str, tuple[dt.date, ...]]
) -> None:
    yahoo.add("AAA", make_bars(days=60))
    endless = Answer(200, b" " * 25_000_000 + b"{}", "application/json")
    yahoo.fault("AAA", endless)

    [refused] = ask(yahoo, (what[0], ("AAA", *what[1])))

    assert isinstance(refused, NetworkFailure)
    assert "maximum allowed file size (20000000)" in refused.reason or "Maximum file size exceeded" in refused.reason


@pytest.mark.parametrize("kind", [500, "html", "truncate", "reset", 401])
def test_a_second_attempt_is_sent_and_not_answered_from_a_cache(yahoo: LoopbackYahoo, kind: FaultKind) -> None:
    served = make_bars()
    yahoo.add("AAA", served)
    yahoo.fault("AAA", kind, endpoint="chart", times=1)

    first, second = ask(yahoo, *[("bars", ("AAA", START, END))] * 2)

    assert isinstance(first, SecuritiesMasterError)
    pd.testing.assert_frame_equal(second, served, check_exact=True)


def test_the_same_question_is_asked_again_and_not_answered_from_a_cache(yahoo: LoopbackYahoo) -> None:
    yahoo.add("AAA", make_bars())

    ask(yahoo, *[(what, ("AAA", *days)) for what, days in WHAT] * 2)

    assert yahoo.count("chart") == yahoo.count("summary") == 2


def test_a_ticker_costs_one_request_for_bars_and_one_for_company_data(yahoo: LoopbackYahoo) -> None:
    yahoo.add("AAA", make_bars())
    yahoo.add("BBB", make_bars(seed=2))

    ask(yahoo, *((what, (ticker, *days)) for ticker in ("AAA", "BBB") for what, days in WHAT))

    assert Counter(request.endpoint for request in yahoo.requests) == {
        "cookie": 1,
        "crumb": 1,
        "chart": 2,
        "summary": 2,
    }


def test_processes_share_one_cookie_and_one_crumb(yahoo: LoopbackYahoo, database_url: str) -> None:
    yahoo.add("AAA", make_bars())
    for _ in range(2):
        answers = ask(yahoo, *((what, ("AAA", *days)) for what, days in WHAT), database_url=database_url)
        assert not any(isinstance(answer, Exception) for answer in answers), answers

    assert (yahoo.count("cookie"), yahoo.count("crumb")) == (1, 1)
    assert (yahoo.count("chart"), yahoo.count("summary")) == (2, 2)


def test_a_run_s_check_costs_one_crumb_and_uses_the_cookie_there_is(yahoo: LoopbackYahoo, database_url: str) -> None:
    for _ in range(2):
        assert ask(yahoo, ("check", ()), database_url=database_url) == [None]

    assert (yahoo.count("cookie"), yahoo.count("crumb")) == (1, 2)


def test_a_refused_crumb_is_replaced(yahoo: LoopbackYahoo) -> None:
    yahoo.add("AAA", make_bars(), info={"sector": "Technology"})
    yahoo.fault("AAA", 401, endpoint="summary", times=1)

    first, second = ask(yahoo, *[("metadata", ("AAA",))] * 2)

    assert isinstance(first, AuthorisationFailure)
    assert second["sector"] == "Technology"
    assert yahoo.count("crumb") > 1


@pytest.mark.parametrize("kind", [429, Answer(200, b"Too Many Requests", "text/plain")], ids=["status", "words"])
def test_a_throttled_crumb_is_no_crumb(yahoo: LoopbackYahoo, database_url: str, kind: FaultKind) -> None:
    yahoo.add("AAA", make_bars(), info={"sector": "Technology"})
    yahoo.fault("*", kind, endpoint="crumb", times=1)

    first, second = ask(yahoo, *[("metadata", ("AAA",))] * 2)
    assert isinstance(first, Throttled)
    assert second["sector"] == "Technology"

    yahoo.fault("*", kind, endpoint="crumb", times=1)
    [patient] = ask(yahoo, ("metadata", ("AAA",)), database_url=database_url)
    assert patient["sector"] == "Technology"


@pytest.mark.parametrize("kind", [403, "html", Answer(200, b"", "text/plain")])
def test_prices_need_no_crumb_and_company_data_does(yahoo: LoopbackYahoo, kind: FaultKind) -> None:
    served = make_bars()
    yahoo.add("AAA", served)
    yahoo.fault("*", kind, endpoint="crumb")

    bars, info = ask(yahoo, ("bars", ("AAA", START, END)), ("metadata", ("AAA",)))

    pd.testing.assert_frame_equal(bars, served, check_exact=True)
    assert isinstance(info, AuthorisationFailure)


def test_a_throttled_request_is_sent_again_when_everybody_may(yahoo: LoopbackYahoo, database_url: str) -> None:
    served = make_bars()
    yahoo.add("AAA", served)
    yahoo.fault("AAA", 429, endpoint="chart", times=3)

    [bars] = ask(yahoo, ("bars", ("AAA", START, END)), database_url=database_url)

    pd.testing.assert_frame_equal(bars, served, check_exact=True)
    assert [request.status for request in yahoo.requests if request.endpoint == "chart"] == [429, 429, 429, 200]


def test_the_answer_says_what_the_security_is(yahoo: LoopbackYahoo) -> None:
    served = make_bars(days=30, last="2024-03-15")
    yahoo.add("AAA.L", served, currency="GBp", exchange="LSE", zone="Europe/London", info={"longName": "A & A plc"})

    [bars] = ask(yahoo, ("bars", ("AAA.L", START, END)))

    assert bars.attrs["security"] == {
        "name": "A & A plc",
        "quote_type": "EQUITY",
        "exchange": "LSE",
        "currency": "GBp",
        "time_zone": "Europe/London",
        "first_trade_date": "2024-02-05",
        "last_trade_date": "2024-03-15",
        "market_price": served["close"].iloc[-1],
        "provisional": "2024-03-15",
        "unfinished": None,
        "open_until": None,
        "stale_answer": None,
        "lacks": [],
    }
    assert bars.attrs["actions"] == []


def test_company_data_of_another_ticker_is_refused(yahoo: LoopbackYahoo) -> None:
    yahoo.add("AAA", make_bars(), info={"sector": "Technology"}, symbol_in_answer="BBB")

    [info] = ask(yahoo, ("metadata", ("AAA",)))

    assert isinstance(info, AnswerNotUnderstood)
    assert "BBB" in str(info)


def test_a_ticker_without_company_data_has_none_and_is_no_failure(yahoo: LoopbackYahoo) -> None:
    reason = "No fundamentals data found for symbol: AAA"
    yahoo.add("AAA", make_bars())
    yahoo.fault("AAA", error("quoteSummary", 404, "Not Found", reason), endpoint="summary")

    assert ask(yahoo, ("metadata", ("AAA",))) == [{"symbol": "AAA"}]


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


# -- corporate actions


def test_each_event_is_on_its_own_day_and_in_its_own_column(yahoo: LoopbackYahoo) -> None:
    served = make_bars(days=60)
    days = [f"{day:%Y-%m-%d}" for day in served["date"]]
    served.loc[10, ["dividends", "capital_gains"]] = 0.25, 1.5
    served.loc[20, ["stock_splits", "capital_gains"]] = 3.0, 0.5
    yahoo.add("AAA", served)

    [bars] = ask(yahoo, ("bars", ("AAA", START, END)))
    pd.testing.assert_frame_equal(bars, served, check_exact=True)

    # Of any type of security, several of a kind on a day, and some seconds after the session's beginning.
    yahoo.event("AAA", days[10], "dividends", 0.5)
    yahoo.event("AAA", days[20], "stock_splits", 0.5, at=dt.time(0))
    yahoo.event("AAA", days[20], "capital_gains", 0.25, at=dt.time(20, 15))
    served.loc[10, "dividends"], served.loc[20, ["stock_splits", "capital_gains"]] = 0.75, (1.5, 0.75)
    [bars] = ask(yahoo, ("bars", ("AAA", START, END)))

    pd.testing.assert_frame_equal(bars, served, check_exact=True)
    assert bars.attrs["actions"] == []


def test_an_event_of_a_day_without_a_bar_keeps_its_day(yahoo: LoopbackYahoo) -> None:
    served = make_bars(days=60)
    lost, days = 30, [f"{day:%Y-%m-%d}" for day in served["date"]]
    kept = served.drop(index=lost).reset_index(drop=True)
    yahoo.add("AAA", kept)
    yahoo.event("AAA", days[lost], "stock_splits", 25.0)
    yahoo.event("AAA", "2024-03-16", "dividends", 0.3, "EUR")
    # Of a day that was not asked for.
    yahoo.event("AAA", "2024-03-17", "dividends", 9.0)

    [bars] = ask(yahoo, ("bars", ("AAA", START, dt.date(2024, 3, 16))))

    pd.testing.assert_frame_equal(bars, kept, check_exact=True)
    nothing = {"dividends": 0.0, "stock_splits": 0.0, "capital_gains": 0.0, "dividend_currency": None}
    assert bars.attrs["actions"] == [
        nothing | {"date": days[lost], "stock_splits": 25.0},
        nothing | {"date": "2024-03-16", "dividends": 0.3, "dividend_currency": "EUR"},
    ]


def test_an_event_of_a_session_that_is_not_over_is_kept_without_its_bar(yahoo: LoopbackYahoo) -> None:
    today = pd.Timestamp.now("America/New_York").date()
    served = make_bars(days=20, last=str(today))
    served.loc[served.index[-1], "date"] = pd.Timestamp(today)
    yahoo.add("AAA", served)
    yahoo.event("AAA", str(today), "dividends", 0.4)
    yahoo.market_open("AAA")

    [bars] = ask(yahoo, ("bars", ("AAA", today - dt.timedelta(days=90), today)))

    assert len(bars) == len(served) - 1
    assert [(each["date"], each["dividends"]) for each in bars.attrs["actions"]] == [(str(today), 0.4)]


@pytest.mark.parametrize(
    ("priced_in", "currency", "amount", "stored"),
    [
        ("GBp", "GBP", 0.125, (12.5, None)),
        ("GBp", "GBX", 12.5, (12.5, None)),
        ("GBp", "GBp", 12.5, (12.5, None)),
        ("GBP", "GBp", 12.5, (0.125, None)),
        ("ZAc", "ZAR", 0.5, (50.0, None)),
        ("ILA", "ILS", 0.5, (50.0, None)),
        ("USX", "USD", 0.5, (50.0, None)),
        ("USD", "USD", 0.5, (0.5, None)),
        ("USD", "", 0.5, (0.5, None)),
        ("GBp", "USD", 0.25, (0.25, "USD")),
        ("GBp", "ZAR", 0.25, (0.25, "ZAR")),
        ("USD", "GBp", 25.0, (25.0, "GBp")),
    ],
)
def test_a_dividend_is_in_the_currency_of_the_prices_or_says_in_which(
    priced_in: str, currency: str, amount: float, stored: tuple[float, str | None]
) -> None:
    assert in_currency(amount, currency, priced_in) == stored


def test_a_dividends_currency_comes_with_it(yahoo: LoopbackYahoo) -> None:
    served = make_bars(days=60)
    served.loc[[10, 20], "dividends"] = 0.25
    served["dividend_currency"] = (
        served["dividend_currency"].mask(served.index == 10, "USD").mask(served.index == 20, "GBP")
    )
    yahoo.add("USDIV.L", served, currency="GBp", exchange="LSE", zone="Europe/London")

    [bars] = ask(yahoo, ("bars", ("USDIV.L", START, END)))

    served.loc[20, "dividends"] = 25.0
    served["dividend_currency"] = served["dividend_currency"].mask(served.index == 20)
    pd.testing.assert_frame_equal(bars, served, check_exact=True)


def test_dividends_that_cannot_be_added_are_no_number(yahoo: LoopbackYahoo) -> None:
    yahoo.add("AAA", make_bars())
    yahoo.event("AAA", "2024-03-12", "dividends", 0.3, "EUR")
    yahoo.event("AAA", "2024-03-12", "dividends", 0.3)

    [refused] = ask(yahoo, ("bars", ("AAA", START, END)))

    assert isinstance(refused, AnswerNotUnderstood)
    assert "dividends in EUR, USD on 2024-03-12" in str(refused)


@pytest.mark.parametrize("hour", [22, 23])
def test_an_early_midnight_is_that_of_the_day_that_it_means(hour: int) -> None:
    meta = {"exchangeTimezoneName": "America/Sao_Paulo", "currency": "BRL"}
    at = dt.datetime(2024, 1, 15, hour, tzinfo=ZoneInfo("America/Sao_Paulo")).timestamp()
    chart = Chart(meta, {"dividends": {"1": {"amount": 0.5, "date": at}, "2": {"amount": 0.25, "date": at + 60}}}, [])

    found = chart.actions("AAA", START, END)

    assert [(each["date"], each["dividends"]) for each in found] == [("2024-01-15", 0.25), ("2024-01-16", 0.5)]


def test_an_amount_that_is_no_number_breaks_a_rule_and_is_not_passed_over(yahoo: LoopbackYahoo) -> None:
    yahoo.add("AAA", make_bars())
    yahoo.event("AAA", "2024-03-12", "dividends", float("inf"))
    yahoo.event("AAA", "2024-03-13", "dividends", float("nan"))

    [bars] = ask(yahoo, ("bars", ("AAA", START, END)))

    amounts = bars.set_index("date")["dividends"]
    assert amounts["2024-03-12"] == float("inf")
    assert amounts.isna().sum() == 1
    assert pd.isna(amounts["2024-03-13"])


def test_an_answer_without_adjusted_closes_does_not_have_the_closes_for_them(yahoo: LoopbackYahoo) -> None:
    served = make_bars()
    yahoo.add("NONE", served.drop(columns="adj_close"))
    yahoo.add("NULLS", served.assign(adj_close=float("nan")))
    yahoo.add("ONE", served.assign(adj_close=served["adj_close"].mask(served.index == 3)))

    none, nulls, one = ask(yahoo, *(("bars", (ticker, START, END)) for ticker in ("NONE", "NULLS", "ONE")))

    for bars in (none, nulls):
        assert bars["adj_close"].isna().all()
        assert bars.attrs["security"]["lacks"] == ["adj_close"]
        pd.testing.assert_frame_equal(
            bars.drop(columns="adj_close"), served.drop(columns="adj_close"), check_exact=True
        )
    assert one.attrs["security"]["lacks"] == []
    assert one["adj_close"].isna().tolist() == [row == 3 for row in range(len(served))]


@pytest.mark.parametrize("price", [0, -1.5, None, "Infinity", True])
def test_a_market_price_is_a_number_above_0_or_not_known(yahoo: LoopbackYahoo, price: object) -> None:
    yahoo.add("AAA", make_bars())
    yahoo.say("AAA", regularMarketPrice=price)

    [bars] = ask(yahoo, ("bars", ("AAA", START, END)))

    assert bars.attrs["security"]["market_price"] is None
