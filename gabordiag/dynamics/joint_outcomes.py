"""Outcomes of runs of several parameters: the same names, by the same tests.

Everything is measured in units of the parameters' tolerances (1 degree, or 1% of a range), so that
degrees and pixels can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gabordiag.dynamics.outcomes import (
    CODES,
    MAX_PERIOD,
    PLATEAU_MOVE,
    PLATEAU_SLOPE,
    REPEAT_TOLERANCE,
    ROUNDING_MOVE,
    BoolArray,
    IntArray,
    assign,
    descends,
)
from gabordiag.objective.joint import JointObjective
from gabordiag.objective.objective import FloatArray


@dataclass(frozen=True)
class JointTails:
    """What is judged, of n runs of d parameters.

    Attributes:
        values: Of the parameters (tail, n, d).
        losses: (tail, n).
        last_slopes: Gradient at the last value, per tolerance of each parameter (n,): its length.
        moved: Whether any gradient other than zero arrived in the whole run (n,).
        steepest: The largest such gradient seen in the runs.
    """

    values: FloatArray
    losses: FloatArray
    last_slopes: FloatArray
    moved: BoolArray
    steepest: float


def classify_joint(
    objective: JointObjective, minima: FloatArray, tails: JointTails
) -> tuple[IntArray, IntArray]:
    """Returns the outcome codes (n,) and periods (n,), 0 where no period of 2 or more was found.

    Args:
        objective: Of d parameters.
        minima: Values (m, d) of minima other than the target.
        tails: What is judged.
    """
    values, losses = tails.values, tails.losses
    count = values.shape[1]
    codes = np.full(count, -1, dtype=np.int64)
    finite = np.isfinite(values).all(axis=(0, 2)) & np.isfinite(losses).all(axis=0)
    finite &= np.isfinite(tails.last_slopes)
    with np.errstate(invalid="ignore"):
        # So far out a double cannot say where in its period an angle is.
        finite &= (np.spacing(np.abs(values)) <= objective.tolerance).all(axis=(0, 2))
    codes[~finite] = CODES["nonfinite"]

    apart = objective.target_distances(values)
    reached = apart <= 1.0
    assign(codes, finite & reached.all(axis=0), "reached")
    for point in minima:
        near = objective.distances(values, point) <= 1.0
        assign(codes, finite & near.all(axis=0), "local_minimum")
    assign(codes, finite & ~tails.moved, "frozen")

    periods, drifting = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.bool_)
    periods[finite], drifting[finite] = _find_periods(objective, values[:, finite])
    assign(codes, finite & (periods >= 1) & drifting, "running")
    assign(codes, finite & (periods >= 2), "cycle")

    scaled = np.where(finite[:, None], values, 0.0) / objective.tolerance
    slow = np.ptp(scaled, axis=0).max(axis=-1) <= PLATEAU_MOVE
    flat = tails.last_slopes <= PLATEAU_SLOPE * tails.steepest
    assign(codes, finite & slow & flat, "plateau")
    # Unlike a sum of squares, `hypot` does not overflow on the way.
    moves = np.hypot.reduce(np.diff(scaled, axis=0), axis=-1)
    assign(codes, descends(moves, losses, finite, _arrivals(reached)), "unfinished")
    assign(codes, codes < 0, "erratic")
    return codes, np.where(periods >= 2, periods, 0)


def _arrivals(reached: BoolArray) -> IntArray:
    """Returns since which index (n,) a run stays at the target; the tail's length for never."""
    length = len(reached)
    stays = np.where(reached.all(axis=0), length, np.argmax(~reached[::-1], axis=0))
    return length - stays


def _find_periods(objective: JointObjective, values: FloatArray) -> tuple[IntArray, BoolArray]:
    """Returns the shortest common period (n,), 0 for none, and whether angles drift over it."""
    length, count = values.shape[:2]
    periods = np.zeros(count, dtype=np.int64)
    origin = np.zeros(values.shape[-1])

    def apart(later: FloatArray, earlier: FloatArray) -> FloatArray:
        scaled = np.abs(objective.offsets(later - earlier, origin)) / objective.tolerance
        return np.asarray(scaled.max(axis=(0, -1)))

    widths = np.array([p.high - p.low for p in objective.parameters])
    # Far-off values carry more rounding.
    spacing = 4 * np.spacing(np.abs(values).max(axis=0)) / objective.tolerance
    rest = np.maximum((ROUNDING_MOVE * widths / objective.tolerance).max(), spacing.max(axis=-1))
    steps = apart(values[1:], values[:-1])
    periods[steps <= rest] = 1
    threshold = np.maximum(REPEAT_TOLERANCE * steps, rest)
    for period in range(2, min(MAX_PERIOD, length // 3) + 1):
        fits = (periods == 0) & (apart(values[period:], values[:-period]) <= threshold)
        periods[fits] = period
    places = np.arange(count)
    drift = values[-1] - values[-1 - np.maximum(periods, 1), places]
    widest = np.abs(drift / widths).max(axis=-1) if count else np.zeros(0)
    # A repeat up to whole periods of an angle, of which some were passed.
    drifting = np.asarray((periods >= 1) & (widest > 0.5))
    return periods, drifting
