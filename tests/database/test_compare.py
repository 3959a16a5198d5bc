"""`./run.sh compare`: files of each layout against what is stored, and what is said where nothing can be compared."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from luigi_tasks import YfinanceClient
from luigi_tasks.bars import PRICES
from tests.conftest import make_bars, with_dividend, with_split
from tests.workspace import Workspace

TICKERS = ("AAA", "BBB", "CCC", "DDD", "EEE", "FFF", "GGG", "BRK-B")


def history(ticker: str) -> pd.DataFrame:
    made = make_bars(days=200, seed=TICKERS.index(ticker))
    made = made.assign(adj_close=made["close"])
    return with_dividend(with_split(made, "2023-11-15", 4.0), "2023-12-20", 0.6)


@pytest.fixture
def filled(workspace: Workspace, emptied_url: str) -> Workspace:
    """Tickers with a split and a dividend, stored."""
    workspace.database_url = emptied_url
    client = YfinanceClient(emptied_url)
    for number, ticker in enumerate(TICKERS):
        client.insert_security(ticker, ["odd" if number % 2 else "even", "all"])
        client.insert_ohlcv(ticker, history(ticker))
    return workspace


def yahoo(folder: Path, ticker: str, frame: pd.DataFrame) -> None:
    names = {name: name.replace("_", " ").title() for name in frame.columns}
    frame.drop(columns=["capital_gains", "dividend_currency"]).rename(columns=names).to_csv(
        folder / f"{ticker}.csv", index=False
    )


def stooq(folder: Path, ticker: str, frame: pd.DataFrame) -> None:
    share = frame["adj_close"] / frame["close"]
    table = pd.DataFrame({"<TICKER>": f"{ticker}.US", "<PER>": "D", "<DATE>": frame["date"].dt.strftime("%Y%m%d")})
    table["<TIME>"] = "000000"
    for name in PRICES:
        table[f"<{name.upper()}>"] = (frame[name] * share).round(4)
    table.assign(**{"<VOL>": frame["volume"] / share, "<OPENINT>": 0}).to_csv(
        folder / f"{ticker.lower()}.us.txt", index=False
    )


def kaggle(folder: Path, ticker: str, frame: pd.DataFrame) -> None:
    path = folder.parent / "all_stocks.csv"
    table = frame[["date", *PRICES, "volume"]].assign(Name=ticker)
    table.to_csv(path, mode="a", index=False, header=not path.exists())


LAYOUTS: dict[str, Callable[[Path, str, pd.DataFrame], None]] = {"yahoo": yahoo, "stooq": stooq, "kaggle": kaggle}


def written(workspace: Workspace, layout: str, **changed: pd.DataFrame) -> Path:
    """All tickers' bars as files of that layout, with some of them changed."""
    folder = workspace.folder / "vendor"
    folder.mkdir()
    for ticker in TICKERS:
        LAYOUTS[layout](folder, ticker, changed.get(ticker, history(ticker)))
    return workspace.folder / "all_stocks.csv" if layout == "kaggle" else folder


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert not done.stderr, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(("layout", "way"), [("yahoo", "splits"), ("stooq", "dividends"), ("kaggle", "splits")])
def test_files_that_agree_are_quiet_however_they_are_adjusted(filled: Workspace, layout: str, way: str) -> None:
    path = str(written(filled, layout))

    done = filled.command("compare", path, "--volume-tolerance", "0.01")

    assert done.returncode == 0, done
    lines = done.stdout.splitlines()
    assert lines[0] == "8 tickers, 1,600 bars, 2023-06-12 to 2024-03-15: 8 agree, 0 disagree"
    told = {"splits": "for splits on", "dividends": "for splits and dividends on"}[way]
    assert f"prices adjusted {told} both sides; found out" in lines[1]
    assert len(lines) == 2


