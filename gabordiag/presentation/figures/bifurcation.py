"""Where the runs of one start end up, against the learning rate.

Every rate's last values are dots over bands of equal behaviour; below them the Lyapunov exponent,
whose sign separates chaos from a long cycle. Bands too thin to see are merged into a neighbour.
"""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

from gabordiag.dynamics.bifurcation import Bifurcation
from gabordiag.landscape.points import CriticalPoint
from gabordiag.objective.space import FloatArray
from gabordiag.presentation.colors import BAND_STYLES, FAINT, INK, OUTCOME_COLORS, TARGET_COLOR
from gabordiag.presentation.figures.axis import ParameterAxis
from gabordiag.presentation.figures.maps import cell_edges, setting_words
from gabordiag.presentation.figures.sheets import current_panel, current_sheet, name_panels
from gabordiag.presentation.figures.style import entry, halo, legend_beside, new_figure, write_above
from gabordiag.wording import show_number

# Bands narrower than this share of the (logarithmic) axis are merged into their neighbours.
_SLIVER = 0.012
# Half the width of a letter of a bound's name, in inches.
_HALF_LETTER = 0.034
# An axis of learning rates below this ratio has labels between its powers of ten.
_FEW_DECADES = 300


def bifurcation_figure(diagram: Bifurcation) -> Figure:
    """Draws where the runs of one start end up, and the Lyapunov exponent below."""
    with new_figure(10.0, 7.6) as figure:
        values, exponent = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.2])
        name_panels((values, exponent), ("values", "exponent"))
        draw_attractor(values, diagram)
        _draw_exponent(exponent, diagram)
        values.set_xlabel("")
        start = ParameterAxis.of(diagram.landscape.parameter).show(diagram.start)
        settings = setting_words(diagram.settings)
        figure.suptitle(f"Where the runs from {start} end up, by learning rate ({settings})")
        figure.align_ylabels()
    return figure


def draw_attractor(ax: Axes, diagram: Bifurcation) -> None:
    """Draws the last values of every run, with a legend."""
    landscape, rates, values = diagram.landscape, diagram.lrs, diagram.values
    axis = ParameterAxis.of(landscape.parameter)
    handles: list[Any] = _draw_bands(ax, diagram)
    dots: dict[str, Any] = {"markersize": 0.9, "markeredgewidth": 0, "alpha": 0.5, "color": INK}
    every = np.repeat(rates, values.shape[1])
    ax.plot(every, axis.wrap(values).ravel(), "o", rasterized=True, zorder=2, **dots)
    places: dict[tuple[str, str, str], list[str]] = {}
    for point in landscape.attractors:
        color, _, style = look = _look(point)
        places.setdefault(look, []).append(axis.show(point.value))
        for y in axis.copies(point.value):
            ax.axhline(y, color=color, linewidth=0.8, linestyle=style, alpha=0.6, zorder=1)
    for (color, name, style), shown in places.items():
        label = textwrap.fill(f"{name} {', '.join(shown)}", 30)
        handles.append(entry(label, color=color, linewidth=1.2, linestyle=style))
    handles += _draw_bounds(ax, diagram, axis)
    _set_rates(ax, diagram)
    axis.set_up(ax, vertical=True)
    ax.set_ylabel(f"last {values.shape[1]} values of {axis.parameter.label}")
    if axis.period is None and ((values < axis.low) | (values > axis.high)).any():
        ends = f"{axis.show(axis.low)} to {axis.show(axis.high)}"
        handles.append(entry(f"values outside {ends}\nare not drawn", linestyle=""))
    dot = entry("value of a run", marker="o", linestyle="", color=INK, markersize=3)
    legend_beside(ax, [dot, *handles])


def _set_rates(ax: Axes, diagram: Bifurcation) -> None:
    ax.set(xscale="log", xlim=(diagram.lrs[0], diagram.lrs[-1]), xlabel="learning rate")
    if diagram.lrs[-1] < _FEW_DECADES * diagram.lrs[0]:
        # The usual labels, such as 3 × 10⁻¹, run into each other.
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())


def _look(point: CriticalPoint) -> tuple[str, str, str]:
    return (TARGET_COLOR, "target", "-") if point.is_target else ("#0072B2", "minimum at", "-.")


