"""The loss and its gradient as tables, for when they are needed a hundred million times.

Along a period, or an interval, the function is replaced on each of many equal cells by the quintic
through six Chebyshev points of that cell. Cells start at the target, so that the kink of rmse lies
between two cells and each of its sides stays smooth. The largest error, measured at points between
the nodes, is kept beside the table.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gabordiag.dynamics.outcomes import FAR_OUT, IntArray
from gabordiag.errors import InputError
from gabordiag.landscape.points import Landscape
from gabordiag.landscape.series import build_series
from gabordiag.landscape.series_objective import SeriesObjective, cheap_objective
from gabordiag.objective.objective import Line
from gabordiag.objective.space import FloatArray, Parameter

# A power of two, so that a mask is the remainder; with a quintic on each, the error of a Gabor
# landscape is at most some 1e-12 of the largest value (see `Table.error`).
CELLS = 2048
_ORDER = 6
# So many cells on either side of a kink take the objective itself: the series lost digits there.
_EXACT_CELLS = 12
# Powers of two, too. Of an objective that torch cannot batch, every evaluation counts: around its
# range it is known on cells of half the range's width, its slope that of the quintic through them.
_CELLS_BEYOND, _CELLS_EXPENSIVE, _CELLS_AROUND_EXPENSIVE = 4096, 512, 32
# Of a stretch in which a function is refused somewhere, asked one by one: at first, on both sides
# of an interval together, a quarter of its width apart.
_PROBES = 33
# So many values are looked up one by one in less time than as an array.
_FEW = 16
# Of the steepest slope: less at the target is rounding.
_ROUNDINGS = 1e-12
_NODES = 0.5 - 0.5 * np.cos(np.pi * (2 * np.arange(_ORDER) + 1) / (2 * _ORDER))
_TO_POWERS = np.linalg.inv(np.vander(_NODES, _ORDER, increasing=True)).T
Levels = Callable[[Line, FloatArray], FloatArray]


@dataclass(frozen=True, eq=False)
class Table:
    """A piecewise quintic on equal cells, the last followed by the first where it is periodic.

    The coefficients (cells, 6) are of powers of the position in the cell, 0 to 1. At a kink the
    function is 0/0. The error is the largest seen between the nodes, relative to the largest value;
    `beyond` is the function outside an interval, NaN without it.
    """

    origin: float
    cell: float
    cells: int
    is_periodic: bool
    coefficients: FloatArray
    kink: float | None
    error: float
    beyond: Callable[[FloatArray], FloatArray] | None = None

    @cached_property
    def _columns(self) -> tuple[FloatArray, ...]:
        # A column at a time is gathered twice as fast as rows of six.
        return tuple(np.ascontiguousarray(self.coefficients.T))

    @property
    def _width(self) -> float:
        """Exact, because the number of cells is a power of two: an interval's end belongs to it."""
        return self.cell * self.cells

    @cached_property
    def _rows(self) -> list[list[float]]:
        rows: list[list[float]] = self.coefficients.tolist()
        return rows

    def at(self, value: float) -> float:
        """Returns the function at one value, in plain Python: no array is worth its overhead."""
        if not math.isfinite(value) or value == self.kink:
            return math.nan
        distance = value - self.origin
        position = distance / self.cell
        index = math.floor(position)
        if not self.is_periodic and distance == self._width:
            index = self.cells - 1
        position -= index
        if self.is_periodic:
            index %= self.cells
        elif not 0 <= index < self.cells:
            return math.nan
        a, b, c, d, e, f = self._rows[index]
        return a + position * (b + position * (c + position * (d + position * (e + position * f))))

    def __call__(
        self,
        values: FloatArray,
        rows: IntArray | int = 0,
        origins: FloatArray | None = None,
        kinks: FloatArray | None = None,
    ) -> FloatArray:
        """Returns the function at values (n,), of one of several tables in one from its row on."""
        position = values - (self.origin if origins is None else origins)
        is_end = None if self.is_periodic else position == self._width
        with np.errstate(over="ignore"):
            position *= 1 / self.cell
        index = np.floor(position)
        if is_end is not None:
            index[is_end] = self.cells - 1
        # What is not finite lands in some cell, and stays NaN through `position`.
        with np.errstate(invalid="ignore"):
            position -= index
            place = index.astype(np.int64)
        # The number of cells is a power of two: the mask is the remainder, of negatives as well.
        place &= self.cells - 1
        place += rows
        *lower, highest = self._columns
        result = highest.take(place)
        with np.errstate(invalid="ignore", over="ignore"):
            for column in reversed(lower):
                result *= position
                result += column.take(place)
        if not self.is_periodic:
            outside = (index < 0) | (index >= self.cells)
            if outside.any():
                result[outside] = math.nan if self.beyond is None else self.beyond(values[outside])
        if (places := self.kink if kinks is None else kinks) is not None:
            result[values == places] = math.nan
        return result


