"""Which operation turns a finite gradient into NaN or infinity, and what to write instead.

The forward pass is run under a mode that notes which line of the user's code made each node of
torch's graph; hooks on the nodes then watch the backward pass. The first node that gets finite
gradients and hands on others is the one at fault. `Repaired` runs the code with the replacement in
its place, so that advice is tried as it is given.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gabordiag.checks.cuts import graph_nodes, operation_name
from gabordiag.own.evaluation import UserObjective
from gabordiag.own.loading import Location, calling_location, location_evidence, user_code

# What is added under a root or to a divisor, and by how much the argument of an arc cosine stays
# off its limits; in doubles, above their rounding.
_EPS, _OFF = 1e-12, 1e-7
# The largest argument of an exponential that single precision holds.
_LARGEST_EXPONENT = 80.0

Call = Callable[..., Any]
# (operation, arguments, keywords) -> its result.
Apply = Callable[[Call, tuple[Any, ...], dict[str, Any]], Any]


@dataclass(frozen=True)
class Repair:
    """What to write instead of an operation whose slope is not finite, with x for its argument."""

    words: str
    apply: Apply


@dataclass(frozen=True)
class Culprit:
    """An operation that hands on a gradient that is not finite.

    It is masked where torch.where throws its result away: zero times infinity is left.
    """

    name: str
    location: Location | None
    is_masked: bool

    @property
    def repairs(self) -> Sequence[Repair]:
        """What to write instead, the likeliest first."""
        return _REPAIRS.get(self.name, ())

    def advice(self, repair: Repair) -> str:
        """Returns a repair with its line."""
        place = self.location
        where = f"of {self.name}" if place is None else f"in {place} ({place.code})"
        return f"{where} {repair.words}"

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as evidence."""
        found = {"kind": "nonfinite", "operation": self.name, "masked": self.is_masked}
        return found | location_evidence(self.location)


def _first(change: Callable[[Any], Any]) -> Apply:
    """Returns a repair of the first argument."""
    return lambda func, args, kwargs: func(change(args[0]), *args[1:], **kwargs)


def _safe(divisor: Any) -> Any:
    if not isinstance(divisor, Tensor):
        return divisor
    return torch.where(divisor == 0, torch.ones_like(divisor), divisor)


