"""Luigi's own mails: it sends one for each of its tasks that failed, which here are batches."""

from __future__ import annotations

import email
from collections.abc import Iterator
from email.message import Message
from typing import Any, cast

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from tests.conftest import make_bars
from tests.webhook import PATH
from tests.workspace import Workspace, free_port

ARGUMENTS = ("--date", "2024-03-15", "--years-back", "1")


class Mailbox:
    """Keeps what it is sent, over real SMTP."""

    def __init__(self) -> None:
        self.mails: list[Message] = []

    def admit(self, server: Any, session: Any, envelope: Any, mechanism: str, given: Any) -> AuthResult:
        return AuthResult(success=(given.login, given.password) == (b"me", b"s3cret-mail"))

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802, the name is aiosmtpd's
        self.mails.append(email.message_from_bytes(envelope.content))
        return "250 OK"


@pytest.fixture
def mailbox(workspace: Workspace) -> Iterator[Mailbox]:
    box, port = Mailbox(), free_port()
    workspace.set("email", receiver="me@example.com", sender="securities@example.com")
    workspace.set("smtp", host="127.0.0.1", port=str(port), username="me", password="${SMTP_PASSWORD}")
    workspace.environment["SMTP_PASSWORD"] = "s3cret-mail"
    server = Controller(
        box, hostname="127.0.0.1", port=port, authenticator=box.admit, auth_required=True, auth_require_tls=False
    )
    server.start()
    try:
        yield box
    finally:
        server.stop()


def test_a_failed_ticker_is_mailed_without_any_secret(workspace: Workspace, mailbox: Mailbox) -> None:
    # The server asks for no password, and takes any.
    workspace.database_url = workspace.database_url.replace("postgres:@", "postgres:s3cret@")
    assert "s3cret" in workspace.database_url
    workspace.environment["ALERT_WEBHOOK_URL"] = f"http://127.0.0.1:{free_port()}{PATH}"
    workspace.use_files({"AAA": make_bars()})
    workspace.universe.write_text("groupings:\n  all: {tickers: [AAA, GONE]}\n")

    run = workspace.run(*ARGUMENTS)

    assert run.code == 30, run
    (mail,) = mailbox.mails
    assert mail["To"] == "me@example.com"
    assert mail["Subject"].replace("\n", "").startswith("Luigi: OhlcvPipeline(date=2024-03-15, ticker=GONE, ")
    (part,) = cast("list[Message]", mail.get_payload())
    text = cast("bytes", part.get_payload(decode=True)).decode()
    assert "GONE: DownloadOhlcv failed" in text
    assert "--module luigi_tasks RunAll --workers 20 --date 2024-03-15" in text
    assert "s3cret" not in mail.as_string() + text + run.out + run.err


def test_a_mail_server_out_of_reach_changes_nothing_about_the_run(workspace: Workspace) -> None:
    workspace.set("email", receiver="me@example.com")
    workspace.set("smtp", host="127.0.0.1", port=str(free_port()))
    workspace.use_files({"AAA": make_bars()})
    workspace.universe.write_text("groupings:\n  all: {tickers: [AAA, GONE]}\n")

    run = workspace.run(*ARGUMENTS)

    assert run.code == 30, run
    assert run.err.count("Not able to connect to smtp server") == 1
    assert "1 of 2 tickers are not done" in run.out
