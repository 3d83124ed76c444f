"""The Python interface: the options' names as keywords, results as frozen dataclasses.

Most functions take an `Experiment`, or your own function or module with the keywords of
`gabordiag.own.custom.own_objective`, and compute; `check` takes a kernel or a derivative, `sweep`
and `diagnose` take a `Training` as well, `rates` nothing else. Nothing prints or writes files. The
command line calls these functions, or what they call.
"""

from __future__ import annotations

import copy
import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, overload

import numpy as np
import numpy.typing as npt
from torch.nn import Module

from gabordiag.choices import (
    LossName,
    Number,
    OptimizerName,
    ParameterName,
    PlaneName,
    ScheduleName,
    plain,
)
from gabordiag.dynamics.bifurcation import Bifurcation, run_bifurcation
from gabordiag.dynamics.maps import (
    PLANE_POINTS,
    Basins,
    PlaneBasins,
    default_starts,
    run_basins,
    run_plane,
)
from gabordiag.dynamics.optimizers import OptimizerSettings, real
from gabordiag.dynamics.run import Optimization, StepListener, run_all
from gabordiag.dynamics.windows import DEFAULT_SCAN, SCAN_STEPS, log_spaced
from gabordiag.errors import UsageError
from gabordiag.gabor import GaborParameters
from gabordiag.landscape.plan import make_plan, planned_sweep
from gabordiag.landscape.surface import Surface, sweep_surface
from gabordiag.landscape.sweep import Sweep, sweep_objective
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_line import along
from gabordiag.objective.gabor_objective import GaborObjective, resolve_batch_size
from gabordiag.objective.objective import Line, Objective, OfLine
from gabordiag.own.custom import OwnOptions, OwnOptionsAndStart, as_training, own_objective
from gabordiag.own.evaluation import CustomObjective, UserObjective
from gabordiag.own.loading import public
from gabordiag.own.modules import HOW_TO_BUILD
from gabordiag.own.training import Training
from gabordiag.results import Progress

# What only some functions need is imported by them: a sweep takes little more than torch takes.
if TYPE_CHECKING:
    from gabordiag.charting.atlas import Atlas
    from gabordiag.charting.engine import AtlasPlan
    from gabordiag.charting.store import Store
    from gabordiag.checks.verify import Check
    from gabordiag.diagnosis.training.verdict import TrainingDiagnosis
    from gabordiag.diagnosis.verdict import Diagnosis
    from gabordiag.dynamics.network import NetworkPlane
    from gabordiag.dynamics.rates import Rates
    from gabordiag.explorer.exploration import Exploration

Several = Sequence[Any] | Any
# Of parameters without a rate of their own.
DEFAULT_RATE = 0.01
DEFAULT_PARAMETER = "theta"
# The question's.
DEFAULT_FILTER = {"wavelength": 10.0, "gamma": 0.5, "sigma": 4.0}
_OF_A_TRAINING = {"params", "batches", "labels", "loader", "metric", "seeds", "checkpoint"}


def as_objective_of(
    thing: Any,
    over: Sequence[str],
    log_scale: Sequence[str] = (),
    *,
    direct: bool = False,
    **own: Any,
) -> Objective:
    """Returns an objective of one parameter or of several, over points (n, d).

    Of a function or module of several, the parameters that `over` leaves out are held at their
    start; `theta`, if it is none of them, stands for all. `own` are the keywords of
    `own_objective`.
    """
    if own and isinstance(thing, (Experiment, Line, Objective)):
        kind = "an experiment" if isinstance(thing, Experiment) else "an objective"
        raise UsageError(f"{kind} takes no {', '.join(own)}.", "Leave it out.")
    if direct and not isinstance(thing, Experiment):
        raise UsageError("direct has no effect on a custom objective.", "Leave it out.")
    if isinstance(thing, Experiment):
        if len(over) != 1:
            return GaborObjective(thing, over, log_scale, direct=direct)
        made: Line | Objective = along(thing, over[0], direct=direct)
    else:
        made = thing if isinstance(thing, (Line, Objective)) else own_objective(thing, **own)
    if isinstance(made, CustomObjective) and made is not thing:
        if len(over) > 1 or (list(over) == [DEFAULT_PARAMETER] and over[0] not in made.space.names):
            return (made.restricted(over) if len(over) > 1 else made).with_logs(log_scale)
        made = made.line(over[0])
    if isinstance(made, Objective):
        return made
    stray = sorted(set(log_scale) - {made.parameter.name})
    if stray or (log_scale and made.parameter.low <= 0):
        raise UsageError(
            f"{(stray or log_scale)[0]} cannot be learned as a logarithm.",
            "Name a learned parameter that is positive over its whole range.",
        )
    if log_scale:
        made = copy.copy(made)
        made.parameter = replace(made.parameter, is_log=True)
    return OfLine(made)


def as_objective(thing: Any, over: str = DEFAULT_PARAMETER, **own: Any) -> Line:
    """Returns an objective of one parameter, as `as_objective_of` returns one of several."""
    objective = as_objective_of(thing, [over], **own)
    if isinstance(objective, CustomObjective):
        names = objective.space.names
        if over == DEFAULT_PARAMETER and over not in names:
            raise UsageError(
                f"the objective has {len(names)} parameters: {', '.join(names[:8])}"
                f"{', ...' if len(names) > 8 else ''}.",
                f"Name one, such as {names[0]} (--over), for a curve, or two for a surface.",
            )
        return objective.line(over)
    assert isinstance(objective, OfLine)
    return objective.line


