"""The answer without descent: the response is linear in the kernel.

Least squares gives the kernel that best explains the target response; the orientation of that
kernel, read off its spectrum, is a start beside the target.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gabordiag.objective.gabor_line import ShortcutObjective
from gabordiag.objective.response import one_thread

# Directions of the response below this part of the strongest are left out of the solution: beyond,
# it would amplify the target's rounding and noise by more than a million.
_CUTOFF = 1e-6
# Frequencies along each side, by zero padding: several within the one octave that a Gabor filter
# passes. Larger kernels take as many as they have pixels.
_SPECTRUM_SIZE = 128


def least_squares_kernel(objective: ShortcutObjective) -> Tensor:
    """Returns the kernel (K, K) of least norm whose response is nearest to the target's.

    With compressed responses W g and target t:  g = pinv(W) t, weak directions left out.
    """
    size = objective.experiment.kernel_size
    return solve_kernel(objective.compressed.weights, objective.target_response, size)


def solve_kernel(weights: Tensor, response: Tensor, size: int) -> Tensor:
    """Returns the same of compressed responses W (r, K^2), a target's (r,), and K."""
    # On busy cores a second thread makes it fifty times slower.
    with one_thread():
        inverse: Tensor = torch.linalg.pinv(weights.double(), rtol=_CUTOFF)
    return (inverse @ response.double()).reshape(size, size).cpu()


def kernel_orientation(kernel: Tensor) -> float:
    """Returns the orientation of the carrier of a kernel (K, K) in [-pi/2, pi/2), radians.

    The mean direction of the energy spectrum. Orientation has period pi, so angles are doubled
    before averaging (Granlund 1978): theta = arg(sum |G(f)|^2 exp(2 i angle(f))) / 2.
    """
    size = max(_SPECTRUM_SIZE, len(kernel))
    energy = torch.fft.fft2(kernel.double(), s=(size, size)).abs().square()
    frequency = torch.fft.fftfreq(size, dtype=torch.float64)
    angle = torch.atan2(frequency[:, None], frequency[None, :])
    real = float((energy * torch.cos(2 * angle)).sum())
    imaginary = float((energy * torch.sin(2 * angle)).sum())
    theta = math.atan2(imaginary, real) / 2
    return theta if theta < math.pi / 2 else theta - math.pi
