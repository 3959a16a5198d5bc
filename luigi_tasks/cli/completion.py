"""`./run.sh completion`: what bash, zsh or fish need to complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

VARIABLE = "_RUN_SH_COMPLETE"
"""run.sh hands over to Python where this is set, as click's scripts do."""

OF_RUN_SH = {
    "demo": "The pipeline over recorded prices, without the network.",
    "test": "All tests.",
    "benchmark": "How fast it is, next to what people do today.",
    "crashes": "Runs that are killed at random moments, and what must hold all the same.",
    "help": "All commands.",
}
"""Commands that run.sh does without this program; here they are only completed."""


class _Zsh(ZshComplete):
    """click's, which would ask a run.sh in PATH; here the one that is on the command line is asked, as in bash."""

    source_template = ZshComplete.source_template.replace("(( ! $+commands[%(prog_name)s] )) && return 1", "").replace(
        "_complete %(prog_name)s)", "_complete ${~words[1]})"
    )


class _Fish(FishComplete):
    """As above."""

    source_template = FishComplete.source_template.replace(
        "(commandline -t) %(prog_name)s)", "(commandline -t) (commandline -opc)[1])"
    )


_SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": _Zsh, "fish": _Fish}


@click.command(epilog="Example: ./run.sh completion bash >> ~/.bashrc")
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes a shell complete ./run.sh."""
    click.echo(_SHELLS[shell](context.find_root().command, {}, "run.sh", VARIABLE).source())


def stubs() -> list[click.Command]:
    """One for each command of run.sh's own."""
    return [click.Command(name, help=words, callback=lambda: None) for name, words in OF_RUN_SH.items()]
