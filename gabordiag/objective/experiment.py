"""The question's experiment: a fixed Gabor kernel makes a target response, another learns to.

The target response is the image's response to the kernel with `target_theta`; the learner sees
the loss between its own response and that. `Experiment.along` turns it into an `Objective` of one
of the five parameters, through the exact shortcut (`response.py`) or by conv2d on the whole image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gabordiag.errors import InputError, ParameterError, UsageError
from gabordiag.gabor import (
    PARAMETER_NAMES,
    GaborParameters,
    gabor_kernel,
    gabor_partials,
    theta_period,
    validate_kernel_size,
)
from gabordiag.images import load_image, require_larger_than_kernel
from gabordiag.objective.losses import find_loss
from gabordiag.objective.objective import (
    CHUNK,
    FloatArray,
    Objective,
    Parameter,
    to_numpy,
)
from gabordiag.objective.response import (
    PADDINGS,
    CompressedResponse,
    compress,
    correlate,
    correlate_by_definition,
    kernel_basis,
    output_shape,
    pad_image,
)

DTYPES = {"float64": torch.float64, "float32": torch.float32}
DEVICES = ("cpu", "cuda", "mps")
# Sweeps of the non-periodic parameters look this far around the target's own value.
_RANGE_FACTORS = {"wavelength": (0.4, 2.5), "sigma": (0.4, 2.5), "gamma": (0.3, 3.0)}
_UNITS = {"wavelength": "px", "sigma": "px"}
_MAX_SAMPLES = 4096
# Relative norm of a kernel outside the span; sampling converges faster than geometrically, so the
# step at which this is met leaves errors far below it.
_SPAN_TOLERANCE = 1e-13


@dataclass(frozen=True, eq=False)
class Experiment:
    """All settings of the experiment; INTERFACE's options by the same names.

    Attributes:
        image: Path, built-in name, or 2-D array.
        pixel_scale: Factor on the pixels.
        normalize: `none`, `center`, `standardize`.
        target_theta: Orientation that made the target response, radians.
        theta0: Where the optimizer starts, radians.
        wavelength: Pixels.
        sigma: Pixels.
        psi: Phase, radians.
        gamma: Aspect ratio.
        kernel_size: Side of the kernel, odd.
        padding: `valid`, `same`, `circular`.
        loss: `rmse`, `mse`, `cosine`.
        target_noise: Standard deviation of Gaussian noise added to the target response.
        dtype: `float64`, `float32`; the shortcut itself is always built in float64.
        seed: Of the noise and of synthetic images.
        device: `cpu`, `cuda`, `mps`.

    Raises:
        ParameterError: A filter that cannot exist.
        UsageError: An unknown choice.
        InputError: An unusable image; raised when it is first needed, or by `prepare`.
    """

    image: str | Path | npt.ArrayLike = "hopper"
    pixel_scale: float = 1.0
    normalize: str = "none"
    target_theta: float = math.pi / 4
    theta0: float = -math.pi / 4
    wavelength: float = 10.0
    sigma: float = 4.0
    psi: float = 0.0
    gamma: float = 0.5
    kernel_size: int = 31
    padding: str = "valid"
    loss: str = "rmse"
    target_noise: float = 0.0
    dtype: str = "float64"
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        _ = self.target_parameters
        validate_kernel_size(self.kernel_size)
        if not math.isfinite(self.theta0):
            raise ParameterError(f"the start is {self.theta0}, which is not a finite number.")
        if not math.isfinite(self.target_noise) or self.target_noise < 0:
            raise ParameterError(f"target noise {self.target_noise} is no standard deviation.")
        find_loss(self.loss)
        for option, value, known in (
            ("padding", self.padding, PADDINGS),
            ("dtype", self.dtype, tuple(DTYPES)),
            ("device", self.device, DEVICES),
        ):
            if value not in known:
                raise UsageError(
                    f"{option} '{value}' is unknown.", f"Use one of {', '.join(known)}."
                )

    @property
    def target_parameters(self) -> GaborParameters:
        """The filter that made the target."""
        return GaborParameters(self.target_theta, self.wavelength, self.sigma, self.psi, self.gamma)

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings by name; an array image is described, not copied."""
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        if not isinstance(self.image, (str, Path)):
            settings["image"] = f"array of shape {np.shape(self.image)}"
        settings["image"] = str(settings["image"])
        return settings

    @cached_property
    def pixels(self) -> FloatArray:
        """The image after scaling and normalisation, (rows, columns)."""
        image = load_image(
            self.image, pixel_scale=self.pixel_scale, normalize=self.normalize, seed=self.seed
        )
        require_larger_than_kernel(image, self.kernel_size)
        return image

    @cached_property
    def padded(self) -> Tensor:
        """The image extended for `padding`, float64, on the CPU."""
        return pad_image(torch.as_tensor(self.pixels), self.kernel_size, self.padding)

    @cached_property
    def noise(self) -> Tensor | None:
        """The target's noise, of the output's shape, or None."""
        if self.target_noise == 0:
            return None
        shape = output_shape(self.padded, self.kernel_size)
        noise = np.random.default_rng(self.seed).standard_normal(shape)
        return torch.as_tensor(self.target_noise * noise)

    def torch_device(self) -> torch.device:
        """Returns the device.

        Raises:
            InputError: It is not there, or lacks the precision asked for.
        """
        available = {
            "cpu": True,
            "cuda": torch.cuda.is_available(),
            "mps": torch.backends.mps.is_available(),
        }
        if not available[self.device]:
            raise InputError(f"This machine has no {self.device} device.", "Use --device cpu.")
        if self.device == "mps" and self.dtype == "float64":
            raise InputError("mps has no float64.", "Add --dtype float32, or use --device cpu.")
        return torch.device(self.device)

    def prepare(self) -> Experiment:
        """Loads the image and checks the device now rather than later; returns self."""
        _ = self.pixels
        self.torch_device()
        return self

    def compress(self, kernels: Tensor) -> CompressedResponse:
        """Returns the compressed response, exact on the span of the kernels (n, K, K), float64."""
        return compress(self.padded, kernels, self.noise)

    def along(self, name: str = "theta", *, direct: bool = False) -> GaborObjective:
        """Returns the experiment as a function of one of its parameters, the others fixed.

        Args:
            name: One of `PARAMETER_NAMES`.
            direct: conv2d on the whole image at every evaluation, instead of the shortcut.
        """
        return DirectObjective(self, name) if direct else ShortcutObjective(self, name)

    def parameter(self, name: str) -> Parameter:
        """Returns range, period, target and start of one parameter.

        Raises:
            UsageError: The kernel has no such parameter.
        """
        if name not in PARAMETER_NAMES:
            raise UsageError(
                f"the kernel has no parameter '{name}'.",
                f"Use one of {', '.join(PARAMETER_NAMES)}.",
            )
        target = self.target_parameters.to_dict()[name]
        if name in ("theta", "psi"):
            period = theta_period(self.psi) if name == "theta" else 2 * math.pi
            start = self.theta0 if name == "theta" else target
            return Parameter(name, -period / 2, period / 2, period, target, start, is_angle=True)
        low, high = (factor * target for factor in _RANGE_FACTORS[name])
        if name == "wavelength":
            # Below 2 px the carrier aliases; a target there keeps a range around itself.
            low = min(max(low, 2.0), 0.8 * target)
        return Parameter(name, low, high, None, target, target, unit=_UNITS.get(name, ""))


