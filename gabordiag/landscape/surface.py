"""The loss over two parameters at once: a surface, its gradient field, and its critical points.

On a grid every cell in which both components of the gradient change sign, and every grid point
lower than its neighbours, is followed by Newton's method. What comes out is found, not certified: a
pair of critical points closer together than the grid may be missed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gabordiag.errors import UsageError
from gabordiag.objective.joint import JointObjective
from gabordiag.objective.objective import FloatArray
from gabordiag.results import Data, Result, finite_or_none, read_only

Progress = Callable[[int, int], None]
BoolArray = npt.NDArray[np.bool_]

DEFAULT_POINTS = 181
# Steps of Newton's method; from a cell of the grid it takes some five.
_NEWTON_STEPS = 30
# A Newton step is cut to this many cells: far from a critical point the quadratic says nothing.
_LONGEST_STEP = 1.5
# Gradients below this part of the largest on the surface are zero; found points nearer to each
# other than this part of a cell are one.
_ZERO_SLOPE, _SAME = 1e-9, 1e-2
# Eigenvalues below this part of the larger one have no sign.
_ZERO_CURVATURE = 1e-7
# A zero of rmse: the loss there, relative to the largest, is rounding.
_ZERO_LOSS = 1e-7
_ROWS_AT_ONCE = 16


@dataclass(frozen=True)
class SurfacePoint:
    """A critical point of the smooth loss on a surface.

    Attributes:
        values: Of the two parameters.
        loss: There.
        kind: `minimum`, `saddle`, `maximum`, `kink` (a zero of a root), or `degenerate`.
        eigenvalues: Of the Hessian of the smooth loss, ascending.
        is_target: It is the target or a copy of it.
    """

    values: tuple[float, float]
    loss: float
    kind: str
    eigenvalues: tuple[float, float]
    is_target: bool

    def to_dict(self, names: tuple[str, str]) -> dict[str, Any]:
        """Returns the fields as JSON takes them."""
        return {
            **dict(zip(names, self.values, strict=True)),
            "loss": self.loss,
            "kind": self.kind,
            "eigenvalues": list(self.eigenvalues),
            "is_target": self.is_target,
        }


@dataclass(frozen=True, eq=False)
class Surface(Result):
    """The loss over two parameters.

    Attributes:
        objective: Of which; not shown.
        a: Values of the first parameter (m,).
        b: Of the second (k,).
        loss: (m, k).
        grad_a: dloss/da (m, k); NaN where the formula is 0/0.
        grad_b: dloss/db (m, k).
        points: Critical points that were found, the lowest first.
    """

    objective: JointObjective
    a: FloatArray
    b: FloatArray
    loss: FloatArray
    grad_a: FloatArray
    grad_b: FloatArray
    points: tuple[SurfacePoint, ...]

    @property
    def names(self) -> tuple[str, str]:
        """Of the two parameters."""
        first, second = self.objective.names
        return first, second

    @property
    def minima(self) -> tuple[SurfacePoint, ...]:
        """Minima and kinks, the lowest first."""
        return tuple(point for point in self.points if point.kind in ("minimum", "kink"))

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        names, objective = self.names, self.objective
        lowest = np.unravel_index(int(np.argmin(self.loss)), self.loss.shape)
        grid = {
            names[0]: float(self.a[lowest[0]]),
            names[1]: float(self.b[lowest[1]]),
            "loss": float(self.loss[lowest]),
            "kind": "grid point",
        }
        minima = [point.to_dict(names) for point in self.minima]
        return {
            "parameters": list(names),
            "units": ["rad" if p.is_angle else p.unit for p in objective.parameters],
            "ranges": [[float(v[0]), float(v[-1])] for v in (self.a, self.b)],
            "periods": [parameter.period for parameter in objective.parameters],
            "points": [len(self.a), len(self.b)],
            "loss": objective.loss_name,
            "target": dict(zip(names, objective.target.tolist(), strict=True)),
            "start": dict(zip(names, objective.start.tolist(), strict=True)),
            # The grid's own lowest point where no minimum lies inside.
            "minimum": minima[0] if minima else grid,
            "local_minima": minima,
            "saddles": [p.to_dict(names) for p in self.points if p.kind == "saddle"],
            "maxima": [p.to_dict(names) for p in self.points if p.kind == "maximum"],
            "found": "by Newton's method from every cell in which both slopes change sign, and "
            "from every lowest grid point; found, not certified",
            "largest_loss": float(self.loss.max()),
            "smallest_loss": float(self.loss.min()),
        }

    def data(self) -> Data:
        """Returns what is saved as surface.npz."""
        names = ("a", "b", "loss", "grad_a", "grad_b")
        return {"surface.npz": {name: getattr(self, name) for name in names}}


def sweep_surface(
    objective: JointObjective,
    points: tuple[int, int] = (DEFAULT_POINTS, DEFAULT_POINTS),
    ranges: tuple[tuple[float, float] | None, tuple[float, float] | None] = (None, None),
    *,
    progress: Progress | None = None,
) -> Surface:
    """Evaluates the loss and its gradient on a grid and finds the critical points.

    Args:
        objective: Of two parameters.
        points: How many values of each, both ends included.
        ranges: Their ends; the parameter's own range without.
        progress: Called with (rows done, rows in all).

    Raises:
        UsageError: Not two parameters, fewer than 3 points, or an empty range.
    """
    if len(objective.parameters) != 2:
        raise UsageError("a surface needs two parameters.", "Give --over twice.")
    axes = []
    for parameter, count, ends in zip(objective.parameters, points, ranges, strict=True):
        low, high = ends or (parameter.low, parameter.high)
        if count < 3 or not low < high:
            raise UsageError(
                f"a sweep of {parameter.name} from {low:g} to {high:g} over {count} points is "
                "empty.",
                "Give LO < HI and at least 3 points.",
            )
        axes.append(np.linspace(low, high, count))
    a, b = axes
    rows = []
    for first in range(0, len(a), _ROWS_AT_ONCE):
        some = a[first : first + _ROWS_AT_ONCE]
        grid = np.stack(np.meshgrid(some, b, indexing="ij"), axis=-1)
        losses, slopes = objective.loss_and_gradient(objective.coordinates(grid).reshape(-1, 2))
        rows.append(np.concatenate([losses[:, None], slopes], axis=1).reshape(*grid.shape[:2], 3))
        if progress is not None:
            progress(min(first + _ROWS_AT_ONCE, len(a)), len(a))
    a, b, loss, grad_a, grad_b = (
        read_only(x.copy()) for x in (a, b, *np.moveaxis(np.concatenate(rows), -1, 0))
    )
    if not np.isfinite(loss).all():
        raise UsageError(
            "the loss is not finite everywhere on this surface.",
            "Keep wavelength, sigma and gamma above 0.",
        )
    surface = Surface(objective, a, b, loss, grad_a, grad_b, ())
    return replace(surface, points=find_critical_points(surface, _candidates(surface)))


def _candidates(surface: Surface) -> FloatArray:
    """Returns where Newton's method starts (n, 2): lowest grid points, and mixed cells."""
    a, b = surface.a, surface.b
    low = np.argwhere(_lowest(surface.loss))
    # The signs of a root's slopes are those of the loss under it.
    cells = np.argwhere(_changes_sign(surface.grad_a) & _changes_sign(surface.grad_b))
    middles = (cells + 0.5).astype(np.float64)
    places = np.concatenate([low.astype(np.float64), middles])
    return np.stack(
        [
            np.interp(places[:, 0], np.arange(len(a)), a),
            np.interp(places[:, 1], np.arange(len(b)), b),
        ],
        axis=1,
    )


