"""Runs against the step: loss and value; and the figures made of these and of the paths.

A run that jumps is shown twice, some steps around the first jump and all of them; one that
converges, once, on a logarithmic axis where the loss falls by decades.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gabordiag.dynamics.maps import Basins
from gabordiag.dynamics.outcomes import OUTCOMES
from gabordiag.dynamics.run import Run
from gabordiag.landscape.critical import Landscape
from gabordiag.presentation.figures.axis import FloatArray, ParameterAxis, loss_label
from gabordiag.presentation.figures.landscape import axis_of, draw_basins
from gabordiag.presentation.figures.paths import draw_paths
from gabordiag.presentation.figures.run_paths import (
    MOST_NAMED,
    RunPath,
    Runs,
    batch_handles,
    path_of,
    run_handles,
    run_words,
    runs_title,
)
from gabordiag.presentation.figures.sheets import current_sheet
from gabordiag.presentation.figures.style import (
    INK,
    TARGET_COLOR,
    drawing,
    finish,
    halo,
    new_figure,
)
from gabordiag.presentation.phrases import run_settings
from gabordiag.presentation.rates import place_words, rate_words

# Some steps get a column of their own where there is too much to see in all of them.
_DETAIL = 60


def optimize_figure(runs: Runs) -> Figure:
    """Draws one or several runs: loss and value against the step, the path on the landscape."""
    sweep, paths = runs.ground, runs.paths
    axis = axis_of(sweep)
    with drawing():
        figure = new_figure(10.0, 10.6)
        windows = _windows(paths)
        places, ground_place = _lay_out(figure, len(windows))
        for column, (window, (upper, lower)) in enumerate(zip(windows, places, strict=False)):
            loss = figure.add_subplot(upper)
            value = figure.add_subplot(lower, sharex=loss)
            draw_losses(loss, sweep.landscape, paths, window)
            _draw_values(value, axis, sweep.landscape, paths, window)
            loss.set_xlabel("")
            loss.tick_params(labelbottom=False)
            if len(windows) > 1:
                loss.set_title(_window_words(window, column))
            value.set_ylabel("" if column else axis.parameter.label)
            loss.set_ylabel("" if column else loss_label(sweep.loss_name))
        ground = figure.add_subplot(ground_place)
        entries = draw_paths(ground, runs)
        figure.suptitle(runs_title(axis, paths), x=0.01, ha="left")
        figure.legend(
            handles=[*run_handles(axis, paths), *batch_handles(paths), *entries],
            loc="outside lower left",
            ncols=3 if current_sheet().is_wide and len(paths) == 1 else 2,
        )
        figure.align_ylabels()
        return finish(figure)


def _lay_out(figure: Figure, count: int) -> tuple[list[tuple[Any, Any]], Any]:
    """Returns the places of loss and value for each stretch of steps, and of the landscape."""
    if current_sheet().is_wide:
        grid = figure.add_gridspec(2, 2, width_ratios=[3, 2])
        return [(grid[0, 1], grid[1, 1])], grid[:, 0]
    columns = 1 if current_sheet().is_narrow else count
    grid = figure.add_gridspec(3, columns, height_ratios=[2.2, 2.2, 3])
    return [(grid[0, column], grid[1, column]) for column in range(columns)], grid[2, :]


def _windows(paths: Sequence[RunPath]) -> list[tuple[int, int]]:
    """Returns the stretches of steps that get a column each."""
    last = int(max(path.steps[-1] for path in paths))
    if last <= 2 * _DETAIL or not any(path.is_restless for path in paths):
        return [(0, last)]
    first = paths[0].window if len(paths) == 1 else 0
    return [(first, min(first + _DETAIL, last)), (0, last)]


def _window_words(window: tuple[int, int], column: int) -> str:
    first, last = window
    if column:
        return f"all {last} steps (ticks above: jumps)"
    return f"the first {last} steps" if first == 0 else f"steps {first} to {last}: the first jump"


def draw_run(ax: Axes, run: Run) -> None:
    """Draws the loss of a single run, of one parameter or of several, against the step."""
    table = run.trajectory.to_table(run.space.names)
    path = path_of(run.to_dict(), table, run.space.names[0])
    draw_losses(ax, run.landscape, [path], (0, max(1, len(path.steps) - 1)))
    if run.landscape is None:
        title = f"{run_settings(path.run)}: {OUTCOMES[path.run['outcome']]}"
    else:
        title = runs_title(ParameterAxis.of(run.landscape.parameter), [path])
    ax.set_title(title, fontsize=10)


def draw_losses(
    ax: Axes, landscape: Landscape | None, paths: Sequence[RunPath], window: tuple[int, int]
) -> None:
    """Draws the loss against the step with the jumps marked.

    Args:
        ax: To draw into.
        landscape: For the loss's range; None where it is not known.
        paths: The runs.
        window: First and last step that are shown.
    """
    # Convergence is seen on a logarithm, a jump between two heights is not.
    if not any(path.is_restless for path in paths) and _spans_decades(paths):
        ax.set_yscale("log")
    crowded = window[1] - window[0] > 2 * _DETAIL
    for path in paths:
        _draw_batch_losses(ax, path, window)
    for index, path in enumerate(paths):
        _draw_series(ax, path, path.steps, path.losses, window, thick=_thick(index, paths))
        _mark_end(ax, path, path.losses, window)
        if len(paths) <= MOST_NAMED and not crowded:
            _draw_jumps(ax, path, window)
    if ax.get_yscale() == "linear" and landscape is not None:
        _show_height(ax, landscape)
    if crowded:
        _draw_rugs(ax, paths)
    _set_steps(ax, window)
    ax.set_ylabel(loss_label(paths[0].run["loss"]))


def _draw_batch_losses(ax: Axes, path: RunPath, window: tuple[int, int]) -> None:
    """Draws what a training loop on batches sees, faint behind the loss over all images."""
    if path.batch_losses is None:
        return
    shown = (path.steps >= window[0]) & (path.steps <= window[1])
    steps, losses = path.steps[shown], path.batch_losses[shown]
    ax.plot(steps, losses, ".", color=path.look.color, alpha=0.3, markersize=3, zorder=2)


def _show_height(ax: Axes, landscape: Landscape) -> None:
    """Shows the landscape's whole height, so that a loss that stays high is seen to be high."""
    bottom, top = landscape.smallest_loss, landscape.largest_loss
    room = 0.05 * ((top - bottom) or 1.0)
    low, high = ax.get_ylim()
    ax.set_ylim(min(low, bottom - room), max(high, top + room))


