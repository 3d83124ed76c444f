"""The experiment's loss by its kernel, of whichever parameters the kernel is a function.

`KernelLoss` is exact on compressed responses (`response.py`); `WholeImages` convolves every image,
as a person's training loop does. Each checks the other. `ExperimentLoss` is what one parameter
(`gabor_line.py`) and several (`gabor_objective.py`) share.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gabordiag.gabor import gabor_kernel, kernel_and_partials
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.losses import Loss, find_loss
from gabordiag.objective.objective import ScalarLoss
from gabordiag.objective.response import CompressedResponse, correlate
from gabordiag.objective.space import FloatArray

# Images and target responses that the direct path keeps between evaluations.
_KEPT_BYTES = 2**28
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

    @cached_property
    def _whole(self) -> KernelLoss | WholeImages:
        return WholeImages(self.experiment, self.target_kernel())

    def _of_kernels(self, at: Tensor) -> KernelLoss | WholeImages:
        """Returns what gives the loss of the kernels at n values or points."""
        return self._whole

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

    def target_kernel(self) -> Tensor:
        """Returns the kernel (1, K, K) that made the target, as the computation takes it."""
        return self.kernels(torch.tensor(self._target, dtype=self.dtype, device=self.device))

    def exact_target_kernel(self) -> Tensor:
        """Returns it in float64, on the CPU: not every device has float64."""
        return self.kernels(torch.tensor(self._target, dtype=torch.float64))

    def loss(self, at: Tensor, *, smooth: bool = False) -> Tensor:
        """Returns the loss (n,) at n values or points, differentiable; no root, if `smooth`."""
        return self._of_kernels(at.detach()).loss(self.kernels(at), smooth=smooth)
