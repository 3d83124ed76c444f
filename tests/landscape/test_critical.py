"""Critical points: the published table, closed forms, sign changes, and an honest certificate."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gabordiag.gabor import PARAMETER_NAMES
from gabordiag.landscape.critical import find_critical_points
from gabordiag.landscape.points import CriticalPoint, Landscape
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_line import along
from gabordiag.own.custom import own_objective
from tests.landscape.independent import Derivative, assert_sign_changes
from tests.landscape.planted import Planted, interval, waves

ELONGATED = {"sigma": 4.0, "gamma": 0.5}
ROUND = {"sigma": 3.0, "gamma": 1.0}


def listed(landscape: Landscape, kind: str) -> list[float]:
    return [point.value for point in landscape.points if point.kind == kind]


def samples_over(parameter, count: int) -> np.ndarray:
    """Strictly inside the range, at an irrational offset, so that none falls on a root."""
    width = parameter.high - parameter.low
    return parameter.low + width * (np.arange(count) + 0.41421356) / count


class TestHopper:
    """What is known about the question's experiment, to every printed digit."""

    TABLE = (
        # theta [deg], kind, mse, curvature, 2 / curvature
        ("-79.653", "maximum", "12.0477", "-27.14", None),
        ("-46.343", "minimum", "10.7837", "14.66", "0.136"),
        ("-2.474", "maximum", "15.1093", "-136.7", None),
        ("45.000", "minimum", "0.0000", "100.32", "0.0199"),
    )

    @pytest.mark.long
    def test_elongated_filter(self, hopper_landscape):
        landscape = hopper_landscape(loss="mse", **ELONGATED)
        assert landscape.certificate.certified
        assert len(landscape.points) == len(self.TABLE)
        for point, (theta, kind, loss, curvature, bound) in zip(
            landscape.points, self.TABLE, strict=True
        ):
            assert f"{math.degrees(point.value):.3f}" == theta
            assert point.kind == kind
            assert f"{point.loss:.4f}" == loss
            digits = len(curvature.partition(".")[2])
            assert f"{point.curvature:.{digits}f}" == curvature
            if bound is None:
                assert point.stable_lr is None
            else:
                digits = len(bound.partition(".")[2])
                assert f"{point.stable_lr:.{digits}f}" == bound
        assert [point.is_target for point in landscape.points] == [False, False, False, True]

    def test_the_start_lies_beside_the_spurious_minimum(self, hopper_landscape):
        landscape = hopper_landscape(loss="mse", **ELONGATED)
        start = landscape.attractor_of(-math.pi / 4)
        assert not start.is_target
        assert f"{math.degrees(-math.pi / 4 - start.value):.1f}" == "1.3"

    def test_round_filter(self, hopper_landscape):
        landscape = hopper_landscape(loss="mse", **ROUND)
        assert landscape.certificate.certified
        top, bottom = landscape.points
        assert (top.kind, bottom.kind) == ("maximum", "minimum")
        assert f"{math.degrees(top.value):.2f}" == "-49.24"
        assert f"{top.loss:.4f}" == "1.4702"
        assert f"{math.degrees(bottom.value):.3f}" == "45.000"
        assert f"{bottom.curvature:.3f}" == "4.823"
        assert f"{bottom.stable_lr:.4f}" == "0.4147"
        assert bottom.is_target
        # Every start lies in the target's basin, which is one whole period wide.
        low, high = bottom.basin
        assert high - low == pytest.approx(math.pi)
        for start in np.linspace(-10, 10, 41):
            assert landscape.attractor_of(start) is bottom

    @pytest.mark.parametrize("shape", [ELONGATED, ROUND], ids=["elongated", "round"])
    def test_rmse_has_a_kink_where_mse_has_its_zero(self, hopper_landscape, shape):
        smooth = hopper_landscape(loss="mse", **shape)
        landscape = hopper_landscape(loss="rmse", **shape)
        assert landscape.certificate.certified
        kink, minimum = landscape.target, smooth.target
        assert kink.kind == "kink"
        assert kink.value == pytest.approx(math.pi / 4, abs=1e-12)
        assert kink.loss == pytest.approx(0, abs=1e-12)
        assert kink.curvature is None
        assert kink.stable_lr is None
        assert kink.slope == pytest.approx(math.sqrt(minimum.curvature / 2), rel=1e-9)
        # Elsewhere the same points, with d2 sqrt(m) = m'' / (2 sqrt m) where m' = 0.
        for root, square in zip(landscape.points, smooth.points, strict=True):
            assert root.value == pytest.approx(square.value, abs=1e-9)
            if root is not kink:
                assert root.kind == square.kind
                assert root.loss == pytest.approx(math.sqrt(square.loss))
                expected = square.curvature / (2 * math.sqrt(square.loss))
                assert root.curvature == pytest.approx(expected, rel=1e-9)

    def test_the_kinks_slope_is_that_of_shifted_images(self, hopper_landscape):
        slope = hopper_landscape(loss="rmse", **ROUND).target.slope
        direct = along(Experiment(loss="rmse", **ROUND), direct=True)
        for offset in (1e-4, -1e-4):
            loss, gradient = direct.by_definition(math.pi / 4 + offset)
            assert loss / abs(offset) == pytest.approx(slope, rel=1e-3)
            assert gradient == pytest.approx(math.copysign(slope, offset), rel=1e-3)

    def test_cosine(self, hopper_landscape):
        landscape = hopper_landscape(loss="cosine", **ELONGATED)
        assert landscape.certificate.certified
        target = landscape.target
        assert target.kind == "minimum"
        assert target.value == pytest.approx(math.pi / 4, abs=1e-9)
        assert target.loss == pytest.approx(0, abs=1e-15)
        # An angle between responses says nothing about their energy, and yet the antipode dips.
        assert len(landscape.attractors) == 2

    def test_a_long_fine_filter_has_28_critical_points(self, hopper_landscape):
        landscape = hopper_landscape(loss="mse", wavelength=4.0, sigma=8.0, gamma=0.3)
        assert landscape.certificate.certified
        assert len(landscape.points) == 28
        kinds = [point.kind for point in landscape.points]
        assert kinds == ["minimum", "maximum"] * 14

    @pytest.mark.long
    @pytest.mark.each(4)
    @pytest.mark.parametrize(
        "setting",
        [
            {"image": "noise"},
            {"image": "pink"},
            {"padding": "same"},
            {"padding": "circular"},
            {"psi": 0.7},
            {"normalize": "standardize"},
            {"pixel_scale": 255.0},
            {"target_theta": math.pi / 4 + 3 * math.pi},
        ],
        ids=str,
    )
    def test_other_settings_are_certified_too(self, hopper_landscape, setting):
        landscape = hopper_landscape(loss="mse", **setting)
        assert landscape.certificate.certified
        target = landscape.target
        wrapped = float(landscape.parameter.wrap(landscape.parameter.target))
        assert target.value == pytest.approx(wrapped, abs=1e-9)
        assert target.loss == pytest.approx(0, abs=1e-12 * landscape.largest_loss)
        # Around a circle maxima and minima alternate.
        kinds = [point.kind for point in landscape.points]
        assert set(kinds) == {"minimum", "maximum"}
        assert all(one != other for one, other in zip(kinds, kinds[1:] + kinds[:1], strict=True))

    @pytest.mark.parametrize("loss", ["mse", "rmse", "cosine"])
    def test_float32_is_no_reason_to_give_up(self, texture, loss):
        # The landscape is a property of the experiment; single precision only blurs it.
        options = {"image": texture(), "loss": loss, "kernel_size": 9, "sigma": 2.0}
        double = find_critical_points(along(Experiment(**options)))
        single = find_critical_points(along(Experiment(dtype="float32", **options)))
        assert single.certificate.reason
        for point in double.points:
            nearest = min(abs(single.parameter.offset(p.value, point.value)) for p in single.points)
            assert nearest < 1e-2

    def test_a_flattened_spectrum_leaves_one_minimum(self):
        image = Experiment().pixels
        spectrum = np.fft.fft2(image)
        white = np.fft.ifft2(spectrum / np.abs(spectrum)).real
        experiment = Experiment(image=white, padding="circular", loss="mse", **ELONGATED)
        landscape = find_critical_points(along(experiment))
        assert landscape.certificate.certified
        assert [point.kind for point in landscape.points] == ["maximum", "minimum"]


