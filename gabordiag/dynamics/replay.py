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
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.errors import InputError
from gabordiag.objective.objective import Objective


class Step(NamedTuple):
    """One logged step: the state before it, and what it changed.

    `update` is the change that the optimizer made at this step, so value + update is the next
    step's value; NaN in the last row, after which no step was made.
    """

    step: int
    value: float
    loss: float
    grad: float
    update: float
    lr: float


def as_steps(rows: Sequence[Sequence[float]]) -> list[Step]:
    """Returns the rows of a log as steps."""
    return [Step(int(number), *rest) for number, *rest in rows]


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
        self._again = objective.has_state or not settings.is_elementwise
        # An evaluation may differ from the logged one by so much, relative: other threads, another
        # processor. A changed image, filter or function differs by more.
        self._rounding = math.sqrt(torch.finfo(objective.dtype).eps)

    def loss(self, step: int, value: Tensor, evaluate: Callable[[], float]) -> float:
        """Returns the loss of a step, and leaves its gradient in the value.

        Args:
            step: Its number.
            value: What is learned.
            evaluate: Evaluates the loss and leaves the gradient in the value.

        Raises:
            InputError: The log's value, or the first evaluation, is another.
        """
        if step >= len(self._logged):
            return evaluate()
        row = self._logged[step]
        if not _same(row.value, value.item()):
            raise _no_fit(step, "value", row.value, value.item())
        # The first step is always evaluated: it tells whether this is the same experiment.
        if step == 0 or self._again:
            loss = evaluate()
            grad = 0.0 if value.grad is None else value.grad.item()
            tolerance = self._rounding * max(abs(row.loss), abs(row.grad))
            for what, was, now in (("loss", row.loss, loss), ("gradient", row.grad, grad)):
                if not (_same(was, now) or abs(was - now) <= tolerance):
                    raise _no_fit(step, what, was, now)
        # A gradient that never arrives (None) is logged as 0; to an optimizer it is not the same.
        if value.grad is not None:
            value.grad = torch.full_like(value, row.grad)
        return row.loss

    def compare(self, step: int, update: float) -> None:
        """Compares what a step changed with what the log says.

        Raises:
            InputError: It changed something else.
        """
        if step < len(self._logged) and not _same(self._logged[step].update, update):
            raise _no_fit(step, "update", self._logged[step].update, update)


def _same(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))


def _no_fit(step: int, what: str, was: float, now: float) -> InputError:
    return InputError(
        f"The log does not continue: at step {step} its {what} is {was!r}, but now {now!r}.",
        "The image, the objective or the log has changed, or evaluations differ; run it again.",
    )
