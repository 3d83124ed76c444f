"""A kernel and its derivatives as a user would write them, for `gabordiag check`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def _rotated(x: Array, y: Array, theta: float) -> tuple[Array, Array]:
    return x * np.cos(theta) + y * np.sin(theta), -x * np.sin(theta) + y * np.cos(theta)


def kernel(
    x: Array, y: Array, theta: float, wavelength: float, sigma: float, psi: float, gamma: float
) -> Array:
    u, v = _rotated(x, y, theta)
    envelope: Array = np.exp(-(u**2 + gamma**2 * v**2) / (2 * sigma**2))
    return envelope * np.cos(2 * np.pi * u / wavelength + psi)


def transposed(
    x: Array, y: Array, theta: float, wavelength: float, sigma: float, psi: float, gamma: float
) -> Array:
    return kernel(y, x, theta, wavelength, sigma, psi, gamma)


def along_sigma(
    x: Array, y: Array, theta: float, wavelength: float, sigma: float, psi: float, gamma: float
) -> Array:
    u, v = _rotated(x, y, theta)
    return kernel(x, y, theta, wavelength, sigma, psi, gamma) * (u**2 + gamma**2 * v**2) / sigma**3


def along_theta_without_carrier(
    x: Array, y: Array, theta: float, wavelength: float, sigma: float, psi: float, gamma: float
) -> Array:
    u, v = _rotated(x, y, theta)
    slope = -(1 - gamma**2) * u * v / sigma**2
    return slope * kernel(x, y, theta, wavelength, sigma, psi, gamma)
