"""`./run.sh compare`: what is stored, held against the files of somebody else."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from luigi_tasks import settings
from luigi_tasks.cli.options import names
from luigi_tasks.database import embedded
from luigi_tasks.errors import SecuritiesMasterError, SourceUnreachable

DISAGREE, NOTHING_COMPARED = 1, 3
_EXAMPLES = 3
_TICKERS_NAMED = 10
_WAYS = {
    "splits": "adjusted for splits",
    "dividends": "adjusted for splits and dividends",
    "no": "as traded on the day",
}


@click.command(
    epilog="Exit code: 0 all agree, 1 some disagree or were not compared, 3 nothing could be compared. "
    "More: docs/how-to/compare.md. Example: ./run.sh compare config --tickers AAPL,MSFT --start 2024-01-02"
)
@click.argument("path")
@click.option("--tickers", callback=names, help="These, such as AAPL,MSFT; all that both have if not given.")
@click.option("--groupings", callback=names, help="The members of these groupings.")
@click.option("--start", help="First day, such as 2024-01-02.")
@click.option("--end", help="Last day.")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0, max=0.5),
    default=0.001,
    show_default=True,
    help="Relative difference of prices that is none.",
)
@click.option(
    "--volume-tolerance",
    type=click.FloatRange(min=0),
    help="The same of volumes, such as 0.05; they are compared only if it is given.",
)
@click.option(
    "--adjusted",
    type=click.Choice(["auto", "dividends", "splits", "no"]),
    default="auto",
    show_default=True,
    help="How prices in the files are: for splits and dividends, for splits only, as traded; auto finds it out.",
)
@click.option(
    "--volume-unit", type=float, default=1.0, show_default=True, help="Shares that a volume of 1 in the files is."
)
@click.option("--as-of", help="The stored bars as they were known after the run of that date.")
@click.option(
    "--limit", type=click.IntRange(min=0), default=40, show_default=True, help="Rows of tickers shown; 0: all."
)
@click.option("--json", "as_json", is_flag=True, help="Everything, as JSON.")
def compare(
    path: str,
    tickers: list[str] | None,
    groupings: list[str] | None,
    start: str | None,
    end: str | None,
    tolerance: float,
    volume_tolerance: float | None,
    adjusted: str,
    volume_unit: float,
    as_of: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Hold stored bars against those in PATH, and name disagreements by kind.

    PATH is a folder with a file for each ticker, or one long table, in the layout of Yahoo, Stooq or Kaggle. Nothing is
    written, and nothing is asked of Yahoo.
    """
    from luigi_tasks.comparison import Tolerance
    from luigi_tasks.market.files import FileSource, resolve
    from luigi_tasks.second_opinion import Question, ask

    way: Any = None if adjusted == "auto" else adjusted
    question = Question(tickers, groupings, start, end, as_of, way, Tolerance(tolerance, volume_tolerance))
    try:
        if not path.strip() or not resolve(path).exists():
            raise SourceUnreachable(repr(path), "there is no such file or folder")
        with tempfile.TemporaryDirectory(prefix="compare-") as scratch:
            source = FileSource(path, scratch=Path(scratch), volume_unit=volume_unit)
            document = ask(source, embedded.url(settings.load()), question)
    except SecuritiesMasterError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(NOTHING_COMPARED)
    if as_json:
        click.echo(json.dumps(document, indent=2, allow_nan=False))
    else:
        for line in lines(document, limit):
            click.echo(line)
    if not document["compared"]:
        click.echo(f"error: {path}: nothing could be compared: {_why_nothing(document)}", err=True)
        sys.exit(NOTHING_COMPARED)
    if document["kinds"] or not document["complete"]:
        sys.exit(DISAGREE)


def lines(document: dict[str, Any], limit: int) -> list[str]:
    """What a person reads of a comparison; at most so many rows of tickers, 0 for all."""
    compared = document["compared"]
    out = []
    if compared:
        differing = sorted((each for each in compared if each["kinds"]), key=_gravity)
        out += [*_head(document, len(differing)), *_by_kind(document, differing), *_by_ticker(differing, limit)]
    return out + _not_compared(document)


