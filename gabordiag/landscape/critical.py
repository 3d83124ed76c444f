"""Every critical point of a loss, with a proof that none is missing.

The critical points of the smooth loss (mse under rmse) are the roots of its derivative D, a
trigonometric polynomial in phi with a known error (`series.py`). Cells of phi are bisected until
each is proven to hold no root or exactly one. On a cell with middle m and half-width h, Taylor's
theorem bounds the variation of D:

    |D(phi) - D(m)| <= sum_{j=1}^{q} |D^(j)(m)| h^j / j!  +  B_{q+1} h^{q+1} / (q+1)!

with B the global bound from the coefficients. If |D(m)| exceeds that and the error, the cell is
empty. If the same holds for D', D is monotone there, and its signs at the ends decide between one
root and none. What stays undecided down to the smallest cell is a double root or a flat loss; then
nothing is claimed.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from gabordiag.landscape.series import LossSeries, TrigPolynomial, build_series
from gabordiag.landscape.shortcut import cheap_objective
from gabordiag.objective.objective import FloatArray, Objective, Parameter

_TAYLOR_ORDER = 8
_MAX_DEPTH = 40
_MAX_CELLS = 200_000
# Fractions of a cell by which the first grid is shifted, so that no root sits on an edge;
# irrational and unrelated, because symmetric losses have roots at simple fractions.
_OFFSETS = (0.3819660112501051, 0.7071067811865476, 0.1415926535897932)
# A loss that varies by less than this part of itself is flat: rounding. Noise above that part of
# the variation is what keeps a series from following it.
_FLAT, _NOISY = 1e-12, 1e-4
# A zero of rmse: the loss there, relative to the largest, is rounding.
_ZERO_LOSS = 1e-9


@dataclass(frozen=True)
class CriticalPoint:
    """A place where the gradient vanishes, or, for a kink, where a root-type loss is zero.

    Attributes:
        value: Of the parameter; in [-P/2, P/2) for a periodic one.
        loss: There.
        curvature: Second derivative of the loss in use; None at a kink.
        kind: `minimum`, `maximum`, `inflection` or `kink`.
        is_target: It is the minimum that belongs to the target value.
        basin: For minima and kinks, the neighbouring maxima (or ends of the range).
        stable_lr: 2 / curvature, the bound of plain gradient descent; None except at minima.
        slope: At a kink, |dloss/dvalue| on either side.
    """

    value: float
    loss: float
    curvature: float | None
    kind: str
    is_target: bool = False
    basin: tuple[float, float] | None = None
    stable_lr: float | None = None
    slope: float | None = None

    @property
    def is_attractor(self) -> bool:
        """Whether gradient flow ends here."""
        return self.kind in ("minimum", "kink")

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON takes them."""
        fields = asdict(self)
        fields["basin"] = None if self.basin is None else list(self.basin)
        return fields


@dataclass(frozen=True)
class Certificate:
    """What was proven about the list of critical points.

    Attributes:
        certified: Every cell is proven empty or proven to hold exactly one root.
        reason: In words, why or why not.
        cells: Cells that the proof took.
        error: Bound on the series' error that the proof includes, in units of the derivative.
    """

    certified: bool
    reason: str
    cells: int
    error: float


