"""Responses of one image to kernels: directly, and through the exact shortcut.

The response is linear in the kernel. Let the rows of B (r, K^2) be an orthonormal basis of all
kernels that can occur, R (r, P) the image's responses to them, and M = R R^T / P = F^T F. Then for
any two such kernels g, h, with W = F B (r, K^2),

    <response(g), response(h)> / P  =  (W g) . (W h)

exactly, whatever the image's size: r numbers, the *compressed response* W g, stand for a whole
response image wherever only inner products matter, which is the case for all losses here. An
additive image n (noise in the target) joins R as one more row.

M comes directly from the responses, tile by tile. Or, of a large image, from its autocorrelation.
Let the image I be zero outside. Over all shifts at which image and kernel overlap,

    sum_r R_i(r) R_j(r) = sum_{u, w} b_i(u) b_j(w) A(w - u),    A(d) = sum_r I(r) I(r + d).

Of these shifts the K - 1 along every border are none of a `valid` response. What they add is
computed from the responses there, in four strips, and taken off. Each tile is then transformed
twice, whatever the number of kernels, instead of once for each of them.

Along one parameter all kernels span some tens of dimensions, and a basis of them is what is asked
for. Several parameters together fill the space of kernels, and so does a parameter that may run
anywhere; then the single pixels are the basis, their responses shifted images (`patch_gram`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

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
# The autocorrelation pays from an image on that has so many times the pixels of its borders.
_BORDERS = 2
# Its rounding, some hundred eps A(0) in every entry, is relative to the image, not to a response.
# Neighbouring kernels must be distinguished, which needs this part of the image's energy: with it
# both ways agreed with the definition alike, on photographs and enlargements of them up to 24 times
# (4e-3), while a sine (3e-4) lost a digit. No kernel of the basis may vanish altogether.
_WEAKEST_CHANGE, _WEAKEST = 2e-3, 1e-6
# Spectra that are transformed at once, where they are small: as many as stay in the cache.
_CACHED_BYTES = 2**20
# Memory of the kernels' spectra that are kept for images and tiles of equal size.
_SPECTRA_BYTES = 192 * 2**20


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
    `extra` is the compressed form (r,) of the additive image, zero where there is none.
    """

    weights: Tensor
    extra: Tensor

    def __call__(self, kernels: Tensor) -> Tensor:
        """Returns the compressed responses (..., r) of kernels (..., K, K)."""
        return kernels.flatten(-2)[..., : self.weights.shape[1]] @ self.weights.T

    def to(self, dtype: torch.dtype, device: torch.device) -> CompressedResponse:
        """Returns the same map in another precision, on another device."""
        return CompressedResponse(self.weights.to(device, dtype), self.extra.to(device, dtype))


def factor_gram(gram: Tensor, basis: Tensor) -> CompressedResponse:
    """Returns the compressed response that has the given inner products.

    M is (r, r) of the basis, of one image or the mean over several; or (r + 1, r + 1) with an
    additive image. The basis is (r, K, K), or (r, p): the kernels' pixels that count.
    """
    # M = V diag(l) V^T gives F = diag(sqrt l) V^T; eigenvalues below zero are rounding. Scaled to a
    # unit diagonal first, because rounding is relative to the largest entry, and an additive image
    # may be far stronger or weaker than the responses.
    rank, squares = len(basis), gram.diagonal().clone()
    # Of some pixels nothing but rounding, of either sign, may be left: these by the largest.
    pixels, eps = squares[:rank], torch.finfo(torch.float64).eps
    pixels[pixels <= rank * eps * pixels.max()] = pixels.max()
    scale = squares.clamp(min=torch.finfo(torch.float64).tiny).sqrt()
    with one_thread():
        eigenvalues, vectors = torch.linalg.eigh(gram / scale / scale[:, None])
        factor = eigenvalues.clamp(min=0).sqrt()[:, None] * vectors.T * scale
        weights = factor[:, :rank] @ basis.flatten(1)
    offset = factor[:, rank] if len(gram) > rank else torch.zeros_like(factor[:, 0])
    return CompressedResponse(weights, offset)


