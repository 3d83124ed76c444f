"""Which starts of a plane of two parameters reach the target, at one learning rate.

All starts run at once on the plane's series, each step with both slopes; a run that leaves the
range of a parameter is evaluated exactly from there on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gabordiag.dynamics.batch import require_batchable
from gabordiag.dynamics.descend import descend
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import (
    OUTCOME_NAMES,
    OUTCOMES,
    Attractor,
    IntArray,
    Surroundings,
    classify,
    tail_length,
)
from gabordiag.errors import UsageError
from gabordiag.landscape.series_objective import PlaneObjective
from gabordiag.landscape.surface import Surface, sweep_surface
from gabordiag.objective.objective import Objective
from gabordiag.objective.space import FloatArray
from gabordiag.results import Data, Progress, Result, read_only

# Starts along each parameter, some 1700 in all.
DEFAULT_POINTS = 41
# Of the surface under the map, on which the minima are looked for.
_SURFACE_POINTS = 121
# Steps between two reports of progress.
_PROGRESS_EVERY = 10


@dataclass(frozen=True, eq=False)
class PlaneBasins(Result):
    """Outcomes, as indices into `OUTCOME_NAMES` (m, k), of a plane of starts a (m,) and b (k,).

    The surface is the loss on the plane, with the minima found; the two rates are the parameters'.
    The runs are on a series, of a relative error.
    """

    grid = (("a", "a"), ("b", "b"))

    surface: Surface
    settings: OptimizerSettings
    lrs: FloatArray
    a: FloatArray
    b: FloatArray
    outcomes: IntArray
    series_error: float

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        names = self.surface.names
        shares = {name: float((self.outcomes == i).mean()) for i, name in enumerate(OUTCOMES)}
        lrs = dict(zip(names, self.lrs.tolist(), strict=True))
        return {
            "parameters": list(names),
            **self.settings.to_dict(),
            "lr": lrs[names[0]] if len(set(lrs.values())) == 1 else lrs,
            "fractions": shares,
            "reached_share": shares["reached"],
            "series_error": self.series_error,
            "surface": self.surface.to_dict(),
        }

    def data(self) -> Data:
        """Returns what is saved as basins.npz and surface.npz."""
        table = {
            "a": self.a,
            "b": self.b,
            "outcome": self.outcomes,
            "outcome_names": np.array(OUTCOME_NAMES),
        }
        return {"basins.npz": table, **self.surface.data()}


def run_plane(
    objective: Objective,
    settings: OptimizerSettings,
    points: tuple[int, int] = (DEFAULT_POINTS, DEFAULT_POINTS),
    own_lrs: Mapping[str, float] | None = None,
    *,
    progress: Progress | None = None,
) -> PlaneBasins:
    """Runs every start of a grid over the two parameters' ranges, with so many along each.

    Single parameters may have learning rates of their own, by name.
    """
    if len(objective.space) != 2 or any(p.is_log for p in objective.space.parameters):
        raise UsageError("a plane of starts needs two parameters as they are.")
    require_batchable(settings)
    if min(points) < 2:
        raise UsageError("a plane needs at least 2 starts along each parameter.")
    lrs = objective.space.rates(own_lrs or settings.lr)
    surface = sweep_surface(objective, (_SURFACE_POINTS, _SURFACE_POINTS))
    field = PlaneObjective(objective)
    a, b = (
        np.linspace(p.low, p.high, n, endpoint=p.period is None)
        for p, n in zip(objective.space.parameters, points, strict=True)
    )
    starts = np.stack(np.meshgrid(a, b, indexing="ij"), axis=-1).reshape(-1, 2)
    length = tail_length(settings.steps)
    values, losses = [], []
    moved, steepest = np.zeros(len(starts), dtype=np.bool_), 0.0
    last = np.zeros(len(starts))
    for state in descend(field, settings, starts, np.broadcast_to(lrs, starts.shape)):
        last = np.hypot.reduce(state.gradients * field.space.tolerance, axis=1)
        moved |= last > 0
        steepest = max(steepest, float(np.nan_to_num(last).max()))
        if state.step > settings.steps - length:
            values.append(state.values)
            losses.append(state.losses)
        if progress is not None and state.step % _PROGRESS_EVERY == 0:
            progress(state.step, settings.steps)
    others = tuple(Attractor(np.array(p.values)) for p in surface.minima if not p.is_target)
    around = Surroundings(objective.space, objective.goals, others, None, steepest)
    codes, _ = classify(around, np.array(values), np.array(losses), last, moved)
    outcomes = read_only(codes.reshape(len(a), len(b)))
    return PlaneBasins(surface, settings, lrs, read_only(a), read_only(b), outcomes, field.error)
