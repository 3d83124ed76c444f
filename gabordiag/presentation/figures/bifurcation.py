"""Where the runs of one start end up, against the learning rate.

Every rate's last values are dots over bands of equal behaviour; below them the Lyapunov exponent,
whose sign separates chaos from a long cycle. Bands too thin to see are merged into a neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gabordiag.dynamics.bifurcation import Bifurcation
from gabordiag.dynamics.outcomes import CODES
from gabordiag.landscape.critical import CriticalPoint
from gabordiag.presentation.figures.axis import FloatArray, ParameterAxis
from gabordiag.presentation.figures.maps import cell_edges, setting_words
from gabordiag.presentation.figures.sheets import current_sheet
from gabordiag.presentation.figures.style import (
    BAND_STYLES,
    FAINT,
    INK,
    OUTCOME_COLORS,
    TARGET_COLOR,
    drawing,
    finish,
    halo,
    legend_beside,
    new_figure,
    show_number,
)

# Bands narrower than this share of the (logarithmic) axis are merged into their neighbours.
_SLIVER = 0.012
# Half the width of a letter of a bound's name, in inches.
_HALF_LETTER = 0.034


def bifurcation_figure(diagram: Bifurcation) -> Figure:
    """Draws where the runs of one start end up, and the Lyapunov exponent below."""
    with drawing():
        figure = new_figure(10.0, 7.6)
        values, exponent = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1.2])
        draw_attractor(values, diagram)
        _draw_exponent(exponent, diagram)
        values.set_xlabel("")
        axis = ParameterAxis.of(diagram.landscape.parameter)
        figure.suptitle(
            f"Where the runs from {axis.show(diagram.start)} end up, by learning rate"
            f" ({setting_words(diagram.settings)})",
            x=0.01,
            ha="left",
        )
        figure.align_ylabels()
        return finish(figure)


def draw_attractor(ax: Axes, diagram: Bifurcation) -> None:
    """Draws the last values of every run, with a legend."""
    landscape, rates, values = diagram.landscape, diagram.lrs, diagram.values
    axis = ParameterAxis.of(landscape.parameter)
    handles: list[Any] = _draw_bands(ax, diagram)
    ax.plot(
        np.repeat(rates, values.shape[1]),
        axis.wrap(values).ravel(),
        "o",
        color=INK,
        markersize=0.9,
        markeredgewidth=0,
        alpha=0.5,
        rasterized=True,
        zorder=2,
    )
    points = []
    for point in landscape.attractors:
        color, name = _look(point)
        label = f"{name} {axis.show(point.value)}"
        points.append(Line2D([], [], color=color, linewidth=1.2, label=label))
        for y in axis.copies(point.value):
            ax.axhline(y, color=color, linewidth=0.8, linestyle="-", alpha=0.6, zorder=1)
    bounds = _draw_bounds(ax, diagram, axis)
    ax.set_xscale("log")
    ax.set_xlim(rates[0], rates[-1])
    axis.set_up(ax, vertical=True)
    ax.set_xlabel("learning rate")
    ax.set_ylabel(f"last {values.shape[1]} values of {axis.parameter.label}")
    dot = Line2D([], [], marker="o", linestyle="", color=INK, markersize=3, label="value of a run")
    legend_beside(ax, [dot, *handles, *points, *bounds, *_outside_note(axis, values)])


def _outside_note(axis: ParameterAxis, values: FloatArray) -> list[Line2D]:
    """A legend entry that says that some values cannot be seen, if that is so."""
    if axis.period is not None or not ((values < axis.low) | (values > axis.high)).any():
        return []
    words = f"values outside {axis.show(axis.low)} to {axis.show(axis.high)}\nare not drawn"
    return [Line2D([], [], linestyle="", label=words)]


def _look(point: CriticalPoint) -> tuple[str, str]:
    return (TARGET_COLOR, "target") if point.is_target else ("#0072B2", "minimum at")


def _draw_bounds(ax: Axes, diagram: Bifurcation, axis: ParameterAxis) -> list[Line2D]:
    """Draws the stability bound of every minimum, labelled above the axes in rows without overlap.

    Returns:
        The legend entry that explains the formula, if there is a bound.
    """
    low, high = diagram.lrs[[0, -1]].tolist()
    ends: list[float] = []
    bounds = [
        (theory, point)
        for theory, point in diagram.bounds
        if not theory.entry.is_estimate and low <= theory.bound <= high
    ]
    for theory, point in sorted(bounds, key=lambda pair: pair[0].bound):
        lr, formula = theory.bound, theory.entry.formula
        color, _ = _look(point)
        ax.axvline(lr, color=color, linewidth=1.4, linestyle="--", zorder=3)
        place = "the target" if point.is_target else axis.show(point.value)
        share = np.log(lr / low) / np.log(high / low)
        words = f"{formula} at {place}: {show_number(lr)}"
        half = _HALF_LETTER * len(words) / current_sheet().axes_width()
        row = next((i for i, end in enumerate(ends) if share - half > end), len(ends))
        ends[row : row + 1] = [share + half]
        ax.text(
            lr,
            1.015 + 0.045 * row,
            words,
            transform=ax.get_xaxis_transform(),
            ha="left" if share < half else "right" if share > 1 - half else "center",
            va="bottom",
            fontsize=9,
            color=color,
        )
    label = (
        "stability bound: above it the\nminimum is unstable (L″: second\nderivative of the loss)"
    )
    return [Line2D([], [], color=INK, linestyle="--", label=label)] if bounds else []


def _draw_bands(ax: Axes, diagram: Bifurcation) -> list[Patch]:
    handles = {}
    diverged = diagram.outcomes == CODES["nonfinite"]
    kinds = [
        "nonfinite" if bad else kind for bad, kind in zip(diverged, diagram.kinds, strict=True)
    ]
    for kind, low, high in merged_bands(diagram.lrs, kinds):
        color, hatch = BAND_STYLES[kind]
        band = ax.axvspan(low, high, zorder=0, facecolor=color, hatch=hatch, edgecolor="white")
        band.set_linewidth(0)
        handles[kind] = Patch(facecolor=color, hatch=hatch, edgecolor="white", linewidth=0)
        handles[kind].set_label(_band_words(kind, diagram))
    return [handles[kind] for kind in BAND_STYLES if kind in handles]


def _band_words(kind: str, diagram: Bifurcation) -> str:
    chaos = "chaos: no period,\nexponent above 0"
    if not np.isfinite(diagram.lyapunov).any():
        chaos = "no period found"
    return {
        "settled": "converges",
        "cycle": "repeats a cycle",
        "chaos": chaos,
        "other": "neither: no period,\nexponent not above 0",
        "nonfinite": "diverges (NaN or infinity)",
    }[kind]


def merged_bands(rates: FloatArray, kinds: Sequence[str]) -> list[tuple[str, float, float]]:
    """Returns the stretches of equal behaviour without gaps and without slivers too thin to see.

    The smallest sliver is merged into its wider neighbour until none is left.

    Args:
        rates: Learning rates, ascending (l,).
        kinds: Behaviour at each of them (l,).
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
    joined = [bands[0]]
    for kind, low, high in bands[1:]:
        if joined[-1][0] == kind:
            joined[-1][2] = high
        else:
            joined.append([kind, low, high])
    return joined


