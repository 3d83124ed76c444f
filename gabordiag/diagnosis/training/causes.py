"""Why a watched element of a training is not where it should be.

A gradient that never arrives comes first, then what holds the element, then the size of its steps,
then the line: a lower minimum elsewhere, or one that the element has not come to.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from gabordiag.checks.gradient import check_objective, find_cut, find_unused
from gabordiag.checks.graph import Cut, find_culprit
from gabordiag.diagnosis.training.facts import LAST
from gabordiag.diagnosis.training.lines import SAME_LOSS, rounding_of
from gabordiag.diagnosis.training.measured import HALF_WAY, Measured
from gabordiag.dynamics.training import TrainingRun
from gabordiag.errors import GabordiagError
from gabordiag.landscape.many_lines import rounding
from gabordiag.landscape.points import CriticalPoint
from gabordiag.own.evaluation import OwnObjective
from gabordiag.own.modules import Element, ModuleLoss
from gabordiag.own.training import State
from gabordiag.results import Finding
from gabordiag.wording import times

# An element that ranges over more than so many tolerances bounces; so many of the places that it
# passed are tried on other batches.
_WILD, _PASSED = 4.0, 8
# On a maximum is what is within so many tolerances of it.
_ON_TOP = 5.0
# How near to its minimum a rate should bring an element: to this part of the way.
_ARRIVED = 0.01
# lr x curvature from which it is too large, as a part of the bound.
_NEAR_BOUND = 0.95
# A step that is this part of the way out of a basin does not lead out of it.
_SHORT_STEP = 0.1
# A slope that is this part of the steepest one of the line is none; from this part on its sign is
# known.
_LEVEL, _WRONG = 1e-3, 0.05
# A slope that leads on by less than this part of what is gained at the minimum is a plateau's.
_PLATEAU = 1e-2

Known = TypeVar("Known")

# Every verdict but `healthy`, in the order in which a headline names them: what holds back one
# element, and several, in words.
FAULTS = {
    "no_gradient": ("gets no gradient", "get no gradient"),
    "wrong_gradient": ("gets a wrong gradient", "get wrong gradients"),
    "flat_objective": ("has no effect on the loss", "have no effect on the loss"),
    "flat_start": ("stands where the loss is level", "stand where the loss is level"),
    "nonfinite_gradient": ("has no finite gradient", "have no finite gradient"),
    "at_bound": ("is held at a bound", "are held at a bound"),
    "duplicate": ("has become the same as another", "have become the same as others"),
    "step_too_large": (
        "bounces: the learning rate is too large",
        "bounce: the learning rate is too large",
    ),
    "unread": ("is hardly read out", "are hardly read out"),
    "pulled": ("makes up for missing filters", "make up for missing filters"),
    "wrong_basin": ("sits beside a lower minimum", "sit beside lower minima"),
    "too_slow_beside_others": (
        "hardly moves beside the rest of the model",
        "hardly move beside the rest of the model",
    ),
    "step_too_small": ("is still on its way", "are still on their way"),
    "inconclusive": ("cannot be judged", "cannot be judged"),
}


class Judgement(NamedTuple):
    """What holds an element back (in `FAULTS`), what helps; the factor is of its learning rate."""

    verdict: str
    evidence: dict[str, Any]
    why: str
    helps: str
    factor: float | None = None


def _badly_fed(element: Measured) -> Judgement | None:
    run = element.facts.run
    if not run.is_fed_badly:
        return None
    step = len(run.losses) - 1
    why = f"the batch of step {step} holds a value that is NaN or infinite"
    helps = "mend the data: no rate and no start helps"
    return Judgement("nonfinite_gradient", {"step": step}, why, helps)


def _blown_up(element: Measured) -> Judgement | None:
    """One whose rate could not have held on the first line, or on its own path."""
    run = element.facts.run
    if run.is_held:
        return None
    bends = [abs(point.curvature or 0.0) for point in element.line_start.landscape.points]
    product = element.rate * max([*bends, element.path_curvature])
    if product <= element.limit:
        return _risen(element)
    evidence = {"lr_times_curvature": product, "limit": element.limit, "step": len(element.path)}
    why = f"{_how_it_broke(run)}, and lr x curvature is {product:.3g}, above {element.limit:.3g}"
    factor = 0.5 * element.limit / product
    return Judgement("step_too_large", evidence, why, _rate_advice(element, factor), factor)


def _how_it_broke(run: TrainingRun) -> str:
    if run.is_finite:
        return f"the loss rose from {run.losses[0]:.3g} to {run.losses[-1]:.3g}"
    return f"the loss is not finite at step {len(run.losses) - 1}"


def _nonfinite(element: Measured) -> Judgement | None:
    run = element.facts.run
    if run.is_held:
        return None
    broke, evidence = _how_it_broke(run), {"step": len(element.path)}
    is_bad = ~np.isfinite(element.slopes)
    culprit = _ask(element, find_culprit, run.start) if is_bad[0] else None
    if culprit is not None:
        place = culprit.location or "the code"
        why = f"no gradient is finite where it begins: {place} calls {culprit.name}"
        helps = "start it elsewhere"
        if culprit.repairs:
            helps = culprit.advice(culprit.repairs[0])
        where = {"where": culprit.to_dict()}
        return Judgement("nonfinite_gradient", evidence | where, why, helps)
    first = int(np.argmax(is_bad))
    if is_bad.any() and np.isfinite([*run.losses[:-1], run.losses[first]]).all():
        why = f"its gradient is not finite at step {first}"
        helps = "find the 0/0, the root at zero or the overflow behind this gradient"
        return Judgement("nonfinite_gradient", evidence, why, helps)
    others = [name for name, size in run.sizes.items() if not np.isfinite(size[0])]
    helps = "lower the learning rates"
    if is_bad[0]:
        helps = "no step was made: find the 0/0, the root or the logarithm of zero before the loss"
    elif others:
        broke, helps = f"{broke}, after a gradient of {others[0]} that is not", f"see {others[0]}"
    return Judgement("inconclusive", evidence, broke, helps)


def _gradient(element: Measured) -> Judgement | None:
    slopes, facts, line = element.slopes, element.facts, element.line_final
    is_flat = line.is_flat and element.line_start.is_flat
    here = float(element.path[-1])
    if (slopes[-element.tail :] != 0).any():
        # Where nothing depends on it, what arrives is rounding.
        change = float(np.abs(slopes).max()) * element.parameter.width
        if not is_flat or change > element.clear(here, here, line):
            return None
    since = int(np.flatnonzero(slopes).max(initial=-1)) + 1
    never, when = since == 0, f" since step {since}" if 0 < since < len(slopes) else ""
    arrived = bool(facts.run.arrived[element.index])
    evidence = {"since_step": since, "height_of_line": line.height, "arrives": arrived}
    cut = _cut(element)
    # A ReLU holds responses.
    is_cut = cut is not None and not cut.target.startswith("relu")
    if (is_flat or (line.is_flat and not never)) and not is_cut:
        return _without_effect(element, is_flat, when, evidence)
    is_there = element.is_in_a_dip or (not never and element.better is None)
    is_level = _is_level(element)
    # Beyond a clamp's limit the loss is level, and was not before it if a gradient led there.
    rise = 0.0 if never else abs(slopes[since - 1]) * element.parameter.tolerance
    # Where no loss is left, nothing is held back.
    is_solved = not facts.run.losses[-element.tail :].any()
    is_held = (
        is_cut
        and not is_solved
        and (never or rise > max(4 * line.noise(here), SAME_LOSS * line.height))
    )
    if arrived and is_there and not element.is_away and not is_held and (not never or is_level):
        # At the very minimum a gradient may be zero.
        return None
    where, because = _place(cut)
    if cut is None and arrived and is_level:
        why = f"it stands where the loss is level{when}, and the gradient is zero"
        return Judgement("flat_start", evidence | where, why, "start it elsewhere")
    helps = "compute from it with torch operations alone" if cut is None else cut.repair
    if cut is not None and cut.kind == "clamp" and not never:
        helps = "it was led beyond the limit: lower its learning rate, or else " + helps
    if cut is None and arrived:
        helps = "the loss has a slope there: look for a hook or a mask that makes the gradient zero"
    why = f"no gradient arrives{when}{because}"
    return Judgement("no_gradient", evidence | where, why, helps)


def _without_effect(
    element: Measured, is_flat: bool, when: str, evidence: dict[str, Any]
) -> Judgement:
    """One whose last line is level, and, if `is_flat`, the first one, too."""
    unused = _ask(element, find_unused)
    where, because = _place(unused)
    lower = element.lower_elsewhere if is_flat and unused is None else None
    if lower is not None:
        low, high = (element.show(end) for end in (element.parameter.low, element.parameter.high))
        why = f"the loss is level from {low} to {high}, and lower at {element.show(lower)}"
        return Judgement("flat_start", evidence, why, f"start it at {element.show(lower)}")
    why = f"the loss does not depend on it{when}{because}"
    # A step too long may have put a channel where its ReLU lets nothing through.
    helps = "lower the learning rates"
    if is_flat:
        helps = "check that what follows lets it through: weights, biases, a ReLU, a "
        helps += "normalization that takes it out again"
    if unused is not None:
        helps = unused.repair
    return Judgement("flat_objective", evidence | where, why, helps)


def _cut(element: Measured) -> Cut | None:
    """What cuts the graph; a line beyond a clamp's limits, or between roundings, is level too."""
    name = element.watched.name
    if name not in element.facts.run.sizes:
        return Cut("frozen", None, name)
    cut = _ask(element, find_cut)
    if cut is None and element.line_final.is_flat:
        unused = _ask(element, find_unused)
        # Used once, and never in forward: a graph that ends there.
        return unused if unused is not None and unused.kind == "init" else None
    return cut


