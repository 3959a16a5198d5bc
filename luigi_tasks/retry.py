"""Trying again, in one way everywhere: exponential back-off with jitter, for transient failures only."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import tenacity

from luigi_tasks.errors import TransientError

logger = logging.getLogger(__name__)
Result = TypeVar("Result")


def call(function: Callable[[], Result], *, attempts: int, first_wait: float, longest_wait: float) -> Result:
    """What `function()` returns, called up to `attempts` times while it raises a TransientError.

    Waits are drawn from a half of `first_wait` to all of it, then from twice that, and so on up to `longest_wait`
    (seconds): "equal jitter", so that many processes that failed together do not come back together, and none of them
    has used up its attempts before a server is there again. The last error is raised as it is; any other error at once.
    """

    def say(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        pause = state.next_action.sleep if state.next_action else 0.0
        logger.info("attempt %d of %d failed (%s); next in %.1f s", state.attempt_number, attempts, error, pause)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(TransientError),
        stop=tenacity.stop_after_attempt(attempts),
        wait=tenacity.wait_exponential(multiplier=first_wait / 2, max=longest_wait / 2)
        + tenacity.wait_random_exponential(multiplier=first_wait / 2, max=longest_wait / 2),
        before_sleep=say,
        reraise=True,
    )
    return retrying(function)
