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
from dataclasses import dataclass
from typing import Any

import numpy as np

from gabordiag.landscape.critical import Landscape
from gabordiag.landscape.series import TrigPolynomial, build_series
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

    Attributes:
        parameter: Whose values it takes.
        zero: The value at which w vanishes, or None, where w is 1.
        quotient: q in the angle phi: 2 pi (value - origin) / period with a period, otherwise
            value = middle - half cos(phi).
        error: Largest deviation from the objective on a grid, relative to the largest loss.
    """

    parameter: Parameter
    zero: float | None
    quotient: TrigPolynomial
    error: float

    @property
    def origin(self) -> float:
        """Where phi is 0 along a period."""
        return self.parameter.low if self.zero is None else self.zero

    def smooth(self, values: FloatArray) -> FloatArray:
        """Returns S (n,) at values (n,), inside an interval's range."""
        q = self.quotient.derivatives(_angle(self.parameter, self.origin, values), 0)[0]
        smooth: FloatArray = q * _weight(self.parameter, self.zero, values)
        return smooth

    def slope(self, values: FloatArray, is_root: bool) -> FloatArray:
        """Returns the loss's derivative (n,): of S, or of sqrt(S); NaN at a zero of the root."""
        parameter, zero = self.parameter, self.zero
        phi = _angle(parameter, self.origin, values)
        q, per_phi = self.quotient.derivatives(phi, 1)
        weight, weight_slope = _weight(parameter, zero, values), np.zeros_like(values)
        if parameter.period is not None:
            rate = 2 * math.pi / parameter.period
            slope = per_phi * rate
            if zero is not None:
                weight_slope = rate * np.sin(rate * (values - zero))
        else:
            half = (parameter.high - parameter.low) / 2
            slope = per_phi / (half * np.sin(phi))
            if zero is not None:
                weight_slope = 2 * (values - zero) / half**2
        smooth_slope: FloatArray = weight_slope * q + weight * slope
        if not is_root:
            return smooth_slope
        with np.errstate(divide="ignore", invalid="ignore"):
            smooth_slope /= 2 * np.sqrt(weight * q)
        return smooth_slope

    def to_dict(self) -> dict[str, Any]:
        """Returns what the page evaluates: q = sum_k cosines_k cos(k phi) + sines_k sin(k phi)."""
        parameter, weights = self.parameter, np.full(self.quotient.degree + 1, 2.0)
        weights[0] = 1.0
        c = weights * self.quotient.coefficients
        return {
            "period": parameter.period,
            "low": parameter.low,
            "high": parameter.high,
            "origin": self.origin,
            "zero": self.zero,
            "cosines": c.real.tolist(),
            "sines": (-c.imag).tolist() if parameter.period is not None else [],
            "error": self.error,
        }


def factor_series(objective: Line, landscape: Landscape) -> FactoredSeries:
    """Returns the series of the smooth loss with the goal's zero taken out, where it has one.

    Args:
        objective: Whose smooth loss; its series is built if it is not known yet.
        landscape: Of the objective.
    """
    series, parameter = build_series(objective), objective.parameter
    largest = float(np.abs(series.smooth.derivatives(_phis(parameter, _CHECKED), 0)[0]).max())
    zero = landscape.goal_value
    if zero is not None and _smooth(objective, np.array([zero]))[0] <= _EXACT_ZERO * largest:
        factored = _factor(objective, zero, series.smooth.degree, largest)
        if factored.error <= max(_GOOD_ENOUGH, 10 * _plain(objective, largest).error):
            return factored
    return _plain(objective, largest)


def _plain(objective: Line, largest: float) -> FactoredSeries:
    return _checked(objective, None, build_series(objective).smooth, largest)


def _factor(objective: Line, zero: float, degree: int, largest: float) -> FactoredSeries:
    parameter = objective.parameter
    if parameter.period is not None:
        # Halfway between the nodes that hold the zero: none comes nearer than half a spacing.
        count = 2 * degree + _SPARE
        phi = 2 * math.pi * (np.arange(count) + 0.5) / count
        values = zero + parameter.period * phi / (2 * math.pi)
        q = _smooth(objective, values) / _weight(parameter, zero, values)
        k = np.arange(count // 2)
        coefficients = np.fft.fft(q)[: count // 2] / count * np.exp(-1j * math.pi * k / count)
        return _checked(objective, zero, _trimmed(coefficients), largest)
    phi = _far_from(parameter, zero, degree)
    values = _value(parameter, phi)
    q = _smooth(objective, values) / _weight(parameter, zero, values)
    # Chebyshev's points are evenly spaced in phi: a cosine transform, written as its sum.
    waves = np.cos(np.multiply.outer(np.arange(len(phi)), phi))
    return _checked(objective, zero, _trimmed((waves @ q / len(phi)).astype(complex)), largest)


def _far_from(parameter: Parameter, zero: float, degree: int) -> FloatArray:
    """Returns Chebyshev's angles, as many as keep the nearest one farthest from the zero."""
    at = _angle(parameter, zero, np.array([zero]))[0]
    candidates = [
        math.pi * (np.arange(count) + 0.5) / count
        for count in range(degree + _SPARE, degree + 2 * _SPARE)
    ]
    return max(candidates, key=lambda phi: len(phi) * float(np.abs(phi - at).min()))


def _trimmed(coefficients: np.ndarray) -> TrigPolynomial:
    large = np.flatnonzero(np.abs(coefficients) > _NEGLIGIBLE * np.abs(coefficients).max())
    return TrigPolynomial(coefficients[: int(large[-1]) + 1] if len(large) else coefficients[:1])


def _checked(
    objective: Line, zero: float | None, quotient: TrigPolynomial, largest: float
) -> FactoredSeries:
    parameter = objective.parameter
    series = FactoredSeries(parameter, zero, quotient, 0.0)
    values = _value(parameter, _phis(parameter, _CHECKED))
    apart = np.abs(series.smooth(values) - _smooth(objective, values)).max()
    return FactoredSeries(parameter, zero, quotient, float(apart / largest) if largest else 0.0)


def _smooth(objective: Line, values: FloatArray) -> FloatArray:
    levels: FloatArray = objective.derivatives(values, 0, smooth=True)[0]
    return levels


def _phis(parameter: Parameter, count: int) -> FloatArray:
    span = math.pi if parameter.period is None else 2 * math.pi
    return span * (np.arange(count) + _SHIFT) / count


def _value(parameter: Parameter, phi: FloatArray) -> FloatArray:
    if parameter.period is not None:
        return parameter.low + parameter.period * phi / (2 * math.pi)
    middle, half = (parameter.low + parameter.high) / 2, (parameter.high - parameter.low) / 2
    return middle - half * np.cos(phi)


def _angle(parameter: Parameter, origin: float, values: FloatArray) -> FloatArray:
    if parameter.period is not None:
        return 2 * math.pi * (values - origin) / parameter.period
    middle, half = (parameter.low + parameter.high) / 2, (parameter.high - parameter.low) / 2
    return np.arccos(np.clip((middle - values) / half, -1.0, 1.0))


def _weight(parameter: Parameter, zero: float | None, values: FloatArray) -> FloatArray:
    if zero is None:
        return np.ones_like(values)
    if parameter.period is not None:
        # 1 - cos u without its cancellation.
        return 2 * np.sin(math.pi * (values - zero) / parameter.period) ** 2
    return ((values - zero) / ((parameter.high - parameter.low) / 2)) ** 2
