"""The descent loop: torch's own optimizers on n runs of d parameters, every step handed out.

Each step is yielded as it happens, so that whoever listens can write it down before the next. What
the optimizer moves are coordinates (`objective/space.py`); what is logged are the parameters'
values, but for gradients, which are those of the coordinates, as the optimizer saw them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.replay import Replay, Step
from gabordiag.errors import UsageError
from gabordiag.objective.joint import JointObjective
from gabordiag.objective.objective import FloatArray, to_numpy


class State(NamedTuple):
    """n runs before a step, and what it changed.

    Attributes:
        step: Its number.
        values: Of the parameters (n, d).
        losses: At the values (n,).
        gradients: Of the coordinates (n, d); 0 where none arrives.
        updates: Change of the values at this step (n, d); NaN after the last one.
        lrs: Learning rates (n, d).
    """

    step: int
    values: FloatArray
    losses: FloatArray
    gradients: FloatArray
    updates: FloatArray
    lrs: FloatArray


def descend(
    objective: JointObjective,
    settings: OptimizerSettings,
    starts: FloatArray,
    lrs: FloatArray,
    logged: Sequence[Step] = (),
) -> Iterator[State]:
    """Yields every step of n independent runs, the state before the first included.

    Ends early, after the row that shows it, when no run is finite any more.

    Args:
        objective: What to minimise.
        settings: Optimizer, schedule, steps; its own rate is not used.
        starts: First values (n, d).
        lrs: Learning rates (n, d).
        logged: Of a single run, the first steps as an interrupted run has logged them. They are
            made again with the logged gradients, which brings back the optimizer's and the
            schedule's state whatever it consists of, to the bit (see `replay`).

    Raises:
        UsageError: Several runs, or several rates, for an optimizer that is not elementwise.
        InputError: The logged steps are not this run's.
    """
    learned = _Learned(objective, settings, starts, lrs)
    known = Replay(objective, settings, logged)
    # LBFGS evaluates several times a step; every other class ignores the closure's gradient.
    closure = None if settings.is_elementwise else lambda: float(learned.evaluate()[0])
    before = learned.values()
    for step in range(settings.steps + 1):
        objective.begin_step()
        losses = known.evaluate(step, before, learned)
        found = learned.gradients()
        gradients = np.zeros(starts.shape) if found is None else found
        rates = learned.rates()
        if step == settings.steps or not np.isfinite(before).all(axis=1).any():
            yield State(step, before, losses, gradients, np.full(starts.shape, math.nan), rates)
            return
        learned.step(closure)
        after = learned.values()
        with np.errstate(invalid="ignore", over="ignore"):
            updates = after - before
        known.compare(step, updates)
        yield State(step, before, losses, gradients, updates, rates)
        before = after


class _Learned:
    """What torch's optimizer moves: the coordinates of all runs, a tensor for each rate."""

    def __init__(
        self,
        objective: JointObjective,
        settings: OptimizerSettings,
        starts: FloatArray,
        lrs: FloatArray,
    ) -> None:
        self._objective, self._shape = objective, starts.shape
        rates, self._group_of = np.unique(lrs.ravel(), return_inverse=True)
        if not settings.is_elementwise and (len(rates) > 1 or len(starts) > 1):
            raise UsageError("lbfgs takes one learning rate for all parameters.", "Give --lr once.")
        self._flat = objective.tensor(objective.space.coordinates(starts)).flatten()
        self._places = [
            torch.as_tensor(np.flatnonzero(self._group_of == i), device=self._flat.device)
            for i in range(len(rates))
        ]
        self._leaves = [self._flat[place] for place in self._places]
        groups = [
            {"params": [leaf], "lr": float(lr)}
            for leaf, lr in zip(self._leaves, rates, strict=True)
        ]
        self._optimizer = settings.build(groups, lr=float(rates[0]))
        self._schedule = settings.build_schedule(self._optimizer)

    def _coordinates(self) -> Tensor:
        """Returns the coordinates of all runs (n, d)."""
        if len(self._leaves) == 1:
            return self._leaves[0].clone().reshape(self._shape)
        for place, leaf in zip(self._places, self._leaves, strict=True):
            self._flat[place] = leaf
        return self._flat.clone().reshape(self._shape)

    def values(self) -> FloatArray:
        """Returns the values of all runs (n, d)."""
        return self._objective.space.values(to_numpy(self._coordinates()))

    def rates(self) -> FloatArray:
        """Returns the current learning rates (n, d)."""
        now = np.array([float(group["lr"]) for group in self._optimizer.param_groups])
        return now[self._group_of].reshape(self._shape)

    def evaluate(self) -> FloatArray:
        """Returns the losses (n,), and leaves the gradients with the optimizer."""
        losses, gradients = self._objective.step_gradient(self._coordinates())
        self.give(gradients)
        return losses

    def give(self, gradients: Tensor | None) -> None:
        """Leaves gradients (n, d) with the optimizer; None where none arrives."""
        columns = None if gradients is None else gradients.flatten()
        for place, leaf in zip(self._places, self._leaves, strict=True):
            leaf.grad = None if columns is None else columns[place]

    def gradients(self) -> FloatArray | None:
        """Returns the gradients (n, d) that the optimizer has, or None where it has none."""
        found = [leaf.grad for leaf in self._leaves if leaf.grad is not None]
        if not found:
            return None
        result = np.empty(len(self._group_of))
        for place, slopes in zip(self._places, found, strict=True):
            result[place.cpu().numpy()] = to_numpy(slopes)
        return result.reshape(self._shape)

    def step(self, closure: Any) -> None:
        """Makes one step of the optimizer and of the schedule."""
        self._optimizer.step(closure)
        if self._schedule is not None:
            self._schedule.step()
