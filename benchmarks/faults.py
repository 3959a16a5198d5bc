"""Faults put into good series, by kind: what is told, what is not, who is accused wrongly, and what repairs are worth.

python -m benchmarks.faults FOLDER [TICKERS]; FOLDER has a parquet file a ticker, in it or in prices/, with the columns
that yfinance returns (auto_adjust=False, actions=True). Prints what is named in the series as they are, a table of
the faults, and what it costs a ticker.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from luigi_tasks import bars
from luigi_tasks.bars import PRICES
from luigi_tasks.quality import actions, repairs, suspicions

P = list(PRICES)
_NAMES = {"Date": "date", "Adj Close": "adj_close", "Stock Splits": "stock_splits", "Capital Gains": "capital_gains"}
_ROUNDING = 2e-6
"""Of a repaired value: adjusted closes are single precision."""
_ABOUT = {"volume": 1e-2}
"""Volumes are whole shares, so that one that was divided by a split cannot be had again to the last."""
_OLD = ("missed_split", "stale_sessions", "spike", "untraded_move")
_NEW = ("unit_factor", "unit_unclear", *actions.SIGNS)

Random = np.random.Generator


@dataclass(frozen=True)
class Fault:
    """A series with a fault, the rows that are to be named (any of them, or each), and what it was before."""

    frame: pd.DataFrame
    rows: list[int]
    each: bool = False
    market_price: float | None = None


Plant = Callable[[pd.DataFrame, Random], Fault | None]


def read(path: Path) -> pd.DataFrame:
    """A file as `luigi_tasks.bars` has it."""
    frame = pd.read_parquet(path)
    frame = frame if "Date" in frame else frame.rename_axis("Date").reset_index()
    frame = frame.rename(columns=lambda name: _NAMES.get(name, str(name).lower()))
    days = pd.to_datetime(frame["date"])
    frame["date"] = (days.dt.tz_localize(None) if days.dt.tz is not None else days).dt.normalize()
    for name in bars.AMOUNTS:
        frame[name] = frame[name].fillna(0.0) if name in frame else 0.0
    return bars.conform(frame)


def _row(frame: pd.DataFrame, random: Random, margin: int = 2) -> int:
    return int(random.integers(margin, len(frame) - margin))


def _ex_dates(frame: pd.DataFrame) -> np.ndarray:
    days = np.flatnonzero(frame["dividends"] > 0)
    return days[days > 0]


def _restep(frame: pd.DataFrame, row: int, step: float) -> None:
    """Make adjusted close step by another share at a row, in place."""
    share = frame["adj_close"] / frame["close"]
    frame.loc[: row - 1, "adj_close"] *= step / float(share[row - 1] / share[row])


def wrong_size(power: int, adjusted: bool) -> Plant:
    """One dividend 10**power times as large; adjusted closes by it, too, or as they were."""

    def plant(frame: pd.DataFrame, random: Random) -> Fault | None:
        days = _ex_dates(frame)
        if not len(days):
            return None
        row, out = int(random.choice(days)), frame.copy()
        out.loc[row, "dividends"] *= 10.0**power
        if adjusted:
            step = 1 - float(out.loc[row, "dividends"]) / float(out.loc[row - 1, "close"])
            _restep(out, row, step)
        return Fault(out, [row])

    return plant


def adjusted_by(power: int) -> Plant:
    """The dividend is right; adjusted closes step by 10**power times as much."""

    def plant(frame: pd.DataFrame, random: Random) -> Fault | None:
        days = _ex_dates(frame)
        share = frame["dividends"] / frame["close"].shift()
        days = days[share[days] * 10.0**power < 0.9]
        if not len(days):
            return None
        row, out = int(random.choice(days)), frame.copy()
        _restep(out, row, 1 - float(share[row]) * 10.0**power)
        return Fault(out, [row])

    return plant


def doubled(frame: pd.DataFrame, random: Random) -> Fault | None:
    days = _ex_dates(frame)
    days = days[days < len(frame) - 6]
    if not len(days):
        return None
    row, out = int(random.choice(days)), frame.copy()
    again = row + int(random.integers(1, 4))
    out.loc[again, "dividends"] = out.loc[row, "dividends"]
    return Fault(out, [row, again])


def phantom(frame: pd.DataFrame, random: Random) -> Fault | None:
    row, out = _row(frame, random), frame.copy()
    if (out["dividends"][max(row - 8, 0) : row + 8] > 0).any():
        return None
    out.loc[row, "dividends"] = float(out.loc[row, "close"]) * random.uniform(0.002, 0.03)
    return Fault(out, [row])


def one_step_missing(frame: pd.DataFrame, random: Random) -> Fault | None:
    days = _ex_dates(frame)
    if not len(days):
        return None
    row, out = int(random.choice(days)), frame.copy()
    _restep(out, row, 1.0)
    return Fault(out, [row])


def one_event_missing(frame: pd.DataFrame, random: Random) -> Fault | None:
    days = _ex_dates(frame)
    if not len(days):
        return None
    row, out = int(random.choice(days)), frame.copy()
    out.loc[row, "dividends"] = 0.0
    return Fault(out, [row])


def never_adjusted(frame: pd.DataFrame, random: Random) -> Fault | None:
    days = _ex_dates(frame)
    if not len(days):
        return None
    return Fault(frame.assign(adj_close=frame["close"]), days.tolist(), each=True)


def adjusted_missing(frame: pd.DataFrame, random: Random) -> Fault | None:
    out, first = frame.copy(), _row(frame, random, 30)
    last = min(first + int(random.choice([1, 20, 400])), len(out)) - 1
    out.loc[first:last, "adj_close"] = np.nan
    return Fault(out, list(range(first, last + 1)), each=True)


def adjusted_above(frame: pd.DataFrame, random: Random) -> Fault | None:
    out, row = frame.copy(), _row(frame, random)
    out.loc[row, "adj_close"] = float(out.loc[row, "close"]) * random.uniform(1.001, 3)
    return Fault(out, [row])


RATIOS = [2, 3, 4, 1.5, 7, 10, 20, 50, 1.25, 1 / 4, 1 / 10, 1 / 25, 1 / 3, 5]


def split(times: int, volume: bool = True) -> Plant:
    """A split on record by which the earlier prices are divided no times, or twice."""

    def plant(frame: pd.DataFrame, random: Random) -> Fault | None:
        out, ratio = frame.copy(), float(random.choice(RATIOS))
        row = [_row(frame, random, 5), len(frame) - int(random.integers(1, 4)), 4][int(random.integers(3))]
        if (out["stock_splits"] > 0).any() or out["dividends"][row] > 0:
            return None
        out.loc[row, "stock_splits"] = ratio
        by = ratio if times == 0 else 1 / ratio
        out.loc[: row - 1, [*P, "adj_close"]] *= by
        if volume:
            out["volume"] = out["volume"].astype("float64")
            out.loc[: row - 1, "volume"] = (out.loc[: row - 1, "volume"] / by).round()
        return Fault(out, [row])

    return plant


def split_again(frame: pd.DataFrame, random: Random) -> Fault | None:
    out, row = frame.copy(), _row(frame, random, 20)
    out.loc[[row, row + int(random.integers(1, 8))], "stock_splits"] = float(random.choice(RATIOS))
    return Fault(out, [row, *range(row + 1, row + 9)])


def unit(power: int, count: float, block: bool, adjusted: bool, market: bool = False) -> Plant:
    """Prices 10**power times as large over so many bars, or such a share of them, at once or scattered."""

    def plant(frame: pd.DataFrame, random: Random) -> Fault | None:
        out = frame.copy()
        bars_of = int(count if count >= 1 else count * len(frame))
        if block:
            first = [0, len(frame) - bars_of, int(random.integers(1, len(frame) - bars_of))][int(random.integers(3))]
            rows = np.arange(first, first + bars_of)
        else:
            rows = np.sort(random.choice(len(frame), bars_of, replace=False))
        out.loc[rows, [*P, *(["adj_close"] if adjusted else [])]] *= 10.0**power
        price = float(frame["close"].iloc[-1]) if market else None
        return Fault(out, rows.tolist(), each=True, market_price=price)

    return plant


def kinds() -> dict[str, Plant]:
    """All kinds of faults, by name."""
    out: dict[str, Plant] = {}
    for power in (2, -2, 1, -1, 3):
        name = f"dividend times 10^{power}"
        out[f"{name}, adjusted close right"] = wrong_size(power, False)
        out[f"{name}, adjusted by it"] = wrong_size(power, True)
    out["dividend right, adjusted by 100 times"] = adjusted_by(2)
    out["dividend right, adjusted by a 100th"] = adjusted_by(-2)
    out["dividend twice within a week"] = doubled
    out["phantom dividend"] = phantom
    out["one dividend not adjusted for"] = one_step_missing
    out["one dividend missing"] = one_event_missing
    out["no dividend adjusted for"] = never_adjusted
    out["adjusted close missing for a part"] = adjusted_missing
    out["adjusted close above close"] = adjusted_above
    out["split not applied"] = split(0)
    out["split not applied, volume adjusted"] = split(0, volume=False)
    out["split applied twice"] = split(2)
    out["split on record twice"] = split_again
    for power in (-3, -2, -1, 1, 2, 3):
        for count, words in ((1, "1 bar"), (20, "20 bars"), (0.5, "half")):
            for block in (True, False) if count != 1 else (True,):
                where = "" if count == 1 else ", a block" if block else ", scattered"
                out[f"unit 10^{power}, {words}{where}"] = unit(power, count, block, adjusted=power % 2 == 0)
                if count == 0.5:
                    out[f"unit 10^{power}, {words}{where}, market price"] = unit(power, count, block, True, market=True)
    return out


def measure(series: dict[str, pd.DataFrame], plant: Plant, seed: int) -> Counter[str]:
    """One fault in each series."""
    tally: Counter[str] = Counter()
    for number, good in enumerate(series.values()):
        fault = plant(good, np.random.default_rng([seed, number]))
        if fault is None:
            continue
        before = _named(suspicions.signs(good))
        signs = suspicions.signs(fault.frame, market_price=fault.market_price)
        named = set(np.flatnonzero(signs.notna().any(axis=1)).tolist()) - before
        critical = set(np.flatnonzero(signs["unit_factor"].notna()).tolist())
        wrong = set(fault.rows)
        tally["faults"] += 1
        tally["rows"] += len(wrong) if fault.each else 1
        tally["caught"] += len(named & wrong) if fault.each else bool(named & wrong)
        tally["told"] += bool(named)
        tally["accused"] += len(named - wrong - {row + 1 for row in wrong})
        tally["quarantined wrongly"] += len(critical - wrong)
        found = repairs.propose(fault.frame, signs)
        already = {(entry["date"], entry["column"]) for entry in repairs.propose(good, suspicions.signs(good))}
        found = [entry for entry in found if (entry["date"], entry["column"]) not in already]
        tally.update(_worth(good, fault.frame, found))
    return tally


def _named(signs: pd.DataFrame) -> set[int]:
    return set(np.flatnonzero(signs.notna().any(axis=1)).tolist())


def _worth(good: pd.DataFrame, bad: pd.DataFrame, found: list[dict[str, object]]) -> Counter[str]:
    """Values that repairs make right, or wrong, and wrong ones that stay, and whether nothing is left to mend."""
    tally: Counter[str] = Counter()
    days = {day: row for row, day in enumerate(good["date"].dt.strftime("%Y-%m-%d"))}
    columns = [*P, "adj_close", "volume", "dividends"]
    truth, served = (frame[columns].to_numpy("float64") for frame in (good, bad))
    differ = ~np.isclose(truth, served, rtol=_ROUNDING, atol=0, equal_nan=True)
    for entry in found:
        row, column = days[str(entry["date"])], columns.index(str(entry["column"]))
        room = _ABOUT.get(str(entry["column"]), _ROUNDING) * abs(truth[row, column])
        if str(entry["column"]) == "volume":
            room += 50
        right = abs(float(entry["new"]) - truth[row, column]) <= room  # type: ignore[arg-type]
        tally["exact" if right else "wrong"] += 1
        differ[row, column] = False
    tally["left"] += int(differ.sum())
    tally["mended"] += bool(found) and not differ.any()
    return tally


def main(folder: str, tickers: int | None = None) -> None:
    """Print the three tables."""
    where = Path(folder) / "prices" if (Path(folder) / "prices").is_dir() else Path(folder)
    series = {path.stem: read(path) for path in sorted(where.glob("*.parquet"))}
    named: Counter[str] = Counter()
    began = time.process_time()
    signs = {ticker: suspicions.signs(frame) for ticker, frame in series.items()}
    cost = (time.process_time() - began) / max(len(series), 1)
    for ticker, found in signs.items():
        named.update({name: int(found[name].notna().sum()) for name in found})
        for name in _NEW:
            for row in np.flatnonzero(found[name].notna()):
                print(f"{ticker} {series[ticker]['date'].iloc[row]:%Y-%m-%d} {name} {found[name].iloc[row]:.6g}")
        for entry in repairs.propose(series[ticker], found)[-2:]:
            print("  repair", ticker, entry)
    count = sum(map(len, series.values()))
    print(f"{len(series)} tickers, {count} bars; new: {sum(named[name] for name in _NEW)}; ", end="")
    print(", ".join(f"{name} {named[name]}" for name in _OLD), f"; {cost * 1000:.2f} ms of CPU a ticker")
    chosen = list(series)[:: max(len(series) // tickers, 1)] if tickers else list(series)
    heads = ("faults", "rows", "caught", "told", "accused", "quarantined wrongly")
    worth = ("exact", "wrong", "left", "mended")
    print("| fault |", " | ".join([*heads, *worth]), "|")
    print("|---|", "---|" * (len(heads) + len(worth)), sep="")
    for seed, (name, plant) in enumerate(kinds().items()):
        tally = measure({ticker: series[ticker] for ticker in chosen}, plant, seed)
        print(f"| {name} |", " | ".join(str(tally[head]) for head in [*heads, *worth]), "|", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)
