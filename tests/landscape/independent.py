"""The loss's derivative from the image's patches alone: no torch, basis, series or gabordiag.

The response to a kernel g (as a vector) is X g with X the matrix of all patches, so that every
inner product of responses is one of kernels under A = X^T X / P. The derivative of g is a complex
step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

STEP = 1e-30


def kernels(size: int, theta, wavelength, sigma, psi, gamma) -> np.ndarray:
    """Returns kernels (n, K^2) for parameters of which one is complex and of shape (n,)."""
    half = size // 2
    y, x = (axis.ravel() for axis in np.mgrid[-half : half + 1, -half : half + 1])
    theta, wavelength, sigma, psi, gamma = (
        np.atleast_1d(value)[:, None] for value in (theta, wavelength, sigma, psi, gamma)
    )
    u = x * np.cos(theta) + y * np.sin(theta)
    v = y * np.cos(theta) - x * np.sin(theta)
    envelope = np.exp(-(u**2) / (2 * sigma**2)) * np.exp(-(gamma**2) * v**2 / (2 * sigma**2))
    return envelope * np.cos(2 * math.pi * u / wavelength + psi)


class Derivative:
    """d loss / d parameter up to a positive factor: enough for its zeros and its signs.

    Args:
        image: (rows, columns).
        values: The target's five parameters.
        kernel_size: Odd.
        padding: `valid`, `same`, `circular`.
        loss: `mse` (or `rmse`, whose derivative has the same sign) or `cosine`.
        noise: Added to the target response, or None.
    """

    def __init__(self, image, values, kernel_size, padding="valid", loss="mse", noise=None) -> None:
        self.values = dict(values)
        self.size = kernel_size
        self.loss = loss
        half = kernel_size // 2
        if padding != "valid":
            mode = {"same": {"mode": "constant"}, "circular": {"mode": "wrap"}}[padding]
            image = np.pad(image, half, **mode)
        self.gram = np.zeros((kernel_size**2, kernel_size**2))
        self.cross = np.zeros(kernel_size**2)
        pixels, first = 0, 0
        for patches in _patches(image, kernel_size):
            self.gram += patches.T @ patches
            if noise is not None:
                rows = patches.shape[0]
                self.cross += noise.ravel()[first : first + rows] @ patches
                first += rows
            pixels += patches.shape[0]
        self.gram /= pixels
        self.cross /= pixels
        self.noise_energy = 0.0 if noise is None else float((noise**2).mean())

    def __call__(self, name: str, at: np.ndarray) -> np.ndarray:
        """Returns the derivative along one parameter at (n,)."""
        return np.concatenate(
            [self._some(name, piece) for piece in np.array_split(at, 1 + len(at) // 2000)]
        )

    def _some(self, name: str, at: np.ndarray) -> np.ndarray:
        moved = kernels(self.size, **{**self.values, name: at + 1j * STEP})
        g, change = moved.real, moved.imag / STEP
        goal = kernels(self.size, **self.values)[0].real
        if self.loss != "cosine":
            # <r - (t + n), dr>: through the difference of kernels, which keeps its digits.
            return ((g - goal) @ self.gram * change).sum(axis=1) - change @ self.cross
        a_change = (g @ self.gram * change).sum(axis=1)
        b_change = change @ (self.gram @ goal + self.cross)
        a_a = (g @ self.gram * g).sum(axis=1)
        a_b = g @ (self.gram @ goal + self.cross)
        # |a| |b| times the derivative of -a.b / (|a| |b|).
        return a_b * a_change / a_a - b_change


def _patches(image: np.ndarray, size: int) -> Iterator[np.ndarray]:
    windows = sliding_window_view(image, (size, size))
    for strip in np.array_split(windows, max(1, windows.size // 2**24)):
        yield strip.reshape(-1, size * size)


def assert_sign_changes(derivative: np.ndarray, samples: np.ndarray, roots, period) -> int:
    """Asserts that the roots are where the sampled derivative changes its sign, and nowhere else.

    Between two samples of opposite sign there is an odd number of roots, between two of the same
    sign an even one. Samples too near a root to have a sign are left out.

    Returns:
        The number of sign changes.
    """
    clear = np.abs(derivative) > 1e-10 * np.abs(derivative).max()
    assert clear.mean() > 0.9
    samples, signs = samples[clear], np.sign(derivative[clear])
    roots = np.asarray(roots)
    if period is None:
        inside = np.searchsorted(samples, roots)
        counts = np.bincount(inside, minlength=len(samples) + 1)[1:-1]
        changes = signs[1:] != signs[:-1]
    else:
        roots = samples[0] + np.mod(roots - samples[0], period)
        counts = np.bincount(np.searchsorted(samples, roots) - 1, minlength=len(samples))
        changes = signs != np.roll(signs, -1)
    np.testing.assert_array_equal(counts % 2, changes)
    return int(changes.sum())
