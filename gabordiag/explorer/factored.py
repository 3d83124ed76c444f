"""The loss as a known zero times a series, so that a root of it keeps its digits near that zero.

Near the target the smooth loss S vanishes like the square of the distance. The series of S stops at
rounding there, and its square root at the root of rounding. But a trigonometric polynomial of
degree n with a double zero is (1 - cos u) times one of degree n - 1, and a polynomial is
(value - zero)^2 times another: with

    S = w q,    w = 1 - cos u,  u = 2 pi (value - zero) / period,
                w = (value - zero)^2 / half^2 on an interval of width 2 half,

w is known exactly and q stays away from zero, so that sqrt(S) = |sin(u / 2)| sqrt(2 q) is as good
beside the zero as anywhere. This is what the interactive page carries and evaluates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gabordiag.landscape.points import Landscape
from gabordiag.landscape.series import Series, build_series
from gabordiag.objective.angles import angle_of, middle_and_half, nodes, span_of, value_of
from gabordiag.objective.line import Line
from gabordiag.objective.space import FloatArray, Parameter

# The smooth loss there, relative to its largest value, up to which a zero is taken as exact: it is
# then known to some 1e-13 of the range.
_EXACT_ZERO = 1e-26
# A factored series that fits worse than this, relative to the largest loss, is not used.
_GOOD_ENOUGH = 1e-10
# Samples beyond those that the degree asks for.
_SPARE = 16
# Coefficients below this, relative to the largest, are rounding.
_NEGLIGIBLE = 1e-17
# Points of the check, and an irrational shift of them.
_CHECKED, _SHIFT = 257, 0.41421356


@dataclass(frozen=True, eq=False)
class FactoredSeries:
    """The smooth loss S = w q along its parameter.

    w vanishes at `zero`, and is 1 where that is None; along a period the angle of q may begin
    anywhere. `error` is the largest deviation from the objective on a grid, relative to the largest
    loss.
    """

    parameter: Parameter
    zero: float | None
    quotient: Series
    error: float

    def smooth(self, values: FloatArray) -> FloatArray:
        """Returns S (n,) at values (n,), inside an interval's range."""
        q = self.quotient.value_and_slopes(values[:, None])[0]
        smooth: FloatArray = q * _weight(self.parameter, self.zero, values)
        return smooth

    def to_dict(self) -> dict[str, Any]:
        """Returns what the page evaluates: q = sum_k cosines_k cos(k phi) + sines_k sin(k phi).

        Along a period phi = 2 pi (value - origin) / period begins at the zero, where there is one.
        """
        parameter, c = self.parameter, self.quotient.waves
        origin = parameter.low if self.zero is None else self.zero
        if parameter.period is not None:
            begins = angle_of(self.quotient.parameters[0], np.array([origin]))
            c = c * np.exp(1j * np.arange(len(c)) * begins)
        return {
            "period": parameter.period,
            "low": parameter.low,
            "high": parameter.high,
            "origin": origin,
            "zero": self.zero,
            "cosines": c.real.tolist(),
            "sines": (-c.imag).tolist() if parameter.period is not None else [],
            "error": self.error,
        }


def factor_series(objective: Line, landscape: Landscape) -> FactoredSeries:
    """Returns the series of the smooth loss with the goal's zero taken out, where it has one."""
    parameter, smooth = objective.parameter, build_series(objective).smooth
    values = value_of(parameter, span_of(parameter) * (np.arange(_CHECKED) + _SHIFT) / _CHECKED)
    exact = _smooth(objective, values)
    largest = float(np.abs(exact).max())

    def checked(zero: float | None, quotient: Series) -> FactoredSeries:
        series = FactoredSeries(parameter, zero, quotient, 0.0)
        apart = float(np.abs(series.smooth(values) - exact).max())
        return replace(series, error=apart / largest if largest else 0.0)

    plain, zero = checked(None, smooth), landscape.goal_value
    if zero is not None and _smooth(objective, np.array([zero]))[0] <= _EXACT_ZERO * largest:
        factored = checked(zero, _quotient(objective, zero, smooth.degree))
        if factored.error <= max(_GOOD_ENOUGH, 10 * plain.error):
            return factored
    return plain


def _quotient(objective: Line, zero: float, degree: int) -> Series:
    parameter = objective.parameter
    if parameter.period is None:
        # As many nodes as keep the nearest one farthest from the zero.
        at = angle_of(parameter, np.array([zero]))
        counts = range(degree + _SPARE, degree + 2 * _SPARE)
        count = max(counts, key=lambda n: n * float(np.abs(nodes(parameter, n) - at).min()))
    else:
        # The zero lies halfway between two nodes.
        count = 2 * degree + _SPARE
        low = zero + parameter.period / (2 * count)
        parameter = replace(parameter, low=low, high=low + parameter.period)
    values = value_of(parameter, nodes(parameter, count))
    samples = _smooth(objective, values) / _weight(parameter, zero, values)
    series = Series.from_samples((parameter,), samples)
    return series.chopped(_NEGLIGIBLE * float(np.abs(series.coefficients).max()))


def _smooth(objective: Line, values: FloatArray) -> FloatArray:
    levels: FloatArray = objective.derivatives(values, 0, smooth=True)[0]
    return levels


def _weight(parameter: Parameter, zero: float | None, values: FloatArray) -> FloatArray:
    """Returns w (n,)."""
    if zero is None:
        return np.ones_like(values)
    if parameter.period is not None:
        # 1 - cos u without its cancellation.
        half_sine: FloatArray = np.sin(math.pi / parameter.period * (values - zero))
        return 2 * half_sine**2
    return ((values - zero) / middle_and_half(parameter)[1]) ** 2
