"""The question's experiment as objectives of one parameter: through the shortcut, or directly.

An `Experiment` and a parameter's name go in; the other parameters stand at the target's values.
`ShortcutObjective` evaluates on compressed responses (`response.py`), exact and independent of the
image's size; `DirectObjective` convolves the whole image every time, as a person's training loop
does. Each checks the other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gabordiag.errors import InputError
from gabordiag.gabor import gabor_kernel, gabor_partials
from gabordiag.objective.angles import nodes, value_of
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.image_grams import ImageGrams
from gabordiag.objective.image_set import Picture
from gabordiag.objective.kernel_loss import KernelLoss
from gabordiag.objective.line import CHUNK, Line, to_numpy
from gabordiag.objective.losses import find_loss
from gabordiag.objective.response import (
    CompressedResponse,
    correlate,
    correlate_by_definition,
    kernel_basis,
)
from gabordiag.objective.space import FloatArray, Parameter

# Kernels sampled first, and at most, to span those of all values: some more than the dimensions of
# the default filter's (50 over theta, fewer over the others), and far more than any filter was seen
# to need, so that the doubling ends.
_FIRST_SAMPLES, _MAX_SAMPLES = 64, 4096
# Relative norm of a kernel outside the span; sampling converges faster than geometrically, so the
# step at which this is met leaves errors far below it.
_SPAN_TOLERANCE = 1e-13
# Roundings of an entry of the Gram matrix, relative to K^2 mean(pixel^2), which bounds it: those of
# the transforms, and of a sum over the image.
_GRAM_ROUNDINGS = 64
# Images and target responses that the direct path keeps between evaluations.
_KEPT_BYTES = 2**28


class GaborLine(Line):
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
        return self.experiment.torch_dtype()

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


class ShortcutObjective(GaborLine):
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
        experiment = self.experiment.on_same_images(loss=name)
        other = ShortcutObjective(experiment, self.parameter.name)
        other.__dict__["compressed"] = self.compressed
        if "_measured" in self.__dict__:
            other.__dict__["_measured"] = self._measured
        return other

    def _spanning_kernels(self) -> Tensor:
        """Kernels sampled ever finer until those in between add nothing beyond rounding."""
        parameter = self.parameter
        count = _FIRST_SAMPLES
        while True:
            kernels = self.kernels(_sample_points(parameter, count))
            between = self.kernels(_sample_points(parameter, 2 * count)[1::2])
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

    @cached_property
    def slope_rounding(self) -> tuple[float, float]:
        """Bounds on what the rounding of the Gram matrix makes of the loss's two derivatives.

        Its error, d = c eps K^2 mean(pixel^2) in norm, is part of every evaluation. With e the
        difference of kernels and g' the kernel's derivative it changes (e^T M e)' by up to
        2 d |e| |g'|, and the derivative of a cosine by 4 d |g| |g'| over the response's energy.
        """
        values = self.tensor(value_of(self.parameter, nodes(self.parameter, _FIRST_SAMPLES)))
        kernels, changes = self.kernels(values), self.kernel_changes(values).flatten(1)
        size, eps = self.experiment.kernel_size, torch.finfo(torch.float64).eps
        pixels = float(self.experiment.padded.square().mean())
        gram = _GRAM_ROUNDINGS * eps * size**2 * pixels
        change = float(changes.norm(dim=1).max())
        if self.loss_definition.squared == "cosine":
            norm = float(kernels.flatten(1).norm(dim=1).max())
            least = float(self.compressed(kernels).square().sum(-1).min())
            if least <= gram * norm**2:
                return math.inf, math.inf
            return 4 * gram * norm * change / least, 8 * gram * change**2 / least
        apart = (kernels - self._target_kernel(self.dtype)).flatten(1)
        noise = self.experiment.target_noise * math.sqrt(gram * _GRAM_ROUNDINGS * eps)
        first = 2 * change * (gram * float(apart.norm(dim=1).max()) + noise)
        return first, 4 * gram * change**2

    @property
    def images(self) -> dict[str, Any] | None:
        """All images, and which of them the shortcut is checked on."""
        listed = super().images
        names = self.experiment.image_set.names
        return listed and {**listed, "checked": [names[index] for index in self.checked_images]}

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

    @property
    def scale(self) -> float:
        """From the energy of the target response."""
        return self.loss_definition.scale(float(self.target_response.double().square().sum()))

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


class DirectObjective(GaborLine):
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


def _sample_points(parameter: Parameter, count: int) -> Tensor:
    return torch.as_tensor(value_of(parameter, nodes(parameter, count)))


def _is_spanned(kernels: Tensor, spanning: Tensor) -> bool:
    """Whether `kernels` lie in the span of `spanning`, as far as the basis's own cut decides."""
    basis, flat = kernel_basis(spanning).flatten(1), kernels.flatten(1)
    outside = flat - (flat @ basis.T) @ basis
    return bool(outside.norm(dim=1).max() <= _SPAN_TOLERANCE * flat.norm(dim=1).max())


def along(experiment: Experiment, name: str = "theta", *, direct: bool = False) -> GaborLine:
    """Returns the experiment as a function of one of its parameters, the others fixed.

    Args:
        experiment: Image, filter, loss.
        name: One of `PARAMETER_NAMES`.
        direct: conv2d on the whole image at every evaluation, instead of the shortcut.
    """
    return (DirectObjective if direct else ShortcutObjective)(experiment, name)
