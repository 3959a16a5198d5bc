"""`./run.sh completion`: what bash, zsh or fish need to complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

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


@click.command(epilog="Example: ./run.sh completion bash >> ~/.bashrc")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes a shell complete ./run.sh."""
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(context.find_root().command, {}, "run.sh", VARIABLE).source())


def stubs() -> list[click.Command]:
    """One for each command of run.sh's own."""
    return [click.Command(name, help=words, callback=lambda: None) for name, words in OF_RUN_SH.items()]
