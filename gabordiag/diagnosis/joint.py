"""The verdict on a run of several parameters: the same causes, each confirmed by a changed run.

Several parameters have no list of critical points that is proven complete; what is known is the
run itself, the minimum it ends at, the Hessian there and at the target, and what changed runs do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gabordiag.diagnosis.causes import Finding
from gabordiag.diagnosis.facts import round_down
from gabordiag.diagnosis.remedies import Remedy
from gabordiag.diagnosis.verdict import HEALTHY, SHORTEST_TAIL
from gabordiag.dynamics.descent import trajectory_name
from gabordiag.dynamics.joint import (
    JointRun,
    PairSurface,
    learning_rates,
    pair_surfaces,
    run_joint,
)
from gabordiag.dynamics.joint_batch import run_joint_batch
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import tail_length
from gabordiag.landscape.surface import condition
from gabordiag.objective.joint import JointObjective
from gabordiag.objective.objective import FloatArray
from gabordiag.results import Data, Result

Progress = Callable[[int, int], None]

# Rates that people try; above the largest one nothing settles on a Gabor landscape.
SCANNED_RATES = tuple(float(f"{10.0**e:.1g}") for e in np.arange(-4, 0.01, 0.5))
ADAM_RATES = (0.01, 0.03, 0.1)
_ADAM: dict[str, Any] = {"optimizer": "adam", "momentum": 0.0, "nesterov": False}
# Shares of the straight way from the start to the target at which other starts are tried.
CLOSER = (0.5, 0.75, 0.9)
RANDOM_STARTS = 12
# Past the bound of a quadratic nothing rests; a little below it, everything does.
_SAFE = 0.9


@dataclass(frozen=True, eq=False)
class JointDiagnosis(Result):
    """What is wrong with a run of several parameters, why, and what fixes it.

    Attributes:
        verdict: `healthy`, `equivalent_solution`, a cause, or `inconclusive`.
        headline: One sentence: what is wrong and what to change to which value.
        findings: The suspects, the primary first, then contributing, then ruled out.
        run: The run under diagnosis.
        remedies: Every cure that was tried, those that work first.
        target_hessian: What the Hessian at the target says; see `condition`.
        pairs: The loss on every pair's plane through the run's end.
    """

    verdict: str
    headline: str
    findings: tuple[Finding, ...]
    run: JointRun
    remedies: tuple[Remedy, ...]
    target_hessian: dict[str, Any]
    pairs: tuple[PairSurface, ...] = ()

    @property
    def is_healthy(self) -> bool:
        """Whether `--check` passes."""
        return self.verdict in HEALTHY

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        objective = self.run.objective
        return {
            "verdict": self.verdict,
            "headline": self.headline,
            "findings": [finding.to_dict() for finding in self.findings],
            "run": {**self.run.to_dict(), "trajectory": trajectory_name(0)},
            "remedies": [remedy.to_dict() for remedy in self.remedies],
            "target_hessian": self.target_hessian,
            "learned": list(objective.names),
            "units": ["rad" if p.is_angle else p.unit for p in objective.parameters],
            "periods": [parameter.period for parameter in objective.parameters],
            "tolerances": objective.tolerance.tolist(),
            "target": dict(zip(objective.names, objective.target.tolist(), strict=True)),
            "pairs": [{"names": list(pair.names), "file": pair.file} for pair in self.pairs],
        }

    def data(self) -> Data:
        """Returns what is saved as trajectory-000.csv and pair-*.npz."""
        names = self.run.objective.names
        planes = {p.file: {"a": p.a, "b": p.b, "loss": p.loss} for p in self.pairs}
        return {trajectory_name(0): self.run.trajectory.to_table(names), **planes}


class Trials:
    """Changed runs of one run.

    Args:
        run: The run under diagnosis.
        tell: Called after every batch of trials.
    """

    def __init__(self, run: JointRun, tell: Callable[[], None]) -> None:
        self.run = run
        self.objective = run.objective
        self._tell = tell

    def at_once(
        self,
        starts: Sequence[FloatArray] | None = None,
        rates: Sequence[float | FloatArray] | None = None,
        objective: JointObjective | None = None,
        **settings: Any,
    ) -> tuple[JointRun, ...]:
        """Returns runs with some things changed and everything else as it was.

        Args:
            starts: One a run; the run's own without.
            rates: One a run, for all parameters or for each; the run's own without.
            objective: Another than the run's.
            settings: Changes of the optimizer's settings.
        """
        count = max(1, len(starts or ()), len(rates or ()))
        places = np.broadcast_to(
            self.run.start if starts is None else np.array(starts), (count, len(self.run.start))
        )
        lrs = [self.run.lrs] * count if rates is None else list(rates) * (count // len(rates))
        table = np.array([np.broadcast_to(lr, places.shape[1:]) for lr in lrs])
        runs = run_joint_batch(
            self.objective if objective is None else objective,
            replace(self.run.settings, **settings),
            places,
            table,
        )
        self._tell()
        return runs

    def squared(self) -> JointObjective | None:
        """Returns the objective without its root, or None."""
        objective = self.objective
        if not objective.is_root:
            return None
        experiment = replace(objective.experiment, loss=objective.loss_definition.squared)
        # The compressed response does not depend on the loss.
        experiment.__dict__["everywhere"] = objective.experiment.everywhere
        return JointObjective(experiment, objective.names, objective.logs)

    @property
    def bound(self) -> float | None:
        """The largest rate at which gradient descent holds the target; None where unknown.

        2 (1 + beta) / the largest eigenvalue of the Hessian at the target (Goh 2017); a root's
        zero holds no rate at all.
        """
        if not self.run.settings.is_gradient_descent or self.objective.is_root:
            return None
        at = self.objective.coordinates(self.objective.target)[None]
        largest = float(np.linalg.eigvalsh(self.objective.hessian(at)[0])[-1])
        return 2 * (1 + self.run.settings.momentum) / largest if largest > 0 else None


def _evidence(run: JointRun) -> dict[str, Any]:
    shown = run.to_dict()
    names = ("optimizer", "lr", "momentum", "loss", "start", "steps", "outcome", "final")
    return {name: shown[name] for name in (*names, "final_loss")}


def _show(objective: JointObjective, values: FloatArray) -> str:
    return ", ".join(
        f"{parameter.name} {parameter.show(float(value))}"
        for parameter, value in zip(objective.parameters, values, strict=True)
    )


def _options(objective: JointObjective, values: FloatArray) -> str:
    """The options that give a start."""
    texts = []
    for parameter, value in zip(objective.parameters, values, strict=True):
        text = f"{np.degrees(value):.4g}deg" if parameter.is_angle else f"{value:.4g}"
        texts.append(f"--start {parameter.name}={text}")
    return " ".join(texts)


def kink(trials: Trials) -> Finding:
    """Would the same run with the squared loss arrive?"""
    squared = trials.squared()
    if squared is None:
        text = f"the loss ({trials.objective.loss_name}) is smooth at its minimum"
        return Finding("kink", False, False, {}, text)
    (trial,) = trials.at_once(objective=squared)
    reached = trial.outcome == "reached"
    evidence = {"counterfactual": _evidence(trial)}
    if not reached:
        text = f"without the root the same run ends {trial.outcome.replace('_', ' ')}"
        return Finding("kink", False, False, evidence, text)
    text = (
        f"the gradient of {trials.objective.loss_name} does not vanish at its zero, so a fixed "
        "step never settles; without the root the same run reaches the target"
    )
    return Finding("kink", True, True, evidence, text, "Use --loss mse with the same rates.")


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
        (longer,) = trials.at_once(rates=[3 * trials.run.lrs])
        advice = "Use three times the learning rates."
    reached = longer.outcome == "reached"
    evidence = {"counterfactual": _evidence(longer)}
    return Finding("step_too_small", True, reached, evidence, text, advice if reached else "")


def step_too_large(trials: Trials) -> Finding:
    """Is the rate above what the target holds, and does a smaller one arrive?"""
    largest, bound = float(trials.run.lrs.max()), trials.bound
    evidence: dict[str, Any] = {"largest_lr": largest, "bound_at_target": bound}
    wild = trials.run.outcome in ("cycle", "erratic", "running", "nonfinite")
    beyond = bound is not None and largest > bound
    if not (wild or beyond):
        text = f"the largest rate {largest:g} lets runs settle"
        return Finding("step_too_large", False, False, evidence, text)
    below = largest if bound is None else min(largest, _SAFE * bound)
    rates = sorted({round_down(below), *(r for r in SCANNED_RATES if r < below)}, reverse=True)
    trial = _first(trials.at_once(rates=rates[:4], steps=max(trials.run.settings.steps, 1500)))
    reached = trial.outcome == "reached"
    evidence["counterfactual"] = _evidence(trial)
    text = f"the largest rate {largest:g} is too large: the run ends {trials.run.outcome}"
    if beyond and bound is not None:
        text = (
            f"the largest rate {largest:g} is {largest / bound:.3g} times what the target holds "
            f"({bound:.3g}, 2 / the Hessian's largest eigenvalue)"
        )
    advice = f"Use --lr {trial.lrs[0]:g} --steps {trial.settings.steps}." if reached else ""
    return Finding("step_too_large", wild or reached, reached, evidence, text, advice)


def wrong_basin(trials: Trials) -> Finding:
    """Did it settle at another minimum, and does a start nearer to the target arrive?"""
    run, objective = trials.run, trials.objective
    if run.minimum is None or run.outcome != "local_minimum":
        text = "the run did not settle at another minimum"
        return Finding("wrong_basin", False, False, {}, text)
    way = objective.offsets(objective.target, run.start)
    trial = _first(trials.at_once(starts=[run.start + share * way for share in CLOSER]))
    reached = trial.outcome == "reached"
    names = objective.names
    loss = float(objective.loss_at(objective.coordinates(run.minimum)[None])[0])
    evidence = {
        "minimum": dict(zip(names, run.minimum.tolist(), strict=True)),
        "minimum_loss": loss,
        "counterfactual": _evidence(trial),
    }
    text = f"the run settled at another minimum, {_show(objective, run.minimum)} (loss {loss:.4g})"
    advice = ""
    if reached:
        advice = f"Start at {_show(objective, trial.start)}: {_options(objective, trial.start)}."
    return Finding("wrong_basin", True, reached, evidence, text, advice)


def no_working_lr(trials: Trials) -> Finding:
    """Does any of the usual rates reach the target from this start?"""
    steps = max(trials.run.settings.steps, 1000)
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


def mse_loss(trials: Trials) -> Remedy | None:
    """The loss without its root, all else equal."""
    squared = trials.squared()
    if squared is None:
        return None
    (run,) = trials.at_once(objective=squared)
    return _tried("mse_loss", f"--loss {squared.loss_name}", run)


def smaller_lr(trials: Trials) -> Remedy | None:
    """One rate for all, from just under what the target holds downwards."""
    bound, largest = trials.bound, float(trials.run.lrs.max())
    top = largest / 3 if bound is None else _SAFE * bound
    rates = [round_down(top), round_down(top / 3)]
    if rates[0] >= largest and len(set(trials.run.lrs.tolist())) == 1:
        return None
    steps = max(trials.run.settings.steps, 1500)
    best = _first(trials.at_once(rates=rates, steps=steps))
    return _tried("smaller_lr", f"--lr {best.lrs[0]:g} --steps {steps}", best)


def own_rates(trials: Trials) -> Remedy | None:
    """Each parameter its own rate, one over its curvature at the target."""
    objective = trials.objective
    if trials.run.settings.optimizer != "sgd" or objective.is_root:
        return None
    at = objective.coordinates(objective.target)[None]
    curvatures = np.diagonal(objective.hessian(at)[0])
    if (curvatures <= 0).any():
        return None
    rates = np.array([round_down(0.5 / float(curvature)) for curvature in curvatures])
    change = " ".join(f"--lr {n}={r:g}" for n, r in zip(objective.names, rates, strict=True))
    return _tried("own_rates", change, trials.at_once(rates=[rates])[0])


def adaptive(trials: Trials) -> Remedy | None:
    """Adam at usual rates."""
    steps = max(trials.run.settings.steps, 1000)
    best = _first(trials.at_once(rates=ADAM_RATES, steps=steps, **_ADAM))
    return _tried("adaptive", f"--optimizer adam --lr {best.lrs[0]:g} --steps {steps}", best)


def start_in_basin(trials: Trials) -> Remedy | None:
    """A start on the straight way to the target, with a rate that the target holds."""
    way = trials.objective.offsets(trials.objective.target, trials.run.start)
    steps = max(trials.run.settings.steps, 1500)
    starts = [trials.run.start + share * way for share in CLOSER]
    run = _first(trials.at_once(starts, [_calm(trials)], steps=steps))
    change = f"{_options(trials.objective, run.start)} --lr {run.lrs[0]:g} --steps {steps}"
    return _tried("start_in_basin", change, run)


def multi_start(trials: Trials) -> Remedy | None:
    """Random starts over the ranges: how many arrive, so how many one needs."""
    objective = trials.objective
    generator = np.random.default_rng(0)
    low = np.array([p.low for p in objective.parameters])
    high = np.array([p.high for p in objective.parameters])
    steps = max(trials.run.settings.steps, 1000)
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


def _calm(trials: Trials) -> float:
    bound = trials.bound
    return round_down(_SAFE * bound / 2) if bound is not None else 0.01


def _first(runs: Sequence[JointRun]) -> JointRun:
    """The first run that reached the target, or the first at all."""
    return next((run for run in runs if run.outcome == "reached"), runs[0])


def _tried(name: str, change: str, run: JointRun, **evidence: Any) -> Remedy:
    reached = run.outcome == "reached"
    return Remedy(name, reached, change, run.outcome, {**_evidence(run), **evidence})


# Cheap first.
REMEDIES = (mse_loss, smaller_lr, own_rates, adaptive, start_in_basin, multi_start)
# Batches of trials in a full diagnosis, for the progress bar.
_USUAL_TRIALS = 11


def diagnose_joint(run: JointRun, *, progress: Progress | None = None) -> JointDiagnosis:
    """Tests every suspect and tries every cure on a run of several parameters.

    Args:
        run: The run under diagnosis.
        progress: Called with (batches of changed runs made, about how many in all).
    """
    made = 0

    def tell() -> None:
        nonlocal made
        made += 1
        if progress is not None:
            progress(min(made, _USUAL_TRIALS), _USUAL_TRIALS)

    trials = Trials(run, tell)
    objective = run.objective
    at = objective.coordinates(objective.target)[None]
    hessian = condition(np.linalg.eigvalsh(objective.hessian(at, smooth=True)[0]))
    if run.outcome == "reached":
        verdict = "healthy" if _is_base(run) else "equivalent_solution"
        return JointDiagnosis(verdict, _healthy(run, verdict), (), run, (), hessian)
    findings = tuple(cause(trials) for cause in CAUSES)
    verdict = _verdict(run, findings)
    if verdict == "inconclusive" and tail_length(len(run.trajectory) - 1) < SHORTEST_TAIL:
        text = f"{run.settings.steps} steps are too few to judge. Run at least --steps 100."
        return JointDiagnosis(verdict, text, findings, run, (), hessian)
    remedies = tuple(r for remedy in REMEDIES if (r := remedy(trials)) is not None)
    remedies = tuple(sorted(remedies, key=lambda remedy: not remedy.works))
    headline = _headline(run, verdict, findings, remedies)
    return JointDiagnosis(verdict, headline, _roles(verdict, findings), run, remedies, hessian)


def _is_base(run: JointRun) -> bool:
    """Whether the run ended at the target's own values, not at a copy or whole turns away."""
    apart = np.abs(run.final - run.objective.target) / run.objective.tolerance
    return bool((apart <= 1.0).all())