def _set_steps(ax: Axes, window: tuple[int, int]) -> None:
    first, last = window
    room = 0.015 * max(last - first, 1)
    ax.set_xlim(first - room, last + room)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True))
    ax.set_xlabel("step")


def _thick(index: int, paths: Sequence[RunPath]) -> float:
    """Line widths that leave every run's line visible under the next."""
    return 0.8 if len(paths) > MOST_NAMED else 1.2 + 0.3 * (len(paths) - 1 - index)


def _spans_decades(paths: Sequence[RunPath]) -> bool:
    losses = np.concatenate([path.losses for path in paths])
    losses = losses[np.isfinite(losses) & (losses > 0)]
    return bool(len(losses)) and bool(losses.max() > 1e3 * losses.min())


def _draw_series(
    ax: Axes,
    path: RunPath,
    steps: FloatArray,
    values: FloatArray,
    window: tuple[int, int],
    thick: float = 1.2,
) -> None:
    """Draws one column against the step: joined where it can be followed, else as points."""
    look = path.look
    long = window[1] - window[0] > 2 * _DETAIL
    shown = (steps >= window[0]) & (steps <= window[1])
    crowded = path.is_restless and long
    ax.plot(
        steps[shown],
        values[shown],
        linestyle="" if crowded else look.line,
        linewidth=thick,
        marker="o" if crowded else "" if long else look.marker,
        markersize=1.8 if crowded else 5 if shown.sum() <= _DETAIL // 2 else 3.5,
        markeredgewidth=0,
        color=look.color,
        zorder=3,
    )


def _mark_end(ax: Axes, path: RunPath, values: FloatArray, window: tuple[int, int]) -> None:
    """Marks the last finite point of a run that breaks down."""
    broken = np.flatnonzero(~np.isfinite(path.values) | ~np.isfinite(path.losses))
    if len(broken) == 0 or not window[0] <= broken[0] <= window[1]:
        return
    last = max(0, int(broken[0]) - 1)
    ax.plot(path.steps[last], values[last], "X", color=INK, markersize=9, zorder=4)
    ax.annotate(
        f"NaN from step {broken[0]} on",
        (path.steps[last], values[last]),
        xytext=(10, 4),
        textcoords="offset points",
        va="bottom",
        fontsize=9,
        path_effects=halo(),
        zorder=5,
    )


def _draw_jumps(ax: Axes, path: RunPath, window: tuple[int, int]) -> None:
    jumps = path.jumps
    for t in jumps[(jumps >= window[0]) & (jumps < window[1])].tolist():
        ax.plot(
            path.steps[t : t + 2],
            path.losses[t : t + 2],
            color=path.look.jump,
            linewidth=2.2,
            solid_capstyle="butt",
            zorder=3.5,
        )
        ax.plot(
            path.steps[t + 1], path.losses[t + 1], "^", color=path.look.jump, markersize=7, zorder=4
        )


