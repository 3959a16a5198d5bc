"""The report's document as a page and as a few lines for the terminal."""

from __future__ import annotations

import importlib.resources
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from luigi_tasks.report import charts
from luigi_tasks.report.findings import GRAVITIES, by_kind, counted, values_of
from luigi_tasks.words import duration

_LATER = 60
"""Seconds after the last close from which on it is worth telling that company data came later."""
_PROBE = {"nothing new": "needed no bars", "previous close": "asked for all its bars"}
_SHOWN = 10
_OTHERS = 6
_LONGEST = 130


def page(document: dict[str, Any]) -> str:
    """One self-contained HTML page; every text from outside is escaped."""
    import jinja2

    folder = importlib.resources.files(__package__)
    template, style, script = (
        folder.joinpath(name).read_text(encoding="utf-8") for name in ("page.html.jinja", "page.css", "page.js")
    )
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"sparkline": sparkline, "growth": growth, "counted": counted, "bars_of": bars_of}
    environment.filters |= {"values_of": values_of}
    figures = charts.figures(document)
    return environment.from_string(template).render(
        report=document,
        headline=headline(document),
        duration=duration(document["seconds"]),
        figures=figures,
        kinds=kinds_of(document),
        by_quote=by_quote(document),
        gravities=GRAVITIES,
        style=style,
        script=script,
        plotly=_plotly() if figures else "",
    )


def sparkline(values: Sequence[float]) -> str:
    """An SVG path through the values, in a box of 72 by 20."""
    low, high = min(values), max(values)
    room = (high - low) or 1.0
    steps = 72 / max(len(values) - 1, 1)
    points = (f"{steps * place:.0f} {19 - 18 * (value - low) / room:.0f}" for place, value in enumerate(values))
    return "M" + "L".join(points)


def growth(values: Sequence[float]) -> str:
    """From the first value to the last, in per cent; empty where there are not two."""
    return f"{100 * (values[-1] / values[0] - 1):+.0f}" if len(values) > 1 else ""


def _plotly() -> str:
    """Plotly's JavaScript; importing the package for it would take longer."""
    return importlib.resources.files("plotly").joinpath("package_data/plotly.min.js").read_text(encoding="utf-8")


def headline(document: dict[str, Any]) -> str:
    """The answer to "did it work", in a sentence."""
    tickers, outcome = document["tickers"], document["outcome"]
    retired = tickers.get("retired", 0)
    every, done = tickers["all"] - retired, tickers.get("done", 0)
    if outcome == "interrupted":
        return f"Interrupted by {document['interrupted_by']}: {done} of {every} tickers are done. Run again to go on."
    if outcome == "running, or killed":
        return f"Running, or killed: {done} of {every} tickers are done. Once it is not running, run again to go on."
    if document["gave_up"]:
        return f"Stopped early: {done} of {every} tickers are done. {document['gave_up']}"
    if every == 0 and retired:
        return f"Nothing to do: all {retired} tickers are retired."
    if every == 0:
        return "Nothing was run: the run failed before the first ticker."
    if done < every:
        return f"{every - done} of {every} tickers are not done; {done} are."
    if not any(step["processed"] for step in document["steps"]):
        return f"Nothing to do: all {every} tickers are stored as of {document['as_of']}."
    others = f", {retired} more are retired" if retired else ""
    subject = "The ticker is" if every == 1 else f"All {every} tickers are"
    return f"{subject} stored as of {document['as_of']}{others}."


def bars_of(stored: dict[str, Any]) -> str:
    """How many bars of how many tickers, as far as they were counted."""
    bars = "bars" if stored["bars"] is None else counted(stored["bars"], "bar")
    return f"{bars} of {counted(stored['tickers_with_bars'], 'ticker')}"


