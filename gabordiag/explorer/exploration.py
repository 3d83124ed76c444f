"""The data of the interactive page: series, critical points, bounds, thresholds, and a diagnosis.

The page runs the optimizers itself, so nothing here is a table of runs. Every loss comes with its
landscape, in float64, as a known zero times a series, so that a root of it keeps its digits near
that zero. What the page says of the settings it opens with is what `diagnose` says of them.

Near the target the smooth loss S vanishes like the square of the distance. The series of S stops at
rounding there, and its square root at the root of rounding. But a trigonometric polynomial of
degree n with a double zero is (1 - cos u) times one of degree n - 1, and a polynomial is
(value - zero)^2 times another: with

    S = w q,    w = 1 - cos u,  u = 2 pi (value - zero) / period,
                w = (value - zero)^2 / half^2 on an interval of width 2 half,

w is known exactly and q stays away from zero, so that sqrt(S) = |sin(u / 2)| sqrt(2 q) is as good
beside the zero as anywhere.

The response images of every theta are a sum of a few small pictures, which the page shows live. A
response is linear in the kernel, and the responses to the kernels of every theta lie, up to an
invisible error, in a space of some fifteen dimensions. With the principal directions of the
compressed responses, response(theta) = sum_j c_j(theta) R_j: each R_j is one picture, kept in 8
bits at reduced resolution, each c_j a Fourier series. The reduced picture is the mean over blocks
of s x s pixels, which is linear as well: the image is averaged first and correlated with stride s.
Of an image that is still too large, the middle is shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gabordiag.diagnosis.causes import FLAT_RISE, FLAT_SLOPE
from gabordiag.diagnosis.verdict import SHORTEST_TAIL, Diagnosis, diagnose_objective
from gabordiag.dynamics import outcomes
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.theory import bound_entry, stability_bound
from gabordiag.dynamics.windows import SCAN_STEPS, beside_target, suitable_rates
from gabordiag.errors import InputError, UsageError
from gabordiag.landscape.critical import find_critical_points
from gabordiag.landscape.points import Landscape
from gabordiag.landscape.series import Series, build_series
from gabordiag.landscape.series_objective import cheap_objective
from gabordiag.objective.gabor_line import ShortcutObjective
from gabordiag.objective.objective import Line
from gabordiag.objective.response import output_shape
from gabordiag.objective.space import FloatArray, Parameter
from gabordiag.results import Data, Result

# The smooth loss there, relative to its largest value, up to which a zero is taken as exact: it is
# then known to some 1e-13 of the range.
_EXACT_ZERO = 1e-26
# A factored series that fits worse than this, relative to the largest loss, is not used.
_GOOD_ENOUGH = 1e-10
# Samples beyond those that the degree asks for.
_SPARE = 16
# Coefficients below this, relative to the largest, are rounding.
_NEGLIGIBLE = 1e-17
# Points of the check, and an irrational shift of them.
_CHECKED, _SHIFT = 257, 0.41421356
# Largest total size of the pictures in bytes, and largest side in pixels.
_BYTES, _LONGEST = 600_000, 200
# Blocks are at most this part of a wavelength wide: averaging then keeps 83% of a carrier.
_BLOCK_SHARE = 1 / 3
# Root mean square of what is left out, relative to the responses: less than one grey level of 256.
_REST = 0.003
# Angles at which coordinates are sampled, and the relative size below which harmonics are dropped.
_SAMPLES, _UNSEEN = 256, 1e-7
# The largest signed 8-bit number.
_LEVELS = 127
# The optimizers that the page offers: name -> (in words, name in `OPTIMIZERS`, takes momentum).
# `optimizers.js` implements each once more.
OFFERED: dict[str, tuple[str, str, bool]] = {
    "sgd": ("SGD", "sgd", False),
    "heavy_ball": ("SGD with momentum (heavy ball)", "sgd", True),
    "nesterov": ("SGD with Nesterov momentum", "sgd", True),
    "adam": ("Adam", "adam", False),
    "rmsprop": ("RMSprop", "rmsprop", False),
}
# The thresholds of `outcomes.py` that the page decides by, and those of the diagnosis.
_RULES = (
    "TAIL_FRACTION", "MAX_PERIOD", "REPEAT_TOLERANCE", "ROUNDING_MOVE", "PLATEAU_MOVE",
    "PLATEAU_SLOPE", "SETTLED_SHARE", "DESCENT_SHARE", "DECAY_WINDOWS", "DECAY_DROP", "JUMP_RISE",
)  # fmt: skip
_DIAGNOSIS_RULES = {
    "flat_slope": FLAT_SLOPE, "flat_rise": FLAT_RISE, "shortest_tail": SHORTEST_TAIL,
    "scan_steps": SCAN_STEPS,
}  # fmt: skip
# Causes in the loss or its gradient: where one is present, it is the cause of every failure.
_FOR_EVERY_RUN = {
    "no_gradient", "wrong_gradient", "nondeterministic", "flat_objective", "target_unreachable",
}  # fmt: skip
# Largest error of a series, relative to the largest loss, with which the page shows it.
_FOLLOWS = 1e-4


@dataclass(frozen=True, eq=False)
class FactoredSeries:
    """The smooth loss S = w q along its parameter.

    w vanishes at `zero`, and is 1 where that is None; along a period the angle of q may begin
    anywhere. `error` is the largest deviation from the objective on a grid, relative to the largest
    loss.
    """

    parameter: Parameter
    zero: float | None
    quotient: Series
    error: float

    def smooth(self, values: FloatArray) -> FloatArray:
        """Returns S (n,) at values (n,), inside an interval's range."""
        q = self.quotient.value_and_slopes(values[:, None])[0]
        return np.asarray(q * _weight(self.parameter, self.zero, values))

    def to_dict(self) -> dict[str, Any]:
        """Returns what the page evaluates: q = sum_k cosines_k cos(k phi) + sines_k sin(k phi).

        Along a period phi = 2 pi (value - origin) / period begins at the zero, where there is one.
        """
        parameter, c = self.parameter, self.quotient.waves
        origin = parameter.low if self.zero is None else self.zero
        if parameter.period is not None:
            begins = self.quotient.parameters[0].angle(np.array([origin]))
            c = c * np.exp(1j * np.arange(len(c)) * begins)
        return {
            "period": parameter.period,
            "low": parameter.low,
            "high": parameter.high,
            "origin": origin,
            "zero": self.zero,
            "cosines": c.real.tolist(),
            "sines": (-c.imag).tolist() if parameter.period is not None else [],
            "error": self.error,
        }


