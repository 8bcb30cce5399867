"""The notebook for learners runs from top to bottom and shows what it keeps."""

from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

NOTEBOOK = ROOT / "docs/tutorial.ipynb"


def outputs(book: Any, kind: str) -> list[Any]:
    """The outputs of all cells that are of a stream (`stdout`, `stderr`) or a type of picture."""
    found = [output for cell in book.cells for output in cell.get("outputs", [])]
    return [each for each in found if each.get("name") == kind or kind in each.get("data", {})]


@pytest.mark.slow
def test_the_notebook_runs_and_its_outputs_are_kept(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    kept, ran = (nbformat.read(NOTEBOOK, as_version=4) for _ in range(2))
    place = {"metadata": {"path": str(workspace)}}
    NotebookClient(ran, timeout=600, resources=place, coalesce_streams=True).execute()
    (told,) = outputs(ran, "stderr")
    assert told.text == "preparing the reviews (package), once\n"
    assert not outputs(kept, "stderr")
    for kind in ("stdout", "image/png"):
        assert len(outputs(ran, kind)) == len(outputs(kept, kind)) > 3
    assert "pos (positive: 9" in str(outputs(ran, "stdout"))
    assert NOTEBOOK.stat().st_size < 2**20
