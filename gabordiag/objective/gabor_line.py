"""The experiment's loss by a kernel, and along one parameter: through the shortcut, or directly.

An `Experiment` and a parameter's name go in; the other parameters stand at the target's values.
`ShortcutObjective` evaluates on compressed responses (`response.py`), exact and independent of the
image's size; `DirectObjective` convolves the whole image every time, as a person's training loop
does. Each checks the other.

The answer without descent: the response is linear in the kernel, so least squares gives the kernel
that best explains the target response, and the orientation of that kernel, read off its spectrum,
is a start beside the target.

Many images: with an orthonormal basis B of the kernels of every theta, g(theta) = B^T c(theta), and
the coordinates c are periodic: a Fourier series of some tens of waves, found once for all images
(`Orientations`). An image enters by the matrix B P B^T alone, P being its Gram matrix of single
pixels (`response.patch_gram`), which in turn serves all filters.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gabordiag.errors import InputError
from gabordiag.gabor import gabor_kernel, kernel_and_partials, theta_period
from gabordiag.objective.experiment import Experiment, Picture
from gabordiag.objective.losses import Loss, find_loss
from gabordiag.objective.objective import Line, ScalarLoss, to_numpy
from gabordiag.objective.response import (
    CompressedResponse,
    correlate,
    correlate_by_definition,
    factor_gram,
    fold_even,
    kernel_basis,
    one_thread,
    patch_gram,
    response_gram,
)
from gabordiag.objective.space import FloatArray, Parameter, nodes, value_of
from gabordiag.results import Data

# Images and target responses that the direct path keeps between evaluations.
_KEPT_BYTES = 2**28
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
# Products of pixels that a response of the check sums up; of a larger image its middle is checked.
_CHECKED_PRODUCTS = 400_000_000
# Kernels that an animation shows: over a half turn one a degree, where neighbours look alike.
_TABLE_COUNT = 181
# Of all images' Gram matrices (21 kB each for the kernels of every theta); beyond, only the mean
# is kept.
_MOST_BYTES = 2**28
# Directions of the response below this part of the strongest are left out of the solution: beyond,
# it would amplify the target's rounding and noise by more than a million.
_CUTOFF = 1e-6
# Frequencies along each side, by zero padding: several within the one octave that a Gabor filter
# passes. Larger kernels take as many as they have pixels.
_SPECTRUM_SIZE = 128
# Waves below this part of the largest are rounding.
_SMALLEST_WAVE = 1e-15
Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class KernelLoss:
    """The loss between a kernel's and the target kernel's (1, K, K) compressed responses."""

    compressed: CompressedResponse
    target_kernel: Tensor
    definition: Loss
    is_noisy: bool

    @cached_property
    def target_response(self) -> Tensor:
        """Compressed form (r,) of the target response."""
        return self.compressed(self.target_kernel)[0] + self.compressed.extra

    def _parts(self, kernels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns residual (n, r), response (n, r) and target response (r,) of kernels (n, K, K).

        The residual is that of the difference of kernels: near the target its digits survive. Of
        kernels whose first pixels say all, the rows of these do.
        """
        target_kernel = self.target_kernel[:, : kernels.shape[-2]]
        residual = self.compressed(kernels - target_kernel) - self.compressed.extra
        # The sum loses digits where noise far above the response cancels in it.
        response = self.compressed(kernels) if self.is_noisy else residual + self.target_response
        return residual, response, self.target_response

    def loss(self, kernels: Tensor, *, smooth: bool = False) -> Tensor:
        """Returns the loss (n,) of kernels (n, K, K), differentiable; without root, if `smooth`."""
        return self._definition(smooth).compressed(*self._parts(kernels))

    def _definition(self, smooth: bool) -> Loss:
        return self.definition.smooth if smooth else self.definition

    def loss_and_slope(self, kernels: Tensor, changes: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss (n,) and its closed-form derivative (n,) along changes (n, K, K)."""
        parts = self._parts(kernels)
        slope = (self.definition.gradient(*parts) * self.compressed(changes)).sum(-1)
        return self.definition.compressed(*parts), slope

    def loss_and_gradient(self, kernels: Tensor, *, smooth: bool) -> tuple[Tensor, Tensor]:
        """Returns the loss (n,) and its gradient (n, p) by the kernels' pixels that say all."""
        definition, parts = self._definition(smooth), self._parts(kernels)
        return definition.compressed(*parts), definition.gradient(*parts) @ self.compressed.weights


class WholeImages:
    """That loss by conv2d on the whole image: what a person's training loop computes.

    Many images are read and convolved one after the other at every evaluation; the first ones, up
    to some hundred megabytes, stay in memory: padded, with their target responses, by index.
    """

    def __init__(self, experiment: Experiment, target_kernel: Tensor) -> None:
        self.experiment, self.target_kernel = experiment, target_kernel
        self._indices: Sequence[int] | None = None
        self._kept: dict[int, Pair] = {}

    def on_images(self, indices: Sequence[int]) -> WholeImages:
        """Returns the same loss on some of the many images."""
        part = copy.copy(self)
        part._indices = indices
        return part

    def loss(self, kernels: Tensor, *, smooth: bool = False) -> Tensor:
        """Returns the loss (n,) of kernels (n, K, K), differentiable; without root, if `smooth`."""
        definition = find_loss(self.experiment.loss)
        definition = definition.smooth if smooth else definition
        if not self.experiment.has_many_images:
            ((padded, target),) = self._pairs()
            return definition.direct(correlate(padded, kernels), target)
        moments = [
            # Responses are computed again for the gradient: those of all images would fill memory.
            checkpoint(_moments, padded, kernels, target, use_reentrant=False)
            for padded, target in self._pairs()
        ]
        return definition.pooled(torch.stack(moments).mean(dim=0))

    def loss_and_gradient(self, kernels: Tensor, *, smooth: bool) -> tuple[Tensor, Tensor]:
        """Returns the loss (n,) and its gradient (n, K^2) by the kernels, by autograd."""
        losses = self.loss(kernels.requires_grad_(), smooth=smooth)
        (gradient,) = torch.autograd.grad(losses.sum(), kernels)
        return losses.detach(), gradient.flatten(1)

    def _pairs(self) -> Iterator[Pair]:
        """Yields every padded image with its target response (P,)."""
        count = len(self.experiment.image_set)
        for index in range(count) if self._indices is None else self._indices:
            pair = self._kept.get(index) or self._pair(index)
            if sum(a.nbytes + b.nbytes for a, b in self._kept.values()) <= _KEPT_BYTES:
                self._kept[index] = pair
            yield pair

    def _pair(self, index: int) -> Pair:
        picture = self.experiment.picture(index)
        padded = picture.padded.to(self.target_kernel)
        with torch.no_grad():
            response = correlate(padded, self.target_kernel)[0]
        if picture.noise is not None:
            response = response + picture.noise.flatten().to(response)
        return padded, response


def _moments(padded: Tensor, kernels: Tensor, target: Tensor) -> Tensor:
    """Returns the four means over one image's pixels (4, n) that `Loss.pooled` takes."""
    outputs = correlate(padded, kernels)
    difference = outputs - target
    pairs = ((difference, difference), (outputs, outputs), (outputs, target), (target, target))
    return torch.stack([(a * b).mean(dim=-1).expand(len(outputs)) for a, b in pairs])


class ExperimentLoss(ScalarLoss):
    """The experiment's loss by some of its kernel's parameters, the others at the target's."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.loss_definition = find_loss(experiment.loss)
        self.loss_name = experiment.loss
        self.is_root = self.loss_definition.is_root
        self._fixed = experiment.target_parameters.to_dict()
        self.dtype, self.device = experiment.torch_dtype(), experiment.torch_device()

    # Of the target, as `kernels` takes it.
    _target: FloatArray

    @property
    def images(self) -> dict[str, Any] | None:
        """Which images the loss is the mean over, as JSON shows it; None with a single one."""
        return self.experiment.image_set.to_dict() if self.experiment.has_many_images else None

    def _arguments(self, at: Tensor) -> dict[str, Any]:
        """Returns the arguments of `gabor_kernel` at n values or points, the fixed ones as well."""
        raise NotImplementedError

    def _of_kernels(self, at: Tensor) -> KernelLoss | WholeImages:
        """Returns what gives the loss of the kernels at n values or points."""
        raise NotImplementedError

    def _through(self, compressed: CompressedResponse) -> KernelLoss:
        here, is_noisy = compressed.to(self.dtype, self.device), self.experiment.target_noise > 0
        return KernelLoss(here, self.target_kernel(), self.loss_definition, is_noisy)

    def kernels(self, at: Tensor) -> Tensor:
        """Returns the kernels (n, K, K) at n values or points."""
        size = self.experiment.kernel_size
        return gabor_kernel(**self._arguments(at), kernel_size=size, dtype=at.dtype)

    def kernels_and_partials(
        self, at: Tensor, names: Sequence[str], rows: int | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns kernels (n, K, K), or their first rows, and their derivatives by parameter."""
        size = self.experiment.kernel_size
        return kernel_and_partials(self._arguments(at), size, names, dtype=at.dtype, rows=rows)

    def target_kernel(self, dtype: torch.dtype | None = None) -> Tensor:
        """Returns the kernel (1, K, K) that made the target, on the device of the computation."""
        at = torch.tensor(self._target, dtype=dtype or self.dtype, device=self.device)
        return self.kernels(at)

    def loss(self, at: Tensor) -> Tensor:
        """Returns the loss (n,) at n values or points, differentiable."""
        return self._of_kernels(at.detach()).loss(self.kernels(at))

    def smooth_loss(self, at: Tensor) -> Tensor:
        """Returns the loss without its root (n,)."""
        return self._of_kernels(at.detach()).loss(self.kernels(at), smooth=True)


class GaborLine(ExperimentLoss, Line):
    """The experiment along one parameter; the others stand at the target's values."""

    def __init__(self, experiment: Experiment, name: str) -> None:
        super().__init__(experiment)
        self.parameter = experiment.parameter(name)
        assert self.parameter.target is not None
        self._target = np.array([self.parameter.target])

    def kernels_and_changes(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the kernels (n, K, K) and their derivatives along the parameter."""
        name = self.parameter.name
        kernels, partials = self.kernels_and_partials(values, [name])
        return kernels, partials[name]

    def _arguments(self, at: Tensor) -> dict[str, Any]:
        return {**self._fixed, self.parameter.name: at}


class ShortcutObjective(GaborLine):
    """Through compressed responses: exact, and independent of the image's size once built."""

    is_small = True

    @cached_property
    def _grams(self) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The basis of every kernel of the range, the mean Gram matrix, and those of many images.

        The loss over many images needs only the mean. Each image's own landscape, and the loss over
        a batch of them, need the matrix of each; there are none if they were too many to keep.
        """
        spanning = self.spanning_kernels()
        basis = kernel_basis(spanning)
        total, count = torch.zeros((), dtype=torch.float64), len(self.experiment.image_set)
        single: list[Tensor] = []
        for gram in self.experiment.grams(basis, spanning):
            total = total + gram
            if self.experiment.has_many_images and count * gram.nbytes <= _MOST_BYTES:
                single.append(gram)
        return basis, total / count, single

    @cached_property
    def compressed(self) -> CompressedResponse:
        """The compressed response on the span of every kernel of the parameter's range."""
        basis, gram, _ = self._grams
        return factor_gram(gram, basis).to(self.dtype, self.device)

    @property
    def has_single_images(self) -> bool:
        """Whether `on_images` works."""
        return bool(self._grams[2])

    def on_images(self, indices: Sequence[int]) -> ShortcutObjective:
        """Returns the same objective on some of the many images, by index, at no convolution."""
        basis, _, single = self._grams
        if not self.experiment.has_many_images:
            raise InputError("the experiment has one image only.", "Give several.")
        if not single:
            raise InputError(
                f"these images' Gram matrices take more than {_MOST_BYTES // 2**20} MB.",
                "Use fewer images.",
            )
        part = ShortcutObjective(self.experiment.part(indices), self.parameter.name)
        chosen = [single[index] for index in indices]
        part.__dict__["_grams"] = (basis, torch.stack(chosen).mean(dim=0), chosen)
        return part

    def squared(self) -> ShortcutObjective | None:
        """Returns the same experiment with the smooth loss under the root, or None."""
        return self.with_loss(self.loss_definition.squared) if self.is_root else None

    def with_loss(self, name: str) -> ShortcutObjective:
        """Returns the same experiment with another loss."""
        other = ShortcutObjective(self.experiment.on_same_images(loss=name), self.parameter.name)
        other.__dict__.update(_grams=self._grams, compressed=self.compressed)
        return other

    def spanning_kernels(self) -> Tensor:
        """Returns kernels (n, K, K) that span all values' to rounding; the target's is the last."""
        # Sampled ever finer until those in between add nothing.
        parameter = self.parameter
        count = _FIRST_SAMPLES
        while True:
            kernels = self.kernels(_sample_points(parameter, count))
            between = self.kernels(_sample_points(parameter, 2 * count)[1::2])
            if _is_spanned(between, kernels) or count >= _MAX_SAMPLES:
                return torch.cat([kernels, self.target_kernel(torch.float64).cpu()])
            count *= 2

    @cached_property
    def shortcut_error(self) -> float:
        """Largest error against sums over the kernel's and the image's pixels, at two values.

        Relative to the largest loss and gradient among some values of the range. Of many images,
        the largest error on those of `checked_images`; of a large one, that on its middle.
        """
        if len(self.experiment.image_set) > 1:
            return max(self._alone(index).shortcut_error for index in self.checked_images)
        side = math.isqrt(_CHECKED_PRODUCTS) // self.experiment.kernel_size
        if (middle := self.experiment.middle(side)) is not self.experiment:
            part, basis = ShortcutObjective(middle, self.parameter.name), self._grams[0]
            part.__dict__["_grams"] = (basis, response_gram(middle.padded, basis, middle.noise), [])
            return part.shortcut_error
        parameter = self.parameter
        width = parameter.high - parameter.low
        some = parameter.low + width * np.arange(32) / 32
        scales = (self.loss_at(some).max(), np.nanmax(np.abs(self.gradient(some))))
        direct = DirectObjective(self.experiment, parameter.name)
        places = parameter.low + width * np.array([0.2360679775, 0.6180339887])
        ours = np.array([(self.loss_at(value)[0], self.gradient(value)[0]) for value in places])
        theirs = np.array([direct.by_definition(value) for value in places])
        return float(np.max(np.abs(ours - theirs) / scales))

    @cached_property
    def slope_rounding(self) -> tuple[float, float]:
        """Bounds on what the rounding of the Gram matrix makes of the loss's two derivatives.

        Its error, d = c eps K^2 mean(pixel^2) in norm, is part of every evaluation. With e the
        difference of kernels and g' the kernel's derivative it changes (e^T M e)' by up to
        2 d |e| |g'|, and the derivative of a cosine by 4 d |g| |g'| over the response's energy.
        """
        values = self.tensor(value_of(self.parameter, nodes(self.parameter, _FIRST_SAMPLES)))
        kernels, changes = self.kernels_and_changes(values)
        size, eps = self.experiment.kernel_size, torch.finfo(torch.float64).eps
        gram = _GRAM_ROUNDINGS * eps * size**2 * self.energy
        change = float(changes.flatten(1).norm(dim=1).max())
        if self.loss_definition.smooth.is_scale_free:
            norm = float(kernels.flatten(1).norm(dim=1).max())
            least = float(self.compressed(kernels).square().sum(-1).min())
            if least <= gram * norm**2:
                return math.inf, math.inf
            return 4 * gram * norm * change / least, 8 * gram * change**2 / least
        apart = (kernels - self.target_kernel()).flatten(1)
        noise = self.experiment.target_noise * math.sqrt(gram * _GRAM_ROUNDINGS * eps)
        first = 2 * change * (gram * float(apart.norm(dim=1).max()) + noise)
        return first, 4 * gram * change**2

    @cached_property
    def energy(self) -> float:
        """The mean square of the (first) image's pixels."""
        return float(self.experiment.padded.square().mean())

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

    @cached_property
    def _inside(self) -> KernelLoss:
        return self._through(self.compressed)

    @cached_property
    def _outside(self) -> KernelLoss:
        return self._through(self.experiment.everywhere)

    def _of_kernels(self, at: Tensor) -> KernelLoss:
        """Returns what is exact at the values: a run may leave the range that is looked at."""
        parameter = self.parameter
        if parameter.period is not None:
            return self._inside
        outside = (at < parameter.low) | (at > parameter.high)
        return self._outside if bool(outside.any()) else self._inside

    @property
    def target_response(self) -> Tensor:
        """Compressed form (r,) of the target response."""
        return self._inside.target_response

    @property
    def scale(self) -> float:
        """From the energy of the target response."""
        return self.loss_definition.scale(float(self.target_response.double().square().sum()))

    def gradient(self, values: npt.ArrayLike) -> FloatArray:
        """Returns the closed-form derivative (n,); NaN at exactly zero loss of `rmse`."""
        with torch.no_grad():
            return self._chunked(lambda at: self._losses_and_slopes(at)[1], values)

    def losses_and_gradients(self, values: Tensor) -> tuple[FloatArray, Tensor | None]:
        """Returns the losses (n,) and the closed-form derivatives (n,)."""
        with torch.no_grad(), self.few_threads():
            losses, slopes = self._losses_and_slopes(values)
            return to_numpy(losses), slopes

    def _losses_and_slopes(self, at: Tensor) -> tuple[Tensor, Tensor]:
        return self._of_kernels(at).loss_and_slope(*self.kernels_and_changes(at))


class DirectObjective(GaborLine):
    """By conv2d on the whole image, or on one image after the other, at every evaluation."""

    @cached_property
    def _whole(self) -> WholeImages:
        return WholeImages(self.experiment, self.target_kernel())

    def _of_kernels(self, at: Tensor) -> WholeImages:
        return self._whole

    def on_images(self, indices: Sequence[int]) -> DirectObjective:
        """Returns the same objective on some of the many images."""
        part = DirectObjective(self.experiment, self.parameter.name)
        part.__dict__["_whole"] = self._whole.on_images(indices)
        return part

    def by_definition(self, value: float) -> tuple[float, float]:
        """Returns loss and derivative from shifts of the (first) image, without conv2d or FFT."""
        at = torch.tensor([value], dtype=torch.float64)
        padded, target = self.experiment.padded, self._target_by_definition
        both = self.kernels_and_changes(at)
        output, change = (correlate_by_definition(padded, kernels[0]) for kernels in both)
        output.requires_grad_()
        loss = self.loss_definition.direct(output[None], target)[0]
        # Chain rule: dloss/dvalue = <dloss/doutput, doutput/dvalue>.
        (dloss_doutput,) = torch.autograd.grad(loss, output)
        return loss.item(), (dloss_doutput * change).sum().item()

    @cached_property
    def _target_by_definition(self) -> Tensor:
        kernel = self.target_kernel(torch.float64).cpu()[0]
        target = correlate_by_definition(self.experiment.padded, kernel)
        noise = self.experiment.noise
        return target if noise is None else target + noise.flatten()


def _sample_points(parameter: Parameter, count: int) -> Tensor:
    return torch.as_tensor(value_of(parameter, nodes(parameter, count)))


def _is_spanned(kernels: Tensor, spanning: Tensor) -> bool:
    """Whether `kernels` lie in the span of `spanning`, as far as the basis's own cut decides."""
    basis, flat = kernel_basis(spanning).flatten(1), kernels.flatten(1)
    outside = flat - (flat @ basis.T) @ basis
    return bool(outside.norm(dim=1).max() <= _SPAN_TOLERANCE * flat.norm(dim=1).max())


def along(experiment: Experiment, name: str = "theta", *, direct: bool = False) -> GaborLine:
    """Returns the experiment along a parameter; `direct`, by conv2d on the whole image."""
    return (DirectObjective if direct else ShortcutObjective)(experiment, name)


def kernel_table(objective: Line, prefix: str = "") -> Data:
    """Returns what is saved as kernels.npz for animations: the kernels over the range.

    By the file's name, the columns: the parameter's values (n,), `kernels` (n, K, K) in single
    precision, and `target_kernel` (K, K). A custom objective has none.
    """
    if not isinstance(objective, GaborLine):
        return {}
    parameter = objective.parameter
    values = np.linspace(parameter.low, parameter.high, _TABLE_COUNT)
    assert parameter.target is not None
    with torch.no_grad():
        kernels = objective.kernels(objective.tensor([*values, parameter.target]))
    shown = kernels.cpu().numpy().astype(np.float32)
    columns = {parameter.name: values, "kernels": shown[:-1], "target_kernel": shown[-1]}
    return {f"{prefix}kernels.npz": columns}


def least_squares_kernel(objective: ShortcutObjective) -> Tensor:
    """Returns the kernel (K, K) of least norm whose response is nearest to the target's.

    With compressed responses W g and target t:  g = pinv(W) t, weak directions left out.
    """
    size = objective.experiment.kernel_size
    return solve_kernel(objective.compressed.weights, objective.target_response, size)


def solve_kernel(weights: Tensor, response: Tensor, size: int) -> Tensor:
    """Returns the same of compressed responses W (r, K^2), a target's (r,), and K."""
    # On busy cores a second thread makes it fifty times slower.
    with one_thread():
        inverse: Tensor = torch.linalg.pinv(weights.double(), rtol=_CUTOFF)
    return (inverse @ response.double()).reshape(size, size).cpu()


def kernel_orientation(kernel: Tensor) -> float:
    """Returns the orientation of the carrier of a kernel (K, K) in [-pi/2, pi/2), radians.

    The mean direction of the energy spectrum. Orientation has period pi, so angles are doubled
    before averaging (Granlund 1978): theta = arg(sum |G(f)|^2 exp(2 i angle(f))) / 2.
    """
    size = max(_SPECTRUM_SIZE, len(kernel))
    energy = torch.fft.fft2(kernel.double(), s=(size, size)).abs().square()
    frequency = torch.fft.fftfreq(size, dtype=torch.float64)
    angle = torch.atan2(frequency[:, None], frequency[None, :])
    real = float((energy * torch.cos(2 * angle)).sum())
    imaginary = float((energy * torch.sin(2 * angle)).sum())
    theta = math.atan2(imaginary, real) / 2
    return theta if theta < math.pi / 2 else theta - math.pi


@dataclass(frozen=True, eq=False)
class ImageGram:
    """An image as filters of one size see it: its pixels' Gram matrix, folded if they are even.

    `energy` is the mean of its squared pixels; one more row is the noise of the target response.
    """

    gram: Tensor
    even: Tensor
    energy: float

    @classmethod
    def of(cls, picture: Picture, kernel_size: int) -> ImageGram:
        """Returns that of a picture, in one pass over it for each of the kernel's rows."""
        gram = patch_gram(picture.padded, kernel_size, picture.noise)
        return cls(gram, fold_even(gram, kernel_size), float(picture.padded.square().mean()))


class Orientations:
    """The kernels of an experiment's filter at every theta, by their coordinates in a basis."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        line = ShortcutObjective(experiment, "theta")
        spanning, parameter = line.spanning_kernels(), line.parameter
        self._basis = kernel_basis(spanning).flatten(1)
        # As many kernels as span all have as many waves at most: twice as many tell them apart.
        count = 2 * (len(spanning) - 1)
        kernels = line.kernels(_sample_points(parameter, count))
        waves = torch.fft.rfft(kernels.flatten(1) @ self._basis.T, dim=0)[:-1] / (count / 2)
        waves[0] /= 2
        sizes = waves.abs().amax(dim=1)
        waves = waves[: 1 + int(torch.nonzero(sizes > _SMALLEST_WAVE * sizes.max())[-1])]
        self._low = parameter.low
        self._k = torch.arange(len(waves), dtype=torch.float64)
        self._rate = 2 * math.pi / theta_period(experiment.psi)
        self._is_even = theta_period(experiment.psi) == math.pi
        # Re((a - i b) exp(i k phi)) = a cos k phi + b sin k phi
        self._cosines, self._sines = waves.real.contiguous(), -waves.imag

    def at(self, theta: Tensor) -> Tensor:
        """Returns the coordinates (n, r) at angles theta (n,), differentiable."""
        waves = self._waves(theta)
        coordinates: Tensor = torch.cos(waves) @ self._cosines + torch.sin(waves) @ self._sines
        return coordinates

    def changes_at(self, theta: Tensor) -> Tensor:
        """Returns the coordinates' derivatives (n, r) by theta."""
        waves, k = self._waves(theta), self._rate * self._k[:, None]
        up, down = torch.cos(waves) @ (k * self._sines), torch.sin(waves) @ (k * self._cosines)
        changes: Tensor = up - down
        return changes

    def on(self, image: ImageGram, loss: str) -> OrientationLine:
        """Returns the experiment along theta on an image, with a loss."""
        return OrientationLine(self, image, loss)

    def compressed(self, image: ImageGram) -> CompressedResponse:
        """Returns the compressed response to coordinates (..., 1, r) on an image."""
        gram, basis = image.gram, self._basis
        if self._is_even:
            # Of a pixel and its mirror, which are equal, the first says all.
            gram, basis = image.even, basis[:, : (basis.shape[1] + 1) // 2]
        rank, pixels = basis.shape
        # An additive image is one more row.
        maps = torch.zeros(rank + len(gram) - pixels, len(gram), dtype=torch.float64)
        maps[:rank, :pixels] = basis
        maps[rank:, pixels:] = torch.eye(len(gram) - pixels)
        with one_thread():
            inner = maps @ gram @ maps.T
        return factor_gram(inner, torch.eye(rank, dtype=torch.float64))

    def _waves(self, theta: Tensor) -> Tensor:
        return (self._rate * (theta - self._low))[:, None] * self._k


class OrientationLine(ShortcutObjective):
    """The experiment along theta on one image, with coordinates (n, 1, r) as its kernels."""

    def __init__(self, orientations: Orientations, image: ImageGram, loss: str) -> None:
        super().__init__(orientations.experiment.on_same_images(loss=loss), "theta")
        self._orientations = orientations
        self.__dict__.update(compressed=orientations.compressed(image), energy=image.energy)

    def kernels(self, at: Tensor) -> Tensor:
        """Returns the kernels' coordinates (n, 1, r) at n angles."""
        return self._orientations.at(at)[:, None]

    def kernels_and_changes(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Returns these and their derivatives (n, 1, r) by theta, in closed form."""
        return self.kernels(values), self._orientations.changes_at(values)[:, None]
