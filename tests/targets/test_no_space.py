"""A disk that is full, a folder that cannot be, and files of others: a target is whole or not there."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from luigi_tasks.errors import StoreUnwritable
from luigi_tasks.targets.files import FileTarget, JsonTarget, ParquetTarget
from tests.conftest import make_bars

BARS = make_bars(days=2000)
KINDS: dict[str, tuple[type[FileTarget], Any, Any]] = {
    "AAA.parquet": (ParquetTarget, make_bars(days=3), BARS),
    "AAA.json": (JsonTarget, ["old"], ["new" * 20_000]),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def target_of(kind: str, folder: Path) -> Any:
    return KINDS[kind][0](folder / kind)


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """The kernel ends every write of this process at `size` bytes, as it does on a disk with no more room."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def same(found: Any, wanted: Any) -> bool:
    return bool(found.equals(wanted) if isinstance(wanted, pd.DataFrame) else found == wanted)


def test_a_first_write_that_ends_half_way_leaves_nothing(tmp_path: Path, kind: str) -> None:
    target = target_of(kind, tmp_path)

    with no_file_longer_than(20_000), pytest.raises(StoreUnwritable, match=rf"{kind}: cannot be written \(.+\)"):
        target.write(KINDS[kind][2])

    assert not target.exists()
    assert left(tmp_path) == []


def test_a_later_write_that_ends_half_way_leaves_what_was_there(tmp_path: Path, kind: str) -> None:
    target, (_, old, new) = target_of(kind, tmp_path), KINDS[kind]
    target.write(old)

    with no_file_longer_than(20_000), pytest.raises(StoreUnwritable):
        target.write(new)

    assert same(target.read(), old)
    assert left(tmp_path) == [kind]


def test_once_there_is_room_the_same_write_works(tmp_path: Path, kind: str) -> None:
    target, (_, _, new) = target_of(kind, tmp_path), KINDS[kind]
    with no_file_longer_than(20_000), pytest.raises(StoreUnwritable):
        target.write(new)

    target.write(new)

    assert same(target.read(), new)


class OnAFullDevice(FileTarget):
    """Writes into /dev/full, which takes no byte, as if it were its part."""

    def write(self) -> None:
        def fill(part: Path) -> None:
            part.symlink_to("/dev/full")
            part.write_text("no room for this")

        self._write(fill)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_named_as_such(tmp_path: Path) -> None:
    target = OnAFullDevice(tmp_path / "AAA")

    with pytest.raises(StoreUnwritable, match=r"AAA: cannot be written \(No space left on device\)\. Check disk space"):
        target.write()

    assert not target.exists()
    assert left(tmp_path) == []


@pytest.mark.parametrize("folder", ["/proc/nowhere", "/dev/null/folder"])
def test_a_folder_that_cannot_be_made_is_named(kind: str, folder: str) -> None:
    with pytest.raises(StoreUnwritable, match=f"^{folder}/{kind}: cannot be written"):
        target_of(kind, Path(folder)).write(KINDS[kind][1])


def test_a_folder_in_the_place_of_the_file_is_no_target_and_stays(tmp_path: Path, kind: str) -> None:
    (tmp_path / kind / "inside").mkdir(parents=True)
    target = target_of(kind, tmp_path)

    assert not target.exists()
    with pytest.raises(StoreUnwritable):
        target.write(KINDS[kind][1])
    assert (tmp_path / kind / "inside").is_dir()
    assert left(tmp_path) == []


def test_an_error_of_ones_own_leaves_no_part_and_is_raised_as_it_is(tmp_path: Path) -> None:
    target = JsonTarget(tmp_path / "AAA.json")
    target.write("old")

    for bad, kind in ((float("nan"), ValueError), (object(), TypeError)):
        with pytest.raises(kind):
            target.write([bad])

    assert target.read() == "old"
    assert left(tmp_path) == ["AAA.json"]


