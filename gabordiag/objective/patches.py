"""Every kernel of a size at once: the Gram matrix of an image's patches.

Along one parameter all kernels span some tens of dimensions, and `response.py` convolves with a
basis of them. Several parameters together fill the space of kernels, and so does a parameter that
may run anywhere; then the single pixels are the basis, and their responses are shifted images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gabordiag.objective.gram import lagged_sums
from gabordiag.objective.response import TILE_SIDE, equal_parts, output_shape


def patch_gram(padded: Tensor, kernel_size: int, extra: Tensor | None = None) -> Tensor:
    """Returns the Gram matrix (K^2, K^2) of an image's responses to every single pixel of a kernel.

    With it the compressed response is exact for every kernel of that size, whatever its parameters.
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
