"""The loss over mini-batches of many images, as a training loop with a DataLoader sees it.

The draws are those of torch's own samplers. The loss over a batch is the objective's own
`on_images`, which needs no convolution where it goes through the shortcut: every image's Gram
matrix is kept.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, RandomSampler

from gabordiag.errors import UsageError
from gabordiag.objective.gabor_line import DirectObjective, ShortcutObjective
from gabordiag.objective.gabor_objective import GaborObjective
from gabordiag.objective.kernel_loss import ExperimentLoss
from gabordiag.objective.objective import Derived, Objective, OfLine, ScalarLoss
from gabordiag.objective.space import FloatArray


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
    """The loss of an experiment over a batch of its images, drawn by its seed at every step.

    Before the first step it is that over all images.
    """

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
