"""Objectives with a planted cause, whose critical points and curvatures are known on paper.

Nothing here asks gabordiag what it thinks: curvatures, basins and bounds are closed forms, stated
beside each function, and images are made so that the loss has a closed form, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gabordiag.objective.experiment import Experiment
from gabordiag.objective.objective import Line
from gabordiag.objective.space import Parameter

Function = Callable[[Tensor], Tensor]


class Known(Line):
    """A function of one number on an interval or over a period.

    Args:
        function: The smooth loss; the loss is its root where `root` is set.
        low: Lower end.
        high: Upper end.
        target: Of the parameter.
        periodic: The range is one period, and the parameter an angle.
        root: The loss is sqrt(function).
    """

    def __init__(
        self,
        function: Function,
        low: float,
        high: float,
        target: float,
        *,
        periodic: bool = False,
        root: bool = False,
    ) -> None:
        period = high - low if periodic else None
        self.function = function
        self.parameter = Parameter("value", low, high, period, target, low, periodic)
        self.is_root = root
        self.loss_name = "rmse" if root else "mse"

    def loss(self, values: Tensor, *, smooth: bool = False) -> Tensor:
        """Returns the loss, or what is under the root."""
        squared = self.function(values)
        return squared.sqrt() if self.is_root and not smooth else squared

    def squared(self) -> Known | None:
        """Returns the same without its root."""
        if not self.is_root:
            return None
        at = self.parameter
        assert at.target is not None
        return Known(self.function, at.low, at.high, at.target, periodic=at.period is not None)


def bowl(curvature: float = 4.0, *, root: bool = False) -> Known:
    """c/2 (v - 1)^2 on [-1, 3], target 1; the root's slope is sqrt(c / 2)."""
    return Known(lambda v: curvature / 2 * (v - 1) ** 2, -1.0, 3.0, 1.0, root=root)


def wave(*, root: bool = False) -> Known:
    """1 - cos(v - 1/2) over 2 pi: one minimum at 1/2, L'' = 1; one maximum, opposite."""
    return Known(lambda v: 1 - torch.cos(v - 0.5), -math.pi, math.pi, 0.5, periodic=True, root=root)


def double_well() -> Known:
    """(v^2 - 1)^2 - v/5 on [-2, 2]: minima near -1 and 1, the right one lower, a barrier between.

    Critical points are the roots of 4 v^3 - 4 v - 1/5; L'' = 12 v^2 - 4.
    """
    return Known(lambda v: (v**2 - 1) ** 2 - v / 5, -2.0, 2.0, double_well_points()[2])


def double_well_points() -> tuple[float, float, float]:
    """Returns left minimum, barrier, right minimum."""
    left, barrier, right = np.sort(np.roots([4, 0, -4, -0.2]).real).tolist()
    return left, barrier, right


NEEDLE_SHARPNESS = 20.0


def needle() -> Known:
    """A narrow deep minimum at 0.8, a wide shallow one opposite, over 2 pi.

    f(d) = 2 - 2 exp(k (cos d - 1)) + 0.3 (cos d - 1) with k = 20, d = v - 0.8. At d = 0
    f'' = 2 k - 0.3 = 39.7: plain descent holds it below 0.0504. At d = pi f'' = 0.3 (the needle is
    exp(-40) there): leaving it takes a rate above 2 / 0.3 = 6.7, 130 times what the goal holds.
    """

    def function(v: Tensor) -> Tensor:
        rise = torch.cos(v - 0.8) - 1
        return 2.6 - 2 * torch.exp(NEEDLE_SHARPNESS * rise) + 0.3 * rise

    return Known(function, -math.pi, math.pi, 0.8, periodic=True)


def plateau() -> Known:
    """1 - exp(60 (cos(v - 1/2) - 1)) over 2 pi: L'' = 60 at 1/2, flat to e^-100 opposite."""
    return Known(
        lambda v: 1 - torch.exp(60 * (torch.cos(v - 0.5) - 1)),
        -math.pi,
        math.pi,
        0.5,
        periodic=True,
    )


# A filter small enough for images of some tens of pixels. q = 2 pi sigma / wavelength.
SIZE, WAVELENGTH, SIGMA = 15, 6.0, 2.0
_Q = 2 * math.pi * SIGMA / WAVELENGTH


def impulse(side: int = 40) -> npt.NDArray[np.float64]:
    """One bright pixel: the response is the kernel itself."""
    image = np.zeros((side, side))
    image[side // 2, side // 2] = 1.0
    return image


def flat_noise(side: int = 40, seed: int = 0) -> npt.NDArray[np.float64]:
    """Noise whose spectrum is 1 everywhere: its circular autocorrelation is one pixel's."""
    spectrum = np.fft.fft2(np.random.default_rng(seed).standard_normal((side, side)))
    image: npt.NDArray[np.float64] = np.fft.ifft2(spectrum / np.abs(spectrum)).real
    return image


def cardinal_noise(side: int = 40) -> npt.NDArray[np.float64]:
    """Noise with more energy along rows and columns than along diagonals, as photographs have.

    Its spectrum sqrt((1 + 0.9 cos 4 phi) / 1.9) has mirror symmetry about both diagonals, and so
    has the loss against a target at pi/4: critical points at both diagonals exactly. The weak one
    that is not the target is the image's own minimum.
    """
    spectrum = np.fft.fft2(np.random.default_rng(0).standard_normal((side, side)))
    frequency = np.fft.fftfreq(side)
    phi = np.arctan2(frequency[:, None], frequency[None, :])
    weight = np.sqrt((1 + 0.9 * np.cos(4 * phi)) / 1.9)
    image: npt.NDArray[np.float64] = np.fft.ifft2(spectrum / np.abs(spectrum) * weight).real
    return image


def flat_gabor(
    image: npt.NDArray[np.float64], curvature: float = 10.0, loss: str = "mse", start: float = 0.2
) -> Experiment:
    """The experiment on an image with a flat spectrum of 1, scaled to a chosen curvature.

    With gamma = 1 and psi = 0 the inner product of two such kernels, d apart in angle, is that of
    Gaussians times cosines: pi sigma^2 C(d) / 2 with

        C(d) = exp(-q^2 sin^2(d/2)) + exp(-q^2 cos^2(d/2)),

    so that MSE = scale^2 pi sigma^2 (C(0) - C(d)) / P, P the number of pixels: a minimum at the
    target with L'' = scale^2 pi sigma^2 q^2 (1 - exp(-q^2)) / (2 P), a maximum at the antipode,
    nothing else. The root's slope is sqrt(L'' / 2).
    """
    unit = math.pi * SIGMA**2 * _Q**2 * (1 - math.exp(-(_Q**2))) / (2 * image.size)
    return Experiment(
        image=image,
        pixel_scale=math.sqrt(curvature / unit),
        theta0=start,
        kernel_size=SIZE,
        wavelength=WAVELENGTH,
        sigma=SIGMA,
        gamma=1.0,
        padding="circular",
        loss=loss,
    )


CARDINAL_FILTER = {"sigma": 2.5, "gamma": 0.6}
CARDINAL_SCALE = 12.64


def cardinal_gabor(loss: str = "mse", start: float = -math.pi / 4 + 0.05) -> Experiment:
    """The experiment on cardinal noise, scaled to L'' near 10 at the target.

    The test measures its landscape with a convolution of its own.
    """
    return Experiment(
        image=cardinal_noise(),
        pixel_scale=CARDINAL_SCALE,
        theta0=start,
        kernel_size=SIZE,
        wavelength=WAVELENGTH,
        padding="circular",
        loss=loss,
        **CARDINAL_FILTER,
    )
