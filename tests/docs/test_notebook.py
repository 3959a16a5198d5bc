"""The notebook goes from an empty folder to a chart."""

from __future__ import annotations

import configparser

import nbformat
from nbclient import NotebookClient

from tests.workspace import REPOSITORY, Workspace

NOTEBOOK = REPOSITORY / "docs/fresh-store-to-chart.ipynb"


def test_the_notebook_ends_in_a_chart_of_what_it_stored(workspace: Workspace) -> None:
    demo = configparser.ConfigParser()
    demo.read(REPOSITORY / "config/demo.cfg")
    for name, values in demo.items():
        if name != "DEFAULT":
            workspace.set(name, **values)
    notebook = nbformat.read(NOTEBOOK, as_version=4)

    NotebookClient(notebook, timeout=200, resources={"metadata": {"path": NOTEBOOK.parent}}).execute(
        env=workspace.env()
    )

    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert "All 3 tickers are stored" in str(cells[2].outputs)
    assert "2010-08-20" in str(cells[3].outputs)
    assert [list(output.data) for output in cells[-1].outputs] == [["text/plain", "image/png"]]
    assert workspace.query("SELECT ticker FROM coverage WHERE bars > 200 ORDER BY 1") == ["AAPL", "IBM", "XOM"]


def test_the_notebook_is_kept_without_results() -> None:
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
