"""The kernel and its partials, against the reference, two libraries and three derivatives."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import skimage.filters
import torch
from hypothesis import given
from hypothesis import strategies as st

from gabordiag.errors import GabordiagError, ParameterError
from gabordiag.gabor import (
    PARAMETER_NAMES,
    GaborParameters,
    gabor_kernel,
    gabor_partials,
    theta_period,
    validate_kernel_size,
)
from tests import reference

# Filters that tell conventions apart: no symmetric angle, no psi of 0 or pi, gamma off 1.
FILTERS = [
    {"theta": 0.3, "wavelength": 9.0, "sigma": 3.5, "psi": 0.4, "gamma": 0.7},
    {"theta": -2.5, "wavelength": 5.0, "sigma": 2.0, "psi": -1.2, "gamma": 1.4},
    {"theta": math.pi / 4, "wavelength": 10.0, "sigma": 4.0, "psi": 0.0, "gamma": 0.5},
    {"theta": 1.9, "wavelength": 14.0, "sigma": 5.0, "psi": math.pi / 2, "gamma": 1.0},
]
filters = pytest.mark.parametrize("values", FILTERS)
names = pytest.mark.parametrize("name", PARAMETER_NAMES)


@st.composite
def gabor_values(draw: st.DrawFn) -> dict[str, float]:
    return {
        "theta": draw(st.floats(-7, 7)),
        "wavelength": draw(st.floats(2, 30)),
        "sigma": draw(st.floats(0.7, 12)),
        "psi": draw(st.floats(-4, 4)),
        "gamma": draw(st.floats(0.2, 3)),
    }


@filters
@names
def test_the_reference_partials_are_derivatives_of_the_reference_function(values, name):
    for x, y in [(0, 0), (1, 0), (0, 1), (3, -2), (-5, 4), (7, 7)]:
        by_hand = reference.partials(x, y, **values)[name]
        assert by_hand == pytest.approx(reference.complex_step(x, y, values, name), abs=1e-14)


@given(values=gabor_values())
def test_kernel_is_the_textbook_formula(values):
    kernel = gabor_kernel(**values, kernel_size=7)
    assert kernel.dtype == torch.float64
    np.testing.assert_allclose(kernel.numpy(), reference.kernel(7, **values), rtol=0, atol=2e-14)


@given(values=gabor_values())
def test_partials_are_the_reference_partials(values):
    partials = gabor_partials(**values, kernel_size=7)
    assert tuple(partials) == PARAMETER_NAMES
    for name, partial in partials.items():
        expected = np.array(reference.partial_kernel(7, name, **values))
        # Up to about 40 in size for sigma near 0.7; rounding is relative to that.
        tolerance = 2e-14 * max(1.0, np.abs(expected).max())
        np.testing.assert_allclose(partial.numpy(), expected, rtol=0, atol=tolerance, err_msg=name)


def test_a_tensor_of_integers_rounds_no_other_parameter():
    kernel = gabor_kernel(torch.tensor([0, 1]), 7.3, 2.6, 0.4, 0.7, kernel_size=5)
    assert kernel.dtype == torch.float64
    for index, theta in enumerate((0.0, 1.0)):
        expected = reference.kernel(5, theta=theta, wavelength=7.3, sigma=2.6, psi=0.4, gamma=0.7)
        np.testing.assert_allclose(kernel[index].numpy(), expected, rtol=0, atol=1e-15)


def test_rows_are_y_and_columns_are_x():
    # theta = 0: the carrier runs along x, so rows share their zero crossings and columns do not.
    kernel = gabor_kernel(0.0, 4.0, 50.0, 0.0, 1.0, kernel_size=5)
    row = [math.exp(-(x**2) / 5000) * math.cos(math.pi * x / 2) for x in range(-2, 3)]
    np.testing.assert_allclose(kernel[2].numpy(), row, atol=1e-15)
    np.testing.assert_allclose(
        kernel[:, 2].numpy(), [math.exp(-(y**2) / 5000) for y in range(-2, 3)], atol=1e-15
    )


def test_positive_theta_turns_the_carrier_towards_positive_y():
    # The carrier's normal is (cos theta, sin theta): along it the phase grows fastest, and across
    # it (for theta = 45 degrees, along the anti-diagonal x = -y) the carrier stays at its crest.
    kernel = gabor_kernel(math.pi / 4, 6.0, 1e3, 0.0, 1.0, kernel_size=9).numpy()
    np.testing.assert_allclose(np.diag(kernel[:, ::-1]), 1.0, atol=1e-4)
    assert np.diag(kernel).min() < -0.9


@filters
def test_kernel_is_opencvs_turned_by_half_a_turn(values):
    size = 31
    theirs = cv2.getGaborKernel(
        (size, size),
        values["sigma"],
        values["theta"],
        values["wavelength"],
        values["gamma"],
        values["psi"],
        cv2.CV_64F,
    )
    assert theirs.dtype == np.float64
    ours = gabor_kernel(**values, kernel_size=size).numpy()
    np.testing.assert_allclose(ours, theirs[::-1, ::-1], rtol=0, atol=1e-14)
    if math.sin(values["psi"]) != 0:
        assert np.abs(ours - theirs).max() > 0.1


@filters
def test_kernel_is_scikit_images_normalised_to_a_peak_of_one(values):
    size = 31
    sigma_x, sigma_y = values["sigma"], values["sigma"] / values["gamma"]
    theirs = skimage.filters.gabor_kernel(
        1 / values["wavelength"],
        values["theta"],
        sigma_x=sigma_x,
        sigma_y=sigma_y,
        # Their kernel sizes itself; this many deviations make it larger than ours on both sides.
        n_stds=1 + size / min(sigma_x, sigma_y),
        offset=values["psi"],
    )
    theirs = theirs.real * 2 * math.pi * sigma_x * sigma_y
    middle_row, middle_column = (side // 2 for side in theirs.shape)
    half = size // 2
    assert min(middle_row, middle_column) >= half
    cropped = theirs[
        middle_row - half : middle_row + half + 1, middle_column - half : middle_column + half + 1
    ]
    ours = gabor_kernel(**values, kernel_size=size).numpy()
    np.testing.assert_allclose(ours, cropped, rtol=0, atol=1e-14)


@filters
@names
def test_closed_form_equals_autograd(values, name):
    tensors = {key: torch.tensor(value, dtype=torch.float64) for key, value in values.items()}
    closed = gabor_partials(**values, kernel_size=9)[name]
    size = closed.numel()
    tensors[name] = tensors[name].expand(size).clone().requires_grad_()
    # One copy of the parameter a pixel, so that one backward pass gives every pixel's derivative.
    pixels = gabor_kernel(**tensors, kernel_size=9).flatten(1).diagonal()
    (gradient,) = torch.autograd.grad(pixels.sum(), tensors[name])
    torch.testing.assert_close(gradient.reshape(9, 9), closed, rtol=1e-13, atol=1e-14)


@filters
@names
def test_closed_form_equals_the_complex_step(values, name):
    step = 1e-30
    tensors = {key: torch.tensor(value, dtype=torch.complex128) for key, value in values.items()}
    tensors[name] = tensors[name] + 1j * step
    kernel = gabor_kernel(**tensors, kernel_size=9)
    assert kernel.dtype == torch.complex128
    closed = gabor_partials(**values, kernel_size=9)[name]
    torch.testing.assert_close(kernel.imag / step, closed, rtol=1e-13, atol=1e-14)


@names
def test_torchs_own_gradient_check_passes_twice(name):
    fixed = {key: value for key, value in FILTERS[0].items() if key != name}
    at = torch.tensor([FILTERS[0][name]], dtype=torch.float64, requires_grad=True)

    def kernel(value):
        return gabor_kernel(**fixed, **{name: value}, kernel_size=5)

    assert torch.autograd.gradcheck(kernel, at)
    assert torch.autograd.gradgradcheck(kernel, at)


@given(values=gabor_values())
def test_half_a_turn_flips_the_phase(values):
    turned = gabor_kernel(**{**values, "theta": values["theta"] + math.pi}, kernel_size=9)
    flipped = gabor_kernel(**{**values, "psi": -values["psi"]}, kernel_size=9)
    np.testing.assert_allclose(turned.numpy(), flipped.numpy(), rtol=0, atol=1e-13)


@pytest.mark.parametrize("psi", [0.0, math.pi, -math.pi, 2 * math.pi, 0.7, math.pi / 2, 1e-6])
def test_theta_period_is_the_smallest_turn_that_gives_the_kernel_back(psi):
    period = theta_period(psi)
    filter_ = {"wavelength": 7.0, "sigma": 3.0, "psi": psi, "gamma": 0.6, "kernel_size": 9}
    base = gabor_kernel(0.4, **filter_)
    turned = gabor_kernel(0.4 + period, **filter_)
    np.testing.assert_allclose(turned.numpy(), base.numpy(), rtol=0, atol=1e-13)
    half_turned = gabor_kernel(0.4 + period / 2, **filter_)
    # psi = 1e-6 differs after half a turn by about 2e-6 of the quadrature kernel: small, not zero.
    assert (half_turned - base).abs().max() > 1e-7


def test_theta_period_values():
    assert theta_period(0.0) == theta_period(math.pi) == theta_period(-3 * math.pi) == math.pi
    assert theta_period(0.7) == theta_period(math.pi / 2) == theta_period(1e-9) == 2 * math.pi


@pytest.mark.parametrize("function", [gabor_kernel, lambda *a, **k: gabor_partials(*a, **k)["psi"]])
def test_shapes_broadcast(function):
    thetas = torch.linspace(-1, 1, 4, dtype=torch.float64)[:, None]
    sigmas = torch.tensor([2.0, 3.0, 5.0], dtype=torch.float64)
    batch = function(thetas, 8.0, sigmas, 0.3, 0.5, kernel_size=5)
    assert batch.shape == (4, 3, 5, 5)
    for row in range(4):
        for column in range(3):
            one = function(
                float(thetas[row, 0]), 8.0, float(sigmas[column]), 0.3, 0.5, kernel_size=5
            )
            assert one.shape == (5, 5)
            torch.testing.assert_close(batch[row, column], one, rtol=1e-14, atol=1e-15)


def test_number_types_follow_the_tensors():
    half = torch.tensor(0.3, dtype=torch.float32)
    double = torch.tensor(4.0, dtype=torch.float64)
    assert gabor_kernel(0.3, kernel_size=5).dtype == torch.float64
    assert gabor_kernel(half, kernel_size=5).dtype == torch.float32
    assert gabor_kernel(half, sigma=double, kernel_size=5).dtype == torch.float64
    assert gabor_kernel(half, kernel_size=5, dtype=torch.float64).dtype == torch.float64
    assert gabor_partials(half, kernel_size=5)["gamma"].dtype == torch.float32


def test_float32_agrees_to_its_own_rounding():
    values = FILTERS[0]
    single = gabor_kernel(**values, kernel_size=15, dtype=torch.float32)
    double = gabor_kernel(**values, kernel_size=15)
    np.testing.assert_allclose(single.numpy(), double.numpy(), rtol=0, atol=2e-6)


def test_defaults_are_the_questions_filter():
    expected = {"theta": math.pi / 4, "wavelength": 10, "sigma": 4, "psi": 0, "gamma": 0.5}
    assert GaborParameters().to_dict() == expected
    assert torch.equal(gabor_kernel(), gabor_kernel(**expected, kernel_size=31))
    for name, partial in gabor_partials().items():
        assert torch.equal(partial, gabor_partials(**expected, kernel_size=31)[name])


def test_parameters_keep_their_order():
    assert tuple(GaborParameters().to_dict()) == PARAMETER_NAMES == reference.NAMES
    assert dict(GaborParameters(1, 2, 3, 4, 5).items()) == dict(
        zip(PARAMETER_NAMES, (1, 2, 3, 4, 5), strict=True)
    )


@names
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_parameters_must_be_finite(name, value):
    with pytest.raises(ParameterError, match=f"^{name} is .* not a finite number"):
        GaborParameters(**{name: value})


@pytest.mark.parametrize("name", ["wavelength", "sigma", "gamma"])
@pytest.mark.parametrize("value", [0.0, -0.0, -1.5])
def test_lengths_must_be_positive(name, value):
    with pytest.raises(ParameterError, match=f"needs {name} > 0") as caught:
        GaborParameters(**{name: value})
    assert isinstance(caught.value, GabordiagError)
    assert isinstance(caught.value, ValueError)
    assert f"positive {name}" in caught.value.advice


@pytest.mark.parametrize("name", ["theta", "psi"])
def test_angles_may_be_anything_finite(name):
    assert getattr(GaborParameters(**{name: -1e4}), name) == -1e4


@pytest.mark.parametrize(("name", "lowest"), [("theta", -1e6), ("psi", -1e6), ("sigma", 1e-6)])
@pytest.mark.parametrize("side", [1, -1])
def test_what_no_grid_can_show_is_refused_with_the_limits_of_that_value(name, lowest, side):
    beyond = 1e7 if side > 0 else lowest * (10 if lowest < 0 else 0.1)
    with pytest.raises(ParameterError, match="far outside of what a pixel grid") as caught:
        GaborParameters(**{name: beyond})
    assert f"{lowest:g} and 1e+06" in caught.value.advice


@pytest.mark.parametrize("size", [0, 1, 2, 4, 30, -3, 3.5])
def test_kernel_sizes_without_a_centre_are_refused(size):
    with pytest.raises(ParameterError, match="kernel size") as caught:
        validate_kernel_size(size)
    suggestion = int(caught.value.advice.rstrip(".").rsplit(" ", 1)[1])
    assert validate_kernel_size(suggestion) == suggestion


@pytest.mark.parametrize("function", [gabor_kernel, gabor_partials])
def test_an_even_kernel_is_refused_where_it_is_asked_for(function):
    with pytest.raises(ParameterError, match="kernel size 30"):
        function(kernel_size=30)


@pytest.mark.parametrize("size", [3, 5, 31, 101, 7.0])
def test_odd_kernel_sizes_are_kept(size):
    assert validate_kernel_size(size) == size
    assert isinstance(validate_kernel_size(size), int)