class TestClosedForm:
    """One bright pixel has a flat spectrum, for which a round filter's loss is known.

    mse = pi sigma^2 (C(0) - C(d)) / P with d = theta - target, q = 2 pi sigma / wavelength,
    C(d) = exp(-q^2 sin^2(d/2)) + exp(-q^2 cos^2(d/2)): sums over the grid equal integrals, because
    the filters are smooth on it.
    """

    SIDE = 41
    SIGMA, WAVELENGTH, TARGET = 3.0, 9.0, 0.3

    @pytest.fixture
    def objective(self):
        image = np.zeros((self.SIDE, self.SIDE))
        image[20, 20] = 1
        return along(
            Experiment(
                image=image,
                padding="circular",
                loss="mse",
                target_theta=self.TARGET,
                sigma=self.SIGMA,
                gamma=1.0,
                wavelength=self.WAVELENGTH,
                kernel_size=41,
            )
        )

    def test_the_loss(self, objective):
        q = 2 * math.pi * self.SIGMA / self.WAVELENGTH
        d = np.linspace(-3, 3, 50)
        c = np.exp(-((q * np.sin(d / 2)) ** 2)) + np.exp(-((q * np.cos(d / 2)) ** 2))
        expected = math.pi * self.SIGMA**2 * (1 + math.exp(-(q**2)) - c) / self.SIDE**2
        np.testing.assert_allclose(objective.loss_at(self.TARGET + d), expected, rtol=1e-9)

    def test_the_critical_points(self, objective):
        landscape = find_critical_points(objective)
        assert landscape.certificate.certified
        top, bottom = landscape.points
        assert top.kind == "maximum"
        assert top.value == pytest.approx(self.TARGET - math.pi / 2, abs=1e-9)
        assert bottom.kind == "minimum"
        assert bottom.value == pytest.approx(self.TARGET, abs=1e-12)
        q = 2 * math.pi * self.SIGMA / self.WAVELENGTH
        curvature = math.pi * self.SIGMA**2 * q**2 / 2 * (1 - math.exp(-(q**2))) / self.SIDE**2
        assert bottom.curvature == pytest.approx(curvature, rel=1e-9)
        # C = 2 exp(-q^2/2) cosh(q^2 cos(d) / 2), and at d = pi/2, where cos d passes through zero
        # with slope -1, C'' = 2 exp(-q^2/2) (q^2/2)^2.
        curvature = -math.pi * self.SIGMA**2 * q**4 / 2 * math.exp(-(q**2) / 2) / self.SIDE**2
        assert top.curvature == pytest.approx(curvature, rel=1e-7)
        assert bottom.basin == pytest.approx((top.value, top.value + math.pi))


