"""Many runs of several parameters at once: for the trials of a diagnosis.

One evaluation of a dozen kernels costs about as much as of one, because both read the whole
compressed response from memory. Entries with one learning rate share a tensor and a parameter
group; optimizers that act elementwise cannot tell.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from gabordiag.dynamics.joint import JointRun, JointTrajectory, judge_joint, run_joint
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.objective.joint import JointObjective
from gabordiag.objective.objective import FloatArray
from gabordiag.results import read_only


def run_joint_batch(
    objective: JointObjective, settings: OptimizerSettings, starts: FloatArray, lrs: FloatArray
) -> tuple[JointRun, ...]:
    """Runs an optimizer from several starts, or at several rates, and judges every run.

    Args:
        objective: Of d parameters.
        settings: Optimizer, schedule, steps; its own lr is not used.
        starts: Values (n, d).
        lrs: Learning rates (n, d).
    """
    if not settings.is_elementwise:
        return tuple(
            run_joint(objective, settings, start, dict(zip(objective.names, rates, strict=True)))
            for start, rates in zip(starts, lrs.tolist(), strict=True)
        )
    moved = objective.coordinates(starts).ravel()
    rates, group_of = np.unique(lrs.ravel(), return_inverse=True)
    places = [np.flatnonzero(group_of == index) for index in range(len(rates))]
    leaves = [torch.tensor(moved[place], dtype=objective.dtype) for place in places]
    groups: Any = [{"params": [x], "lr": float(lr)} for x, lr in zip(leaves, rates, strict=True)]
    optimizer = settings.build(groups, lr=float(rates[0]))
    schedule = settings.build_schedule(optimizer)
    shape = (settings.steps + 1, *starts.shape)
    path, gradients, rates_of = (np.empty(shape) for _ in range(3))
    losses = np.empty(shape[:2])
    for step in range(settings.steps + 1):
        for place, leaf in zip(places, leaves, strict=True):
            moved[place] = leaf.numpy()
        at = moved.reshape(starts.shape)
        path[step] = objective.values(at)
        losses[step], gradients[step] = objective.loss_and_gradient(at)
        now = np.array([float(group["lr"]) for group in optimizer.param_groups])
        rates_of[step] = now[group_of].reshape(starts.shape)
        if step == settings.steps:
            break
        slopes = gradients[step].ravel()
        for place, leaf in zip(places, leaves, strict=True):
            leaf.grad = torch.tensor(slopes[place], dtype=objective.dtype)
        optimizer.step()
        if schedule is not None:
            schedule.step()
    updates = np.full(shape, np.nan)
    with np.errstate(invalid="ignore"):
        updates[:-1] = np.diff(path, axis=0)
    runs = []
    for index in range(len(starts)):
        columns = (path, losses, gradients, updates, rates_of)
        trajectory = JointTrajectory(*(read_only(c[:, index].copy()) for c in columns))
        runs.append(judge_joint(objective, settings, lrs[index], trajectory))
    return tuple(runs)
