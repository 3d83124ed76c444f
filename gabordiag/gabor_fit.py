"""Which Gabor filter is this kernel? The five parameters from the pixels.

A kernel that was found otherwise, by least squares or by training its pixels, gives the parameters
that a descent of the parameters themselves may never come to: the loss over kernels has one
minimum, over parameters it has many.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from gabordiag.gabor import PARAMETER_NAMES, POSITIVE_NAMES, gabor_kernel, gabor_partials

# Of each kernel so many filters of the grid, the most similar ones, are refined.
_STARTS = 8
_STEPS = 60
# Of the grid: orientations in half a turn, and factors from one length or ratio to the next.
_ORIENTATIONS, _FACTOR = 12, 1.5
# Sigma and gamma of the grid: wide for the longest, and narrow for the shortest filters.
_BANDWIDTHS, _RATIOS = (0.15, 0.25, 0.4, 0.65, 1.05), (0.35, 0.6, 1.0, 1.7)
# Damping of the first step, and its bounds, as parts of the curvatures.
_DAMPING, _LEAST, _MOST = 1e-2, 1e-12, 1e8


def fit_gabor(kernels: Tensor) -> dict[str, Tensor]:
    """Returns the parameters (n,) by name of the Gabor filters most similar to kernels (n, K, K).

    The most similar filters of a grid are refined by Levenberg-Marquardt steps, all at once: with J
    the partial derivatives (K^2, 5) and r = g(u) - k,

        (J^T J + damping diag(J^T J)) du = -J^T r ,

    in u = (theta, log wavelength, log sigma, psi, log gamma); a step that raises |r| is not taken,
    and the damping grows. On the grid the phase needs no places of its own: with c and s the cosine
    and the sine filter, the best a c + b s is that of psi = atan2(-b, a).

    Example:
        >>> import torch, gabordiag as gd
        >>> from gabordiag.gabor_fit import fit_gabor
        >>> kernel = gd.gabor_kernel(0.7, 6.0, 3.0, 1.0, 0.8, kernel_size=15)
        >>> {name: round(float(value), 6) for name, value in fit_gabor(kernel[None]).items()}
        {'theta': 0.7, 'wavelength': 6.0, 'sigma': 3.0, 'psi': 1.0, 'gamma': 0.8}
    """
    size, count = kernels.shape[-1], len(kernels)
    pixels = kernels.detach().double().flatten(1)
    places = _most_similar(pixels, size).flatten(0, 1)
    wanted = pixels.repeat_interleave(_STARTS, dim=0)
    residual = _residual(places, wanted, size)
    damping = torch.full_like(places[:, :1], _DAMPING)
    for _ in range(_STEPS):
        slopes = gabor_slopes(places, size)
        bend = slopes @ slopes.mT
        scale = bend.diagonal(dim1=-2, dim2=-1)
        added = damping * scale + 1e-12 * scale.amax(-1, keepdim=True) + 1e-300
        down = (slopes @ residual[..., None])[..., 0]
        step = torch.linalg.solve(bend + torch.diag_embed(added), down).clamp(-1, 1)
        tried = places - step
        left = _residual(tried, wanted, size)
        better = left.square().sum(-1, keepdim=True) < residual.square().sum(-1, keepdim=True)
        places, residual = torch.where(better, tried, places), torch.where(better, left, residual)
        damping = torch.where(better, damping / 5, damping * 4).clamp(_LEAST, _MOST)
    errors = residual.square().sum(-1).reshape(count, _STARTS)
    return gabor_values(places.reshape(count, _STARTS, -1)[torch.arange(count), errors.argmin(1)])


def gabor_values(places: Tensor) -> dict[str, Tensor]:
    """Returns the parameters (n,) by name at places (n, 5), which hold logarithms of lengths."""
    columns = zip(PARAMETER_NAMES, places.unbind(-1), strict=True)
    return {name: u.exp() if name in POSITIVE_NAMES else u for name, u in columns}


def _residual(places: Tensor, wanted: Tensor, size: int) -> Tensor:
    found = gabor_kernel(*gabor_values(places).values(), kernel_size=size).flatten(1) - wanted
    return found.nan_to_num(nan=math.inf)


def gabor_slopes(places: Tensor, size: int) -> Tensor:
    """Returns the kernels' derivatives (n, 5, K^2) along the places."""
    values = gabor_values(places)
    partials = gabor_partials(*values.values(), kernel_size=size)
    return torch.stack(
        [
            # dg / d log v = v dg / dv
            partial * values[name][:, None, None] if name in POSITIVE_NAMES else partial
            for name, partial in partials.items()
        ],
        dim=1,
    ).flatten(2)


def _most_similar(pixels: Tensor, size: int) -> Tensor:
    """Returns the places (n, starts, 5) of the filters of the grid nearest to kernels (n, K^2)."""
    waves = 2 * math.log(size / 1.2) / math.log(_FACTOR)
    lengths = [2.2 * _FACTOR**i for i in range(max(2, int(waves / 2) + 2))]
    angles = [math.pi * i / _ORIENTATIONS for i in range(_ORIENTATIONS)]
    grid = torch.tensor(
        list(itertools.product(angles, lengths, _BANDWIDTHS, _RATIOS)), dtype=torch.float64
    ).to(pixels.device)
    theta, wavelength, sigma, gamma = grid.unbind(-1)
    sigma = sigma * wavelength
    pair = [
        gabor_kernel(theta, wavelength, sigma, psi, gamma, kernel_size=size).flatten(1)
        for psi in (0.0, -math.pi / 2)
    ]
    # By Gram-Schmidt: what remains of |k|^2 beside both is the error of the best phase.
    first = pair[0] / pair[0].norm(dim=1, keepdim=True)
    overlap = (pair[1] * first).sum(1, keepdim=True)
    second = pair[1] - overlap * first
    length = second.norm(dim=1, keepdim=True).clamp(min=1e-6)
    along, beside = pixels @ first.T, pixels @ (second / length).T
    chosen = (along**2 + beside**2).topk(_STARTS).indices
    # a c + b s of the two filters as they are.
    b = beside.gather(1, chosen) / length[chosen, 0]
    a = along.gather(1, chosen) - b * overlap[chosen, 0]
    a = a / pair[0].norm(dim=1)[chosen]
    psi = torch.atan2(-b, a)
    return torch.stack(
        [theta[chosen], wavelength.log()[chosen], sigma.log()[chosen], psi, gamma.log()[chosen]], -1
    )
