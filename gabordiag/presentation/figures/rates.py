"""Where trainings with each learning rate end, and which rates work."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gabordiag.presentation.colors import FAINT, INK, OUTCOME_COLORS, TARGET_BAND, TARGET_COLOR
from gabordiag.presentation.figures.sheets import name_panels
from gabordiag.presentation.figures.style import legend_beside, new_figure
from gabordiag.results import View

_COLORS = {
    "reached": OUTCOME_COLORS["reached"],
    "unfinished": FAINT,
    "unsteady": OUTCOME_COLORS["running"],
    "diverged": OUTCOME_COLORS["nonfinite"],
}


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
    # What ends higher than a little above the start is drawn at the edge.
    top = high * (high / low) ** 0.15 if is_log else high + 0.15 * ((high - low) or 1.0)
    for index, (left, right) in enumerate(scan["working_lr"]):
        # A window of a single rate is seen, too.
        ends = left / 1.02, right * 1.02
        ax.axvspan(*ends, color=TARGET_BAND, zorder=0, label="" if index else "works")
    for outcome, color in _COLORS.items():
        places = [(t["lr"], x) for t in trials if t["outcome"] == outcome for x in t["losses"]]
        if places:
            lr, ends = np.array([(r, top if x is None else min(x, top)) for r, x in places]).T
            look: dict[str, Any] = {"linestyle": "", "markersize": 6, "markeredgecolor": "white"}
            mark = "^" if outcome == "diverged" else "o"
            ax.plot(lr, ends, mark, color=color, label=outcome, zorder=4, **look)
    ax.axhline(start, color=FAINT, linestyle=":", label="before the training")
    if goal is not None:
        ax.axhline(goal, color=TARGET_COLOR, linestyle="--", linewidth=1.2, label="goal")
    if (rate := scan["recommended_lr"]) is not None:
        ax.axvline(rate, color=INK, linewidth=1.4, label=f"take {rate:.3g}")
    ax.set(xscale="log", yscale="log" if is_log else "linear", ylabel="loss at the end")
    group = "" if scan["rest_lr"] is None else f" of {scan['parameter']}"
    ax.set_xlabel(f"learning rate{group}")
    legend_beside(ax)
