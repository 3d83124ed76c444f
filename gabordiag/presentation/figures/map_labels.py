"""Labels inside the map of outcomes: the learning rates that matter, the regions' names.

They need the Axes' final size; a label without room is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from numpy.lib.stride_tricks import sliding_window_view

from gabordiag.dynamics.maps import Basins
from gabordiag.dynamics.outcomes import OUTCOME_NAMES
from gabordiag.presentation.figures.axis import ParameterAxis
from gabordiag.presentation.figures.style import (
    INK,
    OUTCOME_COLORS,
    OUTCOME_SHORT,
    LineStyle,
    halo,
    ink_on,
    show_number,
)
from gabordiag.presentation.phrases import goal_name
from gabordiag.presentation.rates import escape_words, stable_words

# A region's name is written where its box holds hardly anything else.
_PURE = 0.95
# Inches that a letter and a line of the words in the map take.
_LETTER, _LINE = 0.10, 0.20


@dataclass(frozen=True)
class RateLine:
    """A learning rate that matters for one basin."""

    lr: float
    words: str
    above: bool
    basin: Sequence[float] | None
    style: LineStyle


def rate_lines(basins: Basins) -> list[RateLine]:
    """Returns the rates that the map shows: what leaves a basin, what is stable, and the bound."""
    landscape, windows = basins.sweep.landscape, basins.windows
    name, goal = goal_name(landscape.parameter), landscape.goal
    own = landscape.attractor_of(windows.start)
    goal_basin = None if goal is None else goal.basin
    lines = []
    if (escape := windows.escape_lr) is not None:
        words = f"{escape_words()}: {show_number(escape)}"
        lines.append(RateLine(escape, words, True, None if own is None else own.basin, "-"))
    if (hold := windows.hold_lr) is not None:
        words = f"{stable_words(name)}: {show_number(hold)}"
        lines.append(RateLine(hold, words, False, goal_basin, "-"))
    theory = basins.theory
    if theory is not None and not theory.entry.is_estimate:
        words = f"stability bound {theory.entry.formula} of the {name}: {show_number(theory.bound)}"
        lines.append(RateLine(theory.bound, words, True, goal_basin, "--"))
    rates = basins.lrs
    return [line for line in lines if rates[0] <= line.lr <= rates[-1]]


def draw_rate_line(ax: Axes, axis: ParameterAxis, line: RateLine) -> None:
    """Draws a rate: heavy across its basin, faint elsewhere."""
    ax.axhline(line.lr, color="white", linewidth=0.9, linestyle=(0, (1, 2)), zorder=3)
    spans = [] if line.basin is None else axis.spans(line.basin[0], line.basin[1])
    for low, high in spans:
        ax.plot(
            [low, high],
            [line.lr, line.lr],
            color=INK,
            linewidth=2.0,
            linestyle=line.style,
            solid_capstyle="butt",
            path_effects=halo(4.0),
            zorder=3.5,
        )


def write_map_labels(ax: Axes, axis: ParameterAxis, basins: Basins) -> None:
    """Writes what the rates mean, and the outcomes' names into their regions.

    Args:
        ax: Holds the map, with its final size.
        axis: Of the starts.
        basins: The map.
    """
    lines = rate_lines(basins)
    for line in lines:
        _write_words(ax, axis, line)
    _name_regions(ax, axis, basins, [line.lr for line in lines])


def _inches(ax: Axes) -> tuple[float, float]:
    extent = ax.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())
    return extent.width, extent.height


def _write_words(ax: Axes, axis: ParameterAxis, line: RateLine) -> None:
    """Writes a rate's words in the middle of its basin, or as near as the axes' ends allow."""
    spans = [] if line.basin is None else axis.spans(line.basin[0], line.basin[1])
    low, high = max(spans, key=lambda span: span[1] - span[0], default=axis.limits)
    left, right = axis.limits
    share = ((low + high) / 2 - left) / (right - left)
    half = min(0.42 * _LETTER * (len(line.words) + 2) / _inches(ax)[0], 0.5)
    ax.annotate(
        line.words,
        (left + (right - left) * min(max(share, half), 1 - half), line.lr),
        xytext=(0, 5 if line.above else -5),
        textcoords="offset points",
        ha="center",
        va="bottom" if line.above else "top",
        fontsize=9,
        color=INK,
        bbox={
            "boxstyle": "round,pad=0.18",
            "facecolor": "white",
            "edgecolor": "none",
            "alpha": 0.9,
        },
        zorder=6,
    )


def _name_regions(ax: Axes, axis: ParameterAxis, basins: Basins, rates: Sequence[float]) -> None:
    """Writes the outcomes' names into the regions that are large enough for them."""
    codes = basins.outcomes
    width, height = _inches(ax)
    rows, columns = codes.shape
    tall = max(1, round(_LINE / height * rows))
    taken = np.zeros(codes.shape, dtype=np.bool_)
    for row in np.searchsorted(basins.lrs, rates):
        taken[max(0, row - 2 * tall) : row + 2 * tall] = True
    starts = basins.starts * axis.scale
    for value in (basins.windows.start, axis.parameter.target):
        for x in axis.copies(value) if value is not None else []:
            column = int(np.searchsorted(starts, x))
            taken[:, max(0, column - 2) : column + 3] = True
    for code in np.unique(codes).tolist():
        name = OUTCOME_NAMES[code]
        wide = max(1, round(_LETTER * len(OUTCOME_SHORT[name]) / width * columns))
        spot = _spot((codes == code) & ~taken, tall, wide)
        if spot is not None:
            ax.text(
                float(starts[spot[1]]), float(basins.lrs[spot[0]]), OUTCOME_SHORT[name],
                ha="center", va="center", fontsize=9.5, fontweight="bold",
                color=ink_on(OUTCOME_COLORS[name]), zorder=2,
            )  # fmt: skip


def _spot(region: npt.NDArray[np.bool_], tall: int, wide: int) -> tuple[int, int] | None:
    """Returns the centre (row, column) of the box that fits into the region, most room around."""
    for room in (3.0, 2.0, 1.0):
        box = round(room * tall), round(room * wide)
        if box[0] < region.shape[0] and box[1] < region.shape[1]:
            shares = sliding_window_view(region, box).mean(axis=(2, 3))
            row, column = np.unravel_index(shares.argmax(), shares.shape)
            if shares[row, column] >= _PURE:
                return int(row) + box[0] // 2, int(column) + box[1] // 2
    return None
