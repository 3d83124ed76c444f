"""What a diagnosis rests on: the objective, its landscape, the run, and trials of changed runs.

A `Bench` is an objective on which trials are cheap: its landscape and its tables, from which a run
of a thousand steps takes some hundredths of a second, with real torch optimizers. The run under
diagnosis itself is made on the objective, not on the tables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from gabordiag.dynamics.batch import descend_batch
from gabordiag.dynamics.descend import descend
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import OUTCOME_NAMES, surroundings
from gabordiag.dynamics.run import Run, Trajectory, judge_outcome
from gabordiag.dynamics.tables import TabulatedObjective
from gabordiag.dynamics.windows import (
    PROPORTIONAL,
    SCAN_STEPS,
    Windows,
    beside_target,
    measure_windows,
    rate_scale,
    suitable_rates,
)
from gabordiag.landscape.critical import CriticalPoint, Landscape, find_critical_points
from gabordiag.landscape.series_objective import SeriesObjective
from gabordiag.landscape.sweep import Sweep
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_objective import GaborObjective
from gabordiag.objective.joint import OfLine
from gabordiag.objective.losses import LOSSES
from gabordiag.objective.objective import Objective, Parameter
from gabordiag.own.evaluation import OwnObjective

# Places within the tolerance of the target at which a minimum is looked for.
_LOOKED_AT = 65
# Parts of the tolerance beside the target at which slopes are compared: of a smooth minimum they
# shrink in proportion, of a kink they stay, of a cusp they grow.
_BESIDE_KINK, _SIDES = (1e-2, 1e-3), np.array([-1.0, 1.0])
_KEEPS_SLOPE, _GROWS = 0.5, 1.5
# L-BFGS scales its steps itself, and one of them costs hundreds of others.
LBFGS_RATES = (1.0, 0.1)
# Rates tried one by one where the rate is not constant: two a decade.
SINGLE_RATES = tuple(10.0**exponent for exponent in np.arange(-4, 1.01, 0.5))


@dataclass(frozen=True, eq=False)
class Trial:
    """A changed run and what became of it.

    Attributes:
        settings: Optimizer, rate, schedule, steps.
        start: First value.
        outcome: A name of `OUTCOMES`.
        final: Last value.
        steps_to_target: First step from which on the value stays within tolerance; None if it
            never does.
    """

    settings: OptimizerSettings
    start: float
    outcome: str
    final: float
    steps_to_target: int | None

    @property
    def reached(self) -> bool:
        """Whether it ended at the target."""
        return self.outcome == "reached"

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON takes them."""
        return {
            "optimizer": self.settings.optimizer,
            "lr": self.settings.lr,
            "momentum": self.settings.momentum,
            "schedule": self.settings.schedule,
            "steps": self.settings.steps,
            "start": self.start,
            "outcome": self.outcome,
            "final": self.final,
            "steps_to_target": self.steps_to_target,
        }


