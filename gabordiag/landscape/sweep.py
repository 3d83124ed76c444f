"""A sweep: the loss and its gradient, three ways, over one parameter.

The three gradients are independent of each other: the closed form, torch's autograd, and
differences of the loss alone. Where they agree, the derivative is right.

Of many images a survey looks at each by itself: what traps the start on the mean of their losses
may be the doing of a few of them or of all. Each image's loss follows from its own Gram matrix, at
no convolution.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from gabordiag.landscape.critical import find_critical_points
from gabordiag.landscape.points import Landscape
from gabordiag.landscape.series_objective import SampledObjective, SeriesObjective, cheap_objective
from gabordiag.landscape.surface import BoolArray
from gabordiag.objective.gabor_line import ShortcutObjective
from gabordiag.objective.objective import Line
from gabordiag.objective.space import FloatArray
from gabordiag.own.numeric import differentiate, follows_closely, measure_fine_noise
from gabordiag.results import Data, Result, View, finite_or_none, read_only

# More images than this are sampled in a survey: some hundredths of a second each.
MOST_SURVEYED = 200
# Over a half turn four a degree, both ends included.
DEFAULT_POINTS, _POINTS_EXPENSIVE = 721, 91
# Columns of sweep.csv.
_GRADIENTS = ("grad_analytic", "grad_autograd", "grad_numeric")
# A disagreement above this part of the largest gradient (CS231n) is looked at more closely.
_SUSPICIOUS = 1e-4
# How well differences over a wide stretch have to be known, and to agree, of the same.
_COARSE = 0.03
# So many errors of the differences away a slope is another.
_BEYOND = 10


@dataclass(frozen=True)
class GradientCheck:
    """Largest disagreements on a sweep, relative to the largest gradient (or loss) on it."""

    analytic_vs_autograd: float | None
    analytic_vs_numeric: float | None
    shortcut_vs_direct: float | None


@dataclass(frozen=True)
class NearStart:
    """Where gradient flow from the start ends on one image's landscape; None in no basin."""

    file: str
    minimum: float | None
    loss: float | None
    is_target: bool
    minima: int
    certified: bool


