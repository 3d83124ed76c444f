"""Learnable Gabor layers as people write them, right and wrong.

Lines marked `# CUT kind` are where the graph ends; tests read the marks from this file.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

SIZE = 7
WAVELENGTH, SIGMA, GAMMA = 5.0, 2.0, 0.6


def gabor(theta: torch.Tensor) -> torch.Tensor:
    steps = torch.arange(-(SIZE // 2), SIZE // 2 + 1, dtype=theta.dtype)
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    across = x * torch.cos(theta) + y * torch.sin(theta)
    along = -x * torch.sin(theta) + y * torch.cos(theta)
    envelope = torch.exp(-(across**2 + (GAMMA * along) ** 2) / (2 * SIGMA**2))
    return (envelope * torch.cos(2 * math.pi * across / WAVELENGTH))[None, None]


class Layer(nn.Module):
    def __init__(self, theta: float = -math.pi / 4, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta, dtype=dtype))


class Right(Layer):
    def forward(self, x):
        return functional.conv2d(x, gabor(self.theta))


class WithConv(Layer):
    def __init__(self, theta: float = -math.pi / 4, dtype: torch.dtype = torch.float64) -> None:
        super().__init__(theta, dtype)
        generator = torch.Generator().manual_seed(0)
        self.conv = nn.Conv2d(1, 1, SIZE, bias=False, dtype=dtype)
        self.conv.weight.data = torch.randn(1, 1, SIZE, SIZE, dtype=dtype, generator=generator)


class WritesData(WithConv):
    def forward(self, x):
        kernel = gabor(self.theta)
        self.conv.weight.data = kernel  # CUT data_write
        return self.conv(x)


class CopiesIntoData(WithConv):
    def forward(self, x):
        self.conv.weight.data.copy_(gabor(self.theta))  # CUT data_write
        return self.conv(x)


class FillsDataPixelByPixel(WithConv):
    def forward(self, x):
        kernel = gabor(self.theta)[0, 0]
        for y in range(SIZE):
            for x_ in range(SIZE):
                self.conv.weight.data[0, 0, y, x_] = kernel[y, x_]  # CUT data_write
        return self.conv(x)


class CopiesUnderNoGrad(WithConv):
    def forward(self, x):
        with torch.no_grad():
            self.conv.weight.copy_(gabor(self.theta))  # CUT no_grad_write
        return self.conv(x)


class ComputesUnderNoGrad(Layer):
    def forward(self, x):
        with torch.no_grad():
            kernel = torch.cos(self.theta) * torch.ones(1, 1, 3, 3, dtype=x.dtype)  # CUT no_grad
        return functional.conv2d(x, kernel)


class Detaches(Layer):
    def forward(self, x):
        theta = self.theta.detach()  # CUT detach
        return functional.conv2d(x, gabor(theta))


class TakesData(Layer):
    """What it writes down on the way is harmless and must not be blamed."""

    def forward(self, x):
        self.last = self.theta.detach().clone()
        self.number = self.theta.item()
        return functional.conv2d(x, gabor(self.theta.data))  # CUT data


class MakesNewParameter(WithConv):
    def forward(self, x):
        kernel = gabor(self.theta)
        self.conv.weight = nn.Parameter(kernel)  # CUT new_parameter
        return self.conv(x)


class UsesPlainNumber(Layer):
    def forward(self, x):
        cosine = math.cos(self.theta.item())  # CUT escape
        return functional.conv2d(x, torch.full((1, 1, 3, 3), cosine, dtype=x.dtype))


class UsesNumpy(Layer):
    def forward(self, x):
        theta = self.theta.detach().numpy()  # CUT escape
        return functional.conv2d(x, torch.from_numpy(np.cos(theta) * np.ones((1, 1, 3, 3))))


class Clamps(Layer):
    def forward(self, x):
        theta = self.theta.clamp(0.0, 3.0)  # CUT clamp
        return functional.conv2d(x, gabor(theta))


class Rounds(Layer):
    def forward(self, x):
        theta = torch.round(self.theta * 7) / 7  # CUT step
        return functional.conv2d(x, gabor(theta))


class Halved(torch.autograd.Function):
    @staticmethod
    def forward(ctx, theta):
        return theta.clone()

    @staticmethod
    def backward(ctx, gradient):  # CUT custom_backward
        return gradient / 2


class HalvesGradient(Layer):
    def forward(self, x):
        return functional.conv2d(x, gabor(Halved.apply(self.theta)))


class DetachesOnePath(Layer):
    def forward(self, x):
        gain = 2 + torch.cos(self.theta.detach())  # CUT detach
        return functional.conv2d(x, gain * gabor(self.theta))


class ComputesInInit(nn.Module):
    """Its kernel has a history, so that it cannot even be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.kernel = gabor(self.theta)  # CUT init

    def forward(self, x):
        return functional.conv2d(x, self.kernel)


class RegistersInInit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
        self.register_buffer("kernel", gabor(self.theta).detach())  # CUT init

    def forward(self, x):
        return functional.conv2d(x, self.kernel)


class Ignores(WithConv):
    def forward(self, x):
        return self.conv(x)


class DropsOut(Layer):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.3)

    def forward(self, x):
        return self.drop(functional.conv2d(x, gabor(self.theta)))


class Normalises(Layer):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1, dtype=torch.float64)

    def forward(self, x):
        return self.norm(functional.conv2d(x, gabor(self.theta)))


class Shrinks(Layer):
    """The gradient of theta is 1e-5 of what the gain gets."""

    def __init__(self) -> None:
        super().__init__(theta=-7e4)
        self.gain = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, x):
        return functional.conv2d(x, self.gain * gabor(self.theta * 1e-5))


class HoldsOnToItself(Layer):
    """A closure made in __init__ refers to this module, and in a copy still does."""

    def __init__(self) -> None:
        super().__init__()
        self.make = lambda: gabor(self.theta)

    def forward(self, x):
        return functional.conv2d(x, self.make())


class Raises(Layer):
    def forward(self, x):
        self.theta.data.fill_(1.0)
        raise ValueError("the kernel is too large")


class ReplacesWeight(WithConv):
    """The right way to use a layer's weight: it is deleted and becomes a plain tensor."""

    def forward(self, x):
        if "weight" in self.conv._parameters:
            del self.conv.weight
        self.conv.weight = gabor(self.theta)
        return self.conv(x)