class GramWorkspace:
    """What the Gram matrices of several images share: the kernels' spectra, and memory.

    Images of one size, and the tiles of a large one, need the same spectra; of a size that is asked
    for once only, nothing is kept. The basis (r, K, K) spans the kernels (n, K, K), by default
    itself, of which neighbours are adjacent.
    """

    def __init__(self, basis: Tensor, kernels: Tensor | None = None) -> None:
        self._basis = basis
        self._changes = torch.eye(len(basis), dtype=basis.dtype, device=basis.device)
        if kernels is not None:
            changes = kernels.flatten(1).diff(dim=0)
            self._changes = changes[changes.any(dim=1)] @ basis.flatten(1).T
        self._seen: tuple[int, int] | None = None
        self._kept: dict[tuple[int, int], list[Tensor]] = {}
        self._memory = torch.empty(0, dtype=torch.float64)

    def responses(self, count: int, rows: int, columns: int) -> Tensor:
        """Returns uninitialised memory (count, rows, columns), the same at every call."""
        size = count * rows * columns
        if self._memory.numel() < size:
            self._memory = torch.empty(size, dtype=torch.float64, device=self._basis.device)
        return self._memory[:size].view(count, rows, columns)

    def has_digits(self, gram: Tensor, energy: Tensor) -> bool:
        """Whether a Gram matrix whose rounding is relative to the image's energy says enough."""
        changes = self._changes
        shares = ((changes @ gram) * changes).sum(1) / changes.square().sum(1)
        weakest: Tensor = torch.linalg.eigvalsh(gram)[0]
        return bool(shares.min() > _WEAKEST_CHANGE * energy and weakest > _WEAKEST * energy)

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
    """Returns R R^T / P, the Gram matrix of responses; `extra` joins as the last row of R."""
    rows, columns = output_shape(padded, basis.shape[-1])
    workspace = GramWorkspace(basis) if workspace is None else workspace
    border = 4 * (basis.shape[-1] - 1) * (sum(padded.shape) + basis.shape[-1])
    gram = None
    if _BORDERS * border < padded.numel():
        gram = _from_autocorrelation(padded, basis, extra, workspace)
    if gram is None:
        gram = _from_responses(padded, basis, extra, workspace)
    return gram / (rows * columns)


def _from_responses(
    padded: Tensor, basis: Tensor, extra: Tensor | None, workspace: GramWorkspace
) -> Tensor:
    kernel_size = basis.shape[-1]
    rows, columns = output_shape(padded, kernel_size)
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
    return gram


def _from_autocorrelation(
    padded: Tensor, basis: Tensor, extra: Tensor | None, workspace: GramWorkspace
) -> Tensor | None:
    """Returns P M, or None where too few digits of it would be left."""
    # With the mean m taken out of the image, as above: R_i = R'_i + m s_i, s_i the kernel's sum.
    edge = basis.shape[-1] - 1
    rows, columns = output_shape(padded, edge + 1)
    flat, sums = basis.flatten(1), basis.sum(dim=(1, 2))
    with one_thread():
        mean = padded.mean()
        centred = padded - mean
        wide = torch.nn.functional.pad(centred, (edge,) * 4)
        gram = flat @ _filtered(basis, lagged_sums(centred, wide)).flatten(1).T
        low, high = 2 * edge, rows + 2 * edge
        strips = (wide[:low], wide[-low:], wide[edge:high, :low], wide[edge:high, -low:])
        for strip in strips:
            gram -= _from_responses(strip, basis, None, workspace)
        if not workspace.has_digits(gram, centred.square().sum()):
            return None
        tilt = mean * torch.outer(sums, flat @ _window_sums(centred, rows, columns).flatten())
        gram += tilt + tilt.T + mean**2 * rows * columns * torch.outer(sums, sums)
        if extra is None:
            return gram
        column = flat @ lagged_sums(extra, centred).flatten() + mean * sums * extra.sum()
        row = torch.cat([column, extra.square().sum()[None]])
        return torch.cat([torch.cat([gram, column[:, None]], 1), row[None]])


