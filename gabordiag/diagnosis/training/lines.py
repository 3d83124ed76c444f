"""Along which values of an element the loss is looked at, and what it is there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from gabordiag.dynamics.training import TrainingRun
from gabordiag.landscape.many_lines import POINTS, SampledLine, sample_lines
from gabordiag.objective.space import FloatArray, Parameter
from gabordiag.own.period import is_angle_name
from gabordiag.own.training import Evaluation, State, Watched

# Beyond where an element was, what is positive is looked at up to this factor.
_FACTOR = 2.5
# Where the period is tried beside the element's own value: no special place.
_BESIDE = 0.3713057
# Losses a period apart agree to this part of what they vary.
_SAME = 1e-3
# Forward passes on a batch that all lines together may take, in optimizer steps of the run, and at
# least so many batches.
_PASSES_PER_STEP, _MOST_BATCHES = 12, 8


# Range and period of every watched element, and the loss along it, all else as it was before and
# after the training.
Lines = Sequence[tuple[Parameter, SampledLine, SampledLine]]


def batch_count(elements: int, steps: int) -> int:
    """Returns on how many batches the lines are evaluated, so that they stay affordable."""
    passes = 2 * elements * (POINTS + 20)
    return max(1, min(_MOST_BATCHES, _PASSES_PER_STEP * steps // passes))


def evaluate_lines(run: TrainingRun, evaluation: Evaluation) -> Lines:
    """Returns the lines of all watched elements; of a training that broke off, twice the first."""
    groups: dict[str, list[Watched]] = {}
    for watched in run.watched:
        groups.setdefault(watched.group, []).append(watched)
    periods = {g: _period(members, run.start, evaluation) for g, members in groups.items()}
    parameters = [_parameter(run, i, periods[w.group]) for i, w in enumerate(run.watched)]
    start = _lines(run.watched, parameters, run.start, evaluation)
    final = _lines(run.watched, parameters, run.final, evaluation) if run.is_finite else start
    return list(zip(parameters, start, final, strict=True))


def _lines(
    watched: Sequence[Watched], parameters: Sequence[Parameter], state: State, on: Evaluation
) -> list[SampledLine]:
    def evaluate(asked: Sequence[tuple[int, FloatArray]]) -> list[FloatArray]:
        return on.losses(state, [(watched[index], values) for index, values in asked])

    own = [element.coordinate(state) for element in watched]
    return sample_lines(parameters, own, evaluate, rounding_of(watched[0], state))


def rounding_of(watched: Watched, state: State) -> float:
    """Returns the relative rounding of an element's tensor."""
    return float(torch.finfo(state[watched.element.name].dtype).eps)


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
    allowed = (_SAME * variation + rounding)[:, None]
    for index in (1, 2):
        if (np.abs(losses[:, :, index] - losses[:, :, 0]) <= allowed).all():
            return float(shifts[index])
    return None


def _parameter(run: TrainingRun, index: int, period: float | None) -> Parameter:
    watched, column = run.watched[index], run.coordinates[:, index]
    path = column[np.isfinite(column)]
    start = float(path[0])
    made = Parameter(watched.label, start - 1, start + 1, None, None, start)
    if period is not None:
        return replace(made, low=-period / 2, high=period / 2, period=period, is_angle=True)
    low, high = float(path.min()), float(path.max())
    if watched.kind == "log":
        return replace(made, low=low - math.log(_FACTOR), high=high + math.log(_FACTOR))
    members = [i for i, other in enumerate(run.watched) if other.group == watched.group]
    others = run.coordinates[[0, -1]][:, members]
    others = others[np.isfinite(others)]
    if others.min() > 0 and not is_angle_name(watched.group):
        return replace(made, low=low / _FACTOR, high=high * _FACTOR)
    spread = max(float(np.ptp(others)), 0.5 * float(np.abs(others).max()), 1e-3)
    return replace(made, low=low - spread, high=high + spread)
