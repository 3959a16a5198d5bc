"""Bars through Great Expectations: the suite is a file of the user's, the verdict names every row and rule.

An expectation about a column judges row by row. How bad it is to break it is its `severity`, a field of Great
Expectations': where it is critical, as it is unless the file says otherwise, the rows that do are quarantined, alone;
where it is warning or info they stay valid, and the verdict lists them. One whose `meta` says that it `costs` a column
takes that column's value from the row, and leaves the row valid. A critical expectation about the table, or one that
fails without naming rows, condemns the whole frame. So does a whole history of which hardly a row is valid: what
remains means nothing. A part of a history is never condemned for its bad rows, so that the verdict on a row is the
same whether it came in a part or in the whole.

The newest session is another matter while its source still settles it: a bar of it that breaks a rule waits, and is
stored without what is broken if its close is usable; see `_waiting`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import html
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
from luigi_tasks.bars import AMOUNTS, COLUMNS, PRICES
from luigi_tasks.errors import ConfigurationError
from luigi_tasks.quality import repairs, suspicions

# Great Expectations reports its use to its maker unless told otherwise before its first import.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")


CRITICAL = "critical"
FEW_ROWS = 5
"""So many bad rows never condemn a frame that has others: of the few bars of a new listing, one is a large share."""
_MOST_NAMED = 5
"""Rows that a reason names."""

_SUSPECT = "suspect"
"""The column that has a value in the rows that break one of the expectations asked for as one."""

_BOUNDS = ("min_value", "max_value", "strict_min", "strict_max")

Rows = np.ndarray[Any, np.dtype[np.bool_]]

_SHAPE = frozenset(
    {
        "open, high, low and close are known",
        "volume is a whole number",
        "prices are above 0",
        "prices are finite",
        "high is the highest price",
        "low is the lowest price",
        "volume is not negative",
    }
)
"""Rules, by their words in the suite file, that are about one bar's own prices and volume."""

_TOLD = {"whole_volume": "volume"}
"""Columns that are null where something is amiss: the column that says what it was."""


@dataclass(frozen=True)
class Verdict:
    """What the suite said of one ticker's bars.

    `quarantined` has the columns of `luigi_tasks.bars`, `rules`, the broken rules joined by "; ", and `broken`, JSON
    text [{rule, value, threshold}]. `flagged` lists what is wrong with bars that stay valid: {date (ISO; None: the
    whole table), rule, value, threshold, severity}. `findings` is {rule: rows that broke it}, of whatever severity;
    `condemned` says why nothing may be stored, and is empty where the valid bars may. `waiting` is of the newest
    session, while its source settles it: [{date, rules, stored: whether its close is among the valid}]; a bar that is
    not stored is among the quarantined. `repairs`: see `luigi_tasks.quality.repairs`.
    """

    ticker: str
    valid: pd.DataFrame
    quarantined: pd.DataFrame
    findings: dict[str, int]
    condemned: str
    flagged: list[dict[str, Any]] = field(default_factory=list)
    waiting: list[dict[str, Any]] = field(default_factory=list)
    repairs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def success(self) -> bool:
        """True where every bar met every critical expectation."""
        lost = any(flag["severity"] == CRITICAL for flag in self.flagged)
        return not self.condemned and self.quarantined.empty and not self.waiting and not lost

    def summary(self) -> dict[str, Any]:
        """The verdict without its frames, as JSON values."""
        return {
            "ticker": self.ticker,
            "success": self.success,
            "valid": len(self.valid),
            "quarantined": len(self.quarantined),
            "waiting": self.waiting,
            "findings": self.findings,
            "condemned": self.condemned,
            "rows": [
                {"date": _day(row.date), "rules": row.rules, "broken": json.loads(row.broken)}
                for row in self.quarantined[["date", "rules", "broken"]].itertuples(index=False)
                if _day(row.date) not in {waits["date"] for waits in self.waiting}
            ],
            "flagged": self.flagged,
            "repairs": self.repairs,
        }


