"""Is the gradient there, is it right, and does the objective say anything about its parameter?

Each question is answered by evaluations at one value and at a few generic ones, and where the
answer is bad, by following the graph to the line at fault (`graph.py`). Measuring is kept apart
from judging: `Probes` measures once what most questions need; `run_twice`, `trace`, `find_cut` and
`find_unused` run the user's code again to name the line or the submodule at fault. `verify.py`
checks the formulas of Gabor kernels.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from gabordiag.checks.graph import Cut, ValueTracer, custom_backward, use_in_init
from gabordiag.objective.objective import Line
from gabordiag.objective.space import FloatArray
from gabordiag.own.evaluation import OwnObjective, graph_nodes, tensors_in
from gabordiag.own.loading import user_code
from gabordiag.own.modules import ModuleLoss
from gabordiag.own.numeric import (
    GENERIC,
    differentiate,
    follows_closely,
    measure_fine_noise,
    noise_at,
    noise_spacing,
    places_inside,
)
from gabordiag.results import Finding, finite_or_none

# A slope below this part of the largest one seen is not compared: rounding, or a flat place.
_SMALL_SLOPE = 1e-3
# Errors of a difference quotient above which its slope is clear, even where the error is estimated
# ten times too small.
_CLEAR = 20
# Deviations of the noise by which the values have to spread: a hundred equal ones spread over 5.
# And what part of the largest value is rounding in any case.
_DIFFERENT, _ROUNDING = 8, 1e-14
# Relative error |a - n| / (|a| + |n|) above which a gradient is wrong (CS231n), if it is also this
# many errors of the differences away.
_WRONG, _BEYOND = 1e-2, 10
# Spread of a factor over the places, up to which it is called one factor.
_SAME_FACTOR = 1e-2
# What `follows_closely` steps of the reach.
_STEPPED = 1e-3
# Factors that come of degrees.
_DEGREES = (
    (math.pi / 180, ", pi / 180: per degree where the value is in radians"),
    (180 / math.pi, ", 180 / pi: per radian where the value is in degrees"),
)
# A loss this small beside the largest one seen is zero up to rounding.
_ZERO = 1e-9
# A gradient this much smaller than its neighbours' does not move at their learning rate.
_FAR_SMALLER = 1e-3
# Sums in another order differ by so many roundings; that is not randomness.
_REORDERED = 64


class Probes:
    """Losses and slopes at the places (m,): the value in question first, generic ones after it.

    Attributes:
        own: The objective, if it is a user's.
        autograd: What an optimizer gets (m,); 0 where nothing arrives.
        arrives: Whether any gradient arrives, be it zero (m,).
        numeric: By differences of values (m,), with their `error` (m,).
        reach: The loss's own scale around the places (m,).
        noise: Standard deviation of the loss's noise.
        variation: Largest minus smallest of all values seen; NaN where none is finite.
        neighbours: Largest gradient at any place of a module's other parameters, by name.
    """

    def __init__(self, objective: Line, value: float) -> None:
        self.objective, self.value = objective, value
        self.own = objective if isinstance(objective, OwnObjective) else None
        parameter = objective.parameter
        width, is_ended = parameter.width, parameter.period is None
        places = np.concatenate([[value], parameter.low + width * np.array(GENERIC)])
        self.places, self.losses = places, objective.loss_at(places)
        gradients, others = zip(*(_gradients(objective, float(p)) for p in places), strict=True)
        self.autograd = np.array([0.0 if slope is None else slope for slope in gradients])
        self.arrives = np.array([slope is not None for slope in gradients])
        self.neighbours: dict[str, float] = {}
        for name, size in itertools.chain.from_iterable(sizes.items() for sizes in others):
            if math.isfinite(size):
                self.neighbours[name] = max(self.neighbours.get(name, 0.0), size)
        seen = [self.losses]

        def function(values: FloatArray) -> FloatArray:
            # The landscape may have asked at the same places.
            seen.append(objective.loss_once(values))
            return seen[-1]

        # Far above the rounding of the places, far below what the function changes over.
        spacing = noise_spacing(width, float(np.abs(places).max()), objective.value_eps)
        ends = parameter.low, parameter.high, is_ended
        compared, self.reach = places_inside(places, *ends, spacing)
        self.reach[parameter.room(places) < 0] = 1e-3 * width
        # Where no noise can be measured, the largest of all.
        beside, _ = places_inside(compared, *ends, 5 * spacing)
        noises = noise_at(objective.loss_once, beside, spacing)
        known = np.isfinite(noises)
        noises = np.where(known, noises, noises[known].max(initial=0.0))
        # A jump of the loss at one of them is none of its noise.
        self.noise = float(np.median(noises))
        # What is rounded to few digits is level from one of them to the next, and shows no noise.
        self._largest = float(np.abs(self.losses[np.isfinite(self.losses)]).max(initial=0.0))
        noises = np.maximum(noises, objective.loss_eps * self._largest)
        differences = differentiate(function, compared, self.reach, noises)
        self.numeric, self.error = differences.first, differences.first_error
        everything = np.concatenate(seen)
        finite = everything[np.isfinite(everything)]
        self.variation = float(np.ptp(finite)) if len(finite) else math.nan

    @property
    def label(self) -> str:
        """The parameter's name."""
        return self.objective.parameter.name

    def at(self, place: float) -> str:
        """Returns in words where the parameter stands."""
        return f"{self.label} = {self.objective.parameter.show(place)}"

    @property
    def depends(self) -> bool:
        """Whether the loss depends on the parameter, as far as its noise allows to see.

        Of a loss that is nowhere finite nothing is seen, which is no independence.
        """
        if self.variation <= _DIFFERENT * self.noise + _ROUNDING * self._largest:
            return False
        # The loss may be the root of what varies.
        power = 2 if self.objective.is_root else 1
        return not self.variation**power <= _ROUNDING * self.objective.scale

    @property
    def zero(self) -> npt.NDArray[np.bool_]:
        """Places at which no gradient but zero arrives (m,)."""
        return np.asarray(~self.arrives | (self.autograd == 0))

    @property
    def clear(self) -> npt.NDArray[np.bool_]:
        """Places with a slope by differences that is well above its error (m,)."""
        slopes = np.abs(np.nan_to_num(self.numeric))
        least = np.maximum(_SMALL_SLOPE * slopes.max(), _CLEAR * self.error)
        return np.asarray(slopes > least)


