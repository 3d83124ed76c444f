"""The experiment written down once more, in scalars: what the package is compared with.

Nothing here imports torch, NumPy or gabordiag, and no formula is shared with them: the partial
derivatives are derived below, correlations are loops over pixels, images and kernels are lists of
rows. Slow, and meant to be read.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Sequence

Rows = list[list[float]]
NAMES = ("theta", "wavelength", "sigma", "psi", "gamma")


def rotated(x: float, y: float, theta: float) -> tuple[float, float]:
    """Returns (x', y')."""
    return (
        x * math.cos(theta) + y * math.sin(theta),
        -x * math.sin(theta) + y * math.cos(theta),
    )


def gabor(
    x: float, y: float, theta: float, wavelength: float, sigma: float, psi: float, gamma: float
) -> float:
    """Returns the textbook Gabor function at one point."""
    u, v = rotated(x, y, theta)
    envelope = math.exp(-(u**2 + gamma**2 * v**2) / (2 * sigma**2))
    return envelope * math.cos(2 * math.pi * u / wavelength + psi)


def partials(
    x: float, y: float, theta: float, wavelength: float, sigma: float, psi: float, gamma: float
) -> dict[str, float]:
    """Returns the five partial derivatives at one point.

    Write g = exp(-q) cos(p) with q = (u^2 + gamma^2 v^2) / (2 sigma^2) and
    p = 2 pi u / wavelength + psi. For any parameter a, the product rule gives

        dg/da = -exp(-q) (dq/da cos(p) + dp/da sin(p)),

    and all that is left are dq/da and dp/da. Turning the axes by d(theta) moves u by v d(theta) and
    v by -u d(theta), so d(u^2)/dtheta = 2 u v and d(v^2)/dtheta = -2 u v.
    """
    u, v = rotated(x, y, theta)
    q = (u**2 + gamma**2 * v**2) / (2 * sigma**2)
    p = 2 * math.pi * u / wavelength + psi
    slopes = {
        "theta": (
            (2 * u * v - gamma**2 * 2 * u * v) / (2 * sigma**2),
            2 * math.pi * v / wavelength,
        ),
        "wavelength": (0.0, -2 * math.pi * u / wavelength**2),
        "sigma": (-2 * q / sigma, 0.0),
        "psi": (0.0, 1.0),
        "gamma": (gamma * v**2 / sigma**2, 0.0),
    }
    return {
        name: -math.exp(-q) * (dq * math.cos(p) + dp * math.sin(p))
        for name, (dq, dp) in slopes.items()
    }


def complex_step(x: float, y: float, values: dict[str, float], name: str) -> float:
    """Returns one partial derivative as Im g(a + ih) / h, from the function alone."""
    step = 1e-30
    at: dict[str, complex] = dict(values)
    at[name] += 1j * step
    u = x * cmath.cos(at["theta"]) + y * cmath.sin(at["theta"])
    v = -x * cmath.sin(at["theta"]) + y * cmath.cos(at["theta"])
    envelope = cmath.exp(-(u * u + at["gamma"] ** 2 * v * v) / (2 * at["sigma"] ** 2))
    carrier = cmath.cos(2 * math.pi * u / at["wavelength"] + at["psi"])
    return (envelope * carrier).imag / step


def on_grid(function: Callable[[float, float], float], size: int) -> Rows:
    """Returns the function on the centred integer grid; x indexes columns, y rows."""
    half = size // 2
    steps = range(-half, half + 1)
    return [[function(float(x), float(y)) for x in steps] for y in steps]


def kernel(size: int, **values: float) -> Rows:
    """Returns the Gabor kernel as rows."""
    return on_grid(lambda x, y: gabor(x, y, **values), size)


def partial_kernel(size: int, name: str, **values: float) -> Rows:
    """Returns one partial derivative of the kernel as rows."""
    return on_grid(lambda x, y: partials(x, y, **values)[name], size)


def correlate(image: Rows, weights: Rows, padding: str) -> list[float]:
    """Returns sum_{j,i} weights[j][i] image[row + j][column + i], row by row.

    `valid`: only where the kernel fits; `same`: zeros outside, as many outputs as pixels;
    `circular`: the image repeats.
    """
    rows, columns, size = len(image), len(image[0]), len(weights)
    half = size // 2

    def pixel(row: int, column: int) -> float:
        if padding == "circular":
            return image[row % rows][column % columns]
        inside = 0 <= row < rows and 0 <= column < columns
        return image[row][column] if inside else 0.0

    margin = half if padding == "valid" else 0
    return [
        math.fsum(
            weights[j][i] * pixel(row + j - half, column + i - half)
            for j in range(size)
            for i in range(size)
        )
        for row in range(margin, rows - margin)
        for column in range(margin, columns - margin)
    ]


def mse(output: Sequence[float], target: Sequence[float]) -> float:
    """Returns the mean of squared differences."""
    return math.fsum((a - b) ** 2 for a, b in zip(output, target, strict=True)) / len(output)


def rmse(output: Sequence[float], target: Sequence[float]) -> float:
    """Returns the root of the mean of squared differences."""
    return math.sqrt(mse(output, target))


def cosine(output: Sequence[float], target: Sequence[float]) -> float:
    """Returns 1 - cosine similarity."""
    inner = math.fsum(a * b for a, b in zip(output, target, strict=True))
    lengths = [math.sqrt(math.fsum(a * a for a in vector)) for vector in (output, target)]
    return 1 - inner / (lengths[0] * lengths[1])


def loss_gradient(
    name: str, output: Sequence[float], target: Sequence[float], change: Sequence[float]
) -> float:
    """Returns d loss / d parameter, where `change` is d output / d parameter."""
    residual = [a - b for a, b in zip(output, target, strict=True)]
    slope = 2 * math.fsum(r * c for r, c in zip(residual, change, strict=True)) / len(output)
    if name == "mse":
        return slope
    if name == "rmse":  # d sqrt(m) = dm / (2 sqrt(m))
        return slope / (2 * rmse(output, target))
    # d(-ab/|a||b|) = -(b.da)/(|a||b|) + (a.b)(a.da)/(|a|^3 |b|)
    a_a = math.fsum(a * a for a in output)
    b_b = math.fsum(b * b for b in target)
    a_b = math.fsum(a * b for a, b in zip(output, target, strict=True))
    a_da = math.fsum(a * c for a, c in zip(output, change, strict=True))
    b_da = math.fsum(b * c for b, c in zip(target, change, strict=True))
    return (a_b * a_da / a_a - b_da) / math.sqrt(a_a * b_b)


LOSSES = {"mse": mse, "rmse": rmse, "cosine": cosine}
