"""A function of one or two parameters as a series, and the smooth loss as one with a stated error.

Each parameter stands for an angle phi (`objective/space.py`), so that a Fourier series along a
period and a Chebyshev series along an interval are the same sum of waves; one transform finds both,
and one proof (`proof.py`) serves the derivative D = d(smooth loss)/d(value) along either.

A loss with noise (float32, dropout) is followed down to its noise and no further; what remains is
in the stated error. A custom loss is judged by its values alone, because its gradient may be what
is wrong, and because each evaluation may be expensive.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from numpy.polynomial import chebyshev

from gabordiag.errors import InputError
from gabordiag.landscape.sampled import known_values
from gabordiag.objective.objective import Line
from gabordiag.objective.space import FloatArray, Parameter
from gabordiag.own.evaluation import OwnObjective
from gabordiag.own.numeric import measure_noise, noise_spacing

ComplexArray = npt.NDArray[np.complex128]
EPS = float(np.finfo(np.float64).eps)
# Complex numbers held at once when waves are summed: 1 MB, which stays in the cache.
_WAVES = 2**16
# Relative deviation of the series from the function at which finer sampling is tried.
_SERIES_TOLERANCE = 1e-11
# Powers of two of samples: at first, for any loss, and for a custom loss that is expensive.
_FIRST_POWER, _MAX_POWER = 4, 11
# Parts of the range in each of which a custom loss is looked at, whatever its series needs; what
# dips over two of them is seen at two places at least. Fewer where each evaluation counts.
_LOOKED_AT = 2048
# How far from a series, in its own largest deviation, a value makes it worth building again.
_STRAY = 4
# Last coefficients of up to this many times what counts as zero may be the samples' rounding.
_PLATEAU = 64
# Deviations of the noise, or roundings, by which two losses have to differ.
NOISE_FACTOR = 16
# A series that has not ended follows a loss whose variation it misses by no more than this part.
_FOLLOWS = 1e-6
# Parts that are wider by no more than their own rounding are not halved.
_SAME_GAP = 1e-6
# Places at which noise is measured, as fractions of the range.
_NOISE_PLACES = (0.2360679775, 0.6180339887, 0.9098300563)
# An error this large beside the derivative's own bound: the series does not follow the loss.
_RESOLVED = 0.25
# A loss that varies by less than this part of itself is flat: rounding. So is one that varies by
# this part of the response's energy, where the response changes by 1e-8 of itself.
_FLAT, _SILENT = 1e-12, 1e-16
# Noise below this, relative to the largest value, is float64's own rounding.
_ROUNDING = 2e-14
# Noise above this, relative to the largest value: signs of differences are chance.
_ROUGH = 1e-4
# Where the series does not follow the loss: points searched for sign changes.
_SIGN_GRID = 721
_BISECTIONS = 52
# Distances from the target, of the range's width, at which a series has to be right: the minimum
# that belongs there may be narrower than the spacing of any samples.
_BESIDE_TARGET = 4.0 ** -np.arange(2, 9)


@dataclass(frozen=True, eq=False)
class Series:
    """f = sum_kl C_kl u_k v_l, with u_k and v_l basis functions of the first and second parameter.

    Along a period they are 1, cos phi, sin phi, cos 2 phi, sin 2 phi, ..., an odd number of them;
    along an interval 1, cos phi, cos 2 phi, ..., the Chebyshev polynomials of cos phi. The
    coefficients C are (p,) or (p, q).
    """

    parameters: tuple[Parameter, ...]
    coefficients: FloatArray

    @classmethod
    def from_samples(cls, parameters: tuple[Parameter, ...], samples: FloatArray) -> Series:
        """Returns the series through samples (p,) or (p, q) at the parameters' `nodes`."""
        for axis, parameter in enumerate(parameters):
            along = _transform(parameter, np.moveaxis(samples, axis, 0))
            samples = np.moveaxis(along, 0, axis)
        return cls(parameters, samples)

    def tails(self, axis: int) -> tuple[float, float]:
        """Returns the largest coefficients of the last eighth along a parameter, and before it."""
        along = np.abs(np.moveaxis(self.coefficients, axis, 0))
        few = max(3, len(along) // 8)
        return float(along[-few:].max()), float(along[-2 * few : -few].max())

    def chopped(self, below: float) -> Series:
        """Returns the series without its last coefficients up to a size."""
        used = np.argwhere(np.abs(self.coefficients) > below)
        sizes = used.max(axis=0) + 1 if len(used) else np.ones(self.coefficients.ndim, dtype=int)
        # Sines come with their cosines: an odd number in all.
        kept = tuple(
            slice(int(size) + (parameter.period is not None and size % 2 == 0))
            for size, parameter in zip(sizes, self.parameters, strict=True)
        )
        return Series(self.parameters, self.coefficients[kept])

    def derivative(self, axis: int = 0) -> Series:
        """Returns df/d(value of one parameter)."""
        parameter, c = self.parameters[axis], np.moveaxis(self.coefficients, axis, 0)
        if parameter.period is None:
            # cos phi = (middle - value) / half
            slopes = np.asarray(chebyshev.chebder(c), dtype=float) / -(parameter.width / 2)
        else:
            # a cos k phi + b sin k phi -> k (b cos k phi - a sin k phi) dphi/dvalue
            slopes, k = np.zeros_like(c), np.arange(1, len(c) // 2 + 1)
            rates = (2 * math.pi / parameter.period * k).reshape(-1, *[1] * (c.ndim - 1))
            slopes[1::2], slopes[2::2] = rates * c[2::2], -rates * c[1::2]
        return Series(self.parameters, np.moveaxis(slopes, 0, axis))

    @cached_property
    def _levels(self) -> tuple[Series, ...]:
        return self, *(self.derivative(axis) for axis in range(len(self.parameters)))

    def value_and_slopes(self, values: FloatArray) -> FloatArray:
        """Returns f and its d slopes (1 + d, n) at values (n, d) inside the ranges."""
        columns = zip(self.parameters, values.T, self.coefficients.shape, strict=True)
        bases = [_basis(*column) for column in columns]
        return np.stack([level._sum(bases) for level in self._levels])

    def _sum(self, bases: list[FloatArray]) -> FloatArray:
        parts = [basis[:size] for basis, size in zip(bases, self.coefficients.shape, strict=True)]
        total = np.tensordot(self.coefficients, parts[-1], 1)
        for part in reversed(parts[:-1]):
            total = (part * total).sum(axis=-2)
        return total

    # Of one parameter, f(phi) = Re(sum_{k=0}^{n} c_k exp(i k phi)).

    @cached_property
    def waves(self) -> ComplexArray:
        """The coefficients c (n + 1,) of a series of one parameter."""
        if self.parameters[0].period is None:
            return self.coefficients.astype(np.complex128)
        # Re((a - i b) exp(i k phi)) = a cos k phi + b sin k phi
        constant, a, b = self.coefficients[:1], self.coefficients[1::2], self.coefficients[2::2]
        return np.concatenate([constant, a - 1j * b])

    @property
    def degree(self) -> int:
        """The highest frequency n."""
        return len(self.waves) - 1

    def derivatives(self, phi: FloatArray, order: int) -> FloatArray:
        """Returns f and its derivatives in phi, (order + 1, m), at phi (m,)."""
        return sum_waves(phi, self.terms(order))

    def terms(self, order: int) -> ComplexArray:
        """Returns the coefficients of f and its derivatives in phi, as `sum_waves` takes them."""
        powers = (1j * np.arange(len(self.waves)))[:, None] ** np.arange(order + 1)
        return np.asarray(self.waves[:, None] * powers)

    def bound(self, order: int) -> float:
        """Returns a bound on the derivative in phi of some order everywhere: sum k^order |c_k|."""
        k = np.arange(len(self.waves), dtype=np.float64)
        return float((k**order * np.abs(self.waves)).sum())

    def rounding(self, order: int) -> float:
        """Returns a bound on the rounding error of evaluating the derivative of some order.

        Each of the n + 1 terms carries a few roundings and the phase k phi one of relative size
        eps, an absolute one of up to 2 pi k eps.
        """
        return EPS * ((self.degree + 8) * self.bound(order) + 2 * math.pi * self.bound(order + 1))


def _transform(parameter: Parameter, samples: FloatArray) -> FloatArray:
    """Returns coefficients (p, ...) of samples (m, ...) at the parameter's nodes."""
    if parameter.period is None:
        # A function even in phi over a whole turn.
        count = len(samples) - 1
        around = np.concatenate([samples, samples[-2:0:-1]])
        cosines: FloatArray = np.fft.rfft(around, axis=0).real / count
        cosines[[0, -1]] /= 2
        return cosines
    # Of an even number of samples, the last wave's sine is zero at all of them: it is left out.
    count = len(samples)
    waves = np.fft.rfft(samples, axis=0)[: (count + 1) // 2] / count
    pairs = np.stack([2 * waves[1:].real, -2 * waves[1:].imag], axis=1)
    return np.concatenate([waves[:1].real, pairs.reshape(-1, *samples.shape[1:])])


def _basis(parameter: Parameter, values: FloatArray, size: int) -> FloatArray:
    """Returns the basis functions (size, n) at values (n,)."""
    if parameter.period is None:
        cosines = (parameter.middle - values) / (parameter.width / 2)
        return np.asarray(chebyshev.chebvander(cosines, size - 1).T)
    waves = np.cumprod(np.tile(np.exp(1j * parameter.angle(values)), (size // 2, 1)), axis=0)
    # Interleaved, so that the last rows are the highest waves.
    rows = np.stack([waves.real, waves.imag], axis=1).reshape(size - 1, len(values))
    return np.concatenate([np.ones((1, len(values))), rows])


def sum_waves(phi: FloatArray, terms: ComplexArray) -> FloatArray:
    """Returns Re(sum_k terms_k exp(i k phi)), (columns, m), of phi (m,), terms (n + 1, columns)."""
    if len(phi) > len(terms):
        # Horner's scheme; its rounding, some eps k |terms_k|, is that of the phases.
        wave = np.exp(1j * phi)[:, None]
        total = np.zeros((len(phi), terms.shape[1]), dtype=np.complex128)
        for row in terms[::-1]:
            total *= wave
            total += row
        return total.real.T
    k = np.arange(len(terms))
    block = max(1, _WAVES // len(k))
    pieces = [
        (np.exp(1j * np.multiply.outer(phi[lo : lo + block], k)) @ terms).real
        for lo in range(0, max(1, len(phi)), block)
    ]
    return np.concatenate(pieces).T


def fit_series(
    function: Callable[[FloatArray], FloatArray],
    parameters: tuple[Parameter, ...],
    counts: list[int],
    tolerance: float,
    most: int,
) -> tuple[Series, float, bool]:
    """Samples a function of values (n, d) ever finer until its last coefficients have died away.

    `counts`, the nodes of each parameter to begin with, are doubled where needed, in place, up to
    `most`; a coefficient below `tolerance` times the largest sample counts as zero. Returns the
    series, that sample's size, and whether coefficients have died away.
    """
    while True:
        places = [p.value(p.nodes(n)) for p, n in zip(parameters, counts, strict=True)]
        grid = np.stack(np.meshgrid(*places, indexing="ij"), axis=-1)
        samples = function(grid.reshape(-1, len(parameters))).reshape(grid.shape[:-1])
        series = Series.from_samples(parameters, samples)
        largest = float(np.abs(samples).max())
        zero = tolerance * largest
        tails = [series.tails(axis) for axis in range(len(counts))]
        # Small ones that decay no further are the samples' rounding.
        long = [
            axis
            for axis, (last, other) in enumerate(tails)
            if last > zero and (last > _PLATEAU * zero or last < other / 4)
        ]
        if not long or any(counts[axis] >= most for axis in long):
            break
        for axis in long:
            counts[axis] *= 2
    rounding = max(last for last, _ in tails)
    below = zero if long else min(max(4 * rounding, zero / 16), max(2 * rounding, zero))
    # Waves as high as the rounding of the samples are none.
    flat = series.chopped(2 * zero)
    return flat if flat.coefficients.size == 1 else series.chopped(below), largest, not long


@dataclass(frozen=True, eq=False)
class LossSeries:
    """The smooth loss S(phi) along one parameter and its derivative D = dS/d(value).

    Attributes:
        error: Bound on |D - true derivative|, rounding included, from a check on a finer grid.
        slope_error: The same for dD/dphi.
        samples: Evaluations of the objective that it took.
        noise: Standard deviation of the noise in the smooth loss; rounding included.
        value_error: Bound on |S - smooth loss|; of a custom loss only.
        scale: Beside which a loss is small that says nothing; 0 where that is unknown.
        held_against: Values of a custom loss, of all that were computed, that it was compared with.
        has_ended: Whether its last waves have died away: a kink's never do.
    """

    smooth: Series
    derivative: Series
    error: float
    slope_error: float
    samples: int
    noise: float = 0.0
    value_error: float = math.inf
    held_against: int = 0
    scale: float = 0.0
    has_ended: bool = True

    @property
    def parameter(self) -> Parameter:
        """Whose values phi stands for."""
        return self.smooth.parameters[0]

    @property
    def is_resolved(self) -> bool:
        """Whether the series follows the loss at all."""
        return not self.is_flat and self.error <= _RESOLVED * self.derivative.bound(0)

    def stands_for(self, objective: Line) -> bool:
        """Whether runs may go by it: to rounding, or nearly where each evaluation counts."""
        return self.is_resolved and (self.has_ended or objective.is_expensive)

    @cached_property
    def is_flat(self) -> bool:
        """Whether the loss varies by no more than rounding: of its size, or of the responses."""
        values = self.smooth.derivatives(np.linspace(0, self.parameter.span, 257), 0)[0]
        level = max(_FLAT * float(np.abs(values).max()), _SILENT * self.scale)
        return float(np.ptp(values)) <= level

    @property
    def is_rough(self) -> bool:
        """Whether noise hides what the loss does from one value to the next."""
        return self.noise > _ROUGH * self.smooth.bound(0)

    def slope(self, phi: FloatArray) -> FloatArray:
        """Returns D at phi."""
        return np.asarray(self.derivative.derivatives(phi, 0)[0])

    def evaluate(
        self, values: FloatArray, *, is_root: bool = False
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Returns the smooth loss s and its first two derivatives at values (n,).

        Of its root r = sqrt(s), if asked for: r' = s' / (2 r), r'' = s'' / (2 r) - s'^2 / (4 r^3).
        """
        phi = self.parameter.angle(values)
        terms = np.zeros((max(self.smooth.degree, self.derivative.degree) + 1, 3), dtype=complex)
        terms[: self.smooth.degree + 1, :1] = self.smooth.terms(0)
        terms[: self.derivative.degree + 1, 1:] = self.derivative.terms(1)
        smooth, slope, per_phi = sum_waves(phi, terms)
        with np.errstate(divide="ignore", invalid="ignore"):
            curvature = per_phi / self.parameter.value_slope(phi)
            if not is_root:
                return smooth, slope, curvature
            root = np.sqrt(np.maximum(smooth, 0.0))
            return root, slope / (2 * root), curvature / (2 * root) - slope**2 / (4 * root**3)


_built: WeakKeyDictionary[Line, LossSeries] = WeakKeyDictionary()


def build_series(objective: Line) -> LossSeries:
    """Builds the series of the smooth loss over the range: once, or again when values stray."""
    # An objective that is made of its series (`series_objective.py`) needs no other.
    own = getattr(objective, "series", None)
    if isinstance(own, LossSeries):
        return own
    if strays(objective):
        _built[objective] = _build_finest(objective)
    return _built[objective]


def new_values(objective: Line) -> tuple[FloatArray, FloatArray]:
    """Returns what `known_values` does, of what was computed since the landscape was made."""
    held = _built[objective].held_against if objective in _built else 0
    return known_values(objective, held)


def hold_against_all(objective: Line) -> None:
    """Takes all values that were computed so far as known to the landscape."""
    if objective in _built and isinstance(objective, OwnObjective):
        _built[objective] = replace(_built[objective], held_against=len(objective.known()[0]))


def strays(objective: Line) -> bool:
    """Whether there is no series yet, or one that some value computed since does not agree with."""
    if objective not in _built:
        return True
    series = _built[objective]
    values, losses = new_values(objective)
    if not series.is_resolved:
        return False
    apart = np.abs(series.smooth.derivatives(series.parameter.angle(values), 0)[0] - losses)
    return bool((apart > _STRAY * series.value_error + NOISE_FACTOR * series.noise).any())


def _build_finest(objective: Line) -> LossSeries:
    samples, counts = _Samples(objective), [1 << _FIRST_POWER]
    best = series = _build(samples, counts)
    # Symmetry can make the last coefficients vanish early. The deviation on a finer grid decides:
    # refine while that helps.
    while series.error > _tolerance(samples, series) and 2 * counts[0] <= samples.most:
        counts[0] *= 2
        series = _build(samples, counts)
        if series.error < best.error / 2:
            best = series
        elif best.is_resolved:
            break
    return best


def _build(samples: _Samples, counts: list[int]) -> LossSeries:
    # A coefficient from n samples carries the noise divided by sqrt(n).
    noise = samples.relative_noise
    tolerance = min(noise / 2, 0.1) if noise > _ROUNDING else EPS
    objective = samples.objective
    smooth, _, died_away = fit_series(
        lambda v: samples(v[:, 0]), (objective.parameter,), counts, tolerance, samples.most
    )
    derivative = smooth.derivative()
    if isinstance(objective, OwnObjective):
        # One that still has waves where it ends follows what it can; no finer grid shows it.
        apart, error, slope_error = _deviation_of_values(samples, smooth, derivative, died_away)
        height = float(np.ptp(list(samples.known.values())))
        if not died_away and apart > _FOLLOWS * height + NOISE_FACTOR * samples.noise:
            # The bound of such a series is that of its ripples.
            error = slope_error = math.inf
        known = (apart, len(objective.known()[0]), 0.0)
    else:
        error, slope_error = _deviation(samples, smooth, derivative)
        rounding, second = objective.slope_rounding
        error += rounding
        slope_error += second * objective.parameter.width / 2
        known = (math.inf, 0, objective.scale)
    count = len(samples.known)
    return LossSeries(
        smooth, derivative, error, slope_error, count, samples.noise, *known, died_away
    )


def _tolerance(samples: _Samples, series: LossSeries) -> float:
    exact = _SERIES_TOLERANCE * series.derivative.bound(0)
    # Values deviate from their series by some deviations of the noise; a check reports twice that.
    return max(exact, _per_value(series.smooth, 8 * samples.noise))


class _Samples:
    """The smooth loss, each value computed once."""

    def __init__(self, objective: Line) -> None:
        self.objective, self.is_expensive = objective, False
        self.known: dict[float, float] = {}
        # The largest number of nodes; of the range, the widest stretch that is not looked at.
        self.most, self.parts = 1 << _MAX_POWER, _LOOKED_AT
        if isinstance(objective, OwnObjective) and objective.is_expensive:
            self.most, self.parts, self.is_expensive = objective.nodes, objective.spread, True
        parameter = objective.parameter
        places = parameter.low + parameter.width * np.array(_NOISE_PLACES)
        largest = max(abs(parameter.low), abs(parameter.high))
        spacing = noise_spacing(parameter.width, largest, objective.value_eps)
        scale = float(np.abs(self(places)).max())
        self.noise = measure_noise(self, places, spacing)
        # Relative to the largest value seen at first.
        self.relative_noise = self.noise / scale if scale > 0 else 0.0

    def __call__(self, values: npt.ArrayLike) -> FloatArray:
        points = np.atleast_1d(np.asarray(values, dtype=np.float64))
        new = np.array([p for p in dict.fromkeys(points.tolist()) if p not in self.known])
        if len(new):
            losses = self.objective.derivatives(new, 0, smooth=True)[0]
            if not np.isfinite(losses).all():
                place = f"{self.objective.parameter.name} = {new[~np.isfinite(losses)][0]:.6g}"
                advice = "Choose a --range where it is."
                raise InputError(f"The loss is not finite at {place}.", advice)
            self.known.update(zip(new.tolist(), losses.tolist(), strict=True))
        return np.array([self.known[p] for p in points.tolist()])

    def look_everywhere(self) -> None:
        """Computes the loss between neighbouring values at which it is known, if far apart."""
        parameter = self.objective.parameter
        known, _ = known_values(self.objective)
        ends = [parameter.low, parameter.high]
        edges = np.unique(np.concatenate([ends, known]))
        counts = np.diff(edges) / (parameter.width / self.parts)
        counts = np.ceil(counts - _SAME_GAP).astype(np.int64)
        between = [
            low + (high - low) * np.arange(1, count) / count
            for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
            if count > 1
        ]
        self(np.concatenate([*between, ends[: 2 if parameter.period is None else 1]]))


def _deviation(samples: _Samples, smooth: Series, derivative: Series) -> tuple[float, float]:
    """Bounds the error of D and of dD/dphi by comparing with autograd on a finer grid.

    The error is itself a trigonometric polynomial of about the degree that sampling could not see;
    at four points a wave of twice the degree, its largest value is at most sqrt(2) times the
    largest sampled one (Ehlich & Zeller 1964, doi 10.1007/BF01111276); 2 is used.
    """
    parameter = samples.objective.parameter
    phi = np.append(_check_grid(parameter, 8 * max(derivative.degree, 8)), landmarks(parameter))
    _, first, second = samples.objective.derivatives(parameter.value(phi), 2, smooth=True)
    ours, slope = derivative.derivatives(phi, 1)
    # dD/dphi = smooth''(value) dvalue/dphi
    true_slope = second * parameter.value_slope(phi)
    return (
        2 * float(np.max(np.abs(ours - first))) + derivative.rounding(0),
        2 * float(np.max(np.abs(slope - true_slope))) + derivative.rounding(1),
    )


def _deviation_of_values(
    samples: _Samples, smooth: Series, derivative: Series, on_grid: bool
) -> tuple[float, float, float]:
    """Bounds that of S and the same errors from all values of the loss that were ever computed.

    As in `_deviation`, with three points a wave of twice the degree: the error e of S is at most
    1 / cos(pi / 3) = 2 times the largest sampled one. Its derivatives follow by Bernstein's
    inequality |e'(phi)| <= n max|e|, and in x = -cos(phi) by Markov's |e'(x)| <= n^2 max|e|.
    """
    parameter = samples.objective.parameter
    degree = max(smooth.degree, 8)
    # An interval's waves are even in phi: its half turn counts twice, mirrored about 0.
    per_wave = 6 if parameter.period is not None and not samples.is_expensive else 3
    phi = _check_grid(parameter, per_wave * degree) if on_grid else np.empty(0)
    phi = np.append(phi, landmarks(parameter))
    ours, true = smooth.derivatives(phi, 0)[0], samples(parameter.value(phi))
    samples.look_everywhere()
    values, losses = known_values(samples.objective)
    others = smooth.derivatives(parameter.angle(values), 0)[0]
    apart = 2 * float(np.max(np.abs(np.concatenate([ours - true, others - losses]))))
    apart += smooth.rounding(0)
    error = _per_value(smooth, apart)
    return apart, error + derivative.rounding(0), 2 * degree * error + derivative.rounding(1)


def _check_grid(parameter: Parameter, count: int) -> FloatArray:
    """Returns at least `count` even angles: an odd number, where samples are powers of two."""
    count |= 1
    shift = 0.5 if parameter.period is None else 0.41421356
    return parameter.span * (np.arange(count) + shift) / count


def _per_value(smooth: Series, apart: float) -> float:
    """Bounds the derivative in the value of an error of at most `apart`, of twice the degree."""
    parameter, degree = smooth.parameters[0], 2 * max(smooth.degree, 8)
    if parameter.period is not None:
        return degree * apart * 2 * math.pi / parameter.width
    return degree**2 * apart * 2 / parameter.width


def landmarks(parameter: Parameter) -> FloatArray:
    """Returns angles at the target and on either side of it, none where there is no target."""
    if parameter.target is None:
        return np.empty(0)
    shares = np.concatenate([-_BESIDE_TARGET, [0.0], _BESIDE_TARGET[::-1]])
    values = parameter.target + parameter.width * shares
    return np.mod(parameter.angle(values[parameter.room(values) >= 0]), 2 * math.pi)


def sign_changes(
    series: LossSeries, objective: Line | None = None, places: npt.ArrayLike = ()
) -> FloatArray:
    """Returns the values at which the derivative changes sign; of a stretch of zeros, both ends.

    That of the series; of a loss that it does not follow its roots are ripples: then the
    objective's own is asked, kinks and jumps included, at values (n,) besides.
    """
    parameter = series.parameter
    grid = np.linspace(0, parameter.span, _SIGN_GRID)
    if objective is not None:
        extra = parameter.angle(np.asarray(places, dtype=np.float64))
        grid = np.unique(np.concatenate([grid, landmarks(parameter), extra]))

    def slope(phi: FloatArray) -> FloatArray:
        if objective is None:
            return series.slope(phi)
        return np.asarray(objective.derivatives(parameter.value(phi), 1, smooth=True)[1])

    signs = np.sign(np.nan_to_num(slope(grid)))
    known = np.flatnonzero(signs)
    change = signs[known[:-1]] * signs[known[1:]] < 0
    before, after = known[:-1][change], known[1:][change]
    # A stretch of zeros has two ends, each found from its own side.
    stretch = after > before + 1
    inside = grid[np.concatenate([before, after[stretch]])]
    outside = grid[np.concatenate([before + 1, after[stretch] - 1])]
    return parameter.value(np.unique(bisect(slope, inside, outside)))


def bisect(
    slope: Callable[[FloatArray], FloatArray], inside: FloatArray, outside: FloatArray
) -> FloatArray:
    """Returns the angles (n,) at which a function leaves the sign that it has at `inside`."""
    if len(inside) == 0:
        return inside
    signs = np.sign(slope(inside))
    for _ in range(_BISECTIONS):
        middle = (inside + outside) / 2
        same = np.sign(slope(middle)) == signs
        inside, outside = np.where(same, middle, inside), np.where(same, outside, middle)
    return (inside + outside) / 2
