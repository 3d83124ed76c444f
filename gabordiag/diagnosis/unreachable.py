"""The suspect that no optimizer can be blamed for: the loss does not lead to the target."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gabordiag.diagnosis.evidence import Facts, SpaceBench
from gabordiag.landscape.points import SAME_LOSS, Landscape
from gabordiag.objective.space import FloatArray
from gabordiag.results import Finding

# Part of the landscape's height by which the lowest loss may lie below the target's.
UNREACHABLE = 1e-3
# Evaluations of a loss at a value, to see whether it is random.
_AGAIN = 3


def target_unreachable(facts: Facts) -> Finding:
    """Is there a minimum at the target, and is it the lowest?"""
    if facts.landscape is None:
        return _of_several(facts)
    goal, attractors = facts.landscape.parameter.target, facts.landscape.attractors
    if not attractors:
        return _without_minimum(facts, facts.landscape)
    jump = _lower_beside_jump(facts, facts.landscape)
    if jump is not None or goal is None:
        text = "no target was given, the lowest minimum serves as one"
        found = jump or _better_seen(facts)
        return found or Finding("target_unreachable", False, False, {}, text)
    lowest = min(attractors, key=lambda point: point.loss)
    loss, height = float(_losses(facts, goal)[0]), facts.bench.height
    elsewhere = float(facts.space.distances([lowest.value], [goal])) > 1.0
    evidence = {"lowest": lowest.value, "lowest_loss": lowest.loss, "loss_at_target": loss}
    shown = facts.space.show
    there = f"{shown(lowest.value)} ({lowest.loss:.4g})"
    if elsewhere and loss - lowest.loss > UNREACHABLE * height:
        text = f"the loss is lowest at {there}, not at the target {shown(goal)} ({loss:.4g})"
        if facts.experiment is not None:
            text += ": the target was made by another convention or input"
        return Finding(
            "target_unreachable", True, False, evidence, text, _compare(facts, lowest.value)
        )
    if not facts.bench.is_minimum_at_target:
        text = f"there is no minimum at the target {shown(goal)} (loss {loss:.4g})"
        if loss > lowest.loss + SAME_LOSS * height:
            text += f"; the lowest is at {there}"
            advice = _compare(facts, lowest.value)
        else:
            text += f": at {there} the loss is as low, it does not distinguish the two"
            advice = "Nothing in this loss leads to the target: change the loss or the input."
        return Finding("target_unreachable", True, False, evidence, text, advice)
    text = f"the lowest minimum of the whole range lies at the target ({loss:.3g})"
    if elsewhere:
        text = f"the minimum at the target ({loss:.4g}) is as low as the one at {there}, or nearly"
    return Finding("target_unreachable", False, False, evidence, text)


def _better_seen(facts: Facts) -> Finding | None:
    """Without a target: a lower loss that the run itself passed than where it ended."""
    run, lower = facts.run, UNREACHABLE * facts.bench.height
    best = run.trajectory.landscape_losses[run.best_index]
    if run.outcome != "reached" or not run.final_loss - best > lower:
        return None
    if run.final_loss - best <= 2 * facts.blur:
        return None
    value, end = run.trajectory.values[run.best_index], run.trajectory.values[-1]
    # Of a random loss, some value is always lower.
    again = _losses(facts, *[value] * _AGAIN, *[end] * _AGAIN)
    if not again[_AGAIN:].min() - again[:_AGAIN].max() > lower:
        return None
    text = (
        f"the run ends with loss {run.final_loss:.4g} at {facts.space.show(end)}, and "
        f"had seen {best:.4g} at {facts.space.show(value)}: no minimum is known there"
    )
    evidence = {"lowest": facts.space.named(value), "lowest_loss": float(best)}
    advice = "Look at the loss there with `gabordiag sweep`: it may jump, or be random."
    return Finding("target_unreachable", True, False, {**evidence, "decides": True}, text, advice)


def _lower_beside_jump(facts: Facts, landscape: Landscape) -> Finding | None:
    """A loss that is lowest right beside a jump: no minimum is there to end at."""
    goal, shown, height = landscape.parameter.target, facts.space.show, facts.bench.height
    lowest = min(landscape.attractors, key=lambda point: point.loss)
    end, loss = (lowest.value, lowest.loss)
    if goal is not None:
        end, loss = goal, float(_losses(facts, goal)[0])
    if landscape.lowest_jump is None or loss - landscape.lowest_jump[1] <= UNREACHABLE * height:
        return None
    place, beside = landscape.lowest_jump
    text = (
        f"the loss jumps at {shown(place)} and is lower right beside the jump ({beside:.4g}) than "
        f"at {facts.goal_name} {shown(end)} ({loss:.4g})"
    )
    evidence = {"lowest": place, "lowest_loss": beside, "loss_at_target": loss}
    advice = "Make the loss continuous there, or choose a --range on one side of the jump."
    return Finding("target_unreachable", True, False, evidence, text, advice)


def _losses(facts: Facts, *values: npt.ArrayLike) -> FloatArray:
    """Returns the losses (n,) at n places of the parameters."""
    places = np.array(values, dtype=np.float64).reshape(-1, len(facts.space))
    return facts.objective.loss_at(facts.space.coordinates(places))


def _of_several(facts: Facts) -> Finding:
    """Several parameters, whose minima are not all known: by the run and by Newton's method."""
    bench, space, run = facts.bench, facts.space, facts.run
    assert isinstance(bench, SpaceBench)
    beside = bench.nearest_minimum
    known = [run.trajectory.values[run.best_index], run.minimum, beside]
    places = [place for place in known if place is not None]
    losses = _losses(facts, bench.goal, *places)
    loss, lowest = float(losses[0]), places[int(np.nanargmin(losses[1:]))]
    lowest_loss, shown = float(np.nanmin(losses[1:])), space.show
    apart = min(float(space.distances(lowest, goal)) for goal in facts.objective.goals)
    evidence = {
        "lowest": space.named(lowest), "lowest_loss": lowest_loss, "loss_at_target": loss,
    }  # fmt: skip
    there = f"{shown(lowest)} ({lowest_loss:.4g})"
    if apart > 1.0 and loss - lowest_loss > UNREACHABLE * bench.height:
        text = (
            f"the loss is lower at {there} than at {facts.goal_name} {shown(bench.goal)} "
            f"({loss:.4g})"
        )
        return Finding("target_unreachable", True, False, evidence, text, _compare(facts, lowest))
    if (
        beside is not None
        and not bench.is_minimum_at_target
        and loss > lowest_loss + SAME_LOSS * bench.height
    ):
        text = f"there is no minimum at the target {shown(bench.goal)} (loss {loss:.4g})"
        text += f"; the nearest is at {shown(beside)}"
        return Finding("target_unreachable", True, False, evidence, text, _compare(facts, beside))
    text = f"no loss lower than at {facts.goal_name} ({loss:.3g}) was found elsewhere"
    return Finding("target_unreachable", False, False, evidence, text)


