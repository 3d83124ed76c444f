"""Mini-batches: real optimizers on noisy gradients, and what the noise changes.

Every run on batches has the noise-free run beside it: on all images at every step, from the same
start, with the same settings. Both are judged on the landscape of the loss over all images.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import tail_length
from gabordiag.dynamics.run import Optimization, Run
from gabordiag.landscape.points import CriticalPoint, Landscape
from gabordiag.objective.gabor_line import ShortcutObjective
from gabordiag.objective.gabor_objective import GaborObjective
from gabordiag.objective.objective import OfLine
from gabordiag.objective.space import FloatArray
from gabordiag.results import finite_or_none

# Batches from which the scatter of the gradient is estimated, to 5%.
NOISE_DRAWS = 200
# Relative to the landscape's steepest gradient: no noise but rounding.
_NO_NOISE = 1e-9
# Epochs longer than so many times 1 / (lr L'') cancel no noise worth mentioning.
_MEMORIES = 3


@dataclass(frozen=True)
class GradientNoise:
    """The standard deviation of a batch's gradient around its mean at one value."""

    value: float
    full_gradient: float
    deviation: float

    def to_dict(self) -> dict[str, float | None]:
        """Returns the fields as JSON takes them."""
        return {name: finite_or_none(number) for name, number in asdict(self).items()}


def with_effects(made: Optimization, batch_size: int) -> Optimization:
    """Says of every run on batches what they changed; each is followed by that on all images."""
    runs: list[Run] = []
    for noisy, free in zip(made.runs[::2], made.runs[1::2], strict=True):
        exact = noisy.objective.line if isinstance(noisy.objective, OfLine) else noisy.objective
        assert isinstance(exact, ShortcutObjective | GaborObjective)
        images = image_count(exact)
        epochs = (len(noisy.trajectory) - 1) * batch_size / images
        # Of several parameters the basins are not known.
        if isinstance(exact, GaborObjective):
            effect, words = _effect_on_several(exact, noisy, free, batch_size)
        else:
            if _hovers_elsewhere(noisy):
                noisy = replace(noisy, outcome="local_minimum")
            effect, words = _effect(exact, noisy, free, batch_size)
        batch = {
            "size": batch_size, "images": images, "epochs": epochs, **effect,
            "explanation": f"Batches of {batch_size} of {images} images ({epochs:.3g} epochs): at "
            f"the start a batch's gradient scatters {words}",
        }  # fmt: skip
        # The exponent of the noise-free map says nothing about a path that is driven by chance.
        noisy = replace(noisy, lyapunov=None, batch=batch, batch_size=batch_size)
        runs += [noisy, replace(free, batch_size=images)]
    return replace(made, runs=tuple(runs))


def _landscape(result: Run) -> Landscape:
    assert result.landscape is not None
    return result.landscape


def image_count(objective: ShortcutObjective | GaborObjective) -> int:
    """Returns how many images the loss is the mean over."""
    return len(objective.experiment.image_set)


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


def _drawn(exact: ShortcutObjective | GaborObjective, size: int) -> Iterator[list[int]]:
    count, generator = image_count(exact), np.random.default_rng([exact.experiment.seed, size])
    for _ in range(NOISE_DRAWS):
        yield generator.choice(count, size, replace=False).tolist()


def measure_noise(exact: ShortcutObjective, value: float, batch_size: int) -> GradientNoise:
    """Returns how the gradients of independently drawn batches scatter at a value."""
    gradients = [
        exact.on_images(images).gradient(value).item() for images in _drawn(exact, batch_size)
    ]
    return GradientNoise(value, exact.gradient(value).item(), float(np.std(gradients, ddof=1)))


