"""Runs of one parameter or of several, judged.

A run keeps every step; outcome, jumps and exponents come from the steps and from what is known of
the loss: of one parameter its landscape, of several the minimum at which the run ends.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch

from gabordiag.dynamics.descend import State, descend
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import (
    Attractor,
    IntArray,
    Jump,
    Surroundings,
    classify_one,
    count_symptoms,
    jump_steps,
    left_basin,
    lyapunov_exponent,
    surroundings,
    tail_length,
    trusted_steps,
)
from gabordiag.dynamics.replay import Step, as_steps, log_columns
from gabordiag.landscape.critical import find_critical_points, still_holds
from gabordiag.landscape.points import AS_LOW, Landscape
from gabordiag.landscape.surface import PairSurface, condition, newton, pair_surfaces
from gabordiag.landscape.sweep import Sweep, resweep, sweep_objective
from gabordiag.objective.gabor_objective import Batches
from gabordiag.objective.objective import Line, Objective, OfLine, over_points
from gabordiag.objective.space import FloatArray, Space, one_or_named
from gabordiag.own.plain_loop import as_plain_loop
from gabordiag.results import Data, Result, finite_or_none, read_only

StepListener = Callable[[Step], None]

# Newton's steps from a run's end to the minimum near it, of each parameter's range.
_LONGEST_STEP = 0.02
# Of the tolerances: a step that would still be made from a minimum is nothing beside them.
_LAST_STEP = 1e-3
# A run whose end is farther than this many tolerances from the minimum found there has not settled.
_NEAR_END = 30.0
# Of a Hessian's largest eigenvalue: rounding, as along the floor of a valley.
LEVEL = 1e-12


@dataclass(frozen=True, eq=False)
class Trajectory:
    """All steps of a run, as in `Step`: arrays of length steps + 1, shorter where it broke down."""

    values: FloatArray
    losses: FloatArray
    gradients: FloatArray
    updates: FloatArray
    lrs: FloatArray
    full_losses: FloatArray | None = None

    @classmethod
    def from_states(
        cls, states: Sequence[State], full_losses: FloatArray | None = None
    ) -> list[Trajectory]:
        """Collects the steps of all runs."""
        _, *columns = zip(*states, strict=True)
        runs = zip(*(np.array(column).swapaxes(0, 1) for column in columns), strict=True)
        made: list[list[Any]] = [[read_only(part.copy()) for part in parts] for parts in runs]
        return [cls(*[*parts, full_losses]) for parts in made]

    @property
    def value(self) -> FloatArray:
        """Values (steps + 1,) of the only parameter."""
        return np.squeeze(self.values, axis=1)

    @property
    def gradient(self) -> FloatArray:
        """Gradients (steps + 1,) of the only parameter."""
        return np.squeeze(self.gradients, axis=1)

    def to_table(self, names: Sequence[str]) -> dict[str, FloatArray]:
        """Returns the columns of a trajectory CSV, the parameters' under their names."""
        full = [None] * len(self) if self.full_losses is None else self.full_losses.tolist()
        columns = (self.values, self.losses, self.gradients, self.updates, self.lrs, full)
        rows = [Step(t, *step).row() for t, step in enumerate(zip(*columns, strict=True))]
        header = log_columns(names, has_full_loss=self.full_losses is not None)
        return dict(zip(header, np.array(rows).T, strict=True))

    @property
    def landscape_losses(self) -> FloatArray:
        """The losses as the landscape has them: over all images."""
        return self.losses if self.full_losses is None else self.full_losses

    @property
    def best_index(self) -> int:
        """Where the loss was lowest."""
        losses = self.landscape_losses
        return int(np.nanargmin(losses)) if np.isfinite(losses).any() else 0

    def __len__(self) -> int:
        return len(self.losses)


