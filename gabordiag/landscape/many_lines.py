"""Critical points of losses that are known at evenly spaced values only: many lines at once.

No series is followed and nothing is proven: a minimum narrower than the spacing can be missed. What
it costs is known beforehand: a grid, and three more evaluations at every extremum.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gabordiag.landscape.critical import basin_around
from gabordiag.landscape.points import Certificate, CriticalPoint, Landscape, stable_lr
from gabordiag.objective.space import FloatArray, Parameter

# Places of a grid. An orientation's is one of 3 degrees.
POINTS = 60

# Between a grid's places a slope that is so many times the steepest from one to the next is of what
# the grid misses. Looked for at so many places, at this part of the spacing; finer grids have so
# many times the places.
_STEEPER, _PROBES, _BESIDE, _FINER = 2.5, 12, 16, 8
# Index of a line and values on it -> losses (n, batches).
Evaluate = Callable[[Sequence[tuple[int, FloatArray]]], list[FloatArray]]


@dataclass(frozen=True, eq=False)
class SampledLine:
    """The loss along a parameter at a grid (n,): of the batches (n, batches), and their mean.

    Losses are rounded to `eps`, relative. Unresolved is what is steeper between the places than
    from one to the next.
    """

    values: FloatArray
    losses: FloatArray
    batches: FloatArray
    landscape: Landscape
    eps: float
    is_resolved: bool = True

    @property
    def height(self) -> float:
        """Largest minus smallest loss."""
        finite = self.losses[np.isfinite(self.losses)]
        return float(np.ptp(finite)) if len(finite) else 0.0

    @property
    def is_flat(self) -> bool:
        """Whether the loss does not depend on the parameter, but for rounding."""
        return self.height <= rounding(self.eps, self.losses)

    def at(self, value: float) -> float:
        """Returns the loss between the grid's places, interpolated."""
        period = self.landscape.parameter.period
        return float(np.interp(value, self.values, self.losses, period=period))

    def noise(self, *values: float) -> float:
        """Returns the rounding of losses beside the values, from which minima are interpolated."""
        spot = np.searchsorted(self.values, values)[:, None] + np.arange(-2, 2)
        return rounding(self.eps, self.losses[np.clip(spot, 0, len(self.losses) - 1)])

    def slope(self, value: float) -> float:
        """Returns the slope between the places of an interval's grid, interpolated."""
        return float(np.interp(value, self.values, np.gradient(self.losses, self.values)))


def rounding(eps: float, losses: npt.ArrayLike) -> float:
    """Returns by how much losses may differ for rounding: it grows with them along a line."""
    sizes = np.abs(losses)
    return 8 * eps * float(np.max(sizes, where=np.isfinite(sizes), initial=0.0))


def grid_of(parameter: Parameter, own: float, points: int = POINTS) -> FloatArray:
    """Returns the values of a grid over the range, which holds the parameter's own value."""
    if parameter.period is not None:
        return np.sort(parameter.wrap(own + parameter.period / points * np.arange(points)))
    return np.unique(np.append(np.linspace(parameter.low, parameter.high, points), own))


def sample_lines(
    parameters: Sequence[Parameter], own: Sequence[float], evaluate: Evaluate, eps: float, most: int
) -> list[SampledLine]:
    """Returns the lines of several parameters, in the coordinates that are moved.

    Each grid holds the parameter's own value; losses are rounded to `eps`, relative. A line that
    its grid does not resolve gets a finer one, of at most so many places.
    """
    grids = [grid_of(parameter, value) for parameter, value in zip(parameters, own, strict=True)]
    found = evaluate(list(enumerate(grids)))
    # Beyond where a model breaks, losses are infinite.
    with np.errstate(invalid="ignore"):
        unresolved, points = _unresolved(grids, found, range(len(grids)), evaluate, eps), POINTS
        while unresolved and (points := points * _FINER) <= most:
            finer = {i: grid_of(parameters[i], own[i], points) for i in unresolved}
            for index, losses in zip(finer, evaluate(list(finer.items())), strict=True):
                grids[index], found[index] = finer[index], losses
            unresolved = _unresolved(grids, found, unresolved, evaluate, eps)
    means = [losses.mean(axis=1) for losses in found]
    extrema = [_extrema(p, g, m) for p, g, m in zip(parameters, grids, means, strict=True)]
    # Of every extremum three losses half a spacing apart, those of a line at once.
    asked = [
        (i, np.ravel([grids[i][k] + spacing * np.array([-0.5, 0.0, 0.5]) for k, spacing in rows]))
        for i, rows in enumerate(extrema)
        if rows
    ]
    answers = iter(evaluate(asked))
    lines: list[SampledLine] = []
    for parameter, grid, losses, mean, rows in zip(
        parameters, grids, found, means, extrema, strict=True
    ):
        beside = next(answers).mean(axis=1).reshape(-1, 3) if rows else ()
        turns = [_refined(grid, *row, three) for row, three in zip(rows, beside, strict=True)]
        # What rounding raises is no extremum.
        kept = _without_ripples(_ends(parameter, grid, mean, turns), eps, parameter.period)
        landscape = _landscape(parameter, grid, mean, kept)
        is_resolved = len(lines) not in unresolved
        lines.append(SampledLine(grid, mean, losses, landscape, eps, is_resolved))
    return lines


