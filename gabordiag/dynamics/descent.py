"""Real optimizers on an objective, with every step logged.

A run is torch's own optimizer and scheduler on one tensor of one number; each step is handed out
as it happens, so that whoever listens can write it down before the next.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

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
from gabordiag.landscape.critical import Landscape, find_critical_points
from gabordiag.landscape.sweep import Sweep, sweep_objective
from gabordiag.objective.objective import FloatArray, Objective
from gabordiag.results import Data, Result, finite_or_none, read_only


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
    """

    values: FloatArray
    losses: FloatArray
    gradients: FloatArray
    updates: FloatArray
    lrs: FloatArray

    @classmethod
    def from_steps(cls, steps: Sequence[Step]) -> Trajectory:
        """Collects logged steps."""
        table = np.array([step[1:] for step in steps], dtype=np.float64).reshape(-1, 5)
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
        }

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
        symptoms: How often the loss went from below 30% to above 60% of the largest in one step.
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

    @property
    def final(self) -> float:
        """The last value."""
        return float(self.trajectory.values[-1])

    @property
    def final_loss(self) -> float:
        """The last loss."""
        return float(self.trajectory.losses[-1])

    @property
    def best_index(self) -> int:
        """Where the loss was lowest."""
        losses = self.trajectory.losses
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
            "best_loss": finite_or_none(float(self.trajectory.losses[best])),
            "distance_to_target": self.distance_to_target,
            "turns": self.turns,
            "n_jumps": len(self.jumps),
            "jumps": [jump.to_dict() for jump in self.jumps],
            "lyapunov": finite_or_none(self.lyapunov),
            "symptoms": self.symptoms,
        }


@dataclass(frozen=True, eq=False)
class Optimization(Result):
    """Several runs on one landscape.

    Attributes:
        sweep: The landscape that they ran on.
        runs: In the order of optimizers, rates, starts.
    """

    sweep: Sweep
    runs: tuple[Run, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows; trajectory files are named in the order of the runs."""
        return {
            "runs": [
                {**run.to_dict(), "trajectory": trajectory_name(index)}
                for index, run in enumerate(self.runs)
            ],
            "landscape": self.sweep.to_dict(),
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


def descend(objective: Objective, settings: OptimizerSettings, start: float) -> Iterator[Step]:
    """Yields every step of one run, the state before the first included.

    Ends early, after the row that shows it, when the value is no longer finite.
    """
    value = objective.tensor(start).requires_grad_()
    optimizer = settings.build([value])
    schedule = settings.build_schedule(optimizer)

    def evaluate() -> float:
        loss, value.grad = objective.loss_and_gradient(value)
        return loss

    for step in range(settings.steps + 1):
        loss = evaluate()
        grad = 0.0 if value.grad is None else value.grad.item()
        before, lr = value.item(), float(optimizer.param_groups[0]["lr"])
        if step == settings.steps or not math.isfinite(before):
            yield Step(step, before, loss, grad, math.nan, lr)
            return
        # LBFGS evaluates several times a step; every other class ignores the closure's gradient.
        optimizer.step(evaluate) if not settings.is_elementwise else optimizer.step()
        if schedule is not None:
            schedule.step()
        yield Step(step, before, loss, grad, value.item() - before, lr)


def run(
    objective: Objective,
    settings: OptimizerSettings,
    start: float | None = None,
    *,
    landscape: Landscape | None = None,
    listener: StepListener | None = None,
    table: Objective | None = None,
) -> Run:
    """Runs one optimizer and judges the run.

    Args:
        objective: What to minimise.
        table: The same objective, tabulated: the optimizer then steps on it, some ten times faster,
            with gradients that agree to the table's error.
        settings: How.
        start: First value; the parameter's own start without.
        landscape: Of the objective, if it is already known.
        listener: Called with every step as it happens.
    """
    landscape = find_critical_points(objective) if landscape is None else landscape
    start = objective.parameter.start if start is None else float(start)
    steps = []
    for step in descend(objective if table is None else table, settings, start):
        steps.append(step)
        if listener is not None:
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
    products = trajectory.lrs[at] * curvatures[: len(at)]
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
        lyapunov=lyapunov_exponent(
            trajectory.lrs[half:-1], curvatures[len(at) :], settings.momentum
        ),
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
) -> Optimization:
    """Runs every setting from every start.

    Args:
        objective: What to minimise.
        settings: How, one or several.
        starts: First values.
        sweep: Of the objective, if it is already known.
        listeners: Gives the listener of the index-th run.
    """
    sweep = sweep_objective(objective) if sweep is None else sweep
    runs = [
        run(objective, how, start, landscape=sweep.landscape, listener=listeners(index))
        for index, (how, start) in enumerate(itertools.product(settings, starts))
    ]
    return Optimization(sweep, tuple(runs))
