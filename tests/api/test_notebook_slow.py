"""The notebook runs from its first cell to its last, and what it keeps of pictures stays small."""

from __future__ import annotations

from pathlib import Path

import nbclient
import nbformat
import pytest

pytestmark = pytest.mark.slow

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "first_look.ipynb"


@pytest.mark.filterwarnings("ignore::DeprecationWarning:jupyter_client", "ignore::RuntimeWarning:zmq")
def test_the_notebook_runs_and_gives_what_it_shows(tmp_path):
    kept = nbformat.read(NOTEBOOK, as_version=4)
    ran = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(ran, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    kinds = [[sorted(output.get("data", {output.output_type: ""})) for output in cell.get("outputs", [])] for cell in ran.cells]
    assert kinds == [
        [sorted(output.get("data", {output.output_type: ""})) for output in cell.get("outputs", [])] for cell in kept.cells
    ]
    assert sum("image/png" in kind for cell in kinds for kind in cell) == 2
    assert (tmp_path / "example" / "work" / "archive.json").is_file()


def test_what_the_notebook_keeps_is_small_and_of_no_machine():
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text) < 200_000
    assert "/tmp/" not in text
    assert "/home/" not in text
