"""What a diagnosis is based on: the objective, the run, and trials of changed runs.

A `Bench` makes changed runs of an objective. For one parameter (`LineBench`) it holds the landscape
and tables of the loss, on which a thousand steps take a few hundredths of a second; for several
(`SpaceBench`) there are neither: all runs of a question are made at once, on the objective itself,
as the run under diagnosis always is. `Facts` is what every cause and remedy is given.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from gabordiag.checks.graph import Culprit, Repaired, find_culprit
from gabordiag.dynamics.batch import descend_batch
from gabordiag.dynamics.descend import descend
from gabordiag.dynamics.optimizers import PROPORTIONAL, OptimizerSettings
from gabordiag.dynamics.outcomes import (
    CODES,
    OUTCOME_NAMES,
    ROUNDING_MOVE,
    surroundings,
    tail_length,
)
from gabordiag.dynamics.run import (
    LEVEL,
    Run,
    Trajectory,
    bends_at,
    judge,
    judge_outcome,
    minima_near,
    nearest_goal,
    outcomes_of_several,
    run_many,
    sharpness,
)
from gabordiag.dynamics.tables import TabulatedObjective
from gabordiag.dynamics.theory import BOUNDS, Theory, curvature_limit, stability_bound
from gabordiag.dynamics.windows import (
    BESIDE_TARGET,
    SCAN_STEPS,
    Windows,
    beside_target,
    measure_windows,
    rate_scale,
    suitable_rates,
)
from gabordiag.errors import UsageError
from gabordiag.landscape.critical import find_critical_points
from gabordiag.landscape.points import AS_LOW, SAME_LOSS, CriticalPoint, Landscape
from gabordiag.landscape.series_objective import SeriesObjective
from gabordiag.landscape.sweep import Sweep
from gabordiag.objective.experiment import Experiment
from gabordiag.objective.gabor_line import GaborLine, ShortcutObjective
from gabordiag.objective.gabor_objective import GaborObjective
from gabordiag.objective.losses import LOSSES
from gabordiag.objective.objective import Differences, Line, Objective, OfLine, over_points
from gabordiag.objective.space import ANGLE_TOLERANCE, FloatArray, Space, one_or_named
from gabordiag.own.evaluation import OwnObjective, UserObjective
from gabordiag.results import Finding, finite_or_none

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
# What people try of adaptive optimizers, whose steps are about as long as the rate.
USUAL_RATES = (1e-3, 1e-2, 1e-1)
# Of several parameters: rates that people try; above the largest nothing settles on a Gabor
# landscape. Less than a quadratic's bound holds, by this part: a little below it everything does.
SCANNED_RATES = tuple(float(f"{10.0**e:.1g}") for e in np.arange(-4, 0.01, 0.5))
SAFE = 0.9
# Adam's rates from half a degree to some degrees; the one for starts anywhere.
ADAM_RATES = (0.01, 0.03, 0.1)
_ANYWHERE = 0.03
# Of the range: places so near to a run's end differ by noise alone.
_BESIDE_END = 1e-6
# Without a target, of each range: the rate of Adam that looks for the lowest minimum.
_SEARCH_SHARE = 0.005
# Steps at least, of runs from other starts and with other optimizers.
TRIED_STEPS = 1000
# Shares of the straight way from the start to the target at which other starts are tried.
CLOSER = (0.5, 0.75, 0.9)
RANDOM_STARTS = 12
# Places at which slopes are measured.
_MEASURED_AT = 256
# Multiples of its steps at which a run that is still on its way is judged again, up to so many
# steps; a schedule is made for a number of steps, and runs once with the first multiple.
_TIMES = (4, 6, 10, 15, 25, 40, 60, 100)
_MOST_STEPS = 20_000
# Eigenvalues below this part of the largest have no sign: nothing is said of a saddle.
_NO_SIGN = 1e-7
# How often the distance of starts beside the target may be halved.
_HALVINGS = 20
# Starts of which one should arrive: first one, then so many times as many at once.
_MORE_AT_ONCE = 4
# Of runs that a hair sends other ways so many more have to arrive.
_MORE_BESIDE = 13
# Even starts of one parameter by which the share that arrives is measured: one a degree.
MULTI_START_GRID = 181
# Rates between which one is looked for: any.
_ALL = (0.0, math.inf)


@dataclass(frozen=True, eq=False)
class Trial:
    """A changed run and what became of it; the rates are (d,), the settings' rate the largest."""

    objective: Objective
    settings: OptimizerSettings
    rates: FloatArray
    path: Trajectory
    outcome: str
    goal: FloatArray | None

    @property
    def reached(self) -> bool:
        """Whether it ended at the target."""
        return self.outcome == "reached"

    @property
    def start(self) -> FloatArray:
        """Its first values (d,)."""
        return np.asarray(self.path.values[0])

    @cached_property
    def steps_to_target(self) -> int | None:
        """The first step from which on it stays within tolerance; None if it never does."""
        return arrival(self.objective.space, self.goal, self.path)

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON takes them."""
        space = self.objective.space
        return {
            "optimizer": self.settings.optimizer,
            "lr": one_or_named(space.names, self.rates),
            "momentum": self.settings.momentum,
            "schedule": self.settings.schedule,
            "loss": self.objective.loss_name,
            "steps": self.settings.steps,
            "start": space.named(self.start),
            "outcome": self.outcome,
            "final": space.named(self.path.values[-1]),
            "final_loss": finite_or_none(float(self.path.losses[-1])),
            "steps_to_target": self.steps_to_target,
        }


def first_reached(trials: Iterable[Trial]) -> Trial:
    """Returns the first trial that reached the target, or the first at all."""
    trials = iter(trials)
    first = next(trials)
    return first if first.reached else next((t for t in trials if t.reached), first)


def _unless_lucky(trials: Iterator[Trial]) -> Trial:
    first = next(trials)
    # At a rate that is too large a run wanders before it arrives, and a hair beside may not: luck.
    return next((t for t in trials if not t.reached), first) if first.reached else first


class _Bench(ABC):
    """What trials on an objective of one parameter and of several share."""

    def __init__(self, objective: Objective) -> None:
        self.objective, self.space = objective, objective.space
        self._windows: dict[tuple[Any, ...], Windows] = {}
        self._trials: dict[tuple[OptimizerSettings, bytes], Trial] = {}

    @property
    @abstractmethod
    def goal(self) -> FloatArray | None:
        """The values (d,) that runs should reach, or None."""

    @abstractmethod
    def _run(self, settings: Sequence[OptimizerSettings], starts: FloatArray) -> list[Trial]:
        """Makes runs with settings that differ in the rate alone, one from each start (n, d)."""

    def _made(self, settings: Sequence[OptimizerSettings], starts: FloatArray) -> list[Trial]:
        """Returns such runs, those not made yet made at once."""
        keys = [(how, start.tobytes()) for how, start in zip(settings, starts, strict=True)]
        new = [i for i, key in enumerate(keys) if key not in self._trials]
        made = self._run([settings[i] for i in new], starts[new]) if new else []
        for i, trial in zip(new, made, strict=True):
            # In single precision a run starts at the start's nearest number.
            self._trials[keys[i]] = self._trials[settings[i], trial.start.tobytes()] = trial
        return [self._trials[key] for key in keys]

    def trials(self, settings: OptimizerSettings, starts: FloatArray) -> Iterator[Trial]:
        """Yields the run from each start (n, d); those of an elementwise optimizer made at once."""
        for some in starts[None] if settings.is_elementwise else starts[:, None]:
            yield from self._made([settings] * len(some), some)

    def drawn(self, count: int) -> FloatArray:
        """Returns so many random starts (count, d) over the ranges, always the same."""
        low, high = self.space.low, self.space.high
        return np.random.default_rng(0).uniform(low, high, (count, len(low)))

    def trial(self, settings: OptimizerSettings, start: FloatArray) -> Trial:
        """Runs the optimizer from the start and judges the run; once for each."""
        return next(self.trials(settings, start[None]))

    def _confirming(self, start: FloatArray) -> FloatArray:
        nudge = 1e-6 * self.space.tolerance
        return np.stack([start, start + nudge, start - nudge])

    def confirmed(self, settings: OptimizerSettings, start: FloatArray) -> Trial:
        """Returns a trial that reached the target only if its neighbours did, too."""
        if not settings.is_elementwise:
            return _unless_lucky(self.trials(settings, self._confirming(start)))
        places = self._confirming(start)
        trials = self._made([settings] * len(places), places)
        first = _unless_lucky(iter(trials))
        if first.reached and self._part(trials):
            # Rounding decides where they go on from: three may arrive by chance.
            nudges = 1e-6 * np.outer(np.arange(2.0, 2.0 + _MORE_BESIDE), self.space.tolerance)
            return _unless_lucky(
                iter([first, *self._made([settings] * _MORE_BESIDE, start + nudges)])
            )
        return first

    def typed(self, on: UserObjective, settings: OptimizerSettings, start: FloatArray) -> Trial:
        """Runs a loss in which something else is written, confirmed unless that is expensive."""
        starts = start[None] if on.is_expensive else self._confirming(start)
        return _unless_lucky(self._typed(on, settings, place) for place in starts)

    @abstractmethod
    def _typed(self, on: Any, settings: OptimizerSettings, start: FloatArray) -> Trial:
        """Runs a loss of the same parameters, judged as this one's runs."""

    def _part(self, trials: Sequence[Trial]) -> bool:
        """Whether runs that began side by side are apart by more than a tolerance on the way."""
        one, *others = (trial.path.values for trial in trials)
        return any(bool((self.space.distances(one, other) > 1.0).any()) for other in others)

    def first_confirmed(self, settings: OptimizerSettings, starts: FloatArray) -> Trial:
        """Returns the first confirmed trial from starts (n, d) that arrives, or the first."""
        return first_reached(self._confirmed_each(settings, starts))

    def _confirmed_each(self, settings: OptimizerSettings, starts: FloatArray) -> Iterator[Trial]:
        # Many at once cost little more than one, unless the objective is slow; then one may do.
        done, count = 0, 1
        while done < len(starts):
            block = starts[done : done + count]
            if settings.is_elementwise:
                every = np.concatenate([self._confirming(start) for start in block])
                self._made([settings] * len(every), every)
            yield from (self.confirmed(settings, start) for start in block)
            done, count = done + count, _MORE_AT_ONCE * count

    @cached_property
    def kink_slope(self) -> FloatArray | None:
        """The slopes (d,) beside a kink at the target, infinite where they grow towards it."""
        return None if self.goal is None else self._slopes_beside(self.goal)

    def _slopes_beside(self, point: FloatArray) -> FloatArray | None:
        slopes = np.zeros(len(point))
        for index, parameter in enumerate(self.space.parameters):
            beside = np.tile(point, (len(_BESIDE_KINK), len(_SIDES), 1))
            beside[..., index] += parameter.tolerance * np.outer(_BESIDE_KINK, _SIDES)
            if (parameter.room(beside[..., index]) < 0).any():
                continue
            near, nearer = (self._gradients(places)[:, index] for places in beside)
            if not ((nearer * _SIDES > 0).all() and (near * _SIDES > 0).all()):
                continue
            growth = np.min(nearer / near)
            if growth > _GROWS:
                slopes[index] = math.inf
            elif growth > _KEEPS_SLOPE:
                slopes[index] = np.abs(nearer).max()
        return slopes if slopes.any() else None

    def _gradients(self, values: FloatArray) -> FloatArray:
        return self.objective.loss_and_gradient(self.space.coordinates(values))[1]


