"""The report of a run that did not finish: its logged steps, without their landscape."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from gabordiag.dynamics.checkpoint import CHECKPOINT
from gabordiag.objective.space import Parameter
from gabordiag.presentation import report
from gabordiag.presentation.blocks import Block, Heading, Listing, Paragraph, Picture, Table
from gabordiag.presentation.colors import RUN_STYLES
from gabordiag.presentation.figures.style import new_figure, render
from gabordiag.presentation.phrases import number
from gabordiag.runs.saved import UnfinishedRun
from gabordiag.wording import counted

_STEM = "logged"
# Up to so many steps are drawn as single points too.
_DOTTED = 60
_STATES = {"running": "has not ended yet", "interrupted": "was interrupted", "failed": "failed"}


def blocks(run: UnfinishedRun) -> list[Block]:
    """Returns how far the run came."""
    steps = sum(len(log["step"]) - 1 for log in run.logs.values())
    logged_steps = counted(steps, "step", "steps")
    logged: list[Block] = [_table(run), Picture(_STEM)] if run.logs else []
    config = shlex.quote(str(run.path / "config.toml"))
    again = f"To run it again: gabordiag {run.command} --config {config}"
    if run.command in ("optimize", "atlas") or (run.path / CHECKPOINT).exists():
        folder = shlex.quote(str(run.path))
        again = f"To continue where it stopped: gabordiag {run.command} --resume {folder}"
    if run.status == "running":
        again = "Wait for its end, then run this command again."
    return [
        Heading(f"A run of `{run.command}` that {_state(run)}"),
        Paragraph("There is no result." + (f" The log holds {logged_steps}." if run.logs else "")),
        *logged,
        Listing((again,)),
    ]


def _state(run: UnfinishedRun) -> str:
    return _STATES.get(run.status, "did not finish")


def _table(run: UnfinishedRun) -> Table:
    rows = []
    for name, log in run.logs.items():
        parameter, losses = _parameter(run, log), log["loss"]
        finite = losses[np.isfinite(losses)]
        last, lowest = number(losses[-1]), number(finite.min()) if len(finite) else "–"
        value = parameter.show(log[parameter.name][-1])
        rows.append((name, str(len(losses) - 1), value, last, lowest))
    return Table(("log", "steps", "last value", "last loss", "lowest loss"), tuple(rows))


def make_files(run: UnfinishedRun) -> dict[str, bytes]:
    """Returns the files that a person looks at: report.md, report.html, the figure of any logs."""
    files = {f"{_STEM}.png": render(_figure(run))} if run.logs else {}
    shown = dict.fromkeys([_STEM] if run.logs else [], f"{_STEM}.png")
    pages = report.make_pages(run.command, blocks(run), run.settings, files, shown, {}, small=True)
    return {**files, **pages}


def _figure(run: UnfinishedRun) -> Figure:
    with new_figure(9.0, 6.4) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True)
        logs = run.logs
        drawn = list(zip(logs.items(), RUN_STYLES, strict=False))
        for (name, log), (color, line, marker) in drawn:
            steps, parameter = log["step"], _parameter(run, log)
            look: dict[str, Any] = {"color": color, "linestyle": line, "linewidth": 1.2}
            if len(steps) <= _DOTTED:
                look |= {"marker": marker, "markersize": 3.5}
            top.plot(steps, log["loss"], label=name.removesuffix(".csv"), **look)
            bottom.plot(steps, parameter.scale * log[parameter.name], **look)
        top.set_ylabel("loss")
        bottom.set(xlabel="step", ylabel=_parameter(run, next(iter(logs.values()))).label)
        more = f"; {len(drawn)} of {len(logs)} logs" if len(logs) > len(drawn) else ""
        figure.suptitle(f"Logged by a run of {run.command} that {_state(run)}{more}")
        figure.legend(*top.get_legend_handles_labels(), loc="outside lower left", ncols=3)
    return figure


def _parameter(run: UnfinishedRun, log: Mapping[str, Any]) -> Parameter:
    """Returns the logged parameter; the unit of a custom objective is not known from the log."""
    _, name, *_ = log
    is_angle = run.settings.get("objective") is None and name in ("theta", "psi")
    return Parameter(name, -math.inf, math.inf, None, None, 0.0, is_angle)
