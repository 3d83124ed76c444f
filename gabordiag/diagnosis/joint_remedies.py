"""The cures of a run of several parameters, each actually tried.

A remedy is a function `trials -> Remedy | None`; `REMEDIES` has the cheap first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gabordiag.diagnosis.evidence import round_down
from gabordiag.diagnosis.joint_trials import (
    CLOSER,
    ENOUGH_STEPS,
    SAFE,
    TRIED_STEPS,
    Trials,
    calm_rate,
    evidence_of,
    first_reached,
    start_options,
)
from gabordiag.diagnosis.remedies import Remedy
from gabordiag.dynamics.run import Run

# What people try of Adam, whose steps are about as long as the rate: half a degree to some degrees.
ADAM_RATES = (0.01, 0.03, 0.1)
_ADAM: dict[str, Any] = {"optimizer": "adam", "momentum": 0.0, "nesterov": False}
# As many as run at once at hardly more cost than one.
RANDOM_STARTS = 12


def mse_loss(trials: Trials) -> Remedy | None:
    """The loss without its root, all else equal."""
    squared = trials.squared()
    if squared is None:
        return None
    (run,) = trials.at_once(objective=squared)
    return _tried("mse_loss", f"--loss {squared.loss_name}", run)


def smaller_lr(trials: Trials) -> Remedy | None:
    """One rate for all, from just under what the target holds downwards."""
    bound, largest = trials.bound, float(trials.run.rates.max())
    top = largest / 3 if bound is None else SAFE * bound
    rates = [round_down(top), round_down(top / 3)]
    if rates[0] >= largest and len(set(trials.run.rates.tolist())) == 1:
        return None
    steps = max(trials.run.settings.steps, ENOUGH_STEPS)
    best = first_reached(trials.at_once(rates=rates, steps=steps))
    return _tried("smaller_lr", f"--lr {best.rates[0]:g} --steps {steps}", best)


def own_rates(trials: Trials) -> Remedy | None:
    """Each parameter its own rate, one over its curvature at the target."""
    objective = trials.objective
    if trials.run.settings.optimizer != "sgd" or objective.is_root:
        return None
    at = objective.space.coordinates(objective.goals[0])[None]
    curvatures = np.diagonal(objective.hessian(at)[0])
    if (curvatures <= 0).any():
        return None
    rates = np.array([round_down(0.5 / float(curvature)) for curvature in curvatures])
    change = " ".join(f"--lr {n}={r:g}" for n, r in zip(objective.space.names, rates, strict=True))
    return _tried("own_rates", change, trials.at_once(rates=[rates])[0])


def adaptive(trials: Trials) -> Remedy | None:
    """Adam at usual rates."""
    steps = max(trials.run.settings.steps, TRIED_STEPS)
    best = first_reached(trials.at_once(rates=ADAM_RATES, steps=steps, **_ADAM))
    return _tried("adaptive", f"--optimizer adam --lr {best.rates[0]:g} --steps {steps}", best)


def start_in_basin(trials: Trials) -> Remedy | None:
    """A start on the straight way to the target, with a rate that the target holds."""
    way = trials.objective.space.offsets(trials.objective.goals[0], trials.run.start)
    steps = max(trials.run.settings.steps, ENOUGH_STEPS)
    starts = [trials.run.start + share * way for share in CLOSER]
    run = first_reached(trials.at_once(starts, [calm_rate(trials)], steps=steps))
    change = f"{start_options(trials.objective, run.start)} --lr {run.rates[0]:g} --steps {steps}"
    return _tried("start_in_basin", change, run)


def multi_start(trials: Trials) -> Remedy | None:
    """Random starts over the ranges: how many arrive, so how many one needs."""
    objective = trials.objective
    generator = np.random.default_rng(0)
    low = np.array([p.low for p in objective.space.parameters])
    high = np.array([p.high for p in objective.space.parameters])
    steps = max(trials.run.settings.steps, TRIED_STEPS)
    starts = list(generator.uniform(low, high, (RANDOM_STARTS, len(low))))
    runs = trials.at_once(starts, [0.03], steps=steps, **_ADAM)
    arrived = [r for r in runs if r.outcome == "reached"]
    share = len(arrived) / len(runs)
    best = arrived[0] if arrived else runs[0]
    change = f"random starts with --optimizer adam --lr 0.03 --steps {steps}, the lowest loss kept"
    if arrived:
        change = f"{_needed(share)} {change}"
    return _tried("multi_start", change, best, tried=len(runs), reached_share=share)


def _needed(share: float) -> str:
    """How many starts arrive at least once with 99%."""
    return str(1 if share >= 1 else int(np.ceil(np.log(0.01) / np.log(1 - share))))


def _tried(name: str, change: str, run: Run, **evidence: Any) -> Remedy:
    reached = run.outcome == "reached"
    return Remedy(name, reached, change, run.outcome, {**evidence_of(run), **evidence})


# Cheap first.
REMEDIES = (mse_loss, smaller_lr, own_rates, adaptive, start_in_basin, multi_start)
