"""The experiment as a function of several of its parameters, and over batches of its images.

The kernels of several parameters span no small space, so the compressed response is the one that is
exact for all kernels (`Experiment.everywhere`). Mini-batches are those of torch's own samplers; the
loss over one is the objective's own `on_images`, which needs no convolution where it goes through
the shortcut: every image's Gram matrix is kept.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, RandomSampler

from gabordiag.errors import InputError, UsageError
from gabordiag.gabor import POSITIVE_NAMES, theta_period
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_line import DirectObjective, ShortcutObjective
from gabordiag.objective.kernel_loss import ExperimentLoss, KernelLoss, WholeImages
from gabordiag.objective.objective import Derived, Objective, OfLine, ScalarLoss
from gabordiag.objective.response import CompressedResponse
from gabordiag.objective.space import FloatArray, Parameter, Space

# Of the compressed responses of all images: with more, batches are drawn with conv2d alone.
_MOST_BYTES = 2**29
# What stays the same filter with the other sign: the envelope knows only the squares.
_EVEN = ("sigma", "gamma")


class GaborObjective(ExperimentLoss, Objective):
    """The experiment's loss of d parameters; the others stand at the target's values.

    Those of `logs` (wavelength, sigma, gamma) are moved as logarithms. Direct is conv2d on the
    whole image at every evaluation, instead of the shortcut.
    """

    def __init__(
        self,
        experiment: Experiment,
        names: Sequence[str],
        logs: Sequence[str] = (),
        *,
        direct: bool = False,
    ) -> None:
        for name in logs:
            if name not in names or name not in POSITIVE_NAMES:
                raise UsageError(
                    f"{name} cannot be learned as a logarithm.",
                    f"Name a learned one of {', '.join(POSITIVE_NAMES)}.",
                )
        super().__init__(experiment)
        self._logs = tuple(name for name in names if name in logs)
        learned = (_parameter(experiment, name, names) for name in names)
        self.space = Space(tuple(replace(p, is_log=p.name in logs) for p in learned))
        assert self.space.target is not None
        self._target = self.space.coordinates(self.space.target)[None]
        self._is_direct, self.is_small = direct, not direct

    def in_double(self) -> GaborObjective:
        """Returns the same objective in float64 on the CPU, through the shortcut."""
        if self.dtype == torch.float64 and self.experiment.device == "cpu" and not self._is_direct:
            return self
        return GaborObjective(self.experiment.in_double(), self.space.names, self._logs)

    def in_values(self) -> GaborObjective:
        """Returns the same objective through the shortcut, no parameter as a logarithm."""
        return GaborObjective(self.experiment, self.space.names)

    def squared(self) -> GaborObjective | None:
        """Returns the same experiment with the smooth loss under the root, or None."""
        if not self.is_root:
            return None
        experiment = self.experiment.on_same_images(loss=self.loss_definition.squared)
        return GaborObjective(experiment, self.space.names, self._logs)

    @property
    def goals(self) -> FloatArray:
        """All values (m, d) of the target's filter, up to whole periods.

        g(theta + pi, psi) = g(theta, -psi), and cos is even: g(-wavelength, psi) =
        g(wavelength, -psi). A sign of sigma or gamma changes nothing; psi + pi turns the kernel's
        sign, and is another filter to every loss here.
        """
        copies = [dict(self._fixed)]
        for name, turned in (
            ("theta", self._fixed["theta"] + math.pi),
            ("wavelength", -self._fixed["wavelength"]),
        ):
            if name in self.space.names:
                copies += [{**copy, name: turned, "psi": -copy["psi"]} for copy in copies]
        if "psi" not in self.space.names:
            # The phase stands where it is: -psi must be the same, or both moves cancel.
            is_even = theta_period(self._fixed["psi"]) == math.pi
            copies = [c for c in copies if is_even or c["psi"] == self._fixed["psi"]]
        for name in _EVEN:
            if name in self.space.names:
                copies += [{**copy, name: -copy[name]} for copy in copies]
        return np.array([[copy[name] for name in self.space.names] for copy in copies])

    @property
    def _is_even(self) -> bool:
        # cos(-u + psi) = cos(u + psi) at every u where sin(psi) = 0.
        return "psi" not in self.space.names and theta_period(self.experiment.psi) == math.pi

    @cached_property
    def _of_each(self) -> list[CompressedResponse]:
        kept: list[CompressedResponse] = []
        for single in self.experiment.everywhere_of_each(even=self._is_even):
            kept.append(single.to(self.dtype, self.device))
            if len(self.experiment.image_set) * single.weights.nbytes > _MOST_BYTES:
                raise InputError(
                    f"these images' Gram matrices take more than {_MOST_BYTES // 2**20} MB.",
                    "Use fewer images, or --direct.",
                )
        return kept

    def on_images(self, indices: Sequence[int]) -> GaborObjective:
        """Returns the same objective on some of the many images, by their index.

        The inner products of their mean are those of all their responses one after the other, each
        over the root of their number: nothing is convolved or factored again.
        """
        part, whole = copy.copy(self), self._whole
        if isinstance(whole, WholeImages):
            part.__dict__["_whole"] = whole.on_images(indices)
            return part
        chosen, share = [self._of_each[index] for index in indices], len(indices) ** -0.5
        together = CompressedResponse(
            share * torch.cat([single.weights for single in chosen]),
            share * torch.cat([single.extra for single in chosen]),
        )
        part.__dict__["_whole"] = replace(whole, compressed=together)
        return part

    @cached_property
    def _whole(self) -> KernelLoss | WholeImages:
        experiment = self.experiment
        if self._is_direct:
            return WholeImages(experiment, self.target_kernel())
        return self._through(experiment.everywhere_even if self._is_even else experiment.everywhere)

    def _arguments(self, at: Tensor) -> dict[str, Any]:
        moved = zip(self.space.names, self._values(at).unbind(-1), strict=True)
        return {**self._fixed, **dict(moved)}

    def _slopes(self, coordinates: Tensor, smooth: bool) -> tuple[Tensor, Tensor]:
        # Of an even kernel the first half of the pixels says all.
        is_half = self._is_even and self.is_small
        rows = self.experiment.kernel_size // 2 + 1 if is_half else None
        kernels, partials = self.kernels_and_partials(coordinates, self.space.names, rows)
        losses, by_kernel = self._whole.loss_and_gradient(kernels, smooth=smooth)
        by_name = torch.stack([partials[name] for name in self.space.names], 1).flatten(2)
        slopes = (by_name[..., : by_kernel.shape[-1]] @ by_kernel[..., None])[..., 0]
        # dvalue/dcoordinate of a logarithm is the value.
        for index, name in enumerate(self.space.names):
            if name in self._logs:
                slopes[:, index] *= coordinates[:, index].exp()
        return losses, slopes


def _parameter(experiment: Experiment, name: str, learned: Sequence[str]) -> Parameter:
    """The parameter's range; a turn by pi is a whole period only where the phase stays at 0."""
    parameter = experiment.parameter(name)
    if name != "theta" or "psi" not in learned:
        return parameter
    return replace(parameter, low=-math.pi, high=math.pi, period=2 * math.pi)


