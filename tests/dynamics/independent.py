"""Training loops written down by hand: what runs and verdicts are compared with.

Nothing here imports gabordiag. The kernel, the response, the loss and the loop are what a person
would write in torch who had never seen the package.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Loss = Callable[[Tensor], Tensor]
Array = npt.NDArray[np.float64]


def kernel(
    theta: Tensor, size: int, wavelength: float, sigma: float, psi: float, gamma: float
) -> Tensor:
    """Returns the textbook kernel (size, size) of one angle."""
    half = size // 2
    steps = torch.arange(-half, half + 1, dtype=torch.float64)
    x, y = steps.repeat(size, 1), steps.repeat(size, 1).T
    across = x * torch.cos(theta) + y * torch.sin(theta)
    along = y * torch.cos(theta) - x * torch.sin(theta)
    envelope = torch.exp(-(across**2 + (gamma * along) ** 2) / (2 * sigma**2))
    return envelope * torch.cos(across * (2 * math.pi / wavelength) + psi)


def gabor_loss(
    image: Array,
    loss: str,
    *,
    target: float = math.pi / 4,
    size: int = 31,
    wavelength: float = 10.0,
    sigma: float = 4.0,
    psi: float = 0.0,
    gamma: float = 0.5,
    circular: bool = False,
) -> Loss:
    """Returns the loss against the target's response as a function of one angle (0-dim)."""
    pixels = torch.as_tensor(image, dtype=torch.float64)[None, None]
    if circular:
        pixels = torch.nn.functional.pad(pixels, (size // 2,) * 4, mode="circular")

    def respond(theta: Tensor) -> Tensor:
        weights = kernel(theta, size, wavelength, sigma, psi, gamma)
        return torch.nn.functional.conv2d(pixels, weights[None, None])

    with torch.no_grad():
        wanted = respond(torch.tensor(target, dtype=torch.float64))

    def compare(theta: Tensor) -> Tensor:
        square = torch.nn.functional.mse_loss(respond(theta), wanted)
        return torch.sqrt(square) if loss == "rmse" else square

    return compare


@dataclass(frozen=True)
class Log:
    """What the loop saw: before every step, and after the last."""

    values: Array
    losses: Array
    gradients: Array
    rates: Array


def train(
    loss: Loss,
    start: float,
    make: Callable[[list[Tensor]], torch.optim.Optimizer],
    steps: int,
    schedule: Callable[[torch.optim.Optimizer], Any] | None = None,
) -> Log:
    """Runs the usual loop: zero_grad, backward, step."""
    value = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    optimizer = make([value])
    scheduler = None if schedule is None else schedule(optimizer)
    rows = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        result = loss(value)
        result.backward()
        return result

    for step in range(steps + 1):
        current = closure()
        assert value.grad is not None
        rate = float(optimizer.param_groups[0]["lr"])
        rows.append((value.item(), current.item(), value.grad.item(), rate))
        if step < steps:
            # Only LBFGS evaluates again within a step.
            again = isinstance(optimizer, torch.optim.LBFGS)
            optimizer.step(closure) if again else optimizer.step()  # type: ignore[call-overload]
            if scheduler is not None:
                scheduler.step()
    table = np.array(rows)
    return Log(*(table[:, index] for index in range(4)))


def distance(values: npt.ArrayLike, goal: float, period: float | None) -> Array:
    """Returns how far the values are from the goal or the nearest copy of it."""
    apart = np.abs(np.asarray(values, dtype=np.float64) - goal)
    if period is None:
        return apart
    apart = np.fmod(apart, period)
    return np.minimum(apart, period - apart)


def stays_at(values: Array, goal: float, tolerance: float, period: float | None) -> bool:
    """Whether the last tenth of the steps stays within the tolerance of the goal or a copy."""
    tail = values[-math.ceil((len(values) - 1) / 10) :]
    return bool((distance(tail, goal, period) <= tolerance).all())
