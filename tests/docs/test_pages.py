"""What the README and the pages under docs/ tell to run can be run, and is, as far as a test can."""

from __future__ import annotations

import ast
import configparser
import datetime as dt
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import sqlalchemy as sa
import yaml
from luigi.cmdline_parser import CmdlineParser
from luigi.task_register import Register

from luigi_tasks import cli, settings
from luigi_tasks.cli.completion import OF_RUN_SH
from luigi_tasks.database import embedded
from luigi_tasks.database.engine import create_database, engine_for
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.market.universe import UniverseFile
from luigi_tasks.report import metrics
from tests.conftest import administer, make_bars
from tests.workspace import BIN, REPOSITORY, Workspace

NOT_RUN = {
    "a run": "it would ask Yahoo; tests/end_to_end/ runs the like of it",
    "demo": "it installs, and takes minutes; .ci/run runs it",
    "./run.sh check --yahoo": "it would ask Yahoo; tests/market/test_canary.py has it ask another",
    "upgrade-yahoo": "it asks the package index; tests/cli/test_upgrade_yahoo.py runs it",
    "accept": "no answer was held back there; tests/cli/test_accept.py runs it",
    "${EDITOR:-vi}": "it waits for a person",
    "a variable": "its effect would end with the line",
}
"""Commands that are only looked at: whether there are such, with such options."""

LANGUAGES = {"", "sql", "ini", "yaml", "cron", "python", "mermaid", "text"}
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
# What its SQL does is done by PostgreSQL's administrator.
ADMINISTRATORS = "own-postgres.md"
RUN_ELSEWHERE = ("security.md", "reading.md")
"""tests/end_to_end/test_security_page.py and tests/docs/test_reading.py run what they tell, in its order."""


