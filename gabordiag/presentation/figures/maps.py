"""The map of outcomes: where every start ends at every learning rate.

It stands under its landscape, on the same axis, so that regions and basins can be compared; the
column of the start, too thin to be seen in the map, is drawn again beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from gabordiag.dynamics.outcomes import OUTCOMES
from gabordiag.presentation.figures.axis import (
    FloatArray,
    ParameterAxis,
    goal_name,
    goal_point,
    loss_label,
    own_attractor,
)
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
    new_figure,
    show_number,
)
from gabordiag.presentation.phrases import how_else
from gabordiag.results import View


def basins_figure(view: View) -> Figure:
    """Draws the map of outcomes under its landscape.

    Args:
        view: Of a `Basins`; needs `basins.npz` and `sweep.csv`.
    """
    result, grid = view.result, view.data["basins.npz"]
    landscape = result["landscape"]
    axis = map_axis(view)
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
        draw_basins(loss, axis, landscape)
        draw_loss(loss, axis, view.data["sweep.csv"])
        points = mark_critical_points(loss, axis, landscape)
        loss.set_ylabel(loss_label(landscape))
        draw_map(ground, view)
        ground.set_ylabel(f"learning rate ({setting_words(result)})")
        ends = {"target": landscape["target"], "start": result["start"]}
        mark_values([loss], axis, outlined=[ground], **ends)
        _draw_strip(strip, axis, view)
        loss.tick_params(labelbottom=False)
        figure.align_ylabels([loss, ground])
        headline, reason = basins_words(view)
        figure.suptitle(headline, x=0.01, ha="left")
        loss.set_title(fit_title(reason), pad=24, fontsize=10)
        figure.legend(
            handles=[*outcome_handles(grid, result.get("fractions")), *points],
            loc="outside lower left",
            ncols=2,
        )
        finish(figure)
        write_map_labels(ground, map_axis(view), view)
        return figure


def map_axis(view: View) -> ParameterAxis:
    """Returns the axis of the starts."""
    starts = view.data["basins.npz"]["starts"]
    low, high = float(starts[0]), float(starts[-1])
    landscape = view.result["landscape"]
    return ParameterAxis.of(landscape, (low, high) if high > low else None)


def basins_words(view: View) -> tuple[str, str]:
    """Returns what the map shows, in a sentence, and why, in another."""
    result, axis = view.result, map_axis(view)
    start, working = axis.show(result["start"]), result["working_lr"]
    goal = goal_name(result["landscape"])
    if not working:
        headline = f"No scanned learning rate brings the run from {start} to the {goal}"
    else:
        low, high = show_number(working[0][0]), show_number(working[-1][1])
        gaps = "" if len(working) == 1 else ", with gaps"
        headline = f"From {start} the {goal} is reached at learning rates {low} to {high}{gaps}"
    return headline, _reason(result, axis, goal)


def _reason(result: Mapping[str, Any], axis: ParameterAxis, goal: str) -> str:
    escape, hold = result["escape_lr"], result["hold_lr"]
    own = own_attractor(axis, result["landscape"], result["start"])
    if hold is None:
        return f"At no scanned rate does the {goal}'s basin hold its runs"
    holds = f"the {goal}'s basin holds up to {show_number(hold)}"
    if own is not None and own is goal_point(result["landscape"]):
        return f"The start lies in the {goal}'s basin; {holds}{_failures(result)}"
    if escape is None:
        return f"No scanned rate leaves the start's basin; {holds}"
    factor = f", {show_number(escape / hold, 2)} times less" if escape > hold else ""
    return (
        f"Leaving the start's basin takes a rate of {show_number(escape)} or more; {holds}{factor}"
    )


def _failures(result: Mapping[str, Any]) -> str:
    """Returns what goes wrong on either side, where nothing keeps the start from the target."""
    below, above = result["failure_below"], result["failure_above"]
    if result["working_lr"] or above is None:
        return ""
    if below in (None, above):
        return f".\nAt every rate the run fails: {OUTCOMES[above]}"
    return f".\nSmaller rates: {OUTCOMES[below]}; larger rates: {OUTCOMES[above]}"


def setting_words(result: Mapping[str, Any]) -> str:
    """Returns optimizer and steps in words."""
    return ", ".join([str(result["optimizer"]), *how_else(result), f"{result['steps']} steps"])


def outcome_handles(
    grid: Mapping[str, npt.NDArray[Any]], fractions: Mapping[str, float] | None = None
) -> list[Patch]:
    """Returns legend entries in words for the outcomes that occur in a map."""
    names = [str(name) for name in grid["outcome_names"]]
    handles = []
    for code in np.unique(grid["outcome"]).tolist():
        share = (fractions or {}).get(names[code])
        note = "" if share is None else f" ({_percent(share)} of the map)"
        handles.append(
            Patch(
                facecolor=OUTCOME_COLORS[names[code]],
                edgecolor="#666666",
                linewidth=0.5,
                label=OUTCOMES[names[code]] + note,
            )
        )
    return handles


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%" if share >= 0.01 else "under 1%"


def draw_map(ax: Axes, view: View) -> QuadMesh:
    """Draws the map with the rates that matter into one Axes; `write_map_labels` names them."""
    grid, axis = view.data["basins.npz"], map_axis(view)
    starts = np.asarray(grid["starts"], dtype=np.float64) * axis.scale
    rates = np.asarray(grid["lr"], dtype=np.float64)
    mesh = outcome_mesh(
        ax, cell_edges(starts), np.exp(cell_edges(np.log(rates))), grid["outcome"], grid
    )
    ax.set_yscale("log")
    ax.set_ylim(rates[0], rates[-1])
    axis.set_up(ax)
    ax.set_xlabel("start: " + axis.label)
    ax.set_ylabel("learning rate")
    ax.grid(False)
    for line in rate_lines(view, axis):
        draw_rate_line(ax, axis, line)
    return mesh


def cell_edges(centres: FloatArray) -> FloatArray:
    """Returns the n + 1 edges of n cells around their centres."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    inner = (centres[1:] + centres[:-1]) / 2
    first, last = 2 * centres[0] - inner[0], 2 * centres[-1] - inner[-1]
    return np.concatenate([[first], inner, [last]])


def outcome_mesh(
    ax: Axes,
    x: FloatArray,
    y: FloatArray,
    codes: npt.NDArray[Any],
    grid: Mapping[str, npt.NDArray[Any]],
) -> QuadMesh:
    """Draws cells in their outcomes' colours.

    Args:
        ax: To draw into.
        x: Edges of the columns (n + 1,).
        y: Edges of the rows (m + 1,).
        codes: Of the outcomes (m, n).
        grid: With `outcome_names`, in the order of the codes.
    """
    colors = [OUTCOME_COLORS[str(name)] for name in grid["outcome_names"]]
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


def _draw_strip(ax: Axes, axis: ParameterAxis, view: View) -> None:
    """Draws the column of the start alone, wide enough to be read."""
    grid = view.data["basins.npz"]
    rates = np.asarray(grid["lr"], dtype=np.float64)
    column = np.asarray(grid["start_outcome"])[:, None]
    outcome_mesh(ax, np.array([0.0, 1.0]), np.exp(cell_edges(np.log(rates))), column, grid)
    ax.set_xlim(0, 1)
    ax.set_xticks([])
    ax.grid(False)
    ax.tick_params(left=False, labelleft=False, which="both")
    ax.set_xlabel(f"only\n{axis.show(view.result['start'])}", fontsize=9)
