"""The suspects: each cause has its own test and its own counterfactual.

A test says whether the cause is present, and whether taking it away alone, everything else left as
it is, makes the run reach the target. `CAUSES` is ordered from the least intrusive change to the
most; the first that is present and sufficient is the primary one. To add a cause: write a function
`facts -> Finding`, put it in its place in the table, and plant it in `test_planted.py`. One that is
present but not sufficient becomes the verdict where no other is. Runs of several parameters have
their own table (`joint_causes.py`).

Thresholds that decide a verdict:

| constant | below / inside | above / outside |
|---|---|---|
| WRONG_GRADIENT 1e-2 (CS231n) | derivative ruled out, or suspicious | `wrong_gradient` |
| GOOD_GRADIENT 1e-4 (CS231n) | "agrees" | "suspicious", said so, no verdict |
| UNREACHABLE 1e-3 of the height (`unreachable.py`) | target counts as the lowest | not |
| FLAT_SLOPE 1e-3 of the steepest, FLAT_RISE 1e-2 of height / range | the start is flat | not |
| outcomes' own | see `gabordiag.dynamics.outcomes` | |
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gabordiag.diagnosis.evidence import Facts, Trial
from gabordiag.diagnosis.unreachable import target_unreachable
from gabordiag.dynamics.theory import stability_bound
from gabordiag.landscape.critical import SAME_LOSS, CriticalPoint
from gabordiag.results import Finding, finite_or_none
from gabordiag.wording import counted, times

WRONG_GRADIENT = 1e-2
GOOD_GRADIENT = 1e-4
FLAT_SLOPE, FLAT_RISE = 1e-3, 1e-2

Test = Callable[[Facts], Finding]


def wrong_gradient(facts: Facts) -> Finding:
    """Closed form, autograd and finite differences against each other over the whole range."""
    check = facts.sweep.gradient_check
    errors = [e for e in (check.analytic_vs_autograd, check.analytic_vs_numeric) if e is not None]
    evidence = check.to_dict()
    if not errors:
        text = "the derivative could not be compared with finite differences"
        return Finding("wrong_gradient", False, False, evidence, text)
    worst, certificate = max(errors), facts.landscape.certificate
    if worst > WRONG_GRADIENT and not certificate.certified:
        # At the steps of a loss that is rounded, say, its differences are no derivative.
        text = (
            f"finite differences do not tell whether the derivative is right: {certificate.reason}"
        )
        return Finding("wrong_gradient", False, False, evidence, text)
    if worst > WRONG_GRADIENT:
        where = _worst_place(facts)
        evidence["value"] = where
        text = (
            f"the derivative differs from finite differences by {worst:.1e} of its largest value, "
            f"most at {facts.parameter.show(where)}"
        )
        return Finding("wrong_gradient", True, False, evidence, text, "Correct the derivative.")
    word = "agrees with" if worst <= GOOD_GRADIENT else "is suspiciously far from"
    text = (
        f"the derivative {word} autograd and finite differences: "
        f"they differ by at most {worst:.1e} of its largest value"
    )
    return Finding("wrong_gradient", False, False, evidence, text)


def _worst_place(facts: Facts) -> float:
    sweep, check = facts.sweep, facts.sweep.gradient_check
    other = sweep.grad_numeric
    if (check.analytic_vs_autograd or 0.0) >= (check.analytic_vs_numeric or 0.0):
        other = sweep.grad_autograd
    with np.errstate(invalid="ignore"):
        apart = np.abs(sweep.grad_analytic - other)
    return float(sweep.values[int(np.nanargmax(np.where(np.isfinite(apart), apart, np.nan)))])


def nonfinite_gradient(facts: Facts) -> Finding:
    """NaN in the gradient where the loss was still finite: 0/0 of a root at zero loss, say."""
    path = facts.run.trajectory
    bad = np.flatnonzero(np.isfinite(path.losses) & ~np.isfinite(path.gradient))
    if len(bad) == 0:
        return Finding("nonfinite_gradient", False, False, {}, "every gradient was finite")
    step = int(bad[0])
    loss = float(path.losses[step])
    evidence: dict[str, Any] = {"step": step, "loss": loss, "value": float(path.value[step])}
    trial = _squared_trial(facts)
    sufficient = trial is not None and trial.reached
    text = f"at step {step} the loss was {loss:.3g} and its gradient NaN"
    if loss == 0 and facts.objective.is_root:
        text += ": the derivative of a square root at exactly zero is 0/0"
    if trial is not None:
        evidence["counterfactual"] = trial.to_dict()
    advice = ""
    if sufficient:
        advice = f"Use {facts.without_root}, or add a small constant under the root."
    return Finding("nonfinite_gradient", True, sufficient, evidence, text, advice)


def flat_start(facts: Facts) -> Finding:
    """Does the run start where there is no slope, and would it work a little beside?"""
    slope = abs(float(facts.run.trajectory.gradient[0]))
    landscape, width = facts.landscape, facts.parameter.high - facts.parameter.low
    share = slope / landscape.largest_gradient if landscape.largest_gradient else 0.0
    # Beside a steep wall every slope is small; it is flat if it is small for the height, too.
    flat = slope <= FLAT_RISE * (landscape.largest_loss - landscape.smallest_loss) / width
    evidence: dict[str, Any] = {"gradient_at_start": slope, "share_of_largest": share}
    nudge = 5 * facts.parameter.tolerance
    stuck = facts.run.outcome in ("plateau", "frozen", "unfinished")
    # A run that has left is not held up by its start.
    values = facts.run.trajectory.value
    halfway = abs(float(values[len(values) // 2]) - facts.start)
    present = stuck and flat and share <= FLAT_SLOPE and halfway <= nudge
    if not present:
        text = f"the gradient at the start is {share:.2g} of the steepest"
        return Finding("flat_start", False, False, evidence, text)
    trials = [facts.bench.trial(facts.settings, facts.start + sign * nudge) for sign in (1, -1)]
    trial = next((t for t in trials if t.reached), trials[0])
    evidence["counterfactual"] = trial.to_dict()
    where = facts.parameter.show(facts.start)
    text = (
        f"at the start {where} the gradient is {slope:.2g}, {share:.1g} of the steepest: "
        "a maximum, an inflection or a plateau, which a descent hardly leaves"
    )
    advice = f"Start at {facts.parameter.show(trial.start)}." if trial.reached else ""
    return Finding("flat_start", True, trial.reached, evidence, text, advice)


def kink(facts: Facts) -> Finding:
    """Does the run bounce across a kink at the target, and would a loss without it settle?"""
    slope = facts.kink_slope
    if slope is None:
        text = f"the loss ({facts.objective.loss_name}) is smooth at the target"
        if not facts.is_minimum_at_target:
            text = "there is no minimum at the target that could be a kink"
        return Finding("kink", False, False, {}, text)
    bounce = facts.settings.lr * slope
    evidence: dict[str, Any] = {"slope": finite_or_none(slope), "bounce": finite_or_none(bounce)}
    shown = f"by up to lr x slope = {facts.parameter.show(bounce)}"
    if math.isinf(slope):
        shown = "ever farther, as the slope grows towards it"
    if not _bounces_at_target(facts):
        text = f"the kink at the target makes the iterate bounce {shown}, "
        but = "but this run does not bounce there"
        if facts.run.outcome == "reached":
            but = f"within the tolerance of {facts.parameter.show(facts.parameter.tolerance)}"
        return Finding("kink", False, False, evidence, text + but)
    trial = _squared_trial(facts)
    sufficient = trial is not None and trial.reached
    if trial is not None:
        evidence["counterfactual"] = trial.to_dict()
    how = "grows without bound" if math.isinf(slope) else f"is {slope:.3g} right"
    text = (
        f"the slope of {facts.objective.loss_name} {how} beside its minimum, so a fixed step never "
        f"settles: it bounces across the target {shown}"
    )
    advice = f"Use {facts.without_root} with the same learning rate." if sufficient else ""
    return Finding("kink", True, sufficient, evidence, text, advice)


def _steps(trial: Trial) -> str:
    assert trial.steps_to_target is not None
    return counted(trial.steps_to_target, "step", "steps")


def _begin(words: str) -> str:
    return words[0].upper() + words[1:]


def _bounces_at_target(facts: Facts) -> bool:
    """Whether the run's second half stays in the target's basin and keeps crossing the target."""
    target, goal = facts.target_basin, facts.landscape.goal_value
    if facts.run.outcome == "reached" or target is None or goal is None:
        return False
    values = facts.run.trajectory.value
    late = values[len(values) // 2 :]
    if not np.isfinite(late).all():
        return False
    basin = facts.landscape.reach_around(target, float(late[0]))
    if basin is None or late.min() < basin[0] or late.max() > basin[1]:
        return False
    sides = np.sign(facts.parameter.offset(late, goal))
    crossings = int((sides[1:] != sides[:-1]).sum())
    return crossings >= len(late) // 4


def _squared_trial(facts: Facts) -> Trial | None:
    return None if facts.squared is None else facts.squared.confirmed(facts.settings, facts.start)


def step_too_small(facts: Facts) -> Finding:
    """Is the run still on its way, and would a larger rate arrive in the same steps?"""
    outcome = facts.run.outcome
    evidence: dict[str, Any] = {"lr": facts.settings.lr, "steps": facts.settings.steps}
    if outcome != "unfinished":
        text = "the run has stopped descending, so its steps are not too small"
        return Finding("step_too_small", False, False, evidence, text)
    trial = None
    if facts.starts_in_target_basin:
        trial = facts.bench.tuned(
            facts.settings, facts.start, above=facts.settings.lr, more_steps=False
        )
    sufficient = trial is not None
    text = f"after {facts.settings.steps} steps of lr {facts.settings.lr:g} it is still descending"
    advice = ""
    if trial is not None:
        evidence["counterfactual"] = trial.to_dict()
        advice = f"Use {facts.tuning(trial)}, which arrives in {_steps(trial)}."
    return Finding("step_too_small", True, sufficient, evidence, text, advice)


def step_too_large(facts: Facts) -> Finding:
    """Is the rate more than the target's basin holds, and would a smaller one reach it?"""
    windows, target, lr = facts.windows, facts.target_basin, facts.settings.lr
    hold = None if windows is None else windows.hold_lr
    evidence: dict[str, Any] = {"lr": lr, "hold_lr": hold}
    if target is not None and target.curvature is not None:
        evidence["lr_times_curvature"] = lr * target.curvature
        theory = stability_bound(target, facts.settings, facts.parameter.tolerance)
        # Of an estimate no evidence is made.
        exact = theory is not None and not theory.entry.is_estimate
        evidence["bound"] = theory.bound if theory is not None and exact else None
    trial = None
    if facts.run.outcome != "unfinished":
        trial = facts.bench.tuned(facts.settings, facts.start, below=lr)
    if trial is not None:
        evidence["counterfactual"] = trial.to_dict()
    # Between two scanned rates, and beyond the scan, the run's own is tried.
    holds = lr <= hold if hold is not None and lr <= hold else facts.holds_own_rate
    if trial is None and holds is not False:
        text = f"the rate {lr:g} is not too large"
        if hold is not None and windows is not None:
            up_to = "every scanned rate" if windows.holds_all else "rates"
            text += f"; the target's basin holds {up_to} up to {max(hold, lr):.3g}"
        elif holds is None:
            text = f"no smaller rate than {lr:g} was found that reaches the target"
        return Finding("step_too_large", False, False, evidence, text)
    text = f"the rate {lr:g} is too large"
    if holds is False:
        text = f"the rate {lr:g} is more than the target's basin holds"
        if hold is not None and windows is not None and not windows.holds_all:
            text = (
                f"the rate {lr:g} is {times(lr / hold)} times what the target's basin holds "
                f"({hold:.3g})"
            )
    advice = ""
    if trial is not None:
        advice = f"Use {facts.tuning(trial)}, which arrives in {_steps(trial)}."
    return Finding("step_too_large", True, trial is not None, evidence, text, advice)


