"""Asks YahooSource in a process of its own, since yfinance reads its surroundings once a process."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any
from unittest import mock

from luigi_tasks.errors import SecuritiesMasterError
from luigi_tasks.market.yahoo import YahooSource
from tests.yahoo.server import LoopbackYahoo

Call = tuple[str, tuple[Any, ...]]


def ask(yahoo: LoopbackYahoo, *calls: Call) -> list[Any]:
    """What each (method of YahooSource, arguments) returns or raises, one after another in one new process."""
    spawn = multiprocessing.get_context("spawn")
    with (
        mock.patch.dict(os.environ, yahoo.environment()),
        ProcessPoolExecutor(max_workers=1, mp_context=spawn) as process,
    ):
        return process.submit(_answer, calls).result(timeout=120)


def _answer(calls: Sequence[Call]) -> list[Any]:
    source = YahooSource(timeout=3)
    answers: list[Any] = []
    for method, arguments in calls:
        try:
            answers.append(getattr(source, method)(*arguments))
        except SecuritiesMasterError as error:
            answers.append(error)
    return answers
