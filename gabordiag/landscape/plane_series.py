"""The smooth loss over two parameters as one series: for when it is needed millions of times.

Along a period the basis is 1, cos(k phi), sin(k phi); along an interval, Chebyshev polynomials. The
series is a matrix C with loss = u(a)^T C v(b), found from samples on a grid whose size is doubled
until the coefficients have died away; its error is measured between the samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.polynomial import chebyshev

from gabordiag.errors import InputError
from gabordiag.objective.objective import Objective
from gabordiag.objective.space import FloatArray, Parameter

# Last coefficients below this part of the largest mean that the series is long enough: far below
# what moves a run from one basin to another. A tenth of it is dropped.
_TOLERANCE = 1e-10
# Basis functions of each parameter to begin with, and at most; doubled, and odd, in between.
_FIRST_SIZE, _LARGEST_SIZE = 17, 257
# Random places between the samples at which the error is measured.
_CHECKS = 64


@dataclass(frozen=True, eq=False)
class PlaneSeries:
    """The smooth loss S(a, b) and its two slopes, from a matrix of coefficients.

    Attributes:
        parameters: The two.
        coefficients: C (p, q).
        error: Largest error seen between the samples, relative to the largest loss.
        largest: The largest smooth loss among the samples.
    """

    parameters: tuple[Parameter, Parameter]
    coefficients: FloatArray
    error: float
    largest: float

    @cached_property
    def _levels(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """C for the value and both slopes: with u' = M u, u'^T C v = u^T (M^T C) v."""
        first, second = self.parameters
        rows, columns = self.coefficients.shape
        along_a = _differentiation(first, rows).T @ self.coefficients
        return self.coefficients, along_a, self.coefficients @ _differentiation(second, columns)

    def __call__(self, values: FloatArray) -> FloatArray:
        """Returns S, dS/da, dS/db (3, n) at values (n, 2) inside the ranges."""
        rows, columns = self.coefficients.shape
        u = _basis(self.parameters[0], values[:, 0], rows)
        v = _basis(self.parameters[1], values[:, 1], columns)
        return np.stack([(u * (level @ v)).sum(axis=0) for level in self._levels])


def build_plane_series(objective: Objective) -> PlaneSeries:
    """Builds the series of an objective of two parameters over their ranges.

    Raises:
        InputError: The loss does not become a series of moderate length.
    """
    first, second = objective.space.parameters
    sizes = [_FIRST_SIZE, _FIRST_SIZE]
    while True:
        nodes = [_nodes(p, size) for p, size in zip((first, second), sizes, strict=True)]
        grid = np.stack(np.meshgrid(*nodes, indexing="ij"), axis=-1)
        samples = objective.loss_and_gradient(grid.reshape(-1, 2), smooth=True)[0]
        samples = samples.reshape(sizes)
        # One basis function a node: the matrices are square, and well conditioned at these nodes.
        left = np.linalg.inv(_basis(first, nodes[0], sizes[0]).T)
        right = np.linalg.inv(_basis(second, nodes[1], sizes[1]).T)
        coefficients = left @ samples @ right.T
        largest = np.abs(coefficients).max()
        tails = [np.abs(np.take(coefficients, [-1, -2, -3], axis=axis)).max() for axis in (0, 1)]
        if max(tails) <= _TOLERANCE * largest:
            break
        for axis in (0, 1):
            if tails[axis] > _TOLERANCE * largest:
                sizes[axis] = 2 * sizes[axis] - 1
        if max(sizes) > _LARGEST_SIZE:
            raise InputError(
                f"the loss over {first.name} and {second.name} is too fine for a map.",
                "Map one parameter, or a smaller kernel.",
            )
    coefficients = _shorter(coefficients)
    series = PlaneSeries((first, second), coefficients, math.nan, float(np.abs(samples).max()))
    random = np.random.default_rng(0).uniform(0, 1, (_CHECKS, 2))
    low, high = (np.array([getattr(p, end) for p in (first, second)]) for end in ("low", "high"))
    places = low + (high - low) * random
    exact = objective.loss_and_gradient(places, smooth=True)[0]
    error = float(np.abs(series(places)[0] - exact).max() / series.largest)
    return PlaneSeries(series.parameters, coefficients, error, series.largest)


def _nodes(parameter: Parameter, size: int) -> FloatArray:
    """Equispaced over a period, Chebyshev points over an interval."""
    if parameter.period is not None:
        return parameter.low + parameter.period * np.arange(size) / size
    middle, half = (parameter.low + parameter.high) / 2, (parameter.high - parameter.low) / 2
    return np.asarray(middle - half * np.cos(math.pi * (np.arange(size) + 0.5) / size))


def _shorter(coefficients: FloatArray) -> FloatArray:
    """Drops the highest functions, whose coefficients are rounding."""
    used = np.abs(coefficients) > _TOLERANCE / 10 * np.abs(coefficients).max()
    rows, columns = (int(np.flatnonzero(used.any(axis=axis))[-1]) + 1 for axis in (1, 0))
    # Sines come with their cosines: an odd number in all.
    return coefficients[: rows + (rows + 1) % 2, : columns + (columns + 1) % 2]


def _basis(parameter: Parameter, values: FloatArray, size: int) -> FloatArray:
    """Returns the basis functions (size, n) at values (n,); an odd number of them."""
    if parameter.period is None:
        middle, half = (parameter.low + parameter.high) / 2, (parameter.high - parameter.low) / 2
        return np.asarray(chebyshev.chebvander((values - middle) / half, size - 1).T)
    phi = 2 * math.pi / parameter.period * (values - parameter.low)
    waves = np.cumprod(np.tile(np.exp(1j * phi), ((size - 1) // 2, 1)), axis=0)
    # Interleaved, so that the last rows are the highest waves.
    rows = np.stack([waves.real, waves.imag], axis=1).reshape(size - 1, len(values))
    return np.concatenate([np.ones((1, len(values))), rows])


def _differentiation(parameter: Parameter, size: int) -> FloatArray:
    """Returns the matrix M (size, size) with (basis)' = M basis."""
    matrix = np.zeros((size, size))
    if parameter.period is None:
        half = (parameter.high - parameter.low) / 2
        for k in range(1, size):
            derivative = chebyshev.chebder(np.eye(size)[k])
            matrix[k, : len(derivative)] = derivative / half
        return matrix
    for k in range(1, (size + 1) // 2):
        rate = 2 * math.pi * k / parameter.period
        matrix[2 * k - 1, 2 * k], matrix[2 * k, 2 * k - 1] = -rate, rate
    return matrix
