"""Each watched element of a training judged: where it ended on its own line, and why there.

A gradient that never arrives comes first, then what holds the element, then the size of its steps,
then the line: a lower minimum elsewhere, or one that the element has not come to.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from gabordiag.checks.cuts import Cut
from gabordiag.checks.probing import find_cut, find_unused
from gabordiag.diagnosis.training.lines import Lines, shown
from gabordiag.dynamics.outcomes import (
    OUTCOME_NAMES,
    SETTLED_SHARE,
    Tails,
    classify,
    surroundings,
    tail_length,
)
from gabordiag.dynamics.theory import BOUNDS, bound_entry
from gabordiag.dynamics.training import TrainingRun
from gabordiag.errors import GabordiagError
from gabordiag.landscape.critical import CriticalPoint
from gabordiag.landscape.many_lines import SampledLine
from gabordiag.objective.space import FloatArray, Parameter
from gabordiag.own.evaluation import OwnObjective
from gabordiag.own.modules import Element, ModuleLoss
from gabordiag.own.training import Batch, Training, Watched, seen_weight
from gabordiag.results import Finding, finite_or_none
from gabordiag.wording import times

# A gain counts if it is this part of the loss that the training began with ...
GAIN = 2e-3
# ... this part of the line's height ...
_OF_HEIGHT = 0.02
# ... and so many standard errors over the batches.
_ERRORS = 2.0
# An element that ranges over more than so many tolerances bounces.
_WILD = 4.0
# On a maximum is what is within so many tolerances of it.
_ON_TOP = 5.0
# Loss that still falls by this part of its whole fall, in the last fifth of the steps, says that
# the training is not over.
_STILL_FALLING, _LAST = 0.05, 0.2
# torch's default of the Adam family.
_ADAM_BETA1 = 0.9
# How near to its minimum a rate should bring an element: to this part of the way.
_ARRIVED = 0.01
# Two filters are the same where all their numbers agree to this part of the tolerance.
_SAME = 0.5
# lr x curvature from which it is too large, as a part of the bound.
_NEAR_BOUND = 0.95


@dataclass(frozen=True, eq=False)
class Judged:
    """One watched element with its verdict.

    Attributes:
        watched: Which number.
        parameter: Its coordinate.
        verdict: `healthy` or a cause.
        outcome: As of any run, on the line at the end.
        start: Value before the training.
        final: Value after it; None where it is not finite.
        gradient_share: Its gradient's size over that of all parameters together.
        line_start: The loss along it, everything else as before the training.
        line_final: As after it.
        goal: The minimum of its last line where it should be, as a coordinate; None where there is
            none.
        findings: The primary cause, with what was measured.
        helps: What to do, in words; empty for nothing.
        factor: By which its learning rate should be multiplied; None where the rate is no matter.
    """

    watched: Watched
    parameter: Parameter
    verdict: str
    outcome: str
    start: float
    final: float | None
    gradient_share: float | None
    line_start: SampledLine
    line_final: SampledLine
    goal: float | None
    findings: tuple[Finding, ...]
    helps: str
    factor: float | None = None

    @property
    def shown(self) -> Parameter:
        """The element's value as a parameter, for people."""
        return shown(self.watched, self.parameter)

    def value(self, coordinate: float) -> float:
        """Returns the value at a coordinate; of an angle, within one period."""
        return value_at(self.watched, self.parameter, coordinate)

    @property
    def moved(self) -> float | None:
        """How far the value went, without whole periods."""
        if self.final is None:
            return None
        return float(self.shown.offset(self.final, self.start))

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows; critical points have values, not coordinates."""
        return {
            "name": self.watched.label,
            "parameter": self.watched.group,
            "tensor": self.watched.element.name,
            "filter": self.watched.row,
            "unit": "rad" if self.parameter.is_angle else "",
            "period": self.parameter.period,
            "verdict": self.verdict,
            "outcome": self.outcome,
            "start": self.start,
            "final": self.final,
            "moved": self.moved,
            "goal": None if self.goal is None else self.value(self.goal),
            "gradient_share": self.gradient_share,
            "line": {
                "start": [self._point(point) for point in self.line_start.landscape.points],
                "final": [self._point(point) for point in self.line_final.landscape.points],
            },
            "findings": [finding.to_dict() for finding in self.findings],
            "helps": self.helps,
        }

    def _point(self, point: CriticalPoint) -> dict[str, Any]:
        basin = point.basin
        curvature = point.curvature
        if self.watched.kind == "log":
            # d2L/dv2 = d2L/du2 / v^2 where dL/du = 0 and u = log v.
            curvature = None if curvature is None else curvature / math.exp(point.value) ** 2
            basin = None if basin is None else (math.exp(basin[0]), math.exp(basin[1]))
        value = self.value(point.value)
        return replace(point, value=value, curvature=curvature, basin=basin).to_dict()


@dataclass(frozen=True, eq=False)
class Facts:
    """What the elements of one training are judged by.

    Attributes:
        training: The user's.
        run: The training run.
        lines: Losses along the elements.
        batch: For finding the line of code at fault.
    """

    training: Training
    run: TrainingRun
    lines: Lines
    batch: Batch

    @cached_property
    def scale(self) -> float:
        """The loss that the training began with."""
        first = self.run.losses[:10]
        finite = first[np.isfinite(first)]
        return float(np.abs(finite).mean()) if len(finite) else math.inf

    @cached_property
    def still_falls(self) -> bool:
        """Whether the loss still falls when the steps end."""
        losses = self.run.losses
        part = max(1, int(_LAST * len(losses)))
        last, before = losses[-part:].mean(), losses[-2 * part : -part].mean()
        whole = losses[:part].mean() - last
        noise = 2 * losses[-part:].std() / math.sqrt(part)
        return bool(before - last > max(_STILL_FALLING * whole, noise, 0.0) and whole > 0)

    @cached_property
    def twins(self) -> dict[int, int]:
        """Filter -> an earlier filter that has become the same."""
        return _find_twins(self)


@dataclass(frozen=True, eq=False)
class _Subject:
    """One element on its way to a verdict."""

    facts: Facts
    index: int

    @property
    def watched(self) -> Watched:
        return self.facts.run.watched[self.index]

    @property
    def parameter(self) -> Parameter:
        return self.facts.lines.parameters[self.index]

    @property
    def line(self) -> SampledLine:
        return self.facts.lines.final[self.index]

    @property
    def path(self) -> FloatArray:
        path: FloatArray = self.facts.run.coordinates[:, self.index]
        return path

    @property
    def slopes(self) -> FloatArray:
        slopes: FloatArray = self.facts.run.gradients[:, self.index]
        return slopes

    @cached_property
    def tail(self) -> int:
        return max(2, min(len(self.path), max(20, tail_length(len(self.path)))))

    @cached_property
    def own(self) -> CriticalPoint | None:
        """The minimum into whose basin the element's last value falls."""
        if not np.isfinite(self.path[-1]):
            return None
        return self.line.landscape.attractor_of(float(self.parameter.wrap(self.path[-1])))

    @cached_property
    def better(self) -> CriticalPoint | None:
        """The lowest minimum elsewhere on the line, if it is clearly lower."""
        own = self.own
        minima = [p for p in self.line.landscape.attractors if p.curvature is not None]
        if own is None or not minima:
            return None
        best = min(minima, key=lambda point: point.loss)
        return best if own.loss - best.loss > self.clear(best.value, own.value) else None

    @cached_property
    def better_at_first(self) -> CriticalPoint | None:
        """The lowest minimum of the first line, if the start lay beside it, and the end does."""
        line = self.facts.lines.start[self.index]
        landscape = line.landscape
        first = landscape.attractor_of(float(self.parameter.wrap(self.path[0])))
        minima = [p for p in landscape.attractors if p.curvature is not None]
        if first is None or not minima:
            return None
        best = min(minima, key=lambda point: point.loss)
        if first.loss - best.loss <= self.clear(best.value, first.value, line):
            return None
        last = float(self.parameter.wrap(self.path[-1]))
        return None if landscape.attractor_of(last) is best else best

    def clear(
        self,
        one: float,
        other: float,
        line: SampledLine | None = None,
        part: float = _OF_HEIGHT,
    ) -> float:
        """Returns which difference of the losses at two coordinates counts."""
        line = self.line if line is None else line
        error = 0.0
        if line.batches.shape[1] > 2:
            rows = [
                int(np.abs(self.parameter.offset(line.values, v)).argmin()) for v in (one, other)
            ]
            difference = line.batches[rows[0]] - line.batches[rows[1]]
            error = float(difference.std(ddof=1)) / math.sqrt(len(difference))
        return max(
            4 * line.noise,
            GAIN * self.facts.scale,
            part * line.height,
            _ERRORS * error,
        )

    @cached_property
    def rate(self) -> float:
        """Learning rate at the end, over what the optimizer divides the gradient by."""
        run = self.facts.run
        rate = float(run.lrs[:, self.index].max()) * self.watched.stretch(run.final)
        if run.divisors is not None and math.isfinite(run.divisors[self.index]):
            rate /= float(run.divisors[self.index])
        return rate

    @cached_property
    def limit(self) -> float:
        """What the rate times the curvature must stay below."""
        settings = self.facts.run.settings
        # RMSprop divides as Adam does, and is heavy ball on what is left.
        entry = bound_entry(settings) or BOUNDS["heavy_ball"]
        return entry.limit(_ADAM_BETA1 if entry.is_estimate else settings.momentum)

    @property
    def gap(self) -> float:
        """How far the last value is from its minimum."""
        if self.own is None:
            return math.nan
        return abs(float(self.parameter.offset(self.path[-1], self.own.value)))

    @property
    def is_away(self) -> bool:
        """Whether the element could clearly lower the loss by going to its minimum."""
        if self.own is None or self.own.basin is None:
            return False
        # A range may be far wider than the basin.
        low, high = self.own.basin
        if self.gap <= min(self.parameter.tolerance, SETTLED_SHARE * (high - low)):
            return False
        here = float(self.path[-1])
        excess = self.line.at(here) - self.own.loss
        # The line's height is no measure of a gain near its minimum.
        return excess > self.clear(self.own.value, here, part=0.0)

    def show(self, coordinate: float) -> str:
        """Returns the value at a coordinate for people."""
        value = value_at(self.watched, self.parameter, coordinate)
        amount = shown(self.watched, self.parameter)
        return amount.show(value, 1 if amount.is_angle else 2)


