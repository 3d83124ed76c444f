"""Which line of the user's code cuts the graph from a parameter to its loss, or breaks a gradient.

A cut: one forward pass is run under a `TorchFunctionMode` that follows the parameter's value from
tensor to tensor by the memory that it reaches, and compares that with torch's graph. A tensor that
carries the value but not the graph marks the cut (`find_cut` in `gradient.py` asks for it).

A gradient that becomes NaN or infinite: a mode notes which line made each node of the graph; hooks
on the nodes then watch the backward pass. The first node that gets finite gradients and hands on
others is the one at fault. `Repaired` runs the code with the replacement in its place, so that
advice is tried as it is given.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import itertools
import math
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from gabordiag.own.evaluation import UserObjective, graph_nodes, tensors_in
from gabordiag.own.loading import Location, calling_location, location_evidence, user_code

Call = Callable[..., Any]
# What turns a tensor into something that torch does not follow.
_ESCAPES = frozenset(
    ("item", "tolist", "numpy", "__array__", "__float__", "__int__", "__index__", "__complex__")
)
_CLAMPS = frozenset(
    (
        "clamp",
        "clip",
        "clamp_",
        "clip_",
        "clamp_min",
        "clamp_max",
        "hardtanh",
        "relu",
        "relu6",
        "maximum",
        "minimum",
        "fmax",
        "fmin",
        "where",
        "threshold",
    )
)
_STEPS = frozenset(("round", "floor", "ceil", "trunc", "sign", "heaviside", "fix", "round_"))

# Kind of cut -> what the line does, and what to write instead; {target} is the tensor that is
# written to, or the operation.
_KINDS = {
    "data_write": (
        "writes into {target}.data, past torch's graph",
        "compute a new tensor from the parameter in forward, instead of writing into {target}.data",
    ),
    "no_grad_write": (
        "writes into {target} under torch.no_grad()",
        "compute a new tensor from the parameter in forward, instead of writing into {target}",
    ),
    "data": ("takes .data, which leaves torch's graph", "leave .data out"),
    "detach": ("calls detach(), which leaves torch's graph", "leave .detach() out"),
    "no_grad": ("computes under torch.no_grad()", "take the line out of torch.no_grad()"),
    "new_parameter": (
        "makes a new Parameter, which starts a graph of its own",
        "use the tensor itself, not nn.Parameter(tensor)",
    ),
    "copy": (
        "makes a new tensor from the value",
        "torch.stack([...]) instead of torch.tensor([...]) keeps the graph",
    ),
    "integer": (
        "turns the value into integers or truth values",
        "keep the value a floating-point number all the way to the loss",
    ),
    "escape": (
        "turns the value into a plain number or array ({target})",
        "torch's own functions on the tensor (torch.sin for math.sin or numpy.sin) instead of "
        "{target}()",
    ),
    "operation": (
        "calls {target}, which torch does not differentiate",
        "an operation that torch differentiates instead of {target}",
    ),
    "init": (
        "uses {target} once, in __init__; forward never does",
        "compute in forward what depends on {target}",
    ),
    "custom_backward": (
        "defines the backward of {target}",
        "correct the backward of {target}, or delete it and leave the derivative to autograd",
    ),
    "clamp": (
        "clamps the value ({target}), and it lies outside the limits",
        "leave {target} out while the parameter is learned, or start inside its limits",
    ),
    "step": (
        "rounds the value ({target}), whose slope is zero",
        "leave {target} out while the parameter is learned",
    ),
    "saturated": (
        "calls {target}, whose derivative torch limits where a probability is nearly 0 or 1",
        "give the logits to binary_cross_entropy_with_logits, without the sigmoid",
    ),
    "unused": ("never uses {target}", "use {target} in forward, or learn what forward uses"),
    "frozen": ("leaves {target} with requires_grad = False", "call {target}.requires_grad_()"),
}


@dataclass(frozen=True)
class Cut:
    """Where the graph ends: a kind of `_KINDS`, the line if known, what is written to or called."""

    kind: str
    location: Location | None
    target: str = ""

    @property
    def sentence(self) -> str:
        """What happens there, such as "line 41 of my_layer.py calls detach(), ..."."""
        deed = _KINDS[self.kind][0].format(target=self.target or "a tensor")
        return f"{self.location or 'the code'} {deed}"

    @property
    def repair(self) -> str:
        """What to write there instead."""
        words = _KINDS[self.kind][1].format(target=self.target or "the tensor")
        place = self.location
        return words if place is None else f"in {place} ({place.code}): {words}"

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as evidence."""
        target = {"target": self.target or None, "repair": self.repair}
        return {"kind": self.kind} | location_evidence(self.location) | target


