"""A run as a moving picture: the ball on the landscape, the loss below, the kernel turning beside.

Of several parameters it is the ball on the plane of the two that moved most, and the loss beside.
Drawn from a view, as the figures are; the kernels are those that were saved, the nearest one is
shown. What never moves is drawn once, and every picture is that one with the moving parts on it.

A descent is shown at a pace that can be followed, the first jumps slowly, what follows quickly, all
within ten seconds. Places between two steps lie on an arc: an optimizer does not roll, it hops.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from gabordiag.landscape.points import Landscape
from gabordiag.landscape.sweep import Sweep
from gabordiag.objective.space import FloatArray
from gabordiag.presentation.animation.film import to_gif, to_mp4
from gabordiag.presentation.colors import INK, JUMP_COLOR, TARGET_COLOR
from gabordiag.presentation.figures import landscape
from gabordiag.presentation.figures.axis import ParameterAxis, loss_label
from gabordiag.presentation.figures.run_paths import RunPath, Runs, end_words, runs_title
from gabordiag.presentation.figures.space import broken_at_wraps, draw_ground
from gabordiag.presentation.figures.style import drawing, halo
from gabordiag.presentation.figures.surface import Plane, loss_levels
from gabordiag.presentation.phrases import run_settings
from gabordiag.wording import show_number

# All in milliseconds. GIF knows hundredths of a second, and players slow down what is below two.
FRAME = 40
LONGEST = 9_900
_OPENING, _CLOSING = 800, 1_700
_AFTER_JUMP, _AFTER_QUICK_JUMP = 800, 120
_JUMP, _QUICK_JUMP = 640, 160
# The way to a jump that is shown slowly takes this long, each step of it so long.
_APPROACH, _LONGEST_STEP = 2_000, 240
_SLOW_JUMPS = 2
# Steps of a run that converges, further and further apart.
_CALM_STEPS = 80
_MOST_STEPS = 400
_STEPS_OF_A_CYCLE = 40
# A run has converged once its distance to the end is this share of the largest one.
_AT_REST = 1e-3
# Height of an arc, as a share of the landscape's: of a jump, of the longest other step.
_HIGH, _LOW = 0.28, 0.10
# Inches at 100 dots each.
_WIDTH, _HEIGHT, _DPI = 8.0, 4.0, 100
_BLUE = "#0072B2"
_BALL: dict[str, Any] = {
    "markersize": 13, "markeredgecolor": "white", "markeredgewidth": 1.5, "zorder": 7
}  # fmt: skip


@dataclass(frozen=True)
class Frame:
    """One picture of an animation.

    `value` (in the parameter's unit, not wrapped) and `height` place the ball; `jump` is the step
    from which a jump under way, or just made, starts, and `arc` (m, 2) the way from there so far.
    """

    step: int
    value: float
    height: float
    milliseconds: int
    jump: int | None = None
    arc: FloatArray | None = None


def storyboard(path: RunPath, period: float | None) -> list[Frame]:
    """Returns a run's pictures, at most `LONGEST` ms; of a long step without its whole periods."""
    steps = chosen_steps(path)
    first = steps[0]
    frames = [Frame(first, float(path.values[first]), float(path.losses[first]), _OPENING)]
    left, jumps, seen = LONGEST - _OPENING - _CLOSING, set(path.jumps.tolist()), 0
    for here, there in itertools.pairwise(steps):
        is_slow, is_jump = seen < _SLOW_JUMPS, here in jumps
        duration, hold = _pace(path, steps, here) if is_slow else FRAME, 0
        if is_jump:
            duration, hold = (_JUMP, _AFTER_JUMP) if is_slow else (_QUICK_JUMP, _AFTER_QUICK_JUMP)
            seen += 1
        shot = _hop(path, here, there, period, duration, hold)
        left -= sum(frame.milliseconds for frame in shot)
        if left < 0:
            break
        frames += shot
    return [*frames, replace(frames[-1], milliseconds=_CLOSING)]


def chosen_steps(path: RunPath) -> list[int]:
    """Returns the steps worth showing: all around the first jumps, or ever fewer of a descent."""
    broken = np.flatnonzero(~np.isfinite(path.values) | ~np.isfinite(path.losses))
    last = int(broken[0]) - 1 if len(broken) else len(path.values) - 1
    if last < 1:
        return [0]
    if path.is_restless:
        most = _MOST_STEPS if len(path.jumps) else _STEPS_OF_A_CYCLE
        return list(range(path.window, min(path.window + most, last) + 1))
    away = np.abs(path.values[: last + 1] - path.values[last])
    moving = np.flatnonzero(away > _AT_REST * away.max())
    if len(moving):
        last = min(last, int(1.2 * moving[-1]) + 5)
    spread = np.geomspace(1, last + 1, _CALM_STEPS)
    return sorted({round(float(number)) - 1 for number in spread})


def _pace(path: RunPath, steps: Sequence[int], here: int) -> int:
    """Milliseconds of a step, so that the way to the next jump takes as long as it may."""
    if not path.is_restless:
        return min(_LONGEST_STEP, (LONGEST - _OPENING - _CLOSING) // len(steps))
    if len(path.jumps) == 0:
        return _LONGEST_STEP
    begin = max((int(t) for t in path.jumps if t < here), default=steps[0])
    end = min((int(t) for t in path.jumps if t >= here), default=steps[-1])
    return min(_LONGEST_STEP, max(FRAME, _APPROACH // max(1, end - begin)))


def _hop(
    path: RunPath, here: int, there: int, period: float | None, duration: int, hold: int
) -> list[Frame]:
    count = max(1, duration // FRAME)
    travel = float(path.values[there] - path.values[here])
    if period is not None:
        # The ball of a step of many turns goes the remainder.
        travel = math.fmod(travel, period)
    is_jump = here in path.jumps
    share = np.arange(count + 1) / count
    # Slow, fast, slow: 3 s^2 - 2 s^3.
    eased = share * share * (3 - 2 * share)
    heights = (1 - eased) * path.losses[here] + eased * path.losses[there]
    finite = path.losses[np.isfinite(path.losses)]
    lift = (_HIGH if is_jump else _LOW) * float(np.ptp(finite))
    if not is_jump and period is not None:
        lift *= min(1.0, abs(travel) / (period / 4))
    arc = np.stack([path.values[here] + eased * travel, heights + lift * 4 * eased * (1 - eased)])
    jump = here if is_jump else None
    frames = [
        Frame(here, float(value), float(height), FRAME, jump, arc.T[: k + 1] if is_jump else None)
        for k, (value, height) in enumerate(arc.T.tolist())
    ]
    end = float(path.values[there])
    frames[-1] = replace(frames[-1], step=there, value=end, milliseconds=FRAME + hold)
    return frames[1:]


def animate(runs: Runs) -> dict[str, bytes]:
    """Returns the animation of the run with most jumps: gif, and mp4 if ffmpeg is installed."""
    stage = (Stage if runs.sweep else PlaneStage).set_up(runs)
    gif = to_gif(list(stage.pictures()), [frame.milliseconds for frame in stage.frames])
    mp4 = to_mp4(gif)
    return {"gif": gif} if mp4 is None else {"gif": gif, "mp4": mp4}


@dataclass(frozen=True)
class _Stage(ABC):
    """A set-up animation: the figure with all that stands still, and what moves, by name."""

    figure: Figure
    path: RunPath
    frames: list[Frame]
    actors: Mapping[str, Any]

    def pictures(self) -> Iterator[Image.Image]:
        """Yields the pictures, RGB."""
        with drawing():
            canvas: Any = self.figure.canvas
            canvas.draw()
            still = canvas.copy_from_bbox(self.figure.bbox)
            for frame in self.frames:
                canvas.restore_region(still)
                self.show(frame)
                for actor in self.actors.values():
                    self.figure.draw_artist(actor)
                yield Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())

    def show(self, frame: Frame) -> None:
        """Puts the actors where they are in a frame."""
        path, actors = self.path, self.actors
        color = _BLUE if frame.jump is None else JUMP_COLOR
        past = np.arange(self.frames[0].step, frame.step + 1)
        self._move(frame, past)
        actors["curve"].set_data(path.steps[past], path.losses[past])
        t = path.jumps[(path.jumps >= past[0]) & (path.jumps < past[-1])]
        # With a gap after each.
        gaps = np.full(len(t), np.nan)
        columns = (np.stack([c[t], c[t + 1], gaps], axis=1) for c in (path.steps, path.losses))
        actors["jumps"].set_data(*(column.ravel() for column in columns))
        actors["now"].set_data([path.steps[frame.step]], [path.losses[frame.step]])
        for name in ("ball", "now"):
            actors[name].set_markerfacecolor(color)
        actors["caption"].set_text(self._caption(frame))
        actors["caption"].set_color(INK if frame.jump is None else JUMP_COLOR)
        actors["caption"].set_fontweight("normal" if frame.jump is None else "bold")

    @abstractmethod
    def _move(self, frame: Frame, past: npt.NDArray[Any]) -> None:
        """Puts the ball, and what goes with it, where it is; `past` are the steps so far."""

    @abstractmethod
    def _place_words(self, step: int) -> str:
        """Where the run is at a step, in words."""

    def _step_words(self, step: int) -> str:
        """How long a step is, in words, if that is one number."""
        return ""

    def _caption(self, frame: Frame) -> str:
        path, step = self.path, frame.step
        last = len(path.values) - 1
        if frame is self.frames[-1] and step < last and np.isfinite(path.values[step + 1]):
            return f"... and so on until step {last}"
        if frame.jump is None:
            return f"step {step}: {self._place_words(step)}, loss {show_number(path.losses[step])}"
        t = frame.jump
        before, after = (show_number(path.losses[k]) for k in (t, t + 1))
        how = self._step_words(t)
        return f"JUMP at step {t}: one step{how} takes the loss from {before} up to {after}"


@dataclass(frozen=True)
class Stage(_Stage):
    """A run of one parameter; the axis is over the window that is shown."""

    axis: ParameterAxis
    kernels: Mapping[str, Any] | None

    @classmethod
    def set_up(cls, runs: Runs) -> Stage:
        """Chooses the run, plans the pictures, and draws what does not move."""
        sweep, kernels = runs.ground, runs.kernels
        path = max(runs.paths, key=lambda path: int(path.run["n_jumps"]))
        usual = landscape.axis_of(sweep)
        frames = storyboard(path, usual.period)
        axis = ParameterAxis.of(usual.parameter, _window(usual, frames))
        # Where the landscape and the losses end.
        right = 0.985 if kernels is None else 0.735
        with drawing():
            figure, actors = _begin(runs_title(usual, [path]), fontsize=11)
            ground = figure.add_axes((0.075, 0.405, right - 0.075, 0.385))
            losses = figure.add_axes((0.075, 0.12, right - 0.075, 0.155))
            actors |= _set_landscape(ground, axis, sweep, path)
            heights = (sweep.landscape.smallest_loss, sweep.landscape.largest_loss)
            actors |= _set_losses(losses, heights, path, frames)
            if kernels is not None:
                actors |= _set_kernels(figure, axis, kernels)
            return cls(figure, path, frames, actors, axis, kernels)

    def _move(self, frame: Frame, past: npt.NDArray[Any]) -> None:
        path, actors = self.path, self.actors
        actors["trail"].set_data(self.place(path.values[past]), path.losses[past])
        actors["arc"].set_data(*self._arc(frame))
        actors["ball"].set_data(self.place([frame.value]), [frame.height])
        if self.kernels is None:
            return
        # The nearest saved kernel; black for a value out of their range.
        kernels, value, axis = self.kernels, frame.value, self.axis
        saved = np.asarray(kernels[axis.name], dtype=np.float64)
        known = axis.period is not None or saved[0] <= value <= saved[-1]
        kernel = kernels["kernels"][np.abs(axis.parameter.offset(saved, value)).argmin()]
        actors["kernel"].set_data(kernel if known else np.zeros_like(kernel))
        place = self._folded(value)
        actors["kernel_name"].set_text(f"kernel at {place}" if known else f"{place}: out of range")

    def place(self, values: npt.ArrayLike) -> FloatArray:
        """Returns where values are shown: inside the window as they are, else moved by periods."""
        axis = self.axis
        array = np.asarray(values, dtype=np.float64)
        if axis.period is not None:
            outside = (array < axis.low) | (array > axis.high)
            array = np.where(outside, axis.low + (array - axis.low) % axis.period, array)
        return array * axis.scale

    def _arc(self, frame: Frame) -> tuple[FloatArray, FloatArray]:
        """The way of a jump so far, with a gap where it leaves the window and comes back."""
        if frame.arc is None:
            return np.empty(0), np.empty(0)
        values, heights = frame.arc.T
        shown = self.place(values)
        moved = np.abs(np.diff(shown) - np.diff(values) * self.axis.scale)
        gaps = np.flatnonzero(moved > 1e-6 * (self.axis.limits[1] - self.axis.limits[0])) + 1
        return np.insert(shown, gaps, np.nan), np.insert(heights, gaps, heights[gaps])

    def _folded(self, value: float) -> str:
        return self.axis.show(float(self.axis.parameter.wrap(value)))

    def _place_words(self, step: int) -> str:
        return f"{self.axis.name} {self._folded(float(self.path.values[step]))}"

    def _step_words(self, step: int) -> str:
        values = self.path.values
        return f" of {self.axis.show(abs(float(values[step + 1] - values[step])))}"


@dataclass(frozen=True)
class PlaneStage(_Stage):
    """A run of several parameters, on the plane of the two that moved most.

    The values of its path are the way made so far, measured in tolerances; the columns are the two
    parameters' values at every step (T,).
    """

    plane: Plane
    columns: tuple[FloatArray, ...]

    @classmethod
    def set_up(cls, runs: Runs) -> PlaneStage:
        """Chooses the run and the plane, plans the pictures, and draws what does not move."""
        path = max(runs.paths, key=lambda path: int(path.run["n_jumps"]))
        moved, made = {}, np.zeros(len(path.steps) - 1)
        for name, tolerance in zip(runs.axes, runs.result["tolerances"], strict=True):
            with np.errstate(invalid="ignore", over="ignore"):
                changes = np.diff(np.asarray(path.table[name], dtype=np.float64)) / tolerance
                made = np.hypot(made, changes)
            way = np.cumsum(np.nan_to_num(changes, posinf=0.0, neginf=0.0))
            moved[name] = float(np.ptp(way)) if len(way) else 0.0
        plane = max(runs.planes, key=lambda plane: sum(moved[axis.name] for axis in plane.axes))
        way = np.concatenate([[0.0], np.cumsum(made)])
        path = replace(path, values=way)
        frames = storyboard(path, None)
        columns = tuple(np.asarray(path.table[a.name], dtype=np.float64) for a in plane.axes)
        with drawing():
            title = f"{run_settings(path.run)}: {end_words(path)}"
            figure, actors = _begin(title, fontsize=10)
            ground = figure.add_axes((0.09, 0.125, 0.49, 0.705))
            losses = figure.add_axes((0.70, 0.125, 0.285, 0.705))
            draw_ground(ground, plane, loss_levels(plane.loss), runs)
            if len(runs.axes) > 2:
                others = "the loss with the others as where the first run ended"
                ground.set_title(others, fontsize=8.5, pad=3)
            seen = path.losses[[frame.step for frame in frames]]
            heights = (float(seen.min()), float(seen.max()))
            look = {"color": path.look.color, "path_effects": halo(1.8), "zorder": 5}
            actors["trail"] = _mover(ground, ".-", **look)
            actors["ball"] = _mover(ground, "o", **_BALL)
            actors |= _set_losses(losses, heights, path, frames)
            return cls(figure, path, frames, actors, plane, columns)

    def _move(self, frame: Frame, past: npt.NDArray[Any]) -> None:
        way, axes = self.path.values, self.plane.axes
        trail = broken_at_wraps(axes, [column[past] for column in self.columns])
        self.actors["trail"].set_data(*trail)
        known = np.isfinite(way)
        ball = [
            axis.wrap(np.interp([frame.value], way[known], column[known]))
            for axis, column in zip(axes, self.columns, strict=True)
        ]
        self.actors["ball"].set_data(*ball)

    def _place_words(self, step: int) -> str:
        values = [float(column[step]) for column in self.columns]
        pairs = list(zip(self.plane.axes, values, strict=True))
        is_seen = all(axis.copies(value) for axis, value in pairs)
        words = (f"{axis.name} {axis.show(float(axis.parameter.wrap(v)))}" for axis, v in pairs)
        return ", ".join(words) + ("" if is_seen else " (outside)")


def _window(usual: ParameterAxis, frames: Sequence[Frame]) -> tuple[float, float]:
    """Returns a window on all that the run passes until its first jump has landed.

    It shows a valley whole that the end of the period would cut. Where the run stays inside the
    usual window, or goes further than that, the usual window is kept. Without a period the window
    holds all that is shown, up to one width beyond the usual one.
    """
    left, right, period = usual.low, usual.high, usual.period
    if period is None:
        most, room = right - left, 0.02 * (right - left)
        values = [frame.value + side for frame in frames for side in (-room, room)]
        low, high = min(values), max(values)
        return max(min(left, low), left - most), min(max(right, high), right + most)
    jump = next((frame.jump for frame in frames if frame.jump is not None), frames[-1].step)
    early = [frame.value for frame in frames if frame.step <= jump + 1]
    low, high = min(early), max(early)
    if (left <= low and high <= right) or high - low > 1.2 * period:
        return left, right
    half = max(period, 1.15 * (high - low)) / 2
    return (low + high) / 2 - half, (low + high) / 2 + half


def _begin(title: str, *, fontsize: float) -> tuple[Figure, dict[str, Any]]:
    """Returns a figure with its title and, as its first actor, the caption in this size."""
    figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=_DPI)
    FigureCanvasAgg(figure)
    figure.text(0.012, 0.975, title, fontsize=11, fontweight="bold", va="top")
    caption = figure.text(0.012, 0.905, "", fontsize=fontsize, va="top", animated=True)
    return figure, {"caption": caption}


def _mover(ax: Axes, line: str, **look: Any) -> Line2D:
    return ax.plot([], [], line, animated=True, **look)[0]


def _set_landscape(ax: Axes, axis: ParameterAxis, sweep: Sweep, path: RunPath) -> dict[str, Artist]:
    if len(sweep.landscape.attractors) > 1:
        landscape.draw_basins(ax, axis, sweep.landscape)
        _name_basins(ax, axis, sweep.landscape)
    landscape.draw_loss(ax, axis, sweep)
    low, high = ax.get_ylim()
    # Room for the arcs of jumps.
    ax.set_ylim(low, high + 0.18 * (high - low))
    axis.set_up(ax)
    ax.xaxis.labelpad = 1
    # Of the start, which may have copies in a window this wide, only where the run begins.
    target = axis.parameter.target
    copies = [x / axis.scale for x in axis.copies(target)]
    nearest = min(copies, key=lambda copy: abs(copy - (target or 0.0)), default=None)
    once = replace(axis, parameter=replace(axis.parameter, period=None, target=nearest))
    landscape.mark_values([ax], once, path.run["start"])
    ax.set_ylabel(loss_label(sweep.loss_name))
    trail = {"alpha": 0.7, "markersize": 5.5, "markeredgewidth": 0}
    return {
        "trail": _mover(ax, "o", color=_BLUE, **trail),
        "arc": _mover(ax, "-", color=JUMP_COLOR, linewidth=2.6, zorder=6),
        "ball": _mover(ax, "o", **_BALL),
    }


def _name_basins(ax: Axes, axis: ParameterAxis, found: Landscape) -> None:
    low, high = axis.limits
    at_top: dict[str, Any] = {"ha": "center", "va": "top", "transform": ax.get_xaxis_transform()}
    look: dict[str, Any] = {"fontsize": 8.5, "path_effects": halo(2.5), "zorder": 4.5}
    for point in found.attractors:
        assert point.basin is not None
        look["color"] = TARGET_COLOR if point.is_target else INK
        words = landscape.basin_words(found.parameter, point)
        for left, right in axis.spans(*point.basin):
            if right - left > 0.3 * (high - low):
                ax.text((left + right) / 2, 0.98, words, **at_top, **look)


def _set_losses(
    ax: Axes, heights: tuple[float, float], path: RunPath, frames: Sequence[Frame]
) -> dict[str, Artist]:
    first, last = (float(path.steps[frame.step]) for frame in (frames[0], frames[-1]))
    room = 0.02 * max(last - first, 1.0)
    bottom, top = heights
    slack = 0.12 * ((top - bottom) or 1.0)
    ax.set(xlim=(first - room, last + room), ylim=(bottom - slack, top + slack), ylabel="loss")
    ax.set_xlabel("step", labelpad=1)
    return {
        "curve": _mover(ax, "-", color=_BLUE, linewidth=1.3),
        "jumps": _mover(ax, "-", color=JUMP_COLOR, linewidth=2.4),
        "now": _mover(ax, "o", markersize=7, markeredgecolor="white", clip_on=False),
    }


def _set_kernels(
    figure: Figure, axis: ParameterAxis, kernels: Mapping[str, Any]
) -> dict[str, Artist]:
    side, left, target = 0.355, 0.79, kernels["target_kernel"]
    height = float(np.abs(target).max())
    grey: dict[str, Any] = {"cmap": "gray", "vmin": -height, "vmax": height}
    above: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 10}
    kernel, goal = (
        figure.add_axes((left, bottom, side * _HEIGHT / _WIDTH, side)) for bottom in (0.465, 0.03)
    )
    for ax in (kernel, goal):
        ax.set_axis_off()
    goal.imshow(target, **grey)
    value = axis.parameter.target
    words = "target" if value is None else f"target at {axis.show(value)}"
    goal.text(0.5, 1.03, words, transform=goal.transAxes, color=TARGET_COLOR, **above)
    name = kernel.text(0.5, 1.03, "", transform=kernel.transAxes, animated=True, **above)
    return {"kernel": kernel.imshow(target, animated=True, **grey), "kernel_name": name}