@dataclass(frozen=True, eq=False)
class Landscape:
    """The critical points of an objective along its parameter.

    Attributes:
        parameter: The parameter.
        points: All critical points, by value.
        certificate: Whether the list is proven complete.
        largest_loss: On the range.
        largest_gradient: Largest |dloss/dvalue| on the range.
        smallest_loss: On the range.
        images: Of many images, which they are and what was skipped, as JSON shows it.
    """

    parameter: Parameter
    points: tuple[CriticalPoint, ...]
    certificate: Certificate
    largest_loss: float
    largest_gradient: float
    smallest_loss: float
    images: dict[str, Any] | None = None

    @property
    def attractors(self) -> tuple[CriticalPoint, ...]:
        """Minima and kinks."""
        return tuple(point for point in self.points if point.is_attractor)

    @property
    def target(self) -> CriticalPoint | None:
        """The target's minimum, or None where there is none."""
        return next((point for point in self.points if point.is_target), None)

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        parameter, certificate = self.parameter, self.certificate
        return {
            "parameter": parameter.name,
            "unit": "rad" if parameter.is_angle else parameter.unit,
            "range": [parameter.low, parameter.high],
            "period": parameter.period,
            "target": parameter.target,
            "start": parameter.start,
            "tolerance": parameter.tolerance,
            "critical_points": [point.to_dict() for point in self.points],
            "certified": certificate.certified,
            "certificate": {
                "reason": certificate.reason,
                "cells": certificate.cells,
                "error_bound": certificate.error,
            },
            "largest_loss": self.largest_loss,
            "smallest_loss": self.smallest_loss,
            "largest_gradient": self.largest_gradient,
            **({} if self.images is None else {"images": self.images}),
        }

    @property
    def goal_value(self) -> float | None:
        """Where a run should end: the target, or without one the lowest minimum."""
        if self.parameter.target is not None:
            return self.parameter.target
        lowest = min(self.attractors, key=lambda point: point.loss, default=None)
        return None if lowest is None else lowest.value

    def attractor_of(self, value: float) -> CriticalPoint | None:
        """Returns the minimum or kink into whose basin the value falls; of NaN, None."""
        found = self.basin_of(value)
        return None if found is None else found[0]

    def basin_of(self, value: float) -> tuple[CriticalPoint, tuple[float, float]] | None:
        """Returns the same with the copy of its basin that holds the value."""
        if not math.isfinite(value):
            return None
        for point in self.attractors:
            basin = self.basin_around(point, value)
            if basin is not None:
                return point, basin
        return None

    def basin_around(self, point: CriticalPoint, value: float) -> tuple[float, float] | None:
        """Returns the copy of the point's basin that holds the value, or None if none does."""
        if point.basin is None:
            return None
        lo, hi = point.basin
        period = self.parameter.period
        shift = 0.0 if period is None else period * math.floor((value - lo) / period)
        return (lo + shift, hi + shift) if lo + shift <= value <= hi + shift else None


def find_critical_points(objective: Objective) -> Landscape:
    """Returns all critical points of the objective with a certificate."""
    objective = cheap_objective(objective)
    series = build_series(objective)
    brackets, certificate = isolate_roots(series)
    candidates = series.roots if brackets is None else _bisect(series, brackets)
    values = _polish(objective, candidates)
    values = _snap_to_target(objective, np.unique(objective.parameter.wrap(values)))
    grid_values = series.value(np.linspace(0, series.span, 1001))
    losses, gradients = objective.derivatives(grid_values)[:2]
    return Landscape(
        parameter=objective.parameter,
        points=_classify(objective, values, series, float(losses.max()), certificate.certified),
        certificate=certificate,
        largest_loss=float(losses.max()),
        largest_gradient=float(np.nanmax(np.abs(gradients))),
        smallest_loss=float(losses.min()),
        images=objective.images,
    )


def isolate_roots(series: LossSeries) -> tuple[FloatArray | None, Certificate]:
    """Proves how many roots the derivative has and where.

    Returns:
        Brackets (m, 2) in phi that hold exactly one root each, or None if the proof failed; and
        the certificate.
    """
    if not series.is_resolved:
        return None, Certificate(False, _why_unresolved(series), 0, series.error)
    reason, cells = "", 0
    for offset in _OFFSETS:
        brackets, reason, used = _isolate(series, offset)
        cells += used
        if brackets is not None:
            return brackets, Certificate(True, reason, cells, series.error)
    return None, Certificate(False, reason, cells, series.error)


def _why_unresolved(series: LossSeries) -> str:
    values = series.smooth.derivatives(np.linspace(0, series.span, 257), 0)[0]
    variation, noise = float(np.ptp(values)), series.noise
    if variation <= _FLAT * float(np.abs(values).max()):
        return "the loss is flat to within the error of its evaluation"
    if noise > _NOISY * variation:
        return f"the loss's noise ({noise:.2g}) hides its slope: it varies by {variation:.3g}"
    return (
        f"the loss is not smooth enough: {series.samples} evaluations do not follow its kinks, "
        "jumps or fine ripples"
    )


