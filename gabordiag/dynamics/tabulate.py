"""The loss and its gradient as tables, for when they are needed a hundred million times.

Along a period, or an interval, the function is replaced on each of many equal cells by the quintic
through six Chebyshev points of that cell. Cells start at the target, so that the kink of rmse lies
between two cells and each of its sides stays smooth. The largest error, measured at points between
the nodes, is kept beside the table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from gabordiag.landscape.critical import Landscape
from gabordiag.landscape.series import build_series
from gabordiag.objective.objective import FloatArray, Objective, Parameter

CELLS = 4096  # a power of two
_ORDER = 6
# So many cells on either side of a kink take the objective itself: the series lost digits there.
_EXACT_CELLS = 24
_NODES = 0.5 - 0.5 * np.cos(np.pi * (2 * np.arange(_ORDER) + 1) / (2 * _ORDER))


@dataclass(frozen=True, eq=False)
class Table:
    """A piecewise quintic on equal cells.

    Attributes:
        origin: Value at which the first cell starts.
        cell: Width of a cell.
        cells: How many.
        is_periodic: Whether the last cell is followed by the first.
        coefficients: (cells, 6), powers of the position in the cell, 0 to 1.
        kink: A value at which the function is 0/0, or None.
        error: Largest error seen between the nodes, relative to the largest value.
    """

    origin: float
    cell: float
    cells: int
    is_periodic: bool
    coefficients: Tensor
    kink: float | None
    error: float

    @cached_property
    def _columns(self) -> tuple[Tensor, ...]:
        # A column at a time is gathered twice as fast as rows of six.
        return tuple(self.coefficients.T.contiguous())

    @cached_property
    def _rows(self) -> list[list[float]]:
        rows: list[list[float]] = self.coefficients.tolist()
        return rows

    def at(self, value: float) -> float:
        """Returns the function at one value, in plain Python: no array is worth its overhead."""
        if not math.isfinite(value) or value == self.kink:
            return math.nan
        position = (value - self.origin) / self.cell
        index = math.floor(position)
        position -= index
        if self.is_periodic:
            index %= self.cells
        elif not 0 <= index < self.cells:
            return math.nan
        a, b, c, d, e, f = self._rows[index]
        return a + position * (b + position * (c + position * (d + position * (e + position * f))))

    def __call__(self, values: Tensor) -> Tensor:
        """Returns the function at values (n,); NaN outside an interval's range."""
        position = (values - self.origin).mul_(1 / self.cell)
        index = torch.floor(position)
        position.sub_(index)
        # The number of cells is a power of two: the mask is the remainder, of negatives as well.
        # What is not finite lands in some cell, and stays NaN through `position`.
        place = index.to(torch.int64).bitwise_and_(self.cells - 1)
        *lower, highest = self._columns
        result = highest.index_select(0, place)
        for column in reversed(lower):
            result.mul_(position).add_(column.index_select(0, place))
        if not self.is_periodic:
            result.masked_fill_((index < 0) | (index >= self.cells), math.nan)
        if self.kink is not None:
            at_kink = values == self.kink
            if at_kink.any():
                result.masked_fill_(at_kink, math.nan)
        return result


class TabulatedObjective(Objective):
    """An objective through its tables: for one value at a time some hundred times faster.

    Trials of causes and remedies run on it; the run that is diagnosed itself does not. Not
    differentiable by autograd: `loss_and_gradient` is what optimizers need.
    """

    def __init__(self, objective: Objective, landscape: Landscape) -> None:
        self._objective = objective
        self.parameter = objective.parameter
        self.loss_name = objective.loss_name
        self.is_root = objective.is_root
        self.landscape = landscape
        self.tables = tabulate(objective)

    def loss(self, values: Tensor) -> Tensor:
        """Returns the loss (n,) at the values (n,)."""
        return self.tables[0](values)

    def loss_and_gradient(self, value: Tensor) -> tuple[float, Tensor | None]:
        """Returns loss and gradient (1,) at one value (1,)."""
        at, parameter = value.item(), self.parameter
        if parameter.period is None and not parameter.low <= at <= parameter.high:
            return self._objective.loss_and_gradient(value)
        losses, slopes = self.tables
        return losses.at(at), torch.tensor([slopes.at(at)], dtype=torch.float64)


def tabulate(objective: Objective) -> tuple[Table, Table]:
    """Returns tables of the loss and of its gradient."""
    parameter = objective.parameter
    origin = parameter.low
    if parameter.period is not None and parameter.target is not None:
        origin = parameter.target
    width = parameter.high - parameter.low
    cell = width / CELLS
    exact = _exact_cells(parameter, origin, cell)
    nodes = origin + cell * (np.arange(CELLS)[:, None] + _NODES)
    halfway = origin + cell * (np.arange(0, CELLS, 7) + 0.5)
    to_powers = np.linalg.inv(np.vander(_NODES, _ORDER, increasing=True)).T
    at_nodes = _evaluate(objective, nodes, exact)
    expected = np.stack([objective.loss_at(halfway), objective.gradient(halfway)])
    # torch's own gradient of a root at exactly zero loss is 0/0; the table shows it, too.
    kinks = (None, _kink(objective))
    tables = []
    for level, truth, kink in zip(at_nodes, expected, kinks, strict=True):
        coefficients = torch.as_tensor(level @ to_powers)
        table = Table(origin, cell, CELLS, parameter.period is not None, coefficients, kink, 0.0)
        error = np.abs(table(torch.as_tensor(halfway)).numpy() - truth).max()
        tables.append(replace(table, error=float(error / np.abs(truth).max())))
    return tables[0], tables[1]


def _kink(objective: Objective) -> float | None:
    target = objective.parameter.target
    if target is None or not objective.is_root or objective.loss_at(target)[0] > 0:
        return None
    return target


def _exact_cells(parameter: Parameter, origin: float, cell: float) -> np.ndarray:
    """Cells near the target, in which a root-type loss nears its kink."""
    if parameter.target is None:
        return np.empty(0, dtype=np.int64)
    center = math.floor((parameter.target - origin) / cell)
    near = np.arange(center - _EXACT_CELLS, center + _EXACT_CELLS)
    if parameter.period is not None:
        return np.unique(near % CELLS)
    return near[(near >= 0) & (near < CELLS)]


def _evaluate(objective: Objective, nodes: FloatArray, exact: np.ndarray) -> FloatArray:
    """Returns loss and gradient at the nodes, (2, cells, 6)."""
    series = build_series(objective)
    smooth, slope, _ = series.evaluate(nodes.ravel())
    if objective.is_root:
        with np.errstate(divide="ignore", invalid="ignore"):
            root = np.sqrt(np.maximum(smooth, 0.0))
            levels = np.stack([root, slope / (2 * root)])
    else:
        levels = np.stack([smooth, slope])
    levels = levels.reshape(2, *nodes.shape)
    if objective.is_root and len(exact):
        near = nodes[exact].ravel()
        levels[0, exact] = objective.loss_at(near).reshape(-1, _ORDER)
        levels[1, exact] = objective.gradient(near).reshape(-1, _ORDER)
    return levels
