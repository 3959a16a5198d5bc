"""The tests' loopback Yahoo as a process of its own, with latency, an optional limit, and made-up ten-year histories.

    python -m benchmarks.yahoo FOLDER --tickers 500 --years 10 --latency 0.2 [--rate 5]

prints the environment of its clients as one line of JSON, then {"requests": …, "throttled": …} for every line read
from standard input, and ends with it.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd

from luigi_tasks import bars, sessions
from tests.conftest import make_bars
from tests.yahoo.answers import Answer
from tests.yahoo.server import LoopbackYahoo, Silence

LAST = dt.date(2024, 3, 15)


class SlowYahoo(LoopbackYahoo):
    """Answers after `latency` seconds."""

    def __init__(self, folder: Path, latency: float) -> None:
        super().__init__(folder)
        self._latency = latency

    def respond(self, host: str, target: str, cookies: str) -> Answer | Silence:
        time.sleep(self._latency)
        return super().respond(host, target, cookies)

    def prepare(self, tickers: list[str], years: int) -> None:
        """Serve histories of so many years: all of one shape, each at a level of its own."""
        first = LAST.replace(year=LAST.year - years) if years else LAST
        dates = pd.DatetimeIndex(sessions.sessions("XNYS", first, LAST))
        payers = np.arange(len(dates)) % 63 == 40
        frame = make_bars(days=len(dates)).assign(date=dates, dividends=np.where(payers, 0.25, 0.0))
        prices = [*bars.PRICES, "adj_close"]
        for number, ticker in enumerate(tickers):
            level = 1 + number / 1000
            self.add(ticker, frame.assign(**{name: frame[name] * level for name in prices}), info={"sector": "Made up"})


class Server:
    """The server in a process of its own, for the `with` block."""

    def __init__(self, folder: Path, tickers: int, years: int, latency: float, rate: float = 0) -> None:
        options = {"--tickers": tickers, "--years": years, "--latency": latency, "--rate": rate}
        words = [str(word) for option in options.items() for word in option]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.yahoo", str(folder), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.environment: dict[str, str] = self._read()

    def counts(self) -> dict[str, int]:
        """Requests since the last call, and how many of them were throttled."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        counts: dict[str, int] = self._read()
        return counts

    def _read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()


def names(count: int) -> list[str]:
    return [f"T{number:05}" for number in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name, kind in (("tickers", int), ("years", int), ("latency", float), ("rate", float)):
        parser.add_argument(f"--{name}", type=kind, default=0)
    given = parser.parse_args()
    with SlowYahoo(given.folder, given.latency) as yahoo:
        yahoo.prepare(names(given.tickers), given.years)
        if given.rate:
            yahoo.limit(given.rate, burst=10, penalty=30)
        print(json.dumps(yahoo.environment()), flush=True)
        for _ in sys.stdin:
            requests = yahoo.requests
            yahoo.forget_requests()
            throttled = sum(request.status == 429 for request in requests)
            print(json.dumps({"requests": len(requests), "throttled": throttled}), flush=True)


if __name__ == "__main__":
    main()
