"""One's own function or module: what it is taken for, what it gives, that it stays as it was."""

from __future__ import annotations

import functools
import math
import random
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import gabordiag as gd
from gabordiag.checks.gradient import check_objective
from gabordiag.dynamics.maps import run_basins
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.errors import InputError, UsageError
from gabordiag.landscape.critical import find_critical_points
from gabordiag.landscape.series import build_series
from gabordiag.landscape.series_objective import SeriesObjective, cheap_objective
from gabordiag.landscape.sweep import sweep_objective
from gabordiag.own.custom import own_objective
from gabordiag.own.loading import load_object, public
from gabordiag.own.modules import read_tensor
from gabordiag.own.numeric import differentiate, has_sharp_zero, measure_noise
from gabordiag.own.parameters import is_angle_name
from tests import reference
from tests.own import planted_layers as planted

TARGET = 0.7
X = torch.linspace(0, 2 * math.pi, 50, dtype=torch.float64)


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, 1, 16, 15, dtype=torch.float64, generator=generator)


def assert_resolved(landscape) -> None:
    """Each root has a cell of its own; of a custom loss that is no proof."""
    certificate = landscape.certificate
    assert certificate.is_isolated
    assert not certificate.certified
    assert certificate.basis == "resolved"
    assert 0 < certificate.resolution < landscape.parameter.high - landscape.parameter.low


def sine_loss(f: torch.Tensor) -> torch.Tensor:
    return ((torch.sin(f * X) - torch.sin(X)) ** 2).mean()


def of(module: nn.Module, image: torch.Tensor, **options):
    return own_objective(module, **{"param": "theta", "input": image, "target": TARGET, **options})


class TestFunction:
    def test_loss_and_derivatives(self):
        objective = own_objective(lambda f: torch.exp(-f) * torch.sin(3 * f), range=(0.0, 2.0))
        values = np.array([0.1, 0.9, 1.7])
        e, s, c = np.exp(-values), np.sin(3 * values), np.cos(3 * values)
        expected = [e * s, e * (3 * c - s), e * (-8 * s - 6 * c)]
        np.testing.assert_allclose(objective.derivatives(values, 2), expected, atol=1e-14)
        np.testing.assert_allclose(objective.loss_at(values), expected[0], atol=1e-15)
        assert objective.parameter.name == "f"
        assert (objective.parameter.low, objective.parameter.high) == (0.0, 2.0)
        assert objective.parameter.period is None
        assert objective.parameter.start == 1.0

    def test_a_landscape_is_certified_and_complete(self):
        objective = own_objective(sine_loss, range=(0.1, 3.0), target=1.0)
        landscape = find_critical_points(objective)
        assert_resolved(landscape)
        # The derivative written out, its sign changes on a fine grid.
        x, f = X.numpy(), np.linspace(0.1, 3.0, 20_001)[:, None]
        slope = (2 * (np.sin(f * x) - np.sin(x)) * x * np.cos(f * x)).mean(axis=1)
        changes = f[np.flatnonzero(slope[:-1] * slope[1:] < 0), 0]
        values = [point.value for point in landscape.points]
        np.testing.assert_allclose(values, changes, atol=2 * 2.9 / 20_000)
        assert landscape.target.value == 1.0
        assert landscape.target.loss == 0.0

    def test_values_that_torch_cannot_batch(self):
        objective = own_objective(
            lambda v: torch.tensor(math.exp(-v.item())) + 0 * v, range=(0.0, 1.0)
        )
        assert objective.batch_size == 1
        values = np.linspace(0, 1, 7)
        np.testing.assert_allclose(objective.loss_at(values), np.exp(-values), rtol=1e-6)

    def test_a_batch_is_what_single_evaluations_are(self):
        objective = own_objective(sine_loss, range=(0.1, 3.0))
        assert objective.batch_size > 1
        values = np.linspace(0.2, 2.9, 30)
        single = [objective.loss_at(value)[0] for value in values]
        np.testing.assert_allclose(objective.loss_at(values), single, rtol=1e-13)

    def test_a_float32_inside_is_taken(self):
        def loss(v):
            return nn.functional.conv2d(torch.ones(1, 1, 5, 5), v.expand(1, 1, 3, 3)).mean()

        objective = own_objective(loss, range=(0.0, 1.0))
        assert objective.dtype == torch.float32
        np.testing.assert_allclose(objective.loss_at([0.5]), [4.5], rtol=1e-6)

    def test_differences_inside_at_the_end_and_outside_an_interval(self):
        objective = own_objective(lambda v: torch.as_tensor(v.numpy() ** 3), range=(0.5, 2.0))
        values = np.array([0.5, 1.0, 2.0, 3.0])
        found = objective.derivatives(values, 2, smooth=True)
        # At the ends, a thousandth of the range inside.
        at = np.array([0.5015, 1.0, 1.9985, 3.0])
        np.testing.assert_allclose(found[1], 3 * at**2, rtol=1e-9)
        np.testing.assert_allclose(found[2], 6 * at, rtol=1e-5)

    def test_progress_where_evaluations_go_one_by_one(self):
        objective = own_objective(lambda v: torch.tensor(v.item() ** 2), range=(0.0, 1.0))
        calls = []
        objective.progress = lambda done, total: calls.append((done, total))
        objective.loss_at([0.1, 0.2, 0.3])
        assert calls == [(1, 3), (2, 3), (3, 3)]

    def test_the_gradients_of_a_module_it_holds_on_to_stay_empty(self):
        module = planted.Right()
        objective = own_objective(lambda v: (module.theta - v).square().sum(), range=(-1.0, 1.0))
        loss, slope = objective.losses_and_gradients(objective.tensor(0.3))
        assert loss == pytest.approx((math.pi / 4 + 0.3) ** 2)
        assert slope.item() == pytest.approx(2 * (math.pi / 4 + 0.3))
        assert module.theta.grad is None

    def test_a_root_is_seen(self):
        root = own_objective(lambda f: sine_loss(f).sqrt(), range=(0.1, 3.0))
        assert root.is_root
        assert not own_objective(sine_loss, range=(0.1, 3.0)).is_root
        values = np.array([0.4, 1.3, 2.2])
        plain = own_objective(sine_loss, range=(0.1, 3.0)).derivatives(values, 2)
        np.testing.assert_allclose(root.derivatives(values, 2, smooth=True), plain, rtol=1e-9)
        np.testing.assert_allclose(root.squared().derivatives(values, 2), plain, rtol=1e-9)
        landscape = find_critical_points(root)
        assert_resolved(landscape)
        kink = next(point for point in landscape.points if point.kind == "kink")
        assert kink.value == pytest.approx(1.0, abs=1e-12)
        # sqrt(mean((d x cos x)^2)) = |d| rms(x cos x)
        assert kink.slope == pytest.approx(float((X * torch.cos(X)).square().mean().sqrt()))


