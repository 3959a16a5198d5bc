"""What several commands' options have in common."""

from __future__ import annotations

import click

from luigi_tasks.errors import ConfigurationError
from luigi_tasks.tickers import separated


def names(context: click.Context, parameter: click.Parameter, value: str | None) -> list[str] | None:
    """The names in AAPL,MSFT; None where the option is not given."""
    try:
        return None if value is None else list(separated(value))
    except ConfigurationError as error:
        raise click.BadParameter(f"{error.subject} {error.reason}. {error.remedy}", context, parameter) from None
