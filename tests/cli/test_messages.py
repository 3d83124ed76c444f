"""Wrong calls say which option is wrong, and what to write instead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gabordiag.cli.main import run

LAYER = """
import torch

class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.theta = torch.nn.Parameter(torch.tensor(-0.7))
        self.weights = torch.nn.Parameter(torch.ones(2, 3))

    def forward(self, image, mask, scale=1.0):
        return image * torch.sin(self.theta)
"""


@pytest.fixture(autouse=True)
def _there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "layer.py").write_text(LAYER)


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    assert run(arguments) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert 1 <= len(told.err.strip().splitlines()) <= 2
    return told.err


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["optimize", "--lr", "abc"], "--lr"),
        (["optimize", "--lr", "theta=abc"], "--lr"),
        (["optimize", "--theta0", "12x"], "--start"),
        (["diagnose", "--start", "12x"], "--start"),
        (["sweep", "--target", "north"], "--target"),
        (["sweep", "--psi", "1e999"], "--psi"),
        (["sweep", "--over", "theta:1"], "--over"),
        (["sweep", "--over", "theta:0:1:many"], "--over"),
        (["basins", "--lr", "1:2"], "--lr"),
        (["basins", "--starts", "1:2:x"], "--starts"),
        (["basins", "--starts", "theta,psi:many"], "--starts"),
        (["bifurcate", "--lr", "0.1"], "--lr"),
        (["sweep", "--objective", "layer.py:Layer", "--range", "1:0"], "--range"),
        (["sweep", "--objective", "layer.py:Layer", "--period", "pi/0"], "--period"),
        (["explain", "layer.py", "--target", "here"], "--target"),
        (["explain", "layer.py", "--period", "long"], "--period"),
    ],
    ids=" ".join,
)
def test_option_is_named(
    capsys: pytest.CaptureFixture[str], arguments: list[str], option: str
) -> None:
    assert f"gabordiag: {option}: " in refused(capsys, 2, *arguments)


def test_several_parameters_by_commas(capsys: pytest.CaptureFixture[str]) -> None:
    assert "repeat the option" in refused(capsys, 2, "optimize", "--learn", "theta,sigma")


def test_parameters_of_a_module_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(capsys, 2, "sweep", "--objective", "layer.py:Layer", "--param", "angle")
    assert "Its parameters: theta, weights (2, 3)." in told


def test_input_that_a_module_needs(capsys: pytest.CaptureFixture[str]) -> None:
    told = refused(capsys, 3, "sweep", "--objective", "layer.py:Layer", "--param", "theta")
    assert "Layer takes image, mask, but was given no input" in told
    assert "--input" in told


@pytest.mark.long
def test_a_run_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{t},{0.9**t}\n" for t in range(30))
    (tmp_path / "log.csv").write_text("theta,loss\n" + rows)
    assert run(["explain", "log.csv", "--quiet"]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    (folder / "report.md").unlink()
    assert run(["report", folder.name, "--quiet"]) == 0
    assert (folder / "report.md").exists()
    told = refused(capsys, 3, "report", "nothing")
    assert "No run folder at nothing" in told


@pytest.mark.parametrize("command", ["sweep", "optimize", "basins", "diagnose", "check", "explain"])
def test_help_speaks_of_numbers_not_of_types(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert run([command, "--help"]) == 0
    options = capsys.readouterr().out.split("Options")[1]
    assert not re.search(r"<(str|float|int|path|list|bool)", options.split("--help")[0])