@pytest.mark.parametrize(
    "name", [".DS_Store", ".nfs00000000012e4a5c00000001", "notes", "a.b", "AAA.json.elsewhere.12x"]
)
def test_a_file_that_somebody_else_put_among_the_parts_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / ".parts").mkdir()
    (tmp_path / ".parts" / name).write_text("not ours")
    target = JsonTarget(tmp_path / "AAA.json")

    target.write("x")

    assert target.read() == "x"
    assert left(tmp_path) == sorted([f".parts/{name}", "AAA.json"])


def test_a_part_of_a_living_process_and_of_another_machine_is_left_alone(tmp_path: Path) -> None:
    parts = tmp_path / ".parts"
    target = JsonTarget(tmp_path / "AAA.json")
    seen: list[str] = []

    def remember(part: Path) -> None:
        part.write_text("1")
        seen.append(part.name)

    target._write(remember)
    _, host, process = seen[0].rsplit(".", 2)
    assert int(process) == os.getpid()
    others = [parts / f"BBB.json.{host}.{os.getppid()}", parts / f"BBB.json.not-{host}.999999999"]
    dead = parts / f"BBB.json.{host}.999999999"
    for path in (*others, dead):
        path.write_text("half")

    target.write("x")

    assert sorted(parts.iterdir()) == sorted(others)


def test_whoever_reads_the_folder_as_a_table_sees_no_half_written_part(tmp_path: Path) -> None:
    folder = tmp_path / "as_of=2024-01-01"
    seen: list[int] = []

    class Slow(FileTarget):
        def write(self) -> None:
            self._write(self._slowly)

        def _slowly(self, part: Path) -> None:
            part.write_bytes(b"PAR1 half")
            seen.append(pq.read_table(tmp_path).num_rows)

    ParquetTarget(folder / "AAA.parquet").write(make_bars(days=5))

    Slow(folder / "BBB.parquet").write()

    assert seen == [5]


@pytest.mark.parametrize(
    "frame",
    [
        make_bars(days=1),
        make_bars(days=0),
        make_bars(days=3).assign(open=[float("inf"), float("-inf"), float("nan")]),
        make_bars(days=3).assign(low=[5e-324, 1.7976931348623157e308, 0.1 + 0.2]),
        make_bars(days=2).assign(volume=[2**53 + 1, 2**63 - 1]),
        make_bars(days=2).assign(volume=[float("nan"), 1.0]),
    ],
    ids=["one bar", "none", "not finite", "awkward", "large volumes", "an unknown volume"],
)
def test_awkward_bars_come_back_bit_for_bit(tmp_path: Path, frame: pd.DataFrame) -> None:
    target = ParquetTarget(tmp_path / "AAA.parquet")

    target.write(frame)

    pd.testing.assert_frame_equal(target.read(), frame, check_exact=True)
    assert target.rows() == len(frame)


def test_more_columns_are_kept_in_the_file(tmp_path: Path) -> None:
    frame = make_bars(days=2).assign(rules=["a", "b; c"], n=[1, 2])
    target = ParquetTarget(tmp_path / "AAA.parquet")

    target.write(frame)

    pd.testing.assert_frame_equal(target.read(), frame, check_exact=True)
    assert pd.read_parquet(target.path)[["rules", "n"]].to_dict("list") == {"rules": ["a", "b; c"], "n": [1, 2]}


@pytest.mark.parametrize("text", ["", "{", "ü", '{"a": 1'])
def test_a_document_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "AAA.json").write_text(text, encoding="utf-8")

    with pytest.raises(StoreUnwritable, match=r"AAA\.json: cannot be read .*Delete it and run again"):
        JsonTarget(tmp_path / "AAA.json").read()


def test_a_target_that_is_not_there_cannot_be_read(tmp_path: Path, kind: str) -> None:
    target = target_of(kind, tmp_path)

    assert not target.exists()
    with pytest.raises(StoreUnwritable, match=kind):
        target.read()
