"""What the checks look at: losses and gradients at a value and at generic ones, runs, traces.

`probe` measures once what most questions of `gradient.py` need; `run_twice`, `trace`, `find_cut`
and `find_unused` run the user's code again to name the line or the submodule at fault. Measuring is
kept apart from judging: no question evaluates what another has evaluated already.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gabordiag.checks.cuts import Cut, ValueTracer, custom_backward, use_in_init
from gabordiag.objective.line import Line
from gabordiag.objective.space import FloatArray
from gabordiag.own.evaluation import OwnObjective
from gabordiag.own.loading import user_code
from gabordiag.own.modules import ModuleLoss
from gabordiag.own.numeric import (
    GENERIC,
    differentiate,
    noise_at,
    noise_spacing,
    places_inside,
)

# A slope below this part of the largest one seen is not compared: rounding, or a flat place.
_SMALL_SLOPE = 1e-3
# Errors of a difference quotient above which its slope is clear, even where the error is estimated
# ten times too small.
_CLEAR = 20
# Deviations of the noise by which the values have to spread: a hundred equal ones spread over 5.
# And what part of the largest value is rounding in any case.
_DIFFERENT, _ROUNDING = 8, 1e-14


@dataclass(frozen=True, eq=False)
class Probes:
    """Losses and slopes at the places: the value in question first, generic ones after it.

    Attributes:
        places: (m,).
        losses: (m,).
        autograd: What an optimizer gets (m,); 0 where nothing arrives.
        arrives: Whether any gradient arrives, be it zero (m,).
        numeric: By differences of values (m,).
        error: Of `numeric` (m,).
        reach: The loss's own scale around the places (m,).
        noise: Standard deviation of the loss's noise.
        rounding: Of the largest loss at the places, in the loss's own precision.
        scale: What the loss without its root is a difference of; see `Line.scale`.
        power: 2 where the loss is a root, else 1.
        variation: Largest minus smallest of all values seen.
        neighbours: Sizes of the gradients of a module's other parameters, by name; the largest of
            all places.
    """

    places: FloatArray
    losses: FloatArray
    autograd: FloatArray
    arrives: npt.NDArray[np.bool_]
    numeric: FloatArray
    error: FloatArray
    reach: FloatArray
    noise: float
    rounding: float
    scale: float
    power: int
    variation: float
    neighbours: dict[str, float]

    @property
    def depends(self) -> bool:
        """Whether the loss depends on the parameter, as far as its noise allows to see."""
        finite = self.losses[np.isfinite(self.losses)]
        largest = float(np.abs(finite).max()) if len(finite) else 0.0
        if self.variation <= _DIFFERENT * self.noise + _ROUNDING * largest:
            return False
        # The loss may be the root of what varies.
        return bool(self.variation**self.power > _ROUNDING * self.scale)

    @property
    def zero(self) -> npt.NDArray[np.bool_]:
        """Places at which no gradient but zero arrives (m,)."""
        zero: npt.NDArray[np.bool_] = ~self.arrives | (self.autograd == 0)
        return zero

    @property
    def clear(self) -> npt.NDArray[np.bool_]:
        """Places with a slope by differences that is well above its error (m,)."""
        slopes = np.abs(np.nan_to_num(self.numeric))
        clear: npt.NDArray[np.bool_] = slopes > np.maximum(
            _SMALL_SLOPE * slopes.max(), _CLEAR * self.error
        )
        return clear


def probe(objective: Line, value: float) -> Probes:
    """Evaluates an objective at a value and at generic ones of its range."""
    parameter = objective.parameter
    width = parameter.high - parameter.low
    generic = parameter.low + width * np.array(GENERIC)
    places = np.concatenate([[value], generic])
    losses = objective.loss_at(places)
    gradients, others = zip(*(_gradients(objective, float(p)) for p in places), strict=True)
    neighbours: dict[str, float] = {}
    for name, size in itertools.chain.from_iterable(sizes.items() for sizes in others):
        if math.isfinite(size):
            neighbours[name] = max(neighbours.get(name, 0.0), size)
    seen = [losses]

    def function(values: FloatArray) -> FloatArray:
        # The landscape may have asked at the same places.
        seen.append(objective.loss_once(values))
        return seen[-1]

    eps = float(torch.finfo(objective.dtype).eps)
    # Far above the rounding of the places, far below what the function changes over.
    spacing = noise_spacing(width, float(np.abs(places).max()), eps)
    is_ended = parameter.period is None
    compared, reach = places_inside(places, parameter.low, parameter.high, is_ended, spacing)
    if is_ended:
        reach[(places < parameter.low) | (places > parameter.high)] = 1e-3 * width
    noises = _noises(objective, compared, spacing)
    # What is rounded to few digits is level from one of them to the next, and shows no noise.
    rounding = objective.loss_eps * float(np.abs(losses[np.isfinite(losses)]).max(initial=0.0))
    differences = differentiate(function, compared, reach, np.maximum(noises, rounding))
    everything = np.concatenate(seen)
    finite = everything[np.isfinite(everything)]
    return Probes(
        places,
        losses,
        np.array([0.0 if slope is None else slope for slope in gradients]),
        np.array([slope is not None for slope in gradients]),
        differences.first,
        differences.first_error,
        reach,
        float(noises.max()),
        rounding,
        objective.scale,
        2 if objective.is_root else 1,
        float(np.ptp(finite)) if len(finite) else 0.0,
        neighbours,
    )


def _noises(objective: Line, places: FloatArray, spacing: float) -> FloatArray:
    """Returns the noise (m,) at places (m,); where none can be measured, the largest of all."""
    parameter = objective.parameter
    is_ended = parameter.period is None
    places, _ = places_inside(places, parameter.low, parameter.high, is_ended, 5 * spacing)
    noises = noise_at(objective.loss_once, places, spacing)
    known = np.isfinite(noises)
    return np.where(known, noises, noises[known].max(initial=0.0))


def _gradients(objective: Line, value: float) -> tuple[float | None, dict[str, float]]:
    """Returns the gradient as an optimizer gets it, if any; the other parameters' by name.

    Another parameter's is the root mean square over its elements.
    """
    if not isinstance(objective, OwnObjective):
        leaf = objective.tensor(value).requires_grad_()
        _, slope = objective.loss_and_gradient(leaf)
        return None if slope is None else slope.item(), {}
    leaves = objective.evaluator.leaves(value)
    with objective.streams():
        loss = objective.evaluator.run(leaves)
    if not loss.requires_grad:
        return None, {}
    learned = {name: t for name, t in leaves.tensors.items() if t.requires_grad}
    others = {name: t for name, t in learned.items() if t is not leaves.parameter}
    with user_code("computing the gradient"):
        own, *slopes = torch.autograd.grad(
            loss, [leaves.parameter, *others.values()], allow_unused=True
        )
    sizes = {
        name: float(gradient.square().mean().sqrt())
        for name, gradient in zip(others, slopes, strict=True)
        if gradient is not None
    }
    return None if own is None else float(own.flatten()[leaves.index]), sizes


def run_twice(objective: OwnObjective, value: float) -> tuple[list[float], str | None]:
    """Evaluates twice on the same tensors; returns both losses and the submodule that differs."""
    records: list[list[tuple[nn.Module, int, int]]] = []

    def record(module: nn.Module, inputs: Any, output: Any) -> None:
        records[-1].append((module, _fingerprint(inputs), _fingerprint(output)))

    leaves = objective.evaluator.leaves(value)
    losses = []
    handle = nn.modules.module.register_module_forward_hook(record)
    try:
        for _ in range(2):
            records.append([])
            with torch.no_grad(), objective.streams():
                losses.append(float(objective.evaluator.run(leaves)))
    finally:
        handle.remove()
    for (module, inputs, output), (again, same_inputs, other) in zip(*records, strict=False):
        if module is again and inputs == same_inputs and output != other:
            kind = type(module).__name__
            parts = dict(getattr(objective.evaluator, "module", module).named_modules())
            names = [name for name, part in parts.items() if part is module and name]
            return losses, f"{names[0]} ({kind})" if names else kind
    return losses, None


def _fingerprint(value: Any) -> int:
    if isinstance(value, Tensor):
        data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        return hash(data.numpy().tobytes())
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (list, tuple)):
        return hash(tuple(_fingerprint(part) for part in value))
    return 0


def trace(objective: OwnObjective, value: float) -> tuple[ValueTracer, Tensor]:
    """Follows the value through one forward pass; returns the tracer and the loss."""
    leaves = objective.evaluator.leaves(value)
    tracer = ValueTracer(leaves.parameter, leaves.tensors)
    with objective.streams(), tracer.watching():
        loss = objective.evaluator.run(leaves)
    return tracer, loss


def find_cut(objective: OwnObjective, value: float) -> Cut | None:
    """Returns where the graph from the parameter to the loss ends, as far as the trace shows."""
    tracer, loss = trace(objective, value)
    if tracer.is_linked(loss):
        lost = [*tracer.events, *filter(None, [custom_backward(loss)]), *tracer.cuts]
        return lost[0] if lost else None
    return tracer.cut_of(loss) or next(reversed(tracer.escapes), None)


def find_unused(objective: OwnObjective, value: float) -> Cut | None:
    """Returns why a loss that does not depend on the parameter does not, None if unknown."""
    tracer, _ = trace(objective, value)
    if tracer.is_used:
        return None
    evaluator, early = objective.evaluator, None
    if isinstance(evaluator, ModuleLoss):
        early = use_in_init(evaluator.module, evaluator.element.name)
    return early or Cut("unused", None, objective.parameter.name)
