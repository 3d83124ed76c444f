"""Surfaces: the grid is the curves' own, and the points found are all that a finer grid shows."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import gabordiag as gd
from gabordiag.errors import UsageError
from gabordiag.landscape.surface import Surface, sweep_surface
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_objective import GaborObjective
from gabordiag.objective.objective import Objective
from gabordiag.objective.space import Parameter, Space

Array = npt.NDArray[np.float64]


class Planted(Objective):
    """-cos(2a) - cos(a) / 2 + (b - 1)^2 (b - 3)^2: twelve critical points, known in closed form.

    Along a: minima at 0 and pi, maxima where cos a = -1/8. Along b: minima at 1 and 3, a maximum
    at 2.
    """

    def __init__(self) -> None:
        self.space = Space(
            (
                Parameter("theta", -math.pi, math.pi, 2 * math.pi, 0.0, 0.5, is_angle=True),
                Parameter("sigma", 0.0, 4.0, None, 1.0, 2.5, unit="px"),
            )
        )
        self.loss_name = "planted"

    def loss(self, coordinates: torch.Tensor, *, smooth: bool = False) -> torch.Tensor:
        a, b = coordinates.unbind(-1)
        return 2 - torch.cos(2 * a) - torch.cos(a) / 2 + ((b - 1) * (b - 3)) ** 2

    def loss_and_gradient(self, coordinates: Any, *, smooth: bool = False) -> tuple[Array, Array]:
        a, b = np.moveaxis(np.asarray(coordinates), -1, 0)
        slopes = [2 * np.sin(2 * a) + np.sin(a) / 2, 4 * (b - 1) * (b - 2) * (b - 3)]
        return self.loss_at(coordinates), np.stack(slopes, axis=-1)


EDGE = math.acos(-1 / 8)


@pytest.mark.parametrize("points", [(13, 9), (40, 31)])
def test_all_planted_points_are_found_and_told_apart(points):
    surface = sweep_surface(Planted(), points)
    # Places with the second derivatives 4 cos 2a + cos(a) / 2 and 4 (3 (b - 2)^2 - 1).
    along_a = [(0.0, 4.5), (math.pi, 3.5), (EDGE, -63 / 16), (-EDGE, -63 / 16)]
    along_b = [(1.0, 8.0), (2.0, -4.0), (3.0, 8.0)]
    kinds = {2: "minimum", 1: "saddle", 0: "maximum"}
    expected = {
        (round(math.cos(a), 6), round(math.sin(a), 6), b): kinds[(u > 0) + (v > 0)]
        for (a, u), (b, v) in itertools.product(along_a, along_b)
    }
    found = {
        (
            round(math.cos(p.values[0]), 6),
            round(math.sin(p.values[0]), 6) + 0.0,
            round(p.values[1], 6),
        ): p.kind
        for p in surface.points
    }
    assert found == expected
    assert len(surface.points) == 12
    (bottom,) = (p for p in surface.points if abs(p.values[0]) < 1e-9 and p.values[1] < 2)
    np.testing.assert_allclose(bottom.eigenvalues, (4.5, 8.0), rtol=1e-9)
    assert [p.is_target for p in surface.points].count(True) == 1


def test_where_the_loss_falls_on_beyond_the_range():
    # Between 1 and 3 it falls towards both; nothing is a minimum.
    surface = sweep_surface(Planted(), (25, 14), ((None, None), (1.5, 2.8)))
    result = surface.to_dict()
    assert result["local_minima"] == []
    assert result["minimum"]["kind"] == "grid point"
    assert result["minimum"]["sigma"] == 2.8
    places = {(round(abs(p["theta"]), 6), p["sigma"]) for p in result["edge_minima"]}
    assert places == {(a, b) for a in (0.0, round(math.pi, 6)) for b in (1.5, 2.8)}
    assert len(result["edge_minima"]) == 4
    inside = sweep_surface(Planted(), (25, 14)).to_dict()
    assert inside["edge_minima"] == []


@pytest.fixture(scope="module")
def small() -> Experiment:
    image = np.random.default_rng(3).random((24, 25))
    return Experiment(image=image, kernel_size=9, sigma=2.0, wavelength=5.0, gamma=1.0, theta0=-1.0)


@pytest.mark.each(3)
@pytest.mark.parametrize("loss", ["rmse", "mse", "cosine"])
@pytest.mark.parametrize("other", ["wavelength", "sigma", "gamma", "psi"])
def test_a_row_is_the_sweep_of_one_parameter(other, loss):
    image = np.random.default_rng(3).random((24, 25))
    experiment = Experiment(
        image=image, kernel_size=9, sigma=2.0, wavelength=4.0, psi=0.5, loss=loss
    )
    value = {"wavelength": 4.0, "sigma": 2.0, "gamma": 0.5, "psi": 0.5}[other]
    sweep = gd.sweep(experiment, over="theta", points=41)
    joint = GaborObjective(experiment, ("theta", other))
    # Of the five values the middle one is the experiment's own.
    surface = sweep_surface(joint, (41, 5), ((None, None), (value / 2, value * 3 / 2)))
    assert surface.b[2] == value
    np.testing.assert_array_equal(surface.a, sweep.values)
    for ours, theirs in ((surface.loss, sweep.loss), (surface.grad_a, sweep.grad_analytic)):
        # The slope of rmse is 0/0 at the target.
        scale = np.nanmax(np.abs(theirs))
        np.testing.assert_allclose(ours[:, 2], theirs, rtol=0, atol=1e-10 * scale)


def test_points_rest_and_the_target_is_among_them(small):
    surface = gd.sweep(small, over=("theta", "wavelength"), points=(61, 61))
    assert isinstance(surface, Surface)
    joint = surface.objective
    places = np.array([point.values for point in surface.points])
    slopes = joint.loss_and_gradient(places, smooth=True)[1]
    scale = np.nanmax(np.abs(surface.grad_a)) * surface.loss.max()
    assert np.abs(slopes).max() < 1e-8 * scale
    (target,) = (point for point in surface.points if point.is_target)
    np.testing.assert_allclose(target.values, (math.pi / 4, 5.0), rtol=1e-9)
    assert target.kind == "kink"
    # Each is what the loss around it says, apart from degenerate ones.
    turns = np.linspace(0, 2 * math.pi, 24, endpoint=False)
    for point in surface.points:
        ring = np.array(point.values) + 1e-3 * np.column_stack([np.cos(turns), np.sin(turns)])
        rises = joint.loss_at(ring) > point.loss
        assert {"minimum": rises.all(), "kink": rises.all(), "maximum": not rises.any()}.get(
            point.kind, True
        )


def test_eigenvalues_are_those_of_the_loss_in_use(small):
    surface = gd.sweep(small, over=("theta", "wavelength"), points=(41, 41))
    result = surface.to_dict()
    others = [p for p in [*result["local_minima"], *result["saddles"]] if p["kind"] != "kink"]
    assert others
    for point in others:
        at = np.array([[point["theta"], point["wavelength"]]])
        expected = np.linalg.eigvalsh(surface.objective.hessian(at)[0])
        np.testing.assert_allclose(point["eigenvalues"], expected, rtol=1e-6)
        if point["kind"] == "minimum":
            assert point["stable_lr"] == 2 / point["eigenvalues"][1]
    (kink,) = (p for p in result["local_minima"] if p["kind"] == "kink")
    assert kink["eigenvalues"] is kink["stable_lr"] is None
    # The steepest and the flattest rise on a small ring around the zero.
    turns = np.linspace(0, math.pi, 1801)
    ring = surface.objective.space.target + 1e-6 * np.column_stack([np.cos(turns), np.sin(turns)])
    rises = surface.objective.loss_at(ring) / 1e-6
    np.testing.assert_allclose(kink["slopes"], [rises.min(), rises.max()], rtol=1e-4)


def test_both_points_forms_and_their_defaults(small):
    pair = ("sigma", "gamma")
    assert gd.sweep(small, over=pair, points=7).loss.shape == (7, 7)
    assert gd.sweep(small, over=list(pair), points=(5, 6)).loss.shape == (5, 6)
    assert gd.sweep(small, over=pair).loss.shape == (181, 181)
    assert len(gd.sweep(small).values) == 721


@pytest.mark.parametrize(
    ("over", "points", "word"),
    [
        (("theta", "theta"), 5, "different"),
        (("theta",), 5, "different"),
        (("theta", "psi", "sigma"), 5, "different"),
        (("theta", "tau"), 5, "tau"),
        (("theta", "sigma"), (5, 1), "empty"),
        ("theta", (5, 5), "one number"),
    ],
)
def test_wrong_surfaces_are_refused(small, over, points, word):
    with pytest.raises(UsageError, match=word):
        gd.sweep(small, over=over, points=points)


def test_ones_own_loss_has_no_surface():
    with pytest.raises(UsageError, match="one parameter"):
        gd.sweep(torch.cos, over=("theta", "sigma"), range=(0, 1))


@pytest.mark.parametrize("name", ["wavelength", "sigma", "gamma"])
def test_positive_parameters_are_swept_above_zero(small, name):
    joint = GaborObjective(small, ("theta", name))
    for low in (-1.0, 0.0):
        with pytest.raises(UsageError, match="above 0"):
            sweep_surface(joint, (5, 5), ((None, None), (low, 3.0)))


def test_single_precision_finds_the_same_points(small):
    pair, points = ("theta", "wavelength"), (41, 41)
    double = gd.sweep(small, over=pair, points=points)
    single = gd.sweep(dataclasses.replace(small, dtype="float32"), over=pair, points=points)
    assert len(double.points) > 2
    assert single.objective.dtype == torch.float32
    assert [point.kind for point in single.points] == [point.kind for point in double.points]
    places = [np.array([point.values for point in s.points]) for s in (single, double)]
    np.testing.assert_allclose(*places, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(single.loss, double.loss, rtol=0, atol=1e-5 * double.loss.max())


class Flat(Planted):
    """Says nothing about its parameters."""

    def loss(self, coordinates: torch.Tensor, *, smooth: bool = False) -> torch.Tensor:
        return torch.full((len(coordinates),), 0.25, dtype=torch.float64)

    def loss_and_gradient(self, coordinates: Any, *, smooth: bool = False) -> tuple[Array, Array]:
        return self.loss_at(coordinates), np.zeros(np.shape(coordinates))


def test_a_flat_loss_has_no_points_and_draws():
    surface = sweep_surface(Flat(), (5, 6))
    assert surface.points == ()
    result = surface.to_dict()
    assert result["minimum"]["loss"] == 0.25
    assert result["local_minima"] == result["edge_minima"] == []
    surface.plot()


def lowest_points(loss: Array, periodic: tuple[bool, bool]) -> npt.NDArray[np.intp]:
    """Returns the grid points (n, 2) not above any neighbour, those on an open edge left out.

    A periodic axis has both ends of the period, the same points twice; only the first is given.
    """
    for axis, is_periodic in enumerate(periodic):
        if is_periodic:
            loss = np.delete(loss, -1, axis=axis)
    wrapped = np.pad(loss, [(1, 1) if p else (0, 0) for p in periodic], mode="wrap")
    around = np.lib.stride_tricks.sliding_window_view(wrapped, (3, 3))
    first = np.array([0 if p else 1 for p in periodic])
    return np.argwhere(around[..., 1, 1] <= around.min(axis=(-2, -1))) + first


def test_lowest_points_of_known_grids():
    turns = np.linspace(0, 2 * math.pi, 13)
    grid = np.add.outer(np.cos(turns + math.pi), (np.arange(7.0) - 2) ** 2)
    assert lowest_points(grid, (True, False)).tolist() == [[0, 2]]
    # A slope's lowest point lies on the open edge.
    assert lowest_points(np.add.outer(np.cos(turns), np.arange(7.0)), (True, False)).size == 0


@pytest.mark.slow
@pytest.mark.parametrize("other", ["wavelength", "sigma", "psi"])
def test_no_minimum_of_a_ten_times_finer_grid_is_missed(other):
    experiment = Experiment()
    joint = GaborObjective(experiment, ("theta", other))
    surface = sweep_surface(joint, (61, 61))
    a, b = (np.linspace(v[0], v[-1], 601) for v in (surface.a, surface.b))
    rows = [joint.loss_at(np.stack(np.broadcast_arrays(value, b), axis=-1)) for value in a.tolist()]
    first, second = (parameter.period is not None for parameter in joint.space.parameters)
    lowest = lowest_points(np.array(rows), (first, second))
    found = np.array([point.values for point in surface.minima])
    cell = np.array([a[1] - a[0], b[1] - b[0]])
    assert len(lowest) >= 2
    for i, j in lowest:
        apart = np.abs(joint.space.offsets(found, [a[i], b[j]])) / cell
        assert apart.max(axis=1).min() <= 1.5


def test_a_surface_is_over_two_parameters():
    image = np.random.default_rng(0).random((20, 20))
    experiment = Experiment(image=image, kernel_size=9, wavelength=5.0, sigma=2.0, loss="mse")
    with pytest.raises(UsageError, match="needs two parameters"):
        sweep_surface(GaborObjective(experiment, ("theta", "sigma", "psi")))
    # sigma squared underflows to 0, and the middle of the envelope is exp(-0 / 0).
    with pytest.raises(UsageError, match="not finite everywhere"):
        sweep_surface(
            GaborObjective(experiment, ("theta", "sigma")), (5, 5), ((None, None), (1e-200, 1.0))
        )


def test_an_infinite_slope_makes_no_minimum():
    def loss(v: torch.Tensor) -> torch.Tensor:
        # Along b it is level at b = 0 only, where the slope along a, 1 / (2 sqrt(a)) + 2 a - 1, is
        # smallest at a = 1/4, and 1/2 there: there is no critical point.
        return torch.sqrt(v[0]) * (1 + v[1] ** 2) + v[0] ** 2 - v[0]

    ranges = ((0.0, 1.0), (-1.0, 1.0))
    surface = gd.sweep(loss, over=("v[0]", "v[1]"), range=ranges, start=(0.5, 0.5), points=21)
    assert not np.isfinite(surface.grad_a).all()
    assert surface.points == ()


def test_a_function_that_ends_where_its_ranges_do_is_swept():
    def loss(v: torch.Tensor) -> torch.Tensor:
        if (v[0] < 0.01).any():
            raise ValueError("below the range")
        return (torch.log(v[0]) + 4.3) ** 2 + (v[1] - 1) ** 2

    ranges = ((0.01, 1.0), (0.0, 2.0))
    over = ("v[0]", "v[1]")
    surface = gd.sweep(loss, over=over, range=ranges, start=(0.5, 0.5), points=21)
    (minimum,) = surface.points
    assert minimum.kind == "minimum"
    assert minimum.values == pytest.approx((math.exp(-4.3), 1.0), rel=1e-6)