def planted() -> dict[str, pd.DataFrame]:
    unit, unsplit, value = history("AAA"), history("BBB"), history("FFF")
    unit.loc[20:39, list(PRICES)] *= 100
    before = unsplit["date"] < "2023-11-15"
    for name in PRICES:
        unsplit.loc[before, name] *= 4
    undivided = history("CCC")
    share = undivided["adj_close"] / undivided["close"]
    undivided = undivided.assign(**{name: undivided[name] * share for name in PRICES})
    shifted = history("DDD")
    names = [*PRICES, "volume"]
    shifted.loc[10:29, names] = shifted[names].shift(1).loc[10:29]
    missing = history("EEE").drop(index=[60, 61, 62])
    value.loc[77, "close"] *= 1.002
    return {"AAA": unit, "BBB": unsplit, "CCC": undivided, "DDD": shifted, "EEE": missing, "FFF": value}


KINDS = {
    "AAA": {"unit": 20},
    "BBB": {"split": 112},
    "CCC": {"dividend": 137},
    "DDD": {"shifted day": 20},
    "EEE": {"missing": 3},
    "FFF": {"value": 1},
}


@pytest.mark.parametrize("layout", ["yahoo", "kaggle"])
def test_each_kind_is_named_where_it_is(filled: Workspace, layout: str) -> None:
    path = str(written(filled, layout, **planted()))

    done = filled.command("compare", path, "--json")
    shown = filled.command("compare", path, "--limit", "3")

    assert (done.returncode, shown.returncode) == (1, 1), done
    found = answer(done)
    assert {each["ticker"]: each["kinds"] for each in found["compared"] if each["kinds"]} == KINDS
    assert found["kinds"] == {
        kind: {"tickers": 1, "bars": bars} for each in KINDS.values() for kind, bars in each.items()
    }
    unit = found["compared"][0]["disagreements"][0]
    assert unit["factor"] == pytest.approx(100)
    assert unit["words"] == "files = 100 × stored: another unit"
    (split,) = (each["disagreements"][0] for each in found["compared"] if each["ticker"] == "BBB")
    assert "a split of 2023-11-15 by 4, on record" in split["words"]
    text = shown.stdout
    order = [line.split("  ")[0] for line in text.splitlines()[4:10]]
    assert order == ["unit", "split", "shifted day", "dividend", "missing", "value"]
    assert "... and 3 rows more: --limit 0 shows all" in text
    assert "FFF" not in text.partition("\nticker")[2]


def test_tickers_that_one_side_alone_has_are_named_and_count_if_they_were_asked_for(filled: Workspace) -> None:
    path = written(filled, "yahoo")
    (path / "FFF.csv").unlink()
    yahoo(path, "ZZZ", history("AAA"))
    (path / "BRK-B.csv").rename(path / "BRK.B.csv")

    every = filled.command("compare", str(path), "--json")
    group = filled.command("compare", str(path), "--groupings", "odd")
    some = filled.command("compare", str(path), "--tickers", "aaa, ZZZ,NOPE", "--json")
    meant = filled.command("compare", str(path), "--tickers", "AAA,brk.b")

    found = answer(every)
    assert (found["only_stored"], found["only_in_files"], found["neither"]) == (["FFF"], ["ZZZ"], [])
    assert every.returncode == 0
    assert [(each["ticker"], each["in_files"]) for each in found["compared"]][2] == ("BRK-B", "BRK.B")
    assert group.returncode == 1
    assert "  only stored, 1 ticker: FFF" in group.stdout
    assert some.returncode == 1
    found = answer(some)
    assert [each["ticker"] for each in found["compared"]] == ["AAA"]
    assert (found["only_stored"], found["only_in_files"], found["neither"]) == ([], ["ZZZ"], ["NOPE"])
    assert found["meant"] == {}
    assert "  BRK.B: did you mean BRK-B?" in meant.stdout


