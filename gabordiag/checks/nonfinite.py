"""Which operation turns a finite gradient into NaN or infinity, and what to write instead.

The forward pass is run under a mode that notes which line of the user's code made each node of
torch's graph; hooks on the nodes then watch the backward pass. The first node that gets finite
gradients and hands on others is the one at fault. `Repaired` runs the code with the replacement in
its place, so that advice is tried as it is given.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

from gabordiag.own.evaluation import UserObjective
from gabordiag.own.loading import Location, calling_location, user_code

# What is added under a root or to a divisor, and by how much the argument of an arc cosine stays
# off its limits; in doubles, above their rounding.
_EPS, _OFF = 1e-12, 1e-7
# The largest argument of an exponential that single precision holds.
_LARGEST_EXPONENT = 80.0

Call = Callable[..., Any]


@dataclass(frozen=True)
class Repair:
    """What to write instead of an operation whose slope is not finite.

    Attributes:
        words: What to write, with x for the operation's argument.
        apply: (operation, arguments, keywords) -> its result, as the words say.
    """

    words: str
    apply: Callable[[Call, tuple[Any, ...], dict[str, Any]], Any]


@dataclass(frozen=True)
class Culprit:
    """An operation that hands on a gradient that is not finite.

    Attributes:
        name: Of the operation, such as `sqrt`.
        location: The line of the user's code, or None where it is unknown.
        is_masked: Its result is thrown away by torch.where: zero times infinity is left.
        value: Of the parameter at which it happened.
    """

    name: str
    location: Location | None
    is_masked: bool
    value: float

    @property
    def repairs(self) -> tuple[Repair, ...]:
        """What to write instead, the likeliest first."""
        return _REPAIRS.get(self.name, ())

    @property
    def sentence(self) -> str:
        """Where it happens."""
        what = f"the slope of {self.name} in {self.location or 'the code'} is not finite there"
        if self.is_masked:
            what += (
                "; torch.where throws its value away, but zero times infinity, which is NaN, is "
                "what its gradient becomes"
            )
        return what

    def advice(self, repair: Repair) -> str:
        """Returns a repair with its line."""
        place = self.location
        where = f"of {self.name}" if place is None else f"in {place} ({place.code})"
        return f"{where} {repair.words}"

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as evidence."""
        place = self.location
        return {
            "kind": "nonfinite",
            "operation": self.name,
            "masked": self.is_masked,
            "file": None if place is None else place.file,
            "line": None if place is None else place.line,
            "code": None if place is None else place.code,
        }


def _first(change: Callable[[Any], Any]) -> Callable[[Call, tuple[Any, ...], dict[str, Any]], Any]:
    """Returns a repair of the first argument."""
    return lambda func, args, kwargs: func(change(args[0]), *args[1:], **kwargs)


def _safe(divisor: Any) -> Any:
    if not isinstance(divisor, Tensor):
        return divisor
    return torch.where(divisor == 0, torch.ones_like(divisor), divisor)


