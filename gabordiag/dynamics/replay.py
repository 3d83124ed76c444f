"""An interrupted run brought back to where it stood, from its log alone.

Optimizers have state (momentum, Adam's moments, Rprop's step sizes, LBFGS's history), schedules
too. Nothing of it is saved: torch's own optimizer makes the logged steps again, with the logged
gradients, and arrives at the same state to the bit, because the log has every digit. No format of
a state has to be kept, none has to be trusted when it is read, and every logged step proves the one
before it: a log that was changed, or belongs to another run, does not fit.

The loss is evaluated again only where the log does not hold all that the run used: by LBFGS, which
evaluates several times a step, and of one's own objective, which may draw random numbers or count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.errors import InputError
from gabordiag.objective.objective import Objective
from gabordiag.objective.space import FloatArray


class Step(NamedTuple):
    """One logged step of one run: the state before it, and what it changed.

    Attributes:
        step: Its number.
        values: Of the parameters (d,).
        loss: At the values.
        gradients: Of the coordinates (d,).
        updates: The changes that the optimizer made at this step (d,), so values + updates are the
            next step's values; NaN in the last row, after which no step was made.
        lrs: Learning rates (d,).
        full_loss: Of runs on batches, the loss over all images; `loss` and `gradients` are then
            those of the batch.
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
        lr = float(self.lrs[0])
        if len(self.values) == 1:
            numbers = (self.values[0], self.loss, self.gradients[0], self.updates[0], lr)
            return [float(self.step), *map(float, numbers), *full]
        lengths = (math.hypot(*self.gradients), math.hypot(*self.updates), lr)
        several = np.concatenate([self.gradients, self.updates, self.lrs]).tolist()
        return [float(self.step), *self.values.tolist(), self.loss, *lengths, *several, *full]


# What a log of runs on batches has behind the columns of every log.
FULL_LOSS = "full_loss"


def log_columns(names: Sequence[str], *, has_full_loss: bool = False) -> list[str]:
    """Returns the columns of a log.

    Of several parameters `grad` and `update` are the lengths of the vectors whose components
    follow; `lr` is the first parameter's.
    """
    kinds = ("grad", "update", "lr")
    several = [f"{kind}_{name}" for kind in kinds for name in names] if len(names) > 1 else []
    full = [FULL_LOSS] if has_full_loss else []
    return ["step", *names, "loss", *kinds, *several, *full]


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


class Learned(Protocol):
    """What an optimizer moves, with the gradients that it sees."""

    def evaluate(self) -> FloatArray:
        """Returns the losses (n,), and leaves the gradients with the optimizer."""

    def gradients(self) -> FloatArray | None:
        """Returns the gradients (n, d) that the optimizer has, or None where none arrives."""

    def give(self, gradients: Tensor | None) -> None:
        """Leaves other gradients (n, d) with the optimizer."""


class Replay:
    """The logged steps of a run, while they are made again; nothing for a new run.

    Args:
        objective: Of the run.
        settings: Of the run.
        logged: Its first steps.

    Raises:
        InputError: More steps than the run has.
    """

    def __init__(
        self, objective: Objective, settings: OptimizerSettings, logged: Sequence[Step]
    ) -> None:
        if len(logged) > settings.steps + 1:
            raise InputError(f"The log has {len(logged) - 1} steps, the run {settings.steps}.")
        self._logged = logged
        self._objective = objective
        self._again = objective.has_state or not settings.is_elementwise
        self._arrives = True
        # An evaluation may differ from the logged one by so much, relative: other threads, another
        # processor. A changed image, filter or function differs by more.
        self._rounding = math.sqrt(torch.finfo(objective.dtype).eps)

    def evaluate(
        self,
        step: int,
        values: FloatArray,
        learned: Learned,
    ) -> FloatArray:
        """Returns the losses (n,) of a step, and leaves the gradients with the optimizer.

        Args:
            step: Its number.
            values: Of the parameters (n, d).
            learned: What the optimizer moves.

        Raises:
            InputError: The log's values, or the first evaluation, are others.
        """
        if step >= len(self._logged):
            return learned.evaluate()
        row = self._logged[step]
        if not _same(row.values, values[0]):
            raise _no_fit(step, "value", row.values, values[0])
        # The first step is always evaluated: it shows whether this is the same experiment.
        if step == 0 or self._again:
            loss, arrived = learned.evaluate()[0], learned.gradients()
            grads = np.zeros_like(row.gradients) if arrived is None else arrived[0]
            tolerance = self._rounding * max(abs(row.loss), float(np.abs(row.gradients).max()))
            for what, was, now in (("loss", row.loss, loss), ("gradient", row.gradients, grads)):
                if not _same(was, now, tolerance):
                    raise _no_fit(step, what, was, now)
            # A gradient that never arrives is logged as 0; to an optimizer it is not the same.
            self._arrives = arrived is not None
        if self._arrives:
            learned.give(self._objective.tensor(row.gradients))
        return np.array([row.loss])

    def compare(self, step: int, updates: FloatArray) -> None:
        """Compares what a step changed (n, d) with what the log says.

        Raises:
            InputError: It changed something else.
        """
        if step < len(self._logged) and not _same(self._logged[step].updates, updates[0]):
            raise _no_fit(step, "update", self._logged[step].updates, updates[0])


def _same(one: FloatArray | float, other: FloatArray | float, tolerance: float = 0.0) -> bool:
    return np.allclose(one, other, rtol=0.0, atol=tolerance, equal_nan=True)


def _no_fit(step: int, what: str, was: FloatArray | float, now: FloatArray | float) -> InputError:
    shown, found = (", ".join(repr(x) for x in np.atleast_1d(v).tolist()) for v in (was, now))
    return InputError(
        f"The log does not continue: at step {step} its {what} is {shown}, but now {found}.",
        "The image, the objective or the log has changed, or evaluations differ; run it again.",
    )
