"""Runs of several parameters at once: torch's optimizer, one parameter group for each of them.

The optimizer moves coordinates (`objective/joint.py`); what is logged and judged are the
parameters' values, but for gradients, which are those of the coordinates, as the optimizer saw
them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from gabordiag.dynamics.joint_outcomes import JointTails, classify_joint
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import OUTCOME_NAMES, count_symptoms, jump_steps, tail_length
from gabordiag.errors import UsageError
from gabordiag.gabor import POSITIVE_NAMES
from gabordiag.landscape.surface import condition, newton
from gabordiag.objective.joint import JointObjective
from gabordiag.objective.objective import FloatArray
from gabordiag.results import Result, finite_or_none, read_only

# Newton's steps from a run's end to the minimum it hangs about, of each parameter's range.
_LONGEST_STEP = 0.02
# Of the tolerances: a step that would still be made from a minimum is nothing beside them.
_LAST_STEP = 1e-3
# A run whose end is farther than this many tolerances from the minimum found there has not settled.
_NEAR_END = 30.0


class JointStep(NamedTuple):
    """One logged step: the state before it, and what it changed; arrays are (d,).

    `lrs` are those of the parameters' groups. `updates` are of the values; NaN in the last row.
    """

    step: int
    values: FloatArray
    loss: float
    grads: FloatArray
    updates: FloatArray
    lrs: FloatArray


JointListener = Callable[[JointStep], None]


def joint_columns(names: Sequence[str]) -> list[str]:
    """Returns the columns of a trajectory CSV of several parameters.

    `grad` and `update` are the lengths of the vectors whose components follow; `lr` is the first
    parameter's.
    """
    several = [f"{kind}_{name}" for kind in ("grad", "update", "lr") for name in names]
    return ["step", *names, "loss", "grad", "update", "lr", *several]


def joint_row(step: JointStep) -> list[float]:
    """Returns a step's row under `joint_columns`."""
    return [
        float(step.step),
        *step.values,
        step.loss,
        math.hypot(*step.grads),
        math.hypot(*step.updates),
        float(step.lrs[0]),
        *step.grads,
        *step.updates,
        *step.lrs,
    ]


@dataclass(frozen=True, eq=False)
class JointTrajectory:
    """All steps of a run of d parameters; arrays of length steps + 1.

    Attributes:
        values: (steps + 1, d).
        losses: At the values.
        gradients: Of the coordinates (steps + 1, d).
        updates: values[t + 1] - values[t] (steps + 1, d); NaN in the last row.
        lrs: Of every step and parameter (steps + 1, d).
    """

    values: FloatArray
    losses: FloatArray
    gradients: FloatArray
    updates: FloatArray
    lrs: FloatArray

    @classmethod
    def from_steps(cls, steps: Sequence[JointStep]) -> JointTrajectory:
        """Collects logged steps."""
        _, values, losses, grads, updates, lrs = zip(*steps, strict=True)
        return cls(*(read_only(np.array(x)) for x in (values, losses, grads, updates, lrs)))

    def __len__(self) -> int:
        return len(self.losses)

    def to_table(self, names: Sequence[str]) -> dict[str, FloatArray]:
        """Returns the columns of a trajectory CSV."""
        steps = (
            JointStep(t, *row)
            for t, row in enumerate(
                zip(self.values, self.losses, self.gradients, self.updates, self.lrs, strict=True)
            )
        )
        table = np.array([joint_row(step) for step in steps])
        return dict(zip(joint_columns(names), table.T, strict=True))


