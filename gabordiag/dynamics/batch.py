"""Many runs at once on a tabulated gradient: every start at every learning rate.

One tensor holds all values, rate after rate; one torch optimizer moves it. Callers say what is to
be kept of each step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gabordiag.dynamics.optimizers import BatchUpdate, OptimizerSettings
from gabordiag.dynamics.outcomes import IntArray, Tails, classify, tail_length
from gabordiag.dynamics.tabulate import Table, TabulatedObjective
from gabordiag.errors import UsageError
from gabordiag.landscape.critical import Landscape
from gabordiag.objective.objective import FloatArray

Progress = Callable[[int, int], None]
_PROGRESS_EVERY = 25
_CLASSIFY_CHUNK = 4096


@dataclass(frozen=True, eq=False)
class BatchRuns:
    """What is kept of a batch of runs: n = rates x starts of them, a rate's runs adjacent.

    Attributes:
        shape: (rates, starts).
        tail: The last values (tail, n).
        last_gradient: At the last value (n,).
        moved: Whether any gradient other than zero arrived in the first steps (n,).
        history: Every value (steps + 1, n), or None where it was not asked for.
    """

    shape: tuple[int, int]
    tail: FloatArray
    last_gradient: FloatArray
    moved: npt.NDArray[np.bool_]
    history: FloatArray | None

    def classify(self, landscape: Landscape, losses: Table) -> tuple[IntArray, IntArray]:
        """Returns outcome codes and periods (rates, starts); in blocks, to bound the memory."""
        pieces = []
        for lo in range(0, self.tail.shape[1], _CLASSIFY_CHUNK):
            block = slice(lo, lo + _CLASSIFY_CHUNK)
            values = np.ascontiguousarray(self.tail[:, block])
            loss = losses(torch.as_tensor(values.ravel())).numpy().reshape(values.shape)
            part = Tails(values, loss, self.last_gradient[block], self.moved[block])
            pieces.append(classify(landscape, part))
        codes = np.concatenate([piece[0] for piece in pieces])
        periods = np.concatenate([piece[1] for piece in pieces])
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
    """Runs every start at every learning rate.

    Args:
        table: The tabulated objective.
        settings: Optimizer and steps; its own lr is not used.
        lrs: (l,), distinct.
        starts: (s,).
        tail: How many of the last values are kept; a tenth of the steps without.
        keep_history: Keep every value.
        progress: Called now and then with (steps done, steps in all).
    """
    require_batchable(settings)
    steps = settings.steps
    tail = tail_length(steps) if tail is None else tail
    gradient = table.tables[1]
    values = torch.as_tensor(np.tile(starts, len(lrs)))
    update = BatchUpdate(settings, torch.as_tensor(np.repeat(lrs, len(starts))))
    kept = np.empty((tail, len(values)))
    history = np.empty((steps + 1, len(values))) if keep_history else None

    def record(step: int, current: Tensor) -> None:
        if history is not None:
            history[step] = current.numpy()
        if step > steps - tail:
            kept[step - steps + tail - 1] = current.numpy()

    record(0, values)
    slopes = gradient(values)
    moved = slopes != 0
    for step in range(1, steps + 1):
        update.apply(values, slopes)
        slopes = gradient(values)
        record(step, values)
        if progress is not None and (step % _PROGRESS_EVERY == 0 or step == steps):
            progress(step, steps)
    shape = (len(lrs), len(starts))
    return BatchRuns(shape, kept, slopes.numpy(), moved.numpy(), history)
