"""Asks YahooSource in a process of its own, since yfinance reads its surroundings once a process."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any
from unittest import mock

from luigi_tasks.budget import Pace
from luigi_tasks.database.budget import PostgresBudget
from luigi_tasks.errors import SecuritiesMasterError
from luigi_tasks.market.yahoo import YahooSource
from tests.yahoo.server import LoopbackYahoo

Call = tuple[str, tuple[Any, ...]]


def ask(yahoo: LoopbackYahoo, *calls: Call, database_url: str = "", **environment: str) -> list[Any]:
    """What each (method of YahooSource, arguments) returns or raises, one after another in one new process.

    With a `database_url` the budget is the one there, without rates; `environment` is laid over the server's.
    """
    spawn = multiprocessing.get_context("spawn")
    with (
        mock.patch.dict(os.environ, yahoo.environment() | environment),
        ProcessPoolExecutor(max_workers=1, mp_context=spawn) as process,
    ):
        return process.submit(_answer, calls, database_url).result(timeout=120)


def _answer(calls: Sequence[Call], database_url: str) -> list[Any]:
    pace = Pace({"prices": 0, "company": 0, "access": 0}, first_pause=0.05, longest_pause=0.2, patience=30, lease=5)
    source = YahooSource(PostgresBudget(database_url, pace) if database_url else None, timeout=2)
    answers: list[Any] = []
    for method, arguments in calls:
        try:
            answers.append(getattr(source, method)(*arguments))
        except SecuritiesMasterError as error:
            answers.append(error)
    return answers
