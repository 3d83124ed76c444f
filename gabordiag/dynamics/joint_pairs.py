"""Several runs of several parameters, and the planes on which they are shown.

Through the first run's end go as many planes as there are pairs of parameters; the loss on each is
saved with the runs, so that a figure has nothing to compute.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np

from gabordiag.dynamics.descent import trajectory_name
from gabordiag.dynamics.joint import JointRun, named
from gabordiag.objective.joint import JointObjective
from gabordiag.objective.objective import FloatArray
from gabordiag.results import Data, Result, read_only

# Of each parameter: enough for contours, and ten pairs are drawn in one figure.
PAIR_POINTS = 61
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


def pair_surfaces(run: JointRun, points: int = PAIR_POINTS) -> tuple[PairSurface, ...]:
    """Returns the loss on every pair's plane through the run's last finite values."""
    objective = JointObjective(run.objective.experiment, run.objective.names)
    path = run.trajectory.values
    end = path[np.isfinite(path).all(axis=1)][-1]
    surfaces = []
    for i, j in itertools.combinations(range(len(end)), 2):
        axes = [_pair_axis(objective, index, path[:, index], points) for index in (i, j)]
        grid = np.tile(end, (points, points, 1))
        grid[..., i], grid[..., j] = np.meshgrid(*axes, indexing="ij")
        loss = objective.loss_at(grid.reshape(-1, len(end))).reshape(points, points)
        names = objective.names[i], objective.names[j]
        surfaces.append(PairSurface(names, *(read_only(x) for x in (*axes, loss))))
    return tuple(surfaces)


def _pair_axis(objective: JointObjective, index: int, path: FloatArray, points: int) -> FloatArray:
    """A whole period, or the range widened to hold the run, as far as it is a filter there."""
    parameter = objective.parameters[index]
    if parameter.period is not None:
        return np.linspace(parameter.low, parameter.high, points)
    finite = path[np.isfinite(path)]
    width = parameter.high - parameter.low
    low = max(min(parameter.low, float(finite.min())), _LOWEST * width)
    high = min(max(parameter.high, float(finite.max())), parameter.high + width)
    return np.linspace(low, high, points)


@dataclass(frozen=True, eq=False)
class JointOptimization(Result):
    """Runs of several parameters.

    Attributes:
        runs: In the order of optimizers and rates.
        pairs: Of the first run: the loss on every pair's plane through its end.
    """

    runs: tuple[JointRun, ...]
    pairs: tuple[PairSurface, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        objective = self.runs[0].objective
        return {
            "learned": list(objective.names),
            "units": ["rad" if p.is_angle else p.unit for p in objective.parameters],
            "periods": [parameter.period for parameter in objective.parameters],
            "tolerances": objective.tolerance.tolist(),
            "target": named(objective.names, objective.target),
            "runs": [
                {**run.to_dict(), "trajectory": trajectory_name(index)}
                for index, run in enumerate(self.runs)
            ],
            "pairs": [{"names": list(pair.names), "file": pair.file} for pair in self.pairs],
        }

    def data(self) -> Data:
        """Returns what is saved as trajectory-*.csv and pair-*.npz."""
        names = self.runs[0].objective.names
        tables = {trajectory_name(i): r.trajectory.to_table(names) for i, r in enumerate(self.runs)}
        planes = {p.file: {"a": p.a, "b": p.b, "loss": p.loss} for p in self.pairs}
        return {**tables, **planes}
