"""A plane through all weights of a network: contours with the run's path, and how true they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure

from gabordiag.presentation.colors import INK, JUMP_COLOR, PALE, RUN_STYLES
from gabordiag.presentation.figures import surface
from gabordiag.presentation.figures.axis import ParameterAxis
from gabordiag.presentation.figures.sheets import fit_title, name_panels
from gabordiag.presentation.figures.style import entry, halo, legend_beside, new_figure
from gabordiag.results import View
from gabordiag.wording import spoken


def network_figure(view: View) -> Figure:
    """Draws the contours, and the path in the colours of the losses that the run had."""
    with new_figure(9.0, 6.6) as figure:
        ax = figure.subplots()
        contours, handles = _draw(ax, view)
        surface.draw_bar(figure, contours, ax, "loss", pad=0.02, aspect=30)
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        figure.suptitle(_title(view))
    return figure


def space_figure(view: View) -> Figure:
    """Draws the plane as a surface in space, with the path at its true losses above or below it."""
    table = view.data["surface.npz"]
    plane, levels = _plane(view)
    with new_figure(9.6, 7.4) as figure:
        ax = plane.draw_in_space(figure, levels, "loss")
        (x, y), ends = table["path"].T, np.stack([table["path_loss"], table["path_drawn"]])
        true, drawn = np.minimum(ends, levels[-1])
        ax.plot(x, y, true, "o-", color=INK, markersize=4, zorder=5)
        for at in range(len(x)):
            ax.plot([x[at]] * 2, [y[at]] * 2, [true[at], drawn[at]], color=JUMP_COLOR, zorder=4)
        look: dict[str, Any] = {"color": INK, "marker": "o", "markersize": 4}
        path = entry("the path at its true losses", **look)
        apart = entry("to the surface", color=JUMP_COLOR)
        figure.legend(handles=[path, apart], loc="outside lower center", ncols=2)
        figure.suptitle(_title(view))
    return figure


def draw_network(ax: Axes, view: View) -> None:
    """Draws the contours and the path with a title and a legend into one Axes."""
    legend_beside(ax, _draw(ax, view)[1])
    ax.set_title(fit_title(_title(view)), fontsize=10)


def _title(view: View) -> str:
    result = view.result
    return (
        f"This picture {spoken(result['verdict'])}: "
        f"it holds {result['captured']:.1%} of the path's variance"
    )


def _plane(view: View) -> tuple[surface.Plane, Any]:
    table, result = view.data["surface.npz"], view.result
    words = zip(result["axes"], result["ranges"], strict=True)
    x, y = (ParameterAxis.over(name, low, high, None, "") for name, (low, high) in words)
    finite = table["loss"][np.isfinite(table["loss"])]
    return surface.Plane.of(x, y, table), surface.loss_levels(finite)


def _draw(ax: Axes, view: View) -> tuple[QuadContourSet, list[Any]]:
    table, (plane, levels) = view.data["surface.npz"], _plane(view)
    contours = plane.draw(ax, levels, lines=True)
    path, true = table["path"], np.clip(table["path_loss"], levels[0], levels[-1])
    ax.plot(*path.T, color=INK, linewidth=1.0, path_effects=halo(2.0), zorder=4)
    look: dict[str, Any] = {"edgecolors": INK, "linewidths": 0.8, "s": 26, "zorder": 5}
    look |= {"c": true, "cmap": surface.LOSS_COLORS, "norm": surface.loss_norm(levels)}
    ax.scatter(path[:, 0], path[:, 1], **look)
    ax.plot(*path[0], **surface.mark_style("start"), zorder=6)
    end: dict[str, Any] = {"marker": "s", "color": JUMP_COLOR, "markersize": 8, "linestyle": ""}
    ax.plot(*path[-1], **end, zorder=6)
    dot: dict[str, Any] = {"marker": "o", "markerfacecolor": PALE, "markeredgecolor": INK}
    path_entry = entry("the path, in the colour of its true loss", color=INK, **dot)
    start = entry("start", **surface.mark_style("start"))
    return contours, [path_entry, start, entry("end", **end)]


def path_figure(view: View) -> Figure:
    """Draws the true loss along the path and the one drawn, and the variance by direction."""
    table, result = view.data["surface.npz"], view.result
    with new_figure(9.0, 6.0) as figure:
        above, below = figure.subplots(2, 1)
        name_panels((above, below), ("along", "variance"))
        steps, color = table["steps"], RUN_STYLES[0][0]
        above.plot(steps, table["path_loss"], color=color, label="the run's loss")
        drawn: dict[str, Any] = {"color": JUMP_COLOR, "linestyle": "--"}
        above.plot(steps, table["path_drawn"], label="as the plane draws it", **drawn)
        worst = result["worst"]
        ends = [worst["true"], worst["drawn"]]
        if None not in ends:
            above.plot([worst["step"]] * 2, ends, color=INK, linewidth=1.0, label="worst")
        above.set(xlabel="step", ylabel="loss")
        legend_beside(above)
        shares = 100 * np.cumsum(result["variance"])
        below.bar(np.arange(1, len(shares) + 1), 100 * np.array(result["variance"]), color=PALE)
        below.plot(np.arange(1, len(shares) + 1), shares, "o-", color=color, label="summed up")
        below.axhline(100 * result["captured"], label="in this plane", **drawn)
        below.set(xlabel="main direction of the path", ylabel="variance [%]", ylim=(0, 105))
        legend_beside(below)
        figure.suptitle("The loss along the run and as drawn; how many directions the path takes")
    return figure


def barriers_figure(view: View) -> Figure:
    """Draws the loss along each straight line, and what a barrier is measured from."""
    table, lines = view.data["lines.npz"], view.result["lines"]
    with new_figure(9.0, 0.6 + 2.8 * len(lines)) as figure:
        axes = list(figure.subplots(len(lines), 1, squeeze=False)[:, 0])
        name_panels(axes, [f"line-{index}" for index in range(len(lines))])
        for index, (ax, line) in enumerate(zip(axes, lines, strict=True)):
            t, loss = table[f"t-{index}"], table[f"loss-{index}"]
            ax.plot(t, loss, ".-", color=RUN_STYLES[0][0], label="loss")
            ax.plot(t[[0, -1]], loss[[0, -1]], ":", color=INK, label="between the ends")
            if line["barrier"] is not None and line["barrier"] > (line["error"] or 0):
                foot = np.interp(line["at"], t[[0, -1]], loss[[0, -1]])
                ends = [foot, foot + line["barrier"]]
                ax.plot([line["at"]] * 2, ends, color=JUMP_COLOR, label="barrier")
            ax.set(xlabel=f"t, from {line['from']} to {line['to']}", ylabel="loss")
            legend_beside(ax)
        figure.suptitle("The loss along straight lines between weights")
    return figure