class TabulatedObjective(Line):
    """An objective through its tables: some hundred times faster, without autograd."""

    def __init__(self, objective: Line, landscape: Landscape) -> None:
        self._objective, self.landscape = objective, landscape
        self.parameter = objective.parameter
        self.loss_name, self.is_root = objective.loss_name, objective.is_root
        self.tables = tabulate(objective)
        # Of a loss that is nowhere below zero, what the tables have below it is rounding.
        lowest = min([landscape.smallest_loss, *(point.loss for point in landscape.points)])
        self._floor = 0.0 if lowest >= 0 else -math.inf

    def loss(self, values: Tensor, *, smooth: bool = False) -> Tensor:
        """Returns the loss (n,) at the values (n,)."""
        return torch.from_numpy(self.tables[0](values.numpy()))

    def gradient_on(self, runs: IntArray) -> Table:
        """Returns the slope, the same for all runs."""
        return self.tables[1]

    def losses_and_gradients(self, values: Tensor) -> tuple[FloatArray, Tensor | None]:
        """Returns losses (n,) and gradients (n,), of few values in plain Python."""
        if len(values) <= _FEW:
            losses, gradients = np.array([self._at(value) for value in values.tolist()]).T
            return losses, torch.from_numpy(gradients)
        at, known = values.numpy(), np.empty((2, len(values)))
        inside = self.parameter.room(at) >= 0
        known[:, inside] = [table(at[inside]) for table in self.tables]
        np.maximum(known[0], self._floor, out=known[0], where=inside)
        for index in np.flatnonzero(~inside):
            known[:, index] = self._at(float(at[index]))
        return known[0], torch.from_numpy(known[1])

    def _at(self, value: float) -> tuple[float, float]:
        losses, slopes = self.tables
        parameter = self.parameter
        is_inside = parameter.period is not None or parameter.low <= value <= parameter.high
        if is_inside or not math.isfinite(value):
            return max(losses.at(value), self._floor), slopes.at(value)
        try:
            outside, found = self._objective.losses_and_gradients(self._objective.tensor(value))
        except InputError:
            # A trial that leaves where the loss is defined has failed; the diagnosis goes on.
            return math.nan, math.nan
        return float(outside[0]), 0.0 if found is None else found.item()


class JointTables:
    """The slopes of landscapes of equal period, each times a factor, for runs on all at once."""

    def __init__(
        self, members: Sequence[TabulatedObjective], counts: Sequence[int], factors: Sequence[float]
    ) -> None:
        self.members, self.counts = tuple(members), tuple(counts)
        slopes = [member.tables[1] for member in members]
        stacked = [f * t.coefficients for t, f in zip(slopes, factors, strict=True)]
        self._joined = replace(slopes[0], coefficients=np.concatenate(stacked), kink=None)
        # Of every column: where its table begins, its origin and its kink.
        rows, origins = slopes[0].cells * np.arange(len(slopes)), [t.origin for t in slopes]
        kinks = [math.nan if t.kink is None else t.kink for t in slopes]
        self._columns = tuple(np.repeat(x, self.counts) for x in (rows, origins, kinks))

    def gradient_on(self, runs: IntArray) -> Callable[[FloatArray], FloatArray]:
        """Returns the slope at the values (n,) of some of all runs, by their places."""
        rows, origins, kinks = (x[runs % len(x)] for x in self._columns)
        return partial(self._joined, rows=rows, origins=origins, kinks=kinks)


