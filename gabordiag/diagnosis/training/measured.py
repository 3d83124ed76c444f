"""One watched element of a training, measured: its path, its lines, and how far from a minimum."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cached_property

import numpy as np

from gabordiag.diagnosis.training.facts import GAIN, LAST, Facts
from gabordiag.diagnosis.training.lines import SAME_LOSS
from gabordiag.dynamics.outcomes import SETTLED_SHARE, tail_length
from gabordiag.dynamics.theory import BOUNDS, bound_entry
from gabordiag.gabor_layer import GaborConv2d
from gabordiag.landscape.many_lines import SampledLine, rounding
from gabordiag.landscape.points import CriticalPoint
from gabordiag.objective.space import FloatArray

# A lower loss counts if it is lower by this part of the line's height.
_OF_HEIGHT = 0.02
# One with more than this part of its way before it has not arrived.
HALF_WAY = 0.5
# So many of the slopes of one that swings about its minimum point away from it.
_LED = 0.9
# Where it is tried whether a loss that is level along the whole line is lower.
_BEYOND = np.outer([1, -1], [0.0, 0.1, 0.3, 1.0, 3.0, 10.0]).ravel()


class Measured:
    """One watched element of a training.

    The lines are the loss along it with everything else as before and as after the training. Path
    and slopes are coordinates and their gradients (T + 1,), of which the last `tail` are judged.
    `own` is the minimum into whose basin the last value falls; `better`, the lowest one elsewhere
    on the last line, if clearly lower; `better_at_first`, that of the first line, if the start lay
    beside it, and the end does. `shown` is the value, not its coordinate, as a parameter.

    The rate is the run's largest, over what the optimizer divides the gradient by; it times the
    curvature must stay below the limit. The gap is how far the last value is from its minimum;
    the way, how far the first was.
    """

    def __init__(self, facts: Facts, index: int) -> None:
        self.facts, self.index, run = facts, index, facts.run
        self.watched = run.watched[index]
        self.parameter, self.line_start, self.line_final = facts.lines[index]
        self.shown = self.parameter
        if self.watched.kind == "log":
            low, high, start = map(math.exp, (self.shown.low, self.shown.high, self.shown.start))
            self.shown = replace(self.shown, low=low, high=high, start=start, is_log=True)
        self.path: FloatArray = run.coordinates[:, index]
        self.slopes: FloatArray = run.gradients[:, index]
        self.tail = max(2, min(len(self.path), max(20, tail_length(len(self.path)))))
        self.own = self.attractor(self.line_final, -1)
        self.better = self._lower(self.line_final, -1)
        best = self._lower(self.line_start, 0)
        self.better_at_first = None if best is self.attractor(self.line_start, -1) else best
        self.rate = float(run.lrs[:, index].max()) * self.watched.stretch(run.final)
        if run.divisors is not None and math.isfinite(run.divisors[index]):
            self.rate /= float(run.divisors[index])
        # RMSprop divides as Adam does, and is heavy ball on what is left.
        self.limit = (bound_entry(run.settings) or BOUNDS["heavy_ball"]).limit_of(run.settings)
        self.gap = self.way = math.nan
        if self.own is not None:
            self.way = abs(float(self.parameter.offset(self.path[0], self.own.value)))
            self.gap = abs(float(self.parameter.offset(self.path[-1], self.own.value)))

    def attractor(self, line: SampledLine, step: int) -> CriticalPoint | None:
        """Returns the minimum of a line into whose basin the value at a step falls."""
        if not np.isfinite(self.path[step]):
            return None
        return line.landscape.attractor_of(float(self.parameter.wrap(self.path[step])))

    def _lower(self, line: SampledLine, step: int) -> CriticalPoint | None:
        """The lowest minimum of a line, if it is clearly lower than that of a step's basin."""
        minima = [p for p in line.landscape.attractors if p.curvature is not None]
        here, own = float(self.path[step]), self.attractor(line, step)
        if not math.isfinite(here) or not minima:
            return None
        # Of a level place, from which no minimum is reached, the loss there counts.
        value, loss = here, line.at(here)
        if own is not None and own.loss < loss:
            value, loss = own.value, own.loss
        lowest = min(minima, key=lambda point: point.loss)
        # The nearest of those that are as low.
        same = lowest.loss + max(4 * line.noise(lowest.value), SAME_LOSS * line.height)
        as_low = [point for point in minima if point.loss <= same]
        best = min(as_low, key=lambda point: abs(self.parameter.offset(point.value, here)))
        # On other batches it may stand lower than its own minimum of these.
        both = {value: loss, here: line.at(here)}
        is_lower = all(self.gain(v, best.value, line, at - best.loss) for v, at in both.items())
        return best if is_lower else None

    def clear(self, one: float, other: float, line: SampledLine, part: float = _OF_HEIGHT) -> float:
        """Returns which difference of the losses at two coordinates of a line counts."""
        return max(4 * line.noise(one, other), GAIN * self.facts.scale, part * line.height)

    def gain(
        self, here: float, there: float, line: SampledLine, seen: float, part: float = _OF_HEIGHT
    ) -> float:
        """Returns by how much the loss is lower there than here on a line, 0 if not clearly.

        What is seen on the line's batches may be theirs alone, and is tried on others.
        """
        bar = self.clear(here, there, line, part)
        if seen <= bar:
            return 0.0
        facts = self.facts
        state = facts.run.start if line is self.line_start else facts.run.final
        (losses,) = facts.checked.losses(state, [(self.watched, np.array([here, there]))])
        return facts.clear_gain(losses[0], losses[1], bar)

    def was_lower_at(self, coordinate: float) -> bool:
        """Whether the loss there, all else as before the training, is clearly lower than now."""
        facts, run = self.facts, self.facts.run
        places = ((run.final, self.path[-1]), (run.start, coordinate))
        now, there = (
            facts.checked.losses(state, [(self.watched, np.array([value]))])[0][0]
            for state, value in places
        )
        return facts.clear_gain(now, there, GAIN * facts.scale) > 0

    @cached_property
    def lower_elsewhere(self) -> float | None:
        """Where beyond a level line, among some places, the loss is clearly lower than now."""
        if self.watched.kind != "value" or self.parameter.period is not None or self.is_of_filter:
            return None
        facts, places = self.facts, np.append(_BEYOND, self.path[-1])
        losses = facts.checked.losses(facts.run.final, [(self.watched, places)])[0]
        means = losses.mean(axis=1)
        if not np.isfinite(means).any() or not np.isfinite(means[-1]):
            return None
        lowest = int(np.nanargmin(means))
        gain = facts.clear_gain(losses[-1], losses[lowest], SAME_LOSS * abs(float(means[-1])))
        return float(places[lowest]) if gain > 0 else None

    @cached_property
    def is_away(self) -> bool:
        """Whether it could clearly lower the loss by going to its minimum."""
        if self.own is None or self.own.basin is None:
            return False
        # A range may be far wider than the basin, and than the whole way to the minimum.
        low, high = self.own.basin
        way = float(np.abs(self.parameter.offset(self.path, self.own.value)).max())
        near = min(self.parameter.tolerance, SETTLED_SHARE * (high - low), HALF_WAY * way)
        apart, here, line = self.gap, float(self.path[-1]), self.line_final
        if self.crosses:
            # Where the loss alone leads to and fro across it, it may stand anywhere of its swing.
            apart, here = self.swing
        if apart <= near:
            return False
        # The line's height is no measure of a gain near its minimum.
        return self.gain(here, self.own.value, line, line.at(here) - self.own.loss, part=0.0) > 0

    @cached_property
    def crosses(self) -> bool:
        """Whether it is on both sides of its minimum in the second half of the steps."""
        if self.own is None:
            return False
        late = self.parameter.offset(self.path[len(self.path) // 2 :], self.own.value)
        return bool(late.min() < 0 < late.max())

    @cached_property
    def swing(self) -> tuple[float, float]:
        """How far from its minimum it still swings, and to where; 0 where noise leads it there.

        The slopes of what swings point away from the minimum; those of noise, to either side.
        """
        assert self.own is not None
        half, last = len(self.path) // 2, -max(2, int(LAST * len(self.path)))
        late = np.asarray(self.parameter.offset(self.path, self.own.value))
        is_led = np.sign(late[half:]) == np.sign(self.slopes[half:])
        if is_led.mean() < _LED:
            return 0.0, self.own.value
        farthest = last + int(np.abs(late[last:]).argmax())
        return float(np.abs(late[farthest])), float(self.path[farthest])

    @property
    def path_curvature(self) -> float:
        """The curvature along the run's own path, by least squares over its steps; 0 without one.

        A step of plain descent is -lr g, and lr x curvature sum (g - g') g / sum g^2 with the
        gradient g' after it. As -2 g g' is at most g^2 + g'^2, it is above 2 only where the last
        gradient is larger than the first: where steps grow, not where batches differ.
        """
        known = np.stack([self.path, self.slopes])
        moves, changes = np.diff(known[:, np.isfinite(known).all(axis=0)])
        if not moves.any():
            return 0.0
        # Squares of a run that diverged may overflow.
        moves, changes = np.stack([moves, changes]) / np.abs(moves).max()
        return float(moves @ changes / (moves @ moves))

    @property
    def is_in_a_dip(self) -> bool:
        """Whether the loss clearly rises on both sides of its minimum: not a level place."""
        if self.own is None or self.own.curvature is None:
            return False
        rise = self.own.curvature * self.parameter.tolerance**2 / 2
        return rise > 4 * rounding(self.line_final.eps, [self.own.loss, self.facts.scale])

    @property
    def is_of_filter(self) -> bool:
        """Whether its row is a filter of a convolution; else it is one of some numbers."""
        layer = self.facts.training.model.get_submodule(self.watched.layer)
        is_known = self.watched.row is not None and isinstance(layer, GaborConv2d)
        return is_known or self.facts.rows_of(self.watched) in self.facts.filters

    def value(self, coordinate: float) -> float:
        """Returns the value at a coordinate; of an angle, within one period."""
        if self.watched.kind == "log":
            return math.exp(coordinate)
        return float(self.parameter.wrap(coordinate))

    def show(self, coordinate: float) -> str:
        """Returns the value at a coordinate for people."""
        return self.shown.show(self.value(coordinate), 1)
