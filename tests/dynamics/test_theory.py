"""Stability bounds, each against torch's own optimizer on a quadratic, just below and above."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch

from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.theory import BOUNDS, curvature_limit, hold_theory, stability_bound
from gabordiag.landscape.critical import Certificate
from gabordiag.landscape.points import CriticalPoint, Landscape
from gabordiag.objective.space import Parameter

CURVATURE, SLOPE = 8.0, 5.0
TOLERANCE = math.pi / 180
NESTEROV = {"momentum": 0.9, "nesterov": True}
ADAM_FAMILY = ("adam", "adamw", "nadam", "radam")


def _landscape(*points: CriticalPoint) -> Landscape:
    parameter = Parameter("theta", -1.0, 1.0, 2.0, 0.0, 0.5, is_angle=True)
    return Landscape(parameter, points, Certificate("proven", "given"), 1.0, 1.0, 0.0)


BOTTOM = CriticalPoint(0.0, 0.0, CURVATURE, "minimum", True, (-1.0, 1.0))
MINIMUM = _landscape(BOTTOM)
KINK = _landscape(CriticalPoint(0.0, 0.0, None, "kink", True, (-1.0, 1.0), slope=SLOPE))


def _settles(make: Any, *, gradient_size: float | None = None) -> bool:
    """Whether torch's optimizer converges on L = CURVATURE x^2 / 2, or grows without bound.

    Args:
        make: Makes the optimizer from a list of parameters.
        gradient_size: What an optimizer of the Adam family divides by, kept fixed.
    """
    x = torch.tensor([1e-3], dtype=torch.float64)
    optimizer = make([x])
    if gradient_size is not None:
        x.grad = torch.zeros_like(x)
        optimizer.step()
        state = optimizer.state[x]
        # With all of the averages' start forgotten, and beta2 so near 1 that the square stays.
        state["step"].fill_(1e19)
        state["exp_avg_sq"].fill_(gradient_size**2)
        if "mu_product" in state:
            state["mu_product"].zero_()
    largest = []
    for step in range(6000):
        x.grad = CURVATURE * x
        optimizer.step()
        if step >= 5000:
            largest.append(abs(float(x)))
        # A thousand times as far as it began.
        if abs(float(x)) > 1:
            return False
    return max(largest) < 1e-6


@pytest.mark.each(3)
@pytest.mark.parametrize(
    "settings",
    [{}, {"momentum": 0.5}, {"momentum": 0.9}, NESTEROV, {"momentum": 0.3, "nesterov": True}],
)
def test_gradient_descent_is_stable_just_below_the_bound_and_not_above(
    settings: dict[str, Any],
) -> None:
    found = stability_bound(BOTTOM, OptimizerSettings(**settings), TOLERANCE)
    assert found is not None
    assert not found.entry.is_estimate
    make = partial(torch.optim.SGD, **settings)
    assert _settles(partial(make, lr=0.99 * found.bound))
    assert not _settles(partial(make, lr=1.01 * found.bound))
    limit = curvature_limit(OptimizerSettings(**settings))
    assert limit == pytest.approx(found.bound * CURVATURE, rel=1e-12)


@pytest.mark.each(4)
@pytest.mark.parametrize("name", ADAM_FAMILY)
def test_adams_preconditioned_bound_is_exact_where_its_divisor_is_fixed(name: str) -> None:
    """The divisor is the gradient at the edge of the tolerance, curvature x tolerance."""
    found = stability_bound(BOTTOM, OptimizerSettings(optimizer=name), TOLERANCE)
    assert found is not None
    assert found.entry.is_estimate
    assert curvature_limit(OptimizerSettings(optimizer=name)) is None
    options: dict[str, Any] = {"betas": (0.9, 1 - 2e-16)}
    if name == "adamw":
        options["weight_decay"] = 0.0
    classes = {"adam": "Adam", "adamw": "AdamW", "nadam": "NAdam", "radam": "RAdam"}
    make = partial(getattr(torch.optim, classes[name]), **options)
    for factor, stable in ((0.99, True), (1.01, False)):
        settled = _settles(
            partial(make, lr=factor * found.bound), gradient_size=CURVATURE * TOLERANCE
        )
        assert settled == stable


def test_a_bounce_across_a_kink_stays_within_the_tolerance_below_the_bound() -> None:
    found = hold_theory(KINK, OptimizerSettings(), None)
    assert found is not None
    for factor, inside in ((0.99, True), (1.01, False)):
        # Just beside the kink on one side: the widest bounce there is.
        x = torch.tensor([1e-9], dtype=torch.float64)
        optimizer = torch.optim.SGD([x], lr=factor * found.bound)
        farthest = 0.0
        for _ in range(100):
            x.grad = SLOPE * torch.sign(x)
            optimizer.step()
            farthest = max(farthest, abs(float(x)))
        assert (farthest <= TOLERANCE) == inside


@pytest.mark.parametrize(
    ("landscape", "settings", "bound"),
    [
        (MINIMUM, {}, 2 / CURVATURE),
        # Goh 2017.
        (MINIMUM, {"momentum": 0.9}, 2 * 1.9 / CURVATURE),
        (MINIMUM, NESTEROV, 2 * 1.9 / (2.8 * CURVATURE)),
        # Cohen et al. 2022 for Adam with beta1 = 0.9: 38 / lr, on a curvature of 1 / (1 degree).
        (MINIMUM, {"optimizer": "adam"}, 38 * TOLERANCE),
        (MINIMUM, {"optimizer": "nadam"}, 38 / 2.8 * TOLERANCE),
        (KINK, {}, TOLERANCE / SLOPE),
    ],
)
def test_bound(landscape: Landscape, settings: dict[str, Any], bound: float) -> None:
    found = hold_theory(landscape, OptimizerSettings(**settings), None)
    assert found is not None
    assert found.bound == pytest.approx(bound, rel=1e-12)
    shown = found.to_dict()
    assert shown["measured"] is None
    assert shown["symbol"] in {entry.formula for entry in BOUNDS.values()}
    assert "Measured" not in found.explanation


@pytest.mark.parametrize(
    ("landscape", "settings"),
    [
        (_landscape(), {}),
        (MINIMUM, {"optimizer": "rprop"}),
        (MINIMUM, {"schedule": "cosine"}),
        (KINK, {"momentum": 0.9}),
        (KINK, {"optimizer": "adam"}),
    ],
)
def test_where_theory_has_none_there_is_none(
    landscape: Landscape, settings: dict[str, Any]
) -> None:
    assert hold_theory(landscape, OptimizerSettings(**settings), 0.1) is None


def test_only_a_remarkable_difference_is_explained() -> None:
    near = hold_theory(MINIMUM, OptimizerSettings(), 0.24)
    far = hold_theory(MINIMUM, OptimizerSettings(), 0.05, 0.1)
    assert near is not None
    assert near.explanation.endswith("Measured: the target's basin is stable up to 0.24.")
    assert far is not None
    assert "0.05, 0.2 times that: the bound is local" in far.explanation


def test_what_a_coarse_scan_does_not_distinguish_is_not_explained() -> None:
    # Stability ends between two scanned rates; 2 / curvature is 0.25, inside the one and outside
    # the other pair.
    for measured, beyond, is_explained in ((0.2, 0.4, False), (0.1, 0.2, True), (0.3, 0.4, True)):
        found = hold_theory(MINIMUM, OptimizerSettings(), measured, beyond)
        assert found is not None
        assert ("the bound is local" in found.explanation) == is_explained
