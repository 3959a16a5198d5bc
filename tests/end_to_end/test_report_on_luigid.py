"""luigid's page leads from a failed ticker to its row of the report, and shows nobody anything but reports."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from luigi.rpc import RemoteScheduler
from playwright.sync_api import Browser, Page

from luigi_tasks.database.engine import engine_for
from luigi_tasks.report import render
from tests.conftest import make_bars
from tests.report.documents import document, ticker
from tests.workspace import BIN, REPOSITORY, Workspace

ARGUMENTS = ("--date", "2024-03-15", "--years-back", "1")


@pytest.fixture
def failing(workspace: Workspace) -> Workspace:
    """A workspace of which one ticker has no bars."""
    workspace.use_files({"AAA": make_bars(seed=1), "BBB": make_bars(seed=2)})
    workspace.universe.write_text("groupings:\n  all: {tickers: [AAA, GONE, BBB]}\n")
    return workspace


@pytest.fixture
def up(workspace: Workspace) -> Workspace:
    """A workspace whose luigid runs, and which has had no run."""
    done = workspace.command("up", "--quiet")
    assert done.returncode == 0, done.stderr
    return workspace


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    yield context.new_page()
    context.close()


def address(workspace: Workspace) -> str:
    return f"http://127.0.0.1:{workspace.port}"


def tasks(workspace: Workspace, status: str) -> dict[str, dict[str, Any]]:
    """{family: a task of it}, as luigid tells of those of a status."""
    luigid: Any = RemoteScheduler(address(workspace))
    return {task["name"]: task for task in luigid.task_list(status, "").values()}


def ask(workspace: Workspace, path: str, method: str = "GET") -> tuple[http.client.HTTPResponse, bytes]:
    """The answer to a request for exactly this path."""
    connection = http.client.HTTPConnection("127.0.0.1", workspace.port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def report_of(workspace: Workspace, run_id: str, text: str | None = "text") -> Path:
    """A file as a run's report; with None, a run that has none yet."""
    folder = workspace.store / "reports" / run_id
    folder.mkdir(parents=True)
    if text is not None:
        (folder / "report.html").write_text(text)
    return folder / "report.html"


def test_from_luigids_page_a_click_leads_to_a_failed_tickers_row(failing: Workspace, page: Page) -> None:
    assert failing.run(*ARGUMENTS).code == 30

    page.goto(f"{address(failing)}/static/visualiser/index.html#search__search=GONE")
    step = page.locator("#taskTable tbody tr", has_text="DownloadOhlcv")
    with page.expect_popup() as opened:
        step.locator("a[title='Track Progress']").click()
    report = opened.value

    row = report.locator("#tickers tr.found")
    assert row.inner_text().startswith("GONE\tfailed")
    assert "there is no file for it" in row.inner_text()
    assert report.locator("#search").input_value() == "GONE"
    assert report.evaluate("origin") == "null"


def test_a_batch_links_to_the_report_while_it_runs(failing: Workspace, up: Workspace) -> None:
    # Nobody gets past this lock, so that the batch waits.
    with engine_for(failing.database_url).connect() as connection:
        connection.execute(sa.text("LOCK TABLE ohlcv IN ACCESS EXCLUSIVE MODE"))
        run = failing.start(*ARGUMENTS)
        running: dict[str, Any] = {}
        while not running.get("tracking_url") and run.poll() is None:
            running = tasks(failing, "RUNNING").get("OhlcvBatch", {})
        answer, words = ask(failing, str(running["tracking_url"]))
    run.communicate(timeout=120)

    [run_id] = failing.query("SELECT run_id FROM runs")
    assert running["tracking_url"] == f"/reports/{run_id}/report.html"
    assert answer.status == 202
    assert f"The report of run <code>{run_id}</code> is written when the run ends".encode() in words
    assert ask(failing, str(running["tracking_url"]))[0].status == 200


def test_before_the_run_has_ended_its_page_waits_and_then_shows_the_ticker(up: Workspace, page: Page) -> None:
    path = report_of(up, "run-1", None)
    page.goto(f"{address(up)}/reports/run-1/report.html#ticker=%5EX%2FY")
    assert page.get_by_role("heading").inner_text() == "There is no report yet"

    path.write_text(render.page(document(by_ticker=[ticker("AAA"), ticker("^X/Y")])), encoding="utf-8")

    assert page.locator("#tickers tr.found td").first.inner_text() == "^X/Y"


