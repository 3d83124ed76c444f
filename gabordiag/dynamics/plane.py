"""Which starts of a plane of two parameters reach the target, at one learning rate.

All starts run at once on the plane's series, each step with both slopes; a run that leaves the
range of a parameter is evaluated exactly from there on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gabordiag.dynamics.batch import require_batchable
from gabordiag.dynamics.joint import learning_rates
from gabordiag.dynamics.joint_outcomes import JointTails, classify_joint
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import OUTCOME_NAMES, OUTCOMES, IntArray, tail_length
from gabordiag.errors import UsageError
from gabordiag.landscape.plane_series import PlaneSeries, build_plane_series
from gabordiag.landscape.surface import Surface, sweep_surface
from gabordiag.objective.joint import JointObjective
from gabordiag.objective.objective import FloatArray
from gabordiag.results import Data, Progress, Result, read_only

# Starts along each parameter, some 1700 in all.
DEFAULT_POINTS = 41
# Of the surface under the map, on which the minima are looked for.
_SURFACE_POINTS = 121
# Below this part of the largest, a square root has lost its digits.
_NEAR_ZERO = 1e-14
# Steps between two reports of progress.
_PROGRESS_EVERY = 10


@dataclass(frozen=True, eq=False)
class PlaneBasins(Result):
    """Outcomes of a plane of starts.

    Attributes:
        surface: The loss on the plane, with the minima found.
        settings: Optimizer, steps.
        lrs: Learning rate of each parameter (2,).
        a: Starts of the first parameter (m,).
        b: Of the second (k,).
        outcomes: Index into `OUTCOME_NAMES` (m, k).
        series_error: Relative error of the series that the runs are on.
    """

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
        count = self.outcomes.size
        shares = {
            name: float((self.outcomes == i).sum() / count) for i, name in enumerate(OUTCOMES)
        }
        lrs = dict(zip(names, self.lrs.tolist(), strict=True))
        return {
            "parameters": list(names),
            "optimizer": self.settings.optimizer,
            "momentum": self.settings.momentum,
            "nesterov": self.settings.nesterov,
            "lr": lrs[names[0]] if len(set(lrs.values())) == 1 else lrs,
            "steps": self.settings.steps,
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
    objective: JointObjective,
    settings: OptimizerSettings,
    points: tuple[int, int] = (DEFAULT_POINTS, DEFAULT_POINTS),
    own_lrs: dict[str, float] | None = None,
    *,
    progress: Progress | None = None,
) -> PlaneBasins:
    """Runs every start of a grid over the two parameters' ranges.

    Args:
        objective: Of two parameters, none as a logarithm.
        settings: Optimizer and steps.
        points: Starts along each parameter.
        own_lrs: Learning rates of single parameters, by name.
        progress: Called now and then with (steps done, steps in all).

    Raises:
        UsageError: Not two parameters, a logarithm, or an optimizer that cannot run as a batch.
    """
    if len(objective.parameters) != 2 or objective.logs:
        raise UsageError("a plane of starts needs two parameters as they are.")
    require_batchable(settings)
    if min(points) < 2:
        raise UsageError("a plane needs at least 2 starts along each parameter.")
    lrs = learning_rates(objective, settings, own_lrs or {})
    surface = sweep_surface(objective, (_SURFACE_POINTS, _SURFACE_POINTS))
    field = _Field(objective, build_plane_series(objective))
    a, b = (
        _starts(p.low, p.high, n, p.period is not None)
        for p, n in zip(objective.parameters, points, strict=True)
    )
    starts = np.stack(np.meshgrid(a, b, indexing="ij"), axis=-1).reshape(-1, 2)
    tails = _descend(field, settings, lrs, starts, progress)
    others = np.array([p.values for p in surface.minima if not p.is_target]).reshape(-1, 2)
    codes, _ = classify_joint(objective, others, tails)
    outcomes = read_only(codes.reshape(len(a), len(b)))
    return PlaneBasins(
        surface, settings, lrs, read_only(a), read_only(b), outcomes, field.series.error
    )


def _starts(low: float, high: float, count: int, periodic: bool) -> FloatArray:
    return np.linspace(low, high, count, endpoint=not periodic)


class _Field:
    """Loss and slopes at many points: by the series inside the ranges, exactly outside."""

    def __init__(self, objective: JointObjective, series: PlaneSeries) -> None:
        self.objective, self.series = objective, series
        self._bounds = [
            (index, p.low, p.high)
            for index, p in enumerate(objective.parameters)
            if p.period is None
        ]

    def __call__(self, values: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Returns losses (n,) and slopes (n, 2) at values (n, 2)."""
        outside = np.zeros(len(values), dtype=np.bool_)
        for index, low, high in self._bounds:
            outside |= (values[:, index] < low) | (values[:, index] > high)
        finite = np.isfinite(values).all(axis=1)
        result = np.full((len(values), 3), np.nan)
        inside = finite & ~outside
        smooth, *slopes = self.series(values[inside])
        if self.objective.is_root:
            with np.errstate(divide="ignore", invalid="ignore"):
                root = np.sqrt(np.maximum(smooth, _NEAR_ZERO * self.series.largest))
            smooth, slopes = root, [slope / (2 * root) for slope in slopes]
        result[inside] = np.stack([smooth, *slopes], axis=1)
        there = finite & outside
        if there.any():
            losses, exact = self.objective.loss_and_gradient(values[there])
            result[there] = np.concatenate([losses[:, None], exact], axis=1)
        return result[:, 0], result[:, 1:]


def _descend(
    field: _Field,
    settings: OptimizerSettings,
    lrs: FloatArray,
    starts: FloatArray,
    progress: Progress | None,
) -> JointTails:
    """Runs all starts (n, 2) in one optimizer: a tensor a parameter, a group each."""
    columns = [torch.tensor(column.copy()) for column in starts.T]
    groups: Any = [{"params": [x], "lr": float(lr)} for x, lr in zip(columns, lrs, strict=True)]
    optimizer = settings.build(groups, lr=float(lrs[0]))
    length = tail_length(settings.steps)
    tail, losses = np.empty((length, *starts.shape)), np.empty((length, len(starts)))
    tolerance = field.objective.tolerance
    moved, steepest = np.zeros(len(starts), dtype=np.bool_), 0.0
    for step in range(settings.steps + 1):
        values = np.stack([column.numpy() for column in columns], axis=1)
        loss, slopes = field(values)
        scaled = np.linalg.norm(slopes * tolerance, axis=1)
        moved |= scaled > 0
        steepest = max(steepest, float(np.nan_to_num(scaled).max()))
        if step > settings.steps - length:
            kept = step - (settings.steps - length) - 1
            tail[kept], losses[kept] = values, loss
        if step == settings.steps:
            break
        for column, slope in zip(columns, slopes.T, strict=True):
            column.grad = torch.tensor(slope.copy())
        optimizer.step()
        if progress is not None and step % _PROGRESS_EVERY == 0:
            progress(step, settings.steps)
    return JointTails(tail, losses, scaled, moved, steepest)
