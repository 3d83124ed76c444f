"""The smooth loss along its parameter as one trigonometric polynomial with a stated error.

A periodic parameter gives a Fourier series (chebpy's `trigfun`); an interval gives a Chebyshev
series (`chebfun`), which is a cosine series in the angle phi with value = middle - half cos(phi).
Either way the derivative D = d(smooth loss)/d(value) becomes a real trigonometric polynomial in an
angle phi, and one root-finder and one proof (`critical.py`) serve both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import chebpy
import numpy as np
import numpy.typing as npt

from gabordiag.objective.objective import FloatArray, Objective, Parameter

ComplexArray = npt.NDArray[np.complex128]
EPS = float(np.finfo(np.float64).eps)
_MAX_DEGREE = 2**13
_EVALUATE_CHUNK = 8192
# Relative deviation of the series from the function at which finer sampling is tried.
_SERIES_TOLERANCE = 1e-11


@dataclass(frozen=True, eq=False)
class TrigPolynomial:
    """f(phi) = Re(c_0 + 2 sum_{k=1}^{n} c_k exp(i k phi)).

    Attributes:
        coefficients: c (n + 1,).
    """

    coefficients: ComplexArray

    @property
    def degree(self) -> int:
        """The highest frequency n."""
        return len(self.coefficients) - 1

    def derivatives(self, phi: FloatArray, order: int) -> FloatArray:
        """Returns f and its derivatives in phi, (order + 1, m), at phi (m,)."""
        k = np.arange(len(self.coefficients))
        waves = np.exp(1j * np.multiply.outer(phi, k))
        powers = (1j * k)[:, None] ** np.arange(order + 1)
        weights = np.where(k == 0, 1.0, 2.0)
        result: FloatArray = (waves @ ((weights * self.coefficients)[:, None] * powers)).real.T
        return result

    def bound(self, order: int) -> float:
        """Returns a bound on |f^(order)| everywhere: 2 sum k^order |c_k|."""
        k = np.arange(len(self.coefficients), dtype=np.float64)
        magnitudes = np.abs(self.coefficients) * np.where(k == 0, 1.0, 2.0)
        return float((k**order * magnitudes).sum())

    def rounding(self, order: int) -> float:
        """Returns a bound on the rounding error of evaluating f^(order).

        Each of the n + 1 terms carries a few roundings and the phase k phi one of relative size
        eps, an absolute one of up to 2 pi k eps.
        """
        return EPS * ((self.degree + 8) * self.bound(order) + 2 * math.pi * self.bound(order + 1))


@dataclass(frozen=True, eq=False)
class LossSeries:
    """The smooth loss's derivative D along the parameter, in the angle phi.

    Attributes:
        parameter: Whose values phi stands for.
        smooth: The smooth loss itself, S(phi).
        derivative: D(phi).
        span: phi runs over [0, span]: 2 pi for a period, pi for an interval.
        error: Bound on |D - true derivative|, rounding included, from a check on a finer grid.
        slope_error: The same for dD/dphi.
        roots: chebpy's own roots of the derivative, as values.
        samples: Evaluations of the objective that it took.
    """

    parameter: Parameter
    smooth: TrigPolynomial
    derivative: TrigPolynomial
    span: float
    error: float
    slope_error: float
    roots: FloatArray
    samples: int

    def value(self, phi: FloatArray) -> FloatArray:
        """Returns the parameter's values at phi."""
        return _value(self.parameter, phi)

    def angle(self, values: FloatArray) -> FloatArray:
        """Returns phi of the parameter's values, which must lie in the range of an interval."""
        parameter = self.parameter
        if parameter.period is not None:
            return 2 * math.pi * (values - parameter.low) / parameter.period
        middle, half = (parameter.low + parameter.high) / 2, (parameter.high - parameter.low) / 2
        return np.arccos(np.clip((middle - values) / half, -1.0, 1.0))

    def evaluate(self, values: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Returns the smooth loss and its first two derivatives at values (n,)."""
        pieces = [
            self._evaluate(values[lo : lo + _EVALUATE_CHUNK])
            for lo in range(0, len(values), _EVALUATE_CHUNK)
        ]
        smooth, slope, curvature = np.concatenate(pieces, axis=1)
        return smooth, slope, curvature

    def _evaluate(self, values: FloatArray) -> FloatArray:
        phi = self.angle(values)
        slope, per_phi = self.derivative.derivatives(phi, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            curvature = per_phi / _value_slope(self.parameter, phi)
        return np.stack([self.smooth.derivatives(phi, 0)[0], slope, curvature])


def build_series(objective: Objective) -> LossSeries:
    """Builds the series of an objective's smooth loss over its parameter's range."""
    series = _build(objective, None)
    best = series
    # chebpy judges convergence by the last coefficient alone, which symmetry can make vanish early.
    # The deviation on a finer grid decides: refine while that helps.
    while series.error > _SERIES_TOLERANCE * series.derivative.bound(0):
        degree = 2 * max(series.derivative.degree, 16)
        if degree > _MAX_DEGREE:
            break
        series = _build(objective, degree)
        if series.error < best.error / 2:
            best = series
        elif series.error >= best.error:
            break
    return best


def _build(objective: Objective, degree: int | None) -> LossSeries:
    parameter = objective.parameter
    count = 0

    def function(values: npt.ArrayLike) -> FloatArray:
        nonlocal count
        points = np.atleast_1d(np.asarray(values, dtype=np.float64))
        count += len(points)
        return objective.derivatives(points, 0, smooth=True)[0]

    domain = [parameter.low, parameter.high]
    if parameter.period is not None:
        size = None if degree is None else 2 * degree + 1
        fun = chebpy.trigfun(function, domain, size)
        smooth = _from_fourier(fun)
        k = np.arange(len(smooth.coefficients))
        rate = 2 * math.pi / parameter.period
        derivative = TrigPolynomial(1j * rate * k * smooth.coefficients)
        span = 2 * math.pi
    else:
        fun = chebpy.chebfun(function, domain, None if degree is None else degree + 1)
        smooth, derivative = _from_chebyshev(fun), _from_chebyshev(fun.diff())
        span = math.pi
    roots: FloatArray = np.sort(np.real(np.asarray(fun.diff().roots(), dtype=np.complex128)))
    error, slope_error = _deviation(objective, derivative, span)
    return LossSeries(parameter, smooth, derivative, span, error, slope_error, roots, count)


def _from_fourier(fun: chebpy.chebfun.Chebfun) -> TrigPolynomial:
    # Coefficients come in FFT order for points counted from the left end, where phi = 0.
    coefficients = np.asarray(fun.funs[0].onefun.coeffs, dtype=np.complex128)
    return TrigPolynomial(coefficients[: (len(coefficients) + 1) // 2])


def _from_chebyshev(fun: chebpy.chebfun.Chebfun) -> TrigPolynomial:
    # T_k(x) at x = -cos(phi) is (-1)^k cos(k phi).
    a = np.asarray(fun.funs[0].onefun.coeffs, dtype=np.float64)
    k = np.arange(len(a))
    return TrigPolynomial(((-1.0) ** k * a * np.where(k == 0, 1.0, 0.5)).astype(np.complex128))


def _deviation(
    objective: Objective, derivative: TrigPolynomial, span: float
) -> tuple[float, float]:
    """Bounds the error of D and of dD/dphi by comparing with autograd on a finer grid.

    The error is itself a trigonometric polynomial of about the degree that sampling could not see;
    at four points a wave of twice the degree, its largest value is at most sqrt(2) times the
    largest sampled one (Ehlich & Zeller 1964, doi 10.1007/BF01111276); 2 is used.
    """
    count = 8 * max(derivative.degree, 8)
    phi = span * (np.arange(count) + 0.5) / count
    values = _value(objective.parameter, phi)
    _, first, second = objective.derivatives(values, 2, smooth=True)
    ours, slope = derivative.derivatives(phi, 1)
    # dD/dphi = smooth''(value) dvalue/dphi
    true_slope = second * _value_slope(objective.parameter, phi)
    return (
        2 * float(np.max(np.abs(ours - first))) + derivative.rounding(0),
        2 * float(np.max(np.abs(slope - true_slope))) + derivative.rounding(1),
    )


def _value(parameter: Parameter, phi: FloatArray) -> FloatArray:
    if parameter.period is not None:
        return parameter.low + parameter.period * phi / (2 * math.pi)
    middle, half = (parameter.low + parameter.high) / 2, (parameter.high - parameter.low) / 2
    return middle - half * np.cos(phi)


def _value_slope(parameter: Parameter, phi: FloatArray) -> FloatArray:
    if parameter.period is not None:
        return np.full_like(phi, parameter.period / (2 * math.pi))
    return (parameter.high - parameter.low) / 2 * np.sin(phi)
