"""How many roots the derivative of a series has, proven.

The derivative D of the smooth loss is a trigonometric polynomial in phi with a known error
(`series.py`). Cells of phi are bisected until each is proven to hold no root or exactly one. On a
cell with middle m and half-width h, Taylor's theorem bounds the variation of D:

    |D(phi) - D(m)| <= sum_{j=1}^{q} |D^(j)(m)| h^j / j!  +  B_{q+1} h^{q+1} / (q+1)!

with B the global bound from the coefficients. If |D(m)| exceeds that and the error, the cell is
empty. If the same holds for D', D is monotone there, and its signs at the ends decide between one
root and none. Where |D(m)| and its variation together are within the error, no bisection decides;
that, and what stays undecided down to the smallest cell, is a double root or a flat loss: then
nothing is claimed.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import numpy.typing as npt

from gabordiag.landscape.points import Certificate
from gabordiag.landscape.series import LossSeries, Series
from gabordiag.objective.space import FloatArray

# Cells are at most half a wave of the highest term wide, so that its phase turns by pi/2 within
# their half: what Taylor's rest leaves of it, (pi/2)^9 / 9! = 2e-4 of its size, is small beside it.
_TAYLOR_ORDER = 8
# Halved so often, a cell is 1e-12 of the first: a root that is still in doubt is a double one.
_MAX_DEPTH = 40
# Far more than any proof that succeeds takes; what is open by then stays so.
_MAX_CELLS = 200_000
# Fractions of a cell by which the first grid is shifted, so that no root sits on an edge;
# irrational and unrelated, because symmetric losses have roots at simple fractions.
_OFFSETS = (0.3819660112501051, 0.7071067811865476, 0.1415926535897932)
# Noise above this part of the variation is what keeps a series from following a loss.
NOISY = 1e-4


def isolate_roots(series: LossSeries) -> tuple[FloatArray, FloatArray, Certificate]:
    """Returns brackets (m, 2) of one root each, in phi, unproven stretches (k, 2), certificate."""
    certificate = partial(Certificate, error_bound=series.error)
    nothing = np.empty((0, 2))
    if not series.is_resolved:
        return nothing, nothing, certificate("none", _why_unresolved(series))
    cells = 0
    for offset in _OFFSETS:
        brackets, doubtful, used = _isolate(series, offset)
        cells += used
        if len(doubtful) == 0:
            reason = f"each of {used} cells is proven empty or proven to hold exactly one root"
            return brackets, doubtful, certificate("proven", reason, None, True, cells)
    where = float(series.parameter.value(doubtful[0].mean(keepdims=True))[0])
    reason = (
        f"near {series.parameter.show(where)} a double root or a stretch that is flat to rounding "
        "looks the same as none"
    )
    return brackets, doubtful, certificate("none", reason, cells=cells)


def _why_unresolved(series: LossSeries) -> str:
    if series.is_flat:
        return "the loss is flat to within the error of its evaluation"
    values = series.smooth.derivatives(np.linspace(0, series.parameter.span, 257), 0)[0]
    variation, noise = float(np.ptp(values)), series.noise
    if noise > NOISY * variation:
        return (
            f"the loss is noisy (by {noise:.2g}, where it varies by {variation:.3g} in all): no "
            "series follows it"
        )
    return (
        f"the loss is not smooth enough: {series.samples} evaluations do not follow its kinks, "
        "jumps or fine ripples"
    )


def _isolate(series: LossSeries, offset: float) -> tuple[FloatArray, FloatArray, int]:
    """Returns brackets of one root each, stretches left in doubt, and the cells it took."""
    count = 2 * max(series.derivative.degree, 8)
    span = series.parameter.span
    edges = span * (np.arange(count) + offset) / count
    if series.parameter.period is None:
        edges = np.concatenate([[0.0], edges, [span]])
    else:
        edges = np.append(edges, edges[0] + span)
    middles, halves = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
    found, hopeless, used = [], [], 0
    for _ in range(_MAX_DEPTH):
        used += len(middles)
        cells = np.stack([middles - halves, middles + halves], axis=1)
        is_one, is_open, is_hopeless = _judge(series, middles, halves)
        found.append(cells[is_one])
        hopeless.append(cells[is_hopeless])
        middles, halves = middles[is_open], halves[is_open]
        if len(middles) == 0 or used + 2 * len(middles) > _MAX_CELLS:
            break
        halves = np.repeat(halves / 2, 2)
        middles = np.repeat(middles, 2) + halves * np.tile([-1.0, 1.0], len(middles))
    hopeless.append(np.stack([middles - halves, middles + halves], axis=1))
    brackets, doubtful = np.concatenate(found), np.concatenate(hopeless)
    return brackets[np.argsort(brackets[:, 0])], _joined(doubtful), used


def _joined(cells: FloatArray) -> FloatArray:
    """Joins adjacent cells (m, 2) to stretches (k, 2)."""
    if len(cells) == 0:
        return cells
    low, high = cells[np.argsort(cells[:, 0])].T
    # Ends of neighbours differ by their rounding, by far less than the smallest cell.
    gap = low[1:] - high[:-1] > 0.5 * float(np.diff(cells).min())
    first = np.flatnonzero(np.append(True, gap))
    last = np.append(first[1:] - 1, len(low) - 1)
    return np.stack([low[first], high[last]], axis=1)


def _judge(
    series: LossSeries, middles: FloatArray, halves: FloatArray
) -> tuple[npt.NDArray[np.bool_], ...]:
    """Returns which cells hold exactly one root, which are open, and in which nothing decides."""
    polynomial = series.derivative
    tower = polynomial.derivatives(middles, _TAYLOR_ORDER + 1)
    monotone = np.abs(tower[1]) > _variation(polynomial, tower[1:], halves, 1) + series.slope_error
    level, variation = np.abs(tower[0]), _variation(polynomial, tower[:-1], halves, 0)
    low, high = series.slope(middles - halves), series.slope(middles + halves)
    clear = np.minimum(np.abs(low), np.abs(high)) > series.error
    # |D| is within its error on all of the cell, so on all its parts: no bisection decides.
    is_hopeless = level + variation <= series.error
    is_empty = level > variation + series.error
    is_known = monotone & clear & (low * high != 0)
    is_one = is_known & (low * high < 0) & ~is_empty & ~is_hopeless
    return is_one, ~(is_known | is_empty | is_hopeless), is_hopeless


def _variation(polynomial: Series, tower: FloatArray, halves: FloatArray, order: int) -> FloatArray:
    """Taylor bound on how far the function tower[0] departs from its middle value."""
    total = np.zeros_like(halves)
    for j in range(1, _TAYLOR_ORDER + 1):
        total += np.abs(tower[j]) * halves**j / math.factorial(j)
    last = _TAYLOR_ORDER + 1
    return total + polynomial.bound(order + last) * halves**last / math.factorial(last)
