"""Files that are there whole or not at all."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path

import pandas as pd
import pytest

from luigi_tasks.errors import StoreUnwritable
from luigi_tasks.targets.files import BarsTarget, JsonTarget, ParquetTarget
from tests.conftest import make_bars


def test_bars_come_back_value_for_value(tmp_path: Path) -> None:
    target = ParquetTarget(tmp_path / "deep" / "AAA.parquet")
    assert not target.exists()

    target.write(make_bars(days=40))

    pd.testing.assert_frame_equal(target.read(), make_bars(days=40), check_exact=True)
    assert target.exists()
    assert target.rows() == 40
    assert list((tmp_path / "deep" / ".parts").iterdir()) == []


def test_bars_that_are_not_fit_are_kept_as_they_are(tmp_path: Path) -> None:
    bad = make_bars(days=3).assign(close=float("nan"), volume=[1.5, float("nan"), 2.0])
    target = ParquetTarget(tmp_path / "AAA.parquet")

    target.write(bad)

    assert target.read()["volume"].tolist()[0] == 1.5
    assert target.read()["close"].isna().all()


def test_quarantined_bars_keep_their_rules(tmp_path: Path) -> None:
    ParquetTarget(tmp_path / "AAA.parquet").write(make_bars(days=2).assign(rules=["a", "b; c"]))

    assert pd.read_parquet(tmp_path / "AAA.parquet")["rules"].tolist() == ["a", "b; c"]


def test_downloaded_bars_are_there_until_there_is_more_to_be_had(tmp_path: Path) -> None:
    ends = dt.datetime(2024, 3, 15, 20, tzinfo=dt.UTC)

    def target(now: dt.datetime) -> BarsTarget:
        return BarsTarget(tmp_path / "AAA.parquet", now)

    frame = make_bars(days=3)
    target(ends).write(frame)
    assert target(ends).exists()

    frame.attrs["security"] = {"unfinished": "2024-03-15", "open_until": ends.isoformat()}
    target(ends).write(frame)
    assert target(ends).exists()
    assert not target(ends + dt.timedelta(seconds=1)).exists()
    assert target(ends).rows() == 3

    target(ends).path.write_bytes(b"PAR1 and no more")
    assert target(ends).exists(), "whoever reads it says what is wrong"


def test_a_document_comes_back(tmp_path: Path) -> None:
    target = JsonTarget(tmp_path / "AAA.json")

    target.write({"a": ["ü", None, 1.5, "\ud800"]})

    assert target.read() == {"a": ["ü", None, 1.5, "\ud800"]}


def test_a_write_that_fails_leaves_the_old_file_and_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = JsonTarget(tmp_path / "AAA.json")
    target.write("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreUnwritable, match=r"AAA.json: cannot be written \(No space left on device\)"):
        target.write("new")

    assert target.read() == "old"
    assert list((tmp_path / ".parts").iterdir()) == []


def test_what_a_killed_process_left_is_no_target_and_is_swept(tmp_path: Path) -> None:
    target = JsonTarget(tmp_path / "AAA.json")
    child = os.fork()
    if child == 0:
        target._write(lambda part: (part.write_text("half"), os._exit(9)))
    os.waitpid(child, 0)
    assert len(list((tmp_path / ".parts").iterdir())) == 1
    assert not target.exists()

    target.write("whole")

    assert target.read() == "whole"
    assert list((tmp_path / ".parts").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreUnwritable, match=r"file/AAA\.json: cannot be written"):
        JsonTarget(tmp_path / "file" / "AAA.json").write(1)


@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "AAA.parquet").write_bytes(content)
    (tmp_path / "AAA.json").write_bytes(content)

    for target in (ParquetTarget(tmp_path / "AAA.parquet"), JsonTarget(tmp_path / "AAA.json")):
        with pytest.raises(StoreUnwritable, match=r"AAA.*cannot be read.*Delete it and run again"):
            target.read()