@dataclass(frozen=True, eq=False)
class Run(Result):
    """One run of one parameter or of several, judged.

    Of several parameters there is no landscape, but the minimum (d,) at which the run ends, and
    what the Hessian of the smooth loss in coordinates says there, or else at the run's end; see
    `condition`. The period, 2 or more, is that of the cycle it ends in; for symptoms, see
    `count_symptoms`. The exponent, where it is defined, is over the second half of the run;
    `trusted_steps` are None if it is not chaotic.

    Of runs that compare batches with all images `batch_size` is images a step, and `batch` what
    drawing them changed, as JSON shows it; None where none were drawn.
    """

    settings: OptimizerSettings
    rates: FloatArray
    objective: Objective
    landscape: Landscape | None
    trajectory: Trajectory
    outcome: str
    period: int | None
    jumps: tuple[Jump, ...]
    symptoms: int
    lyapunov: float | None = None
    trusted_steps: int | None = None
    minimum: FloatArray | None = None
    hessian: dict[str, Any] | None = None
    batch_size: int | None = None
    batch: dict[str, Any] | None = None

    @cached_property
    def space(self) -> Space:
        """What was learned."""
        known = self.landscape
        return self.objective.space if known is None else Space((known.parameter,))

    @property
    def lr(self) -> float | dict[str, float]:
        """The learning rate, or those by name where they differ."""
        return one_or_named(self.space.names, self.rates)

    @property
    def start(self) -> Any:
        """The first value, a float; of several parameters, an array (d,)."""
        return self._plain(0)

    @property
    def final(self) -> Any:
        """The last value, a float; of several parameters, an array (d,)."""
        return self._plain(-1)

    def _plain(self, step: int) -> Any:
        values = self.trajectory.values[step]
        return float(values[0]) if len(self.space) == 1 else values

    @property
    def final_loss(self) -> float:
        """The last loss."""
        return float(self.trajectory.landscape_losses[-1])

    @property
    def goal(self) -> FloatArray | None:
        """Where the run should end (d,): of the copies of the target, the nearest to its end."""
        known = self.landscape
        goals = self.objective.goals if known is None else surroundings(known).goals
        return nearest_goal(self.space, goals, self.trajectory.values[-1])

    @property
    def offsets(self) -> FloatArray | None:
        """From the goal to the last values (d,), whole periods taken off; None without a goal."""
        if self.goal is None:
            return None
        return self.space.offsets(self.trajectory.values[-1], self.goal)

    @property
    def turns(self) -> int:
        """Whole periods between the last value and the nearest copy of the target."""
        goal, period = self.goal, self.space.parameters[0].period
        end = self.trajectory.values[-1]
        if goal is None or period is None or not np.isfinite(end).all():
            return 0
        return round(float(end[0] - goal[0]) / period)

    @property
    def is_at_base(self) -> bool:
        """Whether it ended at the target's own values, not at a copy or whole periods away."""
        if self.landscape is not None:
            return self.turns == 0
        target = self.space.target
        assert target is not None
        apart = np.abs(self.trajectory.values[-1] - target) / self.space.tolerance
        return bool((apart <= 1.0).all())

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows, without the trajectory's file."""
        space, path, offsets = self.space, self.trajectory, self.offsets
        best, is_one = path.best_index, len(space) == 1
        logarithms = [parameter.name for parameter in space.parameters if parameter.is_log]
        ends: dict[str, Any] = {"turns": self.turns}
        if not is_one:
            places = {"target_copy": self.goal, "minimum": self.minimum}
            ends = {name: None if v is None else space.named(v) for name, v in places.items()}
            ends["hessian"] = self.hessian
        shown = {
            **self.settings.to_dict(),
            "lr": self.lr,
            "schedule": self.settings.schedule,
            "loss": self.objective.loss_name,
            **({} if is_one else {"learned": list(space.names)}),
            **({} if is_one and not logarithms else {"logarithms": logarithms}),
            "start": space.named(path.values[0]),
            "steps": len(path) - 1,
            "outcome": self.outcome,
            "period": self.period,
            "final": space.named(path.values[-1]),
            "final_loss": finite_or_none(self.final_loss),
            "best": space.named(path.values[best]),
            "best_loss": finite_or_none(float(path.landscape_losses[best])),
            "distance_to_target": None if offsets is None else space.named(np.abs(offsets)),
            **ends,
            "n_jumps": len(self.jumps),
            "jumps": [jump.to_dict(space) for jump in self.jumps],
            "lyapunov": finite_or_none(self.lyapunov),
            "chaotic": None if self.lyapunov is None else self.trusted_steps is not None,
            "trusted_steps": self.trusted_steps,
            "symptoms": self.symptoms,
        }
        if self.batch_size is not None:
            shown |= {"batch_size": self.batch_size, "batch": self.batch}
        return shown

    def data(self) -> Data:
        """Returns every step."""
        return {"trajectory.csv": self.trajectory.to_table(self.space.names)}


