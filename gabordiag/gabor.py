"""The real Gabor kernel of the question, and its five partial derivatives in closed form.

The kernel is the textbook one, sampled on the integer grid centred at 0 (x indexes columns,
y indexes rows, both in pixels):

    g(x, y) = exp(-(x'^2 + gamma^2 y'^2) / (2 sigma^2)) * cos(2 pi x' / wavelength + psi)
    x' = x cos(theta) + y sin(theta),   y' = -x sin(theta) + y cos(theta)

`GaborParameters` checks the values of one filter; `gabor_kernel` and `gabor_partials` compute
kernels and their derivatives from numbers or tensors, a whole batch at once. They use elementwise
torch operations only, and neither `abs` nor `conj` nor branches, so that autograd, `vmap` and
complex steps (Squire & Trapp 1998) pass through them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from gabordiag.errors import ParameterError

Scalar = float | Tensor
PARAMETER_NAMES = ("theta", "wavelength", "sigma", "psi", "gamma")
# A filter exists only for values above 0.
POSITIVE_NAMES = ("wavelength", "sigma", "gamma")

# Beyond this an angle has lost six of its sixteen digits to whole turns, and a length in pixels is
# meaningless; so is a length below 1 / this.
_LARGEST = 1e6


@dataclass(frozen=True)
class GaborParameters:
    """The five parameters of one Gabor filter, checked.

    Attributes:
        theta: Orientation of the carrier's normal, radians.
        wavelength: Carrier wavelength, pixels, > 0.
        sigma: Standard deviation of the envelope along x', pixels, > 0.
        psi: Phase of the carrier, radians.
        gamma: Aspect ratio; the envelope's deviation along y' is sigma / gamma, > 0.

    Raises:
        ParameterError: A value that is not finite, or not positive where it has to be.

    Example:
        >>> import gabordiag as gd
        >>> gd.GaborParameters(theta=0.5, sigma=3.0, gamma=1.0).to_dict()
        {'theta': 0.5, 'wavelength': 10.0, 'sigma': 3.0, 'psi': 0.0, 'gamma': 1.0}
    """

    theta: float = math.pi / 4
    wavelength: float = 10.0
    sigma: float = 4.0
    psi: float = 0.0
    gamma: float = 0.5

    def __post_init__(self) -> None:
        for name, value in self.items():
            if not math.isfinite(value):
                raise ParameterError(f"{name} is {value}, which is not a finite number.")
            if name in POSITIVE_NAMES and value <= 0:
                raise ParameterError(
                    f"{name} is {value:g}, but a Gabor filter needs {name} > 0.",
                    f"Give a positive {name}, such as {getattr(GaborParameters, name):g}.",
                )
            lowest = 1 / _LARGEST if name in POSITIVE_NAMES else -_LARGEST
            if not lowest <= value <= _LARGEST:
                raise ParameterError(
                    f"{name} is {value:g}, far outside of what a pixel grid can resolve.",
                    f"Stay between {lowest:g} and {_LARGEST:g}.",
                )

    def items(self) -> Iterator[tuple[str, float]]:
        """Yields (name, value) in the order of `PARAMETER_NAMES`."""
        return ((field.name, getattr(self, field.name)) for field in fields(self))

    def to_dict(self) -> dict[str, float]:
        """Returns the five values by name, as `gabor_kernel(**...)` takes them."""
        return dict(self.items())


def validate_kernel_size(kernel_size: int) -> int:
    """Returns `kernel_size` as an int, if a centred grid of that side exists: odd, 3 or more."""
    if kernel_size != int(kernel_size) or kernel_size < 3 or kernel_size % 2 == 0:
        raise ParameterError(
            f"kernel size {kernel_size} has no centre pixel, or is below 3.",
            f"Use an odd number, such as {max(3, int(kernel_size) // 2 * 2 + 1)}.",
        )
    return int(kernel_size)


def gabor_kernel(
    theta: Scalar = math.pi / 4,
    wavelength: Scalar = 10.0,
    sigma: Scalar = 4.0,
    psi: Scalar = 0.0,
    gamma: Scalar = 0.5,
    *,
    kernel_size: int = 31,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Returns the real Gabor kernel, one for each element of the broadcast parameters.

        g(x, y) = exp(-(x'^2 + gamma^2 y'^2) / (2 sigma^2)) cos(2 pi x' / wavelength + psi)
        x' = x cos(theta) + y sin(theta),   y' = -x sin(theta) + y cos(theta)

    on the integer grid centred at 0. OpenCV's `getGaborKernel` is this kernel turned by 180
    degrees, which is the same where psi is 0 or pi.

    Args:
        theta: Orientation, radians; like all parameters a number, or a tensor of any shape.
        wavelength: Of the carrier, pixels.
        sigma: Standard deviation of the envelope along x', pixels.
        psi: Phase of the carrier, radians.
        gamma: Aspect ratio: the envelope's deviation along y' is sigma / gamma.
        kernel_size: Side K of the square kernel, odd.
        dtype: Default: the tensors' common type, or float64 where there is none or it is an integer
            type. Complex types work (complex step).

    Returns:
        Tensor of shape (*broadcast, K, K); rows are y, columns are x.

    Raises:
        ParameterError: `kernel_size` is even or below 3. Values are not validated here (they may
            be learned tensors); `GaborParameters` does that.

    Example:
        >>> import torch, gabordiag as gd
        >>> theta = torch.tensor([0.0, 0.5, 1.0], requires_grad=True)
        >>> kernels = gd.gabor_kernel(theta, wavelength=6.0, sigma=2.0, kernel_size=9)
        >>> kernels.shape
        torch.Size([3, 9, 9])
        >>> kernels.sum().backward()
        >>> theta.grad.shape
        torch.Size([3])
    """
    given = {"theta": theta, "wavelength": wavelength, "sigma": sigma, "psi": psi, "gamma": gamma}
    return kernel_and_partials(given, kernel_size, (), dtype=dtype)[0]


