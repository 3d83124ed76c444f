"""Is the gradient there, is it right, and does the objective say anything about its parameter?

Each question is answered by evaluations at one value and at a few generic ones (`probing.py`), and
where the answer is bad, by following the graph to the line at fault (`cuts.py`). `verify.py` checks
the formulas of Gabor kernels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gabordiag.checks.cuts import Cut, custom_backward
from gabordiag.checks.probing import Probes, find_cut, find_unused, probe, run_twice, trace
from gabordiag.objective.line import Line
from gabordiag.own.evaluation import OwnObjective
from gabordiag.own.modules import ModuleLoss
from gabordiag.own.numeric import follows_closely, measure_fine_noise
from gabordiag.results import Finding, finite_or_none

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


def check_objective(objective: Line, value: float | None = None) -> tuple[Finding, ...]:
    """Looks for what makes a gradient useless, before any optimizer is to blame.

    Returns a finding for each cause that could be tested, without a trial of its removal. Where one
    explains others, it comes first. A gradient far smaller than those of the module's other
    parameters is reported as `step_too_small`, never as present: it blocks nothing.
    """
    value = objective.parameter.start if value is None else float(value)
    probes = probe(objective, value)
    unused = None
    if isinstance(objective, OwnObjective) and not probes.depends:
        unused = find_unused(objective, value)
    repeats = _check_repeats(objective, value)
    findings = (
        _check_dependence(objective, probes, unused, not repeats.present),
        _check_gradient_exists(objective, value, probes, unused),
        _check_finite(objective, probes),
        None if repeats.present else _check_gradient_right(objective, value, probes),
        repeats,
        _check_neighbours(objective, probes),
    )
    return tuple(finding for finding in findings if finding is not None)


def _check_dependence(
    objective: Line, probes: Probes, unused: Cut | None, repeats: bool
) -> Finding:
    name, label = "flat_objective", objective.parameter.name
    evidence: dict[str, Any] = {
        "loss": finite_or_none(float(probes.losses[0])),
        "variation": probes.variation,
        "noise": probes.noise,
        "is_used": unused is None,
    }
    if probes.depends:
        return Finding(name, False, False, evidence, f"The loss depends on {label}")
    if unused is not None and unused.kind == "init":
        # Reported as a cut graph: the value was used, but only once.
        text = f"The loss depends on the {label} of __init__ only"
        return Finding(name, False, False, evidence, text)
    if not repeats and unused is None:
        text = "The loss varies no more than it does at one value"
        return Finding(name, False, False, evidence, text)
    because = "" if unused is None else f"; {unused.sentence}"
    if unused is None and probes.scale and probes.variation:
        because = (
            f", rounding beside the responses that it compares (mean square {probes.scale:.3g})"
        )
        evidence["scale"] = probes.scale
    text = (
        f"The loss does not depend on {label}: over the whole range it varies by "
        f"{probes.variation:.3g}{because}"
    )
    return Finding(name, True, False, evidence, text)


def _check_gradient_exists(
    objective: Line, value: float, probes: Probes, unused: Cut | None
) -> Finding:
    label = objective.parameter.name
    evidence: dict[str, Any] = {
        "gradient": finite_or_none(float(probes.autograd[0])) if probes.arrives[0] else None,
        "slope": finite_or_none(float(probes.numeric[0])),
        "arrives": bool(probes.arrives.all()),
    }

    def broken(text: str, cut: Cut | None = None) -> Finding:
        where = None if cut is None else cut.to_dict()
        return Finding("no_gradient", True, False, {**evidence, "where": where}, text)

    if unused is not None and unused.kind == "init":
        return broken(
            f"What an optimizer does to {label} changes nothing: {unused.sentence}", unused
        )
    if _is_frozen(objective):
        frozen = Cut("frozen", None, label)
        return broken(f"{label} has requires_grad = False: no gradient is computed for it", frozen)
    if probes.depends and _is_missing(probes):
        cut = find_cut(objective, value) if isinstance(objective, OwnObjective) else None
        what = (
            "the gradient that arrives is zero" if probes.arrives.all() else "no gradient arrives"
        )
        because = "" if cut is None else f": {cut.sentence}"
        return broken(f"The loss depends on {label}, but {what}{because}", cut)
    if probes.depends and probes.zero[0] and isinstance(objective, OwnObjective):
        tracer, _ = trace(objective, value)
        for event in tracer.events:
            place = objective.parameter.show(value)
            return broken(f"At {label} = {place} the gradient is zero: {event.sentence}", event)
    return Finding("no_gradient", False, False, evidence, f"A gradient reaches {label}")


def _is_missing(probes: Probes) -> bool:
    """Whether no gradient arrives anywhere, or nowhere where values show a slope."""
    clear = probes.clear
    return bool(probes.zero.all() or (clear.any() and probes.zero[clear].all()))


def _is_frozen(objective: Line) -> bool:
    if not isinstance(objective, OwnObjective):
        return False
    return isinstance(objective.evaluator, ModuleLoss) and objective.evaluator.is_frozen


def _check_finite(objective: Line, probes: Probes) -> Finding:
    name = "nonfinite_gradient"
    bad_loss, bad_slope = ~np.isfinite(probes.losses), ~np.isfinite(probes.autograd)
    evidence: dict[str, Any] = {
        "loss": finite_or_none(float(probes.losses[0])),
        "nonfinite_losses": int(bad_loss.sum()),
        "nonfinite_gradients": int(bad_slope.sum()),
        "places": len(probes.places),
    }
    if not probes.losses.any():
        return Finding(name, False, False, evidence, "The loss is zero everywhere")
    bad = bad_loss if bad_loss.any() else bad_slope
    if not bad.any():
        return Finding(name, False, False, evidence, "Losses and gradients are finite")
    at = int(np.argmax(bad))
    place, loss = float(probes.places[at]), float(probes.losses[at])
    where = f"at {objective.parameter.name} = {objective.parameter.show(place)}"
    if bad_loss.any():
        text = f"The loss is not finite {where}"
    elif loss <= _ZERO * np.abs(probes.losses).max():
        text = f"The gradient is not finite {where}: the loss is zero, and a root's slope 0/0"
    else:
        text = f"The gradient is not finite {where}, although the loss is {loss:.6g}"
    return Finding(name, True, False, {**evidence, "value": place}, text)


def _check_gradient_right(objective: Line, value: float, probes: Probes) -> Finding | None:
    """Compares with differences of the loss, where these show a slope; a random loss's do not."""
    name = "wrong_gradient"
    numeric, autograd = probes.numeric, probes.autograd
    use = probes.clear & np.isfinite(autograd) & ~probes.zero
    if not use.any():
        return None
    errors = np.abs(autograd - numeric)[use] / (np.abs(autograd) + np.abs(numeric))[use]
    wrong = (np.abs(autograd - numeric) > _BEYOND * probes.error)[use] & (errors > _WRONG)
    if wrong.any():
        right = _follows_closely(objective, probes, use)
        wrong &= ~right
        # Differences that miss a feature are not a measure of the gradient there.
        errors[right & (errors > _WRONG)] = 0.0
    evidence: dict[str, Any] = {
        "max_relative_error": float(errors.max()),
        "gradient": autograd[use].tolist(),
        "slope": numeric[use].tolist(),
    }
    if not wrong.any():
        text = "The gradient agrees with differences of the loss"
        return Finding(name, False, False, evidence, text)
    ratios = autograd[use] / numeric[use]
    factor = float(np.median(ratios))
    is_factor = bool(np.ptp(ratios) <= _SAME_FACTOR * abs(factor))
    cut = _wrong_part(objective, value)
    how = f"is {factor:.4g} times what" if is_factor else "is not what"
    because = "" if cut is None else f"; {cut.sentence}"
    near = (
        words
        for known, words in _DEGREES
        if is_factor and math.isclose(factor, known, rel_tol=1e-3)
    )
    as_degrees = next(near, "")
    text = f"The gradient {how} differences of the loss show{as_degrees}{because}"
    more = {
        "factor": factor if is_factor else None,
        "where": None if cut is None else cut.to_dict(),
    }
    return Finding(name, True, False, {**evidence, **more}, text)


