"""Small networks with faults planted in chosen filters; what is planted is the label.

A teacher's filters make the targets, a student of the same architecture learns one number of each
filter. Basins and curvatures that the planting needs are found by plain scans of the loss here, and
nothing of the diagnosis is used. A plain loop and a scan along every filter then confirm the label:
planted filters failed, and the others, which are coupled to them in some networks, did not.
"""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import gabordiag as gd

FAULTS = (
    "none",
    "cut",
    "clamp",
    "wrong basin",
    "rate too large",
    "rate too small",
    "dead channel",
    "duplicate",
)
# What a diagnosis may call each of them.
CAUSES = {
    "cut": {"no_gradient"},
    "clamp": {"no_gradient"},
    "wrong basin": {"wrong_basin"},
    "rate too large": {"step_too_large"},
    "rate too small": {"too_slow_beside_others", "step_too_small"},
    "dead channel": {"flat_objective"},
    "duplicate": {"duplicate"},
}
_LENGTH, _SIDE = 25, 9


def gabor(theta: Tensor) -> Tensor:
    return gd.gabor_kernel(theta, 5.0, 2.0, 0.0, 0.6, kernel_size=_SIDE, dtype=theta.dtype)


def sinc(frequency: Tensor) -> Tensor:
    """Band-pass filters: the difference of two low-pass filters, in a Hamming window."""
    t = torch.arange(_LENGTH) - _LENGTH // 2
    high, low = frequency[:, None] + 0.03, frequency[:, None] - 0.03
    window = torch.hamming_window(_LENGTH, periodic=False)
    return 4 * window * (2 * high * torch.sinc(2 * high * t) - 2 * low * torch.sinc(2 * low * t))


def gaussian(place: Tensor) -> Tensor:
    """Blobs at a place along x."""
    grid = torch.arange(_SIDE) - _SIDE // 2
    x = torch.exp(-((grid - place[:, None]) ** 2) / 4.5)
    y = torch.exp(-(grid**2) / 8.0)
    return x[:, None, :] * y[None, :, None] / 3


# Name -> kernels, lowest and highest value of a teacher's filter, how far beside it a student
# begins.
LAYERS: dict[str, tuple[Any, float, float, float]] = {
    "gabor": (gabor, -math.pi / 2, math.pi / 2, 0.16),
    "sinc": (sinc, 0.08, 0.42, 0.012),
    "gaussian": (gaussian, -2.5, 2.5, 0.7),
}

# Where a filter may be: all orientations, all frequencies (f and 1 - f are the same samples), and
# all places at which a blob is seen.
EVERYWHERE = {
    "gabor": np.linspace(-math.pi / 2, math.pi / 2, 90),
    "sinc": np.linspace(0.0, 0.5, 200),
    "gaussian": np.linspace(-6.5, 6.5, 90),
}
# With places around its own: a filter is where it belongs if none lowers the loss by more than the
# first part of the loss at the beginning; by its start or rate it failed if one does by the second.
_NO_GAIN, _GAIN = 1e-3, 1e-2
# Two filters have met within this part of how far a student begins beside its teacher.
_MET = 0.2


class Layer(nn.Module):
    """The first layer: `value` of all filters but those in `apart`, which have other rates."""

    def __init__(self, kind: str, values: Tensor, apart: list[int]) -> None:
        super().__init__()
        self.kind, (self.kernels, *_) = kind, LAYERS[kind]
        self.register_buffer("is_apart", torch.zeros(len(values), dtype=torch.bool))
        self.is_apart[apart] = True
        self.value = nn.Parameter(values[~self.is_apart].clone())
        if apart:
            self.other = nn.Parameter(values[self.is_apart].clone())
        self.cut: list[int] = []
        self.clamped: list[int] = []
        self.limits = (0.0, 0.0)

    def forward(self, x: Tensor) -> Tensor:
        value = self.value
        if self.is_apart.any():
            value = torch.empty_like(self.is_apart, dtype=value.dtype)
            value = value.masked_scatter(~self.is_apart, self.value)
            value = value.masked_scatter(self.is_apart, self.other)
        index = torch.arange(len(value))
        for row in self.cut:
            value = torch.where(index == row, value.detach(), value)
        for row in self.clamped:
            held = value.clamp(*self.limits)
            value = torch.where(index == row, held, value)
        weight = self.kernels(value)[:, None]
        return (functional.conv1d if weight.ndim == 3 else functional.conv2d)(x, weight)


class Net(nn.Module):
    """The layer, then one of four endings."""

    def __init__(self, layer: Layer, ending: str, head: Tensor, *, learned: bool) -> None:
        super().__init__()
        self.layer, self.ending = layer, ending
        self.head = nn.Parameter(head.clone(), requires_grad=learned)
        self.register_buffer("gain", torch.ones(head.shape[1]))
        self.register_buffer("shift", torch.zeros(head.shape[1]))

    def forward(self, x: Tensor) -> Tensor:
        response = self.layer(x)
        shape = (1, -1, *[1] * (response.ndim - 2))
        response = response * self.gain.view(shape)
        if self.ending == "responses":
            return response
        response = functional.relu(response + self.shift.view(shape))
        pooled = response.flatten(2).mean(-1)
        return pooled @ self.head.T


