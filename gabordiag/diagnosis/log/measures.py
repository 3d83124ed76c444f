"""A log as a run of which less is known: its outcome, jumps, bounce and levels of loss.

The outcome is that of `dynamics.outcomes.classify`, as for any run. What `classify` needs and a log
lacks (minima, a range, the steepest slope, perhaps the target) is tried in all ways that agree with
the log: an outcome that they share is the run's, several are what it may be. Rows of a log may be
some steps apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property

import numpy as np

from gabordiag.diagnosis.log.readers import Log
from gabordiag.dynamics.outcomes import (
    FAR_OUT,
    OUTCOME_NAMES,
    SETTLED_SHARE,
    Attractor,
    Jump,
    Surroundings,
    classify_one,
    find_period,
    jump_steps,
    tail_length,
)
from gabordiag.objective.space import FloatArray, Parameter, Space

# What lies on both sides of each of these stands in the README of `diagnosis`.
SHORTEST_LOG = 20
WIDEST, LEAST = 10, 0.05
LONG_TAIL = 200
# A chaotic run of two or four bands jumps regularly, too.
SAWTOOTH_ROWS = 5
# Batches in a fixed order; a smooth minimum's cycles of three and more are wide.
RIDING_ROUNDS, RIDING_FALL, RIDING_RISES = 3, 0.25, 0.2
SMALLEST_ROUND, SMALL_CYCLE = 3, 0.15
KINK_CHANGE, KINK_MATCH, KINK_DEPTH = 4, 0.2, 0.5
EQUAL_STEPS, EQUAL_LOSSES = 1e-3, 1e-9
VISIBLE = 1e-3
# Of the nearest neighbours' changes; 1 for noise.
NEUMANN, ORDERLY = 0.5, 0.05
# A nearest neighbour is off by two deviations of noise where a line is off by one.
ANALOGUES, MOST_ANALOGUES, MOST_OF_STEPS = 0.4, 500, 0.45
RINGS, SMOOTH, UNEXPLAINED = 3, 0.35, 0.1
PATTERN, CORRELATED = 0.9, 0.95
CLEAR, TREND = 3, 2
# Steps that have grown by so much over a run of unknown range.
RUNAWAY = 1e6
# Bits of float32's numbers, of float16's and bfloat16's; a round number has that many fewer.
FLOAT32_DIGITS, FLOAT16_DIGITS, BFLOAT16_DIGITS, ROUND_DIGITS = 24, 11, 8, 3
# What rows some steps apart may leave out.
UNSEEN = {"cycle", "running", "unfinished", "erratic"}


def _scatter(part: FloatArray) -> tuple[float, float, float]:
    """Returns a line's fall; of what a parabola leaves, sum of squares and correlation."""
    rows = np.linspace(0.0, 1.0, len(part))
    noise = part - np.polyval(np.polyfit(rows, part, 2), rows)
    energy = float(np.square(noise).sum())
    r = float(noise[1:] @ noise[:-1]) / energy if energy else 0.0
    return -float(np.polyfit(rows, part, 1)[0]), energy, min(max(r, 0.0), CORRELATED)


def _tip(x: tuple[float, float], losses: FloatArray, slopes: FloatArray) -> tuple[float, float]:
    """Returns where two lines through (x, losses) meet, and the loss there."""
    tip = losses[1] - losses[0] + slopes[0] * x[0] - slopes[1] * x[1]
    place = float(tip / (slopes[0] - slopes[1]))
    return place, float(losses[0] + slopes[0] * (place - x[0]))


