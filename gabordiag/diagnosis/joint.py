"""The verdict on a run of several parameters: the same causes, each confirmed by a changed run.

Several parameters have no list of critical points that is proven complete; what is known is the
run itself, the minimum it ends at, the Hessian there and at the target, and what changed runs do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gabordiag.diagnosis.joint_causes import CAUSES
from gabordiag.diagnosis.joint_remedies import REMEDIES
from gabordiag.diagnosis.joint_trials import Trials
from gabordiag.diagnosis.remedies import Remedy
from gabordiag.diagnosis.verdict import (
    HEALTHY,
    is_too_short,
    strongest,
    too_short_headline,
    with_roles,
)
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.pairs import PairSurface, pair_surfaces
from gabordiag.dynamics.run import (
    Run,
    describe_space,
    describe_surroundings,
    run,
    surroundings_data,
    trajectory_name,
    trajectory_tables,
)
from gabordiag.landscape.surface import condition
from gabordiag.objective.joint import JointObjective
from gabordiag.objective.objective import FloatArray
from gabordiag.results import Data, Finding, Progress, Result


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
    run: Run
    remedies: tuple[Remedy, ...]
    target_hessian: dict[str, Any]
    pairs: tuple[PairSurface, ...] = ()

    @property
    def is_healthy(self) -> bool:
        """Whether `--check` passes."""
        return self.verdict in HEALTHY

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        return {
            "verdict": self.verdict,
            "headline": self.headline,
            "findings": [finding.to_dict() for finding in self.findings],
            "run": {**self.run.to_dict(), "trajectory": trajectory_name(0)},
            "remedies": [remedy.to_dict() for remedy in self.remedies],
            "target_hessian": self.target_hessian,
            **describe_space(self.run.space),
            **describe_surroundings(None, self.pairs),
        }

    def data(self) -> Data:
        """Returns what is saved as trajectory-000.csv and pair-*.npz."""
        return trajectory_tables([self.run]) | surroundings_data(None, self.pairs)


# Batches of trials in a full diagnosis, for the progress bar.
_USUAL_TRIALS = 11


def diagnose_joint(run: Run, *, progress: Progress | None = None) -> JointDiagnosis:
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
    at = objective.space.coordinates(objective.goals[0])[None]
    hessian = condition(np.linalg.eigvalsh(objective.hessian(at, smooth=True)[0]))
    if run.outcome == "reached":
        verdict = "healthy" if run.is_at_base else "equivalent_solution"
        return JointDiagnosis(verdict, _healthy(run, verdict), (), run, (), hessian)
    findings = tuple(cause(trials) for cause in CAUSES)
    verdict = _verdict(run, findings)
    if is_too_short(run):
        text = too_short_headline(run)
        return JointDiagnosis(verdict, text, findings, run, (), hessian)
    remedies = tuple(r for remedy in REMEDIES if (r := remedy(trials)) is not None)
    remedies = tuple(sorted(remedies, key=lambda remedy: not remedy.works))
    headline = _headline(run, verdict, findings, remedies)
    return JointDiagnosis(verdict, headline, with_roles(verdict, findings), run, remedies, hessian)


def _healthy(run: Run, verdict: str) -> str:
    ends = run.objective.space.show(run.final)
    if verdict == "healthy":
        return f"Healthy: the run reaches the target ({ends}). Nothing needs to change."
    return (
        f"No failure: the run ended at {ends}, which is the target's filter up to its symmetries "
        "(theta + 180° with psi turned to -psi; whole turns; signs of lengths). Nothing needs to "
        "change."
    )


def _verdict(run: Run, findings: tuple[Finding, ...]) -> str:
    if is_too_short(run):
        return "inconclusive"
    for finding in findings:
        if finding.present and finding.sufficient:
            return finding.cause
    return strongest(findings)


def _headline(
    run: Run, verdict: str, findings: tuple[Finding, ...], remedies: tuple[Remedy, ...]
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
    made = run(objective, settings, start, own_lrs, listener=listener)
    diagnosis = diagnose_joint(made, progress=progress)
    return replace(diagnosis, pairs=pair_surfaces(objective, made.trajectory.values))
