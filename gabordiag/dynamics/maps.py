"""The map: where every start ends at every learning rate; or at one, every start of a plane.

Cells go through one torch optimizer by the ten thousand, and each is judged by its tail with the
very code that judges a single run. Where a path is chaotic, rounding alone decides its cell: an
error of one unit in the last place grows by exp(sum ln|1 - lr L''|) along it, and past 1 / eps the
cell and a single run of the same start and rate may differ.

The starts of a plane of two parameters run on its series; a run that leaves the range of a
parameter is evaluated exactly from there on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gabordiag.dynamics.batch import descend_batch, require_batchable
from gabordiag.dynamics.descend import descend
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import (
    CODES,
    OUTCOME_NAMES,
    Attractor,
    IntArray,
    Surroundings,
    classify,
    tail_length,
)
from gabordiag.dynamics.tables import TabulatedObjective
from gabordiag.dynamics.theory import Theory, hold_theory
from gabordiag.dynamics.windows import Windows, measure_windows
from gabordiag.errors import UsageError
from gabordiag.landscape.series_objective import PlaneObjective
from gabordiag.landscape.surface import Surface, sweep_surface
from gabordiag.landscape.sweep import Sweep, sweep_objective
from gabordiag.objective.objective import Line, Objective
from gabordiag.objective.space import FloatArray, one_or_named
from gabordiag.results import Data, Progress, Result, View, read_only

# Starts of a plane along each parameter, some 1700 in all; values of the surface under them, on
# which the minima are looked for; steps between two reports of progress.
PLANE_POINTS, _SURFACE_POINTS, _PLANE_PROGRESS = 41, 121, 10
# Columns of basins.npz that hold the windows, and what they hold.
_WINDOWS = {
    "lr": "lrs", "start_outcome": "outcomes", "start_period": "periods",
    "escaped": "escaped", "held": "held",
}  # fmt: skip


def _shares(outcomes: npt.NDArray[Any]) -> dict[str, float]:
    return {name: float((outcomes == code).mean()) for name, code in CODES.items()}


@dataclass(frozen=True, eq=False)
class Basins(Result):
    """The outcome of every start (s,) at every learning rate (l,), an index into `OUTCOME_NAMES`.

    The windows are the same rates from the start that is asked about, with what escapes and holds.
    The table's error is that of the tabulated gradient, relative.
    """

    grid = (("lr", "lr"), ("start", "starts"))

    sweep: Sweep
    settings: OptimizerSettings
    starts: FloatArray
    outcomes: npt.NDArray[np.int8]
    windows: Windows
    table_error: float

    @property
    def lrs(self) -> FloatArray:
        """Learning rates, ascending (l,)."""
        return self.windows.lrs

    @property
    def fractions(self) -> dict[str, float]:
        """Share of all cells by outcome, those that occur."""
        return {name: share for name, share in _shares(self.outcomes).items() if share > 0}

    @property
    def reached_share(self) -> FloatArray:
        """For every rate, the share of starts that reach the target (l,)."""
        return np.asarray((self.outcomes == CODES["reached"]).mean(axis=1))

    @property
    def best_lr(self) -> float | None:
        """The rate that brings most starts to the target; the middle one of equals."""
        shares = self.reached_share
        if shares.max() == 0:
            return None
        equals = np.flatnonzero(shares == shares.max())
        return float(self.lrs[equals[len(equals) // 2]])

    @property
    def theory(self) -> Theory | None:
        """The bound from curvature beside the measured `hold_lr`."""
        hold, beyond = self.windows.hold_lr, self.windows.beyond_lr
        return hold_theory(self.sweep.landscape, self.settings, hold, beyond)

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        return {
            **self.settings.to_dict(),
            "fractions": self.fractions,
            **self.windows.to_dict(),
            "best_lr": self.best_lr,
            "reachable_share": float(self.reached_share.max()),
            "table_error": self.table_error,
            "theory": None if self.theory is None else self.theory.to_dict(),
            "landscape": self.sweep.to_dict(),
        }

    @classmethod
    def from_view(cls, view: View) -> Basins:
        """Returns the map of a saved run: the inverse of `view`."""
        saved, grid = view.result, view.data["basins.npz"]
        sweep = Sweep.from_view(View(saved["landscape"], view.data))
        own = sweep.landscape.attractor_of(saved["start"])
        is_targets = own is not None and own is sweep.landscape.goal
        columns = {name: read_only(grid[column]) for column, name in _WINDOWS.items()}
        windows = Windows(saved["start"], **columns, starts_in_target_basin=is_targets)
        starts, outcomes = read_only(grid["starts"]), read_only(grid["outcome"])
        settings = OptimizerSettings.from_dict(saved)
        return cls(sweep, settings, starts, outcomes, windows, saved["table_error"])

    def data(self) -> Data:
        """Returns what is saved as basins.npz and sweep.csv."""
        grid: dict[str, npt.NDArray[Any]] = {
            "starts": self.starts,
            "outcome": self.outcomes,
            "outcome_names": np.array(OUTCOME_NAMES),
            **{column: getattr(self.windows, name) for column, name in _WINDOWS.items()},
        }
        return {"basins.npz": grid, **self.sweep.data()}


def default_starts(objective: Line, count: int = 361) -> FloatArray:
    """Returns starts over the whole range, both ends included: 361 are two a degree."""
    if count < 2:
        raise UsageError(f"a map of {count} starts cannot be drawn.", "Give at least 2 starts.")
    return np.linspace(objective.parameter.low, objective.parameter.high, count)


def run_basins(
    objective: Line,
    settings: OptimizerSettings,
    lrs: FloatArray,
    starts: FloatArray | None = None,
    *,
    start: float | None = None,
    sweep: Sweep | None = None,
    table: TabulatedObjective | None = None,
    progress: Progress | None = None,
) -> Basins:
    """Runs the whole map, of ascending rates (l,) and starts (s,), by default the whole range.

    One start is asked about besides, by default the parameter's own. Sweep and table are made
    unless they are known already.
    """
    require_batchable(settings)
    sweep = sweep_objective(objective) if sweep is None else sweep
    starts = default_starts(objective) if starts is None else starts
    start = objective.parameter.start if start is None else start
    table = TabulatedObjective(objective, sweep.landscape) if table is None else table
    codes, _ = descend_batch(table, settings, lrs, starts, progress=progress).classify()
    return Basins(
        sweep=sweep,
        settings=settings,
        starts=read_only(starts.copy()),
        outcomes=read_only(codes.astype(np.int8)),
        windows=measure_windows(table, settings, lrs, start)[0],
        table_error=table.tables[1].error,
    )


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
        shares = _shares(self.outcomes)
        return {
            "parameters": list(names),
            **self.settings.to_dict(),
            "lr": one_or_named(names, self.lrs),
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
    points: tuple[int, int] = (PLANE_POINTS, PLANE_POINTS),
    own_lrs: Mapping[str, float] | None = None,
    *,
    progress: Progress | None = None,
) -> PlaneBasins:
    """Runs every start of a grid over the ranges of two parameters, which may have own rates."""
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
        if progress is not None and state.step % _PLANE_PROGRESS == 0:
            progress(state.step, settings.steps)
    others = tuple(Attractor(np.array(p.values)) for p in surface.minima if not p.is_target)
    around = Surroundings(objective.space, objective.goals, others, None, steepest)
    codes, _ = classify(around, np.array(values), np.array(losses), last, moved)
    outcomes = read_only(codes.reshape(len(a), len(b)))
    return PlaneBasins(surface, settings, lrs, read_only(a), read_only(b), outcomes, field.error)
