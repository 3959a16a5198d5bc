"""The report's charts, as Plotly figures in plain JSON values.

Plain, because Plotly's own classes take as long to import as a run with nothing to do may take to say so. Colours of
text and grid are set by the page, which knows whether it is dark.
"""

from __future__ import annotations

import math
from typing import Any

Figure = dict[str, Any]

_GOOD, _BAD, _QUIET = "#2a7fba", "#d1495b", "#8a94a3"
# From "none" to "all", told apart without red and green.
_SHARES = [[0.0, "#b2182b"], [0.8, "#ef8a62"], [0.97, "#fddbc7"], [0.99, "#9ecae1"], [1.0, "#2a7fba"]]
_FRESH_DAYS = 15


def figures(document: dict[str, Any]) -> dict[str, Figure]:
    """{id of the chart's place on the page: figure}, of those that there is something to show in.

    None of a run that had nothing to do: its page stays small, and says where they are.
    """
    if not document["coverage"]:
        return {}
    found = {
        "chart-coverage": _coverage(document["coverage"]),
        "chart-steps": _steps(document["steps"]),
        "chart-runs": _runs(document["history"]),
        "chart-freshness": _freshness(document["freshness"]),
    }
    found |= {f"chart-bad-{number}": _candles(item) for number, item in enumerate(document["bad_bars"])}
    found |= {f"chart-repaired-{number}": _repaired(item) for number, item in enumerate(document.get("repaired", []))}
    return {name: figure for name, figure in found.items() if figure is not None}


def _coverage(coverage: dict[str, Any] | None) -> Figure | None:
    """Tickers × months: the share of a month's sessions, so far, that there are bars of."""
    if not coverage or not coverage["tickers"]:
        return None
    shares = [
        [round(100 * bar / (bar + lack), 1) if bar + lack else None for bar, lack in zip(bars, missing, strict=True)]
        for bars, missing in zip(coverage["bars"], coverage["missing"], strict=True)
    ]
    heat = {
        "type": "heatmap",
        "x": [f"{month}-01" for month in coverage["months"]],
        "y": list(map(_plain, coverage["tickers"])),
        "z": shares,
        "zmin": 0,
        "zmax": 100,
        "colorscale": _SHARES,
        "colorbar": {"ticksuffix": " %", "thickness": 12, "outlinewidth": 0},
        "hovertemplate": "%{y}, %{x|%B %Y}: %{z} % of its sessions<extra></extra>",
    }
    height = min(640, max(180, 90 + 16 * len(shares)))
    return _figure([heat], height, yaxis={"autorange": "reversed", "type": "category"}, xaxis={"type": "date"})


def _steps(steps: list[dict[str, Any]]) -> Figure | None:
    """Seconds of all processes together, by step."""
    timed = [step for step in steps if step["seconds"] >= 0.05]
    if not timed:
        return None
    bar = {
        "type": "bar",
        "orientation": "h",
        "y": [step["step"] for step in timed],
        "x": [round(step["seconds"], 1) for step in timed],
        "marker": {"color": _GOOD},
        "hovertemplate": "%{y}: %{x} s<extra></extra>",
    }
    axis = {"title": {"text": "seconds, all processes together"}}
    return _figure([bar], 70 + 28 * len(timed), yaxis={"autorange": "reversed"}, xaxis=axis)


def _runs(history: list[dict[str, Any]]) -> Figure | None:
    """The last runs, oldest first: tickers that were done, and that were not."""
    told = [run for run in reversed(history) if run["summary"].get("tickers")]
    if len(told) < 2:
        return None
    every = [run["summary"]["tickers"] for run in told]
    done = [counts.get("done", 0) + counts.get("retired", 0) for counts in every]
    words = [
        f"{run['started_at']}, as of {run['as_of']}, {run['outcome']}<br>{run['summary']['seconds']:,.0f} s, "
        f"{sum(counts['sent'] for counts in run['summary']['requests'].values()):,} requests"
        for run in told
    ]
    traces = [
        {
            "type": "bar",
            "name": name,
            "x": list(range(len(told))),
            "y": counts,
            "text": words,
            "textposition": "none",
            "marker": {"color": colour},
            "hovertemplate": f"%{{y}} tickers {name}<br>%{{text}}<extra></extra>",
        }
        for name, colour, counts in (
            ("done", _GOOD, done),
            ("not done", _BAD, [counts["all"] - ready for counts, ready in zip(every, done, strict=True)]),
        )
    ]
    axis = {"tickvals": list(range(len(told))), "ticktext": [run["started_at"][5:] for run in told], "type": "linear"}
    return _figure(traces, 240, barmode="stack", xaxis=axis, yaxis={"title": {"text": "tickers"}}, showlegend=True)


