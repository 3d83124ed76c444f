"""The loss over two parameters at once: a surface, its gradient field, and its critical points.

On a grid every cell in which both components of the gradient change sign, and every grid point
lower than its neighbours, is followed by Newton's method. What comes out is found, not certified: a
pair of critical points closer together than the grid may be missed.

Through the end of a run of several parameters go as many planes as there are pairs of them; the
loss on each is saved with the run, so that a figure has nothing to compute.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gabordiag.errors import UsageError
from gabordiag.landscape.points import stable_lr
from gabordiag.objective.objective import Objective
from gabordiag.objective.space import FloatArray, Parameter
from gabordiag.results import Data, Progress, Result, finite_or_none, read_only

Ends = tuple[float | None, float | None]
BoolArray = npt.NDArray[np.bool_]

# Over a half turn one a degree, both ends included.
DEFAULT_POINTS = 181
# Of each parameter of a pair: enough for contours, and ten pairs are drawn in one figure. Of a
# custom objective whose evaluations are expensive.
PAIR_POINTS, _FEW_POINTS = 61, 16
# Parameters of which the pairs are shown, those that moved most.
_MOST_SHOWN = 5
# A length is shown down to this part of its range at least; at 0 there is no filter.
_LOWEST = 0.05
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
# Rows of the grid between two reports of progress.
_ROWS_AT_ONCE = 16
# A step shorter than this part of the longest is the last one: the error is squared in every step,
# and below the root of rounding nothing is left of it.
_LAST_STEP = 1e-7
# A point outside the range by this part of a cell is on its edge but for rounding.
_ON_EDGE = 1e-9


@dataclass(frozen=True)
class SurfacePoint:
    """A critical point on a surface, with the Hessian of the smooth loss's eigenvalues, ascending.

    The kind is `minimum`, `saddle`, `maximum`, `kink` (a zero of a root), or `degenerate`.
    """

    values: tuple[float, float]
    loss: float
    kind: str
    eigenvalues: tuple[float, float]
    is_target: bool

    def to_dict(self, names: tuple[str, str], *, is_root: bool) -> dict[str, Any]:
        """Returns the fields as JSON takes them, the eigenvalues of the loss in use.

        Where the slope is zero, the Hessian of a root l is that of l^2 over 2 l. At a zero of it, a
        kink, there is none, and l rises by sqrt(eigenvalue of l^2 / 2) a unit instead.
        """
        curved: list[float] | None = list(self.eigenvalues)
        slopes = None
        if self.kind == "kink":
            curved, slopes = None, [math.sqrt(max(0.0, v) / 2) for v in self.eigenvalues]
        elif is_root:
            curved = [value / (2 * self.loss) for value in self.eigenvalues]
        return {
            **dict(zip(names, self.values, strict=True)),
            "loss": self.loss,
            "kind": self.kind,
            "eigenvalues": curved,
            "slopes": slopes,
            "stable_lr": stable_lr(curved[1]) if curved and self.kind == "minimum" else None,
            "is_target": self.is_target,
        }


@dataclass(frozen=True, eq=False)
class Surface(Result):
    """The loss (m, k) over a (m,), b (k,), slopes, NaN where 0/0, and points, lowest first."""

    grid = (("a", "a"), ("b", "b"))

    objective: Objective
    a: FloatArray
    b: FloatArray
    loss: FloatArray
    grad_a: FloatArray
    grad_b: FloatArray
    points: tuple[SurfacePoint, ...]

    @property
    def names(self) -> tuple[str, str]:
        """Of the two parameters."""
        first, second = self.objective.space.names
        return first, second

    @property
    def minima(self) -> tuple[SurfacePoint, ...]:
        """Minima and kinks, the lowest first."""
        return tuple(point for point in self.points if point.kind in ("minimum", "kink"))

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        names, objective = self.names, self.objective
        space = objective.space
        lowest = divmod(int(np.argmin(self.loss)), len(self.b))
        kinds: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for point in self.points:
            shown = point.to_dict(names, is_root=objective.is_root)
            kinds["minimum" if point in self.minima else point.kind].append(shown)
        minima = kinds["minimum"]
        # A flat loss has no lowest points.
        edges = _edge_minima(self) if self.loss.max() > self.loss.min() else []
        return {
            "parameters": list(names),
            "units": ["rad" if p.is_angle else p.unit for p in space.parameters],
            "ranges": [[float(v[0]), float(v[-1])] for v in (self.a, self.b)],
            "periods": [parameter.period for parameter in space.parameters],
            "points": [len(self.a), len(self.b)],
            "loss": objective.loss_name,
            "target": None if space.target is None else space.named(space.target),
            "start": space.named(space.start),
            # The grid's own lowest point where no minimum lies inside.
            "minimum": minima[0] if minima else self._grid_point(*lowest, "grid point"),
            "local_minima": minima,
            "edge_minima": [self._grid_point(i, j, "edge") for i, j in edges],
            "saddles": kinds["saddle"],
            "maxima": kinds["maximum"],
            "degenerate": kinds["degenerate"],
            "found": "by Newton's method from every cell in which both slopes change sign and from "
            "every lowest grid point; this is a search, not a proof",
            "images": objective.images,
            "largest_loss": float(self.loss.max()),
            "smallest_loss": float(self.loss.min()),
        }

    def _grid_point(self, i: int, j: int, kind: str) -> dict[str, Any]:
        place = dict(zip(self.names, (float(self.a[i]), float(self.b[j])), strict=True))
        return {**place, "loss": float(self.loss[i, j]), "kind": kind}

    def data(self) -> Data:
        """Returns what is saved as surface.npz."""
        names = ("a", "b", "loss", "grad_a", "grad_b")
        return {"surface.npz": {name: getattr(self, name) for name in names}}


def sweep_surface(
    objective: Objective,
    points: tuple[int | None, int | None] | None = None,
    ranges: tuple[Ends, Ends] = ((None, None), (None, None)),
    *,
    progress: Progress | None = None,
) -> Surface:
    """Evaluates loss and gradient on a grid over two ranges and finds the critical points."""
    if len(objective.space.parameters) != 2:
        raise UsageError("a surface needs two parameters.", "Give --over twice.")
    counts = points or (None, None)
    a, b = (
        parameter.grid(*ends, DEFAULT_POINTS if count is None else count)
        for parameter, count, ends in zip(objective.space.parameters, counts, ranges, strict=True)
    )
    rows = []
    for first in range(0, len(a), _ROWS_AT_ONCE):
        some = a[first : first + _ROWS_AT_ONCE]
        grid = np.stack(np.meshgrid(some, b, indexing="ij"), axis=-1)
        places = objective.space.coordinates(grid).reshape(-1, 2)
        losses, slopes = objective.loss_and_gradient(places)
        rows.append(np.concatenate([losses[:, None], slopes], axis=1).reshape(*grid.shape[:2], 3))
        if progress is not None:
            progress(min(first + _ROWS_AT_ONCE, len(a)), len(a))
    levels = np.moveaxis(np.concatenate(rows), -1, 0)
    loss = levels[0]
    if not np.isfinite(loss).all():
        raise UsageError(
            "the loss is not finite everywhere on this surface.",
            "Sweep a smaller range, or use another image.",
        )
    a, b, loss, grad_a, grad_b = (read_only(x.copy()) for x in (a, b, *levels))
    surface = Surface(objective, a, b, loss, grad_a, grad_b, ())
    if loss.max() == loss.min():
        return surface
    return replace(surface, points=find_surface_points(surface, _candidates(surface)))


def _candidates(surface: Surface) -> FloatArray:
    """Returns where Newton's method starts (n, 2): lowest grid points, and mixed cells."""
    # The signs of a root's slopes are those of the loss under it.
    cells = np.argwhere(_changes_sign(surface.grad_a) & _changes_sign(surface.grad_b))
    places = np.concatenate([np.argwhere(_lowest(surface)), cells + 0.5])
    columns = zip(places.T, (surface.a, surface.b), strict=True)
    return np.stack([np.interp(at, np.arange(len(v)), v) for at, v in columns], axis=1)