def value_at(watched: Watched, parameter: Parameter, coordinate: float) -> float:
    """Returns the value at a coordinate; of an angle, within one period."""
    if watched.kind == "log":
        return math.exp(coordinate)
    return float(parameter.wrap(coordinate))


# Verdict, evidence, why, what helps, and by what the learning rate should be multiplied.
Judgement = tuple[str, dict[str, Any], str, str, float | None]
Question = Callable[[_Subject], Judgement | None]


def judge_elements(facts: Facts) -> tuple[Judged, ...]:
    """Returns every watched element with its verdict."""
    return tuple(_judge(_Subject(facts, index)) for index in range(len(facts.run.watched)))


def _judge(subject: _Subject) -> Judged:
    judgement: Judgement = ("healthy", {}, "", "", None)
    for question in QUESTIONS:
        found = question(subject)
        if found is not None:
            judgement = found
            break
    verdict, evidence, why, helps, factor = judgement
    run, index = subject.facts.run, subject.index
    total = float(np.sqrt(np.nanmean(run.total**2)))
    share = float(np.sqrt(np.nanmean(run.gradients[:, index] ** 2))) / total if total else None
    goal = subject.own if subject.better is None else subject.better
    if verdict == "wrong_basin" and subject.better is None:
        goal = subject.better_at_first
    roled: tuple[Finding, ...] = ()
    if verdict != "healthy":
        roled = (Finding(verdict, True, None, evidence, why, role="primary"),)
    last = float(subject.path[-1])
    return Judged(
        subject.watched,
        subject.parameter,
        verdict,
        _outcome(subject, None if goal is None else goal.value),
        value_at(subject.watched, subject.parameter, float(subject.path[0])),
        value_at(subject.watched, subject.parameter, last) if math.isfinite(last) else None,
        finite_or_none(share),
        subject.facts.lines.start[index],
        subject.line,
        None if goal is None else goal.value,
        roled,
        helps,
        factor,
    )


