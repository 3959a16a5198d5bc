"""The expectations that are asked for as one: marked are the very rows that Great Expectations would name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import great_expectations as gx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luigi_tasks.errors import ConfigurationError
from luigi_tasks.quality.suite import judge, suspects, with_signs
from tests.conftest import make_bars
from tests.workspace import REPOSITORY

NUMBERS = st.sampled_from([np.nan, np.inf, -np.inf, -1.0, -0.0, 0.0, 1e-300, 0.5, 1.0, 2.0, 100.0])
COLUMN = st.lists(NUMBERS, min_size=6, max_size=6)
BETWEEN = "expect_column_values_to_be_between"
PAIR = "expect_column_pair_values_a_to_be_greater_than_b"
BOTH = {"column_A": "a", "column_B": "b", "or_equal": True, "ignore_row_if": "either_value_is_missing"}
FORMS: list[tuple[str, dict[str, Any]]] = [
    ("expect_column_values_to_be_null", {"column": "a"}),
    ("expect_column_values_to_not_be_null", {"column": "a"}),
    ("expect_column_values_to_be_unique", {"column": "a"}),
    (BETWEEN, {"column": "a", "min_value": 0}),
    (BETWEEN, {"column": "a", "min_value": 0, "strict_min": True}),
    (BETWEEN, {"column": "a", "max_value": 1.0}),
    (BETWEEN, {"column": "a", "max_value": 1.0, "strict_max": True, "min_value": 0.0}),
    (BETWEEN, {"column": "a", "min_value": -1, "max_value": 100, "strict_min": False, "strict_max": False}),
    (PAIR, BOTH),
]


@pytest.fixture(scope="module")
def definition() -> Any:
    context = gx.get_context(mode="ephemeral")
    asset = context.data_sources.add_pandas("screening").add_dataframe_asset("frames")
    return asset.add_batch_definition_whole_dataframe("all")


@pytest.mark.parametrize(("kind", "kwargs"), FORMS)
@settings(max_examples=15)
@given(columns=st.tuples(COLUMN, COLUMN))
def test_the_marked_rows_are_great_expectations_own(
    definition: Any, kind: str, kwargs: dict[str, Any], columns: tuple[list[float], list[float]]
) -> None:
    frame = pd.DataFrame({"a": columns[0], "b": columns[1]})
    configuration = gx.expectations.expectation_configuration.ExpectationConfiguration(type=kind, kwargs=kwargs)
    batch = definition.get_batch({"dataframe": frame})
    found = batch.validate(configuration.to_domain_obj(), result_format={"result_format": "COMPLETE"})

    marked = suspects(frame, kind, kwargs)

    assert marked is not None
    assert list(np.flatnonzero(marked)) == found.result["unexpected_index_list"]


@pytest.mark.parametrize(
    ("kind", "kwargs"),
    [
        ("expect_column_values_to_be_null", {"column": "nowhere"}),
        ("expect_column_values_to_be_null", {"column": "a", "mostly": 0.5}),
        ("expect_column_values_to_be_unique", {"column": "a", "mostly": 0.5}),
        (BETWEEN, {"column": "a"}),
        (BETWEEN, {"column": "a", "min_value": "0"}),
        (BETWEEN, {"column": "text", "min_value": 0}),
        (PAIR, {**BOTH, "or_equal": False}),
        (PAIR, {**BOTH, "ignore_row_if": "neither"}),
        (PAIR, {**BOTH, "column_B": "text"}),
        (PAIR, {**BOTH, "column_B": "nowhere"}),
        ("expect_table_row_count_to_be_between", {"min_value": 1}),
    ],
)
def test_what_is_of_another_form_is_left_to_great_expectations(kind: str, kwargs: dict[str, Any]) -> None:
    assert suspects(pd.DataFrame({"a": [1.0], "b": [2.0], "text": ["x"]}), kind, kwargs) is None


def test_all_rules_of_the_suite_about_rows_are_asked_for_as_one() -> None:
    frame = with_signs(make_bars())
    suite = json.loads((REPOSITORY / "config/ohlcv_suite.json").read_text())["expectations"]

    apart = [item["type"] for item in suite if suspects(frame, item["type"], item["kwargs"]) is None]

    assert apart == [
        "expect_table_columns_to_match_set",
        "expect_table_row_count_to_be_between",
    ]


def test_an_expectation_without_bounds_is_said_to_be_unusable(tmp_path: Path) -> None:
    suite = tmp_path / "suite.json"
    suite.write_text(json.dumps({"expectations": [{"type": BETWEEN, "kwargs": {"column": "open"}}]}))

    with pytest.raises(ConfigurationError, match=r"suite\.json"):
        judge(make_bars(), "AAA", suite, 0.05)