@dataclass(eq=False)
class Planted:
    """A training with its label.

    Attributes:
        training: To diagnose.
        params: To watch.
        options: Of `diagnose`.
        fault: A name of `FAULTS`.
        failing: Labels of the elements that fail; of a duplicate, either will do.
        what: Layer, ending and loss, for people.
    """

    training: gd.Training
    params: list[str]
    options: dict[str, Any]
    fault: str
    failing: set[str]
    what: str
    either: set[str] = field(default_factory=set)


def plant(seed: int, fault: str) -> Planted:
    """Returns the first training of a seed whose label a plain loop confirms."""
    for attempt in itertools.count():
        planted = _draw(seed, fault, attempt)
        if planted.fault == fault and _is_confirmed(planted):
            return planted
    raise AssertionError


def _is_confirmed(planted: Planted) -> bool:
    gains, ends = after_a_plain_loop(planted)
    fine = [gain for label, gain in gains.items() if label not in planted.failing - planted.either]
    failed = [gains[label] for label in planted.failing]
    if planted.fault not in ("wrong basin", "rate too large", "rate too small"):
        failed = []
    # Others that have met are duplicates that nobody planted.
    ends = sorted(end for label, end in ends.items() if label not in planted.failing)
    apart = (
        min(np.diff(ends), default=math.inf) > _MET * LAYERS[planted.training.model.layer.kind][3]
    )
    is_fine = max(fine, default=0.0) <= _NO_GAIN
    return bool(apart and is_fine and min(failed, default=math.inf) >= _GAIN)


def after_a_plain_loop(planted: Planted) -> tuple[dict[str, float], dict[str, float]]:
    """Returns what each filter could gain and where it ended, by label.

    A gain is by how much another value of this filter alone would lower the loss, as a part of the
    loss at the beginning.
    """
    model = copy.deepcopy(planted.training.model)
    options, batches, loss = planted.options, planted.training.batches, planted.training.loss
    rates = options["lr"] if isinstance(options["lr"], dict) else {"others": options["lr"]}
    groups = [
        {"params": [parameter], "lr": rates.get(name, rates["others"])}
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    ]
    make = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[options["optimizer"]]
    optimizer = make(groups, lr=rates["others"])
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options["steps"])

    @torch.no_grad()
    def whole() -> float:
        return float(np.mean([float(loss(model(x), y)) for x, y in batches]))

    first = whole()
    for step in range(options["steps"]):
        x, y = batches[step % len(batches)]
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
        if "schedule" in options:
            decay.step()
    gains, ends, kind = {}, {}, model.layer.kind
    with torch.no_grad():
        for name in planted.params:
            tensor = model.get_parameter(name)
            for index, own in enumerate(tensor.tolist()):
                last, lowest = whole(), math.inf
                nearby = own + LAYERS[kind][3] * np.linspace(-1, 1, 21)
                for value in (*EVERYWHERE[kind], *nearby):
                    tensor[index] = value
                    lowest = min(lowest, whole())
                tensor[index] = own
                label = f"{name}[{index}]" if len(tensor) > 1 else name
                gains[label], ends[label] = (last - lowest) / first, own
    return gains, ends