@dataclass(frozen=True)
class _Failure:
    """An expectation that was not met: `values` is {row number: value}, or None where it names no rows."""

    rule: str
    threshold: str
    severity: str
    costs: str
    """The column that a row loses which does not meet it, and nothing else; empty: severity decides."""
    values: dict[int, Any] | None
    observed: Any

    def as_json(self, row: int | None = None) -> dict[str, Any]:
        value = self.observed if row is None or self.values is None else self.values[row]
        return {"rule": self.rule, "value": value, "threshold": self.threshold}


def judge(
    frame: pd.DataFrame, ticker: str, suite_file: Path, most_bad_share: float, context: pd.DataFrame | None = None
) -> Verdict:
    """The suite's verdict on bars of the shape in `luigi_tasks.bars`.

    `context` has stored bars of the same shape, from around the frame's dates; rules that compare a bar with those
    before it see them, see `luigi_tasks.quality.suspicions` (`LOOK_BACK` bars are enough). They are not judged; those
    of dates that the frame has are left out.

    Raises:
        ConfigurationError: the suite cannot be read or run.
    """
    # pandas copies them, deep, with every operation.
    attrs, frame = frame.attrs, frame.reset_index(drop=True)
    frame.attrs = {}
    try:
        bars.conform(frame)
    except (KeyError, ValueError, TypeError) as error:
        reason = f"is no frame of bars ({' '.join(str(error).split())[:200]})"
        quarantined = _quarantined(frame.reindex(columns=list(COLUMNS)), {}, [_reason(reason)], {})
        return Verdict(ticker, quarantined.iloc[:0][list(COLUMNS)], quarantined, {reason: len(frame)}, reason)
    frame = bars.complete(frame)
    actions, whole = _said(attrs, context)
    measured = with_signs(frame, context, attrs)
    failures = _failures(measured, suite_file)
    critical = [failure for failure in failures if failure.severity == CRITICAL and not failure.costs]
    lesser = [failure for failure in failures if failure.severity != CRITICAL or failure.costs]
    reasons = [failure.as_json() for failure in critical if failure.values is None]
    broken = _by_row(critical)
    newest = _newest(frame, attrs, broken)
    bad_rows = sorted(set(broken) - {newest})
    if not reasons and context is None:
        reasons = _too_bad(bad_rows, frame, critical, most_bad_share)
    mended = _without(frame, lesser)
    waiting = []
    if newest is not None and not reasons:
        usable = _waiting(frame.loc[newest], broken[newest])
        if usable is None:
            bad_rows.append(newest)
        else:
            mended = mended.astype({"volume": "float64"}) if np.isnan(usable["volume"]) else mended
            for name, value in usable.items():
                mended.loc[newest, name] = value
        rules = "; ".join(entry["rule"] for entry in broken[newest])
        waiting = [{"date": _day(frame.loc[newest, "date"]), "rules": rules, "stored": usable is not None}]
    signs = measured[list(suspicions.SIGNS)]
    mendable = [] if reasons else repairs.propose(frame, signs, actions, context, whole)
    bad = frame.index.isin(frame.index if reasons else bad_rows)
    valid = mended[~bad].reset_index(drop=True)
    valid.attrs = dict(attrs)
    quarantined = _quarantined(frame[bad], broken, reasons, _by_row(lesser))
    if reasons:
        # Then it is all that is left of the answer.
        quarantined.attrs = dict(attrs)
    return Verdict(
        ticker=ticker,
        valid=valid,
        quarantined=quarantined,
        findings={failure.rule: len(frame if failure.values is None else failure.values) for failure in failures},
        condemned="; ".join(reason["rule"] for reason in reasons),
        flagged=_flagged(frame[~bad], lesser),
        waiting=waiting,
        repairs=mendable,
    )


def _newest(frame: pd.DataFrame, attrs: dict[Any, Any], broken: dict[int, Any]) -> int | None:
    """The row of the newest session, if its source still settles it and it breaks a rule; None also for two of them."""
    day = (attrs.get(bars.FACTS) or {}).get("provisional")
    rows = [] if day is None else frame.index[frame["date"] == pd.Timestamp(day)].tolist()
    return rows[0] if len(rows) == 1 and rows[0] in broken else None


