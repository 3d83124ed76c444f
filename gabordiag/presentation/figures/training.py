"""Trainings: filters before and after, lines of failing elements, gradients, learning rates."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from gabordiag.presentation import colors
from gabordiag.presentation.figures.axis import ParameterAxis
from gabordiag.presentation.figures.sheets import name_panels
from gabordiag.presentation.figures.style import legend_beside, log_losses, new_figure
from gabordiag.presentation.phrases import Json, parameter_of
from gabordiag.results import View
from gabordiag.wording import spoken

# Filters, lines and curves that one figure shows.
_MOST_FILTERS, _MOST_LINES, _MOST_CURVES = 32, 9, 6
_FILTER_COLUMNS = 8
_SMOOTH = 0.02
# How trainings with one learning rate end.
_ENDS = {
    "reached": colors.OUTCOME_COLORS["reached"],
    "unfinished": colors.FAINT,
    "unsteady": colors.OUTCOME_COLORS["running"],
    "diverged": colors.OUTCOME_COLORS["nonfinite"],
}


def training_figures(view: View) -> dict[str, Any]:
    """Returns the figures of a training's diagnosis: file stem -> drawing."""
    drawings: dict[str, Any] = {}
    if "bank.npz" in view.data:
        drawings["bank"] = partial(bank_figure, view)
    if _shown_lines(view):
        drawings["lines"] = partial(lines_figure, view)
    drawings["gradients"] = partial(gradients_figure, view)
    return drawings


def bank_figure(view: View) -> Figure:
    """Draws every filter and its orientation before and after, with a remedy, and the teacher's."""
    saved = view.data["bank.npz"]
    banks = dict(zip(("before", "after"), saved["kernels"], strict=True))
    banks |= {name: saved[name] for name in ("remedy", "teacher") if name in saved}
    total = len(banks["before"])
    # Of several layers the first is drawn.
    of = [element for element in view.result["elements"] if element["filter"] is not None]
    layer, *others = dict.fromkeys(element["parameter"].rpartition(".")[0] for element in of)
    elements: list[list[Json]] = [[] for _ in range(total)]
    for element in of:
        if element["parameter"].rpartition(".")[0] == layer:
            elements[element["filter"]].append(element)
    of_layer = f" of layer {layer}" if others else ""
    count = min(total, _MOST_FILTERS)
    columns = min(count, _FILTER_COLUMNS)
    rows, high = math.ceil(count / columns), len(banks)
    with new_figure(1.1 * columns + 1.0, 1.3 * high * rows + 0.6) as figure:
        grid = figure.subplots(high * rows, columns, squeeze=False)
        limit = float(np.abs(list(banks.values())).max()) or 1.0
        for axes in grid.flat:
            axes.set_axis_off()
        for index, (below, when) in itertools.product(range(count), enumerate(banks)):
            row, column = divmod(index, columns)
            ax = grid[high * row + below, column]
            ax.set_label(f"{when}-{index}")
            kernel = banks[when][index]
            _draw_kernel(ax, kernel, limit)
            if below < 2:
                _draw_orientation(ax, elements[index], "final" if below else "start", kernel)
            if column == 0:
                place: dict[str, Any] = {"transform": ax.transAxes, "rotation": 90, "fontsize": 9}
                ax.text(-0.12, 0.5, when, ha="right", va="center", **place)
            if not below:
                verdicts = (e["verdict"] for e in elements[index] if e["verdict"] != "healthy")
                found = next(verdicts, "")
                words, ink = f"{index}", colors.INK
                if found:
                    words, ink = f"{index}: {spoken(found)}", colors.JUMP_COLOR
                words = textwrap.fill(words, 15)
                ax.set_title(words, fontsize=8, color=ink, pad=3)
        left = f", the first {count} of {total}" if count < total else ""
        figure.suptitle(f"The filters{of_layer} before and after the training{left}")
    return figure