def test_what_is_computed_of_a_rewritten_loss_is_not_remembered_of_the_loss():
    objective = own_objective(lambda v: torch.sqrt((v - 1) ** 2 + 4), range=(0.0, 3.0), start=0.2)
    before = objective.known()[0].tolist()
    assert objective.rewritten(squared=True).loss_at([0.125]) == pytest.approx(0.875**2 + 4)
    assert objective.known()[0].tolist() == before


class TestPeriod:
    @pytest.mark.parametrize(
        ("function", "period", "is_angle"),
        [
            (lambda v: torch.sin(v) ** 2 + 0.3 * torch.cos(2 * v), math.pi, True),
            (lambda v: torch.cos(v) + torch.sin(2 * v), 2 * math.pi, True),
            (lambda v: torch.exp(torch.cos(4 * v)), math.pi / 2, True),
            (lambda v: torch.cos(v * math.pi / 90), 180.0, False),
            (lambda v: torch.cos(v * math.pi / 180), 360.0, False),
        ],
    )
    def test_it_is_found(self, function, period, is_angle):
        parameter = own_objective(function).parameter
        assert parameter.period == pytest.approx(period)
        assert parameter.low == pytest.approx(-period / 2)
        assert parameter.is_angle == is_angle

    def test_in_float32_too(self):
        parameter = own_objective(lambda v: torch.sin(v.float()) ** 2 + torch.ones(1)).parameter
        assert parameter.period == pytest.approx(math.pi)

    def test_without_one_a_range_is_needed(self):
        with pytest.raises(UsageError, match=r"(?s)no period.*--range"):
            own_objective(lambda v: v**2)

    def test_the_ranges_own_width(self):
        parameter = own_objective(
            lambda v: torch.cos(2 * math.pi * v / 3), range=(1.0, 4.0)
        ).parameter
        assert parameter.period == 3.0
        assert parameter.low == 1.0

    def test_a_narrower_range_is_an_interval(self):
        parameter = own_objective(torch.cos, range=(0.5, 2.0)).parameter
        assert parameter.period is None
        assert (parameter.low, parameter.high) == (0.5, 2.0)

    def test_a_wider_range_is_one_period(self):
        parameter = own_objective(torch.cos, range=(0.5, 20.0)).parameter
        assert (parameter.low, parameter.high) == pytest.approx((0.5, 0.5 + 2 * math.pi))

    def test_a_typed_width_is_the_period_beside_it(self):
        parameter = own_objective(lambda v: torch.cos(2 * v), range=(-1.5708, 1.5708)).parameter
        assert parameter.period == math.pi

    def test_it_may_be_given_or_refused(self):
        def wave(v):
            return torch.cos(2 * math.pi * v / 0.37)

        assert own_objective(wave, period=0.37).parameter.period == 0.37
        assert own_objective(torch.cos, range=(0, 7), period=0).parameter.period is None
        with pytest.raises(InputError, match=r"does not repeat after 0\.4"):
            own_objective(wave, period=0.4)

    def test_a_name_says_whether_it_is_an_angle(self):
        assert own_objective(lambda theta: theta**2, range=(0.0, 1.0)).parameter.is_angle
        assert not own_objective(lambda width: width**2, range=(0.0, 1.0)).parameter.is_angle
        # In degrees.
        assert not own_objective(lambda theta: theta**2, range=(0.0, 90.0)).parameter.is_angle

    @pytest.mark.parametrize(
        "name",
        [
            "theta",
            "theta0",
            "log_theta",
            "thetas",
            "Psi",
            "bank.angle",
            "layers.0.phi[1,0]",
            "gaborTheta",
            "startAngle",
            "PHI",
        ],
    )
    def test_words_for_angles(self, name):
        assert is_angle_name(name)

    @pytest.mark.parametrize(
        "name", ["epsilon", "triangle", "rectangle_width", "phase.weight", "graph[0]"]
    )
    def test_words_that_only_hold_one(self, name):
        assert not is_angle_name(name)

    @pytest.mark.parametrize(
        "wishes",
        [
            {"range": (1.0, 1.0)},
            {"range": (0.0, math.inf)},
            {"period": -1.0},
            {"range": (0.0, 1.0), "target": 2.0},
            {"range": (0.0, 1.0), "start": -0.1},
        ],
    )
    def test_what_cannot_be(self, wishes):
        with pytest.raises(UsageError):
            own_objective(lambda v: v**2, **wishes)

    def test_a_function_that_ends_at_its_range(self):
        def picky(v):
            if not 0 <= v <= 1:
                raise ValueError("outside")
            return v.sqrt() * 0 + (v - 0.3) ** 2

        landscape = find_critical_points(own_objective(picky, range=(0.0, 1.0)))
        assert [point.value for point in landscape.points] == [pytest.approx(0.3)]


