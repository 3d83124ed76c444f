"""Responses of one image to kernels: directly, and through the exact shortcut.

The response is linear in the kernel. Let the rows of B (r, K^2) be an orthonormal basis of all
kernels that can occur, R (r, P) the image's responses to them, and M = R R^T / P = F^T F. Then for
any two such kernels g, h, with W = F B (r, K^2),

    <response(g), response(h)> / P  =  (W g) . (W h)

exactly, whatever the image's size: r numbers, the *compressed response* W g, stand for a whole
response image wherever only inner products matter, which is the case for all losses here. An
additive image n (noise in the target) joins R as one more row.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from gabordiag.errors import UsageError

PADDINGS = ("valid", "same", "circular")
# Singular values up to this part of the kernels' Frobenius norm are rounding. An entry is computed
# from a phase p with some 6 roundings, so that its cosine is off by 3 eps |p|, and from an envelope
# with some 8, off by 4 eps; within two deviations of the envelope |p| <= 4 pi sigma / wavelength,
# 5 for the default. That makes 20 eps of the envelope, whose norm is sqrt(2) times the kernel's: a
# matrix E with |E|_2 <= |E|_F <= 28 eps |G|_F, by which singular values can move (Weyl). The SVD
# adds a few eps |G|_2. Seen were 7.4 eps |G|_F. What is cut of the n kernels is at most this part
# of one kernel's root mean square norm in each dropped direction: their own rounding.
RANK_TOLERANCE = 32 * torch.finfo(torch.float64).eps
# Working memory of one strip of responses, and of one strip of conv2d's unfolded patches.
STRIP_BYTES = 256 * 2**20
# Columns of the response from one banded matrix: most of its entries should be the kernel's.
_BAND = 64
# Side of the tiles that are transformed at once: a spectrum of that size stays in the cache.
TILE_SIDE = 600


def pad_image(image: Tensor, kernel_size: int, padding: str) -> Tensor:
    """Returns the image (H, W) extended so that a `valid` correlation gives the padded one."""
    half = kernel_size // 2
    modes = {"same": "constant", "circular": "circular"}
    if padding == "valid":
        return image
    if padding not in modes:
        raise UsageError(f"padding '{padding}' is unknown.", f"Use one of {', '.join(PADDINGS)}.")
    return torch.nn.functional.pad(image[None, None], (half,) * 4, modes[padding])[0, 0]


def output_shape(padded: Tensor, kernel_size: int) -> tuple[int, int]:
    """Returns the rows and columns of a response to the padded image."""
    return padded.shape[0] - kernel_size + 1, padded.shape[1] - kernel_size + 1


def correlate(padded: Tensor, kernels: Tensor) -> Tensor:
    """Returns the direct responses (n, P) by `torch.nn.functional.conv2d`, differentiable.

    Works in strips of rows, because conv2d in float64 unfolds every patch in memory.
    """
    kernel_size = kernels.shape[-1]
    rows, columns = output_shape(padded, kernel_size)
    largest = max(1, STRIP_BYTES // (8 * kernel_size**2 * columns))
    strips = [
        torch.nn.functional.conv2d(padded[None, None, lo : hi + kernel_size - 1], kernels[:, None])
        for lo, hi in equal_parts(rows, largest)
    ]
    return torch.cat(strips, dim=-2)[0].flatten(1)


def correlate_by_definition(padded: Tensor, kernel: Tensor) -> Tensor:
    """Returns one direct response (P,) as the sum over the kernel's pixels of shifted images.

    A row of the kernel is a banded matrix on the image's rows. Not differentiable, but in float64
    much faster than conv2d; the run-time check of the shortcut compares with it.
    """
    size = kernel.shape[-1]
    rows, columns = output_shape(padded, size)
    response = torch.zeros(rows, columns, dtype=padded.dtype, device=padded.device)
    for left, right in equal_parts(columns, _BAND):
        width = right - left
        # bands[y, c + x, c] = kernel[y, x].
        bands = padded.new_zeros(size, width + size - 1, width)
        strides = (bands.stride(0), width + 1, width)
        bands.as_strided((size, width, size), strides).copy_(kernel[:, None])
        for y, band in enumerate(bands):
            response[:, left:right].addmm_(padded[y : y + rows, left : right + size - 1], band)
    return response.flatten()


def kernel_basis(kernels: Tensor) -> Tensor:
    """Returns an orthonormal basis (r, K, K) of the kernels (n, K, K), to rounding level."""
    side = kernels.shape[-1]
    with one_thread():
        _, singular, basis = torch.linalg.svd(kernels.flatten(1), full_matrices=False)
    rank = int((singular > RANK_TOLERANCE * singular.norm()).sum())
    leading: Tensor = basis[:rank]
    return leading.reshape(rank, side, side)


@contextmanager
def one_thread() -> Iterator[None]:
    """Sums in one order, whatever the number of threads, so that results agree to the bit.

    Only what sums over pixels or iterates is worth it; transforms are the same in any case.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def equal_parts(length: int, largest: int) -> list[tuple[int, int]]:
    """Cuts a length into the fewest parts of at most `largest`, of nearly equal size."""
    count = math.ceil(length / largest)
    return list(itertools.pairwise([length * index // count for index in range(count + 1)]))


@dataclass(frozen=True)
class CompressedResponse:
    """The map from kernels to compressed responses.

    The weights W are (r, K^2), or (r, p) for a kernel's first p pixels, where those say all;
    `extra` is the compressed form (r,) of the additive image, zero where there is none, and `rank`
    r without it.
    """

    weights: Tensor
    extra: Tensor
    rank: int

    def __call__(self, kernels: Tensor) -> Tensor:
        """Returns the compressed responses (..., r) of kernels (..., K, K)."""
        return kernels.flatten(-2)[..., : self.weights.shape[1]] @ self.weights.T

    def to(self, dtype: torch.dtype, device: torch.device) -> CompressedResponse:
        """Returns the same map in another precision, on another device."""
        weights, extra = (tensor.to(device, dtype) for tensor in (self.weights, self.extra))
        return CompressedResponse(weights, extra, self.rank)


def factor_gram(gram: Tensor, basis: Tensor) -> CompressedResponse:
    """Returns the compressed response that has the given inner products.

    M is (r, r) of the basis, of one image or the mean over several; or (r + 1, r + 1) with an
    additive image. The basis is (r, K, K), or (r, p): the kernels' pixels that count.
    """
    # M = V diag(l) V^T gives F = diag(sqrt l) V^T; eigenvalues below zero are rounding. Scaled to a
    # unit diagonal first, because rounding is relative to the largest entry, and an additive image
    # may be far stronger or weaker than the responses.
    scale = gram.diagonal().clamp(min=torch.finfo(torch.float64).tiny).sqrt()
    rank = len(basis)
    with one_thread():
        eigenvalues, vectors = torch.linalg.eigh(gram / scale / scale[:, None])
        factor = eigenvalues.clamp(min=0).sqrt()[:, None] * vectors.T * scale
        weights = factor[:, :rank] @ basis.flatten(1)
    offset = factor[:, rank] if len(gram) > rank else torch.zeros_like(factor[:, 0])
    return CompressedResponse(weights, offset, rank)