def _slope_at_end(element: Measured) -> tuple[float, float]:
    """Returns the slope of the loss where the element ended, and its rounding."""
    facts, here = element.facts, float(element.path[-1])
    apart = element.parameter.tolerance / 8
    places = here + apart * np.array([-1.0, 1.0])
    (losses,) = facts.checked.losses(facts.run.final, [(element.watched, places)])
    below, above = losses.mean(axis=1)
    return float(above - below) / (2 * apart), element.line_final.noise(here) / (2 * apart)


def _is_level(element: Measured) -> bool:
    """Whether the slope at the end is nothing beside the steepest one of the line."""
    slope, noise = _slope_at_end(element)
    return abs(slope) <= max(noise, _LEVEL * element.line_final.landscape.largest_gradient)


def _wrong(element: Measured) -> Judgement | None:
    """A derivative that is not the loss's, looked for where a run is not at a minimum, or rose."""
    if not _seems_wrong(element):
        return None
    known = element.path[np.isfinite(element.path)]
    first, last, line = float(known[0]), float(known[-1]), element.line_start
    run = element.facts.run
    is_open = not run.is_held or element.facts.still_falls or element.is_away
    if not is_open and not element.gain(last, first, line, line.at(last) - line.at(first)):
        return None
    found = _ask(element, _derivative, run.start)
    # One that is only too small or too large, such as a clipped one, leads down.
    if found is None or not found.present or not _leads_up(found):
        return None
    helps = "correct the derivative"
    return Judgement("wrong_gradient", found.evidence, found.explanation, helps)