class TestModule:
    @pytest.mark.parametrize("loss", reference.LOSSES)
    def test_the_loss_is_that_of_the_reference(self, image, loss):
        objective = of(planted.Right(), image, loss=loss)
        pixels = image[0, 0].tolist()
        shape = {
            "wavelength": planted.WAVELENGTH,
            "sigma": planted.SIGMA,
            "psi": 0.0,
            "gamma": planted.GAMMA,
        }

        def response(kernel):
            return reference.correlate(pixels, kernel, "valid")

        for theta in (-0.4, 0.2, 1.3):
            output = response(reference.kernel(planted.SIZE, theta=theta, **shape))
            target = response(reference.kernel(planted.SIZE, theta=TARGET, **shape))
            change = response(reference.partial_kernel(planted.SIZE, "theta", theta=theta, **shape))
            level, slope = objective.derivatives([theta])[:, 0]
            assert level == pytest.approx(reference.LOSSES[loss](output, target), rel=1e-10)
            expected = reference.loss_gradient(loss, output, target, change)
            assert slope == pytest.approx(expected, rel=1e-9)

    def test_its_parameter(self, image):
        parameter = of(planted.Right(), image).parameter
        assert parameter.name == "theta"
        assert parameter.period == math.pi
        assert parameter.target == TARGET
        assert parameter.start == -math.pi / 4
        assert parameter.is_angle

    def test_a_cut_graph_has_the_landscape_of_the_whole_one(self, image):
        whole = find_critical_points(of(planted.Right(), image))
        for module in (planted.WritesData(), planted.MakesNewParameter()):
            objective = of(module, image)
            cut = find_critical_points(objective)
            assert_resolved(cut)
            kinds = [(point.kind, point.is_target) for point in whole.points]
            assert [(point.kind, point.is_target) for point in cut.points] == kinds
            np.testing.assert_allclose(
                [point.value for point in cut.points],
                [point.value for point in whole.points],
                atol=1e-7,
            )
            # What an optimizer gets is another matter.
            assert objective.derivatives([0.3])[1, 0] == 0
            assert objective.losses_and_gradients(objective.tensor(0.3))[1] is None

    def test_the_right_way_to_replace_a_weight(self, image):
        right, replaced = of(planted.Right(), image), of(planted.ReplacesWeight(), image)
        values = np.linspace(-1.5, 1.5, 9)
        np.testing.assert_allclose(replaced.derivatives(values), right.derivatives(values))

    def test_a_closure_on_the_original(self, image):
        module = planted.HoldsOnToItself()
        before = snapshot(module)
        objective = of(module, image)
        assert objective.evaluator.is_original
        values = np.linspace(-1.5, 1.5, 9)
        expected = of(planted.Right(), image).derivatives(values)
        np.testing.assert_allclose(objective.derivatives(values), expected)
        assert snapshot(module) == before

    def test_float32_is_followed_to_its_noise(self, image):
        exact = find_critical_points(of(planted.Right(), image))
        objective = of(planted.Right(dtype=torch.float32), image)
        assert objective.dtype == torch.float32
        series = build_series(objective)
        assert 1e-9 < series.noise / series.smooth.bound(0) < 1e-5
        # Beside those that look for dips.
        assert series.samples < 2048 + 500
        landscape = find_critical_points(objective)
        assert_resolved(landscape)
        assert [p.kind for p in landscape.points] == [p.kind for p in exact.points]
        for point, other in zip(landscape.points, exact.points, strict=True):
            assert point.value == pytest.approx(other.value, abs=1e-5)
        # Honest: the error covers the distance to the exact derivative.
        values = np.linspace(-1.5, 1.5, 101)
        apart = (
            series.evaluate(values)[1]
            - of(planted.Right(), image).derivatives(values, 1, smooth=True)[1]
        )
        assert np.abs(apart).max() <= series.error

    def test_noise_is_followed_no_further(self, image):
        objective = of(planted.DropsOut(), image, loss="mse")
        first, second = objective.loss_at(0.3), objective.loss_at(0.3)
        assert first != second
        series = build_series(objective)
        assert series.samples < 1000
        # The mean over all draws: dropout scales by 1 / 0.7, so its variance adds to the loss.
        clean = of(planted.Right(), image, loss="mse").loss_at(0.3)[0]
        assert series.noise > 1e-3 * clean
        assert series.error > series.noise

    def test_an_expensive_module_is_evaluated_some_hundred_times(self, image):
        calls = []

        class Counted(planted.WritesData):
            def forward(self, x):
                calls.append(1)
                return super().forward(x)

        objective = of(Counted(), image)
        assert objective.is_expensive
        cheap = cheap_objective(objective)
        assert isinstance(cheap, SeriesObjective)
        assert_resolved(find_critical_points(cheap))
        cheap.loss_at(np.linspace(-1.5, 1.5, 5000))
        assert len(calls) < 700
        assert cheap.shortcut_error < 1e-12
        exact = of(planted.Right(), image)
        values = np.linspace(-1.5, 1.5, 40)
        np.testing.assert_allclose(
            cheap.derivatives(values), exact.derivatives(values), rtol=1e-8, atol=1e-9
        )
        # The zero of a root keeps its digits.
        assert cheap.loss_at(TARGET)[0] <= 1e-14
        assert cheap_objective(exact) is exact

    def test_nothing_asks_an_expensive_module_more_than_that(self, image):
        calls = []

        class Counted(planted.WritesData):
            def forward(self, x):
                calls.append(1)
                return super().forward(x)

        objective = of(Counted(), image)
        find_critical_points(objective)
        assert len(calls) < 700
        calls.clear()
        # Autograd is asked at every point of a sweep; everything else comes from the series.
        swept = sweep_objective(objective, 101)
        assert len(calls) < 150
        exact = sweep_objective(of(planted.Right(), image), 101)
        np.testing.assert_allclose(swept.grad_numeric, exact.grad_numeric, atol=1e-6)
        calls.clear()
        settings = OptimizerSettings("sgd", steps=200)
        basins = run_basins(objective, settings, np.array([1e-3, 1e-2]), np.linspace(-1, 1, 21))
        assert len(calls) < 800
        # No gradient reaches this module's parameter: the map is that of its values.
        right = run_basins(
            of(planted.Right(), image), settings, np.array([1e-3, 1e-2]), np.linspace(-1, 1, 21)
        )
        np.testing.assert_array_equal(basins.outcomes, right.outcomes)

    @pytest.mark.long
    def test_a_function_that_torch_cannot_batch_is_asked_seldom(self):
        calls = []

        def loss(value):
            calls.append(float(value.detach()))
            return (value - 0.3) ** 2 * torch.cos(value) + 1

        known = {"range": (-1, 1), "start": -0.9, "target": 0.3}
        gd.sweep(loss, **known)
        assert len(calls) <= 400
        calls.clear()
        # Rates that leave the range are tried, too.
        found = gd.diagnose(loss, **known, lr=3.0, steps=500)
        assert found.verdict == "step_too_large"
        assert len(calls) <= 800

    def test_outside_an_interval_the_series_asks_the_objective(self):
        objective = own_objective(lambda v: torch.tensor(math.exp(v.item())).double(), range=(0, 1))
        cheap = cheap_objective(objective)
        assert isinstance(cheap, SeriesObjective)
        inside, outside = cheap.loss_at([0.5])[0], cheap.loss_at([3.0])[0]
        assert inside == pytest.approx(math.exp(0.5), rel=1e-6)
        assert outside == pytest.approx(math.exp(3.0), rel=1e-6)
        assert cheap.gradient([0.5])[0] == pytest.approx(math.exp(0.5), rel=1e-4)

    @pytest.mark.long
    def test_a_kinked_loss_is_not_certified_and_not_sampled_for_ever(self):
        objective = own_objective(lambda v: (v - 0.3).abs() + (v - 0.8).abs(), range=(0.0, 1.0))
        landscape = find_critical_points(objective)
        assert not landscape.certificate.is_isolated
        assert build_series(objective).samples < 20_000