def gabor_partials(
    theta: Scalar = math.pi / 4,
    wavelength: Scalar = 10.0,
    sigma: Scalar = 4.0,
    psi: Scalar = 0.0,
    gamma: Scalar = 0.5,
    *,
    kernel_size: int = 31,
    dtype: torch.dtype | None = None,
    names: Collection[str] = PARAMETER_NAMES,
) -> dict[str, Tensor]:
    """Returns the kernel's partial derivatives in closed form.

    With E the envelope, p = 2 pi x' / wavelength + psi the carrier's phase, and
    dx'/dtheta = y', dy'/dtheta = -x':

        dg/dtheta      = -E [ (1 - gamma^2) x' y' / sigma^2 cos p + 2 pi y' / wavelength sin p ]
        dg/dwavelength =  E sin p 2 pi x' / wavelength^2
        dg/dsigma      =  E cos p (x'^2 + gamma^2 y'^2) / sigma^3
        dg/dpsi        = -E sin p
        dg/dgamma      = -E cos p gamma y'^2 / sigma^2

    Args:
        theta: Radians; all parameters as in `gabor_kernel`.
        wavelength: Pixels.
        sigma: Pixels.
        psi: Radians.
        gamma: Aspect ratio.
        kernel_size: Side K, odd.
        dtype: As in `gabor_kernel`.
        names: The parameters with respect to which to differentiate.

    Returns:
        One tensor of shape (*broadcast, K, K) for each of `names`; its unit is one over the
        parameter's (per radian, per pixel).

    Raises:
        ParameterError: `kernel_size` is even or below 3.

    Example:
        >>> import torch, gabordiag as gd
        >>> theta = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        >>> kernel = gd.gabor_kernel(theta, kernel_size=9)
        >>> (by_autograd,) = torch.autograd.grad(kernel[2, 3], theta)
        >>> closed_form = gd.gabor_partials(theta, kernel_size=9)["theta"]
        >>> torch.allclose(closed_form[2, 3], by_autograd)
        True
    """
    given = {"theta": theta, "wavelength": wavelength, "sigma": sigma, "psi": psi, "gamma": gamma}
    return kernel_and_partials(given, kernel_size, names, dtype=dtype)[1]


def kernel_and_partials(
    arguments: Mapping[str, Scalar],
    kernel_size: int,
    names: Collection[str],
    *,
    dtype: torch.dtype | None = None,
    rows: int | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Returns `gabor_kernel` and `gabor_partials` at once; of the first rows alone, if given."""
    tensors = [value for value in arguments.values() if isinstance(value, Tensor)]
    device = tensors[0].device if tensors else None
    if dtype is None:
        types = [tensor.dtype for tensor in tensors] or [torch.float64]
        dtype = functools.reduce(torch.promote_types, types)
        if not (dtype.is_floating_point or dtype.is_complex):
            dtype = torch.float64
    theta, wavelength, sigma, psi, gamma = (
        torch.as_tensor(arguments[name], dtype=dtype, device=device)[..., None, None]
        for name in PARAMETER_NAMES
    )
    half = validate_kernel_size(kernel_size) // 2
    # arange itself has no complex type.
    grid = torch.arange(-half, half + 1, device=device).to(dtype)
    x, y = grid[None, :], grid[:rows, None]
    cos, sin = torch.cos(theta), torch.sin(theta)
    x_rot, y_rot = x * cos + y * sin, y * cos - x * sin
    across, variance = gamma * y_rot, sigma * sigma
    distance = x_rot * x_rot + across * across
    envelope = torch.exp(distance / (-2 * variance))
    phase = 2 * math.pi * x_rot / wavelength + psi
    carrier = envelope * torch.cos(phase)
    if not names:
        return carrier, {}
    quadrature, frequency = envelope * torch.sin(phase), 2 * math.pi / wavelength
    formulas: dict[str, Callable[[], Tensor]] = {
        "theta": lambda: (
            -y_rot * ((1 - gamma * gamma) / variance * x_rot * carrier + frequency * quadrature)
        ),
        "wavelength": lambda: frequency / wavelength * x_rot * quadrature,
        "sigma": lambda: carrier * distance / (variance * sigma),
        "psi": lambda: -quadrature,
        "gamma": lambda: -gamma / variance * carrier * y_rot * y_rot,
    }
    return carrier, {name: formulas[name]() for name in names}


def theta_period(psi: float) -> float:
    """Returns the period of the kernel in theta, radians.

    Turning by pi maps (x', y') to (-x', -y'), which is psi -> -psi: the same kernel exactly when
    sin(psi) = 0. The tolerance is the rounding of psi itself: no multiple of pi is a double.
    """
    rounding = 4 * math.ulp(max(1.0, abs(psi)))
    return math.pi if abs(math.sin(psi)) <= rounding else 2 * math.pi
