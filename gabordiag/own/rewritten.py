"""A user's loss with something else written in its place: advice, run as it would be typed."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

from gabordiag.own.evaluation import OwnObjective

Rewrite = Callable[[], TorchFunctionMode]


def rewritten(line: OwnObjective, *rewrites: Rewrite, squared: bool = False) -> OwnObjective:
    """Returns a user's loss of one parameter with its code run otherwise.

    Each rewrite makes a mode under which the code runs; the loss is squared as `loss ** 2` in the
    user's code would.
    """
    other = copy.copy(line)
    # What was found out of the loss is not true of the other.
    for name in ("batch_size", "trusted_order", "_graph_bytes"):
        vars(other).pop(name, None)
    given = line.evaluator

    def changed(run: Callable[[Any], Tensor]) -> Callable[[Any], Tensor]:
        def run_otherwise(point: Any) -> Tensor:
            with contextlib.ExitStack() as stack:
                for rewrite in rewrites:
                    stack.enter_context(rewrite())
                loss = run(point)
            return loss**2 if squared else loss

        return run_otherwise

    other.evaluator = copy.copy(given)
    vars(other.evaluator).update(loss=changed(given.loss), run=changed(given.run), is_root=False)
    other.is_root = other.takes_root_away = False
    return other