class LineBench(_Bench):
    """An objective of one parameter with its landscape and tables, on which trials are cheap."""

    def __init__(self, line: Line, landscape: Landscape | None = None) -> None:
        super().__init__(OfLine(line))
        self.line, self.landscape = line, landscape or find_critical_points(line)
        self.space = self.objective.space = Space((self.landscape.parameter,))

    @cached_property
    def table(self) -> TabulatedObjective:
        """The tabulated objective."""
        return TabulatedObjective(self.line, self.landscape)

    @property
    def goal(self) -> FloatArray | None:
        """The target, or the lowest minimum without one."""
        goal = self.landscape.goal_value
        return None if goal is None else np.array([goal])

    @property
    def height(self) -> float:
        """The largest loss of the landscape less the smallest."""
        return self.landscape.largest_loss - self.landscape.smallest_loss

    @property
    def steepest(self) -> float:
        """The largest slope of the landscape, of a change by the parameter's tolerance."""
        return self.landscape.largest_gradient * self.landscape.parameter.tolerance

    @cached_property
    def is_minimum_at_target(self) -> bool:
        """Whether there is a minimum within the tolerance of the target, listed or only seen."""
        landscape, parameter = self.landscape, self.landscape.parameter
        goal = parameter.target
        if goal is None:
            return landscape.goal is not None
        if landscape.target is not None or landscape.certificate.is_isolated:
            return landscape.target is not None
        places = goal + parameter.tolerance * np.linspace(-1, 1, _LOOKED_AT)
        losses = self.line.loss_at(places[parameter.room(places) >= 0])
        return 0 < int(np.argmin(losses)) < len(losses) - 1

    @cached_property
    def kink_slope(self) -> FloatArray | None:
        """The slope (1,) right beside the target: the landscape's, or else measured."""
        target = self.landscape.target
        if target is None or target.slope is not None:
            return None if target is None else np.array([target.slope])
        return self._slopes_beside(np.array([target.value]))

    def _gradients(self, values: FloatArray) -> FloatArray:
        return self.line.gradient(values[:, 0])[:, None]

    def _run(self, settings: Sequence[OptimizerSettings], starts: FloatArray) -> list[Trial]:
        return self._judged(self.table, settings[0], starts)

    def _typed(self, on: Any, settings: OptimizerSettings, start: FloatArray) -> Trial:
        return self._judged(on, settings, start[None])[0]

    def _judged(self, on: Line, settings: OptimizerSettings, starts: FloatArray) -> list[Trial]:
        rates, around = np.full_like(starts, settings.lr), surroundings(self.landscape)
        paths = run_many(OfLine(on), settings, starts, rates)
        outcomes = [judge_outcome(around, path)[0] for path in paths]
        columns = zip(rates, paths, outcomes, strict=True)
        return [Trial(self.objective, settings, *column, self.goal) for column in columns]

    def confirmed(self, settings: OptimizerSettings, start: FloatArray) -> Trial:
        """Returns a trial that reached the target only if its neighbours did, too."""
        trial = super().confirmed(settings, start)
        slope = abs(float(self.line.gradient(start)[0])) if trial.reached else math.inf
        # Here the tables' error would move the run, not the loss's slope.
        if slope <= 10 * self.table.tables[1].error * self.landscape.largest_gradient:
            return self._judged(self.line, settings, start[None])[0]
        return trial

    def windows(
        self, settings: OptimizerSettings, start: FloatArray, *later: FloatArray
    ) -> Windows | None:
        """Returns which rates work from the start; later starts, scanned along, cost nothing."""
        if not settings.is_elementwise or settings.schedule != "constant":
            return None
        # The default scan of `basins`, whose numbers a diagnosis repeats.
        scan = replace(settings, steps=SCAN_STEPS)
        key = (scan.optimizer, scan.momentum, scan.nesterov)
        if (*key, float(start[0])) not in self._windows:
            rates = suitable_rates(self.landscape, scan)
            starts = (float(s[0]) for s in (start, *later))
            for made in measure_windows(self.table, scan, rates, *starts):
                self._windows[*key, made.start] = made
        return self._windows[*key, float(start[0])]

    def holds(self, settings: OptimizerSettings) -> bool | None:
        """Whether the target's basin holds the settings' rate; None where it cannot be asked."""
        beside = beside_target(self.landscape)
        if not beside or not settings.is_elementwise or settings.schedule != "constant":
            return None
        scan = replace(settings, steps=SCAN_STEPS)
        (windows,) = measure_windows(self.table, scan, np.array([settings.lr]), beside[0])
        return bool(windows.held[0])

    @property
    def usual_rates(self) -> tuple[float, ...]:
        """What people try of Adam and Rprop, which step by about the rate, scaled by the range."""
        scale = rate_scale(self.landscape, OptimizerSettings("adam"))
        return tuple(scale * rate for rate in USUAL_RATES)

    def outcomes(
        self, settings: OptimizerSettings, rates: Sequence[float], start: FloatArray
    ) -> list[str]:
        """Returns the outcome at every rate, all at once; the optimizer must be elementwise."""
        codes, _ = descend_batch(self.table, settings, np.array(rates), start).classify()
        return [OUTCOME_NAMES[code] for code in codes[:, 0]]

    def search(
        self, settings: OptimizerSettings, start: FloatArray
    ) -> tuple[OptimizerSettings, float] | None:
        """Returns how to run from anywhere, and the share that arrives; None where none does."""
        parameter, windows = self.landscape.parameter, self.windows(settings, start)
        if windows is None or windows.hold_lr is None or self.goal is None:
            return None
        lr = round_down(windows.hold_lr / 2)
        shares = (np.arange(MULTI_START_GRID) + 0.5) / MULTI_START_GRID
        starts = parameter.low + parameter.width * shares
        scan = replace(settings, lr=lr, steps=max(SCAN_STEPS, settings.steps))
        codes, _ = descend_batch(self.table, scan, np.array([lr]), starts).classify()
        reached = codes[0] == CODES["reached"]
        # Runs that begin at the target and do not move find nothing.
        away = np.abs(parameter.offset(starts, float(self.goal[0]))) > parameter.tolerance
        return (scan, float(reached.mean())) if (reached & away).any() else None

    def _rates(self, settings: OptimizerSettings, windows: Windows | None) -> list[float]:
        # The safest first, well inside the measured windows, and never above what the target's
        # basin holds: a run that arrives at a larger rate was lucky.
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
        self, settings: OptimizerSettings, *starts: FloatArray, between: tuple[float, float] = _ALL
    ) -> Trial | None:
        """Returns a run that reaches the target from a start (d,) at some rate between, or None."""
        # A rate above another one should make up for more steps.
        above, below = between
        keeps_rate = settings.optimizer in PROPORTIONAL and settings.schedule == "constant"
        if keeps_rate and self.kink_slope is not None and np.isinf(self.kink_slope[0]):
            # Steps grow without bound towards the target: what stays near it was lucky.
            return None
        for start in starts:
            windows = self.windows(settings, start)
            if windows is not None and not (windows.working_lr or windows.starts_in_target_basin):
                # Rates that the target holds do not lead out of another basin; more steps neither.
                continue
            counts = {settings.steps}
            goal, attractor_of = self.landscape.goal_value, self.landscape.attractor_of
            own = attractor_of(float(start[0]))
            leads = goal is not None and own is not None and own is attractor_of(goal)
            # Where nothing could be scanned, more steps are for starts that lead there.
            if not above and (windows is not None or leads):
                counts |= {max(settings.steps, steps) for steps in (SCAN_STEPS, 4 * SCAN_STEPS)}
            rates = [lr for lr in self._rates(settings, windows) if above < lr < below]
            # Through wild steps a schedule may lead back to a parabola's minimum, and to no other.
            limit, home = curvature_limit(settings), None if goal is None else attractor_of(goal)
            curvature = None if home is None else home.curvature
            if limit is not None and curvature is not None:
                rates.sort(key=lambda lr: lr * curvature >= limit)
            for steps, lr in product(sorted(counts), dict.fromkeys(rates)):
                trial = self.confirmed(replace(settings, lr=lr, steps=steps), start)
                if trial.reached:
                    return trial
        return None


