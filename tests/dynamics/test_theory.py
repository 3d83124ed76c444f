"""Bounds on the rate that a minimum holds, against the closed forms of their papers."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.theory import hold_theory
from gabordiag.landscape.critical import Certificate, CriticalPoint, Landscape
from gabordiag.objective.objective import Parameter

CURVATURE, SLOPE = 8.0, 5.0


def _landscape(*points: CriticalPoint) -> Landscape:
    parameter = Parameter("theta", -1.0, 1.0, 2.0, 0.0, 0.5, is_angle=True)
    return Landscape(parameter, points, Certificate(True, "given", 0, 0.0), 1.0, 1.0, 0.0)


MINIMUM = _landscape(CriticalPoint(0.0, 0.0, CURVATURE, "minimum", True, (-1.0, 1.0)))
KINK = _landscape(CriticalPoint(0.0, 0.0, None, "kink", True, (-1.0, 1.0), slope=SLOPE))


@pytest.mark.parametrize(
    ("landscape", "settings", "bound"),
    [
        (MINIMUM, {}, 2 / CURVATURE),
        # Goh 2017.
        (MINIMUM, {"momentum": 0.9}, 2 * 1.9 / CURVATURE),
        # Cohen et al. 2022 for Adam with beta1 = 0.9: 38 / lr, on a curvature of 1 / (1 degree).
        (MINIMUM, {"optimizer": "adam"}, 38 * math.pi / 180),
        (MINIMUM, {"optimizer": "nadam"}, 38 * math.pi / 180),
        (KINK, {}, math.pi / 180 / SLOPE),
    ],
)
def test_bound(landscape: Landscape, settings: dict[str, Any], bound: float) -> None:
    found = hold_theory(landscape, OptimizerSettings(**settings), None)
    assert found is not None
    assert found.bound == pytest.approx(bound, rel=1e-12)
    assert found.to_dict()["measured"] is None
    assert "Measured" not in found.explanation


@pytest.mark.parametrize(
    ("landscape", "settings"),
    [
        (_landscape(), {}),
        (MINIMUM, {"optimizer": "rprop"}),
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
    far = hold_theory(MINIMUM, OptimizerSettings(), 0.05)
    assert near is not None
    assert near.explanation.endswith("Measured: the target's basin holds rates up to 0.24.")
    assert far is not None
    assert "0.05, 0.2 times that: the bound is local" in far.explanation