def as_plane(thing: Any, over: Sequence[str], **own: Any) -> Objective:
    """Returns an objective of two parameters, as `as_objective_of` does."""
    names = list(over) if isinstance(over, (list, tuple)) else [over]
    if len(names) != 2 or names[0] == names[1]:
        raise UsageError(
            "a surface is over two different parameters, not over "
            f"{' and '.join(map(str, names)) or 'none'}.",
            "Name one for a curve, such as theta, or two, such as theta and wavelength.",
        )
    plane = as_objective_of(thing, over, **own)
    if len(plane.space) != 2:
        raise UsageError(
            "the objective has one parameter, and a surface is over two.", "Name one for a curve."
        )
    return plane


@overload
def sweep(
    thing: Training,
    over: str | tuple[str, str] | list[str] = "theta",
    points: int | tuple[int, int] | None = None,
    *,
    plane: PlaneName = "axes",
    optimizer: OptimizerName = "sgd",
    lr: Number | Mapping[str, Number] = 0.01,
    momentum: Number = 0.0,
    steps: int = 500,
    nesterov: bool = False,
    schedule: ScheduleName = "constant",
    params: str | Sequence[str] = (),
    range: Sequence[tuple[float | None, float | None]] = (),
    seed: int = 0,
    seeds: int = 1,
    checkpoint: str | Path | None = None,
    progress: Callable[..., None] | None = None,
) -> NetworkPlane: ...


@overload
def sweep(
    thing: Any,
    over: str = "theta",
    points: int | None = None,
    *,
    max_seconds: Number | None = None,
    **own: Unpack[OwnOptionsAndStart],
) -> Sweep: ...


@overload
def sweep(
    thing: Any,
    over: tuple[str, str] | list[str],
    points: int | tuple[int, int] | None = None,
    **own: Unpack[OwnOptionsAndStart],
) -> Surface: ...


@public
def sweep(
    thing: Any,
    over: str | tuple[str, str] | list[str] = "theta",
    points: int | tuple[int, int] | None = None,
    *,
    max_seconds: Number | None = None,
    **own: Any,
) -> Sweep | Surface | NetworkPlane:
    """Returns the loss and its gradient over one parameter, or over two.

    Of a `Training`, the loss on a plane through all weights of its model, with the path of a run.

    Args:
        thing: An `Experiment`, your own function or module, or a `Training`.
        over: The parameter, or two. Of a function or module of several parameters, the others are
            held at their start.
        points: Values of each, over one period or the whole range: one number for both of two, or
            two numbers. Default: 721 of one parameter, 181 of each of two, 41 of a plane's sides.
        max_seconds: About how long your own function or module of one parameter may be evaluated;
            `left_out` of the result says what there was no time for.
        own: As in `as_objective`. Of a `Training`, the settings of `diagnose` for its run, and
            `plane` with the keywords of `sweep_network`: `random` (filter-normalised directions;
            they are biased where layers are normalised), `pca` (the main directions of the run's
            path), `gradient` (that at the end, and the sharpest direction), or `axes`, the two
            watched numbers in `over`. The model is as it was afterwards.

    Returns:
        A `Sweep`, with all critical points and a proof; over two parameters a `Surface`, with those
        that were found; of a `Training` a `NetworkPlane`, whose `headline` says whether the picture
        shows the run.

    Raises:
        UsageError: An unknown parameter, or numbers of points that do not fit.
        InputError: The image cannot be used, or your code failed.

    Example:
        >>> import gabordiag as gd
        >>> double_well = lambda v: (v**2 - 1) ** 2
        >>> found = gd.sweep(double_well, range=(-2, 2), start=0.1, target=1.0)
        >>> [(point.kind, round(abs(point.value), 6)) for point in found.landscape.points]
        [('minimum', 1.0), ('maximum', 0.0), ('minimum', 1.0)]
    """
    is_plane = "plane" in own or isinstance(thing, Training)
    if max_seconds is not None and (is_plane or not isinstance(over, str)):
        raise UsageError("max_seconds is for one parameter.", "Leave it out.")
    if is_plane:
        return _sweep_training(as_training(thing), over, plain(points), **own)
    if isinstance(over, str):
        points = plain(points)
        if isinstance(points, tuple):
            raise UsageError("one parameter takes one number of points.")
        objective = as_objective(thing, over, **own)
        plan = make_plan(objective, points, max_seconds=plain(max_seconds))
        return planned_sweep(objective, plan, points)
    return sweep_surface(as_plane(thing, over, **own), _both(plain(points)))