class TestInputs:
    def test_a_matrix_is_an_image_where_forward_takes_only_that(self, image):
        matrix = image[0, 0]
        expected = of(planted.Right(), image).loss_at([0.2, 1.0])
        for same in (matrix, matrix.numpy(), matrix.tolist()):
            np.testing.assert_allclose(of(planted.Right(), same).loss_at([0.2, 1.0]), expected)

    def test_files(self, image, tmp_path):
        expected = of(planted.Right(), image).loss_at([0.2, 1.0])
        np.save(tmp_path / "input.npy", image.numpy())
        objective = of(planted.Right(), str(tmp_path / "input.npy"))
        np.testing.assert_allclose(objective.loss_at([0.2, 1.0]), expected)
        grey = np.random.default_rng(0).integers(0, 256, (16, 15), dtype=np.uint8)
        Image.fromarray(grey).save(tmp_path / "input.png")
        picture = of(planted.Right(), tmp_path / "input.png")
        array = of(planted.Right(), grey[None, None] / 255)
        np.testing.assert_allclose(picture.loss_at([0.2]), array.loss_at([0.2]))

    def test_several_inputs(self):
        class Adds(planted.Layer):
            def forward(self, a, b):
                return a * torch.cos(self.theta) + b

        a, b = torch.tensor([1.0, 2.0]).double(), torch.tensor([0.5, 0.5]).double()
        objective = of(Adds(), (a, b), loss="mse")
        expected = 2.5 * (math.cos(0.2) - math.cos(TARGET)) ** 2
        assert objective.loss_at(0.2)[0] == pytest.approx(expected)

    def test_a_given_output(self, image, tmp_path):
        module = planted.Right(TARGET)
        with torch.no_grad():
            output = module(image)
        np.save(tmp_path / "output.npy", output.numpy())
        expected = of(planted.Right(), image).loss_at([0.2])
        for given in (output, str(tmp_path / "output.npy")):
            objective = of(planted.Right(), image, target=None, target_output=given)
            np.testing.assert_allclose(objective.loss_at([0.2]), expected)
            assert objective.parameter.target is None

    def test_one_output_may_be_the_loss(self):
        class Loss(planted.Layer):
            def forward(self):
                return (1 - torch.cos(self.theta - 0.4)).reshape(1, 1)

        objective = own_objective(Loss(), param="theta")
        assert objective.loss_at(1.0)[0] == pytest.approx(1 - math.cos(0.6))
        assert objective.loss_name == "loss"

    def test_a_loss_of_ones_own(self, image):
        def mean_square(output, target):
            return ((output - target) ** 2).mean()

        objective = of(planted.Right(), image, loss=mean_square)
        expected = of(planted.Right(), image, loss="mse").loss_at([0.2])
        np.testing.assert_allclose(objective.loss_at([0.2]), expected)
        assert not objective.is_root
        assert of(planted.Right(), image, loss=lambda a, b: mean_square(a, b).sqrt()).is_root


