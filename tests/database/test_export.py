"""Exports: what DuckDB, polars and pandas find in them, and that one is there whole or not at all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from luigi_tasks import YfinanceClient, actions, metadata, prices, universe
from luigi_tasks.database.engine import engine_for
from luigi_tasks.errors import AdjustmentUnknown, ConfigurationError, SecurityNotFound, StoreUnwritable
from luigi_tasks.export import export
from luigi_tasks.reading import COLUMNS as READ
from luigi_tasks.reading import Request
from tests.conftest import make_bars
from tests.workspace import Workspace

COLUMNS = ["ticker", "date", *READ]


@pytest.fixture
def filled(emptied_url: str) -> str:
    """Three tickers with bars of 2022 to 2024, and one with none."""
    client = YfinanceClient(emptied_url)
    for number, ticker in enumerate(("AAA", "BBB", "^CCC", "NONE")):
        client.insert_security(ticker, ["odd" if number % 2 else "even", "all"])
        client.insert_metadata(ticker, {"sector": "Energy", "marketCap": 1e9} if number else {})
        if ticker != "NONE":
            client.insert_ohlcv(ticker, make_bars(days=500, seed=number))
    return emptied_url


def entries(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_duckdb_polars_and_pandas_read_what_the_functions_give(filled: str, tmp_path: Path) -> None:
    folder = tmp_path / "export"

    about = export(folder, Request(), filled)

    years = [f"prices/year={year}/prices.parquet" for year in (2022, 2023, 2024)]
    assert entries(folder) == ["actions.parquet", "export.json", "metadata.parquet", *years, "universe.parquet"]
    expected = prices(database_url=filled)
    ordered = f"SELECT {', '.join(COLUMNS)} FROM '{folder}/prices/*/*.parquet' ORDER BY ticker, date"
    in_duckdb = duckdb.execute(ordered).df().astype(expected.dtypes)
    in_polars = pl.scan_parquet(folder / "prices").select(COLUMNS).sort("ticker", "date").collect()
    pd.testing.assert_frame_equal(in_duckdb, expected, check_exact=True)
    assert in_polars.rows() == [
        (row[0], row[1].date(), *row[2:]) for row in expected.itertuples(index=False, name=None)
    ]
    assert in_polars.schema["date"] == pl.Date
    in_pandas = pd.read_parquet(folder / "metadata.parquet")
    assert in_pandas["ticker"].tolist() == metadata(database_url=filled)["ticker"].tolist()
    listed = pd.read_parquet(folder / "universe.parquet")
    assert listed[["ticker", "grouping"]].values.tolist() == (
        universe(database_url=filled)[["ticker", "grouping"]].values.tolist()
    )
    assert json.loads((folder / "export.json").read_text()) == about
    assert {name: about[name] for name in ("tickers", "bars", "first_session", "last_session", "adjusted")} == {
        "tickers": 4,
        "bars": 1500,
        "first_session": str(expected["date"].min().date()),
        "last_session": "2024-03-15",
        "adjusted": True,
    }
    assert {name: about[name] for name in ("repaired", "final_only", "contradicted", "actions")} == {
        "repaired": False,
        "final_only": False,
        "contradicted": {},
        "actions": 0,
    }


def test_many_tickers_are_written_in_parts_and_in_order(emptied_url: str, tmp_path: Path) -> None:
    with engine_for(emptied_url).begin() as connection:
        connection.execute(sa.text("INSERT INTO securities (ticker) SELECT 'T' || i FROM generate_series(1, 450) AS i"))
        connection.execute(
            sa.text(
                "INSERT INTO ohlcv SELECT security_id, date '2023-12-30' + day, 1, 1, 1, 1, 1, 1, 0, 0, '2024-06-06' "
                "FROM securities, generate_series(0, 3) AS day"
            )
        )

    export(tmp_path / "export", Request(), emptied_url)

    file = pq.ParquetFile(tmp_path / "export/prices/year=2024/prices.parquet")
    assert file.num_row_groups == 3
    assert file.read()["ticker"].to_pylist() == [name for name in sorted(f"T{i}" for i in range(1, 451)) for _ in "12"]


def test_csv_has_the_same_to_the_last_digit(filled: str, tmp_path: Path) -> None:
    request = Request("2023-03-01", "2024-02-29", tickers=["^CCC", "AAA"], adjusted="splits")

    export(tmp_path / "export", request, filled, "csv")

    read = pd.concat(pd.read_csv(path, parse_dates=["date"]) for path in sorted(tmp_path.rglob("prices.csv")))
    read = read.sort_values(["ticker", "date"], ignore_index=True)
    expected = prices(["^CCC", "AAA"], "2023-03-01", "2024-02-29", adjusted="splits", database_url=filled)
    pd.testing.assert_frame_equal(read.astype(expected.dtypes), expected, check_exact=True)
    assert set(pd.read_csv(tmp_path / "export/universe.csv")["ticker"]) == {"^CCC", "AAA"}


CONTRADICTED = """
    INSERT INTO repairs SELECT security_id, '2024-03-14', 'close', '2024-03-15', NULL, 'unit', close, 7, 'as seen'
    FROM securities JOIN ohlcv USING (security_id) WHERE ticker = 'BBB' AND date = '2024-03-14';
    UPDATE ohlcv SET provisional = true, volume = NULL, high = NULL WHERE date = '2024-03-15';
    UPDATE ohlcv SET volume = 9007199254740993, dividends = 2, dividend_currency = 'USD' WHERE date = '2022-12-30';
    INSERT INTO actions_without_bar (security_id, date, as_of, stock_splits)
    SELECT security_id, '2023-01-01', '2024-03-15', 3 FROM securities WHERE ticker = 'AAA';
