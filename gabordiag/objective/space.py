"""The learned parameters together: values, coordinates, distances.

What an optimizer moves are *coordinates*: a parameter's value, or its logarithm, which keeps it
positive. Distances are measured in the parameters' tolerances (1 degree, or 1% of a range), so that
degrees and pixels can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from gabordiag.errors import UsageError
from gabordiag.objective.objective import FloatArray, Parameter
from gabordiag.results import finite_or_none


@dataclass(frozen=True)
class Space:
    """One parameter or several, in order.

    Attributes:
        parameters: d of them.

    Raises:
        UsageError: A name twice, or none at all.
    """

    parameters: tuple[Parameter, ...]

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
    def width(self) -> FloatArray:
        """Of the ranges (d,)."""
        return np.array([parameter.high - parameter.low for parameter in self.parameters])

    @property
    def start(self) -> FloatArray:
        """Values (d,) where an optimizer starts."""
        return np.array([parameter.start for parameter in self.parameters])

    @property
    def target(self) -> FloatArray | None:
        """Values (d,) that made the target; None unless each parameter has one."""
        targets = [parameter.target for parameter in self.parameters]
        return None if None in targets else np.array(targets, dtype=np.float64)

    @cached_property
    def _is_log(self) -> npt.NDArray[np.bool_] | None:
        """Which are moved as logarithms (d,); None where none is."""
        flags = np.array([parameter.is_log for parameter in self.parameters])
        return flags if flags.any() else None

    def values(self, coordinates: npt.ArrayLike) -> FloatArray:
        """Returns the parameters' values (..., d) at coordinates (..., d)."""
        array = np.asarray(coordinates, dtype=np.float64)
        if self._is_log is None:
            return array
        with np.errstate(over="ignore"):
            return np.where(self._is_log, np.exp(np.where(self._is_log, array, 0.0)), array)

    def coordinates(self, values: npt.ArrayLike) -> FloatArray:
        """Returns the coordinates (..., d) of values (..., d)."""
        array = np.asarray(values, dtype=np.float64)
        if self._is_log is None:
            return array
        return np.where(self._is_log, np.log(np.where(self._is_log, array, 1.0)), array)

    def wrap(self, values: npt.ArrayLike) -> FloatArray:
        """Returns values (..., d), the periodic ones moved by whole periods into [-P/2, P/2)."""
        columns = np.moveaxis(np.asarray(values, dtype=np.float64), -1, 0)
        wrapped = [p.wrap(column) for p, column in zip(self.parameters, columns, strict=True)]
        return np.stack(wrapped, axis=-1)

    def offsets(self, values: npt.ArrayLike, point: npt.ArrayLike) -> FloatArray:
        """Returns values - point (..., d), to the nearest copy of every periodic parameter."""
        array, where = np.asarray(values, dtype=np.float64), np.asarray(point, dtype=np.float64)
        # Runs may end at infinity.
        with np.errstate(invalid="ignore", over="ignore"):
            columns = [
                parameter.offset(array[..., index], float(where[index]))
                for index, parameter in enumerate(self.parameters)
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
        shown = [
            parameter.show(float(value))
            for parameter, value in zip(self.parameters, np.atleast_1d(values), strict=True)
        ]
        if len(shown) == 1:
            return shown[0]
        return ", ".join(f"{name} {text}" for name, text in zip(self.names, shown, strict=True))

    def named(self, values: npt.ArrayLike) -> Any:
        """Returns values (d,) as JSON takes them: one as a number, several by name.

        None stands for what is not finite.
        """
        numbers = [finite_or_none(float(value)) for value in np.atleast_1d(values)]
        return numbers[0] if len(self) == 1 else dict(zip(self.names, numbers, strict=True))

    def point(self, given: float | Mapping[str, float] | npt.ArrayLike | None) -> FloatArray:
        """Returns first values (d,): those given, by name or in order, the start's for the others.

        A single number is that of the first parameter.

        Raises:
            UsageError: A name that is not learned, too many numbers, or a value that cannot be.
        """
        values = self.start
        if isinstance(given, Mapping):
            stray = sorted(set(given) - set(self.names))
            if stray:
                raise UsageError(
                    f"a start for {stray[0]}, which is not learned.",
                    f"Learned are {', '.join(self.names)}.",
                )
            values = np.array([given.get(p.name, p.start) for p in self.parameters], dtype=float)
        elif given is not None:
            numbers = np.atleast_1d(np.asarray(given, dtype=np.float64))
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
        """Returns the learning rate (d,) of every parameter: one for all, or by name.

        Raises:
            UsageError: A rate for what is not learned, or one that is not positive.
        """
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