def _gradients(objective: Line, value: float) -> tuple[float | None, dict[str, float]]:
    """Returns the gradient as an optimizer gets it, if any; the other parameters' by name.

    Another parameter's is the root mean square over its elements.
    """
    if not isinstance(objective, OwnObjective):
        _, slope = objective.losses_and_gradients(objective.tensor(value))
        return None if slope is None else slope.item(), {}
    leaves = objective.evaluator.leaves(value)
    with objective.streams():
        loss = objective.evaluator.run(leaves)
    if not loss.requires_grad:
        return None, {}
    learned = {name: t for name, t in leaves.tensors.items() if t.requires_grad}
    others = {name: t for name, t in learned.items() if t is not leaves.parameter}
    with user_code("computing the gradient"):
        asked = [leaves.parameter, *others.values()]
        own, *slopes = torch.autograd.grad(loss, asked, allow_unused=True)
    known = {name: g for name, g in zip(others, slopes, strict=True) if g is not None}
    sizes = {name: float(gradient.square().mean().sqrt()) for name, gradient in known.items()}
    return None if own is None else float(own.flatten()[leaves.index]), sizes


def run_twice(objective: OwnObjective, value: float) -> tuple[list[float], str | None]:
    """Evaluates twice on the same tensors; returns both losses and the submodule that differs."""
    records: list[list[tuple[nn.Module, int, int]]] = []

    def record(module: nn.Module, inputs: Any, output: Any) -> None:
        records[-1].append((module, _fingerprint(inputs), _fingerprint(output)))

    leaves = objective.evaluator.leaves(value)
    losses = []
    with nn.modules.module.register_module_forward_hook(record), torch.no_grad():
        for _ in range(2):
            records.append([])
            with objective.streams():
                losses.append(objective.evaluator.run(leaves).item())
    for (module, inputs, output), (again, same_inputs, other) in zip(*records, strict=False):
        if module is again and inputs == same_inputs and output != other:
            kind = type(module).__name__
            parts = dict(getattr(objective.evaluator, "module", module).named_modules())
            names = [name for name, part in parts.items() if part is module and name]
            return losses, f"{names[0]} ({kind})" if names else kind
    return losses, None