SMALL_EXPERIMENTS = {
    "kernel_size": st.sampled_from([5, 7, 9, 11]),
    "target_theta": st.floats(-4, 4),
    "wavelength": st.floats(2.5, 14),
    "sigma": st.floats(1.0, 4),
    "psi": st.sampled_from([0.0, math.pi, 0.7, -1.5]),
    "gamma": st.floats(0.3, 2),
    "padding": st.sampled_from(["valid", "same", "circular"]),
    "loss": st.sampled_from(["rmse", "mse", "cosine"]),
    "target_noise": st.sampled_from([0.0, 0.3]),
}


def assert_complete(experiment: Experiment, name: str, count: int) -> Landscape:
    """The certified list is where an independent derivative changes its sign."""
    landscape = find_critical_points(along(experiment, name))
    assert landscape.certificate.certified, landscape.certificate.reason
    noise = None if experiment.noise is None else experiment.noise.numpy()
    derivative = Derivative(
        experiment.pixels,
        experiment.target_parameters.to_dict(),
        experiment.kernel_size,
        experiment.padding,
        experiment.loss,
        noise,
    )
    samples = samples_over(landscape.parameter, count)
    sampled = derivative(name, samples)
    roots = np.array([point.value for point in landscape.points])
    assert_sign_changes(sampled, samples, roots, landscape.parameter.period)
    if len(roots):
        # Each is a root by itself too, not only in the right cell ...
        assert np.abs(derivative(name, roots)).max() < 1e-9 * np.abs(sampled).max()
        # ... and of the right kind: the derivative rises through a minimum.
        aside = 1e-5 * (landscape.parameter.high - landscape.parameter.low)
        rises = derivative(name, roots + aside) > derivative(name, roots - aside)
        np.testing.assert_array_equal(
            rises, [point.kind in ("minimum", "kink") for point in landscape.points]
        )
    return landscape


class TestAgainstSignChanges:
    def test_the_independent_derivative_sees_what_is_missing(self, texture):
        # The check itself must be able to fail.
        experiment = Experiment(image=texture(), loss="mse", kernel_size=9, sigma=2.0)
        landscape = find_critical_points(along(experiment))
        derivative = Derivative(experiment.pixels, experiment.target_parameters.to_dict(), 9)
        samples = samples_over(landscape.parameter, 401)
        sampled = derivative("theta", samples)
        roots = [point.value for point in landscape.points]
        assert assert_sign_changes(sampled, samples, roots, math.pi) == len(roots) > 0
        with pytest.raises(AssertionError):
            assert_sign_changes(sampled, samples, roots[1:], math.pi)
        with pytest.raises(AssertionError):
            assert_sign_changes(sampled, samples, [*roots, roots[0] + 0.1], math.pi)
        with pytest.raises(AssertionError):
            assert_sign_changes(sampled, samples, [roots[0] + 0.05, *roots[1:]], math.pi)

    @pytest.mark.long
    @settings(max_examples=25)
    @given(
        options=st.fixed_dictionaries(SMALL_EXPERIMENTS),
        name=st.sampled_from(("theta", *PARAMETER_NAMES)),
        rows=st.integers(20, 32),
        columns=st.integers(20, 32),
        seed=st.integers(0, 999),
    )
    def test_any_small_experiment(self, texture, options, name, rows, columns, seed):
        experiment = Experiment(image=texture(rows, columns, seed), **options)
        assert_complete(experiment, name, 2001)

    @pytest.mark.parametrize("name", PARAMETER_NAMES)
    def test_every_parameter(self, texture, name):
        experiment = Experiment(
            image=texture(), loss="mse", psi=0.7, kernel_size=9, wavelength=5.0, sigma=2.0
        )
        landscape = assert_complete(experiment, name, 2001)
        assert landscape.target.value == experiment.target_parameters.to_dict()[name]

    @pytest.mark.parametrize("target_theta", [-3.07, -0.3, 0.5, 1.0, 2.0])
    @pytest.mark.parametrize("psi", [-1.5, 0.0, 0.2, 0.7])
    def test_along_the_phase(self, texture, target_theta, psi):
        # A series of degree two: short enough for coefficients to vanish exactly.
        experiment = Experiment(
            image=texture(),
            loss="mse",
            target_theta=target_theta,
            psi=psi,
            kernel_size=7,
            wavelength=5.0,
            sigma=3.0,
        )
        assert_complete(experiment, "psi", 501)

    @pytest.mark.slow
    @settings(max_examples=60)
    @given(
        options=st.fixed_dictionaries(SMALL_EXPERIMENTS),
        name=st.sampled_from(("theta", *PARAMETER_NAMES)),
        seed=st.integers(0, 999),
    )
    def test_many_samples(self, texture, options, name, seed):
        assert_complete(Experiment(image=texture(30, 26, seed), **options), name, 100_001)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "setting",
        [
            {},
            {"loss": "cosine"},
            {"padding": "same"},
            {"padding": "circular"},
            {"image": "noise"},
            {"image": "pink"},
            {"psi": 0.7},
            ROUND,
            {"wavelength": 4.0, "sigma": 8.0, "gamma": 0.3},
        ],
        ids=str,
    )
    def test_the_photograph_with_many_samples(self, setting):
        assert_complete(Experiment(**{"loss": "mse", **setting}), "theta", 100_001)