@dataclass(frozen=True, eq=False)
class JointJump:
    """One step across which the loss rose by a large part of the height that the run has seen.

    Attributes:
        step: Index of the values before the jump.
        start: The values before (d,); `from` in JSON.
        end: The values after (d,); `to` in JSON.
        loss_before: At `start`.
        loss_after: At `end`.
        lr_times_curvature: Largest eigenvalue at `start` of the Hessian in coordinates, each
            weighted by its rate: lr^(1/2) H lr^(1/2); above 2 a quadratic diverges.
    """

    step: int
    start: FloatArray
    end: FloatArray
    loss_before: float
    loss_after: float
    lr_times_curvature: float | None

    def to_dict(self, names: Sequence[str]) -> dict[str, Any]:
        """Returns the fields as JSON names them."""
        return {
            "step": self.step,
            "from": named(names, self.start),
            "to": named(names, self.end),
            "loss_before": self.loss_before,
            "loss_after": self.loss_after,
            "lr_times_curvature": finite_or_none(self.lr_times_curvature),
        }


@dataclass(frozen=True, eq=False)
class JointRun(Result):
    """One run of several parameters, judged.

    Attributes:
        objective: What it ran on; not shown.
        settings: Optimizer, schedule, steps; its lr is that of parameters without their own.
        lrs: Learning rate of each parameter (d,).
        trajectory: Every step.
        outcome: A name of `OUTCOMES`.
        period: Of the cycle it ends in, 2 or more, else None.
        jumps: Every jump.
        minimum: The minimum (d,) that its end hangs about, or None.
        hessian: Eigenvalues there, or else at the run's end, of the smooth loss in coordinates,
            and what they say; see `condition`.
        symptoms: How often the loss went from below 30% to above 60% of the largest in one step.
    """

    objective: JointObjective
    settings: OptimizerSettings
    lrs: FloatArray
    trajectory: JointTrajectory
    outcome: str
    period: int | None
    jumps: tuple[JointJump, ...]
    minimum: FloatArray | None
    hessian: dict[str, Any]
    symptoms: int

    @property
    def start(self) -> FloatArray:
        """First values (d,)."""
        first: FloatArray = self.trajectory.values[0]
        return first

    @property
    def final(self) -> FloatArray:
        """Last values (d,)."""
        last: FloatArray = self.trajectory.values[-1]
        return last

    @property
    def nearest_copy(self) -> FloatArray:
        """The copy of the target (d,) nearest to the end."""
        copies = self.objective.copies()
        apart = [float(self.objective.distances(self.final, copy)) for copy in copies]
        nearest: FloatArray = copies[int(np.argmin(np.nan_to_num(apart)))]
        return nearest

    @property
    def best_index(self) -> int:
        """Where the loss was lowest."""
        losses = self.trajectory.losses
        return int(np.nanargmin(losses)) if np.isfinite(losses).any() else 0

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows, without the trajectory's file."""
        names, path, best = self.objective.names, self.trajectory, self.best_index
        rates = named(names, self.lrs)
        offsets = self.objective.offsets(self.final, self.nearest_copy)
        return {
            "optimizer": self.settings.optimizer,
            "lr": float(self.lrs[0]) if len(set(self.lrs.tolist())) == 1 else rates,
            "momentum": self.settings.momentum,
            "nesterov": self.settings.nesterov,
            "schedule": self.settings.schedule,
            "loss": self.objective.loss_name,
            "learned": list(names),
            "logarithms": list(self.objective.logs),
            "start": named(names, self.start),
            "steps": len(path) - 1,
            "outcome": self.outcome,
            "period": self.period,
            "final": named(names, self.final),
            "final_loss": finite_or_none(float(path.losses[-1])),
            "best": named(names, path.values[best]),
            "best_loss": finite_or_none(float(path.losses[best])),
            "target_copy": named(names, self.nearest_copy),
            "distance_to_target": named(names, np.abs(offsets)),
            "minimum": None if self.minimum is None else named(names, self.minimum),
            "hessian": self.hessian,
            "n_jumps": len(self.jumps),
            "jumps": [jump.to_dict(names) for jump in self.jumps],
            "lyapunov": None,
            "symptoms": self.symptoms,
        }


def named(names: Sequence[str], values: FloatArray) -> dict[str, float | None]:
    """Returns values (d,) by name, None where they are not finite."""
    return {name: finite_or_none(float(v)) for name, v in zip(names, values, strict=True)}


