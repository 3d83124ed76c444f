"""The experiment: what it computes, through the shortcut and directly, and what it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gabordiag.errors import InputError, ParameterError, UsageError
from gabordiag.gabor import PARAMETER_NAMES
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_line import DirectObjective, ShortcutObjective, along
from gabordiag.objective.objective import Line
from gabordiag.objective.space import Parameter
from tests import reference

LOSSES = tuple(reference.LOSSES)
PADDINGS = ("valid", "same", "circular")
losses = pytest.mark.parametrize("loss", LOSSES)
paddings = pytest.mark.parametrize("padding", PADDINGS)
noises = pytest.mark.parametrize("target_noise", [0.0, 0.3])
names = pytest.mark.parametrize("name", PARAMETER_NAMES)

SMALL = {"kernel_size": 9, "wavelength": 5.0, "sigma": 2.0, "gamma": 0.6}


def sample_values(parameter: Parameter, count: int = 40) -> np.ndarray:
    """Values over the whole range and, where digits are lost most easily, beside the target."""
    width = parameter.high - parameter.low
    spread = parameter.low + width * (np.arange(count) + 0.41421356) / count
    return np.append(spread, parameter.target + width * np.array([-1e-2, 1e-3, -1e-3, 1e-2]))


def assert_same_landscape(experiment: Experiment, name: str = "theta", extra: Sequence[float] = ()):
    """The shortcut's loss and gradient equal conv2d's to 1e-12 of the landscape's largest."""
    shortcut, direct = along(experiment, name), along(experiment, name, direct=True)
    values = np.append(sample_values(direct.parameter), extra)
    expected = direct.derivatives(values)
    atol = 1e-12 * np.abs(expected).max(axis=1)
    if experiment.loss == "cosine":
        # 1 - cos, as the direct path writes it, is right to some eps of 1, however small the loss.
        atol[0] += 4e-15
    ours = shortcut.derivatives(values)
    np.testing.assert_allclose(ours[0], expected[0], rtol=0, atol=atol[0])
    np.testing.assert_allclose(ours[1], expected[1], rtol=0, atol=atol[1])
    np.testing.assert_allclose(shortcut.gradient(values), expected[1], rtol=0, atol=atol[1])
    np.testing.assert_allclose(shortcut.loss_at(values), expected[0], rtol=0, atol=atol[0])
    smooth = direct.derivatives(values, 0, smooth=True)[0]
    ours = shortcut.derivatives(values, 0, smooth=True)[0]
    floor = 4e-15 if experiment.loss == "cosine" else 0
    np.testing.assert_allclose(ours, smooth, rtol=0, atol=1e-12 * smooth.max() + floor)


class TestAgainstTheReference:
    """Loss and gradient as loops over pixels compute them."""

    @losses
    @paddings
    @noises
    @pytest.mark.parametrize("direct", [True, False])
    def test_loss_and_gradient(self, texture, loss, padding, target_noise, direct):
        image = texture(8, 7)
        settings = {"wavelength": 4.0, "sigma": 1.5, "psi": 0.4, "gamma": 0.7}
        experiment = Experiment(
            image=image,
            target_theta=0.6,
            kernel_size=5,
            padding=padding,
            loss=loss,
            target_noise=target_noise,
            **settings,
        )
        rows = image.tolist()
        target = reference.correlate(rows, reference.kernel(5, theta=0.6, **settings), padding)
        if target_noise:
            noise = experiment.noise.flatten().tolist()
            target = [t + n for t, n in zip(target, noise, strict=True)]
        values = [-2.0, -0.3, 0.5, 1.4]
        ours = along(experiment, "theta", direct=direct).derivatives(values)
        for value, our_loss, our_slope in zip(values, *ours, strict=True):
            at = {"theta": value, **settings}
            output = reference.correlate(rows, reference.kernel(5, **at), padding)
            change = reference.correlate(rows, reference.partial_kernel(5, "theta", **at), padding)
            assert our_loss == pytest.approx(reference.LOSSES[loss](output, target), rel=1e-11)
            slope = reference.loss_gradient(loss, output, target, change)
            assert our_slope == pytest.approx(slope, rel=1e-10, abs=1e-12)

    @names
    def test_every_parameter(self, texture, name):
        image = texture(8, 7)
        at = {"theta": 0.6, "wavelength": 4.0, "sigma": 1.5, "psi": 0.4, "gamma": 0.7}
        others = {key: value for key, value in at.items() if key != "theta"}
        experiment = Experiment(
            image=image, target_theta=at["theta"], kernel_size=5, loss="mse", **others
        )
        rows = image.tolist()
        target = reference.correlate(rows, reference.kernel(5, **at), "valid")
        moved = {**at, name: at[name] + 0.4}
        output = reference.correlate(rows, reference.kernel(5, **moved), "valid")
        change = reference.correlate(rows, reference.partial_kernel(5, name, **moved), "valid")
        for direct in (True, False):
            objective = along(experiment, name, direct=direct)
            loss, slope = objective.derivatives([moved[name]])[:, 0]
            assert loss == pytest.approx(reference.mse(output, target), rel=1e-12)
            expected = reference.loss_gradient("mse", output, target, change)
            assert slope == pytest.approx(expected, rel=1e-11)