class GaborObjective(Objective):
    """The experiment along one parameter; the others stand at the target's values."""

    def __init__(self, experiment: Experiment, name: str) -> None:
        self.experiment = experiment
        self.parameter = experiment.parameter(name)
        self.loss_definition = find_loss(experiment.loss)
        self.loss_name = experiment.loss
        self.is_root = self.loss_definition.is_root
        self._device = experiment.torch_device()
        self._fixed = experiment.target_parameters.to_dict()

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the experiment."""
        return DTYPES[self.experiment.dtype]

    @property
    def device(self) -> torch.device:
        """Device of the experiment."""
        return self._device

    def kernels(self, values: Tensor) -> Tensor:
        """Returns the kernels (n, K, K) at the parameter's values (n,)."""
        return gabor_kernel(
            **self._arguments(values), kernel_size=self.experiment.kernel_size, dtype=values.dtype
        )

    def kernel_changes(self, values: Tensor) -> Tensor:
        """Returns the kernels' derivatives (n, K, K) along the parameter, in closed form."""
        size = self.experiment.kernel_size
        partials = gabor_partials(**self._arguments(values), kernel_size=size, dtype=values.dtype)
        return partials[self.parameter.name]

    def _arguments(self, values: Tensor) -> dict[str, float | Tensor]:
        return {**self._fixed, self.parameter.name: values}

    def _target_kernel(self, dtype: torch.dtype) -> Tensor:
        assert self.parameter.target is not None
        target = torch.tensor([self.parameter.target], dtype=dtype, device=self._device)
        return self.kernels(target)


