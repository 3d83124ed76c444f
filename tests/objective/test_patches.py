"""The Gram matrix of patches against single shifted images; kernels outside every sampled range."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gabordiag.gabor import PARAMETER_NAMES
from gabordiag.objective import response
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_line import along
from gabordiag.objective.response import patch_gram


def _by_shifting(image: np.ndarray, size: int, extra: np.ndarray | None) -> np.ndarray:
    rows, columns = image.shape[0] - size + 1, image.shape[1] - size + 1
    shifted = [
        image[u : u + rows, v : v + columns].ravel() for u in range(size) for v in range(size)
    ]
    if extra is not None:
        shifted.append(extra.ravel())
    matrix = np.array(shifted)
    return matrix @ matrix.T / (rows * columns)


@given(
    size=st.sampled_from([3, 5, 7]),
    more=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    mean=st.sampled_from([0.0, 0.5, 100.0]),
    noisy=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_patches_are_shifted_images(size, more, mean, noisy, seed):
    generator = np.random.default_rng(seed)
    image = mean + generator.standard_normal((size + more[0], size + more[1]))
    extra = generator.standard_normal((more[0] + 1, more[1] + 1)) if noisy else None
    expected = _by_shifting(image, size, extra)
    given_extra = None if extra is None else torch.as_tensor(extra)
    gram = patch_gram(torch.as_tensor(image), size, given_extra).numpy()
    np.testing.assert_allclose(gram, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


def test_wide_images_are_cut_into_strips(monkeypatch):
    image = np.random.default_rng(1).random((20, 95))
    monkeypatch.setattr(response, "TILE_SIDE", 30)
    gram = patch_gram(torch.as_tensor(image), 5).numpy()
    np.testing.assert_allclose(gram, _by_shifting(image, 5, None), rtol=0, atol=1e-14)


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("loss", ["rmse", "mse", "cosine"])
@pytest.mark.parametrize("name", ["wavelength", "sigma", "gamma"])
def test_outside_its_range_a_parameter_is_as_exact(name, loss, noise):
    assert name in PARAMETER_NAMES
    image = np.random.default_rng(2).random((40, 37))
    experiment = Experiment(
        image=image, kernel_size=11, wavelength=5.0, sigma=2.0, loss=loss, target_noise=noise
    )
    shortcut, direct = along(experiment, name), along(experiment, name, direct=True)
    low, high = shortcut.parameter.low, shortcut.parameter.high
    # One far outside, where the kernels of the range no longer span this one, and one inside.
    values = np.array([0.4 * low, 3 * high, (low + high) / 2])
    expected = direct.derivatives(values)
    scale = np.abs(expected).max(axis=1)
    for ours in (
        shortcut.derivatives(values),
        [shortcut.loss_at(values), shortcut.gradient(values)],
    ):
        np.testing.assert_allclose(ours[0], expected[0], rtol=0, atol=1e-12 * scale[0])
        np.testing.assert_allclose(ours[1], expected[1], rtol=0, atol=1e-12 * scale[1])
