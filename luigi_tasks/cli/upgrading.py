"""`./run.sh upgrade-yahoo`: a newer yfinance, if all that this project needs of it still works with it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

import click
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from luigi_tasks.cli.checkup import PACKAGE, UNREACHABLE
from luigi_tasks.errors import ServiceFailure

_REPOSITORY = Path(__file__).parents[2]
_PINS = _REPOSITORY / "constraints.txt"
_UPGRADED = ("yfinance", "curl_cffi")
_CONTRACT = ("tests/market/test_yahoo.py", "tests/market/test_yfinance_ways.py")
"""Tests of yfinance against a Yahoo on this machine."""


@click.command("upgrade-yahoo", epilog="Example: ./run.sh upgrade-yahoo --to 1.7.1")
@click.option("--to", metavar="VERSION", help="Of yfinance; by default the newest that setup.cfg allows.")
def upgrade_yahoo(to: str | None) -> None:
    """Try the newest yfinance and curl_cffi apart, and install them if they do what is needed.

    Nothing of what is installed is changed before that. Exit with 1 if something fails with them; it says what.
    """
    before = {name: version(name) for name in _UPGRADED}
    newer = _newer(to)
    named = ", ".join(f"{name} {number}" for name, number in newer.items())
    have = ", ".join(f"{name} {number}" for name, number in before.items())
    if not newer:
        click.echo(
            f"{have}: there is nothing newer that setup.cfg allows. ./run.sh check --yahoo looks at Yahoo itself."
        )
        return
    click.echo(f"trying {named}, in place of {have}")
    with tempfile.TemporaryDirectory(prefix="yahoo-") as apart:
        pinned = [f"{name}=={number}" for name, number in newer.items()]
        _pip("install", "--quiet", "--no-deps", "--target", apart, *pinned)
        failed = _contract_fails(apart) or _canary_fails(apart)
    if failed:
        click.echo(f"{failed}\n{have} stays, nothing was changed.", err=True)
        sys.exit(1)
    _install(pinned)
    _pin(newer)
    click.echo(
        f"installed {named}; constraints.txt names it now. To go back: git checkout constraints.txt; the next ./run.sh "
        "installs what it names."
    )


def _newer(to: str | None) -> dict[str, str]:
    """{package: version} of what pip would install for it, given all else that is installed."""
    allowed = {canonicalize_name(each.name): each for each in map(Requirement, requires(PACKAGE) or ())}
    wanted = [str(allowed[canonicalize_name(name)]) for name in _UPGRADED]
    if to is not None:
        wanted.append(f"yfinance=={to}")
    found = _pip("install", "--quiet", "--dry-run", "--report", "-", "--upgrade", *wanted)
    return {each["metadata"]["name"]: each["metadata"]["version"] for each in json.loads(found)["install"]}


def _install(pinned: Sequence[str]) -> None:
    """Install these versions, or none of them: pip replaces one package after another.

    Raises:
        ServiceFailure: it could not be done; it says what is there now.
    """
    names = [each.partition("==")[0] for each in pinned]
    before = [f"{name}=={version(name)}" for name in names if _is_there(name)]
    # What ./run.sh knows itself by: what constraints.txt names is installed anew, should it be put back.
    for stamp in Path(sys.prefix).glob(".installed-*"):
        stamp.unlink()
    try:
        _pip("install", "--quiet", "--no-deps", *pinned)
    except ServiceFailure as error:
        try:
            _pip("install", "--quiet", "--no-deps", *before)
        except ServiceFailure:
            raise ServiceFailure(
                "pip",
                f"{error.reason}, neither to install {', '.join(pinned)} nor to put back {', '.join(before)}",
                "The next ./run.sh installs what constraints.txt names.",
            ) from error
        raise


def _is_there(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def _contract_fails(apart: str) -> str:
    if find_spec("pytest") is None or not (_REPOSITORY / _CONTRACT[0]).exists():
        click.echo("the tests against a Yahoo on this machine are not here; ./run.sh upgrade-yahoo has them")
        return ""
    click.echo("asking a Yahoo on this machine ...")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--numprocesses", "2", *_CONTRACT]
    done = _run(command, apart)
    words = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR", "E  "))]
    return "" if done.returncode == 0 else "\n".join(["with it these fail:", *words[:20]])


def _canary_fails(apart: str) -> str:
    click.echo("asking Yahoo ...")
    done = _run([sys.executable, "-m", "luigi_tasks.cli", "check", "--yahoo"], apart)
    click.echo(done.stdout.rstrip())
    if done.returncode == UNREACHABLE:
        click.echo("Yahoo cannot be reached, or answers nobody now: what it says to this is not known.")
        return ""
    return "" if done.returncode == 0 else "with it Yahoo's answers are not what is needed; see above."


def _run(command: Sequence[str], apart: str) -> subprocess.CompletedProcess[str]:
    """The command's end, with the packages in that folder before those that are installed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (apart, os.environ.get("PYTHONPATH"))))}
    return subprocess.run(command, cwd=_REPOSITORY, env=environment, text=True, capture_output=True, check=False)


def _pip(*arguments: str) -> str:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode != 0:
        words = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()[-3:]
        raise ServiceFailure(
            "pip", f"could not do it ({' '.join(words)})", "What was installed stays. Is the package index reachable?"
        )
    return done.stdout


def _pin(newer: Mapping[str, str]) -> None:
    """Have constraints.txt name these versions, which ./run.sh installs from."""
    if not _PINS.exists():
        return
    text = _PINS.read_text(encoding="utf-8")
    for name, number in newer.items():
        pin = f"{canonicalize_name(name)}=={number}"
        line = re.compile(rf"^{re.escape(canonicalize_name(name))}==.*$", re.MULTILINE)
        text = line.sub(pin, text) if line.search(text) else f"{text.rstrip()}\n{pin}\n"
    _PINS.write_text(text, encoding="utf-8")
