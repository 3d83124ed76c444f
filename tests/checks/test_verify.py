"""Kernels and derivatives: the right ones are right, and each planted mistake gets its name."""

from __future__ import annotations

import functools
import json
import math

import cv2
import numpy as np
import pytest
import skimage.filters
import torch

from gabordiag.checks.expressions import parse_expression
from gabordiag.checks.verify import (
    POINTS,
    check_derivative,
    check_kernel,
    derivative_field,
    kernel_field,
)
from gabordiag.errors import InputError, ParameterError, UsageError
from gabordiag.gabor import PARAMETER_NAMES, gabor_kernel
from tests import reference

ENVELOPE = "e^(-(x'^2 + gamma^2 y'^2)/(2 sigma^2))"
PHASE = "(2 pi x'/lambda + psi)"
FROM_ENVELOPE = f"(1 - gamma^2) x' y' / sigma^2 cos{PHASE}"
FROM_CARRIER = f"2 pi y'/lambda sin{PHASE}"
RIGHT = f"-{ENVELOPE} ({FROM_ENVELOPE} + {FROM_CARRIER})"


def turned(text: str, theta: str) -> str:
    """Writes x' and y' out with another angle."""
    u, v = f"(x cos({theta}) + y sin({theta}))", f"(-x sin({theta}) + y cos({theta}))"
    return text.replace("x'", u).replace("y'", v)


def swapped(text: str) -> str:
    text = turned(text, "theta").replace("exp", "EXP")
    return text.replace("x", "#").replace("y", "x").replace("#", "y").replace("EXP", "exp")


class TestReference:
    @pytest.mark.parametrize("name", PARAMETER_NAMES)
    def test_gabordiags_own_derivatives(self, name):
        check = check_derivative(None, name)
        assert check.ok
        assert check.user is None
        assert check.wrt == name
        assert check.reference["autograd"] < 1e-13
        assert check.reference["complex_step"] < 1e-13
        assert check.reference["numeric"] < 1e-9

    def test_of_a_kernel_are_the_worst_of_all_five(self):
        each = [check_derivative(None, name).reference for name in PARAMETER_NAMES]
        worst = {key: max(one[key] for one in each) for key in each[0]}
        assert check_kernel().reference == worst

    @pytest.mark.parametrize("name", PARAMETER_NAMES)
    def test_the_fields_that_mistakes_are_made_from(self, name):
        for point in POINTS:
            values = point.to_dict()
            for x, y in ((0, 0), (3, -2), (-1, 4)):
                at = np.array([float(x)]), np.array([float(y)])
                expected = reference.partials(x, y, **values)[name]
                assert derivative_field(name)(point, *at)[0] == pytest.approx(expected, abs=1e-14)
                expected = reference.gabor(x, y, **values)
                assert kernel_field(point, *at)[0] == pytest.approx(expected, abs=1e-14)

    def test_the_points_hide_nothing(self):
        for point in POINTS:
            assert abs(math.sin(2 * point.theta)) > 0.1
            assert abs(math.sin(point.psi)) > 0.1
            assert abs(point.gamma - 1) > 0.1


