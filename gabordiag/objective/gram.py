"""The Gram matrix of an image's responses to a basis of kernels, two ways to the same numbers.

Directly from the responses, tile by tile. Or, of a large image, from its autocorrelation. Let the
image I be zero outside. Over all shifts at which image and kernel overlap,

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

import torch
from torch import Tensor

from gabordiag.objective.response import (
    STRIP_BYTES,
    TILE_SIDE,
    equal_parts,
    one_thread,
    output_shape,
)

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