class TestElements:
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Module(), nn.Module()])
            self.layers[1].theta = nn.Parameter(torch.tensor([[0.1, 0.2], [0.3, 0.4]]).double())
            self.register_buffer("fixed", torch.zeros(1))
            self.count = nn.Parameter(torch.tensor(3), requires_grad=False)

        def forward(self, x):
            return x * torch.cos(self.layers[1].theta)

    @pytest.mark.parametrize("path", ["layers.1.theta[1,0]", "layers.1.theta[-1, -2]"])
    def test_one_number_of_many(self, path):
        module = self.Two()
        objective = own_objective(
            module, param=path, input=torch.ones(2, 2).double(), target=0.9, loss="mse"
        )
        assert objective.parameter.start == pytest.approx(0.3)
        expected = (math.cos(0.5) - math.cos(0.9)) ** 2 / 4
        assert objective.loss_at(0.5)[0] == pytest.approx(expected)

    @pytest.mark.parametrize(
        ("path", "words"),
        [
            ("theta", "no parameter 'theta'"),
            ("layers.1.theta", "4 are learned"),
            ("layers.1.theta[2,0]", "shape"),
            ("layers.1.theta[0]", "shape"),
            ("fixed", "no torch.nn.Parameter"),
            ("count", "gradients do not reach"),
            ("layers.1.theta[", "not the path of a parameter"),
            (None, "--param"),
        ],
    )
    def test_what_names_none(self, path, words):
        with pytest.raises(UsageError, match=words):
            own_objective(self.Two(), param=path, input=torch.ones(2, 2), target=0.9)

    def test_the_only_number_needs_no_name(self, image):
        assert own_objective(planted.Right(), input=image, target=0.1).parameter.name == "theta"

    def test_tied_parameters(self):
        class Tied(planted.Layer):
            def __init__(self):
                super().__init__()
                self.other = self.theta

            def forward(self):
                return torch.cos(self.theta) * torch.cos(self.other)

        objective = own_objective(Tied(), param="other")
        assert objective.loss_at(0.6)[0] == pytest.approx(math.cos(0.6) ** 2)


class Slope(nn.Module):
    """d/dx sin(w x), as a model of a differential equation computes it."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(1.5, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(torch.sin(self.w * x).sum(), x, create_graph=True)
        return slope


def test_a_forward_may_take_derivatives():
    wanted = 2 * torch.cos(2 * X)
    functions = {
        "function": own_objective(
            lambda w: ((torch.func.functional_call(Slope(), {"w": w}, X) - wanted) ** 2).mean(),
            range=(1, 3),
        ),
        "module": own_objective(
            Slope(), input=X, target_output=wanted, loss="mse", range=(1, 3), param="w"
        ),
    }
    at = np.array([1.5, 2.0, 2.3])
    expected = [float(((w * torch.cos(w * X) - wanted) ** 2).mean()) for w in at]
    for objective in functions.values():
        np.testing.assert_allclose(objective.loss_at(at), expected, rtol=1e-12, atol=1e-25)
    training = gd.Training(Slope(), [(X, wanted)], nn.functional.mse_loss)
    found = gd.diagnose(training, params="w", lr=0.01, steps=200, seeds=0)
    assert found.verdict == "healthy"
    assert found.elements[0].final == pytest.approx(2.0, abs=1e-3)


def test_a_parameter_called_as_a_column_is():
    class Descent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lr = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

        def forward(self):
            return (self.lr - 1) ** 2

    (run,) = gd.optimize(Descent(), param="lr", range=(0, 3), period=0, lr=0.1, steps=2).runs
    table = run.data()["trajectory.csv"]
    # A step takes away a fifth of what is left.
    np.testing.assert_allclose(table["lr_value"], [0.5, 0.6, 0.68])
    assert table["lr"].tolist() == [0.1] * 3


class TestWhatIsTaken:
    def test_factories_and_classes(self, image):
        expected = of(planted.Right(), image).loss_at([0.2])
        for thing in (
            planted.Right,
            lambda: planted.Right(),
            functools.partial(planted.Right, 0.5),
        ):
            np.testing.assert_allclose(of(thing, image).loss_at([0.2]), expected)

    def test_an_optional_argument_is_the_value(self):
        def loss(value=0.5):
            return torch.cos(torch.as_tensor(value))

        assert own_objective(loss).loss_at(0.0)[0] == 1.0

    @pytest.mark.parametrize(
        ("thing", "options", "error", "words"),
        [
            (3, {}, UsageError, "cannot be an objective"),
            (lambda a, b: a, {}, UsageError, "2 arguments"),
            (nn.Linear, {}, UsageError, "needs arguments"),
            (lambda: 3, {"param": "theta"}, InputError, "returns a int"),
            (lambda v: v, {"param": "theta"}, UsageError, "--param is for a module"),
            (lambda v: torch.ones(3) * v, {"range": (0, 1)}, InputError, "not one real number"),
            (lambda v: "loss", {"range": (0, 1)}, InputError, "not a loss"),
            (lambda v: v * 1j, {"range": (0, 1)}, InputError, "not one real number"),
            (lambda v: v.log() / 0, {"range": (-2, -1)}, InputError, "not finite"),
        ],
    )
    def test_the_rest_is_refused(self, thing, options, error, words):
        with pytest.raises(error, match=words):
            own_objective(thing, **options)

    def test_modules_without_a_goal(self, image):
        with pytest.raises(UsageError, match=r"--target VALUE or --target-output"):
            of(planted.Right(), image, target=None)
        with pytest.raises(InputError, match="shape"):
            of(planted.Right(), image, target_output=torch.ones(3))
        with pytest.raises(UsageError, match="loss 'l1' is unknown"):
            of(planted.Right(), image, loss="l1")

    def test_forward_has_to_return_a_tensor(self, image):
        class Pair(planted.Layer):
            def forward(self, x):
                return x, x

        with pytest.raises(InputError, match="tuple"):
            of(Pair(), image)


def snapshot(module: nn.Module) -> list[object]:
    """All that a caller could see of a module: bytes, identities, flags, hooks, attributes."""
    seen: list[object] = []
    for name, part in module.named_modules():
        seen += [name, id(part), part.training]
        for key, value in part.__dict__.items():
            seen += [key, id(value)]
            if isinstance(value, torch.Tensor):
                seen.append(value.detach().numpy().tobytes())
            elif isinstance(value, (dict, list, set)):
                seen += [id(entry) for entry in value]
                seen += [id(entry) for entry in value.values()] if isinstance(value, dict) else []
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        seen += [name, id(tensor), tensor.requires_grad, tensor.dtype, tensor._version]
        seen += [tensor.data_ptr(), tensor.detach().numpy().tobytes(), id(tensor.grad)]
        if tensor.grad is not None:
            seen.append(tensor.grad.numpy().tobytes())
    return seen


class Everything(planted.WithConv):
    """Has all that could be left changed, and changes it in forward."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(1, dtype=torch.float64)
        self.drop = nn.Dropout(0.1)
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.history, self.calls, self.cache = [], 0, torch.zeros(1)
        self.conv.register_forward_hook(lambda part, inputs, output: None)
        self.norm.eval()
        self.theta.grad = torch.tensor(0.25, dtype=torch.float64)

    def forward(self, x):
        self.conv.weight.data = planted.gabor(self.theta)
        self.frozen.data.add_(1)
        self.history.append(self.calls)
        self.calls += 1
        self.cache.add_(1)
        self.eval() if self.training else self.train()
        self.conv.register_forward_hook(lambda part, inputs, output: None)
        self.extra = nn.Linear(1, 1)
        noise = random.random() * np.random.rand()  # noqa: NPY002
        return self.drop(self.norm(self.conv(x))) + 1e-9 * noise


