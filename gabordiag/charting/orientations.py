"""One filter at every orientation, on any image: what an atlas evaluates.

With an orthonormal basis B of the kernels of every theta, g(theta) = B^T c(theta), and the
coordinates c are periodic: a Fourier series of some tens of waves, found once for all images. An
image enters by the matrix B P B^T alone, P being its Gram matrix of single pixels
(`objective.response.patch_gram`), which in turn serves all filters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gabordiag.gabor import theta_period
from gabordiag.objective.experiment import Experiment, Picture
from gabordiag.objective.gabor_line import ShortcutObjective, sample_points
from gabordiag.objective.response import (
    CompressedResponse,
    factor_gram,
    fold_even,
    kernel_basis,
    one_thread,
    patch_gram,
)

# Waves below this part of the largest are rounding.
_SMALLEST_WAVE = 1e-15


@dataclass(frozen=True, eq=False)
class ImageGram:
    """An image as filters of one size see it: its pixels' Gram matrix, folded if they are even.

    `energy` is the mean of its squared pixels; one more row is the noise of the target response.
    """

    gram: Tensor
    even: Tensor
    energy: float

    @classmethod
    def of(cls, picture: Picture, kernel_size: int) -> ImageGram:
        """Returns that of a picture, in one pass over it for each of the kernel's rows."""
        gram = patch_gram(picture.padded, kernel_size, picture.noise)
        return cls(gram, fold_even(gram, kernel_size), float(picture.padded.square().mean()))


class Orientations:
    """The kernels of an experiment's filter at every theta, by their coordinates in a basis."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        line = ShortcutObjective(experiment, "theta")
        spanning, parameter = line.spanning_kernels(), line.parameter
        self._basis = kernel_basis(spanning).flatten(1)
        # As many kernels as span all have as many waves at most: twice as many tell them apart.
        count = 2 * (len(spanning) - 1)
        kernels = line.kernels(sample_points(parameter, count))
        waves = torch.fft.rfft(kernels.flatten(1) @ self._basis.T, dim=0)[:-1] / (count / 2)
        waves[0] /= 2
        sizes = waves.abs().amax(dim=1)
        waves = waves[: 1 + int(torch.nonzero(sizes > _SMALLEST_WAVE * sizes.max())[-1])]
        self._low = parameter.low
        self._k = torch.arange(len(waves), dtype=torch.float64)
        self._rate = 2 * math.pi / theta_period(experiment.psi)
        self._is_even = theta_period(experiment.psi) == math.pi
        # Re((a - i b) exp(i k phi)) = a cos k phi + b sin k phi
        self._cosines, self._sines = waves.real.contiguous(), -waves.imag

    def at(self, theta: Tensor) -> Tensor:
        """Returns the coordinates (n, r) at angles theta (n,), differentiable."""
        waves = self._waves(theta)
        coordinates: Tensor = torch.cos(waves) @ self._cosines + torch.sin(waves) @ self._sines
        return coordinates

    def changes_at(self, theta: Tensor) -> Tensor:
        """Returns the coordinates' derivatives (n, r) by theta."""
        waves, k = self._waves(theta), self._rate * self._k[:, None]
        up, down = torch.cos(waves) @ (k * self._sines), torch.sin(waves) @ (k * self._cosines)
        changes: Tensor = up - down
        return changes

    def compressed(self, image: ImageGram) -> CompressedResponse:
        """Returns the compressed response to coordinates (..., 1, r) on an image."""
        gram, basis = image.gram, self._basis
        if self._is_even:
            # Of a pixel and its mirror, which are equal, the first says all.
            gram, basis = image.even, basis[:, : (basis.shape[1] + 1) // 2]
        rank, pixels = basis.shape
        # An additive image is one more row.
        maps = torch.zeros(rank + len(gram) - pixels, len(gram), dtype=torch.float64)
        maps[:rank, :pixels] = basis
        maps[rank:, pixels:] = torch.eye(len(gram) - pixels)
        with one_thread():
            inner = maps @ gram @ maps.T
        return factor_gram(inner, torch.eye(rank, dtype=torch.float64))

    def _waves(self, theta: Tensor) -> Tensor:
        return (self._rate * (theta - self._low))[:, None] * self._k


class OrientationLine(ShortcutObjective):
    """The experiment along theta on one image, with coordinates (n, 1, r) as its kernels."""

    def __init__(self, orientations: Orientations, image: ImageGram, loss: str) -> None:
        super().__init__(orientations.experiment.on_same_images(loss=loss), "theta")
        self._orientations = orientations
        self.__dict__.update(compressed=orientations.compressed(image), energy=image.energy)

    def kernels(self, at: Tensor) -> Tensor:
        """Returns the kernels' coordinates (n, 1, r) at n angles."""
        return self._orientations.at(at)[:, None]

    def kernels_and_changes(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Returns these and their derivatives (n, 1, r) by theta, in closed form."""
        return self.kernels(values), self._orientations.changes_at(values)[:, None]