class ValueTracer(TorchFunctionMode):
    """Follows the value of one leaf, of which a number is asked for, through a forward pass.

    It keeps where the value was turned into something other than a tensor (`escapes`), clamps that
    hold it, and roundings, in their order (`events`, with their results), and every place where
    some tensor lost the graph, whether or not it reached the loss (`cuts`). Tensors by name let a
    cut say what is written to.
    """

    def __init__(self, leaf: Tensor, index: int, names: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.escapes: list[Cut] = []
        self.events: list[tuple[Cut, Tensor]] = []
        self.cuts: list[Cut] = []
        self.is_used = False
        self._leaf, self._index = leaf, index
        self._names = {id(tensor): name for name, tensor in names.items()}
        self._names_by_memory = {_memory(tensor): name for name, tensor in names.items()}
        # Tensors are kept, so that neither their memory nor their id is given to another.
        self._kept: list[Tensor] = []
        self._reached: set[int] = set()
        self._cut_tensors: dict[int, Cut] = {}
        self._cut_memory: dict[int, Cut] = {}
        self._linked_nodes: dict[Any, bool] = {}
        self._reach(leaf)

    def __torch_function__(
        self, func: Call, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        inputs = [t for t in tensors_in((args, kwargs)) if self.carries(t)]
        linked = any(self.is_linked(t) for t in inputs)
        earlier = next((cut for t in inputs if (cut := self.cut_of(t)) is not None), None)
        # A write into itself does not bring the value anywhere.
        writes = bool(inputs) and _is_write(func) and not self.carries(args[0])
        result = func(*args, **kwargs)
        if inputs:
            frame, name = sys._getframe(1), operation_name(func)
            self.is_used |= writes or name in _ESCAPES or bool(tensors_in(result))
            if writes:
                self._follow_write(args[0], name, frame)
            elif name in _ESCAPES:
                self.escapes.append(Cut("escape", calling_location(frame), name.strip("_")))
            else:
                if name in _STEPS:
                    self.events.append((Cut("step", calling_location(frame), name), result))
                if name in _CLAMPS and isinstance(result, Tensor):
                    # A condition only chooses.
                    of = next((t for t in inputs if t.is_floating_point()), inputs[0])
                    if self._holds(of, result):
                        self.events.append((Cut("clamp", calling_location(frame), name), result))
                self._follow(name, linked, earlier, result, frame)
        return result

    def carries(self, tensor: Tensor) -> bool:
        """Whether the tensor's memory was reached by the value."""
        return _memory(tensor) in self._reached

    def is_linked(self, tensor: Tensor) -> bool:
        """Whether torch's graph leads from the tensor to the leaf."""
        if tensor is self._leaf:
            return True
        return tensor.grad_fn is not None and self._leads_to_leaf(tensor.grad_fn)

    def _holds(self, before: Tensor, after: Tensor) -> bool:
        """Whether what depends on the number, of a clamp's input, lay outside its limits."""
        if before.shape != after.shape:
            return False
        moved = before.detach() != after.detach()
        if before is after or not self.is_linked(before) or bool(moved.all()):
            return before is after or bool(moved.all())
        # With irrational weights the parts of a sum cancel each other only where all are zero.
        weights = torch.arange(1, before.numel() + 1).to(before).sqrt().reshape(before.shape)
        slopes = []
        for part in (moved, ~moved):
            total = (before * weights * part).sum()
            (slope,) = torch.autograd.grad(total, self._leaf, retain_graph=True, allow_unused=True)
            slopes.append(0.0 if slope is None else float(slope.reshape(-1)[self._index]))
        return slopes[0] != 0 == slopes[1]

    def cut_of(self, tensor: Tensor) -> Cut | None:
        """Returns where the graph of a tensor that carries the value was cut, if it was."""
        if self.is_linked(tensor) or not self.carries(tensor):
            return None
        found = self._cut_tensors.get(id(tensor))
        return self._cut_memory.get(_memory(tensor)) if found is None else found

    def holding(self, loss: Tensor) -> list[Cut]:
        """Returns the clamps and roundings whose results a gradient of the loss reaches.

        One of the leaf's own memory (.data) holds it without being in the graph.
        """

        def is_reached(result: Tensor) -> bool:
            if not (loss.requires_grad and result.requires_grad):
                return _memory(result) == _memory(self._leaf)
            with user_code("computing the gradient"):
                found = torch.autograd.grad(loss, result, retain_graph=True, allow_unused=True)
            return found[0] is not None

        return [cut for cut, result in self.events if is_reached(result)]

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Follows the block; also sees new Parameters being made, which modes do not see."""
        # A profiler that runs already keeps its place: it could not be given it back.
        is_free = sys.getprofile() is None
        if is_free:
            sys.setprofile(self._see_call)
        try:
            with self:
                yield
        finally:
            if is_free:
                sys.setprofile(None)

    def _see_call(self, frame: types.FrameType, event: str, argument: Any) -> None:
        if event != "call" or frame.f_code is not nn.Parameter.__new__.__code__:
            return
        data = frame.f_locals.get("data")
        if isinstance(data, Tensor) and self.carries(data) and self.is_linked(data):
            cut = Cut("new_parameter", calling_location(frame.f_back))
            self.cuts.append(cut)
            self._cut_memory[_memory(data)] = cut

    def _reach(self, tensor: Tensor) -> None:
        self._kept.append(tensor)
        self._reached.add(_memory(tensor))

    def _follow_write(self, target: Tensor, name: str, frame: types.FrameType) -> None:
        base = target._base if target._is_view() and target._base is not None else target
        # An alias made by .data or detach() needs no gradient; the tensor itself does.
        is_alias = name == "data" or not (base.requires_grad or id(base) in self._names)
        kind = "data_write" if is_alias or torch.is_grad_enabled() else "no_grad_write"
        target_name = self._names.get(id(base), self._names_by_memory.get(_memory(base), ""))
        cut = Cut(kind, calling_location(frame), target_name)
        self.cuts.append(cut)
        self._reach(target)
        # Whoever shares the memory and has no graph got the value here.
        self._cut_memory[_memory(target)] = cut
        if name == "data":
            self._cut_tensors[id(target)] = cut

    def _follow(
        self, name: str, linked: bool, earlier: Cut | None, result: Any, frame: types.FrameType
    ) -> None:
        for tensor in tensors_in(result):
            self._reach(tensor)
            if self.is_linked(tensor) or id(tensor) in self._names:
                continue
            cut = earlier
            if linked and not _is_in_custom_forward(frame):
                cut = Cut(_kind(name, tensor), calling_location(frame), name)
                self.cuts.append(cut)
            if cut is not None:
                self._cut_tensors[id(tensor)] = cut

    def _leads_to_leaf(self, node: Any) -> bool:
        stack = [node]
        while stack:
            current = stack[-1]
            if current in self._linked_nodes:
                stack.pop()
                continue
            if getattr(current, "variable", None) is self._leaf:
                self._linked_nodes[current] = True
                continue
            following = [entry[0] for entry in current.next_functions if entry[0] is not None]
            unknown = [entry for entry in following if entry not in self._linked_nodes]
            if unknown:
                stack.extend(unknown)
            else:
                self._linked_nodes[current] = any(self._linked_nodes[n] for n in following)
        return self._linked_nodes[node]


def _memory(tensor: Tensor) -> int:
    try:
        return int(tensor.untyped_storage()._cdata)
    except (NotImplementedError, RuntimeError):
        # Sparse tensors have no storage of their own.
        return id(tensor)


def operation_name(func: Call) -> str:
    """Returns `cos` for torch.Tensor.cos, `data` for its property's getter or setter."""
    parts = str(resolve_name(func) or getattr(func, "__name__", func)).split(".")
    return parts[-2] if parts[-1] in ("__get__", "__set__") else parts[-1]


def _is_write(func: Call) -> bool:
    name = getattr(func, "__name__", "")
    in_place = name.endswith("_") and not name.endswith("__")
    return in_place or name in ("__set__", "__setitem__")


def _kind(name: str, result: Tensor) -> str:
    if name in ("data", "detach"):
        return name
    if name in ("tensor", "new_tensor", "as_tensor", "asarray", "from_numpy"):
        return "copy"
    if not result.is_floating_point():
        return "integer"
    return "operation" if torch.is_grad_enabled() else "no_grad"


def _is_in_custom_forward(frame: types.FrameType | None) -> bool:
    """Whether a custom Function's forward runs, where torch turns gradients off itself."""
    while frame is not None:
        if isinstance(frame.f_locals.get("ctx"), torch.autograd.function.FunctionCtx):
            return True
        frame = frame.f_back
    return False


def custom_backward(loss: Tensor) -> Cut | None:
    """Returns the backward of the first custom `torch.autograd.Function` in a loss's graph."""
    for node in graph_nodes(loss.grad_fn):
        function = getattr(node, "_forward_cls", None)
        if function is not None and function.__module__.split(".")[0] != "torch":
            return Cut("custom_backward", _definition(function.backward), function.__name__)
    return None


def _definition(function: Call) -> Location | None:
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return None
    try:
        lines, line = inspect.getsourcelines(code)
    except (OSError, TypeError):
        return Location(code.co_filename, code.co_firstlineno, code.co_name, "")
    # Decorators stand above it.
    above = next((i for i, text in enumerate(lines) if text.lstrip().startswith("def ")), 0)
    return Location(code.co_filename, line + above, code.co_name, lines[above].strip())


def use_in_init(module: nn.Module, parameter: str) -> Cut | None:
    """Returns the line of __init__ that computes something from a parameter, by its dotted name.

    Methods that __init__ calls are looked at, too.
    """
    owner, _, name = parameter.rpartition(".")
    kind = type(module.get_submodule(owner))
    names = ["__init__"]
    for method in names:
        function = getattr(kind, method, None)
        code = getattr(function, "__code__", None)
        try:
            lines, first = inspect.getsourcelines(function)  # type: ignore[arg-type]
        except (OSError, TypeError):
            continue
        if code is None or Path(code.co_filename).parent.name == "modules":
            continue
        for node in ast.walk(ast.parse(textwrap.dedent("".join(lines)))):
            match node:
                case ast.Attribute(ast.Name("self"), attribute, ast.Load()) if attribute == name:
                    index = node.lineno - 1
                    text = lines[index].strip()
                    place = Location(code.co_filename, first + index, method, text)
                    return Cut("init", place, f"self.{name}")
                case ast.Call(ast.Attribute(ast.Name("self"), called)) if called not in names:
                    names.append(called)
    return None


# What is added under a root or to a divisor, and by how much the argument of an arc cosine stays
# off its limits; in doubles, above their rounding.
_EPS, _OFF = 1e-12, 1e-7
# The largest argument of an exponential that single precision holds.
_LARGEST = 80.0


@dataclass(frozen=True)
class Repair:
    """What to write instead of an operation whose slope is not finite, with x for its argument."""

    words: str
    # Takes the operation and its arguments.
    apply: Call


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


def _of_first(words: str, change: Callable[[Any], Any]) -> Repair:
    return Repair(words, lambda func, x, *args, **kwargs: func(change(x), *args, **kwargs))


def _plus_eps(words: str) -> Repair:
    return _of_first(words, lambda x: x + _EPS)


def _clamped(limits: str, *ends: float | None) -> Repair:
    return _of_first(f"write x.clamp({limits}) as its argument", lambda x: x.clamp(*ends))


def _safe(divisor: Any) -> Any:
    if not isinstance(divisor, Tensor):
        return divisor
    return torch.where(divisor == 0, torch.ones_like(divisor), divisor)


def _safe_division(func: Call, dividend: Any, divisor: Any, **kwargs: Any) -> Any:
    # `2 / x` is x.__rtruediv__(2): the divisor comes first.
    if operation_name(func) in ("__rtruediv__", "__rdiv__"):
        dividend, divisor = divisor, dividend
    return torch.true_divide(dividend, _safe(divisor))


def _smooth_norm(
    func: Call, x: Tensor, p: Any = 2, dim: Any = None, keepdim: bool = False, **kwargs: Any
) -> Tensor:
    # The order, p or ord, is taken to be 2.
    squares = x.square().sum() if dim is None else x.square().sum(dim=dim, keepdim=bool(keepdim))
    return (squares + _EPS).sqrt()


def _without_root(func: Call, *args: Any, **kwargs: Any) -> Any:
    return _smooth_norm(func, *args, **kwargs) ** 2 if "norm" in operation_name(func) else args[0]


def _smooth_deviation(func: Call, *args: Any, **kwargs: Any) -> Tensor:
    return (torch.var(*args, **kwargs) + _EPS).sqrt()


def _smooth_angle(func: Call, y: Tensor, x: Tensor, **kwargs: Any) -> Any:
    return func(y, x + _EPS, **kwargs)


_INSIDE = "a small constant inside it"
_ROOT_OUT = "leave the root out"
_SAFE = "write torch.where(x == 0, 1, x) as the divisor x: a safe one"
_DIVISIONS = ("div", "divide", "true_divide", "__truediv__", "__rtruediv__", "__rdiv__", "__div__")
# Operations -> what to write instead, the likeliest first.
_REPAIRS: dict[str, list[Repair]] = {
    operation: repairs
    for operations, *repairs in (
        (
            ("sqrt", "rsqrt"),
            _plus_eps(f"write torch.sqrt(x + {_EPS:g}): a small constant inside the root"),
            Repair(_ROOT_OUT, _without_root),
        ),
        (
            ("norm", "vector_norm"),
            Repair(f"write (x.square().sum(dim) + {_EPS:g}).sqrt(): {_INSIDE}", _smooth_norm),
            Repair(f"write x.square().sum(dim): {_ROOT_OUT}", _without_root),
        ),
        (
            ("acos", "arccos", "asin", "arcsin"),
            _clamped(f"-1 + {_OFF:g}, 1 - {_OFF:g}", -1 + _OFF, 1 - _OFF),
        ),
        (("log", "log2", "log10", "xlogy"), _clamped(f"min={_EPS:g}", _EPS)),
        (_DIVISIONS, Repair(_SAFE, _safe_division)),
        (("reciprocal",), _of_first(_SAFE, _safe)),
        (("pow", "__pow__"), _plus_eps(f"write (x + {_EPS:g}) ** p: {_INSIDE}")),
        (("exp", "expm1", "sinh", "cosh"), _clamped(f"max={_LARGEST:g}", None, _LARGEST)),
        (("std",), Repair(f"write (x.var(dim) + {_EPS:g}).sqrt(): {_INSIDE}", _smooth_deviation)),
        (("atan2",), Repair(f"write torch.atan2(y, x + {_EPS:g})", _smooth_angle)),
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
        result = func(*args, **(kwargs or {}))
        node = result.grad_fn if isinstance(result, Tensor) else None
        if node is not None and node not in self.made:
            self.made[node] = operation_name(func), calling_location(sys._getframe(1))
            # What is infinite already, a mask say, is handed on.
            given = itertools.chain(args, (kwargs or {}).values())
            if self.first is None and not _is_finite(result) and all(map(_is_finite, given)):
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
        if all(map(_is_finite, handed_on)) or not all(map(_is_finite, got)):
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


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, Tensor) or bool(torch.isfinite(value.detach()).all())


class Repaired(TorchFunctionMode):
    """Runs the user's code with an operation of one line replaced."""

    def __init__(self, culprit: Culprit, repair: Repair) -> None:
        super().__init__()
        self._culprit, self._repair = culprit, repair

    def __torch_function__(
        self, func: Call, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if operation_name(func) == self._culprit.name:
            here, wanted = calling_location(sys._getframe(1)), self._culprit.location
            # The same file and line, or both unknown.
            if (here or ())[:2] == (wanted or ())[:2]:
                return self._repair.apply(func, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))