def tabulate(objective: Line) -> tuple[Table, Table]:
    """Returns tables of the loss and of its gradient."""
    objective = cheap_objective(objective)
    parameter = objective.parameter
    is_periodic, origin = parameter.period is not None, parameter.low
    if is_periodic and parameter.target is not None:
        origin = parameter.target
    resolved = build_series(objective).stands_for(objective)
    cells = CELLS if resolved or not objective.is_expensive else _CELLS_EXPENSIVE
    cell = parameter.width / cells
    nodes = origin + cell * (np.arange(cells)[:, None] + _NODES)
    halfway = origin + cell * (np.arange(0, cells, 7, dtype=np.float64) + 0.5)
    if resolved:
        at_nodes = _from_series(objective, nodes, _exact_cells(parameter, origin, cell))
    else:
        # No series follows it (kinks, jumps, a needle): it is asked itself.
        at_nodes = _both(objective, nodes)
    # torch's own gradient of a root at exactly zero loss is 0/0; the table shows it, too.
    target, kink = parameter.target, None
    if target is not None and objective.is_root and not objective.loss_at(target)[0] > 0:
        kink = target
    tables = []
    outside = None if is_periodic else _Beyond(objective)
    levels = zip(at_nodes, _both(objective, halfway), (None, kink), strict=True)
    for index, (level, truth, kink) in enumerate(levels):
        # Where a slope is 0/0 or infinite, the cell has none.
        with np.errstate(invalid="ignore"):
            coefficients = level @ _TO_POWERS
        if index == 1 and target is not None and kink is None:
            _pin(coefficients, (target - origin) / cell, objective, target)
        beyond = None if outside is None else partial(outside.at, index)
        table = Table(origin, cell, cells, is_periodic, coefficients, kink, 0.0, beyond)
        error = float(np.abs(table(halfway) - truth).max())
        largest = float(np.abs(truth).max())
        # Of a flat loss the slope is zero everywhere.
        tables.append(replace(table, error=error / largest if largest else error))
    return tables[0], tables[1]


def _pin(coefficients: FloatArray, position: float, objective: Line, target: float) -> None:
    """Gives the slope at the target its own value, mostly zero, by a shift of the cells there.

    Some roundings of the steepest slope are nothing to plain descent. An optimizer that divides by
    the slopes of its last steps makes whole steps of them, where the loss itself has it rest.
    """
    own, cell = float(objective.gradient(target)[0]), math.floor(position)
    if not 0 <= cell < len(coefficients):
        return
    sides = [(cell, position - cell)] + ([(cell - 1, 1.0)] if position == cell else [])
    for index, within in sides:
        shift = own - float(np.polynomial.polynomial.polyval(within, coefficients[index]))
        # What is larger is no rounding: at a corner autograd takes some slope of its own.
        if abs(shift) <= _ROUNDINGS * np.nanmax(np.abs(coefficients[:, 0])):
            coefficients[index, 0] += shift


