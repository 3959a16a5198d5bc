"""Help with examples that are right, and completion in a real shell."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import click
import pytest

from luigi_tasks import cli
from luigi_tasks.cli.completion import OF_RUN_SH
from tests.workspace import BIN, REPOSITORY


def every_command(group: click.Group, *path: str) -> list[tuple[tuple[str, ...], click.Command]]:
    found: list[tuple[tuple[str, ...], click.Command]] = []
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found += every_command(command, *path, name)
        elif name not in OF_RUN_SH:
            found.append(((*path, name), command))
    return found


@pytest.mark.parametrize(("path", "command"), every_command(cli.commands), ids=lambda value: str(value))
def test_help_says_what_a_command_does_and_its_examples_can_be_given(
    path: tuple[str, ...], command: click.Command
) -> None:
    assert command.get_short_help_str()
    context = click.Context(command)
    assert all(option.help for option in command.get_params(context) if isinstance(option, click.Option)), path
    for example in re.findall(r"\./run\.sh (.*?)(?:$| >>)", f"{command.help}\n{command.epilog or ''}", re.M):
        words = example.split()
        assert tuple(words[: len(path)]) == path
        command.make_context(path[-1], words[len(path) :])


def test_every_command_of_run_sh_is_completed_and_in_its_help() -> None:
    script = (REPOSITORY / "run.sh").read_text()
    cases = {name for case in re.findall(r"^([a-z |-]+)\)$", script, re.M) for name in case.split(" | ")}
    names = set(cli.commands.commands)

    assert cases | {"help"} == names
    usage = subprocess.run(["./run.sh", "help"], cwd=REPOSITORY, capture_output=True, text=True).stdout
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", usage)] == []


def test_bash_completes_commands_options_and_kinds(tmp_path: Path) -> None:
    (tmp_path / "run.sh").write_text(f'#!/bin/sh\ncd {REPOSITORY} && exec {BIN}/python -m luigi_tasks.cli "$@"\n')
    (tmp_path / "run.sh").chmod(0o755)
    program = [str(BIN / "python"), "-m", "luigi_tasks.cli", "completion", "bash"]
    source = subprocess.run(program, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout

    def completed(*words: str) -> list[str]:
        line = " ".join(f"'{word}'" for word in words)
        asked = (
            f"{source}\ncd {tmp_path}; COMP_WORDS=(./run.sh {line}); COMP_CWORD={len(words)}\n"
            "_runsh_completion ./run.sh; printf '%s\\n' \"${COMPREPLY[@]}\""
        )
        done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True)
        return done.stdout.split()

    assert completed("sta") == ["status"]
    assert set(completed("tickers", "")) == {"list", "add", "remove"}
    assert completed("check", "--off") == ["--offline"]
    assert completed("retry", "--kind", "thr") == ["throttled"]