@dataclass(frozen=True, eq=False)
class Optimization(Result):
    """Runs in the order of optimizers, rates, starts; on batches each before that without noise.

    Of several parameters, pairs are the loss on every pair's plane through the first run's end.
    """

    runs: tuple[Run, ...]
    sweep: Sweep | None = None
    pairs: tuple[PairSurface, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows; trajectory files are named in the order of the runs."""
        shown: dict[str, Any] = {} if not self.notes else {"notes": list(self.notes)}
        shown["runs"] = [
            {**run.to_dict(), "trajectory": trajectory_name(index)}
            for index, run in enumerate(self.runs)
        ]
        space = self.runs[0].space
        if len(space) > 1:
            shown |= {
                "learned": list(space.names),
                "units": ["rad" if p.is_angle else p.unit for p in space.parameters],
                "periods": [parameter.period for parameter in space.parameters],
                "tolerances": space.tolerance.tolist(),
                "target": None if space.target is None else space.named(space.target),
                "target_found": space.is_target_found,
            }
        if self.sweep is not None:
            return {**shown, "landscape": self.sweep.to_dict()}
        pairs = [{"names": list(pair.names), "file": pair.file} for pair in self.pairs]
        return {**shown, "pairs": pairs}

    def data(self) -> Data:
        """Returns what is saved: trajectory-*.csv, and sweep.csv or pair-*.npz."""
        pairs = {p.file: {"a": p.a, "b": p.b, "loss": p.loss} for p in self.pairs}
        more = pairs if self.sweep is None else self.sweep.data()
        return {**trajectory_tables(self.runs), **more}


def trajectory_tables(runs: Sequence[Run]) -> dict[str, Mapping[str, FloatArray]]:
    """Returns file name -> column -> array of the runs' logs."""
    return {trajectory_name(i): r.trajectory.to_table(r.space.names) for i, r in enumerate(runs)}


def trajectory_name(index: int) -> str:
    """Returns the file name of the index-th run's log."""
    return f"trajectory-{index:03d}.csv"


def run(
    objective: Objective | Line,
    settings: OptimizerSettings,
    start: Any = None,
    lr: float | Mapping[str, float] | None = None,
    *,
    landscape: Landscape | None = None,
    listener: StepListener | None = None,
    stepped: Objective | Line | None = None,
    logged: Sequence[Step] = (),
    has_full_loss: bool = False,
) -> Run:
    """Runs one optimizer and judges the run.

    The start is by default the parameters' own; `lr` are rates of single parameters by name, by
    default the settings'. The optimizer may step on the same objective in another form, tabulated,
    direct or on batches, while `objective` judges; by default it steps on a user's module in a loop
    that carries its state from step to step. `logged` are the first steps of a run that was
    interrupted; the listener does not get them again. The full loss is that of `objective`.
    """
    objective = over_points(objective)
    on = as_plain_loop(objective) if stepped is None else over_points(stepped)
    if landscape is None and isinstance(objective, OfLine):
        landscape = find_critical_points(objective.line)
    first = objective.space.point(start)
    rates = objective.space.rates(settings.lr if lr is None else lr, settings.lr)
    is_on_batches = isinstance(on, Batches)
    states, full = [], []
    for state in descend(on, settings, first[None], rates[None], logged):
        states.append(state)
        if has_full_loss:
            at = objective.space.coordinates(state.values)
            full.append(float((objective.loss_at(at) if is_on_batches else state.losses)[0]))
        if listener is not None and state.step >= len(logged):
            listener(one_step(state, *full[-1:]))
    losses = read_only(np.array(full)) if has_full_loss else None
    (path,) = Trajectory.from_states(states, losses)
    judged = path
    if is_on_batches:
        slopes = objective.loss_and_gradient(objective.space.coordinates(path.values))[1]
        judged = replace(path, losses=path.landscape_losses, gradients=read_only(slopes))
    return replace(judge(objective, settings, landscape, judged, rates), trajectory=path)


def one_step(state: State, full_loss: float | None = None) -> Step:
    """Returns the step of a single run."""
    number, values, losses, gradients, updates, lrs = state
    return Step(number, values[0], float(losses[0]), gradients[0], updates[0], lrs[0], full_loss)


def run_many(
    objective: Objective, settings: OptimizerSettings, starts: FloatArray, lrs: FloatArray
) -> list[Trajectory]:
    """Runs an optimizer from n starts (n, d), at rates (n, d)."""
    size = len(lrs) if settings.is_elementwise else 1
    paths = []
    for lo in range(0, len(lrs), size):
        group = slice(lo, lo + size)
        states = list(descend(objective, settings, starts[group], lrs[group]))
        paths += Trajectory.from_states(states)
    return paths


def outcomes_of_several(objective: Objective, paths: Sequence[Trajectory]) -> list[str]:
    """Returns the outcomes of runs of several parameters."""
    places = np.concatenate([[path.values[-1] for path in paths], objective.goals])
    minima = minima_near(objective, places)
    at_goals = minima[len(paths) :]
    return [
        judge_outcome(_around_end(objective, path, minimum, at_goals), path)[0]
        for path, minimum in zip(paths, minima, strict=False)
    ]


def nearest_goal(space: Space, goals: FloatArray, end: FloatArray) -> FloatArray | None:
    """Returns the copy of the target (d,) nearest to a run's end, None without a target."""
    apart = [float(space.distances(end, goal)) for goal in goals]
    return goals[int(np.argmin(np.nan_to_num(apart)))] if apart else None


def judge_outcome(around: Surroundings, trajectory: Trajectory) -> tuple[str, int | None]:
    """Returns the outcome and the period of a trajectory's tail."""
    tail, gradients = slice(-tail_length(len(trajectory) - 1), None), trajectory.gradients
    slope, moved = _slopes(around.space, gradients[-1:])[0], bool(np.any(gradients != 0))
    ends = trajectory.values[tail], trajectory.losses[tail]
    outcome, period = classify_one(around, *ends, slope, moved)
    return outcome, period or None


def _slopes(space: Space, gradients: FloatArray) -> FloatArray:
    """Returns the lengths (n,) of gradients (n, d), each component per tolerance."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(np.hypot.reduce(gradients * space.tolerance, axis=-1))


def judge(
    objective: Objective,
    settings: OptimizerSettings,
    landscape: Landscape | None,
    trajectory: Trajectory,
    rates: FloatArray,
) -> Run:
    """Turns a trajectory, made with learning rates (d,), into a `Run`."""
    losses = trajectory.losses
    minimum = hessian = lyapunov = trusted = None
    products: Sequence[float | None]
    if landscape is not None and isinstance(objective, OfLine):
        landscape = landscape.from_start(float(trajectory.value[0]))
        around = surroundings(landscape)
        largest, smallest = landscape.largest_loss, landscape.smallest_loss
        at = jump_steps(losses, largest - smallest)
        products, lyapunov = _along_line(objective.line, settings, trajectory, at)
        eps = torch.finfo(objective.dtype).eps
        trusted = trusted_steps(lyapunov, objective.line.parameter, trajectory.value, eps)
    else:
        places = np.concatenate([trajectory.values[-1:], objective.goals])
        minimum, *at_goals = minima_near(objective, places)
        around = _around_end(objective, trajectory, minimum, at_goals)
        hessian = condition(objective, trajectory.values[-1] if minimum is None else minimum)
        finite = losses[np.isfinite(losses)]
        largest, smallest = (f(finite) if len(finite) else 0.0 for f in (np.max, np.min))
        at = jump_steps(losses, largest - smallest)
        products = sharpness(objective, trajectory.values[at], rates)
    outcome, period = judge_outcome(around, trajectory)
    jumps = _jumps(trajectory, landscape, at, products)
    return Run(
        settings, rates, objective, landscape, trajectory, outcome, period, jumps,
        count_symptoms(losses, largest), lyapunov, trusted, minimum, hessian,
    )  # fmt: skip


def _jumps(
    path: Trajectory, landscape: Landscape | None, at: IntArray, products: Sequence[float | None]
) -> tuple[Jump, ...]:
    jumps = []
    for t, product in zip(at.tolist(), products, strict=True):
        basins: tuple[Any, ...] = ()
        if landscape is not None:
            before, after = path.value[t : t + 2].tolist()
            own, landed = landscape.attractor_of(before), landscape.attractor_of(after)
            left = left_basin(landscape, own, before, np.array([after]))
            basins = (left, None if landed is None else landed.value)
        ends, heights = (path.values[t], path.values[t + 1]), (path.losses[t], path.losses[t + 1])
        jumps.append(Jump(t, *ends, float(heights[0]), float(heights[1]), product, *basins))
    return tuple(jumps)


def _along_line(
    line: Line, settings: OptimizerSettings, path: Trajectory, at: IntArray
) -> tuple[list[float], float | None]:
    """Returns lr L'' at the jumps, and the Lyapunov exponent of the run's second half."""
    values, lrs = path.value, path.lrs[:, 0]
    half = len(path) // 2
    late = values[half:-1] if settings.is_gradient_descent else values[:0]
    curvatures = _curvatures(line, np.concatenate([values[at], late]))
    with np.errstate(over="ignore"):
        products = lrs[at] * curvatures[: len(at)]
    lyapunov = None
    # A run that no gradient moved follows no map whose errors could grow.
    if np.any(path.gradients != 0):
        lyapunov = lyapunov_exponent(lrs[half:-1], curvatures[len(at) :], settings.momentum)
    return products.tolist(), lyapunov


def _curvatures(line: Line, values: FloatArray) -> FloatArray:
    if len(values) == 0:
        return np.empty(0)
    # A run that settles or cycles repeats its values.
    distinct, place = np.unique(values, return_inverse=True)
    _, first, second = line.derivatives(distinct, 2)
    if line.parameter.is_log:
        # With v = exp(c): d^2 L / dc^2 = L'' v^2 + L' v.
        second = second * distinct**2 + first * distinct
    return np.asarray(second[place])


def sharpness(objective: Objective, values: FloatArray, lrs: FloatArray) -> list[float | None]:
    """Returns the largest eigenvalue of lr^(1/2) H lr^(1/2) at values (n, d), rates (d,)."""
    if len(values) == 0:
        return []
    # With one rate a parameter it is the preconditioned Hessian that counts.
    roots = np.outer(np.sqrt(lrs), np.sqrt(lrs))
    return [
        float(np.linalg.eigvalsh(h * roots)[-1]) if np.isfinite(h).all() else None
        for h in objective.hessian(objective.space.coordinates(values))
    ]


def _around_end(
    objective: Objective,
    trajectory: Trajectory,
    minimum: FloatArray | None,
    at_goals: Sequence[FloatArray | None],
) -> Surroundings:
    """Returns what a run of several parameters is judged by.

    To it belong the minima to which Newton's method leads from its end and from each goal (m).
    """
    space, goals = objective.space, objective.goals
    others: tuple[Attractor, ...] = ()
    if minimum is not None:
        near = space.distances(minimum, goals) <= 1.0
        own = [at for at, is_near in zip(at_goals, near, strict=True) if is_near and at is not None]
        if not near.any() or (own and _is_higher(objective, trajectory, minimum, own)):
            others, goals = (Attractor(minimum),), goals[~near]
    slopes = _slopes(space, trajectory.gradients)
    steepest = float(np.nanmax(slopes)) if np.isfinite(slopes).any() else math.nan
    return Surroundings(space, goals, others, None, steepest)


def _is_higher(
    objective: Objective, trajectory: Trajectory, minimum: FloatArray, own: Sequence[FloatArray]
) -> bool:
    """Whether a minimum so near to a goal is another one than the goal's, and not as low."""
    loss, *losses = objective.loss_at(objective.space.coordinates(np.stack([minimum, *own])))
    return bool(loss - min(losses) > AS_LOW * (np.nanmax(trajectory.losses) - min(losses)))


def minima_near(objective: Objective, places: FloatArray) -> list[FloatArray | None]:
    """Returns the minima (d,) to which Newton's method leads from places (n, d), where near."""
    plain, space = objective.in_values(), objective.space
    minima: list[FloatArray | None] = [None] * len(places)
    found = np.full(places.shape, math.nan)
    finite = np.isfinite(places).all(axis=1)
    longest = _LONGEST_STEP * space.width
    found[finite] = newton(plain, places[finite], longest, space.low, space.high)
    apart = [float(space.distances(a, b)) for a, b in zip(found, places, strict=True)]
    near = np.flatnonzero(np.array(apart) <= _NEAR_END)
    if len(near) == 0:
        return minima
    slopes = plain.loss_and_gradient(found[near], smooth=True)[1]
    hessians = plain.hessian(found[near], smooth=True)
    for index, slope, hessian in zip(near.tolist(), slopes, hessians, strict=True):
        bends, directions = bends_at(space, hessian)
        # Along the floor of a valley the loss is level, and rounding gives that either sign.
        firm = bends > LEVEL * bends[-1]
        if not bends[-1] > 0 or not bends[0] >= -LEVEL * bends[-1]:
            continue
        falls = directions.T @ (slope * space.tolerance)
        left = directions[:, firm] @ (falls[firm] / bends[firm])
        slides = np.abs(falls[~firm]).max(initial=0.0)
        if np.abs(left).max() < _LAST_STEP and slides <= math.sqrt(LEVEL) * bends[-1]:
            minima[index] = found[index]
    return minima


def bends_at(space: Space, hessian: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Returns a Hessian's eigenvalues (d,), ascending, and eigenvectors (d, d), per tolerance.

    Both are NaN where the loss has no second derivatives.
    """
    if not np.isfinite(hessian).all():
        return np.full(len(space), math.nan), np.full((len(space), len(space)), math.nan)
    bends, directions = np.linalg.eigh(hessian * np.outer(space.tolerance, space.tolerance))
    return bends, directions


def run_all(
    objective: Objective | Line,
    settings: Sequence[OptimizerSettings],
    starts: Sequence[Any],
    lr: Mapping[str, float] | None = None,
    *,
    sweep: Sweep | None = None,
    listeners: Callable[[int], StepListener | None] = lambda index: None,
    stepped: Objective | Line | None = None,
    logged: Callable[[int], Sequence[Sequence[float]]] = lambda index: (),
    batch_size: int | None = None,
) -> Optimization:
    """Runs every setting from every start, as `run` does; `lr` are rates of single parameters.

    `listeners` and `logged` are called with the index of a run, the latter for the first rows of an
    interrupted one. With a batch size each run on batches, the same for all, is followed by one on
    all images.
    """
    objective = over_points(objective)
    line = objective.line if isinstance(objective, OfLine) else None
    if sweep is None and line is not None:
        sweep = sweep_objective(line)
    landscape = None if sweep is None else sweep.landscape
    grounds: list[Callable[[], Objective | Line | None]] = [lambda: stepped]
    if batch_size is not None:
        full = over_points(objective if stepped is None else stepped)
        grounds.insert(0, partial(Batches, full, batch_size))
    runs = tuple(
        run(
            objective, how, start, lr, landscape=landscape, listener=listeners(index),
            stepped=ground(), logged=as_steps(logged(index), len(objective.space)),
            has_full_loss=batch_size is not None,
        )
        for index, (how, start, ground) in enumerate(itertools.product(settings, starts, grounds))
    )  # fmt: skip
    if line is None or sweep is None:
        return Optimization(runs, None, pair_surfaces(objective, runs[0].trajectory.values))
    if not still_holds(line, sweep.landscape):
        # A run came by what the landscape did not show.
        sweep = resweep(line, sweep)
        runs = tuple(
            judge(objective, r.settings, sweep.landscape, r.trajectory, r.rates) for r in runs
        )
    return Optimization(runs, sweep)