def _seems_wrong(element: Measured) -> bool:
    """Whether the derivative and the slope, on one batch where the run began, differ in sign.

    Both clearly: near a minimum, and beside kinks, differences show little.
    """
    facts, watched, parameter = element.facts, element.watched, element.parameter
    start, apart = facts.run.start, parameter.tolerance / 8
    places = watched.coordinate(start) + apart * np.array([-1.0, 1.0])
    below, above = watched.placed(start[watched.name], places)
    said = float((facts.gradient_at_start(watched.name) * (above - below)).sum())
    (losses,) = facts.one.losses(start, [(watched, places)])
    rise, noise = float(losses[1, 0] - losses[0, 0]), rounding(rounding_of(watched, start), losses)
    least = max(2 * apart * _WRONG * element.line_start.landscape.largest_gradient, noise)
    return min(abs(said), abs(rise)) > least and said * rise < 0


def _leads_up(found: Finding) -> bool:
    return bool((np.multiply(found.evidence["gradient"], found.evidence["slope"]) < 0).any())


def _derivative(objective: OwnObjective, value: float) -> Finding | None:
    found = check_objective(objective, value)
    return next((finding for finding in found if finding.cause == "wrong_gradient"), None)


def _place(cut: Cut | None) -> tuple[dict[str, Any], str]:
    return ({"where": None}, "") if cut is None else ({"where": cut.to_dict()}, f": {cut.sentence}")