class TestShortcutAgainstDirect:
    @losses
    @paddings
    @noises
    def test_every_loss_padding_and_noise(self, texture, loss, padding, target_noise):
        experiment = Experiment(
            image=texture(64, 50), loss=loss, padding=padding, target_noise=target_noise, **SMALL
        )
        assert_same_landscape(experiment)

    @names
    @losses
    def test_along_every_parameter(self, texture, name, loss):
        assert_same_landscape(Experiment(image=texture(), loss=loss, psi=0.3, **SMALL), name)

    @pytest.mark.parametrize("noise", [1e-3, 0.1, 1.0, 1e3])
    @pytest.mark.parametrize("name", ["theta", "sigma"])
    def test_noise_far_weaker_or_stronger_than_the_response(self, texture, noise, name):
        # Unlike without noise, conv2d keeps its digits up to the target here, because the loss
        # stays above the noise's energy. Those of a weak noise must not drown in the rounding of
        # the response's energy, which is up to 1e12 times it.
        for loss in ("rmse", "mse"):
            experiment = Experiment(
                image=texture(), pixel_scale=255, target_noise=noise, loss=loss, **SMALL
            )
            beside = experiment.parameter(name).target + np.array([1e-5, -1e-4])
            assert_same_landscape(experiment, name, beside)

    @pytest.mark.long
    @settings(max_examples=60)
    @given(data=st.data())
    def test_any_experiment(self, texture, data):
        draw = data.draw
        kernel_size = draw(st.sampled_from([5, 7, 9, 11, 13, 15]))
        shape = (draw(st.integers(24, 64)), draw(st.integers(24, 64)))
        experiment = Experiment(
            image=texture(*shape, seed=draw(st.integers(0, 99)), mean=draw(st.floats(-3, 3))),
            pixel_scale=draw(st.sampled_from([1.0, 255.0])),
            normalize=draw(st.sampled_from(["none", "center", "standardize"])),
            target_theta=draw(st.floats(-4, 4)),
            wavelength=draw(st.floats(2.5, 20)),
            sigma=draw(st.floats(0.8, 6)),
            psi=draw(st.sampled_from([0.0, math.pi, 0.7, -1.5])),
            gamma=draw(st.floats(0.3, 2)),
            kernel_size=kernel_size,
            padding=draw(st.sampled_from(PADDINGS)),
            loss=draw(st.sampled_from(LOSSES)),
            target_noise=draw(st.sampled_from([0.0, 0.1])),
        )
        assert_same_landscape(experiment, draw(st.sampled_from(PARAMETER_NAMES)))

    @pytest.mark.parametrize("loss", ["rmse", "mse"])
    @pytest.mark.parametrize("offset", [1e-5, -1e-4, 1e-3, -1e-2])
    def test_digits_near_the_zero(self, texture, loss, offset):
        # At an offset d from the target the response differs from the target's by about d, and
        # conv2d's own rounding of either is some 1e-16: the direct residual has a relative error
        # of about 1e-16 / d, 1e-11 at the smallest offset here. Below 1e-7 it would be the
        # direct computation that fails the comparison.
        experiment = Experiment(image=texture(), loss=loss, **SMALL)
        value = [experiment.target_theta + offset]
        expected = along(experiment, direct=True).derivatives(value)
        shortcut = along(experiment)
        np.testing.assert_allclose(shortcut.derivatives(value), expected, rtol=1e-9)
        np.testing.assert_allclose(shortcut.gradient(value), expected[1], rtol=1e-9)

    def test_the_loss_near_the_zero_is_a_parabola_down_to_the_last_digits(self, texture):
        # Where conv2d has lost its digits, the shortcut still has them: L(d) -> L'' d^2 / 2.
        shortcut = along(Experiment(image=texture(), loss="mse", **SMALL))
        target = shortcut.parameter.target
        curvature = shortcut.derivatives([target], 2)[2, 0]
        for offset in (1e-6, 1e-8):
            # The offset that is really taken, after rounding target + offset.
            taken = (target + offset) - target
            loss = shortcut.loss_at([target + offset])[0]
            assert loss == pytest.approx(curvature * taken**2 / 2, rel=1e-4)

    def test_rmse_gradient_at_exactly_the_target_is_undefined_on_both_paths(self, texture):
        experiment = Experiment(image=texture(), loss="rmse", **SMALL)
        target = [experiment.target_theta]
        for objective in (along(experiment), along(experiment, direct=True)):
            loss, gradient = objective.derivatives(target)[:, 0]
            assert loss == 0
            assert math.isnan(gradient)
            assert np.isnan(objective.gradient(target)).all()

    @pytest.mark.parametrize("loss", ["mse", "cosine"])
    def test_smooth_gradients_at_the_target_vanish(self, texture, loss):
        experiment = Experiment(image=texture(), loss=loss, **SMALL)
        for objective in (along(experiment), along(experiment, direct=True)):
            gradient = objective.gradient([experiment.target_theta])
            assert np.abs(gradient).max() < 1e-13

    def test_rmse_is_the_root_of_mse(self, texture):
        image = texture()
        rmse, mse = (along(Experiment(image=image, loss=loss, **SMALL)) for loss in ("rmse", "mse"))
        values = sample_values(rmse.parameter)
        np.testing.assert_allclose(rmse.loss_at(values) ** 2, mse.loss_at(values), rtol=1e-13)
        smooth = rmse.derivatives(values, 1, smooth=True)
        np.testing.assert_allclose(smooth, mse.derivatives(values), rtol=1e-12, atol=1e-12)
        assert rmse.is_root
        assert not mse.is_root

    @pytest.mark.long
    def test_the_photograph_itself(self):
        # Whole size and default filter; by shifted images, which is quicker than conv2d here.
        experiment = Experiment(loss="mse")
        shortcut = along(experiment)
        values = [-0.9, 0.2]
        largest = np.abs(shortcut.derivatives(sample_values(shortcut.parameter))).max(axis=1)
        direct = along(experiment, direct=True)
        for value in values:
            loss, slope = direct.by_definition(value)
            assert shortcut.loss_at(value)[0] == pytest.approx(loss, abs=1e-12 * largest[0])
            assert shortcut.gradient(value)[0] == pytest.approx(slope, abs=1e-12 * largest[1])

    @pytest.mark.slow
    @losses
    @paddings
    @noises
    def test_the_photograph_in_every_setting(self, loss, padding, target_noise):
        experiment = Experiment(loss=loss, padding=padding, target_noise=target_noise)
        shortcut, direct = along(experiment), along(experiment, direct=True)
        largest = np.abs(shortcut.derivatives(sample_values(shortcut.parameter))).max(axis=1)
        values = [-1.3, 0.2, 0.8]
        expected = direct.derivatives(values)
        ours = shortcut.derivatives(values)
        np.testing.assert_allclose(ours[0], expected[0], rtol=0, atol=1e-12 * largest[0])
        np.testing.assert_allclose(ours[1], expected[1], rtol=0, atol=1e-12 * largest[1])