def _waiting(bar: pd.Series[Any], broken: list[dict[str, Any]]) -> pd.Series[Any] | None:
    """Open, high, low and volume of a bar that breaks rules, NaN where they are broken; None where its close is not
    usable.

    A close is usable if it is a price, lies within what is known of high and low, and only rules about the bar's own
    shape are broken: a source corrects open, high, low and volume for hours (see docs/architecture.md).
    """
    if not {entry["rule"] for entry in broken} <= _SHAPE:
        return None
    is_price = {name: bool(0 < bar[name] < np.inf) for name in PRICES}
    if not is_price["close"]:
        return None
    known = {name: float(bar[name]) if is_price[name] else np.nan for name in PRICES}
    if known["high"] < known["low"]:
        known["high"] = known["low"] = np.nan
    if known["close"] > known["high"] or known["close"] < known["low"]:
        return None
    for bound, beyond in (("high", known["open"] > known["high"]), ("low", known["open"] < known["low"])):
        if beyond:
            # One of the two is wrong, and the bar does not say which.
            known["open"] = known[bound] = np.nan
    volume = float(bar["volume"]) if bar["volume"] >= 0 and bar["volume"] % 1 == 0 else np.nan
    return pd.Series({name: known[name] for name in ("open", "high", "low")} | {"volume": volume})


def _without(frame: pd.DataFrame, failures: list[_Failure]) -> pd.DataFrame:
    """The frame without the values that failures cost."""
    lost = [failure for failure in failures if failure.costs and failure.values]
    if not lost:
        return frame.copy()
    out = frame.copy()
    for failure in lost:
        out.loc[list(failure.values or ()), failure.costs] = np.nan
    return out


def preload(suite_file: Path) -> None:
    """Import and set up Great Expectations (seconds), before a fork, so that no child has to.

    Much of it is only made where it is first used, which a child would do again; so one bar is judged here.
    """
    one = dict.fromkeys(bars.NUMBERS, 1.0)
    bar = bars.conform(pd.DataFrame({"date": pd.to_datetime(["2000-01-03"])}).assign(**one))
    # A suite that cannot be used is told by the task that wants to.
    with contextlib.suppress(ConfigurationError):
        judge(bar, "preload", suite_file, 1.0)


def with_signs(
    frame: pd.DataFrame, context: pd.DataFrame | None = None, attrs: dict[Any, Any] | None = None
) -> pd.DataFrame:
    """The frame and columns for the suite, because an expectation costs milliseconds whatever it looks at.

    `least_price` and `greatest_price` are over open, high, low and close, NaN where one of them is; `known` and
    `whole_volume` are null where something is amiss. Those of `suspicions.signs` compare bars with others.
    `attrs` are the frame's, where it has lost them.
    """
    attrs, frame = frame.attrs if attrs is None else attrs, bars.complete(frame)
    actions, whole = _said(attrs, context)
    signs = suspicions.signs(frame, context, actions, attrs.get(bars.FACTS, {}).get("market_price"), whole)
    prices = frame[list(PRICES)]
    known = frame[["date", *AMOUNTS]].notna().all(axis=1)
    return frame.assign(
        least_price=prices.min(axis=1, skipna=False),
        greatest_price=prices.max(axis=1, skipna=False),
        known=known.where(known, None),
        whole_volume=_whole(frame["volume"]),
        **signs,
    )


def _whole(volume: pd.Series[Any]) -> pd.Series[Any]:
    """The volumes, null where one is known and is no whole number."""
    return volume.where(volume % 1 == 0).mask(volume.isna(), 0)


def _said(attrs: dict[Any, Any], context: pd.DataFrame | None) -> tuple[pd.DataFrame | None, bool]:
    """The actions of days without a bar, None where there are none, and whether the frame is a whole history.

    One that does not say is, unless it has context.
    """
    told = pd.DataFrame()
    told.attrs = {bars.ACTIONS: attrs.get(bars.ACTIONS)}
    none = context is None or context.empty
    whole = bool(attrs.get(bars.ASKED, {}).get("whole", none))
    return bars.actions_of(told) if attrs.get(bars.ACTIONS) else None, whole


