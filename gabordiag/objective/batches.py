"""The loss over mini-batches of many images, as a training loop with a DataLoader sees it.

The draws are those of torch's own samplers. The loss over a batch is the objective's own
`on_images`, which needs no convolution where it goes through the shortcut: every image's Gram
matrix is kept.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, RandomSampler

from gabordiag.errors import UsageError
from gabordiag.objective.gabor_line import DirectObjective, ShortcutObjective
from gabordiag.objective.gabor_objective import GaborObjective
from gabordiag.objective.kernel_loss import ExperimentLoss
from gabordiag.objective.line import Derived, Line, ScalarLoss
from gabordiag.objective.objective import Objective, OfLine
from gabordiag.objective.space import FloatArray


def resolve_batch_size(objective: ScalarLoss, batch_size: int | None) -> int | None:
    """Returns the batch size, or None where every batch would hold all images."""
    if batch_size is None:
        return None
    if isinstance(objective, OfLine):
        objective = objective.line
    if not isinstance(objective, ExperimentLoss) or not objective.experiment.has_many_images:
        raise UsageError("batches are drawn from many images.", "Give --images DIR.")
    if batch_size < 1:
        raise UsageError(f"{batch_size} images are no batch.", "Use --batch-size 1 or more.")
    return batch_size if batch_size < len(objective.experiment.image_set) else None


def draw_batches(count: int, batch_size: int, seed: int) -> Iterator[list[int]]:
    """Yields batches of indices without end, as `DataLoader(shuffle=True)` draws them.

    Every epoch takes each of the `count` images once, in a new order; its last batch is smaller
    where the size does not divide their number.
    """
    generator = torch.Generator().manual_seed(seed)
    shuffled = RandomSampler(range(count), generator=generator)
    while True:
        yield from BatchSampler(shuffled, batch_size, drop_last=False)


class _Drawn(Derived):
    """The loss over a batch of the images, drawn anew at every step."""

    def __init__(
        self, full: ShortcutObjective | DirectObjective | GaborObjective, batch_size: int, seed: int
    ) -> None:
        super().__init__(full)
        self.full = full
        self._batches = draw_batches(len(full.experiment.image_set), batch_size, seed)
        self._part = full

    def begin_step(self) -> None:
        """Draws the next batch."""
        self._part = self.full.on_images(next(self._batches))

    def loss(self, at: Tensor) -> Tensor:
        """Returns the batch's loss (n,) at n values or points; of all images before a step."""
        return self._part.loss(at)

    def smooth_loss(self, at: Tensor) -> Tensor:
        """Returns the batch's loss without its root (n,)."""
        return self._part.smooth_loss(at)


class BatchObjective(_Drawn, Line):
    """Batches of an experiment of which one parameter is learned."""

    def __init__(
        self, full: ShortcutObjective | DirectObjective, batch_size: int, seed: int
    ) -> None:
        super().__init__(full, batch_size, seed)
        self.parameter = full.parameter


class SpaceBatches(_Drawn, Objective):
    """Batches of an experiment of which several parameters are learned."""

    def __init__(self, full: GaborObjective, batch_size: int, seed: int) -> None:
        super().__init__(full, batch_size, seed)
        self.space = full.space

    def loss_and_gradient(
        self, coordinates: npt.ArrayLike, *, smooth: bool = False
    ) -> tuple[FloatArray, FloatArray]:
        """Returns the batch's losses (n,) and gradients (n, d)."""
        assert isinstance(self._part, GaborObjective)
        return self._part.loss_and_gradient(coordinates, smooth=smooth)


def draws_of(full: Objective, batch_size: int) -> Objective:
    """Returns the loss of an experiment over batches, drawn by its seed."""
    source = full.line if isinstance(full, OfLine) else full
    if isinstance(source, GaborObjective):
        return SpaceBatches(source, batch_size, source.experiment.seed)
    if isinstance(source, ShortcutObjective | DirectObjective):
        return OfLine(BatchObjective(source, batch_size, source.experiment.seed))
    raise UsageError("batches need an experiment to descend on.", "Give an Experiment.")
