"""Responses of one image to kernels: directly, and through the exact shortcut.

The response is linear in the kernel. Let the rows of B (r, K^2) be an orthonormal basis of all
kernels that can occur, R (r, P) the image's responses to them, and M = R R^T / P = F^T F. Then for
any two such kernels g, h, with W = F B (r, K^2),

    <response(g), response(h)> / P  =  (W g) . (W h)

exactly, whatever the image's size: r numbers, the *compressed response* W g, stand for a whole
response image wherever only inner products matter, which is the case for every loss here. An
additive image n (noise in the target) joins R as one more row.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gabordiag.errors import UsageError

PADDINGS = ("valid", "same", "circular")
# Relative to the largest singular value: below this the samples' own rounding takes over (for the
# 31 x 31 kernels of every theta the spectrum falls by decades down to here and is flat beyond).
RANK_TOLERANCE = 8 * torch.finfo(torch.float64).eps
# Working memory of one strip of responses, and of one strip of conv2d's unfolded patches.
STRIP_BYTES = 256 * 2**20
# Side of the tiles that are transformed at once: a spectrum of that size stays in the cache.
TILE_SIDE = 600


def pad_image(image: Tensor, kernel_size: int, padding: str) -> Tensor:
    """Returns the image (H, W) extended so that a `valid` correlation gives the padded one.

    Raises:
        UsageError: `padding` is unknown.
    """
    half = kernel_size // 2
    if padding == "valid":
        return image
    if padding == "same":
        return torch.nn.functional.pad(image, (half, half, half, half))
    if padding == "circular":
        wrapped = torch.nn.functional.pad(image[None, None], (half,) * 4, mode="circular")
        return wrapped[0, 0]
    raise UsageError(f"padding '{padding}' is unknown.", f"Use one of {', '.join(PADDINGS)}.")


def output_shape(padded: Tensor, kernel_size: int) -> tuple[int, int]:
    """Returns the rows and columns of a response to the padded image."""
    return padded.shape[0] - kernel_size + 1, padded.shape[1] - kernel_size + 1


def correlate(padded: Tensor, kernels: Tensor) -> Tensor:
    """Returns the direct responses by `torch.nn.functional.conv2d`, differentiable.

    Works in strips of rows, because conv2d in float64 unfolds every patch in memory.

    Args:
        padded: (H, W), from `pad_image`.
        kernels: (n, K, K).

    Returns:
        (n, P), P the number of output pixels.
    """
    kernel_size = kernels.shape[-1]
    rows, columns = output_shape(padded, kernel_size)
    step = _strip_rows(kernel_size**2 * columns, rows)
    strips = [
        torch.nn.functional.conv2d(padded[None, None, lo : hi + kernel_size - 1], kernels[:, None])
        for lo, hi in _strips(rows, step)
    ]
    return torch.cat(strips, dim=-2)[0].flatten(1)


def correlate_by_definition(padded: Tensor, kernel: Tensor) -> Tensor:
    """Returns one direct response (P,) as the sum over the kernel's pixels of shifted images.

    Not differentiable, but in float64 some twenty times faster than conv2d, and the definition
    itself; the run-time check of the shortcut rests on it.
    """
    kernel_size = kernel.shape[-1]
    rows, columns = output_shape(padded, kernel_size)
    response = torch.zeros(rows, columns, dtype=padded.dtype, device=padded.device)
    weights = list(enumerate(kernel.tolist()))
    for top, bottom in _equal_parts(rows, TILE_SIDE):
        for left, right in _equal_parts(columns, TILE_SIDE):
            tile = response[top:bottom, left:right]
            for y, line in weights:
                for x, value in enumerate(line):
                    tile.add_(padded[top + y : bottom + y, left + x : right + x], alpha=value)
    return response.flatten()


def kernel_basis(kernels: Tensor) -> Tensor:
    """Returns an orthonormal basis (r, K, K) of the kernels (n, K, K), to rounding level."""
    side = kernels.shape[-1]
    _, singular, basis = torch.linalg.svd(kernels.flatten(1), full_matrices=False)
    rank = int((singular > RANK_TOLERANCE * singular[0]).sum())
    leading: Tensor = basis[:rank]
    return leading.reshape(rank, side, side)


def response_gram(padded: Tensor, basis: Tensor, extra: Tensor | None = None) -> Tensor:
    """Returns M = R R^T / P, the Gram matrix of the image's responses to the basis.

    Args:
        padded: Image (H, W), float64.
        basis: (r, K, K).
        extra: An additional image of the output's shape, joined as the last row of R.

    Returns:
        (r, r), or (r + 1, r + 1) with `extra`.
    """
    kernel_size = basis.shape[-1]
    rows, columns = output_shape(padded, kernel_size)
    count = len(basis) + (extra is not None)
    gram = torch.zeros(count, count, dtype=torch.float64, device=padded.device)
    side = max(1, min(TILE_SIDE, math.isqrt(STRIP_BYTES // (8 * count))))
    tiles = itertools.product(_equal_parts(rows, side), _equal_parts(columns, side))
    for (top, bottom), (left, right) in tiles:
        area = (bottom - top) * (right - left)
        responses = torch.empty(count, area, dtype=torch.float64, device=gram.device)
        part = padded[top : bottom + kernel_size - 1, left : right + kernel_size - 1]
        _fft_responses(part, basis, responses)
        if extra is not None:
            responses[-1] = extra[top:bottom, left:right].flatten()
        gram += responses @ responses.T
    return gram / (rows * columns)


def patch_gram(padded: Tensor, kernel_size: int, extra: Tensor | None = None) -> Tensor:
    """Returns the Gram matrix of the image's responses to every single pixel of a kernel.

    With it the compressed response is exact for every kernel of that size, whatever its parameters.
    The response to pixel (u, v) is the image shifted by (u, v). For two rows of the kernel, u and
    u + d, let G(u, d) be the (K, K) block of inner products, and U_r (K, columns) the image's row r
    shifted by 0, ..., K - 1. Then

        G(u, d) = sum_{r=u}^{u+rows-1} U_r U_{r+d}^T,
        G(u + 1, d) = G(u, d) + U_{u+rows} U_{u+rows+d}^T - U_u U_{u+d}^T :

    K passes over the whole image instead of K^2 (K^2 + 1) / 2.

    Args:
        padded: Image (H, W), float64.
        kernel_size: K.
        extra: An additional image of the output's shape, joined as the last row of R.

    Returns:
        (K^2, K^2), or (K^2 + 1, K^2 + 1) with `extra`; divided by the number of output pixels.
    """
    size = kernel_size
    rows, columns = output_shape(padded, size)
    top, bottom = (
        part.unfold(1, columns, 1).contiguous() for part in (padded[: size - 1], padded[rows:])
    )
    gram = padded.new_empty(size, size, size, size)
    for down in range(size):
        block = _first_block(padded, down, size)
        changes = bottom[: size - 1 - down] @ bottom[down:].mT
        changes -= top[: size - 1 - down] @ top[down:].mT
        for upper in range(size - down):
            gram[upper, :, upper + down] = block
            gram[upper + down, :, upper] = block.T
            if upper + 1 < size - down:
                block = block + changes[upper]
    gram = gram.reshape(size**2, size**2)
    if extra is not None:
        column = _correlate_with(padded, extra).reshape(-1, 1)
        corner = extra.square().sum().reshape(1, 1)
        gram = torch.cat([torch.cat([gram, column], 1), torch.cat([column.T, corner], 1)])
    return gram / (rows * columns)


def _first_block(padded: Tensor, down: int, size: int) -> Tensor:
    """Returns G(0, down) (K, K): [v, w] is the sum of I[r, q + v] I[r + down, q + w].

    With C[c, e] = sum_r I[r, c] I[r + down, e], one matrix product, it is a sum along the diagonal
    e - c = w - v from c = v on; the next v drops the diagonal's first and takes one more.
    """
    rows, columns = output_shape(padded, size)
    # Columns beyond the image's ends: every strip's diagonals then lie in one block of memory.
    wide = torch.nn.functional.pad(padded, (size - 1, size - 1))
    diagonals = []
    for lo, hi in _equal_parts(padded.shape[1], TILE_SIDE):
        product = padded[:rows, lo:hi].T @ wide[down : down + rows, lo : hi + 2 * (size - 1)]
        stride = product.shape[1] + 1
        diagonals.append(product.as_strided((hi - lo, 2 * size - 1), (stride, 1)))
    band = torch.cat(diagonals)
    first = band[:columns].sum(0, keepdim=True)
    edges = band[columns:] - band[: size - 1]
    sums = torch.cat([first, first + edges.cumsum(0)])
    # sums[v, size - 1 + w - v] -> block[v, w]
    v = torch.arange(size, device=padded.device)
    return sums[v[:, None], size - 1 + v[None, :] - v[:, None]]


def _correlate_with(padded: Tensor, extra: Tensor) -> Tensor:
    """Returns the sums (K, K) of the image under `extra`, shifted by every pixel of a kernel."""
    shape = padded.shape
    product = torch.fft.rfft2(padded) * torch.fft.rfft2(extra, s=shape).conj()
    size = shape[0] - extra.shape[0] + 1
    return torch.fft.irfft2(product, s=shape)[:size, :size]


def _fft_responses(strip: Tensor, basis: Tensor, out: Tensor) -> None:
    # Correlation theorem. One kernel at a time: a spectrum of one fits the cache, of all does not.
    # The mean is taken out first and its exact response added back, because it would otherwise
    # set the level of the transform's rounding.
    kernel_size = basis.shape[-1]
    rows, columns = output_shape(strip, kernel_size)
    shape = (_fast_length(strip.shape[0]), _fast_length(strip.shape[1]))
    mean = strip.mean()
    spectrum = torch.fft.rfft2(strip - mean, s=shape)
    for kernel, row in zip(basis, out, strict=False):
        across = torch.fft.rfft(kernel, n=shape[1])
        product = torch.fft.fft(across, n=shape[0], dim=0).conj_physical_().mul_(spectrum)
        response = torch.fft.irfft2(product, s=shape)[:rows, :columns]
        row.view(rows, columns).copy_(response).add_(mean * kernel.sum())


def _equal_parts(length: int, largest: int) -> list[tuple[int, int]]:
    """Cuts a length into the fewest parts of at most `largest`, of nearly equal size."""
    count = math.ceil(length / largest)
    edges = [length * index // count for index in range(count + 1)]
    return list(itertools.pairwise(edges))


def _strip_rows(doubles_per_row: int, rows: int) -> int:
    return max(1, min(rows, STRIP_BYTES // (8 * doubles_per_row)))


def _strips(rows: int, step: int) -> Iterator[tuple[int, int]]:
    return ((lo, min(lo + step, rows)) for lo in range(0, rows, step))


def _fast_length(n: int) -> int:
    """The smallest 2^a 3^b 5^c that is at least n: lengths that FFTs are quick at."""
    best = 1 << math.ceil(math.log2(n))
    fives = 1
    while fives < best:
        threes = fives
        while threes < best:
            twos = max(0, math.ceil(math.log2(n / threes)))
            best = min(best, threes << twos)
            threes *= 3
        fives *= 5
    return best


@dataclass(frozen=True)
class CompressedResponse:
    """The map from kernels to compressed responses.

    Attributes:
        weights: W (r, K^2).
        extra: Compressed form (r,) of the additive image, zero where there is none.
        rank: r without the additive image.
    """

    weights: Tensor
    extra: Tensor
    rank: int

    def __call__(self, kernels: Tensor) -> Tensor:
        """Returns the compressed responses (..., r) of kernels (..., K, K)."""
        return kernels.flatten(-2) @ self.weights.T

    def to(self, dtype: torch.dtype, device: torch.device) -> CompressedResponse:
        """Returns the same map in another precision, on another device."""
        return CompressedResponse(
            self.weights.to(dtype=dtype, device=device),
            self.extra.to(dtype=dtype, device=device),
            self.rank,
        )


def compress(padded: Tensor, kernels: Tensor, extra: Tensor | None = None) -> CompressedResponse:
    """Builds the compressed response that is exact on the span of the given kernels.

    Args:
        padded: Image (H, W) from `pad_image`, float64.
        kernels: (n, K, K), spanning every kernel that will be asked for.
        extra: An additive image of the output's shape, or None.
    """
    basis = kernel_basis(kernels)
    gram = response_gram(padded, basis, extra)
    # M = V diag(l) V^T gives F = diag(sqrt l) V^T; eigenvalues below zero are rounding. Scaled to a
    # unit diagonal first, because rounding is relative to the largest entry, and an additive image
    # may be far stronger or weaker than the responses.
    scale = gram.diagonal().clamp(min=torch.finfo(torch.float64).tiny).sqrt()
    eigenvalues, vectors = torch.linalg.eigh(gram / scale / scale[:, None])
    factor = eigenvalues.clamp(min=0).sqrt()[:, None] * vectors.T * scale
    rank = len(basis)
    weights = factor[:, :rank] @ basis.flatten(1)
    offset = factor[:, rank] if extra is not None else torch.zeros_like(factor[:, 0])
    return CompressedResponse(weights, offset, rank)