def _too_bad(
    bad: list[int], frame: pd.DataFrame, critical: list[_Failure], most_bad_share: float
) -> list[dict[str, Any]]:
    """Why a whole history with these bad rows is condemned, with rules and first rows; empty where it is not."""
    few = len(bad) <= max(most_bad_share * len(frame), FEW_ROWS)
    if not bad or (few and len(bad) < len(frame)):
        return []
    share = "none" if len(bad) == len(frame) else f"{len(frame) - len(bad)}"
    rules = "; ".join(failure.rule for failure in critical if failure.values)
    days = ", ".join(_day(day) for day in frame.loc[bad[:_MOST_NAMED], "date"])
    more = ", …" if len(bad) > _MOST_NAMED else ""
    return [_reason(f"{share} of {len(frame)} bars valid: {len(bad)} break '{rules}' ({days}{more})")]


def _reason(words: str) -> dict[str, Any]:
    return {"rule": words, "value": None, "threshold": None}


def _by_row(failures: list[_Failure]) -> dict[int, list[dict[str, Any]]]:
    broken: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for failure in failures:
        for row in failure.values or ():
            broken[row].append(failure.as_json(row))
    return broken


def _quarantined(
    bad: pd.DataFrame,
    critical: dict[int, list[dict[str, Any]]],
    reasons: list[dict[str, Any]],
    lesser: dict[int, list[dict[str, Any]]],
) -> pd.DataFrame:
    """The bad rows with their rules: the critical ones, or why the frame is condemned, and then the lesser ones."""
    entries = [(critical.get(row) or reasons) + lesser.get(row, []) for row in map(int, bad.index)]
    return bad.reset_index(drop=True).assign(
        rules=pd.Series(["; ".join(entry["rule"] for entry in row) for row in entries], dtype="str"),
        broken=pd.Series([json.dumps(row, allow_nan=False) for row in entries], dtype="str"),
    )


def _flagged(valid: pd.DataFrame, lesser: list[_Failure]) -> list[dict[str, Any]]:
    """What is wrong with rows that may be stored all the same, by date, after what is wrong with the table."""
    if not lesser:
        return []
    days = dict(zip(valid.index, map(_day, valid["date"]), strict=True))
    flagged = []
    for failure in lesser:
        rows = [None] if failure.values is None else [row for row in failure.values if row in days]
        for row in rows:
            day = None if row is None else days[row]
            flagged.append({"date": day, **failure.as_json(row), "severity": failure.severity})
    return sorted(flagged, key=lambda flag: flag["date"] or "")


def _failures(frame: pd.DataFrame, suite_file: Path) -> list[_Failure]:
    """The expectations that are not met, with the rows.

    An expectation costs Great Expectations milliseconds whatever it looks at, and most frames have no bad row. So all
    those of the simple forms in `suspects` are first asked for as one, that no row is suspect; each is asked for by
    itself only where that is not met. And which rows it is, and what they hold, only of those that are not met.
    """
    gx, batch_definition = _great_expectations()
    screened: list[Any] = []
    others: list[Any] = []
    suspect = np.zeros(len(frame), dtype=bool)

    def unmet(rules: list[Any], result_format: str) -> list[Any]:
        suite = gx.ExpectationSuite(name="ohlcv", expectations=rules)
        results = batch.validate(suite, result_format={"result_format": result_format}).results
        return [result for result in results if not result.success]

    try:
        for item, rule in _rules(suite_file):
            rows = suspects(frame, item["type"], item["kwargs"])
            if rows is None:
                others.append(rule)
            else:
                screened.append(rule)
                suspect |= rows
        nobody = gx.expectations.ExpectColumnValuesToBeNull(column=_SUSPECT)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            batch = batch_definition.get_batch(
                {"dataframe": frame.assign(**{_SUSPECT: np.where(suspect, 1.0, np.nan)})}
            )
            failed = unmet([nobody, *others], "BOOLEAN_ONLY")
            apart = [result for result in failed if result.expectation_config.kwargs.get("column") != _SUSPECT]
            if len(apart) < len(failed):
                failed = [*unmet(screened, "BOOLEAN_ONLY"), *apart]
            if failed and not any(map(_exception, failed)):
                broken = [result.expectation_config.to_domain_obj() for result in failed]
                failed = unmet(broken, "COMPLETE")
    except ConfigurationError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigurationError(str(suite_file), f"Great Expectations cannot run it ({reason})") from error
    for result in failed:
        if _exception(result):
            raise ConfigurationError(f"{suite_file.name}, rule {_rule(result)!r}", _exception(result))
    return [_failure(result, frame) for result in failed]