def _held(element: Measured) -> Judgement | None:
    """A value that something outside the optimizer puts back at every step."""
    if element.facts.run.settings.optimizer == "lbfgs" and not element.is_away:
        # It stops by itself.
        return None
    tail = slice(-element.tail, None)
    path, slopes = element.path[tail], element.slopes[tail]
    rate = float(element.facts.run.lrs[-1, element.index])
    steps = rate * np.abs(slopes)
    if element.facts.run.divisors is not None:
        # The divisor lags behind the gradient, and near a minimum both are rounding.
        steps = np.minimum(steps / float(element.facts.run.divisors[element.index]), rate) * 1e-2
    rounding = 64 * rounding_of(element.watched, element.facts.run.final)
    wants = steps > rounding * max(1e-3, float(np.abs(path).max()))
    is_one_way = np.abs(np.sign(slopes).sum()) >= 0.9 * len(slopes)
    if np.ptp(path) != 0 or wants.mean() < 0.9 or not is_one_way:
        return None
    cut, value = _ask(element, find_cut), float(path[-1])
    place = f" ({cut.location})" if cut is not None and cut.location else ""
    why = f"it is put back to {element.show(value)} at every step{place}"
    evidence = {"value": value, **_place(cut)[0]}
    return Judgement("at_bound", evidence, why, "widen the limits, or start it inside them")


def _twin(element: Measured) -> Judgement | None:
    row, other = element.watched.row, element.facts.twins.get(element.index)
    if other is None:
        return None
    what = "filter" if element.is_of_filter else "row"
    why = f"{what} {row} has become the same as {what} {other}"
    return Judgement("duplicate", {"same_as": other}, why, f"start {what} {row} elsewhere")


def _too_large(element: Measured) -> Judgement | None:
    tail, line, own = element.path[-element.tail :], element.line_final, element.own
    reach, moves = float(np.ptp(tail)), np.diff(tail)
    extent = reach / element.parameter.tolerance
    if extent <= 1 or len(moves) < 4:
        return None
    turns = float((np.sign(moves[1:]) != np.sign(moves[:-1])).mean())
    curvature = None if own is None else own.curvature
    product = None if curvature is None else element.rate * curvature
    passed = [line.at(float(v)) for v in tail]
    # Where the loss falls to an end of the range, what is left of the way is no bounce.
    low = min(passed) if own is None or curvature is None else own.loss
    last, before = float(element.path[-1]), float(element.path[-2])
    over = product is not None and product > _NEAR_BOUND * element.limit
    # A wide line's height is no measure of what is beyond its bound.
    bar = element.clear(last, before, line, 0.0) if over else element.clear(last, before, line)
    excess = float(np.mean(passed)) - low
    counts = excess > bar
    width = element.parameter.width
    wild = extent > _WILD and (turns > 0.4 or np.abs(moves).max() > 0.1 * width)
    if not counts or not (over or wild):
        return None
    # On other batches, too, it costs something.
    lowest = float(tail[np.argmin(passed)])
    if own is not None and curvature is not None:
        lowest = own.value
    some = tail[np.linspace(0, len(tail) - 1, _PASSED).astype(int)]
    facts, places = element.facts, np.append(some, lowest)
    (losses,) = facts.checked.losses(facts.run.final, [(element.watched, places)])
    if not facts.clear_gain(losses[:-1].mean(axis=0), losses[-1], bar):
        return None
    evidence = {"lr_times_curvature": product, "limit": element.limit}
    evidence |= {"extent": reach, "turns": turns, "excess_loss": excess}
    # A rate that leaves a bounce of one tolerance, where noise makes it; else one that is stable.
    factor = 1 / extent
    if product is not None and product > 0:
        stable = 0.5 * element.limit / product
        factor = stable if over else min(max(factor, 1e-3), stable)
    spread = element.shown.show(reach, 1) if element.shown.is_angle else f"{reach:.2g}"
    why = f"it bounces over {spread} to the end"
    if over:
        why += f": lr x curvature is {times(product or 0)}, and stable is up to {element.limit:.3g}"
    return Judgement("step_too_large", evidence, why, _rate_advice(element, factor), factor)


