"""The learned parameters together: values, coordinates, distances.

What an optimizer moves are *coordinates*: a parameter's value, or its logarithm, which keeps it
positive. Distances are measured in the parameters' tolerances (1 degree, or 1% of a range), so that
degrees and pixels can be compared.

A series takes a parameter as an angle phi, one turn for a period, half a turn for an interval:

    period:    value = low + period phi / (2 pi)
    interval:  value = middle - half cos(phi)

Evenly spaced angles are equispaced values over a period and Chebyshev points over an interval, and
a Fourier series in phi is a Chebyshev series in cos(phi) = (middle - value) / half.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from gabordiag.choices import plain
from gabordiag.errors import UsageError
from gabordiag.results import finite_or_none
from gabordiag.wording import significant_figures

FloatArray = npt.NDArray[np.float64]

# How close counts as being there: a turn that the eye hardly sees, or as small a part of a range.
ANGLE_TOLERANCE = math.radians(1.0)
RANGE_TOLERANCE = 0.01
# More repetitions of the same than this are a mistake.
_MOST_PERIODS = 100
# What is this part of the range is shown as zero: rounding.
_ROUNDED = 1e-12


@dataclass(frozen=True)
class Parameter:
    """The learned parameter, over the range that is looked at.

    Attributes:
        high: The range's upper end; low + period for a periodic parameter.
        target: The value that made the target, or None where there is none.
        is_angle: Radians inside, degrees for people.
        unit: For people, of parameters that are not angles ("px", "").
        is_positive: The loss is undefined at 0 and below.
        is_log: What an optimizer moves is the value's logarithm, which keeps it positive.
        closeness: How close counts as being there, where that is less than 1% of the range.
    """

    name: str
    low: float
    high: float
    period: float | None
    target: float | None
    start: float
    is_angle: bool = False
    unit: str = ""
    is_positive: bool = False
    is_log: bool = False
    closeness: float = math.inf

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Parameter:
        """Returns the parameter of a result's JSON: `to_dict` undone, but for positivity."""
        low, high = saved.get("parameter_range", saved["range"])
        period, target, start = (saved[name] for name in ("period", "target", "start"))
        is_angle = saved["unit"] == "rad"
        unit = "" if is_angle else saved["unit"]
        known = cls(saved["parameter"], low, high, period, target, start, is_angle, unit)
        tolerance = saved.get("tolerance", math.inf)
        return replace(known, closeness=tolerance) if tolerance < known.tolerance else known

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        return {
            "parameter": self.name,
            "unit": "rad" if self.is_angle else self.unit,
            "range": [self.low, self.high],
            "period": self.period,
            "target": self.target,
            "start": self.start,
            "tolerance": self.tolerance,
        }

    @property
    def tolerance(self) -> float:
        """How close counts as being there: 1 degree, or at most 1% of the range."""
        if self.is_angle:
            return ANGLE_TOLERANCE
        return min(self.closeness, RANGE_TOLERANCE * (self.high - self.low))

    @property
    def width(self) -> float:
        """Of the range."""
        return self.high - self.low

    def wrap(self, values: npt.ArrayLike) -> FloatArray:
        """Returns the values moved by whole periods into [-P/2, P/2), if there is a period."""
        array = np.asarray(values, dtype=np.float64)
        if self.period is None:
            return array
        half = self.period / 2
        # Whole periods are subtracted: values already inside come back unchanged to the bit.
        wrapped = array - self.period * np.floor((array + half) / self.period)
        return np.where(wrapped >= half, -half, np.maximum(wrapped, -half))

    def offset(self, values: npt.ArrayLike, point: float | FloatArray) -> FloatArray:
        """Returns value - point, to the nearest copy of `point` where there is a period."""
        difference = np.asarray(values, dtype=np.float64) - point
        if self.period is None:
            return difference
        return difference - self.period * np.round(difference / self.period)

    def room(self, values: npt.ArrayLike) -> FloatArray:
        """Returns how far values are inside the range, negative outside; a period has no end."""
        array = np.asarray(values, dtype=np.float64)
        if self.period is not None:
            return np.full(array.shape, math.inf)
        return np.minimum(array - self.low, self.high - array)

    def grid(
        self, low: float | None = None, high: float | None = None, points: int = 2
    ) -> FloatArray:
        """Returns equispaced values, both ends included; the parameter's own range without ends."""
        low = self.low if low is None else low
        high = self.high if high is None else high
        if not isinstance(points, (int, np.integer)):
            raise UsageError(f"{points} points are not a whole number.", "Give one, such as 721.")
        if points < 2 or not low < high:
            raise UsageError(
                f"a sweep of {self.name} from {low:g} to {high:g} over {points} points is empty.",
                "Give LO < HI and at least 2 points.",
            )
        if self.period is not None and high - low > _MOST_PERIODS * self.period:
            raise UsageError(
                f"a sweep of {self.name} over more than {_MOST_PERIODS} periods says nothing more.",
                f"One period is {self.show(self.period)}.",
            )
        if self.is_positive and low <= 0:
            raise UsageError(
                f"a sweep of {self.name} cannot begin at {low:g}.", f"{self.name} must be above 0."
            )
        return np.linspace(low, high, points)

    @property
    def middle(self) -> float:
        """Of the range."""
        return (self.low + self.high) / 2

    @property
    def span(self) -> float:
        """The largest phi: 2 pi for a period, pi for an interval."""
        return math.pi if self.period is None else 2 * math.pi

    def angle(self, values: FloatArray) -> FloatArray:
        """Returns phi (n,) of values (n,), which must lie in the range of an interval."""
        if self.period is not None:
            return 2 * math.pi * (values - self.low) / self.period
        cosines = (self.middle - values) / (self.width / 2)
        return np.asarray(np.arccos(np.clip(cosines, -1.0, 1.0)))

    def value(self, phi: FloatArray) -> FloatArray:
        """Returns the values (n,) at phi (n,)."""
        if self.period is not None:
            return self.low + self.period * phi / (2 * math.pi)
        return self.middle - self.width / 2 * np.cos(phi)

    def value_slope(self, phi: FloatArray) -> FloatArray:
        """Returns dvalue/dphi (n,) at phi (n,)."""
        if self.period is not None:
            return np.full_like(phi, self.period / (2 * math.pi))
        return self.width / 2 * np.sin(phi)

    def nodes(self, count: int) -> FloatArray:
        """Returns evenly spaced angles: `count` over a period, `count` + 1 over an interval.

        Of an interval both ends are among them. Those of twice the count include them, to the bit.
        """
        return self.span * (np.arange(count + (self.period is None)) / count)

    def show(self, value: float | None, digits: int = 2) -> str:
        """Returns the value for people: degrees for angles, with its unit; of None, a dash."""
        if value is None:
            return "–"
        if self.is_angle:
            text = f"{math.degrees(value):.{digits}f}"
            # Zero has no sign.
            return f"{text.removeprefix('-') if float(text) == 0 else text}°"
        if not self.is_log and abs(value) < _ROUNDED * self.width < math.inf:
            value = 0.0
        return f"{value:.{self.figures(value, digits)}g}{' ' + self.unit if self.unit else ''}"

    def figures(self, value: float, digits: int = 2) -> int:
        """Returns how many significant figures of a value identify it, as `significant_figures`."""
        return significant_figures(value, self.low, self.high, self.tolerance, digits)

    @property
    def scale(self) -> float:
        """Factor from the parameter to what people read."""
        return 180 / math.pi if self.is_angle else 1.0

    @property
    def goal_name(self) -> str:
        """What the goal of a descent is called: the target only where one was given."""
        return "lowest minimum" if self.target is None else "target"

    @property
    def label(self) -> str:
        """Axis label for people."""
        unit = "degrees" if self.is_angle else self.unit
        return f"{self.name} [{unit}]" if unit else self.name


