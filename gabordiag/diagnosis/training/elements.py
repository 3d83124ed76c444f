"""Each watched element of a training judged: where it ended on its own line, and why there.

A gradient that never arrives comes first, then what holds the element, then the size of its steps,
then the line: a lower minimum elsewhere, or one that the element has not come to.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from gabordiag.checks.gradient import check_objective, find_cut, find_unused
from gabordiag.checks.graph import Cut, find_culprit
from gabordiag.dynamics.outcomes import SETTLED_SHARE, classify_one, surroundings, tail_length
from gabordiag.dynamics.theory import BOUNDS, bound_entry
from gabordiag.dynamics.training import TrainingRun
from gabordiag.errors import GabordiagError
from gabordiag.gabor_layer import GaborConv2d
from gabordiag.landscape.many_lines import POINTS, SampledLine, rounding, sample_lines
from gabordiag.landscape.points import CriticalPoint
from gabordiag.objective.space import FloatArray, Parameter
from gabordiag.own.evaluation import OwnObjective, tensors_in
from gabordiag.own.modules import Element, ModuleLoss
from gabordiag.own.parameters import is_angle_name, is_place_name
from gabordiag.own.training import (
    Batch,
    Evaluation,
    State,
    Training,
    Watched,
    row_count,
    seen_filters,
)
from gabordiag.results import Finding, finite_or_none
from gabordiag.wording import times

# A gain counts if it is this part of the loss that the elements are about, this part of the line's
# height, and so many standard errors over other batches.
GAIN, _OF_HEIGHT, _ERRORS = 2e-3, 0.02, 2.0
# An element that ranges over more than so many tolerances bounces; so many of the places that it
# passed are tried on other batches.
_WILD, _PASSED = 4.0, 8
# One with more than this part of its way before it has not arrived.
_HALF_WAY = 0.5
# On a maximum is what is within so many tolerances of it.
_ON_TOP = 5.0
# Loss that still falls by this part of its whole fall, or of what is left, in the last fifth of the
# steps, says that the training is not over.
_STILL_FALLING, _OF_LEFT, _LAST = 0.05, 0.2, 0.2
# How near to its minimum a rate should bring an element: to this part of the way.
_ARRIVED = 0.01
# Two filters are the same where all their numbers agree to this part of the tolerance.
_SAME = 0.5
# lr x curvature from which it is too large, as a part of the bound.
_NEAR_BOUND = 0.95
# A step that is this part of the way out of a basin does not lead out of it.
_SHORT_STEP = 0.1
# Beyond where an element was, what is positive is looked at up to this factor.
_FACTOR = 2.5
# Where the period is tried beside the element's own value: no special place.
_BESIDE = 0.3713057
# A slope that is this part of the steepest one of the line is none; from this part on its sign is
# known.
_LEVEL, _WRONG = 1e-3, 0.05
# A slope that leads on by less than this part of what is gained at the minimum is a plateau's.
_PLATEAU = 1e-2
# Losses agree that differ by this part of what they vary: a period, or a tolerance, apart.
_SAME_LOSS = 1e-3
# Forward passes on a batch that all lines together may take, in optimizer steps of the run, and at
# most so many batches.
_PASSES_PER_STEP, _MOST_BATCHES = 12, 8
# Lines that vary fast may take so many times as many.
_MORE_PASSES = 4
# What the lines claim is tried on so many other batches, if they take no more bytes; and on no less
# than so many where the model draws random numbers.
_MOST_CHECKED, _CHECKED_BYTES, _LEAST_CHECKED = 32, 2**28, 8

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
Known = TypeVar("Known")
# Layer, number of rows, and of which convolution they are the filters.
Rows = tuple[str, int, int | None]
# Range and period of every watched element, and the loss along it, all else as it was before and
# after the training.
Lines = Sequence[tuple[Parameter, SampledLine, SampledLine]]


@dataclass(frozen=True, eq=False)
class Facts:
    """What the elements of one training are judged by.

    The batch is for finding the line of code at fault; on the checked ones, which the lines do not
    know, or which are all there are (`is_whole`), it is tried what the lines claim. `fitted` are
    the coordinates of filters that least squares finds, by label; `stuck`, the labels of those that
    are far from there.
    """

    training: Training
    run: TrainingRun
    lines: Lines
    batch: Batch
    checked: Evaluation
    is_whole: bool
    _gradients: dict[str, Tensor] = field(default_factory=dict)
    fitted: Mapping[str, float] = field(default_factory=dict)
    stuck: frozenset[str] = frozenset()

    @cached_property
    def scale(self) -> float:
        """The loss that the elements are about: they may change it so much, or it is left.

        At most what the training began with, in which the offset of an output may be far larger.
        """
        first, last = np.abs(self.run.losses[:10]), np.abs(self.run.losses[-10:])
        if not np.isfinite(first).any():
            return math.inf
        began = float(first[np.isfinite(first)].mean())
        heights = [line.height for _, _, line in self.lines]
        return min(began, max(*heights, float(last.mean()))) if self.run.is_finite else began

    @cached_property
    def _falls(self) -> tuple[float, float, float]:
        """How far the loss fell in all steps and in the last fifth of them, and its noise."""
        losses = self.run.losses
        part = max(1, int(_LAST * len(losses)))
        last, before = losses[-part:].mean(), losses[-2 * part : -part].mean()
        noise = 2 * losses[-2 * part :].std() * math.sqrt(2 / part)
        return float(losses[:part].mean() - last), float(before - last), float(noise)

    @cached_property
    def still_falls(self) -> bool:
        """Whether the loss still falls when the steps end, at the largest rate of a schedule."""
        whole, late, noise = self._falls
        part = max(1, int(_LAST * len(self.run.losses)))
        left = abs(float(self.run.losses[-2 * part : -part].mean()))
        # The transient of an offset may be nearly all of the fall.
        enough = min(_STILL_FALLING * min(whole, self.scale), _OF_LEFT * left)
        # A schedule that lowers the rate ends a fall, however far it is to a minimum.
        rates = self.run.lrs.sum(axis=1)
        slowed = rates[-2 * part :].mean() / rates.max() if rates.any() else 1.0
        return late > max(enough * slowed, noise, 0.0) and whole > 0

    @cached_property
    def has_risen(self) -> bool:
        """Whether the loss is clearly higher after the training than before."""
        run, one = self.run, self.run.watched[0]
        if not run.is_finite:
            return False
        before, after = (
            self.checked.losses(state, [(one, np.array([one.coordinate(state)]))])[0][0]
            for state in (run.start, run.final)
        )
        return self.clear_gain(after, before, GAIN * self.scale) > 0

    @cached_property
    def one(self) -> Evaluation:
        """The loss on the batch alone."""
        return Evaluation(self.training, (self.batch,), 0)

    def gradient_at_start(self, name: str) -> Tensor:
        """Returns the derivative of the batch's loss by a tensor, as the training takes it."""
        if name not in self._gradients:
            with self.training.kept(0), torch.enable_grad():
                self.training.load(self.run.start)
                tensor = self.training.tensors()[name]
                loss, _ = self.training.compare(self.training.model, self.batch)
                found = None
                if loss.requires_grad and tensor.requires_grad:
                    (found,) = torch.autograd.grad(loss, tensor, allow_unused=True)
                self._gradients[name] = torch.zeros_like(tensor) if found is None else found
        return self._gradients[name].detach()

    def clear_gain(self, here: FloatArray, there: FloatArray, bar: float) -> float:
        """Returns by how much the losses of the checked batches (n,) are lower there, or 0."""
        if not np.isfinite([here, there]).all():
            return 0.0
        gains = here - there
        mean, error = float(gains.mean()), float(gains.std()) / math.sqrt(max(1, len(gains) - 1))
        return mean if mean > max(bar, 0.0 if self.is_whole else _ERRORS * error) else 0.0

    @property
    def has_rest(self) -> bool:
        """Whether there is a rest of the model, beside a single number, that has learned."""
        numbers = sum(self.run.final[name].numel() for name in self.run.sizes)
        whole, _, noise = self._falls
        return numbers > 1 and whole > noise

    @cached_property
    def _banks(self) -> dict[str, tuple[Any, ...]]:
        """Tensors with rows -> number of a convolution, its filters (m, ...) before and after."""
        run, found = self.run, {}
        for name in dict.fromkeys(w.name for w in run.watched if w.row is not None):
            seen = seen_filters(self.training, run.start, run.final, self.batch, name)
            # Of several filters to a row none is the row's.
            count = row_count(run.final[name])
            if seen is not None and len(seen[2]) in (count, 2 * count):
                number, *weights = seen
                found[name] = number, *(weight.double().cpu().numpy() for weight in weights)
        return found

    @cached_property
    def filters(self) -> dict[Rows, tuple[FloatArray, FloatArray]]:
        """Rows -> filters (m, ...) as the model used them before and after."""
        found: dict[Rows, tuple[FloatArray, FloatArray]] = {}
        for watched in self.run.watched:
            if watched.name in self._banks:
                found.setdefault(self.rows_of(watched), self._banks[watched.name][1:])
        return found

    def rows_of(self, watched: Watched) -> Rows:
        """The layer of an element, of how many rows it is one, and the convolution they are for.

        0 rows of a single number. Tensors of one layer may be of several banks.
        """
        layer, count = watched.layer, row_count(self.run.final[watched.name])
        beside = [w.name for w in self.run.watched if w.layer == layer and w.name in self._banks]
        numbers = {
            self._banks[name][0] for name in beside if row_count(self.run.final[name]) == count
        }
        if watched.name in self._banks:
            numbers = {self._banks[watched.name][0]}
        # One that has no effect belongs to the only bank there is.
        return layer, count, numbers.pop() if len(numbers) == 1 else None

    @cached_property
    def twins(self) -> dict[int, int]:
        """Elements of rows -> an earlier row of the layer that has become the same."""
        twins: dict[int, int] = {}
        if not self.run.is_finite:
            return twins
        places: dict[Rows, dict[int, dict[str, int]]] = {}
        for index, one in enumerate(self.run.watched):
            if one.row is not None:
                of = places.setdefault(self.rows_of(one), {})
                of.setdefault(one.row, {})[one.group] = index
        # One that no gradient reaches has become nothing: another that meets it is not at fault.
        is_driven = (self.run.gradients != 0).any(axis=0)
        for of_bank, rows in places.items():
            table = self._rows(of_bank)
            driven = sorted(row for row, of in rows.items() if is_driven[list(of.values())].any())
            known: set[int] = set()
            for earlier, row in itertools.combinations(driven, 2):
                if known & {earlier, row} or not self._agree(rows[row], rows[earlier]):
                    continue
                is_same = np.linalg.norm(table[row] - table[earlier]) < 1
                seen = of_bank in self.filters
                if is_same and (seen or not self._should_agree(rows[row], rows[earlier])):
                    known.add(row)
                    twins |= dict.fromkeys(rows[row].values(), earlier)
        return twins

    def _rows(self, of_bank: Rows) -> FloatArray:
        """What distinguishes a bank's rows (count, n), in units of what is too little."""
        layer, count, _ = of_bank
        run, path = self.run, f"{layer}." if layer else ""
        seen = self.filters.get(of_bank)
        if seen is not None and len(seen[1]) == count:
            flat = seen[1].reshape(count, -1)
            sizes = np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-30)
            return np.asarray(flat / sizes / 0.02)
        beside = [t.double().cpu() for n, t in run.final.items() if n.startswith(path) and t.ndim]
        values = np.hstack([t.reshape(count, -1).numpy() for t in beside if row_count(t) == count])
        return np.asarray(values / (1e-2 * (np.ptp(values, axis=0) + 1e-12)))

    def _agree(self, one: Mapping[str, int], other: Mapping[str, int]) -> bool:
        last, parameters = self.run.coordinates[-1], [parameter for parameter, *_ in self.lines]
        pairs = [(one[group], other[group]) for group in one.keys() & other.keys()]
        return bool(pairs) and all(
            abs(parameters[a].offset(last[a], last[b])) <= _SAME * parameters[a].tolerance
            for a, b in pairs
        )

    def _should_agree(self, one: Mapping[str, int], other: Mapping[str, int]) -> bool:
        """Whether the loss rises where two rows part that have become the same."""
        final, stacked = self.run.final, {}
        for group in one.keys() & other.keys():
            left, right = self.run.watched[one[group]], self.run.watched[other[group]]
            ends, reach = (left.coordinate(final), right.coordinate(final)), self.lines[one[group]]
            stacked[left.name] = torch.cat([
                right.placed(left.placed(final[left.name], [ends[0] + d])[0], [ends[1] - d])
                for d in np.array([0.0, 1.0, -1.0]) * reach[0].tolerance
            ])  # fmt: skip
        losses = Evaluation(self.training, (self.batch,), 0).at(final, stacked)
        eps = rounding_of(left, final)
        return bool(losses[1:].mean() - losses[0].mean() > 4 * rounding(eps, losses))