def _outcome(subject: _Subject, goal: float | None) -> str:
    """Returns the outcome of the element's path on its last line, as of any run."""
    landscape = subject.line.landscape
    parameter = replace(landscape.parameter, target=goal)
    if goal is None or not subject.facts.run.is_finite:
        return "nonfinite" if not subject.facts.run.is_finite else "frozen"
    points = tuple(replace(p, is_target=p.value == goal) for p in landscape.points)
    around = surroundings(replace(landscape, parameter=parameter, points=points))
    tail = slice(-subject.tail, None)
    slope = np.abs(subject.slopes[-1:]) * parameter.tolerance
    tails = Tails(
        subject.path[tail, None, None],
        subject.facts.run.losses[tail, None],
        slope,
        np.array([bool((subject.slopes != 0).any())]),
    )
    return OUTCOME_NAMES[int(classify(around, tails)[0][0])]


def _nonfinite(subject: _Subject) -> Judgement | None:
    facts = subject.facts
    if facts.run.is_finite:
        return None
    # The run broke off: what can be asked is whether this rate could have held on the first line.
    line = facts.lines.start[subject.index]
    curvatures = [p.curvature for p in line.landscape.points if p.curvature is not None]
    bend = max((abs(c) for c in curvatures), default=0.0)
    product = subject.rate * bend
    evidence = {"lr_times_curvature": product, "limit": subject.limit, "step": len(subject.path)}
    if product > subject.limit:
        why = (
            f"the loss is not finite after {len(subject.path) - 1} steps, and lr x curvature is "
            f"{product:.3g}, above {subject.limit:.3g}"
        )
        factor = 0.5 * subject.limit / product
        return "step_too_large", evidence, why, _rate_advice(subject, factor), factor
    if not np.isfinite(subject.slopes).all() and np.isfinite(facts.run.losses[:-1]).all():
        why = f"its gradient is not finite at step {int(np.argmin(np.isfinite(subject.slopes)))}"
        helps = "find the 0/0, the root at zero or the overflow behind this gradient"
        if np.isfinite(facts.run.losses[int(np.argmin(np.isfinite(subject.slopes)))]):
            return "nonfinite_gradient", evidence, why, helps, None
    why = f"the loss is not finite after {len(subject.path) - 1} steps"
    return "inconclusive", evidence, why, "lower the learning rates", None


