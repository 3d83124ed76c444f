"""Along which values of an element the loss is looked at, and what it is there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from gabordiag.dynamics.training import TrainingRun
from gabordiag.landscape.many_lines import POINTS, SampledLine, sample_lines
from gabordiag.objective.space import FloatArray, Parameter
from gabordiag.own.custom import is_angle_name
from gabordiag.own.training import Evaluation, State, Training, Watched

# Beyond where an element was, what is positive is looked at up to this factor.
_FACTOR = 2.5
# Where the period is tried beside the element's own value: no special place.
_BESIDE = 0.3713057
# Losses a period apart agree to this part of what they vary.
_SAME = 1e-3
# Forward passes on a batch that all lines together may take, in optimizer steps of the run, and at
# least so many batches.
_PASSES_PER_STEP, _MOST_BATCHES = 12, 8


@dataclass(frozen=True, eq=False)
class Lines:
    """The loss along every watched element, all else as it was before and after the training."""

    parameters: tuple[Parameter, ...]
    start: tuple[SampledLine, ...]
    final: tuple[SampledLine, ...]


def batch_count(elements: int, steps: int) -> int:
    """Returns on how many batches the lines are evaluated, so that they stay affordable."""
    passes = 2 * elements * (POINTS + 20)
    return max(1, min(_MOST_BATCHES, _PASSES_PER_STEP * steps // passes))


def evaluate_lines(training: Training, run: TrainingRun, evaluation: Evaluation) -> Lines:
    """Returns the lines of all watched elements, evaluated on the fixed batches.

    Of a training that broke off, the lines at its end are those at its start.
    """
    groups: dict[str, list[Watched]] = {}
    for watched in run.watched:
        groups.setdefault(watched.group, []).append(watched)
    periods = {g: _period(members, run.start, evaluation) for g, members in groups.items()}
    parameters = tuple(
        _parameter(run, index, periods[watched.group]) for index, watched in enumerate(run.watched)
    )
    start = _lines(run.watched, parameters, run.start, evaluation)
    if not run.is_finite:
        return Lines(parameters, start, start)
    return Lines(parameters, start, _lines(run.watched, parameters, run.final, evaluation))


def _lines(
    watched: Sequence[Watched],
    parameters: Sequence[Parameter],
    state: State,
    evaluation: Evaluation,
) -> tuple[SampledLine, ...]:
    def evaluate(asked: Sequence[tuple[int, FloatArray]]) -> list[FloatArray]:
        return evaluation.losses(state, [(watched[index], values) for index, values in asked])

    own = [element.coordinate(state) for element in watched]
    dtype = state[watched[0].element.name].dtype
    return tuple(sample_lines(parameters, own, evaluate, float(torch.finfo(dtype).eps)))


def _period(members: Sequence[Watched], state: State, evaluation: Evaluation) -> float | None:
    """Returns pi or 2 pi, if all losses agree that far apart and some of them vary."""
    if members[0].kind != "value":
        return math.pi if members[0].kind == "vector" else None
    shifts = (0.0, math.pi, 2 * math.pi)
    places = []
    for watched in members:
        own = watched.coordinate(state)
        places.append((watched, np.array([own + d + s for d in (0.0, _BESIDE) for s in shifts])))
    losses = np.array([f.mean(axis=1) for f in evaluation.losses(state, places)])
    losses = losses.reshape(len(members), 2, 3)
    if not np.isfinite(losses).all():
        return None
    eps = float(torch.finfo(state[members[0].element.name].dtype).eps)
    rounding = 64 * eps * np.abs(losses).max()
    variation = np.abs(losses[:, 0, 0] - losses[:, 1, 0])
    if (variation <= rounding).all():
        return math.pi if is_angle_name(members[0].group) else None
    allowed = (_SAME * variation + rounding)[:, None]
    for index in (1, 2):
        if (np.abs(losses[:, :, index] - losses[:, :, 0]) <= allowed).all():
            return shifts[index]
    return None


def _parameter(run: TrainingRun, index: int, period: float | None) -> Parameter:
    """Returns the coordinate of an element as a parameter: its range around where it was."""
    watched = run.watched[index]
    column = run.coordinates[:, index]
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


def shown(watched: Watched, parameter: Parameter) -> Parameter:
    """Returns the element's value, not its coordinate, as a parameter for people."""
    if watched.kind != "log":
        return parameter
    low, high = math.exp(parameter.low), math.exp(parameter.high)
    return replace(parameter, low=low, high=high, start=math.exp(parameter.start), is_log=True)
