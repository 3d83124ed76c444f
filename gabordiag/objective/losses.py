"""The losses between a response and the target response; the place to add another.

A loss is written twice, independently: on the whole images, as a person would write it in torch
(`direct`), and on compressed responses, whose inner products are those of the images divided by
the number of pixels (`compressed`, `gradient`). Tests hold one against the other. Inner products
are all that is left of the pixels: a loss that looks at each of them (mean absolute error, Huber)
has no compressed form, and is given as the `loss` of a custom module instead.

Command lines list `LOSSES` in their help, for which torch is not loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gabordiag.errors import unknown_name

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """One loss, by its name on the command line.

    Attributes:
        direct: (outputs (n, P), target (P,)) -> (n,).
        pooled: The same of many images, from the means over all pixels and images (4, n) of
            (output - target)^2, output^2, output * target, target^2 -> (n,).
        compressed: (residual (n, r), response (n, r), target (r,)) -> (n,); `residual` is
            response - target, formed before rounding could cancel.
        gradient: The same -> (n, r), the closed form of the gradient of `compressed` by the
            response.
        under_root: The smooth loss of which it is the square root, with a kink at zero, if any.
        is_scale_free: Whether a response twice as large has the same loss; what rounding makes of
            the loss then goes with the response's energy, not with the residual.
    """

    name: str
    direct: Callable[[Tensor, Tensor], Tensor]
    pooled: Callable[[Tensor], Tensor]
    compressed: Callable[[Tensor, Tensor, Tensor], Tensor]
    gradient: Callable[[Tensor, Tensor, Tensor], Tensor]
    under_root: Loss | None = None
    is_scale_free: bool = False

    @classmethod
    def root(cls, name: str, of: Loss) -> Loss:
        """Returns the square root of a smooth loss."""

        def gradient(*vectors: Tensor) -> Tensor:
            # 0/0 at exactly zero loss gives NaN, as torch's own sqrt does on the direct path.
            return of.gradient(*vectors) / (2 * of.compressed(*vectors).sqrt())[..., None]

        return cls(
            name,
            lambda outputs, target: of.direct(outputs, target).sqrt(),
            lambda means: of.pooled(means).sqrt(),
            lambda *vectors: of.compressed(*vectors).sqrt(),
            gradient,
            of,
        )

    @property
    def is_root(self) -> bool:
        """Whether it has a kink at its zero."""
        return self.under_root is not None

    @property
    def smooth(self) -> Loss:
        """The smooth loss under the root; itself where there is no root."""
        return self.under_root or self

    @property
    def squared(self) -> str:
        """Name of the smooth loss."""
        return self.smooth.name

    def scale(self, energy: float) -> float:
        """Returns what the smooth loss is a difference of, for a target of that mean square."""
        return 1.0 if self.smooth.is_scale_free else energy


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1)


def _cosine_direct(outputs: Tensor, target: Tensor) -> Tensor:
    # 1 - cos(a, b) = |a/|a| - b/|b||^2 / 2: never negative.
    difference = _unit(outputs) - _unit(target)
    return _dot(difference, difference) / 2


def _cosine_pooled(means: Tensor) -> Tensor:
    loss = 1 - means[2] / (means[1] * means[3]).sqrt()
    # Rounding may bring a cosine above 1; the slope is what it was.
    return loss + (loss.clamp(min=0) - loss).detach()


def _unit(vector: Tensor) -> Tensor:
    return vector / _dot(vector, vector).sqrt()[..., None]


def _cosine(residual: Tensor, response: Tensor, target: Tensor) -> Tensor:
    # 1 - cos(a, b) = |a/|a| - b/|b||^2 / 2 keeps its digits near zero. The difference of the unit
    # vectors comes from the residual e = a - b:  a/|a| - b/|b| = (e - b (|a| - |b|)/|b|) / |a|,
    # and |a| - |b| = (e . (a + b)) / (|a| + |b|).
    length = _dot(response, response).sqrt()
    target_length = _dot(target, target).sqrt()
    stretch = _dot(residual, response + target) / (length + target_length)
    difference = (residual - target * (stretch / target_length)[..., None]) / length[..., None]
    return _dot(difference, difference) / 2


def _cosine_gradient(residual: Tensor, response: Tensor, target: Tensor) -> Tensor:
    # d(1 - cos) = -(b/|b| - cos a/|a|) . da / |a|; the bracket is the part of b/|b| across a, and
    # as such equals minus the part of the residual across a, over |b|.
    direction = _unit(response)
    across = residual - direction * _dot(residual, direction)[..., None]
    lengths = _dot(response, response).sqrt() * _dot(target, target).sqrt()
    return across / lengths[..., None]


_MSE = Loss(
    "mse",
    direct=lambda outputs, target: ((outputs - target) ** 2).mean(-1),
    pooled=lambda means: means[0],
    compressed=lambda residual, response, target: _dot(residual, residual),
    gradient=lambda residual, response, target: 2 * residual,
)
_COSINE = Loss(
    "cosine", _cosine_direct, _cosine_pooled, _cosine, _cosine_gradient, is_scale_free=True
)
LOSSES = {loss.name: loss for loss in (Loss.root("rmse", _MSE), _MSE, _COSINE)}


def find_loss(name: str) -> Loss:
    """Returns the loss of that name."""
    if name not in LOSSES:
        raise unknown_name("loss", name, LOSSES)
    return LOSSES[name]
