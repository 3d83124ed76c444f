"""The suspects: each cause has its own test and its own counterfactual.

A test says whether the cause is present, and whether taking it away alone, everything else left as
it is, makes the run reach the target. `CAUSES`, of one parameter and of several, is ordered from
the least intrusive change to the most; the first that is present and sufficient is the primary one.
One that is present but not sufficient becomes the verdict where no other is. What cannot be asked
of a run is reported with the reason. The thresholds are listed in this room's README.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gabordiag.diagnosis.evidence import Facts, SpaceBench, Trial
from gabordiag.dynamics.optimizers import PROPORTIONAL
from gabordiag.dynamics.outcomes import OUTCOME_NAMES, PLATEAU_SLOPE, tail_length
from gabordiag.dynamics.windows import Windows
from gabordiag.landscape.points import SAME_LOSS, CriticalPoint, Landscape
from gabordiag.landscape.sweep import Sweep
from gabordiag.objective.space import FloatArray
from gabordiag.results import Finding
from gabordiag.wording import counted, listed, times

# Part of the landscape's height by which the lowest loss may lie below the target's.
UNREACHABLE = 1e-3
# Evaluations of a loss at a value, to see whether it is random.
_AGAIN = 3
WRONG_GRADIENT = 1e-2
GOOD_GRADIENT = 1e-4
FLAT_SLOPE, FLAT_RISE = 1e-3, 1e-2
_WITHOUT_END = (
    "Choose a --range that holds the minimum; where a loss has none, penalise large values, by "
    "weight decay say."
)
# Tolerances beside a start at which nothing drives the run that it is tried.
NUDGE = 5

Test = Callable[[Facts], Finding]


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
    there, advice = f"{shown(lowest.value)} ({lowest.loss:.4g})", ""
    text = f"the lowest minimum of the whole range lies at the target (loss {loss:.3g})"
    if elsewhere and loss - lowest.loss > UNREACHABLE * height:
        text = f"the loss is lowest at {there}, not at the target {shown(goal)} ({loss:.4g})"
        if facts.experiment is not None:
            text += ": the target was made by another convention or input"
        advice = _compare(facts, lowest.value)
    elif not facts.bench.is_minimum_at_target:
        text = f"there is no minimum at the target {shown(goal)} (loss {loss:.4g})"
        apart = loss - lowest.loss
        if apart > SAME_LOSS * height:
            text += f"; the lowest is at {there}"
            advice = _compare(facts, lowest.value)
        elif apart < -SAME_LOSS * height:
            text += f", from where the loss falls on; of the minima the lowest is at {there}"
            advice = "Choose a --range that holds the minimum."
        else:
            text += f": at {there} the loss is as low, it does not distinguish the two"
            advice = "Nothing in this loss leads to the target: change the loss or the input."
    elif elsewhere:
        text = f"the minimum at the target ({loss:.4g}) is as low as the one at {there}, or nearly"
    return Finding("target_unreachable", bool(advice), False, evidence, text, advice)


def _better_seen(facts: Facts) -> Finding | None:
    """Without a target: a lower loss that the run itself passed than where it ended."""
    run, lower = facts.run, UNREACHABLE * facts.bench.height
    best = run.trajectory.landscape_losses[run.trajectory.best_index]
    gain = run.final_loss - best
    known = None if facts.landscape is None else facts.landscape.goal
    if run.outcome != "reached" or not gain > lower or gain <= 2 * facts.blur:
        return None
    if known is not None and best >= known.loss - SAME_LOSS * facts.bench.height:
        # About a kink a run goes up and down.
        return None
    value, end = run.trajectory.values[run.trajectory.best_index], run.trajectory.values[-1]
    # Of a random loss, some value is always lower.
    again = _losses(facts, *[value] * _AGAIN, *[end] * _AGAIN)
    if not again[_AGAIN:].min() - again[:_AGAIN].max() > lower:
        return None
    there, here = facts.space.show(value), facts.space.show(end)
    text = f"the run ends with loss {run.final_loss:.4g} at {here}, and had seen {best:.4g} at "
    text += f"{there}: no minimum is known there"
    evidence = {"lowest": facts.space.named(value), "lowest_loss": float(best), "decides": True}
    advice = "Look at the loss there with `gabordiag sweep`: it may jump, or be random."
    return Finding("target_unreachable", True, False, evidence, text, advice)


def _lower_beside_jump(facts: Facts, landscape: Landscape) -> Finding | None:
    """A loss that is lowest right beside a jump: no minimum is there to end at."""
    goal, shown, height = landscape.parameter.target, facts.space.show, facts.bench.height
    lowest = min(landscape.attractors, key=lambda point: point.loss)
    end = lowest.value if goal is None else goal
    loss = lowest.loss if goal is None else float(_losses(facts, goal)[0])
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
    places = np.array(values, dtype=np.float64).reshape(-1, len(facts.space))
    return facts.objective.loss_at(facts.space.coordinates(places))


def _of_several(facts: Facts) -> Finding:
    """Several parameters, whose minima are not all known: by the run and by Newton's method."""
    bench, space, run = facts.bench, facts.space, facts.run
    assert isinstance(bench, SpaceBench)
    beside = bench.nearest_minimum
    known = [run.trajectory.values[run.trajectory.best_index], run.minimum, beside]
    places = [place for place in known if place is not None]
    loss, *others = _losses(facts, bench.goal, *places).tolist()
    lowest, least, shown = places[int(np.nanargmin(others))], float(np.nanmin(others)), space.show
    apart = min(float(space.distances(lowest, goal)) for goal in facts.objective.goals)
    evidence = {"lowest": space.named(lowest), "lowest_loss": least, "loss_at_target": loss}
    goal, advice = shown(bench.goal), ""
    if space.is_target_found and (left := bench.left_ranges(bench.goal)):
        text = (
            f"no minimum was found: the loss is lowest at {goal} ({loss:.3g}), outside the range "
        )
        text += f"of {' and '.join(left)}, and descent leads there"
        evidence["decides"] = True
        return Finding("target_unreachable", True, False, evidence, text, _WITHOUT_END)
    text = f"no loss lower than at {facts.goal_name} (loss {loss:.3g}) was found elsewhere"
    if apart > 1.0 and loss - least > UNREACHABLE * bench.height:
        there = f"{shown(lowest)} ({least:.4g})"
        text = f"the loss is lower at {there} than at {facts.goal_name} {goal} ({loss:.4g})"
        advice = _compare(facts, lowest)
    elif not bench.is_minimum_at_target and loss > least + SAME_LOSS * bench.height:
        # Newton's method leads to another minimum, then.
        assert beside is not None
        text = f"there is no minimum at the target {goal} (loss {loss:.4g})"
        text += f"; the nearest is at {shown(beside)}"
        advice = _compare(facts, beside)
    elif run.outcome == "local_minimum" and run.minimum is not None and bench.is_level_at_target:
        end = float(_losses(facts, run.minimum)[0])
        if abs(end - loss) <= SAME_LOSS * bench.height:
            text = f"the target {goal} (loss {loss:.3g}) lies on the floor of a valley: at "
            text += f"{shown(run.minimum)} ({end:.3g}) the loss is as low, it does not distinguish "
            text += "the two"
            advice = "Nothing in this loss leads to the target: change the loss or the input."
    return Finding("target_unreachable", bool(advice), False, evidence, text, advice)


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
    goal = parameter.target
    if goal is not None:
        above = float(_losses(facts, goal)[0] - losses.min())
        near = abs(float(parameter.offset(end, goal))) <= parameter.tolerance
        past = (facts.run.trajectory.values[:, 0] - end) * (1 if end == parameter.high else -1)
        stays = not np.nanmax(past) > parameter.tolerance
        if stays and (near or above <= UNREACHABLE * float(np.ptp(losses))):
            text = f"the target {shown(goal)} is where the loss is lowest, an end of the range"
            return Finding("target_unreachable", False, False, evidence, text)
    word = "holds" if landscape.certificate.certified else "shows"
    text = (
        f"the range {shown(parameter.low)} to {shown(parameter.high)} {word} no minimum: the loss "
        f"is lowest at its end {shown(end)}, and descent leads out of it"
    )
    return Finding("target_unreachable", True, False, evidence, text, _WITHOUT_END)


