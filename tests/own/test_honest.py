"""Faults of a user's code, each with its siblings: the verdict, its evidence, and its first advice.

What is right was worked out on paper or with a plain loop.
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import gabordiag as gd
from gabordiag.api import as_objective
from gabordiag.diagnosis.verdict import Diagnosis
from gabordiag.errors import GabordiagError, UsageError

INPUT = torch.from_numpy(np.random.default_rng(3).standard_normal((2, 16)))
OF_MODULE: dict[str, Any] = {
    "param": "theta", "input": INPUT, "target": 0.5, "lr": 0.1, "steps": 80,
    "loss": "mse", "period": 2 * math.pi,
}  # fmt: skip


class Turned(nn.Module):
    """Mixes the halves of its input by the cosine and sine of theta."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(-0.5, dtype=torch.float64))
        self.kept: Any = None
        self.calls = 0

    def weights(self) -> Tensor:
        return torch.stack([torch.cos(self.theta), torch.sin(self.theta)])

    def forward(self, x: Tensor) -> Tensor:
        return self.weights() @ x


def siblings(cases: Sequence[Any]) -> list[Any]:
    """Returns the first case, and the others of its kind for the long tests."""
    first, *others = cases
    return [first, *(pytest.param(*_row(case), marks=pytest.mark.slow) for case in others)]


def _row(case: Any) -> tuple[Any, ...]:
    return case if isinstance(case, tuple) else (case,)


def finding(diagnosis: Diagnosis, cause: str) -> Any:
    return next(found for found in diagnosis.findings if found.cause == cause)


# State that a loop carries: what is kept from the first step ...


class KeepsWeights(Turned):
    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = self.weights()
        return self.kept @ x


class KeepsInDictionary(Turned):
    def __init__(self) -> None:
        super().__init__()
        self.kept = {}

    def forward(self, x: Tensor) -> Tensor:
        return self.kept.setdefault("w", self.weights()) @ x


class KeepsPart(Turned):
    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = torch.cos(self.theta)
        return self.kept * x[0] + torch.sin(self.theta) * x[1]


class KeepsOutput(Turned):
    def forward(self, x: Tensor) -> Tensor:
        self.kept = self.weights() @ x + (0.5 * self.kept if self.kept is not None else 0.0)
        return self.kept


class KeepsInSubmodule(Turned):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Module()
        self.inner.kept = None

    def forward(self, x: Tensor) -> Tensor:
        if self.inner.kept is None:
            self.inner.kept = self.weights()
        return self.inner.kept @ x


class KeepsDetached(Turned):
    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = self.weights().detach()
        return self.kept @ x


@pytest.mark.parametrize(
    "module",
    siblings(
        [KeepsWeights, KeepsInDictionary, KeepsPart, KeepsOutput, KeepsInSubmodule, KeepsDetached]
    ),
)
def test_what_is_kept_from_the_first_step_is_no_gradient(module: type[Turned]) -> None:
    found = gd.diagnose(module(), **OF_MODULE)
    assert found.verdict == "no_gradient", found.headline


# ... or changes with each.


class Counts(Turned):
    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) * (1 + 0.1 * self.calls)


class CountsInBuffer(Turned):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("gain", torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        self.gain *= 1.05
        return super().forward(x) * self.gain


class RebindsBuffer(CountsInBuffer):
    def forward(self, x: Tensor) -> Tensor:
        self.gain = self.gain + 0.1
        return Turned.forward(self, x) * self.gain


class CountsInList(Turned):
    def __init__(self) -> None:
        super().__init__()
        self.kept = []

    def forward(self, x: Tensor) -> Tensor:
        self.kept.append(0)
        return super().forward(x) + 0.05 * len(self.kept)


class Anneals(Turned):
    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) * 0.97**self.calls


@pytest.mark.parametrize(
    "module", siblings([Counts, CountsInBuffer, RebindsBuffer, CountsInList, Anneals])
)
def test_what_changes_from_step_to_step_is_named(module: type[Turned]) -> None:
    user = module()
    before, random_before = copy.deepcopy(user.state_dict()), torch.get_rng_state()
    python = random.getstate()
    found = gd.diagnose(user, **OF_MODULE)
    assert found.verdict == "nondeterministic", found.headline
    evidence = finding(found, "nondeterministic").evidence
    assert evidence["state"], evidence
    # The loop's own loss, by hand.
    other = module()
    with torch.no_grad():
        target = copy.deepcopy(other)
        target.theta.fill_(0.5)
        goal = target(INPUT)
    other_losses = []
    with torch.no_grad():
        for value in found.run.trajectory.value[: evidence["step"] + 1]:
            other.theta.fill_(float(value))
            other_losses.append(float((other(INPUT) - goal).square().mean()))
    assert math.isclose(other_losses[evidence["step"]], evidence["loss"], rel_tol=1e-9)
    # The user's own module is as it was.
    assert user.calls == 0
    assert user.training
    assert all(torch.equal(before[name], value) for name, value in user.state_dict().items())
    assert torch.equal(random_before, torch.get_rng_state())
    assert python == random.getstate()


