"""The loss on a plane: over two parameters, or through all weights of a network.

From above, as contours, one reads where things lie and which way is down; as a surface in space,
how steep it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import FuncNorm, ListedColormap
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from gabordiag.objective.space import FloatArray
from gabordiag.presentation.colors import (
    INK,
    JUMP_COLOR,
    PALE,
    POINT_STYLES,
    RUN_STYLES,
    TARGET_COLOR,
)
from gabordiag.presentation.figures.axis import ParameterAxis, loss_label
from gabordiag.presentation.figures.sheets import fit_title, name_panels
from gabordiag.presentation.figures.style import entry, halo, legend_beside, new_figure, write
from gabordiag.presentation.phrases import height_words
from gabordiag.results import View
from gabordiag.wording import counted, show_number, spoken

# Low is light: there the marks are. Without the darkest part, on which arrows could not be seen.
LOSS_COLORS = ListedColormap(colormaps["YlGnBu"](np.linspace(0, 0.85, 256)))
# The bands between the levels are of equal area but for the lowest, which are ever smaller: on a
# linear scale one steep side takes all colours, and the valleys are a single one.
_SHARES = np.linspace(0, 1, 22) ** 1.6
# Arrows along the longer side of the axes; more hide the contours.
_ARROWS = 17
# Grid lines of the surface in space, each way.
_LINES = 70
# More minima than this are marked, but not each labelled with its place.
_MAX_LABELS = 6
# Marker, face, edge, size.
_MARKS: dict[str, tuple[str, str, str, float]] = {
    "target": ("*", TARGET_COLOR, "white", 17),
    "start": ("D", "none", INK, 12),
    "minimum": (*POINT_STYLES["minimum"][:2], INK, 9),
    "kink": (*POINT_STYLES["kink"][:2], INK, 9),
    "saddle": ("X", "white", INK, 9),
    "edge": ("s", "#56B4E9", INK, 7),
}


@dataclass(frozen=True)
class Plane:
    """The loss (m, k) over two parameters, at values `a` (m,) and `b` (k,) as people read them."""

    x: ParameterAxis
    y: ParameterAxis
    a: FloatArray
    b: FloatArray
    loss: FloatArray

    @classmethod
    def of(cls, x: ParameterAxis, y: ParameterAxis, table: Mapping[str, Any]) -> Plane:
        """Returns the plane of a saved table, whose values are in the parameters' units."""
        a, b, loss = (np.asarray(table[name], dtype=np.float64) for name in ("a", "b", "loss"))
        return cls(x, y, a * x.scale, b * y.scale, loss)

    @classmethod
    def of_surface(cls, view: View) -> Plane:
        """Returns the plane of a `Surface`."""
        return cls.of(*surface_axes(view.result), view.data["surface.npz"])

    @property
    def axes(self) -> tuple[ParameterAxis, ParameterAxis]:
        """Of both parameters."""
        return self.x, self.y

    def draw(self, ax: Axes, levels: FloatArray, *, lines: bool = False) -> QuadContourSet:
        """Draws filled contours, with white lines between them or not; sets the axes up."""
        grid = self.a, self.b, self.loss.T
        look: dict[str, Any] = {"cmap": LOSS_COLORS, "norm": loss_norm(levels)}
        contours = ax.contourf(*grid, levels=levels, **look)
        self.set_up(ax)
        if lines:
            at: dict[str, Any] = {"levels": levels, "colors": "white", "linewidths": 0.4}
            ax.contour(*grid, **at).set_alpha(0.6)
        return contours

    def draw_in_space(self, figure: Figure, levels: FloatArray, loss_name: str) -> Any:
        """Draws the surface in space, what is above the levels cut off, and returns its Axes."""
        # Marks stay in front of the surface: a minimum is seldom seen from the side.
        ax: Any = figure.add_subplot(projection="3d", computed_zorder=False)
        look: dict[str, Any] = {"cmap": LOSS_COLORS, "norm": loss_norm(levels), "zorder": 1}
        look |= {"edgecolor": INK, "linewidth": 0.12, "rcount": _LINES, "ccount": _LINES}
        heights = np.minimum(self.loss, levels[-1])
        ax.plot_surface(*np.meshgrid(self.a, self.b, indexing="ij"), heights, **look)
        self.x.set_up(ax)
        self.y.set_up(ax, vertical=True)
        ax.zaxis.set_rotate_label(False)
        ax.set_zlabel(loss_label(loss_name), rotation=90)
        ax.yaxis.labelpad = 10
        for label in ax.yaxis.get_majorticklabels():
            label.set_horizontalalignment("left")
        # Steeply from above: walls at the rim would hide the valleys behind them.
        ax.view_init(elev=56, azim=-62)
        ax.set_box_aspect((1.25, 1.0, 0.5), zoom=1.05)
        ax.zaxis.set_major_locator(MaxNLocator(5))
        return ax

    def set_up(self, ax: Axes) -> None:
        """Gives both axes their windows, labels and ticks."""
        self.x.set_up(ax)
        self.y.set_up(ax, vertical=True)
        ax.grid(False)


