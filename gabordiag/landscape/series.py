"""The smooth loss along its parameter as one trigonometric polynomial with a stated error.

A periodic parameter gives a Fourier series (chebpy's `trigfun`); an interval gives a Chebyshev
series (`chebfun`), which is a cosine series in the angle phi with value = middle - half cos(phi).
Either way the derivative D = d(smooth loss)/d(value) becomes a real trigonometric polynomial in an
angle phi, and one root-finder and one proof (`critical.py`) serve both.

A loss with noise (float32, dropout) is followed down to its noise and no further; what remains is
in the stated error. A user's own loss is judged by its values alone, because its gradient may be
what is wrong, and because each evaluation may be expensive.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch

from gabordiag.errors import InputError
from gabordiag.landscape.angles import (
    angle_of,
    landmarks,
    sign_changes,
    value_of,
    value_slope,
)
from gabordiag.objective.line import Line
from gabordiag.objective.space import FloatArray, Parameter
from gabordiag.own.evaluation import OwnObjective
from gabordiag.own.numeric import measure_noise, noise_spacing

with np.errstate():
    # Imported, it sets NumPy's error handling for the whole program; this puts it back.
    import chebpy

ComplexArray = npt.NDArray[np.complex128]
EPS = float(np.finfo(np.float64).eps)
# Complex numbers held at once when waves are summed: 1 MB, which stays in the cache.
_WAVES = 2**16
# Relative deviation of the series from the function at which finer sampling is tried.
_SERIES_TOLERANCE = 1e-11
# Powers of two of samples: for anything, and for a user's loss whose every evaluation counts.
_MAX_POWER, _MAX_POWER_EXPENSIVE = 11, 9
# Places at which noise is measured, as fractions of the range.
_NOISE_PLACES = (0.2360679775, 0.6180339887, 0.9098300563)
# An error this large beside the derivative's own bound: the series does not follow the loss.
_RESOLVED = 0.25
# Noise above this, relative to the largest value: signs of differences are chance.
_ROUGH = 1e-4
# Above this degree chebpy's root-finding takes minutes.
_MAX_ROOT_DEGREE = 300
# Where the series does not converge: points searched for sign changes.
_SIGN_GRID = 721
# Noise below this, relative to the largest value, is float64's own rounding.
_ROUNDING = 2e-14


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
        return sum_waves(phi, self.terms(order))

    def terms(self, order: int) -> ComplexArray:
        """Returns the coefficients of f and its derivatives, as `sum_waves` takes them."""
        k = np.arange(len(self.coefficients))
        powers = (1j * k)[:, None] ** np.arange(order + 1)
        weights = np.where(k == 0, 1.0, 2.0)
        terms: ComplexArray = (weights * self.coefficients)[:, None] * powers
        return terms

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


def sum_waves(phi: FloatArray, terms: ComplexArray) -> FloatArray:
    """Returns Re(sum_k terms_k exp(i k phi)), (columns, m), at phi (m,).

    Args:
        phi: (m,).
        terms: (n + 1, columns): the waves cost more than their sums, so several share them.
    """
    k = np.arange(len(terms))
    block = max(1, _WAVES // len(k))
    pieces = [
        (np.exp(1j * np.multiply.outer(phi[lo : lo + block], k)) @ terms).real
        for lo in range(0, max(1, len(phi)), block)
    ]
    return np.concatenate(pieces).T


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
        find_roots: Computes `roots`.
        samples: Evaluations of the objective that it took.
        noise: Standard deviation of the noise in the smooth loss; rounding included.
    """

    parameter: Parameter
    smooth: TrigPolynomial
    derivative: TrigPolynomial
    span: float
    error: float
    slope_error: float
    find_roots: Callable[[], FloatArray] = field(repr=False)
    samples: int
    noise: float = 0.0

    @cached_property
    def roots(self) -> FloatArray:
        """Roots of the derivative as chebpy finds them, as values, for where the proof fails.

        Where the series does not converge: the sign changes of the objective's own derivative.
        """
        return self.find_roots()

    @property
    def is_resolved(self) -> bool:
        """Whether the series follows the loss at all."""
        return self.error <= _RESOLVED * self.derivative.bound(0)

    def value(self, phi: FloatArray) -> FloatArray:
        """Returns the parameter's values at phi."""
        return value_of(self.parameter, phi)

    def angle(self, values: FloatArray) -> FloatArray:
        """Returns phi of the parameter's values, which must lie in the range of an interval."""
        return angle_of(self.parameter, values)

    def evaluate(self, values: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Returns the smooth loss and its first two derivatives at values (n,)."""
        phi = self.angle(values)
        terms = np.zeros((max(self.smooth.degree, self.derivative.degree) + 1, 3), dtype=complex)
        terms[: self.smooth.degree + 1, :1] = self.smooth.terms(0)
        terms[: self.derivative.degree + 1, 1:] = self.derivative.terms(1)
        smooth, slope, per_phi = sum_waves(phi, terms)
        with np.errstate(divide="ignore", invalid="ignore"):
            curvature = per_phi / value_slope(self.parameter, phi)
        return smooth, slope, curvature


_built: WeakKeyDictionary[Line, LossSeries] = WeakKeyDictionary()


def build_series(objective: Line) -> LossSeries:
    """Builds the series of an objective's smooth loss over its parameter's range; once for each.

    Raises:
        InputError: The loss is not finite somewhere in the range.
    """
    # An objective that is made of its series (`series_objective.py`) needs no other.
    own = getattr(objective, "series", None)
    if isinstance(own, LossSeries):
        return own
    if objective not in _built:
        _built[objective] = _build_finest(objective)
    return _built[objective]


def _build_finest(objective: Line) -> LossSeries:
    samples = _Samples(objective)
    series = _build(samples, None)
    best = series
    # chebpy judges convergence by the last coefficient alone, which symmetry can make vanish early.
    # The deviation on a finer grid decides: refine while that helps.
    while series.error > _tolerance(samples, series):
        degree = 2 * max(series.derivative.degree, 16)
        if degree > samples.max_degree:
            break
        series = _build(samples, degree)
        if series.error < best.error / 2:
            best = series
        elif best.is_resolved:
            break
    if best.is_resolved or samples.noise > _ROUGH * samples.scale:
        return best
    # Kinks or jumps: the roots of the series are its ripples.
    roots = _objective_roots(objective, best)
    return replace(best, find_roots=lambda: roots)


def _tolerance(samples: _Samples, series: LossSeries) -> float:
    """The error of D below which no refinement can help."""
    exact = _SERIES_TOLERANCE * series.derivative.bound(0)
    # Values deviate from their series by some deviations of the noise; a check reports twice that.
    return max(exact, _per_value(samples.objective.parameter, series.smooth, 8 * samples.noise))


class _Samples:
    """The smooth loss, each value computed once."""

    def __init__(self, objective: Line) -> None:
        self.objective = objective
        self.is_own = isinstance(objective, OwnObjective)
        self.count = 0
        self._known: dict[float, float] = {}
        expensive = isinstance(objective, OwnObjective) and objective.is_expensive
        self.max_power = _MAX_POWER_EXPENSIVE if expensive else _MAX_POWER
        parameter = objective.parameter
        width = parameter.high - parameter.low
        places = parameter.low + width * np.array(_NOISE_PLACES)
        eps = float(torch.finfo(objective.dtype).eps)
        largest = max(abs(parameter.low), abs(parameter.high))
        self.scale = float(np.abs(self(places)).max())
        self.noise = measure_noise(self, places, noise_spacing(width, largest, eps))

    @property
    def max_degree(self) -> int:
        """The largest degree that is tried."""
        return 1 << (self.max_power - 1)

    def __call__(self, values: npt.ArrayLike) -> FloatArray:
        points = np.atleast_1d(np.asarray(values, dtype=np.float64))
        new = np.array([p for p in dict.fromkeys(points.tolist()) if p not in self._known])
        if len(new):
            self.count += len(new)
            losses = self.objective.derivatives(new, 0, smooth=True)[0]
            if not np.isfinite(losses).all():
                name, bad = self.objective.parameter.name, new[~np.isfinite(losses)][0]
                raise InputError(
                    f"The loss is not finite at {name} = {bad:.6g}.",
                    "Choose a --range where it is.",
                )
            self._known.update(zip(new.tolist(), losses.tolist(), strict=True))
        return np.array([self._known[p] for p in points.tolist()])

    @property
    def relative_noise(self) -> float:
        """The noise relative to the largest value seen at first."""
        return self.noise / self.scale if self.scale > 0 else 0.0


@contextmanager
def _preferences(relative_noise: float, max_power: int) -> Iterator[None]:
    """Lets chebpy stop at the noise; its preferences, and what numpy and it warn of, come back."""
    settings = chebpy.UserPreferences(), np.errstate(divide="ignore", invalid="ignore")
    with settings[0] as preferences, settings[1], warnings.catch_warnings():
        # What did not converge shows in the error that is stated.
        warnings.filterwarnings("ignore", message="The .* constructor did not converge")
        preferences.maxpow2 = max_power
        if relative_noise > _ROUNDING:
            # A coefficient from n samples carries the noise divided by sqrt(n).
            preferences.eps = min(relative_noise / 2, 0.1)
        yield


def _build(samples: _Samples, degree: int | None) -> LossSeries:
    parameter = samples.objective.parameter
    domain = [parameter.low, parameter.high]
    limits = samples.relative_noise, samples.max_power
    with _preferences(*limits):
        if parameter.period is not None:
            size = None if degree is None else 2 * degree + 1
            fun = chebpy.trigfun(samples, domain, size)
            smooth = _from_fourier(fun)
            k = np.arange(len(smooth.coefficients))
            rate = 2 * math.pi / parameter.period
            derivative = TrigPolynomial(1j * rate * k * smooth.coefficients)
            span = 2 * math.pi
        else:
            fun = chebpy.chebfun(samples, domain, None if degree is None else degree + 1)
            smooth, derivative = _from_chebyshev(fun), _from_chebyshev(fun.diff())
            span = math.pi

    def find_roots() -> FloatArray:
        with _preferences(*limits):
            roots = _chebpy_roots(fun, derivative)
        if roots is not None:
            return roots
        grid = np.linspace(0, span, _SIGN_GRID)
        phi = sign_changes(lambda phi: derivative.derivatives(phi, 0)[0], grid)
        return value_of(parameter, phi)

    check = _deviation_of_values if samples.is_own else _deviation
    error, slope_error = check(samples, smooth, derivative)
    return LossSeries(
        parameter,
        smooth,
        derivative,
        span,
        error,
        slope_error,
        find_roots,
        samples.count,
        samples.noise,
    )


def _chebpy_roots(fun: chebpy.chebfun.Chebfun, derivative: TrigPolynomial) -> FloatArray | None:
    """Returns chebpy's roots of the derivative, or None where it cannot find them."""
    # Of a series that did not converge, the roots would be ripples, and take gigabytes to find.
    if derivative.degree > _MAX_ROOT_DEGREE:
        return None
    try:
        return np.sort(np.real(np.asarray(fun.diff().roots(), dtype=np.complex128)))
    except np.linalg.LinAlgError:
        # Coefficients that vanish exactly make its matrix infinite.
        return None


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
    samples: _Samples, smooth: TrigPolynomial, derivative: TrigPolynomial
) -> tuple[float, float]:
    """Bounds the error of D and of dD/dphi by comparing with autograd on a finer grid.

    The error is itself a trigonometric polynomial of about the degree that sampling could not see;
    at four points a wave of twice the degree, its largest value is at most sqrt(2) times the
    largest sampled one (Ehlich & Zeller 1964, doi 10.1007/BF01111276); 2 is used.
    """
    parameter = samples.objective.parameter
    phi = np.append(_check_grid(parameter, 8 * max(derivative.degree, 8)), landmarks(parameter))
    values = value_of(parameter, phi)
    _, first, second = samples.objective.derivatives(values, 2, smooth=True)
    ours, slope = derivative.derivatives(phi, 1)
    # dD/dphi = smooth''(value) dvalue/dphi
    true_slope = second * value_slope(parameter, phi)
    return (
        2 * float(np.max(np.abs(ours - first))) + derivative.rounding(0),
        2 * float(np.max(np.abs(slope - true_slope))) + derivative.rounding(1),
    )