class Harmless(Turned):
    """Counts its calls, and does nothing with the number."""

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


class RunningMean(Turned):
    """Batch normalisation in training: its running mean does not reach the output."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(16, dtype=torch.float64, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        self.norm(x)
        return super().forward(x)


@pytest.mark.parametrize("module", siblings([Turned, Harmless, RunningMean]))
def test_state_without_effect_is_healthy(module: type[Turned]) -> None:
    found = gd.diagnose(module(), **OF_MODULE)
    assert found.verdict == "healthy", found.headline


# A parameter that no gradient reaches.


def frozen_by_flag() -> nn.Module:
    return Turned().requires_grad_(False)


class FrozenInInit(Turned):
    def __init__(self) -> None:
        super().__init__()
        self.theta.requires_grad = False


class FrozenOfSeveral(Turned):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.theta.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.other


def frozen_by_loop() -> nn.Module:
    module = Turned()
    for parameter in module.parameters():
        parameter.requires_grad = False
    return module


@pytest.mark.parametrize(
    "make", siblings([frozen_by_flag, FrozenInInit, FrozenOfSeveral, frozen_by_loop])
)
def test_frozen_parameter_is_no_gradient(make: Callable[[], nn.Module]) -> None:
    found = gd.diagnose(make(), **OF_MODULE)
    assert found.verdict == "no_gradient"
    assert found.run.outcome == "frozen"
    assert finding(found, "no_gradient").evidence["where"]["kind"] == "frozen"


@pytest.mark.parametrize("start", siblings([0.98, 1.0 - 1e-3, -0.97, 0.5, -0.4]))
def test_outcome_without_gradient_is_frozen(start: float) -> None:
    """Of (v^2 - 1)^2, whose minima are at -1 and 1, with its graph cut."""

    def loss(v: Tensor) -> Tensor:
        return (v.detach() ** 2 - 1) ** 2 * torch.ones((), requires_grad=True)

    found = gd.diagnose(loss, range=(-2, 2), start=start, target=-1.0, lr=0.1, steps=40)
    assert (found.verdict, found.run.outcome) == ("no_gradient", "frozen")


# Nothing to learn.

FLAT: list[Callable[[Tensor], Tensor]] = [
    lambda v: 0 * v,
    lambda v: 0 * v + 2,
    lambda v: torch.relu(v - 100),
    lambda v: torch.relu(v - 100) * 3 - 7,
    lambda v: (v - v).square(),
    lambda v: torch.zeros(()) * v,
]


@pytest.mark.parametrize("loss", siblings(FLAT))
def test_a_loss_that_does_not_vary_is_flat(loss: Callable[[Tensor], Tensor]) -> None:
    found = gd.diagnose(loss, range=(-1.5, 1.5), start=0.1, target=0.785, lr=0.1, steps=40)
    assert found.verdict == "flat_objective"
    assert found.sweep is not None
    assert not found.sweep.landscape.points
    assert not gd.sweep(loss, range=(-1.5, 1.5), start=0.1, points=11).landscape.points


IMAGE = np.random.default_rng(0).random((30, 30))
RAMP = np.mgrid[:34, :34][1].astype(float)
WIDE = {"wavelength": 1e6, "sigma": 2, "gamma": 1, "kernel_size": 13, "theta0": 0}
OF_RAMP = {"wavelength": 30, "sigma": 10, "psi": 0, "gamma": 0.3, "kernel_size": 11}


@pytest.mark.parametrize(
    ("image", "settings"),
    siblings(
        [
            (IMAGE, {**WIDE, "loss": "mse"}),
            (IMAGE, {**WIDE, "loss": "rmse"}),
            (IMAGE, {**WIDE, "loss": "cosine"}),
            (IMAGE, {**WIDE, "loss": "mse", "pixel_scale": 255}),
            (RAMP, {**OF_RAMP, "loss": "cosine", "target_theta": 1.2}),
            (RAMP, {**OF_RAMP, "loss": "cosine", "target_theta": 0.4}),
        ]
    ),
)
def test_flat_beside_the_responses_is_flat(image: Any, settings: dict[str, Any]) -> None:
    """A round filter, or a constant image, whose responses differ by rounding alone."""
    found = gd.diagnose(gd.Experiment(image=image, **settings), lr=0.1, steps=60)
    assert found.verdict == "flat_objective", found.headline
    assert found.sweep is not None
    assert not found.sweep.landscape.certificate.certified
    assert not found.sweep.landscape.points


# Few digits.


class Half(Turned):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).half()


class Brain(Turned):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).to(torch.bfloat16)


class HalfInside(Turned):
    def forward(self, x: Tensor) -> Tensor:
        return (self.weights().half() @ x.half()).float()


class Single(Turned):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).float()


@pytest.mark.parametrize("module", siblings([Half, Brain, HalfInside, Single]))
def test_few_digits_are_no_wrong_gradient(module: type[Turned]) -> None:
    found = gd.diagnose(module(), **OF_MODULE)
    assert not any(f.present for f in found.findings if f.cause == "wrong_gradient")
    assert ("quantised" in found.headline) == (module in (Half, Brain))


SAMPLES = torch.arange(200) / 2000


@pytest.mark.long
@pytest.mark.parametrize(
    "loss",
    siblings(
        [
            lambda v: ((v.float() - 1) ** 2).log1p(),
            lambda v: (torch.sin(v * SAMPLES * 30) - torch.sin(SAMPLES * 30)).square().mean(),
            lambda v: (v * SAMPLES - SAMPLES).abs().mean() + (v.float() - 1) ** 2,
            lambda v: 1e6 + (v.float() - 1) ** 2 * 1e3,
            lambda v: torch.logsumexp((v * SAMPLES[:20] * 9).float(), 0) - 3.5 * v,
        ]
    ),
)
def test_single_precision_inside_is_no_wrong_gradient(loss: Callable[[Tensor], Tensor]) -> None:
    found = gd.diagnose(loss, range=(-1, 3), start=0.5, lr=1e-3, steps=60)
    assert found.verdict != "wrong_gradient", found.headline


@pytest.mark.parametrize(
    ("start", "lr", "dtype"),
    siblings(
        [
            (3000.0, 1e-3, torch.float32),
            (4100.0, 1e-2, torch.float32),
            (1600.0, 1e-3, torch.float32),
            (5900.0, 3e-3, torch.float32),
            (2000.0, 1e-11, torch.float64),
        ]
    ),
)
def test_steps_below_the_last_digit_are_too_small(
    start: float, lr: float, dtype: torch.dtype
) -> None:
    class Volume(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.volume = nn.Parameter(torch.tensor(start, dtype=dtype))

        def forward(self) -> Tensor:
            return 1e-6 * (self.volume - 2500.0) ** 2

    found = gd.diagnose(Volume(), param="volume", range=(1000, 6000), lr=lr, steps=100)
    assert found.verdict == "step_too_small", found.headline
    evidence = finding(found, "step_too_small").evidence
    digit = np.spacing(np.float32(start) if dtype == torch.float32 else start)
    assert math.isclose(evidence["last_digit"], digit)
    assert math.isclose(evidence["step"], lr * 2e-6 * abs(start - 2500), rel_tol=1e-5)


# Advice for code, run as it would be typed.

AT = torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64)
PLUS = torch.tensor([1.0, 0.5], dtype=torch.float64)


def sinc(v: Tensor) -> Tensor:
    x = AT * v
    return ((torch.where(x == 0, torch.ones_like(x), torch.sin(x) / x) - 0.5) ** 2).mean()


def reciprocal(v: Tensor) -> Tensor:
    x = AT * v
    return ((torch.where(x == 0, torch.zeros_like(x), x * x.reciprocal() * v) - 0.5) ** 2).mean()


def overflow(v: Tensor) -> Tensor:
    x = 1000 * (v - 0.4 + AT.abs())
    soft = torch.where(x > 30, x, torch.log1p(torch.exp(x)))
    return (v - 0.4) ** 2 + 0 * soft.sum()


def empty_row(v: Tensor) -> Tensor:
    rows = torch.stack([PLUS * v, 0 * PLUS * v])
    lengths = torch.sqrt((rows**2).sum(1))
    return ((lengths - torch.tensor([0.8, 0.0])) ** 2).mean()


def entropy(v: Tensor) -> Tensor:
    p = torch.stack([0 * v, v**2])
    return (v - 0.6) ** 2 - 0.01 * torch.where(p > 0, p * torch.log(p), 0 * p).sum()


def power(v: Tensor) -> Tensor:
    return ((AT * v) ** 2).pow(0.5).sum().sub(1.8).square()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "operation", "words"),
    siblings(
        [
            (sinc, "div", "safe one"),
            (reciprocal, "reciprocal", "safe one"),
            (overflow, "exp", "clamp(max="),
            (empty_row, "sqrt", "inside the root"),
            (entropy, "log", "clamp(min="),
            (power, "pow", "inside it"),
        ]
    ),
)
def test_nan_at_every_value_is_mended_at_its_line(
    loss: Callable[[Tensor], Tensor], operation: str, words: str
) -> None:
    found = gd.diagnose(loss, range=(0.1, 3.0), start=1.0, lr=0.05, steps=300)
    assert found.verdict == "nonfinite_gradient"
    first = found.remedies[0]
    assert first.name == "repair_code"
    assert first.works, first
    where = first.evidence["where"]
    assert where["operation"] == operation
    assert where["code"]
    assert "test_honest.py" in where["file"]
    assert words in first.change
    assert first.change[1:] in found.headline


def apart(v: Tensor) -> Tensor:
    return torch.sqrt((v[0] - 1) ** 2) + (v[1] - 2) ** 2


def radius(v: Tensor) -> Tensor:
    return (torch.sqrt((v**2).sum()) - 2) ** 2 + (v[0] - 1) ** 2 + 0.3 * v[1]


def of_three(v: Tensor) -> Tensor:
    radius = (v[:2] - 1).square().sum().pow(0.5)
    return (radius - 1) ** 2 + (v[0] - 2) ** 2 + v[2] ** 2


@pytest.mark.long
@pytest.mark.parametrize(
    ("loss", "start", "operation"),
    [
        (apart, [1.0, 0.0], "sqrt"),
        (radius, [0.0, 0.0], "sqrt"),
        (of_three, [1.0, 1.0, 1.0], "pow"),
    ],
)
def test_nan_of_several_parameters_is_mended_at_its_line(
    loss: Callable[[Tensor], Tensor], start: list[float], operation: str
) -> None:
    ranges = [(-3, 3)] * len(start)
    found = gd.diagnose(loss, range=ranges, start=start, lr=0.05, steps=200)
    assert found.verdict == "nonfinite_gradient"
    first = found.remedies[0]
    assert (first.name, first.works) == ("repair_code", True)
    assert first.evidence["where"]["operation"] == operation
    assert first.change[1:] in found.headline


def root_within(v: Tensor) -> Tensor:
    return (v**0.5 - 1) ** 2


@pytest.mark.long
def test_a_repair_that_was_tried_in_vain_is_no_advice() -> None:
    """With a constant inside the root a step from 0 is so long that the next root is negative."""
    found = gd.diagnose(root_within, range=(0, 3), start=0.0, target=1.0, lr=0.1)
    assert found.verdict == "nonfinite_gradient"
    (repair,) = (remedy for remedy in found.remedies if remedy.name == "repair_code")
    assert (repair.works, repair.outcome) == (False, "nonfinite")
    assert repair.change[1:] not in found.headline


def step_at_zero(v: Tensor) -> Tensor:
    return (v - 1) ** 2 + 10 * (v < 0).to(v.dtype)


@pytest.mark.long
def test_a_jump_at_the_start_is_no_noise() -> None:
    found = gd.diagnose(step_at_zero, range=(-2, 2), start=0.0, target=1.0, lr=0.1)
    assert found.verdict == "healthy"
    assert "does not depend" not in found.headline
    assert not any(f.present for f in found.findings if f.cause == "flat_objective")


def root(v: Tensor) -> Tensor:
    return torch.sqrt((v - 1) ** 2)


def arc(v: Tensor) -> Tensor:
    return torch.acos(torch.cos(v) * math.cos(1) + torch.sin(v) * math.sin(1))


def arc_squared(v: Tensor) -> Tensor:
    return arc(v) ** 2


def length(v: Tensor) -> Tensor:
    return torch.stack([v - 1, 2 * v - 2]).square().sum().sqrt()


@pytest.mark.slow
@pytest.mark.parametrize("loss", siblings([root, arc, arc_squared, length]))
def test_a_root_that_starts_at_its_zero_is_mended_at_its_line(
    loss: Callable[[Tensor], Tensor],
) -> None:
    found = gd.diagnose(loss, range=(0, 2), period=0, start=1.0, target=1.0, lr=0.03, steps=60)
    assert found.verdict == "nonfinite_gradient"
    first = found.remedies[0]
    assert first.name == "repair_code"
    assert first.works
    assert "squared loss" not in found.headline


@pytest.mark.slow
def test_square_that_is_nan_as_typed_is_not_advised_alone() -> None:
    """arc(v)^2 is NaN where arc is 0, because zero times infinity is."""
    found = gd.diagnose(arc, range=(0, 2), period=0, start=0.2, target=1.0, lr=0.03)
    assert found.verdict == "kink"
    for remedy in found.remedies:
        if remedy.name == "mse_loss" and remedy.works:
            assert "clamp(" in remedy.change


@pytest.mark.parametrize(
    ("loss", "words"),
    siblings(
        [
            (lambda v: (v.detach() - 1) ** 2, "leave .detach() out"),
            (lambda v: (v.data - 1) ** 2, "leave .data out"),
            (
                lambda v: (torch.tensor([float(v)]).double() - 1).square().sum(),
                "torch's own functions",
            ),
            (lambda v: (torch.as_tensor(math.sin(v)) - 0.8) ** 2, "torch's own functions"),
            (lambda v: (torch.tensor([v, v]) - 1).square().sum().double(), "torch.stack"),
        ]
    ),
)
def test_a_cut_graph_is_mended_at_its_line(loss: Callable[[Tensor], Tensor], words: str) -> None:
    found = gd.diagnose(loss, range=(-1, 2), start=0.2, target=1.0, lr=0.1, steps=60)
    assert found.verdict == "no_gradient"
    assert found.remedies[0].name == "repair_code"
    assert words in found.remedies[0].change
    assert "test_honest.py" in found.remedies[0].change


@pytest.mark.parametrize("start", [-1.5, 1.5])
def test_of_two_lowest_minima_the_right_derivative_may_find_either(start: float) -> None:
    def loss(v: Tensor) -> Tensor:
        return (v.detach() ** 2 - 1) ** 2

    found = gd.diagnose(loss, range=(-2, 2), start=start, lr=0.05, steps=100)
    assert found.verdict == "no_gradient"
    assert "reaches the lowest minimum" in found.headline
    assert found.remedies[0].works


class Swing(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor([0.2, 0.3]), requires_grad=False)

    def forward(self) -> Tensor:
        return (self.a[0] - 1) ** 2 + (self.a[1] - 1) ** 2


@pytest.mark.long
@pytest.mark.parametrize("param", ["a", "a[0]"])
def test_a_frozen_tensor_of_several_numbers_is_mended_as_a_whole(param: str) -> None:
    found = gd.diagnose(Swing(), param=param, range=(-3, 3), lr=0.1, steps=60)
    assert found.headline.partition(". ")[2].startswith("Call a.requires_grad_().")


def held_back(v: Tensor) -> Tensor:
    return (torch.exp(-(v[0].detach() ** 2)) - 0.5) ** 2 + (v[1] - 1) ** 2


@pytest.mark.long
def test_with_the_right_derivative_of_several_the_lowest_minimum_is_known() -> None:
    """exp(-v0^2) = 1/2 at v0 = sqrt(log 2), where the loss is zero."""
    ranges = ((0, 2), (-2, 2))
    found = gd.diagnose(held_back, range=ranges, start=(0.2, 0.0), lr=0.1, steps=200)
    assert found.verdict == "no_gradient"
    np.testing.assert_allclose(found.run.goal, [math.sqrt(math.log(2)), 1], atol=1e-3)
    assert found.remedies[0].name == "repair_code"
    assert found.remedies[0].works
    assert "leave .detach() out" in found.remedies[0].change


# What a remedy presupposes, and whether it is complete.


@pytest.mark.slow
@pytest.mark.parametrize("start", siblings([-0.9, -1.2, -1.4, -0.7]))
def test_what_needs_the_target_is_not_the_headline(start: float) -> None:
    found = gd.diagnose(
        lambda v: (v**2 - 1) ** 2 - 0.1 * v, range=(-2, 2), start=start, target=1.0124, lr=0.01
    )
    assert found.verdict in ("wrong_basin", "no_working_lr")
    working = [remedy for remedy in found.remedies if remedy.works]
    assert any(remedy.needs_target for remedy in working)
    assert not working[0].needs_target
    assert working[0].change in found.headline
    assert all(r.evidence["robust"] for r in working if "robust" in r.evidence)


@pytest.mark.slow
@pytest.mark.parametrize("nesterov", siblings([False, True]))
def test_another_optimizer_comes_without_momentum(nesterov: bool) -> None:
    found = gd.diagnose(
        lambda v: (v - 1) ** 2, range=(-2, 2), start=0.2, target=1.0, lr=2.5, momentum=0.5,
        nesterov=nesterov, steps=100,
    )  # fmt: skip
    change = next(remedy.change for remedy in found.remedies if remedy.name == "adaptive")
    assert "--momentum 0" in change
    assert ("without nesterov" in change) == nesterov


@pytest.mark.parametrize("width", siblings([4e3, 1e5]))
def test_a_unit_that_asks_for_large_rates_is_named(width: float) -> None:
    found = gd.diagnose(
        lambda v: ((v - 0.5 * width) / width) ** 2, range=(0, width), start=0.2 * width,
        target=0.5 * width, lr=1.0, steps=100,
    )  # fmt: skip
    assert found.verdict == "step_too_small"
    assert "unit" in found.headline


# No loss of squares is negative; nothing is called healthy that had been better.


def unbatched(v: Tensor) -> Tensor:
    float(v)
    return (v - 0.3) ** 2


class Unbatched(Turned):
    def forward(self, x: Tensor) -> Tensor:
        float(self.theta)
        return super().forward(x)


@pytest.mark.parametrize("target", siblings([0.3, -0.7, 1.1, 0.01]))
@pytest.mark.parametrize("loss", siblings(["mse", "cosine", "rmse"]))
def test_no_loss_of_squares_is_negative(target: float, loss: str) -> None:
    options = {**OF_MODULE, "target": target, "loss": loss, "steps": 40}
    found = gd.diagnose(Unbatched(), **options)
    assert found.sweep is not None
    assert found.sweep.loss.min() >= 0
    assert all(point.loss >= 0 for point in found.sweep.landscape.points)
    assert found.run.to_dict()["best_loss"] >= 0
    assert all((r.evidence.get("final_loss") or 0) >= 0 for r in found.remedies)


def test_no_square_of_a_function_is_negative() -> None:
    swept = gd.sweep(unbatched, range=(-1, 1), start=0.1, target=0.3)
    assert swept.loss.min() >= 0
    assert all(point.loss >= 0 for point in swept.landscape.points)


@pytest.mark.parametrize("command", siblings([gd.diagnose, gd.optimize, gd.sweep]))
def test_keywords_for_other_objectives_are_refused(command: Callable[..., Any]) -> None:
    line = as_objective(lambda v: (v - 1) ** 2, range=(-2, 2), start=0.1)
    with pytest.raises((UsageError, TypeError)):
        command(line, log=print)


@pytest.mark.slow
@pytest.mark.parametrize("number", siblings([3, np.float32(3), np.int64(3), np.float64(3)]))
def test_rates_may_be_any_number(number: Any) -> None:
    found = gd.diagnose(unbatched, range=(-1, 1), start=0.1, target=0.3, lr=number / 30, steps=40)
    assert found.verdict == "healthy"
    with pytest.raises(GabordiagError):
        gd.diagnose(unbatched, range=(-1, 1), start=0.1, target=0.3, lr=-number)


class Clamped(nn.Module):
    """Projects its parameter in forward, as a loop should after the optimizer's step."""

    def __init__(self) -> None:
        super().__init__()
        self.t = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        self.t.data.clamp_(0, 1)
        return torch.sin(self.t * x)


@pytest.mark.long
@pytest.mark.parametrize("loss", ["mse", pytest.param("rmse", marks=pytest.mark.slow)])
def test_a_forward_that_writes_into_its_parameter_is_named(loss: str) -> None:
    x = torch.linspace(0.1, 5, 40, dtype=torch.float64)
    how: Any = {"param": "t", "input": x, "target": 1.5, "range": (0, 3), "loss": loss}
    found = gd.diagnose(Clamped(), lr=0.01, **how)
    assert found.verdict == "nondeterministic"
    assert "forward writes into t" in found.headline.lower()
    assert "optimizer's step" in found.headline
    # Where it changes nothing, nothing is said.
    inside = gd.diagnose(Clamped(), lr=0.01, **{**how, "target": 0.8, "range": (0.1, 0.95)})
    assert "writes into" not in inside.headline