def _fingerprint(value: Any) -> int:
    flat = [t.detach().cpu().contiguous().reshape(-1) for t in tensors_in(value)]
    return hash(tuple(tensor.view(torch.uint8).numpy().tobytes() for tensor in flat))


def trace(objective: OwnObjective, value: float) -> tuple[ValueTracer, Tensor]:
    """Follows the value through one forward pass; returns the tracer and the loss."""
    leaves = objective.evaluator.leaves(value)
    tracer = ValueTracer(leaves.parameter, leaves.index, leaves.tensors)
    with objective.streams(), tracer.watching():
        loss = objective.evaluator.run(leaves)
    return tracer, loss


def find_cut(objective: OwnObjective, value: float) -> Cut | None:
    """Returns where the graph from the parameter to the loss ends, as far as the trace shows."""
    tracer, loss = trace(objective, value)
    if tracer.is_linked(loss):
        lost = [*tracer.holding(loss), *filter(None, [custom_backward(loss)]), *tracer.cuts]
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


def check_objective(
    objective: Line, value: float | None = None, *, varies: bool = False
) -> tuple[Finding, ...]:
    """Looks for what makes a gradient useless, before any optimizer is to blame.

    Returns a finding for each cause that could be tested, without a trial of its removal. Where one
    explains others, it comes first. A gradient far smaller than those of the module's other
    parameters is reported as `step_too_small`, never as present: it blocks nothing. A loss that is
    known to vary is not called level for being so at the few places that are asked.
    """
    probes = Probes(objective, objective.parameter.start if value is None else float(value))
    unused = None
    if probes.own is not None and not probes.depends:
        unused = find_unused(probes.own, probes.value)
    repeats = _check_repeats(probes)
    findings = (
        _check_dependence(probes, unused, not repeats.present, varies),
        _check_gradient_exists(probes, unused, varies),
        _check_finite(probes),
        None if repeats.present else _check_gradient_right(probes),
        repeats,
        _check_neighbours(probes),
    )
    return tuple(filter(None, findings))


def _check_dependence(probes: Probes, unused: Cut | None, repeats: bool, varies: bool) -> Finding:
    name, label, scale = "flat_objective", probes.label, probes.objective.scale
    evidence: dict[str, Any] = {
        "loss": finite_or_none(float(probes.losses[0])),
        "variation": finite_or_none(probes.variation),
        "noise": probes.noise,
        "is_used": unused is None,
    }
    text = ""
    if probes.depends:
        text = f"the loss depends on {label}"
    elif unused is not None and unused.kind == "init":
        # Reported as a cut graph: the value was used, but only once.
        text = f"the loss depends on the {label} of __init__ only"
    elif not repeats and unused is None:
        text = "the loss varies no more than it does at one value"
    elif varies:
        text = f"the loss depends on {label}, but is level in most of the range"
    if text:
        return Finding(name, False, False, evidence, text)
    because = "" if unused is None else f"; {unused.sentence}"
    if unused is None and scale and probes.variation:
        because = f", rounding beside the responses that it compares (mean square {scale:.3g})"
        evidence["scale"] = scale
    text = (
        f"the loss does not depend on {label}: over the whole range it varies by "
        f"{probes.variation:.3g}{because}"
    )
    return Finding(name, True, False, evidence, text)


