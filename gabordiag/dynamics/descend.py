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

from gabordiag.dynamics.optimizers import OptimizerSettings, unguarded_step
from gabordiag.dynamics.replay import Step
from gabordiag.errors import InputError, UsageError
from gabordiag.objective.objective import Objective
from gabordiag.objective.space import FloatArray

# States that a run may come back to: of longer cycles every step is computed.
_REMEMBERED = 256


class State(NamedTuple):
    """n runs before a step, and what it changed: as in `Step`, with an axis of n runs."""

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
    """Yields every step of n independent runs from starts (n, d), the last state included.

    Ends early, after the row that shows it, when no run is finite any more. Rates are (n, d); the
    settings' own is not used. Of a single run, `logged` steps are made again (see `_Replay`).
    """
    learned = _Learned(objective, settings, starts, lrs)
    known = _Replay(objective, settings, logged)
    # LBFGS evaluates several times a step; every other class ignores the closure's gradient.
    closure = None if settings.is_elementwise else lambda: float(learned.evaluate()[0])
    before = learned.values()
    past = _Past() if settings.is_memoryless and not objective.has_state else None
    for step in range(settings.steps + 1):
        key = learned.key() if past is not None else b""
        if past is not None and step >= len(logged) and (cycle := past.since(key)):
            yield from _repeated(cycle, step, settings.steps)
            return
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
        # Runs may end at infinity.
        with np.errstate(invalid="ignore", over="ignore"):
            updates = after - before
        known.compare(step, updates)
        state = State(step, before, losses, gradients, updates, rates)
        if past is not None:
            past.add(key, state)
        yield state
        before = after


class _Past:
    """The last states of runs whose next step depends on their values alone.

    Values that come back to the bit, at rest in a minimum or on a cycle, come back without end.
    """

    def __init__(self) -> None:
        self._states: dict[bytes, State] = {}

    def add(self, key: bytes, state: State) -> None:
        self._states[key] = state
        if len(self._states) > _REMEMBERED:
            del self._states[next(iter(self._states))]

    def since(self, key: bytes) -> list[State]:
        if key not in self._states:
            return []
        return list(self._states.values())[list(self._states).index(key) :]


def _repeated(cycle: Sequence[State], step: int, last: int) -> Iterator[State]:
    for later in range(step, last + 1):
        state = cycle[(later - step) % len(cycle)]._replace(step=later)
        yield state if later < last else state._replace(updates=np.full_like(state.values, np.nan))


def _is_any_finite(values: FloatArray) -> bool:
    """Whether all values of a run are finite, of any run."""
    # A sum is finite only if every summand is; it is the quickest test of a few numbers.
    return any(math.isfinite(sum(run)) or all(map(math.isfinite, run)) for run in values.tolist())


