"""A loss of two parameters through one series: for when it is needed millions of times.

Its error is not bounded, as that of one parameter is, but measured between the samples.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from gabordiag.errors import InputError
from gabordiag.landscape.series import fit_series
from gabordiag.objective.objective import Objective
from gabordiag.objective.space import FloatArray

# Last coefficients below this part of the largest loss mean that the series is long enough: far
# below what moves a run from one basin to another.
_TOLERANCE = 1e-11
# Nodes of each parameter to begin with, and at most.
_FIRST_NODES, _MOST_NODES = 16, 256
# Random places between the samples at which the error is measured.
_CHECKS = 64
# Below this part of the largest, a square root has lost its digits.
_NEAR_ZERO = 1e-14


class PlaneObjective(Objective):
    """Loss and slopes of two parameters: by the series inside their ranges, exactly outside.

    Attributes:
        smooth: The series of the smooth loss.
        largest: The largest smooth loss among the samples.
        error: Largest error seen between the samples, relative to the largest loss.
    """

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
        low, high = np.array([[p.low, p.high] for p in (first, second)]).T
        places = low + (high - low) * np.random.default_rng(0).uniform(0, 1, (_CHECKS, 2))
        apart = np.abs(self.smooth.value_and_slopes(places)[0] - sample(places)).max()
        self.error = float(apart / self.largest)
        is_open = [parameter.period is None for parameter in (first, second)]
        self._low, self._high = np.where(is_open, [low, high], [[-np.inf], [np.inf]])

    def loss(self, coordinates: Tensor) -> Tensor:
        """Returns the exact loss (n,) at points (n, 2)."""
        return self.objective.loss(coordinates)

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
                level = np.sqrt(np.maximum(level, _NEAR_ZERO * self.largest))
            slopes = [slope / (2 * level) for slope in slopes]
        result[inside] = np.stack([level, *slopes], axis=1)
        outside = finite & ~inside
        if outside.any():
            losses, exact = self.objective.loss_and_gradient(values[outside], smooth=smooth)
            result[outside] = np.concatenate([losses[:, None], exact], axis=1)
        return result[:, 0], result[:, 1:]