def _compare(facts: Facts, lowest: npt.ArrayLike) -> str:
    fits = f"here {facts.space.show(lowest)} fits best."
    if facts.experiment is not None:
        return f"Compare the two kernels' conventions; {fits}"
    return f"Check the target, and what the loss is compared with; {fits}"


def _absent(cause: str, text: str, evidence: dict[str, Any] | None = None) -> Finding:
    return Finding(cause, False, False, evidence or {}, text)


def _present(
    cause: str, text: str, evidence: dict[str, Any], trial: Trial | None, advice: str
) -> Finding:
    """A cause with the run without it; the advice holds where that reaches the target."""
    if trial is not None:
        evidence = {**evidence, "counterfactual": trial.to_dict()}
    sufficient = trial is not None and trial.reached
    return Finding(cause, True, sufficient, evidence, text, advice if sufficient else "")


def wrong_gradient(facts: Facts) -> Finding:
    """Closed form, autograd and finite differences against each other over the whole range."""
    if facts.sweep is None:
        # `check_objective` asks the same along each of them.
        why = "it needs the landscape of one parameter, and several are learned"
        return _absent("wrong_gradient", f"not asked: {why}", {"asked": False, "why": why})
    check, certificate = facts.sweep.gradient_check, facts.sweep.landscape.certificate
    errors = [e for e in (check.analytic_vs_autograd, check.analytic_vs_numeric) if e is not None]
    evidence, worst = vars(check).copy(), max(errors, default=0.0)
    by = f"{worst:.1e} of its largest value"
    if worst > WRONG_GRADIENT and certificate.is_isolated:
        where = evidence["value"] = _worst_place(facts.sweep)
        place = facts.space.show(where)
        text = f"the derivative differs from finite differences by {by}, most at {place}"
        return Finding("wrong_gradient", True, False, evidence, text, "Correct the derivative.")
    word = "agrees with" if worst <= GOOD_GRADIENT else "is suspiciously far from"
    text = f"the derivative {word} autograd and finite differences: they differ by at most {by}"
    if not errors:
        text = "the derivative could not be compared with finite differences"
    elif worst > WRONG_GRADIENT:
        # Where a loss is rounded, its differences say nothing about the derivative.
        why = certificate.reason
        text = f"finite differences cannot show whether the derivative is right: {why}"
    return _absent("wrong_gradient", text, evidence)


