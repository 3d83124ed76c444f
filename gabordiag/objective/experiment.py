"""The question's experiment: a fixed Gabor kernel makes a target response, another learns to.

The target response is the image's response to the kernel with `target_theta`; the learner sees
the loss between its own response and that. `Experiment.along` turns it into an `Objective` of one
of the five parameters, through the exact shortcut (`response.py`) or by conv2d on the whole image.

With many images the loss is the mean over all of them. Let e_i be image i's residual and P_i its
number of output pixels: mse is the mean over i of |e_i|^2 / P_i, every image counting the same
whatever its size; rmse is the root of that mean; cosine is that of all the responses taken as one
output, image i's pixels weighted by 1 / P_i. Each is the loss of one image whose Gram matrix is the
mean of theirs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

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
from gabordiag.objective.image_grams import ImageGrams
from gabordiag.objective.kernel_loss import KernelLoss
from gabordiag.objective.losses import find_loss
from gabordiag.objective.objective import (
    CHUNK,
    FloatArray,
    Objective,
    Parameter,
    to_numpy,
)
from gabordiag.objective.patches import fold_even, patch_gram
from gabordiag.objective.pictures import (
    ImageProgress,
    ImageSet,
    Picture,
    find_usable,
    target_noise,
)
from gabordiag.objective.response import (
    PADDINGS,
    CompressedResponse,
    GramWorkspace,
    correlate,
    correlate_by_definition,
    factor_gram,
    kernel_basis,
    output_shape,
    pad_image,
    response_gram,
)

DTYPES = {"float64": torch.float64, "float32": torch.float32}
DEVICES = ("cpu", "cuda", "mps")
# Sweeps of the non-periodic parameters look this far around the target's own value.
_RANGE_FACTORS = {"wavelength": (0.4, 2.5), "sigma": (0.4, 2.5), "gamma": (0.3, 3.0)}
_UNITS = {"wavelength": "px", "sigma": "px"}
_MAX_SAMPLES = 4096
# Radians; farther off a double has no digits left for the angle.
_FARTHEST_START = 1e6
# Its square must be a double.
_MAX_NOISE = 1e100
# Relative norm of a kernel outside the span; sampling converges faster than geometrically, so the
# step at which this is met leaves errors far below it.
_SPAN_TOLERANCE = 1e-13
# Images and target responses that the direct path keeps between evaluations.
_KEPT_BYTES = 2**28


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
        images: Instead of `image`: a folder, or a sequence of paths, built-in names and 2-D
            arrays, of any sizes. They are read one at a time, in the order of their names or of the
            sequence; those that cannot be used are left out, see `image_set`. Each is scaled and
            normalised by itself, and has target noise of its own, seeded by `seed` and its pixels.
        strict: Refuse images of which some cannot be used.
        progress: Called with (what, done, total) while many images are read.

    Raises:
        ParameterError: A filter that cannot exist.
        UsageError: An unknown choice, or both `image` and `images`.
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
    images: str | Path | Sequence[str | Path | npt.ArrayLike] | None = None
    strict: bool = False
    progress: ImageProgress | None = None

    def __post_init__(self) -> None:
        _ = self.target_parameters
        validate_kernel_size(self.kernel_size)
        if not abs(self.theta0) <= _FARTHEST_START:
            raise ParameterError(
                f"the start is {self.theta0}, which is no angle up to {_FARTHEST_START:g}."
            )
        if not 0 <= self.target_noise <= _MAX_NOISE:
            raise ParameterError(
                f"target noise {self.target_noise} is no deviation from 0 to {_MAX_NOISE:g}."
            )
        find_loss(self.loss)
        if self.images is not None and not (isinstance(self.image, str) and self.image == "hopper"):
            raise UsageError("image and images exclude each other.", "Give one of them.")
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
        del settings["progress"]
        if self.images is not None:
            del settings["image"]
            given = self.images
            images = str(given) if isinstance(given, (str, Path)) else [_describe(i) for i in given]
            return {**settings, "images": images}
        del settings["images"], settings["strict"]
        return {**settings, "image": _describe(self.image)}

    @property
    def has_many_images(self) -> bool:
        """Whether `images` are given, be it only one."""
        return self.images is not None

    @cached_property
    def image_set(self) -> ImageSet:
        """The images in use; of `images`, each was read once to know that it can be used."""
        if self.images is None:
            return ImageSet((self.image,), (_describe(self.image),))
        return find_usable(self.images, self._load, strict=self.strict, progress=self.progress)

    def _load(self, source: Any) -> FloatArray:
        image = load_image(
            source, pixel_scale=self.pixel_scale, normalize=self.normalize, seed=self.seed
        )
        require_larger_than_kernel(image, self.kernel_size)
        return image

    def part(self, indices: Sequence[int]) -> Experiment:
        """Returns the same experiment on some of the many images."""
        chosen = self.image_set.part(indices)
        experiment = replace(self, images=chosen.sources, progress=None)
        # They are known to be usable, and need not be read to find out.
        experiment.__dict__["image_set"] = chosen
        return experiment

    def in_double(self) -> Experiment:
        """Returns the same experiment in float64 on the CPU, without reading an image again."""
        experiment = replace(self, dtype="float64", device="cpu", progress=None)
        for name in ("image_set", "_pixel_gram"):
            if name in self.__dict__:
                experiment.__dict__[name] = self.__dict__[name]
        return experiment

    def picture(self, index: int) -> Picture:
        """Returns one of the images, read now, padded, with its target's noise."""
        pixels = self._load(self.image_set.sources[index])
        padded = pad_image(torch.as_tensor(pixels), self.kernel_size, self.padding)
        noise = None
        if self.target_noise > 0:
            shape = output_shape(padded, self.kernel_size)
            noise = torch.as_tensor(target_noise(pixels, shape, self.target_noise, self.seed))
        return Picture(self.image_set.names[index], padded, noise)

    def pictures(self) -> Iterator[Picture]:
        """Yields every image, padded, with its target's noise; one at a time is in memory."""
        if self.images is None:
            yield Picture(self.image_set.names[0], self.padded, self.noise)
            return
        for index in range(len(self.image_set)):
            yield self.picture(index)
            if self.progress is not None:
                self.progress("convolving images", index + 1, len(self.image_set))

    @cached_property
    def pixels(self) -> FloatArray:
        """The image after scaling and normalisation, (rows, columns); of many, the first."""
        return self._load(self.image_set.sources[0])

    @cached_property
    def padded(self) -> Tensor:
        """The image extended for `padding`, float64, on the CPU; of many, the first."""
        return pad_image(torch.as_tensor(self.pixels), self.kernel_size, self.padding)

    @cached_property
    def noise(self) -> Tensor | None:
        """The target's noise, of the output's shape, or None; of many images, the first's."""
        if self.target_noise == 0:
            return None
        if self.images is not None:
            return self.picture(0).noise
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
        """Loads the image or images and checks the device now rather than later; returns self."""
        self.torch_device()
        _ = self.pixels if self.images is None else self.image_set
        return self

    def compress(self, kernels: Tensor, grams: ImageGrams | None = None) -> CompressedResponse:
        """Returns the compressed response, exact on the span of the kernels (n, K, K), float64.

        Args:
            kernels: (n, K, K).
            grams: Collects the Gram matrices of the single images.
        """
        basis = kernel_basis(kernels)
        workspace = GramWorkspace(basis)
        total: Tensor | None = None
        for picture in self.pictures():
            gram = response_gram(picture.padded, basis, picture.noise, workspace)
            if grams is not None:
                grams.add(gram, basis)
            total = gram if total is None else total + gram
        assert total is not None
        return factor_gram(total / len(self.image_set), basis)

    @cached_property
    def everywhere(self) -> CompressedResponse:
        """The compressed response that is exact for every kernel of `kernel_size`; float64."""
        return self._from_pixels(self._pixel_gram)

    @cached_property
    def everywhere_even(self) -> CompressedResponse:
        """The same for every even kernel, g(-x, -y) = g(x, y): a quarter of the arithmetic."""
        return self._from_pixels(fold_even(self._pixel_gram, self.kernel_size))

    @cached_property
    def _pixel_gram(self) -> Tensor:
        grams = (
            patch_gram(picture.padded, self.kernel_size, picture.noise)
            for picture in self.pictures()
        )
        return sum(grams, torch.zeros((), dtype=torch.float64)) / len(self.image_set)

    def _from_pixels(self, gram: Tensor) -> CompressedResponse:
        pixels = len(gram) - (self.target_noise > 0)
        return factor_gram(gram, torch.eye(pixels, dtype=torch.float64))

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
        unit = _UNITS.get(name, "")
        return Parameter(name, low, high, None, target, target, unit=unit, is_positive=True)


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
    def images(self) -> dict[str, Any] | None:
        """Which images the loss is the mean over, as JSON shows it; None with a single one."""
        many = self.experiment.has_many_images
        return self.experiment.image_set.to_dict() if many else None

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
        name, size = self.parameter.name, self.experiment.kernel_size
        partials = gabor_partials(
            **self._arguments(values), kernel_size=size, dtype=values.dtype, names=[name]
        )
        return partials[name]

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
        return self._measured[0]

    @cached_property
    def _measured(self) -> tuple[CompressedResponse, ImageGrams | None]:
        grams = ImageGrams() if self.experiment.has_many_images else None
        exact = self.experiment.compress(self._spanning_kernels(), grams)
        return exact.to(self.dtype, self.device), grams

    def on_images(self, indices: Sequence[int]) -> ShortcutObjective:
        """Returns the same objective on some of the many images, at no convolution.

        Args:
            indices: Of `Experiment.image_set`.

        Raises:
            InputError: There are not many images, or so many that single ones were not kept.
        """
        grams = self._measured[1]
        if grams is None:
            raise InputError("the experiment has one image only.", "Give several.")
        part = ShortcutObjective(self.experiment.part(indices), self.parameter.name)
        part.__dict__["compressed"] = grams.compressed(indices).to(self.dtype, self.device)
        return part

    @property
    def has_single_images(self) -> bool:
        """Whether `on_images` works."""
        grams = self._measured[1]
        return grams is not None and grams.is_complete

    def squared(self) -> ShortcutObjective | None:
        """Returns the same experiment with the smooth loss under the root, or None."""
        if not self.is_root:
            return None
        return self.with_loss(self.loss_definition.squared)

    def with_loss(self, name: str) -> ShortcutObjective:
        """Returns the same experiment with another loss."""
        settings = replace(self.experiment, loss=name)
        # The images and their compressed responses do not depend on the loss.
        for known in ("image_set", "everywhere"):
            if known in self.experiment.__dict__:
                settings.__dict__[known] = self.experiment.__dict__[known]
        other = ShortcutObjective(settings, self.parameter.name)
        other.__dict__["compressed"] = self.compressed
        if "_measured" in self.__dict__:
            other.__dict__["_measured"] = self._measured
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

        Relative to the largest loss and gradient among some values of the range. Of many images,
        the largest error on those of `checked_images`.
        """
        if len(self.experiment.image_set) > 1:
            return max(self._alone(index).shortcut_error for index in self.checked_images)
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

    @property
    def images(self) -> dict[str, Any] | None:
        """The same, and which of them the shortcut is checked on."""
        told = super().images
        names = self.experiment.image_set.names
        return told and {**told, "checked": [names[index] for index in self.checked_images]}

    @property
    def checked_images(self) -> tuple[int, ...]:
        """The first, the middle and the last of many images: those that are checked directly.

        The mean over all images is a sum of matrices, in which nothing is left to check.
        """
        count = len(self.experiment.image_set)
        return tuple(sorted({0, count // 2, count - 1}))

    def _alone(self, index: int) -> ShortcutObjective:
        if self.has_single_images:
            return self.on_images([index])
        return ShortcutObjective(self.experiment.part([index]), self.parameter.name)

    def _through(self, compressed: CompressedResponse) -> KernelLoss:
        noisy = self.experiment.target_noise > 0
        return KernelLoss(compressed, self._target_kernel(self.dtype), self.loss_definition, noisy)

    @cached_property
    def _inside(self) -> KernelLoss:
        return self._through(self.compressed)

    @cached_property
    def _outside(self) -> KernelLoss:
        return self._through(self.experiment.everywhere.to(self.dtype, self.device))

    def _at(self, values: Tensor) -> KernelLoss:
        """Returns what is exact at the values: a run may leave the range that is looked at."""
        parameter = self.parameter
        if parameter.period is not None:
            return self._inside
        outside = (values < parameter.low) | (values > parameter.high)
        return self._outside if bool(outside.any()) else self._inside

    @property
    def target_response(self) -> Tensor:
        """Compressed form (r,) of the target response."""
        return self._inside.target_response

    def loss(self, values: Tensor) -> Tensor:
        """Returns the loss (n,) at the values (n,)."""
        return self._at(values.detach()).loss(self.kernels(values))

    def smooth_loss(self, values: Tensor) -> Tensor:
        """Returns the loss without its root (n,)."""
        return self._at(values.detach()).smooth_loss(self.kernels(values))

    def gradient(self, values: npt.ArrayLike) -> FloatArray:
        """Returns the closed-form derivative (n,); NaN at exactly zero loss of `rmse`."""
        with torch.no_grad():
            pieces = [
                self._at(chunk).slopes(self.kernels(chunk), self.kernel_changes(chunk))
                for chunk in torch.split(self.tensor(values), CHUNK)
            ]
        return to_numpy(torch.cat(pieces))


class DirectObjective(GaborObjective):
    """By conv2d on the whole image: what a person's training loop computes.

    Many images are read and convolved one after the other at every evaluation; the first ones, up
    to some hundred megabytes, stay in memory.
    """

    def __init__(
        self, experiment: Experiment, name: str, indices: Sequence[int] | None = None
    ) -> None:
        super().__init__(experiment, name)
        self._indices = indices
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def on_images(self, indices: Sequence[int]) -> DirectObjective:
        """Returns the same objective on some of the many images."""
        part = DirectObjective(self.experiment, self.parameter.name, indices)
        part._kept = self._kept
        return part

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields every padded image with its target response (P,)."""
        experiment = self.experiment
        chosen = range(len(experiment.image_set)) if self._indices is None else self._indices
        for index in chosen:
            if index not in self._kept:
                one = experiment.picture(index) if experiment.has_many_images else None
                pair = self._pair(one or next(experiment.pictures()))
                if sum(map(_pair_bytes, self._kept.values())) > _KEPT_BYTES:
                    yield pair
                    continue
                self._kept[index] = pair
            yield self._kept[index]

    def _pair(self, picture: Picture) -> tuple[Tensor, Tensor]:
        padded = picture.padded.to(dtype=self.dtype, device=self.device)
        with torch.no_grad():
            response = correlate(padded, self._target_kernel(self.dtype))[0]
        if picture.noise is not None:
            response = response + picture.noise.flatten().to(response)
        return padded, response

    def loss(self, values: Tensor) -> Tensor:
        """Returns the loss (n,) at the values (n,)."""
        return self.loss_of(self.kernels(values))

    def smooth_loss(self, values: Tensor) -> Tensor:
        """Returns the loss without its root (n,)."""
        return self.loss_of(self.kernels(values), smooth=True)

    def loss_of(self, kernels: Tensor, *, smooth: bool = False) -> Tensor:
        """Returns the loss (n,) of any kernels (n, K, K); without its root, if `smooth`."""
        definition = self.loss_definition
        if smooth:
            definition = find_loss(definition.squared)
        if not self.experiment.has_many_images:
            ((padded, target),) = self._pairs()
            return definition.direct(correlate(padded, kernels), target)
        moments = [
            # Responses are computed again for the gradient: those of all images would fill memory.
            checkpoint(_moments, padded, kernels, target, use_reentrant=False)
            for padded, target in self._pairs()
        ]
        return definition.pooled(torch.stack(moments).mean(dim=0))

    def by_definition(self, value: float) -> tuple[float, float]:
        """Returns loss and derivative at one value from shifted images, without conv2d or FFT.

        Of one image; of many, the first.
        """
        at = torch.tensor([value], dtype=torch.float64)
        padded, target = self.experiment.padded, self._target_by_definition
        output = correlate_by_definition(padded, self.kernels(at)[0]).requires_grad_()
        change = correlate_by_definition(padded, self.kernel_changes(at)[0])
        loss = self.loss_definition.direct(output[None], target)[0]
        # Chain rule: dloss/dvalue = <dloss/doutput, doutput/dvalue>.
        (dloss_doutput,) = torch.autograd.grad(loss, output)
        return loss.item(), (dloss_doutput * change).sum().item()

    @cached_property
    def _target_by_definition(self) -> Tensor:
        kernel = self._target_kernel(torch.float64).cpu()[0]
        target = correlate_by_definition(self.experiment.padded, kernel)
        noise = self.experiment.noise
        return target if noise is None else target + noise.flatten()


def _moments(padded: Tensor, kernels: Tensor, target: Tensor) -> Tensor:
    """Returns the four means over one image's pixels (4, n) that `Loss.pooled` takes."""
    outputs = correlate(padded, kernels)
    difference = outputs - target
    return torch.stack(
        [
            (difference * difference).mean(dim=-1),
            (outputs * outputs).mean(dim=-1),
            (outputs * target).mean(dim=-1),
            (target * target).mean().expand(len(outputs)),
        ]
    )


def _pair_bytes(pair: tuple[Tensor, Tensor]) -> int:
    return pair[0].nbytes + pair[1].nbytes


def _describe(image: Any) -> str:
    if isinstance(image, (str, Path)):
        return str(image)
    return f"array of shape {np.shape(image)}"


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