def _draw_kernel(ax: Axes, kernel: Any, limit: float) -> None:
    if kernel.ndim == 1:
        ax.plot(kernel, color=colors.RUN_STYLES[0][0], linewidth=1.0)
        ax.set_ylim(-1.1 * limit, 1.1 * limit)
        return
    ax.imshow(kernel, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")


def _draw_orientation(ax: Axes, elements: Sequence[Json], when: str, kernel: Any) -> None:
    if kernel.ndim == 1:
        return
    for element in elements:
        is_orientation = element["parameter"].rpartition(".")[2] in ("theta", "orientation")
        if not is_orientation or element[when] is None:
            continue
        half = (len(kernel) - 1) / 2
        dx, dy = 0.8 * half * math.cos(element[when]), 0.8 * half * math.sin(element[when])
        # Without a head: an orientation is the same after half a turn.
        ax.plot([half - dx, half + dx], [half - dy, half + dy], color=colors.INK, linewidth=1.2)


def _shown_lines(view: View) -> list[int]:
    """Returns the elements whose lines say most: those that fail, some of each verdict."""
    if "lines.npz" not in view.data:
        return []
    seen: Counter[str] = Counter()
    ranked = []
    for index, element in enumerate(view.result["elements"]):
        if element["verdict"] != "healthy":
            ranked.append((seen[element["verdict"]], index))
            seen[element["verdict"]] += 1
    return sorted(index for _, index in sorted(ranked)[:_MOST_LINES])


def lines_figure(view: View) -> Figure:
    """Draws the loss along failing elements, before and after the training."""
    indices = _shown_lines(view)
    columns = min(3, len(indices))
    rows = math.ceil(len(indices) / columns)
    with new_figure(3.6 * columns + 1.2, 2.5 * rows + 0.9) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for ax in list(grid.flat)[len(indices) :]:
            ax.set_axis_off()
        entries: dict[str, Any] = {}
        for number, (ax, index) in enumerate(zip(grid.flat, indices, strict=False)):
            ax.set_label(f"line-{number}")
            entries |= _draw_line(ax, view, index)
            ax.set_ylabel("" if number % columns else "loss", fontsize=9)
        look: dict[str, Any] = {"ncols": 5 if columns > 1 else 3, "fontsize": 8}
        figure.legend(entries.values(), entries, loc="outside lower center", **look)
        failing = sum(element["verdict"] != "healthy" for element in view.result["elements"])
        few = f", {len(indices)} of {failing} that fail" if len(indices) < failing else ""
        figure.suptitle(f"The loss along one element, everything else frozen{few}")
    return figure


def _draw_line(ax: Axes, view: View, index: int) -> dict[str, Any]:
    """Draws one element's two lines; returns what stands for what, by its words."""
    element, data = view.result["elements"][index], view.data["lines.npz"]
    parameter = parameter_of(element)
    scale = parameter.scale
    # Each on a scale of its own: the shape counts, and a training lowers the loss by much.
    before = ax.twinx()
    before.tick_params(labelsize=7, colors=colors.FAINT)
    before.grid(False)
    for on, kind, style, color, words, mark, place in (
        (before, "start", "--", colors.FAINT, "before the training (right)", "s", "its start"),
        (ax, "final", "-", colors.RUN_STYLES[0][0], "after it (left)", "o", "its end"),
    ):
        values, losses = data[f"{kind}-value-{index}"], data[f"{kind}-loss-{index}"]
        on.plot(scale * values, losses, style, color=color, linewidth=1.4, label=words)
        value = element[kind]
        if value is not None:
            height = np.interp(value, values, losses)
            look: dict[str, Any] = {"markeredgecolor": "white", "markersize": 8, "zorder": 5}
            on.plot(scale * value, height, mark, color=color, label=place, **look)
        on.margins(y=0.15)
    if element["goal"] is not None:
        look = {"color": colors.TARGET_COLOR, "linewidth": 1.2, "linestyle": ":"}
        ax.axvline(scale * element["goal"], label="where it should be", **look)
    ParameterAxis.of(parameter, (float(values.min()), float(values.max()))).set_up(ax)
    ax.xaxis.label.set_fontsize(9)
    ax.set_title(spoken(element["verdict"]), fontsize=9, color=colors.JUMP_COLOR)
    ax.tick_params(labelsize=8)
    # The run's end is drawn over its start.
    ax.set(zorder=before.get_zorder() + 1, frame_on=False)
    handles = [handle for axes in (before, ax) for handle in axes.get_legend_handles_labels()[0]]
    return {str(handle.get_label()): handle for handle in handles}


def gradients_figure(view: View) -> Figure:
    """Draws the loss, and below it each parameter's share of the gradient."""
    with new_figure(9.0, 5.4) as figure:
        above, below = figure.subplots(2, 1, sharex=True)
        name_panels((above, below), ("losses", "shares"))
        losses = np.array(view.result["run"]["losses"], dtype=np.float64)
        blue, smooth = colors.RUN_STYLES[0][0], _smoothed(losses)
        color = blue if smooth is losses else colors.PALE
        above.plot(losses, color=color, linewidth=0.8, label="of each batch")
        if smooth is not losses:
            above.plot(smooth, color=blue, linewidth=1.6, label="smoothed")
        positive = losses[losses > 0]
        if len(positive) == len(losses) and positive.max() > 30 * positive.min():
            log_losses(above)
        above.set_ylabel("loss")
        legend_beside(above)
        draw_shares(below, view)
        figure.suptitle("The training, and which parameters get the gradient")
    return figure


def draw_shares(ax: Axes, view: View) -> None:
    """Draws the lengths of watched parameters' gradients, and of the largest others.

    Each is a share of the whole gradient's; their squares add up to 1.
    """
    sizes = dict(view.data["gradients.npz"])
    total = sizes.pop("total")
    watched = {element["tensor"]: element["parameter"] for element in view.result["elements"]}
    others = sorted(set(sizes) - set(watched), key=lambda n: -float(np.nanmean(sizes[n])))
    shown = [*watched, *others][: max(_MOST_CURVES, len(watched))]
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = {name: _smoothed(sizes[name] / total) for name in shown if name in sizes}
    for index, (name, share) in enumerate(shares.items()):
        color, style, _ = colors.RUN_STYLES[index % len(colors.RUN_STYLES)]
        look: dict[str, Any] = {"linestyle": style, "linewidth": 1.6, "label": watched.get(name)}
        if name not in watched:
            look = {"linestyle": ":", "linewidth": 1.2, "label": f"{name} (not watched)"}
        ax.plot(np.where(share > 0, share, np.nan), color=color, **look)
    if any((share > 0).any() for share in shares.values()):
        ax.set_yscale("log")
        # Mostly within one decade or two.
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.3g}%"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set(xlabel="step", ylabel="length, of the whole\ngradient's")
    legend_beside(ax)


