"""The loss of a user's code at one point: what functions and modules have in common, and functions.

`modules.py` has the other kind, elements of a module's parameters.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from gabordiag.errors import InputError
from gabordiag.objective.space import FloatArray
from gabordiag.own.loading import user_code

_IS_NO_VECTOR = ("0-d tensor", "0-dim tensor", "tensor of dimension 0")
_A_VECTOR = (
    "It was given one number. Of a function of a vector give one start for each component: "
    "--start A,B,... on the command line, start=(a, b, ...) in Python."
)


@dataclass(frozen=True, eq=False)
class Leaves:
    """What one training pass starts from: fresh leaves of torch's graph.

    The parameter is the one of all the module's tensors, by name, that holds the learned number, at
    a flattened index.
    """

    parameter: Tensor
    index: int = 0
    tensors: dict[str, Tensor] = field(default_factory=dict)


class Slots:
    """A tensor of which some entries are components of a point, by flat index.

    The base has the values of the entries that are held fixed.
    """

    def __init__(self, base: Tensor, places: Mapping[int, int]) -> None:
        self.base = base
        table = torch.full((base.numel(),), -1)
        table[list(places)] = torch.tensor(list(places.values()), dtype=torch.long)
        table = table.reshape(base.shape).to(base.device)
        self._is_learned, self._places = table >= 0, table.clamp(min=0)

    def fill(self, point: Tensor) -> Tensor:
        """Returns the tensor at a point: (d,), or 0-dim where only one number is learned."""
        values = point if point.ndim == 0 else point[self._places.to(point.device)]
        return torch.where(self._is_learned, values.to(self.base), self.base)


class Evaluator(ABC):
    """A user's function or module at one point: of shape () where one number varies, else (d,).

    The labels name the numbers that vary; phrases say which others are held fixed, and at what. The
    precision is the coarsest of the losses so far. The loss is known to be the root of `smooth`
    where `is_root`; the scale is what it without its root is a difference of, 0 where that is
    unknown.
    """

    shape: tuple[int, ...]
    labels: Sequence[str]
    dtype: torch.dtype = torch.float64
    device: torch.device = torch.device("cpu")
    held: tuple[str, ...] = ()
    precision: torch.dtype = torch.float64
    is_root: bool = False
    scale: float = 0.0

    @abstractmethod
    def loss(self, point: Tensor) -> Tensor:
        """Returns the loss (0-dim) at a point."""

    def smooth(self, point: Tensor) -> Tensor:
        """Returns the loss without its root, where one is known."""
        return self.loss(point)

    @abstractmethod
    def leaves(self, *values: float) -> Leaves:
        """Returns what a training pass starts from, at the values (d,)."""

    @abstractmethod
    def run(self, leaves: Leaves) -> Tensor:
        """Returns the loss (0-dim) as a training loop computes it."""

    def along(self, indices: Sequence[int], at: FloatArray) -> Self:
        """Returns the loss of some of the numbers, the others held fixed at `at` (d,)."""
        if self.shape == ():
            return self
        restricted = copy.copy(self)
        restricted.shape = () if len(indices) == 1 else (len(indices),)
        others = {i: float(value) for i, value in enumerate(at) if i not in indices}
        phrases = [f"{self.labels[i]} is held at {value:.6g}" for i, value in others.items()]
        restricted.held = (*self.held, *phrases)
        restricted.labels = [self.labels[i] for i in indices]
        restricted.restrict(indices, torch.tensor(at, dtype=self.dtype, device=self.device))
        return restricted

    @abstractmethod
    def restrict(self, indices: Sequence[int], at: Tensor) -> None:
        """Makes this copy, whose shape is the new one already, the loss of some of the numbers."""

    def note_precision(self, result: Tensor) -> None:
        """Takes notice of the digits of a result; integers are exact."""
        dtype = result.dtype
        if dtype.is_floating_point or dtype.is_complex:
            self.precision = max(self.precision, dtype, key=lambda kind: torch.finfo(kind).eps)


def refuse_without_numbers(label: str, tensor: Tensor) -> None:
    """Raises if a tensor does not hold its elements one by one."""
    if tensor.is_meta:
        raise InputError(
            f"{label} is on the meta device and holds no values.",
            "Load the weights, or make the module on the CPU.",
        )
    if tensor.layout != torch.strided:
        raise InputError(
            f"{label} is a sparse tensor, which cannot be studied.",
            "Make it dense with .to_dense().",
        )


class FunctionLoss(Evaluator):
    """A function of one number, or of a vector, that returns the loss.

    It is tried out at places: values (n,), or points (n, d) of a vector. Points are in float32
    where only that works.
    """

    def __init__(
        self, function: Callable[[Tensor], Any], places: FloatArray, name: str = "value"
    ) -> None:
        self.function = function
        self.shape = places.shape[1:]
        self.labels = [f"{name}[{i}]" for i in range(sum(self.shape))]
        # Fixed float32 tensors inside, such as a convolution's input, refuse float64.
        kinds = (torch.float64, torch.float32)
        working = (k for k in kinds if self._runs(torch.tensor(places[0], dtype=k)))
        self.dtype = next(working, torch.float64)

    def _runs(self, point: Tensor) -> bool:
        self.dtype = point.dtype
        try:
            self.loss(point)
        except InputError:
            return False
        return True

    def restrict(self, indices: Sequence[int], at: Tensor) -> None:
        """Fills the vector's other components before every call."""
        slots = Slots(at, {index: place for place, index in enumerate(indices)})
        function = self.function
        self.function = lambda point: function(slots.fill(point))

    def loss(self, point: Tensor) -> Tensor:
        """Returns the loss (0-dim) at a point."""
        try:
            with user_code("running the objective"):
                result = self.function(point)
        except InputError as error:
            # What torch says where a 0-dim tensor is indexed, unpacked, or asked for its length.
            if self.shape == () and any(words in error.problem for words in _IS_NO_VECTOR):
                raise InputError(error.problem, _A_VECTOR) from error.__cause__
            raise
        if not isinstance(result, Tensor):
            try:
                result = torch.tensor(float(result), dtype=torch.float64)
            except (TypeError, ValueError):
                raise InputError(
                    f"The objective returns a {type(result).__name__}, not a loss.",
                    "Return a tensor with one element.",
                ) from None
        refuse_without_numbers("the objective's loss", result)
        if result.numel() != 1 or result.is_complex():
            shape, kind = tuple(result.shape), "complex " if result.is_complex() else ""
            advice = "Reduce it to the loss, for example with .mean()."
            if result.ndim == 1 and (self.shape or self.held):
                advice += " If it is a function of one number, give its starts as a list."
            raise InputError(
                f"The objective returns a {kind}tensor of shape {shape}, not one real number.",
                advice,
            )
        self.note_precision(result)
        return result.reshape(()).to(self.dtype)

    def leaves(self, *values: float) -> Leaves:
        """Returns the value, or the vector, as a leaf."""
        return Leaves(torch.tensor(values, dtype=self.dtype).reshape(self.shape).requires_grad_())

    def run(self, leaves: Leaves) -> Tensor:
        """Returns the loss at the leaf."""
        return self.loss(leaves.parameter)