def _unresolved(
    grids: Sequence[FloatArray],
    found: Sequence[FloatArray],
    lines: Iterable[int],
    evaluate: Evaluate,
    eps: float,
) -> list[int]:
    """Returns those of the lines that are far steeper beside some places than between all."""
    asked = []
    for index in lines:
        some = np.linspace(0, len(grids[index]) - 2, _PROBES).astype(int)
        apart = np.diff(grids[index])[some] / _BESIDE
        asked.append((index, some, grids[index][some] + apart, apart))
    beside = evaluate([(index, places) for index, _, places, _ in asked])
    steep = []
    for (index, some, _, apart), losses in zip(asked, beside, strict=True):
        mean, near = found[index].mean(axis=1), losses.mean(axis=1)
        changes = np.abs(near - mean[some])
        changes[~(changes > 4 * rounding(eps, mean[some]))] = 0.0
        gaps = np.diff(grids[index])
        # The parameter's own place may lie as near to another one as the probes.
        slopes = np.where(gaps > np.median(gaps) / 2, np.abs(np.diff(mean) / gaps), math.nan)
        # A dip that one of the probes meets is no more of what the grid misses.
        known = max(_root_mean_square(slopes), _root_mean_square(slopes[some]))
        if _root_mean_square(changes / apart) > _STEEPER * known:
            steep.append(index)
    return steep


def _root_mean_square(values: FloatArray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(finite**2))) if len(finite) else 0.0


def _extrema(parameter: Parameter, grid: FloatArray, losses: FloatArray) -> list[tuple[int, float]]:
    """Returns places inside the grid where the loss turns, with the spacing there."""
    period = parameter.period
    before, after = np.roll(losses, 1), np.roll(losses, -1)
    turns = ((losses < before) & (losses <= after)) | ((losses > before) & (losses >= after))
    if period is None:
        turns[[0, -1]] = False
        spacing = np.minimum(np.gradient(grid), np.ptp(grid) / (len(grid) - 1))
    else:
        spacing = np.full(len(grid), period / len(grid))
    return [(int(k), float(spacing[k])) for k in np.flatnonzero(turns & np.isfinite(losses))]


def _refined(grid: FloatArray, place: int, spacing: float, losses: FloatArray) -> CriticalPoint:
    """The vertex of the parabola through three losses half a spacing apart."""
    left, middle, right = losses
    step = spacing / 2
    bend = (left - 2 * middle + right) / step**2
    slope = (right - left) / (2 * step)
    shift = float(np.clip(-slope / bend, -spacing, spacing)) if bend else 0.0
    loss = float(middle + slope * shift + bend * shift**2 / 2)
    kind = "minimum" if bend > 0 else "maximum"
    bound = stable_lr(float(bend)) if kind == "minimum" else None
    return CriticalPoint(float(grid[place]) + shift, loss, float(bend), kind, stable_lr=bound)


def _ends(
    parameter: Parameter, grid: FloatArray, losses: FloatArray, points: list[CriticalPoint]
) -> list[CriticalPoint]:
    """Adds the ends of an interval towards which the loss falls or rises."""
    points = sorted(points, key=lambda point: point.value)
    if parameter.period is not None or not np.isfinite(losses).any():
        return points
    first = "minimum" if losses[0] < losses[1] else "maximum"
    last = "minimum" if losses[-1] < losses[-2] else "maximum"
    return [
        CriticalPoint(float(grid[0]), float(losses[0]), None, first),
        *points,
        CriticalPoint(float(grid[-1]), float(losses[-1]), None, last),
    ]


def _without_ripples(
    points: list[CriticalPoint], eps: float, period: float | None
) -> list[CriticalPoint]:
    """Leaves out neighbouring pairs of extrema that differ by no more than rounding."""
    points = list(points)
    while len(points) > 2:
        pairs = list(itertools.pairwise(points if period is None else [*points, points[0]]))
        alike = next((pair for pair in pairs if pair[0].kind == pair[1].kind), None)
        if alike is not None:
            # A refinement that turned out the other way: the more extreme one stays.
            lower, higher = sorted(alike, key=lambda point: point.loss)
            points.remove(higher if lower.kind == "minimum" else lower)
            continue
        steps = [
            abs(one.loss - other.loss) - 4 * rounding(eps, [one.loss, other.loss])
            for one, other in pairs
        ]
        least = int(np.argmin(steps))
        if steps[least] > 0:
            break
        points = [point for point in points if all(point is not gone for gone in pairs[least])]
    return points


def _landscape(
    parameter: Parameter, grid: FloatArray, losses: FloatArray, points: list[CriticalPoint]
) -> Landscape:
    maxima = [point.value for point in points if point.kind == "maximum"]
    made = []
    for point in points:
        value, basin = float(parameter.wrap(point.value)), None
        if point.kind == "minimum":
            low, high = basin_around(parameter, point.value, maxima)
            basin = low + (value - point.value), high + (value - point.value)
        made.append(replace(point, value=value, basin=basin))
    with np.errstate(invalid="ignore"):
        slopes = np.abs(np.diff(losses) / np.diff(grid))
    spacing = float(np.ptp(grid)) / max(1, len(grid) - 1)
    reason = f"judged by samples {spacing:.3g} apart"
    return Landscape(
        parameter,
        tuple(sorted(made, key=lambda point: point.value)),
        Certificate("resolved", reason, 2 * spacing, cells=len(grid)),
        float(np.nanmax(losses, initial=-np.inf)),
        float(np.nanmax(slopes, initial=0.0)),
        float(np.nanmin(losses, initial=np.inf)),
    )