class TestPlanted:
    @pytest.mark.long
    @given(ratio=st.floats(-1, 1))
    def test_sum_of_two_cosines(self, ratio):
        # L = cos v + b cos 2v: L' = -sin v (1 + 4 b cos v).
        assume(abs(4 * abs(ratio) - 1) > 1e-3)
        landscape = find_critical_points(Planted(waves({1: 1.0, 2: ratio}, {})))
        assert landscape.certificate.certified
        # The curvature is L'' = -cos v - 4 b cos 2v; at pi it is 1 - 4 b, at 0 -1 - 4 b.
        expected = {-math.pi: 1 - 4 * ratio, 0.0: -1 - 4 * ratio}
        if abs(4 * ratio) > 1:
            side = math.acos(-1 / (4 * ratio))
            own = -math.cos(side) - 4 * ratio * math.cos(2 * side)
            expected |= {side: own, -side: own}
        found = [(point.value, point.curvature) for point in landscape.points]
        assert len(found) == len(expected)
        for value, curvature in found:
            true = min(expected, key=lambda e: abs(math.remainder(e - value, 2 * math.pi)))
            assert math.remainder(true - value, 2 * math.pi) == pytest.approx(0, abs=1e-9)
            assert curvature == pytest.approx(expected[true], abs=1e-8)
        for point in landscape.points:
            assert point.kind == ("minimum" if point.curvature > 0 else "maximum")
            assert -math.pi <= point.value < math.pi

    @pytest.mark.long
    @settings(max_examples=25)
    @given(exponent=st.floats(-14, -1), sign=st.sampled_from([-1.0, 1.0]))
    def test_a_certificate_near_a_quadruple_point_is_never_wrong(self, exponent, sign):
        # At 4 b = 1 three roots fall together; just beside it there are one or three.
        ratio = (1 + sign * 10**exponent) / 4
        landscape = find_critical_points(Planted(waves({1: 1.0, 2: ratio}, {})))
        if landscape.certificate.certified:
            assert len(landscape.points) == (4 if 4 * ratio > 1 else 2)
        else:
            assert landscape.certificate.reason

    @pytest.mark.long
    @settings(max_examples=25)
    @given(
        exponent=st.floats(-14, -0.5), sign=st.sampled_from([-1.0, 1.0]), middle=st.floats(-1, 1)
    )
    def test_a_certificate_near_a_double_root_is_never_wrong(self, exponent, sign, middle):
        # L' = (v - m)^2 - s e^2: two roots m +- e for s = 1, none for s = -1.
        gap = 10**exponent
        landscape = find_critical_points(
            interval(lambda v: (v - middle) ** 3 / 3 - sign * gap**2 * v, -2.0, 2.5)
        )
        if landscape.certificate.certified:
            values = [point.value for point in landscape.points]
            expected = [middle - gap, middle + gap] if sign > 0 else []
            assert values == pytest.approx(expected, abs=max(1e-12, 1e-14 / gap))
            assert [p.kind for p in landscape.points] == ["maximum", "minimum"][: len(expected)]
        else:
            assert landscape.certificate.reason
            assert gap < 1e-4

    @pytest.mark.long
    @given(
        roots=st.lists(st.integers(-40, 40), max_size=6, unique=True),
        shift=st.floats(0, 0.04),
    )
    def test_polynomials_with_planted_roots(self, roots, shift):
        # At least 0.05 apart, inside (-2.2, 2.2).
        roots = sorted(0.05 * root + shift for root in roots)
        slope = (
            np.polynomial.Polynomial.fromroots(roots) if roots else np.polynomial.Polynomial([1])
        )
        loss, curvature = slope.integ(), slope.deriv()

        def horner(values):
            total = torch.zeros_like(values)
            for coefficient in loss.coef[::-1]:
                total = total * values + coefficient
            return total

        landscape = find_critical_points(interval(horner, -2.2, 2.2))
        assert landscape.certificate.certified
        # Rounded coefficients move a root by the slope's change there over its own slope.
        sizes = np.polynomial.Polynomial(np.abs(slope.coef))(np.abs(roots))
        moved = np.finfo(np.float64).eps * sizes / np.abs(curvature(np.array(roots)))
        assert len(landscape.points) == len(roots)
        apart = np.abs([point.value for point in landscape.points] - np.array(roots))
        assert (apart <= np.maximum(1e-8, moved)).all()
        for point in landscape.points:
            assert point.kind == ("minimum" if curvature(point.value) > 0 else "maximum")
            assert point.curvature == pytest.approx(curvature(point.value), rel=1e-6, abs=1e-9)
            assert point.loss == pytest.approx(loss(point.value), abs=1e-12)

    @pytest.mark.parametrize("phase", [0.0, 0.3, math.pi / 2])
    @pytest.mark.parametrize("frequency", [1, 2, 3, 7, 14, 22, 30])
    def test_one_wave(self, frequency, phase):
        weights = math.cos(phase), -math.sin(phase)
        objective = Planted(waves({frequency: weights[0]}, {frequency: weights[1]}))
        landscape = find_critical_points(objective)
        assert landscape.certificate.certified
        assert len(listed(landscape, "minimum")) == len(listed(landscape, "maximum")) == frequency
        for point in landscape.points:
            crest = math.cos(frequency * point.value + phase)
            assert crest == pytest.approx(1 if point.kind == "maximum" else -1, abs=1e-12)
            assert abs(point.curvature) == pytest.approx(frequency**2, rel=1e-9)

    @pytest.mark.parametrize("function", [lambda v: 2 * v + 3, lambda v: torch.exp(-v)])
    def test_a_slope_without_critical_points(self, function):
        landscape = find_critical_points(interval(function, 0.0, 2.0))
        assert landscape.certificate.certified
        assert landscape.points == ()
        assert landscape.target is None
        assert landscape.attractor_of(1.0) is None

    def test_the_ends_of_an_interval_bound_a_basin(self):
        landscape = find_critical_points(interval(lambda v: (v - 1) ** 2, -1.0, 2.0, target=1.0))
        (point,) = landscape.points
        assert point.basin == (-1.0, 2.0)
        assert point.is_target
        assert landscape.attractor_of(1.9) is point
        assert landscape.attractor_of(2.5) is None
        assert landscape.largest_loss == pytest.approx(4)
        assert landscape.smallest_loss == pytest.approx(0, abs=1e-5)
        assert landscape.largest_gradient == pytest.approx(4)

    def test_basins_of_a_double_well(self):
        # L' = v (v^2 - 1) on [-2, 3].
        landscape = find_critical_points(interval(lambda v: v**4 / 4 - v**2 / 2, -2.0, 3.0))
        left, top, right = landscape.points
        assert [p.value for p in landscape.points] == pytest.approx([-1, 0, 1], abs=1e-12)
        assert top.basin is None
        assert left.basin == pytest.approx((-2, 0), abs=1e-12)
        assert right.basin == pytest.approx((0, 3), abs=1e-12)
        assert landscape.attractor_of(-0.01) is left
        assert landscape.attractor_of(0.01) is right

    def test_basins_on_a_circle(self):
        # cos v + cos 2v: maxima at 0 and -pi, minima between them.
        landscape = find_critical_points(Planted(waves({1: 1.0, 2: 1.0}, {})))
        side = math.acos(-1 / 4)
        left, right = landscape.attractors
        assert (left.value, right.value) == pytest.approx((-side, side))
        assert left.basin == pytest.approx((-math.pi, 0), abs=1e-9)
        assert right.basin == pytest.approx((0, math.pi), abs=1e-9)
        for turns in (-2, 0, 5):
            value = 0.5 + 2 * math.pi * turns
            assert landscape.attractor_of(value) is right
            low, high = landscape.basin_around(right, value)
            assert low == pytest.approx(2 * math.pi * turns, abs=1e-9)
            assert high == pytest.approx(2 * math.pi * turns + math.pi, abs=1e-9)
            assert landscape.attractor_of(-value) is left
            assert landscape.basin_around(left, value) is None

    def test_a_basin_across_the_end_of_the_period(self):
        # -cos(v - 3): the minimum at 3, its basin from 3 - pi to 3 + pi, beyond the period's end.
        landscape = find_critical_points(Planted(lambda v: -torch.cos(v - 3), target=3.0))
        assert landscape.target.basin == pytest.approx((3 - math.pi, 3 + math.pi))
        assert landscape.attractor_of(-3.0) is landscape.target

    def test_the_range_may_start_anywhere_and_values_are_wrapped(self):
        objective = Planted(lambda v: torch.cos(v), 10.0, 10.0 + 2 * math.pi)
        landscape = find_critical_points(objective)
        assert listed(landscape, "maximum") == pytest.approx([0], abs=1e-12)
        (bottom,) = listed(landscape, "minimum")
        assert abs(bottom) == pytest.approx(math.pi, abs=1e-12)
        assert bottom < math.pi

    def test_the_target_is_a_minimum_within_the_tolerance(self):
        # 1% of the range of 4.
        for target, hit in ((1.0, True), (1.03, True), (1.05, False), (-1.0, False)):
            landscape = find_critical_points(interval(lambda v: (v - 1) ** 2, -1.0, 3.0, target))
            assert (landscape.target is not None) == hit