def _safe_division(func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    # `2 / x` is x.__rtruediv__(2): the divisor comes first.
    is_turned = _name(func) in ("__rtruediv__", "__rdiv__")
    dividend, divisor = args[1::-1] if is_turned else args[:2]
    return torch.true_divide(dividend, _safe(divisor))


def _smooth_norm(func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    named = dict(zip(("x", "p", "dim", "keepdim"), args, strict=False)) | kwargs
    if _name(func) == "vector_norm":
        named = dict(zip(("x", "ord", "dim", "keepdim"), args, strict=False)) | kwargs
    x, dim, keep = args[0], named.get("dim"), bool(named.get("keepdim", False))
    squares = x.square().sum() if dim is None else x.square().sum(dim=dim, keepdim=keep)
    return (squares + _EPS).sqrt()


def _smooth_deviation(func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return (torch.var(*args, **kwargs) + _EPS).sqrt()


def _without_root(func: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _smooth_norm(func, args, kwargs) ** 2 if "norm" in _name(func) else args[0]


_ROOT_OUT = "leave the root out (the loss is lowest where it was)"
_ROOT = (
    Repair(
        f"write torch.sqrt(x + {_EPS:g}): a small constant inside the root",
        _first(lambda x: x + _EPS),
    ),
    Repair(_ROOT_OUT, _without_root),
)
_NORM = (
    Repair(
        f"write (x.square().sum(dim) + {_EPS:g}).sqrt(): a small constant inside it", _smooth_norm
    ),
    Repair(f"write x.square().sum(dim): {_ROOT_OUT}", _without_root),
)
_ARC = (
    Repair(
        f"write x.clamp(-1 + {_OFF:g}, 1 - {_OFF:g}) as its argument",
        _first(lambda x: x.clamp(-1 + _OFF, 1 - _OFF)),
    ),
)
_LOG = (
    Repair(f"write x.clamp(min={_EPS:g}) as its argument", _first(lambda x: x.clamp(min=_EPS))),
)
_DIVISION = (
    Repair("write torch.where(x == 0, 1, x) as the divisor x: a safe one", _safe_division),
)
_POWER = (
    Repair(f"write (x + {_EPS:g}) ** p: a small constant inside it", _first(lambda x: x + _EPS)),
)
_EXP = (
    Repair(
        f"write x.clamp(max={_LARGEST_EXPONENT:g}) as its argument",
        _first(lambda x: x.clamp(max=_LARGEST_EXPONENT)),
    ),
)
_REPAIRS = {
    **dict.fromkeys(("sqrt", "rsqrt"), _ROOT),
    **dict.fromkeys(("norm", "vector_norm"), _NORM),
    **dict.fromkeys(("acos", "arccos", "asin", "arcsin"), _ARC),
    **dict.fromkeys(("log", "log2", "log10", "xlogy"), _LOG),
    **dict.fromkeys(
        ("div", "divide", "true_divide", "__truediv__", "__rtruediv__", "__rdiv__", "__div__"),
        _DIVISION,
    ),
    "reciprocal": (Repair(_DIVISION[0].words, _first(_safe)),),
    **dict.fromkeys(("pow", "__pow__"), _POWER),
    **dict.fromkeys(("exp", "expm1", "sinh", "cosh"), _EXP),
    "std": (
        Repair(
            f"write (x.var(dim) + {_EPS:g}).sqrt(): a small constant inside it", _smooth_deviation
        ),
    ),
    "atan2": (
        Repair(
            f"torch.atan2(y, x + {_EPS:g})",
            lambda func, args, kwargs: func(args[0], args[1] + _EPS, **kwargs),
        ),
    ),
}


def _name(func: Call) -> str:
    return str(resolve_name(func) or getattr(func, "__name__", func)).split(".")[-1]


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
            self.made[node] = _name(func), calling_location(sys._getframe(1))
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
    masks: list[bool] = []
    handles = [
        node.register_hook(_watch(node, recorder, found, masks, values[0]))
        for node in _nodes(loss.grad_fn)
    ]
    try:
        with user_code("computing the gradient"):
            torch.autograd.grad(loss, leaves.parameter, allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    if found and recorder.first is not None:
        # What comes of an infinite value is not the fault of what it is multiplied with.
        return replace(found[0], name=recorder.first[0], location=recorder.first[1])
    return found[0] if found else None


def _nodes(root: Any) -> list[Any]:
    seen, stack = {root: None}, [root]
    while stack:
        for node, _ in stack.pop().next_functions:
            # Leaves have no operation; hooks on them are the user's.
            if node is not None and node not in seen and not hasattr(node, "variable"):
                seen[node] = None
                stack.append(node)
    return list(seen)


def _watch(
    node: Any, recorder: _Recorder, found: list[Culprit], masks: list[bool], value: float
) -> Callable[[Sequence[Tensor | None], Sequence[Tensor | None]], None]:
    kind = type(node).__name__
    name, location = recorder.made.get(node, (kind.split("Backward")[0].lower(), None))

    def watch(handed_on: Sequence[Tensor | None], got: Sequence[Tensor | None]) -> None:
        if kind.startswith("Where"):
            masks.append(True)
        bad = [g for g in handed_on if g is not None and not bool(torch.isfinite(g).all())]
        if not bad or not all(g is None or bool(torch.isfinite(g).all()) for g in got):
            return
        # A gradient of zero that becomes NaN was masked away after the operation.
        masked = bool(masks) and any(g is not None and bool((g == 0).any()) for g in got)
        found.append(Culprit(name, location, masked, value))

    return watch


class Repaired(TorchFunctionMode):
    """Runs the user's code with an operation of one line replaced.

    Args:
        culprit: The operation.
        repair: One of its repairs.
    """

    def __init__(self, culprit: Culprit, repair: Repair) -> None:
        super().__init__()
        self._culprit, self._repair = culprit, repair

    def __torch_function__(
        self, func: Call, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Runs the operation, or what is written instead."""
        wanted = self._culprit
        if _name(func) == wanted.name and _is_at(wanted.location):
            return self._repair.apply(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


def _is_at(location: Location | None) -> bool:
    here = calling_location(sys._getframe(2))
    if location is None or here is None:
        return location is here
    return (location.file, location.line) == (here.file, here.line)
