"""`./run.sh export`: what is stored, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from luigi_tasks import settings
from luigi_tasks.cli.options import names
from luigi_tasks.database import embedded


@click.command(epilog="Example: ./run.sh export --to exports/today --groupings dax --start 2020-01-01")
@click.option(
    "--to", type=click.Path(path_type=Path), help="Folder, by default var/export; replaced once all is written."
)
@click.option("--tickers", callback=names, help="These, such as AAPL,MSFT; all if not given.")
@click.option("--groupings", callback=names, help="The members of these groupings.")
@click.option("--start", help="First day, such as 2024-01-02.")
@click.option("--end", help="Last day.")
@click.option(
    "--adjusted",
    type=click.Choice(["dividends", "splits", "no"]),
    default="dividends",
    help="For splits and dividends (the default), for splits only, or as traded.",
)
@click.option("--as-of", help="The bars as they were known after the run of that date.")
@click.option("--repaired", is_flag=True, help="With values mended where the source contradicts itself.")
@click.option("--final-only", is_flag=True, help="Without the newest session where the source may still settle it.")
@click.option("--format", "form", type=click.Choice(["parquet", "csv"]), default="parquet", help="Of the files.")
def export(
    to: Path | None,
    tickers: list[str] | None,
    groupings: list[str] | None,
    start: str | None,
    end: str | None,
    adjusted: str,
    as_of: str | None,
    repaired: bool,
    final_only: bool,
    form: Literal["parquet", "csv"],
) -> None:
    """Write prices, corporate actions, company data and universe to files: docs/reading.md."""
    from luigi_tasks import export as exporting
    from luigi_tasks.reading import Adjusted, Request, contradiction

    ways: dict[str, Adjusted] = {"dividends": True, "splits": "splits", "no": False}
    request = Request(start, end, ways[adjusted], as_of, tickers, groupings, repaired=repaired, final_only=final_only)
    chosen = settings.load()
    folder = to or chosen.root / "export"
    about = exporting.export(folder, request, embedded.url(chosen), form)
    days = f", {about['first_session']} to {about['last_session']}" if about["bars"] else ""
    click.echo(f"{about['bars']:,} bars of {about['tickers']:,} tickers{days}: {folder}")
    if about["contradicted"] and not repaired:
        click.echo(f"{contradiction(about['contradicted'])}; --repaired exports them mended", err=True)
