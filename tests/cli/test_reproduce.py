"""`gabordiag reproduce`, whole: on a part of the photograph, with few starts, rates and steps."""

from __future__ import annotations

import csv
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import cbook, image

from gabordiag.cli.main import run
from gabordiag.diagnosis import reproduction
from tests.dynamics.independent import kernel

pytestmark = pytest.mark.long

STEPS = 300
CASES = ("elongated", "round")
FIGURES = {"comparison.png"} | {
    f"{case}-{figure}.png" for case in CASES for figure in ("run", "sweep", "basins", "bifurcation")
}


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    """(140, 120): face and collar of the photograph that matplotlib ships, ITU-R BT.601 luma."""
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        pixels = image.imread(file)[100:240, 180:300]
    return np.asarray(pixels @ [0.299, 0.587, 0.114] / 255)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, photograph: np.ndarray) -> Path:
    place = tmp_path_factory.mktemp("reproduce")
    np.save(place / "part.npy", photograph)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(reproduction, "STEPS", STEPS)
        patch.setattr(reproduction, "MAP_STARTS", 13)
        patch.setattr(reproduction, "BIFURCATION_RATES", 20)
        patch.setattr(reproduction, "DEFAULT_SCAN", (1e-4, 10.0, 25))
        assert run(["reproduce", "--image", "part.npy", "--quiet", "--out", "run"]) == 0
    return place / "run"


@pytest.fixture(scope="module")
def result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())["result"]
    return found


def test_the_folder_is_whole(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert names >= FIGURES | {"config.toml", "result.json", "report.md", "report.html"}
    for case in CASES:
        assert {f"{case}-trajectory-{index:03}.csv" for index in range(4)} <= names
        assert {f"{case}-basins.npz", f"{case}-bifurcation.npz", f"{case}-sweep.csv"} <= names


@pytest.mark.parametrize("case", CASES)
def test_the_symptom_is_counted_on_the_logged_run(
    folder: Path, result: dict[str, Any], case: str
) -> None:
    with (folder / f"{case}-trajectory-000.csv").open(encoding="utf-8") as file:
        losses = np.array([float(row["loss"]) for row in csv.DictReader(file)])
    assert len(losses) == STEPS + 1
    largest = result["cases"][case]["landscape"]["largest_loss"]
    falls = (losses[:-1] < 0.3 * largest) & (losses[1:] > 0.6 * largest)
    symptom = result["cases"][case]["symptom"]
    assert symptom["run"]["symptoms"] == falls.sum()
    assert symptom["reproduced"] == (falls.sum() >= 10)


@pytest.mark.each(2)
@pytest.mark.parametrize(("case", "sigma", "gamma", "lr"), [
    ("elongated", 4.0, 0.5, 3.0), ("round", 3.0, 1.0, 1.0),
])  # fmt: skip
def test_the_failing_run_is_plain_gradient_descent_on_conv2d(
    folder: Path, photograph: np.ndarray, case: str, sigma: float, gamma: float, lr: float
) -> None:
    with (folder / f"{case}-trajectory-000.csv").open(encoding="utf-8") as file:
        rows = [(float(row["theta"]), float(row["loss"])) for row in csv.DictReader(file)]
    pixels = torch.as_tensor(photograph)[None, None]

    def respond(angle: torch.Tensor) -> torch.Tensor:
        weights = kernel(angle, 31, 10.0, sigma, 0.0, gamma)
        return torch.nn.functional.conv2d(pixels, weights[None, None])

    assert rows[0][0] == -math.pi / 4
    wanted = respond(torch.tensor(math.pi / 4, dtype=torch.float64))
    # Each step from where the log says it began: a chaotic run parts even from itself by rounding.
    for (value, logged), (following, _) in itertools.pairwise(rows[:15]):
        theta = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        loss = (respond(theta) - wanted).square().mean().sqrt()
        loss.backward()
        assert theta.grad is not None
        assert loss.item() == pytest.approx(logged, rel=1e-9)
        assert value - lr * theta.grad.item() == pytest.approx(following, rel=1e-9)


def test_what_is_said_is_what_was_measured(folder: Path, result: dict[str, Any]) -> None:
    told = (folder / "report.md").read_text(encoding="utf-8")
    for case in CASES:
        found = result["cases"][case]
        assert found["diagnosis"]["headline"] in " ".join(told.split())
        shows = "shows" if found["symptom"]["reproduced"] else "does not show"
        jumps = found["symptom"]["run"]["n_jumps"]
        assert f"{shows} the question's symptom, with {jumps} jumps;" in " ".join(told.split())
    for figure in FIGURES:
        assert f"]({figure})" in told


@pytest.mark.slow
def test_the_report_comes_again_from_the_folder_alone(folder: Path, tmp_path: Path) -> None:
    assert run(["report", str(folder), "--quiet", "--out", str(tmp_path / "again")]) == 0
    for name in (*FIGURES, "report.md"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes(), name
