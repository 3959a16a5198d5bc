"""What a message says, how it is sent, and that the webhook's URL shows nowhere."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luigi_tasks import settings
from luigi_tasks.errors import ConfigurationError, NetworkFailure, ProviderDown, SecuritiesMasterError
from luigi_tasks.report import alert
from luigi_tasks.settings import Secret
from tests.report.documents import document as plain
from tests.report.documents import of_text as document
from tests.webhook import Webhook
from tests.workspace import free_port


def test_a_message_arrives_as_it_was_written() -> None:
    with Webhook() as webhook:
        alert.send(Secret(webhook.url), "É &lt;b&gt;\n• two")

    assert webhook.posts == [{"text": "É &lt;b&gt;\n• two"}]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_refusal_is_tried_once_more(status: int) -> None:
    with Webhook((status, "later")) as webhook:
        alert.send(Secret(webhook.url), "late")

    assert len(webhook.posts) == 2


@pytest.mark.parametrize(
    ("answers", "error", "words"),
    [
        ([(404, "no_service")], ConfigurationError, "answered 404 no_service. See ALERT_WEBHOOK_URL."),
        ([(302, "")], ConfigurationError, "answered 302. See ALERT_WEBHOOK_URL."),
        ([(403, "<p>/services/T0/B0/s3cret</p>")], ConfigurationError, "answered 403. See ALERT_WEBHOOK_URL."),
        ([(500, "")] * 2, ProviderDown, "answered 500"),
    ],
)
def test_a_refusal_is_told_without_the_url(
    answers: list[tuple[int, str]], error: type[SecuritiesMasterError], words: str
) -> None:
    with Webhook(*answers) as webhook, pytest.raises(error) as raised:
        alert.send(Secret(webhook.url), "late")

    assert str(raised.value) == f"the webhook: {words}"
    assert len(webhook.posts) == len(answers)


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "s3cret.invalid", "[s3cret", "127.0.0.1:s3cret"])
def test_a_webhook_out_of_reach_is_told_without_the_url(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert, "_WAIT_SECONDS", 0.0)
    for name in ("http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    url = f"http://{host.format(port=free_port())}/services/s3cret"

    with pytest.raises(NetworkFailure) as raised:
        alert.send(Secret(url), "late")

    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


def test_telling_never_fails_and_says_in_one_line_that_nobody_heard(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for url, words in (
        ("ftp://s3cret", "ALERT_WEBHOOK_URL: does not begin with http:// or https:// and a host"),
        (f"http://127.0.0.1:{free_port()}/s3cret", "the webhook: gave no answer"),
    ):
        monkeypatch.setenv("ALERT_WEBHOOK_URL", url)
        caplog.clear()

        alert.tell("late")

        warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert [words in record.getMessage() for record in warnings] == [True]
        assert "s3cret" not in caplog.text


@pytest.mark.parametrize(("wanted", "heard"), [("never", 0), ("failure", 1), ("always", 2)])
def test_who_wants_to_hear_what_is_a_setting(wanted: str, heard: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with Webhook() as webhook:
        monkeypatch.setenv("ALERT_WEBHOOK_URL", webhook.url)
        monkeypatch.setattr(settings, "Alerts", lambda: type("", (), {"webhook_on": wanted}))

        alert.tell("it failed")
        alert.tell("it did not", failure=False)

    assert len(webhook.posts) == heard


def test_another_word_for_when_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "Alerts", lambda: type("", (), {"webhook_on": "sometimes"}))

    with pytest.raises(ConfigurationError, match="'sometimes' is not never, failure or always"):
        settings.alerting()


def test_a_message_names_each_kind_with_its_remedy_and_a_reason() -> None:
    kinds = [
        {"kind": f"kind_{n}", "count": 10, "remedy": f"Do {n}.", "tickers": [f"T{n}{m}" for m in range(9)]}
        for n in range(8)
    ]
    told = document("x") | {"failures_by_kind": kinds, "outcome": "incomplete"}
    told["failures"] = [
        {"ticker": ticker, "step": "DownloadOhlcv", "kind": f"kind_{n}", "reason": f"because of {ticker}"}
        for n in range(8)
        for ticker in (f"T{n}0", f"T{n}1")
    ]

    lines = alert.ended(told, Path("/var/report.html")).splitlines()

    assert "incomplete*: 1 of 1 tickers are not done; 0 are." in lines[0]
    assert lines[2:5] == [
        "• *kind_0* (9): T00, T01, T02, T03, T04, T05, T06, T07, …",
        "    Do 0.",
        "    T00: because of T00",
    ]
    assert lines[-4:] == [
        "• and 2 more kinds (18)",
        "findings of the gravest: x (1)",
        "stored: 1,234 bars of 1 ticker, up to 2023-12-29",
        "report: /var/report.html",
    ]


def of_failures(*tickers: str, **changes: Any) -> dict[str, Any]:
    """The report of a run in which these failed, and one other was done."""
    failures = [{"ticker": ticker, "step": "DownloadOhlcv", "kind": "network", "reason": "x"} for ticker in tickers]
    kinds = [{"kind": "network", "count": len(tickers), "remedy": "Check.", "tickers": list(tickers)}]
    counts = {"done": 1, "failed": len(tickers), "all": 1 + len(tickers)}
    return plain(tickers=counts, failures=failures, failures_by_kind=kinds, **changes)


def test_a_message_names_what_is_new_and_counts_what_is_known() -> None:
    told = of_failures("GONE", "AAA", "OLD", changes={"new": ["AAA"], "known": ["GONE", "OLD"]})

    lines = alert.ended(told, Path("/var/report.html")).splitlines()

    assert lines[2:6] == ["• *network* (1): AAA", "    Check.", "    AAA: x", "known from before: 2 tickers"]
    assert "GONE" not in "".join(lines)


def test_a_message_without_news_says_so() -> None:
    told = of_failures("GONE", changes={"new": [], "known": ["GONE"]})

    assert alert.ended(told, Path("/var/report.html")).splitlines()[2] == (
        "nothing new failed; known from before: 1 ticker"
    )


KNOWN: dict[str, Any] = {"changes": {"new": [], "known": ["GONE"]}}
OF_THE_RUN = {"ticker": None, "step": "RecordUniverse", "kind": "database_refused", "reason": "x"}


@pytest.mark.parametrize(
    ("changes", "news"),
    [
        (KNOWN, False),
        ({"changes": {"new": ["AAA"], "known": ["GONE"]}}, True),
        ({"changes": {}}, True),
        (KNOWN | {"outcome": "interrupted"}, True),
        (KNOWN | {"gave_up": "Yahoo Finance: throttled"}, True),
        (KNOWN | {"tickers": {"all": 3, "done": 1, "failed": 1, "blocked": 1}}, True),
        (KNOWN | {"tickers": {"all": 0}}, True),
        (KNOWN | {"failures": [OF_THE_RUN]}, True),
        ({"outcome": "complete"}, False),
    ],
    ids=str,
)
def test_a_run_is_news_unless_it_got_to_its_end_and_what_failed_is_known(changes: dict[str, Any], news: bool) -> None:
    assert alert.is_news(of_failures("GONE") | changes) is news


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_text_from_outside_is_text_in_the_message(text: str) -> None:
    for message in (
        alert.ended(document("x") | {"failures": [{"ticker": text, "step": "x", "kind": "x", "reason": text}]}, Path()),
        alert.cannot_begin(ConfigurationError("x", text)),
        alert.no_report("x", ValueError(text)),
        alert.late([text]),
    ):
        assert not set("<>").intersection(message)
        assert message.count("&") == message.count("&amp;") + message.count("&lt;") + message.count("&gt;")
        assert message.count("@") == message.count("@\N{ZERO WIDTH SPACE}")
        assert all(line.isprintable() or "\N{ZERO WIDTH SPACE}" in line for line in message.splitlines())
        assert len(message) < 4000


def test_a_message_of_the_longest_texts_is_short_enough() -> None:
    long = "&" * 5000
    kinds = [{"kind": f"k{n}", "count": 1, "remedy": "x" * 100, "tickers": [long] * 9} for n in range(9)]
    failures = [{"ticker": long, "step": long, "kind": f"k{n}", "reason": long} for n in range(9)]
    told = document("x") | {"failures_by_kind": kinds, "failures": failures, "gave_up": long, "outcome": "incomplete"}

    assert len(alert.ended(told, Path(long)).replace("&amp;", "&")) < 6000
