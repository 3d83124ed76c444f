"""A scalar loss of d parameters, over points (n, d): what optimizers move on.

`OfLine` makes one of a loss of one parameter, so that a run of one is a run of several with d = 1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gabordiag.objective.line import CHUNK, Derived, Line, ScalarLoss, levels_of, to_numpy
from gabordiag.objective.space import FloatArray, Space

# Of each range: the step of central differences, about the cube root of a double's rounding.
_DIFFERENCE = 1e-5


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

    def squared(self) -> Objective | None:
        """Returns the same objective with the root of its loss taken away, or None without one."""
        return None

    def along(self, index: int, at: FloatArray) -> Line:
        """Returns the loss along one parameter, the others fixed at values (d,)."""
        return Restriction(self, index, at)

    def step_gradient(self, coordinates: Tensor) -> tuple[FloatArray, Tensor | None]:
        """Returns losses (n,) and what an optimizer sees: gradients (n, d), or None at all."""
        losses, slopes = self.loss_and_gradient(coordinates.detach().cpu().numpy())
        return losses, torch.tensor(slopes, dtype=coordinates.dtype, device=coordinates.device)

    def loss_and_gradient(
        self, coordinates: npt.ArrayLike, *, smooth: bool = False
    ) -> tuple[FloatArray, FloatArray]:
        """Returns losses (n,) and gradients (n, d); of `smooth_loss`, if `smooth`."""
        pieces = [
            self._slopes(chunk, smooth) for chunk in torch.split(self.tensor(coordinates), CHUNK)
        ]
        losses, slopes = zip(*pieces, strict=True)
        return to_numpy(torch.cat(losses)), to_numpy(torch.cat(slopes))

    def _slopes(self, coordinates: Tensor, smooth: bool) -> tuple[Tensor, Tensor]:
        losses, slopes = levels_of(self.smooth_loss if smooth else self.loss, coordinates, 1)
        return losses, slopes

    def hessian(self, coordinates: npt.ArrayLike, *, smooth: bool = False) -> FloatArray:
        """Returns the second derivatives (n, d, d) by autograd."""
        function = self.smooth_loss if smooth else self.loss
        chunks = torch.split(self.tensor(coordinates), CHUNK)
        return to_numpy(torch.cat([levels_of(function, chunk, 2)[2] for chunk in chunks]))


class OfLine(Derived, Objective):
    """A loss of one parameter as a loss of d = 1 parameters."""

    def __init__(self, line: Line) -> None:
        super().__init__(line)
        self.line = line
        self.space = Space((line.parameter,))
        self._is_log = line.parameter.is_log

    def loss(self, coordinates: Tensor) -> Tensor:
        """Returns the loss (n,) at coordinates (n, 1)."""
        return self.line.loss(self._values(coordinates))

    def smooth_loss(self, coordinates: Tensor) -> Tensor:
        """Returns the loss without its root (n,) at coordinates (n, 1)."""
        return self.line.smooth_loss(self._values(coordinates))

    def _values(self, coordinates: Tensor) -> Tensor:
        column = coordinates.squeeze(1)
        return torch.exp(column) if self._is_log else column

    def step_gradient(self, coordinates: Tensor) -> tuple[FloatArray, Tensor | None]:
        """Returns losses (n,) and the n gradients, one point after the other."""
        values = self._values(coordinates.detach())
        losses, slopes = self.line.losses_and_gradients(values)
        if self._is_log and slopes is not None:
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

    def loss(self, values: Tensor) -> Tensor:
        """Returns the loss (n,) at values (n,)."""
        return self.parent.loss(self._points(values))

    def smooth_loss(self, values: Tensor) -> Tensor:
        """Returns the loss without its root (n,) at values (n,)."""
        return self.parent.smooth_loss(self._points(values))

    def loss_and_gradient(self, value: Tensor) -> tuple[float, Tensor | None]:
        """Returns the loss at one value (1,) and the slope that an optimizer of all sees there."""
        losses, slopes = self.parent.step_gradient(self._points(value.detach()))
        if slopes is None:
            return float(losses[0]), None
        slope = slopes[:, self.index]
        # dcoordinate/dvalue of a logarithm is one over the value.
        return float(losses[0]), slope / value.detach() if self.parameter.is_log else slope

    def _points(self, values: Tensor) -> Tensor:
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

    def loss(self, coordinates: Tensor) -> Tensor:
        """Returns the loss (n,) at coordinates (n, d)."""
        return self.objective.loss(coordinates)

    def loss_and_gradient(
        self, coordinates: npt.ArrayLike, *, smooth: bool = False
    ) -> tuple[FloatArray, FloatArray]:
        """Returns losses (n,) and differences (n, d)."""
        values = self.space.values(np.atleast_2d(np.asarray(coordinates, dtype=np.float64)))
        sides = np.stack([values[:, None] + self._step, values[:, None] - self._step])
        points = self.space.coordinates(sides)
        with torch.no_grad():
            function = self.objective.smooth_loss if smooth else self.objective.loss
            high, low = to_numpy(
                function(self.tensor(points.reshape(-1, len(self.space))))
            ).reshape(points.shape[:-1])
        apart = np.diagonal(points[0] - points[1], axis1=-2, axis2=-1)
        return self.loss_at(coordinates), (high - low) / apart
