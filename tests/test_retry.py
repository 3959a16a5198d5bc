"""What is tried again, and how often."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from luigi_tasks import retry
from luigi_tasks.errors import NetworkFailure, NoSuchTicker


def failing(times: int, error: Exception) -> tuple[Callable[[], str], list[int]]:
    calls: list[int] = []

    def function() -> str:
        calls.append(1)
        if len(calls) <= times:
            raise error
        return "done"

    return function, calls


def test_what_is_transient_is_tried_again_until_it_works() -> None:
    function, calls = failing(2, NetworkFailure("A", "reset"))

    assert retry.call(function, attempts=3, first_wait=0, longest_wait=0) == "done"
    assert len(calls) == 3


def test_the_last_error_is_raised_after_the_last_attempt() -> None:
    error = NetworkFailure("A", "reset")
    function, calls = failing(9, error)

    with pytest.raises(NetworkFailure) as raised:
        retry.call(function, attempts=3, first_wait=0, longest_wait=0)

    assert raised.value is error
    assert len(calls) == 3


@pytest.mark.parametrize("error", [NoSuchTicker("A", "unknown"), ValueError("a bug")])
def test_what_will_not_change_is_not_tried_again(error: Exception) -> None:
    function, calls = failing(9, error)

    with pytest.raises(type(error)):
        retry.call(function, attempts=3, first_wait=0, longest_wait=0)

    assert len(calls) == 1
