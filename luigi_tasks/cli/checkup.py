"""`./run.sh check`: whether everything is there that a run needs, one line each."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version

import click
import sqlalchemy as sa

from luigi_tasks import services, settings
from luigi_tasks.database import embedded
from luigi_tasks.database.engine import OLDEST_SERVER, engine_for, newest_revision, shown, transaction
from luigi_tasks.errors import SecuritiesMasterError
from luigi_tasks.market.universe import UniverseFile, validate
from luigi_tasks.tasks.base import source

_GIBIBYTE = 2**30
_LITTLE_DISK = 2.0
PACKAGE = "luigi-securities-master"

UNREACHABLE = 3
"""Exit code of a check of Yahoo where Yahoo cannot be reached."""

Finding = tuple[str, str]
"""ok, warning or problem; and what was found, with the remedy."""


@click.command(epilog="Example: ./run.sh check --offline")
@click.option("--offline", is_flag=True, help="Do not ask the source of the bars.")
@click.option("--yahoo", is_flag=True, help="Ask Yahoo a question of each kind instead, and say what has moved.")
def check(offline: bool, yahoo: bool) -> None:
    """Look whether a run has all that it needs; exit with 1 if it has not.

    With --yahoo, exit with 3 if it cannot be reached.
    """
    if yahoo:
        _look_at_yahoo()
        return
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "Python": _python,
        "packages": _packages,
        "settings": _settings,
        "universe": _universe,
        "rules": _rules,
        "disk": _disk,
        "PostgreSQL": _postgres,
        "luigid": _luigid,
        "source": _source,
    }
    if offline:
        del checks["source"]
    problems = 0
    for name, look in checks.items():
        # Each stands by itself: what is broken is what this command is for.
        try:
            found = list(look())
        except SecuritiesMasterError as error:
            found = [("problem", str(error))]
        except Exception as error:
            found = [("problem", f"{type(error).__name__}: {' '.join(str(error).split())}")]
        for level, words in found:
            problems += level == "problem"
            _tell(level, name, words)
    if problems:
        sys.exit(1)


def _tell(level: str, name: str, words: str) -> None:
    colour = {"ok": "green", "warning": "yellow"}.get(level, "red")
    click.echo(f"{click.style(f'{level:<8}', fg=colour)} {name}: {words}")


def _look_at_yahoo() -> None:
    """What the canary has to say, a line for each part of what this project knows of Yahoo's answers."""
    from luigi_tasks.market.yahoo import YahooSource
    from luigi_tasks.market.yahoo.canary import look

    chosen = settings.load()
    click.echo(f"yfinance {version('yfinance')}, curl_cffi {version('curl_cffi')}, pandas {version('pandas')}")
    problems = 0
    for part in look(YahooSource(timeout=chosen.request_timeout, references=chosen.witnesses, plain=chosen.plain)):
        problems += bool(part.problem)
        level = "away" if part.away else "moved" if part.problem else "ok"
        _tell(level, part.name, part.problem or part.seen)
        if part.away:
            sys.exit(UNREACHABLE)
    if problems:
        sys.exit(1)


def _python() -> Iterator[Finding]:
    yield "ok", f"{sys.version.split()[0]}, {sys.executable}"


def _packages() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    wrong, count = [], 0
    for text in requires(PACKAGE) or ():
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            present = version(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is not there")
            continue
        if not requirement.specifier.contains(present, prereleases=True):
            wrong.append(f"{requirement.name} is {present}, wanted is {requirement.specifier}")
    if wrong:
        yield "problem", f"{'; '.join(wrong)}. Delete var/venv; the next ./run.sh makes it anew."
    else:
        yield "ok", f"{count} of them, as wanted"


def _settings() -> Iterator[Finding]:
    chosen = settings.load()
    yield "ok", f"source {chosen.source_name}, all state in {chosen.root}"


def _universe() -> Iterator[Finding]:
    universe = UniverseFile.read(settings.load().universe_file)
    found = validate(universe.resolve(universe.default), renamed=universe.renamed)
    words = f"{len(found.accepted):,} tickers in {', '.join(universe.default)}"
    if not found.accepted:
        yield "problem", f"{universe.path} lists no ticker that can be run."
    elif found.rejected:
        first = found.rejected[0]
        entries = "1 entry is" if len(found.rejected) == 1 else f"{len(found.rejected)} entries are"
        yield "warning", f"{words}; {entries} not run, such as {first['ticker']!r}: {first['reason']}"
    else:
        yield "ok", words


def _rules() -> Iterator[Finding]:
    import json

    path = settings.load().suite_file
    yield "ok", f"{len(json.loads(path.read_text(encoding='utf-8'))['expectations'])} in {path}"


def _disk() -> Iterator[Finding]:
    root = settings.load().root
    place = next(each for each in (root, *root.parents) if each.exists())
    free = shutil.disk_usage(place).free / _GIBIBYTE
    probe = place / ".check"
    try:
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        yield "problem", f"{place} cannot be written ({error.strerror}). Check permissions."
        return
    level = "ok" if free >= _LITTLE_DISK else "warning"
    yield level, f"{free:,.1f} GiB free at {place}" + ("" if level == "ok" else "; 5,000 tickers take some 3 GiB")


def _postgres() -> Iterator[Finding]:
    url = embedded.url(settings.load())
    with transaction(engine_for(url), "the database") as connection:
        number = int(connection.scalar(sa.text("SHOW server_version_num")) or 0)
        made = connection.scalar(sa.text("SELECT to_regclass('alembic_version')"))
        revision = connection.scalar(sa.text("SELECT version_num FROM alembic_version")) if made else None
    where = f"version {number // 10_000} at {shown(url)}"
    if number // 10_000 < OLDEST_SERVER:
        yield "problem", f"{where} is older than {OLDEST_SERVER}"
    elif revision is None or revision < newest_revision():
        yield "warning", f"{where}: its tables are not of this version yet; ./run.sh up brings them to it"
    elif revision > newest_revision():
        yield "problem", f"{where}: its tables are of a later version. Use that version of the program."
    else:
        yield "ok", where


def _luigid() -> Iterator[Finding]:
    luigid = services.Luigid.configured(settings.load())
    if not luigid.answers():
        yield "problem", f"does not answer at {luigid.url}. Start it with ./run.sh up."
    elif luigid.process() is None:
        yield "warning", f"the one at {luigid.url} is not ours: it must have been started with this luigi.cfg"
    else:
        yield "ok", luigid.url


def _source() -> Iterator[Finding]:
    source().check()
    yield "ok", f"{settings.load().source_name} answers"
