"""A user's code as a loss at one point: a function, or elements of a module's parameters.

The module itself is never touched: `torch.func.functional_call` runs a deep copy of it, and even
there every tensor is replaced by a clone for the time of the call, so that a forward that writes
into its weights starts from the same ones each time. A module that cannot be copied, or whose
closures hold on to the original, is run itself in the same way.
"""

from __future__ import annotations

import contextlib
import copy
import math
import re
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gabordiag.errors import InputError, UsageError
from gabordiag.images import load_image, read_npy
from gabordiag.objective.losses import Loss
from gabordiag.objective.space import FloatArray
from gabordiag.own.loading import parameters_of, user_code

_IS_NO_VECTOR = ("0-d tensor", "0-dim tensor", "tensor of dimension 0")
_A_VECTOR = (
    "It was given one number. Of a function of a vector give one start for each component: "
    "--start A,B,... on the command line, start=(a, b, ...) in Python."
)
Input = str | Path | npt.ArrayLike | Tensor | tuple[Any, ...]
LossFunction = Callable[[Tensor, Tensor], Tensor]
HOW_TO_BUILD = (
    "For a module that is trained on labels, give gd.Training(model, batches, loss), where batches "
    "is a list or a DataLoader of (input, target) and loss a function of (output, target)."
)
_PATH = re.compile(r"(?P<name>[^\[\]]+)(\[(?P<index>\s*-?\d+\s*(,\s*-?\d+\s*)*)\])?")
# More elements at once are not studied: each has a range that is found by evaluations.
_MOST_ELEMENTS = 256
# More elements of one tensor that are held fixed are not named one by one.
_MOST_NAMED = 4


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
    """A tensor, `base`, of which some entries, by flat index, are components of a point."""

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
    precision is the coarsest of the losses so far. The loss is known to be the root of a smooth one
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
    def loss(self, point: Tensor, *, smooth: bool = False) -> Tensor:
        """Returns the loss (0-dim) at a point; without its root if `smooth`, where one is known."""

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

    def loss(self, point: Tensor, *, smooth: bool = False) -> Tensor:
        """Returns the loss (0-dim) at a point, whose root is not known."""
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


@dataclass(frozen=True)
class Element:
    """One number of a parameter, at a flat index; labelled as the user writes it: `theta[1,0]`."""

    name: str
    index: int
    label: str


def find_elements(module: nn.Module, paths: str | Sequence[str] | None) -> tuple[Element, ...]:
    """Returns the elements that paths such as `layers.0.theta[1,0]` name.

    The path of a whole tensor names all its elements in order; None the only number of a module
    that has only one.
    """
    _refuse_unusable(module)
    parameters = dict(module.named_parameters(remove_duplicate=False))
    if paths is None:
        if len(parameters) != 1 or next(iter(parameters.values())).numel() != 1:
            raise UsageError("a module needs --param.", _list_parameters(parameters))
        paths = list(parameters)
    named = [paths] if isinstance(paths, str) else paths
    elements = [element for path in named for element in _find(module, parameters, path)]
    if len(elements) > _MOST_ELEMENTS:
        raise UsageError(
            f"{len(elements)} numbers are named; at most {_MOST_ELEMENTS} can be studied together.",
            "Name some of them, such as weight[0,0].",
        )
    numbers = [(element.name, element.index) for element in elements]
    for count, element in enumerate(elements):
        if numbers[count] in numbers[:count]:
            raise UsageError(f"{element.label} is named twice.", "Name every number once.")
    return tuple(elements)


def _refuse_unusable(module: nn.Module) -> None:
    """Refuses modules that cannot be copied and run with other tensors."""
    name = type(module).__name__
    if "_parameters" not in vars(module) and not isinstance(module, torch.jit.ScriptModule):
        raise InputError(
            f"{name}.__init__ does not call super().__init__(), so it is not a complete module.",
            "Call super().__init__() first.",
        )
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        problem = "a scripted module cannot be studied."
        raise InputError(problem, "Give the module before scripting.")
    for label, tensor in (*module.named_parameters(), *module.named_buffers()):
        if not nn.parameter.is_lazy(tensor):
            refuse_without_numbers(label, tensor)