def wrong_basin(facts: Facts) -> Finding:
    """Does gradient flow from the start lead elsewhere, and would a start inside work?"""
    own, target = facts.own_basin, facts.target_basin
    shown = facts.parameter.show
    if target is None or facts.starts_in_target_basin:
        text = "the start lies in the target's basin"
        if target is None or not facts.is_minimum_at_target:
            text = "there is no minimum at the target whose basin the start could miss"
        return Finding("wrong_basin", False, False, {}, text)
    evidence: dict[str, Any] = {
        "start": facts.start,
        "minimum": None if own is None else own.value,
        "minimum_loss": None if own is None else own.loss,
        "basin": None if own is None or own.basin is None else list(own.basin),
        "target_basin": None if target.basin is None else list(target.basin),
    }
    inside = facts.start_inside
    trial = None if inside is None else facts.bench.trial(facts.settings, inside)
    if trial is not None:
        evidence["counterfactual"] = trial.to_dict()
    sufficient = trial is not None and trial.reached
    text = f"from the start {shown(facts.start)} descent leads out of the range, not to the target"
    if own is not None:
        text = (
            f"the start {shown(facts.start)} lies {_apart(facts, own)} from a minimum at "
            f"{shown(own.value)} (loss {own.loss:.4g}{_as_low(facts, own)}), in whose "
            f"basin{_span(facts, own)} descent stays"
        )
    advice = ""
    if sufficient and inside is not None:
        advice = f"Start at {shown(inside)}, inside the target's basin{_span(facts, target)}."
    return Finding("wrong_basin", True, sufficient, evidence, text, advice)


