"""However many tickers there are, few wait at luigid: what a ticker costs does not grow with the universe."""

from __future__ import annotations

from typing import Any

from luigi.rpc import RemoteScheduler

from tests.conftest import make_bars
from tests.workspace import Workspace

ARGUMENTS = ("--date", "2024-03-15", "--years-back", "1")
GROUP = 3


def test_a_group_is_handed_out_when_none_of_the_one_before_is_waiting(workspace: Workspace) -> None:
    tickers = [f"T{number:02}" for number in range(4 * GROUP)]
    workspace.use_files({ticker: make_bars(seed=number) for number, ticker in enumerate(tickers)})
    workspace.set("Groups", size=str(GROUP))
    # Of 20 processes, nearly all could take a group.
    workspace.set("resources", yfinance_api="1", yfinance_company="1")
    assert workspace.command("up", "--quiet").returncode == 0
    luigid: Any = RemoteScheduler(f"http://127.0.0.1:{workspace.port}/")
    run = workspace.start(*ARGUMENTS)
    most = {"OhlcvPipeline": 0, "MetadataPipeline": 0}

    while run.poll() is None:
        waiting = [task["name"] for task in luigid.task_list("PENDING", "").values()]
        most = {family: max(count, waiting.count(family)) for family, count in most.items()}

    out, err = run.communicate(timeout=60)
    assert run.returncode == 0, (out, err)
    assert workspace.query("SELECT count(*) FROM ohlcv") == [len(tickers) * 30]
    assert all(0 < count <= GROUP for count in most.values()), most