def resolve_batch_size(objective: ScalarLoss, batch_size: int | None) -> int | None:
    """Returns the batch size, or None where every batch would hold all images."""
    if batch_size is None:
        return None
    if isinstance(objective, OfLine):
        objective = objective.line
    if not isinstance(objective, ExperimentLoss) or not objective.experiment.has_many_images:
        raise UsageError("batches are drawn from many images.", "Give --images DIR.")
    if isinstance(objective, DirectObjective):
        raise UsageError("batches need an experiment and its shortcut.", "Give an Experiment.")
    if batch_size < 1:
        raise UsageError(f"{batch_size} images are no batch.", "Use --batch-size 1 or more.")
    return batch_size if batch_size < len(objective.experiment.image_set) else None


def draw_batches(count: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Yields batches of indices without end, as `DataLoader(shuffle=True)` draws them.

    Every epoch takes each of the `count` images once, in a new order; its last batch is smaller
    where the size does not divide their number.
    """
    shuffled = RandomSampler(range(count), generator=torch.Generator().manual_seed(seed))
    while True:
        yield from BatchSampler(shuffled, batch_size, drop_last=False)


class Batches(Derived, Objective):
    """The loss over a batch of an experiment's images, drawn at every step; before, over all."""

    _source: Objective

    def __init__(self, full: Objective, batch_size: int) -> None:
        super().__init__(full)
        self.space, self.has_state = full.space, True
        loss = full.line if isinstance(full, OfLine) else full
        if not isinstance(loss, ShortcutObjective | DirectObjective | GaborObjective):
            raise UsageError("batches need an experiment to descend on.", "Give an Experiment.")
        self._loss, experiment = loss, loss.experiment
        self._batches = draw_batches(len(experiment.image_set), batch_size, experiment.seed)

    def begin_step(self) -> None:
        """Draws the next batch."""
        part = self._loss.on_images(next(self._batches))
        if isinstance(part, GaborObjective):
            self._source = part
        else:
            part.parameter = self.space.parameters[0]
            self._source = OfLine(part)

    def step_gradient(self, coordinates: Tensor) -> tuple[FloatArray, Tensor | None]:
        """Returns the batch's losses (n,) and the gradients (n, d) that an optimizer sees."""
        return self._source.step_gradient(coordinates)
