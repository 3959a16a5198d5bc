"""The commands of `run.sh` that are not a Luigi run."""

from __future__ import annotations

import datetime as dt
import logging
import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import click
from luigi.cmdline_parser import CmdlineParser

from luigi_tasks import services, settings
from luigi_tasks.cli.accept import accept
from luigi_tasks.cli.checkup import check
from luigi_tasks.cli.comparing import compare
from luigi_tasks.cli.completion import VARIABLE, completion, stubs
from luigi_tasks.cli.exporting import export
from luigi_tasks.cli.options import names
from luigi_tasks.cli.retry import retry
from luigi_tasks.cli.status import status
from luigi_tasks.cli.universe import tickers
from luigi_tasks.cli.upgrading import upgrade_yahoo
from luigi_tasks.database import embedded
from luigi_tasks.database.engine import libpq_environment, newest_revision, normalised_url, shown
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.errors import SecuritiesMasterError, ServiceFailure
from luigi_tasks.report import render
from luigi_tasks.targets import paths
from luigi_tasks.targets.files import JsonTarget
from luigi_tasks.tickers import normalise


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """Services and results of the securities master."""


@commands.command(epilog="Example: ./run.sh up")
@click.option("--quiet", is_flag=True, help="Say nothing if all is well.")
def up(quiet: bool) -> None:
    """Start PostgreSQL (unless DATABASE_URL is set) and luigid."""
    for name, where in services.up(settings.load()).items():
        if not quiet:
            click.echo(f"{name}: {where}")


@commands.command(epilog="Example: ./run.sh down")
def down() -> None:
    """Stop the embedded PostgreSQL and luigid; what is stored stays."""
    for name, was_running in services.down(settings.load()).items():
        click.echo(f"{name}: {'stopped' if was_running else 'was not running'}")


@commands.command(epilog="Example: ./run.sh report")
def report() -> None:
    """Show the last report's summary, and where the page is."""
    folder = settings.load().reports / "latest"
    if not folder.is_dir():
        raise ServiceFailure("the report", "there is none yet", "A run writes one: ./run.sh or ./run.sh demo.")
    document = JsonTarget(folder.resolve() / "report.json").read()
    click.echo(render.terminal(document, str(folder.resolve() / "report.html")))


@commands.command("data-docs", epilog="Example: ./run.sh data-docs --tickers AAPL,MSFT")
@click.option("--run", "run_id", default="latest", help="Which run (default: the last one).")
@click.option("--tickers", callback=names, help="These tickers of it: AAA,BBB.")
@click.option("--all", "everything", is_flag=True, help="All tickers of it.")
def data_docs(run_id: str, tickers: list[str] | None, everything: bool) -> None:
    """Make Great Expectations' pages on a run's bars; of tickers with findings, if not told which."""
    from luigi_tasks.tasks import data_docs as pages
    from luigi_tasks.tasks.generate_report import link_data_docs

    if tickers and everything:
        raise click.UsageError("--tickers and --all are two answers to one question.")
    folder = (settings.load().reports / run_id).resolve()
    if not (folder / "report.json").is_file():
        raise ServiceFailure("Data Docs", f"there is no report of a run in {folder}", "See var/reports for the runs.")
    document = JsonTarget(folder / "report.json").read()
    shown, differing = pages.by_command(document, folder, tickers or (), everything=everything)
    document = link_data_docs(folder, document)
    click.echo(f"{shown} tickers: {folder / document['data_docs']}")
    if differing:
        click.echo(f"not as the run judged them, since stored bars or suite have changed: {', '.join(differing)}")


@commands.command(epilog="Example: ./run.sh metrics --output securities.prom")
@click.option("--output", type=click.Path(path_type=Path), help="A file to write, whole or not at all.")
def metrics(output: Path | None) -> None:
    """Figures for Prometheus, of what is stored and of the last run of the universe."""
    from luigi_tasks.report import metrics as figures

    chosen = settings.load()
    url = embedded.url(chosen)
    found = figures.collect(url, figures.last_report(url, chosen.reports), dt.datetime.now(dt.UTC))
    if output is None:
        click.echo(figures.text(found), nl=False)
    else:
        figures.write(output, found)


@commands.command(epilog="Example: ./run.sh late --hours 26")
@click.option(
    "--hours", type=click.FloatRange(min=0), default=30.0, show_default=True, help="So long ago it may be at most."
)
def late(hours: float) -> None:
    """Exit with 1, and tell the webhook, if no run of the whole universe has ended lately, a ticker failed in it for
    the first time, or bars are behind."""
    from luigi_tasks.report import alert
    from luigi_tasks.report.late import reasons

    try:
        found = reasons(embedded.url(settings.load()), hours, dt.datetime.now(dt.UTC))
    except SecuritiesMasterError as error:
        found = [str(error)]
    for reason in found:
        click.echo(f"late: {reason}")
    if found:
        alert.tell(alert.late(found))
        sys.exit(1)
    click.echo("not late")


