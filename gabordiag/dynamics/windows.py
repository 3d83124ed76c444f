"""Which learning rates work from one start, measured: the window, what escapes, what holds.

Three families of runs over a scan of rates, every step kept: from the start, and from a little on
either side of the target. From the start one sees which rates arrive, and which at least get out of
its basin; from beside the target, which the target's basin holds. Where the second begin above the
last, no rate works.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gabordiag.dynamics.batch import descend_batch
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import CODES, OUTCOME_NAMES, IntArray, left_basin
from gabordiag.dynamics.tables import TabulatedObjective
from gabordiag.dynamics.theory import stability_bound
from gabordiag.errors import UsageError
from gabordiag.landscape.critical import CriticalPoint, Landscape
from gabordiag.objective.objective import ANGLE_TOLERANCE, FloatArray
from gabordiag.results import read_only

# How far beside the target the runs start that measure what its basin holds: 0.01 rad of an angle,
# 0.57 of the tolerance; as much of the tolerance of any other parameter, whatever its unit.
BESIDE_TARGET = 0.01
# Lowest and highest rate and how many: 48 a decade.
DEFAULT_SCAN = (1e-4, 10.0, 241)
# Beyond these, the ends of a logarithmic axis leave the doubles.
_LOWEST, _HIGHEST = 1e-100, 1e100
# Steps of every run of a scan: enough for a rate a hundredth of what the basin holds.
SCAN_STEPS = 1500
# Decades about 1 of natural rates that the default scan suits; decades that it needs below what a
# minimum holds; and decades by which no scan is moved further.
_SUITED, _ROOM, _MOST_DECADES = 2.0, 0.5, 90
# Optimizers whose steps are proportional to the gradient, and those whose steps are as long as the
# rate whatever the gradient.
PROPORTIONAL = ("sgd", "asgd")
_NORMALISED = ("adam", "adamw", "adamax", "nadam", "radam", "rmsprop", "rprop", "adagrad")
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Windows:
    """What a scan of learning rates shows from one start.

    Attributes:
        start: The start.
        lrs: Learning rates, ascending (l,).
        outcomes: Codes into `OUTCOME_NAMES` of the run from the start (l,).
        periods: Of the cycle that it ends in, 0 where none (l,).
        escaped: Whether it left the basin it starts in (l,).
        held: Whether the runs from beside the target stayed in its basin and reached it (l,).
        starts_in_target_basin: No escape is needed.
    """

    start: float
    lrs: FloatArray
    outcomes: npt.NDArray[np.int8]
    periods: IntArray
    escaped: BoolArray
    held: BoolArray
    starts_in_target_basin: bool

    @property
    def working_lr(self) -> list[tuple[float, float]]:
        """Intervals of scanned rates whose run from the start reaches the target."""
        return _intervals(self.lrs, self.outcomes == CODES["reached"])

    @property
    def escape_lr(self) -> float | None:
        """The smallest scanned rate at which the run leaves the basin it starts in."""
        if self.starts_in_target_basin or not self.escaped.any():
            return None
        return float(self.lrs[int(np.argmax(self.escaped))])

    @property
    def hold_lr(self) -> float | None:
        """The largest scanned rate up to which the target's basin holds the runs beside it.

        Rates too small to arrive within the steps, at the scan's lower end, do not count against.
        """
        if not self.held.any():
            return None
        first = int(np.argmax(self.held))
        broken = np.flatnonzero(~self.held[first:])
        last = first + (int(broken[0]) if len(broken) else len(self.held) - first) - 1
        return float(self.lrs[last])

    @property
    def holds_all(self) -> bool:
        """Whether the target's basin holds rates up to the scan's end: `hold_lr` is no limit."""
        return self.hold_lr is not None and bool(self.held[-1])

    @property
    def failure_below(self) -> str | None:
        """Commonest failure of the run from the start at rates too small, or None."""
        return self._commonest_failure(self.lrs < self._divide)

    @property
    def failure_above(self) -> str | None:
        """Commonest failure of the run from the start at rates too large, or None."""
        return self._commonest_failure(self.lrs >= self._divide)

    @property
    def _divide(self) -> float:
        """The rate that separates too small from too large."""
        if self.working_lr:
            low, high = max(self.working_lr, key=lambda interval: interval[1] / interval[0])
            return float(np.sqrt(low * high))
        if self.escape_lr is not None:
            return self.escape_lr
        hold = self.hold_lr
        return hold if hold is not None else float(np.sqrt(self.lrs[0] * self.lrs[-1]))

    def _commonest_failure(self, where: BoolArray) -> str | None:
        failures = self.outcomes[where & (self.outcomes != CODES["reached"])]
        return OUTCOME_NAMES[int(np.bincount(failures).argmax())] if len(failures) else None

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        return {
            "start": self.start,
            "working_lr": [list(interval) for interval in self.working_lr],
            "escape_lr": self.escape_lr,
            "hold_lr": self.hold_lr,
            "failure_below": self.failure_below,
            "failure_above": self.failure_above,
        }


def _intervals(lrs: FloatArray, works: BoolArray) -> list[tuple[float, float]]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], works.astype(np.int8), [0]])))
    return [
        (float(lrs[lo]), float(lrs[hi - 1])) for lo, hi in zip(edges[::2], edges[1::2], strict=True)
    ]


def log_spaced(low: float, high: float, count: int) -> FloatArray:
    """Returns learning rates from low to high, evenly spaced in the logarithm.

    Raises:
        UsageError: Not ascending, fewer than 2, or outside 1e-100 to 1e100.
    """
    if not (_LOWEST <= low < high <= _HIGHEST) or count < 2:
        raise UsageError(
            f"learning rates from {low:g} to {high:g} over {count} points are no scan.",
            f"Give {_LOWEST:g} <= LO < HI <= {_HIGHEST:g} and at least 2 points, such as "
            "1e-4:10:241.",
        )
    return np.geomspace(low, high, count)


def rate_scale(landscape: Landscape, settings: OptimizerSettings) -> float:
    """Returns the power of ten by which usual rates do not fit a loss and a parameter, mostly 1.

    A rate has a unit, and so a scale: the loss times 1e8 is learned with rates 1e8 times smaller,
    a parameter in thousandths with steps a thousand times shorter.
    """
    width = landscape.parameter.high - landscape.parameter.low
    height = landscape.largest_loss - landscape.smallest_loss
    natural, bound = 0.0, None
    if settings.optimizer in PROPORTIONAL and 0 < height < math.inf:
        # The mean slope, height / width, takes a step across the range.
        natural = 2 * math.log10(width) - math.log10(height)
        if (target := landscape.target) is not None:
            theory = stability_bound(target, OptimizerSettings(), landscape.parameter.tolerance)
            bound = None if theory is None else theory.bound
    elif settings.optimizer in _NORMALISED:
        natural = math.log10(width)
    decades = 0 if abs(natural) <= _SUITED else round(natural)
    if bound is not None:
        # What the target's minimum holds has to lie in the scan, however sharp or flat it is.
        lowest, highest = (math.log10(bound / rate) for rate in DEFAULT_SCAN[:2])
        decades = min(max(decades, math.ceil(highest)), math.floor(lowest - _ROOM))
    return float(10.0 ** max(-_MOST_DECADES, min(decades, _MOST_DECADES)))


def suitable_rates(landscape: Landscape, settings: OptimizerSettings) -> FloatArray:
    """Returns the rates to scan: the default ones, on the scale that fits."""
    low, high, count = DEFAULT_SCAN
    scale = rate_scale(landscape, settings)
    return log_spaced(low * scale, high * scale, count)


def beside_target(landscape: Landscape) -> list[float]:
    """Returns the starts that measure what the target's basin holds, one on each side.

    A target that is an end of the range has one side; one that is no minimum holds nothing.
    """
    goal, parameter = landscape.goal_value, landscape.parameter
    if goal is None or (parameter.target is not None and landscape.target is None):
        return []
    found = landscape.basin_of(goal)
    reach = None if found is None else landscape.reach_around(found[0], goal)
    if found is None or reach is None:
        return []
    sides = [
        (sign, abs(edge - goal))
        for sign, edge, end in zip((-1, 1), found[1], reach, strict=True)
        if math.isfinite(end)
    ]
    # A basin may be narrower than the tolerance.
    inside = min(width for _, width in sides) / 2
    aside = min(BESIDE_TARGET / ANGLE_TOLERANCE * parameter.tolerance, inside)
    return [goal + sign * aside for sign, _ in sides] if aside > 0 else []


def measure_windows(
    table: TabulatedObjective,
    settings: OptimizerSettings,
    lrs: FloatArray,
    start: float,
) -> Windows:
    """Runs the scan.

    Args:
        table: The tabulated objective.
        settings: Optimizer and steps, constant schedule; its own lr is not used.
        lrs: Ascending rates (l,).
        start: The start that is asked about.

    Raises:
        UsageError: The optimizer cannot run as a batch.
    """
    landscape = table.landscape
    goal = landscape.goal_value
    beside = beside_target(landscape)
    starts = np.array([start, *beside])
    runs = descend_batch(table, settings, lrs, starts, keep_history=True)
    codes, periods = runs.classify(landscape, table.tables[0])
    assert runs.history is not None
    history = runs.history.reshape(-1, len(lrs), len(starts))
    own = landscape.attractor_of(start)
    target = None if goal is None or not beside else landscape.attractor_of(goal)
    reached = (codes[:, 1:] == CODES["reached"]).all(axis=1) & bool(beside)

    def left(point: CriticalPoint | None, column: int) -> BoolArray:
        first = float(starts[column])
        paths = history[:, :, column].T
        return np.array([left_basin(landscape, point, first, path) for path in paths])

    strayed = np.zeros(len(lrs), dtype=np.bool_)
    for column in range(1, len(starts)):
        strayed |= left(target, column)
    return Windows(
        start=float(start),
        lrs=read_only(lrs.copy()),
        outcomes=read_only(codes[:, 0].astype(np.int8)),
        periods=read_only(periods[:, 0].copy()),
        escaped=read_only(left(own, 0)),
        held=read_only(reached & ~strayed),
        starts_in_target_basin=own is not None and own is target,
    )
