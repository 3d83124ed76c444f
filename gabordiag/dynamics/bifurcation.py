"""Where the iterates from one start end up, against the learning rate.

Past 2 / L'' gradient descent no longer settles: it flips between two values, then four, then
wanders (Chen et al. 2023, arXiv 2310.01687; Kong & Tao 2020, arXiv 2002.06189). For every rate the
values of the last steps are kept, with their period and Lyapunov exponent.
"""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gabordiag.dynamics.batch import descend_batch
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import (
    CODES,
    MAX_PERIOD,
    OUTCOME_NAMES,
    ROUNDING_MOVE,
    IntArray,
    lyapunov_exponent,
)
from gabordiag.dynamics.tables import TabulatedObjective
from gabordiag.dynamics.theory import Theory, stability_bound
from gabordiag.errors import InputError, UsageError
from gabordiag.landscape.critical import find_critical_points
from gabordiag.landscape.points import CriticalPoint, Landscape
from gabordiag.landscape.series import build_series
from gabordiag.objective.objective import Line
from gabordiag.objective.space import FloatArray
from gabordiag.results import Data, Progress, Result, View, read_only

# The longest cycle that is looked for, as often as a cycle must be seen.
DEFAULT_TAIL = 3 * MAX_PERIOD
# An exponent within this of zero is neither: a cycle about to double has exactly zero.
CHAOS_THRESHOLD = 5e-3
# Columns of bifurcation.npz, and what they hold.
_COLUMNS = {
    "lr": "lrs", "values": "values", "lyapunov": "lyapunov",
    "period": "periods", "outcome": "outcomes",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Bifurcation(Result):
    """The attractor from one start at every learning rate (l,), ascending.

    Values are the last ones of every run (l, tail), not wrapped; the exponent over them is NaN
    where it is not defined (`OptimizerSettings.is_gradient_descent`). The period is 1 for a point
    at rest, 0 where none was found; outcomes index `OUTCOME_NAMES`.
    """

    grid = (("lr", "lr"), ("tail", ""))

    landscape: Landscape
    settings: OptimizerSettings
    start: float
    lrs: FloatArray
    values: FloatArray
    lyapunov: FloatArray
    periods: IntArray
    outcomes: npt.NDArray[np.int8]

    @property
    def kinds(self) -> list[str]:
        """Behaviour at each rate: `settled`, `cycle`, `chaos`, `nonfinite` or `other`."""
        settled = [CODES[name] for name in ("reached", "local_minimum", "plateau")]
        # What diverges, or descends along a curve that bends upwards, has such an exponent, too.
        is_erratic = self.outcomes == CODES["erratic"]
        cases = {
            "settled": np.isin(self.outcomes, settled),
            "cycle": self.periods >= 1,
            "chaos": is_erratic & (self.lyapunov > CHAOS_THRESHOLD),
            "nonfinite": self.outcomes == CODES["nonfinite"],
        }
        kinds: list[str] = np.select(list(cases.values()), list(cases), "other").tolist()
        return kinds

    @property
    def bands(self) -> list[tuple[str, float, float]]:
        """Stretches of equal behaviour, one of `kinds`: (kind, lowest rate, highest rate)."""
        rates = zip(self.kinds, self.lrs.tolist(), strict=True)
        groups = [list(group) for _, group in itertools.groupby(rates, key=lambda rate: rate[0])]
        return [(*group[0], group[-1][1]) for group in groups]

    @property
    def bounds(self) -> list[tuple[Theory, CriticalPoint]]:
        """The stability bounds of the minima, where theory has one."""
        tolerance = self.landscape.parameter.tolerance
        return [
            (theory, point)
            for point in self.landscape.attractors
            if (theory := stability_bound(point, self.settings, tolerance)) is not None
        ]

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        goal = self.landscape.target
        return {
            **self.settings.to_dict(),
            "start": self.start,
            "lr": [float(self.lrs[0]), float(self.lrs[-1])],
            "points": len(self.lrs),
            "tail": self.values.shape[1],
            "target_stable_lr": None if goal is None else goal.stable_lr,
            "bounds": [{"value": point.value, **theory.to_dict()} for theory, point in self.bounds],
            "landscape": self.landscape.to_dict(),
            "bands": [{"kind": kind, "lr": [low, high]} for kind, low, high in self.bands],
        }

    @classmethod
    def from_view(cls, view: View) -> Bifurcation:
        """Returns the diagram of a saved run: the inverse of `view`."""
        saved, table = view.result, view.data["bifurcation.npz"]
        columns = {name: read_only(table[column]) for column, name in _COLUMNS.items()}
        landscape = Landscape.from_dict(saved["landscape"])
        return cls(landscape, OptimizerSettings.from_dict(saved), saved["start"], **columns)

    def data(self) -> Data:
        """Returns what is saved as bifurcation.npz."""
        columns = {column: getattr(self, name) for column, name in _COLUMNS.items()}
        return {"bifurcation.npz": {**columns, "outcome_names": np.array(OUTCOME_NAMES)}}


def run_bifurcation(
    objective: Line,
    settings: OptimizerSettings,
    lrs: FloatArray,
    *,
    start: float | None = None,
    tail: int = DEFAULT_TAIL,
    table: TabulatedObjective | None = None,
    progress: Progress | None = None,
) -> Bifurcation:
    """Runs ascending rates (l,) from one start, by default the parameter's; judges the tails."""
    if settings.steps <= tail:
        raise UsageError(
            f"{settings.steps} steps leave nothing before the {tail} that are kept.",
            f"Use --steps {5 * tail} or more.",
        )
    start = float(objective.parameter.start if start is None else start)
    if table is None:
        table = TabulatedObjective(objective, find_critical_points(objective))
    landscape = table.landscape
    runs = descend_batch(table, settings, lrs, np.array([start]), tail=tail, progress=progress)
    codes, periods = (grid[:, 0] for grid in runs.classify())
    kept = runs.tail
    # At rest a value may still flicker by its own rounding.
    width = landscape.parameter.width
    still = np.maximum(ROUNDING_MOVE * width, 4 * np.spacing(np.abs(kept).max(axis=0)))
    at_rest = (periods == 0) & (np.ptp(kept, axis=0) <= still)
    return Bifurcation(
        landscape=landscape,
        settings=settings,
        start=start,
        lrs=read_only(lrs.copy()),
        values=read_only(np.ascontiguousarray(kept.T)),
        lyapunov=read_only(_exponents(objective, settings, lrs, kept)),
        periods=read_only(np.where(at_rest, 1, periods)),
        outcomes=read_only(codes.astype(np.int8)),
    )


def _exponents(
    objective: Line, settings: OptimizerSettings, lrs: FloatArray, kept: FloatArray
) -> FloatArray:
    if not settings.is_gradient_descent:
        return np.full(len(lrs), np.nan)
    curvatures = loss_curvatures(objective, kept.ravel()).reshape(kept.shape)
    exponents = [
        lyapunov_exponent(np.full(len(kept), lr), column, settings.momentum)
        for lr, column in zip(lrs.tolist(), curvatures.T, strict=True)
    ]
    # None is NaN.
    return np.array(exponents, dtype=np.float64)


def loss_curvatures(objective: Line, values: FloatArray) -> FloatArray:
    """Returns L'' of the loss (n,), or NaN: from its series, or where that ripples, itself."""
    series = build_series(objective)
    finite = np.isfinite(values)
    resolved = finite & series.stands_for(objective) & (objective.parameter.room(values) >= 0)
    curvatures = np.full(len(values), np.nan)
    curvatures[resolved] = series.evaluate(values[resolved], is_root=objective.is_root)[2]
    asked = finite & ~resolved
    if asked.any() and not objective.is_expensive:
        distinct, place = np.unique(values[asked], return_inverse=True)
        with suppress(InputError):
            curvatures[asked] = objective.derivatives(distinct, 2)[2][place]
    return curvatures
