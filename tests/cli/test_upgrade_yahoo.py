"""`./run.sh upgrade-yahoo` with a yfinance that does not do what is needed: it is told, and what there is stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
import yfinance

from tests.workspace import REPOSITORY

BROKEN = "1.98.0"
PINS = REPOSITORY / "constraints.txt"


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with a later yfinance, whose charts are those of another address."""
    package = Path(yfinance.__file__).parent
    copy = tmp_path / "copy" / "yfinance"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for file in copy.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace("/v8/finance/chart/", "/v9/finance/chart/"), encoding="utf-8")
    folder = tmp_path / "wheels"
    folder.mkdir()
    about = f"yfinance-{BROKEN}.dist-info"
    with zipfile.ZipFile(folder / f"yfinance-{BROKEN}-py3-none-any.whl", "w") as wheel:
        for file in copy.rglob("*"):
            if file.is_file():
                wheel.write(file, file.relative_to(copy.parent))
        wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: yfinance\nVersion: {BROKEN}\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    return folder


def upgrade(wheels: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    command = ["./run.sh", "upgrade-yahoo", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, text=True, capture_output=True, check=False)


def test_a_version_that_asks_elsewhere_is_told_and_nothing_is_changed(wheels: Path) -> None:
    before, pins = version("yfinance"), PINS.read_text()

    done = upgrade(wheels)

    assert done.returncode == 1, done
    assert f"trying yfinance {BROKEN}, in place of yfinance {before}, curl_cffi" in done.stdout
    assert "with it these fail:\n" in done.stderr
    assert "tests/market/test_y" in done.stderr
    assert f"yfinance {before}, curl_cffi {version('curl_cffi')} stays, nothing was changed." in done.stderr
    assert PINS.read_text() == pins
    asked = [sys.executable, "-c", "from importlib.metadata import version; print(version('yfinance'))"]
    assert subprocess.run(asked, text=True, capture_output=True, check=True).stdout.strip() == before


def test_a_version_that_is_not_to_be_had_is_one_line(wheels: Path) -> None:
    done = upgrade(wheels, "--to", "1.97.0")

    assert done.returncode == 1
    assert done.stderr.startswith("error: pip: could not do it (ERROR: ")
    assert "Traceback" not in done.stderr