def _effect_on_several(
    exact: GaborObjective, noisy: Run, free: Run, size: int
) -> tuple[dict[str, Any], str]:
    """Returns what batches changed in a run of several parameters, as JSON takes it, in words."""
    space = exact.space
    at = space.coordinates(noisy.trajectory.values[0])[None]
    gradients = [exact.on_images(some).loss_and_gradient(at)[1][0] for some in _drawn(exact, size)]
    full, deviation = exact.loss_and_gradient(at)[1][0], np.std(gradients, axis=0, ddof=1)
    scatter = ", ".join(
        f"{name} by {size:.3g} around {slope:.3g}"
        for name, size, slope in zip(space.names, deviation, full, strict=True)
    )
    ends = [f"{space.show(made.final)} ({made.outcome.replace('_', ' ')}" for made in (noisy, free)]
    lowest = [f"{np.nanmin(made.trajectory.landscape_losses):.3g}" for made in (noisy, free)]
    noise = {"full_gradient": space.named(full), "deviation": space.named(deviation)}
    return {"noise_at_start": noise}, (
        f"around the full gradient, {scatter}. With this noise the run ends at {ends[0]}, lowest "
        f"loss over all images {lowest[0]}), without it at {ends[1]}, {lowest[1]})."
    )


def _effect(
    exact: ShortcutObjective, noisy: Run, free: Run, size: int
) -> tuple[dict[str, Any], str]:
    """Returns what batches changed beside the noise-free run, as JSON takes it, and in words.

    The noise at a minimum is at the one in whose basin the run ends; None at a kink, and where the
    tail does not stay in one basin. The steps are the first outside the basin of the start. The
    spread is the standard deviation of the second half of the run, or of its tail if only that
    stays in the basin.
    """
    point, offsets = _end_basin(noisy)
    minimum = spread = predicted = None
    if point is not None and point.kind == "minimum":
        minimum = measure_noise(exact, point.value, size)
        spread = float(offsets.std())
        predicted = _predict_spread(noisy.settings, point, minimum)
    at_start, left = (
        measure_noise(exact, noisy.start, size),
        list(map(_leaves_basin, (noisy, free))),
    )
    effect = {
        "noise_at_start": at_start.to_dict(),
        "noise_at_minimum": minimum and minimum.to_dict(),
        "left_basin_at": left[0],
        "noise_free_left_basin_at": left[1],
        "spread": spread,
        "predicted_spread": predicted,
    }
    end = _rest_words(noisy, minimum, spread, predicted, image_count(exact) / size)
    return effect, f"{_scatter_words(at_start)} {_basin_words(*left)} {end}"


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
    """Returns the stationary spread of plain descent on a quadratic, for independent batches.

    w <- w - lr (L'' w + s n), n independent with variance 1, s the gradient's deviation:
    Var = (1 - lr L'')^2 Var + lr^2 s^2, so Var = lr s^2 / (L'' (2 - lr L'')); for small lr about
    lr s^2 / (2 L'').
    """
    curvature, lr = point.curvature, settings.lr
    if not settings.is_memoryless or curvature is None or not 0 < lr * curvature < 2:
        return None
    return math.sqrt(lr / (curvature * (2 - lr * curvature))) * noise.deviation


def _scatter_words(noise: GradientNoise) -> str:
    text = f"by {noise.deviation:.3g} around the full gradient of {noise.full_gradient:.3g}"
    if noise.full_gradient != 0 and math.isfinite(noise.full_gradient):
        text += f", {noise.deviation / abs(noise.full_gradient):.2g} times its size"
    return text + "."


def _basin_words(noisy: int | None, free: int | None) -> str:
    if noisy is None and free is None:
        return "Neither with this noise nor without it does the run leave the basin of the start."
    if noisy is None:
        return f"Without noise the run leaves the basin of the start at step {free}, with it never."
    if free is None:
        return (
            f"The noise led out of the basin of the start, at step {noisy}; without it the run "
            "never leaves."
        )
    return f"The run leaves the basin of the start at step {noisy}, without noise at step {free}."


def _rest_words(
    noisy: Run,
    noise: GradientNoise | None,
    spread: float | None,
    predicted: float | None,
    epoch: float,
) -> str:
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
    if predicted is None or point.curvature is None:
        return f"{text}."
    text += (
        f"; sqrt(lr s² / (L'' (2 - lr L''))) predicts {show(predicted)} for batches drawn "
        "independently of each other."
    )
    memory = 1 / (noisy.settings.lr * point.curvature)
    if epoch < _MEMORIES * memory:
        text += (
            f" Less is expected: an epoch of {math.ceil(epoch)} steps takes each image once, and "
            f"the run forgets a step only in 1 / (lr L'') = {memory:.0f} steps, so that the noise "
            "of an epoch partly cancels."
        )
    return text
