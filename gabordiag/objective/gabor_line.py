"""The experiment's loss along one parameter: through the shortcut, or directly.

An `Experiment` and a parameter's name go in; the other parameters stand at the target's values.
`ShortcutObjective` evaluates on compressed responses (`response.py`), exact and independent of the
image's size; `DirectObjective` convolves the whole image every time, as a person's training loop
does. Each checks the other.

The answer without descent: the response is linear in the kernel, so least squares gives the kernel
that best explains the target response, and the orientation of that kernel, read off its spectrum,
is a start beside the target.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gabordiag.errors import InputError
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.kernel_loss import ExperimentLoss, KernelLoss, WholeImages
from gabordiag.objective.objective import Line, to_numpy
from gabordiag.objective.response import (
    CompressedResponse,
    correlate_by_definition,
    factor_gram,
    kernel_basis,
    one_thread,
    response_gram,
)
from gabordiag.objective.space import FloatArray, Parameter
from gabordiag.results import Data

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
            kernels = self.kernels(sample_points(parameter, count))
            between = self.kernels(sample_points(parameter, 2 * count)[1::2])
            if _is_spanned(between, kernels) or count >= _MAX_SAMPLES:
                return torch.cat([kernels, self.exact_target_kernel()])
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
        width = parameter.width
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
        values = self.tensor(self.parameter.value(self.parameter.nodes(_FIRST_SAMPLES)))
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

    def on_images(self, indices: Sequence[int]) -> DirectObjective:
        """Returns the same objective on some of the many images."""
        part, whole = DirectObjective(self.experiment, self.parameter.name), self._whole
        assert isinstance(whole, WholeImages)
        part.__dict__["_whole"] = whole.on_images(indices)
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
        kernel = self.exact_target_kernel()[0]
        target = correlate_by_definition(self.experiment.padded, kernel)
        noise = self.experiment.noise
        return target if noise is None else target + noise.flatten()


def sample_points(parameter: Parameter, count: int) -> Tensor:
    """Returns a parameter's values at its nodes."""
    return torch.as_tensor(parameter.value(parameter.nodes(count)))


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


def least_squares_kernel(weights: Tensor, target: Tensor) -> Tensor:
    """Returns the kernel (K, K) of least norm whose response is nearest to a target's.

    With compressed responses W g, W (r, K^2), and target t (r,):  g = pinv(W) t, weak directions
    left out.
    """
    # On busy cores a second thread makes it fifty times slower.
    with one_thread():
        inverse: Tensor = torch.linalg.pinv(weights.double(), rtol=_CUTOFF)
    return (inverse @ target.double()).reshape(-1, math.isqrt(len(inverse))).cpu()


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
