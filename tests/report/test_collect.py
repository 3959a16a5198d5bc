"""From the ledger to the document: what counts as succeeded, failed, skipped and blocked."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest
import sqlalchemy as sa

from luigi_tasks import YfinanceClient
from luigi_tasks.database.engine import engine_for
from luigi_tasks.database.ledger import Ledger, Marker, Step
from luigi_tasks.database.schema import repairs, securities
from luigi_tasks.report import render
from luigi_tasks.report.collect import Expected, collect
from luigi_tasks.report.trends import changes
from tests.conftest import make_bars
from tests.database.test_gaps import Market

DAY = dt.date(2024, 1, 2)
STEPS = ["DownloadOhlcv", "ValidateOhlcv", "InsertOhlcv"]
COUNTS = ("processed", "succeeded", "failed", "skipped", "blocked", "rows", "seconds")


class Run:
    """Two runs over one database; the second is the one that is reported."""

    def __init__(self, database_url: str) -> None:
        self.url = database_url
        self.ledger = Ledger(database_url)
        self.expected: list[Expected] = []
        for run_id in ("run-0", "run-1"):
            self.ledger.begin_run(run_id, "RunAll", {"date": str(DAY)})

    def expect(self, step: str, ticker: str, receipt: tuple[int, dict[str, Any]] | None = None) -> Step:
        task_id = f"{step}_{ticker}"
        self.expected.append(Expected(step, ticker, task_id, lambda: receipt))
        return Step(task_id, step, "run-1", ticker, DAY)

    def done(self, step: str, ticker: str, bars: int, run_id: str = "run-1", **detail: Any) -> None:
        task = self.expect(step, ticker)
        self.ledger.mark(Marker(Step(task.task_id, step, run_id, ticker, DAY), bars, detail), seconds=2.0)

    def failed(self, step: str, ticker: str, kind: str, reason: str) -> None:
        self.ledger.fail(self.expect(step, ticker), kind, reason)

    def document(self) -> dict[str, Any]:
        run = self.ledger.run("run-1")
        assert run is not None
        return collect(self.url, run, STEPS, self.expected, DAY)


@pytest.fixture
def run(database_url: str) -> Run:
    return Run(database_url)


def counts(document: dict[str, Any], step: str) -> dict[str, Any]:
    (found,) = (item for item in document["steps"] if item["step"] == step)
    return {name: found[name] for name in COUNTS if found[name]}


def states(document: dict[str, Any]) -> dict[str, str]:
    return {item["ticker"]: item["state"] for item in document["by_ticker"]}


def test_a_step_done_in_this_run_succeeded_and_one_done_before_was_skipped(run: Run) -> None:
    run.done("InsertOhlcv", "NEW", 7)
    run.done("InsertOhlcv", "OLD", 5, run_id="run-0")
    run.expect("DownloadOhlcv", "OLD", receipt=(6, {}))

    document = run.document()

    assert counts(document, "InsertOhlcv") == {
        "processed": 1,
        "succeeded": 1,
        "skipped": 1,
        "rows": 12,
        "seconds": 2.0,
    }
    assert counts(document, "DownloadOhlcv") == {"skipped": 1, "rows": 6}
    assert states(document) == {"NEW": "done", "OLD": "done"}
    assert document["tickers"] == {"done": 2, "all": 2}


def test_a_failure_blocks_the_steps_after_it_and_gives_the_ticker_its_reason(run: Run) -> None:
    run.failed("DownloadOhlcv", "BAD", "no_such_ticker", "BAD: there is none")
    run.expect("ValidateOhlcv", "BAD")
    run.expect("InsertOhlcv", "BAD")

    document = run.document()

    assert [counts(document, step) for step in STEPS] == [{"processed": 1, "failed": 1}, {"blocked": 1}, {"blocked": 1}]
    (ticker,) = document["by_ticker"]
    assert (ticker["state"], ticker["reason"]) == ("failed", "there is none"), "beside which the ticker stands"
    assert ticker["steps"] == dict(zip(STEPS, ("failed", "blocked", "blocked"), strict=True))
    assert document["tickers"] == {"failed": 1, "all": 1}


def test_what_was_never_tried_is_blocked(run: Run) -> None:
    for step in STEPS:
        run.expect(step, "AAA")

    document = run.document()

    assert states(document) == {"AAA": "blocked"}
    assert document["tickers"] == {"blocked": 1, "all": 1}
    assert document["failures"] == []


def test_a_failure_that_a_later_attempt_made_good_is_told_but_does_not_count(run: Run) -> None:
    run.failed("InsertOhlcv", "AAA", "database_unavailable", "away")
    run.ledger.mark(Marker(Step("InsertOhlcv_AAA", "InsertOhlcv", "run-1", "AAA", DAY), 9))

    document = run.document()

    assert counts(document, "InsertOhlcv") == {"processed": 1, "succeeded": 1, "rows": 9}
    assert states(document) == {"AAA": "done"}
    assert [failure["reason"] for failure in document["failures"]] == ["away"]


def test_failures_of_another_run_are_not_of_this_one(run: Run) -> None:
    run.expect("InsertOhlcv", "AAA")
    run.ledger.fail(Step("InsertOhlcv_AAA", "InsertOhlcv", "run-0", "AAA"), "network", "then")

    document = run.document()

    assert document["failures"] == []
    assert counts(document, "InsertOhlcv") == {"blocked": 1}


def test_processed_is_succeeded_and_failed_and_the_five_cover_every_ticker(run: Run) -> None:
    run.done("InsertOhlcv", "A", 1)
    run.done("InsertOhlcv", "B", 1, run_id="run-0")
    run.failed("InsertOhlcv", "C", "network", "x")
    run.expect("InsertOhlcv", "D")

    (step,) = (item for item in run.document()["steps"] if item["step"] == "InsertOhlcv")

    assert step["processed"] == step["succeeded"] + step["failed"] == 2
    assert step["succeeded"] + step["failed"] + step["skipped"] + step["blocked"] == 4


def test_failures_are_grouped_by_kind_with_a_remedy_the_commonest_first(run: Run) -> None:
    run.failed("DownloadOhlcv", "B", "no_such_ticker", "x")
    for ticker in ("D", "C"):
        run.failed("DownloadOhlcv", ticker, "network", "x")
    run.failed("InsertOhlcv", "C", "network", "again")
    run.ledger.fail(Step("GetTickers_1", "GetTickers", "run-1"), "a_new_kind", "x")

    groups = run.document()["failures_by_kind"]

    assert [(group["kind"], group["count"], group["tickers"]) for group in groups] == [
        ("network", 3, ["C", "D"]),
        ("no_such_ticker", 1, ["B"]),
        ("a_new_kind", 1, ["GetTickers"]),
    ]
    assert [bool(group["remedy"]) for group in groups] == [True, True, False]


def test_a_reason_does_not_name_the_ticker_that_it_stands_beside(run: Run) -> None:
    run.failed("DownloadOhlcv", "BBB", "no_such_ticker", "BBB: Yahoo has no such ticker: 'BBB: gone'")
    run.failed("DownloadOhlcv", "CCC", "wrong_answer", "CCCC: is about another one")

    document = run.document()

    reasons = ["Yahoo has no such ticker: 'BBB: gone'", "CCCC: is about another one"]
    assert [failure["reason"] for failure in document["failures"]] == reasons
    assert [ticker["reason"] for ticker in document["by_ticker"]] == reasons


def test_quarantined_bars_are_told_with_their_rules(run: Run) -> None:
    rows = [{"date": "2024-01-02", "rules": "prices are above 0"}]
    run.done("ValidateOhlcv", "AAA", 29, rows=rows)

    document = run.document()

    assert document["quarantine"] == [{"ticker": "AAA", "rows": rows}]
    assert document["by_ticker"][0]["quarantined"] == 1


def test_a_file_whose_process_died_before_it_could_say_so_tells_what_was_quarantined(run: Run) -> None:
    rows = [{"date": "2024-01-02", "rules": "prices are above 0"}]
    run.expect("ValidateOhlcv", "AAA", receipt=(29, {"rows": rows}))

    document = run.document()

    assert counts(document, "ValidateOhlcv") == {"skipped": 1, "rows": 29}
    assert document["quarantine"] == [{"ticker": "AAA", "rows": rows}]


def test_a_file_does_not_make_good_a_failure_of_this_run(run: Run) -> None:
    run.ledger.fail(run.expect("ValidateOhlcv", "AAA", receipt=(29, {})), "data_invalid", "x")

    assert states(run.document()) == {"AAA": "failed"}


def test_what_is_stored_is_counted_in_the_tables(run: Run) -> None:
    client = YfinanceClient(run.url)
    for ticker in ("AAA", "BBB", "CCC", "DDD"):
        client.insert_security(ticker, [])
    client.insert_ohlcv("AAA", make_bars(days=5))
    client.insert_ohlcv("BBB", make_bars(days=2, last="2024-03-18"))
    client.insert_ohlcv("CCC", make_bars(days=2, last="2020-03-18"))
    for day in (1, 2):
        client.insert_metadata("AAA", {"longName": "A", "sector": "Energy"}, as_of=dt.date(2024, 1, day))
    run.done("InsertOhlcv", "AAA", 5)
    for ticker in ("BBB", "DDD"):
        run.expect("InsertOhlcv", ticker, receipt=(0, {}))

    document = run.document()

    assert document["stored"] == {
        "bars": 7,
        "tickers_with_bars": 2,
        "tickers_with_company_data": 1,
        "first_session": "2024-03-11",
        "last_session": "2024-03-18",
    }
    assert {item["ticker"]: (item["bars"], item["last"]) for item in document["by_ticker"]} == {
        "AAA": (5, "2024-03-15"),
        "BBB": (2, "2024-03-18"),
        "DDD": (0, None),
    }


def test_bars_are_not_counted_by_a_run_that_had_nothing_to_do(run: Run) -> None:
    client = YfinanceClient(run.url)
    client.insert_security("AAA", [])
    client.insert_ohlcv("AAA", make_bars(days=5))
    run.expect("InsertOhlcv", "AAA", receipt=(0, {}))

    document = run.document()

    assert (document["stored"]["bars"], document["by_ticker"][0]["bars"]) == (None, None)
    assert (document["stored"]["tickers_with_bars"], document["stored"]["first_session"]) == (1, "2024-03-11")
    assert render.bars_of(document["stored"]) == "bars of 1 ticker"


def test_nothing_is_stored_before_anything_is(run: Run) -> None:
    assert run.document()["stored"] == {
        "bars": None,
        "tickers_with_bars": 0,
        "tickers_with_company_data": 0,
        "first_session": None,
        "last_session": None,
    }


def test_the_document_is_json_and_can_be_shown(run: Run) -> None:
    run.done("InsertOhlcv", "AAA", 7)
    run.failed("DownloadOhlcv", "BBB", "network", "<script>\0")
    settled = {"rejected": [], "outcome": "incomplete", "interrupted_by": "", "written_at": "now", "gave_up": ""}
    document = run.document() | settled
    document |= {"where": {}, "data_docs": "", "coverage_in": "", "history": []}
    document["changes"] = changes(run.url, document, [])

    again = json.loads(json.dumps(document, allow_nan=False))

    assert again == document
    assert "1 of 2 tickers are not done" in render.page(again)
    assert "1 of 2 tickers are not done" in render.terminal(again, "page.html")


def kinds(document: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["kind"], each["ticker"]) for each in document["findings"]]


def test_findings_are_ordered_and_counted(run: Run) -> None:
    run.done("InsertOhlcv", "BBB", 1, missing=["2024-01-01"])
    run.done("InsertOhlcv", "CCC", 1, missing=["2024-01-01"])
    run.done("ValidateOhlcv", "CCC", 1, flagged=[{"date": None, "rule": "no split is missing", "severity": "warning"}])
    run.done("ValidateOhlcv", "AAA", 1, waiting=[{"date": "2024-01-02", "rules": ["x"]}])

    document = run.document()

    assert kinds(document) == [
        ("split missing", "CCC"),
        ("sent no more", "BBB"),
        ("sent no more", "CCC"),
        ("waiting", "AAA"),
    ]
    counts = [(each["kind"], each["gravity"], each["count"], each["tickers"]) for each in document["findings_by_kind"]]
    assert counts == [("split missing", 1, 1, 1), ("sent no more", 2, 2, 2), ("waiting", 3, 1, 1)]


def test_a_bar_that_waits_is_not_in_quarantine(run: Run) -> None:
    bad = {"date": "2023-12-28", "rules": "x"}
    waiting = [{"date": "2024-01-01", "rules": ["x"]}]
    rows = [bad, {"date": "2024-01-01", "rules": "x"}, {"date": "2024-01-02", "rules": "x", "provisional": True}]
    run.done("ValidateOhlcv", "AAA", 1, rows=rows, waiting=waiting)
    run.done("ValidateOhlcv", "BBB", 1, rows=rows[1:], waiting=waiting)

    document = run.document()

    assert document["quarantine"] == [{"ticker": "AAA", "rows": [bad]}]
    assert [state["quarantined"] for state in document["by_ticker"]] == [1, 0]
    assert kinds(document) == [("waiting", "AAA"), ("waiting", "BBB")]


def test_what_was_found_out_about_an_answer_that_is_not_stored_is_no_finding(run: Run) -> None:
    flagged = [{"date": None, "rule": "no split is missing", "severity": "warning"}]
    for ticker in ("AAA", "BBB", "CCC"):
        run.done("ValidateOhlcv", ticker, 1, flagged=flagged)
    run.failed("InsertOhlcv", "AAA", "wrong_answer", "x")
    run.expect("InsertOhlcv", "BBB")

    assert kinds(run.document()) == [("split missing", "CCC")]


def test_what_is_as_it_should_be_is_counted(run: Run) -> None:
    run.done("InsertOhlcv", "AAA", 1, refilled=["2024-01-01", "2023-12-29"], revised={"settled": 1})
    run.done("InsertOhlcv", "BBB", 1, refilled=["2024-01-01"], revised={"settled": 1, "split": 2})
    run.done("InsertOhlcv", "CCC", 1, run_id="run-0", refilled=["2024-01-01"])

    document = run.document()

    assert document["findings"] == []
    assert document["routine"] == {"refilled": 3}
    assert document["revised"] == {"settled": 2, "split": 2}


def test_a_session_off_the_calendar_that_was_traded_is_none_to_doubt(run: Run) -> None:
    market = Market(run.url)
    saturdays = [dt.date(2023, 12, 23), dt.date(2023, 12, 30)]
    for ticker in ("AAA", "BBB"):
        security = market.add(ticker, saturdays, "NSI")
    # The second of BBB is its Friday, moved.
    market.note(security, DAY, [dt.date(2023, 12, 29)], dt.date(2023, 12, 29), dt.date(2023, 12, 29))
    for ticker in ("AAA", "BBB"):
        run.done("InsertOhlcv", ticker, 2, off_calendar=list(map(str, saturdays)), calendar="XBOM")

    document = run.document()

    closed = [each["finding"] for each in document["findings"] if each["kind"] == "off calendar"]
    assert closed == ["1 bar of days on which XBOM is closed: 2023-12-30"]
    assert document["routine"] == {"special": 3}


def repair(url: str, ticker: str, day: dt.date, column: str, rule: str, until: dt.date | None = None) -> None:
    row = {"date": day, "column": column, "as_of": dt.date(2023, 6, 1), "until": until, "rule": rule}
    with engine_for(url).begin() as connection:
        security = connection.scalar(sa.select(securities.c.security_id).filter_by(ticker=ticker))
        connection.execute(sa.insert(repairs).values(security_id=security, old=4.0, new=1.0, evidence="4 in 1", **row))


def test_repairs_that_hold_are_told_by_their_table_of_the_runs_tickers_alone(run: Run) -> None:
    market = Market(run.url)
    for ticker in ("AAA", "BBB", "CCC"):
        market.add(ticker, exchange=None)
    for column in ("close", "open"):
        repair(run.url, "AAA", dt.date(2020, 1, 2), column, "no split is missing")
    repair(run.url, "BBB", DAY, "close", "x", until=DAY)
    repair(run.url, "CCC", DAY, "close", "x")
    noted = {"values": 1, "bars": 1, "first": str(DAY), "last": str(DAY), "evidence": "of the tail alone"}
    run.done("InsertOhlcv", "AAA", 2, repairs={"no split is missing": noted})
    run.done("InsertOhlcv", "BBB", 2)

    (found,) = run.document()["findings"]

    words = "repaired=True gives 2 values of 1 bar of 2020-01-02 mended: 4 in 1"
    assert found == {"ticker": "AAA", "kind": "split missing", "gravity": 1, "finding": words, "repaired": True}


def outage(run: Run, lacking: int, having: int, as_of: dt.date) -> list[str]:
    """An exchange's securities, of which so many lack the session of 2023-12-28; they are in the run in their order."""
    return Market(run.url).lost(dt.date(2023, 12, 28), lacking, having, as_of)


