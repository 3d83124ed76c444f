"""Directions and lines through all weights of a network, and how the loss curves there.

A vector of weights has millions of numbers; what is done with it here are sums over them. Inner
products are summed in double precision whatever the weights' own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from gabordiag.errors import InputError
from gabordiag.objective.space import FloatArray

# Columns of which inner products are taken at once.
_COLUMNS = 2**20
# Lanczos ends where the eigenvalues are known to this part of the largest, or after so many
# products; its vectors take at most so many bytes.
_KNOWN, _PRODUCTS, _BASIS_BYTES = 1e-4, 80, 2**30
# A line is first evaluated at so many places; none lie nearer than this power of 1/2.
_FIRST_PLACES, _DEEPEST = 9, 12


def inner(left: Tensor, right: Tensor) -> FloatArray:
    """Returns the inner products (a, b) of vectors (a, m) and (b, m)."""
    total: FloatArray = np.zeros((len(left), len(right)))
    parts = (torch.split(side, _COLUMNS, dim=1) for side in (left, right))
    for one, other in zip(*parts, strict=True):
        total += (one.double() @ other.double().T).cpu().numpy()
    return total


def random_directions(model: nn.Module, weights: Mapping[str, Tensor], seed: int) -> Tensor:
    """Returns two filter-normalised random directions (2, m) at the learned weights.

    Of every direction each filter d is scaled to the length of the filter w at its place,
    d |w| / |d|, so that a step of 1 changes all filters by as much as they are long (Li et al.
    2018, arXiv 1712.09913). A filter is a row of a tensor of two or more dimensions, or a tensor of
    fewer. Biases and the weights of normalisation layers stay, as in their code.

    It has a known bias. Where a layer is followed by a normalisation, the loss does not depend on
    the length of its filters, and a step of 1 turns each by about 45 degrees however long it is:
    how sharp the picture looks cannot be compared with that of a network without normalisation.
    """
    norms = {n for n, part in model.named_modules() if "Norm" in type(part).__name__}
    is_kept = {n: n.endswith("bias") or n.rpartition(".")[0] in norms for n in weights}
    draw = torch.Generator().manual_seed(seed)
    parts = []
    for name, tensor in [*weights.items()] * 2:
        rows = tensor.reshape(len(tensor), -1) if tensor.ndim > 1 else tensor.reshape(1, -1)
        drawn = torch.randn(rows.shape, generator=draw, dtype=torch.float64).to(rows)
        scaled = drawn * (rows.norm(dim=1) / drawn.norm(dim=1))[:, None]
        keep = is_kept[name] and not all(is_kept.values())
        parts.append((torch.zeros_like(rows) if keep else scaled).reshape(-1))
    return torch.cat(parts).reshape(2, -1)


def main_directions(path: Tensor) -> tuple[Tensor, FloatArray]:
    """Returns the two main directions (2, m) of a path (k, m), and all shares of its variance (k,).

    A path of k places in m dimensions has its principal components in the space of its k
    differences from their mean: they come from the matrix (k, k) of the inner products. Each points
    from the path's end towards its start. A path that does not move is refused.
    """
    apart = path - path.mean(dim=0)
    values, vectors = np.linalg.eigh(inner(apart, apart))
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    if not values[0] > 0:
        raise InputError("The training moves no weight.", "Train longer, or with a larger lr.")
    main = torch.tensor(vectors[:, :2].T.copy(), dtype=path.dtype, device=path.device) @ apart
    if not values[1] > 1e-14 * values[0]:
        # A straight line: any second direction holds as much of it.
        main[1] = torch.linspace(1, 2, path.shape[1], dtype=path.dtype, device=path.device)
    ways = inner(main, (path[0] - path[-1])[None])[:, 0]
    main *= torch.tensor(np.where(ways < 0, -1.0, 1.0)[:, None]).to(main)
    shares: FloatArray = np.asarray(values / values.sum(), dtype=np.float64)
    return orthonormal(main), shares


def orthonormal(directions: Tensor) -> Tensor:
    """Returns two directions (2, m) of length 1, the second without its part along the first."""
    first = directions[0] / directions[0].norm()
    second = directions[1]
    for _ in range(2):
        second = second - (second @ first) * first
    return torch.stack([first, second / second.norm()])


def project(path: Tensor, origin: Tensor, directions: Tensor) -> tuple[FloatArray, float]:
    """Returns the coordinates (k, 2), by least squares, of a path (k, m) in a plane, and its share.

    The plane has an origin (m,) and directions (2, m) of any lengths and angle; the share is the
    variance of the projected path over the path's.
    """
    gram, apart = inner(directions, directions), path - origin
    # Of a model with two weights, directions may be parallel.
    inverse = np.linalg.pinv(gram, hermitian=True)
    coordinates: FloatArray = (inverse @ inner(directions, apart)).T
    around = path - path.mean(dim=0)
    total = sum(float(inner(row[None], row[None])[0, 0]) for row in around)
    seen = coordinates - coordinates.mean(axis=0)
    share = float(np.einsum("ki,ij,kj->", seen, gram, seen) / total) if total else math.nan
    return coordinates, min(1.0, share)


def interpolated(a: FloatArray, b: FloatArray, values: FloatArray, at: FloatArray) -> FloatArray:
    """Returns the values (n,) at places (n, 2) of a grid (a, b), bilinear; NaN outside of it."""
    found = []
    for axis, x in zip((a, b), at.T, strict=True):
        cell = np.clip(np.searchsorted(axis, x) - 1, 0, len(axis) - 2)
        part = (x - axis[cell]) / (axis[cell + 1] - axis[cell])
        found.append((cell, np.where((part < -1e-9) | (part > 1 + 1e-9), np.nan, part)))
    (i, s), (j, t) = found
    low = (1 - t) * values[i, j] + t * values[i, j + 1]
    high = (1 - t) * values[i + 1, j] + t * values[i + 1, j + 1]
    return np.asarray((1 - s) * low + s * high)


def largest_eigenvalues(
    product: Callable[[Tensor], Tensor], like: Tensor, count: int, seed: int
) -> tuple[FloatArray, Tensor, float]:
    """Returns the largest eigenvalues of a symmetric matrix H known by v -> H v, of v `like` (m,).

    Lanczos' method with full reorthogonalisation: in the space of v, H v, H^2 v, ... the matrix is
    tridiagonal, T = Q^T H Q, and an eigenpair (t, s) of T is one of H but for a residual of
    beta |s_last|.

    Of the eigenvalues the largest is first; they are fewer than asked for where the powers hold no
    more. With them come the first's eigenvector (m,) of length 1, and the largest residual: so near
    to each of them lies an eigenvalue of H.
    """
    size, count = like.numel(), min(count, like.numel())
    room = max(count + 2, int(_BASIS_BYTES // (size * like.element_size())))
    basis = like.new_zeros(min(size, _PRODUCTS, room), size)
    draw = torch.Generator().manual_seed(seed)
    vector = torch.randn(size, generator=draw, dtype=torch.float64).to(like)
    matrix = np.zeros((len(basis) + 1, len(basis) + 1))
    for step in range(len(basis)):
        basis[step] = vector / vector.norm()
        vector, done = product(basis[step]), basis[: step + 1]
        matrix[step, step] = float(vector @ basis[step])
        for _ in range(2):
            vector = vector - done.T @ (done @ vector)
        beta = float(vector.norm())
        matrix[step, step + 1] = matrix[step + 1, step] = beta
        values, vectors = np.linalg.eigh(matrix[: step + 1, : step + 1])
        top = slice(-1, -1 - count, -1)
        residual = float((beta * np.abs(vectors[-1, top])).max())
        scale = float(np.abs(values).max())
        if beta <= 1e-12 * scale or (step + 1 >= count and residual <= _KNOWN * scale):
            break
    main = torch.tensor(vectors[:, -1], dtype=like.dtype, device=like.device) @ basis[: step + 1]
    return values[top], main / main.norm(), residual


def resolve(
    loss: Callable[[FloatArray], FloatArray], tolerance: float
) -> tuple[FloatArray, FloatArray, float]:
    """Returns a function over [0, 1] at as many places as it needs: t (n,), losses (n,), error.

    Every interval is halved until the loss in its middle differs from the straight line between its
    ends by no more than `tolerance`, as a part of the largest loss less the smallest. The error is
    the largest such difference at the end, in the loss's unit: between the places the line is as
    good, unless the loss turns several times within one interval.
    """
    places = np.linspace(0, 1, _FIRST_PLACES)
    known = dict(zip(places.tolist(), loss(places).tolist(), strict=True))
    doubtful = list(zip(places[:-1].tolist(), places[1:].tolist(), strict=True))
    error = 0.0
    while doubtful:
        middles = [(low + high) / 2 for low, high in doubtful]
        known |= dict(zip(middles, loss(np.array(middles)).tolist(), strict=True))
        allowed = tolerance * float(np.ptp(list(known.values())))
        halves: list[tuple[float, float]] = []
        for (low, high), middle in zip(doubtful, middles, strict=True):
            apart = abs(known[middle] - (known[low] + known[high]) / 2)
            if apart > allowed and high - low > 2.0**-_DEEPEST:
                halves += [(low, middle), (middle, high)]
            else:
                error = max(error, apart)
        doubtful = halves
    t = np.array(sorted(known))
    return t, np.array([known[place] for place in t.tolist()]), error


def barrier(t: FloatArray, losses: FloatArray) -> tuple[float, float]:
    """Returns the largest height of a loss over the straight line between its ends, and where.

    As Frankle et al. 2020 (arXiv 1912.05671) and Entezari et al. 2022 (arXiv 2110.06296) have it:
    max over t of L(t) - ((1 - t) L(0) + t L(1)).
    """
    heights = losses - ((1 - t) * losses[0] + t * losses[-1])
    highest = int(np.argmax(heights))
    return float(heights[highest]), float(t[highest])
