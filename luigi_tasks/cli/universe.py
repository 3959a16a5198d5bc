"""`./run.sh tickers`: what config/universe.yaml lists, and adding to it or taking from it."""

from __future__ import annotations

import difflib
import io
from pathlib import Path
from typing import Any

import click

from luigi_tasks import settings
from luigi_tasks.database import embedded
from luigi_tasks.database.coverage import Coverage
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.errors import ConfigurationError, SecuritiesMasterError, StoreUnwritable
from luigi_tasks.market.universe import Grouping, UniverseFile, validate
from luigi_tasks.tickers import checked, did_you_mean, normalise

_NEXT = "The next run loads it; to try it now: ./run.sh --tickers {}"


@click.group()
def tickers() -> None:
    """What config/universe.yaml lists: show it, add to it, take from it."""


@tickers.command("list", epilog="Example: ./run.sh tickers list --grouping dax")
@click.option("--grouping", help="Only this one (default: all).")
def listing(grouping: str | None) -> None:
    """Each ticker with its groupings, its last stored session, and whether it failed last."""
    universe = _read()
    if grouping:
        _known(universe, grouping)
    members = validate(universe.resolve([grouping] if grouping else universe.groupings), renamed=universe.renamed)
    names = list(members.accepted)
    stored, failed = _stored(names)
    for name in names:
        state = "failed last" if name in failed else "" if name in stored else "not loaded yet"
        last = str(stored.get(name, ""))
        click.echo(f"{name:<12} {last:<10} {state:<15} {', '.join(members.accepted[name])}".rstrip())
    for entry in members.rejected:
        click.echo(f"not run: {entry['ticker']!r} {entry['reason']}", err=True)


@tickers.command(epilog="Example: ./run.sh tickers add NVDA AMD --grouping chips")
@click.argument("names", nargs=-1, required=True, metavar="TICKER...")
@click.option("--grouping", required=True, help="A list in config/universe.yaml; a new one is made.")
def add(names: tuple[str, ...], grouping: str) -> None:
    """Add tickers to a grouping."""
    universe, wanted = _read(), [checked(name) for name in names]
    known = universe.groupings.get(grouping)
    present = [] if known is None else _list_of(universe, known)
    new = [name for name in dict.fromkeys(wanted) if name not in present]
    for name in wanted:
        if name in present:
            click.echo(f"{name} is in {grouping} already")
    if not new:
        return

    def change(groupings: Any) -> None:
        if known is None:
            groupings[grouping] = {"tickers": list(new)}
        else:
            groupings[grouping]["tickers"].extend(new)

    _rewrite(universe.path, change)
    for name in new:
        if question := did_you_mean(name):
            click.echo(f"{name} is added as it is written. {question}", err=True)
    taken = grouping in _read().default
    click.echo(f"added to {grouping}: {', '.join(new)}")
    if taken:
        click.echo(_NEXT.format(",".join(new)))
    else:
        click.echo(
            f"{grouping} is not among the default groupings of {universe.path.name}: ./run.sh --groupings {grouping}"
        )


@tickers.command(epilog="Example: ./run.sh tickers remove AMD --grouping chips")
@click.argument("names", nargs=-1, required=True, metavar="TICKER...")
@click.option("--grouping", help="From this one alone (default: from every list that has it).")
def remove(names: tuple[str, ...], grouping: str | None) -> None:
    """Take tickers out of a grouping; what is stored of them stays."""
    universe, wanted = _read(), {normalise(name) for name in names}
    if grouping:
        _list_of(universe, _known(universe, grouping))
    lists = [each for each in universe.groupings.values() if each.kind == "tickers" and grouping in (None, each.name)]
    found = {each.name: [name for name in map(str, each.value) if normalise(name) in wanted] for each in lists}
    missing = wanted - {normalise(name) for each in found.values() for name in each}
    if missing:
        listed = validate(universe.resolve(universe.groupings)).accepted
        where = sorted(missing.intersection(listed))
        reason = f"{', '.join(where)} come from an index or a CSV file" if where else "no list has it"
        asked = " ".join(filter(None, (did_you_mean(name, listed) for name in sorted(missing - set(where)))))
        remedy = asked or f"See {universe.path}."
        raise ConfigurationError(", ".join(sorted(missing)), f"cannot be removed: {reason}", remedy)

    def change(groupings: Any) -> None:
        for name, gone in found.items():
            for each in gone:
                groupings[name]["tickers"].remove(each)

    _rewrite(universe.path, change)
    for name, gone in found.items():
        if gone:
            click.echo(
                f"removed from {name}: {', '.join(gone)}; what is stored stays (./run.sh forget TICKER deletes it)"
            )


def _read() -> UniverseFile:
    return UniverseFile.read(settings.load().universe_file)


def _known(universe: UniverseFile, name: str) -> Grouping:
    if name in universe.groupings:
        return universe.groupings[name]
    close = difflib.get_close_matches(name, universe.groupings, 1)
    remedy = f"Did you mean {close[0]}?" if close else f"It has: {', '.join(sorted(universe.groupings))}."
    raise ConfigurationError(f"grouping {name!r}", f"is not in {universe.path.name}", remedy)


def _list_of(universe: UniverseFile, grouping: Grouping) -> list[str]:
    """Its tickers, as a run takes them. Raises ConfigurationError where they do not stand in the file."""
    if grouping.kind == "csv":
        path = universe.csv_path(grouping)
        raise ConfigurationError(f"grouping {grouping.name}", f"has its tickers in {path}", "Edit that file.")
    if grouping.kind == "index":
        remedy = "Put the ticker into another grouping."
        raise ConfigurationError(f"grouping {grouping.name}", f"is the index {grouping.value!r}, as published", remedy)
    return [normalise(str(each)) for each in grouping.value]


def _rewrite(path: Path, change: Any) -> None:
    """Change the file's groupings, and nothing else in it: comments, order and quotes stay."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    document = yaml.load(path.read_text(encoding="utf-8"))
    change(document["groupings"])
    text = io.StringIO()
    yaml.dump(document, text)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text.getvalue(), encoding="utf-8")
        # What a run could not read must not replace what it can.
        UniverseFile.read(part)
        part.replace(path)
    except OSError as error:
        raise StoreUnwritable(str(path), f"cannot be written ({error.strerror})") from error
    finally:
        part.unlink(missing_ok=True)


def _stored(names: list[str]) -> tuple[dict[str, Any], set[str]]:
    """{ticker: its last session}, and those that failed last; both empty where no database answers."""
    try:
        url = embedded.url(settings.load())
        ends = Coverage(url).ends(names)
        return {name: last for name, (_, last) in ends.items()}, Ledger(url).failed_last(names)
    except SecuritiesMasterError as error:
        click.echo(f"what is stored is not known: {error}", err=True)
        return {}, set()
