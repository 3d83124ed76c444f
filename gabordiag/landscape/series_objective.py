"""An expensive objective through its series: evaluated some hundred times, used for all the rest.

Where the series loses digits (near the zero of a root) or says nothing (outside an interval), the
user's module is asked. For a map over two parameters, which needs the loss millions of times, the
Gabor experiment goes through one, too: its error is measured between the samples, not bounded.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gabordiag.errors import InputError
from gabordiag.landscape.sampled import known_values
from gabordiag.landscape.series import build_series, fit_series
from gabordiag.objective.objective import Line, Objective
from gabordiag.objective.space import FloatArray
from gabordiag.own.evaluation import OwnObjective

# Below this part of the largest value, the square root of a series has lost half its digits.
_NEAR_ZERO = 1e-6
# A series is used instead of its objective when it is at least this good.
_GOOD_ENOUGH = 1e-4
# Of a range: values nearer to each other than such a part of it are not told apart.
_KNOTS = 512
# Fractions of the range at which series and objective are compared; generic.
_COMPARED = (0.1573094, 0.4142136, 0.7320508)
# Last coefficients below this part of the largest loss mean that the series is long enough: far
# below what moves a run from one basin to another.
_TOLERANCE = 1e-11
# Nodes of each parameter to begin with, and at most.
_FIRST_NODES, _MOST_NODES = 16, 256
# Random places between the samples at which the error is measured.
_CHECKS = 64
# Below this part of the largest, a square root has lost its digits.
_AT_ZERO = 1e-14


class SeriesObjective(Line):
    """An objective through its series; float64, differentiable as often as one likes."""

    def __init__(self, original: Line) -> None:
        self.original, self.parameter = original, original.parameter
        self.series = build_series(original)
        self.loss_name, self.is_root = original.loss_name, original.is_root
        waves = self.series.smooth.waves
        self._cosines, self._sines = torch.tensor(waves.real), torch.tensor(-waves.imag)

    def loss(self, values: Tensor, *, smooth: bool = False) -> Tensor:
        """Returns the loss (n,) at the values (n,), without its root, if `smooth`."""
        result = self._sum(values)
        # Near zero the value is the objective's: a series has no digits left there, nor the sign.
        # The slope, which needs no more digits, is the series', because the objective's own may be
        # what is broken.
        near = result.detach().abs() < _NEAR_ZERO * self.series.smooth.bound(0)
        exact = self._ask(result.detach(), values.detach(), near)
        result = result + (exact - result).detach()
        if self.parameter.period is None:
            outside = (values < self.parameter.low) | (values > self.parameter.high)
            result = self._ask(result, values, outside)
        return result.sqrt() if self.is_root and not smooth else result

    def _ask(self, result: Tensor, values: Tensor, where: Tensor) -> Tensor:
        if not bool(where.any()):
            return result
        exact = self.original.loss(values[where].to(self.original.dtype), smooth=True)
        return torch.index_copy(result, 0, torch.nonzero(where).flatten(), exact.to(result))

    def squared(self) -> SeriesObjective | None:
        """Returns the same objective with the root of its loss taken away, or None without one."""
        original = self.original.squared()
        return None if original is None else type(self)(original)

    @cached_property
    def shortcut_error(self) -> float:
        """Largest error of the loss against the objective, relative to the largest loss."""
        parameter = self.parameter
        values = parameter.low + parameter.width * np.array(_COMPARED)
        apart = np.abs(self.loss_at(values) - self.original.loss_at(values))
        return float(apart.max() / np.abs(self.loss_at(values)).max())

    def _sum(self, values: Tensor) -> Tensor:
        parameter = self.parameter
        if parameter.period is not None:
            phi = (values - parameter.low) * (2 * math.pi / parameter.period)
            waves = phi[:, None] * torch.arange(len(self._cosines), dtype=phi.dtype)
            return torch.cos(waves) @ self._cosines + torch.sin(waves) @ self._sines
        # cos(k phi) = T_k(cos phi) by recurrence: phi itself has no derivative at the ends.
        x = ((parameter.middle - values) / (parameter.width / 2)).clamp(-1.0, 1.0)
        before, now = torch.ones_like(x), x
        total = self._cosines[0] * before
        for coefficient in self._cosines[1:]:
            total = total + coefficient * now
            before, now = now, 2 * x * now - before
        return total


class SampledObjective(SeriesObjective):
    """A slow objective without a series (a network's layers have kinks), by the values it is known.

    Between two of them it is a cubic with the slopes of Fritsch & Butland (1984, doi
    10.1137/0905021), which turns nowhere but where the values do.
    """

    def __init__(self, original: Line) -> None:
        super().__init__(original)
        parameter = self.parameter
        places, losses = known_values(original)
        # Differences of values that are next to each other would be rounding; of those, the lowest
        # count.
        kept = [0, len(places) - 1] if parameter.period is None else [0]
        apart = 2 * parameter.width / _KNOTS
        for index in np.argsort(losses).tolist():
            if np.abs(parameter.offset(places[kept], places[index])).min() >= apart:
                kept.append(index)
        places, losses = places[sorted(kept)], losses[sorted(kept)]
        if parameter.period is not None:
            # Two knots on from either end, so that the slopes at the end are those of any place.
            turns = np.repeat([-1, 0, 1], [2, len(places), 2])
            places = np.pad(places, 2, mode="wrap") + turns * parameter.period
            losses = np.pad(losses, 2, mode="wrap")
        slopes = _monotone_slopes(places, losses)
        self._knots, self._values, self._rates = map(torch.from_numpy, (places, losses, slopes))

    def _sum(self, values: Tensor) -> Tensor:
        parameter = self.parameter
        if parameter.period is not None:
            turns = torch.floor((values.detach() - parameter.low) / parameter.period)
            values = values - parameter.period * turns
        index = torch.searchsorted(self._knots, values.detach(), right=True) - 1
        index = index.clamp(0, len(self._knots) - 2)
        width = self._knots[index + 1] - self._knots[index]
        t = (values - self._knots[index]) / width
        near, far = self._values[index], self._values[index + 1]
        leaving, arriving = width * self._rates[index], width * self._rates[index + 1]
        bend = 3 * (far - near) - 2 * leaving - arriving
        twist = 2 * (near - far) + leaving + arriving
        total: Tensor = near + t * (leaving + t * (bend + t * twist))
        return total.clamp(min=0.0) if self.is_root else total


def _monotone_slopes(places: FloatArray, losses: FloatArray) -> FloatArray:
    widths = np.diff(places)
    secants = np.diff(losses) / widths
    before, after = 2 * widths[1:] + widths[:-1], widths[1:] + 2 * widths[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        means = (before + after) / (before / secants[:-1] + after / secants[1:])
    inner = np.where(secants[:-1] * secants[1:] > 0, means, 0.0)
    return np.concatenate([secants[:1], inner, secants[-1:]])


def cheap_objective(objective: Line) -> Line:
    """Returns a user's expensive objective through its series, if that follows it; others as is."""
    if not (isinstance(objective, OwnObjective) and objective.is_expensive):
        return objective
    series = build_series(objective)
    if series.error <= _GOOD_ENOUGH * series.derivative.bound(0):
        return SeriesObjective(objective)
    # Of noise the values say no more than the series.
    return SampledObjective(objective) if objective.is_slow and not series.is_rough else objective


class PlaneObjective(Objective):
    """Loss and slopes of two parameters: by the series inside their ranges, exactly outside."""

    def __init__(self, objective: Objective) -> None:
        self.objective, self.space = objective, objective.space
        self.loss_name, self.is_root = objective.loss_name, objective.is_root
        first, second = self.space.parameters

        def sample(values: FloatArray) -> FloatArray:
            return objective.loss_and_gradient(values, smooth=True)[0]

        counts = [_FIRST_NODES, _FIRST_NODES]
        self.smooth, self.largest, converged = fit_series(
            sample, (first, second), counts, _TOLERANCE, _MOST_NODES
        )
        if not converged:
            raise InputError(
                f"the loss over {first.name} and {second.name} is too fine for a map.",
                "Map one parameter, or a smaller kernel.",
            )
        low, high = self.space.low, self.space.high
        places = low + (high - low) * np.random.default_rng(0).uniform(0, 1, (_CHECKS, 2))
        apart = np.abs(self.smooth.value_and_slopes(places)[0] - sample(places)).max()
        self.error = float(apart / self.largest)
        is_open = [parameter.period is None for parameter in (first, second)]
        self._low, self._high = np.where(is_open, [low, high], [[-np.inf], [np.inf]])

    def loss(self, coordinates: Tensor, *, smooth: bool = False) -> Tensor:
        """Returns the exact loss (n,) at points (n, 2)."""
        return self.objective.loss(coordinates, smooth=smooth)

    def loss_and_gradient(
        self, coordinates: npt.ArrayLike, *, smooth: bool = False
    ) -> tuple[FloatArray, FloatArray]:
        """Returns losses (n,) and slopes (n, 2) at points (n, 2)."""
        values = np.asarray(coordinates, dtype=np.float64)
        finite = np.isfinite(values).all(axis=1)
        inside = finite & ((values >= self._low) & (values <= self._high)).all(axis=1)
        result = np.full((len(values), 3), np.nan)
        level, *slopes = self.smooth.value_and_slopes(values[inside])
        if self.is_root and not smooth:
            with np.errstate(divide="ignore", invalid="ignore"):
                level = np.sqrt(np.maximum(level, _AT_ZERO * self.largest))
            slopes = [slope / (2 * level) for slope in slopes]
        result[inside] = np.stack([level, *slopes], axis=1)
        outside = finite & ~inside
        if outside.any():
            losses, exact = self.objective.loss_and_gradient(values[outside], smooth=smooth)
            result[outside] = np.concatenate([losses[:, None], exact], axis=1)
        return result[:, 0], result[:, 1:]
