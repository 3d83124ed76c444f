"""The angle phi that stands for a parameter: one turn for a period, half a turn for an interval.

Over an interval value = middle - half cos(phi), as in a Chebyshev series.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from gabordiag.objective.space import FloatArray, Parameter

# Distances from the target, of the range's width, at which a series has to be right: the minimum
# that belongs there may be narrower than the spacing of any samples.
_BESIDE_TARGET = 4.0 ** -np.arange(2, 9)
_BISECTIONS = 40


def angle_of(parameter: Parameter, values: FloatArray) -> FloatArray:
    """Returns phi (n,) of values (n,), which must lie in the range of an interval."""
    if parameter.period is not None:
        return 2 * math.pi * (values - parameter.low) / parameter.period
    middle, half = (parameter.low + parameter.high) / 2, (parameter.high - parameter.low) / 2
    angles: FloatArray = np.arccos(np.clip((middle - values) / half, -1.0, 1.0))
    return angles


def value_of(parameter: Parameter, phi: FloatArray) -> FloatArray:
    """Returns the values (n,) at phi (n,)."""
    if parameter.period is not None:
        return parameter.low + parameter.period * phi / (2 * math.pi)
    middle, half = (parameter.low + parameter.high) / 2, (parameter.high - parameter.low) / 2
    return middle - half * np.cos(phi)


def value_slope(parameter: Parameter, phi: FloatArray) -> FloatArray:
    """Returns dvalue/dphi (n,) at phi (n,)."""
    if parameter.period is not None:
        return np.full_like(phi, parameter.period / (2 * math.pi))
    return (parameter.high - parameter.low) / 2 * np.sin(phi)


def landmarks(parameter: Parameter) -> FloatArray:
    """Returns angles at the target and on either side of it, none where there is no target."""
    if parameter.target is None:
        return np.empty(0)
    offsets = (parameter.high - parameter.low) * np.concatenate(
        [-_BESIDE_TARGET, [0.0], _BESIDE_TARGET[::-1]]
    )
    values = parameter.target + offsets
    if parameter.period is None:
        return angle_of(parameter, values[(values >= parameter.low) & (values <= parameter.high)])
    return np.mod(angle_of(parameter, values), 2 * math.pi)


def sign_changes(slope: Callable[[FloatArray], FloatArray], grid: FloatArray) -> FloatArray:
    """Returns the angles at which a function changes its sign, by bisection.

    Where it stays zero in between, those at which that begins and ends.

    Args:
        slope: (n,) -> (n,).
        grid: Angles at which it is looked at, ascending.
    """
    signs = np.sign(np.nan_to_num(slope(grid)))
    known = np.flatnonzero(signs)
    change = signs[known[:-1]] * signs[known[1:]] < 0
    before, after = known[:-1][change], known[1:][change]
    # A stretch of zeros has two ends, each found from its own side.
    stretch = after > before + 1
    ends = np.concatenate([before, after[stretch]])
    inside, outside = grid[ends], grid[np.concatenate([before + 1, after[stretch] - 1])]
    for _ in range(_BISECTIONS if len(ends) else 0):
        middle = (inside + outside) / 2
        same = np.sign(slope(middle)) == signs[ends]
        inside, outside = np.where(same, middle, inside), np.where(same, outside, middle)
    return np.unique((inside + outside) / 2)
