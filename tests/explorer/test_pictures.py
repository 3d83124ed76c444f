"""Small pictures of responses against means over blocks of the direct ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gabordiag.explorer.exploration import ResponsePictures, picture_responses
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_line import along
from tests.dynamics import independent

FILTER = {"wavelength": 9.0, "sigma": 3.0, "gamma": 0.6}


def direct(image: np.ndarray, theta: float, size: int, **constants: float) -> np.ndarray:
    """Returns the whole response by conv2d, with a kernel written elsewhere."""
    kernel = independent.kernel(
        torch.tensor(theta, dtype=torch.float64), size, psi=0.0, **constants
    )
    pixels = torch.as_tensor(image)[None, None]
    response: np.ndarray = torch.nn.functional.conv2d(pixels, kernel[None, None])[0, 0].numpy()
    return response


def block_means(picture: np.ndarray, block: int, shape: tuple[int, int]) -> np.ndarray:
    """Returns means over blocks of the middle part that has `shape` blocks."""
    rows, columns = shape[0] * block, shape[1] * block
    top, left = (picture.shape[0] - rows) // 2, (picture.shape[1] - columns) // 2
    part = picture[top : top + rows, left : left + columns]
    means: np.ndarray = part.reshape(shape[0], block, shape[1], block).mean(axis=(1, 3))
    return means


def response(pictures: ResponsePictures, theta: float, period: float) -> np.ndarray:
    """Returns the reduced response (rows, columns) at one angle, by the formula of the class."""
    waves = np.arange(pictures.cosines.shape[1]) * (2 * math.pi * theta / period)
    coordinates = pictures.cosines @ np.cos(waves) + pictures.sines @ np.sin(waves)
    return np.asarray(np.tensordot(coordinates * pictures.scales, pictures.components, axes=1))


@pytest.mark.long
@pytest.mark.parametrize("shape", [(60, 52), (700, 640)])
def test_pictures_are_the_means_of_the_direct_responses(texture, shape):
    image = texture(*shape)
    objective = along(Experiment(image=image, kernel_size=13, **FILTER))
    pictures = picture_responses(objective)
    assert pictures.components.nbytes <= 600_000
    assert pictures.is_whole == (max(shape) < 600)
    assert objective.parameter.period is not None
    for theta in (-1.2, 0.3, math.pi / 4):
        shown = response(pictures, theta, objective.parameter.period)
        true = block_means(direct(image, theta, 13, **FILTER), pictures.block, shown.shape)
        # Of 256 grey levels between darkest and brightest, some.
        assert np.abs(shown - true).max() < 0.03 * np.ptp(true)
        if theta == math.pi / 4:
            np.testing.assert_allclose(pictures.target, true, atol=1e-4 * np.ptp(true))


def test_noise_of_the_target_is_in_its_picture(texture):
    image = texture(50, 48)
    settings = {"image": image, "kernel_size": 13, **FILTER}
    plain = picture_responses(along(Experiment(**settings))).target
    noisy = Experiment(**settings, target_noise=0.5, seed=3)
    shown = picture_responses(along(noisy)).target
    np.testing.assert_allclose(shown - plain, noisy.noise, atol=1e-5)


def test_the_image_is_shown_under_the_kernels_centres(texture):
    image = texture(40, 30)
    pictures = picture_responses(along(Experiment(image=image, kernel_size=13, **FILTER)))
    part = image[6:-6, 6:-6]
    levels = 255 * (part - part.min()) / np.ptp(part)
    assert np.abs(pictures.image - levels).max() <= 0.5 + 1e-9
    assert pictures.block == 1


def test_images_of_a_few_pixels_have_pictures(texture):
    pictures = picture_responses(
        along(Experiment(image=texture(14, 200), kernel_size=13, **FILTER))
    )
    assert pictures.components.shape[1] >= 1
