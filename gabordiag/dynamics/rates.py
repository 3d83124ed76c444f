"""Learning rates to trust, found by training with them.

A rate works when trainings with several seeds all end at the goal: a loss that is given, or one
near the lowest ending seen. Rates on a logarithmic grid are tried with one seed; those that reach
the goal, with all seeds; then each border between a rate that works and one that does not is halved
in the logarithm until it is known to a factor. Where none works, the search closes in on the rate
that ends lowest. What is trained next follows from the endings known so far alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gabordiag.dynamics.checkpoint import Checkpoint, beside, remove
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import RATE_OUTCOMES
from gabordiag.dynamics.training import BATCHES, OTHERS, rates_of, run_training
from gabordiag.dynamics.windows import log_spaced, runs_of_true
from gabordiag.errors import InputError, UsageError
from gabordiag.objective.space import FloatArray
from gabordiag.own.training import Training, find_watched
from gabordiag.results import Report, Result, finite_or_none, read_only
from gabordiag.wording import counted, times

# Of the fall from the start to the lowest ending a training may miss so much, or so many standard
# deviations of that ending's seeds.
GOAL_SHARE, GOAL_SPREADS = 0.1, 2.0
# A recommended rate is so many times above the lower border and below the upper one, where the
# window is that wide; in a narrower one it is the middle.
MARGIN = 2.0
# Within the margin all rates that are tried work, and they are no farther apart than this.
FINE = math.sqrt(MARGIN)
# Steps by which one training's time is measured, and as few rates on a grid as still say something.
_TIMED, _FEWEST = 10, 5
# Windows that the headline lists.
_LISTED = 3


@dataclass(frozen=True, eq=False)
class RateScan:
    """The rates (n,), ascending, that were tried for one group of parameters.

    The group is `others` of one rate for all parameters; `rest` is the rate of all others, if any.
    The losses at the end, on the fixed batches (n, seeds), are infinite where a training diverged,
    NaN where none was made because one with an earlier seed had missed the goal, to end at which or
    below is asked for. The start is before the first step.
    """

    group: str
    rest: float | None
    lr: FloatArray
    losses: FloatArray
    start: float
    goal: float

    @property
    def reached(self) -> npt.NDArray[np.bool_]:
        """Whether all seeds end at the goal (n,)."""
        return np.asarray((self.losses <= self.goal).all(axis=1))

    @property
    def windows(self) -> list[tuple[int, int]]:
        """First and last index of neighbouring rates that work, the widest window first."""
        found = runs_of_true(self.reached)
        return sorted(found, key=lambda window: self.lr[window[0]] / self.lr[window[1]])

    @property
    def lowest(self) -> int:
        """Index of the rate whose trainings end lowest on average."""
        return int(np.argmin(np.nanmean(self.losses, axis=1)))

    @property
    def _aim(self) -> float | None:
        """The rate that is to be recommended, be it tried or not.

        Near a border another seed, start or batch size makes a training fail; with a margin to both
        the ending decides; without room for that the middle, in the logarithm, is farthest away.
        """
        if not self.windows:
            return None
        low, high = self.lr[list(self.windows[0])]
        margin = min(MARGIN, math.sqrt(high / low)) * (1 - 1e-9)
        inside = (self.lr >= low * margin) & (self.lr <= high / margin)
        if not inside.any():
            return math.sqrt(low * high)
        return float(self.lr[np.argmin(np.where(inside, self.losses.mean(axis=1), math.inf))])

    @property
    def recommended(self) -> float | None:
        """The tried rate of the widest window to take; None where none works."""
        if (aim := self._aim) is None:
            return None
        first, last = self.windows[0]
        tried = self.lr[first : last + 1]
        return float(tried[np.argmin(np.abs(np.log(tried / aim)))])

    @property
    def outcomes(self) -> list[str]:
        """Which of `RATE_OUTCOMES` the trainings with each rate are (n,), by the worst of them."""
        lowest, worst = self.lr[self.lowest], np.nanmax(self.losses, axis=1)
        found = []
        for rate, loss, reached in zip(self.lr, worst, self.reached, strict=True):
            is_over = not loss < (self.start if rate > lowest else math.inf)
            missed = "unfinished" if rate < lowest else "unsteady"
            found.append("reached" if reached else "diverged" if is_over else missed)
        return found

    def next(self, grid: Sequence[float], factor: float) -> float | None:
        """Returns the rate that is to be trained with the next seed; None at the end."""
        known = set(self.lr.tolist())
        untried = next((rate for rate in grid if rate not in known), None)
        if untried is not None:
            return untried
        # The lowest ending needs all its seeds, as does whatever still may work.
        finite = np.nanmax(self.losses, axis=1) < math.inf
        lowest = int(np.argmin(np.where(finite, self.losses[:, 0], math.inf)))
        is_lowest = np.arange(len(finite)) == lowest
        hopeful = ~(self.losses > self.goal).any(axis=1) | (is_lowest & finite)
        missing = np.flatnonzero(hopeful & np.isnan(self.losses).any(axis=1))
        if len(missing):
            return float(self.lr[missing[0]])
        for number, (low, high) in enumerate(self.windows or [(lowest, lowest)]):
            middle = self._between([low - 1, high], factor)
            if middle is None and not number and (aim := self._aim) is not None:
                # Where steps are chaotic, every other rate works: those around it are tried, too.
                near = (self.lr[low + 1 : high + 1] > aim / MARGIN) & (
                    self.lr[low:high] < aim * MARGIN
                )
                inside = (low + np.flatnonzero(near)).tolist()
                middle = self._between(inside, FINE) if aim in known else aim
            if middle is not None:
                return middle
        return None

    def _between(self, places: Sequence[int], factor: float) -> float | None:
        pairs = (self.lr[place : place + 2] for place in places if 0 <= place < len(self.lr) - 1)
        return next((math.sqrt(low * high) for low, high in pairs if high / low > factor), None)

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        first, last = self.windows[0] if self.windows else (self.lowest, self.lowest)
        outcomes = [None, *self.outcomes, None]
        rows = zip(self.lr.tolist(), self.losses.tolist(), self.outcomes, strict=True)
        return {
            "parameter": self.group,
            "rest_lr": self.rest,
            "working_lr": [self.lr[list(window)].tolist() for window in sorted(self.windows)],
            "recommended_lr": self.recommended,
            "best_lr": float(self.lr[self.lowest]),
            "best_loss": finite_or_none(np.nanmean(self.losses[self.lowest])),
            "failure_below": outcomes[first],
            "failure_above": outcomes[last + 2],
            "trials": [
                {"lr": lr, "losses": [finite_or_none(x) for x in row if x == x], "outcome": outcome}
                for lr, row, outcome in rows
            ],
        }


def near_lowest(losses: FloatArray, start: float) -> float:
    """Returns the goal near the lowest ending of (n, seeds); -inf where none is below the start."""
    complete = losses[np.isfinite(losses).all(axis=1)]
    if not len(complete):
        return -math.inf
    row = complete[np.argmin(complete.mean(axis=1))]
    fall, spread = start - float(row.mean()), float(row.std(ddof=1)) if len(row) > 1 else 0.0
    allowed = max(GOAL_SHARE * fall, GOAL_SPREADS * spread)
    return start - fall + allowed if allowed < fall else -math.inf


@dataclass(frozen=True, eq=False)
class Rates(Result):
    """Which learning rates bring a training to its goal, `given` or not, and the one to take.

    The scans are of one rate for all parameters; then of each named group, the rest at its rate.
    The borders of windows are known to the factor; so many trainings were made. `left_out` says in
    sentences what there was no time for. The settings' own rate is not used.
    """

    main_table = "trials"

    scans: tuple[RateScan, ...]
    settings: OptimizerSettings
    factor: float
    given: bool
    trainings: int
    left_out: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """Which rates work, the recommended one, and what becomes of others."""
        scan = self.scans[0]
        made = scan.to_dict()
        beside = "".join(
            f" With {size} rates {RATE_OUTCOMES.get(made[side], 'nothing was tried')}."
            for side, size in (("failure_below", "smaller"), ("failure_above", "larger"))
        )
        rate, best = scan.recommended, float(np.nanmean(scan.losses[scan.lowest]))
        every = f"all trainings ({counted(scan.losses.shape[1], 'seed', 'seeds')} each)"
        if rate is None:
            goal = f"the goal, a loss of {scan.goal:.3g}"
            if not math.isfinite(scan.goal):
                goal = f"a loss below that of the start, {scan.start:.3g}, beyond their spread"
            return (
                f"No learning rate from {scan.lr[0]:.3g} to {scan.lr[-1]:.3g} works: with none do "
                f"{every} reach {goal}. The lowest ending, {best:.3g}, is at "
                f"lr {made['best_lr']:.3g}.{beside}"
            )
        ending = f"{every} end at a loss of {scan.goal:.3g} or less, from {scan.start:.3g}."
        luck = " So narrow a window may be luck: with other seeds"
        if made["working_lr"] == [[rate, rate]]:
            only = f"Of the learning rates tried only {rate:.3g} works: {ending}{beside}"
            return f"{only}{luck} the rate may fail."
        listed = [f"{low:.3g} to {high:.3g}" for low, high in made["working_lr"]]
        more = f" and in {len(listed) - _LISTED} more windows" if len(listed) > _LISTED else ""
        spans = " and ".join(listed[:_LISTED]) + more
        low, high = scan.lr[list(scan.windows[0])]
        if high < MARGIN * low:
            beside += f"{luck} a rate in it may fail."
        return (
            f"Learning rates from {spans} work: {ending} Take {rate:.3g}: it could be "
            f"{times(rate / low)} times smaller or {times(high / rate)} times larger.{beside}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        common, *groups = self.scans
        rule = (
            f"the lowest mean ending plus {GOAL_SHARE:g} of the fall to it, or plus "
            f"{GOAL_SPREADS:g} standard deviations of its seeds, whichever is more"
        )
        return {
            "verdict": "no_working_lr" if common.recommended is None else "working_lr",
            "headline": self.headline,
            **common.to_dict(),
            "goal": finite_or_none(common.goal),
            "goal_rule": "given" if self.given else rule,
            "start_loss": common.start,
            "factor": self.factor,
            "groups": [scan.to_dict() for scan in groups],
            **self.settings.to_dict(),
            "schedule": self.settings.schedule,
            "seeds": common.losses.shape[1],
            "trainings": self.trainings,
            "left_out": list(self.left_out),
        }


@dataclass(eq=False)
class RateSearch:
    """The search; `gabordiag.api.rates` says what is what."""

    training: Training
    settings: OptimizerSettings
    groups: Sequence[str]
    lr: tuple[float, float, int]
    factor: float
    goal: float | None
    seed: int
    seeds: int
    progress: Report | None
    checkpoint: str | Path | None

    def __post_init__(self) -> None:
        if not self.factor > 1 or self.seeds < 1 or not math.isfinite(self.goal or 0.0):
            raise UsageError(
                f"factor {self.factor:g}, {counted(self.seeds, 'seed', 'seeds')}, goal {self.goal} "
                "cannot be.",
                "Give a factor above 1, at least 1 seed and a finite goal.",
            )
        for name in self.groups:
            if "[" in name or name == OTHERS:
                raise UsageError(
                    f"a learning rate is that of a whole parameter, not of {name}.",
                    "Name a parameter such as gabor.theta, or a submodule.",
                )
        self._grid, modules = log_spaced(*self.lr), dict(self.training.model.named_modules())
        kept = [name for name in self.groups if name not in modules]
        self._watched = find_watched(self.training.model, kept) if kept else ()
        for name in self.groups:
            # Refused before anything is trained.
            self._rates(name, 1.0, 1.0)
        with self.training.kept(self.seed):
            self._batches = self.training.fixed(BATCHES)
            self._start = self.training.score(self._batches)[0]
        if not math.isfinite(self._start):
            raise InputError("The loss is not finite before the first step.", "Look at its inputs.")
        # Trainings made, their losses at the end by group, rate and seed; seconds of one.
        self._made: dict[str, float] = {}
        self._each, self._most = 0.0, 0
        names = ("groups", "lr", "factor", "goal", "seed", "seeds")
        what = {name: getattr(self, name) for name in names} | asdict(self.settings)
        # Loss and data, as far as one number shows them.
        what |= {"model": self.training.fingerprint(), "loss at the start": self._start}
        self._saved = Checkpoint(self.checkpoint, what)
        self._inner = beside(self.checkpoint, "training")
        if self._saved.content is not None:
            self._made, self._each = (self._saved.content[name] for name in ("made", "each"))

    def run(self, max_seconds: float | None, announce: Callable[[str], object] | None) -> Rates:
        """Trains with one rate after the other, about so long; what is planned is announced."""
        self._plan(max_seconds)
        count = 1 + len(self.groups)
        total = count * self._most
        if announce is not None:
            announce(
                f"{len(self._grid)} learning rates from {self.lr[0]:.3g} to {self.lr[1]:.3g}"
                f"{f', for each of {count} groups' if self.groups else ''}; then more seeds, and "
                f"the borders: at most {total} trainings of {self.settings.steps} steps, about "
                f"{total * self._each:.2g} s"
            )
        common = self._scan(OTHERS, None, self.goal)
        rest = common.recommended or float(common.lr[common.lowest])
        scans = (common, *(self._scan(name, rest, common.goal) for name in self.groups))
        remove(self.checkpoint)
        left = [scan for scan in scans if scan.next(self._grid.tolist(), self.factor) is not None]
        text = f"what more than {counted(self._most, 'training', 'trainings')} of {{}} would find"
        left_out = tuple(text.format(scan.group) for scan in left)
        is_given = self.goal is not None
        return Rates(scans, self.settings, self.factor, is_given, len(self._made), left_out)

    def _plan(self, max_seconds: float | None) -> None:
        """Sets how many trainings a scan takes at most: all of one window, or what fits."""
        if max_seconds is not None and not max_seconds > 0:
            raise UsageError(f"{max_seconds:g} seconds are too few.", "Give max_seconds above 0.")
        self._each = self._each or min(self._seconds(), self._seconds())
        spacing = math.log(self._grid[1] / self._grid[0])
        borders, inside = (
            math.ceil(math.log2(max(1.0, spacing / math.log(factor))))
            for factor in (self.factor, FINE)
        )
        # Two borders, the rate to take, and what is around it.
        self._most = self.seeds * (len(self._grid) + 2 * borders + 1 + 3 * (2**inside - 1))
        fits = math.inf
        if max_seconds is not None:
            fits = max_seconds / self._each / (1 + len(self.groups))
        if fits < self._most:
            count = min(len(self._grid), max(_FEWEST, int(fits / self.seeds)))
            self._most = max(int(fits), count + self.seeds)
            self._grid = log_spaced(*self.lr[:2], count)

    def _seconds(self) -> float:
        few = replace(self.settings, steps=min(self.settings.steps, _TIMED))
        rates = self._rates(OTHERS, float(self._grid[0]), None)
        run, *_ = run_training(self.training, (), few, rates, seed=self.seed)
        return run.seconds / len(run.losses) * (self.settings.steps + 1)

    def _scan(self, group: str, rest: float | None, goal: float | None) -> RateScan:
        """Tries the rates of one group; a goal that is not given follows from the endings."""
        ends: dict[float, list[float]] = {}
        for made in range(self._most + 1):
            losses = np.full((len(ends), self.seeds), math.nan)
            for row, rate in zip(losses, sorted(ends), strict=True):
                row[: len(ends[rate])] = ends[rate]
            own = near_lowest(losses, self._start) if goal is None else goal
            lr = read_only(np.array(sorted(ends)))
            found = RateScan(group, rest, lr, read_only(losses), self._start, own)
            following = found.next(self._grid.tolist(), self.factor)
            if following is None or made == self._most:
                break
            known = ends.setdefault(following, [])
            known.append(self._train(group, following, rest, len(known)))
        return found

    def _rates(self, group: str, rate: float, rest: float | None) -> dict[str, float]:
        given = {OTHERS: rate} if rest is None else {OTHERS: rest, group: rate}
        return rates_of(self.training, self._watched, given, rate)

    def _train(self, group: str, rate: float, rest: float | None, number: int) -> float:
        key = f"{OTHERS if rate == rest else group} {rate!r} {number}"
        if key in self._made:
            return self._made[key]
        scans, name = 1 + len(self.groups), "" if rest is None else f" of {group}"

        def report(step: int, steps: int, loss: float) -> None:
            if self.progress is not None:
                done, total = len(self._made) * steps + step, scans * self._most * steps
                self.progress(done, total, f"lr {rate:.3g}{name}, loss {loss:.4g}")

        try:
            loss = run_training(
                self.training, (), self.settings, self._rates(group, rate, rest),
                seed=self.seed + number, first=self.seed + number, batches=self._batches,
                checkpoint=self._inner, progress=report,
            )[1]  # fmt: skip
        except InputError:
            # Code that does not accept the values that this rate leads to.
            loss = math.inf
        self._made[key] = loss if math.isfinite(loss) else math.inf
        remove(self._inner)
        self._saved.save(lambda: {"made": self._made, "each": self._each}, now=True)
        return self._made[key]