def _worst_place(sweep: Sweep) -> float:
    check, other = sweep.gradient_check, sweep.grad_numeric
    if (check.analytic_vs_autograd or 0.0) >= (check.analytic_vs_numeric or 0.0):
        other = sweep.grad_autograd
    with np.errstate(invalid="ignore"):
        apart = np.abs(sweep.grad_analytic - other)
    return float(sweep.values[int(np.argmax(np.where(np.isfinite(apart), apart, -1.0)))])


def nonfinite_gradient(facts: Facts) -> Finding:
    """NaN in the gradient where the loss was still finite: 0/0 of a root at zero loss, say."""
    path = facts.run.trajectory
    bad = np.flatnonzero(np.isfinite(path.losses) & ~np.isfinite(path.gradients).all(axis=1))
    if len(bad) == 0:
        return _absent("nonfinite_gradient", "every gradient was finite")
    step = int(bad[0])
    loss, value = float(path.losses[step]), facts.space.named(path.values[step])
    instead, trial = facts.squared_trial or ("", None)
    text = f"at step {step} the loss was {loss:.3g} and its gradient NaN"
    if loss == 0 and facts.objective.is_root:
        text += ": the derivative of a square root at exactly zero is 0/0"
    evidence = {"step": step, "loss": loss, "value": value}
    advice = f"Use {instead}, or add a small constant under the root."
    return _present("nonfinite_gradient", text, evidence, trial, advice)