def factor_series(objective: Line, landscape: Landscape) -> FactoredSeries:
    """Returns the series of the smooth loss with the goal's zero taken out, where it has one."""
    parameter, smooth = objective.parameter, build_series(objective).smooth
    values = parameter.value(parameter.span * (np.arange(_CHECKED) + _SHIFT) / _CHECKED)
    exact = _smooth(objective, values)
    largest = float(np.abs(exact).max())

    def checked(zero: float | None, quotient: Series) -> FactoredSeries:
        series = FactoredSeries(parameter, zero, quotient, 0.0)
        apart = float(np.abs(series.smooth(values) - exact).max())
        return replace(series, error=apart / largest if largest else 0.0)

    plain, zero = checked(None, smooth), landscape.goal_value
    if zero is not None and _smooth(objective, np.array([zero]))[0] <= _EXACT_ZERO * largest:
        factored = checked(zero, _quotient(objective, zero, smooth.degree))
        if factored.error <= max(_GOOD_ENOUGH, 10 * plain.error):
            return factored
    return plain


def _quotient(objective: Line, zero: float, degree: int) -> Series:
    parameter = objective.parameter
    if parameter.period is None:
        # As many nodes as keep the nearest one farthest from the zero.
        at = parameter.angle(np.array([zero]))
        counts = range(degree + _SPARE, degree + 2 * _SPARE)
        count = max(counts, key=lambda n: n * float(np.abs(parameter.nodes(n) - at).min()))
    else:
        # The zero lies halfway between two nodes.
        count = 2 * degree + _SPARE
        low = zero + parameter.period / (2 * count)
        parameter = replace(parameter, low=low, high=low + parameter.period)
    values = parameter.value(parameter.nodes(count))
    samples = _smooth(objective, values) / _weight(parameter, zero, values)
    series = Series.from_samples((parameter,), samples)
    return series.chopped(_NEGLIGIBLE * float(np.abs(series.coefficients).max()))