@dataclass(frozen=True)
class _Mark:
    """One point of the plane, as people read it."""

    kind: str
    x: float
    y: float
    loss: float | None
    words: str


def surface_figure(view: View) -> Figure:
    """Draws the contours with the gradient field, minima, saddles, target and start."""
    draw, result = partial(_draw_surface, view=view), view.result
    return _from_above(9.6, draw, result["loss"], surface_words(result))


def _from_above(
    width: float, draw: Callable[[Axes], tuple[QuadContourSet, list[Any]]], loss: str, title: str
) -> Figure:
    with new_figure(width, 6.6) as figure:
        ax = figure.subplots()
        contours, entries = draw(ax)
        draw_bar(figure, contours, ax, loss, pad=0.02, aspect=30)
        figure.legend(handles=entries, loc="outside lower center", ncols=len(entries))
        figure.suptitle(title)
    return figure


def surface_in_space_figure(view: View) -> Figure:
    """Draws the loss as a surface in space, with the same marks."""
    plane = Plane.of_surface(view)
    x, y, loss = plane.a, plane.b, plane.loss
    with new_figure(9.6, 7.4) as figure:
        ax = plane.draw_in_space(figure, loss_levels(loss), view.result["loss"])
        marks = list(_marks(view.result))
        for mark in marks:
            height = mark.loss
            if height is None:
                height = float(loss[np.abs(x - mark.x).argmin(), np.abs(y - mark.y).argmin()])
            ax.plot([mark.x], [mark.y], [height], zorder=5, **mark_style(mark.kind))
        entries = _entries(marks)
        figure.legend(handles=entries, loc="outside lower center", ncols=len(entries))
        figure.suptitle(surface_words(view.result))
    return figure


def surface_axes(result: Mapping[str, Any]) -> tuple[ParameterAxis, ParameterAxis]:
    """Returns the two axes of a surface's JSON."""
    columns = (result[key] for key in ("parameters", "ranges", "periods", "units"))
    first, second = (
        ParameterAxis.over(name, low, high, period, unit)
        for name, (low, high), period, unit in zip(*columns, strict=True)
    )
    return first, second


def surface_words(result: Mapping[str, Any]) -> str:
    """Returns what the surface shows, in a sentence."""
    minima, saddles = len(result["local_minima"]), len(result["saddles"])
    names = " and ".join(result["parameters"])
    if not minima:
        return f"The loss over {names}: no minimum found inside"
    also = f", {counted(saddles, 'saddle', 'saddles')}" if saddles else ""
    return f"The loss over {names}: {counted(minima, 'minimum', 'minima')}{also} found"


def draw_surface(ax: Axes, view: View) -> None:
    """Draws the contours with all marks, a title and a legend into one Axes."""
    legend_beside(ax, _draw_surface(ax, view)[1])
    ax.set_title(surface_words(view.result), fontsize=10)


def _draw_surface(ax: Axes, view: View) -> tuple[QuadContourSet, list[Line2D]]:
    plane = Plane.of_surface(view)
    contours = plane.draw(ax, loss_levels(plane.loss), lines=True)
    _draw_arrows(ax, plane, view.data["surface.npz"])
    return contours, mark_points(ax, view)


def draw_bar(
    figure: Figure, contours: QuadContourSet, ax: Any, loss_name: str, **place: Any
) -> None:
    """Draws the scale of a loss's colours beside its Axes."""
    # A loss so small beside the largest is rounding.
    least = float(np.finfo(float).eps * np.abs(np.asarray(contours.levels)).max())
    words = lambda x, _: show_number(x if abs(x) > least else 0.0)  # noqa: E731
    bar = figure.colorbar(contours, ax=ax, format=words, **place)
    bar.set_label(loss_label(loss_name))
    bar.outline.set_visible(False)


