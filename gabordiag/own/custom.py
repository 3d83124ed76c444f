"""The front door for a user's own function or module.

`own_objective` takes (a) a function of one value that returns the loss, or (b) a module, or a
function without arguments that returns one, of which one element of one parameter is learned.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from gabordiag.errors import InputError, UsageError
from gabordiag.objective.losses import find_loss
from gabordiag.objective.objective import FloatArray
from gabordiag.own.evaluation import Evaluator, FunctionLoss, OwnObjective
from gabordiag.own.loading import user_code
from gabordiag.own.modules import (
    Input,
    LossFunction,
    ModuleLoss,
    find_element,
    read_tensor,
)
from gabordiag.own.numeric import has_sharp_zero
from gabordiag.own.period import ParameterRequest, choose_parameter
from gabordiag.own.streams import RandomStreams


def own_objective(
    thing: Any,
    *,
    param: str | None = None,
    input: Input | None = None,
    target: float | None = None,
    target_output: Input | None = None,
    range: tuple[float, float] | None = None,
    period: float | None = None,
    start: float | None = None,
    loss: str | LossFunction = "rmse",
    seed: int = 0,
) -> OwnObjective:
    """Returns a user's function or module as an objective.

    Args:
        thing: A function of one value (a 0-dim tensor) that returns the loss; or a
            `torch.nn.Module`, or a function without arguments that returns one.
        param: For a module, the learned number: `theta` or `layers.0.theta[1,0]`.
        input: For a module, its input: a tensor, an array, a `.npy` file or an image; a tuple of
            these for several; none for a module that needs none.
        target: The value that made the target. A module's output there is what its output is
            compared with.
        target_output: For a module, the output to compare with, instead: a tensor, an array or a
            `.npy` file. With neither, the module's output is the loss.
        range: Lowest and highest value. Default: one period around 0.
        period: Of the loss in the value, 0 for none. Default: it is looked for.
        start: Where an optimizer starts. Default: the module's own value, or the middle of the
            range.
        loss: For a module, a name of `LOSSES`, such as `rmse`, or a function of output and target.
            A function is its own loss.
        seed: Of the random numbers that evaluations draw (dropout).

    Raises:
        UsageError: Arguments that do not belong together, or are not enough.
        InputError: The user's code failed, or did not return a loss.
    """
    request = ParameterRequest(range, period, start, target)
    module = as_module(thing, param)
    own_value = None
    evaluator: Evaluator
    if module is None:
        _refuse_module_options(param=param, input=input, target_output=target_output)
        name, loss_name = _argument_name(thing), "loss"
        with RandomStreams(seed, torch.device("cpu"))():
            evaluator = FunctionLoss(thing, request.places())
    else:
        element = find_element(module, param)
        with RandomStreams(seed, module.get_parameter(element.name).device)():
            prepared = ModuleLoss(module, element, input)
            loss_name = _set_target(prepared, request, target_output, loss)
        own_value, name = prepared.own_value, element.label
        evaluator = prepared
    objective = OwnObjective(evaluator, loss_name, request.places(own_value), seed)
    objective.parameter = choose_parameter(
        name, objective.loss_at, request, own_value, objective.eps
    )
    if not evaluator.is_root and (module is None or callable(loss)):
        guesses = np.array([] if target is None else [target])
        low, high = objective.parameter.low, objective.parameter.high
        objective.is_root = has_sharp_zero(objective.loss_at, low, high, guesses)
    return objective


def as_module(thing: Any, param: str | None = None) -> nn.Module | None:
    """Returns the module that a thing is or makes, or None for a function of a value.

    A callable with exactly one argument that it needs is a function; one that needs none makes a
    module, unless it takes arguments and no `param` is named.

    Raises:
        UsageError: It is none of these.
        InputError: Making the module failed, or made something else.
    """
    if isinstance(thing, nn.Module):
        return thing
    if not callable(thing):
        raise UsageError(
            f"a {type(thing).__name__} cannot be an objective.",
            "Give a function of one value, a torch.nn.Module, or a function that returns one.",
        )
    needed, taken = _count_arguments(thing)
    if isinstance(thing, type) and needed:
        raise UsageError(
            f"{thing.__name__} needs arguments to be made.",
            "Name a function without arguments that makes the module.",
        )
    if needed > 1:
        raise UsageError(
            f"{_name(thing)} needs {needed} arguments; an objective is a function of one value.",
            "Fix the others, for example with functools.partial.",
        )
    if needed == 1 or (taken > 0 and param is None and not isinstance(thing, type)):
        return None
    # From where the user's code left the random streams, which it may have seeded.
    with RandomStreams(None, torch.device("cpu"))(), user_code("making the module"):
        made = thing()
    if not isinstance(made, nn.Module):
        raise InputError(
            f"{_name(thing)} takes no argument and returns a {type(made).__name__}, no module.",
            "Give a function of one value, or one that returns a torch.nn.Module.",
        )
    return made


def _count_arguments(function: Callable[..., Any]) -> tuple[int, int]:
    """Returns how many positional arguments are needed, and how many are taken."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        # Some functions in C have no signature.
        return 1, 1
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    several = any(p.kind == p.VAR_POSITIONAL for p in parameters)
    needed = [p for p in positional if p.default is p.empty]
    named = [p for p in parameters if p.kind == p.KEYWORD_ONLY and p.default is p.empty]
    return len(needed) + len(named), len(positional) + several


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _argument_name(function: Callable[..., Any]) -> str:
    """Returns the name of the function's argument, for the columns of logs and tables."""
    try:
        name = next(iter(inspect.signature(function).parameters))
    except (TypeError, ValueError, StopIteration):
        return "value"
    return "value" if name in ("args", "step", "loss", "grad", "update", "lr") else name


def _refuse_module_options(**options: Any) -> None:
    for name, value in options.items():
        if value is not None:
            raise UsageError(
                f"--{name.replace('_', '-')} is for a module, and the objective is a function.",
                "Leave it out.",
            )


def _set_target(
    module: ModuleLoss,
    request: ParameterRequest,
    target_output: Input | None,
    loss: str | LossFunction,
) -> str:
    """Gives the module its target and loss; returns the loss's name."""
    function = find_loss(loss) if isinstance(loss, str) else loss
    places = request.places(module.own_value)
    if not module.is_original and _is_constant(module, places):
        _try_original(module, places)
    if target_output is not None:
        module.set_target(read_tensor(target_output), function)
    elif request.target is not None:
        module.set_target(module.output(module.tensor(request.target)), function)
    elif not module.has_scalar_output:
        raise UsageError(
            "a module with more than one output needs something to compare it with.",
            "Give --target VALUE or --target-output FILE.npy.",
        )
    else:
        return "loss"
    return loss if isinstance(loss, str) else _name(loss)


def _is_constant(module: ModuleLoss, places: FloatArray) -> bool:
    outputs = [module.output(module.tensor(float(place))) for place in places[:3]]
    return all(torch.equal(output, outputs[0]) for output in outputs[1:])


def _try_original(module: ModuleLoss, places: FloatArray) -> None:
    """Runs the user's own module where only that depends on the parameter.

    A closure made in __init__ holds on to the original, and a copy's copy of it still does.
    """
    copied = module.module
    module.use_original()
    if _is_constant(module, places):
        module.module, module.is_original = copied, False