def _sweep_training(
    training: Any,
    over: str | Sequence[str],
    points: Any,
    plane: str = "axes",
    optimizer: OptimizerName = "sgd",
    lr: Number | Mapping[str, Number] = DEFAULT_RATE,
    momentum: Number = 0.0,
    steps: int = 500,
    nesterov: bool = False,
    schedule: ScheduleName = "constant",
    params: str | Sequence[str] = (),
    **more: Any,
) -> NetworkPlane:
    """`sweep` of a training."""
    from gabordiag.dynamics.network import sweep_network

    if not isinstance(training, Training):
        raise UsageError("a plane through all weights is of a training.", HOW_TO_BUILD)
    if plane == "axes":
        params = over
        if over == DEFAULT_PARAMETER:
            raise UsageError(
                "a training is swept on a plane of all its weights.",
                "Give plane (random, pca, gradient), or two of its numbers as over; "
                "`gabordiag diagnose` judges them element by element.",
            )
    elif over != DEFAULT_PARAMETER:
        raise UsageError("over is for plane='axes'.", "Name what is watched in params.")
    rate, own_rates = _one_rate(lr)
    settings = OptimizerSettings.of(optimizer, rate, momentum, nesterov, schedule, steps)
    counts = _both(points)
    more |= {} if counts is None else {"points": counts}
    ranges = more.pop("range", ())
    return sweep_network(
        training, plane, settings, own_rates or rate, params=params, ranges=ranges, **more
    )


@public
def optimize(
    thing: Any,
    optimizer: OptimizerName | Sequence[OptimizerName] = "sgd",
    lr: Number | Sequence[Number] | Mapping[str, Number] = 0.01,
    momentum: Number = 0.0,
    steps: int = 500,
    start: Several | Mapping[str, float] = None,
    *,
    nesterov: bool = False,
    schedule: ScheduleName = "constant",
    over: str | Sequence[str] = "theta",
    log_scale: Sequence[str] = (),
    direct: bool = False,
    batch_size: int | None = None,
    listeners: Callable[[int], StepListener | None] = lambda index: None,
    logged: Callable[[int], Sequence[Sequence[float]]] = lambda index: (),
    **own: Unpack[OwnOptions],
) -> Optimization:
    """Runs optimizers and returns every step.

    Args:
        thing: An `Experiment`, or your own function or module.
        optimizer: A name of torch.optim in lower case, or several.
        lr: Learning rate, or several; or one for each parameter by name (0.01 for the others).
        momentum: For the optimizers that take it.
        steps: Optimizer steps.
        start: First value, or several. Of several parameters, values by name or a sequence of
            values, or several of these. Default: the parameters' own.
        nesterov: For sgd with momentum.
        schedule: A name of `SCHEDULES`, such as `step`, `exponential`, `cosine`.
        over: The learned parameter, or several.
        log_scale: Those of which the logarithm is moved, which keeps them positive.
        direct: Full convolution at every step instead of the exact shortcut.
        batch_size: Draw so many of an experiment's many images at every step, each image once an
            epoch in an order seeded by the experiment's `seed`, as a shuffling DataLoader does.
            Every run is then followed by the same on all images. As many as there are, or more:
            all images at every step.
        listeners: Gives a function that is called with every step of the index-th run.
        logged: Gives the rows that the index-th run has logged before it was interrupted.
        own: As in `as_objective`.

    Returns:
        An `Optimization`: `runs`, one for each combination of start, optimizer and rate, each with
        its `outcome` and its `trajectory` (steps + 1 rows).

    Raises:
        UsageError: Settings that torch.optim does not support, names, starts or rates that cannot
            be, or batches of a single image.
        InputError: The image cannot be used, your code failed, or the logged rows are not these
            runs'.

    Example:
        >>> import numpy as np, gabordiag as gd
        >>> chessboard = (np.indices((32, 32)) // 8).sum(axis=0) % 2
        >>> experiment = gd.Experiment(
        ...     chessboard, wavelength=6, sigma=2, kernel_size=11, loss="mse", theta0=0
        ... )
        >>> run = gd.optimize(experiment, lr=0.01, steps=50).runs[0]
        >>> run.outcome, run.trajectory.losses.shape
        ('reached', (51,))
    """
    names = _several(over)
    for name, given_values in (("optimizer", optimizer), ("lr", lr), ("start", start)):
        if isinstance(given_values, (list, tuple, dict)) and not given_values:
            raise UsageError(f"{name} holds no value.", "Give one, or leave it out.")
    rates, own_rates = _rates(lr)
    settings = [
        OptimizerSettings.of(name, rate, momentum, nesterov, schedule, steps)
        for name, rate in itertools.product(_several(optimizer), rates)
    ]
    given: dict[str, Any] = {**own, **_vector_start(thing, start, own)}
    exact = as_objective_of(thing, names, log_scale, **given)
    stepped = as_objective_of(thing, names, log_scale, direct=True, **given) if direct else exact
    is_own = "start" in given and given["start"] is start
    # The objective has its start already.
    starts = [None] if is_own else _points(start, len(exact.space))
    for point in starts:
        exact.space.point(point)
    landscape = sweep_objective(exact.line) if isinstance(exact, OfLine) else None
    drawn = resolve_batch_size(exact, batch_size)
    done = run_all(
        exact, settings, starts, own_rates, sweep=landscape, listeners=listeners, logged=logged,
        # The curvatures that a run is judged by need no convolutions.
        stepped=stepped, batch_size=drawn,
    )  # fmt: skip
    if drawn is not None:
        from gabordiag.dynamics.stochastic import with_effects

        return with_effects(done, drawn)
    if batch_size is None:
        return replace(done, notes=_held(exact))
    note = f"Batches of {batch_size} hold all images: every step is on all of them."
    return replace(done, notes=(note,))


