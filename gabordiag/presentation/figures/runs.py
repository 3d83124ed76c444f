"""The figures of runs of one parameter, and of a log, a run without its landscape.

A run that jumps is shown against the step twice, some steps around the first jump,
and all of them, as a density where it wanders; one that converges, once, on a logarithmic axis
where the loss falls by decades. On the landscape a run that converges is drawn whole. Of one that
keeps jumping, a thousand arrows would be unreadable: the first descent and the first jump are
drawn, and numbered.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator

from gabordiag.dynamics.outcomes import IntArray
from gabordiag.landscape.points import Landscape
from gabordiag.objective.space import FloatArray
from gabordiag.presentation import colors, phrases
from gabordiag.presentation.figures.axis import ParameterAxis, loss_label
from gabordiag.presentation.figures.landscape import axis_of, draw_basins, draw_landscape
from gabordiag.presentation.figures.run_paths import (
    MOST_NAMED,
    PATH_STEPS,
    Look,
    RunPath,
    Runs,
    batch_handles,
    jump_words,
    look_of,
    path_of,
    run_handles,
    run_words,
    runs_title,
)
from gabordiag.presentation.figures.sheets import current_sheet, name_panels
from gabordiag.presentation.figures.style import (
    drawable,
    entry,
    legend_beside,
    log_losses,
    new_figure,
    write,
)
from gabordiag.results import View
from gabordiag.wording import show_number, spoken

if TYPE_CHECKING:
    from gabordiag.dynamics.maps import Basins
    from gabordiag.dynamics.run import Run

# Some steps get a column of their own where there is too much to see in all of them.
_DETAIL = 60
# Steps of a restless run that are drawn on the landscape: before its first jump, or without one.
_STEPS_DRAWN = 8
# Of the window's width: shorter steps are seen from their points; places farther from its middle
# are not drawn.
_SHORT, _NEAR = 0.012, 3.0
# Columns at most, and rows, of the density of a long run.
_MOST_COLUMNS, _ROWS = 40, 26
# How high the arc of a step rises over the straight way, of the height: a jump's, any other's.
_HIGH, _LOW = 0.12, 0.06
# On a logarithmic axis, room above the losses of the runs that do not diverge.
_DECADES = 3
# A part of the range so small, with runs and basins in it, is shown alone.
_NARROW = 0.1
# Points of the path that are numbered.
_NUMBERED = 9

Window = tuple[int, int]


def optimize_figure(runs: Runs) -> Figure:
    """Draws one or several runs: loss and value against the step, the path on the landscape."""
    sweep, paths, axis = runs.ground, runs.paths, _axis_around(runs)
    with new_figure(10.0, 10.6) as figure:
        windows = windows_of(paths)
        places, ground_place = _lay_out(figure, len(windows))
        for column, (window, (upper, lower)) in enumerate(zip(windows, places, strict=False)):
            loss = figure.add_subplot(upper)
            value = figure.add_subplot(lower, sharex=loss)
            stretch = "all-" if column else ""
            name_panels((loss, value), (f"{stretch}loss", f"{stretch}value"))
            draw_losses(loss, sweep.landscape, paths, window)
            _draw_values(value, axis, sweep.landscape, paths, window)
            loss.set_xlabel("")
            loss.tick_params(labelbottom=False)
            if len(windows) > 1:
                loss.set_title(window_words(window, column, paths))
            value.set_ylabel("" if column else axis.parameter.label)
            loss.set_ylabel("" if column else loss_label(sweep.loss_name))
        ground = figure.add_subplot(ground_place, label="landscape")
        entries = draw_paths(ground, runs)
        if len(paths) == 1 and paths[0].run["jumps"]:
            jump = paths[0].run["jumps"][0]
            before, after = show_number(jump["loss_before"]), show_number(jump["loss_after"])
            words = f"the first jump, step {jump['step']}: the loss rises from {before} to {after}"
            ground.set_title(words, pad=24)
        figure.suptitle(runs_title(axis, paths))
        handles = [*run_handles(axis, paths), *batch_handles(paths), *entries]
        columns = 3 if current_sheet().is_wide and len(paths) == 1 else 2
        figure.legend(handles=handles, loc="outside lower left", ncols=columns)
        figure.align_ylabels()
    return figure


def _lay_out(figure: Figure, count: int) -> tuple[list[tuple[Any, Any]], Any]:
    """Returns the places of loss and value for each stretch of steps, and of the landscape."""
    if current_sheet().is_wide:
        grid = figure.add_gridspec(2, 2, width_ratios=[3, 2])
        return [(grid[0, 1], grid[1, 1])], grid[:, 0]
    columns = 1 if current_sheet().is_narrow else count
    grid = figure.add_gridspec(3, columns, height_ratios=[2, 2, 3.4])
    return [(grid[0, column], grid[1, column]) for column in range(columns)], grid[2, :]


def windows_of(paths: Sequence[RunPath]) -> list[Window]:
    """Returns the stretches of steps that get a column each; the last one is of all steps."""
    steps = max((path.steps for path in paths), key=lambda steps: float(steps[-1]))
    whole = 0 if len(paths) > 1 else int(steps[0]), int(steps[-1])
    if not is_crowded(paths, whole) or not any(path.is_restless for path in paths):
        return [whole]
    first = paths[0].window if len(paths) == 1 else 0
    return [(int(steps[first]), int(steps[min(first + _DETAIL, len(steps) - 1)])), whole]


def is_crowded(paths: Sequence[RunPath], window: Window) -> bool:
    """Whether there are more steps than can be followed one by one."""
    return max(len(_shown(path.steps, path.steps, window)[0]) for path in paths) > 2 * _DETAIL + 1


def window_words(window: Window, column: int, paths: Sequence[RunPath]) -> str:
    """Describes a stretch of steps: the first column's, or all steps, and how those are drawn."""
    first, last = window
    if not column:
        # A log may count its steps from 1.
        is_later = first > paths[0].steps[0]
        jump = f"steps {first} to {last}: the first jump"
        return jump if is_later else f"the first {last - first} steps"
    words = ["darker: more often"] if any(path.wanders for path in paths) else []
    words += ["ticks: jumps"] if any(len(path.jumps) for path in paths) else []
    return f"all {last - first} steps" + (f" ({', '.join(words)})" if words else "")