def _whole_periods(surface: Surface) -> tuple[bool, bool]:
    """Whether each axis is one period: what leaves at one end comes back at the other."""
    axes = zip(surface.objective.space.parameters, (surface.a, surface.b), strict=True)
    first, second = (
        p.period is not None and math.isclose(axis[-1] - axis[0], p.period, rel_tol=1e-12)
        for p, axis in axes
    )
    return first, second


def _lowest(surface: Surface) -> BoolArray:
    """Grid points not above any of their neighbours; beyond an open edge nothing is lower."""
    padded = surface.loss
    for axis, is_whole in enumerate(_whole_periods(surface)):
        ends = [padded.take([index], axis=axis) for index in (-2, 1)]
        if not is_whole:
            ends = [np.full_like(end, np.inf) for end in ends]
        padded = np.concatenate([ends[0], padded, ends[1]], axis=axis)
    around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
    return np.asarray(surface.loss <= around.min(axis=(-2, -1)))


def _edge_minima(surface: Surface) -> list[tuple[int, int]]:
    """Grid points on an open edge that are lower than all around: the loss falls on outside."""
    whole = _whole_periods(surface)
    lowest = _lowest(surface)
    lowest[tuple(slice(None) if is_whole else slice(1, -1) for is_whole in whole)] = False
    for axis in np.flatnonzero(whole):
        # The period's end is its beginning.
        lowest.swapaxes(0, axis)[-1] = False
    return [(int(i), int(j)) for i, j in np.argwhere(lowest)]