class SpaceBench(_Bench):
    """An objective of several parameters with a target; trials of a question are run at once.

    The optimizer of the run under diagnosis keeps the ratios of that run's rates (d,), of which the
    settings have the largest; others take one rate for all parameters. From that run's start (d,),
    None on another objective, more rates are tried.
    """

    # Of Adam and Rprop, for angles and pixels.
    usual_rates = ADAM_RATES

    def __init__(
        self, objective: Objective, optimizer: str, rates: FloatArray, start: FloatArray | None
    ) -> None:
        super().__init__(objective)
        self._optimizer, self._own_ratios, self._start = optimizer, rates / rates.max(), start

    @property
    def goal(self) -> FloatArray:
        """The target's own values."""
        return np.asarray(self.objective.goals[0])

    @cached_property
    def _measured(self) -> tuple[FloatArray, FloatArray]:
        return self.objective.loss_and_gradient(self.space.coordinates(self.drawn(_MEASURED_AT)))

    @property
    def height(self) -> float:
        """The largest loss less the smallest, of random places."""
        losses = self._measured[0]
        return float(np.ptp(losses[np.isfinite(losses)]))

    @property
    def steepest(self) -> float:
        """The largest slope, of a change by each parameter's tolerance, of random places."""
        return float(np.nanmax(np.hypot.reduce(self._measured[1] * self.space.tolerance, axis=1)))

    @cached_property
    def nearest_minimum(self) -> FloatArray | None:
        """The minimum (d,) to which Newton's method leads from the target, or None."""
        return minima_near(self.objective, self.goal[None])[0]

    @property
    def is_minimum_at_target(self) -> bool:
        """Whether Newton's method stays there, as far as it finds a minimum at all."""
        found = self.nearest_minimum
        return found is None or float(self.space.distances(found, self.goal)) <= 1.0

    @property
    def is_level_at_target(self) -> bool:
        """Whether the target lies on the floor of a valley, where the loss is level."""
        at = self.space.coordinates(self.goal[None])
        bends, _ = bends_at(self.space, self.objective.hessian(at, smooth=True)[0])
        return bool(abs(bends[0]) <= LEVEL * bends[-1])

    def left_ranges(self, place: FloatArray) -> list[str]:
        """Returns whose ranges a place (d,) that is no minimum lies outside of."""
        if minima_near(self.objective, place[None])[0] is not None:
            return []
        pairs = zip(self.space.parameters, place, strict=True)
        return [known.name for known, value in pairs if known.room(value) < -known.tolerance]

    def _ratios(self, settings: OptimizerSettings) -> FloatArray:
        is_own = settings.optimizer == self._optimizer
        return self._own_ratios if is_own else np.ones(len(self.space))

    def bound(self, settings: OptimizerSettings) -> float | None:
        """The largest rate at which gradient descent holds the target; None where unknown.

        2 (1 + beta) / the largest eigenvalue of the Hessian at the target (Goh 2017), of
        r^(1/2) H r^(1/2) with ratios r of the rates; at a root's zero no rate is stable.
        """
        if not settings.is_gradient_descent or self.objective.is_root:
            return None
        (largest,) = sharpness(self.objective, self.goal[None], self._ratios(settings))
        return 2 * (1 + settings.momentum) / largest if largest and largest > 0 else None

    def _at(
        self, settings: OptimizerSettings, rates: Sequence[float], starts: FloatArray
    ) -> list[Trial]:
        how = [replace(settings, lr=lr) for lr in rates for _ in starts]
        return self._made(how, np.tile(starts, (len(rates), 1)))

    def _run(self, settings: Sequence[OptimizerSettings], starts: FloatArray) -> list[Trial]:
        rates = np.array([how.lr * self._ratios(how) for how in settings])
        return self._judged(settings, rates, run_many(self.objective, settings[0], starts, rates))

    def _typed(self, on: Any, settings: OptimizerSettings, start: FloatArray) -> Trial:
        rates = settings.lr * self._ratios(settings)[None]
        return self._judged([settings], rates, run_many(on, settings, start[None], rates))[0]

    def _judged(
        self, settings: Sequence[OptimizerSettings], rates: FloatArray, paths: Sequence[Trajectory]
    ) -> list[Trial]:
        goals = [nearest_goal(self.space, self.objective.goals, p.values[-1]) for p in paths]
        outcomes = outcomes_of_several(self.objective, paths)
        columns = zip(settings, rates, paths, outcomes, goals, strict=True)
        return [Trial(self.objective, *column) for column in columns]

    def shortened(self, trial: Trial, steps: int) -> Trial | None:
        """Returns a trial that arrives as it is after fewer steps, None if it does not by then."""
        arrived, path = trial.steps_to_target, trial.path
        if not trial.reached or arrived is None or trial.settings.schedule != "constant":
            return None
        if arrived > steps + 1 - tail_length(steps):
            return None
        columns = (path.values, path.losses, path.gradients, path.updates, path.lrs)
        cut = Trajectory(*(column[: steps + 1] for column in columns))
        return replace(trial, settings=replace(trial.settings, steps=steps), path=cut)

    def continued(self, settings: OptimizerSettings, start: FloatArray) -> Trial | None:
        """Returns the run with more steps that arrives, or still comes nearer; None without."""
        counts = [settings.steps * times for times in _TIMES]
        if settings.schedule != "constant":
            trial = self.trial(replace(settings, steps=counts[0]), start)
            return trial if trial.reached else None
        counts = [count for count in counts if count <= max(_MOST_STEPS, counts[0])]
        rates, states, apart = settings.lr * self._ratios(settings), [], math.inf
        most = replace(settings, steps=counts[-1])
        for state in descend(self.objective, most, start[None], rates[None]):
            states.append(state)
            if state.step not in counts:
                continue
            (path,), how = Trajectory.from_states(states), replace(settings, steps=state.step)
            (trial,) = self._judged([how], rates[None], [path])
            before, apart = apart, math.inf
            if trial.goal is not None:
                apart = float(self.space.distances(path.values[-1], trial.goal))
            is_on_its_way = trial.outcome == "unfinished" and apart < before
            if trial.reached or (is_on_its_way and state.step == counts[-1]):
                return trial
            if not is_on_its_way:
                break
        return None

    def _is_own(self, start: FloatArray) -> bool:
        return self._start is not None and np.array_equal(start, self._start)

    def _scanned(self, settings: OptimizerSettings, start: FloatArray) -> OptimizerSettings:
        # A schedule is made for a number of steps.
        if settings.schedule != "constant":
            return settings
        least = SCAN_STEPS if self._is_own(start) else TRIED_STEPS
        return replace(settings, steps=max(settings.steps, least))

    def _rates(self, settings: OptimizerSettings) -> list[float]:
        """The settings' own, usual rates, and two a little below what the target holds."""
        bound = self.bound(settings)
        if bound is None:
            return sorted({*SCANNED_RATES, settings.lr})
        # A loss in other units has other rates.
        low, high = SCANNED_RATES[1], SCANNED_RATES[-1]
        scale = 1.0 if low <= bound <= high else 10.0 ** round(math.log10(bound) + 1)
        safe = [round_down(SAFE * bound), round_down(SAFE * bound / 3)]
        usual = [float(f"{scale * rate:.3g}") for rate in SCANNED_RATES]
        return sorted({*usual, *safe, settings.lr})

    def windows(
        self, settings: OptimizerSettings, start: FloatArray, *later: FloatArray
    ) -> Windows | None:
        """Returns which rates work from the start; None for optimizers that are not elementwise."""
        if not settings.is_elementwise:
            return None
        scan = self._scanned(settings, start)
        key = (scan, start.tobytes())
        if key not in self._windows:
            rates, bound = self._rates(scan), self.bound(scan)
            starts = start[None]
            if bound is None:
                # What the target holds says theory, or else runs from beside it.
                starts = np.concatenate([starts, self._beside_target])
            outcomes = np.array([CODES[t.outcome] for t in self._at(scan, rates, starts)], np.int8)
            table, lrs = outcomes.reshape(len(rates), len(starts)), np.array(rates)
            held = (table[:, 1:] == CODES["reached"]).all(axis=1) if bound is None else lrs < bound
            none, named = np.zeros_like(lrs, dtype=np.int64), self.space.named(start)
            escaped = none.astype(np.bool_)
            self._windows[key] = Windows(named, lrs, table[:, 0], none, escaped, held, False)
        return self._windows[key]

    @cached_property
    def _beside_target(self) -> FloatArray:
        """Two starts (2, d) beside the target, where the loss is nearly as low as there."""
        aside = np.outer(_SIDES, BESIDE_TARGET / ANGLE_TOLERANCE * self.space.tolerance)
        lowest, *_ = self.objective.loss_at(self.space.coordinates(self.goal[None]))
        for _ in range(_HALVINGS):
            losses = self.objective.loss_at(self.space.coordinates(self.goal + aside))
            if (losses <= lowest + AS_LOW * self.height).all():
                break
            aside = aside / 2
        return self.goal + aside

    def holds(self, settings: OptimizerSettings) -> bool | None:
        """Whether the target holds the settings' rate, by theory or else by the scan beside it."""
        bound = self.bound(settings)
        if bound is not None:
            return settings.lr <= bound
        windows = None if self._start is None else self.windows(settings, self._start)
        return None if windows is None else bool(windows.held[windows.lrs == settings.lr].all())

    def outcomes(
        self, settings: OptimizerSettings, rates: Sequence[float], start: FloatArray
    ) -> list[str]:
        """Returns the outcome at every rate; what confirms it, and a search, are made along."""
        how, starts = self._anywhere(settings)
        places = self._confirming(start)
        all_settings = [replace(settings, lr=lr) for lr in rates for _ in places]
        all_starts = np.tile(places, (len(rates), 1))
        if replace(settings, lr=how.lr) == how:
            all_settings += [how] * len(starts)
            all_starts = np.concatenate([all_starts, starts])
        made = self._made(all_settings, all_starts)
        return [trial.outcome for trial in made[: len(rates) * len(places) : len(places)]]

    def _anywhere(self, settings: OptimizerSettings) -> tuple[OptimizerSettings, FloatArray]:
        """Adam, with which many starts arrive, and random starts."""
        scan = OptimizerSettings("adam", _ANYWHERE, steps=max(settings.steps, TRIED_STEPS))
        return scan, self.drawn(RANDOM_STARTS)

    def search(
        self, settings: OptimizerSettings, start: FloatArray
    ) -> tuple[OptimizerSettings, float] | None:
        """Returns Adam's settings and the share of random starts; None where none arrives."""
        scan, starts = self._anywhere(settings)
        reached = [trial.reached for trial in self.trials(scan, starts)]
        return (scan, float(np.mean(reached))) if any(reached) else None

    def tuned(
        self, settings: OptimizerSettings, *starts: FloatArray, between: tuple[float, float] = _ALL
    ) -> Trial | None:
        """Returns a run that reaches the target from a start at some rate, as `LineBench` does."""
        above, below = between
        scan, hold = self._scanned(settings, starts[0]), self.bound(settings)
        rates, places, apart = list(LBFGS_RATES), np.stack(starts), 1
        if settings.is_elementwise:
            if hold is None:
                home = starts[0] if self._start is None else self._start
                windows = self.windows(settings, home)
                hold = None if windows is None else windows.hold_lr
            rates = [lr for lr in self._rates(scan)[::-1] if hold is not None and lr <= hold]
            if not self._is_own(starts[0]):
                # So few are made at once with what confirms them.
                rates, apart = rates[:2], 3
                places = np.concatenate([self._confirming(start) for start in starts])
        rates, slow = [lr for lr in rates if above < lr < below], list[Trial]()
        for trial in self._at(scan, rates, places)[::apart] if rates else ():
            short = self.shortened(trial, settings.steps)
            found = short or (trial if trial.reached and not above else None)
            if found is not None and self.confirmed(trial.settings, trial.start).reached:
                return found
            slow.append(trial)
        # Where none arrives, the fastest that is on its way has more steps.
        slow = [trial for trial in slow if trial.outcome == "unfinished" and not above]
        if not slow or not self._is_own(starts[0]) or settings.schedule != "constant":
            return None
        longer = self.continued(replace(settings, lr=slow[0].settings.lr), starts[0])
        return longer if longer is not None and longer.reached else None