def draw_run(ax: Axes, run: Run) -> None:
    """Draws the loss of a single run, of one parameter or of several, against the step."""
    table = run.trajectory.to_table(run.space.names)
    path = path_of(run.to_dict(), table, run.space.names[0], run.space.goal_name)
    draw_losses(ax, run.landscape, [path], (0, max(1, len(path.steps) - 1)))
    ending = phrases.outcome_words(path.run["outcome"], path.goal_name)
    title = f"{phrases.run_settings(path.run)}: {ending}"
    if run.landscape is not None:
        title = runs_title(ParameterAxis.of(run.landscape.parameter), [path])
    ax.set_title(title, fontsize=10)


def draw_losses(
    ax: Axes, landscape: Landscape | None, paths: Sequence[RunPath], window: Window
) -> None:
    """Draws the loss between two steps with the jumps marked, and the landscape's whole height."""
    # Convergence is seen on a logarithm, a jump between two heights is not.
    losses = np.concatenate([path.losses for path in paths])
    losses = losses[np.isfinite(losses) & (losses > 0)]
    spans_decades = losses.max(initial=0.0) > 1e3 * losses.min(initial=math.inf)
    if spans_decades and not any(path.is_restless for path in paths):
        log_losses(ax)
    crowded = is_crowded(paths, window)
    for path in paths:
        if path.batch_losses is not None:
            # What a training loop on batches sees, faint behind the loss over all images.
            shown = _shown(path.steps, path.batch_losses, window)
            ax.plot(*shown, ".", color=path.look.color, alpha=0.3, markersize=3, zorder=2)
    most = _most(paths, landscape, 0.0 if ax.get_yscale() == "linear" else _DECADES)
    drawn = [drawable(path.losses, most) for path in paths]
    _draw_series(ax, paths, list(zip([p.steps for p in paths], drawn, strict=True)), window)
    for path, heights in zip(paths, drawn, strict=True):
        _mark_end(ax, path, heights, window)
        if len(paths) <= MOST_NAMED and not crowded:
            _draw_jumps(ax, path, heights, window)
    if ax.get_yscale() == "linear":
        if landscape is not None:
            # A loss that stays high is seen to be high.
            bottom, top = landscape.smallest_loss, landscape.largest_loss
        else:
            losses = np.concatenate(drawn)
            bottom, top = np.nanmin(losses, initial=math.inf), np.nanmax(losses, initial=-math.inf)
        room = 0.05 * ((top - bottom) or 1.0)
        low, high = ax.get_ylim()
        ax.set_ylim(min(low, bottom - room), max(high, top + room))
    if crowded and ax.get_yscale() == "linear":
        _draw_rugs(ax, paths)
    _set_steps(ax, window)
    ax.set_ylabel(loss_label(paths[0].run["loss"]))