@commands.command(
    context_settings={"ignore_unknown_options": True}, epilog="Example: ./run.sh plan --groupings dax --ticker-limit 5"
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def plan(arguments: tuple[str, ...]) -> None:
    """Say what a run with the same options would do; nothing is asked of Yahoo."""
    from luigi_tasks import command_line
    from luigi_tasks import plan as planning
    from luigi_tasks.tasks.run_all import RunAll

    # The arguments may hold settings, too. Nothing but reading them may happen in here: it is where a run begins.
    words = [RunAll.get_task_family(), "--module", "luigi_tasks", *arguments]
    command_line.check(words)
    with CmdlineParser.global_instance(words) as parser:
        run = parser.get_task_obj()
        run.check_parameters()
        chosen = settings.load()
    Ledger(embedded.url(chosen)).migrate()
    for line in planning.plan(run).lines():
        click.echo(line)


@commands.command(epilog="Example: ./run.sh forget AAPL")
@click.argument("ticker")
@click.option("--yes", is_flag=True, help="Do not ask.")
def forget(ticker: str, yes: bool) -> None:
    """Delete all that is stored of a ticker, so that the next run loads it anew."""
    from luigi_tasks.database.client import YfinanceClient

    chosen = settings.load()
    client, ticker = YfinanceClient(embedded.url(chosen)), normalise(ticker)
    client.get_security_id(ticker)
    if not yes:
        click.confirm(f"Delete all bars and company data of {ticker}?", abort=True)
    bars = client.delete_security(ticker)
    files = 0
    for path in paths.of_ticker(chosen.store, ticker):
        path.unlink(missing_ok=True)
        files += 1
    click.echo(f"{ticker}: {bars:,} bars and {files:,} files deleted")


@commands.command(epilog="Example: ./run.sh backup securities.zip")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup(file: Path) -> None:
    """Write all tables into FILE, as they are at one moment; runs may go on."""
    from luigi_tasks.database import backup as keeping

    click.echo(f"{file.absolute()}: {keeping.save(embedded.url(settings.load()), file)}")


@commands.command(epilog="Example: ./run.sh restore securities.zip --replace")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="Delete what is in the database.")
def restore(file: Path, replace: bool) -> None:
    """Fill an empty database from FILE, wholly or not at all; for who owns it."""
    from luigi_tasks.database import backup as keeping

    database_url = embedded.url(settings.load())
    click.echo(f"{file.absolute()}: {keeping.restore(database_url, file, replace=replace)}")
    click.echo(f"All of it is in {shown(database_url)}, now of schema {newest_revision()}.")


@commands.command(epilog="Example: ./run.sh migrate")
def migrate() -> None:
    """Make the tables, or bring them to this version's schema; for who owns them. A run does it if it may."""
    database_url = embedded.url(settings.load())
    Ledger(database_url).migrate()
    click.echo(f"{shown(database_url)}: the schema is {newest_revision()}")


@commands.command(epilog="Example: ./run.sh roles --reader analysts")
@click.option("--writer", default="securities_writer", show_default=True, help="The role that runs write with.")
@click.option("--reader", default="securities_reader", show_default=True, help="The role that only reads.")
def roles(writer: str, reader: str) -> None:
    """Make a role to write with and one to read with, for who owns the tables; again after naming others."""
    from luigi_tasks.database import roles as granting

    owner = granting.grant(embedded.url(settings.load()), writer, reader)
    click.echo(f"{writer} may write, {reader} may read what {owner} owns; neither may log in.")
    click.echo(
        f"For each user, in ./run.sh psql: CREATE ROLE somebody LOGIN IN ROLE {reader}; then \\password somebody"
    )


@commands.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog="Example: ./run.sh psql -c 'SELECT * FROM coverage LIMIT 5'",
)
@click.option("--database", help="Another database of the embedded server, such as demo.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def psql(database: str | None, arguments: tuple[str, ...]) -> None:
    """Open psql on the database; further arguments are psql's."""
    chosen = settings.load()
    url = normalised_url(embedded.url(chosen))
    if database:
        url = url.set(database=database)
    # By environment, since everybody on the machine can read a process's arguments.
    os.environ.update(libpq_environment(url.render_as_string(hide_password=False)))
    program = (shutil.which("psql") if chosen.database_url else None) or str(embedded.psql(url.query.get("sslmode")))
    os.execv(program, [program, *arguments])


for each in (status, retry, accept, export, compare, tickers, check, upgrade_yahoo, completion, *stubs()):
    commands.add_command(each)


def main() -> NoReturn:
    """Entry point: a failure we can name is one line and exit code 1."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        commands.main(prog_name="./run.sh", standalone_mode=False, complete_var=VARIABLE)
    except SecuritiesMasterError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)
    except click.ClickException as error:
        if isinstance(error, click.UsageError) and any(word.endswith(",") for word in sys.argv):
            words = "The shell takes words apart at blanks: write AAPL,MSFT, or 'AAPL, MSFT' in quotes."
            click.echo(f"error: {error.format_message()} {words}", err=True)
        else:
            error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    sys.exit(0)
