"""A user's own function or module as an objective of one parameter or of several.

`own_objective` takes (a) a function of one number, or of a vector, that returns the loss, or (b) a
module, or a function without arguments that returns one, of which some elements are learned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gabordiag.choices import LossName
from gabordiag.errors import InputError, UsageError
from gabordiag.objective.losses import find_loss
from gabordiag.objective.space import FloatArray, Space
from gabordiag.own.evaluation import CustomObjective, OwnObjective
from gabordiag.own.loading import RandomStreams, parameters_of, user_code
from gabordiag.own.modules import (
    HOW_TO_BUILD,
    Evaluator,
    FunctionLoss,
    Input,
    LossFunction,
    ModuleLoss,
    find_elements,
    read_tensor,
)
from gabordiag.own.numeric import has_sharp_zero
from gabordiag.own.parameters import ParameterRequest, choose_parameter
from gabordiag.own.training import Training
from gabordiag.results import as_column

# A number for each parameter: by name, or in order; or the only parameter's.
Numbers = float | Mapping[str, float] | npt.ArrayLike | Tensor


class OwnOptions(TypedDict, total=False):
    """The keywords of `own_objective` but for the start."""

    param: str | Sequence[str] | None
    input: Input | None
    target: Numbers | None
    target_output: Input | None
    range: Any
    period: Numbers | None
    loss: LossName | LossFunction | None
    seed: int


class OwnOptionsAndStart(OwnOptions, total=False):
    """The keywords of `own_objective`."""

    start: Numbers | None


def own_objective(
    subject: Any,
    *,
    param: str | Sequence[str] | None = None,
    input: Input | None = None,
    target: Numbers | None = None,
    target_output: Input | None = None,
    range: Any = None,
    period: Numbers | None = None,
    start: Numbers | None = None,
    loss: str | LossFunction | None = None,
    seed: int = 0,
) -> OwnObjective | CustomObjective:
    """Returns a user's function or module as an objective.

    A function is one of a vector if `start`, `target` or `period` has a number for each component,
    or `range` a pair.

    Args:
        subject: A function of one number (a 0-dim tensor) or of a vector (d,) that returns the
            loss; or a `torch.nn.Module`, or a function without arguments that returns one.
        param: For a module, what is learned: `theta`, `layers.0.theta[1,0]`, or several of these;
            `theta` alone names all elements of a tensor.
        input: For a module, its input: a tensor, an array, a `.npy` file or an image; a tuple of
            these for several; none for a module that needs none.
        target: The values that made the target. A module's output there is what its output is
            compared with; of a module that returns its own loss, where the parameters should end.
        target_output: For a module, the output to compare with, instead: a tensor, an array or a
            `.npy` file. With neither, the module's output is the loss.
        range: Lowest and highest value, for all parameters, or such a pair for each. Default: one
            period around 0.
        period: Of the loss in each value, one for all or one each; 0 for none. Default: it is
            looked for.
        start: Where an optimizer starts. Default: a module's own values, else the middle of the
            range.
        loss: For a module, a name of `LOSSES`, or a function of output and target. A function is
            its own loss, and so is a module that returns one number. Default: `rmse`.
        seed: Of the random numbers that evaluations draw (dropout).

    Raises:
        UsageError: Arguments that do not belong together, or are not enough.
        InputError: The user's code failed, or returned what is not a loss.
    """
    module = as_module(subject, param)
    given = {"start": start, "target": target, "period": period, "range": range}
    # A list has one for each parameter; a range is a pair itself.
    given = {what: _plain(value) for what, value in given.items()}
    if isinstance(given["range"], list) and not any(isinstance(p, list) for p in given["range"]):
        given["range"] = tuple(given["range"])
    device = torch.device("cpu")
    if module is None:
        _refuse_module_options(param=param, input=input, target_output=target_output, loss=loss)
        size = _vector_size(given)
        parameters = parameters_of(subject)
        name = parameters[0].name if parameters else "value"
        name = "value" if name == "args" else name
        names = [name] if size is None else [f"{name}[{i}]" for i in np.arange(size)]
    else:
        elements = find_elements(module, param)
        names = [element.label for element in elements]
        device = module.get_parameter(elements[0].name).device
    names = [as_column(name) for name in names]
    rows = zip(*(_one_each(names, what, value) for what, value in given.items()), strict=True)
    requests = [ParameterRequest(**dict(zip(given, row, strict=True))) for row in rows]
    with RandomStreams(seed, device)():
        prepared = None if module is None else ModuleLoss(module, elements, input)
        own_values = [None] * len(names) if prepared is None else prepared.own_values
        # Generic points (n, d) at which the objective may be tried out.
        tried = [r.places(own) for r, own in zip(requests, own_values, strict=True)]
        places, loss_name = np.stack(tried, axis=1), "loss"
        if prepared is None:
            tried_at = places[:, 0] if size is None else places
            evaluator: Evaluator = FunctionLoss(subject, tried_at, name)
        else:
            evaluator = prepared
            loss_name = _set_target(prepared, places, requests, target_output, loss)
    # The others stand where nothing special lies: at a start, the loss may not depend on one.
    generic = np.array([row[i % len(row)] for i, row in enumerate(places.T)])
    lines = []
    for i, request in enumerate(requests):
        line = OwnObjective(evaluator.along([i], generic), loss_name, places[:, i], seed)
        line.parameter = choose_parameter(
            names[i], line.loss_at, request, own_values[i], line.value_eps
        )
        lines.append(line)
    is_unknown = module is None or callable(loss) or loss_name == "loss"
    if len(lines) == 1:
        (line,) = lines
        line.is_root |= is_unknown and _has_root(line)
        return line
    objective = CustomObjective(evaluator, loss_name, places, seed)
    objective.space = Space(tuple(line.parameter for line in lines))
    if is_unknown and not objective.is_root and objective.space.target is not None:
        at = objective.space.target
        objective.is_root = all(_has_root(objective.line(name, at)) for name in names)
    return objective


def _has_root(line: OwnObjective) -> bool:
    parameter = line.parameter
    guesses = np.array([] if parameter.target is None else [parameter.target])
    return has_sharp_zero(line.loss_at, parameter.low, parameter.high, guesses)


def _plain(given: Any) -> Any:
    """Returns arrays, tensors and tuples as numbers or lists of them, whatever holds them."""
    if isinstance(given, (np.ndarray, np.generic, Tensor)):
        return given.tolist()
    if isinstance(given, Mapping):
        return {name: _plain(value) for name, value in given.items()}
    return [_plain(value) for value in given] if isinstance(given, (list, tuple)) else given


def _vector_size(given: Mapping[str, Any]) -> int | None:
    """Returns how many components a function's argument has; None where it is one number."""
    lists = {what: value for what, value in given.items() if isinstance(value, list)}
    sizes = {len(value) for value in lists.values()}
    if len(sizes) > 1:
        counts = ", ".join(f"{what} {len(value)}" for what, value in lists.items())
        problem = f"the numbers of components differ: {counts}."
        raise UsageError(problem, "Give one for each component.")
    return next(iter(sizes), None)


