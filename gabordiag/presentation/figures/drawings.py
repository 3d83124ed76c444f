"""The figures: one for every kind of result, all drawn from what a run folder holds.

Every figure is drawn from a `View`, the JSON and the saved arrays of a result; nothing is computed
but units, wrapping and layout. Whatever the caller has set in matplotlib stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gabordiag.diagnosis.verdict import Diagnosis
from gabordiag.dynamics.bifurcation import Bifurcation
from gabordiag.dynamics.maps import Basins
from gabordiag.dynamics.plane import PlaneBasins
from gabordiag.dynamics.run import Optimization, Run
from gabordiag.landscape.surface import Surface
from gabordiag.landscape.sweep import Sweep
from gabordiag.presentation.figures.axis import ParameterAxis
from gabordiag.presentation.figures.bifurcation import bifurcation_figure, draw_attractor
from gabordiag.presentation.figures.joint import (
    draw_joint_runs,
    draw_plane_map,
    pairs_figure,
    plane_figure,
    plane_words,
)
from gabordiag.presentation.figures.landscape import draw_landscape, mark_values
from gabordiag.presentation.figures.map_labels import write_map_labels
from gabordiag.presentation.figures.maps import (
    basins_figure,
    basins_words,
    draw_map,
    map_axis,
    outcome_handles,
)
from gabordiag.presentation.figures.paths import draw_runs
from gabordiag.presentation.figures.run_paths import path_of, runs_title
from gabordiag.presentation.figures.runs import comparison_figure, draw_losses, optimize_figure
from gabordiag.presentation.figures.style import (
    OUTCOME_COLORS,
    drawing,
    finish,
    legend_beside,
    new_figure,
    render,
    save,
)
from gabordiag.presentation.figures.surface import (
    draw_contours,
    mark_points,
    surface_figure,
    surface_in_space_figure,
    surface_words,
)
from gabordiag.presentation.figures.sweep import sweep_figure
from gabordiag.results import Result, View

__all__ = [
    "OUTCOME_COLORS",
    "basins_figure",
    "bifurcation_figure",
    "comparison_figure",
    "notebook_png",
    "optimize_figure",
    "pairs_figure",
    "plane_figure",
    "plot",
    "render",
    "save",
    "surface_figure",
    "surface_in_space_figure",
    "sweep_figure",
]


def plot(result: Result, ax: Axes | None = None) -> Axes:
    """Draws a result into one Axes and returns it.

    A sweep shows the loss with its critical points; a surface, its contours; several runs, their
    paths on the landscape; one run, its loss; basins, the map; a bifurcation, the attractor. Runs
    of two parameters show their paths on the plane, of more, their losses.

    Args:
        result: A `Sweep`, `Surface`, `Optimization`, `Run`, `Basins`, `Bifurcation`,
            `Diagnosis` or `PlaneBasins`.
        ax: Axes to draw into; a new figure's without.

    Raises:
        TypeError: Another kind of result, of which there is no drawing.
    """
    draw = _drawer(result)
    if draw is None:
        known = ", ".join(kind.__name__ for kind in _DRAWERS)
        raise TypeError(f"no drawing of a {type(result).__name__}; there are drawings of {known}.")
    with drawing():
        if ax is None:
            figure = new_figure(9.0, 4.6)
            ax = figure.subplots()
            draw(ax, result)
            finish(figure)
        else:
            draw(ax, result)
        if isinstance(result, Basins):
            view = result.view()
            write_map_labels(ax, map_axis(view), view)
    return ax


def notebook_png(result: Result) -> bytes | None:
    """Returns what a notebook shows of a result: a PNG, or None where there is no drawing."""
    if _drawer(result) is None:
        return None
    figure = plot(result).figure
    return render(figure) if isinstance(figure, Figure) else None


_Drawer = Callable[[Axes, Any], None]


def _drawer(result: Result) -> _Drawer | None:
    return next((draw for kind, draw in _DRAWERS.items() if isinstance(result, kind)), None)


def _plot_sweep(ax: Axes, result: Sweep) -> None:
    view = result.view()
    axis = ParameterAxis.of(view.result)
    table, images = view.data["sweep.csv"], view.data.get("images.npz")
    start = view.result["start"]
    entries = draw_landscape(ax, axis, view.result, table, start=start, images=images)
    axis.set_up(ax)
    legend_beside(ax, entries)


def _plot_surface(ax: Axes, result: Surface) -> None:
    view = result.view()
    draw_contours(ax, view)
    ax.set_title(surface_words(view.result), fontsize=10)
    legend_beside(ax, mark_points(ax, view))


def _plot_runs(ax: Axes, result: Optimization) -> None:
    draw = draw_runs if result.sweep is not None else draw_joint_runs
    legend_beside(ax, draw(ax, result.view()))


def _plot_run(ax: Axes, result: Run) -> None:
    if result.landscape is None:
        raise TypeError("a single run of several parameters has no drawing; plot the result of all")
    landscape = result.landscape.to_dict() | {"loss": result.loss_name}
    table = result.trajectory.to_table([landscape["parameter"]])
    path = path_of(result.to_dict(), table, landscape["parameter"])
    draw_losses(ax, landscape, [path], (0, max(1, len(result.trajectory) - 1)))
    ax.set_title(runs_title(ParameterAxis.of(landscape), [path]), fontsize=10)


def _plot_diagnosis(ax: Axes, result: Diagnosis) -> None:
    view = result.view()
    if result.sweep is None:
        legend_beside(ax, draw_joint_runs(ax, view))
        return
    runs = {"runs": [view.result["run"]], "landscape": view.result["landscape"]}
    legend_beside(ax, draw_runs(ax, View(runs, view.data)))


def _plot_basins(ax: Axes, result: Basins) -> None:
    view = result.view()
    landscape = view.result["landscape"]
    draw_map(ax, view)
    ends = {"target": landscape["target"], "start": view.result["start"]}
    mark_values([], map_axis(view), outlined=[ax], **ends)
    ax.set_title(basins_words(view)[0], fontsize=10, pad=20)
    legend_beside(ax, outcome_handles(view.data["basins.npz"]))


def _plot_plane(ax: Axes, result: PlaneBasins) -> None:
    view = result.view()
    marks = draw_plane_map(ax, view)
    ax.set_title(plane_words(view.result), fontsize=10)
    legend_beside(ax, [*outcome_handles(view.data["basins.npz"]), *marks])


def _plot_bifurcation(ax: Axes, result: Bifurcation) -> None:
    legend_beside(ax, draw_attractor(ax, result.view()))


_DRAWERS: dict[type[Result], _Drawer] = {
    Sweep: _plot_sweep,
    Surface: _plot_surface,
    Optimization: _plot_runs,
    Run: _plot_run,
    Basins: _plot_basins,
    Bifurcation: _plot_bifurcation,
    Diagnosis: _plot_diagnosis,
    PlaneBasins: _plot_plane,
}