def _smooth(objective: Line, values: FloatArray) -> FloatArray:
    return np.asarray(objective.derivatives(values, 0, smooth=True)[0])


def _weight(parameter: Parameter, zero: float | None, values: FloatArray) -> FloatArray:
    if zero is None:
        return np.ones_like(values)
    if parameter.period is not None:
        # 1 - cos u without its cancellation.
        half_sine: FloatArray = np.sin(math.pi / parameter.period * (values - zero))
        return 2 * half_sine**2
    return ((values - zero) / (parameter.width / 2)) ** 2


@dataclass(frozen=True, eq=False)
class ResponsePictures:
    """Responses along theta: response(theta) = sum_j c_j(theta) scales_j components_j.

    The r components are 8-bit pictures (r, rows, columns), and with phi = 2 pi theta / period

        c_j(theta) = sum_k cosines[j, k] cos(k phi) + sines[j, k] sin(k phi) .

    The target response, noise included, has the same resolution, as has the image, 8 bits from its
    darkest to its brightest pixel. The block is the side of the square of image pixels averaged
    into one; the rest, the root mean square of what is left out, relative to the responses.
    """

    components: npt.NDArray[np.int8]
    scales: FloatArray
    cosines: FloatArray
    sines: FloatArray
    target: FloatArray
    image: npt.NDArray[np.uint8]
    block: int
    is_whole: bool
    rest: float


def picture_responses(objective: ShortcutObjective) -> ResponsePictures:
    """Returns the responses of an experiment along theta as pictures."""
    experiment, period = objective.experiment, objective.parameter.period
    assert period is not None
    thetas = torch.as_tensor(period * np.arange(_SAMPLES) / _SAMPLES)
    kernels = objective.kernels(thetas).to(dtype=torch.float64, device="cpu")
    responses = objective.compressed(kernels.to(objective.dtype)).double().cpu()
    left, singular, _ = torch.linalg.svd(responses, full_matrices=False)
    rest = (singular.flip(0) ** 2).cumsum(0).flip(0).sqrt() / singular.norm()
    rank = max(1, int((rest > _REST).sum()))
    left, singular = left[:, :rank], singular[:rank]
    # The kernels whose responses are the unit directions: k(theta) = sum_j c_j(theta) kappa_j.
    directions = torch.einsum("nj,nyx->jyx", left / singular, kernels)
    padded, size = experiment.padded, experiment.kernel_size
    crop = _Crop.middle(output_shape(padded, size), experiment.wavelength, rank)
    target_kernel = objective.kernels(torch.tensor([experiment.target_theta])).double().cpu()
    *pictures, target = crop.responses(padded, torch.cat([directions, target_kernel])).numpy()
    if experiment.noise is not None:
        target = target + crop.average(experiment.noise[crop.rows, crop.columns]).numpy()
    scales = np.abs(pictures).max(axis=(1, 2)) / _LEVELS
    scales = np.where(scales > 0, scales, 1.0)
    cosines, sines = _fourier((left * singular).numpy().T)
    half = size // 2
    # The pixels under the centres of the kernels.
    seen = padded[half : len(padded) - half, half : padded.shape[1] - half]
    shown = crop.average(seen[crop.rows, crop.columns]).numpy()
    return ResponsePictures(
        components=np.round(pictures / scales[:, None, None]).astype(np.int8),
        scales=scales,
        cosines=cosines,
        sines=sines,
        target=target,
        image=np.round(255 * (shown - shown.min()) / (np.ptp(shown) or 1.0)).astype(np.uint8),
        block=crop.block,
        is_whole=crop.is_whole,
        rest=float(rest[rank]) if rank < len(rest) else 0.0,
    )