def _check_gradient_exists(probes: Probes, unused: Cut | None, varies: bool) -> Finding:
    label, own = probes.label, probes.own
    evidence: dict[str, Any] = {
        "gradient": finite_or_none(float(probes.autograd[0])) if probes.arrives[0] else None,
        "slope": finite_or_none(float(probes.numeric[0])),
        "arrives": bool(probes.arrives.all()),
    }

    def broken(text: str, cut: Cut | None = None) -> Finding:
        where = None if cut is None else cut.to_dict()
        return Finding("no_gradient", True, False, {**evidence, "where": where}, text)

    if unused is not None and unused.kind == "init":
        text = f"what an optimizer does to {label} changes nothing: {unused.sentence}"
        return broken(text, unused)
    module = None if own is None else own.evaluator
    if isinstance(module, ModuleLoss) and not module.parameter.requires_grad:
        name = module.element.name
        text = f"requires_grad is False for {name}: no gradient is computed for it"
        return broken(text, Cut("frozen", None, name))
    zero, clear = probes.zero, probes.clear
    # No gradient arrives anywhere, or nowhere where values show a slope.
    if probes.depends and (zero.all() or (clear.any() and zero[clear].all())):
        cut = None if own is None else find_cut(own, probes.value)
        is_zero = probes.arrives.all()
        what = "the gradient that arrives is zero" if is_zero else "no gradient arrives"
        because = "" if cut is None else f": {cut.sentence}"
        return broken(f"the loss depends on {label}, but {what}{because}", cut)
    if (probes.depends or varies) and zero[0] and own is not None:
        tracer, loss = trace(own, probes.value)
        for event in tracer.holding(loss):
            where = probes.at(probes.value)
            return broken(f"at {where} the gradient is zero: {event.sentence}", event)
    return Finding("no_gradient", False, False, evidence, f"a gradient reaches {label}")


def _check_finite(probes: Probes) -> Finding:
    name = "nonfinite_gradient"
    bad_loss, bad_slope = ~np.isfinite(probes.losses), ~np.isfinite(probes.autograd)
    evidence: dict[str, Any] = {
        "loss": finite_or_none(float(probes.losses[0])),
        "nonfinite_losses": int(bad_loss.sum()),
        "nonfinite_gradients": int(bad_slope.sum()),
        "places": len(probes.places),
    }
    if not probes.losses.any():
        return Finding(name, False, False, evidence, "the loss is zero everywhere")
    bad = bad_loss if bad_loss.any() else bad_slope
    if not bad.any():
        return Finding(name, False, False, evidence, "losses and gradients are finite")
    at = int(np.argmax(bad))
    place, loss = float(probes.places[at]), float(probes.losses[at])
    where = f"at {probes.at(place)}"
    if bad_loss.any():
        text = f"the loss is not finite {where}"
    elif loss <= _ZERO * np.abs(probes.losses).max():
        text = f"the gradient is not finite {where}: the loss is zero, and a root's slope 0/0"
    else:
        text = f"the gradient is not finite {where}, although the loss is {loss:.6g}"
    return Finding(name, True, False, {**evidence, "value": place}, text)


