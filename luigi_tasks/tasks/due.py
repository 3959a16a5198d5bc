"""What of a run is to be done: asked of the database for all tickers at once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Protocol

from luigi.task import task_id_str

from luigi_tasks import settings
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.database.standing import Retired, Standing
from luigi_tasks.run import lifecycle
from luigi_tasks.tasks.base import TickerTask, database_url, first_day
from luigi_tasks.tasks.insert_metadata import InsertMetadata, freshness
from luigi_tasks.tasks.insert_ohlcv import InsertOhlcv
from luigi_tasks.tasks.parameters import today
from luigi_tasks.tasks.register_security import RegisterSecurity
from luigi_tasks.tasks.ticker_pipeline import TickerPipeline

STORED: tuple[type[TickerTask], ...] = (RegisterSecurity, InsertOhlcv, InsertMetadata)
"""A ticker is done when these are; what else there is, they require."""

_OWN = ("ticker", "groupings")


class OfTickers(Protocol):
    """A task about several tickers."""

    @property
    def asked(self) -> bool:
        """Whether they are asked for though they are retired."""

    def clone(self, cls: Any = None, **kwargs: Any) -> Any:
        """Luigi's."""


def pipelines(task: OfTickers, members: dict[str, list[str]]) -> list[TickerPipeline]:
    """The pipelines of {ticker: groupings}, for the task's as-of date and years."""
    common = {"asked": task.asked}
    return [task.clone(TickerPipeline, ticker=ticker, groupings=names, **common) for ticker, names in members.items()]


def unfinished(pipelines: list[TickerPipeline]) -> list[TickerPipeline]:
    """Those that have a step to do."""
    return list(steps_to_do(pipelines))


def steps_to_do(pipelines: list[TickerPipeline]) -> dict[TickerPipeline, set[type[TickerTask]]]:
    """{pipeline: those of STORED that are to be done} of those that have any.

    A few queries for all of them, which are of one as-of date.
    """
    tickers = [pipeline.ticker for pipeline in pipelines]
    resting, there = resting_tickers(tickers), already(pipelines)
    ids = {family: task_ids(family, pipelines) for family in STORED if family in told_by_marker(pipelines)}
    done = Ledger(database_url()).done([task_id for of_family in ids.values() for task_id in of_family.values()])
    to_do = {
        pipeline: {
            family
            for family in STORED
            if pipeline.ticker not in there.get(family, ())
            and (family not in ids or ids[family][pipeline.ticker] not in done)
        }
        for pipeline in pipelines
        if pipeline.asked or pipeline.ticker not in resting
    }
    return {pipeline: families for pipeline, families in to_do.items() if families}


def task_ids(family: type[TickerTask], pipelines: Sequence[TickerPipeline]) -> dict[str, str]:
    """{ticker: id of that step}, of pipelines that differ in their tickers and groupings alone.

    Making the steps for it would take a tenth of a millisecond each, and there are tens of thousands.
    """
    if not pipelines:
        return {}
    same = pipelines[0].clone(family).to_str_params(only_significant=True, only_public=True)
    own = {name: parameter for name, parameter in family.get_params() if name in same and name in _OWN}
    return {
        pipeline.ticker: task_id_str(
            family.get_task_family(),
            same | {name: parameter.serialize(getattr(pipeline, name)) for name, parameter in own.items()},
        )
        for pipeline in pipelines
    }


def resting_tickers(tickers: list[str]) -> dict[str, Retired]:
    """Those that are retired and not to be asked for again today."""
    if settings.load().source != "yahoo":
        return {}
    retired = Standing(database_url()).retired(tickers, settings.load().retire_after_days)
    return {ticker: entry for ticker, entry in retired.items() if today() < entry.next}


def told_by_marker(pipelines: Sequence[TickerPipeline]) -> set[type[TickerTask]]:
    """The steps of STORED that their markers say are done. Of bars they do not: see `HistoryMarkerTarget`."""
    return {family for family in STORED if family is not InsertOhlcv or any(each.full for each in pipelines)}


def already(pipelines: Sequence[TickerPipeline], now: dt.datetime | None = None) -> dict[type[TickerTask], set[str]]:
    """{step: tickers of which it need not be done}, whatever the markers say: fresh company data; bars that are stored
    as of that date or a later one, as far as they could be had at `now` (that of the run if None). The pipelines differ
    in nothing but their tickers."""
    if not pipelines:
        return {}
    first, tickers, standing = pipelines[0], [pipeline.ticker for pipeline in pipelines], Standing(database_url())
    fresh = standing.fresh_metadata(tickers, first.date, **freshness(first.date))
    if first.full:
        return {InsertMetadata: fresh}
    start = first_day(first.date, first.years_back)
    stored = standing.with_history(tickers, start, first.date, now or lifecycle.moment())
    return {InsertMetadata: fresh, InsertOhlcv: stored}
