"""Random custom objectives, right or with a fault planted, and what may be said of each.

Labels come from how the fault was made and from a plain loop over the user's own object; nothing
here is taken from the program under test.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

LOW, HIGH = -2.0, 2.0
TOLERANCE = 0.01 * (HIGH - LOW)
Shape = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Generated:
    """An objective, how it is diagnosed, and what is true of it.

    Attributes:
        kind: The fault, or what is right.
        make: Makes the function or module anew.
        options: Of the diagnosis.
        verdicts: Each of which is right.
        healthy: Whether a plain loop arrives.
    """

    kind: str
    make: Callable[[], Any]
    options: dict[str, Any]
    verdicts: frozenset[str]
    healthy: bool


def bowls(rng: np.random.Generator, center: float) -> tuple[Shape, float]:
    """A loss with one minimum, at the center, and its curvature there."""
    scale = float(rng.uniform(0.5, 3))
    shapes: list[tuple[Shape, float]] = [
        (lambda v: scale * (v - center) ** 2, 2 * scale),
        (lambda v: scale * torch.log(torch.cosh(v - center)), scale),
        (lambda v: scale * (1 - torch.exp(-((v - center) ** 2) / 8)) + 0.2, scale / 4),
        (lambda v: scale * ((v - center) ** 2 + 0.1 * (v - center) ** 4) - 1.0, 2 * scale),
        (lambda v: scale * (torch.sqrt(1 + (v - center) ** 2) - 1), scale),
    ]
    return shapes[int(rng.integers(len(shapes)))]


class Features(nn.Module):
    """cos and sin of the parameter mix two halves of the input."""

    def __init__(self, start: float, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(start, dtype=dtype))
        self.calls, self.kept = 0, None

    def mix(self, x: Tensor) -> Tensor:
        return x[0] * torch.cos(self.theta) + x[1] * torch.sin(self.theta)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x)


class Counting(Features):
    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.mix(x) * (1 + 0.1 * self.calls)


class Caching(Features):
    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = torch.stack([torch.cos(self.theta), torch.sin(self.theta)])
        return x[0] * self.kept[0] + x[1] * self.kept[1]


class Detaching(Features):
    def mix(self, x: Tensor) -> Tensor:
        return x[0] * torch.cos(self.theta.detach()) + x[1] * torch.sin(self.theta.data)


class Halving(Features):
    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x).half()


class Drifting(Features):
    """A buffer that a loop carries on; the loss is multiplied by what it holds."""

    def __init__(self, start: float, dtype: torch.dtype = torch.float64) -> None:
        super().__init__(start, dtype)
        self.register_buffer("gain", torch.ones((), dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        self.gain.mul_(1.05)
        return self.mix(x) * self.gain


class Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return value.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        return grad * ctx.factor, None


def descend(loss: Shape, start: float, lr: float, steps: int) -> list[float]:
    value = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    values = [start]
    for _ in range(steps):
        with warnings.catch_warnings():
            # torch says, once, that float(v) of a learned number may be a mistake: here it is.
            warnings.simplefilter("ignore")
            found = loss(value)
        if not found.requires_grad:
            values.append(values[-1])
            continue
        (slope,) = torch.autograd.grad(found, value)
        with torch.no_grad():
            value -= lr * slope
        values.append(value.item())
    return values


def stays(values: list[float], goal: float) -> bool:
    tail = np.array(values[-max(2, math.ceil(0.1 * (len(values) - 1))) :])
    return bool(np.isfinite(tail).all() and (np.abs(tail - goal) <= TOLERANCE).all())


def generate(seed: int) -> Generated:
    """Returns the objective of a seed."""
    rng = np.random.default_rng(seed)
    maker = MAKERS[seed % len(MAKERS)]
    return maker(rng)


def _of_function(
    kind: str, loss: Shape, options: dict[str, Any], goal: float, *verdicts: str
) -> Generated:
    steps = options.setdefault("steps", 300)
    values = descend(loss, options["start"], options["lr"], steps)
    arrives = stays(values, goal)
    names = frozenset({"healthy"} if arrives else verdicts)
    return Generated(kind, lambda: loss, {"range": (LOW, HIGH), **options}, names, arrives)


def _places(rng: np.random.Generator) -> tuple[float, float]:
    center = float(rng.uniform(-1, 1))
    start = center + float(rng.choice([-1, 1]) * rng.uniform(0.3, 0.8))
    return center, start


def right(rng: np.random.Generator) -> Generated:
    center, start = _places(rng)
    loss, bend = bowls(rng, center)
    options = {"start": start, "lr": float(rng.uniform(0.2, 0.9)) / bend}
    if rng.random() < 0.5:
        options["target"] = center
    return _of_function("right", loss, options, center)


def right_single(rng: np.random.Generator) -> Generated:
    """In single precision inside, right otherwise."""
    center, start = _places(rng)
    loss, bend = bowls(rng, center)
    options = {"start": start, "lr": 0.5 / bend, "target": center}
    return _of_function("single", lambda v: loss(v.float()), options, center)


def cut(rng: np.random.Generator) -> Generated:
    center, start = _places(rng)
    loss, bend = bowls(rng, center)
    cuts: list[Shape] = [
        lambda v: loss(v.detach()),
        lambda v: loss(v.data),
        lambda v: loss(torch.tensor(float(v), dtype=v.dtype)),
        lambda v: loss(torch.as_tensor(v.detach().numpy())),
    ]
    chosen = cuts[int(rng.integers(len(cuts)))]
    options = {"start": start, "lr": 0.5 / bend, "target": center}
    return _of_function("cut", chosen, options, center, "no_gradient")


def wrong(rng: np.random.Generator) -> Generated:
    """A backward with another sign or factor: what a loop makes of it decides."""
    center, start = _places(rng)
    loss, bend = bowls(rng, center)
    factor = float(rng.choice([-1.0, -0.5, 0.01, 8.0, 57.3]))
    options = {"start": start, "lr": 0.5 / bend, "target": center, "steps": 200}
    return _of_function(
        "wrong", lambda v: loss(Wrong.apply(v, factor)), options, center, "wrong_gradient"
    )


def trap(rng: np.random.Generator) -> Generated:
    """torch.where around sin(x)/x: NaN at every value, for one of its points is 0."""
    center, start = _places(rng)
    at = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)

    def sinc(v: Tensor) -> Tensor:
        x = at * (v - center)
        return torch.where(x == 0, torch.ones_like(x), torch.sin(x) / x)

    options = {"start": start, "lr": 0.5, "target": center}
    loss = lambda v: ((1 - sinc(v)) ** 2).sum()  # noqa: E731
    return _of_function("trap", loss, options, center, "nonfinite_gradient")


def root_at_zero(rng: np.random.Generator) -> Generated:
    center = float(rng.uniform(-1, 1))
    options = {"start": center, "lr": 0.05, "target": center}
    loss = lambda v: torch.sqrt((v - center) ** 2)  # noqa: E731
    return _of_function("root at zero", loss, options, center, "nonfinite_gradient")


def flat(rng: np.random.Generator) -> Generated:
    level = float(rng.uniform(-2, 2)) * float(rng.integers(2))
    flats: list[Shape] = [
        lambda v: 0 * v + level,
        lambda v: torch.relu(v - 100) + level,
        lambda v: (v - v) ** 2 + level,
        lambda v: torch.clamp(v, 5, 6) + level,
    ]
    start, chosen = float(rng.uniform(-1, 1)), flats[int(rng.integers(len(flats)))]
    options = {"range": (LOW, HIGH), "start": start, "lr": 0.1, "target": 0.5 * start + 0.5}
    names = frozenset({"flat_objective", "no_gradient"})
    return Generated("flat", lambda: chosen, options, names, healthy=False)


def too_large(rng: np.random.Generator) -> Generated:
    center, start = _places(rng)
    scale = float(rng.uniform(0.5, 3))
    options = {"start": start, "lr": float(rng.uniform(2.3, 6)) / (2 * scale), "target": center}
    loss = lambda v: scale * (v - center) ** 2  # noqa: E731
    return _of_function("too large", loss, options, center, "step_too_large")


def too_small(rng: np.random.Generator) -> Generated:
    center, start = _places(rng)
    loss, bend = bowls(rng, center)
    options = {"start": start, "lr": float(10 ** rng.uniform(-5, -3.3)) / bend, "target": center}
    return _of_function("too small", loss, options, center, "step_too_small")


def other_basin(rng: np.random.Generator) -> Generated:
    """(v^2 - 1)^2 - 0.2 v: its lower minimum is near 1, its upper one near -1."""
    tilt = float(rng.uniform(0.05, 0.25))
    # v^3 - v = tilt / 4 at the minima.
    lower = max(np.roots([1, 0, -1, -tilt / 4]).real)
    loss = lambda v: (v**2 - 1) ** 2 - tilt * v  # noqa: E731
    options = {"start": float(rng.uniform(-1.6, -0.6)), "lr": 0.03}
    if rng.random() < 0.5:
        options["target"] = float(lower)
    return _of_function("other basin", loss, options, float(lower), "wrong_basin", "no_working_lr")


def kinked(rng: np.random.Generator) -> Generated:
    center, start = _places(rng)
    slope = float(rng.uniform(0.5, 2))
    options = {"start": start, "lr": 3.3 * TOLERANCE / slope, "target": center}
    loss = lambda v: slope * (v - center).abs()  # noqa: E731
    return _of_function("kink", loss, options, center, "kink", "step_too_large")


def _module(
    kind: str, rng: np.random.Generator, module: type[Features], *verdicts: str, healthy: bool
) -> Generated:
    target = float(rng.uniform(-2.5, 2.5))
    start = target + float(rng.choice([-1, 1]) * rng.uniform(0.3, 1.2))
    data = torch.from_numpy(rng.standard_normal((2, 24)))
    # Of order 1: mean squares of the halves; rates below 2 / curvature for either.
    options = {
        "param": "theta", "input": data, "target": target, "lr": 0.15, "steps": 300,
        "loss": "mse", "period": 2 * math.pi,
    }  # fmt: skip
    names = frozenset({"healthy"} if healthy else verdicts)
    return Generated(kind, lambda: module(start), options, names, healthy)


def module_right(rng: np.random.Generator) -> Generated:
    return _module("module", rng, Features, healthy=True)


def module_half(rng: np.random.Generator) -> Generated:
    return _module("half", rng, Halving, healthy=True)


def module_single(rng: np.random.Generator) -> Generated:
    found = _module("single module", rng, Features, healthy=True)
    start = found.make().theta.item()
    return Generated(
        found.kind,
        lambda: Features(start, torch.float32),
        {**found.options, "input": found.options["input"].float()},
        found.verdicts,
        found.healthy,
    )


def module_counting(rng: np.random.Generator) -> Generated:
    return _module("counting", rng, Counting, "nondeterministic", healthy=False)


def module_drifting(rng: np.random.Generator) -> Generated:
    return _module("drifting", rng, Drifting, "nondeterministic", healthy=False)


def module_caching(rng: np.random.Generator) -> Generated:
    return _module("caching", rng, Caching, "no_gradient", healthy=False)


def module_detaching(rng: np.random.Generator) -> Generated:
    return _module("detaching", rng, Detaching, "no_gradient", healthy=False)


def module_frozen(rng: np.random.Generator) -> Generated:
    found = _module("frozen", rng, Features, "no_gradient", healthy=False)
    make = found.make
    return Generated(
        found.kind, lambda: make().requires_grad_(False), found.options, found.verdicts, False
    )


def large_number(rng: np.random.Generator) -> Generated:
    """A number in single precision whose last digit is larger than the steps."""
    start = float(rng.uniform(2000, 4000))

    class Large(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.volume = nn.Parameter(torch.tensor(start))

        def forward(self) -> Tensor:
            return 1e-6 * (self.volume - 1500.0) ** 2

    options = {"param": "volume", "range": (1000.0, 6000.0), "lr": 1e-4, "steps": 200}
    names = frozenset({"step_too_small"})
    return Generated("rounded away", Large, options, names, healthy=False)


MAKERS = (
    right, cut, right_single, wrong, module_right, trap, right, root_at_zero, module_half, flat,
    right, too_large, module_single, too_small, other_basin, kinked, module_counting,
    module_drifting, right, module_caching, module_detaching, module_frozen, large_number,
)  # fmt: skip
