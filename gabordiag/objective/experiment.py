"""The question's experiment: a fixed Gabor kernel makes a target response, another learns to.

The target response is the image's response to the kernel with `target_theta`; the learner sees
the loss between its own response and that. `gabor_line.along` makes a `Line` of one of the five
parameters, through the exact shortcut (`response.py`) or by conv2d on the whole image.

With many images the loss is the mean over all of them. Let e_i be image i's residual and P_i its
number of output pixels: mse is the mean over i of |e_i|^2 / P_i, every image counting the same
whatever its size; rmse is the root of that mean; cosine is that of all the responses taken as one
output, image i's pixels weighted by 1 / P_i. Each is the loss of one image whose Gram matrix is the
mean of theirs. Of many images the first is kept, and of all of them names and what was computed: a
picture is read when it is asked for, so that a thousand take hardly more memory than one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gabordiag.choices import DeviceName, DtypeName, LossName, Normalization, Number, Padding, plain
from gabordiag.errors import InputError, ParameterError, UsageError, unknown_name
from gabordiag.gabor import PARAMETER_NAMES, GaborParameters, theta_period, validate_kernel_size
from gabordiag.images import (
    ImageProgress,
    ImageSet,
    find_usable,
    load_image,
    require_larger_than_kernel,
    validate_seed,
)
from gabordiag.objective.losses import find_loss
from gabordiag.objective.response import (
    PADDINGS,
    CompressedResponse,
    GramWorkspace,
    factor_gram,
    fold_even,
    output_shape,
    pad_image,
    patch_gram,
    response_gram,
)
from gabordiag.objective.space import FloatArray, Parameter

DTYPES = {"float64": torch.float64, "float32": torch.float32}
DEVICES = ("cpu", "cuda", "mps")
# Sweeps of the non-periodic parameters look this far around the target's own value: somewhat more
# than an octave to either side, in which a filter turns into one of another scale.
_RANGE_FACTORS = {"wavelength": (0.4, 2.5), "sigma": (0.4, 2.5), "gamma": (0.3, 3.0)}
_UNITS = {"wavelength": "px", "sigma": "px"}
# Radians; farther off an angle has lost more than six digits to whole turns.
_FARTHEST_START = 1e6
# Its square must be a double.
_MAX_NOISE = 1e100
# What comes from the images alone, in float64 on the CPU: whatever the loss, precision and device.
_FROM_IMAGES = (
    "image_set", "pixels", "padded", "noise", "_pixel_gram", "everywhere", "everywhere_even",
)  # fmt: skip
_LEAVES_IMAGES = frozenset({"loss", "dtype", "device", "progress"})


@dataclass(frozen=True, eq=False)
class Picture:
    """One image (H, W), extended for the padding, and the noise of its target response, if any."""

    padded: Tensor
    noise: Tensor | None


@dataclass(frozen=True, eq=False)
class Experiment:
    """The question's experiment: all settings, none of them computed yet.

    A hard-coded Gabor kernel with `target_theta` makes a target response r* from the image (by
    `torch.nn.functional.conv2d`); the learned kernel makes r. With e = r - r* and P output pixels
    the loss is mse = |e|^2 / P, rmse its root, or cosine = 1 - <r, r*> / (|r| |r*|).

    Attributes:
        image: Path, built-in name, or 2-D array.
        pixel_scale: Factor on the pixels.
        normalize: `none`, `center`, `standardize`, `whiten`; see `load_image`.
        target_theta: Orientation that made the target response, radians.
        theta0: Where the optimizer starts, radians.
        wavelength: Pixels.
        sigma: Pixels.
        psi: Phase, radians.
        gamma: Aspect ratio.
        kernel_size: Side of the kernel, odd.
        padding: `valid`, `same`, `circular`.
        loss: A name of `LOSSES`, such as `rmse`, `mse`, `cosine`.
        target_noise: Standard deviation of Gaussian noise added to the target response.
        dtype: `float64`, `float32`, or torch's; the shortcut itself is always built in float64.
        seed: Of the noise and of synthetic images.
        device: `cpu`, `cuda`, `mps`, or such a `torch.device`.
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

    Example:
        >>> import numpy as np, gabordiag as gd
        >>> chessboard = (np.indices((32, 32)) // 8).sum(axis=0) % 2
        >>> experiment = gd.Experiment(
        ...     chessboard, wavelength=6, sigma=2, kernel_size=11, loss="mse", theta0=0
        ... )
        >>> experiment.target_parameters
        GaborParameters(theta=0.785..., wavelength=6, sigma=2, psi=0.0, gamma=0.5)
        >>> [point.kind for point in gd.sweep(experiment).landscape.points]
        ['maximum', 'minimum']
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

    if TYPE_CHECKING:
        # What is given may be of more types than what is kept.
        def __init__(
            self,
            image: str | Path | npt.ArrayLike = ...,
            pixel_scale: Number = ...,
            normalize: Normalization = ...,
            target_theta: Number = ...,
            theta0: Number = ...,
            wavelength: Number = ...,
            sigma: Number = ...,
            psi: Number = ...,
            gamma: Number = ...,
            kernel_size: int | np.integer[Any] = ...,
            padding: Padding = ...,
            loss: LossName = ...,
            target_noise: Number = ...,
            dtype: DtypeName | torch.dtype = ...,
            seed: int | np.integer[Any] = ...,
            device: DeviceName | torch.device = ...,
            images: str | Path | Sequence[str | Path | npt.ArrayLike] | None = ...,
            strict: bool = ...,
            progress: ImageProgress | None = ...,
        ) -> None: ...

    def __post_init__(self) -> None:
        for field in fields(self):
            if isinstance(field.default, (int, float)):
                object.__setattr__(self, field.name, plain(getattr(self, field.name)))
        object.__setattr__(self, "dtype", str(self.dtype).removeprefix("torch."))
        object.__setattr__(self, "device", str(self.device))
        _ = self.target_parameters
        validate_kernel_size(self.kernel_size)
        validate_seed(self.seed)
        if not abs(self.theta0) <= _FARTHEST_START:
            farthest = f"an angle of at most {_FARTHEST_START:g} rad"
            raise ParameterError(f"the start is {self.theta0}, not {farthest}.")
        if not 0 <= self.target_noise <= _MAX_NOISE:
            possible = f"between 0 and {_MAX_NOISE:g}"
            raise ParameterError(f"target noise is {self.target_noise}, not {possible}.")
        find_loss(self.loss)
        if self.images is not None and not (isinstance(self.image, str) and self.image == "hopper"):
            raise UsageError("image and images exclude each other.", "Give one of them.")
        known = {"padding": PADDINGS, "dtype": tuple(DTYPES), "device": DEVICES}
        for option, names in known.items():
            if getattr(self, option) not in names:
                raise unknown_name(option, getattr(self, option), names)

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

    def on_same_images(self, **settings: Any) -> Experiment:
        """Returns another loss, dtype, device or progress; no image is read or convolved again."""
        assert settings.keys() <= _LEAVES_IMAGES
        experiment = replace(self, **settings)
        known = {name: self.__dict__[name] for name in _FROM_IMAGES if name in self.__dict__}
        experiment.__dict__.update(known)
        return experiment

    def middle(self, side: int) -> Experiment:
        """Returns the same experiment on the image's middle part; itself where that is all."""
        rows, columns = output_shape(self.padded, self.kernel_size)
        if max(rows, columns) <= side:
            return self
        top, left = (max(0, length - side) // 2 for length in (rows, columns))
        inside = np.s_[top : top + side, left : left + side]
        reach = side + self.kernel_size - 1
        part = replace(self, progress=None)
        part.__dict__.update(
            image_set=self.image_set,
            padded=self.padded[top : top + reach, left : left + reach],
            noise=None if self.noise is None else self.noise[inside],
        )
        return part

    def in_double(self) -> Experiment:
        """Returns the same experiment in float64 on the CPU, without reading an image again."""
        return self.on_same_images(dtype="float64", device="cpu", progress=None)

    def picture(self, index: int) -> Picture:
        """Returns one of the images, padded, with its target's noise; of many, it is read now."""
        if self.images is None:
            return Picture(self.padded, self.noise)
        pixels = self._load(self.image_set.sources[index])
        padded = pad_image(torch.as_tensor(pixels), self.kernel_size, self.padding)
        return Picture(padded, self._noise_of(pixels, padded))

    def pictures(self) -> Iterator[Picture]:
        """Yields every image, padded, with its target's noise; one at a time is in memory."""
        for index in range(len(self.image_set)):
            yield self.picture(index)
            if self.images is not None and self.progress is not None:
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
        return self._noise_of(self.pixels, self.padded)

    def _noise_of(self, pixels: FloatArray, padded: Tensor) -> Tensor | None:
        """Returns the noise (rows, columns) of an image's target response.

        Its stream depends on the seed and on the image's own pixels alone, and so neither on the
        order of the images nor on which others are there. Nor is it the stream of a built-in image
        of the same seed, which would make the image its own noise.
        """
        if self.target_noise == 0:
            return None
        digest = hashlib.blake2b(np.ascontiguousarray(pixels).tobytes(), digest_size=8).digest()
        generator = np.random.default_rng([self.seed, int.from_bytes(digest, "big")])
        noise = generator.standard_normal(output_shape(padded, self.kernel_size))
        return torch.as_tensor(self.target_noise * noise)

    def torch_dtype(self) -> torch.dtype:
        """Returns the precision."""
        return DTYPES[self.dtype]

    def torch_device(self) -> torch.device:
        """Returns the device, if it is there and has the precision asked for."""
        backends: dict[str, Any] = {"cuda": torch.cuda, "mps": torch.backends.mps}
        if self.device in backends and not backends[self.device].is_available():
            raise InputError(f"This machine has no {self.device} device.", "Use --device cpu.")
        if self.device == "mps" and self.dtype == "float64":
            raise InputError("mps has no float64.", "Add --dtype float32, or use --device cpu.")
        return torch.device(self.device)

    def prepare(self) -> Experiment:
        """Loads the image or images and checks the device now rather than later; returns self."""
        self.torch_device()
        _ = self.pixels if self.images is None else self.image_set
        return self

    def grams(self, basis: Tensor, kernels: Tensor) -> Iterator[Tensor]:
        """Yields every image's Gram matrix in a basis (r, K, K) of kernels (n, K, K), float64."""
        workspace = GramWorkspace(basis, kernels)
        for picture in self.pictures():
            yield response_gram(picture.padded, basis, picture.noise, workspace)

    @cached_property
    def everywhere(self) -> CompressedResponse:
        """The compressed response that is exact for all kernels of `kernel_size`; float64."""
        return self._from_pixels(self._pixel_gram)

    @cached_property
    def everywhere_even(self) -> CompressedResponse:
        """As `everywhere`, for even kernels, g(-x, -y) = g(x, y): a quarter of the arithmetic."""
        return self._from_pixels(fold_even(self._pixel_gram, self.kernel_size))

    def everywhere_of_each(self, *, even: bool) -> Iterator[CompressedResponse]:
        """Yields `everywhere`, or `everywhere_even`, of one image after the other."""
        for gram in self._pixel_grams():
            yield self._from_pixels(fold_even(gram, self.kernel_size) if even else gram)

    @cached_property
    def _pixel_gram(self) -> Tensor:
        return sum(self._pixel_grams(), torch.zeros((), dtype=torch.float64)) / len(self.image_set)

    def _pixel_grams(self) -> Iterator[Tensor]:
        for picture in self.pictures():
            yield patch_gram(picture.padded, self.kernel_size, picture.noise)

    def _from_pixels(self, gram: Tensor) -> CompressedResponse:
        pixels = len(gram) - (self.target_noise > 0)
        return factor_gram(gram, torch.eye(pixels, dtype=torch.float64))

    def parameter(self, name: str) -> Parameter:
        """Returns range, period, target and start of one parameter."""
        if name not in PARAMETER_NAMES:
            several = "; repeat the option for several" if "," in name else ""
            raise UsageError(
                f"the kernel has no parameter '{name}'.",
                f"Use one of {', '.join(PARAMETER_NAMES)}{several}.",
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


def _describe(image: Any) -> str:
    return str(image) if isinstance(image, (str, Path)) else f"array of shape {np.shape(image)}"
