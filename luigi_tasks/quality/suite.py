"""Bars through Great Expectations: the suite is a file of the user's, the verdict names every row and rule.

An expectation about a column judges row by row, and its failing rows are quarantined alone, or, where its severity is
warning or info, flagged. A critical one about the table, or one that fails without naming rows, condemns the whole
frame; so does a larger share of bad rows than allowed, since then more is wrong than a few rows.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from luigi_tasks import bars
from luigi_tasks.bars import COLUMNS, PRICES
from luigi_tasks.errors import ConfigurationError
from luigi_tasks.quality.suspicions import signs

# Great Expectations reports its use to its maker unless told otherwise before its first import.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")


CRITICAL = "critical"
"""Great Expectations' severity of rules whose rows go to quarantine; those of warning and info are flagged."""

_FEW = 5
"""So many bad bars never condemn the others, however few those are: a download may be of ten sessions."""


@dataclass(frozen=True)
class Verdict:
    """What the suite said of one ticker's bars.

    `quarantined` has the columns of `luigi_tasks.bars`, `rules`, the broken rules joined by "; ", and `broken`, JSON
    text: [{rule, value, threshold}]. `flagged` are rows that stay valid and are worth a look: [{date, rule, value,
    threshold, severity}]. `findings` is {rule: rows that broke it}; `condemned` says why nothing may be stored, and is
    empty where the valid bars may.
    """

    ticker: str
    valid: pd.DataFrame
    quarantined: pd.DataFrame
    findings: dict[str, int]
    condemned: str
    flagged: list[dict[str, Any]] = field(default_factory=list)

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
                {"date": str(row.date)[:10], "rules": row.rules, "broken": json.loads(row.broken)}
                for row in self.quarantined[["date", "rules", "broken"]].itertuples(index=False)
            ],
            "flagged": self.flagged,
        }


def judge(
    frame: pd.DataFrame, ticker: str, suite_file: Path, most_bad_share: float, context: pd.DataFrame | None = None
) -> Verdict:
    """The suite's verdict on bars of the shape in `luigi_tasks.bars`.

    `context` are bars of other days, for the rules that look at what surrounds a bar; they are not judged.

    Raises:
        ConfigurationError: the suite cannot be read or run.
    """
    frame = frame.reset_index(drop=True)
    try:
        bars.conform(frame)
    except (KeyError, ValueError, TypeError) as error:
        reason = f"is no frame of bars ({' '.join(str(error).split())[:200]})"
        nothing = frame.reindex(columns=list(COLUMNS))
        refused = nothing.assign(rules=reason, broken=json.dumps([{"rule": reason}]))
        return Verdict(ticker, nothing.iloc[:0], refused, {reason: len(frame)}, reason)
    seen = for_suite(frame, context)
    broken: dict[int, list[dict[str, Any]]] = defaultdict(list)
    findings: dict[str, int] = {}
    reasons, flagged = [], []
    for expectation in _run(seen, suite_file):
        if expectation["success"]:
            continue
        rule, rows, severity = _rule(expectation), expectation["rows"], expectation["severity"]
        if expectation["exception_info"]:
            raise ConfigurationError(f"{suite_file.name}, rule {rule!r}", expectation["exception_info"])
        findings[rule] = len(frame) if rows is None else len(rows)
        if rows is None and severity == CRITICAL:
            reasons.append(rule)
        for row in rows or ():
            item = {"rule": rule, "value": _value(expectation, seen, row), "threshold": _threshold(expectation)}
            if severity == CRITICAL:
                broken[row].append(item)
            else:
                flagged.append({"date": str(frame["date"][row])[:10], **item, "severity": severity})
    allowed = max(most_bad_share * len(frame), _FEW) if most_bad_share > 0 else 0
    if not reasons and (len(broken) > allowed or 0 < len(broken) == len(frame)):
        reasons.append(f"{len(broken)} of {len(frame)} bars break a rule, more than {most_bad_share:.0%}")
    bad = frame.index.isin(list(frame.index) if reasons else list(broken))
    quarantined = frame[bad].copy()
    of_all = [{"rule": reason, "value": None, "threshold": None} for reason in reasons]
    told = [broken.get(int(row), of_all) for row in quarantined.index]
    quarantined["rules"] = ["; ".join(item["rule"] for item in items) for items in told]
    quarantined["broken"] = [json.dumps(items) for items in told]
    return Verdict(
        ticker=ticker,
        valid=frame[~bad].reset_index(drop=True),
        quarantined=quarantined.reset_index(drop=True),
        findings=findings,
        condemned="; ".join(reasons),
        flagged=[] if reasons else flagged,
    )