def _one_each(names: Sequence[str], what: str, given: Any) -> list[Any]:
    if isinstance(given, dict):
        stray = sorted(set(given) - set(names))
        if stray:
            raise UsageError(
                f"a {what} for {stray[0]}, which is not learned.",
                f"Learned are {', '.join(names)}.",
            )
        return [given.get(name) for name in names]
    if not isinstance(given, list):
        if given is None or what in ("range", "period"):
            return [given] * len(names)
        given = [given]
    if len(given) != len(names):
        raise UsageError(
            f"the {what} has {len(given)} numbers, and {len(names)} are learned.",
            f"Give one for each of {', '.join(names)}.",
        )
    return list(given)


def as_module(subject: Any, param: str | Sequence[str] | None = None) -> nn.Module | None:
    """Returns the module that an object is or makes, or None for a function of a value.

    A callable with exactly one argument that it needs is a function; one that needs none makes a
    module, unless it takes arguments and no `param` is named.
    """
    if isinstance(subject, nn.Module):
        return subject
    if isinstance(subject, Training):
        raise UsageError(
            "a training is diagnosed element by element, or swept on a plane of all its weights.",
            "Use gd.diagnose(training, params=[...]), or gabordiag diagnose with --param.",
        )
    if not callable(subject):
        raise UsageError(
            f"an object of type {type(subject).__name__} cannot be an objective.",
            "Give a function of one number or vector, a torch.nn.Module, or a function that "
            "returns one. " + HOW_TO_BUILD,
        )
    needed, taken = _count_arguments(subject)
    if isinstance(subject, type) and needed:
        raise UsageError(
            f"{subject.__name__} needs arguments to be made.",
            "Name a function without arguments that makes the module.",
        )
    if needed > 1:
        raise UsageError(
            f"{_name(subject)} needs {needed} arguments; an objective is a function of one.",
            "Fix the others, for example with functools.partial, or take them as one vector: "
            f"lambda v: {_name(subject)}({', '.join(f'v[{i}]' for i in range(needed))}).",
        )
    if needed == 1 or (taken > 0 and param is None and not isinstance(subject, type)):
        return None
    # From where the user's code left the random streams, which it may have seeded.
    with RandomStreams(None, torch.device("cpu"))(), user_code("making the module"):
        made = subject()
    if not isinstance(made, nn.Module):
        raise InputError(
            f"{_name(subject)} takes no argument and returns a {type(made).__name__}, not a "
            "module.",
            "Give a function of one number or vector, or one that returns a torch.nn.Module. "
            + HOW_TO_BUILD,
        )
    return made


