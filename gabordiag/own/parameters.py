"""A user's parameter: its range, period and start, as given, or found by trying.

Of a function only its values are known. A period is believed when values one period apart agree to
the function's own noise, which is measured, at several places where nothing special lies.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np

from gabordiag.errors import InputError, UsageError
from gabordiag.objective.space import FloatArray, Parameter
from gabordiag.own.numeric import Function, measure_noise, noise_spacing

# Quarter, half and whole turns: what patterns of fourfold and twofold symmetry repeat after.
_RADIANS = (math.pi / 2, math.pi, 2 * math.pi)
_DEGREES = (180.0, 360.0)
_ANGLE_NAMES = ("theta", "angle", "psi", "phi", "phase", "orientation")
_PLACE_NAMES = (
    "shift", "offset", "pos", "position", "center", "centre", "mu", "mean", "loc", "location",
    "delay", "translation", "bias", "x", "y", "z",
)  # fmt: skip
# A width that was typed (3.1416) means the period next to it.
_TYPED = 1e-4
# How far two values may differ and still count as equal: in deviations of the noise; in roundings
# of the largest value; and in roundings of the argument, times the slope.
_NOISE_FACTOR, _VALUE_ROUNDINGS, _ARGUMENT_ROUNDINGS = 16, 8, 4
# A function that varies by no more than this many such differences is constant.
_CONSTANT = 4
# Only where the difference is this small beside the variation is the noise looked at.
_NEAR = 0.1
# A given period is refused when the loss differs by this part of its variation after it.
_NO_PERIOD = 0.01
# Where a function without a range is tried out, around its start: nothing special lies there.
_AROUND = (0.0713057, 0.3137091, 0.8911413, -0.5573129, 1.3719327)
# The same as fractions of a range.
_INSIDE = (0.1180339887, 0.3819660113, 0.5130009317, 0.6360098248, 0.8541019662)


@dataclass(frozen=True)
class ParameterRequest:
    """What the user asks of a parameter: None where nothing is given, a period of 0 for none."""

    range: Sequence[float] | None = None
    period: float | None = None
    start: float | None = None
    target: float | None = None

    def __post_init__(self) -> None:
        ends = () if self.range is None else self.range
        try:
            numbers = [*ends, self.period, self.start, self.target]
            are_finite = all(number is None or math.isfinite(number) for number in numbers)
            are_finite &= None not in ends
        except TypeError:
            are_finite = False
        if not are_finite or len(ends) not in (0, 2):
            raise UsageError(
                "range, period, start and target have to be finite numbers.",
                "Give the range as (LO, HI).",
            )
        if self.range is not None and not self.range[0] < self.range[1]:
            raise UsageError("the range is empty.", "Give LO < HI.")
        if self.period is not None and self.period < 0:
            problem = f"{self.period:g} is not a valid period."
            raise UsageError(problem, "Give P > 0, or 0 for none.")

    def places(self, own_value: float | None = None) -> FloatArray:
        """Returns generic values at which the function may be tried out (5,)."""
        if self.range is not None:
            low, high = self.range
            return low + (high - low) * np.array(_INSIDE)
        around = (self.start, own_value, self.target, 0.0)
        return next(value for value in around if value is not None) + np.array(_AROUND)


def choose_parameter(
    name: str, function: Function, request: ParameterRequest, own_value: float | None, eps: float
) -> Parameter:
    """Returns the parameter with its range, period and start.

    With a period, given or found, the range is one period from its lower end, or around 0 where
    none is given; without one it must be given. The own value is what a module's parameter stands
    at; eps, the relative rounding of the function's argument.
    """
    places = request.places(own_value)
    values = function(places)
    if not np.isfinite(values).any():
        raise InputError(
            f"The loss is not finite at {name} = {places[0]:.6g} and other values nearby.",
            "Give --start or --range where it is.",
        )
    period = _period(function, places, values, request, eps)
    if period is not None:
        low = -period / 2 if request.range is None else request.range[0]
        high = low + period
    elif request.range is not None:
        low, high = request.range
    else:
        raise UsageError(
            f"the loss has no period in {name} that could be found, so its range is unknown.",
            "Give --range LO:HI.",
        )
    start = next((v for v in (request.start, own_value) if v is not None), (low + high) / 2)
    if period is None:
        rounding = eps * max(abs(low), abs(high))
        for what, value in (("start", start), ("target", request.target)):
            if value is not None and not low - rounding <= value <= high + rounding:
                problem = f"the {what} {value:g} lies outside the range {low:g} to {high:g}."
                raise UsageError(problem, "Widen --range.")
        start = min(max(start, low), high)
    # Degrees called theta span more than two turns of radians.
    is_angle = is_angle_name(name) and high - low <= 4 * math.pi
    if period is not None:
        is_angle = any(math.isclose(period, turn, rel_tol=_TYPED) for turn in _RADIANS)
    unit = "deg" if period in _DEGREES else ""
    return Parameter(name, low, high, period, request.target, start, is_angle, unit)


def find_loss_period(
    function: Function,
    places: FloatArray,
    candidates: Sequence[float],
    eps: float,
    of_constant: float | None,
) -> float | None:
    """Returns the first candidate P with f(v + P) = f(v), to the noise, at all places; or None.

    What is constant there, to its noise, has no period of its own, but that of a constant.
    """
    values = function(places)
    if not np.isfinite(values).all():
        return None
    variation = float(np.ptp(values))
    if variation <= _CONSTANT * _tolerance(function, places, values, eps):
        return of_constant
    for period in sorted(candidates):
        try:
            apart = np.abs(function(places + period) - values).max()
            # Rounding grows with the argument: it is measured where the function was shifted to.
            is_near = apart <= _NEAR * variation
            if is_near and apart <= _tolerance(function, places + period, values, eps):
                return period
        except InputError:
            # It does not go on so far.
            continue
    return None


def _tolerance(function: Function, places: FloatArray, values: FloatArray, eps: float) -> float:
    largest = float(np.abs(places).max())
    noise = measure_noise(function, places[:3], noise_spacing(1.0, largest, eps))
    steepest = float(np.abs(np.diff(values) / np.diff(places)).max())
    rounding = _VALUE_ROUNDINGS * float(np.abs(values).max())
    rounding += _ARGUMENT_ROUNDINGS * largest * steepest
    return _NOISE_FACTOR * noise + eps * rounding


def _period(
    function: Function,
    places: FloatArray,
    values: FloatArray,
    request: ParameterRequest,
    eps: float,
) -> float | None:
    if request.period is None:
        candidates = [*_RADIANS, *_DEGREES]
        # A constant needs a range; what looks like one may have a dip elsewhere in a given range.
        of_constant = math.pi if request.range is None else None
        if request.range is not None:
            width = request.range[1] - request.range[0]
            # A range that is narrower than the period is an interval.
            candidates = [*(p for p in candidates if p <= width * (1 + _TYPED)), width]
        return find_loss_period(function, places, candidates, eps, of_constant)
    if request.period == 0:
        return None
    again, shifted = function(places), function(places + request.period)
    apart, noise = np.abs(shifted - values), np.abs(again - values)
    if np.nanmax(apart) > _NO_PERIOD * np.ptp(values) + _NOISE_FACTOR * np.nanmax(noise):
        raise InputError(
            f"The loss does not repeat after {request.period:.6g}: at {places[0]:.6g} and one "
            f"period on it is {values[0]:.6g} and {shifted[0]:.6g}.",
            "Leave --period out, and give --range.",
        )
    return request.period


def is_angle_name(name: str) -> bool:
    """Whether a word of a parameter's name, such as `gabor.log_theta[3]`, is one for angles."""
    return _has_word(name, _ANGLE_NAMES)


def is_place_name(name: str) -> bool:
    """Whether a word of a parameter's name is one for places, whose zero is arbitrary."""
    return _has_word(name, _PLACE_NAMES)


def _has_word(name: str, known: Container[str]) -> bool:
    words = re.findall("[A-Z]?[a-z]+|[A-Z]+", name.rpartition(".")[2])
    lower = [word.lower() for word in words]
    return any(word in known or word.removesuffix("s") in known for word in lower)
