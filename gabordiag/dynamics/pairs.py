"""The planes on which runs of several parameters are shown.

Through a run's end go as many planes as there are pairs of parameters; the loss on each is saved
with the runs, so that a figure has nothing to compute.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from gabordiag.objective.objective import Objective
from gabordiag.objective.space import FloatArray, Space
from gabordiag.own.evaluation import UserObjective
from gabordiag.results import read_only

# Of each parameter: enough for contours, and ten pairs are drawn in one figure.
PAIR_POINTS = 61
# Of a custom objective whose evaluations are expensive.
_FEW_POINTS = 16
# Parameters of which the pairs are shown, those that moved most.
_MOST_SHOWN = 5
# A length is shown down to this part of its range at least; at 0 there is no filter.
_LOWEST = 0.05


@dataclass(frozen=True, eq=False)
class PairSurface:
    """The loss over two of the learned parameters, the others at a run's end.

    Attributes:
        names: Of the two.
        a: Values of the first (n,).
        b: Values of the second (n,).
        loss: (n, n).
    """

    names: tuple[str, str]
    a: FloatArray
    b: FloatArray
    loss: FloatArray

    @property
    def file(self) -> str:
        """Where it is saved."""
        return f"pair-{self.names[0]}-{self.names[1]}.npz"


def pair_surfaces(
    objective: Objective, path: FloatArray, points: int = PAIR_POINTS
) -> tuple[PairSurface, ...]:
    """Returns the loss on every pair's plane through the last finite values of a path (n, d).

    Of many parameters, on the planes of those that moved most.
    """
    if isinstance(objective, UserObjective) and objective.is_expensive:
        points = min(points, _FEW_POINTS)
    space, objective = objective.space, objective.in_values()
    finite = path[np.isfinite(path).all(axis=1)]
    end, moved = finite[-1], np.ptp(finite, axis=0) / space.tolerance
    shown = sorted(np.argsort(-moved, kind="stable")[:_MOST_SHOWN].tolist())
    surfaces = []
    for i, j in itertools.combinations(shown, 2):
        axes = [_pair_axis(space, index, path[:, index], points) for index in (i, j)]
        grid = np.tile(end, (points, points, 1))
        grid[..., i], grid[..., j] = np.meshgrid(*axes, indexing="ij")
        loss = objective.loss_at(grid.reshape(-1, len(end))).reshape(points, points)
        names = space.names[i], space.names[j]
        surfaces.append(PairSurface(names, *(read_only(x) for x in (*axes, loss))))
    return tuple(surfaces)


def _pair_axis(space: Space, index: int, path: FloatArray, points: int) -> FloatArray:
    """A whole period, or the range widened to hold the run, as far as it is a filter there."""
    parameter = space.parameters[index]
    if parameter.period is not None:
        return np.linspace(parameter.low, parameter.high, points)
    finite = path[np.isfinite(path)]
    width = parameter.high - parameter.low
    low, high = min(parameter.low, float(finite.min())), max(parameter.high, float(finite.max()))
    if parameter.is_positive:
        low = max(low, _LOWEST * width)
    return np.linspace(low, min(high, parameter.high + width), points)
