"""Critical points of which the series does not show the kind: there the loss's own values decide.

The slope of the derivative says whether a root of it is a minimum or a maximum. At a double root,
at the end of an interval, and where the loss has kinks that no series follows, that slope is
rounding. Then the loss is looked at on either side, ever farther off, until it differs from the
loss at the point by more than its noise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gabordiag.landscape.series import NOISE_FACTOR, LossSeries
from gabordiag.objective.line import Line
from gabordiag.objective.space import FloatArray, Parameter
from gabordiag.own.numeric import measure_fine_noise

Function = Callable[[FloatArray], FloatArray]
# Distances at which the loss is looked at, of the range's width, ascending.
_DISTANCES: FloatArray = np.power(4.0, -np.arange(14.0, 0.0, -1.0))
# At so many of these nothing but noise is seen.
_RIGHT_BESIDE = 5
# Noise above this part of the loss is looked at more closely: it may be ripples.
_RIPPLES = 1e-6
# A curvature counts where the loss rises as it says, to this part.
_BEND = 0.25
# Places that are looked at between two minima.
_BETWEEN = 65
# The lowest of them is approached so often, each time 32 times nearer.
_ZOOMS = 4
# Where a kink's slope is looked at, of the range's width, and how well both sides agree.
_BESIDE_KINK, _SAME_SLOPE = 1e-6, 1e-2


@dataclass(frozen=True)
class Seen:
    """What the loss's values show of a critical point.

    The value is the middle of what rounding makes of one multiple root; `bend`, the second
    derivative by differences of the loss, is None where there is none to see.
    """

    value: float
    kind: str
    bend: float | None

    def confirms(self, curvature: float) -> bool:
        """Whether the loss bends as a curvature says."""
        return self.bend is not None and abs(curvature - self.bend) <= _BEND * abs(self.bend)


def look_beside(
    objective: Line, series: LossSeries, values: FloatArray, clear: npt.NDArray[np.bool_]
) -> list[Seen]:
    """Returns the kinds of doubtful critical points from values of the smooth loss.

    One entry per doubtful point, of all ascending ones (m,), about which the loss beside it says
    something; points into which rounding split one root count once. Nothing is read from beyond
    those that are `clear` (m,).
    """
    if clear.all():
        return []
    smooth, parameter, doubtful = smooth_losses(objective), objective.parameter, values[~clear]
    rises = _rises(smooth, parameter, doubtful)
    noise = _noise_there(objective, series, rises)
    reach = _reach(parameter, rises, noise)
    groups = _grouped(doubtful, reach)
    centers = np.array([doubtful[group].mean() for group in groups])
    reaches = np.array([reach[group].max() for group in groups])
    centers = snapped(smooth, parameter, centers, reaches, float(noise.max()))
    rises = _rises(smooth, parameter, centers)
    noise = _noise_there(objective, series, rises)
    known = np.concatenate([centers, values[clear]])
    looked = (
        _look_at(parameter, float(center), rises[:, index], known, float(noise[index]))
        for index, center in enumerate(centers)
    )
    return [point for point in looked if point is not None]


def smooth_losses(objective: Line) -> Function:
    """Returns the smooth loss (n,) as a function of values (n,)."""
    return lambda places: objective.derivatives(places, 0, smooth=True)[0]


def loss_noise(objective: Line, smooth: Function, series: LossSeries) -> float:
    """Returns the deviation of the smooth loss's noise, rounding included."""
    rounding = float(np.finfo(np.float64).eps * series.smooth.bound(0))
    if series.noise <= _RIPPLES * series.smooth.bound(0):
        return max(series.noise, rounding)
    low, high = objective.parameter.low, objective.parameter.high
    return max(measure_fine_noise(smooth, low, high, 0.0), rounding)


def kink_slope(objective: Line, value: float, curvature: float) -> float:
    """Returns |dloss/dvalue| beside a root's zero, whose smooth loss has this curvature there.

    The steeper side's where they differ.
    """
    # Near its zero, smooth = curvature d^2 / 2, so the root is sqrt(curvature / 2) |d|.
    slope = math.sqrt(curvature / 2)
    parameter = objective.parameter
    step = _BESIDE_KINK * (parameter.high - parameter.low)
    beside = [value - step, value + step]
    if parameter.period is None:
        beside = [place for place in beside if parameter.low <= place <= parameter.high]
    zero, *above = objective.loss_at([value, *beside])
    steepest = float(max(above) - zero) / step
    return slope if abs(steepest - slope) <= _SAME_SLOPE * slope else steepest


def lowest_between(objective: Line, low: float, high: float) -> tuple[float, float] | None:
    """Returns where the loss is lowest between two places, and the loss; None if at one of them."""
    between = None
    for _ in range(_ZOOMS):
        places = np.linspace(low, high, _BETWEEN)
        losses = objective.loss_at(places)
        at = int(np.argmin(losses))
        if at in (0, _BETWEEN - 1):
            break
        between = float(places[at]), float(losses[at])
        low, high = float(places[at - 1]), float(places[at + 1])
    return between


