"""One element of one parameter of a module, as the argument of a loss.

The module itself is never touched: `torch.func.functional_call` runs a deep copy of it, and even
there every tensor is replaced by a clone for the time of the call, so that a forward that writes
into its weights starts from the same ones each time. A module that cannot be copied, or whose
closures hold on to the original, is run itself in the same way.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gabordiag.errors import InputError, UsageError
from gabordiag.images import load_image
from gabordiag.objective.losses import Loss, find_loss
from gabordiag.own.loading import user_code

Input = str | Path | npt.ArrayLike | Tensor | tuple[Any, ...]
LossFunction = Callable[[Tensor, Tensor], Tensor]
RUNNING = "running the module"
_PATH = re.compile(r"(?P<name>[^\[\]]+)(\[(?P<index>\s*-?\d+\s*(,\s*-?\d+\s*)*)\])?")


@dataclass(frozen=True)
class Element:
    """One number of a module's parameters.

    Attributes:
        name: The parameter's dotted name.
        index: Of the number, in the flattened parameter.
        label: As the user writes it, such as `layers.0.theta[1,0]`.
    """

    name: str
    index: int
    label: str


@dataclass(frozen=True, eq=False)
class Leaves:
    """What one training pass starts from: fresh leaves of torch's graph.

    Attributes:
        parameter: The tensor that holds the learned number.
        index: The number's place in it, flattened.
        tensors: All tensors of the module by name, `parameter` among them.
    """

    parameter: Tensor
    index: int = 0
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


def find_element(module: nn.Module, path: str | None) -> Element:
    """Returns the element that a path such as `layers.0.theta[1,0]` names.

    Raises:
        UsageError: No such parameter, or not one number of it, or no path where one is needed.
    """
    parameters = dict(module.named_parameters(remove_duplicate=False))
    if path is None:
        return _only_element(parameters)
    match = _PATH.fullmatch(path.strip())
    if match is None:
        raise UsageError(
            f"'{path}' is not the path of a parameter.", "Write theta or layers.0.theta[1,0]."
        )
    name = match["name"].strip()
    if name not in parameters:
        raise UsageError(_no_parameter(module, name), _list_parameters(parameters))
    tensor = parameters[name]
    # Of several names of one tied tensor, functional_call takes the first.
    first = next(n for n, parameter in module.named_parameters() if parameter is tensor)
    if isinstance(tensor, nn.parameter.UninitializedParameter):
        raise UsageError(f"{name} has no shape yet.", "Run the lazy module once before.")
    if not tensor.is_floating_point():
        raise UsageError(f"{name} holds {tensor.dtype} values, which gradients do not reach.")
    shape = tuple(tensor.shape)
    if match["index"] is None:
        if tensor.numel() != 1:
            example = ",".join("0" * len(shape))
            raise UsageError(f"{name} has shape {shape}.", f"Name one number: {name}[{example}].")
        return Element(first, 0, name)
    index = tuple(int(part) for part in match["index"].split(","))
    inside = all(-size <= place < size for place, size in zip(index, shape, strict=False))
    if len(index) != len(shape) or not inside:
        raise UsageError(f"{name} has shape {shape}, and no [{match['index']}].")
    flat = np.ravel_multi_index([i % size for i, size in zip(index, shape, strict=True)], shape)
    return Element(first, int(flat), f"{name}[{','.join(map(str, index))}]")


def _only_element(parameters: Mapping[str, Tensor]) -> Element:
    if len(parameters) == 1:
        name, tensor = next(iter(parameters.items()))
        if tensor.numel() == 1:
            return Element(name, 0, name)
    raise UsageError("a module needs --param.", _list_parameters(parameters))


def _no_parameter(module: nn.Module, name: str) -> str:
    owner, _, attribute = name.rpartition(".")
    try:
        found = getattr(module.get_submodule(owner), attribute, None)
    except AttributeError:
        found = None
    if isinstance(found, Tensor):
        return f"{name} is a tensor but no torch.nn.Parameter, so that no optimizer gets it."
    return f"the module has no parameter '{name}'."


def _require_no_arguments(module: nn.Module) -> None:
    """Refuses a module whose forward needs an input that was not given."""
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):
        # No signature to read: calling it will show what it needs.
        return
    needed = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        raise InputError(
            f"{type(module).__name__} takes {', '.join(needed)}, but was given no input.",
            "Give it an image or a .npy file with --input, or input=... in Python.",
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


class ModuleLoss:
    """The loss of a module as a function of one element of its parameters.

    Attributes:
        module: What is run: a copy of the user's module, or that itself.
        element: Which number varies.
        is_original: `module` is the user's own.
        loss_function: Between output and target; None where the output is the loss.

    Args:
        module: The user's module.
        element: From `find_element`.
        source: Its input: a tensor, an array, a path, or a tuple of these; None for none.
    """

    def __init__(self, module: nn.Module, element: Element, source: Input | None) -> None:
        if isinstance(module, torch.jit.ScriptModule):
            raise UsageError("a scripted module cannot be studied.", "Give the module itself.")
        self.element = element
        self.loss_function: Loss | LossFunction | None = None
        self._user_module = module
        self._target: Tensor | None = None
        try:
            self.module, self.is_original = copy.deepcopy(module), False
        except Exception:
            # Tensors with a history cannot be copied, locks and files neither.
            self.module, self.is_original = module, True
        parameter = module.get_parameter(element.name)
        # Tensor.register_hook changes what the user's loop gets; so it does here.
        self._hooks = tuple((parameter._backward_hooks or {}).values())
        self._base = parameter.detach().clone(memory_format=torch.contiguous_format)
        mask = torch.zeros(parameter.numel(), dtype=torch.bool, device=parameter.device)
        mask[element.index] = True
        self._mask = mask.reshape(parameter.shape)
        self._arguments = self._first_working(source)

    @property
    def is_root(self) -> bool:
        """Whether the loss is the root of `smooth`."""
        return isinstance(self.loss_function, Loss) and self.loss_function.is_root

    @property
    def is_frozen(self) -> bool:
        """Whether the parameter has requires_grad = False."""
        return not self._user_module.get_parameter(self.element.name).requires_grad

    @property
    def own_value(self) -> float:
        """What the element stands at."""
        return float(self._base.flatten()[self.element.index])

    @property
    def dtype(self) -> torch.dtype:
        """The parameter's precision."""
        return self._base.dtype

    @property
    def device(self) -> torch.device:
        """Where the parameter lives."""
        return self._base.device

    @property
    def has_scalar_output(self) -> bool:
        """Whether the output is one number, and so may be the loss."""
        return self.output(self.tensor(self.own_value)).numel() == 1

    def use_original(self) -> None:
        """Runs the user's own module from now on."""
        self.module, self.is_original = self._user_module, True

    def set_target(self, target: Tensor, loss: Loss | LossFunction) -> None:
        """Sets the output to compare with, and by which loss.

        Raises:
            InputError: The target's shape is not the output's.
        """
        output = self.output(self.tensor(self.own_value))
        if target.shape != output.shape:
            raise InputError(
                f"The target output has shape {tuple(target.shape)}, "
                f"the module's output {tuple(output.shape)}."
            )
        self._target = target.to(output)
        self.loss_function = loss

    def tensor(self, value: float) -> Tensor:
        """Returns the value as the 0-dim tensor that `loss` takes."""
        return torch.tensor(value, dtype=self.dtype, device=self.device)

    def output(self, value: Tensor) -> Tensor:
        """Returns the module's output at one value of the element, without a graph."""
        with torch.no_grad():
            return self._run(self._replacements(value)).detach()

    def loss(self, value: Tensor) -> Tensor:
        """Returns the loss (0-dim) at one value (0-dim) of the element."""
        return self._compare(self._run(self._replacements(value)), self.loss_function)

    def smooth(self, value: Tensor) -> Tensor:
        """Returns the loss without its root."""
        function = self.loss_function
        if isinstance(function, Loss):
            function = find_loss(function.squared)
        return self._compare(self._run(self._replacements(value)), function)

    def leaves(self, value: float) -> Leaves:
        """Returns fresh leaves for `run`: every tensor of the module, the element at `value`."""
        tensors = self._clones()
        for name, parameter in self.module.named_parameters():
            # Of a frozen parameter one asks what its gradient would be.
            learned = parameter.requires_grad or name == self.element.name
            tensors[name] = nn.Parameter(tensors[name], requires_grad=learned)
        leaf = tensors[self.element.name]
        leaf.data.view(-1)[self.element.index] = value
        self._hook(leaf)
        return Leaves(leaf, self.element.index, tensors)

    def run(self, leaves: Leaves) -> Tensor:
        """Returns the loss (0-dim) as a training loop computes it from the leaves."""
        return self._compare(self._run(dict(leaves.tensors)), self.loss_function)

    def _clones(self) -> dict[str, Tensor]:
        tensors = [*self.module.named_parameters(), *self.module.named_buffers()]
        return {
            name: t.detach().clone(memory_format=torch.contiguous_format) for name, t in tensors
        }

    def _replacements(self, value: Tensor) -> dict[str, Tensor]:
        element = torch.where(self._mask, value.to(self._base), self._base)
        self._hook(element)
        return {**self._clones(), self.element.name: element}

    def _hook(self, tensor: Any) -> None:
        for hook in self._hooks if tensor.requires_grad else ():
            tensor.register_hook(hook)

    def _run(self, replacements: dict[str, Tensor]) -> Tensor:
        with user_code(RUNNING):
            output = self._call(replacements, self._arguments)
        if not isinstance(output, Tensor):
            raise InputError(
                f"The module returns a {type(output).__name__}, not a tensor.",
                "Wrap it in a module that returns the one tensor to compare with the target.",
            )
        return output

    def _call(self, replacements: dict[str, Tensor], arguments: tuple[Any, ...]) -> Any:
        with attributes_kept(self.module):
            return torch.func.functional_call(self.module, replacements, arguments)

    def _compare(self, output: Tensor, function: Loss | LossFunction | None) -> Tensor:
        if function is None:
            return output.reshape(())
        assert self._target is not None
        if isinstance(function, Loss):
            return function.direct(output.reshape(1, -1), self._target.flatten())[0]
        with user_code("computing the loss"):
            return function(output, self._target).reshape(())

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
                with torch.no_grad():
                    self._call(self._clones(), arguments)
            except Exception:
                continue
            return arguments
        return choices[0]


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
    """Returns a tensor from a tensor, an array, or the path of a .npy file.

    Raises:
        InputError: It cannot be read, or holds no numbers.
    """
    if isinstance(source, Tensor):
        return source.detach()
    if isinstance(source, (str, Path)):
        try:
            source = np.load(source, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            lines = str(error).splitlines() or [type(error).__name__]
            raise InputError(
                f"{source} cannot be read as a .npy array ({lines[0]}).",
                "Save it with numpy.save and without pickled objects.",
            ) from None
    array = np.array(source)
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == np.bool_):
        raise InputError(f"An input of {array.dtype} values holds no numbers.")
    return torch.from_numpy(array)


@contextmanager
def attributes_kept(module: nn.Module) -> Iterator[None]:
    """Puts back all attributes, registrations, hooks and modes of a module and its submodules.

    Tensors among the plain attributes are replaced by clones meanwhile. What lies deeper than an
    attribute's own list, set or dictionary is not looked at.
    """
    parts = list(module.modules())
    saved = [(part, dict(part.__dict__), _containers(part)) for part in parts]
    for part in parts:
        tensors = {k: v.clone() for k, v in part.__dict__.items() if isinstance(v, Tensor)}
        part.__dict__.update(tensors)
    try:
        yield
    finally:
        for part, attributes, containers in saved:
            part.__dict__.clear()
            part.__dict__.update(attributes)
            for container, content in containers:
                container.clear()
                container.extend(content) if isinstance(container, list) else (
                    container.update(content)
                )


def _containers(part: nn.Module) -> list[tuple[Any, Any]]:
    kinds = (list, dict, set, OrderedDict)
    return [(v, v.copy()) for v in part.__dict__.values() if type(v) in kinds]
