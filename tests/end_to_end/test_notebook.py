"""docs/fresh-store-to-chart.ipynb, over a fresh store."""

from __future__ import annotations

import configparser
import os
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.workspace import REPOSITORY, Workspace

NOTEBOOK = REPOSITORY / "docs" / "fresh-store-to-chart.ipynb"


def outputs(cell: Any) -> str:
    return "".join(str(output.get("text", output.get("data"))) for output in cell.outputs)


def test_it_goes_from_a_fresh_store_to_a_chart(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    demo = configparser.ConfigParser()
    demo.read(REPOSITORY / "config" / "demo.cfg")
    workspace.set("Market", **demo["Market"])
    workspace.set("Universe", file=str(REPOSITORY / demo["Universe"]["file"]))
    assert workspace.command("up", "--quiet").returncode == 0
    for name, value in workspace.env().items():
        monkeypatch.setenv(name, value)
    # No notice of its own on a machine that has never seen it.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    notebook: Any = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)

    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(REPOSITORY)}}).execute()

    run, counts, _, _, chart = (cell for cell in notebook.cells if cell.cell_type == "code")
    assert "All 3 tickers are stored as of 2010-08-20." in outputs(run)
    assert "AAPL" in outputs(counts)
    assert any("image/png" in output.get("data", {}) for output in chart.outputs)
