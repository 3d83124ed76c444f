"""The cures, each one actually tried; the place to add another.

A remedy is a function `facts -> Remedy | None`: None where it does not apply (no image to whiten,
no root to square). `REMEDIES` is ordered by what it costs the person, cheap first; those that work
are listed before those that do not. A test follows every `change` by its options and nothing else;
what is no option is written there once more (`FOLLOWED` in `following.py`). Runs of several
parameters have their own table (`joint_remedies.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gabordiag.diagnosis.evidence import Bench, Facts, Trial, round_down
from gabordiag.dynamics.batch import descend_batch
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import CODES
from gabordiag.dynamics.windows import SCAN_STEPS, rate_scale
from gabordiag.objective.closed_form import kernel_orientation, least_squares_kernel
from gabordiag.objective.gabor_objective import ShortcutObjective

# What people try of adaptive optimizers.
USUAL_RATES = (1e-3, 1e-2, 1e-1)
DECAYS = ("exponential", "cosine", "step")
# Even starts by which the share that arrives is measured, one a degree of a half turn; and how sure
# one wants to be that of the random ones at least one does.
MULTI_START_GRID = 181
CONFIDENCE = 0.99


@dataclass(frozen=True)
class Remedy:
    """One cure and what came of it.

    Attributes:
        name: As in the interface.
        works: Whether the changed run reached the target.
        change: What to change, as an option or in words, with the value.
        outcome: Of the changed run.
        evidence: The figures.
    """

    name: str
    works: bool
    change: str
    outcome: str
    evidence: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        return {
            "name": self.name,
            "works": self.works,
            "change": self.change,
            "outcome": self.outcome,
            "evidence": self.evidence,
        }


def try_remedies(facts: Facts) -> tuple[Remedy, ...]:
    """Tries every remedy that applies; those that work first, then cheap before dear."""
    tried = [remedy for function in REMEDIES if (remedy := function(facts)) is not None]
    return tuple(sorted(tried, key=lambda remedy: not remedy.works))


def _from_trial(name: str, change: str, trial: Trial, **evidence: Any) -> Remedy:
    return Remedy(name, trial.reached, change, trial.outcome, {**trial.to_dict(), **evidence})


def mse_loss(facts: Facts) -> Remedy | None:
    """The loss without its root, all else equal."""
    if facts.squared is None:
        return None
    trial = facts.squared.confirmed(facts.settings, facts.start)
    return _from_trial("mse_loss", facts.without_root, trial)


def smaller_lr(facts: Facts) -> Remedy | None:
    """A rate just under what the target's basin holds."""
    windows, lr = facts.windows, facts.settings.lr
    hold = None if windows is None else windows.hold_lr
    rate = round_down(0.95 * hold) if hold is not None else lr / 10
    if rate >= lr:
        return None
    trial = facts.bench.trial(facts.changed(lr=rate), facts.start)
    if not trial.reached:
        trial = facts.bench.tuned(facts.settings, facts.start, below=lr) or trial
    return _from_trial("smaller_lr", facts.tuning(trial), trial, hold_lr=hold)


def lr_decay(facts: Facts) -> Remedy | None:
    """A schedule that lowers the rate over the same steps."""
    if facts.settings.schedule != "constant":
        return None
    trials = [facts.bench.confirmed(facts.changed(schedule=s), facts.start) for s in DECAYS]
    trial = next((t for t in trials if t.reached), trials[0])
    tried = {t.settings.schedule: t.outcome for t in trials}
    return _from_trial("lr_decay", f"--schedule {trial.settings.schedule}", trial, tried=tried)


def momentum(facts: Facts) -> Remedy | None:
    """Momentum 0.9 where there was none, or none where there was."""
    if facts.settings.optimizer != "sgd":
        return None
    value = 0.0 if facts.settings.momentum else 0.9
    settings = facts.changed(momentum=value, nesterov=False)
    trial = facts.bench.confirmed(settings, facts.start)
    return _from_trial("momentum", f"--momentum {value:g}", trial)


