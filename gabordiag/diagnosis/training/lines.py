"""The loss along each watched element before and after a training, and on which batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from gabordiag.dynamics.training import TrainingRun
from gabordiag.landscape.many_lines import POINTS, SampledLine, sample_lines
from gabordiag.objective.space import FloatArray, Parameter
from gabordiag.own.evaluation import tensors_in
from gabordiag.own.parameters import is_angle_name, is_place_name
from gabordiag.own.training import Batch, Evaluation, State, Training, Watched

# Beyond where an element was, what is positive is looked at up to this factor.
_FACTOR = 2.5
# Where the period is tried beside the element's own value: no special place.
_BESIDE = 0.3713057
# Losses agree that differ by this part of what they vary: a period, or a tolerance, apart.
SAME_LOSS = 1e-3
# Forward passes on a batch that all lines together may take, in optimizer steps of the run, and at
# most so many batches.
_PASSES_PER_STEP, _MOST_BATCHES = 12, 8
# Lines that vary fast may take so many times as many.
_MORE_PASSES = 4
# What the lines claim is tried on so many other batches, if they take no more bytes; and on no less
# than so many where the model draws random numbers.
_MOST_CHECKED, _CHECKED_BYTES, _LEAST_CHECKED = 32, 2**28, 8

# Range and period of every watched element, and the loss along it, all else as it was before and
# after the training.
Lines = Sequence[tuple[Parameter, SampledLine, SampledLine]]


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
    """Returns the lines of all watched elements; of a training that blew up, twice the first.

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
    final = _lines(run.watched, parameters, run.final, evaluation, most) if run.is_held else start
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
    allowed = (SAME_LOSS * variation + rounding)[:, None]
    for index in (1, 2):
        if (np.abs(losses[:, :, index] - losses[:, :, 0]) <= allowed).all():
            return float(shifts[index])
    return None


def _parameter(run: TrainingRun, index: int, period: float | None) -> Parameter:
    # Of a run that blew up the first step alone: no line shows anything over where it went.
    watched, known = run.watched[index], run.coordinates[: None if run.is_held else 2]
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
