"""A parameter as an axis: degrees, a window, copies of what is periodic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gabordiag.objective.space import (
    FloatArray,
    Parameter,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# No 30 between 15 and 45: start and target of the question stand at ±45.
_DEGREE_STEPS = (1, 2, 5, 10, 15, 45, 90, 180, 360)


@dataclass(frozen=True)
class ParameterAxis:
    """A parameter over a window, whose ends are in the parameter's unit."""

    parameter: Parameter
    low: float
    high: float

    @classmethod
    def of(cls, parameter: Parameter, window: tuple[float, float] | None = None) -> ParameterAxis:
        """Returns the axis of a parameter over its own range or another window."""
        low, high = (parameter.low, parameter.high) if window is None else window
        return cls(parameter, low, high)

    @classmethod
    def over(
        cls, name: str, low: float, high: float, period: float | None, unit: str
    ) -> ParameterAxis:
        """Returns the axis of a parameter of which no more is known than its window and unit."""
        is_angle = unit == "rad"
        known = Parameter(name, low, high, period, None, low, is_angle, "" if is_angle else unit)
        return cls(known, low, high)

    @property
    def name(self) -> str:
        """Of the parameter."""
        return self.parameter.name

    @property
    def period(self) -> float | None:
        """In the parameter's unit, or None."""
        return self.parameter.period

    @property
    def scale(self) -> float:
        """Factor from the parameter's unit to the displayed one."""
        return self.parameter.scale

    @property
    def limits(self) -> tuple[float, float]:
        """The window in the displayed unit."""
        return self.low * self.scale, self.high * self.scale

    def show(self, value: float) -> str:
        """Returns a value as figures print it: −46.3°, 10 px."""
        digits = 1 if self.parameter.is_angle else 2
        return self.parameter.show(value, digits).replace(".0°", "°").replace("-", "−")

    def wrap(self, values: npt.ArrayLike) -> FloatArray:
        """Returns the values in the displayed unit, moved by whole periods around the window."""
        array = np.asarray(values, dtype=np.float64)
        if self.period is not None:
            first = (self.low + self.high - self.period) / 2
            # Rounding must not throw a value on the window's edge to the other side.
            turns = np.floor((array - first) / self.period + 1e-12)
            array = array - self.period * turns
        return array * self.scale

    def folded(self, values: FloatArray, far: float) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
        """Returns wrapped values (n,), and which steps (n - 1,) cross the end of the period.

        What is so many windows from the middle is NaN: a run that blows up is no line.
        """
        low, high = self.limits
        with np.errstate(invalid="ignore", over="ignore"):
            shown = self.wrap(values)
            turned = np.abs(np.diff(shown) - np.diff(values) * self.scale) > 1e-6 * (high - low)
            shown[np.abs(shown - (low + high) / 2) > far * (high - low)] = np.nan
        return shown, turned

    def copies(self, value: float | None) -> list[float]:
        """Returns the value's copies inside the window, in the displayed unit; none of None."""
        return [] if value is None else [middle for middle, _ in self.spans(value, value)]

    def spans(self, low: float, high: float) -> list[tuple[float, float]]:
        """Returns the visible pieces of an interval and of its copies, in the displayed unit."""
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

    def set_up(self, ax: Axes, *, vertical: bool = False) -> None:
        """Gives an axis the window, the label and ticks at round numbers."""
        axis = ax.yaxis if vertical else ax.xaxis
        low, high = self.limits
        (ax.set_ylim if vertical else ax.set_xlim)(low, high)
        if self.parameter.is_angle:
            # What is said of an axis goes without matplotlib.
            from matplotlib.ticker import MultipleLocator

            step = next((s for s in _DEGREE_STEPS if (high - low) / s <= 9), 360)
            axis.set_major_locator(MultipleLocator(step))
            if step in (45, 90):
                axis.set_minor_locator(MultipleLocator(step // 3))
            axis.set_major_formatter(lambda x, _: f"{x:g}".replace("-", "−"))
        axis.set_label_text(self.parameter.label)


def loss_label(name: str) -> str:
    """Returns the loss's name for an axis: loss (RMSE)."""
    name = name.upper() if name in ("rmse", "mse") else name
    return "loss" if name == "loss" else f"loss ({name})"
