"""The map of outcomes: where every start ends at every learning rate.

It stands under its landscape, on the same axis, so that regions and basins can be compared; the
column of the start, too thin to be seen in the map, is drawn again beside it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.lib.stride_tricks import sliding_window_view

from gabordiag.dynamics.maps import Basins
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import OUTCOME_NAMES
from gabordiag.objective.space import FloatArray
from gabordiag.presentation import phrases
from gabordiag.presentation.colors import INK, OUTCOME_COLORS, OUTCOME_SHORT, ink_on
from gabordiag.presentation.figures import sheets, style
from gabordiag.presentation.figures.axis import ParameterAxis, loss_label
from gabordiag.presentation.figures.landscape import (
    draw_basins,
    draw_loss,
    mark_critical_points,
    mark_values,
)
from gabordiag.wording import show_number

# A region's name is written where its box holds hardly anything else.
_PURE = 0.95
# Inches that a letter and a line of the words in the map take.
_LETTER, _LINE = 0.10, 0.20
# Inches between a line and its label.
_APART = 0.04


@dataclass(frozen=True)
class RateLine:
    """A learning rate that matters for one basin, which the axis shows at the spans."""

    lr: float
    words: str
    spans: list[tuple[float, float]]
    dash: str


def basins_figure(basins: Basins) -> Figure:
    """Draws the map of outcomes under its landscape."""
    sweep, axis = basins.sweep, map_axis(basins)
    strip_width = 2.4 if sheets.current_sheet().is_narrow else 1.3
    ratios: dict[str, Any] = {"height_ratios": [1.15, 3], "width_ratios": [30, strip_width]}
    with style.new_figure(10.0, 8.8) as figure:
        axes = figure.subplots(2, 2, sharex="col", sharey="row", **ratios)
        (loss, corner), (ground, strip) = axes
        corner.set_axis_off()
        sheets.name_panels((loss, ground, strip), ("loss", "map", "start"))
        draw_basins(loss, axis, sweep.landscape)
        draw_loss(loss, axis, sweep)
        points = mark_critical_points(loss, axis, sweep.landscape)
        loss.set_ylabel(loss_label(sweep.loss_name))
        draw_map(ground, basins)
        ground.set_ylabel(f"learning rate ({setting_words(basins.settings)})")
        mark_values([loss], axis, basins.windows.start, outlined=[ground])
        _draw_strip(strip, axis, basins)
        loss.tick_params(labelbottom=False)
        figure.align_ylabels([loss, ground])
        headline, reason = phrases.rate_words(basins, axis.show)
        figure.suptitle(headline)
        lines = sheets.fit_title(reason.replace("; ", ";\n").replace(". ", ".\n"))
        loss.set_title(lines, pad=24, fontsize=10)
        regions = outcome_handles(basins.outcomes, basins.fractions, axis.parameter.goal_name)
        column = outcome_handles(basins.windows.outcomes, goal=axis.parameter.goal_name)
        alone = {"loss": points, "map": regions, "start": column}
        entries = alone.get(sheets.current_panel() or "", [*regions, *points])
        figure.legend(handles=entries, loc="outside lower left", ncols=2)
    if ground in figure.axes:
        with style.drawing():
            write_map_labels(ground, basins)
    return figure


def draw_map_alone(ax: Axes, basins: Basins) -> None:
    """Draws the map with its labels and legend into one Axes of any figure."""
    axis = map_axis(basins)
    draw_map(ax, basins)
    mark_values([], axis, basins.windows.start, outlined=[ax])
    ax.set_title(phrases.rate_words(basins, axis.show)[0], fontsize=10, pad=20)
    style.legend_beside(ax, outcome_handles(basins.outcomes, goal=axis.parameter.goal_name))
    # Its words go where there is room for them, which depends on the size.
    if isinstance(ax.figure, Figure):
        ax.figure.draw_without_rendering()
    write_map_labels(ax, basins)


def map_axis(basins: Basins) -> ParameterAxis:
    """Returns the axis of the starts."""
    low, high = basins.starts[[0, -1]].tolist()
    return ParameterAxis.of(basins.sweep.landscape.parameter, (low, high) if high > low else None)


def setting_words(settings: OptimizerSettings) -> str:
    """Returns optimizer and steps in words."""
    how = phrases.how_else(asdict(settings))
    return ", ".join([settings.optimizer, *how, f"{settings.steps} steps"])


def outcome_handles(
    outcomes: npt.NDArray[Any], fractions: Mapping[str, float] | None = None, goal: str = "target"
) -> list[Patch]:
    """Returns legend entries for the outcomes whose codes occur in a map, with their shares."""
    handles = []
    for code in np.unique(outcomes).tolist():
        name = OUTCOME_NAMES[code]
        note = f" ({phrases.share_words(fractions[name])} of the map)" if fractions else ""
        look: dict[str, Any] = {"facecolor": OUTCOME_COLORS[name], "edgecolor": "#666666"}
        handles.append(Patch(linewidth=0.5, label=phrases.outcome_words(name, goal) + note, **look))
    return handles


def draw_map(ax: Axes, basins: Basins) -> None:
    """Draws the map with the rates that matter into one Axes; `write_map_labels` names them."""
    axis, rates = map_axis(basins), basins.lrs
    outcome_mesh(ax, cell_edges(basins.starts * axis.scale), _rate_edges(basins), basins.outcomes)
    axis.set_up(ax)
    ax.set(yscale="log", ylim=(rates[0], rates[-1]), ylabel="learning rate")
    ax.set_xlabel("start: " + axis.parameter.label)
    ax.grid(False)
    for line in rate_lines(basins):
        # Heavy across its basin, faint elsewhere.
        ax.axhline(line.lr, color="white", linewidth=0.9, linestyle=(0, (1, 2)), zorder=3)
        heavy: dict[str, Any] = {"color": INK, "linewidth": 2.0, "solid_capstyle": "butt"}
        heavy |= {"linestyle": line.dash, "path_effects": style.halo(4.0), "zorder": 3.5}
        for span in line.spans:
            ax.plot(span, [line.lr, line.lr], **heavy)


def _rate_edges(basins: Basins) -> FloatArray:
    return np.asarray(np.exp(cell_edges(np.log(basins.lrs))))


def cell_edges(centres: FloatArray) -> FloatArray:
    """Returns the n + 1 edges of n cells around their centres."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    inner = (centres[1:] + centres[:-1]) / 2
    first, last = 2 * centres[0] - inner[0], 2 * centres[-1] - inner[-1]
    return np.concatenate([[first], inner, [last]])


