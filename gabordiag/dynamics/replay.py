"""A step of a run, and the log that holds it to the last digit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gabordiag.objective.space import FloatArray


class Step(NamedTuple):
    """One logged step of one run: the state (d,) before it, and what it changed.

    Gradients are of the coordinates. Updates are the changes that the optimizer made at this step,
    so values + updates are the next step's values; NaN in the last row, after which no step was
    made. Of runs on batches the full loss is over all images; loss and gradients are then those of
    the batch.
    """

    step: int
    values: FloatArray
    loss: float
    gradients: FloatArray
    updates: FloatArray
    lrs: FloatArray
    full_loss: float | None = None

    def row(self) -> list[float]:
        """Returns the row of a log, under `log_columns`."""
        full = [] if self.full_loss is None else [self.full_loss]
        moved, several = [self.gradients[0], self.updates[0]], np.empty(0)
        if len(self.values) > 1:
            moved = [math.hypot(*self.gradients), math.hypot(*self.updates)]
            several = np.concatenate([self.gradients, self.updates, self.lrs])
        numbers = (self.step, *self.values, self.loss, *moved, self.lrs[0], *several, *full)
        return list(map(float, numbers))


# What a log of runs on batches has behind the columns of every log.
FULL_LOSS = "full_loss"


def log_columns(names: Sequence[str], *, has_full_loss: bool = False) -> list[str]:
    """Returns the columns of a log.

    Of several parameters `grad` and `update` are the lengths of the vectors whose components
    follow; `lr` is the first parameter's.
    """
    kinds = ("grad", "update", "lr")
    several = [f"{kind}_{name}" for kind in kinds for name in names] if len(names) > 1 else []
    return ["step", *names, "loss", *kinds, *several, *([FULL_LOSS] if has_full_loss else [])]


def as_steps(rows: Sequence[Sequence[float]], d: int = 1) -> list[Step]:
    """Returns the rows of a log as steps of d parameters."""
    steps = []
    for number, *rest in rows:
        table = np.array(rest, dtype=np.float64)
        if d == 1:
            values, gradients, updates, lrs = table[:1], table[2:3], table[3:4], table[4:5]
        else:
            values = table[:d]
            gradients, updates, lrs = table[d + 4 : 4 * d + 4].reshape(3, d)
        steps.append(Step(int(number), values, float(table[d]), gradients, updates, lrs))
    return steps
