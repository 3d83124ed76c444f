"""A convolution whose filters are Gabor filters: the first layer of a network, learned.

The kernels are those of `gabordiag.gabor`; what is learned are the parameters of each filter.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from gabordiag.errors import ParameterError, UsageError
from gabordiag.gabor import PARAMETER_NAMES, POSITIVE_NAMES, gabor_kernel, validate_kernel_size

Size = int | tuple[int, int]
# sigma / wavelength of a bandwidth of one octave.
_OCTAVE = 0.56
_GOLDEN = (math.sqrt(5) - 1) / 2


class GaborConv2d(nn.Module):
    """A 2-D convolution with one Gabor filter for each output channel, in the place of `nn.Conv2d`.

    Each filter has its own theta, wavelength, sigma, psi and gamma, learned or fixed. Those that
    have to be positive are kept as logarithms (`log_wavelength`, `log_sigma`, `log_gamma`). What is
    fixed is a buffer. With several input channels a filter is the same on each of them, times a
    learned weight (`mix`).

    The filters start as a bank: orientations spread evenly over half a turn, wavelengths over the
    scales that the kernel can hold, bandwidths of one octave, even and odd phases in turn.

    Args:
        in_channels: Of the input.
        out_channels: Number n of filters.
        kernel_size: Side K, odd; a pair of equal numbers is taken, too.
        stride: As in `nn.Conv2d`, and so the following.
        padding: Pixels on each side, `valid` or `same`.
        dilation: Spacing of the kernel's pixels.
        groups: Of channels.
        bias: Whether a learned number, 0 at first, is added to each output channel.
        padding_mode: `zeros`, `reflect`, `replicate` or `circular`.
        device: Of the parameters.
        dtype: Of the parameters.
        learn: Names of what is learned.
        orientation: `angle` learns theta itself; `vector` learns (cos 2 theta, sin 2 theta), of any
            length, which has no period and no start from which the way is longer than a quarter
            turn (Granlund 1978).
        initial: First values by name, a number for all filters or one for each (n,).

    Raises:
        ParameterError: An even kernel size, or a first value that cannot be.
        UsageError: An unknown name.

    Example:
        >>> import torch, gabordiag as gd
        >>> layer = gd.GaborConv2d(1, 8, 11, padding="same", learn=("theta", "sigma"))
        >>> layer(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 8, 28, 28])
        >>> [name for name, _ in layer.named_parameters()]
        ['theta', 'log_sigma', 'bias']
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        learn: Collection[str] = PARAMETER_NAMES,
        orientation: Literal["angle", "vector"] = "angle",
        **initial: Any,
    ) -> None:
        super().__init__()
        if isinstance(learn, str):
            raise UsageError("learn takes several names.", f"Write learn=({learn!r},) for one.")
        for name in (*initial, *learn):
            if name not in PARAMETER_NAMES:
                raise UsageError(
                    f"'{name}' is not a parameter of a Gabor filter.",
                    f"Its parameters are {', '.join(PARAMETER_NAMES)}.",
                )
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise UsageError(
                f"{in_channels} and {out_channels} channels do not divide into {groups} groups."
            )
        if orientation not in ("angle", "vector"):
            raise UsageError(f"orientation '{orientation}' is unknown.", "Use angle or vector.")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = _side(kernel_size)
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.groups, self.padding_mode = groups, padding_mode
        self.learn, self.orientation = tuple(learn), orientation
        # A tensor with a history cannot be copied, nor could the layer.
        self._initial = {n: v.detach() if isinstance(v, Tensor) else v for n, v in initial.items()}
        kind: dict[str, Any] = {"device": device, "dtype": dtype}
        for name, value in self._stored(kind).items():
            if name.removeprefix("log_").replace("vector", "theta") in self.learn:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)
        depth = in_channels // groups
        mix = torch.full((out_channels, depth), depth**-0.5, **kind)
        self.mix = nn.Parameter(mix) if depth > 1 else None
        self.bias = nn.Parameter(torch.zeros(out_channels, **kind)) if bias else None

    def reset_parameters(self) -> None:
        """Puts the filters back to their first values."""
        with torch.no_grad():
            for name, value in self._stored({}).items():
                getattr(self, name).copy_(value)
            if self.mix is not None:
                self.mix.fill_(self.mix.shape[1] ** -0.5)
            if self.bias is not None:
                self.bias.zero_()

    def _stored(self, kind: dict[str, Any]) -> dict[str, Tensor]:
        """Returns the tensors to keep, by the name they are kept under, at their first values."""
        values = {**evenly_spread(self.out_channels, self.kernel_size), **self._initial}
        stored: dict[str, Tensor] = {}
        for name in PARAMETER_NAMES:
            given = torch.as_tensor(values[name], dtype=torch.float64).detach().cpu()
            if given.shape not in ((), (self.out_channels,)) or not given.isfinite().all():
                raise ParameterError(
                    f"{name} has to be one finite number, or {self.out_channels} of them."
                )
            if name in POSITIVE_NAMES and not (given > 0).all():
                raise ParameterError(f"{name} has to be above 0 for a Gabor filter.")
            value = given.expand(self.out_channels).clone()
            if name in POSITIVE_NAMES:
                stored[f"log_{name}"] = value.log()
            elif name == "theta" and self.orientation == "vector":
                stored["vector"] = torch.stack([(2 * value).cos(), (2 * value).sin()], dim=-1)
            else:
                stored[name] = value
        wanted = {**kind, "dtype": kind.get("dtype") or torch.get_default_dtype()}
        return {name: value.to(**wanted) for name, value in stored.items()}

    def values(self) -> dict[str, Tensor]:
        """Returns the five parameters of the filters by name, (n,) each; radians and pixels."""
        result = {}
        for name in PARAMETER_NAMES:
            if name in POSITIVE_NAMES:
                result[name] = torch.exp(getattr(self, f"log_{name}"))
            elif name == "theta" and self.orientation == "vector":
                cos, sin = torch.unbind(getattr(self, "vector"), -1)  # noqa: B009
                result[name] = torch.atan2(sin, cos) / 2
            else:
                result[name] = getattr(self, name)
        return result

    def kernels(self) -> Tensor:
        """Returns the filters (n, K, K)."""
        # In the order of PARAMETER_NAMES, which is that of the arguments.
        return gabor_kernel(*self.values().values(), kernel_size=self.kernel_size)

    def forward(self, input: Tensor) -> Tensor:
        """Returns the responses: (batch, n, height, width) of (batch, channels, height, width)."""
        weight = self.kernels()[:, None]
        if self.mix is not None:
            weight = weight * self.mix[..., None, None]
        return self.convolve(input, weight, self.bias)

    def convolve(self, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Returns the responses to other filters (m, channels of a group, K, K), as laid here."""
        padding = self.padding
        if self.padding_mode != "zeros":
            if isinstance(padding, str):
                half = self.kernel_size // 2 if padding == "same" else 0
                down, right = (half * step for step in _pair(self.dilation))
            else:
                down, right = _pair(padding)
            input = functional.pad(input, [right, right, down, down], mode=self.padding_mode)
            padding = 0
        return functional.conv2d(
            input, weight, bias, self.stride, padding, self.dilation, self.groups
        )

    def extra_repr(self) -> str:
        """Returns what the module's representation says."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, padding={self.padding!r}, learn={self.learn}, "
            f"orientation={self.orientation!r}"
        )


def evenly_spread(count: int, kernel_size: int) -> dict[str, Tensor]:
    """Returns the five parameters (count,) of a bank that covers orientations and scales evenly.

    Wavelengths follow the golden ratio, so that neighbouring orientations have different ones.
    """
    index = torch.arange(count, dtype=torch.float64)
    shortest = max(3.0, kernel_size / 5)
    longest = max(shortest, kernel_size / 3)
    wavelength = shortest * (longest / shortest) ** (index * _GOLDEN % 1)
    return {
        "theta": math.pi * index / count,
        "wavelength": wavelength,
        "sigma": _OCTAVE * wavelength,
        "psi": math.pi / 2 * (index % 2),
        "gamma": torch.ones(count, dtype=torch.float64),
    }


def _side(kernel_size: Size) -> int:
    height, width = _pair(kernel_size)
    if height != width:
        raise ParameterError(f"a Gabor kernel is square, not {height} x {width}.", "Give one side.")
    return validate_kernel_size(height)


def _pair(size: Any) -> tuple[int, int]:
    first, second = size if isinstance(size, (tuple, list)) else (size, size)
    return int(first), int(second)
