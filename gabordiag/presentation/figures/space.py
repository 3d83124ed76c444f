"""Several parameters at once: runs on the plane of every pair, and a map over a plane of starts.

More than two dimensions cannot be drawn: every pair of parameters has its plane through the first
run's end, and all runs are seen from above on it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator

from gabordiag.objective.space import FloatArray
from gabordiag.presentation.colors import INK
from gabordiag.presentation.figures import run_paths, surface
from gabordiag.presentation.figures.axis import ParameterAxis
from gabordiag.presentation.figures.maps import cell_edges, outcome_handles, outcome_mesh
from gabordiag.presentation.figures.runs import draw_losses, is_crowded, window_words
from gabordiag.presentation.figures.sheets import current_panel, current_sheet, fit_title
from gabordiag.presentation.figures.style import entry, halo, legend_beside, new_figure
from gabordiag.presentation.phrases import run_settings, share_words
from gabordiag.results import View

# Farther than so many windows away nothing is drawn.
_FAR = 1e3
# Steps of a run that does not settle.
_STEPS: dict[str, Any] = {"marker": "o", "linestyle": "", "markersize": 4}
_STEPS |= {"markeredgecolor": "white", "markeredgewidth": 0.5}
_START = {**surface.mark_style("start"), "markersize": 8, "zorder": 6}
# Contours over a map of outcomes, at most about twice so many.
_LOSS_LINES = 12


def pairs_figure(runs: run_paths.Runs) -> Figure:
    """Draws runs of several parameters on the plane of every pair, and their losses."""
    planes, paths, sheet, count = runs.planes, runs.paths, current_sheet(), len(runs.planes)
    across = min(count, 3)
    if sheet.is_narrow:
        across = min(count, 2)
    elif sheet.is_wide:
        across = {1: 1, 3: 2, 6: 3}.get(count, min(count, 4))
    down = -(-count // across)
    is_beside = sheet.is_wide or (count == 1 and not sheet.is_narrow)
    height = 5.0 if is_beside else 2.9 + (2.9 if across == 3 else 2.6) * down + 0.6
    with new_figure(10.0, height) as figure:
        if is_beside:
            grid = figure.add_gridspec(1, 2, width_ratios=[1.0, 1.4 if count == 1 else 2.2])
        else:
            grid = figure.add_gridspec(2, 1, height_ratios=[1.7, 2.9 * down])
        _draw_losses(figure.add_subplot(grid[0], label="loss"), paths)
        cells = grid[1].subgridspec(down, across)
        grounds = [
            figure.add_subplot(cells[i // across, i % across], label=f"plane-{i}")
            for i in range(count)
        ]
        levels = surface.loss_levels(np.concatenate([plane.loss.ravel() for plane in planes]))
        for ax, plane in zip(grounds, planes, strict=True):
            contours = _draw_plane(ax, plane, levels, runs)
        bars = [ax for ax in grounds if ax.get_label() == current_panel()] or grounds
        name = paths[0].run["loss"]
        surface.draw_bar(figure, contours, bars, name, pad=0.015, aspect=25 * down)
        shown = {axis.name for plane in planes for axis in plane.axes}
        few = f", the {len(shown)} of {len(runs.axes)} parameters that moved most"
        figure.suptitle(space_title(runs) + (few if len(shown) < len(runs.axes) else ""))
        entries = [*_handles(paths), *_mark_handles(runs)]
        columns = 2 if len(paths) > 1 else len(entries)
        figure.legend(handles=entries, loc="outside lower left", ncols=columns)
    return figure


def plane_figure(view: View) -> Figure:
    """Draws which starts over two parameters reach the target, over the loss's contours."""
    result = view.result
    settings = f"{run_settings(result)}, {result['steps']} steps, from every point of the plane"
    with new_figure(9.2, 7.4) as figure:
        ax = figure.subplots()
        entries = draw_plane_map(ax, view, result["fractions"])
        figure.suptitle(plane_words(result))
        ax.set_title(fit_title(settings), fontsize=10)
        columns = 1 if current_sheet().is_narrow else 2
        figure.legend(handles=entries, loc="outside lower left", ncols=columns)
    return figure


def draw_plane(ax: Axes, view: View) -> None:
    """Draws a map over a plane of starts into one Axes, with a title and a legend."""
    ax.set_title(plane_words(view.result), fontsize=10)
    legend_beside(ax, draw_plane_map(ax, view))


