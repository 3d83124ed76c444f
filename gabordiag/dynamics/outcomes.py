"""From trajectories to outcomes: reached, cycle, erratic, ...; and the events on the way.

One piece of code judges a single run and a map of a hundred thousand, of one parameter or of
several: arrays of shape (tail, runs, parameters). The tail is the last tenth of the steps. What is
compared is measured in the parameters' tolerances.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gabordiag.landscape.points import CriticalPoint, Landscape
from gabordiag.objective.space import FloatArray, Parameter, Space
from gabordiag.results import finite_or_none

BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

# A filter of a bank has arrived where its error is below this part of the response's mean square.
ARRIVED = 1e-3
# Of one behind a read-out, which is matched by similarity: where 1 - cosine similarity is below.
ALIKE = 0.01
# Outcome -> what it means, for legends and reports. The order is that of the codes in maps.
OUTCOMES = {
    "reached": "reaches the target and stays",
    "local_minimum": "settles in another minimum",
    "plateau": "hardly moves, loss high, no minimum there",
    "cycle": "repeats a cycle of values",
    "erratic": "wanders without a period",
    "running": "runs off by whole periods, loss repeats",
    "unfinished": "still descending when the steps end",
    "frozen": "no gradient ever arrived",
    "nonfinite": "NaN, infinity, or gone from the range",
}
# What becomes of trainings with a learning rate that are to reach a goal.
RATE_OUTCOMES = {
    "reached": "all trainings reach the goal",
    "unfinished": "trainings miss the goal; larger rates end lower",
    "unsteady": "trainings miss the goal; smaller rates end lower",
    "diverged": "trainings end above their start, or are not finite",
}
OUTCOME_NAMES = tuple(OUTCOMES)
CODES = {name: code for code, name in enumerate(OUTCOME_NAMES)}

TAIL_FRACTION = 0.1
# A cycle must be seen three times to differ from chance, so a period is at most a third of the
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
# Settled, though not at rest: optimizers whose steps do not shrink with the slope (RMSprop) jitter
# about a minimum without a period. A tail within this part of its basin counts as having arrived.
SETTLED_SHARE = 0.05
# A value so near to a critical point, in tolerances, lies on it but for rounding; so do the starts
# 1e-6 beside it that confirm a run.
_AT_REST = 2e-6
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
class Attractor:
    """A minimum (d,) other than the target; a tail as near as `settled` tolerances, too, ends here.

    `settled` is for optimizers that never rest (`SETTLED_SHARE`); None: no farther than 1 counts.
    """

    values: FloatArray
    settled: float | None = None


@dataclass(frozen=True)
class Surroundings:
    """What outcomes are judged by: the parameters, and what is known of the landscape.

    Goals (m, d) count as the target, and no gradient is expected at rest points (k, d). `steepest`
    is the largest slope per tolerance; see `classify`.
    """

    space: Space
    goals: FloatArray
    attractors: tuple[Attractor, ...] = ()
    rest_points: FloatArray | None = None
    steepest: float = math.nan

    @property
    def minima(self) -> FloatArray:
        """Values (m, d) of the attractors."""
        values = [point.values for point in self.attractors]
        return np.array(values).reshape(-1, len(self.space))


def surroundings(landscape: Landscape) -> Surroundings:
    """Returns what a landscape of one parameter says to a judgement of runs."""
    parameter, goal = landscape.parameter, landscape.goal_value
    attractors = []
    for point in landscape.attractors:
        settled = None
        if point.basin is not None and not point.is_target:
            settled = SETTLED_SHARE * (point.basin[1] - point.basin[0]) / parameter.tolerance
        attractors.append(Attractor(np.array([point.value]), settled))
    return Surroundings(
        Space((parameter,)),
        np.array([] if goal is None else [[goal]]).reshape(-1, 1),
        tuple(attractors),
        np.array([[point.value] for point in landscape.points]).reshape(-1, 1),
        landscape.largest_gradient * parameter.tolerance,
    )


def classify_one(
    around: Surroundings, values: FloatArray, losses: FloatArray, last_slope: float, moved: bool
) -> tuple[str, int]:
    """Returns the outcome and the period of one run's tail: values (tail, d), losses (tail,)."""
    ends = np.array([last_slope]), np.array([moved])
    codes, periods = classify(around, values[:, None], losses[:, None], *ends)
    return OUTCOME_NAMES[int(codes[0])], int(periods[0])


