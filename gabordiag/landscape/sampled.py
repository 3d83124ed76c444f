"""A loss as far as its values show it: how finely it was looked at, where it jumps, where it dips.

Of a custom objective nothing is known but values. Every value that was ever computed counts: each
dip among them must have a minimum on the list, and each rise that no refinement resolves is a
discontinuity.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gabordiag.landscape.points import Discontinuity
from gabordiag.objective.objective import Line
from gabordiag.objective.space import FloatArray, Parameter
from gabordiag.own.evaluation import OwnObjective
from gabordiag.own.numeric import Function

# Discontinuities that are looked for, and halvings by which one is located.
_MOST, _HALVINGS = 16, 48
# A rise that keeps this part of itself over the last halvings is one that no refinement resolves;
# of a root, sqrt(x), a thirtieth is left.
_KEPT, _LAST = 0.5, 10
# A rise by less than this part of the landscape's height is not called a jump.
_SMALLEST = 1e-6
# Places at which a dip is looked at, and how near on either side, of the distance to its samples.
_INSIDE = 33
_NEAR = 4.0 ** -np.arange(1.0, 15.0)


def known_values(objective: Line, since: int = 0) -> tuple[FloatArray, FloatArray]:
    """Returns where a custom loss was computed, ascending (n,) in the range, and losses (n,)."""
    if not isinstance(objective, OwnObjective):
        return np.empty(0), np.empty(0)
    values, losses = objective.known(since)
    values, inside = inside_range(objective.parameter, values)
    values, first = np.unique(values, return_index=True)
    return values, losses[inside][first]


def inside_range(
    parameter: Parameter, values: FloatArray
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Returns the values in the range, moved there by whole periods, and which (n,) they are."""
    if parameter.period is not None:
        values = parameter.low + np.mod(values - parameter.low, parameter.period)
    inside = (values >= parameter.low) & (values <= parameter.high)
    return values[inside], inside


def largest_gap(parameter: Parameter, values: FloatArray) -> float:
    """Returns the largest distance between neighbours of ascending values (n,), ends included."""
    ends = [parameter.low, parameter.high]
    if parameter.period is not None:
        ends = [values[-1] - parameter.period, values[0] + parameter.period]
    return float(np.diff(np.concatenate([ends[:1], values, ends[1:]])).max())


def find_discontinuities(
    look: Function, parameter: Parameter, values: FloatArray, losses: FloatArray, noise: float
) -> tuple[Discontinuity, ...]:
    """Finds where a loss (n,) jumps: cells whose rise differs from their neighbours' are halved."""
    if parameter.period is not None:
        values = np.append(values, values[0] + parameter.period)
        losses = np.append(losses, losses[0])
    floor = _SMALLEST * float(np.ptp(losses)) + noise
    slopes = np.diff(losses) / np.diff(values)
    padded = np.concatenate([slopes[1:2], slopes, slopes[-2:-1]])
    excess = np.abs(slopes - (padded[:-2] + padded[2:]) / 2) * np.diff(values)
    cells = np.argsort(-excess)[:_MOST]
    cells = cells[excess[cells] > floor]
    low, high, before, after = values[cells], values[cells + 1], losses[cells], losses[cells + 1]
    rises = [np.abs(after - before)]
    for _ in range(_HALVINGS if len(cells) else 0):
        middle = (low + high) / 2
        between = look(middle)
        is_left = np.abs(between - before) >= np.abs(after - between)
        # Two neighbouring numbers have none between them.
        apart = (middle > low) & (middle < high)
        left, right = is_left & apart, ~is_left & apart
        high, after = np.where(left, middle, high), np.where(left, between, after)
        low, before = np.where(right, middle, low), np.where(right, between, before)
        rises.append(np.abs(after - before))
    jumps = (rises[-1] > floor) & (rises[-1] >= _KEPT * rises[max(-_LAST, -len(rises))])
    found = zip(low[jumps], high[jumps], before[jumps], after[jumps], strict=True)
    return tuple(Discontinuity(*map(float, jump)) for jump in sorted(found))


def find_dips(
    parameter: Parameter, values: FloatArray, losses: FloatArray, noise: float
) -> list[tuple[float, float, float]]:
    """Returns the dips by more than the noise, the deepest first, as (left, lowest, right)."""
    if parameter.period is not None:
        # From the highest sample on, so that no dip is cut.
        top = int(np.argmax(losses))
        values = np.concatenate([values[top:], values[: top + 1] + parameter.period])
        losses = np.concatenate([losses[top:], losses[: top + 1]])
    kept = [0]
    for index, loss in enumerate(losses.tolist()):
        if abs(loss - losses[kept[-1]]) > noise:
            kept.append(index)
    places, levels = values[kept], losses[kept]
    lower = (levels[1:-1] < levels[:-2]) & (levels[1:-1] < levels[2:])
    dips = np.flatnonzero(lower)
    return [tuple(places[at : at + 3].tolist()) for at in dips[np.argsort(levels[dips + 1])]]


def unexplained(
    parameter: Parameter,
    dips: list[tuple[float, float, float]],
    found: FloatArray,
    discontinuities: tuple[Discontinuity, ...],
) -> list[tuple[float, float, float]]:
    """Returns the dips in which no minimum was found and which are no lower side of a jump."""
    sides = [side for jump in discontinuities for side in (jump.below, jump.above)]
    places = np.append(found, sides)

    def holds(left: float, right: float) -> bool:
        if parameter.period is None:
            return bool(((places >= left) & (places <= right)).any())
        return bool((np.mod(places - left, parameter.period) <= right - left).any())

    return [dip for dip in dips if not holds(dip[0], dip[2])]


def beside_dips(dips: list[tuple[float, float, float]]) -> FloatArray:
    """Returns the places at which dips are looked at more closely."""
    places = [np.empty(0)]
    for left, lowest, right in dips:
        places.append(np.linspace(left, right, _INSIDE))
        places += [lowest - (lowest - left) * _NEAR, lowest + (right - lowest) * _NEAR]
    return np.concatenate(places)
