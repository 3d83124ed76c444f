"""From trajectories to outcomes: reached, cycle, erratic, ...; and the events on the way.

One piece of code judges a single run and a map of a hundred thousand: arrays of shape
(tail, runs). The tail is the last tenth of the steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gabordiag.landscape.critical import CriticalPoint, Landscape
from gabordiag.objective.objective import FloatArray, Parameter
from gabordiag.results import finite_or_none

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

# Outcome -> what it means, for legends and reports. The order is that of the codes in maps.
OUTCOMES = {
    "reached": "reaches the target and stays",
    "local_minimum": "settles in another minimum",
    "plateau": "hardly moves, loss high, no minimum there",
    "cycle": "repeats a cycle for ever",
    "erratic": "jumps about without a period",
    "running": "runs off by whole periods, loss repeats",
    "unfinished": "still descending when the steps end",
    "frozen": "no gradient ever arrived",
    "nonfinite": "NaN, infinity, or gone from the range",
}
OUTCOME_NAMES = tuple(OUTCOMES)
CODES = {name: code for code, name in enumerate(OUTCOME_NAMES)}

TAIL_FRACTION = 0.1
# A cycle must be seen three times to be told from chance, so a period is at most a third of the
# tail; longer tails are searched up to this period.
MAX_PERIOD = 64
# A repeat must fit a thousand times better than one step moves: slow drift along a curve fits two
# steps apart about as badly as one.
REPEAT_TOLERANCE = 1e-3
# Moves below this, relative to the range, are rounding; nothing is read into them.
ROUNDING_MOVE = 1e-12
# A plateau: in the whole tail the value moves less than this part of the tolerance ...
PLATEAU_MOVE = 1e-2
# ... on a slope less than this part of the landscape's steepest; a small step on a real slope is
# an unfinished descent.
PLATEAU_SLOPE = 1e-3
# Settled, though not at rest: steps that do not shrink with the slope (RMSprop, sign-like ones)
# jitter about a minimum without a period; at the bottom of its basin, so much of its width, they
# have arrived there as far as they can.
SETTLED_SHARE = 0.05
# Share of the tail's steps that go down in what counts as still descending.
DESCENT_SHARE = 0.9
# Windows of the tail in which the largest moves all shrink: a decaying oscillation, which by chance
# has a probability of 1 / 5! in a chaotic run ...
DECAY_WINDOWS = 5
# ... and by how much they shrink in all: across a kink the moves keep their size, lr x slope.
DECAY_DROP = 0.05
# Widths of an interval on either side of it, outside which a run is gone: on its way to infinity.
FAR_OUT = 4
# A jump: the loss rises in one step by this part of the landscape's height. The question's jump
# (from below 30% to above 60% of the largest loss) is one.
JUMP_RISE = 0.3
SYMPTOM_LOW, SYMPTOM_HIGH, SYMPTOM_COUNT = 0.3, 0.6, 10


def tail_length(steps: int) -> int:
    """Returns how many of the last logged values are judged."""
    return max(2, math.ceil(TAIL_FRACTION * steps))


@dataclass(frozen=True)
class Tails:
    """What is judged, of n runs.

    Attributes:
        values: Of the parameter, not wrapped, (tail, n).
        losses: (tail, n).
        last_gradient: At the last value (n,).
        moved: Whether any gradient other than zero arrived in the whole run (n,).
    """

    values: FloatArray
    losses: FloatArray
    last_gradient: FloatArray
    moved: BoolArray


def classify(landscape: Landscape, tails: Tails) -> tuple[IntArray, IntArray]:
    """Returns the outcome codes (n,) and periods (n,), 0 where no period of 2 or more was found."""
    parameter = landscape.parameter
    values, losses = tails.values, tails.losses
    count = values.shape[1]
    codes = np.full(count, -1, dtype=np.int64)
    periods = np.zeros(count, dtype=np.int64)

    finite = np.isfinite(values).all(axis=0) & np.isfinite(losses).all(axis=0)
    finite &= np.isfinite(tails.last_gradient) & ~_is_gone(parameter, values)
    codes[~finite] = CODES["nonfinite"]

    goal = landscape.goal_value
    if goal is not None:
        assign(codes, _stays_near(parameter, values, goal, finite), "reached")
    for point in landscape.attractors:
        stays = _stays_near(parameter, values, point.value, finite & (codes < 0))
        assign(codes, stays, "local_minimum")
    at_rest = _near_any(parameter, values[-1], [point.value for point in landscape.points])
    assign(codes, finite & ~tails.moved & ~at_rest, "frozen")

    periods[finite], drift = _find_periods(parameter, values[:, finite])
    drifts = np.zeros(count)
    drifts[finite] = drift
    assign(codes, (periods >= 1) & (drifts != 0), "running")
    assign(codes, periods >= 2, "cycle")

    move = np.zeros(count)
    move[finite] = np.ptp(values[:, finite], axis=0)
    slow = move <= PLATEAU_MOVE * parameter.tolerance
    flat = np.abs(tails.last_gradient) <= PLATEAU_SLOPE * landscape.largest_gradient
    assign(codes, finite & slow & flat, "plateau")
    arrivals = [point.value for point in landscape.attractors] + ([] if goal is None else [goal])
    ends = _last_stays(parameter, values, arrivals, finite & (codes < 0))
    with np.errstate(invalid="ignore"):
        moves = np.abs(np.diff(values, axis=0))
    assign(codes, descends(moves, losses, finite, ends), "unfinished")
    for point in landscape.attractors:
        if point.basin is not None and not point.is_target:
            reach = SETTLED_SHARE * (point.basin[1] - point.basin[0])
            settled = _stays_near(parameter, values, point.value, finite & (codes < 0), reach)
            assign(codes, settled, "local_minimum")
    assign(codes, codes < 0, "erratic")
    return codes, np.where(periods >= 2, periods, 0)


def _is_gone(parameter: Parameter, values: FloatArray) -> BoolArray:
    """Whether the whole tail lies far outside an interval.

    Or so far out along a period that a double cannot say where in it: there whole periods that are
    taken off leave a remainder that is rounding.
    """
    if parameter.period is not None:
        with np.errstate(invalid="ignore"):
            blurred = np.spacing(np.abs(values).max(axis=0)) > parameter.tolerance
        return np.asarray(blurred, dtype=np.bool_)
    reach = FAR_OUT * (parameter.high - parameter.low)
    outside = (values < parameter.low - reach) | (values > parameter.high + reach)
    return np.asarray(outside.all(axis=0), dtype=np.bool_)


def assign(codes: IntArray, where: BoolArray, name: str) -> None:
    """Gives an outcome, in place, to runs that have none yet (code below 0)."""
    codes[where & (codes < 0)] = CODES[name]


def _stays_near(
    parameter: Parameter,
    values: FloatArray,
    point: float,
    among: BoolArray,
    reach: float | None = None,
) -> BoolArray:
    """Whether the whole tail lies within `reach` of a point; the parameter's tolerance without."""
    reach = parameter.tolerance if reach is None else reach
    near = np.zeros(values.shape[1], dtype=np.bool_)
    # The last value rules most runs out before the whole tail is looked at.
    last = among & np.isfinite(values[-1])
    last[last] = np.abs(parameter.offset(values[-1, last], point)) <= reach
    offsets = np.abs(parameter.offset(values[:, last], point))
    near[last] = (offsets <= reach).all(axis=0)
    return near