def _draw_bounds(ax: Axes, diagram: Bifurcation, axis: ParameterAxis) -> list[Line2D]:
    """Draws the minima's stability bounds, labelled above in rows; returns their legend entry."""
    low, high = diagram.lrs[[0, -1]].tolist()
    ends: list[float] = []
    bounds = [
        (theory, point)
        for theory, point in diagram.bounds
        if not theory.entry.is_estimate and low <= theory.bound <= high
    ]
    for theory, point in sorted(bounds, key=lambda pair: pair[0].bound):
        lr, formula = theory.bound, theory.entry.formula
        color, *_ = _look(point)
        ax.axvline(lr, color=color, linewidth=1.4, linestyle="--", zorder=3)
        place = "the target" if point.is_target else axis.show(point.value)
        share = np.log(lr / low) / np.log(high / low)
        words = f"{formula} at {place}: {show_number(lr)}"
        half = _HALF_LETTER * len(words) / current_sheet().axes_width
        middle = min(max(share, half), 1 - half)
        row = next((i for i, end in enumerate(ends) if middle - half > end), len(ends))
        ends[row : row + 1] = [middle + half]
        write_above(ax, words, low * (high / low) ** middle, row, ha="center", color=color)
    label = "stability bound: above\nit no run settles there"
    if any("L″" in theory.entry.formula for theory, _ in bounds):
        label += "\n(L″: second derivative\nof the loss)"
    return [entry(label, color=INK, linestyle="--")] if bounds else []


def _draw_bands(ax: Axes, diagram: Bifurcation) -> list[Patch]:
    has_exponent = np.isfinite(diagram.lyapunov).any()
    words = {
        "settled": "settled",
        "cycle": "repeats a cycle",
        "chaos": "chaos: no period,\nexponent above 0",
        "other": "neither: no period,\nexponent not above 0" if has_exponent else "no period found",
        "nonfinite": "diverges (NaN or infinity)",
    }
    handles = {}
    for kind, low, high in merged_bands(diagram.lrs, diagram.kinds):
        color, hatch = BAND_STYLES[kind]
        look: dict[str, Any] = {"facecolor": color, "hatch": hatch, "edgecolor": "white"}
        ax.axvspan(low, high, zorder=0, **look).set_linewidth(0)
        handles[kind] = Patch(linewidth=0, label=words[kind], **look)
    return [handles[kind] for kind in BAND_STYLES if kind in handles]


def merged_bands(rates: FloatArray, kinds: Sequence[str]) -> list[tuple[str, float, float]]:
    """Returns the stretches of equal behaviour without gaps and without slivers too thin to see.

    The smallest sliver is merged into its wider neighbour until none is left. The rates (l,) are
    ascending, with a kind each.
    """
    cells = np.log(rates)
    borders = np.clip(cell_edges(cells), cells[0], cells[-1])
    bands = _joined([[kind, borders[i], borders[i + 1]] for i, kind in enumerate(kinds)])
    least = _SLIVER * (cells[-1] - cells[0])
    while len(bands) > 1:
        widths = [high - low for _, low, high in bands]
        i = int(np.argmin(widths))
        if widths[i] >= least:
            break
        sides = [j for j in (i - 1, i + 1) if 0 <= j < len(bands)]
        bands[i][0] = bands[max(sides, key=lambda j: widths[j])][0]
        bands = _joined(bands)
    return [(str(kind), float(np.exp(low)), float(np.exp(high))) for kind, low, high in bands]


def _joined(bands: list[list[Any]]) -> list[list[Any]]:
    """Returns bands (kind, low, high) with neighbours of one kind as one."""
    groups = (list(group) for _, group in itertools.groupby(bands, key=lambda band: band[0]))
    return [[group[0][0], group[0][1], group[-1][2]] for group in groups]


def _draw_exponent(ax: Axes, diagram: Bifurcation) -> None:
    rates, exponents = diagram.lrs, diagram.lyapunov
    bands = _draw_bands(ax, diagram)
    ax.axhline(0, color=FAINT, linewidth=1.0)
    _set_rates(ax, diagram)
    ax.set_ylabel("Lyapunov exponent\nper step")
    finite = exponents[np.isfinite(exponents)]
    if len(finite) == 0:
        place: dict[str, Any] = {"transform": ax.transAxes, "ha": "center"}
        words = "not defined for this optimizer or these runs"
        ax.text(0.5, 0.6, words, path_effects=halo(4), **place)
        ax.set_yticks([0.0])
        return
    ax.plot(rates, exponents, color=INK, linewidth=0.9)
    # A superstable cycle's exponent is minus infinity but for rounding: the axis stops short of it.
    top = max(float(finite.max()), 0.2)
    ax.set_ylim(max(float(finite.min()), -3 * top) - 0.1 * top, 1.15 * top)
    positive = np.where(exponents > 0, exponents, 0.0)
    above = ax.fill_between(rates, 0, positive, color=OUTCOME_COLORS["erratic"])
    above.set_alpha(0.5)
    above.set_label("above 0: chaos, nearby runs\ndiverge from each other")
    # In the whole figure the legend above explains the bands.
    legend_beside(ax, [above, *bands] if current_panel() == "exponent" else [above])
