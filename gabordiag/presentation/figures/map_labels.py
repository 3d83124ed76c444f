"""What is written into the map of outcomes: the rates that matter, the regions' names.

Words in the map spare the reader the way to the legend. They need the Axes' final size: what has no
room is not written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from gabordiag.presentation.figures.axis import (
    FloatArray,
    ParameterAxis,
    goal_name,
    goal_point,
    own_attractor,
)
from gabordiag.presentation.figures.style import (
    INK,
    OUTCOME_COLORS,
    OUTCOME_SHORT,
    LineStyle,
    halo,
    ink_on,
    show_number,
)
from gabordiag.results import View

# A region's name is written where its box holds hardly anything else.
_PURE = 0.95
# Inches that a letter and a line of the words in the map take.
_LETTER, _LINE = 0.10, 0.20


@dataclass(frozen=True)
class RateLine:
    """A learning rate that means something for one basin."""

    lr: float
    words: str
    above: bool
    basin: Sequence[float] | None
    style: LineStyle


def rate_lines(view: View, axis: ParameterAxis) -> list[RateLine]:
    """Returns the rates that the map shows: what escapes, what holds, what theory allows."""
    result = view.result
    landscape = result["landscape"]
    name, goal = goal_name(landscape), goal_point(landscape)
    own = own_attractor(axis, landscape, result["start"])
    goal_basin = None if goal is None else goal["basin"]
    lines = []
    if (escape := result["escape_lr"]) is not None:
        words = f"leaves the start's basin from {show_number(escape)} on"
        lines.append(RateLine(escape, words, True, None if own is None else own["basin"], "-"))
    if (hold := result["hold_lr"]) is not None:
        words = f"the {name}'s basin holds up to {show_number(hold)}"
        lines.append(RateLine(hold, words, False, goal_basin, "-"))
    theory = result["theory"]
    if theory is not None and not theory.get("is_estimate", True):
        words = f"{theory['symbol']} at the {name} = {show_number(theory['bound'])}"
        lines.append(RateLine(theory["bound"], words, True, goal_basin, "--"))
    rates = view.data["basins.npz"]["lr"]
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


def write_map_labels(ax: Axes, axis: ParameterAxis, view: View) -> None:
    """Writes what the rates mean, and the outcomes' names into their regions.

    Args:
        ax: Holds the map, with its final size.
        axis: Of the starts.
        view: Of a `Basins`.
    """
    lines = rate_lines(view, axis)
    for line in lines:
        _write_words(ax, axis, line)
    _name_regions(ax, axis, view, [line.lr for line in lines])


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


def _name_regions(ax: Axes, axis: ParameterAxis, view: View, rates: Sequence[float]) -> None:
    """Writes the outcomes' names into the regions that are large enough for them."""
    grid = view.data["basins.npz"]
    codes = np.asarray(grid["outcome"])
    names = [str(name) for name in grid["outcome_names"]]
    width, height = _inches(ax)
    rows, columns = codes.shape
    tall = max(1, round(_LINE / height * rows))
    taken = np.zeros(codes.shape, dtype=np.bool_)
    for lr in rates:
        row = int(np.searchsorted(grid["lr"], lr))
        taken[max(0, row - 2 * tall) : row + 2 * tall] = True
    landscape = view.result["landscape"]
    starts = np.asarray(grid["starts"], dtype=np.float64) * axis.scale
    for value in (view.result["start"], landscape["target"]):
        for x in axis.copies(value) if value is not None else []:
            column = int(np.searchsorted(starts, x))
            taken[:, max(0, column - 2) : column + 3] = True
    for code in np.unique(codes).tolist():
        wide = max(1, round(_LETTER * len(OUTCOME_SHORT[names[code]]) / width * columns))
        spot = _spot((codes == code) & ~taken, taken, tall, wide)
        if spot is not None:
            row, column = spot
            ax.text(
                float(starts[min(column, columns - 1)]),
                float(grid["lr"][min(row, rows - 1)]),
                OUTCOME_SHORT[names[code]],
                ha="center",
                va="center",
                fontsize=9.5,
                fontweight="bold",
                color=ink_on(OUTCOME_COLORS[names[code]]),
                zorder=2,
            )


def _spot(
    region: npt.NDArray[np.bool_], taken: npt.NDArray[np.bool_], tall: int, wide: int
) -> tuple[int, int] | None:
    """Returns the centre (row, column) of a box of the region, with room around it if there is."""
    for room in (3.0, 2.0, 1.5, 1.0):
        rows, columns = round(room * tall), round(room * wide)
        if rows >= region.shape[0] or columns >= region.shape[1]:
            continue
        full = _box_shares(region, rows, columns) >= _PURE
        found = np.argwhere(full & (_box_shares(taken, rows, columns) == 0))
        if len(found):
            middle = found.mean(axis=0)
            nearest = (((found - middle) / region.shape) ** 2).sum(axis=1).argmin()
            row, column = found[nearest]
            return int(row) + rows // 2, int(column) + columns // 2
    return None


def _box_shares(region: npt.NDArray[np.bool_], tall: int, wide: int) -> FloatArray:
    """Returns the region's share of every box of the given size, by its corner."""
    total = np.zeros((region.shape[0] + 1, region.shape[1] + 1))
    total[1:, 1:] = region.cumsum(axis=0).cumsum(axis=1)
    inside = total[tall:, wide:] - total[:-tall, wide:] - total[tall:, :-wide]
    shares: FloatArray = (inside + total[:-tall, :-wide]) / (tall * wide)
    return shares