class TestByDefinition:
    @losses
    @paddings
    @noises
    def test_equals_conv2d(self, texture, loss, padding, target_noise):
        experiment = Experiment(
            image=texture(), loss=loss, padding=padding, target_noise=target_noise, **SMALL
        )
        direct = along(experiment, "theta", direct=True)
        for value in (-1.2, 0.1, 0.9):
            expected = direct.derivatives([value])[:, 0]
            np.testing.assert_allclose(direct.by_definition(value), expected, rtol=1e-11)

    @names
    def test_along_every_parameter(self, texture, name):
        direct = along(Experiment(image=texture(), loss="mse", **SMALL), name, direct=True)
        value = sample_values(direct.parameter)[5]
        expected = direct.derivatives([value])[:, 0]
        np.testing.assert_allclose(direct.by_definition(value), expected, rtol=1e-11)


class TestParametersOfTheExperiment:
    def test_theta(self):
        parameter = Experiment(target_theta=0.3, theta0=-1.0).parameter("theta")
        assert parameter == Parameter(
            "theta", -math.pi / 2, math.pi / 2, math.pi, 0.3, -1.0, is_angle=True
        )

    def test_theta_with_a_phase_has_twice_the_period(self):
        parameter = Experiment(psi=0.7).parameter("theta")
        assert parameter.period == pytest.approx(2 * math.pi)
        assert (parameter.low, parameter.high) == (-math.pi, math.pi)

    def test_psi(self):
        parameter = Experiment(psi=0.7).parameter("psi")
        assert parameter.period == pytest.approx(2 * math.pi)
        assert parameter.target == parameter.start == 0.7
        assert parameter.is_angle

    @names
    @pytest.mark.parametrize("wavelength", [0.7, 1.5, 2.0, 10.0, 40.0])
    def test_the_range_is_an_interval_around_the_target(self, name, wavelength):
        parameter = Experiment(wavelength=wavelength).parameter(name)
        assert parameter.low < parameter.high
        assert parameter.low <= parameter.target <= parameter.high
        if parameter.period is not None:
            assert parameter.high - parameter.low == pytest.approx(parameter.period)

    @pytest.mark.parametrize(
        ("name", "unit"), [("wavelength", "px"), ("sigma", "px"), ("gamma", "")]
    )
    def test_lengths_stay_positive_and_have_units(self, name, unit):
        parameter = Experiment().parameter(name)
        assert parameter.low > 0
        assert parameter.unit == unit
        assert parameter.period is None
        assert not parameter.is_angle

    def test_wavelengths_below_two_pixels_are_not_looked_at(self):
        # The grid cannot carry them.
        assert Experiment(wavelength=3.0).parameter("wavelength").low == 2.0

    def test_unknown_parameter(self):
        for ask in (Experiment().parameter, partial(along, Experiment())):
            with pytest.raises(UsageError, match="no parameter 'phi'") as caught:
                ask("phi")
            assert all(name in caught.value.advice for name in PARAMETER_NAMES)

    def test_along_is_the_shortcut_unless_told(self, texture):
        experiment = Experiment(image=texture(), **SMALL)
        assert isinstance(along(experiment), ShortcutObjective)
        assert isinstance(along(experiment, direct=True), DirectObjective)
        assert along(experiment).parameter == experiment.parameter("theta")

    @pytest.mark.parametrize("turns", [-3, 1, 10])
    def test_whole_periods_change_nothing(self, texture, turns):
        objective = along(Experiment(image=texture(), loss="mse", **SMALL))
        values = sample_values(objective.parameter, 9)
        moved = objective.derivatives(values + turns * objective.parameter.period)
        np.testing.assert_allclose(moved, objective.derivatives(values), rtol=1e-10, atol=1e-12)