@dataclass(frozen=True)
class Block:
    """A fenced block: the page it is in, the number of its first line, its language ("": for a shell) and its text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    found = []
    for page in PAGES:
        if page.name in RUN_ELSEWHERE:
            continue
        text = page.read_text(encoding="utf-8")
        for fence in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text.count("\n", 0, fence.start()) + 2
            found.append(Block(page, line, fence[1], fence[2]))
    return [block for block in found if not languages or block.language in languages]


def shell_lines() -> Iterator[tuple[str, str]]:
    """(place, command) of every line of a shell, continued ones joined, without what people are told in comments."""
    for block in blocks(""):
        for number, line in enumerate(block.text.replace("\\\n", "  ").splitlines()):
            if words := shlex.split(line, comments=True):
                yield f"{block.page.name}:{block.line + number}", line if "#" not in line else shlex.join(words)


def kind_of(command: str) -> str:
    """The command of run.sh, "a run", or the program."""
    words = shlex.split(command)
    if words[0] == "luigi" or (words[0] == "./run.sh" and (len(words) == 1 or words[1].startswith("-"))):
        return "a run"
    if words[0] == "export":
        return "a variable"
    return words[1] if words[0] == "./run.sh" else words[0]


def check_options(command: str) -> None:
    """Raise if there is no such command, or it has not these options."""
    words = shlex.split(command)
    kind = kind_of(command)
    if kind == "a run":
        given = words[3:] if words[0] == "luigi" else ["RunAll", *words[1:]]
        with CmdlineParser.global_instance([*given, "--module", "luigi_tasks"]) as parser:
            parser.get_task_obj()
    elif kind == "a variable":
        name = words[1].partition("=")[0]
        assert name in settings.ENVIRONMENT, f"{name} is not read"
    elif words[0] == "./run.sh":
        script = (REPOSITORY / "run.sh").read_text()
        commands = {name for case in re.findall(r"^([a-z |-]+)\)$", script, re.MULTILINE) for name in case.split(" | ")}
        assert kind in commands, f"run.sh has no command {kind}"
        if kind not in OF_RUN_SH and (known := cli.commands.get_command(click.Context(cli.commands), kind)) is not None:
            known.make_context(kind, words[2:])


@pytest.fixture
def filled(workspace: Workspace) -> Workspace:
    """A workspace after a run of today, with a `run.sh` in its folder that is the real one but for its environment."""
    last, folder = str(dt.datetime.now(dt.UTC).date()), workspace.folder
    tickers = ["AAPL", "MSFT", "NVDA"]
    workspace.use_files({ticker: make_bars(last=last, seed=number) for number, ticker in enumerate(tickers)})
    for name in ("luigi.cfg", "config", "luigi_tasks"):
        (folder / name).symlink_to(REPOSITORY / name)
    (folder / "run.sh").write_text('#!/bin/sh\nexec python -m luigi_tasks.cli "$@"\n')
    (folder / "run.sh").chmod(0o755)
    # The server's own programs, for pg_dump; and this code, wherever it is installed.
    programs = [str(BIN), str(embedded.psql().parent), os.environ["PATH"]]
    workspace.environment |= {"PATH": os.pathsep.join(programs), "PYTHONPATH": str(REPOSITORY)}
    run = workspace.run("--years-back", "1")
    assert run.code == 0, run
    return workspace


def test_every_shell_line_can_be_run_or_is_at_least_a_command_with_its_options(filled: Workspace) -> None:
    wrong = []
    for place, command in shell_lines():
        try:
            check_options(command)
        except (SystemExit, Exception) as error:
            wrong.append(f"{place}: {command}: {error!r}")
            continue
        if kind_of(command) in NOT_RUN or command in NOT_RUN:
            continue
        run = subprocess.run(
            ["bash", "-c", command],
            cwd=filled.folder,
            env=filled.env(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if run.returncode:
            wrong.append(f"{place}: {command}: exit code {run.returncode}: {run.stdout}{run.stderr}")

    assert wrong == []


def test_no_block_is_overlooked() -> None:
    assert {block.language for block in blocks()} <= LANGUAGES, "a block in a language that no test here knows"


def test_commands_within_the_text_are_there() -> None:
    wrong = []
    for page in PAGES:
        for command in re.findall(r"`((?:\./run\.sh|luigi --module)[^`\n]*)`", page.read_text(encoding="utf-8")):
            plain = re.sub(r" ?\[[^\]]*\]| …", "", command)
            if plain == "luigi --module luigi_tasks":
                continue
            try:
                check_options(plain)
            except (SystemExit, Exception) as error:
                wrong.append(f"{page.name}: {command}: {error!r}")

    assert wrong == []


def test_every_sql_statement_is_executed(database_url: str) -> None:
    by_owner = [block for block in blocks("sql") if block.page.name != ADMINISTRATORS]
    assert len(by_owner) >= 3
    with engine_for(database_url).connect() as connection:
        for block in by_owner:
            for statement in statements(block):
                connection.execute(sa.text(statement)).all()


def test_a_database_made_as_told_can_be_filled_by_its_owner_and_read_by_who_only_reads(postgres_url: str) -> None:
    first, second = [statements(block) for block in blocks("sql") if block.page.name == ADMINISTRATORS]
    owners = postgres_url.replace("postgres:@/postgres?", "securities:@/securities?")

    for statement in first:
        administer(postgres_url, statement)
    Ledger(owners).migrate()
    for statement in second:
        administer(postgres_url.replace("/postgres?", "/securities?"), statement)

    readers = owners.replace("securities:@", "reporting:@")
    assert administer(readers, "SELECT count(*) FROM ohlcv") == [(0,)]
    with pytest.raises(sa.exc.ProgrammingError, match="permission denied"):
        administer(readers, "DELETE FROM ohlcv")


def statements(block: Block) -> list[str]:
    return [statement for statement in re.split(r";\s*\n", block.text) if statement.strip()]


def test_every_setting_that_is_shown_is_one() -> None:
    wrong = []
    for block in blocks("ini"):
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        parser.optionxform = str  # type: ignore[assignment, method-assign]
        parser.read_string(block.text)
        for section in set(parser.sections()) - {"Unit", "Service", "Timer", "Install"}:
            known = Register.get_task_cls(section).get_param_names(include_significant=True)
            wrong += [f"{block}: [{section}] {key}" for key in parser[section] if key not in known]

    assert wrong == []


def test_yaml_is_what_it_is_meant_to_be(database_url: str, tmp_path: Path) -> None:
    universes = rules = 0
    for block in blocks("yaml"):
        if "rules" not in block.text:
            (tmp_path / "universe.yaml").write_text(block.text)
            universe = UniverseFile.read(tmp_path / "universe.yaml")
            assert universe.resolve(universe.default)
            universes += 1
            continue
        told = set(re.findall(r"`([a-z_]+)`", block.page.read_text(encoding="utf-8")))
        for rule in yaml.safe_load(block.text)["groups"][0]["rules"]:
            assert set(re.findall(r"securities_master_([a-z_]+)", rule["expr"].split("{")[0])) <= told
            rules += 1
        figures = metrics.text(metrics.collect(database_url, {"tickers": {}}, dt.datetime.now(dt.UTC)))
        assert set(re.findall(r"^# TYPE securities_master_([a-z_]+)", figures, re.MULTILINE)) <= told

    assert (universes, rules) == (1, 5)


def test_python_is_python_and_what_it_imports_is_there() -> None:
    for block in blocks("python"):
        tree = ast.parse(block.text, str(block))
        tree.body = [each for each in tree.body if isinstance(each, ast.Import | ast.ImportFrom)]
        exec(compile(tree, str(block), "exec"), {})


def test_files_that_pages_lead_to_are_there() -> None:
    wrong = []
    for page in PAGES:
        links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
        wrong += [f"{page}: {link}" for link in links if "://" not in link and not (page.parent / link).exists()]

    assert wrong == []


def test_units_for_systemd_are_good_ones(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("this machine has no systemd-analyze")
    names = re.findall(r"`/etc/systemd/system/([\w.-]+)`", (REPOSITORY / "docs/how-to/every-day.md").read_text())
    units = [block for block in blocks("ini") if block.page.name == "every-day.md"]
    assert len(names) == len(units) == 3
    for name, unit in zip(names, units, strict=True):
        here = unit.text.replace("/path/to/here/var/venv/bin/", f"{BIN}/").replace("/path/to/here", str(REPOSITORY))
        (tmp_path / name).write_text(here)

    command = ["systemd-analyze", "verify", "--man=no", *[str(tmp_path / name) for name in names]]
    verified = subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert verified.returncode == 0, verified.stderr
    assert not [line for line in verified.stderr.splitlines() if str(tmp_path) in line], verified.stderr
    (calendar,) = [line.partition("=")[2] for unit in units for line in unit.text.splitlines() if "OnCalendar" in line]
    assert subprocess.run(["systemd-analyze", "calendar", calendar], capture_output=True).returncode == 0


def test_lines_for_cron_have_a_time_and_a_command_that_is_there() -> None:
    (block,) = blocks("cron")
    for line in block.text.splitlines():
        fields = re.fullmatch(r"((?:[\d*/,-]+ ){4}[\d*/,-]+)  (.*)", line)
        assert fields is not None, line
        assert subprocess.run(["sh", "-nc", fields[2]]).returncode == 0
        command = fields[2].split(" && ")[-1].split(" >> ")[0]
        check_options(command)


def test_a_run_after_files_were_deleted_has_nothing_to_do_and_a_restored_database_is_caught_up(
    tmp_path: Path, postgres_url: str
) -> None:
    create_database(postgres_url, "to_restore")
    with Workspace(tmp_path, postgres_url.replace("/postgres?", "/to_restore?")) as workspace:
        workspace.use_files({"AAA": make_bars(days=40, last="2024-03-18")})
        assert workspace.run("--date", "2024-03-14", "--years-back", "1").code == 0
        shutil.rmtree(workspace.store / "store")
        again = workspace.run("--date", "2024-03-14", "--years-back", "1")
        assert "Nothing to do" in again.out, again

        engine_for(workspace.database_url).dispose()
        administer(postgres_url, "CREATE DATABASE backup TEMPLATE to_restore")
        assert workspace.run("--date", "2024-03-18", "--years-back", "1").code == 0
        wanted = workspace.tables()
        workspace.database_url = postgres_url.replace("/postgres?", "/backup?")
        shutil.rmtree(workspace.store / "store")
        restored = workspace.run("--date", "2024-03-18", "--years-back", "1")

        assert restored.code == 0, restored
        assert workspace.tables() == wanted
        assert len(wanted["ohlcv"]) == 40
