"""The pages under docs/reference/ are what the code says."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.workspace import REPOSITORY


def test_the_reference_is_what_the_code_says() -> None:
    # With the settings of luigi.cfg alone.
    env = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "LUIGI_CONFIG_PATH")}
    command = [sys.executable, "-m", "docs.generate", "--check"]

    check = subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=60)

    assert check.returncode == 0, check.stderr
