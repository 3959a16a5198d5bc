"""The heavy libraries, imported in Luigi's parent once there is work: each forked child then has them for nothing."""

from __future__ import annotations

import gc
from importlib import import_module

from luigi_tasks import settings
from luigi_tasks.database import embedded
from luigi_tasks.database.ledger import Ledger
from luigi_tasks.run import lifecycle

_done: list[bool] = []


def once() -> None:
    """Import what tasks will need (some seconds), and set up the exchanges' calendars, the first time it is called.

    Does nothing in a forked child, which needs less than all. No session, no connection may cross the fork.
    """
    if not _done and not lifecycle.is_child():
        _done.append(True)
        _load()


def _load() -> None:
    from luigi_tasks import pipeline, sessions  # noqa: F401
    from luigi_tasks.database import client  # noqa: F401
    from luigi_tasks.quality import suite

    chosen = settings.load()
    # Whoever reads files needs no yfinance.
    import_module(f"luigi_tasks.market.{chosen.source}")
    suite.preload(chosen.suite_file)
    for exchange in _exchanges():
        calendar = sessions.calendar_of(exchange)
        if calendar is not None:
            sessions.known(calendar)
    # The children share the parent's memory until somebody writes to it, which a collection does.
    gc.collect()
    gc.freeze()


def _exchanges() -> list[str]:
    """Those of the securities that are stored; New York's where none are."""
    if settings.load().source != "yahoo":
        return []
    return Ledger(embedded.url(settings.load())).exchanges() or ["NYQ"]