class TestPlantedKinks:
    """Losses that are roots: sqrt((1 - cos(v - t)) (2 + cos 3v)) is zero at t alone."""

    TARGET = 0.4

    def smooth(self, v):
        lib = torch if isinstance(v, torch.Tensor) else np
        return (1 - lib.cos(v - self.TARGET)) * (2 + lib.cos(3 * v))

    def test_one_kink_and_the_rest(self):
        objective = Planted(self.smooth, target=self.TARGET, root=True)
        landscape = find_critical_points(objective)
        assert landscape.certificate.certified
        kink = landscape.target
        assert kink.kind == "kink"
        assert kink.value == pytest.approx(self.TARGET, abs=1e-12)
        # f'' at its zero is 2 + cos 3t, and sqrt f has the slope sqrt(f''/2).
        slope = math.sqrt((2 + math.cos(3 * self.TARGET)) / 2)
        assert kink.slope == pytest.approx(slope, rel=1e-9)
        others = [point for point in landscape.points if point is not kink]
        assert len(others) >= 3
        step = 1e-4
        for point in others:
            low, middle, high = np.sqrt(self.smooth(point.value + step * np.array([-1, 0, 1])))
            assert point.loss == pytest.approx(middle, rel=1e-12)
            assert (high - low) / (2 * step) == pytest.approx(0, abs=1e-6)
            assert point.curvature == pytest.approx((high - 2 * middle + low) / step**2, rel=1e-4)
            assert point.slope is None
            assert point.kind == ("minimum" if point.curvature > 0 else "maximum")
            if point.kind == "minimum":
                assert point.stable_lr == pytest.approx(2 / point.curvature)
            else:
                assert point.stable_lr is None

    def test_two_zeros_are_two_kinks_of_which_one_is_the_target(self):
        landscape = find_critical_points(
            Planted(lambda v: 1 - torch.cos(2 * v), target=0.0, root=True)
        )
        kinks = [point for point in landscape.points if point.kind == "kink"]
        assert [abs(p.value) for p in kinks] == pytest.approx([math.pi, 0], abs=1e-9)
        assert [p.is_target for p in kinks] == [False, True]
        # sqrt(1 - cos 2v) = sqrt(2) |sin v|
        assert [p.slope for p in kinks] == pytest.approx([math.sqrt(2)] * 2)

    def test_a_root_that_stays_above_zero_has_no_kink(self):
        landscape = find_critical_points(Planted(lambda v: 1.01 - torch.cos(v), root=True))
        top, bottom = landscape.points
        assert (top.kind, bottom.kind) == ("maximum", "minimum")
        assert bottom.curvature == pytest.approx(1 / (2 * math.sqrt(0.01)), rel=1e-9)
        assert bottom.slope is None