def no_working_lr(facts: Facts) -> Finding:
    """Is what escapes the start's basin more than the target's basin holds?"""
    windows = facts.windows
    if windows is None:
        text = "learning rates were not scanned for this optimizer and schedule"
        return Finding("no_working_lr", False, False, {}, text)
    evidence: dict[str, Any] = windows.to_dict()
    if not facts.is_minimum_at_target:
        text = "there is no minimum at the target that a rate could lead to"
        return Finding("no_working_lr", False, False, evidence, text)
    escape, hold = windows.escape_lr, windows.hold_lr
    if windows.working_lr or windows.starts_in_target_basin:
        text = "there are learning rates that reach the target from this start"
        if not windows.working_lr:
            text = "no escape is needed: the start lies in the target's basin"
        return Finding("no_working_lr", False, False, evidence, text)
    text = f"of {len(windows.lrs)} learning rates from {windows.lrs[0]:g} to {windows.lrs[-1]:g} "
    text += "none reaches the target from this start"
    if escape is not None and hold is not None and escape > hold:
        text += (
            f": leaving the start's basin takes {escape:.3g}, the target's basin holds at most "
            f"{hold:.3g}, {times(escape / hold)} times less"
        )
    elif escape is not None and hold is not None:
        text += (
            f": some that the target's basin holds (up to {hold:.3g}) leave the start's (from "
            f"{escape:.3g} on), but none of them comes to rest there"
        )
    elif hold is not None:
        why = "none leaves the start's basin"
        if facts.own_basin is None:
            why = "from there descent leads out of the range"
        text += f": {why} (the target's basin holds up to {hold:.3g})"
    return Finding("no_working_lr", True, False, evidence, text)


