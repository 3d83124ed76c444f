"""A user's loss with something else written in its place: advice, run as it would be typed."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any, cast

from torch import Tensor
from torch.overrides import TorchFunctionMode

from gabordiag.own.evaluation import OwnObjective
from gabordiag.own.evaluator import Evaluator, Leaves

Rewrite = Callable[[], TorchFunctionMode]


class _Rewritten:
    """An evaluator that runs the user's code under modes, and may square what it returns."""

    def __init__(
        self, evaluator: Evaluator, rewrites: tuple[Rewrite, ...], *, squared: bool
    ) -> None:
        self._evaluator, self._rewrites, self._squared = evaluator, rewrites, squared
        self.is_root = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._evaluator, name)

    def loss(self, point: Tensor) -> Tensor:
        """Returns the loss (0-dim) at a point."""
        with self._rewriting():
            loss = self._evaluator.loss(point)
        return loss**2 if self._squared else loss

    def run(self, leaves: Leaves) -> Tensor:
        """Returns the loss (0-dim) as a training loop computes it."""
        with self._rewriting():
            loss = self._evaluator.run(leaves)
        return loss**2 if self._squared else loss

    @contextlib.contextmanager
    def _rewriting(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for rewrite in self._rewrites:
                stack.enter_context(rewrite())
            yield


def rewritten(line: OwnObjective, *rewrites: Rewrite, squared: bool = False) -> OwnObjective:
    """Returns a user's loss of one parameter with its code run otherwise.

    Each rewrite makes a mode under which the code runs; the loss is squared as `loss ** 2` in the
    user's code would.
    """
    other = copy.copy(line)
    # What was found out of the loss is not true of the other.
    for name in ("batch_size", "trusted_order", "_graph_bytes"):
        vars(other).pop(name, None)
    other.evaluator = cast(Evaluator, _Rewritten(line.evaluator, rewrites, squared=squared))
    other.is_root = other.takes_root_away = False
    return other