def _gradient(subject: _Subject) -> Judgement | None:
    slopes, facts = subject.slopes, subject.facts
    if (slopes[-subject.tail :] != 0).any():
        return None
    never = not (slopes != 0).any()
    start, line = facts.lines.start[subject.index], subject.line
    since = 0 if never else int(np.flatnonzero(slopes)[-1]) + 1
    evidence: dict[str, Any] = {
        "since_step": since,
        "height_of_line": line.height,
        "arrives": bool(facts.run.arrived[subject.index]),
    }
    when = "" if never else f" since step {since}"
    depends = not line.is_flat or (never and not start.is_flat)
    if not depends:
        unused = _ask(subject, find_unused)
        because = f": {unused.sentence}" if unused is not None else ""
        evidence["where"] = None if unused is None else unused.to_dict()
        why = f"the loss does not depend on it{when}{because}"
        helps = "check that what follows lets it through: weights, biases, a ReLU"
        return "flat_objective", evidence, why, helps, None
    if not never and not subject.is_away and subject.better is None:
        # At the very minimum a gradient may be zero.
        return None
    cut = _ask(subject, find_cut)
    evidence["where"] = None if cut is None else cut.to_dict()
    if cut is None and facts.run.arrived[subject.index]:
        why = f"it stands where the loss is level{when}, and the gradient is zero"
        return "flat_start", evidence, why, "start it elsewhere", None
    because = "" if cut is None else f": {cut.sentence}"
    helps = "compute from it with torch operations alone"
    if cut is not None and cut.kind == "clamp":
        helps = "start it inside the limits, or leave the clamp out"
    return "no_gradient", evidence, f"no gradient arrives{when}{because}", helps, None


