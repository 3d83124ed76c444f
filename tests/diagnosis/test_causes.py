"""Verdicts on functions known on paper: ranges without a minimum, broken runs, logs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gabordiag as gd
from gabordiag.diagnosis.verdict import Diagnosis, diagnose_objective
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.errors import InputError
from gabordiag.results import Finding
from tests.diagnosis.planting import bowl, cardinal_gabor, double_well_points

Function = Callable[[Tensor], Tensor]


def _double_well(v: Tensor) -> Tensor:
    return (v**2 - 1) ** 2 - v / 5


def _finding(diagnosis: Diagnosis, cause: str) -> Finding:
    return next(finding for finding in diagnosis.findings if finding.cause == cause)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "low", "high", "end"),
    [
        (lambda v: -(v**3) - v, -1.0, 2.0, 2.0),
        (lambda v: v + 1, 0.0, 1.0, 0.0),
        # A maximum at 1.1, so that the lower end is the left one.
        (lambda v: -((v - 1.1) ** 2), 0.0, 2.0, 0.0),
        # What no series follows: a bend, and a jump, whose differences are no derivative.
        (lambda v: v + 0.9 * (v - 0.5).abs() + 1, 0.0, 1.0, 0.0),
        (lambda v: v + 0.3 * (v > 0.5) + 1, 0.0, 1.0, 0.0),
    ],
    ids=["cubic", "line", "hill", "bend", "jump"],
)
@pytest.mark.parametrize("target", [None, pytest.param(0.7, marks=pytest.mark.slow)])
def test_a_range_without_a_minimum_is_told(
    function: Function, low: float, high: float, end: float, target: float | None
) -> None:
    found = gd.diagnose(function, range=(low, high), start=0.55, target=target, lr=0.01)
    assert found.verdict == "target_unreachable"
    assert "no minimum" in found.headline
    assert "--range" in found.headline
    evidence = _finding(found, "target_unreachable").evidence
    assert evidence["lowest"] == end
    assert evidence["lowest_loss"] == pytest.approx(float(function(torch.tensor(end))))


@pytest.mark.slow
@pytest.mark.parametrize(("lr", "role"), [(0.001, "ruled_out"), (0.01, "primary")])
def test_a_target_at_the_end_of_a_range_is_where_the_loss_is_lowest(lr: float, role: str) -> None:
    # Nothing turns at the end of a slope, but the target lies there: 500 steps end at 0.7 - 500 lr,
    # on the way to it or past the end, where the loss falls on.
    found = gd.diagnose(lambda v: v + 1, range=(0.0, 1.0), start=0.7, target=0.0, lr=lr)
    assert _finding(found, "target_unreachable").role == role


@pytest.mark.slow
def test_without_a_target_the_lowest_minimum_is_the_goal() -> None:
    _, barrier, right = double_well_points()
    found = gd.diagnose(_double_well, range=(-2.0, 2.0), start=0.4, lr=0.05)
    assert found.verdict == "healthy"
    assert found.run.final == pytest.approx(right, abs=1e-6)
    other = gd.diagnose(_double_well, range=(-2.0, 2.0), start=-0.5, lr=0.02)
    assert other.verdict == "wrong_basin"
    advised = _finding(other, "wrong_basin").evidence["counterfactual"]
    assert advised["outcome"] == "reached"
    assert barrier < advised["start"] < right


@pytest.mark.slow
def test_a_start_that_leads_out_of_the_range_says_so() -> None:
    # (v - 1)(v - 3) is minus the slope: a minimum at 1, a maximum at 3, falling from there on.
    found = gd.diagnose(
        lambda v: -(v**3) / 3 + 2 * v**2 - 3 * v,
        range=(-0.5, 4.0), start=3.5, target=1.0, lr=0.0005, steps=300,
    )  # fmt: skip
    basin = _finding(found, "wrong_basin")
    assert basin.role == "contributing"
    assert "no minimum of the range" in basin.explanation
    assert basin.evidence["minimum"] is None
    assert "the start's basin" not in found.headline
    assert "descent leads to no minimum of the range" in found.headline


@pytest.mark.long
@pytest.mark.parametrize("lr", [1e6, 1e40])
def test_a_run_that_breaks_off_at_once_is_judged(lr: float) -> None:
    # The factor 1 - 4 lr overflows float64 within 308 / log10(4 lr) steps: 47 and 8.
    found = diagnose_objective(bowl(), OptimizerSettings("sgd", lr, steps=500), 0.2)
    assert len(found.run.trajectory) < 60
    assert found.verdict == "step_too_large"
    assert "too few" not in found.headline
    assert float(found.headline.split("--lr ")[1].split(",")[0]) < 2 / 4


@pytest.mark.slow
def test_a_derivative_that_is_wrong_elsewhere_is_found() -> None:
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: Tensor) -> Tensor:
            ctx.save_for_backward(value)
            return (value - 1) ** 2

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Tensor:
            (value,) = ctx.saved_tensors
            return grads[0] * torch.where(value > 2.6, -5 * (value - 1), 2 * (value - 1))

    def loss(v: Tensor) -> Tensor:
        result: Tensor = Square.apply(v)
        return result

    found = gd.diagnose(loss, range=(-1.0, 3.0), start=0.2, target=1.0, lr=1.1)
    assert found.verdict == "wrong_gradient"
    # At 3 it is -10 instead of 4, which is the loss's steepest slope.
    error = _finding(found, "wrong_gradient").evidence["analytic_vs_autograd"]
    assert error == pytest.approx(14 / 4)


@pytest.mark.slow
def test_a_gradient_that_breaks_on_the_way_is_named_with_its_step() -> None:
    # At 1/2, where the first step leads, 0 x sqrt|v - 1/2| has the slope 0 x infinity.
    def loss(v: Tensor) -> Tensor:
        return (v - 1) ** 2 + 0 * (v - 0.5).abs().sqrt()

    found = gd.diagnose(loss, range=(-1.0, 3.0), start=0.0, target=1.0, lr=0.25)
    assert found.verdict == "nonfinite_gradient"
    evidence = _finding(found, "nonfinite_gradient").evidence
    assert (evidence["step"], evidence["loss"], evidence["value"]) == (1, 0.25, 0.5)
    # No root is to blame.
    assert "0/0" not in found.headline


@pytest.mark.slow
def test_rates_are_scanned_on_the_scale_of_the_loss() -> None:
    # A root's slope times the least usual rate is more than the tolerance of one degree.
    steep = replace(cardinal_gabor("rmse"), pixel_scale=3e4)
    found = gd.diagnose(steep, lr=0.5, steps=400)
    kink = next(p for p in found.sweep.landscape.points if p.is_target)
    assert kink.slope is not None
    assert kink.slope * 1e-4 > math.radians(1)
    # From 0.01 beside it a step s bounces between 0.01 and 0.01 - s: within one degree for all s up
    # to that, for none from 0.01 rad more on. Scanned rates are 5% apart.
    hold = found.to_dict()["hold_lr"]
    assert math.radians(1) / 1.05 < hold * kink.slope < 1.05 * (math.radians(1) + 0.01)
    assert "start_in_basin" in {remedy.name for remedy in found.remedies if remedy.works}


@pytest.mark.slow
def test_a_log_is_diagnosed_like_the_run_it_came_from() -> None:
    # The loop is written out, on 2 (v - 1)^2, past its bound of 2 / L'' = 1/2.
    values = [0.2]
    for _ in range(400):
        values.append(values[-1] - 0.55 * 4 * (values[-1] - 1))
    v = np.array(values)
    columns = {"step": np.arange(401), "value": v, "loss": 2 * (v - 1) ** 2}
    logged = {"grad": 4 * (v - 1), "lr": np.full(401, 0.55)}
    for log in (columns, {**columns, **logged}):
        found = gd.diagnose(bowl(), "sgd", 0.55, from_log=log)
        assert found.verdict == "step_too_large"
        assert found.run.start == 0.2
        assert found.run.settings.steps == 400
        path = found.run.trajectory
        # What was not logged is filled in: gradients by the objective, rates by the settings.
        np.testing.assert_allclose(path.gradient, logged["grad"], rtol=1e-12)
        np.testing.assert_array_equal(path.lrs[:, 0], logged["lr"])
        np.testing.assert_allclose(path.updates[:-1, 0], -0.55 * logged["grad"][:-1], rtol=1e-9)


def test_a_log_may_begin_late_but_must_hold_a_step() -> None:
    # Loggers that write the value after the step leave it out of the first row.
    v = 1 - 0.8 * 0.6 ** np.arange(200)
    values = np.concatenate([[math.nan, math.nan], v])
    log = {"value": values, "loss": 2 * (values - 1) ** 2}
    found = gd.diagnose(bowl(), "sgd", 0.1, from_log=log)
    assert found.verdict == "healthy"
    assert (found.run.start, len(found.run.trajectory)) == (v[0], 200)
    with pytest.raises(InputError, match="no step"):
        gd.diagnose(bowl(), "sgd", 0.1, from_log={"value": [0.3], "loss": [0.1]})


@pytest.mark.long
def test_a_narrow_dip_far_from_the_start_is_no_flat_objective() -> None:
    def dip(x: torch.Tensor) -> torch.Tensor:
        return 1 - torch.exp(-(((x - 1) / 0.05) ** 2) / 2)

    # At 4, 60 widths off, the exponential is exp(-1800): exactly zero, and so is its slope.
    found = gd.diagnose(dip, range=(-3, 5), start=4.0, target=1.0, lr=0.01, steps=100)
    assert found.verdict == "flat_start"
    flat = gd.diagnose(lambda x: 0 * x + 1, range=(-3, 5), start=4.0, target=1.0, steps=100)
    assert flat.verdict == "flat_objective"


@pytest.mark.long
def test_a_target_below_every_minimum_is_not_said_to_be_as_low() -> None:
    # (v - 5)^2 with a dip near 1: at 2.5 it is 6.25 and falls, and the only minimum is above 9.
    def loss(v: Tensor) -> Tensor:
        return (v - 5) ** 2 - 6 * torch.exp(-(((v - 1) / 0.3) ** 2))

    found = gd.diagnose(loss, range=(0, 3), start=0.9, target=2.5, lr=0.01, steps=200)
    assert found.verdict == "target_unreachable"
    assert "(loss 6.25), from where the loss falls on" in found.headline
    assert "as low" not in found.headline


@pytest.mark.long
@pytest.mark.parametrize(("lr", "steps"), [(0.99, 100), (0.995, 200)])
def test_steps_across_a_minimum_are_too_large(lr: float, steps: int) -> None:
    """(x - 1)^2: each step turns x - 1 by 1 - 2 lr; half the bound arrives in one."""
    found = gd.diagnose(lambda x: (x - 1) ** 2, range=(-3, 3), start=-2.0, lr=lr, steps=steps)
    assert found.run.outcome == "unfinished"
    assert found.verdict == "step_too_large"
    cure = next(remedy for remedy in found.remedies if remedy.name == "smaller_lr")
    assert cure.works
    assert float(cure.change.split()[-1]) < 0.8


@pytest.mark.long
def test_of_own_rates_none_is_blamed_alone() -> None:
    """50 a^2 + (b - 1)^2 / 2 is stable up to 0.02 and 2: 0.1 of b is not too large."""
    found = gd.diagnose(
        lambda v: 50 * v[0] ** 2 + 0.5 * (v[1] - 1) ** 2,
        range=((-2, 2), (-2, 2)),
        start=(1.0, -1.0),
        lr={"v[0]": 0.03, "v[1]": 0.1},
        steps=150,
    )
    assert found.verdict == "step_too_large"
    assert "the rates (v[0] 0.03 and v[1] 0.1) are" in found.findings[0].explanation


class TestAdviceFollowedLiterally:
    @pytest.mark.long
    def test_a_rate_settles_at_the_target_and_does_not_only_stay_near(self) -> None:
        # Its curvature at 0.05 is 2 / 0.05^2 = 800: above a rate of 0.0025 nothing settles there.
        found = gd.diagnose(
            lambda x: (torch.log(x) - math.log(0.05)) ** 2,
            range=(0.01, 5), start=4.0, target=0.05, lr=5.0,
        )  # fmt: skip
        rate = float(found.headline.split("--lr ")[1].split()[0].rstrip(",."))
        x = 4.0
        for _ in range(3000):
            x -= rate * 2 * (math.log(x) - math.log(0.05)) / x
        assert x == pytest.approx(0.05, rel=1e-6)

    @pytest.mark.long
    def test_what_swings_ever_less_wants_steps_and_no_other_rate(self) -> None:
        # Of 2 x^2 / 2 with momentum 0.99 a swing shrinks by sqrt(0.99) a step at any rate that
        # swings: to 1 / 50 within 779.
        found = gd.diagnose(
            lambda x: (x - 2) ** 2, range=(-5, 5), start=-3.0, target=2.0, lr=0.1, momentum=0.99,
            steps=300,
        )  # fmt: skip
        assert found.verdict == "step_too_small"
        assert "--lr 0.1 --steps" in found.headline
        assert not {f.cause: f for f in found.findings}["step_too_large"].present

    @pytest.mark.long
    def test_a_schedule_does_not_begin_beyond_the_bound(self) -> None:
        found = gd.diagnose(
            lambda x: (x - 2) ** 2, range=(-5, 5), start=-3.0, target=2.0, lr=0.01, steps=100,
            schedule="exponential",
        )  # fmt: skip
        rate = float(found.headline.split("--lr ")[1].split()[0].rstrip(",."))
        assert 0.01 < rate < 1

    @pytest.mark.long
    @pytest.mark.parametrize("constant", [2.0, 3.0])
    def test_a_repair_that_is_not_enough_says_so(self, constant: float) -> None:
        # Without the root the minimum is at the constant, and with it at its square.
        found = gd.diagnose(
            lambda x: (torch.sqrt(x) - constant) ** 2,
            range=(0, 10), start=0.0, target=constant**2, lr=0.1,
        )  # fmt: skip
        assert found.verdict == "nonfinite_gradient"
        assert "That alone does not reach the target" in found.headline


def test_names_of_code_keep_their_letters() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.tensor(0.3), requires_grad=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.a

    found = gd.diagnose(Frozen(), input=torch.ones(4), target=1.0, range=(0, 3), lr=0.1)
    assert "A has" not in found.headline
    assert "Call a.requires_grad_()." in found.headline


def test_what_a_method_of_init_computes_is_found() -> None:
    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.tensor(0.3))
            self.build()

        def build(self) -> None:
            self.kernel = torch.cos(self.a * torch.arange(3.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.kernel

    found = gd.diagnose(Cached(), input=torch.ones(4, 3), target=1.0, range=(0, 3), lr=0.1)
    assert found.verdict == "no_gradient"
    assert "self.kernel = torch.cos" in found.headline


@pytest.mark.long
def test_a_first_step_that_leads_far_out_is_a_rate_too_large() -> None:
    # The slope of (1 / r - 0.5)^2 at 0.05 is -2 x 19.5 / 0.05^2 = -15,600: a step of 156.
    found = gd.diagnose(
        lambda r: (1 / r - 0.5) ** 2, range=(0.01, 10), start=0.05, target=2.0, lr=0.01, steps=300
    )
    assert found.verdict == "step_too_large"
    assert "leads from 0.05 to 156" in found.headline


@pytest.mark.long
def test_a_probability_that_torch_limits_is_named() -> None:
    target = torch.sigmoid(torch.tensor(3.0, dtype=torch.float64))

    def saturated(b: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy(torch.sigmoid(b), target)

    def right(b: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(b, target)

    how: dict[str, Any] = {"range": (-60, 60), "start": -50.0, "target": 3.0, "lr": 1.0}
    found = gd.diagnose(saturated, **how, steps=300)
    assert found.verdict == "wrong_gradient"
    assert "binary_cross_entropy_with_logits" in found.headline
    assert gd.diagnose(right, **how, steps=300).verdict == "healthy"


@pytest.mark.long
def test_the_level_floor_of_a_quartic_is_no_flat_start() -> None:
    # From 0.05 the slope 4 x^3 is 5e-4, of 32 at the range's end: dx/dt = -4 x^3 takes x to 0.02
    # at t = (1 / 0.02^2 - 1 / 0.05^2) / 8 = 262, some 26,000 steps of 0.01.
    found = gd.diagnose(lambda x: x**4, range=(-2, 2), start=0.05, target=0.0, lr=0.01, steps=500)
    assert found.verdict == "step_too_small"
    top = gd.diagnose(
        lambda x: -(x**4) + x**6 / 6, range=(-3, 3), start=0.01, target=2.0, lr=0.01, steps=100
    )
    # At a level maximum it is one.
    assert top.verdict == "flat_start"
