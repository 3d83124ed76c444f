"""The sweep's differences of the loss, which nothing but its values goes into."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gabordiag.landscape.sweep import difference_step, numeric_gradient, sweep_objective
from gabordiag.own.custom import own_objective


def ends_at_its_range(value: torch.Tensor) -> torch.Tensor:
    """exp(v) (v - 0.3)^2 on [0, 1], and nowhere else."""
    if not 0 <= value.detach() <= 1:
        raise ValueError("outside")
    return torch.exp(value) * (value - 0.3) ** 2


def true_slope(values: np.ndarray) -> np.ndarray:
    return np.exp(values) * ((values - 0.3) ** 2 + 2 * (values - 0.3))


def test_differences_stay_inside_an_interval_and_are_its_slopes():
    objective = own_objective(ends_at_its_range, range=(0.0, 1.0))
    step = difference_step(objective)
    values = np.array([0.0, 0.4 * step, 0.3, 0.77, 1 - 0.4 * step, 1.0])
    slopes = numeric_gradient(objective, values, step)
    # Truncation, h^2 / 3 of a third derivative below 30; and some roundings of the loss over h.
    tolerance = 10 * step**2 + 32 * np.finfo(np.float64).eps / step
    np.testing.assert_allclose(slopes, true_slope(values), rtol=0, atol=tolerance)


def test_a_function_that_ends_at_its_range_is_swept_to_both_ends():
    swept = sweep_objective(own_objective(ends_at_its_range, range=(0.0, 1.0)), 11)
    np.testing.assert_allclose(swept.grad_numeric, true_slope(swept.values), atol=1e-7)
    assert swept.gradient_check.analytic_vs_numeric < 1e-7


def test_a_range_wider_than_the_parameters_own_is_the_users_to_answer_for():
    objective = own_objective(lambda v: (v - 0.3) ** 3, range=(0.0, 1.0))
    values = np.array([-0.5, 0.0, 1.0, 1.5])
    slopes = numeric_gradient(objective, values, difference_step(objective))
    np.testing.assert_allclose(slopes, 3 * (values - 0.3) ** 2, atol=1e-8)


@pytest.mark.parametrize("values", [[-math.pi, 0.2, math.pi], [40.0]])
def test_over_a_period_all_differences_are_central(values):
    objective = own_objective(lambda v: 1 - torch.cos(v), period=2 * math.pi)
    asked: list[float] = []
    plain = objective.loss_at

    def recorded(where: np.ndarray) -> np.ndarray:
        asked.extend(where)
        return plain(where)

    objective.loss_at = recorded  # type: ignore[method-assign]
    slopes = numeric_gradient(objective, np.array(values), 1e-5)
    np.testing.assert_allclose(slopes, np.sin(values), atol=1e-9)
    np.testing.assert_allclose(sorted(asked), sorted(v + s for v in values for s in (-1e-5, 1e-5)))
