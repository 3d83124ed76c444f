"""Responses of an image to kernels, against loops over pixels, and their exact compression."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gabordiag.errors import UsageError
from gabordiag.gabor import gabor_kernel
from gabordiag.objective import response
from gabordiag.objective.response import (
    PADDINGS,
    CompressedResponse,
    correlate,
    correlate_by_definition,
    factor_gram,
    kernel_basis,
    output_shape,
    pad_image,
    response_gram,
)
from tests import reference

paddings = pytest.mark.parametrize("padding", PADDINGS)


def random_kernels(count: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.as_tensor(np.random.default_rng(seed).standard_normal((count, size, size)))


def compress(padded, kernels, extra=None) -> CompressedResponse:
    basis = kernel_basis(kernels)
    return factor_gram(response_gram(padded, basis, extra), basis)


def responses_by_loops(image, kernels, padding) -> np.ndarray:
    rows = np.asarray(image).tolist()
    return np.array([reference.correlate(rows, k.tolist(), padding) for k in kernels])


@paddings
@given(
    rows=st.integers(5, 9),
    columns=st.integers(5, 9),
    size=st.sampled_from([3, 5]),
    seed=st.integers(0, 99),
)
def test_responses_are_the_loops_over_pixels(padding, rows, columns, size, seed):
    image = np.random.default_rng(seed).standard_normal((rows, columns))
    kernels = random_kernels(2, size, seed + 1)
    padded = pad_image(torch.as_tensor(image), size, padding)
    expected = responses_by_loops(image, kernels, padding)
    assert math.prod(output_shape(padded, size)) == expected.shape[1]
    np.testing.assert_allclose(correlate(padded, kernels), expected, atol=1e-13)
    for kernel, values in zip(kernels, expected, strict=True):
        np.testing.assert_allclose(correlate_by_definition(padded, kernel), values, atol=1e-13)


@paddings
def test_padded_images(padding):
    image = np.arange(12.0).reshape(3, 4)
    expected = {
        "valid": image,
        "same": np.pad(image, 1),
        "circular": np.pad(image, 1, mode="wrap"),
    }
    np.testing.assert_array_equal(pad_image(torch.as_tensor(image), 3, padding), expected[padding])


def test_unknown_padding():
    with pytest.raises(UsageError, match="'reflect' is unknown") as caught:
        pad_image(torch.zeros(5, 5), 3, "reflect")
    assert all(padding in caught.value.advice for padding in PADDINGS)


def test_a_single_bright_pixel_shows_the_kernel_turned():
    # Correlation, not convolution: the impulse response is the kernel rotated by 180 degrees.
    image = torch.zeros(9, 9, dtype=torch.float64)
    image[4, 4] = 1
    kernel = random_kernels(1, 5)
    out = correlate(image, kernel).reshape(5, 5)
    assert torch.equal(out, kernel[0].flip(0, 1))


def test_responses_are_differentiable():
    kernels = random_kernels(2, 3).requires_grad_()
    image = torch.as_tensor(np.random.default_rng(1).standard_normal((5, 6)))
    assert torch.autograd.gradcheck(lambda k: correlate(image, k), kernels)


class TestStrips:
    """Long images are worked through in strips; where they are cut must not show."""

    image = torch.as_tensor(np.random.default_rng(2).standard_normal((41, 23)))
    kernels = random_kernels(4, 7)

    # One row a strip, some rows with a shorter strip at the end, and everything at once.
    @pytest.fixture(params=[1, 8 * 49 * 17 * 9, 2**28])
    def strip_bytes(self, request, monkeypatch):
        monkeypatch.setattr(response, "STRIP_BYTES", request.param)
        return request.param

    # Which of the two ways is taken, whatever the image's size.
    @pytest.fixture(params=[0, math.inf])
    def way(self, request, monkeypatch):
        monkeypatch.setattr(response, "_BORDERS", request.param)

    @paddings
    def test_same_responses(self, strip_bytes, padding):
        padded = pad_image(self.image, 7, padding)
        expected = torch.stack([correlate_by_definition(padded, k) for k in self.kernels])
        torch.testing.assert_close(correlate(padded, self.kernels), expected, rtol=0, atol=1e-13)

    @pytest.mark.each(3)
    @paddings
    @pytest.mark.parametrize("with_extra", [False, True])
    def test_same_gram(self, strip_bytes, way, padding, with_extra):
        padded = pad_image(self.image, 7, padding)
        rows = [correlate_by_definition(padded, k) for k in self.kernels]
        shape = output_shape(padded, 7)
        extra = torch.as_tensor(np.random.default_rng(3).standard_normal(shape))
        if with_extra:
            rows.append(extra.flatten())
        all_rows = torch.stack(rows)
        expected = all_rows @ all_rows.T / all_rows.shape[1]
        gram = response_gram(padded, self.kernels, extra if with_extra else None)
        torch.testing.assert_close(gram, expected, rtol=0, atol=1e-13 * expected.abs().max())

    def test_strips_are_really_taken(self, monkeypatch):
        seen = []
        original = torch.nn.functional.conv2d

        def counted(image, *args, **kwargs):
            seen.append(image.shape[-2])
            return original(image, *args, **kwargs)

        monkeypatch.setattr(torch.nn.functional, "conv2d", counted)
        # 17 columns of 49 doubles a patch: nine output rows, from 15 image rows, fit; 35 are to do.
        monkeypatch.setattr(response, "STRIP_BYTES", 8 * 49 * 17 * 9)
        correlate(self.image, self.kernels)
        assert seen == [14, 15, 15, 15]


@given(
    rows=st.integers(7, 40),
    columns=st.integers(7, 40),
    mean=st.sampled_from([0.0, 1.0, -300.0]),
    borders=st.sampled_from([0, math.inf]),
    seed=st.integers(0, 99),
)
def test_gram_of_any_image_shape(rows, columns, mean, borders, seed):
    # Every length once: the transforms are padded to lengths with small prime factors.
    image = torch.as_tensor(mean + np.random.default_rng(seed).standard_normal((rows, columns)))
    kernels = random_kernels(3, 7, seed)
    responses = torch.stack([correlate_by_definition(image, k) for k in kernels])
    expected = responses @ responses.T / responses.shape[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(response, "_BORDERS", borders)
        gram = response_gram(image, kernels)
    torch.testing.assert_close(gram, expected, rtol=0, atol=2e-13 * expected.abs().max())


class TestBasis:
    def test_basis_is_orthonormal_and_spans(self):
        three = random_kernels(3, 5)
        mixed = torch.einsum("nk,kij->nij", random_kernels(1, 10)[0, :, :3], three)
        basis = kernel_basis(mixed)
        assert basis.shape == (3, 5, 5)
        flat = basis.flatten(1)
        torch.testing.assert_close(flat @ flat.T, torch.eye(3, dtype=torch.float64))
        inside = (mixed.flatten(1) @ flat.T) @ flat
        torch.testing.assert_close(inside, mixed.flatten(1), rtol=0, atol=1e-13)

    def test_all_phases_span_two_kernels(self):
        # cos(p + psi) = cos(psi) cos(p) - sin(psi) sin(p).
        kernels = gabor_kernel(psi=torch.linspace(-3, 3, 50, dtype=torch.float64))
        assert len(kernel_basis(kernels)) == 2

    def test_all_orientations_span_about_fifty(self):
        # The numerical rank is known from the Gabor's angular Fourier series: 52, give or take the
        # last singular values, which lie at rounding.
        thetas = torch.arange(256, dtype=torch.float64) * math.pi / 256
        assert abs(len(kernel_basis(gabor_kernel(thetas))) - 52) <= 2


class TestCompression:
    image = torch.as_tensor(0.5 + np.random.default_rng(4).standard_normal((23, 31)))
    kernels = gabor_kernel(torch.linspace(-1, 2, 20, dtype=torch.float64), 5.0, 2.0, kernel_size=9)

    @paddings
    def test_inner_products_of_responses_are_kept(self, padding):
        padded = pad_image(self.image, 9, padding)
        compressed = compress(padded, self.kernels)
        # Any combination of the spanning kernels, not they themselves.
        mixed = torch.einsum("nk,kij->nij", random_kernels(1, 20)[0, :6], self.kernels)
        responses = torch.stack([correlate_by_definition(padded, k) for k in mixed])
        short = compressed(mixed)
        assert short.shape == (6, len(compressed.weights))
        expected = responses @ responses.T / responses.shape[1]
        atol = 1e-13 * expected.abs().max()
        torch.testing.assert_close(short @ short.T, expected, rtol=0, atol=atol)
        assert not compressed.extra.any()

    @paddings
    def test_an_additive_image_joins_exactly(self, padding):
        padded = pad_image(self.image, 9, padding)
        noise = torch.as_tensor(np.random.default_rng(5).standard_normal(output_shape(padded, 9)))
        compressed = compress(padded, self.kernels, noise)
        responses = torch.stack([correlate_by_definition(padded, k) for k in self.kernels])
        short = compressed(self.kernels)
        pixels = noise.numel()
        for ours, expected in (
            (short @ compressed.extra, responses @ noise.flatten() / pixels),
            (compressed.extra @ compressed.extra, noise.flatten() @ noise.flatten() / pixels),
            (short @ short.T, responses @ responses.T / pixels),
        ):
            atol = 1e-13 * (responses.square().mean() + 1).item()
            torch.testing.assert_close(ours, expected, rtol=0, atol=atol)

    def test_batches_keep_their_shape(self):
        compressed = compress(self.image, self.kernels)
        batch = self.kernels.reshape(4, 5, 9, 9)
        torch.testing.assert_close(
            compressed(batch).reshape(20, -1), compressed(self.kernels), rtol=1e-13, atol=1e-13
        )

    def test_moving_changes_the_precision_only(self):
        noise = torch.ones(output_shape(self.image, 9), dtype=torch.float64)
        double = compress(self.image, self.kernels, noise)
        single = double.to(torch.float32, torch.device("cpu"))
        assert single.weights.dtype == single.extra.dtype == torch.float32
        assert single.weights.shape == double.weights.shape
        torch.testing.assert_close(single.weights.double(), double.weights, rtol=1e-6, atol=1e-6)