def _apart(facts: Facts, point: CriticalPoint) -> str:
    return facts.parameter.show(abs(float(facts.parameter.offset(facts.start, point.value))))


def _as_low(facts: Facts, point: CriticalPoint) -> str:
    """A twin of the target's minimum is no worse, only elsewhere: half a period on, say."""
    target, landscape = facts.target_basin, facts.landscape
    slack = SAME_LOSS * (landscape.largest_loss - landscape.smallest_loss)
    is_twin = target is not None and point.loss <= target.loss + slack
    return ", as low as the target's" if is_twin else ""


def _span(facts: Facts, point: CriticalPoint) -> str:
    # Minima and kinks have one.
    assert point.basin is not None
    low, high = (facts.parameter.show(edge, 1) for edge in point.basin)
    return f" ({low} to {high})"


@dataclass(frozen=True)
class Cause:
    """One suspect.

    Attributes:
        name: As in the interface.
        test: Its test.
        stands_alone: Primary as soon as it is present: nothing after it can be trusted.
    """

    name: str
    test: Test
    stands_alone: bool = field(default=False)


CAUSES = (
    Cause("wrong_gradient", wrong_gradient, stands_alone=True),
    Cause("nonfinite_gradient", nonfinite_gradient, stands_alone=True),
    Cause("target_unreachable", target_unreachable, stands_alone=True),
    Cause("flat_start", flat_start),
    Cause("kink", kink),
    Cause("step_too_small", step_too_small),
    Cause("step_too_large", step_too_large),
    Cause("wrong_basin", wrong_basin),
    Cause("no_working_lr", no_working_lr),
)
