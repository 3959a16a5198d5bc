"""The commands of docs/security.md do what it says."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.conftest import make_bars
from tests.workspace import REPOSITORY, Workspace

PAGE = (REPOSITORY / "docs/security.md").read_text()


def section(title: str) -> str:
    """The commands of a section, as a script."""
    text = re.split(rf"^## {title}$", PAGE, flags=re.MULTILINE)[1].partition("\n## ")[0]
    commands = "\n".join(re.findall(r"^```\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL))
    return commands.replace("./run.sh", f"{sys.executable} -m luigi_tasks.cli")


def run(workspace: Workspace, script: str) -> str:
    environment = workspace.env() | {"PYTHONPATH": str(REPOSITORY), "HOME": str(workspace.folder)}
    done = subprocess.run(
        ["bash", "-euc", script], cwd=workspace.folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_roles_and_backup_work_as_told(workspace: Workspace) -> None:
    workspace.use_files({"AAA": make_bars()})

    made = run(workspace, section("Roles"))
    workspace.database_url, owner = workspace.database_url.replace("postgres:@", "nightly@"), workspace.database_url
    night = workspace.run("--date", "2024-03-15", "--years-back", "1")
    workspace.database_url = owner
    kept = run(workspace, section("Backup"))

    assert "securities_writer may write, securities_reader may read what postgres owns" in made
    assert night.code == 0, night
    assert kept.count("1 securities, 30 bars") == 2
    workspace.database_url = owner.replace("postgres:@", "analyst@")
    assert workspace.query("SELECT count(*) FROM ohlcv") == [30]


def test_the_url_may_stand_in_a_file_as_told(workspace: Workspace) -> None:
    editor = workspace.folder / "editor"
    editor.write_text(f'#!/bin/sh\necho "{workspace.database_url}" > "$1"\n')
    editor.chmod(0o755)
    workspace.environment |= {"DATABASE_URL": "", "EDITOR": str(editor)}

    assert run(workspace, section("Secrets")).startswith("PostgreSQL: answers at postgresql://postgres:***@")


def test_every_command_on_the_page_is_one() -> None:
    named = set(re.findall(r"\./run\.sh (\w+)", PAGE))
    known = (REPOSITORY / "run.sh").read_text()

    for name in named:
        assert re.search(rf"^(?:\w+ \| )*{name}(?: \| \w+)*\)$", known, flags=re.MULTILINE), name
    assert {"up", "down", "psql", "roles", "migrate", "backup", "restore"} <= named


@pytest.mark.parametrize("setting", ["allow_public", "scheduler_host"])
def test_the_settings_on_the_page_are_in_luigi_cfg(setting: str) -> None:
    assert f"{setting} = " in (REPOSITORY / "luigi.cfg").read_text()
