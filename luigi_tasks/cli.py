"""The commands of `run.sh` that are not a Luigi run."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Literal, NoReturn

import click
from luigi.cmdline_parser import CmdlineParser

from luigi_tasks import services, settings
from luigi_tasks.database import embedded
from luigi_tasks.database.engine import normalised_url
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.errors import SecuritiesMasterError, ServiceFailure
from luigi_tasks.report import render
from luigi_tasks.targets import paths
from luigi_tasks.targets.files import JsonTarget


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """Services and results of the securities master."""


@commands.command()
@click.option("--quiet", is_flag=True, help="Say nothing if all is well.")
def up(quiet: bool) -> None:
    """Start PostgreSQL (unless DATABASE_URL is set) and luigid."""
    for name, where in services.up(settings.load()).items():
        if not quiet:
            click.echo(f"{name}: {where}")


@commands.command()
def down() -> None:
    """Stop the embedded PostgreSQL and luigid; what is stored stays."""
    for name, was_running in services.down(settings.load()).items():
        click.echo(f"{name}: {'stopped' if was_running else 'was not running'}")


@commands.command()
def status() -> None:
    """Say how the services are and what the last run did."""
    chosen = settings.load()
    for name, words in services.state(chosen).items():
        click.echo(f"{name}: {words}")
    try:
        ledger = Ledger(embedded.url(chosen))
        run_id = ledger.latest_run_id()
    except SecuritiesMasterError:
        return
    run = ledger.run(run_id) if run_id else None
    if run is None:
        click.echo("last run: none yet")
        return
    outcome = run["outcome"] or "running, or killed"
    click.echo(
        f"last run: {run_id}, {run['task_family']}, {outcome}, started {run['started_at']:%Y-%m-%d %H:%M:%S} UTC"
    )


@commands.command()
def report() -> None:
    """Show the last report's summary, and where the page is."""
    folder = settings.load().reports / "latest"
    if not folder.is_dir():
        raise ServiceFailure("the report", "there is none yet", "A run writes one: ./run.sh or ./run.sh demo.")
    document = JsonTarget(folder.resolve() / "report.json").read()
    click.echo(render.terminal(document, str(folder.resolve() / "report.html")))


@commands.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def plan(arguments: tuple[str, ...]) -> None:
    """Say what a run with the same options would do; nothing is asked of Yahoo."""
    from luigi_tasks.tasks import plan as planning
    from luigi_tasks.tasks.run_all import RunAll

    # The arguments may hold settings, too. Nothing but reading them may happen in here: it is where a run begins.
    with CmdlineParser.global_instance([RunAll.get_task_family(), "--module", "luigi_tasks", *arguments]) as parser:
        run = parser.get_task_obj()
        run.check_parameters()
        chosen = settings.load()
    Ledger(embedded.url(chosen)).migrate()
    for line in planning.plan(run).lines():
        click.echo(line)


@commands.command()
@click.argument("ticker")
@click.option("--yes", is_flag=True, help="Do not ask.")
def forget(ticker: str, yes: bool) -> None:
    """Delete all that is stored of a ticker, so that the next run loads it anew."""
    from luigi_tasks.database.client import YfinanceClient

    chosen = settings.load()
    client = YfinanceClient(embedded.url(chosen))
    client.get_security_id(ticker)
    if not yes:
        click.confirm(f"Delete all bars and company data of {ticker}?", abort=True)
    bars = client.delete_security(ticker)
    files = 0
    for path in paths.of_ticker(chosen.store, ticker):
        path.unlink(missing_ok=True)
        files += 1
    click.echo(f"{ticker}: {bars:,} bars and {files:,} files deleted")


def _separated(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str] | None:
    return None if value is None else [name.strip() for name in value.split(",") if name.strip()]


@commands.command()
@click.option(
    "--to", type=click.Path(path_type=Path), help="Folder, by default var/export; replaced once all is written."
)
@click.option("--tickers", callback=_separated, help="These, such as AAPL,MSFT; all if not given.")
@click.option("--groupings", callback=_separated, help="The members of these groupings.")
@click.option("--start", help="First day, such as 2024-01-02.")
@click.option("--end", help="Last day.")
@click.option(
    "--adjusted",
    type=click.Choice(["dividends", "splits", "no"]),
    default="dividends",
    help="For splits and dividends (the default), for splits only, or as traded.",
)
@click.option("--as-of", help="The bars as they were known after the run of that date.")
@click.option("--format", "form", type=click.Choice(["parquet", "csv"]), default="parquet")
def export(
    to: Path | None,
    tickers: list[str] | None,
    groupings: list[str] | None,
    start: str | None,
    end: str | None,
    adjusted: str,
    as_of: str | None,
    form: Literal["parquet", "csv"],
) -> None:
    """Write prices, company data and universe to files that DuckDB, polars and others read: docs/reading.md."""
    from luigi_tasks import export as exporting
    from luigi_tasks.reading import Adjusted, Request

    ways: dict[str, Adjusted] = {"dividends": True, "splits": "splits", "no": False}
    request = Request(start, end, ways[adjusted], as_of, tickers, groupings)
    chosen = settings.load()
    folder = to or chosen.root / "export"
    about = exporting.export(folder, request, embedded.url(chosen), form)
    days = f", {about['first_session']} to {about['last_session']}" if about["bars"] else ""
    click.echo(f"{about['bars']:,} bars of {about['tickers']:,} tickers{days}: {folder}")


@commands.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--database", help="Another database of the embedded server, such as demo.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(database: str | None, arguments: tuple[str, ...]) -> None:
    """Open psql on the database; further arguments are psql's."""
    url = normalised_url(embedded.url(settings.load()))
    if database:
        url = url.set(database=database)
    # By environment, since everybody on the machine can read a process's arguments.
    environment = {
        "PGHOST": url.host or url.query.get("host"),
        "PGPORT": str(url.port) if url.port else None,
        "PGUSER": url.username,
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
        "PGSSLMODE": url.query.get("sslmode"),
    }
    os.environ.update({name: str(value) for name, value in environment.items() if value})
    program = str(embedded.psql())
    os.execv(program, [program, *arguments])


def main() -> NoReturn:
    """Entry point: a failure we can name is one line and exit code 1."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        commands.main(prog_name="./run.sh", standalone_mode=False)
    except SecuritiesMasterError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    sys.exit(0)


if __name__ == "__main__":
    main()
