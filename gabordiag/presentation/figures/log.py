"""A log without its landscape, and the errors that a check has measured."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gabordiag.presentation.colors import FAINT, JUMP_COLOR, RUN_STYLES
from gabordiag.presentation.figures.style import (
    drawable,
    legend_beside,
    log_losses,
    new_figure,
    write,
)
from gabordiag.results import View
from gabordiag.wording import show_number

# Losses that span more than this factor are drawn on a logarithmic axis, unless they jump and
# come down again.
_DECADES = 1e3


def log_figure(view: View) -> Figure:
    """Draws the loss of an `Explanation`'s log against the step, with the jumps."""
    with new_figure(9.0, 4.2) as figure:
        draw_explanation(figure.subplots(), view)
    return figure


def draw_explanation(ax: Axes, view: View) -> None:
    """Draws the loss of an `Explanation`'s log against the step, with the jumps."""
    steps, losses = (view.data["log.csv"][name] for name in ("step", "loss"))
    losses = drawable(losses)
    ax.plot(steps, losses, ".-", color=RUN_STYLES[0][0], linewidth=1.0, markersize=3, label="loss")
    jumps = view.result["jumps"]
    label = f"jump of the loss ({len(jumps)})"
    for at in np.searchsorted(steps, [jump["step"] for jump in jumps]):
        if np.isfinite(losses[at : at + 2]).all():
            step = steps[at : at + 2], losses[at : at + 2]
            ax.plot(*step, color=JUMP_COLOR, linewidth=2, label=label)
            label = "_"
    positive = losses[np.isfinite(losses) & (losses > 0)]
    # Convergence and divergence are seen on a logarithm, a jump between two heights is not.
    grows = len(positive) > 0 and positive[-1] == positive.max()
    if (grows or not jumps) and len(positive) and positive.max() / _DECADES > positive.min():
        log_losses(ax)
    ax.set_xlabel("step")
    ax.set_ylabel("loss")
    ax.set_title(f"Verdict: {view.result['verdict'].replace('_', ' ')}", fontsize=10)
    legend_beside(ax)


def draw_check(ax: Axes, view: View) -> None:
    """Draws the largest relative errors of a `Check` as bars on a logarithmic axis."""
    result = view.result
    errors = {
        f"reference: {name.replace('_', ' ')}": error for name, error in result["reference"].items()
    }
    if result["user"] is not None:
        errors["the checked function"] = result["user"]["max_relative_error"]
    # A logarithm has no zero: an exact agreement has no bar, only its number.
    known = [error for error in errors.values() if error]
    left = min([1e-17, *(error / 10 for error in known)])
    for row, (name, error) in enumerate(errors.items()):
        color = FAINT if name.startswith("reference") else JUMP_COLOR
        ax.barh(row, max(error or left, left) - left, left=left, color=color, height=0.6)
        text = "unknown" if error is None else show_number(error)
        write(ax, text, (max(error or left, left), row), (4, 0), va="center", path_effects=[])
    ax.set_xscale("log")
    ax.set_xlim(left, 100 * max([left, *known]))
    ax.set_yticks(range(len(errors)), list(errors))
    ax.invert_yaxis()
    ax.set_xlabel("largest relative error")
    wrt = "the kernel" if result["wrt"] is None else f"the derivative by {result['wrt']}"
    ax.set_title(f"Check of {wrt}: {'right' if result['ok'] else 'wrong'}", fontsize=10)