class TestSettings:
    def test_defaults_are_the_contracts(self):
        assert Experiment().to_dict() == {
            "image": "hopper",
            "pixel_scale": 1.0,
            "normalize": "none",
            "target_theta": math.pi / 4,
            "theta0": -math.pi / 4,
            "wavelength": 10.0,
            "sigma": 4.0,
            "psi": 0.0,
            "gamma": 0.5,
            "kernel_size": 31,
            "padding": "valid",
            "loss": "rmse",
            "target_noise": 0.0,
            "dtype": "float64",
            "seed": 0,
            "device": "cpu",
        }

    def test_settings_go_through_json_and_back(self):
        experiment = Experiment(image=Path("a") / "b.png", loss="mse", seed=3, psi=0.1)
        settings = json.loads(json.dumps(experiment.to_dict()))
        assert settings["image"] == str(Path("a") / "b.png")
        assert Experiment(**settings).to_dict() == settings
        many = {"images", "strict", "progress"}
        assert set(settings) == {field.name for field in fields(Experiment)} - many

    def test_an_array_is_described_not_copied(self, texture):
        settings = json.loads(json.dumps(Experiment(image=texture(8, 9)).to_dict()))
        assert "(8, 9)" in settings["image"]

    def test_images_are_loaded_when_they_are_needed(self, tmp_path):
        experiment = Experiment(image=tmp_path / "nowhere.png")
        with pytest.raises(InputError, match="nowhere"):
            experiment.prepare()
        with pytest.raises(InputError, match="nowhere"):
            along(experiment).loss_at(0.0)

    def test_prepare_returns_the_experiment(self, texture):
        experiment = Experiment(image=texture(), **SMALL)
        assert experiment.prepare() is experiment

    def test_images_pass_through_scaling_and_normalisation(self, texture):
        image = texture()
        scaled = Experiment(image=image, pixel_scale=255, normalize="center")
        np.testing.assert_allclose(scaled.pixels, 255 * (image - image.mean()), atol=1e-11)

    def test_mse_grows_with_the_square_of_the_pixel_scale(self, texture):
        image = texture()
        plain, scaled = (
            along(Experiment(image=image, pixel_scale=scale, loss="mse", **SMALL))
            for scale in (1.0, 255.0)
        )
        values = sample_values(plain.parameter, 9)
        np.testing.assert_allclose(
            scaled.derivatives(values), 255**2 * plain.derivatives(values), rtol=1e-10
        )

    def test_noise_is_seeded_gaussian_of_the_asked_deviation(self, texture):
        image = texture(64, 64)

        def noise(**options):
            return Experiment(image=image, **SMALL, **options).noise

        assert noise() is None
        first = noise(target_noise=0.5)
        assert first.shape == (56, 56)
        assert torch.equal(first, noise(target_noise=0.5))
        assert not torch.equal(first, noise(target_noise=0.5, seed=1))
        torch.testing.assert_close(noise(target_noise=1.0), 2 * first)
        # 3136 values: five deviations of the mean and of the standard deviation.
        assert first.mean().item() == pytest.approx(0, abs=5 * 0.5 / 56)
        assert first.std().item() == pytest.approx(0.5, rel=5 / (56 * math.sqrt(2)))

    @pytest.mark.parametrize("builtin", ["noise", "pink"])
    def test_noise_is_not_the_built_in_image_of_the_same_seed(self, builtin):
        experiment = Experiment(image=builtin, padding="same", target_noise=0.5, seed=3, **SMALL)
        pixels, noise = experiment.pixels.ravel(), experiment.noise.numpy().ravel()
        # Of n independent pairs the correlation scatters by 1 / sqrt(n).
        assert abs(np.corrcoef(pixels, noise)[0, 1]) < 5 / math.sqrt(len(pixels))

    def test_the_noise_of_one_image_is_that_of_a_single_one_of_many(self, texture):
        options = {"target_noise": 0.5, "seed": 3, **SMALL}
        alone = Experiment(image=texture(), **options)
        assert torch.equal(alone.noise, Experiment(images=[texture()], **options).noise)

    def test_another_loss_or_precision_reads_no_image_again(self, texture, tmp_path):
        path = tmp_path / "image.npy"
        np.save(path, texture())
        experiment = Experiment(image=path, target_noise=0.5, **SMALL)
        everywhere, noise = experiment.everywhere_even, experiment.noise
        path.unlink()
        for changes in ({"loss": "mse"}, {"dtype": "float32"}):
            other = experiment.on_same_images(**changes)
            assert other.everywhere_even is everywhere
            assert other.noise is noise
            assert {**other.to_dict(), **experiment.to_dict()} == experiment.to_dict()
            assert all(other.to_dict()[name] == value for name, value in changes.items())

    def test_the_lowest_mse_under_noise_is_the_noises_energy(self, texture):
        experiment = Experiment(image=texture(), loss="mse", target_noise=0.5, **SMALL)
        at_target = along(experiment).loss_at(experiment.target_theta)[0]
        assert at_target == pytest.approx(experiment.noise.square().mean().item(), rel=1e-12)

    def test_nothing_global_is_touched(self, texture):
        states = torch.get_rng_state(), torch.get_default_dtype(), np.random.get_state()[1].copy()  # noqa: NPY002
        along(Experiment(image="noise", target_noise=0.1, dtype="float32")).loss_at(0.0)
        assert torch.equal(torch.get_rng_state(), states[0])
        assert torch.get_default_dtype() == states[1]
        np.testing.assert_array_equal(np.random.get_state()[1], states[2])  # noqa: NPY002

    @losses
    def test_float32_agrees_to_its_own_rounding(self, texture, loss):
        image = texture()
        double = Experiment(image=image, loss=loss, **SMALL)
        single = Experiment(image=image, loss=loss, dtype="float32", **SMALL)
        values = sample_values(double.parameter("theta"))
        expected = along(double).derivatives(values)
        largest = np.abs(expected).max(axis=1)
        for direct in (True, False):
            objective = along(single, direct=direct)
            assert objective.loss(objective.tensor(values)).dtype == torch.float32
            ours = objective.derivatives(values)
            assert ours.dtype == np.float64
            np.testing.assert_allclose(ours[0], expected[0], rtol=0, atol=1e-5 * largest[0])
            np.testing.assert_allclose(ours[1], expected[1], rtol=0, atol=1e-5 * largest[1])