def learning_rates(
    objective: JointObjective, settings: OptimizerSettings, own: Mapping[str, float]
) -> FloatArray:
    """Returns the learning rate (d,) of every parameter.

    Raises:
        UsageError: A rate for what is not learned, one that is not positive, or several for lbfgs.
    """
    for name, rate in own.items():
        if name not in objective.names:
            raise UsageError(
                f"--lr {name}={rate:g} is for a parameter that is not learned.",
                f"Learned are {', '.join(objective.names)}.",
            )
        if not (math.isfinite(rate) and rate > 0):
            raise UsageError(f"learning rate {rate} of {name} is not a positive number.")
    rates = np.array([own.get(name, settings.lr) for name in objective.names])
    if not settings.is_elementwise and len(set(rates.tolist())) > 1:
        raise UsageError("lbfgs takes one learning rate for all parameters.", "Give --lr once.")
    return rates


def descend_joint(
    objective: JointObjective, settings: OptimizerSettings, start: FloatArray, lrs: FloatArray
) -> Iterator[JointStep]:
    """Yields every step of one run, the state before the first included.

    Ends early, after the row that shows it, when a value is no longer finite.

    Args:
        objective: Of d parameters.
        settings: Optimizer, schedule, steps.
        start: Values (d,).
        lrs: Learning rate of each parameter (d,).
    """
    first = objective.tensor(objective.coordinates(start))[0]
    leaves = [value.reshape(1).clone().requires_grad_() for value in first]
    groups: Any = [{"params": [x], "lr": float(lr)} for x, lr in zip(leaves, lrs, strict=True)]
    optimizer = settings.build(groups if settings.is_elementwise else leaves, lr=float(lrs[0]))
    schedule = settings.build_schedule(optimizer)

    def evaluate() -> float:
        optimizer.zero_grad()
        loss = objective.loss(torch.cat(leaves)[None])[0]
        torch.autograd.backward(loss)
        return loss.item()

    def rates() -> FloatArray:
        current = [float(group["lr"]) for group in optimizer.param_groups]
        return np.array(current if len(current) == len(leaves) else current * len(leaves))

    def values() -> FloatArray:
        return objective.values([leaf.item() for leaf in leaves])

    for step in range(settings.steps + 1):
        loss, before, now = evaluate(), values(), rates()
        grads = np.array([math.nan if x.grad is None else x.grad.item() for x in leaves])
        if step == settings.steps or not np.isfinite(before).all():
            yield JointStep(step, before, loss, grads, np.full(len(leaves), math.nan), now)
            return
        optimizer.step(evaluate) if not settings.is_elementwise else optimizer.step()
        if schedule is not None:
            schedule.step()
        yield JointStep(step, before, loss, grads, values() - before, now)


def run_joint(
    objective: JointObjective,
    settings: OptimizerSettings,
    start: FloatArray | None = None,
    own_lrs: Mapping[str, float] | None = None,
    *,
    judge_on: JointObjective | None = None,
    listener: JointListener | None = None,
) -> JointRun:
    """Runs one optimizer on several parameters and judges the run.

    Args:
        objective: What to minimise.
        settings: How.
        start: Values (d,); the experiment's own without.
        own_lrs: Learning rates of single parameters, by name.
        judge_on: The same objective through the shortcut, where `objective` is direct.
        listener: Called with every step as it happens.

    Raises:
        UsageError: A start or a rate that cannot be.
    """
    values = objective.start if start is None else np.asarray(start, dtype=np.float64)
    _require_start(objective, values)
    lrs = learning_rates(objective, settings, own_lrs or {})
    steps = []
    for step in descend_joint(objective, settings, values, lrs):
        steps.append(step)
        if listener is not None:
            listener(step)
    return judge_joint(judge_on or objective, settings, lrs, JointTrajectory.from_steps(steps))