def _find(module: nn.Module, parameters: Mapping[str, Tensor], path: str) -> list[Element]:
    match = _PATH.fullmatch(path.strip())
    if match is None:
        problem = f"'{path}' is not the path of a parameter."
        raise UsageError(problem, "Write theta or layers.0.theta[1,0].")
    name = match["name"].strip()
    if name not in parameters:
        raise UsageError(_no_parameter(module, name), _list_parameters(parameters))
    tensor = parameters[name]
    _refuse_values(name, tensor)
    # Of several names of one tied tensor, functional_call takes the first.
    first = next(n for n, parameter in module.named_parameters() if parameter is tensor)
    shape = tuple(tensor.shape)
    if match["index"] is None:
        if tensor.numel() > _MOST_ELEMENTS:
            raise UsageError(
                f"{name} has shape {shape}, more than {_MOST_ELEMENTS} numbers.",
                f"Name some of them, such as {_label(name, [0] * len(shape))}.",
            )
        return [Element(first, flat, label) for flat, label in enumerate(labels(name, shape))]
    index = tuple(int(part) for part in match["index"].split(","))
    inside = all(-size <= place < size for place, size in zip(index, shape, strict=False))
    if len(index) != len(shape) or not inside:
        raise UsageError(f"{name} has shape {shape}, and no [{match['index']}].")
    flat = np.ravel_multi_index([i % size for i, size in zip(index, shape, strict=True)], shape)
    return [Element(first, int(flat), _label(name, index))]


def _label(name: str, index: Sequence[int]) -> str:
    return f"{name}[{','.join(map(str, index))}]"


def labels(name: str, shape: Sequence[int]) -> list[str]:
    """Returns what a tensor's elements are called, in order; its only one has no index."""
    return [_label(name, i) if math.prod(shape) > 1 else name for i in np.ndindex(*shape)]


def _refuse_values(name: str, tensor: Tensor) -> None:
    if isinstance(tensor, nn.parameter.UninitializedParameter):
        raise UsageError(f"{name} has no shape yet.", "Run the lazy module once before.")
    if tensor.is_complex():
        raise UsageError(
            f"{name} holds complex numbers, and what is learned here is real.",
            "Make its real and imaginary part two real parameters, joined by torch.complex in "
            "forward.",
        )
    if not tensor.is_floating_point():
        raise UsageError(f"{name} holds {tensor.dtype} values, which gradients do not reach.")
    if tensor.dtype not in (torch.float64, torch.float32, torch.float16):
        raise InputError(
            f"{name} is in {str(tensor.dtype).removeprefix('torch.')}, which is too coarse to "
            "study.",
            "Give the module in single precision: module.float().",
        )


def _no_parameter(module: nn.Module, name: str) -> str:
    owner, _, attribute = name.rpartition(".")
    with contextlib.suppress(AttributeError):
        if isinstance(getattr(module.get_submodule(owner), attribute), Tensor):
            return f"{name} is a tensor but no torch.nn.Parameter, so that no optimizer gets it."
    return f"the module has no parameter '{name}'."


def _require_no_arguments(module: nn.Module) -> None:
    """Refuses a module whose forward needs an input that was not given."""
    parameters = [p for p in parameters_of(module.forward) or () if p.default is p.empty]
    needed = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if needed:
        raise InputError(
            f"{type(module).__name__} takes {', '.join(needed)}, but was given no input.",
            "Give it an image or a .npy file with --input, or input=... in Python. " + HOW_TO_BUILD,
        )


def _list_parameters(parameters: Mapping[str, Tensor]) -> str:
    if not parameters:
        return "It has no parameters at all."
    some = [
        f"{name} {tuple(tensor.shape)}" if tensor.ndim else name
        for name, tensor in list(parameters.items())[:8]
    ]
    more = ", ..." if len(parameters) > len(some) else ""
    return f"Its parameters: {', '.join(some)}{more}."


