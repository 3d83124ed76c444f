"""The atlas: what becomes of filters by their shape, with each loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from gabordiag.charting.atlas import MOST, Atlas, Chart
from gabordiag.objective.space import FloatArray
from gabordiag.presentation.colors import INK, JUMP_COLOR, ink_on
from gabordiag.presentation.figures.sheets import current_sheet, fit_title
from gabordiag.presentation.figures.style import new_figure
from gabordiag.wording import counted

# Map -> its title, colours, lowest and highest value, and how a cell's number is written.
_MAPS: dict[str, tuple[str, str, float, float | None, Callable[[float], str]]] = {
    "learned": ("learned from the start", "cividis", 0.0, 1.0, lambda v: f"{v:.0%}"),
    "arrive": ("starts that arrive at the best rate", "cividis", 0.0, 1.0, lambda v: f"{v:.0%}"),
    "spurious": ("minima besides the target", "magma_r", 0.0, None, lambda v: f"{v:.1f}"),
    "window_high": (
        "largest usable rate, natural units", "viridis", 0.0, 2.0, lambda v: f"{v:.2f}"
    ),
}  # fmt: skip
# What a page shows as well.
SHOWN = {name: text for name, (text, *_) in _MAPS.items()} | {
    "basin": "target's basin / period", "window_low": "smallest usable rate, natural units",
}  # fmt: skip
_ROWS, _COLUMNS = "gamma (aspect ratio)", "sigma / wavelength"
# Of one map.
_INCHES = (3.4, 2.9)


def atlas_figures(atlas: Atlas) -> dict[str, Callable[[], Figure]]:
    """Returns one figure for each phase."""
    phases = dict.fromkeys(chart.psi for chart in atlas.charts)
    return {
        f"atlas-{np.degrees(psi):.0f}deg" if place else "atlas": partial(_figure, atlas, psi)
        for place, psi in enumerate(phases)
    }


def _figure(atlas: Atlas, psi: float) -> Figure:
    charts = [chart for chart in atlas.charts if chart.psi == psi]
    shown = [(chart, name) for chart in charts for name in _MAPS]
    columns = 1 if current_sheet().is_narrow else len(_MAPS)
    rows = len(shown) // columns
    width, height = _INCHES
    with new_figure(width * columns, height * rows + 0.8) as figure:
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for ax, (chart, name) in zip(grid.flat, shown, strict=True):
            draw_chart(ax, chart, name)
            ax.set_title(fit_title(f"{chart.loss}: {_MAPS[name][0]}"), fontsize=10)
        for ax in grid[:, 0]:
            ax.set_ylabel(_ROWS)
        for ax in grid[-1]:
            ax.set_xlabel(_COLUMNS)
        images = counted(len(atlas.columns["image"]), "image", "images")
        figure.suptitle(
            f"Filters of phase {np.degrees(psi):.0f}° on {images}: inside the outline, more than "
            "half of the landscapes can be learned"
        )
    return figure


def draw_atlas(ax: Axes, atlas: Atlas) -> None:
    """Draws the first loss's learned share into one Axes."""
    chart = atlas.charts[0]
    draw_chart(ax, chart, "learned")
    ax.set(xlabel=_COLUMNS, ylabel=_ROWS)
    ax.set_title(fit_title(f"Images on which a filter is learned, with {chart.loss}"), fontsize=10)


def draw_chart(ax: Axes, chart: Chart, name: str) -> None:
    """Draws one map with its numbers, and the border of what most images can teach."""
    _, colors, low, high, show = _MAPS[name]
    values = chart.maps[name]
    if high is None:
        high = max(1.0, float(np.nanmax(values, initial=0.0)))
    rows = np.arange(len(chart.gammas) + 1) - 0.5
    look: dict[str, Any] = {"cmap": colors, "vmin": low, "vmax": high, "rasterized": True}
    mesh: Any = ax.pcolormesh(chart.edges, rows, values, **look)
    middles = np.sqrt(chart.edges[1:] * chart.edges[:-1])
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            ink = ink_on(to_hex(mesh.to_rgba(float(value))[:3]))
            at = (middles[column], row)
            ax.annotate(show(value), at, ha="center", va="center", fontsize=7, color=ink)
    if not np.isfinite(values).any():
        ax.annotate("none", (0.5, 0.5), xycoords="axes fraction", ha="center", va="center")
    _outline(ax, chart.edges, rows, chart.maps["learned"] > MOST)
    ax.set_xscale("log", base=2)
    ticks = [edge for edge in chart.edges if abs(np.log2(edge) - round(np.log2(edge))) < 1e-9]
    ax.xaxis.set(major_locator=FixedLocator(ticks), minor_locator=NullLocator())
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    ax.set_yticks(rows[:-1] + 0.5, [f"{gamma:.3g}" for gamma in chart.gammas])


def _outline(ax: Axes, edges: FloatArray, rows: Any, inside: Any) -> None:
    """Draws the edges between cells that are inside and those that are not."""
    around = np.pad(inside, 1)
    lines: list[Sequence[Any]] = []
    for row, column in np.argwhere(around[1:-1, 1:] != around[1:-1, :-1]):
        lines.append(([edges[column]] * 2, rows[row : row + 2]))
    for row, column in np.argwhere(around[1:, 1:-1] != around[:-1, 1:-1]):
        lines.append((edges[column : column + 2], [rows[row]] * 2))
    for x, y in lines:
        ax.plot(x, y, color=INK, linewidth=3.4, solid_capstyle="round", clip_on=False)
        ax.plot(x, y, color=JUMP_COLOR, linewidth=1.8, solid_capstyle="round", clip_on=False)