def _lowest(loss: FloatArray) -> BoolArray:
    """Grid points not above any of their neighbours; beyond the edges nothing is lower."""
    padded = np.pad(loss, 1, constant_values=np.inf)
    result = np.ones(loss.shape, dtype=np.bool_)
    for i in range(3):
        for j in range(3):
            result &= loss <= padded[i : i + loss.shape[0], j : j + loss.shape[1]]
    return result


def _changes_sign(slope: FloatArray) -> BoolArray:
    """Cells (m - 1, k - 1) at whose corners a slope is not of one sign."""
    corners = np.stack([slope[:-1, :-1], slope[1:, :-1], slope[:-1, 1:], slope[1:, 1:]])
    # 0/0 of a root at its zero: a sign change for sure.
    unknown = ~np.isfinite(corners).all(axis=0)
    mixed = (corners.min(axis=0) <= 0) & (corners.max(axis=0) >= 0)
    return np.asarray(mixed | unknown)


def find_critical_points(surface: Surface, starts: FloatArray) -> tuple[SurfacePoint, ...]:
    """Returns the critical points inside the surface's range to which Newton's method leads.

    Args:
        surface: Whose range and objective.
        starts: Values (n, 2).
    """
    objective = surface.objective
    cell = np.array([surface.a[1] - surface.a[0], surface.b[1] - surface.b[0]])
    points = newton(objective, starts, _LONGEST_STEP * cell)
    low = np.array([surface.a[0], surface.b[0]])
    high = np.array([surface.a[-1], surface.b[-1]])
    periods = [parameter.period for parameter in objective.parameters]
    # A whole period is swept: what left it at one end is back at the other.
    for index, period in enumerate(periods):
        if period is not None and math.isclose(high[index] - low[index], period, rel_tol=1e-12):
            points[:, index] = low[index] + np.mod(points[:, index] - low[index], period)
    inside = ((points >= low - 1e-9 * cell) & (points <= high + 1e-9 * cell)).all(axis=1)
    points = points[inside]
    if len(points) == 0:
        return ()
    slopes = objective.loss_and_gradient(objective.coordinates(points), smooth=True)[1]
    scales = np.array([np.nanmax(np.abs(g)) for g in (surface.grad_a, surface.grad_b)])
    if objective.is_root:
        # d(l^2) = 2 l dl
        scales = scales * 2 * surface.loss.max()
    resting = (np.abs(slopes) <= _ZERO_SLOPE * scales).all(axis=1)
    distinct = _distinct(objective, points[resting], _SAME * cell)
    return _classified(surface, distinct)


