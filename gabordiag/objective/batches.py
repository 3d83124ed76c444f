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
from gabordiag.objective.gabor_line import DirectObjective, GaborLine, ShortcutObjective
from gabordiag.objective.line import Derived, Line


def resolve_batch_size(objective: Line, batch_size: int | None) -> int | None:
    """Returns the batch size, or None where every batch would hold all images.

    Raises:
        UsageError: It is not a number of images, or there are not many images to draw from.
    """
    if batch_size is None:
        return None
    if not isinstance(objective, GaborLine) or not objective.experiment.has_many_images:
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


class BatchObjective(Derived, Line):
    """The loss over a batch of the images, drawn anew at every step.

    Args:
        full: The loss over all of them.
        batch_size: Images a step.
        seed: Of the draws.
    """

    def __init__(
        self, full: ShortcutObjective | DirectObjective, batch_size: int, seed: int
    ) -> None:
        super().__init__(full)
        self.full, self.parameter = full, full.parameter
        self._batches = draw_batches(len(full.experiment.image_set), batch_size, seed)
        self._part: Line = full

    def begin_step(self) -> None:
        """Draws the next batch."""
        self._part = self.full.on_images(next(self._batches))

    def loss(self, values: Tensor) -> Tensor:
        """Returns the batch's loss (n,) at the values (n,); of all images before the first step."""
        return self._part.loss(values)

    def smooth_loss(self, values: Tensor) -> Tensor:
        """Returns the batch's loss without its root (n,)."""
        return self._part.smooth_loss(values)
