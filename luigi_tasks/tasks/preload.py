"""The heavy libraries, imported in Luigi's parent once there is work: each forked child then has them for nothing."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable

_done: list[bool] = []


def once(calendars: Callable[[], Iterable[str]]) -> None:
    """Import what tasks will need (some seconds), and set up these exchanges' calendars, the first time it is called.

    No session, no connection may cross the fork.
    """
    if not _done:
        _done.append(True)
        _load(calendars())


def _load(calendars: Iterable[str]) -> None:
    # pandas_compat and pandas' csv reader are what pyarrow and pandas themselves only import on first use.
    import yfinance  # noqa: F401

    from luigi_tasks import pipeline, sessions  # noqa: F401
    from luigi_tasks.database import client  # noqa: F401
    from luigi_tasks.market import files, yahoo  # noqa: F401
    from luigi_tasks.quality import suite

    suite.preload()
    for calendar in calendars:
        sessions.known(calendar)
    # The children share the parent's memory until somebody writes to it, which a collection does.
    gc.collect()
    gc.freeze()
