"""The heavy libraries, imported in Luigi's parent once there is work: each forked child then has them for nothing."""

from __future__ import annotations

import gc
from functools import lru_cache


@lru_cache(maxsize=1)
def once() -> None:
    """Import what tasks will need (some seconds). Imports only: no session, no connection may cross the fork."""
    # pandas_compat and pandas' csv reader are what pyarrow and pandas themselves only import on first use.
    import yfinance  # noqa: F401

    from luigi_tasks import pipeline  # noqa: F401
    from luigi_tasks.database import client  # noqa: F401
    from luigi_tasks.market import files, yahoo  # noqa: F401
    from luigi_tasks.quality import suite

    suite.preload()
    # The children share the parent's memory until somebody writes to it, which a collection does.
    gc.collect()
    gc.freeze()
