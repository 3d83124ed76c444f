"""One parameter given as a group of one is the same run, and the same diagnosis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import gabordiag as gd
from tests.golden.calls import texture

BASE = {"kernel_size": 9, "wavelength": 5, "sigma": 2}
# Loss, learning rate, steps, start in degrees: a chaotic run, one that converges, a kink.
RUNS = [("mse", 0.2, 300, -45), ("mse", 0.02, 150, 38), ("rmse", 0.05, 150, 38)]


def _experiment(loss: str, start: float) -> Any:
    return gd.Experiment(image=texture(40, 34), loss=loss, theta0=math.radians(start), **BASE)


@pytest.mark.each(3)
@pytest.mark.parametrize(("loss", "lr", "steps", "start"), RUNS)
def test_a_run_is_the_same(loss: str, lr: float, steps: int, start: float) -> None:
    optimize: Any = gd.optimize
    experiment = _experiment(loss, start)
    (one,) = optimize(experiment, over="theta", lr=lr, steps=steps).runs
    (other,) = optimize(experiment, over=("theta",), lr=lr, steps=steps).runs
    paths = [np.ravel(run.trajectory.values) for run in (one, other)]
    # A chaotic path is a property of the problem for so many steps only.
    last = len(paths[0]) if one.trusted_steps is None else one.trusted_steps // 4
    np.testing.assert_allclose(paths[1][:last], paths[0][:last], rtol=1e-9, atol=1e-12)
    assert other.outcome == one.outcome
    first, second = (
        [jump["step"] for jump in run.to_dict()["jumps"] if jump["step"] < last]
        for run in (one, other)
    )
    assert first == second
    # The chaotic run jumps, most often after the steps compared above.
    assert (one.to_dict()["n_jumps"] > 0) == (other.to_dict()["n_jumps"] > 0)


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "lr", "steps", "start"), RUNS)
def test_a_diagnosis_is_the_same(loss: str, lr: float, steps: int, start: float) -> None:
    diagnose: Any = gd.diagnose
    experiment = _experiment(loss, start)
    one, other = (
        diagnose(experiment, over=over, lr=lr, steps=steps).to_dict()
        for over in ("theta", ("theta",))
    )
    assert other["verdict"] == one["verdict"]
    roles = [{f["cause"]: f["role"] for f in found["findings"]} for found in (one, other)]
    assert roles[0] == roles[1]
    remedies = [[(r["name"], r["works"]) for r in found["remedies"]] for found in (one, other)]
    assert remedies[0] == remedies[1]