def _deviation_of_values(
    samples: _Samples, smooth: TrigPolynomial, derivative: TrigPolynomial
) -> tuple[float, float]:
    """Bounds the same errors from values of the loss alone, on a grid that the series has not seen.

    As in `_deviation`, with three points a wave of twice the degree: the error e of S is at most
    1 / cos(pi / 3) = 2 times the largest sampled one. Its derivatives follow by Bernstein's
    inequality |e'(phi)| <= n max|e|, and in x = -cos(phi) by Markov's |e'(x)| <= n^2 max|e|.
    """
    parameter = samples.objective.parameter
    degree = max(smooth.degree, 8)
    # An interval's waves are even in phi: its half turn counts twice, mirrored about 0.
    phi = _check_grid(parameter, (6 if parameter.period is not None else 3) * degree)
    phi = np.append(phi, landmarks(parameter))
    ours, true = smooth.derivatives(phi, 0)[0], samples(value_of(parameter, phi))
    apart = 2 * float(np.max(np.abs(ours - true)))
    apart += smooth.rounding(0)
    error = _per_value(parameter, smooth, apart)
    return error + derivative.rounding(0), 2 * degree * error + derivative.rounding(1)


def _check_grid(parameter: Parameter, count: int) -> FloatArray:
    """Returns at least `count` angles, evenly spaced.

    What looks the same on the grid of the samples, whose numbers are powers of two, must not do so
    here, too: hence an odd number of points, and over a period an irrational offset.
    """
    count |= 1
    if parameter.period is None:
        return math.pi * (np.arange(count) + 0.5) / count
    return 2 * math.pi * (np.arange(count) + 0.41421356) / count


def _per_value(parameter: Parameter, smooth: TrigPolynomial, apart: float) -> float:
    """Bounds the derivative in the value of an error of at most `apart`, of twice the degree."""
    degree, width = 2 * max(smooth.degree, 8), parameter.high - parameter.low
    if parameter.period is not None:
        return degree * apart * 2 * math.pi / width
    return degree**2 * apart * 2 / width


def _objective_roots(objective: Line, series: LossSeries) -> FloatArray:
    """Returns where the objective's own derivative changes its sign, kinks and jumps included."""

    def slope(phi: FloatArray) -> FloatArray:
        slopes: FloatArray = objective.derivatives(series.value(phi), 1, smooth=True)[1]
        return slopes

    grid = np.append(np.linspace(0, series.span, _SIGN_GRID), landmarks(objective.parameter))
    return series.value(sign_changes(slope, np.unique(grid)))
