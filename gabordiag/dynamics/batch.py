"""Many runs at once on a tabulated gradient: every start at every learning rate.

A tensor holds the values of many runs; one torch optimizer moves them all. The runs are cut into
blocks that fit the cache and stay below the size at which torch spreads one operation over threads:
its threads meet at a barrier after every operation, tens of thousands of times here, which costs
more than they bring. Whole blocks go to threads instead; torch releases the interpreter meanwhile.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gabordiag.dynamics.optimizers import BatchUpdate, OptimizerSettings
from gabordiag.dynamics.outcomes import IntArray, classify, surroundings, tail_length
from gabordiag.dynamics.tables import JointTables, TabulatedObjective
from gabordiag.errors import UsageError
from gabordiag.objective.space import FloatArray
from gabordiag.results import Progress

# Steps between two reports, after which an interruption is noticed as well.
_PROGRESS_EVERY = 25
# Steps between two looks for runs that stand still, and the share of all that must.
_SETTLED_EVERY, _SETTLED_SHARE = 100, 0.1
# Runs judged at once: their tails are some megabytes.
_CLASSIFY_CHUNK = 4096
# Runs of a block: torch spreads operations on 32768 numbers and more over threads.
_BLOCK = 30_000
# Whatever torch uses for one operation: a block is one thread's.
_WORKERS = os.cpu_count() or 1
Block = tuple[FloatArray, FloatArray, npt.NDArray[np.bool_], FloatArray]


@dataclass(frozen=True, eq=False)
class BatchRuns:
    """What is kept of a batch of runs: n = rates x starts of them, a rate's runs adjacent.

    The tail holds the last values (tail, n), the extent the lowest and the highest of all (2, n),
    NaN where one is. `moved`: a gradient other than zero arrived at the first or the last step
    (n,); what moves a value without any, weight decay, leads on from a flat start.
    """

    table: TabulatedObjective | JointTables
    shape: tuple[int, int]
    tail: FloatArray
    last_gradient: FloatArray
    moved: npt.NDArray[np.bool_]
    extent: FloatArray

    def of_each(self) -> Iterator[BatchRuns]:
        """Yields the runs on each of the joint tables."""
        assert isinstance(self.table, JointTables)
        hi = 0
        for table, count in zip(self.table.members, self.table.counts, strict=True):
            lo, hi = hi, hi + count
            columns = np.arange(self.tail.shape[1]).reshape(self.shape)[:, lo:hi].ravel()
            kept: tuple[Any, ...] = (self.tail, self.last_gradient, self.moved, self.extent)
            yield BatchRuns(table, (self.shape[0], count), *(x[..., columns] for x in kept))

    def classify(self) -> tuple[IntArray, IntArray]:
        """Returns outcome codes and periods (rates, starts); in blocks, to bound the memory."""
        table = self.table
        assert isinstance(table, TabulatedObjective)
        around, losses = surroundings(table.landscape), table.tables[0]

        def judge(lo: int) -> tuple[IntArray, IntArray]:
            block = slice(lo, lo + _CLASSIFY_CHUNK)
            values = np.ascontiguousarray(self.tail[:, block])
            rows = [losses(row) for row in values]
            slope = np.abs(self.last_gradient[block]) * around.space.tolerance
            return classify(around, values[..., None], np.stack(rows), slope, self.moved[block])

        with ThreadPoolExecutor(max_workers=_WORKERS) as pool:
            pieces = list(pool.map(judge, range(0, self.tail.shape[1], _CLASSIFY_CHUNK)))
        codes, periods = np.concatenate(pieces, axis=1)
        return codes.reshape(self.shape), periods.reshape(self.shape)


def require_batchable(settings: OptimizerSettings) -> None:
    """Refuses what cannot run as a batch: not elementwise, or with a rate that changes."""
    if not settings.is_elementwise or settings.schedule != "constant":
        raise UsageError(
            "a map needs an optimizer that acts elementwise, at a constant rate.",
            "Use any optimizer but lbfgs, with --schedule constant.",
        )


def descend_batch(
    table: TabulatedObjective | JointTables,
    settings: OptimizerSettings,
    lrs: FloatArray,
    starts: FloatArray,
    *,
    tail: int | None = None,
    progress: Progress | None = None,
) -> BatchRuns:
    """Runs every start (s,), of joint tables one's after another's, at every distinct rate (l,).

    The settings' own is not used; `tail` last values are judged, by default a tenth of the steps.
    """
    require_batchable(settings)
    tail = tail_length(settings.steps) if tail is None else tail
    rows = max(1, _BLOCK // len(starts))
    blocks = [lrs[lo : lo + rows] for lo in range(0, len(lrs), rows)]
    report = _Tally(progress, settings.steps * len(blocks))

    with ThreadPoolExecutor(max_workers=_WORKERS) as pool:
        try:
            run_block = partial(_descend_block, table, settings, starts, tail, report)
            parts = list(pool.map(run_block, blocks))
        except BaseException:
            # Interrupted: let the blocks under way stop at their next report.
            report.is_stopped = True
            raise
    joined = (np.concatenate(arrays, axis=-1) for arrays in zip(*parts, strict=True))
    return BatchRuns(table, (len(lrs), len(starts)), *joined)


class _Tally:
    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0
        self._lock = threading.Lock()
        self.is_stopped = False

    def __call__(self, steps: int) -> None:
        if self.is_stopped:
            raise CancelledError
        with self._lock:
            self._done += steps
            if self._progress is not None:
                self._progress(self._done, self._total)


def _descend_block(
    table: TabulatedObjective | JointTables,
    settings: OptimizerSettings,
    starts: FloatArray,
    tail: int,
    report: Callable[[int], None],
    lrs: FloatArray,
) -> Block:
    """Returns the last values (tail, n), last gradient and whether any arrived (n,), the extent.

    Plain descent that stands still does so for good: once they are many, such runs are left out.
    """
    steps, rates, values = settings.steps, np.repeat(lrs, len(starts)), np.tile(starts, len(lrs))
    # The runs that are computed, by their places among all.
    going = np.arange(len(values))
    gradient = table.gradient_on(going)
    update, slopes = BatchUpdate(settings, torch.as_tensor(rates)), gradient(values)
    low, high, moved = values.copy(), values.copy(), slopes != 0
    last, last_slopes = np.empty((tail, len(values))), np.empty(len(values))
    extent = np.empty((2, len(values)))
    can_settle = settings.optimizer == "sgd" and settings.momentum == 0
    for step in range(steps + 1):
        if step > 0:
            before = values.copy() if can_settle and step % _SETTLED_EVERY == 0 else None
            # The tensors have the arrays' memory.
            update.apply(torch.from_numpy(values), torch.from_numpy(slopes))
            if before is not None:
                still = (values == before) | np.isnan(values)
                if still.sum() > _SETTLED_SHARE * len(still):
                    ended, rows = going[still], max(0, steps + 1 - step)
                    last[-rows:, ended], last_slopes[ended] = values[still], slopes[still]
                    extent[:, ended] = low[still], high[still]
                    going, values, slopes, low, high = (
                        array[~still] for array in (going, values, slopes, low, high)
                    )
                    update = BatchUpdate(settings, torch.as_tensor(rates[going]))
                    gradient = table.gradient_on(going)
            slopes = gradient(values)
            np.minimum(low, values, out=low)
            np.maximum(high, values, out=high)
            if step % _PROGRESS_EVERY == 0:
                report(_PROGRESS_EVERY)
        if step > steps - tail:
            last[step - steps - 1, going] = values
    report(steps % _PROGRESS_EVERY)
    last_slopes[going], extent[:, going] = slopes, (low, high)
    return last, last_slopes, moved | (last_slopes != 0), extent