class TestNothingIsClaimed:
    """Where a proof is impossible, the certificate says so, and why."""

    INFLECTIONS = (
        ("sin^3", Planted(lambda v: torch.sin(v) ** 3), (-math.pi, 0.0, math.pi)),
        ("a cubic", interval(lambda v: (v - 0.3) ** 3, -1.0, 2.0), (0.3,)),
        (
            "a cubic among simple roots",
            interval(lambda v: (v - 0.3) ** 3 * (v + 0.5) ** 2, -1.0, 2.0),
            (0.3,),
        ),
    )
    FLAT_EXTREMA = (
        ("a flat maximum", Planted(waves({1: 1.0, 2: -0.25}, {})), 0.0),
        ("a flat minimum", Planted(lambda v: (1 - torch.cos(v)) ** 2), 0.0),
        ("a quartic", interval(lambda v: (v - 0.3) ** 4, -1.0, 2.0), 0.3),
    )

    @pytest.mark.parametrize(
        ("objective", "inflections"),
        [case[1:] for case in INFLECTIONS],
        ids=[case[0] for case in INFLECTIONS],
    )
    def test_double_roots(self, objective, inflections):
        landscape = find_critical_points(objective)
        assert not landscape.certificate.certified
        assert "double root" in landscape.certificate.reason
        # What rounding makes of a double root, a minimum beside a maximum, must not pass for an
        # attractor: there is no basin, and 2 / 1e-8 is no stable learning rate.
        for point in landscape.points:
            if any(abs(point.value - root) < 1e-3 for root in inflections):
                assert point.kind == "inflection"

    @pytest.mark.parametrize(
        ("objective", "root"),
        [case[1:] for case in FLAT_EXTREMA],
        ids=[case[0] for case in FLAT_EXTREMA],
    )
    def test_triple_roots(self, objective, root):
        landscape = find_critical_points(objective)
        assert not landscape.certificate.certified
        assert "double root" in landscape.certificate.reason
        for point in landscape.points:
            if abs(point.value - root) < 1e-3:
                # The true curvature is 0; 2 over its rounding means nothing.
                assert point.stable_lr is None

    def test_a_root_at_the_very_end_of_the_range(self):
        landscape = find_critical_points(interval(lambda v: v**2, 0.0, 2.0))
        assert not landscape.certificate.certified
        assert "double root" in landscape.certificate.reason

    def test_the_place_in_doubt_is_named(self):
        landscape = find_critical_points(interval(lambda v: (v - 0.3) ** 3, -1.0, 2.0))
        assert "0.3" in landscape.certificate.reason

    @pytest.mark.parametrize("periodic", [True, False])
    @pytest.mark.parametrize("function", [lambda v: 0 * v + 3, torch.zeros_like])
    def test_flat_losses(self, periodic, function):
        landscape = find_critical_points(Planted(function, -1.0, 2.0, periodic=periodic))
        assert not landscape.certificate.certified
        assert "flat" in landscape.certificate.reason
        assert not landscape.attractors

    def test_a_ripple_below_rounding_is_flat(self):
        landscape = find_critical_points(Planted(lambda v: 3 + 1e-15 * torch.cos(v)))
        assert not landscape.certificate.certified
        assert "flat" in landscape.certificate.reason

    @pytest.mark.long
    @pytest.mark.parametrize(
        ("function", "periodic"),
        [
            (lambda v: torch.sin(v).abs(), True),
            (torch.relu, False),
            (torch.relu, True),  # which jumps where its period closes
            (lambda v: (v - 0.1).abs(), False),
        ],
        ids=["kinks", "a corner", "a jump", "a kink in an interval"],
    )
    def test_losses_that_no_series_resolves(self, function, periodic):
        landscape = find_critical_points(Planted(function, periodic=periodic))
        assert not landscape.certificate.certified
        assert landscape.certificate.reason

    @pytest.mark.long
    @pytest.mark.parametrize("degree", [64, 128, 256])
    def test_a_ripple_that_sampling_cannot_see_is_not_certified_away(self, degree):
        # 2 v + v^2 / 2 + T_n(v) / 20 has no critical point without its ripple, and about n with
        # it; on the usual grids of 2^m + 1 points the ripple is a constant.
        def function(v):
            before, now = torch.ones_like(v), v
            for _ in range(degree - 1):
                before, now = now, 2 * v * now - before
            return 2 * v + v * v / 2 + now / 20

        landscape = find_critical_points(interval(function, -1.0, 1.0))
        if landscape.certificate.certified:
            assert len(landscape.points) > degree / 2
        else:
            assert landscape.certificate.reason

    @pytest.mark.long
    @settings(max_examples=15)
    @given(frequency=st.integers(31, 200), phase=st.sampled_from([0.0, 0.3, math.pi / 2]))
    def test_a_fast_ripple_on_a_slow_wave(self, frequency, phase):
        # cos v + cos(n v + p) / 2 has 2 n critical points for n > 2.
        landscape = find_critical_points(
            Planted(lambda v: torch.cos(v) + torch.cos(frequency * v + phase) / 2)
        )
        if landscape.certificate.certified:
            assert len(landscape.points) == 2 * frequency
        else:
            # This loss is anything but flat.
            assert "flat to within the error" not in landscape.certificate.reason


