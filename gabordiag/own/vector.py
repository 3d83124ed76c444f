"""A user's function or module of several numbers, as an objective over points (n, d)."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gabordiag.errors import InputError, UsageError
from gabordiag.objective.objective import Objective, to_numpy
from gabordiag.objective.space import FloatArray, Parameter, Space
from gabordiag.own.evaluation import OwnObjective, UserObjective, gradient_of
from gabordiag.own.evaluator import Evaluator, FunctionLoss
from gabordiag.own.numeric import differentiate, places_inside

# Steps at which a line through the ranges is tried out.
_TRIED = (-0.7639320225, -0.2360679775, 0.0260018634, 0.2720196204, 0.7082039324)


class CustomObjective(UserObjective, Objective):
    """A user's function or module of several parameters.

    As in `OwnObjective`, the derivatives of the smooth loss are those of the function that the
    values show, and those of the loss are what an optimizer would get.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        loss_name: str,
        places: FloatArray,
        seed: int,
        parameters: Sequence[Parameter],
    ) -> None:
        super().__init__(evaluator, loss_name, places, seed)
        self.space = Space(tuple(parameters))

    def with_logs(self, names: Sequence[str]) -> CustomObjective:
        """Returns the same objective with some parameters, above 0, moved as their logarithms."""
        for name in names:
            if self.space.parameters[self._index(name)].low <= 0:
                raise UsageError(
                    f"{name} cannot be learned as a logarithm.", "Give it a range above 0."
                )
        return self._with([replace(p, is_log=p.name in names) for p in self.space.parameters])

    def in_values(self) -> CustomObjective:
        """Returns the same objective with no parameter moved as its logarithm."""
        return self._with([replace(p, is_log=False) for p in self.space.parameters])

    def _with(self, parameters: Sequence[Parameter]) -> Self:
        other = copy.copy(self)
        # What was found out of derivatives is about the coordinates.
        vars(other).pop("_trusted_order", None)
        other.space = Space(tuple(parameters))
        return other

    def restricted(self, names: Sequence[str]) -> CustomObjective:
        """Returns the loss of some of the parameters, the others at their starts."""
        indices, evaluator, parameters = self._chosen(names)
        places = self._places[:, indices]
        other = CustomObjective(evaluator, self.loss_name, places, self._seed, parameters)
        other.is_root, other.takes_root_away = self.is_root, self.takes_root_away
        return other

    def along(self, index: int, at: npt.ArrayLike) -> OwnObjective:
        """Returns the loss along one parameter, the others fixed at values (d,)."""
        return self.line(self.space.names[index], at)

    def line(self, name: str, at: npt.ArrayLike | None = None) -> OwnObjective:
        """Returns the loss along one parameter, the others fixed at values (d,) or their starts."""
        (index,), evaluator, (parameter,) = self._chosen([name], at)
        line = OwnObjective(evaluator, self.loss_name, self._places[:, index], self._seed)
        line.parameter = parameter
        line.is_root, line.takes_root_away = self.is_root, self.takes_root_away
        return line

    def _chosen(
        self, names: Sequence[str], at: npt.ArrayLike | None = None
    ) -> tuple[list[int], Evaluator, list[Parameter]]:
        point = self.space.start if at is None else np.asarray(at, dtype=np.float64)
        indices = [self._index(name) for name in names]
        parameters = [
            replace(self.space.parameters[index], start=float(point[index])) for index in indices
        ]
        return indices, self.evaluator.along(indices, point), parameters

    def _index(self, name: str) -> int:
        if name not in self.space.names:
            names = ", ".join(self.space.names[:8]) + (", ..." if len(self.space) > 8 else "")
            raise UsageError(
                f"'{name}' is not a parameter of this objective.", f"Its parameters are {names}."
            )
        return self.space.names.index(name)

    def loss(self, coordinates: Tensor) -> Tensor:
        """Returns the losses (n,) at coordinates (n, d)."""
        return super().loss(self._values(coordinates))

    def smooth_loss(self, coordinates: Tensor) -> Tensor:
        """Returns the loss without its root (n,) at coordinates (n, d)."""
        return self._smooth(self._values(coordinates)) if self.is_root else self.loss(coordinates)

    def _values(self, coordinates: Tensor) -> Tensor:
        logs = [parameter.is_log for parameter in self.space.parameters]
        if not any(logs):
            return coordinates
        is_log = torch.tensor(logs, device=coordinates.device)
        # The exponential of a plain value could overflow.
        exponents = torch.where(is_log, coordinates, torch.zeros_like(coordinates))
        return torch.where(is_log, torch.exp(exponents), coordinates)

    def step_gradient(self, coordinates: Tensor) -> tuple[FloatArray, Tensor | None]:
        """Returns losses (n,) and the gradients (n, d) that an optimizer sees at coordinates.

        None where no gradient reaches any of them; zero for the parameters that none reaches.
        """
        at = coordinates.detach().clone().requires_grad_()
        losses = self.loss(at)
        return to_numpy(losses), gradient_of(losses.sum(), at)

    def loss_and_gradient(
        self, coordinates: npt.ArrayLike, *, smooth: bool = False
    ) -> tuple[FloatArray, FloatArray]:
        """Returns losses (n,) and gradients (n, d); of `smooth_loss`, if `smooth`."""
        losses, slopes, *_ = self._levels(coordinates, 1, smooth)
        return losses, slopes

    def hessian(self, coordinates: npt.ArrayLike, *, smooth: bool = False) -> FloatArray:
        """Returns the second derivatives (n, d, d)."""
        return self._levels(coordinates, 2, smooth)[2]

    def _levels(self, coordinates: npt.ArrayLike, order: int, smooth: bool) -> list[FloatArray]:
        """Returns losses (n,), gradients (n, d) and, of order 2, Hessians (n, d, d)."""
        points = np.atleast_2d(np.asarray(coordinates, dtype=np.float64))
        if (smooth or order > 1) and self._trusted_order < order:
            return self._numeric(points, smooth)
        found = self._by_autograd(points, order, smooth)
        if not smooth:
            return found
        doubtful = self._doubtful(found[0], *found)
        if doubtful.any():
            for level, numeric in zip(found, self._numeric(points[doubtful], smooth), strict=False):
                level[doubtful] = numeric
        return found

    def _ends(self) -> tuple[FloatArray, FloatArray]:
        """Returns the lower and upper ends of the ranges (d,), as coordinates."""
        low = self.space.coordinates([parameter.low for parameter in self.space.parameters])
        return low, self.space.coordinates([p.high for p in self.space.parameters])

    def _numeric(self, points: FloatArray, smooth: bool) -> list[FloatArray]:
        """Returns losses, gradients and Hessians from values alone.

        Along u = r_i e_i + r_j e_j the second derivative is r_i^2 H_ii + r_j^2 H_jj + 2 r_i r_j
        H_ij.
        """
        function = self._function(smooth)
        count, size = points.shape
        ended = np.array([parameter.period is None for parameter in self.space.parameters])
        base, reach = places_inside(points, *self._ends(), ended)
        pairs = list(itertools.combinations(range(size), 2))
        units = np.eye(size)
        units = np.concatenate([units, *(units[[i]] + units[[j]] for i, j in pairs)])
        ways = reach * units[:, None]

        def along(steps: FloatArray) -> FloatArray:
            moved = base + steps.reshape(-1, *ways.shape[:2], 1) * ways
            with torch.no_grad():
                return to_numpy(function(self.tensor(moved.reshape(-1, size))))

        found = differentiate(along, np.zeros(len(units) * count), 1.0)
        first = found.first.reshape(-1, count)[:size].T / reach
        second = found.second.reshape(-1, count)
        hessians = np.zeros((count, size, size))
        for index in range(size):
            hessians[:, index, index] = second[index] / reach[:, index] ** 2
        for row, (i, j) in enumerate(pairs, size):
            mixed = (second[row] - second[i] - second[j]) / (2 * reach[:, i] * reach[:, j])
            hessians[:, i, j] = hessians[:, j, i] = mixed
        with torch.no_grad():
            losses = to_numpy(function(self.tensor(points)))
        return [losses, first, hessians]

    @cached_property
    def _trusted_order(self) -> int:
        """The highest derivative by autograd that differences of values confirm.

        Looked at along one line through the middle of the ranges, on which every parameter moves
        by a different part of its own.
        """
        low, high = self._ends()
        middle = self.tensor((low + high) / 2)[0]
        # Irrational, so that no symmetry of the loss hides a component.
        way = self.tensor((high - low) / 2 * (0.5 + np.sqrt(np.arange(2, 2 + len(low))) % 0.5))[0]

        def on_line(step: Tensor) -> Tensor:
            point = (middle + step * way).to(self.dtype)
            value = self._values(point)
            if self._has_squared and self.evaluator.is_root:
                return self.evaluator.smooth(value)
            loss = self.evaluator.loss(value)
            return loss * loss if self._has_squared else loss

        evaluator = FunctionLoss(on_line, np.array(_TRIED))
        evaluator.dtype = self.dtype
        line = OwnObjective(evaluator, self.loss_name, np.array(_TRIED), self._seed)
        line.parameter = Parameter("step", -1.0, 1.0, None, None, 0.0)
        try:
            return line.trusted_order
        except InputError:
            # The loss ends inside the ranges: nothing contradicts its derivatives.
            return 2