"""


def test_what_is_not_known_is_null_and_volumes_are_whole_numbers_in_every_file(filled: str, tmp_path: Path) -> None:
    with engine_for(filled).begin() as connection:
        connection.execute(sa.text(CONTRADICTED))

    served = export(tmp_path / "served", Request(adjusted="splits"), filled)
    mended = export(tmp_path / "mended", Request(adjusted="splits", repaired=True, final_only=True), filled)

    read = pq.read_table(tmp_path / "served/prices/year=2024").to_pylist()
    last = [row for row in read if row["ticker"] == "BBB"][-2:]
    assert [row["provisional"] for row in last] == [False, True]
    assert (last[1]["volume"], last[1]["high"]) == (None, None)
    assert last[0]["close"] != 7
    paid = duckdb.execute(
        f"SELECT volume, dividends, typeof(volume) FROM '{tmp_path}/served/prices/*/*.parquet' "
        "WHERE date = '2022-12-30'"
    )
    assert paid.fetchall() == [(9007199254740993, None, "BIGINT")] * 3
    in_files = pd.read_parquet(tmp_path / "served/actions.parquet")
    known = actions(database_url=filled)
    assert in_files.drop(columns="date").astype({"currency": "str"}).equals(known.drop(columns="date"))
    assert in_files["kind"].tolist() == ["dividend", "split", "dividend", "dividend"]
    assert {name: served[name] for name in ("contradicted", "actions", "repaired")} == {
        "contradicted": {"BBB": 1},
        "actions": 4,
        "repaired": False,
    }
    assert (mended["repaired"], mended["final_only"], mended["bars"]) == (True, True, served["bars"] - 3)
    at_last = pq.read_table(tmp_path / "mended/prices/year=2024").to_pylist()
    assert [row["close"] for row in at_last if row["ticker"] == "BBB"][-1] == 7


@pytest.mark.parametrize(
    ("request_of", "error"),
    [({"tickers": ["NOPE"]}, SecurityNotFound), ({"adjusted": True}, AdjustmentUnknown)],
)
def test_an_export_that_fails_leaves_the_last_one_as_it_was(
    filled: str, tmp_path: Path, request_of: dict[str, Any], error: type[Exception]
) -> None:
    folder = tmp_path / "export"
    export(folder, Request(tickers=["AAA"]), filled)
    before = {name: (folder / name).read_bytes() for name in entries(folder)}
    with engine_for(filled).begin() as connection:
        connection.execute(sa.text("UPDATE ohlcv SET adj_close = NULL WHERE date = '2024-03-15'"))

    with pytest.raises(error):
        export(folder, Request(**request_of), filled)

    assert {name: (folder / name).read_bytes() for name in entries(folder)} == before
    assert os.listdir(tmp_path) == ["export"]


def test_what_is_no_export_is_not_replaced(filled: str, tmp_path: Path) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "draft.tex").write_text("important")

    with pytest.raises(ConfigurationError, match="holds something that is no export"):
        export(folder, Request(), filled)
    with pytest.raises(ConfigurationError, match="holds something that is no export"):
        export(folder / "draft.tex", Request(), filled)
    with pytest.raises(StoreUnwritable, match="cannot be written"):
        export(folder / "draft.tex" / "export", Request(), filled)

    assert entries(tmp_path) == ["thesis/draft.tex"]


KILLED = """
import os, signal, sys
from pathlib import Path
from luigi_tasks.export import export
from luigi_tasks.reading import Request

rename = Path.rename
def killed(self, target):
    rename(self, target)
    os.kill(os.getpid(), signal.SIGKILL)
Path.rename = killed
export(Path(sys.argv[1]), Request(tickers=["BBB"]), sys.argv[2])
"""


def test_an_export_killed_between_its_two_renames_loses_nothing(filled: str, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    export(folder, Request(tickers=["AAA"]), filled)
    ended = subprocess.run([sys.executable, "-c", KILLED, str(folder), filled])
    assert ended.returncode == -signal.SIGKILL
    assert not folder.exists()

    with pytest.raises(SecurityNotFound):
        export(folder, Request(tickers=["NOPE"]), filled)

    assert os.listdir(tmp_path) == ["export"]
    assert set(pd.read_parquet(folder / "metadata.parquet")["ticker"]) == {"AAA"}, "the last whole one is back"


def test_the_command_writes_and_says_what_and_where(workspace: Workspace, filled: str) -> None:
    workspace.database_url = filled

    done = workspace.command("export", "--groupings", "odd", "--adjusted", "splits", "--end", "2024-03-01")
    written = set(duckdb.execute(f"SELECT ticker FROM '{workspace.store}/export/prices/*/*.parquet'").df()["ticker"])
    with engine_for(filled).begin() as connection:
        connection.execute(sa.text(CONTRADICTED))
    doubted = workspace.command("export", "--final-only")
    mended = workspace.command("export", "--repaired")
    refused = workspace.command("export", "--tickers", "AAA,NOPE", "--to", str(workspace.folder / "other"))

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("490 bars of 2 tickers, ")
    assert done.stdout.endswith(f"to 2024-03-01: {workspace.store / 'export'}\n")
    assert written == {"BBB"}
    assert done.stderr == mended.stderr == ""
    assert doubted.stderr == ("a value of BBB contradicts what else the source says; --repaired exports them mended\n")
    assert (doubted.stdout[:10], mended.stdout[:10]) == ("1,497 bars", "1,500 bars")
    assert refused.stderr.startswith("error: NOPE: is not registered")
