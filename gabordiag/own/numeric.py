"""What can be learned about a function from its values alone: its noise, and its derivatives.

Rounding (float32, say) and randomness (dropout) set a level below which nothing can be read from
differences of values. Both are measured here, on any function of one variable.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gabordiag.errors import InputError
from gabordiag.objective.space import FloatArray

Function = Callable[[FloatArray], FloatArray]
_EPS = float(np.finfo(np.float64).eps)

# Fractions of a range at which a function is tried out: irrational, so that nothing special lies
# there.
GENERIC = (0.1180339887, 0.3819660113, 0.6360098248, 0.8541019662)
# Points of one difference table. Its orders 5 and 6 are free of any smooth part, as long as the
# function's finest wave spans some hundred spacings.
_TABLE_POINTS = 9
_TABLE_ORDERS = (5, 6)
# Part of a spacing at which ripples show that they are no noise.
_CLOSE_UP = 1e-3
# Steps of the extrapolation: from a tenth of a radian down by factors of two.
_LEVELS = 8
_FIRST_STEP = 0.1
# Steps, of a function's own scale, at which a slope is looked at close up, and how well it fits.
_CLOSE_STEPS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
_CLOSE = 1e-2
# Points of the search for a sharp zero, and of each refinement.
_GRID, _FINER = 65, 9
# A loss is zero when it is this small beside its largest value.
_ZERO = 1e-6
# Shares of the range: the step by which the sides of a zero are judged straight or curved, and the
# width down to which its place is refined, far below that step.
_SIDE, _REFINED = 1e-4, 1e-9
# How far the ratio of two heights may be from 1/2 of a straight side; of a parabola it is 1/4.
_STRAIGHT = 0.05


def measure_noise(function: Function, places: FloatArray, spacing: float) -> float:
    """Returns the largest standard deviation of a function's noise at places (m,); 0 for none."""
    return float(noise_at(function, places, spacing).max())


