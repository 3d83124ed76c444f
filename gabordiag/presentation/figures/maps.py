"""The map of outcomes: where every start ends at every learning rate.

It stands under its landscape, on the same axis, so that regions and basins can be compared; the
column of the start, too thin to be seen in the map, is drawn again beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from gabordiag.dynamics.maps import Basins
from gabordiag.dynamics.optimizers import OptimizerSettings
from gabordiag.dynamics.outcomes import OUTCOME_NAMES, OUTCOMES
from gabordiag.presentation.figures.axis import FloatArray, ParameterAxis, loss_label
from gabordiag.presentation.figures.landscape import (
    draw_basins,
    draw_loss,
    mark_critical_points,
    mark_values,
)
from gabordiag.presentation.figures.map_labels import draw_rate_line, rate_lines, write_map_labels
from gabordiag.presentation.figures.sheets import current_sheet, fit_title
from gabordiag.presentation.figures.style import (
    OUTCOME_COLORS,
    drawing,
    finish,
    legend_beside,
    new_figure,
)
from gabordiag.presentation.phrases import how_else
from gabordiag.presentation.rates import rate_words


def basins_figure(basins: Basins) -> Figure:
    """Draws the map of outcomes under its landscape."""
    sweep, axis = basins.sweep, map_axis(basins)
    with drawing():
        figure = new_figure(10.0, 8.8)
        axes = figure.subplots(
            2,
            2,
            height_ratios=[1.15, 3],
            width_ratios=[30, 2.4 if current_sheet().is_narrow else 1.3],
            sharex="col",
            sharey="row",
        )
        (loss, corner), (ground, strip) = axes
        corner.set_axis_off()
        draw_basins(loss, axis, sweep.landscape)
        draw_loss(loss, axis, sweep)
        points = mark_critical_points(loss, axis, sweep.landscape)
        loss.set_ylabel(loss_label(sweep.loss_name))
        draw_map(ground, basins)
        ground.set_ylabel(f"learning rate ({setting_words(basins.settings)})")
        mark_values([loss], axis, outlined=[ground], **_ends(basins))
        _draw_strip(strip, axis, basins)
        loss.tick_params(labelbottom=False)
        figure.align_ylabels([loss, ground])
        headline, reason = rate_words(basins, axis.show)
        figure.suptitle(headline, x=0.01, ha="left")
        loss.set_title(
            fit_title(reason.replace("; ", ";\n").replace(". ", ".\n")), pad=24, fontsize=10
        )
        figure.legend(
            handles=[*outcome_handles(basins.outcomes, basins.fractions), *points],
            loc="outside lower left",
            ncols=2,
        )
        finish(figure)
        write_map_labels(ground, axis, basins)
        return figure


def draw_map_alone(ax: Axes, basins: Basins) -> None:
    """Draws the map with its labels and legend into one Axes of any figure."""
    axis = map_axis(basins)
    draw_map(ax, basins)
    mark_values([], axis, outlined=[ax], **_ends(basins))
    ax.set_title(rate_words(basins, axis.show)[0], fontsize=10, pad=20)
    legend_beside(ax, outcome_handles(basins.outcomes))


def _ends(basins: Basins) -> dict[str, float | None]:
    return {"target": basins.sweep.landscape.parameter.target, "start": basins.windows.start}


def map_axis(basins: Basins) -> ParameterAxis:
    """Returns the axis of the starts."""
    low, high = basins.starts[[0, -1]].tolist()
    return ParameterAxis.of(basins.sweep.landscape.parameter, (low, high) if high > low else None)


def setting_words(settings: OptimizerSettings) -> str:
    """Returns optimizer and steps in words."""
    return ", ".join([settings.optimizer, *how_else(asdict(settings)), f"{settings.steps} steps"])


def outcome_handles(
    outcomes: npt.NDArray[Any], fractions: Mapping[str, float] | None = None
) -> list[Patch]:
    """Returns legend entries in words for the outcomes that occur in a map.

    Args:
        outcomes: Codes into `OUTCOME_NAMES`, of any shape.
        fractions: Share of each outcome by name, to be mentioned.
    """
    handles = []
    for code in np.unique(outcomes).tolist():
        name = OUTCOME_NAMES[code]
        share = (fractions or {}).get(name)
        note = "" if share is None else f" ({_percent(share)} of the map)"
        handles.append(
            Patch(
                facecolor=OUTCOME_COLORS[name],
                edgecolor="#666666",
                linewidth=0.5,
                label=OUTCOMES[name] + note,
            )
        )
    return handles


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share >= 0.01 else "under 1%"


def draw_map(ax: Axes, basins: Basins) -> None:
    """Draws the map with the rates that matter into one Axes; `write_map_labels` names them."""
    axis, rates = map_axis(basins), basins.lrs
    starts = cell_edges(basins.starts * axis.scale)
    outcome_mesh(ax, starts, np.exp(cell_edges(np.log(rates))), basins.outcomes)
    ax.set_yscale("log")
    ax.set_ylim(rates[0], rates[-1])
    axis.set_up(ax)
    ax.set_xlabel("start: " + axis.parameter.label)
    ax.set_ylabel("learning rate")
    ax.grid(False)
    for line in rate_lines(basins):
        draw_rate_line(ax, axis, line)


def cell_edges(centres: FloatArray) -> FloatArray:
    """Returns the n + 1 edges of n cells around their centres."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    inner = (centres[1:] + centres[:-1]) / 2
    first, last = 2 * centres[0] - inner[0], 2 * centres[-1] - inner[-1]
    return np.concatenate([[first], inner, [last]])


def outcome_mesh(ax: Axes, x: FloatArray, y: FloatArray, codes: npt.NDArray[Any]) -> QuadMesh:
    """Draws cells in their outcomes' colours.

    Args:
        ax: To draw into.
        x: Edges of the columns (n + 1,).
        y: Edges of the rows (m + 1,).
        codes: Of the outcomes, into `OUTCOME_NAMES` (m, n).
    """
    colors = [OUTCOME_COLORS[name] for name in OUTCOME_NAMES]
    return ax.pcolormesh(
        x,
        y,
        np.asarray(codes),
        cmap=ListedColormap(colors),
        vmin=-0.5,
        vmax=len(colors) - 0.5,
        rasterized=True,
        zorder=0,
    )


def _draw_strip(ax: Axes, axis: ParameterAxis, basins: Basins) -> None:
    """Draws the column of the start alone, wide enough to be read."""
    rates = np.exp(cell_edges(np.log(basins.lrs)))
    outcome_mesh(ax, np.array([0.0, 1.0]), rates, basins.windows.outcomes[:, None])
    ax.set_xlim(0, 1)
    ax.set_xticks([])
    ax.grid(False)
    ax.tick_params(left=False, labelleft=False, which="both")
    ax.set_xlabel(f"only\n{axis.show(basins.windows.start)}", fontsize=9)
