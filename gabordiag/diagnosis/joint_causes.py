"""The suspects of a run of several parameters; each with its test and its counterfactual.

`CAUSES` is ordered from the least intrusive change to the most, as for one parameter (`causes.py`).
A cause is a function `trials -> Finding`.
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
    evidence_of,
    first_reached,
    start_options,
)
from gabordiag.results import Finding
from gabordiag.wording import times

# Rates that people try; above the largest one nothing settles on a Gabor landscape.
SCANNED_RATES = tuple(float(f"{10.0**e:.1g}") for e in np.arange(-4, 0.01, 0.5))
# Smaller rates that are tried, over some one and a half decades: still smaller ones take more steps
# than anybody waits for.
_MOST_RATES = 4


def kink(trials: Trials) -> Finding:
    """Would the same run with the squared loss arrive?"""
    squared = trials.squared()
    if squared is None:
        text = f"the loss ({trials.objective.loss_name}) is smooth at its minimum"
        return Finding("kink", False, False, {}, text)
    (trial,) = trials.at_once(objective=squared)
    reached = trial.outcome == "reached"
    evidence = {"counterfactual": evidence_of(trial)}
    if not reached:
        text = f"without the root the same run ends {trial.outcome.replace('_', ' ')}"
        return Finding("kink", False, False, evidence, text)
    text = (
        f"the gradient of {trials.objective.loss_name} does not vanish at its zero, so a fixed "
        "step never settles; without the root the same run reaches the target"
    )
    advice = f"Use --loss {squared.loss_name} with the same rates."
    return Finding("kink", True, True, evidence, text, advice)


def step_too_small(trials: Trials) -> Finding:
    """Is it still on its way, and do more or larger steps arrive?"""
    run = trials.run
    if run.outcome != "unfinished":
        text = "the run has stopped descending, so its steps are not too small"
        return Finding("step_too_small", False, False, {}, text)
    text = f"after {run.settings.steps} steps it is still descending"
    steps = 4 * run.settings.steps
    (longer,) = trials.at_once(steps=steps)
    if longer.outcome == "reached":
        advice = f"Use --steps {steps}."
    else:
        (longer,) = trials.at_once(rates=[3 * trials.run.rates])
        advice = "Use three times the learning rates."
    reached = longer.outcome == "reached"
    evidence = {"counterfactual": evidence_of(longer)}
    return Finding("step_too_small", True, reached, evidence, text, advice if reached else "")


def step_too_large(trials: Trials) -> Finding:
    """Is the rate above what the target holds, and does a smaller one arrive?"""
    largest, bound = float(trials.run.rates.max()), trials.bound
    evidence: dict[str, Any] = {"largest_lr": largest, "bound_at_target": bound}
    wild = trials.run.outcome in ("cycle", "erratic", "running", "nonfinite")
    beyond = bound is not None and largest > bound
    if not (wild or beyond):
        text = f"the largest rate {largest:g} lets runs settle"
        return Finding("step_too_large", False, False, evidence, text)
    below = largest if bound is None else min(largest, SAFE * bound)
    rates = sorted({round_down(below), *(r for r in SCANNED_RATES if r < below)}, reverse=True)
    trial = first_reached(
        trials.at_once(
            rates=rates[:_MOST_RATES], steps=max(trials.run.settings.steps, ENOUGH_STEPS)
        )
    )
    reached = trial.outcome == "reached"
    evidence["counterfactual"] = evidence_of(trial)
    text = f"the largest rate {largest:g} is too large: the run ends {trials.run.outcome}"
    if beyond and bound is not None:
        text = (
            f"the largest rate {largest:g} is {times(largest / bound)} times what the target holds "
            f"({bound:.3g}, 2 / the Hessian's largest eigenvalue)"
        )
    advice = f"Use --lr {trial.rates[0]:g} --steps {trial.settings.steps}." if reached else ""
    return Finding("step_too_large", True, reached, evidence, text, advice)


def wrong_basin(trials: Trials) -> Finding:
    """Did it settle at another minimum, and does a start nearer to the target arrive?"""
    run, objective = trials.run, trials.objective
    if run.minimum is None or run.outcome != "local_minimum":
        text = "the run did not settle at another minimum"
        return Finding("wrong_basin", False, False, {}, text)
    way = objective.space.offsets(objective.goals[0], run.start)
    trial = first_reached(trials.at_once(starts=[run.start + share * way for share in CLOSER]))
    reached = trial.outcome == "reached"
    names = objective.space.names
    loss = float(objective.loss_at(objective.space.coordinates(run.minimum)[None])[0])
    evidence = {
        "minimum": dict(zip(names, run.minimum.tolist(), strict=True)),
        "minimum_loss": loss,
        "counterfactual": evidence_of(trial),
    }
    where = objective.space.show(run.minimum)
    text = f"the run settled at another minimum, {where} (loss {loss:.4g})"
    advice = ""
    if reached:
        nearer = objective.space.show(trial.start)
        advice = f"Start at {nearer}: {start_options(objective, trial.start)}."
    return Finding("wrong_basin", True, reached, evidence, text, advice)


def no_working_lr(trials: Trials) -> Finding:
    """Does any of the usual rates reach the target from this start?"""
    steps = max(trials.run.settings.steps, TRIED_STEPS)
    runs = trials.at_once(rates=SCANNED_RATES, steps=steps)
    tried = {rate: run.outcome for rate, run in zip(SCANNED_RATES, runs, strict=True)}
    working = [rate for rate, outcome in tried.items() if outcome == "reached"]
    evidence = {"tried": {f"{rate:g}": outcome for rate, outcome in tried.items()}}
    if working:
        text = f"from this start {', '.join(f'{r:g}' for r in working)} reach the target"
        return Finding("no_working_lr", False, False, evidence, text)
    text = (
        f"of {len(tried)} learning rates from {SCANNED_RATES[0]:g} to {SCANNED_RATES[-1]:g}, the "
        f"same for all parameters, none reaches the target from this start within {steps} steps"
    )
    return Finding("no_working_lr", True, False, evidence, text)


# From the least intrusive change to the most.
CAUSES = (kink, step_too_small, step_too_large, wrong_basin, no_working_lr)