def terminal(document: dict[str, Any], path: str) -> str:
    """The summary for the terminal; `path` is where the page stands."""
    lines = ["", headline(document), ""]
    if document["steps"]:
        columns = ("processed", "succeeded", "failed", "skipped", "blocked", "rows")
        lines.append(f"  {'step':<18}" + "".join(f"{name:>11}" for name in columns))
        lines += [
            f"  {step['step']:<18}" + "".join(f"{step[name]:>11,}" for name in columns) for step in document["steps"]
        ]
        lines.append("")
    stored = document["stored"]
    if stored["tickers_with_bars"]:
        lines.append(
            f"  stored: {bars_of(stored)}, {stored['first_session']} to {stored['last_session']}; "
            f"company data of {stored['tickers_with_company_data']:,}"
        )
    lines += [f"  {line}" for line in by_quote(document)]
    for group in document["failures_by_kind"]:
        named = ", ".join(group["tickers"][:_SHOWN]) + (", …" if len(group["tickers"]) > _SHOWN else "")
        lines += [f"  failed, {group['kind']} ({len(group['tickers'])}): {named}", f"    {group['remedy']}"]
    reasons = [f"    {item['ticker'] or item['step']}: {item['reason']}" for item in document["failures"][:_SHOWN]]
    if reasons:
        lines += ["  first reasons:", *reasons]
        if document["task"] == "RunAll":
            lines.append(f"  {'again':<9} ./run.sh retry tries again what failed, and nothing else")
    if document["rejected"]:
        lines.append(f"  not run: {len(document['rejected'])} entries of the list")
        lines += [f"    {item['ticker']!r} {item['reason']}" for item in document["rejected"][:_SHOWN]]
    bad = sum(len(item["rows"]) for item in document["quarantine"])
    if bad:
        lines.append(f"  quarantined: {counted(bad, 'bar')} of {counted(len(document['quarantine']), 'ticker')}")
    lines += _findings(document)
    if document["retired"]:
        lines.append(f"  retired, not asked for: {len(document['retired']):,}")
        lines += [f"    {item['ticker']}: {item['reason']}" for item in document["retired"][:_SHOWN]]
        named = shlex.quote(",".join(item["ticker"] for item in document["retired"][:_SHOWN]))
        lines.append(f"    to ask for them all the same: ./run.sh --tickers {named} --full")
    lines.append(f"  {'report':<9} {path}")
    if document.get("data_docs"):
        lines.append(f"  data docs {path.removesuffix('report.html')}{document['data_docs']}")
    lines += [f"  {name:<9} {place}" for name, place in document["where"].items()]
    return "\n".join(_harmless(line) for line in [*lines, ""])


def by_quote(document: Mapping[str, Any]) -> list[str]:
    """When all closes were in, and what quotes have told, in lines; also of a report from before there were quotes."""
    lines = []
    closes, seconds = document.get("closes_seconds"), document["seconds"]
    if closes is not None and seconds - closes > _LATER:
        lines.append(f"closes: all in after {duration(closes)}; company data after {duration(seconds)}")
    quotes = document.get("quotes") or {"lacking": []}
    if quotes["lacking"]:
        reasons = f" ({'; '.join(quotes['reasons'])})" if quotes["reasons"] else ""
        lines.append(
            f"quotes: none of {len(quotes['lacking'])} of {counted(quotes['asked'], 'ticker')}{reasons}; their numbers "
            "come with their company data, which is asked for one by one, once in some days"
        )
    probe = document.get("probe") or {}
    told = [f"{counted(probe[name], 'ticker')} {words}" for name, words in _PROBE.items() if probe.get(name)]
    if told:
        lines.append(f"by their quotes {', '.join(told)}")
    return lines


def kinds_of(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Kinds of findings, the gravest first, with their `findings`. Also of a report from before there were kinds."""
    found: list[dict[str, Any]] = document.get("findings", [])
    groups: list[dict[str, Any]] = document.get("findings_by_kind") or by_kind(found)
    of_kind: dict[str, list[dict[str, Any]]] = {}
    for each in found:
        of_kind.setdefault(each.get("kind", "other"), []).append(each)
    return [group | {"findings": of_kind.get(group["kind"], [])} for group in groups]


def _findings(document: dict[str, Any]) -> list[str]:
    """Below the words for each gravity a line for each kind: one finding, and who else has one."""
    kinds = kinds_of(document)
    if not kinds:
        return []
    lines = [f"  findings: {len(document['findings']):,}, the gravest first"]
    for place, group in enumerate(kinds):
        if not place or group["gravity"] != kinds[place - 1]["gravity"]:
            lines.append(f"    {GRAVITIES.get(group['gravity'], '')}:")
        named = list(dict.fromkeys(each["ticker"] for each in group["findings"]))
        example = next((f"{each['ticker']}: {each['finding']}" for each in group["findings"]), "")
        example = example if len(example) <= _LONGEST else f"{example[: _LONGEST - 1]}…"
        others = named[1 : _OTHERS + 1]
        also = f"; also {', '.join(others)}{', …' if len(named) > _OTHERS + 1 else ''}" if others else ""
        lines.append(f"      {group['kind']} ({counted(group['tickers'], 'ticker')}): {example}{also}")
    return lines


def _harmless(line: str) -> str:
    """The line without what would steer the terminal, or end the line."""
    return "".join(character if character.isprintable() else " " for character in line)