@dataclass(frozen=True)
class _Crop:
    """The rows and columns of a response that are shown, in blocks."""

    rows: slice
    columns: slice
    block: int
    is_whole: bool

    @classmethod
    def middle(cls, shape: tuple[int, int], wavelength: float, count: int) -> _Crop:
        """Cuts the middle out of a response of which so many pictures are shown."""
        side = min(_LONGEST, math.isqrt(_BYTES // count))
        widest = min(math.floor(wavelength * _BLOCK_SHARE), *shape)
        block = max(1, min(math.ceil(max(shape) / side), widest))
        spans = []
        for length in shape:
            shown = min(length // block, side) * block
            first = (length - shown) // 2
            spans.append(slice(first, first + shown))
        hidden = [n - (span.stop - span.start) for n, span in zip(shape, spans, strict=True)]
        return cls(spans[0], spans[1], block, max(hidden) < block)

    def average(self, picture: Tensor) -> Tensor:
        """Returns the means over the blocks of (shown rows, shown columns)."""
        pooled: Tensor = torch.nn.functional.avg_pool2d(picture[None, None], self.block)[0, 0]
        return pooled

    def responses(self, padded: Tensor, kernels: Tensor) -> Tensor:
        """Returns the reduced responses (n, rows, columns) of the kernels (n, K, K)."""
        size, rows, columns = kernels.shape[-1], self.rows, self.columns
        part = padded[rows.start : rows.stop + size - 1, columns.start : columns.stop + size - 1]
        averaged = torch.nn.functional.avg_pool2d(part[None, None], self.block, stride=1)
        # Single precision: the result has 8 bits.
        weights = kernels[:, None].float()
        return torch.nn.functional.conv2d(averaged.float(), weights, stride=self.block)[0].double()


def _fourier(samples: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Returns cosines and sines (r, n + 1) of series sampled evenly over a period (r, m)."""
    spectrum = 2 * np.fft.rfft(samples, axis=1) / samples.shape[1]
    spectrum[:, 0] /= 2
    large = np.abs(spectrum).max(axis=0) > _UNSEEN * np.abs(spectrum).max()
    count = int(np.flatnonzero(large)[-1]) + 1
    return spectrum.real[:, :count], -spectrum.imag[:, :count]


@dataclass(frozen=True, eq=False)
class ExploredLoss:
    """One loss that the page offers: `mse`, `rmse`, or what a custom objective calls its loss."""

    objective: Line
    landscape: Landscape
    series: FactoredSeries

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows, with what the scans of learning rates need."""
        landscape, squared = self.landscape, self.objective.squared()
        plain, tolerance = OptimizerSettings(), landscape.parameter.tolerance
        theories = [stability_bound(point, plain, tolerance) for point in landscape.points]
        scans = {name: suitable_rates(landscape, _settings_of(name)) for name in OFFERED}
        return {
            "is_root": self.objective.is_root,
            # The loss under the root, which the series gives.
            "squared": squared and squared.loss_name,
            "landscape": {**landscape.to_dict(), "goal": landscape.goal_value},
            # Of plain descent; an optimizer's `bound` says which multiple of it is its own.
            "bounds": [t and {"lr": t.bound, "symbol": t.entry.formula} for t in theories],
            "beside_target": beside_target(landscape),
            "scans": {n: {"low": s[0], "high": s[-1], "count": len(s)} for n, s in scans.items()},
            "series": self.series.to_dict(),
        }


@dataclass(frozen=True, eq=False)
class Exploration(Result):
    """Everything that the page needs, and the settings, start and loss that it opens with.

    `diagnosis` is of the run that it opens with; `filter` (constant parameters of the kernel and
    its side) and `pictures` are None for a custom objective, whose name is the `subject`.
    """

    settings: OptimizerSettings
    start: float
    loss_name: str
    losses: tuple[ExploredLoss, ...]
    diagnosis: Diagnosis
    filter: Mapping[str, float] | None
    pictures: ResponsePictures | None
    subject: str

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        settings, pictures = self.settings, self.pictures
        return {
            "subject": self.subject,
            "parameter": self.losses[0].landscape.parameter.name,
            "optimizer": offered_name(settings),
            "loss": self.loss_name,
            "start": self.start,
            "lr": settings.lr,
            "momentum": settings.momentum,
            "steps": settings.steps,
            "losses": {loss.objective.loss_name: loss.to_dict() for loss in self.losses},
            "optimizers": {
                name: {"words": words, "takes_momentum": momentum, "bound": _bound(name)}
                for name, (words, _, momentum) in OFFERED.items()
            },
            "diagnosis": self._diagnosis(),
            "rules": {
                **{name.lower(): getattr(outcomes, name) for name in _RULES},
                **_DIAGNOSIS_RULES,
                "outcomes": dict(outcomes.OUTCOMES),
            },
            "filter": self.filter and dict(self.filter),
            "pictures": pictures
            and {name: getattr(pictures, name) for name in ("block", "is_whole", "rest")},
        }

    def _diagnosis(self) -> dict[str, Any]:
        found = self.diagnosis
        always = next((f for f in found.findings if f.present and f.cause in _FOR_EVERY_RUN), None)
        # Without what the opening run does with the right gradient.
        reason = always and always.explanation.split("; with")[0]
        shown = always and {"cause": always.cause, "explanation": reason}
        return {"verdict": found.verdict, "headline": found.headline, "for_every_run": shown}

    def data(self) -> Data:
        """Returns what is saved as pictures.npz, where there are pictures."""
        if self.pictures is None:
            return {}
        fields = vars(self.pictures).items()
        return {"pictures.npz": {name: v for name, v in fields if isinstance(v, np.ndarray)}}


def _settings_of(name: str) -> OptimizerSettings:
    """Returns the settings of an offered optimizer, with some momentum where it takes any."""
    _, optimizer, takes = OFFERED[name]
    return OptimizerSettings(optimizer, momentum=0.9 if takes else 0.0, nesterov=name == "nesterov")


def _bound(name: str) -> dict[str, Any] | None:
    entry = bound_entry(_settings_of(name))
    return None if entry is None or entry.is_estimate else entry.to_dict()


def offered_name(settings: OptimizerSettings) -> str:
    """Returns the page's name of an optimizer."""
    wanted = (settings.optimizer, settings.momentum > 0, settings.nesterov, settings.schedule)
    for name, (_, optimizer, momentum) in OFFERED.items():
        if (optimizer, momentum, name == "nesterov", "constant") == wanted:
            return name
    *most, last = dict.fromkeys(optimizer for _, optimizer, _ in OFFERED.values())
    raise UsageError(
        f"the page does not offer {settings.label}.",
        f"Use {', '.join(most)} or {last} at a constant rate, --momentum and --nesterov with sgd.",
    )


def explore_objective(objective: Line, settings: OptimizerSettings, subject: str) -> Exploration:
    """Measures all that the page needs, of the experiment along theta or of a custom objective."""
    offered_name(settings)
    constants, pictures, squared = None, None, objective.squared()
    offered = [objective] if squared is None else [objective, squared]
    if isinstance(objective, ShortcutObjective):
        names = dict.fromkeys(["rmse", "mse", objective.loss_name])
        offered = [objective.with_loss(name) for name in names]
        experiment = objective.experiment
        size = experiment.kernel_size
        constants = {**experiment.target_parameters.to_dict(), "kernel_size": size}
        pictures = picture_responses(objective)
    return Exploration(
        settings=settings,
        start=objective.parameter.start,
        loss_name=objective.loss_name,
        losses=tuple(_explore(one) for one in offered),
        diagnosis=diagnose_objective(objective, settings),
        filter=constants,
        pictures=pictures,
        subject=subject,
    )


def _explore(objective: Line) -> ExploredLoss:
    cheap = cheap_objective(objective)
    landscape = find_critical_points(cheap)
    series = factor_series(cheap, landscape)
    if not series.error <= _FOLLOWS:
        raise InputError(
            f"the loss along {objective.parameter.name} has kinks, jumps or noise, so no smooth "
            "series describes it, and the page runs on such a series.",
            "Choose a --range where the loss is smooth, or use `gabordiag optimize`.",
        )
    return ExploredLoss(objective, landscape, series)


def in_float64(objective: Line) -> Line:
    """Returns an experiment's objective in float64 on the CPU; any other unchanged."""
    if not isinstance(objective, ShortcutObjective):
        return objective
    experiment = objective.experiment.on_same_images(dtype="float64", device="cpu")
    return ShortcutObjective(experiment, objective.parameter.name)