@pytest.mark.parametrize(
    ("of_the_run", "noticed", "kind", "words"),
    [
        (
            slice(0, 15),
            DAY,
            "outage",
            "12 of 15 securities have no bar of 2023-12-28: an outage of the source; for two",
        ),
        (slice(5, 15), DAY, "outage", "7 of 10 securities have no bar of 2023-12-28: an outage of the source; for two"),
        (
            slice(0, 15),
            dt.date(2023, 12, 18),
            "outage for good",
            "12 of 15 securities have no bar of 2023-12-28: an outage of the source; the source has it no more",
        ),
    ],
)
def test_a_run_of_enough_securities_tells_of_the_providers_outage(
    run: Run, of_the_run: slice, noticed: dt.date, kind: str, words: str
) -> None:
    for ticker in outage(run, 12, 3, noticed)[of_the_run]:
        run.done("InsertOhlcv", ticker, 1)

    document = run.document()

    assert kinds(document) == [(kind, "NMS")]
    assert document["findings"][0]["finding"].startswith(words)
    (group,) = document["findings_by_kind"]
    assert (group["count"], group["tickers"]) == (1, len(range(*of_the_run.indices(12))))


@pytest.mark.parametrize("count", [1, 9])
def test_a_smaller_run_tells_of_its_own_tickers_alone(run: Run, count: int) -> None:
    tickers = outage(run, 30, 3, DAY)
    for ticker in tickers[-count:] if count > 3 else tickers[:1]:
        run.done("InsertOhlcv", ticker, 1)

    found = run.document()["findings"]

    lacking = count - 3 if count > 3 else 1
    words = "1 session without a bar, the next run asks for them again: 2023-12-28"
    assert [(each["kind"], each["finding"]) for each in found] == [("session missing", words)] * lacking
    assert not any("33" in json.dumps(each) or each["ticker"] == "NMS" for each in found)


