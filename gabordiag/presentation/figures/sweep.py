"""A sweep: the loss, its gradient three ways, and how far the three are apart.

Three gradients that agree look like one curve: how well they agree shows on a logarithm below.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gabordiag.presentation.figures.axis import FloatArray, ParameterAxis
from gabordiag.presentation.figures.landscape import Table, draw_landscape
from gabordiag.presentation.figures.style import (
    FAINT,
    INK,
    POINT_STYLES,
    TARGET_COLOR,
    drawing,
    finish,
    legend_beside,
    new_figure,
    show_number,
)
from gabordiag.presentation.phrases import exact_derivative
from gabordiag.results import View

# Every 12th central difference is drawn: the curves coincide, and dots on a line show both.
_DOT_STRIDE = 12


def sweep_figure(view: View) -> Figure:
    """Draws a sweep: the loss, its gradient three ways, and how far the three are apart.

    Args:
        view: Of a `Sweep`; needs `sweep.csv`.
    """
    landscape, sweep = view.result, view.data["sweep.csv"]
    axis = ParameterAxis.of(landscape)
    with drawing():
        figure = new_figure(10.0, 8.6)
        loss, gradient, mismatch = figure.subplots(3, 1, sharex=True, height_ratios=[3, 2.6, 1.8])
        images = view.data.get("images.npz")
        entries = draw_landscape(
            loss, axis, landscape, sweep, start=landscape["start"], images=images
        )
        legend_beside(loss, entries)
        _draw_gradients(gradient, axis, landscape, sweep)
        _draw_mismatch(mismatch, axis, landscape, sweep)
        for ax in (gradient, mismatch):
            mark_values_faintly(ax, axis, landscape)
        axis.set_up(mismatch)
        figure.align_ylabels()
        figure.suptitle(_sweep_title(landscape), x=0.01, ha="left")
        return finish(figure)


def mark_values_faintly(ax: Axes, axis: ParameterAxis, landscape: Mapping[str, Any]) -> None:
    """Repeats the lines of target and start where other things matter more."""
    for value, color, style in (
        (landscape["target"], TARGET_COLOR, "-"),
        (landscape["start"], INK, "--"),
    ):
        for x in axis.copies(value) if value is not None else []:
            ax.axvline(x, color=color, linewidth=0.8, linestyle=style, alpha=0.5, zorder=1)


def _sweep_title(landscape: Mapping[str, Any]) -> str:
    counts = {
        kind: sum(p["kind"] == kind for p in landscape["critical_points"]) for kind in POINT_STYLES
    }
    plural = {
        "minimum": "minima",
        "maximum": "maxima",
        "kink": "kinks",
        "inflection": "inflections",
    }
    words = [f"{n} {kind if n == 1 else plural[kind]}" for kind, n in counts.items() if n]
    found = ", ".join(words) or "no critical point"
    proven = "proven complete" if landscape["certified"] else "not proven complete"
    images = landscape.get("images")
    mean = f", mean over {images['used']} images" if images and images["used"] > 1 else ""
    return f"The loss over {landscape['parameter']}{mean}: {found} ({proven})"


def _draw_gradients(
    ax: Axes, axis: ParameterAxis, landscape: Mapping[str, Any], sweep: Table
) -> None:
    values, analytic, autograd = _broken_at_kinks(axis, landscape, sweep)
    ax.axhline(0, color=FAINT, linewidth=0.8)
    ax.plot(values, analytic, color="#9CCBEB", linewidth=6, label=exact_derivative(landscape))
    ax.plot(values, autograd, color="#003E66", linewidth=1.4, linestyle="--", label="autograd")
    # A difference quotient across a kink is the derivative of neither side.
    numeric = np.where(np.isfinite(sweep["grad_analytic"]), sweep["grad_numeric"], np.nan)
    ax.plot(
        (np.asarray(sweep[axis.name], dtype=np.float64) * axis.scale)[::_DOT_STRIDE],
        numeric[::_DOT_STRIDE],
        "o",
        color="#D55E00",
        markersize=3.6,
        label=f"central differences\n(every {_DOT_STRIDE}th point)",
    )
    per = "rad" if axis.unit == "rad" else axis.unit
    ax.set_ylabel("gradient" + (f" [loss per {per}]" if per else ""))
    legend_beside(ax)


def _broken_at_kinks(
    axis: ParameterAxis, landscape: Mapping[str, Any], sweep: Table
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Returns values and gradients with a gap at every kink, where the gradient jumps."""
    columns = [sweep[axis.name], sweep["grad_analytic"], sweep["grad_autograd"]]
    values, analytic, autograd = (np.asarray(c, dtype=np.float64) for c in columns)
    values = values * axis.scale
    kinks = [p["value"] for p in landscape["critical_points"] if p["kind"] == "kink"]
    places = np.array([x for kink in kinks for x in axis.copies(kink)])
    at = np.searchsorted(values, places)
    return (
        np.insert(values, at, places),
        np.insert(analytic, at, np.nan),
        np.insert(autograd, at, np.nan),
    )


def _draw_mismatch(
    ax: Axes, axis: ParameterAxis, landscape: Mapping[str, Any], sweep: Table
) -> None:
    x = np.asarray(sweep[axis.name], dtype=np.float64) * axis.scale
    scale = landscape["largest_gradient"] or 1.0
    check = landscape["gradient_check"]
    exact = np.asarray(sweep["grad_analytic"], dtype=np.float64)
    shown = []
    for column, words, marker, color in (
        ("grad_autograd", "autograd", "x", "#003E66"),
        ("grad_numeric", "differences", "o", "#D55E00"),
    ):
        apart = np.abs(exact - np.asarray(sweep[column], dtype=np.float64)) / scale
        # A logarithm has no zero: where two agree to the last bit there is nothing to draw.
        apart = np.where(np.isfinite(apart) & (apart > 0), apart, np.nan)
        worst = check["analytic_vs_" + column.removeprefix("grad_")]
        # What the check left out, because there a difference quotient is no derivative.
        is_out = apart > (math.inf if worst is None else worst * (1 + 1e-9))
        note = "equal" if worst == 0 else f"at most {show_number(worst, 1)}" if worst else "unknown"
        label = f"{exact_derivative(landscape)} − {words}\n({note})"
        _dots(ax, x, np.where(is_out, np.nan, apart), marker, color, label)
        if is_out.any():
            label = "not compared\n(an end, a kink, ripples)"
            _dots(ax, x, np.where(is_out, apart, np.nan), marker, FAINT, label)
        shown.append(apart)
    ax.set_yscale("log")
    if not np.isfinite(np.concatenate(shown)).any():
        ax.set_ylim(1e-16, 1e-12)
    ax.set_ylabel("mismatch /\nlargest gradient")
    legend_beside(ax)


def _dots(ax: Axes, x: FloatArray, y: FloatArray, marker: str, color: str, label: str) -> None:
    style: dict[str, Any] = {"markersize": 2.4, "markeredgewidth": 0.8, "markerfacecolor": "none"}
    ax.plot(x, y, marker, color=color, label=label, **style)