def _draw_exponent(ax: Axes, diagram: Bifurcation) -> None:
    rates, exponents = diagram.lrs, diagram.lyapunov
    _draw_bands(ax, diagram)
    ax.axhline(0, color=FAINT, linewidth=1.0)
    ax.set_xscale("log")
    ax.set_xlim(rates[0], rates[-1])
    ax.set_xlabel("learning rate")
    ax.set_ylabel("Lyapunov exponent\nper step")
    finite = exponents[np.isfinite(exponents)]
    if len(finite) == 0:
        ax.text(
            0.5,
            0.6,
            "not defined for this optimizer or these runs",
            transform=ax.transAxes,
            ha="center",
            path_effects=halo(4),
        )
        ax.set_yticks([0.0])
        return
    ax.plot(rates, exponents, color=INK, linewidth=0.9)
    # A superstable cycle's exponent is minus infinity but for rounding: the axis stops short of it.
    top = max(float(finite.max()), 0.2)
    ax.set_ylim(max(float(finite.min()), -3 * top) - 0.1 * top, 1.15 * top)
    above = ax.fill_between(
        rates, 0, np.where(exponents > 0, exponents, 0.0), color=OUTCOME_COLORS["erratic"]
    )
    above.set_alpha(0.5)
    above.set_label("above 0: chaos, nearby runs\ndiverge from each other")
    legend_beside(ax, [above])
