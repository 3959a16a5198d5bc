"""What should be stored by now: a complete run not long ago, and the bars of the last session."""

from __future__ import annotations

import datetime as dt

import pytest
import sqlalchemy as sa

from luigi_tasks import YfinanceClient
from luigi_tasks.database.engine import engine_for
from luigi_tasks.database.ledger import Ledger, Marker, Step
from luigi_tasks.report.late import reasons
from tests.conftest import make_bars
from tests.webhook import PATH, Webhook
from tests.workspace import Workspace, free_port

# A Friday's run after New York's close, looked at on Saturday; Tokyo's last session is that Friday's, too.
FRIDAY = dt.datetime(2024, 3, 15, 23, 30, tzinfo=dt.UTC)
SATURDAY = dt.datetime(2024, 3, 16, 9, tzinfo=dt.UTC)
NONE = "no run of the whole universe has ended in the last"


class Stored:
    """Runs and bars of one database, as they were at a time of ours."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = YfinanceClient(url)

    def execute(self, statement: str, **values: object) -> None:
        with engine_for(self.url).begin() as connection:
            connection.execute(sa.text(statement), values)

    def run(
        self, started: dt.datetime, outcome: str = "complete", as_of: dt.date | None = None, *failed: str, **chosen: str
    ) -> None:
        """A run of the universe, or of what is `chosen`, in which these tickers failed."""
        run_id, day, ledger = f"run-{started}", as_of or started.date(), Ledger(self.url)
        ledger.begin_run(run_id, "RunAll", {"date": str(day), "tickers": "()", **chosen})
        for ticker in failed:
            ledger.fail(Step(f"{ticker} {day}", "DownloadOhlcv", run_id, ticker, day), "network", "x")
        ledger.finish_run(run_id, outcome, {"tickers": {"all": 9}, "failed": failed} if failed else {})
        self.execute(
            "UPDATE runs SET started_at = :started, finished_at = :ended, outcome = :outcome WHERE run_id = :run_id",
            started=started,
            ended=started + dt.timedelta(hours=1),
            outcome=outcome,
            run_id=run_id,
        )

    def bars(self, last: str, *tickers: str, exchange: str = "NMS", quote_type: str = "EQUITY") -> None:
        for ticker in tickers:
            self.client.insert_security(ticker, ["all"])
            self.client.insert_ohlcv(ticker, make_bars(days=5, last=last))
            self.execute(
                "UPDATE securities SET exchange = :exchange, quote_type = :quote_type WHERE ticker = :ticker",
                exchange=exchange,
                quote_type=quote_type,
                ticker=ticker,
            )

    def late(self, now: dt.datetime = SATURDAY, hours: float = 30) -> list[str]:
        return reasons(self.url, hours, now)


@pytest.fixture
def stored(database_url: str) -> Stored:
    return Stored(database_url)


def test_a_run_of_yesterday_with_its_bars_is_not_late(stored: Stored) -> None:
    stored.run(FRIDAY)
    stored.bars("2024-03-15", "AAA", "BBB")
    stored.bars("2024-03-15", "CCC", exchange="JPX")

    assert stored.late() == []


def test_a_session_that_ended_after_the_run_is_not_expected_of_it(stored: Stored) -> None:
    thursday = FRIDAY - dt.timedelta(days=1)
    stored.run(thursday)
    stored.bars("2024-03-14", "AAA")
    stored.bars("2024-03-14", "BBB", exchange="JPX")

    # Tokyo has closed since, at 06:00 UTC.
    assert stored.late(now=thursday + dt.timedelta(hours=10)) == []


def test_no_run_at_all_is_late(stored: Stored) -> None:
    assert stored.late() == ["no run of the whole universe has ended in the last 30 hours; there has been none yet"]


@pytest.mark.parametrize("outcome", ["incomplete", "interrupted"])
def test_a_run_that_was_not_complete_does_not_count(stored: Stored, outcome: str) -> None:
    stored.run(FRIDAY, outcome)

    assert stored.late() == [f"{NONE} 30 hours; the last one, run-{FRIDAY} as of 2024-03-15, is {outcome}"]


def test_a_run_that_ended_too_long_ago_is_late(stored: Stored) -> None:
    stored.run(FRIDAY)

    assert stored.late(hours=8.4) == [f"{NONE} 8.4 hours; the last one, run-{FRIDAY} as of 2024-03-15, is complete"]
    assert stored.late(hours=8.6) == []


def test_a_run_for_an_earlier_date_does_not_make_up_for_todays(stored: Stored) -> None:
    stored.run(FRIDAY)
    stored.bars("2024-03-15", "AAA")
    stored.run(SATURDAY + dt.timedelta(hours=40), as_of=dt.date(2020, 1, 2))

    (words,) = stored.late(now=SATURDAY + dt.timedelta(hours=48))
    assert words.startswith("no run of the whole universe has ended in the last 30 hours")
    # Nor does it ask for sessions that were over when it ran.
    stored.run(SATURDAY, as_of=dt.date(2020, 1, 2))
    assert stored.late() == []


def test_a_run_of_a_few_tickers_makes_the_universe_neither_late_nor_up_to_date(stored: Stored) -> None:
    stored.run(FRIDAY - dt.timedelta(days=1))
    for hours, (outcome, chosen) in enumerate(
        [("complete", {"tickers": "AAA"}), ("complete", {"groupings": "dax"}), ("complete", {"ticker_limit": "5"})]
    ):
        stored.run(FRIDAY + dt.timedelta(hours=hours), outcome, None, **chosen)
    assert stored.late() == [
        f"{NONE} 30 hours; the last one, run-{FRIDAY - dt.timedelta(days=1)} as of 2024-03-14, is complete"
    ]

    stored.run(FRIDAY + dt.timedelta(hours=4))
    stored.run(FRIDAY + dt.timedelta(hours=5), "incomplete", None, "ZZZ", tickers="ZZZ")
    assert stored.late() == []


def test_a_ticker_that_failed_is_late_once(stored: Stored) -> None:
    days = [FRIDAY + dt.timedelta(days=number) for number in range(3)]
    stored.run(days[0], "incomplete", None, "GONE")
    first = stored.late(now=days[0] + dt.timedelta(hours=9))
    stored.run(days[1], "incomplete", None, "GONE", "AAA", "BBB")
    second = stored.late(now=days[1] + dt.timedelta(hours=9))
    stored.run(days[2], "incomplete", None, "GONE", "AAA", "BBB")
    third = stored.late(now=days[2] + dt.timedelta(hours=9))

    failed = "failed in the last run of the universe"
    assert first == [f"1 ticker {failed}, run-{days[0]}, and not in the one before: GONE (network)"]
    named = "AAA (network), BBB (network); known from before: 1 ticker"
    assert second == [f"2 tickers {failed}, run-{days[1]}, and not in the one before: {named}"]
    assert third == []


def test_a_ticker_that_was_done_by_a_retry_is_not_late(stored: Stored) -> None:
    stored.run(FRIDAY, "incomplete", None, "AAA")
    done = Step("x", "InsertOhlcv", "a retry", "AAA", FRIDAY.date())
    Ledger(stored.url).mark(Marker(done, 1))

    assert stored.late() == []


def test_many_new_failures_are_named_in_part(stored: Stored) -> None:
    stored.run(FRIDAY, "incomplete", None, *(f"T{number}" for number in range(9)))

    (words,) = stored.late()
    assert words.endswith(", T7 (network), …")


def test_bars_behind_the_exchanges_last_session_are_late_though_a_run_was_complete(stored: Stored) -> None:
    stored.run(FRIDAY)
    stored.bars("2024-03-14", "AAA", "BBB")
    stored.bars("2024-03-15", "CCC")
    stored.bars("2024-03-15", "DDD", exchange="JPX")

    assert stored.late() == [
        "NMS: 1 of 3 tickers have a bar of 2024-03-15, the last session to be expected; 2 end on 2024-03-14"
    ]


def test_a_funds_value_of_the_last_session_is_not_expected_yet(stored: Stored) -> None:
    stored.run(FRIDAY)
    stored.bars("2024-03-14", "FUND1", "FUND2", exchange="NAS", quote_type="MUTUALFUND")
    stored.bars("2024-03-15", "ETF", exchange="NAS", quote_type="ETF")
    assert stored.late() == []

    stored.bars("2024-03-13", "FUND3", "FUND4", "FUND5", "FUND6", exchange="NAS", quote_type="MUTUALFUND")
    assert stored.late() == [
        "NAS: 3 of 7 tickers have a bar of 2024-03-15, the last session to be expected; 4 end on 2024-03-13"
    ]


def test_a_session_that_ended_minutes_before_the_run_may_be_left_out_as_delayed(stored: Stored) -> None:
    ends = dt.datetime(2024, 3, 15, 20, tzinfo=dt.UTC)
    stored.run(ends + dt.timedelta(minutes=44))
    stored.bars("2024-03-14", "AAA")
    assert stored.late() == []

    stored.run(ends + dt.timedelta(minutes=45))
    assert len(stored.late()) == 1


def test_only_tickers_that_may_have_new_bars_are_looked_at(stored: Stored) -> None:
    stored.run(FRIDAY)
    stored.bars("2024-03-15", "AAA")
    stored.bars("2024-02-01", "LEFT", "RENAMED", "DENIED", "UNKNOWN")
    stored.execute(
        "UPDATE security_groupings SET valid_to = valid_from + 1 "
        "WHERE security_id = (SELECT security_id FROM securities WHERE ticker = 'LEFT')"
    )
    stored.execute("UPDATE securities SET successor = 'AAA' WHERE ticker = 'RENAMED'")
    stored.execute("INSERT INTO absences (ticker, day, confirmed) VALUES ('DENIED', '2024-03-15', true)")
    stored.execute("UPDATE securities SET exchange = 'ATH' WHERE ticker = 'UNKNOWN'")

    assert stored.late() == []


def test_the_command_says_so_exits_with_1_and_tells_the_webhook(workspace: Workspace) -> None:
    with Webhook() as webhook:
        workspace.environment["ALERT_WEBHOOK_URL"] = webhook.url
        assert workspace.command("up").returncode == 0
        none_yet = workspace.command("late", "--hours", "30")
        workspace.use_files({"AAA": make_bars()})
        assert workspace.run("--years-back", "1").code == 30, "the bars are older than that"
        workspace.query("UPDATE runs SET outcome = 'complete', summary = NULL RETURNING run_id")
        on_time = workspace.command("late")
        workspace.database_url = f"postgresql://me:s3cret@127.0.0.1:{free_port()}/none"
        down = workspace.command("late")

    assert none_yet.returncode == 1
    assert none_yet.stdout == (
        "late: no run of the whole universe has ended in the last 30 hours; there has been none yet\n"
    )
    assert (on_time.returncode, on_time.stdout) == (0, "not late\n")
    assert down.returncode == 1
    assert "does not answer" in down.stdout
    assert ["there has been none yet" in text or "does not answer" in text for text in webhook.texts] == [
        True,
        False,
        True,
    ]
    assert "s3cret" not in str(webhook.posts) + down.stdout + down.stderr
    assert PATH not in none_yet.stderr + down.stderr
