"""Objectives made to mislead: the verdict is true on paper, and what it advises works.

Each case says which verdicts are right, with the algebra. d is the distance v - v* from the minimum
v*; gradient descent multiplies it by 1 - lr L'' at every step, so that it rests for lr L'' < 2. The
tolerance is 1% of the range, one degree of an angle. Runs have 500 steps unless said otherwise.
Whether a run arrives, and in how many steps, is judged by a loop of the tests' own.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

import gabordiag as gd
from gabordiag.diagnosis.verdict import Diagnosis
from tests.diagnosis.following import Plan, follow
from tests.diagnosis.planting import Function, double_well_points

LEFT, BARRIER, RIGHT = double_well_points()
HEALTHY = {"healthy"}
TOO_LARGE = {"step_too_large"}
TOO_SMALL = {"step_too_small"}
WRONG_BASIN = {"wrong_basin"}
UNREACHABLE = {"target_unreachable"}
WRONG = {"wrong_gradient"}
# What these advise is no setting of a run.
MENDED_IN_CODE = {
    "no_gradient", "wrong_gradient", "nonfinite_gradient", "nondeterministic", "flat_objective",
    "target_unreachable",
}  # fmt: skip


@dataclass(frozen=True)
class Attack:
    """One objective and one run of it.

    Attributes:
        name: For the test's id.
        verdicts: Those that are right.
        function: The loss.
        keywords: Of `diagnose`.
        goal: Where the run should arrive, if no target is given.
        hangs_on_rounding: Whether other changed runs arrive; these are not followed.
        closeness: The tolerance, where the goal's basin is narrower than that.
    """

    name: str
    verdicts: set[str]
    function: Function
    keywords: dict[str, Any]
    goal: float | None = None
    hangs_on_rounding: bool = False
    closeness: float = math.inf

    def plan(self) -> Plan:
        """Returns the run as a person would make it."""
        given = dict(self.keywords)
        span = given.pop("range", (-math.pi, math.pi))
        period = given.pop("period", None if "range" in self.keywords else 2 * math.pi)
        goal = given.pop("target", self.goal)
        start = given.pop("start")
        settings = {"optimizer": "sgd", "steps": 500, **given}
        is_angle = "range" not in self.keywords
        given = (self.function, settings, start, goal, span, period, is_angle, self.closeness)
        return Plan(*given)


def bowl(v: Tensor) -> Tensor:
    """L'' = 2 at 1."""
    return (v - 1) ** 2


def steep_bowl(v: Tensor) -> Tensor:
    """L'' = 4 at 1."""
    return 2 * (v - 1) ** 2


def double_well(v: Tensor) -> Tensor:
    """Minima at LEFT, L'' = 7.38, and RIGHT, the lower one, L'' = 8.59; BARRIER between."""
    return (v**2 - 1) ** 2 - v / 5


def twins(v: Tensor) -> Tensor:
    """Two minima of loss 0 at -1 and 1, L'' = 8; a maximum between, at 0."""
    return (v**2 - 1) ** 2


def huber(v: Tensor) -> Tensor:
    """L'' = 1 within 0.1 of 1, slopes of 0.1 beyond."""
    apart = (v - 1).abs()
    return torch.where(apart > 0.1, 0.1 * apart - 0.005, apart**2 / 2)


def needle(v: Tensor) -> Tensor:
    """A well at 1 of width 0.003, L'' = 2 / 0.003^2 = 2.2e5, at the foot of 0.1 cos v.

    Its steepest slope is sqrt(2 / e) / 0.003 = 286. From 0 on, where the cosine is highest, flow
    leads right, down the cosine's slope of at most 0.085, into the well.
    """
    return 1 - torch.exp(-(((v - 1) / 0.003) ** 2)) + 0.1 * torch.cos(v)


def rough(v: Tensor) -> Tensor:
    """Weierstrass's sum of six cosines upon a bowl, 0 at 1.

    At 1 L'' = 2 + pi^2 (1 + 24.5 + ... + 24.5^5) = 9.1e7. Of the last cosine alone there is a
    minimum every 2 / 7^5 = 1.2e-4, with slopes up to pi 3.5^5 = 1650 beside the bowl's 1.6.
    """
    waves = [0.5**k * (1 - torch.cos(math.pi * 7**k * (v - 1))) for k in range(6)]
    return sum(waves, (v - 1) ** 2)


def tone(v: Tensor) -> Tensor:
    """The frequency of a sine heard for 20: 1 - sin(x) / x with x = 20 (v - 20), 0 at 20.

    Minima beside are where tan x = x: the first at x = 7.7253, d = 0.38627, of loss 1 - 0.1284,
    with L'' = 400 x 0.1284 = 51; between, at x = 4.4934, d = 0.2247, it is highest, 1 + 0.2172. At
    20 L'' = 400 / 3.
    """
    return 1 - torch.sinc(20 * (v - 20) / math.pi)


def with_slope(function: Function, slope: Function) -> Function:
    """Returns the function with a backward pass that returns another slope than its own."""

    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, value: Tensor) -> Tensor:
            ctx.save_for_backward(value)
            return function(value)

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Tensor:
            (value,) = ctx.saved_tensors
            return grads[0] * slope(value)

    def call(v: Tensor) -> Tensor:
        result: Tensor = Wrong.apply(v)
        return result

    return call


def reversed_between(low: float, high: float) -> Function:
    """Returns the bowl's slope with its sign wrong in an interval."""

    def slope(v: Tensor) -> Tensor:
        right = 2 * (v - 1)
        return torch.where((v > low) & (v < high), -right, right)

    return slope