def _last_stays(
    parameter: Parameter, values: FloatArray, points: list[float], among: BoolArray
) -> IntArray:
    """Returns since which index (n,) a run stays near one of the points; the length for never."""
    length, count = values.shape
    since = np.full(count, length)
    for point in points:
        last = among & np.isfinite(values[-1])
        last[last] = np.abs(parameter.offset(values[-1, last], point)) <= parameter.tolerance
        away = np.abs(parameter.offset(values[:, last], point)) > parameter.tolerance
        # Counted from the end: the first value that is away.
        stays = np.where(away.any(axis=0), np.argmax(away[::-1], axis=0), length)
        since[last] = np.minimum(since[last], length - stays)
    return since


def _near_any(parameter: Parameter, values: FloatArray, points: list[float]) -> BoolArray:
    near = np.zeros(len(values), dtype=np.bool_)
    with np.errstate(invalid="ignore"):
        for point in points:
            near |= np.abs(parameter.offset(values, point)) <= 1e-6 * parameter.tolerance
    return near


def _find_periods(parameter: Parameter, values: FloatArray) -> tuple[IntArray, FloatArray]:
    """Returns the shortest period (n,), 0 where there is none, and the drift over it.

    The drift counts whole parameter periods. Period 1 is found only together with a drift or as
    rest (drift 0).
    """
    length, count = values.shape
    periods = np.zeros(count, dtype=np.int64)
    drifts = np.zeros(count)
    if length < 2:
        return periods, drifts
    width = parameter.high - parameter.low
    # Values reduced once: rounding of a far-off value would otherwise look like motion.
    wrapped = parameter.wrap(values)
    steps = np.abs(parameter.offset(np.diff(wrapped, axis=0), 0.0)).max(axis=0)
    spacing = np.spacing(np.abs(values).max(axis=0))
    rest = np.maximum(ROUNDING_MOVE * width, 4 * spacing)
    periods[steps <= rest] = 1
    threshold = np.maximum(REPEAT_TOLERANCE * steps, rest)
    for period in range(2, min(MAX_PERIOD, length // 3) + 1):
        # The last values decide for most runs; only candidates are compared over the whole tail.
        ends = np.abs(parameter.offset(wrapped[-1] - wrapped[-1 - period], 0.0))
        candidates = np.flatnonzero((periods == 0) & (ends <= threshold))
        if len(candidates) == 0:
            continue
        some = wrapped[:, candidates]
        errors = np.abs(parameter.offset(some[period:] - some[:-period], 0.0)).max(axis=0)
        periods[candidates[errors <= threshold[candidates]]] = period
    if parameter.period is not None:
        found = np.flatnonzero(periods)
        moved = values[-1, found] - values[-1 - periods[found], found]
        drifts[found] = np.round(moved / parameter.period)
    return periods, drifts


def find_period(parameter: Parameter, values: FloatArray) -> int:
    """Returns the shortest period of one series (n,), at least 2, or 0 where there is none."""
    periods, _ = _find_periods(parameter, values[:, None])
    return int(periods[0]) if periods[0] >= 2 else 0


def descends(
    moves: FloatArray, losses: FloatArray, among: BoolArray, arrivals: IntArray
) -> BoolArray:
    """Whether the loss still goes down step by step, or the oscillation decays.

    A run that arrives within the tail is judged by its steps up to there: what comes after, a
    bounce across a kink, say, is no longer a descent. It has arrived too late to be called so.

    Args:
        moves: Lengths of the tail's steps (tail - 1, n).
        losses: (tail, n).
        among: Runs that are asked about (n,).
        arrivals: Index since which a run stays where it belongs (n,); the tail's length for never.
    """
    result = np.zeros(losses.shape[1], dtype=np.bool_)
    some = losses[:, among]
    if some.shape[1] == 0:
        return result
    changes = np.diff(some, axis=0)
    steps = np.minimum(arrivals[among], len(changes))
    before = np.arange(len(changes))[:, None] < steps
    down = ((changes <= 0) & before).sum(axis=0) >= DESCENT_SHARE * steps
    reached = np.take_along_axis(some, steps[None], axis=0)[0]
    steady = np.asarray(down) & (reached < some[0])
    decaying = np.zeros_like(steady)
    if len(moves) >= 2 * DECAY_WINDOWS:
        edges = np.linspace(0, len(moves), DECAY_WINDOWS + 1).astype(int)[:-1]
        peaks = np.maximum.reduceat(moves[:, among], edges, axis=0)
        shrinks = (np.diff(peaks, axis=0) < 0).all(axis=0)
        decaying = np.asarray(shrinks & (peaks[-1] < (1 - DECAY_DROP) * peaks[0]))
    result[among] = steady | decaying
    return result


@dataclass(frozen=True)
class Jump:
    """One step across which the loss rose by a large part of the landscape's height.

    Attributes:
        step: Index of the value before the jump.
        start: The value before; `from` in JSON.
        end: The value after; `to` in JSON.
        loss_before: At `start`.
        loss_after: At `end`.
        lr_times_curvature: lr L'' at `start`; above 2 a quadratic diverges.
        left_basin: Whether the step crossed the edge of the basin it started in.
        landed_near: The minimum into whose basin it fell, or None.
    """

    step: int
    start: float
    end: float
    loss_before: float
    loss_after: float
    lr_times_curvature: float | None
    left_basin: bool
    landed_near: float | None

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON names them."""
        return {
            "step": self.step,
            "from": self.start,
            "to": self.end,
            "loss_before": self.loss_before,
            "loss_after": self.loss_after,
            "lr_times_curvature": finite_or_none(self.lr_times_curvature),
            "left_basin": self.left_basin,
            "landed_near": self.landed_near,
        }


def jump_steps(losses: FloatArray, height: float) -> IntArray:
    """Returns the indices t at which loss[t + 1] - loss[t] is a jump of a landscape's height."""
    with np.errstate(invalid="ignore"):
        return np.flatnonzero(np.diff(losses) > JUMP_RISE * height)


def describe_jump(
    landscape: Landscape,
    step: int,
    values: FloatArray,
    losses: FloatArray,
    lr_times_curvature: float | None,
) -> Jump:
    """Returns the jump from values[step] to values[step + 1] with what the landscape says of it."""
    start, end = float(values[step]), float(values[step + 1])
    before = landscape.attractor_of(start)
    landed = landscape.attractor_of(end)
    return Jump(
        step=step,
        start=start,
        end=end,
        loss_before=float(losses[step]),
        loss_after=float(losses[step + 1]),
        lr_times_curvature=lr_times_curvature,
        left_basin=left_basin(landscape, before, start, np.array([end])),
        landed_near=None if landed is None else landed.value,
    )


def left_basin(
    landscape: Landscape, point: CriticalPoint | None, start: float, values: FloatArray
) -> bool:
    """Whether any of the values lies outside the copy of the point's basin that holds `start`."""
    if point is None:
        return False
    basin = landscape.reach_around(point, start)
    if basin is None:
        return True
    inside = (values >= basin[0]) & (values <= basin[1])
    return not bool(inside.all())


def count_symptoms(losses: FloatArray, largest: float) -> int:
    """Returns how often the loss went from below 30% to above 60% of the largest in one step."""
    low = losses[:-1] < SYMPTOM_LOW * largest
    high = losses[1:] > SYMPTOM_HIGH * largest
    return int((low & high).sum())


def lyapunov_exponent(
    lrs: FloatArray, curvatures: FloatArray, momentum: float = 0.0
) -> float | None:
    """Returns the Lyapunov exponent of (heavy-ball) gradient descent along an orbit.

    Plain descent: the mean of ln|1 - lr L''| (Kong & Tao 2020, arXiv 2002.06189). With momentum
    the tangent map of (w, v) is v <- beta v + L'' w, w <- w - lr v; its growth rate is measured on
    a tangent vector that is renormalised at every step.

    Args:
        lrs: Learning rate at every step (m,).
        curvatures: L'' at every value (m,).
        momentum: beta.

    Returns:
        Per step; None where the orbit or its curvature is not finite, or empty.
    """
    if len(curvatures) == 0:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        products = lrs * curvatures
    if not np.isfinite(products).all():
        return None
    if momentum == 0:
        # A factor of exactly zero (superstable) would be minus infinity: bounded by rounding.
        factors = np.maximum(np.abs(1 - products), np.finfo(np.float64).tiny)
        return float(np.log(factors).mean())
    w, v, total = 1.0, 0.0, 0.0
    for lr, curvature in zip(lrs.tolist(), curvatures.tolist(), strict=True):
        v = momentum * v + curvature * w
        w = w - lr * v
        # Never zero: the map's determinant is beta.
        length = math.hypot(w, v)
        total += math.log(length)
        w, v = w / length, v / length
    return total / len(curvatures)
