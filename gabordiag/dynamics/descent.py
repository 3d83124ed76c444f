"""Real optimizers on an objective, with every step logged.

A run is torch's own optimizer and scheduler on one tensor of one number; each step is handed out
as it happens, so that whoever listens can write it down before the next.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import (
    OUTCOME_NAMES,
    Jump,
    Tails,
    classify,
    count_symptoms,
    describe_jump,
    jump_steps,
    lyapunov_exponent,
    tail_length,
)
from gabordiag.dynamics.predictability import trusted_steps
from gabordiag.dynamics.replay import Replay, Step, as_steps
from gabordiag.landscape.critical import Landscape, find_critical_points
from gabordiag.landscape.sweep import Sweep, sweep_objective
from gabordiag.objective.objective import FloatArray, Objective
from gabordiag.results import Data, Result, finite_or_none, read_only

StepListener = Callable[[Step], None]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """All steps of a run; arrays of length steps + 1 (shorter if it became non-finite).

    Attributes:
        values: Of the parameter, as the optimizer left it (not wrapped).
        losses: At the values.
        gradients: At the values.
        updates: values[t + 1] - values[t]; NaN in the last place.
        lrs: Learning rate of every step.
        full_losses: Of runs on batches, the loss over all images; `losses` and `gradients` are then
            those of the batches.
    """

    values: FloatArray
    losses: FloatArray
    gradients: FloatArray
    updates: FloatArray
    lrs: FloatArray
    full_losses: FloatArray | None = None

    @classmethod
    def from_steps(cls, steps: Sequence[Sequence[float]]) -> Trajectory:
        """Collects logged steps, their numbers, then the fields in their order."""
        width = len(steps[0]) - 1 if steps else 5
        table = np.array([step[1:] for step in steps], dtype=np.float64).reshape(-1, width)
        return cls(*(read_only(column.copy()) for column in table.T))

    def to_table(self, name: str) -> dict[str, FloatArray]:
        """Returns the columns of a trajectory CSV, the parameter's under its name."""
        return {
            "step": np.arange(len(self), dtype=np.float64),
            name: self.values,
            "loss": self.losses,
            "grad": self.gradients,
            "update": self.updates,
            "lr": self.lrs,
            **({} if self.full_losses is None else {"full_loss": self.full_losses}),
        }

    @property
    def landscape_losses(self) -> FloatArray:
        """The losses as the landscape has them: over all images."""
        return self.losses if self.full_losses is None else self.full_losses

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, eq=False)
class Run(Result):
    """One run, judged.

    Attributes:
        settings: Optimizer, rate, schedule.
        loss_name: Of the loss in use.
        landscape: What it ran on.
        start: First value.
        trajectory: Every step.
        outcome: A name of `OUTCOMES`.
        period: Of the cycle it ends in, 2 or more, else None.
        jumps: Every jump.
        lyapunov: Exponent over the second half of the run; None where it is not defined.
        trusted_steps: For how many steps the path can be trusted, if the run is chaotic; None if it
            is not, or the exponent is not known.
        symptoms: How often the loss went from below 30% to above 60% of the largest in one step.
        batch_size: Images a step, of runs that compare batches with all images; else None.
        batch: What drawing batches changed, as JSON shows it; None where none were drawn.
    """

    settings: OptimizerSettings
    loss_name: str
    landscape: Landscape
    start: float
    trajectory: Trajectory
    outcome: str
    period: int | None
    jumps: tuple[Jump, ...]
    lyapunov: float | None
    symptoms: int
    batch_size: int | None = None
    batch: dict[str, Any] | None = None
    trusted_steps: int | None = None

    @property
    def final(self) -> float:
        """The last value."""
        return float(self.trajectory.values[-1])

    @property
    def final_loss(self) -> float:
        """The last loss."""
        return float(self.trajectory.landscape_losses[-1])

    @property
    def best_index(self) -> int:
        """Where the loss was lowest."""
        losses = self.trajectory.landscape_losses
        return int(np.nanargmin(losses)) if np.isfinite(losses).any() else 0

    @property
    def distance_to_target(self) -> float | None:
        """From the last value to the nearest copy of the target."""
        goal = self.landscape.goal_value
        if goal is None or not math.isfinite(self.final):
            return None
        return abs(float(self.landscape.parameter.offset(self.final, goal)))

    @property
    def turns(self) -> int:
        """Whole periods between the last value and the nearest copy of the target."""
        goal, period = self.landscape.goal_value, self.landscape.parameter.period
        if goal is None or period is None or not math.isfinite(self.final):
            return 0
        return round((self.final - goal) / period)

    @property
    def is_chaotic(self) -> bool | None:
        """Whether rounding decides where the run goes; None where the exponent is not known."""
        return None if self.lyapunov is None else self.trusted_steps is not None

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows, without the trajectory's file."""
        best = self.best_index
        return {
            "optimizer": self.settings.optimizer,
            "lr": self.settings.lr,
            "momentum": self.settings.momentum,
            "nesterov": self.settings.nesterov,
            "schedule": self.settings.schedule,
            "loss": self.loss_name,
            "start": self.start,
            "steps": len(self.trajectory) - 1,
            "outcome": self.outcome,
            "period": self.period,
            "final": finite_or_none(self.final),
            "final_loss": finite_or_none(self.final_loss),
            "best": finite_or_none(float(self.trajectory.values[best])),
            "best_loss": finite_or_none(float(self.trajectory.landscape_losses[best])),
            "distance_to_target": self.distance_to_target,
            "turns": self.turns,
            "n_jumps": len(self.jumps),
            "jumps": [jump.to_dict() for jump in self.jumps],
            "lyapunov": finite_or_none(self.lyapunov),
            "chaotic": self.is_chaotic,
            "trusted_steps": self.trusted_steps,
            "symptoms": self.symptoms,
            **self._batches(),
        }

    def _batches(self) -> dict[str, Any]:
        if self.batch_size is None:
            return {}
        return {"batch_size": self.batch_size, "batch": self.batch}


