"""Runs with their logs and styles; how titles and legends describe them.

One run is blue with orange jumps; several have a colour, line and marker each; many, the colour of
their outcome.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from gabordiag.objective.space import FloatArray, Parameter
from gabordiag.presentation import phrases
from gabordiag.presentation.colors import INK, JUMP_COLOR, OUTCOME_COLORS, RUN_STYLES, LineStyle
from gabordiag.presentation.figures.axis import ParameterAxis
from gabordiag.presentation.late import Late
from gabordiag.results import View
from gabordiag.wording import counted, show_number

if TYPE_CHECKING:
    from matplotlib.lines import Line2D

    from gabordiag.dynamics.bifurcation import Bifurcation
    from gabordiag.dynamics.maps import Basins
    from gabordiag.landscape.sweep import Sweep
    from gabordiag.presentation.figures.surface import Plane

# What is said of runs goes without matplotlib, and of those in a log without torch.
read_sweep = Late("landscape.sweep.Sweep.from_view")
read_basins = Late("dynamics.maps.Basins.from_view")
read_bifurcation = Late("dynamics.bifurcation.Bifurcation.from_view")
entry = Late("presentation.figures.style.entry")
plane_of = Late("presentation.figures.surface.Plane.of")

Table = Mapping[str, npt.NDArray[Any]]
# More runs than this are distinguished by their outcome only.
MOST_NAMED = len(RUN_STYLES)
# Steps of a restless run that are drawn on the landscape.
PATH_STEPS = 24
# They begin this far before the first jump, if that is late.
_BEFORE_JUMP = 12
# Angles closer than this are the same: copies of a target are exact up to rounding.
_SAME = 1e-9
_RESTLESS = ("erratic", "cycle", "running")
# Share of the steps that jump of which the eye follows no line.
_OFTEN = 0.02


@dataclass(frozen=True)
class Look:
    """How one run is drawn."""

    color: str
    line: LineStyle
    marker: str
    jump: str


@dataclass(frozen=True)
class RunPath:
    """One run with its table, its look, and what its goal is called.

    `values` are of the only parameter, or the first; `losses` over all images, beside the batches'.
    """

    run: Mapping[str, Any]
    steps: FloatArray
    values: FloatArray
    losses: FloatArray
    look: Look
    goal_name: str = "target"
    batch_losses: FloatArray | None = None
    table: Table = field(default_factory=dict)

    @property
    def is_restless(self) -> bool:
        """Whether it jumps, or does not converge."""
        finite = self.losses[np.isfinite(self.losses)]
        is_highest = len(finite) > 0 and finite[-1] == finite.max()
        # One that diverges breaks off while its loss is larger than ever.
        if self.run["outcome"] == "nonfinite" and is_highest:
            return False
        return bool(self.run["n_jumps"]) or self.run["outcome"] in _RESTLESS

    @property
    def wanders(self) -> bool:
        """Whether it goes up and down all the time: one with a few jumps is still a line."""
        often = self.run["n_jumps"] > _OFTEN * len(self.steps)
        return self.is_restless and (often or self.run["outcome"] in ("erratic", "cycle"))

    @property
    def window(self) -> int:
        """Step from which the run is worth following: its start, or shortly before it jumps."""
        jumps = self.jumps
        return 0 if len(jumps) == 0 or jumps[0] + 2 < PATH_STEPS else int(jumps[0]) - _BEFORE_JUMP

    @property
    def jumps(self) -> npt.NDArray[np.int64]:
        """Indices of the points before the jumps."""
        return np.array([jump["step"] for jump in self.run["jumps"]], dtype=np.int64)


@dataclass(frozen=True)
class Runs:
    """Runs of one parameter on their landscape, or of several on the planes of every pair.

    The view holds what they are part of: the logs, the kernels of an animation, and of several
    parameters their axes, tolerances and target.
    """

    sweep: Sweep | None
    paths: tuple[RunPath, ...]
    view: View

    @classmethod
    def of(cls, sweep: Sweep | None, runs: Sequence[Mapping[str, Any]], view: View) -> Runs:
        """Returns runs given as JSON."""
        made = cls(sweep, (), view)
        parameter = sweep.landscape.parameter.name if sweep else view.result["learned"][0]
        paths = []
        for index, run in enumerate(runs):
            # A case of a larger run may hold its log without the case's prefix.
            name = str(run.get("trajectory", "trajectory-000.csv"))
            log = next(table for file, table in view.data.items() if name.endswith(file))
            look = look_of(run, index, len(runs))
            paths.append(path_of(run, log, parameter, made.goal_name, look))
        return replace(made, paths=tuple(paths))

    @classmethod
    def from_view(cls, view: View) -> Runs:
        """Returns the runs of `optimize`, or the one of `diagnose`, on what they ran on."""
        result = view.result
        is_one = "learned" not in result
        sweep = read_sweep(View(result["landscape"], view.data)) if is_one else None
        return cls.of(sweep, result["runs"] if "runs" in result else [result["run"]], view)

    @property
    def result(self) -> Mapping[str, Any]:
        """The JSON that the runs are part of."""
        return self.view.result

    @property
    def goal_name(self) -> str:
        """The target, or the lowest minimum that was found without one."""
        if self.sweep is not None:
            return self.sweep.landscape.parameter.goal_name
        return "lowest minimum" if self.result.get("target_found") else "target"

    @property
    def kernels(self) -> Table | None:
        """For an animation, the kernel at values of the parameter and at the target."""
        tables = self.view.data.items()
        return next((table for name, table in tables if name.endswith("kernels.npz")), None)

    @cached_property
    def axes(self) -> dict[str, Parameter]:
        """The learned parameters by name, of which the JSON holds unit and period."""
        columns = (self.result[key] for key in ("learned", "units", "periods"))
        return {
            name: ParameterAxis.over(name, -math.inf, math.inf, period, unit).parameter
            for name, unit, period in zip(*columns, strict=True)
        }

    @cached_property
    def planes(self) -> list[Plane]:
        """The planes of every pair of parameters, through the first run's end."""
        planes = []
        for pair in self.result.get("pairs", []):
            table = self.view.data[pair["file"]]
            x, y = (
                ParameterAxis.of(self.axes[name], (float(at[0]), float(at[-1])))
                for name, at in zip(pair["names"], (table["a"], table["b"]), strict=True)
            )
            planes.append(plane_of(x, y, table))
        return planes

    @property
    def ground(self) -> Sweep:
        """The landscape of one parameter."""
        assert self.sweep is not None
        return self.sweep

    @property
    def runs(self) -> list[Mapping[str, Any]]:
        """The runs' JSON."""
        return [path.run for path in self.paths]

    def turned(self, run: Mapping[str, Any]) -> list[str]:
        """Returns in which parameters a run's copy of the target is not the target itself."""
        copy, target = run["target_copy"], self.result["target"]
        return [
            name
            for name, axis in self.axes.items()
            if target is not None and abs(float(axis.offset(copy[name], target[name]))) > _SAME
        ]