Bench = LineBench | SpaceBench


@dataclass(frozen=True, eq=False)
class Saddle:
    """A critical point at a run's end, near which the loss falls in some directions.

    The Hessian's eigenvalues (d,) ascend from a negative to a positive one. The direction in which
    the loss falls most is the change of each value (d,), the largest 1. `equal` names the
    parameters that started equal and remained so.
    """

    eigenvalues: FloatArray
    direction: FloatArray
    equal: tuple[str, ...]
    words: str

    @classmethod
    def at_end(cls, run_: Run) -> Saddle | None:
        """Returns the saddle at which a run of several parameters settles, or None."""
        objective, space, path = run_.objective, run_.space, run_.trajectory
        end = path.values[-1]
        if len(space) == 1 or run_.outcome not in ("plateau", "frozen"):
            return None
        at = space.coordinates(end)[None]
        hessian = objective.hessian(at, smooth=True)[0]
        if not np.isfinite(hessian).all():
            return None
        eigenvalues, vectors = np.linalg.eigh(hessian)
        least = _NO_SIGN * np.abs(eigenvalues).max()
        if not eigenvalues[0] < -least < least < eigenvalues[-1]:
            return None
        slopes = vectors.T @ objective.loss_and_gradient(at, smooth=True)[1][0]
        signs = np.abs(eigenvalues) > least
        left = vectors[:, signs] @ (slopes[signs] / eigenvalues[signs])
        if float(space.distances(space.values(at[0] - left), end)) > 1.0:
            return None
        apart = np.abs(path.values[:, :, None] - path.values[:, None, :]).max(axis=0)
        is_equal = (apart <= ROUNDING_MOVE * space.width).sum(axis=1) > 1
        names = tuple(name for name, same in zip(space.names, is_equal, strict=True) if same)
        words = (
            f"the run ended at a saddle point, {space.show(run_.final)}: no gradient is left "
            f"there, and the smallest eigenvalue of the Hessian is {eigenvalues[0]:.3g}, so that "
            "the loss falls on both sides"
        )
        if names:
            words += f"; {' and '.join(names)} started equal, got equal gradients and stayed equal"
        return cls(eigenvalues, vectors[:, 0] / np.abs(vectors[:, 0]).max(), names, words)


