"""Which learning rates reach the target from one start, measured by a scan.

Three families of runs over the scanned rates, every step kept: from the start, and from a little
on either side of the target. Those from the start show which rates reach the target, and which at
least leave the start's basin; those beside the target, up to which rate its basin is stable. Where
leaving takes a larger rate than the target's basin allows, no rate works.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gabordiag.dynamics.batch import BatchRuns, descend_batch
from gabordiag.dynamics.optimizers import NORMALISED, PROPORTIONAL, OptimizerSettings
from gabordiag.dynamics.outcomes import (
    CODES,
    OUTCOME_NAMES,
    BoolArray,
    IntArray,
)
from gabordiag.dynamics.tables import JointTables, TabulatedObjective
from gabordiag.dynamics.theory import stability_bound
from gabordiag.errors import UsageError
from gabordiag.landscape.points import AS_LOW, Landscape
from gabordiag.objective.space import ANGLE_TOLERANCE, FloatArray
from gabordiag.results import read_only

# Offset from the target at which the runs beside it start: 0.01 rad of an angle, 0.57 of the
# tolerance; the same share of the tolerance of any other parameter.
BESIDE_TARGET = 0.01
# Lowest and highest rate and how many: 48 a decade.
DEFAULT_SCAN = (1e-4, 10.0, 241)
# Beyond these, the ends of a logarithmic axis overflow float64.
_LOWEST, _HIGHEST = 1e-100, 1e100
# Steps of every run of a scan: enough for a rate a hundredth of the largest stable one.
SCAN_STEPS = 1500
# Decades around 1 of natural rates that the default scan covers; decades that it needs below the
# stability bound; largest shift of a scan in decades.
_SUITED, _ROOM, _MOST_DECADES = 2.0, 0.5, 90


@dataclass(frozen=True, eq=False)
class Windows:
    """Result of a scan of ascending learning rates (l,) from one start.

    Outcomes of the run from the start index `OUTCOME_NAMES`, with periods of cycles, 0 for none;
    it may have escaped the start's basin. `held`: the runs from beside the target stayed in its
    basin and reached it.
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
        ends = runs_of_true(self.outcomes == CODES["reached"])
        return [(float(self.lrs[first]), float(self.lrs[last])) for first, last in ends]

    @property
    def escape_lr(self) -> float | None:
        """The smallest scanned rate that leaves the start's basin."""
        if self.starts_in_target_basin or not self.escaped.any():
            return None
        return float(self.lrs[int(np.argmax(self.escaped))])

    @property
    def hold_lr(self) -> float | None:
        """The largest stable scanned rate in the target's basin, above those that are too small."""
        ends = runs_of_true(self.held)
        return float(self.lrs[ends[0][1]]) if ends else None

    @property
    def beyond_lr(self) -> float:
        """The scanned rate after `hold_lr`, which is not stable; infinite where there is none."""
        return float(self.lrs[self.lrs > (self.hold_lr or math.inf)].min(initial=math.inf))

    @property
    def failure_below(self) -> str | None:
        """Most common failure of the run from the start at rates too small, or None."""
        return self._commonest_failure(self.lrs < self._divide)

    @property
    def failure_above(self) -> str | None:
        """Most common failure of the run from the start at rates too large, or None."""
        return self._commonest_failure(self.lrs >= self._divide)

    @property
    def _divide(self) -> float:
        """The rate that separates too small from too large."""
        if self.working_lr:
            low, high = max(self.working_lr, key=lambda interval: interval[1] / interval[0])
            return float(np.sqrt(low * high))
        if self.escape_lr is not None:
            return self.escape_lr
        return self.hold_lr or float(np.sqrt(self.lrs[0] * self.lrs[-1]))

    def _commonest_failure(self, where: BoolArray) -> str | None:
        failures = self.outcomes[where & (self.outcomes != CODES["reached"])]
        return OUTCOME_NAMES[int(np.bincount(failures).argmax())] if len(failures) else None

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        names = ("start", "working_lr", "escape_lr", "hold_lr", "failure_below", "failure_above")
        shown = {name: getattr(self, name) for name in names}
        return shown | {"working_lr": [list(interval) for interval in self.working_lr]}


def runs_of_true(works: BoolArray) -> list[tuple[int, int]]:
    """Returns first and last index of every stretch of True in (n,), in order."""
    edges = np.flatnonzero(np.diff(np.r_[0, works.astype(np.int8), 0])).tolist()
    return [(first, end - 1) for first, end in zip(edges[::2], edges[1::2], strict=True)]


def log_spaced(low: float, high: float, count: int) -> FloatArray:
    """Returns 2 or more learning rates from low to high, evenly spaced in the logarithm."""
    if not (_LOWEST <= low < high <= _HIGHEST) or count < 2:
        raise UsageError(
            f"{low:g} to {high:g} over {count} points is not a valid scan of learning rates.",
            f"Give {_LOWEST:g} <= LO < HI <= {_HIGHEST:g} and at least 2 points, such as "
            "1e-4:10:241.",
        )
    return np.geomspace(low, high, count)


