"""The remedies, each one actually tried; the place to add another.

A remedy is a function `facts -> Remedy | None`: None where it does not apply (no image to whiten,
no root to square, one parameter where several are needed). `REMEDIES`, of one parameter and of
several, is ordered by what it costs the person, cheap first. A test follows every `change` by its
options and nothing else; what is no option is written there once more (`FOLLOWED`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gabordiag.diagnosis.causes import NUDGE
from gabordiag.diagnosis.evidence import (
    TRIED_STEPS,
    Bench,
    Facts,
    LineBench,
    SpaceBench,
    Trial,
    first_reached,
    round_down,
)
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.gabor import gabor_kernel
from gabordiag.objective.gabor_line import (
    ShortcutObjective,
    kernel_orientation,
    least_squares_kernel,
)
from gabordiag.objective.gabor_objective import GaborObjective
from gabordiag.objective.space import FloatArray
from gabordiag.own.evaluation import UserObjective
from gabordiag.results import Finding
from gabordiag.wording import counted

DECAYS = ("exponential", "cosine", "step")
Try = Callable[[Facts], "Remedy | None"]
# How sure one wants to be that of the random starts at least one arrives.
CONFIDENCE = 0.99


@dataclass(frozen=True)
class Remedy:
    """One remedy, as options or words, and what came of it; one that works reached the target."""

    name: str
    works: bool
    change: str
    outcome: str
    evidence: dict[str, Any]

    @property
    def needs_target(self) -> bool:
        """Whether it presupposes what is looked for: a start beside the target, say."""
        return bool(self.evidence.get("needs_target"))

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        return dict(vars(self))


def try_remedies(
    facts: Facts, remedies: Sequence[Try], tick: Callable[[], None]
) -> tuple[Remedy, ...]:
    """Tries every remedy that applies; those that work first, then cheap before dear."""
    # Code at fault comes before all, and what needs no answer to begin with before what does.
    tried = []
    for function in remedies:
        if (remedy := function(facts)) is not None:
            tried.append(remedy)
        tick()
    tried.sort(key=lambda r: (r.name != "repair_code", not r.works, r.needs_target))
    return tuple(tried)


def _from_trial(name: str, change: str, trial: Trial, **evidence: Any) -> Remedy:
    # Trials count as reached only where their neighbours arrive, too: `Bench.confirmed`.
    shown = {**trial.to_dict(), "robust": trial.reached, **evidence}
    return Remedy(name, trial.reached, change, trial.outcome, shown)


def _tuned(bench: Bench, settings: OptimizerSettings, *starts: FloatArray) -> Trial:
    return bench.tuned(settings, *starts) or bench.trial(settings, starts[0])


def _without_nesterov(facts: Facts) -> str:
    return ", without nesterov" if facts.settings.nesterov else ""


def _with_optimizer(facts: Facts, name: str) -> str:
    no_momentum = " --momentum 0" if facts.settings.momentum else ""
    return f"--optimizer {name}{no_momentum}{_without_nesterov(facts)}"


def mse_loss(facts: Facts) -> Remedy | None:
    """The loss without its root, all else equal."""
    return None if facts.squared_trial is None else _from_trial("mse_loss", *facts.squared_trial)


def repair_code(facts: Facts) -> Remedy | None:
    """What to write in the line at fault, run as it would be typed; the right derivative, else."""
    user = facts.line or facts.objective
    for fault in facts.faults:
        where = fault.evidence.get("where")
        if fault.cause == "nonfinite_gradient" and isinstance(user, UserObjective):
            found = facts.repaired(user, _nonfinite_place(facts, fault))
            if found is not None:
                words, trial, culprit = found
                return _from_trial("repair_code", words, trial, where=culprit.to_dict())
        elif where and (made := fault.evidence.get("counterfactual")):
            evidence, works = {**made, "where": where}, bool(fault.sufficient)
            return Remedy("repair_code", works, where["repair"], made["outcome"], evidence)
    return None


def _nonfinite_place(facts: Facts, fault: Finding) -> FloatArray:
    """Where the gradient is not finite: of several parameters asked one by one, at one of them."""
    place, value = facts.start.copy(), fault.evidence.get("value")
    if isinstance(value, Mapping):
        return np.array(list(value.values()), dtype=np.float64)
    for index, name in enumerate(facts.space.names):
        at = value if len(facts.space) == 1 else fault.evidence[name].get("value")
        if at is not None:
            place[index] = at
            break
    return place


def smaller_lr(facts: Facts) -> Remedy | None:
    """A rate just under what the target's basin holds."""
    hold, lr = facts.hold_lr, facts.settings.lr
    # A cycle within the tolerance is held, too, and does not settle.
    rate = round_down(0.95 * min(hold, facts.stable_lr)) if hold is not None else lr / 10
    if rate >= lr:
        return None
    trial = facts.changed(lr=rate)
    if facts.flips or not trial.reached:
        # Just under the bound each step would lead across the goal, too.
        trial = facts.smaller or trial
    return _from_trial("smaller_lr", facts.tuning(trial), trial, hold_lr=hold)


