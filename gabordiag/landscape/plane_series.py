"""The smooth loss over two parameters as one series: for when it is needed millions of times.

Its error is not bounded, as that of one parameter is, but measured between the samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gabordiag.errors import InputError
from gabordiag.landscape.series import Series, fit_series
from gabordiag.objective.objective import Objective
from gabordiag.objective.space import FloatArray

# Last coefficients below this part of the largest loss mean that the series is long enough: far
# below what moves a run from one basin to another.
_TOLERANCE = 1e-11
# Nodes of each parameter to begin with, and at most.
_FIRST_NODES, _MOST_NODES = 16, 256
# Random places between the samples at which the error is measured.
_CHECKS = 64


@dataclass(frozen=True, eq=False)
class PlaneSeries:
    """The smooth loss S(a, b) as a series.

    Attributes:
        smooth: S.
        error: Largest error seen between the samples, relative to the largest loss.
        largest: The largest smooth loss among the samples.
    """

    smooth: Series
    error: float
    largest: float


def build_plane_series(objective: Objective) -> PlaneSeries:
    """Builds the series of an objective of two parameters over their ranges.

    Raises:
        InputError: The loss does not become a series of moderate length.
    """
    first, second = objective.space.parameters

    def sample(values: FloatArray) -> FloatArray:
        losses: FloatArray = objective.loss_and_gradient(values, smooth=True)[0]
        return losses

    counts = [_FIRST_NODES, _FIRST_NODES]
    smooth, largest, converged = fit_series(
        sample, (first, second), counts, _TOLERANCE, _MOST_NODES
    )
    if not converged:
        raise InputError(
            f"the loss over {first.name} and {second.name} is too fine for a map.",
            "Map one parameter, or a smaller kernel.",
        )
    low, high = (np.array([getattr(p, end) for p in (first, second)]) for end in ("low", "high"))
    places = low + (high - low) * np.random.default_rng(0).uniform(0, 1, (_CHECKS, 2))
    apart = np.abs(smooth.value_and_slopes(places)[0] - sample(places)).max()
    return PlaneSeries(smooth, float(apart / largest), largest)
