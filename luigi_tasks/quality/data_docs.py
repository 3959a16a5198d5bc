"""Great Expectations' own pages, Data Docs: the suite in words, and for each ticker how its bars met it.

The verdict on a ticker (`luigi_tasks.quality.suite`) is reached in a way that leaves no result which Great Expectations
could show: most rules are asked for as one. So bars that are to be shown are validated once more, by the same suite and
with the same derived columns, each rule by itself. That costs a third of a second of CPU a ticker, whatever it holds.
"""

from __future__ import annotations

import datetime as dt
import html
import importlib.resources
import logging
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from luigi_tasks.errors import ConfigurationError, StoreUnwritable
from luigi_tasks.quality import suite

INDEX = "index.html"

_PAGES = "luigi_tasks.quality.data_docs_pages"
_SITE = "bars"
_COMPLETE = {"result_format": "COMPLETE", "return_unexpected_index_query": False}


@dataclass(frozen=True)
class Shown:
    """A ticker that has a page, and {rule: rows that broke it} as the page says."""

    ticker: str
    findings: dict[str, int]


def build(
    folder: Path,
    title: str,
    suite_file: Path,
    tickers: Sequence[str],
    bars_of: Callable[[str], tuple[pd.DataFrame, pd.DataFrame | None]],
    most_seconds: float = float("inf"),
) -> list[Shown]:
    """Write a site into `folder`, in the place of what is there; returns its pages, in the tickers' order.

    `bars_of` gives a ticker's bars and their context as `suite.judge` takes them. `title` is shown as the run's name.
    No further ticker is begun after `most_seconds`.

    Raises:
        ConfigurationError: the suite cannot be read or run, or Great Expectations made no page of it.
        StoreUnwritable: the site cannot be written.
    """
    deadline = time.monotonic() + most_seconds
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Beside the place where it is to be, on the same file system.
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as made:
            site, old = Path(made, "site"), Path(made, "old")
            with _quiet():
                pages, shown = _Site(site, title, suite_file), list[Shown]()
                for ticker in tickers:
                    if not shown or time.monotonic() < deadline:
                        shown.append(pages.add(ticker, *bars_of(ticker)))
                pages.build(shown)
            # Great Expectations' pictures and fonts, 4 MB: no page refers to them.
            shutil.rmtree(site / "static", ignore_errors=True)
            if folder.exists():
                folder.rename(old)
            site.rename(folder)
    except OSError as error:
        raise StoreUnwritable(
            str(folder), f"cannot be written ({error.strerror or error})", "Check disk space and permissions."
        ) from error
    return shown


class _Site:
    """One Data Docs site, made by a Great Expectations context of its own."""

    def __init__(self, site: Path, title: str, suite_file: Path) -> None:
        self._gx, self._site, self._suite_file = suite.great_expectations(), site, suite_file
        self._context = self._gx.get_context(mode="ephemeral")
        self._context.variables.progress_bars = {"globally": False}
        self._context.variables.plugins_directory = str(_with_styles(site.parent / "plugins"))
        self._run = self._gx.RunIdentifier(run_name=title, run_time=dt.datetime.now(dt.UTC))
        self._suite = self._context.suites.add(
            self._gx.ExpectationSuite(name="ohlcv", expectations=suite.explained(suite_file))
        )

    def add(self, ticker: str, bars: pd.DataFrame, context: pd.DataFrame | None) -> Shown:
        """Validate a ticker's bars."""
        name = shown_name(ticker)
        # Great Expectations names rows by the frame's index.
        frame = suite.with_signs(bars, context).set_axis([str(date)[:10] for date in bars["date"]], axis="index")
        # Anew for each, since one keeps the frames of all its batches.
        source = self._context.data_sources.add_or_update_pandas("bars")
        batch = source.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
        definition = self._context.validation_definitions.add(
            self._gx.ValidationDefinition(name=name, data=batch, suite=self._suite)
        )
        result = definition.run(batch_parameters={"dataframe": frame}, result_format=_COMPLETE, run_id=self._run)
        return Shown(ticker, suite.findings(result.results, len(frame), self._suite_file))

    def build(self, shown: Sequence[Shown]) -> None:
        """Make the pages of all that was added."""
        for name in self._context.get_site_names():
            self._context.delete_data_docs_site(name)
        findings = {shown_name(each.ticker): each.findings for each in shown}
        self._context.add_data_docs_site(_SITE, _site_config(self._site, findings))
        self._context.build_data_docs([_SITE])
        made = sum(1 for _ in (self._site / "validations").rglob("*.html"))
        # It goes on where it cannot make a page.
        if made != len(shown) or not (self._site / INDEX).is_file():
            raise ConfigurationError(
                str(self._suite_file), f"Great Expectations made {made} of {len(shown)} pages of its Data Docs"
            )


def shown_name(ticker: str) -> str:
    """The ticker as HTML that can be part of a file's name: Great Expectations puts names as they are into both."""
    return html.escape(ticker).replace("/", "&sol;")


def _with_styles(plugins: Path) -> Path:
    """The folder, with our styles where Great Expectations looks for some."""
    styles = plugins / "custom_data_docs" / "styles"
    styles.mkdir(parents=True)
    ours = importlib.resources.files(__package__).joinpath("data_docs.css").read_text(encoding="utf-8")
    (styles / "data_docs_custom_styles.css").write_text(ours, encoding="utf-8")
    return plugins


def _site_config(site: Path, findings: dict[str, dict[str, int]]) -> dict[str, Any]:
    return {
        "class_name": "SiteBuilder",
        "site_name": "bars",
        "show_how_to_buttons": False,
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(site)},
        "site_index_builder": {
            "class_name": "DefaultSiteIndexBuilder",
            "renderer": {"module_name": _PAGES, "class_name": "IndexRenderer", "findings": findings},
        },
        "site_section_builders": {
            "validations": {"renderer": {"module_name": _PAGES, "class_name": "TickerRenderer"}},
            "profiling": "None",
        },
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Great Expectations logs a traceback and goes on; whether all pages are there is looked at afterwards."""
    logger = logging.getLogger("great_expectations")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