def _most(paths: Sequence[RunPath], landscape: Landscape | None, decades: float) -> float:
    """Returns up to which loss runs that diverge are drawn, beside others that do not."""
    kept = [path.losses for path in paths if path.run["outcome"] != "nonfinite"]
    if not kept:
        return math.inf
    height = 0.0 if landscape is None else landscape.largest_loss
    return 2 * 10**decades * float(np.nanmax(np.abs(np.append(np.concatenate(kept), height))))


def _shown(steps: FloatArray, values: FloatArray, window: Window) -> tuple[FloatArray, FloatArray]:
    inside = (steps >= window[0]) & (steps <= window[1])
    return steps[inside], values[inside]


def _set_steps(ax: Axes, window: Window) -> None:
    first, last = window
    room = 0.015 * max(last - first, 1)
    ax.set_xlim(first - room, last + room)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=8, steps=[1, 2, 5, 10], integer=True))
    ax.set_xlabel("step")


def _draw_series(
    ax: Axes,
    paths: Sequence[RunPath],
    columns: Sequence[tuple[FloatArray, FloatArray]],
    window: Window,
) -> None:
    """Draws a column of every run: joined where it can be followed, else as a density."""
    long = is_crowded(paths, window)
    for index, (path, column) in enumerate(zip(paths, columns, strict=True)):
        look = path.look
        steps, values = _shown(*column, window)
        if path.wanders and long:
            _draw_density(ax, steps, values, look.color)
            continue
        # Widths that leave every run's line visible under the next.
        thick = 0.8 if len(paths) > MOST_NAMED else 1.2 + 0.3 * (len(paths) - 1 - index)
        size = 5 if len(steps) <= _DETAIL // 2 else 3.5
        marker: dict[str, Any] = {"marker": "" if long else look.marker, "markersize": size}
        line: dict[str, Any] = {"linestyle": look.line, "linewidth": thick, "color": look.color}
        ax.plot(steps, values, markeredgewidth=0, zorder=3, **line, **marker)