def loss_levels(loss: FloatArray) -> FloatArray:
    """Returns the levels between the bands of colour of a loss of any shape."""
    levels = np.unique(np.quantile(loss, _SHARES))
    # A flat loss has one level only.
    return levels if len(levels) > 2 else levels[0] + np.array([-1e-12, 0.0, 1e-12])


def loss_norm(levels: FloatArray) -> FuncNorm:
    """Returns the scale of colours on which the levels are equally far apart."""
    even = np.linspace(0, 1, len(levels))
    scales = (lambda v: np.interp(v, levels, even), lambda v: np.interp(v, even, levels))
    return FuncNorm(scales, vmin=levels[0], vmax=levels[-1])


def _draw_arrows(ax: Axes, plane: Plane, table: Mapping[str, Any]) -> None:
    """Draws the downhill direction at some points, across the contours as they are seen."""
    x, y = plane.a, plane.b
    box = ax.get_window_extent()
    sides = np.array([box.width, box.height])
    columns, rows = np.maximum(2, np.round(_ARROWS * sides / sides.max())).astype(int)
    i, j = _coarse(len(x), columns), _coarse(len(y), rows)
    # Slopes per part of the axis, in which the picture is isotropic but for its sides.
    across = -np.asarray(table["grad_a"])[np.ix_(i, j)] * (x[-1] - x[0]) / sides[0]
    along = -np.asarray(table["grad_b"])[np.ix_(i, j)] * (y[-1] - y[0]) / sides[1]
    across, along = across / plane.x.scale, along / plane.y.scale
    length = np.hypot(across, along)
    with np.errstate(invalid="ignore", divide="ignore"):
        across, along = across / length, along / length
    at_x, at_y = np.meshgrid(x[i], y[j], indexing="ij")
    keep = np.isfinite(across) & np.isfinite(along)
    heads: dict[str, Any] = {"headwidth": 4.5, "headlength": 5, "headaxislength": 4.5}
    look: dict[str, Any] = {"width": 0.0019, "color": INK, "alpha": 0.75, "zorder": 2, **heads}
    field = (at_x[keep], at_y[keep], across[keep], along[keep])
    ax.quiver(*field, angles="uv", pivot="mid", scale=2.1 * columns, **look)


def _coarse(count: int, wanted: int) -> Any:
    """Indices spread over a grid's axis, none on its ends."""
    wanted = min(wanted, count)
    return np.unique(((np.arange(wanted) + 0.5) * count / wanted).astype(int))


def mark_points(ax: Axes, view: View, *, arrows: bool = True) -> list[Line2D]:
    """Marks minima, saddles, target and start; returns the legend entries, also the arrows'."""
    marks = list(_marks(view.result))
    others = [mark for mark in marks if mark.kind in ("minimum", "kink")]
    low, high = ax.get_xlim()
    for mark in marks:
        ax.plot([mark.x], [mark.y], clip_on=False, zorder=5, **mark_style(mark.kind))
        if mark in others and len(others) <= _MAX_LABELS:
            left = mark.x > low + 0.8 * (high - low)
            look: dict[str, Any] = {"ha": "right" if left else "left", "va": "center"}
            look |= {"fontsize": 8, "color": INK, "zorder": 6}
            write(ax, mark.words, (mark.x, mark.y), (-8 if left else 8, -11), **look)
    arrow = {"linestyle": "", "color": INK, "marker": r"$\rightarrow$", "markersize": 12}
    return [*_entries(marks), *([entry("downhill", **arrow)] if arrows else [])]


def _marks(result: Mapping[str, Any]) -> Iterator[_Mark]:
    """Yields saddles, minima, target and start, with the copies that are seen."""
    minima = result["local_minima"]
    others = [point for point in minima if not point["is_target"]]
    # A custom objective may have no target.
    targets = [point for point in minima if point["is_target"]] or [result["target"] or {}]
    points = [(p["kind"], p) for p in [*result["saddles"], *result["edge_minima"], *others]]
    points += [("target", point) for point in targets if point]
    first, second = surface_axes(result)
    for kind, point in [*points, ("start", result["start"])]:
        a, b = point[first.name], point[second.name]
        loss = None if kind == "start" else point.get("loss")
        words = f"{first.show(a)}, {second.show(b)}"
        for x, y in itertools.product(first.copies(a), second.copies(b)):
            yield _Mark(kind, x, y, loss, words)