MODULES = [
    Everything,
    planted.WritesData,
    planted.CopiesUnderNoGrad,
    planted.MakesNewParameter,
    planted.ReplacesWeight,
    planted.ComputesInInit,
    planted.HoldsOnToItself,
    planted.Normalises,
    planted.DropsOut,
]


def random_states() -> list[object]:
    legacy = np.random.get_state()  # noqa: NPY002
    return [torch.get_rng_state().numpy().tobytes(), str(legacy), random.getstate()]


class TestNothingIsTouched:
    @pytest.mark.each(3)
    @pytest.mark.parametrize("make", MODULES, ids=[make.__name__ for make in MODULES])
    def test_after_everything_that_is_done_with_it(self, image, make):
        module = make()
        before, drawn = snapshot(module), random_states()
        objective = of(module, image)
        objective.loss_at([0.1, 0.2])
        objective.derivatives([0.1, 0.2], 2)
        objective.losses_and_gradients(objective.tensor(0.4))
        check_objective(objective)
        build_series(objective)
        assert snapshot(module) == before
        assert random_states() == drawn

    def test_when_forward_raises(self, image):
        module = planted.Raises()
        before, drawn = snapshot(module), random_states()
        with pytest.raises(InputError) as caught:
            of(module, image)
        assert snapshot(module) == before
        assert random_states() == drawn
        lines = Path(planted.__file__).read_text().splitlines()
        line = next(i for i, text in enumerate(lines, 1) if "kernel is too large" in text)
        assert f"planted_layers.py, line {line}, in forward" in caught.value.problem
        assert "ValueError: the kernel is too large" in caught.value.problem
        assert isinstance(caught.value.__cause__, ValueError)

    def test_by_public_functions(self):
        def restless(v):
            noise = random.random() + np.random.rand() + float(torch.rand(()))  # noqa: NPY002
            if float(v.detach()) > 1.5:
                raise RuntimeError("trap")
            return (v - 0.3) ** 2 + 1e-3 * noise

        drawn = random_states()
        paths = [
            gd.optimize(restless, start=1.0, range=(-1.5, 1.5), lr=0.1, steps=20) for _ in range(2)
        ]
        assert random_states() == drawn
        # Each draws from streams of its own, which start at the seed.
        np.testing.assert_array_equal(*(found.runs[0].trajectory.losses for found in paths))
        with pytest.raises(InputError, match="trap"):
            gd.sweep(restless, range=(-1.0, 2.0), start=0.0)
        assert random_states() == drawn

    def test_where_two_take_turns_within_a_public_function(self):
        def draws(v):
            return v * 0 + torch.rand((), dtype=v.dtype)

        one, two = (own_objective(draws, range=(0.0, 1.0), seed=seed) for seed in (1, 2))
        apart = [[line.loss_at(0.5)[0] for _ in range(3)] for line in (one, two)]
        drawn = random_states()

        @public
        def take_turns(*lines):
            return [[line.loss_at(0.5)[0] for line in lines] for _ in range(3)]

        again = [own_objective(draws, range=(0.0, 1.0), seed=seed) for seed in (1, 2)]
        assert np.transpose(take_turns(*again)).tolist() == apart
        assert random_states() == drawn

    def test_an_original_that_raises_in_the_middle(self, image):
        class Trap(planted.HoldsOnToItself):
            def forward(self, x):
                self.theta.data.mul_(1.0)
                if float(self.theta) > 1.5:
                    raise RuntimeError("trap")
                return super().forward(x)

        module = Trap()
        before = snapshot(module)
        objective = of(module, image, start=0.0, range=(-1.5, 1.5), period=0)
        with pytest.raises(InputError, match="trap"):
            objective.loss_at([0.1, 2.0])
        assert snapshot(module) == before

    def test_training_as_the_user_does_goes_on_unharmed(self, image):
        module, twin = planted.Right(), planted.Right()
        target = planted.Right(TARGET)(image).detach()
        for one in (module, twin):
            ((one(image) - target) ** 2).mean().backward()
        check_objective(of(module, image))
        torch.testing.assert_close(module.theta.grad, twin.theta.grad, rtol=0, atol=0)

    def test_global_settings(self, image):
        errors, dtype = np.geterr(), torch.get_default_dtype()
        build_series(of(planted.Right(dtype=torch.float32), image))
        build_series(own_objective(lambda v: (v - 0.3).abs(), range=(0.0, 1.0)))
        assert np.geterr() == errors
        assert torch.get_default_dtype() == dtype


