"""luigid's page leads from a failed ticker to its row of the report, and shows nobody anything but reports."""

from __future__ import annotations

import datetime as dt
import http.client
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from luigi.rpc import RemoteScheduler
from playwright.sync_api import Browser, Page

from luigi_tasks import TickerPipeline
from luigi_tasks.database.engine import engine_for
from luigi_tasks.database.ledger import Ledger, Marker, Step
from luigi_tasks.report import render
from luigi_tasks.report.live import Live
from luigi_tasks.run.inline_runner import with_requirements
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
    # A red task is one that failed; what comes after it is not.
    page.goto(f"{address(failing)}/static/visualiser/index.html#search__search=GONE")
    page.reload()
    states = rows_of(page)
    assert states["DownloadOhlcv"] == states["OhlcvPipeline"] == "FAILED"
    assert {states[name] for name in ("ValidateOhlcv", "InsertOhlcv", "TickerPipeline")} == {"UPSTREAM_FAILED"}
    assert {states[name] for name in ("RegisterSecurity", "DownloadMetadata", "InsertMetadata")} == {"DONE"}
    page.goto(f"{address(failing)}/static/visualiser/index.html#search__search=AAA")
    page.reload()
    assert set(rows_of(page).values()) == {"DONE"}
    assert tasks(failing, "DONE")["InsertOhlcv"]["status_message"].startswith("30 rows in ")
    graph = page.locator("#taskTable tbody tr", has_text="TickerPipeline").locator("a[title='View graph']")
    page.goto(f"{address(failing)}/static/visualiser/index.html{graph.get_attribute('href')}".replace("hideDone=1", ""))
    page.reload()
    page.locator("svg text", has_text="DownloadOhlcv").wait_for()
    shown = set(page.locator("svg text").evaluate_all("texts => texts.map(text => text.textContent)"))
    assert set(rows_of_pipeline()) <= shown


def rows_of(page: Page) -> dict[str, str]:
    """{family: status} of luigid's table."""
    page.locator("#taskTable tbody tr", has_text="TickerPipeline").wait_for()
    rows = [row.inner_text().split("\t") for row in page.locator("#taskTable tbody tr").all()]
    return {row[1].strip(): row[0].strip() for row in rows}


def rows_of_pipeline() -> list[str]:
    pipeline = TickerPipeline(ticker="AAA", date=dt.date(2024, 3, 15), years_back=1)
    return [task.task_family for task in with_requirements(pipeline)]


def test_a_step_links_to_the_report_while_it_runs(failing: Workspace, up: Workspace) -> None:
    # Nobody gets past this lock, so that the step waits.
    with engine_for(failing.database_url).connect() as connection:
        connection.execute(sa.text("LOCK TABLE ohlcv IN ACCESS EXCLUSIVE MODE"))
        run = failing.start(*ARGUMENTS)
        running: dict[str, Any] = {}
        while not running.get("tracking_url") and run.poll() is None:
            running = tasks(failing, "RUNNING").get("DownloadOhlcv", {})
        address_of_page = str(running["tracking_url"]).partition("#")[0]
        answer, words = ask(failing, address_of_page)
        while b"RegisterSecurity" not in words and run.poll() is None:
            time.sleep(0.2)
            words = ask(failing, address_of_page)[1]
        listed = ask(failing, "/reports/")[1].decode()
    run.communicate(timeout=120)

    [run_id] = failing.query("SELECT run_id FROM runs")
    assert running["tracking_url"] == f"/reports/{run_id}/report.html#ticker={running['params']['ticker']}"
    assert answer.status == 202
    assert f"The report of run <code>{run_id}</code> is written when the run ends".encode() in words
    assert b"<h1>The run is going on</h1>" in words
    assert b"RunAll of the universe as of 2024-03-15, since 20" in words
    assert b"<tr><td>AAA</td><td>done, 1, " in words
    assert ask(failing, address_of_page)[0].status == 200
    assert "<td>going on " in listed
    after = ask(failing, "/reports/")[1].decode()
    assert "incomplete</span> 1 of 3 tickers are not done; 2 are." in after
    assert "going on" not in after


