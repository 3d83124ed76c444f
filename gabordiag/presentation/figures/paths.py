"""Runs on their landscape: the path, step by step.

A run that converges is drawn whole. Of one that keeps jumping, a thousand arrows would be
unreadable: some steps are drawn, from shortly before the first jump on, and numbered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from gabordiag.presentation.figures.axis import ParameterAxis
from gabordiag.presentation.figures.landscape import axis_of, draw_landscape
from gabordiag.presentation.figures.run_paths import (
    MOST_NAMED,
    PATH_STEPS,
    Look,
    RunPath,
    Runs,
    run_handles,
)
from gabordiag.presentation.figures.style import INK, halo, legend_beside

# Steps of each of several restless runs that are drawn.
_STEPS_EACH = 8
# Points of the path that are numbered.
_NUMBERED = 9


def draw_runs(ax: Axes, runs: Runs) -> None:
    """Draws runs on their landscape, with a legend that names them."""
    legend_beside(ax, [*run_handles(axis_of(runs.ground), runs.paths), *draw_paths(ax, runs)])


def draw_paths(ax: Axes, runs: Runs) -> list[Any]:
    """Draws the runs on the landscape; returns the legend entries.

    A run that converges is drawn whole; of any other, some steps with arrows.
    """
    axis, paths = axis_of(runs.ground), runs.paths
    starts = {path.run["start"] for path in paths}
    start = starts.pop() if len(starts) == 1 else None
    restless = any(path.is_restless for path in paths)
    entries = draw_landscape(ax, axis, runs.ground, start=start, labels=not restless)
    wraps = False
    for path in paths:
        first, last = _stretch(path, len(paths))
        wraps |= _draw_path(ax, axis, path, first, last, arrows=len(paths) <= MOST_NAMED)
        _draw_end(ax, axis, path)
    if len(paths) == 1:
        _number_points(ax, axis, paths[0], *_stretch(paths[0], 1))
    axis.set_up(ax)
    return [*_path_handles(paths, wraps), *entries]


def _stretch(path: RunPath, count: int) -> tuple[int, int]:
    """Returns the first and last step of a run that are drawn on the landscape."""
    last = len(path.values) - 1
    if not path.is_restless:
        return 0, last
    if count > 1:
        return 0, min(_STEPS_EACH, last)
    return path.window, min(path.window + PATH_STEPS, last)


def _draw_path(
    ax: Axes, axis: ParameterAxis, path: RunPath, first: int, last: int, *, arrows: bool
) -> bool:
    """Draws some steps; returns whether one of them crosses the period's end."""
    here = slice(first, last + 1)
    x, y = axis.wrap(path.values[here]), path.losses[here]
    look = path.look
    ax.plot(x, y, look.marker, color=look.color, markersize=4, markeredgewidth=0, zorder=6)
    if not arrows:
        return False
    width = axis.limits[1] - axis.limits[0]
    finite = np.isfinite(x) & np.isfinite(y)
    # Shorter steps are seen from their points.
    long = finite[1:] & finite[:-1] & (np.abs(np.diff(x)) > 0.012 * width)
    wraps = long & axis.turns(path.values[here])
    jumps = set((path.jumps - first).tolist())
    for t in np.flatnonzero(long)[:PATH_STEPS].tolist():
        ax.annotate(
            "",
            (x[t + 1], y[t + 1]),
            xytext=(x[t], y[t]),
            arrowprops={
                "arrowstyle": "-|>",
                "color": look.jump if t in jumps else look.color,
                "linewidth": 1.8 if t in jumps else 0.9,
                "linestyle": ":" if wraps[t] else "-",
                "alpha": 0.9 if t <= _NUMBERED or t in jumps else 0.4,
                "shrinkA": 2,
                "shrinkB": 2,
                "mutation_scale": 9,
                "connectionstyle": "arc3,rad=0.12",
            },
            zorder=5.5,
        )
    return bool(wraps.any())


def _draw_end(ax: Axes, axis: ParameterAxis, path: RunPath) -> None:
    finite = np.flatnonzero(np.isfinite(path.values) & np.isfinite(path.losses))
    if len(finite):
        ax.plot(
            axis.wrap(path.values[finite[-1]]),
            path.losses[finite[-1]],
            "*",
            color=path.look.color,
            markeredgecolor="white",
            markersize=14,
            zorder=7,
        )


def _number_points(ax: Axes, axis: ParameterAxis, path: RunPath, first: int, last: int) -> None:
    """Numbers the first points, those that can be told apart."""
    width = axis.limits[1] - axis.limits[0]
    height = ax.get_ylim()[1] - ax.get_ylim()[0]
    x, y = axis.wrap(path.values), path.losses
    taken: list[tuple[float, float]] = []
    for t in range(first, last + 1):
        if len(taken) > _NUMBERED or not np.isfinite([x[t], y[t]]).all():
            return
        spot = (float(x[t]) / width, float(y[t]) / height)
        if any(abs(spot[0] - u) < 0.03 and abs(spot[1] - v) < 0.06 for u, v in taken):
            continue
        taken.append(spot)
        ax.annotate(
            str(t),
            (x[t], y[t]),
            xytext=(6, 8),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=9,
            fontweight="bold",
            color=path.look.color,
            path_effects=halo(),
            zorder=8,
        )


def _path_handles(paths: Sequence[RunPath], wraps: bool) -> list[Line2D]:
    look = paths[0].look if len(paths) == 1 else Look(INK, "-", "o", INK)
    ends = Line2D([], [], color=look.color, marker="*", linestyle="", markersize=12)
    ends.set_label("last step" if len(paths) == 1 else "last step of a run")
    handles = [ends]
    if len(paths) == 1:
        first, last = _stretch(paths[0], 1)
        line = Line2D([], [], color=look.color, linewidth=1.2, marker="o", markersize=4)
        line.set_label(f"steps {first} to {last} of the run" if last else "the start")
        handles.insert(0, line)
    if any(path.run["n_jumps"] for path in paths) and len(paths) <= MOST_NAMED:
        line = Line2D([], [], color=look.jump, marker="^", linewidth=2.2, markersize=7)
        line.set_label("jump: one step far up the landscape")
        handles.append(line)
    if wraps:
        line = Line2D([], [], color=look.color, linestyle=":", linewidth=1.2)
        line.set_label("step across the period's end")
        handles.append(line)
    return handles