class TestLoading:
    def write(self, folder: Path, name: str, text: str) -> str:
        path = folder / name
        path.write_text(textwrap.dedent(text))
        return str(path)

    def test_a_file(self, tmp_path):
        path = self.write(
            tmp_path,
            "mine.py",
            """
            from dataclasses import dataclass

            @dataclass
            class Holder:
                scale: "float" = 2.0

            def loss(v):
                return Holder().scale * v
            """,
        )
        self.write(tmp_path, "other.py", "raise SystemExit('must not run')")
        before = set(sys.path)
        assert load_object(f"{path}:loss")(3.0) == 6.0
        assert load_object(f"{path}:Holder.__init__")
        assert set(sys.path) == before
        # Nothing is left beside the user's files.
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["mine.py", "other.py"]

    def test_neighbours_may_be_imported(self, tmp_path):
        self.write(tmp_path, "neighbour_of_mine.py", "FACTOR = 5.0")
        path = self.write(
            tmp_path, "mine.py", "import neighbour_of_mine as n\ndef loss(v): return n.FACTOR * v"
        )
        assert load_object(f"{path}:loss")(2.0) == 10.0

    def test_a_module(self):
        assert load_object("tests.own.planted_layers:Right") is planted.Right

    @pytest.mark.parametrize("name", ["file.py", "file.py:", ":loss", "a b:c", "x.py:1a", "x:y()"])
    def test_names_that_are_none(self, name):
        with pytest.raises(UsageError, match=r"FILE\.py:NAME"):
            load_object(name)

    def test_what_is_not_there(self, tmp_path):
        with pytest.raises(InputError, match="No file"):
            load_object(f"{tmp_path / 'none.py'}:loss")
        with pytest.raises(InputError, match="No module named 'nowhere_at_all'"):
            load_object("nowhere_at_all.sub:loss")
        path = self.write(tmp_path, "mine.py", "def my_loss(v): return v")
        with pytest.raises(InputError, match=r"(?s)no 'myloss'.*my_loss"):
            load_object(f"{path}:myloss")

    @pytest.mark.parametrize(
        ("text", "line", "words"),
        [
            ("x = 1\ny = x / 0\n", 2, "ZeroDivisionError: division by zero"),
            ("def f(:\n    pass\n", 1, "SyntaxError"),
            ("x = 1\n\nimport nowhere_at_all\n", 3, "No module named 'nowhere_at_all'"),
            ("import sys\nsys.exit('bye')\n", 2, "SystemExit: bye"),
            ("import torch\ntorch.ones(2) @ torch.ones(3)\n", 2, "RuntimeError"),
        ],
    )
    def test_errors_are_told_with_the_users_line(self, tmp_path, text, line, words):
        path = self.write(tmp_path, "mine.py", text)
        modules = set(sys.modules)
        with pytest.raises(InputError) as caught:
            load_object(f"{path}:f")
        assert f"mine.py, line {line}" in str(caught.value)
        assert words in str(caught.value)
        assert "gabordiag" not in str(caught.value)
        assert len(str(caught.value).splitlines()) <= 2
        assert not {name for name in set(sys.modules) - modules if name.endswith("_mine")}

    def test_an_error_in_an_evaluation(self, tmp_path):
        path = self.write(
            tmp_path,
            "mine.py",
            """
            import torch

            def inner(v):
                return torch.ones(2) @ torch.ones(3)

            def loss(v):
                return inner(v)
            """,
        )
        with pytest.raises(InputError, match=r"mine.py, line 5, in inner: RuntimeError"):
            own_objective(load_object(f"{path}:loss"), range=(0, 1))