def mark_style(kind: str) -> dict[str, Any]:
    """Returns how `Axes.plot` draws a `target`, `start`, `minimum`, `kink` or `saddle`."""
    names = ("marker", "markerfacecolor", "markeredgecolor", "markersize")
    look: dict[str, Any] = dict(zip(names, _MARKS[kind], strict=True))
    width, effects = (1.6, halo(1.5)) if kind == "start" else (1.1, [])
    return {**look, "markeredgewidth": width, "path_effects": effects, "linestyle": ""}


def _entries(marks: Sequence[_Mark]) -> list[Line2D]:
    """Returns the legend entries of the kinds that occur, in one order."""
    words = {
        "target": "target ({})",
        "start": "start ({})",
        "minimum": "other minimum",
        "kink": "other zero",
        "saddle": "saddle",
        "edge": "falls on beyond the edge",
    }
    first = {mark.kind: mark.words for mark in reversed(marks)}
    if "target" not in first:
        words["minimum"], words["kink"] = "minimum", "zero"
    kinds = [kind for kind in _MARKS if kind in first]
    return [entry(words[kind].format(first[kind]), **mark_style(kind)) for kind in kinds]


def network_figure(view: View) -> Figure:
    """Draws the contours, and the path in the colours of the losses that the run had."""
    return _from_above(9.0, partial(_draw_network, view=view), "loss", _network_words(view))


def network_in_space_figure(view: View) -> Figure:
    """Draws the plane as a surface in space, with the path at its true losses above or below it."""
    table = view.data["surface.npz"]
    plane, levels = _network_plane(view)
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
        figure.suptitle(_network_words(view))
    return figure


def draw_network(ax: Axes, view: View) -> None:
    """Draws the contours and the path with a title and a legend into one Axes."""
    legend_beside(ax, _draw_network(ax, view)[1])
    ax.set_title(fit_title(_network_words(view)), fontsize=10)


def _network_words(view: View) -> str:
    result = view.result
    return (
        f"This picture {spoken(result['verdict'])}: "
        f"it holds {result['captured']:.1%} of the path's variance"
    )


def _network_plane(view: View) -> tuple[Plane, Any]:
    table, result = view.data["surface.npz"], view.result
    words = zip(result["axes"], result["ranges"], strict=True)
    x, y = (ParameterAxis.over(name, low, high, None, "") for name, (low, high) in words)
    finite = table["loss"][np.isfinite(table["loss"])]
    return Plane.of(x, y, table), loss_levels(finite)


def _draw_network(ax: Axes, view: View) -> tuple[QuadContourSet, list[Any]]:
    table, (plane, levels) = view.data["surface.npz"], _network_plane(view)
    contours = plane.draw(ax, levels, lines=True)
    path, true = table["path"], np.clip(table["path_loss"], levels[0], levels[-1])
    ax.plot(*path.T, color=INK, linewidth=1.0, path_effects=halo(2.0), zorder=4)
    look: dict[str, Any] = {"edgecolors": INK, "linewidths": 0.8, "s": 26, "zorder": 5}
    look |= {"c": true, "cmap": LOSS_COLORS, "norm": loss_norm(levels)}
    ax.scatter(path[:, 0], path[:, 1], **look)
    ax.plot(*path[0], **mark_style("start"), zorder=6)
    end: dict[str, Any] = {"marker": "s", "color": JUMP_COLOR, "markersize": 8, "linestyle": ""}
    ax.plot(*path[-1], **end, zorder=6)
    dot: dict[str, Any] = {"marker": "o", "markerfacecolor": PALE, "markeredgecolor": INK}
    path_entry = entry("the path, in the colour of its true loss", color=INK, **dot)
    start = entry("start", **mark_style("start"))
    return contours, [path_entry, start, entry("end", **end)]


def network_path_figure(view: View) -> Figure:
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
        for ax in (above, below):
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
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
                ax.plot([line["at"]] * 2, ends, color=JUMP_COLOR, label=height_words(line))
            ax.set(xlabel=f"t, from {line['from']} to {line['to']}", ylabel="loss")
            legend_beside(ax)
        figure.suptitle("The loss along straight lines between weights")
    return figure