def _changes_sign(slope: FloatArray) -> BoolArray:
    """Cells (m - 1, k - 1) at whose corners a slope is not of one sign."""
    corners = np.stack([slope[:-1, :-1], slope[1:, :-1], slope[:-1, 1:], slope[1:, 1:]])
    # 0/0 of a root at its zero: a sign change for sure.
    unknown = ~np.isfinite(corners).all(axis=0)
    # On a line of the grid a slope of zero is rounding, of either sign; the two ends of a period
    # are one line with two roundings.
    zero = _ZERO_SLOPE * _steepest(slope)
    mixed = (corners.min(axis=0) <= zero) & (corners.max(axis=0) >= -zero)
    return np.asarray(mixed | unknown)


def _steepest(slopes: FloatArray) -> float:
    # A root's slope is infinite at its zero, which is no measure of the others.
    return float(np.abs(slopes[np.isfinite(slopes)]).max(initial=0.0))


def find_surface_points(surface: Surface, starts: FloatArray) -> tuple[SurfacePoint, ...]:
    """Returns the critical points in the range to which Newton's method leads from (n, 2)."""
    # Newton's method needs the digits, whatever the precision of the loss on the grid.
    objective = surface.objective.in_double()
    low, second, high = (np.array([surface.a[i], surface.b[i]]) for i in (0, 1, -1))
    cell = second - low
    points = newton(objective, starts, _LONGEST_STEP * cell, low, high)
    for index, is_whole in enumerate(_whole_periods(surface)):
        if is_whole:
            turned = np.mod(points[:, index] - low[index], high[index] - low[index])
            points[:, index] = low[index] + turned
    slack = _ON_EDGE * cell
    points = points[((points >= low - slack) & (points <= high + slack)).all(axis=1)]
    if len(points) == 0:
        return ()
    slopes = objective.loss_and_gradient(objective.space.coordinates(points), smooth=True)[1]
    scales = np.array([_steepest(surface.grad_a), _steepest(surface.grad_b)])
    if objective.is_root:
        # d(l^2) = 2 l dl
        scales = scales * 2 * surface.loss.max()
    resting = (np.abs(slopes) <= _ZERO_SLOPE * scales).all(axis=1)
    return _classified(surface, objective, _distinct(objective, points[resting], _SAME * cell))


def newton(
    objective: Objective, starts: FloatArray, longest: FloatArray, low: FloatArray, high: FloatArray
) -> FloatArray:
    """Returns where Newton's method on the smooth loss leads from values (n, d), by short steps.

    A value without a period stays in its range, if it starts there.
    """
    points = np.array(starts, dtype=np.float64)
    # A user's function may end where its range does.
    ended = np.array([parameter.period is None for parameter in objective.space.parameters])
    ended = ended & (points >= low) & (points <= high)
    lowest, highest = np.where(ended, low, -np.inf), np.where(ended, high, np.inf)
    moving = np.arange(len(points))
    for _ in range(_NEWTON_STEPS):
        if len(moving) == 0:
            break
        at = points[moving]
        slopes = objective.loss_and_gradient(at, smooth=True)[1]
        hessians = objective.hessian(at, smooth=True)
        # Without second derivatives no step is known.
        hessians[~np.isfinite(hessians).all(axis=(1, 2))] = 0.0
        steps = -np.einsum("nij,nj->ni", np.linalg.pinv(hessians, hermitian=True), slopes)
        steps = np.nan_to_num(steps)
        ratio = np.abs(steps / longest).max(axis=1, keepdims=True)
        moved = at + steps / np.maximum(ratio, 1.0)
        points[moving] = np.clip(moved, lowest[moving], highest[moving])
        moving = moving[(np.abs(points[moving] - at) / longest).max(axis=1) > _LAST_STEP]
    return points


def _distinct(objective: Objective, points: FloatArray, apart: FloatArray) -> FloatArray:
    kept: list[FloatArray] = []
    for point in points:
        offsets = objective.space.offsets(np.array(kept).reshape(-1, len(point)), point)
        if not (np.abs(offsets) <= apart).all(axis=1).any():
            kept.append(point)
    return np.array(kept).reshape(-1, points.shape[1])


