"""Strike runs at moments drawn at random, and check after each what must hold."""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from crashes.days import FIRST, SECOND, TICKERS
from crashes.faults import ALL, undo
from crashes.page import Came, page
from crashes.store import Day, Store, Violation
from tests.workspace import REPOSITORY
from tests.yahoo.server import LoopbackYahoo

_MOST_BEFORE_A_RERUN = 4
"""So many strikes in a row at one store, at most, before a run is left alone and must finish."""

_WHILE_STORING = 0.5
"""Part of the strikes that wait for a ticker's bars to be on their way into the tables, which is done in no time."""
_LONGEST_TRANSACTION = 0.03
"""Seconds, about; what comes later strikes at what comes next."""


class Campaign:
    """Strikes at one store, on one of two days."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store, self.draw = store, random.Random(seed)
        self.days = [self._undisturbed(date) for date in (FIRST, SECOND)]
        if unused := [name for name, rows in self.days[-1].after.items() if not rows]:
            raise Violation(f"two days bring nothing into {unused}, which could thus never be torn")
        self.struck: Counter[str] = Counter()
        self.too_late = self.reruns = 0
        possible = {"fill_disk": store.own_disk, "set_clock": store.own_clock}
        names = [name for name in ALL if possible.get(name, True)]
        # In rounds of all of them, each in an order drawn at random.
        self._deck = [name for _ in range(50) for name in self.draw.sample(names, len(names))]

    def _undisturbed(self, date: str) -> Day:
        self.store.keep(date)
        before, began = self.store.tables(), time.monotonic()
        run = self.store.run()
        day = Day(date, time.monotonic() - began, before, self.store.tables())
        if run.code:
            raise Violation(f"the run without a fault failed: {run}")
        self.store.check(day)
        return day

    def begin(self) -> Day:
        """One of the days, drawn at random, with what is stored when it begins."""
        day = self.draw.choice(self.days)
        self.store.put_back(day.date)
        return day

    def strike(self, day: Day, number: int, share: float) -> bool:
        """One run, and one fault: within this share of its usual time, or in the midst of storing bars.

        False if the run ended before that.
        """
        name = self._deck[number % len(self._deck)]
        before = self.store.markers()
        run = self.store.start()
        if self.draw.random() < _WHILE_STORING:
            self.store.wait_for_storing(run, self.draw.randrange(len(TICKERS)))
            time.sleep(self.draw.uniform(0, _LONGEST_TRANSACTION))
        else:
            time.sleep(self.draw.uniform(0, share * day.seconds))
        if in_time := run.poll() is None:
            ALL[name](self.store, run, self.draw)
            self.struck[name] += 1
        else:
            self.too_late += 1
        self.store.end(run)
        undo(self.store)
        self.store.up()
        self.store.check(day)
        self._keeps(before)
        return in_time

    def finish(self, day: Day) -> None:
        """A run that is left alone does what is missing, no more, and the tables are those of an undisturbed one."""
        before, downloaded = self.store.markers(), self.store.downloaded()
        self.store.forget_requests()
        run = self.store.run()
        self.reruns += 1
        if run.code:
            raise Violation(f"the rerun failed: {run}")
        self.store.check(day)
        self._keeps(before)
        if again := self.store.asked_again(downloaded):
            raise Violation(f"asked for again, though it was there: {again}")
        if self.store.tables() != day.after:
            raise Violation("the tables are not those of an undisturbed run")

    def _keeps(self, before: dict[str, str]) -> None:
        after = self.store.markers()
        changed = [task for task, written in before.items() if after.get(task) != written]
        if changed:
            raise Violation(f"was done, and was done again or lost: {changed[:5]}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="./run.sh crashes", description=__doc__)
    parser.add_argument("--times", type=int, default=100, help="how many strikes (default: 100, some 20 minutes)")
    parser.add_argument("--seed", type=int, default=0, help="what the moments are drawn from")
    parser.add_argument("--write", action="store_true", help="write docs/crashes.md of what it came to")
    given, began = parser.parse_args(), time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="crashes-", ignore_cleanup_errors=True) as folder,
        LoopbackYahoo(Path(folder) / "yahoo") as yahoo,
    ):
        store = Store(Path(folder), yahoo)
        number = 0
        try:
            campaign = Campaign(store, given.seed)
            if not store.own_disk:
                print("a disk of its own cannot be mounted here: it is never full", flush=True)
            if not store.own_clock:
                print("there is no C compiler: no clock is set", flush=True)
            while number < given.times:
                day, share = campaign.begin(), 1.0
                for _ in range(campaign.draw.randint(1, _MOST_BEFORE_A_RERUN)):
                    number += campaign.strike(day, number, share)
                    # Less is left to do.
                    share *= 0.8
                campaign.finish(day)
                print(f"{number} of {given.times} strikes, {campaign.reruns} reruns: all is well", flush=True)
        except Violation as violation:
            kept = store.keep_logs(Path("var/crashes") / f"seed-{given.seed}-strike-{number}")
            sys.exit(f"seed {given.seed}, strike {number}: {violation}\nlogs: {kept}")
        finally:
            store.close()
    minutes = (time.monotonic() - began) / 60
    came = Came(given.seed, campaign.struck, campaign.reruns, campaign.too_late, minutes)
    print("\n".join(came.lines()))
    if given.write:
        (REPOSITORY / "docs/crashes.md").write_text(page(came, os.cpu_count()), encoding="utf-8")


if __name__ == "__main__":
    main()
