"""Objectives whose critical points are known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gabordiag.objective.objective import Line
from gabordiag.objective.space import Parameter


class Planted(Line):
    """A function of one number as an objective.

    Args:
        function: The smooth loss, elementwise; the loss is its root where `root` is set.
        low: Lower end of the range.
        high: Upper end.
        periodic: The range is one period.
        target: Of the parameter.
        root: The loss is sqrt(function).
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        low: float = -math.pi,
        high: float = math.pi,
        *,
        periodic: bool = True,
        target: float | None = None,
        root: bool = False,
    ) -> None:
        period = high - low if periodic else None
        self.function = function
        self.parameter = Parameter("value", low, high, period, target, low)
        self.is_root = root

    def loss(self, values: Tensor, *, smooth: bool = False) -> Tensor:
        """Returns the loss, or what is under the root."""
        squared = self.function(values)
        return squared.sqrt() if self.is_root and not smooth else squared


def interval(
    function: Callable[[Tensor], Tensor], low: float, high: float, target: float | None = None
) -> Planted:
    """Returns a function on an interval as an objective without a period."""
    return Planted(function, low, high, periodic=False, target=target)


def waves(cosines: dict[int, float], sines: dict[int, float]) -> Callable[[Tensor], Tensor]:
    """Returns sum_k a_k cos(k v) + b_k sin(k v)."""

    def function(values: Tensor) -> Tensor:
        total = torch.zeros_like(values)
        for k, weight in cosines.items():
            total = total + weight * torch.cos(k * values)
        for k, weight in sines.items():
            total = total + weight * torch.sin(k * values)
        return total

    return function