@dataclass(frozen=True)
class Case:
    """A filter of `reproduce`: the symptom, the failing run, all runs, and what was computed."""

    reproduced: bool
    failing: Runs
    others: Runs
    diagnosis: Mapping[str, Any] | None
    basins: Basins | None
    bifurcation: Bifurcation | None

    @classmethod
    def all_from(cls, view: View) -> dict[str, Case]:
        """Returns the cases by the filter's name, which each one's files begin with."""
        cases, read = {}, {"basins": read_basins, "bifurcation": read_bifurcation}
        for name, case in view.result["cases"].items():
            start = f"{name}-"
            files = view.data.items()
            data = {n.removeprefix(start): table for n, table in files if n.startswith(start)}
            sweep = read_sweep(View(case["landscape"], data))
            cases[name] = cls(
                case["symptom"]["reproduced"],
                Runs.of(sweep, [case["symptom"]["run"]], View(case, data)),
                Runs.of(sweep, case["runs"], View(case, data)),
                case.get("diagnosis"),
                **{n: of(View(case[n], data)) if n in case else None for n, of in read.items()},
            )
        return cases


def path_of(
    run: Mapping[str, Any], table: Table, parameter: str, goal: str, look: Look | None = None
) -> RunPath:
    """Returns a run with its table, ready to be drawn; the goal is what it is called."""
    on_landscape = "full_loss" if "full_loss" in table else "loss"
    steps, values, losses, logged = (
        np.asarray(table[key], dtype=np.float64)
        for key in ("step", parameter, on_landscape, "loss")
    )
    batches = logged if run.get("batch") else None
    return RunPath(run, steps, values, losses, look or look_of(run, 0, 1), goal, batches, table)