def _basin(element: Measured) -> Judgement | None:
    own, better, began = element.own, element.better, float(element.path[0])
    if better is not None and (thrown := _thrown_out(element, better)) is not None:
        return thrown
    if better is not None and own is not None:
        there, lower = element.show(better.value), own.loss - better.loss
        why = f"its line has a lower minimum at {there} (loss lower by {lower:.3g})"
        evidence = {"minimum": element.value(own.value), "loss": own.loss}
        if (twin := _twin(element)) is not None:
            why += f"; {twin.why}"
            evidence |= twin.evidence
    elif better is not None:
        there, evidence = element.show(better.value), {"lower_minimum": element.value(better.value)}
        why = f"it has come to where its line is level, and a minimum is at {there}"
        helps = f"start it at {there}, and lower its learning rate"
        return Judgement("flat_start", evidence, why, helps)
    else:
        # What the first line shows may change as the rest of the model learns.
        better = element.better_at_first
        if better is None or element.facts.still_falls:
            return None
        # Where it was lower there before anything was learned than it is now, this is proved.
        if not element.was_lower_at(better.value) and (
            not element.is_away
            # It has hardly left its start: what holds it back is its pace.
            or abs(float(element.path[-1]) - began) < HALF_WAY * element.gap
        ):
            return None
        there, evidence = element.show(better.value), {"start": element.value(began)}
        why = f"it began at {element.show(began)}, outside the basin of its line's lowest minimum"
        why += f" at {there}"
    evidence |= {"lower_minimum": element.value(better.value), "lower_loss": better.loss}
    return Judgement("wrong_basin", evidence, why, f"start it at {there}")


def _thrown_out(element: Measured, better: CriticalPoint) -> Judgement | None:
    """An element that began in the basin of a minimum as low, where its rate does not hold."""
    line = element.line_final
    first = element.attractor(line, 0)
    if first is None or first is element.own or first.curvature is None or first.basin is None:
        return None
    # The same filter may be a minimum at two values.
    allowed = element.clear(first.value, better.value, line)
    if first.loss - better.loss > allowed:
        return None
    there = element.show(first.value)
    why = f"it began in the basin of its line's lowest minimum at {there} and was thrown out of it"
    evidence: dict[str, Any] = {"lower_minimum": element.value(first.value)}
    if element.facts.run.divisors is not None:
        # A step is as long as the rate, however steep the line.
        longest, reach = _leap(element, first)
        if longest <= reach:
            return None
        factor = _SHORT_STEP * reach / longest
        evidence |= {"longest_step": longest, "reach": reach}
        why += (
            f": its longest step was {longest:.3g}, and the basin ends {reach:.3g} from its start"
        )
    else:
        product = element.rate * first.curvature
        if product <= _NEAR_BOUND * element.limit:
            return None
        factor = 0.5 * element.limit / product
        evidence |= {"lr_times_curvature": product, "limit": element.limit}
        why += (
            f": lr x curvature there is {times(product)}, and stable is up to {element.limit:.3g}"
        )
    return Judgement("step_too_large", evidence, why, _rate_advice(element, factor), factor)


def _leap(element: Measured, first: CriticalPoint) -> tuple[float, float]:
    """The longest step, and how far the start is from the nearer end of its basin."""
    assert first.basin is not None
    start = float(element.parameter.wrap(element.path[0]))
    reach = min(abs(float(element.parameter.offset(end, start))) for end in first.basin)
    return float(np.abs(np.diff(element.path)).max()), reach


def _risen(element: Measured) -> Judgement | None:
    """One that a step led out of the basin it began in, in a training whose loss has risen."""
    facts = element.facts
    first = element.attractor(element.line_start, 0)
    if not facts.run.is_finite or not facts.has_risen or first is None or first.basin is None:
        return None
    longest, reach = _leap(element, first)
    if longest <= reach:
        return None
    began, ended = facts.run.losses[0], facts.run.losses[-1]
    why = (
        f"the loss rose from {began:.3g} to {ended:.3g}, and a step of {longest:.3g} led it out of "
    )
    why += f"its basin, which ends {reach:.3g} from its start"
    evidence = {"longest_step": longest, "reach": reach}
    factor = min(_SHORT_STEP, _SHORT_STEP * reach / longest)
    return Judgement("step_too_large", evidence, why, _rate_advice(element, factor), factor)