class ModuleLoss(Evaluator):
    """The loss of a module, the user's own or a copy, as a function of elements of its parameters.

    Its source is a tensor, an array, a path, a tuple of these, or None for none. The loss function
    is between output and target; None where the output is the loss.
    """

    def __init__(
        self, module: nn.Module, elements: tuple[Element, ...], source: Input | None
    ) -> None:
        self.loss_function: Loss | LossFunction | None = None
        self.user_module, self._carries = module, False
        self.parameter = module.get_parameter(elements[0].name)
        self._target: Tensor | None = None
        try:
            self.module, self.is_original = copy.deepcopy(module), False
        except Exception:
            # Tensors with a history cannot be copied, locks and files neither.
            self.module, self.is_original = module, True
        parameters = {e.name: module.get_parameter(e.name) for e in elements}
        # Tensor.register_hook changes what the user's loop gets; so it does here.
        self._hooks = {n: tuple((p._backward_hooks or {}).values()) for n, p in parameters.items()}
        self.shape = () if len(elements) == 1 else (len(elements),)
        self.labels = [element.label for element in elements]
        bases = _clones(parameters)
        self._learn(elements, bases)
        self.held = tuple(_held(elements, bases))
        self._arguments = self._first_working(source)

    def _learn(self, elements: tuple[Element, ...], bases: Mapping[str, Tensor]) -> None:
        self.elements, self.element = elements, elements[0]
        self._slots = {
            name: Slots(base, {e.index: i for i, e in enumerate(elements) if e.name == name})
            for name, base in bases.items()
        }
        base = bases[self.element.name]
        self.dtype, self.device = base.dtype, base.device

    def restrict(self, indices: Sequence[int], at: Tensor) -> None:
        """Puts the values of the other elements into the tensors that they are entries of."""
        bases = {name: slot.fill(at) for name, slot in self._slots.items()}
        self._learn(tuple(self.elements[index] for index in indices), bases)

    @property
    def own_values(self) -> list[float]:
        """What the elements stand at."""
        return [float(self._slots[e.name].base.flatten()[e.index]) for e in self.elements]

    def in_a_loop(self) -> ModuleLoss:
        """Returns the same with a module that keeps from one run to the next what it writes."""
        looped = copy.copy(self)
        # One that cannot be copied, the user's own, stays as it is.
        looped._carries = not self.is_original
        if looped._carries:
            looped.module = copy.deepcopy(self.module)
        return looped

    def set_target(self, target: Tensor, loss: Loss | LossFunction) -> None:
        """Sets the output to compare with, and by which loss.

        The target is for a loss of `LOSSES` of the output's shape; for a function of output and
        target, anything that it takes, such as labels.
        """
        output = self.output(self.tensor(self.own_values))
        if isinstance(loss, Loss):
            if output.is_complex() or target.is_complex():
                raise InputError(
                    f"The module's output is complex, and {loss.name} compares real numbers."
                    if output.is_complex()
                    else "The target output is complex, and the module's output is real.",
                    "Return torch.view_as_real(output), whose mse is half the mean of |error|^2, "
                    "or give a function of output and target with loss=... in Python.",
                )
            if target.shape != output.shape:
                raise InputError(
                    f"The target output has shape {tuple(target.shape)}, "
                    f"the module's output {tuple(output.shape)}.",
                    "For labels, give gd.Training(model, batches, loss); or let forward take them "
                    "and return the loss, or give a function of output and labels with loss=... in "
                    "Python.",
                )
        if target.shape == output.shape:
            self._target = target.to(output)
        else:
            is_real = target.is_floating_point() or target.is_complex()
            self._target = target.to(output.device if is_real else torch.long)
        self.loss_function = loss
        if isinstance(loss, Loss):
            self.is_root = loss.is_root
            self.scale = loss.scale(float(self._target.double().square().mean()))

    def tensor(self, values: npt.ArrayLike) -> Tensor:
        """Returns values (d,) as the point that `loss` takes."""
        array = np.asarray(values, dtype=np.float64).reshape(self.shape)
        return torch.tensor(array, dtype=self.dtype, device=self.device)

    def output(self, point: Tensor) -> Tensor:
        """Returns the module's output at a point, without a graph."""
        with torch.no_grad():
            return self._run(self._replacements(point)).detach()

    def loss(self, point: Tensor, *, smooth: bool = False) -> Tensor:
        """Returns the loss (0-dim) at a point; without its root, if `smooth`."""
        function = self.loss_function
        function = function.smooth if smooth and isinstance(function, Loss) else function
        return self._compare(self._run(self._replacements(point)), function)

    def leaves(self, *values: float, as_given: bool = False) -> Leaves:
        """Returns fresh leaves for `run`: every tensor of the module, the elements at `values`.

        A frozen parameter is asked what its gradient would be, unless `as_given`.
        """
        tensors, asked = self._clones(), {element.name for element in self.elements}
        for name, parameter in self.module.named_parameters():
            learned = parameter.requires_grad or (name in asked and not as_given)
            tensors[name] = nn.Parameter(tensors[name], requires_grad=learned)
        for name in asked:
            self._hook(name, tensors[name])
        leaves = Leaves(tensors[self.element.name], self.element.index, tensors)
        self.put(leaves, values)
        return leaves

    def put(self, leaves: Leaves, values: Sequence[float] | FloatArray) -> None:
        """Gives the elements other values (d,)."""
        for element, value in zip(self.elements, values, strict=True):
            leaves.tensors[element.name].data.view(-1)[element.index] = float(value)

    def run(self, leaves: Leaves) -> Tensor:
        """Returns the loss (0-dim) as a training loop computes it from the leaves."""
        tensors = leaves.tensors if self._carries else dict(leaves.tensors)
        return self._compare(self._run(tensors), self.loss_function)

    def gradient(self, loss: Tensor, leaves: Leaves) -> Tensor | None:
        """Returns the gradient (d,) of a loss that `run` gave, None where none arrives."""
        names = dict.fromkeys(element.name for element in self.elements)
        asked = {n: leaves.tensors[n] for n in names if leaves.tensors[n].requires_grad}
        if not loss.requires_grad or not asked:
            return None
        found = torch.autograd.grad(loss, list(asked.values()), allow_unused=True)
        slopes = {n: g.flatten() for n, g in zip(asked, found, strict=True) if g is not None}
        if not slopes:
            return None
        none = loss.new_zeros(())
        columns = [slopes[e.name][e.index] if e.name in slopes else none for e in self.elements]
        return torch.stack(columns)

    def _clones(self) -> dict[str, Tensor]:
        tensors = dict((*self.module.named_parameters(), *self.module.named_buffers()))
        return _clones(tensors | {name: slot.base for name, slot in self._slots.items()})

    def _replacements(self, point: Tensor) -> dict[str, Tensor]:
        tensors = self._clones()
        for name, slot in self._slots.items():
            tensors[name] = slot.fill(point)
            self._hook(name, tensors[name])
        return tensors

    def _hook(self, name: str, tensor: Any) -> None:
        for hook in self._hooks[name] if tensor.requires_grad else ():
            tensor.register_hook(hook)

    def _run(self, replacements: dict[str, Tensor]) -> Tensor:
        with user_code("running the module"):
            output = self._call(replacements, self._arguments)
        if not isinstance(output, Tensor):
            entry = "computed from its output"
            if isinstance(output, Mapping) and output:
                entry = f"such as output[{next(iter(output))!r}]"
            elif isinstance(output, Sequence) and output and not isinstance(output, str):
                entry = "such as output[0]"
            raise InputError(
                f"The module returns a {type(output).__name__}, not a tensor.",
                f"Wrap it in a module whose forward returns one tensor, {entry}: the loss, or what "
                "to compare with the target.",
            )
        refuse_without_numbers("the module's output", output)
        return output

    def _call(self, replacements: dict[str, Tensor], arguments: tuple[Any, ...]) -> Any:
        with contextlib.nullcontext() if self._carries else attributes_kept(self.module):
            return torch.func.functional_call(self.module, replacements, arguments)

    def _compare(self, output: Tensor, function: Loss | LossFunction | None) -> Tensor:
        self.note_precision(output)
        if function is None:
            if output.is_complex():
                raise InputError(
                    "The module returns a complex number, which is not a loss.",
                    "Return a real one, such as .abs() or .real.",
                )
            return self._as_loss(output)
        assert self._target is not None
        if isinstance(function, Loss):
            return self._as_loss(function.direct(output.reshape(1, -1), self._target.flatten())[0])
        with user_code("computing the loss"):
            return self._as_loss(function(output, self._target))

    def _as_loss(self, value: Tensor) -> Tensor:
        # NumPy knows no bfloat16.
        return value.reshape(()).to(torch.promote_types(value.dtype, self.dtype))

    def _first_working(self, source: Input | None) -> tuple[Any, ...]:
        """Returns the first reading of the input with which forward runs; the first if none."""
        if source is None:
            _require_no_arguments(self.module)
            return ()
        parts = source if isinstance(source, tuple) else (source,)
        readings = [_readings(part, self.dtype, self.device) for part in parts]
        count = max(len(reading) for reading in readings)
        choices = [tuple(r[min(i, len(r) - 1)] for r in readings) for i in range(count)]
        for arguments in choices:
            try:
                self._call(self._clones(), arguments)
            except Exception:
                continue
            return arguments
        return choices[0]


