"""What a person sees of a run that did not finish: how far it came, and the steps it logged.

Drawn and told from the logs alone; the landscape under them is known only to a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gabordiag.presentation.figures import render
from gabordiag.presentation.style import drawing, finish, new_figure
from gabordiag.presentation.words import (
    Block,
    Heading,
    Listing,
    Paragraph,
    Table,
    number,
    settings_markdown,
    to_markdown,
)
from gabordiag.runs import UnfinishedRun

_FIGURE = "logged.png"
_MOST_DRAWN = 8
_STATES = {
    "running": "still goes on",
    "interrupted": "was interrupted",
    "failed": "failed",
}


def blocks(run: UnfinishedRun) -> list[Block]:
    """Returns what there is to say."""
    state = _STATES.get(run.status, "did not finish")
    steps = sum(max(0, len(_column(log, "step")) - 1) for log in run.logs.values())
    told: list[Block] = [
        Heading(f"A run of `{run.command}` that {state}"),
        Paragraph(f"There is no result; {steps} steps were logged, and all of them are here."),
    ]
    if run.logs:
        told.append(_table(run))
    told.append(Listing((_next(run),)))
    return told


def _next(run: UnfinishedRun) -> str:
    if run.status == "running":
        return "Wait for its end, then ask again."
    if run.command == "optimize":
        return f"To go on where it stopped: gabordiag optimize --resume {run.path}"
    return f"To run it again: gabordiag {run.command} --config {run.path / 'config.toml'}"


def _table(run: UnfinishedRun) -> Table:
    rows = []
    for name, log in run.logs.items():
        losses = _column(log, "loss")
        finite = losses[np.isfinite(losses)]
        last = _values(log)[-1:]
        rows.append(
            (
                name,
                str(max(0, len(losses) - 1)),
                number(last[0], 6) if len(last) else "–",
                number(losses[-1]) if len(losses) else "–",
                number(finite.min()) if len(finite) else "–",
            )
        )
    return Table(("log", "steps", "last value", "last loss", "lowest loss"), tuple(rows))


def markdown(run: UnfinishedRun, figures: Sequence[str]) -> str:
    """Returns the report."""
    parts = [f"# gabordiag {run.command}, not finished", "", to_markdown(blocks(run))]
    for name in figures:
        parts += [f"![The steps that were logged]({name})", ""]
    return "\n".join([*parts, *settings_markdown(run.command, run.settings)]) + "\n"


def draw(run: UnfinishedRun) -> dict[str, bytes]:
    """Returns the figures: file name -> content; none if no step was logged."""
    logs = {name: log for name, log in run.logs.items() if len(_column(log, "step"))}
    return {_FIGURE: render(_figure(run, logs), "png")} if logs else {}


def _figure(run: UnfinishedRun, logs: Mapping[str, Mapping[str, Any]]) -> Figure:
    with drawing():
        figure = new_figure(9.0, 6.4)
        top, bottom = figure.subplots(2, 1, sharex=True)
        for name, log in list(logs.items())[:_MOST_DRAWN]:
            label = name.removesuffix(".csv")
            _draw(top, _column(log, "step"), _column(log, "loss"), label)
            _draw(bottom, _column(log, "step"), _values(log), label)
        top.set_ylabel("loss")
        bottom.set_ylabel(" or ".join(dict.fromkeys(_parameter(log) for log in logs.values())))
        bottom.set_xlabel("step")
        more = f"; the first {_MOST_DRAWN} of {len(logs)} logs" if len(logs) > _MOST_DRAWN else ""
        state = _STATES.get(run.status, "did not finish")
        figure.suptitle(
            f"What `{run.command}` logged before it {state}{more}".replace(
                "before it still goes on", "so far"
            ),
            x=0.01,
            ha="left",
        )
        handles, labels = top.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=3)
        return finish(figure)


def _draw(ax: Axes, steps: Any, values: Any, label: str) -> None:
    finite = np.isfinite(values)
    style = "o-" if len(steps) <= 60 else "-"
    ax.plot(steps[finite], values[finite], style, markersize=3.5, linewidth=1.0, label=label)


def _column(log: Mapping[str, Any], name: str) -> Any:
    return log.get(name, np.empty(0))


def _parameter(log: Mapping[str, Any]) -> str:
    return list(log)[1] if len(log) > 1 else ""


def _values(log: Mapping[str, Any]) -> Any:
    return _column(log, _parameter(log))
