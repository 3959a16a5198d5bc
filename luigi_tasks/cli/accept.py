"""`./run.sh accept`: the history that was held back, in place of the stored one."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import click

from luigi_tasks import settings
from luigi_tasks.cli.starting import command
from luigi_tasks.database import embedded
from luigi_tasks.errors import ConfigurationError
from luigi_tasks.targets import paths
from luigi_tasks.tasks.parameters import today
from luigi_tasks.tickers import checked

if TYPE_CHECKING:
    from luigi_tasks.database.client import HeldBack, YfinanceClient


@click.command(epilog="Example: ./run.sh accept FB TWTR")
@click.argument("names", nargs=-1, required=True, metavar="TICKER...")
@click.option("--no-run", is_flag=True, help="Only note it, for the next run that asks for the ticker.")
@click.option("--force", is_flag=True, help="Also where no answer was held back: whatever comes next is taken.")
def accept(names: tuple[str, ...], no_run: bool, force: bool) -> None:
    """Take the history that was held back as another security's, in place of the stored one, which is kept as versions.

    The whole history is asked for at once, as of the date on which it was held back.
    """
    # Not at the top: it loads pandas, which every other command does without.
    from luigi_tasks.database.client import YfinanceClient

    chosen = settings.load()
    client = YfinanceClient(embedded.url(chosen))
    client.migrate()
    tickers = list(dict.fromkeys(map(checked, names)))
    # All of them before any: a name that is misspelled is to leave nothing half done.
    held = {ticker: client.held_back(ticker) for ticker in tickers}
    if not force and (nothing := [ticker for ticker in tickers if held[ticker] is None]):
        raise ConfigurationError(
            ", ".join(nothing),
            "no answer was held back since its bars were stored",
            "There is nothing to accept; --force has the next answer replace them all the same.",
        )
    runs: dict[tuple[str, int | None], list[str]] = {}
    for ticker, answer in held.items():
        click.echo(f"{ticker}: {_words(answer)}")
        click.echo(client.accept(ticker, force=force)["message"])
        day, years_back = _question(client, ticker, answer)
        # A file of that date would be taken for the answer.
        for path in paths.of_ticker(chosen.store, ticker, day):
            path.unlink(missing_ok=True)
        runs.setdefault((str(day), years_back), []).append(ticker)
    if no_run:
        click.echo(f"Noted; to ask at once: ./run.sh --tickers {','.join(tickers)} --full")
        return
    _run(runs)


def _words(answer: HeldBack | None) -> str:
    if answer is None:
        return "no answer was held back"
    return f"held back as of {answer.as_of} ({answer.kind}): {answer.reason}"


def _question(client: YfinanceClient, ticker: str, answer: HeldBack | None) -> tuple[dt.date, int | None]:
    """As of which date to ask, and for how many years."""
    if answer is not None and answer.as_of is not None:
        return answer.as_of, answer.years_back
    stored = client.stored(ticker, today())
    # An earlier date than the stored one changes nothing.
    return max(today(), stored.as_of) if stored is not None else today(), None


def _run(runs: dict[tuple[str, int | None], list[str]]) -> None:
    """A run for each date and number of years; the last one takes the place of this process."""
    failed = 0
    for number, ((day, years_back), tickers) in enumerate(runs.items(), start=1):
        click.echo(f"Now, as of {day}: {', '.join(tickers)}")
        sys.stdout.flush()
        program = command(tickers, {"date": day, "years_back": years_back, "full": True})
        if number == len(runs) and not failed:
            os.execv(program[0], program)
        failed = subprocess.run(program).returncode or failed
    sys.exit(failed)