def _on_top(element: Measured) -> Judgement | None:
    """One that began on a maximum, and has not come far from it."""
    for point in element.line_start.landscape.points if element.is_away else ():
        apart = np.abs(element.parameter.offset(element.path[[0, -1]], point.value))
        is_top = point.kind == "maximum" and point.curvature is not None
        # No descent leads up to it.
        if is_top and apart[0] <= apart[1] <= _ON_TOP * element.parameter.tolerance:
            top, evidence = element.show(point.value), {"maximum": element.value(point.value)}
            why = f"it began at {element.show(float(element.path[0]))}, beside the maximum of its "
            why += f"line at {top}"
            return Judgement("flat_start", evidence, why, "start it elsewhere")
    return None


def _swings(element: Measured) -> Judgement | None:
    own = element.own
    if own is None or own.curvature is None or not element.is_away or not element.crosses:
        return None
    apart, _ = element.swing
    part = max(2, int(LAST * len(element.path)))
    before = np.abs(element.parameter.offset(element.path[-2 * part : -part], own.value)).max()
    if element.rate * own.curvature > _NEAR_BOUND * element.limit or before <= apart:
        return None
    spread = element.shown.show(apart, 1) if element.shown.is_angle else f"{apart:.2g}"
    why = f"it still swings about {element.show(own.value)}, by up to {spread}"
    helps = "more steps, or less momentum" if element.facts.run.settings.momentum else "more steps"
    return Judgement("step_too_small", {"swing": apart}, why, helps)


def _leapt(element: Measured) -> Judgement | None:
    """One that a step led past its minimum, farther than it began from it."""
    own = element.own
    if own is None or not element.is_away:
        return None
    offsets, moves = (
        element.parameter.offset(element.path, own.value),
        np.abs(np.diff(element.path)),
    )
    at, way = int(moves.argmax()), element.way
    longest, is_across = float(moves[at]), offsets[at] * offsets[at + 1] < 0
    if not is_across or way >= element.gap or longest <= HALF_WAY * element.gap:
        return None
    start, there, end = (element.show(v) for v in (element.path[0], own.value, element.path[-1]))
    why = f"a step of {longest:.3g} led it from {start} past its minimum at {there}, to {end}"
    evidence, factor = {"longest_step": longest, "distance": way}, _SHORT_STEP * way / longest
    return Judgement("step_too_large", evidence, why, _rate_advice(element, factor), factor)


def _too_slow(element: Measured) -> Judgement | None:
    own = element.own
    if own is None or not element.is_away:
        return None
    slope, _ = _slope_at_end(element)
    gain = element.line_final.at(float(element.path[-1])) - own.loss
    if abs(slope) * element.gap < _PLATEAU * gain:
        # On a straight way down this would be all of the gain.
        there = element.show(own.value)
        why = f"it stands on a plateau: at {there} the loss is lower by {gain:.2g}, of which its "
        why += f"slope would give {abs(slope) * element.gap:.2g} on the way there"
        measured = {"slope": slope, "distance": element.gap, "gain": gain}
        return Judgement("flat_start", measured, why, "start it nearer to there")
    gone = abs(float(element.path[-1] - element.path[0]))
    curvature = own.curvature
    if curvature is not None:
        ahead = element.gap, element.way
        there, factor = f"on its way to {element.show(own.value)}", math.inf
    else:
        # Its minimum is beyond the range. On the way to one, slopes shrink as distances do.
        last, began = float(element.path[-1]), float(element.path[0])
        ahead = abs(element.line_final.slope(last)), abs(element.line_start.slope(began))
        there, factor = "descending", element.parameter.width / (2 * gone) if gone else math.inf
    shrink = ahead[0] / ahead[1] if ahead[1] > 0 else 1.0
    # What remains after T steps falls like exp(-rate T).
    if 0 < shrink < 0.999:
        factor = math.log(_ARRIVED) / math.log(shrink)
    if curvature is not None and element.rate * curvature > 0:
        factor = min(factor, 0.5 * element.limit / (element.rate * curvature))
    factor = min(max(factor, 2.0), 1e4)
    falls = element.facts.still_falls
    evidence: dict[str, Any] = {"distance": None, "moved": gone, "minimum": None}
    if curvature is not None:
        evidence |= {"distance": element.gap, "minimum": element.value(own.value)}
    evidence |= {"factor": factor, "still_falls": falls}
    why = f"it is still {there}, and the loss "
    why += "still falls" if falls else "no longer falls"
    if falls and element.facts.run.settings.schedule != "constant":
        why += " as far as its schedule lets it"
    if falls or not element.facts.has_rest:
        return Judgement("step_too_small", evidence, why, "more steps, or a larger rate", factor)
    return Judgement("too_slow_beside_others", evidence, why, _rate_advice(element, factor), factor)


