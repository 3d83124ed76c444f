"""The Python interface for several learned parameters of the Gabor experiment.

Like `api.py`: the options' names as keywords, results as frozen dataclasses, nothing printed. Kept
apart because several parameters have other starts and rates (by name), and no proven landscape.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gabordiag.api import as_joint, as_plane
from gabordiag.diagnosis.joint import JointDiagnosis, diagnose_several
from gabordiag.dynamics.joint import JointListener, run_joint
from gabordiag.dynamics.joint_pairs import JointOptimization, pair_surfaces
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.plane import DEFAULT_POINTS, PlaneBasins, run_plane
from gabordiag.errors import UsageError
from gabordiag.objective.joint import JointObjective
from gabordiag.objective.objective import FloatArray
from gabordiag.results import Progress

# Of parameters without a rate of their own.
DEFAULT_RATE = 0.01


def optimize_jointly(
    thing: Any,
    learn: Sequence[str],
    optimizer: str | Sequence[str] = "sgd",
    lr: float | Sequence[float] | Mapping[str, float] = 0.01,
    momentum: float = 0.0,
    steps: int = 500,
    start: Mapping[str, float] | None = None,
    *,
    nesterov: bool = False,
    schedule: str = "constant",
    log: Sequence[str] = (),
    direct: bool = False,
    listeners: Callable[[int], JointListener | None] = lambda index: None,
) -> JointOptimization:
    """Learns several parameters of an experiment at once and returns every step.

    Args:
        thing: An `Experiment`.
        learn: The parameters' names.
        optimizer: A name of torch.optim in lower case, or several.
        lr: Learning rate, or several; or one for each parameter by name (0.01 for the others).
        momentum: For the optimizers that take it.
        steps: Optimizer steps.
        start: Values by name; the experiment's own for the others.
        nesterov: For sgd with momentum.
        schedule: A name of `SCHEDULES`, such as `step`, `exponential`, `cosine`.
        log: Parameters of which the logarithm is moved.
        direct: Full convolution at every step instead of the exact shortcut.
        listeners: Gives a function that is called with every step of the index-th run.

    Raises:
        UsageError: Names, starts or rates that cannot be, or no experiment.
        InputError: The image cannot be used.
    """
    judged_on = as_joint(thing, learn, log)
    objective = as_joint(thing, learn, log, direct=True) if direct else judged_on
    rates, own_lrs = joint_rates(lr)
    settings = [
        OptimizerSettings(name, rate, momentum, nesterov, schedule, steps)
        for name, rate in itertools.product(
            ([optimizer] if isinstance(optimizer, str) else optimizer), rates
        )
    ]
    first = joint_start(judged_on, start)
    runs = tuple(
        run_joint(objective, how, first, own_lrs, judge_on=judged_on, listener=listeners(index))
        for index, how in enumerate(settings)
    )
    return JointOptimization(runs, pair_surfaces(runs[0]))


def diagnose_jointly(
    thing: Any,
    learn: Sequence[str],
    optimizer: str = "sgd",
    lr: float | Mapping[str, float] = 0.01,
    momentum: float = 0.0,
    steps: int = 500,
    start: Mapping[str, float] | None = None,
    *,
    nesterov: bool = False,
    schedule: str = "constant",
    log: Sequence[str] = (),
    listener: JointListener | None = None,
    progress: Progress | None = None,
) -> JointDiagnosis:
    """Learns several parameters and says what is wrong, why, and what fixes it.

    Args:
        thing: An `Experiment`.
        learn: The parameters' names.
        optimizer: A name of torch.optim in lower case.
        lr: Learning rate, or one for each parameter by name (0.01 for the others).
        momentum: For the optimizers that take it.
        steps: Optimizer steps.
        start: Values by name; the experiment's own for the others.
        nesterov: For sgd with momentum.
        schedule: A name of `SCHEDULES`, such as `step`, `exponential`, `cosine`.
        log: Parameters of which the logarithm is moved.
        listener: Called with every step of the run as it happens.
        progress: Called with (batches of changed runs made, about how many in all).

    Raises:
        UsageError: Names, starts or rates that cannot be, or no experiment.
        InputError: The image cannot be used.
    """
    objective = as_joint(thing, learn, log)
    rates, own_lrs = joint_rates(lr)
    settings = OptimizerSettings(optimizer, rates[0], momentum, nesterov, schedule, steps)
    return diagnose_several(
        objective,
        settings,
        joint_start(objective, start),
        own_lrs,
        listener=listener,
        progress=progress,
    )


def plane_basins(
    thing: Any,
    starts: tuple[str, str],
    optimizer: str = "sgd",
    lr: float | Mapping[str, float] = 0.01,
    momentum: float = 0.0,
    steps: int = 500,
    *,
    points: tuple[int, int] | int = DEFAULT_POINTS,
    nesterov: bool = False,
    progress: Progress | None = None,
) -> PlaneBasins:
    """Returns which starts of a plane of two parameters reach the target, at one learning rate.

    Args:
        thing: An `Experiment`.
        starts: The two parameters, both learned.
        optimizer: Any elementwise optimizer of torch.optim.
        lr: Learning rate, or one for each parameter by name (0.01 for the other).
        momentum: For the optimizers that take it.
        steps: Optimizer steps.
        points: Starts along each parameter.
        nesterov: For sgd with momentum.
        progress: Called now and then with (steps done, steps in all).

    Raises:
        UsageError: Names, rates or points that cannot be, or no experiment.
        InputError: The image cannot be used, or the loss is too fine for a map.
    """
    objective = as_plane(thing, starts)
    rates, own_lrs = joint_rates(lr)
    settings = OptimizerSettings(optimizer, rates[0], momentum, nesterov, steps=steps)
    counts = (points, points) if isinstance(points, int) else points
    return run_plane(objective, settings, counts, own_lrs, progress=progress)


def joint_rates(
    lr: float | Sequence[float] | Mapping[str, float],
) -> tuple[list[float], dict[str, float]]:
    """Returns the learning rates for all parameters (0.01 without any), and those by name."""
    if isinstance(lr, Mapping):
        return [DEFAULT_RATE], {name: float(rate) for name, rate in lr.items()}
    rates = [lr] if isinstance(lr, (int, float)) else list(lr)
    return [float(rate) for rate in rates] or [DEFAULT_RATE], {}


def joint_start(objective: JointObjective, start: Mapping[str, float] | None) -> FloatArray:
    """Returns first values (d,): those given by name, the experiment's for the others.

    Raises:
        UsageError: A start for what is not learned.
    """
    given = dict(start or {})
    stray = sorted(set(given) - set(objective.names))
    if stray:
        raise UsageError(
            f"a start for {stray[0]}, which is not learned.",
            f"Learned are {', '.join(objective.names)}.",
        )
    values = dict(zip(objective.names, objective.start.tolist(), strict=True))
    return np.array(list({**values, **given}.values()))
