"""A run's Data Docs, Great Expectations' own pages: at its end for the tickers with findings, or by command."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luigi.task_register import load_task

from luigi_tasks import settings
from luigi_tasks.errors import ConfigurationError
from luigi_tasks.tasks.validate_ohlcv import ValidateOhlcv
from luigi_tasks.tickers import did_you_mean, normalise

if TYPE_CHECKING:
    from pandas import DataFrame

logger = logging.getLogger(__name__)

MOST_WITH_FINDINGS = 25
MOST_CLEAN = 2
"""Tickers without a finding that have a page, so that a clean run has something to show."""

_PAGE = "data_docs/index.html"


def link(folder: Path) -> str:
    """Where the Data Docs of the report in this folder are, relative to it; empty where there are none."""
    return _PAGE if (folder / _PAGE).is_file() else ""


def at_end(document: dict[str, Any], folder: Path) -> None:
    """Make the Data Docs of a run that ends now, for what it has validated; a failure is a line in the log.

    A ticker's page takes a third of a second of CPU; a run that has had `docs_seconds` of it begins no further one, and
    with 0 it makes none. Where the run has had no use for Great Expectations, which takes seconds to load, it has
    validated nothing, or was interrupted.
    """
    most_seconds = settings.load().docs_seconds
    if not most_seconds or "great_expectations" not in sys.modules:
        return
    try:
        found = _verdicts(document, ("succeeded", "failed"))
        if found:
            _, differing = _build(folder, document, found, _worth_showing(found), most_seconds)
            if differing:
                logger.warning("Data Docs do not say what the verdict did: %s", ", ".join(differing))
    except Exception as error:
        # Whatever it is: the run has done its work, and its report is written.
        logger.warning("no Data Docs: %s", " ".join(f"{type(error).__name__}: {error}".split())[:500])


def by_command(
    document: dict[str, Any], folder: Path, tickers: Sequence[str], *, everything: bool
) -> tuple[int, list[str]]:
    """Make them for these tickers of the run in this folder, or for all, or for those with findings.

    Returns how many tickers have a page, and those whose page says something else than the run's verdict did, since
    the stored bars around the downloaded ones, or the suite, have changed since.

    Raises:
        ConfigurationError: there is nothing to make them of.
        StoreUnwritable: they cannot be written, or a file that they need cannot be read.
    """
    found = _verdicts(document, ("succeeded", "failed", "skipped"))
    wanted, there = set(map(normalise, tickers)), {task.ticker for task in found}
    lacking = sorted(wanted - there)
    if lacking or not found:
        asked = " ".join(filter(None, (did_you_mean(ticker, there) for ticker in lacking)))
        raise ConfigurationError(
            f"Data Docs of {', '.join(lacking) or document['run_id']}",
            f"no verdict of run {document['run_id']} with its bars is in {settings.load().store}",
            asked or "Use the settings that it ran with (LUIGI_CONFIG_PATH), or run again with --full.",
        )
    chosen = _worth_showing(found)
    if everything or wanted:
        chosen = [task for task in _by_weight(found) if everything or task.ticker in wanted]
    return _build(folder, document, found, chosen)


def _verdicts(document: dict[str, Any], outcomes: Iterable[str]) -> dict[ValidateOhlcv, dict[str, Any]]:
    """{validation: its verdict} of those of the run that came out so and of which verdict and bars are still there."""
    root = load_task("luigi_tasks", document["task"], document["parameters"])
    found = {}
    for state in document["by_ticker"]:
        if state["steps"].get(ValidateOhlcv.get_task_family()) in outcomes:
            task = root.clone(ValidateOhlcv, ticker=state["ticker"])
            verdict = task.output()[1]
            # Whatever is to be had by now: these are the bars that were judged.
            if verdict.exists() and _judged(task, read := verdict.read()).path.is_file():
                found[task] = read
    return found


def _judged(task: ValidateOhlcv, verdict: dict[str, Any]) -> Any:
    """The file with all bars that the verdict is about; those of a condemned ticker are taken away, but quarantined."""
    return task.bars_target("quarantine") if verdict["condemned"] else task.requires().output()


def _by_weight(found: dict[ValidateOhlcv, dict[str, Any]]) -> list[ValidateOhlcv]:
    def weight(task: ValidateOhlcv) -> tuple[Any, ...]:
        verdict = found[task]
        return not verdict["condemned"], -verdict["quarantined"], -len(verdict["flagged"]), task.ticker

    return sorted(found, key=weight)


def _worth_showing(found: dict[ValidateOhlcv, dict[str, Any]]) -> list[ValidateOhlcv]:
    """The gravest first, then some clean ones."""
    ordered = _by_weight(found)
    grave = [task for task in ordered if found[task]["findings"]]
    clean = [task for task in ordered if not found[task]["findings"]]
    return grave[:MOST_WITH_FINDINGS] + clean[:MOST_CLEAN]


def _build(
    folder: Path,
    document: dict[str, Any],
    found: dict[ValidateOhlcv, dict[str, Any]],
    chosen: list[ValidateOhlcv],
    most_seconds: float = float("inf"),
) -> tuple[int, list[str]]:
    # Not at the top: it loads pandas, which a run that has nothing to do goes without.
    from luigi_tasks.quality import data_docs

    tasks = {task.ticker: task for task in chosen}
    shown = data_docs.build(
        (folder / _PAGE).parent,
        document["run_id"],
        settings.load().suite_file,
        list(tasks),
        lambda ticker: _bars(tasks[ticker], found[tasks[ticker]]),
        most_seconds,
    )
    return len(shown), [page.ticker for page in shown if page.findings != found[tasks[page.ticker]]["findings"]]


def _bars(task: ValidateOhlcv, verdict: dict[str, Any]) -> tuple[DataFrame, DataFrame | None]:
    """The bars as they were judged, and the stored ones before them."""
    from luigi_tasks.bars import ASKED, COLUMNS

    frame = _judged(task, verdict).read()
    asked, frame.attrs = frame.attrs[ASKED], {}
    return frame[list(COLUMNS)], task.context(asked)
