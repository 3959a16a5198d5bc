"""What is said alike in several places."""

from __future__ import annotations

import pytest

from luigi_tasks.words import duration


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (539, "8 min 59 s"),
        (3599.6, "1 h"),
        (3659, "1 h"),
        (7500, "2 h 5 min"),
        (90000, "25 h"),
    ],
)
def test_a_duration_is_told_in_the_two_largest_units(seconds: float, told: str) -> None:
    assert duration(seconds) == told