def _healthy(run: JointRun, verdict: str) -> str:
    ends = _show(run.objective, run.final)
    if verdict == "healthy":
        return f"Healthy: the run reaches the target ({ends}). Nothing needs to change."
    return (
        f"No failure: the run ended at {ends}, which is the target's filter up to its symmetries "
        "(theta + 180° with psi turned to -psi; whole turns; signs of lengths). Nothing needs to "
        "change."
    )


def _verdict(run: JointRun, findings: tuple[Finding, ...]) -> str:
    if tail_length(len(run.trajectory) - 1) < SHORTEST_TAIL:
        return "inconclusive"
    for finding in findings:
        if finding.present and finding.sufficient:
            return finding.cause
    present = [finding.cause for finding in findings if finding.present]
    order = ("no_working_lr", "wrong_basin", "step_too_large", "kink", "step_too_small")
    return next((cause for cause in order if cause in present), "inconclusive")


def _roles(verdict: str, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    def role(finding: Finding) -> str:
        if finding.cause == verdict:
            return "primary"
        return "contributing" if finding.present else "ruled_out"

    order = ("primary", "contributing", "ruled_out")
    ranked = [replace(finding, role=role(finding)) for finding in findings]
    return tuple(sorted(ranked, key=lambda finding: order.index(finding.role)))


def _headline(
    run: JointRun, verdict: str, findings: tuple[Finding, ...], remedies: tuple[Remedy, ...]
) -> str:
    if verdict == "inconclusive":
        ends = run.outcome.replace("_", " ")
        return f"The run ends {ends}, and no cause that was tested explains it. Run more steps."
    finding = next(f for f in findings if f.cause == verdict)
    sentence = finding.explanation[0].upper() + finding.explanation[1:] + "."
    if finding.advice:
        return f"{sentence} {finding.advice}"
    cure = next((remedy for remedy in remedies if remedy.works), None)
    if cure is None:
        return f"{sentence} None of the {len(remedies)} remedies tried helps."
    return f"{sentence} What works: {cure.change}."


def diagnose_several(
    objective: JointObjective,
    settings: OptimizerSettings,
    start: FloatArray | None = None,
    own_lrs: Mapping[str, float] | None = None,
    *,
    listener: Any = None,
    progress: Progress | None = None,
) -> JointDiagnosis:
    """Runs one optimizer on several parameters and says what is wrong and what fixes it.

    Args:
        objective: Of the learned parameters.
        settings: Optimizer, rate, steps.
        start: Values (d,); the experiment's own without.
        own_lrs: Learning rates of single parameters, by name.
        listener: Called with every step of the run as it happens.
        progress: Called with (batches of changed runs made, about how many in all).

    Raises:
        UsageError: A start or a rate that cannot be.
    """
    _ = learning_rates(objective, settings, own_lrs or {})
    run = run_joint(objective, settings, start, own_lrs, listener=listener)
    diagnosis = diagnose_joint(run, progress=progress)
    return replace(diagnosis, pairs=pair_surfaces(run))