def _moved_by_one_row(log: Log) -> Log:
    """Returns the log with every value beside its own loss, if it was logged after the step.

    Then a step ends at the value beside its gradient, and does not begin there; without gradients
    the losses depend on the values of the rows before, and not on those beside them.
    """
    values, slopes = log.values, log.gradients
    if len(values) < SHORTEST_LOG or not (np.diff(log.steps) == 1).all():
        return log
    moves = np.diff(values)
    if slopes is None:
        here, before = _disorder(values, log.losses), _disorder(values[:-1], log.losses[1:])
        is_after = before <= ORDERLY < NEUMANN < here
    else:
        steps = -slopes if log.lrs is None else -slopes * log.lrs
        here, before = correlation(moves, steps[:-1]), correlation(moves, steps[1:])
        is_after = here < CORRELATED < 1 - EQUAL_STEPS < before
    if not is_after:
        return log
    note = (
        f"each row holds {log.value_name} after its step and the loss before it: the values are "
        "read one row earlier"
    )
    return replace(
        log, values=values[:-1], losses=log.losses[1:], steps=log.steps[1:],
        gradients=None if slopes is None else slopes[1:],
        lrs=None if log.lrs is None else log.lrs[1:], notes=(*log.notes, note),
    )  # fmt: skip


def correlation(one: FloatArray, other: FloatArray) -> float:
    """Returns Pearson's correlation of two series (n,), 0 where one is constant."""
    one, other = one.ravel(), other.ravel()
    use = np.isfinite(one) & np.isfinite(other)
    if not use.any() or np.ptp(one[use]) == 0 or np.ptp(other[use]) == 0:
        return 0.0
    return float(np.corrcoef(one[use], other[use])[0, 1])