def classify(
    around: Surroundings,
    values: FloatArray,
    losses: FloatArray,
    last_slope: FloatArray,
    moved: BoolArray,
) -> tuple[IntArray, IntArray]:
    """Returns the outcome codes (n,) and periods (n,), 0 where no period of 2 or more was found.

    Of n runs the tails are judged, values (tail, n, d), not wrapped, and losses (tail, n); the
    length of the last gradient, each component times the parameter's tolerance (n,); and whether
    any gradient other than zero arrived in the whole run (n,).
    """
    space = around.space
    codes = np.full(values.shape[1], -1, dtype=np.int64)
    periods, drifting = np.zeros_like(codes), np.zeros(len(codes), dtype=np.bool_)

    finite = np.isfinite(values).all(axis=(0, 2)) & np.isfinite(losses).all(axis=0)
    finite &= np.isfinite(last_slope) & ~_is_gone(space, values)
    codes[~finite] = CODES["nonfinite"]

    # Where no gradient arrives, lying beside a minimum is no success.
    rest, minima = around.goals, around.minima
    if around.rest_points is not None:
        rest = np.concatenate([rest, around.rest_points])
    at_rest = (_apart(space, values[-1], rest) <= _AT_REST).any(axis=1)
    assign(codes, finite & ~moved & ~at_rest, "frozen")
    for points, name in ((around.goals, "reached"), (minima, "local_minimum")):
        assign(codes, _stays_since(space, values, points, finite & (codes < 0)) == 0, name)

    periods[finite], drifting[finite] = _find_periods(space, values[:, finite])
    assign(codes, (periods >= 1) & drifting, "running")
    assign(codes, periods >= 2, "cycle")

    with np.errstate(invalid="ignore", over="ignore"):
        moves = np.diff(values, axis=0) / space.tolerance
        # Unlike a sum of squares, `hypot` does not overflow on the way.
        lengths = np.abs(moves[..., 0]) if len(space) == 1 else np.hypot.reduce(moves, axis=-1)
        extent = (np.ptp(values, axis=0) / space.tolerance).max(axis=-1)
        net = (np.abs(values[-1] - values[0]) / space.tolerance).max(axis=-1)
        path = lengths.sum(axis=0)
        rises = (np.diff(losses, axis=0) > 0).sum(axis=0) >= DESCENT_SHARE * len(moves)
    flat = last_slope <= PLATEAU_SLOPE * around.steepest
    assign(codes, finite & (extent <= PLATEAU_MOVE) & flat, "plateau")
    points = np.concatenate([minima, around.goals])
    ends = _stays_since(space, values, points, finite & (codes < 0))
    assign(codes, descends(lengths, losses, finite, ends), "unfinished")
    # Within a tolerance noise may hide the descent: then it is the values that go one way.
    drifts = (extent <= 1) & (net > 0) & (net >= DESCENT_SHARE * path) & ~rises & (periods == 0)
    assign(codes, finite & drifts, "unfinished")
    reach = np.array([point.settled or 0.0 for point in around.attractors])
    settled = _stays_since(space, values, minima, finite & (codes < 0), reach) == 0
    assign(codes, settled, "local_minimum")
    # What does not move at all is not erratic, whatever the slope: its steps are rounded away.
    assign(codes, periods == 1, "plateau")
    assign(codes, codes < 0, "erratic")
    return codes, np.where(periods >= 2, periods, 0)


def _is_gone(space: Space, values: FloatArray) -> BoolArray:
    """Whether a tail lies far outside (n,), or so far out that a double cannot hold the period."""
    gone = np.zeros(values.shape[1], dtype=np.bool_)
    for parameter, column in zip(space.parameters, np.moveaxis(values, -1, 0), strict=True):
        if parameter.period is None:
            gone |= _is_far_out(parameter, column).all(axis=0)
        else:
            with np.errstate(invalid="ignore"):
                gone |= np.spacing(np.abs(column).max(axis=0)) > parameter.tolerance
    return gone


def _is_far_out(parameter: Parameter, values: FloatArray) -> BoolArray:
    """Which values of a parameter without a period lie far outside its range."""
    reach = FAR_OUT * parameter.width
    return (values < parameter.low - reach) | (values > parameter.high + reach)