def rate_scale(landscape: Landscape, settings: OptimizerSettings) -> float:
    """Returns the power of ten that scales the default scan to a loss and a parameter, mostly 1.

    A learning rate has a unit: a loss 1e8 times larger needs rates 1e8 times smaller, a parameter
    in thousandths steps a thousand times shorter.
    """
    width = landscape.parameter.width
    height = landscape.largest_loss - landscape.smallest_loss
    natural, bound = 0.0, None
    if settings.optimizer in PROPORTIONAL and 0 < height < math.inf:
        # The mean slope, height / width, takes a step across the range.
        natural = 2 * math.log10(width) - math.log10(height)
        if (goal := landscape.goal) is not None:
            tolerance = landscape.parameter.tolerance
            theory = stability_bound(goal, OptimizerSettings(), tolerance)
            # Where no parabola fits, the loss rises by so much within the tolerance.
            is_close = math.isfinite(landscape.parameter.closeness)
            rough = tolerance**2 / (AS_LOW * height) if is_close else None
            bound = rough if theory is None else theory.bound
    elif settings.optimizer in NORMALISED:
        natural = math.log10(width)
    decades = 0 if abs(natural) <= _SUITED else round(natural)
    if bound is not None:
        # The stability bound at the goal must lie in the scan, however sharp or flat it is.
        lowest, highest = (math.log10(bound / rate) for rate in DEFAULT_SCAN[:2])
        decades = min(max(decades, math.ceil(highest)), math.floor(lowest - _ROOM))
    return float(10.0 ** max(-_MOST_DECADES, min(decades, _MOST_DECADES)))


def suitable_rates(landscape: Landscape, settings: OptimizerSettings) -> FloatArray:
    """Returns the rates to scan: the default ones, scaled to the loss and the parameter."""
    low, high, count = DEFAULT_SCAN
    scale = rate_scale(landscape, settings)
    return log_spaced(low * scale, high * scale, count)


def beside_target(landscape: Landscape) -> list[float]:
    """Returns the starts on one or both sides of the target that show how stable its basin is."""
    goal, parameter = landscape.goal_value, landscape.parameter
    if goal is None or (parameter.target is not None and landscape.target is None):
        return []
    found = landscape.basin_of(goal)
    reach = found and landscape.reach_around(found[0], goal)
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
    table: TabulatedObjective, settings: OptimizerSettings, lrs: FloatArray, *starts: float
) -> tuple[Windows, ...]:
    """Runs the scan: ascending rates (l,) from every start; the settings' own rate is not used."""
    columns = np.array([*beside_target(table.landscape), *starts])
    return _judge(descend_batch(table, settings, lrs, columns), lrs, columns)


def measure_windows_of_many(
    tables: Sequence[TabulatedObjective],
    factors: Sequence[float],
    settings: OptimizerSettings,
    lrs: FloatArray,
    starts: Sequence[float],
) -> list[tuple[Windows, ...]]:
    """Runs the scan on landscapes of equal period; rates (l,) are in units of their factors."""
    columns = [np.array([*beside_target(table.landscape), *starts]) for table in tables]
    joint = JointTables(tables, [len(column) for column in columns], factors)
    runs = descend_batch(joint, settings, lrs, np.concatenate(columns))
    parts = zip(runs.of_each(), columns, strict=True)
    return [_judge(part, lrs, column) for part, column in parts]


def _judge(runs: BatchRuns, lrs: FloatArray, starts: FloatArray) -> tuple[Windows, ...]:
    """Returns what runs at rates (l,) from beside the target, and then from elsewhere, show."""
    assert isinstance(runs.table, TabulatedObjective)
    landscape = runs.table.landscape
    goal, beside = landscape.goal_value, beside_target(landscape)
    codes, periods = runs.classify()
    lowest, highest = runs.extent.reshape(2, *runs.shape)
    target = None if goal is None or not beside else landscape.attractor_of(goal)
    owns = [landscape.attractor_of(float(first)) for first in starts]
    # Whether a run left the basin that it started in (l, starts).
    left = np.zeros(runs.shape, dtype=np.bool_)
    for column, (own, first) in enumerate(zip(owns, starts.tolist(), strict=True)):
        point = target if column < len(beside) else own
        if point is not None:
            # What is not finite has left.
            low, high = landscape.reach_around(point, first) or (math.nan, math.nan)
            left[:, column] = ~((lowest[:, column] >= low) & (highest[:, column] <= high))
    there = slice(len(beside))
    held = (codes[:, there] == CODES["reached"]).all(axis=1) & ~left[:, there].any(axis=1)
    return tuple(
        Windows(
            start=float(starts[column]),
            lrs=read_only(lrs.copy()),
            outcomes=read_only(codes[:, column].astype(np.int8)),
            periods=read_only(periods[:, column].copy()),
            escaped=read_only(left[:, column].copy()),
            held=read_only(held & bool(beside)),
            starts_in_target_basin=owns[column] is not None and owns[column] is target,
        )
        for column in range(len(beside), len(starts))
    )