def test_an_outage_that_is_still_asked_for_is_not_known_to_be_for_good(run: Run) -> None:
    tickers = outage(run, 12, 3, dt.date(2024, 1, 1))
    Market(run.url).ask_again(tickers[:12], dt.date(2023, 12, 28), DAY)
    run.done("InsertOhlcv", tickers[0], 1)

    (found,) = run.document()["findings"]

    assert found["kind"] == "session missing"


def test_exchanges_without_a_calendar_are_those_of_the_run(run: Run) -> None:
    market = Market(run.url)
    for ticker, exchange in (("AAA", "ATH"), ("BBB", "ATH"), ("CCC", "TLV"), ("DDD", "NMS")):
        market.add(ticker, [DAY], exchange)
    market.add("EEE", [dt.date(2023, 12, 1)], "ATH")
    for ticker in ("AAA", "BBB", "DDD"):
        run.done("InsertOhlcv", ticker, 1)

    (found,) = run.document()["findings"]

    assert (found["kind"], found["ticker"], found["tickers"]) == ("no calendar", "ATH", 2)


def test_a_ticker_is_behind_others_of_the_run_alone(run: Run) -> None:
    market = Market(run.url)
    for ticker in ("AAA", "BBB", "CCC"):
        market.add(ticker, [DAY], "ATH")
    market.add("OLD", [dt.date(2023, 12, 1)], "ATH")
    run.done("InsertOhlcv", "OLD", 1)

    assert ("behind", "OLD") not in kinds(run.document())

    for ticker in ("AAA", "BBB"):
        run.done("InsertOhlcv", ticker, 1)

    assert ("behind", "OLD") in kinds(run.document())
