"""What a run folder holds becomes the objects again that it was written from."""

from __future__ import annotations

import math
from dataclasses import fields
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import gabordiag as gd
from gabordiag.dynamics.bifurcation import Bifurcation, run_bifurcation
from gabordiag.dynamics.maps import Basins, run_basins
from gabordiag.landscape.points import Landscape
from gabordiag.landscape.sweep import Sweep, sweep_objective
from gabordiag.objective.gabor_line import along
from gabordiag.objective.space import Parameter
from tests.presentation.test_figures import Valleys, saved, sgd


@cache
def sweeps() -> dict[str, Sweep]:
    pixels = np.random.default_rng(3).random((3, 25, 25))
    small = {"wavelength": 5.0, "sigma": 2.0, "kernel_size": 9}
    one = gd.Experiment(image=pixels[0], **small)
    return {
        "angle": gd.sweep(one, points=41),
        "length": gd.sweep(one, over="sigma", points=41),
        "part": sweep_objective(along(one, "sigma"), 11, 1.5, 2.5),
        "images": gd.sweep(gd.Experiment(images=list(pixels), **small), points=41),
        "function": gd.sweep(lambda v: (v - 1) ** 2 + torch.sin(9 * v), range=(-1.0, 3.0)),
        "no minimum": gd.sweep(lambda v: v, range=(0.0, 1.0), target=0.5),
    }


@pytest.fixture(scope="module", params=range(6))
def sweep(request: pytest.FixtureRequest) -> Sweep:
    return list(sweeps().values())[request.param]


def agree(one: Any, other: Any) -> None:
    """Asserts that all fields of two objects of one class are equal."""
    assert type(one) is type(other)
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b)
        elif field.name in ("landscape", "sweep", "windows"):
            agree(a, b)
        elif field.name == "settings":
            assert (a.optimizer, a.momentum, a.steps) == (b.optimizer, b.momentum, b.steps)
        elif isinstance(a, Parameter):
            assert {**a.__dict__, "is_positive": None} == {**b.__dict__, "is_positive": None}
        elif field.name not in ("survey", "images"):
            assert a == b, field.name


def test_a_landscape_comes_back(sweep: Sweep) -> None:
    landscape = sweep.landscape
    shown = landscape.to_dict()
    restored = Landscape.from_dict(shown)
    agree(restored, landscape)
    assert restored.to_dict() == shown
    for value in np.linspace(landscape.parameter.low, landscape.parameter.high, 7).tolist():
        assert restored.attractor_of(value) == landscape.attractor_of(value)
    assert restored.goal_value == landscape.goal_value
    assert restored.goal == landscape.goal


def test_a_sweep_comes_back(sweep: Sweep) -> None:
    view = saved(sweep.view())
    restored = Sweep.from_view(view)
    agree(restored, sweep)
    assert restored.to_dict() == view.result
    assert restored.landscape.parameter.tolerance == sweep.landscape.parameter.tolerance


@pytest.mark.parametrize("target", [math.pi / 3, None, 0.3])
def test_a_map_comes_back(target: float | None) -> None:
    rates, starts = np.geomspace(0.01, 20, 15), np.linspace(-3, 3, 9)
    basins = run_basins(Valleys(target=target), sgd(1.0, 80, 0.5), rates, starts)
    view = saved(basins.view())
    restored = Basins.from_view(view)
    agree(restored, basins)
    assert restored.to_dict() == view.result


def test_a_bifurcation_comes_back() -> None:
    diagram = run_bifurcation(Valleys(), sgd(1.0, 150), np.geomspace(0.1, 5, 12), tail=60)
    view = saved(diagram.view())
    restored = Bifurcation.from_view(view)
    agree(restored, diagram)
    assert restored.to_dict() == view.result
