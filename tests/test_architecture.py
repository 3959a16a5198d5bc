"""The plan of the house: who may import whom, and what is loaded before there is work."""

from __future__ import annotations

import subprocess
import sys

from tests.workspace import BIN, REPOSITORY


def test_arrows_run_one_way() -> None:
    lint = subprocess.run([str(BIN / "lint-imports"), "--no-cache"], cwd=REPOSITORY, capture_output=True, text=True)

    assert lint.returncode == 0, lint.stdout + lint.stderr


def test_nothing_heavy_is_loaded_until_there_is_work() -> None:
    heavy = ("great_expectations", "yfinance", "pandas", "pyarrow", "curl_cffi", "alembic", "jinja2")
    program = f"import sys, luigi_tasks; print([name for name in {heavy!r} if name in sys.modules])"

    loaded = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)

    assert loaded.stdout.strip() == "[]"


def test_the_two_classes_stand_at_the_top() -> None:
    program = "from luigi_tasks import YfinanceClient, YfinancePipeline; YfinancePipeline(); print('ok')"

    made = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)

    assert made.stdout.strip() == "ok", made.stderr