class TestDerivative:
    @pytest.mark.parametrize(
        "text",
        [
            RIGHT,
            turned(RIGHT, "theta"),
            "-np.exp(-(x_rot**2 + gamma**2*y_rot**2)/(2*sigma**2))"
            "*((1-gamma**2)*x_rot*y_rot/sigma**2*np.cos(2*np.pi*x_rot/wavelength + psi)"
            " + 2*np.pi*y_rot/wavelength*np.sin(2*np.pi*x_rot/wavelength + psi))",
            # The product rule left as it is.
            f"{ENVELOPE} (-(2 x' y' - 2 γ² x' y')/(2 σ²)) cos{PHASE}"
            f" - {ENVELOPE} sin{PHASE} 2π y'/λ",
        ],
    )
    def test_written_in_several_ways(self, text):
        check = check_derivative(parse_expression(text))
        assert check.ok
        assert check.user.best_match == "correct"
        assert check.user.max_relative_error < 1e-12

    @pytest.mark.long
    @pytest.mark.parametrize(
        ("text", "match", "words"),
        [
            (f"{ENVELOPE} ({FROM_ENVELOPE} + {FROM_CARRIER})", "sign_flipped", "opposite sign"),
            (f"-{ENVELOPE} {FROM_CARRIER}", "missing_envelope_term", "right only for gamma = 1"),
            (
                f"-{ENVELOPE} {FROM_ENVELOPE}",
                "missing_carrier_term",
                "lacks the term from the cosine",
            ),
            (f"2.5 ({RIGHT})", "scaled", "2.5 times"),
            (f"({RIGHT}) pi/180", "degrees", "per degree"),
            (turned(RIGHT, "theta pi/180"), "degrees", "degrees"),
            (f"({turned(RIGHT, 'theta pi/180')}) pi/180", "degrees", "degrees"),
            (f"-({turned(RIGHT, '(-theta)')})", "opposite_rotation", "opposite way"),
            (swapped(RIGHT), "swapped_axes", "exchanged"),
            (f"{ENVELOPE} {FROM_CARRIER}", "missing_envelope_term", "-1 times"),
            (f"-{ENVELOPE} ({FROM_CARRIER} - {FROM_ENVELOPE})", "unknown", "opposite sign"),
            (
                f"-{ENVELOPE} ({FROM_ENVELOPE} - {FROM_CARRIER})",
                "unknown",
                "cosine has the opposite",
            ),
            (f"-{ENVELOPE} (2 {FROM_ENVELOPE} + {FROM_CARRIER})", "unknown", "envelope is 2 times"),
            (
                f"-{ENVELOPE} ({FROM_ENVELOPE} + 0.3 {FROM_CARRIER})",
                "unknown",
                "cosine is 0.3 times",
            ),
            (turned(RIGHT, "(theta + pi/2)"), "unknown", "turned by 90 degrees"),
            (f"({RIGHT}) sigma^2/2", "scaled", "0.5 sigma^2 times"),
            (f"({RIGHT}) lambda/gamma", "scaled", "wavelength gamma^-1 times"),
            (f"({RIGHT}) (1 + sigma)", "scaled", "depends on the parameters"),
            ("0", "unknown", "zero everywhere"),
            ("1", "unknown", "none of the usual"),
            (f"-{ENVELOPE} sin{PHASE}", "unknown", "none of the usual"),
            ("sqrt(-1 - x^2)", "unknown", "not finite"),
            # One column of the grid is 0/0.
            (f"({RIGHT}) x/x", "unknown", "not finite"),
            (RIGHT.replace("gamma^2", "gamma"), "unknown", "gamma where gamma^2 belongs"),
            # Of another sign where theta is negative: no power of theta fits.
            (f"theta ({RIGHT})", "scaled", "depends on the parameters"),
            (f"1.00003 ({RIGHT})", "scaled", "1.00003 times"),
        ],
    )
    def test_planted_mistakes(self, text, match, words):
        user = check_derivative(parse_expression(text)).user
        assert not user.ok
        assert user.best_match == match
        assert words in user.explanation
        assert user.explanation.startswith("your derivative")

    def test_the_factor(self):
        assert check_derivative(parse_expression(f"-7 ({RIGHT})")).user.factor == pytest.approx(-7)

    @pytest.mark.parametrize(
        ("wrt", "text", "match"),
        [
            ("wavelength", f"{ENVELOPE} sin{PHASE} 2 pi x'/lambda^2", "correct"),
            ("wavelength", f"-{ENVELOPE} sin{PHASE} 2 pi x'/lambda^2", "sign_flipped"),
            ("wavelength", f"{ENVELOPE} sin{PHASE} 2 pi x'/lambda", "scaled"),
            ("sigma", f"{ENVELOPE} cos{PHASE} (x'^2 + gamma^2 y'^2)/sigma^3", "correct"),
            ("sigma", f"{ENVELOPE} cos{PHASE} (x'^2 + gamma^2 y'^2)/sigma^2", "scaled"),
            # By sigma^2 instead: d sigma / d sigma^2 = 1 / (2 sigma).
            ("sigma", f"{ENVELOPE} cos{PHASE} (x'^2 + gamma^2 y'^2)/(2 sigma^4)", "scaled"),
            ("psi", f"-{ENVELOPE} sin{PHASE}", "correct"),
            ("psi", f"-{ENVELOPE} cos{PHASE}", "unknown"),
            ("gamma", f"-{ENVELOPE} cos{PHASE} gamma y'^2/sigma^2", "correct"),
            ("gamma", f"-{ENVELOPE} cos{PHASE} y'^2/sigma^2", "scaled"),
        ],
    )
    def test_of_the_other_parameters(self, wrt, text, match):
        check = check_derivative(parse_expression(text), wrt)
        assert check.user.best_match == match
        assert check.ok == (match == "correct")

    def test_functions_of_tensors_arrays_or_floats(self):
        def tensors(x, y, theta, wavelength, sigma, psi, gamma):
            u, v = (
                x * torch.cos(theta) + y * torch.sin(theta),
                -x * torch.sin(theta) + y * torch.cos(theta),
            )
            p = 2 * math.pi * u / wavelength + psi
            slope = (1 - gamma**2) * u * v / sigma**2 * torch.cos(
                p
            ) + 2 * math.pi * v / wavelength * torch.sin(p)
            return -torch.exp(-(u**2 + gamma**2 * v**2) / (2 * sigma**2)) * slope

        def floats(x, y, theta, lambda_, sigma, phi, gamma):
            return reference.partials(x, y, theta, lambda_, sigma, phi, gamma)["theta"]

        def arrays(a, b, c, d, e, f, g):
            a[0, 0]  # only arrays and tensors have elements
            return np.vectorize(floats)(np.asarray(a), np.asarray(b), *map(float, (c, d, e, f, g)))

        def whole_grid(theta, wavelength, sigma, psi, gamma, kernel_size):
            return reference.partial_kernel(
                kernel_size, "theta", theta=float(theta), wavelength=float(wavelength),
                sigma=float(sigma), psi=float(psi), gamma=float(gamma),
            )  # fmt: skip

        for function in (tensors, floats, arrays, whole_grid):
            check = check_derivative(function)
            assert check.user.best_match == "correct", function.__name__
            assert check.user.max_relative_error < 1e-12

    @pytest.mark.parametrize(
        ("change", "right"),
        [
            (lambda x, y, slope: slope, True),
            # One rounding of each: 2^-24 and 2^-11.
            (lambda x, y, slope: slope.astype(np.float32), True),
            (lambda x, y, slope: slope.astype(np.float16), True),
            # Four digits of pi are 2.3e-6 off.
            (lambda x, y, slope: slope * 3.1416 / math.pi, True),
            (lambda x, y, slope: np.where(y > 5, -slope, slope), False),
            (lambda x, y, slope: np.where((x == 0) & (y == 0), np.nan, slope), False),
        ],
        ids=["right", "float32", "float16", "pi", "sign of some rows", "nan in one place"],
    )
    def test_what_differs_in_some_places_or_digits(self, change, right):
        def slope(x, y, theta, wavelength, sigma, psi, gamma):
            numbers = map(float, (theta, wavelength, sigma, psi, gamma))
            names = ("theta", "wavelength", "sigma", "psi", "gamma")
            values = dict(zip(names, numbers, strict=True))
            one = np.vectorize(lambda u, v: reference.partials(u, v, **values)["theta"])
            return change(np.asarray(x), np.asarray(y), one(np.asarray(x), np.asarray(y)))

        check = check_derivative(slope)
        assert check.ok == right
        # No factor or missing term is the reason.
        assert check.user.best_match == ("correct" if right else "unknown")

    def test_unknown_parameter(self):
        with pytest.raises(UsageError, match="no parameter 'lambda'"):
            check_derivative(None, "lambda")