def _follows_closely(
    objective: Line, probes: Probes, use: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """Whether the gradient at the places in use fits the loss close up, as far as it is defined."""
    parameter, places, reach = objective.parameter, probes.places[use], probes.reach[use]
    inside = np.ones(len(places), dtype=np.bool_)
    if parameter.period is None:
        inside = np.minimum(places - parameter.low, parameter.high - places) >= _STEPPED * reach
    fits = np.zeros(len(places), dtype=np.bool_)
    if inside.any():
        eps = float(torch.finfo(objective.dtype).eps)
        noise = measure_fine_noise(objective.loss_at, parameter.low, parameter.high, eps)
        slopes = probes.autograd[use][inside]
        fits[inside] = follows_closely(
            objective.loss_at, places[inside], slopes, reach[inside], noise
        )
    return fits


def _wrong_part(objective: Line, value: float) -> Cut | None:
    """A custom backward, or a place where part of the graph is cut."""
    if not isinstance(objective, OwnObjective):
        return None
    tracer, loss = trace(objective, value)
    return next((cut for cut in (custom_backward(loss), *tracer.cuts) if cut is not None), None)


def _check_repeats(objective: Line, value: float) -> Finding:
    name = "nondeterministic"
    losses = [float(objective.loss_at(value)[0]) for _ in range(3)]
    culprit = None
    if isinstance(objective, OwnObjective):
        again, culprit = run_twice(objective, value)
        losses += again
    spread = float(np.ptp(losses))
    evidence = {"losses": [finite_or_none(loss) for loss in losses], "submodule": culprit}
    eps = float(torch.finfo(objective.dtype).eps)
    if not spread > _REORDERED * eps * max(abs(loss) for loss in losses):
        return Finding(name, False, False, evidence, "Evaluations at the same value agree")
    where = f", first in {culprit}" if culprit else ""
    text = f"Evaluations at the same value differ by {spread:.3g}{where}"
    return Finding(name, True, False, evidence, text)


def _check_neighbours(objective: Line, probes: Probes) -> Finding | None:
    """Compares with the gradients of the module's other parameters, at the same places."""
    own = float(np.abs(probes.autograd[np.isfinite(probes.autograd)]).max(initial=0.0))
    typical = float(np.median(list(probes.neighbours.values()) or [0.0]))
    if not (probes.depends and 0 < own < _FAR_SMALLER * typical):
        return None
    text = (
        f"The gradient is {own / typical:.1e} of what the module's other parameters typically "
        f"get: at their learning rate {objective.parameter.name} hardly moves"
    )
    evidence = {"gradient": own, "typical_of_others": typical, "ratio": own / typical}
    return Finding("step_too_small", False, False, evidence, text)
