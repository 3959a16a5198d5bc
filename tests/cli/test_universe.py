"""`./run.sh tickers`: the file that people wrote stays theirs."""

from __future__ import annotations

from subprocess import CompletedProcess

import pytest

from luigi_tasks import YfinanceClient
from tests.conftest import make_bars
from tests.workspace import Workspace

FILE = """\
# Ours.
groupings:
  chips:  # what we know about
    tickers: [NVDA, 'ON']
  more:
    tickers:
      - AAPL   # since 2019
      - NVDA
      - CL-A
  dow: {index: "DOW JONES"}
  vendors: {csv: vendors.csv}

default: [chips]  # the rest by hand
"""


@pytest.fixture
def listed(workspace: Workspace) -> Workspace:
    workspace.universe.write_text(FILE)
    (workspace.universe.parent / "vendors.csv").write_text("ticker\nXYZ\n")
    return workspace


def tickers(workspace: Workspace, *arguments: str) -> CompletedProcess[str]:
    return workspace.command("tickers", *arguments)


def test_added_tickers_are_in_the_list_and_all_else_is_as_it_was(listed: Workspace) -> None:
    done = tickers(listed, "add", "amd", "NVDA", "QCOM", "--grouping", "chips")

    assert done.stdout.splitlines() == [
        "NVDA is in chips already",
        "added to chips: AMD, QCOM",
        "The next run loads it; to try it now: ./run.sh --tickers AMD,QCOM",
    ]
    assert listed.universe.read_text() == FILE.replace("[NVDA, 'ON']", "[NVDA, 'ON', AMD, QCOM]")


def test_what_is_added_to_a_block_goes_to_its_end(listed: Workspace) -> None:
    tickers(listed, "add", "MSFT", "--grouping", "more")

    assert listed.universe.read_text() == FILE.replace("      - CL-A\n", "      - CL-A\n      - MSFT\n")


def test_a_new_grouping_is_made_and_it_is_said_that_no_run_takes_it_by_itself(listed: Workspace) -> None:
    done = tickers(listed, "add", "SAP.DE", "--grouping", "mine")

    assert "./run.sh --groupings mine" in done.stdout
    assert "SAP.DE" in tickers(listed, "list", "--grouping", "mine").stdout


def test_a_ticker_is_spelled_as_everywhere_and_a_share_class_with_a_dot_is_asked_about(listed: Workspace) -> None:
    added = tickers(listed, "add", " amd", "brk.b", "vod.l", "--grouping", "chips")
    removed = tickers(listed, "remove", "nvda ", "cl-a")

    assert "added to chips: AMD, BRK.B, VOD.L" in added.stdout
    question = "Did you mean BRK-B? Yahoo writes a share class with a hyphen."
    assert added.stderr == f"BRK.B is added as it is written. {question}\n"
    assert removed.returncode == 0, removed
    assert listed.universe.read_text().count("NVDA") == listed.universe.read_text().count("CL-A") == 0


def test_removed_tickers_are_gone_from_every_list_and_comments_stay(listed: Workspace) -> None:
    done = tickers(listed, "remove", "NVDA")

    assert done.returncode == 0, done
    assert "NVDA" not in listed.universe.read_text()
    for comment in ("# Ours.", "# what we know about", "# since 2019", "# the rest by hand"):
        assert comment in listed.universe.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["add", "A B", "--grouping", "chips"], "error: ticker 'A B'"),
        (["add", "AMD", "--grouping", "dow"], "is the index 'DOW JONES'"),
        (["add", "AMD", "--grouping", "vendors"], "vendors.csv. Edit that file."),
        (["remove", "XYZ"], "XYZ: cannot be removed: XYZ come from an index or a CSV file"),
        (["remove", "NOSUCH"], "NOSUCH: cannot be removed: no list has it"),
        (["remove", "cl.a"], "CL.A: cannot be removed: no list has it. Did you mean CL-A?"),
        (["list", "--grouping", "chip"], "Did you mean chips?"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(listed: Workspace, arguments: list[str], words: str) -> None:
    done = tickers(listed, *arguments)

    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert listed.universe.read_text() == FILE


def test_the_list_says_how_far_each_is_stored(listed: Workspace) -> None:
    client = YfinanceClient(listed.database_url)
    client.migrate()
    client.insert_security("NVDA", ["chips"])
    client.insert_ohlcv("NVDA", make_bars(last="2024-03-15"))

    done = tickers(listed, "list", "--grouping", "chips")

    assert [line.split() for line in done.stdout.splitlines()] == [
        ["NVDA", "2024-03-15", "chips"],
        ["ON", "not", "loaded", "yet", "chips"],
    ]