@pytest.mark.parametrize("which", ["started by hand", "of another store"])
def test_a_luigid_that_does_not_show_this_runs_report_is_given_no_link(failing: Workspace, which: str) -> None:
    if which == "started by hand":
        program = [str(BIN / "luigid"), "--address", "127.0.0.1", "--port", str(failing.port)]
        process = subprocess.Popen(program, cwd=REPOSITORY, env=failing.env(), stderr=subprocess.DEVNULL)
        (failing.store / "luigid").mkdir(parents=True)
        (failing.store / "luigid/pid").write_text(str(process.pid))
        while process.poll() is None and not _listens(failing):
            pass
    else:
        assert failing.command("up", "--quiet").returncode == 0
        (failing.folder / "other/luigid").mkdir(parents=True)
        os.link(failing.store / "luigid/pid", failing.folder / "other/luigid/pid")
        failing.set("Store", root=str(failing.folder / "other"))

    run = failing.run(*ARGUMENTS, services=False)

    assert run.code == 30, run
    assert tasks(failing, "FAILED")["DownloadOhlcv"]["tracking_url"] is None
    assert failing.command("status").stdout.count("/report.html") == 0


def _listens(workspace: Workspace) -> bool:
    try:
        return ask(workspace, "/")[0].status == 302
    except OSError:
        return False


def test_nothing_but_what_lies_in_the_folder_of_reports_is_shown(up: Workspace) -> None:
    path = report_of(up, "run-1")
    reports, secret = path.parent.parent, "what nobody is to see"
    (up.store / "secret").write_text(secret)
    (up.store / "reports-too").mkdir()
    (up.store / "reports-too/report.html").write_text(secret)
    (reports / "out").symlink_to(up.store)
    (reports / "run-1/out.html").symlink_to(up.store / "secret")
    (reports / "shown").symlink_to("run-1")
    (reports / ".hidden").mkdir()
    (reports / ".hidden/report.html").write_text(secret)
    (reports / "run-1/.hidden").write_text(secret)
    (reports / "led").symlink_to(".hidden")

    def asked(inner: str, method: str = "GET") -> int:
        answer, body = ask(up, f"/reports/{inner}", method)
        assert secret.encode() not in body
        return answer.status

    for inner in (
        "../secret", "..%2fsecret", "%2e%2e/secret", "run-1/../../secret", "..%5csecret", "../reports-too/report.html",
        "/etc/passwd", f"{quote(str(up.store), safe='')}%2fsecret", "out/secret", "run-1/out.html",
        ".hidden/report.html", "run-1/.hidden", "led/report.html", "led/", "", "run-1%00/report.html",
        "run-2/report.html", "%00",
    ):  # fmt: skip
        assert asked(inner) in (403, 404), inner
    assert [asked("run-1/report.html", method) for method in ("POST", "PUT", "DELETE")] == [405] * 3
    assert [asked(inner) for inner in ("run-1/report.html", "run-1/", "shown/report.html")] == [200] * 3


def test_a_report_that_is_written_again_is_not_taken_from_the_cache(up: Workspace) -> None:
    path = report_of(up, "run-1", "first")
    tags = [ask(up, "/reports/run-1/report.html")[0].getheader("Etag")]
    part = path.with_name("part")
    part.write_text("again")
    part.replace(path)

    answer, body = ask(up, "/reports/run-1/report.html")

    assert body == b"again"
    assert answer.getheader("Cache-Control") == "no-cache"
    assert answer.getheader("Etag") not in tags


def test_names_of_runs_are_escaped(up: Workspace) -> None:
    name = "<img src=x onerror=alert(1)>"
    report_of(up, name, None)

    answer, words = ask(up, f"/reports/{quote(name)}/report.html")

    assert answer.status == 202
    assert b"<img" not in words


def test_what_stands_in_a_report_sends_nothing_to_luigid(up: Workspace, page: Page) -> None:
    at = f"{address(up)}/api/pause?data={quote(json.dumps({}))}"
    report_of(
        up,
        "run-1",
        f"""<!doctype html><title>x</title><img src="{at}"><script src="{at}"></script>
        <link rel="stylesheet" href="{at}">
        <iframe src="{at}"></iframe><form action="{at}" method="post"><input></form><script>
        const gone = Promise.allSettled([fetch("{at}", {{mode: "no-cors"}}), fetch("/api/pause", {{method: "POST"}})]);
        navigator.sendBeacon("{at}"); document.forms[0].submit();
        gone.then((each) => document.title = each.map(({{status}}) => status).join());</script>""",
    )
    paused: Any = RemoteScheduler(address(up))

    page.goto(f"{address(up)}/reports/run-1/report.html")
    page.wait_for_function("document.title !== 'x'")

    assert page.title() == "rejected,rejected"
    assert paused.is_paused() == {"paused": False}