class Bench:
    """An objective with its landscape and its tables, on which trials are cheap.

    Args:
        objective: What is minimised.
        landscape: Of it, if it is already known.
    """

    def __init__(self, objective: Objective, landscape: Landscape | None = None) -> None:
        self.objective = objective
        self._landscape = landscape
        self._windows: dict[tuple[Any, ...], Windows | None] = {}
        self._trials: dict[tuple[OptimizerSettings, float], Trial] = {}

    @cached_property
    def landscape(self) -> Landscape:
        """All critical points."""
        return self._landscape or find_critical_points(self.objective)

    @cached_property
    def table(self) -> TabulatedObjective:
        """The tabulated objective."""
        return TabulatedObjective(self.objective, self.landscape)

    @cached_property
    def kink_slope(self) -> float | None:
        """The slope right beside the target where it does not vanish towards it, else None.

        Infinite where it grows towards it.
        """
        target, parameter = self.landscape.target, self.landscape.parameter
        if target is None or target.slope is not None:
            return None if target is None else target.slope
        beside = target.value + parameter.tolerance * np.outer(_BESIDE_KINK, _SIDES)
        at_end = (beside < parameter.low) | (beside > parameter.high)
        if parameter.period is None and at_end.any():
            return None
        near, nearer = (self.objective.gradient(places) for places in beside)
        if not ((nearer * _SIDES > 0).all() and (near * _SIDES > 0).all()):
            return None
        growth = np.min(nearer / near)
        if growth > _GROWS:
            return math.inf
        return float(np.abs(nearer).max()) if growth > _KEEPS_SLOPE else None

    def _throws(self, settings: OptimizerSettings) -> bool:
        """Whether steps grow without bound towards the target: what stays near it was lucky."""
        keeps_rate = settings.optimizer in PROPORTIONAL and settings.schedule == "constant"
        return keeps_rate and self.kink_slope == math.inf

    def trial(self, settings: OptimizerSettings, start: float) -> Trial:
        """Runs the optimizer from the start and judges the run; once for each."""
        if (settings, start) not in self._trials:
            self._trials[settings, start] = self._judged(self.table, settings, start)
        return self._trials[settings, start]

    def _judged(self, on: Objective, settings: OptimizerSettings, start: float) -> Trial:
        first, rate = np.array([[start]]), np.array([[settings.lr]])
        states = list(descend(OfLine(on), settings, first, rate))
        trajectory = Trajectory.from_states(states, 0)
        outcome, _ = judge_outcome(surroundings(self.landscape), trajectory)
        return Trial(
            settings, start, outcome, float(trajectory.value[-1]), self.arrival(trajectory)
        )

    def confirmed(self, settings: OptimizerSettings, start: float) -> Trial:
        """Returns a trial that reached the target only if its neighbour did, too.

        At a rate that is too large a run wanders before it arrives, if it does, and a hair beside
        the start it may not: luck, not a cure.
        """
        trial = self.trial(settings, start)
        if not trial.reached:
            return trial
        nudge = 1e-6 * self.landscape.parameter.tolerance
        neighbours = (self.trial(settings, start + sign * nudge) for sign in (1, -1))
        other = next((other for other in neighbours if not other.reached), trial)
        if other.reached and self._is_at_rest(start):
            return self._judged(self.objective, settings, start)
        return other

    def _is_at_rest(self, start: float) -> bool:
        """Whether what would move a run from here is the tables' error, not the loss's slope."""
        slope = abs(float(self.objective.gradient(start)[0]))
        return slope <= 10 * self.table.tables[1].error * self.landscape.largest_gradient

    def arrival(self, trajectory: Trajectory) -> int | None:
        """Returns the first step from which on a path stays at the goal, None if it never does."""
        goal = self.landscape.goal_value
        if goal is None:
            return None
        parameter = self.landscape.parameter
        with np.errstate(invalid="ignore"):
            near = np.abs(parameter.offset(trajectory.value, goal)) <= parameter.tolerance
        away = np.flatnonzero(~near)
        first = int(away[-1]) + 1 if len(away) else 0
        return first if first < len(near) else None

    def windows(self, settings: OptimizerSettings, start: float) -> Windows | None:
        """Returns which rates work from the start, or None where they cannot be scanned."""
        if not settings.is_elementwise or settings.schedule != "constant":
            return None
        # The default scan of `basins`, whose numbers a diagnosis repeats.
        scan = replace(settings, steps=SCAN_STEPS)
        key = (scan.optimizer, scan.momentum, scan.nesterov, start)
        if key not in self._windows:
            rates = suitable_rates(self.landscape, scan)
            self._windows[key] = measure_windows(self.table, scan, rates, start)
        return self._windows[key]

    def holds(self, settings: OptimizerSettings) -> bool | None:
        """Whether the target's basin holds the settings' own rate, between those of a scan.

        None where it cannot be asked: no minimum at the target, or no batch.
        """
        beside = beside_target(self.landscape)
        if not beside or not settings.is_elementwise or settings.schedule != "constant":
            return None
        scan = replace(settings, steps=SCAN_STEPS)
        held = measure_windows(self.table, scan, np.array([settings.lr]), beside[0]).held
        return bool(held[0])

    def outcomes(
        self, settings: OptimizerSettings, rates: Sequence[float], start: float
    ) -> list[str]:
        """Returns the outcome at every rate, all at once; the optimizer must be elementwise."""
        runs = descend_batch(self.table, settings, np.array(rates), np.array([start]))
        codes, _ = runs.classify(self.landscape, self.table.tables[0])
        return [OUTCOME_NAMES[code] for code in codes[:, 0]]

    def rates(self, settings: OptimizerSettings, start: float) -> list[float]:
        """Returns the learning rates to try from a start, the safest first.

        Well inside the measured windows, and never above what the target's basin holds: a run that
        arrives at a larger rate was lucky.
        """
        windows = self.windows(settings, start)
        if windows is None:
            if not settings.is_elementwise:
                return list(LBFGS_RATES)
            scale = rate_scale(self.landscape, settings)
            return [round_down(scale * rate) for rate in reversed(SINGLE_RATES)]
        hold = windows.hold_lr
        if hold is None:
            return []
        rates = []
        for low, high in sorted(windows.working_lr, key=lambda w: w[0] / w[1]):
            top = min(high, hold)
            rates += [r for r in (top / 2, (low * top) ** 0.5, 0.95 * top) if low <= r <= top]
        return [round_down(rate) for rate in (*rates, 0.95 * hold, hold / 2)]

    def tuned(
        self,
        settings: OptimizerSettings,
        start: float,
        *,
        above: float = 0.0,
        below: float = math.inf,
        more_steps: bool = True,
    ) -> Trial | None:
        """Returns a run that reaches the target from the start at some rate, or None.

        Args:
            settings: Whose rate is varied; its steps are tried first, then more.
            start: First value.
            above: Only rates above this.
            below: Only rates below this.
            more_steps: Allow more steps than the settings' own.
        """
        if self._throws(settings):
            return None
        windows = self.windows(settings, start)
        if windows is not None and not (windows.working_lr or windows.starts_in_target_basin):
            # Rates that the target's basin holds do not lead out of another; more steps neither.
            return None
        rates = [lr for lr in self.rates(settings, start) if above < lr < below]
        counts = {settings.steps}
        # Where nothing could be scanned, more steps are for starts that lead there.
        if more_steps and (windows is not None or self._leads_to_target(start)):
            counts |= {max(settings.steps, steps) for steps in (SCAN_STEPS, 4 * SCAN_STEPS)}
        for steps in sorted(counts):
            for lr in dict.fromkeys(rates):
                trial = self.trial(replace(settings, lr=lr, steps=steps), start)
                if trial.reached:
                    return trial
        return None

    def _leads_to_target(self, start: float) -> bool:
        goal = self.landscape.goal_value
        own = self.landscape.attractor_of(start)
        return goal is not None and own is not None and own is self.landscape.attractor_of(goal)