def _freshness(freshness: list[dict[str, Any]]) -> Figure | None:
    """Tickers by the day of their last bar."""
    if len(freshness) < 2:
        return None
    shown = freshness[:_FRESH_DAYS]
    bar = {
        "type": "bar",
        "x": [each["last"] for each in shown],
        "y": [each["tickers"] for each in shown],
        "marker": {"color": [_GOOD] + [_QUIET] * (len(shown) - 1)},
        "hovertemplate": "%{y} tickers end on %{x}<extra></extra>",
    }
    axis = {"type": "category", "autorange": "reversed"}
    return _figure([bar], 220, xaxis=axis, yaxis={"title": {"text": "tickers"}, "type": "log", "dtick": 1})


def _candles(item: dict[str, Any]) -> Figure:
    """The stored bars around those in quarantine, and these among them, in another colour."""
    stored, bad = item["bars"], item["bad"]
    dates = [bar[0] for bar in stored]
    prices = {name: [bar[place] for bar in stored] for place, name in enumerate(("open", "high", "low", "close"), 1)}
    traces = [_candle("stored", dates, prices, _GOOD)]
    drawn = [row for row in bad if None not in (row["open"], row["high"], row["low"], row["close"])]
    if drawn:
        wrong = {name: [row[name] for row in drawn] for name in prices}
        traces.append(_candle("in quarantine", [row["date"] for row in drawn], wrong, _BAD))
    # A bar whose price is 0, or a hundred times too high, would leave the others a line.
    every = [price for values in prices.values() for price in values if price is not None]
    span: dict[str, Any] = {}
    if every:
        low, high = min(every), max(every)
        room = 0.35 * (high - low) or 0.1 * high
        span = {"range": [low - room, high + room]}
    marks = [
        {
            "type": "line",
            "x0": row["date"],
            "x1": row["date"],
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "line": {"color": _BAD, "width": 1, "dash": "dot"},
        }
        for row in bad
    ]
    axis = {"type": "category", "rangeslider": {"visible": False}, "nticks": 8, "categoryorder": "category ascending"}
    return _figure(traces, 260, xaxis=axis, yaxis=span, shapes=marks, showlegend=True)


def _repaired(item: dict[str, Any]) -> Figure:
    """A column of the bars around what was repaired: as served, and repaired."""
    traces: list[Figure] = []
    for name, colour, dash, width in (("served", _BAD, "dot", 1.4), ("repaired", _GOOD, "solid", 1.8)):
        trace = {"type": "scatter", "name": name.replace("served", "as served"), "x": item["dates"], "y": item[name]}
        if item["column"] == "dividends":
            trace |= {"mode": "markers", "marker": {"color": colour, "symbol": "x" if name == "served" else "circle"}}
        else:
            trace |= {"mode": "lines", "line": {"color": colour, "width": width, "dash": dash}}
        traces.append(trace | {"hovertemplate": "%{x}: %{y}<extra>" + trace["name"] + "</extra>"})
    drawn = [value for name in ("served", "repaired") for value in item[name] if value is not None and value > 0]
    axis: dict[str, Any] = {"title": {"text": item["column"].replace("_", " ")}}
    # Where one is many times the other, only so both have a form.
    if drawn and max(drawn) > 3 * min(drawn):
        axis |= {"type": "log", "tickvals": _round_numbers(min(drawn), max(drawn))}
    return _figure(traces, 260, xaxis={"type": "date"}, yaxis=axis, showlegend=True)


def _round_numbers(low: float, high: float) -> list[float]:
    """1, 2, 5, 10 and so on from the one below to the one above; powers of ten alone where these would be many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    of_ten = (1,) if last - first > 3 else (1, 2, 5)
    return [float(f"{digit}e{power}") for power in range(first, last + 1) for digit in of_ten]


def _candle(name: str, dates: list[str], prices: dict[str, list[float]], colour: str) -> Figure:
    line = {"line": {"color": colour, "width": 1.4}, "fillcolor": colour}
    hollow = {"line": {"color": colour, "width": 1.4}, "fillcolor": "rgba(0,0,0,0)"}
    return {"type": "candlestick", "name": name, "x": dates, **prices, "increasing": hollow, "decreasing": line}


def _figure(traces: list[Figure], height: int, **layout: Any) -> Figure:
    axes = {name: {"automargin": True, "fixedrange": False} | layout.pop(name, {}) for name in ("xaxis", "yaxis")}
    margin = {"l": 8, "r": 8, "t": 8, "b": 8}
    legend = {"orientation": "h", "y": 1.12, "x": 0}
    return {"data": traces, "layout": {"height": height, "margin": margin, "legend": legend, **axes, **layout}}


def _plain(text: str) -> str:
    """Plotly takes some tags in text for what they are."""
    return text.replace("&", "&amp;").replace("<", "&lt;")
