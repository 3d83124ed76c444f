"""Causes planted in losses of two parameters whose minima and bounds are known on paper."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

import gabordiag as gd
from gabordiag.diagnosis import evidence, verdict
from gabordiag.diagnosis.causes import CAUSES, wrong_gradient
from gabordiag.diagnosis.evidence import Facts
from gabordiag.diagnosis.remedies import REMEDIES, own_rates
from gabordiag.diagnosis.verdict import Diagnosis, diagnose_objective
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.run import run
from gabordiag.errors import UsageError
from gabordiag.objective.objective import Objective
from gabordiag.objective.space import FloatArray, Parameter, Space
from gabordiag.results import Finding

Function = Callable[[Tensor, Tensor], Tensor]


class Plane(Objective):
    """A loss of a and b on [-1, 3] each, target (1, 1) unless it is given."""

    def __init__(
        self,
        function: Function,
        start: tuple[float, float] = (0.2, 0.5),
        target: tuple[float | None, float | None] = (1.0, 1.0),
        *,
        root: bool = False,
        signs: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        self.space = Space(
            tuple(
                Parameter(name, -1.0, 3.0, None, goal, first)
                for name, goal, first in zip("ab", target, start, strict=True)
            )
        )
        self.function, self.is_root, self.signs = function, root, signs
        self.loss_name = "rmse" if root else "mse"

    def loss(self, coordinates: Tensor, *, smooth: bool = False) -> Tensor:
        squared = self.function(*coordinates.unbind(-1))
        return squared.sqrt() if self.is_root and not smooth else squared

    def squared(self) -> Plane | None:
        return Plane(self.function) if self.is_root else None

    def loss_and_gradient(
        self, coordinates: npt.ArrayLike, *, smooth: bool = False
    ) -> tuple[FloatArray, FloatArray]:
        losses, slopes = super().loss_and_gradient(coordinates, smooth=smooth)
        return losses, slopes * self.signs


def bowl(a: Tensor, b: Tensor) -> Tensor:
    """2 (a - 1)^2 + (b - 1)^2 / 2: curvatures 4 and 1, so that no rate above 1/2 rests."""
    return 2 * (a - 1) ** 2 + (b - 1) ** 2 / 2


def well(a: Tensor, b: Tensor) -> Tensor:
    """Minima at a = 1 and -1, the right one lower by 0.4 and a little aside; b = 1."""
    return (a**2 - 1) ** 2 - a / 5 + (b - 1) ** 2


# The roots of 4 a^3 - 4 a - 1/5.
LEFT, _, RIGHT = np.sort(np.roots([4, 0, -4, -0.2]).real).tolist()


def diagnosed(
    plane: Plane,
    lr: float = 0.1,
    steps: int = 300,
    *,
    cures: Any = (),
    own: Any = None,
) -> Diagnosis:
    """What is found; remedies are tried only where a test asks for them."""
    settings = OptimizerSettings("sgd", lr, steps=steps)
    with patch.object(verdict, "REMEDIES", cures):
        return diagnose_objective(plane, settings, lr=own)


def finding(diagnosis: Diagnosis, cause: str) -> Finding:
    return next(found for found in diagnosis.findings if found.cause == cause)


def test_a_healthy_run_is_asked_for_flaws_alone() -> None:
    found = diagnosed(Plane(bowl))
    assert found.verdict == "healthy"
    assert "a and b reach the target" in found.headline
    assert {f.role for f in found.findings} == {"ruled_out"}
    assert {"flat_objective", "wrong_gradient", "target_unreachable"} <= {
        f.cause for f in found.findings
    }
    assert found.remedies == ()


@pytest.mark.slow
def test_every_cause_is_asked_and_every_remedy_that_applies_is_tried() -> None:
    found = diagnosed(Plane(bowl), lr=0.6, cures=REMEDIES)
    asked = {f.cause for f in found.findings if f.evidence.get("asked", True)}
    assert set(CAUSES) <= asked
    assert {"no_gradient", "nondeterministic", "flat_objective"} <= asked
    assert {remedy.name for remedy in found.remedies} == {
        "smaller_lr", "lr_decay", "momentum", "own_rates", "adaptive", "start_in_basin",
        "multi_start",
    }  # fmt: skip


def test_a_cut_graph_is_named_with_its_parameter() -> None:
    found = diagnosed(Plane(lambda a, b: bowl(a, b.detach())))
    assert found.verdict == "no_gradient"
    assert "depends on b" in found.headline
    assert finding(found, "no_gradient").evidence["a"]["arrives"]
    # With differences of the loss for a gradient the same run arrives.
    assert finding(found, "no_gradient").sufficient
    assert found.remedies == ()


def test_a_wrong_gradient_is_named_with_its_parameter_and_factor() -> None:
    found = diagnosed(Plane(bowl, signs=(1.0, -1.0)))
    assert found.verdict == "wrong_gradient"
    wrong = finding(found, "wrong_gradient")
    assert wrong.evidence["b"]["factor"] == pytest.approx(-1.0)
    assert "factor" not in wrong.evidence["a"]
    assert wrong.sufficient


def test_a_parameter_that_changes_nothing_is_named() -> None:
    found = diagnosed(Plane(lambda a, b: 2 * (a - 1) ** 2 + 0 * b))
    assert found.verdict == "flat_objective"
    assert "does not depend on b" in found.headline
    assert "depend on a" not in found.headline


def test_a_random_loss_is_told() -> None:
    generator = torch.Generator().manual_seed(0)

    def noisy(a: Tensor, b: Tensor) -> Tensor:
        return bowl(a, b) + torch.rand(a.shape, generator=generator, dtype=a.dtype)

    found = diagnosed(Plane(noisy), lr=1e-4)
    assert found.verdict == "nondeterministic"


@pytest.mark.slow
def test_a_gradient_that_breaks_on_the_way_is_named_with_its_step() -> None:
    # The slope of the distance is 1: the first step lands on the target, where it is 0/0.
    def distance(a: Tensor, b: Tensor) -> Tensor:
        return (a - 1) ** 2 + (b - 1) ** 2

    found = diagnosed(Plane(distance, (0.5, 1.0), root=True), lr=0.5)
    broken = finding(found, "nonfinite_gradient")
    assert found.verdict == "nonfinite_gradient"
    assert (broken.evidence["step"], broken.evidence["value"]) == (1, {"a": 1.0, "b": 1.0})
    assert "0/0" in found.headline


@pytest.mark.slow
def test_a_loss_that_is_lower_elsewhere_is_told() -> None:
    found = diagnosed(Plane(lambda a, b: bowl(a - 0.5, b + 0.25)))
    assert found.verdict == "target_unreachable"
    lowest = finding(found, "target_unreachable").evidence["lowest"]
    assert lowest == pytest.approx({"a": 1.5, "b": 0.75}, abs=1e-6)


@pytest.mark.slow
def test_a_flat_start_is_named_and_one_beside_it_arrives() -> None:
    found = diagnosed(Plane(well, (0.0, 1.0), (RIGHT, 1.0)), lr=1e-4, steps=100)
    # The slope there is 1/5; at a maximum it is none.
    assert found.verdict != "flat_start"
    flat = diagnosed(Plane(lambda a, b: (a**2 - 1) ** 2 + (b - 1) ** 2, (0.0, 1.0)), lr=0.05)
    assert flat.verdict == "flat_start"
    beside = finding(flat, "flat_start").evidence["counterfactual"]
    assert beside["outcome"] == "reached"
    assert beside["start"]["a"] == pytest.approx(0.2)


@pytest.mark.slow
def test_a_rate_beyond_the_bound_is_named_with_it() -> None:
    found = diagnosed(Plane(bowl), lr=0.6)
    assert found.verdict == "step_too_large"
    too_large = finding(found, "step_too_large")
    rate = too_large.evidence["counterfactual"]["lr"]
    # Both factors 1 - lr 4 and 1 - lr shrink.
    assert 0 < rate < 2 / 4
    assert f"--lr {rate:g}" in found.headline
    # By hand: after so many steps both are within 1% of the range.
    steps = too_large.evidence["counterfactual"]["steps_to_target"]
    apart = np.abs(np.array([0.8, 0.5]) * np.array([1 - 4 * rate, 1 - rate]) ** steps)
    assert (apart <= 0.04).all()


@pytest.mark.slow
def test_ratios_of_own_rates_are_kept() -> None:
    found = diagnosed(Plane(bowl), steps=200, own={"a": 0.6, "b": 1.2})
    rates = finding(found, "step_too_large").evidence["counterfactual"]["lr"]
    assert rates["b"] == pytest.approx(2 * rates["a"])
    assert 4 * rates["a"] < 2
    assert f"--lr a={rates['a']:g} --lr b={rates['b']:g}" in found.headline


@pytest.mark.slow
def test_own_rates_are_half_of_one_over_the_curvatures() -> None:
    found = diagnosed(Plane(bowl), lr=0.6, cures=(own_rates,))
    own = next(remedy for remedy in found.remedies if remedy.name == "own_rates")
    assert own.change == "--lr a=0.12 --lr b=0.5"
    assert own.works


@pytest.mark.slow
def test_too_small_a_rate_is_named() -> None:
    found = diagnosed(Plane(bowl), lr=1e-3, steps=100)
    assert found.verdict == "step_too_small"
    rate = finding(found, "step_too_small").evidence["counterfactual"]["lr"]
    # b, the slower, arrives within 90 of the 100 steps.
    assert 0.5 * (1 - rate) ** 90 <= 0.04


@pytest.mark.slow
def test_another_minimum_is_named() -> None:
    found = diagnosed(Plane(well, (-0.8, 0.5), (RIGHT, 1.0)), lr=0.05)
    assert found.verdict == "wrong_basin"
    assert finding(found, "wrong_basin").evidence["minimum"] == pytest.approx(
        {"a": LEFT, "b": 1.0}, abs=1e-6
    )
    advised = finding(found, "wrong_basin").evidence["counterfactual"]["start"]
    assert 0 < advised["a"] < RIGHT


@pytest.mark.long
def test_another_minimum_within_a_hundredth_of_the_range_is_named() -> None:
    def ripples(a: Tensor, b: Tensor) -> Tensor:
        # Along a L'' is 25,860 at 1 and much the same at the next minimum, 0.039 of 4 beside it.
        d = a - 1
        return 1 - torch.cos(160 * d) + 130 * d**2 + 13_000 * (b - 1) ** 2

    # It is where 160 sin 160 d = -260 d, with a loss of 0.2.
    beside = 0.039
    for _ in range(20):
        beside = (2 * math.pi - math.asin(1.625 * beside)) / 160
    found = diagnosed(Plane(ripples, (1.041, 1.001)), lr=3e-5)
    assert (found.run.outcome, found.verdict) == ("local_minimum", "wrong_basin")
    assert finding(found, "wrong_basin").evidence["minimum"] == pytest.approx(
        {"a": 1 + beside, "b": 1.0}, abs=1e-6
    )
    # From within 0.0196, half of a ripple, descent leads to the target.
    assert diagnosed(Plane(ripples, (1.015, 1.001)), lr=3e-5).verdict == "healthy"


@pytest.mark.slow
def test_a_kink_makes_the_run_bounce_and_its_square_settles() -> None:
    found = diagnosed(Plane(lambda a, b: (a - 1) ** 2 + 4 * (b - 1) ** 2, root=True), lr=0.15)
    assert found.verdict == "kink"
    # Beside the target along a the loss is |a - 1|, along b 2 |b - 1|.
    assert finding(found, "kink").evidence["slope"] == pytest.approx({"a": 1.0, "b": 2.0})
    assert found.headline.endswith("Use --loss mse with the same learning rate.")


@pytest.mark.slow
def test_where_no_rate_is_known_adam_is_measured_beside_the_target() -> None:
    settings = OptimizerSettings("adam", 0.1, steps=60)
    windows = Facts(run(Plane(bowl), settings)).windows
    assert windows is not None
    assert windows.hold_lr is not None
    # By hand, from as far beside the target: the last tenth of the steps stays within 1%.
    for side in (-1.0, 1.0):
        values = torch.full((2,), 1 + side * 0.0229, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.Adam([values], lr=windows.hold_lr)
        for step in range(1500):
            optimizer.zero_grad()
            bowl(*values).backward()
            optimizer.step()
            assert step < 1350 or float((values.detach() - 1).abs().max()) <= 0.04


def test_a_cause_that_needs_a_landscape_says_why_it_is_not_asked() -> None:
    found = wrong_gradient(Facts(run(Plane(bowl), OptimizerSettings("sgd", 0.1, steps=50))))
    assert not found.present
    assert found.to_dict()["evidence"]["asked"] is False
    assert "landscape" in found.evidence["why"]


def test_some_targets_are_not_enough() -> None:
    with pytest.raises(UsageError, match="some of the parameters"):
        diagnosed(Plane(bowl, target=(1.0, None)))


@pytest.mark.slow
def test_without_a_target_the_lowest_minimum_is_the_goal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "try_remedies", lambda *_: ())
    monkeypatch.setattr(evidence, "SCANNED_RATES", (0.01, 0.1))
    monkeypatch.setattr(evidence, "SCAN_STEPS", 300)

    # Two wells along v[0]: 0.1 v lifts the one near 1 above that near -1, (v^2 - 1)^2 + 0.1 v has
    # its minima where 4 v (v^2 - 1) = -0.1.
    def wells(v: Tensor) -> Tensor:
        return (v[0] ** 2 - 1) ** 2 + 0.1 * v[0] + (v[1] - 0.5) ** 2

    lowest = min(np.roots([4, 0, -4, 0.1]).real)
    options = {"range": (-2.0, 2.0), "lr": 0.05, "steps": 200}
    found = gd.diagnose(wells, start=(-0.5, 0.0), **options)
    assert found.verdict == "healthy"
    np.testing.assert_allclose(found.run.final, [lowest, 0.5], atol=1e-6)
    astray = gd.diagnose(wells, start=(0.5, 0.0), **options)
    assert astray.verdict == "wrong_basin"
    assert astray.run.outcome == "local_minimum"


@pytest.mark.slow
def test_the_report_is_finite_where_the_run_is_not() -> None:
    found = diagnosed(Plane(bowl), lr=1e30)
    assert found.verdict == "step_too_large"
    assert math.isfinite(found.to_dict()["hold_lr"])


def test_a_graph_that_is_cut_altogether_is_named_with_both_parameters() -> None:
    found = diagnosed(Plane(lambda a, b: bowl(a.detach(), b.detach())))
    assert found.verdict == "no_gradient"
    assert "depends on a" in found.headline
    assert "depends on b" in found.headline
    assert found.run.outcome == "frozen"