# Tolerance 0.04.
AT_ONE: dict[str, Any] = {"range": (-1.0, 3.0), "target": 1.0, "start": 0.2}
RIGHT_WELL: dict[str, Any] = {"range": (-2.0, 2.0), "target": RIGHT}
HEAVY: dict[str, Any] = {"momentum": 0.9}
NESTEROV: dict[str, Any] = {"momentum": 0.9, "nesterov": True}

SCALE = [
    # An offset changes no slope: 1 - 2 lr is 0.8, and -1.4.
    Attack("offset", HEALTHY, lambda v: 1e6 + bowl(v), {**AT_ONE, "lr": 0.1}),
    Attack("offset", TOO_LARGE, lambda v: 1e6 + bowl(v), {**AT_ONE, "lr": 1.2}),
    # The loss itself is rounded to 1e-4 here, its gradient is not.
    Attack("huge offset", HEALTHY, lambda v: 1e12 + bowl(v), {**AT_ONE, "lr": 0.1}),
    # A factor c divides every rate by c: 500 steps of lr L'' = 2e-13 move nothing.
    Attack("1e-12", TOO_SMALL, lambda v: 1e-12 * bowl(v), {**AT_ONE, "lr": 0.1}),
    Attack("1e8", TOO_LARGE, lambda v: 1e8 * bowl(v), {**AT_ONE, "lr": 0.1}),
    Attack("1e8", HEALTHY, lambda v: 1e8 * bowl(v), {**AT_ONE, "lr": 1e-9}),
    # From -1.5 the first step is 2e-10 x 7.7e8 = 0.15; at LEFT lr L'' = 0.15.
    Attack("1e8, two wells", WRONG_BASIN, lambda v: 1e8 * double_well(v),
           {**RIGHT_WELL, "start": -1.5, "lr": 2e-10}),
    # lr L'' = 0.086, and 8.6e-8.
    Attack("1e-8, two wells", HEALTHY, lambda v: 1e-8 * double_well(v),
           {**RIGHT_WELL, "start": 0.5, "lr": 1e6}),
    Attack("1e-8, two wells", TOO_SMALL, lambda v: 1e-8 * double_well(v),
           {**RIGHT_WELL, "start": 0.5, "lr": 1.0}),
    # v in units of 1e-4: L'' = 8.6e8, so that lr L'' = 0.86, and 8.6.
    Attack("range of 4e-4", HEALTHY, lambda v: double_well(1e4 * v),
           {"range": (-2e-4, 2e-4), "target": 1e-4 * RIGHT, "start": 0.5e-4, "lr": 1e-9}),
    Attack("range of 4e-4", TOO_LARGE, lambda v: double_well(1e4 * v),
           {"range": (-2e-4, 2e-4), "target": 1e-4 * RIGHT, "start": 0.5e-4, "lr": 1e-8}),
    # v in units of 1e4: lr L'' = 0.074 at LEFT, and the first step is 770.
    Attack("range of 4e4", WRONG_BASIN, lambda v: double_well(1e-4 * v),
           {"range": (-2e4, 2e4), "target": 1e4 * RIGHT, "start": -1.5e4, "lr": 1e6}),
    # A narrow range far from zero: four figures of a value are no value in it.
    Attack("far from zero", TOO_LARGE, lambda v: bowl(v - 1e6),
           {"range": (1e6 - 1, 1e6 + 3), "target": 1e6 + 1, "start": 1e6 + 0.2, "lr": 1.2}),
    Attack("far from zero, two wells", WRONG_BASIN, lambda v: double_well(v - 1e6),
           {"range": (1e6 - 2, 1e6 + 2), "target": 1e6 + RIGHT, "start": 1e6 - 1.5, "lr": 0.02}),
]  # fmt: skip
ENDS = [
    # Factors 0.8 and -1.4 about a minimum that is an end of the range.
    Attack("minimum at the end", HEALTHY, bowl,
           {"range": (1.0, 3.0), "target": 1.0, "start": 2.0, "lr": 0.1}),
    Attack("minimum at the end", TOO_LARGE, bowl,
           {"range": (1.0, 3.0), "target": 1.0, "start": 2.0, "lr": 1.2}),
    # 1 - lr L'' t per step: (0.998)^500 = 0.37 of the way is left, 0.37 > 0.02.
    Attack("minimum at the end", TOO_SMALL, bowl,
           {"range": (1.0, 3.0), "target": 1.0, "start": 2.0, "lr": 0.001}),
    # Half a tolerance inside the end, which the run crosses: L'' = 2 there, too.
    Attack("minimum beside the end", TOO_LARGE, lambda v: (v - 1.01) ** 2,
           {"range": (1.0, 3.0), "target": 1.01, "start": 2.0, "lr": 1.2}),
    Attack("minimum beside the end", HEALTHY, lambda v: (v - 1.01) ** 2,
           {"range": (1.0, 3.0), "target": 1.01, "start": 2.0, "lr": 0.1}),
    # The minimum lies where the period is cut: -pi and pi are one place.
    Attack("on the seam", HEALTHY, lambda v: 1 + torch.cos(v),
           {"period": 2 * math.pi, "target": math.pi, "start": 2.0, "lr": 0.1}),
    Attack("on the seam", {"healthy", "equivalent_solution"}, lambda v: 1 + torch.cos(v),
           {"period": 2 * math.pi, "target": math.pi, "start": -2.0, "lr": 0.1}),
    # Where 1.97 - 0.1 k bounces between 1.07 and 0.97; the tolerance is 0.02. The square's factor
    # is 0.8, and any rate below 0.02 bounces within the tolerance.
    Attack("kink at the end", {"kink", "step_too_large"}, lambda v: (v - 1).abs(),
           {"range": (1.0, 3.0), "target": 1.0, "start": 1.97, "lr": 0.1}),
    # The loss goes on falling beyond the end, where the target is, towards v = 6: factor 0.8.
    Attack("minimum past the end", UNREACHABLE, lambda v: (v - 6) ** 2,
           {"range": (0.0, 5.0), "target": 5.0, "start": 2.0, "lr": 0.1}),
    # e^v rises as lr t, v = log(e^2 + lr t): 3.3 after 200 steps, and the end is not passed.
    Attack("falling to the end", TOO_SMALL, lambda v: torch.exp(-v),
           {"range": (0.0, 5.0), "target": 5.0, "start": 2.0, "lr": 0.1, "steps": 200}),
    # (sqrt v - 1)^2: the slope is infinite at the end 0; at 1 L'' = 1/2, factor 0.95.
    Attack("root's domain", HEALTHY, lambda v: (v.sqrt() - 1) ** 2,
           {"range": (0.0, 4.0), "target": 1.0, "start": 0.2, "lr": 0.1}),
    # L'' = 2 / cos^2(1/2) = 2.6, factor 0.74; slopes are infinite at both ends.
    Attack("arc sine", HEALTHY, lambda v: (v.asin() - 0.5) ** 2,
           {"range": (-1.0, 1.0), "target": math.sin(0.5), "start": 0.0, "lr": 0.1}),
    # The wall at the end is 100 high, what is 1 lower at -1/2 is 1% of that.
    Attack("wall", UNREACHABLE, lambda v: (v + 0.5) ** 2 + 1e-3 / (3.00001 - v),
           {**AT_ONE, "target": 0.5, "lr": 0.1}),
    # e^3d - 3 d - 1: L'' = 9, factor -0.35; to the left the slope is never beyond 3.
    Attack("steep on one side", HEALTHY, lambda v: torch.exp(3 * (v - 1)) - 3 * (v - 1) - 1,
           {"range": (-3.0, 3.0), "target": 1.0, "start": -2.0, "lr": 0.15}),
]  # fmt: skip
FLAT = [
    # d^4 falls as d' = -4 lr d^3, 1/d^2 = 1/0.8^2 + 8 lr t: 402 after 500 steps, d = 0.0499. Rates
    # below 2 / (4 x 0.8^2) = 0.78 stay on one side or come nearer; 5 throws it from -0.8 to 9.4.
    Attack("quartic", TOO_SMALL, lambda v: (v - 1) ** 4, {**AT_ONE, "lr": 0.1}),
    Attack("quartic", TOO_LARGE, lambda v: (v - 1) ** 4, {**AT_ONE, "lr": 5.0}),
    # Twice the steps: 1/d^2 = 802, d = 0.035.
    Attack("quartic", HEALTHY, lambda v: (v - 1) ** 4, {**AT_ONE, "lr": 0.1, "steps": 1000}),
    # d^6: 1/d^4 = 1/0.5^4 + 24 lr t = 1216, d = 0.17; the tolerance is 0.03.
    Attack("sextic", TOO_SMALL, lambda v: (v - 0.3) ** 6,
           {"range": (-1.0, 2.0), "target": 0.3, "start": -0.2, "lr": 0.1}),
    # All of [-1, 1] is lowest: descent ends at its edge, and the loss cannot tell 0 from 1.
    Attack("valley", UNREACHABLE, lambda v: torch.relu(v.abs() - 1) ** 2,
           {"range": (-3.0, 3.0), "target": 0.0, "start": 2.0, "lr": 0.1}),
    # Below 1/2 the loss is constant.
    Attack("clamped", {"no_gradient", "flat_start"}, lambda v: bowl(v.clamp(0.5, 3.0)),
           {**AT_ONE, "lr": 0.1}),
]  # fmt: skip
KINKS = [
    # 0.23 + 0.1 k bounces between 0.93 and 1.03; the square's factor is 0.8.
    Attack("modulus", {"kink"}, lambda v: (v - 1).abs(), {**AT_ONE, "start": 0.23, "lr": 0.1}),
    # 0.99 and 1: within the tolerance.
    Attack("modulus", HEALTHY, lambda v: (v - 1).abs(), {**AT_ONE, "start": 0.23, "lr": 0.01}),
    # The square keeps the kink, of slope 10; rates below 0.04 bounce within the tolerance.
    Attack("modulus and 5", {"kink", "step_too_large"}, lambda v: (v - 1).abs() + 5,
           {**AT_ONE, "start": 0.23, "lr": 0.1}),
    # From 1.03 back to 0.73 and on: four steps for ever. The square's factor is 0.8 on the left,
    # where it stays.
    Attack("slopes 3 and -1", {"kink"}, lambda v: torch.maximum(3 * (v - 1), 1 - v),
           {**AT_ONE, "start": 0.23, "lr": 0.1}),
    # |d|^(3/2) is no kink, but of infinite curvature: a cycle where 2 d = lr 3/2 d^(1/2), that is
    # d = (3/4 lr)^2, which attracts: 0.0056, and 0.56.
    Attack("power 3/2", HEALTHY, lambda v: (v - 1).abs() ** 1.5, {**AT_ONE, "lr": 0.1}),
    Attack("power 3/2", TOO_LARGE, lambda v: (v - 1).abs() ** 1.5, {**AT_ONE, "lr": 1.0}),
    # Across it 0.3 a step is a cycle between 0.15 on both sides; 500 steps of 0.001 are 0.5 of 0.8.
    Attack("Huber", TOO_LARGE, huber, {**AT_ONE, "lr": 3.0}),
    Attack("Huber", TOO_SMALL, huber, {**AT_ONE, "lr": 0.01}),
    # |d|^(1/2): steps of lr / (2 sqrt|d|) grow without bound towards 1, where no rate rests.
    # The square is the modulus, which bounces between 0.93 and 1.03.
    Attack("cusp, power 1/2", {"kink", "no_working_lr", "step_too_large"},
           lambda v: (v - 1).abs().sqrt(), {**AT_ONE, "start": 0.23, "lr": 0.1},
           hangs_on_rounding=True),
    # The square |d|^(4/3) has a cycle where 2 d = lr 4/3 d^(1/3), d = 0.017, within the tolerance,
    # which attracts: -(lr 4/9 d^(-2/3) - 1) = 0.33.
    Attack("cusp, power 2/3", {"kink", "step_too_large"}, lambda v: (v - 1).abs() ** (2 / 3),
           {**AT_ONE, "start": 0.23, "lr": 0.1}, hangs_on_rounding=True),
]  # fmt: skip
EQUAL_MINIMA = [
    # From -1.5 the first step is 0.15, lr L'' = 0.16 at -1.
    Attack("twins", WRONG_BASIN, twins,
           {"range": (-2.0, 2.0), "target": 1.0, "start": -1.5, "lr": 0.02}),
    # Without a target any of the lowest will do.
    Attack("twins", HEALTHY, twins, {"range": (-2.0, 2.0), "start": 1.5, "lr": 0.02}, 1.0),
    Attack("twins, the other", HEALTHY, twins,
           {"range": (-2.0, 2.0), "start": -1.5, "lr": 0.02}, -1.0),
    # 2.0 lies beside 2 pi / 3: L'' = 9, factor 0.1. Where the period is said, that is the target.
    Attack("three a turn", {"equivalent_solution"}, lambda v: 1 - torch.cos(3 * v),
           {"period": 2 * math.pi / 3, "target": 0.0, "start": 2.0, "lr": 0.1}),
    Attack("three a turn", WRONG_BASIN, lambda v: 1 - torch.cos(3 * v),
           {"period": 2 * math.pi, "target": 0.0, "start": 2.0, "lr": 0.1}),
    Attack("three a turn", HEALTHY, lambda v: 1 - torch.cos(3 * v),
           {"period": 2 * math.pi, "start": 2.0, "lr": 0.1}, 2 * math.pi / 3),
    # Minima every 0.35; 0.8 leads to 0.7. L'' = 2 (2 pi / 0.7)^2 = 161, factor 0.2.
    Attack("six a range", WRONG_BASIN, lambda v: torch.sin(2 * math.pi * v / 0.7) ** 2,
           {"range": (0.0, 2.1), "target": 0.35, "start": 0.8, "lr": 0.005}),
    # The left one is 2e-4 lower, 1e-5 of the height.
    Attack("nearly twins", HEALTHY,
           lambda v: twins(v) + 1e-4 * v + 1e3 * torch.relu(v - 1.9) ** 2,
           {"range": (-2.0, 2.0), "target": 1.0, "start": 0.2, "lr": 0.1}),
]  # fmt: skip
NO_MINIMUM = [
    # L' = (v - 1)^2 (4 v + 3.5): a minimum at -7/8, of -4.1, an inflection at the target. From the
    # left descent leads away; from the right it creeps up to the target, 1/d = 1/0.8 + 0.75 t.
    Attack("inflection", UNREACHABLE, lambda v: (v - 1) ** 3 * (v + 1.5),
           {"range": (-2.0, 2.0), "target": 1.0, "start": 0.5, "lr": 0.05}),
    Attack("inflection", HEALTHY, lambda v: (v - 1) ** 3 * (v + 1.5),
           {"range": (-2.0, 2.0), "target": 1.0, "start": 1.8, "lr": 0.1}),
    Attack("maximum", UNREACHABLE, lambda v: 1 - torch.cos(v),
           {"period": 2 * math.pi, "target": math.pi, "start": 2.0, "lr": 0.1}),
    # 2 (v - 1) + 1 / (3.001 - v)^2 = 0 at 0.888: beyond the tolerance of 0.04.
    Attack("moved by a pole", UNREACHABLE, lambda v: bowl(v) + 1 / (3.001 - v),
           {**AT_ONE, "lr": 0.1}),
]  # fmt: skip
NEEDLES = [
    # The well holds less than 2 / 2.2e5 = 9e-6; at 0.1 its walls throw the run 28 away.
    Attack("needle", TOO_LARGE, needle,
           {"range": (-3.0, 3.0), "target": 1.0, "start": 0.5, "lr": 0.1}),
    # Exactly on the cosine's top no slope is left at all.
    Attack("needle from the top", {"flat_start"}, needle,
           {"range": (-3.0, 3.0), "target": 1.0, "start": 0.0, "lr": 0.01}),
    # ln(1 + 100 d^2): L'' = 200 at 1, slopes of at most 10: factor 0, and -9.
    Attack("logarithm", HEALTHY, lambda v: torch.log(1 + 100 * bowl(v)), {**AT_ONE, "lr": 0.005}),
    Attack("logarithm", TOO_LARGE, lambda v: torch.log(1 + 100 * bowl(v)), {**AT_ONE, "lr": 0.05}),
    # A minimum every 2 pi / 60 = 0.1, for the slope of the ripples is 18, of the bowl 1.6.
    Attack("ripples", WRONG_BASIN, lambda v: bowl(v) + 0.3 * (1 - torch.cos(60 * (v - 1))),
           {**AT_ONE, "lr": 0.001}),
    # 0.2 is thousands of minima away, and steps of 0.01 x 1650 leave the range.
    Attack("rough", {"no_working_lr", "step_too_large", "wrong_basin"}, rough,
           {**AT_ONE, "lr": 0.01}),
]  # fmt: skip
# A hundredth of the range holds several minima. Up to 0.5 / 2^4.5 = 0.0221 from 20, but not up to
# 0.5 / 2^4, the loss is below 5% of its height of 1.217: x = 0.442 and 0.625, 0.032 and 0.064.
TONE: dict[str, Any] = {"range": (0.0, 50.0), "target": 20.0}
NARROW = [
    # lr L'' = 0.13.
    Attack("tone", HEALTHY, tone, {**TONE, "start": 20.1, "lr": 1e-3}, closeness=0.5 / 2**4.5),
    # lr L'' = 0.05 at 20.386, where 0.95^500 of the way are left.
    Attack("tone", WRONG_BASIN, tone, {**TONE, "start": 20.45, "lr": 1e-3},
           closeness=0.5 / 2**4.5),
    # lr L'' = 2.7: a cycle where 2 d = lr L', x = 4 (sin x / x^2 - cos x / x), x = 1.67, d = 0.084.
    Attack("tone", TOO_LARGE, tone, {**TONE, "start": 20.2, "lr": 0.02}, closeness=0.5 / 2**4.5),
    Attack("tone, no target", TOO_LARGE, tone, {"range": (0, 50), "start": 20.2, "lr": 0.02}, 20.0,
           closeness=0.5 / 2**4.5),
    # Of the root, of height 1.103, the slope at 20 is 20 / 6^0.5 = 8.2; it is below 5% up to
    # 0.0067. It bounces within 5e-4 x 8.2 = 0.0041, and by 0.16.
    Attack("root of the tone", HEALTHY, lambda v: tone(v).sqrt(),
           {"range": (0, 50), "start": 20.1, "lr": 5e-4}, 20.0, closeness=0.5 / 2**6.5),
    Attack("root of the tone", {"kink", "step_too_large"}, lambda v: tone(v).sqrt(),
           {"range": (0, 50), "start": 20.1, "lr": 0.02}, 20.0, closeness=0.5 / 2**6.5),
    # ln v + 1 / (2 v^2) has L' = 1 / v - 1 / v^3: -120 at 0.2, so that 6 is added, and 0.16 there.
    Attack("thrown", TOO_LARGE, lambda v: v.log() + 0.5 / v**2,
           {"range": (0.05, 5), "start": 0.2, "lr": 0.05, "steps": 300}, 1.0),
    Attack("thrown, target", TOO_LARGE, lambda v: v.log() + 0.5 / v**2,
           {"range": (0.05, 20), "start": 0.1, "lr": 0.1, "target": 1.0}),
]  # fmt: skip
WRONG_GRADIENTS = [
    # 1 - 4 lr = 0.6 and 1 - lr = 0.9: wrong, and there all the same.
    Attack("twice the slope", HEALTHY, with_slope(bowl, lambda v: 4 * (v - 1)),
           {**AT_ONE, "lr": 0.1}),
    Attack("half of it detached", HEALTHY, lambda v: (v.detach() * v - 1) ** 2,
           {"range": (0.2, 3.0), "target": 1.0, "start": 0.5, "lr": 0.1}),
    # lr / 57 per step: sin d falls as exp(-0.00175 t), 0.42 of it in 500 steps.
    Attack("per degree", WRONG,
           with_slope(lambda v: 1 - torch.cos(v), lambda v: torch.sin(v) * math.pi / 180),
           {"target": 0.0, "start": 2.0, "lr": 0.1}),
    # Without the sine's term it rests at 1; 2 (v - 1) + 0.9 cos 3 v = 0 at 1.314 only.
    Attack("a term missing", WRONG,
           with_slope(lambda v: bowl(v) + 0.3 * torch.sin(3 * v), lambda v: 2 * (v - 1)),
           {"range": (-1.0, 3.0), "start": 0.2, "lr": 0.1}, 1.314),
    # Steps of 0.01 do not cross 0.1 that leads back; nor steps of 0.001 the 0.003.
    Attack("reversed in a part", WRONG, with_slope(bowl, reversed_between(0.5, 0.6)),
           {**AT_ONE, "lr": 0.01}),
    Attack("reversed in a thousandth", WRONG, with_slope(bowl, reversed_between(0.51, 0.513)),
           {**AT_ONE, "lr": 0.001}),
    Attack("arc sine, sign", WRONG,
           with_slope(lambda v: (v.asin() - 0.5) ** 2,
                      lambda v: -2 * (v.asin() - 0.5) / (1 - v**2).sqrt()),
           {"range": (-1.0, 1.0), "target": math.sin(0.5), "start": 0.0, "lr": 0.1}),
]  # fmt: skip
OPTIMIZERS = [
    # Heavy ball rests below 2 (1 + 0.9) / 4 = 0.95: there a root of z^2 - (1.9 - 4 lr) z + 0.9 is
    # -1; at 0.94 both have the modulus sqrt(0.9).
    Attack("heavy ball at its bound", TOO_LARGE, steep_bowl, {**AT_ONE, "lr": 0.95, **HEAVY}),
    Attack("heavy ball below it", HEALTHY, steep_bowl, {**AT_ONE, "lr": 0.94, **HEAVY}),
    # 3.8 / 8.59 = 0.4425.
    Attack("heavy ball above it", TOO_LARGE, double_well,
           {**RIGHT_WELL, "start": 0.3, "lr": 0.6, **HEAVY}),
    # Nesterov: z^2 - 1.9 q z + 0.9 q with q = 1 - 4 lr is zero at -1 where q = -1 / 2.8, lr 0.339.
    # At 0.33 the roots are 0.31 and -0.92.
    Attack("Nesterov above its bound", TOO_LARGE, steep_bowl, {**AT_ONE, "lr": 0.4, **NESTEROV}),
    Attack("Nesterov below it", HEALTHY, steep_bowl, {**AT_ONE, "lr": 0.33, **NESTEROV}),
    # A rate that peaks at 0.6, above 1/2, in its first third, and ends at 0.6 / 25e4; the factors
    # 1 - 4 lr are small on the way there and back.
    Attack("one cycle", HEALTHY, steep_bowl, {**AT_ONE, "lr": 0.6, "schedule": "one-cycle"}),
    # 1.4^125 = 1.8e18, then 0.76^125 = 1.3e-15, 0.976^125 = 0.048, 0.9976^125 = 0.74: 68 away.
    Attack("steps down too late", TOO_LARGE, steep_bowl, {**AT_ONE, "lr": 0.6, "schedule": "step"}),
    # Under a cosine the mean of ln|1 - 2 lr (1 + cos x)| is ln lr for lr > 1/4: the rate may begin
    # far above 1/2, as long as it is below 1.
    Attack("cosine from 0.6", HEALTHY, steep_bowl, {**AT_ONE, "lr": 0.6, "schedule": "cosine"}),
    Attack("cosine from 0.9", HEALTHY, steep_bowl, {**AT_ONE, "lr": 0.9, "schedule": "cosine"}),
    Attack("cosine from 1.1", TOO_LARGE, steep_bowl, {**AT_ONE, "lr": 1.1, "schedule": "cosine"}),
    # From a height of 6.4 a heavy ball rolls over the barrier of 1.0, though the start lies in the
    # right basin and its rate is a twentieth of what that holds.
    Attack("rolls over", TOO_LARGE, double_well, {**RIGHT_WELL, "start": 1.9, "lr": 0.02, **HEAVY}),
    # Rates sum up to 0.005 x 500 / ln 100 = 0.54: 0.8 exp(-4 x 0.54) = 0.09 are left.
    Attack("decays too early", TOO_SMALL, steep_bowl,
           {**AT_ONE, "lr": 0.005, "schedule": "exponential"}),
    # Steps grow from 0.01 by 1.2 until they have summed up to 0.33, at 0.075: too short to leave.
    Attack("Rprop", WRONG_BASIN, double_well,
           {**RIGHT_WELL, "optimizer": "rprop", "start": -1.3, "lr": 0.01}),
]  # fmt: skip
ROUNDING = [
    # Casts have the slope 1: factor 0.8, down to one rounding of 1, 2^-11 and 2^-24.
    Attack("float16", HEALTHY, lambda v: (v.to(torch.float16).to(torch.float64) - 1) ** 2,
           {**AT_ONE, "lr": 0.1}),
    Attack("float32", HEALTHY, lambda v: (v.to(torch.float32) - 1) ** 2, {**AT_ONE, "lr": 0.1}),
    # What is added at random has no slope.
    Attack("noise", HEALTHY, lambda v: bowl(v) + 0.01 * torch.randn((), dtype=torch.float64),
           {**AT_ONE, "lr": 0.1}),
    # Nor does it tell how near to the minimum is near.
    Attack("loud noise", HEALTHY, lambda v: bowl(v) + 0.4 * torch.randn((), dtype=torch.float64),
           {**AT_ONE, "lr": 0.1}),
]  # fmt: skip
ATTACKS = [
    *SCALE, *ENDS, *FLAT, *KINKS, *EQUAL_MINIMA, *NO_MINIMUM, *NEEDLES, *NARROW,
    *WRONG_GRADIENTS, *OPTIMIZERS, *ROUNDING,
]  # fmt: skip
# One of each group, the quickest that says something of its own.
QUICK = {
    "1e-8, two wells: healthy",
    "1e8: healthy",
    "minimum at the end: step_too_large",
    "clamped: flat_start or no_gradient",
    "modulus: healthy",
    "three a turn: equivalent_solution",
    "maximum: target_unreachable",
    "tone: wrong_basin",
    "root of the tone: healthy",
    "a term missing: wrong_gradient",
    "one cycle: healthy",
    "float32: healthy",
}