def _vector_start(thing: Any, start: Any, own: Mapping[str, Any]) -> dict[str, Several]:
    """Returns the start as a keyword of `own_objective`, for a function of a vector.

    Of a tuple or an array the length says how many components there are; a list holds several
    starts.
    """
    if isinstance(thing, (Experiment, Line, Objective, Module)) or "param" in own:
        return {}
    first = start[0] if isinstance(start, list) and start else start
    is_vector = isinstance(first, (tuple, list)) or getattr(first, "ndim", 0) == 1
    return {"start": first} if is_vector else {}


def _held(objective: Objective) -> tuple[str, ...]:
    """Returns as notes what is held fixed beside the parameters of a custom objective."""
    user = objective.line if isinstance(objective, OfLine) else objective
    held = user.held_fixed if isinstance(user, UserObjective) else None
    return () if held is None else (f"Only some of the numbers are learned: {held}.",)


def _points(start: Any, d: int) -> list[Any]:
    """Returns one or several starts as a list: of several parameters, a sequence may be one."""
    if getattr(start, "ndim", 0) > (d > 1):  # an array or a tensor
        start = start.tolist()
    is_list = isinstance(start, (list, tuple, range))
    if not is_list or (d > 1 and not isinstance(start[0], (Mapping, Sequence))):
        return [start]
    return list(start)


def _rates(lr: Several | Mapping[str, Number]) -> tuple[list[float], Mapping[str, float] | None]:
    """Returns the learning rates for all parameters, and those by name."""
    if isinstance(lr, Mapping):
        return [DEFAULT_RATE], {n: real("learning rate", r) for n, r in lr.items()}
    return [real("learning rate", rate) for rate in _several(lr)], None


def _scan(lr: Any) -> tuple[float, float, int]:
    """Returns lowest and highest rate and how many, as `log_spaced` takes them."""
    try:
        low, high, count = lr
        return float(low), float(high), operator.index(plain(count))
    except (TypeError, ValueError):
        raise UsageError(
            f"{lr!r} is not a valid scan of learning rates.",
            "Give the lowest and the highest and how many, such as (1e-4, 10, 241).",
        ) from None


def _one_rate(lr: Any) -> tuple[float, Mapping[str, float] | None]:
    rates, by_name = _rates(lr)
    if len(rates) != 1:
        raise UsageError(
            f"one learning rate is needed, not {len(rates)}.", "Call it once for each of them."
        )
    return rates[0], by_name


@public
def basins(
    thing: Any,
    optimizer: OptimizerName = "sgd",
    momentum: Number = 0.0,
    lr: tuple[Number, Number, int] = DEFAULT_SCAN,
    starts: npt.ArrayLike | int | None = None,
    steps: int = SCAN_STEPS,
    *,
    nesterov: bool = False,
    start: Number | None = None,
    over: str = "theta",
    progress: Progress | None = None,
    **own: Unpack[OwnOptions],
) -> Basins:
    """Returns where every start ends at every learning rate.

    Args:
        thing: An `Experiment`, or your own function or module.
        optimizer: Any elementwise optimizer of torch.optim.
        momentum: For the optimizers that take it.
        lr: Lowest and highest rate and how many, log-spaced.
        starts: Values (n,) in the parameter's unit, or how many over the whole range. Default: 361.
        steps: Optimizer steps.
        nesterov: For sgd with momentum.
        start: The start whose learning rates `windows` lists. Default: the parameter's own.
        over: The learned parameter.
        progress: Called now and then with (steps done, steps in all).
        own: As in `as_objective`.

    Returns:
        A `Basins`: `outcomes` (rates, starts), as indices of `OUTCOME_NAMES`, and `windows`, the
        learning rates that work from `start`.

    Raises:
        UsageError: An optimizer that cannot run as a batch, or an empty grid.
        InputError: The image cannot be used, or your code failed.

    Example:
        >>> import gabordiag as gd
        >>> double_well = lambda v: (v**2 - 1) ** 2
        >>> found = gd.basins(
        ...     double_well, range=(-2, 2), start=0.1, target=1.0,
        ...     lr=(0.01, 1.0, 5), starts=9, steps=100,
        ... )
        >>> found.outcomes.shape
        (5, 9)
        >>> round(found.windows.hold_lr, 3)  # The scanned rate below 2 / L'' = 0.25.
        0.1
    """
    objective = as_objective(thing, over, **own)
    starts = plain(starts)
    if isinstance(starts, int):
        grid = default_starts(objective, starts)
    else:
        grid = default_starts(objective) if starts is None else np.asarray(starts, dtype=np.float64)
    rates = log_spaced(*_scan(lr))
    settings = OptimizerSettings.of(optimizer, rates[0], momentum, nesterov, steps=steps)
    return run_basins(objective, settings, rates, grid, start=plain(start), progress=progress)