def _beside_kernel(element: Measured) -> Judgement | None:
    if element.watched.label not in element.facts.stuck:
        return None
    fitted = element.facts.fitted[element.watched.label]
    if abs(element.parameter.offset(element.path[-1], fitted)) <= element.parameter.tolerance:
        return None
    there = element.show(fitted)
    why = f"the filter of the least-squares kernel has it at {there}; its own line does not show it"
    evidence = {"least_squares": element.value(fitted)}
    return Judgement("wrong_basin", evidence, why, f"start the whole filter there, it at {there}")


def _carried_along(element: Measured) -> Judgement | None:
    """Its line's minimum, at which it stands, moves on as the rest of the model learns."""
    part = max(1, int(LAST * len(element.path)))
    last, before = element.path[-part:], element.path[-2 * part : -part]
    # Steps of a path are no independent measurements of it; a steady pace has std drift / sqrt(12).
    drift, noise = float(last.mean() - before.mean()), 2 * float(last.std())
    # As many steps again lead this far at the pace of the last ones, or less far if it shrinks.
    ahead = abs(drift) / LAST
    earlier = float(before.mean() - element.path[-3 * part :][:part].mean())
    if 0 < drift / (earlier or math.inf) < 1:
        shrinks = drift / earlier
        ahead = min(ahead, abs(drift) * shrinks / (1 - shrinks))
    if not element.facts.still_falls or abs(drift) <= noise or ahead <= element.parameter.tolerance:
        return None
    if element.gap > ahead:
        # It does not stand at it.
        return None
    ends = element.show(float(before.mean())), element.show(float(last.mean()))
    why = "its line's minimum moves on as the rest of the model learns, and it follows: from a "
    why += f"mean of {ends[0]} to {ends[1]} within {part} steps; the loss still falls"
    factor = 2.0
    evidence = {"drift": drift, "within_steps": part, "factor": factor, "still_falls": True}
    return Judgement("step_too_small", evidence, why, "more steps, or a larger rate", factor)


def _unresolved(element: Measured) -> Judgement | None:
    line = element.line_final
    if line.is_resolved:
        return None
    why = f"the loss along it varies faster than {len(line.values)} points show"
    return Judgement(
        "inconclusive",
        {"points": len(line.values)},
        why,
        "take more steps, for which the lines get more points",
    )


def _rate_advice(element: Measured, factor: float) -> str:
    # That of the user: a schedule may begin with another one.
    rate = element.facts.run.rates[element.watched.name] * factor
    return f"a learning rate of {rate:.2g} for {element.watched.group}"


# In this order; the first that finds something is the verdict.
QUESTIONS: tuple[Callable[[Measured], Judgement | None], ...] = (
    _badly_fed, _wrong, _blown_up, _nonfinite, _gradient, _held, _swings, _too_large, _risen,
    _basin, _twin, _on_top, _leapt, _too_slow, _beside_kernel, _carried_along, _unresolved,
)  # fmt: skip


def judge(element: Measured) -> Judgement:
    """Returns what holds an element back, or `healthy`."""
    found = (question(element) for question in QUESTIONS)
    return next((f for f in found if f is not None), Judgement("healthy", {}, "", ""))


def _ask(
    element: Measured, ask: Callable[[OwnObjective, float], Known | None], at: State | None = None
) -> Known | None:
    """Asks the loss on one batch as a function of the element; at a state, or at its very end."""
    training, watched = element.facts.training, element.watched
    state, name, place = element.facts.run.final, watched.name, watched.index
    state = at or state
    values, place = state[name], place * (2 if watched.kind == "vector" else 1)
    source, target = element.facts.batch
    with suppress(GabordiagError), training.kept(0):
        training.load({**state, name: values})
        inputs = tuple(source) if isinstance(source, list) else source
        loss = ModuleLoss(training.model, (Element(name, place, watched.label),), inputs)
        loss.loss_function, loss._target = training.loss, target
        value = float(values.reshape(-1)[place])
        objective = OwnObjective(loss, "loss", np.array([value]), 0)
        objective.parameter = replace(element.parameter, start=value)
        return ask(objective, value)
    return None