def _held(subject: _Subject) -> Judgement | None:
    """A value that something outside the optimizer puts back at every step."""
    tail = slice(-subject.tail, None)
    path, slopes = subject.path[tail], subject.slopes[tail]
    rate = float(subject.facts.run.lrs[-1, subject.index])
    steps = rate * np.abs(slopes)
    if subject.facts.run.divisors is not None:
        steps = np.full_like(steps, rate * 1e-2)
    rounding = 64 * float(
        torch.finfo(subject.facts.run.final[subject.watched.element.name].dtype).eps
    )
    wants = steps > rounding * max(1e-3, float(np.abs(path).max()))
    if np.ptp(path) != 0 or wants.mean() < 0.9:
        return None
    if np.abs(np.sign(slopes).sum()) < 0.9 * len(slopes):
        return None
    cut = _ask(subject, find_cut)
    evidence = {"value": float(path[-1]), "where": None if cut is None else cut.to_dict()}
    place = "" if cut is None else f" ({cut.location})" if cut.location else ""
    why = f"it is put back to {subject.show(float(path[-1]))} at every step{place}"
    return "at_bound", evidence, why, "widen the limits, or start it inside them", None


def _twin(subject: _Subject) -> Judgement | None:
    row = subject.watched.row
    other = None if row is None else subject.facts.twins.get(row)
    if other is None:
        return None
    why = f"filter {row} has become the same as filter {other}"
    return "duplicate", {"same_as": other}, why, f"start filter {row} elsewhere", None


def _too_large(subject: _Subject) -> Judgement | None:
    tail = subject.path[-subject.tail :]
    extent = float(np.ptp(tail)) / subject.parameter.tolerance
    moves = np.diff(tail)
    turns = float((np.sign(moves[1:]) != np.sign(moves[:-1])).mean()) if len(moves) > 1 else 0.0
    curvature = None if subject.own is None else subject.own.curvature
    product = None if curvature is None else subject.rate * curvature
    if extent <= 1 or len(moves) < 4:
        return None
    losses = np.array([subject.line.at(float(v)) for v in tail])
    low = subject.own.loss if subject.own is not None else float(subject.line.losses.min())
    excess = float(losses.mean()) - low
    counts = excess > subject.clear(float(subject.path[-1]), float(subject.path[-2]))
    over = product is not None and product > _NEAR_BOUND * subject.limit
    wild = extent > _WILD and (turns > 0.4 or np.abs(moves).max() > 0.1 * _width(subject))
    if not counts or not (over or wild):
        return None
    evidence = {
        "lr_times_curvature": product,
        "limit": subject.limit,
        "extent": float(np.ptp(tail)),
        "turns": turns,
        "excess_loss": excess,
    }
    # A rate that leaves a bounce of one tolerance.
    factor = 1 / extent
    if product is not None and product > 0:
        factor = min(max(factor, 1e-3), 0.5 * subject.limit / product)
    amount = shown(subject.watched, subject.parameter)
    reach = float(np.ptp(tail))
    spread = amount.show(reach, 1) if amount.is_angle else f"{reach:.2g}"
    why = f"it bounces over {spread} to the end"
    if over:
        why += f": lr x curvature is {times(product or 0)}, and stable is up to {subject.limit:.3g}"
    return "step_too_large", evidence, why, _rate_advice(subject, factor), factor