@public
def bifurcate(
    thing: Any,
    optimizer: OptimizerName = "sgd",
    momentum: Number = 0.0,
    lr: tuple[Number, Number, int] = (1e-2, 10.0, 800),
    steps: int = 2000,
    *,
    start: Number | None = None,
    over: str = "theta",
    progress: Progress | None = None,
    **own: Unpack[OwnOptions],
) -> Bifurcation:
    """Returns where the iterates from one start end up, against the learning rate.

    Args:
        thing: An `Experiment`, or your own function or module.
        optimizer: Any elementwise optimizer of torch.optim.
        momentum: For the optimizers that take it.
        lr: Lowest and highest rate and how many, log-spaced.
        steps: Optimizer steps; the last 192 are kept.
        start: First value. Default: the parameter's own.
        over: The learned parameter.
        progress: Called now and then with (steps done, steps in all).
        own: As in `as_objective`.

    Returns:
        A `Bifurcation`: `values` (rates, 192), the last iterates in the parameter's unit; `periods`
        (rates,), 0 where none was found; `lyapunov` (rates,), the mean of ln|1 - lr L''| along the
        path for plain descent, above 0 for chaos.

    Raises:
        UsageError: An optimizer that cannot run as a batch, an empty scan, or too few steps.
        InputError: The image cannot be used, or your code failed.

    Example:
        >>> import gabordiag as gd
        >>> double_well = lambda v: (v**2 - 1) ** 2
        >>> found = gd.bifurcate(
        ...     double_well, range=(-2, 2), start=0.9, target=1.0, lr=(0.1, 0.3, 3), steps=500
        ... )
        >>> found.periods.tolist()  # At 0.3, past 2 / L'' = 0.25, the run flips between two values.
        [1, 1, 2]
    """
    objective = as_objective(thing, over, **own)
    rates = log_spaced(*_scan(lr))
    settings = OptimizerSettings.of(optimizer, rates[0], momentum, steps=steps)
    return run_bifurcation(objective, settings, rates, start=plain(start), progress=progress)


@overload
def diagnose(
    thing: Training,
    optimizer: OptimizerName = "sgd",
    lr: Number | Mapping[str, Number] = 0.01,
    momentum: Number = 0.0,
    steps: int = 500,
    *,
    nesterov: bool = False,
    schedule: ScheduleName = "constant",
    params: str | Sequence[str] = (),
    seed: int = 0,
    seeds: int = 3,
    checkpoint: str | Path | None = None,
    listener: StepListener | None = None,
    progress: Callable[..., None] | None = None,
) -> TrainingDiagnosis: ...


@overload
def diagnose(
    thing: Any,
    optimizer: OptimizerName = "sgd",
    lr: Number | Mapping[str, Number] = 0.01,
    momentum: Number = 0.0,
    steps: int = 500,
    start: Any = None,
    *,
    nesterov: bool = False,
    schedule: ScheduleName = "constant",
    over: str | Sequence[str] = "theta",
    log_scale: Sequence[str] = (),
    from_log: str | Path | Mapping[str, npt.ArrayLike] | None = None,
    listener: StepListener | None = None,
    progress: Callable[..., None] | None = None,
    max_seconds: Number | None = None,
    announce: Callable[[str], object] | None = None,
    **own: Unpack[OwnOptions],
) -> Diagnosis: ...