def test_critical_points_become_json():
    landscape = find_critical_points(Planted(lambda v: 1 - torch.cos(v), target=0.0, root=True))
    top, kink = (json.loads(json.dumps(point.to_dict())) for point in landscape.points)
    assert set(top) >= {
        "value", "loss", "curvature", "kind", "is_target", "basin", "stable_lr", "slope",
    }  # fmt: skip
    assert top["kind"] == "maximum"
    assert top["basin"] is top["stable_lr"] is top["slope"] is None
    assert kink["kind"] == "kink"
    assert kink["is_target"] is True
    assert kink["curvature"] is kink["stable_lr"] is None
    assert kink["slope"] == pytest.approx(math.sqrt(0.5))
    assert kink["basin"] == pytest.approx([-math.pi, math.pi])


def test_attractors_are_minima_and_kinks():
    kinds = {"minimum": True, "kink": True, "maximum": False, "inflection": False}
    for kind, attracts in kinds.items():
        assert CriticalPoint(0.0, 0.0, None, kind).is_attractor == attracts


def test_a_function_that_ends_at_its_range_is_not_asked_beyond_it():
    # The slope's root lies at the end itself: Newton's steps fall on either side of it.
    def ends(value: torch.Tensor) -> torch.Tensor:
        assert 0 <= value.detach() <= 1
        return value**2

    landscape = find_critical_points(own_objective(ends, range=(0.0, 1.0)))
    assert [(point.kind, point.value) for point in landscape.points] == [("minimum", 0.0)]


