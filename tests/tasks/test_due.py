"""What a run works out about thousands of tickers at once is what each task says of itself."""

from __future__ import annotations

import datetime as dt

from luigi_tasks import RunAll
from luigi_tasks.tasks.due import pipelines, task_ids
from luigi_tasks.tasks.generate_report import STEPS

MEMBERS = {"AAA": ["sp500"], "BRK-B": [], "^GSPC": ["indices", "sp500"], "0700.HK": ["hang seng, large"]}


def test_the_ids_of_steps_are_those_that_luigi_gives_them() -> None:
    for full in (False, True):
        run = RunAll(date=dt.date(2024, 3, 15), years_back=3, full=full)
        every = pipelines(run, MEMBERS)

        for step in STEPS:
            assert task_ids(step, every) == {each.ticker: each.clone(step).task_id for each in every}


def test_of_no_tickers_there_are_no_ids() -> None:
    assert task_ids(STEPS[0], []) == {}