@public
def diagnose(
    thing: Any,
    optimizer: OptimizerName = "sgd",
    lr: Number | Mapping[str, Number] = 0.01,
    momentum: Number = 0.0,
    steps: int = 500,
    start: Any = None,
    *,
    nesterov: bool = False,
    schedule: ScheduleName = "constant",
    over: str | Sequence[str] = "theta",
    log_scale: Sequence[str] = (),
    from_log: str | Path | Mapping[str, npt.ArrayLike] | None = None,
    listener: StepListener | None = None,
    progress: Callable[..., None] | None = None,
    max_seconds: Number | None = None,
    announce: Callable[[str], object] | None = None,
    **own: Any,
) -> Diagnosis | TrainingDiagnosis:
    """Runs one optimizer and says what is wrong, why, and what fixes it.

    Of a `Training`, the model is trained once as it is, and each watched element is judged.

    Args:
        thing: An `Experiment`, your own function or module, or a `Training`.
        optimizer: A name of torch.optim in lower case.
        lr: Learning rate, or one for each parameter by name (0.01 for the others; of a `Training`,
            the rate of those is that of `others`).
        momentum: For the optimizers that take it.
        steps: Optimizer steps.
        start: First value; of several parameters, values by name or in order. Default: the
            parameters' own.
        nesterov: For sgd with momentum.
        schedule: A name of `SCHEDULES`, such as `step`, `exponential`, `cosine`.
        over: The learned parameter, or several.
        log_scale: Those of which the logarithm is moved, which keeps them positive.
        from_log: A run that was already made, as `TrajectoryLogger` writes it, with a column of
            its name for each of several parameters: diagnosed instead of a new one; `optimizer`,
            `lr` and `momentum` must be those it was made with, which its steps show.
        listener: Called with every step of the run as it happens.
        progress: Called with (causes and remedies done, about how many in all); of a `Training`,
            with what is done as a third argument.
        max_seconds: About how long your own function or module of one parameter may be evaluated;
            the headline says what there was no time for.
        announce: Called, before an expensive one is evaluated, with how often and how long it will.
        own: As in `as_objective`. Of a `Training`: `params`, the names of what is watched, such as
            `["gabor.theta", "gabor.sigma[3]"]`; `seed` of everything random (0); `seeds`, how many
            trainings each remedy is judged by (3; 0 tries none); and `checkpoint`, a file that
            holds the run's state until the diagnosis is made: if a call that was killed is
            repeated, the run goes on from there, and ends with the same numbers.

    Returns:
        A `Diagnosis`: `verdict`, `headline`, `findings` and `remedies`; of a `Training` a
        `TrainingDiagnosis` with `elements` instead of findings.

    Raises:
        UsageError: Settings that torch.optim does not support, or names, starts or rates that
            cannot be.
        InputError: The image cannot be used, your code failed, or the log cannot be used.

    Example:
        >>> import numpy as np, gabordiag as gd
        >>> chessboard = (np.indices((32, 32)) // 8).sum(axis=0) % 2
        >>> experiment = gd.Experiment(
        ...     chessboard, wavelength=6, sigma=2, kernel_size=11, loss="mse", theta0=0
        ... )
        >>> gd.diagnose(experiment, lr=0.01, steps=50).verdict
        'healthy'
    """
    rate, own_rates = _one_rate(lr)
    settings = OptimizerSettings.of(optimizer, rate, momentum, nesterov, schedule, steps)
    thing = as_training(thing)
    if isinstance(thing, Training):
        if max_seconds is not None:
            raise UsageError("a training takes as long as it takes.", "Leave max_seconds out.")
        is_over = _several(over) != [DEFAULT_PARAMETER]
        if start is not None or from_log is not None or log_scale or is_over:
            raise UsageError(
                "a training starts as its model stands, and is run here.",
                "Leave start, from_log, log_scale and over out; params names what is watched.",
            )
        options = {name: own.pop(name) for name in ("seed", "seeds", "checkpoint") if name in own}
        params = own.pop("params", ()) or own.pop("param", ())
        if own:
            raise UsageError(
                f"a training takes no {', '.join(own)}.",
                "The model's own values are the start, and its batches and loss are in it.",
            )
        from gabordiag.diagnosis.training.verdict import diagnose_training

        return diagnose_training(
            thing, params, settings, own_rates or rate,
            listener=listener, progress=progress, **options,
        )  # fmt: skip
    if stray := own.keys() & _OF_A_TRAINING:
        raise UsageError(f"{sorted(stray)[0]} is for a training.", HOW_TO_BUILD)
    # There is one start here: numbers in a list are its components.
    is_point = isinstance(start, list) and len(start) > 1 and np.ndim(start) == 1
    own |= _vector_start(thing, tuple(start) if is_point else start, own)
    if "start" in own:
        start = None
    objective = as_objective_of(thing, _several(over), log_scale, **own)
    made = sweep_ = compared = None
    line = objective.line if isinstance(objective, OfLine) else None
    plan = make_plan(line, None, settings.steps, plain(max_seconds), announce)
    if line is not None:
        sweep_ = planned_sweep(line, plan)
        settings = replace(settings, steps=settings.steps if plan is None else plan.steps)
        # Of one parameter it is the settings' rate.
        settings = replace(settings, lr=float(objective.space.rates(own_rates or rate)[0]))
    if from_log is not None:
        from gabordiag.diagnosis.log.comparison import run_from_log
        from gabordiag.diagnosis.log.readers import read_logs

        logs = read_logs(from_log, objective.space.names)
        known = None if sweep_ is None else sweep_.landscape
        rates = objective.space.rates(own_rates or rate, rate)
        made, compared = run_from_log(objective, settings, known, logs, rates)
    from gabordiag.diagnosis.verdict import diagnose_objective

    diagnosis = diagnose_objective(
        objective, settings, start, own_rates,
        sweep=sweep_, made_run=made, compared=None if compared is None else compared.finding,
        listener=listener, progress=progress,
    )  # fmt: skip
    left_out = diagnosis.sweep.left_out if diagnosis.sweep else ()
    more = [*_held(objective), *(f"Left out for want of time: {text}." for text in left_out)]
    more += [compared.note] if compared is not None and compared.note else []
    return replace(diagnosis, headline=" ".join((diagnosis.headline, *more)))


@public
def plane_basins(
    thing: Any,
    starts: tuple[str, str],
    optimizer: OptimizerName = "sgd",
    lr: Number | Mapping[str, Number] = 0.01,
    momentum: Number = 0.0,
    steps: int = 500,
    *,
    points: tuple[int, int] | int = PLANE_POINTS,
    nesterov: bool = False,
    progress: Progress | None = None,
    **own: Unpack[OwnOptionsAndStart],
) -> PlaneBasins:
    """Returns which starts of a plane of two parameters reach the target, at one learning rate.

    Args:
        thing: An `Experiment`, or your own function or module.
        starts: The two parameters, both learned; others are held at their start.
        optimizer: Any elementwise optimizer of torch.optim.
        lr: Learning rate, or one for each parameter by name (0.01 for the other).
        momentum: For the optimizers that take it.
        steps: Optimizer steps.
        points: Starts along each parameter.
        nesterov: For sgd with momentum.
        progress: Called now and then with (steps done, steps in all).
        own: As in `as_objective`.

    Raises:
        UsageError: Names, rates or points that cannot be.
        InputError: The image cannot be used, your code failed, or the loss is too fine for a map.
    """
    objective = as_plane(thing, starts, **own)
    rate, own_rates = _one_rate(lr)
    settings = OptimizerSettings.of(optimizer, rate, momentum, nesterov, steps=steps)
    return run_plane(objective, settings, _both(plain(points)), own_rates, progress=progress)