def test_before_the_run_has_ended_its_page_waits_and_then_shows_the_ticker(up: Workspace, page: Page) -> None:
    path = report_of(up, "run-1", None)
    page.goto(f"{address(up)}/reports/run-1/report.html#ticker=%5EX%2FY")
    assert page.get_by_role("heading").inner_text() == "There is no report yet"

    path.write_text(render.page(document(by_ticker=[ticker("AAA"), ticker("^X/Y")])), encoding="utf-8")

    assert page.locator("#tickers tr.found td").first.inner_text() == "^X/Y"


@pytest.mark.parametrize("which", ["started by hand", "of another store"])
def test_a_luigid_that_does_not_show_this_runs_report_is_given_no_link(failing: Workspace, which: str) -> None:
    if which == "started by hand":
        # Not the state that a luigid of this folder may have left.
        own = ["--port", str(failing.port), "--state-path", str(failing.folder / "state.pickle")]
        program = [str(BIN / "luigid"), "--address", "127.0.0.1", *own]
        process = subprocess.Popen(program, cwd=REPOSITORY, env=failing.env(), stderr=subprocess.DEVNULL)
        (failing.store / "luigid").mkdir(parents=True)
        (failing.store / "luigid/pid").write_text(str(process.pid))
        while process.poll() is None and not _listens(failing):
            pass
        up = failing.command("up")
        assert up.returncode == 0, up.stderr
        assert f"the luigid at {address(failing)} is not ours, and shows no reports" in up.stderr
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
    (reports / ".empty").mkdir()

    def asked(inner: str, method: str = "GET") -> int:
        answer, body = ask(up, f"/reports/{inner}", method)
        assert secret.encode() not in body
        return answer.status

    for inner in (
        "../secret", "..%2fsecret", "%2e%2e/secret", "run-1/../../secret", "..%5csecret", "../reports-too/report.html",
        "/etc/passwd", f"{quote(str(up.store), safe='')}%2fsecret", "out/secret", "run-1/out.html",
        ".hidden/report.html", "run-1/.hidden", "led/report.html", "led/", "run-1%00/report.html",
        ".empty/report.html",
        "run-2/report.html", "%00",
    ):  # fmt: skip
        assert asked(inner) in (403, 404), inner
    assert asked("") == 200
    listed = ask(up, "/reports/")[1].decode()
    assert listed.count("<tr>") == 2, "the head, and run-1"
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


def test_without_a_run_the_list_says_so(up: Workspace) -> None:
    for path in ("/reports", "/reports/"):
        answer, words = ask(up, path)
        assert (answer.status, b"There are none yet." in words) == (200, True)
        assert str(answer.getheader("Content-Security-Policy")).startswith("sandbox allow-scripts")
    assert ask(up, "/reports/", "HEAD")[0].status == 200
    assert ask(up, "/reports/", "POST")[0].status == 405


def told(path: Path, **changes: Any) -> None:
    """What a run tells of itself, beside the report at this path."""
    run = {"task": "RunAll", "what": "the universe", "as_of": "2024-03-15", "started_at": "then", "line": "bars 1 of 2"}
    plain: dict[str, Any] = {"outcome": None, "told_at": "lately", "steps": [], "tickers": [], "every": 0}
    path.with_name("run.json").write_text(json.dumps(run | plain | changes), encoding="utf-8")


