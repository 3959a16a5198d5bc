"""`./run.sh retry`: only what still fails, by kind."""

from __future__ import annotations

import os
import sys

import click

from luigi_tasks import settings
from luigi_tasks.cli.starting import command
from luigi_tasks.database import embedded
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.database.universe_runs import UniverseRuns
from luigi_tasks.errors import ConfigurationError
from luigi_tasks.report.collect import KINDS

_SHOWN = 20
_KEPT = ("date", "years_back")


@click.command(epilog="Example: ./run.sh retry --kind network --kind provider_down")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(sorted(KINDS)),
    metavar="KIND",
    help="Failures of this kind; may be given several times (default: of all).",
)
@click.option("--run", "run_id", default="", help="What failed in that run alone (default: all that still fails).")
def retry(kinds: tuple[str, ...], run_id: str) -> None:
    """Run again the tickers whose last attempt failed, in the last run of the universe or since; all the others are
    left alone."""
    database_url = embedded.url(settings.load())
    ledger = Ledger(database_url)
    ledger.migrate()
    if run_id:
        run = ledger.run(run_id)
        failed = ledger.still_failed(run_id, kinds)
    else:
        failing = UniverseRuns(database_url).failing()
        run = None if failing is None else dict(failing.run)
        failed = [] if failing is None else failing.of_kinds(kinds)
    if run is None:
        raise ConfigurationError(f"run {run_id}" if run_id else "retry", "there is no such run", "See ./run.sh status.")
    if not failed:
        of_kind = f" of kind {', '.join(kinds)}" if kinds else ""
        which = f"that failed in {run_id} is still to be done" if run_id else "has failed and is still to be done"
        click.echo(f"Nothing to run again: no ticker{of_kind} {which}.")
        return
    more = f" and {len(failed) - _SHOWN:,} more" if len(failed) > _SHOWN else ""
    click.echo(f"Again, as of {run['parameters'].get('date')}: {', '.join(failed[:_SHOWN])}{more}")
    options = {name: run["parameters"][name] for name in _KEPT}
    options["full"] = str(run["parameters"].get("full")).lower() == "true"
    program = command(failed, options)
    sys.stdout.flush()
    os.execv(program[0], program)