def draw_space_runs(ax: Axes, runs: run_paths.Runs) -> None:
    """Draws runs into one Axes: two parameters on their plane, others by loss against step."""
    entries = _handles(runs.paths)
    if len(runs.planes) == 1:
        _draw_plane(ax, runs.planes[0], surface.loss_levels(runs.planes[0].loss), runs)
        entries += _mark_handles(runs)
    else:
        _draw_losses(ax, runs.paths)
    ax.set_title(space_title(runs), fontsize=10)
    legend_beside(ax, entries)


def _draw_losses(ax: Axes, paths: Sequence[run_paths.RunPath]) -> None:
    whole = (0, max(1, int(max(path.steps[-1] for path in paths))))
    draw_losses(ax, None, paths, whole)
    if is_crowded(paths, whole) and any(path.is_restless for path in paths):
        ax.set_title(window_words(whole, 1, paths), fontsize=10)


def _handles(paths: Sequence[run_paths.RunPath]) -> list[Line2D]:
    if len(paths) > 1:
        return run_paths.run_handles(None, paths)
    return [entry("the run", color=paths[0].look.color, linestyle=paths[0].look.line)]


def draw_plane_map(ax: Axes, view: View, fractions: Mapping[str, float] | None = None) -> list[Any]:
    """Draws outcomes with the loss's contours, minima and target into one Axes.

    Returns the legend entries; the outcomes', with their shares where those are given.
    """
    under, grid = view.result["surface"], view.data["basins.npz"]
    plane = surface.Plane.of_surface(View(under, view.data))
    outcomes = codes = np.asarray(grid["outcome"])
    a, codes = _closed(plane.x, np.asarray(grid["a"], dtype=np.float64), codes)
    b, turned = _closed(plane.y, np.asarray(grid["b"], dtype=np.float64), codes.T)
    outcome_mesh(ax, cell_edges(a * plane.x.scale), cell_edges(b * plane.y.scale), turned)
    levels = surface.loss_levels(plane.loss)
    levels = levels[:: max(1, len(levels) // _LOSS_LINES)]
    for color, width, alpha in (("white", 1.8, 0.35), (INK, 0.6, 0.75)):
        lines: dict[str, Any] = {"colors": color, "linewidths": width, "alpha": alpha}
        ax.contour(plane.a, plane.b, plane.loss.T, levels=levels, **lines)
    plane.set_up(ax)
    ax.set_xlabel("start: " + plane.x.parameter.label)
    ax.set_ylabel("start: " + plane.y.parameter.label)
    # Minima, target and start only: on a map of outcomes more would hide it.
    shown = View({**under, "saddles": [], "edge_minima": []}, view.data)
    marks = surface.mark_points(ax, shown, arrows=False)
    line = entry("lines of equal loss", color=INK, linewidth=0.8)
    return [*outcome_handles(outcomes, fractions), *marks, line]


def plane_words(result: Mapping[str, Any]) -> str:
    """Returns what a plane of starts shows, in a sentence."""
    first, second = result["parameters"]
    share = share_words(result["reached_share"]).capitalize()
    return f"{share} of the starts over {first} and {second} reach the target"


def space_title(runs: run_paths.Runs) -> str:
    """Returns how the runs ended, in a line."""
    if len(runs.paths) > 1:
        return run_paths.several_words(runs.paths)
    (path,) = runs.paths
    is_turned = path.run["outcome"] == "reached" and runs.turned(path.run)
    words = "reaches a copy of the target, the same filter, and stays" if is_turned else None
    return f"{run_settings(path.run)}: {run_paths.end_words(path, words)}"


def _draw_plane(
    ax: Axes, plane: surface.Plane, levels: FloatArray, runs: run_paths.Runs
) -> QuadContourSet:
    for path in runs.paths:
        _draw_path(ax, plane, path)
    return draw_ground(ax, plane, levels, runs)


def draw_ground(
    ax: Axes, plane: surface.Plane, levels: FloatArray, runs: run_paths.Runs
) -> QuadContourSet:
    """Draws what the runs move on: the loss and the target."""
    contours = plane.draw(ax, levels)
    for x, y, is_target in _targets(runs, plane):
        ax.plot([x], [y], clip_on=False, zorder=4, **_target_style(is_target))
    if plane.x.parameter.is_angle and plane.x.limits[1] - plane.x.limits[0] > 180:
        # In a part of the sheet there is no room for a label every 45 degrees.
        sheet = current_sheet()
        ax.xaxis.set_major_locator(MultipleLocator(180 if sheet.is_narrow or sheet.is_wide else 90))
        ax.xaxis.set_minor_locator(MultipleLocator(45))
    return contours


def _draw_path(ax: Axes, plane: surface.Plane, path: run_paths.RunPath) -> None:
    """Draws a run: one that settles as a line; of a restless one the first steps, then points."""
    axes = plane.axes
    values = [np.asarray(path.table[axis.name], dtype=np.float64) for axis in axes]
    x, y = broken_at_wraps(axes, values)
    style: dict[str, Any] = {"color": path.look.color, "zorder": 5}
    if path.is_restless:
        ax.plot(x, y, **_STEPS, **style)
        early = broken_at_wraps(axes, [column[: run_paths.PATH_STEPS + 1] for column in values])
        ax.plot(*early, linewidth=0.8, path_effects=halo(1.8), **style)
    else:
        line: dict[str, Any] = {"linestyle": path.look.line, "path_effects": halo(2.6)}
        ax.plot(x, y, linewidth=1.6, **line, **style)
    # The first and the last finite point, where the window shows them.
    seen = np.flatnonzero(np.isfinite(values[0]) & np.isfinite(values[1]))
    looks = (_START, _end_style(path.look.color))
    for at, mark in zip(seen[[0, -1]] if len(seen) else (), looks, strict=False):
        spots = [axis.copies(float(v[at]))[:1] for axis, v in zip(axes, values, strict=True)]
        if all(spots):
            ax.plot(*spots, clip_on=False, **mark)


def broken_at_wraps(
    axes: Sequence[ParameterAxis], values: Sequence[FloatArray]
) -> tuple[FloatArray, ...]:
    """Returns both columns folded into the window, with a gap wherever one of them wraps."""
    pairs = [axis.folded(column, _FAR) for axis, column in zip(axes, values, strict=True)]
    columns, turned = zip(*pairs, strict=True)
    at = np.flatnonzero(np.any(turned, axis=0)) + 1
    return tuple(np.insert(column, at, np.nan) for column in columns)


def _targets(runs: run_paths.Runs, plane: surface.Plane) -> Iterator[tuple[float, float, bool]]:
    """Yields the places in the window of the target, and of the copies that runs are nearest to."""
    target = runs.result["target"]
    if target is None:
        return
    own: list[tuple[float, float]] = []
    # The target first: a copy that falls on it in this plane is not seen.
    copies = (run["target_copy"] for run in runs.runs if runs.turned(run))
    for point in (target, *copies):
        x_copies, y_copies = (axis.copies(point[axis.name]) for axis in plane.axes)
        spots = list(itertools.product(x_copies, y_copies))
        if point is target:
            own = spots
        for x, y in spots:
            if point is target or not any(np.allclose((x, y), at, atol=1e-6) for at in own):
                yield x, y, point is target


def _target_style(is_target: bool) -> dict[str, Any]:
    style = {**surface.mark_style("target"), "markersize": 19}
    if not is_target:
        style |= {"markerfacecolor": "white", "markeredgecolor": style["markerfacecolor"]}
    return style


def _end_style(color: str) -> dict[str, Any]:
    look: dict[str, Any] = {"markersize": 6.5, "markeredgecolor": "white", "zorder": 7}
    return {"marker": "s", "color": color, "linestyle": "", **look}


def _mark_handles(runs: run_paths.Runs) -> list[Line2D]:
    paths, is_one = runs.paths, len(runs.paths) == 1
    color = paths[0].look.color if is_one else INK
    handles = []
    if any(path.is_restless for path in paths):
        whose = "steps" if is_one else "steps of a run that jumps"
        words = f"{whose}, the first {run_paths.PATH_STEPS} joined where they do not wrap"
        handles.append(entry(words, color=color, **_STEPS))
    words = "end" if is_one else "end of a run"
    axes = [axis for plane in runs.planes for axis in plane.axes]
    if is_one and not all(axis.copies(paths[0].run["final"][axis.name]) for axis in axes):
        words = "end (outside some planes)" if len(runs.planes) > 1 else "end (outside the plane)"
    handles += [entry("start", **_START), entry(words, **_end_style(color))]
    if runs.result["target"] is not None:
        handles.append(entry(runs.goal_name, **_target_style(True)))
    drawn = itertools.chain.from_iterable(_targets(runs, plane) for plane in runs.planes)
    if not all(is_target for _, _, is_target in drawn):
        handles.append(entry("copy of the target: the same filter", **_target_style(False)))
    return handles


def _closed(
    axis: ParameterAxis, centres: FloatArray, codes: npt.NDArray[Any]
) -> tuple[FloatArray, npt.NDArray[Any]]:
    """Repeats the first cells of a whole period at its other end, which is the same place."""
    if axis.period is None or centres[-1] - centres[0] > 0.999999 * axis.period:
        return centres, codes
    return np.append(centres, centres[0] + axis.period), np.concatenate([codes, codes[:1]])