def test_runs_are_listed_newest_first_with_what_came_of_them(up: Workspace, page: Page) -> None:
    names = [f"202403{day}T053000Z-abcdef" for day in (11, 12, 13, 14, 15)]
    paths = [report_of(up, name, None) for name in names]
    paths[0].write_text("of a version that told nothing")
    told(paths[1], outcome="complete", line="All 3 tickers are stored.")
    paths[1].write_text("the second")
    told(paths[2])
    os.utime(paths[2].with_name("run.json"), (0, 0))
    told(paths[3], what="AAPL, MSFT")
    page.goto(f"{address(up)}/reports/")

    rows = [row.inner_text().split("\t") for row in page.locator("tbody tr").all()]

    assert [row[-1] for row in rows] == names[::-1]
    assert [row[0] for row in rows] == [f"2024-03-{day} 05:30:00" for day in (15, 14, 13, 12, 11)]
    assert [row[3] for row in rows] == [
        "no word of it: it has just begun, or was killed",
        "going on bars 1 of 2",
        "killed last heard of at lately",
        "complete All 3 tickers are stored.",
        "ended, see its report",
    ]
    assert rows[1][1:3] == ["RunAll AAPL, MSFT", "2024-03-15"]
    page.get_by_text(names[1]).click()
    assert page.inner_text("body") == "the second"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "\xff", '{"steps": 1}', '{"steps": [[1]], "tickers": {}, "every": ""}']
)
def test_what_a_run_tells_may_be_anything(up: Workspace, text: str) -> None:
    path = report_of(up, "run-1", None)
    path.with_name("run.json").write_text(text, encoding="latin-1")

    assert ask(up, "/reports/run-1/report.html")[0].status == 202
    assert ask(up, "/reports/")[0].status == 200


def test_texts_in_what_a_run_tells_are_escaped(up: Workspace) -> None:
    evil = "<img src=x onerror=alert(1)>\ud800"
    path = report_of(up, "run-1", None)
    step = {"done": False, "rows": 0, "seconds": None, "kind": evil, "reason": evil}
    texts = dict.fromkeys(("task", "what", "as_of", "started_at", "line", "told_at"), evil)
    for outcome in (None, evil):
        told(path, **texts, outcome=outcome, steps=[[evil, 0, 1, 0]], tickers=[[evil, {evil: step}]], every=2)
        for asked in ("/reports/run-1/report.html", "/reports/"):
            words = ask(up, asked)[1]
            assert b"<img" not in words
            assert b"&lt;img" in words


def test_a_run_that_is_silent_is_taken_for_killed(up: Workspace) -> None:
    path = report_of(up, "run-1", None)
    told(path)
    os.utime(path.with_name("run.json"), (0, 0))

    words = ask(up, "/reports/run-1/report.html")[1]

    assert b"<h1>The run has been killed, or cannot tell how far it is</h1>" in words
    assert b"GenerateReport --run-id run-1" in words


def test_the_page_of_a_run_follows_it_until_the_report_is_there(up: Workspace, page: Page) -> None:
    path, ledger = report_of(up, "run-1", None), Ledger(up.database_url)
    ledger.begin_run("run-1", "RunAll", {"date": "2024-03-15", "tickers": "AAA,BBB"})
    ledger.mark(Marker(Step("a", "InsertOhlcv", "run-1", "AAA", dt.date(2024, 3, 15)), 2510), 1.25)
    live = Live(path.parent, up.database_url, "run-1")
    live.tell(lambda: "bars 1 of 2")
    page.goto(f"{address(up)}/reports/run-1/report.html")
    assert page.locator("tbody tr", has_text="AAA").inner_text() == "AAA\tdone, 2,510, 1.2 s"

    ledger.fail(Step("b", "InsertOhlcv", "run-1", "BBB", dt.date(2024, 3, 15)), "network", "no <b>answer</b>")
    while "network" not in path.with_name("run.json").read_text():
        live.tell(lambda: "bars 1 of 2")
        time.sleep(0.2)
    page.locator("tbody tr", has_text="BBB").wait_for()

    assert page.locator("tbody").nth(1).inner_text().startswith("BBB\tnetwork no <b>answer</b>")
    assert "bars 1 of 2" in page.inner_text("body")
    path.write_text(render.page(document(by_ticker=[ticker("ZZZ")])), encoding="utf-8")
    assert page.locator("#tickers td", has_text="ZZZ").first.inner_text() == "ZZZ"


def test_names_of_runs_are_escaped(up: Workspace) -> None:
    name = "<img src=x onerror=alert(1)>"
    report_of(up, name, None)

    answer, words = ask(up, f"/reports/{quote(name)}/report.html")
    listed = ask(up, "/reports/")[1]

    assert answer.status == 202
    assert b"<img" not in words + listed
    assert quote(name, safe="").encode() in listed


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