def test_a_file_that_cannot_be_used_is_named_and_the_others_are_compared(filled: Workspace) -> None:
    path = written(filled, "stooq")
    (path / "aaa.us.txt").write_text("")
    (path / "bbb.us.txt").write_text("when,what\n1,2\n")
    twice = (path / "ccc.us.txt").read_text().splitlines()
    (path / "ccc.us.txt").write_text("\n".join([*twice, twice[-1]]) + "\n")
    (path / "ddd.us.txt").write_text(twice[0] + "\n")
    (path / "eee.us.txt").write_bytes(b"\xff\xfe\x00\x01" * 50)

    done = filled.command("compare", str(path))

    assert done.returncode == 1
    assert done.stderr == ""
    assert "3 tickers, 600 bars" in done.stdout
    for ticker, words in {
        "AAA": "cannot be read",
        "BBB": "has no column for date, open",
        "CCC": "has several rows of one day, such as 2024-03-15",
        "DDD": "has no bars",
        "EEE": "cannot be read",
    }.items():
        (line,) = [line for line in done.stdout.splitlines() if f"file cannot be used: {ticker}:" in line]
        assert words in line, line


def test_days_and_ways_can_be_asked_for(filled: Workspace) -> None:
    path = str(written(filled, "stooq", **planted()))

    later = filled.command("compare", path, "--start", "2023-12-20", "--tickers", "AAA,BBB,CCC,DDD")
    splits = answer(filled.command("compare", path, "--adjusted", "splits", "--tickers", "GGG", "--json"))
    traded = answer(filled.command("compare", path, "--adjusted", "no", "--tickers", "GGG", "--json"))

    # By the tickers that were not asked for, too, these files are adjusted for dividends.
    assert later.returncode == 0, later
    assert "splits and dividends on both sides; found out" in later.stdout
    assert splits["kinds"] == {"dividend": {"tickers": 1, "bars": 137}}
    assert set(traded["kinds"]) == {"split", "dividend"} or set(traded["kinds"]) == {"split"}


@pytest.mark.parametrize(
    ("prepare", "arguments", "words"),
    [
        ("nowhere", [], "there is no such file or folder"),
        ("empty", [], "holds no .csv, .txt, .parquet file"),
        ("unknown", [], "has no column for date, open, high, low, close, volume (it has a, b)"),
        ("long", [], "has no column for date, open, high, low, close, volume, ticker (it has a, b)"),
        ("others", [], "the files and the store have no ticker in common"),
        ("fine", ["--tickers", "NOPE"], "the files and the store have no ticker in common"),
        ("fine", ["--groupings", "nobody"], "no run has listed a ticker in them"),
        ("fine", ["--start", "2031-01-01"], "no session in common: AAA: stored none"),
        ("fine", ["--start", "yesterday"], "is not a day"),
        ("fine", ["--start", "2024-02-01", "--end", "2024-01-01"], "is after end"),
        ("fine", ["--tickers", "AAA", "--groupings", "odd"], "are both given"),
    ],
)
def test_where_nothing_can_be_compared_one_line_says_why(
    filled: Workspace, prepare: str, arguments: list[str], words: str
) -> None:
    path = filled.folder / "vendor"
    if prepare == "fine":
        written(filled, "yahoo")
    elif prepare == "long":
        path.write_text("a,b\n1,2\n")
    elif prepare != "nowhere":
        path.mkdir()
    if prepare == "unknown":
        (path / "AAA.csv").write_text("a,b\n1,2\n")
    if prepare == "others":
        yahoo(path, "ZZZ", history("AAA"))

    done = filled.command("compare", str(path), *arguments)

    assert done.returncode == 3, done
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_without_a_database_one_line_says_so(workspace: Workspace) -> None:
    workspace.database_url = "postgresql://nobody@127.0.0.1:1/none"
    (workspace.folder / "vendor").mkdir()
    yahoo(workspace.folder / "vendor", "AAA", history("AAA"))

    done = workspace.command("compare", str(workspace.folder / "vendor"))

    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
