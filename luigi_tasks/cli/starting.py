"""How a command starts a run of RunAll for some tickers."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def command(tickers: Sequence[str], options: Mapping[str, Any]) -> list[str]:
    """The program and its arguments; of `options`, by the names of RunAll's parameters, None and False are left out."""
    given = [
        f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
        for name, value in options.items()
        if value is not None and value is not False
    ]
    program = str(Path(sys.executable).with_name("luigi"))
    return [program, "--module", "luigi_tasks", "RunAll", "--workers", "20", "--tickers", ",".join(tickers), *given]