def as_training(subject: Any) -> Any:
    """Returns the `Training` or the module that an object is or makes; any other as it is.

    A function without arguments that makes one of them is called once.
    """
    if isinstance(subject, (Training, nn.Module, type)) or not callable(subject):
        return subject
    if _count_arguments(subject) != (0, 0):
        return subject
    with RandomStreams(None, torch.device("cpu"))(), user_code("making the training"):
        made = subject()
    return made if isinstance(made, (Training, nn.Module)) else subject


def _count_arguments(function: Callable[..., Any]) -> tuple[int, int]:
    """Returns how many positional arguments are needed, and how many are taken."""
    parameters = parameters_of(function)
    if parameters is None:
        return 1, 1
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    several = any(p.kind == p.VAR_POSITIONAL for p in parameters)
    needed = [p for p in positional if p.default is p.empty]
    named = [p for p in parameters if p.kind == p.KEYWORD_ONLY and p.default is p.empty]
    return len(needed) + len(named), len(positional) + several


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _refuse_module_options(**options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise UsageError(
                f"--{name.replace('_', '-')} is for a module, and the objective is a function.",
                "Leave it out.",
            )


def _set_target(
    module: ModuleLoss,
    places: FloatArray,
    requests: Sequence[ParameterRequest],
    target_output: Input | None,
    loss: str | LossFunction | None,
) -> str:
    """Gives the module its target and loss; returns the loss's name."""
    points = [module.tensor(place) for place in places]
    if not module.is_original and _is_constant(module, points):
        # A closure made in __init__ holds on to the original, and a copy's copy of it still does:
        # the user's own module is run where only that depends on the parameter.
        copied = module.module
        module.module, module.is_original = module.user_module, True
        if _is_constant(module, points):
            module.module, module.is_original = copied, False
    chosen = "rmse" if loss is None else loss
    function = find_loss(chosen) if isinstance(chosen, str) else chosen
    name = chosen if isinstance(chosen, str) else _name(chosen)
    if target_output is not None:
        module.set_target(read_tensor(target_output), function)
        return name
    targets = [request.target for request in requests]
    has_target = None not in targets
    at = np.array(targets if has_target else module.own_values, dtype=np.float64)
    output = module.output(module.tensor(at))
    if output.numel() == 1:
        if loss is not None:
            raise UsageError(
                "the module returns one number, which is its loss; another loss has no effect.",
                "Leave --loss out, or give the output to compare with as --target-output.",
            )
        return "loss"
    if not has_target:
        raise UsageError(
            "a module with more than one output needs something to compare it with.",
            "Give --target VALUE or --target-output FILE.npy.",
        )
    module.set_target(output, function)
    return name


def _is_constant(module: ModuleLoss, points: Sequence[Tensor]) -> bool:
    outputs = [module.output(point) for point in points[:3]]
    return all(torch.equal(output, outputs[0]) for output in outputs[1:])