class TestRefusals:
    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("loss", "mae"),
            ("padding", "reflect"),
            ("dtype", "float16"),
            ("device", "tpu"),
        ],
    )
    def test_unknown_choices(self, option, value):
        with pytest.raises(UsageError, match=f"'{value}' is unknown") as caught:
            Experiment(**{option: value})
        assert option in caught.value.problem
        # The advice lists choices; each of them must be one.
        choices = caught.value.advice.removeprefix("Use one of ").rstrip(".").split(", ")
        assert len(choices) >= 2
        for choice in choices:
            assert getattr(Experiment(**{option: choice}), option) == choice

    @pytest.mark.parametrize("noise", [-0.1, math.nan, math.inf])
    def test_noise_without_meaning(self, noise):
        with pytest.raises(ParameterError, match="noise"):
            Experiment(target_noise=noise)

    @pytest.mark.parametrize("start", [math.nan, math.inf])
    def test_start_without_meaning(self, start):
        with pytest.raises(ParameterError, match="start"):
            Experiment(theta0=start)

    @pytest.mark.parametrize(
        "options", [{"sigma": 0}, {"wavelength": -1}, {"gamma": 0}, {"target_theta": math.nan}]
    )
    def test_filters_that_cannot_exist(self, options):
        with pytest.raises(ParameterError):
            Experiment(**options)

    def test_even_kernels(self):
        with pytest.raises(ParameterError, match="kernel size 30"):
            Experiment(kernel_size=30)

    def test_unknown_normalization(self, texture):
        with pytest.raises(UsageError, match="normalization"):
            Experiment(image=texture(), normalize="sphere").prepare()

    @pytest.mark.parametrize("device", ["cuda", "mps"])
    def test_a_device_that_is_not_there(self, monkeypatch, device):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        with pytest.raises(InputError, match=f"no {device} device") as caught:
            Experiment(device=device, dtype="float32").torch_device()
        assert "--device cpu" in caught.value.advice

    def test_mps_has_no_float64(self, monkeypatch):
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
        with pytest.raises(InputError, match="no float64") as caught:
            Experiment(device="mps").torch_device()
        assert "float32" in caught.value.advice
        assert Experiment(device="mps", dtype="float32").torch_device().type == "mps"