def lagged_sums(inner: Tensor, outer: Tensor) -> Tensor:
    """Returns sum_r inner(r) outer(r + d), (H - h + 1, W - w + 1), where `outer` covers `inner`."""
    rows, columns = (large - small for large, small in zip(outer.shape, inner.shape, strict=True))
    parts = [equal_parts(length, TILE_SIDE) for length in inner.shape]
    # A tile's own part of `outer` is as long as the transform, or shorter: nothing comes round.
    longest = [max(hi - lo for lo, hi in part) for part in parts]
    shape = (_fast_length(longest[0] + rows), _fast_length(longest[1] + columns))
    total = torch.zeros(shape[0], shape[1] // 2 + 1, dtype=torch.complex128, device=outer.device)
    for (top, bottom), (left, right) in itertools.product(*parts):
        around = outer[top : bottom + rows, left : right + columns]
        tile = torch.fft.rfft2(inner[top:bottom, left:right], s=shape).conj_physical_()
        total += tile.mul_(torch.fft.rfft2(around, s=shape))
    sums: Tensor = torch.fft.irfft2(total, s=shape)[: rows + 1, : columns + 1]
    return sums


def _filtered(basis: Tensor, autocorrelation: Tensor) -> Tensor:
    """Returns sum_w b(w) A(w - u) of kernels b (r, K, K) at all pixels u; A (2 K - 1, 2 K - 1)."""
    side = basis.shape[-1]
    shape = (_fast_length(3 * side - 2),) * 2
    # A is even, so that A(w - u) = A(u - w): a convolution.
    spectrum = torch.fft.rfft2(basis, s=shape) * torch.fft.rfft2(autocorrelation, s=shape)
    inside = slice(side - 1, 2 * side - 1)
    filtered: Tensor = torch.fft.irfft2(spectrum, s=shape)[:, inside, inside]
    return filtered


def _window_sums(image: Tensor, rows: int, columns: int) -> Tensor:
    """Returns the sums of all windows (rows, columns) of an image (H, W)."""
    for length in (rows, columns):
        changes = image[length:] - image[: len(image) - length]
        image = torch.cat([image[:length].sum(0, keepdim=True), changes]).cumsum(0).T
    return image


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


@cache
def _fast_length(n: int) -> int:
    """The smallest 2^a 3^b 5^c that is at least n: lengths that FFTs are quick at."""
    odd = (3**b * 5**c for b, c in itertools.product(range(21), range(15)))
    best: int = min(factor << max(0, math.ceil(math.log2(n / factor))) for factor in odd)
    return best


def patch_gram(padded: Tensor, kernel_size: int, extra: Tensor | None = None) -> Tensor:
    """Returns the Gram matrix (K^2, K^2) of an image's responses to every single pixel of a kernel.

    With it the compressed response is exact for all kernels of that size, with any parameters.
    The response to pixel (u, v) is the image shifted by (u, v). For two rows of the kernel, u and u
    + d, let G(u, d) be the (K, K) block of inner products, and U_r (K, columns) the image's row r
    shifted by 0, ..., K - 1. Then

        G(u, d) = sum_{r=u}^{u+rows-1} U_r U_{r+d}^T,
        G(u + 1, d) = G(u, d) + U_{u+rows} U_{u+rows+d}^T - U_u U_{u+d}^T :

    K passes over the whole image instead of K^2 (K^2 + 1) / 2. It is divided by the number of
    output pixels; `extra`, an additional image of the output's shape, is joined as the last row.
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
        column = lagged_sums(extra, padded).reshape(-1, 1)
        corner = extra.square().sum().reshape(1, 1)
        gram = torch.cat([torch.cat([gram, column], 1), torch.cat([column.T, corner], 1)])
    return gram / (rows * columns)


def fold_even(gram: Tensor, kernel_size: int) -> Tensor:
    """Returns the Gram matrix of the image's responses to every pixel together with its mirror.

    Of an even kernel, g(-x, -y) = g(x, y), the first p = (K^2 + 1) / 2 pixels, row by row, say all:
    pixel i and pixel K^2 - 1 - i are equal. From (K^2, K^2) to (p, p); one more row and column, of
    an additional image, stays.
    """
    count = kernel_size**2
    half = count // 2
    for _ in range(2):
        mirrored = gram[half + 1 : count].flip(0)
        gram = torch.cat([gram[:half] + mirrored, gram[half : half + 1], gram[count:]]).T
    return gram


def _first_block(padded: Tensor, down: int, size: int) -> Tensor:
    """Returns G(0, down) (K, K): [v, w] is the sum of I[r, q + v] I[r + down, q + w].

    With C[c, e] = sum_r I[r, c] I[r + down, e], one matrix product, it is a sum along the diagonal
    e - c = w - v from c = v on; the next v drops the diagonal's first and takes one more.
    """
    rows, columns = output_shape(padded, size)
    # Columns beyond the image's ends: every strip's diagonals then lie in one block of memory.
    wide = torch.nn.functional.pad(padded, (size - 1, size - 1))
    diagonals = []
    for lo, hi in equal_parts(padded.shape[1], TILE_SIDE):
        product = padded[:rows, lo:hi].T @ wide[down : down + rows, lo : hi + 2 * (size - 1)]
        stride = product.shape[1] + 1
        diagonals.append(product.as_strided((hi - lo, 2 * size - 1), (stride, 1)))
    band = torch.cat(diagonals)
    first = band[:columns].sum(0, keepdim=True)
    edges = band[columns:] - band[: size - 1]
    sums = torch.cat([first, first + edges.cumsum(0)])
    # sums[v, size - 1 + w - v] -> block[v, w]
    v = torch.arange(size, device=padded.device)
    block: Tensor = sums[v[:, None], size - 1 + v[None, :] - v[:, None]]
    return block