def _disorder(values: FloatArray, series: FloatArray) -> float:
    """How little a series (n,) depends on the values: 0 for a function of them, 1 for noise.

    Von Neumann's ratio of the nearest fifth of all neighbours: the mean square of their changes
    over twice the variance of the whole.
    """
    order = np.argsort(values, kind="stable")
    gaps = np.diff(values[order])
    changes = np.diff(series[order])[np.argsort(gaps, kind="stable")[: len(gaps) // 5]]
    whole = 2 * float(np.var(series))
    return float(np.square(changes).mean()) / whole if whole and len(changes) else 0.0


def _predicted(part: FloatArray) -> tuple[float, float]:
    """Returns by how much the next of a series (n,) is missed: by a line of two, by analogues."""
    pairs, after = np.stack([part[:-2], part[1:-1]], axis=1), part[2:]
    apart = np.abs(pairs[:, None] - pairs).max(axis=2)
    np.fill_diagonal(apart, np.inf)
    errors = np.abs(after - after[apart.argmin(axis=1)])
    line = np.column_stack([pairs, np.ones(len(pairs))])
    left = np.abs(after - line @ np.linalg.lstsq(line, after, rcond=None)[0])
    return float(left.mean()), float(errors.mean())


def last_digit(values: FloatArray) -> float:
    """Returns the distance to the next number, in the least precision that has all of (n,)."""
    _, exponent = math.frexp(values[-1])
    for digits in (BFLOAT16_DIGITS, FLOAT16_DIGITS, FLOAT32_DIGITS):
        scaled = np.ldexp(np.frexp(values)[0], digits)
        # A few digits may be those of a round start, in single precision.
        is_round = digits < FLOAT32_DIGITS and not (scaled % 2**ROUND_DIGITS).any()
        if (scaled == np.round(scaled)).all() and not is_round:
            return math.ldexp(1.0, exponent - digits)
    return float(np.spacing(abs(values[-1])))


def printed_digit(values: FloatArray) -> float:
    """Returns the last decimal place that any of the values (n,) shows."""
    places = (Decimal(repr(value)).as_tuple().exponent for value in set(values.tolist()))
    return 10.0 ** min(place for place in places if isinstance(place, int))


@dataclass(frozen=True)
class Ring:
    """Swings about their middle: the last one's width, what each is of the one before, its rows."""

    middle: float
    width: float
    factor: float
    steps: float


class LogRun:
    """A log (n rows) as a run of which less is known, and what is measured on it.

    The parameter's range is that of the log, or its period. `classify` judges the tail's values.
    The height is the span of the finite losses, the stride the steps between two rows, by which
    what repeats or lasts is counted, and `jump_rows` are those before a jump of the loss.
    """

    def __init__(self, log: Log, target: float | None, period: float | None) -> None:
        log = _moved_by_one_row(log) if log.value_name else log
        self.log, self.target = log, target
        self.losses, self.values, self.has_value = log.losses, log.values, bool(log.value_name)
        self.last_losses = self.losses[-max(2, len(self.losses) // 3) :]
        finite = self.values[np.isfinite(self.values)]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
        if period is not None:
            low, high = -period / 2, period / 2
        is_angle = any(math.isclose(period or 0.0, whole) for whole in (math.pi, math.tau))
        width = high - low if high > low else max(abs(high), 1.0)
        self.parameter = Parameter(
            log.value_name or "loss", low, low + width, period, target, low, is_angle=is_angle
        )
        known = self.losses[np.isfinite(self.losses)]
        self.height = float(np.ptp(known)) if len(known) else 0.0
        self.tail = self.values[-tail_length(max(1, len(self.values) - 1)) :]
        self.tail_losses = self.losses[-len(self.tail) :]
        self.stride = int(np.median(np.diff(log.steps))) if len(log.steps) > 1 else 1
        self.jump_rows = jump_steps(self.losses, self.height)
        self.jumps = self._find_jumps()

    def step(self, row: int) -> int:
        """Returns the number of a row's step."""
        return int(self.log.steps[row])

    def rows(self) -> str:
        """Returns what rows are called in a sentence."""
        return "steps" if self.stride == 1 else f"logged rows ({self.stride} steps apart)"

    @property
    def outcome(self) -> str:
        """The likeliest of `possible`; `plateau` means settled, whether in a minimum or not."""
        return self._judgements[0][0]

    @cached_property
    def possible(self) -> tuple[str, ...]:
        """Outcomes that the run may have been given where the log leaves its landscape open."""
        # The first stands for itself only where nothing else was asked.
        found = {outcome for outcome, _ in self._judgements[1:] or self._judgements}
        if not self.has_value:
            return tuple(found) if found == {"nonfinite"} else ()
        if self.parameter.period is None and {"reached"} < found:
            # At a tolerance that another minimum passes, and the target does not.
            found.add("local_minimum")
        if self.stride > 1 and not found & {"nonfinite", "frozen", "reached"}:
            found |= UNSEEN
        if self.log.others and "nonfinite" not in found:
            # Their ends are as much of the run's.
            found |= set(OUTCOME_NAMES)
        if self.outcome != "running" and self._may_be_gone():
            found.add("nonfinite")
        gradients = self.log.gradients
        if gradients is not None and not math.isfinite(gradients[-1]):
            # Broken there, or not measured any more.
            found.add("nonfinite")
        return tuple(name for name in OUTCOME_NAMES if name in found)

    def _may_be_gone(self) -> bool:
        if self.parameter.period is not None:
            return False
        if self.target is not None:
            known = np.array([self.values[0], self.target])
            return self._is_outside(known, FAR_OUT * float(np.ptp(known)))
        moves = np.abs(self.moves)
        if (moves > 0).any() and moves.max() > RUNAWAY * moves[moves > 0][0]:
            return True
        before, half = self.values[: int(np.argmax(moves)) + 1], float(np.ptp(self.values)) / 2
        earlier = self.values[: -len(self.tail)]
        return self._is_outside(earlier, 0.0) or self._is_outside(before, half)

    def _is_outside(self, known: FloatArray, reach: float) -> bool:
        low, high = known.min() - reach, known.max() + reach
        return bool(((self.tail < low) | (self.tail > high)).all())

    @cached_property
    def _judgements(self) -> list[tuple[str, int]]:
        """Outcome and period in all surroundings that agree with the log, the likeliest first."""
        if self.parameter.period is None and self._runs_off():
            return [("running", 0)]
        gradients = np.zeros(1) if self.log.gradients is None else self.log.gradients
        known = np.abs(gradients[np.isfinite(gradients)])
        moved = bool(known.any() or np.ptp(self.values) > 0)
        # Of a slope that was not logged nothing follows: it may be flat there, or not.
        last, steepest = (known[-1], [known.max(), math.inf]) if known.any() else (1, [math.inf, 1])
        values, judgements = self.tail[:, None], []
        for around in self._surroundings(steepest):
            slope = last * around.space.tolerance[0]
            judgements.append(classify_one(around, values, self.tail_losses, slope, moved))
            if judgements[0][0] == "running":
                # What passes whole periods is in no minimum.
                break
        return judgements

    def _surroundings(self, steepest: Sequence[float]) -> Iterator[Surroundings]:
        """Yields what the landscape may be: ranges, goals, minima, steepest slopes."""
        last = float(self.tail[-1])
        offsets = self.parameter.offset(self.tail, last)
        middle = np.array([[last + (offsets.min() + offsets.max()) / 2]])
        goals, parameters = [middle[:0], middle], [self.parameter]
        if self.target is not None:
            goals[0] = np.array([[self.target]])
            # A whole number of periods away, if there is one that was not given.
            goals = goals[: 1 if self.parameter.period else 2]
        if self.parameter.period is None:
            half = self.parameter.width / 2
            reaches = np.geomspace(LEAST, WIDEST, 24) * half
            parameters += [replace(self.parameter, low=last - r, high=last + r) for r in reaches]
        # What the log alone suggests.
        slope = steepest[0] * self.parameter.tolerance
        yield Surroundings(Space((self.parameter,)), goals[0], (), None, slope)
        for parameter in parameters:
            space, minima = Space((parameter,)), self._minima(parameter, float(middle[0, 0]))
            # One thing at a time: who stays near a goal or a minimum is not asked for more.
            for goal, minimum, slope in (
                *((goals[0], minima[0], slope) for slope in steepest),
                *((goal, minima[0], steepest[0]) for goal in goals[1:]),
                *((goals[0], minimum, steepest[0]) for minimum in minima[1:]),
            ):
                yield Surroundings(space, goal, minimum, None, slope * parameter.tolerance)

    def _minima(self, parameter: Parameter, middle: float) -> list[tuple[Attractor, ...]]:
        width = parameter.width
        settled = SETTLED_SHARE * width / parameter.tolerance
        between = self.bracket
        places = [middle, float(self.tail[-1])]
        if between is not None:
            places = [min(max(middle, min(between)), max(between)), *between]
        found: list[tuple[Attractor, ...]] = [(Attractor(np.array([x])),) for x in places]
        # A minimum at the target is no other. An angle's tolerance is below that of a wide range.
        apart = [abs(float(parameter.offset(x, self.target or 0.0))) for x in places]
        near = min(parameter.tolerance, self.parameter.tolerance)
        if between is None or self.target is None or max(apart) > near:
            found += [(Attractor(np.array([place]), settled),) for place in places]
        return [(), *found] if between is None else found

    @cached_property
    def bracket(self) -> tuple[float, float] | None:
        """Two values between which, as slopes or losses in the tail show, a minimum lies."""
        x = self.parameter.offset(self.tail, float(self.tail[-1]))
        if self.log.gradients is not None:
            slopes = self.log.gradients[-len(x) :]
            if not np.isfinite(slopes).all():
                return None
            left, right = np.flatnonzero(slopes < 0), np.flatnonzero(slopes > 0)
            if not (len(left) and len(right)):
                return self._ahead(x, slopes)
            i, j = left[np.argmax(x[left])], right[np.argmin(x[right])]
            low, high, losses = float(x[i]), float(x[j]), self.tail_losses
            if self.kink_slope is not None:
                tip, _ = _tip((low, high), losses[[i, j]], slopes[[i, j]])
                low = high = float(np.clip(tip, low, high))
            return (self.tail[-1] + low, self.tail[-1] + high) if low <= high else None
        order = np.argsort(x, kind="stable")
        x, losses = x[order], self.tail_losses[order]
        lowest, changes = int(np.argmin(losses)), np.diff(losses)
        is_dip = (changes[:lowest] <= 0).all() and (changes[lowest:] >= 0).all()
        if not is_dip or not 0 < lowest < len(x) - 1:
            return None
        return self.tail[-1] + x[lowest - 1], self.tail[-1] + x[lowest + 1]

    def _ahead(self, x: FloatArray, slopes: FloatArray) -> tuple[float, float] | None:
        """Returns the last value and where the secant's slope vanishes, if that is near it."""
        change, way, last = float(slopes[-1] - slopes[0]), float(x[-1] - x[0]), float(self.tail[-1])
        left = float(slopes[-1]) * way / change if change * way > 0 else math.inf
        return (last, last - left) if abs(left) <= abs(way) else None

    def _runs_off(self) -> bool:
        """Whether steps and losses are all equal: whole periods of a parameter that has one.

        On a level stretch they are, too: there the slope says that a step changes nothing.
        """
        steps, losses = np.diff(self.tail), self.tail_losses
        even = np.ptp(steps) <= EQUAL_STEPS * abs(steps.mean()) > 0
        size = float(np.abs(losses).max())
        if not even or np.ptp(losses) > EQUAL_LOSSES * size:
            return False
        if self.log.gradients is not None:
            slopes = self.log.gradients[-len(losses) :]
        elif self.log.lrs is not None and self.stride == 1:
            # Of a plain descent.
            slopes = steps / self.log.lrs[-len(losses) : -1]
        else:
            # As steep as it was anywhere.
            slopes = np.diff(self.losses) / self.moves
        steepest = float(np.abs(slopes[np.isfinite(slopes)]).max(initial=0.0))
        return bool(steepest * abs(steps[-1]) > VISIBLE * size)

    @cached_property
    def repeat(self) -> int:
        """Rows after which values or losses repeat, in the tail or beyond it; 0 for never."""
        _, period = self._judgements[0]
        if period or self.outcome not in ("erratic", "unfinished"):
            return period
        # Bounces across a kink have any period; there the tail decides, as of any run.
        return self._longer_period() if self.kink_slope is None else 0

    def _longer_period(self) -> int:
        """Returns a period that the tail is too short for, of the values or of the losses."""
        length = max(len(self.tail), min(len(self.losses) // 2, LONG_TAIL))
        loss = Parameter("loss", 0.0, self.height or 1.0, None, None, 0.0)
        for along, series in ((self.parameter, self.values), (loss, self.losses)):
            is_known = np.isfinite(series[-length:]).all()
            if is_known and (period := find_period(along, series[-length:])):
                return period
        gaps = np.diff(self.jump_rows)
        if len(gaps) < 3 or gaps.min() != gaps.max() or gaps[0] < SAWTOOTH_ROWS:
            return 0
        # A decaying oscillation jumps regularly, too, in the beginning.
        goes_on = len(self.losses) - 1 - self.jump_rows[-1] <= gaps[0]
        return int(gaps[0]) if goes_on else 0

    @cached_property
    def are_batches(self) -> bool:
        """Whether what repeats are batches in a fixed order, and not steps that are too long.

        Their pattern rides on the descent; or at the end the losses do not depend on the value as
        on a minimum's two sides.
        """
        count, losses = self.repeat, self.losses
        if not count:
            return False
        rounds = losses[len(losses) % count :].reshape(-1, count)
        means = rounds.mean(axis=1)
        if self._is_small_cycle():
            return True
        # A cycle on its way to its final form falls by less.
        above = int(np.argmax(means - means[-1] <= RIDING_FALL * np.ptp(rounds, axis=1)))
        if above < RIDING_ROUNDS:
            return False
        fall = np.diff(means[: above + 1])[:, None] / count * (np.arange(count) - (count - 1) / 2)
        pattern = rounds[:above] - means[:above, None] - fall
        rises = float(np.mean(np.diff(rounds[:above].ravel()) > 0))
        return rises > RIDING_RISES and correlation(pattern[:-1], pattern[1:]) > PATTERN

    def _is_small_cycle(self) -> bool:
        if not self.has_value or self.repeat < SMALLEST_ROUND:
            return False
        places = self.parameter.offset(self.tail[-self.repeat :], float(self.tail[-1]))
        order = np.argsort(places)
        changes = np.diff(self.tail_losses[-self.repeat :][order])
        lowest = int(np.argmin(np.cumsum(changes))) + 1 if changes.min() < 0 else 0
        is_dip = (changes[:lowest] <= 0).all() and (changes[lowest:] >= 0).all()
        return bool(np.ptp(places) <= SMALL_CYCLE * float(np.ptp(self.values)) and not is_dip)

    def _find_jumps(self) -> tuple[Jump, ...]:
        losses, products = self.losses.tolist(), self.lr_times_curvature
        values = self.values[:, None] if self.has_value else np.full((len(losses), 1), math.nan)
        jumps = []
        for t in self.jump_rows:
            product = None if products is None else float(products[t])
            (start, end), (before, after) = values[t : t + 2], losses[t : t + 2]
            jumps.append(Jump(self.step(t), start, end, before, after, product, left_basin=False))
        return tuple(jumps)

    @cached_property
    def lr_times_curvature(self) -> FloatArray | None:
        """Lr x the secant's curvature over every step (n - 1,), where both were logged.

        None where noise makes the secants.
        """
        if self.log.gradients is None or self.log.lrs is None:
            return None
        if self.disorder(np.nan_to_num(self.log.gradients)) > NEUMANN:
            return None
        return np.asarray(self.log.lrs[:-1] * np.diff(self.log.gradients) / self.moves)

    @cached_property
    def moves(self) -> FloatArray:
        """Changes of the value from row to row (n - 1,), whole periods taken off."""
        return self.parameter.offset(np.diff(self.values), 0.0)

    @cached_property
    def offsets(self) -> FloatArray:
        """How far each row's value is from the target (n,), or from 0 without one."""
        return self.parameter.offset(self.values, self.target or 0.0)

    @property
    def late_offsets(self) -> FloatArray:
        """How far those of the last third are from it."""
        return self.offsets[-len(self.last_losses) :]

    @property
    def spread(self) -> float:
        """How much the losses of the last third spread, but for the outermost."""
        return float(np.subtract(*np.quantile(self.last_losses, (0.95, 0.05))))

    def rate(self) -> str:
        """Returns the rate to try, and instead of which: 1 / curvature if known, else a tenth."""
        lrs = self.log.lrs
        if lrs is None or not np.isfinite(lrs).any():
            return "a tenth"
        # A schedule's last rates may be tiny: its largest made the steps too long.
        low, high = float(np.nanmin(lrs)), float(np.nanmax(lrs))
        rate, products = high / 10, self.lr_times_curvature
        if products is not None:
            steep = np.isfinite(products) & (products > 2)
            rate = float((lrs[:-1][steep] / products[steep]).min()) if steep.any() else rate
        return f"{rate:.2g} instead of {f'{low:g} to ' if low < high else ''}{high:g}"

    @cached_property
    def kink_slope(self) -> float | None:
        """The slope of a V across which the run bounces at the end, or None.

        On both sides of the minimum the gradient points away from it. Across a smooth minimum it
        changes by its slope beside the minimum times the way, whatever the period; across a V by
        twice its size, however near the two values lie. Where no gradients were logged, the steps
        of a plain descent, which are proportional to them, have to do.
        """
        slopes = self.log.gradients
        if slopes is None and self.stride == 1:
            slopes = -np.append(self.moves, math.nan)
        if slopes is None:
            return None
        x = self.parameter.offset(self.values, float(self.tail[-1]))
        tail = x[-len(self.tail) :]
        x = x - (tail.min() + tail.max()) / 2
        reach = 3 * float(np.ptp(tail))
        use = np.isfinite(slopes) & (np.abs(x) <= reach)
        left, right = use & (slopes < 0), use & (slopes > 0)
        if not (left[-len(tail) :].any() and right[-len(tail) :].any()):
            return None
        a = int(np.argmax(np.where(left, x, -np.inf)))
        b = int(np.argmin(np.where(right, x, np.inf)))
        gap, change, bend = x[b] - x[a], slopes[b] - slopes[a], math.nan
        sides = slopes[[a, b]] if self.log.gradients is not None else np.full(2, math.nan)
        for k, (near, side) in enumerate(((a, left), (b, right))):
            away = np.abs(x - x[near])
            far = np.flatnonzero(side & (away > EQUAL_STEPS * float(np.ptp(tail))))
            if len(far):
                bends = np.abs(slopes[far] - slopes[near]) / away[far]
                bend = float(np.fmax(bend, bends.max()))
                next_to = far[np.argmin(away[far])]
                if self.log.gradients is None:
                    rise = self.losses[next_to] - self.losses[near]
                    sides[k] = rise / (x[next_to] - x[near])
        # With a single value on either side nothing is known of the slope beside.
        is_kink = gap > 0 and change > KINK_CHANGE * bend * gap
        if is_kink and self.losses.min() >= 0:
            # A parabola's slopes lead as far below its minimum as its losses lie above it. Near a
            # root's zero the losses are exact to a root of the rounding.
            sides = np.where(np.isnan(sides), -sides[::-1], sides)
            _, tip = _tip((x[a], x[b]), self.losses[[a, b]], sides)
            rounding = math.sqrt(np.finfo(np.float64).eps) * self.height
            is_kink &= not tip < -KINK_DEPTH * self.losses[[a, b]].max() - rounding
        if self.log.gradients is None:
            # Equal on each side, from several places there.
            steps = slopes[-len(tail) :]
            even = all(
                np.ptp(steps[side]) <= EQUAL_STEPS * abs(steps[side][0])
                and np.ptp(tail[side]) > EQUAL_STEPS * np.ptp(tail)
                for side in (left[-len(tail) :], right[-len(tail) :])
            )
            is_kink &= even or abs(slopes[a] + slopes[b]) <= KINK_MATCH * change
        return float(change) / 2 if is_kink else None

    @cached_property
    def deviation(self) -> float:
        """Standard deviation of the losses' noise, as the last third scatters."""
        changes = np.diff(self.last_losses)
        deviation = float(np.median(np.abs(changes - changes.mean()))) / 0.6745 / math.sqrt(2)
        # Of neighbours correlated by r the changes are sqrt(1 - r) of what they are of others.
        _, _, r = _scatter(self.last_losses)
        return deviation * math.sqrt(1 + r) / (1 - r)

    @property
    def noise(self) -> float:
        """Standard error of a change between tenths of the log."""
        # Of two medians, each with pi / 2 times the variance of a mean.
        return self.deviation * math.sqrt(math.pi / max(1, len(self.losses) // 10))

    def disorder(self, series: FloatArray) -> float:
        """How little a series (n,) depends on the value: 0 for a function of it, 1 for noise."""
        return _disorder(self.parameter.wrap(self.values), series)

    @cached_property
    def follows_value(self) -> bool:
        """Whether rows with nearly the same value have similar losses; in noise they have not."""
        return self.disorder(self.losses) <= NEUMANN

    @cached_property
    def follows_itself(self) -> bool:
        """Whether losses follow from the two before them, as those of a descent do, and noise not.

        Each of the last half is predicted by what came after the most similar pair (Lorenz's
        analogues), and by a line, which predicts noise better, however correlated that is. Batches
        in a fixed order repeat a pattern, which says nothing of the descent.
        """
        part = self.losses[len(self.losses) // 2 :][-MOST_ANALOGUES:]
        by_line, by_analogues = _predicted(part)
        if by_analogues > ANALOGUES * by_line:
            return False
        lags = range(SAWTOOTH_ROWS, len(part) // 2)
        return not any(np.corrcoef(part[lag:], part[:-lag])[0, 1] > PATTERN for lag in lags)

    @cached_property
    def moves_by_noise(self) -> bool:
        """Whether noise makes the last third's steps: of noise a line is all that can be known.

        Analogues (see `follows_itself`) predict it worse than a line, by a root of 2, and a descent
        that throws itself about better; on a parabola a line leaves nothing. Gradients that were
        logged depend on the value but for noise.
        """
        part = self.parameter.offset(self.values, self.values[-1])[-len(self.last_losses) :]
        slopes = self.log.gradients
        if self.stride != 1 or len(part) < SHORTEST_LOG:
            return False
        if slopes is not None and self.disorder(np.nan_to_num(slopes)) <= ORDERLY:
            return False
        by_line, by_analogues = _predicted(part[-MOST_ANALOGUES:])
        # A heavy ball goes on as it went, and noise bends its way.
        changes = (float(np.abs(np.diff(part, order)).mean()) for order in (1, 2))
        return by_analogues > by_line > MOST_OF_STEPS * min(changes)

    @cached_property
    def ring(self) -> Ring | None:
        """The smooth swings at the end, each narrower than the one before; None without."""
        # All of it but for the beginning.
        part = self.parameter.offset(self.values, self.values[-1])[len(self.values) // 3 :]
        moves = np.diff(part)
        turns = np.flatnonzero(moves[1:] * moves[:-1] < 0) + 1
        if not RINGS <= len(turns) <= SMOOTH * len(part):
            return None
        widths = np.abs(np.diff(part[turns]))
        if (np.diff(widths) >= 0).any():
            return None
        # A pendulum's acceleration follows from its place and speed; noise adds to it.
        known = np.column_stack([part[1:-1], moves[:-1], np.ones(len(part) - 2)])
        pulls = np.diff(moves)
        left = pulls - known @ np.linalg.lstsq(known, pulls, rcond=None)[0]
        if np.square(left).sum() > UNEXPLAINED * np.square(pulls - pulls.mean()).sum():
            return None
        factor = float((widths[-1] / widths[0]) ** (1 / (len(widths) - 1)))
        steps = float(turns[-1] - turns[0]) / (len(turns) - 1)
        middle = float(self.values[-1] + part[turns[-2:]].mean())
        return Ring(middle, float(widths[-1]), factor, steps)

    @cached_property
    def levels(self) -> tuple[float, float, float]:
        """Losses at the beginning, in the best tenth, and at the end: medians."""
        medians = [float(np.median(part)) for part in np.array_split(self.losses, 10)]
        first, last, best = float(np.median(self.losses[:3])), medians[-1], min(medians)
        if not self.losses[1:].min() <= self.losses[0] <= self.losses[1:].max():
            # All may happen in one step.
            first = float(self.losses[0])
        # Much happens in the first tenth, unless it is noise.
        is_noise = abs(first - medians[0]) <= CLEAR * self.noise * math.sqrt(len(self.losses) / 10)
        begin = medians[0] if is_noise else first
        if self.losses[0] < begin - CLEAR * self.deviation:
            # What comes down after a first step up has not fallen yet.
            begin = float(self.losses[0])
        # A single low value counts where it is lower than the end by more than the noise there.
        lowest = float(self.losses.min())
        if lowest < self.last_losses.min() - float(np.ptp(self.last_losses)):
            best = min(best, lowest)
        return begin, best, last

    @cached_property
    def fall(self) -> float:
        """By how much the losses end lower than they began, 0 where that may be noise.

        The beginning is as many of the first rows as show it best: a descent may be over in a few.
        """
        _, energy, r = _scatter(self.last_losses)
        late = len(self.last_losses)
        counts = 3 * 2 ** np.arange(1 + int(math.log2(max(1, late / 3))))
        falls = np.cumsum(self.losses)[counts - 1] / counts - self.last_losses.mean()
        errors = math.sqrt(energy / late * (1 + r) / (1 - r)) * np.sqrt(1 / counts + 1 / late)
        return float(falls[falls > CLEAR * errors].max(initial=0.0))

    def trend(self, series: FloatArray) -> float:
        """Returns by how much the last third of a series falls, 0 where that may be noise."""
        # Of noise with neighbours correlated by r, n rows are as good as n (1 - r) / (1 + r).
        part = series[-max(6, len(series) // 3) :]
        fall, energy, r = _scatter(part)
        error = math.sqrt(12 * energy * (1 + r) / (1 - r)) / len(part)
        return fall if fall > TREND * error else 0.0

    def remaining(self) -> float:
        """How far the value is from where it will settle, if its steps shrink by one factor."""
        half = (len(self.tail) - 1) // 2
        if half < 1:
            return math.inf
        steps = np.diff(self.tail[[-1 - 2 * half, -1 - half, -1]])
        factor = float(steps[1] / steps[0]) if steps[0] else 0.0
        return abs(float(steps[1]) * factor / (1 - factor)) if 0 <= factor < 1 else math.inf
