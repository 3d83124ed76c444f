"""What all results share: they turn into JSON, and show themselves.

Results are frozen dataclasses with read-only NumPy arrays, so that they can be handed on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Data = Mapping[str, Mapping[str, npt.NDArray[Any]]]
# What long work tells of itself: called with (done, in all).
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class View:
    """What a person is shown, live or from a run folder: the JSON and the saved arrays.

    Attributes:
        result: As `Result.to_dict` gives it, or the `result` of a result.json.
        data: File name -> column -> array, as `Result.data` gives it.
    """

    result: Mapping[str, Any]
    data: Data = field(default_factory=dict)

    def with_data(self, more: Data) -> View:
        """Returns the same view with more arrays."""
        return View(self.result, {**self.data, **more})


class Result:
    """Base of everything that a public function returns."""

    def __init_subclass__(cls) -> None:
        # A dataclass keeps the __repr__ that its class has; its own would print every array.
        cls.__repr__ = Result.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        """Returns the JSON's first level, one field a line: texts, numbers, lengths of lists."""
        shown = {name: _shortly(value) for name, value in self.to_dict().items()}
        lines = [f"    {name}={text}," for name, text in shown.items() if text]
        return "\n".join([f"{type(self).__name__}(", *lines, ")"])

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        raise NotImplementedError

    def data(self) -> Data:
        """Returns the arrays that are saved beside the JSON: file name -> column -> array."""
        return {}

    def view(self) -> View:
        """Returns all that a figure is drawn from."""
        return View(self.to_dict(), self.data())

    def plot(self, ax: Any = None) -> Any:
        """Draws the result and returns the matplotlib Axes.

        Args:
            ax: Axes to draw into. Default: those of a new figure.
        """
        return _painter().plot(self, ax)

    def _repr_png_(self) -> bytes | None:
        return _painter().notebook_png(self)


def _shortly(value: Any) -> str:
    if isinstance(value, str | int | float):
        return repr(value)
    return f"<{len(value)} items>" if isinstance(value, list) else ""


class Painter(Protocol):
    """Draws results."""

    def plot(self, result: Result, ax: Any = None, /) -> Any:
        """Draws the result into the Axes, or into those of a new figure, and returns them."""

    def notebook_png(self, result: Result, /) -> bytes | None:
        """Returns what a notebook shows of the result; None where there is no drawing."""


def _no_painter() -> Painter:
    raise RuntimeError("results draw themselves once gabordiag's public functions are loaded")


_painter: Callable[[], Painter] = _no_painter


def set_painter(load: Callable[[], Painter]) -> None:
    """Sets what draws results, so that the numbers need not know of the pictures.

    Args:
        load: Returns the painter; called when a result is first asked to show itself.
    """
    global _painter
    _painter = load


def read_only(array: npt.ArrayLike) -> npt.NDArray[Any]:
    """Returns the array, no longer writable."""
    result = np.asarray(array)
    result.setflags(write=False)
    return result


def finite_or_none(value: float | None) -> float | None:
    """Returns the value as JSON takes it: None where it is undefined or infinite."""
    if value is None or not math.isfinite(value):
        return None
    return float(value)


@dataclass(frozen=True)
class Finding:
    """What the test of one cause found.

    Attributes:
        cause: Its name.
        present: Whether it is there at all.
        sufficient: Whether its removal alone turned the run into `reached`; None where no run can
            be made, as from a log.
        evidence: What was measured, as JSON takes it.
        explanation: In words, without a full stop.
        advice: What to change, with the value; empty unless `sufficient` or it stands alone.
        role: `primary`, `contributing` or `ruled_out`; given by the verdict.
    """

    cause: str
    present: bool
    sufficient: bool | None
    evidence: dict[str, Any]
    explanation: str
    advice: str = ""
    role: str = "ruled_out"

    def to_dict(self) -> dict[str, Any]:
        """Returns what the JSON shows."""
        tried = {} if self.sufficient is None else {"removal_reaches_target": self.sufficient}
        return {
            "cause": self.cause,
            "role": self.role,
            "evidence": {**self.evidence, **tried},
            "explanation": self.explanation,
        }