def assign(codes: IntArray, where: BoolArray, name: str) -> None:
    """Gives an outcome, in place, to runs that have none yet (code below 0)."""
    codes[where & (codes < 0)] = CODES[name]


def _apart(space: Space, values: FloatArray, points: FloatArray) -> FloatArray:
    """Returns the distances (n, m) of values (n, d) to points (m, d), in tolerances."""
    return space.distances(values[:, None], points)


def _stays_since(
    space: Space,
    values: FloatArray,
    points: FloatArray,
    among: BoolArray,
    reach: float | FloatArray = 1.0,
) -> IntArray:
    """Returns since which index (n,) a run stays within `reach` tolerances of one of points (m, d).

    The tail's length for never.
    """
    length, count = values.shape[:2]
    since, reach = np.full(count, length), np.broadcast_to(reach, len(points))
    # The last value rules most runs and points out before the whole tail is looked at.
    last = among[:, None] & (_apart(space, values[-1], points) <= reach)
    for index in np.flatnonzero(last.any(axis=0)):
        runs = np.flatnonzero(last[:, index])
        away = space.distances(values[:, runs], points[index]) > reach[index]
        # Counted from the end: the first value that is away.
        stays = np.where(away.any(axis=0), np.argmax(away[::-1], axis=0), length)
        since[runs] = np.minimum(since[runs], length - stays)
    return since


