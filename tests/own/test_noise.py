"""Losses that noise or rounding blurs: the slopes, where they are quiet, still say what is there.

The labels follow from the smooth part: v - 0.3 squared has one minimum, of curvature 2, that a
rate below 1 reaches; the tilted well has two, the lower one on the right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import gabordiag as gd

Loss = Callable[[Tensor], Tensor]
_BOWL: dict[str, Any] = {"range": (-1.0, 1.0), "start": -0.9, "lr": 0.1, "steps": 200}
_WELLS: dict[str, Any] = {"range": (-2.0, 2.0), "lr": 0.03, "steps": 300}


def _bowl(value: Tensor) -> Tensor:
    return (value - 0.3) ** 2


def _wells(value: Tensor) -> Tensor:
    return (value**2 - 1) ** 2 - 0.2 * value


def _blurred(smooth: Loss, size: float) -> Loss:
    """A loss with deterministic noise between -size and size, of which autograd sees nothing."""

    def loss(value: Tensor) -> Tensor:
        at = value.detach()
        scrambled = 1e4 * (1 + torch.sin(1e9 * at)) + 1e6 * at
        return smooth(value) + size * (2 * torch.frac(scrambled).abs() - 1)

    return loss


def _rounded(smooth: Loss, digit: float) -> Loss:
    """A loss that is printed, so to speak, to some digits; its slope is that of the smooth part."""

    def loss(value: Tensor) -> Tensor:
        exact = smooth(value)
        return exact + (torch.round(exact / digit) * digit - exact).detach()

    return loss


def _on_top(smooth: Loss, offset: float) -> Loss:
    """A loss in single precision, of which a constant takes the digits."""
    return lambda value: (offset + smooth(value)).float()


def _case(name: str, loss: Loss, right: set[str], slow: bool = True, **options: Any) -> Any:
    marks = [pytest.mark.slow] if slow else []
    return pytest.param(loss, right, options, id=name, marks=marks)


_STUCK = {"wrong_basin", "no_working_lr"}


@pytest.mark.long
@pytest.mark.each(5)
@pytest.mark.parametrize(
    ("loss", "right", "options"),
    [
        _case("blurred", _blurred(_bowl, 1e-3), {"healthy"}, slow=False, **_BOWL),
        _case("blurred little", _blurred(_bowl, 1e-9), {"healthy"}, **_BOWL),
        _case("blurred much", _blurred(_bowl, 0.1), {"healthy"}, **_BOWL),
        _case("blurred, target", _blurred(_bowl, 1e-3), {"healthy"}, **_BOWL, target=0.3),
        _case("wells", _blurred(_wells, 0.01), _STUCK, slow=False, start=-1.3, **_WELLS),
        _case("wells, much", _blurred(_wells, 0.05), _STUCK, start=-1.3, **_WELLS),
        _case("wells, right side", _blurred(_wells, 0.05), {"healthy"}, start=1.4, **_WELLS),
        _case("slow", _blurred(_bowl, 0.01), {"step_too_small"}, False, **_BOWL | {"lr": 1e-6}),
        _case("fast", _blurred(_bowl, 0.01), {"step_too_large"}, **_BOWL | {"lr": 1.2}),
        _case("cut", _blurred(lambda v: _bowl(v.detach()), 1e-3), {"no_gradient"}, **_BOWL),
        _case("rounded", _rounded(_bowl, 1e-4), {"healthy"}, slow=False, **_BOWL),
        _case("rounded coarsely", _rounded(_bowl, 1e-2), {"healthy"}, **_BOWL),
        _case("rounded, target", _rounded(_bowl, 1e-4), {"healthy"}, **_BOWL, target=0.3),
        _case("rounded wells", _rounded(_wells, 1e-3), _STUCK, start=-1.3, **_WELLS),
        _case("on 1e5", _on_top(_bowl, 1e5), {"healthy"}, slow=False, **_BOWL),
        _case("on 1e6", _on_top(_bowl, 1e6), {"healthy"}, **_BOWL),
        _case("wells on 1e4", _on_top(_wells, 1e4), _STUCK, start=-1.3, **_WELLS),
        _case("fast on 1e5", _on_top(_bowl, 1e5), {"step_too_large"}, **_BOWL | {"lr": 1.2}),
        _case("slow on 1e5", _on_top(_bowl, 1e5), {"step_too_small"}, **_BOWL | {"lr": 1e-6}),
    ],
)  # fmt: skip
def test_what_the_smooth_part_does_decides(
    loss: Loss, right: set[str], options: dict[str, Any]
) -> None:
    assert gd.diagnose(loss, **options).verdict in right