def suspects(frame: pd.DataFrame, kind: str, kwargs: dict[str, Any]) -> Rows | None:
    """Of an expectation of a form known here: in which rows it is not met. None of another one.

    By Great Expectations' own meaning: where no row is marked, the expectation is met.
    """
    if kind == "expect_column_pair_values_a_to_be_greater_than_b":
        return _suspect_pairs(frame, kwargs)
    column = kwargs.get("column")
    if column not in frame:
        return None
    values = frame[column]
    if kind == "expect_column_values_to_be_null" and kwargs.keys() == {"column"}:
        return np.asarray(values.notna())
    if kind == "expect_column_values_to_not_be_null" and kwargs.keys() == {"column"}:
        return np.asarray(values.isna())
    if kind == "expect_column_values_to_be_unique" and kwargs.keys() == {"column"}:
        return np.asarray(values.duplicated(keep=False) & values.notna())
    if kind != "expect_column_values_to_be_between" or not kwargs.keys() <= {"column", *_BOUNDS}:
        return None
    least, greatest = kwargs.get("min_value"), kwargs.get("max_value")
    bounds = [bound for bound in (least, greatest) if bound is not None]
    if values.dtype.kind not in "if" or not bounds or not all(type(bound) in (int, float) for bound in bounds):
        return None
    numbers = values.to_numpy()
    bad = np.zeros(len(numbers), dtype=bool)
    if least is not None:
        bad |= numbers <= least if kwargs.get("strict_min") else numbers < least
    if greatest is not None:
        bad |= numbers >= greatest if kwargs.get("strict_max") else numbers > greatest
    return bad


def _suspect_pairs(frame: pd.DataFrame, kwargs: dict[str, Any]) -> Rows | None:
    if kwargs.keys() != {"column_A", "column_B", "or_equal", "ignore_row_if"} or not kwargs["or_equal"]:
        return None
    pair = [frame.get(kwargs[name]) for name in ("column_A", "column_B")]
    if kwargs["ignore_row_if"] != "either_value_is_missing" or any(
        values is None or values.dtype.kind not in "if" for values in pair
    ):
        return None
    return np.asarray(pair[0] < pair[1])


def _exception(result: Any) -> str:
    """What Great Expectations ran into, in words; empty where it did not."""
    info = result.exception_info or {}
    raised = [info] if "raised_exception" in info else list(info.values())
    return "; ".join(str(item.get("exception_message")) for item in raised if item.get("raised_exception"))


def _failure(result: Any, frame: pd.DataFrame) -> _Failure:
    configuration, found = result.expectation_config, result.result or {}
    rows = found.get("unexpected_index_list")
    return _Failure(
        rule=_rule(result),
        threshold=_threshold(configuration.type, configuration.kwargs),
        severity=configuration.severity.value,
        costs=str((configuration.meta or {}).get("costs") or ""),
        values=None if rows is None else _values(frame, rows, configuration.kwargs),
        observed=_json_value(found.get("observed_value")),
    )


def _rule(result: Any) -> str:
    """The rule in the words of its `meta.rule` in the suite file; Great Expectations' own name where it has none."""
    return _rule_of(result.expectation_config)


def _rule_of(configuration: Any) -> str:
    if (configuration.meta or {}).get("rule"):
        return str(configuration.meta["rule"])
    return f"{configuration.type}({_in_words(configuration.kwargs)})"