def _classified(
    surface: Surface, objective: Objective, points: FloatArray
) -> tuple[SurfacePoint, ...]:
    if len(points) == 0:
        return ()
    losses = objective.loss_at(points)
    spectra = np.linalg.eigvalsh(objective.hessian(points, smooth=True))
    reached = np.zeros(len(points), dtype=np.bool_)
    for goal in objective.goals:
        reached |= objective.space.distances(points, goal) <= 1.0
    found = []
    for index in np.argsort(losses, kind="stable").tolist():
        loss = float(losses[index])
        kind = _kind(objective, spectra[index], loss / float(surface.loss.max()))
        values, eigenvalues = tuple(points[index].tolist()), tuple(spectra[index].tolist())
        found.append(SurfacePoint(values, loss, kind, eigenvalues, bool(reached[index])))
    return tuple(found)


def _kind(objective: Objective, spectrum: FloatArray, share: float) -> str:
    if objective.is_root and share <= _ZERO_LOSS:
        return "kink"
    small = _ZERO_CURVATURE * np.abs(spectrum).max()
    if np.abs(spectrum).min() <= small:
        return "degenerate"
    return {2: "minimum", 1: "saddle", 0: "maximum"}[int((spectrum > 0).sum())]


def condition(objective: Objective, at: FloatArray) -> dict[str, Any]:
    """Returns what the smooth loss's Hessian at values (d,) says of descent, as JSON takes it.

    At a minimum the largest eigenvalue bounds the learning rate by 2 / largest; the condition
    number, largest over smallest, is about how many times more steps the slowest direction takes
    than the fastest.
    """
    eigenvalues = np.full(len(at), math.nan)
    if np.isfinite(at).all():
        hessian = objective.hessian(objective.space.coordinates(at)[None], smooth=True)[0]
        if np.isfinite(hessian).all():
            eigenvalues = np.linalg.eigvalsh(hessian)
    low, high = float(eigenvalues[0]), float(eigenvalues[-1])
    is_minimum = low > 0
    return {
        "eigenvalues": [finite_or_none(float(value)) for value in eigenvalues],
        "condition_number": high / low if is_minimum else None,
        "stable_lr": stable_lr(high),
        "is_minimum": is_minimum,
    }


@dataclass(frozen=True, eq=False)
class PairSurface:
    """The loss (n, n) over two of the learned parameters, the others at a run's end."""

    names: tuple[str, str]
    a: FloatArray
    b: FloatArray
    loss: FloatArray

    @property
    def file(self) -> str:
        """Where it is saved."""
        return f"pair-{self.names[0]}-{self.names[1]}.npz"


def pair_surfaces(
    objective: Objective, path: FloatArray, points: int = PAIR_POINTS
) -> tuple[PairSurface, ...]:
    """Returns the loss on planes of those that moved most, through a path's (n, d) last inside."""
    if objective.is_expensive:
        points = min(points, _FEW_POINTS)
    space, objective = objective.space, objective.in_values()
    finite = path[np.isfinite(path).all(axis=1)]
    axes = [_pair_axis(p, path[:, i], points) for i, p in enumerate(space.parameters)]
    inside = np.ones(len(finite), dtype=np.bool_)
    for parameter, axis, column in zip(space.parameters, axes, finite.T, strict=True):
        inside &= (parameter.period is not None) | ((column >= axis[0]) & (column <= axis[-1]))
    end = (finite[inside] if inside.any() else finite)[-1]
    moved = np.ptp(finite, axis=0) / space.tolerance
    shown = sorted(np.argsort(-moved, kind="stable")[:_MOST_SHOWN].tolist())
    surfaces = []
    for i, j in itertools.combinations(shown, 2):
        grid = np.tile(end, (points, points, 1))
        grid[..., i], grid[..., j] = np.meshgrid(axes[i], axes[j], indexing="ij")
        loss = objective.loss_at(grid.reshape(-1, len(end))).reshape(points, points)
        names = space.names[i], space.names[j]
        surfaces.append(PairSurface(names, *(read_only(x) for x in (axes[i], axes[j], loss))))
    return tuple(surfaces)


def _pair_axis(parameter: Parameter, path: FloatArray, points: int) -> FloatArray:
    """A whole period, or the range widened to hold the run, by a width of its own at most."""
    low, high, width = parameter.low, parameter.high, parameter.width
    if parameter.period is None:
        finite = path[np.isfinite(path)]
        low = max(min(low, float(finite.min())), low - width)
        high = min(max(high, float(finite.max())), high + width)
        if parameter.is_positive:
            low = max(low, _LOWEST * width)
    return np.linspace(low, high, points)
