"""The steps of one ticker after another in a process of their own, as a run does them, without Luigi's scheduler."""

from __future__ import annotations

import subprocess
from typing import Any

from tests.workspace import BIN, REPOSITORY, Workspace

# Each line it reads is a ticker; it does that ticker's steps and writes a line.
_PROGRAM = """
import datetime as dt, sys
from luigi_tasks import MetadataPipeline, OhlcvPipeline
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.errors import StepFailed
from luigi_tasks.run import inline_runner
from luigi_tasks.tasks.base import database_url
Ledger(database_url()).migrate()
day = dt.date.fromisoformat(sys.argv[1])
for line in sys.stdin:
    for family in (OhlcvPipeline, MetadataPipeline):
        try:
            inline_runner.run(family(ticker=line.strip(), date=day, years_back=1))
        except StepFailed:
            pass
    print("done", flush=True)
"""


class Steps:
    """A `with` block in which the process lives."""

    def __init__(self, workspace: Workspace, day: str) -> None:
        """`day` is the as-of date."""
        self.workspace = workspace
        self._child = subprocess.Popen(
            [str(BIN / "python"), "-c", _PROGRAM, day],
            cwd=REPOSITORY,
            env=workspace.env(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.communicate()

    def do(self, ticker: str) -> list[Any]:
        """(step, kind and reason) of what has failed. Raises AssertionError if the process has died."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(f"{ticker}\n")
        self._child.stdin.flush()
        assert self._child.stdout.readline() == "done\n", "the process has died"
        return self.workspace.query(
            "SELECT task_family, kind || ': ' || reason FROM task_failures WHERE ticker = :ticker", ticker=ticker
        )