def _clones(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }


def _held(elements: Sequence[Element], tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """Yields phrases for those entries of the tensors that are not among the elements."""
    for name, tensor in tensors.items():
        learned = {element.index for element in elements if element.name == name}
        count = tensor.numel() - len(learned)
        if count > _MOST_NAMED:
            yield f"the other {count} elements of {name} are held at their values"
            continue
        for flat, index in enumerate(np.ndindex(*tensor.shape)):
            if flat not in learned:
                yield f"{_label(name, index)} is held at {float(tensor[index]):.6g}"


def _readings(source: Any, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """Returns what an input may mean, the likeliest first.

    A matrix is taken as it is where forward takes that, else as one image of one channel; an image
    file the other way round.
    """
    is_picture = isinstance(source, (str, Path)) and Path(source).suffix.lower() != ".npy"
    tensor = load_image(source) if is_picture else source
    tensor = read_tensor(tensor).to(device)
    cast = tensor.to(dtype)
    readings = [tensor, cast] if not tensor.is_floating_point() else [cast]
    if tensor.ndim == 2:
        readings = [cast[None, None], *readings] if is_picture else [*readings, cast[None, None]]
    return readings


def read_tensor(source: Any) -> Tensor:
    """Returns a tensor from a tensor, an array, or the path of a .npy file."""
    if isinstance(source, Tensor):
        return source.detach()
    if isinstance(source, (str, Path)):
        source = read_npy(Path(source))
    return to_tensor(source)


def to_tensor(source: npt.ArrayLike) -> Tensor:
    """Returns the numbers of an array, or of nested sequences, as a tensor of its own."""
    try:
        array = np.array(source, order="C")
    except (ValueError, TypeError, RuntimeError) as error:
        problem = f"The input is not an array of numbers ({error})."
        raise InputError(problem, "Give a tensor or an array, with rows of one length.") from None
    try:
        # In this machine's order of bytes, the only one that torch takes.
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
    except TypeError:
        raise InputError(
            f"An input of {array.dtype} values holds no numbers that torch takes.",
            "Convert it first: numbers to numpy.float64, labels to integers.",
        ) from None


@contextmanager
def attributes_kept(module: nn.Module) -> Iterator[None]:
    """Puts back all attributes, registrations, hooks and modes of a module and its submodules.

    Tensors among the plain attributes are replaced by clones meanwhile. What lies deeper than an
    attribute's own list, set or dictionary is not looked at.
    """
    saved = []
    for part in module.modules():
        attributes = dict(vars(part))
        kinds = (list, dict, set, OrderedDict)
        containers = [(v, v.copy()) for v in attributes.values() if type(v) in kinds]
        saved.append((part, attributes, containers))
        vars(part).update({k: v.clone() for k, v in attributes.items() if isinstance(v, Tensor)})
    try:
        yield
    finally:
        for part, attributes, containers in saved:
            vars(part).clear()
            vars(part).update(attributes)
            for container, content in containers:
                container.clear()
                fill = container.extend if isinstance(container, list) else container.update
                fill(content)


def changed_state(before: nn.Module, after: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """Returns the names of what a module that ran, with `tensors` as its buffers, has changed."""
    buffers = dict(before.named_buffers())
    names = [n for n, was in buffers.items() if not _is_same(was, tensors.get(n, was))]
    for (name, one), (_, other) in zip(before.named_modules(), after.named_modules(), strict=False):
        prefix = f"{name}." if name else ""
        names += [
            prefix + key
            for key, value in vars(other).items()
            if not key.startswith("_") and not _is_same(vars(one).get(key), value)
        ]
    return names


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.equal(one, other)
    plain = (bool, int, float, str, tuple, list, dict, set, type(None), Tensor)
    if not (isinstance(one, plain) and isinstance(other, plain)):
        # Copies of an object are not equal; of one that is none, nothing is said.
        return True
    try:
        return bool(one == other)
    except (RuntimeError, ValueError):
        return True