def kernel(
    theta, wavelength, sigma, psi, gamma, kernel_size, shift=(0.0, 0.0), spacing=1.0, axes=(1, 1)
):
    """Written once more, with what can be got wrong."""
    half = kernel_size // 2
    result = np.empty((kernel_size, kernel_size))
    for row in range(kernel_size):
        for column in range(kernel_size):
            x = ((column - half) + shift[0]) * spacing * axes[0]
            y = ((row - half) + shift[1]) * spacing * axes[1]
            result[row, column] = reference.gabor(
                x, y, *map(float, (theta, wavelength, sigma, psi, gamma))
            )
    return result


def _divided(values, power):
    return values / (np.abs(np.asarray(values)) ** power).sum() ** (1 / power)


class TestKernel:
    @pytest.mark.long
    def test_right_ones(self):
        def scikit_image(theta, wavelength, sigma, psi, gamma, kernel_size):
            s, g = float(sigma), float(gamma)
            options = {"sigma_x": s, "sigma_y": s / g, "offset": float(psi), "n_stds": 8}
            k = skimage.filters.gabor_kernel(1 / float(wavelength), float(theta), **options).real
            k = k * 2 * math.pi * s * s / g
            middle, half = np.array(k.shape) // 2, kernel_size // 2
            return k[
                middle[0] - half : middle[0] + half + 1, middle[1] - half : middle[1] + half + 1
            ]

        def float32(theta, lam, sigma, psi, gamma, ksize):
            values = [
                torch.as_tensor(v, dtype=torch.float32) for v in (theta, lam, sigma, psi, gamma)
            ]
            return gabor_kernel(*values, kernel_size=ksize)[None, None]

        def float16(theta, lam, sigma, psi, gamma, ksize):
            return np.asarray(kernel(theta, lam, sigma, psi, gamma, ksize), dtype=np.float16)

        for function in (gabor_kernel, kernel, scikit_image, float32, float16):
            check = check_kernel(function)
            assert check.ok, check.user
            assert check.wrt is None

    @pytest.mark.long
    @pytest.mark.parametrize(
        ("change", "match", "words"),
        [
            ({"axes": (-1, -1)}, "rotated_180", "rotated by 180"),
            ({"axes": (1, -1)}, "opposite_rotation", "opposite way"),
            ({"axes": (-1, 1)}, "opposite_rotation", "and is turned by 180"),
            ({"shift": (0.5, 0.5)}, "off_center", "(-0.5, -0.5)"),
            ({"shift": (-1.0, 0.0)}, "off_center", "(+1, +0)"),
            ({"shift": (7.0, 7.0)}, "off_center", "(-7, -7)"),
            ({"spacing": 15 / 14}, "unknown", "-K/2 to K/2"),
            ({"spacing": 1 / 7}, "unknown", "-1 to 1"),
        ],
    )
    def test_planted_grids(self, change, match, words):
        user = check_kernel(functools.partial(kernel, **change)).user
        assert not user.ok
        assert user.best_match == match
        assert words in user.explanation

    @pytest.mark.each(3)
    @pytest.mark.parametrize(
        ("wrong", "match", "words"),
        [
            (lambda t, w, s, p, g, k: kernel(t, w, s, p, g, k).T, "swapped_axes", "exchanged"),
            (lambda t, w, s, p, g, k: kernel(t * math.pi / 180, w, s, p, g, k), "degrees", "theta"),
            (lambda t, w, s, p, g, k: kernel(t, w, s, p * math.pi / 180, g, k), "degrees", "psi"),
            (lambda t, w, s, p, g, k: 3 * kernel(t, w, s, p, g, k), "scaled", "3 times"),
            (lambda t, w, s, p, g, k: -kernel(t, w, s, p, g, k), "scaled", "-1 times"),
            (
                lambda t, w, s, p, g, k: kernel(t, w, s, p, g, k) / kernel(t, w, s, p, g, k).sum(),
                "scaled",
                "its own sum",
            ),
            (
                lambda t, w, s, p, g, k: kernel(t, w, s, p, g, k) * g / (2 * math.pi * s**2),
                "scaled",
                "0.159155 sigma^-2 gamma times",
            ),
            (
                lambda t, w, s, p, g, k: _divided(kernel(t, w, s, p, g, k), 1),
                "scaled",
                "magnitudes",
            ),
            (lambda t, w, s, p, g, k: _divided(kernel(t, w, s, p, g, k), 2), "scaled", "norm"),
            (lambda t, w, s, p, g, k: kernel(t - math.pi / 2, w, s, p, g, k), "unknown", "turned"),
            (lambda t, w, s, p, g, k: kernel(t, w, s, p, g**0.5, k), "unknown", "gamma^2 belongs"),
            (lambda t, w, s, p, g, k: kernel(t, w, s, p, 1.0, k), "unknown", "leaves gamma out"),
            (lambda t, w, s, p, g, k: kernel(t, w, s, 0.0, g, k), "unknown", "leaves psi out"),
            (
                lambda t, w, s, p, g, k: kernel(t, w, s, p, g, k) - kernel(t, w, s, p, g, k).mean(),
                "unknown",
                "mean is subtracted",
            ),
            (lambda t, w, s, p, g, k: np.ones((k, k)), "unknown", "none of the usual"),
            (lambda t, w, s, p, g, k: np.full((k, k), np.nan), "unknown", "not finite"),
        ],
    )
    def test_planted_formulas(self, wrong, match, words):
        user = check_kernel(wrong).user
        assert not user.ok
        assert user.best_match == match
        assert words in user.explanation

    def test_opencvs_is_turned_by_half_a_turn(self):
        def opencv(theta, lambd, sigma, psi, gamma, ksize):
            numbers = map(float, (sigma, theta, lambd, gamma, psi))
            return cv2.getGaborKernel((ksize, ksize), *numbers)

        assert check_kernel(opencv).user.best_match == "rotated_180"

    def test_a_function_that_takes_less(self):
        def without_phase(theta, wavelength, sigma):
            return kernel(theta, wavelength, sigma, 0.0, 1.0, 9)

        check = check_kernel(without_phase)
        assert check.ok
        assert "psi = 0 and gamma = 1" in check.user.explanation

    @pytest.mark.parametrize(
        ("function", "error", "words"),
        [
            (lambda theta, colour: 0, UsageError, "colour"),
            (lambda x, theta: 0, UsageError, "one coordinate"),
            (lambda theta, kernel_size: np.ones((3, 4)), InputError, "shape"),
            (lambda theta, kernel_size: np.ones((16, 16)), InputError, "shape"),
            (lambda theta, kernel_size: np.ones((15, 15)) * 1j, InputError, "complex"),
            (lambda theta, kernel_size: "kernel", InputError, "not real numbers"),
        ],
    )
    def test_what_is_no_kernel(self, function, error, words):
        with pytest.raises(error, match=words):
            check_kernel(function)

    def test_an_error_in_the_users_code(self):
        def broken(theta, kernel_size):
            return missing_name  # noqa: F821

        with pytest.raises(InputError, match=r"test_verify.py, line \d+, in broken: NameError"):
            check_kernel(broken)

    def test_an_even_side(self):
        with pytest.raises(ParameterError):
            check_kernel(kernel_size=8)


def test_json():
    document = check_derivative(parse_expression(f"3 ({RIGHT})")).to_dict()
    document = json.loads(json.dumps(document, allow_nan=False))
    assert document["ok"] is False
    assert document["wrt"] == "theta"
    assert set(document["reference"]) == {"autograd", "complex_step", "numeric"}
    assert document["user"]["ok"] is False
    assert document["user"]["best_match"] == "scaled"
    assert document["user"]["factor"] == pytest.approx(3)
    assert document["user"]["max_relative_error"] == pytest.approx(2)
    assert isinstance(document["user"]["explanation"], str)
    assert (
        check_derivative(parse_expression("1/(x - x)")).to_dict()["user"]["max_relative_error"]
        is None
    )
    assert check_kernel().to_dict()["user"] is None