def look_of(run: Mapping[str, Any], index: int, count: int) -> Look:
    """Returns how the index-th of so many runs is drawn."""
    if count <= MOST_NAMED:
        color, line, marker = RUN_STYLES[index]
        return Look(color, line, marker, JUMP_COLOR if count == 1 else color)
    color = OUTCOME_COLORS[run["outcome"]]
    return Look(color, "-", "o", color)


def run_words(axis: ParameterAxis, run: Mapping[str, Any], *, start: bool = True) -> str:
    """Returns a run's settings in words."""
    words = [str(run["optimizer"]), f"lr {show_number(run['lr'])}", *phrases.how_else(run)]
    words += [phrases.batch_label(run), f"from {axis.show(run['start'])}" if start else ""]
    return ", ".join(filter(None, words))


def runs_title(axis: ParameterAxis, paths: Sequence[RunPath]) -> str:
    """Returns how the runs of one parameter ended, in a line."""
    if len(paths) > 1:
        return several_words(paths)
    return f"{run_words(axis, paths[0].run)}: {end_words(paths[0])}"


def end_words(path: RunPath, outcome: str | None = None) -> str:
    """Returns how a run ended, and how often it jumped."""
    run, ends = path.run, outcome or phrases.outcome_words(path.run["outcome"], path.goal_name)
    return ends + jump_words(run, f" in {run['steps']} steps")


def several_words(paths: Sequence[RunPath]) -> str:
    """Returns how many of several runs reach their goal."""
    reached, of = sum(path.run["outcome"] == "reached" for path in paths), len(paths)
    count = {0: "none of which reaches", 1: "one of which reaches", of: "all of which reach"}
    words = count.get(reached, f"{reached} of which reach")
    return f"{of} runs, {words} the {paths[0].goal_name}"


def jump_words(run: Mapping[str, Any], within: str = "") -> str:
    """Returns how often a run jumped, as the end of a sentence; nothing if it never did."""
    jumps = run["n_jumps"]
    return f", {counted(jumps, 'jump', 'jumps')}{within}" if jumps else ""


def run_handles(axis: ParameterAxis | None, paths: Sequence[RunPath]) -> list[Line2D]:
    """Returns the legend entries of several runs, of many by outcome; without axis, no markers."""
    if len(paths) > MOST_NAMED:
        return _outcome_handles(paths)
    if len(paths) == 1:
        return []
    several_starts = len({str(path.run["start"]) for path in paths}) > 1
    handles = []
    for path in paths:
        look, ends = path.look, phrases.outcome_words(path.run["outcome"], path.goal_name)
        style: dict[str, Any] = {"color": look.color, "linestyle": look.line}
        words = phrases.run_settings(path.run)
        if axis is not None:
            words = run_words(axis, path.run, start=several_starts)
            style |= {"marker": look.marker, "markersize": 5}
        handles.append(entry(f"{words}: {ends}{jump_words(path.run)}", **style))
    return handles


def batch_handles(paths: Sequence[RunPath]) -> list[Line2D]:
    """Returns the legend entry of the batches' own losses, if there are any."""
    drawn = [path for path in paths if path.batch_losses is not None]
    if not drawn:
        return []
    dot: dict[str, Any] = {"marker": ".", "linestyle": "", "alpha": 0.5}
    dot["color"] = drawn[0].look.color if len(drawn) == 1 else INK
    return [entry("loss of the step's batch (lines: of all images)", **dot)]


def _outcome_handles(paths: Sequence[RunPath]) -> list[Line2D]:
    handles = []
    for outcome, color in OUTCOME_COLORS.items():
        found = [path.run["lr"] for path in paths if path.run["outcome"] == outcome]
        if found:
            rates = [
                phrases.rates_words(r) if isinstance(r, Mapping) else show_number(r) for r in found
            ]
            listed = ", ".join(rates[:4]) + (", …" if len(rates) > 4 else "")
            meaning = phrases.outcome_words(outcome, paths[0].goal_name)
            words = f"{meaning}: {counted(len(rates), 'run', 'runs')} (lr {listed})"
            handles.append(entry(words, color=color, marker="o", markersize=5))
    return handles
