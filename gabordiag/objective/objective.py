"""The small interface that all else uses: a scalar loss of one parameter or of several.

A `Line` knows its parameter (range, period, target, start) and evaluates its loss on a tensor of
values (n,), elementwise and differentiably; an `Objective`, over points (n, d), is what optimizers
move on. `OfLine` makes one of a `Line`, so that a run of one is a run of several with d = 1.
Whatever implements these gets landscapes, optimizers and diagnoses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gabordiag.objective.response import one_thread
from gabordiag.objective.space import FloatArray, Parameter, Space

# Values evaluated at once: bounds memory at some hundred kernels.
CHUNK = 256
# Of each range: the step of central differences, about the cube root of a double's rounding.
_DIFFERENCE = 1e-5


class ScalarLoss(ABC):
    """What losses of one and of several parameters share.

    `is_root`: the loss is the root of a smooth one; its zeros are kinks, not minima. `has_state`:
    an evaluation may depend on those before it (random numbers, counters). `is_small`: its tensors
    are so small that a second thread only waits for the first; on busy cores that made a step up to
    thirty times as long. The loss is computed in a precision, on a device.
    """

    loss_name: str = "loss"
    is_root: bool = False
    has_state: bool = False
    is_small: bool = False
    dtype: torch.dtype = torch.float64
    device: torch.device = torch.device("cpu")
    # Of the tensors that `loss` takes.
    _dimensions: int = 1

    @property
    def is_expensive(self) -> bool:
        """Whether one evaluation costs so much that every one counts."""
        return False

    def begin_step(self) -> None:  # noqa: B027 most losses are the same at every step
        """Called before every step of an optimizer: a stochastic loss draws its sample here."""

    @abstractmethod
    def loss(self, values: Tensor, /, *, smooth: bool = False) -> Tensor:
        """Returns the loss (n,) at n values or points, differentiable; no root, if `smooth`."""

    def squared(self) -> Self | None:
        """Returns the same objective with the root of its loss taken away, or None without one."""
        return None

    @property
    def value_eps(self) -> float:
        """Relative rounding of the parameters."""
        return float(torch.finfo(self.dtype).eps)

    @property
    def images(self) -> dict[str, Any] | None:
        """Which images the loss is the mean over, as JSON shows it; None without several."""
        return None

    def tensor(self, values: npt.ArrayLike, /) -> Tensor:
        """Returns values (n,) or points (n, d) as the tensor that `loss` takes."""
        array = np.array(values, dtype=np.float64, ndmin=self._dimensions)
        return torch.tensor(array, dtype=self.dtype, device=self.device)

    def loss_at(self, values: npt.ArrayLike, /) -> FloatArray:
        """Returns the losses (n,) at any number of values or points."""
        with torch.no_grad():
            return self._chunked(self.loss, values)

    def _chunked(
        self, function: Callable[[Tensor], Tensor], values: npt.ArrayLike, dim: int = 0
    ) -> FloatArray:
        """Returns a function of tensors of values or points, some of them at a time."""
        with self.few_threads():
            chunks = torch.split(self.tensor(values), CHUNK)
            return to_numpy(torch.cat([function(chunk) for chunk in chunks], dim))

    def few_threads(self) -> AbstractContextManager[None]:
        """Within it a small loss is computed on one thread."""
        return one_thread() if self.is_small else nullcontext()


class Derived(ScalarLoss):
    """A loss that another one computes, in its precision, at its place and with its state."""

    def __init__(self, source: ScalarLoss) -> None:
        self._source = source
        self.loss_name, self.is_root = source.loss_name, source.is_root
        self.dtype, self.device, self.has_state = source.dtype, source.device, source.has_state
        self.is_small = source.is_small

    def _inside(self, values: Tensor) -> Tensor:
        """Returns the source's values or points that belong to this loss's."""
        return values

    def loss(self, values: Tensor, *, smooth: bool = False) -> Tensor:
        """Returns the source's loss (n,)."""
        return self._source.loss(self._inside(values), smooth=smooth)

    @property
    def images(self) -> dict[str, Any] | None:
        """Which images the source's loss is the mean over."""
        return self._source.images