def outcome_mesh(ax: Axes, x: FloatArray, y: FloatArray, codes: npt.NDArray[Any]) -> QuadMesh:
    """Draws outcomes' codes (m, n) as cells between the edges x (n + 1,) and y (m + 1,)."""
    colors = ListedColormap([OUTCOME_COLORS[name] for name in OUTCOME_NAMES])
    scale: dict[str, Any] = {"cmap": colors, "vmin": -0.5, "vmax": colors.N - 0.5}
    return ax.pcolormesh(x, y, np.asarray(codes), rasterized=True, zorder=0, **scale)


def _draw_strip(ax: Axes, axis: ParameterAxis, basins: Basins) -> None:
    """Draws the column of the start alone, wide enough to be read."""
    outcome_mesh(ax, np.array([0.0, 1.0]), _rate_edges(basins), basins.windows.outcomes[:, None])
    ax.set(xlim=(0, 1), xticks=[])
    ax.grid(False)
    ax.tick_params(left=False, labelleft=False, which="both")
    ax.set_xlabel(f"only\n{axis.show(basins.windows.start)}", fontsize=9)


def rate_lines(basins: Basins) -> list[RateLine]:
    """Returns the rates that the map shows: what leaves a basin, what is stable, and the bound."""
    landscape, windows, theory = basins.sweep.landscape, basins.windows, basins.theory
    name, goal = landscape.parameter.goal_name, landscape.goal
    own = landscape.attractor_of(windows.start)
    own_spans, goal_spans = (
        map_axis(basins).spans(*one.basin) if one is not None and one.basin else []
        for one in (own, goal)
    )
    bound, formula = None, ""
    if theory is not None and not theory.entry.is_estimate:
        bound, formula = theory.bound, theory.entry.formula
    low, high = basins.lrs[[0, -1]].tolist()
    named = (
        (windows.escape_lr, "leaves the start's basin from {} on", own_spans, "-"),
        (windows.hold_lr, f"stable at the {name} up to {{}}", goal_spans, "-"),
        (bound, f"theory, {formula}: {{}}", goal_spans, "--"),
    )
    return [
        RateLine(lr, words.format(show_number(lr)), spans, dash)
        for lr, words, spans, dash in named
        if lr is not None and low <= lr <= high
    ]