@dataclass(frozen=True)
class Space:
    """One parameter or several, in order."""

    parameters: tuple[Parameter, ...]
    # The targets are the lowest minimum that was found: none was given.
    is_target_found: bool = False

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names) or not self.names:
            raise UsageError(
                f"the parameters {', '.join(self.names) or 'none'} are not distinct.",
                "Name each once.",
            )

    def __len__(self) -> int:
        return len(self.parameters)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the parameters (d)."""
        return tuple(parameter.name for parameter in self.parameters)

    @cached_property
    def tolerance(self) -> FloatArray:
        """How close (d,) counts as being there."""
        return np.array([parameter.tolerance for parameter in self.parameters])

    @cached_property
    def low(self) -> FloatArray:
        """Lower ends (d,) of the ranges."""
        return np.array([parameter.low for parameter in self.parameters])

    @cached_property
    def high(self) -> FloatArray:
        """Upper ends (d,) of the ranges."""
        return np.array([parameter.high for parameter in self.parameters])

    @cached_property
    def width(self) -> FloatArray:
        """Of the ranges (d,)."""
        return self.high - self.low

    @property
    def start(self) -> FloatArray:
        """Values (d,) where an optimizer starts."""
        return np.array([parameter.start for parameter in self.parameters])

    @property
    def target(self) -> FloatArray | None:
        """Values (d,) that made the target; None unless each parameter has one."""
        targets = [parameter.target for parameter in self.parameters]
        return None if None in targets else np.array(targets, dtype=np.float64)

    @property
    def goal_name(self) -> str:
        """What the goal of a descent is called: the target only where one was given."""
        return "lowest minimum" if self.is_target_found or self.target is None else "target"

    @cached_property
    def is_log(self) -> npt.NDArray[np.bool_] | None:
        """Which are moved as logarithms (d,); None where none is."""
        flags = np.array([parameter.is_log for parameter in self.parameters])
        return flags if flags.any() else None

    def values(self, coordinates: npt.ArrayLike) -> FloatArray:
        """Returns the parameters' values (..., d) at coordinates (..., d)."""
        array = np.asarray(coordinates, dtype=np.float64)
        if self.is_log is None:
            return array
        with np.errstate(over="ignore"):
            return np.where(self.is_log, np.exp(np.where(self.is_log, array, 0.0)), array)

    def coordinates(self, values: npt.ArrayLike) -> FloatArray:
        """Returns the coordinates (..., d) of values (..., d)."""
        array = np.asarray(values, dtype=np.float64)
        if self.is_log is None:
            return array
        return np.where(self.is_log, np.log(np.where(self.is_log, array, 1.0)), array)

    def wrap(self, values: npt.ArrayLike) -> FloatArray:
        """Returns values (..., d), the periodic ones moved by whole periods into [-P/2, P/2)."""
        columns = np.moveaxis(np.asarray(values, dtype=np.float64), -1, 0)
        wrapped = [p.wrap(column) for p, column in zip(self.parameters, columns, strict=True)]
        return np.stack(wrapped, axis=-1)

    def offsets(self, values: npt.ArrayLike, point: npt.ArrayLike) -> FloatArray:
        """Returns values - point (..., d), to the nearest copy of every periodic parameter.

        Points may be several, of a shape that broadcasts to that of the values.
        """
        array, where = np.asarray(values, dtype=np.float64), np.asarray(point, dtype=np.float64)
        # Runs may end at infinity.
        with np.errstate(invalid="ignore", over="ignore"):
            columns = [
                p.offset(array[..., i], where[..., i]) for i, p in enumerate(self.parameters)
            ]
        return np.stack(columns, axis=-1)

    def distances(self, values: npt.ArrayLike, point: npt.ArrayLike) -> FloatArray:
        """Returns the largest offset (...) of values (..., d), in units of the tolerances."""
        with np.errstate(invalid="ignore", over="ignore"):
            scaled = np.abs(self.offsets(values, point)) / self.tolerance
        largest: FloatArray = scaled.max(axis=-1)
        return largest

    def show(self, values: npt.ArrayLike) -> str:
        """Returns values (d,) for people: degrees for angles; names where there are several."""
        pairs = zip(self.parameters, np.atleast_1d(values), strict=True)
        shown = [parameter.show(float(value)) for parameter, value in pairs]
        if len(shown) == 1:
            return shown[0]
        return ", ".join(f"{name} {text}" for name, text in zip(self.names, shown, strict=True))

    def named(self, values: npt.ArrayLike) -> Any:
        """Returns values (d,) as JSON takes them, several by name; None for what is not finite."""
        numbers = [finite_or_none(float(value)) for value in np.atleast_1d(values)]
        return numbers[0] if len(self) == 1 else dict(zip(self.names, numbers, strict=True))

    def point(self, given: float | Mapping[str, float] | npt.ArrayLike | None) -> FloatArray:
        """Returns first values (d,): those given, one number for the first, else the start's."""
        values = self.start
        if isinstance(given, Mapping):
            stray = sorted(set(given) - set(self.names))
            if stray:
                raise UsageError(
                    f"a start for {stray[0]}, which is not learned.",
                    f"Learned are {', '.join(self.names)}.",
                )
            given = [plain(given.get(p.name, p.start)) for p in self.parameters]
        if given is not None:
            try:
                # A tensor may be a leaf.
                known = given.detach() if hasattr(given, "detach") else given
                numbers = np.atleast_1d(np.asarray(known, dtype=np.float64))
            except (TypeError, ValueError, RuntimeError):
                raise UsageError(f"the start {given!r} is not a number.") from None
            if numbers.ndim > 1 or len(numbers) not in (1, len(self)):
                raise UsageError(
                    f"the start has {numbers.size} numbers, and {len(self)} are learned.",
                    f"Give one for each of {', '.join(self.names)}.",
                )
            values[: len(numbers)] = numbers
        for parameter, value in zip(self.parameters, values, strict=True):
            if not np.isfinite(value):
                raise UsageError(f"the start {parameter.name} = {value} is not a finite number.")
            if (parameter.is_positive or parameter.is_log) and value <= 0:
                raise UsageError(
                    f"the start {parameter.name} = {value:g} is out of range.",
                    f"Give {parameter.name} > 0.",
                )
        return values

    def rates(self, lr: float | Mapping[str, float], default: float = 0.01) -> FloatArray:
        """Returns the learning rate (d,) of every parameter: one for all, or by name."""
        if not isinstance(lr, Mapping):
            return np.full(len(self), float(lr))
        for name, rate in lr.items():
            if name not in self.names:
                raise UsageError(
                    f"--lr {name}={rate:g} is for a parameter that is not learned.",
                    f"Learned are {', '.join(self.names)}.",
                )
            if not (np.isfinite(rate) and rate > 0):
                raise UsageError(f"learning rate {rate} of {name} is not a positive number.")
        return np.array([float(lr.get(name, default)) for name in self.names])


def one_or_named(names: Sequence[str], values: FloatArray) -> float | dict[str, float]:
    """Returns the number that all values (d,) are, or them by name."""
    numbers: list[float] = values.tolist()
    same = len(set(numbers)) == 1
    return numbers[0] if same else dict(zip(names, numbers, strict=True))
