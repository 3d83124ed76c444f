"""The parameter as people read it: degrees, a window, copies of what is periodic.

It answers from a landscape's JSON what `Parameter` and `Landscape` answer of live objects, because
a saved run has nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.ticker import MultipleLocator

from gabordiag.wording import significant_figures

FloatArray = npt.NDArray[np.float64]

# No 30 between 15 and 45: start and target of the question stand at ±45.
_DEGREE_STEPS = (1, 2, 5, 10, 15, 45, 90, 180, 360)


@dataclass(frozen=True)
class ParameterAxis:
    """The parameter as people read it, over a window.

    Attributes:
        name: Of the parameter.
        low: Lower end of the window, in the data's unit.
        high: Upper end.
        period: In the data's unit, or None.
        unit: `rad`, `px` or empty, as in the result.
    """

    name: str
    low: float
    high: float
    period: float | None
    unit: str

    @classmethod
    def of(
        cls, landscape: Mapping[str, Any], window: tuple[float, float] | None = None
    ) -> ParameterAxis:
        """Returns the axis of a landscape's JSON, over its own range or another window."""
        low, high = landscape["range"] if window is None else window
        return cls(landscape["parameter"], low, high, landscape["period"], landscape["unit"])

    @property
    def scale(self) -> float:
        """Factor from the data to what people read."""
        return 180 / math.pi if self.unit == "rad" else 1.0

    @property
    def limits(self) -> tuple[float, float]:
        """The window as people read it."""
        return self.low * self.scale, self.high * self.scale

    @property
    def label(self) -> str:
        """Axis label with the unit."""
        unit = "degrees" if self.unit == "rad" else self.unit
        return f"{self.name} [{unit}]" if unit else self.name

    def show(self, value: float) -> str:
        """Returns a value in words: −46.3°, 10 px."""
        if self.unit == "rad":
            text = f"{value * self.scale:.1f}".removesuffix(".0")
            return f"{'0' if text == '-0' else text}°".replace("-", "−")
        # Of a window, as of a range, a hundredth is the tolerance.
        count = significant_figures(value, self.low, self.high, (self.high - self.low) / 100)
        text = f"{value:.{count}g}".replace("-", "−")
        return f"{text} {self.unit}" if self.unit else text

    def wrap(self, values: npt.ArrayLike) -> FloatArray:
        """Returns the values as people read them, moved by whole periods around the window."""
        array = np.asarray(values, dtype=np.float64)
        if self.period is not None:
            first = (self.low + self.high - self.period) / 2
            # Rounding must not throw a value on the window's edge to the other side.
            turns = np.floor((array - first) / self.period + 1e-12)
            array = array - self.period * turns
        return array * self.scale

    def copies(self, value: float) -> list[float]:
        """Returns the value's copies inside the window, as people read them."""
        return [middle for middle, _ in self.spans(value, value)]

    def spans(self, low: float, high: float) -> list[tuple[float, float]]:
        """Returns the visible pieces of an interval and of its copies, as people read them."""
        shifts = [0.0]
        if self.period is not None:
            first = math.ceil((self.low - high) / self.period - 1e-9)
            last = math.floor((self.high - low) / self.period + 1e-9)
            shifts = [self.period * k for k in range(first, last + 1)]
        pieces = []
        slack = 1e-9 * (self.high - self.low)
        for shift in shifts:
            left, right = max(low + shift, self.low), min(high + shift, self.high)
            # An interval must be seen; a point may lie on the edge.
            if right - left > slack or (low == high and right - left >= -slack):
                pieces.append((left * self.scale, right * self.scale))
        return pieces

    def contains(self, basin: Sequence[float] | None, value: float | None) -> bool:
        """Whether a value or one of its copies lies in a basin."""
        if basin is None or value is None:
            return False
        low, high = basin
        shift = (
            0.0 if self.period is None else self.period * math.floor((value - low) / self.period)
        )
        return low + shift <= value <= high + shift

    def set_up(self, ax: Axes, *, vertical: bool = False, label: bool = True) -> None:
        """Gives an axis the window, the label and ticks at round numbers."""
        axis = ax.yaxis if vertical else ax.xaxis
        low, high = self.limits
        (ax.set_ylim if vertical else ax.set_xlim)(low, high)
        if self.unit == "rad":
            step = next((s for s in _DEGREE_STEPS if (high - low) / s <= 9), 360)
            axis.set_major_locator(MultipleLocator(step))
            if step in (45, 90):
                axis.set_minor_locator(MultipleLocator(step // 3))
            axis.set_major_formatter(lambda x, _: f"{x:g}".replace("-", "−"))
        if label:
            axis.set_label_text(self.label)


def goal_point(landscape: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns where a run should end: the target's critical point, without one the lowest."""
    if landscape["target"] is not None:
        return next((p for p in landscape["critical_points"] if p["is_target"]), None)
    return min(attractors(landscape), key=lambda p: float(p["loss"]), default=None)


def goal_name(landscape: Mapping[str, Any]) -> str:
    """Returns what the goal is called."""
    return "target" if landscape["target"] is not None else "lowest minimum"


def attractors(landscape: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Returns the minima and kinks."""
    return [p for p in landscape["critical_points"] if p["basin"] is not None]


def own_attractor(
    axis: ParameterAxis, landscape: Mapping[str, Any], value: float | None
) -> Mapping[str, Any] | None:
    """Returns the minimum or kink whose basin holds the value."""
    return next((p for p in attractors(landscape) if axis.contains(p["basin"], value)), None)


def loss_label(landscape: Mapping[str, Any]) -> str:
    """Returns the loss's name for an axis: loss (RMSE)."""
    name = str(landscape.get("loss", "loss"))
    name = name.upper() if name in ("rmse", "mse") else name
    return "loss" if name == "loss" else f"loss ({name})"
