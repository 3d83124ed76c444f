"""The loss along its parameter, with all that is known about it; the ground of other figures.

Each part draws a landscape or a sweep into given Axes and returns legend entries, so that a figure
made of several parts has one legend. Of a sweep, three gradients that agree look like one curve:
how well they agree shows on a logarithm below, as do the errors of a checked derivative.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gabordiag.landscape.points import CriticalPoint, Landscape
from gabordiag.objective.space import FloatArray, Parameter
from gabordiag.presentation import colors
from gabordiag.presentation.figures import style
from gabordiag.presentation.figures.axis import ParameterAxis, loss_label
from gabordiag.presentation.figures.sheets import name_panels
from gabordiag.presentation.phrases import describe_certificate, describe_points, exact_derivative
from gabordiag.results import View
from gabordiag.wording import show_number, spoken

if TYPE_CHECKING:
    from gabordiag.landscape.sweep import Survey, Sweep

# More critical points than this are marked, but not each labelled with its place.
_MAX_LABELS = 9
# So many points stand apart at full size; more are drawn smaller.
_MAX_POINTS = 60
# Where little of a sweep is shown, so many pieces lie between two of its values.
_BETWEEN = 16
# Of the single images behind their mean.
_SINGLE = "#8C6BB1"
# Every 12th central difference is drawn: the curves coincide, and dots on a line show both.
_DOT_STRIDE = 12


def axis_of(sweep: Sweep) -> ParameterAxis:
    """Returns the axis of a sweep's parameter, over the values of the sweep."""
    low, high = sweep.values[[0, -1]].tolist()
    return ParameterAxis.of(sweep.landscape.parameter, (low, high))


def draw_basins(
    ax: Axes, axis: ParameterAxis, landscape: Landscape, *, vertical: bool = False
) -> list[Patch]:
    """Shades the basins; returns their legend entries, the target's first."""
    span, line = (ax.axhspan, ax.axhline) if vertical else (ax.axvspan, ax.axvline)
    handles: dict[str, Patch] = {}
    others = itertools.cycle(colors.OTHER_BANDS)
    for point in landscape.attractors:
        assert point.basin is not None
        color = colors.TARGET_BAND if point.is_target else next(others)
        for low, high in axis.spans(*point.basin):
            span(low, high, color=color, linewidth=0, zorder=0)
        words = basin_words(landscape.parameter, point)
        if color == colors.OTHER_BANDS[1]:
            words = "basin of the next minimum"
        handles.setdefault(words, Patch(facecolor=color, edgecolor="#CCCCCC", label=words))
    for point in landscape.points:
        for edge in axis.copies(point.value) if point.kind == "maximum" else []:
            line(edge, color="#BBBBBB", linewidth=0.7, linestyle=(0, (1, 2)), zorder=0.5)
    return [handles[words] for words in sorted(handles, key=lambda words: "target" not in words)]


def basin_words(parameter: Parameter, point: CriticalPoint) -> str:
    """Returns whose basin that of a minimum is."""
    if parameter.target is None:
        return "basin of a minimum"
    return "basin of the target" if point.is_target else "basin of another minimum"


def draw_loss(ax: Axes, axis: ParameterAxis, sweep: Sweep, *, label: str = "loss") -> Line2D:
    """Draws the loss of a sweep, repeated by the period where the window is wider."""
    values, loss = sweep.values, sweep.loss
    if axis.high - axis.low < values[-1] - values[0] and not sweep.landscape.discontinuities:
        first, last = np.searchsorted(values, [axis.low, axis.high])
        near = slice(max(first - 1, 0), last + 1)
        values, loss = _between(values[near], loss[near], sweep.grad_analytic[near])
    # A gap where the loss jumps.
    span = values[0], values[-1]
    jumps = [jump for jump in sweep.landscape.discontinuities if span[0] < jump.above < span[1]]
    sides = [side for jump in jumps for side in (jump.below, math.nan, jump.above)]
    heights = [side for jump in jumps for side in (jump.loss_below, math.nan, jump.loss_above)]
    at = np.repeat(np.searchsorted(values, [jump.above for jump in jumps]), 3)
    values, loss = np.insert(values, at, sides), np.insert(loss, at, heights)
    look: dict[str, Any] = {"color": colors.INK, "linewidth": 1.6, "label": label}
    line = Line2D([], [])
    low, high = float(values[0]), float(values[-1])
    for left, _ in axis.spans(low, high):
        # The piece's shift: a copy that is cut off begins at the window's edge.
        period = axis.period or 0.0
        turns = math.floor((left / axis.scale - low) / period + 1e-9) if period else 0
        (line,) = ax.plot((values + period * turns) * axis.scale, loss, **look)
    finite = loss[np.isfinite(loss)]
    if len(finite):
        bottom, top = float(finite.min()), float(finite.max())
        room = (top - bottom) or 1.0
        ax.set_ylim(bottom - 0.10 * room, top + 0.16 * room)
    return line