def write_map_labels(ax: Axes, basins: Basins) -> None:
    """Writes what the rates mean, and outcomes' names into their regions; needs the final size."""
    axis, lines = map_axis(basins), rate_lines(basins)
    extent = ax.get_window_extent().transformed(ax.figure.dpi_scale_trans.inverted())
    left, right = axis.limits
    box = {"boxstyle": "round,pad=0.18", "facecolor": "white", "edgecolor": "none", "alpha": 0.9}
    to_axes, boxes = ax.transData + ax.transAxes.inverted(), []
    for line in lines:
        # In the middle of its basin, or as near as the axes' ends allow.
        low, high = max(line.spans, key=lambda span: span[1] - span[0], default=axis.limits)
        ends = to_axes.transform([(low, line.lr), (high, line.lr)])
        half = min(0.36 * _LETTER * (len(line.words) + 2) / extent.width, 0.5)
        middle = min(max(float(ends[:, 0].mean()), half), 1 - half)
        boxes.append(_Label(middle, half, float(ends[0, 1]) * extent.height, ends[:, 0].tolist()))
    for line, label, up in zip(lines, boxes, _sides(boxes, extent.height), strict=True):
        look: dict[str, Any] = {"ha": "center", "va": "bottom" if up else "top"}
        look |= {"color": INK, "path_effects": [], "zorder": 6}
        at = left + (right - left) * label.middle, line.lr
        style.write(ax, line.words, at, (0, 5 if up else -5), bbox=box, **look)
    _name_regions(ax, axis, basins, [line.lr for line in lines], extent.size)


class _Label(NamedTuple):
    """The words of a line: middle and half width in axes' widths, height of the line in inches."""

    middle: float
    half: float
    height: float
    basin: Sequence[float]

    def meets(self, left: float, right: float) -> bool:
        return self.middle - self.half < right and left < self.middle + self.half


def _sides(labels: Sequence[_Label], top: float) -> tuple[bool, ...]:
    """Returns which labels go above their lines, so that they cover least of the others."""

    def covered(sides: tuple[bool, ...]) -> float:
        lows = [
            label.height + (_APART if up else -_APART - _LINE)
            for label, up in zip(labels, sides, strict=True)
        ]
        total = 0.1 * sides.count(False)
        for (i, one), (j, other) in itertools.permutations(enumerate(labels), 2):
            if lows[i] < other.height < lows[i] + _LINE:
                # A line is heavy across its basin.
                total += 3.0 if one.meets(*other.basin) else 1.0
            is_over = abs(lows[i] - lows[j]) < _LINE
            total += 4.0 * (
                is_over and one.meets(other.middle - other.half, other.middle + other.half)
            )
        return total + 5.0 * sum(low < 0 or low + _LINE > top for low in lows)

    return min(itertools.product((True, False), repeat=len(labels)), key=covered)


def _name_regions(
    ax: Axes, axis: ParameterAxis, basins: Basins, rates: Sequence[float], inches: Sequence[float]
) -> None:
    codes = basins.outcomes
    width, height = inches
    rows, columns = codes.shape
    tall = max(1, round(_LINE / height * rows))
    taken = np.zeros(codes.shape, dtype=np.bool_)
    for row in np.searchsorted(basins.lrs, rates):
        taken[max(0, row - 2 * tall) : row + 2 * tall] = True
    starts = basins.starts * axis.scale
    for value in (axis.parameter.target, basins.windows.start):
        for x in axis.copies(value):
            column = int(np.searchsorted(starts, x))
            taken[:, max(0, column - 2) : column + 3] = True
    look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9.5, "fontweight": "bold"}
    for code in np.unique(codes).tolist():
        name = OUTCOME_NAMES[code]
        words, ink = OUTCOME_SHORT[name], ink_on(OUTCOME_COLORS[name])
        wide = max(1, round(_LETTER * len(words) / width * columns))
        # A name lies in its region but for specks, and never on a line.
        spot = _spot(np.where(taken, -np.inf, codes == code), tall, wide)
        if spot is not None:
            at = float(starts[spot[1]]), float(basins.lrs[spot[0]])
            ax.text(*at, words, color=ink, zorder=2, label=style.ON_MAP, **look)


def _spot(region: npt.NDArray[np.float64], tall: int, wide: int) -> tuple[int, int] | None:
    """Returns the centre (row, column) of the box that fits into the region, most room around."""
    for room in (3.0, 2.0, 1.0):
        box = round(room * tall), round(room * wide)
        if box[0] < region.shape[0] and box[1] < region.shape[1]:
            shares = sliding_window_view(region, box).mean(axis=(2, 3))
            row, column = np.unravel_index(shares.argmax(), shares.shape)
            if shares[row, column] >= _PURE:
                return int(row) + box[0] // 2, int(column) + box[1] // 2
    return None
