"""Texts on the command line that stand for numbers: angles, ranges, `name:lo:hi:points`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from gabordiag.choices import MAX_STEPS
from gabordiag.errors import UsageError, unknown_name

# One axis of a curve or a map.
MAX_POINTS = 1_000_000
Text = TypeVar("Text")
Value = TypeVar("Value")
FORMATS = ("png", "svg", "pdf")
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_PI = re.compile(rf"([+-]?)(?:({_NUMBER})\*?)?pi(?:/({_NUMBER}))?", re.IGNORECASE)
_DEGREES = re.compile(rf"([+-]?{_NUMBER})\s*(?:deg|°)", re.IGNORECASE)


class Bare(float):
    """A number written without a unit, which as an angle is in radians."""


class Named(NamedTuple):
    """`VALUE` or `NAME=VALUE`; without a name, of whatever is learned."""

    value: Any
    name: str = ""

    def __str__(self) -> str:
        text = write_point(self.value)
        return f"{self.name}={text}" if self.name else text


class Grid(NamedTuple):
    """`LO:HI:POINTS`."""

    low: float
    high: float
    points: int


class Over(NamedTuple):
    """`NAME[:LO:HI[:POINTS]]`."""

    name: str
    low: float | None = None
    high: float | None = None
    points: int | None = None


def named(option: str, parse: Callable[[Text], Value]) -> Callable[[Text], Value]:
    """Returns a parser whose errors name the option that the text was given to."""

    def parse_named_option(text: Text) -> Value:
        try:
            return parse(text)
        except UsageError as error:
            raise UsageError(f"{option}: {error.problem}", error.advice) from None

    return parse_named_option


def parse_angle(text: str | float) -> float:
    """Returns a number (`0.5`, a `Bare`) or an angle in radians: `-pi/4`, `3*pi/4`, `45deg`."""
    if isinstance(text, (int, float)):
        return float(text)
    stripped = text.strip().replace(" ", "")
    if match := _DEGREES.fullmatch(stripped):
        return math.radians(float(match[1]))
    try:
        if match := _PI.fullmatch(stripped):
            sign, factor, divisor = match.groups()
            value = math.pi * float(factor or 1) / float(divisor or 1)
            return -value if sign == "-" else value
        value = float(stripped)
    except (ValueError, ZeroDivisionError):
        raise UsageError(
            f"'{text}' is not a number.", "Write 0.01, or for an angle pi/4, -3*pi/4 or 45deg."
        ) from None
    if not math.isfinite(value):
        raise UsageError(f"'{text}' is not a finite number.")
    return Bare(value)


def _parts(text: str, counts: Sequence[int], problem: str, advice: str) -> list[str]:
    parts = str(text).split(":")
    if len(parts) not in counts or not parts[0]:
        raise UsageError(f"'{text}' {problem}.", advice)
    return parts


def parse_grid(text: str) -> Grid:
    """Returns the grid of `LO:HI:POINTS`; the ends may be angles."""
    advice = "Write LO:HI:POINTS, such as 1e-4:10:241."
    low, high, points = _parts(text, [3], "is not a valid grid", advice)
    grid = Grid(parse_angle(low), parse_angle(high), parse_points(points))
    if not math.isfinite(grid.high - grid.low):
        raise UsageError(f"the ends of '{text}' are too far apart.", "Give a smaller range.")
    return grid


def parse_axis(text: str | float) -> tuple[float, ...]:
    """Returns the numbers of `LO:HI:POINTS`, evenly spaced, or of `A,B,...`."""
    if ":" not in str(text):
        point = parse_point(text)
        return point if isinstance(point, tuple) else (point,)
    low, high, points = parse_grid(str(text))
    step = (high - low) / max(1, points - 1)
    return (*(low + step * index for index in range(points - 1)), high)


def parse_range(text: str) -> tuple[float, float]:
    """Returns the ends of `LO:HI`."""
    parts = _parts(text, [2], "is not a valid range", "Write LO:HI, such as 0:2.")
    low, high = map(parse_angle, parts)
    if not low < high:
        raise UsageError(f"the range {text} is empty.", "Give LO < HI.")
    return low, high


def parse_over(text: str) -> Over:
    """Returns what `--over NAME[:LO:HI[:POINTS]]` names."""
    advice = "Write NAME, NAME:LO:HI or NAME:LO:HI:POINTS."
    name, *rest = _parts(text, [1, 3, 4], "cannot be swept", advice)
    low, high = map(parse_angle, rest[:2]) if rest else (None, None)
    return Over(name, low, high, parse_points(rest[2]) if len(rest) == 3 else None)


def parse_point(text: str | float) -> float | tuple[float, ...]:
    """Returns a number, as `parse_angle`; of `A,B,...` a tuple, one number for each parameter."""
    if isinstance(text, str) and "," in text:
        return tuple(map(parse_angle, text.split(",")))
    return parse_angle(text)


def write_point(value: float | Sequence[float]) -> str:
    """Returns the text that `parse_point` reads."""
    return ",".join(map(repr, value)) if isinstance(value, Sequence) else repr(value)


def parse_named(text: str | float | Named) -> Named:
    """Returns the number of `0.1` or `45deg`, and the name of `NAME=45deg`."""
    if isinstance(text, Named):
        return text
    if not isinstance(text, str):
        return Named(float(text))
    name, _, value = text.rpartition("=")
    return Named(parse_point(value), name.strip())


def split_named(values: Sequence[Named]) -> tuple[list[float], dict[str, float]]:
    """Returns the numbers without a name, and those with one."""
    names = [name for _, name in values if name]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{name} is given twice.")
    plain = [value for value, name in values if not name]
    return plain, {name: value for value, name in values if name}


def one_of(names: Iterable[str]) -> str:
    """Returns names as a help text lists them: first, second or last."""
    *most, last = names
    return f"{', '.join(most)} or {last}."


def parse_formats(texts: Sequence[str]) -> tuple[str, ...]:
    """Returns the file formats of `png`, `svg,pdf` and so on, each once, in the order given."""
    names = [text.strip().lower() for text in ",".join(texts).split(",")]
    return tuple(dict.fromkeys(map(parse_choice(FORMATS), names)))


def parse_choice(names: Iterable[str]) -> Callable[[str], str]:
    """Returns a parser that takes these names alone."""
    known = tuple(names)

    def parse(text: str) -> str:
        if text not in known:
            raise unknown_name("", text, known)
        return text

    return parse


def parse_steps(text: str | int) -> int:
    """Returns a number of steps."""
    with suppress(ValueError):
        if 1 <= (steps := int(text)) <= MAX_STEPS:
            return steps
    raise UsageError(f"'{text}' is not a number of steps.", f"Use 1 to {MAX_STEPS:,}.")


def parse_points(text: str) -> int:
    """Returns a number of points."""
    short = text if len(text) <= 40 else f"{text[:40]}..."
    try:
        count = int(text)
    except ValueError:
        raise UsageError(f"'{short}' is not a number of points.") from None
    if not 1 <= count <= MAX_POINTS:
        raise UsageError(f"{short} points are not possible.", f"Use 1 to {MAX_POINTS:,}.")
    return count
