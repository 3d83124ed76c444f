"""The suspect that no optimizer can be blamed for: the loss does not lead to the target."""

from __future__ import annotations

import numpy as np

from gabordiag.diagnosis.evidence import Facts
from gabordiag.landscape.critical import SAME_LOSS, CriticalPoint
from gabordiag.results import Finding

# Part of the landscape's height by which the lowest loss may lie below the target's.
UNREACHABLE = 1e-3


def target_unreachable(facts: Facts) -> Finding:
    """Is there a minimum at the target, and is it the lowest?"""
    goal, attractors = facts.landscape.parameter.target, facts.landscape.attractors
    if not attractors:
        return _without_minimum(facts)
    if goal is None:
        text = "no target was given, the lowest minimum serves as one"
        return Finding("target_unreachable", False, False, {}, text)
    lowest = min(attractors, key=lambda point: point.loss)
    loss = float(facts.objective.loss_at(goal)[0])
    height = facts.landscape.largest_loss - facts.landscape.smallest_loss
    elsewhere = abs(float(facts.parameter.offset(lowest.value, goal))) > facts.parameter.tolerance
    evidence = {"lowest": lowest.value, "lowest_loss": lowest.loss, "loss_at_target": loss}
    shown = facts.parameter.show
    there = f"{shown(lowest.value)} ({lowest.loss:.4g})"
    if elsewhere and loss - lowest.loss > UNREACHABLE * height:
        text = f"the loss is lowest at {there}, not at the target {shown(goal)} ({loss:.4g})"
        if facts.experiment is not None:
            text += ": the target was made by another convention or input"
        return Finding("target_unreachable", True, False, evidence, text, _compare(facts, lowest))
    if not facts.is_minimum_at_target:
        text = f"there is no minimum at the target {shown(goal)} (loss {loss:.4g})"
        if loss > lowest.loss + SAME_LOSS * height:
            text += f"; the lowest is at {there}"
            advice = _compare(facts, lowest)
        else:
            text += f": at {there} the loss is as low, it does not tell the two apart"
            advice = "Nothing in this loss leads to the target: change the loss or the input."
        return Finding("target_unreachable", True, False, evidence, text, advice)
    text = f"the lowest minimum of the whole range lies at the target ({loss:.3g})"
    if elsewhere:
        text = f"the minimum at the target ({loss:.4g}) is as low as the one at {there}, or nearly"
    return Finding("target_unreachable", False, False, evidence, text)


def _without_minimum(facts: Facts) -> Finding:
    """The loss of a range that holds no minimum: it is lowest at one of the ends."""
    parameter, shown = facts.parameter, facts.parameter.show
    if parameter.period is not None or facts.is_minimum_at_target:
        return Finding("target_unreachable", False, False, {}, "no minimum was found")
    losses = facts.objective.loss_at([parameter.low, parameter.high])
    end = (parameter.low, parameter.high)[int(np.argmin(losses))]
    evidence = {"lowest": end, "lowest_loss": float(losses.min())}
    goal, height = parameter.target, float(np.ptp(losses))
    if goal is not None:
        loss = float(facts.objective.loss_at(goal)[0])
        near = abs(float(parameter.offset(end, goal))) <= parameter.tolerance
        if near or loss - losses.min() <= UNREACHABLE * height:
            text = f"the target {shown(goal)} is where the loss is lowest, an end of the range"
            return Finding("target_unreachable", False, False, evidence, text)
    word = "holds" if facts.landscape.certificate.certified else "shows"
    text = (
        f"the range {shown(parameter.low)} to {shown(parameter.high)} {word} no minimum: the loss "
        f"is lowest at its end {shown(end)}, and descent leads out of it"
    )
    advice = "Choose a --range that holds the minimum."
    return Finding("target_unreachable", True, False, evidence, text, advice)


def _compare(facts: Facts, lowest: CriticalPoint) -> str:
    fits = f"here {facts.parameter.show(lowest.value)} fits best."
    if facts.experiment is not None:
        return f"Compare the two kernels' conventions; {fits}"
    return f"Check the target, and what the loss is compared with; {fits}"