def _head(document: dict[str, Any], differing: int) -> list[str]:
    compared = document["compared"]
    found_out = "; found out, --adjusted sets it" if document["adjusted_found_out"] else ""
    volumes = document["volume_tolerance"]
    told = "not compared (--volume-tolerance)" if volumes is None else f"within {volumes:.3g} of each other"
    said = (
        f"{_counted(len(compared), 'ticker')}, {_counted(document['bars'], 'bar')}, {document['first']} to "
        f"{document['last']}: {len(compared) - differing:,} agree, {differing:,} disagree"
    )
    how = (
        f"prices {_WAYS[document['adjusted']]} on both sides{found_out}; tolerance {100 * document['tolerance']:.3g} %;"
        f" volumes {told}"
    )
    out = [said, how]
    if unknown := sum(each["unknown"] for each in compared):
        out.append(f"{_counted(unknown, 'price')} of common sessions could not be compared: one side does not say them")
    return out


def _by_kind(document: dict[str, Any], differing: list[dict[str, Any]]) -> list[str]:
    if not differing:
        return []
    out = ["", f"{'kind':<12}{'tickers':>8}{'bars':>10}  first examples"]
    for kind, counts in document["kinds"].items():
        of_kind = [each for each in differing if kind in each["kinds"]]
        examples = ", ".join(f"{each['ticker']} {_first(each, kind)['first']}" for each in of_kind[:_EXAMPLES])
        out.append(f"{kind:<12}{counts['tickers']:>8,}{counts['bars']:>10,}  {examples}")
    return out


def _by_ticker(differing: list[dict[str, Any]], limit: int) -> list[str]:
    # The gravest kinds first, whatever the limit is.
    rows = [(each, kind, bars) for each in differing for kind, bars in each["kinds"].items()]
    if not rows:
        return []
    shown = rows[:limit] if limit else rows
    width = max(len(each["ticker"]) for each, _, _ in shown) + 2
    out = ["", f"{'ticker':<{max(width, 8)}}{'kind':<12}{'bars':>8}  {'first':<12}{'last':<12}what"]
    for each, kind, bars in shown:
        of_kind = [one for one in each["disagreements"] if one["kind"] == kind]
        first, last = min(one["first"] for one in of_kind), max(one["last"] for one in of_kind)
        gravest = _first(each, kind)
        more = f" (and {len(of_kind) - 1:,} more)" if len(of_kind) > 1 else ""
        at = f"{gravest['first']}: " if len(of_kind) > 1 or kind == "value" else ""
        out.append(
            f"{each['ticker']:<{max(width, 8)}}{kind:<12}{bars:>8,}  {first:<12}{last:<12}{at}{gravest['words']}{more}"
        )
    if len(shown) < len(rows):
        out.append(
            f"... and {_counted(len(rows) - len(shown), 'row')} more: --limit 0 shows all, --json has everything"
        )
    return out


def _gravity(each: dict[str, Any]) -> int:
    """The place of the gravest of its kinds among all kinds."""
    from luigi_tasks.comparison import KINDS

    return min(KINDS.index(kind) for kind in each["kinds"])


def _first(each: dict[str, Any], kind: str) -> dict[str, Any]:
    """The longest of a ticker's disagreements of a kind, the earliest of these."""
    found: dict[str, Any] = max(
        (one for one in each["disagreements"] if one["kind"] == kind), key=lambda one: one["bars"]
    )
    return found


def _not_compared(document: dict[str, Any]) -> list[str]:
    out = []
    for key, words in (
        ("only_stored", "only stored"),
        ("only_in_files", "only in the files"),
        ("neither", "neither stored nor in the files"),
    ):
        found = document[key]
        if found:
            more = (
                f" and {len(found) - _TICKERS_NAMED:,} more (--json names all)" if len(found) > _TICKERS_NAMED else ""
            )
            out.append(f"{words}, {_counted(len(found), 'ticker')}: {', '.join(found[:_TICKERS_NAMED])}{more}")
    out += [f"{ticker}: did you mean {meant}?" for ticker, meant in document["meant"].items()]
    for key, words in (("no_common_session", "no session to compare"), ("not_read", "file cannot be used")):
        named = list(document[key].items())
        out += [f"{words}: {ticker}: {why}" for ticker, why in named[:_TICKERS_NAMED]]
        if len(named) > _TICKERS_NAMED:
            out.append(f"{words}: and {len(named) - _TICKERS_NAMED:,} more (--json names all)")
    return ["", "not compared:", *(f"  {line}" for line in out)] if out else []


def _why_nothing(document: dict[str, Any]) -> str:
    for key, words in (("not_read", ""), ("no_common_session", "no session in common: ")):
        if document[key]:
            ticker, why = next(iter(document[key].items()))
            return f"{words}{ticker}: {why}" if words else why
    return "the files and the store have no ticker in common"


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
