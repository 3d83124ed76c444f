"""Where every start ends at every learning rate, and what follows from it.

`run_basins` sends a whole grid of starts and rates through one torch optimizer at once and judges
each cell by its tail, with the very code that judges a single run. Two extra families of runs, with
every step kept, measure what the map alone does not show: the rate at which the start's basin is
left (`escape_lr`), and the rates that the target's basin holds (`hold_lr`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gabordiag.dynamics.optimizers import BatchUpdate, OptimizerSettings
from gabordiag.dynamics.outcomes import (
    CODES,
    OUTCOME_NAMES,
    IntArray,
    Tails,
    classify,
    left_basin,
    tail_length,
)
from gabordiag.dynamics.tabulate import Table, tabulate
from gabordiag.errors import UsageError
from gabordiag.landscape.critical import Landscape
from gabordiag.landscape.sweep import Sweep, sweep_objective
from gabordiag.objective.objective import FloatArray, Objective
from gabordiag.results import Data, Result, read_only

Progress = Callable[[int, int], None]

# How far beside the target the runs start that measure what its basin holds: half a degree.
BESIDE_TARGET = 0.01
_CLASSIFY_CHUNK = 4096
_PROGRESS_EVERY = 25


@dataclass(frozen=True, eq=False)
class Basins(Result):
    """The outcome of every start at every learning rate.

    Attributes:
        sweep: The landscape that the runs ran on.
        settings: Optimizer and steps; its own lr is not used.
        start: The start that is asked about.
        starts: (s,).
        lrs: Learning rates, ascending (l,).
        outcomes: Codes into `OUTCOME_NAMES` (l, s).
        start_outcomes: The same from `start` (l,).
        start_periods: Period of the cycle that the run from `start` ends in, 0 where none (l,).
        escaped: Whether the run from `start` left the basin it starts in (l,).
        held: Whether the runs from beside the target stayed and reached it (l,).
        start_in_target_basin: No escape is needed.
        table_error: Of the tabulated gradient, relative.
    """

    sweep: Sweep
    settings: OptimizerSettings
    start: float
    starts: FloatArray
    lrs: FloatArray
    outcomes: npt.NDArray[np.int8]
    start_outcomes: npt.NDArray[np.int8]
    start_periods: IntArray
    escaped: npt.NDArray[np.bool_]
    held: npt.NDArray[np.bool_]
    start_in_target_basin: bool
    table_error: float

    @property
    def fractions(self) -> dict[str, float]:
        """Share of all cells by outcome, those that occur."""
        counts = np.bincount(self.outcomes.ravel(), minlength=len(OUTCOME_NAMES))
        shares = counts / self.outcomes.size
        return {name: float(s) for name, s in zip(OUTCOME_NAMES, shares, strict=True) if s > 0}

    @property
    def working_lr(self) -> list[tuple[float, float]]:
        """Intervals of scanned rates whose run from `start` reaches the target."""
        return _intervals(self.lrs, self.start_outcomes == CODES["reached"])

    @property
    def escape_lr(self) -> float | None:
        """The smallest scanned rate at which the run from `start` leaves its basin."""
        if self.start_in_target_basin or not self.escaped.any():
            return None
        return float(self.lrs[int(np.argmax(self.escaped))])

    @property
    def hold_lr(self) -> float | None:
        """The largest scanned rate up to which the target's basin holds its runs.

        The smallest rates, too slow to arrive in the steps given, are left out: the scan starts at
        the first rate that arrives.
        """
        if not self.held.any():
            return None
        first = int(np.argmax(self.held))
        after = np.flatnonzero(~self.held[first:])
        last = first + (int(after[0]) if len(after) else len(self.held) - first) - 1
        return float(self.lrs[last])

    @property
    def reached_share(self) -> FloatArray:
        """For every rate, the share of starts that reach the target (l,)."""
        shares: FloatArray = (self.outcomes == CODES["reached"]).mean(axis=1)
        return shares

    @property
    def best_lr(self) -> float | None:
        """The rate that brings most starts to the target; the middle one of equals."""
        shares = self.reached_share
        if shares.max() == 0:
            return None
        equals = np.flatnonzero(shares == shares.max())
        return float(self.lrs[equals[len(equals) // 2]])

    @property
    def failure_below(self) -> str | None:
        """Commonest failure of the run from `start` at rates too small, or None."""
        return self._commonest_failure(self.lrs < self._divide)

    @property
    def failure_above(self) -> str | None:
        """Commonest failure of the run from `start` at rates too large, or None."""
        return self._commonest_failure(self.lrs > self._divide)

    @property
    def _divide(self) -> float:
        """The rate that separates too small from too large."""
        if self.working_lr:
            low, high = max(self.working_lr, key=lambda interval: interval[1] / interval[0])
            return float(np.sqrt(low * high))
        if self.escape_lr is not None:
            return self.escape_lr * (1 - 1e-9)
        hold = self.hold_lr
        return hold if hold is not None else float(np.sqrt(self.lrs[0] * self.lrs[-1]))

    def _commonest_failure(self, where: npt.NDArray[np.bool_]) -> str | None:
        failures = self.start_outcomes[where & (self.start_outcomes != CODES["reached"])]
        if len(failures) == 0:
            return None
        return OUTCOME_NAMES[int(np.bincount(failures).argmax())]

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        return {
            "optimizer": self.settings.optimizer,
            "momentum": self.settings.momentum,
            "steps": self.settings.steps,
            "fractions": self.fractions,
            "start": self.start,
            "working_lr": [list(interval) for interval in self.working_lr],
            "escape_lr": self.escape_lr,
            "hold_lr": self.hold_lr,
            "best_lr": self.best_lr,
            "reachable_share": float(self.reached_share.max()),
            "failure_below": self.failure_below,
            "failure_above": self.failure_above,
            "table_error": self.table_error,
            "landscape": self.sweep.to_dict(),
        }

    def data(self) -> Data:
        """Returns what is saved as basins.npz and sweep.csv."""
        grid: dict[str, npt.NDArray[Any]] = {
            "starts": self.starts,
            "lr": self.lrs,
            "outcome": self.outcomes,
            "outcome_names": np.array(OUTCOME_NAMES),
            "start_outcome": self.start_outcomes,
            "start_period": self.start_periods,
            "escaped": self.escaped,
            "held": self.held,
        }
        return {"basins.npz": grid, **self.sweep.data()}


def _intervals(lrs: FloatArray, works: npt.NDArray[np.bool_]) -> list[tuple[float, float]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], works.astype(np.int8), [0]])))
    return [
        (float(lrs[lo]), float(lrs[hi - 1])) for lo, hi in zip(edges[::2], edges[1::2], strict=True)
    ]


def default_starts(objective: Objective, count: int = 361) -> FloatArray:
    """Returns starts over the whole range, both ends included."""
    return np.linspace(objective.parameter.low, objective.parameter.high, count)


def log_spaced(low: float, high: float, count: int) -> FloatArray:
    """Returns learning rates from low to high, evenly spaced in the logarithm.

    Raises:
        UsageError: Not positive, not ascending, or fewer than 2.
    """
    if not (0 < low < high < np.inf) or count < 2:
        raise UsageError(
            f"learning rates from {low:g} to {high:g} over {count} points are no scan.",
            "Give 0 < LO < HI and at least 2 points, such as 1e-4:10:241.",
        )
    return np.geomspace(low, high, count)


def run_basins(
    objective: Objective,
    settings: OptimizerSettings,
    lrs: FloatArray,
    starts: FloatArray | None = None,
    *,
    start: float | None = None,
    sweep: Sweep | None = None,
    progress: Progress | None = None,
) -> Basins:
    """Runs the whole map.

    Args:
        objective: What to minimise.
        settings: Optimizer and steps, constant schedule.
        lrs: Ascending rates (l,).
        starts: (s,); the whole range without.
        start: The start that is asked about; the parameter's own without.
        sweep: Of the objective, if it is already known.
        progress: Called now and then with (steps done, steps in all).

    Raises:
        UsageError: An optimizer or schedule that does not act elementwise at a constant rate.
    """
    if not settings.is_elementwise or settings.schedule != "constant":
        raise UsageError(
            "a map needs an optimizer that acts elementwise, at a constant rate.",
            "Use any optimizer but lbfgs, with --schedule constant.",
        )
    sweep = sweep_objective(objective) if sweep is None else sweep
    landscape = sweep.landscape
    starts = default_starts(objective) if starts is None else starts
    start = objective.parameter.start if start is None else start
    tables = tabulate(objective)
    probe = _Probe(objective, landscape, start)
    columns = np.concatenate([starts, probe.starts])
    kept = _Recorder(settings.steps, len(starts), len(probe.starts), len(lrs))
    tails = _descend_all(tables, settings, lrs, columns, kept, progress)
    codes, periods = _classify_cells(landscape, tails)
    codes, periods = codes.reshape(len(lrs), -1), periods.reshape(len(lrs), -1)
    escaped, stayed = probe.judge(kept.history)
    held = stayed & (codes[:, len(starts) + 1 :] == CODES["reached"]).all(axis=1)
    return Basins(
        sweep=sweep,
        settings=settings,
        start=float(start),
        starts=read_only(starts),
        lrs=read_only(lrs),
        outcomes=read_only(codes[:, : len(starts)].astype(np.int8)),
        start_outcomes=read_only(codes[:, len(starts)].astype(np.int8)),
        start_periods=read_only(periods[:, len(starts)]),
        escaped=read_only(escaped),
        held=read_only(held),
        start_in_target_basin=probe.start_in_target_basin,
        table_error=tables[1].error,
    )


class _Probe:
    """The runs whose every step is looked at: from the start, and from beside the target."""

    def __init__(self, objective: Objective, landscape: Landscape, start: float) -> None:
        goal = landscape.goal_value
        beside = [] if goal is None else [goal - BESIDE_TARGET, goal + BESIDE_TARGET]
        self._landscape = landscape
        self._start = start
        self.starts = np.array([start, *beside])
        self._own = landscape.attractor_of(start)
        self._goal = None if goal is None else landscape.attractor_of(goal)
        self.start_in_target_basin = self._own is not None and self._own is self._goal

    def judge(self, history: FloatArray) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Returns for every rate whether the start's run escaped, and whether the others stayed.

        Args:
            history: (steps + 1, rates, probe starts).
        """
        rates = history.shape[1]
        escaped = [
            left_basin(self._landscape, self._own, self._start, history[:, i, 0])
            for i in range(rates)
        ]
        stayed = [
            not any(
                left_basin(self._landscape, self._goal, float(start), history[:, i, 1 + j])
                for j, start in enumerate(self.starts[1:])
            )
            for i in range(rates)
        ]
        return np.array(escaped), np.array(stayed)


