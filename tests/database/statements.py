"""Counts what is sent to the database."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from luigi_tasks.database.engine import engine_for


def statements(url: str, call: Callable[[], object]) -> int:
    """How many statements the call sends."""
    sent: list[object] = []

    def note(*arguments: object) -> None:
        sent.append(arguments)

    sa.event.listen(engine_for(url), "before_cursor_execute", note)
    try:
        call()
    finally:
        sa.event.remove(engine_for(url), "before_cursor_execute", note)
    return len(sent)
