"""The start without descent: the least-squares kernel, and its orientation."""

from __future__ import annotations

import math

import pytest
import torch

from gabordiag.gabor import gabor_kernel
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_line import along, kernel_orientation, least_squares_kernel


# The last one is larger than the spectrum that smaller ones are padded to.
@pytest.mark.parametrize("size", [21, 31, 301])
@pytest.mark.parametrize("theta", [-1.4, -0.3, 0.0, 0.4, 1.2])
def test_the_orientation_of_a_gabor_kernel_is_its_theta(size, theta):
    # A round envelope: the spectrum is two discs on the carrier, symmetric about its direction.
    kernel = gabor_kernel(theta, 4.0, 3.0, 0.3, 1.0, kernel_size=size)
    assert kernel_orientation(kernel) == pytest.approx(theta, abs=2e-3)


def test_the_orientation_lies_in_one_half_turn():
    for theta in (math.pi / 2, -math.pi / 2, 2.0):
        found = kernel_orientation(gabor_kernel(theta, 4.0, 3.0, 0.3, 1.0, kernel_size=21))
        assert -math.pi / 2 <= found < math.pi / 2
        assert math.sin(found - theta) == pytest.approx(0, abs=2e-3)


def test_the_least_squares_kernel_makes_the_target_response(texture):
    experiment = Experiment(image=texture(), kernel_size=9, wavelength=5.0, sigma=2.0, loss="mse")
    objective = along(experiment, "theta")
    kernel = least_squares_kernel(objective.compressed.weights, objective.target_response)
    response = objective.compressed(kernel[None])[0]
    target = objective.target_response
    assert torch.linalg.norm(response - target) <= 1e-6 * torch.linalg.norm(target)
    assert kernel_orientation(kernel) == pytest.approx(math.pi / 4, abs=math.radians(5))
