"""`./run.sh retry`: only what failed, by kind."""

from __future__ import annotations

import os
import sys

import click

from luigi_tasks import settings
from luigi_tasks.cli.starting import command
from luigi_tasks.database import embedded
from luigi_tasks.database.ledger import Ledger
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
@click.option("--run", "run_id", default="", help="What failed in that run (default: the last one of RunAll).")
def retry(kinds: tuple[str, ...], run_id: str) -> None:
    """Run again the tickers that failed in the last run, as of the same date; all the others are left alone."""
    ledger = Ledger(embedded.url(settings.load()))
    ledger.migrate()
    run = ledger.run(run_id) if run_id else ledger.last_run_of("RunAll")
    if run is None:
        raise ConfigurationError(f"run {run_id}" if run_id else "retry", "there is no such run", "See ./run.sh status.")
    failed = ledger.still_failed(run["run_id"], kinds)
    if not failed:
        of_kind = f" of kind {', '.join(kinds)}" if kinds else ""
        click.echo(f"Nothing to run again: no ticker{of_kind} that failed in {run['run_id']} is still to be done.")
        return
    more = f" and {len(failed) - _SHOWN:,} more" if len(failed) > _SHOWN else ""
    click.echo(f"Again, as of {run['parameters'].get('date')}: {', '.join(failed[:_SHOWN])}{more}")
    options = {name: run["parameters"][name] for name in _KEPT}
    options["full"] = str(run["parameters"].get("full")).lower() == "true"
    program = command(failed, options)
    sys.stdout.flush()
    os.execv(program[0], program)