PERIODIC = Parameter("angle", -1.0, 2.0, 3.0, 0.5, 0.0, is_angle=True)
OPEN = Parameter("length", 2.0, 12.0, None, 5.0, 3.0, unit="px")


class TestParameter:
    @given(value=st.floats(-1e6, 1e6))
    def test_wrapping_moves_by_whole_periods_into_the_half_open_interval(self, value):
        wrapped = float(PERIODIC.wrap(value))
        assert -1.5 <= wrapped < 1.5
        turns = (value - wrapped) / 3
        assert turns == pytest.approx(round(turns), abs=1e-9)
        assert float(PERIODIC.wrap(wrapped)) == wrapped

    def test_wrapping_the_ends(self):
        np.testing.assert_array_equal(PERIODIC.wrap([-1.5, 1.5, 4.5]), [-1.5, -1.5, -1.5])
        assert PERIODIC.wrap(np.nextafter(1.5, 0)) < 1.5
        # Rounding must not lift a value just below the lower end onto the upper one.
        assert PERIODIC.wrap(np.nextafter(-1.5, -2)) < 1.5

    @given(value=st.floats(-1e6, 1e6), point=st.floats(-10, 10))
    def test_offset_is_to_the_nearest_copy(self, value, point):
        offset = float(PERIODIC.offset(value, point))
        assert abs(offset) <= 1.5 + 1e-9
        turns = (value - point - offset) / 3
        assert turns == pytest.approx(round(turns), abs=1e-9)

    def test_without_a_period_nothing_is_moved(self):
        np.testing.assert_array_equal(OPEN.wrap([-7.0, 100.0]), [-7.0, 100.0])
        np.testing.assert_array_equal(OPEN.offset([-7.0, 100.0], 5.0), [-12.0, 95.0])

    def test_tolerance_is_a_degree_or_a_hundredth_of_the_range(self):
        assert PERIODIC.tolerance == pytest.approx(math.pi / 180)
        assert OPEN.tolerance == pytest.approx(0.1)

    def test_people_read_degrees_and_units(self):
        assert PERIODIC.show(math.pi / 4) == "45.00°"
        assert PERIODIC.label == "angle [degrees]"
        assert PERIODIC.scale * math.pi == pytest.approx(180)
        assert OPEN.show(5.25) == "5.25 px"
        assert OPEN.label == "length [px]"
        assert OPEN.scale == 1
        assert Parameter("gamma", 0, 1, None, None, 0.5).label == "gamma"