def _smoothed(values: Any) -> Any:
    """Returns means over windows around each value; values so few that there is none, as such."""
    half = int(_SMOOTH * len(values)) // 2
    if half == 0:
        return values
    width = 2 * half + 1
    return np.convolve(np.pad(values, half, "edge"), np.full(width, 1 / width), mode="valid")


def rates_figure(view: View) -> Figure:
    """Draws the endings against the rate: of one rate for all, and of each group below."""
    scans = (view.result, *view.result["groups"])
    with new_figure(9.0, 1.2 + 3.2 * len(scans)) as figure:
        axes = list(figure.subplots(len(scans), 1, squeeze=False, sharex=True)[:, 0])
        name_panels(axes, [f"rates-{index}" for index in range(len(scans))])
        for ax, scan in zip(axes, scans, strict=True):
            draw_rates(ax, view, scan)
        figure.suptitle("Where trainings end, by learning rate")
    return figure


def draw_rates(ax: Axes, view: View, scan: Any = None) -> None:
    """Draws the endings of a scan, by default of one rate for all parameters, into one Axes."""
    scan = view.result if scan is None else scan
    start, goal, trials = view.result["start_loss"], view.result["goal"], scan["trials"]
    losses = [loss for trial in trials for loss in trial["losses"] if loss is not None]
    low, high = min([*losses, start]), max(start, goal or start)
    is_log = low > 0 and high > 30 * low
    # A training that gets to the goal is seen to, though others with its rate do not.
    least = -math.inf if goal is None else goal
    # What ends higher than a little above the start is drawn at the edge.
    top = high * (high / low) ** 0.15 if is_log else high + 0.15 * ((high - low) or 1.0)
    for index, (left, right) in enumerate(scan["working_lr"]):
        # A window of a single rate is seen, too.
        ends = left / 1.02, right * 1.02
        ax.axvspan(*ends, color=colors.TARGET_BAND, zorder=0, label="" if index else "works")
    for outcome, color in _ENDS.items():
        places = [
            (trial["lr"], x)
            for trial in trials
            for x in trial["losses"]
            if outcome == ("reached" if x is not None and x <= least else trial["outcome"])
        ]
        if places:
            lr, ends = np.array([(r, top if x is None else min(x, top)) for r, x in places]).T
            look: dict[str, Any] = {"linestyle": "", "markersize": 6, "markeredgecolor": "white"}
            mark = "^" if outcome == "diverged" else "o"
            ax.plot(lr, ends, mark, color=color, label=outcome, zorder=4, **look)
    ax.axhline(start, color=colors.FAINT, linestyle=":", label="before the training")
    if goal is not None:
        ax.axhline(goal, color=colors.TARGET_COLOR, linestyle="--", linewidth=1.2, label="goal")
    if (rate := scan["recommended_lr"]) is not None:
        ax.axvline(rate, color=colors.INK, linewidth=1.4, label=f"take {rate:.3g}")
    ax.set(xscale="log", yscale="log" if is_log else "linear", ylabel="loss at the end")
    group = "" if scan["rest_lr"] is None else f" of {scan['parameter']}"
    ax.set_xlabel(f"learning rate{group}")
    legend_beside(ax)
