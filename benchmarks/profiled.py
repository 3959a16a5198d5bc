"""Where a ticker's CPU time goes: all six steps of some tickers in one process, by step and by package.

python -m benchmarks.profiled TICKERS, in the environment of a workspace; prints [[what, milliseconds a ticker], ...].

The stack is looked at every few milliseconds of CPU time. What pandas and the like do, and the standard library, counts
for the package that called them: a profile by function cannot tell, for they call themselves on behalf of everybody.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from collections import Counter
from types import FrameType

from benchmarks.yahoo import LAST, names
from luigi_tasks.run import inline_runner, preload
from luigi_tasks.tasks.metadata_pipeline import MetadataPipeline
from luigi_tasks.tasks.ohlcv_pipeline import OhlcvPipeline

YEARS = 10
_SECONDS = 0.004
_WARM = 2
_PACKAGE = re.compile(r"/(?:site-packages/)?(luigi_tasks|(?<=site-packages/)\w+)/")
_STEP = re.compile(r"/luigi_tasks/tasks/(\w+)\.py$")
_TOOLS = ("numpy", "pandas", "pydantic", "dateutil")
_AROUND = "between the steps"
_NAMES = {"luigi_tasks": "this project", "psycopg2": "sqlalchemy"}


class Samples:
    """How often the process was seen in a step, and at work for a package."""

    def __init__(self) -> None:
        self.steps: Counter[str] = Counter()
        self.packages: Counter[str] = Counter()

    def take(self, number: int, frame: FrameType | None) -> None:
        """To be called by SIGPROF."""
        package, step = "", _AROUND
        while frame is not None:
            code = frame.f_code
            found = _PACKAGE.search(code.co_filename)
            if not package and found and found[1] not in _TOOLS:
                package = _NAMES.get(found[1], found[1])
            if code.co_name == "run" and (file := _STEP.search(code.co_filename)):
                step = file[1]
                break
            frame = frame.f_back
        self.packages[package or "others"] += 1
        self.steps[step] += 1


def do(tickers: list[str]) -> float:
    """Every step of these tickers, one after another; returns CPU seconds."""
    began = time.process_time()
    for ticker in tickers:
        for family in (OhlcvPipeline, MetadataPipeline):
            inline_runner.run(family(ticker=ticker, date=LAST, years_back=YEARS))
    return time.process_time() - began


def main(tickers: list[str]) -> list[tuple[str, float]]:
    """(what, milliseconds a ticker), by step and then by package, most first."""
    preload.once()
    do(tickers[:_WARM])
    samples = Samples()
    signal.signal(signal.SIGPROF, samples.take)
    signal.setitimer(signal.ITIMER_PROF, _SECONDS, _SECONDS)
    watched = tickers[_WARM:]
    seconds = do(watched)
    signal.setitimer(signal.ITIMER_PROF, 0)
    each = 1000 * seconds / len(watched)
    return [
        (f"{kind} {what}", each * count / counts.total())
        for kind, counts in (("step", samples.steps), ("for", samples.packages))
        for what, count in counts.most_common()
    ]


if __name__ == "__main__":
    print(json.dumps(main(names(int(sys.argv[1])))))