def _draw_density(ax: Axes, steps: FloatArray, values: FloatArray, color: str) -> None:
    """Shades how often a run was at each height, from transparent to its colour."""
    finite = np.isfinite(values)
    if not finite.any():
        return
    seen = values[finite]
    if np.allclose(seen, seen[0], rtol=1e-9, atol=0):
        # A histogram would spread the one height over a whole unit.
        ax.plot(steps, values, color=color)
        return
    columns = min(max(3, math.isqrt(len(steps)) // 2), _MOST_COLUMNS)
    counts, across, up = np.histogram2d(steps[finite], seen, (columns, _ROWS))
    place: dict[str, Any] = {"extent": (across[0], across[-1], up[0], up[-1]), "aspect": "auto"}
    shades = LinearSegmentedColormap.from_list("density", [(color, 0.0), (color, 1.0)])
    scale = PowerNorm(0.5, 0, float(np.quantile(counts, 0.995)) or 1.0)
    look: dict[str, Any] = {"cmap": shades, "norm": scale, "interpolation": "nearest"}
    ax.imshow(counts.T, origin="lower", zorder=2, **place, **look)


def _mark_end(ax: Axes, path: RunPath, values: FloatArray, window: Window) -> None:
    """Marks the last point of a run that breaks down or leaves the picture upwards."""
    broken = np.flatnonzero(~np.isfinite(path.values) | ~np.isfinite(path.losses))
    gone = np.union1d(broken, np.flatnonzero(~np.isfinite(values)))
    if len(gone) == 0 or not window[0] <= path.steps[gone[0]] <= window[1]:
        return
    last = max(int(gone[0]) - 1, 0)
    ax.plot(path.steps[last], values[last], "X", color=colors.INK, markersize=9, zorder=4)
    words = "leaves the picture"
    if len(broken):
        words = f"not finite from step {path.steps[broken[0]]:.0f} on"
    write(ax, words, (path.steps[last], values[last]), (10, 4), va="bottom", zorder=5)


def _draw_jumps(ax: Axes, path: RunPath, shown: FloatArray, window: Window) -> None:
    color, jumps, at = path.look.jump, path.jumps, path.steps[path.jumps]
    for t in jumps[(at >= window[0]) & (at < window[1])].tolist():
        steps, losses = path.steps[t : t + 2], shown[t : t + 2]
        ax.plot(steps, losses, color=color, linewidth=2.2, solid_capstyle="butt", zorder=3.5)
        ax.plot(steps[1], losses[1], "^", color=color, markersize=7, zorder=4)


def _draw_rugs(ax: Axes, paths: Sequence[RunPath]) -> None:
    """Marks the jumps of long runs by ticks above the data, a row a run."""
    jumping = [path for path in paths if len(path.jumps)][:MOST_NAMED]
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + (high - low) * (0.03 + 0.055 * len(jumping)))
    tick: dict[str, Any] = {"markersize": 5, "markeredgewidth": 0.7}
    tick["transform"] = ax.get_xaxis_transform()
    for row, path in enumerate(jumping):
        heights = np.full(len(path.jumps), 0.975 - 0.05 * row)
        ax.plot(path.steps[path.jumps], heights, "|", color=path.look.jump, **tick)


def _draw_values(
    ax: Axes, axis: ParameterAxis, landscape: Landscape, paths: Sequence[RunPath], window: Window
) -> None:
    draw_basins(ax, axis, landscape, vertical=True)
    for y in axis.copies(landscape.parameter.target):
        ax.axhline(y, color=colors.TARGET_COLOR, linewidth=1.3, zorder=1)
    _draw_series(ax, paths, [without_wraps(axis, p.steps, p.values) for p in paths], window)
    for path in paths:
        _mark_end(ax, path, axis.wrap(path.values), window)
    axis.set_up(ax, vertical=True)
    _set_steps(ax, window)


def without_wraps(
    axis: ParameterAxis, steps: FloatArray, values: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Returns steps and wrapped values with a gap wherever a step crosses the period's end."""
    shown, turned = axis.folded(values, _NEAR)
    at = np.flatnonzero(turned) + 1
    return np.insert(steps, at, steps[at]), np.insert(shown, at, np.nan)


def draw_runs(ax: Axes, runs: Runs) -> None:
    """Draws runs on their landscape, with a legend that names them."""
    legend_beside(ax, [*run_handles(axis_of(runs.ground), runs.paths), *draw_paths(ax, runs)])


def _axis_around(runs: Runs) -> ParameterAxis:
    """Returns the axis over the sweep; around runs and their basins, where these are narrow."""
    axis, landscape = axis_of(runs.ground), runs.ground.landscape
    ends = (landscape.goal_value, *(path.run["start"] for path in runs.paths))
    basins = [found[1] for end in ends if end is not None and (found := landscape.basin_of(end))]
    seen = np.concatenate([*basins, *(path.values for path in runs.paths)])
    low, high = float(np.nanmin(seen)), float(np.nanmax(seen))
    if not basins or axis.period is not None or high - low > _NARROW * (axis.high - axis.low):
        return axis
    room = (high - low) / 2
    window = max(low - room, axis.low), min(high + room, axis.high)
    return ParameterAxis.of(axis.parameter, window)


def draw_paths(ax: Axes, runs: Runs) -> list[Any]:
    """Draws the runs on the landscape; returns the legend entries."""
    axis, paths = _axis_around(runs), runs.paths
    starts = {path.run["start"] for path in paths}
    start = starts.pop() if len(starts) == 1 else None
    restless = any(path.is_restless for path in paths)
    entries = draw_landscape(ax, axis, runs.ground, start=start, labels=not restless)
    for path in paths:
        _draw_path(ax, axis, path, len(paths))
        if (end := _end(axis, path)) is not None:
            star: dict[str, Any] = {"markersize": 14, "markeredgecolor": "white", "zorder": 7}
            at = axis.wrap(path.values[end]), path.losses[end]
            ax.plot(*at, "*", color=path.look.color, **star)
    if len(paths) == 1:
        _number_points(ax, axis, paths[0])
    axis.set_up(ax)
    return [*_path_handles(axis, paths), *entries]


def _stretch(axis: ParameterAxis, path: RunPath) -> tuple[int, int]:
    """Returns the steps drawn on the landscape: of a run that jumps, the descent and first jump.

    Of one that leaves the window for good, those up to the one that leaves it.
    """
    last = len(path.values) - 1
    if not path.is_restless:
        return 0, min(last, int(_seen(axis, path).max(initial=0)) + 1)
    if len(path.jumps) == 0:
        return 0, min(_STEPS_DRAWN, last)
    jump = int(path.jumps[0])
    return max(0, jump - _STEPS_DRAWN), jump + 1


def _draw_path(ax: Axes, axis: ParameterAxis, path: RunPath, count: int) -> None:
    """Draws the points of some steps, and arcs of the long ones; of several runs, of the jump."""
    first, last = _stretch(axis, path)
    here, look = slice(first, last + 1), path.look
    x, y = axis.wrap(path.values[here]), path.losses[here]
    ax.plot(x, y, look.marker, color=look.color, markersize=5, markeredgewidth=0, zorder=6)
    if count > MOST_NAMED:
        return
    jumps = set((path.jumps - first).tolist())
    low, high = axis.limits
    # Of a run that blows up, what is near the window.
    near = (np.abs(x - (low + high) / 2) < _NEAR * (high - low)) & np.isfinite(y)
    with np.errstate(invalid="ignore"):
        long = near[1:] & near[:-1] & (np.abs(np.diff(x)) > _SHORT * (high - low))
    drawn = [t for t in np.flatnonzero(long).tolist() if count == 1 or t in jumps]
    for t in drawn[:PATH_STEPS]:
        _draw_step(ax, axis, path, first + t, is_jump=t in jumps)


def _draw_step(ax: Axes, axis: ParameterAxis, path: RunPath, t: int, *, is_jump: bool) -> None:
    """Draws a step as an arc, which goes on at the other side where it crosses the period's end."""
    (begin, end), heights = path.values[t : t + 2].tolist(), path.losses[t : t + 2]
    period, low, high, look = axis.period, *axis.limits, path.look
    # Of a step of many turns, the remainder.
    travel = (end - begin if period is None else math.fmod(end - begin, period)) * axis.scale
    share = np.linspace(0, 1, 33)
    bottom, top = ax.get_ylim()
    lift = (_HIGH if is_jump else _LOW) * (top - bottom) * min(1.0, 4 * abs(travel) / (high - low))
    arc = np.stack([axis.wrap(begin) + share * travel, np.interp(share, (0, 1), heights)], axis=1)
    arc[:, 1] += lift * 4 * share * (1 - share)
    shift = float(axis.wrap(end)) - arc[-1, 0]
    for moved in (0.0, shift) if abs(shift) > _SHORT * (high - low) else (0.0,):
        color, width, head = (look.jump, 2.6, 16) if is_jump else (look.color, 1.0, 9)
        style: dict[str, Any] = {"color": color, "linewidth": width, "mutation_scale": head}
        way = Path(arc + np.array([moved, 0.0]))
        arrow = FancyArrowPatch(path=way, arrowstyle="-|>", fill=False, **style)
        ax.add_patch(arrow).set_zorder(5.5 + is_jump)


def _seen(axis: ParameterAxis, path: RunPath) -> IntArray:
    """Returns the steps at which a run is finite and in the window."""
    low, high = axis.limits
    shown = axis.wrap(path.values)
    return np.flatnonzero((shown >= low) & (shown <= high) & np.isfinite(path.losses))


def _end(axis: ParameterAxis, path: RunPath) -> int | None:
    """Returns the last finite step of a run that settles, if it is in the window."""
    finite = np.flatnonzero(np.isfinite(path.values) & np.isfinite(path.losses))
    if path.is_restless or not np.isin(finite[-1:], _seen(axis, path)).any():
        return None
    return int(finite[-1])


def _number_points(ax: Axes, axis: ParameterAxis, path: RunPath) -> None:
    first, last = _stretch(axis, path)
    width = axis.limits[1] - axis.limits[0]
    height = ax.get_ylim()[1] - ax.get_ylim()[0]
    x, y = axis.wrap(path.values), path.losses
    look: dict[str, Any] = {"ha": "center", "va": "center", "fontweight": "bold", "zorder": 8}
    taken: list[tuple[float, float]] = []
    for t in range(first, last + 1):
        if len(taken) > _NUMBERED or not np.isfinite([x[t], y[t]]).all():
            return
        spot = (float(x[t]) / width, float(y[t]) / height)
        if not any(abs(spot[0] - u) < 0.03 and abs(spot[1] - v) < 0.06 for u, v in taken):
            taken.append(spot)
            write(ax, str(t), (x[t], y[t]), (6, 8), color=path.look.color, **look)


def _path_handles(axis: ParameterAxis, paths: Sequence[RunPath]) -> list[Line2D]:
    is_one = len(paths) == 1
    look = paths[0].look if is_one else Look(colors.INK, "-", "o", colors.INK)
    handles = []
    if is_one:
        first, last = _stretch(axis, paths[0])
        words = f"steps {first} to {last} of the run" if last else "the start"
        handles.append(entry(words, color=look.color, linewidth=1.2, marker="o", markersize=5))
    if any(_end(axis, path) is not None for path in paths):
        words = "last step" if is_one else "last step of a run"
        handles.append(entry(words, color=look.color, marker="*", linestyle="", markersize=12))
    if any(path.run["n_jumps"] for path in paths) and len(paths) <= MOST_NAMED:
        words = textwrap.fill(f"jump: {phrases.jump_definition()}", 40)
        handles.append(entry(words, color=look.jump, marker="^", linewidth=2.2, markersize=7))
    return handles


def comparison_figure(failures: Mapping[str, tuple[Runs, Basins | None]]) -> Figure:
    """Draws failing runs on their landscapes side by side, by filter, with which rates work."""
    count = max(len(failures), 1)
    narrow = current_sheet().is_narrow
    with new_figure(*((5.4, 6.5 * count) if narrow else (5.4 * count, 8.2))) as figure:
        if narrow:
            axes = figure.subplots(2 * count, 1, height_ratios=[1, 1.3] * count).reshape(count, 2).T
        else:
            axes = figure.subplots(2, count, squeeze=False, height_ratios=[1, 1.3])
        entries: dict[str, Any] = {}
        for (name, failure), (loss, ground) in zip(failures.items(), axes.T, strict=False):
            name_panels((loss, ground), (f"{name}-loss", f"{name}-landscape"))
            for handle in _draw_failure(loss, ground, name, *failure):
                entries.setdefault(str(handle.get_label()), handle)
        owns = (r.ground.landscape.attractor_of(r.runs[0]["start"]) for r, _ in failures.values())
        # Whether the run starts in the basin of another minimum than the target's.
        causes = {own is not None and not own.is_target for own in owns}
        title = "One symptom, two causes" if len(causes) == 2 else "The runs on their landscapes"
        figure.suptitle(title)
        figure.legend(handles=list(entries.values()), loc="outside lower left", ncols=3)
    return figure


def _draw_failure(
    loss: Axes, ground: Axes, name: str, runs: Runs, basins: Basins | None
) -> list[Any]:
    (path,) = runs.paths
    window = (path.window, min(path.window + _DETAIL, int(path.steps[-1])))
    draw_losses(loss, runs.ground.landscape, runs.paths, window)
    axis = axis_of(runs.ground)
    jumps = ": the loss jumps repeatedly" if path.run["n_jumps"] else ""
    words = run_words(axis, path.run)
    loss.set_title(f"{name.capitalize()} filter{jumps}\n({words})", fontsize=10)
    entries = draw_paths(ground, runs)
    reasons = [phrases.place_words(runs.ground.landscape, path.run["start"], axis.show)]
    if basins is not None:
        reasons.append(phrases.rate_words(basins, axis.show)[1])
    # Of a start in the goal's basin, the second says the first, too.
    reason = reasons[-1] if reasons[-1].startswith(reasons[0]) else ". ".join(reasons)
    ground.set_title("\n".join(textwrap.wrap(reason, 62)), fontsize=10, pad=24)
    entries[0].set_label("the run, numbered by step")
    return entries


def log_figure(view: View) -> Figure:
    """Draws the loss of an `Explanation`'s log: the first descent and jump, and all of it."""
    path = _log_path(view)
    stretches = windows_of([path])
    with new_figure(9.0, 4.2) as figure:
        count = len(stretches)
        rows, columns = (count, 1) if current_sheet().is_narrow else (1, count)
        axes = figure.subplots(rows, columns, sharey=True, squeeze=False).flat
        for column, (ax, stretch) in enumerate(zip(axes, stretches, strict=True)):
            draw_losses(ax, None, [path], stretch)
            if columns > 1 and column:
                ax.set_ylabel("")
            if count > 1:
                ax.set_title(window_words(stretch, column, [path]), fontsize=10)
        figure.suptitle(_log_words(view))
        if len(path.jumps):
            look: dict[str, Any] = {"color": path.look.jump, "marker": "^", "linewidth": 2.2}
            words = f"jump: {phrases.jump_definition('range of the losses')}"
            figure.legend(handles=[entry(words, **look)], loc="outside lower left")
    return figure


def draw_explanation(ax: Axes, view: View) -> None:
    """Draws the loss of an `Explanation`'s log against the step, with the jumps."""
    path = _log_path(view)
    draw_losses(ax, None, [path], windows_of([path])[-1])
    ax.set_title(_log_words(view), fontsize=10)


def _log_words(view: View) -> str:
    return f"Verdict: {spoken(view.result['verdict'])}{jump_words(view.result)}"


def _log_path(view: View) -> RunPath:
    """Returns a log as a run whose values are its losses; its jumps are rows, not steps."""
    steps, losses = (view.data["log.csv"][name] for name in ("step", "loss"))
    rows = np.searchsorted(steps, [jump["step"] for jump in view.result["jumps"]])
    run = {**view.result, "loss": "loss", "jumps": [{"step": row} for row in rows]}
    if losses[-1] > np.nanmax(losses[:-1], initial=-math.inf):
        # What grows to its end is seen on a logarithm.
        run["outcome"] = "nonfinite"
    return RunPath(run, steps, losses, losses, look_of(run, 0, 1))