def adaptive(facts: Facts) -> Remedy | None:
    """Adam and Rprop over usual rates."""
    # Both step by about the rate: in a range of thousandths, thousandths of the usual ones.
    scale = rate_scale(facts.landscape, OptimizerSettings("adam"))
    rates = tuple(scale * rate for rate in USUAL_RATES)
    tried = {
        (name, lr): outcome
        for name in ("adam", "rprop")
        for lr, outcome in zip(
            rates,
            facts.bench.outcomes(
                OptimizerSettings(name, steps=facts.settings.steps), rates, facts.start
            ),
            strict=True,
        )
    }
    usual = ("adam", rates[1])
    name, lr = next((key for key, outcome in tried.items() if outcome == "reached"), usual)
    trial = facts.bench.confirmed(
        OptimizerSettings(name, lr, steps=facts.settings.steps), facts.start
    )
    outcomes = {f"{name} {lr:g}": outcome for (name, lr), outcome in tried.items()}
    change = f"--optimizer {name} --lr {lr:g}"
    # They are tried at a constant rate.
    if facts.settings.schedule != trial.settings.schedule:
        change += f" --schedule {trial.settings.schedule}"
    return _from_trial("adaptive", change, trial, tried=outcomes)


def start_in_basin(facts: Facts) -> Remedy | None:
    """A start inside the target's basin, with a rate that the basin holds."""
    inside, target = facts.start_inside, facts.target_basin
    if inside is None or target is None or facts.starts_in_target_basin:
        return None
    trial = facts.bench.tuned(facts.settings, inside)
    evidence = {"interval": list(target.basin or ())}
    if trial is None:
        trial = facts.bench.trial(facts.settings, inside)
    start = _option(facts, inside)
    return _from_trial(
        "start_in_basin", f"--start {start} {facts.tuning(trial)}", trial, **evidence
    )


def normalize_input(facts: Facts) -> Remedy | None:
    """The image with zero mean and unit deviation, all else equal."""
    if facts.experiment is None or facts.experiment.normalize != "none":
        return None
    bench = _experiment_bench(facts, normalize="standardize")
    trial = bench.confirmed(facts.settings, facts.start)
    return _from_trial("normalize_input", "--normalize standardize", trial)


def global_search(facts: Facts) -> Remedy | None:
    """The lowest critical point of the whole range, without any descent."""
    attractors = facts.landscape.attractors
    goal = facts.landscape.goal_value
    if not attractors or goal is None:
        return None
    lowest = min(attractors, key=lambda point: point.loss)
    distance = abs(float(facts.parameter.offset(lowest.value, goal)))
    works = distance <= facts.parameter.tolerance
    certificate = facts.landscape.certificate
    evidence = {
        "value": lowest.value,
        "loss": lowest.loss,
        "certified": certificate.certified,
        "distance_to_target": distance,
    }
    word = "certified" if certificate.certified else "found"
    change = (
        f"{facts.parameter.name} = {_option(facts, lowest.value)}, the lowest {word} minimum of "
        f"the whole range (`gabordiag sweep`)"
    )
    return Remedy("global_search", works, change, "reached" if works else "local_minimum", evidence)


def closed_form(facts: Facts) -> Remedy | None:
    """Least squares for the kernel, its orientation, then descent from there."""
    objective = facts.objective
    if not isinstance(objective, ShortcutObjective) or objective.parameter.name != "theta":
        return None
    theta = kernel_orientation(least_squares_kernel(objective))
    # Orientation has period pi; where the loss does not, the half turn is the other candidate.
    candidates = [theta] if objective.parameter.period == math.pi else [theta, theta + math.pi]
    start = min(candidates, key=lambda value: float(objective.loss_at(value)[0]))
    trial = facts.bench.tuned(facts.settings, start)
    if trial is None:
        trial = facts.bench.trial(facts.settings, start)
    change = (
        "solve for the kernel by least squares (the response is linear in it), take its "
        f"orientation as --start {_option(facts, start)} {facts.tuning(trial)}"
    )
    return _from_trial("closed_form", change, trial, orientation=start)