def lr_decay(facts: Facts) -> Remedy | None:
    """A schedule that lowers the rate over the same steps; no help to one that settles anyway."""
    settles = facts.landscape is None and facts.run.outcome in ("local_minimum", "unfinished")
    if facts.settings.schedule != "constant" or settles:
        return None
    trials = [facts.changed(schedule=schedule) for schedule in DECAYS]
    trial, tried = first_reached(trials), {t.settings.schedule: t.outcome for t in trials}
    return _from_trial("lr_decay", f"--schedule {trial.settings.schedule}", trial, tried=tried)


def momentum(facts: Facts) -> Remedy | None:
    """Momentum 0.9 where there was none, or none where there was."""
    if facts.settings.optimizer != "sgd":
        return None
    value = 0.0 if facts.settings.momentum else 0.9
    trial = facts.changed(momentum=value, nesterov=False)
    return _from_trial("momentum", f"--momentum {value:g}{_without_nesterov(facts)}", trial)


def own_rates(facts: Facts) -> Remedy | None:
    """Each of several parameters its own rate, one over its curvature at the target."""
    bench, objective = facts.bench, facts.objective
    if not isinstance(bench, SpaceBench) or facts.settings.optimizer != "sgd" or objective.is_root:
        return None
    curvatures = np.diagonal(objective.hessian(facts.space.coordinates(bench.goal)[None])[0])
    if not (curvatures > 0).all():
        return None
    rates = np.array([round_down(0.5 / float(curvature)) for curvature in curvatures])
    own = SpaceBench(objective, "sgd", rates, facts.start)
    trial = own.confirmed(replace(facts.settings, lr=float(rates.max())), facts.start)
    return _from_trial("own_rates", facts.tuning(trial), trial)


def leave_saddle(facts: Facts) -> Remedy | None:
    """A start a little to the side in which the loss falls where the run settles at a saddle."""
    if facts.saddle is None:
        return None
    aside = NUDGE * facts.space.tolerance * facts.saddle.direction
    starts = np.stack([facts.start + aside, facts.start - aside])
    trial = facts.bench.first_confirmed(facts.settings, starts)
    return _from_trial("leave_saddle", facts.options(trial.start), trial)


def adaptive(facts: Facts) -> Remedy | None:
    """Adam and Rprop over usual rates, which are tried as constant ones."""
    is_costly = facts.landscape is None
    steps = max(facts.settings.steps, TRIED_STEPS if is_costly else 0)
    rates = facts.bench.usual_rates
    tried: dict[tuple[str, float], str] = {}
    for name in ("adam", "rprop"):
        # Of several parameters a run costs too much to make it for the record.
        if is_costly and "reached" in tried.values():
            break
        found = facts.bench.outcomes(OptimizerSettings(name, steps=steps), rates, facts.start)
        tried |= {(name, lr): outcome for lr, outcome in zip(rates, found, strict=True)}
    works = (key for key, outcome in tried.items() if outcome == "reached")
    name, lr = next(works, ("adam", rates[1]))
    trial = facts.bench.confirmed(OptimizerSettings(name, lr, steps=steps), facts.start)
    outcomes = {f"{name} {lr:g}": outcome for (name, lr), outcome in tried.items()}
    change = f"{_with_optimizer(facts, name)} {facts.tuning(trial)}"
    if facts.settings.schedule != trial.settings.schedule:
        change += f" --schedule {trial.settings.schedule}"
    return _from_trial("adaptive", change, trial, tried=outcomes)


def start_in_basin(facts: Facts) -> Remedy | None:
    """A start inside the target's basin, or on the way to it, with a rate that the basin holds."""
    starts, target = facts.starts_inside, facts.target_basin
    leads_nowhere = facts.landscape is not None and target is None
    if not starts or leads_nowhere or facts.starts_in_target_basin:
        return None
    trial = _tuned(facts.bench, facts.settings, *starts)
    evidence = {} if target is None else {"interval": list(target.basin or ())}
    change = f"{facts.options(trial.start)} {facts.tuning(trial)}"
    return _from_trial("start_in_basin", change, trial, needs_target=True, **evidence)


def normalize_input(facts: Facts) -> Remedy | None:
    """The image with zero mean and unit deviation, all else equal."""
    if facts.experiment is None or facts.experiment.normalize != "none":
        return None
    trial = facts.with_experiment(normalize="standardize").confirmed(facts.settings, facts.start)
    return _from_trial("normalize_input", "--normalize standardize", trial)


def whiten_input(facts: Facts) -> Remedy | None:
    """The image with a flat spectrum, which has no preferred orientation; then a rate that fits."""
    if facts.experiment is None or facts.experiment.normalize == "whiten":
        return None
    bench = facts.with_experiment(normalize="whiten")
    trial, evidence = _tuned(bench, facts.settings, facts.start), {}
    if isinstance(bench, LineBench):
        evidence["minima"] = len(bench.landscape.attractors)
    change = f"--normalize whiten {facts.tuning(trial)}"
    return _from_trial("whiten_input", change, trial, **evidence)


