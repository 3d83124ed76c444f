"""What is said and drawn of every kind of result: one row of a table each.

The place to add a figure or a kind of result. Whatever the caller has set in matplotlib stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gabordiag.checks.verify import Check
from gabordiag.diagnosis.log.explain import Explanation
from gabordiag.diagnosis.reproduction import Reproduction
from gabordiag.diagnosis.training.verdict import TrainingDiagnosis
from gabordiag.diagnosis.verdict import Diagnosis
from gabordiag.dynamics.bifurcation import Bifurcation
from gabordiag.dynamics.maps import Basins
from gabordiag.dynamics.plane import PlaneBasins
from gabordiag.dynamics.run import Optimization, Run
from gabordiag.landscape.surface import Surface
from gabordiag.landscape.sweep import Sweep
from gabordiag.presentation import space_words, training_words, words
from gabordiag.presentation.blocks import Block
from gabordiag.presentation.figures.bifurcation import bifurcation_figure, draw_attractor
from gabordiag.presentation.figures.log import draw_check, draw_explanation, log_figure
from gabordiag.presentation.figures.map_labels import write_map_labels
from gabordiag.presentation.figures.maps import (
    basins_figure,
    draw_map_alone,
    map_axis,
    outcome_handles,
)
from gabordiag.presentation.figures.paths import draw_runs
from gabordiag.presentation.figures.run_paths import Runs
from gabordiag.presentation.figures.runs import (
    comparison_figure,
    draw_run,
    optimize_figure,
)
from gabordiag.presentation.figures.space import (
    draw_plane_map,
    draw_space_runs,
    pairs_figure,
    plane_figure,
    plane_words,
)
from gabordiag.presentation.figures.style import drawing, finish, legend_beside, new_figure, render
from gabordiag.presentation.figures.surface import (
    draw_surface,
    surface_figure,
    surface_in_space_figure,
)
from gabordiag.presentation.figures.sweep import draw_sweep, sweep_figure
from gabordiag.presentation.figures.training import draw_shares, training_figures
from gabordiag.presentation.restored import (
    Checked,
    Diagnosed,
    Explained,
    Explored,
    PlaneView,
    Reproduced,
    SurfaceView,
    TrainingDiagnosed,
    restore,
)
from gabordiag.presentation.surface_words import surface
from gabordiag.results import Result, View

Drawings = dict[str, Callable[[], Figure]]


@dataclass(frozen=True)
class Kind:
    """How one kind of restored result is shown.

    Attributes:
        blocks: Returns what it says.
        figures: Returns the figures of its report: file stem -> drawing.
        draw: Draws it into one Axes, for `Result.plot`; None where there is nothing to draw.
        films: Returns what is animated: prefix of the file name -> runs.
    """

    blocks: Callable[[Any], list[Block]]
    figures: Callable[[Any], Drawings] = lambda _: {}
    draw: Callable[[Axes, Any], None] | None = None
    films: Callable[[Any], Mapping[str, Runs]] = lambda _: {}


def _each(**functions: Callable[[Any], Figure]) -> Callable[[Any], Drawings]:
    """Returns the figures that are each drawn from the whole result."""
    return lambda result: {
        stem.replace("_", "-"): partial(function, result) for stem, function in functions.items()
    }


def _of_json(function: Callable[[Mapping[str, Any]], list[Block]]) -> Callable[[View], list[Block]]:
    """Returns the sections of a result that is kept as JSON."""
    return lambda view: function(view.result)


def _of_runs(runs: Runs, stem: str = "optimize") -> Drawings:
    if runs.sweep is not None:
        return {stem: partial(optimize_figure, runs)}
    return {"pairs": partial(pairs_figure, runs)} if runs.planes else {}


def _of_diagnosis(diagnosed: Diagnosed) -> Drawings:
    sweep = diagnosed.runs.sweep
    ground: Drawings = {} if sweep is None else {"sweep": partial(sweep_figure, sweep)}
    return ground | _of_runs(diagnosed.runs, "run")


def _of_reproduction(reproduced: Reproduced) -> Drawings:
    failures = {name: (case.failing, case.basins) for name, case in reproduced.cases.items()}
    drawings: Drawings = {"comparison": partial(comparison_figure, failures)}
    for name, case in reproduced.cases.items():
        drawings[f"{name}-run"] = partial(optimize_figure, case.failing)
        drawings[f"{name}-sweep"] = partial(sweep_figure, case.failing.ground)
        if case.basins is not None:
            drawings[f"{name}-basins"] = partial(basins_figure, case.basins)
        if case.bifurcation is not None:
            drawings[f"{name}-bifurcation"] = partial(bifurcation_figure, case.bifurcation)
    return drawings


def _draw_first_case(ax: Axes, reproduced: Reproduced) -> None:
    draw_runs(ax, next(iter(reproduced.cases.values())).failing)


def _draw_runs(ax: Axes, runs: Runs) -> None:
    (draw_space_runs if runs.sweep is None else draw_runs)(ax, runs)


def _draw_plane(ax: Axes, view: View) -> None:
    marks = draw_plane_map(ax, view)
    ax.set_title(plane_words(view.result), fontsize=10)
    legend_beside(ax, [*outcome_handles(view.data["basins.npz"]["outcome"]), *marks])


# Type of what `restore` returns -> how it is shown.
KINDS: dict[type, Kind] = {
    Sweep: Kind(words.sweep, _each(sweep=sweep_figure), draw_sweep),
    SurfaceView: Kind(
        _of_json(surface),
        _each(surface=surface_figure, surface_in_space=surface_in_space_figure),
        draw_surface,
    ),
    Runs: Kind(
        words.runs, _of_runs, _draw_runs, lambda runs: {} if runs.sweep is None else {"": runs}
    ),
    Basins: Kind(words.basins, _each(basins=basins_figure), draw_map_alone),
    PlaneView: Kind(_of_json(space_words.plane_of_starts), _each(plane=plane_figure), _draw_plane),
    Bifurcation: Kind(words.bifurcation, _each(bifurcation=bifurcation_figure), draw_attractor),
    Diagnosed: Kind(words.diagnosis, _of_diagnosis, lambda ax, found: _draw_runs(ax, found.runs)),
    TrainingDiagnosed: Kind(
        _of_json(training_words.training_diagnosis), training_figures, draw_shares
    ),
    Reproduced: Kind(
        words.reproduction,
        _of_reproduction,
        _draw_first_case,
        lambda made: {f"{name}-": case.failing for name, case in made.cases.items()},
    ),
    Checked: Kind(_of_json(words.check), draw=draw_check),
    Explained: Kind(_of_json(words.explanation), _each(log=log_figure), draw_explanation),
    Explored: Kind(words.exploration),
}
# Type of a result -> the command whose JSON it gives. A `Run` alone belongs to no command.
_COMMANDS: dict[type[Result], str] = {
    Sweep: "sweep",
    Surface: "sweep",
    Optimization: "optimize",
    Basins: "basins",
    PlaneBasins: "basins",
    Bifurcation: "bifurcate",
    Diagnosis: "diagnose",
    TrainingDiagnosis: "diagnose",
    Reproduction: "reproduce",
    Check: "check",
    Explanation: "explain",
}


def blocks_of(command: str, view: View) -> list[Block]:
    """Returns what a command's result says."""
    restored = restore(command, view)
    return KINDS[type(restored)].blocks(restored)


