"""What a person sees of a run that did not finish: how far it came, and the steps it logged.

Drawn and told from the logs alone; the landscape under them is known only to a result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from gabordiag.presentation import page, report
from gabordiag.presentation.blocks import Block, Heading, Listing, Paragraph, Picture, Table
from gabordiag.presentation.figures.drawings import render
from gabordiag.presentation.figures.style import RUN_STYLES, drawing, finish, new_figure
from gabordiag.presentation.phrases import number
from gabordiag.runs import UnfinishedRun

_STEM = "logged"
# Up to so many steps are drawn as single points too.
_DOTTED = 60
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
        told.append(Picture(_STEM))
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
                _shown(run, log, last[0]) if len(last) else "–",
                number(losses[-1]) if len(losses) else "–",
                number(finite.min()) if len(finite) else "–",
            )
        )
    return Table(("log", "steps", "last value", "last loss", "lowest loss"), tuple(rows))


def _shown(run: UnfinishedRun, log: Mapping[str, Any], value: float) -> str:
    return f"{np.degrees(value):.2f}°" if _is_angle(run, log) else number(value, 6)


def _is_angle(run: UnfinishedRun, log: Mapping[str, Any]) -> bool:
    """Whether degrees are shown; of one's own objective the unit is not known from the log."""
    return run.settings.get("objective") is None and _parameter(log) in ("theta", "psi")


def make_files(run: UnfinishedRun) -> dict[str, bytes]:
    """Returns everything that a person looks at: the figure, report.md, report.html."""
    files = draw(run)
    told, settings = blocks(run), run.settings
    shown = {name.rsplit(".", 1)[0]: name for name in files}
    text = report.markdown(run.command, told, settings, shown)
    pictures = {stem: page.inlined(name, files[name], True) for stem, name in shown.items()}
    rows = tuple((name, report.show_setting(value)) for name, value in settings.items())
    line = report.command_line(run.command, settings)
    html = page.to_html(run.command, told, rows, line, pictures, {})
    return {**files, "report.md": text.encode("utf-8"), "report.html": html.encode("utf-8")}


def draw(run: UnfinishedRun) -> dict[str, bytes]:
    """Returns the figures: file name -> content; none if no step was logged."""
    logs = {name: log for name, log in run.logs.items() if len(_column(log, "step"))}
    return {f"{_STEM}.png": render(_figure(run, logs), "png")} if logs else {}


def _figure(run: UnfinishedRun, logs: Mapping[str, Mapping[str, Any]]) -> Figure:
    with drawing():
        figure = new_figure(9.0, 6.4)
        top, bottom = figure.subplots(2, 1, sharex=True)
        drawn = list(zip(logs.items(), RUN_STYLES, strict=False))
        for (name, log), (color, line, marker) in drawn:
            steps = _column(log, "step")
            look: dict[str, Any] = {"color": color, "linestyle": line, "linewidth": 1.2}
            if len(steps) <= _DOTTED:
                look |= {"marker": marker, "markersize": 3.5}
            scale = 180 / np.pi if _is_angle(run, log) else 1.0
            top.plot(steps, _column(log, "loss"), label=name.removesuffix(".csv"), **look)
            bottom.plot(steps, scale * _values(log), **look)
        top.set_ylabel("loss")
        first = next(iter(logs.values()))
        bottom.set_ylabel(_parameter(first) + (" (degrees)" if _is_angle(run, first) else ""))
        bottom.set_xlabel("step")
        more = f"; {len(drawn)} of {len(logs)} logs" if len(logs) > len(drawn) else ""
        state = _STATES.get(run.status, "did not finish")
        figure.suptitle(f"Logged by a run of {run.command} that {state}{more}", x=0.01, ha="left")
        handles, labels = top.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=3)
        return finish(figure)


def _column(log: Mapping[str, Any], name: str) -> Any:
    return log.get(name, np.empty(0))


def _parameter(log: Mapping[str, Any]) -> str:
    return list(log)[1] if len(log) > 1 else ""


def _values(log: Mapping[str, Any]) -> Any:
    return _column(log, _parameter(log))
