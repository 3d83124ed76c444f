"""Many runs at once on a tabulated gradient: every start at every learning rate.

A tensor holds the values of many runs; one torch optimizer moves them all. The runs are cut into
blocks that fit the cache and stay below the size at which torch spreads one operation over threads:
its threads meet at a barrier after every operation, tens of thousands of times here, which costs
more than they bring. Whole blocks go to threads instead; torch releases the interpreter meanwhile.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from gabordiag.dynamics.optimizers import BatchUpdate, OptimizerSettings
from gabordiag.dynamics.outcomes import IntArray, Tails, classify, surroundings, tail_length
from gabordiag.dynamics.tables import TabulatedObjective
from gabordiag.errors import UsageError
from gabordiag.objective.space import FloatArray
from gabordiag.results import Progress

# Steps between two reports, after which an interruption is noticed as well.
_PROGRESS_EVERY = 25
# Runs judged at once: their tails are some megabytes.
_CLASSIFY_CHUNK = 4096
# Runs of a block: torch spreads operations on 32768 numbers and more over threads.
_BLOCK = 30_000
# Whatever torch uses for one operation: a block is one thread's.
_WORKERS = os.cpu_count() or 1


@dataclass(frozen=True, eq=False)
class BatchRuns:
    """What is kept of a batch of runs: n = rates x starts of them, a rate's runs adjacent.

    Attributes:
        table: What the runs ran on.
        shape: (rates, starts).
        tail: The last values (tail, n).
        last_gradient: At the last value (n,).
        moved: Whether a gradient other than zero arrived at the first or at the last step (n,);
            what moves a value without any, weight decay, leads on from a flat start.
        history: Every value (steps + 1, n), where that was asked for; else the tail.
    """

    table: TabulatedObjective
    shape: tuple[int, int]
    tail: FloatArray
    last_gradient: FloatArray
    moved: npt.NDArray[np.bool_]
    history: FloatArray

    def classify(self) -> tuple[IntArray, IntArray]:
        """Returns outcome codes and periods (rates, starts); in blocks, to bound the memory."""
        around, losses = surroundings(self.table.landscape), self.table.tables[0]

        def judge(lo: int) -> tuple[IntArray, IntArray]:
            block = slice(lo, lo + _CLASSIFY_CHUNK)
            values = np.ascontiguousarray(self.tail[:, block])
            rows = [losses(row) for row in values]
            slope = np.abs(self.last_gradient[block]) * self.table.parameter.tolerance
            part = Tails(values[..., None], np.stack(rows), slope, self.moved[block])
            return classify(around, part)

        with ThreadPoolExecutor(max_workers=_WORKERS) as pool:
            pieces = list(pool.map(judge, range(0, self.tail.shape[1], _CLASSIFY_CHUNK)))
        codes, periods = np.concatenate(pieces, axis=1)
        return codes.reshape(self.shape), periods.reshape(self.shape)


def require_batchable(settings: OptimizerSettings) -> None:
    """Refuses what cannot run as a batch.

    Raises:
        UsageError: The optimizer does not act elementwise, or its rate changes.
    """
    if not settings.is_elementwise or settings.schedule != "constant":
        raise UsageError(
            "a map needs an optimizer that acts elementwise, at a constant rate.",
            "Use any optimizer but lbfgs, with --schedule constant.",
        )


def descend_batch(
    table: TabulatedObjective,
    settings: OptimizerSettings,
    lrs: FloatArray,
    starts: FloatArray,
    *,
    tail: int | None = None,
    keep_history: bool = False,
    progress: Progress | None = None,
) -> BatchRuns:
    """Runs every start (s,) at every one of distinct rates (l,); the settings' own is not used.

    The last values are judged, by default a tenth of the steps; with `keep_history` all are kept.

    Raises:
        UsageError: The optimizer cannot run as a batch.
    """
    require_batchable(settings)
    tail = tail_length(settings.steps) if tail is None else tail
    kept = settings.steps + 1 if keep_history else tail
    rows = max(1, _BLOCK // len(starts))
    blocks = [lrs[lo : lo + rows] for lo in range(0, len(lrs), rows)]
    report = _Tally(progress, settings.steps * len(blocks))

    def run_block(rates: FloatArray) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
        return _descend_block(table, settings, rates, starts, kept, report)

    with ThreadPoolExecutor(max_workers=_WORKERS) as pool:
        try:
            parts = list(pool.map(run_block, blocks))
        except BaseException:
            # Interrupted: let the blocks under way stop at their next report.
            report.stop()
            raise
    history, slopes, moved = (np.concatenate(x, axis=-1) for x in zip(*parts, strict=True))
    return BatchRuns(table, (len(lrs), len(starts)), history[-tail:], slopes, moved, history)


class _Tally:
    """Adds up the steps of all blocks for one progress report."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0
        self._lock = threading.Lock()
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True

    def __call__(self, steps: int) -> None:
        if self._stopped:
            raise CancelledError
        with self._lock:
            self._done += steps
            if self._progress is not None:
                self._progress(self._done, self._total)


def _descend_block(
    table: TabulatedObjective,
    settings: OptimizerSettings,
    lrs: FloatArray,
    starts: FloatArray,
    kept: int,
    report: Callable[[int], None],
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_]]:
    """Returns the last values (kept, n), the last gradient, and whether any arrived (n,)."""
    steps, gradient = settings.steps, table.tables[1]
    values = np.tile(starts, len(lrs))
    # The same memory.
    in_torch = torch.from_numpy(values)
    update = BatchUpdate(settings, torch.as_tensor(np.repeat(lrs, len(starts))))
    history = np.empty((kept, len(values)))
    slopes = gradient(values)
    moved_at_first = slopes != 0
    for step in range(steps + 1):
        if step > 0:
            update.apply(in_torch, torch.from_numpy(slopes))
            slopes = gradient(values)
            if step % _PROGRESS_EVERY == 0:
                report(_PROGRESS_EVERY)
        if step > steps - kept:
            history[step - steps - 1] = values
    report(steps % _PROGRESS_EVERY)
    return history, slopes, moved_at_first | (slopes != 0)