def plot(result: Result, ax: Axes | None = None) -> Axes:
    """Draws a result into one Axes and returns it.

    A sweep shows the loss with its critical points; a surface, its contours; several runs, their
    paths on the landscape; one run, its loss; basins, the map; a bifurcation, the attractor; an
    explanation, the log's loss; a check, its errors. Runs of two parameters show their paths on
    the plane, of more, their losses.

    Args:
        result: Of any public function.
        ax: Axes to draw into. Default: those of a new figure.

    Raises:
        TypeError: There is no drawing of this kind of result.
    """
    draw = _drawer(result)
    if draw is None:
        known = ", ".join(kind.__name__ for kind in (*_COMMANDS, Run))
        raise TypeError(f"no drawing of a {type(result).__name__}; there are drawings of {known}.")
    with drawing():
        if ax is None:
            figure = new_figure(9.0, 4.6)
            ax = figure.subplots()
            draw(ax)
            finish(figure)
        else:
            draw(ax)
        if isinstance(result, Basins):
            write_map_labels(ax, map_axis(result), result)
    return ax


def notebook_png(result: Result) -> bytes | None:
    """Returns what a notebook shows of a result: a PNG, or None where there is no drawing."""
    if _drawer(result) is None:
        return None
    figure = plot(result).figure
    return render(figure) if isinstance(figure, Figure) else None


def _drawer(result: Result) -> Callable[[Axes], None] | None:
    if isinstance(result, Run):
        return lambda ax: draw_run(ax, result)
    command = _COMMANDS.get(type(result))
    if command is None:
        return None
    restored = restore(command, result.view())
    draw = KINDS[type(restored)].draw
    return None if draw is None else lambda ax: draw(ax, restored)
