"""The small interface that everything downstream uses: a scalar loss of one scalar parameter.

An `Objective` knows its parameter (range, period, target, start) and evaluates its loss on a
tensor of values, elementwise and differentiably. Landscapes, optimizers and diagnoses are built on
nothing else, so that whatever implements this interface gets all of them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gabordiag.errors import UsageError
from gabordiag.wording import significant_figures

FloatArray = npt.NDArray[np.float64]

# How close counts as being there: a turn that the eye hardly sees, or as small a part of a range.
ANGLE_TOLERANCE = math.radians(1.0)
RANGE_TOLERANCE = 0.01
# More repetitions of the same than this are a mistake.
_MOST_PERIODS = 100
# Values evaluated at once: bounds memory at some hundred kernels.
CHUNK = 256


@dataclass(frozen=True)
class Parameter:
    """The learned parameter.

    Attributes:
        name: As in files and JSON.
        low: Lower end of the range that is looked at.
        high: Its upper end; low + period for a periodic parameter.
        period: The loss's period, or None.
        target: The value that made the target, or None where there is none.
        start: Where an optimizer starts.
        is_angle: Radians inside, degrees for people.
        unit: For people, where it is no angle ("px", "").
        is_positive: There is no loss at 0 and below.
        is_log: What an optimizer moves is the value's logarithm, which keeps it positive.
    """

    name: str
    low: float
    high: float
    period: float | None
    target: float | None
    start: float
    is_angle: bool = False
    unit: str = ""
    is_positive: bool = False
    is_log: bool = False

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Parameter:
        """Returns the parameter of a result's JSON: the inverse of `to_dict`, but for positivity.

        Args:
            saved: As `to_dict` gives it; what it holds besides is not read.
        """
        low, high = saved.get("parameter_range", saved["range"])
        unit = saved["unit"]
        return cls(
            saved["parameter"],
            low,
            high,
            saved["period"],
            saved["target"],
            saved["start"],
            is_angle=unit == "rad",
            unit="" if unit == "rad" else unit,
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        return {
            "parameter": self.name,
            "unit": "rad" if self.is_angle else self.unit,
            "range": [self.low, self.high],
            "period": self.period,
            "target": self.target,
            "start": self.start,
            "tolerance": self.tolerance,
        }

    @property
    def tolerance(self) -> float:
        """How close counts as being there: 1 degree, or 1% of the range."""
        return ANGLE_TOLERANCE if self.is_angle else RANGE_TOLERANCE * (self.high - self.low)

    def wrap(self, values: npt.ArrayLike) -> FloatArray:
        """Returns the values moved by whole periods into [-P/2, P/2), if there is a period."""
        array = np.asarray(values, dtype=np.float64)
        if self.period is None:
            return array
        half = self.period / 2
        # Whole periods are subtracted: values already inside come back unchanged to the bit.
        wrapped = array - self.period * np.floor((array + half) / self.period)
        return np.where(wrapped >= half, -half, np.maximum(wrapped, -half))

    def offset(self, values: npt.ArrayLike, point: float) -> FloatArray:
        """Returns value - point, to the nearest copy of `point` where there is a period."""
        difference = np.asarray(values, dtype=np.float64) - point
        if self.period is None:
            return difference
        return difference - self.period * np.round(difference / self.period)

    def grid(
        self, low: float | None = None, high: float | None = None, points: int = 2
    ) -> FloatArray:
        """Returns equispaced values, both ends included; the parameter's own range without ends.

        Raises:
            UsageError: Fewer than 2 points, an empty range, or values that cannot be.
        """
        low = self.low if low is None else low
        high = self.high if high is None else high
        if points < 2 or not low < high:
            raise UsageError(
                f"a sweep of {self.name} from {low:g} to {high:g} over {points} points is empty.",
                "Give LO < HI and at least 2 points.",
            )
        if self.period is not None and high - low > _MOST_PERIODS * self.period:
            raise UsageError(
                f"a sweep of {self.name} over more than {_MOST_PERIODS} periods says nothing more.",
                f"One period is {self.show(self.period)}.",
            )
        if self.is_positive and low <= 0:
            raise UsageError(
                f"a sweep of {self.name} cannot begin at {low:g}.", f"{self.name} must be above 0."
            )
        return np.linspace(low, high, points)

    def show(self, value: float | None, digits: int = 2) -> str:
        """Returns the value for people: degrees for angles, with its unit; of None, a dash."""
        if value is None:
            return "–"
        if self.is_angle:
            text = f"{math.degrees(value):.{digits}f}"
            # Zero has no sign.
            return f"{text.removeprefix('-') if float(text) == 0 else text}°"
        return f"{value:.{self.figures(value, digits)}g}{' ' + self.unit if self.unit else ''}"

    def figures(self, value: float, digits: int = 2) -> int:
        """Returns how many significant figures of a value tell it, as `significant_figures`."""
        return significant_figures(value, self.low, self.high, self.tolerance, digits)

    @property
    def scale(self) -> float:
        """Factor from the parameter to what people read."""
        return 180 / math.pi if self.is_angle else 1.0

    @property
    def label(self) -> str:
        """Axis label for people."""
        unit = "degrees" if self.is_angle else self.unit
        return f"{self.name} [{unit}]" if unit else self.name


class Objective(ABC):
    """A scalar loss of one scalar parameter.

    Attributes:
        parameter: What is learned.
        loss_name: Name of the loss, for people.
        is_root: The loss is sqrt(smooth_loss): its zeros are kinks, not smooth minima.
    """

    parameter: Parameter
    loss_name: str = "loss"
    is_root: bool = False

    def begin_step(self) -> None:  # noqa: B027 most losses are the same at every step
        """Called before every step of an optimizer: a stochastic loss draws its sample here."""

    @abstractmethod
    def loss(self, values: Tensor) -> Tensor:
        """Returns the loss, elementwise, differentiable; values and result of shape (n,)."""

    def smooth_loss(self, values: Tensor) -> Tensor:
        """Returns the smooth function under the root, or the loss itself where there is no root."""
        return self.loss(values)

    @property
    def shortcut_error(self) -> float | None:
        """Largest relative error of a shortcut against the direct computation, or None."""
        return None

    @property
    def images(self) -> dict[str, Any] | None:
        """Which images the loss is the mean over, as JSON shows it; None without several."""
        return None

    @property
    def has_state(self) -> bool:
        """Whether an evaluation may depend on those before it (random numbers, counters)."""
        return False

    @property
    def dtype(self) -> torch.dtype:
        """Precision in which the loss is computed."""
        return torch.float64

    @property
    def device(self) -> torch.device:
        """Where the loss is computed."""
        return torch.device("cpu")

    def tensor(self, values: npt.ArrayLike) -> Tensor:
        """Returns the values as a tensor (n,) that `loss` takes."""
        array = np.atleast_1d(np.asarray(values, dtype=np.float64))
        return torch.tensor(array, dtype=self.dtype, device=self.device)

    def loss_at(self, values: npt.ArrayLike) -> FloatArray:
        """Returns the losses (n,) of any number of values."""
        with torch.no_grad():
            return _in_chunks(self.tensor(values), self.loss)

    def derivatives(
        self, values: npt.ArrayLike, order: int = 1, *, smooth: bool = False
    ) -> FloatArray:
        """Returns the loss and its derivatives by autograd.

        Args:
            values: (n,).
            order: Highest derivative.
            smooth: Of `smooth_loss` instead of `loss`.

        Returns:
            (order + 1, n): the loss, the first derivative, ...
        """
        function = self.smooth_loss if smooth else self.loss

        def tower(chunk: Tensor) -> Tensor:
            chunk = chunk.detach().requires_grad_()
            levels = [function(chunk)]
            for level in range(order):
                if not levels[-1].requires_grad:  # constant, as every derivative of it
                    levels.append(torch.zeros_like(chunk))
                    continue
                (derivative,) = torch.autograd.grad(
                    levels[-1].sum(),
                    chunk,
                    create_graph=level + 1 < order,
                    allow_unused=True,
                    materialize_grads=True,
                )
                levels.append(derivative)
            return torch.stack([level.detach() for level in levels], dim=-1)

        levels = _in_chunks(self.tensor(values), tower)
        transposed: FloatArray = np.ascontiguousarray(levels.T)
        return transposed

    def loss_and_gradient(self, value: Tensor) -> tuple[float, Tensor | None]:
        """Returns the loss at one value (1,), a leaf, and its gradient as an optimizer sees it.

        None where no gradient reaches the value: the loss does not depend on it in torch's graph.
        """
        value.grad = None
        loss = self.loss(value)[0]
        if loss.requires_grad:
            torch.autograd.backward(loss)
        return loss.item(), value.grad

    def squared(self) -> Objective | None:
        """Returns the same objective with the root of its loss taken away, or None without one."""
        return None

    def gradient(self, values: npt.ArrayLike) -> FloatArray:
        """Returns dloss/dparameter (n,): in closed form where there is one, else by autograd."""
        slope: FloatArray = self.derivatives(values)[1]
        return slope


def _in_chunks(values: Tensor, function: Callable[[Tensor], Tensor]) -> FloatArray:
    pieces = [function(chunk) for chunk in torch.split(values, CHUNK)]
    return to_numpy(torch.cat(pieces))


def to_numpy(tensor: Tensor) -> FloatArray:
    """Returns a float64 copy outside torch."""
    array: FloatArray = tensor.detach().cpu().numpy().astype(np.float64)
    return array