def preload() -> None:
    """Import and set up Great Expectations (seconds), before a fork, so that no child has to."""
    _great_expectations()


def for_suite(frame: pd.DataFrame, context: pd.DataFrame | None = None) -> pd.DataFrame:
    """The frame and further columns for the suite, because an expectation costs 11 ms whatever it looks at.

    `least_price` and `greatest_price` are over open, high, low and close, NaN where one of them is; see `suspicions`
    for those that look at what surrounds a bar.
    """
    prices = frame[list(PRICES)]
    known = frame[["date", "dividends", "stock_splits"]].notna().all(axis=1)
    around = frame if context is None else pd.concat([context[~context["date"].isin(frame["date"])], frame])
    # By place, not by label: those of the frame come last, and get their order back.
    order = np.argsort(around["date"].to_numpy(), kind="stable")
    found = signs(around.iloc[order].reset_index(drop=True))
    back = np.empty(len(order), dtype=int)
    back[order] = np.arange(len(order))
    of_frame = found.iloc[back[len(around) - len(frame) :]].set_axis(frame.index)
    return frame.assign(
        least_price=prices.min(axis=1, skipna=False),
        greatest_price=prices.max(axis=1, skipna=False),
        known=known.where(known, None),
        whole_volume=frame["volume"].where(frame["volume"] % 1 == 0),
        **{name: of_frame[name] for name in of_frame},
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
            batch = batch_definition.get_batch({"dataframe": frame})
            validation = batch.validate(suite, result_format={"result_format": "COMPLETE"})
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigurationError(str(suite_file), f"Great Expectations cannot run it ({reason})") from error
    return [_plain(result) for result in validation.results]


def _plain(result: Any) -> dict[str, Any]:
    """One result as {success, type, kwargs, notes, severity, rows (numbers, or None), exception_info (words)}."""
    configuration = result.expectation_config
    info = result.exception_info or {}
    raised = [info] if "raised_exception" in info else list(info.values())
    message = "; ".join(str(item.get("exception_message")) for item in raised if item.get("raised_exception"))
    return {
        "success": bool(result.success),
        "type": configuration.type,
        "kwargs": configuration.kwargs,
        "notes": configuration.meta or {},
        "severity": configuration.severity.value,
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


def _value(expectation: dict[str, Any], seen: pd.DataFrame, row: int) -> Any:
    """What the rule found in that row, as a JSON value."""
    kwargs = expectation["kwargs"]
    columns = [kwargs[name] for name in ("column", "column_A", "column_B") if name in kwargs]
    values = {name: _plain_number(seen[name][row]) for name in columns if name in seen}
    return next(iter(values.values()), None) if len(values) < 2 else values


def _plain_number(value: Any) -> Any:
    if isinstance(value, (int, float, np.number)):
        return float(value) if np.isfinite(value) else str(float(value))
    return None if value is None or value is pd.NaT else str(value)


def _threshold(expectation: dict[str, Any]) -> str | None:
    """What the value should have been, in words or signs."""
    kwargs = expectation["kwargs"]
    if expectation["notes"].get("threshold"):
        return str(expectation["notes"]["threshold"])
    if "column_A" in kwargs:
        return f"{kwargs['column_A']} {'>=' if kwargs.get('or_equal') else '>'} {kwargs.get('column_B')}"
    least, most = kwargs.get("min_value"), kwargs.get("max_value")
    limits = [] if least is None else [f"{'>' if kwargs.get('strict_min') else '>='} {least:g}"]
    limits += [] if most is None else [f"{'<' if kwargs.get('strict_max') else '<='} {most:g}"]
    return " and ".join(limits) or None


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