@dataclass(frozen=True, eq=False)
class Optimization(Result):
    """Several runs on one landscape.

    Attributes:
        sweep: The landscape that they ran on.
        runs: In the order of optimizers, rates, starts; on batches, each followed by the same
            without noise.
        notes: What else to tell a person, in sentences.
    """

    sweep: Sweep
    runs: tuple[Run, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows; trajectory files are named in the order of the runs."""
        return {
            "runs": [
                {**run.to_dict(), "trajectory": trajectory_name(index)}
                for index, run in enumerate(self.runs)
            ],
            "landscape": self.sweep.to_dict(),
            **({"notes": list(self.notes)} if self.notes else {}),
        }

    def data(self) -> Data:
        """Returns what is saved as trajectory-*.csv and sweep.csv."""
        tables = {
            trajectory_name(index): run.trajectory.to_table(self.sweep.landscape.parameter.name)
            for index, run in enumerate(self.runs)
        }
        return {**tables, **self.sweep.data()}


def trajectory_name(index: int) -> str:
    """Returns the file name of the index-th run's log."""
    return f"trajectory-{index:03d}.csv"


def descend(
    objective: Objective, settings: OptimizerSettings, start: float, logged: Sequence[Step] = ()
) -> Iterator[Step]:
    """Yields every step of one run, the state before the first included.

    Ends early, after the row that shows it, when the value is no longer finite.

    Args:
        objective: What to minimise.
        settings: How.
        start: First value.
        logged: The first steps as an interrupted run has logged them. They are made again with the
            logged gradients, which brings back the optimizer's and the schedule's state whatever
            it consists of, to the bit (see `replay`).

    Raises:
        InputError: The logged steps are not this run's.
    """
    value = objective.tensor(start).requires_grad_()
    optimizer = settings.build([value])
    schedule = settings.build_schedule(optimizer)

    def evaluate() -> float:
        loss, value.grad = objective.loss_and_gradient(value)
        return loss

    known = Replay(objective, settings, logged)
    for step in range(settings.steps + 1):
        objective.begin_step()
        loss = known.loss(step, value, evaluate)
        grad = 0.0 if value.grad is None else value.grad.item()
        before, lr = value.item(), float(optimizer.param_groups[0]["lr"])
        if step == settings.steps or not math.isfinite(before):
            yield Step(step, before, loss, grad, math.nan, lr)
            return
        # LBFGS evaluates several times a step; every other class ignores the closure's gradient.
        optimizer.step(evaluate) if not settings.is_elementwise else optimizer.step()
        if schedule is not None:
            schedule.step()
        known.compare(step, value.item() - before)
        yield Step(step, before, loss, grad, value.item() - before, lr)


def run(
    objective: Objective,
    settings: OptimizerSettings,
    start: float | None = None,
    *,
    landscape: Landscape | None = None,
    listener: StepListener | None = None,
    table: Objective | None = None,
    logged: Sequence[Step] = (),
) -> Run:
    """Runs one optimizer and judges the run.

    Args:
        objective: What to minimise.
        settings: How.
        start: First value; the parameter's own start without.
        landscape: Of the objective, if it is already known.
        listener: Called with every step as it happens.
        table: The same objective in another form, tabulated or direct: the optimizer then steps on
            it, and only the judging is done on `objective`.
        logged: The first steps, if the run was interrupted; the listener is not told them again.

    Raises:
        InputError: The user's code failed, or the logged steps are not this run's.
    """
    landscape = find_critical_points(objective) if landscape is None else landscape
    start = objective.parameter.start if start is None else float(start)
    steps = []
    for step in descend(objective if table is None else table, settings, start, logged):
        steps.append(step)
        if listener is not None and step.step >= len(logged):
            listener(step)
    return judge(objective, settings, landscape, Trajectory.from_steps(steps))


def judge_outcome(landscape: Landscape, trajectory: Trajectory) -> tuple[str, int | None]:
    """Returns the outcome and the period of a trajectory's tail."""
    tail = tail_length(len(trajectory) - 1)
    gradients = trajectory.gradients
    codes, periods = classify(
        landscape,
        Tails(
            trajectory.values[-tail:, None],
            trajectory.losses[-tail:, None],
            gradients[-1:],
            np.array([bool(np.any(gradients != 0))]),
        ),
    )
    return OUTCOME_NAMES[int(codes[0])], int(periods[0]) or None


def judge(
    objective: Objective,
    settings: OptimizerSettings,
    landscape: Landscape,
    trajectory: Trajectory,
) -> Run:
    """Turns a trajectory into a `Run`: outcome, jumps, exponents."""
    outcome, period = judge_outcome(landscape, trajectory)
    values = trajectory.values
    height = landscape.largest_loss - landscape.smallest_loss
    at = jump_steps(trajectory.losses, height)
    half = len(trajectory) // 2
    late = values[half:-1] if settings.is_gradient_descent else values[:0]
    curvatures = _curvatures(objective, np.concatenate([values[at], late]))
    with np.errstate(over="ignore"):
        products = trajectory.lrs[at] * curvatures[: len(at)]
    lyapunov = None
    # A run that no gradient moved follows no map whose errors could grow.
    if np.any(trajectory.gradients != 0):
        late_lrs, bends = trajectory.lrs[half:-1], curvatures[len(at) :]
        lyapunov = lyapunov_exponent(late_lrs, bends, settings.momentum)
    eps = torch.finfo(objective.dtype).eps
    return Run(
        settings=settings,
        loss_name=objective.loss_name,
        landscape=landscape,
        start=float(trajectory.values[0]),
        trajectory=trajectory,
        outcome=outcome,
        period=period,
        jumps=tuple(
            describe_jump(landscape, int(t), values, trajectory.losses, float(product))
            for t, product in zip(at, products, strict=True)
        ),
        lyapunov=lyapunov,
        trusted_steps=trusted_steps(lyapunov, objective.parameter, trajectory.values, eps),
        symptoms=count_symptoms(trajectory.losses, landscape.largest_loss),
    )


def _curvatures(objective: Objective, values: FloatArray) -> FloatArray:
    """Returns L'' at every value (n,); a run that settles or cycles repeats its values."""
    if len(values) == 0:
        return np.empty(0)
    distinct, place = np.unique(values, return_inverse=True)
    curvatures: FloatArray = objective.derivatives(distinct, 2)[2][place]
    return curvatures


def run_all(
    objective: Objective,
    settings: Sequence[OptimizerSettings],
    starts: Sequence[float],
    *,
    sweep: Sweep | None = None,
    listeners: Callable[[int], StepListener | None] = lambda index: None,
    table: Objective | None = None,
    logged: Callable[[int], Sequence[Sequence[float]]] = lambda index: (),
) -> Optimization:
    """Runs every setting from every start.

    Args:
        objective: What to minimise.
        settings: How, one or several.
        starts: First values.
        sweep: Of the objective, if it is already known.
        listeners: Gives the listener of the index-th run.
        table: The same objective in another form, to step on, as in `run`.
        logged: Gives the first steps of the index-th run, if it was interrupted.

    Raises:
        InputError: The user's code failed, or the logged steps are not these runs'.
    """
    sweep = sweep_objective(objective) if sweep is None else sweep
    runs = [
        run(
            objective,
            how,
            start,
            landscape=sweep.landscape,
            listener=listeners(index),
            table=table,
            logged=as_steps(logged(index)),
        )
        for index, (how, start) in enumerate(itertools.product(settings, starts))
    ]
    return Optimization(sweep, tuple(runs))
