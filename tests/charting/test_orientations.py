"""A filter's orientations as coordinates, against its kernels and the direct computation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from gabordiag.charting.orientations import ImageGram, OrientationLine, Orientations
from gabordiag.gabor import gabor_kernel, gabor_partials
from gabordiag.landscape.critical import find_critical_points
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_line import along

IMAGE = np.random.default_rng(3).uniform(0, 1, (60, 70)).cumsum(axis=0) % 1.7
FILTERS: list[dict[str, Any]] = [
    {"wavelength": 6, "sigma": 3, "gamma": 0.5, "kernel_size": 21},
    {"wavelength": 4, "sigma": 8, "gamma": 0.25, "kernel_size": 25},
    {"wavelength": 5, "sigma": 2.5, "gamma": 1.0, "psi": math.pi / 2, "kernel_size": 15},
    {"wavelength": 9, "sigma": 4, "gamma": 2.0, "psi": 1.0, "kernel_size": 17},
]


@pytest.mark.parametrize("settings", FILTERS)
def test_coordinates_are_those_of_the_kernels(settings: dict[str, Any]) -> None:
    experiment = Experiment(IMAGE, **settings)
    theta = torch.as_tensor(np.random.default_rng(0).uniform(-4, 4, 40))
    orientations = Orientations(experiment)
    arguments = {**experiment.target_parameters.to_dict(), "theta": theta}
    size = experiment.kernel_size
    kernels = gabor_kernel(**arguments, kernel_size=size, dtype=torch.float64).flatten(1)
    change = gabor_partials(**arguments, kernel_size=size, dtype=torch.float64, names=["theta"])[
        "theta"
    ].flatten(1)
    # The basis is orthonormal: inner products of coordinates are those of kernels.
    ours, changes = orientations.at(theta), orientations.changes_at(theta)
    scale, steepest = kernels.norm(dim=1).max() ** 2, change.norm(dim=1).max() ** 2
    assert float((ours @ ours.T - kernels @ kernels.T).abs().max() / scale) < 1e-13
    assert float((changes @ changes.T - change @ change.T).abs().max() / steepest) < 1e-12


@pytest.mark.parametrize("loss", ["rmse", "mse", "cosine"])
@pytest.mark.parametrize("settings", [*FILTERS[::2], {**FILTERS[3], "target_noise": 0.1}])
def test_loss_and_slope_are_those_of_whole_images(settings: dict[str, Any], loss: str) -> None:
    experiment = Experiment(IMAGE, loss=loss, **settings)
    image = ImageGram.of(experiment.picture(0), experiment.kernel_size)
    line = OrientationLine(Orientations(experiment), image, loss)
    theta = np.linspace(-3, 3, 23)
    loss_at, slopes = along(experiment, direct=True).derivatives(theta)
    np.testing.assert_allclose(line.loss_at(theta), loss_at, rtol=0, atol=1e-12 * loss_at.max())
    steepest = np.abs(slopes).max()
    np.testing.assert_allclose(line.gradient(theta), slopes, rtol=0, atol=1e-11 * steepest)
    np.testing.assert_allclose(line.derivatives(theta)[1], slopes, rtol=0, atol=1e-11 * steepest)


@pytest.mark.parametrize("settings", FILTERS)
def test_landscape_is_that_of_the_experiment(settings: dict[str, Any]) -> None:
    experiment = Experiment(IMAGE, loss="rmse", **settings)
    image = ImageGram.of(experiment.picture(0), experiment.kernel_size)
    ours = find_critical_points(OrientationLine(Orientations(experiment), image, "rmse"))
    theirs = find_critical_points(along(experiment))
    assert ours.certificate.basis == theirs.certificate.basis == "proven"
    assert [p.kind for p in ours.points] == [p.kind for p in theirs.points]
    for mine, other in zip(ours.points, theirs.points, strict=True):
        assert mine.value == pytest.approx(other.value, abs=1e-9)
        assert mine.loss == pytest.approx(other.loss, abs=1e-11 * theirs.largest_loss)
