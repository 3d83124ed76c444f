"""A run as a moving picture: the ball on the landscape, the loss below, the kernel turning beside.

Drawn from a view, as the figures are; the kernels are those that were saved, the nearest one is
shown. What never moves is drawn once, and every picture is that one with the moving parts on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.text import Text
from PIL import Image

from gabordiag.landscape.critical import Landscape
from gabordiag.landscape.sweep import Sweep
from gabordiag.presentation.animation.film import to_gif, to_mp4
from gabordiag.presentation.animation.storyboard import Frame, storyboard
from gabordiag.presentation.figures.axis import FloatArray, ParameterAxis, loss_label
from gabordiag.presentation.figures.landscape import axis_of, draw_basins, draw_loss, mark_values
from gabordiag.presentation.figures.run_paths import RunPath, Runs, runs_title
from gabordiag.presentation.figures.style import (
    INK,
    JUMP_COLOR,
    TARGET_COLOR,
    drawing,
    halo,
    show_number,
)

# Inches at 100 dots each.
_WIDTH, _HEIGHT, _DPI = 8.0, 4.0, 100
_BALL, _BLUE = 13, "#0072B2"


def animate(runs: Runs) -> dict[str, bytes]:
    """Returns the animation of the run with the most jumps.

    Returns:
        `gif`, and `mp4` where ffmpeg is installed.
    """
    stage = Stage.set_up(runs)
    pictures = list(stage.pictures())
    gif = to_gif(pictures, [frame.milliseconds for frame in stage.frames])
    mp4 = to_mp4(gif)
    return {"gif": gif} if mp4 is None else {"gif": gif, "mp4": mp4}


@dataclass(frozen=True)
class Stage:
    """A set-up animation.

    Attributes:
        figure: With all that stands still, drawn.
        axis: Of the parameter, over the window that is shown.
        path: The run.
        frames: What is shown when.
        kernels: The saved kernels, or None.
        actors: The artists that move, by name.
    """

    figure: Figure
    axis: ParameterAxis
    path: RunPath
    frames: list[Frame]
    kernels: Mapping[str, Any] | None
    actors: Mapping[str, Any]

    @classmethod
    def set_up(cls, runs: Runs) -> Stage:
        """Chooses the run, plans the pictures, and draws what does not move."""
        sweep, kernels = runs.ground, runs.kernels
        path = max(runs.paths, key=lambda path: int(path.run["n_jumps"]))
        usual = axis_of(sweep)
        frames = storyboard(path, usual.period)
        axis = ParameterAxis.of(usual.parameter, _window(usual, frames))
        with drawing():
            figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=_DPI)
            FigureCanvasAgg(figure)
            places = _lay_out(figure, kernels is not None)
            title = runs_title(usual, [path])
            figure.text(0.012, 0.975, title, fontsize=11, fontweight="bold", va="top")
            actors: dict[str, Any] = {
                "caption": figure.text(0.012, 0.905, "", fontsize=11, va="top", animated=True)
            }
            actors |= _set_landscape(places["landscape"], axis, sweep, path)
            actors |= _set_losses(places["losses"], sweep.landscape, path, frames)
            if kernels is not None:
                actors |= _set_kernels(places, axis, kernels)
            return cls(figure, axis, path, frames, kernels, actors)

    def pictures(self) -> Iterator[Image.Image]:
        """Yields the pictures, RGB."""
        with drawing():
            canvas = self.figure.canvas
            assert isinstance(canvas, FigureCanvasAgg)
            canvas.draw()  # type: ignore[no-untyped-call]
            still = canvas.copy_from_bbox(self.figure.bbox)  # type: ignore[no-untyped-call]
            for frame in self.frames:
                canvas.restore_region(still)  # type: ignore[no-untyped-call]
                self.show(frame)
                for actor in self.actors.values():
                    _redraw(actor)
                pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
                yield Image.fromarray(pixels[..., :3].copy())

    def show(self, frame: Frame) -> None:
        """Puts the actors where they are in a frame."""
        axis, path, actors = self.axis, self.path, self.actors
        ball: Line2D = actors["ball"]
        ball.set_data(self.place([frame.value]), [frame.height])
        color = _BLUE if frame.jump is None else JUMP_COLOR
        ball.set_markerfacecolor(color)
        past = np.arange(self.frames[0].step, frame.step + 1)
        actors["trail"].set_data(self.place(path.values[past]), path.losses[past])
        actors["arc"].set_data(*self._arc(frame))
        actors["curve"].set_data(path.steps[past], path.losses[past])
        actors["jumps"].set_data(*_jump_lines(path, past))
        actors["now"].set_data([path.steps[frame.step]], [path.losses[frame.step]])
        actors["now"].set_markerfacecolor(color)
        caption: Text = actors["caption"]
        caption.set_text(_caption(axis, path, frame, frame is self.frames[-1]))
        caption.set_color(INK if frame.jump is None else JUMP_COLOR)
        caption.set_fontweight("normal" if frame.jump is None else "bold")
        if self.kernels is not None:
            saved = np.asarray(self.kernels[axis.name], dtype=np.float64)
            image: AxesImage = actors["kernel"]
            known = axis.period is not None or saved[0] <= frame.value <= saved[-1]
            kernel = self.kernels["kernels"][_nearest(saved, frame.value, axis.period)]
            image.set_data(kernel if known else np.zeros_like(kernel))
            place = _folded(axis, frame.value)
            words = f"kernel at {place}" if known else f"{place}: out of range"
            actors["kernel_name"].set_text(words)

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


def _lay_out(figure: Figure, with_kernels: bool) -> dict[str, Axes]:
    right = 0.735 if with_kernels else 0.985
    places = {
        "landscape": figure.add_axes((0.075, 0.405, right - 0.075, 0.385)),
        "losses": figure.add_axes((0.075, 0.12, right - 0.075, 0.155)),
    }
    if with_kernels:
        side, left = 0.355, 0.79
        for name, bottom in (("kernel", 0.465), ("target", 0.03)):
            places[name] = figure.add_axes((left, bottom, side * _HEIGHT / _WIDTH, side))
    return places


def _set_landscape(ax: Axes, axis: ParameterAxis, sweep: Sweep, path: RunPath) -> dict[str, Artist]:
    if len(sweep.landscape.attractors) > 1:
        draw_basins(ax, axis, sweep.landscape)
        _name_basins(ax, axis, sweep.landscape)
    draw_loss(ax, axis, sweep)
    low, high = ax.get_ylim()
    # Room for the arcs of jumps.
    ax.set_ylim(low, high + 0.18 * (high - low))
    axis.set_up(ax)
    ax.xaxis.labelpad = 1
    # Of the start, which may have copies in a window this wide, only where the run begins.
    target = nearest = axis.parameter.target
    if target is not None:
        copies = [x / axis.scale for x in axis.copies(target)]
        nearest = min(copies, key=lambda copy: abs(copy - target), default=None)
    once = replace(axis, parameter=replace(axis.parameter, period=None))
    mark_values([ax], once, target=nearest, start=path.run["start"])
    ax.set_ylabel(loss_label(sweep.loss_name))
    return {
        "trail": ax.plot(
            [], [], "o", color=_BLUE, alpha=0.7, markersize=5.5, markeredgewidth=0, animated=True
        )[0],
        "arc": ax.plot([], [], color=JUMP_COLOR, linewidth=2.6, zorder=6, animated=True)[0],
        "ball": ax.plot(
            [],
            [],
            "o",
            markersize=_BALL,
            markeredgecolor="white",
            markeredgewidth=1.5,
            zorder=7,
            animated=True,
        )[0],
    }


def _name_basins(ax: Axes, axis: ParameterAxis, landscape: Landscape) -> None:
    low, high = axis.limits
    for point in landscape.attractors:
        assert point.basin is not None
        words = "basin of the target" if point.is_target else "basin of another minimum"
        for left, right in axis.spans(*point.basin):
            if right - left > 0.3 * (high - low):
                ax.text(
                    (left + right) / 2,
                    0.98,
                    words,
                    transform=ax.get_xaxis_transform(),
                    ha="center",
                    va="top",
                    fontsize=8.5,
                    color=TARGET_COLOR if point.is_target else INK,
                    path_effects=halo(2.5),
                    zorder=4.5,
                )


def _set_losses(
    ax: Axes, landscape: Landscape, path: RunPath, frames: Sequence[Frame]
) -> dict[str, Artist]:
    first, last = (float(path.steps[frame.step]) for frame in (frames[0], frames[-1]))
    room = 0.02 * max(last - first, 1.0)
    ax.set_xlim(first - room, last + room)
    bottom, top = landscape.smallest_loss, landscape.largest_loss
    slack = 0.12 * ((top - bottom) or 1.0)
    ax.set_ylim(bottom - slack, top + slack)
    ax.set_xlabel("step", labelpad=1)
    ax.set_ylabel("loss")
    return {
        "curve": ax.plot([], [], "-", color=_BLUE, linewidth=1.3, animated=True)[0],
        "jumps": ax.plot([], [], "-", color=JUMP_COLOR, linewidth=2.4, animated=True)[0],
        "now": ax.plot(
            [], [], "o", markersize=7, markeredgecolor="white", clip_on=False, animated=True
        )[0],
    }


def _set_kernels(
    places: Mapping[str, Axes], axis: ParameterAxis, kernels: Mapping[str, Any]
) -> dict[str, Artist]:
    kernel, goal = places["kernel"], places["target"]
    height = float(np.abs(kernels["target_kernel"]).max())
    grey: dict[str, Any] = {"cmap": "gray", "vmin": -height, "vmax": height}
    for ax in (kernel, goal):
        ax.set_axis_off()
    goal.imshow(kernels["target_kernel"], **grey)
    image = kernel.imshow(kernels["target_kernel"], animated=True, **grey)
    target = axis.parameter.target
    words = "target" if target is None else f"target at {axis.show(target)}"
    above: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 10}
    goal.text(0.5, 1.03, words, transform=goal.transAxes, color=TARGET_COLOR, **above)
    name = kernel.text(0.5, 1.03, "", transform=kernel.transAxes, animated=True, **above)
    return {"kernel": image, "kernel_name": name}


def _redraw(actor: Artist) -> None:
    figure = actor.get_figure(root=True)
    assert isinstance(figure, Figure)
    assert isinstance(figure.canvas, FigureCanvasAgg)
    actor.draw(figure.canvas.get_renderer())  # type: ignore[no-untyped-call]


def _jump_lines(path: RunPath, past: np.ndarray[Any, Any]) -> tuple[list[float], list[float]]:
    """The jumps among the past steps, with a gap after each."""
    steps: list[float] = []
    losses: list[float] = []
    for t in path.jumps[(path.jumps >= past[0]) & (path.jumps < past[-1])].tolist():
        steps += [path.steps[t], path.steps[t + 1], np.nan]
        losses += [path.losses[t], path.losses[t + 1], np.nan]
    return steps, losses


def _nearest(saved: np.ndarray[Any, Any], value: float, period: float | None) -> int:
    apart = np.abs(saved - value)
    if period is not None:
        apart = np.abs(saved - value - period * np.round((saved - value) / period))
    return int(np.argmin(apart))


def _folded(axis: ParameterAxis, value: float) -> str:
    """A value in words, within one period around zero."""
    return axis.show(float(axis.parameter.wrap(value)))


def _caption(axis: ParameterAxis, path: RunPath, frame: Frame, at_end: bool) -> str:
    last = len(path.values) - 1
    if at_end and frame.step < last and np.isfinite(path.values[frame.step + 1]):
        return f"... and so on until step {last}"
    if frame.jump is None:
        place, loss = _folded(axis, float(path.values[frame.step])), path.losses[frame.step]
        return f"step {frame.step}: {axis.name} {place}, loss {show_number(loss)}"
    t = frame.jump
    before, after = (show_number(path.losses[k]) for k in (t, t + 1))
    length = axis.show(abs(float(path.values[t + 1] - path.values[t])))
    return f"JUMP at step {t}: one step of {length} takes the loss from {before} up to {after}"
