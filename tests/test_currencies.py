"""Minor units of currencies, and what they are parts of."""

from __future__ import annotations

import pytest

from luigi_tasks.currencies import MINOR_UNITS, major


@pytest.mark.parametrize(
    ("currency", "whole"),
    [
        ("GBp", "GBP"),
        ("GBX", "GBP"),
        ("ZAc", "ZAR"),
        ("ILA", "ILS"),
        ("USX", "USD"),
        ("GBP", "GBP"),
        ("EUR", "EUR"),
        ("gbp", "gbp"),
        ("", ""),
        (None, None),
    ],
)
def test_a_minor_unit_belongs_to_its_major_one_and_all_else_to_itself(currency: str | None, whole: str | None) -> None:
    assert major(currency) == whole


def test_a_major_unit_is_no_minor_one_and_has_a_hundred_of_them() -> None:
    assert {parts for _, parts in MINOR_UNITS.values()} == {100.0}
    assert not {whole for whole, _ in MINOR_UNITS.values()} & set(MINOR_UNITS)
