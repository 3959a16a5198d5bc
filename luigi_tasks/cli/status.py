"""`./run.sh status`: how the services are, what is going on, and how the last runs went."""

from __future__ import annotations

import datetime as dt
from typing import Any

import click

from luigi_tasks import services, settings
from luigi_tasks.database import embedded, presence
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.errors import SecuritiesMasterError
from luigi_tasks.run import luigid_client

_RUNS = 10


@click.command(epilog="Example: ./run.sh status")
def status() -> None:
    """Say how the services are, what is running, and how the last runs went."""
    chosen = settings.load()
    for name, words in services.state(chosen).items():
        click.echo(f"{name}: {words}")
    try:
        ledger = Ledger(embedded.url(chosen))
        run_id = ledger.latest_run_id()
    except SecuritiesMasterError:
        return
    if run_id is None:
        click.echo("last run: none yet")
        return
    runs = ledger.runs_before(run_id, _RUNS)
    running = runs[0]["outcome"] is None and presence.is_going_on(embedded.url(chosen), run_id)
    _last_run(ledger, runs[0], running)
    _history(runs, running)


def _last_run(ledger: Ledger, run: dict[str, Any], running: bool) -> None:
    outcome = run["outcome"] or ("running" if running else "killed")
    click.echo(f"last run: {run['run_id']}, {run['task_family']}, {outcome}, started {_minute(run['started_at'])} UTC")
    if running:
        since = (dt.datetime.now(dt.UTC) - run["started_at"]).total_seconds()
        click.echo(
            f"  running for {since:,.0f} s; http://{services.Luigid.configured(settings.load()).url[7:]} shows more"
        )
    if page := luigid_client.page_url(run["run_id"]):
        click.echo(f"  report: {page}")
    counts = ledger.steps_of(run["run_id"])
    if counts:
        click.echo(f"\n  {'step':<18}{'done':>9}{'failed':>9}{'rows':>13}")
        for step, (done, failed, rows) in counts.items():
            click.echo(f"  {step:<18}{done:>9,}{failed:>9,}{rows:>13,}")


def _history(runs: list[dict[str, Any]], running: bool) -> None:
    click.echo(
        f"\n  {'started, UTC':<18}{'as of':<12}{'outcome':<13}{'seconds':>8}{'tickers':>9}{'failed':>8}{'requests':>10}"
    )
    for place, run in enumerate(runs):
        known = run["summary"] or {}
        outcome = run["outcome"] or ("running" if running and not place else "killed")
        seconds = f"{known['seconds']:,.0f}" if "seconds" in known else ""
        tickers, failed = known.get("tickers", {}).get("all", ""), len(known.get("failed", ())) or ""
        requests = sum(counts["sent"] for counts in known.get("requests", {}).values()) or ""
        click.echo(
            f"  {_minute(run['started_at']):<18}{run['parameters'].get('date', ''):<12}{outcome:<13}"
            f"{seconds:>8}{tickers:>9}{failed:>8}{requests:>10}"
        )


def _minute(moment: dt.datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