class ShortcutObjective(GaborObjective):
    """Through compressed responses: exact, and independent of the image's size once built."""

    @cached_property
    def compressed(self) -> CompressedResponse:
        """The compressed response on the span of every kernel of the parameter's range."""
        spanning = self._spanning_kernels()
        exact = self.experiment.compress(spanning)
        return exact.to(self.dtype, self.device)

    def squared(self) -> ShortcutObjective | None:
        """Returns the same experiment with the smooth loss under the root, or None."""
        if not self.is_root:
            return None
        return self.with_loss(self.loss_definition.squared)

    def with_loss(self, name: str) -> ShortcutObjective:
        """Returns the same experiment with another loss."""
        settings = replace(self.experiment, loss=name)
        other = ShortcutObjective(settings, self.parameter.name)
        # The compressed response does not depend on the loss.
        other.__dict__["compressed"] = self.compressed
        return other

    def _spanning_kernels(self) -> Tensor:
        """Kernels sampled ever finer until those in between add nothing beyond rounding."""
        parameter = self.parameter
        count = 64
        while True:
            kernels = self.kernels(torch.as_tensor(_sample_points(parameter, count)))
            between = self.kernels(torch.as_tensor(_sample_points(parameter, 2 * count)[1::2]))
            if _is_spanned(between, kernels) or count >= _MAX_SAMPLES:
                return torch.cat([kernels, self._target_kernel(torch.float64).cpu()])
            count *= 2

    @cached_property
    def shortcut_error(self) -> float:
        """Largest error against shifted images of the whole picture, at two generic values.

        Relative to the largest loss and gradient among some values of the range.
        """
        parameter = self.parameter
        width = parameter.high - parameter.low
        some = parameter.low + width * np.arange(32) / 32
        scales = (self.loss_at(some).max(), np.nanmax(np.abs(self.gradient(some))))
        direct = DirectObjective(self.experiment, parameter.name)
        errors = []
        for value in parameter.low + width * np.array([0.2360679775, 0.6180339887]):
            ours = (self.loss_at(value)[0], self.gradient(value)[0])
            for mine, theirs, scale in zip(ours, direct.by_definition(value), scales, strict=True):
                errors.append(abs(mine - theirs) / scale)
        return float(max(errors))

    @cached_property
    def _target(self) -> tuple[Tensor, Tensor]:
        kernel = self._target_kernel(self.dtype)
        return kernel, self.compressed(kernel)[0] + self.compressed.extra

    @property
    def target_response(self) -> Tensor:
        """Compressed form (r,) of the target response."""
        return self._target[1]

    def _parts(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        kernel, target = self._target
        kernels = self.kernels(values)
        residual = self.compressed(kernels - kernel) - self.compressed.extra
        # The sum loses digits where noise far above the response cancels in it.
        noisy = self.experiment.noise is not None
        response = self.compressed(kernels) if noisy else residual + target
        return residual, response, target

    def loss(self, values: Tensor) -> Tensor:
        """Returns the loss (n,) at the values (n,)."""
        return self.loss_definition.compressed(*self._parts(values))

    def smooth_loss(self, values: Tensor) -> Tensor:
        """Returns the loss without its root (n,)."""
        return find_loss(self.loss_definition.squared).compressed(*self._parts(values))

    def gradient(self, values: npt.ArrayLike) -> FloatArray:
        """Returns the closed-form derivative (n,); NaN at exactly zero loss of `rmse`."""
        pieces = []
        with torch.no_grad():
            for chunk in torch.split(self.tensor(values), CHUNK):
                change = self.compressed(self.kernel_changes(chunk))
                pieces.append(self.loss_definition.gradient(*self._parts(chunk), change))
        return to_numpy(torch.cat(pieces))


class DirectObjective(GaborObjective):
    """By conv2d on the whole image: what a person's training loop computes."""

    @cached_property
    def _padded(self) -> Tensor:
        return self.experiment.padded.to(dtype=self.dtype, device=self.device)

    @cached_property
    def _target_response(self) -> Tensor:
        with torch.no_grad():
            response = correlate(self._padded, self._target_kernel(self.dtype))[0]
        noise = self.experiment.noise
        return response if noise is None else response + noise.flatten().to(response)

    def loss(self, values: Tensor) -> Tensor:
        """Returns the loss (n,) at the values (n,)."""
        outputs = correlate(self._padded, self.kernels(values))
        return self.loss_definition.direct(outputs, self._target_response)

    def smooth_loss(self, values: Tensor) -> Tensor:
        """Returns the loss without its root (n,)."""
        outputs = correlate(self._padded, self.kernels(values))
        return find_loss(self.loss_definition.squared).direct(outputs, self._target_response)

    @cached_property
    def _target_by_definition(self) -> Tensor:
        kernel = self._target_kernel(torch.float64).cpu()[0]
        target = correlate_by_definition(self.experiment.padded, kernel)
        noise = self.experiment.noise
        return target if noise is None else target + noise.flatten()

    def by_definition(self, value: float) -> tuple[float, float]:
        """Returns loss and derivative at one value from shifted images, without conv2d or FFT."""
        at = torch.tensor([value], dtype=torch.float64)
        padded, target = self.experiment.padded, self._target_by_definition
        output = correlate_by_definition(padded, self.kernels(at)[0]).requires_grad_()
        change = correlate_by_definition(padded, self.kernel_changes(at)[0])
        loss = self.loss_definition.direct(output[None], target)[0]
        # Chain rule: dloss/dvalue = <dloss/doutput, doutput/dvalue>.
        (dloss_doutput,) = torch.autograd.grad(loss, output)
        return loss.item(), (dloss_doutput * change).sum().item()


def _sample_points(parameter: Parameter, count: int) -> FloatArray:
    """Equispaced over a period, Chebyshev points (both ends included) over an interval."""
    if parameter.period is not None:
        return parameter.low + parameter.period * np.arange(count) / count
    middle, half = (parameter.low + parameter.high) / 2, (parameter.high - parameter.low) / 2
    return middle - half * np.cos(np.pi * np.arange(count + 1) / count)


def _is_spanned(kernels: Tensor, spanning: Tensor) -> bool:
    """Whether `kernels` lie in the span of `spanning`, as far as the basis's own cut tells."""
    basis, flat = kernel_basis(spanning).flatten(1), kernels.flatten(1)
    outside = flat - (flat @ basis.T) @ basis
    return bool(outside.norm(dim=1).max() <= _SPAN_TOLERANCE * flat.norm(dim=1).max())