def _check_gradient_right(probes: Probes) -> Finding | None:
    """Compares with differences of the loss, where these show a slope; a random loss's do not."""
    name = "wrong_gradient"
    numeric, autograd = probes.numeric, probes.autograd
    use = probes.clear & np.isfinite(autograd) & ~probes.zero
    if not use.any():
        return None
    errors = np.abs(autograd - numeric)[use] / (np.abs(autograd) + np.abs(numeric))[use]
    wrong = (np.abs(autograd - numeric) > _BEYOND * probes.error)[use] & (errors > _WRONG)
    if wrong.any():
        right = _follows_closely(probes, use)
        wrong &= ~right
        # Differences that miss a feature are not a measure of the gradient there.
        errors[right & (errors > _WRONG)] = 0.0
    evidence: dict[str, Any] = {
        "max_relative_error": float(errors.max()),
        "gradient": autograd[use].tolist(),
        "slope": numeric[use].tolist(),
    }
    if not wrong.any():
        text = "the gradient agrees with differences of the loss"
        return Finding(name, False, False, evidence, text)
    ratios = autograd[use] / numeric[use]
    factor = float(np.median(ratios))
    is_factor = bool(np.ptp(ratios) <= _SAME_FACTOR * abs(factor))
    cut = None
    if probes.own is not None:
        # A custom backward, or a place where part of the graph is cut.
        tracer, loss = trace(probes.own, probes.value)
        cut = custom_backward(loss) or next(iter(tracer.cuts), None)
        names = {node.name() for node in graph_nodes(loss.grad_fn)}
        if cut is None and any(name.startswith("BinaryCrossEntropyBackward") for name in names):
            cut = Cut("saturated", None, "binary_cross_entropy")
    how = f"is {factor:.4g} times what" if is_factor else "is not what"
    because = "" if cut is None else f"; {cut.sentence}"
    near = (words for known, words in _DEGREES if math.isclose(factor, known, rel_tol=1e-3))
    unit = next(near, "") if is_factor else ""
    text = f"the gradient {how} differences of the loss show{unit}{because}"
    evidence["factor"] = factor if is_factor else None
    evidence["where"] = None if cut is None else cut.to_dict()
    return Finding(name, True, False, evidence, text)


def _follows_closely(probes: Probes, use: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Whether the gradient at the places in use fits the loss close up, as far as it is defined."""
    objective, places, reach = probes.objective, probes.places[use], probes.reach[use]
    parameter = objective.parameter
    inside = parameter.room(places) >= _STEPPED * reach
    fits = np.zeros(len(places), dtype=np.bool_)
    if inside.any():
        loss, slopes = objective.loss_at, probes.autograd[use][inside]
        noise = measure_fine_noise(loss, parameter.low, parameter.high, objective.value_eps)
        fits[inside] = follows_closely(loss, places[inside], slopes, reach[inside], noise)
    return fits


def _check_repeats(probes: Probes) -> Finding:
    name, objective, value = "nondeterministic", probes.objective, probes.value
    losses = [float(objective.loss_at(value)[0]) for _ in range(3)]
    culprit = None
    if probes.own is not None:
        again, culprit = run_twice(probes.own, value)
        losses += again
    spread = float(np.ptp(losses))
    evidence = {"losses": [finite_or_none(loss) for loss in losses], "submodule": culprit}
    if not spread > _REORDERED * objective.value_eps * max(abs(loss) for loss in losses):
        return Finding(name, False, False, evidence, "evaluations at the same value agree")
    where = f", first in {culprit}" if culprit else ""
    text = f"evaluations at the same value differ by {spread:.3g}{where}"
    return Finding(name, True, False, evidence, text)


def _check_neighbours(probes: Probes) -> Finding | None:
    """Compares with the gradients of the module's other parameters, at the same places."""
    own = float(np.abs(probes.autograd[np.isfinite(probes.autograd)]).max(initial=0.0))
    typical = float(np.median(list(probes.neighbours.values()) or [0.0]))
    if not (probes.depends and 0 < own < _FAR_SMALLER * typical):
        return None
    text = (
        f"the gradient is {own / typical:.1e} of what the module's other parameters typically "
        f"get: at their learning rate {probes.label} hardly moves"
    )
    evidence = {"gradient": own, "typical_of_others": typical, "ratio": own / typical}
    return Finding("step_too_small", False, False, evidence, text)
