"""Texts on the command line that stand for numbers: angles, ranges, `name:lo:hi:points`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from gabordiag.errors import UsageError

# One axis of a curve or a map.
MAX_POINTS = 1_000_000
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_PI = re.compile(rf"([+-]?)(?:({_NUMBER})\*?)?pi(?:/({_NUMBER}))?", re.IGNORECASE)
_DEGREES = re.compile(rf"([+-]?{_NUMBER})\s*(?:deg|°)", re.IGNORECASE)


def parse_angle(text: str | float) -> float:
    """Returns a number, or an angle in radians: `0.5`, `pi/4`, `-pi/4`, `3*pi/4`, `45deg`.

    Raises:
        UsageError: Anything else.
    """
    if isinstance(text, (int, float)):
        return float(text)
    stripped = text.strip().replace(" ", "")
    if match := _DEGREES.fullmatch(stripped):
        return math.radians(float(match[1]))
    if match := _PI.fullmatch(stripped):
        sign, factor, divisor = match.groups()
        value = math.pi * float(factor or 1) / float(divisor or 1) if float(divisor or 1) else 0.0
        if divisor and float(divisor) == 0:
            raise _no_angle(text)
        return -value if sign == "-" else value
    try:
        value = float(stripped)
    except ValueError:
        raise _no_angle(text) from None
    if not math.isfinite(value):
        raise UsageError(f"'{text}' is not a finite number.")
    return value


def _no_angle(text: str) -> UsageError:
    return UsageError(f"'{text}' is no angle.", "Write a number, pi/4, -3*pi/4 or 45deg.")


@dataclass(frozen=True)
class Grid:
    """`LO:HI:POINTS`."""

    low: float
    high: float
    points: int


def parse_grid(text: str) -> Grid:
    """Returns the grid of `LO:HI:POINTS`; the ends may be angles.

    Raises:
        UsageError: Another form.
    """
    parts = str(text).split(":")
    if len(parts) != 3:
        raise UsageError(f"'{text}' is no grid.", "Write LO:HI:POINTS, such as 1e-4:10:241.")
    return Grid(parse_angle(parts[0]), parse_angle(parts[1]), _count(parts[2]))


def parse_range(text: str) -> tuple[float, float]:
    """Returns the ends of `LO:HI`.

    Raises:
        UsageError: Another form, or an empty range.
    """
    parts = str(text).split(":")
    if len(parts) != 2:
        raise UsageError(f"'{text}' is no range.", "Write LO:HI, such as 0:2.")
    low, high = parse_angle(parts[0]), parse_angle(parts[1])
    if not low < high:
        raise UsageError(f"the range {text} is empty.", "Give LO < HI.")
    return low, high


@dataclass(frozen=True)
class Over:
    """`NAME[:LO:HI[:POINTS]]`."""

    name: str
    low: float | None = None
    high: float | None = None
    points: int | None = None

    @property
    def ends(self) -> tuple[float | None, float | None]:
        """Both ends, where given."""
        return self.low, self.high


def parse_over(text: str) -> Over:
    """Returns what `--over` names.

    Raises:
        UsageError: Another form than `NAME[:LO:HI[:POINTS]]`.
    """
    name, *rest = str(text).split(":")
    if not name or len(rest) not in (0, 2, 3):
        raise UsageError(
            f"'{text}' cannot be swept.", "Write NAME, NAME:LO:HI or NAME:LO:HI:POINTS."
        )
    if not rest:
        return Over(name)
    points = _count(rest[2]) if len(rest) == 3 else None
    return Over(name, parse_angle(rest[0]), parse_angle(rest[1]), points)


def _count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        raise UsageError(f"'{_short(text)}' is no number of points.") from None
    if not 1 <= count <= MAX_POINTS:
        raise UsageError(f"{_short(text)} points are no grid.", f"Use 1 to {MAX_POINTS:,}.")
    return count


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}..."
