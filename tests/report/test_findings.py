"""What is worth a look, of which kind and how grave; and what is as it should be, and none."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from luigi_tasks.report import findings
from tests.workspace import REPOSITORY

DAY = dt.date(2026, 11, 27)
RULE = "a split shows no more in the prices"
REPAIR = {"values": 8, "bars": 2, "first": "2026-11-23", "last": "2026-11-24", "evidence": "4 in 1 on 2026-11-25"}
REPAIRED = [
    {"date": day, "column": column, "rule": RULE, "old": 400.0, "new": 100.0, "evidence": "4 in 1 on 2026-11-25"}
    for day in ("2026-11-23", "2026-11-24")
    for column in ("open", "high", "low", "close")
]


def flag(rule: str, day: str | None = "2026-11-24", severity: str = "warning") -> dict[str, Any]:
    return {"date": day, "rule": rule, "value": 1.0, "threshold": "none", "severity": severity}


def of(detail: dict[str, Any]) -> list[tuple[str, int, str]]:
    found = findings.of_ticker("AAA", detail, DAY)
    assert {each["ticker"] for each in found} <= {"AAA"}
    return [(each["kind"], each["gravity"], each["finding"]) for each in found]


@pytest.mark.parametrize(
    ("detail", "kind", "gravity", "words"),
    [
        (
            {"waiting": [{"date": "2026-11-27", "rules": ["high is the highest price", "volume"]}]},
            "waiting",
            3,
            "the bar of 2026-11-27 waits for the source to settle it: it breaks 'high is the highest price; volume'",
        ),
        (
            {
                "stale_answer": {"date": "2026-11-27", "market_time": "2026-11-27T10:30:00+00:00"},
                "open_until": "2026-11-27T17:05:00+01:00",
                "unfinished": "2026-11-27",
            },
            "answer before the close",
            2,
            "the answer of Yahoo was of 10:30 UTC, before the close of 2026-11-27; a run after 16:05 UTC asks again",
        ),
        (
            {
                "stale_answer": {"date": "2026-11-27", "market_time": "10:30"},
                "open_until": "2026-11-28T05:30:00+05:00",
            },
            "answer before the close",
            2,
            (
                "the answer of Yahoo was of 10:30, before the close of 2026-11-27; "
                "a run after 2026-11-28 00:30 UTC asks again"
            ),
        ),
        (
            {"stale_answer": {"date": "2026-11-27", "market_time": "10:30"}},
            "answer before the close",
            2,
            "the answer of Yahoo was of 10:30, before the close of 2026-11-27; a later run asks again",
        ),
        (
            {
                "stale_answer": "2026-11-27T10:30:00+00:00",
                "unfinished": "2026-11-27",
                "open_until": "2026-11-27T17:05:00+00:00",
            },
            "answer before the close",
            2,
            "the answer of Yahoo was of 10:30 UTC, before the close of 2026-11-27; a run after 17:05 UTC asks again",
        ),
        (
            {"waiting": [{"date": "2026-11-27", "rules": "prices are above 0", "stored": False}]},
            "waiting",
            3,
            (
                "the bar of 2026-11-27 waits for the source to settle it, and is not stored until then: it breaks "
                "'prices are above 0'"
            ),
        ),
        (
            {"flagged": [flag("adjusted close, where known, is above 0 and finite", severity="critical")]},
            "adjusted close lost",
            1,
            "1 bar: 2026-11-24",
        ),
        (
            {"kept_company": {"as_of": "2026-11-20", "lacks": ["market_cap"]}},
            "company data kept",
            3,
            "the answer was poorer than what is stored, which stays (as of 2026-11-20; the answer lacks market cap)",
        ),
        ({"lacks": ["adj_close"]}, "columns lacking", 2, "the answer has no adj_close"),
        (
            {"vanished_actions": ["2024-02-09", "2024-05-10"]},
            "actions gone",
            2,
            "2 actions are not in the answer any more: 2024-02-09, 2024-05-10",
        ),
        (
            {"vanished_actions": [{"date": "2024-02-09", "kind": "dividends", "amount": 0.24}]},
            "actions gone",
            2,
            "1 action is not in the answer any more: 2024-02-09 dividends 0.24",
        ),
        (
            {"foreign_dividends": [{"date": "2024-02-09", "amount": 0.25, "currency": "USD"}]},
            "dividend in another currency",
            3,
            "1 dividend in another currency than the prices: 2024-02-09 0.25 USD",
        ),
        (
            {"actions_without_bar": [{"date": "2024-02-09", "kind": "stock_splits", "amount": 4.0}]},
            "action without a bar",
            3,
            "1 action of days without a bar: 2024-02-09 stock splits 4.0",
        ),
        ({"kept_company": True}, "company data kept", 3, "the answer was poorer than what is stored, which stays"),
        (
            {"kept_company": "no sector"},
            "company data kept",
            3,
            "the answer was poorer than what is stored, which stays (no sector)",
        ),
        ({"ends_early": "ends on x, though it traded on y"}, "ends early", 2, "ends on x, though it traded on y"),
        (
            {"missing": ["2024-02-09"]},
            "sent no more",
            2,
            "1 stored session is not in the answer any more: 2024-02-09",
        ),
        (
            {"off_calendar": ["2024-02-10"], "calendar": "XNYS"},
            "off calendar",
            3,
            "1 bar of days on which XNYS is closed: 2024-02-10",
        ),
        (
            {"refilled": ["2026-11-12", "2026-11-26"]},
            "came late",
            3,
            "1 session that had been missing came: 2026-11-12",
        ),
        (
            {"revised": {"restatement": 1}, "restated": ["2024-02-09", "2024-02-09"]},
            "restated",
            2,
            "1 bar from 2024-02-09 to 2024-02-09 was changed by the source, not by a split or dividend",
        ),
        (
            {"flagged": [flag("no split is missing")]},
            "split missing",
            1,
            "1 bar: 2026-11-24",
        ),
    ],
)
def test_what_a_step_has_noted_is_a_finding_of_its_kind(
    detail: dict[str, Any], kind: str, gravity: int, words: str
) -> None:
    assert of(detail) == [(kind, gravity, words)]


@pytest.mark.parametrize(
    ("detail", "counts"),
    [
        ({"revised": {"settled": 1}}, {}),
        ({"revised": {"split": 2519, "dividend": 2519, "accepted": 30}}, {}),
        ({"refilled": ["2026-11-26", "2026-11-13"]}, {"refilled": 2}),
        (
            {
                "unfinished": "2026-11-27",
                "open_until": "2026-11-27T21:00:00+00:00",
                "ends_early": "ends on 2026-11-26, though it traded on 2026-11-27",
            },
            {"unfinished": 1},
        ),
        ({"off_calendar": ["2026-11-08"], "special": ["2026-11-08"], "calendar": "XBOM"}, {"special": 1}),
        ({"rows": [{"date": "2026-11-26", "rules": "x"}], "findings": {"x": 1}, "new": ["2026-11-26"]}, {}),
    ],
)
def test_what_is_as_it_should_be_is_no_finding_but_a_count(detail: dict[str, Any], counts: dict[str, int]) -> None:
    assert of(detail) == []
    assert findings.routine(detail, DAY) == counts


@pytest.mark.parametrize(
    ("rule", "severity", "gravity"),
    [
        ("dividend and adjusted close agree", "warning", 1),
        ("a recorded split is in the prices", "warning", 1),
        ("a recorded split is in the prices", "info", 3),
        ("prices are in one unit", "warning", 1),
        ("close is cheap", "warning", 2),
        ("close is cheap", "info", 3),
        ("price moves only with volume", "info", 2),
    ],
)
def test_a_rule_is_as_grave_as_what_it_is_about_and_else_as_its_severity(
    rule: str, severity: str, gravity: int
) -> None:
    ((_, found, words),) = of({"flagged": [flag(rule, severity=severity), flag(rule, None, severity)]})

    assert found == gravity
    assert words == "2 bars: 2026-11-24, all"


def test_a_foreign_dividend_that_the_suite_has_flagged_is_told_once() -> None:
    foreign = [{"date": "2026-11-24", "amount": 0.25, "currency": "USD"}]

    rule = "dividends are in the currency of the prices"
    detail = {"foreign_dividends": foreign, "flagged": [flag(rule)]}

    words = "1 dividend in another currency than the prices: 2026-11-24 0.25 USD"
    assert of(detail) == [("dividend in another currency", 3, words)]
    ((kind, gravity, words),) = of(detail | {"repairs": {rule: REPAIR}})
    assert (kind, gravity) == ("dividend in another currency", 1)
    assert words.startswith("1 bar: 2026-11-24; repaired=True gives 8 values")


def test_every_rule_of_the_suite_that_only_flags_has_a_kind_with_words() -> None:
    suite = json.loads((REPOSITORY / "config" / "ohlcv_suite.json").read_text())
    flagging = [
        each["meta"]["rule"] for each in suite["expectations"] if each.get("severity", "critical") != "critical"
    ]

    assert [rule for rule in flagging if findings.of_rule(rule) not in findings.KINDS] == []


def test_rules_of_the_suite_that_flag_bars_have_a_kind_of_their_own() -> None:
    suite = json.loads((REPOSITORY / "config" / "ohlcv_suite.json").read_text())
    names = {item["meta"]["rule"] for item in suite["expectations"]}

    assert set(findings._RULES) <= names
    assert set(findings._RULES.values()) <= set(findings.KINDS)


@pytest.mark.parametrize("noted", [REPAIRED, {RULE: REPAIR}])
def test_repairs_are_told_alike_value_by_value_and_summed_up(noted: Any) -> None:
    words = "repaired=True gives 8 values of 2 bars from 2026-11-23 to 2026-11-24 mended: 4 in 1 on 2026-11-25"
    assert of({"repairs": noted}) == [(f"against '{RULE}'", 1, words)]


def test_what_is_flagged_and_repaired_is_one_finding_and_the_gravest() -> None:
    ((kind, gravity, words),) = of({"flagged": [flag(RULE, severity="info")], "repairs": REPAIRED})

    assert (kind, gravity) == (f"against '{RULE}'", 1)
    assert words.startswith("1 bar: 2026-11-24; repaired=True gives 8 values of 2 bars from ")


def test_a_repair_that_is_mostly_empty_can_be_told() -> None:
    assert of({"repairs": {RULE: {"values": 1}}})[0][:2] == (f"against '{RULE}'", 1)


def test_the_gravest_come_first_then_by_kind_and_ticker_none_twice() -> None:
    found = [
        findings.finding("B", "restated", "x"),
        findings.finding("C", "behind", "x"),
        findings.finding("A", "restated", "x"),
        findings.finding("Z", "split missing", "x"),
        findings.finding("A", "waiting", "x"),
        findings.finding("A", "restated", "x"),
    ]

    assert [(each["kind"], each["ticker"]) for each in findings.ordered(found)] == [
        ("split missing", "Z"),
        ("behind", "C"),
        ("restated", "A"),
        ("restated", "B"),
        ("waiting", "A"),
    ]


def test_kinds_are_counted_with_the_number_of_their_tickers() -> None:
    found = [
        findings.finding("A", "restated", "x"),
        findings.finding("A", "restated", "y"),
        findings.finding("B", "restated", "x"),
        findings.finding("NMS", "outage", "x", tickers=40),
        *findings.of_ticker("A", {"flagged": [flag("odd")], "repairs": {RULE: REPAIR}}, DAY),
    ]

    counted = [(each["kind"], each["gravity"], each["count"], each["tickers"]) for each in findings.by_kind(found)]

    assert counted == [
        (f"against '{RULE}'", 1, 1, 1),
        ("against 'odd'", 2, 1, 1),
        ("outage", 2, 1, 40),
        ("restated", 2, 3, 2),
    ]
    assert all(each["words"] for each in findings.by_kind(found))


def test_findings_from_before_there_were_kinds_are_of_one() -> None:
    (group,) = findings.by_kind([{"ticker": "A", "finding": "x"}, {"ticker": "B", "finding": "y"}])

    assert group == {"kind": "other", "gravity": 2, "count": 2, "tickers": 2, "words": ""}


def test_of_two_steps_the_later_one_has_the_last_word_where_it_says_something() -> None:
    earlier, later = {"waiting": [1], "repairs": [1, 2], "rows": []}, {"waiting": [], "repairs": {"x": {}}}

    assert findings.last_word([earlier, later]) == {"waiting": [1], "repairs": {"x": {}}, "rows": []}
