"""A log without its landscape, and the errors that a check has measured."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gabordiag.presentation.colors import FAINT, JUMP_COLOR
from gabordiag.presentation.figures.run_paths import RunPath, jump_words, look_of
from gabordiag.presentation.figures.runs import draw_losses, window_words, windows_of
from gabordiag.presentation.figures.sheets import current_sheet
from gabordiag.presentation.figures.style import new_figure, write
from gabordiag.results import View
from gabordiag.wording import show_number


def log_figure(view: View) -> Figure:
    """Draws the loss of an `Explanation`'s log: the first descent and jump, and all of it."""
    path = _path_of(view)
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
        figure.suptitle(_title(view))
    return figure


def draw_explanation(ax: Axes, view: View) -> None:
    """Draws the loss of an `Explanation`'s log against the step, with the jumps."""
    path = _path_of(view)
    draw_losses(ax, None, [path], windows_of([path])[-1])
    ax.set_title(_title(view), fontsize=10)


def _title(view: View) -> str:
    return f"Verdict: {view.result['verdict'].replace('_', ' ')}{jump_words(view.result)}"


def _path_of(view: View) -> RunPath:
    """Returns a log as a run whose values are its losses; its jumps are rows, not steps."""
    steps, losses = (view.data["log.csv"][name] for name in ("step", "loss"))
    rows = np.searchsorted(steps, [jump["step"] for jump in view.result["jumps"]])
    run = {**view.result, "loss": "loss", "jumps": [{"step": row} for row in rows]}
    if losses[-1] > np.nanmax(losses[:-1], initial=-math.inf):
        # What grows to its end is seen on a logarithm.
        run["outcome"] = "nonfinite"
    return RunPath(run, steps, losses, losses, look_of(run, 0, 1))


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
