"""The heavy libraries, imported in Luigi's parent once there is work: each forked child then has them for nothing."""

from __future__ import annotations

import gc

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
    # pandas_compat and pandas' csv reader are what pyarrow and pandas themselves only import on first use.
    import yfinance  # noqa: F401

    from luigi_tasks import pipeline, sessions  # noqa: F401
    from luigi_tasks.database import client  # noqa: F401
    from luigi_tasks.market import files, yahoo  # noqa: F401
    from luigi_tasks.quality import suite

    suite.preload(settings.load().suite_file)
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