def highest_between(objective: Line, low: float, high: float) -> float | None:
    """Returns where the loss is highest between two places, None if nothing between is higher."""
    places = np.linspace(low, high, _BETWEEN)
    losses = objective.loss_at(places)
    top = int(np.argmax(losses))
    return float(places[top]) if losses[top] > max(losses[0], losses[-1]) else None


def _rises(smooth: Function, parameter: Parameter, values: FloatArray) -> FloatArray:
    """Returns loss(value -+ distance) - loss(value), (2, m, distances); NaN outside an interval."""
    offsets = (parameter.high - parameter.low) * _DISTANCES
    points = values[None, :, None] + np.array([-1.0, 1.0])[:, None, None] * offsets
    rises = np.full(points.shape, np.nan)
    inside = (points >= parameter.low) & (points <= parameter.high) | (parameter.period is not None)
    rises[inside] = smooth(points[inside])
    return rises - smooth(values)[None, :, None]


def _noise_there(objective: Line, series: LossSeries, rises: FloatArray) -> FloatArray:
    """Returns the noise at each place (m,), beyond which a rise counts.

    A loss that falls from 4e4 to -363 may be noisy by 700 above and by 1 in its valley: where it is
    noisy, no more counts as noise than it varies right beside the place.
    """
    everywhere = NOISE_FACTOR * loss_noise(objective, smooth_losses(objective), series)
    size = series.smooth.bound(0)
    if everywhere <= _RIPPLES * size:
        return np.full(rises.shape[1], everywhere)
    beside = np.abs(np.nan_to_num(rises[..., :_RIGHT_BESIDE])).max(axis=(0, 2))
    return np.asarray(np.clip(NOISE_FACTOR * beside, np.finfo(np.float64).eps * size, everywhere))


def _reach(parameter: Parameter, rises: FloatArray, noise: FloatArray) -> FloatArray:
    """Returns how far one has to go for the loss to differ (m,)."""
    clear = np.max(np.abs(np.nan_to_num(rises)), axis=0) > noise[:, None]
    first = np.where(np.max(clear, axis=1), np.argmax(clear, axis=1), 0)
    reach: FloatArray = (parameter.high - parameter.low) * _DISTANCES[first]
    return reach


def _grouped(values: FloatArray, reach: FloatArray) -> list[slice]:
    """Points closer together than one can see are one."""
    near = np.diff(values) <= np.maximum(reach[1:], reach[:-1])
    edges = [0, *(np.flatnonzero(~near) + 1).tolist(), len(values)]
    return [slice(lo, hi) for lo, hi in itertools.pairwise(edges)]


def snapped(
    smooth: Function, parameter: Parameter, values: FloatArray, reach: FloatArray, noise: float
) -> FloatArray:
    """Replaces a point that cannot be distinguished from the target by the target."""
    if parameter.target is None or len(values) == 0:
        return values
    distances = np.abs(parameter.offset(values, parameter.target))
    nearest = int(np.argmin(distances))
    if distances[nearest] > reach[nearest]:
        return values
    losses = smooth(np.array([values[nearest], parameter.target]))
    is_target = (np.arange(len(values)) == nearest) & (losses[1] <= losses[0] + noise)
    return np.where(is_target, parameter.wrap(parameter.target), values)


def _look_at(
    parameter: Parameter, value: float, rises: FloatArray, known: FloatArray, noise: float
) -> Seen | None:
    """Returns what is seen, or None where the loss is level on both sides."""
    width = parameter.high - parameter.low
    apart = np.abs(parameter.offset(known, value))
    limit = 0.5 * apart[apart > 0].min(initial=width)
    seen = np.where(width * _DISTANCES <= limit, rises, np.nan)
    below, above = (_sign(side, noise) for side in seen)
    if below == above == 0:
        return None
    rises_only, falls_only = min(below, above) >= 0, max(below, above) <= 0
    kind = "minimum" if rises_only else "maximum" if falls_only else "inflection"
    return Seen(value, kind, _bend(seen, width * _DISTANCES, noise))


def _sign(rises: FloatArray, noise: float) -> float:
    """Returns 1 where the loss rises on this side, -1 where it falls, 0 where it does neither."""
    clear = np.flatnonzero(np.abs(np.nan_to_num(rises)) > noise)
    return float(np.sign(rises[clear[0]])) if len(clear) else 0.0


def _bend(rises: FloatArray, offsets: FloatArray, noise: float) -> float | None:
    """Returns (f(v + d) - 2 f(v) + f(v - d)) / d^2; at an end of the range, of its own side twice.

    At the smallest d at which the noise adds no more than some hundredths.
    """
    ends = np.isnan(rises).all(axis=1)
    total = 2 * rises[int(np.argmin(ends))] if ends.any() else rises.sum(axis=0)
    clear = np.flatnonzero(np.abs(np.nan_to_num(total)) > 16 * noise)
    return float(total[clear[0]] / offsets[clear[0]] ** 2) if len(clear) else None
