"""What is known of a landscape along one parameter: its critical points, jumps, certificate.

NumPy alone is needed to hold, save and ask them; `critical.py` finds them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from gabordiag.objective.space import Parameter
from gabordiag.results import finite_or_none

# Minima whose losses differ by less than this part of the landscape's height are equally low.
SAME_LOSS = 1e-9
# Beside a minimum, those that are higher by up to this part of it are nearly as low.
AS_LOW = 0.05
# Plain gradient descent is stable at a minimum for lr x curvature below this.
PLAIN_LIMIT = 2.0


def stable_lr(curvature: float) -> float | None:
    """Returns the largest stable rate of plain gradient descent, 2 / L''; None unless L'' > 0."""
    return PLAIN_LIMIT / curvature if curvature > 0 else None


@dataclass(frozen=True)
class Certificate:
    """What is known about the completeness of the list of critical points, and why.

    Attributes:
        basis: `proven`: the series has a bound from algebra, and every cell is proven empty or
            proven to hold exactly one root. `resolved`: the loss is known by its values; no dip
            wider than `resolution` was missed, as far as they show. `none`: neither.
        resolution: In the parameter's unit; None unless `resolved`.
        is_isolated: Each root of the series' derivative lies in a cell of its own, whatever the
            series stands for; `cells` says how many it took.
        error_bound: On the series' error that it includes, in units of the derivative.
    """

    basis: str
    reason: str
    resolution: float | None = None
    is_isolated: bool = False
    cells: int = 0
    error_bound: float | None = 0.0

    @property
    def certified(self) -> bool:
        """Whether the list is proven complete."""
        return self.basis == "proven"

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        return {**asdict(self), "error_bound": finite_or_none(self.error_bound)}


@dataclass(frozen=True)
class Discontinuity:
    """A place where the loss jumps, between two values as near as they were distinguished."""

    below: float
    above: float
    loss_below: float
    loss_above: float

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        sides = {"loss_below": self.loss_below, "loss_above": self.loss_above}
        return {"between": [self.below, self.above], **sides}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Discontinuity:
        """Returns the discontinuity of a result's JSON: the inverse of `to_dict`."""
        below, above = saved["between"]
        return cls(below, above, saved["loss_below"], saved["loss_above"])


@dataclass(frozen=True)
class CriticalPoint:
    """A place where the gradient vanishes, or, for a kink, where a root-type loss is zero.

    Attributes:
        value: Of the parameter; in [-P/2, P/2) for a periodic one.
        curvature: Second derivative of the loss in use; None at a kink, and at a minimum that no
            parabola fits (a quartic, a cusp).
        kind: `minimum`, `maximum`, `inflection` or `kink`.
        is_target: It is the minimum that belongs to the target value.
        basin: For minima and kinks, the neighbouring maxima or inflections (or ends of the range).
        stable_lr: 2 / curvature, the bound of plain gradient descent; None except at minima.
        slope: At a kink, |dloss/dvalue| on either side.
    """

    value: float
    loss: float
    curvature: float | None
    kind: str
    is_target: bool = False
    basin: tuple[float, float] | None = None
    stable_lr: float | None = None
    slope: float | None = None

    @property
    def is_attractor(self) -> bool:
        """Whether gradient flow ends here."""
        return self.kind in ("minimum", "kink")

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON takes them."""
        return {**asdict(self), "basin": self.basin and list(self.basin)}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> CriticalPoint:
        """Returns the point of a result's JSON: the inverse of `to_dict`."""
        return cls(**{**saved, "basin": saved["basin"] and tuple(saved["basin"])})


