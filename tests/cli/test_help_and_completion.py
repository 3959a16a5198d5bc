"""Help with examples that are right, and completion in a real shell."""

from __future__ import annotations

import os
import re
import shutil
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
    examples = re.findall(r"\./run\.sh (.*?)(?:$| >>)", f"{command.help}\n{command.epilog or ''}", re.M)
    assert examples, path
    for example in examples:
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


# Each says what it would offer for the words given to it, after the program's output has been read.
SHELLS = {
    "bash": """
        words=("$@"); COMP_WORDS=("${words[@]}"); COMP_CWORD=$((${#words[@]} - 1))
        _runsh_completion ./run.sh; printf '%s\\n' "${COMPREPLY[@]}"
    """,
    # Its own functions for completion work only where somebody types.
    "zsh": """
        compadd() { print -rl -- $completions }
        _describe() { print -rl -- ${completions_with_descriptions%%:*} }
        words=("$@"); CURRENT=${#words}
        _runsh_completion
    """,
    "fish": 'complete -C (string join -- " " $argv)',
}
SOURCE = {
    "bash": 'source <(echo "$SOURCE")',
    "zsh": 'compdef() { registered=$2 }; eval "$SOURCE"; [[ $registered = run.sh ]]',
    "fish": "echo $SOURCE | source",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_commands_options_and_kinds(tmp_path: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} is installed")
    (tmp_path / "run.sh").write_text(f'#!/bin/sh\ncd {REPOSITORY} && exec {BIN}/python -m luigi_tasks.cli "$@"\n')
    (tmp_path / "run.sh").chmod(0o755)
    program = [str(BIN / "python"), "-m", "luigi_tasks.cli", "completion", shell]
    source = subprocess.run(program, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    script = f"{SOURCE[shell]}\n{SHELLS[shell]}"

    def completed(*words: str) -> list[str]:
        given = ["./run.sh", *words]
        asked = [shell, "-c", script, *([] if shell == "fish" else [shell]), *given]
        environment = os.environ | {"SOURCE": source}
        done = subprocess.run(asked, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.stderr == ""
        return [line.partition("\t")[0] for line in done.stdout.split("\n") if line]

    assert completed("sta") == ["status"]
    assert set(completed("tickers", "")) == {"list", "add", "remove"}
    assert completed("check", "--off") == ["--offline"]
    assert completed("retry", "--kind", "thr") == ["throttled"]
    assert completed("acc") == ["accept"]
    assert completed("accept", "AAA", "--no") == ["--no-run"]