class Line(ScalarLoss):
    """A scalar loss of one scalar parameter, elementwise over values (n,)."""

    parameter: Parameter

    @property
    def shortcut_error(self) -> float | None:
        """Largest relative error of a shortcut against the direct computation, or None."""
        return None

    @property
    def slope_rounding(self) -> tuple[float, float]:
        """Bounds on the rounding of the smooth loss's two derivatives that no evaluation shows."""
        return 0.0, 0.0

    @property
    def scale(self) -> float:
        """Size of what the loss without its root is a difference of; 0 where that is unknown.

        The energy of the target response: the differences of two responses are rounded at its
        digits, however small they are.
        """
        return 0.0

    @property
    def loss_eps(self) -> float:
        """Relative rounding of the losses, which may be coarser than that of the parameter."""
        return self.value_eps

    def derivatives(
        self, values: npt.ArrayLike, order: int = 1, *, smooth: bool = False
    ) -> FloatArray:
        """Returns the loss at values (n,) and its derivatives by autograd, (order + 1, n)."""
        loss = partial(self.loss, smooth=smooth)
        return self._chunked(lambda at: torch.stack(levels_of(loss, at, order)), values, dim=1)

    def losses_and_gradients(self, values: Tensor) -> tuple[FloatArray, Tensor | None]:
        """Returns the losses (n,) at n values, one after the other, and an optimizer's gradients.

        These are (n,), or None where none reaches any value: the loss does not depend on it in
        torch's graph. A gradient that reaches some values counts as zero at the others.
        """
        losses, slopes = [], []
        with self.few_threads():
            for value in torch.split(values.detach(), 1):
                leaf = value.clone().requires_grad_()
                loss = self.loss(leaf)[0]
                losses.append(loss.item())
                slopes.append(self._slope(loss, leaf))
        found = [values.new_zeros(1) if slope is None else slope for slope in slopes]
        is_reached = any(slope is not None for slope in slopes)
        return np.array(losses), torch.cat(found) if is_reached else None

    def _slope(self, loss: Tensor, leaf: Tensor) -> Tensor | None:
        """Returns the loss's gradient by a leaf (1,); None where its graph does not lead there."""
        return torch.autograd.grad(loss, leaf, allow_unused=True)[0] if loss.requires_grad else None

    def loss_once(self, values: npt.ArrayLike) -> FloatArray:
        """Returns the losses (n,); a custom loss need not be computed again where it was before."""
        return self.loss_at(values)

    def gradient(self, values: npt.ArrayLike) -> FloatArray:
        """Returns dloss/dparameter (n,): in closed form where there is one, else by autograd."""
        return np.asarray(self.derivatives(values)[1])


def levels_of(function: Callable[[Tensor], Tensor], at: Tensor, order: int) -> list[Tensor]:
    """Returns a loss and its derivatives by autograd: (n,) each at values (n,).

    At points (n, d), where the order is at most 2: (n,), (n, d) and (n, d, d).
    """
    at = at.detach().requires_grad_()
    levels = [function(at)]
    for level in range(order):
        # The points are independent: a sum's derivatives are each point's own.
        columns = levels[-1].unbind(-1) if levels[-1].ndim > 1 else [levels[-1]]
        rows = [
            torch.autograd.grad(
                column.sum(),
                at,
                create_graph=level + 1 < order,
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
            )[0]
            # A constant has no graph.
            if column.requires_grad
            else torch.zeros_like(at)
            for column in columns
        ]
        levels.append(torch.stack(rows, dim=-1) if levels[-1].ndim > 1 else rows[0])
    return [level.detach() for level in levels]


def to_numpy(tensor: Tensor) -> FloatArray:
    """Returns a float64 copy outside torch."""
    return np.asarray(tensor.detach().cpu().numpy().astype(np.float64))


class Objective(ScalarLoss):
    """A scalar loss of d parameters, over points: coordinates (n, d)."""

    space: Space
    _dimensions = 2

    @property
    def goals(self) -> FloatArray:
        """Values (m, d) of the target and of what is the same up to a symmetry; m = 0 without."""
        target = self.space.target
        return np.empty((0, len(self.space))) if target is None else target[None]

    def in_double(self) -> Objective:
        """Returns the same objective in float64 on the CPU, where it has such a form."""
        return self

    def in_values(self) -> Objective:
        """Returns the same objective with every parameter moved as it is, none as a logarithm."""
        return self

    def along(self, index: int, at: FloatArray) -> Line:
        """Returns the loss along one parameter, the others fixed at values (d,)."""
        return Restriction(self, index, at)

    def _values(self, coordinates: Tensor) -> Tensor:
        """Returns the parameters' values (n, d), as `Space.values`, differentiable."""
        if self.space.is_log is None:
            return coordinates
        is_log = torch.tensor(self.space.is_log, device=coordinates.device)
        # The exponential of a plain value could overflow.
        exponents = torch.where(is_log, coordinates, torch.zeros_like(coordinates))
        return torch.where(is_log, torch.exp(exponents), coordinates)

    def step_gradient(self, coordinates: Tensor) -> tuple[FloatArray, Tensor | None]:
        """Returns losses (n,) and what an optimizer sees: gradients (n, d), or None at all."""
        losses, slopes = self.loss_and_gradient(coordinates.detach().cpu().numpy())
        return losses, torch.tensor(slopes, dtype=coordinates.dtype, device=coordinates.device)

    def loss_and_gradient(
        self, coordinates: npt.ArrayLike, *, smooth: bool = False
    ) -> tuple[FloatArray, FloatArray]:
        """Returns losses (n,) and gradients (n, d), without root, if `smooth`."""
        chunks = torch.split(self.tensor(coordinates), CHUNK)
        with self.few_threads():
            pieces = [self._slopes(chunk, smooth) for chunk in chunks]
        losses, slopes = zip(*pieces, strict=True)
        return to_numpy(torch.cat(losses)), to_numpy(torch.cat(slopes))

    def _slopes(self, coordinates: Tensor, smooth: bool) -> tuple[Tensor, Tensor]:
        losses, slopes = levels_of(partial(self.loss, smooth=smooth), coordinates, 1)
        return losses, slopes

    def hessian(self, coordinates: npt.ArrayLike, *, smooth: bool = False) -> FloatArray:
        """Returns the second derivatives (n, d, d) by autograd."""
        loss = partial(self.loss, smooth=smooth)
        return self._chunked(lambda at: levels_of(loss, at, 2)[2], coordinates)


