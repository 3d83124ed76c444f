"""The numbers of one filter's landscapes; the place to add another quantity."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gabordiag.charting.grid import Grid
from gabordiag.charting.orientations import ImageGram, OrientationLine, Orientations
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import CODES
from gabordiag.dynamics.tables import TabulatedObjective
from gabordiag.dynamics.windows import Windows, log_spaced, measure_windows_of_many
from gabordiag.landscape.critical import find_critical_points
from gabordiag.landscape.points import Landscape
from gabordiag.objective.space import FloatArray

# Learning rates in units of the landscape's own, twelve a decade: the slowest shrink a distance by
# 1e-2 in 1500 steps, the fastest are 50 times what is stable at the target.
RATES = log_spaced(10**-2.5, 1e2, 55)


@dataclass(frozen=True)
class Charted:
    """A landscape, the unit of its learning rates, and what runs on it did.

    The windows are those of the run from the experiment's start, then of all other starts, at rates
    in that unit; none where the target is no minimum.
    """

    landscape: Landscape
    unit: float
    windows: tuple[Windows, ...]

    @property
    def widest(self) -> tuple[float, float]:
        """The working rates from the start, the widest interval of them; NaN without any."""
        found = self.windows[0].working_lr if self.windows else []
        low, high = max(found, key=lambda ends: ends[1] / ends[0], default=(math.nan, math.nan))
        return low * self.unit, high * self.unit

    @property
    def spurious_basins(self) -> list[float]:
        """The widths of all basins but the target's."""
        basins = [p.basin for p in self.landscape.attractors if p.basin and not p.is_target]
        return [high - low for low, high in basins]

    @property
    def target_basin(self) -> float:
        """The width of the target's basin; NaN without one."""
        point = self.landscape.target
        return math.nan if point is None or point.basin is None else point.basin[1] - point.basin[0]

    def of_start(self, name: str) -> float:
        """Returns one of the rates that the run from the start shows, or NaN."""
        rate = getattr(self.windows[0], name) if self.windows else None
        return math.nan if rate is None else rate * self.unit

    @property
    def reached(self) -> FloatArray:
        """The share of starts from which the target is reached, by rate."""
        if not self.windows:
            return np.zeros(len(RATES))
        codes = np.stack([windows.outcomes for windows in self.windows[1:]])
        return np.asarray((codes == CODES["reached"]).mean(axis=0))

    @property
    def best_lr(self) -> float:
        """The rate that brings most starts to the target, the middle one of equals, or NaN."""
        shares = self.reached
        equals = np.flatnonzero(shares == shares.max())
        return float(RATES[equals[len(equals) // 2]]) * self.unit if shares.max() else math.nan


# Name -> unit, what it is, and how it is read; angles in radians, NaN where there is none.
QUANTITIES: dict[str, tuple[str, str, Callable[[Charted], float]]] = {
    "minima": ("1", "minima (and kinks) over one period", lambda c: len(c.landscape.attractors)),
    "spurious": ("1", "minima other than the target", lambda c: len(c.spurious_basins)),
    "basin_width": ("rad", "width of the target's basin", lambda c: c.target_basin),
    "widest_spurious": (
        "rad", "width of the widest other basin", lambda c: max(c.spurious_basins, default=0.0),
    ),
    "unit_lr": (
        "1", "1 / curvature at the target; at a kink, one degree / slope", lambda c: c.unit
    ),
    "escape_lr": (
        "1", "smallest rate that leaves the start's basin", lambda c: c.of_start("escape_lr")
    ),
    "hold_lr": ("1", "largest stable rate in the target's basin", lambda c: c.of_start("hold_lr")),
    "window_low": ("1", "smallest rate of the working window", lambda c: c.widest[0]),
    "window_high": ("1", "largest rate of the working window", lambda c: c.widest[1]),
    "best_lr": ("1", "rate that brings most starts to the target", lambda c: c.best_lr),
    "reachable_share": (
        "1", "share of starts that this rate brings there", lambda c: float(c.reached.max())
    ),
    "largest_loss": ("1", "largest loss of the landscape", lambda c: c.landscape.largest_loss),
    "certified": (
        "1",
        "1 where the list of minima is proven complete",
        lambda c: c.landscape.certificate.certified,
    ),
}  # fmt: skip


def chart_filter(
    grid: Grid, index: tuple[int, int, int, int], images: Sequence[ImageGram]
) -> FloatArray:
    """Returns all quantities of a filter's landscapes (quantities, images, losses)."""
    experiment = grid.of_filter(index)
    filters = Orientations(experiment)
    tables, units = [], []
    for image in images:
        for loss in grid.axes["loss"]:
            line = OrientationLine(filters, image, loss)
            landscape = find_critical_points(line)
            tables.append(TabulatedObjective(line, landscape))
            units.append(natural_rate(landscape))
    starts = [experiment.theta0, *grid.start_angles(experiment.psi)]
    settings = OptimizerSettings("sgd", steps=grid.steps)
    running = [place for place, unit in enumerate(units) if math.isfinite(unit)]
    windows: list[tuple[Windows, ...]] = [()] * len(tables)
    if running:
        chosen = [tables[place] for place in running], [units[place] for place in running]
        for place, found in zip(
            running, measure_windows_of_many(*chosen, settings, RATES, starts), strict=True
        ):
            windows[place] = found
    charted = map(Charted, (table.landscape for table in tables), units, windows)
    values = [[read(one) for _, _, read in QUANTITIES.values()] for one in charted]
    shape = len(images), len(grid.axes["loss"]), len(QUANTITIES)
    return np.moveaxis(np.array(values, dtype=np.float64).reshape(shape), -1, 0)


def natural_rate(landscape: Landscape) -> float:
    """Returns 1 / curvature at the target, or one tolerance / slope at a kink; else NaN."""
    point = landscape.target
    if point is not None and point.slope:
        return landscape.parameter.tolerance / point.slope
    return 1 / point.curvature if point is not None and point.curvature else math.nan