def rough(value: torch.Tensor) -> torch.Tensor:
    """(v - 1)^2 + sum of 2^-k (1 - cos(pi 7^k (v - 1))), k < 6: 0 at 1, above 0 elsewhere."""
    waves = (0.5**k * (1 - torch.cos(math.pi * 7**k * (value - 1))) for k in range(6))
    return sum(waves, (value - 1) ** 2)


@pytest.mark.long
def test_a_target_that_the_series_missed_is_looked_at():
    # L'' at 1 is 2 + pi^2 (1 + 24.5 + ... + 24.5^5) = 9.08e7: its basin is some 1e-4 wide.
    landscape = find_critical_points(own_objective(rough, range=(-3.0, 3.0), target=1.0))
    assert not landscape.certificate.certified
    (target,) = (point for point in landscape.points if point.is_target)
    assert (target.value, target.loss, target.kind) == (1.0, 0.0, "minimum")
    bend = 2 + math.pi**2 * sum(24.5**k for k in range(6))
    assert target.curvature == pytest.approx(bend, rel=1e-9)


@pytest.mark.parametrize("is_complex", [True, False])
def test_the_zero_of_a_squared_modulus_is_a_minimum(is_complex: bool) -> None:
    # L = 2 - 2 mean cos((w - 0.5) t), L'' = 2 mean t^2 at 0.5, where torch's is 0: |x| has none.
    t = torch.arange(16, dtype=torch.float64)

    def loss(w: torch.Tensor) -> torch.Tensor:
        if is_complex:
            return (torch.exp(1j * w * t) - torch.exp(0.5j * t)).abs().square().mean()
        return ((w - 0.5) * t).abs().square().mean()

    landscape = find_critical_points(own_objective(loss, range=(0, 1), start=0.45, target=0.5))
    (target,) = (point for point in landscape.points if point.is_target)
    assert (target.value, target.kind) == (0.5, "minimum")
    assert target.curvature == pytest.approx(2 * float(t.square().mean()), rel=1e-6)


def test_a_level_stretch_is_no_second_minimum_at_the_target():
    # Two bumps that hardly overlap: but for rounding the loss is level away from the target.
    x = torch.linspace(-10, 10, 200, dtype=torch.float64)

    def bump(center: torch.Tensor | float) -> torch.Tensor:
        return torch.exp(-((x - center) ** 2) / (2 * 0.3**2))

    def loss(center: torch.Tensor) -> torch.Tensor:
        return ((bump(center) - bump(3.0)) ** 2).mean()

    landscape = find_critical_points(own_objective(loss, range=(-10, 10), start=2.6, target=3.0))
    (minimum,) = landscape.attractors
    assert (minimum.value, minimum.is_target) == (3.0, True)
    center = torch.tensor(2.6, dtype=torch.float64, requires_grad=True)
    for _ in range(200):
        (slope,) = torch.autograd.grad(loss(center), center)
        center.data -= slope
        assert landscape.attractor_of(float(center.detach())) is minimum
    assert float(center.detach()) == pytest.approx(3.0)


@pytest.mark.parametrize("target", [0.731, 2.2])
def test_a_target_on_a_slope_is_no_critical_point(target):
    def slope(value: torch.Tensor) -> torch.Tensor:
        return value + torch.abs(value) / 3 + torch.cos(value)

    landscape = find_critical_points(own_objective(slope, range=(-1.0, 3.0), target=target))
    assert not landscape.certificate.certified
    assert target not in [point.value for point in landscape.points]


@pytest.mark.long
def test_a_stretch_within_the_error_is_given_up_and_not_bisected():
    # |v - 1|^3: near 1 the derivative lies within the error of its series, of some 2000 terms.
    # Bisecting there doubled the cells with every level, to 580,000, to no other end.
    landscape = find_critical_points(own_objective(lambda v: (v - 1).abs() ** 3, range=(-1.0, 3.0)))
    certificate = landscape.certificate
    assert not certificate.certified
    assert certificate.cells < 30_000
    assert "near 1 " in certificate.reason
    ((value, kind),) = ((point.value, point.kind) for point in landscape.points)
    assert (value, kind) == (pytest.approx(1.0, abs=1e-3), "minimum")
