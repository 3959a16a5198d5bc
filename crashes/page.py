"""The page that tells what a campaign came to, docs/crashes.md."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import NamedTuple

from crashes.days import FIRST, SECOND, TICKERS
from crashes.faults import ALL


class Came(NamedTuple):
    """What a campaign that found nothing came to: strikes by fault, and how many came too late."""

    seed: int
    struck: Mapping[str, int]
    reruns: int
    too_late: int
    minutes: float

    def lines(self) -> list[str]:
        """For the terminal."""
        counts = [f"  {name:<22} {count:>4}" for name, count in sorted(self.struck.items())]
        return [*counts, f"  {'after the run had ended':<22} {self.too_late:>3}"]


_TEXT = """\
# Killed at any moment

A run over {tickers} tickers is struck at a moment drawn at random, by a fault drawn from those below, up to four times
in a row; then it is left alone once, and must finish. Half of the runs are those of a store's first day, half those of
the day after ({first}, {second}), on which splits, dividends and a correction restate what is stored, a bar goes bad
and a missing session comes. Half of the strikes wait until bars are on their way into the tables, which is done in no
time.

After each strike must hold:

* Every ticker is, in all tables, as it was before the day or as after an undisturbed run, and has the day's marker in
  the second case alone. What was done is not done again.
* A file that is there under its name is whole.
* No process of the run is left, and no session in PostgreSQL that does or holds anything.

And after the run that is left alone: it exits with 0, asks for nothing again that is there, and the tables, those of
revisions, quarantine and missing sessions included, are those of an undisturbed run.

`./run.sh crashes --times {times} --seed {seed} --write` did this on {today}, in {minutes:.0f} minutes on {cores} cores:
{times} strikes and {reruns} runs that were left alone, and all of it held.

| fault | what happens | strikes |
|---|---|---:|
{rows}

{too_late} more came when the run had ended. The check of every change strikes twice. When something does not hold, the
command says what, and keeps the logs under `var/crashes/`; the same seed draws the same faults again, at the same
moments as far as processes can be timed.
"""


def page(came: Came, cores: int | None) -> str:
    """The page in Markdown."""
    faults = sorted(came.struck.items(), key=lambda each: list(ALL).index(each[0]))
    rows = "\n".join(
        f"| `{name}` | {' '.join((ALL[name].__doc__ or '').split())} | {count} |" for name, count in faults
    )
    return _TEXT.format(
        tickers=len(TICKERS),
        first=FIRST,
        second=SECOND,
        times=sum(came.struck.values()),
        seed=came.seed,
        today=f"{dt.datetime.now(dt.UTC):%Y-%m-%d}",
        minutes=came.minutes,
        cores=cores,
        reruns=came.reruns,
        rows=rows,
        too_late=came.too_late,
    )