def _width(subject: _Subject) -> float:
    return subject.parameter.high - subject.parameter.low


def _basin(subject: _Subject) -> Judgement | None:
    better, own = subject.better, subject.own
    if better is None or own is None:
        return None
    here = subject.show(float(subject.path[-1]))
    there = subject.show(better.value)
    evidence = {
        "minimum": value_at(subject.watched, subject.parameter, own.value),
        "lower_minimum": value_at(subject.watched, subject.parameter, better.value),
        "loss": own.loss,
        "lower_loss": better.loss,
    }
    drop = own.loss - better.loss
    why = f"it is at {here}, and its line has a lower minimum at {there} (loss lower by {drop:.3g})"
    return "wrong_basin", evidence, why, f"start it at {there}", None


def _began_beside(subject: _Subject) -> Judgement | None:
    """An element that is not at a minimum, and began beside a lower one."""
    best = subject.better_at_first
    if best is None or not subject.is_away:
        return None
    here, there = subject.show(float(subject.path[0])), subject.show(best.value)
    evidence = {
        "start": value_at(subject.watched, subject.parameter, float(subject.path[0])),
        "lower_minimum": value_at(subject.watched, subject.parameter, best.value),
        "lower_loss": best.loss,
    }
    why = f"it began at {here}, outside the basin of its line's lowest minimum at {there}"
    return "wrong_basin", evidence, why, f"start it at {there}", None


def _on_top(subject: _Subject) -> Judgement | None:
    """An element that is not at a minimum, and began on a maximum."""
    if not subject.is_away:
        return None
    first = float(subject.path[0])
    reach = _ON_TOP * subject.parameter.tolerance
    for point in subject.facts.lines.start[subject.index].landscape.points:
        near = abs(float(subject.parameter.offset(first, point.value))) <= reach
        if point.kind == "maximum" and near:
            top = subject.show(point.value)
            evidence = {"maximum": value_at(subject.watched, subject.parameter, point.value)}
            why = f"it began at {subject.show(first)}, on the maximum of its line at {top}"
            return "flat_start", evidence, why, "start it elsewhere", None
    return None


def _too_slow(subject: _Subject) -> Judgement | None:
    own = subject.own
    if own is None or not subject.is_away:
        return None
    gone = abs(float(subject.path[-1] - subject.path[0]))
    first = abs(float(subject.parameter.offset(subject.path[0], own.value)))
    shrink = subject.gap / first if first > 0 else 1.0
    # What remains after T steps falls like exp(-rate T).
    factor = math.log(_ARRIVED) / math.log(shrink) if 0 < shrink < 0.999 else math.inf
    curvature = own.curvature
    if curvature is not None and subject.rate * curvature > 0:
        factor = min(factor, 0.5 * subject.limit / (subject.rate * curvature))
    factor = min(max(factor, 2.0), 1e4)
    evidence = {
        "distance": subject.gap,
        "moved": gone,
        "minimum": own.value,
        "factor": factor,
        "still_falls": subject.facts.still_falls,
    }
    left = subject.show(own.value)
    if subject.facts.still_falls:
        why = f"it is still on its way to {left}, and the loss still falls"
        return "step_too_small", evidence, why, "more steps, or a larger rate", factor
    why = f"it is still on its way to {left}, and everything else has converged"
    return "too_slow_beside_others", evidence, why, _rate_advice(subject, factor), factor


def _rate_advice(subject: _Subject, factor: float) -> str:
    rate = float(subject.facts.run.lrs[0, subject.index]) * factor
    return f"a learning rate of {rate:.2g} for {subject.watched.group}"