def _require_start(objective: JointObjective, values: FloatArray) -> None:
    for name, value in zip(objective.names, values, strict=True):
        if not math.isfinite(value):
            raise UsageError(f"the start {name} = {value} is not a finite number.")
        if name in POSITIVE_NAMES and value <= 0:
            raise UsageError(f"the start {name} = {value:g} is no filter.", f"Give {name} > 0.")


def judge_joint(
    objective: JointObjective,
    settings: OptimizerSettings,
    lrs: FloatArray,
    trajectory: JointTrajectory,
) -> JointRun:
    """Turns a trajectory into a `JointRun`."""
    length = tail_length(len(trajectory) - 1)
    end = trajectory.values[-1]
    minimum = _minimum_at(objective, end) if np.isfinite(end).all() else None
    at = end if minimum is None else minimum
    spectrum = np.full(len(end), math.nan)
    if np.isfinite(at).all():
        hessian = objective.hessian(objective.coordinates(at)[None], smooth=True)[0]
        if np.isfinite(hessian).all():
            spectrum = np.linalg.eigvalsh(hessian)
    is_other = minimum is not None and float(objective.target_distances(minimum)) > 1.0
    others = np.empty((0, len(end))) if not is_other or minimum is None else minimum[None]
    scaled = np.linalg.norm(trajectory.gradients * objective.tolerance, axis=-1)
    tails = JointTails(
        trajectory.values[-length:, None],
        trajectory.losses[-length:, None],
        scaled[-1:],
        np.array([bool(np.any(trajectory.gradients != 0))]),
        float(np.nanmax(scaled)) if np.isfinite(scaled).any() else math.nan,
    )
    codes, periods = classify_joint(objective, others, tails)
    finite = trajectory.losses[np.isfinite(trajectory.losses)]
    height = float(np.ptp(finite)) if len(finite) else 0.0
    return JointRun(
        objective=objective,
        settings=settings,
        lrs=lrs,
        trajectory=trajectory,
        outcome=OUTCOME_NAMES[int(codes[0])],
        period=int(periods[0]) or None,
        jumps=_jumps(objective, lrs, trajectory, height),
        minimum=minimum,
        hessian=condition(spectrum),
        symptoms=count_symptoms(trajectory.losses, float(finite.max()) if len(finite) else 0.0),
    )


def _minimum_at(objective: JointObjective, end: FloatArray) -> FloatArray | None:
    """Returns the minimum (d,) to which Newton's method leads from a run's end, if it is near."""
    widths = np.array([parameter.high - parameter.low for parameter in objective.parameters])
    plain = JointObjective(objective.experiment, objective.names)
    # The compressed response is the experiment's own, so this costs nothing.
    found = newton(plain, end[None], _LONGEST_STEP * widths)[0]
    if not np.isfinite(found).all() or float(plain.distances(found, end)) > _NEAR_END:
        return None
    slopes = plain.loss_and_gradient(found[None], smooth=True)[1][0]
    hessian = plain.hessian(found[None], smooth=True)[0]
    if not np.isfinite(hessian).all() or np.linalg.eigvalsh(hessian)[0] <= 0:
        return None
    left = np.abs(np.linalg.solve(hessian, slopes)) / plain.tolerance
    return found if left.max() < _LAST_STEP else None


def _jumps(
    objective: JointObjective, lrs: FloatArray, path: JointTrajectory, height: float
) -> tuple[JointJump, ...]:
    at = jump_steps(path.losses, height) if height > 0 else np.empty(0, dtype=np.int64)
    if len(at) == 0:
        return ()
    # With one rate a parameter it is the preconditioned Hessian that counts.
    root = np.sqrt(lrs)
    hessians = objective.hessian(objective.coordinates(path.values[at]))
    largest = np.array(
        [np.linalg.eigvalsh(h * np.outer(root, root))[-1] if np.isfinite(h).all() else math.nan
         for h in hessians]
    )  # fmt: skip
    return tuple(
        JointJump(
            int(t), path.values[t], path.values[t + 1], float(path.losses[t]),
            float(path.losses[t + 1]), float(product),
        )
        for t, product in zip(at, largest, strict=True)
    )  # fmt: skip