def newton(objective: JointObjective, starts: FloatArray, longest: FloatArray) -> FloatArray:
    """Returns where Newton's method on the smooth loss leads from starts (n, d), values.

    Args:
        objective: Of d parameters, none as a logarithm.
        starts: (n, d).
        longest: Largest step of each parameter (d,).
    """
    points = np.array(starts, dtype=np.float64)
    moving = np.arange(len(points))
    for _ in range(_NEWTON_STEPS):
        if len(moving) == 0:
            break
        at = points[moving]
        slopes = objective.loss_and_gradient(at, smooth=True)[1]
        hessians = objective.hessian(at, smooth=True)
        steps = -np.einsum("nij,nj->ni", np.linalg.pinv(hessians, hermitian=True), slopes)
        steps = np.nan_to_num(steps)
        ratio = np.abs(steps / longest).max(axis=1, keepdims=True)
        steps = steps / np.maximum(ratio, 1.0)
        points[moving] = at + steps
        # The error is squared in every step: after one this short it is rounding.
        moving = moving[ratio[:, 0] > 1e-7]
    return points


def _distinct(objective: JointObjective, points: FloatArray, apart: FloatArray) -> FloatArray:
    kept: list[FloatArray] = []
    for point in points:
        near = (np.abs(objective.offsets(np.array(kept), point)) <= apart) if kept else np.empty(0)
        if not (len(kept) and near.all(axis=1).any()):
            kept.append(point)
    return np.array(kept).reshape(-1, points.shape[1])


def _classified(surface: Surface, points: FloatArray) -> tuple[SurfacePoint, ...]:
    objective = surface.objective
    if len(points) == 0:
        return ()
    losses = objective.loss_at(points)
    spectra = np.linalg.eigvalsh(objective.hessian(points, smooth=True))
    reached = objective.target_distances(points) <= 1.0
    found = [
        SurfacePoint(
            (float(point[0]), float(point[1])),
            float(loss),
            _kind(objective, spectrum, float(loss) / float(surface.loss.max())),
            (float(spectrum[0]), float(spectrum[1])),
            bool(is_target),
        )
        for point, loss, spectrum, is_target in zip(points, losses, spectra, reached, strict=True)
    ]
    return tuple(sorted(found, key=lambda point: point.loss))


def _kind(objective: JointObjective, spectrum: FloatArray, share: float) -> str:
    if objective.is_root and share <= _ZERO_LOSS:
        return "kink"
    small = _ZERO_CURVATURE * np.abs(spectrum).max()
    if np.abs(spectrum).min() <= small:
        return "degenerate"
    return {2: "minimum", 1: "saddle", 0: "maximum"}[int((spectrum > 0).sum())]


def condition(eigenvalues: FloatArray) -> dict[str, Any]:
    """Returns what a Hessian's eigenvalues (d,) say of gradient descent, as JSON takes it.

    At a minimum the largest bounds the learning rate by 2 / largest; the condition number, largest
    over smallest, is about how many times more steps the slowest direction takes than the fastest.
    """
    low, high = float(eigenvalues[0]), float(eigenvalues[-1])
    is_minimum = low > 0
    return {
        "eigenvalues": [finite_or_none(float(value)) for value in eigenvalues],
        "condition_number": high / low if is_minimum else None,
        "stable_lr": 2 / high if high > 0 else None,
        "is_minimum": is_minimum,
    }