def _without_minimum(facts: Facts, landscape: Landscape) -> Finding:
    """The loss of a range that holds no minimum: it is lowest at one of the ends."""
    parameter, shown = landscape.parameter, landscape.parameter.show
    if parameter.period is not None or facts.bench.is_minimum_at_target:
        return Finding("target_unreachable", False, False, {}, "no minimum was found")
    losses = _losses(facts, parameter.low, parameter.high)
    assert facts.sweep is not None
    seen = int(np.argmin(facts.sweep.loss))
    if losses.min() - facts.sweep.loss[seen] > UNREACHABLE * facts.bench.height:
        # Inside the range it is lower than at both ends: noise hides a minimum there.
        text = (
            "no minimum stands out from the noise of the loss, which is lowest inside the range, "
            f"near {shown(float(facts.sweep.values[seen]))}"
        )
        return Finding("target_unreachable", False, False, {}, text)
    end = (parameter.low, parameter.high)[int(np.argmin(losses))]
    evidence = {"lowest": end, "lowest_loss": float(losses.min())}
    goal, height = parameter.target, float(np.ptp(losses))
    if goal is not None:
        loss = float(_losses(facts, goal)[0])
        near = abs(float(parameter.offset(end, goal))) <= parameter.tolerance
        if near or loss - losses.min() <= UNREACHABLE * height:
            text = f"the target {shown(goal)} is where the loss is lowest, an end of the range"
            return Finding("target_unreachable", False, False, evidence, text)
    word = "holds" if landscape.certificate.certified else "shows"
    text = (
        f"the range {shown(parameter.low)} to {shown(parameter.high)} {word} no minimum: the loss "
        f"is lowest at its end {shown(end)}, and descent leads out of it"
    )
    advice = "Choose a --range that holds the minimum."
    return Finding("target_unreachable", True, False, evidence, text, advice)


def _compare(facts: Facts, lowest: npt.ArrayLike) -> str:
    fits = f"here {facts.space.show(lowest)} fits best."
    if facts.experiment is not None:
        return f"Compare the two kernels' conventions; {fits}"
    return f"Check the target, and what the loss is compared with; {fits}"