# In this order; the first that finds something is the verdict.
QUESTIONS: tuple[Question, ...] = (
    _nonfinite,
    _gradient,
    _held,
    _twin,
    _too_large,
    _basin,
    _began_beside,
    _on_top,
    _too_slow,
)


def _ask(subject: _Subject, ask: Callable[[OwnObjective, float], Cut | None]) -> Cut | None:
    """Follows the element through one forward pass; None where that cannot be done."""
    facts, watched = subject.facts, subject.watched
    state, element = facts.run.final, watched.element
    # A clamp is recognised where it holds all numbers of its input: they are all this one.
    values = torch.full_like(
        state[element.name], float(state[element.name].reshape(-1)[element.index])
    )
    if watched.kind == "vector":
        values = state[element.name]
    source, target = facts.batch
    with suppress(GabordiagError), facts.training.kept(0):
        facts.training.load({**state, element.name: values})
        place = 2 * element.index if watched.kind == "vector" else element.index
        loss = _plain_loss(
            copy.copy(facts.training), Element(element.name, place, element.label), source
        )
        loss.loss_function = facts.training.loss
        loss._target = target
        value = float(values.reshape(-1)[place])
        objective = OwnObjective(loss, "loss", np.array([value]), 0)
        objective.parameter = replace(subject.parameter, start=value)
        return ask(objective, value)
    return None


def _plain_loss(training: Training, element: Element, source: Any) -> ModuleLoss:
    if isinstance(source, list):
        source = tuple(source)
    return ModuleLoss(training.model, (element,), source)


def _find_twins(facts: Facts) -> dict[int, int]:
    rows = [w.row for w in facts.run.watched if w.row is not None]
    if not rows or not facts.run.is_finite:
        return {}
    names = {w.element.name for w in facts.run.watched}
    owner = next(iter(names)).rpartition(".")[0]
    prefix = f"{owner}." if owner else ""
    count = facts.run.final[next(iter(names))].shape[0]
    kernels = seen_weight(facts.training, facts.run.final, facts.batch, count)
    columns: list[FloatArray] = []
    if kernels is not None:
        flat = kernels.double().cpu().reshape(count, -1)
        columns.append((flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-30)).numpy() / 0.02)
    else:
        for name, tensor in facts.run.final.items():
            if name.startswith(prefix) and tensor.ndim and tensor.shape[0] == count:
                values = tensor.double().cpu().reshape(count, -1).numpy()
                columns.append(values / (1e-2 * (np.ptp(values, axis=0) + 1e-12)))
    table = np.concatenate(columns, axis=1)
    twins: dict[int, int] = {}
    for row in sorted(set(rows)):
        for earlier in sorted(set(rows)):
            if earlier >= row or earlier in twins:
                continue
            if _are_close(facts, row, earlier) and np.linalg.norm(table[row] - table[earlier]) < 1:
                twins[row] = earlier
                break
    return twins


def _are_close(facts: Facts, row: int, earlier: int) -> bool:
    """Whether all watched numbers of two filters agree."""
    places: dict[str, dict[int, int]] = {}
    for index, watched in enumerate(facts.run.watched):
        if watched.row in (row, earlier):
            places.setdefault(watched.group, {})[watched.row] = index
    pairs = [found for found in places.values() if len(found) == 2]
    if not pairs:
        return False
    for found in pairs:
        parameter = facts.lines.parameters[found[row]]
        last = facts.run.coordinates[-1]
        apart = abs(float(parameter.offset(last[found[row]], last[found[earlier]])))
        if apart > _SAME * parameter.tolerance:
            return False
    return True


def by_filter(elements: Sequence[Judged]) -> dict[Any, list[Judged]]:
    """Returns the elements of each filter, or of each element that belongs to none."""
    found: dict[Any, list[Judged]] = {}
    for judged in elements:
        key = judged.watched.row
        found.setdefault(judged.watched.label if key is None else key, []).append(judged)
    return found