@public
def rates(
    training: Training | Callable[[], Training],
    optimizer: OptimizerName = "sgd",
    momentum: Number = 0.0,
    steps: int = 100,
    *,
    nesterov: bool = False,
    schedule: ScheduleName = "constant",
    params: str | Sequence[str] = (),
    lr: tuple[Number, Number, int] = (1e-6, 10.0, 15),
    factor: Number = 1.1,
    goal: Number | None = None,
    seed: int = 0,
    seeds: int = 3,
    max_seconds: Number | None = None,
    announce: Callable[[str], object] | None = None,
    progress: Callable[..., None] | None = None,
    checkpoint: str | Path | None = None,
) -> Rates:
    """Returns which learning rates bring a training to a goal, found by training with them.

    Args:
        training: What to train; the model is as it was afterwards.
        optimizer: A name of torch.optim in lower case.
        momentum: For the optimizers that take it.
        steps: Of each training. The smallest rate that works falls as they grow.
        nesterov: For sgd with momentum.
        schedule: A name of `SCHEDULES`, such as `step`, `exponential`, `cosine`.
        params: Parameters or submodules that get a window of their own, such as `gabor.theta`, all
            others at the rate that is recommended for all.
        lr: Lowest and highest rate and how many, log-spaced: the grid that the search begins with.
        factor: To which the borders of the windows are found.
        goal: Loss that trainings have to end at or below, the mean over the first 8 batches.
            Default: the lowest ending's, and 10% of the fall to it above, or two standard
            deviations of its seeds, if they are more.
        seed: First seed of what is random: the order of the batches, dropout.
        seeds: So many trainings have to reach the goal, each with the next seed.
        max_seconds: About how long all trainings may take; fewer are made then.
        announce: Called with how many trainings there are at most, and how long they take.
        progress: Called with (done, in all at most, what is done).
        checkpoint: File that holds what is done until the end: if a call that was killed is
            repeated, it goes on from there, and ends with the same numbers.

    Returns:
        `Rates`, with its `headline`; `scans[0].recommended` is the rate to take, None where none
        works.

    Raises:
        UsageError: It is no training, or names or numbers cannot be.
        InputError: Your code failed, or the loss is not finite before the first step.

    Example:
        >>> import torch, gabordiag as gd
        >>> x = torch.linspace(-1, 1, 16)[:, None]
        >>> line = gd.Training(torch.nn.Linear(1, 1), [(x, 3 * x)], torch.nn.functional.mse_loss)
        >>> scan = gd.rates(line, lr=(1e-3, 10, 5), factor=2, seeds=1).scans[0]
        >>> scan.lr[scan.reached].min() < scan.recommended < 1  # 2 / L'' is 1.
        True
    """
    from gabordiag.dynamics.rates import RateSearch

    training = as_training(training)
    if not isinstance(training, Training):
        raise UsageError(
            "rates are found by training, and this is no gd.Training.",
            "For anything else basins and diagnose give working_lr.",
        )
    settings = OptimizerSettings.of(
        optimizer, momentum=momentum, nesterov=nesterov, schedule=schedule, steps=steps
    )
    search = RateSearch(
        training, settings, _several(params), _scan(lr), float(factor), plain(goal), seed, seeds,
        progress, checkpoint,
    )  # fmt: skip
    return search.run(plain(max_seconds), announce)


@public
def explore(
    thing: Any,
    optimizer: OptimizerName = "sgd",
    lr: Number = 0.01,
    momentum: Number = 0.0,
    steps: int = SCAN_STEPS,
    *,
    nesterov: bool = False,
    subject: str = "",
    **own: Unpack[OwnOptionsAndStart],
) -> Exploration:
    """Measures what the interactive page needs; `gabordiag.explorer.page` makes the page.

    Optimizer (`sgd`, `adam` or `rmsprop`), rate, momentum and steps are what it opens with; the
    subject is what is explored, in words, for its title; `own` are keywords as in `as_objective`.
    """
    from gabordiag.explorer.exploration import explore_objective, in_float64

    objective = in_float64(as_objective(thing, **own))
    settings = OptimizerSettings.of(optimizer, lr, momentum, nesterov, steps=steps)
    default = "its image" if isinstance(thing, Experiment) else objective.parameter.name
    return explore_objective(objective, settings, subject or default)


