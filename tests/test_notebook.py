"""Tests the tour of the docs: the notebook runs from its first cell to its last, and shows what it says."""

import os
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

NOTEBOOK = ROOT / "docs" / "tour.ipynb"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Jupyter's packages
def test_the_tour_runs(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="needs s3bench[dev]")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [output["data"] for output in outputs if "data" in output]
    texts = [data["text/plain"] for data in shown]
    assert any("finished" in text for text in texts)
    assert any("onset" in text and "recovered" in text for text in texts)
    assert sum("image/png" in data for data in shown) == 1
    assert not [output for output in outputs if output.get("name") == "stderr"]


def test_the_tour_is_kept_without_its_outputs():
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert '"output_type"' not in text
    assert str(ROOT) not in text