class Quartic(Line):
    """x^4, or its root x^2, with every derivative known."""

    def __init__(self, *, root: bool) -> None:
        self.parameter = OPEN
        self.is_root = root

    def loss(self, values, *, smooth=False):
        return values**2 if self.is_root and not smooth else values**4


class TestObjective:
    def test_derivatives_up_to_any_order(self):
        x = np.array([-1.5, 0.5, 2.0])
        expected = [x**4, 4 * x**3, 12 * x**2, 24 * x]
        np.testing.assert_allclose(Quartic(root=False).derivatives(x, 3), expected, rtol=1e-14)

    def test_smooth_derivatives_are_of_what_is_under_the_root(self):
        x = np.array([-1.5, 0.5, 2.0])
        objective = Quartic(root=True)
        np.testing.assert_allclose(objective.derivatives(x), [x**2, 2 * x], rtol=1e-14)
        smooth = objective.derivatives(x, 1, smooth=True)
        np.testing.assert_allclose(smooth, [x**4, 4 * x**3], rtol=1e-14)

    def test_more_values_than_are_evaluated_at_once(self):
        x = np.linspace(-2, 2, 1003)
        objective = Quartic(root=False)
        np.testing.assert_allclose(objective.loss_at(x), x**4, rtol=1e-14)
        np.testing.assert_allclose(objective.gradient(x), 4 * x**3, rtol=1e-14)

    def test_a_single_number_is_a_vector_of_one(self):
        objective = Quartic(root=False)
        assert objective.loss_at(2.0).tolist() == [16.0]
        assert objective.gradient(2).tolist() == [32.0]

    def test_losses_do_not_carry_a_graph(self):
        values = np.array([1.0, 2.0])
        assert isinstance(Quartic(root=False).loss_at(values), np.ndarray)
        np.testing.assert_array_equal(values, [1.0, 2.0])


def test_what_needs_double_precision_is_computed_on_the_cpu(texture):
    def settings():
        return along(Experiment(image=texture, kernel_size=9, wavelength=5.0, sigma=2.0), "theta")

    elsewhere = settings()
    # No number can be fetched from this device, nor does every other one have float64.
    elsewhere.device = torch.device("meta")
    assert torch.equal(elsewhere.spanning_kernels(), settings().spanning_kernels())