class _Learned:
    """What torch's optimizer moves: the coordinates of all runs, a tensor for each rate."""

    def __init__(
        self, objective: Objective, settings: OptimizerSettings, starts: FloatArray, lrs: FloatArray
    ) -> None:
        self._objective, self._shape = objective, starts.shape
        self._first_rates = lrs.astype(np.float64)
        rates, self._group_of = np.unique(lrs.ravel(), return_inverse=True)
        if not settings.is_elementwise and (len(rates) > 1 or len(starts) > 1):
            raise UsageError("lbfgs takes one learning rate for all parameters.", "Give --lr once.")
        flat = objective.tensor(objective.space.coordinates(starts)).flatten()
        order = np.argsort(self._group_of, kind="stable")
        # Where the leaves' elements stand among those of all runs, and the other way round.
        self._order = torch.as_tensor(order, device=flat.device)
        self._back = torch.argsort(self._order)
        self._sizes = np.bincount(self._group_of).tolist()
        self._leaves = [leaf.clone() for leaf in torch.split(flat[self._order], self._sizes)]
        self._is_single = len(self._leaves) == 1
        # Of a single tensor the places are all there are, in order.
        self._now = self._leaves[0].view(self._shape) if self._is_single else None
        self._given: Tensor | None = None
        groups = [
            {"params": [leaf], "lr": float(lr)}
            for leaf, lr in zip(self._leaves, rates, strict=True)
        ]
        self._optimizer = settings.build(groups, lr=float(rates[0]))
        self._schedule = settings.build_schedule(self._optimizer)
        # A schedule counts the calls of the method itself.
        plain = self._schedule is None
        self._step = unguarded_step(self._optimizer) if plain else self._optimizer.step

    def _coordinates(self) -> Tensor:
        """Returns the coordinates of all runs (n, d), not to be written to."""
        if self._now is None:
            self._now = torch.cat(self._leaves)[self._back].reshape(self._shape)
        return self._now

    def key(self) -> bytes:
        return bytes(self._coordinates().detach().cpu().numpy().data)

    def values(self) -> FloatArray:
        # For a few numbers a list is the quickest way out of torch.
        flat = self._leaves[0] if self._is_single else self._coordinates()
        return self._objective.space.values(np.array(flat.tolist()).reshape(self._shape))

    def rates(self) -> FloatArray:
        if self._schedule is None:
            return self._first_rates
        now = np.array([float(group["lr"]) for group in self._optimizer.param_groups])
        return now[self._group_of].reshape(self._shape)

    def evaluate(self) -> FloatArray:
        losses, gradients = self._objective.step_gradient(self._coordinates())
        self.give(gradients)
        return losses

    def give(self, gradients: Tensor | None) -> None:
        """Leaves gradients (n, d) with the optimizer; None where none arrives."""
        self._given = given = None if gradients is None else gradients.reshape(-1)
        parts: Sequence[Tensor | None] = [given] * len(self._leaves)
        if given is not None and not self._is_single:
            parts = torch.split(given[self._order], self._sizes)
        for leaf, part in zip(self._leaves, parts, strict=True):
            leaf.grad = part

    def gradients(self) -> FloatArray | None:
        """Returns the gradients (n, d) that the optimizer has, or None where it has none."""
        given = self._given
        return None if given is None else np.array(given.tolist()).reshape(self._shape)

    def step(self, closure: Any) -> None:
        self._step(closure)
        if not self._is_single:
            self._now = None
        if self._schedule is not None:
            self._schedule.step()


class _Replay:
    """The logged steps of an interrupted run, while they are made again; none for a new run.

    No state of optimizers (Adam's moments, LBFGS's history) and schedules is saved: torch's own
    optimizer makes the logged steps again, with the logged gradients, and arrives at the same state
    to the bit, because the log has every digit. No format has to be kept, none has to be trusted
    when it is read, and every logged step proves the one before it: a log that was changed, or
    belongs to another run, does not fit.

    The loss is evaluated again only where the log does not hold all that the run used: by LBFGS,
    which evaluates several times a step, and of a custom objective, which may draw random numbers
    or count.
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

    def evaluate(self, step: int, values: FloatArray, learned: _Learned) -> FloatArray:
        """Returns the losses (n,) of a step at values (n, d), and leaves gradients with torch."""
        if step >= len(self._logged):
            return learned.evaluate()
        row = self._logged[step]
        _require_same(step, "value", row.values, values[0])
        # The first step is always evaluated: it shows whether this is the same experiment.
        if step == 0 or self._again:
            loss, arrived = learned.evaluate()[0], learned.gradients()
            grads = np.zeros_like(row.gradients) if arrived is None else arrived[0]
            tolerance = self._rounding * max(abs(row.loss), float(np.abs(row.gradients).max()))
            _require_same(step, "loss", row.loss, loss, tolerance)
            _require_same(step, "gradient", row.gradients, grads, tolerance)
            # A gradient that never arrives is logged as 0; to an optimizer it is not the same.
            self._arrives = arrived is not None
        if self._arrives:
            learned.give(self._objective.tensor(row.gradients))
        return np.array([row.loss])

    def compare(self, step: int, updates: FloatArray) -> None:
        if step < len(self._logged):
            _require_same(step, "update", self._logged[step].updates, updates[0])


def _require_same(
    step: int, what: str, was: FloatArray | float, now: FloatArray | float, tolerance: float = 0.0
) -> None:
    if np.allclose(was, now, rtol=0.0, atol=tolerance, equal_nan=True):
        return
    shown, found = (", ".join(repr(x) for x in np.atleast_1d(v).tolist()) for v in (was, now))
    raise InputError(
        f"The log does not continue: at step {step} its {what} is {shown}, but now {found}.",
        "The image, the objective or the log has changed, or evaluations differ; run it again.",
    )