class Facts:
    """Everything measured about one run.

    Args:
        objective: What was minimised.
        sweep: Its landscape and gradient check.
        run: The run under diagnosis.
        bench: Of the objective, if there is one already.
    """

    def __init__(
        self, objective: Objective, sweep: Sweep, run: Run, bench: Bench | None = None
    ) -> None:
        self.objective = objective
        self.sweep = sweep
        self.run = run
        self.bench = Bench(objective, sweep.landscape) if bench is None else bench

    @property
    def parameter(self) -> Parameter:
        """The learned parameter."""
        return self.objective.parameter

    @property
    def goal_name(self) -> str:
        """What a run should reach, in words."""
        return "the lowest minimum" if self.parameter.target is None else "the target"

    @property
    def landscape(self) -> Landscape:
        """Its critical points."""
        return self.sweep.landscape

    @property
    def settings(self) -> OptimizerSettings:
        """Of the run."""
        return self.run.settings

    @property
    def start(self) -> float:
        """Of the run."""
        return float(self.run.start)

    @property
    def experiment(self) -> Experiment | None:
        """The Gabor experiment behind the objective, if it is one."""
        return self.objective.experiment if isinstance(self.objective, GaborObjective) else None

    @cached_property
    def squared(self) -> Bench | None:
        """The same with the loss's root taken away, if it has one."""
        smooth = self.objective.squared()
        return None if smooth is None else Bench(smooth)

    @property
    def without_root(self) -> str:
        """What takes the root away: an option, or words where the loss is a user's function."""
        name = self.objective.loss_name
        return f"--loss {LOSSES[name].squared}" if name in LOSSES else "the loss's square"

    @cached_property
    def from_values(self) -> Bench | None:
        """The same with the derivative that the loss's own values have, noise averaged out.

        None for anything but a user's own objective, whose derivative may be what is broken, and
        where no series follows its values.
        """
        if not isinstance(self.objective, OwnObjective):
            return None
        series = SeriesObjective(self.objective)
        return Bench(series) if series.series.is_resolved else None

    @cached_property
    def windows(self) -> Windows | None:
        """Which rates work from the run's start."""
        return self.bench.windows(self.settings, self.start)

    @cached_property
    def holds_own_rate(self) -> bool | None:
        """Whether the target's basin holds the run's own rate; None where that has no answer."""
        return self.bench.holds(self.settings)

    @cached_property
    def is_minimum_at_target(self) -> bool:
        """Whether there is a minimum within the tolerance of the target, listed or only seen."""
        goal, landscape = self.parameter.target, self.landscape
        if goal is None:
            return bool(landscape.attractors)
        if landscape.target is not None or landscape.certificate.certified:
            return landscape.target is not None
        places = goal + self.parameter.tolerance * np.linspace(-1, 1, _LOOKED_AT)
        if self.parameter.period is None:
            places = places[(places >= self.parameter.low) & (places <= self.parameter.high)]
        losses = self.objective.loss_at(places)
        return 0 < int(np.argmin(losses)) < len(losses) - 1

    @property
    def kink_slope(self) -> float | None:
        """The slope beside the target, if it is a kink; infinite, if it is a cusp."""
        return self.bench.kink_slope

    @cached_property
    def own_basin(self) -> CriticalPoint | None:
        """The minimum into whose basin the start falls."""
        return self.landscape.attractor_of(self.start)

    @cached_property
    def target_basin(self) -> CriticalPoint | None:
        """The target's minimum, if there is one."""
        goal = self.landscape.goal_value
        if goal is None or not self.is_minimum_at_target:
            return None
        return self.landscape.attractor_of(goal)

    @property
    def starts_in_target_basin(self) -> bool:
        """Whether gradient flow leads from the start to the target."""
        return self.own_basin is not None and self.own_basin is self.target_basin

    @cached_property
    def start_inside(self) -> float | None:
        """A start in the target's basin: half way from the target to the edge nearest the start."""
        goal = self.landscape.goal_value
        found = None if goal is None else self.landscape.basin_of(goal)
        if goal is None or found is None:
            return None
        _, basin = found
        towards = float(self.parameter.offset(self.start, goal))
        edge = basin[0] if towards < 0 else basin[1]
        return goal + (edge - goal) / 2

    def changed(self, **changes: Any) -> OptimizerSettings:
        """Returns the run's settings with some of them changed."""
        return replace(self.settings, **changes)

    def tuning(self, trial: Trial) -> str:
        """Returns the options that make a trial's rate and steps of the run's."""
        options = f"--lr {trial.settings.lr:g}"
        if trial.settings.steps != self.settings.steps:
            options += f" --steps {trial.settings.steps}"
        return options


def round_down(value: float, digits: int = 2) -> float:
    """Returns the value cut to so many significant digits: what a person would type."""
    exponent = int(np.floor(np.log10(value))) - digits + 1
    return float(f"{np.floor(value / 10.0**exponent + 1e-9) * 10.0**exponent:.12g}")