@dataclass(frozen=True, eq=False)
class Landscape:
    """The critical points of an objective along its parameter, and where its loss jumps, by value.

    The largest and smallest loss and the largest |dloss/dvalue| are those on the range; `images`
    are, of many, which they are and what was skipped, as JSON shows it.
    """

    parameter: Parameter
    points: tuple[CriticalPoint, ...]
    certificate: Certificate
    largest_loss: float
    largest_gradient: float
    smallest_loss: float
    discontinuities: tuple[Discontinuity, ...] = ()
    images: dict[str, Any] | None = None

    @property
    def attractors(self) -> tuple[CriticalPoint, ...]:
        """Minima and kinks."""
        return tuple(point for point in self.points if point.is_attractor)

    @property
    def target(self) -> CriticalPoint | None:
        """The target's minimum, or None where there is none."""
        return next((point for point in self.points if point.is_target), None)

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        return {
            **self.parameter.to_dict(),
            "critical_points": [point.to_dict() for point in self.points],
            "certified": self.certificate.certified,
            "certificate": self.certificate.to_dict(),
            "discontinuities": [jump.to_dict() for jump in self.discontinuities],
            "largest_loss": self.largest_loss,
            "smallest_loss": self.smallest_loss,
            "largest_gradient": self.largest_gradient,
            **({} if self.images is None else {"images": self.images}),
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Landscape:
        """Returns the landscape of a result's JSON, which may hold more: `to_dict`'s inverse."""
        sizes = ("largest_loss", "largest_gradient", "smallest_loss")
        return cls(
            Parameter.from_dict(saved),
            tuple(map(CriticalPoint.from_dict, saved["critical_points"])),
            Certificate(**saved["certificate"]),
            **{name: saved[name] for name in sizes},
            discontinuities=tuple(map(Discontinuity.from_dict, saved["discontinuities"])),
            images=saved.get("images"),
        )

    def from_start(self, start: float) -> Landscape:
        """Returns the landscape as a run from there sees it: it may choose between equal minima."""
        if self.parameter.target is not None:
            return self
        return replace(self, parameter=replace(self.parameter, start=start))

    @property
    def goal(self) -> CriticalPoint | None:
        """The critical point where a run should end; None where the target is none."""
        if self.parameter.target is not None:
            return self.target
        value = self.goal_value
        return next((point for point in self.attractors if point.value == value), None)

    @property
    def goal_value(self) -> float | None:
        """Where a run should end: the target, or without one the lowest minimum.

        Of several that are equally low, the one into whose basin the start falls, or the nearest.
        Where the loss is lower still right beside a jump, that side of the jump.
        """
        parameter = self.parameter
        if parameter.target is not None or not self.attractors:
            return parameter.target
        own = self.attractor_of(parameter.start)
        lowest = min(point.loss for point in self.attractors)
        slack = SAME_LOSS * (self.largest_loss - self.smallest_loss)
        if self.lowest_jump is not None and self.lowest_jump[1] < lowest - slack:
            return self.lowest_jump[0]
        equals = [point for point in self.attractors if point.loss <= lowest + slack]
        if own in equals:
            return own.value
        apart = [abs(float(parameter.offset(p.value, parameter.start))) for p in equals]
        return equals[apart.index(min(apart))].value

    @property
    def lowest_jump(self) -> tuple[float, float] | None:
        """The value and the loss on the lowest side of any discontinuity; None without any."""
        jumps = self.discontinuities
        sides = [((j.above, j.loss_above), (j.below, j.loss_below)) for j in jumps]
        return min(itertools.chain(*sides), key=lambda side: side[1], default=None)

    def attractor_of(self, value: float) -> CriticalPoint | None:
        """Returns the minimum or kink into whose basin the value falls; of NaN, None."""
        found = self.basin_of(value)
        return None if found is None else found[0]

    def basin_of(self, value: float) -> tuple[CriticalPoint, tuple[float, float]] | None:
        """Returns the same with the copy of its basin that holds the value."""
        for point in self.attractors if math.isfinite(value) else ():
            if (basin := self.basin_around(point, value)) is not None:
                return point, basin
        return None

    def basin_around(self, point: CriticalPoint, value: float) -> tuple[float, float] | None:
        """Returns the copy of the point's basin that holds the value, or None if none does."""
        if point.basin is None:
            return None
        lo, hi = point.basin
        period = self.parameter.period
        shift = 0.0 if period is None else period * math.floor((value - lo) / period)
        return (lo + shift, hi + shift) if lo + shift <= value <= hi + shift else None

    def reach_around(self, point: CriticalPoint, value: float) -> tuple[float, float] | None:
        """Returns the same, open beyond a minimum at an end of the range: no basin follows."""
        parameter = self.parameter
        if point.basin is None or parameter.period is not None:
            return self.basin_around(point, value)
        low, high = point.basin
        if point.value - parameter.low <= parameter.tolerance:
            low = -math.inf
        if parameter.high - point.value <= parameter.tolerance:
            high = math.inf
        return (low, high) if low <= value <= high else None
