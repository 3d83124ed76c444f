"""The example notebooks run from top to bottom, and show what their text says."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import gabordiag

FOLDER = Path(gabordiag.__file__).parent / "examples"

pytestmark = pytest.mark.slow


def outputs(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs a notebook in a folder; returns every code cell's output, as HTML or text."""
    # The kernel takes the package from where this test does, and no file of the user's.
    monkeypatch.setenv("PYTHONPATH", os.fspath(FOLDER.parents[1]))
    monkeypatch.setenv("IPYTHONDIR", os.fspath(folder))
    notebook = nbformat.read(FOLDER / name, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    NotebookClient(
        notebook, timeout=300, resources={"metadata": {"path": os.fspath(folder)}}
    ).execute()
    cells = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert not [out for cell in cells for out in cell if out.output_type == "stream"]
    kinds = ("text/html", "image/png", "text/plain")
    shown = [[next(out.data[k] for k in kinds if k in out.data) for out in cell] for cell in cells]
    return ["".join(cell) for cell in shown]


def test_the_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, steps, sweep, check, points, _map, windows, found, remedies = outputs(
        "question.ipynb", tmp_path, monkeypatch
    )
    assert "data:image/png" in run
    assert steps.count("<tr") == 6
    assert "<figure" in sweep
    error, certified = check.strip("()").split(", ")
    assert float(error) < 1e-12
    assert certified == "True"
    assert points.count("minimum") == 1
    assert points.count("kink") == 1
    working, escape, hold = windows.strip("()").rsplit(", ", 2)
    assert working in ("()", "[]")
    # More than a hundred times, as the README says of these rates.
    assert float(escape) > 100 * float(hold)
    assert "no learning rate works" in found
    assert "reached" in remedies


def test_a_layer_of_your_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, repaired, drawing, remedies, explained = outputs(
        "own_layer.ipynb", tmp_path, monkeypatch
    )
    assert "no gradient" in found
    assert "item()" in found
    assert "no gradient" not in repaired
    assert "wrong basin" in repaired
    assert len(drawing) > 1000
    assert "True" in remedies
    assert "verdict" in explained
