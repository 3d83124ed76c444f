"""Custom losses are known by values: what was looked at is found, and what jumps is named."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch.nn import functional

import gabordiag as gd
from gabordiag.landscape.critical import find_critical_points, still_holds
from gabordiag.landscape.points import Landscape
from gabordiag.own.custom import own_objective


def needle(center: float, width: float, depth: float = 0.5):
    return lambda v: (v - 0.37) ** 2 - depth * torch.exp(-(((v - center) / width) ** 2))


def check_needle(center: float, width: float, depth: float) -> None:
    """The list holds the needle's minimum: where it is steepest, -2 d e^-0.5 / w, it is a dip."""
    landscape = find_critical_points(own_objective(needle(center, width, depth), range=(0.0, 1.0)))
    certificate = landscape.certificate
    assert certificate.basis == "resolved"
    assert not certificate.certified
    assert certificate.resolution < 0.002
    nearest = min(landscape.attractors, key=lambda point: abs(point.value - center))
    assert abs(nearest.value - center) < 0.2 * width
    assert nearest.loss < (center - 0.37) ** 2 - 0.9 * depth


def random_needles(count: int) -> list[tuple[float, float, float]]:
    random = np.random.default_rng(15)
    widths = 0.001 * 10 ** random.uniform(0, 1, count)
    depths = 10 ** random.uniform(-1.5, 0.5, count)
    return list(zip(random.uniform(0.05, 0.95, count), widths, depths, strict=True))


@pytest.mark.parametrize(("center", "width", "depth"), random_needles(6))
def test_no_needle_wider_than_the_resolution_is_missed(center, width, depth):
    check_needle(center, width, depth)


@pytest.mark.slow
@pytest.mark.parametrize(("center", "width", "depth"), random_needles(200)[6:])
def test_no_needle_of_many_is_missed(center, width, depth):
    check_needle(center, width, depth)


def test_a_value_that_disagrees_is_looked_at_again():
    center, width = 0.7411223344, 2e-5
    objective = own_objective(needle(center, width), range=(0.0, 1.0))
    before = find_critical_points(objective)
    assert len(before.attractors) == 1
    assert before.certificate.resolution > width
    assert still_holds(objective, before)
    # A run's step that falls into it.
    objective.loss_at([center + 0.4 * width])
    assert not still_holds(objective, before)
    after = find_critical_points(objective)
    assert still_holds(objective, after)
    _, found = after.attractors
    # The needle's slope, d (2 x / w^2) e^(-x^2 / w^2), balances 2 (c - 0.37) at x / w = 1e-5.
    assert found.value == pytest.approx(center, abs=1e-3 * width)
    assert found.loss == pytest.approx((center - 0.37) ** 2 - 0.5, abs=1e-6)


def jump(v: torch.Tensor) -> torch.Tensor:
    return (v - 0.2) ** 2 - torch.where(v > 0.8, 1.0, 0.0).to(v)


def test_a_jump_is_located_and_compared_with_the_minima():
    landscape = find_critical_points(own_objective(jump, range=(0.0, 2.0), start=0.0))
    (found,) = landscape.discontinuities
    assert (found.below, found.above) == (0.8, math.nextafter(0.8, 1))
    assert (found.loss_below, found.loss_above) == pytest.approx((0.36, -0.64))
    (minimum,) = landscape.attractors
    assert minimum.value == pytest.approx(0.2, abs=1e-9)
    # It is not the lowest: right above the jump the loss is lower.
    assert landscape.goal is None
    assert landscape.goal_value == found.above
    assert landscape.smallest_loss == pytest.approx(-0.64)
    saved = json.loads(json.dumps(landscape.to_dict()))
    assert Landscape.from_dict(saved).discontinuities == landscape.discontinuities


@pytest.mark.long
@pytest.mark.parametrize(
    "loss",
    [
        lambda v: (v - 0.3).abs(),
        lambda v: (v - 0.3).abs().sqrt() + v,
        lambda v: torch.tanh(300 * (v - 0.4)) + v**2,
        lambda v: torch.relu(v - 0.7) ** 2 + (v - 0.1).abs(),
    ],
    ids=["a kink", "a cusp", "a steep wall", "a corner"],
)
def test_what_is_continuous_has_no_jump(loss):
    landscape = find_critical_points(own_objective(loss, range=(0.0, 1.0)))
    assert landscape.certificate.basis == "resolved"
    assert landscape.discontinuities == ()


def test_several_jumps_of_a_period():
    # Steps of 0.5 at -1 and 2, and cos v.
    def steps(v: torch.Tensor) -> torch.Tensor:
        phase = torch.remainder(v + 1, 2 * math.pi)
        return torch.cos(v) + torch.where(phase < 3, 0.5, 0.0).to(v)

    objective = own_objective(steps, range=(-math.pi, math.pi), period=2 * math.pi)
    found = find_critical_points(objective).discontinuities
    places = [(jump.below + jump.above) / 2 for jump in found]
    assert places == pytest.approx([-1.0, 2.0], abs=1e-9)
    assert [jump.loss_above - jump.loss_below for jump in found] == pytest.approx([0.5, -0.5])


@pytest.mark.parametrize(
    "loss", [lambda v: 0 * v, lambda v: torch.relu(v - 100), lambda v: 3 + 0 * v]
)
def test_of_a_flat_loss_nothing_is_claimed(loss):
    landscape = find_critical_points(own_objective(loss, range=(-1.5, 1.5)))
    assert landscape.certificate.basis == "none"
    assert landscape.certificate.resolution is None
    assert landscape.points == ()


@pytest.mark.slow
def test_a_run_beside_which_the_loss_jumps_lower_is_not_healthy():
    found = gd.diagnose(jump, range=(0.0, 2.0), start=0.0, lr=0.1)
    assert found.verdict == "target_unreachable"
    assert found.run.outcome == "local_minimum"
    evidence = found.findings[0].evidence
    assert evidence["lowest"] == math.nextafter(0.8, 1)
    assert evidence["lowest_loss"] == pytest.approx(-0.64)


@pytest.mark.long
def test_a_rise_from_the_target_to_a_dip_beside_a_tooth_is_the_targets_basin():
    # A turned image, sampled linearly: its loss has a kink wherever a pixel changes its neighbours,
    # and dips whose other side lies nearer to them than any sample.
    generator = torch.Generator().manual_seed(4)
    image = torch.rand(1, 1, 32, 32, dtype=torch.float64, generator=generator)
    image = functional.avg_pool2d(functional.pad(image, (2, 2, 2, 2), mode="circular"), 5, 1)
    image = image - image.mean()

    def turned(angle):
        cos, sin = angle.cos(), angle.sin()
        rows = [cos, -sin, torch.zeros_like(cos), sin, cos, torch.zeros_like(cos)]
        turn = torch.stack(rows).reshape(1, 2, 3)
        places = functional.affine_grid(turn, image.shape, align_corners=False)
        return functional.grid_sample(image, places, align_corners=False)

    seen = turned(torch.tensor(0.5, dtype=torch.float64))

    def loss(angle):
        return ((turned(angle) - seen) ** 2).mean()

    right_of = np.linspace(0.5, 1.2, 701)
    falls = np.diff([loss(torch.tensor(value)).item() for value in right_of])
    assert (falls > 0).all()
    found = find_critical_points(
        own_objective(loss, range=(-math.pi, math.pi), period=2 * math.pi, target=0.5)
    )
    low, high = found.target.basin
    assert low < 0.5 < 1.2 < high
    for point in found.attractors:
        low, high = point.basin
        assert high - low > 1e-9
