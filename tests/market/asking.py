"""Asks YahooSource in a process of its own, since yfinance reads its surroundings once a process."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any
from unittest import mock

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
    spawn = multiprocessing.get_context("spawn")
    with (
        mock.patch.dict(os.environ, yahoo.environment() | dict(environment or {})),
        ProcessPoolExecutor(max_workers=1, mp_context=spawn) as process,
    ):
        return process.submit(_answer, calls, database_url, before, plain).result(timeout=120)


def _answer(
    calls: Sequence[Call], database_url: str, before: Callable[[], None] | None = None, plain: bool = False
) -> list[Any]:
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