def flat_start(facts: Facts) -> Finding:
    """Does the run start where there is no slope, and would it work a little beside?"""
    space, values = facts.space, facts.run.trajectory.values
    slopes = np.abs(facts.run.trajectory.gradients[0])
    slope, height = float(np.hypot.reduce(slopes * space.tolerance)), facts.bench.height
    share = slope / facts.bench.steepest if facts.bench.steepest else 0.0
    # Beside a steep wall every slope is small; it is flat if it is small for the height, too.
    flat = float(np.hypot.reduce(slopes * space.width)) <= FLAT_RISE * height
    evidence: dict[str, Any] = {"gradient_at_start": space.named(slopes), "share_of_largest": share}
    stuck = facts.run.outcome in ("plateau", "frozen", "unfinished")
    # A run that has left is not held up by its start.
    halfway = np.abs(values[len(values) // 2] - facts.start) / space.tolerance
    is_left = float(halfway.max()) > NUDGE
    if not (stuck and flat and share <= FLAT_SLOPE) or is_left or _starts_on_floor(facts):
        text = f"the gradient at the start is {share:.2g} of the steepest"
        return _absent("flat_start", text, evidence)
    nudges = np.diag(NUDGE * space.tolerance)
    starts = facts.start + np.concatenate([nudges, -nudges])
    trial = facts.bench.first_confirmed(facts.settings, starts)
    here, slope_words = space.show(facts.start), _numbers(facts, slopes, ".2g")
    text = f"at the start {here} the gradient is {slope_words}, {share:.1g} of the steepest: "
    text += "a maximum, an inflection or a plateau, which a descent hardly leaves"
    return _present("flat_start", text, evidence, trial, f"Start at {space.show(trial.start)}.")


def _starts_on_floor(facts: Facts) -> bool:
    """Whether the start is as good as at the bottom of the target's basin, of an x^4 say."""
    target = facts.target_basin
    if target is None or not facts.starts_in_target_basin:
        return False
    above = float(facts.run.trajectory.landscape_losses[0]) - target.loss
    return above <= UNREACHABLE * facts.bench.height


def _numbers(facts: Facts, values: FloatArray, form: str) -> str:
    names = facts.space.names if len(values) > 1 else [""]
    shown = (f"{n} {value:{form}}" for n, value in zip(names, values.tolist(), strict=True))
    return ", ".join(shown).strip()


def kink(facts: Facts) -> Finding:
    """Does the run bounce across a kink at the target, and would a loss without it settle?"""
    slope, space, name = facts.bench.kink_slope, facts.space, facts.objective.loss_name
    loss = "the loss" if name == "loss" else f"the loss ({name})"
    if slope is None:
        text = f"{loss} is smooth at {facts.goal_name}"
        if not facts.bench.is_minimum_at_target:
            text = f"{facts.no_minimum} that could be a kink"
        return _absent("kink", text)
    bounce = facts.run.rates * slope
    evidence = {"slope": space.named(slope), "bounce": space.named(bounce)}
    shown = f"by up to lr x slope = {space.show(bounce)}"
    if (bounce > space.width).any():
        shown = "by up to lr x slope, which is more than the whole range"
    how = f"is {_numbers(facts, slope, '.3g')} right"
    if np.isinf(slope).any():
        shown, how = "ever farther, as the slope grows towards it", "grows without bound"
    if not _bounces_at_target(facts):
        but = "but this run does not bounce there"
        if facts.run.outcome == "reached":
            but = f"within the tolerance of {space.show(space.tolerance)}"
        text = f"the kink at {facts.goal_name} makes the iterate bounce {shown}, {but}"
        return _absent("kink", text, evidence)
    instead, trial = facts.squared_trial or ("", None)
    text = f"the slope of {name} {how} beside its minimum, so a fixed step never settles: "
    text += f"it bounces across {facts.goal_name} {shown}"
    return _present("kink", text, evidence, trial, f"Use {instead} with the same learning rate.")


def _arrives(facts: Facts, trial: Trial) -> str:
    assert trial.steps_to_target is not None
    steps = counted(trial.steps_to_target, "step", "steps")
    return f"Use {facts.tuning(trial)}, which arrives in {steps}"


def _bounces_at_target(facts: Facts) -> bool:
    """Whether the run's second half stays in the target's basin and keeps crossing the target."""
    goal = facts.run.goal
    if facts.run.outcome == "reached" or goal is None:
        return False
    values = facts.run.trajectory.values
    late = values[len(values) // 2 :]
    if not np.isfinite(late).all():
        return False
    if facts.landscape is not None:
        target = facts.target_basin
        basin = target and facts.landscape.reach_around(target, float(late[0, 0]))
        if not basin or late.min() < basin[0] or late.max() > basin[1]:
            return False
    sides = np.sign(facts.space.offsets(late, goal))
    return int((sides[1:] != sides[:-1]).sum(axis=0).max()) >= len(late) // 4


def step_too_small(facts: Facts) -> Finding:
    """Is the run still on its way, and would a larger rate arrive in the same steps?"""
    settings, bench = facts.settings, facts.bench
    evidence: dict[str, Any] = {"lr": settings.lr, "steps": settings.steps}
    rounded = _rounded_away(facts)
    swings = facts.run.outcome == "erratic" and facts.longer is not None
    is_level = facts.run.outcome == "plateau" and _starts_on_floor(facts)
    if facts.run.outcome != "unfinished" and rounded is None and not (swings or is_level):
        text = "the run has stopped descending, so its steps are not too small"
        return _absent("step_too_small", text, evidence)
    if facts.flips:
        text = f"each step leads across {facts.goal_name}, so the steps are not too small"
        return _absent("step_too_small", text, evidence)
    trial = facts.longer if swings else None
    if not swings and facts.starts_in_target_basin is not False:
        trial = bench.tuned(settings, facts.start, between=(settings.lr, math.inf))
    trial = trial or facts.continued
    how = f"swinging about {facts.goal_name}, ever less" if swings else "descending"
    text = f"after {settings.steps} steps of lr {settings.lr:g} it is still {how}"
    if trial is not None and not trial.reached:
        text += f", and after {trial.settings.steps} steps on its way to {facts.goal_name}"
    if rounded is not None:
        evidence |= rounded
        value, kind = facts.space.show(facts.run.final), rounded["precision"]
        digit, step = f"{rounded['last_digit']:.2g}", f"{rounded['step']:.2g}"
        text = f"the steps are rounded away: the last digit of {value} in {kind} is {digit}, and "
        text += f"the steps are {step}, so that nothing moves"
    if trial is not None:
        arrives = _arrives(facts, trial) if trial.reached else ""
        advice = f"{arrives}{_unit(facts, trial)}."
        return _present("step_too_small", text, evidence, trial, advice)
    advice = "" if rounded is None else "Give the module in double precision (module.double())."
    return Finding("step_too_small", True, False, evidence, text, advice)


def _rounded_away(facts: Facts) -> dict[str, Any] | None:
    """What is lost of the steps where gradients arrive and the parameters do not move at all."""
    path, dtype = facts.run.trajectory, facts.objective.dtype
    tail = tail_length(len(path) - 1)
    updates, slopes = path.updates[-tail:-1], np.abs(path.gradients[-tail:-1])
    if facts.run.outcome in ("reached", "local_minimum") or len(updates) == 0:
        return None
    # On a level stretch nothing that is lost would have moved it.
    steepest = float(np.hypot.reduce(slopes[-1] * facts.space.tolerance))
    is_driven = np.isfinite(slopes).all() and (slopes.max(axis=1) > 0).all()
    if not is_driven or steepest <= PLATEAU_SLOPE * facts.bench.steepest or updates.any():
        return None
    at, steps = int(np.argmax(slopes[-1])), path.lrs[-1] * slopes[-1]
    value = max(np.abs(path.values[-1, at]), 1e-300)
    digit = float(torch.finfo(dtype).eps * 2.0 ** np.floor(np.log2(value)))
    if facts.settings.optimizer in PROPORTIONAL and steps[at] > digit:
        # It is something else that holds it.
        return None
    precision = str(dtype).removeprefix("torch.")
    return {"precision": precision, "last_digit": digit, "step": float(steps[at])}


def _unit(facts: Facts, trial: Trial) -> str:
    """Says that it is the parameter's unit that asks for such a rate, where it is."""
    rate = float(trial.rates.max())
    if len(facts.space) > 1 or not trial.settings.is_gradient_descent or 1e-4 <= rate <= 10:
        return ""
    # With v = s u the slope is s times larger, and a step of u is lr s dL/dv: the rate s^2 smaller.
    scale = 10.0 ** round(math.log10(rate) / 2)
    how = f"learn {facts.space.names[0]} / {scale:g} instead, with --lr {rate / scale**2:.2g}"
    size = "large" if rate > 1 else "small"
    return f"; so {size} a rate comes of the parameter's unit: {how}"


def step_too_large(facts: Facts) -> Finding:
    """Is the rate more than the target's basin holds, and would a smaller one reach it?"""
    hold, lr, basin = facts.hold_lr, facts.settings.lr, facts.basin_name
    evidence: dict[str, Any] = {"lr": lr, "hold_lr": hold} | _theory(facts)
    trial, thrown = None, _thrown(facts)
    if facts.run.outcome != "unfinished" or thrown is not None or facts.flips:
        trial = facts.smaller
    # Between two scanned rates, and beyond the scan, the run's own is tried.
    holds = True if hold is not None and lr <= hold else facts.bench.holds(facts.settings)
    if holds is False and facts.run.outcome == "nonfinite":
        # That it leaves needs no single step.
        thrown = None
    is_stable = thrown is None and holds is not False and not facts.flips
    if is_stable and (trial is None or facts.longer is not None):
        text = f"the rate {lr:g} is not too large"
        if trial is not None:
            text += f": with {trial.settings.steps} steps it arrives, too"
        elif hold is not None:
            text += f"; {basin} is stable up to {max(hold, lr):.3g}"
        elif holds is None:
            text = f"no smaller rate than {lr:g} was found that reaches {facts.goal_name}"
        return _absent("step_too_large", text, evidence)
    text = _why_too_large(facts, holds, evidence, thrown)
    advice = "" if trial is None else f"{_arrives(facts, trial)}."
    return _present("step_too_large", text, evidence, trial, advice)


def _why_too_large(
    facts: Facts, holds: bool | None, evidence: dict[str, Any], thrown: int | None
) -> str:
    hold, lr, basin, space = facts.hold_lr, facts.settings.lr, facts.basin_name, facts.space
    text = f"the rate {lr:g} is too large"
    if holds is False:
        text = f"at the rate {lr:g} {basin} is not stable"
        if hold is not None and not (facts.windows is not None and facts.windows.held[-1]):
            who, what = f"rate {lr:g} is", f"{hold:.3g}"
            if np.ptp(facts.run.rates):
                # Of which of them is the fault, the bound does not say.
                rates = zip(space.names, facts.run.rates, strict=True)
                who = f"rates ({listed([f'{name} {rate:g}' for name, rate in rates])}) are"
                what = "those"
            text = f"the {who} {times(lr / hold)} times {what}, up to which {basin} is stable"
    if thrown is not None:
        begin, end = map(space.show, facts.run.trajectory.values[thrown : thrown + 2])
        evidence["thrown_at"] = thrown
        is_open = facts.run.outcome == "unfinished"
        where = "from where it is still descending" if is_open else "far out"
        return f"{text}: step {thrown} leads from {begin} to {end}, {where}"
    if facts.flips:
        text += f": each step leads across {facts.goal_name}, nearly as far as the last"
    return text


def _thrown(facts: Facts) -> int | None:
    """The last step that led a run farther from its goal than it began, or None.

    Of one that did not come back: it is unfinished, or far out.
    """
    goal, values = facts.run.goal, facts.run.trajectory.values
    if facts.run.outcome not in ("unfinished", "nonfinite") or goal is None:
        return None
    apart = facts.space.distances(values, goal)
    step = int(np.flatnonzero(apart <= apart[0])[-1])
    return step if step + 1 < len(apart) and np.isfinite(values[step + 1]).all() else None


def wrong_basin(facts: Facts) -> Finding:
    """Does the run lead to another minimum, and would another start work?"""
    evidence, text = _astray(facts) if facts.landscape is None else _in_another_basin(facts)
    if evidence is None:
        return _absent("wrong_basin", text)
    trial, advice = None, ""
    if facts.starts_inside:
        trial = facts.bench.first_confirmed(facts.settings, np.stack(facts.starts_inside))
        how = f": {facts.options(trial.start)}"
        if facts.target_basin is not None:
            how = f", inside {facts.basin_name}{_span(facts, facts.target_basin)}"
        advice = f"Start at {facts.space.show(trial.start)}{how}."
    return _present("wrong_basin", text, evidence, trial, advice)


def _astray(facts: Facts) -> tuple[dict[str, Any] | None, str]:
    run, space, goal = facts.run, facts.space, facts.bench.goal
    if run.minimum is None or run.outcome != "local_minimum" or goal is None:
        return None, "the run did not settle at another minimum"
    (loss, at_target), where = _losses(facts, run.minimum, goal), space.show(run.minimum)
    evidence = {"minimum": space.named(run.minimum), "minimum_loss": float(loss)}
    as_low = _as_low(facts, loss, at_target)
    return evidence, f"the run settled at another minimum, {where} (loss {loss:.4g}{as_low})"


def _as_low(facts: Facts, loss: float, at_target: float) -> str:
    # A twin of the target's minimum is no worse, only elsewhere: half a period on, say.
    is_twin = loss <= at_target + SAME_LOSS * facts.bench.height
    return f", as low as {facts.goal_name}'s" if is_twin else ""


def _in_another_basin(facts: Facts) -> tuple[dict[str, Any] | None, str]:
    own, target, show = facts.own_basin, facts.target_basin, facts.space.show
    if target is None:
        return None, f"{facts.no_minimum} whose basin the start could miss"
    if facts.starts_in_target_basin:
        return None, f"the start lies in {facts.basin_name}"
    evidence: dict[str, Any] = {
        "start": facts.run.start,
        "minimum": None if own is None else own.value,
        "minimum_loss": None if own is None else own.loss,
        "basin": None if own is None or own.basin is None else list(own.basin),
        "target_basin": None if target.basin is None else list(target.basin),
    }
    start = f"the start {show(facts.start)}"
    if own is None:
        text = f"from {start} descent leads to no minimum of the range"
        return evidence, text
    apart = np.abs(facts.space.offsets(facts.start, np.array([own.value])))
    as_low = _as_low(facts, own.loss, target.loss)
    there = f"a minimum at {show(own.value)} (loss {own.loss:.4g}{as_low})"
    stays = f"in whose basin{_span(facts, own)} descent stays"
    return evidence, f"{start} lies {show(apart)} from {there}, {stays}"


def no_working_lr(facts: Facts) -> Finding:
    """Is what escapes the start's basin more than the target's basin holds?"""
    windows = facts.windows
    if windows is None:
        text = "learning rates were not scanned for this optimizer and schedule"
        return _absent("no_working_lr", text)
    evidence: dict[str, Any] = windows.to_dict()
    if facts.landscape is None:
        # Of several parameters few rates are tried.
        pairs = zip(windows.lrs.tolist(), windows.outcomes.tolist(), strict=True)
        evidence["tried"] = {f"{lr:g}": OUTCOME_NAMES[code] for lr, code in pairs}
    why_not = ""
    if not facts.bench.is_minimum_at_target:
        why_not = f"{facts.no_minimum} that a rate could lead to"
    elif windows.working_lr:
        why_not = f"there are learning rates that reach {facts.goal_name} from this start"
    elif windows.starts_in_target_basin:
        why_not = f"no escape is needed: the start lies in {facts.basin_name}"
    elif facts.continued is not None:
        why_not = f"with more steps the rate itself leads to {facts.goal_name}"
    elif facts.landscape is None and facts.smaller is not None:
        why_not = f"with more steps a smaller rate leads to {facts.goal_name}"
    if why_not:
        return _absent("no_working_lr", why_not, evidence)
    lrs, why = windows.lrs, _why_none(facts, windows)
    text = f"of {len(lrs)} learning rates from {lrs[0]:g} to {lrs[-1]:g} none reaches "
    text += f"{facts.goal_name} from this start{why}"
    return Finding("no_working_lr", True, False, evidence, text)


def _why_none(facts: Facts, windows: Windows) -> str:
    escape, hold, basin = windows.escape_lr, windows.hold_lr, facts.basin_name
    if hold is None:
        return ""
    stable = f"{basin} is stable up to {hold:.3g}"
    if facts.landscape is None:
        return f" ({stable})"
    if escape is not None and escape > hold:
        less = f"{times(escape / hold)} times less"
        return f": leaving the start's basin takes {escape:.3g}, {stable}, {less}"
    if escape is not None:
        leave = f"leave the start's (from {escape:.3g} on), but none of them settles there"
        return f": some at which {basin} is stable (up to {hold:.3g}) {leave}"
    is_out = facts.own_basin is None
    why = (
        "from there descent leads to no minimum of the range"
        if is_out
        else "none leaves the start's basin"
    )
    return f": {why} ({stable})"


def _theory(facts: Facts) -> dict[str, Any]:
    target = facts.target_basin
    if isinstance(facts.bench, SpaceBench):
        return {"bound": facts.bench.bound(facts.settings)}
    if target is None or target.curvature is None:
        return {}
    theory = facts.theory
    # Of an estimate no evidence is made.
    bound = None if theory is None or theory.entry.is_estimate else theory.bound
    return {"lr_times_curvature": facts.settings.lr * target.curvature, "bound": bound}


def _span(facts: Facts, point: CriticalPoint) -> str:
    assert point.basin is not None
    low, high = (facts.space.parameters[0].show(edge, 1) for edge in point.basin)
    return f" ({low} to {high})"


CAUSES: dict[str, Test] = {
    "wrong_gradient": wrong_gradient,
    "nonfinite_gradient": nonfinite_gradient,
    "target_unreachable": target_unreachable,
    "flat_start": flat_start,
    "kink": kink,
    "step_too_small": step_too_small,
    "step_too_large": step_too_large,
    "wrong_basin": wrong_basin,
    "no_working_lr": no_working_lr,
}