@public
def atlas(
    experiment: Experiment,
    *,
    loss: LossName | Sequence[LossName] = ("rmse", "mse"),
    psi: Several = 0.0,
    wavelength: Several = 10.0,
    gamma: Several = 0.5,
    sigma: Several = 4.0,
    starts: int = 16,
    steps: int = SCAN_STEPS,
    ask: Mapping[str, Number] | None = None,
    out: str | Path | None = None,
    workers: int | None = 1,
    scheduler: str | None = None,
    progress: Progress | None = None,
    announce: Callable[[str], object] | None = None,
) -> Atlas:
    """Charts which filters can be learned on which images: every combination, exactly.

    Of every image, loss and filter it finds all minima over theta, runs plain gradient descent from
    the experiment's start and from starts all around at 55 learning rates, and keeps some numbers
    (`gabordiag.charting.landscapes.QUANTITIES`).

    Args:
        experiment: Its images, kernel size, target angle and start; its filter and loss are not
            used.
        loss: Losses.
        psi: Phases of the filter, radians.
        wavelength: Wavelengths, pixels.
        gamma: Aspect ratios.
        sigma: Deviations of the envelope, pixels.
        starts: How many, evenly spread around the target.
        steps: Of every run.
        ask: The filter whose place is sought, by parameter. Default: the question's own.
        out: A Zarr store to write to as results come, and to go on with. Default: none.
        workers: Processes of a local Dask cluster; 1 computes here, without Dask. None: one for
            each core.
        scheduler: The address of a Dask cluster instead.
        progress: Called with the landscapes done and in all.
        announce: Called with the plan, in words, before it begins.

    Returns:
        The quantities over (image, loss, psi, wavelength, gamma, sigma), `to_xarray()` among its
        methods; charts, a prediction for held-out images, and `place(sigma=...)`.

    Raises:
        InputError: A library is missing, the store holds another atlas, or the cluster went away.
        UsageError: An axis without distinct values, or no such parameter in `ask`.
        ParameterError: A filter that cannot exist.

    Example:
        >>> import numpy as np, gabordiag as gd
        >>> chessboard = (np.indices((40, 40)) // 8).sum(axis=0) % 2
        >>> experiment = gd.Experiment(chessboard, kernel_size=11)
        >>> made = gd.atlas(experiment, loss="mse", wavelength=6, sigma=(1.5, 3), starts=4)
        >>> made.columns["certified"].ravel().tolist()
        [1.0, 1.0]
    """
    from gabordiag.charting.atlas import Atlas
    from gabordiag.charting.engine import compute, default_workers, make_plan

    wanted = {"psi": next(iter(_several(psi)), 0.0), **DEFAULT_FILTER, **(ask or {})}
    asked: dict[str, float] = {name: plain(value) for name, value in wanted.items()}
    if stray := sorted(asked.keys() - {"psi", *DEFAULT_FILTER}):
        raise UsageError(f"a filter of the atlas has no {', '.join(stray)}.", "Leave it out.")
    # Refused before anything is computed.
    GaborParameters(experiment.target_theta, **asked)
    axes = {"loss": loss, "psi": psi, "wavelength": wavelength, "gamma": gamma, "sigma": sigma}
    store = _atlas_store(experiment, out, starts, steps, **axes)
    plan = None
    if announce is not None:
        plan = make_plan(store, workers, scheduler)
        announce(plan.words())
    workers = default_workers() if workers is None else workers
    compute(store, workers, scheduler, progress)
    return Atlas(store.columns(), store.grid.settings(), asked, plan)


def plan_atlas(
    experiment: Experiment,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    **settings: Any,
) -> AtlasPlan:
    """Returns how much work an atlas is; keywords as of `atlas`."""
    from gabordiag.charting.engine import make_plan

    return make_plan(_atlas_store(experiment, None, **settings), workers, scheduler)


def _atlas_store(
    experiment: Experiment, out: str | Path | None, starts: int, steps: int, **axes: Any
) -> Store:
    from gabordiag.charting.grid import AXES, Grid
    from gabordiag.charting.store import Store

    values = {name: tuple(plain(v) for v in _several(axes[name])) for name in AXES}
    return Store(Grid(experiment, values, starts, steps), None if out is None else Path(out))


@public
def check(
    kernel: Callable[..., Any] | None = None,
    derivative: Callable[..., Any] | str | None = None,
    wrt: ParameterName = "theta",
) -> Check:
    """Says whether a Gabor kernel, or one of its derivatives, is right.

    Args:
        kernel: A function of (theta, wavelength, sigma, psi, gamma, kernel_size), radians and
            pixels, that returns a kernel (kernel_size, kernel_size).
        derivative: A function of the same arguments that returns a derivative of the kernel, or its
            formula as text.
        wrt: The parameter of the derivative: `theta`, `wavelength`, `sigma`, `psi` or `gamma`.

    Returns:
        A `Check`: `ok`, and in `user` the largest error, relative to the right one's largest value,
        and the known mistake that matches best. With neither argument it checks gabordiag's own
        derivative.

    Raises:
        UsageError: Both, a formula that cannot be read, or arguments that cannot be understood.
        InputError: The function failed, or did not return a kernel.

    Example:
        >>> import gabordiag as gd
        >>> formula = "exp(-(xp^2 + gamma^2 yp^2) / (2 sigma^2)) sin(2 pi xp / lambda + psi)"
        >>> found = gd.check(derivative=formula, wrt="psi")
        >>> found.ok, found.user.best_match
        (False, 'sign_flipped')
    """
    from gabordiag.checks.expressions import parse_expression
    from gabordiag.checks.verify import check_derivative, check_kernel

    if kernel is not None and derivative is not None:
        raise UsageError("a kernel and a derivative are two checks.", "Give one of them.")
    if kernel is not None:
        if wrt != DEFAULT_PARAMETER:
            raise UsageError("wrt has no effect on a kernel.", "Leave it out.")
        return check_kernel(kernel)
    function = parse_expression(derivative) if isinstance(derivative, str) else derivative
    return check_derivative(function, wrt)


def _both(points: Any) -> Any:
    """Returns how many points each of two parameters has: one number is that of both."""
    return points if points is None or isinstance(points, (list, tuple)) else (points, points)


def _several(value: Any) -> list[Any]:
    if getattr(value, "ndim", 0):  # an array or a tensor
        return list(value.tolist())
    return list(value) if isinstance(value, (list, tuple, range)) else [value]
