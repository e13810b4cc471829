"""The tour notebook runs from top to bottom, and its committed outputs name no machine."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
TOUR = ROOT / "examples" / "tour.ipynb"


def images(notebook) -> list[int]:
    """How many figures each code cell has drawn."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [sum("image/png" in output.get("data", {}) for output in cell.outputs) for cell in cells]


@pytest.mark.slow
def test_the_tour_runs_from_top_to_bottom():
    notebook = nbformat.read(TOUR, as_version=4)
    drawn = images(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = []
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(TOUR.parent)}}).execute()
    assert images(notebook) == drawn
    assert sum(drawn) == 5


def test_the_committed_outputs_name_no_machine():
    text = TOUR.read_text()
    assert "/tmp/" not in text
    assert "/home/" not in text
    assert str(ROOT) not in text
