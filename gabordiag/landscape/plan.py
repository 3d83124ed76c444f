"""How many evaluations of a custom loss a command takes, how long, and what fits into a given time.

The counts are those of a loss that no series follows; a smooth one takes less. Where the time is
too short, everything that can be sparser becomes so by the same share: a sweep's points, the values
by which the landscape is known, and the steps of a run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from gabordiag.errors import UsageError
from gabordiag.landscape.sweep import Sweep, default_points, sweep_objective
from gabordiag.objective.objective import Line
from gabordiag.own.evaluation import OwnObjective
from gabordiag.wording import counted

# Evaluations whatever the plan: how noisy the loss is, and its largest gap; of a diagnosis also
# whether the gradient is right, and what lies beyond the range.
_OF_A_SWEEP, _OF_A_DIAGNOSIS = 50, 400
# Evaluations that a loss takes which no series follows, if none is saved: of a sweep, of a
# diagnosis. Where they take longer (seconds), or than is given, they are saved.
_THOROUGH, _ENOUGH = (5000, 25_000), 5.0
# The values from which a series is made are as many as take so long (seconds), up to so many.
_OF_A_SERIES, _MOST_NODES = 1.0, 2048
# As few points, values and steps as still say something.
_FEWEST = 9


@dataclass(frozen=True)
class Plan:
    """About how many evaluations of an expensive loss a command takes, and what it leaves out."""

    evaluations: int
    seconds_each: float
    points: int
    steps: int = 0
    left_out: tuple[str, ...] = ()

    def words(self) -> str:
        """Returns what is announced."""
        each = self.seconds_each
        text = (
            f"at most about {self.evaluations} evaluations of your objective, "
            f"{1e3 * each:.2g} ms each: about {self.evaluations * each:.2g} s"
        )
        return ". ".join([text, *(f"Left out: {text}" for text in self.left_out)])


def planned_sweep(
    objective: Line,
    plan: Plan | None,
    points: int | None = None,
    low: float | None = None,
    high: float | None = None,
) -> Sweep:
    """Returns the sweep with as many points as planned, or with those given without a plan."""
    points = points if plan is None else plan.points
    made = sweep_objective(objective, points, low, high, survey=True)
    return made if plan is None else replace(made, left_out=plan.left_out)


def make_plan(
    objective: Line | None,
    points: int | None = None,
    steps: int = 0,
    max_seconds: float | None = None,
    announce: Callable[[str], object] | None = None,
) -> Plan | None:
    """Returns, and announces, the plan of an expensive sweep, or with steps of a diagnosis."""
    plan = _plan(objective, points, steps, max_seconds)
    if isinstance(objective, OwnObjective) and objective.is_slow and plan and announce is not None:
        announce(plan.words())
    return plan


def _plan(
    objective: Line | None, points: int | None, steps: int, max_seconds: float | None
) -> Plan | None:
    if max_seconds is not None and not max_seconds > 0:
        raise UsageError(f"{max_seconds:g} seconds are too few.", "Give --max-seconds above 0.")
    if not isinstance(objective, OwnObjective):
        if max_seconds is not None:
            raise UsageError(
                "--max-seconds is for a custom objective of one parameter.", "Leave it out."
            )
        return None
    if not objective.is_expensive:
        return None
    each = objective.seconds_each()
    most = _ENOUGH if max_seconds is None else min(max_seconds, _ENOUGH)
    objective.is_timed_slow = each * _THOROUGH[steps > 0] > most
    affordable = 1 << int(math.log2(max(_OF_A_SERIES / each, 1)))
    objective.nodes = min(_MOST_NODES, max(objective.nodes, affordable))
    wanted = default_points(objective) if points is None else points
    fixed = _OF_A_DIAGNOSIS if steps else _OF_A_SWEEP

    def count(points: int, nodes: int, spread: int, steps: int) -> int:
        # A slow loss's differences are its own; a series is fitted, and held against as many.
        each_point = 3 if objective.is_slow else 1
        # A run that does not settle is asked for curvatures at up to half of its steps.
        each_step = 1 if max_seconds is None else 3
        return fixed + each_point * points + 2 * nodes + spread + each_step * steps

    full = (wanted, objective.nodes, objective.spread, steps)
    evaluations = count(*full)
    if max_seconds is None or evaluations * each <= max_seconds:
        return Plan(evaluations, each, wanted, steps)
    # What is known of the objective has taken its time, too.
    left = max_seconds / each - objective.samples
    share = max(0.0, (left - fixed) / (evaluations - fixed))
    few, values, made = (max(_FEWEST, int(share * n)) for n in (wanted, objective.spread, steps))
    few, made = min(few, wanted), min(made, steps)
    # A power of two.
    objective.spread, objective.nodes = values, 1 << max(4, int(share * full[1]).bit_length() - 1)
    left_out = [f"{wanted - few} of the sweep's {wanted} points"]
    left_out.append(f"the landscape is looked at in {values} places instead of {full[2]}")
    if made < steps:
        left_out.append(f"the run ends after {counted(made, 'step', 'steps')} of {steps}")
    evaluations = count(few, objective.nodes, objective.spread, made)
    if evaluations > left:
        left_out.append(f"nothing more, although {max_seconds:g} s are too short even for this")
    return Plan(evaluations, each, few, made, tuple(left_out))