def _safe_division(func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    # `2 / x` is x.__rtruediv__(2): the divisor comes first.
    is_turned = operation_name(func) in ("__rtruediv__", "__rdiv__")
    dividend, divisor = args[1::-1] if is_turned else args[:2]
    return torch.true_divide(dividend, _safe(divisor))


def _smooth_norm(func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    # The order, p or ord, is taken to be 2.
    named = dict(zip(("x", "p", "dim", "keepdim"), args, strict=False)) | kwargs
    x, dim, keep = args[0], named.get("dim"), bool(named.get("keepdim", False))
    squares = x.square().sum() if dim is None else x.square().sum(dim=dim, keepdim=keep)
    return (squares + _EPS).sqrt()


def _without_root(func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _smooth_norm(func, args, kwargs) ** 2 if "norm" in operation_name(func) else args[0]


_ROOT_OUT = "leave the root out"
_INSIDE = "a small constant inside it"
_plus_eps = _first(lambda x: x + _EPS)
_DIVISOR = "write torch.where(x == 0, 1, x) as the divisor x: a safe one"
# Operations -> what to write instead, the likeliest first.
_REPAIRS: dict[str, list[Repair]] = {
    operation: [Repair(words, apply) for words, apply in repairs]
    for operations, *repairs in (
        (
            ("sqrt", "rsqrt"),
            (f"write torch.sqrt(x + {_EPS:g}): a small constant inside the root", _plus_eps),
            (_ROOT_OUT, _without_root),
        ),
        (
            ("norm", "vector_norm"),
            (f"write (x.square().sum(dim) + {_EPS:g}).sqrt(): {_INSIDE}", _smooth_norm),
            (f"write x.square().sum(dim): {_ROOT_OUT}", _without_root),
        ),
        (
            ("acos", "arccos", "asin", "arcsin"),
            (
                f"write x.clamp(-1 + {_OFF:g}, 1 - {_OFF:g}) as its argument",
                _first(lambda x: x.clamp(-1 + _OFF, 1 - _OFF)),
            ),
        ),
        (
            ("log", "log2", "log10", "xlogy"),
            (f"write x.clamp(min={_EPS:g}) as its argument", _first(lambda x: x.clamp(min=_EPS))),
        ),
        (
            ("div", "divide", "true_divide", "__truediv__", "__rtruediv__", "__rdiv__", "__div__"),
            (_DIVISOR, _safe_division),
        ),
        (("reciprocal",), (_DIVISOR, _first(_safe))),
        (("pow", "__pow__"), (f"write (x + {_EPS:g}) ** p: {_INSIDE}", _plus_eps)),
        (
            ("exp", "expm1", "sinh", "cosh"),
            (
                f"write x.clamp(max={_LARGEST_EXPONENT:g}) as its argument",
                _first(lambda x: x.clamp(max=_LARGEST_EXPONENT)),
            ),
        ),
        (
            ("std",),
            (
                f"write (x.var(dim) + {_EPS:g}).sqrt(): {_INSIDE}",
                lambda func, args, kwargs: (torch.var(*args, **kwargs) + _EPS).sqrt(),
            ),
        ),
        (
            ("atan2",),
            (
                f"torch.atan2(y, x + {_EPS:g})",
                lambda func, args, kwargs: func(args[0], args[1] + _EPS, **kwargs),
            ),
        ),
    )
    for operation in operations
}


class _Recorder(TorchFunctionMode):
    """Notes which operation, in which line, made each node of the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[Any, tuple[str, Location | None]] = {}
        # The first operation whose own result is not finite.
        self.first: tuple[str, Location | None] | None = None

    def __torch_function__(
        self, func: Call, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Runs the operation and notes the node of its result."""
        result = func(*args, **(kwargs or {}))
        node = result.grad_fn if isinstance(result, Tensor) else None
        if node is not None and node not in self.made:
            self.made[node] = operation_name(func), calling_location(sys._getframe(1))
            if self.first is None and not bool(torch.isfinite(result.detach()).all()):
                self.first = self.made[node]
        return result


def find_culprit(objective: UserObjective, *values: float) -> Culprit | None:
    """Returns the operation that makes the gradient infinite or NaN at the values (d,), if any."""
    leaves, recorder = objective.evaluator.leaves(*values), _Recorder()
    with objective.streams(), recorder:
        loss = objective.evaluator.run(leaves)
    if not loss.requires_grad:
        return None
    found: list[Culprit] = []
    is_masked = False

    def watch(node: Any, handed_on: Sequence[Tensor | None], got: Sequence[Tensor | None]) -> None:
        nonlocal is_masked
        kind = type(node).__name__
        is_masked |= kind.startswith("Where")
        if _are_finite(handed_on) or not _are_finite(got):
            return
        name, location = recorder.made.get(node, (kind.split("Backward")[0].lower(), None))
        # A gradient of zero that becomes NaN was masked away after the operation.
        was_zero = any(g is not None and bool((g == 0).any()) for g in got)
        found.append(Culprit(name, location, is_masked and was_zero))

    with ExitStack() as hooks, user_code("computing the gradient"):
        for node in graph_nodes(loss.grad_fn):
            hooks.enter_context(node.register_hook(partial(watch, node)))
        torch.autograd.grad(loss, leaves.parameter, allow_unused=True)
    if found and recorder.first is not None:
        # What comes of an infinite value is not the fault of what it is multiplied with.
        return replace(found[0], name=recorder.first[0], location=recorder.first[1])
    return found[0] if found else None


def _are_finite(gradients: Sequence[Tensor | None]) -> bool:
    return all(g is None or bool(torch.isfinite(g).all()) for g in gradients)


class Repaired(TorchFunctionMode):
    """Runs the user's code with an operation of one line replaced."""

    def __init__(self, culprit: Culprit, repair: Repair) -> None:
        super().__init__()
        self._culprit, self._repair = culprit, repair

    def __torch_function__(
        self, func: Call, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Runs the operation, or what is written instead."""
        if operation_name(func) == self._culprit.name:
            here, wanted = calling_location(sys._getframe(1)), self._culprit.location
            # The same file and line, or both unknown.
            if (here or ())[:2] == (wanted or ())[:2]:
                return self._repair.apply(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))
