"""Mini-batches: real optimizers on noisy gradients, and what the noise changes.

Every run on batches has the noise-free run beside it: on all images at every step, from the same
start, with the same settings. Both are judged on the landscape of the loss over all images.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from gabordiag.dynamics.descend import descend
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import tail_length
from gabordiag.dynamics.replay import Step, as_steps
from gabordiag.dynamics.run import (
    Optimization,
    Run,
    StepListener,
    Trajectory,
    as_objective_of,
    judge,
    one_step,
    run,
)
from gabordiag.errors import UsageError
from gabordiag.landscape.points import CriticalPoint, Landscape
from gabordiag.landscape.surface import pair_surfaces
from gabordiag.landscape.sweep import Sweep
from gabordiag.objective.batches import Batches
from gabordiag.objective.gabor_line import ShortcutObjective
from gabordiag.objective.gabor_objective import GaborObjective
from gabordiag.objective.line import Line
from gabordiag.objective.objective import Objective, OfLine
from gabordiag.objective.space import FloatArray
from gabordiag.results import finite_or_none, read_only

# Batches from which the scatter of the gradient is estimated, to 5%.
NOISE_DRAWS = 200
# Relative to the landscape's steepest gradient: no noise but rounding.
_NO_NOISE = 1e-9
# Epochs longer than so many times 1 / (lr L'') cancel no noise worth mentioning.
_MEMORIES = 3


@dataclass(frozen=True)
class GradientNoise:
    """How the batches' gradients scatter at one value.

    Attributes:
        value: Of the parameter.
        full_gradient: Of the loss over all images.
        deviation: Standard deviation of a batch's gradient around its mean.
    """

    value: float
    full_gradient: float
    deviation: float

    def to_dict(self) -> dict[str, float | None]:
        """Returns the fields as JSON takes them."""
        return {name: finite_or_none(number) for name, number in asdict(self).items()}


@dataclass(frozen=True)
class BatchEffect:
    """What drawing batches changed in one run.

    Attributes:
        size: Images a step.
        images: Of all.
        epochs: How often the run saw each image.
        noise_at_start: Of the gradient.
        noise_at_minimum: At the one in whose basin the run ends; None at a kink, and where the tail
            does not stay in one basin.
        left_basin_at: First step outside the basin of the start, or None.
        noise_free_left_basin_at: The same of the noise-free run.
        spread: Standard deviation of the second half of the run, or of its tail if only that stays
            in the basin; None where `noise_at_minimum` is.
        predicted_spread: sqrt(lr s^2 / (L'' (2 - lr L''))), with s the gradient's deviation at the
            minimum: the stationary one of plain gradient descent on a quadratic when batches are
            drawn independently; about sqrt(lr s^2 / (2 L'')) for small lr. None elsewhere.
        explanation: All of it in words.
    """

    size: int
    images: int
    epochs: float
    noise_at_start: GradientNoise
    noise_at_minimum: GradientNoise | None
    left_basin_at: int | None
    noise_free_left_basin_at: int | None
    spread: float | None
    predicted_spread: float | None
    explanation: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        minimum = self.noise_at_minimum and self.noise_at_minimum.to_dict()
        noise = {"noise_at_start": self.noise_at_start.to_dict(), "noise_at_minimum": minimum}
        return {**asdict(self), **noise}


def run_all_batches(
    objective: Objective | Line,
    exact: Objective | Line,
    settings: Sequence[OptimizerSettings],
    starts: Sequence[Any],
    batch_size: int,
    lr: Mapping[str, float] | None = None,
    *,
    sweep: Sweep | None = None,
    listeners: Callable[[int], StepListener | None] = lambda index: None,
    logged: Callable[[int], Sequence[Sequence[float]]] = lambda index: (),
) -> Optimization:
    """Runs every setting from every start, on batches of some images and on all images.

    What is descended is `objective`; `exact` is the same through the shortcut, for what is measured
    beside the run. The steps that the listeners of the runs get have a `full_loss`.

    Args:
        objective: The experiment's loss of one parameter or of several.
        exact: As above.
        settings: How, one or several.
        starts: First values, each as `Space.point` takes them.
        batch_size: Images a step.
        lr: Learning rates of single parameters, by name.
        sweep: Of an objective of one parameter.
        listeners: Gives the listener of the index-th run.
        logged: Gives the first rows that the index-th run has logged, if it was interrupted.

    Returns:
        Two runs for each setting and start: on batches, then noise-free. All draw the same batches.

    Raises:
        UsageError: No objective of an experiment.
        InputError: The logged steps are not these runs'.
    """
    stepped, exact = as_objective_of(objective), as_objective_of(exact)
    source = exact.line if isinstance(exact, OfLine) else exact
    if not isinstance(source, ShortcutObjective | GaborObjective):
        raise UsageError("batches need an experiment and its shortcut.", "Give an Experiment.")
    runs: list[Run] = []
    images, landscape = image_count(source), None if sweep is None else sweep.landscape
    for how, start in itertools.product(settings, starts):
        index = len(runs)
        steps, on_all_steps = (as_steps(logged(at), len(exact.space)) for at in (index, index + 1))
        rates = exact.space.rates(how.lr if lr is None else lr, how.lr)
        noisy = _run_batches(
            Batches(stepped, batch_size), exact, how, exact.space.point(start), rates, landscape,
            listeners(index), steps,
        )  # fmt: skip
        free = run(
            exact, how, start, lr, landscape=landscape,
            listener=_with_full_loss(listeners(index + 1)), stepped=stepped, logged=on_all_steps,
        )  # fmt: skip
        path = replace(free.trajectory, full_losses=free.trajectory.losses)
        free = replace(free, trajectory=path, batch_size=images)
        effect = (
            measure_effect(source, noisy, free, batch_size).to_dict()
            if isinstance(source, ShortcutObjective)
            else measure_joint_effect(source, noisy, free, batch_size)
        )
        runs += [replace(noisy, batch=effect, batch_size=batch_size), free]
    if sweep is None:
        return Optimization(tuple(runs), None, pair_surfaces(exact, runs[0].trajectory.values))
    return Optimization(tuple(runs), sweep)


def _landscape(result: Run) -> Landscape:
    assert result.landscape is not None
    return result.landscape


def image_count(objective: ShortcutObjective | GaborObjective) -> int:
    """Returns how many images the loss is the mean over."""
    return len(objective.experiment.image_set)


def _with_full_loss(listener: StepListener | None) -> StepListener | None:
    """Adapts a listener of runs on batches to a run whose loss is that of all images."""
    return listener and (lambda step: listener(step._replace(full_loss=step.loss)))


def _run_batches(
    batches: Objective,
    exact: Objective,
    settings: OptimizerSettings,
    start: FloatArray,
    rates: FloatArray,
    landscape: Landscape | None,
    listener: StepListener | None,
    logged: Sequence[Step],
) -> Run:
    states, full = [], []
    for state in descend(batches, settings, start[None], rates[None], logged):
        states.append(state)
        full.append(float(exact.loss_at(exact.space.coordinates(state.values))[0]))
        if listener is not None and state.step >= len(logged):
            listener(one_step(state)._replace(full_loss=full[-1]))
    losses = read_only(np.array(full))
    path = Trajectory.from_states(states, full_losses=losses)
    gradients = read_only(exact.loss_and_gradient(exact.space.coordinates(path.values))[1])
    judged = replace(path, losses=losses, gradients=gradients)
    result = judge(exact, settings, landscape, judged, rates)
    # Of several parameters the basins are not known.
    hovers = landscape is not None and _hovers_elsewhere(result)
    outcome = "local_minimum" if hovers else result.outcome
    # The exponent of the noise-free map says nothing about a path that is driven by chance.
    return replace(result, trajectory=path, outcome=outcome, lyapunov=None)


def _hovers_elsewhere(result: Run) -> bool:
    """Whether noise alone keeps the run from rest in another minimum than the target."""
    point, offsets = _end_basin(result)
    if point is None or point.is_target or result.outcome in ("reached", "nonfinite", "frozen"):
        return False
    near = max(float(offsets.std()), _landscape(result).parameter.tolerance)
    return abs(float(offsets.mean())) <= near


def _end_basin(result: Run) -> tuple[CriticalPoint | None, FloatArray]:
    """Returns the minimum in whose basin the run ends, if any, and its offsets from there.

    The tail must lie in the basin; the offsets are those of the second half of the run, if that
    does, too: the longer, the better a spread is measured.
    """
    landscape, values = _landscape(result), result.trajectory.value
    found = landscape.basin_of(float(values[-1]))
    if found is None:
        return None, np.empty(0)
    point, basin = found
    for count in (len(values) // 2, tail_length(len(values) - 1)):
        end = values[-count:]
        if end.min() >= basin[0] and end.max() <= basin[1]:
            return point, landscape.parameter.offset(end, point.value)
    return None, np.empty(0)


def measure_noise(exact: ShortcutObjective, value: float, batch_size: int) -> GradientNoise:
    """Returns how the gradients of independently drawn batches scatter at a value."""
    count = image_count(exact)
    generator = np.random.default_rng([exact.experiment.seed, batch_size])
    gradients = [
        exact.on_images(generator.choice(count, batch_size, replace=False).tolist())
        .gradient(value)
        .item()
        for _ in range(NOISE_DRAWS)
    ]
    return GradientNoise(value, exact.gradient(value).item(), float(np.std(gradients, ddof=1)))


def measure_joint_effect(
    exact: GaborObjective, noisy: Run, free: Run, batch_size: int
) -> dict[str, Any]:
    """Returns what drawing batches changed in a run of several parameters, as JSON takes it."""
    space, images = exact.space, image_count(exact)
    at = space.coordinates(noisy.trajectory.values[0])[None]
    generator = np.random.default_rng([exact.experiment.seed, batch_size])
    gradients = [
        exact.on_images(
            generator.choice(images, batch_size, replace=False).tolist()
        ).loss_and_gradient(at)[1][0]
        for _ in range(NOISE_DRAWS)
    ]
    full, deviation = exact.loss_and_gradient(at)[1][0], np.std(gradients, axis=0, ddof=1)
    epochs = (len(noisy.trajectory) - 1) * batch_size / images
    scatter = ", ".join(
        f"{name} by {size:.3g} around {slope:.3g}"
        for name, size, slope in zip(space.names, deviation, full, strict=True)
    )
    lowest = [float(np.nanmin(made.trajectory.landscape_losses)) for made in (noisy, free)]
    return {
        "size": batch_size,
        "images": images,
        "epochs": epochs,
        "noise_at_start": {
            "full_gradient": space.named(full), "deviation": space.named(deviation),
        },
        "explanation": (
            f"Batches of {batch_size} of {images} images ({epochs:.3g} epochs): at the start a "
            f"batch's gradient scatters around the full gradient, {scatter}. With this noise the "
            f"run ends at {space.show(noisy.final)} ({_words(noisy)}, lowest loss over all images "
            f"{lowest[0]:.3g}), without it at {space.show(free.final)} ({_words(free)}, "
            f"{lowest[1]:.3g})."
        ),
    }  # fmt: skip


def _words(result: Run) -> str:
    return result.outcome.replace("_", " ")


def measure_effect(exact: ShortcutObjective, noisy: Run, free: Run, batch_size: int) -> BatchEffect:
    """Compares a run on batches with the noise-free run from the same start."""
    images = image_count(exact)
    point, offsets = _end_basin(noisy)
    minimum = spread = predicted = None
    if point is not None and point.kind == "minimum":
        minimum = measure_noise(exact, point.value, batch_size)
        spread = float(offsets.std())
        predicted = _predict_spread(noisy.settings, point, minimum)
    effect = BatchEffect(
        batch_size,
        images,
        (len(noisy.trajectory) - 1) * batch_size / images,
        measure_noise(exact, noisy.start, batch_size),
        minimum,
        _leaves_basin(noisy),
        _leaves_basin(free),
        spread,
        predicted,
    )
    words = (_scatter_words(effect), _basin_words(effect), _rest_words(effect, noisy))
    return replace(effect, explanation=" ".join(words))


def _leaves_basin(result: Run) -> int | None:
    landscape, values = _landscape(result), result.trajectory.value
    found = landscape.basin_of(result.start)
    if found is None:
        return None
    _, basin = found
    outside = np.flatnonzero(~((values >= basin[0]) & (values <= basin[1])))
    return int(outside[0]) if len(outside) else None


def _predict_spread(
    settings: OptimizerSettings, point: CriticalPoint, noise: GradientNoise
) -> float | None:
    # w <- w - lr (L'' w + s n), n independent with variance 1:
    # Var = (1 - lr L'')^2 Var + lr^2 s^2, so Var = lr s^2 / (L'' (2 - lr L'')).
    curvature, lr = point.curvature, settings.lr
    if not settings.is_gradient_descent or settings.momentum or curvature is None:
        return None
    if not 0 < lr * curvature < 2:
        return None
    return math.sqrt(lr / (curvature * (2 - lr * curvature))) * noise.deviation


def _scatter_words(effect: BatchEffect) -> str:
    noise = effect.noise_at_start
    text = (
        f"Batches of {effect.size} of {effect.images} images ({effect.epochs:.3g} epochs): at the "
        f"start a batch's gradient scatters by {noise.deviation:.3g} around the full gradient of "
        f"{noise.full_gradient:.3g}"
    )
    if noise.full_gradient != 0 and math.isfinite(noise.full_gradient):
        text += f", {noise.deviation / abs(noise.full_gradient):.2g} times its size"
    return text + "."


def _basin_words(effect: BatchEffect) -> str:
    noisy, free = effect.left_basin_at, effect.noise_free_left_basin_at
    if noisy is None:
        if free is None:
            return (
                "Neither with this noise nor without it does the run leave the basin of the start."
            )
        return f"Without noise the run leaves the basin of the start at step {free}, with it never."
    if free is None:
        return (
            f"The noise led out of the basin of the start, at step {noisy}; without it the run "
            "never leaves."
        )
    return f"The run leaves the basin of the start at step {noisy}, without noise at step {free}."


def _rest_words(effect: BatchEffect, noisy: Run) -> str:
    noise, spread = effect.noise_at_minimum, effect.spread
    point, _ = _end_basin(noisy)
    landscape = _landscape(noisy)
    show = landscape.parameter.show
    if point is None:
        return "In the end it stays in no basin."
    if noise is None or spread is None:
        return f"In the end it stays in the basin of the kink at {show(point.value)}."
    text = f"It ends in the basin of {show(point.value)}"
    if noise.deviation <= _NO_NOISE * landscape.largest_gradient:
        return (
            f"{text}; at that minimum the gradient of every image vanishes, and with it the noise "
            "of the batches."
        )
    text += (
        f", where a batch's gradient scatters by {noise.deviation:.3g}, and wanders there by "
        f"{show(spread)} (standard deviation)"
    )
    if effect.predicted_spread is None or point.curvature is None:
        return f"{text}."
    text += (
        f"; sqrt(lr s² / (L'' (2 - lr L''))) predicts {show(effect.predicted_spread)} for batches "
        "drawn independently of each other."
    )
    memory, epoch = 1 / (noisy.settings.lr * point.curvature), effect.images / effect.size
    if epoch < _MEMORIES * memory:
        text += (
            f" Less is expected: an epoch of {math.ceil(epoch)} steps takes each image once, and "
            f"the run forgets a step only in 1 / (lr L'') = {memory:.0f} steps, so that the noise "
            "of an epoch partly cancels."
        )
    return text
