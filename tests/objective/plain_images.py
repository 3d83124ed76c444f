"""The experiment on many images as a person would write it: conv2d, image by image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

SMALL: dict[str, Any] = {"kernel_size": 9, "wavelength": 5.0, "sigma": 2.0, "gamma": 0.6}
TARGET = math.pi / 4


def conv2d(
    image: np.ndarray,
    theta: torch.Tensor,
    padding: str = "valid",
    sigma: torch.Tensor | float = SMALL["sigma"],
) -> torch.Tensor:
    """The response to the textbook's Gabor with the settings of `SMALL`."""
    half = SMALL["kernel_size"] // 2
    picture = torch.as_tensor(image)[None, None]
    if padding != "valid":
        mode = "circular" if padding == "circular" else "constant"
        picture = torch.nn.functional.pad(picture, (half,) * 4, mode=mode)
    grid = torch.arange(-half, half + 1, dtype=torch.float64)
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    x_rot = x * theta.cos() + y * theta.sin()
    y_rot = y * theta.cos() - x * theta.sin()
    envelope = -(x_rot**2 + (SMALL["gamma"] * y_rot) ** 2) / (2 * sigma**2)
    kernel = envelope.exp() * (2 * math.pi * x_rot / SMALL["wavelength"]).cos()
    return torch.nn.functional.conv2d(picture, kernel[None, None])[0, 0]


def mean_loss(
    images: Sequence[np.ndarray],
    theta: torch.Tensor,
    loss: str,
    padding: str = "valid",
    noises: Sequence[torch.Tensor] | None = None,
    sigma: torch.Tensor | float = SMALL["sigma"],
) -> torch.Tensor:
    """The loss over all images, differentiable."""
    squares, responses, products, targets = [], [], [], []
    for index, image in enumerate(images):
        output = conv2d(image, theta, padding, sigma)
        target = conv2d(image, torch.tensor(TARGET, dtype=torch.float64), padding)
        if noises is not None:
            target = target + noises[index]
        squares.append(torch.nn.functional.mse_loss(output, target))
        responses.append((output**2).mean())
        products.append((output * target).mean())
        targets.append((target**2).mean())
    if loss == "cosine":
        return 1 - sum(products) / (sum(responses) * sum(targets)).sqrt()
    mean = sum(squares) / len(squares)
    return mean.sqrt() if loss == "rmse" else mean


def plain_loop(
    images: Sequence[np.ndarray],
    theta: float,
    loss: str,
    padding: str = "valid",
    noises: Any = None,
) -> tuple[float, float]:
    """Loss and gradient at one angle."""
    angle = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
    total = mean_loss(images, angle, loss, padding, noises)
    total.backward()
    return total.item(), angle.grad.item()