def _draw_rugs(ax: Axes, paths: Sequence[RunPath]) -> None:
    """Marks the jumps of long runs by ticks above the data, a row a run."""
    jumping = [path for path in paths if len(path.jumps)][:MOST_NAMED]
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + (high - low) * (0.03 + 0.055 * len(jumping)))
    for row, path in enumerate(jumping):
        ax.plot(
            path.steps[path.jumps],
            np.full(len(path.jumps), 0.975 - 0.05 * row),
            "|",
            color=path.look.jump,
            markersize=5,
            markeredgewidth=0.7,
            transform=ax.get_xaxis_transform(),
        )


def _draw_values(
    ax: Axes,
    axis: ParameterAxis,
    landscape: Landscape,
    paths: Sequence[RunPath],
    window: tuple[int, int],
) -> None:
    draw_basins(ax, axis, landscape, vertical=True)
    if landscape.parameter.target is not None:
        for y in axis.copies(landscape.parameter.target):
            ax.axhline(y, color=TARGET_COLOR, linewidth=1.3, zorder=1)
    for index, path in enumerate(paths):
        steps, values = without_wraps(axis, path.steps, path.values)
        _draw_series(ax, path, steps, values, window, thick=_thick(index, paths))
        _mark_end(ax, path, axis.wrap(path.values), window)
    axis.set_up(ax, vertical=True)
    _set_steps(ax, window)


def without_wraps(
    axis: ParameterAxis, steps: FloatArray, values: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Returns steps and wrapped values with a gap wherever a step crosses the period's end."""
    at = np.flatnonzero(axis.turns(values)) + 1
    return np.insert(steps, at, steps[at]), np.insert(axis.wrap(values), at, np.nan)


def comparison_figure(failures: Mapping[str, tuple[Runs, Basins | None]]) -> Figure:
    """Draws failing runs on their landscapes side by side: one symptom, two causes.

    Args:
        failures: Name of the filter (`elongated`, `round`) -> its failing run, and which rates
            work on the landscape, where that is known.
    """
    with drawing():
        count = max(len(failures), 1)
        if current_sheet().is_narrow:
            figure = new_figure(5.4, 6.5 * count)
            axes = figure.subplots(2 * count, 1, height_ratios=[1, 1.3] * count).reshape(count, 2).T
        else:
            figure = new_figure(5.4 * count, 8.2)
            axes = figure.subplots(2, count, squeeze=False, height_ratios=[1, 1.3])
        entries: dict[str, Any] = {}
        for (name, failure), (loss, ground) in zip(failures.items(), axes.T, strict=False):
            for handle in _draw_failure(loss, ground, name, *failure):
                entries.setdefault(str(handle.get_label()), handle)
        causes = {_starts_elsewhere(runs) for runs, _ in failures.values()}
        title = "One symptom, two causes" if len(causes) == 2 else "The runs on their landscapes"
        figure.suptitle(title, x=0.01, ha="left")
        figure.legend(handles=list(entries.values()), loc="outside lower left", ncols=3)
        return finish(figure)


def _draw_failure(
    loss: Axes, ground: Axes, name: str, runs: Runs, basins: Basins | None
) -> list[Any]:
    (path,) = runs.paths
    window = (path.window, min(path.window + _DETAIL, int(path.steps[-1])))
    draw_losses(loss, runs.ground.landscape, runs.paths, window)
    axis = axis_of(runs.ground)
    words = run_words(axis, path.run)
    jumps = ": the loss jumps repeatedly" if path.run["n_jumps"] else ""
    loss.set_title(f"{name.capitalize()} filter{jumps}\n({words})", fontsize=10)
    entries = draw_paths(ground, runs)
    reasons = [place_words(runs.ground.landscape, path.run["start"], axis.show)]
    if basins is not None:
        reasons.append(rate_words(basins, axis.show)[1])
    # Of a start in the goal's basin, the second says the first, too.
    reason = reasons[-1] if reasons[-1].startswith(reasons[0]) else ". ".join(reasons)
    ground.set_title("\n".join(textwrap.wrap(reason, 62)), fontsize=10, pad=24)
    entries[0].set_label("the run, numbered by step")
    return entries


def _starts_elsewhere(runs: Runs) -> bool:
    """Whether the run starts in the basin of another minimum than the target's."""
    own = runs.ground.landscape.attractor_of(runs.paths[0].run["start"])
    return own is not None and not own.is_target
