"""A scalar loss of d parameters, over points (n, d): what optimizers move on.

`OfLine` makes one of a loss of one parameter, so that a run of one is a run of several with d = 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gabordiag.objective.objective import CHUNK, FloatArray, Objective, to_numpy
from gabordiag.objective.space import Space


class JointObjective(ABC):
    """A scalar loss of d parameters.

    Attributes:
        space: What is learned.
        loss_name: Name of the loss, for people.
        is_root: The loss is sqrt(smooth_loss): its zeros are kinks, not smooth minima.
    """

    space: Space
    loss_name: str = "loss"
    is_root: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """Precision in which the loss is computed."""
        return torch.float64

    @property
    def device(self) -> torch.device:
        """Where the loss is computed."""
        return torch.device("cpu")

    @property
    def has_state(self) -> bool:
        """Whether an evaluation may depend on those before it (random numbers, counters)."""
        return False

    @property
    def images(self) -> dict[str, Any] | None:
        """Which images the loss is the mean over, as JSON shows it; None without several."""
        return None

    @property
    def goals(self) -> FloatArray:
        """Values (m, d) of the target and of what is the same up to a symmetry; m = 0 without."""
        target = self.space.target
        return np.empty((0, len(self.space))) if target is None else target[None]

    def begin_step(self) -> None:  # noqa: B027 most losses are the same at every step
        """Called before every step of an optimizer: a stochastic loss draws its sample here."""

    def in_double(self) -> JointObjective:
        """Returns the same objective in float64 on the CPU, where it has such a form."""
        return self

    def in_values(self) -> JointObjective:
        """Returns the same objective with every parameter moved as it is, none as a logarithm."""
        return self

    def squared(self) -> JointObjective | None:
        """Returns the same objective with the root of its loss taken away, or None without one."""
        return None

    @abstractmethod
    def loss(self, coordinates: Tensor) -> Tensor:
        """Returns the loss (n,) at coordinates (n, d), differentiable."""

    def smooth_loss(self, coordinates: Tensor) -> Tensor:
        """Returns the smooth function under the root, or the loss itself where there is no root."""
        return self.loss(coordinates)

    def tensor(self, coordinates: npt.ArrayLike) -> Tensor:
        """Returns coordinates as a tensor (n, d) that `loss` takes."""
        array = np.atleast_2d(np.asarray(coordinates, dtype=np.float64))
        return torch.tensor(array, dtype=self.dtype, device=self.device)

    def loss_at(self, coordinates: npt.ArrayLike) -> FloatArray:
        """Returns the losses (n,) at coordinates (n, d)."""
        with torch.no_grad():
            chunks = torch.split(self.tensor(coordinates), CHUNK)
            return to_numpy(torch.cat([self.loss(chunk) for chunk in chunks]))

    def step_gradient(self, coordinates: Tensor) -> tuple[FloatArray, Tensor | None]:
        """Returns losses (n,) and the gradients (n, d) that an optimizer sees at coordinates.

        None where no gradient reaches the coordinates.
        """
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
        at = coordinates.requires_grad_()
        losses = (self.smooth_loss if smooth else self.loss)(at)
        (slopes,) = torch.autograd.grad(losses.sum(), at, allow_unused=True, materialize_grads=True)
        return losses.detach(), slopes

    def hessian(self, coordinates: npt.ArrayLike, *, smooth: bool = False) -> FloatArray:
        """Returns the second derivatives (n, d, d) by autograd."""
        function = self.smooth_loss if smooth else self.loss
        pieces = []
        for chunk in torch.split(self.tensor(coordinates), CHUNK):
            at = chunk.requires_grad_()
            (slopes,) = torch.autograd.grad(function(at).sum(), at, create_graph=True)
            # The points are independent: the sum's derivatives are each point's own.
            rows = [
                torch.autograd.grad(column.sum(), at, retain_graph=True)[0]
                for column in slopes.unbind(-1)
            ]
            pieces.append(torch.stack(rows, dim=-1))
        return to_numpy(torch.cat(pieces))


class OfLine(JointObjective):
    """A loss of one parameter as a loss of d = 1 parameters.

    Attributes:
        line: The loss of one parameter.
    """

    def __init__(self, line: Objective) -> None:
        self.line = line
        self.space = Space((line.parameter,))
        self.loss_name = line.loss_name
        self.is_root = line.is_root
        self._is_log = line.parameter.is_log

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the line."""
        return self.line.dtype

    @property
    def device(self) -> torch.device:
        """Device of the line."""
        return self.line.device

    @property
    def has_state(self) -> bool:
        """Whether evaluations of the line may depend on those before."""
        return self.line.has_state

    @property
    def images(self) -> dict[str, Any] | None:
        """Which images the line's loss is the mean over."""
        return self.line.images

    def begin_step(self) -> None:
        """Begins a step of the line."""
        self.line.begin_step()

    def loss(self, coordinates: Tensor) -> Tensor:
        """Returns the loss (n,) at coordinates (n, 1)."""
        return self.line.loss(self._values(coordinates))

    def smooth_loss(self, coordinates: Tensor) -> Tensor:
        """Returns the loss without its root (n,) at coordinates (n, 1)."""
        return self.line.smooth_loss(self._values(coordinates))

    def _values(self, coordinates: Tensor) -> Tensor:
        column = coordinates[:, 0]
        return torch.exp(column) if self._is_log else column

    def step_gradient(self, coordinates: Tensor) -> tuple[FloatArray, Tensor | None]:
        """Returns losses (n,) and the n gradients, one point after the other.

        A gradient that reaches some points only counts as zero at the others.
        """
        if len(coordinates) == 1 and not self._is_log:
            loss, slope = self.line.loss_and_gradient(coordinates.view(1).detach().requires_grad_())
            return np.array([loss]), slope
        losses, slopes = [], []
        for value in torch.split(self._values(coordinates.detach()), 1):
            loss, slope = self.line.loss_and_gradient(value.clone().requires_grad_())
            losses.append(loss)
            # dvalue/dcoordinate of a logarithm is the value.
            slopes.append(slope * value if self._is_log and slope is not None else slope)
        if all(slope is None for slope in slopes):
            return np.array(losses), None
        found = [coordinates.new_zeros(1) if slope is None else slope for slope in slopes]
        return np.array(losses), torch.stack(found)