class TestNumeric:
    @pytest.mark.parametrize("level", [1e-10, 1e-6, 1e-2])
    def test_noise(self, level):
        rng = np.random.default_rng(0)

        def function(v):
            return np.sin(9 * v) + level * rng.standard_normal(v.shape)

        measured = measure_noise(function, np.linspace(0.1, 3, 20), 1e-6)
        assert level / 2 < measured < 4 * level

    def test_no_noise(self):
        assert measure_noise(lambda v: 3 * v**2 - 1, np.array([0.3, 1.0]), 1e-6) < 1e-15
        assert (
            measure_noise(lambda v: v / 0 if v[0] < 0 else v * np.nan, np.ones(1), 1e-6) == np.inf
        )

    @pytest.mark.parametrize("rate", [0.5, 3.0, 30.0])
    def test_derivatives(self, rate):
        values = np.linspace(-2, 2, 9)
        found = differentiate(lambda v: np.sin(rate * v), values, 1.0)
        np.testing.assert_allclose(found.first, rate * np.cos(rate * values), atol=1e-10 * rate)
        second = -(rate**2) * np.sin(rate * values)
        np.testing.assert_allclose(found.second, second, atol=1e-8 * max(rate**2, 1))
        assert np.all(
            np.abs(found.first - rate * np.cos(rate * values)) <= 50 * found.first_error + 1e-13
        )

    @pytest.mark.parametrize(
        ("function", "sharp"),
        [
            (lambda v: np.abs(v - 0.3217), True),
            (lambda v: np.sqrt((v - 0.3) ** 2 * (1 + v**2)), True),
            (lambda v: (v - 0.3) ** 2, False),
            (lambda v: np.abs(v - 0.3) + 0.1, False),
            (lambda v: v - 0.3, False),
            (lambda v: np.sqrt((v - 0.3) ** 2 + 1e-4), False),
            (lambda v: 0 * v, False),
        ],
    )
    def test_sharp_zeros(self, function, sharp):
        assert has_sharp_zero(function, -1.0, 1.0, np.array([])) == sharp

    @pytest.mark.parametrize("guesses", [[], [0.0]])
    @pytest.mark.parametrize(("power", "sharp"), [(1, True), (2, False)])
    def test_a_zero_at_the_end_is_looked_at_from_inside(self, power, sharp, guesses):
        def ends(values):
            if (values < 0).any():
                raise InputError("The function ends at zero.")
            return values**power

        assert has_sharp_zero(ends, 0.0, 1.0, np.array(guesses)) == sharp

    @pytest.mark.parametrize("guesses", [[], [0.0]])
    def test_a_zero_at_the_end_that_is_passed_is_no_root(self, guesses):
        assert not has_sharp_zero(lambda v: v, 0.0, 1.0, np.array(guesses))


class TestModulesThatCannotBe:
    def test_without_any_parameter(self):
        with pytest.raises(UsageError, match="It has no parameters at all"):
            own_objective(nn.ReLU(), param="theta")

    def test_a_part_that_is_not_there(self, image):
        with pytest.raises(UsageError, match=r"no parameter 'layers\.0\.theta'"):
            own_objective(nn.Conv2d(1, 1, 3), param="layers.0.theta", input=image)

    def test_only_one_parameter_but_of_many_numbers(self, image):
        with pytest.raises(UsageError, match="needs --param"):
            own_objective(nn.Conv2d(1, 1, 3, bias=False), input=image)

    def test_a_lazy_module_that_never_ran(self, image):
        with pytest.raises(UsageError, match="has no shape yet"):
            own_objective(nn.LazyConv2d(1, 3), param="weight[0,0,0,0]", input=image)

    @pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning")
    def test_a_scripted_module(self, image):
        scripted = torch.jit.trace(nn.Conv2d(1, 1, 3), torch.ones(1, 1, 5, 5))
        with pytest.raises(InputError, match="a scripted module cannot be studied"):
            own_objective(scripted, param="weight[0,0,0,0]", input=image)

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"no array", "no plain .npy array"),
            (b"PK\x03\x04 damaged", "no plain .npy array"),
            (b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f8", "no plain .npy array"),
            (None, "cannot be opened: No such file"),
        ],
    )
    def test_an_input_that_is_no_array(self, tmp_path, content, words):
        if content is not None:
            (tmp_path / "input.npy").write_bytes(content)
        with pytest.raises(InputError, match=words):
            own_objective(nn.Conv2d(1, 1, 3), param="weight[0,0,0,0]", input=tmp_path / "input.npy")

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            ([["a", "b"]], "holds no numbers"),
            (np.ones((4, 4), dtype=np.longdouble), "holds no numbers that torch takes"),
            ([[1.0, 2.0], [3.0]], "not an array of numbers"),
        ],
    )
    def test_an_input_of_words_or_other_numbers(self, source, words):
        with pytest.raises(InputError, match=words):
            own_objective(nn.Conv2d(1, 1, 3), param="weight[0,0,0,0]", input=source)

    def test_arrays_in_any_layout_are_tensors(self, tmp_path):
        numbers = np.arange(6.0).reshape(2, 3)
        np.save(tmp_path / "a.npy", numbers.astype(">f8"))
        backwards = np.ascontiguousarray(numbers[::-1, ::-1])[::-1, ::-1]
        for source in (numbers.astype(">f8"), backwards, tmp_path / "a.npy", numbers.tolist()):
            assert read_tensor(source).tolist() == numbers.tolist()
        training = gd.Training(
            nn.Identity(), [(backwards, np.array([1, 2], dtype=">i4"))], torch.dot
        )
        ((source, labels),) = training.epoch()
        assert (source.tolist(), labels.tolist()) == (numbers.tolist(), [1, 2])
        training = gd.Training(nn.Identity(), [(numbers, np.array(["a", "b"]))], torch.dot)
        with pytest.raises(InputError, match="labels to integers"):
            next(training.epoch())


@pytest.mark.parametrize("center", [4.2, -0.5])
def test_a_given_range_with_a_narrow_dip_is_an_interval(center: float) -> None:
    def dip(x: torch.Tensor) -> torch.Tensor:
        return 1 - torch.exp(-(((x - center) / 0.05) ** 2) / 2)

    parameter = own_objective(dip, range=(-3, 5), start=4.0, target=center).parameter
    assert (parameter.low, parameter.high, parameter.period) == (-3, 5, None)
    assert not parameter.is_angle


def test_a_watched_parameter_called_as_a_column_is():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.lr = nn.Parameter(torch.tensor(0.5, dtype=torch.float64))

        def forward(self, x):
            return self.lr * x

    x = torch.ones(4, dtype=torch.float64)
    training = gd.Training(Scaled(), [(x, x)], nn.functional.mse_loss)
    table = gd.diagnose(training, params="lr", lr=0.1, steps=2, seeds=0).data()[
        "trajectory-000.csv"
    ]
    np.testing.assert_allclose(table["lr_value"], [0.5, 0.6, 0.68])
    assert table["lr"].tolist() == [0.1] * 3
