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

from luigi_tasks.cli import upgrading
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


def wheel(folder: Path, name: str, number: str, *, whole: bool = True) -> None:
    """An empty package; one that is not whole is found, and cannot be installed."""
    about = f"{name}-{number}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{number}-py3-none-any.whl", "w") as made:
        made.writestr(f"{name}.py", "")
        made.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
        made.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        if whole:
            made.writestr(f"{about}/RECORD", "")


INSTALL = """
import sys
from importlib.metadata import version
from luigi_tasks.cli.upgrading import _install
from luigi_tasks.errors import ServiceFailure
try:
    _install(sys.argv[1:])
except ServiceFailure as error:
    print(type(error).__name__)
print(version("aaa"), version("bbb"))
"""


@pytest.mark.parametrize("broken", [None, "aaa", "bbb"])
def test_all_of_it_is_installed_or_nothing_and_the_pins_count_again(tmp_path: Path, broken: str | None) -> None:
    for name in ("aaa", "bbb"):
        wheel(tmp_path, name, "1.0")
        wheel(tmp_path, name, "2.0", whole=name != broken)
    subprocess.run([sys.executable, "-m", "venv", "apart"], cwd=tmp_path, check=True)
    apart, environment = tmp_path / "apart", {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    python = str(apart / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", "aaa==1.0", "bbb==1.0"], env=environment, check=True)
    (apart / ".installed-demo").touch()
    paths = [str(REPOSITORY), *(path for path in sys.path if path.endswith("site-packages"))]
    (next(apart.glob("lib/python*/site-packages")) / "ours.pth").write_text("\n".join(paths))

    done = subprocess.run(
        [python, "-c", INSTALL, "aaa==2.0", "bbb==2.0"], cwd=tmp_path, env=environment, text=True, capture_output=True
    )

    assert done.stdout.splitlines() == (["2.0 2.0"] if broken is None else ["ServiceFailure", "1.0 1.0"]), done
    assert not (apart / ".installed-demo").exists(), "the next ./run.sh looks at constraints.txt"


def test_a_package_without_a_pin_gets_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pins = tmp_path / "constraints.txt"
    pins.write_text("curl-cffi==0.16.3\n    # via yfinance\nyfinance==1.7.0\n")
    monkeypatch.setattr(upgrading, "_PINS", pins)

    upgrading._pin({"yfinance": "1.8.0", "curl_cffi": "0.17.0", "new_one": "3.0"})

    assert pins.read_text() == "curl-cffi==0.17.0\n    # via yfinance\nyfinance==1.8.0\nnew-one==3.0\n"
