"""Mini-batches: real optimizers on noisy gradients, and what the noise changes.

Every run on batches has the noise-free run beside it: on all images at every step, from the same
start, with the same settings. Both are judged on the landscape of the loss over all images.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from gabordiag.dynamics.descend import descend
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import tail_length
from gabordiag.dynamics.run import Optimization, Run, StepListener, Trajectory, judge, one_step, run
from gabordiag.errors import UsageError
from gabordiag.landscape.critical import CriticalPoint, Landscape
from gabordiag.landscape.sweep import Sweep
from gabordiag.objective.batches import BatchObjective
from gabordiag.objective.gabor_line import DirectObjective, ShortcutObjective
from gabordiag.objective.line import Line
from gabordiag.objective.objective import OfLine
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
    objective: Line,
    exact: Line,
    settings: Sequence[OptimizerSettings],
    starts: Sequence[float],
    batch_size: int,
    *,
    sweep: Sweep,
    listeners: Callable[[int], StepListener | None] = lambda index: None,
) -> Optimization:
    """Runs every setting from every start, on batches of some images and on all images.

    What is descended is `objective`; `exact` is the same through the shortcut, for what is measured
    beside the run. The steps that the listeners of the runs get have a `full_loss`.

    Returns:
        Two runs for each setting and start: on batches, then noise-free. All draw the same batches.

    Raises:
        UsageError: No objective of an experiment.
    """
    if not isinstance(exact, ShortcutObjective):
        raise UsageError("batches need an experiment and its shortcut.", "Give an Experiment.")
    if not isinstance(objective, (ShortcutObjective, DirectObjective)):
        raise UsageError("batches need an experiment to descend on.", "Give an Experiment.")
    runs: list[Run] = []
    images, landscape = image_count(exact), sweep.landscape
    for how, start in itertools.product(settings, starts):
        batches = BatchObjective(objective, batch_size, exact.experiment.seed)
        noisy = _run_batches(batches, exact, how, start, landscape, listeners(len(runs)))
        on_all = _with_full_loss(listeners(len(runs) + 1))
        free = run(exact, how, start, landscape=landscape, listener=on_all, stepped=objective)
        path = replace(free.trajectory, full_losses=free.trajectory.losses)
        free = replace(free, trajectory=path, batch_size=images)
        effect = measure_effect(exact, noisy, free, batch_size)
        runs += [replace(noisy, batch=effect.to_dict(), batch_size=batch_size), free]
    return Optimization(tuple(runs), sweep)


def _landscape(result: Run) -> Landscape:
    assert result.landscape is not None
    return result.landscape


def image_count(objective: ShortcutObjective) -> int:
    """Returns how many images the loss is the mean over."""
    return len(objective.experiment.image_set)


def _with_full_loss(listener: StepListener | None) -> StepListener | None:
    """Adapts a listener of runs on batches to a run whose loss is that of all images."""
    return listener and (lambda step: listener(step._replace(full_loss=step.loss)))


def _run_batches(
    batches: BatchObjective,
    exact: ShortcutObjective,
    settings: OptimizerSettings,
    start: float,
    landscape: Landscape,
    listener: StepListener | None,
) -> Run:
    states, full = [], []
    for state in descend(OfLine(batches), settings, np.array([[start]]), np.array([[settings.lr]])):
        states.append(state)
        full.append(float(exact.loss_at(state.values[0])[0]))
        if listener is not None:
            listener(one_step(state)._replace(full_loss=full[-1]))
    losses = read_only(np.array(full))
    logged = Trajectory.from_states(states, full_losses=losses)
    gradients = read_only(exact.derivatives(logged.value)[1][:, None])
    judged = replace(logged, losses=losses, gradients=gradients)
    result = judge(exact, settings, landscape, judged)
    outcome = "local_minimum" if _hovers_elsewhere(result) else result.outcome
    # The exponent of the noise-free map says nothing about a path that is driven by chance.
    return replace(result, trajectory=logged, outcome=outcome, lyapunov=None)


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