class _Beyond:
    """Loss and gradient around an interval: tabulated when the first run gets there.

    Evaluated cell by cell: what is singular out there (a width that crosses zero) spoils its own
    cell only. Of what is expensive, only the cells that runs get to: farther out a kernel as large
    as its parameter says may fill the memory. NaN where a user's function refuses to be evaluated,
    and farther out than `FAR_OUT` widths.
    """

    def __init__(self, objective: Line) -> None:
        self._objective, parameter = objective, objective.parameter
        # Maps run their blocks in threads.
        self._lock = threading.Lock()
        self._sparing = isinstance(objective, SeriesObjective) or objective.is_expensive
        width = parameter.width
        cells = _CELLS_AROUND_EXPENSIVE if self._sparing else _CELLS_BEYOND
        # Coarse cells are half a range wide, so that its ends are theirs; the last ones stay empty.
        share = 0.5 if self._sparing else (2 * FAR_OUT + 1) / cells
        cell = share * width
        self._edges = parameter.low - FAR_OUT * width + cell * np.arange(cells + 1)
        low, high = self._edges[:-1], self._edges[1:]
        self._unknown = (low < parameter.low) | (high > parameter.high)
        self._unknown &= np.arange(cells) < round((2 * FAR_OUT + 1) / share)
        empty = Table(low[0], cell, cells, False, np.full((cells, _ORDER), np.nan), None, math.nan)
        self._tables: tuple[Table, ...] = (empty, empty)

    def at(self, index: int, values: FloatArray) -> FloatArray:
        with self._lock:
            wanted = self._unknown
            if self._sparing:
                cells = np.searchsorted(self._edges, values[np.isfinite(values)], "right") - 1
                wanted = wanted & np.isin(np.arange(len(wanted)), cells)
            if wanted.any():
                self._evaluate(wanted)
        return self._tables[index](values)

    def _evaluate(self, wanted: npt.NDArray[np.bool_]) -> None:
        cell = self._tables[0].cell
        nodes = self._edges[:-1][wanted][:, None] + cell * _NODES
        levels = _losses_alone if self._sparing else _both
        found = _where_defined(self._objective, nodes.ravel(), levels).reshape(2, *nodes.shape)
        # Where a loss is infinite its cell holds NaN.
        with np.errstate(invalid="ignore", over="ignore"):
            powers = found @ _TO_POWERS
            if self._sparing:
                powers[1] = 0.0
                powers[1, :, :-1] = powers[0, :, 1:] * np.arange(1, _ORDER) / cell
        tables = []
        for table, level in zip(self._tables, powers, strict=True):
            coefficients = table.coefficients.copy()
            coefficients[wanted] = level
            tables.append(replace(table, coefficients=coefficients))
        self._tables, self._unknown = tuple(tables), self._unknown & ~wanted


def _where_defined(objective: Line, values: FloatArray, wanted: Levels) -> FloatArray:
    """Returns loss and gradient (2, n) at ascending values (n,); NaN where the user's code raises.

    A stretch at whose ends, and at `_PROBES` places in all, it raises is taken to be refused whole:
    to ask at each of its values takes minutes.
    """
    try:
        return wanted(objective, values)
    except InputError:
        probes = np.linspace(0, len(values) - 1, min(len(values), _PROBES)).astype(np.int64)
    if not any(_is_defined(objective, values[place : place + 1], wanted) for place in probes):
        return np.full((2, len(values)), np.nan)
    # Mostly a function ends somewhere: halves that lie on one side of that place take few calls.
    middle = len(values) // 2
    halves = [
        _where_defined(objective, part, wanted) for part in (values[:middle], values[middle:])
    ]
    return np.concatenate(halves, axis=1)


def _is_defined(objective: Line, value: FloatArray, wanted: Levels) -> bool:
    try:
        wanted(objective, value)
    except InputError:
        return False
    return True


def _both(objective: Line, values: FloatArray) -> FloatArray:
    """Returns loss and gradient (2, ...) at values (...) from the objective itself."""
    places = values.ravel()
    levels = np.stack([objective.loss_at(places), objective.gradient(places)])
    return levels.reshape(2, *values.shape)


def _losses_alone(objective: Line, values: FloatArray) -> FloatArray:
    """Returns the loss, and in the place of its gradient NaN, (2, n) at values (n,)."""
    losses = objective.loss_at(values)
    return np.stack([losses, np.full_like(losses, np.nan)])


def _exact_cells(parameter: Parameter, origin: float, cell: float) -> np.ndarray:
    """Cells near the target, in which a root-type loss nears its kink."""
    if parameter.target is None:
        return np.empty(0, dtype=np.int64)
    center = math.floor((parameter.target - origin) / cell)
    near = np.arange(center - _EXACT_CELLS, center + _EXACT_CELLS)
    if parameter.period is not None:
        return np.unique(near % CELLS)
    return near[(near >= 0) & (near < CELLS)]


def _from_series(objective: Line, nodes: FloatArray, exact: np.ndarray) -> FloatArray:
    """Returns loss and gradient at the nodes, (2, cells, 6), from the objective's series."""
    series = build_series(objective)
    levels = np.stack(series.evaluate(nodes.ravel(), is_root=objective.is_root)[:2])
    levels = levels.reshape(2, *nodes.shape)
    if objective.is_root and len(exact):
        levels[:, exact] = _both(objective, nodes[exact])
    return levels