def batches_of(
    training: Training, elements: int, steps: int, seed: int
) -> tuple[tuple[Batch, ...], tuple[Batch, ...], bool]:
    """Returns the batches of the lines, so few that they stay affordable, and those of `Facts`.

    The third: whether the latter are the whole of what is trained on, and no sample.
    """
    passes = 2 * elements * (POINTS + 20)
    count = max(1, min(_MOST_BATCHES, _PASSES_PER_STEP * steps // passes))
    with training.kept(seed):
        first = training.fixed(1)
        size = sum(tensor.nbytes for tensor in tensors_in(first))
        most = max(count, min(count + _MOST_CHECKED, _CHECKED_BYTES // max(1, size)))
    with training.kept(seed):
        found = training.fixed(most + 1)
    is_whole = len(found) <= most
    evaluation, state = Evaluation(training, first * 2, seed), training.state()
    with evaluation.frozen(state) as frozen, torch.no_grad():
        is_random = len({evaluation.loss(frozen, index).item() for index in range(2)}) > 1
    if is_random:
        # Random numbers are a sample, too.
        again = -(-_LEAST_CHECKED // len(found))
        return found[:count], found * again, False
    return found[:count], found if is_whole else found[count:most], is_whole


def evaluate_lines(run: TrainingRun, evaluation: Evaluation) -> Lines:
    """Returns the lines of all watched elements; of a training that broke off, twice the first.

    A line that varies faster than others may take more points, as many as are affordable.
    """
    groups: dict[str, list[Watched]] = {}
    for watched in run.watched:
        groups.setdefault(watched.group, []).append(watched)
    periods = {g: _period(members, run.start, evaluation) for g, members in groups.items()}
    parameters = [_parameter(run, i, periods[w.group]) for i, w in enumerate(run.watched)]
    passes = _MORE_PASSES * _PASSES_PER_STEP * run.settings.steps
    most = passes // (2 * len(run.watched) * len(evaluation.batches))
    start = _lines(run.watched, parameters, run.start, evaluation, most)
    final = _lines(run.watched, parameters, run.final, evaluation, most) if run.is_finite else start
    return list(zip(parameters, start, final, strict=True))


def _lines(
    watched: Sequence[Watched],
    parameters: Sequence[Parameter],
    state: State,
    on: Evaluation,
    most: int,
) -> list[SampledLine]:
    def evaluate(asked: Sequence[tuple[int, FloatArray]]) -> list[FloatArray]:
        return on.losses(state, [(watched[index], values) for index, values in asked])

    own = [element.coordinate(state) for element in watched]
    return sample_lines(parameters, own, evaluate, rounding_of(watched[0], state), most)


def rounding_of(watched: Watched, state: State) -> float:
    """Returns the relative rounding of an element's tensor."""
    return float(torch.finfo(state[watched.name].dtype).eps)


def _period(members: Sequence[Watched], state: State, evaluation: Evaluation) -> float | None:
    """Returns pi or 2 pi, if all losses agree that far apart and some of them vary."""
    if members[0].kind != "value":
        return math.pi if members[0].kind == "vector" else None
    shifts = np.array([0.0, math.pi, 2 * math.pi])
    beside = np.concatenate([shifts, _BESIDE + shifts])
    places = [(watched, watched.coordinate(state) + beside) for watched in members]
    losses = np.array([f.mean(axis=1) for f in evaluation.losses(state, places)])
    losses = losses.reshape(len(members), 2, 3)
    if not np.isfinite(losses).all():
        return None
    rounding = 64 * rounding_of(members[0], state) * np.abs(losses).max()
    variation = np.abs(losses[:, 0, 0] - losses[:, 1, 0])
    if (variation <= rounding).all():
        return math.pi if is_angle_name(members[0].group) else None
    allowed = (_SAME_LOSS * variation + rounding)[:, None]
    for index in (1, 2):
        if (np.abs(losses[:, :, index] - losses[:, :, 0]) <= allowed).all():
            return float(shifts[index])
    return None


def _parameter(run: TrainingRun, index: int, period: float | None) -> Parameter:
    # Of a run that broke off the first step alone: no line shows anything over where it blew up to.
    watched, known = run.watched[index], run.coordinates[: None if run.is_finite else 2]
    path = known[:, index][np.isfinite(known[:, index])]
    start = float(path[0])
    made = Parameter(watched.label, start - 1, start + 1, None, None, start)
    if period is not None:
        return replace(made, low=-period / 2, high=period / 2, period=period, is_angle=True)
    low, high = float(path.min()), float(path.max())
    if watched.kind == "log":
        return replace(made, low=low - math.log(_FACTOR), high=high + math.log(_FACTOR))
    members = [i for i, other in enumerate(run.watched) if other.group == watched.group]
    others = known[[0, -1]][:, members]
    others = others[np.isfinite(others)]
    is_place = is_angle_name(watched.group) or is_place_name(watched.group)
    if others.min() > 0 and not is_place:
        return replace(made, low=low / _FACTOR, high=high * _FACTOR)
    # What all begins at zero has no unit but 1.
    least = 1.0 if not known[0, members].any() else 1e-3
    part = 2.0 if is_place else 0.5
    spread = max(float(np.ptp(others)), part * float(np.abs(others).max()), least)
    return replace(made, low=low - spread, high=high + spread)


class Judgement(NamedTuple):
    """What holds an element back (in `FAULTS`), what helps; the factor is of its learning rate."""

    verdict: str
    evidence: dict[str, Any]
    why: str
    helps: str
    factor: float | None = None


class Judged:
    """One watched element, measured and judged.

    The lines are the loss along it with everything else as before and as after the training. Path
    and slopes are coordinates and their gradients (T + 1,), of which the last `tail` are judged.
    `own` is the minimum into whose basin the last value falls; `better`, the lowest one elsewhere
    on the last line, if clearly lower; `better_at_first`, that of the first line, if the start lay
    beside it, and the end does. `shown` is the value, not its coordinate, as a parameter.

    The rate is the run's largest, over what the optimizer divides the gradient by; it times the
    curvature must stay below the limit. The gap is how far the last value is from its minimum. The
    goal is the minimum of the last line where the element should be, or None. `moved` is without
    whole periods, and `gradient_share` over all parameters together.
    """

    def __init__(self, facts: Facts, index: int) -> None:
        self.facts, self.index, run = facts, index, facts.run
        self.watched = run.watched[index]
        self.parameter, self.line_start, self.line_final = facts.lines[index]
        self.shown = self.parameter
        if self.watched.kind == "log":
            low, high, start = map(math.exp, (self.shown.low, self.shown.high, self.shown.start))
            self.shown = replace(self.shown, low=low, high=high, start=start, is_log=True)
        self.path: FloatArray = run.coordinates[:, index]
        self.slopes: FloatArray = run.gradients[:, index]
        self.tail = max(2, min(len(self.path), max(20, tail_length(len(self.path)))))
        self.own = self.attractor(self.line_final, -1)
        self.better = self._lower(self.line_final, -1)
        best = self._lower(self.line_start, 0)
        self.better_at_first = None if best is self.attractor(self.line_start, -1) else best
        self.rate = float(run.lrs[:, index].max()) * self.watched.stretch(run.final)
        if run.divisors is not None and math.isfinite(run.divisors[index]):
            self.rate /= float(run.divisors[index])
        # RMSprop divides as Adam does, and is heavy ball on what is left.
        self.limit = (bound_entry(run.settings) or BOUNDS["heavy_ball"]).limit_of(run.settings)
        self.gap = math.nan
        if self.own is not None:
            self.gap = abs(float(self.parameter.offset(self.path[-1], self.own.value)))
        found = (question(self) for question in QUESTIONS)
        self.judgement = next((f for f in found if f is not None), Judgement("healthy", {}, "", ""))
        self.verdict = self.judgement.verdict
        is_astray = self.verdict == "wrong_basin"
        goal = self.better or (self.better_at_first if is_astray else self.own)
        # Towards an end of the range the loss falls, and where its minimum is, is not known.
        self.goal = None if goal is None or goal.curvature is None else goal.value
        if is_astray and goal is None:
            self.goal = facts.fitted[self.watched.label]
        first, last = float(self.path[0]), float(self.path[-1])
        self.start = self.value(first)
        self.final = self.moved = None
        if math.isfinite(last):
            self.final = self.value(last)
            self.moved = float(self.shown.offset(self.final, self.start))
        known = [slopes[~np.isnan(slopes)] for slopes in (run.total, self.slopes)]
        total, own = (math.sqrt(np.mean(k**2)) if k.size else 0.0 for k in known)
        self.gradient_share = finite_or_none(own / total) if total else None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The primary cause, with what was measured."""
        verdict, evidence, why, *_ = self.judgement
        found = Finding(verdict, True, None, evidence, why, role="primary")
        return () if verdict == "healthy" else (found,)

    @property
    def outcome(self) -> str:
        """The outcome of the element's path on its last line, as of any run."""
        goal, landscape, run = self.goal, self.line_final.landscape, self.facts.run
        if goal is None and self.own is not None:
            goal = self.own.value
        if goal is None or not run.is_finite:
            return "nonfinite" if not run.is_finite else "frozen"
        parameter = replace(landscape.parameter, target=goal)
        points = tuple(replace(p, is_target=p.value == goal) for p in landscape.points)
        around = surroundings(replace(landscape, parameter=parameter, points=points))
        tail = slice(-self.tail, None)
        slope, moved = abs(self.slopes[-1]) * parameter.tolerance, bool((self.slopes != 0).any())
        return classify_one(around, self.path[tail, None], run.losses[tail], slope, moved)[0]

    def attractor(self, line: SampledLine, step: int) -> CriticalPoint | None:
        """Returns the minimum of a line into whose basin the value at a step falls."""
        if not np.isfinite(self.path[step]):
            return None
        return line.landscape.attractor_of(float(self.parameter.wrap(self.path[step])))

    def _lower(self, line: SampledLine, step: int) -> CriticalPoint | None:
        """The lowest minimum of a line, if it is clearly lower than that of a step's basin."""
        minima = [p for p in line.landscape.attractors if p.curvature is not None]
        here, own = float(self.path[step]), self.attractor(line, step)
        if not math.isfinite(here) or not minima:
            return None
        # Of a level place, from which no minimum is reached, the loss there counts.
        value, loss = here, line.at(here)
        if own is not None and own.loss < loss:
            value, loss = own.value, own.loss
        lowest = min(minima, key=lambda point: point.loss)
        # The nearest of those that are as low.
        same = lowest.loss + max(4 * line.noise(lowest.value), _SAME_LOSS * line.height)
        as_low = [point for point in minima if point.loss <= same]
        best = min(as_low, key=lambda point: abs(self.parameter.offset(point.value, here)))
        # On other batches it may stand lower than its own minimum of these.
        both = {value: loss, here: line.at(here)}
        is_lower = all(self.gain(v, best.value, line, at - best.loss) for v, at in both.items())
        return best if is_lower else None

    def clear(self, one: float, other: float, line: SampledLine, part: float = _OF_HEIGHT) -> float:
        """Returns which difference of the losses at two coordinates of a line counts."""
        return max(4 * line.noise(one, other), GAIN * self.facts.scale, part * line.height)

    def gain(
        self, here: float, there: float, line: SampledLine, seen: float, part: float = _OF_HEIGHT
    ) -> float:
        """Returns by how much the loss is lower there than here on a line, 0 if not clearly.

        What is seen on the line's batches may be theirs alone, and is tried on others.
        """
        bar = self.clear(here, there, line, part)
        if seen <= bar:
            return 0.0
        facts = self.facts
        state = facts.run.start if line is self.line_start else facts.run.final
        (losses,) = facts.checked.losses(state, [(self.watched, np.array([here, there]))])
        return facts.clear_gain(losses[0], losses[1], bar)

    @cached_property
    def is_away(self) -> bool:
        """Whether it could clearly lower the loss by going to its minimum."""
        if self.own is None or self.own.basin is None:
            return False
        # A range may be far wider than the basin, and than the whole way to the minimum.
        low, high = self.own.basin
        way = float(np.abs(self.parameter.offset(self.path, self.own.value)).max())
        near = min(self.parameter.tolerance, SETTLED_SHARE * (high - low), _HALF_WAY * way)
        late = self.parameter.offset(self.path[len(self.path) // 2 :], self.own.value)
        if self.gap <= near or late.min() < 0 < late.max():
            # Noise of batches leads to and fro across it.
            return False
        here, line = float(self.path[-1]), self.line_final
        # The line's height is no measure of a gain near its minimum.
        return self.gain(here, self.own.value, line, line.at(here) - self.own.loss, part=0.0) > 0

    @property
    def path_curvature(self) -> float:
        """The curvature along the run's own path, by least squares over its steps; 0 without one.

        A step of plain descent is -lr g, and lr x curvature sum (g - g') g / sum g^2 with the
        gradient g' after it. As -2 g g' is at most g^2 + g'^2, it is above 2 only where the last
        gradient is larger than the first: where steps grow, not where batches differ.
        """
        known = np.stack([self.path, self.slopes])
        moves, changes = np.diff(known[:, np.isfinite(known).all(axis=0)])
        if not moves.any():
            return 0.0
        # Squares of a run that diverged may overflow.
        moves, changes = np.stack([moves, changes]) / np.abs(moves).max()
        return float(moves @ changes / (moves @ moves))

    @property
    def is_in_a_dip(self) -> bool:
        """Whether the loss clearly rises on both sides of its minimum: not a level place."""
        if self.own is None or self.own.curvature is None:
            return False
        rise = self.own.curvature * self.parameter.tolerance**2 / 2
        return rise > 4 * rounding(self.line_final.eps, [self.own.loss, self.facts.scale])

    @property
    def is_of_filter(self) -> bool:
        """Whether its row is a filter of a convolution; else it is one of some numbers."""
        layer = self.facts.training.model.get_submodule(self.watched.layer)
        is_known = self.watched.row is not None and isinstance(layer, GaborConv2d)
        return is_known or self.facts.rows_of(self.watched) in self.facts.filters

    def value(self, coordinate: float) -> float:
        """Returns the value at a coordinate; of an angle, within one period."""
        if self.watched.kind == "log":
            return math.exp(coordinate)
        return float(self.parameter.wrap(coordinate))

    def show(self, coordinate: float) -> str:
        """Returns the value at a coordinate for people."""
        return self.shown.show(self.value(coordinate), 1)

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows; critical points have values, not coordinates."""
        return {
            "name": self.watched.label,
            "parameter": self.watched.group,
            "tensor": self.watched.name,
            "filter": self.watched.row if self.is_of_filter else None,
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
                "start": self._points(self.line_start),
                "final": self._points(self.line_final),
            },
            "findings": [finding.to_dict() for finding in self.findings],
            "helps": self.judgement.helps,
        }

    def _points(self, line: SampledLine) -> list[dict[str, Any]]:
        # At an end of the range no gradient vanishes.
        points = line.landscape.points
        return [self._point(point) for point in points if point.curvature is not None]

    def _point(self, point: CriticalPoint) -> dict[str, Any]:
        basin, curvature = point.basin, point.curvature
        if self.watched.kind == "log":
            # d2L/dv2 = d2L/du2 / v^2 where dL/du = 0 and u = log v.
            curvature = None if curvature is None else curvature / math.exp(point.value) ** 2
            basin = None if basin is None else (math.exp(basin[0]), math.exp(basin[1]))
        value = self.value(point.value)
        return replace(point, value=value, curvature=curvature, basin=basin).to_dict()


def _nonfinite(element: Judged) -> Judgement | None:
    facts = element.facts
    if facts.run.is_finite:
        return None
    # What can be asked is whether this rate could have held on the first line, or on its own path.
    bends = [abs(point.curvature or 0.0) for point in element.line_start.landscape.points]
    product = element.rate * max([*bends, element.path_curvature])
    evidence: dict[str, Any] = {"lr_times_curvature": product, "limit": element.limit}
    evidence["step"] = len(element.path)
    broke = f"the loss is not finite at step {len(element.path) - 1}"
    if product > element.limit:
        why = f"{broke}, and lr x curvature is {product:.3g}, above {element.limit:.3g}"
        factor = 0.5 * element.limit / product
        return Judgement("step_too_large", evidence, why, _rate_advice(element, factor), factor)
    bad = int(np.argmin(np.isfinite(element.slopes)))
    losses = [*facts.run.losses[:-1], facts.run.losses[bad]]
    culprit = _ask(element, find_culprit, facts.run.start) if bad == 0 else None
    if culprit is not None:
        place = culprit.location or "the code"
        why = f"no gradient is finite where it begins: {place} calls {culprit.name}"
        helps = "start it elsewhere"
        if culprit.repairs:
            helps = culprit.advice(culprit.repairs[0])
        evidence |= {"where": culprit.to_dict()}
        return Judgement("nonfinite_gradient", evidence, why, helps)
    if not np.isfinite(element.slopes[bad]) and np.isfinite(losses).all():
        why = f"its gradient is not finite at step {bad}"
        helps = "find the 0/0, the root at zero or the overflow behind this gradient"
        return Judgement("nonfinite_gradient", evidence, why, helps)
    helps = "lower the learning rates"
    if bad == 0:
        helps = "no step was made: find the 0/0, the root or the logarithm of zero before the loss"
    return Judgement("inconclusive", evidence, broke, helps)


def _gradient(element: Judged) -> Judgement | None:
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
        unused = _ask(element, find_unused)
        where, because = _place(unused)
        why = f"the loss does not depend on it{when}{because}"
        # A step too long may have put a channel where its ReLU lets nothing through.
        helps = "lower the learning rates"
        if is_flat:
            helps = "check that what follows lets it through: weights, biases, a ReLU, a "
            helps += "normalization that takes it out again"
        if unused is not None:
            helps = unused.repair
        return Judgement("flat_objective", evidence | where, why, helps)
    is_there = element.is_in_a_dip or (not never and element.better is None)
    is_level = _is_level(element)
    # Beyond a clamp's limit the loss is level, and was not before it if a gradient led there.
    rise = 0.0 if never else abs(slopes[since - 1]) * element.parameter.tolerance
    is_held = is_cut and (never or rise > max(4 * line.noise(here), _SAME_LOSS * line.height))
    if arrived and is_there and not element.is_away and not is_held and (not never or is_level):
        # At the very minimum a gradient may be zero.
        return None
    where, because = _place(cut)
    if cut is None and arrived and is_level:
        why = f"it stands where the loss is level{when}, and the gradient is zero"
        return Judgement("flat_start", evidence | where, why, "start it elsewhere")
    helps = "compute from it with torch operations alone" if cut is None else cut.repair
    if cut is None and arrived:
        helps = "the loss has a slope there: look for a hook or a mask that makes the gradient zero"
    why = f"no gradient arrives{when}{because}"
    return Judgement("no_gradient", evidence | where, why, helps)


def _cut(element: Judged) -> Cut | None:
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


def _slope_at_end(element: Judged) -> tuple[float, float]:
    """Returns the slope of the loss where the element ended, and its rounding."""
    facts, here = element.facts, float(element.path[-1])
    apart = element.parameter.tolerance / 8
    places = here + apart * np.array([-1.0, 1.0])
    (losses,) = facts.checked.losses(facts.run.final, [(element.watched, places)])
    below, above = losses.mean(axis=1)
    return float(above - below) / (2 * apart), element.line_final.noise(here) / (2 * apart)


def _is_level(element: Judged) -> bool:
    """Whether the slope at the end is nothing beside the steepest one of the line."""
    slope, noise = _slope_at_end(element)
    return abs(slope) <= max(noise, _LEVEL * element.line_final.landscape.largest_gradient)


def _wrong(element: Judged) -> Judgement | None:
    """A derivative that is not the loss's, looked for where a run is not at a minimum, or rose."""
    if not _seems_wrong(element):
        return None
    known = element.path[np.isfinite(element.path)]
    first, last, line = float(known[0]), float(known[-1]), element.line_start
    rose = element.gain(last, first, line, line.at(last) - line.at(first))
    is_open = element.facts.run.is_finite and element.facts.still_falls
    if not (rose or element.is_away or is_open):
        return None
    found = _ask(element, _derivative, element.facts.run.start)
    # One that is only too small or too large, such as a clipped one, leads down.
    if found is None or not found.present or not _leads_up(found):
        return None
    helps = "correct the derivative"
    return Judgement("wrong_gradient", found.evidence, found.explanation, helps)


def _seems_wrong(element: Judged) -> bool:
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


def _held(element: Judged) -> Judgement | None:
    """A value that something outside the optimizer puts back at every step."""
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


def _twin(element: Judged) -> Judgement | None:
    row, other = element.watched.row, element.facts.twins.get(element.index)
    if other is None:
        return None
    what = "filter" if element.is_of_filter else "row"
    why = f"{what} {row} has become the same as {what} {other}"
    return Judgement("duplicate", {"same_as": other}, why, f"start {what} {row} elsewhere")


def _too_large(element: Judged) -> Judgement | None:
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
    excess, bar = float(np.mean(passed)) - low, element.clear(last, before, line)
    counts = excess > bar
    over = product is not None and product > _NEAR_BOUND * element.limit
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
    # A rate that leaves a bounce of one tolerance.
    factor = 1 / extent
    if product is not None and product > 0:
        factor = min(max(factor, 1e-3), 0.5 * element.limit / product)
    spread = element.shown.show(reach, 1) if element.shown.is_angle else f"{reach:.2g}"
    why = f"it bounces over {spread} to the end"
    if over:
        why += f": lr x curvature is {times(product or 0)}, and stable is up to {element.limit:.3g}"
    return Judgement("step_too_large", evidence, why, _rate_advice(element, factor), factor)


def _basin(element: Judged) -> Judgement | None:
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
        if better is None or not element.is_away or element.facts.still_falls:
            return None
        if abs(float(element.path[-1]) - began) < _HALF_WAY * element.gap:
            # It has hardly left its start: what holds it back is its pace.
            return None
        there, evidence = element.show(better.value), {"start": element.value(began)}
        why = f"it began at {element.show(began)}, outside the basin of its line's lowest minimum"
        why += f" at {there}"
    evidence |= {"lower_minimum": element.value(better.value), "lower_loss": better.loss}
    return Judgement("wrong_basin", evidence, why, f"start it at {there}")


def _thrown_out(element: Judged, better: CriticalPoint) -> Judgement | None:
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


def _leap(element: Judged, first: CriticalPoint) -> tuple[float, float]:
    """The longest step, and how far the start is from the nearer end of its basin."""
    assert first.basin is not None
    start = float(element.parameter.wrap(element.path[0]))
    reach = min(abs(float(element.parameter.offset(end, start))) for end in first.basin)
    return float(np.abs(np.diff(element.path)).max()), reach


def _risen(element: Judged) -> Judgement | None:
    """One that a step led out of the basin it began in, in a training whose loss has risen."""
    facts = element.facts
    first = element.attractor(element.line_start, 0)
    if not facts.has_risen or first is None or first.basin is None:
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


def _on_top(element: Judged) -> Judgement | None:
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


def _too_slow(element: Judged) -> Judgement | None:
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
        ahead = element.gap, abs(float(element.parameter.offset(element.path[0], own.value)))
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


def _beside_kernel(element: Judged) -> Judgement | None:
    if element.watched.label not in element.facts.stuck:
        return None
    fitted = element.facts.fitted[element.watched.label]
    if abs(element.parameter.offset(element.path[-1], fitted)) <= element.parameter.tolerance:
        return None
    there = element.show(fitted)
    why = f"the filter of the least-squares kernel has it at {there}; its own line does not show it"
    evidence = {"least_squares": element.value(fitted)}
    return Judgement("wrong_basin", evidence, why, f"start the whole filter there, it at {there}")


def _carried_along(element: Judged) -> Judgement | None:
    """Its line's minimum, at which it stands, moves on as the rest of the model learns."""
    part = max(1, int(_LAST * len(element.path)))
    last, before = element.path[-part:], element.path[-2 * part : -part]
    # Steps of a path are no independent measurements of it; a steady pace has std drift / sqrt(12).
    drift, noise = float(last.mean() - before.mean()), 2 * float(last.std())
    # As many steps again lead this far at the pace of the last ones, or less far if it shrinks.
    ahead = abs(drift) / _LAST
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
    why = "it moves on with its line's minimum, as the rest of the model learns: from "
    why += f"{ends[0]} to {ends[1]} within {part} steps, and the loss still falls"
    factor = 2.0
    evidence = {"drift": drift, "within_steps": part, "factor": factor, "still_falls": True}
    return Judgement("step_too_small", evidence, why, "more steps, or a larger rate", factor)


def _unresolved(element: Judged) -> Judgement | None:
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


def _rate_advice(element: Judged, factor: float) -> str:
    # That of the user: a schedule may begin with another one.
    rate = element.facts.run.rates[element.watched.name] * factor
    return f"a learning rate of {rate:.2g} for {element.watched.group}"


# In this order; the first that finds something is the verdict.
QUESTIONS: tuple[Callable[[Judged], Judgement | None], ...] = (
    _wrong, _nonfinite, _gradient, _held, _too_large, _risen, _basin, _twin, _on_top, _too_slow,
    _beside_kernel, _carried_along, _unresolved,
)  # fmt: skip


def _ask(
    element: Judged, ask: Callable[[OwnObjective, float], Known | None], at: State | None = None
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
