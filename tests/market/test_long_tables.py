"""One long table of every ticker: which rows are a ticker's, and when the table is read again."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pandas as pd
import pytest

from luigi_tasks.errors import SourceUnreachable
from luigi_tasks.market.files import FileSource
from tests.conftest import make_bars

ALL = (dt.date(1900, 1, 1), dt.date(2100, 1, 1))
HEADER = "Date,Ticker,Open,High,Low,Close,Volume\n"


def table(path: Path, *tickers: str) -> FileSource:
    path.write_text(HEADER + "".join(f"2024-01-02,{ticker},1,1,1,1,{n}\n" for n, ticker in enumerate(tickers, 1)))
    made = FileSource(path, scratch=path.parent / "scratch")
    made.check()
    return made


def volumes(source: FileSource, ticker: str) -> list[int]:
    found = source.bars(ticker, *ALL)
    assert found is not None
    return [int(volume) for volume in found["volume"]]


@pytest.mark.parametrize(
    "tickers",
    [
        ("000001", "600519"),
        ("NA", "NAN"),
        ("NULL", "NONE"),
        ("TRUE", "FALSE"),
        ("1E5", "2E5"),
        ("INF", "0700.HK"),
        ("^GSPC", "M&M.NS"),
    ],
)
def test_a_ticker_is_the_text_in_its_column_whatever_else_it_looks_like(
    tmp_path: Path, tickers: tuple[str, str]
) -> None:
    source = table(tmp_path / "long.csv", *tickers)

    assert [volumes(source, ticker) for ticker in tickers] == [[1], [2]]


@pytest.mark.parametrize("written", ["aapl", " AAPL ", "AAPL.US", "aapl.us"])
def test_a_ticker_is_found_in_the_spellings_in_which_a_file_name_would_be(tmp_path: Path, written: str) -> None:
    assert volumes(table(tmp_path / "long.csv", "MSFT", written), "AAPL") == [2]


def test_a_row_without_a_ticker_is_nobodys(tmp_path: Path) -> None:
    assert volumes(table(tmp_path / "long.csv", "", "AAPL"), "AAPL") == [2]


def test_csv_and_parquet_give_the_same_bars(tmp_path: Path) -> None:
    both = pd.concat([make_bars(seed=1).assign(symbol="AAA"), make_bars(seed=2).assign(symbol="BBB")])
    shuffled = both.sample(frac=1, random_state=1)
    shuffled.to_csv(tmp_path / "long.csv", index=False)
    shuffled.to_parquet(tmp_path / "long.parquet", index=False)

    for name in ("long.csv", "long.parquet"):
        source = FileSource(tmp_path / name, scratch=tmp_path / "scratch")
        source.check()
        for seed, ticker in ((1, "AAA"), (2, "BBB")):
            found = source.bars(ticker, *ALL)
            assert found is not None
            pd.testing.assert_frame_equal(found, make_bars(seed=seed), check_exact=True)


def test_a_table_is_sorted_once_and_then_left_alone(tmp_path: Path) -> None:
    source = table(tmp_path / "long.csv", "AAPL")
    (copy,) = (tmp_path / "scratch").iterdir()
    made = copy.stat()

    FileSource(tmp_path / "long.csv", scratch=tmp_path / "scratch").check()
    volumes(source, "AAPL")

    assert [(entry.name, entry.stat().st_mtime_ns) for entry in (tmp_path / "scratch").iterdir()] == [
        (copy.name, made.st_mtime_ns)
    ]


def test_a_table_changed_to_the_same_length_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    assert volumes(table(path, "AAPL"), "AAPL") == [1]
    before = path.stat()
    path.write_text(path.read_text().replace(",1\n", ",7\n"))
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))

    assert volumes(FileSource(path, scratch=tmp_path / "scratch"), "AAPL") == [7]


def test_a_table_that_lost_a_column_since_is_explained_on_the_next_check(tmp_path: Path) -> None:
    source = table(tmp_path / "long.csv", "AAPL")
    (tmp_path / "long.csv").write_text("Date,Ticker,Open,High,Low\n2024-01-02,AAPL,1,1,1\n")

    with pytest.raises(SourceUnreachable, match="has no column for close, volume"):
        source.check()


def test_no_path_at_all_is_not_the_folder_one_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "constraints.txt").write_text("luigi==3.8.1\n")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(SourceUnreachable, match=r"\[Market\] path"):
        FileSource("", scratch=tmp_path / "scratch").check()