def _find_periods(space: Space, values: FloatArray) -> tuple[IntArray, BoolArray]:
    """Returns the shortest period (n,), 1 at rest, 0 for none; whether it drifts by whole ones."""
    length, count = values.shape[:2]
    periods = np.zeros(count, dtype=np.int64)
    drifting = np.zeros(count, dtype=np.bool_)
    if length < 2 or count == 0:
        return periods, drifting
    origin = np.zeros(len(space))
    # Values reduced once: rounding of a far-off value would otherwise look like motion.
    wrapped = space.wrap(values)
    steps = space.distances(np.diff(wrapped, axis=0), origin).max(axis=0)
    spacing = np.spacing(np.abs(values).max(axis=0)) / space.tolerance
    rest = np.maximum(ROUNDING_MOVE * space.width / space.tolerance, 4 * spacing).max(axis=-1)
    periods[steps <= rest] = 1
    threshold = np.maximum(REPEAT_TOLERANCE * steps, rest)
    longest = min(MAX_PERIOD, length // 3)
    # The last values decide for most runs; only candidates are compared over the whole tail.
    ends = wrapped[-1] - wrapped[-1 - longest : -2][::-1]
    repeats = space.distances(ends, origin) <= threshold
    for period in 2 + np.flatnonzero(repeats.any(axis=1)):
        candidates = np.flatnonzero((periods == 0) & repeats[period - 2])
        some = wrapped[:, candidates]
        errors = space.distances(some[period:] - some[:-period], origin).max(axis=0)
        periods[candidates[errors <= threshold[candidates]]] = period
    found = np.flatnonzero(periods)
    moved = values[-1, found] - values[-1 - periods[found], found]
    for index, parameter in enumerate(space.parameters):
        if parameter.period is not None:
            drifting[found] |= np.round(moved[:, index] / parameter.period) != 0
    return periods, drifting


def find_period(parameter: Parameter, values: FloatArray) -> int:
    """Returns the shortest period of one series (n,), at least 2, or 0 where there is none."""
    periods, _ = _find_periods(Space((parameter,)), values[:, None, None])
    return int(periods[0]) if periods[0] >= 2 else 0


def descends(
    moves: FloatArray, losses: FloatArray, among: BoolArray, arrivals: IntArray
) -> BoolArray:
    """Whether the loss still goes down step by step, or the oscillation decays.

    Asked of the runs `among` (n,) by the lengths of their moves (tail - 1, n) and losses (tail, n);
    of one that arrives, at the index `arrivals` (n,), by its steps up to there: what comes after, a
    bounce across a kink, say, is no longer a descent.
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

    The step is the index of the values (d,) before it, at `start`. `lr_times_curvature` is the
    largest eigenvalue there of lr^(1/2) H lr^(1/2), with H the Hessian in coordinates; lr L'' of
    one parameter. Above 2 a quadratic diverges. Without known basins `left_basin` is None.
    """

    step: int
    start: FloatArray
    end: FloatArray
    loss_before: float
    loss_after: float
    lr_times_curvature: float | None
    left_basin: bool | None = None
    landed_near: float | None = None

    def to_dict(self, space: Space | None = None) -> dict[str, Any]:
        """Returns the fields as JSON names them; without a space, of one parameter."""
        named = (lambda v: finite_or_none(float(v[0]))) if space is None else space.named
        fields = {
            "step": self.step,
            "from": named(self.start),
            "to": named(self.end),
            "loss_before": finite_or_none(self.loss_before),
            "loss_after": finite_or_none(self.loss_after),
            "lr_times_curvature": finite_or_none(self.lr_times_curvature),
        }
        if self.left_basin is not None:
            fields |= {"left_basin": self.left_basin, "landed_near": self.landed_near}
        return fields


def jump_steps(losses: FloatArray, height: float) -> IntArray:
    """Returns the indices t at which loss[t + 1] - loss[t] is a jump of a landscape's height."""
    with np.errstate(invalid="ignore"):
        return np.flatnonzero((np.diff(losses) > JUMP_RISE * height) & (height > 0))


def left_basin(
    landscape: Landscape, point: CriticalPoint | None, start: float, values: FloatArray
) -> bool:
    """Whether any of the values lies outside the copy of the point's basin that holds `start`."""
    if point is None:
        return False
    basin = landscape.reach_around(point, start)
    return basin is None or not bool(((values >= basin[0]) & (values <= basin[1])).all())


def count_symptoms(losses: FloatArray, largest: float) -> int:
    """Returns how often the loss went from below 30% to above 60% of the largest in one step."""
    low = losses[:-1] < SYMPTOM_LOW * largest
    high = losses[1:] > SYMPTOM_HIGH * largest
    return int((low & high).sum())


def lyapunov_exponent(
    lrs: FloatArray, curvatures: FloatArray, momentum: float = 0.0
) -> float | None:
    """Returns the Lyapunov exponent of (heavy-ball) gradient descent along an orbit, per step.

    Plain descent: the mean of ln|1 - lr L''| (Kong & Tao 2020, arXiv 2002.06189), of rates and
    curvatures (m,). With momentum beta the tangent map of (w, v) is v <- beta v + L'' w, w <- w -
    lr v; its growth rate is measured on a tangent vector that is renormalised at every step. None
    where the orbit or its curvature is not finite, or empty.
    """
    if len(curvatures) == 0:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        products = lrs * curvatures
    if not np.isfinite(products).all():
        return None
    if momentum == 0:
        # A factor of exactly zero (superstable) would be minus infinity: bounded by rounding.
        return float(np.log(np.maximum(np.abs(1 - products), np.finfo(np.float64).tiny)).mean())
    w, v, total = 1.0, 0.0, 0.0
    for lr, curvature in zip(lrs.tolist(), curvatures.tolist(), strict=True):
        v = momentum * v + curvature * w
        w = w - lr * v
        # Never zero: the map's determinant is beta.
        length = math.hypot(w, v)
        total += math.log(length)
        w, v = w / length, v / length
    return total / len(curvatures)


def trusted_steps(
    lyapunov: float | None, parameter: Parameter, values: FloatArray, eps: float
) -> int | None:
    """Returns for how many steps the path (n,) of a chaotic run means anything; None: for all.

    Two paths that differ by d drift apart as d exp(lambda t), lambda the Lyapunov exponent. Every
    evaluation is rounded, so no two machines, thread counts or orders of summation follow the same
    path: from one rounding, eps (relative), to the tolerance within which two values count as the
    same, it takes t = ln(tolerance / eps) / lambda steps. Before, the path is a property of the
    problem; after, of the rounding. Outcome, range of the losses, about how often they jump stay
    true. Where a run has left the range for good, everything grows alike, rounding too: that is
    divergence, not chaos.
    """
    if lyapunov is None or not lyapunov > 0:
        return None
    # A value is rounded relative to itself; near zero, relative to the range it moves in.
    size = max(abs(float(values[0])), parameter.width)
    steps = max(0, math.floor(math.log(parameter.tolerance / (eps * size)) / lyapunov))
    stays = np.isfinite(values)
    if parameter.period is None:
        stays &= ~_is_far_out(parameter, values)
    return steps if steps < np.flatnonzero(stays).max(initial=0) else None
