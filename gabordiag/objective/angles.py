"""The angle phi that stands for a parameter: one turn for a period, half a turn for an interval.

    period:    value = low + period phi / (2 pi)
    interval:  value = middle - half cos(phi)

Evenly spaced angles are equispaced values over a period and Chebyshev points over an interval, and
a Fourier series in phi is a Chebyshev series in cos(phi) = (middle - value) / half.
"""

from __future__ import annotations

import math

import numpy as np

from gabordiag.objective.space import FloatArray, Parameter


def span_of(parameter: Parameter) -> float:
    """Returns the largest phi: 2 pi for a period, pi for an interval."""
    return math.pi if parameter.period is None else 2 * math.pi


def middle_and_half(parameter: Parameter) -> tuple[float, float]:
    """Returns the middle of the range and half its width."""
    return (parameter.low + parameter.high) / 2, (parameter.high - parameter.low) / 2


def angle_of(parameter: Parameter, values: FloatArray) -> FloatArray:
    """Returns phi (n,) of values (n,), which must lie in the range of an interval."""
    if parameter.period is not None:
        return 2 * math.pi * (values - parameter.low) / parameter.period
    middle, half = middle_and_half(parameter)
    angles: FloatArray = np.arccos(np.clip((middle - values) / half, -1.0, 1.0))
    return angles


def value_of(parameter: Parameter, phi: FloatArray) -> FloatArray:
    """Returns the values (n,) at phi (n,)."""
    if parameter.period is not None:
        return parameter.low + parameter.period * phi / (2 * math.pi)
    middle, half = middle_and_half(parameter)
    return middle - half * np.cos(phi)


def value_slope(parameter: Parameter, phi: FloatArray) -> FloatArray:
    """Returns dvalue/dphi (n,) at phi (n,)."""
    if parameter.period is not None:
        return np.full_like(phi, parameter.period / (2 * math.pi))
    return middle_and_half(parameter)[1] * np.sin(phi)


def nodes(parameter: Parameter, count: int) -> FloatArray:
    """Returns evenly spaced angles: `count` over a period, `count` + 1 over an interval.

    Of an interval both ends are among them. Those of twice the count include them, to the bit.
    """
    fractions = np.arange(count + (parameter.period is None)) / count
    return span_of(parameter) * fractions
