"""Bars through Great Expectations: the suite is a file of the user's, the verdict names every row and rule.

An expectation about a column judges row by row, and its failing rows are quarantined alone. One about the table,
or one that fails without naming rows, condemns the whole frame; so does a larger share of bad rows than allowed,
since then more is wrong than a few rows.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from luigi_tasks import bars
from luigi_tasks.bars import COLUMNS, PRICES
from luigi_tasks.errors import ConfigurationError

# Great Expectations reports its use to its maker unless told otherwise before its first import.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")


@dataclass(frozen=True)
class Verdict:
    """What the suite said of one ticker's bars.

    `quarantined` has the columns of `luigi_tasks.bars` and `rules`, the broken rules joined by "; ". `findings` is
    {rule: rows that broke it}; `condemned` says why nothing may be stored, and is empty where the valid bars may.
    """

    ticker: str
    valid: pd.DataFrame
    quarantined: pd.DataFrame
    findings: dict[str, int]
    condemned: str

    @property
    def success(self) -> bool:
        """True where every bar met every expectation."""
        return not self.condemned and self.quarantined.empty

    def summary(self) -> dict[str, Any]:
        """The verdict without its frames, as JSON values."""
        return {
            "ticker": self.ticker,
            "success": self.success,
            "valid": len(self.valid),
            "quarantined": len(self.quarantined),
            "findings": self.findings,
            "condemned": self.condemned,
            "rows": [
                {"date": str(row.date)[:10], "rules": row.rules}
                for row in self.quarantined[["date", "rules"]].itertuples(index=False)
            ],
        }


def judge(frame: pd.DataFrame, ticker: str, suite_file: Path, most_bad_share: float) -> Verdict:
    """The suite's verdict on bars of the shape in `luigi_tasks.bars`.

    Raises:
        ConfigurationError: the suite cannot be read or run.
    """
    frame = frame.reset_index(drop=True)
    try:
        bars.conform(frame)
    except (KeyError, ValueError, TypeError) as error:
        reason = f"is no frame of bars ({' '.join(str(error).split())[:200]})"
        nothing = frame.reindex(columns=list(COLUMNS))
        return Verdict(ticker, nothing.iloc[:0], nothing.assign(rules=reason), {reason: len(frame)}, reason)
    results = _run(frame, suite_file)
    broken: dict[int, list[str]] = defaultdict(list)
    findings: dict[str, int] = {}
    reasons = []
    for expectation in results:
        if expectation["success"]:
            continue
        rule = _rule(expectation)
        if expectation["exception_info"]:
            raise ConfigurationError(f"{suite_file.name}, rule {rule!r}", expectation["exception_info"])
        rows = expectation["rows"]
        if rows is None:
            findings[rule] = len(frame)
            reasons.append(rule)
            continue
        findings[rule] = len(rows)
        for row in rows:
            broken[row].append(rule)
    if not reasons and len(broken) > most_bad_share * len(frame):
        reasons.append(f"{len(broken)} of {len(frame)} bars break a rule, more than {most_bad_share:.0%}")
    bad = frame.index.isin(list(frame.index) if reasons else list(broken))
    quarantined = frame[bad].copy()
    quarantined["rules"] = ["; ".join(broken.get(int(row), reasons)) for row in quarantined.index]
    return Verdict(
        ticker=ticker,
        valid=frame[~bad].reset_index(drop=True),
        quarantined=quarantined.reset_index(drop=True),
        findings=findings,
        condemned="; ".join(reasons),
    )


def preload() -> None:
    """Import and set up Great Expectations (seconds), before a fork, so that no child has to."""
    _great_expectations()


def with_extremes(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame and two columns for the suite, because an expectation costs 11 ms whatever it looks at.

    `least_price` and `greatest_price` are over open, high, low and close, NaN where one of them is.
    """
    prices = frame[list(PRICES)]
    known = frame[["date", "dividends", "stock_splits"]].notna().all(axis=1)
    return frame.assign(
        least_price=prices.min(axis=1, skipna=False),
        greatest_price=prices.max(axis=1, skipna=False),
        known=known.where(known, None),
        whole_volume=frame["volume"].where(frame["volume"] % 1 == 0),
    )


def _run(frame: pd.DataFrame, suite_file: Path) -> list[dict[str, Any]]:
    gx, batch_definition = _great_expectations()
    configuration = gx.expectations.expectation_configuration.ExpectationConfiguration
    expectations = _expectations(suite_file)
    try:
        # One by one: a suite that is given plain dicts leaves out, with no error, what it cannot make sense of.
        rules = [configuration(**item).to_domain_obj() for item in expectations]
        suite = gx.ExpectationSuite(name="ohlcv", expectations=rules)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            batch = batch_definition.get_batch({"dataframe": with_extremes(frame)})
            validation = batch.validate(suite, result_format={"result_format": "COMPLETE"})
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigurationError(str(suite_file), f"Great Expectations cannot run it ({reason})") from error
    return [_plain(result) for result in validation.results]


def _plain(result: Any) -> dict[str, Any]:
    """One result as {success, type, kwargs, notes, rows: row numbers or None, exception_info: words or ""}."""
    configuration = result.expectation_config
    info = result.exception_info or {}
    raised = [info] if "raised_exception" in info else list(info.values())
    message = "; ".join(str(item.get("exception_message")) for item in raised if item.get("raised_exception"))
    return {
        "success": bool(result.success),
        "type": configuration.type,
        "kwargs": configuration.kwargs,
        "notes": configuration.meta or {},
        "rows": (result.result or {}).get("unexpected_index_list"),
        "exception_info": message,
    }


def _rule(expectation: dict[str, Any]) -> str:
    """The rule in the words of its `meta.rule` in the suite file; Great Expectations' own name where it has none."""
    notes = expectation["notes"]
    if notes.get("rule"):
        return str(notes["rule"])
    kwargs = {name: value for name, value in expectation["kwargs"].items() if name != "batch_id"}
    return f"{expectation['type']}({', '.join(f'{name}={value}' for name, value in kwargs.items())})"


@lru_cache(maxsize=8)
def _expectations(suite_file: Path) -> tuple[dict[str, Any], ...]:
    try:
        content = json.loads(suite_file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(str(suite_file), f"cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ConfigurationError(str(suite_file), f"is not JSON ({error})") from error
    expectations = content.get("expectations") if isinstance(content, dict) else None
    if not isinstance(expectations, list) or not expectations:
        raise ConfigurationError(str(suite_file), "has no expectations")
    return tuple(expectations)


@lru_cache(maxsize=1)
def _great_expectations() -> tuple[Any, Any]:
    """Great Expectations, and a definition that turns any frame into a batch; both free for a forked child."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations as gx
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    # "progress_bars" as its configuration file has it; the type it declares is not the one it takes.
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    asset = context.data_sources.add_pandas("bars").add_dataframe_asset("bars")
    return gx, asset.add_batch_definition_whole_dataframe("all")