def _isolate(series: LossSeries, offset: float) -> tuple[FloatArray | None, str, int]:
    count = 2 * max(series.derivative.degree, 8)
    edges = _first_edges(series, count, offset)
    middles, halves = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
    found, used = [], 0
    for _ in range(_MAX_DEPTH):
        used += len(middles)
        status = _judge(series, middles, halves)
        one = status == 1
        found.append(np.stack([(middles - halves)[one], (middles + halves)[one]], axis=1))
        middles, halves = middles[status < 0], halves[status < 0]
        if len(middles) == 0:
            brackets = np.concatenate(found)
            reason = f"each of {used} cells is proven empty or proven to hold exactly one root"
            return brackets[np.argsort(brackets[:, 0])], reason, used
        if used + 2 * len(middles) > _MAX_CELLS:
            break
        halves = np.repeat(halves / 2, 2)
        middles = np.repeat(middles, 2) + halves * np.tile([-1.0, 1.0], len(middles))
    where = float(series.value(middles[:1])[0])
    reason = (
        f"near {series.parameter.show(where)} a double root or a stretch that is flat to rounding "
        "cannot be told from none"
    )
    return None, reason, used


def _first_edges(series: LossSeries, count: int, offset: float) -> FloatArray:
    inner = series.span * (np.arange(count) + offset) / count
    if series.parameter.period is not None:
        return np.append(inner, inner[0] + series.span)
    return np.concatenate([[0.0], inner, [series.span]])


def _judge(series: LossSeries, middles: FloatArray, halves: FloatArray) -> FloatArray:
    """Returns 0 for cells proven empty, 1 for cells proven to hold one root, -1 for the rest."""
    polynomial = series.derivative
    tower = polynomial.derivatives(middles, _TAYLOR_ORDER + 1)
    status = np.full(len(middles), -1.0)
    monotone = np.abs(tower[1]) > _variation(polynomial, tower[1:], halves, 1) + series.slope_error
    empty = np.abs(tower[0]) > _variation(polynomial, tower[:-1], halves, 0) + series.error
    low = polynomial.derivatives(middles - halves, 0)[0]
    high = polynomial.derivatives(middles + halves, 0)[0]
    clear = np.minimum(np.abs(low), np.abs(high)) > series.error
    status[monotone & clear & (low * high < 0)] = 1
    status[monotone & clear & (low * high > 0)] = 0
    status[empty] = 0
    return status


def _variation(
    polynomial: TrigPolynomial, tower: FloatArray, halves: FloatArray, order: int
) -> FloatArray:
    """Taylor bound on how far the function tower[0] departs from its middle value."""
    total = np.zeros_like(halves)
    for j in range(1, _TAYLOR_ORDER + 1):
        total += np.abs(tower[j]) * halves**j / math.factorial(j)
    last = _TAYLOR_ORDER + 1
    return total + polynomial.bound(order + last) * halves**last / math.factorial(last)


def _bisect(series: LossSeries, brackets: FloatArray) -> FloatArray:
    """Returns the roots, as values, of the series inside the brackets, to its rounding."""
    low, high = brackets[:, 0].copy(), brackets[:, 1].copy()
    sign = np.sign(series.derivative.derivatives(low, 0)[0])
    for _ in range(52):
        middle = (low + high) / 2
        left = np.sign(series.derivative.derivatives(middle, 0)[0]) == sign
        low, high = np.where(left, middle, low), np.where(left, high, middle)
    return series.value((low + high) / 2)


def _polish(objective: Objective, values: FloatArray) -> FloatArray:
    """Two Newton steps on the objective's own derivatives, each kept only where it helps."""
    if len(values) == 0:
        return values
    _, first, second = objective.derivatives(values, 2, smooth=True)
    for _ in range(2):
        with np.errstate(divide="ignore", invalid="ignore"):
            trial = values - first / second
        trial = np.where(np.isfinite(trial), trial, values)
        _, first_trial, second_trial = objective.derivatives(trial, 2, smooth=True)
        better = np.abs(first_trial) < np.abs(first)
        values = np.where(better, trial, values)
        first, second = np.where(better, first_trial, first), np.where(better, second_trial, second)
    return values