def multi_start(facts: Facts) -> Remedy | None:
    """Random starts, as many as bring one to the target with 99% confidence."""
    parameter, settings = facts.parameter, facts.settings
    if facts.windows is None or facts.windows.hold_lr is None:
        return None
    lr = round_down(facts.windows.hold_lr / 2)
    starts = parameter.low + (parameter.high - parameter.low) * (
        (np.arange(MULTI_START_GRID) + 0.5) / MULTI_START_GRID
    )
    scan = replace(settings, lr=lr, steps=max(SCAN_STEPS, settings.steps))
    codes, _ = descend_batch(facts.bench.table, scan, np.array([lr]), starts).classify(
        facts.landscape, facts.bench.table.tables[0]
    )
    reached = codes[0] == CODES["reached"]
    goal = facts.landscape.goal_value
    assert goal is not None
    away = np.abs(parameter.offset(starts, goal)) > parameter.tolerance
    # Runs that begin at the target and do not move find nothing.
    if not (reached & away).any():
        return None
    share = float(reached.mean())
    count = 1 if share == 1 else math.ceil(math.log(1 - CONFIDENCE) / math.log(1 - share))
    generator = np.random.default_rng(0)
    drawn = generator.uniform(parameter.low, parameter.high, count)
    trials = (facts.bench.trial(scan, float(start)) for start in drawn)
    trial = next((t for t in trials if t.reached), None)
    if trial is None:
        trial = facts.bench.trial(scan, float(drawn[0]))
    change = f"run from {count} random starts with --lr {lr:g} --steps {scan.steps}, keep the best"
    return _from_trial("multi_start", change, trial, share=share, starts_for_99_percent=count)


def whiten_input(facts: Facts) -> Remedy | None:
    """The image with a flat spectrum, which has no preferred orientation; then a rate that fits."""
    if facts.experiment is None or facts.experiment.normalize == "whiten":
        return None
    bench = _experiment_bench(facts, normalize="whiten")
    trial = bench.tuned(facts.settings, facts.start)
    minima = len(bench.landscape.attractors)
    if trial is None:
        trial = bench.trial(facts.settings, facts.start)
    change = f"--normalize whiten {facts.tuning(trial)}"
    return _from_trial("whiten_input", change, trial, minima=minima)


def coarse_to_fine(facts: Facts) -> Remedy | None:
    """A small, round envelope first, whose loss has one minimum; then the filter's own."""
    experiment = facts.experiment
    if experiment is None or facts.parameter.name != "theta":
        return None
    # The round filter of `reproduce` at this wavelength: the photograph leaves it one minimum.
    coarse_sigma = min(experiment.sigma, 0.3 * experiment.wavelength)
    if experiment.gamma == 1 and experiment.sigma == coarse_sigma:
        return None
    coarse = _experiment_bench(facts, gamma=1.0, sigma=coarse_sigma)
    first = coarse.tuned(facts.settings, facts.start)
    if first is None:
        first = coarse.trial(facts.settings, facts.start)
    second = facts.bench.tuned(facts.settings, first.final)
    if second is None:
        second = facts.bench.trial(facts.settings, first.final)
    change = (
        f"first --sigma {coarse_sigma:g} --gamma 1 {facts.tuning(first)}, then the filter itself "
        f"from where that ends, {facts.tuning(second)}"
    )
    return _from_trial("coarse_to_fine", change, second, coarse=first.to_dict())


def _experiment_bench(facts: Facts, **changes: Any) -> Bench:
    assert facts.experiment is not None
    changed = replace(facts.experiment, **changes)
    return Bench(ShortcutObjective(changed, facts.parameter.name))


def _option(facts: Facts, value: float) -> str:
    """A value as the command line takes it."""
    if facts.parameter.is_angle:
        return f"{math.degrees(value):.4g}deg"
    return f"{value:.{facts.parameter.figures(value)}g}"


REMEDIES: tuple[Callable[[Facts], Remedy | None], ...] = (
    mse_loss,
    smaller_lr,
    lr_decay,
    momentum,
    adaptive,
    start_in_basin,
    normalize_input,
    whiten_input,
    closed_form,
    global_search,
    multi_start,
    coarse_to_fine,
)
