"""A run that ends, cannot begin, or is ended tells the webhook; what comes of that is nothing to the run."""

from __future__ import annotations

import signal

import pytest

from tests.conftest import make_bars
from tests.end_to_end.test_kill import kill_after_markers, prepare
from tests.webhook import PATH, Webhook
from tests.workspace import Workspace, free_port

ARGUMENTS = ("--date", "2024-03-15", "--years-back", "1")


@pytest.fixture
def webhook(workspace: Workspace) -> Webhook:
    made = Webhook()
    workspace.environment["ALERT_WEBHOOK_URL"] = made.url
    return made


def everything_written(workspace: Workspace) -> str:
    logs = [*(workspace.store / "logs").iterdir(), *(workspace.store / "reports/latest/").iterdir()]
    return "".join(path.read_text() for path in [*logs, workspace.store / "luigid/luigid.log"] if path.is_file())


def test_a_failure_is_told_with_its_remedy_and_a_success_is_not(workspace: Workspace, webhook: Webhook) -> None:
    workspace.use_files({"AAA": make_bars()})
    with webhook:
        good = workspace.run(*ARGUMENTS)
        workspace.universe.write_text("groupings:\n  all: {tickers: [AAA, GONE]}\n")
        bad = workspace.run(*ARGUMENTS)
        known = workspace.run(*ARGUMENTS)
        luigid = workspace.luigid()

    assert (good.code, bad.code, known.code) == (0, 30, 30), (good, bad, known)
    (text,) = webhook.texts
    assert "incomplete*: 1 of 2 tickers are not done; 1 are." in text
    assert "• *no_such_ticker* (1): GONE\n    The source says it has no such ticker." in text
    assert f"report: {workspace.store}/reports/" in text
    assert "stored: 30 bars of 1 ticker, up to 2024-03-15" in text
    assert PATH not in bad.out + bad.err + everything_written(workspace)
    assert luigid is not None
    assert {"ALERT_WEBHOOK_URL", "DATABASE_URL"}.isdisjoint(luigid.environ())


def test_a_webhook_out_of_reach_changes_nothing_about_the_run(workspace: Workspace) -> None:
    workspace.use_files({"AAA": make_bars()})
    workspace.set("Alerts", webhook_on="always")
    workspace.environment["ALERT_WEBHOOK_URL"] = f"http://127.0.0.1:{free_port()}{PATH}"

    run = workspace.run(*ARGUMENTS)

    assert run.code == 0, run
    assert run.err.count("nobody was told how it went: the webhook: gave no answer") == 1
    assert "Traceback" not in run.err
    assert PATH not in run.out + run.err + everything_written(workspace)


def test_a_run_that_cannot_begin_tells_why(workspace: Workspace, webhook: Webhook) -> None:
    with webhook:
        no_luigid = workspace.run(*ARGUMENTS, services=False)
        workspace.set("History", whole_days="many")
        no_number = workspace.run(*ARGUMENTS, services=False)

    assert (no_luigid.code, no_number.code) == (35, 35), (no_luigid, no_number)
    first, second = webhook.texts
    assert f"cannot begin*: luigid at 127.0.0.1:{workspace.port}: does not answer" in first
    assert "cannot begin*: [History] in luigi.cfg: has a value that is not of its kind" in second
    assert "'whole_days'" in second


def test_a_webhook_that_is_none_is_said_before_the_run_begins(workspace: Workspace) -> None:
    workspace.environment["ALERT_WEBHOOK_URL"] = "s3cret"

    run = workspace.run(*ARGUMENTS, services=False)

    assert run.code == 35, run
    assert "ALERT_WEBHOOK_URL: does not begin with http:// or https:// and a host" in run.err
    assert "s3cret" not in run.out + run.err


def test_an_interrupted_run_tells_so(workspace: Workspace, webhook: Webhook) -> None:
    prepare(workspace)
    assert workspace.command("up").returncode == 0
    with webhook:
        kill_after_markers(workspace, signal.SIGTERM, 10)

    (text,) = webhook.texts
    assert "interrupted*: Interrupted by SIGTERM: " in text


def test_a_run_whose_report_cannot_be_written_tells_so(workspace: Workspace, webhook: Webhook) -> None:
    workspace.use_files({"AAA": make_bars()})
    workspace.store.mkdir()
    (workspace.store / "reports").write_text("a file")
    with webhook:
        run = workspace.run(*ARGUMENTS)

    assert run.code == 50, run
    (text,) = webhook.texts
    assert "no report*: run " in text
    assert "cannot be written (" in text