def with_lowest_as_target(run_: Run, by_values: bool = False) -> Run:
    """Returns a run of several parameters without a target, judged by the lowest minimum found.

    Searched by Adam from random starts and the run's own, and by Newton's method from where these
    and the run were lowest. Of equally low ones it is the run's own, or the nearest to its start.
    A gradient that is none leads nowhere: `by_values` takes differences of the loss instead.
    """
    objective, space, path = run_.objective, run_.space, run_.trajectory
    if any(parameter.target is not None for parameter in space.parameters):
        raise UsageError("some of the parameters have a target.", "Give that of each, or none.")
    bench = SpaceBench(objective, run_.settings.optimizer, run_.rates, None)
    rates = _SEARCH_SHARE * np.ptp(space.coordinates([space.low, space.high]), axis=0)
    starts = np.concatenate([bench.drawn(RANDOM_STARTS), path.values[:1]])
    how = OptimizerSettings("adam", float(rates.max()), steps=TRIED_STEPS)
    on = Differences(objective) if by_values else objective
    tried = run_many(on, how, starts, np.tile(rates, (len(starts), 1)))
    best = np.array([p.values[p.best_index] for p in (path, *tried)])
    minima = minima_near(objective, best)
    places = np.array([p if m is None else m for p, m in zip(best, minima, strict=True)])
    losses = objective.loss_at(space.coordinates(places))
    if any(m is not None for m in minima):
        # Outside the ranges the loss may fall on below any minimum.
        losses[[bool(bench.left_ranges(place)) for place in places]] = np.nan
    low = losses <= np.nanmin(losses) + SAME_LOSS * bench.height
    apart = np.where(low, space.distances(places, path.values[0]), np.inf)
    lowest = places[0 if low[0] else int(np.argmin(apart))]
    aimed, pairs = copy.copy(objective), zip(space.parameters, lowest.tolist(), strict=True)
    parameters = tuple(replace(parameter, target=value) for parameter, value in pairs)
    aimed.space = Space(parameters, is_target_found=True)
    return judge(aimed, run_.settings, None, path, run_.rates)


