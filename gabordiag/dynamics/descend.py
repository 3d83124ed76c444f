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
from gabordiag.objective.objective import Objective
from gabordiag.objective.space import FloatArray


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
    objective: Objective,
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
        if step == settings.steps or not _is_any_finite(before):
            yield State(step, before, losses, gradients, np.full(starts.shape, math.nan), rates)
            return
        learned.step(closure)
        after = learned.values()
        updates = _subtract(after, before)
        known.compare(step, updates)
        yield State(step, before, losses, gradients, updates, rates)
        before = after


@np.errstate(invalid="ignore", over="ignore")
def _subtract(later: FloatArray, earlier: FloatArray) -> FloatArray:
    return later - earlier


def _is_any_finite(values: FloatArray) -> bool:
    """Whether all values of a run are finite, of any run."""
    # A sum is finite only if every summand is; it is the quickest test of a few numbers.
    return any(math.isfinite(sum(run)) or all(map(math.isfinite, run)) for run in values.tolist())


class _Learned:
    """What torch's optimizer moves: the coordinates of all runs, a tensor for each rate."""

    def __init__(
        self,
        objective: Objective,
        settings: OptimizerSettings,
        starts: FloatArray,
        lrs: FloatArray,
    ) -> None:
        self._objective, self._shape = objective, starts.shape
        self._first_rates = lrs.astype(np.float64)
        rates, self._group_of = np.unique(lrs.ravel(), return_inverse=True)
        if not settings.is_elementwise and (len(rates) > 1 or len(starts) > 1):
            raise UsageError("lbfgs takes one learning rate for all parameters.", "Give --lr once.")
        self._flat = objective.tensor(objective.space.coordinates(starts)).flatten()
        self._places = [
            torch.as_tensor(np.flatnonzero(self._group_of == i), device=self._flat.device)
            for i in range(len(rates))
        ]
        self._leaves = [self._flat[place] for place in self._places]
        self._is_single = len(self._leaves) == 1
        self._given: Tensor | None = None
        groups = [
            {"params": [leaf], "lr": float(lr)}
            for leaf, lr in zip(self._leaves, rates, strict=True)
        ]
        self._optimizer = settings.build(groups, lr=float(rates[0]))
        self._schedule = settings.build_schedule(self._optimizer)

    def _coordinates(self) -> Tensor:
        """Returns the coordinates of all runs (n, d), not to be written to."""
        if self._is_single:
            return self._leaves[0].view(self._shape)
        for place, leaf in zip(self._places, self._leaves, strict=True):
            self._flat[place] = leaf
        return self._flat.clone().reshape(self._shape)

    def values(self) -> FloatArray:
        """Returns the values of all runs (n, d)."""
        # For a few numbers a list is the quickest way out of torch.
        flat = self._leaves[0] if self._is_single else self._coordinates()
        return self._objective.space.values(np.array(flat.tolist()).reshape(self._shape))

    def rates(self) -> FloatArray:
        """Returns the current learning rates (n, d)."""
        if self._schedule is None:
            return self._first_rates
        now = np.array([float(group["lr"]) for group in self._optimizer.param_groups])
        return now[self._group_of].reshape(self._shape)

    def evaluate(self) -> FloatArray:
        """Returns the losses (n,), and leaves the gradients with the optimizer."""
        losses, gradients = self._objective.step_gradient(self._coordinates())
        self.give(gradients)
        return losses

    def give(self, gradients: Tensor | None) -> None:
        """Leaves gradients (n, d) with the optimizer; None where none arrives."""
        given = None if gradients is None else gradients.reshape(-1)
        for place, leaf in zip(self._places, self._leaves, strict=True):
            # Of a single tensor the places are all there are, in order.
            leaf.grad = given if given is None or self._is_single else given[place]
        self._given = given

    def gradients(self) -> FloatArray | None:
        """Returns the gradients (n, d) that the optimizer has, or None where it has none."""
        given = self._given
        return None if given is None else np.array(given.tolist()).reshape(self._shape)

    def step(self, closure: Any) -> None:
        """Makes one step of the optimizer and of the schedule."""
        self._optimizer.step(closure)
        if self._schedule is not None:
            self._schedule.step()