def _threshold(kind: str, kwargs: dict[str, Any]) -> str:
    """What the value should have been, from the expectation's own arguments: "> 0", "high >= greatest_price"."""
    if kind == "expect_column_pair_values_a_to_be_greater_than_b":
        return f"{kwargs['column_A']} {'>=' if kwargs.get('or_equal') else '>'} {kwargs['column_B']}"
    if kind == "expect_column_values_to_be_null":
        return suspicions.SIGNS.get(kwargs["column"], "null")
    bounds = [
        f"{sign}{'' if kwargs.get(strict) else '='} {_short(kwargs[bound])}"
        for sign, bound, strict in ((">", "min_value", "strict_min"), ("<", "max_value", "strict_max"))
        if kwargs.get(bound) is not None
    ]
    if bounds:
        return " and ".join(bounds)
    known = {"expect_column_values_to_not_be_null": "known", "expect_column_values_to_be_unique": "unique"}
    columns = ("column", "column_A", "column_B", "column_list")
    return known.get(kind) or _in_words({name: value for name, value in kwargs.items() if name not in columns})


def _short(bound: Any) -> str:
    return f"{bound:.12g}".replace("e+", "e") if isinstance(bound, int | float) else str(bound)


def _in_words(kwargs: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in kwargs.items() if name != "batch_id")


def _values(frame: pd.DataFrame, rows: list[int], kwargs: dict[str, Any]) -> dict[int, Any]:
    """{row: what the expectation looked at}: the column's value, or {column: value} where it looks at several."""
    named = [kwargs[name] for name in ("column", "column_A", "column_B") if name in kwargs]
    columns = [_TOLD.get(name, name) for name in [*named, *kwargs.get("column_list", ())]]
    # In lists: a frame would make None NaN again.
    values = {name: [_json_value(value) for value in frame.loc[rows, name]] for name in columns}
    if len(values) == 1:
        return dict(zip(rows, *values.values(), strict=True))
    return {row: {name: values[name][place] for name in values} for place, row in enumerate(rows)}


def _json_value(value: Any) -> Any:
    """The value as JSON can hold it: a day as ISO text, not known as null, infinite as "inf" or "-inf"."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return None
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    if isinstance(value, bool | int | str):
        return value
    return _day(value) if isinstance(value, dt.date) else str(value)


def _day(date: Any) -> str:
    return str(date)[:10]


@lru_cache(maxsize=8)
def _rules(suite_file: Path) -> tuple[tuple[dict[str, Any], Any], ...]:
    """The suite's expectations, each as it stands in the file and as Great Expectations' object."""
    try:
        content = json.loads(suite_file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(str(suite_file), f"cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ConfigurationError(str(suite_file), f"is not JSON ({error})") from error
    expectations = content.get("expectations") if isinstance(content, dict) else None
    if not isinstance(expectations, list) or not expectations:
        raise ConfigurationError(str(suite_file), "has no expectations")
    gx, _ = _great_expectations()
    configuration = gx.expectations.expectation_configuration.ExpectationConfiguration
    # One by one: a suite that is given plain dicts leaves out, with no error, what it cannot make sense of.
    return tuple((item, configuration(**item).to_domain_obj()) for item in expectations)


def explained(suite_file: Path) -> list[Any]:
    """The suite's expectations as Great Expectations' objects, each described by its rule, threshold and severity.

    Descriptions are HTML, as Data Docs take them; one that the suite file has itself stays.

    Raises:
        ConfigurationError: the suite cannot be read.
    """
    configuration = great_expectations().expectations.expectation_configuration.ExpectationConfiguration
    made = []
    for item, rule in _rules(suite_file):
        words = f"{_rule_of(rule.configuration)}: {_threshold(item['type'], item['kwargs'])}"
        words = html.escape(f"{words} ({rule.configuration.severity.value})")
        made.append(configuration(**({"description": words} | item)).to_domain_obj())
    return made


def findings(results: list[Any], rows: int, suite_file: Path) -> dict[str, int]:
    """`Verdict.findings` of results in Great Expectations' COMPLETE format, of a frame of so many rows.

    Raises:
        ConfigurationError: an expectation could not be run.
    """
    found: dict[str, int] = {}
    for result in results:
        if _exception(result):
            raise ConfigurationError(f"{suite_file.name}, rule {_rule(result)!r}", _exception(result))
        if not result.success:
            broken = result.result.get("unexpected_index_list")
            found[_rule(result)] = rows if broken is None else len(broken)
    return found


def great_expectations() -> Any:
    """The library, imported (seconds) and told to be quiet."""
    return _great_expectations()[0]


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