class OfLine(Derived, Objective):
    """A loss of one parameter as a loss of d = 1 parameters."""

    def __init__(self, line: Line) -> None:
        super().__init__(line)
        self.line = line
        self.space = Space((line.parameter,))

    def along(self, index: int, at: FloatArray) -> Line:
        """Returns the loss of its only parameter."""
        return self.line

    def _inside(self, values: Tensor) -> Tensor:
        return self._values(values).squeeze(1)

    def step_gradient(self, coordinates: Tensor) -> tuple[FloatArray, Tensor | None]:
        """Returns losses (n,) and the n gradients, one point after the other."""
        values = self._inside(coordinates.detach())
        losses, slopes = self.line.losses_and_gradients(values)
        if self.line.parameter.is_log and slopes is not None:
            # dvalue/dcoordinate of a logarithm is the value.
            slopes = slopes * values
        return losses, slopes


class Restriction(Derived, Line):
    """A loss of several parameters along one of them, the others fixed at values (d,)."""

    def __init__(self, parent: Objective, index: int, at: FloatArray) -> None:
        super().__init__(parent)
        self.parent, self.index = parent, index
        self.parameter = parent.space.parameters[index]
        self._at = parent.space.coordinates(at)

    def losses_and_gradients(self, values: Tensor) -> tuple[FloatArray, Tensor | None]:
        """Returns the losses (n,) and the slopes (n,) that an optimizer of all sees there."""
        losses, slopes = self.parent.step_gradient(self._inside(values.detach()))
        if slopes is None:
            return losses, None
        slope = slopes[:, self.index]
        # dcoordinate/dvalue of a logarithm is one over the value.
        return losses, slope / values.detach() if self.parameter.is_log else slope

    def _inside(self, values: Tensor) -> Tensor:
        fixed = self.parent.tensor(self._at).expand(len(values), -1).unbind(-1)
        moved = torch.log(values) if self.parameter.is_log else values
        columns = [moved if i == self.index else column for i, column in enumerate(fixed)]
        return torch.stack(columns, dim=-1)


class Differences(Objective):
    """A loss with its gradients by central differences of its values."""

    def __init__(self, objective: Objective) -> None:
        self.objective, self.space = objective, objective.space
        self.loss_name, self.is_root = objective.loss_name, objective.is_root
        self._step = np.diag(_DIFFERENCE * self.space.width)

    def loss(self, coordinates: Tensor, *, smooth: bool = False) -> Tensor:
        """Returns the loss (n,) at coordinates (n, d)."""
        return self.objective.loss(coordinates, smooth=smooth)

    def loss_and_gradient(
        self, coordinates: npt.ArrayLike, *, smooth: bool = False
    ) -> tuple[FloatArray, FloatArray]:
        """Returns losses (n,) and differences (n, d)."""
        values = self.space.values(np.atleast_2d(np.asarray(coordinates, dtype=np.float64)))
        sides = np.stack([values[:, None] + self._step, values[:, None] - self._step])
        points = self.space.coordinates(sides)
        with torch.no_grad():
            at = self.tensor(points.reshape(-1, len(self.space)))
            high, low = to_numpy(self.loss(at, smooth=smooth)).reshape(points.shape[:-1])
        apart = np.diagonal(points[0] - points[1], axis1=-2, axis2=-1)
        return self.loss_at(coordinates), (high - low) / apart


def over_points(objective: Objective | Line) -> Objective:
    """Returns an objective of one parameter as one over points (n, 1); others as they are."""
    return objective if isinstance(objective, Objective) else OfLine(objective)
