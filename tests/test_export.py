"""Exports: whole or not at all, and never over somebody else's files."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pandas as pd
import polars
import pytest

from luigi_tasks import YfinanceClient, export, prices
from luigi_tasks.errors import ConfigurationError, SecurityNotFound, StoreUnwritable
from tests.conftest import make_bars


@pytest.fixture
def url(database_url: str) -> str:
    client = YfinanceClient(database_url)
    for number in range(5):
        client.insert_security(f"T{number}", ["all"])
        client.insert_ohlcv(f"T{number}", make_bars(days=30, seed=number))
        client.insert_metadata(f"T{number}", {"sector": f"S{number}"})
    return database_url


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "_TICKERS", 2)


@pytest.mark.usefixtures("small_files")
def test_duckdb_and_polars_read_what_python_reads(url: str, tmp_path: Path) -> None:
    manifest = export.export(tmp_path / "out", database_url=url)

    every = prices(database_url=url)
    pattern = str(tmp_path / "out" / "prices" / "*.parquet")
    by_duckdb = duckdb.read_parquet(pattern).order("ticker, date").df()
    by_polars = polars.read_parquet(pattern).to_pandas()
    for found in (by_duckdb, by_polars):
        assert list(found.columns) == list(every.columns)
        assert found["close"].tolist() == every["close"].tolist()
        assert pd.to_datetime(found["date"]).tolist() == every["date"].tolist()
        assert found["ticker"].tolist() == every["ticker"].tolist()
    assert (manifest["bars"], manifest["tickers"]) == (150, 5)
    assert len(list((tmp_path / "out" / "prices").iterdir())) == 3
    assert polars.read_parquet(tmp_path / "out" / "metadata.parquet")["sector"].to_list() == [f"S{n}" for n in range(5)]
    assert polars.read_parquet(tmp_path / "out" / "universe.parquet").height == 5


def test_csv_has_the_same(url: str, tmp_path: Path) -> None:
    export.export(tmp_path / "out", ["T1"], form="csv", adjusted="splits", database_url=url)

    found = pd.read_csv(tmp_path / "out" / "prices" / "00000.csv", float_precision="round_trip")
    assert found["close"].tolist() == prices("T1", adjusted="splits", database_url=url)["close"].tolist()


def test_a_new_export_replaces_the_old_one(url: str, tmp_path: Path) -> None:
    export.export(tmp_path / "out", database_url=url)
    export.export(tmp_path / "out", ["T1"], database_url=url)

    assert json.loads((tmp_path / "out" / "export.json").read_text())["tickers"] == 1
    assert polars.read_parquet(tmp_path / "out" / "prices" / "*.parquet")["ticker"].unique().to_list() == ["T1"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_one_that_fails_leaves_the_old_one_and_nothing_else(url: str, tmp_path: Path) -> None:
    export.export(tmp_path / "out", ["T1"], database_url=url)

    with pytest.raises(SecurityNotFound, match="NOSUCH"):
        export.export(tmp_path / "out", ["T2", "NOSUCH"], database_url=url)

    assert polars.read_parquet(tmp_path / "out" / "prices" / "*.parquet")["ticker"].unique().to_list() == ["T1"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_with_other_files_is_left_alone(url: str, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("dear")

    with pytest.raises(ConfigurationError, match="something else than an export"):
        export.export(tmp_path, database_url=url)

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_place_that_cannot_be_written_is_named(url: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreUnwritable, match="file/out: cannot be written"):
        export.export(tmp_path / "file" / "out", database_url=url)