class _Recorder:
    """Keeps the tails of all cells, and every step of the probes."""

    def __init__(self, steps: int, starts: int, probes: int, rates: int) -> None:
        self._starts, self._columns, self._rates = starts, starts + probes, rates
        self._first_tail = steps + 1 - tail_length(steps)
        self.history = np.empty((steps + 1, rates, probes))
        self.tail = np.empty((tail_length(steps), rates * self._columns))

    def __call__(self, step: int, values: Tensor) -> None:
        grid = values.numpy()
        self.history[step] = grid.reshape(self._rates, self._columns)[:, self._starts :]
        if step >= self._first_tail:
            self.tail[step - self._first_tail] = grid


@dataclass(frozen=True, eq=False)
class _CellTails:
    values: FloatArray
    losses: Table
    last_gradient: FloatArray
    moved: npt.NDArray[np.bool_]


def _descend_all(
    tables: tuple[Table, Table],
    settings: OptimizerSettings,
    lrs: FloatArray,
    columns: FloatArray,
    record: _Recorder,
    progress: Progress | None,
) -> _CellTails:
    losses, gradient = tables
    values = torch.as_tensor(np.tile(columns, len(lrs)))
    update = BatchUpdate(settings, torch.as_tensor(np.repeat(lrs, len(columns))))
    moved = torch.zeros(len(values), dtype=torch.bool)
    record(0, values)
    slopes = gradient(values)
    for step in range(1, settings.steps + 1):
        if step <= 2:
            moved |= slopes != 0
        update.apply(values, slopes)
        slopes = gradient(values)
        record(step, values)
        if progress is not None and (step % _PROGRESS_EVERY == 0 or step == settings.steps):
            progress(step, settings.steps)
    return _CellTails(record.tail, losses, slopes.numpy(), moved.numpy())


def _classify_cells(landscape: Landscape, tails: _CellTails) -> tuple[IntArray, IntArray]:
    """Judges the cells in blocks, which bounds the memory."""
    pieces = []
    for lo in range(0, tails.values.shape[1], _CLASSIFY_CHUNK):
        block = slice(lo, lo + _CLASSIFY_CHUNK)
        values = np.ascontiguousarray(tails.values[:, block])
        losses = tails.losses(torch.as_tensor(values.ravel())).numpy().reshape(values.shape)
        part = Tails(values, losses, tails.last_gradient[block], tails.moved[block])
        pieces.append(classify(landscape, part))
    return np.concatenate([p[0] for p in pieces]), np.concatenate([p[1] for p in pieces])