def arrival(space: Space, goal: FloatArray | None, trajectory: Trajectory) -> int | None:
    """Returns the first step from which on a path stays at the goal, None if it never does."""
    if goal is None:
        return None
    away = np.flatnonzero(~(space.distances(trajectory.values, goal) <= 1.0))
    first = int(away.max(initial=-1)) + 1
    return first if first < len(trajectory) else None


class Facts:
    """Everything measured about one run.

    Of several parameters there are no sweep, line, landscape and basin of the start. Faults are
    those of the gradient and the code, as far as they are known already; `loss_eps` is the relative
    rounding of the loss. `goal_name` says what a run should reach, "the target" only where one was
    given, and `no_minimum` words a range or a target without a minimum.
    """

    def __init__(self, run: Run, sweep: Sweep | None = None, bench: Bench | None = None) -> None:
        self.run, self.sweep, self.faults = run, sweep, tuple[Finding, ...]()
        self.objective, self.space = run.objective, run.space
        self.goal_name = f"the {self.space.goal_name}"
        at_target = " at the target" if self.space.goal_name == "target" else ""
        self.no_minimum = f"there is no minimum{at_target}"
        self.basin_name = f"{self.goal_name}'s basin"
        self.line = self.objective.line if isinstance(self.objective, OfLine) else None
        self.landscape = None if sweep is None else sweep.landscape
        self.settings = replace(run.settings, lr=float(run.rates.max()))
        self.start: FloatArray = run.trajectory.values[0]
        source = self.line or self.objective
        self.loss_eps = source.loss_eps if isinstance(source, Line | UserObjective) else 0.0
        self.experiment: Experiment | None = None
        if isinstance(source, GaborLine | GaborObjective):
            self.experiment = source.experiment
        self.own_basin: CriticalPoint | None = None
        if self.landscape is not None:
            self.own_basin = self.landscape.attractor_of(float(self.start[0]))
        self.bench = bench or self._bench(self.objective)

    def _bench(self, objective: Objective) -> Bench:
        if not isinstance(objective, OfLine):
            return SpaceBench(objective, self.run.settings.optimizer, self.run.rates, self.start)
        return LineBench(objective.line, self.landscape if objective is self.objective else None)

    def changed(self, **settings: Any) -> Trial:
        """Returns the run with some settings changed, all else equal, confirmed."""
        return self.bench.confirmed(replace(self.settings, **settings), self.start)

    @cached_property
    def blur(self) -> float:
        """How much the loss of one parameter varies right beside the end."""
        beside = _BESIDE_END * self.space.width * np.arange(-8.0, 9.0)
        places = self.run.trajectory.values[-1] + beside[:, None]
        return float(np.ptp(self.objective.loss_at(places)))

    @cached_property
    def noise_at_end(self) -> float | None:
        """How much the loss varies beside the end, if without a target the run settled lowest."""
        known, path = self.landscape, self.run.trajectory
        is_at_rest = self.run.outcome in ("plateau", "local_minimum")
        if known is None or known.parameter.target is not None or not is_at_rest:
            return None
        end, noise = path.losses[-1], self.blur
        lowest = min(known.smallest_loss, float(np.nanmin(path.losses)))
        return noise if end - lowest <= 2 * noise < 2 * (path.losses[0] - end) else None

    def with_experiment(self, names: Sequence[str] = (), **changes: Any) -> Bench:
        """Returns the bench of the changed experiment, with all learned parameters or some."""
        assert self.experiment is not None
        changed = replace(self.experiment, **changes)
        names = names or self.space.names
        if len(names) == 1:
            return LineBench(ShortcutObjective(changed, names[0]))
        logs = [p.name for p in self.space.parameters if p.is_log and p.name in names]
        rates = self.run.rates[[self.space.names.index(name) for name in names]]
        objective = GaborObjective(changed, names, logs)
        return SpaceBench(objective, self.run.settings.optimizer, rates, None)

    @cached_property
    def squared(self) -> Bench | None:
        """The bench with the loss's root taken away, if it has one."""
        smooth = (self.line or self.objective).squared()
        return None if smooth is None else self._bench(over_points(smooth))

    @cached_property
    def squared_trial(self) -> tuple[str, Trial] | None:
        """The run with the loss's square, as it would be typed, and what to type; None without."""
        if self.squared is None:
            return None
        user, name = self.line or self.objective, self.objective.loss_name
        words = f"--loss {LOSSES[name].squared}" if name in LOSSES else "the loss's square"
        if not isinstance(user, UserObjective) or name in LOSSES:
            return words, self.squared.confirmed(self.settings, self.start)
        square = user.rewritten(squared=True)
        trial = self.bench.typed(square, self.settings, self.start)
        path, found = trial.path, None
        is_bad = np.isfinite(path.values).all(axis=1) & ~np.isfinite(path.gradients).all(axis=1)
        if trial.outcome == "nonfinite" and is_bad.any():
            found = self.repaired(square, path.values[is_bad][0])
        return (words, trial) if found is None else (f"{words}, and {found[0]}", found[1])

    def repaired(self, user: UserObjective, at: FloatArray) -> tuple[str, Trial, Culprit] | None:
        """What to write for the operation whose gradient is not finite, the run, the operation."""
        culprit = find_culprit(user, *at)
        if culprit is None or not culprit.repairs:
            return None
        tried = []
        for repair in culprit.repairs:
            changed = user.rewritten(Repaired(culprit, repair))
            trial = self.bench.typed(changed, self.settings, self.start)
            tried.append((culprit.advice(repair), trial, culprit))
            if trial.reached:
                return tried[-1]
        # A repair that does not arrive may still be what the gradient needs.
        return next((found for found in tried if found[1].outcome != "nonfinite"), tried[0])

    @cached_property
    def from_values(self) -> Bench | None:
        """The bench of a user's objective with the derivative that its own values have."""
        if self.line is None:
            return None if self.experiment else self._bench(Differences(self.objective))
        if not isinstance(self.line, OwnObjective):
            return None
        series = SeriesObjective(self.line)
        # Of minima that are equally low the goal is the run's own.
        return LineBench(series, self.landscape) if series.series.is_resolved else None

    @cached_property
    def flips(self) -> bool:
        """Whether a run that is on its way steps to and fro across its goal."""
        if self.run.outcome != "unfinished" or not self.settings.is_gradient_descent:
            return False
        updates = self.run.trajectory.updates[-tail_length(len(self.run.trajectory) - 1) : -1]
        turns = (updates[1:] * updates[:-1]).sum(axis=1) < 0
        return len(turns) > 1 and bool(turns.all())

    @cached_property
    def continued(self) -> Trial | None:
        """Of several parameters, the same run with more steps, if it is on its way to the goal."""
        if self.run.outcome != "unfinished" or not isinstance(self.bench, SpaceBench):
            return None
        return self.bench.continued(self.settings, self.start)

    @cached_property
    def smaller(self) -> Trial | None:
        """The run at a smaller rate that reaches the target, with more steps if it has to."""
        # Rather one that settles; some only stay within the tolerance.
        tops = dict.fromkeys((min(self.stable_lr, self.settings.lr), self.settings.lr))
        trials = (self.bench.tuned(self.settings, self.start, between=(0.0, lr)) for lr in tops)
        return next((trial for trial in trials if trial is not None), None)

    @cached_property
    def longer(self) -> Trial | None:
        """The run at its own rate with the steps that a smaller one needs, if it arrives then."""
        if self.smaller is None or self.smaller.settings.steps <= self.settings.steps:
            return None
        steps = self.smaller.settings.steps
        trial = self.bench.confirmed(replace(self.settings, steps=steps), self.start)
        return trial if trial.reached else None

    @cached_property
    def saddle(self) -> Saddle | None:
        """The saddle at which the run settles, if it does."""
        return Saddle.at_end(self.run)

    @cached_property
    def windows(self) -> Windows | None:
        """Which rates work from the run's start."""
        return self.bench.windows(self.settings, self.start, *self.starts_inside)

    @cached_property
    def theory(self) -> Theory | None:
        """The bound of the learning rate at the target's minimum or kink."""
        target = self.target_basin
        if target is None:
            return None
        return stability_bound(target, self.settings, float(self.space.tolerance[0]))

    @property
    def stable_lr(self) -> float:
        """The largest rate that settles at the target by its curvature; infinite if not known."""
        if self.theory is None or self.theory.entry.is_estimate:
            return math.inf
        return math.inf if self.theory.entry is BOUNDS["kink"] else self.theory.bound

    @property
    def hold_lr(self) -> float | None:
        """What the target's basin holds: of several parameters in theory, else as scanned."""
        bound = self.bench.bound(self.settings) if isinstance(self.bench, SpaceBench) else None
        scanned = None if self.windows is None else self.windows.hold_lr
        return scanned if bound is None else bound

    @cached_property
    def target_basin(self) -> CriticalPoint | None:
        """The target's minimum, if there is one; None of several parameters."""
        goal = self.bench.goal
        if self.landscape is None or goal is None or not self.bench.is_minimum_at_target:
            return None
        return self.landscape.attractor_of(float(goal[0]))

    @property
    def starts_in_target_basin(self) -> bool | None:
        """Whether gradient flow leads from the start to the target; None of several."""
        if self.landscape is None:
            return None
        return self.own_basin is not None and self.own_basin is self.target_basin

    @cached_property
    def starts_inside(self) -> tuple[FloatArray, ...]:
        """Starts on the straight way to the target; inside its basin, where that is known."""
        goal = self.bench.goal
        if goal is None:
            return ()
        if self.landscape is None:
            way = self.space.offsets(goal, self.start)
            return tuple(self.start + share * way for share in CLOSER)
        found = self.landscape.basin_of(float(goal[0]))
        if found is None:
            return ()
        towards = float(self.space.offsets(self.start, goal)[0])
        edge = found[1][0] if towards < 0 else found[1][1]
        return (goal + (edge - goal) / 2,)

    def tuning(self, trial: Trial) -> str:
        """Returns the options that make a trial's rate and steps of the run's."""
        rates = one_or_named(trial.objective.space.names, trial.rates)
        if isinstance(rates, dict):
            options = " ".join(f"--lr {name}={rate:g}" for name, rate in rates.items())
        else:
            options = f"--lr {rates:g}"
        if trial.settings.steps != self.settings.steps:
            options += f" --steps {trial.settings.steps}"
        return options

    def options(self, values: FloatArray) -> str:
        """Returns the options that give a start (d,)."""
        if len(values) == 1:
            return f"--start {self.option(0, values)}"
        pairs = (f"{name}={self.option(i, values)}" for i, name in enumerate(self.space.names))
        return " ".join(f"--start {pair}" for pair in pairs)

    def option(self, index: int, values: FloatArray) -> str:
        """Returns a parameter's value as the command line takes it."""
        parameter, value = self.space.parameters[index], float(values[index])
        if parameter.is_angle:
            return f"{math.degrees(value):.4g}deg"
        return f"{value:.{parameter.figures(value)}g}"


def round_down(value: float) -> float:
    """Returns the value cut to two significant digits: what a person would type."""
    exponent = int(np.floor(np.log10(value))) - 1
    return float(f"{np.floor(value / 10.0**exponent + 1e-9) * 10.0**exponent:.12g}")
