"""A step of a run, and the log that holds it to the last digit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gabordiag.objective.space import FloatArray


class Step(NamedTuple):
    """One logged step of one run: the state (d,) before it, and what it changed.

    Gradients are of the coordinates. Values + updates are the next step's values; NaN in the last
    row, after which no step was made. Of runs on batches the full loss is over all images, loss and
    gradients those of the batch.
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
        moved: list[Any] = [self.gradients[0], self.updates[0], self.lrs[0]]
        if len(self.values) > 1:
            lengths = math.hypot(*self.gradients), math.hypot(*self.updates)
            moved = [*lengths, self.lrs[0], *self.gradients, *self.updates, *self.lrs]
        return list(map(float, (self.step, *self.values, self.loss, *moved, *full)))


def log_columns(names: Sequence[str], *, has_full_loss: bool = False) -> list[str]:
    """Returns the columns of a log.

    Of several parameters `grad` and `update` are the lengths of the vectors whose components
    follow; `lr` is the first parameter's. Runs on batches have the full loss last.
    """
    kinds = ("grad", "update", "lr")
    several = [f"{kind}_{name}" for kind in kinds for name in names] if len(names) > 1 else []
    return ["step", *names, "loss", *kinds, *several, *(["full_loss"] if has_full_loss else [])]


def as_steps(rows: Sequence[Sequence[float]], d: int = 1) -> list[Step]:
    """Returns the rows of a log as steps of d parameters."""
    steps = []
    for number, *rest in rows:
        table = np.array(rest, dtype=np.float64)
        # Of one parameter its own columns, of several those behind the lengths.
        first = 2 if d == 1 else d + 4
        moved = table[first : first + 3 * d].reshape(3, d)
        steps.append(Step(int(number), table[:d], float(table[d]), *moved))
    return steps
