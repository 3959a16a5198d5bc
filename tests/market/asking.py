"""Asks YahooSource in a process of its own, since yfinance reads its surroundings once a process."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.context import BaseContext
from typing import Any

from luigi_tasks.budget import Pace
from luigi_tasks.database.budget import PostgresBudget
from luigi_tasks.errors import SecuritiesMasterError
from luigi_tasks.market.yahoo import YahooSource
from tests.yahoo.server import LoopbackYahoo

Call = tuple[str, tuple[Any, ...]]


def ask(
    yahoo: LoopbackYahoo,
    *calls: Call,
    database_url: str = "",
    before: Callable[[], None] | None = None,
    plain: bool = False,
    environment: Mapping[str, str] | None = None,
) -> list[Any]:
    """What each (method of YahooSource, arguments) returns or raises, one after another in one new process.

    With a `database_url` the budget is the one there, without rates; `environment` is laid over the server's. `before`
    is called first in that process; `plain`: yfinance asks in its own ways.
    """
    surroundings = yahoo.environment() | dict(environment or {})
    with ProcessPoolExecutor(max_workers=1, mp_context=fresh_processes()) as process:
        return process.submit(_answer, surroundings, calls, database_url, before, plain).result(timeout=120)


def fresh_processes() -> BaseContext:
    """Processes that have not seen yfinance yet, and have all else that takes long to import."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["tests.market.asking", "luigi_tasks.database.client"])
    return server


def _answer(
    surroundings: Mapping[str, str],
    calls: Sequence[Call],
    database_url: str,
    before: Callable[[], None] | None,
    plain: bool,
) -> list[Any]:
    # Before yfinance is imported.
    os.environ.update(surroundings)
    if before is not None:
        before()
    pace = Pace({"prices": 0, "company": 0, "access": 0}, first_pause=0.05, longest_pause=0.2, patience=30, lease=5)
    source = YahooSource(PostgresBudget(database_url, pace) if database_url else None, timeout=2, plain=plain)
    answers: list[Any] = []
    for method, arguments in calls:
        try:
            answers.append(getattr(source, method)(*arguments))
        except SecuritiesMasterError as error:
            answers.append(error)
    return answers