def noise_at(function: Function, places: FloatArray, spacing: float) -> FloatArray:
    """Returns the standard deviation of a function's noise at several places (m,).

    The k-th difference of independent noise of deviation s has the variance s^2 binom(2k, k), while
    that of a smooth function falls like spacing^k (Moré & Wild 2011, doi 10.1137/100786125). So the
    spacing should be far below the function's own scale, far above the rounding of its argument.
    Infinity where values are not finite.
    """
    offsets = spacing * (np.arange(_TABLE_POINTS) - _TABLE_POINTS // 2)
    values = function((places[:, None] + offsets).ravel()).reshape(len(places), -1)
    deviations = np.full(len(places), math.inf)
    finite = np.isfinite(values).all(axis=1)
    # Squares of values near the largest doubles would overflow.
    scale = float(np.abs(values[finite]).max(initial=0.0)) or 1.0
    squares = [
        np.mean(np.diff(values[finite] / scale, order) ** 2, axis=1) / math.comb(2 * order, order)
        for order in _TABLE_ORDERS
    ]
    deviations[finite] = scale * np.sqrt(np.mean(squares, axis=0))
    return deviations


def measure_fine_noise(function: Function, low: float, high: float, eps: float) -> float:
    """Returns a function's noise, as `measure_noise`, of what may be smooth much closer up.

    Ripples finer than the spacing look like noise until the spacing is finer still. Exactly none
    at all close up does not count: a function that rounds to float32 is constant from one of its
    numbers to the next. `eps` is the relative rounding of its argument.
    """
    places = low + (high - low) * np.array(GENERIC)
    spacing = noise_spacing(high - low, max(abs(low), abs(high)), eps)
    noise = measure_noise(function, places, spacing)
    close = measure_noise(function, places, _CLOSE_UP * spacing)
    return close if 0 < close < noise / 10 else noise


def noise_spacing(width: float, largest: float, eps: float) -> float:
    """Returns a spacing for `noise_at`, from the range's width and the argument's rounding."""
    return max(1e-6 * width, 256 * eps * largest)


def has_sharp_zero(function: Function, low: float, high: float, guesses: FloatArray) -> bool:
    """Whether a function that is nowhere negative falls to a zero like |x|, as a root does.

    Looked for at the guesses (m,), and where a grid over the range and its refinements lead. Of a
    zero at the end of the range only the side inside is looked at where the function ends there.
    """
    grid = np.linspace(low, high, _GRID)
    values = function(grid)
    if not np.isfinite(values).any() or np.nanmin(values) < 0:
        return False
    largest = float(np.nanmax(values))
    if np.nanmin(values) > np.nanmax(np.abs(np.diff(values))):
        # |x| is no higher beside its zero than it rises to the next place of the grid.
        return False
    if any(_is_sharp_zero(function, guess, (low, high), largest) for guess in guesses):
        return True
    width = (high - low) / (_GRID - 1)
    place = float(grid[np.nanargmin(values)])
    while width > _REFINED * (high - low):
        finer = np.linspace(max(place - width, low), min(place + width, high), _FINER)
        values = function(finer)
        if not np.isfinite(values).any():
            return False
        place = float(finer[np.nanargmin(values)])
        width *= 2 / (_FINER - 1)
    return _is_sharp_zero(function, place, (low, high), largest)


def _is_sharp_zero(
    function: Function, place: float, ends: tuple[float, float], largest: float
) -> bool:
    low, high = ends
    step = _SIDE * (high - low)
    sides = [place + side * step * np.array([0.5, 1.0]) for side in (-1, 1)]
    inside = [side for side in sides if low <= side.min() and side.max() <= high]
    try:
        zero, *heights = function(np.concatenate([[place], *sides]))
    except InputError:
        if len(inside) != 1:
            raise
        zero, *heights = function(np.concatenate([[place], *inside]))
    if not 0 <= zero <= _ZERO * largest:
        return False
    # A root's sides are straight: half the way is half the height.
    pairs = zip(heights[::2], heights[1::2], strict=True)
    return all(far > 0 and abs(near / far - 0.5) < _STRAIGHT for near, far in pairs)


@dataclass(frozen=True, eq=False)
class NumericDerivatives:
    """First and second derivatives with estimates of their errors, (n,) each; NaN if not finite."""

    first: FloatArray
    first_error: FloatArray
    second: FloatArray
    second_error: FloatArray


def places_inside(
    points: FloatArray,
    low: FloatArray | float,
    high: FloatArray | float,
    ended: npt.NDArray[np.bool_] | bool,
    margin: FloatArray | float | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Returns where to differentiate and how far to reach, so that no difference leaves a range.

    A function may end where its range does; beyond it, where it was asked about, it is taken to be
    defined. `differentiate` steps a tenth of the reach, here a little less than there is. Points
    (n,) or (n, d) are coordinates; `ended` is where ranges are no whole periods, and the margin,
    how far from the ends derivatives are taken, by default a thousandth of the range.
    """
    width = np.asarray(high) - low
    margin = 1e-3 * width if margin is None else margin
    within = ended & (points >= low) & (points <= high)
    inside = np.where(within, np.clip(points, low + margin, high - margin), points)
    reach = np.broadcast_to(width / (2 * math.pi), inside.shape)
    room = 9 * np.minimum(inside - low, high - inside)
    return inside, np.where(within, np.minimum(reach, room), reach)


def differentiate(
    function: Function,
    values: FloatArray,
    reach: FloatArray | float,
    noise: FloatArray | float = 0.0,
) -> NumericDerivatives:
    """Differentiates a function (n,) -> (n,) by Ridders' extrapolation of central differences.

    Central differences at steps h, h/2, h/4, ... have errors in even powers of h, which Neville's
    scheme removes one by one; the entry that agrees best with its neighbours is taken, and the
    disagreement is its error (Ridders 1982, doi 10.1016/S0141-1195(82)80057-0). The reach is the
    function's own scale (a radian for angles); the largest step is a tenth of it. No error is less
    than what the noise of the function's values makes of it.
    """
    values = np.asarray(values, dtype=np.float64)
    steps = _FIRST_STEP * np.broadcast_to(reach, values.shape) / 2.0 ** np.arange(_LEVELS)[:, None]
    points = np.concatenate([values[None], values + steps, values - steps])
    levels = function(points.ravel()).reshape(points.shape)
    center, above, below = levels[0], levels[1 : _LEVELS + 1], levels[_LEVELS + 1 :]
    # What was really stepped, after rounding.
    width = (values + steps) - (values - steps)
    with np.errstate(invalid="ignore", over="ignore"):
        first = _extrapolate((above - below) / width, 2 * noise / width)
        square = (width / 2) ** 2
        second = _extrapolate((above - 2 * center + below) / square, 4 * noise / square)
    return NumericDerivatives(*first, *second)


def follows_closely(
    function: Function,
    values: FloatArray,
    slopes: FloatArray,
    reach: FloatArray | float,
    noise: float,
) -> npt.NDArray[np.bool_]:
    """Whether slopes (n,) are those of a function's values close up, whatever extrapolation says.

    Central differences are the derivative of neither side of a kink, and extrapolation is led
    astray by ripples finer than its steps and by poles. A slope that is right lies between the two
    one-sided difference quotients, at some step that is small enough. The noise is that of
    `measure_fine_noise`; False also where no step shows anything: the function is level, or noise
    hides it.
    """
    center = function(values)
    fits = np.zeros(len(values), dtype=np.bool_)
    for part in _CLOSE_STEPS:
        step = part * np.broadcast_to(reach, values.shape)
        above, below = values + step, values - step
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            after = (function(above) - center) / (above - values)
            before = (center - function(below)) / (values - below)
            rounding = 8 * np.maximum(_EPS * np.abs(center), noise) / step
            slack = _CLOSE * np.abs(slopes) + rounding
            is_above = slopes >= np.minimum(before, after) - slack
            is_inside = is_above & (slopes <= np.maximum(before, after) + slack)
            is_resolved = (rounding <= _CLOSE * np.abs(slopes)) & ((after != 0) | (before != 0))
        fits |= is_inside & is_resolved
    return fits


def _extrapolate(column: FloatArray, least: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Neville's scheme on estimates (levels, n), errors at `least`: returns best and error (n,)."""
    count = column.shape[1]
    best, error = np.full(count, np.nan), np.full(count, np.inf)
    previous = [column[0]]
    for level in range(1, len(column)):
        current = [column[level]]
        for order in range(1, level + 1):
            power = 4.0**order
            current.append((power * current[-1] - previous[order - 1]) / (power - 1))
            # Agreement with the estimate of lower order, and with the coarser one of equal order.
            others = np.stack([current[order - 1], previous[order - 1]])
            apart = np.nan_to_num(np.abs(current[order] - others).max(axis=0), nan=np.inf)
            apart = np.maximum(apart, least[level])
            better = apart < error
            best = np.where(better, current[order], best)
            error = np.where(better, apart, error)
        previous = current
    return best, error
