"""A logged run as if it had just been made on its objective."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gabordiag.diagnosis.log.comparison import Comparison, compare
from gabordiag.diagnosis.log.readers import Log
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.run import Run, Trajectory, judge
from gabordiag.errors import InputError
from gabordiag.landscape.points import Landscape
from gabordiag.objective.objective import Objective
from gabordiag.objective.space import FloatArray
from gabordiag.results import read_only


def run_from_log(
    objective: Objective,
    settings: OptimizerSettings,
    landscape: Landscape | None,
    logs: Sequence[Log],
    rates: FloatArray,
) -> tuple[Run, Comparison]:
    """Returns a logged run as if it had just been made on the objective, and in what it differs.

    What was not logged is filled in: gradients from the objective, rates (d,) as given.
    """
    table = np.column_stack([log.values for log in logs])
    # A run starts somewhere.
    first = int(np.argmax(np.isfinite(table).all(axis=1)))
    values, losses = read_only(table[first:]), logs[0].losses[first:]
    if len(values) < 2 or not np.isfinite(values[0]).all():
        raise InputError("The log holds no step.", "Log at least two rows with values.")
    known = objective.space.coordinates(np.where(np.isfinite(values), values, values[0]))
    logged = [log.gradients for log in logs if log.gradients is not None]
    if len(logged) == len(logs):
        gradients = np.column_stack(logged)[first:]
        if not np.isfinite(gradients[-1]).all():
            # After the last step none may have been asked for.
            gradients[-1:] = objective.loss_and_gradient(known[-1:])[1]
    else:
        gradients = objective.loss_and_gradient(known)[1]
    settings = replace(settings, steps=len(values) - 1)
    lrs = settings.scheduled(rates)
    for column, log in zip(lrs.T, logs, strict=True):
        given = column if log.lrs is None else log.lrs[first:]
        column[:] = np.where(np.isfinite(given), given, column)
    updates = np.concatenate([np.diff(values, axis=0), np.full((1, len(logs)), math.nan)])
    trajectory = Trajectory(values, losses, *map(read_only, (gradients, updates, lrs)))
    # A rate may rise from 0 at first.
    rates = lrs.max(axis=0)
    made_with = replace(settings, lr=float(rates.max()))
    compared = compare(objective, made_with, trajectory, logs)
    if compared.losses is not None:
        name = "full_losses" if compared.is_noisy else "losses"
        trajectory = replace(trajectory, **{name: read_only(compared.losses)})
    return judge(objective, made_with, landscape, trajectory, rates), compared