def _snap_to_target(objective: Objective, values: FloatArray) -> FloatArray:
    """Replaces a root that equals the target to rounding by the target itself."""
    parameter = objective.parameter
    if parameter.target is None or len(values) == 0:
        return values
    distances = np.abs(parameter.offset(values, parameter.target))
    nearest = int(np.argmin(distances))
    if distances[nearest] > 1e-7 * (parameter.high - parameter.low):
        return values
    losses = objective.derivatives([values[nearest], parameter.target], 0, smooth=True)[0]
    if losses[1] > losses[0]:
        return values
    snapped = values.copy()
    snapped[nearest] = parameter.wrap(parameter.target)
    return np.sort(snapped)


def _classify(
    objective: Objective,
    values: FloatArray,
    series: LossSeries,
    largest: float,
    certified: bool,
) -> tuple[CriticalPoint, ...]:
    if len(values) == 0:
        return ()
    smooth, _, second = objective.derivatives(values, 2, smooth=True)
    losses = objective.loss_at(values)
    slopes, rounding = _slopes(series, values, certified)
    points: list[CriticalPoint] = []
    for index, (square, curvature) in enumerate(zip(smooth, second, strict=True)):
        value, loss = float(values[index]), float(losses[index])
        if objective.is_root and loss <= _ZERO_LOSS * largest:
            # Near its zero, smooth = curvature d^2 / 2, so the root is sqrt(curvature / 2) |d|.
            slope = math.sqrt(max(curvature, 0.0) / 2)
            points.append(CriticalPoint(value, loss, None, "kink", slope=slope))
            continue
        # d^2 sqrt(s) = s'' / (2 sqrt s) where s' = 0.
        own = float(curvature / (2 * math.sqrt(square))) if objective.is_root else float(curvature)
        kind = "inflection"
        if slopes[index] > rounding[index]:
            kind = "minimum" if curvature > 0 else "maximum"
        stable = 2 / own if kind == "minimum" else None
        points.append(CriticalPoint(value, loss, own, kind, stable_lr=stable))
    return _with_basins(objective.parameter, points)


def _slopes(
    series: LossSeries, values: FloatArray, certified: bool
) -> tuple[FloatArray, FloatArray]:
    """Returns |dD/dphi| at critical points, and what of it may be rounding.

    An error e of D near a double root splits it into two that lie sqrt(2 e / |D''|) apart, with
    slopes up to sqrt(2 e |D''|): without a proof, no smaller slope counts.
    """
    _, slope, curvature = series.derivative.derivatives(series.angle(values), 2)
    rounding = np.full_like(slope, series.slope_error)
    if not certified:
        rounding = np.maximum(rounding, 4 * np.sqrt(series.error * np.abs(curvature)))
    return np.abs(slope), rounding


def _with_basins(parameter: Parameter, points: list[CriticalPoint]) -> tuple[CriticalPoint, ...]:
    maxima = [point.value for point in points if point.kind == "maximum"]
    attractors = [point for point in points if point.is_attractor]
    target = _target_point(parameter, attractors)
    result = []
    for point in points:
        if point.is_attractor:
            basin = _basin(parameter, point.value, maxima)
            point = replace(point, basin=basin, is_target=point is target)
        result.append(point)
    return tuple(result)


def _target_point(parameter: Parameter, attractors: list[CriticalPoint]) -> CriticalPoint | None:
    if parameter.target is None or not attractors:
        return None
    distances = [abs(float(parameter.offset(p.value, parameter.target))) for p in attractors]
    nearest = int(np.argmin(distances))
    return attractors[nearest] if distances[nearest] <= parameter.tolerance else None


def _basin(parameter: Parameter, value: float, maxima: list[float]) -> tuple[float, float]:
    """The neighbouring maxima; the whole period or the range's ends where there are none."""
    period = parameter.period
    if period is None:
        low = max((m for m in maxima if m < value), default=parameter.low)
        return low, min((m for m in maxima if m > value), default=parameter.high)
    if not maxima:
        return value - period / 2, value + period / 2
    below = max(m - period * math.ceil((m - value) / period) for m in maxima)
    above = min(m - period * math.floor((m - value) / period) for m in maxima)
    return _wrap_interval(parameter, below, above)


def _wrap_interval(parameter: Parameter, low: float, high: float) -> tuple[float, float]:
    wrapped = float(parameter.wrap(low))
    return wrapped, high + (wrapped - low)