def _draw(seed: int, fault: str, attempt: int) -> Planted:
    rng = np.random.default_rng((seed, FAULTS.index(fault), attempt))
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    kinds = ["gabor", "sinc"] if fault == "wrong basin" else list(LAYERS)
    kind = str(rng.choice(kinds))
    endings = ["responses", "pooled", "classes", "labels"]
    if fault in ("wrong basin", "rate too large", "rate too small"):
        # Elsewhere the filters are coupled, and a fault of one is a fault of others.
        endings = ["responses"]
    ending = str(rng.choice(endings))
    count = int(rng.integers(3, 7))
    _, low, high, beside = LAYERS[kind]
    gap = (high - low) / count
    true = low + gap * (np.arange(count) + rng.uniform(0.3, 0.7, count))
    start = true + rng.choice([-1, 1], count) * rng.uniform(0.4, 1.0, count) * beside
    bad = sorted(rng.choice(count, size=1 + int(count > 4), replace=False).tolist())
    if fault == "none":
        bad = []
    x = torch.randn(24, 1, *((60,) if kind == "sinc" else (13, 13)), generator=generator)
    head = torch.randn(2 * count, count, generator=generator) * 3
    if fault == "duplicate":
        bad = [count - 2, count - 1]
        true[bad[1]], start[bad[1]] = true[bad[0]], start[bad[0]]
        if ending != "responses":
            head[:, bad[1]] = head[:, bad[0]]
    teacher = Net(Layer(kind, _tensor(true), []), ending, head, learned=False)
    with torch.no_grad():
        y = teacher(x)
    loss: Any = functional.mse_loss
    if ending == "classes":
        y, loss = (2 * y).softmax(-1), cross_entropy
    if ending == "labels":
        y, loss = y.argmax(-1), cross_entropy
    if fault == "wrong basin":
        bad = [row for row in bad if _plant_basin(row, kind, true, start, x)]
        fault = fault if bad else "none"
    apart = bad if fault in ("rate too large", "rate too small") else []
    learned = ending != "responses" and fault != "duplicate" and bool(rng.integers(2))
    student = Net(Layer(kind, _tensor(start), apart), ending, head, learned=learned)
    options: dict[str, Any] = {"optimizer": "adam", "lr": 0.04 * beside, "steps": 250}
    options["schedule"] = "cosine"
    _damage(student, fault, bad, start, true, rng)
    params = ["layer.value"]
    labels = {f"layer.value[{row}]" for row in bad}
    if apart:
        params.append("layer.other")
        labels = {f"layer.other[{i}]" for i in range(len(bad))}
        labels = {"layer.other"} if len(bad) == 1 else labels
        options = _rates(fault, bad, kind, true, x, rng)
    batches = [(x[i : i + 8], y[i : i + 8]) for i in (0, 8, 16)]
    if rng.integers(2):
        batches = [(x, y)]
    training = gd.Training(student, batches, loss)
    what = f"{kind}, {ending}{', learned head' if learned else ''}"
    either = labels if fault == "duplicate" else set()
    return Planted(training, params, options, fault, labels, what, either)


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(2 * output, target)


def _tensor(values: Any) -> Tensor:
    return torch.tensor(np.asarray(values), dtype=torch.float32)


def _damage(
    net: Net, fault: str, bad: list[int], start: Any, true: Any, rng: np.random.Generator
) -> None:
    if fault == "cut":
        net.layer.cut = bad
    if fault == "dead channel":
        net.gain[bad] = 0.0
        if net.ending != "responses" and rng.integers(2):
            net.gain[bad] = 1.0
            net.shift[bad] = -1e3
    if fault == "clamp":
        # One side of all their starts, so that each is held at a limit that is not its own value.
        net.layer.clamped = bad
        values = np.array(start)[bad]
        net.layer.limits = (float(values.max()) + 0.05, float(values.max()) + 0.1)


def _filter_loss(kind: str, true: float, values: Any, x: Tensor) -> Any:
    """The loss of one filter's responses at values (n,), by plain convolutions."""
    kernels = LAYERS[kind][0]
    convolve = functional.conv1d if kind == "sinc" else functional.conv2d
    target = convolve(x, kernels(_tensor([true]))[:, None])
    responses = convolve(x, kernels(_tensor(values))[:, None])
    return ((responses - target) ** 2).flatten(2).mean(dim=(0, 2)).double().numpy()


def _plant_basin(row: int, kind: str, true: Any, start: Any, x: Tensor) -> bool:
    """Puts the start of a filter into another basin than the target's, if there is a clear one."""
    _, low, high, _ = LAYERS[kind]
    values = np.linspace(low, high, 361)
    losses = _filter_loss(kind, float(true[row]), values, x)
    inner = np.arange(2, len(values) - 2)
    minima = [k for k in inner if losses[k] < losses[k - 1] and losses[k] <= losses[k + 1]]
    maxima = [k for k in inner if losses[k] > losses[k - 1] and losses[k] >= losses[k + 1]]
    depths = {}
    for k in minima:
        sides = [m for m in maxima if m < k][-1:], [m for m in maxima if m > k][:1]
        if losses[k] > 0.2 * losses.max() and all(sides):
            depths[k] = min(losses[sides[0][0]], losses[sides[1][0]]) - losses[k]
    if not depths:
        return False
    best = max(depths, key=lambda k: depths[k])
    if depths[best] < 0.02 * losses.max():
        return False
    start[row] = values[best]
    return True


def _rates(
    fault: str, bad: list[int], kind: str, true: Any, x: Tensor, rng: np.random.Generator
) -> dict[str, Any]:
    """Gradient descent, whose rates are chosen by the curvatures at the targets."""
    step = 1e-2 * LAYERS[kind][3]
    curvatures = []
    for value in true:
        below, middle, above = _filter_loss(kind, value, value + step * np.array([-1, 0, 1]), x)
        # The student's loss is the mean over all filters.
        curvatures.append((above - 2 * middle + below) / step**2 / len(true))
    good = 0.5 / max(curvatures)
    own = [curvatures[row] for row in bad]
    rate = rng.uniform(2.5, 4.5) / min(own) if fault == "rate too large" else 2e-3 * good
    steps = max(200, int(8 / (good * min(curvatures))))
    rates = {"layer.other": float(rate), "others": float(good)}
    return {"optimizer": "sgd", "lr": rates, "steps": min(steps, 1000)}
