"""Values in files: dates, numbers, units, and what cannot be read at all."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from luigi_tasks.errors import InvalidData, SourceUnreachable
from luigi_tasks.market.files import FileSource
from tests.conftest import make_bars

ALL = (dt.date(1900, 1, 1), dt.date(2100, 1, 1))
HEADER = "Date,Open,High,Low,Close,Volume\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "prices"
    made.mkdir()
    return made


def read(folder: Path, ticker: str = "A", volume_unit: float = 1.0) -> pd.DataFrame:
    source = FileSource(folder, scratch=folder.parent / "scratch", volume_unit=volume_unit)
    source.check()
    found = source.bars(ticker, *ALL)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "written",
    [
        "2024-01-02",
        "2024-01-02 00:00:00",
        "2024-01-02 23:30:00-05:00",
        "2024-01-02T00:30:00+09:00",
        "20240102",
        " 2024-01-02",
    ],
)
def test_the_session_is_the_day_as_written(folder: Path, written: str) -> None:
    (folder / "A.csv").write_text(f"{HEADER}{written},1,1,1,1,1\n")

    assert read(folder)["date"].tolist() == [pd.Timestamp("2024-01-02")]


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo", "UTC"])
def test_the_session_of_a_time_with_a_zone_is_the_day_in_that_zone(folder: Path, zone: str) -> None:
    frame = make_bars(days=3)
    late = frame["date"].dt.tz_localize(zone) + pd.Timedelta("23h")
    frame.assign(date=late).to_parquet(folder / "A.parquet")

    assert read(folder)["date"].tolist() == frame["date"].tolist()


def test_rows_are_oldest_first_whatever_the_file_has(folder: Path) -> None:
    make_bars().iloc[::-1].to_csv(folder / "A.csv", index=False)

    pd.testing.assert_frame_equal(read(folder), make_bars(), check_exact=True)


def test_two_rows_of_one_day_are_both_there_to_be_judged(folder: Path) -> None:
    (folder / "A.csv").write_text(HEADER + "2024-01-02,1,1,1,1,1\n" * 2)

    assert len(read(folder)) == 2


def test_an_empty_field_is_not_known_and_an_empty_action_is_none(folder: Path) -> None:
    header = HEADER.replace("Volume", "Volume,Adj Close,Dividends,Stock Splits")
    (folder / "A.csv").write_text(f"{header}2024-01-02,,1,1,1,,,,\n2024-01-03,1,1,1,1,5,1,0.5,2\n")

    found = read(folder)

    assert found[["open", "volume", "adj_close"]].isna().to_numpy().tolist() == [[True] * 3, [False] * 3]
    assert found[["dividends", "stock_splits"]].to_numpy().tolist() == [[0, 0], [0.5, 2]]


@pytest.mark.parametrize("column", range(6))
@pytest.mark.parametrize("value", ["x", "-", '"1,000"', "07/02/2018", "#N/A"])
def test_a_value_that_is_no_number_or_date_names_the_ticker(folder: Path, column: int, value: str) -> None:
    fields = ["2024-01-02", "1", "1", "1", "1", "1"]
    fields[column] = value
    (folder / "BRK-B.csv").write_text(f"{HEADER}2024-01-01,1,1,1,1,1\n{','.join(fields)}\n")

    with pytest.raises(InvalidData, match=r"BRK-B: .*no number or date"):
        read(folder, "BRK-B")


def test_what_is_infinite_is_left_for_the_suite_to_judge(folder: Path) -> None:
    (folder / "A.csv").write_text(HEADER + "2024-01-02,1,inf,-inf,1,1\n")

    assert read(folder)[["high", "low"]].to_numpy().tolist() == [[np.inf, -np.inf]]


@pytest.mark.parametrize(
    ("volume", "unit", "shares"),
    [("4.35", 100, 435), ("1.001", 1000, 1001), ("12.345678", 1_000_000, 12_345_678), ("7", 100, 700), ("0", 100, 0)],
)
def test_volumes_in_a_vendors_unit_become_whole_shares(folder: Path, volume: str, unit: float, shares: int) -> None:
    (folder / "A.csv").write_text(f"{HEADER}2024-01-02,1,1,1,1,{volume}\n")

    found = read(folder, volume_unit=unit)["volume"]

    assert found.tolist() == [shares]
    assert found.dtype == "int64"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("A.csv", b""),
        ("A.csv", b"\xff\xfe\x00\x01"),
        ("A.csv", HEADER.encode() + b"2024-01-02,1,1,1,1,1,too,many\n2024-01-02,1\n" + b'"'),
        ("A.txt", b"\n\n\n"),
        ("A.parquet", b""),
        ("A.parquet", b"PAR1 and then nothing PAR1"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)

    with pytest.raises(SourceUnreachable, match=name):
        read(folder)


@pytest.mark.parametrize("missing", ["Date", "Open", "High", "Low", "Close", "Volume"])
def test_a_missing_column_is_named_with_those_that_are_there(folder: Path, missing: str) -> None:
    there = [name for name in HEADER.strip().split(",") if name != missing]
    (folder / "A.csv").write_text(",".join(there) + "\n" + ",".join("1" for _ in there) + "\n")

    with pytest.raises(SourceUnreachable, match=rf"has no column for {missing.lower()} \(it has {', '.join(there)}\)"):
        read(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("company.csv", b"\xff\xfe\x00"),
        ("company.xml", b"<all><one ticker='A'></all>"),
        ("company.xml", b""),
        ("company.csv", b'symbol\n"' + b"A" * 200_000 + b'"\n'),
    ],
)
def test_company_data_that_cannot_be_read_is_named(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    source = FileSource(folder, scratch=folder, metadata_path=folder / name)

    with pytest.raises(SourceUnreachable, match=name):
        source.metadata("A")


def test_company_data_that_is_not_there_is_said_by_the_check(folder: Path) -> None:
    (folder / "A.csv").write_text(HEADER)

    with pytest.raises(SourceUnreachable, match=r"nothing\.csv: is not a file"):
        FileSource(folder, scratch=folder, metadata_path=folder / "nothing.csv").check()


def test_company_data_keeps_every_field_that_has_a_value(folder: Path) -> None:
    (folder / "company.csv").write_text("\ufeffTicker, sector ,note\nNA,Food,\nA,,<b>&\n", encoding="utf-8")
    source = FileSource(folder, scratch=folder, metadata_path=folder / "company.csv")

    assert source.metadata("NA") == {"symbol": "NA", "Ticker": "NA", "sector": "Food"}
    assert source.metadata("A") == {"symbol": "A", "Ticker": "A", "note": "<b>&"}