@dataclass(frozen=True, eq=False)
class Survey:
    """The single images' landscapes, of all or of an even sample, and their losses (images, m)."""

    near_start: tuple[NearStart, ...]
    losses: FloatArray

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows under `images`."""
        return {
            "surveyed": len(self.near_start),
            "spurious": sum(not (i.minimum is None or i.is_target) for i in self.near_start),
            "to_target": sum(image.is_target for image in self.near_start),
            "near_start": [asdict(image) for image in self.near_start],
        }


@dataclass(frozen=True, eq=False)
class Sweep(Result):
    """The loss along one parameter, at values (m,), and its gradient three ways.

    `grad_analytic` is the closed form, NaN where the formula is 0/0. The survey is that of the
    single images of many, if they were looked at; `left_out`, what there was no time for, in
    sentences.
    """

    landscape: Landscape
    loss_name: str
    values: FloatArray
    loss: FloatArray
    grad_analytic: FloatArray
    grad_autograd: FloatArray
    grad_numeric: FloatArray
    gradient_check: GradientCheck
    survey: Survey | None = None
    left_out: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        landscape = self.landscape.to_dict()
        if self.survey is not None:
            landscape["images"] = {**landscape["images"], **self.survey.to_dict()}
        return {
            **landscape,
            "loss": self.loss_name,
            "range": [float(self.values[0]), float(self.values[-1])],
            "parameter_range": landscape["range"],
            "points": len(self.values),
            "gradient_check": asdict(self.gradient_check),
            **({"left_out": list(self.left_out)} if self.left_out else {}),
        }

    @classmethod
    def from_view(cls, view: View) -> Sweep:
        """Returns the sweep of a saved run: the inverse of `view`."""
        saved, table = view.result, view.data["sweep.csv"]
        landscape, survey = Landscape.from_dict(saved), None
        if (images := view.data.get("images.npz")) is not None:
            near_start = tuple(NearStart(**image) for image in saved["images"]["near_start"])
            survey = Survey(near_start, images["losses"])
        return cls(
            landscape=landscape,
            loss_name=saved["loss"],
            values=read_only(table[landscape.parameter.name]),
            **{name: read_only(table[name]) for name in ("loss", *_GRADIENTS)},
            gradient_check=GradientCheck(**saved["gradient_check"]),
            survey=survey,
            left_out=tuple(saved.get("left_out", ())),
        )

    def data(self) -> Data:
        """Returns what is saved as sweep.csv, and of single images as images.npz."""
        columns = {name: getattr(self, name) for name in ("loss", *_GRADIENTS)}
        table = {"sweep.csv": {self.landscape.parameter.name: self.values, **columns}}
        if self.survey is None:
            return table
        return {"images.npz": {"values": self.values, "losses": self.survey.losses}, **table}


def default_points(objective: Line) -> int:
    """Returns how many values a sweep has."""
    return _POINTS_EXPENSIVE if objective.is_expensive else DEFAULT_POINTS


def sweep_objective(
    objective: Line,
    points: int | None = None,
    low: float | None = None,
    high: float | None = None,
    *,
    survey: bool = False,
) -> Sweep:
    """Sweeps an objective over its range, or from `low` to `high`, with both ends included."""
    points = default_points(objective) if points is None else points
    values = objective.parameter.grid(low, high, points)
    loss, autograd = objective.derivatives(values)
    landscape = find_critical_points(objective)
    # What autograd is compared with needs the loss's values alone: of an expensive module, its
    # series gives them.
    cheap = cheap_objective(objective)
    step = difference_step(cheap)
    # What lies between a slow one's values is no judge of slopes.
    is_sampled = isinstance(cheap, SampledObjective)
    analytic = autograd if is_sampled else cheap.gradient(values)
    numeric = numeric_gradient(objective if is_sampled else cheap, values, step)
    gradients = (analytic, autograd, numeric)
    check = _check(objective, landscape, values, gradients, step)
    images = survey_images(objective, values) if survey else None
    values, loss, *columns = map(read_only, (values, loss, *gradients))
    arrays: dict[str, Any] = dict(zip(_GRADIENTS, columns, strict=True))
    name = objective.loss_name
    return Sweep(landscape, name, values, loss, **arrays, gradient_check=check, survey=images)


def resweep(objective: Line, sweep: Sweep) -> Sweep:
    """Returns the sweep over the same values with what has become known of the loss since."""
    low, high = float(sweep.values[0]), float(sweep.values[-1])
    again = sweep_objective(objective, len(sweep.values), low, high)
    return replace(again, left_out=sweep.left_out)


def numeric_gradient(objective: Line, values: FloatArray, step: float) -> FloatArray:
    """Returns the slopes (n,) of the loss at ascending values (n,), from differences of it alone.

    Central ones, (f(v + h) - f(v - h)) / 2h; at the ends of an interval, where a function may end,
    (4 f(v + h) - 3 f(v) - f(v + 2h)) / 2h into the interval. Both err by some h^2.
    """
    parameter = objective.parameter
    inwards = np.zeros(len(values))
    if parameter.period is None:
        # What was asked for beyond the range is taken to be defined.
        low, high = min(parameter.low, values[0]), max(parameter.high, values[-1])
        inwards = np.where(values - step < low, step, np.where(values + step > high, -step, 0.0))
    slopes, look, at_end = np.empty(len(values)), objective.loss_once, inwards != 0
    v = values[~at_end]
    slopes[~at_end] = (look(v + step) - look(v - step)) / (2 * step)
    if at_end.any():
        v, h = values[at_end], inwards[at_end]
        near, far = look(v + h), look(v + 2 * h)
        slopes[at_end] = (4 * near - 3 * look(v) - far) / (2 * h)
    return slopes


def difference_step(objective: Line) -> float:
    """Returns the step of central differences, in the parameter's unit.

    h = eps^(1/3) balances truncation h^2 against cancellation eps / h, on the parameter's scale
    (one radian for angles).
    """
    parameter = objective.parameter
    width = parameter.period if parameter.period is not None else parameter.width
    return float(objective.value_eps ** (1 / 3) * width / (2 * math.pi))


def _check(
    objective: Line,
    landscape: Landscape,
    values: FloatArray,
    gradients: tuple[FloatArray, FloatArray, FloatArray],
    step: float,
) -> GradientCheck:
    analytic, autograd, numeric = gradients
    scale = landscape.largest_gradient
    smooth = np.isfinite(analytic) & np.isfinite(autograd)
    comparable = smooth & _is_differentiable(landscape, values, step) & np.isfinite(numeric)
    comparable[comparable] = ~_is_excused(
        objective, values[comparable], analytic[comparable], numeric[comparable], scale
    )
    return GradientCheck(
        _largest(analytic[smooth] - autograd[smooth], scale),
        _largest(analytic[comparable] - numeric[comparable], scale),
        finite_or_none(objective.shortcut_error),
    )


def _is_excused(
    objective: Line, values: FloatArray, slopes: FloatArray, numeric: FloatArray, scale: float
) -> BoolArray:
    """Whether the difference quotient is wrong, not the slope (n,): closer up, or farther off."""
    excused = np.abs(slopes - numeric) > _SUSPICIOUS * scale
    if not excused.any():
        return excused
    places, asked = values[excused], slopes[excused]
    cheap, parameter = cheap_objective(objective), objective.parameter
    # The loss may end where its range does; `differentiate` steps a tenth of the reach.
    radian, room = parameter.width / (2 * math.pi), parameter.room(places)
    reach = np.where(room > 0, np.minimum(radian, 9 * room), radian)
    noise = measure_fine_noise(cheap.loss_at, parameter.low, parameter.high, objective.value_eps)
    # A loss in few digits is level from one of them to the next, and shows no noise.
    rounding = objective.loss_eps * float(np.abs(cheap.loss_at(places)).max())
    wide = differentiate(cheap.loss_at, places, reach, max(noise, rounding))
    apart, error = np.abs(asked - wide.first), wide.first_error
    # Where noise is all that differences show, they refute nothing.
    allowed = np.where(error <= _COARSE * scale, _COARSE * scale + error, _BEYOND * error)
    fits = apart <= allowed
    excused[excused] = fits | follows_closely(cheap.loss_at, places, asked, reach, noise)
    return excused


def _is_differentiable(landscape: Landscape, values: FloatArray, step: float) -> BoolArray:
    """Whether central differences are a derivative at values (n,): off kinks, inside the range."""
    parameter = landscape.parameter
    result = np.ones(len(values), dtype=np.bool_)
    for point in landscape.points:
        if point.kind == "kink":
            result &= np.abs(parameter.offset(values, point.value)) > 2 * step
    # A loss may end where its range does, or go on in another way.
    return result & (np.abs(parameter.room(values)) >= 2 * step)


def _largest(errors: FloatArray, scale: float) -> float | None:
    if len(errors) == 0 or scale == 0:
        return None
    return finite_or_none(float(np.abs(errors).max()) / scale)


def survey_images(objective: Line, values: FloatArray) -> Survey | None:
    """Looks at every image alone, or at `MOST_SURVEYED` of them, evenly spread, at values (m,).

    None where the objective is over one image, or lacks the images' own Gram matrices.
    """
    if not isinstance(objective, ShortcutObjective) or not objective.has_single_images:
        return None
    images = objective.experiment.image_set
    count = min(len(images), MOST_SURVEYED)
    chosen = [index * len(images) // count for index in range(count)]
    progress = objective.experiment.progress
    losses, found = [], []
    for done, index in enumerate(chosen, 1):
        # Through its series, which the proof needs anyway: half the time.
        alone = SeriesObjective(objective.on_images([index]))
        losses.append(alone.loss_at(values))
        landscape = find_critical_points(alone)
        known = len(landscape.attractors), landscape.certificate.certified
        point = landscape.attractor_of(landscape.parameter.start)
        value, loss = (None, None) if point is None else (point.value, point.loss)
        is_target = point is not None and point.is_target
        found.append(NearStart(images.names[index], value, loss, is_target, *known))
        if progress is not None:
            progress("looking at single images", done, count)
    return Survey(tuple(found), read_only(np.stack(losses)))