def _id(attack: Attack) -> str:
    return f"{attack.name}: {' or '.join(sorted(attack.verdicts))}"


def _params() -> list[Any]:
    return [
        pytest.param(a, id=_id(a), marks=[] if _id(a) in QUICK else [pytest.mark.slow])
        for a in ATTACKS
    ]


def _advice(found: Diagnosis) -> list[str]:
    """Returns what findings say that a run's settings should be."""
    return [
        finding.advice
        for finding in found.findings
        if finding.present and finding.sufficient and finding.cause not in MENDED_IN_CODE
    ]


def _steps_said(words: str) -> int | None:
    said = re.search(r"(?:arrives in|after) (\d+) steps?", words)
    return None if said is None else int(said[1])


@pytest.mark.long
@pytest.mark.each(10)
@pytest.mark.parametrize("attack", _params())
def test_verdict_is_true_and_its_advice_works(attack: Attack) -> None:
    found = gd.diagnose(attack.function, **attack.keywords)
    plan = attack.plan()
    assert found.verdict in attack.verdicts, found.headline
    assert found.is_healthy == plan.arrives
    if found.verdict == "healthy":
        assert _steps_said(found.headline) == plan.arrival
        return
    for advice in _advice(found):
        changed = plan.changed(advice)
        assert changed.arrives, advice
        assert _steps_said(advice) in (None, changed.arrival), advice
    for remedy in found.remedies:
        if remedy.works and not attack.hangs_on_rounding:
            assert follow(plan, remedy.name, remedy.change), remedy


@pytest.mark.long
@pytest.mark.parametrize(("steps", "words"), [(1, "1 step is too few"), (9, "9 steps are too few")])
def test_a_run_too_short_to_judge_says_so(steps: int, words: str) -> None:
    found = gd.diagnose(steep_bowl, **AT_ONE, lr=1e-3, steps=steps)
    assert found.verdict == "inconclusive"
    assert words in found.headline


@pytest.mark.long
def test_a_rate_that_is_proven_too_large_needs_no_more_steps() -> None:
    # At the minimum lr x curvature is 10 with the rate 0.1, and 1 with the advised 0.01 or so.
    found = gd.diagnose(
        lambda v: torch.log(1 + 50 * (v - 0.5) ** 2), range=(-2, 3), start=2.0, target=0.5, lr=0.1,
        steps=12,
    )  # fmt: skip
    assert found.verdict == "step_too_large"
    assert float(re.search(r"--lr (\S+)", found.headline)[1]) < 0.02


def test_ids_are_unique_and_few_are_quick() -> None:
    ids = [_id(attack) for attack in ATTACKS]
    assert len(set(ids)) == len(ids)
    assert set(ids) >= QUICK