def _between(
    values: FloatArray, loss: FloatArray, slopes: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Returns values and losses with more between them, on Hermite's cubics; straight at a pole."""
    share, steps = np.arange(_BETWEEN) / _BETWEEN, np.diff(values)[:, None]
    rest, left, right = 1 - share, loss[:-1, None], loss[1:, None]
    bend = steps * share * rest * (slopes[:-1, None] * rest - slopes[1:, None] * share)
    curve = left * rest**2 * (1 + 2 * share) + right * share**2 * (1 + 2 * rest) + bend
    straight = left * rest + right * share
    finer = np.where(np.isfinite(curve), curve, straight).ravel()
    places = (values[:-1, None] + steps * share).ravel()
    return np.append(places, values[-1]), np.append(finer, loss[-1])


def _draw_single_images(ax: Axes, values: FloatArray, survey: Survey) -> Line2D:
    """Draws the losses of single images behind their mean; returns the legend entry.

    The window, which shows the mean, grows to twice its height at most.
    """
    losses = survey.losses
    alpha = min(0.6, max(0.25, 12 / len(losses)))
    ax.plot(values, losses.T, color=_SINGLE, linewidth=0.6, alpha=alpha, zorder=1)
    bottom, top = ax.get_ylim()
    highest = float(np.nanmax(losses))
    ax.set_ylim(bottom, min(max(top, 1.04 * highest), 2 * top))
    more = ",\nsome exceed the window" if highest > 2 * top else ""
    return style.entry(f"single images ({len(losses)}){more}", color=_SINGLE, linewidth=1.0)


def mark_critical_points(
    ax: Axes, axis: ParameterAxis, landscape: Landscape, *, labels: bool = True
) -> list[Line2D]:
    """Marks the critical points, each with its place; returns the legend entries."""
    handles: dict[str, Line2D] = {}
    parameter = landscape.parameter
    points = [point for point in landscape.points if axis.copies(point.value)]
    shrunk = min(1.0, math.sqrt(_MAX_POINTS / max(len(points), 1)))
    # Target and start have lines with names of their own.
    named = [value for value in (parameter.target, parameter.start) if value is not None]
    for point in points:
        kind = point.kind
        marker, face, size = colors.POINT_STYLES[kind]
        look: dict[str, Any] = {
            "marker": marker, "markersize": size * shrunk, "markerfacecolor": face,
            "markeredgecolor": colors.INK, "markeredgewidth": shrunk, "linestyle": "",
        }  # fmt: skip
        for x in axis.copies(point.value):
            ax.plot([x], [point.loss], clip_on=False, zorder=5, **look)
            if labels and len(points) <= _MAX_LABELS and point.value not in named:
                _label_point(ax, axis, point, x, [v for value in named for v in axis.copies(value)])
            words = "minimum with a kink\n(loss 0, slope jumps)" if kind == "kink" else kind
            handles.setdefault(kind, style.entry(words, **look))
    return list(handles.values())


def _label_point(
    ax: Axes, axis: ParameterAxis, point: CriticalPoint, x: float, lines: Sequence[float]
) -> None:
    """Writes the point's place above a maximum or below a minimum, beside the given lines."""
    low, high = axis.limits
    left, right = (x - low) / (high - low) < 0.03, (x - low) / (high - low) > 0.97
    close = [line for line in lines if abs(line - x) < 0.06 * (high - low)]
    left |= any(line <= x for line in close)
    right |= any(line > x for line in close)
    look: dict[str, Any] = {"ha": "left" if left else "right" if right else "center"}
    look |= {"va": "top" if point.is_attractor else "bottom", "fontsize": 8, "color": colors.INK}
    offset = (4 * (left - right), -7 if point.is_attractor else 7)
    style.write(ax, axis.show(point.value), (x, point.loss), offset, zorder=6, **look)


def mark_values(
    axes: Sequence[Axes], axis: ParameterAxis, start: float | None, outlined: Sequence[Axes] = ()
) -> None:
    """Draws the target and a start as vertical lines, labelled above the first axes.

    In the `outlined` axes, of many colours, the lines are outlined.
    """
    target = axis.parameter.target
    is_one = target is not None and start == target
    marks = [
        (x, f"{name} {axis.show(value)}", color, dash)
        for value, name, color, dash in (
            (target, "start and target" if is_one else "target", colors.TARGET_COLOR, "-"),
            (None if is_one else start, "start", colors.INK, "--"),
        )
        if value is not None
        for x in axis.copies(value)
    ]
    places = [place for place, *_ in marks]
    for x, label, color, dash in marks:
        for ax in [*axes, *outlined]:
            line = ax.axvline(x, color=color, linewidth=1.3, linestyle=dash, zorder=4)
            if ax in outlined:
                line.set_path_effects(style.halo(3.2))
        style.write_above([*axes, *outlined][0], label, x, ha=_side(x, places, axis), color=color)


def _side(x: float, places: Sequence[float], axis: ParameterAxis) -> str:
    """Where a label stands to its line: centred, or away from an edge or a close neighbour."""
    low, high = axis.limits
    width = high - low
    near = [other for other in places if other != x and abs(other - x) < 0.2 * width]
    if (x - low) / width < 0.08 or any(other < x for other in near):
        return "left"
    if (x - low) / width > 0.92 or near:
        return "right"
    return "center"


def draw_landscape(
    ax: Axes, axis: ParameterAxis, sweep: Sweep, *, start: float | None, labels: bool = True
) -> list[Any]:
    """Draws loss, basins, critical points, target and start; returns the legend entries."""
    landscape, survey = sweep.landscape, sweep.survey
    bands = draw_basins(ax, axis, landscape)
    entries = [draw_loss(ax, axis, sweep, label="mean over all images" if survey else "loss")]
    if survey is not None:
        entries.append(_draw_single_images(ax, sweep.values * axis.scale, survey))
    entries += mark_critical_points(ax, axis, landscape, labels=labels)
    mark_values([ax], axis, start)
    ax.set_ylabel(loss_label(sweep.loss_name))
    return [*entries, *bands]


def sweep_figure(sweep: Sweep) -> Figure:
    """Draws a sweep: the loss, its gradient three ways, and how far the three are apart."""
    axis = axis_of(sweep)
    with style.new_figure(10.0, 8.6) as figure:
        loss, gradient, mismatch = figure.subplots(3, 1, sharex=True, height_ratios=[3, 2.6, 1.8])
        name_panels((loss, gradient, mismatch), ("loss", "gradient", "mismatch"))
        draw_sweep(loss, sweep)
        loss.set_xlabel("")
        _draw_gradients(gradient, axis, sweep)
        _draw_mismatch(mismatch, axis, sweep)
        parameter = axis.parameter
        ends = (parameter.target, colors.TARGET_COLOR, "-"), (parameter.start, colors.INK, "--")
        for ax, (value, color, dash) in itertools.product((gradient, mismatch), ends):
            for x in axis.copies(value):
                ax.axvline(x, color=color, linewidth=0.8, linestyle=dash, alpha=0.5, zorder=1)
        axis.set_up(mismatch)
        figure.align_ylabels()
        found, images = sweep.landscape, sweep.landscape.images
        mean = f", mean over {images['used']} images" if images and images["used"] > 1 else ""
        points, known = describe_points(found), describe_certificate(found)
        figure.suptitle(f"The loss over {parameter.name}{mean}: {points} ({known})")
    return figure


def draw_sweep(ax: Axes, sweep: Sweep) -> None:
    """Draws the loss with its critical points, basins, target and start into one Axes."""
    axis = axis_of(sweep)
    entries = draw_landscape(ax, axis, sweep, start=sweep.landscape.parameter.start)
    axis.set_up(ax)
    style.legend_beside(ax, entries)


def _draw_gradients(ax: Axes, axis: ParameterAxis, sweep: Sweep) -> None:
    # A gap at every kink, where the gradient jumps.
    kinks = [point.value for point in sweep.landscape.points if point.kind == "kink"]
    places = np.array([x for kink in kinks for x in axis.copies(kink)])
    at = np.searchsorted(sweep.values * axis.scale, places)
    values = np.insert(sweep.values * axis.scale, at, places)
    analytic, autograd = (
        np.insert(gradient, at, np.nan) for gradient in (sweep.grad_analytic, sweep.grad_autograd)
    )
    ax.axhline(0, color=colors.FAINT, linewidth=0.8)
    ax.plot(values, analytic, color="#9CCBEB", linewidth=6, label=exact_derivative(sweep))
    ax.plot(values, autograd, color="#003E66", linewidth=1.4, linestyle="--", label="autograd")
    # A difference quotient across a kink is the derivative of neither side.
    numeric = np.where(np.isfinite(sweep.grad_analytic), sweep.grad_numeric, np.nan)
    dotted = (sweep.values * axis.scale)[::_DOT_STRIDE], numeric[::_DOT_STRIDE]
    label = f"central differences\n(every {_DOT_STRIDE}th point)"
    ax.plot(*dotted, "o", color="#D55E00", markersize=3.6, label=label)
    per = "rad" if axis.parameter.is_angle else axis.parameter.unit
    ax.set_ylabel("gradient" + (f" [loss per {per}]" if per else ""))
    style.legend_beside(ax)


def _draw_mismatch(ax: Axes, axis: ParameterAxis, sweep: Sweep) -> None:
    x = sweep.values * axis.scale
    dots: dict[str, Any] = {"markersize": 2.4, "markeredgewidth": 0.8, "markerfacecolor": "none"}
    scale, check = sweep.landscape.largest_gradient or 1.0, sweep.gradient_check
    shown = []
    for gradient, worst, words, marker, color in (
        (sweep.grad_autograd, check.analytic_vs_autograd, "autograd", "x", "#003E66"),
        (sweep.grad_numeric, check.analytic_vs_numeric, "differences", "o", "#D55E00"),
    ):
        # Where both are infinite they do not differ by a number.
        with np.errstate(invalid="ignore"):
            apart = np.abs(sweep.grad_analytic - gradient) / scale
        # A logarithm has no zero: where two agree to the last bit there is nothing to draw.
        apart = np.where(np.isfinite(apart) & (apart > 0), apart, np.nan)
        # What the check left out, where a difference quotient does not approximate a derivative.
        is_out = apart > (math.inf if worst is None else worst * (1 + 1e-9))
        note = "equal" if worst == 0 else f"at most {show_number(worst, 1)}" if worst else "unknown"
        label = f"{exact_derivative(sweep)} − {words}\n({note})"
        ax.plot(x, np.where(is_out, np.nan, apart), marker, color=color, label=label, **dots)
        if is_out.any():
            label = "not compared\n(an end, a kink, ripples)"
            left_out = np.where(is_out, apart, np.nan)
            ax.plot(x, left_out, marker, color=colors.PALE, label=label, **dots)
        shown.append(apart)
    ax.set_yscale("log")
    if not np.isfinite(np.concatenate(shown)).any():
        ax.set_ylim(1e-16, 1e-12)
    ax.set_ylabel("mismatch /\nlargest gradient")
    style.legend_beside(ax)


def draw_check(ax: Axes, view: View) -> None:
    """Draws the largest relative errors of a `Check` as bars on a logarithmic axis."""
    result = view.result
    errors = {f"reference: {spoken(name)}": error for name, error in result["reference"].items()}
    if result["user"] is not None:
        errors["the checked function"] = result["user"]["max_relative_error"]
    # A logarithm has no zero: an exact agreement has no bar, only its number.
    known = [error for error in errors.values() if error]
    left = min([1e-17, *(error / 10 for error in known)])
    for row, (name, error) in enumerate(errors.items()):
        color = colors.FAINT if name.startswith("reference") else colors.JUMP_COLOR
        ax.barh(row, max(error or left, left) - left, left=left, color=color, height=0.6)
        text = "unknown" if error is None else show_number(error)
        style.write(ax, text, (max(error or left, left), row), (4, 0), va="center", path_effects=[])
    highest = 100 * max([left, *known])
    ax.set(xscale="log", xlim=(left, highest), xlabel="largest relative error")
    ax.set_yticks(range(len(errors)), list(errors))
    ax.invert_yaxis()
    wrt = "the kernel" if result["wrt"] is None else f"the derivative by {result['wrt']}"
    ax.set_title(f"Check of {wrt}: {'right' if result['ok'] else 'wrong'}", fontsize=10)