def closed_form(facts: Facts) -> Remedy | None:
    """Least squares for the kernel, its orientation, then descent from there."""
    kernel, names = _solved_kernel(facts), facts.space.names
    if kernel is None:
        return None
    theta, index = kernel_orientation(kernel), names.index("theta")
    # Orientation has period pi; where the loss does not, the half turn is the other candidate.
    is_half = facts.space.parameters[index].period == math.pi
    starts = np.tile(facts.start, (1 if is_half else 2, 1))
    starts[:, index] = [theta, theta + math.pi][: len(starts)]
    losses = facts.objective.loss_at(facts.space.coordinates(starts))
    start = starts[int(np.argmin(losses))]
    trial = _tuned(facts.bench, facts.settings, start)
    option = f"--start {'theta=' if len(names) > 1 else ''}{facts.option(index, start)}"
    change = (
        "solve for the kernel by least squares (the response is linear in it), take its "
        f"orientation as {option} {facts.tuning(trial)}"
    )
    return _from_trial("closed_form", change, trial, orientation=float(start[index]))


def _solved_kernel(facts: Facts) -> Tensor | None:
    if "theta" not in facts.space.names:
        return None
    if isinstance(facts.line, ShortcutObjective):
        return least_squares_kernel(facts.line.compressed.weights, facts.line.target_response)
    if not isinstance(facts.objective, GaborObjective):
        return None
    experiment = facts.objective.experiment
    values, compressed = experiment.target_parameters.to_dict(), experiment.everywhere
    target = gabor_kernel(**values, kernel_size=experiment.kernel_size, dtype=torch.float64)
    return least_squares_kernel(compressed.weights, compressed(target) + compressed.extra)


def global_search(facts: Facts) -> Remedy | None:
    """The lowest critical point of the whole range, without any descent."""
    goal, landscape = facts.bench.goal, facts.landscape
    if landscape is None or not landscape.attractors or goal is None:
        return None
    lowest = min(landscape.attractors, key=lambda point: point.loss)
    at, certified = np.array([lowest.value]), landscape.certificate.certified
    distance = abs(float(facts.space.offsets(at, goal)[0]))
    works = distance <= landscape.parameter.tolerance
    evidence = {"value": lowest.value, "loss": lowest.loss, "certified": certified}
    evidence["distance_to_target"] = distance
    change = (
        f"{landscape.parameter.name} = {facts.option(0, at)}, the lowest "
        f"{'certified' if certified else 'found'} minimum of the whole range (`gabordiag sweep`)"
    )
    return Remedy("global_search", works, change, "reached" if works else "local_minimum", evidence)


def multi_start(facts: Facts) -> Remedy | None:
    """Random starts, as many as bring one to the target with 99% confidence."""
    found = facts.bench.search(facts.settings, facts.start)
    if found is None:
        return None
    scan, share = found
    count = 1 if share == 1 else math.ceil(math.log(1 - CONFIDENCE) / math.log(1 - share))
    trial = facts.bench.first_confirmed(scan, facts.bench.drawn(count))
    is_other = scan.optimizer != facts.settings.optimizer
    how = f"{_with_optimizer(facts, scan.optimizer)} " if is_other else ""
    starts = counted(count, "random start", "random starts")
    change = f"run from {starts} with {how}--lr {scan.lr:g} --steps {scan.steps}, keep the best"
    return _from_trial("multi_start", change, trial, share=share, starts_for_99_percent=count)


def coarse_to_fine(facts: Facts) -> Remedy | None:
    """A small, round envelope first, whose loss has one minimum; then the filter's own."""
    experiment = facts.experiment
    if experiment is None or "theta" not in facts.space.names:
        return None
    # The round filter of `reproduce` at this wavelength: the photograph leaves it one minimum.
    coarse_sigma = min(experiment.sigma, 0.3 * experiment.wavelength)
    if experiment.gamma == 1 and experiment.sigma == coarse_sigma:
        return None
    # The envelope stays as it is meanwhile.
    names = [name for name in facts.space.names if name not in ("sigma", "gamma")]
    places = [facts.space.names.index(name) for name in names]
    coarse = facts.with_experiment(names, gamma=1.0, sigma=coarse_sigma)
    first = _tuned(coarse, facts.settings, facts.start[places])
    start = facts.start.copy()
    start[places] = first.path.values[-1]
    second = _tuned(facts.bench, facts.settings, start)
    what = "".join(f"--learn {name} " for name in names if len(facts.space) > 1)
    change = (
        f"first {what}--sigma {coarse_sigma:g} --gamma 1 {facts.tuning(first)}, then the filter "
        f"itself from where that ends, {facts.tuning(second)}"
    )
    return _from_trial("coarse_to_fine", change, second, coarse=first.to_dict())


# Of a gradient that cannot be trusted: no descent can be mended but by the code.
OF_CODE: tuple[Try, ...] = (repair_code, global_search)

REMEDIES: tuple[Try, ...] = (
    repair_code,
    mse_loss,
    smaller_lr,
    lr_decay,
    momentum,
    own_rates,
    leave_saddle,
    adaptive,
    start_in_basin,
    normalize_input,
    whiten_input,
    closed_form,
    global_search,
    multi_start,
    coarse_to_fine,
)
