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
# Side of the tiles that are transformed at once: a spectrum of that size stays in the cache.
TILE_SIDE = 600
# Spectra that are transformed at once, where they are small: as many as stay in the cache.
_CACHED_BYTES = 2**20
# Memory of the kernels' spectra that are kept for images and tiles of equal size.
_SPECTRA_BYTES = 192 * 2**20


def pad_image(image: Tensor, kernel_size: int, padding: str) -> Tensor:
    """Returns the image (H, W) extended so that a `valid` correlation gives the padded one.

    Raises:
        UsageError: `padding` is unknown.
    """
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
    largest = max(1, STRIP_BYTES // (8 * kernel_size**2 * columns))
    strips = [
        torch.nn.functional.conv2d(padded[None, None, lo : hi + kernel_size - 1], kernels[:, None])
        for lo, hi in equal_parts(rows, largest)
    ]
    return torch.cat(strips, dim=-2)[0].flatten(1)


def correlate_by_definition(padded: Tensor, kernel: Tensor) -> Tensor:
    """Returns one direct response (P,) as the sum over the kernel's pixels of shifted images.

    Not differentiable, but in float64 some twenty times faster than conv2d, and the definition
    itself; the run-time check of the shortcut compares with it.
    """
    kernel_size = kernel.shape[-1]
    rows, columns = output_shape(padded, kernel_size)
    response = torch.zeros(rows, columns, dtype=padded.dtype, device=padded.device)
    weights = list(enumerate(kernel.tolist()))
    for top, bottom in equal_parts(rows, TILE_SIDE):
        for left, right in equal_parts(columns, TILE_SIDE):
            tile = response[top:bottom, left:right]
            for y, line in weights:
                for x, value in enumerate(line):
                    tile.add_(padded[top + y : bottom + y, left + x : right + x], alpha=value)
    return response.flatten()


def kernel_basis(kernels: Tensor) -> Tensor:
    """Returns an orthonormal basis (r, K, K) of the kernels (n, K, K), to rounding level."""
    side = kernels.shape[-1]
    with one_thread():
        _, singular, basis = torch.linalg.svd(kernels.flatten(1), full_matrices=False)
    rank = int((singular > RANK_TOLERANCE * singular.norm()).sum())
    leading: Tensor = basis[:rank]
    return leading.reshape(rank, side, side)


class GramWorkspace:
    """What the Gram matrices of several images share: the kernels' spectra, and memory.

    Images of one size, and the tiles of a large one, need the same spectra; of a size that is asked
    for once only, nothing is kept.

    Args:
        basis: Kernels (r, K, K), float64.
    """

    def __init__(self, basis: Tensor) -> None:
        self._basis = basis
        self._seen: tuple[int, int] | None = None
        self._kept: dict[tuple[int, int], list[Tensor]] = {}
        self._memory = torch.empty(0, dtype=torch.float64)

    def responses(self, count: int, rows: int, columns: int) -> Tensor:
        """Returns uninitialised memory (count, rows, columns), the same at every call."""
        size = count * rows * columns
        if self._memory.numel() < size:
            self._memory = torch.empty(size, dtype=torch.float64, device=self._basis.device)
        return self._memory[:size].view(count, rows, columns)

    def spectra(self, shape: tuple[int, int]) -> Iterator[Tensor]:
        """Yields the conjugate spectra (m, rows, columns // 2 + 1), some at a time."""
        if shape in self._kept:
            return iter(self._kept[shape])
        size = 16 * len(self._basis) * shape[0] * (shape[1] // 2 + 1)
        if shape != self._seen or size > _SPECTRA_BYTES:
            self._seen = shape
            return self._parts(shape)
        while self._kept and size + self._kept_bytes() > _SPECTRA_BYTES:
            del self._kept[next(iter(self._kept))]
        self._kept[shape] = list(self._parts(shape))
        return iter(self._kept[shape])

    def _kept_bytes(self) -> int:
        return sum(part.nbytes for parts in self._kept.values() for part in parts)

    def _parts(self, shape: tuple[int, int]) -> Iterator[Tensor]:
        at_once = max(1, _CACHED_BYTES // (16 * shape[0] * (shape[1] // 2 + 1)))
        for kernels in torch.split(self._basis, at_once):
            across = torch.fft.rfft(kernels, n=shape[1])
            yield torch.fft.fft(across, n=shape[0], dim=1).conj_physical_()


def response_gram(
    padded: Tensor,
    basis: Tensor,
    extra: Tensor | None = None,
    workspace: GramWorkspace | None = None,
) -> Tensor:
    """Returns M = R R^T / P, the Gram matrix of the image's responses to the basis.

    Args:
        padded: Image (H, W), float64.
        basis: (r, K, K).
        extra: An additional image of the output's shape, joined as the last row of R.
        workspace: Of the basis, shared between images. Default: a new one.

    Returns:
        (r, r), or (r + 1, r + 1) with `extra`.
    """
    kernel_size = basis.shape[-1]
    rows, columns = output_shape(padded, kernel_size)
    workspace = GramWorkspace(basis) if workspace is None else workspace
    sums = basis.sum(dim=(1, 2))
    count = len(basis) + (extra is not None)
    gram = torch.zeros(count, count, dtype=torch.float64, device=padded.device)
    side = max(1, min(TILE_SIDE, math.isqrt(STRIP_BYTES // (8 * count))))
    tiles = itertools.product(equal_parts(rows, side), equal_parts(columns, side))
    for (top, bottom), (left, right) in tiles:
        responses = workspace.responses(count, bottom - top, right - left)
        part = padded[top : bottom + kernel_size - 1, left : right + kernel_size - 1]
        _fft_responses(part, workspace, sums, responses)
        if extra is not None:
            responses[-1] = extra[top:bottom, left:right]
        flat = responses.flatten(1)
        with one_thread():
            gram += flat @ flat.T
    return gram / (rows * columns)


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


def _fft_responses(strip: Tensor, workspace: GramWorkspace, sums: Tensor, out: Tensor) -> None:
    # Correlation theorem. Few kernels at a time: their spectra fit the cache, those of all do not.
    # The mean is taken out first and its exact response added back, because it would otherwise
    # set the level of the transform's rounding.
    shape = (_fast_length(strip.shape[0]), _fast_length(strip.shape[1]))
    rows, columns = out.shape[1:]
    with one_thread():
        mean = strip.mean()
    spectrum = torch.fft.rfft2(strip - mean, s=shape)
    first = 0
    for kernels in workspace.spectra(shape):
        responses = torch.fft.irfft2(kernels * spectrum, s=shape)[:, :rows, :columns]
        some = slice(first, first + len(kernels))
        torch.add(responses, (mean * sums[some])[:, None, None], out=out[some])
        first += len(kernels)


def equal_parts(length: int, largest: int) -> list[tuple[int, int]]:
    """Cuts a length into the fewest parts of at most `largest`, of nearly equal size."""
    count = math.ceil(length / largest)
    edges = [length * index // count for index in range(count + 1)]
    return list(itertools.pairwise(edges))


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
        weights: W (r, K^2); or (r, p), for a kernel's first p pixels, where those say all.
        extra: Compressed form (r,) of the additive image, zero where there is none.
        rank: r without the additive image.
    """

    weights: Tensor
    extra: Tensor
    rank: int

    def __call__(self, kernels: Tensor) -> Tensor:
        """Returns the compressed responses (..., r) of kernels (..., K, K)."""
        return kernels.flatten(-2)[..., : self.weights.shape[1]] @ self.weights.T

    def to(self, dtype: torch.dtype, device: torch.device) -> CompressedResponse:
        """Returns the same map in another precision, on another device."""
        return CompressedResponse(
            self.weights.to(dtype=dtype, device=device),
            self.extra.to(dtype=dtype, device=device),
            self.rank,
        )


def factor_gram(gram: Tensor, basis: Tensor) -> CompressedResponse:
    """Returns the compressed response that has the given inner products.

    Args:
        gram: M (r, r) of the basis, of one image or the mean over several; or (r + 1, r + 1) with
            an additive image.
        basis: Kernels (r, K, K), or (r, p): their pixels that count.
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
