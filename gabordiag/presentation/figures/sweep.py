"""A sweep: the loss, its gradient three ways, and how far the three are apart.

Three gradients that agree look like one curve: how well they agree shows on a logarithm below.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gabordiag.landscape.sweep import Sweep
from gabordiag.presentation.colors import FAINT, INK, PALE, TARGET_COLOR
from gabordiag.presentation.figures.axis import FloatArray, ParameterAxis
from gabordiag.presentation.figures.landscape import axis_of, draw_landscape
from gabordiag.presentation.figures.sheets import name_panels
from gabordiag.presentation.figures.style import legend_beside, new_figure
from gabordiag.presentation.phrases import describe_certificate, describe_points, exact_derivative
from gabordiag.wording import show_number

# Every 12th central difference is drawn: the curves coincide, and dots on a line show both.
_DOT_STRIDE = 12


def sweep_figure(sweep: Sweep) -> Figure:
    """Draws a sweep: the loss, its gradient three ways, and how far the three are apart."""
    axis = axis_of(sweep)
    with new_figure(10.0, 8.6) as figure:
        loss, gradient, mismatch = figure.subplots(3, 1, sharex=True, height_ratios=[3, 2.6, 1.8])
        name_panels((loss, gradient, mismatch), ("loss", "gradient", "mismatch"))
        draw_sweep(loss, sweep)
        loss.set_xlabel("")
        _draw_gradients(gradient, axis, sweep)
        _draw_mismatch(mismatch, axis, sweep)
        parameter = axis.parameter
        ends = (parameter.target, TARGET_COLOR, "-"), (parameter.start, INK, "--")
        for ax, (value, color, style) in itertools.product((gradient, mismatch), ends):
            for x in axis.copies(value):
                ax.axvline(x, color=color, linewidth=0.8, linestyle=style, alpha=0.5, zorder=1)
        axis.set_up(mismatch)
        figure.align_ylabels()
        figure.suptitle(_sweep_title(sweep))
    return figure


def draw_sweep(ax: Axes, sweep: Sweep) -> None:
    """Draws the loss with its critical points, basins, target and start into one Axes."""
    axis = axis_of(sweep)
    entries = draw_landscape(ax, axis, sweep, start=sweep.landscape.parameter.start)
    axis.set_up(ax)
    legend_beside(ax, entries)


def _sweep_title(sweep: Sweep) -> str:
    landscape = sweep.landscape
    images = landscape.images
    mean = f", mean over {images['used']} images" if images and images["used"] > 1 else ""
    points, known = describe_points(landscape), describe_certificate(landscape)
    return f"The loss over {landscape.parameter.name}{mean}: {points} ({known})"


def _draw_gradients(ax: Axes, axis: ParameterAxis, sweep: Sweep) -> None:
    values, analytic, autograd = _broken_at_kinks(axis, sweep)
    ax.axhline(0, color=FAINT, linewidth=0.8)
    ax.plot(values, analytic, color="#9CCBEB", linewidth=6, label=exact_derivative(sweep))
    ax.plot(values, autograd, color="#003E66", linewidth=1.4, linestyle="--", label="autograd")
    # A difference quotient across a kink is the derivative of neither side.
    numeric = np.where(np.isfinite(sweep.grad_analytic), sweep.grad_numeric, np.nan)
    dotted = (sweep.values * axis.scale)[::_DOT_STRIDE], numeric[::_DOT_STRIDE]
    label = f"central differences\n(every {_DOT_STRIDE}th point)"
    ax.plot(*dotted, "o", color="#D55E00", markersize=3.6, label=label)
    per = "rad" if axis.parameter.is_angle else axis.parameter.unit
    ax.set_ylabel("gradient" + (f" [loss per {per}]" if per else ""))
    legend_beside(ax)


def _broken_at_kinks(
    axis: ParameterAxis, sweep: Sweep
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Returns values and gradients with a gap at every kink, where the gradient jumps."""
    values = sweep.values * axis.scale
    kinks = [point.value for point in sweep.landscape.points if point.kind == "kink"]
    places = np.array([x for kink in kinks for x in axis.copies(kink)])
    at = np.searchsorted(values, places)
    return (
        np.insert(values, at, places),
        np.insert(sweep.grad_analytic, at, np.nan),
        np.insert(sweep.grad_autograd, at, np.nan),
    )


def _draw_mismatch(ax: Axes, axis: ParameterAxis, sweep: Sweep) -> None:
    x = sweep.values * axis.scale
    dots: dict[str, Any] = {"markersize": 2.4, "markeredgewidth": 0.8, "markerfacecolor": "none"}
    scale, check = sweep.landscape.largest_gradient or 1.0, sweep.gradient_check
    shown = []
    for gradient, worst, words, marker, color in (
        (sweep.grad_autograd, check.analytic_vs_autograd, "autograd", "x", "#003E66"),
        (sweep.grad_numeric, check.analytic_vs_numeric, "differences", "o", "#D55E00"),
    ):
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
            ax.plot(x, np.where(is_out, apart, np.nan), marker, color=PALE, label=label, **dots)
        shown.append(apart)
    ax.set_yscale("log")
    if not np.isfinite(np.concatenate(shown)).any():
        ax.set_ylim(1e-16, 1e-12)
    ax.set_ylabel("mismatch /\nlargest gradient")
    legend_beside(ax)
