"""The landscape in letters: bars of the loss, and arrows below them at target, start and ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gabordiag.objective.space import FloatArray
from gabordiag.presentation.blocks import Mark, Sketch
from gabordiag.presentation.figures.axis import ParameterAxis
from gabordiag.presentation.figures.landscape import axis_of

# Columns at most: as wide as the text around it.
WIDEST = 72
# Letters of an eighth of a line each, and lines.
_BLOCKS, _ROWS = " ▁▂▃▄▅▆▇█", 3
# Where the terminal has no blocks: a cell is empty, half or full.
_ASCII, _ASCII_ROWS = " .#", 5


class Arrow(NamedTuple):
    """An arrow with its words, on one line with others; whether it marks the target."""

    column: int
    text: str
    good: bool


class Letters(NamedTuple):
    """A sketch: bars from the top, lines of arrows, and the ends of the range."""

    bars: tuple[str, ...]
    arrows: tuple[tuple[Arrow, ...], ...]
    ends: str


def draw_letters(sketch: Sketch, width: int, *, ascii_only: bool = False) -> Letters:
    """Returns the sketch in at most `width` columns."""
    axis = axis_of(sketch.sweep)
    columns = min(width, WIDEST)
    losses = lowest_of_columns(sketch.sweep.values, sketch.sweep.loss, columns)
    letters, rows = (_ASCII, _ASCII_ROWS) if ascii_only else (_BLOCKS, _ROWS)
    low, high = (axis.show(value) for value in (axis.low, axis.high))
    if ascii_only:
        low, high = (end.replace("−", "-").replace("°", " deg") for end in (low, high))
    return Letters(
        _bars(losses, letters, rows),
        _arrows(axis, sketch.marks, columns, "^" if ascii_only else "▲"),
        low + high.rjust(max(1, columns - len(low))),
    )


def lowest_of_columns(values: FloatArray, losses: FloatArray, columns: int) -> FloatArray:
    """Returns the lowest loss of every column, so that a narrow minimum is not lost; NaN if none.

    The values (n,) rise, with a loss each; the columns are equally wide.
    """
    finite = np.isfinite(losses)
    if not finite.any():
        return np.full(columns, np.nan)
    width = (values[-1] - values[0]) / columns
    at = np.clip(((values - values[0]) / width).astype(int), 0, columns - 1)
    # Columns between two values of a coarse table take what lies between them.
    centres = values[0] + (np.arange(columns) + 0.5) * width
    lowest: FloatArray = np.interp(centres, values[finite], losses[finite])
    lowest[np.isin(np.arange(columns), at[finite])] = np.inf
    np.minimum.at(lowest, at[finite], losses[finite])
    return lowest


def _bars(losses: FloatArray, letters: str, rows: int) -> tuple[str, ...]:
    if not np.isfinite(losses).any():
        return (" " * len(losses),) * rows
    steps = len(letters) - 1
    bottom, top = np.nanmin(losses), np.nanmax(losses)
    room = (top - bottom) or 1.0
    # The lowest bar is one step high: a bar of none looks like no data.
    levels = 1 + np.nan_to_num(np.round((losses - bottom) / room * (steps * rows - 1)), nan=-1)
    lines = []
    for row in reversed(range(rows)):
        cells = np.clip(levels - steps * row, 0, steps).astype(int)
        lines.append("".join(letters[cell] for cell in cells))
    return tuple(lines)


def _arrows(
    axis: ParameterAxis, marks: Sequence[Mark], columns: int, arrow: str
) -> tuple[tuple[Arrow, ...], ...]:
    """Puts each arrow on the first line where its words have room."""
    lines: list[list[Arrow]] = []
    low, high = axis.limits
    for mark in marks:
        for place in axis.copies(mark.value)[:1]:
            at = min(columns - 1, int((place - low) / (high - low) * columns))
            made = Arrow(at, f"{arrow} {mark.words}", mark.good)
            if at + len(made.text) > columns:
                text = f"{mark.words} {arrow}"
                made = Arrow(max(0, at + 1 - len(text)), text, mark.good)
            free = (line for line in lines if all(_apart(*sorted((made, one))) for one in line))
            if (line := next(free, None)) is None:
                lines.append(line := [])
            line.append(made)
    return tuple(tuple(sorted(line)) for line in lines)


def _apart(first: Arrow, second: Arrow) -> bool:
    return first.column + len(first.text) + 1 < second.column
