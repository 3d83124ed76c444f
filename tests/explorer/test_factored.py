"""A series with its zero taken out keeps a root's digits beside that zero."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gabordiag.explorer.exploration import factor_series
from gabordiag.landscape.critical import find_critical_points
from gabordiag.landscape.series import build_series
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_line import along
from gabordiag.own.custom import own_objective

ZERO = 0.7
DISTANCES = np.array([0.3, 1e-2, 1e-4, 1e-6, -1e-6, -0.2])


def around(value: torch.Tensor) -> torch.Tensor:
    """A root with period 2 pi and one zero; smooth beneath it."""
    bend = torch.sin((value - ZERO) / 2)
    return torch.abs(bend) * torch.sqrt(2 + torch.cos(3 * value))


def across(value: torch.Tensor) -> torch.Tensor:
    """A root on an interval, with one zero."""
    return torch.abs(value - ZERO) * torch.exp(value / 3)


CASES = {
    "period": (around, {"range": (-math.pi, math.pi), "period": 2 * math.pi}),
    "interval": (across, {"range": (-1.0, 2.0), "period": 0.0}),
}


@pytest.mark.parametrize("name", CASES)
def test_values_of_a_root_beside_its_zero(name):
    function, options = CASES[name]
    objective = own_objective(function, target=ZERO, start=0.1, **options)
    assert objective.is_root
    series = factor_series(objective, find_critical_points(objective))
    assert series.zero == ZERO
    values = ZERO + DISTANCES
    exact = np.array([function(torch.tensor(v, dtype=torch.float64)).item() for v in values])
    # A distance of 1e-6 from 0.7 is itself only known to 1e-10 of it.
    np.testing.assert_allclose(np.sqrt(series.smooth(values)), exact, rtol=1e-9)


def test_the_plain_series_would_not_do():
    """What the factored series is for: the plain one has lost its digits there."""
    objective = along(Experiment(kernel_size=15, wavelength=6.0, sigma=2.5))
    landscape = find_critical_points(objective)
    near = np.array([math.pi / 4 + 1e-6])
    true = objective.derivatives(near, 0, smooth=True)[0]
    factored = factor_series(objective, landscape).smooth(near)
    plain = build_series(objective).evaluate(near)[0]
    assert abs(factored / true - 1) < 1e-8
    assert abs(plain / true - 1) > 1e-6


def test_what_has_no_zero_stays_plain():
    objective = along(Experiment(kernel_size=9, wavelength=5.0, sigma=2.0, target_noise=0.1))
    series = factor_series(objective, find_critical_points(objective))
    assert series.zero is None
    assert series.error < 1e-12
    values = np.linspace(-1.5, 1.5, 7)
    np.testing.assert_allclose(
        np.sqrt(series.smooth(values)), objective.loss_at(values), rtol=1e-12
    )


@pytest.mark.parametrize("name", CASES)
def test_the_json_sums_to_the_quotient(name):
    """cosines and sines as the page adds them up, in plain Python."""
    function, options = CASES[name]
    objective = own_objective(function, target=ZERO, start=0.1, **options)
    series = factor_series(objective, find_critical_points(objective))
    spec, value = series.to_dict(), 1.234
    if spec["period"] is None:
        middle, half = (spec["low"] + spec["high"]) / 2, (spec["high"] - spec["low"]) / 2
        phi, weight = math.acos((middle - value) / half), ((value - ZERO) / half) ** 2
    else:
        phi = 2 * math.pi * (value - spec["origin"]) / spec["period"]
        weight = 1 - math.cos(phi)
    q = sum(a * math.cos(k * phi) for k, a in enumerate(spec["cosines"]))
    q += sum(b * math.sin(k * phi) for k, b in enumerate(spec["sines"]))
    exact = function(torch.tensor(value, dtype=torch.float64)).item() ** 2
    assert q * weight == pytest.approx(exact, rel=1e-11)
