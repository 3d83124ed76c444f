"""Objectives that golden calls read as FILE.py:NAME, with nothing of gabordiag in them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def smooth(value: Tensor) -> Tensor:
    """A double well with unequal depths."""
    return (value**2 - 1) ** 2 + 0.3 * value


def kink(value: Tensor) -> Tensor:
    return (value - 0.5).abs() + 0.1 * (value - 0.5) ** 2


def periodic(value: Tensor) -> Tensor:
    return 2 - torch.cos(2 * (value - 0.4)) - 0.5 * torch.cos(6 * value)


def steep(value: Tensor) -> Tensor:
    return 50 * value**2


def _kernel(theta: Tensor) -> Tensor:
    axis = torch.arange(-3, 4, dtype=theta.dtype)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    along = x * theta.cos() + y * theta.sin()
    across = -x * theta.sin() + y * theta.cos()
    return torch.exp(-(along**2 + 0.5 * across**2) / 4.5) * torch.cos(2 * math.pi * along / 5)


class Layer(nn.Module):
    """One convolution with an oriented kernel."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(-math.pi / 4, dtype=dtype))

    def forward(self, image: Tensor) -> Tensor:
        kernel = _kernel(self.theta)
        return nn.functional.conv2d(image.to(kernel.dtype)[None, None], kernel[None, None])


class CutLayer(Layer):
    """The kernel is made of a number that has left the graph."""

    def forward(self, image: Tensor) -> Tensor:
        kernel = _kernel(self.theta.detach())
        return nn.functional.conv2d(image[None, None], kernel[None, None]) + 0 * self.theta


def single() -> Layer:
    return Layer(torch.float32)
